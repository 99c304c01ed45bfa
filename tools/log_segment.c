#include "tools/log_segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define INDEX_BYTES_MAX (256u << 20) /* a segment of 4 GiB has less */

static char *path_of(const char *dir, int64_t base_offset, const char *suffix)
{
    char *path;
    return asprintf(&path, "%s/%020lld%s", dir, (long long)base_offset, suffix) < 0 ? NULL : path;
}

int segment_open(const char *dir, int64_t base_offset, int64_t end_offset, uint64_t window_bytes,
                 struct log_segment *ret)
{
    struct log_segment s = {
        .log_path = path_of(dir, base_offset, ".log"),
        .index_path = path_of(dir, base_offset, ".index"),
        .timeindex_path = path_of(dir, base_offset, ".timeindex"),
        .base_offset = base_offset,
        .file = {.fd = -1},
    };
    int rc = -ENOMEM;
    if (s.log_path != NULL && s.index_path != NULL && s.timeindex_path != NULL)
        rc = log_file_open(&s.file, s.log_path, window_bytes);
    if (rc != 0) {
        segment_close(&s);
        return rc;
    }
    bool sealed = log_file_get(s.index_path, INDEX_BYTES_MAX, &s.offsets, &s.offsets_len) == 0;
    log_file_get(s.timeindex_path, INDEX_BYTES_MAX, &s.times, &s.times_len);
    inspect_index_init(&s.index, base_offset, s.offsets, s.offsets_len, s.times, s.times_len);
    *ret = s;
    inspect_walk_init(&ret->walk, &ret->file.bytes, base_offset, end_offset);
    ret->walk.index = ret->offsets;
    ret->walk.index_len = ret->offsets_len;
    if (sealed)
        inspect_walk_end(&ret->walk, ret->file.bytes.size_bytes);
    return 0;
}

void segment_close(struct log_segment *s)
{
    log_file_close(&s->file);
    free(s->offsets);
    free(s->times);
    free(s->log_path);
    free(s->index_path);
    free(s->timeindex_path);
}
