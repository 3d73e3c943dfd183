/* Special tokens, words, frames; see tokenizer.h. The words are a pattern's matches in the normalized text. */
#include "nodes/text/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <inttypes.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "nodes/text/normalize.h"
#include "nodes/text/vocabulary.h"
#include "runtime/file.h"

#define FILE_LIMIT ((size_t)64 << 20)

/* Letters and numbers that PCRE2 10.42 (Unicode 14) does not know yet but the original (Unicode 16) does. */
#define YOUNG_LETTERS \
    "\\x{1C89}\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{105C0}-\\x{105F3}\\x{10D4A}-\\x{10D65}" \
    "\\x{10D6F}-\\x{10D85}\\x{10EC2}-\\x{10EC4}\\x{1123F}\\x{11240}\\x{11380}-\\x{11389}\\x{1138B}\\x{1138E}" \
    "\\x{11390}-\\x{113B5}\\x{113B7}\\x{113D1}\\x{113D3}\\x{11BC0}-\\x{11BE0}\\x{11F02}\\x{11F04}-\\x{11F10}" \
    "\\x{11F12}-\\x{11F33}\\x{1342F}\\x{13441}-\\x{13446}\\x{13460}-\\x{143FA}\\x{16100}-\\x{1611D}" \
    "\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}\\x{1E030}-\\x{1E06D}" \
    "\\x{1E4D0}-\\x{1E4EB}\\x{1E5D0}-\\x{1E5ED}\\x{1E5F0}\\x{2B739}\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"
#define YOUNG_NUMBERS \
    "\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11F50}-\\x{11F59}\\x{16130}-\\x{16139}" \
    "\\x{16D70}-\\x{16D79}\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}"
#define LETTERS "\\p{L}" YOUNG_LETTERS
#define NUMBERS "\\p{N}" YOUNG_NUMBERS
/* The one white space of a normalized text is the space. A special token that was written in capitals, and so was not
 * cut out, is three words: the parts of the two groups, and what is between. Nothing is tried twice: the runs are
 * possessive. */
static const char word_pattern[] =
    "(<\\|)(?:startoftext|endoftext)(\\|>)|'s|'t|'re|'ve|'m|'ll|'d|[" LETTERS "]++"
    "|[" NUMBERS "]|[^ " LETTERS NUMBERS "]++";

/* A special token in the form in which it is looked for. */
struct sought { char *text; size_t bytes; int32_t id, count; };

struct weft_tokenizer {
    weft_vocabulary vocabulary;
    struct sought *sought[2];       /* in the text as it is, in the normalized text; longest first */
    int count[2];
    bool begins[2][256];            /* whether one begins with this byte */
    pcre2_code *words;
    pcre2_match_context *limits;
};

/* ---- opening ------------------------------------------------------------------------------------------------ */

void weft_tokenizer_free(weft_tokenizer *t) {
    if (!t) return;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < t->count[k]; i++) free(t->sought[k][i].text);
        free(t->sought[k]);
    }
    pcre2_match_context_free(t->limits);
    pcre2_code_free(t->words);
    weft_vocabulary_free(&t->vocabulary);
    free(t);
}

static int longer_first(const void *a, const void *b) {
    const struct sought *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

/* Fills t->sought. False without memory. */
static bool prepare_specials(weft_tokenizer *t) {
    weft_normal normal = { 0 };
    bool ok = true;
    for (int k = 0; k < 2 && ok; k++) {
        t->sought[k] = calloc((size_t)t->vocabulary.specials + 1, sizeof **t->sought);
        ok = t->sought[k] != NULL;
    }
    for (int i = 0; i < t->vocabulary.specials && ok; i++) {
        const weft_special *s = &t->vocabulary.special[i];
        const char *text = s->text;
        size_t bytes = strlen(text);
        if (s->normalized) {
            ok = weft_normalize(&normal, text, bytes);
            text = normal.text;
            bytes = normal.size;
        }
        char *copy = ok ? malloc(bytes + 1) : NULL;
        if (!copy) ok = false;
        if (!ok) break;
        memcpy(copy, text, bytes);
        t->sought[s->normalized][t->count[s->normalized]++] = (struct sought){ copy, bytes, s->id, s->count };
        t->begins[s->normalized][(unsigned char)copy[0]] = true;
    }
    for (int k = 0; k < 2 && ok; k++) qsort(t->sought[k], (size_t)t->count[k], sizeof **t->sought, longer_first);
    weft_normal_free(&normal);
    return ok;
}

static weft_status prepare_words(weft_ctx *c, weft_tokenizer *t) {
    int error;
    PCRE2_SIZE place;
    t->words = pcre2_compile((PCRE2_SPTR)word_pattern, sizeof word_pattern - 1, PCRE2_UTF | PCRE2_UCP, &error, &place,
                             NULL);
    t->limits = pcre2_match_context_create(NULL);
    if (!t->words || !t->limits) {
        PCRE2_UCHAR text[128] = "no memory";
        if (!t->words) pcre2_get_error_message(error, text, sizeof text);
        return weft_fail(c, WEFT_E_INTERNAL, "tokenizer: the pattern of words: %s", (char *)text);
    }
    /* Where there is no machine code for this processor, or no leave to make some, the interpreter does it. */
    (void)pcre2_jit_compile(t->words, PCRE2_JIT_COMPLETE);
    pcre2_set_match_limit(t->limits, 100000);
    pcre2_set_depth_limit(t->limits, 1000);
    pcre2_set_heap_limit(t->limits, 4096);
    return WEFT_OK;
}

/* Where a vocabulary comes from; one of `base`, folder, path and name is set. */
struct source {
    const char *folder, *path, *name, *text;
    size_t size;
    const weft_tokenizer *base;             /* with the token `text` besides, for count ids from first on */
    int32_t first, count;
};

static weft_status read_vocabulary(weft_ctx *c, weft_vocabulary *v, const struct source *from) {
    if (from->base) return weft_vocabulary_extend(c, v, &from->base->vocabulary, from->text, from->first, from->count);
    if (from->folder) return weft_vocabulary_from_folder(c, v, from->folder);
    if (from->name) return weft_vocabulary_from_text(c, v, from->name, from->text, from->size);
    size_t size;
    char *text = weft_file_read(c, from->path, FILE_LIMIT, &size);
    if (!text) return weft_error(c);
    weft_status status = weft_vocabulary_from_text(c, v, from->path, text, size);
    free(text);
    return status;
}

static weft_tokenizer *open_from(weft_ctx *c, const struct source *from) {
    if (!weft_ok(c)) return NULL;
    weft_tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        weft_fail(c, WEFT_E_MEMORY, "tokenizer: no memory");
        return NULL;
    }
    if (!read_vocabulary(c, &t->vocabulary, from) && !prepare_words(c, t) && !prepare_specials(t))
        weft_fail(c, WEFT_E_MEMORY, "tokenizer: no memory for the special tokens");
    if (weft_ok(c)) return t;
    weft_tokenizer_free(t);
    return NULL;
}

weft_tokenizer *weft_tokenizer_open_folder(weft_ctx *c, const char *folder) {
    return open_from(c, &(struct source){ .folder = folder });
}

weft_tokenizer *weft_tokenizer_open_text(weft_ctx *c, const char *path) {
    return open_from(c, &(struct source){ .path = path });
}

weft_tokenizer *weft_tokenizer_parse_text(weft_ctx *c, const char *name, const char *text, size_t size) {
    return open_from(c, &(struct source){ .name = name, .text = text, .size = size });
}

weft_tokenizer *weft_tokenizer_extend(weft_ctx *c, const weft_tokenizer *t, const char *text, int32_t first,
                                      int32_t count) {
    return open_from(c, &(struct source){ .base = t, .text = text, .first = first, .count = count });
}

bool weft_tokenizer_has_builtin(void) {
    size_t size;
    return weft_builtin_vocabulary(&size) != NULL;
}

weft_tokenizer *weft_tokenizer_open_builtin(weft_ctx *c) {
    size_t size;
    const char *text = weft_builtin_vocabulary(&size);
    if (text) return weft_tokenizer_parse_text(c, "built-in CLIP vocabulary", text, size);
    weft_fail(c, WEFT_E_FILE, "this weft was built without CLIP's vocabulary, which checkpoints in one file do not "
              "bring: run \"sh examples/setup_vocabulary.sh\", then cmake and the build again, or use a "
              "diffusers folder, which has a tokenizer of its own");
    return NULL;
}

const weft_vocabulary *weft_tokenizer_vocabulary(const weft_tokenizer *t) { return &t->vocabulary; }

int32_t weft_tokenizer_bos(const weft_tokenizer *t) { return t->vocabulary.bos; }
int32_t weft_tokenizer_eos(const weft_tokenizer *t) { return t->vocabulary.eos; }
int32_t weft_tokenizer_pad(const weft_tokenizer *t) { return t->vocabulary.pad; }

int32_t weft_tokenizer_size(const weft_tokenizer *t) {
    int32_t size = weft_bpe_size(t->vocabulary.bpe);
    for (int i = 0; i < t->vocabulary.specials; i++) {
        const weft_special *s = &t->vocabulary.special[i];
        if (s->id + s->count > size) size = s->id + s->count;
    }
    return size;
}

const char *weft_tokenizer_token(const weft_tokenizer *t, int32_t id) {
    const char *text = weft_bpe_token(t->vocabulary.bpe, id);
    for (int i = 0; !text && i < t->vocabulary.specials; i++)
        if (t->vocabulary.special[i].id == id) text = t->vocabulary.special[i].text;
    return text;
}

weft_status weft_tokenizer_set_pad(weft_ctx *c, weft_tokenizer *t, int32_t pad) {
    if (!weft_tokenizer_token(t, pad)) return weft_fail(c, WEFT_E_ARGUMENT, "tokenizer: no token has the id %d", pad);
    t->vocabulary.pad = pad;
    return WEFT_OK;
}

/* ---- encoding ----------------------------------------------------------------------------------------------- */

/* One text on its way. */
struct run {
    weft_ctx *ctx;
    const weft_tokenizer *t;
    weft_normal normal;
    weft_bpe_work work;
    pcre2_match_data *match;
    weft_ids *ids;
};

static bool no_memory(struct run *r) {
    weft_fail(r->ctx, WEFT_E_MEMORY, "tokenizer: no memory for the text");
    return false;
}

static bool word(struct run *r, const char *text, size_t bytes) {
    return weft_bpe_word(r->t->vocabulary.bpe, &r->work, text, bytes, r->ids) || no_memory(r);
}

/* A stretch of normalized text without special tokens. */
static bool words(struct run *r, const char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        int n = pcre2_match(r->t->words, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK, r->match, r->t->limits);
        if (n == PCRE2_ERROR_NOMATCH) return true;
        if (n < 0) {
            weft_fail(r->ctx, WEFT_E_INTERNAL, "tokenizer: matching words failed (PCRE2 error %d)", n);
            return false;
        }
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(r->match);
        at = v[1];
        if (n < 3) {
            if (!word(r, text + v[0], v[1] - v[0])) return false;
        } else {
            for (int i = 2; i < 5; i++)
                if (!word(r, text + v[i], v[i + 1] - v[i])) return false;
        }
    }
    return true;
}

static bool plain(struct run *r, const char *text, size_t bytes, int kind);

/* Text of which one kind of special token (0: those in the text as it is, 1: normalized) is cut out, leftmost longest
 * first. */
static bool cut(struct run *r, const char *text, size_t bytes, int kind) {
    const weft_tokenizer *t = r->t;
    size_t from = 0;
    for (size_t at = 0; at < bytes; at++) {
        if (!t->begins[kind][(unsigned char)text[at]]) continue;
        const struct sought *s = t->sought[kind], *end = s + t->count[kind];
        while (s < end && (s->bytes > bytes - at || memcmp(s->text, text + at, s->bytes))) s++;
        if (s == end) continue;
        if (!plain(r, text + from, at - from, kind)) return false;
        for (int32_t i = 0; i < s->count; i++)
            if (!weft_ids_push(r->ids, s->id + i)) return no_memory(r);
        from = at + s->bytes;
        at = from - 1;
    }
    return plain(r, text + from, bytes - from, kind);
}

/* What is left between special tokens of a kind: to be normalized, or to be cut into words. */
static bool plain(struct run *r, const char *text, size_t bytes, int kind) {
    if (!bytes) return true;
    if (kind == 1) return words(r, text, bytes);
    if (!weft_normalize(&r->normal, text, bytes)) return no_memory(r);
    return cut(r, r->normal.text, r->normal.size, 1);
}

weft_status weft_tokenizer_encode(weft_ctx *c, const weft_tokenizer *t, const char *text, size_t bytes, weft_ids *ids) {
    if (!weft_ok(c)) return weft_error(c);
    if (bytes > WEFT_TEXT_LIMIT)
        return weft_fail(c, WEFT_E_ARGUMENT, "tokenizer: a text of %zu bytes; the limit is %zu", bytes,
                         WEFT_TEXT_LIMIT);
    ssize_t fault = weft_utf8_fault(text, bytes);
    if (fault >= 0)
        return weft_fail(c, WEFT_E_ARGUMENT, "tokenizer: the text is not UTF-8: byte 0x%02X at offset %zd",
                         (unsigned char)text[fault], fault);
    int64_t before = ids->count;
    struct run r = { .ctx = c, .t = t, .ids = ids, .match = pcre2_match_data_create(3, NULL) };
    bool ok = r.match ? cut(&r, text, bytes, 0) : no_memory(&r);
    pcre2_match_data_free(r.match);
    weft_normal_free(&r.normal);
    weft_bpe_work_free(&r.work);
    if (!ok) ids->count = before;
    return weft_error(c);
}

int64_t weft_tokenizer_frame(const weft_tokenizer *t, const int32_t *ids, int64_t count, int32_t *out, int64_t length) {
    int64_t fit = count < length - 2 ? count : length - 2;
    out[0] = t->vocabulary.bos;
    if (fit) memcpy(out + 1, ids, (size_t)fit * sizeof *out);
    out[fit + 1] = t->vocabulary.eos;
    for (int64_t i = fit + 2; i < length; i++) out[i] = t->vocabulary.pad;
    return count - fit;
}

weft_tensor *weft_tokenizer_texts(weft_ctx *c, const weft_tokenizer *t, int n, const char *const *texts, int64_t length,
                                  int64_t *cut_off) {
    weft_ids ids = { 0 };
    weft_tensor *result = NULL;
    int32_t *all = NULL;
    if (cut_off) *cut_off = 0;
    if (!weft_ok(c)) return NULL;
    if (n < 0 || length < 2 || length > INT32_MAX) {
        weft_fail(c, WEFT_E_ARGUMENT, "tokenizer: %d texts of %" PRId64 " tokens", n, length);
        return NULL;
    }
    if ((all = calloc((size_t)n * (size_t)length + 1, sizeof *all)) == NULL) {
        weft_fail(c, WEFT_E_MEMORY, "tokenizer: no memory for the texts");
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        ids.count = 0;
        if (weft_tokenizer_encode(c, t, texts[i], strlen(texts[i]), &ids)) goto out;
        int64_t over = weft_tokenizer_frame(t, ids.at, ids.count, all + i * length, length);
        if (cut_off) *cut_off += over;
    }
    result = weft_tensor_from(c, WEFT_I32, WEFT_SHAPE(n, length), all);
out:
    weft_ids_free(&ids);
    free(all);
    return result;
}

/* ---- decoding ----------------------------------------------------------------------------------------------- */

/* Writes a token's bytes to out, or, without out, counts them. A text that is not all in the byte alphabet stands for
 * itself. */
static size_t token_bytes(const char *token, char *out) {
    size_t n = 0, length = strlen(token);
    for (size_t at = 0; at < length; n++) {
        utf8proc_int32_t letter;
        ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)token + at, (ssize_t)(length - at), &letter);
        int byte = used > 0 ? weft_bpe_byte(letter) : -1;
        if (byte < 0) {
            if (out) memcpy(out, token, length);
            return length;
        }
        if (out) out[n] = (char)byte;
        at += (size_t)used;
    }
    return n;
}

/* How many bytes of a broken character belong together: the longest beginning of a well-formed one, at least 1. */
static size_t broken_bytes(const unsigned char *p, size_t left) {
    unsigned char low = 0x80, high = 0xBF;
    size_t want = p[0] < 0xC2 || p[0] > 0xF4 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (p[0] == 0xE0) low = 0xA0;
    if (p[0] == 0xED) high = 0x9F;
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F;
    size_t n = 1;
    for (; n < want && n < left && p[n] >= low && p[n] <= high; n++) {
        low = 0x80;
        high = 0xBF;
    }
    return n;
}

/* Copies with U+FFFD for what is no UTF-8 and a space for "</w>", without spaces at the ends; returns the bytes before
 * the 0. out has 3·size + 1 bytes. */
static size_t readable(const char *bytes, size_t size, char *out) {
    size_t n = 0;
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t point;
        ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)bytes + at, (ssize_t)(size - at), &point);
        if (size - at >= 4 && !memcmp(bytes + at, "</w>", 4)) {
            out[n++] = ' ';
            at += 4;
        } else if (used > 0) {
            memcpy(out + n, bytes + at, (size_t)used);
            n += (size_t)used;
            at += (size_t)used;
        } else {
            memcpy(out + n, "\xEF\xBF\xBD", 3);
            n += 3;
            at += broken_bytes((const unsigned char *)bytes + at, size - at);
        }
    }
    size_t first = 0;
    while (n && out[n - 1] == ' ') n--;
    while (first < n && out[first] == ' ') first++;
    memmove(out, out + first, n - first);
    out[n - first] = 0;
    return n - first;
}

char *weft_tokenizer_decode(weft_ctx *c, const weft_tokenizer *t, const int32_t *ids, int64_t count, size_t *size) {
    size_t room = 0, at = 0;
    if (!weft_ok(c)) return NULL;
    for (int64_t i = 0; i < count; i++) {
        const char *token = weft_tokenizer_token(t, ids[i]);
        if (token) room += token_bytes(token, NULL);
    }
    char *bytes = malloc(room + 1), *out = malloc(3 * room + 1);
    for (int64_t i = 0; bytes && out && i < count; i++) {
        const char *token = weft_tokenizer_token(t, ids[i]);
        if (token) at += token_bytes(token, bytes + at);
    }
    if (bytes && out) {
        size_t length = readable(bytes, room, out);
        if (size) *size = length;
    } else {
        weft_fail(c, WEFT_E_MEMORY, "tokenizer: no memory for the text");
        free(out);
        out = NULL;
    }
    free(bytes);
    return out;
}
