/* The fast back end's table: the best instruction set that processor and system offer, chosen once, at the first call.
 *
 * The environment's WEFT_ISA (avx512, avx2, portable) asks for a lesser set; one that is not there, or an unknown name,
 * changes nothing. f64 goes to the naive kernels.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernels/kernels.h"

const char *const weft_kernel_names[WEFT_KERNEL_COUNT] = {
#define K(name) #name,
    WEFT_KERNEL_LIST(K)
#undef K
};

extern const weft_kernels weft_cpu_table_portable;
#ifdef WEFT_HAVE_X86
#include <cpuid.h>
extern const weft_kernels weft_cpu_table_avx2, weft_cpu_table_avx512;

/* __builtin_cpu_supports asks the system too: whether it keeps the wide registers. clang 14 knows no "f16c" there. */
static bool has_avx2(void) {
    unsigned a, b, c = 0, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif
static bool always(void) { return true; }

static const struct isa { const char *name; const weft_kernels *table; bool (*has)(void); } isas[] = {
#ifdef WEFT_HAVE_X86
    { "avx512", &weft_cpu_table_avx512, has_avx512 },
    { "avx2", &weft_cpu_table_avx2, has_avx2 },
#endif
    { "portable", &weft_cpu_table_portable, always },
};
enum { ISAS = sizeof isas / sizeof isas[0] };

static const struct isa *chosen;

/* ---- f64 to the naive kernels ------------------------------------------------------------------------------- */

/* Whether f64 has a part in a call. Every argument struct begins with its (or its source's) type. */
static bool is_f64(enum weft_kernel_id id, const void *args) {
    weft_dtype first = *(const weft_dtype *)args, second = first;
    if (id == WEFT_KERNEL_copy) second = ((const weft_copy_args *)args)->dst_type;
    if (id == WEFT_KERNEL_embedding) second = ((const weft_embedding_args *)args)->table_type;
    return first == WEFT_F64 || second == WEFT_F64;
}

/* A product in f64. Weights of another type were packed for the fast kernels: the naive one gets them plain, as it wants them. */
static int naive_product(enum weft_kernel_id id, const weft_env *env, const void *args) {
    const weft_kernels *naive = weft_kernels_reference();
    union { weft_gemm_args gemm; weft_conv2d_args conv; weft_conv2d_grad_input_args grad; } a;
    weft_pack_args w;
    const void **weight;
    if (id == WEFT_KERNEL_gemm) {
        a.gemm = *(const weft_gemm_args *)args;
        w = (weft_pack_args){ .type = a.gemm.wtype, .n = a.gemm.n, .taps = 1, .k = a.gemm.k };
        weight = &a.gemm.w;
    } else if (id == WEFT_KERNEL_conv2d) {
        a.conv = *(const weft_conv2d_args *)args;
        w = (weft_pack_args){ .type = a.conv.wtype, .n = a.conv.o, .taps = (int64_t)a.conv.kh * a.conv.kw, .k = a.conv.c };
        weight = &a.conv.weight;
    } else {
        a.grad = *(const weft_conv2d_grad_input_args *)args;
        w = (weft_pack_args){ .type = a.grad.wtype, .n = a.grad.c, .taps = (int64_t)a.grad.kh * a.grad.kw, .k = a.grad.o };
        weight = &a.grad.weight;
    }
    w.src = *weight;
    w.stride_k = 1;
    w.stride_tap = w.k;
    w.stride_n = w.taps * w.k;
    size_t bytes = 0;
    if (w.type != WEFT_F64 && w.n > 0 && w.taps > 0 && w.k > 0) {
        bytes = naive->pack_bytes(&w);
        *weight = w.dst = env->alloc(env->owner, bytes);
        if (!w.dst) return WEFT_K_NO_MEMORY;
    }
    int status = w.dst ? chosen->table->unpack(env, &w) : WEFT_K_OK;
    if (status == WEFT_K_OK)
        status = id == WEFT_KERNEL_gemm ? naive->gemm(env, &a.gemm) : id == WEFT_KERNEL_conv2d ? naive->conv2d(env, &a.conv)
               : naive->conv2d_grad_input(env, &a.grad);
    if (w.dst) env->release(env->owner, w.dst, bytes);
    return status;
}

#define K(name) \
    static int cpu_##name(const weft_env *env, const weft_##name##_args *a) { \
        const enum weft_kernel_id id = WEFT_KERNEL_##name; \
        if (!is_f64(id, a)) return chosen->table->name(env, a); \
        if (id == WEFT_KERNEL_gemm || id == WEFT_KERNEL_conv2d || id == WEFT_KERNEL_conv2d_grad_input) return naive_product(id, env, a); \
        return weft_kernels_reference()->name(env, a); \
    }
WEFT_KERNEL_LIST(K)
#undef K

static size_t cpu_pack_bytes(const weft_pack_args *a) {
    return a->type == WEFT_F64 ? weft_kernels_reference()->pack_bytes(a) : chosen->table->pack_bytes(a);
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

/* Blocks from here on get pages of 2 MiB where the system gives such on request: walks through large tensors miss the
 * TLB far less, and their first touch takes one fault where it took 512. */
static const size_t huge_page = (size_t)2 << 20;

static void *map_huge(size_t bytes) {
    size_t size = (bytes + 4095) / 4096 * 4096, all = size + huge_page;
    char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t head = (size_t)(-(uintptr_t)p & (huge_page - 1));
    if (head) munmap(p, head);
    if (all - head > size) munmap(p + head + size, all - head - size);
    madvise(p + head, size, MADV_HUGEPAGE);
    return p + head;
}

static void *mem_alloc(void *stream, size_t bytes) {
    (void)stream;
    if (bytes > SIZE_MAX / 2) return NULL;
    if (bytes >= huge_page) return map_huge(bytes);
    return aligned_alloc(64, bytes ? (bytes + 63) / 64 * 64 : 64);
}

static void mem_free(void *stream, void *p, size_t bytes) {
    (void)stream;
    if (p && bytes >= huge_page) munmap(p, (bytes + 4095) / 4096 * 4096);
    else free(p);
}

static int mem_copy(const weft_env *env, void *dst, const void *src, size_t bytes) {
    (void)env;
    if (bytes) memcpy(dst, src, bytes);
    return WEFT_K_OK;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

static const char *describe(void) { return chosen->name; }

static weft_kernels cpu = {
    .name = "cpu", .describe = describe,
    .mem_alloc = mem_alloc, .mem_free = mem_free, .mem_copy = mem_copy,
    .pack_bytes = cpu_pack_bytes,
#define K(name) .name = cpu_##name,
    WEFT_KERNEL_LIST(K)
#undef K
};

static void choose(void) {
    const char *wish = getenv("WEFT_ISA");
    int i = 0;
#ifdef WEFT_HAVE_X86
    __builtin_cpu_init();
#endif
    while (!isas[i].has()) i++;
    for (int j = i; wish && j < ISAS; j++)
        if (!strcmp(wish, isas[j].name) && isas[j].has()) i = j;
    chosen = &isas[i];
    for (int k = 0; k < WEFT_KERNEL_COUNT; k++) cpu.types[k] = chosen->table->types[k] | 1u << WEFT_F64;
}

const weft_kernels *weft_kernels_cpu(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose);
    return &cpu;
}
