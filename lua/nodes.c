/* `weft nodes`: the node classes, one of them in full, or all as ComfyUI's /object_info. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lua/commands.h"
#include "lua/session.h"

/* ---- for people -------------------------------------------------------------------------------------------------- */

static void print_port(const weft_port *p) {
    printf("  %-22s %-13s %s", p->name, p->type, p->help ? p->help : "");
    if (p->kind == WEFT_PORT_INT && (p->flags & WEFT_PORT_U64)) printf(" (0 … 2⁶⁴ − 1)");
    else if (p->kind == WEFT_PORT_INT || p->kind == WEFT_PORT_FLOAT)
        printf(" (%g; %g … %g)", p->initial, p->low, p->high);
    else if (p->kind == WEFT_PORT_BOOL) printf(" (%s)", p->initial != 0 ? "true" : "false");
    else if (p->kind == WEFT_PORT_CHOICE)
        for (const char *const *c = p->choices; *c; c++)
            printf("%s%s%s", c == p->choices ? " (" : " | ", *c, c[1] ? "" : ")");
    puts(p->flags & WEFT_PORT_OPTIONAL ? " [optional]" : "");
}

static void print_node(const weft_node *n) {
    printf("%s — %s\n%s\nCategory: %s%s\n", n->name, n->title ? n->title : n->name, n->summary, n->category,
           n->flags & WEFT_NODE_OUTPUT ? "; an output" : "");
    const weft_port *const tables[] = { n->inputs, n->outputs };
    for (int t = 0; t < 2; t++) {
        if (tables[t] && tables[t]->name) puts(t ? "Outputs:" : "Inputs:");
        for (const weft_port *p = tables[t]; p && p->name; p++) print_port(p);
    }
}

/* ---- /object_info ------------------------------------------------------------------------------------------------ */

static cJSON *choices_json(const session *s, const weft_port *p) {
    if (p->kind == WEFT_PORT_CHOICE) {
        int n = 0;
        while (p->choices[n]) n++;
        return cJSON_CreateStringArray(p->choices, n);
    }
    const char **names = weft_folders_list(&s->folders, p->folder);
    int n = 0;
    while (names && names[n]) n++;
    cJSON *list = cJSON_CreateStringArray(names, n);
    free(names);
    return list;
}

/* [type or choices, {options}] */
static cJSON *input_json(const session *s, const weft_port *p) {
    cJSON *pair = cJSON_CreateArray(), *options = cJSON_CreateObject();
    bool list = p->kind == WEFT_PORT_CHOICE || p->kind == WEFT_PORT_FILE;
    cJSON_AddItemToArray(pair, list ? choices_json(s, p) : cJSON_CreateString(p->type));
    cJSON_AddItemToArray(pair, options);
    if (p->kind == WEFT_PORT_INT || p->kind == WEFT_PORT_FLOAT) {
        cJSON_AddNumberToObject(options, "default", p->initial);
        cJSON_AddNumberToObject(options, "min", p->low);
        if (p->flags & WEFT_PORT_U64) cJSON_AddRawToObject(options, "max", "18446744073709551615");
        else cJSON_AddNumberToObject(options, "max", p->high);
        if (p->step > 0) cJSON_AddNumberToObject(options, "step", p->step);
    } else if (p->kind == WEFT_PORT_BOOL) cJSON_AddBoolToObject(options, "default", p->initial != 0);
    else if ((p->kind == WEFT_PORT_STRING || p->kind == WEFT_PORT_CHOICE) && p->text)
        cJSON_AddStringToObject(options, "default", p->text);
    if (p->flags & WEFT_PORT_SEED) cJSON_AddTrueToObject(options, "control_after_generate");
    if (p->flags & WEFT_PORT_MULTILINE) cJSON_AddTrueToObject(options, "multiline");
    if (p->flags & WEFT_PORT_UPLOAD) cJSON_AddTrueToObject(options, "image_upload");
    if (p->flags & WEFT_PORT_LINK_ONLY) cJSON_AddTrueToObject(options, "forceInput");
    if (p->help) cJSON_AddStringToObject(options, "tooltip", p->help);
    return pair;
}

static cJSON *node_json(const session *s, const weft_node *n) {
    cJSON *node = cJSON_CreateObject(), *input = cJSON_AddObjectToObject(node, "input"),
          *order = cJSON_AddObjectToObject(node, "input_order");
    static const char *const kinds[] = { "required", "optional" };
    for (int optional = 0; optional < 2; optional++) {
        cJSON *group = cJSON_AddObjectToObject(input, kinds[optional]),
              *names = cJSON_AddArrayToObject(order, kinds[optional]);
        for (const weft_port *p = n->inputs; p && p->name; p++) {
            if (((p->flags & WEFT_PORT_OPTIONAL) != 0) != optional) continue;
            cJSON_AddItemToObject(group, p->name, input_json(s, p));
            cJSON_AddItemToArray(names, cJSON_CreateString(p->name));
        }
    }
    cJSON *types = cJSON_AddArrayToObject(node, "output"), *lists = cJSON_AddArrayToObject(node, "output_is_list"),
          *names = cJSON_AddArrayToObject(node, "output_name");
    for (const weft_port *p = n->outputs; p && p->name; p++) {
        cJSON_AddItemToArray(types, cJSON_CreateString(p->type));
        cJSON_AddItemToArray(lists, cJSON_CreateFalse());
        cJSON_AddItemToArray(names, cJSON_CreateString(p->name));
    }
    cJSON_AddStringToObject(node, "name", n->name);
    cJSON_AddStringToObject(node, "display_name", n->title ? n->title : n->name);
    cJSON_AddStringToObject(node, "description", n->summary);
    cJSON_AddStringToObject(node, "python_module", "nodes");
    cJSON_AddStringToObject(node, "category", n->category);
    cJSON_AddBoolToObject(node, "output_node", (n->flags & WEFT_NODE_OUTPUT) != 0);
    return node;
}

static int print_json(const session *s, const weft_node *only) {
    cJSON *root = cJSON_CreateObject();
    const weft_node *n;
    if (only) cJSON_AddItemToObject(root, only->name, node_json(s, only));
    else for (int i = 0; (n = weft_registry_at(s->registry, i)); i++)
        if (!(n->flags & WEFT_NODE_EDITOR)) cJSON_AddItemToObject(root, n->name, node_json(s, n));
    char *text = cJSON_Print(root);
    if (text) puts(text);
    free(text);
    cJSON_Delete(root);
    return text ? 0 : 1;
}

int command_nodes(int argc, char **argv) {
    session s = { 0 };
    const cli_option options[] = { SESSION_FOLDER_OPTIONS(s),
                                   { "json", CLI_FLAG, &s.json, NULL, "print ComfyUI's /object_info", 0, 0, NULL },
                                   { 0 } };
    const cli_command command = { "nodes", "[NAME]", "Lists the node classes, or tells all about one.", NULL, options, 0,
                                  1 };
    int plain, parsed = cli_parse(&command, argc, argv, &plain), status = parsed == CLI_HELP ? 0 : 1;
    if (parsed == CLI_RUN && session_open(&s, "nodes")) {
        const weft_node *n = plain ? weft_registry_find(s.registry, argv[0]) : NULL;
        status = 0;
        if (plain && !n) {
            const char *near = weft_registry_nearest(s.registry, argv[0]);
            fprintf(stderr, "weft nodes: there is no class %s%s%s%s\n", argv[0], near ? "; did you mean " : "",
                    near ? near : "", near ? "?" : "");
            status = 1;
        } else if (s.json) status = print_json(&s, n);
        else if (n) print_node(n);
        else for (int i = 0; (n = weft_registry_at(s.registry, i)); i++) printf("%-30s %s\n", n->name, n->summary);
    }
    session_close(&s);
    return status;
}
