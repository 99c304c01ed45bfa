/* compact_swap.c: one segment takes the place of a group of old ones.
 *
 * Happy path: the new file is complete, cut to its length and durable under a name of its own
 *   (BASE.GENERATION.cleaned) -> no reader is in the old segments, and none enters them -> a
 *   RECORD_COMPACTED in the journal is durable: from then on the new one counts -> in memory it
 *   takes their place at once, so that every later checkpoint says so, too -> the names follow: it
 *   is renamed over the first of them, the others go, index files are written, the directory is
 *   synced -> readers go on.
 * After a crash: record or checkpoint say that the new one counts: names that are not done yet are
 *   done then (compact_finish_swaps). A file that nothing says so of is removed.
 * Only segments of which a durable checkpoint says that they are sealed are compacted, so that no
 *   replay makes them again from the journal and writes to their names.
 * Failure: a name that cannot be changed is tried again each second; until then nobody reads the
 *   segment. Threads: the shard's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/log/compact.h"

#define RETRY_NS 1000000000ull

void cleaned_path(const struct segment *seg, char *buf, size_t size)
{
    snprintf(buf, size, "%.3900s/%020lld.%u.cleaned", seg->plog->path, (long long)seg->base_offset,
             seg->generation);
}

/* ---- the old segments are left by their readers ---- */

static bool is_left(const struct segment *seg)
{
    return seg->file_refs == 0 && seg->load == NULL && seg->file_state != SEGMENT_FILE_OPENING &&
           seg->holds == 1;
}

void compact_drain(struct compactor *c)
{
    for (unsigned i = 0; i < c->group_n; i++)
        if (!is_left(c->group[i]))
            return;
    c->state = COMPACT_RECORD;
    c->p->swap = c->out.seg;
    plog_mark_start(c->p);
}

/* ---- in memory ---- */

static void waiters_move(struct list_node *to, struct segment *seg)
{
    list_splice_tail(to, &seg->loads);
    list_remove(&seg->load_link);
}

/* Whoever waited for an old segment looks for his offset again. */
static void waiters_run(struct list_node *due)
{
    for (struct list_node *it; (it = list_pop_head(due)) != NULL;) {
        struct load_waiter *w = container_of(it, struct load_waiter, link);
        w->run(w, -ESTALE);
    }
}

static void segment_place(struct segment *seg)
{
    struct plog *p = seg->plog;
    seg->queued_pos = seg->stable_pos = seg->destaged_pos = seg->end_pos;
    seg->capacity_bytes = seg->end_pos;
    seg->state = SEGMENT_SEALED;
    seg->on_disk = seg->size_known = true;
    seg->replacing = seg->swap_pending = true;
    struct list_node *after = p->segments.prev;
    while (after != &p->segments &&
           container_of(after, struct segment, link)->base_offset > seg->base_offset)
        after = after->prev;
    list_insert_between(&seg->link, after, after->next);
    memset(p->boundaries, 0, sizeof(p->boundaries));
}

/* The group with the record is durable. */
void compact_recorded(struct plog *p)
{
    struct compactor *c = p->store->compactor;
    struct segment *seg = c->out.seg;
    struct list_node due;
    list_init(&due);
    ASSERT(c->p == p && c->state == COMPACT_RECORD && p->swap == seg);
    p->swap = NULL;
    int64_t last = -1;
    for (unsigned i = 0; i < c->group_n; i++) {
        struct segment *old = c->group[i];
        int64_t old_last;
        if (segment_last_timestamp(old, &old_last))
            last = MAX(last, old_last);
        waiters_move(&due, old);
        scrub_forget(p->store, old);
        old->holds--;
        segment_destroy(old);
    }
    segment_place(seg);
    seg->last_timestamp = seg->index.max_timestamp >= 0 ? seg->index.max_timestamp : last;
    seg->holds++;
    counter_add(&p->store->counters.compacted_segments, c->group_n);
    c->placed = seg;
    c->out.seg = NULL;
    c->names_n = c->group_n;
    c->group_n = 0;
    c->renamed = false;
    c->state = COMPACT_NAMES;
    waiters_run(&due);
    compact_rename(c);
}

/* ---- names ---- */

int compact_index_make(void *compactor)
{
    struct compactor *c = compactor;
    struct segment *seg = c->out.seg;
    int rc = seg_index_encode(seg, &c->index_data[0], &c->index_len[0], &c->index_data[1],
                              &c->index_len[1]);
    for (unsigned i = 0; rc == 0 && i < 2; i++)
        seg->index_crc[i] = crc32c(c->index_data[i], c->index_len[i]);
    return rc;
}

void compact_index_free(struct compactor *c)
{
    for (unsigned i = 0; i < 2; i++) {
        free(c->index_data[i]);
        c->index_data[i] = NULL;
        c->index_len[i] = 0;
    }
}

static void placed_let_go(struct compactor *c)
{
    c->placed->replacing = false;
    c->placed->holds--;
    c->placed = NULL;
}

static void names_failed(struct compactor *c, int rc)
{
    log_warn("%s: giving the compacted segment %lld its name failed (%s), tried again", c->p->name,
             (long long)c->placed->base_offset, strerror(-rc));
    c->next_ns = env_now_ns(c->s->env) + RETRY_NS;
    if (c->stopped) { /* the next start does it */
        placed_let_go(c);
        compact_end(c, false);
    }
}

static void on_renamed(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    struct segment *seg = c->placed;
    c->busy = false;
    c->renamed |= op->res == 0 || op->failed_step > 0;
    if (op->res < 0) {
        names_failed(c, op->res);
        return;
    }
    seg->index_crc_known = c->index_data[0] != NULL;
    compact_index_free(c);
    seg->swap_pending = false;
    placed_let_go(c);
    c->state = COMPACT_COPY; /* the next group */
}

static void index_steps(struct compactor *c, struct segment *seg)
{
    static const char *const suffix[2] = {".index", ".timeindex"};
    bool made = c->index_data[0] != NULL;
    for (unsigned i = 0; i < 2; i++) {
        const char *path = compact_path(c, seg, suffix[i]);
        struct env_name_step *step = compact_step(c, made ? ENV_STEP_PUT : ENV_STEP_UNLINK, path);
        step->data = c->index_data[i];
        step->data_len = c->index_len[i];
    }
}

static void unlink_steps(struct compactor *c, int64_t base_offset)
{
    static const char *const suffix[3] = {".log", ".index", ".timeindex"};
    struct segment at = {.plog = c->p, .base_offset = base_offset};
    for (unsigned i = 0; i < 3; i++)
        compact_step(c, ENV_STEP_UNLINK, compact_path(c, &at, suffix[i]));
}

void compact_rename(struct compactor *c)
{
    struct segment *seg = c->placed;
    c->steps_n = 0;
    if (!c->renamed) {
        struct env_name_step *step = compact_step(c, ENV_STEP_RENAME, c->paths[0]);
        cleaned_path(seg, c->paths[0], PATH_MAX);
        step->path2 = segment_path(seg, ".log", c->paths[COMPACT_STEPS_MAX], PATH_MAX);
    }
    for (unsigned i = 1; i < c->names_n; i++)
        unlink_steps(c, c->group_bases[i]);
    index_steps(c, seg);
    compact_step(c, ENV_STEP_SYNC_DIR, c->p->path);
    compact_names(c, on_renamed);
}

/* ---- after a crash ---- */

/* The segments in [base_offset, end_offset) are one now. */
int compact_replayed(struct plog *p, const struct journal_record *rec)
{
    list_for_each_safe(it, next, &p->segments) {
        struct segment *old = container_of(it, struct segment, link);
        if (old->base_offset >= rec->base_offset && old->end_offset <= rec->end_offset &&
            old->end_offset > rec->base_offset)
            segment_discard(old);
    }
    struct segment *seg = segment_alloc(p, rec->base_offset);
    if (seg == NULL)
        return -ENOMEM;
    seg->end_offset = rec->end_offset;
    seg->end_pos = rec->data_bytes;
    seg->generation = rec->headers_n;
    seg->index_complete = false;
    segment_place(seg);
    seg->replacing = false;
    return 0;
}

static bool base_of_name(const char *name, int64_t *ret)
{
    char *end;
    *ret = strtoll(name, &end, 10);
    return end == name + 20 && (strcmp(end, ".log") == 0 || strcmp(end, ".index") == 0 ||
                                strcmp(end, ".timeindex") == 0);
}

/* Blocking. Files of the segments that it has replaced. */
static int old_names_remove(struct segment *seg, struct env_name_step *list)
{
    struct plog *p = seg->plog;
    const char *name = list->ret_data;
    char path[PATH_MAX];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < list->ret_count; i++, name += strlen(name) + 1) {
        int64_t base;
        if (!base_of_name(name, &base) || base <= seg->base_offset || base >= seg->end_offset)
            continue;
        struct env_name_step step = {.kind = ENV_STEP_UNLINK, .path = path};
        snprintf(path, sizeof(path), "%.3900s/%s", p->path, name);
        rc = env_names_wait(p->store->env, &step, 1);
    }
    return rc;
}

static int finish_swap(struct segment *seg, struct env_name_step *list)
{
    struct plog *p = seg->plog;
    char cleaned[PATH_MAX], path[PATH_MAX];
    cleaned_path(seg, cleaned, sizeof(cleaned));
    segment_path(seg, ".log", path, sizeof(path));
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_RENAME, .path = cleaned, .path2 = path},
        {.kind = ENV_STEP_SYNC_DIR, .path = p->path},
    };
    int rc = env_names_wait(p->store->env, steps, 2);
    if (rc == -ENOENT) /* it has been */
        rc = 0;
    if (rc == 0)
        rc = old_names_remove(seg, list);
    if (rc == 0)
        rc = env_names_wait(p->store->env, &steps[1], 1);
    seg->swap_pending = rc != 0;
    return rc;
}

static int remove_leftovers(struct plog *p, struct env_name_step *list)
{
    const char *name = list->ret_data;
    char path[PATH_MAX];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < list->ret_count; i++, name += strlen(name) + 1) {
        size_t len = strlen(name);
        if (len < 8 || strcmp(name + len - 8, ".cleaned") != 0)
            continue;
        struct env_name_step step = {.kind = ENV_STEP_UNLINK, .path = path};
        snprintf(path, sizeof(path), "%.3900s/%s", p->path, name);
        rc = env_names_wait(p->store->env, &step, 1); /* one that was renamed is missing: fine */
    }
    return rc;
}

/* Blocking, at a start: what counts gets its name, what does not is removed. */
int compact_finish_swaps(struct plog *p)
{
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = p->path};
    if ((p->config.cleanup_policy & TOPIC_CLEANUP_COMPACT) == 0 && !p->swapped)
        return 0;
    int rc = env_names_wait(p->store->env, &list, 1);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    list_for_each(it, &p->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        if (rc == 0 && seg->swap_pending)
            rc = finish_swap(seg, &list);
    }
    if (rc == 0)
        rc = remove_leftovers(p, &list);
    free(list.ret_data);
    return rc;
}
