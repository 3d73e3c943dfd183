/* Picture files: reading what Pillow writes (tests/golden/make_pictures.py), saving and loading again with the graph
 * inside, names and folders, and what broken and hostile files do. */
#include <dirent.h>
#include <sys/stat.h>
#include <time.h>
#include <zlib.h>

#include "nodes/image/picture.h"
#include "runtime/safetensors.h"
#include "tests/host_data.h"
#include "tests/node_bed.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/pictures.safetensors"

/* ---- a folder of its own ----------------------------------------------------------------------------------------- */

static char root[64], inputs[80], outputs[80];
static const char *const no_models[] = { NULL };

static struct bed bed_in_folder(void) {
    struct bed b = bed_new("cpu");
    snprintf(root, sizeof root, "/tmp/weft-pictures-XXXXXX");
    if (!mkdtemp(root)) abort();
    snprintf(inputs, sizeof inputs, "%s/in", root);
    snprintf(outputs, sizeof outputs, "%s/out", root);
    if (mkdir(inputs, 0700) || mkdir(outputs, 0700)) abort();
    b.folders = (weft_folders){ .models = no_models, .input = inputs, .output = outputs, .temp = outputs };
    return b;
}

static void remove_all(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char below[600];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        if (unlink(below)) remove_all(below);
    }
    if (d) closedir(d);
    rmdir(path);
}

static void bed_and_folder_free(struct bed *b) {
    remove_all(root);
    bed_free(b);
}

static void put(const char *name, const void *bytes, size_t n) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", inputs, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) TEST_FAIL("%s cannot be written", path);
}

static bool is_there(const char *name) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", outputs, name);
    return !access(path, R_OK);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Compares u8 pixels; `allowed`: how far one may be off. */
static void check_pixels(struct bed *b, const char *name, weft_tensor *got, const weft_st_entry *want, int allowed) {
    char text[96];
    bool same = got && weft_rank(got) == 3;
    for (int i = 0; same && i < 3; i++) same = weft_dim(got, i) == want->shape[i];
    if (!same) {
        TEST_FAIL("%s: %s (%s)", name, got ? weft_describe(got, text, sizeof text) : "nothing", weft_message(b->c));
        return;
    }
    const unsigned char *p = host_data(got), *q = want->data;
    for (size_t i = 0; i < want->bytes; i++)
        if (abs(p[i] - q[i]) > allowed) {
            TEST_FAIL("%s: pixel value %zu is %d, expected %d", name, i, p[i], q[i]);
            return;
        }
}

TEST(reads_what_pillow_writes) {
    struct bed b = bed_in_folder();
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    int files = 0;
    REQUIRE(f);
    for (int64_t i = 0; i < weft_st_count(f); i++) {
        const weft_st_entry *e = weft_st_at(f, i);
        char name[64], path[200];
        const char *end = strstr(e->name, ".file");
        if (!end) continue;
        snprintf(name, sizeof name, "%.*s.pixels", (int)(end - e->name), e->name);
        put("picture", e->data, e->bytes);
        snprintf(path, sizeof path, "%s/picture", inputs);
        /* libjpeg and stb round the cosine transform and the colours each in their way */
        check_pixels(&b, e->name, weft_picture_load(b.c, path), weft_st_find(f, name), e->name[0] == 'j' ? 3 : 0);
        weft_clear(b.c);
        files++;
    }
    CHECK_EQ(files, 28);
    weft_st_close(f);
    bed_and_folder_free(&b);
}

TEST(load_image_and_its_mask) {
    struct bed b = bed_in_folder();
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    REQUIRE(f);
    const weft_st_entry *rgba = weft_st_find(f, "png.rgba.file"), *grey = weft_st_find(f, "png.grey.file");
    const unsigned char *p = weft_st_find(f, "png.rgba.pixels")->data, *q = weft_st_find(f, "png.grey.pixels")->data;
    put("a.png", rgba->data, rgba->bytes);
    put("g.png", grey->data, grey->bytes);
    float want[6 * 9 * 3], alpha[6 * 9], blue[6 * 9], three[6 * 9 * 3];
    for (int i = 0; i < 6 * 9; i++) {
        for (int k = 0; k < 3; k++) want[3 * i + k] = p[4 * i + k] / 255.f, three[3 * i + k] = q[i] / 255.f;
        alpha[i] = 1 - p[4 * i + 3] / 255.f;
        blue[i] = p[4 * i + 2] / 255.f;
    }
    weft_value out[2] = { 0 };
    CHECK_EQ(CALL(&b, "LoadImage", out, IN_TEXT("image", "a.png")), WEFT_OK);
    CHECK_TENSOR(&b, out[0].tensor, want, 0, 1, 6, 9, 3);
    CHECK_TENSOR(&b, out[1].tensor, alpha, 1e-7, 1, 6, 9);
    for (int i = 0; i < 2; i++) weft_value_clear(&out[i]);
    CHECK_EQ(CALL(&b, "LoadImage", out, IN_TEXT("image", "g.png")), WEFT_OK);
    CHECK_TENSOR(&b, out[0].tensor, three, 0, 1, 6, 9, 3);
    CHECK_EQ(weft_dim(out[1].tensor, 2), 64);
    for (int i = 0; i < 2; i++) weft_value_clear(&out[i]);
    CHECK_EQ(CALL(&b, "LoadImageMask", out, IN_TEXT("image", "a.png"), IN_TEXT("channel", "blue")), WEFT_OK);
    CHECK_TENSOR(&b, out[0].tensor, blue, 0, 1, 6, 9);
    weft_value_clear(out);
    CHECK_EQ(CALL(&b, "LoadImageMask", out, IN_TEXT("image", "a.png")), WEFT_OK);
    CHECK_TENSOR(&b, out[0].tensor, alpha, 1e-7, 1, 6, 9);
    weft_value_clear(out);
    CHECK_EQ(CALL(&b, "LoadImageMask", out, IN_TEXT("image", "g.png"), IN_TEXT("channel", "alpha")), WEFT_OK);
    CHECK_EQ(weft_dim(out[0].tensor, 2), 9);
    weft_value_clear(out);
    CALL_FAILS(&b, "b.png", "LoadImage", IN_TEXT("image", "b.png"));
    b.folders.models = NULL;
    CALL_FAILS(&b, "no input folder", "LoadImage", IN_TEXT("image", "a.png"));
    weft_st_close(f);
    bed_and_folder_free(&b);
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

/* All 256 values, saved through the node and loaded: the same to the bit. */
TEST(saves_what_it_loads) {
    struct bed b = bed_in_folder();
    float v[256 * 3];
    for (int i = 0; i < 256 * 3; i++) v[i] = (float)(i % 256) / 255;
    weft_value out[2] = { 0 };
    CHECK_EQ(CALL(&b, "SaveImage", out, IN_TENSOR("images", TENSOR(&b, v, 1, 16, 16, 3)),
                  IN_TEXT("filename_prefix", "r")), WEFT_OK);
    CHECK(is_there("r_00001_.png"));
    CHECK_EQ(CALL(&b, "LoadImage", out, IN_TEXT("image", "r_00001_.png [output]")), WEFT_OK);
    CHECK_TENSOR(&b, out[0].tensor, v, 0, 1, 16, 16, 3);
    for (int i = 0; i < 2; i++) weft_value_clear(&out[i]);
    /* cut to whole numbers, never round the corner */
    static const float odd[] = { -1, NAN, 2, 0.999f, 254.99f / 255, INFINITY };
    static const float cut[] = { 0, 0, 1, 254 / 255.f, 254 / 255.f, 1 };
    CHECK_EQ(CALL(&b, "SaveImage", out, IN_TENSOR("images", TENSOR(&b, odd, 1, 1, 2, 3)),
                  IN_TEXT("filename_prefix", "r")), WEFT_OK);
    CHECK_EQ(CALL(&b, "LoadImage", out, IN_TEXT("image", "r_00002_.png [output]")), WEFT_OK);
    CHECK_TENSOR(&b, out[0].tensor, cut, 0, 1, 1, 2, 3);
    for (int i = 0; i < 2; i++) weft_value_clear(&out[i]);
    CALL_FAILS(&b, "images: pictures (N, H, W, 3) are saved", "SaveImage",
               IN_TENSOR("images", weft_scalar(b.c, WEFT_F32, 0)), IN_TEXT("filename_prefix", "r"));
    b.folders.models = NULL;
    CALL_FAILS(&b, "no output folder", "SaveImage", IN_TENSOR("images", TENSOR(&b, v, 1, 16, 16, 3)),
               IN_TEXT("filename_prefix", "r"));
    bed_and_folder_free(&b);
}

/* A run leaves its graph in the picture; the picture is then a graph file. Text that is not ASCII goes another way in
 * PNG. */
TEST(carries_its_graph) {
    static const char *const texts[] = { "plain", "gr\xc3\xbc\xc3\x9f dich \xe2\x9c\xa8" };
    for (int i = 0; i < 2; i++) {
        struct bed b = bed_in_folder();
        char json[600], path[200];
        snprintf(json, sizeof json,
                 "{\"1\":{\"class_type\":\"EmptyImage\","
                 "\"inputs\":{\"width\":8,\"height\":8,\"batch_size\":2,\"color\":77}},"
                 "\"2\":{\"class_type\":\"SaveImage\",\"inputs\":{\"images\":[\"1\",0],\"filename_prefix\":\"%s\"}}}",
                     texts[i]);
        weft_runner *runner = weft_runner_new(b.c, b.r, &(weft_runner_options){ .folders = b.folders });
        weft_graph *g = weft_graph_parse(b.c, b.r, "g.json", json, strlen(json));
        REQUIRE(runner && g);
        CHECK_EQ(weft_runner_run(runner, g, NULL), WEFT_OK);
        snprintf(path, sizeof path, "%s/%s_00002_.png", outputs, texts[i]);
        weft_graph *again = weft_graph_read(b.c, b.r, path);
        if (!again) TEST_FAIL("%s", weft_message(b.c));
        char *one = weft_graph_json(g, false), *two = again ? weft_graph_json(again, false) : NULL;
        CHECK_STR(two, one);
        free(one);
        free(two);
        weft_graph_free(again);
        weft_graph_free(g);
        weft_runner_free(runner);
        bed_and_folder_free(&b);
    }
}

TEST(names_of_files) {
    struct bed b = bed_in_folder();
    weft_tensor *two = weft_full(b.c, WEFT_F32, WEFT_SHAPE(2, 4, 6, 3), 0.5);
    static const struct { const char *prefix, *first, *second; } cases[] = {
        { "a", "a_00001_.png", "a_00002_.png" }, { "a", "a_00003_.png", "a_00004_.png" },
        { "sub/b", "sub/b_00001_.png", "sub/b_00002_.png" }, { "x\\y\\c", "x/y/c_00001_.png", "x/y/c_00002_.png" },
        { "sub//./d/", "sub/d_00001_.png", "sub/d_00002_.png" },
            { "%width%x%height%", "6x4_00001_.png", "6x4_00002_.png" },
        { "n%batch_num%", "n0_00001_.png", "n1_00002_.png" }, { "n%batch_num%", "n0_00002_.png", "n1_00003_.png" },
        { "100%", "100%_00001_.png", "100%_00002_.png" }, { "%what%", "%what%_00001_.png", "%what%_00002_.png" },
        { "..a", "..a_00001_.png", "..a_00002_.png" }, { "big", "big_00042_.png", "big_00043_.png" },
    };
    char path[200];
    snprintf(path, sizeof path, "%s/big_00041_.png", outputs);
    fclose(fopen(path, "wb"));
    snprintf(path, sizeof path, "%s/big_99999999999999999999_.png", outputs);
    fclose(fopen(path, "wb"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(CALL(&b, "SaveImage", NULL, IN_TENSOR("images", two), IN_TEXT("filename_prefix", cases[i].prefix)),
                 WEFT_OK);
        if (!is_there(cases[i].first) || !is_there(cases[i].second))
            TEST_FAIL("%s: no %s or no %s", cases[i].prefix, cases[i].first, cases[i].second);
    }
    char year[40];
    time_t now = time(NULL);
    struct tm t;
    localtime_r(&now, &t);
    strftime(year, sizeof year, "y%Y%m_00001_.png", &t);
    CHECK_EQ(CALL(&b, "SaveImage", NULL, IN_TENSOR("images", two), IN_TEXT("filename_prefix", "y%year%%month%")),
             WEFT_OK);
    CHECK(is_there(year));
    static const char *const outside[] = { "../a", "/a", "a/../../b", "\\a", "a\\..\\b", ".." };
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        CALL_FAILS(&b, "a name inside the output folder", "SaveImage", IN_TENSOR("images", two),
                   IN_TEXT("filename_prefix", outside[i]));
    char *long_name = calloc(1, 9000);
    memset(long_name, 'a', 8999);
    CALL_FAILS(&b, "filename_prefix", "SaveImage", IN_TENSOR("images", two), IN_TEXT("filename_prefix", long_name));
    free(long_name);
    bed_and_folder_free(&b);
}

TEST(a_folder_that_cannot_be_written) {
    struct bed b = bed_in_folder();
    weft_tensor *one = weft_full(b.c, WEFT_F32, WEFT_SHAPE(1, 4, 4, 3), 0.5);
    put("file", "x", 1);
    b.folders.output = inputs;
    /* a file where a folder is needed */
    CALL_FAILS(&b, "file", "SaveImage", IN_TENSOR("images", one), IN_TEXT("filename_prefix", "file/a"));
    /* root may write anywhere */
    if (geteuid()) {
        chmod(inputs, 0500);
        CALL_FAILS(&b, "in/a", "SaveImage", IN_TENSOR("images", one), IN_TEXT("filename_prefix", "a"));
        chmod(inputs, 0700);
    }
    bed_and_folder_free(&b);
}

/* ---- broken files ------------------------------------------------------------------------------------------------ */

static void put_word(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* A PNG's IHDR of any size, with a right checksum, in a copy of the file. */
static void check_size(struct bed *b, const weft_st_entry *e, uint32_t w, uint32_t h) {
    unsigned char *copy = malloc(e->bytes);
    char path[200];
    memcpy(copy, e->data, e->bytes);
    put_word(copy + 16, w);
    put_word(copy + 20, h);
    put_word(copy + 29, (uint32_t)crc32(0, copy + 12, 17));
    put("wide.png", copy, e->bytes);
    snprintf(path, sizeof path, "%s/wide.png", inputs);
    CHECK(!weft_picture_load(b->c, path));
    CHECK_HAS(weft_message(b->c), "wide.png");
    CHECK_EQ(weft_error(b->c), WEFT_E_FORMAT);
    CHECK_EQ(weft_memory_live(b->c), 0);
    weft_clear(b->c);
    free(copy);
}

TEST(absurd_sizes) {
    struct bed b = bed_in_folder();
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    REQUIRE(f);
    const weft_st_entry *e = weft_st_find(f, "png.rgb.file");
    static const uint32_t sizes[][2] = { { 100000, 1 }, { 1, 100000 }, { 16384, 16384 }, { 0, 1 }, { 1, 0 },
                                         { 0x7fffffff, 0x7fffffff }, { 0xffffffff, 0xffffffff },
                                         { 16000, 4000 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_size(&b, e, sizes[i][0], sizes[i][1]);
    char path[200];
    put("empty.png", "", 0);
    snprintf(path, sizeof path, "%s/empty.png", inputs);
    CHECK(!weft_picture_load(b.c, path));
    CHECK_HAS(weft_message(b.c), "empty.png");
    weft_clear(b.c);
    weft_st_close(f);
    bed_and_folder_free(&b);
}

/* Loads a changed file: a picture or an error, nothing else. */
static void load_changed(struct bed *b, const unsigned char *bytes, size_t n) {
    char path[200];
    put("changed", bytes, n);
    snprintf(path, sizeof path, "%s/changed", inputs);
    weft_scope s = weft_scope_named(b->c, "changed");
    weft_tensor *t = weft_picture_load(b->c, path);
    CHECK((t != NULL) == weft_ok(b->c));
    weft_scope_end(b->c, s, NULL);
    weft_clear(b->c);
}

static void repair_checksums(unsigned char *p, size_t n) {
    for (size_t at = 8; at + 12 <= n;) {
        size_t length = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        if (length > n - at - 12) break;
        put_word(p + at + 8 + length, (uint32_t)crc32(0, p + at + 4, (uInt)(length + 4)));
        at += 12 + length;
    }
}

/* Each Huffman table of a JPEG, those between its scans too, made to count 16·255 codes. */
TEST(huffman_tables_without_bounds) {
    struct bed b = bed_in_folder();
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    REQUIRE(f);
    const weft_st_entry *e = weft_st_find(f, "jpeg.progressive.file");
    const unsigned char *p = e->data;
    int tables = 0;
    for (size_t i = 0; i + 24 < e->bytes; i++) {
        if (p[i] != 0xff || p[i + 1] != 0xc4) continue;
        unsigned char *copy = malloc(e->bytes);
        char path[200];
        memcpy(copy, p, e->bytes);
        memset(copy + i + 5, 255, 16);
        put("table.jpg", copy, e->bytes);
        snprintf(path, sizeof path, "%s/table.jpg", inputs);
        CHECK(!weft_picture_load(b.c, path));
        CHECK_HAS(weft_message(b.c), "Huffman");
        weft_clear(b.c);
        free(copy);
        tables++;
    }
    CHECK(tables > 2);
    weft_st_close(f);
    bed_and_folder_free(&b);
}

/* Every seed cut at every length, then bytes changed at random for three seconds of computing. */
TEST(broken_pictures) {
    struct bed b = bed_in_folder();
    weft_safetensors *f = weft_st_open(b.c, GOLDEN);
    uint64_t state = 88172645463325252u;
    int rounds = 0;
    REQUIRE(f);
    static const char *const cut[] = { "png.rgb.file", "jpeg.turned.6.file", "png.turned.6.file", "bmp.rgb.file" };
    for (int i = 0; i < 4; i++) {
        const weft_st_entry *e = weft_st_find(f, cut[i]);
        for (size_t n = 0; n < e->bytes; n += 1 + n / 64) load_changed(&b, e->data, n);
    }
    for (clock_t end = clock() + 3 * CLOCKS_PER_SEC; clock() < end; rounds++) {
        const weft_st_entry *e = weft_st_at(f, (int64_t)(state % (uint64_t)weft_st_count(f)));
        unsigned char *copy = malloc(e->bytes + 1);
        memcpy(copy, e->data, e->bytes);
        for (int k = 0; k < 1 + (int)(state >> 33 & 7); k++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            size_t place = state >> 16 & 1 ? (state >> 20) % e->bytes : (state >> 20) % (e->bytes < 64 ? e->bytes : 64);
            copy[place] = state & 1 ? (unsigned char)(state >> 50)
                : (unsigned char)(copy[place] ^ 1u << (state >> 58 & 7));
        }
        if (e->bytes > 8 && copy[0] == 0x89 && state >> 40 & 1) repair_checksums(copy, e->bytes);
        load_changed(&b, copy, e->bytes);
        free(copy);
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    }
    CHECK(rounds > 20);
    weft_st_close(f);
    bed_and_folder_free(&b);
}

TEST_MAIN
