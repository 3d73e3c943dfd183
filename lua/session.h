/* What the commands that run graphs share: options, context, registry, folders, and how faults and progress are
 * shown. */
#ifndef WEFT_SESSION_H
#define WEFT_SESSION_H

#include "lua/cli.h"
#include "nodes/values.h"

typedef struct session {
    /* options, filled by the command line */
    struct cli_many models;
    const char *input, *output, *device, *dtype;
    int threads, precision;
    size_t memory;
    bool json;
    /* made by session_open() */
    weft_ctx *c;
    weft_registry *registry;
    weft_folders folders;
} session;

extern const char *const session_precisions[];
/* Rows for a command's table of options. */
#define SESSION_FOLDER_OPTIONS(s) \
    { "models", CLI_MANY, &(s).models, "DIR", \
      "folder with checkpoints/, vae/, loras/ … (default models; may be given more than once)", 0, 0, NULL }, \
    { "input", CLI_TEXT, &(s).input, "DIR", "folder of pictures to load (default input)", 0, 0, NULL }, \
    { "output", CLI_TEXT, &(s).output, "DIR", "folder for results (default output)", 0, 0, NULL }
#define SESSION_RUN_OPTIONS(s) \
    { "device", CLI_TEXT, &(s).device, "NAME", \
      "cpu (default, or what WEFT_DEVICE says), cuda, cuda:1 … or reference", 0, 0, NULL }, \
    { "dtype", CLI_TEXT, &(s).dtype, "T", \
      "what models compute in: f32, f16 or bf16 (default: f32 on a CPU; on cuda f16, bf16 in training)", 0, 0, NULL }, \
    { "threads", CLI_INT, &(s).threads, "N", "threads (default: one for each core)", 1, 1024, NULL }, \
    { "memory", CLI_SIZE, &(s).memory, "SIZE", \
      "the most memory that tensors may take, such as 4G (default: no limit)", 0, 0, NULL }, \
    { "precision", CLI_CHOICE, &(s).precision, "P", "fast (default) or exact", 0, 0, session_precisions }

/* Fills in the default folders where none are set and creates context and registry. False where it failed: without a
 * context (no memory), or with the context's error set. session_stop() in either case. */
bool session_start(session *s);
void session_stop(session *s);
/* Ctrl-C cancels this context's work from now on; NULL: it ends the program again. */
void session_interrupts(weft_ctx *c);
/* Shows warnings, and progress on a terminal. */
void session_progress(weft_ctx *c);
/* Goes to a new line where a bar stands unfinished: before a message. */
void session_end_bar(void);

/* session_start() with the command line's options, progress and Ctrl-C; false after a message. session_close() in
 * either case. */
bool session_open(session *s, const char *command);
void session_close(session *s);
/* Prints the context's error; returns the exit status: 1, or 130 where it was cancelled. */
int session_fail(session *s, const char *command);
/* Whether this kind of progress is one of whole steps, pictures or parts, and not of the layers within. */
bool session_shows(const char *what);
/* Prints faults for people, a line each. */
void session_print_faults(const weft_faults *faults, const char *file);

/* Prints a text as a JSON string. */
void session_print_text(const char *text);

#endif
