/* The order of running: depth first over links from the wanted nodes, without recursion (a chain may be as long as the
 * file allows); finds a cycle on the way. */
#include "runtime/graph/graph_internal.h"
#include "runtime/internal.h"

#include <string.h>

enum { NEW, OPEN, DONE };

struct walk {
    const weft_graph *g;
    unsigned char *state;
    int *stack, *next;          /* the path, and for each of its nodes the input to look at next */
    int depth;
    weft_plan *plan;
};

static void note_cycle(struct walk *w, int back) {
    int start = w->depth - 1;
    while (w->stack[start] != back) start--;
    w->plan->cycle_count = w->depth - start;
    memcpy(w->plan->cycle, w->stack + start, sizeof(int) * (size_t)w->plan->cycle_count);
}

/* The index of the next node that the path's last one links to, −1 when there is none left. */
static int next_source(struct walk *w) {
    const weft_gnode *n = &w->g->nodes[w->stack[w->depth - 1]];
    int *i = &w->next[w->depth - 1];
    while (*i < n->input_count) {
        const weft_gin *in = &n->inputs[(*i)++];
        /* What the class does not know is ignored, so it is not run either. */
        if (in->kind != WEFT_INPUT_LINK || (n->node && !weft_port_find(n->node->inputs, in->name))) continue;
        const weft_gnode *source = weft_graph_find(w->g, in->from);
        if (source) return (int)(source - w->g->nodes);
    }
    return -1;
}

static void visit(struct walk *w, int root) {
    if (w->state[root] != NEW) return;
    w->depth = 1;
    w->stack[0] = root;
    w->next[0] = 0;
    w->state[root] = OPEN;
    while (w->depth) {
        int source = next_source(w);
        if (source < 0) {
            int done = w->stack[--w->depth];
            w->state[done] = DONE;
            w->plan->order[w->plan->count++] = done;
        } else if (w->state[source] == NEW) {
            w->state[source] = OPEN;
            w->next[w->depth] = 0;
            w->stack[w->depth++] = source;
        } else if (w->state[source] == OPEN && !w->plan->cycle_count) note_cycle(w, source);
    }
}

static void visit_targets(struct walk *w, const char *const *targets) {
    for (; targets && *targets; targets++) {
        const weft_gnode *n = weft_graph_find(w->g, *targets);
        if (n) visit(w, (int)(n - w->g->nodes));
    }
}

bool weft_plan_make(weft_ctx *c, const weft_graph *g, const char *const *targets, weft_plan *plan) {
    size_t n = (size_t)g->count + 1;
    struct walk w = { .g = g,
                      .plan = plan,
                      .state = weft_host_alloc(n),
                      .stack = weft_host_alloc(n * sizeof(int)),
                      .next = weft_host_alloc(n * sizeof(int)) };
    *plan = (weft_plan){ .order = weft_host_alloc(n * sizeof(int)), .cycle = weft_host_alloc(n * sizeof(int)) };
    bool whole = w.state && w.stack && w.next && plan->order && plan->cycle;
    if (!whole) weft_graph_no_memory(c);
    else if (targets) visit_targets(&w, targets);
    else
        for (int i = 0; i < g->count; i++)
            if (g->nodes[i].node && (g->nodes[i].node->flags & WEFT_NODE_OUTPUT)) visit(&w, i);
    weft_host_free(w.state);
    weft_host_free(w.stack);
    weft_host_free(w.next);
    if (!whole) weft_plan_free(plan);
    return whole;
}

void weft_plan_free(weft_plan *plan) {
    weft_host_free(plan->order);
    weft_host_free(plan->cycle);
    *plan = (weft_plan){ 0 };
}
