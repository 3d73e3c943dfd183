/* MatchNoise: immiscible diffusion (Li et al., arXiv:2406.12303). Within a batch, each sample gets a noise that it is
 * near to: the noises are dealt out so that the sum of the distances |sample − noise| is the least.
 *
 * The assignment is found in O(N³) by the Hungarian method with potentials (Kuhn 1955; Jonker and Volgenant 1987): row
 * after row, the cheapest path from it to a free column, in costs reduced by u(row) + v(column).
 *
 * What the model should say is to be worked out from the noise that comes out. (denoising_diffusion_pytorch 2.3.4, with
 * immiscible=True, mixes the sample with that one and yet takes the loss by the one that went in.)
 */
#include <math.h>
#include <stdlib.h>

#include "nodes/stage/stage.h"

#define MOST 4096       /* images: 128 MB of distances */

/* |x − y| for each image x of a and y of b; n·n of them to out. Numbers that are not finite have no distance: an
 * error. */
static bool distances(weft_ctx *c, weft_tensor *a, weft_tensor *b, int n, double *out) {
    const int64_t each = weft_count(a) / n;
    float *x = malloc(sizeof *x * 2 * (size_t)(n * each) + 1), *y = x ? x + n * each : NULL;
    const size_t bytes = sizeof *x * (size_t)(n * each);
    if (!x) weft_fail(c, WEFT_E_MEMORY, "out of memory for %d images", n);
    bool ok = x && weft_read(c, weft_contiguous(c, weft_cast(c, a, WEFT_F32)), x, bytes) == WEFT_OK &&
              weft_read(c, weft_contiguous(c, weft_cast(c, b, WEFT_F32)), y, bytes) == WEFT_OK;
    for (int64_t i = 0; ok && i < (int64_t)n * n; i++) {
        const float *p = x + i / n * each, *q = y + i % n * each;
        double sum = 0;
        for (int64_t k = 0; k < each; k++) sum += ((double)p[k] - q[k]) * ((double)p[k] - q[k]);
        out[i] = sqrt(sum);
        if (isfinite(sum)) continue;
        weft_fail(c, WEFT_E_ARGUMENT, "image %lld or noise %lld has numbers that are not finite", (long long)(i / n),
                  (long long)(i % n));
        ok = false;
    }
    free(x);
    return ok;
}

/* Room of the search: rows and columns count from 1, column 0 stands for the row that looks for one. */
struct search { double *u, *v, *least; int *row_of, *from; bool *seen; };

/* The row in column 0 gets a column; who had it moves on along the cheapest path. */
static void place(const double *cost, int n, struct search *s) {
    int at = 0;
    for (int j = 0; j <= n; j++) s->least[j] = INFINITY, s->seen[j] = false;
    do {
        int row = s->row_of[at], next = 0;
        double step = INFINITY;
        s->seen[at] = true;
        for (int j = 1; j <= n; j++) {
            if (s->seen[j]) continue;
            double reduced = cost[(int64_t)(row - 1) * n + j - 1] - s->u[row] - s->v[j];
            if (reduced < s->least[j]) s->least[j] = reduced, s->from[j] = at;
            if (s->least[j] < step || !next) step = s->least[j], next = j;
        }
        for (int j = 0; j <= n; j++) {
            if (s->seen[j]) s->u[s->row_of[j]] += step, s->v[j] -= step;
            else s->least[j] -= step;
        }
        at = next;
    } while (s->row_of[at]);
    for (; at; at = s->from[at]) s->row_of[at] = s->row_of[s->from[at]];
}

/* The column of each of n rows, numbered from 0, to out. False with the error set. */
static bool assign(weft_ctx *c, const double *cost, int n, int64_t *out) {
    size_t room = (size_t)n + 1;
    double *numbers = calloc(3 * room, sizeof *numbers);
    int *places = calloc(2 * room, sizeof *places);
    bool *seen = calloc(room, sizeof *seen);
    struct search s = { numbers, numbers + room, numbers + 2 * room, places, places + room, seen };
    bool ok = numbers && places && seen;
    if (!ok) weft_fail(c, WEFT_E_MEMORY, "out of memory for %d images", n);
    for (int i = 1; ok && i <= n; i++) {
        s.row_of[0] = i;
        place(cost, n, &s);
    }
    for (int j = 1; ok && j <= n; j++) out[s.row_of[j] - 1] = j - 1;
    free(numbers);
    free(places);
    free(seen);
    return ok;
}

struct match_noise { weft_tensor *samples, *noise, *matched; };

static void match_noise_run(weft_ctx *c, void *self) {
    struct match_noise *m = self;
    const int64_t n = weft_rank(m->samples) ? weft_dim(m->samples, 0) : 0;
    bool alike = weft_rank(m->samples) == weft_rank(m->noise);
    char a[96], b[96];
    for (int i = 0; alike && i < weft_rank(m->noise); i++) alike = weft_dim(m->samples, i) == weft_dim(m->noise, i);
    if (!alike || n < 1 || n > MOST) {
        weft_fail(c, WEFT_E_SHAPE,
                  "samples are %s, noise is %s; two batches of one shape are expected, of at most %d images",
                  weft_describe(m->samples, a, sizeof a), weft_describe(m->noise, b, sizeof b), MOST);
        return;
    }
    double *cost = malloc(sizeof *cost * (size_t)(n * n));
    int64_t *which = malloc(sizeof *which * (size_t)n);
    if (!cost || !which) weft_fail(c, WEFT_E_MEMORY, "out of memory for %lld images", (long long)n);
    else if (distances(c, m->samples, m->noise, (int)n, cost) && assign(c, cost, (int)n, which)) {
        weft_tensor *ids = weft_tensor_from(c, WEFT_I64, WEFT_SHAPE(n), which);
        weft_tensor *rows = weft_reshape(c, m->noise, WEFT_SHAPE(n, -1));
        rows = weft_embedding(c, ids, rows, weft_type(m->noise));
        m->matched = weft_reshape(c, rows, weft_rank(m->noise), weft_shape(m->noise));
    }
    free(cost);
    free(which);
}

const weft_node weft_node_MatchNoise = {
    .name = "MatchNoise", .category = "stages/training", .size = sizeof(struct match_noise),
    .summary = "A batch's noise dealt out anew, so that each sample gets one that it is near to (immiscible "
               "diffusion).",
    .inputs = (const weft_port[]){
        WEFT_TENSOR_IN(struct match_noise, samples, "the samples without noise"),
        WEFT_TENSOR_IN(struct match_noise, noise, "as many noises of the same shape"), { 0 } },
    .outputs = (const weft_port[]){
        WEFT_OUT(struct match_noise, matched, WEFT_PORT_TENSOR, "noise", "TENSOR", "the same noises in another order"),
        { 0 } },
    .run = match_noise_run,
};
