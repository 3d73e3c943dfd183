/* Running graphs: what the outputs need, each node once, nothing that is known already.
 *
 * A node's signature is a 128-bit hash over its class, its literals, where its links come from (the signature of that
 * node and the slot) and what its sign() adds (files). Results are kept under it: the node's id plays no part, so the
 * same work under another id is found too.
 */
#include "runtime/autograd.h"
#include "runtime/graph/graph_internal.h"
#include "runtime/hash.h"
#include "runtime/internal.h"

#include <limits.h>
#include <string.h>
#include <time.h>

/* ---- signatures -------------------------------------------------------------------------------------------------- */

static void sign_bytes(void *user, const void *bytes, size_t n) { weft_hash_bytes(user, bytes, n); }

static void sign_value(weft_hash *s, const weft_value *v) {
    weft_hash_word(s, v->kind);
    switch (v->kind) {
    case WEFT_PORT_STRING: case WEFT_PORT_CHOICE: case WEFT_PORT_FILE: weft_hash_text(s, v->s); break;
    case WEFT_PORT_BOOL: weft_hash_word(s, v->b); break;
    case WEFT_PORT_INT: case WEFT_PORT_FLOAT: weft_hash_word(s, v->u); break;
    default: break;
    }
}

static weft_tree *weights_of(const weft_value *v) {
    const weft_object *o = v->kind == WEFT_PORT_OBJECT ? v->object : NULL;
    return o && o->class->weights ? o->class->weights(o) : NULL;
}

/* What a value that comes along a link may have become since its node gave it out: weights and leaves are trained in
 * place, and what a tape notes of them has a history for one backward pass only. */
static void sign_training(const weft_ctx *c, weft_hash *s, const weft_value *v) {
    const weft_tensor *t = v->kind == WEFT_PORT_TENSOR ? v->tensor : NULL;
    const weft_tree *tree = weights_of(v);
    bool trains = weft_requires_grad(t);
    uint64_t version = tree ? weft_tree_version(tree, &trains) : trains && t->storage ? t->storage->version + 1 : 0;
    if (version) weft_hash_word(s, version);
    if (trains && weft_recording(c)) weft_hash_word(s, c->generation);
}

/* ---- the runner -------------------------------------------------------------------------------------------------- */

typedef struct result {
    weft_hash key;
    weft_value *outputs;
    int count;
    bool makes;                 /* weights that did not come in */
    int64_t used;               /* the run that used it last */
    struct result *next;
} result;

enum { BUCKETS = 1024 };

struct weft_runner {
    weft_ctx *c;
    const weft_registry *registry;
    weft_runner_options o;
    result *buckets[BUCKETS];
    int64_t run;
    int ran;
    weft_faults faults;         /* that the check of the last run found */
    /* Of the run that goes on or was the last: the results by node. */
    char **ids;
    result **results;
    int count;
};

weft_runner *weft_runner_new(weft_ctx *c, const weft_registry *r, const weft_runner_options *o) {
    weft_runner *runner = weft_ok(c) ? weft_host_alloc(sizeof *runner) : NULL;
    if (!runner) {
        if (weft_ok(c)) weft_graph_no_memory(c);
        return NULL;
    }
    runner->c = c;
    runner->registry = r;
    if (o) runner->o = *o;
    return runner;
}

static void result_free(result *r) {
    for (int i = 0; i < r->count; i++) weft_value_clear(&r->outputs[i]);
    weft_host_free(r->outputs);
    weft_host_free(r);
}

/* Whether it made weights that were trained since: another run of its node would lose them. */
static bool is_trained(const result *r) {
    bool trained = false;
    for (int i = 0; r->makes && i < r->count && !trained; i++) {
        const weft_tree *t = weights_of(&r->outputs[i]);
        trained = t && weft_tree_was_trained(t);
    }
    return trained;
}

/* Drops results that were last used before `oldest`, but for what was trained. */
static void forget(weft_runner *runner, int64_t oldest) {
    for (int i = 0; i < BUCKETS; i++)
        for (result **at = &runner->buckets[i]; *at;) {
            result *r = *at;
            if (r->used >= oldest || (oldest < INT64_MAX && is_trained(r))) { at = &r->next; continue; }
            *at = r->next;
            result_free(r);
        }
}

static void drop_last_run(weft_runner *runner) {
    for (int i = 0; i < runner->count; i++) weft_host_free(runner->ids[i]);
    weft_host_free(runner->ids);
    weft_host_free(runner->results);
    runner->ids = NULL;
    runner->results = NULL;
    runner->count = 0;
}

void weft_runner_free(weft_runner *runner) {
    if (!runner) return;
    drop_last_run(runner);
    weft_faults_free(&runner->faults);
    forget(runner, INT64_MAX);
    weft_host_free(runner);
}

static result *find_result(weft_runner *runner, weft_hash key) {
    for (result *r = runner->buckets[key.a % BUCKETS]; r; r = r->next)
        if (r->key.a == key.a && r->key.b == key.b) return r;
    return NULL;
}

static void event(weft_runner *runner, const char *what, const weft_gnode *n, const char *text, double seconds) {
    if (runner->o.event) runner->o.event(runner->o.user, what, n->id, n->class_name, text, seconds);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- one node ---------------------------------------------------------------------------------------------------- */

/* A node made ready: its struct, and the values that its fields borrow from. */
typedef struct call {
    const weft_node *node;
    void *self;
    weft_value *inputs;
    int count;
} call;

static bool call_begin(weft_ctx *c, call *k, const weft_node *node) {
    *k = (call){ .node = node, .count = weft_port_count(node->inputs) };
    k->self = weft_host_alloc(node->size + 1);
    k->inputs = weft_host_alloc(sizeof *k->inputs * ((size_t)k->count + 1));
    if (k->self && k->inputs) return true;
    weft_graph_no_memory(c);
    return false;
}

static void call_end(call *k) {
    for (int i = 0; k->inputs && i < k->count; i++) weft_value_clear(&k->inputs[i]);
    weft_host_free(k->inputs);
    weft_host_free(k->self);
}

/* What a running node learns of its surroundings, and where it tells of files and other things. */
struct telling { weft_runner *runner; const weft_gnode *n; };

static void tell_file(void *user, const char *kind, const char *file, const char *folder) {
    struct telling *t = user;
    const char *root = weft_folders_path(&t->runner->o.folders, folder);
    char path[PATH_MAX];
    (void)kind;
    snprintf(path, sizeof path, "%s/%s", root ? root : ".", file);
    event(t->runner, "wrote", t->n, path, 0);
}

static void tell_text(void *user, const char *text) {
    const struct telling *t = user;
    event(t->runner, "told", t->n, text, 0);
}

/* Runs the node in a scope of its own and moves its outputs to out (count of them). */
static void call_run(weft_ctx *c, call *k, const weft_run_info *info, weft_value *out) {
    char name[300];
    if (info->node_id) snprintf(name, sizeof name, "node %s (%s)", info->node_id, k->node->name);
    else snprintf(name, sizeof name, "%s", k->node->name);
    weft_scope s = weft_scope_named(c, name);
    const weft_run_info *outer = c->run_info;
    c->run_info = info;
    if (weft_ok(c) && k->node->run) k->node->run(c, k->self);
    c->run_info = outer;
    if (!weft_ok(c)) weft_graph_blame_node(c, info->node_id, k->node->name);
    for (int i = 0; k->node->outputs && k->node->outputs[i].name; i++) {
        weft_value v;
        weft_port_take(&k->node->outputs[i], k->self, &v);
        bool object = k->node->outputs[i].kind == WEFT_PORT_OBJECT;
        if (!weft_ok(c)) {
            if (object) weft_object_unref(v.object);
            continue;
        }
        if (object) out[i] = v;     /* handed over */
        else if (!weft_value_copy(&out[i], &v)) weft_graph_no_memory(c);
        if ((v.kind == WEFT_PORT_TENSOR && !v.tensor) || (object && !v.object))
            weft_fail(c, WEFT_E_INTERNAL, "output %s was left empty", k->node->outputs[i].name);
    }
    weft_scope_end(c, s, NULL);
}

/* Fits a value to a port: an INT goes where a FLOAT is wanted, text where a choice or a file is. What comes along a
 * link to a seed may be negative: its 64 bits count. */
static bool fit(weft_ctx *c, const char *id, const weft_node *node, const weft_port *p, const weft_value *v,
                weft_value *to) {
    char text[512];
    const char *type;
    bool number = (p->kind == WEFT_PORT_INT || p->kind == WEFT_PORT_FLOAT || p->kind == WEFT_PORT_BOOL) &&
                  (v->kind == WEFT_PORT_INT || v->kind == WEFT_PORT_FLOAT || v->kind == WEFT_PORT_BOOL);
    bool words = (p->kind == WEFT_PORT_STRING || p->kind == WEFT_PORT_CHOICE || p->kind == WEFT_PORT_FILE) &&
                 v->kind == WEFT_PORT_STRING;
    bool link = (p->kind == v->kind || p->kind == WEFT_PORT_ANY) &&
                (v->kind != WEFT_PORT_OBJECT || weft_type_fits(v->object->class->type, p->type));
    if (!number && !words && !link)
        return weft_graph_fault(c, "invalid_input_type", id, node->name, p->name, "%s: input %s takes %s, not %s",
                                node->name, p->name, p->type, v->type ? v->type : "this");
    bool seed = id && (p->flags & WEFT_PORT_U64) && v->kind == WEFT_PORT_INT;
    if (!seed && !weft_value_check(p, v, &type, text, sizeof text))
        return weft_graph_fault(c, type, id, node->name, p->name, "%s: input %s: %s", node->name, p->name, text);
    if (!weft_value_copy(to, v)) weft_graph_no_memory(c);
    return weft_ok(c);
}

/* Values from literals and from the nodes that it links to; signs them on the way. */
static void gather(weft_runner *runner, const weft_graph *g, const weft_gnode *n, call *k, weft_hash *key) {
    for (int i = 0; i < k->count && weft_ok(runner->c); i++) {
        const weft_port *p = &n->node->inputs[i];
        const char *fault;
        char text[512];
        weft_gin *in;
        int found = weft_port_resolve(p, n, &in, &k->inputs[i], &fault, text, sizeof text);
        weft_hash_word(key, (uint64_t)found);
        if (found == 2) {
            const weft_gnode *source = weft_graph_find(g, in->from);
            result *r = source ? runner->results[source - g->nodes] : NULL;
            if (!r || in->slot < 0 || in->slot >= r->count) {
                weft_graph_fault(runner->c, "bad_linked_input", n->id, n->class_name, p->name,
                                 "node %s (%s): input %s: nothing comes from node %s", n->id, n->class_name, p->name,
                                 in->from);
                return;
            }
            if (!fit(runner->c, n->id, n->node, p, &r->outputs[in->slot], &k->inputs[i])) return;
            weft_hash_word(key, r->key.a);
            weft_hash_word(key, r->key.b);
            weft_hash_word(key, (uint64_t)in->slot);
            if (!(n->node->flags & WEFT_NODE_BESIDE)) sign_training(runner->c, key, &k->inputs[i]);
        } else if (found == 1) sign_value(key, &k->inputs[i]);
        else if (found < 0)
            weft_graph_fault(runner->c, fault, n->id, n->class_name, p->name, "node %s (%s): %s", n->id, n->class_name,
                             text);
        if (found > 0 && weft_ok(runner->c)) weft_port_store(p, k->self, &k->inputs[i]);
    }
}

static result *keep(weft_runner *runner, weft_hash key, int outputs) {
    result *r = weft_host_alloc(sizeof *r);
    if (r && !(r->outputs = weft_host_alloc(sizeof *r->outputs * ((size_t)outputs + 1)))) {
        weft_host_free(r);
        r = NULL;
    }
    if (!r) {
        weft_graph_no_memory(runner->c);
        return NULL;
    }
    r->key = key;
    r->count = outputs;
    return r;
}

static bool makes_weights(const call *k, const result *r) {
    bool makes = false;
    for (int i = 0; i < r->count; i++) {
        const weft_tree *t = weights_of(&r->outputs[i]);
        bool came = !t;
        for (int j = 0; j < k->count; j++) came = came || weights_of(&k->inputs[j]) == t;
        makes = makes || !came;
    }
    return makes;
}

/* Runs a node whose result is not there; drops results of earlier runs and tries once more when memory is short. */
static result *run_fresh(weft_runner *runner, const weft_gnode *n, call *k, const weft_run_info *info, weft_hash key) {
    weft_ctx *c = runner->c;
    result *r = keep(runner, key, weft_port_count(n->node->outputs));
    if (!r) return NULL;
    double start = now();
    event(runner, "start", n, NULL, 0);
    call_run(c, k, info, r->outputs);
    if (weft_error(c) == WEFT_E_MEMORY && !(n->node->flags & WEFT_NODE_OUTPUT)) {
        size_t held = weft_memory_live(c);
        forget(runner, runner->run);
        if (weft_memory_live(c) < held) {
            weft_clear(c);
            call_run(c, k, info, r->outputs);
        }
    }
    runner->ran++;
    if (!weft_ok(c)) {
        result_free(r);
        return NULL;
    }
    r->makes = makes_weights(k, r);
    event(runner, "done", n, NULL, now() - start);
    result **bucket = &runner->buckets[key.a % BUCKETS];
    r->next = *bucket;
    *bucket = r;
    return r;
}

static void run_node(weft_runner *runner, const weft_graph *g, int index, const char *prompt_json) {
    weft_ctx *c = runner->c;
    const weft_gnode *n = &g->nodes[index];
    struct telling telling = { runner, n };
    weft_run_info info = { .registry = runner->registry,
                           .folders = &runner->o.folders,
                           .node = n->node,
                           .node_id = n->id,
                           .class_name = n->class_name,
                           .prompt_json = prompt_json,
                           .workflow_json = g->workflow,
                           .wrote = tell_file,
                           .told = tell_text,
                           .user = &telling };
    call k;
    if (call_begin(c, &k, n->node)) {
        weft_hash key = { 0x57656674, 0x67726170 };
        weft_hash_text(&key, n->class_name);
        gather(runner, g, n, &k, &key);
        if (n->node->flags & (WEFT_NODE_OUTPUT | WEFT_NODE_VOLATILE)) weft_hash_word(&key, (uint64_t)runner->run);
        if (weft_ok(c) && n->node->sign) {
            c->run_info = &info;
            n->node->sign(c, k.self, sign_bytes, &key);
            c->run_info = NULL;
        }
        result *r = weft_ok(c) ? find_result(runner, key) : NULL;
        if (r) event(runner, "cached", n, NULL, 0);
        else if (weft_ok(c)) r = run_fresh(runner, n, &k, &info, key);
        if (r) r->used = runner->run;
        runner->results[index] = r;
    }
    call_end(&k);
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

/* The check's faults as the error: the first in full, and how many there are. */
static bool check_first(weft_runner *runner, const weft_graph *g, const char *const *targets) {
    weft_ctx *c = runner->c;
    if (weft_graph_check_for(c, g, targets, &runner->o.folders, &runner->faults)) return false;
    const weft_fault *f = runner->faults.items;
    int more = runner->faults.count - 1;
    char rest[80] = "";
    if (more < 0) return true;
    if (more) snprintf(rest, sizeof rest, " (and %d faults more: weft check tells all)", more);
    if (!f->node) return weft_graph_fault(c, f->type, NULL, NULL, NULL, "%s", f->details);
    return weft_graph_fault(c, f->type, f->node, f->class_name, f->input, "node %s (%s): %s%s", f->node, f->class_name,
                            f->details, rest);
}

static bool remember_nodes(weft_runner *runner, const weft_graph *g) {
    size_t n = (size_t)g->count + 1;
    runner->ids = weft_host_alloc(n * sizeof *runner->ids);
    runner->results = weft_host_alloc(n * sizeof *runner->results);
    for (int i = 0; runner->ids && runner->results && i < g->count; i++) {
        if (!(runner->ids[i] = weft_text_copy(g->nodes[i].id, strlen(g->nodes[i].id)))) break;
        runner->count++;
    }
    if (runner->count == g->count && runner->ids && runner->results) return true;
    weft_graph_no_memory(runner->c);
    return false;
}

static bool targets_are_there(weft_ctx *c, const weft_graph *g, const char *const *targets) {
    for (; targets && *targets; targets++)
        if (!weft_graph_find(g, *targets)) {
            weft_fail(c, WEFT_E_ARGUMENT, "graph: there is no node %s", *targets);
            return false;
        }
    return true;
}

weft_status weft_runner_run(weft_runner *runner, const weft_graph *g, const char *const *targets) {
    weft_ctx *c = runner->c;
    weft_plan plan;
    drop_last_run(runner);
    weft_faults_free(&runner->faults);
    runner->run++;
    runner->ran = 0;
    if (!weft_ok(c) || !targets_are_there(c, g, targets) || !check_first(runner, g, targets)) return weft_error(c);
    if (!weft_plan_make(c, g, targets, &plan)) return weft_error(c);
    if (plan.cycle_count)
        weft_fail(c, WEFT_E_ARGUMENT, "node %s (%s) needs itself", g->nodes[plan.cycle[0]].id,
                  g->nodes[plan.cycle[0]].class_name);
    char *json = remember_nodes(runner, g) ? weft_graph_json(g, false) : NULL;
    if (!json && weft_ok(c)) weft_graph_no_memory(c);
    for (int i = 0; i < plan.count && weft_ok(c); i++) {
        const weft_gnode *n = &g->nodes[plan.order[i]];
        if (!n->node) weft_fail(c, WEFT_E_ARGUMENT, "node %s: there is no class %s", n->id, n->class_name);
        else run_node(runner, g, plan.order[i], json);
    }
    if (weft_ok(c)) forget(runner, runner->run - 1);
    cJSON_free(json);
    weft_plan_free(&plan);
    return weft_error(c);
}

const weft_value *weft_runner_output(const weft_runner *runner, const char *node, int slot) {
    for (int i = 0; i < runner->count; i++)
        if (!strcmp(runner->ids[i], node)) {
            const result *r = runner->results[i];
            return r && slot >= 0 && slot < r->count ? &r->outputs[slot] : NULL;
        }
    return NULL;
}

const weft_faults *weft_runner_faults(const weft_runner *runner) { return &runner->faults; }

int weft_runner_ran(const weft_runner *runner) { return runner->ran; }

const weft_run_info *weft_run_info_of(const weft_ctx *c) { return c->run_info; }

/* ---- one node alone ---------------------------------------------------------------------------------------------- */

static bool fill_inputs(weft_ctx *c, call *k, const char *const *names, const weft_value *values, int n) {
    for (int i = 0; i < n; i++) {
        const weft_port *p = weft_port_find(k->node->inputs, names[i]);
        if (!p) {
            weft_nearest near = { .name = names[i] };
            for (const weft_port *q = k->node->inputs; q && q->name; q++) weft_nearest_try(&near, q->name);
            weft_graph_fault(c, "unknown_input", NULL, k->node->name, names[i], "%s has no input %s%s%s%s",
                             k->node->name, names[i], near.best ? "; did you mean " : "", near.best ? near.best : "",
                             near.best ? "?" : "");
            return false;
        }
        if (!fit(c, NULL, k->node, p, &values[i], &k->inputs[p - k->node->inputs])) return false;
    }
    for (int i = 0; i < k->count; i++) {
        const weft_port *p = &k->node->inputs[i];
        if (!k->inputs[i].kind && !weft_port_initial(p, &k->inputs[i]) && !(p->flags & WEFT_PORT_OPTIONAL)) {
            weft_graph_fault(c, "required_input_missing", NULL, k->node->name, p->name, "%s: input %s (%s) is missing",
                             k->node->name, p->name, p->type);
            return false;
        }
        if (k->inputs[i].kind) weft_port_store(p, k->self, &k->inputs[i]);
    }
    return true;
}

weft_status weft_node_call(weft_ctx *c, const weft_registry *r, const weft_folders *f, const char *class_name,
                           const char *const *names, const weft_value *values, int n, weft_value *outputs) {
    if (!weft_ok(c)) return weft_error(c);
    const weft_node *node = weft_registry_find(r, class_name);
    if (!node) {
        const char *near = weft_registry_nearest(r, class_name);
        return weft_fail(c, WEFT_E_ARGUMENT, "there is no class %s%s%s%s", class_name, near ? "; did you mean " : "",
                         near ? near : "", near ? "?" : "");
    }
    weft_run_info info = { .registry = r, .folders = f, .node = node, .class_name = node->name };
    call k;
    if (call_begin(c, &k, node) && fill_inputs(c, &k, names, values, n)) call_run(c, &k, &info, outputs);
    for (int i = 0; !weft_ok(c) && i < weft_port_count(node->outputs); i++) weft_value_clear(&outputs[i]);
    call_end(&k);
    return weft_error(c);
}
