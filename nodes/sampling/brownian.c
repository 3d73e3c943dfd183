/* Noise from a Brownian tree; see brownian.h. */
#include "nodes/sampling/brownian.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { POOL = 24 };

/* ---- NumPy's SeedSequence -------------------------------------------------------------------------------------- */

static uint32_t hashed(uint32_t value, uint32_t *constant, uint32_t factor) {
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t mixed(uint32_t x, uint32_t y) {
    x = x * 0xca01f9ddu - y * 0x4973f715u;
    return x ^ x >> 16;
}

/* Appends a number's 32-bit words, the lowest first; 0 is one word. */
static int put_words(uint32_t *to, int n, uint64_t value) {
    to[n++] = (uint32_t)value;
    if (value >> 32) to[n++] = (uint32_t)(value >> 32);
    return n;
}

uint32_t weft_seed_sequence(uint64_t seed, uint64_t place, int depth, int at) {
    uint32_t entropy[POOL + 3] = { 0 }, pool[POOL], a = 0x43b0d7e5u, b = 0x8b51f9ddu, word = 0;
    int n = put_words(entropy, 0, seed);
    if (depth >= 0) n = put_words(entropy, put_words(entropy, POOL, place), (uint64_t)depth);
    for (int i = 0; i < POOL; i++) pool[i] = hashed(entropy[i], &a, 0x931e8875u);
    for (int i = 0; i < POOL; i++)
        for (int j = 0; j < POOL; j++)
            if (i != j) pool[j] = mixed(pool[j], hashed(pool[i], &a, 0x931e8875u));
    for (int i = POOL; i < n; i++)
        for (int j = 0; j < POOL; j++) pool[j] = mixed(pool[j], hashed(entropy[i], &a, 0x931e8875u));
    for (int i = 0; i <= at; i++) word = hashed(pool[i], &b, 0x58f38dedu);
    return word;
}

/* ---- the path -------------------------------------------------------------------------------------------------- */

struct path { weft_rng *rng; uint64_t seed; int64_t shape[4]; };

/* To 6 decimals as Python's round() does it: the decimal number nearest to the double's exact value. */
static double rounded(double t) {
    char text[400];
    snprintf(text, sizeof text, "%.6f", t);
    return strtod(text, NULL);
}

static weft_tensor *draw(weft_ctx *c, const struct path *p, uint64_t place, int depth) {
    weft_rng_seed(p->rng, weft_seed_sequence(p->seed, place, depth, 0));
    return weft_randn(c, p->rng, WEFT_F32, 4, p->shape);
}

/* sum (NULL: none yet) + W over [from, to], which lies in [low, high], where W is w; intervals from left to right. */
static weft_tensor *add(weft_ctx *c, const struct path *p, double low, double high, uint64_t place, int depth,
                        weft_tensor *w, double from, double to, weft_tensor *sum) {
    if (!weft_ok(c)) return NULL;
    if (from == low && to == high) return sum ? weft_add(c, sum, w) : w;
    double middle = rounded(0.5 * (high + low)), l = middle - low, r = high - middle, h = 1 / (high - low);
    if (!(l > 0 && r > 0)) return sum;      /* nothing lies between times that are 10⁻⁶ apart */
    weft_scope s = weft_scope_named(c, "brownian");
    weft_tensor *left = weft_axpby(c, l * h, w, sqrt(l * r * h), draw(c, p, place, depth));
    if (from < middle) sum = add(c, p, low, middle, 2 * place, depth + 1, left, from, fmin(to, middle), sum);
    if (to > middle) {
        weft_tensor *right = weft_axpby(c, 1, w, -1, left);
        sum = add(c, p, middle, high, 2 * place + 1, depth + 1, right, fmax(from, middle), to, sum);
    }
    return weft_scope_end(c, s, sum);
}

weft_tensor *weft_brownian_noise(weft_ctx *c, weft_tensor *x, uint64_t seed, double low, double high, double from,
                                 double to) {
    if (!weft_ok(c)) return NULL;
    struct path p = { .seed = seed, .rng = weft_rng_new(c, WEFT_RNG_CPU, weft_seed_sequence(seed, 0, -1, 0)),
                      .shape = { weft_dim(x, 0), weft_dim(x, 3), weft_dim(x, 1), weft_dim(x, 2) } };
    if (!p.rng) return NULL;
    weft_scope s = weft_scope_named(c, "brownian");
    double first = rounded(low), last = rounded(high), width = sqrt(fabs(to - from)), sign = to > from ? 1 : -1;
    weft_tensor *w = weft_affine(c, weft_randn(c, p.rng, WEFT_F32, 4, p.shape), sqrt(high - low), 0);
    double a = rounded(fmin(fmax(fmin(from, to), first), last)), b = rounded(fmin(fmax(fmax(from, to), first), last));
    weft_tensor *sum = b > a ? add(c, &p, first, last, 0, 0, w, a, b, NULL) : NULL;
    sum = sum ? weft_affine(c, sum, sign / width, 0) : weft_affine(c, w, 0, 0);
    sum = weft_cast(c, weft_to_nhwc(c, sum), weft_type(x));
    weft_rng_free(p.rng);
    return weft_scope_end(c, s, sum);
}
