/* KSampler's noise table and its nine schedules. Sources: Karras et al. arXiv:2206.00364 (karras), arXiv:2407.12173
 * (beta), k-diffusion's and ComfyUI's behaviour for the rest. See schedule.h.
 */
#include "nodes/sampling/schedule.h"

#include <math.h>
#include <stdlib.h>

/* ---- the table ----------------------------------------------------------------------------------------- */

bool weft_sigma_table_make(weft_ctx *c, const weft_scheduler_config *k, bool zero_snr, weft_sigma_table *out) {
    int n = k->num_train_timesteps;
    size_t room = n > 0 ? (size_t)n : 1;
    *out = (weft_sigma_table){ .count = n, .alphas_cumprod = calloc(room, sizeof(double)),
                               .sigmas = calloc(room, sizeof(float)), .log_sigmas = calloc(room, sizeof(float)) };
    if (n < 2 || !out->alphas_cumprod || !out->sigmas || !out->log_sigmas) {
        weft_fail(c, n < 2 ? WEFT_E_ARGUMENT : WEFT_E_MEMORY,
                  n < 2 ? "a noise table of %d steps" : "out of memory for %d noise levels", n);
        weft_sigma_table_free(out);
        return false;
    }
    weft_alphas_cumprod(k, zero_snr, false, out->alphas_cumprod);
    if (zero_snr) out->alphas_cumprod[n - 1] = 4.8973451890853435e-08;     /* what ComfyUI sets it to */
    for (int i = 0; i < n; i++) {
        double sigma = sqrt((1 - out->alphas_cumprod[i]) / out->alphas_cumprod[i]);
        out->sigmas[i] = (float)sigma;
        out->log_sigmas[i] = (float)log(sigma);
    }
    return true;
}

void weft_sigma_table_free(weft_sigma_table *t) {
    free(t->alphas_cumprod);
    free(t->sigmas);
    free(t->log_sigmas);
    *t = (weft_sigma_table){ 0 };
}

double weft_sigma_at(const weft_sigma_table *t, double timestep) {
    float x = (float)fmin(fmax(timestep, 0), t->count - 1), low = floorf(x), w = x - low;
    return expf((1 - w) * t->log_sigmas[(int)low] + w * t->log_sigmas[(int)ceilf(x)]);
}

double weft_timestep_of(const weft_sigma_table *t, double sigma) {
    float level = logf((float)sigma), best = INFINITY;
    int at = 0;
    for (int i = 0; i < t->count; i++) {
        float d = fabsf(level - t->log_sigmas[i]);
        if (d < best) { best = d; at = i; }
    }
    return at;
}

double weft_sigma_of_percent(const weft_sigma_table *t, double percent) {
    if (percent <= 0) return 999999999.9;
    if (percent >= 1) return 0;
    return weft_sigma_at(t, (1 - percent) * 999);
}

/* ---- the beta distribution's quantiles (a = b = 0.6), for the beta schedule ---------------------------- */

/* The regularised incomplete beta function by Lentz's continued fraction (Press et al., 6.4). */
static double incomplete_beta(double a, double b, double x) {
    if (x <= 0 || x >= 1) return x > 0;
    if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
    double f = 1, c = 1, d = 0;
    for (int i = 0; i <= 300; i++) {
        int m = i / 2;
        double numerator = 1;
        if (i % 2) numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        else if (i) numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / (1 + numerator * d);
        c = 1 + numerator / c;
        f *= c * d;
        if (fabs(1 - c * d) < 1e-15) break;
    }
    return front * (f - 1);
}

static double beta_quantile(double p) {
    double low = 0, high = 1;
    for (int i = 0; i < 200 && high - low > 1e-16; i++) {
        double middle = (low + high) / 2;
        if (incomplete_beta(0.6, 0.6, middle) < p) low = middle;
        else high = middle;
    }
    return (low + high) / 2;
}

/* ---- schedules: each fills `out` (room for steps + 2 and the table's length) and returns how many ------ */

typedef int schedule_fn(const weft_sigma_table *t, int steps, double *out);

static int simple(const weft_sigma_table *t, int steps, double *out) {
    double stride = (double)t->count / steps;
    for (int i = 0; i < steps; i++) out[i] = t->sigmas[t->count - 1 - (int)(i * stride)];
    out[steps] = 0;
    return steps + 1;
}

/* Number i of n evenly from a to b in f32, from both ends: torch.linspace. */
static float linspace(float a, float b, int i, int n) {
    float width = n > 1 ? (b - a) / (float)(n - 1) : 0;
    return i < n / 2 || n == 1 ? a + width * (float)i : b - width * (float)(n - 1 - i);
}

/* Evenly over timesteps from the last to the first; points: steps, or one more than is kept. */
static int even(const weft_sigma_table *t, int steps, int points, double *out) {
    for (int i = 0; i < steps; i++) out[i] = weft_sigma_at(t, linspace((float)(t->count - 1), 0, i, points));
    out[steps] = 0;
    return steps + 1;
}

static int normal(const weft_sigma_table *t, int steps, double *out) { return even(t, steps, steps, out); }
static int sgm_uniform(const weft_sigma_table *t, int steps, double *out) { return even(t, steps, steps + 1, out); }

/* In f32 where torch has tensors: noise from a Brownian tree changes with a level's last digit. */
static int karras(const weft_sigma_table *t, int steps, double *out) {
    double low = pow(t->sigmas[0], 1 / 7.0), high = pow(t->sigmas[t->count - 1], 1 / 7.0);
    for (int i = 0; i < steps; i++) out[i] = powf((float)high + linspace(0, 1, i, steps) * (float)(low - high), 7);
    out[steps] = 0;
    return steps + 1;
}

static int exponential(const weft_sigma_table *t, int steps, double *out) {
    float low = (float)log(t->sigmas[0]), high = (float)log(t->sigmas[t->count - 1]);
    for (int i = 0; i < steps; i++) out[i] = expf(linspace(high, low, i, steps));
    out[steps] = 0;
    return steps + 1;
}

static int ddim_uniform(const weft_sigma_table *t, int steps, double *out) {
    int stride = t->count / steps > 1 ? t->count / steps : 1, n = 1;
    out[0] = 0;
    for (int i = 1; i < t->count; i += stride) out[n++] = t->sigmas[i];
    for (int i = 0; i < n / 2; i++) {
        double swap = out[i];
        out[i] = out[n - 1 - i];
        out[n - 1 - i] = swap;
    }
    return n;
}

static int beta(const weft_sigma_table *t, int steps, double *out) {
    int n = 0, last = -1;
    for (int i = 0; i < steps; i++) {
        int at = (int)rint(beta_quantile(1 - (double)i / steps) * (t->count - 1));
        if (at != last) out[n++] = t->sigmas[at];
        last = at;
    }
    out[n++] = 0;
    return n;
}

static int linear_quadratic(const weft_sigma_table *t, int steps, double *out) {
    const double threshold = 0.025;
    int linear = steps / 2, quadratic = steps - linear;
    double difference = linear - threshold * steps, top = t->sigmas[t->count - 1];
    for (int i = 0; i < steps; i++) {
        double square = (double)quadratic * quadratic, q = linear ? difference / (linear * square) : 0;
        double slope = linear ? threshold / linear - 2 * difference / square : 0;
        double bent = q * i * i + slope * i + q * linear * linear, x = i < linear ? i * threshold / linear : bent;
        out[i] = (float)((float)(1 - x) * top);
    }
    out[steps] = 0;
    return steps + 1;
}

static int kl_optimal(const weft_sigma_table *t, int steps, double *out) {
    float low = (float)atan(t->sigmas[0]), high = (float)atan(t->sigmas[t->count - 1]);
    for (int i = 0; i < steps; i++) {
        float w = steps > 1 ? (float)i / (float)(steps - 1) : 0;
        out[i] = tanf(w * low + (1 - w) * high);
    }
    out[steps] = 0;
    return steps + 1;
}

const char *const weft_schedule_names[] = { "simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta",
                                            "normal", "linear_quadratic", "kl_optimal", NULL };
static schedule_fn *const schedules[] = { simple, sgm_uniform, karras, exponential, ddim_uniform, beta,
                                          normal, linear_quadratic, kl_optimal };

double *weft_schedule_make(weft_ctx *c, const weft_sigma_table *t, int schedule, int steps, int *count) {
    double *out = NULL;
    if (weft_ok(c) && steps > 0) out = calloc((size_t)steps + (size_t)t->count + 2, sizeof *out);
    if (!out) {
        weft_fail(c, steps > 0 ? WEFT_E_MEMORY : WEFT_E_ARGUMENT,
                  steps > 0 ? "out of memory for %d steps" : "a schedule of %d steps", steps);
        return NULL;
    }
    *count = schedules[schedule](t, steps, out);
    return out;
}
