/* `weft run`, `weft check`, `weft convert`: graphs from files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lua/commands.h"
#include "lua/session.h"

/* ---- events of a run --------------------------------------------------------------------------------------------- */

/* The node that runs: what progress and errors are about. */
struct running { const char *node, *class_name; };

static void on_event(void *user, const char *what, const char *node, const char *class_name, const char *text,
                     double seconds) {
    (void)user;
    (void)what;
    (void)node;
    (void)class_name;
    (void)seconds;
    if (text) {
        puts(text);
        fflush(stdout);
    }
}

/* {"event": WHAT, "node": …, "class": …; the caller closes the object. */
static void open_json(const char *what, const char *node, const char *class_name) {
    printf("{\"event\": \"%s\"", what);
    if (!node) return;
    fputs(", \"node\": ", stdout);
    session_print_text(node);
    fputs(", \"class\": ", stdout);
    session_print_text(class_name);
}

static void text_json(const char *key, const char *text) {
    if (!text) return;
    printf(", \"%s\": ", key);
    session_print_text(text);
}

static void close_json(void) {
    puts("}");
    fflush(stdout);
}

static void on_event_json(void *user, const char *what, const char *node, const char *class_name, const char *text,
                          double seconds) {
    struct running *r = user;
    *r = strcmp(what, "done") ? (struct running){ node, class_name } : (struct running){ NULL, NULL };
    open_json(what, node, class_name);
    text_json(strcmp(what, "wrote") ? "text" : "file", text);
    if (!strcmp(what, "done")) printf(", \"seconds\": %.6f", seconds);
    close_json();
}

static bool on_progress_json(void *user, const char *what, int64_t done, int64_t total) {
    const struct running *r = user;
    if (!session_shows(what)) return true;
    open_json("progress", r->node, r->class_name);
    text_json("what", what);
    printf(", \"step\": %lld, \"steps\": %lld", (long long)done, (long long)total);
    close_json();
    return true;
}

static void on_warning_json(void *user, const char *text) {
    const struct running *r = user;
    open_json("warning", r->node, r->class_name);
    text_json("message", text);
    close_json();
}

static void errors_json(session *s, const weft_faults *faults, const struct running *r) {
    for (int i = 0; i < faults->count; i++) {
        const weft_fault *f = &faults->items[i];
        open_json("error", f->node, f->class_name);
        text_json("input", f->input);
        text_json("type", f->type);
        text_json("message", f->details);
        close_json();
    }
    if (weft_ok(s->c)) return;
    weft_fault f = weft_graph_blame(s->c);
    bool cancelled = weft_error(s->c) == WEFT_E_CANCELLED;
    open_json("error", f.node ? f.node : r->node, f.node ? f.class_name : r->class_name);
    text_json("input", f.input);
    text_json("type", cancelled ? "interrupted" : f.type ? f.type : "failed");
    text_json("message", weft_message(s->c));
    close_json();
}

/* ---- run --------------------------------------------------------------------------------------------------------- */

/* "3.seed=7": everything before the last dot in front of the "=" is the node's id. */
static bool apply_set(session *s, weft_graph *g, const char *text) {
    char id[256], input[256];
    const char *equals = strchr(text, '='), *dot = NULL;
    for (const char *p = text; equals && p < equals; p++)
        if (*p == '.') dot = p;
    if (!dot || dot == text || equals - dot < 2 || equals - text > 250) {
        weft_fail(s->c, WEFT_E_ARGUMENT, "--set %s: what is wanted is NODE.INPUT=VALUE, such as 3.seed=7", text);
        return false;
    }
    snprintf(id, sizeof id, "%.*s", (int)(dot - text), text);
    snprintf(input, sizeof input, "%.*s", (int)(equals - dot - 1), dot + 1);
    return !weft_graph_set_text(s->c, g, id, input, equals + 1);
}

static int run_graph(session *s, const char *file, const struct cli_many *sets) {
    weft_graph *g = weft_graph_read(s->c, s->registry, file);
    for (int i = 0; g && i < sets->count && weft_ok(s->c); i++) apply_set(s, g, sets->items[i]);
    weft_faults faults = { 0 };
    if (weft_ok(s->c)) weft_graph_check(s->c, g, &s->folders, &faults);
    weft_runner *runner = NULL;
    struct running running = { NULL, NULL };
    if (s->json) weft_set_progress(s->c, on_progress_json, &running);
    if (s->json) weft_set_warn(s->c, on_warning_json, &running);
    if (weft_ok(s->c) && !faults.count) {
        runner =
            weft_runner_new(s->c, s->registry,
                            &(weft_runner_options){
                                .folders = s->folders, .event = s->json ? on_event_json : on_event, .user = &running });
        if (runner && weft_runner_run(runner, g, NULL)) { /* told below */ }
    }
    if (s->json) errors_json(s, &faults, &running);
    int status = !weft_ok(s->c) ? session_fail(s, "run") : faults.count ? 1 : 0;
    if (faults.count) session_print_faults(&faults, file);
    weft_faults_free(&faults);
    weft_runner_free(runner);
    weft_graph_free(g);
    return status;
}

static const char run_details[] =
    "Prints the path of every file it writes, and what PreviewAny shows. With --json, one object a line, each with\n"
    "\"event\" and, where it is about a node, \"node\" and \"class\":\n"
    "  start      a node begins\n"
    "  progress   \"what\" it is at, \"step\" of \"steps\"\n"
    "  wrote      \"file\", a path\n"
    "  told       \"text\", what PreviewAny shows\n"
    "  warning    \"message\": what the node could not use\n"
    "  done       it took \"seconds\"\n"
    "  cached     its result is there already\n"
    "  error      \"type\" and \"message\"; \"input\" where a fault is about one\n"
    "The exit status is 0 where all went well, 1 after an error, 130 after Ctrl-C.";

int command_run(int argc, char **argv) {
    session s = { 0 };
    struct cli_many sets = { 0 };
    const cli_option options[] = {
        { "set", CLI_MANY, &sets, "ID.INPUT=VALUE", "changes an input before running; may be given more than once", 0,
          0, NULL },
        SESSION_FOLDER_OPTIONS(s), SESSION_RUN_OPTIONS(s),
        { "json", CLI_FLAG, &s.json, NULL, "print each event as a line of JSON", 0, 0, NULL }, { 0 } };
    const cli_command command = { "run", "FILE [--set ID.INPUT=VALUE …]",
                                  "Runs a graph: a workflow in API or UI format, or a picture that carries one.",
                                  run_details, options, 1, 1 };
    int plain, parsed = cli_parse(&command, argc, argv, &plain), status = parsed == CLI_HELP ? 0 : 1;
    if (parsed == CLI_RUN && session_open(&s, "run")) status = run_graph(&s, argv[0], &sets);
    session_close(&s);
    free(sets.items);
    return status;
}

/* ---- check ------------------------------------------------------------------------------------------------------- */

static int check_file(session *s, const char *file, bool with_files) {
    weft_faults faults = { 0 };
    weft_graph *g = weft_graph_read(s->c, s->registry, file);
    if (g) weft_graph_check(s->c, g, with_files ? &s->folders : NULL, &faults);
    int status = !weft_ok(s->c) ? session_fail(s, "check") : faults.count ? 1 : 0;
    if (weft_ok(s->c) && s->json) {
        char *json = weft_faults_json(&faults);
        if (json) puts(json);
        free(json);
    } else if (faults.count) session_print_faults(&faults, file);
    else if (!status) printf("%s: whole\n", file);
    weft_faults_free(&faults);
    weft_graph_free(g);
    weft_clear(s->c);
    return status;
}

int command_check(int argc, char **argv) {
    session s = { 0 };
    bool no_files = false;
    const cli_option options[] = { SESSION_FOLDER_OPTIONS(s),
                                   { "no-files", CLI_FLAG, &no_files, NULL,
                                     "do not look whether models and pictures are there", 0, 0, NULL },
                                   { "json", CLI_FLAG, &s.json, NULL, "print ComfyUI's error object", 0, 0, NULL },
                                   { 0 } };
    const cli_command command = {
        "check", "FILE …", "Checks graphs without running them and tells every fault.",
        "Of several files, the last line says how many are whole.", options, 1, -1 };
    int plain, parsed = cli_parse(&command, argc, argv, &plain), status = parsed == CLI_HELP ? 0 : 1;
    if (parsed == CLI_RUN && session_open(&s, "check")) {
        int whole = 0;
        for (int i = 0; i < plain; i++) whole += !check_file(&s, argv[i], !no_files);
        if (plain > 1 && !s.json) printf("%d of %d whole\n", whole, plain);
        status = whole < plain;
    }
    session_close(&s);
    return status;
}

/* ---- convert ----------------------------------------------------------------------------------------------------- */

int command_convert(int argc, char **argv) {
    session s = { 0 };
    const cli_option options[] = { { 0 } };
    const cli_command command = { "convert", "FILE", "Prints a workflow (UI format, or a picture's) in API format.",
                                  NULL, options, 1, 1 };
    int plain, parsed = cli_parse(&command, argc, argv, &plain), status = parsed == CLI_HELP ? 0 : 1;
    if (parsed == CLI_RUN && session_open(&s, "convert")) {
        weft_graph *g = weft_graph_read(s.c, s.registry, argv[0]);
        char *json = g ? weft_graph_json(g, true) : NULL;
        if (g && !json) weft_fail(s.c, WEFT_E_MEMORY, "out of memory");
        status = weft_ok(s.c) ? 0 : session_fail(&s, "convert");
        if (json) puts(json);
        free(json);
        weft_graph_free(g);
    }
    session_close(&s);
    return status;
}
