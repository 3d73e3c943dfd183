/* Table-driven command-line options: see cli.h. */
#include "lua/cli.h"
#include "runtime/nearest.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool cli_size(const char *text, size_t *bytes) {
    static const char unit[] = "kmgt";
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || errno || !isfinite(value) || value < 0) return false;
    if (*end) {
        const char *u = strchr(unit, *end | 0x20);
        if (!u) return false;
        value = ldexp(value, 10 * (int)(u - unit + 1));
        end++;
        if ((*end | 0x20) == 'i') end++;
        if ((*end | 0x20) == 'b') end++;
    }
    if (*end || value > 0x1p62) return false;
    *bytes = (size_t)value;
    return true;
}

const char *cli_nearest(const char *name, const char *const *names, int count) {
    weft_nearest near = { .name = name };
    for (int i = 0; i < count; i++) weft_nearest_try(&near, names[i]);
    return near.best;
}

void cli_help(const cli_command *command, FILE *out) {
    fprintf(out, "Usage: weft %s%s%s\n\n%s\n", command->name, *command->arguments ? " " : "", command->arguments, command->summary);
    if (command->details) fprintf(out, "\n%s\n", command->details);
    fputs("\nOptions:\n", out);
    for (const cli_option *o = command->options; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
        fprintf(out, "  %-22s %s\n", left, o->help);
    }
    fprintf(out, "  %-22s %s\n", "--help", "this text");
}

static int complain(const cli_command *command, const char *what, const char *name, const char *why) {
    fprintf(stderr, "weft %s: %s%s%s\nSee: weft %s --help\n", command->name, what, name, why, command->name);
    return CLI_BAD;
}

static const cli_option *find(const cli_command *command, const char *name, size_t length) {
    for (const cli_option *o = command->options; o->name; o++)
        if (strlen(o->name) == length && !memcmp(o->name, name, length)) return o;
    return NULL;
}

static int unknown(const cli_command *command, const char *name, size_t length) {
    char given[64], why[128] = "";
    const char *names[32];
    int count = 0;
    snprintf(given, sizeof given, "%.*s", (int)(length < 60 ? length : 60), name);
    for (const cli_option *o = command->options; o->name && count < 32; o++) names[count++] = o->name;
    const char *near = cli_nearest(given, names, count);
    if (near) snprintf(why, sizeof why, "; did you mean --%s?", near);
    return complain(command, "there is no option --", given, why);
}

static int take(const cli_command *command, const cli_option *o, const char *text) {
    char *end;
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->value = true; return CLI_RUN;
    case CLI_TEXT: *(const char **)o->value = text; return CLI_RUN;
    case CLI_SIZE:
        if (cli_size(text, o->value)) return CLI_RUN;
        return complain(command, "--", o->name, " takes a size such as 512M or 4G");
    case CLI_INT: {
        errno = 0;
        long v = strtol(text, &end, 10);
        if (end != text && !*end && !errno && v >= o->low && v <= o->high) { *(int *)o->value = (int)v; return CLI_RUN; }
        char why[96];
        snprintf(why, sizeof why, " takes a whole number from %d to %d", o->low, o->high);
        return complain(command, "--", o->name, why);
    }
    case CLI_CHOICE: {
        char why[160] = " takes one of:";
        for (int i = 0; o->choices[i]; i++) {
            if (!strcmp(text, o->choices[i])) { *(int *)o->value = i; return CLI_RUN; }
            size_t used = strlen(why);
            snprintf(why + used, sizeof why - used, " %s", o->choices[i]);
        }
        return complain(command, "--", o->name, why);
    }
    case CLI_MANY: {
        struct cli_many *many = o->value;
        const char **items = realloc(many->items, sizeof *items * (size_t)(many->count + 1));
        if (!items) return complain(command, "out of memory", "", "");
        many->items = items;
        items[many->count++] = text;
        return CLI_RUN;
    }
    }
    return CLI_BAD;
}

int cli_parse(const cli_command *command, int argc, char **argv, int *plain) {
    int count = 0;
    bool options = true;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        if (!options || word[0] != '-' || word[1] != '-') { argv[count++] = word; continue; }
        if (!word[2]) { options = false; continue; }
        char *name = word + 2, *value = strchr(name, '=');
        size_t length = value ? (size_t)(value++ - name) : strlen(name);
        if (length == 4 && !memcmp(name, "help", 4)) { cli_help(command, stdout); return CLI_HELP; }
        const cli_option *o = find(command, name, length);
        if (!o) return unknown(command, name, length);
        if (o->kind == CLI_FLAG && value) return complain(command, "--", o->name, " takes no value");
        if (o->kind != CLI_FLAG && !value) {
            if (i + 1 >= argc) return complain(command, "--", o->name, " needs a value");
            value = argv[++i];
        }
        int result = take(command, o, value);
        if (result != CLI_RUN) return result;
    }
    *plain = count;
    if (count < command->least) return complain(command, "something is missing: weft ", command->name, command->arguments[0] ? " needs its arguments" : "");
    if (command->most >= 0 && count > command->most) return complain(command, "one argument too many: ", argv[command->most], "");
    return CLI_RUN;
}
