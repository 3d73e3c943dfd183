/* What the safetensors files share: an open file. */
#ifndef WEFT_SAFETENSORS_INTERNAL_H
#define WEFT_SAFETENSORS_INTERNAL_H

#include "runtime/safetensors.h"

#define ST_HEADER_MOST 100000000u

struct st_pair { const char *key, *value; };

struct weft_safetensors {
    char *path;
    _Atomic int owners;
    const unsigned char *bytes;         /* the whole file */
    size_t size;
    bool mapped;
    weft_st_entry *entries;             /* in the order of the data */
    const weft_st_entry **by_name;
    int64_t count, room;
    struct st_pair *pairs;              /* sorted by key */
    int64_t pair_count, pair_room;
    char *strings;                      /* all names and metadata, decoded */
    size_t strings_used;
};

/* Reads and checks the header of f->bytes; false with the error set. */
bool st_read_header(weft_ctx *c, weft_safetensors *f);

/* A name fit for a message of one line: in quotes, cut at about 100 bytes, control characters as '?'. Returns out. */
#define ST_SHOWN 128
const char *st_show(const char *name, char out[ST_SHOWN]);

#endif
