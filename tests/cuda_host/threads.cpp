/* A block's threads on the CPU: each is a fibre with a stack of its own, run one at a time until it waits for the
 * others.
 *
 * Warps are run one after the other: a warp's threads until all of them have ended or wait. Threads that wait for their
 * warp go on when all lanes of the mask are there, those that wait for the block when every thread that has not ended
 * is there. Every second launch goes through warps, lanes and blocks backwards, so that a missing barrier shows. As
 * long as no thread of a launch waits, one fibre runs a block's threads one after the other; the first that waits keeps
 * it.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <utility>
#include <vector>
#include "cuda_fp16.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define WATCHED 1
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
float fake_half_values[65536];
__attribute__((constructor)) static void fill_half_values() {
    for (unsigned i = 0; i < 65536; i++) fake_half_values[i] = (float)ref_from_f16((uint16_t)i);
}

namespace {

enum { STACK = 256 << 10, MOST_THREADS = 1024, MOST_SHARED = 232448 };

enum state { READY, AT_WARP, AT_BLOCK, DONE };

struct stack {
    char *memory = nullptr;
#if defined(__x86_64__)
    void *top = nullptr;                /* the stack pointer while it does not run */
#else
    ucontext_t context;
#endif
#ifdef WATCHED
    void *fake_stack = nullptr;
#endif
};

struct fiber {
    state now = DONE;
    uint3 index = { 0, 0, 0 };
    unsigned mask = 0;                  /* AT_WARP: of those who wait together */
    uint64_t given = 0;
    const uint64_t *got = nullptr;
    stack *own = nullptr;
};

/* Results of the last exchanges of a warp: who was released reads one before the warp releases as many more. */
struct warp { uint64_t slots[8][32]; unsigned next; };

std::vector<fiber> fibers;
stack stacks[MOST_THREADS];             /* each some fibre's own */
warp warps[MOST_THREADS / 32];
fiber *running;
unsigned threads;                       /* of a block */
bool backwards;
const std::function<void()> *kernel;
int vote_or, vote_and, vote_count;
bool waited;                            /* a thread of this launch did */
alignas(128) unsigned char shared[MOST_SHARED];

[[noreturn]] void give_up(const char *why) {
    fprintf(stderr, "emulated CUDA: %s (block %u %u %u, thread %u %u %u)\n", why, blockIdx.x, blockIdx.y, blockIdx.z,
            threadIdx.x, threadIdx.y, threadIdx.z);
    abort();
}

/* ---- switching ---------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
extern "C" void fake_switch(void **save, void *load);
/* Keeps what a called function must keep, and changes the stack. */
asm(".text\n.globl fake_switch\n.type fake_switch,@function\nfake_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size fake_switch, .-fake_switch\n");
void *main_top;
#else
ucontext_t main_context;
#endif
#ifdef WATCHED
void *main_fake_stack;
const void *main_stack;
size_t main_stack_size;
#endif

void to_main(fiber *f) {
#ifdef WATCHED
    __sanitizer_start_switch_fiber(&f->own->fake_stack, main_stack, main_stack_size);
#endif
#if defined(__x86_64__)
    fake_switch(&f->own->top, main_top);
#else
    swapcontext(&f->own->context, &main_context);
#endif
#ifdef WATCHED
    __sanitizer_finish_switch_fiber(f->own->fake_stack, &main_stack, &main_stack_size);
#endif
}

void to_fiber(fiber *f) {
    running = f;
    threadIdx = f->index;
#ifdef WATCHED
    __sanitizer_start_switch_fiber(&main_fake_stack, f->own->memory, STACK);
#endif
#if defined(__x86_64__)
    fake_switch(&main_top, f->own->top);
#else
    swapcontext(&main_context, &f->own->context);
#endif
#ifdef WATCHED
    __sanitizer_finish_switch_fiber(main_fake_stack, nullptr, nullptr);
#endif
}

/* The running fibre's thread has ended, and none has waited: it becomes the next one. */
bool become_next() {
    fiber *me = running, *next = backwards ? me - 1 : me + 1;
    if (waited || next < &fibers[0] || next >= &fibers[0] + threads) return false;
    me->now = DONE;
    std::swap(me->own, next->own);
    running = next;
    threadIdx = next->index;
    return true;
}

/* A fibre runs the kernel of the day again and again. */
void body() {
#ifdef WATCHED
    __sanitizer_finish_switch_fiber(nullptr, &main_stack, &main_stack_size);
#endif
    for (;;) {
        do (*kernel)();
        while (become_next());
        running->now = DONE;
        to_main(running);
    }
}

void make(fiber *f) {
    void *p = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) give_up("no memory for stacks");
    f->own = &stacks[f - &fibers[0]];
    f->own->memory = (char *)p;
#if defined(__x86_64__)
    void **top = (void **)(f->own->memory + STACK) - 8;
    memset(top, 0, 8 * sizeof *top);
    top[6] = (void *)body;              /* behind six registers; the stack is then as behind a call */
    f->own->top = top;
#else
    getcontext(&f->own->context);
    f->own->context.uc_stack.ss_sp = f->own->memory;
    f->own->context.uc_stack.ss_size = STACK;
    makecontext(&f->own->context, body, 0);
#endif
}

void wait_as(state s) {
    fiber *me = running;
    waited = true;
    me->now = s;
    to_main(me);
}

/* ---- a block ------------------------------------------------------------------------------------------------ */

/* Lets those go on whose whole group waits; false where there is none. */
bool release_warp(unsigned w, unsigned first, unsigned count) {
    bool any = false;
    for (unsigned i = 0; i < count; i++) {
        fiber *f = &fibers[first + i];
        if (f->now != AT_WARP) continue;
        const unsigned mask = f->mask;
        bool all = true;
        for (unsigned k = 0; k < count; k++)
            if (mask >> k & 1)
                all = all
                      && (fibers[first + k].now == DONE
                          || (fibers[first + k].now == AT_WARP && fibers[first + k].mask == mask));
        if (!all) continue;
        uint64_t *slots = warps[w].slots[warps[w].next++ % 8];
        for (unsigned k = 0; k < 32; k++)
            slots[k] = k < count && mask >> k & 1 && fibers[first + k].now == AT_WARP ? fibers[first + k].given
                                                                                      : 0xbadbadbadbadbadull;
        for (unsigned k = 0; k < count; k++)
            if (mask >> k & 1 && fibers[first + k].now == AT_WARP) {
                fibers[first + k].got = slots;
                fibers[first + k].now = READY;
            }
        any = true;
    }
    return any;
}

void run_warp(unsigned w) {
    const unsigned first = w * 32, count = threads - first < 32 ? threads - first : 32;
    do {
        for (unsigned i = 0; i < count; i++) {
            fiber *f = &fibers[first + (backwards ? count - 1 - i : i)];
            if (f->now == READY) to_fiber(f);
        }
    } while (release_warp(w, first, count));
}

/* Whether threads are left, which may go on now. */
bool release_block() {
    unsigned left = 0;
    vote_or = vote_count = 0;
    vote_and = 1;
    for (unsigned i = 0; i < threads; i++) {
        fiber *f = &fibers[i];
        if (f->now == DONE) continue;
        if (f->now != AT_BLOCK) {
            threadIdx = f->index;
            give_up("a thread waits for lanes that wait elsewhere: a barrier that not all of them reach");
        }
        left++;
        vote_or |= f->given != 0;
        vote_and &= f->given != 0;
        vote_count += f->given != 0;
        f->now = READY;
    }
    return left > 0;
}

void run_block() {
    while (fibers.size() < threads) {
        fibers.emplace_back();
        make(&fibers.back());
    }
    for (unsigned i = 0; i < threads; i++) {
        fibers[i].now = READY;
        fibers[i].index = { i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y };
    }
    const unsigned count = (threads + 31) / 32;
    do {
        for (unsigned w = 0; w < count; w++) run_warp(backwards ? count - 1 - w : w);
    } while (release_block());
}

} // namespace

void fake_run(const std::function<void()> &what, const void *, dim3 grid, dim3 block, size_t shared_bytes) {
    static unsigned launches;
    backwards = launches++ % 2;
    threads = block.x * block.y * block.z;
    const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    fibers.reserve(MOST_THREADS);
    kernel = &what;
    blockDim = block;
    gridDim = grid;
    waited = false;
    for (uint64_t n = 0; n < blocks; n++) {
        const uint64_t b = backwards ? blocks - 1 - n : n;
        blockIdx = { (unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y) };
        memset(shared, 0xff, shared_bytes);
        run_block();
    }
}

/* ---- what kernels call -------------------------------------------------------------------------------------- */

static unsigned thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

unsigned fake_lane() { return thread_number() % 32; }

void *fake_shared_memory() { return shared; }

const uint64_t *fake_exchange(unsigned mask, uint64_t mine) {
    if (!(mask >> fake_lane() & 1)) give_up("a lane that its own mask leaves out");
    const unsigned left = threads - thread_number() / 32 * 32;
    if (left < 32 && mask >> left) give_up("a mask with lanes that the block's last warp does not have");
    running->mask = mask;
    running->given = mine;
    wait_as(AT_WARP);
    return running->got;
}

void __syncwarp(unsigned mask) {
    fake_exchange(mask, 0);
    fake_copies_land();
}

static void sync_block(int v) {
    running->given = v != 0;
    wait_as(AT_BLOCK);
    fake_copies_land();
}

void __syncthreads() { sync_block(0); }
int __syncthreads_or(int v) { sync_block(v); return vote_or; }
int __syncthreads_and(int v) { sync_block(v); return vote_and; }
int __syncthreads_count(int v) { sync_block(v); return vote_count; }
