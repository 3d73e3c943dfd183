/* The tree of parameters: places, found by hashing (parent, part of the name), and the tensors at them. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "runtime/autograd.h"
#include "runtime/params_internal.h"
#include "runtime/safetensors_internal.h"

/* ---- places --------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t a, uint64_t b) {
    __uint128_t p = (__uint128_t)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* Multiply and fold, keyed (as in Wang Yi's wyhash). */
static uint64_t hash(const weft_tree *t, uint32_t parent, const char *part, size_t n) {
    uint64_t h = mix(t->key ^ parent, 0x9e3779b97f4a7c15u ^ (uint64_t)n);
    while (n) {
        uint64_t word = 0;
        size_t take = n < 8 ? n : 8;
        memcpy(&word, part, take);
        h = mix(h ^ word, t->key | 1);
        part += take;
        n -= take;
    }
    return mix(h, 0xd6e8feb86659fd93u);
}

/* The slot of a part below `parent`, or the free one where it would go. */
static size_t slot_of(const weft_tree *t, uint32_t parent, const char *part, size_t n) {
    size_t i = hash(t, parent, part, n) & (t->table_size - 1);
    for (; t->table[i]; i = (i + 1) & (t->table_size - 1)) {
        const struct param_node *node = &t->nodes[t->table[i]];
        if (node->parent == parent && node->length == n && !memcmp(t->text + node->name, part, n)) break;
    }
    return i;
}

static bool grow_table(weft_tree *t) {
    size_t size = t->table_size ? 2 * t->table_size : 64;
    uint32_t *table = weft_host_alloc(size * sizeof *table);
    if (!table) return false;
    weft_host_free(t->table);
    t->table = table;
    t->table_size = size;
    for (uint32_t i = 1; i < t->node_count; i++) {
        const struct param_node *node = &t->nodes[i];
        t->table[slot_of(t, node->parent, t->text + node->name, node->length)] = i;
    }
    return true;
}

static bool grow_nodes(weft_tree *t) {
    uint32_t room = t->node_room ? 2 * t->node_room : 32;
    struct param_node *nodes = room < UINT32_MAX / 2 ? weft_host_resize(t->nodes, room * sizeof *nodes) : NULL;
    if (!nodes) return false;
    t->nodes = nodes;
    t->node_room = room;
    return true;
}

static bool grow_text(weft_tree *t, size_t more) {
    if (t->text_size + more <= t->text_room) return true;
    size_t room = 2 * (t->text_size + more) + 256;
    char *text = room < UINT32_MAX ? weft_host_resize(t->text, room) : NULL;
    if (!text) return false;
    t->text = text;
    t->text_room = room;
    return true;
}

static uint32_t step(weft_tree *t, uint32_t node, const char *part, size_t n);

/* A new place; in an overlay, in the trees below too. */
static uint32_t add_node(weft_tree *t, uint32_t parent, const char *part, size_t n) {
    uint32_t base = 0;
    if (t->below && t->node_count) base = step(t->below, t->nodes[parent].base, part, n);
    if (base == PARAM_NOWHERE) return PARAM_NOWHERE;
    bool ok = (t->node_count < t->node_room || grow_nodes(t)) &&
        (2 * ((size_t)t->node_count + 1) <= t->table_size || grow_table(t)) && grow_text(t, n + 1);
    if (!ok) {
        weft_fail(t->ctx, WEFT_E_MEMORY, "%s: no memory for the names of parameters", t->name);
        return PARAM_NOWHERE;
    }
    uint32_t i = t->node_count++;
    memcpy(t->text + t->text_size, part, n);
    t->text[t->text_size + n] = 0;
    t->nodes[i] = (struct param_node){ .parent = parent, .base = base, .name = (uint32_t)t->text_size,
        .length = (uint32_t)n };
    t->text_size += n + 1;
    if (i) t->table[slot_of(t, parent, t->text + t->nodes[i].name, n)] = i;
    return i;
}

/* The place of a part below a node, made where there is none. */
static uint32_t step(weft_tree *t, uint32_t node, const char *part, size_t n) {
    uint32_t next = t->table[slot_of(t, node, part, n)];
    return next ? next : add_node(t, node, part, n);
}

/* Goes down part by part. */
static uint32_t descend(const weft_tree *t, weft_tree *grow, uint32_t node, const char *name) {
    while (node != PARAM_NOWHERE) {
        size_t n = strcspn(name, ".");
        node = grow ? step(grow, node, name, n) : t->table[slot_of(t, node, name, n)];
        if (!node) return 0;
        if (!name[n]) return node;
        name += n + 1;
    }
    return grow ? PARAM_NOWHERE : 0;
}

uint32_t param_find(const weft_tree *t, uint32_t node, const char *name) { return descend(t, NULL, node, name); }
uint32_t param_place(weft_tree *t, uint32_t node, const char *name) { return descend(t, t, node, name); }

static size_t append(char *out, size_t size, size_t used, const char *text) {
    int n = used < size ? snprintf(out + used, size - used, "%s", text) : 0;
    return used + (size_t)n;
}

static size_t put_path(const weft_tree *t, uint32_t node, const char *root, char *out, size_t size) {
    if (node == 0 || node == PARAM_NOWHERE) return append(out, size, 0, root);
    size_t used = put_path(t, t->nodes[node].parent, root, out, size);
    if (used) used = append(out, size, used, ".");
    return append(out, size, used, t->text + t->nodes[node].name);
}

const char *param_path(const weft_tree *t, uint32_t node, char *out, size_t size) {
    put_path(t, node, "", out, size);
    return out;
}

const char *weft_params_name(weft_params p, char *out, size_t size) {
    if (p.tree) put_path(p.tree, p.node, p.tree->name, out, size);
    else if (size) *out = 0;
    return out;
}

weft_params weft_root(weft_tree *t) { return (weft_params){ t, 0 }; }

weft_params weft_sub(weft_params p, const char *name) {
    return p.tree ? (weft_params){ p.tree, param_place(p.tree, p.node, name) } : p;
}

weft_params weft_sub_at(weft_params p, const char *name, int i) {
    char number[16];
    snprintf(number, sizeof number, "%d", i);
    return weft_sub(weft_sub(p, name), number);
}

bool weft_has(weft_params p, const char *name) {
    if (!p.tree || p.node == PARAM_NOWHERE) return false;
    uint32_t node = param_find(p.tree, p.node, name);
    if (node && p.tree->nodes[node].filled) return true;
    return weft_has((weft_params){ p.tree->below, p.tree->nodes[p.node].base }, name);
}

/* ---- tensors -------------------------------------------------------------------------------------------- */

static void packed(void *user) {
    const struct param_pin *pin = user;
    weft_st_drop_pages(pin->file, pin->entry);
}

void param_mark(weft_tree *t, uint32_t node) {
    struct param_node *n = &t->nodes[node];
    if (!n->tensor) return;
    weft_tensor_mark_parameter(n->tensor, t->frozen && !n->trained, n->pin ? packed : NULL, n->pin);
    if (n->trained) weft_set_requires_grad(n->tensor, true);
}

static void drop_list(weft_tree *t) {
    weft_host_free(t->list);
    weft_host_free(t->list_text);
    t->list = NULL;
    t->list_text = NULL;
}

void param_put(weft_tree *t, uint32_t node, weft_tensor *tensor, struct param_pin *pin) {
    t->nodes[node].tensor = weft_ref(tensor);
    t->nodes[node].pin = pin;
    t->count++;
    t->ctx->weights_changed++;
    param_mark(t, node);
    drop_list(t);
    for (uint32_t i = node; !t->nodes[i].filled; i = t->nodes[i].parent) t->nodes[i].filled = true;
}

bool param_add(weft_tree *t, const char *name, weft_tensor *tensor, struct param_pin *pin) {
    char shown[ST_SHOWN];
    const char *from = pin ? weft_st_path(pin->file) : t->name, *fault = NULL;
    if (!tensor) return false;
    if (strlen(name) > PARAM_NAME_MOST) fault = "a name of more than 500 bytes";
    for (const char *p = name; *p && !fault; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) fault = "a name with control characters";
    uint32_t node = fault ? 0 : param_place(t, 0, name);
    if (node == PARAM_NOWHERE) return false;
    if (!fault && t->nodes[node].tensor) fault = "is there already";
    if (fault) {
        const struct param_pin *first = node ? t->nodes[node].pin : NULL;
        weft_fail(t->ctx, WEFT_E_PARAMS, "%s: parameter %s: %s%s%s", from, st_show(name, shown), fault,
            first ? ", from " : "", first ? weft_st_path(first->file) : "");
        return false;
    }
    param_put(t, node, tensor, pin);
    return true;
}

weft_status weft_tree_add(weft_ctx *c, weft_tree *t, const char *name, weft_tensor *tensor) {
    if (weft_ok(c) && !tensor) weft_fail(c, WEFT_E_ARGUMENT, "%s: no tensor for the parameter %s", t->name, name);
    if (weft_ok(c)) param_add(t, name, tensor, NULL);
    return weft_error(c);
}

void weft_tree_set_frozen(weft_tree *t, bool frozen) {
    t->frozen = frozen;
    t->ctx->weights_changed++;
    for (uint32_t i = 0; i < t->node_count; i++) {
        param_mark(t, i);
        if (frozen) continue;
        weft_unref(t->nodes[i].cast);
        t->nodes[i].cast = NULL;
    }
}

void weft_tree_make(weft_tree *t, weft_dtype type, uint64_t seed) {
    t->making = true;
    t->make_type = type;
    t->make_seed = seed;
}

/* ---- all of it ------------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct param_listed *)a)->name, ((const struct param_listed *)b)->name);
}

bool param_list(weft_tree *t) {
    char path[PARAM_ROOM];
    size_t room = 1;
    if (t->list) return true;
    for (uint32_t i = 0; i < t->node_count; i++)
        if (t->nodes[i].tensor) room += strlen(param_path(t, i, path, sizeof path)) + 1;
    t->list = weft_host_alloc(((size_t)t->count + 1) * sizeof *t->list);
    t->list_text = weft_host_alloc(room);
    if (!t->list || !t->list_text) {
        drop_list(t);
        weft_fail(t->ctx, WEFT_E_MEMORY, "%s: no memory for the names of parameters", t->name);
        return false;
    }
    char *at = t->list_text;
    int64_t n = 0;
    for (uint32_t i = 0; i < t->node_count; i++) {
        if (!t->nodes[i].tensor) continue;
        t->list[n++] = (struct param_listed){ strcpy(at, param_path(t, i, path, sizeof path)), i };
        at += strlen(at) + 1;
    }
    qsort(t->list, (size_t)n, sizeof *t->list, by_name);
    return true;
}

int64_t weft_tree_count(const weft_tree *t) { return t->count; }

const char *weft_tree_name(weft_ctx *c, weft_tree *t, int64_t i) {
    return weft_ok(c) && i >= 0 && i < t->count && param_list(t) ? t->list[i].name : NULL;
}

weft_tensor *weft_tree_plain(weft_ctx *c, weft_tree *t, int64_t i, const char **name) {
    if (!weft_ok(c) || i < 0 || i >= t->count || !param_list(t)) return NULL;
    *name = t->list[i].name;
    return weft_plain(c, t->list[i].name, t->nodes[t->list[i].node].tensor);
}

/* A key that nobody outside knows; where the system gives no randomness, the address and the time have to do. */
static uint64_t secret(const weft_tree *t) {
    uint64_t key;
    struct timespec now;
    if (getrandom(&key, sizeof key, GRND_NONBLOCK) == (ssize_t)sizeof key) return key;
    clock_gettime(CLOCK_REALTIME, &now);
    return mix((uint64_t)(uintptr_t)t, (uint64_t)now.tv_nsec | 1);
}

weft_tree *weft_tree_new(weft_ctx *c, const char *name) {
    if (!weft_ok(c)) return NULL;
    weft_tree *t = weft_host_alloc(sizeof *t);
    if (t) t->name = weft_host_alloc(strlen(name) + 1);
    if (!t || !t->name) {
        weft_host_free(t);
        weft_fail(c, WEFT_E_MEMORY, "%s: no memory for a tree of parameters", name);
        return NULL;
    }
    t->ctx = c;
    t->key = secret(t);
    strcpy(t->name, name);
    if (add_node(t, 0, "", 0) == 0) return t;
    weft_tree_free(t);
    return NULL;
}

void weft_tree_free(weft_tree *t) {
    if (!t) return;
    for (uint32_t i = 0; i < t->node_count; i++) {
        struct param_node *node = &t->nodes[i];
        /* Somebody may hold the tensor longer than the pin lives. */
        if (node->tensor) weft_tensor_mark_parameter(node->tensor, t->frozen, NULL, NULL);
        weft_unref(node->cast);
        weft_unref(node->tensor);
        param_drop_deltas(node);
    }
    while (t->adapters) {
        struct param_adapter *a = t->adapters;
        t->adapters = a->next;
        weft_host_free(a);
    }
    while (t->sources) {
        struct param_source *s = t->sources;
        t->sources = s->next;
        weft_st_close(s->file);
        weft_host_free(s);
    }
    drop_list(t);
    weft_host_free(t->table);
    weft_host_free(t->text);
    weft_host_free(t->nodes);
    weft_host_free(t->name);
    weft_host_free(t);
}
