/* Includes point down only: lua → nodes → runtime → kernels (docs/style.md). Reads every source and header of those
 * folders; a project's include names its path from the top, and its folder must not lie above the file's own. Tests may
 * include all. */
#include <dirent.h>
#include <sys/stat.h>
#include "tests/test.h"

static const char *const layer[] = { "kernels", "runtime", "nodes", "lua" };     /* from the bottom */
enum { LAYERS = sizeof layer / sizeof *layer };

/* The layer that a path from the top begins with; −1: none. */
static int layer_of(const char *path) {
    for (int i = 0; i < LAYERS; i++)
        if (!strncmp(path, layer[i], strlen(layer[i])) && path[strlen(layer[i])] == '/') return i;
    return -1;
}

/* What is wrong with this line of a file of this layer; NULL: nothing. */
static const char *fault(int own, const char *line) {
    while (*line == ' ' || *line == '\t') line++;
    if (*line++ != '#') return NULL;
    while (*line == ' ' || *line == '\t') line++;
    if (strncmp(line, "include", 7)) return NULL;
    line += 7;
    while (*line == ' ' || *line == '\t') line++;
    if (*line != '"' && *line != '<') return NULL;
    bool quoted = *line++ == '"';
    int its = layer_of(line);
    if (!strncmp(line, "tests/", 6)) return "includes a test's header";
    if (its < 0) return quoted ? "does not name a path from the top" : NULL;
    return its > own ? "includes upward" : NULL;
}

static int files, includes;

static void check_file(const char *path, int own) {
    char line[4096];
    FILE *f = fopen(path, "r");
    if (!f) {
        TEST_FAIL("%s cannot be read", path);
        return;
    }
    files++;
    while (fgets(line, sizeof line, f)) {
        includes += strstr(line, "#include \"") != NULL;
        const char *what = fault(own, line);
        if (what) TEST_FAIL("%s %s: %s", path, what, line);
    }
    fclose(f);
}

static bool is_source(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (!strcmp(dot, ".c") || !strcmp(dot, ".h") || !strcmp(dot, ".cu") || !strcmp(dot, ".cuh"));
}

static void check_folder(const char *folder, int own) {
    DIR *d = opendir(folder);
    struct dirent *e;
    if (!d) return;             /* an optional back end */
    while ((e = readdir(d))) {
        char path[2048];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || stat(path, &st)) continue;
        if (S_ISDIR(st.st_mode)) check_folder(path, own);
        else if (is_source(e->d_name)) check_file(path, own);
    }
    closedir(d);
}

TEST(includes_point_down) {
    for (int i = 0; i < LAYERS; i++) {
        char folder[1024];
        snprintf(folder, sizeof folder, "%s/%s", WEFT_SOURCE_DIR, layer[i]);
        check_folder(folder, i);
    }
    CHECK(files > 50 && includes > 100);        /* it did look */
}

TEST(knows_a_fault_when_it_sees_one) {
    CHECK(fault(0, "#include \"runtime/weft.h\"\n"));
    CHECK(fault(1, "  #  include \"nodes/blocks.h\"\n"));
    CHECK(fault(1, "#include <lua/cli.h>\n"));
    CHECK(fault(2, "#include \"lua/cli.h\"\n"));
    CHECK(fault(1, "#include \"weft.h\"\n"));
    CHECK(fault(0, "#include \"../runtime/weft.h\"\n"));
    CHECK(fault(3, "#include \"tests/test.h\"\n"));
    CHECK(!fault(3, "#include \"kernels/kernels.h\"\n"));
    CHECK(!fault(1, "#include \"runtime/ops/ops.h\"\n"));
    CHECK(!fault(0, "#include <string.h>\n"));
    CHECK(!fault(0, "int include = 1;\n"));
}

TEST_MAIN
