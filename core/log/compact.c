/* compact.c: compaction of topics with cleanup.policy compact: of each key the last record stays.
 *
 * Happy path: one partition at a time, whose uncompacted part is large or old enough: the last
 *   offset of each key in that part is put into a map of fixed size (as far as it holds) -> groups
 *   of sealed segments, from the first on, are copied without what the map says is outdated
 *   (compact_copy.c) -> each new segment takes the place of its group (compact_swap.c) -> the next
 *   pass begins behind what the map held.
 * Bounded: a piece of some tens of microseconds a turn, what is packed or large on a helper thread,
 *   one operation in flight, so many bytes a second, the map's memory and one batch each way; reads
 *   are of the background class.
 * Never: the last segment, what is younger than min.compaction.lag.ms, what is not sealed in a
 *   durable checkpoint, segments that are damaged and those next to them.
 * Failure: the pass over this partition is given up, its files are removed; nothing has changed.
 * Threads: the shard's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"
#include "core/log/compact.h"

#define NS_PER_MS UINT64_C(1000000)
#define TURN_BUDGET (48u * 1024u) /* what a turn may cost, in bytes that are looked at closely */
#define LOOKS_A_TURN 64u          /* at partitions and segments, for what is worth it */

struct env_name_step *compact_step(struct compactor *c, enum env_step_kind kind, const char *path)
{
    ASSERT(c->steps_n < COMPACT_STEPS_MAX);
    struct env_name_step *step = &c->steps[c->steps_n++];
    *step = (struct env_name_step){.kind = kind, .path = path};
    return step;
}

/* In the place of the next step. */
const char *compact_path(struct compactor *c, const struct segment *seg, const char *suffix)
{
    return segment_path(seg, suffix, c->paths[c->steps_n], PATH_MAX);
}

void compact_names(struct compactor *c, env_done_fn on_done)
{
    c->busy = true;
    c->op = (struct env_op){0};
    env_names(c->s->env, &c->op, c->steps, c->steps_n, on_done);
}

void compact_run(struct compactor *c, int (*run)(void *arg), env_done_fn on_done)
{
    c->steps_n = 0;
    struct env_name_step *step = compact_step(c, ENV_STEP_RUN, NULL);
    step->run = run;
    step->arg = c;
    compact_names(c, on_done);
}

/* ---- what may be compacted, and whether it is worth it ---- */

struct candidate {
    int64_t clean_bytes, dirty_bytes;
    int64_t dirty_from, end; /* offsets */
    bool too_old;
    unsigned looks;          /* at segments */
    struct segment *unknown; /* has to be loaded first */
};

static bool is_sound(const struct segment *seg)
{
    return seg->damages_n == 0 && !seg->suspect && !seg->unreadable && seg->on_disk;
}

static bool is_too_young(const struct segment *seg, int64_t last, int64_t now_ms)
{
    int64_t lag = seg->plog->config.min_compaction_lag_ms;
    return lag > 0 && now_ms - last < lag;
}

/* False: this one and what is behind it stay as they are. */
static bool segment_look(struct candidate *a, struct segment *seg, int64_t now_ms)
{
    int64_t last;
    if (seg->state != SEGMENT_SEALED || !is_sound(seg) || seg->replacing)
        return false;
    if (!seg->size_known || !segment_last_timestamp(seg, &last)) {
        a->unknown = seg;
        return false;
    }
    bool dirty = seg->end_offset > a->dirty_from;
    if (dirty && is_too_young(seg, last, now_ms))
        return false;
    if (!seg->checkpointed) {
        seg->plog->store->compaction_waits = true;
        return false;
    }
    *(dirty ? &a->dirty_bytes : &a->clean_bytes) += (int64_t)seg->end_pos;
    int64_t age = seg->first_timestamp < 0 ? 0 : now_ms - seg->first_timestamp;
    a->too_old |= dirty && age > seg->plog->config.max_compaction_lag_ms;
    a->end = seg->end_offset;
    return true;
}

/* Records in it may have waited for too long. */
static void roll_old(struct plog *p, int64_t now_ms)
{
    const struct segment *seg = plog_active(p);
    if (seg != NULL && seg->state == SEGMENT_OPEN && seg->end_pos > 0 &&
        seg->first_timestamp >= 0 &&
        now_ms - seg->first_timestamp > p->config.max_compaction_lag_ms)
        plog_roll(p);
}

static struct candidate look(struct plog *p, int64_t now_ms)
{
    struct candidate a = {.dirty_from = MAX(p->clean_offset, p->log_start)};
    roll_old(p, now_ms);
    list_for_each(it, &p->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        a.looks++;
        if (seg->end_offset > p->log_start && !segment_look(&a, seg, now_ms))
            break;
    }
    return a;
}

static bool is_worth_it(const struct plog *p, const struct candidate *a)
{
    if (a->dirty_bytes == 0)
        return false;
    return a->too_old || (double)a->dirty_bytes > p->config.min_cleanable_dirty_ratio *
                                                      (double)(a->clean_bytes + a->dirty_bytes);
}

/* ---- life of the work on one partition ---- */

static void group_let_go(struct compactor *c)
{
    for (unsigned i = 0; i < c->group_n; i++) {
        c->group[i]->replacing = false;
        c->group[i]->holds--;
    }
    c->group_n = 0;
}

static void partition_let_go(struct compactor *c)
{
    struct plog *p = c->p;
    c->p = NULL;
    c->state = COMPACT_IDLE;
    plog_trim(p);
    plog_unhold(p);
}

static void on_leftover_gone(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    partition_let_go(c);
}

static void leftover_remove(struct compactor *c)
{
    c->steps_n = 0;
    compact_step(c, ENV_STEP_UNLINK, c->paths[0]);
    compact_names(c, on_leftover_gone);
}

/* Some 100 MiB: on a helper. Twice does nothing. */
static int memory_free(void *arg)
{
    struct compactor *c = arg;
    key_map_fini(&c->map);
    free(c->in.buf);
    free(c->out.buf);
    c->in = (struct compact_input){0};
    c->out = (struct compact_output){0};
    return 0;
}

static void on_memory_freed(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    memory_free(c); /* where there was no helper */
    if (c->leftover && !c->s->abandoned)
        leftover_remove(c);
    else
        partition_let_go(c);
}

/* done: all of the pass; else it is given up, and so is the file in the making. */
void compact_end(struct compactor *c, bool done)
{
    struct plog *p = c->p;
    ASSERT(!c->busy);
    if (c->filtering)
        batch_filter_end(&c->filter);
    c->filtering = false;
    batch_iter_close(c->iter);
    c->iter = NULL;
    compact_input_close(c);
    group_let_go(c);
    p->swap = NULL;
    if (c->placed != NULL)
        c->placed->holds--;
    c->placed = NULL;
    /* Where the record may be durable all the same, the next start needs the file. */
    c->leftover = c->out.seg != NULL && p->fenced == 0 && c->s->failed == 0;
    if (c->leftover)
        cleaned_path(c->out.seg, c->paths[0], PATH_MAX);
    compact_output_discard(c);
    compact_index_free(c);
    if (done)
        p->clean_offset = MAX(p->clean_offset, c->clean_to);
    c->numbers_at++;
    if (c->s->abandoned || c->s->closing) {
        memory_free(c);
        partition_let_go(c);
        return;
    }
    compact_run(c, memory_free, on_memory_freed);
}

/* On a helper: else many turns would stop for pages. */
static int map_populate(void *arg)
{
    key_map_populate(&((struct compactor *)arg)->map);
    return 0;
}

static void on_map_populated(struct env_op *op)
{
    container_of(op, struct compactor, op)->busy = false;
}

static int begin(struct compactor *c, struct plog *p, const struct candidate *a)
{
    uint64_t secret[2] = {env_random(c->s->env), env_random(c->s->env)};
    /* No more keys than offsets. */
    uint64_t enough = (uint64_t)(a->end - a->dirty_from) * 2 * sizeof(struct key_map_entry);
    int rc = key_map_init(&c->map, MIN(c->s->config.compact_memory_bytes, enough), secret);
    if (rc != 0)
        return rc;
    c->p = p;
    c->dirty_from = c->mapped_to = a->dirty_from;
    c->clean_to = a->end;
    c->horizon_ms = c->now_ms + MIN(p->config.delete_retention_ms, INT64_MAX / 2);
    c->group_n = 0;
    c->state = COMPACT_MAP;
    plog_hold(p);
    compact_run(c, map_populate, on_map_populated);
    return 0;
}

/* ---- keys ---- */

static struct segment *segment_behind(const struct plog *p, int64_t offset)
{
    list_for_each(it, &p->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        if (seg->end_offset > offset)
            return seg;
    }
    return NULL;
}

/* Segments from which keys are still to be read. */
static int map_step(struct compactor *c, uint64_t *budget)
{
    int rc = 1;
    if (c->reading != NULL)
        rc = compact_map_step(c, budget);
    if (rc != COMPACT_DONE && c->reading != NULL)
        return rc;
    if (c->reading != NULL) {
        c->mapped_to = MIN(c->reading->end_offset, c->clean_to);
        compact_input_close(c);
    }
    struct segment *next = segment_behind(c->p, c->mapped_to);
    if (c->mapped_to < c->clean_to && next != NULL)
        return compact_input_open(c, next) < 0 ? -ENOMEM : 0;
    if (c->clean_to <= c->dirty_from) {
        log_warn("%s: log.cleaner.dedupe.buffer.size is too small for a single batch", c->p->name);
        return -ENOMEM;
    }
    c->state = COMPACT_COPY;
    c->copied_to = INT64_MIN;
    return 1;
}

/* ---- groups ---- */

static bool fits(const struct compactor *c, const struct segment *seg, uint64_t bytes)
{
    const struct segment *first = c->group_n > 0 ? c->group[0] : seg;
    return c->group_n < COMPACT_GROUP_MAX && seg->state == SEGMENT_SEALED && is_sound(seg) &&
           seg->size_known && seg->checkpointed && seg->base_offset < c->clean_to &&
           seg->end_offset - first->base_offset < INT32_MAX &&
           (c->group_n == 0 || bytes + seg->end_pos <= (uint64_t)c->p->config.segment_bytes);
}

/* The next segments that become one; 0: there are none left. */
static void group_gather(struct compactor *c)
{
    uint64_t bytes = 0;
    list_for_each(it, &c->p->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        if (seg->base_offset < c->copied_to || seg->end_offset <= c->p->log_start)
            continue;
        if (!fits(c, seg, bytes))
            break;
        bytes += seg->end_pos;
        seg->holds++;
        c->group_bases[c->group_n] = seg->base_offset;
        c->group[c->group_n++] = seg;
    }
    c->group_at = 0;
    if (c->group_n > 0)
        c->copied_to = c->group[c->group_n - 1]->end_offset;
}

static void on_output_ready(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    if (op->res < 0) {
        compact_end(c, false);
        return;
    }
    c->state = COMPACT_DRAIN;
    for (unsigned i = 0; i < c->group_n; i++)
        c->group[i]->replacing = true;
}

static void on_output_flushed(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    if (op->res < 0) {
        compact_end(c, false);
        return;
    }
    env_file_close(c->s->env, c->out.file);
    c->out.file = NULL;
    c->steps_n = 0;
    cleaned_path(c->out.seg, c->paths[0], PATH_MAX);
    compact_step(c, ENV_STEP_RESIZE, c->paths[0])->size_bytes = c->out.seg->end_pos;
    compact_step(c, ENV_STEP_SYNC_DIR, c->p->path);
    compact_names(c, on_output_ready);
}

static void on_unchanged_gone(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
}

static void on_index_made(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->op = (struct env_op){0};
    env_flush(c->s->env, &c->op, c->out.file, on_output_flushed);
}

/* All of the group has been written. */
static void group_written(struct compactor *c)
{
    if (c->out.changed) {
        compact_run(c, compact_index_make, on_index_made);
        return;
    }
    c->steps_n = 0;
    cleaned_path(c->out.seg, c->paths[0], PATH_MAX);
    compact_step(c, ENV_STEP_UNLINK, c->paths[0]);
    compact_output_discard(c);
    group_let_go(c);
    compact_names(c, on_unchanged_gone);
}

static int copy_step(struct compactor *c, uint64_t *budget)
{
    if (c->group_n == 0) {
        group_gather(c);
        if (c->group_n == 0)
            return COMPACT_DONE;
        return compact_output_open(c) < 0 ? -ENOMEM : 0;
    }
    if (c->reading == NULL && c->group_at == 0 && c->out.seg->end_pos == 0)
        return compact_input_open(c, c->group[0]) < 0 ? -ENOMEM : 0;
    int rc = compact_copy_step(c, budget);
    if (rc != COMPACT_DONE)
        return rc;
    group_written(c);
    return 0;
}

/* ---- the passes ---- */

static void on_loaded(struct load_waiter *w, int rc)
{
    struct compactor *c = container_of(w, struct compactor, waiter);
    struct plog *p = c->p;
    c->busy = false;
    c->p = NULL;
    c->state = COMPACT_IDLE;
    if (rc != 0)
        c->numbers_at++;
    plog_unhold(p);
}

static void load_wait(struct compactor *c, struct segment *seg)
{
    c->p = seg->plog;
    c->state = COMPACT_LOAD;
    c->busy = true;
    c->waiter.run = on_loaded;
    plog_hold(seg->plog);
    seg_load_wait(seg, &c->waiter);
}

static bool is_compacted(const struct plog *p)
{
    return (p->config.cleanup_policy & TOPIC_CLEANUP_COMPACT) != 0;
}

/* How many looks it took. */
static unsigned partition_look(struct compactor *c)
{
    struct log_store *s = c->s;
    struct plog *p = log_store_find(s, c->numbers[c->numbers_at]);
    c->now_ms = env_wall_ms(s->env);
    if (p == NULL || p->fenced != 0 || !is_compacted(p)) {
        c->numbers_at++;
        return 1;
    }
    struct candidate a = look(p, c->now_ms);
    if (a.unknown != NULL && !seg_loaded(a.unknown))
        load_wait(c, a.unknown);
    else if (!is_worth_it(p, &a) || begin(c, p, &a) != 0)
        c->numbers_at++;
    return 1 + a.looks;
}

static void pass_begin(struct compactor *c, uint64_t now)
{
    struct log_store *s = c->s;
    struct plog *p;
    free(c->numbers);
    c->numbers_n = c->numbers_at = 0;
    c->numbers = malloc(MAX(s->plogs.count, (size_t)1) * sizeof(*c->numbers));
    for (size_t it = 0; c->numbers != NULL && (p = map_next(&s->plogs, &it)) != NULL;)
        if (is_compacted(p))
            c->numbers[c->numbers_n++] = p->number;
    c->pass_ns = now + s->config.compact_backoff_ms * NS_PER_MS;
    if (s->compaction_waits)
        store_want_cycle(s); /* ends in a checkpoint */
    s->compaction_waits = false;
}

/* Many in a turn: most partitions need nothing, and the shard is awake until all were looked at. */
static void idle_step(struct compactor *c)
{
    uint64_t now = env_now_ns(c->s->env);
    if (c->numbers_at == c->numbers_n && now >= c->pass_ns)
        pass_begin(c, now);
    unsigned looks = 0;
    while (c->state == COMPACT_IDLE && c->numbers_at < c->numbers_n && looks < LOOKS_A_TURN)
        looks += partition_look(c);
}

static bool must_give_up(const struct compactor *c)
{
    const struct plog *p = c->p;
    bool written = c->state == COMPACT_RECORD && p->swap_queued;
    return p != NULL && c->state != COMPACT_NAMES && !written &&
           (p->removed || p->fenced != 0 || c->s->failed != 0 || c->stopped);
}

/* One kind of work until the turn's share is used up, or an operation is under way. */
static void work(struct compactor *c)
{
    uint64_t budget = TURN_BUDGET;
    int rc = 1;
    while (rc == 1 && budget > 0 && !c->busy &&
           (c->state == COMPACT_MAP || c->state == COMPACT_COPY))
        rc = c->state == COMPACT_MAP ? map_step(c, &budget) : copy_step(c, &budget);
    if (rc == COMPACT_DONE || rc < 0)
        compact_end(c, rc == COMPACT_DONE);
}

void compact_pump(struct log_store *s)
{
    struct compactor *c = s->compactor;
    if (c == NULL || c->busy)
        return;
    if (must_give_up(c))
        compact_end(c, false);
    uint64_t now = env_now_ns(s->env);
    if (c->busy || s->unsettled || (c->p == NULL && (c->stopped || s->failed != 0)))
        return;
    if (c->state == COMPACT_DRAIN)
        compact_drain(c);
    else if (c->state == COMPACT_NAMES && now >= c->next_ns)
        compact_rename(c);
    else if (c->state == COMPACT_IDLE)
        idle_step(c);
    else if (now >= c->next_ns)
        work(c);
}

uint64_t compact_deadline_ns(const struct log_store *s)
{
    const struct compactor *c = s->compactor;
    if (c == NULL || c->busy || s->unsettled || (c->p == NULL && (c->stopped || s->failed != 0)))
        return UINT64_MAX;
    if (c->state == COMPACT_IDLE)
        return c->numbers_at < c->numbers_n ? 0 : c->pass_ns;
    if (c->state == COMPACT_DRAIN)
        return env_now_ns(s->env) + NS_PER_MS;
    return c->state == COMPACT_RECORD ? UINT64_MAX : c->next_ns;
}

bool compact_busy(const struct log_store *s)
{
    return s->compactor != NULL && s->compactor->p != NULL;
}

/* ---- life ---- */

int compact_open(struct log_store *s)
{
    if (s->config.compact_backoff_ms == 0)
        return 0;
    struct compactor *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->s = s;
    c->paths = calloc(COMPACT_STEPS_MAX + 1, sizeof(*c->paths));
    c->pass_ns = env_now_ns(s->env) + s->config.compact_backoff_ms * NS_PER_MS;
    s->compactor = c;
    return c->paths == NULL ? -ENOMEM : 0;
}

void compact_stop(struct log_store *s)
{
    if (s->compactor != NULL)
        s->compactor->stopped = true;
}

/* The store has been given up: nothing of its own is under way any more. */
void compact_abandon(struct log_store *s)
{
    struct compactor *c = s->compactor;
    if (c != NULL && c->p != NULL && !c->busy)
        compact_end(c, false);
}

void compact_fini(struct log_store *s)
{
    struct compactor *c = s->compactor;
    if (c == NULL)
        return;
    ASSERT(c->p == NULL || s->abandoned);
    free(c->numbers);
    free(c->paths);
    free(c);
    s->compactor = NULL;
}
