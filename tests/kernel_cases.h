/* Kernel tests: a case is a kernel's arguments, where its output goes, and how near the result must be. It is run on
 * the naive back end, then on the fast one with 1, 2 and 3 threads, whose bytes must be equal.
 *
 * KERNEL_TEST_MAIN runs a file's cases once for each instruction set that the processor has (WEFT_ISA in the
 * environment: that one only). Buffers live until buffers_free(); they have exactly their size, so that
 * AddressSanitizer sees an overrun, and outputs have guard bytes on both sides, so that any build sees one.
 *
 * With WEFT_TEST_CUDA the same file tests CUDA's kernels: compiled for the CPU (tests/cuda_host), or, where the
 * environment has WEFT_TEST_DEVICE=1, those of weft_cuda.so on a GPU, all buffers in memory that both sides see. So
 * whatever a kernel reads comes from buffer_new(): a GPU sees no static or automatic arrays.
 */
#ifndef WEFT_KERNEL_CASES_H
#define WEFT_KERNEL_CASES_H

#include <pthread.h>
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"
#include "tests/test.h"

/* ---- the back end that is tested ------------------------------------------------------------------------------ */

#ifdef WEFT_TEST_CUDA
#include "kernels/cuda/library.h"
extern const weft_cuda_contents weft_cuda_own;

static inline bool on_device(void) { return getenv("WEFT_TEST_DEVICE") != NULL; }

static inline bool emulated(void) { return !on_device(); }

static inline const weft_kernels *tested(void) {
    char why[1024];
    if (!on_device()) return weft_cuda_own.table();
    const weft_kernels *k = weft_kernels_cuda(why, sizeof why);
    if (k) return k;
    fprintf(stderr, "%s\n", why);
    exit(1);
}

/* One queue a process; every call waits for its kernel. */
static inline void *tested_stream(void) {
    static void *stream;
    if (stream) return stream;
    setenv("WEFT_CUDA_SYNC", "1", 1);
    if (on_device()) setenv("WEFT_CUDA_MANAGED", "1", 1);
    stream = tested()->open(0);
    if (stream) return stream;
    fprintf(stderr, "%s\n", tested()->last_error());
    exit(1);
}
enum { MOST_THREADS = 1, LEAST_OFF = 0, HINTS = 1 };
#else
static inline bool on_device(void) { return false; }
static inline bool emulated(void) { return false; }
static inline const weft_kernels *tested(void) { return weft_kernels_cpu(); }
static inline void *tested_stream(void) { return NULL; }
/* HINTS: scratch for speed is plenty, then none; CUDA's kernels want none. */
enum { MOST_THREADS = 3, LEAST_OFF = 1, HINTS = 2 };
#endif

/* A size of a long case; an emulated device takes its time. */
static inline int64_t shorter(int64_t n) { return emulated() ? (n + 3) / 4 : n; }

/* Memory that the tested kernels and the host see; on the host, of exactly this size. */
static inline void *shared_alloc(size_t bytes) { return on_device() ? tested()->mem_alloc(tested_stream(), bytes) : malloc(bytes); }
static inline void shared_free(void *p, size_t bytes) {
    if (on_device()) tested()->mem_free(tested_stream(), p, bytes);
    else free(p);
}

/* ---- numbers -------------------------------------------------------------------------------------------- */

static uint64_t random_state = 1;

/* splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t random_u64(void) {
    uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}
static inline double random_unit(void) { return (double)(random_u64() >> 11) * 0x1p-53; }
/* Bell-shaped, mean 0, spread 1: the sum of four uniform values. */
static inline double random_bell(void) {
    return (random_unit() + random_unit() + random_unit() + random_unit() - 2) * 1.7320508075688772;
}
/* low…high, both included. */
static inline int64_t random_int(int64_t low,
                                 int64_t high) { return low + (int64_t)(random_u64() % (uint64_t)(high - low + 1)); }

/* ---- buffers -------------------------------------------------------------------------------------------- */

#define GUARD 64

struct buffer { struct buffer *next; size_t all; _Alignas(16) unsigned char data[]; };
static struct buffer *buffers;

/* `bytes` of memory with a guard on both sides; off: bytes by which the start misses the allocator's alignment. */
static inline void *buffer_new(size_t bytes, size_t guard, size_t off) {
    const size_t all = sizeof(struct buffer) + off + 2 * guard + bytes;
    struct buffer *b = shared_alloc(all);
    if (!b) abort();
    *b = (struct buffer){ buffers, all };
    buffers = b;
    memset(b->data, 0xa5, off + 2 * guard + bytes);
    return b->data + guard + off;
}
static inline void buffers_free(void) {
    while (buffers) {
        struct buffer *next = buffers->next;
        shared_free(buffers, buffers->all);
        buffers = next;
    }
}
/* Whether the bytes around a guarded buffer are as they were. */
static inline bool guard_holds(const void *p, size_t bytes) {
    const unsigned char *start = p;
    for (size_t i = 1; i <= GUARD; i++)
        if (start[-(ptrdiff_t)i] != 0xa5 || start[bytes + i - 1] != 0xa5) return false;
    return true;
}

static inline size_t bytes_of(weft_dtype type, int64_t n) { return (size_t)n * weft_dtype_size(type); }

/* n values, bell-shaped around `mean`. They start one element after what the allocator aligned, as a slice may, or
 * `values_off` elements after it, where a test wants what aligned tensors take. */
static int values_off = 1;
static inline void *random_values(weft_dtype type, int64_t n, double mean, double spread) {
    void *p = buffer_new(bytes_of(type, n), 0, (size_t)values_off * weft_dtype_size(type));
    for (int64_t i = 0; i < n; i++) ref_put(type, p, i, mean + spread * random_bell());
    return p;
}

/* Does what follows with values off their alignment; for CUDA's kernels, which load aligned ones several at once, on it
 * too. */
#define EACH_ALIGNMENT for (int off_by = LEAST_OFF; off_by < 2 ? values_off = off_by, true : false; off_by++)

/* ---- the surroundings: counted scratch that can fail, a cancel flag ------------------------------------------ */

struct scratch { size_t live; int64_t calls, fail_at; bool foreign; pthread_t thread; };

static inline void *scratch_alloc(void *owner, size_t bytes) {
    struct scratch *s = owner;
    if (!pthread_equal(s->thread, pthread_self())) s->foreign = true;   /* the owner belongs to the caller's thread */
    if (s->calls++ == s->fail_at) return NULL;
    void *p = on_device() ? shared_alloc(bytes) : aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (p) memset(p, 0xff, bytes);              /* NaN: what a kernel did not write shows */
    if (p) s->live += bytes;
    return p;
}
static inline void scratch_release(void *owner, void *p, size_t bytes) {
    struct scratch *s = owner;
    if (p) s->live -= bytes;
    shared_free(p, bytes);
}
static inline weft_env kernel_env(struct scratch *s, int threads, weft_precision precision) {
    *s = (struct scratch){ .fail_at = -1, .thread = pthread_self() };
    return (weft_env){ .threads = threads, .precision = precision, .scratch_hint = 64 << 20, .owner = s,
                       .alloc = scratch_alloc, .release = scratch_release, .stream = tested_stream() };
}

/* ---- a case --------------------------------------------------------------------------------------------- */

struct kernel_case {
    enum weft_kernel_id id;
    void *args;
    void **out;                     /* where args name the output */
    weft_dtype type;                /* the output's type and elements */
    int64_t count;
    const void *before;             /* what the output holds before, or NULL */
    const void **alias;             /* an input that is to be the output itself (holding `before`), or NULL */
    const void **weight;            /* where args name the packed weights, or NULL; */
    weft_pack_args plain;           /* their plain form */
    weft_precision precision;
    int64_t hint;                   /* scratch for speed alone: bytes; 0: plenty, −1: none */
    /* Allowed: the rms of the difference, relative to the result's rms (and 20 times that for one value); or, where
     * `each` is set, every difference, relative to its own value plus `floor`.  0 and no floor: the same bits, NaN
      * aside. */
    double tolerance, floor;
    bool each;
    double terms;                   /* not `each`: the size of what is summed, where few results may cancel by chance */
};

static inline int kernel_call(const weft_kernels *k, enum weft_kernel_id id, const weft_env *env, const void *args) {
    switch (id) {
#define K(name) case WEFT_KERNEL_##name: return k->name(env, args);
    WEFT_KERNEL_LIST(K)
#undef K
    default: return -1;
    }
}

/* Runs the case on a back end into a new buffer; *status is what the kernel answered. */
static inline void *case_run(const struct kernel_case *c, const weft_kernels *k, weft_env *env, int *status) {
    void *y = buffer_new(bytes_of(c->type, c->count), GUARD, (size_t)values_off * weft_dtype_size(c->type));
    if (c->before) memcpy(y, c->before, bytes_of(c->type, c->count));
    *c->out = y;
    if (c->alias) *c->alias = y;
    if (c->hint) env->scratch_hint = c->hint < 0 ? 0 : (size_t)c->hint;
    if (c->weight) {
        weft_pack_args pack = c->plain;
        pack.dst = buffer_new(k->pack_bytes(&pack) + 64, 0, 0);
        pack.dst = (void *)(((uintptr_t)pack.dst + 63) & ~(uintptr_t)63);
        *status = k->pack(env, &pack);
        *c->weight = pack.dst;
        if (*status) return y;
    }
    *status = kernel_call(k, c->id, env, c->args);
    return y;
}

/* One step of a 16-bit result of this size: computed in f32, it may be rounded the other way than the oracle's. */
static inline double type_step(const struct kernel_case *c, double size) {
    if (c->tolerance == 0 && c->floor == 0) return 0;
    return c->type == WEFT_F16 ? fmax(size * 0x1p-10, 0x1p-24) : c->type == WEFT_BF16 ? fmax(size * 0x1p-7, 0x1p-133) : 0;
}

static inline bool same_value(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

/* What CUDA's products may lose besides. In fast precision f32 operands are cut to TF32's 10 bits behind the point: each
 * is off by up to 2⁻¹⁰ of itself, and their product by twice that. cuDNN rounds a 16-bit convolution before a row is
 * added to it: by up to half a step, 2⁻¹² or 2⁻⁹ of a value of one in the mean. Attention rounds 16-bit weights before
 * they meet the values, as tensor cores take them: by up to half a step, 2⁻¹¹ or 2⁻⁸ of each, and where results are few
 * they may all be off by that. */
static inline double case_tolerance(const struct kernel_case *c) {
#ifdef WEFT_TEST_CUDA
    const bool conv = c->id == WEFT_KERNEL_conv2d || c->id == WEFT_KERNEL_conv2d_grad_input
                   || c->id == WEFT_KERNEL_conv2d_grad_weight;
    const bool attention = c->id == WEFT_KERNEL_attention || c->id == WEFT_KERNEL_attention_grad;
    const double half_step = c->type == WEFT_F16 ? 0x1p-12 : c->type == WEFT_BF16 ? 0x1p-9 : 0;
    const bool mixed = c->weight && c->plain.type != c->type, in_f32 = c->type == WEFT_F32 || mixed;
    if (attention && !c->each) return c->tolerance + 2 * half_step;
    if (c->each || !(conv || c->id == WEFT_KERNEL_gemm || c->id == WEFT_KERNEL_matmul)) return c->tolerance;
    if (in_f32) return c->precision == WEFT_PRECISION_FAST ? fmax(c->tolerance, 1e-3) : c->tolerance;
    if (conv) return fmax(c->tolerance, half_step);
#endif
    return c->tolerance;
}

/* How far `got` is from `want` as a multiple of what the case allows (≤1 passes), and the worst element. */
static inline double case_error(const struct kernel_case *c, const void *got, const void *want, int64_t *worst) {
    const double tolerance = case_tolerance(c);
    double sum = 0, norm = 0, largest = 0;
    int64_t finite = 0;
    for (int64_t i = 0; i < c->count; i++) {
        double w = ref_get(c->type, want, i);
        if (isfinite(w)) { norm += w * w; finite++; }
    }
    double rms = finite ? fmax(c->terms, sqrt(norm / (double)finite)) : 0, each = 0;
    *worst = 0;
    for (int64_t i = 0; i < c->count; i++) {
        double g = ref_get(c->type, got, i), w = ref_get(c->type, want, i), size = isfinite(w) ? fabs(w) : 0;
        double d = same_value(g, w) ? 0 : fabs(g - w);
        if (isnan(d)) d = INFINITY;
        d = fmax(0, d - type_step(c, size));
        double ratio = d == 0 ? 0 : d / (c->each ? tolerance * size + c->floor : 1);
        if (ratio > each) { each = ratio; *worst = i; }
        if (d > largest) largest = d;
        sum += d * d;
    }
    if (largest == 0) return 0;
    if (c->each) return each;
    if (!(rms > 0) || !(tolerance > 0)) return INFINITY;
    return fmax(sqrt(sum / (double)c->count) / (rms * tolerance), largest / (20 * rms * tolerance));
}

static inline bool case_near(const struct kernel_case *c, const void *got, const void *want, const char *what) {
    int64_t at;
    double error = case_error(c, got, want, &at);
    if (getenv("WEFT_TEST_VERBOSE")) printf("    %-12s %-40s %.3f of what is allowed\n", weft_kernel_names[c->id],
                                            what, error);
    if (error <= 1) return true;
    TEST_FAIL("%s, %s: %.3g times what is allowed; element %" PRId64 " of %" PRId64 " is %.9g, expected %.9g",
              weft_kernel_names[c->id], what, error, at, c->count, ref_get(c->type, got, at),
              ref_get(c->type, want, at));
    return false;
}

/* The case on the fast back end with 1, 2 and 3 threads, against `want`. `what` names the case in messages. */
static inline bool case_check_against(const struct kernel_case *c, const void *want, const char *what) {
    const weft_kernels *fast = tested();
    const void *first = NULL;
    if (!fast->types[c->id]) return true;       /* not there yet */
    int failures = test_failures;
    for (int threads = 1; threads <= MOST_THREADS && test_failures == failures; threads++) {
        struct scratch s;
        weft_env env = kernel_env(&s, threads, c->precision);
        int status;
        void *got = case_run(c, fast, &env, &status);
        if (status) TEST_FAIL("%s, %s, %d threads: status %d", weft_kernel_names[c->id], what, threads, status);
        else if (!guard_holds(got, bytes_of(c->type, c->count)))
            TEST_FAIL("%s, %s: wrote outside its output", weft_kernel_names[c->id], what);
        else if (!first) case_near(c, got, want, what);
        else if (memcmp(got, first, bytes_of(c->type, c->count)))
            TEST_FAIL("%s, %s: other bytes with %d threads than with one", weft_kernel_names[c->id], what, threads);
        if (s.live) TEST_FAIL("%s, %s: %zu bytes of scratch kept", weft_kernel_names[c->id], what, s.live);
        if (s.foreign) TEST_FAIL("%s, %s: asked for scratch from another thread", weft_kernel_names[c->id], what);
        if (!first) first = got;
    }
    return test_failures == failures;
}

/* The reference's result; NULL, with the failure noted, where it has none. */
static inline void *case_want(const struct kernel_case *c, const char *what) {
    struct scratch s;
    weft_env env = kernel_env(&s, 1, c->precision);
    int status;
    void *want = case_run(c, weft_kernels_reference(), &env, &status);
    if (status) TEST_FAIL("%s, %s: the reference answers %d", weft_kernel_names[c->id], what, status);
    if (s.live) TEST_FAIL("%s, %s: the reference keeps scratch", weft_kernel_names[c->id], what);
    if (!guard_holds(want, bytes_of(c->type, c->count)))
        TEST_FAIL("%s, %s: the reference writes outside its output", weft_kernel_names[c->id], what);
    return status ? NULL : want;
}

static inline bool case_check(const struct kernel_case *c, const char *what) {
    const void *want = case_want(c, what);
    return want && case_check_against(c, want, what);
}

/* Does the fast back end take this type for this kernel? What it does not take, the runtime refuses by the same
 * table. */
static inline bool fast_takes(enum weft_kernel_id id, weft_dtype type) { return tested()->types[id] >> type & 1; }

/* What a sum of k f32 products may cost: a plain chain of k additions of random signs is off by 2.4e-8·√k of the
 * result's rms (each rounds its partial sum, which grows as the root of its length); twice that, for the sums of sums
  * of blocked loops, and a few roundings of bias, residual and the result. */
static inline double sum_tolerance(int64_t k) { return fmin(1e-5, 3e-7 + 5e-8 * sqrt((double)k)); }

/* ---- once for each instruction set ------------------------------------------------------------------------- */

/* Whether the fast back end runs on this set when asked; found out in a process of its own, because it chooses once. */
static inline bool isa_there(const char *isa) {
    setenv("WEFT_ISA", isa, 1);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) _exit(strstr(weft_kernels_cpu()->describe(), isa) ? 0 : 1);
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static inline int kernel_test_main(int argc, char **argv) {
    static const char *const isas[] = { "portable", "avx2", "avx512" };
    int failed = 0;
    if (!getenv("OMP_WAIT_POLICY")) {       /* or three threads on two cores spin; it is read at a program's start */
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv);
    }
#ifdef WEFT_TEST_CUDA
    return test_main(argc, argv);
#endif
    if (getenv("WEFT_ISA")) return test_main(argc, argv);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (!isa_there(isas[i])) continue;
        printf("on %s\n", isas[i]);
        failed |= test_main(argc, argv);
    }
    return failed;
}
#define KERNEL_TEST_MAIN int main(int argc, char **argv) { return kernel_test_main(argc, argv); }

#endif
