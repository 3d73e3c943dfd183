/* Fuzzers. tests/fuzz/fuzz_NAME.c is one entry point, `fuzz_NAME(data, size)`, and with libFuzzer a program:
 *
 *     clang -std=gnu11 -D_GNU_SOURCE -g -O1 -fopenmp -fsanitize=fuzzer,address,undefined -DWEFT_FUZZ -I. \
 *         tests/fuzz/fuzz_NAME.c LIBRARIES
 *     ./a.out -max_len=2048 NEW_FINDS tests/fuzz/corpus/NAME
 *
 * tests/test_fuzz_NAME.c drives the same entry point in every test run: with each file of the corpus, and with a
 * fixed series of mutations. */
#ifndef WEFT_FUZZ_H
#define WEFT_FUZZ_H

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A fault of ours ends the process, as the sanitizers' do. */
#define MUST(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
            abort(); \
        } \
    } while (0)

/* Defines the entry point. */
#ifdef WEFT_FUZZ
#define FUZZ(name) \
    static void name(const uint8_t *data, size_t size); \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { name(data, size); return 0; } \
    static void name(const uint8_t *data, size_t size)
#else
#define FUZZ(name) static void name(const uint8_t *data, size_t size)
#endif

enum { FUZZ_MOST = 4096, FUZZ_SEEDS = 512 };

struct fuzz_corpus {
    int count;
    struct { size_t size; uint8_t bytes[FUZZ_MOST]; } seed[FUZZ_SEEDS];
};

static inline uint32_t fuzz_draw(uint64_t *state, uint32_t below) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*state >> 33) % below);
}

static inline int fuzz_order(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The files of a folder in the order of their names, so that every machine has the same series. */
static inline void fuzz_load(struct fuzz_corpus *c, const char *folder) {
    char *name[FUZZ_SEEDS], path[1024];
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && n < FUZZ_SEEDS && (e = readdir(d));)
        if (e->d_name[0] != '.') name[n++] = strdup(e->d_name);
    if (d) closedir(d);
    qsort(name, (size_t)n, sizeof *name, fuzz_order);
    c->count = 0;
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, name[i]);
        FILE *f = fopen(path, "rb");
        if (f) {
            c->seed[c->count].size = fread(c->seed[c->count].bytes, 1, FUZZ_MOST, f);
            c->count++;
            fclose(f);
        }
        free(name[i]);
    }
}

/* One change of *size bytes: a bit, a byte, a word of the format, a number, a cut, a copied piece, a piece of
 * another seed. */
static inline void fuzz_mutate(uint64_t *state, uint8_t *bytes, size_t *size, const char *const *words, int word_count,
    const struct fuzz_corpus *c) {
    uint8_t piece[64];
    size_t n = 1 + fuzz_draw(state, 32), at = fuzz_draw(state, (uint32_t)*size + 1), from;
    uint32_t kind = fuzz_draw(state, 8);
    if (kind == 0 && at < *size) bytes[at] ^= (uint8_t)(1u << fuzz_draw(state, 8));
    else if (kind == 1 && at < *size) bytes[at] = (uint8_t)fuzz_draw(state, 256);
    else if (kind == 2 && at < *size) bytes[at] = (uint8_t)(bytes[at] + (fuzz_draw(state, 2) ? 1 : -1));
    else if (kind == 3) {       /* cut out */
        if (n > *size - at) n = *size - at;
        memmove(bytes + at, bytes + at + n, *size - at - n);
        *size -= n;
    } else {                    /* put in */
        if (kind <= 5)
            n = (size_t)snprintf((char *)piece, sizeof piece, "%s", words[fuzz_draw(state, (uint32_t)word_count)]);
        else {
            const uint8_t *source = bytes;
            size_t length = *size;
            if (kind == 7) {
                int k = (int)fuzz_draw(state, (uint32_t)c->count);
                source = c->seed[k].bytes;
                length = c->seed[k].size;
            }
            from = fuzz_draw(state, (uint32_t)length + 1);
            if (n > length - from) n = length - from;
            memcpy(piece, source + from, n);
        }
        if (*size + n > FUZZ_MOST) return;
        memmove(bytes + at + n, bytes + at, *size - at);
        memcpy(bytes + at, piece, n);
        *size += n;
    }
}

/* Runs the corpus, then mutations of it for some seconds or a count, whichever ends first. Each input lies in memory
 * of exactly its size, so that a sanitizer sees the first byte past it. `fix` (or NULL) repairs what mutations
 * always break. Returns the number of inputs. */
static inline long fuzz_run(struct fuzz_corpus *c, void (*entry)(const uint8_t *, size_t),
    void (*fix)(uint64_t *state, uint8_t *bytes, size_t size), const char *const *words, int word_count, long most,
    double seconds) {
    static uint8_t bytes[FUZZ_MOST];
    uint64_t state = 1;
    clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    long i = 0;
    for (; i < c->count + most && (i < c->count || clock() < end); i++) {
        int k = i < c->count ? (int)i : (int)fuzz_draw(&state, (uint32_t)c->count);
        size_t size = c->seed[k].size;
        memcpy(bytes, c->seed[k].bytes, size);
        for (uint32_t changes = i < c->count ? 0 : 1 + fuzz_draw(&state, 6); changes; changes--)
            fuzz_mutate(&state, bytes, &size, words, word_count, c);
        if (fix && i >= c->count) fix(&state, bytes, size);
        uint8_t *exact = malloc(size ? size : 1);
        if (!exact) break;
        memcpy(exact, bytes, size);
        entry(exact, size);
        free(exact);
    }
    return i;
}

#endif
