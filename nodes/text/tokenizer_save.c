/* A tokenizer as files: vocab.json, merges.txt, and what transformers wants to know besides. See tokenizer.h. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/text/vocabulary.h"
#include "runtime/file.h"

static weft_status no_memory(weft_ctx *c) { return weft_fail(c, WEFT_E_MEMORY, "tokenizer: no memory for its files"); }

static void save(weft_ctx *c, const char *folder, const char *name, const char *text, size_t size) {
    char *path = weft_ok(c) ? weft_path_join(c, folder, name) : NULL;
    if (path && !weft_file_save(c, path, text, size)) { /* the context tells */ }
    weft_text_free(path);
}

static void save_json(weft_ctx *c, const char *folder, const char *name, cJSON *object) {
    char *text = object ? cJSON_Print(object) : NULL;
    if (text) save(c, folder, name, text, strlen(text));
    else no_memory(c);
    cJSON_free(text);
    cJSON_Delete(object);
}

/* Adds to an object, or loses it. */
static cJSON *with(cJSON *object, const char *key, cJSON *value) {
    if (object && value && cJSON_AddItemToObject(object, key, value)) return object;
    cJSON_Delete(value);
    cJSON_Delete(object);
    return NULL;
}

static cJSON *vocab(const weft_bpe *b) {
    cJSON *object = cJSON_CreateObject();
    for (int32_t id = 0; object && id < weft_bpe_size(b); id++)
        if (weft_bpe_token(b, id)) object = with(object, weft_bpe_token(b, id), cJSON_CreateNumber(id));
    return object;
}

/* Tokens that are no part of the vocabulary proper; an empty object where there is none. */
static cJSON *added(const weft_vocabulary *v) {
    cJSON *object = cJSON_CreateObject();
    for (int i = 0; object && i < v->specials; i++) {
        const weft_special *s = &v->special[i];
        if (weft_bpe_find(v->bpe, s->text, strlen(s->text)) < 0) object = with(object, s->text, cJSON_CreateNumber(s->id));
    }
    return object;
}

static void merge_line(void *file, const char *left, const char *right) { fprintf(file, "%s %s\n", left, right); }

static void save_merges(weft_ctx *c, const char *folder, const weft_bpe *b) {
    char *text = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);
    if (!lines) {
        no_memory(c);
        return;
    }
    fputs("#version: 0.2\n", lines);
    bool ok = weft_bpe_merges(b, merge_line, lines) && !ferror(lines);
    ok = fclose(lines) == 0 && ok;
    if (ok) save(c, folder, "merges.txt", text, size);
    else no_memory(c);
    free(text);
}

/* bos_token, eos_token, unk_token, pad_token as texts. */
static cJSON *with_specials(const weft_tokenizer *t, cJSON *object) {
    object = with(object, "bos_token", cJSON_CreateString(weft_tokenizer_token(t, weft_tokenizer_bos(t))));
    object = with(object, "eos_token", cJSON_CreateString(weft_tokenizer_token(t, weft_tokenizer_eos(t))));
    object = with(object, "unk_token", cJSON_CreateString(weft_tokenizer_token(t, weft_tokenizer_eos(t))));
    return with(object, "pad_token", cJSON_CreateString(weft_tokenizer_token(t, weft_tokenizer_pad(t))));
}

weft_status weft_tokenizer_save(weft_ctx *c, const weft_tokenizer *t, const char *folder, int length) {
    if (!weft_ok(c)) return weft_error(c);
    const weft_vocabulary *v = weft_tokenizer_vocabulary(t);
    save_json(c, folder, "vocab.json", vocab(v->bpe));
    save_merges(c, folder, v->bpe);
    cJSON *more = added(v);
    if (!more || more->child) save_json(c, folder, "added_tokens.json", more);
    else cJSON_Delete(more);
    save_json(c, folder, "special_tokens_map.json", with_specials(t, cJSON_CreateObject()));
    cJSON *config = with(cJSON_CreateObject(), "tokenizer_class", cJSON_CreateString("CLIPTokenizer"));
    config = with(config, "do_lower_case", cJSON_CreateTrue());
    config = with(config, "errors", cJSON_CreateString("replace"));
    config = with(config, "model_max_length", cJSON_CreateNumber(length));
    save_json(c, folder, "tokenizer_config.json", with_specials(t, config));
    return weft_error(c);
}
