#include "core/meta/meta_replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

#define REPLAY_ARENA_BYTES ((size_t)META_LOG_SIZE_MAX)

__attribute__((format(printf, 3, 4))) static int replay_fail(struct meta_replay *r, int rc,
                                                             const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (r->reason_size > 0)
        vsnprintf(r->reason, r->reason_size, fmt, ap);
    va_end(ap);
    return rc;
}

bool meta_name_parse(const char *name, uint64_t *ret_generation, unsigned *ret_copy)
{
    size_t prefix = strlen(META_LOG_PREFIX);
    if (strncmp(name, META_LOG_PREFIX, prefix) != 0 || name[prefix] < '1' || name[prefix] > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long generation = strtoull(name + prefix, &end, 10);
    if (errno != 0 || end[0] != '.' || (end[1] != 'a' && end[1] != 'b') || end[2] != '\0')
        return false;
    *ret_generation = generation;
    *ret_copy = (unsigned)(end[1] - 'a');
    return true;
}

bool meta_header_fits(const uint8_t block[static 4096], uint64_t generation,
                      struct meta_header *ret)
{
    return meta_header_decode(block, ret) == 0 && ret->generation == generation &&
           ret->size_bytes % BLOCK_BYTES == 0 && ret->size_bytes > BLOCK_BYTES &&
           ret->size_bytes <= META_LOG_SIZE_MAX;
}

int meta_replay_headers(struct meta_replay *r, const struct meta_header header[META_LOG_COPIES])
{
    if (!r->copy[0].header_ok && !r->copy[1].header_ok)
        return replay_fail(r, -EIO, "%s and .b: neither copy has a valid header (byte 0)", r->name);
    if (r->copy[0].header_ok && r->copy[1].header_ok && header[0].crc != header[1].crc)
        return replay_fail(r, -EIO, "%s and .b are not copies of one log", r->name);
    r->header = header[r->copy[0].header_ok ? 0 : 1];
    if (r->header.size_bytes > MAX(r->copy[0].file_bytes, r->copy[1].file_bytes))
        return replay_fail(r, -EIO, "%s and .b are shorter than they say", r->name);
    return 0;
}

/* ---- one frame ---- */

static int apply_record(struct meta_replay *r, const struct meta_frame *f,
                        struct meta_record *record)
{
    int rc = meta_record_decode(f->payload, f->payload_len, &r->arena, record);
    if (rc != 0)
        return rc;
    if (r->snapshot_done)
        return meta_image_change(r->image, record, META_CHANGE_REPLAY);
    if (r->snapshot_left == 0 ||
        (record->kind != META_DIR_ADD && record->kind != META_BROKER_CONFIG &&
         record->kind != META_TOPIC_CREATE))
        return -EBADMSG;
    r->snapshot_left--;
    return meta_image_change(r->image, record, META_CHANGE_RESTORE);
}

static int apply_begin(struct meta_replay *r, const struct meta_frame *f)
{
    int rc = meta_snapshot_begin_decode(f->payload, f->payload_len, &r->begin);
    if (rc != 0 || r->snapshot_begun)
        return -EBADMSG;
    if (r->begin.topics_n > r->header.size_bytes / META_FRAME_BYTES)
        return -EBADMSG;
    r->snapshot_begun = true;
    r->snapshot_left = r->begin.dirs_n + r->begin.layers_n + r->begin.topics_n;
    r->image->version = r->begin.version;
    r->image->cluster_id = r->begin.cluster_id;
    r->image->next_number = r->begin.next_number;
    r->image->next_producer_id = (int64_t)r->begin.next_producer_id;
    r->image->shards = r->begin.shards;
    r->image->clean = r->begin.clean;
    return 0;
}

static int apply_end(struct meta_replay *r)
{
    if (!r->snapshot_begun || r->snapshot_done || r->snapshot_left != 0)
        return -EBADMSG;
    r->snapshot_done = true;
    return 0;
}

static int apply_frame(struct meta_replay *r, const struct meta_frame *f)
{
    struct meta_record record;
    int rc = -EBADMSG;
    arena_reset(&r->arena);
    if (f->kind == META_FRAME_SNAPSHOT_BEGIN)
        rc = apply_begin(r, f);
    else if (f->kind == META_FRAME_SNAPSHOT_END)
        rc = apply_end(r);
    else if (r->snapshot_begun)
        rc = apply_record(r, f, &record);
    if (rc == 0 && r->on_frame != NULL)
        r->on_frame(r->on_frame_arg, f, r->end_bytes,
                    f->kind == META_FRAME_RECORD ? &record : NULL);
    return rc;
}

/* ---- the chain ---- */

static bool zero_from(const uint8_t *bytes, uint64_t at, uint64_t end)
{
    for (; at < end && at % 8 != 0; at++)
        if (bytes[at] != 0)
            return false;
    for (; at < end; at += 8)
        if (le_load64(bytes + at) != 0)
            return false;
    return true;
}

/* The next frame from whichever copy has it; notes where each copy's own chain ends. */
static bool frame_next(struct meta_replay *r, struct meta_frame *ret)
{
    uint64_t size = r->header.size_bytes;
    bool found = false;
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        struct meta_copy *c = &r->copy[i];
        struct meta_frame f;
        if (meta_frame_open(c->bytes + r->end_bytes, size - r->end_bytes, r->crc, r->sequence + 1,
                            &f) == 0) {
            *ret = f;
            found = true;
        } else if (!c->chain_ends) {
            c->chain_ends = true;
            c->break_pos = r->end_bytes;
            c->whole = c->exists && c->header_ok && !c->odd_size &&
                       zero_from(c->bytes, r->end_bytes, size);
        }
    }
    return found;
}

static int replay_chain(struct meta_replay *r)
{
    struct meta_frame f;
    while (frame_next(r, &f)) {
        int rc = apply_frame(r, &f);
        if (rc == -ENOMEM)
            return rc;
        if (rc != 0)
            return replay_fail(r, -EIO,
                               "%s and .b: record %" PRIu64 " at byte %" PRIu64
                               " says something impossible (%s)",
                               r->name, r->sequence + 1, r->end_bytes, strerror(-rc));
        memcpy(r->merged + r->end_bytes, f.payload - META_FRAME_BYTES, f.len_bytes);
        r->end_bytes += f.len_bytes;
        r->sequence++;
        r->crc = f.crc;
    }
    return 0;
}

int meta_replay_run(struct meta_replay *r)
{
    uint64_t size = r->header.size_bytes;
    r->merged = aligned_alloc(BLOCK_BYTES, size);
    if (r->merged == NULL)
        return -ENOMEM;
    memset(r->merged, 0, size);
    meta_header_encode(&r->header, r->merged);
    r->end_bytes = BLOCK_BYTES;
    r->crc = r->header.crc;
    arena_init(&r->arena, REPLAY_ARENA_BYTES);
    int rc = replay_chain(r);
    arena_fini(&r->arena);
    if (rc != 0)
        return rc;
    meta_image_sort(r->image);
    if (!r->snapshot_done || (!zero_from(r->copy[0].bytes, r->end_bytes, size) &&
                              !zero_from(r->copy[1].bytes, r->end_bytes, size)))
        return replay_fail(r, -EIO,
                           "%s and .b are both damaged at byte %" PRIu64 " (record %" PRIu64 ")",
                           r->name, r->end_bytes, r->sequence + 1);
    return 0;
}
