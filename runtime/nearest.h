/* The nearest of several names: for "did you mean". */
#ifndef WEFT_NEAREST_H
#define WEFT_NEAREST_H

/* Set name, try every candidate, read best: NULL where none is within a few edits. */
typedef struct weft_nearest {
    const char *name, *best;
    int least;
} weft_nearest;
void weft_nearest_try(weft_nearest *n, const char *candidate);

#endif
