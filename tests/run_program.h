/* Running the `weft` program: in a folder, with its output and its errors kept. */
#ifndef WEFT_TEST_RUN_PROGRAM_H
#define WEFT_TEST_RUN_PROGRAM_H

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/test.h"

struct run {
    int status;
    char out[1 << 16], err[1 << 16];
    double seconds;
}; /* status: 128 + the signal where one ended it */

static inline double run_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What runs: the program, unless a test says otherwise. */
static const char *run_path = WEFT_PROGRAM;

/* Starts it with arguments (NULL-terminated, without its name). What it writes goes to out and err; −1: to files
 * "out.txt", "err.txt" in the folder. */
static inline pid_t run_start(const char *folder, const char *const *arguments, int out, int err) {
    char *argv[64] = { (char *)(uintptr_t)run_path };
    for (int i = 0; i < 62 && arguments[i]; i++) argv[i + 1] = (char *)arguments[i];
    fflush(NULL);
    pid_t child = fork();
    if (child) return child;
    alarm(60);                      /* what hangs is a failure */
    if (chdir(folder)) _exit(126);
    if (out < 0) out = open("out.txt", O_CREAT | O_TRUNC | O_WRONLY, 0644);
    if (err < 0) err = open("err.txt", O_CREAT | O_TRUNC | O_WRONLY, 0644);
    dup2(open("/dev/null", O_RDONLY), 0);
    dup2(out, 1);
    dup2(err, 2);
    execv(argv[0], argv);
    _exit(127);
}

static inline void run_read(const char *folder, const char *name, char *to, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(to, 1, size - 1, f) : 0;
    to[n] = 0;
    if (f) fclose(f);
}

static inline int run_wait(pid_t child) {
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline struct run *run_program(const char *folder, const char *const *arguments) {
    static struct run r;
    double start = run_clock();
    r.status = run_wait(run_start(folder, arguments, -1, -1));
    r.seconds = run_clock() - start;
    run_read(folder, "out.txt", r.out, sizeof r.out);
    run_read(folder, "err.txt", r.err, sizeof r.err);
    return &r;
}
#define WEFT(folder, ...) run_program(folder, (const char *const[]){ __VA_ARGS__, NULL })

/* It ends with status 1, and its message is a line with all these parts. */
#define REFUSES(r, ...) \
    do { \
        struct run *test_r = (r); \
        CHECK_EQ(test_r->status, 1); \
        const char *const test_parts[] = { __VA_ARGS__ }; \
        for (size_t test_i = 0; test_i < sizeof test_parts / sizeof *test_parts; test_i++) \
            CHECK_HAS(test_r->err, test_parts[test_i]); \
    } while (0)

#endif
