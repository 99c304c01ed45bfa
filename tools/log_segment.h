/* log_segment.h: one segment of a partition, opened with its index files, ready to be walked.
 * Happy path: open, then inspect_walk_next(&s->walk) until INSPECT_END; close.
 * Failure: open: -errno of the log file. Index files that are missing or too large count as not
 *   there; they stay readable through s->index.
 * Threads: one. */
#ifndef TOOLS_LOG_SEGMENT_H
#define TOOLS_LOG_SEGMENT_H

#include "core/log/inspect.h"
#include "tools/log_file.h"
#include "tools/log_tree.h"

struct log_segment {
    char *log_path, *index_path, *timeindex_path;
    int64_t base_offset;
    uint64_t in_file_pos;        /* bytes behind are in the journal (or its checkpoint) only */
    struct log_file file;        /* without a store */
    struct inspect_bytes *bytes; /* with one */
    uint8_t *offsets, *times;
    size_t offsets_len, times_len;
    struct inspect_index index;
    struct inspect_walk walk;
};

/* A file by itself, without journal and metadata: where a sealed one ends is its size, where
 * another ends is what it looks like. end_offset: of a sealed one, INT64_MAX: not known. */
int segment_open(const char *dir, int64_t base_offset, int64_t end_offset, uint64_t window_bytes,
                 struct log_segment *ret);
/* One that a recovery knows; takes bytes, also when it fails. */
int segment_open_bytes(const char *dir, const struct inspect_log *log,
                       const struct inspect_segment *seg, struct inspect_bytes *bytes,
                       struct log_segment *ret);
void segment_close(struct log_segment *s);

#endif
