/* Weighted prompts, by ComfyUI's rules (sd1_clip.py):
 *
 *   (text)        weight × 1.1 for each pair of parentheses
 *   (text:1.3)    weight 1.3, whatever stands around it
 *   \( \)         parentheses as text; square brackets mean nothing
 *   Each run of text of one weight is tokenized by itself. One of fewer than 8 tokens is not torn apart between two
 * chunks.
 */
#include "nodes/conditioning/prompt.h"

#include <stdlib.h>
#include <string.h>

enum { LONG_RUN = 8, DEPTH = 200, ESCAPED_OPEN = 1, ESCAPED_CLOSE = 2 };

typedef struct reading {
    weft_ctx *c;
    const weft_tokenizer *tokenizer;
    weft_prompt *out;
    int used, room;             /* tokens in the last chunk; chunks that fit */
    weft_ids ids;
    char *run;                  /* as long as the text */
} reading;

void weft_prompt_free(weft_prompt *p) {
    free(p->ids);
    free(p->weights);
    *p = (weft_prompt){ 0 };
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */

static void push(reading *r, int32_t id, float weight) {
    size_t at = (size_t)(r->out->chunks - 1) * WEFT_CLIP_LENGTH + (size_t)r->used++;
    r->out->ids[at] = id;
    r->out->weights[at] = weight;
}

static bool open_chunk(reading *r) {
    weft_prompt *p = r->out;
    if (p->chunks == r->room) {
        int room = r->room ? 2 * r->room : 4;
        size_t n = (size_t)room * WEFT_CLIP_LENGTH;
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
    while (r->used < WEFT_CLIP_LENGTH) push(r, weft_tokenizer_pad(r->tokenizer), 1);
}

/* The tokens of a run. */
static bool add_tokens(reading *r, float weight) {
    const int32_t *ids = r->ids.at;
    int64_t left = r->ids.count;
    bool large = left >= LONG_RUN;
    while (left) {
        int64_t fits = WEFT_CLIP_LENGTH - 1 - r->used, take = left <= fits ? left : large ? fits : 0;
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

/* ---- runs of text ------------------------------------------------------------------------------------------------ */

/* Whether the text asks for an embedding: "embedding:name" at its start or behind white space. */
static const char *find_embedding(const char *text, size_t n) {
    static const char key[] = "embedding:";
    for (size_t i = 0; i + sizeof key - 1 < n; i++)
        if ((!i || text[i - 1] == ' ' || text[i - 1] == '\n' || text[i - 1] == '\t') &&
            !memcmp(text + i, key, sizeof key - 1)) return text + i;
    return NULL;
}

static bool add_text(reading *r, const char *text, size_t n, double weight) {
    for (size_t i = 0; i < n; i++) r->run[i] = text[i] == ESCAPED_OPEN ? '(' : text[i] == ESCAPED_CLOSE ? ')' : text[i];
    const char *embedding = find_embedding(r->run, n);
    if (embedding) {
        size_t length = 0, left = n - (size_t)(embedding - r->run);
        while (length < left && length < 100 && embedding[length] != ' ' && embedding[length] != '\n') length++;
        weft_fail(r->c, WEFT_E_ARGUMENT,
                  "the prompt asks for %.*s: Weft reads no textual-inversion embeddings; take it out",
                  (int)length, embedding);
        return false;
    }
    r->ids.count = 0;
    return !weft_tokenizer_encode(r->c, r->tokenizer, r->run, n, &r->ids) && add_tokens(r, (float)weight);
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
    while (*end == ' ') end++;
    if (end == number || *end) return false;
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

bool weft_prompt_read(weft_ctx *c, const weft_tokenizer *t, const char *text, weft_prompt *out) {
    *out = (weft_prompt){ 0 };
    size_t n = strlen(text), length = 0;
    if (!weft_ok(c)) return false;
    if (n > WEFT_TEXT_LIMIT) {
        weft_fail(c, WEFT_E_ARGUMENT, "a prompt of %zu bytes; the limit is %zu", n, WEFT_TEXT_LIMIT);
        return false;
    }
    reading r = { .c = c, .tokenizer = t, .out = out, .run = malloc(n + 1) };
    char *escaped = malloc(n + 1);
    for (size_t i = 0; escaped && i < n; i++) {
        bool escape = text[i] == '\\' && (text[i + 1] == '(' || text[i + 1] == ')');
        escaped[length++] = !escape ? text[i] : text[++i] == '(' ? ESCAPED_OPEN : ESCAPED_CLOSE;
    }
    bool whole = r.run && escaped;
    if (!whole) weft_fail(c, WEFT_E_MEMORY, "prompt: out of memory");
    whole = whole && open_chunk(&r) && add_weighted(&r, escaped, length, 1, 0);
    if (whole) close_chunk(&r);
    else weft_prompt_free(out);
    free(escaped);
    free(r.run);
    weft_ids_free(&r.ids);
    return whole;
}
