/* Tensors: counted references to shapes and strides over counted storage; making, reading and writing them.
 *
 * Storage is the context's own memory or the caller's (borrowed, never written). A tensor of a shape-only run has none.
 */
#include <string.h>
#include "runtime/autograd.h"
#include "runtime/ops/ops.h"

/* Bytes that a tensor may span at most, sizes of 0 taken as 1, so that no product of sizes or strides overflows. */
static const int64_t most_bytes = (int64_t)1 << 60;

const weft_op weft_op_full = { "full", WEFT_KERNEL_fill, NULL };

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

bool weft_shape_count(int rank, const int64_t *shape, int64_t *count) {
    int64_t span = 1, n = 1;
    if (rank < 0 || rank > WEFT_MAX_RANK) return false;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0 || shape[i] > most_bytes / 8) return false;
        if (__builtin_mul_overflow(span, shape[i] ? shape[i] : 1, &span) || span > most_bytes / 8) return false;
        n *= shape[i];
    }
    *count = n;
    return true;
}

void weft_dense_strides(int rank, const int64_t *shape, int64_t *stride) {
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= shape[i] ? shape[i] : 1;
    }
}

const char *weft_shape_text(int rank, const int64_t *shape, char *out, size_t size) {
    size_t used = (size_t)snprintf(out, size, "(");
    for (int i = 0; i < rank && i < WEFT_MAX_RANK && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, i ? ", %lld" : "%lld", (long long)shape[i]);
    if (used < size) snprintf(out + used, size - used, rank > WEFT_MAX_RANK ? ", …)" : ")");
    return out;
}

const char *weft_describe(const weft_tensor *t, char *buffer, size_t size) {
    if (t) snprintf(buffer, size, "%s %s", SHAPE_TEXT(t->rank, t->shape), weft_dtype_name(t->type));
    else snprintf(buffer, size, "(none)");
    return buffer;
}

/* ---- storage ----------------------------------------------------------------------------------------------------- */

weft_storage *weft_storage_new(weft_ctx *c, const char *who, size_t bytes) {
    weft_storage *s = weft_host_alloc(sizeof *s);
    if (!s) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory", who);
        return NULL;
    }
    s->block = weft_block_take(&c->memory, bytes);
    if (!s->block) {
        weft_memory_fail(c, who);
        weft_host_free(s);
        return NULL;
    }
    s->refs = 1;
    s->ctx = c;
    s->data = s->block->data;
    return s;
}

/* Between host and device, either way. */
static void host_copy(weft_ctx *c, const weft_op *op, void *dst, const void *src, size_t bytes) {
    if (bytes) weft_op_status(c, op, WEFT_U8, c->kernels->mem_copy(weft_env_now(c), dst, src, bytes));
}

bool weft_storage_bring(weft_ctx *c, const char *who, weft_storage *s) {
    if (!s->host || s->data) return true;
    s->copy = weft_block_take(&c->memory, s->bytes);
    if (!s->copy) {
        weft_memory_fail(c, who);
        return false;
    }
    host_copy(c, &weft_op_write, s->copy->data, s->host, s->bytes);
    s->data = s->copy->data;
    c->weights_changed++;
    if (!weft_ok(c)) weft_storage_leave(s);
    return weft_ok(c);
}

void weft_storage_leave(weft_storage *s) {
    if (!s || !s->copy) return;
    s->ctx->weights_changed++;
    weft_block_give(&s->ctx->memory, s->copy);
    s->copy = NULL;
    s->data = NULL;
}

void weft_storage_drop(weft_storage *s) {
    if (!s || --s->refs) return;
    weft_storage_leave(s);
    weft_block_give(&s->ctx->memory, s->block);
    if (s->release) s->release(s->user);
    weft_host_free(s);
}

/* ---- birth and end ----------------------------------------------------------------------------------------------- */

/* A tensor struct with one reference, without storage; dense where stride is NULL. */
static weft_tensor *shell(weft_ctx *c, const char *who, weft_dtype type, int rank, const int64_t *shape,
                          const int64_t *stride) {
    weft_tensor *t = weft_host_alloc(sizeof *t);
    if (!t) {
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory", who);
        return NULL;
    }
    t->refs = 1;
    t->ctx = c;
    t->type = type;
    t->rank = rank;
    for (int i = 0; i < rank; i++) t->shape[i] = shape[i];
    if (stride) for (int i = 0; i < rank; i++) t->stride[i] = stride[i];
    else weft_dense_strides(rank, shape, t->stride);
    c->tensors++;
    return t;
}

/* Whether a tensor of this type and shape can be; the error is set where not. */
static bool check_shape(weft_ctx *c, const char *who, weft_dtype type, int rank, const int64_t *shape) {
    int64_t count;
    if (!weft_ok(c) || weft_cancelled(c)) return false;
    if (!weft_dtype_size(type)) {
        weft_fail(c, WEFT_E_TYPE, "%s: %d is no element type", who, (int)type);
        return false;
    }
    if (rank < 0 || rank > WEFT_MAX_RANK) {
        weft_fail(c, WEFT_E_SHAPE, "%s: rank %d; 0 to %d are possible", who, rank, WEFT_MAX_RANK);
        return false;
    }
    if (!weft_shape_count(rank, shape, &count)) {
        weft_fail(c, WEFT_E_SHAPE, "%s: %s has a negative size or is too large", who, SHAPE_TEXT(rank, shape));
        return false;
    }
    return true;
}

weft_tensor *weft_tensor_make(weft_ctx *c, const char *who, weft_dtype type, int rank, const int64_t *shape) {
    if (!check_shape(c, who, type, rank, shape)) return NULL;
    weft_tensor *t = shell(c, who, type, rank, shape, NULL);
    if (!t) return NULL;
    if (!c->shape_only) {
        t->storage = weft_storage_new(c, who, (size_t)weft_count(t) * weft_dtype_size(type));
        if (!t->storage) {
            weft_unref(t);
            return NULL;
        }
    }
    return weft_scope_own(c, t);
}

weft_tensor *weft_tensor_new(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape) {
    return weft_tensor_make(c, "new tensor", type, rank, shape);
}

weft_tensor *weft_tensor_from(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape, const void *data) {
    weft_tensor *t = weft_tensor_make(c, "new tensor", type, rank, shape);
    if (!t || c->shape_only) return t;
    size_t bytes = (size_t)weft_count(t) * weft_dtype_size(type);
    host_copy(c, &weft_op_write, weft_raw(t), data, bytes);
    return weft_ok(c) ? t : NULL;
}

weft_tensor *weft_tensor_borrow(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape, const void *data,
                                void (*release)(void *user), void *user) {
    weft_tensor *t = NULL;
    weft_storage *s = NULL;
    if (!check_shape(c, "new tensor", type, rank, shape)) goto failed;
    const bool on_host = weft_on_host(c);
    if (on_host && (uintptr_t)data % weft_dtype_size(type)) {       /* kernels cannot read it where it lies */
        int depth = c->shape_only;
        c->shape_only = 0;
        t = weft_tensor_from(c, type, rank, shape, data);
        c->shape_only = depth;
        if (release) release(user);
        return t;
    }
    t = shell(c, "new tensor", type, rank, shape, NULL);
    s = weft_host_alloc(sizeof *s);
    if (!t || !s) goto failed;
    *s = (weft_storage){ .refs = 1, .ctx = c, .data = on_host ? (void *)data : NULL, .host = on_host ? NULL : data,
                         .bytes = (size_t)weft_count(t) * weft_dtype_size(type), .release = release, .user = user };
    t->storage = s;
    return weft_scope_own(c, t);
failed:
    if (weft_ok(c)) weft_fail(c, WEFT_E_MEMORY, "new tensor: no memory");
    weft_host_free(s);
    weft_unref(t);
    if (release) release(user);
    return NULL;
}

weft_tensor *weft_full(weft_ctx *c, weft_dtype type, int rank, const int64_t *shape, double value) {
    const weft_op *op = &weft_op_full;
    weft_tensor *t = weft_tensor_make(c, op->name, type, rank, shape);
    if (!t || !weft_op_takes(c, op, type)) return NULL;
    weft_fill_args a = { .type = type, .n = weft_count(t), .value = value, .dst = weft_raw(t) };
    WEFT_OP_RUN(c, op, fill, a);
    return weft_op_end(c, op, t);
}

weft_tensor *weft_scalar(weft_ctx *c, weft_dtype type, double value) { return weft_full(c, type, 0, NULL, value); }

weft_tensor *weft_tensor_view(weft_ctx *c, weft_tensor *t, int64_t offset, int rank, const int64_t *shape,
                              const int64_t *stride) {
    weft_tensor *v = shell(c, "view", t->type, rank, shape, stride);
    if (!v) return NULL;
    v->storage = t->storage;
    if (v->storage) v->storage->refs++;
    v->offset = t->offset + offset;
    return weft_scope_own(c, v);
}

weft_tensor *weft_ref(weft_tensor *t) {
    if (t) t->refs++;
    return t;
}

void weft_unref(weft_tensor *t) {
    if (!t || --t->refs) return;
    weft_ctx *c = t->ctx;
    weft_storage_drop(t->storage);
    weft_packed_free(t->packed);
    weft_unref(t->grad);
    weft_host_free(t);
    weft_ctx_tensor_gone(c);
}

/* ---- what it is -------------------------------------------------------------------------------------------------- */

weft_dtype weft_type(const weft_tensor *t) { return t ? t->type : WEFT_F32; }

int weft_rank(const weft_tensor *t) { return t ? t->rank : 0; }

int64_t weft_dim(const weft_tensor *t, int i) {
    if (!t) return 0;
    if (i < 0) i += t->rank;
    return i < 0 || i >= t->rank ? 0 : t->shape[i];
}

const int64_t *weft_shape(const weft_tensor *t) { return t ? t->shape : NULL; }

const int64_t *weft_strides(const weft_tensor *t) { return t ? t->stride : NULL; }

int64_t weft_count(const weft_tensor *t) {
    int64_t n = 1;
    if (!t) return 0;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

bool weft_is_dense(const weft_tensor *t) {
    int64_t step = 1;
    if (!t) return false;
    if (weft_count(t) == 0) return true;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != step) return false;
        step *= t->shape[i];
    }
    return true;
}

void *weft_data(weft_tensor *t) {
    return t && t->storage && weft_on_host(t->ctx) && weft_is_dense(t) ? weft_raw(t) : NULL;
}

/* ---- reading, writing -------------------------------------------------------------------------------------------- */

static bool check_bytes(weft_ctx *c, const char *what, const weft_tensor *t, size_t bytes) {
    if (!weft_ok(c) || !t) return false;
    if (bytes == (size_t)weft_count(t) * weft_dtype_size(t->type)) return true;
    weft_fail(c, WEFT_E_ARGUMENT, "%s %zu bytes, and %s has %zu", what, bytes, DESCRIBE(t),
              (size_t)weft_count(t) * weft_dtype_size(t->type));
    return false;
}

/* What a call that got no tensor answers. */
static weft_status no_tensor(weft_ctx *c, const weft_tensor *t) {
    return t ? c->status : weft_fail(c, WEFT_E_ARGUMENT, "there is no tensor to read or write");
}

/* Around what reads or writes values: it runs in a shape-only context too, and a tape does not see it. */
struct quiet { int shape_only; weft_scope scope; };

static struct quiet quiet_begin(weft_ctx *c) {
    struct quiet q = { c->shape_only, weft_scope_begin(c, (weft_params){ 0 }) };
    c->shape_only = 0;
    weft_no_grad(c, true);
    return q;
}

static void quiet_end(weft_ctx *c, struct quiet q) {
    weft_no_grad(c, false);
    weft_scope_end(c, q.scope, NULL);
    c->shape_only = q.shape_only;
}

weft_status weft_read(weft_ctx *c, const weft_tensor *t, void *dst, size_t bytes) {
    if (!check_bytes(c, "reading", t, bytes)) return no_tensor(c, t);
    struct quiet q = quiet_begin(c);
    weft_tensor *dense = weft_op_dense(c, &weft_op_read, (weft_tensor *)t);
    if (dense) host_copy(c, &weft_op_read, dst, weft_raw(dense), bytes);
    quiet_end(c, q);
    return c->status;
}

static void write_strided(weft_ctx *c, weft_tensor *t, const void *src) {
    weft_tensor *dense = weft_tensor_from(c, t->type, t->rank, t->shape, src);
    if (dense) weft_copy_into(c, &weft_op_write, dense, t, 0);
}

weft_status weft_write(weft_ctx *c, weft_tensor *t, const void *src, size_t bytes) {
    if (!check_bytes(c, "writing", t, bytes)) return no_tensor(c, t);
    if (!t->storage || !t->storage->block)
        return weft_fail(c, WEFT_E_ARGUMENT, "writing to %s, which %s", DESCRIBE(t),
                         t->storage ? "is borrowed" : "has no data");
    struct quiet q = quiet_begin(c);
    if (!weft_is_dense(t)) write_strided(c, t, src);
    else host_copy(c, &weft_op_write, weft_raw(t), src, bytes);
    weft_tensor_changed(t);
    quiet_end(c, q);
    return c->status;
}

double weft_item(weft_ctx *c, const weft_tensor *t) {
    double value = 0;
    if (!weft_ok(c)) return 0;
    if (weft_count(t) != 1) {
        weft_fail(c, WEFT_E_SHAPE, "the value of %s: it is not one element", DESCRIBE(t));
        return 0;
    }
    struct quiet q = quiet_begin(c);
    weft_tensor *f64 = weft_cast(c, (weft_tensor *)t, WEFT_F64);
    if (!f64 || weft_read(c, f64, &value, sizeof value) != WEFT_OK) value = 0;
    quiet_end(c, q);
    return value;
}

/* ---- parameters -------------------------------------------------------------------------------------------------- */

void weft_tensor_mark_parameter(weft_tensor *t, bool frozen, void (*on_packed)(void *user), void *user) {
    if (!t) return;
    t->parameter = true;
    t->frozen = frozen;
    t->on_packed = on_packed;
    t->on_packed_user = user;
}

void weft_tensor_changed(weft_tensor *t) {
    if (!t || !t->storage) return;
    t->storage->version++;
    if (t->frozen) t->storage->ctx->weights_changed++;
    weft_packed_free(t->packed);
    t->packed = NULL;
}
