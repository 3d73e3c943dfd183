/* The config.json of a model in diffusers' manner: what runtime/json.h does not know. */
#ifndef WEFT_CONFIG_H
#define WEFT_CONFIG_H

#include "runtime/json.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_CONFIG_LIMIT (1 << 20)     /* bytes of a config.json */

/* A key of which only some values are supported: "silu|swish"; numbers, true and false as JSON writes them. A list must hold
 * supported values only. Absent and null are always right. */
typedef struct weft_config_rule { const char *key, *supported; } weft_config_rule;
/* Checks rules up to one with a NULL key. */
weft_status weft_config_rules(const weft_json *j, const weft_config_rule *rules);

/* A list of names, each of names[0…count): their numbers to out. Returns how many; 0 where absent or, with the error set,
 * wrong. */
int weft_config_names(const weft_json *j, const char *key, const char *const *names, int count, int *out, int room);

/* One whole number for all, or a list of exactly n, to out; `fallback` for all where absent. */
void weft_config_each(const weft_json *j, const char *key, int64_t low, int64_t high, int64_t fallback, int n, int *out);

/* low ≤ value ≤ high, or the error that names it. */
bool weft_config_within(weft_ctx *c, const char *name, const char *key, int64_t value, int64_t low, int64_t high);

/* Parses an object and has `read` fill `config` from it: what is common to all weft_…_config_parse(). */
weft_status weft_config_parse(weft_ctx *c, const char *name, const char *text, size_t size,
                              void (*read)(const weft_json *j, void *config), void *config) WEFT_MUST_CHECK;
/* The same from a file. */
weft_status weft_config_read(weft_ctx *c, const char *path, void (*read)(const weft_json *j, void *config),
                             void *config) WEFT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
