/* Moving averages of parameters; see ema.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "nodes/train/ema.h"
#include "nodes/train/state.h"

struct average {
    char *name;
    weft_tensor *param, *average;
    weft_tensor *kept;              /* the parameter's own value while swapped */
};

struct weft_ema {
    weft_ctx *ctx;
    weft_ema_options options;
    int64_t steps;
    double decay;
    bool swapped;
    struct average *items;
    int64_t count, room;
};

static const char *const names[WEFT_EMA_COUNT] = { "diffusers", "lucidrains" };

const char *weft_ema_name(weft_ema_rule rule) { return (unsigned)rule < WEFT_EMA_COUNT ? names[rule] : "?"; }

weft_ema_rule weft_ema_of(const char *name) {
    int i = 0;
    while (i < WEFT_EMA_COUNT && strcmp(names[i], name)) i++;
    return (weft_ema_rule)i;
}

weft_ema_options weft_ema_defaults(weft_ema_rule rule) {
    const bool often = rule == WEFT_EMA_DIFFUSERS;
    return (weft_ema_options){ .rule = rule, .decay = 0.9999, .update_after_step = often ? 0 : 100,
                               .update_every = often ? 1 : 10,
                               .inv_gamma = 1, .power = 2.0 / 3 };
}

bool weft_ema_plan(const weft_ema_options *o, int64_t steps, double *decay) {
    const bool lucid = o->rule == WEFT_EMA_LUCIDRAINS;
    const double s = (double)(steps + 1 - o->update_after_step - 1);
    *decay = 0;
    if (lucid && steps == 0) return true;
    if (lucid && steps % o->update_every) return false;
    if (s <= 0) return true;
    *decay = lucid || o->use_warmup ? 1 - pow(1 + s / o->inv_gamma, -o->power) : (1 + s) / (10 + s);
    *decay = fmax(o->min_decay, fmin(o->decay, *decay));
    return true;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

weft_ema *weft_ema_new(weft_ctx *c, const weft_ema_options *o) {
    if (!weft_ok(c)) return NULL;
    if (!(o->decay >= 0 && o->decay <= 1 && o->min_decay >= 0 && o->min_decay <= o->decay && o->update_every >= 1 &&
          o->update_after_step >= 0 && o->inv_gamma > 0 && (unsigned)o->rule < WEFT_EMA_COUNT)) {
        weft_fail(c, WEFT_E_ARGUMENT,
                  "ema: expected 0 ≤ min_decay ≤ decay ≤ 1, update_every ≥ 1, update_after_step ≥ 0, inv_gamma > 0");
        return NULL;
    }
    weft_ema *e = calloc(1, sizeof *e);
    if (e) *e = (weft_ema){ .ctx = c, .options = *o };
    else weft_fail(c, WEFT_E_MEMORY, "no memory for moving averages");
    return e;
}

static void drop(struct average *a) {
    free(a->name);
    weft_unref(a->param);
    weft_unref(a->average);
    weft_unref(a->kept);
}

void weft_ema_free(weft_ema *e) {
    if (!e) return;
    for (int64_t i = 0; i < e->count; i++) drop(&e->items[i]);
    free(e->items);
    free(e);
}

weft_status weft_ema_add(weft_ema *e, const char *name, weft_tensor *param) {
    weft_ctx *c = e->ctx;
    if (!weft_update_allowed(c, name, param)) return weft_error(c);
    if (e->swapped) return weft_fail(c, WEFT_E_ARGUMENT, "ema: the averages are in use; swap back first");
    if (!weft_state_grow(c, (void **)&e->items, e->count, &e->room, sizeof *e->items)) return weft_error(c);
    struct average a = { .name = weft_state_text(c, name), .param = weft_ref(param) };
    if (a.name) a.average = weft_state_copy(c, weft_state_type(param), param);
    if (weft_ok(c)) e->items[e->count++] = a;
    else drop(&a);
    return weft_error(c);
}

int64_t weft_ema_count(const weft_ema *e) { return e->count; }

weft_tensor *weft_ema_average(const weft_ema *e, int64_t i, const char **name) {
    if (i < 0 || i >= e->count) return NULL;
    if (name) *name = e->items[i].name;
    return e->items[i].average;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

double weft_ema_decay(const weft_ema *e) { return e->decay; }

weft_status weft_ema_step(weft_ema *e) {
    weft_ctx *c = e->ctx;
    double decay;
    if (!weft_ok(c)) return weft_error(c);
    if (e->swapped) return weft_fail(c, WEFT_E_ARGUMENT, "ema: the averages are in use; swap back first");
    const bool moves = weft_ema_plan(&e->options, e->steps++, &decay);
    if (!moves) return WEFT_OK;
    e->decay = decay;
    for (int64_t i = 0; i < e->count; i++) {
        const struct average *a = &e->items[i];
        const weft_status status = decay == 0 ? weft_update_copy(c, a->average, a->param)
                                              : weft_update_lerp(c, a->average, a->param, 1 - decay);
        if (status) break;
    }
    return weft_error(c);
}

/* ---- swapping ---------------------------------------------------------------------------------------------------- */

bool weft_ema_swapped(const weft_ema *e) { return e->swapped; }

weft_status weft_ema_swap(weft_ema *e) {
    weft_ctx *c = e->ctx;
    if (!e->swapped)        /* all that can fail comes first */
        for (int64_t i = 0; i < e->count && weft_ok(c); i++)
            e->items[i].kept = weft_state_copy(c, weft_type(e->items[i].param), e->items[i].param);
    for (int64_t i = 0; i < e->count && weft_ok(c); i++) {
        const struct average *a = &e->items[i];
        if (weft_update_copy(c, a->param, e->swapped ? a->kept : a->average)) break;
    }
    if (weft_ok(c)) e->swapped = !e->swapped;
    for (int64_t i = 0; i < e->count && !e->swapped; i++) {
        weft_unref(e->items[i].kept);
        e->items[i].kept = NULL;
    }
    return weft_error(c);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static weft_status transfer(weft_ema *e, const char *path, bool save) {
    static const char *const metadata[] = { "format", "weft-ema", NULL };
    weft_ctx *c = e->ctx;
    weft_state s = { .ctx = c };
    if (e->swapped) return weft_fail(c, WEFT_E_ARGUMENT, "ema: the averages are in use; swap back first");
    weft_scope scope = weft_scope_named(c, NULL);
    weft_tensor *steps = weft_tensor_from(c, WEFT_I64, 0, NULL, &e->steps);
    bool ok = weft_state_add(&s, steps, "step");
    for (int64_t i = 0; i < e->count && ok; i++)
        ok = weft_state_add(&s, e->items[i].average, "average.%s", e->items[i].name);
    if (ok && save) ok = weft_state_write(&s, path, metadata) == WEFT_OK;
    else if (ok) ok = weft_state_read(&s, path, metadata) == WEFT_OK &&
                      weft_read(c, steps, &e->steps, sizeof e->steps) == WEFT_OK;
    weft_state_free(&s);
    weft_scope_end(c, scope, NULL);
    return weft_error(c);
}

weft_status weft_ema_save(weft_ema *e, const char *path) { return transfer(e, path, true); }
weft_status weft_ema_load(weft_ema *e, const char *path) { return transfer(e, path, false); }
