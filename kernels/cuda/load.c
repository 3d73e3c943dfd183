/* Opens weft_cuda.so: a part of the program, not of the shared object. The program itself knows nothing of CUDA.
 *
 * It is looked for beside the program, or beside weft.so where another Lua loaded that, then in ../lib/weft from there.
 * WEFT_CUDA_LIBRARY in the environment names another file, and then only that one is tried.
 */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/cuda/library.h"

#define FILE_NAME "weft_cuda.so"

static const weft_kernels *table;
static char failure[3 * PATH_MAX];

/* The folder of the program (weft, a test), or of the shared object that this code is in. "" where it is unknown. */
static void own_folder(char out[PATH_MAX]) {
    Dl_info info;
    char program[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    strcpy(out, program);
    /* A program's own file is named as it was called, which may be anything; a shared object's is a path. */
    if (dladdr(own_folder, &info) && info.dli_fname && strstr(info.dli_fname, ".so")
        && strlen(info.dli_fname) < PATH_MAX)
        strcpy(out, info.dli_fname);
    char *end = strrchr(out, '/');
    if (end) *end = '\0';
    else strcpy(out, ".");
}

/* The object's table; NULL with the failure said. */
static const weft_kernels *accept(void *library, const char *path) {
    const weft_cuda_contents *contents = dlsym(library, "weft_cuda_library");
    if (!contents) snprintf(failure, sizeof failure, "%s is no CUDA back end of Weft", path);
    else if (contents->abi != WEFT_CUDA_ABI)
        snprintf(failure, sizeof failure,
                 "%s belongs to another build of Weft (version %.20s; this is %s): put the one that was built "
                 "with this program in its place",
                 path, contents->version, WEFT_VERSION);
    else return contents->table();
    return NULL;
}

/* Tries one file; false where there is none. */
static int try_file(const char *path) {
    if (access(path, F_OK)) return 0;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        snprintf(failure, sizeof failure,
                 "the CUDA back end cannot be loaded: %s; CUDA 13's cuBLAS and cuDNN 9 must be installed where "
                 "the system finds them (or in LD_LIBRARY_PATH)",
                 why ? why : path);
    } else if (!(table = accept(library, path))) {
        dlclose(library);
    }
    return 1;
}

static void load(void) {
    const char *given = getenv("WEFT_CUDA_LIBRARY");
    char folder[PATH_MAX], path[PATH_MAX + 64];
    if (given && *given) {
        if (!try_file(given)) snprintf(failure, sizeof failure, "WEFT_CUDA_LIBRARY: there is no file %s", given);
        return;
    }
    own_folder(folder);
    snprintf(path, sizeof path, "%s/" FILE_NAME, folder);
    if (try_file(path)) return;
    snprintf(path, sizeof path, "%s/../lib/weft/" FILE_NAME, folder);
    if (try_file(path)) return;
    snprintf(failure, sizeof failure,
             "this Weft has no CUDA back end: there is no " FILE_NAME " in %s or %s/../lib/weft; build it with "
             "-DWEFT_CUDA=ON, or use --device cpu",
             folder, folder);
}

const weft_kernels *weft_kernels_cuda(char *error, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    if (!table && size) snprintf(error, size, "%s", failure);
    return table;
}
