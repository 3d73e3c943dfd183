/* Graphs: reading, editing, checking and running them.
 *
 * The native file is ComfyUI's API format: {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}}}.
 * The UI format (nodes, links, widgets_values; 0.4 and 1) and pictures that carry either are converted when they are
 * read.
 */
#ifndef WEFT_GRAPH_H
#define WEFT_GRAPH_H

#include "runtime/graph/node.h"

/* ---- folders: where names in a graph lead ------------------------------------------------------------------------ */

/* Several model roots, laid out as ComfyUI's models/ (checkpoints, vae, loras, diffusers, text_encoders + clip,
 * diffusion_models + unet, embeddings …), one input and one output folder. A name in a graph stays inside them:
 * absolute paths, drive letters and ".." are refused; "\" reads as "/"; the suffixes " [input]", " [output]", " [temp]"
 * pick the folder of pictures. "datasets" are the folders
 * below the input folder. */
typedef struct weft_folders {
    const char *const *models;      /* NULL-terminated */
    const char *input, *output, *temp;
} weft_folders;

/* The path of an existing file (or folder, for "diffusers") in a folder kind; NULL with an error that says where it
 * looked and the nearest name there is. malloc'd. */
char *weft_folders_find(weft_ctx *c, const weft_folders *f, const char *kind, const char *name);
/* Where something new of this name belongs: in the output folder ("output"; also "input", "temp"), with the folders
 * above it made. NULL with the error set. malloc'd. */
char *weft_folders_place(weft_ctx *c, const weft_folders *f, const char *kind, const char *name);
/* All names of a kind, sorted, with subfolders; NULL-terminated, one malloc'd block (free it). NULL without memory. */
const char **weft_folders_list(const weft_folders *f, const char *kind);

/* What a running node may know of its surroundings: weft_run_info(c) inside run(), sign() and check(); never NULL
 * there. */
typedef struct weft_run_info {
    const weft_registry *registry;
    const weft_folders *folders;
    const weft_node *node;          /* its descriptor */
    const char *node_id, *class_name;
    const char *prompt_json;        /* the whole graph in API format, for a picture's metadata */
    const char *workflow_json;      /* the UI format it came from, or NULL */
    /* Tells the runner of a file that was written: what it holds ("images"), its path below its folder
     * ("day/a_00001_.png"), and which of the folders that is ("output", "temp"). */
    void (*wrote)(void *user, const char *kind, const char *file, const char *folder);
    void (*told)(void *user, const char *text);     /* tells the runner of something to be read; NULL: nobody listens */
    void *user;
} weft_run_info;
const weft_run_info *weft_run_info_of(const weft_ctx *c);

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

typedef struct weft_graph weft_graph;

weft_graph *weft_graph_new(weft_ctx *c, const weft_registry *r);        /* empty; NULL with the error set */
void weft_graph_free(weft_graph *g);
/* Any of the forms, from a .json, .png, .webp or .jpg file (told by content). Syntax errors name line and column.
 * Unknown classes are no error yet: weft_graph_check() tells of all of them. */
weft_graph *weft_graph_read(weft_ctx *c, const weft_registry *r, const char *path);
weft_graph *weft_graph_parse(weft_ctx *c, const weft_registry *r, const char *name, const char *text, size_t size);
/* API format, keys in the order of the graph; pretty: indented. malloc'd; NULL without memory. */
char *weft_graph_json(const weft_graph *g, bool pretty);
const char *weft_graph_workflow(const weft_graph *g);                   /* the UI JSON it came from, or NULL */

/* Editing. Ids are text ("3", "12:5"). A link to what is not there yet is allowed; checking tells. */
/* id NULL: the next free number. Returns the id. */
const char *weft_graph_add(weft_ctx *c, weft_graph *g, const char *id, const char *class_name);
/* Writes the default of every input that stands empty and has one (no optional ones), as an editor does for a new node.
 */
weft_status weft_graph_fill(weft_ctx *c, weft_graph *g, const char *id);
weft_status weft_graph_remove(weft_ctx *c, weft_graph *g, const char *id);
weft_status weft_graph_set(weft_ctx *c, weft_graph *g, const char *id, const char *input, const weft_value *v);
/* The text is read as the port's kind wants it: --set. */
weft_status weft_graph_set_text(weft_ctx *c, weft_graph *g, const char *id, const char *input, const char *text);
weft_status weft_graph_link(weft_ctx *c, weft_graph *g, const char *id, const char *input, const char *from, int slot);
weft_status weft_graph_clear_input(weft_ctx *c, weft_graph *g, const char *id, const char *input);
/* Walking it: the i-th node's id and class (NULL past the end), and what stands in an input. */
const char *weft_graph_id(const weft_graph *g, int i);
const char *weft_graph_class(const weft_graph *g, const char *id);
const char *weft_graph_title(const weft_graph *g, const char *id);      /* _meta.title, or NULL */
/* 0: nothing, 1: a literal (in *v, borrowed), 2: a link (*from, *slot). */
int weft_graph_input(const weft_graph *g, const char *id, const char *input, weft_value *v, const char **from,
                     int *slot);

/* ---- checking ---------------------------------------------------------------------------------------------------- */

/* One fault. type is ComfyUI's: "required_input_missing", "bad_linked_input", "return_type_mismatch",
 * "invalid_input_type", "value_smaller_than_min", "value_bigger_than_max", "value_not_in_list",
 * "custom_validation_failed", "dependency_cycle", "missing_node_type", "prompt_no_outputs", "invalid_prompt". Texts are
 * owned by the list. */
typedef struct weft_fault {
    const char *type, *node, *class_name, *input, *message, *details;
} weft_fault;
typedef struct weft_faults { weft_fault *items; int count; void *memory; } weft_faults;

/* Checks all that the outputs need. Returns WEFT_OK and no faults, or the faults, all of them; outputs that are whole
 * can still run. */
weft_status weft_graph_check(weft_ctx *c, const weft_graph *g, const weft_folders *f, weft_faults *faults);
void weft_faults_free(weft_faults *faults);
/* ComfyUI's HTTP 400 body: {"error": …, "node_errors": …}. malloc'd. */
char *weft_faults_json(const weft_faults *faults);

/* What the context's error is about, where checking, running or calling a node set it: type, node, class_name and
 * input, each NULL where that is unknown. Valid until the error is cleared. */
weft_fault weft_graph_blame(const weft_ctx *c);

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Runs graphs and keeps the results of nodes by signature: a node whose class, literals, inputs' signatures and files
 * are the same is not run again. What a run did not use is dropped when memory is short, and where the run before did
 * not use it either: two graphs, or two parts of one, may take turns.
 *
 * Weights may be trained in place between runs. What was computed from them runs again once they have changed, and
 * while a tape records; the node that made them does not, and its result is never dropped: the training is in it. */
typedef struct weft_runner weft_runner;
typedef struct weft_runner_options {
    weft_folders folders;
    /* Events: "start" (before a node runs), "done" (seconds), "cached", "wrote" (text: the file's path, folder and all),
     * "told" (text: what is to be read). */
    void (*event)(void *user, const char *what, const char *node, const char *class_name, const char *text,
                  double seconds);
    void *user;
} weft_runner_options;
weft_runner *weft_runner_new(weft_ctx *c, const weft_registry *r, const weft_runner_options *o);
void weft_runner_free(weft_runner *runner);
/* The faults that the last run's check found; none where it went on to run. */
const weft_faults *weft_runner_faults(const weft_runner *runner);
/* Checks, plans and runs what `targets` (ids, NULL-terminated; NULL: all output nodes) need. The error names node and
 * class. */
weft_status weft_runner_run(weft_runner *runner, const weft_graph *g, const char *const *targets) WEFT_MUST_CHECK;
/* An output of a node that the last run ran or took from its cache; borrowed until the next run. NULL where there is
 * none. */
const weft_value *weft_runner_output(const weft_runner *runner, const char *node, int slot);
int weft_runner_ran(const weft_runner *runner);             /* how many nodes the last run really ran */
/* Runs one node outside a graph: inputs by name (links are values). outputs: as many as the class has, cleared by the
 * caller. */
weft_status weft_node_call(weft_ctx *c, const weft_registry *r, const weft_folders *f, const char *class_name,
                           const char *const *names, const weft_value *values, int n,
                           weft_value *outputs) WEFT_MUST_CHECK;

#endif
