/* inspect_store.c: what recovery has made of a partition, and the bytes of its segments from file
 * and memory together. */
#include <errno.h>
#include <stdlib.h>

#include "core/log/inspect.h"
#include "core/log/internal.h"

struct segment_bytes {
    struct inspect_bytes bytes;
    const struct segment *seg;
    struct env *env;
    struct env_file *file; /* NULL: all in memory */
    uint64_t file_bytes, window_bytes;
    uint8_t *window; /* what the file holds, in whole blocks */
    uint64_t window_pos, window_len, window_cap;
    uint8_t *joint; /* a range of both */
    uint64_t joint_cap;
};

void inspect_log(const struct plog *p, struct inspect_log *ret)
{
    *ret = (struct inspect_log){
        .log_start = p->log_start,
        .end_offset = p->end_offset,
        .doubtful_end = MAX(p->end_offset, p->hole ? p->hole_end : 0),
        .fenced = p->fenced,
        .leader_epoch = p->leader_epoch,
        .producers_n = (unsigned)p->producers.count,
        .epochs = p->epochs,
        .epochs_n = p->epochs_n,
    };
}

static uint64_t file_size(const struct segment *seg)
{
    char path[PATH_MAX];
    struct env_name_step step = {.kind = ENV_STEP_STAT,
                                 .path = segment_path(seg, ".log", path, sizeof(path))};
    return env_names_wait(seg->plog->store->env, &step, 1) == 0 ? step.ret_size_bytes : 0;
}

int inspect_segments(const struct plog *p, struct inspect_segment **ret, unsigned *ret_n)
{
    unsigned n = 0;
    list_for_each(it, &p->segments)
        n++;
    struct inspect_segment *all = calloc(n + 1, sizeof(*all));
    if (all == NULL)
        return -ENOMEM;
    n = 0;
    list_for_each(it, &p->segments) {
        const struct segment *seg = container_of(it, struct segment, link);
        bool sealed = seg->state == SEGMENT_SEALED;
        uint64_t file_bytes = seg->on_disk ? file_size(seg) : 0;
        uint64_t end_pos = seg->size_known ? seg->end_pos : file_bytes;
        all[n++] = (struct inspect_segment){
            .base_offset = seg->base_offset,
            .end_offset = seg->end_offset,
            .end_pos = end_pos,
            .in_file_pos = sealed ? end_pos : MIN(seg->destaged_pos, end_pos),
            .file_bytes = file_bytes,
            .sealed = sealed,
            .on_disk = seg->on_disk,
        };
    }
    *ret = all;
    *ret_n = n;
    return 0;
}

/* ---- bytes ---- */

static bool grow(uint8_t **buf, uint64_t *cap, uint64_t want)
{
    void *bigger;
    if (want <= *cap)
        return true;
    if (posix_memalign(&bigger, BLOCK_BYTES, want) != 0)
        return false;
    free(*buf);
    *buf = bigger;
    *cap = want;
    return true;
}

/* Whole blocks of the file; those that cannot be read are filled. */
static void blocks_read(struct segment_bytes *b, uint64_t pos, uint64_t len)
{
    int rc = env_read_wait(b->env, b->file, b->window, len, pos);
    if (rc == (int)len)
        return;
    for (uint64_t at = 0; at < len; at += BLOCK_BYTES) {
        rc = env_read_wait(b->env, b->file, b->window + at, BLOCK_BYTES, pos + at);
        uint64_t got = rc < 0 ? 0 : (uint64_t)rc;
        memset(b->window + at + got, INSPECT_UNREADABLE, BLOCK_BYTES - got);
    }
}

/* NULL: the file ends before, whatever was to be in it. */
static const uint8_t *file_at(struct segment_bytes *b, uint64_t pos, uint64_t len)
{
    if (b->file == NULL || pos + len > b->file_bytes)
        return NULL;
    if (pos >= b->window_pos && pos + len <= b->window_pos + b->window_len)
        return b->window + (pos - b->window_pos);
    uint64_t from = block_floor(pos), want = block_ceil(MAX(pos + len - from, b->window_bytes));
    want = MIN(want, block_ceil(b->file_bytes) - from);
    if (!grow(&b->window, &b->window_cap, want))
        return NULL;
    blocks_read(b, from, want);
    b->window_pos = from;
    b->window_len = want;
    return b->window + (pos - from);
}

/* [pos, pos + len) that reaches beyond what is in the file. */
static const uint8_t *joint_at(struct segment_bytes *b, uint64_t pos, uint64_t len)
{
    uint64_t split = MAX(MIN(b->seg->destaged_pos, pos + len), pos);
    const uint8_t *in_file = split == pos ? NULL : file_at(b, pos, split - pos);
    if (!grow(&b->joint, &b->joint_cap, len) || (split > pos && in_file == NULL))
        return NULL;
    if (split > pos)
        memcpy(b->joint, in_file, split - pos);
    for (uint64_t at = split; at < pos + len;) { /* seg_peek takes 32-bit lengths */
        uint32_t piece = (uint32_t)MIN(pos + len - at, (uint64_t)CHUNK_BYTES_MAX);
        if (!seg_peek(b->seg, at, b->joint + (at - pos), piece))
            return NULL;
        at += piece;
    }
    return b->joint;
}

static const uint8_t *segment_bytes_at(struct inspect_bytes *bytes, uint64_t pos, uint64_t len)
{
    struct segment_bytes *b = container_of(bytes, struct segment_bytes, bytes);
    if (pos > bytes->size_bytes || len > bytes->size_bytes - pos)
        return NULL;
    bool sealed = b->seg->state == SEGMENT_SEALED;
    if (!sealed && pos + len > b->seg->destaged_pos)
        return joint_at(b, pos, len);
    return file_at(b, pos, len);
}

static const struct segment *segment_of(const struct plog *p, int64_t base_offset)
{
    list_for_each(it, &p->segments) {
        const struct segment *seg = container_of(it, struct segment, link);
        if (seg->base_offset == base_offset)
            return seg;
    }
    return NULL;
}

int inspect_segment_open(const struct plog *p, const struct inspect_segment *seg,
                         uint64_t window_bytes, struct inspect_bytes **ret)
{
    char path[PATH_MAX];
    struct segment_bytes *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return -ENOMEM;
    b->bytes = (struct inspect_bytes){segment_bytes_at, seg->end_pos};
    b->seg = segment_of(p, seg->base_offset);
    b->env = p->store->env;
    b->window_bytes = block_ceil(window_bytes);
    ASSERT(b->seg != NULL);
    struct env_name_step step = {.kind = ENV_STEP_OPEN,
                                 .path = segment_path(b->seg, ".log", path, sizeof(path))};
    int rc = env_names_wait(b->env, &step, 1);
    if (rc == 0) {
        b->file = step.ret_file;
        b->file_bytes = step.ret_size_bytes;
    } else if (seg->in_file_pos > 0 || seg->sealed) {
        free(b);
        return rc;
    }
    *ret = &b->bytes;
    return 0;
}

void inspect_segment_close(struct inspect_bytes *bytes)
{
    if (bytes == NULL)
        return;
    struct segment_bytes *b = container_of(bytes, struct segment_bytes, bytes);
    if (b->file != NULL)
        env_file_close(b->env, b->file);
    free(b->window);
    free(b->joint);
    free(b);
}
