/* The tables from OpenAI's text, and special tokens; folders are read in vocabulary_folder.c. See vocabulary.h.
 *
 * The text gives a title line and one merge a line ("t h", "th e</w>"). Ids: the 256 letters in the order !–~, ¡–¬,
 * ®–ÿ, then the others by their bytes; the same with "</w>"; the merges; start; end.
 */
#include "nodes/text/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#define MERGES 48894    /* of the 262 144 in the file, those that CLIP was trained with */
#define START "<|startoftext|>"
#define END "<|endoftext|>"

void weft_vocabulary_free(weft_vocabulary *v) {
    weft_bpe_free(v->bpe);
    for (int i = 0; i < v->specials; i++) free(v->special[i].text);
    free(v->special);
    *v = (weft_vocabulary){ 0 };
}

int32_t weft_vocabulary_find(const weft_vocabulary *v, const char *text) {
    for (int i = 0; i < v->specials; i++)
        if (!strcmp(v->special[i].text, text)) return v->special[i].id;
    return weft_bpe_find(v->bpe, text, strlen(text));
}

static int32_t next_id(const weft_vocabulary *v) {
    int32_t id = weft_bpe_size(v->bpe);
    for (int i = 0; i < v->specials; i++)
        if (v->special[i].id + v->special[i].count > id) id = v->special[i].id + v->special[i].count;
    return id;
}

/* Whether another token has this id. */
static const char *taken(const weft_vocabulary *v, int32_t id, const char *text) {
    const char *other = weft_bpe_token(v->bpe, id);
    for (int i = 0; !other && i < v->specials; i++)
        if (v->special[i].id == id) other = v->special[i].text;
    return other && strcmp(other, text) ? other : NULL;
}

weft_status weft_vocabulary_special(weft_ctx *c, weft_vocabulary *v, const char *file, const char *text, int32_t id,
                                    bool normalized, bool first_listed) {
    for (int i = 0; i < v->specials; i++) {
        weft_special *s = &v->special[i];
        if (strcmp(s->text, text)) continue;
        if (first_listed || !s->first_listed) s->normalized = normalized;
        return WEFT_OK;
    }
    if (!*text) return WEFT_OK;
    int32_t known = weft_bpe_find(v->bpe, text, strlen(text));
    if (known >= 0) id = known;
    else if (id < 0) id = next_id(v);
    const char *other = taken(v, id, text);
    if (other)
        return weft_fail(c, WEFT_E_FORMAT, "%s: token \"%s\" has id %d, which \"%s\" has already", file, text, id,
                         other);
    if (id >= WEFT_BPE_IDS || v->specials == WEFT_SPECIALS)
        return weft_fail(c, WEFT_E_FORMAT, "%s: token \"%s\": more than %d special tokens, or an id of %d and more",
                         file, text, WEFT_SPECIALS, WEFT_BPE_IDS);
    weft_special *grown = realloc(v->special, ((size_t)v->specials + 1) * sizeof *grown);
    if (grown) v->special = grown;
    char *copy = grown ? strdup(text) : NULL;
    if (!copy) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the special tokens", file);
    v->special[v->specials++] = (weft_special){ copy, id, 1, normalized, first_listed };
    return WEFT_OK;
}

static bool copy_specials(weft_vocabulary *v, const weft_vocabulary *from) {
    v->special = calloc((size_t)from->specials + 1, sizeof *v->special);
    for (int i = 0; v->special && i < from->specials; i++) {
        v->special[i] = from->special[i];
        if (!(v->special[i].text = strdup(from->special[i].text))) break;
        v->specials++;
    }
    return v->special && v->specials == from->specials;
}

weft_status weft_vocabulary_extend(weft_ctx *c, weft_vocabulary *v, const weft_vocabulary *from, const char *text,
                                   int32_t first, int32_t count) {
    *v = (weft_vocabulary){ .bpe = weft_bpe_ref(from->bpe), .bos = from->bos, .eos = from->eos, .pad = from->pad };
    if (!copy_specials(v, from)) return weft_fail(c, WEFT_E_MEMORY, "token \"%s\": no memory for it", text);
    if (!*text || weft_vocabulary_find(v, text) >= 0)
        return weft_fail(c, WEFT_E_ARGUMENT, "token \"%s\": %s", text,
                         *text ? "the tokenizer has it already; choose another name" : "a name is wanted");
    if (first < next_id(v) || count > WEFT_BPE_IDS - first)
        return weft_fail(c, WEFT_E_ARGUMENT, "token \"%s\": ids from %d on; the tokenizer's end at %d", text, first,
                         next_id(v) - 1);
    if (!weft_vocabulary_special(c, v, "token", text, first, true, true)) v->special[v->specials - 1].count = count;
    return weft_error(c);
}

/* ---- OpenAI's text ---------------------------------------------------------------------------------------- */

/* One line of a merge: "left right". */
struct line { const char *left, *right; size_t left_bytes, right_bytes; };

/* Takes the next line, without its end; false at the end of the text. */
static bool next_line(const char **at, const char *end, const char **line, size_t *bytes) {
    if (*at == end) return false;
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    *line = *at;
    *bytes = (size_t)((stop ? stop : end) - *at);
    *at = stop ? stop + 1 : end;
    if (*bytes && (*line)[*bytes - 1] == '\r') --*bytes;
    return true;
}

static bool split(const char *line, size_t bytes, struct line *out) {
    const char *space = memchr(line, ' ', bytes);
    if (!space || space == line || space + 1 == line + bytes) return false;
    *out = (struct line){ line, space + 1, (size_t)(space - line), bytes - (size_t)(space + 1 - line) };
    return !memchr(out->right, ' ', out->right_bytes) && !memchr(line, 0, bytes);
}

/* Adds the letters, alone and at a word's end. False without memory. */
static bool add_letters(weft_bpe *b) {
    int32_t id = 0;
    for (int end = 0; end < 2; end++)
        for (int alone = 1; alone >= 0; alone--)
            for (int byte = 0; byte < 256; byte++) {
                int32_t letter = weft_bpe_letter(byte);
                if ((letter == byte) != alone) continue;
                char text[8];
                size_t bytes = weft_bpe_letter_text(byte, text);
                memcpy(text + bytes, "</w>", 4);
                if (!weft_bpe_add(b, text, bytes + (end ? 4 : 0), id++)) return false;
            }
    return true;
}

/* Adds the token that each merge makes; the error is set where a line is no merge. */
static bool add_merged(weft_ctx *c, weft_bpe *b, const char *name, const char *at, const char *end) {
    const char *line;
    size_t bytes;
    int number = 1;
    for (int i = 0; i < MERGES && next_line(&at, end, &line, &bytes); i++) {
        struct line m;
        char joined[512];
        number++;
        if (!bytes && at == end) break;
        if (!split(line, bytes, &m) || bytes > sizeof joined) {
            weft_fail(c, WEFT_E_FORMAT, "%s:%d: expected two tokens with a space between, found \"%.*s\"", name, number,
                      (int)(bytes < 60 ? bytes : 60), line);
            return false;
        }
        memcpy(joined, m.left, m.left_bytes);
        memcpy(joined + m.left_bytes, m.right, m.right_bytes);
        if (!weft_bpe_add(b, joined, bytes - 1, 512 + i)) {
            weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the vocabulary", name);
            return false;
        }
    }
    return true;
}

static weft_status add_merges(weft_ctx *c, weft_bpe *b, const char *name, const char *at, const char *end) {
    const char *line;
    size_t bytes;
    for (int i = 0; i < MERGES && next_line(&at, end, &line, &bytes) && bytes; i++) {
        struct line m;
        if (!split(line, bytes, &m)) break;
        int32_t left = weft_bpe_find(b, m.left, m.left_bytes), right = weft_bpe_find(b, m.right, m.right_bytes);
        if (left < 0 || right < 0)
            return weft_fail(c, WEFT_E_FORMAT, "%s:%d: the vocabulary has no token \"%.*s\"", name, i + 2,
                             (int)(left < 0 ? m.left_bytes : m.right_bytes), left < 0 ? m.left : m.right);
        if (!weft_bpe_merge(b, left, right, 512 + i))
            return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the merges", name);
    }
    return WEFT_OK;
}

weft_status weft_vocabulary_from_text(weft_ctx *c, weft_vocabulary *v, const char *name, const char *text,
                                      size_t size) {
    const char *at = text, *end = text + size, *line;
    size_t bytes;
    int32_t twice;
    if (size > 2 && !memcmp(text, "\x1f\x8b", 2))
        return weft_fail(c, WEFT_E_FORMAT, "%s: this is packed by gzip; unpack it first: gzip -dk %s", name, name);
    if (!next_line(&at, end, &line, &bytes) || !memmem(line, bytes, "#version", 8))
        return weft_fail(c, WEFT_E_FORMAT, "%s:1: expected the title of a list of merges (\"#version: 0.2\")", name);
    v->bpe = weft_bpe_new();
    if (!v->bpe || !add_letters(v->bpe)) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the vocabulary", name);
    if (!add_merged(c, v->bpe, name, at, end)) return weft_error(c);
    v->bos = weft_bpe_size(v->bpe);
    v->eos = v->pad = v->bos + 1;
    if (v->bos == 512) return weft_fail(c, WEFT_E_FORMAT, "%s: there are no merges in it", name);
    if (!weft_bpe_add(v->bpe, START, strlen(START), v->bos) || !weft_bpe_add(v->bpe, END, strlen(END), v->eos))
        return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the vocabulary", name);
    if (!weft_bpe_index(v->bpe, &twice)) {
        if (twice < 0) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the vocabulary", name);
        if (twice >= v->bos) return weft_fail(c, WEFT_E_FORMAT, "%s: a merge makes a special token", name);
        return weft_fail(c, WEFT_E_FORMAT, "%s:%d: the token that this merge makes is there already", name,
                         twice - 510);
    }
    if (add_merges(c, v->bpe, name, at, end)) return weft_error(c);
    if (!weft_bpe_finish(v->bpe, v->eos)) return weft_fail(c, WEFT_E_MEMORY, "%s: no memory for the merges", name);
    if (weft_vocabulary_special(c, v, name, START, -1, false, true)) return weft_error(c);
    return weft_vocabulary_special(c, v, name, END, -1, false, true);
}
