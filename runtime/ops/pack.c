/* Weights in the back end's form, W(n, tap, k): made once for a parameter, for each call otherwise.
 *
 * (n, k) and (n, k, kh, kw) (OIHW) are read through their strides: tap = y·kw + x. A frozen parameter's plain form is
 * given back.
 *
 * On a device a weight is packed in the type of the activations. Where its plain form is the host's (a mapped file), the packed
 * one may be dropped when memory is short, and is made again when it is next used: so a model that is larger than the
 * memory is moved by layers. What was not used for as long as all weights take is dropped first; else what was used last, as
 * in a walk around that comes by the others earlier.
 */
#include "runtime/autograd.h"
#include "runtime/ops/ops.h"

static const weft_op op_pack = { "pack", WEFT_KERNEL_pack, NULL };

/* ---- those that can be made again --------------------------------------------------------------------------------- */

static void unlink_packed(weft_ctx *c, weft_packed *p) {
    if (!p->weight) return;
    if (p->newer) p->newer->older = p->older;
    else c->newest = p->older;
    if (p->older) p->older->newer = p->newer;
    else c->oldest = p->newer;
    p->weight = NULL;
}

static void link_packed(weft_ctx *c, weft_packed *p, weft_tensor *w) {
    p->weight = w;
    p->used = ++c->packings;
    p->newer = NULL;
    p->older = c->newest;
    if (p->older) p->older->newer = p;
    else c->oldest = p;
    c->newest = p;
}

bool weft_packed_relieve(void *ctx) {
    weft_ctx *c = ctx;
    weft_packed *p = c->oldest;
    while (p && p->form->refs > 1) p = p->newer;
    if (!p) return false;
    if (c->packings - p->used <= c->packed_ever)
        for (p = c->newest; p->form->refs > 1; p = p->older) {}
    weft_tensor *w = p->weight;
    w->packed = NULL;
    c->weights_changed++;
    weft_packed_free(p);
    return true;
}

/* ---- packing ------------------------------------------------------------------------------------------------------ */

void weft_packed_free(weft_packed *p) {
    if (!p) return;
    unlink_packed(p->form->ctx, p);
    weft_storage_drop(p->form);
    weft_host_free(p);
}

/* How a weight's plain form is walked; false where its taps do not lie in one stride. */
static bool walk(const weft_tensor *w, weft_pack_args *a) {
    *a = (weft_pack_args){ .type = w->type, .n = w->shape[0], .k = w->shape[1], .taps = 1,
                           .stride_n = w->stride[0], .stride_k = w->stride[1] };
    if (w->rank == 2) return true;
    a->taps = w->shape[2] * w->shape[3];
    return weft_collapses(w, 2, 4, &a->stride_tap);
}

static weft_storage *pack(weft_ctx *c, const weft_op *op, const void *src, const weft_pack_args *how) {
    weft_storage *form = weft_storage_new(c, op->name, c->kernels->pack_bytes(how));
    if (!form) return NULL;
    weft_pack_args a = *how;
    a.src = src;
    a.dst = form->data;
    weft_op_status(c, &op_pack, a.type, c->kernels->pack(weft_env_now(c), &a));
    if (weft_ok(c)) return form;
    weft_storage_drop(form);
    return NULL;
}

/* Keeps the packed form with the parameter; without memory for that, the form is made again the next time. */
static void keep(weft_tensor *w, weft_storage *form, const weft_pack_args *how) {
    weft_packed *p = weft_host_alloc(sizeof *p);
    if (!p) return;
    *p = (weft_packed){ .form = form, .how = *how, .version = w->storage ? w->storage->version : 0 };
    form->refs++;
    if (w->frozen) w->ctx->weights_changed++;
    weft_packed_free(w->packed);
    w->packed = p;
    if (w->storage && w->storage->host) {
        link_packed(w->ctx, p, w);
        w->ctx->packed_ever += !w->was_packed;
        w->was_packed = true;
        if (w->storage->refs == 1) weft_storage_leave(w->storage);
    }
    if (w->frozen && w->storage && w->storage->block) {
        weft_storage_drop(w->storage);
        w->storage = NULL;
        w->offset = 0;
    }
    if (w->on_packed) w->on_packed(w->on_packed_user);
}

bool weft_weight_takes(weft_ctx *c, const weft_op *op, const weft_tensor *w) {
    if (!weft_ok(c)) return false;
    if (c->kernels->types[WEFT_KERNEL_pack] >> w->type & 1) return true;
    weft_op_fail(c, op, WEFT_E_TYPE, "the %s back end has no kernel for weights of %s", c->kernels->name,
                 weft_dtype_name(w->type));
    return false;
}

weft_dtype weft_weight_type(const weft_ctx *c, const weft_tensor *w, weft_dtype activations) {
    return weft_on_host(c) ? w->type : activations;
}

/* The weight's plain form in this type, no tape noting it. */
static weft_tensor *plain_as(weft_ctx *c, const weft_op *op, weft_tensor *w, weft_dtype type) {
    weft_tensor *plain = weft_plain(c, op->name, w);
    if (!plain || plain->type == type) return plain;
    weft_no_grad(c, true);
    plain = weft_cast(c, plain, type);
    weft_no_grad(c, false);
    return plain;
}

static weft_storage *make_packed(weft_ctx *c, const weft_op *op, weft_tensor *w, weft_dtype type) {
    weft_pack_args how;
    weft_tensor *plain = plain_as(c, op, w, type);
    if (plain && (!walk(plain, &how) || (w->frozen && !weft_is_dense(plain)))) {
        plain = weft_op_dense(c, op, plain);
        if (plain) walk(plain, &how);
    }
    weft_storage *form = plain ? pack(c, op, weft_raw(plain), &how) : NULL;
    if (form && w->parameter && !(w->requires_grad && c->tape) && !c->memory.hold) keep(w, form, &how);
    return form;
}

weft_storage *weft_weight_pack(weft_ctx *c, const weft_op *op, weft_tensor *w, weft_dtype type) {
    weft_packed *p = w->packed;
    if (p && p->how.type == type && (!w->storage || p->version == w->storage->version)) {
        p->form->refs++;
        if (p->weight) {
            unlink_packed(c, p);
            link_packed(c, p, w);
        }
        return p->form;
    }
    weft_scope s = weft_scope_named(c, NULL);
    weft_storage *form = make_packed(c, op, w, type);
    weft_scope_end(c, s, NULL);
    return form;
}

weft_storage *weft_weight_pack_back(weft_ctx *c, const weft_op *op, weft_tensor *w, weft_dtype type) {
    weft_pack_args how;
    weft_tensor *plain = plain_as(c, op, w, type);
    if (plain && !walk(plain, &how)) {
        plain = weft_op_dense(c, op, plain);
        if (plain) walk(plain, &how);
    }
    if (!plain) return NULL;
    const int64_t n = how.n, stride_n = how.stride_n;
    how.n = how.k;
    how.stride_n = how.stride_k;
    how.k = n;
    how.stride_k = stride_n;
    how.stride_tap = -how.stride_tap;
    const int64_t last = how.taps > 0 ? (how.taps - 1) * -how.stride_tap : 0;
    return pack(c, op, (const char *)weft_raw(plain) + last * (int64_t)weft_dtype_size(plain->type), &how);
}
