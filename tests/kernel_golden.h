/* Kernel cases from a golden file: "KERNEL.NUMBER" has its tensors under "KERNEL.NUMBER.x" and so on, numbers among its options under
 * ".i" (i64) and ".f" (f64). */
#ifndef WEFT_KERNEL_GOLDEN_H
#define WEFT_KERNEL_GOLDEN_H

#include "runtime/safetensors.h"
#include "tests/kernel_cases.h"

static weft_ctx *context;
static weft_safetensors *file;
static char prefix[64];             /* "conv2d.3" */

static bool golden_open(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/kernels_%s.safetensors", WEFT_SOURCE_DIR, name);
    context = weft_ctx_new(&(weft_options){ .threads = 1 });
    file = context ? weft_st_open(context, path) : NULL;
    if (!file) TEST_FAIL("%s: %s", path, context ? weft_message(context) : "no context");
    return file != NULL;
}

static void golden_close(void) {
    weft_st_close(file);
    weft_ctx_free(context);
    buffers_free();
}

/* Moves on to a kernel's case; false past the last one. */
static bool golden_case(const char *kernel, int number) {
    snprintf(prefix, sizeof prefix, "%s.%d.i", kernel, number);
    bool found = weft_st_find(file, prefix) != NULL;
    prefix[strlen(prefix) - 2] = 0;
    if (!found && number == 0) TEST_FAIL("no case of %s in the file", kernel);
    return found;
}

static const weft_st_entry *entry(const char *key) {
    char name[80];
    snprintf(name, sizeof name, "%s.%s", prefix, key);
    return weft_st_find(file, name);
}

/* A tensor of the case in memory of exactly its size; NULL where the case has none. */
static void *tensor(const char *key) {
    const weft_st_entry *e = entry(key);
    void *p = e ? buffer_new(e->bytes, 0, 0) : NULL;
    if (p) memcpy(p, e->data, e->bytes);
    return p;
}

static int64_t dim(const char *key, int i) {
    const weft_st_entry *e = entry(key);
    return e && i < e->rank ? e->shape[i] : 0;
}
static int64_t count(const char *key) {
    const weft_st_entry *e = entry(key);
    int64_t n = e ? 1 : 0;
    for (int i = 0; e && i < e->rank; i++) n *= e->shape[i];
    return n;
}
static int64_t option(int i) { return ((const int64_t *)entry("i")->data)[i]; }
static double number(int i) { return ((const double *)entry("f")->data)[i]; }

/* A stored result is rounded to f32 once, so the reference has to be that near. */
#define ROUNDED 1.2e-7

/* The case's "y" (or another name) against both back ends. */
static void golden_check(struct kernel_case c, const char *y, double reference_tolerance) {
    const weft_st_entry *e = entry(y);
    if (!e) { TEST_FAIL("%s has no %s", prefix, y); return; }
    const void *want = tensor(y);
    c.type = e->type;
    c.count = count(y);
    struct kernel_case exact = c;
    exact.tolerance = reference_tolerance;
    exact.precision = WEFT_PRECISION_EXACT;
    struct scratch s;
    weft_env env = kernel_env(&s, 1, WEFT_PRECISION_EXACT);
    int status;
    const void *got = case_run(&exact, weft_kernels_reference(), &env, &status);
    char what[96];
    snprintf(what, sizeof what, "golden %s, reference", prefix);
    if (status) TEST_FAIL("%s: status %d", what, status);
    else case_near(&exact, got, want, what);
    snprintf(what, sizeof what, "golden %s", prefix);
    case_check_against(&c, want, what);
}

#endif
