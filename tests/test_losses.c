/* The node Loss under a tape against PyTorch (tests/golden/make_losses.py): every kind of difference, target and
 * weight, with the gradients that reach the model. */
#include <stdarg.h>

#include "runtime/autograd.h"
#include "tests/node_bed.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/losses.safetensors"

/* f32 on both ends of some ten operations; √ᾱ, √(1 − ᾱ) and the weights are doubles that were rounded once. */
#define NEAR 3e-6

static weft_tensor *golden(struct bed *b, weft_safetensors *f, const char *format, ...) {
    char name[80];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    const weft_st_entry *e = f ? weft_st_find(f, name) : NULL;
    if (!e) TEST_FAIL("the golden file has no %s", name);
    return e ? weft_cast(b->c, weft_st_tensor(b->c, f, e), e->type == WEFT_I64 ? WEFT_I64 : WEFT_F32) : NULL;
}

/* How far got is from want, of want's rms. */
static double distance(struct bed *b, weft_tensor *got, weft_tensor *want) {
    if (!got || !want || weft_count(got) != weft_count(want)) return INFINITY;
    weft_tensor *d = weft_unary(b->c, WEFT_UNARY_SQUARE, weft_subtract(b->c, got, want));
    double sum = weft_item(b->c, weft_reduce_all(b->c, WEFT_REDUCE_SUM, d));
    double norm = weft_item(b->c, weft_reduce_all(b->c, WEFT_REDUCE_SUM, weft_unary(b->c, WEFT_UNARY_SQUARE, want)));
    return sqrt(sum / norm);
}

/* The call with `said` as a leaf: the loss, then its gradient. */
static void check_loss(struct bed *b, weft_safetensors *f, weft_object *scheduler, const char *name, const char *target,
                       const char *loss, const char *weighting, double prior) {
    weft_ctx *c = b->c;
    weft_value out[3] = { 0 };
    weft_scope s = weft_scope_named(c, "case");
    weft_tensor *said = weft_affine(c, golden(b, f, "said"), 1, 0);
    weft_set_requires_grad(said, true);
    CHECK_EQ(weft_tape_begin(c), WEFT_OK);
    CHECK_EQ(CALL(b, "Loss", out, IN_TENSOR("prediction", said), { "scheduler", { .kind = WEFT_PORT_OBJECT,
            .type = "SCHEDULER",
                  .object = scheduler } }, IN_TENSOR("clean", golden(b, f, "clean")), IN_TENSOR("noise", golden(b, f,
                          "noise")),
                  IN_TENSOR("timesteps", golden(b, f, "timesteps")), IN_TEXT("target", target), IN_TEXT("loss", loss),
                  IN_FLOAT("delta", 0.4), IN_TEXT("weighting", weighting), IN_FLOAT("prior_weight", prior)), WEFT_OK);
    double value = weft_item(c, out[0].tensor), want = weft_item(c, golden(b, f, "%s.loss", name));
    if (!(fabs(value - want) <= NEAR * want)) TEST_FAIL("%s: the loss is %.9g, expected %.9g", name, value, want);
    CHECK_EQ(weft_backward(c, out[0].tensor, NULL), WEFT_OK);
    weft_tape_end(c);
    double off = distance(b, weft_grad(said), golden(b, f, "%s.grad", name));
    if (!(off <= NEAR)) TEST_FAIL("%s: the gradient is off by %.3g of its rms", name, off);
    if (!weft_ok(c)) TEST_FAIL("%s: %s", name, weft_message(c));
    for (int i = 0; i < 3; i++) weft_value_clear(&out[i]);
    weft_zero_grad(said);
    weft_scope_end(c, s, NULL);
}

TEST(losses_and_their_gradients) {
    static const char *const targets[] = { "epsilon", "v_prediction", "sample" };
    static const char *const kinds[][2] = { { "mse", "none" }, { "l1", "none" }, { "huber", "none" }, { "smooth_l1",
            "snr" },
                                            { "mse", "snr" }, { "mse", "min_snr" }, { "mse", "debiased" } };
    struct bed b = bed_new("cpu");
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    weft_value tables[8] = { 0 };
    CHECK_EQ(CALL(&b, "Scheduler", tables, IN_TEXT("scheduler", "ddpm"), IN_INT("steps", 10),
                  IN_TEXT("beta_schedule", "scaled_linear"), IN_FLOAT("beta_start", 0.00085),
                  IN_FLOAT("beta_end", 0.012)), WEFT_OK);
    weft_object *scheduler = tables[0].object;
    char name[80];
    for (int t = 0; scheduler && f && t < 3; t++) {
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            snprintf(name, sizeof name, "%s.%s.%s", targets[t], kinds[k][0], kinds[k][1]);
            check_loss(&b, f, scheduler, name, targets[t], kinds[k][0], kinds[k][1], 0);
        }
        snprintf(name, sizeof name, "prior.%s.none", targets[t]);
        check_loss(&b, f, scheduler, name, targets[t], "mse", "none", 0.7);
        snprintf(name, sizeof name, "prior.%s.min_snr", targets[t]);
        check_loss(&b, f, scheduler, name, targets[t], "mse", "min_snr", 0.7);
    }
    weft_tensor *odd = weft_full(b.c, WEFT_F32, WEFT_SHAPE(3, 2, 2, 1), 0);
    CALL_FAILS(&b, "the batch's halves are expected, found 3 images", "Loss", IN_TENSOR("prediction", odd),
               { "scheduler", { .kind = WEFT_PORT_OBJECT, .type = "SCHEDULER", .object = scheduler } },
               IN_TENSOR("clean", odd), IN_TENSOR("noise", odd), IN_TENSOR("timesteps", weft_full(b.c, WEFT_I64,
                       WEFT_SHAPE(3), 5)),
               IN_FLOAT("prior_weight", 1));
    for (int i = 0; i < 8; i++) weft_value_clear(&tables[i]);
    weft_st_close(f);
    bed_free(&b);
}

TEST_MAIN
