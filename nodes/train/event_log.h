/* TensorBoard's event files: scalars and pictures by tag and step. Each event is one write, so that a killed run's file
 * can be read up to its last event. */
#ifndef WEFT_TRAIN_EVENT_LOG_H
#define WEFT_TRAIN_EVENT_LOG_H

#include "runtime/weft.h"

typedef struct weft_event_log weft_event_log;

/* Begins a new file in the folder, which must be there. after_step > 0: a run that resumes there; TensorBoard then
 * forgets what earlier files say of later steps. NULL with the error set. */
weft_event_log *weft_event_log_open(weft_ctx *c, const char *folder, int64_t after_step);
weft_status weft_event_log_scalar(weft_event_log *log, const char *tag, int64_t step, double value) WEFT_MUST_CHECK;
/* pixels: (H, W, 1, 3 or 4) u8. */
weft_status weft_event_log_image(weft_event_log *log, const char *tag, int64_t step,
                                 weft_tensor *pixels) WEFT_MUST_CHECK;
const char *weft_event_log_path(const weft_event_log *log);
void weft_event_log_close(weft_event_log *log);     /* takes NULL */

/* CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected), as record framing wants it: rotated right by 15 and moved. */
uint32_t weft_masked_crc32c(const void *bytes, size_t n);

#endif
