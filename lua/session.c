/* Shared by the commands that run graphs and the binding: see session.h. Progress goes to a terminal only; Ctrl-C
 * cancels between operations. */
#include "lua/session.h"
#include "runtime/json_text.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const session_precisions[] = { "fast", "exact", NULL };

static weft_ctx *interrupted;

static void on_interrupt(int signal) {
    (void)signal;
    if (interrupted) weft_cancel(interrupted);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Whether the cursor stands behind a bar that was not finished. */
static bool bar_is_open;

void session_end_bar(void) {
    if (bar_is_open) fputc('\n', stderr);
    bar_is_open = false;
}

bool session_shows(const char *what) {
    static const char *const shown[] = { "sample", "load", "decode", "encode", "tiles", "grow" };
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (!strcmp(what, shown[i])) return true;
    return false;
}

/* A bar for the samplers' steps and other slow work: "sample   [######    ] 12/20  3.41 s/step". */
static bool show_progress(void *user, const char *what, int64_t done, int64_t total) {
    static double start;
    static int64_t first;
    static char last[32];
    (void)user;
    if (!session_shows(what)) return true;
    if (!bar_is_open || strcmp(last, what)) {
        session_end_bar();
        start = now();
        first = done;
        snprintf(last, sizeof last, "%s", what);
    }
    char bar[31];
    int filled = total > 0 ? (int)(30 * done / total) : 0;
    for (int i = 0; i < 30; i++) bar[i] = i < filled ? '#' : ' ';
    bar[30] = 0;
    fprintf(stderr, "\r%-8s [%s] %lld/%lld", what, bar, (long long)done, (long long)total);
    if (done > first) fprintf(stderr, "  %.2f s/step ", (now() - start) / (double)(done - first));
    bar_is_open = true;
    if (done >= total) session_end_bar();
    fflush(stderr);
    return true;
}

static void show_warning(void *user, const char *text) {
    (void)user;
    session_end_bar();
    fprintf(stderr, "warning: %s\n", text);
}

bool session_start(session *s) {
    static const char *const default_models[] = { "models", NULL };
    weft_folders *f = &s->folders;
    if (!f->models) f->models = default_models;
    if (!f->input) f->input = "input";
    if (!f->output) f->output = "output";
    if (!f->temp) f->temp = "temp";
    s->c = weft_ctx_new(&(weft_options){ .device = s->device,
                                         .dtype = s->dtype,
                                         .threads = s->threads,
                                         .precision = (weft_precision)s->precision,
                                         .memory_limit = s->memory });
    if (s->c) s->registry = weft_nodes_registry(s->c);
    return s->c && weft_ok(s->c);
}

void session_stop(session *s) {
    weft_registry_free(s->registry);
    weft_ctx_free(s->c);
    s->registry = NULL;
    s->c = NULL;
}

void session_interrupts(weft_ctx *c) {
    interrupted = c;
    signal(SIGINT, c ? on_interrupt : SIG_DFL);
}

void session_progress(weft_ctx *c) {
    weft_set_warn(c, show_warning, NULL);
    if (isatty(STDERR_FILENO)) weft_set_progress(c, show_progress, NULL);
}

bool session_open(session *s, const char *command) {
    if (s->models.count) {
        const char **items = realloc(s->models.items, sizeof *items * ((size_t)s->models.count + 1));
        if (!items) return false;
        items[s->models.count] = NULL;
        s->models.items = items;
        s->folders.models = items;
    }
    s->folders.input = s->input;
    s->folders.output = s->output;
    if (!session_start(s)) {
        if (s->c) session_fail(s, command);
        else fprintf(stderr, "weft %s: out of memory\n", command);
        return false;
    }
    session_progress(s->c);
    session_interrupts(s->c);
    return true;
}

void session_close(session *s) {
    session_interrupts(NULL);
    session_stop(s);
    free(s->models.items);
}

int session_fail(session *s, const char *command) {
    session_end_bar();
    if (weft_error(s->c) == WEFT_E_CANCELLED) {
        fputs("interrupted\n", stderr);
        return 130;
    }
    fprintf(stderr, "weft %s: %s\n", command, weft_message(s->c));
    return 1;
}

void session_print_faults(const weft_faults *faults, const char *file) {
    char line[4096];
    for (int i = 0; i < faults->count; i++) {
        const weft_fault *f = &faults->items[i];
        if (f->node) snprintf(line, sizeof line, "%s: node %s (%s): %s", file, f->node, f->class_name, f->details);
        else snprintf(line, sizeof line, "%s: %s", file, f->details);
        weft_text_tidy(line);
        fprintf(stderr, "%s\n", line);
    }
}

void session_print_text(const char *text) {
    cJSON *value = cJSON_CreateString(text);
    char *printed = value ? cJSON_PrintUnformatted(value) : NULL;
    fputs(printed ? printed : "\"\"", stdout);
    cJSON_free(printed);
    cJSON_Delete(value);
}
