/* The operations of runtime/weft.h as functions (weft.NAME) and methods (t:NAME), all through one caller: a row of
 * the list below says what an operation is called, which parameters it takes, and how it is run.
 *
 * Arguments go by place; a table behind the last one gives the rest by name: weft.conv2d(x, w, {bias = b, pad = 1}).
 * Dimensions and places count from 1 as Lua does, from −1 backwards: t:slice(1, 2, 3) is rows 2 to 4; t:permute(2,
 * 1) swaps two dimensions. Where two tensors are combined, one may be a number. */
#include <math.h>
#include <string.h>
#include "lua/bind.h"
#include "runtime/nearest.h"

typedef enum parameter_kind {
    END, TENSOR, MAYBE /* a tensor or nothing */, OPERAND /* a tensor or a number */, NUMBER, WHOLE, FLAG, CHOICE,
    DTYPE, DIM /* of the first tensor, from 0 */, LIST /* of whole numbers */, TENSORS /* a list */, GENERATOR, SEED
} parameter_kind;

typedef struct parameter {
    const char *name;
    parameter_kind kind;
    bool needed;
    double initial;
    const char *const *choices;
} parameter;

typedef struct value {
    bool given;
    weft_tensor *t;
    double f;
    int64_t i;
    uint64_t seed;
    weft_rng *rng;
    int n;
    int64_t list[WEFT_MAX_RANK];
    weft_tensor **tensors;
} value;

enum { PARAMETERS = 8 };
typedef struct operation {
    const char *name;
    weft_tensor *(*run)(bind_state *b, weft_ctx *c, const value *a);
    parameter parameters[PARAMETERS + 1];
} operation;

static const char *const activations[] = { "none", "silu", "gelu", "quick_gelu", "gelu_tanh", "relu", NULL };
static const char *const resample_modes[] = { "nearest",      "nearest-exact", "bilinear",    "bicubic", "area",
                                              "pil-bilinear", "pil-bicubic",   "pil-lanczos", NULL };
static const char *const pad_modes[] = { "constant", "replicate", "reflect", NULL };

/* Numbers that the runtime takes as int; none so large is one that it allows. */
static int small(int64_t v) { return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int)v; }

/* ---- what takes more than a line --------------------------------------------------------------------------------- */

static weft_tensor *slice(weft_ctx *c, const value *a) {
    int64_t size = weft_dim(a[0].t, (int)a[1].i), start = a[2].i > 0 ? a[2].i - 1 : a[2].i < 0 ? a[2].i + size : -1;
    if (start >= 0) return weft_slice(c, a[0].t, (int)a[1].i, start, a[3].given ? a[3].i : size - start);
    weft_fail(c, WEFT_E_ARGUMENT, "slice: places count from 1, or from -1 backwards; %lld is none of %lld",
              (long long)a[2].i, (long long)size);
    return NULL;
}

static weft_tensor *permute(weft_ctx *c, const value *a) {
    int order[WEFT_MAX_RANK] = { 0 };
    if (a[1].n != weft_rank(a[0].t)) {
        weft_fail(c, WEFT_E_ARGUMENT, "permute: %d dimensions are named, the tensor has %d", a[1].n, weft_rank(a[0].t));
        return NULL;
    }
    for (int i = 0; i < a[1].n; i++)
        order[i] = a[1].list[i] > 0 && a[1].list[i] <= WEFT_MAX_RANK ? (int)a[1].list[i] - 1 : -1;
    return weft_permute(c, a[0].t, order);
}

static weft_tensor *concat(weft_ctx *c, const value *a) {
    int rank = a[0].n ? weft_rank(a[0].tensors[0]) : 0;
    int64_t dim = a[1].i > 0 ? a[1].i - 1 : a[1].i;
    if (!a[1].i || dim >= rank || dim < -rank) {
        weft_fail(c, WEFT_E_ARGUMENT, a[0].n ? "concat: dimension %lld of %d" : "concat: there are no tensors",
                  (long long)a[1].i, rank);
        return NULL;
    }
    return weft_concat(c, (int)dim, a[0].n, a[0].tensors);
}

/* A number becomes a tensor of the other's type; where the operation is scale·x + shift, it is done so. */
static weft_tensor *binary(weft_ctx *c, weft_binary_op op, const value *a) {
    weft_tensor *x = a[0].t, *y = a[1].t;
    double v = x ? a[1].f : a[0].f;
    if (x && y) return weft_binary(c, op, x, y);
    weft_tensor *t = x ? x : y;
    if (!t) weft_fail(c, WEFT_E_ARGUMENT, "at least one tensor is wanted, not two numbers");
    if (op == WEFT_BINARY_ADD) return weft_affine(c, t, 1, v);
    if (op == WEFT_BINARY_SUB) return x ? weft_affine(c, t, 1, -v) : weft_affine(c, t, -1, v);
    if (op == WEFT_BINARY_MUL) return weft_affine(c, t, v, 0);
    weft_tensor *s = t ? weft_scalar(c, weft_type(t), v) : NULL;
    return x ? weft_binary(c, op, x, s) : weft_binary(c, op, s, y);
}

static weft_tensor *reduce(weft_ctx *c, weft_reduce_op op, const value *a) {
    return a[1].given ? weft_reduce(c, op, a[0].t, (int)a[1].i) : weft_reduce_all(c, op, a[0].t);
}

/* conv2d: pad is for all sides; the four sides where they differ. */
static weft_tensor *conv2d(weft_ctx *c, const value *a) {
    int side[4];
    if (a[4].n != 0 && a[4].n != 1 && a[4].n != 4) {
        weft_fail(c, WEFT_E_ARGUMENT, "conv2d: pad is one number or {top, bottom, left, right}");
        return NULL;
    }
    for (int i = 0; i < 4; i++) side[i] = a[4].n ? small(a[4].list[a[4].n == 4 ? i : 0]) : 0;
    return weft_conv2d(c, a[0].t, a[1].t, a[2].t, (weft_conv){ small(a[3].i), side[0], side[1], side[2], side[3] },
                       a[5].t, a[6].t);
}

static weft_tensor *pad(weft_ctx *c, const value *a) {
    return weft_pad(c, a[0].t, (weft_pad_mode)a[5].i, small(a[1].i), small(a[2].i), small(a[3].i), small(a[4].i),
                    a[6].f);
}

typedef weft_tensor *draw_fn(weft_ctx *c, weft_rng *r, weft_dtype type, const value *a);
static weft_tensor *draw_randn(weft_ctx *c, weft_rng *r, weft_dtype type, const value *a) {
    return weft_randn(c, r, type, a[0].n, a[0].list);
}
static weft_tensor *draw_rand(weft_ctx *c, weft_rng *r, weft_dtype type, const value *a) {
    return weft_rand(c, r, type, a[0].n, a[0].list);
}
static weft_tensor *draw_randint(weft_ctx *c, weft_rng *r, weft_dtype type, const value *a) {
    return weft_cast(c, weft_randint(c, r, a[0].i, a[1].i, a[2].n, a[2].list), type);
}
static weft_tensor *draw_randperm(weft_ctx *c, weft_rng *r, weft_dtype type, const value *a) {
    return weft_cast(c, weft_randperm(c, r, a[0].i), type);
}

/* From the generator given, from a fresh one with the seed given, or from the state's own; r points at the
 * generator, then the seed, then the type. PyTorch draws f16 and bf16 as f32 too. */
static weft_tensor *draw(bind_state *b, weft_ctx *c, draw_fn *fn, const value *a, const value *r) {
    weft_dtype type = (weft_dtype)r[2].i, drawn = type == WEFT_F16 || type == WEFT_BF16 ? WEFT_F32 : type;
    if (!r[0].rng && !r[1].given && !b->rng) b->rng = weft_rng_new(c, WEFT_RNG_CPU, b->seed);
    weft_rng *fresh = !r[0].rng && r[1].given ? weft_rng_new(c, WEFT_RNG_CPU, r[1].seed) : NULL;
    weft_rng *from = r[0].rng ? r[0].rng : fresh ? fresh : b->rng;
    weft_tensor *t = weft_ok(c) ? weft_cast(c, fn(c, from, drawn, a), type) : NULL;
    weft_rng_free(fresh);
    return t;
}

/* ---- the list: name, how it is run (a: its arguments), parameters ------------------------------------------------ */

#define P(name, kind, needed, initial, choices) { #name, kind, needed, initial, choices },
#define T(name) P(name, TENSOR, true, 0, NULL)
#define M(name) P(name, MAYBE, false, 0, NULL)
#define O(name) P(name, OPERAND, true, 0, NULL)
#define N(name) P(name, NUMBER, true, 0, NULL)
#define N0(name, v) P(name, NUMBER, false, v, NULL)
#define I(name) P(name, WHOLE, true, 0, NULL)
#define I0(name, v) P(name, WHOLE, false, v, NULL)
#define B0(name, v) P(name, FLAG, false, v, NULL)
#define D(name) P(name, DIM, true, 0, NULL)
#define D0(name) P(name, DIM, false, 0, NULL)
#define C0(name, choices, v) P(name, CHOICE, false, v, choices)
#define CH(name, choices) P(name, CHOICE, true, 0, choices)
#define L(name) P(name, LIST, true, 0, NULL)
#define L0(name) P(name, LIST, false, 0, NULL)
#define DT(v) P(dtype, DTYPE, false, v, NULL)
#define RANDOM(v) P(generator, GENERATOR, false, 0, NULL) P(seed, SEED, false, 0, NULL) DT(v)

#define UNARY(F, name, op) F(name, weft_unary(c, op, a[0].t), T(x))
#define OPERATIONS(F) \
    F(zeros, weft_full(c, (weft_dtype)a[1].i, a[0].n, a[0].list, 0), L(shape) DT(WEFT_F32)) \
    F(ones, weft_full(c, (weft_dtype)a[1].i, a[0].n, a[0].list, 1), L(shape) DT(WEFT_F32)) \
    F(full, weft_full(c, (weft_dtype)a[2].i, a[0].n, a[0].list, a[1].f), L(shape) N(value) DT(WEFT_F32)) \
    F(randn, draw(b, c, draw_randn, a, a + 1), L(shape) RANDOM(WEFT_F32)) \
    F(rand, draw(b, c, draw_rand, a, a + 1), L(shape) RANDOM(WEFT_F32)) \
    F(randint, draw(b, c, draw_randint, a, a + 3), I(low) I(high) L(shape) RANDOM(WEFT_I64)) \
    F(randperm, draw(b, c, draw_randperm, a, a + 1), I(n) RANDOM(WEFT_I64)) \
    F(reshape, weft_reshape(c, a[0].t, a[1].n, a[1].list), T(x) L(shape)) \
    F(broadcast, weft_broadcast(c, a[0].t, a[1].n, a[1].list), T(x) L(shape)) \
    F(permute, permute(c, a), T(x) L(order)) \
    F(slice, slice(c, a), T(x) D(dim) I(start) I0(length, 0)) \
    F(contiguous, weft_contiguous(c, a[0].t), T(x)) \
    F(to, weft_cast(c, a[0].t, (weft_dtype)a[1].i), T(x) P(dtype, DTYPE, true, 0, NULL)) \
    F(to_nhwc, weft_to_nhwc(c, a[0].t), T(x)) \
    F(to_nchw, weft_to_nchw(c, a[0].t), T(x)) \
    F(concat, concat(c, a), P(parts, TENSORS, true, 0, NULL) I0(dim, 1)) \
    F(add, binary(c, WEFT_BINARY_ADD, a), O(a) O(b)) \
    F(subtract, binary(c, WEFT_BINARY_SUB, a), O(a) O(b)) \
    F(mul, binary(c, WEFT_BINARY_MUL, a), O(a) O(b)) \
    F(div, binary(c, WEFT_BINARY_DIV, a), O(a) O(b)) \
    F(minimum, binary(c, WEFT_BINARY_MIN, a), O(a) O(b)) \
    F(maximum, binary(c, WEFT_BINARY_MAX, a), O(a) O(b)) \
    F(axpby, weft_axpby(c, a[0].f, a[1].t, a[2].f, a[3].t), N(alpha) T(a) N(beta) T(b)) \
    UNARY(F, silu, WEFT_UNARY_SILU) UNARY(F, gelu, WEFT_UNARY_GELU) UNARY(F, quick_gelu, WEFT_UNARY_QUICK_GELU) \
    UNARY(F, gelu_tanh, WEFT_UNARY_GELU_TANH) UNARY(F, relu, WEFT_UNARY_RELU) UNARY(F, sigmoid, WEFT_UNARY_SIGMOID) \
    UNARY(F, tanh, WEFT_UNARY_TANH) UNARY(F, exp, WEFT_UNARY_EXP) UNARY(F, log, WEFT_UNARY_LOG) \
    UNARY(F, sqrt, WEFT_UNARY_SQRT) \
    UNARY(F, abs, WEFT_UNARY_ABS) UNARY(F, square, WEFT_UNARY_SQUARE) UNARY(F, sin, WEFT_UNARY_SIN) \
    UNARY(F, cos, WEFT_UNARY_COS) \
    F(affine, weft_affine(c, a[0].t, a[1].f, a[2].f), T(x) N(scale) N0(shift, 0)) \
    F(clamp, weft_clamp(c, a[0].t, a[1].f, a[2].f), T(x) N(low) N(high)) \
    F(linear, weft_linear(c, a[0].t, a[1].t, a[2].t, (weft_activation)a[3].i, a[4].t), \
      T(x) T(weight) M(bias) C0(act, activations, 0) M(residual)) \
    F(matmul, weft_matmul(c, a[0].t, a[1].t), T(a) T(b)) \
    F(conv2d, conv2d(c, a), T(x) T(weight) M(bias) I0(stride, 1) L0(pad) M(row) M(residual)) \
    F(attention, weft_attention(c, a[0].t, a[1].t, a[2].t, a[3].f, a[4].i != 0), \
      T(q) T(k) T(v) N0(scale, 0) B0(causal, 0)) \
    F(group_norm, weft_group_norm(c, a[0].t, small(a[1].i), a[4].f, a[2].t, a[3].t, (weft_activation)a[5].i), \
      T(x) I(groups) M(gamma) M(beta) N0(eps, 1e-5) C0(act, activations, 0)) \
    F(layer_norm, weft_layer_norm(c, a[0].t, a[3].f, a[1].t, a[2].t), T(x) M(gamma) M(beta) N0(eps, 1e-5)) \
    F(softmax, weft_softmax(c, a[0].t, a[1].f), T(x) N0(scale, 1)) \
    F(geglu, weft_geglu(c, a[0].t), T(x)) \
    F(sum, reduce(c, WEFT_REDUCE_SUM, a), T(x) D0(dim)) \
    F(mean, reduce(c, WEFT_REDUCE_MEAN, a), T(x) D0(dim)) \
    F(max, reduce(c, WEFT_REDUCE_MAX, a), T(x) D0(dim)) \
    F(min, reduce(c, WEFT_REDUCE_MIN, a), T(x) D0(dim)) \
    F(resample, weft_resample(c, a[0].t, (weft_resample_mode)a[3].i, a[1].i, a[2].i), \
      T(x) I(height) I(width) CH(mode, resample_modes)) \
    F(pad, pad(c, a), T(x) I0(top, 0) I0(bottom, 0) I0(left, 0) I0(right, 0) C0(mode, pad_modes, 0) N0(value, 0)) \
    F(embedding, weft_embedding(c, a[0].t, a[1].t, a[2].given ? (weft_dtype)a[2].i : weft_type(a[1].t)), \
      T(ids) T(table) DT(WEFT_F32)) \
    F(timestep_embedding, weft_timestep_embedding(c, a[0].t, a[1].i, a[2].i != 0, a[3].f, a[4].f, a[5].f), \
      T(t) I(dim) B0(flip_sin_to_cos, 1) N0(freq_shift, 0) N0(scale, 1) N0(max_period, 10000))

#define F(name, body, ...) \
    static weft_tensor *run_##name(bind_state *b, weft_ctx *c, const value *a) { \
        (void)b; \
        return body; \
    }
OPERATIONS(F)
#undef F
static const operation operations[] = {
#define F(name, body, ...) { #name, run_##name, { __VA_ARGS__ } },
    OPERATIONS(F)
#undef F
};
enum { COUNT = sizeof operations / sizeof *operations };
#undef L
#undef T

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static int wrong(lua_State *L, const operation *op, const parameter *p, const char *wanted, int idx) {
    return bind_error(L, WEFT_E_ARGUMENT, p->name, "%s: %s: %s is wanted, not %s", op->name, p->name, wanted,
                      bind_kind(L, idx));
}

static int64_t read_choice(lua_State *L, const operation *op, const parameter *p, int idx) {
    const char *given = lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : NULL;
    weft_nearest near = { .name = given };
    if (!given) return wrong(L, op, p, "a text", idx);
    for (int i = 0; p->choices[i]; i++) {
        if (!strcmp(p->choices[i], given)) return i;
        weft_nearest_try(&near, p->choices[i]);
    }
    return bind_error(L, WEFT_E_ARGUMENT, p->name, "%s: %s: there is no \"%s\"%s", op->name, p->name, given,
                      bind_near(L, near.best));
}

static weft_tensor **read_tensors(lua_State *L, const operation *op, const parameter *p, int idx, int *n) {
    if (!lua_istable(L, idx)) wrong(L, op, p, "a list of tensors", idx);
    size_t count = lua_rawlen(L, idx);
    if (count > 4096) bind_error(L, WEFT_E_ARGUMENT, p->name, "%s: %s: more than 4096 tensors", op->name, p->name);
    weft_tensor **list = bind_scratch(L, count * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, idx, (lua_Integer)i + 1);
        list[i] = bind_tensor_at(L, -1, op->name, p->name);     /* the table keeps it */
        lua_pop(L, 1);
    }
    *n = (int)count;
    return list;
}

/* Dimensions from 1, or from −1 backwards, to the runtime's. */
static int64_t read_dim(lua_State *L, const operation *op, const parameter *p, int idx, const weft_tensor *of) {
    int whole;
    int64_t dim = lua_tointegerx(L, idx, &whole), rank = weft_rank(of);
    if (!whole || !dim || dim > rank || dim < -rank)
        bind_error(L, WEFT_E_ARGUMENT, p->name,
                   "%s: %s: a dimension from 1 to %d, or from -1 backwards, is wanted, not %s", op->name, p->name,
                   (int)rank, bind_kind(L, idx));
    return dim > 0 ? dim - 1 : dim;
}

static void read_value(lua_State *L, const operation *op, const parameter *p, int idx, value *v, const value *all) {
    int whole = 1;
    v->given = true;
    switch (p->kind) {
    case TENSOR: case MAYBE: v->t = bind_tensor_at(L, idx, op->name, p->name); break;
    case OPERAND:
        if (lua_type(L, idx) == LUA_TNUMBER) v->f = lua_tonumber(L, idx);
        else if (!(v->t = bind_tensor_try(L, idx))) wrong(L, op, p, "a tensor or a number", idx);
        break;
    case NUMBER:
        if (lua_type(L, idx) != LUA_TNUMBER) wrong(L, op, p, "a number", idx);
        v->f = lua_tonumber(L, idx);
        break;
    case WHOLE:
        v->i = lua_type(L, idx) == LUA_TNUMBER ? lua_tointegerx(L, idx, &whole) : (whole = 0);
        if (!whole) wrong(L, op, p, "a whole number", idx);
        break;
    case FLAG:
        if (!lua_isboolean(L, idx)) wrong(L, op, p, "true or false", idx);
        v->i = lua_toboolean(L, idx);
        break;
    case CHOICE: v->i = read_choice(L, op, p, idx); break;
    case DTYPE: v->i = bind_dtype_at(L, idx, op->name, p->name); break;
    case DIM: v->i = read_dim(L, op, p, idx, all[0].t); break;
    case LIST:
        if (lua_istable(L, idx)) v->n = bind_shape_at(L, idx, op->name, p->name, v->list);
        else if (v->n = 1, v->list[0] = lua_tointegerx(L, idx, &whole), !whole)
            wrong(L, op, p, "a list of whole numbers", idx);
        break;
    case TENSORS: v->tensors = read_tensors(L, op, p, idx, &v->n); break;
    case GENERATOR: if (!(v->rng = bind_rng_try(L, idx))) wrong(L, op, p, "a generator", idx); break;
    case SEED: v->seed = bind_seed_at(L, idx, op->name, p->name); break;
    case END: break;
    }
}

/* The numbers from idx to last as a list: weft.zeros(2, 3), t:reshape(6, -1). Returns the place behind them. */
static int read_row(lua_State *L, const operation *op, const parameter *p, int idx, int last, value *v) {
    v->given = true;
    for (; idx <= last && lua_type(L, idx) == LUA_TNUMBER; idx++) {
        int whole;
        if (v->n == WEFT_MAX_RANK)
            bind_error(L, WEFT_E_SHAPE, p->name, "%s: %s: more than %d numbers", op->name, p->name, WEFT_MAX_RANK);
        v->list[v->n++] = lua_tointegerx(L, idx, &whole);
        if (!whole) wrong(L, op, p, "a whole number", idx);
    }
    return idx;
}

/* What the table of options has that is no parameter (or was given by place) is a mistake. */
static void check_names(lua_State *L, const operation *op, int options, int by_place) {
    for (lua_pushnil(L); lua_next(L, options); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        weft_nearest near = { .name = name };
        int i = 0;
        for (; op->parameters[i].kind && strcmp(op->parameters[i].name, name); i++)
            weft_nearest_try(&near, op->parameters[i].name);
        if (op->parameters[i].kind && i < by_place)
            bind_error(L, WEFT_E_ARGUMENT, name, "%s: %s is given twice", op->name, name);
        if (op->parameters[i].kind) continue;
        name = luaL_tolstring(L, -2, NULL);
        bind_error(L, WEFT_E_ARGUMENT, NULL, "%s has no parameter %s%s", op->name, name, bind_near(L, near.best));
    }
}

static void read_arguments(lua_State *L, const operation *op, value *v) {
    int last = lua_gettop(L), at = 1, place = 0, options = 0;
    luaL_checkstack(L, PARAMETERS + 8, op->name);
    for (const parameter *p = op->parameters; p->kind && at <= last; p++, place++) {
        bool list = p->kind == LIST || p->kind == TENSORS;
        if (at == last && lua_istable(L, at) && !list) break;
        if (p->kind == LIST && lua_type(L, at) == LUA_TNUMBER && !p[1].needed)
            at = read_row(L, op, p, at, last, &v[place]);
        else if (lua_isnil(L, at) && !p->needed) at++;
        else read_value(L, op, p, at++, &v[place], v);
    }
    if (at == last && lua_istable(L, at)) options = at++;
    if (at <= last) bind_error(L, WEFT_E_ARGUMENT, NULL, "%s takes fewer arguments", op->name);
    if (options) check_names(L, op, options, place);
    for (const parameter *p = op->parameters; p->kind; p++) {
        value *w = &v[p - op->parameters];
        if (options && !w->given && lua_getfield(L, options, p->name) != LUA_TNIL)
            read_value(L, op, p, lua_gettop(L), w, v); /* stays on the stack */
        if (w->given) continue;
        if (p->needed) bind_error(L, WEFT_E_ARGUMENT, p->name, "%s: %s is missing", op->name, p->name);
        w->f = p->initial;
        w->i = (int64_t)p->initial;
    }
}

/* ---- calling ----------------------------------------------------------------------------------------------------- */

struct call { const operation *op; value v[PARAMETERS]; };

static weft_tensor *run(bind_state *b, const void *arguments) {
    const struct call *k = arguments;
    return k->op->run(b, b->session.c, k->v);
}

/* Upvalue 1: which operation. */
static int call(lua_State *L) {
    struct call k = { .op = &operations[lua_tointeger(L, lua_upvalueindex(1))] };
    bind_state *b = bind_open(L);
    read_arguments(L, k.op, k.v);
    return bind_result(L, b, run, &k);
}

static int negate(lua_State *L) {
    struct call k = { 0 };
    for (k.op = operations; strcmp(k.op->name, "affine"); k.op++) { }
    k.v[0].t = bind_tensor_at(L, 1, "minus", "operand");
    k.v[1].f = -1;
    return bind_result(L, bind_open(L), run, &k);
}

void bind_add_operations(lua_State *L) {
    static const char *const operators[][2] = {
        { "add", "__add" }, { "subtract", "__sub" }, { "mul", "__mul" }, { "div", "__div" }
    };
    luaL_newmetatable(L, BIND_TENSOR);
    lua_getfield(L, -1, "methods");
    for (int i = 0; i < COUNT; i++) {
        const operation *op = &operations[i];
        lua_pushinteger(L, i);
        lua_pushcclosure(L, call, 1);
        for (int j = 0; j < 4; j++)
            if (!strcmp(operators[j][0], op->name)) {
                lua_pushvalue(L, -1);
                lua_setfield(L, -4, operators[j][1]);
            }
        if (op->parameters[0].kind == TENSOR || op->parameters[0].kind == OPERAND) {
            lua_pushvalue(L, -1);
            lua_setfield(L, -3, op->name);
        }
        lua_setfield(L, -4, op->name);
    }
    lua_pushcfunction(L, negate);
    lua_setfield(L, -3, "__unm");
    lua_pop(L, 2);
}
