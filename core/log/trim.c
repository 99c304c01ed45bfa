/* trim.c: segments that lie below the start of their log give back their files.
 *
 * Happy path: log_start has moved, durably -> the partition is in store.trimming -> its first
 *   segments that are sealed and that nobody reads leave memory, some at a time -> their files are
 *   renamed into the pool and brought to their full size again, or unlinked; index files go -> both
 *   directories are synced -> the pool may hand them out.
 * Waits: for a segment that is read, walked, sent or sealed just now, and for those before it.
 * Not to the pool: what has been spliced, for receivers may still share its pages; and what
 *   somebody without disk space waits for.
 * Failure: what cannot be renamed is unlinked; what cannot be unlinked is found at the next start.
 * After a crash: see trim_replayed. Threads: the shard's. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define TRIM_SEGMENTS_MAX 8u /* in one list of names */
#define TRIM_STEPS_MAX (4 * TRIM_SEGMENTS_MAX + 2)
#define TRIM_PATHS 4u /* of each segment: log, its name in the pool, two indexes */

enum { AT_LOG, AT_POOL, AT_INDEX, AT_TIMEINDEX };

struct trim {
    struct env_op op;
    struct plog *plog;
    struct env_name_step steps[TRIM_STEPS_MAX];
    unsigned steps_n, segments_n;
    bool pooled[TRIM_SEGMENTS_MAX];
    char paths[TRIM_SEGMENTS_MAX][TRIM_PATHS][PATH_MAX];
};

static void trim_step(struct trim *t, enum env_step_kind kind, const char *path, const char *path2,
                      uint64_t size_bytes)
{
    ASSERT(t->steps_n < TRIM_STEPS_MAX);
    t->steps[t->steps_n++] = (struct env_name_step){
        .kind = kind, .path = path, .path2 = path2, .size_bytes = size_bytes};
}

static void trim_end(struct trim *t)
{
    struct plog *p = t->plog;
    p->trimming = false;
    p->store->jobs_n--;
    free(t);
    plog_trim(p);
    plog_unhold(p);
}

static void on_unlinked(struct env_op *op)
{
    struct trim *t = container_of(op, struct trim, op);
    if (op->res < 0)
        log_warn("%s: files below the start of the log could not be removed (%s)", t->plog->name,
                 strerror(-op->res));
    trim_end(t);
}

/* Not all could be done: nothing of it is to be kept. */
static void trim_unlink(struct trim *t)
{
    t->steps_n = 0;
    for (unsigned i = 0; i < t->segments_n; i++) {
        char(*paths)[PATH_MAX] = t->paths[i];
        for (unsigned k = 0; k < TRIM_PATHS; k++)
            if (k != AT_POOL || t->pooled[i])
                trim_step(t, ENV_STEP_UNLINK, paths[k], NULL, 0);
    }
    trim_step(t, ENV_STEP_SYNC_DIR, t->plog->path, NULL, 0);
    env_names(t->plog->store->env, &t->op, t->steps, t->steps_n, on_unlinked);
}

static void on_trimmed(struct env_op *op)
{
    struct trim *t = container_of(op, struct trim, op);
    struct plog *p = t->plog;
    if (op->res < 0) {
        trim_unlink(t);
        return;
    }
    for (unsigned i = 0; i < t->segments_n; i++)
        if (t->pooled[i])
            pool_added(p->store, p->dir, t->paths[i][AT_POOL]);
    trim_end(t);
}

static bool is_below_start(const struct segment *seg)
{
    return seg->end_offset <= seg->plog->log_start;
}

static bool segment_is_free(const struct segment *seg)
{
    return seg->state == SEGMENT_SEALED && seg->file_refs == 0 && seg->holds == 0 &&
           seg->load == NULL && list_empty(&seg->loads) && seg->file_state != SEGMENT_FILE_OPENING;
}

/* The segment leaves memory, its files are to follow. */
static void trim_add(struct trim *t, struct segment *seg)
{
    struct plog *p = seg->plog;
    struct log_store *s = p->store;
    char(*paths)[PATH_MAX] = t->paths[t->segments_n];
    uint64_t bytes = s->retry_ns == UINT64_MAX ? segment_pool_bytes(seg) : 0;
    bool pooled = bytes > 0 && pool_offer(s, p->dir, bytes, paths[AT_POOL], PATH_MAX);
    t->pooled[t->segments_n++] = pooled;
    segment_path(seg, ".log", paths[AT_LOG], PATH_MAX);
    segment_path(seg, ".index", paths[AT_INDEX], PATH_MAX);
    segment_path(seg, ".timeindex", paths[AT_TIMEINDEX], PATH_MAX);
    if (pooled) {
        trim_step(t, ENV_STEP_RENAME, paths[AT_LOG], paths[AT_POOL], 0);
        trim_step(t, ENV_STEP_RESIZE, paths[AT_POOL], NULL, bytes);
    } else {
        trim_step(t, ENV_STEP_UNLINK, paths[AT_LOG], NULL, 0);
    }
    trim_step(t, ENV_STEP_UNLINK, paths[AT_INDEX], NULL, 0);
    trim_step(t, ENV_STEP_UNLINK, paths[AT_TIMEINDEX], NULL, 0);
    counter_add(&s->counters.segments_trimmed, 1);
    counter_add(&s->counters.trimmed_bytes, seg->end_pos);
    scrub_forget(s, seg);
    segment_destroy(seg);
}

static struct segment *plog_first(const struct plog *p)
{
    return list_empty(&p->segments) ? NULL : container_of(p->segments.next, struct segment, link);
}

static void trim_start(struct plog *p)
{
    struct trim *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return;
    t->plog = p;
    for (struct segment *seg; t->segments_n < TRIM_SEGMENTS_MAX && (seg = plog_first(p)) != NULL;) {
        if (!is_below_start(seg) || !segment_is_free(seg))
            break;
        trim_add(t, seg);
    }
    if (t->segments_n == 0) {
        free(t);
        return;
    }
    trim_step(t, ENV_STEP_SYNC_DIR, p->path, NULL, 0);
    trim_step(t, ENV_STEP_SYNC_DIR, pool_path(p->store, p->dir), NULL, 0);
    p->trimming = true;
    p->store->jobs_n++;
    plog_hold(p);
    env_names(p->store->env, &t->op, t->steps, t->steps_n, on_trimmed);
}

/* The log's start, or the state of a segment below it, has moved. */
void plog_trim(struct plog *p)
{
    const struct segment *first = plog_first(p);
    bool any = first != NULL && is_below_start(first) && first->state == SEGMENT_SEALED;
    if (any && !p->removed && !p->offline && !p->trimming && !list_linked(&p->trim_link))
        list_push_tail(&p->store->trimming, &p->trim_link);
}

/* What is read ends by itself, which wakes the shard: whoever has to wait is looked at again then.
 */
void trim_pump(struct log_store *s)
{
    list_for_each_safe(it, next, &s->trimming) {
        struct plog *p = container_of(it, struct plog, trim_link);
        trim_start(p);
        if (p->trimming)
            list_remove(&p->trim_link);
    }
}

bool trim_idle(const struct log_store *s)
{
    return list_empty(&s->trimming);
}

/* Behind a replay: segments below the start were brought back by records that are older than it.
 * They are not to be written again: their files may be gone. One that is there is found among the
 * files, and trimmed. */
void trim_replayed(struct plog *p)
{
    list_for_each_safe(it, next, &p->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        if (is_below_start(seg) && seg->state != SEGMENT_SEALED)
            segment_discard(seg);
    }
    if (plog_first_open(p) == NULL)
        list_remove(&p->behind_link);
}
