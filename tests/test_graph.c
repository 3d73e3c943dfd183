/* The graph engine on node classes of its own: reading every form, checking, running, caching, editing, and what it
 * does with bad files. */
#include "runtime/graph/graph.h"
#include "tests/test.h"

#include <dirent.h>
#include <zlib.h>

/* ---- a few classes ----------------------------------------------------------------------------------------------- */

static int ran;     /* nodes that really ran */

struct number { int64_t seed; double value; weft_tensor *out; };
static void number_run(weft_ctx *c, void *self) {
    struct number *n = self;
    ran++;
    n->out = weft_scalar(c, WEFT_F64, n->value + (double)(n->seed % 1000));
}
static const weft_node number_node = {
    .name = "Number",
    .category = "test",
    .summary = "A number.",
    .size = sizeof(struct number),
    .inputs = (const weft_port[]){ WEFT_SEED_IN(struct number, seed, "seed"),
                                   WEFT_FLOAT_IN(struct number, value, 1, -10, 10, 0.5, "value"),
                                   { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct number, out, "it"), { 0 } },
    .run = number_run,
};

struct mix { weft_tensor *a, *b; int how; double scale; weft_tensor *out; };
static const char *const mix_choices[] = { "add", "multiply", NULL };
static void mix_run(weft_ctx *c, void *self) {
    struct mix *n = self;
    ran++;
    weft_tensor *b = n->b ? n->b : weft_scalar(c, WEFT_F64, 0);
    n->out = weft_affine(c, n->how == 0 ? weft_add(c, n->a, b) : weft_mul(c, n->a, b), n->scale, 0);
}
static const weft_node mix_node = {
    .name = "Mix",
    .category = "test",
    .summary = "Mixes two.",
    .size = sizeof(struct mix),
    .inputs = (const weft_port[]){ WEFT_TENSOR_IN(struct mix, a, "one"),
                                   WEFT_OPTIONAL_TENSOR_IN(struct mix, b, "TENSOR", "other"),
                                   WEFT_CHOICE_IN(struct mix, how, mix_choices, NULL, "how"),
                                   { "scale", "FLOAT", WEFT_PORT_FLOAT, WEFT_PORT_LATE, offsetof(struct mix, scale), 1,
                                     0, 4, 0.1, NULL, NULL, NULL, "came later" },
                                   { 0 } },
    .outputs = (const weft_port[]){ WEFT_TENSOR_OUT(struct mix, out, "it"), { 0 } },
    .run = mix_run,
};

struct show { weft_tensor *what; const char *prefix; };
static double shown[16];
static int shown_count;
static void show_run(weft_ctx *c, void *self) {
    struct show *n = self;
    shown[shown_count++ % 16] = weft_item(c, n->what);
    if (!strcmp(n->prefix, "fail")) weft_fail(c, WEFT_E_FILE, "no room for it");
}
static void show_check(weft_ctx *c, const void *self) {
    const struct show *n = self;
    if (strchr(n->prefix, '/')) weft_fail(c, WEFT_E_ARGUMENT, "no slashes, please");
}
static const weft_node show_node = {
    .name = "Show",
    .category = "test",
    .summary = "Shows it.",
    .size = sizeof(struct show),
    .flags = WEFT_NODE_OUTPUT,
    .check = show_check,
    .inputs = (const weft_port[]){ WEFT_TENSOR_IN(struct show, what, "what"),
                                   WEFT_STRING_IN(struct show, prefix, "Weft", "name"),
                                   { 0 } },
    .run = show_run,
};

/* An object with a counted life, to see that none is lost. */
struct thing { weft_object object; };
static int things;
static void thing_free(weft_object *o) { things--; free(o); }
static const weft_class thing_class = { .type = "THING", .free = thing_free };
struct make_thing { bool broken; weft_object *out; };
static void make_thing_run(weft_ctx *c, void *self) {
    struct make_thing *n = self;
    struct thing *t = calloc(1, sizeof *t);
    t->object = (weft_object){ &thing_class, 1 };
    things++;
    ran++;
    n->out = &t->object;
    if (n->broken) weft_fail(c, WEFT_E_SHAPE, "a broken thing");
}
static const weft_node make_thing_node = {
    .name = "MakeThing",
    .category = "test",
    .summary = "A thing.",
    .size = sizeof(struct make_thing),
    .inputs = (const weft_port[]){ WEFT_BOOL_IN(struct make_thing, broken, 0, "fails"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct make_thing, out, WEFT_PORT_OBJECT, "THING", "THING", "it"), { 0 } },
    .run = make_thing_run,
};
struct use_thing { weft_object *thing; };
static void use_thing_run(weft_ctx *c, void *self) { (void)c; (void)self; ran++; }
static const weft_node use_thing_node = {
    .name = "UseThing",
    .category = "test",
    .summary = "Uses it.",
    .size = sizeof(struct use_thing),
    .flags = WEFT_NODE_OUTPUT,
    .inputs = (const weft_port[]){ WEFT_OBJECT_IN(struct use_thing, thing, "THING", "it"), { 0 } },
    .run = use_thing_run,
};

/* The real ones. */
extern const weft_node weft_node_Reroute, weft_node_Note;

/* What it gives out may be anything: only when it comes can be seen what it is. */
struct any { int64_t value; weft_value out; };
static void any_run(weft_ctx *c, void *self) {
    struct any *n = self;
    (void)c;
    n->out = (weft_value){ .kind = WEFT_PORT_INT, .type = "INT", .i = n->value };
}
static const weft_node any_node = {
    .name = "Any", .category = "test", .summary = "A number in disguise.", .size = sizeof(struct any),
    .inputs = (const weft_port[]){ WEFT_INT_IN(struct any, value, 1, -100, 100, 1, "value"), { 0 } },
    .outputs = (const weft_port[]){ WEFT_OUT(struct any, out, WEFT_PORT_ANY, "*", "*", "it"), { 0 } }, .run = any_run,
};

static weft_registry *registry(void) {
    static const weft_node *const nodes[] = { &weft_node_Reroute, &weft_node_Note, &any_node,
                                              &number_node,       &mix_node,       &show_node,
                                              &make_thing_node,   &use_thing_node, NULL };
    weft_registry *r = weft_registry_new();
    if (!r || !weft_registry_add(r, nodes)) abort();
    return r;
}

/* Context, registry and runner of a case, and the check that nothing was lost. */
struct bed { weft_ctx *c; weft_registry *r; weft_runner *runner; weft_graph *g; };
static struct bed bed_new(const char *text) {
    struct bed b = { .c = weft_ctx_new(&(weft_options){ .threads = 1, .device = "reference" }), .r = registry() };
    b.runner = weft_runner_new(b.c, b.r, NULL);
    if (text) b.g = weft_graph_parse(b.c, b.r, "g.json", text, strlen(text));
    return b;
}
static void bed_free(struct bed *b) {
    weft_graph_free(b->g);
    weft_runner_free(b->runner);
    weft_registry_free(b->r);
    CHECK_EQ(weft_memory_live(b->c), 0);
    CHECK_EQ(things, 0);
    weft_ctx_free(b->c);
}
#define RUN(b) weft_runner_run((b).runner, (b).g, NULL)

static const char *const sum =
    "{\"1\":{\"class_type\":\"Number\",\"inputs\":{\"seed\":3,\"value\":2}},"
    "\"2\":{\"class_type\":\"Number\",\"inputs\":{\"seed\":0,\"value\":5.5},\"_meta\":{\"title\":\"the other\"}},"
    "\"3\":{\"class_type\":\"Mix\",\"inputs\":{\"a\":[\"1\",0],\"b\":[\"2\",0],\"how\":\"multiply\",\"from_the_"
    "future\":7}},"
    "\"9\":{\"class_type\":\"Show\",\"inputs\":{\"what\":[\"3\",0],\"prefix\":\"x\"}}}";

/* ---- running ----------------------------------------------------------------------------------------------------- */

TEST(runs_and_keeps_results) {
    struct bed b = bed_new(sum);
    REQUIRE(b.g);
    CHECK_EQ(RUN(b), WEFT_OK);
    CHECK_NEAR(shown[0], 27.5, 0);
    CHECK_EQ(ran, 3);
    CHECK_EQ(RUN(b), WEFT_OK);                                  /* outputs run again, what they need does not */
    CHECK_EQ(ran, 3);
    CHECK_EQ(weft_runner_ran(b.runner), 1);
    CHECK_EQ(weft_graph_set_text(b.c, b.g, "2", "value", "1.5"), WEFT_OK);
    CHECK_EQ(RUN(b), WEFT_OK);
    CHECK_NEAR(shown[2], 7.5, 0);
    CHECK_EQ(ran, 5);                                           /* 2 and 3, not 1 */
    const weft_value *v = weft_runner_output(b.runner, "3", 0);
    REQUIRE(v && v->kind == WEFT_PORT_TENSOR);
    CHECK_NEAR(weft_item(b.c, v->tensor), 7.5, 0);
    bed_free(&b);
}

TEST(runs_only_what_is_asked) {
    struct bed b = bed_new(sum);
    const char *const targets[] = { "2", NULL }, *const lost[] = { "77", NULL };
    CHECK_EQ(weft_runner_run(b.runner, b.g, targets), WEFT_OK);
    CHECK_EQ(ran, 1);
    CHECK(!weft_runner_output(b.runner, "3", 0));
    CHECK_EQ(weft_runner_run(b.runner, b.g, lost), WEFT_E_ARGUMENT);
    CHECK_HAS(weft_message(b.c), "77");
    bed_free(&b);
}

/* What comes along a link is looked at, before and while the graph runs. */
TEST(values_of_another_type_never_arrive) {
    static const char *const one[][2] = { { "{\"class_type\":\"MakeThing\",\"inputs\":{\"broken\":false}}",
                                            "takes TENSOR, but output 0 of node 1 (MakeThing) gives THING" },
                                          { "{\"class_type\":\"Any\",\"inputs\":{\"value\":3}}",
                                            "takes TENSOR, not INT" } };
    for (int i = 0; i < 2; i++) {
        char text[400];
        snprintf(text, sizeof text,
                 "{\"1\":%s,\"2\":{\"class_type\":\"Mix\",\"inputs\":{\"a\":[\"1\",0],\"how\":\"add\"}}}", one[i][0]);
        struct bed b = bed_new(text);
        const char *const targets[] = { "2", NULL };
        CHECK_EQ(weft_runner_run(b.runner, b.g, targets), WEFT_E_ARGUMENT);
        CHECK_HAS(weft_message(b.c), one[i][1]);
        weft_fault about = weft_graph_blame(b.c);
        CHECK_STR(about.node, "2");
        CHECK_STR(about.class_name, "Mix");
        CHECK_STR(about.input, "a");
        CHECK_STR(about.type, i ? "invalid_input_type" : "return_type_mismatch");
        CHECK_EQ(weft_runner_faults(b.runner)->count, i ? 0 : 1);
        weft_clear(b.c);
        CHECK(!weft_graph_blame(b.c).node);
        bed_free(&b);
    }
}

TEST(numbers_along_links_are_within_their_range) {
    struct bed b = bed_new("{\"1\":{\"class_type\":\"Any\",\"inputs\":{\"value\":11}},\"2\":{\"class_type\":\"Number\","
                           "\"inputs\":{\"seed\":1,\"value\":[\"1\",0]}}}");
    const char *const targets[] = { "2", NULL };
    CHECK_EQ(weft_runner_run(b.runner, b.g, targets), WEFT_E_ARGUMENT);
    CHECK_HAS(weft_message(b.c), "Number: input value: 11 is above the most allowed, 10");
    CHECK_STR(weft_graph_blame(b.c).type, "value_bigger_than_max");
    weft_clear(b.c);
    weft_graph_set_text(b.c, b.g, "1", "value", "10");
    CHECK_EQ(weft_runner_run(b.runner, b.g, targets), WEFT_OK);
    weft_graph_set_text(b.c, b.g, "2", "value", "0");
    weft_graph_set_text(b.c, b.g, "1", "value", "-1");
    CHECK_EQ(weft_graph_link(b.c, b.g, "2", "seed", "1", 0), WEFT_OK);
    CHECK_EQ(weft_runner_run(b.runner, b.g, targets), WEFT_OK); /* a seed's 64 bits may be a negative number's */
    bed_free(&b);
}

TEST(seeds_are_64_bits) {
    struct bed b = bed_new("{\"1\":{\"class_type\":\"Number\",\"inputs\":{\"seed\":18446744073709551615,\"value\":0}},"
                           "\"2\":{\"class_type\":\"Show\",\"inputs\":{\"what\":[\"1\",0]}}}");
    weft_faults f;
    CHECK_EQ(weft_graph_check(b.c, b.g, NULL, &f), WEFT_OK);
    REQUIRE(f.count == 1);                                      /* prefix is missing: it has no WEFT_PORT_LATE */
    CHECK_STR(f.items[0].type, "required_input_missing");
    weft_faults_free(&f);
    char *json = weft_graph_json(b.g, false);
    CHECK_HAS(json, "18446744073709551615");
    free(json);
    weft_value seed = { .kind = WEFT_PORT_INT, .type = "U64", .u = 9007199254740993u };
    CHECK_EQ(weft_graph_set(b.c, b.g, "1", "seed", &seed), WEFT_OK);
    json = weft_graph_json(b.g, true);
    CHECK_HAS(json, "9007199254740993");
    free(json);
    bed_free(&b);
}

TEST(a_failing_node_is_named) {
    struct bed b = bed_new(sum);
    CHECK_EQ(weft_graph_set_text(b.c, b.g, "9", "prefix", "fail"), WEFT_OK);
    CHECK_EQ(RUN(b), WEFT_E_FILE);
    CHECK_HAS(weft_message(b.c), "node 9 (Show)");
    CHECK_HAS(weft_message(b.c), "no room for it");
    weft_clear(b.c);
    weft_graph_set_text(b.c, b.g, "9", "prefix", "well");
    CHECK_EQ(RUN(b), WEFT_OK);                                  /* what was done before the failure is still there */
    CHECK_EQ(ran, 3);
    bed_free(&b);
}

TEST(objects_live_as_long_as_they_are_used) {
    struct bed b = bed_new("{\"1\":{\"class_type\":\"MakeThing\",\"inputs\":{\"broken\":false}},\"2\":{\"class_type\":"
                           "\"UseThing\",\"inputs\":{\"thing\":[\"1\",0]}}}");
    CHECK_EQ(RUN(b), WEFT_OK);
    CHECK_EQ(things, 1);
    weft_graph_set_text(b.c, b.g, "1", "broken", "true");
    CHECK_EQ(RUN(b), WEFT_E_SHAPE);
    CHECK_EQ(things, 1);
    weft_clear(b.c);
    bed_free(&b);
}

TEST(a_node_alone) {
    struct bed b = bed_new(NULL);
    weft_scope s = weft_scope_named(b.c, "t");
    const char *names[] = { "a", "b", "how" };
    weft_value in[] = { { .kind = WEFT_PORT_TENSOR, .type = "TENSOR", .tensor = weft_scalar(b.c, WEFT_F64, 3) },
                        { .kind = WEFT_PORT_TENSOR, .type = "TENSOR", .tensor = weft_scalar(b.c, WEFT_F64, 4) },
                        { .kind = WEFT_PORT_STRING, .type = "STRING", .s = (char *)"multiply" } }, out = { 0 };
    CHECK_EQ(weft_node_call(b.c, b.r, NULL, "Mix", names, in, 3, &out), WEFT_OK);
    CHECK_NEAR(weft_item(b.c, out.tensor), 12, 0);
    weft_value_clear(&out);
    in[2].s = (char *)"divide";
    CHECK_EQ(weft_node_call(b.c, b.r, NULL, "Mix", names, in, 3, &out), WEFT_E_ARGUMENT);
    CHECK_HAS(weft_message(b.c), "divide");
    CHECK_STR(weft_graph_blame(b.c).input, "how");
    weft_clear(b.c);
    static const struct { weft_port_kind kind; double value; const char *part;
    } scales[] = { { WEFT_PORT_FLOAT, 4.1, "4.1 is above the most allowed, 4" },
                   { WEFT_PORT_FLOAT, -0.1, "-0.1 is below the least allowed, 0" },
                   { WEFT_PORT_FLOAT, NAN, "not finite" },
                   { WEFT_PORT_INT, 5, "5 is above the most allowed, 4" } };
    names[2] = "scale";
    for (int i = 0; i < 4; i++) {
        in[2] = (weft_value){ .kind = scales[i].kind, .type = "FLOAT", .f = scales[i].value };
        if (in[2].kind == WEFT_PORT_INT) in[2].i = (int64_t)scales[i].value;
        CHECK_EQ(weft_node_call(b.c, b.r, NULL, "Mix", names, in, 3, &out), WEFT_E_ARGUMENT);
        CHECK_HAS(weft_message(b.c), scales[i].part);
        weft_clear(b.c);
    }
    CHECK_EQ(weft_node_call(b.c, b.r, NULL, "Mxi", names, in, 3, &out), WEFT_E_ARGUMENT);
    CHECK_HAS(weft_message(b.c), "did you mean Mix?");
    weft_clear(b.c);
    weft_scope_end(b.c, s, NULL);
    bed_free(&b);
}

/* ---- checking ---------------------------------------------------------------------------------------------------- */

static bool has_fault(const weft_faults *f, const char *type, const char *node, const char *part) {
    for (int i = 0; i < f->count; i++)
        if (!strcmp(f->items[i].type, type) && (!node || (f->items[i].node && !strcmp(f->items[i].node, node))) &&
            strstr(f->items[i].details, part))
            return true;
    return false;
}

TEST(tells_all_faults_at_once) {
    struct bed b = bed_new(
        "{\"1\":{\"class_type\":\"Number\",\"inputs\":{\"seed\":-1,\"value\":99}},"
        "\"2\":{\"class_type\":\"Numbr\",\"inputs\":{}},"
        "\"3\":{\"class_type\":\"Mix\",\"inputs\":{\"a\":[\"1\",0],\"b\":[\"2\",0],\"how\":\"mutliply\"}},"
        "\"4\":{\"class_type\":\"MakeThing\",\"inputs\":{\"broken\":\"%broken%\"}},"
        "\"5\":{\"class_type\":\"Show\",\"inputs\":{\"what\":[\"4\",0],\"prefix\":\"a\"}},"
        "\"6\":{\"class_type\":\"Show\",\"inputs\":{\"what\":[\"3\",1],\"prefix\":\"a\"}},"
        "\"7\":{\"class_type\":\"Show\",\"inputs\":{\"what\":[\"70\",0],\"prefix\":\"a\"}},"
        "\"8\":{\"class_type\":\"Show\",\"inputs\":{\"what\":5,\"prefix\":\"a\"}},"
        "\"9\":{\"class_type\":\"Show\",\"inputs\":{\"what\":[\"1\",0],\"prefix\":\"a/b\"}}}");
    weft_faults f;
    REQUIRE(b.g);
    CHECK_EQ(weft_graph_check(b.c, b.g, NULL, &f), WEFT_OK);
    CHECK(has_fault(&f, "value_smaller_than_min", "1", "-1"));
    CHECK(has_fault(&f, "value_bigger_than_max", "1", "99"));
    CHECK(has_fault(&f, "missing_node_type", "2", "did you mean Number?"));
    CHECK(has_fault(&f, "value_not_in_list", "3", "did you mean \"multiply\"?"));
    CHECK(has_fault(&f, "invalid_input_type", "4", "true or false"));
    CHECK(has_fault(&f, "return_type_mismatch", "5", "gives THING"));
    CHECK(has_fault(&f, "bad_linked_input", "6", "which has 1"));
    CHECK(has_fault(&f, "bad_linked_input", "7", "node 70"));
    CHECK(has_fault(&f, "invalid_input_type", "8", "a link"));
    CHECK(has_fault(&f, "custom_validation_failed", "9", "no slashes"));
    CHECK_EQ(f.count, 10);
    char *json = weft_faults_json(&f);
    CHECK_HAS(json, "prompt_outputs_failed_validation");
    CHECK_HAS(json, "\"input_name\":\t\"how\"");
    free(json);
    CHECK_EQ(RUN(b), WEFT_E_ARGUMENT);
    CHECK_HAS(weft_message(b.c), "9 faults more");
    weft_clear(b.c);
    weft_faults_free(&f);
    bed_free(&b);
}

/* Reroute's input has any name in files; what comes through it is checked as if it came straight. A note is there and
 * does nothing. */
TEST(reroutes_and_notes) {
    struct bed b = bed_new("{\"1\":{\"class_type\":\"Number\",\"inputs\":{\"seed\":3,\"value\":2}},\"2\":{\"class_"
                           "type\":\"Reroute\",\"inputs\":{\"\":[\"1\",0]}},"
                           "\"3\":{\"class_type\":\"Reroute\",\"inputs\":{\"input\":[\"2\",0]}},\"4\":{\"class_type\":"
                           "\"Note\",\"inputs\":{}},"
                           "\"5\":{\"class_type\":\"Show\",\"inputs\":{\"what\":[\"3\",0],\"prefix\":\"\"}}}");
    weft_faults f;
    REQUIRE(b.g);
    CHECK_EQ(weft_graph_check(b.c, b.g, NULL, &f), WEFT_OK);
    CHECK_EQ(f.count, 0);
    CHECK_EQ(RUN(b), WEFT_OK);
    CHECK_NEAR(shown[0], 5, 0);
    CHECK_EQ(weft_runner_ran(b.runner), 4);
    CHECK_EQ(weft_graph_link(b.c, b.g, "2", "value", "3", 0), WEFT_OK);     /* round and round */
    CHECK_EQ(weft_graph_check(b.c, b.g, NULL, &f), WEFT_OK);
    CHECK(f.count == 1 && has_fault(&f, "dependency_cycle", NULL, "(Reroute) needs"));
    weft_faults_free(&f);
    CHECK(weft_graph_add(b.c, b.g, "6", "MakeThing") && !weft_graph_link(b.c, b.g, "2", "value", "6", 0));
    weft_graph_set_text(b.c, b.g, "6", "broken", "false");
    CHECK_EQ(weft_graph_check(b.c, b.g, NULL, &f), WEFT_OK);
    CHECK(f.count == 1 && has_fault(&f, "return_type_mismatch", "5", "node 3 (Reroute) gives THING"));
    weft_faults_free(&f);
    CHECK_EQ(weft_graph_clear_input(b.c, b.g, "2", "value"), WEFT_OK);
    CHECK_EQ(weft_graph_check(b.c, b.g, NULL, &f), WEFT_OK);
    CHECK(f.count == 1 && has_fault(&f, "required_input_missing", "2", "value"));
    weft_faults_free(&f);
    bed_free(&b);
}

TEST(finds_cycles_and_empty_graphs) {
    struct bed b = bed_new("{\"1\":{\"class_type\":\"Mix\",\"inputs\":{\"a\":[\"2\",0],\"how\":\"add\"}},\"2\":{"
                           "\"class_type\":\"Mix\",\"inputs\":{\"a\":[\"1\",0],\"how\":\"add\"}},"
                           "\"3\":{\"class_type\":\"Show\",\"inputs\":{\"what\":[\"1\",0],\"prefix\":\"\"}}}");
    weft_faults f;
    CHECK_EQ(weft_graph_check(b.c, b.g, NULL, &f), WEFT_OK);
    CHECK(has_fault(&f, "dependency_cycle", NULL, "needs"));
    weft_faults_free(&f);
    bed_free(&b);
    b = bed_new("{}");
    CHECK_EQ(weft_graph_check(b.c, b.g, NULL, &f), WEFT_OK);
    CHECK(has_fault(&f, "prompt_no_outputs", NULL, "empty"));
    weft_faults_free(&f);
    bed_free(&b);
}

/* 20 000 nodes in a row: no recursion, no quadratic time. */
TEST(long_chains) {
    enum { N = 20000 };
    struct bed b = bed_new(NULL);
    char id[16], from[16];
    b.g = weft_graph_new(b.c, b.r);
    REQUIRE(weft_graph_add(b.c, b.g, "0", "Number"));
    weft_graph_set_text(b.c, b.g, "0", "seed", "0");
    weft_graph_set_text(b.c, b.g, "0", "value", "1");
    for (int i = 1; i <= N; i++) {
        snprintf(id, sizeof id, "%d", i);
        snprintf(from, sizeof from, "%d", i - 1);
        weft_graph_add(b.c, b.g, id, "Mix");
        weft_graph_link(b.c, b.g, id, "a", from, 0);
        weft_graph_set_text(b.c, b.g, id, "how", "add");
    }
    const char *last = weft_graph_add(b.c, b.g, NULL, "Show");
    CHECK_STR(last, "20001");
    weft_graph_link(b.c, b.g, last, "what", id, 0);
    weft_graph_set_text(b.c, b.g, last, "prefix", "x");
    CHECK_EQ(RUN(b), WEFT_OK);
    CHECK_NEAR(shown[0], 1, 0);
    bed_free(&b);
}

/* ---- forms ------------------------------------------------------------------------------------------------------- */

static void check_sum(struct bed *b) {
    REQUIRE(b->g);
    shown_count = 0;
    CHECK_EQ(weft_runner_run(b->runner, b->g, NULL), WEFT_OK);
    if (!weft_ok(b->c)) fprintf(stderr, "    %s\n", weft_message(b->c));
    CHECK_NEAR(shown[0], 27.5, 0);
}

TEST(reads_wrapped_graphs) {
    char text[1024];
    const char *const forms[] = { "{\"prompt\":%s,\"client_id\":\"x\"}", "{\"input\":{\"workflow\":%s}}",
                                  "{\"output\":%s,\"workflow\":{\"nodes\":[]}}" };
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, forms[i], sum);
        struct bed b = bed_new(text);
        check_sum(&b);
        bed_free(&b);
    }
}

/* The same sum in the UI format: a reroute, a primitive that feeds a seed, a bypassed and a muted node, a note, a
 * control word behind the seed, a boolean in its place, values as an object. */
static const char *const ui_sum =
    "{\"last_node_id\":1,\"version\":0.4,\"nodes\":["
    "{\"id\":1,\"type\":\"Number\",\"mode\":0,\"inputs\":[{\"name\":\"seed\",\"type\":\"INT\",\"link\":7,\"widget\":{"
    "\"name\":\"seed\"}}],\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\",\"links\":[1]}],\"widgets_values\":[99,"
    "\"randomize\",2]},"
    "{\"id\":2,\"type\":\"Number\",\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\",\"links\":[2]}],\"widgets_values\":"
    "[0,false,5.5],\"title\":\"the other\"},"
    "{\"id\":3,\"type\":\"Mix\",\"inputs\":[{\"name\":\"a\",\"type\":\"TENSOR\",\"link\":3},{\"name\":\"b\",\"type\":"
    "\"TENSOR\",\"link\":4}],\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\",\"links\":[5]}],\"widgets_values\":{"
    "\"how\":\"multiply\"}},"
    "{\"id\":4,\"type\":\"Reroute\",\"inputs\":[{\"name\":\"\",\"type\":\"*\",\"link\":1}],\"outputs\":[{\"name\":\"\","
    "\"type\":\"*\",\"links\":[3]}]},"
    "{\"id\":5,\"type\":\"Mix\",\"mode\":4,\"inputs\":[{\"name\":\"a\",\"type\":\"TENSOR\",\"link\":2}],\"outputs\":[{"
    "\"name\":\"T\",\"type\":\"TENSOR\",\"links\":[4]}],\"widgets_values\":[\"add\"]},"
    "{\"id\":6,\"type\":\"PrimitiveNode\",\"outputs\":[{\"name\":\"INT\",\"type\":\"INT\",\"links\":[7]}],\"widgets_"
    "values\":[3,\"fixed\"]},"
    "{\"id\":7,\"type\":\"Note\",\"widgets_values\":[\"hello\"]},"
    "{\"id\":8,\"type\":\"Show\",\"mode\":2,\"inputs\":[{\"name\":\"what\",\"type\":\"TENSOR\",\"link\":5}],\"widgets_"
    "values\":[\"muted\"]},"
    "{\"id\":9,\"type\":\"Show\",\"inputs\":[{\"name\":\"what\",\"type\":\"TENSOR\",\"link\":5}],\"widgets_values\":["
    "\"x\"]}],"
    "\"links\":[[1,1,0,4,0,\"TENSOR\"],[2,2,0,5,0,\"TENSOR\"],null,[3,4,0,3,0,\"*\"],[4,5,0,3,1,\"TENSOR\"],{\"id\":5,"
    "\"origin_id\":3,\"origin_slot\":0,\"target_id\":9,\"target_slot\":0},[7,6,0,1,0,\"INT\"]]}";

TEST(reads_the_ui_format) {
    struct bed b = bed_new(ui_sum);
    check_sum(&b);
    CHECK_EQ(shown_count, 1);
    CHECK(!weft_graph_class(b.g, "8") && !weft_graph_class(b.g, "5") && !weft_graph_class(b.g, "7"));
    CHECK_STR(weft_graph_title(b.g, "2"), "the other");
    CHECK(weft_graph_workflow(b.g) != NULL);
    bed_free(&b);
}

TEST(flattens_subgraphs) {
    const char *text =
        "{\"version\":1,\"nodes\":["
        "{\"id\":1,\"type\":\"Number\",\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\"}],\"widgets_values\":[3,"
        "\"fixed\",2]},"
        "{\"id\":2,\"type\":\"abc-1\",\"inputs\":[{\"name\":\"a\",\"type\":\"TENSOR\",\"link\":1},{\"name\":\"value\","
        "\"type\":\"FLOAT\",\"link\":null,\"widget\":{\"name\":\"value\"}}],\"outputs\":[{\"name\":\"T\",\"type\":"
        "\"TENSOR\"}],\"widgets_values\":[5.5]},"
        "{\"id\":9,\"type\":\"Show\",\"inputs\":[{\"name\":\"what\",\"type\":\"TENSOR\",\"link\":2}],\"widgets_"
        "values\":[\"x\"]}],"
        "\"links\":[{\"id\":1,\"origin_id\":1,\"origin_slot\":0,\"target_id\":2,\"target_slot\":0},{\"id\":2,\"origin_"
        "id\":2,\"origin_slot\":0,\"target_id\":9,\"target_slot\":0}],"
        "\"definitions\":{\"subgraphs\":[{\"id\":\"abc-1\",\"name\":\"S\",\"inputNode\":{\"id\":-10},\"outputNode\":{"
        "\"id\":-20},\"nodes\":["
        "{\"id\":1,\"type\":\"Number\",\"inputs\":[{\"name\":\"value\",\"type\":\"FLOAT\",\"link\":12,\"widget\":{"
        "\"name\":\"value\"}}],\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\"}],\"widgets_values\":[0,\"fixed\",1]},"
        "{\"id\":2,\"type\":\"Mix\",\"inputs\":[{\"name\":\"a\",\"type\":\"TENSOR\",\"link\":10},{\"name\":\"b\","
        "\"type\":\"TENSOR\",\"link\":11}],\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\"}],\"widgets_values\":["
        "\"multiply\"]}],"
        "\"links\":[{\"id\":10,\"origin_id\":-10,\"origin_slot\":0,\"target_id\":2,\"target_slot\":0},{\"id\":11,"
        "\"origin_id\":1,\"origin_slot\":0,\"target_id\":2,\"target_slot\":1},"
        "{\"id\":12,\"origin_id\":-10,\"origin_slot\":1,\"target_id\":1,\"target_slot\":0},{\"id\":13,\"origin_id\":2,"
        "\"origin_slot\":0,\"target_id\":-20,\"target_slot\":0}]}]}}";
    struct bed b = bed_new(text);
    check_sum(&b);
    CHECK_STR(weft_graph_class(b.g, "2:2"), "Mix");
    bed_free(&b);
}

TEST(expands_group_nodes) {
    const char *text =
        "{\"version\":0.4,\"nodes\":["
        "{\"id\":1,\"type\":\"Number\",\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\"}],\"widgets_values\":[3,"
        "\"fixed\",2]},"
        "{\"id\":2,\"type\":\"workflow/"
        "G\",\"inputs\":[{\"name\":\"a\",\"type\":\"TENSOR\",\"link\":1}],\"outputs\":[{\"name\":\"T\",\"type\":"
        "\"TENSOR\"}],\"widgets_values\":[0,\"fixed\",5.5,\"multiply\",1]},"
        "{\"id\":9,\"type\":\"Show\",\"inputs\":[{\"name\":\"what\",\"type\":\"TENSOR\",\"link\":2}],\"widgets_"
        "values\":[\"x\"]}],"
        "\"links\":[[1,1,0,2,0,\"TENSOR\"],[2,2,0,9,0,\"TENSOR\"]],"
        "\"extra\":{\"groupNodes\":{\"G\":{\"nodes\":["
        "{\"type\":\"Number\",\"index\":0,\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\"}],\"widgets_values\":[7,"
        "\"fixed\",7]},"
        "{\"type\":\"Mix\",\"index\":1,\"inputs\":[{\"name\":\"a\",\"type\":\"TENSOR\",\"link\":null},{\"name\":\"b\","
        "\"type\":\"TENSOR\",\"link\":null}],\"outputs\":[{\"name\":\"T\",\"type\":\"TENSOR\"}]}],"
        "\"links\":[[0,0,1,1,5,\"TENSOR\"],[null,0,1,0,6,\"TENSOR\"]],\"external\":[]}}}}";
    struct bed b = bed_new(text);
    check_sum(&b);
    CHECK_STR(weft_graph_class(b.g, "2:1"), "Mix");
    bed_free(&b);
}

/* ---- pictures ---------------------------------------------------------------------------------------------------- */

static size_t chunk(unsigned char *at, const char *type, const void *data, size_t n, bool right) {
    const unsigned char length[4] = { (unsigned char)(n >> 24), (unsigned char)(n >> 16), (unsigned char)(n >> 8),
                                      (unsigned char)n };
    memcpy(at, length, 4);
    memcpy(at + 4, type, 4);
    memcpy(at + 8, data, n);
    uint32_t crc = (uint32_t)crc32(0, at + 4, (uInt)n + 4) ^ (right ? 0 : 1);
    for (int i = 0; i < 4; i++) at[8 + n + (size_t)i] = (unsigned char)(crc >> (24 - 8 * i));
    return n + 12;
}

static weft_graph *from_bytes(struct bed *b, const void *bytes, size_t n) {
    char path[] = "/tmp/weft-graph-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n) return NULL;
    close(fd);
    weft_graph *g = weft_graph_read(b->c, b->r, path);
    unlink(path);
    return g;
}

TEST(reads_pictures) {
    unsigned char png[8192] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' }, text[2048];
    for (int form = 0; form < 4; form++) {
        size_t at = 8, n = 0, k = strlen(sum);
        at += chunk(png + at, "IHDR", "\0\0\0\1\0\0\0\1\10\2\0\0\0", 13, true);
        if (form == 0) {                                /* plain, with a wrong checksum */
            memcpy(text, "prompt", 7);
            memcpy(text + 7, sum, k);
            at += chunk(png + at, "tEXt", text, 7 + k, false);
        } else if (form == 1) {                         /* packed */
            memcpy(text, "prompt\0", 8);
            uLongf room = sizeof text - 8;
            compress(text + 8, &room, (const unsigned char *)sum, k);
            at += chunk(png + at, "zTXt", text, 8 + room, true);
        } else if (form == 2) {                         /* international, behind the data */
            at += chunk(png + at, "IDAT", "x", 1, true);
            memcpy(text, "prompt\0\0\0de\0\0", 13);
            n = 13;
            memcpy(text + n, sum, k);
            at += chunk(png + at, "iTXt", text, n + k, true);
        } else {                                        /* the workflow alone */
            memcpy(text, "workflow", 9);
            char *big = malloc(strlen(ui_sum) + 9);
            memcpy(big, text, 9);
            memcpy(big + 9, ui_sum, strlen(ui_sum));
            at += chunk(png + at, "tEXt", big, strlen(ui_sum) + 9, true);
            free(big);
        }
        at += chunk(png + at, "IEND", "", 0, true);
        struct bed b = bed_new(NULL);
        b.g = from_bytes(&b, png, at);
        check_sum(&b);
        bed_free(&b);
    }
}

/* ---- bad files --------------------------------------------------------------------------------------------------- */

TEST(refuses_bad_files_clearly) {
    static const char *const bad[][2] = {
        { "", "g.json" },
        { "{", "g.json:1" },
        { "[1,2]", "object" },
        { "{\"1\":5}", "node 1" },
        { "{\"1\":{\"inputs\":{}}}", "class_type" },
        { "{\"1\":{\"class_type\":\"Number\",\"inputs\":[]}}", "inputs" },
        { "{\"1\":{\"class_type\":\"A\"},\"1\":{\"class_type\":\"B\"}}", "g.json:1" },
        { "{\"1\":{\"class_type\":\"Number\",\"inputs\":{\"seed\":1,}}}", "g.json:1" },
        { "{\"1\": %seed%}", "g.json:1" },
        { "\"text\"", "object" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bed b = bed_new(bad[i][0]);
        CHECK(!b.g);
        CHECK_HAS(weft_message(b.c), bad[i][1]);
        weft_clear(b.c);
        bed_free(&b);
    }
    char *deep = malloc(200001);
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    deep[200000] = 0;
    struct bed b = bed_new(deep);
    CHECK(!b.g);
    CHECK_HAS(weft_message(b.c), "g.json:1");
    weft_clear(b.c);
    CHECK(!weft_graph_read(b.c, b.r, "/nowhere/at/all.json"));
    CHECK_HAS(weft_message(b.c), "/nowhere/at/all.json");
    weft_clear(b.c);
    free(deep);
    bed_free(&b);
}

TEST(names_stay_in_their_folders) {
    struct bed b = bed_new(NULL);
    const char *const roots[] = { "/tmp", NULL };
    weft_folders f = { .models = roots, .input = "/tmp", .output = "/tmp", .temp = "/tmp" };
    static const char *const bad[] = { "../x", "a/../../x", "/etc/passwd", "C:\\x",           "..\\x",
                                       "",     "  ",        "~/x",         "not-there-at-all" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!weft_folders_find(b.c, &f, "input", bad[i]));
        CHECK_EQ(weft_error(b.c), WEFT_E_FILE);
        weft_clear(b.c);
    }
    char path[] = "/tmp/weft-name-XXXXXX", annotated[64];
    int fd = mkstemp(path);
    close(fd);
    snprintf(annotated, sizeof annotated, " %s [output] ", path + 5);
    char *found = weft_folders_find(b.c, &f, "input", annotated);
    CHECK_STR(found, path);
    free(found);
    unlink(path);
    bed_free(&b);
}

/* The workflows of real users, where they are there: every one is read or refused with a message, none crashes. */
TEST(reads_workflows_from_the_wild) {
    static const char *const folders[] = { WEFT_SOURCE_DIR "/../shared/data/workflows/api",
                                           WEFT_SOURCE_DIR "/../shared/data/workflows/ui" };
    for (int i = 0; i < 2; i++) {
        DIR *d = opendir(folders[i]);
        if (!d) continue;
        for (struct dirent *e; (e = readdir(d));) {
            char path[1024];
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", folders[i], e->d_name);
            struct bed b = bed_new(NULL);
            weft_faults f;
            b.g = weft_graph_read(b.c, b.r, path);
            if (!b.g) fprintf(stderr, "    %s\n", weft_message(b.c));
            CHECK(b.g && !weft_graph_check(b.c, b.g, NULL, &f));
            if (b.g) {
                CHECK(f.count > 0);         /* none of the classes is known here */
                weft_faults_free(&f);
            }
            weft_clear(b.c);
            bed_free(&b);
        }
        closedir(d);
    }
}

TEST_MAIN
