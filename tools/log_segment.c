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

static int segment_init(const char *dir, int64_t base_offset, struct log_segment *s)
{
    *s = (struct log_segment){
        .log_path = path_of(dir, base_offset, ".log"),
        .index_path = path_of(dir, base_offset, ".index"),
        .timeindex_path = path_of(dir, base_offset, ".timeindex"),
        .base_offset = base_offset,
        .in_file_pos = UINT64_MAX,
        .file = {.fd = -1},
    };
    bool whole = s->log_path != NULL && s->index_path != NULL && s->timeindex_path != NULL;
    return whole ? 0 : -ENOMEM;
}

/* True: there is an offset index. */
static bool indexes_read(struct log_segment *s)
{
    bool there = log_file_get(s->index_path, INDEX_BYTES_MAX, &s->offsets, &s->offsets_len) == 0;
    log_file_get(s->timeindex_path, INDEX_BYTES_MAX, &s->times, &s->times_len);
    inspect_index_init(&s->index, s->base_offset, s->offsets, s->offsets_len, s->times,
                       s->times_len);
    return there;
}

static void walk_prepare(struct log_segment *s, struct inspect_bytes *bytes, int64_t end_offset)
{
    inspect_walk_init(&s->walk, bytes, s->base_offset, end_offset);
    s->walk.index = s->offsets;
    s->walk.index_len = s->offsets_len;
}

int segment_open(const char *dir, int64_t base_offset, int64_t end_offset, uint64_t window_bytes,
                 struct log_segment *ret)
{
    int rc = segment_init(dir, base_offset, ret);
    if (rc == 0)
        rc = log_file_open(&ret->file, ret->log_path, window_bytes);
    if (rc != 0) {
        segment_close(ret);
        return rc;
    }
    bool sealed = indexes_read(ret);
    walk_prepare(ret, &ret->file.bytes, end_offset);
    if (sealed)
        inspect_walk_end(&ret->walk, ret->file.bytes.size_bytes);
    return 0;
}

int segment_open_bytes(const char *dir, const struct inspect_log *log,
                       const struct inspect_segment *seg, struct inspect_bytes *bytes,
                       struct log_segment *ret)
{
    int rc = segment_init(dir, seg->base_offset, ret);
    ret->bytes = bytes;
    ret->in_file_pos = seg->in_file_pos;
    if (rc != 0) {
        segment_close(ret);
        return rc;
    }
    if (seg->sealed)
        indexes_read(ret);
    walk_prepare(ret, bytes, seg->end_offset);
    ret->walk.epochs = log->epochs;
    ret->walk.epochs_n = log->epochs_n;
    inspect_walk_end(&ret->walk, seg->end_pos);
    return 0;
}

void segment_close(struct log_segment *s)
{
    inspect_segment_close(s->bytes);
    log_file_close(&s->file);
    free(s->offsets);
    free(s->times);
    free(s->log_path);
    free(s->index_path);
    free(s->timeindex_path);
}
