/* The Lua binding: the scripts in tests/lua, in the program and under a stock Lua with weft.so; the program's way
 * with scripts. */
#include "tests/model_folders.h"
#include "tests/run_program.h"

#define SCRIPTS WEFT_SOURCE_DIR "/tests/lua/"

static const char *folder;

static bool open_folder(void) {
    weft_ctx *c = weft_ctx_new(&(weft_options){ .threads = 1 });
    folder = new_model_folders(c);
    if (!folder) TEST_FAIL("%s", weft_message(c));
    weft_ctx_free(c);
    return folder != NULL;
}

/* Each script with the folder and what else it takes; it ends well and says so. */
static void run_scripts(void) {
    static const char *const scripts[][2] = {
        { "tensors", "" },    { "random", WEFT_SOURCE_DIR "/tests/golden/rng.safetensors" },
        { "operations", "" }, { "memory", "" },
        { "nodes", "" },      { "graphs", WEFT_SOURCE_DIR "/graphs/txt2img.json" },
        { "files", "" },      { "library", "" }
    };
    if (!open_folder()) return;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        char path[512];
        snprintf(path, sizeof path, SCRIPTS "%s.lua", scripts[i][0]);
        struct run *r = WEFT(folder, path, folder, scripts[i][1]);
        if (r->status || strncmp(r->out, "ok ", 3))
            TEST_FAIL("%s: status %d: %s%s", scripts[i][0], r->status, r->out, r->err);
    }
    drop_folder(folder);
}

TEST(scripts_in_the_program) { run_scripts(); }

/* The first program of this name on PATH; NULL where there is none. */
static const char *find_program(const char *name) {
    static char path[1024];
    char all[4096];
    snprintf(all, sizeof all, "%s", getenv("PATH") ? getenv("PATH") : "");
    for (char *part = strtok(all, ":"); part; part = strtok(NULL, ":")) {
        snprintf(path, sizeof path, "%s/%s", part, name);
        if (!access(path, X_OK)) return path;
    }
    return NULL;
}

TEST(scripts_under_a_stock_lua) {
    const char *lua = find_program("lua5.4");
    if (!lua) {
        puts("     (skipped: there is no lua5.4)");
        return;
    }
#ifdef __SANITIZE_ADDRESS__
    puts("     (skipped: a program without the sanitizer cannot load a module with it)");
#else
    run_path = lua;
    setenv("LUA_CPATH", WEFT_MODULE, 1);
    setenv("OMP_WAIT_POLICY", "passive", 1);
    run_scripts();
#endif
}

/* A file of the case's folder. */
static const char *put(const char *name, const char *text) {
    const char *path = in(folder, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f)) TEST_FAIL("%s cannot be written", path);
    return path;
}

TEST(arguments_and_status) {
    if (!open_folder()) return;
    put("a.lua", "print(arg[0], #arg, arg[1], arg[2], ...)\nprint(type(arg[-1]), weft == nil, require 'weft' == "
                 "require 'weft')\n");
    struct run *r = WEFT(folder, "a.lua", "--help", "x");
    CHECK_EQ(r->status, 0);
    CHECK_STR(r->out, "a.lua\t2\t--help\tx\t--help\tx\nstring\ttrue\ttrue\n");
    CHECK_STR(r->err, "");
    r = WEFT(folder, "-e", "print(weft.version, ...)", "x", "y");
    CHECK_EQ(r->status, 0);
    CHECK_STR(r->out, WEFT_VERSION "\tx\ty\n");
    CHECK_EQ(WEFT(folder, "-e", "os.exit(7)")->status, 7);
    CHECK_EQ(WEFT(folder, "-e", "os.exit(true, true)")->status, 0);
    CHECK_EQ(WEFT(folder, "-")->status, 0);                         /* standard input, which is empty here */
    REFUSES(WEFT(folder, "-e"), "-e takes Lua code");
    REFUSES(WEFT(folder, "none.lua"), "none.lua", "No such file");
    REFUSES(WEFT(folder, "nodse"), "did you mean \"nodes\"?");
    CHECK_HAS(WEFT(folder, "--help")->out, "SCRIPT.lua");
    drop_folder(folder);
}

TEST(uncaught_errors) {
    if (!open_folder()) return;
    static const struct { const char *code, *line;
    } bad[] = {
        { "error 'boo'", "weft: a.lua:1: boo\n" },
        { "\nlocal weft = require 'weft'\nweft.zeros(2) = 3", "weft: a.lua:3: syntax error near '='\n" },
        { "local weft = require 'weft'\n\nlocal t = weft.zeros(2) + weft.zeros(3)",
          "weft: a.lua:3: add: (2) f32 and (3) f32 do not go together: sizes are equal or 1\n" },
        { "require 'weft'.node.EmptyImage{widht = 1}",
          "weft: a.lua:1: EmptyImage has no input widht; did you mean width?\n" },
        { "error(setmetatable({}, {__tostring = function() return 'mine' end}))", "weft: mine\n" },
        { "require 'weft'.args({{'steps', 20, ''}})",
          "a.lua: there is no option --stesp; did you mean --steps?\nSee: weft a.lua --help\n" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("a.lua", bad[i].code);
        struct run *r = WEFT(folder, "a.lua", "--stesp=1");
        CHECK_EQ(r->status, 1);
        CHECK_STR(r->err, bad[i].line);
    }
    put("a.lua", "local function f() error 'boo' end\nlocal function g() f() end\ng()\n");
    CHECK(!strstr(WEFT(folder, "a.lua")->err, "traceback"));
    REFUSES(WEFT(folder, "--traceback", "a.lua"), "a.lua:1: boo\n", "stack traceback", "a.lua:2: in",
            "a.lua:3: in main chunk");
    drop_folder(folder);
}

/* Starts a script, interrupts it each time that it writes a line, and gives its status. */
static int interrupt(const char *code, struct run *r) {
    int out[2];
    char byte;
    put("a.lua", code);
    if (pipe(out)) return -1;
    pid_t child = run_start(folder, (const char *const[]){ "a.lua", NULL }, out[1], -1);
    close(out[1]);
    while (read(out[0], &byte, 1) == 1)
        if (byte == '\n') {
            usleep(20000);          /* the loop behind the line has begun, mostly */
            kill(child, SIGINT);
        }
    int status = run_wait(child);
    close(out[0]);
    run_read(folder, "err.txt", r->err, sizeof r->err);
    return status;
}

#define GO "io.stdout:setvbuf 'line' print 'go' "

TEST(control_c) {
    static struct run r;
    if (!open_folder()) return;
    static const struct { const char *code, *err; } endless[] = {
        { GO "while true do end", "interrupted\n" },
        { GO "local _, e = pcall(function() while true do end end) io.stderr:write(e.status, '\\n') error(e)",
          "cancelled\ninterrupted\n" },
        { "local t = require 'weft'.zeros(256, 256) " GO "while true do t:matmul(t) end", "interrupted\n" },
        { "local t = require 'weft'.zeros(256, 256) " GO
          "coroutine.wrap(function() while true do t:matmul(t) end end)()", "interrupted\n" },
        { GO "pcall(function() while true do end end) print 'caught' while true do end", "" },
    };
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        CHECK_EQ(interrupt(endless[i].code, &r), 130);
        CHECK_STR(r.err, endless[i].err);
    }
    drop_folder(folder);
}

TEST(warnings_reach_the_user) {
    if (!open_folder()) return;
    put("a.lua",
        "local weft = require 'weft'\nlocal f = assert(io.open('models/loras/odd.safetensors', 'wb'))\nf:close()\n"
        "weft.save_tensors('models/loras/odd.safetensors', { nothing = weft.zeros(1) })\n"
        "local m, c = weft.node.CheckpointLoaderSimple{ckpt_name = 'tiny.safetensors'}\n"
        "weft.node.LoraLoader{model = m, clip = c, lora_name = 'odd.safetensors'}\n");
    struct run *r = WEFT(folder, "a.lua");
    CHECK_HAS(r->err, "odd.safetensors");
    drop_folder(folder);
}

TEST_MAIN
