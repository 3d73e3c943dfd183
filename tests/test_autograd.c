/* The tape by its laws, and every operation's gradient against finite differences in f64.
 *
 * Finite differences: with L = Σ r·y for fixed random r, (L(x + h·v) − L(x − h·v))/2h is ∇L·v up to h²·L‴/6 and the
 * rounding of L over h. With h = 1e-5 both are about 1e-10 of L's size; 1e-6 leaves room for steep functions. */
#include "runtime/autograd.h"
#include "tests/host_memory.h"
#include "tests/operations.h"

#define S(...) WEFT_SHAPE(__VA_ARGS__)
#define STEP 1e-5
#define NEAR 1e-6

/* ---- finite differences ------------------------------------------------------------------------------------------ */

enum { LEAVES = 16 };

/* Marks every operand as a leaf, or moves one of them. */
struct probe {
    weft_tensor *leaf[LEAVES];
    int leaves;
    int moved;                  /* which leaf; −1: none */
    int64_t element;            /* of it; −1: along a random direction */
    uint64_t direction;         /* seed */
    double step;
};

static void made(void *user, weft_tensor *t) {
    struct probe *p = user;
    double *x = weft_data(t);
    if (!t || p->leaves == LEAVES) return;
    if (p->moved == p->leaves && x) {
        uint64_t state = p->direction;
        if (p->element >= 0) x[p->element] += p->step;
        else for (int64_t i = 0; i < weft_count(t); i++) x[i] += p->step * noise(&state);
    }
    if (p->moved < 0) weft_set_requires_grad(t, true);
    p->leaf[p->leaves++] = t;
}

/* Σ r·y over all of y; *size: the sum of the products' magnitudes. */
static weft_tensor *loss_of(weft_ctx *c, weft_tensor *y) {
    if (!y) return NULL;
    return weft_reduce_all(c, WEFT_REDUCE_SUM, weft_mul(c, y, noisy(c, WEFT_F64, 77, weft_rank(y), weft_shape(y))));
}

typedef weft_tensor *call_fn(weft_ctx *c, struct draw *d);

static weft_tensor *loss_with(weft_ctx *c, call_fn *call, uint64_t seed, bool empty, struct probe *p) {
    struct draw d = { .state = seed, .type = WEFT_F64, .weights = WEFT_F64, .empty = empty, .made = made, .user = p };
    p->leaves = 0;
    return loss_of(c, call(c, &d));
}

static double moved_loss(weft_ctx *c, call_fn *call, uint64_t seed, bool empty, struct probe p) {
    weft_scope s = weft_scope_named(c, "moved");
    double value = weft_item(c, loss_with(c, call, seed, empty, &p));
    weft_scope_end(c, s, NULL);
    return value;
}

/* One leaf's gradient (NULL: 0) along a random direction and by some elements. */
static void check_leaf(weft_ctx *c, const char *name, call_fn *call, uint64_t seed, bool empty, int leaf, int64_t n,
                       const double *g) {
    for (int k = 0; k < 4 && n; k++) {
        struct probe p = { .moved = leaf, .direction = seed * 31 + (uint64_t)k, .element = -1 };
        uint64_t state = p.direction;
        double want = 0, size = 1;
        if (k) p.element = (int64_t)((noise(&state) + 1) / 2 * (double)n);
        if (k && g) want = g[p.element];
        for (int64_t i = 0; !k && g && i < n; i++) want += g[i] * noise(&state);
        for (int64_t i = 0; g && i < n; i++) size = fmax(size, fabs(g[i]));
        p.step = STEP;
        double up = moved_loss(c, call, seed, empty, p);
        p.step = -STEP;
        double got = (up - moved_loss(c, call, seed, empty, p)) / (2 * STEP);
        if (!(fabs(got - want) <= NEAR * size * sqrt((double)n)))
            TEST_FAIL("%s, seed %" PRIu64 ", leaf %d, element %" PRId64 " of %" PRId64 ": gradient %.9g, "
                      "difference %.9g", name, seed, leaf, p.element, n, want, got);
    }
}

static void check_call(const char *name, call_fn *call, uint64_t seed, bool empty) {
    weft_ctx *c = open_device("reference");
    struct probe p = { .moved = -1 };
    double *gradient[LEAVES] = { 0 };
    int64_t count[LEAVES];
    weft_scope s = weft_scope_named(c, name);
    CHECK(!weft_tape_begin(c));
    weft_tensor *loss = loss_with(c, call, seed, empty, &p);
    const int leaves = p.leaves;
    bool depends = weft_requires_grad(loss);
    if (!loss || (depends && weft_backward(c, loss, NULL)))
        TEST_FAIL("%s, seed %" PRIu64 ": %s", name, seed, weft_message(c));
    for (int i = 0; i < leaves && weft_ok(c); i++) {
        weft_tensor *g = weft_grad(p.leaf[i]);
        count[i] = weft_count(p.leaf[i]);
        if (g) gradient[i] = values_of(c, g);
    }
    weft_tape_end(c);
    weft_scope_end(c, s, NULL);
    CHECK_EQ(weft_memory_live(c), 0);
    for (int i = 0; i < leaves && weft_ok(c); i++) check_leaf(c, name, call, seed, empty, i, count[i], gradient[i]);
    for (int i = 0; i < leaves; i++) free(gradient[i]);
    CLOSE(c);
}

/* Rounds to bf16, and sinusoids of a time: not of this kind. */
static bool smooth(const char *name) { return strcmp(name, "cast") && strcmp(name, "timestep"); }

TEST(differences) {
    for (int i = 0; i < OPERATIONS; i++)
        for (uint64_t seed = 1; seed <= 12 && !test_failures; seed++)
            if (smooth(operation[i].name)) check_call(operation[i].name, operation[i].call, seed, seed > 9);
}

TEST_MAIN
