/* Plans by key, the libraries' part of a queue, and scratch: what gemm.c, conv.c, blas.c and dnn.c share. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/products.h"

/* ---- plans -------------------------------------------------------------------------------------------------- */

void cuda_key_add(cuda_plan_key *key, int64_t v) { key->v[key->count++] = v; }

/* FNV-1a (Fowler, Noll, Vo), a number at a time. */
static uint64_t hash_of(const cuda_plan_key *key) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < key->count; i++) h = (h ^ (uint64_t)key->v[i]) * UINT64_C(0x100000001b3);
    return h;
}

void *cuda_plan_find(cuda_plans *p, const cuda_plan_key *key) {
    const uint64_t hash = hash_of(key);
    for (int i = 0; i < p->count; i++) {
        if (p->hash[i] != hash || p->key[i].count != key->count) continue;
        if (memcmp(p->key[i].v, key->v, (size_t)key->count * sizeof *key->v)) continue;
        p->used[i] = ++p->clock;
        return p->plan[i];
    }
    return NULL;
}

void cuda_plan_keep(cuda_plans *p, const cuda_plan_key *key, void *plan) {
    int at = p->count;
    if (at < CUDA_MOST_PLANS) {
        p->count++;
    } else {
        at = 0;
        for (int i = 1; i < CUDA_MOST_PLANS; i++)
            if (p->used[i] < p->used[at]) at = i;
        p->drop(p->plan[at]);
    }
    p->hash[at] = hash_of(key);
    p->key[at] = *key;
    p->plan[at] = plan;
    p->used[at] = ++p->clock;
}

void cuda_plans_free(cuda_plans *p) {
    for (int i = 0; i < p->count; i++) p->drop(p->plan[i]);
    p->count = 0;
}

bool cuda_plans_are_told(void) {
    const char *tells = getenv("WEFT_CUDA_PLANS");
    return tells && !strcmp(tells, "1");
}

void cuda_plan_tell(const char *who, const cuda_plan_key *key, const char *what) {
    if (!cuda_plans_are_told()) return;
    fprintf(stderr, "plan for %s:", who);
    for (int i = 0; i < key->count; i++) fprintf(stderr, " %" PRId64, key->v[i]);
    fprintf(stderr, ": %s\n", what);
}

/* ---- the queue's part --------------------------------------------------------------------------------------- */

int cuda_products_of(const weft_env *env, struct cuda_products **products) {
    cuda_queue *q = cuda_queue_of(env);
    const int status = cuda_enter(q);
    if (status) return status;
    if (!q->products && !(q->products = calloc(1, sizeof *q->products))) {
        cuda_fail("", "no memory");
        return WEFT_K_NO_MEMORY;
    }
    *products = q->products;
    return WEFT_K_OK;
}

void cuda_products_free(cuda_queue *q) {
    if (!q->products) return;
    cuda_blas_free(q->products->blas);
    cuda_dnn_free(q->products->dnn);
    free(q->products);
    q->products = NULL;
}

/* ---- scratch ------------------------------------------------------------------------------------------------ */

int cuda_scratch_new(const weft_env *env, size_t bytes, cuda_scratch *s) {
    *s = (cuda_scratch){ 0 };
    if (!bytes) return WEFT_K_OK;
    if (bytes > SIZE_MAX / 2) return WEFT_K_NO_MEMORY;
    s->bytes = bytes + 255;
    s->all = env->alloc(env->owner, s->bytes);
    if (!s->all) return *s = (cuda_scratch){ 0 }, WEFT_K_NO_MEMORY;
    s->p = (void *)(((uintptr_t)s->all + 255) & ~(uintptr_t)255);
    return WEFT_K_OK;
}

void cuda_scratch_free(const weft_env *env, cuda_scratch *s) {
    if (s->all) env->release(env->owner, s->all, s->bytes);
    *s = (cuda_scratch){ 0 };
}

int cuda_to_f32(const weft_env *env, weft_dtype type, int64_t rows, int64_t columns, int64_t *row, const void **x,
                cuda_scratch *s) {
    *s = (cuda_scratch){ 0 };
    if (type == WEFT_F32) return WEFT_K_OK;
    int status = cuda_scratch_new(env, (size_t)rows * (size_t)columns * sizeof(float), s);
    if (status) return status;
    const weft_copy_args a = { .src_type = type, .dst_type = WEFT_F32, .rank = 2, .shape = { rows, columns },
                               .src_stride = { *row, 1 }, .dst_stride = { columns, 1 }, .src = *x, .dst = s->p };
    if ((status = weft_cuda_copy(env, &a))) return cuda_scratch_free(env, s), status;
    *x = s->p;
    *row = columns;
    return WEFT_K_OK;
}
