/* See config.h. Values from the file go into messages shortened and as plain ASCII. */
#include "nodes/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A value as JSON writes it, strings without quotes. */
static void show(const cJSON *value, char *out, size_t size) {
    if (cJSON_IsNumber(value)) snprintf(out, size, "%.17g", value->valuedouble);
    else if (cJSON_IsBool(value)) snprintf(out, size, "%s", cJSON_IsTrue(value) ? "true" : "false");
    else if (cJSON_IsString(value)) snprintf(out, size, "%s", value->valuestring);
    else snprintf(out, size, "%s", weft_json_kind(value));
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~') *p = '?';
}

/* `supported` split at its bars has `text` in it. */
static bool is_one_of(const char *supported, const char *text) {
    size_t length = strlen(text);
    if (strchr(text, '|')) return false;
    for (const char *p = supported; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (!strncmp(p, text, length) && (p[length] == '|' || !p[length])) return true;
    }
    return false;
}

weft_status weft_config_rules(const weft_json *j, const weft_config_rule *rules) {
    for (; rules->key; rules++) {
        const cJSON *field = weft_json_field(j, rules->key), *item = cJSON_IsArray(field) ? field->child : field;
        for (; item; item = item == field ? NULL : item->next) {
            char text[64];
            show(item, text, sizeof text);
            if (!is_one_of(rules->supported, text))
                return weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: %s is not supported; supported: %s", j->file, rules->key,
                                 text, rules->supported);
        }
    }
    return WEFT_OK;
}

int weft_config_names(const weft_json *j, const char *key, const char *const *names, int count, int *out, int room) {
    const cJSON *field = weft_json_field(j, key);
    int n = 0;
    if (!field) return 0;
    if (!cJSON_IsArray(field) || !field->child) {
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: expected a list of names", j->file, key);
        return 0;
    }
    for (const cJSON *item = field->child; item; item = item->next) {
        char text[64];
        int i = 0;
        show(item, text, sizeof text);
        while (i < count && strcmp(names[i], text)) i++;
        if (i == count || n == room) {
            if (i == count) weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: %s is not supported", j->file, key, text);
            else weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: expected a list of at most %d", j->file, key, room);
            return 0;
        }
        out[n++] = i;
    }
    return n;
}

void weft_config_each(const weft_json *j, const char *key, int64_t low, int64_t high, int64_t fallback, int n, int *out) {
    int64_t values[64];
    const cJSON *field = weft_json_field(j, key);
    int found = weft_json_ints(j, key, low, high, values, (int)(sizeof values / sizeof *values));
    if (found && found != n && cJSON_IsArray(field))
        weft_fail(j->ctx, WEFT_E_FORMAT, "%s: %s: a list of %d, but the model has %d blocks", j->file, key, found, n);
    for (int i = 0; i < n; i++) out[i] = (int)(found == n ? values[i] : found ? values[0] : fallback);
}

bool weft_config_within(weft_ctx *c, const char *name, const char *key, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return true;
    weft_fail(c, WEFT_E_FORMAT, "%s: %s: %" PRId64 "; from %" PRId64 " to %" PRId64 " is possible", name, key, value, low,
              high);
    return false;
}

static weft_status finish(weft_ctx *c, const char *name, cJSON *root, void (*read)(const weft_json *j, void *config),
                          void *config) {
    weft_json j = { c, name, root };
    if (!root) return weft_error(c);
    if (!cJSON_IsObject(root)) weft_fail(c, WEFT_E_FORMAT, "%s: expected an object, found %s", name, weft_json_kind(root));
    else read(&j, config);
    cJSON_Delete(root);
    return weft_error(c);
}

weft_status weft_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                              void (*read)(const weft_json *j, void *config), void *config) {
    if (!weft_ok(c)) return weft_error(c);
    return finish(c, name, weft_json_parse(c, name, text, size, 0), read, config);
}

weft_status weft_config_read(weft_ctx *c, const char *path, void (*read)(const weft_json *j, void *config), void *config) {
    if (!weft_ok(c)) return weft_error(c);
    return finish(c, path, weft_json_read(c, path, WEFT_CONFIG_LIMIT, 0), read, config);
}
