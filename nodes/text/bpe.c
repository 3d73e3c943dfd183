/* Tables that are sorted once, and a queue of merges; see bpe.h. */
#include "nodes/text/bpe.h"

#include <stdlib.h>
#include <string.h>

struct token { size_t at; uint32_t bytes; int32_t id; };
struct merge { int32_t left, right, rank, id; };

struct weft_bpe {
    _Atomic int users;
    char *text;                     /* all tokens, each ended by 0 */
    size_t text_size, text_room;
    struct token *token;            /* sorted by text once indexed */
    size_t tokens, token_room;
    struct merge *merge;            /* sorted by left, right once finished */
    size_t merges, merge_room;
    int32_t ids;
    const char **by_id;
    int64_t *first;                 /* for each left token its first merge, and one more */
    int32_t byte_id[2][256];        /* inside a word, at its end */
};

/* One of a word's tokens; the neighbours' places, −1: none. A token that became part of the one before it has id −1. */
struct weft_bpe_symbol { int32_t id, before, behind; };
/* The token at `at` and the one behind it may merge into `id`. */
struct weft_bpe_candidate { int32_t rank, at, id; };

/* ---- the alphabet ----------------------------------------------------------------------------------------- */

static bool stands_for_itself(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

int32_t weft_bpe_letter(int byte) {
    if (stands_for_itself(byte)) return byte;
    /* The others, in order, from 256 on. */
    if (byte <= ' ') return 256 + byte;
    return byte == 0xAD ? 256 + 67 : 256 + 33 + byte - 0x7F;
}

int weft_bpe_byte(int32_t letter) {
    if (letter >= 0 && letter < 256) return stands_for_itself(letter) ? letter : -1;
    if (letter < 256 || letter > 256 + 67) return -1;
    if (letter <= 256 + ' ') return letter - 256;
    return letter == 256 + 67 ? 0xAD : letter - 256 - 33 + 0x7F;
}

/* All letters are below 0x800. */
size_t weft_bpe_letter_text(int byte, char *out) {
    int32_t letter = weft_bpe_letter(byte);
    if (letter < 0x80) {
        out[0] = (char)letter;
        return 1;
    }
    out[0] = (char)(0xC0 | letter >> 6);
    out[1] = (char)(0x80 | (letter & 0x3F));
    return 2;
}

/* ---- building --------------------------------------------------------------------------------------------- */

/* p with room for `more` behind `count` of `size` bytes each; NULL without memory, and p is as it was. */
static void *reserve(void *p, size_t *room, size_t count, size_t more, size_t size) {
    if (p && *room - count >= more) return p;
    size_t wanted = 2 * *room > count + more ? 2 * *room : count + more + 64;
    void *grown = realloc(p, wanted * size);
    if (grown) *room = wanted;
    return grown;
}
/* False without memory. */
#define RESERVE(p, room, count, more) (__extension__({ \
        void *held = reserve((p), &(room), (count), (more), sizeof *(p)); \
        if (held) (p) = held; \
        held != NULL; \
    }))

weft_bpe *weft_bpe_new(void) {
    weft_bpe *b = calloc(1, sizeof *b);
    if (b) b->users = 1;
    return b;
}

weft_bpe *weft_bpe_ref(weft_bpe *b) {
    b->users++;
    return b;
}

void weft_bpe_free(weft_bpe *b) {
    if (!b || --b->users) return;
    free(b->text);
    free(b->token);
    free(b->merge);
    free(b->by_id);
    free(b->first);
    free(b);
}

bool weft_bpe_add(weft_bpe *b, const char *text, size_t bytes, int32_t id) {
    if (!RESERVE(b->text, b->text_room, b->text_size, bytes + 1)) return false;
    if (!RESERVE(b->token, b->token_room, b->tokens, 1)) return false;
    memcpy(b->text + b->text_size, text, bytes);
    b->text[b->text_size + bytes] = 0;
    b->token[b->tokens++] = (struct token){ b->text_size, (uint32_t)bytes, id };
    b->text_size += bytes + 1;
    if (id >= b->ids) b->ids = id + 1;
    return true;
}

static int compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int token_order(const void *a, const void *b, void *text) {
    const struct token *x = a, *y = b;
    return compare((char *)text + x->at, x->bytes, (char *)text + y->at, y->bytes);
}

bool weft_bpe_index(weft_bpe *b, int32_t *twice) {
    *twice = -1;
    if (b->tokens) qsort_r(b->token, b->tokens, sizeof *b->token, token_order, b->text);
    b->by_id = calloc((size_t)b->ids + 1, sizeof *b->by_id);
    if (!b->by_id) return false;
    for (size_t i = 0; i < b->tokens; i++) {
        const struct token *t = &b->token[i];
        bool same = i && !token_order(t - 1, t, b->text);
        if (same || b->by_id[t->id]) {
            *twice = same && t[-1].id > t->id ? t[-1].id : t->id;
            return false;
        }
        b->by_id[t->id] = b->text + t->at;
    }
    return true;
}

int32_t weft_bpe_find(const weft_bpe *b, const char *text, size_t bytes) {
    size_t low = 0, high = b->tokens;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct token *t = &b->token[middle];
        int order = compare(text, bytes, b->text + t->at, t->bytes);
        if (!order) return t->id;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return -1;
}

bool weft_bpe_merge(weft_bpe *b, int32_t left, int32_t right, int32_t id) {
    if (!RESERVE(b->merge, b->merge_room, b->merges, 1)) return false;
    b->merge[b->merges] = (struct merge){ left, right, (int32_t)b->merges, id };
    b->merges++;
    return true;
}

/* Of merges of the same pair the last one counts, so it comes first. */
static int merge_order(const void *a, const void *b) {
    const struct merge *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    if (x->right != y->right) return x->right < y->right ? -1 : 1;
    return (x->rank < y->rank) - (x->rank > y->rank);
}

bool weft_bpe_finish(weft_bpe *b, int32_t unknown) {
    size_t kept = 0;
    if (b->merges) qsort(b->merge, b->merges, sizeof *b->merge, merge_order);
    for (size_t i = 0; i < b->merges; i++)
        if (!kept || b->merge[i].left != b->merge[kept - 1].left || b->merge[i].right != b->merge[kept - 1].right)
            b->merge[kept++] = b->merge[i];
    b->merges = kept;
    b->first = calloc((size_t)b->ids + 1, sizeof *b->first);
    if (!b->first) return false;
    size_t next = 0;
    for (int32_t id = 0; id <= b->ids; id++) {
        while (next < kept && b->merge[next].left < id) next++;
        b->first[id] = (int64_t)next;
    }
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        size_t bytes = weft_bpe_letter_text(byte, text);
        memcpy(text + bytes, "</w>", 4);
        for (int end = 0; end < 2; end++) {
            int32_t id = weft_bpe_find(b, text, bytes + (end ? 4 : 0));
            b->byte_id[end][byte] = id < 0 ? unknown : id;
        }
    }
    return true;
}

static int rank_order(const void *a, const void *b) {
    const struct merge *const *x = a, *const *y = b;
    return ((*x)->rank > (*y)->rank) - ((*x)->rank < (*y)->rank);
}

bool weft_bpe_merges(const weft_bpe *b, void (*each)(void *user, const char *left, const char *right), void *user) {
    const struct merge **sorted = malloc((b->merges + 1) * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < b->merges; i++) sorted[i] = &b->merge[i];
    qsort(sorted, b->merges, sizeof *sorted, rank_order);
    for (size_t i = 0; i < b->merges; i++) each(user, b->by_id[sorted[i]->left], b->by_id[sorted[i]->right]);
    free(sorted);
    return true;
}

int32_t weft_bpe_size(const weft_bpe *b) {
    return b->ids;
}

const char *weft_bpe_token(const weft_bpe *b, int32_t id) {
    return id >= 0 && id < b->ids ? b->by_id[id] : NULL;
}

/* ---- encoding --------------------------------------------------------------------------------------------- */

void weft_ids_free(weft_ids *ids) {
    free(ids->at);
    *ids = (weft_ids){ 0 };
}

bool weft_ids_push(weft_ids *ids, int32_t id) {
    if (ids->count == ids->room) {
        int64_t room = ids->room ? 2 * ids->room : 128;
        int32_t *grown = realloc(ids->at, (size_t)room * sizeof *grown);
        if (!grown) return false;
        ids->at = grown;
        ids->room = room;
    }
    ids->at[ids->count++] = id;
    return true;
}

void weft_bpe_work_free(weft_bpe_work *w) {
    free(w->symbol);
    free(w->heap);
    *w = (weft_bpe_work){ 0 };
}

static const struct merge *find_merge(const weft_bpe *b, int32_t left, int32_t right) {
    int64_t low = b->first[left], high = b->first[left + 1];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        const struct merge *m = &b->merge[middle];
        if (m->right == right) return m;
        if (right < m->right) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

static bool comes_before(struct weft_bpe_candidate a, struct weft_bpe_candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

/* Puts the merge of the token at `at` and the one behind it in the queue, if there is one. */
static bool offer(const weft_bpe *b, weft_bpe_work *w, int32_t at) {
    int32_t behind = w->symbol[at].behind;
    const struct merge *m = behind < 0 ? NULL : find_merge(b, w->symbol[at].id, w->symbol[behind].id);
    if (!m) return true;
    if (!RESERVE(w->heap, w->heap_room, w->heap_count, 1)) return false;
    struct weft_bpe_candidate new = { m->rank, at, m->id };
    size_t i = w->heap_count++;
    for (; i && comes_before(new, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = new;
    return true;
}

static struct weft_bpe_candidate take(weft_bpe_work *w) {
    struct weft_bpe_candidate top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < w->heap_count; i = child) {
        if (child + 1 < w->heap_count && comes_before(w->heap[child + 1], w->heap[child])) child++;
        if (!comes_before(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

/* Merges the pair that a candidate tells of, unless one of the two has become something else since. */
static bool apply(const weft_bpe *b, weft_bpe_work *w, struct weft_bpe_candidate top) {
    struct weft_bpe_symbol *s = &w->symbol[top.at];
    if (s->id < 0 || s->behind < 0) return true;
    struct weft_bpe_symbol *gone = &w->symbol[s->behind];
    const struct merge *m = find_merge(b, s->id, gone->id);
    if (!m || m->id != top.id) return true;
    s->id = top.id;
    s->behind = gone->behind;
    gone->id = -1;
    if (s->behind >= 0) w->symbol[s->behind].before = top.at;
    return (s->before < 0 || offer(b, w, s->before)) && offer(b, w, top.at);
}

bool weft_bpe_word(const weft_bpe *b, weft_bpe_work *w, const char *word, size_t bytes, weft_ids *ids) {
    int32_t count = 0;
    w->heap_count = 0;
    if (!RESERVE(w->symbol, w->symbol_room, (size_t)0, bytes)) return false;
    for (size_t i = 0; i < bytes; i++) {
        int32_t id = b->byte_id[i + 1 == bytes][(unsigned char)word[i]];
        if (id < 0) continue;
        w->symbol[count] = (struct weft_bpe_symbol){ id, count - 1, count + 1 };
        count++;
    }
    if (!count) return true;
    w->symbol[count - 1].behind = -1;
    for (int32_t i = 0; i + 1 < count; i++)
        if (!offer(b, w, i)) return false;
    while (w->heap_count)
        if (!apply(b, w, take(w))) return false;
    for (int32_t i = 0; i >= 0; i = w->symbol[i].behind)
        if (!weft_ids_push(ids, w->symbol[i].id)) return false;
    return true;
}
