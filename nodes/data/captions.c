/* What becomes of a caption: tags in another order, a template, or nothing (so that the model learns to do without, for
 * classifier-free guidance). */
#include "nodes/data/dataset_internal.h"

#include <stdlib.h>
#include <string.h>

struct tag { const char *text; size_t length; };

/* Cuts the text at its commas, white space around tags left out, empty tags too; returns how many. */
static int64_t cut_tags(const char *text, struct tag *tags) {
    int64_t n = 0;
    for (;;) {
        text += strspn(text, " ");
        size_t length = strcspn(text, ","), whole = length;
        while (length && text[length - 1] == ' ') length--;
        if (length) tags[n++] = (struct tag){ text, length };
        if (!text[whole]) return n;
        text += whole + 1;
    }
}

/* The tags behind the first `keep`, in random order; joined by ", ". NULL without memory. */
static char *shuffled(const char *text, int64_t keep, data_draw *r) {
    size_t commas = 0;
    for (const char *p = text; *p; p++) commas += *p == ',';
    struct tag *tags = malloc((commas + 1) * sizeof *tags);
    char *out = malloc(strlen(text) + 2 * commas + 3), *end = out;
    int64_t n = tags ? cut_tags(text, tags) : 0;
    for (int64_t i = n - 1; i > keep; i--) {
        int64_t j = keep + (int64_t)data_below(r, (uint64_t)(i - keep) + 1);
        struct tag t = tags[i];
        tags[i] = tags[j];
        tags[j] = t;
    }
    for (int64_t i = 0; out && i < n; i++) {
        if (i) *end++ = ',', *end++ = ' ';
        memcpy(end, tags[i].text, tags[i].length);
        end += tags[i].length;
    }
    if (out) *end = 0;
    if (!tags) {
        free(out);
        out = NULL;
    }
    free(tags);
    return out;
}

/* The template with the text in place of its first "{}". */
static char *filled(const char *template, const char *text) {
    const char *mark = strstr(template, "{}");
    size_t before = (size_t)(mark - template), n = strlen(text);
    char *out = malloc(strlen(template) + n + 1);
    if (!out) return NULL;
    memcpy(out, template, before);
    memcpy(out + before, text, n);
    strcpy(out + before + n, mark + 2);
    return out;
}

char *data_caption(const weft_dataset *d, int64_t epoch, uint32_t sample) {
    const weft_dataset_options *o = &d->o;
    data_draw drop = data_draw_for(o->seed, (uint64_t)epoch, sample, DATA_DROPOUT);
    if (data_uniform(&drop) < o->caption_dropout) return strdup("");
    const char *plain = weft_dataset_caption(d, sample);
    data_draw tags = data_draw_for(o->seed, (uint64_t)epoch, sample, DATA_TAGS);
    char *text = o->shuffle_tags ? shuffled(plain, o->keep_tags, &tags) : strdup(plain);
    if (!text || !o->template_count) return text;
    data_draw pick = data_draw_for(o->seed, (uint64_t)epoch, sample, DATA_TEMPLATE);
    char *out = filled(o->templates[data_below(&pick, (uint64_t)o->template_count)], text);
    free(text);
    return out;
}
