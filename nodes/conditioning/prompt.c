/* Weighted prompts, by ComfyUI's rules (sd1_clip.py):
 *
 *   (text)        weight × 1.1 for each pair of parentheses
 *   (text:1.3)    weight 1.3, whatever stands around it
 *   \( \)         parentheses as text; square brackets mean nothing
 *   embedding:name at the start of a run, or behind a space or line end: the vectors of that file; commas behind the
 *                 name belong to it only if a file has them
 *   Each run of text of one weight, and each part of it between embeddings, is tokenized by itself. One of fewer than 8
 * tokens is not torn apart between two chunks.
 */
#include "nodes/conditioning/prompt.h"

#include <stdlib.h>
#include <string.h>

enum { LONG_RUN = 8, DEPTH = 200, ESCAPED_OPEN = 1, ESCAPED_CLOSE = 2, NAME = 256, EMBEDDINGS = 256 };

/* An embedding that was asked for: its rows of all vectors. count 0: there is none. */
typedef struct known { char name[NAME]; int32_t first, count; } known;

typedef struct reading {
    weft_ctx *c;
    const weft_tokenizer *tokenizer;
    weft_prompt *out;
    int used, room;             /* tokens in the last chunk; chunks that fit */
    weft_ids ids;
    char *run;                  /* as long as the text */
    const weft_prompt_embeddings *embeddings;
    known *known;               /* EMBEDDINGS of them */
    int known_count;
} reading;

void weft_prompt_free(weft_prompt *p) {
    free(p->ids);
    free(p->weights);
    *p = (weft_prompt){ 0 };
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */

static void push(reading *r, int32_t id, float weight) {
    size_t at = (size_t)(r->out->chunks - 1) * (size_t)r->out->length + (size_t)r->used++;
    r->out->ids[at] = id;
    r->out->weights[at] = weight;
}

static bool open_chunk(reading *r) {
    weft_prompt *p = r->out;
    if (p->chunks == r->room) {
        int room = r->room ? 2 * r->room : 4;
        size_t n = (size_t)room * (size_t)p->length;
        int32_t *ids = realloc(p->ids, n * sizeof *ids);
        if (ids) p->ids = ids;
        float *weights = ids ? realloc(p->weights, n * sizeof *weights) : NULL;
        if (weights) p->weights = weights;
        if (!weights) {
            weft_fail(r->c, WEFT_E_MEMORY, "prompt: out of memory");
            return false;
        }
        r->room = room;
    }
    p->chunks++;
    r->used = 0;
    push(r, weft_tokenizer_bos(r->tokenizer), 1);
    return true;
}

static void close_chunk(reading *r) {
    push(r, weft_tokenizer_eos(r->tokenizer), 1);
    while (r->used < r->out->length) push(r, weft_tokenizer_pad(r->tokenizer), 1);
}

/* Tokens that belong together. */
static bool add_tokens(reading *r, const int32_t *ids, int64_t left, float weight) {
    bool large = left >= LONG_RUN || left > r->out->length - 2;
    while (left) {
        int64_t fits = r->out->length - 1 - r->used, take = left <= fits ? left : large ? fits : 0;
        for (int64_t i = 0; i < take; i++) push(r, ids[i], weight);
        ids += take;
        left -= take;
        if (!left) break;
        close_chunk(r);
        if (!open_chunk(r)) return false;
    }
    if (weight != 1) r->out->weighted = true;
    return true;
}

static bool add_words(reading *r, const char *text, size_t n, float weight) {
    r->ids.count = 0;
    return !weft_tokenizer_encode(r->c, r->tokenizer, text, n, &r->ids) &&
           add_tokens(r, r->ids.at, r->ids.count, weight);
}

/* ---- embeddings -------------------------------------------------------------------------------------------------- */

static const char key[] = "embedding:", blanks[] = " \t\n\v\f\r";
#define KEY (sizeof key - 1)

static bool is_embedding(const char *text, size_t n) { return n >= KEY && !memcmp(text, key, KEY); }

/* Where the part of a run ends that the next embedding follows, behind one space or line end; n where none does. */
static size_t part_of(const char *text, size_t n) {
    for (size_t i = 0; i + KEY < n; i++)
        if ((text[i] == ' ' || text[i] == '\n') && is_embedding(text + i + 1, n - i - 1)) return i;
    return n;
}

/* The embedding of this name, read when it is first asked for. NULL with the error set. */
static const known *look_up(reading *r, const char *name) {
    for (int i = 0; i < r->known_count; i++)
        if (!strcmp(r->known[i].name, name)) return &r->known[i];
    if (r->known_count == EMBEDDINGS) {
        weft_fail(r->c, WEFT_E_ARGUMENT, "prompt: more than %d embeddings", EMBEDDINGS);
        return NULL;
    }
    weft_prompt *p = r->out;
    weft_tensor *vectors = r->embeddings->find(r->c, r->embeddings->user, name);
    known *k = &r->known[r->known_count++];
    *k = (known){ .first = r->embeddings->first + (int32_t)weft_dim(p->vectors, 0), .count = (int32_t)weft_dim(vectors, 0) };
    snprintf(k->name, sizeof k->name, "%s", name);
    if (vectors) p->vectors = p->vectors ? weft_concat2(r->c, 0, p->vectors, vectors) : vectors;
    return weft_ok(r->c) ? k : NULL;
}

static bool add_vectors(reading *r, const known *k, float weight) {
    int32_t *ids = malloc(sizeof *ids * ((size_t)k->count + 1));
    if (!ids) weft_fail(r->c, WEFT_E_MEMORY, "prompt: out of memory");
    for (int32_t i = 0; ids && i < k->count; i++) ids[i] = k->first + i;
    bool ok = ids && add_tokens(r, ids, k->count, weight);
    free(ids);
    return ok;
}

/* "embedding:name" and the words behind it. */
static bool add_embedding(reading *r, const char *text, size_t n, float weight) {
    char name[NAME];
    size_t start = KEY, length = 0, more;
    while (start < n && strchr(blanks, text[start])) start++;
    while (start + length < n && !strchr(blanks, text[start + length])) length++;
    if (!length || length >= sizeof name) {
        weft_fail(r->c, WEFT_E_ARGUMENT, "prompt: \"embedding:\" %s", length ? "with a name that is too long"
                                                                            : "without a name behind it");
        return false;
    }
    snprintf(name, sizeof name, "%.*s", (int)length, text + start);
    const known *k = look_up(r, name);
    if (k && !k->count) {               /* not with its commas */
        size_t before = strspn(name, ","), bare = length;
        while (bare > before && name[bare - 1] == ',') bare--;
        snprintf(name, sizeof name, "%.*s", (int)(bare - before), text + start + before);
        if (bare - before < length && *name) k = look_up(r, name);
        if (k && !k->count) weft_warn(r->c, "there is no embedding \"%s\" in models/embeddings; it is left out", name);
        length = bare - before;
    }
    more = start + length;
    return k && add_vectors(r, k, weight) && (more >= n || add_words(r, text + more, n - more, weight));
}

/* ---- runs of text ------------------------------------------------------------------------------------------------ */

static bool add_text(reading *r, const char *text, size_t n, double weight) {
    for (size_t i = 0; i < n; i++) r->run[i] = text[i] == ESCAPED_OPEN ? '(' : text[i] == ESCAPED_CLOSE ? ')' : text[i];
    for (const char *part = r->run;;) {
        size_t length = r->embeddings ? part_of(part, n) : n;
        bool embedding = r->embeddings && is_embedding(part, length);
        if (length && !(embedding ? add_embedding : add_words)(r, part, length, (float)weight)) return false;
        if (length == n) return true;
        part += length + 1;
        n -= length + 1;
    }
}

/* The number behind the last colon of a group, as Python's float() reads it. */
static bool group_weight(const char *text, size_t n, size_t *colon, double *weight) {
    char number[64], *end;
    size_t i = n;
    while (i && text[i - 1] != ':') i--;
    if (i < 2 || n - i >= sizeof number) return false;
    memcpy(number, text + i, n - i);
    number[n - i] = 0;
    if (strpbrk(number, "xX(")) return false;       /* C's hexadecimal and nan(…) are none of Python's */
    double v = strtod(number, &end);
    if (end == number || end[strspn(end, blanks)]) return false;
    *colon = i - 1;
    *weight = v;
    return true;
}

static bool add_weighted(reading *r, const char *text, size_t n, double weight, int depth);

/* One item of a level: a group in parentheses, or plain text. */
static bool add_item(reading *r, const char *text, size_t n, double weight, int depth) {
    if (n < 2 || text[0] != '(' || text[n - 1] != ')' || depth >= DEPTH) return add_text(r, text, n, weight);
    size_t length = n - 2;
    double inner = weight * 1.1;
    if (!group_weight(text + 1, length, &length, &inner)) length = n - 2;
    return add_weighted(r, text + 1, length, inner, depth + 1);
}

static bool add_weighted(reading *r, const char *text, size_t n, double weight, int depth) {
    size_t start = 0;
    int level = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '(') {
            if (level == 0 && i > start) {
                if (!add_item(r, text + start, i - start, weight, depth)) return false;
                start = i;
            }
            level++;
        } else if (text[i] == ')') {
            level--;
            if (level == 0) {
                if (!add_item(r, text + start, i + 1 - start, weight, depth)) return false;
                start = i + 1;
            }
        }
    }
    return start == n || add_item(r, text + start, n - start, weight, depth);
}

bool weft_prompt_read(weft_ctx *c, const weft_tokenizer *t, int length, const weft_prompt_embeddings *embeddings,
                      const char *text, weft_prompt *out) {
    *out = (weft_prompt){ .length = length };
    size_t n = strlen(text), kept = 0;
    if (!weft_ok(c)) return false;
    if (length < 3) {
        weft_fail(c, WEFT_E_ARGUMENT, "a text encoder of %d positions has no room for a prompt", length);
        return false;
    }
    if (n > WEFT_TEXT_LIMIT) {
        weft_fail(c, WEFT_E_ARGUMENT, "a prompt of %zu bytes; the limit is %zu", n, WEFT_TEXT_LIMIT);
        return false;
    }
    reading r = { .c = c, .tokenizer = t, .out = out, .run = malloc(n + 1), .embeddings = embeddings };
    if (embeddings) r.known = malloc(EMBEDDINGS * sizeof *r.known);
    char *escaped = malloc(n + 1);
    for (size_t i = 0; escaped && i < n; i++) {
        bool escape = text[i] == '\\' && (text[i + 1] == '(' || text[i + 1] == ')');
        escaped[kept++] = !escape ? text[i] : text[++i] == '(' ? ESCAPED_OPEN : ESCAPED_CLOSE;
    }
    bool whole = r.run && escaped && (r.known || !embeddings);
    if (!whole) weft_fail(c, WEFT_E_MEMORY, "prompt: out of memory");
    whole = whole && open_chunk(&r) && add_weighted(&r, escaped, kept, 1, 0);
    if (whole) close_chunk(&r);
    else weft_prompt_free(out);
    free(escaped);
    free(r.run);
    free(r.known);
    weft_ids_free(&r.ids);
    return whole;
}

void weft_prompt_names(const char *text, void (*see)(void *user, const char *name), void *user) {
    char name[NAME];
    for (const char *p = text; (p = strstr(p, key)); p += KEY) {
        const char *from = p + KEY + strspn(p + KEY, " \t\n\v\f\r(),:");
        size_t n = strcspn(from, " \t\n\v\f\r(),:");
        if (!n || n >= sizeof name) continue;
        snprintf(name, sizeof name, "%.*s", (int)n, from);
        see(user, name);
    }
}
