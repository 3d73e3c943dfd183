/* A log of numbers as CSV: a head line, then one line a step. A line is one write, so a killed run leaves at most its
 * last line torn; a run that resumes drops what came after the step it resumes from. */
#ifndef WEFT_TRAIN_CSV_LOG_H
#define WEFT_TRAIN_CSV_LOG_H

#include "runtime/weft.h"

typedef struct weft_csv_log weft_csv_log;

/* columns: their names, without commas; the first is the step's. Opens the file, or makes it. Lines up to after_step
 * stay; later ones, and one that is torn, are cut off. after_step 0 begins anew, whatever was there; otherwise a file
 * with other columns is an error. NULL with the error set. */
weft_csv_log *weft_csv_log_open(weft_ctx *c, const char *path, int n, const char *const *columns, int64_t after_step);
/* values: those of the n − 1 other columns; NaN: left empty. */
weft_status weft_csv_log_row(weft_csv_log *log, int64_t step, const double *values) WEFT_MUST_CHECK;
void weft_csv_log_close(weft_csv_log *log);     /* takes NULL */

/* A column of a file: steps and values (malloc'd) where it is not empty; false with the error set. */
bool weft_csv_log_read(weft_ctx *c, const char *path, const char *column, int64_t *n, double **steps, double **values);

#endif
