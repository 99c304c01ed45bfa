/* log_file.h: a file of a log as struct inspect_bytes, read by plain pread.
 * Happy path: open, bytes.at() as often as needed, close.
 * Failure: open: -errno. A range that the device cannot read is filled with INSPECT_UNREADABLE, a
 *   block at a time, and counted; memory that is not to be had is NULL from at(), as is what lies
 *   behind the end.
 * Memory: a window, or the longest range that is asked for, which the file's size bounds.
 * Threads: any, one at a time. */
#ifndef TOOLS_LOG_FILE_H
#define TOOLS_LOG_FILE_H

#include "core/log/inspect.h"

#define LOG_FILE_WINDOW_BYTES (1u << 20)   /* to read a file whole */
#define LOG_FILE_HEADERS_BYTES (16u << 10) /* to jump from header to header */

struct log_file {
    struct inspect_bytes bytes;
    int fd; /* -1: not open */
    uint64_t window_bytes;
    uint8_t *window;
    uint64_t window_pos, window_len, window_cap;
    unsigned unreadable_n; /* blocks */
    uint64_t unreadable_pos;
    int unreadable_rc;
};

int log_file_open(struct log_file *f, const char *path, uint64_t window_bytes);
void log_file_close(struct log_file *f);

/* A whole file of at most bytes_max: malloc, the caller's. 0, -EFBIG, -errno. */
int log_file_get(const char *path, uint64_t bytes_max, uint8_t **ret, size_t *ret_len);

#endif
