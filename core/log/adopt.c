/* adopt.c: behind the replay: segments that the checkpoint promised more of, files that the
 * checkpoint does not list because they were sealed since, files that never counted. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"
#include "core/log/replay.h"

/* What the checkpoint counted is there, or its place is kept and it is named. */
static int check_promises(struct replay *r, struct plog *p)
{
    for (struct segment *seg = plog_first_open(p); seg != NULL;) {
        struct segment *next = segment_next(seg);
        if (seg->end_pos < seg->recovered_pos) {
            int64_t to = next != NULL ? next->base_offset : p->recovered_offset;
            r->losses++;
            int rc = segment_fill_lost(seg, seg->recovered_pos, to, "damaged journal writes");
            if (rc != 0)
                return rc;
        }
        seg = next;
    }
    if (p->hole && p->hole_end > p->end_offset)
        log_warn(
            "%s: the log ends at offset %lld: offsets up to %lld are in journal writes that the "
            "crash tore, or that were damaged since, acknowledged or not",
            p->name, (long long)p->end_offset, (long long)p->hole_end - 1);
    return 0;
}

static int compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool segment_known(const struct plog *p, int64_t base_offset)
{
    list_for_each(it, &p->segments)
        if (container_of(it, struct segment, link)->base_offset == base_offset)
            return true;
    return false;
}

/* So that sizes of partitions are right before their segments are read. What its file does not tell
 * now it tells when it is opened. */
static void ask_size(struct segment *seg)
{
    char path[PATH_MAX];
    struct env_name_step stat = {.kind = ENV_STEP_STAT,
                                 .path = segment_path(seg, ".log", path, sizeof(path))};
    int rc = env_names_wait(seg->plog->store->env, &stat, 1);
    if (rc != 0 || stat.ret_size_bytes == 0 || stat.ret_size_bytes > INT32_MAX)
        return;
    seg->end_pos = seg->queued_pos = seg->stable_pos = seg->destaged_pos = stat.ret_size_bytes;
    seg->size_known = true;
}

static int add_sealed(struct plog *p, int64_t *bases, size_t n, int64_t end_offset)
{
    qsort(bases, n, sizeof(*bases), compare_i64);
    for (size_t i = 0; i < n; i++) {
        if (segment_known(p, bases[i])) /* sealed while replaying */
            continue;
        struct segment *seg = segment_create(p, bases[i]);
        if (seg == NULL)
            return -ENOMEM;
        seg->state = SEGMENT_SEALED;
        seg->end_offset = i + 1 < n ? bases[i + 1] : end_offset;
        seg->on_disk = true;
        seg->size_known = seg->index_complete = false;
        ask_size(seg);
    }
    return 0;
}

static bool segment_base_of(const char *name, int64_t *ret)
{
    char *end;
    if (strlen(name) != 24 || strcmp(name + 20, ".log") != 0)
        return false;
    *ret = strtoll(name, &end, 10);
    return end == name + 20 && *ret >= 0;
}

static bool is_open_segment(const struct plog *p, int64_t base_offset)
{
    for (struct segment *seg = plog_first_open(p); seg != NULL; seg = segment_next(seg))
        if (seg->base_offset == base_offset)
            return true;
    return false;
}

static void unlink_stale(struct plog *p, int64_t base_offset)
{
    char paths[3][PATH_MAX];
    static const char *const suffix[3] = {".log", ".index", ".timeindex"};
    struct env_name_step steps[4];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(paths[i], PATH_MAX, "%.3900s/%020lld%s", p->path, (long long)base_offset,
                 suffix[i]);
        steps[i] = (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = paths[i]};
    }
    steps[3] = (struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = p->path};
    log_info("%s: removing the file of segment %lld, which never counted", p->name,
             (long long)base_offset);
    env_names_wait(p->store->env, steps, ARRAY_LEN(steps));
}

/* Perhaps it does count, and what said so is damaged: kept for the operator under another name. */
static void put_aside(struct plog *p, int64_t base_offset)
{
    char path[PATH_MAX], aside[PATH_MAX];
    snprintf(path, sizeof(path), "%.3900s/%020lld.log", p->path, (long long)base_offset);
    snprintf(aside, sizeof(aside), "%.4000s.%016llx-stray", path,
             (unsigned long long)env_random(p->store->env));
    struct env_name_step steps[] = {{.kind = ENV_STEP_RENAME, .path = path, .path2 = aside},
                                    {.kind = ENV_STEP_SYNC_DIR, .path = p->path}};
    int rc = env_names_wait(p->store->env, steps, ARRAY_LEN(steps));
    log_warn("%s: nothing that can be read says what segment %lld holds, kept as %s%s%s", p->name,
             (long long)base_offset, aside, rc == 0 ? "" : ": ", rc == 0 ? "" : strerror(-rc));
}

/* Sealed segments are the files below the first open one. A file above that is no open segment's
 * was made for records that a crash took away: it must go before the log gets there again. */
static int adopt_files(struct plog *p, bool clean, bool lossy)
{
    struct segment *open = plog_first_open(p);
    int64_t end_offset = open != NULL ? open->base_offset : p->end_offset, base;
    if (clean && (!p->dir_ready || p->log_start >= end_offset))
        return 0;
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = p->path};
    int rc = env_names_wait(p->store->env, &list, 1);
    if (rc != 0)
        return rc == -ENOENT && p->log_start >= end_offset ? 0 : rc;
    int64_t *bases = malloc((list.ret_count + 1) * sizeof(*bases));
    size_t n = 0;
    const char *name = list.ret_data;
    for (size_t i = 0; bases != NULL && i < list.ret_count; i++, name += strlen(name) + 1) {
        if (!segment_base_of(name, &base))
            continue;
        if (base < end_offset)
            bases[n++] = base;
        else if (!is_open_segment(p, base) && lossy)
            put_aside(p, base);
        else if (!is_open_segment(p, base))
            unlink_stale(p, base);
    }
    rc = bases == NULL ? -ENOMEM : add_sealed(p, bases, n, end_offset);
    free(bases);
    free(list.ret_data);
    return rc;
}

int adopt_segments(struct replay *r, bool clean)
{
    struct plog *p;
    for (size_t it = 0; (p = map_next(&r->s->plogs, &it)) != NULL;) {
        if (p->offline)
            continue;
        if (!clean)
            trim_replayed(p);
        int rc = compact_finish_swaps(p);
        if (rc == 0)
            rc = check_promises(r, p);
        if (rc == 0)
            rc = adopt_files(p, clean, r->losses > 0);
        if (rc == -ENOMEM)
            return rc;
        if (rc != 0) /* the others go on */
            plog_fence(p, rc, "looking for its segments");
        plog_trim(p);
    }
    return 0;
}
