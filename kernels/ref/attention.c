/* Attention, naively: softmax(scale·q·kᵀ)·v one query at a time, the scores worked out three times over (for their
 * largest, for the sum of their exponentials, for the result), so that no row of them is ever held. */
#include "kernels/ref/ref.h"

/* The score of query i and key j in the head whose q and k begin at these elements. */
static double score(const weft_attention_args *a, int64_t q, int64_t k, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t c = 0; c < a->d; c++)
        sum += ref_get(a->type, a->q, q + i * a->q_token + c) * ref_get(a->type, a->k, k + j * a->k_token + c);
    return sum * a->scale;
}

static void query(const weft_attention_args *a, int64_t batch, int64_t head, int64_t i) {
    int64_t q = batch * a->q_batch + head * a->q_head, k = batch * a->k_batch + head * a->k_head;
    int64_t v = batch * a->v_batch + head * a->v_head, o = batch * a->o_batch + head * a->o_head + i * a->o_token;
    int64_t last = i + a->tk - a->tq;                           /* the last key that a causal query sees */
    int64_t keys = !a->causal || last >= a->tk ? a->tk : last < 0 ? 0 : last + 1;
    double largest = -INFINITY, total = 0;
    for (int64_t j = 0; j < keys; j++) {
        double s = score(a, q, k, i, j);
        if (s > largest || isnan(s)) largest = s;
    }
    for (int64_t j = 0; j < keys; j++) total += exp(score(a, q, k, i, j) - largest);
    for (int64_t c = 0; c < a->d; c++) {
        double sum = 0;
        for (int64_t j = 0; j < keys; j++)
            sum += exp(score(a, q, k, i, j) - largest) / total * ref_get(a->type, a->v, v + j * a->v_token + c);
        ref_put(a->type, a->o, o + c, sum);
    }
}

int weft_ref_attention(const weft_env *env, const weft_attention_args *a) {
    if (!ref_takes(REF_FLOATS, a->type)) return WEFT_K_NO_TYPE;
    for (int64_t batch = 0; batch < a->batch; batch++)
        for (int64_t head = 0; head < a->heads; head++)
            for (int64_t i = 0; i < a->tq; i++) {
                if (ref_cancelled(env)) return WEFT_K_CANCELLED;
                query(a, batch, head, i);
            }
    return WEFT_K_OK;
}
