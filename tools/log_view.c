#include "tools/log_view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/shard/shard.h"
#include "io/env_dry.h"
#include "numa/mem.h"

#define MEMORY_BYTES (512ull << 20)     /* touched only as far as it is needed */
#define CHANGES_BYTES (8ull << 30)      /* of the dry environment, likewise */
#define NEW_JOURNAL_BYTES (16ull << 20) /* of one that is missing */
#define PRODUCER_EXPIRY_MS (86400000ull * 7)

struct recovery {
    struct env *env;
    struct mem_region region;
    struct buddy memory;
    struct log_config config;
    const char *dirs[META_DIRS_MAX];
};

/* ---- one shard ---- */

/* Data directories in the order that metadata has. */
static int dirs_fill(const struct log_tree *t, struct recovery *r, char *reason, size_t size)
{
    const struct meta_image *image = t->meta.replay.image;
    for (unsigned i = 0; i < image->dirs_n; i++) {
        for (unsigned k = 0; k < t->dirs.data_n; k++)
            if (memcmp(&t->dirs.data[k].id, &image->dirs[i], sizeof(image->dirs[i])) == 0)
                r->dirs[i] = t->dirs.data[k].path;
        if (r->dirs[i] == NULL) {
            char id[23];
            meta_uuid_text(&image->dirs[i], id);
            snprintf(reason, size, "the data directory with directory.id=%s is not given", id);
            return -ENOENT;
        }
    }
    r->config.data_dirs_n = image->dirs_n;
    return 0;
}

static int recovery_begin(const struct log_tree *t, struct recovery *r, char *reason, size_t size)
{
    *r = (struct recovery){.config = {
                               .journal_dir = t->journal_dir,
                               .journal_bytes = NEW_JOURNAL_BYTES,
                               .direct_min_bytes = 1u << 20,
                               .shards_n = t->meta.replay.image->shards,
                               .producer_expiry_ms = PRODUCER_EXPIRY_MS,
                           }};
    r->config.data_dirs = r->dirs;
    int rc = dirs_fill(t, r, reason, size);
    if (rc != 0)
        return rc;
    snprintf(reason, size, "out of memory");
    rc = mem_map(MEMORY_BYTES, MEM_NODE_ANY, &r->region);
    if (rc < 0)
        return rc;
    rc = buddy_init(&r->memory, r->region.base, r->region.len_bytes);
    if (rc == 0 && (rc = env_dry_create(CHANGES_BYTES, &r->env)) != 0)
        buddy_fini(&r->memory);
    if (rc != 0)
        mem_unmap(&r->region);
    r->config.memory = r->config.read_memory = &r->memory;
    return rc;
}

static void recovery_end(struct recovery *r)
{
    env_destroy(r->env);
    buddy_fini(&r->memory);
    mem_unmap(&r->region);
}

/* ---- one partition ---- */

/* Without a recovery: a segment a file, each up to the next one. */
static int segments_of_files(struct log_view *v)
{
    const struct log_partition *p = v->p;
    v->segments = calloc(p->files_n + 1, sizeof(*v->segments));
    if (v->segments == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < p->files_n; i++) {
        if (!p->files[i].has_log)
            continue;
        struct inspect_segment *seg = &v->segments[v->segments_n++];
        *seg = (struct inspect_segment){
            .base_offset = p->files[i].base_offset,
            .end_offset = INT64_MAX,
            .end_pos = p->files[i].file_bytes,
            .in_file_pos = p->files[i].file_bytes,
            .file_bytes = p->files[i].file_bytes,
            .sealed = p->files[i].has_index,
            .on_disk = true,
        };
        if (seg > v->segments)
            seg[-1].end_offset = seg->base_offset;
    }
    return 0;
}

static int view_run(const struct log_view_calls *calls, const struct log_shard *shard,
                    const struct log_partition *p)
{
    struct log_view v = {.p = p, .shard = shard};
    int rc;
    if (p->known != NULL)
        v.meta = &p->known->partitions[p->index];
    if (shard != NULL && shard->store != NULL)
        v.plog = log_store_find(shard->store, v.meta->number);
    if (v.plog != NULL) {
        inspect_log(v.plog, &v.log);
        rc = inspect_segments(v.plog, &v.segments, &v.segments_n);
    } else {
        rc = segments_of_files(&v);
    }
    int code = LOG_EXIT_USAGE;
    if (rc != 0)
        fprintf(stderr, "penstock log: %s-%d: %s\n", p->topic, p->index, strerror(-rc));
    else
        code = calls->on_view(calls->arg, &v);
    free(v.segments);
    return code;
}

static bool belongs(const struct log_partition *p, const struct log_shard *shard)
{
    return shard == NULL ? p->known == NULL
                         : p->known != NULL && p->known->partitions[p->index].shard == shard->id;
}

static int shard_views(const struct log_options *o, struct log_tree *t,
                       const struct log_view_calls *calls, const struct log_shard *shard)
{
    int code = LOG_EXIT_FINE;
    for (unsigned i = 0; calls->on_view != NULL && i < t->partitions_n; i++) {
        const struct log_partition *p = &t->partitions[i];
        if (log_options_want(o, p->topic, p->index) && belongs(p, shard))
            code = log_worse(code, view_run(calls, shard, p));
    }
    return code;
}

static int shard_run(const struct log_options *o, struct log_tree *t,
                     const struct log_view_calls *calls, unsigned id)
{
    struct log_shard shard = {.id = id};
    struct recovery r;
    enum log_level level = logger_level;
    logger_level = LOG_OFF; /* what it finds is said by whoever asked */
    shard.rc = recovery_begin(t, &r, shard.reason, sizeof(shard.reason));
    bool begun = shard.rc == 0;
    if (begun)
        shard.rc = log_store_open(r.env, id, &r.config, t->meta.replay.image, &shard.store,
                                  shard.reason, sizeof(shard.reason));
    int code = calls->on_shard == NULL ? LOG_EXIT_FINE : calls->on_shard(calls->arg, &shard);
    code = log_worse(code, shard_views(o, t, calls, &shard));
    if (shard.store != NULL)
        log_store_abandon(shard.store);
    if (begun)
        recovery_end(&r);
    logger_level = level;
    return code;
}

int views_run(const struct log_options *o, struct log_tree *t, const struct log_view_calls *calls)
{
    int code = LOG_EXIT_FINE;
    const struct meta_image *image = t->meta.replay.image;
    for (unsigned id = 0; image != NULL && id < image->shards; id++)
        code = log_worse(code, shard_run(o, t, calls, id));
    return log_worse(code, shard_views(o, t, calls, NULL));
}

/* ---- segments ---- */

const struct log_segment_file *view_file(const struct log_view *v, int64_t base_offset)
{
    for (unsigned i = 0; i < v->p->files_n; i++)
        if (v->p->files[i].base_offset == base_offset)
            return &v->p->files[i];
    return NULL;
}

int segment_open_view(const struct log_view *v, unsigned i, uint64_t window_bytes,
                      struct log_segment *ret)
{
    const struct inspect_segment *seg = &v->segments[i];
    const char *dir = v->p->path == NULL ? "" : v->p->path;
    if (v->plog == NULL)
        return segment_open(dir, seg->base_offset, seg->end_offset, window_bytes, ret);
    struct inspect_bytes *bytes;
    int rc = inspect_segment_open(v->plog, seg, window_bytes, &bytes);
    if (rc == 0)
        rc = segment_open_bytes(dir, &v->log, seg, bytes, ret);
    return rc;
}
