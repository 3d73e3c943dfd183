/* Any bytes as JSON: read, printed by cJSON, and read again, which must give the same text. */
#include "runtime/json.h"
#include "tests/fuzz/fuzz.h"

static void check_again(weft_ctx *c, const cJSON *root) {
    char *text = cJSON_PrintUnformatted(root);
    MUST(text);
    cJSON *again = weft_json_parse(c, "again", text, strlen(text), 0);
    MUST(again);
    char *second = cJSON_PrintUnformatted(again);
    MUST(second && !strcmp(text, second));
    cJSON_free(second);
    cJSON_free(text);
    cJSON_Delete(again);
}

static void check_value(const cJSON *v, int depth) {
    uint64_t u;
    int64_t i;
    MUST(depth <= WEFT_JSON_DEPTH);
    if (weft_json_u64(v, &u) && weft_json_i64(v, &i)) MUST(u == (uint64_t)i);
    for (const cJSON *item = v->child; item; item = item->next) check_value(item, depth + 1);
}

FUZZ(fuzz_json) {
    static weft_ctx *c;     /* one for all inputs */
    if (!c) c = weft_ctx_new(&(weft_options){ .device = "reference", .threads = 1 });
    if (!c) return;
    for (int flags = 0; flags <= WEFT_JSON_NAN; flags++) {
        cJSON *root = weft_json_parse(c, "fuzz", (const char *)data, size, flags);
        MUST(!root == !weft_ok(c));
        MUST(root || (weft_error(c) == WEFT_E_FORMAT && !strchr(weft_message(c), '\n')));
        if (root) {
            check_value(root, 0);
            if (!flags) check_again(c, root);
        }
        cJSON_Delete(root);
        weft_clear(c);
    }
}
