/* Runs a test on this machine's first GPU: on_gpu PROGRAM [ARGUMENT …]. Where there is none it says why and exits with 77, which ctest
 * counts as skipped; a back end that was built and cannot be loaded is a failure. Without a program it only says what there is.
 *
 * WEFT_TEST_UNDER in the environment is put before the program: WEFT_TEST_UNDER="compute-sanitizer --error-exitcode 9".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/kernels.h"

enum { SKIPPED = 77, MOST_WORDS = 64 };

int main(int argc, char **argv) {
    static char under[4096], why[4096];
    char *command[MOST_WORDS + 1];
    int words = 0;
    const char *given = getenv("WEFT_TEST_UNDER");
    setenv("WEFT_CUDA_LIBRARY", WEFT_CUDA_BUILT, 1);
    const weft_kernels *k = weft_kernels_cuda(why, sizeof why);
    if (!k) return fprintf(stderr, "%s\n", why), 1;
    const char *devices = k->describe();
    if (!strcmp(devices, "no device")) return printf("%s\n", k->last_error()), SKIPPED;
    printf("%s\n", devices);
    fflush(stdout);
    if (argc < 2) return 0;
    snprintf(under, sizeof under, "%s", given ? given : "");
    for (char *word = strtok(under, " "); word && words < MOST_WORDS / 2; word = strtok(NULL, " ")) command[words++] = word;
    for (int i = 1; i < argc && words < MOST_WORDS; i++) command[words++] = argv[i];
    command[words] = NULL;
    execvp(command[0], command);
    perror(command[0]);
    return 1;
}
