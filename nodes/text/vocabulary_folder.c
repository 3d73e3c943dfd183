/* The tables from a tokenizer's folder, as transformers 5 reads one: tokenizer.json alone, or vocab.json and
 * merges.txt; and which texts are special tokens. See vocabulary.h.
 *
 * Special tokens come from added_tokens_decoder in tokenizer_config.json; where that is missing, from added_tokens.json
 * and tokenizer.json, and special_tokens_map.json goes before tokenizer_config.json. Then come the settings bos_token,
 * eos_token …: a setting that is a plain text is looked for in the text as it is, and of two settings of one text the
 * last one counts.
 */
#include "nodes/text/vocabulary.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/json.h"

#define FILE_LIMIT ((size_t)64 << 20)

/* The files of a folder that are being read. */
struct folder {
    weft_ctx *ctx;
    weft_vocabulary *v;
    char *vocab_path, *merges_path, *whole_path, *config_path, *map_path, *added_path;      /* whole: tokenizer.json */
    cJSON *vocab, *whole, *config, *map, *added;                                            /* NULL: there is none */
};

static weft_status no_memory(weft_ctx *c, const char *file) {
    return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the vocabulary", file);
}

/* ---- vocabulary, merges ------------------------------------------------------------------------------------ */

static weft_status add_vocabulary(struct folder *f, const char *file, const cJSON *vocab) {
    weft_ctx *c = f->ctx;
    const cJSON *entry;
    int32_t twice;
    if (!cJSON_IsObject(vocab) || !vocab->child)
        return weft_fail(c, WEFT_E_FORMAT, "%s: expected an object of tokens and their ids, found %s", file,
                         vocab ? weft_json_kind(vocab) : "none");
    cJSON_ArrayForEach(entry, vocab) {
        int64_t id;
        if (!weft_json_i64(entry, &id) || id < 0 || id >= WEFT_BPE_IDS)
            return weft_fail(c, WEFT_E_FORMAT, "%s: token \"%s\": expected an id of 0 to %d", file, entry->string,
                             WEFT_BPE_IDS - 1);
        if (!weft_bpe_add(f->v->bpe, entry->string, strlen(entry->string), (int32_t)id)) return no_memory(c, file);
    }
    if (weft_bpe_index(f->v->bpe, &twice)) return WEFT_OK;
    if (twice < 0) return no_memory(c, file);
    return weft_fail(c, WEFT_E_FORMAT, "%s: two tokens have the id %d", file, twice);
}

/* A merge of two tokens at a line (or, in a list, a place) of a file. */
static weft_status add_merge(struct folder *f, const char *file, int place, const char *left, size_t left_bytes,
                             const char *right, size_t right_bytes) {
    weft_ctx *c = f->ctx;
    weft_bpe *b = f->v->bpe;
    char joined[1024];
    if (left_bytes + right_bytes > sizeof joined)
        return weft_fail(c, WEFT_E_FORMAT, "%s:%d: a merge of %zu bytes", file, place, left_bytes + right_bytes);
    memcpy(joined, left, left_bytes);
    memcpy(joined + left_bytes, right, right_bytes);
    int32_t l = weft_bpe_find(b, left, left_bytes), r = weft_bpe_find(b, right, right_bytes);
    int32_t id = weft_bpe_find(b, joined, left_bytes + right_bytes);
    if (l < 0 || r < 0 || id < 0)
        return weft_fail(c, WEFT_E_FORMAT, "%s:%d: merge \"%.*s %.*s\": the vocabulary has no token \"%.*s\"", file,
                         place, (int)left_bytes, left, (int)right_bytes, right,
                         (int)(l < 0 ? left_bytes : r < 0 ? right_bytes : left_bytes + right_bytes),
                         l < 0 ? left : r < 0 ? right : joined);
    return weft_bpe_merge(b, l, r, id) ? WEFT_OK : no_memory(c, file);
}

/* "left right", bytes long. */
static weft_status add_merge_text(struct folder *f, const char *file, int place, const char *text, size_t bytes) {
    const char *space = memchr(text, ' ', bytes);
    size_t left = space ? (size_t)(space - text) : 0, right = space ? bytes - left - 1 : 0;
    if (!left || !right || memchr(space + 1, ' ', right) || memchr(text, 0, bytes))
        return weft_fail(f->ctx, WEFT_E_FORMAT, "%s:%d: expected two tokens with a space between, found \"%.*s\"", file,
                         place, (int)(bytes < 60 ? bytes : 60), text);
    return add_merge(f, file, place, text, left, space + 1, right);
}

static weft_status add_merges_file(struct folder *f) {
    size_t size;
    char *text = weft_file_read(f->ctx, f->merges_path, FILE_LIMIT, &size);
    if (!text) return weft_error(f->ctx);
    const char *at = text, *end = text + size;
    for (int number = 1; at < end && weft_ok(f->ctx); number++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t bytes = (size_t)((stop ? stop : end) - at);
        const char *line = at;
        at = stop ? stop + 1 : end;
        if (bytes && line[bytes - 1] == '\r') bytes--;
        if ((bytes >= 8 && !memcmp(line, "#version", 8)) || (!bytes && at == end)) continue;
        add_merge_text(f, f->merges_path, number, line, bytes);
    }
    free(text);
    return weft_error(f->ctx);
}

/* model.merges of a tokenizer.json: texts, or lists of two texts. Places count from 1. */
static weft_status add_merges_list(struct folder *f, const char *file, const cJSON *list) {
    const cJSON *entry;
    int place = 0;
    if (!cJSON_IsArray(list)) return weft_fail(f->ctx, WEFT_E_FORMAT, "%s: model.merges: expected a list", file);
    cJSON_ArrayForEach(entry, list) {
        const cJSON *left = cJSON_IsArray(entry) ? entry->child : NULL, *right = left ? left->next : NULL;
        place++;
        if (cJSON_IsString(entry)) {
            if (add_merge_text(f, file, place, entry->valuestring, strlen(entry->valuestring))) break;
        } else if (cJSON_IsString(left) && cJSON_IsString(right) && !right->next) {
            const char *l = left->valuestring, *r = right->valuestring;
            if (add_merge(f, file, place, l, strlen(l), r, strlen(r))) break;
        } else {
            weft_fail(f->ctx, WEFT_E_FORMAT, "%s: model.merges: place %d: expected two tokens, found %s", file, place,
                      weft_json_kind(entry));
            break;
        }
    }
    return weft_error(f->ctx);
}

/* The tables of a tokenizer.json, whose own steps before and after must be CLIP's. */
static weft_status add_whole(struct folder *f) {
    weft_ctx *c = f->ctx;
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(f->whole, "model");
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(model, "type");
    const cJSON *end = cJSON_GetObjectItemCaseSensitive(model, "end_of_word_suffix");
    if (!cJSON_IsObject(model)) return weft_fail(c, WEFT_E_FORMAT, "%s: there is no \"model\"", f->whole_path);
    if (type && (!cJSON_IsString(type) || strcmp(type->valuestring, "BPE")))
        return weft_fail(c, WEFT_E_FORMAT, "%s: model.type: expected \"BPE\", as CLIP's tokenizer is", f->whole_path);
    if (!cJSON_IsString(end) || strcmp(end->valuestring, "</w>"))
        return weft_fail(c, WEFT_E_FORMAT,
                         "%s: model.end_of_word_suffix: expected \"</w>\", as CLIP's tokenizer has it", f->whole_path);
    if (add_vocabulary(f, f->whole_path, cJSON_GetObjectItemCaseSensitive(model, "vocab"))) return weft_error(c);
    return add_merges_list(f, f->whole_path, cJSON_GetObjectItemCaseSensitive(model, "merges"));
}

/* ---- special tokens ---------------------------------------------------------------------------------------- */

static bool flag(const cJSON *object, const char *key, bool fallback) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsBool(value) ? cJSON_IsTrue(value) : fallback;
}

/* A token that is a text, or an object with "content". `special` is how it counts where the object does not say. */
static weft_status add_token(struct folder *f, const char *file, const char *key, const cJSON *token, int64_t id,
                             bool special, bool first_listed) {
    const cJSON *text = cJSON_IsObject(token) ? cJSON_GetObjectItemCaseSensitive(token, "content") : token;
    if (!cJSON_IsString(text)) {
        const char *found = weft_json_kind(text ? text : token);
        return weft_fail(f->ctx, WEFT_E_FORMAT, "%s: %s: expected a token, found %s", file, key, found);
    }
    if (flag(token, "single_word", false))
        return weft_fail(f->ctx, WEFT_E_FORMAT, "%s: %s: \"single_word\" is not supported", file, key);
    if (id >= WEFT_BPE_IDS)
        return weft_fail(f->ctx, WEFT_E_FORMAT, "%s: %s: an id of %d and more", file, key, WEFT_BPE_IDS);
    bool normalized = flag(token, "normalized", !flag(token, "special", special));
    return weft_vocabulary_special(f->ctx, f->v, file, text->valuestring, (int32_t)id, normalized, first_listed);
}

/* added_tokens_decoder: {"49406": {"content": …}}. */
static weft_status add_decoder(struct folder *f, const cJSON *decoder) {
    const cJSON *entry;
    if (!cJSON_IsObject(decoder))
        return weft_fail(f->ctx, WEFT_E_FORMAT, "%s: added_tokens_decoder: expected an object, found %s",
                         f->config_path, weft_json_kind(decoder));
    cJSON_ArrayForEach(entry, decoder) {
        char *end;
        long id = strtol(entry->string, &end, 10);
        if (*end || end == entry->string || id < 0 || id >= WEFT_BPE_IDS)
            return weft_fail(f->ctx, WEFT_E_FORMAT, "%s: added_tokens_decoder: \"%s\" is no id", f->config_path,
                             entry->string);
        if (add_token(f, f->config_path, "added_tokens_decoder", entry, id, false, true)) break;
    }
    return weft_error(f->ctx);
}

/* What a setting is: of the map of special tokens or, where that has not got it, of the configuration. *file: whose it
 * is. */
static const cJSON *setting(const struct folder *f, const char *key, const char **file) {
    const cJSON *value = f->map ? cJSON_GetObjectItemCaseSensitive(f->map, key) : NULL;
    *file = value ? f->map_path : f->config_path;
    if (!value) value = cJSON_GetObjectItemCaseSensitive(f->config, key);
    return cJSON_IsNull(value) ? NULL : value;
}

static const char *const keys[] = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
};
static const char *const fallbacks[] = {
    "<|startoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>", NULL, NULL,
};
enum { BOS, EOS, UNKNOWN, SEP, PAD, KEYS = 7 };

/* A setting's text; NULL where there is none. */
static const char *setting_text(const struct folder *f, int i) {
    const char *file;
    const cJSON *value = setting(f, keys[i], &file);
    if (cJSON_IsObject(value)) value = cJSON_GetObjectItemCaseSensitive(value, "content");
    return cJSON_IsString(value) ? value->valuestring : fallbacks[i];
}

/* added_tokens.json: {"<token>": id}. Those that a setting names are special. */
static weft_status add_added(struct folder *f) {
    const cJSON *entry;
    cJSON_ArrayForEach(entry, f->added) {
        int64_t id;
        bool special = false;
        for (int i = 0; i < KEYS; i++) {
            const char *named = setting_text(f, i);
            special = special || (named && !strcmp(named, entry->string));
        }
        if (!weft_json_i64(entry, &id) || id < 0 || id >= WEFT_BPE_IDS)
            return weft_fail(f->ctx, WEFT_E_FORMAT, "%s: token \"%s\": expected an id", f->added_path, entry->string);
        if (weft_vocabulary_special(f->ctx, f->v, f->added_path, entry->string, (int32_t)id, !special, true)) break;
    }
    return weft_error(f->ctx);
}

/* added_tokens of a tokenizer.json: [{"id": …, "content": …}]. */
static weft_status add_whole_added(struct folder *f) {
    const cJSON *entry;
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(f->whole, "added_tokens")) {
        int64_t id;
        if (!weft_json_i64(cJSON_GetObjectItemCaseSensitive(entry, "id"), &id) || id < 0 || id >= WEFT_BPE_IDS)
            return weft_fail(f->ctx, WEFT_E_FORMAT, "%s: added_tokens: a token without an id", f->whole_path);
        if (add_token(f, f->whole_path, "added_tokens", entry, id, false, true)) break;
    }
    return weft_error(f->ctx);
}

static weft_status add_settings(struct folder *f) {
    const char *file;
    const cJSON *entry, *more;
    for (int i = 0; i < KEYS; i++) {
        const cJSON *value = setting(f, keys[i], &file);
        if (value) add_token(f, file, keys[i], value, -1, true, false);
        else if (fallbacks[i]) weft_vocabulary_special(f->ctx, f->v, file, fallbacks[i], -1, false, false);
    }
    const char *key = "extra_special_tokens";
    if (!cJSON_GetArraySize(more = setting(f, key, &file))) more = setting(f, key = "additional_special_tokens", &file);
    if (!cJSON_IsArray(more)) more = NULL;
    cJSON_ArrayForEach(entry, more)
        if (add_token(f, file, key, entry, -1, true, false)) break;
    f->v->bos = weft_vocabulary_find(f->v, setting_text(f, BOS));
    f->v->eos = weft_vocabulary_find(f->v, setting_text(f, EOS));
    f->v->pad = weft_vocabulary_find(f->v, setting_text(f, PAD));
    if (weft_ok(f->ctx) && (f->v->bos < 0 || f->v->eos < 0 || f->v->pad < 0))
        weft_fail(f->ctx, WEFT_E_FORMAT, "%s: bos_token, eos_token or pad_token is empty", file);
    return weft_error(f->ctx);
}

/* ---- the folder -------------------------------------------------------------------------------------------- */

static bool there(const char *path) {
    return access(path, F_OK) == 0;
}

static cJSON *read_object(struct folder *f, const char *path) {
    cJSON *value = weft_json_read(f->ctx, path, FILE_LIMIT, 0);
    if (!value || cJSON_IsObject(value)) return value;
    weft_fail(f->ctx, WEFT_E_FORMAT, "%s: expected an object, found %s", path, weft_json_kind(value));
    cJSON_Delete(value);
    return NULL;
}

static weft_status open_files(struct folder *f, const char *folder) {
    weft_ctx *c = f->ctx;
    static const char *const name[6] = {
        "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json",
    };
    char **const path[6] = {
        &f->vocab_path, &f->merges_path, &f->whole_path, &f->config_path, &f->map_path, &f->added_path,
    };
    for (int i = 0; i < 6; i++)
        if (!(*path[i] = weft_path_join(c, folder, name[i]))) return weft_error(c);
    if (there(f->whole_path)) f->whole = read_object(f, f->whole_path);
    else if (there(f->vocab_path)) f->vocab = read_object(f, f->vocab_path);
    else return weft_fail(c, WEFT_E_FILE, "%s: no tokenizer is there: neither tokenizer.json nor vocab.json", folder);
    if (there(f->config_path)) f->config = read_object(f, f->config_path);
    if (cJSON_GetObjectItemCaseSensitive(f->config, "added_tokens_decoder")) return weft_error(c);
    if (there(f->map_path)) f->map = read_object(f, f->map_path);
    if (there(f->added_path)) f->added = read_object(f, f->added_path);
    return weft_error(c);
}

static weft_status fill(struct folder *f, const char *folder) {
    weft_ctx *c = f->ctx;
    if (open_files(f, folder)) return weft_error(c);
    if (!(f->v->bpe = weft_bpe_new())) return no_memory(c, folder);
    if (f->whole) add_whole(f);
    else if (!add_vocabulary(f, f->vocab_path, f->vocab)) add_merges_file(f);
    if (!weft_ok(c)) return weft_error(c);

    const cJSON *decoder = cJSON_GetObjectItemCaseSensitive(f->config, "added_tokens_decoder");
    if (decoder) add_decoder(f, decoder);
    else if (!add_added(f)) add_whole_added(f);
    if (!weft_ok(c) || add_settings(f)) return weft_error(c);

    const char *unknown = setting_text(f, UNKNOWN);
    if (!weft_bpe_finish(f->v->bpe, weft_bpe_find(f->v->bpe, unknown, strlen(unknown)))) return no_memory(c, folder);
    return WEFT_OK;
}

weft_status weft_vocabulary_from_folder(weft_ctx *c, weft_vocabulary *v, const char *folder) {
    struct folder f = { .ctx = c, .v = v };
    fill(&f, folder);
    free(f.vocab_path);
    free(f.merges_path);
    free(f.whole_path);
    free(f.config_path);
    free(f.map_path);
    free(f.added_path);
    cJSON_Delete(f.vocab);
    cJSON_Delete(f.whole);
    cJSON_Delete(f.config);
    cJSON_Delete(f.map);
    cJSON_Delete(f.added);
    return weft_error(c);
}
