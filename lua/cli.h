/* Command-line options for the commands of the `weft` program: one table says what a command takes; from it come the parsing, the
 * messages and the help. Long options only: --name VALUE or --name=VALUE; "--" ends them; they may stand anywhere. */
#ifndef WEFT_CLI_H
#define WEFT_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include "runtime/weft.h"

typedef enum cli_kind {
    CLI_FLAG,       /* bool */
    CLI_TEXT,       /* const char *, into argv */
    CLI_INT,        /* int, within [low, high] */
    CLI_SIZE,       /* size_t: bytes, with K, M, G or T (powers of 1024) behind */
    CLI_CHOICE,     /* int: the index of one of choices[] */
    CLI_MANY        /* struct cli_many: every value given, in order */
} cli_kind;

struct cli_many { const char **items; int count; };

typedef struct cli_option {
    const char *name;           /* without the dashes; a NULL name ends the table */
    cli_kind kind;
    void *value;                /* holds the default before parsing */
    const char *argument;       /* what the help calls the value */
    const char *help;
    int low, high;              /* CLI_INT */
    const char *const *choices; /* CLI_CHOICE: NULL-terminated */
} cli_option;

typedef struct cli_command {
    const char *name;
    const char *arguments;      /* "FILE [--set ID.INPUT=VALUE …]"; what stands behind the name in the usage line */
    const char *summary;        /* one line, for the list of commands */
    const char *details;        /* further lines of the help, or NULL */
    const cli_option *options;
    int least, most;            /* how many plain arguments; most −1: any number */
} cli_command;

enum { CLI_RUN = 0, CLI_HELP = 1, CLI_BAD = 2 };

/* Parses argv (without the command's name). Plain arguments are moved to the front of argv and counted in *plain. CLI_HELP: the help was
 * printed; CLI_BAD: a message was printed to stderr. The caller frees CLI_MANY items. */
int cli_parse(const cli_command *command, int argc, char **argv, int *plain);
void cli_help(const cli_command *command, FILE *out);

/* "1.5G" → bytes; false where it is no size. */
bool cli_size(const char *text, size_t *bytes);

/* The nearest of `count` names within a few edits, or NULL: for "did you mean". */
const char *cli_nearest(const char *name, const char *const *names, int count);

#endif
