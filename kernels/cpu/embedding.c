/* Embeddings: rows of a table by number, and their gradient; the sinusoids of a timestep. */

#include "kernels/cpu/convert.h"
#include "kernels/cpu/threads.h"

#define COLUMNS 64          /* of one work item of the gradient */

static int64_t id_at(weft_dtype type, const void *ids, int64_t i) {
    return type == WEFT_I64 ? ((const int64_t *)ids)[i] : ((const int32_t *)ids)[i];
}

int ISA_NAME(embedding)(const weft_env *env, const weft_embedding_args *a) {
    if (!is_type(a->type) || !is_type(a->table_type)) return WEFT_K_NO_TYPE;
    if (a->id_type != WEFT_I64 && a->id_type != WEFT_I32) return WEFT_K_NO_TYPE;
    const size_t row = (size_t)a->c * weft_dtype_size(a->table_type), out = (size_t)a->c * weft_dtype_size(a->type);
    bool outside = false;
#pragma omp parallel for reduction(|| : outside) num_threads(threads_for(env, (double)a->n * (double)a->c))
    for (int64_t i = 0; i < a->n; i++) {
        const int64_t id = id_at(a->id_type, a->ids, i);
        if (id < 0 || id >= a->rows) outside = true;
        else ISA_NAME(convert_row)(a->type, (char *)a->y + (size_t)i * out, a->table_type,
                                   (const char *)a->table + (size_t)id * row, a->c);
    }
    return outside ? WEFT_K_NO_CASE : WEFT_K_OK;
}

/* A thread has some columns of the table: all of its rows, and all ids in their order. */
int ISA_NAME(embedding_grad)(const weft_env *env, const weft_embedding_grad_args *a) {
    if (a->type != WEFT_F32 || (a->id_type != WEFT_I64 && a->id_type != WEFT_I32)) return WEFT_K_NO_TYPE;
    for (int64_t i = 0; i < a->n; i++)
        if (id_at(a->id_type, a->ids, i) < 0 || id_at(a->id_type, a->ids, i) >= a->rows) return WEFT_K_NO_CASE;
#pragma omp parallel for num_threads(threads_for(env, (double)(a->n + a->rows) * (double)a->c))
    for (int64_t from = 0; from < a->c; from += COLUMNS) {
        const int64_t columns = MIN(COLUMNS, a->c - from);
        float *table = (float *)a->dtable + from;
        for (int64_t row = 0; row < (a->accumulate ? 0 : a->rows); row++) memset(table + row * a->c, 0, (size_t)columns * sizeof(float));
        for (int64_t i = 0; i < a->n; i++) {
            const float *dy = (const float *)a->dy + i * a->c + from;
            float *to = table + id_at(a->id_type, a->ids, i) * a->c;
            for (int64_t c = 0; c < columns; c++) to[c] += dy[c];
        }
    }
    return WEFT_K_OK;
}

/* Every step rounds to float as PyTorch's do: an angle near 1000 shows each of them in its fifth digit. The exponential
 * and the sinusoids are worked out in double, so that they are the nearest float. */
int ISA_NAME(timestep)(const weft_env *env, const weft_timestep_args *a) {
    if (a->type != WEFT_F32) return WEFT_K_NO_TYPE;
    const int64_t half = a->dim / 2;
    const float rate = (float)-log(a->max_period), width = (float)((double)half - a->shift), scale = (float)a->scale;
#pragma omp parallel for num_threads(threads_for(env, 100.0 * (double)a->n * (double)half))
    for (int64_t i = 0; i < a->n; i++) {
        const float t = ((const float *)a->t)[i];
        float *y = (float *)a->y + i * a->dim;
        for (int64_t j = 0; j < half; j++) {
            const float f = (float)exp(rate * (float)j / width), angle = t * f * scale;
            y[a->flip ? half + j : j] = (float)sin(angle);
            y[a->flip ? j : half + j] = (float)cos(angle);
        }
        if (a->dim % 2) y[a->dim - 1] = 0;
    }
    return WEFT_K_OK;
}
