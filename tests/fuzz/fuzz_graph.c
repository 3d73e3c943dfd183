/* Any bytes as a graph: API format, UI format or wrapped, with Weft's own classes; read, checked, printed, and read
 * again, which must give the same. */
#include "nodes/values.h"
#include "runtime/json.h"
#include "tests/fuzz/fuzz.h"

static void check_faults(weft_ctx *c, const weft_graph *g) {
    weft_faults faults;
    MUST(!weft_graph_check(c, g, NULL, &faults));
    for (int i = 0; i < faults.count; i++)
        MUST(faults.items[i].type && *faults.items[i].details && !strchr(faults.items[i].details, '\n'));
    char *text = weft_faults_json(&faults);
    MUST(text);
    cJSON *json = weft_json_parse(c, "faults", text, strlen(text), 0);
    MUST(json);
    cJSON_Delete(json);
    cJSON_free(text);
    weft_faults_free(&faults);
}

static void check_again(weft_ctx *c, const weft_registry *r, const weft_graph *g) {
    char *first = weft_graph_json(g, false);
    MUST(first);
    weft_graph *again = weft_graph_parse(c, r, "again", first, strlen(first));
    /* what a UI file calls a node may begin with "_", which API files keep for themselves; an empty graph has no form
     */
    char *second = again ? weft_graph_json(again, false) : NULL;
    MUST(!again || (second && strlen(second) <= strlen(first)));
    cJSON_free(second);
    cJSON_free(first);
    weft_graph_free(again);
    weft_clear(c);
}

FUZZ(fuzz_graph) {
    static weft_ctx *c;     /* one for all inputs */
    static weft_registry *r;
    if (!c) c = weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
    if (c && !r) r = weft_nodes_registry(c);
    if (!r) return;
    weft_graph *g = weft_graph_parse(c, r, "fuzz", (const char *)data, size);
    MUST(!g == !weft_ok(c));
    if (!g && weft_error(c) != WEFT_E_FORMAT) fprintf(stderr, "%s\n", weft_message(c));
    MUST(g || (weft_error(c) == WEFT_E_FORMAT && !strchr(weft_message(c), '\n')));
    if (g) {
        check_faults(c, g);
        check_again(c, r, g);
    }
    weft_graph_free(g);
    weft_clear(c);
    MUST(weft_memory_live(c) == 0);
}
