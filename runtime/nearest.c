/* The nearest of several names, by Levenshtein's distance: for "did you mean". */
#include "runtime/nearest.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

enum { LONGEST = 127 };     /* longer names are never near */

/* Levenshtein's distance, upper and lower case alike. */
static int distance(const char *a, const char *b) {
    size_t n = strlen(b);
    if (n > LONGEST || strlen(a) > LONGEST) return INT_MAX;
    int row[LONGEST + 1];
    for (size_t j = 0; j <= n; j++) row[j] = (int)j;
    for (size_t i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = (int)i + 1;
        for (size_t j = 0; j < n; j++) {
            bool same = (a[i] | 0x20) == (b[j] | 0x20);
            int best = diagonal + !same;
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j + 1] + 1 < best) best = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[n];
}

void weft_nearest_try(weft_nearest *n, const char *candidate) {
    if (!n->least) n->least = (int)strlen(n->name) / 3 + 2;
    int d = distance(n->name, candidate);
    if (d < n->least) {
        n->least = d ? d : 1;
        n->best = candidate;
    }
}
