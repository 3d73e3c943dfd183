/* Training: gradients, optimisers, moving averages, learning-rate schedules.
 *
 *     weft.train(unet)                                       -- all its weights, or those a pattern names; weft.freeze(unet, "conv_in.*")
 *     local opt = weft.optimizer{kind = "adamw", lr = 1e-4, params = {unet, clip}}
 *     do  local tape <close> = weft.tape()                   -- from here on, what is computed is noted
 *         local loss = …
 *         tape:backward(loss)                                -- adds to the gradients; tape:backward(loss, 1/4): a quarter of them
 *     end
 *     opt:clip(1.0); opt:step(); opt:zero_grad()
 *
 * Where parameters are wanted: a MODEL, CLIP or VAE (its trained weights), a tensor with t:requires_grad(true), or a list of these; a key of text in the list
 * names a tensor.
 */
#include <stdlib.h>
#include <string.h>
#include "lua/bind.h"
#include "nodes/train/ema.h"
#include "nodes/train/lr_schedule.h"
#include "nodes/train/optim.h"
#include "nodes/train/state.h"
#include "runtime/autograd.h"
#include "runtime/nearest.h"

#define TAPE "weft.tape"
#define OPTIMIZER "weft.optimizer"
#define EMA "weft.ema"
enum { NAME = 512 };

/* ---- parameters ----------------------------------------------------------------------------------------------------------------------------------------- */

/* What is done with each parameter: false with the context's error. */
typedef bool each_param(void *user, const char *name, weft_tensor *t);

static weft_tree *tree_at(lua_State *L, int idx, const char *who) {
    weft_object *o = bind_object_try(L, idx);
    weft_tree *t = o && o->class->weights ? o->class->weights(o) : NULL;
    if (!t) bind_error(L, WEFT_E_ARGUMENT, NULL, "%s: a MODEL, CLIP or VAE is wanted, not %s", who, bind_kind(L, idx));
    return t;
}

static bool each_of_tree(weft_tree *tree, each_param *each, void *user) {
    char top[64], full[NAME];
    const char *name;
    weft_params_name(weft_root(tree), top, sizeof top);
    for (int64_t i = 0;; i++) {
        weft_tensor *t = weft_tree_trainable(tree, i, &name);
        if (!t) return true;
        snprintf(full, sizeof full, "%s.%s", top, name);
        if (!each(user, full, t)) return false;
    }
}

/* One thing at the stack's top, whose key is below it. False with the context's error. */
static bool each_of_value(lua_State *L, const char *who, each_param *each, void *user) {
    weft_tensor *t = bind_tensor_try(L, -1);
    char name[NAME];
    if (!t) return each_of_tree(tree_at(L, -1, who), each, user);
    if (lua_type(L, -2) == LUA_TSTRING) snprintf(name, sizeof name, "%s", lua_tostring(L, -2));
    else snprintf(name, sizeof name, "tensor.%lld", (long long)lua_tointeger(L, -2));
    return each(user, name, t);
}

/* All parameters at idx, lists in order and then by name. */
static void each_at(lua_State *L, int idx, const char *who, each_param *each, void *user) {
    bind_state *b = bind_open(L);
    idx = lua_absindex(L, idx);
    bool ok = true;
    if (!lua_istable(L, idx)) {
        lua_pushinteger(L, 1);
        lua_pushvalue(L, idx);
        ok = each_of_value(L, who, each, user);
        lua_pop(L, 2);
    }
    for (lua_Integer i = 1; ok && lua_istable(L, idx) && i <= (lua_Integer)lua_rawlen(L, idx); i++) {
        lua_pushinteger(L, i);
        lua_rawgeti(L, idx, i);
        ok = each_of_value(L, who, each, user);
        lua_pop(L, 2);
    }
    if (ok && lua_istable(L, idx))
        for (lua_pushnil(L); ok && lua_next(L, idx); lua_pop(L, 1))
            if (lua_type(L, -2) == LUA_TSTRING) ok = each_of_value(L, who, each, user);
    if (!ok) bind_throw(L, b);
}

/* weft.train(object, pattern), weft.freeze(object, pattern) */
static int set_training(lua_State *L, const char *who, bool on) {
    bind_state *b = bind_open(L);
    weft_tree *t = tree_at(L, 1, who);
    const char *pattern = luaL_optstring(L, 2, NULL);
    if (weft_tree_train(b->session.c, t, pattern, on)) return bind_throw(L, b);
    lua_settop(L, 1);
    return 1;
}
static int train(lua_State *L) { return set_training(L, "train", true); }
static int freeze(lua_State *L) { return set_training(L, "freeze", false); }

struct listed { lua_State *L; bind_state *b; lua_Integer n; };

static bool list_one(void *user, const char *name, weft_tensor *t) {
    struct listed *l = user;
    lua_State *L = l->L;
    lua_createtable(L, 0, 2);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "name");
    bind_box_new(L, l->b, BIND_TENSOR)->tensor = weft_ref(t);
    lua_setfield(L, -2, "tensor");
    lua_rawseti(L, 2, ++l->n);
    return true;
}

/* weft.parameters(object or list) → {{name=, tensor=}, …} */
static int parameters(lua_State *L) {
    struct listed l = { L, bind_open(L), 0 };
    lua_settop(L, 1);
    lua_newtable(L);
    each_at(L, 1, "parameters", list_one, &l);
    lua_settop(L, 2);
    return 1;
}

/* ---- tensors -------------------------------------------------------------------------------------------------------------------------------------------- */

/* t:requires_grad() → whether; t:requires_grad(true) makes it a leaf → t */
static int requires_grad(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_tensor *t = bind_tensor_at(L, 1, "requires_grad", "t");
    if (lua_gettop(L) < 2) {
        lua_pushboolean(L, weft_requires_grad(t));
        return 1;
    }
    weft_set_requires_grad(t, lua_toboolean(L, 2));
    if (!weft_ok(b->session.c)) return bind_throw(L, b);
    lua_settop(L, 1);
    return 1;
}

/* t:grad() → what it grew to so far, or nil */
static int grad(lua_State *L) {
    bind_state *b = bind_open(L);
    weft_tensor *t = bind_tensor_at(L, 1, "grad", "t");
    if (!weft_grad(t)) return 0;
    bind_box *box = bind_box_new(L, b, BIND_TENSOR);
    box->tensor = weft_ref(weft_grad(t));
    return 1;
}

static weft_tensor *detached(bind_state *b, const void *t) { return weft_detach(b->session.c, (weft_tensor *)t); }

static int detach(lua_State *L) { return bind_result(L, bind_open(L), detached, bind_tensor_at(L, 1, "detach", "t")); }

static int zero_grad(lua_State *L) {
    weft_zero_grad(bind_tensor_at(L, 1, "zero_grad", "t"));
    lua_settop(L, 1);
    return 1;
}

/* ---- the tape ------------------------------------------------------------------------------------------------------------------------------------------- */

typedef struct tape { bool open; } tape;

static int tape_new(lua_State *L) {
    bind_state *b = bind_open(L);
    tape *t = bind_scratch(L, sizeof *t);
    luaL_setmetatable(L, TAPE);
    if (weft_tape_begin(b->session.c)) return bind_throw(L, b);
    t->open = true;
    return 1;
}

static int tape_close(lua_State *L) {
    tape *t = luaL_checkudata(L, 1, TAPE);
    if (t->open && bind_of(L)->session.c) weft_tape_end(bind_of(L)->session.c);
    t->open = false;
    return 0;
}

/* tape:backward(loss[, factor]) → the loss's value where it is one number */
static int tape_backward(lua_State *L) {
    bind_state *b = bind_open(L);
    tape *t = luaL_checkudata(L, 1, TAPE);
    weft_tensor *loss = bind_tensor_at(L, 2, "backward", "loss");
    double factor = luaL_optnumber(L, 3, 1);
    weft_ctx *c = b->session.c;
    if (!t->open) return bind_error(L, WEFT_E_ARGUMENT, NULL, "backward: this tape is closed");
    weft_scope s = weft_scope_named(c, "backward");
    double value = weft_count(loss) == 1 ? weft_item(c, loss) : 0;
    if (weft_backward(c, loss, weft_full(c, weft_type(loss), weft_rank(loss), weft_shape(loss), factor))) { /* told below */ }
    weft_scope_end(c, s, NULL);
    if (!weft_ok(c)) return bind_throw(L, b);
    lua_pushnumber(L, value);
    return 1;
}

/* weft.no_grad(fn, …): fn's results; nothing is noted meanwhile. */
static int no_grad(lua_State *L) {
    bind_state *b = bind_open(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    weft_no_grad(b->session.c, true);
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    weft_no_grad(b->session.c, false);
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* weft.recompute(on): activation checkpointing from now on: blocks keep their inputs alone and run once more for the gradient. */
static int recompute(lua_State *L) {
    weft_set_recompute(bind_open(L)->session.c, lua_toboolean(L, 1));
    return 0;
}

/* ---- optimisers ----------------------------------------------------------------------------------------------------------------------------------------- */

typedef struct optimizer { weft_optim *o; weft_tensor **grads; } optimizer;

static optimizer *optimizer_at(lua_State *L) {
    optimizer *o = luaL_checkudata(L, 1, OPTIMIZER);
    if (!o->o) bind_error(L, WEFT_E_ARGUMENT, NULL, "this optimizer is closed");
    return o;
}

static int optimizer_close(lua_State *L) {
    optimizer *o = luaL_checkudata(L, 1, OPTIMIZER);
    weft_optim_free(o->o);
    free(o->grads);
    *o = (optimizer){ 0 };
    return 0;
}

struct adding { weft_optim *o; int group; };

static bool add_param(void *user, const char *name, weft_tensor *t) {
    struct adding *a = user;
    return weft_optim_add(a->o, a->group, name, t) == WEFT_OK;
}

/* opt:add(params[, {lr =, weight_decay =}]): the table makes a group of its own. */
static int optimizer_add(lua_State *L) {
    static const char *const names[] = { "lr", "weight_decay", NULL };
    bind_state *b = bind_open(L);
    optimizer *o = optimizer_at(L);
    struct adding a = { o->o, 0 };
    if (lua_istable(L, 3)) {
        bind_only(L, 3, "add", names);
        a.group = weft_optim_group(o->o, bind_number(L, 3, "add", "lr", weft_optim_lr(o->o, 0)), bind_number(L, 3, "add", "weight_decay", 0));
        if (a.group < 0) return bind_throw(L, b);
    }
    each_at(L, 2, "add", add_param, &a);
    weft_tensor **grads = realloc(o->grads, sizeof *grads * (size_t)(weft_optim_count(o->o) + 1));
    if (!grads) return bind_error(L, WEFT_E_MEMORY, NULL, "no memory for the gradients");
    o->grads = grads;
    lua_settop(L, 1);
    return 1;
}

static weft_optim_options options_at(lua_State *L, int idx) {
    static const char *const names[] = { "kind", "params", "lr", "weight_decay", "beta1", "beta2", "eps", "momentum", "dampening", "nesterov", "least", "clip_threshold",
                                         "decay_rate", "scale_parameter", "relative_step", "warmup_init", NULL };
    bind_only(L, idx, "optimizer", names);
    const char *kind = bind_text(L, idx, "optimizer", "kind", "adamw");
    weft_optim_kind k = weft_optim_of(kind);
    if (k == WEFT_OPTIM_COUNT) bind_error(L, WEFT_E_ARGUMENT, "kind", "optimizer: kind: adamw, adam, sgd, lion or adafactor is wanted, not \"%s\"", kind);
    weft_optim_options o = weft_optim_defaults(k);
    const struct { const char *key; double *to; } numbers[] = {
        { "lr", &o.lr }, { "weight_decay", &o.weight_decay }, { "beta1", &o.beta1 }, { "beta2", &o.beta2 }, { "eps", &o.eps }, { "momentum", &o.momentum },
        { "dampening", &o.dampening }, { "least", &o.least }, { "clip_threshold", &o.clip }, { "decay_rate", &o.decay_rate } };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) *numbers[i].to = bind_number(L, idx, "optimizer", numbers[i].key, *numbers[i].to);
    o.nesterov = bind_flag(L, idx, "nesterov", o.nesterov);
    o.scale_parameter = bind_flag(L, idx, "scale_parameter", o.scale_parameter);
    o.relative_step = bind_flag(L, idx, "relative_step", o.relative_step);
    o.warmup_init = bind_flag(L, idx, "warmup_init", o.warmup_init);
    return o;
}

/* weft.optimizer{kind =, lr =, …, params = …} */
static int optimizer_new(lua_State *L) {
    bind_state *b = bind_open(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    weft_optim_options options = options_at(L, 1);
    optimizer *o = bind_scratch(L, sizeof *o);
    luaL_setmetatable(L, OPTIMIZER);
    o->o = weft_optim_new(b->session.c, &options);
    if (!o->o) return bind_throw(L, b);
    if (lua_getfield(L, 1, "params") != LUA_TNIL) {
        lua_pushcfunction(L, optimizer_add);
        lua_pushvalue(L, -3);
        lua_pushvalue(L, -3);
        lua_call(L, 2, 0);
    }
    lua_pop(L, 1);
    return 1;
}

static int64_t gather(optimizer *o) {
    int64_t n = weft_optim_count(o->o);
    for (int64_t i = 0; i < n; i++) o->grads[i] = weft_grad(weft_optim_param(o->o, i, NULL));
    return n;
}

static int optimizer_step(lua_State *L) {
    bind_state *b = bind_open(L);
    optimizer *o = optimizer_at(L);
    if (!gather(o)) return bind_error(L, WEFT_E_ARGUMENT, NULL, "step: this optimizer has no parameters");
    return weft_optim_step(o->o, o->grads) ? bind_throw(L, b) : 0;
}

/* opt:clip(most) → the gradients' norm before; opt:norm() → the norm alone */
static int clip(lua_State *L, bool clips) {
    bind_state *b = bind_open(L);
    optimizer *o = optimizer_at(L);
    double most = clips ? luaL_checknumber(L, 2) : 0, norm = 0;
    int64_t n = gather(o);
    weft_status status = clips ? weft_clip_grad_norm(b->session.c, n, o->grads, most, false, &norm) : weft_grad_norm(b->session.c, n, o->grads, &norm);
    if (status) return bind_throw(L, b);
    lua_pushnumber(L, norm);
    return 1;
}
static int optimizer_clip(lua_State *L) { return clip(L, true); }
static int optimizer_norm(lua_State *L) { return clip(L, false); }

/* opt:not_finite() → the name of the first parameter whose gradient is not finite, or nil */
static int optimizer_not_finite(lua_State *L) {
    bind_state *b = bind_open(L);
    optimizer *o = optimizer_at(L);
    int64_t n = gather(o);
    for (int64_t i = 0; i < n; i++) {
        const char *name;
        bool bad = o->grads[i] && !weft_is_finite(b->session.c, o->grads[i]);
        if (!weft_ok(b->session.c)) return bind_throw(L, b);
        if (!bad) continue;
        weft_optim_param(o->o, i, &name);
        lua_pushstring(L, name);
        return 1;
    }
    return 0;
}

static int optimizer_zero_grad(lua_State *L) {
    optimizer *o = optimizer_at(L);
    for (int64_t i = 0; i < weft_optim_count(o->o); i++) weft_zero_grad(weft_optim_param(o->o, i, NULL));
    return 0;
}

/* opt:factor(f): every group's learning rate times f; opt:lr() → the first group's now */
static int optimizer_factor(lua_State *L) {
    weft_optim_set_factor(optimizer_at(L)->o, luaL_checknumber(L, 2));
    return 0;
}
static int optimizer_lr(lua_State *L) {
    lua_pushnumber(L, weft_optim_lr(optimizer_at(L)->o, (int)luaL_optinteger(L, 2, 0)));
    return 1;
}
static int optimizer_count(lua_State *L) {
    int64_t n = 0, i = 0;
    optimizer *o = optimizer_at(L);
    for (; i < weft_optim_count(o->o); i++) n += weft_count(weft_optim_param(o->o, i, NULL));
    lua_pushinteger(L, i);
    lua_pushinteger(L, n);
    return 2;
}
static int optimizer_save(lua_State *L) {
    optimizer *o = optimizer_at(L);
    return weft_optim_save(o->o, luaL_checkstring(L, 2)) ? bind_throw(L, bind_of(L)) : 0;
}
static int optimizer_load(lua_State *L) {
    optimizer *o = optimizer_at(L);
    return weft_optim_load(o->o, luaL_checkstring(L, 2)) ? bind_throw(L, bind_of(L)) : 0;
}

/* ---- moving averages -------------------------------------------------------------------------------------------------------------------------------------- */

typedef struct ema { weft_ema *e; } ema;

static weft_ema *ema_at(lua_State *L) {
    ema *e = luaL_checkudata(L, 1, EMA);
    if (!e->e) bind_error(L, WEFT_E_ARGUMENT, NULL, "this average is closed");
    return e->e;
}
static int ema_close(lua_State *L) {
    ema *e = luaL_checkudata(L, 1, EMA);
    weft_ema_free(e->e);
    e->e = NULL;
    return 0;
}
static bool add_average(void *user, const char *name, weft_tensor *t) { return weft_ema_add(user, name, t) == WEFT_OK; }

/* weft.ema{rule =, decay =, …, params = …} */
static int ema_new(lua_State *L) {
    static const char *const names[] = { "rule", "params", "decay", "min_decay", "update_after_step", "update_every", "use_warmup", "inv_gamma", "power", NULL };
    bind_state *b = bind_open(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    bind_only(L, 1, "ema", names);
    const char *rule = bind_text(L, 1, "ema", "rule", "diffusers");
    weft_ema_rule r = weft_ema_of(rule);
    if (r == WEFT_EMA_COUNT) return bind_error(L, WEFT_E_ARGUMENT, "rule", "ema: rule: diffusers or lucidrains is wanted, not \"%s\"", rule);
    weft_ema_options o = weft_ema_defaults(r);
    o.decay = bind_number(L, 1, "ema", "decay", o.decay);
    o.min_decay = bind_number(L, 1, "ema", "min_decay", o.min_decay);
    o.update_after_step = (int64_t)bind_number(L, 1, "ema", "update_after_step", (double)o.update_after_step);
    o.update_every = (int64_t)bind_number(L, 1, "ema", "update_every", (double)o.update_every);
    o.use_warmup = bind_flag(L, 1, "use_warmup", o.use_warmup);
    o.inv_gamma = bind_number(L, 1, "ema", "inv_gamma", o.inv_gamma);
    o.power = bind_number(L, 1, "ema", "power", o.power);
    ema *e = bind_scratch(L, sizeof *e);
    luaL_setmetatable(L, EMA);
    e->e = weft_ema_new(b->session.c, &o);
    if (!e->e) return bind_throw(L, b);
    lua_getfield(L, 1, "params");
    each_at(L, -1, "ema", add_average, e->e);
    lua_pop(L, 1);
    return 1;
}

static int ema_step(lua_State *L) { return weft_ema_step(ema_at(L)) ? bind_throw(L, bind_of(L)) : 0; }
static int ema_swap(lua_State *L) { return weft_ema_swap(ema_at(L)) ? bind_throw(L, bind_of(L)) : 0; }
static int ema_save(lua_State *L) { return weft_ema_save(ema_at(L), luaL_checkstring(L, 2)) ? bind_throw(L, bind_of(L)) : 0; }
static int ema_load(lua_State *L) { return weft_ema_load(ema_at(L), luaL_checkstring(L, 2)) ? bind_throw(L, bind_of(L)) : 0; }
static int ema_decay(lua_State *L) {
    lua_pushnumber(L, weft_ema_decay(ema_at(L)));
    return 1;
}
static int ema_swapped(lua_State *L) {
    lua_pushboolean(L, weft_ema_swapped(ema_at(L)));
    return 1;
}

/* ---- learning rates --------------------------------------------------------------------------------------------------------------------------------------- */

/* weft.lr_factor(kind, step, {warmup =, total =, cycles =, power =, end_lr =, lr =, rules =}) → what the learning rate is multiplied by after `step` steps */
static int lr_factor(lua_State *L) {
    static const char *const names[] = { "warmup", "total", "cycles", "power", "end_lr", "lr", "rules", NULL };
    bind_state *b = bind_open(L);
    const char *kind = luaL_checkstring(L, 1);
    weft_lr_kind k = weft_lr_of(kind);
    if (k == WEFT_LR_COUNT)
        return bind_error(L, WEFT_E_ARGUMENT, "kind", "lr_factor: constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial or "
                          "piecewise_constant is wanted, not \"%s\"", kind);
    weft_lr_schedule s = weft_lr_defaults(k);
    double lr = 1;
    lua_settop(L, 3);
    if (!lua_isnil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        bind_only(L, 3, "lr_factor", names);
        s.warmup = (int64_t)bind_number(L, 3, "lr_factor", "warmup", (double)s.warmup);
        s.total = (int64_t)bind_number(L, 3, "lr_factor", "total", (double)s.total);
        s.cycles = bind_number(L, 3, "lr_factor", "cycles", s.cycles);
        s.power = bind_number(L, 3, "lr_factor", "power", s.power);
        s.end = bind_number(L, 3, "lr_factor", "end_lr", s.end);
        lr = bind_number(L, 3, "lr_factor", "lr", 1);
        const char *rules = bind_text(L, 3, "lr_factor", "rules", NULL);
        if (rules && !weft_lr_rules(b->session.c, &s, rules)) return bind_throw(L, b);
    }
    lua_pushnumber(L, weft_lr_factor(&s, lr, luaL_checkinteger(L, 2)));
    return 1;
}

/* ---- parameters in files ---------------------------------------------------------------------------------------------------------------------------------- */

static bool list_param(void *user, const char *name, weft_tensor *t) { return weft_state_add(user, t, "%s", name); }

static void free_state(void *state) { weft_state_free(state); free(state); }

/* weft.save_parameters(params, path), weft.load_parameters(params, path): their values to the bit, by name; loading changes the tensors in place. */
static int transfer(lua_State *L, const char *who, bool save) {
    static const char *const metadata[] = { "format", "weft-parameters", NULL };
    bind_state *b = bind_open(L);
    const char *path = luaL_checkstring(L, 2);
    bind_held *held = bind_hold(L, free_state);
    weft_state *s = held->p = calloc(1, sizeof *s);
    if (!s) return bind_error(L, WEFT_E_MEMORY, NULL, "%s: no memory", who);
    s->ctx = b->session.c;
    each_at(L, 1, who, list_param, s);
    return (save ? weft_state_write(s, path, metadata) : weft_state_read(s, path, metadata)) ? bind_throw(L, b) : 0;
}
static int save_parameters(lua_State *L) { return transfer(L, "save_parameters", true); }
static int load_parameters(lua_State *L) { return transfer(L, "load_parameters", false); }

/* weft.watch_finite(on): an operation whose result is not finite fails and names itself. Slow. */
static int watch_finite(lua_State *L) {
    weft_watch_finite(bind_open(L)->session.c, lua_toboolean(L, 1));
    return 0;
}

/* ---- the module ------------------------------------------------------------------------------------------------------------------------------------------- */

void bind_add_class(lua_State *L, const char *name, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void bind_add_train(lua_State *L) {
    static const luaL_Reg tapes[] = { { "backward", tape_backward }, { "close", tape_close }, { "__close", tape_close }, { "__gc", tape_close }, { NULL, NULL } };
    static const luaL_Reg optimizers[] = {
        { "add", optimizer_add }, { "step", optimizer_step }, { "clip", optimizer_clip }, { "norm", optimizer_norm }, { "zero_grad", optimizer_zero_grad },
        { "not_finite", optimizer_not_finite }, { "factor", optimizer_factor }, { "lr", optimizer_lr }, { "count", optimizer_count }, { "save", optimizer_save },
        { "load", optimizer_load }, { "close", optimizer_close }, { "__close", optimizer_close }, { "__gc", optimizer_close }, { NULL, NULL } };
    static const luaL_Reg averages[] = {
        { "step", ema_step }, { "swap", ema_swap }, { "swapped", ema_swapped }, { "decay", ema_decay }, { "save", ema_save }, { "load", ema_load },
        { "close", ema_close }, { "__close", ema_close }, { "__gc", ema_close }, { NULL, NULL } };
    static const luaL_Reg tensors[] = { { "requires_grad", requires_grad }, { "grad", grad }, { "detach", detach }, { "zero_grad", zero_grad }, { NULL, NULL } };
    static const luaL_Reg functions[] = {
        { "train", train }, { "freeze", freeze }, { "parameters", parameters }, { "save_parameters", save_parameters }, { "load_parameters", load_parameters }, { "watch_finite", watch_finite }, { "tape", tape_new }, { "no_grad", no_grad }, { "recompute", recompute }, { "optimizer", optimizer_new },
        { "ema", ema_new }, { "lr_factor", lr_factor }, { NULL, NULL } };
    bind_add_class(L, TAPE, tapes);
    bind_add_class(L, OPTIMIZER, optimizers);
    bind_add_class(L, EMA, averages);
    luaL_setfuncs(L, functions, 0);
    luaL_newmetatable(L, BIND_TENSOR);
    lua_getfield(L, -1, "methods");
    luaL_setfuncs(L, tensors, 0);
    lua_pop(L, 2);
}
