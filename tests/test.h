/* The test harness: one executable a subject; each TEST is a case of its own and runs in a process of its own, so that a crash
 * or a leak is that case's alone. Prints a line a case and a closing count.
 *
 *     TEST(adds_rows) { CHECK(1 + 1 == 2); CHECK_EQ(weft_rank(t), 4); }
 *     TEST_MAIN
 *
 * `./test_x` runs all, `./test_x NAME…` those whose name contains one of the words. Exit status: 0 all passed, 1 otherwise.
 */
#ifndef WEFT_TEST_H
#define WEFT_TEST_H

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct test_case { const char *name; void (*run)(void); struct test_case *next; };
static struct test_case *test_first, **test_last = &test_first;
static int test_failures;           /* of the running case */

#define TEST(id) \
    static void test_##id(void); \
    static struct test_case test_case_##id = { #id, test_##id, NULL }; \
    __attribute__((constructor)) static void test_register_##id(void) { \
        *test_last = &test_case_##id; \
        test_last = &test_case_##id.next; \
    } \
    static void test_##id(void)

#define TEST_FAIL(...) do { \
        fprintf(stderr, "    %s:%d: ", __FILE__, __LINE__); fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); test_failures++; \
    } while (0)
#define CHECK(cond) do { if (!(cond)) TEST_FAIL("not so: %s", #cond); } while (0)
/* For what the rest of the case stands on. */
#define REQUIRE(cond) do { if (!(cond)) { TEST_FAIL("not so: %s", #cond); return; } } while (0)
#define CHECK_EQ(a, b) do { \
        int64_t test_a = (int64_t)(a), test_b = (int64_t)(b); \
        if (test_a != test_b) TEST_FAIL("%s is %" PRId64 ", %s is %" PRId64, #a, test_a, #b, test_b); \
    } while (0)
#define CHECK_STR(a, b) do { \
        const char *test_a = (a), *test_b = (b); \
        if (!test_a || !test_b || strcmp(test_a, test_b)) TEST_FAIL("%s is \"%s\", expected \"%s\"", #a, test_a ? test_a : "(null)", test_b ? test_b : "(null)"); \
    } while (0)
#define CHECK_HAS(text, part) do { \
        const char *test_a = (text), *test_b = (part); \
        if (!test_a || !strstr(test_a, test_b)) TEST_FAIL("\"%s\" does not contain \"%s\"", test_a ? test_a : "(null)", test_b); \
    } while (0)
/* |a − b| ≤ tolerance; NaN fails. */
#define CHECK_NEAR(a, b, tolerance) do { \
        double test_a = (a), test_b = (b), test_t = (tolerance); \
        if (!(fabs(test_a - test_b) <= test_t)) TEST_FAIL("%s is %.9g, expected %.9g ± %.3g", #a, test_a, test_b, test_t); \
    } while (0)

/* How far two arrays are apart: root mean square of the difference over that of `want`, and the largest difference over the
 * same. NaN or infinity on one side only counts as infinite. */
struct test_distance { double rms, max; };
static inline struct test_distance test_compare_f32(const float *got, const float *want, int64_t n) {
    double sum = 0, norm = 0, max = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (got[i] == want[i] || (isnan(got[i]) && isnan(want[i]))) ? 0 : fabs((double)got[i] - want[i]);
        if (isnan(d)) d = INFINITY;
        sum += d * d;
        if (isfinite(want[i])) norm += (double)want[i] * want[i];
        if (d > max) max = d;
    }
    double rms = n ? sqrt(norm / (double)n) : 0;
    double scale = rms > 0 ? 1 / rms : 1;
    return (struct test_distance){ n ? sqrt(sum / (double)n) * scale : 0, max * scale };
}
/* Both arrays' difference ≤ tolerance of want's rms, the largest single one ≤ 20 times that. */
#define CHECK_CLOSE_F32(got, want, n, tolerance) do { \
        struct test_distance test_d = test_compare_f32((got), (want), (n)); \
        double test_t = (tolerance); \
        if (!(test_d.rms <= test_t && test_d.max <= 20 * test_t)) \
            TEST_FAIL("%s: rms %.3g, largest %.3g of the rms of %s; allowed %.3g", #got, test_d.rms, test_d.max, #want, test_t); \
    } while (0)

static inline bool test_wanted(const char *name, int argc, char **argv) {
    if (argc < 2) return true;
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i])) return true;
    return false;
}

static inline int test_main(int argc, char **argv) {
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (struct test_case *t = test_first; t; t = t->next) {
        if (!test_wanted(t->name, argc, argv)) continue;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            t->run();
            exit(test_failures ? 1 : 0);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) < 0) { perror("fork"); return 1; }
        bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (WIFSIGNALED(status)) printf("FAIL %s (signal %d: %s)\n", t->name, WTERMSIG(status), strsignal(WTERMSIG(status)));
        else printf("%s %s\n", ok ? "ok  " : "FAIL", t->name);
        ok ? passed++ : failed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed ? 1 : 0;
}
#define TEST_MAIN int main(int argc, char **argv) { return test_main(argc, argv); }

#endif
