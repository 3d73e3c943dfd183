/* See listing.h. A column's width counts characters, not bytes. */
#include "lua/listing.h"

#include <stdbool.h>
#include <string.h>

enum { MOST_LINE = 240, MOST_TEXT = 100, MOST_CELL = 48, MOST_COLUMNS = 16, INDENT = 2 };

/* A value as text of at most `most` characters, with "…" where something was cut off. */
struct shown { char text[4 * MOST_LINE + 8]; int width; };

static bool is_continuation(char byte) { return ((unsigned char)byte & 0xc0) == 0x80; }

static struct shown show_text(const char *s, int most) {
    struct shown out = { .width = 0 };
    size_t used = 0;
    for (; *s; out.width++) {
        if (out.width == most) {
            memcpy(out.text + used, "…", sizeof "…");
            out.width++;
            return out;
        }
        bool control = (unsigned char)*s < 0x20 || *s == 0x7f ||
                       ((unsigned char)s[0] == 0xc2 && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0);
        size_t n = 1;
        while (n < 4 && is_continuation(s[n])) n++;
        if (control) out.text[used++] = ' ';
        else {
            memcpy(out.text + used, s, n);
            used += n;
        }
        s += n;
    }
    out.text[used] = 0;
    return out;
}

/* 1234567 → "1.2 M" with the units' letters in steps of `step`. */
static struct shown show_amount(double v, double step, const char *const *units) {
    char text[48];
    int i = 0;
    while (v >= step && units[i + 1]) {
        v /= step;
        i++;
    }
    snprintf(text, sizeof text, i ? "%.1f %s" : "%.0f %s", v, units[i]);
    size_t n = strlen(text);
    if (n && text[n - 1] == ' ') text[n - 1] = 0;
    return show_text(text, MOST_TEXT);
}

static struct shown show_number(const char *name, double v) {
    static const char *const bytes[] = { "B", "KiB", "MiB", "GiB", "TiB", NULL }, *const counts[] = { "", "K", "M", "G",
                                                                                                      NULL };
    char text[32];
    if (!strcmp(name, "bytes")) return show_amount(v, 1024, bytes);
    if (!strcmp(name, "parameters")) return show_amount(v, 1000, counts);
    snprintf(text, sizeof text, "%.10g", v);
    return show_text(text, MOST_TEXT);
}

static struct shown show(const cJSON *v, int most) {
    if (cJSON_IsString(v) || cJSON_IsRaw(v)) return show_text(v->valuestring, most);
    if (cJSON_IsBool(v)) return show_text(cJSON_IsTrue(v) ? "yes" : "no", most);
    if (cJSON_IsNumber(v)) return show_number(v->string ? v->string : "", v->valuedouble);
    return show_text("", most);
}

static void pad(FILE *out, int n) {
    while (n-- > 0) fputc(' ', out);
}

/* Only the outermost names are ours: those within may be a file's. */
static void print_key(FILE *out, const char *key, int indent, int width) {
    pad(out, indent);
    for (const char *p = key; *p; p++) fputc(*p == '_' && indent == INDENT ? ' ' : *p, out);
    pad(out, width - (int)strlen(key));
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

struct table { const char *names[MOST_COLUMNS]; int widths[MOST_COLUMNS], columns; bool numbers[MOST_COLUMNS]; };

static int column_of(struct table *t, const char *name) {
    for (int i = 0; i < t->columns; i++)
        if (!strcmp(t->names[i], name)) return i;
    if (t->columns == MOST_COLUMNS) return -1;
    t->names[t->columns] = name;
    t->widths[t->columns] = (int)strlen(name);
    t->numbers[t->columns] = true;
    return t->columns++;
}

/* The last column, where long texts stand, has more room. */
static struct shown show_cell(const struct table *t, int column, const cJSON *cell) {
    return show(cell, column == t->columns - 1 ? MOST_TEXT : MOST_CELL);
}

static struct table lay_out(const cJSON *rows) {
    struct table t = { .columns = 0 };
    for (const cJSON *row = rows->child; row; row = row->next)
        for (const cJSON *cell = row->child; cell; cell = cell->next) column_of(&t, cell->string);
    for (const cJSON *row = rows->child; row; row = row->next)
        for (const cJSON *cell = row->child; cell; cell = cell->next) {
            int i = column_of(&t, cell->string);
            if (i < 0) continue;
            struct shown s = show_cell(&t, i, cell);
            if (s.width > t.widths[i]) t.widths[i] = s.width;
            if (!cJSON_IsNumber(cell)) t.numbers[i] = false;
        }
    return t;
}

static void print_table(FILE *out, const cJSON *rows, int indent) {
    struct table t = lay_out(rows);
    for (const cJSON *row = NULL;; row = row ? row->next : rows->child) {       /* NULL at first: the heading */
        int owed = indent;
        for (int i = 0; i < t.columns; i++) {
            const cJSON *cell = row ? cJSON_GetObjectItemCaseSensitive(row, t.names[i]) : NULL;
            struct shown s = row ? show_cell(&t, i, cell) : show_text(t.names[i], MOST_CELL);
            int room = t.widths[i] - s.width;
            pad(out, owed + (t.numbers[i] ? room : 0));
            fputs(s.text, out);
            owed = INDENT + (t.numbers[i] ? 0 : room);
        }
        fputc('\n', out);
        if (row && !row->next) break;
    }
}

/* ---- objects ----------------------------------------------------------------------------------------------------- */

static bool is_empty(const cJSON *v) {
    return cJSON_IsNull(v) || (cJSON_IsString(v) && !*v->valuestring) ||
           ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
}

static void print_list(FILE *out, const cJSON *list) {
    for (const cJSON *v = list->child; v; v = v->next) {
        struct shown s = show(v, MOST_TEXT);
        fprintf(out, "%s%s", s.text, v->next ? ", " : "\n");
    }
}

static void print_object(FILE *out, const cJSON *object, int indent) {
    int width = 0;
    for (const cJSON *v = object->child; v; v = v->next) {
        int n = (int)strlen(v->string) < MOST_CELL ? (int)strlen(v->string) : 0;
        if (!is_empty(v) && n > width) width = n;
    }
    for (const cJSON *v = object->child; v; v = v->next) {
        if (is_empty(v)) continue;
        struct shown name = show_text(v->string, MOST_CELL);
        bool table = cJSON_IsArray(v) && cJSON_IsObject(v->child);
        print_key(out, name.text, indent, table || cJSON_IsObject(v) ? 0 : width + INDENT);
        if (table || cJSON_IsObject(v)) fputc('\n', out);
        if (table) print_table(out, v, indent + INDENT);
        else if (cJSON_IsObject(v)) print_object(out, v, indent + INDENT);
        else if (cJSON_IsArray(v)) print_list(out, v);
        else fprintf(out, "%s\n", show(v, MOST_LINE).text);
    }
}

void listing_print(FILE *out, const cJSON *object) { print_object(out, object, INDENT); }
