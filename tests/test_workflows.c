/* Workflows with Weft's own classes: the UI format against the prompt that ComfyUI's editor makes of it, in cases of
 * our own (tests/golden/ui_*.json: both forms in one file) and, where they are there, in real users' files, which are
 * also all checked. */
#include "nodes/values.h"
#include "runtime/graph/graph_internal.h"
#include "runtime/json.h"
#include "tests/test.h"

#include <dirent.h>
#include <time.h>

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden"
#define WILD WEFT_SOURCE_DIR "/../shared/data/workflows"

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static bool same_value(const weft_value *a, const weft_value *b) {
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case WEFT_PORT_STRING: return !strcmp(a->s, b->s);
    case WEFT_PORT_FLOAT: return a->f == b->f;
    case WEFT_PORT_BOOL: return a->b == b->b;
    default: return a->u == b->u;
    }
}

static void compare_input(const char *file, const weft_graph *got, const weft_graph *want, const char *id,
                          const weft_port *port) {
    const char *input = port->name;
    weft_value a, b;
    const char *from_a = "", *from_b = "";
    int slot_a = 0, slot_b = 0;
    int kind_a = weft_graph_input(got, id, input, &a, &from_a, &slot_a),
        kind_b = weft_graph_input(want, id, input, &b, &from_b, &slot_b);
    bool late = kind_a == 1 && kind_b == 0 && (port->flags & WEFT_PORT_LATE);
    bool same = kind_a == kind_b &&
                (kind_a == 0 || (kind_a == 1 ? same_value(&a, &b) : !strcmp(from_a, from_b) && slot_a == slot_b));
    if (!same && !late) TEST_FAIL("%s: node %s: input %s differs", file, id, input);
}

/* Nodes, classes, and the inputs that the class has. Left out: inputs that no class of ours has (the editor stores its
 * own buttons there: "upload", "choose file to upload", "Random seed after every gen"), the widgets of classes that are
 * not known, and inputs that a class got after the prompt was stored, which now have their default. */
static void compare(const char *file, const weft_registry *r, const weft_graph *got, const weft_graph *want) {
    const char *id;
    for (int i = 0; (id = weft_graph_id(got, i)); i++)
        if (!weft_graph_class(want, id))
            TEST_FAIL("%s: node %s (%s) is one too many", file, id, weft_graph_class(got, id));
    for (int i = 0; (id = weft_graph_id(want, i)); i++) {
        const char *class_name = weft_graph_class(want, id), *as = weft_graph_class(got, id);
        const weft_node *n = weft_registry_find(r, class_name);
        if (!as || strcmp(as, class_name))
            TEST_FAIL("%s: node %s is %s, not %s", file, id, as ? as : "missing", class_name);
        for (const weft_port *p = as && n ? n->inputs : NULL; p && p->name; p++)
            compare_input(file, got, want, id, p);
    }
}

/* ---- our own cases ----------------------------------------------------------------------------------------------- */

TEST(ui_format_as_the_editor_reads_it) {
    static const char *const files[] = { "ui_reroutes.json", "ui_subgraphs.json", "ui_careless.json" };
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1, .device = "reference" });
    weft_registry *r = weft_nodes_registry(c);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[1024];
        snprintf(path, sizeof path, GOLDEN "/%s", files[i]);
        cJSON *root = weft_json_read(c, path, 1 << 20, 0);
        weft_graph *got = weft_graph_new(c, r), *want = weft_graph_new(c, r);
        weft_graph_from_ui(c, got, files[i], cJSON_GetObjectItemCaseSensitive(root, "workflow"));
        weft_graph_from_api(c, want, files[i], cJSON_GetObjectItemCaseSensitive(root, "output"));
        if (weft_ok(c) && weft_graph_id(want, 0)) compare(files[i], r, got, want);
        else TEST_FAIL("%s: %s", files[i], weft_message(c));
        weft_graph_free(got);
        weft_graph_free(want);
        cJSON_Delete(root);
        weft_clear(c);
    }
    weft_registry_free(r);
    weft_ctx_free(c);
}

/* What is read and printed is read again as the same, to the last bit of a number and the last digit of a seed. */
TEST(printed_and_read_again) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1, .device = "reference" });
    weft_registry *r = weft_nodes_registry(c);
    weft_graph *first = weft_graph_read(c, r, GOLDEN "/ui_reroutes.json");      /* "output" is what ran */
    for (int pretty = 0; first && pretty < 2; pretty++) {
        char *text = weft_graph_json(first, pretty);
        CHECK_HAS(text, "0.4999999999999999");
        CHECK_HAS(text, "18446744073709551615");
        weft_graph *again = text ? weft_graph_parse(c, r, "printed", text, strlen(text)) : NULL;
        if (again) {
            compare("printed", r, again, first);
            CHECK_STR(weft_graph_title(again, "6"), "Positive");
        } else TEST_FAIL("%s", weft_message(c));
        weft_graph_free(again);
        free(text);
    }
    CHECK(first != NULL);
    weft_graph_free(first);
    weft_registry_free(r);
    weft_ctx_free(c);
}

/* ---- real users' files ------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Calls `see` with each file of a folder of WILD; how many there are. */
static int each_file(const char *folder,
                     void (*see)(weft_ctx *c, const weft_registry *r, const char *name, const char *path)) {
    char path[1024];
    int count = 0;
    snprintf(path, sizeof path, WILD "/%s", folder);
    DIR *d = opendir(path);
    if (!d) return 0;
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1, .device = "reference" });
    weft_registry *r = weft_nodes_registry(c);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, WILD "/%s/%s", folder, e->d_name);
        see(c, r, e->d_name, path);
        weft_clear(c);
        count++;
    }
    closedir(d);
    weft_registry_free(r);
    CHECK_EQ(weft_memory_live(c), 0);
    weft_ctx_free(c);
    return count;
}

static void compare_forms(weft_ctx *c, const weft_registry *r, const char *name, const char *path) {
    char stored[1024];
    snprintf(stored, sizeof stored, WILD "/api/%s", name);
    if (access(stored, R_OK)) return;
    weft_graph *got = weft_graph_read(c, r, path), *want = got ? weft_graph_read(c, r, stored) : NULL;
    if (want) compare(name, r, got, want);
    else TEST_FAIL("%s: %s", name, weft_message(c));
    weft_graph_free(got);
    weft_graph_free(want);
}

TEST(workflows_against_their_stored_prompts) {
    if (!each_file("ui", compare_forms)) printf("     (no workflows there)\n");
}

/* Faults have all that a message needs, and their JSON is JSON. */
static void check_one(weft_ctx *c, const weft_registry *r, const char *name, const char *path) {
    double start = now();
    weft_faults f = { 0 };
    weft_graph *g = weft_graph_read(c, r, path);
    if (!g || weft_graph_check(c, g, NULL, &f)) TEST_FAIL("%s: %s", name, weft_message(c));
    for (int i = 0; i < f.count; i++)
        if (!f.items[i].type || !f.items[i].details || !*f.items[i].details || strchr(f.items[i].details, '\n'))
            TEST_FAIL("%s: fault %d has no words", name, i);
    char *text = weft_faults_json(&f);
    cJSON *json = weft_json_parse(c, name, text, strlen(text), 0);
    CHECK(json != NULL);
    cJSON_Delete(json);
    free(text);
    weft_faults_free(&f);
    weft_graph_free(g);
    CHECK(now() - start < 5);       /* milliseconds, really: this is for what never ends */
}

TEST(workflows_are_all_checked) {
    int count = each_file("api", check_one) + each_file("ui", check_one);
    if (!count) printf("     (no workflows there)\n");
}

TEST_MAIN
