/* What diffusers' schedulers share; see kinds.h. Behaviour: diffusers 0.42, schedulers/scheduling_*.py; tables are
 * rounded to f32 where they are there. */
#include "nodes/sampling/kinds/kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- timesteps ------------------------------------------------------------------------------------------------- */

double *weft_spaced_timesteps(weft_ctx *c, const weft_scheduler *s, int last, int count, int points, bool round) {
    const weft_scheduler_config *k = &s->config;
    double *out = weft_ok(c) ? calloc((size_t)count + 1, sizeof *out) : NULL;
    if (!out) weft_fail(c, WEFT_E_MEMORY, "scheduler: out of memory for %d timesteps", count);
    bool trailing = !strcmp(k->timestep_spacing, "trailing"), leading = !strcmp(k->timestep_spacing, "leading");
    for (int i = 0; out && i < count; i++) {
        int rising = points - 1 - i;
        if (trailing) out[i] = rint(last - i * ((double)k->num_train_timesteps / count)) - 1;
        else if (leading) out[i] = (double)rising * (last / points) + k->steps_offset;
        else out[i] = points > 1 ? rising * ((double)(last - 1) / (points - 1)) : 0;
        if (round) out[i] = rint(out[i]);
        if (out[i] < 0 || out[i] > k->num_train_timesteps - 1) {
            weft_fail(c, WEFT_E_ARGUMENT,
                      "scheduler %s: step %d of %d would be at timestep %g of %d: take fewer steps, or a "
                      "smaller steps_offset", s->kind->name, i, count, out[i], k->num_train_timesteps);
            free(out);
            out = NULL;
        }
    }
    return out;
}

/* ---- levels ---------------------------------------------------------------------------------------------------- */

weft_noise_level weft_level_of_alpha(double a) {
    return (weft_noise_level){ .alpha = sqrt(a), .sigma = sqrt(1 - a), .input = 1, .noise = sqrt(1 - a) };
}

weft_noise_level weft_level_of_timestep(const weft_scheduler *s, int timestep) {
    weft_noise_level l = weft_level_of_alpha(s->alphas_cumprod[timestep]);
    l.timestep = timestep;
    return l;
}

weft_noise_level weft_level_of_ratio(double ratio, double timestep, bool exploding) {
    double small = 1 / sqrt(ratio * ratio + 1);
    if (exploding)
        return (weft_noise_level){ .timestep = timestep, .alpha = 1, .sigma = ratio, .input = small, .noise = ratio };
    return (weft_noise_level){ .timestep = timestep, .alpha = small, .sigma = ratio * small, .input = 1,
                               .noise = ratio * small };
}

double weft_level_lambda(const weft_noise_level *l) { return log(l->alpha) - log(l->sigma); }

bool weft_levels_at_timesteps(weft_ctx *c, weft_scheduler *s, weft_noise_level end) {
    double *t = weft_spaced_timesteps(c, s, s->config.num_train_timesteps, s->steps, s->steps, true);
    if (t && weft_scheduler_room(c, s, s->steps)) {
        for (int i = 0; i < s->steps; i++) s->levels[i] = weft_level_of_timestep(s, (int)t[i]);
        s->levels[s->steps] = end;
        s->init_noise_sigma = 1;
    }
    free(t);
    return weft_ok(c);
}

double *weft_table_ratios(weft_ctx *c, const weft_scheduler *s) {
    int n = s->config.num_train_timesteps;
    double *out = weft_ok(c) ? malloc(sizeof *out * (size_t)n) : NULL;
    if (!out) weft_fail(c, WEFT_E_MEMORY, "scheduler: out of memory for %d levels", n);
    for (int i = 0; out && i < n; i++) {
        float a = (float)s->alphas_cumprod[i];
        out[i] = sqrtf((1 - a) / a);
    }
    return out;
}

void weft_karras_levels(const weft_scheduler_config *k, double low, double high, int n, double *out) {
    if (k->sigma_min > 0) low = k->sigma_min;
    if (k->sigma_max > 0) high = k->sigma_max;
    low = pow(low, 1 / 7.0);
    high = pow(high, 1 / 7.0);
    for (int i = 0; i < n; i++) out[i] = pow(high + (n > 1 ? (double)i / (n - 1) : 0) * (low - high), 7);
}

double weft_timestep_between(const double *ratios, int n, double ratio) {
    double level = log(fmax(ratio, 1e-10));
    int low = 0;
    if (n < 2) return 0;
    while (low < n - 2 && level >= logf((float)ratios[low + 1])) low++;
    double a = logf((float)ratios[low]), b = logf((float)ratios[low + 1]), w = fmin(fmax((a - level) / (a - b), 0), 1);
    return (1 - w) * low + w * (low + 1);
}

/* How many of the training's timesteps are left where those with λ below a bound are cut off. */
static int unclipped(const weft_scheduler *s) {
    int n = s->config.num_train_timesteps, below = 0;
    for (int i = 0; i < n; i++) {
        weft_noise_level l = weft_level_of_timestep(s, i);
        below += weft_level_lambda(&l) < s->config.lambda_min_clipped;
    }
    return n - below;
}

bool weft_solver_levels(weft_ctx *c, weft_scheduler *s, bool last_is_tables) {
    const weft_scheduler_config *k = &s->config;
    int n = s->steps, train = k->num_train_timesteps;
    if (k->rescale_betas_zero_snr) s->alphas_cumprod[train - 1] = 0x1p-24;
    bool more = strcmp(k->timestep_spacing, "trailing");
    double *ratios = weft_table_ratios(c, s), *t = weft_spaced_timesteps(c, s, unclipped(s), n, more ? n + 1 : n, true);
    if (ratios && t && weft_scheduler_room(c, s, n)) {
        double *levels = calloc((size_t)n + 1, sizeof *levels), end = 0;
        if (!levels) weft_fail(c, WEFT_E_MEMORY, "scheduler: out of memory for %d levels", n);
        else if (k->use_karras_sigmas) weft_karras_levels(k, ratios[0], ratios[train - 1], n, levels);
        for (int i = 0; levels && i < n; i++) {
            if (!k->use_karras_sigmas) levels[i] = ratios[(int)t[i]];
            else t[i] = weft_timestep_between(ratios, train, levels[i]);
            /* DPM-Solver cuts a cosine table's fractions off; what is whole but for rounding is whole */
            bool cut = last_is_tables && !strcmp(k->beta_schedule, "squaredcos_cap_v2");
            s->levels[i] = weft_level_of_ratio((float)levels[i], cut ? floor(t[i] + 1e-3) : rint(t[i]), false);
            end = levels[i];
        }
        if (last_is_tables || !k->use_karras_sigmas) end = ratios[0];
        if (!strcmp(k->final_sigmas_type, "zero")) end = 0;
        s->levels[n] = weft_level_of_ratio((float)end, 0, false);
        s->init_noise_sigma = 1;
        free(levels);
    }
    free(ratios);
    free(t);
    return weft_ok(c);
}

/* ---- predictions ------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* An image's |x₀| at the quantile, at least 1 and at most sample_max_value. */
static float threshold_of(const weft_scheduler_config *k, float *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) v[i] = fabsf(v[i]);
    qsort(v, (size_t)n, sizeof *v, by_size);
    double at = k->dynamic_thresholding_ratio * (double)(n - 1);
    int64_t low = (int64_t)at, high = low + 1 < n ? low + 1 : low;
    float q = v[low] + (float)(at - (double)low) * (v[high] - v[low]);
    return fminf(fmaxf(q, 1), (float)k->sample_max_value);
}

/* Saharia et al., arXiv:2205.11487: each image is cut at its own quantile and scaled back by it. */
static weft_tensor *thresholded(weft_ctx *c, const weft_scheduler_config *k, weft_tensor *x0) {
    int64_t images = weft_dim(x0, 0), each = images ? weft_count(x0) / images : 0;
    weft_tensor *dense = weft_contiguous(c, weft_cast(c, x0, WEFT_F32));
    float *v = malloc(sizeof *v * (size_t)(images * each + images) + 1), *bound = v + images * each;
    if (!v) weft_fail(c, WEFT_E_MEMORY, "thresholding: out of memory for %lld images", (long long)images);
    weft_tensor *s = NULL;
    if (v && dense && each && weft_read(c, dense, v, sizeof *v * (size_t)(images * each)) == WEFT_OK) {
        for (int64_t i = 0; i < images; i++) bound[i] = threshold_of(k, v + i * each, each);
        s = weft_tensor_from(c, WEFT_F32, WEFT_SHAPE(images, 1, 1, 1), bound);
    }
    free(v);
    weft_tensor *low = weft_binary(c, WEFT_BINARY_MIN, dense, s);
    return weft_cast(c, weft_div(c, weft_binary(c, WEFT_BINARY_MAX, low, weft_affine(c, s, -1, 0)), s), weft_type(x0));
}

weft_tensor *weft_bounded(weft_ctx *c, const weft_scheduler *s, weft_tensor *x0, bool clip) {
    const weft_scheduler_config *k = &s->config;
    if (!weft_ok(c)) return NULL;
    if (k->thresholding) return thresholded(c, k, x0);
    return clip && k->clip_sample ? weft_clamp(c, x0, -k->clip_sample_range, k->clip_sample_range) : x0;
}

weft_tensor *weft_weighted(weft_ctx *c, int n, const double *weights, weft_tensor *const *parts) {
    weft_tensor *sum = n > 1 ? weft_axpby(c, weights[0], parts[0], weights[1], parts[1])
                             : weft_affine(c, parts[0], weights[0], 0);
    for (int i = 2; i < n; i++) sum = weft_axpby(c, 1, sum, weights[i], parts[i]);
    return sum;
}
