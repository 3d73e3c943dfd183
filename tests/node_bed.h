/* Nodes called alone: a context, the registry of all classes, and inputs written as a list.
 *
 *     weft_value out[2] = { 0 };
 *     CHECK_EQ(CALL(&b, "ImageCrop", out, IN_TENSOR("image", t), IN_INT("width", 3)), WEFT_OK);
 */
#ifndef WEFT_TEST_NODE_BED_H
#define WEFT_TEST_NODE_BED_H

#include "nodes/values.h"
#include "tests/host_data.h"

struct bed { weft_ctx *c; weft_registry *r; weft_folders folders; weft_scope scope; };
struct in { const char *name; weft_value value; };

#define IN_INT(n, v) (struct in){ n, { .kind = WEFT_PORT_INT, .type = "INT", .i = (v) } }
#define IN_FLOAT(n, v) (struct in){ n, { .kind = WEFT_PORT_FLOAT, .type = "FLOAT", .f = (v) } }
#define IN_BOOL(n, v) (struct in){ n, { .kind = WEFT_PORT_BOOL, .type = "BOOLEAN", .b = (v) } }
#define IN_TEXT(n, v) (struct in){ n, { .kind = WEFT_PORT_STRING, .type = "STRING", .s = (char *)(v) } }
#define IN_TENSOR(n, v) (struct in){ n, { .kind = WEFT_PORT_TENSOR, .type = "TENSOR", .tensor = (v) } }
#define IN_OBJECT(n, v) (struct in){ n, { .kind = WEFT_PORT_OBJECT, .type = (v)->object.class->type, \
                                          .object = &(v)->object } }

static inline struct bed bed_new(const char *device) {
    struct bed b = { .c = weft_ctx_new(&(weft_options){ .threads = 1, .device = device ? test_device(device) : NULL }) };
    b.r = weft_nodes_registry(b.c);
    b.scope = weft_scope_named(b.c, "test");
    return b;
}

/* Also sees that nothing was lost. */
static inline void bed_free(struct bed *b) {
    weft_scope_end(b->c, b->scope, NULL);
    weft_registry_free(b->r);
    CHECK_EQ(weft_memory_live(b->c), 0);
    weft_ctx_free(b->c);
}

static inline weft_status call_node(struct bed *b, const char *class_name, weft_value *out, const struct in *in,
                                    int n) {
    const char *names[16];
    weft_value values[16];
    for (int i = 0; i < n; i++) names[i] = in[i].name, values[i] = in[i].value;
    return weft_node_call(b->c, b->r, b->folders.models ? &b->folders : NULL, class_name, names, values, n, out);
}
#define CALL(b, class_name, out, ...) \
    call_node(b, class_name, out, (struct in[]){ __VA_ARGS__ }, \
              (int)(sizeof((struct in[]){ __VA_ARGS__ }) / sizeof(struct in)))

/* The call fails, and its message has `part`. */
#define CALL_FAILS(b, part, class_name, ...) do { \
        weft_value test_out[8] = { 0 }; \
        CHECK(CALL(b, class_name, test_out, __VA_ARGS__) != WEFT_OK); \
        CHECK_HAS(weft_message((b)->c), part); \
        for (int test_i = 0; test_i < 8; test_i++) weft_value_clear(&test_out[test_i]); \
        weft_clear((b)->c); \
    } while (0)

#define TENSOR(b, values, ...) weft_tensor_from((b)->c, WEFT_F32, WEFT_SHAPE(__VA_ARGS__), values)

/* t has this shape and, in order, these values; |difference| ≤ tolerance. */
static inline void check_tensor(struct bed *b, const char *what, weft_tensor *t, int rank, const int64_t *shape,
                                const float *want, double tolerance) {
    int64_t n = 1;
    char text[96];
    bool same = t && weft_rank(t) == rank;
    for (int i = 0; same && i < rank; i++) same = weft_dim(t, i) == shape[i], n *= shape[i];
    if (!same) {
        TEST_FAIL("%s: %s (%s)", what, t ? weft_describe(t, text, sizeof text) : "nothing", weft_message(b->c));
        return;
    }
    float *got = malloc(sizeof *got * (size_t)(n + 1));
    if (weft_type(t) != WEFT_F32 || weft_read(b->c, t, got, sizeof *got * (size_t)n))
        TEST_FAIL("%s: cannot be read", what);
    else
        for (int64_t i = 0; i < n; i++)
            if (!(fabs((double)got[i] - want[i]) <= tolerance)) {
                TEST_FAIL("%s[%lld] is %.9g, expected %.9g", what, (long long)i, (double)got[i], (double)want[i]);
                break;
            }
    free(got);
}
#define CHECK_TENSOR(b, t, want, tolerance, ...) check_tensor(b, #t, t, WEFT_SHAPE(__VA_ARGS__), want, tolerance)

#endif
