/* Attention, naively: softmax(scale·q·kᵀ)·v one query at a time, with that query's scores in scratch. */
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
