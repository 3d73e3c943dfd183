/* The registry of all node classes: see list.h. */
#include "nodes/list.h"
#include "nodes/values.h"

#define N(name) extern const weft_node weft_node_##name;
WEFT_NODES(N)
#undef N

weft_registry *weft_nodes_registry(weft_ctx *c) {
    static const weft_node *const nodes[] = {
#define N(name) &weft_node_##name,
        WEFT_NODES(N)
#undef N
        NULL };
    weft_registry *r = weft_registry_new();
    if (r && weft_registry_add(r, nodes)) return r;
    weft_fail(c, r ? WEFT_E_INTERNAL : WEFT_E_MEMORY, r ? "nodes/list.h: a class is there twice, or a descriptor is not whole" : "out of memory");
    weft_registry_free(r);
    return NULL;
}
