/* Ports: literals read as a port wants them, defaults, and the way between values and the fields of a node's struct. */
#include "runtime/graph/graph_internal.h"
#include "runtime/internal.h"
#include "runtime/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const weft_port *weft_port_find(const weft_port *ports, const char *name) {
    for (const weft_port *p = ports; p && p->name; p++)
        if (!strcmp(p->name, name)) return p;
    return NULL;
}

int weft_port_count(const weft_port *ports) {
    int n = 0;
    while (ports && ports[n].name) n++;
    return n;
}

bool weft_node_passes_on(const weft_node *n) {
    return n && weft_port_count(n->inputs) == 1 && weft_port_count(n->outputs) == 1 && n->inputs[0].kind == WEFT_PORT_ANY && n->outputs[0].kind == WEFT_PORT_ANY;
}

/* ---- literals -------------------------------------------------------------------------------------------------------------------------- */

static bool fault(const char **type, const char *is, char *text, size_t size, const char *format, ...) WEFT_PRINTF(5, 6);
static bool fault(const char **type, const char *is, char *text, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(text, size, format, args);
    va_end(args);
    *type = is;
    return false;
}

/* The number that a text is ("20"), as ComfyUI takes it; NULL where it is none. */
static cJSON *number_in_text(const cJSON *literal) {
    char *end;
    if (!cJSON_IsString(literal) || !*literal->valuestring) return NULL;
    double v = strtod(literal->valuestring, &end);
    return *end || !isfinite(v) ? NULL : cJSON_CreateNumber(v);
}

static bool too_small(const weft_port *p, const char **type, char *text, size_t size, const char *shown) {
    return fault(type, "value_smaller_than_min", text, size, "%s is below the least allowed, %.10g", shown, p->low);
}

static bool too_big(const weft_port *p, const char **type, char *text, size_t size, const char *shown) {
    return fault(type, "value_bigger_than_max", text, size, "%s is above the most allowed, %.10g", shown, p->high);
}

static bool read_int(const weft_port *p, const cJSON *l, weft_value *out, const char **type, char *text, size_t size) {
    char shown[32];
    out->type = "INT";
    if (cJSON_IsBool(l)) out->i = cJSON_IsTrue(l);
    else if (weft_json_i64(l, &out->i)) {
        snprintf(shown, sizeof shown, "%" PRId64, out->i);
        if ((p->flags & WEFT_PORT_U64) && out->i < 0) return too_small(p, type, text, size, shown);
        if (!(p->flags & WEFT_PORT_U64) && (double)out->i < p->low) return too_small(p, type, text, size, shown);
        if ((double)out->i > p->high) return too_big(p, type, text, size, shown);
    } else if (weft_json_u64(l, &out->u)) {
        out->type = "U64";
        snprintf(shown, sizeof shown, "%" PRIu64, out->u);
        if (!(p->flags & WEFT_PORT_U64)) return too_big(p, type, text, size, shown);
    } else if (cJSON_IsNumber(l) && isfinite(l->valuedouble) && fabs(l->valuedouble) < 0x1p62) {
        out->i = (int64_t)l->valuedouble;       /* Python's int(): toward zero */
        snprintf(shown, sizeof shown, "%g", l->valuedouble);
        if ((double)out->i < p->low) return too_small(p, type, text, size, shown);
        if ((double)out->i > p->high) return too_big(p, type, text, size, shown);
    } else return fault(type, "invalid_input_type", text, size, "expected a whole number, found %s", weft_json_kind(l));
    return true;
}

static bool read_float(const weft_port *p, const cJSON *l, weft_value *out, const char **type, char *text, size_t size) {
    char shown[32];
    out->f = cJSON_IsBool(l) ? cJSON_IsTrue(l) : l->valuedouble;
    if ((!cJSON_IsNumber(l) && !cJSON_IsBool(l)) || !isfinite(out->f))
        return fault(type, "invalid_input_type", text, size, "expected a number, found %s", cJSON_IsNumber(l) ? "one that is not finite" : weft_json_kind(l));
    snprintf(shown, sizeof shown, "%g", out->f);
    if (out->f < p->low) return too_small(p, type, text, size, shown);
    if (out->f > p->high) return too_big(p, type, text, size, shown);
    return true;
}

static bool read_choice(const weft_port *p, const cJSON *l, weft_value *out, const char **type, char *text, size_t size) {
    if (!cJSON_IsString(l)) return fault(type, "value_not_in_list", text, size, "expected one of its choices, found %s", weft_json_kind(l));
    weft_nearest near = { .name = l->valuestring };
    for (const char *const *choice = p->choices; *choice; choice++) {
        if (!strcmp(*choice, l->valuestring)) {
            out->s = weft_text_copy(*choice, strlen(*choice));
            return out->s || fault(type, "exception_during_validation", text, size, "out of memory");
        }
        weft_nearest_try(&near, *choice);
    }
    char list[512];
    size_t used = 0;
    for (const char *const *choice = p->choices; *choice && used < sizeof list; choice++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", choice == p->choices ? "" : ", ", *choice);
    if (near.best) return fault(type, "value_not_in_list", text, size, "there is no \"%.200s\"; did you mean \"%s\"? (choices: %s)", l->valuestring, near.best, list);
    return fault(type, "value_not_in_list", text, size, "there is no \"%.200s\" (choices: %s)", l->valuestring, list);
}

static bool read_bool(const cJSON *l, weft_value *out, const char **type, char *text, size_t size) {
    if (cJSON_IsBool(l)) out->b = cJSON_IsTrue(l);
    else if (cJSON_IsNumber(l)) out->b = l->valuedouble != 0;
    else return fault(type, "invalid_input_type", text, size, "expected true or false, found %s", weft_json_kind(l));
    return true;
}

static bool read_text(const cJSON *l, weft_value *out, const char **type, char *text, size_t size) {
    char number[32];
    const char *s = number;
    if (cJSON_IsString(l)) s = l->valuestring;
    else if (cJSON_IsNumber(l) && l->valuestring) s = l->valuestring;
    else if (cJSON_IsNumber(l)) snprintf(number, sizeof number, "%.15g", l->valuedouble);
    else if (cJSON_IsBool(l)) s = cJSON_IsTrue(l) ? "True" : "False";
    else return fault(type, "invalid_input_type", text, size, "expected text, found %s", weft_json_kind(l));
    out->s = weft_text_copy(s, strlen(s));
    return out->s || fault(type, "exception_during_validation", text, size, "out of memory");
}

bool weft_literal_read(const weft_port *p, const cJSON *l, weft_value *out, const char **type, char *text, size_t size) {
    *out = (weft_value){ .kind = p->kind, .type = p->type };
    cJSON *number = p->kind == WEFT_PORT_INT || p->kind == WEFT_PORT_FLOAT ? number_in_text(l) : NULL;
    bool whole;
    switch (p->kind) {
    case WEFT_PORT_INT: whole = read_int(p, number ? number : l, out, type, text, size); break;
    case WEFT_PORT_FLOAT: whole = read_float(p, number ? number : l, out, type, text, size); break;
    case WEFT_PORT_BOOL: whole = read_bool(l, out, type, text, size); break;
    case WEFT_PORT_CHOICE: whole = read_choice(p, l, out, type, text, size); break;
    case WEFT_PORT_STRING: case WEFT_PORT_FILE: whole = read_text(l, out, type, text, size); break;
    default: whole = fault(type, "invalid_input_type", text, size, "expected a link to a node that gives %s, found %s", p->type, weft_json_kind(l)); break;
    }
    cJSON_Delete(number);
    if (!whole) *out = (weft_value){ 0 };
    return whole;
}

bool weft_port_initial(const weft_port *p, weft_value *out) {
    *out = (weft_value){ .kind = p->kind, .type = p->type };
    switch (p->kind) {
    case WEFT_PORT_INT: out->i = (int64_t)p->initial; return true;
    case WEFT_PORT_FLOAT: out->f = p->initial; return true;
    case WEFT_PORT_BOOL: out->b = p->initial != 0; return true;
    case WEFT_PORT_STRING: case WEFT_PORT_CHOICE: {
        const char *s = p->text ? p->text : p->kind == WEFT_PORT_CHOICE ? p->choices[0] : "";
        return (out->s = weft_text_copy(s, strlen(s))) != NULL;
    }
    default: *out = (weft_value){ 0 }; return false;
    }
}

/* ---- fields ----------------------------------------------------------------------------------------------------------------------------- */

static int choice_of(const weft_port *p, const char *s) {
    for (int i = 0; s && p->choices[i]; i++)
        if (!strcmp(p->choices[i], s)) return i;
    return -1;
}

/* Toward zero; what no 64-bit number holds gives 0. */
static int64_t whole_part(double f) { return fabs(f) < 0x1p63 ? (int64_t)f : 0; }

void weft_port_store(const weft_port *p, void *self, const weft_value *v) {
    void *field = (char *)self + p->offset;
    switch (p->kind) {
    case WEFT_PORT_INT: *(int64_t *)field = v->kind == WEFT_PORT_FLOAT ? whole_part(v->f) : v->kind == WEFT_PORT_BOOL ? v->b : v->i; break;
    case WEFT_PORT_FLOAT: *(double *)field = v->kind == WEFT_PORT_INT ? (double)v->i : v->f; break;
    case WEFT_PORT_BOOL: *(bool *)field = v->kind == WEFT_PORT_BOOL ? v->b : v->i != 0; break;
    case WEFT_PORT_STRING: case WEFT_PORT_FILE: *(const char **)field = v->s; break;
    case WEFT_PORT_CHOICE: *(int *)field = choice_of(p, v->s); break;
    case WEFT_PORT_TENSOR: *(weft_tensor **)field = v->tensor; break;
    case WEFT_PORT_OBJECT: *(weft_object **)field = v->object; break;
    case WEFT_PORT_ANY: *(weft_value *)field = *v; break;
    }
}

void weft_port_take(const weft_port *p, void *self, weft_value *v) {
    void *field = (char *)self + p->offset;
    *v = (weft_value){ .kind = p->kind, .type = p->type };
    switch (p->kind) {
    case WEFT_PORT_INT: v->i = *(int64_t *)field; break;
    case WEFT_PORT_FLOAT: v->f = *(double *)field; break;
    case WEFT_PORT_BOOL: v->b = *(bool *)field; break;
    case WEFT_PORT_STRING: case WEFT_PORT_FILE: case WEFT_PORT_CHOICE: v->s = *(char **)field; break;
    case WEFT_PORT_TENSOR: v->tensor = *(weft_tensor **)field; break;
    case WEFT_PORT_OBJECT: v->object = *(weft_object **)field; break;
    case WEFT_PORT_ANY: *v = *(weft_value *)field; break;
    }
}
