/* Euler's method in units where α = 1, as diffusers' EulerDiscreteScheduler: x' = x + (σ' − σ)·(x − x₀)/σ.
 *
 * Timesteps stay fractions where the spacing gives them, σ is interpolated between the table's. Karras' levels run
 * between the spaced ones' ends. Pure noise is σ_max·ε, and √(σ_max² + 1)·ε where the spacing is leading.
 */
#include "nodes/sampling/kinds/kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double interpolated(const double *table, double at) {
    int low = (int)at;
    double w = at - low;
    return w > 0 ? table[low] + w * (table[low + 1] - table[low]) : table[low];
}

/* count levels, and one more behind them where they are linear in ln σ: the last step then ends there. */
static void fill(const weft_scheduler *s, const double *table, double *t, double *out) {
    const weft_scheduler_config *k = &s->config;
    int n = s->steps, train = k->num_train_timesteps;
    bool linear = strcmp(k->interpolation_type, "log_linear");
    double low = log(table[0]), high = log(table[train - 1]);
    for (int i = 0; i <= n; i++) {
        if (linear) out[i] = i < n ? interpolated(table, (float)t[i]) : 0;
        else out[i] = (float)exp(high + (double)i / n * (low - high));
    }
    if (!k->use_karras_sigmas) return;
    weft_karras_levels(k, out[linear ? n - 1 : n], out[0], n, out);
    out[n] = 0;
    for (int i = 0; i < n; i++) t[i] = weft_timestep_between(table, train, out[i]);
}

static bool prepare(weft_ctx *c, weft_scheduler *s) {
    const weft_scheduler_config *k = &s->config;
    int n = s->steps, train = k->num_train_timesteps;
    if (k->rescale_betas_zero_snr) s->alphas_cumprod[train - 1] = 0x1p-24;
    double *table = weft_table_ratios(c, s);
    double *t = weft_spaced_timesteps(c, s, train, n, n, false), *levels = calloc((size_t)n + 1, sizeof *levels);
    if (!levels) weft_fail(c, WEFT_E_MEMORY, "scheduler: out of memory for %d levels", n);
    if (table && t && levels && weft_scheduler_room(c, s, n)) {
        fill(s, table, t, levels);
        if (levels[n] == 0 && strcmp(k->final_sigmas_type, "zero")) levels[n] = table[0];
        bool logs = k->continuous && k->prediction_type == WEFT_PREDICTION_V;
        for (int i = 0; i <= n; i++) {
            double time = i == n ? 0 : logs ? 0.25 * log(levels[i]) : (float)t[i];
            s->levels[i] = weft_level_of_ratio((float)levels[i], time, true);
        }
        double top = s->levels[0].sigma;
        s->init_noise_sigma = strcmp(k->timestep_spacing, "leading") ? top : sqrt(top * top + 1);
    }
    free(table);
    free(t);
    free(levels);
    return weft_ok(c);
}

static weft_tensor *step(weft_ctx *c, const weft_scheduler *s, int i, weft_tensor *x, weft_tensor *out,
                         weft_prediction type, weft_sampler_state *state, weft_tensor **denoised) {
    const weft_noise_level *now = &s->levels[i];
    (void)state;
    *denoised = weft_to_denoised(c, type, now, x, out);
    return weft_move(c, x, *denoised, now->sigma, now[1].sigma);
}

const weft_scheduler_kind weft_kind_euler_discrete = {
    .name = "euler_discrete", .class_name = "EulerDiscreteScheduler", .exploding = true, .prepare = prepare,
    .step = step };
