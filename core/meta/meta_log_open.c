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
#include "core/meta/meta_log_private.h"

#define READ_BYTES (1u << 20)

struct opening {
    struct meta_log *log;
    struct meta_replay r;
    char **names; /* files of ours that are not of this generation */
    unsigned names_n;
};

__attribute__((format(printf, 3, 4))) static int open_fail(struct opening *o, int rc,
                                                           const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (o->r.reason_size > 0)
        vsnprintf(o->r.reason, o->r.reason_size, fmt, ap);
    va_end(ap);
    return rc;
}

/* ---- finding ---- */

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
        if (meta_name_parse(name, &generation, &copy))
            newest = MAX(newest, generation);
    name = list;
    for (size_t i = 0; i < count; i++, name += strlen(name) + 1) {
        bool ours = meta_name_parse(name, &generation, &copy);
        int rc = 0;
        if (ours && generation == newest)
            o->r.copy[copy].exists = true;
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
    struct meta_copy *c = &o->r.copy[i];
    int rc = env_read_wait(o->log->env, o->log->now.file[i], c->bytes + at, len, at);
    if (rc == (int)len)
        return;
    if (len > BLOCK_BYTES) { /* find the blocks that cannot be read */
        for (uint64_t off = 0; off < len; off += BLOCK_BYTES)
            range_read(o, i, at + off, BLOCK_BYTES);
        return;
    }
    memset(c->bytes + at, META_UNREADABLE, len);
}

static int copy_read(struct opening *o, unsigned i)
{
    struct meta_copy *c = &o->r.copy[i];
    uint64_t size = o->r.header.size_bytes, there = MIN(c->file_bytes, size);
    c->bytes = aligned_alloc(BLOCK_BYTES, size);
    if (c->bytes == NULL)
        return -ENOMEM;
    memset(c->bytes, META_UNREADABLE, size);
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
    o->r.copy[i].file_bytes = step.ret_size_bytes;
    return 0;
}

/* A header counts when it is whole and of the generation that the file is named after. */
static bool header_read(struct opening *o, unsigned i, uint8_t *block, struct meta_header *ret)
{
    if (!o->r.copy[i].exists || o->r.copy[i].file_bytes < BLOCK_BYTES)
        return false;
    int rc = env_read_wait(o->log->env, o->log->now.file[i], block, BLOCK_BYTES, 0);
    return rc == BLOCK_BYTES && meta_header_fits(block, o->log->now.number, ret);
}

static int headers_read(struct opening *o)
{
    struct meta_header header[META_LOG_COPIES];
    uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (block == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < META_LOG_COPIES; i++)
        o->r.copy[i].header_ok = header_read(o, i, block, &header[i]);
    free(block);
    return meta_replay_headers(&o->r, header);
}

/* ---- repairing ---- */

static int blocks_repair(struct opening *o, unsigned i)
{
    uint64_t size = o->r.header.size_bytes;
    const uint8_t *have = o->r.copy[i].bytes, *want = o->r.merged;
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
    uint64_t len = block_ceil(o->r.end_bytes);
    int rc = meta_log_path(log, log->now.number, i, ".new", log->new_name[i]);
    if (rc != 0)
        return rc;
    struct env_name_step make[] = {
        {.kind = ENV_STEP_UNLINK, .path = log->new_name[i]},
        {.kind = ENV_STEP_PREWRITE, .path = log->new_name[i], .size_bytes = o->r.header.size_bytes},
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
    rc = env_write_wait(log->env, log->now.file[i], o->r.merged, len, 0, ENV_DSYNC);
    if (rc != (int)len)
        return rc < 0 ? rc : -EIO;
    return env_names_wait(log->env, take, ARRAY_LEN(take));
}

static int copy_repair(struct opening *o, unsigned i)
{
    struct meta_copy *c = &o->r.copy[i];
    bool remake = !c->exists || c->odd_size;
    if (!remake && memcmp(c->bytes, o->r.merged, o->r.header.size_bytes) == 0)
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
            int rc = o->r.copy[i].whole == (bool)whole ? copy_repair(o, i) : 0;
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
    o->r.name = log->name[0];
    for (unsigned i = 0; rc == 0 && i < META_LOG_COPIES; i++)
        if (o->r.copy[i].exists)
            rc = copy_open(o, i);
    if (rc == 0)
        rc = headers_read(o);
    for (unsigned i = 0; rc == 0 && i < META_LOG_COPIES; i++)
        rc = copy_read(o, i);
    if (rc == 0)
        rc = meta_replay_run(&o->r);
    if (rc == 0)
        rc = copies_repair(o);
    if (rc == 0)
        rc = leftovers_remove(o);
    if (rc == 0)
        rc = meta_log_buf_reserve(log, BLOCK_BYTES);
    if (rc != 0)
        return rc;
    log->now.size_bytes = o->r.header.size_bytes;
    log->now.end_bytes = o->r.end_bytes;
    log->now.sequence = o->r.sequence;
    log->now.crc = o->r.crc;
    if (o->r.end_bytes < o->r.header.size_bytes)
        memcpy(log->buf, o->r.merged + block_floor(o->r.end_bytes), BLOCK_BYTES);
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
        rc = meta_log_switch_wait(o->log, o->r.image);
    return rc == 0 ? 0 : open_fail(o, rc, "cannot make a metadata log in %s", o->log->dir);
}

static void opening_free(struct opening *o)
{
    for (unsigned i = 0; i < META_LOG_COPIES; i++)
        free(o->r.copy[i].bytes);
    for (unsigned i = 0; i < o->names_n; i++)
        free(o->names[i]);
    free(o->names);
    free(o->r.merged);
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
    struct opening o = {.r = {.reason = reason, .reason_size = reason_size}};
    if (strlen(dir) >= PATH_MAX)
        return open_fail(&o, -ENAMETOOLONG, "the name of the directory is too long");
    open_fail(&o, 0, "out of memory or name too long");
    o.log = log_alloc(env, dir, size_min_bytes);
    o.r.image = meta_image_create(defaults);
    int rc = o.log == NULL || o.r.image == NULL ? -ENOMEM : opening_run(&o);
    opening_free(&o);
    if (rc != 0) {
        meta_image_destroy(o.r.image);
        if (o.log != NULL)
            meta_log_free(o.log);
        return rc;
    }
    *ret = o.log;
    *ret_image = o.r.image;
    return 0;
}

int meta_log_open(struct env *env, const char *dir, const struct topic_config *defaults,
                  struct meta_log **ret, struct meta_image **ret_image, char *reason,
                  size_t reason_size)
{
    return meta_log_open_sized(env, dir, defaults, META_LOG_SIZE_MIN, ret, ret_image, reason,
                               reason_size);
}
