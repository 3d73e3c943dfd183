/* The `weft` program: finds the command and hands over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lua/cli.h"
#include "lua/commands.h"

static const struct { const char *name, *summary; int (*run)(int argc, char **argv); } commands[] = {
#define C(name, summary) { #name, summary, command_##name },
    WEFT_COMMANDS(C)
#undef C
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int help(FILE *out, int status) {
    fputs("Weft: a node-graph runtime for diffusion models.\n\n"
          "Usage: weft COMMAND …\n       weft [--traceback] SCRIPT.lua …\n       weft [--traceback] -e CODE …\n\n"
          "Commands:\n", out);
    for (int i = 0; i < COMMANDS; i++) fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`weft COMMAND --help` tells more.\n", out);
    return status;
}

/* Threads that wait for each other sleep. OpenMP's runtime lets them spin otherwise, which costs many times the work
 * as soon as anything else runs on the machine; it reads its settings when it is loaded, so the program starts
 * itself once more with them. */
static void let_threads_sleep(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || setenv("OMP_WAIT_POLICY", "passive", 0)) return;
    execv("/proc/self/exe", argv);      /* where that fails, threads spin */
}

int main(int argc, char **argv) {
    let_threads_sleep(argv);
    if (argc < 2) return help(stderr, 1);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return help(stdout, 0);
    if (!strcmp(argv[1], "--version")) { puts("weft " WEFT_VERSION); return 0; }
    int status = run_script(argc, argv);
    if (status >= 0) return status;
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = commands[i].name;
        if (!strcmp(argv[1], names[i])) return commands[i].run(argc - 2, argv + 2);
    }
    const char *near = cli_nearest(argv[1], names, COMMANDS);
    fprintf(stderr, "weft: there is no command \"%s\"%s%s%s\nSee: weft --help\n", argv[1],
            near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return 1;
}
