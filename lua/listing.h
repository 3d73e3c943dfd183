/* Facts for people: a cJSON object printed as aligned lines and tables. The same tree printed as JSON serves programs.
 */
#ifndef WEFT_LISTING_H
#define WEFT_LISTING_H

#include <cjson/cJSON.h>
#include <stdio.h>

/* Each member is a line: its name (an underscore reads as a space), and its value. A list of texts goes on one line, a
 * list of objects is a table with a heading, an object is indented. "bytes" and "parameters" are printed with a unit.
 * Empty texts, lists and objects are left out; long texts are cut; control characters, which files from strangers may
 * hold, become spaces. */
void listing_print(FILE *out, const cJSON *object);

#endif
