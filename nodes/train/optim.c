/* Optimisers over lists of parameters; see optim.h. The arithmetic is the kernels'; here are steps, groups, state and
 * files. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "nodes/train/optim.h"
#include "nodes/train/state.h"

struct group { double lr, weight_decay; };

/* What an optimiser may keep of a parameter, in state[]. */
enum { STATE_FIRST, STATE_SECOND, STATE_ROW, STATE_COLUMN, STATES };

struct param {
    char *name;
    int group;
    int64_t steps;
    weft_tensor *tensor;
    weft_tensor *master;            /* of an f16 or bf16 tensor; NULL otherwise */
    weft_tensor *state[STATES];     /* NULL: this kind has none */
};

struct weft_optim {
    weft_ctx *ctx;
    weft_optim_options options;
    double factor;
    struct group *groups;
    struct param *params;
    int64_t group_count, group_room, count, room;
};

/* ---- kinds ------------------------------------------------------------------------------------------------------- */

/* names: of the states in files, torch's. */
static const struct { const char *name, *first, *second; } kinds[WEFT_OPTIM_COUNT] = {
    [WEFT_OPTIM_ADAMW] = { "adamw", "exp_avg", "exp_avg_sq" },
    [WEFT_OPTIM_ADAM] = { "adam", "exp_avg", "exp_avg_sq" },
    [WEFT_OPTIM_SGD] = { "sgd", "momentum_buffer", NULL },
    [WEFT_OPTIM_LION] = { "lion", "exp_avg", NULL },
    [WEFT_OPTIM_ADAFACTOR] = { "adafactor", "exp_avg", "exp_avg_sq" },
};

const char *weft_optim_name(weft_optim_kind kind) { return (unsigned)kind < WEFT_OPTIM_COUNT ? kinds[kind].name : "?"; }

weft_optim_kind weft_optim_of(const char *name) {
    int i = 0;
    while (i < WEFT_OPTIM_COUNT && strcmp(kinds[i].name, name)) i++;
    return (weft_optim_kind)i;
}

weft_optim_options weft_optim_defaults(weft_optim_kind kind) {
    switch (kind) {
    case WEFT_OPTIM_ADAMW:
        return (weft_optim_options){ .kind = kind, .lr = 1e-3, .weight_decay = 1e-2, .beta1 = 0.9, .beta2 = 0.999,
                                     .eps = 1e-8 };
    case WEFT_OPTIM_SGD: return (weft_optim_options){ .kind = kind, .lr = 1e-3 };
    case WEFT_OPTIM_LION: return (weft_optim_options){ .kind = kind, .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.99 };
    case WEFT_OPTIM_ADAFACTOR:
        return (weft_optim_options){ .kind = kind, .eps = 1e-30, .least = 1e-3, .clip = 1, .decay_rate = -0.8,
                                     .scale_parameter = true, .relative_step = true };
    default: return (weft_optim_options){ .kind = kind, .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 };
    }
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

/* Whether low ≤ value < high; NaN is not. */
static bool in_range(weft_ctx *c, weft_optim_kind kind, const char *what, double value, double low, double high) {
    if (value >= low && value < high) return true;
    weft_fail(c, WEFT_E_ARGUMENT, "%s: %s is %g, expected %g or more, below %g", kinds[kind].name, what, value, low,
              high);
    return false;
}

static bool check(weft_ctx *c, const weft_optim_options *o) {
    if ((unsigned)o->kind >= WEFT_OPTIM_COUNT) {
        weft_fail(c, WEFT_E_ARGUMENT, "%d is no kind of optimiser", (int)o->kind);
        return false;
    }
    const bool adafactor = o->kind == WEFT_OPTIM_ADAFACTOR;
    const struct { const char *name; double value, low, high; } range[] = {
        { "lr", o->lr, 0, INFINITY }, { "weight_decay", o->weight_decay, 0, INFINITY }, { "beta1", o->beta1, 0, 1 },
        { "beta2", o->beta2, 0, 1 }, { "eps", o->eps, 0, INFINITY }, { "momentum", o->momentum, 0, INFINITY },
        { "dampening", o->dampening, 0, INFINITY }, { "clip_threshold", o->clip, adafactor ? 1e-30 : 0, INFINITY },
    };
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (!in_range(c, o->kind, range[i].name, range[i].value, range[i].low, range[i].high)) return false;
    if (o->nesterov && (o->momentum == 0 || o->dampening != 0))
        weft_fail(c, WEFT_E_ARGUMENT, "sgd: nesterov wants momentum and no dampening");
    else if (adafactor && o->relative_step && o->lr != 0)
        weft_fail(c, WEFT_E_ARGUMENT, "adafactor: with relative_step the learning rate is worked out; leave lr out");
    else if (adafactor && !o->relative_step && o->lr == 0)
        weft_fail(c, WEFT_E_ARGUMENT, "adafactor: without relative_step it needs a learning rate, lr");
    else if (adafactor && !o->relative_step && o->warmup_init)
        weft_fail(c, WEFT_E_ARGUMENT, "adafactor: warmup_init goes with relative_step only");
    return weft_ok(c);
}

weft_optim *weft_optim_new(weft_ctx *c, const weft_optim_options *options) {
    if (!weft_ok(c) || !check(c, options)) return NULL;
    weft_optim *o = calloc(1, sizeof *o);
    if (!o) {
        weft_fail(c, WEFT_E_MEMORY, "no memory for an optimiser");
        return NULL;
    }
    *o = (weft_optim){ .ctx = c, .options = *options, .factor = 1 };
    if (weft_optim_group(o, options->lr, options->weight_decay) == 0) return o;
    weft_optim_free(o);
    return NULL;
}

static void param_drop(struct param *p) {
    free(p->name);
    weft_unref(p->tensor);
    weft_unref(p->master);
    for (int k = 0; k < STATES; k++) weft_unref(p->state[k]);
}

void weft_optim_free(weft_optim *o) {
    if (!o) return;
    for (int64_t i = 0; i < o->count; i++) param_drop(&o->params[i]);
    free(o->params);
    free(o->groups);
    free(o);
}

int weft_optim_group(weft_optim *o, double lr, double weight_decay) {
    weft_ctx *c = o->ctx;
    if (!weft_ok(c) || !in_range(c, o->options.kind, "lr", lr, 0, INFINITY) ||
        !in_range(c, o->options.kind, "weight_decay", weight_decay, 0, INFINITY) ||
        !weft_state_grow(c, (void **)&o->groups, o->group_count, &o->group_room, sizeof *o->groups)) return -1;
    o->groups[o->group_count] = (struct group){ lr, weight_decay };
    return (int)o->group_count++;
}

/* The states that this kind keeps of a parameter. */
static void make_state(weft_optim *o, struct param *p) {
    weft_ctx *c = o->ctx;
    const weft_optim_options *how = &o->options;
    const weft_dtype type = weft_state_type(p->tensor);
    const int rank = weft_rank(p->tensor);
    const bool adafactor = how->kind == WEFT_OPTIM_ADAFACTOR, factored = adafactor && rank >= 2;
    const bool first = how->kind == WEFT_OPTIM_SGD ? how->momentum != 0 : adafactor ? how->beta1 != 0 : true;
    int64_t shape[WEFT_MAX_RANK];
    for (int i = 0; i < rank; i++) shape[i] = weft_dim(p->tensor, i);
    if (weft_type(p->tensor) != type) p->master = weft_state_copy(c, type, p->tensor);
    if (first) p->state[STATE_FIRST] = weft_state_zeros(c, type, rank, shape);
    if (kinds[how->kind].second && !factored) p->state[STATE_SECOND] = weft_state_zeros(c, type, rank, shape);
    if (!factored) return;
    p->state[STATE_ROW] = weft_state_zeros(c, type, rank - 1, shape);
    shape[rank - 2] = shape[rank - 1];
    p->state[STATE_COLUMN] = weft_state_zeros(c, type, rank - 1, shape);
}

/* Whether the name and the tensor are fit for a parameter. */
static bool fits(const weft_optim *o, int group, const char *name, const weft_tensor *t) {
    weft_ctx *c = o->ctx;
    char text[160];
    if (!weft_update_allowed(c, name, t)) return false;
    if (weft_type(t) > WEFT_F64)
        weft_fail(c, WEFT_E_TYPE, "%s: %s cannot be trained: it is not of floats", name,
                  weft_describe(t, text, sizeof text));
    else if (group < 0 || group >= o->group_count)
        weft_fail(c, WEFT_E_ARGUMENT, "%s: there is no group %d", name, group);
    else if (strlen(name) > WEFT_STATE_NAME)
        weft_fail(c, WEFT_E_ARGUMENT, "%.60s…: a parameter's name has at most %d bytes", name, WEFT_STATE_NAME);
    for (int64_t i = 0; i < o->count && weft_ok(c); i++)
        if (!strcmp(o->params[i].name, name))
            weft_fail(c, WEFT_E_ARGUMENT, "%s: there are two parameters of that name", name);
    return weft_ok(c);
}

weft_status weft_optim_add(weft_optim *o, int group, const char *name, weft_tensor *param) {
    weft_ctx *c = o->ctx;
    if (!fits(o, group, name, param) ||
        !weft_state_grow(c, (void **)&o->params, o->count, &o->room, sizeof *o->params)) return weft_error(c);
    struct param p = { .name = weft_state_text(c, name), .group = group, .tensor = weft_ref(param) };
    if (p.name) make_state(o, &p);
    if (weft_ok(c)) o->params[o->count++] = p;
    else param_drop(&p);
    return weft_error(c);
}

int64_t weft_optim_count(const weft_optim *o) { return o->count; }

weft_tensor *weft_optim_param(const weft_optim *o, int64_t i, const char **name) {
    if (i < 0 || i >= o->count) return NULL;
    if (name) *name = o->params[i].name;
    return o->params[i].tensor;
}

void weft_optim_set_factor(weft_optim *o, double factor) { o->factor = factor; }

double weft_optim_lr(const weft_optim *o, int group) {
    return group >= 0 && group < o->group_count ? o->groups[group].lr * o->factor : 0;
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

static weft_status step_adafactor(weft_optim *o, struct param *p, weft_tensor *t, weft_tensor *grad, double lr) {
    const weft_optim_options *how = &o->options;
    const double steps = (double)p->steps;
    if (how->relative_step) lr = fmin(how->warmup_init ? 1e-6 * steps : 1e-2, 1 / sqrt(steps));
    weft_adafactor_args a = { .decay = 1 - pow(steps, how->decay_rate), .eps = how->eps, .lr = lr, .least = how->least,
                              .clip = how->clip, .beta1 = how->beta1,
                              .weight_decay = o->groups[p->group].weight_decay };
    const bool factored = p->state[STATE_ROW];
    return weft_update_adafactor(o->ctx, a, how->scale_parameter, t, grad, p->state[STATE_ROW],
                                 p->state[factored ? STATE_COLUMN : STATE_SECOND], p->state[STATE_FIRST]);
}

static weft_status step_one(weft_optim *o, struct param *p, weft_tensor *grad) {
    weft_ctx *c = o->ctx;
    const weft_optim_options *how = &o->options;
    const double lr = weft_optim_lr(o, p->group), decay = o->groups[p->group].weight_decay;
    weft_tensor *t = p->master ? p->master : p->tensor;
    p->steps++;
    switch (how->kind) {
    case WEFT_OPTIM_ADAMW: case WEFT_OPTIM_ADAM: {
        weft_adam_args a = { .lr = lr, .beta1 = how->beta1, .beta2 = how->beta2, .eps = how->eps, .weight_decay = decay,
                             .correct1 = 1 - pow(how->beta1, (double)p->steps),
                             .correct2 = 1 - pow(how->beta2, (double)p->steps),
                             .decoupled = how->kind == WEFT_OPTIM_ADAMW };
        return weft_update_adam(c, a, t, grad, p->state[STATE_FIRST], p->state[STATE_SECOND]);
    }
    case WEFT_OPTIM_SGD: {
        weft_sgd_args a = { .lr = lr, .momentum = how->momentum, .dampening = how->dampening, .weight_decay = decay,
                            .nesterov = how->nesterov, .first = p->steps == 1 };
        return weft_update_sgd(c, a, t, grad, p->state[STATE_FIRST]);
    }
    case WEFT_OPTIM_LION: {
        weft_lion_args a = { .lr = lr, .beta1 = how->beta1, .beta2 = how->beta2, .weight_decay = decay };
        return weft_update_lion(c, a, t, grad, p->state[STATE_FIRST]);
    }
    default: return step_adafactor(o, p, t, grad, lr);
    }
}

weft_status weft_optim_step(weft_optim *o, weft_tensor *const *grads) {
    for (int64_t i = 0; i < o->count && weft_ok(o->ctx); i++) {
        struct param *p = &o->params[i];
        if (!grads[i]) continue;
        weft_scope s = weft_scope_named(o->ctx, p->name);
        if (step_one(o, p, grads[i]) == WEFT_OK && p->master && weft_update_copy(o->ctx, p->tensor, p->master)) break;
        weft_scope_end(o->ctx, s, NULL);
    }
    return weft_error(o->ctx);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* All that is kept, by name; counts[i]: the i-th parameter's steps as a tensor. */
static bool list_state(weft_optim *o, weft_state *s, weft_tensor **counts) {
    for (int64_t i = 0; i < o->count; i++) {
        const struct param *p = &o->params[i];
        const char *const names[STATES] = { kinds[o->options.kind].first, kinds[o->options.kind].second,
                                            "exp_avg_sq_row",
                                            "exp_avg_sq_col" };
        counts[i] = weft_tensor_from(o->ctx, WEFT_I64, 0, NULL, &p->steps);
        if (!weft_state_add(s, counts[i], "state.%s.step", p->name)) return false;
        if (!weft_state_add(s, p->master, "state.%s.master", p->name)) return false;
        for (int k = 0; k < STATES; k++)
            if (!weft_state_add(s, p->state[k], "state.%s.%s", p->name, names[k])) return false;
    }
    return true;
}

static weft_status transfer(weft_optim *o, const char *path, bool save) {
    weft_ctx *c = o->ctx;
    const char *const metadata[] = { "format", "weft-optimizer", "optimizer", kinds[o->options.kind].name, NULL };
    weft_state s = { .ctx = c };
    weft_scope scope = weft_scope_named(c, NULL);
    weft_tensor **counts = calloc(1, (size_t)(o->count + 1) * sizeof *counts);
    if (!counts) weft_fail(c, WEFT_E_MEMORY, "no memory for a list of training state");
    else if (!list_state(o, &s, counts)) goto out;
    else if (save) {
        if (weft_state_write(&s, path, metadata)) goto out;
    } else if (weft_state_read(&s, path, metadata) == WEFT_OK)
        for (int64_t i = 0; i < o->count; i++) {
            struct param *p = &o->params[i];
            if (weft_read(c, counts[i], &p->steps, sizeof p->steps)) break;
            if (p->master && weft_update_copy(c, p->tensor, p->master)) break;
        }
out:
    free(counts);
    weft_state_free(&s);
    weft_scope_end(c, scope, NULL);
    return weft_error(c);
}

weft_status weft_optim_save(weft_optim *o, const char *path) { return transfer(o, path, true); }
weft_status weft_optim_load(weft_optim *o, const char *path) { return transfer(o, path, false); }
