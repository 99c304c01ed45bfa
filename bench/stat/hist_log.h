/* hist_log.h: histograms as text, and files of them that HdrHistogram's HistogramLogReader and the
 * tools built on it read (log format 1.3, as HistogramLogWriter of 2.2.2 writes it).
 * Happy path: hist_log_header once, then hist_log_line for each interval and tag. The histogram's
 *   part of a line is what hist_log_encode gives, "HISTFAAA...", and hist_log_decode takes: base64
 *   (RFC 4648, padded) of u32 0x1c849304 | 0x10, u32 length, and so much zlib data (RFC 1950),
 *   which inflates to the V2 form of hist_v2.h.
 * Failure: -errno. hist_log_decode is made for text from anywhere: it takes no more memory than the
 *   largest histogram needs, whatever the text says of itself.
 * Units: recorded values are nanoseconds; the lines' Interval_Max is in milliseconds, by the Java
 *   writer's default ratio of 1,000,000; times are seconds.
 * Threads: any; no state. */
#ifndef BENCH_STAT_HIST_LOG_H
#define BENCH_STAT_HIST_LOG_H

#include <stdio.h>

#include "core/base/hist.h"

#define HIST_LOG_NS_PER_MAX_UNIT 1e6

/* ret_text: NUL-terminated, the caller's to free. -ENOMEM. -EOVERFLOW as hist_v2_encode. */
int hist_log_encode(const struct hist *h, char **ret_text);

/* text: the base64 alone, without blanks. ret_h: not yet initialised; is so on success.
 * -EBADMSG: not base64, lengths that are not so, or bad zlib data. Else as hist_v2_decode. */
int hist_log_decode(const char *text, size_t len_bytes, struct hist *ret_h);

/* Version, start time and legend. -EIO: the stream has failed. */
int hist_log_header(FILE *f, double start_epoch_s);

/* One interval. start_s: since the header's start time; readers take what is a year less than that
 * to be relative to it. tag: NULL for none. -EINVAL: a tag that is empty or has a comma, a blank or
 * a line's end in it. -EIO: the stream has failed. Else as hist_log_encode; nothing is written. */
int hist_log_line(FILE *f, const char *tag, double start_s, double len_s, const struct hist *h);

#endif
