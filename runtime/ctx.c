/* The context: back end, threads, the sticky error with the path of the open scopes, cancelling, progress. */
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/autograd.h"
#include "runtime/internal.h"
#include "runtime/json_text.h"

enum { MAX_THREADS = 1024 };

/* What a kernel may take for speed alone: a quarter of what the limit leaves, and no more than this. */
static const size_t most_scratch_hint = (size_t)512 << 20;

const char *weft_status_name(weft_status s) {
    static const char *const name[WEFT_STATUS_COUNT] = {
        "ok", "argument", "shape", "type", "memory", "file", "format", "params", "device", "cancelled", "internal",
    };
    return (unsigned)s < WEFT_STATUS_COUNT ? name[s] : "?";
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

/* Cores that a control group's quota pays for (cgroup v2: "quota period" in microseconds, or "max period"); 0: none. */
static int quota_cores(void) {
    long long quota, period;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return 0;
    int read = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    if (read != 2 || quota < 1 || period < 1) return 0;
    long long cores = (quota - 1) / period + 1;
    return cores < MAX_THREADS ? (int)cores : MAX_THREADS;
}

/* Cores that this process may use. */
static int cores(void) {
    int count = 0, quota = quota_cores();
    for (int room = 1024; room <= 1 << 20; room *= 2) {     /* too small a set is refused */
        cpu_set_t *set = CPU_ALLOC(room);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE(room);
        bool known = sched_getaffinity(0, size, set) == 0;
        if (known) count = CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (known) break;
    }
    if (quota && quota < count) count = quota;
    return count < 1 ? 1 : count > MAX_THREADS ? MAX_THREADS : count;
}

int weft_threads(const weft_ctx *c) { return c->env.threads; }

weft_status weft_set_threads(weft_ctx *c, int threads) {
    if (threads < 0 || threads > MAX_THREADS)
        return weft_fail(c, WEFT_E_ARGUMENT, "%d threads; 1 to %d are possible, or 0 for one for each core", threads,
                         MAX_THREADS);
    c->env.threads = threads ? threads : cores();
    return c->status;
}

/* ---- birth and end ----------------------------------------------------------------------------------------------- */

/* "cuda" or "cuda:N": the device's number, or −1 for another name. */
static int cuda_number(const char *name) {
    char *end;
    if (strncmp(name, "cuda", 4)) return -1;
    if (!name[4]) return 0;
    if (name[4] != ':' || name[5] < '0' || name[5] > '9') return -1;
    long n = strtol(name + 5, &end, 10);
    return *end || n > 1023 ? -1 : (int)n;
}

/* Chooses the back end and opens the device; the error is set where that fails, and kernels is NULL. */
static void open_device(weft_ctx *c, const char *name) {
    char why[1024];
    if (!name) name = getenv("WEFT_DEVICE");
    if (!name || !*name || !strcmp(name, "cpu")) {
        c->kernels = weft_kernels_cpu();
    } else if (!strcmp(name, "reference")) {
        c->kernels = weft_kernels_reference();
    } else if (cuda_number(name) < 0) {
        weft_fail(c, WEFT_E_DEVICE, "there is no device \"%s\"; there are \"cpu\", \"reference\" and \"cuda\" (or \"cuda:1\" and so on)", name);
    } else if (!(c->kernels = weft_kernels_cuda(why, sizeof why))) {
        weft_fail(c, WEFT_E_DEVICE, "%s: %s", name, why);
    } else if (!(c->env.stream = c->kernels->open(cuda_number(name)))) {
        weft_fail(c, WEFT_E_DEVICE, "%s: %s", name, c->kernels->last_error());
        c->kernels = NULL;
    }
}

weft_ctx *weft_ctx_new(const weft_options *options) {
    static const weft_options defaults;
    const weft_options *o = options ? options : &defaults;
    weft_ctx *c = weft_host_alloc(sizeof *c);
    if (!c) return NULL;
    c->env = (weft_env){ .threads = 1, .owner = &c->memory, .alloc = weft_scratch_alloc,
                         .release = weft_scratch_release, .cancel = &c->cancel };
    open_device(c, o->device);
    weft_memory_init(c, o);
    if (c->env.stream) {
        c->memory.relieve = weft_packed_relieve;
        c->memory.forget = weft_record_forget;
        c->memory.relieve_user = c;
    }
    weft_set_compute_type(c, o->dtype);
    if (c->env.stream && o->os_alloc)
        weft_fail(c, WEFT_E_ARGUMENT, "os_alloc gives the host's memory, which a device cannot use");
    if (!o->os_alloc != !o->os_free) weft_fail(c, WEFT_E_ARGUMENT, "os_alloc and os_free are given both or not at all");
    weft_set_precision(c, o->precision);
    weft_set_threads(c, o->threads);
    return c;
}

static void destroy(weft_ctx *c) {
    weft_memory_trim(c);
    if (c->env.stream) c->kernels->close(c->env.stream);
    weft_host_free(c->frames);
    weft_host_free(c->owned);
    weft_host_free(c);
}

void weft_ctx_free(weft_ctx *c) {
    if (!c) return;
    weft_tape_end(c);
    weft_scope_flush(c);
    weft_records_free(c);
    c->closed = true;
    if (!c->tensors) destroy(c);
}

void weft_ctx_tensor_gone(weft_ctx *c) {
    if (--c->tensors == 0 && c->closed) destroy(c);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

bool weft_ok(const weft_ctx *c) { return c->status == WEFT_OK; }

weft_status weft_error(const weft_ctx *c) { return c->status; }

const char *weft_message(const weft_ctx *c) { return c->message; }

/* Whether a frame further in names a place in the same tree: its path then contains this one's. */
static bool named_further_in(const weft_ctx *c, uint32_t frame) {
    for (uint32_t i = frame + 1; i < c->frame_count; i++)
        if (c->frames[i].place.tree == c->frames[frame].place.tree) return true;
    return false;
}

/* "sample: unet.down_blocks.0: ", as far as the room goes; returns its length. */
static size_t path_text(const weft_ctx *c, char *out, size_t room) {
    char name[512];
    size_t used = 0;
    for (uint32_t i = 0; i < c->frame_count; i++) {
        const weft_frame *f = &c->frames[i];
        const char *text = f->name;
        if (!text && f->place.tree && !named_further_in(c, i)) text = weft_params_name(f->place, name, sizeof name);
        if (!text || !*text) continue;
        int n = snprintf(out + used, room - used, "%s: ", text);
        if (n < 0 || (size_t)n >= room - used) break;
        used += (size_t)n;
    }
    out[used] = '\0';
    return used;
}

weft_status weft_fail(weft_ctx *c, weft_status code, const char *format, ...) {
    va_list list;
    if (c->status != WEFT_OK) return c->status;
    c->status = (unsigned)code < WEFT_STATUS_COUNT && code != WEFT_OK ? code : WEFT_E_INTERNAL;
    size_t used = path_text(c, c->message, sizeof c->message / 2);
    va_start(list, format);
    vsnprintf(c->message + used, sizeof c->message - used, format, list);
    va_end(list);
    weft_text_tidy(c->message);
    return c->status;
}

void weft_clear(weft_ctx *c) {
    if (!c->kernels) return;
    __atomic_store_n(&c->cancel, 0, __ATOMIC_RELAXED);
    c->status = WEFT_OK;
    c->message[0] = '\0';
    c->blame = (weft_blame){ 0 };
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

weft_precision weft_precision_of(const weft_ctx *c) { return c->env.precision; }

void weft_set_precision(weft_ctx *c, weft_precision p) {
    if ((unsigned)p > WEFT_PRECISION_EXACT) weft_fail(c, WEFT_E_ARGUMENT, "precision %d is not known", (int)p);
    else c->env.precision = p;
}

const weft_kernels *weft_backend(const weft_ctx *c) { return c->kernels; }

static void device_status(weft_ctx *c, int status) {
    if (status != WEFT_K_OK) weft_fail(c, WEFT_E_DEVICE, "%s: %s", c->kernels->name, c->kernels->last_error());
}

weft_status weft_wait(weft_ctx *c) {
    if (weft_ok(c) && c->kernels->wait) device_status(c, c->kernels->wait(&c->env));
    return c->status;
}

/* A bar that ran ahead of the device would say nothing, and what is asked for already cannot be cancelled. */
static void keep_pace(weft_ctx *c) {
    if (c->kernels->pace && !c->shape_only) device_status(c, c->kernels->pace(&c->env));
}

weft_dtype weft_compute_type(const weft_ctx *c) {
    if (c->compute >= 0) return (weft_dtype)c->compute;
    if (weft_on_host(c)) return WEFT_F32;
    return c->tape ? WEFT_BF16 : WEFT_F16;
}

weft_status weft_set_compute_type(weft_ctx *c, const char *dtype) {
    static const weft_dtype types[] = { WEFT_F32, WEFT_F16, WEFT_BF16 };
    c->compute = -1;
    if (!dtype) dtype = getenv("WEFT_DTYPE");
    if (!dtype || !*dtype || !c->kernels) return c->status;
    for (int i = 0; i < 3; i++)
        if (!strcmp(dtype, weft_dtype_name(types[i]))) c->compute = types[i];
    if (c->compute < 0)
        return weft_fail(c, WEFT_E_TYPE, "models do not compute in \"%s\", but in f32, f16 or bf16", dtype);
    if (c->kernels->types[WEFT_KERNEL_gemm] >> c->compute & 1) return c->status;
    return weft_fail(c, WEFT_E_TYPE, "the %s back end does not compute in %s: use f32", c->kernels->name, dtype);
}

weft_tensor *weft_to_compute(weft_ctx *c, weft_tensor *x) {
    return weft_type(x) == WEFT_F32 ? weft_cast(c, x, weft_compute_type(c)) : x;
}

bool weft_on_host(const weft_ctx *c) { return c->kernels && !c->kernels->last_error; }

const weft_env *weft_env_now(weft_ctx *c) {
    const weft_memory *m = &c->memory;
    size_t left = !m->limit ? SIZE_MAX : m->live < m->limit ? m->limit - m->live : 0;
    c->env.scratch_hint = left / 4 < most_scratch_hint ? left / 4 : most_scratch_hint;
    return &c->env;
}

void weft_cancel(weft_ctx *c) { __atomic_store_n(&c->cancel, 1, __ATOMIC_RELAXED); }

bool weft_cancelled(weft_ctx *c) {
    if (!__atomic_load_n(&c->cancel, __ATOMIC_RELAXED)) return false;
    weft_fail(c, WEFT_E_CANCELLED, "cancelled");
    return true;
}

void weft_set_warn(weft_ctx *c, weft_warn_fn *fn, void *user) {
    c->warn = fn;
    c->warn_user = user;
}

void weft_warn(weft_ctx *c, const char *format, ...) {
    char text[sizeof c->message];
    if (!c->warn) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    c->warn(c->warn_user, text);
}

void weft_set_progress(weft_ctx *c, weft_progress_fn *fn, void *user) {
    c->progress = fn;
    c->progress_user = user;
}

bool weft_progress(weft_ctx *c, const char *what, int64_t done, int64_t total) {
    if (!weft_ok(c) || weft_cancelled(c)) return false;
    keep_pace(c);
    if (weft_ok(c) && c->progress && !c->progress(c->progress_user, what, done, total))
        weft_fail(c, WEFT_E_CANCELLED, "%s: cancelled", what);
    return !weft_cancelled(c) && weft_ok(c);
}

/* ---- shape-only -------------------------------------------------------------------------------------------------- */

void weft_shape_only(weft_ctx *c, bool on) {
    if (on) c->shape_only++;
    else if (c->shape_only) c->shape_only--;
}

bool weft_is_shape_only(const weft_ctx *c) { return c->shape_only > 0; }

double weft_flops(const weft_ctx *c) { return c->flops; }
