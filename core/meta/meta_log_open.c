/* Opening the metadata log: find the newest generation, replay the two copies as one, repair what
 * is damaged, torn or missing.
 *
 * What a crash can leave: copy a torn in the blocks that were being written (b is whole), or a
 * whole and b torn or behind (a is whole). So one copy at least is whole: a chain of frames, then
 * zeros to the end of the file. A copy that is not whole is rewritten first, while the other stays
 * as it is. When neither ends in zeros, records are missing from both: that is reported, never
 * guessed. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/meta/meta_codec.h"
#include "core/meta/meta_log_private.h"

#define READ_BYTES (1u << 20)
#define UNREADABLE 0xa5 /* stands for bytes that could not be read: never zero, never a frame */
#define REPLAY_ARENA_BYTES ((size_t)META_LOG_SIZE_MAX)

struct copy {
    bool exists, odd_size, header_ok;
    bool whole;      /* its own chain, then zeros */
    bool chain_ends; /* while walking: its own chain broke before */
    uint64_t file_bytes;
    uint8_t *bytes; /* header.size_bytes of them */
};

struct opening {
    struct meta_log *log;
    struct copy copy[META_LOG_COPIES];
    struct meta_header header;
    uint8_t *merged; /* what both files shall hold */
    uint64_t end_bytes, sequence;
    uint32_t crc;
    struct arena arena; /* of one record */
    struct meta_image *image;
    struct meta_snapshot_begin begin;
    unsigned snapshot_left; /* records until its end frame */
    bool snapshot_begun, snapshot_done;
    char **names; /* files of ours that are not of this generation */
    unsigned names_n;
    char *reason;
    size_t reason_size;
};

__attribute__((format(printf, 3, 4))) static int open_fail(struct opening *o, int rc,
                                                           const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (o->reason_size > 0)
        vsnprintf(o->reason, o->reason_size, fmt, ap);
    va_end(ap);
    return rc;
}

/* ---- finding ---- */

/* penstock-metadata.<generation>.<a|b>, nothing behind it. */
static bool name_parse(const char *name, uint64_t *ret_generation, unsigned *ret_copy)
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

static bool name_is_unfinished(const char *name)
{
    size_t len = strlen(name), prefix = strlen(META_LOG_PREFIX);
    return strncmp(name, META_LOG_PREFIX, prefix) == 0 && len > 4 &&
           strcmp(name + len - 4, ".new") == 0;
}

static int name_keep(struct opening *o, const char *name)
{
    char **names = realloc(o->names, (o->names_n + 1) * sizeof(*names));
    if (names == NULL)
        return -ENOMEM;
    o->names = names;
    if (asprintf(&names[o->names_n], "%s/%s", o->log->dir, name) < 0)
        return -ENOMEM;
    o->names_n++;
    return 0;
}

/* The newest generation there is, or 0; its copies, and the names of all that is to be removed. */
static int names_sort(struct opening *o, const char *list, size_t count, uint64_t *ret_generation)
{
    uint64_t newest = 0, generation;
    unsigned copy;
    const char *name = list;
    for (size_t i = 0; i < count; i++, name += strlen(name) + 1)
        if (name_parse(name, &generation, &copy))
            newest = MAX(newest, generation);
    name = list;
    for (size_t i = 0; i < count; i++, name += strlen(name) + 1) {
        bool ours = name_parse(name, &generation, &copy);
        int rc = 0;
        if (ours && generation == newest)
            o->copy[copy].exists = true;
        else if (ours || name_is_unfinished(name))
            rc = name_keep(o, name);
        if (rc != 0)
            return rc;
    }
    *ret_generation = newest;
    return 0;
}

static int generation_find(struct opening *o, uint64_t *ret_generation)
{
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = o->log->dir};
    int rc = env_names_wait(o->log->env, &list, 1);
    if (rc != 0)
        return open_fail(o, rc, "cannot list %s", o->log->dir);
    rc = names_sort(o, list.ret_data, list.ret_count, ret_generation);
    free(list.ret_data);
    return rc;
}

/* ---- reading ---- */

static void range_read(struct opening *o, unsigned i, uint64_t at, uint64_t len)
{
    struct copy *c = &o->copy[i];
    int rc = env_read_wait(o->log->env, o->log->now.file[i], c->bytes + at, len, at);
    if (rc == (int)len)
        return;
    if (len > BLOCK_BYTES) { /* find the blocks that cannot be read */
        for (uint64_t off = 0; off < len; off += BLOCK_BYTES)
            range_read(o, i, at + off, BLOCK_BYTES);
        return;
    }
    memset(c->bytes + at, UNREADABLE, len);
}

static int copy_read(struct opening *o, unsigned i)
{
    struct copy *c = &o->copy[i];
    uint64_t size = o->header.size_bytes, there = MIN(c->file_bytes, size);
    c->bytes = aligned_alloc(BLOCK_BYTES, size);
    if (c->bytes == NULL)
        return -ENOMEM;
    memset(c->bytes, UNREADABLE, size);
    if (!c->exists)
        return 0;
    c->odd_size = c->file_bytes != size;
    there = block_floor(there);
    for (uint64_t at = 0; at < there; at += READ_BYTES)
        range_read(o, i, at, MIN((uint64_t)READ_BYTES, there - at));
    return 0;
}

static int copy_open(struct opening *o, unsigned i)
{
    struct meta_log *log = o->log;
    struct env_name_step step = {.kind = ENV_STEP_OPEN, .path = log->name[i]};
    int rc = env_names_wait(log->env, &step, 1);
    if (rc != 0)
        return open_fail(o, rc, "cannot open %s", log->name[i]);
    log->now.file[i] = step.ret_file;
    o->copy[i].file_bytes = step.ret_size_bytes;
    return 0;
}

/* A header counts when it is whole and of the generation that the file is named after. */
static bool header_read(struct opening *o, unsigned i, uint8_t *block, struct meta_header *ret)
{
    if (!o->copy[i].exists || o->copy[i].file_bytes < BLOCK_BYTES)
        return false;
    int rc = env_read_wait(o->log->env, o->log->now.file[i], block, BLOCK_BYTES, 0);
    return rc == BLOCK_BYTES && meta_header_decode(block, ret) == 0 &&
           ret->generation == o->log->now.number && ret->size_bytes % BLOCK_BYTES == 0 &&
           ret->size_bytes > BLOCK_BYTES && ret->size_bytes <= META_LOG_SIZE_MAX;
}

static int headers_read(struct opening *o)
{
    struct meta_header header[META_LOG_COPIES];
    uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (block == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < META_LOG_COPIES; i++)
        o->copy[i].header_ok = header_read(o, i, block, &header[i]);
    free(block);
    if (!o->copy[0].header_ok && !o->copy[1].header_ok)
        return open_fail(o, -EIO, "%s and .b: neither copy has a valid header (byte 0)",
                         o->log->name[0]);
    if (o->copy[0].header_ok && o->copy[1].header_ok && header[0].crc != header[1].crc)
        return open_fail(o, -EIO, "%s and .b are not copies of one log", o->log->name[0]);
    o->header = header[o->copy[0].header_ok ? 0 : 1];
    if (o->header.size_bytes > MAX(o->copy[0].file_bytes, o->copy[1].file_bytes))
        return open_fail(o, -EIO, "%s and .b are shorter than they say", o->log->name[0]);
    return 0;
}

/* ---- replaying ---- */

static int replay_record(struct opening *o, const struct meta_frame *f)
{
    struct meta_record r;
    arena_reset(&o->arena);
    int rc = meta_record_decode(f->payload, f->payload_len, &o->arena, &r);
    if (rc != 0)
        return rc;
    if (o->snapshot_done)
        return meta_image_change(o->image, &r, META_CHANGE_REPLAY);
    if (o->snapshot_left == 0 || (r.kind != META_DIR_ADD && r.kind != META_TOPIC_CREATE))
        return -EBADMSG;
    o->snapshot_left--;
    return meta_image_change(o->image, &r, META_CHANGE_RESTORE);
}

static int replay_begin(struct opening *o, const struct meta_frame *f)
{
    int rc = meta_snapshot_begin_decode(f->payload, f->payload_len, &o->begin);
    if (rc != 0 || o->snapshot_begun)
        return -EBADMSG;
    if (o->begin.topics_n > o->header.size_bytes / META_FRAME_BYTES)
        return -EBADMSG;
    o->snapshot_begun = true;
    o->snapshot_left = o->begin.dirs_n + o->begin.topics_n;
    o->image->version = o->begin.version;
    o->image->cluster_id = o->begin.cluster_id;
    o->image->next_number = o->begin.next_number;
    o->image->next_producer_id = (int64_t)o->begin.next_producer_id;
    o->image->shards = o->begin.shards;
    o->image->clean = o->begin.clean;
    return 0;
}

static int replay_frame(struct opening *o, const struct meta_frame *f)
{
    switch (f->kind) {
    case META_FRAME_SNAPSHOT_BEGIN:
        return replay_begin(o, f);
    case META_FRAME_RECORD:
        return o->snapshot_begun ? replay_record(o, f) : -EBADMSG;
    case META_FRAME_SNAPSHOT_END:
        if (!o->snapshot_begun || o->snapshot_done || o->snapshot_left != 0)
            return -EBADMSG;
        o->snapshot_done = true;
        return 0;
    }
    return -EBADMSG;
}

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
static bool frame_next(struct opening *o, struct meta_frame *ret)
{
    uint64_t size = o->header.size_bytes;
    bool found = false;
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        struct copy *c = &o->copy[i];
        struct meta_frame f;
        if (meta_frame_open(c->bytes + o->end_bytes, size - o->end_bytes, o->crc, o->sequence + 1,
                            &f) == 0) {
            *ret = f;
            found = true;
        } else if (!c->chain_ends) {
            c->chain_ends = true;
            c->whole = c->exists && c->header_ok && !c->odd_size &&
                       zero_from(c->bytes, o->end_bytes, size);
        }
    }
    return found;
}

static int replay(struct opening *o)
{
    struct meta_log *log = o->log;
    struct meta_frame f;
    o->merged = aligned_alloc(BLOCK_BYTES, o->header.size_bytes);
    if (o->merged == NULL)
        return -ENOMEM;
    memset(o->merged, 0, o->header.size_bytes);
    meta_header_encode(&o->header, o->merged);
    o->end_bytes = BLOCK_BYTES;
    o->crc = o->header.crc;
    while (frame_next(o, &f)) {
        int rc = replay_frame(o, &f);
        if (rc == -ENOMEM)
            return rc;
        if (rc != 0)
            return open_fail(o, -EIO,
                             "%s and .b: record %" PRIu64 " at byte %" PRIu64
                             " says something impossible (%s)",
                             log->name[0], o->sequence + 1, o->end_bytes, strerror(-rc));
        memcpy(o->merged + o->end_bytes, f.payload - META_FRAME_BYTES, f.len_bytes);
        o->end_bytes += f.len_bytes;
        o->sequence++;
        o->crc = f.crc;
    }
    meta_image_sort(o->image);
    uint64_t size = o->header.size_bytes;
    if (!o->snapshot_done || (!zero_from(o->copy[0].bytes, o->end_bytes, size) &&
                              !zero_from(o->copy[1].bytes, o->end_bytes, size)))
        return open_fail(o, -EIO,
                         "%s and .b are both damaged at byte %" PRIu64 " (record %" PRIu64 ")",
                         log->name[0], o->end_bytes, o->sequence + 1);
    return 0;
}

/* ---- repairing ---- */

static int blocks_repair(struct opening *o, unsigned i)
{
    uint64_t size = o->header.size_bytes;
    const uint8_t *have = o->copy[i].bytes, *want = o->merged;
    for (uint64_t at = 0; at < size;) {
        uint64_t end = at;
        while (end < size && memcmp(have + end, want + end, BLOCK_BYTES) != 0)
            end += BLOCK_BYTES;
        if (end == at) {
            at += BLOCK_BYTES;
            continue;
        }
        int rc =
            env_write_wait(o->log->env, o->log->now.file[i], want + at, end - at, at, ENV_DSYNC);
        if (rc != (int)(end - at))
            return rc < 0 ? rc : -EIO;
        at = end;
    }
    return 0;
}

/* A missing copy, or one of the wrong size, is made anew beside and takes the name when complete.
 */
static int copy_remake(struct opening *o, unsigned i)
{
    struct meta_log *log = o->log;
    uint64_t len = block_ceil(o->end_bytes);
    int rc = meta_log_path(log, log->now.number, i, ".new", log->new_name[i]);
    if (rc != 0)
        return rc;
    struct env_name_step make[] = {
        {.kind = ENV_STEP_UNLINK, .path = log->new_name[i]},
        {.kind = ENV_STEP_PREWRITE, .path = log->new_name[i], .size_bytes = o->header.size_bytes},
    };
    struct env_name_step take[] = {
        {.kind = ENV_STEP_RENAME, .path = log->new_name[i], .path2 = log->name[i]},
        {.kind = ENV_STEP_SYNC_DIR, .path = log->dir},
    };
    if (log->now.file[i] != NULL)
        env_file_close(log->env, log->now.file[i]);
    log->now.file[i] = NULL;
    rc = env_names_wait(log->env, make, ARRAY_LEN(make));
    if (rc != 0)
        return rc;
    log->now.file[i] = make[1].ret_file;
    rc = env_write_wait(log->env, log->now.file[i], o->merged, len, 0, ENV_DSYNC);
    if (rc != (int)len)
        return rc < 0 ? rc : -EIO;
    return env_names_wait(log->env, take, ARRAY_LEN(take));
}

static int copy_repair(struct opening *o, unsigned i)
{
    struct copy *c = &o->copy[i];
    bool remake = !c->exists || c->odd_size;
    if (!remake && memcmp(c->bytes, o->merged, o->header.size_bytes) == 0)
        return 0;
    int rc = remake ? copy_remake(o, i) : blocks_repair(o, i);
    if (rc != 0)
        return open_fail(o, rc, "cannot repair %s from the other copy: %s", o->log->name[i],
                         strerror(-rc));
    if (!c->whole)
        log_warn("%s was %s and is repaired from the other copy", o->log->name[i],
                 c->exists ? "torn or damaged" : "missing");
    return 0;
}

static int copies_repair(struct opening *o)
{
    for (unsigned whole = 0; whole < 2; whole++)
        for (unsigned i = 0; i < META_LOG_COPIES; i++) {
            int rc = o->copy[i].whole == (bool)whole ? copy_repair(o, i) : 0;
            if (rc != 0)
                return rc;
        }
    /* What was read may have been written by a killed process and never flushed. */
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        int rc = env_flush_wait(o->log->env, o->log->now.file[i]);
        if (rc != 0)
            return open_fail(o, rc, "cannot flush %s", o->log->name[i]);
    }
    return 0;
}

/* The names of this generation must be durable before those of others go. */
static int leftovers_remove(struct opening *o)
{
    struct env_name_step *steps = calloc(o->names_n + 2, sizeof(*steps));
    if (steps == NULL)
        return -ENOMEM;
    steps[0] = (struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = o->log->dir};
    for (unsigned i = 0; i < o->names_n; i++)
        steps[i + 1] = (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = o->names[i]};
    steps[o->names_n + 1] = steps[0];
    int rc = env_names_wait(o->log->env, steps, o->names_n == 0 ? 1 : o->names_n + 2);
    free(steps);
    return rc == 0 ? 0 : open_fail(o, rc, "cannot tidy up %s", o->log->dir);
}

/* ---- opening ---- */

static int generation_open(struct opening *o)
{
    struct meta_log *log = o->log;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < META_LOG_COPIES; i++)
        rc = meta_log_path(log, log->now.number, i, "", log->name[i]);
    for (unsigned i = 0; rc == 0 && i < META_LOG_COPIES; i++)
        if (o->copy[i].exists)
            rc = copy_open(o, i);
    if (rc == 0)
        rc = headers_read(o);
    for (unsigned i = 0; rc == 0 && i < META_LOG_COPIES; i++)
        rc = copy_read(o, i);
    if (rc == 0)
        rc = replay(o);
    if (rc == 0)
        rc = copies_repair(o);
    if (rc == 0)
        rc = leftovers_remove(o);
    if (rc == 0)
        rc = meta_log_buf_reserve(log, BLOCK_BYTES);
    if (rc != 0)
        return rc;
    log->now.size_bytes = o->header.size_bytes;
    log->now.end_bytes = o->end_bytes;
    log->now.sequence = o->sequence;
    log->now.crc = o->crc;
    if (o->end_bytes < o->header.size_bytes)
        memcpy(log->buf, o->merged + block_floor(o->end_bytes), BLOCK_BYTES);
    return 0;
}

static int opening_run(struct opening *o)
{
    uint64_t generation = 0;
    int rc = generation_find(o, &generation);
    if (rc != 0)
        return rc;
    o->log->now.number = generation;
    if (generation > 0)
        return generation_open(o);
    rc = leftovers_remove(o);
    if (rc == 0)
        rc = meta_log_switch_wait(o->log, o->image);
    return rc == 0 ? 0 : open_fail(o, rc, "cannot make a metadata log in %s", o->log->dir);
}

static void opening_free(struct opening *o)
{
    for (unsigned i = 0; i < META_LOG_COPIES; i++)
        free(o->copy[i].bytes);
    for (unsigned i = 0; i < o->names_n; i++)
        free(o->names[i]);
    free(o->names);
    free(o->merged);
    arena_fini(&o->arena);
}

static struct meta_log *log_alloc(struct env *env, const char *dir, uint64_t size_min_bytes)
{
    struct meta_log *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return NULL;
    log->env = env;
    log->size_min_bytes = size_min_bytes;
    list_init(&log->waiting);
    list_init(&log->taken);
    snprintf(log->dir, sizeof(log->dir), "%s", dir);
    return log;
}

int meta_log_open_sized(struct env *env, const char *dir, const struct topic_config *defaults,
                        uint64_t size_min_bytes, struct meta_log **ret,
                        struct meta_image **ret_image, char *reason, size_t reason_size)
{
    ASSERT(size_min_bytes > 0 && size_min_bytes % BLOCK_BYTES == 0);
    struct opening o = {.reason = reason, .reason_size = reason_size};
    if (strlen(dir) >= PATH_MAX)
        return open_fail(&o, -ENAMETOOLONG, "the name of the directory is too long");
    open_fail(&o, 0, "out of memory or name too long");
    o.log = log_alloc(env, dir, size_min_bytes);
    o.image = meta_image_create(defaults);
    arena_init(&o.arena, REPLAY_ARENA_BYTES);
    int rc = o.log == NULL || o.image == NULL ? -ENOMEM : opening_run(&o);
    opening_free(&o);
    if (rc != 0) {
        meta_image_destroy(o.image);
        if (o.log != NULL)
            meta_log_free(o.log);
        return rc;
    }
    *ret = o.log;
    *ret_image = o.image;
    return 0;
}

int meta_log_open(struct env *env, const char *dir, const struct topic_config *defaults,
                  struct meta_log **ret, struct meta_image **ret_image, char *reason,
                  size_t reason_size)
{
    return meta_log_open_sized(env, dir, defaults, META_LOG_SIZE_MIN, ret, ret_image, reason,
                               reason_size);
}
