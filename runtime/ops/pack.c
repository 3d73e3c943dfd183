/* Weights in the back end's form, W(n, tap, k): made once for a parameter, for each call otherwise.
 *
 * (n, k) and (n, k, kh, kw) (OIHW) are read through their strides: tap = y·kw + x. A frozen parameter's plain form is
 * given back.
 */
#include "runtime/ops/ops.h"

static const weft_op op_pack = { "pack", WEFT_KERNEL_pack, NULL };

void weft_packed_free(weft_packed *p) {
    if (!p) return;
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
    *p = (weft_packed){ form, *how, w->storage->version };
    form->refs++;
    weft_packed_free(w->packed);
    w->packed = p;
    if (w->frozen && w->storage->block) {
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

weft_storage *weft_weight_pack(weft_ctx *c, const weft_op *op, weft_tensor *w) {
    weft_pack_args how;
    if (w->packed && (!w->storage || w->packed->version == w->storage->version)) {
        w->packed->form->refs++;
        return w->packed->form;
    }
    weft_tensor *plain = weft_plain(c, op->name, w);
    if (plain && (!walk(plain, &how) || (w->frozen && !weft_is_dense(plain)))) {
        plain = weft_op_dense(c, op, plain);
        if (plain) walk(plain, &how);
    }
    weft_storage *form = plain ? pack(c, op, weft_raw(plain), &how) : NULL;
    if (form && w->parameter && !(w->requires_grad && c->tape)) keep(w, form, &how);
    return form;
}

weft_storage *weft_weight_pack_back(weft_ctx *c, const weft_op *op, weft_tensor *w) {
    weft_pack_args how;
    weft_tensor *plain = weft_plain(c, op->name, w);
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
