/* Recorded work: see record.h. A recording owns the memory that its kernels have the addresses of: its own copies of the
 * inputs, the result, and all between (weft_hold); weights are the tree's, and a change of any makes it useless.
 */
#include "runtime/ops/ops.h"
#include "runtime/params_internal.h"
#include "runtime/record.h"

enum { MOST = 8, TRIES = 2 };

typedef struct weft_record {
    struct weft_record *next;        /* used longer ago */
    weft_hash signature;
    uint64_t weights;                   /* weft_ctx.weights_changed behind its last plain run, or when it was recorded */
    bool ran;
    bool busy;
    int failures;
    void *work;                         /* the back end's; NULL: not recorded */
    weft_hold hold;
    weft_tensor *in[WEFT_RECORD_INPUTS], *out;
    double flops;
} weft_record;

static const weft_op op_replay = { "recorded work", WEFT_KERNEL_copy, NULL };

/* ---- the list ---------------------------------------------------------------------------------------------------- */

static void forget(weft_ctx *c, weft_record *e) {
    if (e->work) c->kernels->record_free(c->env.stream, e->work);
    e->work = NULL;
    weft_hold_open(&c->memory, &e->hold);
    for (int i = 0; i < WEFT_RECORD_INPUTS; i++) {
        weft_unref(e->in[i]);
        e->in[i] = NULL;
    }
    weft_unref(e->out);
    e->out = NULL;
    weft_hold_end(&c->memory, &e->hold);
}

bool weft_record_forget(void *ctx) {
    weft_ctx *c = ctx;
    weft_record *last = NULL;
    for (weft_record *e = c->recordings; e; e = e->next)
        if (e->work && !e->busy) last = e;
    if (last) forget(c, last);
    return last != NULL;
}

void weft_records_free(weft_ctx *c) {
    while (c->recordings) {
        weft_record *e = c->recordings;
        c->recordings = e->next;
        forget(c, e);
        weft_host_free(e);
    }
}

static weft_hash signature_of(const weft_ctx *c, const weft_recordable *r, int n, weft_tensor *const *in) {
    weft_hash h = r->what;
    weft_hash_word(&h, (uint64_t)(uintptr_t)r->run);
    weft_hash_word(&h, (uint64_t)weft_compute_type(c));
    weft_hash_word(&h, (uint64_t)c->env.precision);
    for (const weft_tree *t = r->tree; t; t = t->below) {
        weft_hash_word(&h, (uint64_t)(uintptr_t)t);
        weft_hash_word(&h, t->key);     /* another tree may come to lie where one was */
    }
    for (int i = 0; i < n; i++) {
        weft_hash_word(&h, in[i] ? (uint64_t)in[i]->rank + 1 : 0);
        if (!in[i]) continue;
        weft_hash_word(&h, (uint64_t)in[i]->type);
        weft_hash_bytes(&h, in[i]->shape, (size_t)in[i]->rank * sizeof *in[i]->shape);
    }
    return h;
}

/* The entry of this signature, now the first; NULL without memory. */
static weft_record *find(weft_ctx *c, weft_hash signature) {
    weft_record **at = &c->recordings, *e;
    for (int count = 1; (e = *at) && !weft_hash_equal(e->signature, signature); count++) {
        if (count == MOST) break;
        at = &e->next;
    }
    if (e) {
        *at = e->next;
        if (!weft_hash_equal(e->signature, signature)) {
            forget(c, e);
            *e = (weft_record){ 0 };
        }
    } else if (!(e = weft_host_alloc(sizeof *e))) {
        return NULL;
    }
    e->signature = signature;
    e->next = c->recordings;
    return c->recordings = e;
}

/* ---- recording --------------------------------------------------------------------------------------------------- */

static bool own_inputs(weft_ctx *c, weft_record *e, int n, weft_tensor *const *in) {
    for (int i = 0; i < n; i++)
        if (in[i])
            e->in[i] = weft_ref(weft_tensor_make(c, op_replay.name, in[i]->type, in[i]->rank, in[i]->shape));
    return weft_ok(c);
}

/* False where it cannot be recorded now. What failed may do well plainly, so the error is kept only of what was cancelled. */
static bool record(weft_ctx *c, weft_record *e, const weft_recordable *r, int n, weft_tensor *const *in) {
    const double flops = c->flops;
    weft_memory_give_back(&c->memory);       /* for the recording's own memory; later nothing can be given back */
    int status = c->kernels->record_begin(&c->env);
    if (status) {
        e->failures = TRIES;
        return false;
    }
    weft_scope s = weft_scope_named(c, NULL);
    weft_hold_open(&c->memory, &e->hold);
    weft_tensor *y = own_inputs(c, e, n, in) ? r->run(c, e->in, r->user) : NULL;
    if (y && weft_ok(c)) e->out = weft_ref(weft_op_dense(c, &op_replay, y));
    status = c->kernels->record_end(&c->env, &e->work);
    weft_scope_end(c, s, NULL);
    weft_hold_rest(&c->memory, &e->hold);
    e->flops = c->flops - flops;
    c->flops = flops;
    if (!status && weft_ok(c) && e->out && e->weights == c->weights_changed) return true;
    forget(c, e);
    e->failures++;
    if (c->status != WEFT_OK && c->status != WEFT_E_CANCELLED) {
        c->status = WEFT_OK;
        c->message[0] = '\0';
    }
    return false;
}

/* NULL where the recording was given up for the result's memory, or with the error set. */
static weft_tensor *replay(weft_ctx *c, weft_record *e, int n, weft_tensor *const *in) {
    weft_tensor *y = weft_tensor_make(c, op_replay.name, e->out->type, e->out->rank, e->out->shape);
    for (int i = 0; i < n && weft_ok(c); i++)
        if (in[i]) weft_plain(c, op_replay.name, in[i]);
    if (!weft_ok(c) || !e->work || e->weights != c->weights_changed) return NULL;
    e->busy = true;
    weft_hold_use(&c->memory, &e->hold);
    bool ok = true;
    for (int i = 0; i < n && ok; i++)
        if (in[i]) ok = weft_copy_into(c, &op_replay, in[i], e->in[i], 0);
    if (ok) weft_op_status(c, &op_replay, y->type, c->kernels->replay(&c->env, e->work));
    if (weft_ok(c)) weft_copy_into(c, &op_replay, e->out, y, 0);
    weft_hold_rest(&c->memory, &e->hold);
    e->busy = false;
    c->flops += e->flops;
    return weft_ok(c) ? y : NULL;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static bool is_recordable(const weft_ctx *c, const weft_recordable *r) {
    if (!c->kernels->record_begin || c->tape || c->shape_only || c->watch_finite || c->memory.hold) return false;
    for (const weft_tree *t = r->tree; t; t = t->below)
        if (!t->frozen || t->was_trained) return false;
    return true;
}

weft_tensor *weft_recorded(weft_ctx *c, const weft_recordable *r, int n, weft_tensor *const *in) {
    if (!weft_ok(c) || weft_cancelled(c)) return NULL;
    weft_record *e = is_recordable(c, r) ? find(c, signature_of(c, r, n, in)) : NULL;
    if (!e) return r->run(c, in, r->user);
    const bool same = e->ran && e->weights == c->weights_changed;
    if (e->work && !same) forget(c, e);
    if (!e->work && same && e->failures < TRIES) record(c, e, r, n, in);
    weft_tensor *y = e->work ? replay(c, e, n, in) : NULL;
    if (y || !weft_ok(c)) return y;
    e->busy = true;
    y = r->run(c, in, r->user);
    e->busy = false;
    e->ran = true;
    e->weights = c->weights_changed;
    return weft_ok(c) ? y : NULL;
}
