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
    return n && weft_port_count(n->inputs) == 1 && weft_port_count(n->outputs) == 1 &&
           n->inputs[0].kind == WEFT_PORT_ANY && n->outputs[0].kind == WEFT_PORT_ANY;
}

/* ---- literals ---------------------------------------------------------------------------------------------------- */

static bool fault(const char **type, const char *is, char *text, size_t size, const char *format, ...)
    WEFT_PRINTF(5, 6);
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

/* An INT port takes numbers with a fraction as Python's int() does: cut toward zero. */
static bool check_int(const weft_port *p, const weft_value *v, const char **type, char *text, size_t size) {
    char shown[32];
    bool is_u64 = v->kind == WEFT_PORT_INT && v->type && !strcmp(v->type, "U64");
    if (v->kind == WEFT_PORT_BOOL) return true;
    if (v->kind == WEFT_PORT_FLOAT) {
        snprintf(shown, sizeof shown, "%g", v->f);
        if (!isfinite(v->f))
            return fault(type, "invalid_input_type", text, size, "expected a whole number, found %s", shown);
        if (trunc(v->f) < p->low) return too_small(p, type, text, size, shown);
        if (trunc(v->f) > p->high) return too_big(p, type, text, size, shown);
        return true;
    }
    if (is_u64) snprintf(shown, sizeof shown, "%" PRIu64, v->u);
    else snprintf(shown, sizeof shown, "%" PRId64, v->i);
    if (is_u64 && !(p->flags & WEFT_PORT_U64) && ((double)v->u > p->high || v->u > INT64_MAX))
        return too_big(p, type, text, size, shown);
    if (!is_u64 && (p->flags & WEFT_PORT_U64) && v->i < 0) return too_small(p, type, text, size, shown);
    if (!is_u64 && !(p->flags & WEFT_PORT_U64) && (double)v->i < p->low) return too_small(p, type, text, size, shown);
    if (!is_u64 && (double)v->i > p->high) return too_big(p, type, text, size, shown);
    return true;
}

static bool check_float(const weft_port *p, const weft_value *v, const char **type, char *text, size_t size) {
    char shown[32];
    double f = v->kind == WEFT_PORT_BOOL ? v->b : v->kind == WEFT_PORT_INT ? (double)v->i : v->f;
    snprintf(shown, sizeof shown, "%g", f);
    if (!isfinite(f))
        return fault(type, "invalid_input_type", text, size, "expected a number, found one that is not finite");
    if (f < p->low) return too_small(p, type, text, size, shown);
    if (f > p->high) return too_big(p, type, text, size, shown);
    return true;
}

/* The choice itself, or NULL with a fault that tells the nearest and all of them. */
static const char *check_choice(const weft_port *p, const char *given, const char **type, char *text, size_t size) {
    weft_nearest near = { .name = given };
    for (const char *const *choice = p->choices; *choice; choice++) {
        if (!strcmp(*choice, given)) return *choice;
        weft_nearest_try(&near, *choice);
    }
    char list[512];
    size_t used = 0;
    for (const char *const *choice = p->choices; *choice && used < sizeof list; choice++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", choice == p->choices ? "" : ", ", *choice);
    if (near.best)
        fault(type, "value_not_in_list", text, size, "there is no \"%.200s\"; did you mean \"%s\"? (choices: %s)",
              given, near.best, list);
    else fault(type, "value_not_in_list", text, size, "there is no \"%.200s\" (choices: %s)", given, list);
    return NULL;
}

bool weft_value_check(const weft_port *p, const weft_value *v, const char **type, char *text, size_t size) {
    switch (p->kind) {
    case WEFT_PORT_INT: return check_int(p, v, type, text, size);
    case WEFT_PORT_FLOAT: return check_float(p, v, type, text, size);
    case WEFT_PORT_CHOICE: return check_choice(p, v->s, type, text, size) != NULL;
    default: return true;
    }
}

static bool read_int(const weft_port *p, const cJSON *l, weft_value *out, const char **type, char *text, size_t size) {
    weft_value v = { .kind = WEFT_PORT_INT, .type = "INT" };
    if (cJSON_IsBool(l)) v.i = cJSON_IsTrue(l);
    else if (weft_json_i64(l, &v.i)) { }
    else if (weft_json_u64(l, &v.u)) v.type = "U64";
    else if (cJSON_IsNumber(l) && isfinite(l->valuedouble)) {
        weft_value f = { .kind = WEFT_PORT_FLOAT, .f = l->valuedouble };
        if (!check_int(p, &f, type, text, size)) return false;
        if (fabs(f.f) >= 0x1p63)
            return fault(type, "value_bigger_than_max", text, size, "%g is no number of 64 bits", f.f);
        v.i = (int64_t)f.f;
    } else return fault(type, "invalid_input_type", text, size, "expected a whole number, found %s", weft_json_kind(l));
    *out = v;
    return cJSON_IsBool(l) || check_int(p, &v, type, text, size);
}

static bool read_float(const weft_port *p, const cJSON *l, weft_value *out, const char **type, char *text,
                       size_t size) {
    if (!cJSON_IsNumber(l) && !cJSON_IsBool(l))
        return fault(type, "invalid_input_type", text, size, "expected a number, found %s", weft_json_kind(l));
    out->f = cJSON_IsBool(l) ? cJSON_IsTrue(l) : l->valuedouble;
    return check_float(p, out, type, text, size);
}

static bool read_choice(const weft_port *p, const cJSON *l, weft_value *out, const char **type, char *text,
                        size_t size) {
    if (!cJSON_IsString(l))
        return fault(type, "value_not_in_list", text, size, "expected one of its choices, found %s", weft_json_kind(l));
    const char *choice = check_choice(p, l->valuestring, type, text, size);
    if (!choice) return false;
    out->s = weft_text_copy(choice, strlen(choice));
    return out->s || fault(type, "exception_during_validation", text, size, "out of memory");
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

bool weft_literal_read(const weft_port *p, const cJSON *l, weft_value *out, const char **type, char *text,
                       size_t size) {
    *out = (weft_value){ .kind = p->kind, .type = p->type };
    cJSON *number = p->kind == WEFT_PORT_INT || p->kind == WEFT_PORT_FLOAT ? number_in_text(l) : NULL;
    bool whole;
    switch (p->kind) {
    case WEFT_PORT_INT: whole = read_int(p, number ? number : l, out, type, text, size); break;
    case WEFT_PORT_FLOAT: whole = read_float(p, number ? number : l, out, type, text, size); break;
    case WEFT_PORT_BOOL: whole = read_bool(l, out, type, text, size); break;
    case WEFT_PORT_CHOICE: whole = read_choice(p, l, out, type, text, size); break;
    case WEFT_PORT_STRING: case WEFT_PORT_FILE: whole = read_text(l, out, type, text, size); break;
    default:
        whole = fault(type, "invalid_input_type", text, size, "expected a link to a node that gives %s, found %s",
                      p->type, weft_json_kind(l));
        break;
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

/* ---- fields ------------------------------------------------------------------------------------------------------ */

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
    case WEFT_PORT_INT:
        *(int64_t *)field = v->kind == WEFT_PORT_FLOAT ? whole_part(v->f) : v->kind == WEFT_PORT_BOOL ? v->b : v->i;
        break;
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
