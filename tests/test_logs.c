/* Logs of a training run: CSV, TensorBoard's event files against TensorBoard's own writer (tests/golden/make_logs.py),
 * curves, grids of pictures against torchvision. */
#include <math.h>
#include <stdarg.h>
#include "nodes/image/picture.h"
#include "nodes/train/csv_log.h"
#include "nodes/train/curve.h"
#include "nodes/train/event_log.h"
#include "runtime/file.h"
#include "tests/host_data.h"
#include "tests/train_bed.h"

#define GOLDEN WEFT_SOURCE_DIR "/tests/golden/logs.safetensors"

static void check_file(weft_ctx *c, const char *path, const char *want) {
    size_t size;
    char *text = weft_file_read(c, path, 1 << 20, &size);
    CHECK_STR(text, want);
    weft_text_free(text);
}

static void put_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    if (f) fputs(text, f);
    if (f) fclose(f);
}

/* ---- CSV --------------------------------------------------------------------------------------------------------- */

static const char *const columns[] = { "step", "loss", "lr" };
#define ROW(log, step, ...) CHECK_EQ(weft_csv_log_row((log), (step), (const double[]){ __VA_ARGS__ }), WEFT_OK)

TEST(csv_grows_and_is_cut) {
    const char *folder = folder_new(), *path = in(folder, "log.csv");
    weft_ctx *c = open_device("cpu");
    weft_csv_log *log = weft_csv_log_open(c, path, 3, columns, 0);
    REQUIRE(log);
    ROW(log, 1, 0.5, 1e-4);
    ROW(log, 2, NAN, 1e-4);
    ROW(log, 3, (float)0.1, INFINITY);
    weft_csv_log_close(log);
    check_file(c, path, "step,loss,lr\n1,0.5,0.0001\n2,,0.0001\n3,0.100000001,inf\n");
    log = weft_csv_log_open(c, path, 3, columns, 2);        /* resumed after step 2 */
    ROW(log, 3, 0.25, 0);
    ROW(log, 10, 0.125, 0);
    weft_csv_log_close(log);
    check_file(c, path, "step,loss,lr\n1,0.5,0.0001\n2,,0.0001\n3,0.25,0\n10,0.125,0\n");
    put_text(path, "step,loss,lr\n1,2,3\n2,5,6\n3,7");      /* killed in the middle of a line */
    weft_csv_log_close(weft_csv_log_open(c, path, 3, columns, 9));
    check_file(c, path, "step,loss,lr\n1,2,3\n2,5,6\n");
    weft_csv_log_close(weft_csv_log_open(c, path, 3, columns, 0));
    check_file(c, path, "step,loss,lr\n");
    CHECK_STR(weft_message(c), "");
    folder_drop(folder);
    CLOSE(c);
}

TEST(csv_that_does_not_fit) {
    const char *folder = folder_new(), *path = in(folder, "log.csv");
    weft_ctx *c = open_device("cpu");
    put_text(path, "step,other\n1,2\n");
    CHECK(!weft_csv_log_open(c, path, 3, columns, 1));
    CHECK_ERROR(c, WEFT_E_FORMAT, "has other columns than step,loss,lr; move it away");
    check_file(c, path, "step,other\n1,2\n");
    CHECK(!weft_csv_log_open(c, in(folder, "none/log.csv"), 3, columns, 0));
    CHECK_ERROR(c, WEFT_E_FILE, "cannot be written");
    CHECK(!weft_csv_log_open(c, folder, 3, columns, 5));
    CHECK_ERROR(c, WEFT_E_FILE, "is a folder");
    folder_drop(folder);
    CLOSE(c);
}

TEST(csv_is_read) {
    const char *folder = folder_new(), *path = in(folder, "log.csv");
    weft_ctx *c = open_device("cpu");
    int64_t n;
    double *steps, *values;
    put_text(path, "step,loss,lr,loss2\n1,2,3,4\n2,,6,7\nbad\n3,nan,8,9\n4,1e-3,8,\n5,6");
    REQUIRE(weft_csv_log_read(c, path, "loss", &n, &steps, &values));
    CHECK_EQ(n, 4);
    CHECK(steps[0] == 1 && values[0] == 2 && steps[1] == 3 && isnan(values[1]) && steps[2] == 4 && values[2] == 1e-3);
    free(steps);
    free(values);
    REQUIRE(weft_csv_log_read(c, path, "loss2", &n, &steps, &values));
    CHECK_EQ(n, 3);
    free(steps);
    free(values);
    CHECK(!weft_csv_log_read(c, path, "los", &n, &steps, &values));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "has no column los");
    folder_drop(folder);
    CLOSE(c);
}

/* ---- event files ------------------------------------------------------------------------------------------------- */

struct record { const unsigned char *data; size_t size; };

static uint64_t little(const unsigned char *p, int n) {
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* The next record, its checksums compared; false at the end. */
static bool next_record(const unsigned char **p, const unsigned char *end, struct record *r) {
    if (end - *p < 16) return false;
    const uint64_t size = little(*p, 8);
    if (little(*p + 8, 4) != weft_masked_crc32c(*p, 8)) TEST_FAIL("a length's checksum is wrong");
    if (size > (uint64_t)(end - *p) - 16) return false;
    *r = (struct record){ *p + 12, size };
    if (little(*p + 12 + size, 4) != weft_masked_crc32c(r->data, size)) TEST_FAIL("a record's checksum is wrong");
    *p += 16 + size;
    return true;
}

static uint64_t varint(const unsigned char **p) {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const unsigned char byte = *(*p)++;
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) break;
    }
    return v;
}

/* A field of a message: its bytes, or its number in *number. */
static struct record field_of(struct record message, int field, uint64_t *number) {
    const unsigned char *p = message.data, *end = p + message.size;
    while (p < end) {
        const uint64_t key = varint(&p);
        struct record r = { p, 0 };
        uint64_t value = 0;
        if ((key & 7) == 0) value = varint(&p);
        else {
            r.size = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : varint(&p);
            r.data = p;
            if (r.size <= 8) value = little(p, (int)r.size);
            p += r.size;
        }
        if (key >> 3 != (uint64_t)field) continue;
        if (number) *number = value;
        return r;
    }
    if (number) *number = 0;
    return (struct record){ NULL, 0 };
}

static bool same(struct record a, struct record b) { return a.size && a.size == b.size && !memcmp(a.data, b.data,
        a.size); }

/* TensorBoard's writer and ours: the same summaries to the byte, checksums included. */
TEST(events_are_tensorboards) {
    const char *folder = folder_new();
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    const weft_st_entry *theirs = weft_st_find(f, "events");
    weft_event_log *log = weft_event_log_open(c, folder, 0);
    REQUIRE(log && theirs);
    CHECK_EQ(weft_event_log_scalar(log, "loss", 3, 0.25), WEFT_OK);
    CHECK_EQ(weft_event_log_scalar(log, "loss/val", (int64_t)1 << 40, 1e-3), WEFT_OK);
    size_t size;
    char *ours = weft_file_read(c, weft_event_log_path(log), 1 << 20, &size);
    const unsigned char *p = (unsigned char *)ours, *q = theirs->data;
    struct record a, b;
    REQUIRE(next_record(&p, p + size, &a) && next_record(&q, q + theirs->bytes, &b));
    CHECK(same(field_of(a, 3, NULL), field_of(b, 3, NULL)));        /* brain.Event:2 */
    for (int i = 0; i < 2; i++) {
        uint64_t step, want;
        REQUIRE(next_record(&p, (unsigned char *)ours + size, &a));
        REQUIRE(next_record(&q, (const unsigned char *)theirs->data + theirs->bytes, &b));
        CHECK(same(field_of(a, 5, NULL), field_of(b, 5, NULL)));
        field_of(a, 2, &step);
        field_of(b, 2, &want);
        CHECK_EQ(step, want);
        CHECK_EQ(field_of(a, 1, NULL).size, 8);
    }
    CHECK(p == (unsigned char *)ours + size);
    weft_text_free(ours);
    weft_event_log_close(log);
    weft_st_close(f);
    folder_drop(folder);
    CLOSE(c);
}

TEST(pictures_in_events) {
    const char *folder = folder_new();
    weft_ctx *c = open_device("cpu");
    weft_event_log *log = weft_event_log_open(c, folder, 41);
    weft_tensor *pixels = weft_cast(c, weft_affine(c, noisy(c, WEFT_F32, 1, WEFT_SHAPE(4, 5, 3)), 100, 120), WEFT_U8);
    REQUIRE(log && pixels);
    CHECK_EQ(weft_event_log_image(log, "grid", 42, pixels), WEFT_OK);
    size_t size;
    uint64_t number;
    char *ours = weft_file_read(c, weft_event_log_path(log), 1 << 20, &size);
    const unsigned char *p = (unsigned char *)ours, *end = p + size;
    struct record r;
    REQUIRE(next_record(&p, end, &r) && next_record(&p, end, &r));
    field_of(r, 2, &number);
    CHECK_EQ(number, 42);                   /* a run that resumes after 41: earlier files' later steps are forgotten */
    field_of(field_of(r, 7, NULL), 1, &number);
    CHECK_EQ(number, 1);
    REQUIRE(next_record(&p, end, &r));
    struct record image = field_of(field_of(field_of(r, 5, NULL), 1, NULL), 4, NULL), png = field_of(image, 4, NULL);
    static const uint64_t sides[] = { 4, 5, 3 };
    for (int i = 0; i < 3; i++) {
        field_of(image, i + 1, &number);
        CHECK_EQ(number, sides[i]);
    }
    const char *path = in(folder, "picture.png");
    CHECK(weft_file_save(c, path, png.data, png.size));
    check_near(c, "the picture", weft_picture_load(c, path), pixels, 0);
    CHECK(weft_event_log_image(log, "grid", 43, weft_cast(c, pixels, WEFT_F32)));
    CHECK_ERROR(c, WEFT_E_SHAPE, "grid: a picture to be saved");
    weft_text_free(ours);
    weft_event_log_close(log);
    CHECK(!weft_event_log_open(c, in(folder, "none"), 0));
    CHECK_ERROR(c, WEFT_E_FILE, "cannot be written");
    folder_drop(folder);
    CLOSE(c);
}

/* ---- pictures ---------------------------------------------------------------------------------------------------- */

TEST(grids_are_torchvisions) {
    weft_ctx *c = open_device("cpu");
    weft_safetensors *f = weft_st_open(c, GOLDEN);
    for (int k = 0; k < 4; k++) {
        weft_tensor *pictures = golden(c, f, false, "grid.%d.in", k), *want = golden(c, f, false, "grid.%d", k);
        double *how = values_of(c, golden(c, f, false, "grid.%d.how", k));
        REQUIRE(how);
        weft_tensor *grid = weft_grid(c, pictures, (int64_t)how[0], (int64_t)how[1], how[2]);
        CHECK_EQ(weft_dim(grid, 0), weft_dim(want, 0));
        CHECK_EQ(weft_dim(grid, 1), weft_dim(want, 1));
        check_near(c, "a grid", grid, want, 0);
        free(how);
    }
    weft_tensor *bytes = weft_full(c, WEFT_U8, WEFT_SHAPE(1, 2, 2, 3), 201);
    check_near(c, "bytes", weft_grid(c, bytes, 1, 2, 0), bytes, 0);
    CHECK(!weft_grid(c, bytes, 0, 2, 0));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "one column or more");
    CHECK(!weft_grid(c, weft_full(c, WEFT_U8, WEFT_SHAPE(9, 2, 2, 3), 1), 9, 60000, 0));
    CHECK_ERROR(c, WEFT_E_SHAPE, "65535 a side");
    CHECK(!weft_grid(c, weft_full(c, WEFT_F32, WEFT_SHAPE(2, 2, 2, 2), 1), 2, 2, 0));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "1, 3 or 4 channels");
    weft_st_close(f);
    CLOSE(c);
}

/* The rows of column x of a curve in which the bold line's colour is seen: the first and the last, −1 for none. */
static void line_rows(weft_tensor *curve, int x, int *first, int *last) {
    const unsigned char *p = host_data(curve);
    *first = *last = -1;
    for (int y = 0; y < 540; y++) {
        const unsigned char *q = p + ((size_t)y * 900 + (size_t)x) * 3;
        if (q[0] > 40 || q[2] < 150 || q[2] > 190) continue;
        if (*first < 0) *first = y;
        *last = y;
    }
}

TEST(curves) {
    weft_ctx *c = open_device("cpu");
    double steps[200], v[200];
    int first, last;
    for (int i = 0; i < 200; i++) steps[i] = i, v[i] = 7;
    weft_tensor *flat = weft_curve(c, "flat", 200, steps, v);
    line_rows(flat, 500, &first, &last);
    CHECK(first > 150 && last < 400 && last - first < 4);       /* a level line somewhere in the middle */
    for (int i = 0; i < 200; i++) v[i] = i;
    weft_tensor *up = weft_curve(c, "up", 200, steps, v);
    line_rows(up, 120, &first, &last);
    CHECK(first > 400);
    line_rows(up, 860, &first, &last);
    CHECK(last > 0 && last < 100);
    line_rows(up, 890, &first, &last);
    CHECK_EQ(first, -1);                                        /* nothing right of the axis' end */
    /* A line in logarithms is drawn straight: half the way is half the height. */
    for (int i = 0; i < 200; i++) v[i] = pow(10, -4.0 * i / 199);
    weft_tensor *logs = weft_curve(c, "logs", 200, steps, v);
    line_rows(logs, (95 + 880) / 2, &first, &last);
    CHECK(first > 240 && last < 300);
    /* Nothing, one value, values that are not finite, titles too long: a picture all the same. */
    v[0] = NAN, v[1] = INFINITY, v[2] = -INFINITY;
    CHECK(weft_curve(c, "", 0, steps, v) && weft_curve(c, "one", 1, steps + 5, v + 5) && weft_curve(c, "NaN", 200,
            steps, v));
    CHECK(weft_curve(c, "nothing finite", 3, steps, v));
    v[0] = 1e300, v[1] = -1e300, v[2] = 0;
    char title[600];
    memset(title, 'x', sizeof title);
    title[sizeof title - 1] = 0;
    CHECK(weft_curve(c, title, 3, steps, v));
    const char *folder = folder_new(), *csv = in(folder, "log.csv"), *png = in(folder, "loss.png");
    put_text(csv, "step,loss\n1,2\n2,1\n");
    CHECK_EQ(weft_curve_save(c, csv, "loss", png), WEFT_OK);
    CHECK_EQ(weft_dim(weft_picture_load(c, png), 1), 900);
    CHECK(weft_curve_save(c, csv, "lr", png));
    CHECK_ERROR(c, WEFT_E_ARGUMENT, "has no column lr");
    folder_drop(folder);
    CLOSE(c);
}

/* Pictures of every number of channels, smooth, level and noisy, so that every filter has its rows; also as a single
 * pixel. */
TEST(png_files_hold_what_was_saved) {
    const char *folder = folder_new(), *path = in(folder, "x.png");
    weft_ctx *c = open_device("cpu");
    for (int channels = 1; channels <= 4; channels++)
        for (int kind = 0; kind < 4; kind++) {
            const int64_t h = kind == 3 ? 1 : 37, w = kind == 3 ? 1 : 29;
            unsigned char pixels[37 * 29 * 4];
            uint64_t random = 3;
            for (int64_t i = 0; i < h * w * channels; i++) {
                const int64_t x = i / channels % w, y = i / channels / w;
                const double level = kind == 0 ? 100 : kind == 1 ? 3 * (double)x + 4 * (double)y :
                    128 + 127 * noise(&random);
                pixels[i] = (unsigned char)(level + (double)(i % channels) * (kind == 1 ? 20 : 0));
            }
            weft_tensor *t = weft_tensor_from(c, WEFT_U8, WEFT_SHAPE(h, w, channels), pixels);
            CHECK_EQ(weft_picture_save(c, path, t, NULL), WEFT_OK);
            check_near(c, "a picture", weft_picture_load(c, path), t, 0);
        }
    folder_drop(folder);
    CLOSE(c);
}

TEST_MAIN
