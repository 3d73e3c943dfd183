/* Attention, naively: softmax(scale·q·kᵀ)·v one query at a time, with that query's scores in scratch; and its gradient, whose
 * dk and dv gather in scratch, in double. */
#include "kernels/ref/ref.h"

/* One query: s holds a value for each key. */
static void query(const weft_attention_args *a, int64_t batch, int64_t head, int64_t i, double *s) {
    int64_t q = batch * a->q_batch + head * a->q_head + i * a->q_token, k = batch * a->k_batch + head * a->k_head;
    int64_t v = batch * a->v_batch + head * a->v_head, o = batch * a->o_batch + head * a->o_head + i * a->o_token;
    int64_t last = i + a->tk - a->tq;                           /* the last key that a causal query sees */
    int64_t keys = !a->causal || last >= a->tk ? a->tk : last < 0 ? 0 : last + 1;
    double largest = -INFINITY, total = 0;
    for (int64_t j = 0; j < keys; j++) {
        double sum = 0;
        for (int64_t c = 0; c < a->d; c++)
            sum += ref_get(a->type, a->q, q + c) * ref_get(a->type, a->k, k + j * a->k_token + c);
        s[j] = a->scale * sum;
        if (s[j] > largest || isnan(s[j])) largest = s[j];
    }
    for (int64_t j = 0; j < keys; j++) total += s[j] = exp(s[j] - largest);
    for (int64_t c = 0; c < a->d; c++) {
        double sum = 0;
        for (int64_t j = 0; j < keys; j++) sum += s[j] / total * ref_get(a->type, a->v, v + j * a->v_token + c);
        ref_put(a->type, a->o, o + c, sum);
    }
    weft_dtype type = a->type == WEFT_F32 ? WEFT_F32 : WEFT_F64;
    if (a->lse) ref_put(type, a->lse, (batch * a->heads + head) * a->tq + i, keys ? largest + log(total) : -INFINITY);
}

int weft_ref_attention(const weft_env *env, const weft_attention_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->batch * a->heads * a->tq * a->d == 0) return WEFT_K_OK;
    int status = WEFT_K_OK;
    size_t bytes = (size_t)a->tk * sizeof(double) + 1;          /* one more: no key is no failure */
    double *s = env->alloc(env->owner, bytes);
    if (!s) return WEFT_K_NO_MEMORY;
    for (int64_t batch = 0; batch < a->batch; batch++)
        for (int64_t head = 0; head < a->heads; head++)
            for (int64_t i = 0; i < a->tq && !status; i++) {
                query(a, batch, head, i, s);
                if (ref_cancelled(env)) status = WEFT_K_CANCELLED;
            }
    env->release(env->owner, s, bytes);
    return status;
}

static double dot(const weft_attention_grad_args *a, const void *x, int64_t at_x, const void *y, int64_t at_y) {
    double sum = 0;
    for (int64_t c = 0; c < a->d; c++) sum += ref_get(a->type, x, at_x + c) * ref_get(a->type, y, at_y + c);
    return sum;
}

/* One query of one head: dq written, its part added to dk and dv (tk × d each). */
static void query_grad(const weft_attention_grad_args *a, int64_t batch, int64_t head, int64_t i, double *dq, double *dk, double *dv) {
    const int64_t q = batch * a->q_batch + head * a->q_head + i * a->q_token, o = batch * a->o_batch + head * a->o_head + i * a->o_token;
    const int64_t last = i + a->tk - a->tq, keys = !a->causal || last >= a->tk ? a->tk : last < 0 ? 0 : last + 1;
    const double lse = ref_get(a->type == WEFT_F32 ? WEFT_F32 : WEFT_F64, a->lse, (batch * a->heads + head) * a->tq + i);
    const double own = dot(a, a->dout, o, a->o, o);
    memset(dq, 0, (size_t)a->d * sizeof *dq);
    for (int64_t j = 0; j < keys; j++) {
        const int64_t k = batch * a->k_batch + head * a->k_head + j * a->k_token;
        const int64_t v = batch * a->v_batch + head * a->v_head + j * a->v_token;
        const double p = exp(a->scale * dot(a, a->q, q, a->k, k) - lse), ds = a->scale * p * (dot(a, a->dout, o, a->v, v) - own);
        for (int64_t c = 0; c < a->d; c++) {
            dq[c] += ds * ref_get(a->type, a->k, k + c);
            dk[j * a->d + c] += ds * ref_get(a->type, a->q, q + c);
            dv[j * a->d + c] += p * ref_get(a->type, a->dout, o + c);
        }
    }
    for (int64_t c = 0; c < a->d && a->dq; c++)
        ref_put(a->type, a->dq, batch * a->dq_batch + head * a->dq_head + i * a->dq_token + c, dq[c]);
}

int weft_ref_attention_grad(const weft_env *env, const weft_attention_grad_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    if (a->batch * a->heads * a->d == 0) return WEFT_K_OK;
    const size_t each = (size_t)(a->tk * a->d), bytes = (2 * each + (size_t)a->d) * sizeof(double);
    int status = WEFT_K_OK;
    double *dk = env->alloc(env->owner, bytes), *dv = dk + each;
    if (!dk) return WEFT_K_NO_MEMORY;
    for (int64_t item = 0; item < a->batch * a->heads && !status; item++) {
        const int64_t batch = item / a->heads, head = item % a->heads;
        memset(dk, 0, bytes);
        for (int64_t i = 0; i < a->tq && !status; i++) {
            query_grad(a, batch, head, i, dv + each, dk, dv);
            if (ref_cancelled(env)) status = WEFT_K_CANCELLED;
        }
        for (int64_t i = 0; i < a->tk * a->d; i++) {
            const int64_t j = i / a->d, c = i % a->d;
            if (a->dk) ref_put(a->type, a->dk, batch * a->dk_batch + head * a->dk_head + j * a->dk_token + c, dk[i]);
            if (a->dv) ref_put(a->type, a->dv, batch * a->dv_batch + head * a->dv_head + j * a->dv_token + c, dv[i]);
        }
    }
    env->release(env->owner, dk, bytes);
    return status;
}
