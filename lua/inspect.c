/* `weft inspect`: what a file is and what is in it. This file tells the kinds apart and prints; inspect_graph.c and
 * inspect_model.c look inside. */
#include "lua/inspect.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lua/commands.h"
#include "lua/listing.h"
#include "nodes/image/picture.h"
#include "runtime/file.h"
#include "runtime/graph/picture_text.h"

enum { PICTURE_LIMIT = 256 << 20 };

cJSON *inspect_list(cJSON *out, const char *name) {
    cJSON *list = cJSON_GetObjectItemCaseSensitive(out, name);
    return list ? list : cJSON_AddArrayToObject(out, name);
}

cJSON *inspect_row(cJSON *list) {
    cJSON *row = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(list, row)) {
        cJSON_Delete(row);
        row = NULL;
    }
    return row;
}

/* ---- which kind it is -------------------------------------------------------------------------------------------- */

enum kind { OTHER, FOLDER, PICTURE, WEIGHTS, SHARDS, GRAPH };

/* By its first bytes: a picture's signature, the length and the brace of safetensors, or a brace behind white space; what
 * is JSON and no graph, by its name. */
static enum kind kind_of(const char *path) {
    struct stat st;
    unsigned char head[64] = { 0 };
    if (stat(path, &st)) return OTHER;
    if (S_ISDIR(st.st_mode)) return FOLDER;
    if (!S_ISREG(st.st_mode)) return OTHER;
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0, at = 0;
    if (f) fclose(f);
    if (weft_picture_is(head, n) || (n > 2 && head[0] == 'B' && head[1] == 'M')) return PICTURE;
    if (n > 8 && head[8] == '{' && !head[4] && !head[5] && !head[6] && !head[7]) return WEIGHTS;
    if (n > 3 && !memcmp(head, "\xef\xbb\xbf", 3)) at = 3;
    while (at < n && strchr(" \t\r\n", head[at]) && head[at]) at++;
    if (at == n || head[at] != '{') return OTHER;
    const char *slash = strrchr(path, '/');
    return strstr(slash ? slash : path, ".safetensors.index.") ? SHARDS : GRAPH;
}

/* ---- pictures ---------------------------------------------------------------------------------------------------- */

bool inspect_picture(session *s, const char *path, cJSON *out) {
    size_t size;
    char *bytes = weft_file_read(s->c, path, PICTURE_LIMIT, &size);
    if (!bytes) return false;
    weft_picture_facts facts;
    weft_picture_text text = { 0 };
    bool known = weft_picture_info(bytes, size, &facts);
    cJSON_AddStringToObject(out, "kind", "picture");
    cJSON_AddNumberToObject(out, "bytes", (double)size);
    if (known) {
        cJSON_AddStringToObject(out, "format", facts.format);
        cJSON_AddNumberToObject(out, "width", facts.width);
        cJSON_AddNumberToObject(out, "height", facts.height);
        cJSON_AddNumberToObject(out, "channels", facts.channels);
    } else weft_fail(s->c, WEFT_E_FORMAT, "%s: the picture is broken: it has no size", path);
    if (known && weft_picture_is(bytes, size) && weft_picture_read_text(s->c, path, bytes, size, &text)) {
        cJSON *carries = inspect_list(out, "carries");
        if (text.prompt) cJSON_AddItemToArray(carries, cJSON_CreateString("prompt"));
        if (text.workflow) cJSON_AddItemToArray(carries, cJSON_CreateString("workflow"));
    }
    bool graph = text.prompt || text.workflow;
    free(text.prompt);
    free(text.workflow);
    weft_text_free(bytes);
    return weft_ok(s->c) && (!graph || inspect_graph_file(s, path, out));
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static bool inspect(session *s, const char *path, cJSON *out) {
    cJSON_AddStringToObject(out, "file", path);
    switch (kind_of(path)) {
    case FOLDER: return inspect_model_folder(s, path, out);
    case PICTURE: return inspect_picture(s, path, out);
    case SHARDS: return inspect_shards(s, path, out);
    case GRAPH: return inspect_graph_file(s, path, out);
    default: return inspect_weights(s, path, out);      /* its errors tell what other files are */
    }
}

static int inspect_one(session *s, const char *path) {
    cJSON *facts = cJSON_CreateObject();
    int status = 0;
    if (!inspect(s, path, facts)) {
        cJSON_AddStringToObject(facts, "error", weft_message(s->c));
        status = session_fail(s, "inspect");
        weft_clear(s->c);
    }
    char *text = s->json ? cJSON_PrintUnformatted(facts) : NULL;
    if (text) puts(text);
    else if (!s->json && !status) {
        cJSON *file = cJSON_DetachItemFromObjectCaseSensitive(facts, "file");
        puts(path);
        listing_print(stdout, facts);
        cJSON_Delete(file);
    }
    free(text);
    cJSON_Delete(facts);
    return status;
}

int command_inspect(int argc, char **argv) {
    session s = { 0 };
    const cli_option options[] = { SESSION_FOLDER_OPTIONS(s),
                                   { "json", CLI_FLAG, &s.json, NULL, "print one JSON object a file", 0, 0, NULL },
                                   { 0 } };
    const cli_command command = {
        "inspect",
        "FILE …",
        "Tells what is in a picture, a graph, a .safetensors file, the index of such files, or a folder of diffusers.",
        "Weights are not read, only the heads of their files. The folders tell which of a graph's files are there.",
        options,
        1,
        -1
    };
    int plain, parsed = cli_parse(&command, argc, argv, &plain), status = parsed == CLI_HELP ? 0 : 1;
    if (parsed == CLI_RUN && session_open(&s, "inspect")) {
        status = 0;
        for (int i = 0; i < plain; i++) status |= inspect_one(&s, argv[i]);
    }
    session_close(&s);
    return status;
}
