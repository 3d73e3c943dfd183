/* ᾱ of a model's training: betas by name, and the rescaling that makes the last level all noise.
 *
 *   linear, scaled_linear (√β is linear), sigmoid;  cosine and its kin:  β_i = min(1 − f((i + 1)/T)/f(i/T), 0.999)
 *     squaredcos_cap_v2  f(t) = cos²((t + 0.008)/1.008·π/2)          exp  f(t) = e^{−12t}
 *     laplace            f(t) = √(s/(1 + s)), s = exp(−½·sign(½ − t)·ln(1 − 2·|½ − t| + 10⁻⁶))
 *     sigmoid_cap        f(t) = σ(3) − σ(6t − 3), σ(x) = 1/(1 + e^−x): the sigmoid of denoising-diffusion-pytorch
 *   ᾱ_i = Π (1 − β)
 *
 * Sources: arXiv:2006.11239 (linear), arXiv:2102.09672 (cosine), arXiv:2407.03297 (laplace), arXiv:2212.11972
 * (sigmoid_cap), arXiv:2305.08891 (zero terminal signal); diffusers' names and precision.
 */
#include "nodes/sampling/schedule.h"

#include <math.h>
#include <string.h>

static double bar(const char *name, double t) {
    if (!strcmp(name, "exp")) return exp(-12 * t);
    if (!strcmp(name, "laplace")) {
        double s = exp(-0.5 * copysign(1, 0.5 - t) * log(1 - 2 * fabs(0.5 - t) + 1e-6));
        return sqrt(s / (1 + s));
    }
    /* σ(3) is an f32 number there, which the end of the table shows */
    if (!strcmp(name, "sigmoid_cap")) return 1 / (1 + expf(-3)) - 1 / (1 + exp(3 - 6 * t));
    double a = cos((t + 0.008) / 1.008 * M_PI / 2);
    return a * a;
}

double weft_even(double a, double b, int i, int n, bool single) {
    if (!single) return a + (n > 1 ? (double)i / (n - 1) : 0) * (b - a);
    float from = (float)a, to = (float)b, width = n > 1 ? (to - from) / (float)(n - 1) : 0;
    return i < n / 2 || n == 1 ? fmaf(width, (float)i, from) : fmaf(-width, (float)(n - 1 - i), to);
}

static double beta_at(const weft_scheduler_config *k, int i, bool single) {
    int n = k->num_train_timesteps;
    const char *name = k->beta_schedule;
    if (k->trained_betas) return k->trained_betas[i];
    if (!strcmp(name, "scaled_linear")) {
        double root = weft_even(sqrt(k->beta_start), sqrt(k->beta_end), i, n, single);
        return root * root;
    }
    if (!strcmp(name, "sigmoid"))
        return k->beta_start + (k->beta_end - k->beta_start) / (1 + exp(-weft_even(-6, 6, i, n, single)));
    if (!strcmp(name, "squaredcos_cap_v2") || !strcmp(name, "exp") || !strcmp(name, "laplace") ||
        !strcmp(name, "sigmoid_cap"))
        return fmin(1 - bar(name, (double)(i + 1) / n) / bar(name, (double)i / n), 0.999);
    return weft_even(k->beta_start, k->beta_end, i, n, single);
}

/* √ᾱ shifted so that the last is 0 and scaled so that the first stays. */
static void zero_terminal(double *a, int n) {
    double first = sqrt(a[0]), last = sqrt(a[n - 1]);
    for (int i = 0; i < n; i++) {
        double root = (sqrt(a[i]) - last) * first / (first - last);
        a[i] = root * root;
    }
}

void weft_alphas_cumprod(const weft_scheduler_config *k, bool zero_snr, bool single, double *out) {
    int n = k->num_train_timesteps;
    double product = 1;
    for (int i = 0; i < n; i++) {
        double beta = beta_at(k, i, single), alpha = 1 - beta;
        out[i] = product *= single ? 1 - (float)beta : alpha;
    }
    if (zero_snr) zero_terminal(out, n);
    for (int i = 0; single && i < n; i++) out[i] = (float)out[i];
}
