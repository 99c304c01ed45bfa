/* plog.c: one partition's log: append, offsets, leader epochs, who waits for what. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define NS_PER_MS 1000000u
#define SEGMENT_FILLED_FAST_NS 60000000000ull   /* the next file is of a larger class */
#define SEGMENT_FILLED_SLOW_NS 3600000000000ull /* ... of a smaller one */

static char *plog_path(const struct log_store *s, unsigned dir, const char *name)
{
    char *path = NULL;
    const char *in = s->config.data_dirs[dir]; /* NULL: nobody will use the path */
    return asprintf(&path, "%s/%s", in != NULL ? in : "", name) < 0 ? NULL : path;
}

struct plog *plog_create(struct log_store *s, const struct meta_topic *topic, int32_t index)
{
    const struct meta_partition *partition = &topic->partitions[index];
    struct plog *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->store = s;
    p->number = partition->number;
    p->leader_epoch = partition->leader_epoch;
    p->dir = MIN(partition->dir, s->config.data_dirs_n - 1);
    p->chunk_bytes = CHUNK_BYTES_MIN;
    plog_configure(p, topic);
    list_init(&p->segments);
    list_init(&p->waiting);
    list_init(&p->watches);
    list_init(&p->start_waiters);
    map_init(&p->producers);
    if (asprintf(&p->name, "%s-%d", topic->name, (int)index) < 0)
        p->name = NULL;
    p->path = p->name == NULL ? NULL : plog_path(s, p->dir, p->name);
    if (p->path == NULL || map_put(&s->plogs, p->number, p) != 0) {
        free(p->name);
        free(p->path);
        free(p);
        return NULL;
    }
    counter_set(&s->counters.partitions, s->plogs.count);
    if (dir_is_offline(s, p->dir))
        plog_take_offline(p);
    return p;
}

void plog_destroy(struct plog *p)
{
    ASSERT(p->holds == 0);
    ASSERT(p->job == NULL);
    while (list_pop_head(&p->waiting) != NULL) /* of an abandoned store only */
        ASSERT(p->store->abandoned);
    while (list_pop_head(&p->watches) != NULL)
        ;
    while (list_pop_head(&p->start_waiters) != NULL)
        ;
    list_for_each_safe(it, next, &p->segments)
        segment_discard(container_of(it, struct segment, link));
    plog_leave_ahead(p);
    plog_unmark(p);
    list_remove(&p->destage_link);
    list_remove(&p->behind_link);
    list_remove(&p->notify_link);
    list_remove(&p->tail_link);
    list_remove(&p->trim_link);
    list_remove(&p->parcel_link);
    map_remove(&p->store->plogs, p->number);
    counter_set(&p->store->counters.partitions, p->store->plogs.count);
    if (p->fenced != 0)
        counter_set(&p->store->counters.partitions_fenced,
                    p->store->counters.partitions_fenced - 1);
    if (p->offline)
        counter_set(&p->store->counters.partitions_offline,
                    p->store->counters.partitions_offline - 1);
    producers_fini(p);
    free(p->epochs);
    free(p->name);
    free(p->path);
    free(p->io);
    free(p);
}

void plog_prefetch(const struct plog *p, unsigned step)
{
    if (step == 0) {
        prefetch(p, offsetof(struct plog, read_ends));
        prefetch(&p->holds, sizeof(*p) - offsetof(struct plog, holds));
        return;
    }
    const struct segment *seg = plog_active(p);
    if (seg != NULL && step == 1) {
        prefetch(seg, sizeof(*seg));
        prefetch(p->epochs, sizeof(*p->epochs));
    } else if (seg != NULL) {
        seg_prefetch_tail(seg, step == 2);
    }
}

/* Those that a loop over the list comes to next; link: which of their links it goes by. */
void plogs_prefetch(const struct list_node *list, size_t link)
{
    const struct list_node *it = list->next;
    for (unsigned step = LOG_PREFETCH_STEPS; step-- > 0 && it != list; it = it->next)
        plog_prefetch((const struct plog *)((const char *)it - link), step);
}

void plog_hold(struct plog *p)
{
    p->holds++;
}

void plog_unhold(struct plog *p)
{
    ASSERT(p->holds > 0);
    p->holds--;
    if (p->removed)
        remove_pump(p);
    else if (p->parked)
        plog_release_parked(p);
}

/* ---- state of segments as it moves ---- */

struct segment *plog_first_open(const struct plog *p)
{
    struct segment *first = NULL;
    for (struct list_node *it = p->segments.prev; it != &p->segments; it = it->prev) {
        struct segment *seg = container_of(it, struct segment, link);
        if (seg->state == SEGMENT_SEALED)
            break;
        first = seg;
    }
    return first;
}

static uint64_t plog_whole_blocks_behind(const struct plog *p)
{
    uint64_t bytes = 0;
    for (struct list_node *it = p->segments.prev; it != &p->segments; it = it->prev) {
        struct segment *seg = container_of(it, struct segment, link);
        if (seg->state == SEGMENT_SEALED)
            break;
        bytes += block_floor(seg->stable_pos) - block_floor(seg->destaged_pos);
    }
    return bytes;
}

void plog_want_destage(struct plog *p)
{
    if (!p->removed && !list_linked(&p->destage_link))
        list_push_tail(&p->store->destage_ready, &p->destage_link);
}

void seg_set_stable(struct segment *seg, uint64_t pos)
{
    struct plog *p = seg->plog;
    struct log_store *s = p->store;
    ASSERT(pos >= seg->stable_pos);
    s->behind_bytes += pos - seg->stable_pos;
    seg->stable_pos = pos;
    if (MIN(seg->settled_pos, block_floor(pos)) > seg->destaged_pos)
        seg_set_destaged(seg, MIN(seg->settled_pos, block_floor(pos)));
    plog_tail_moved(p);
    uint64_t blocks = plog_whole_blocks_behind(p);
    if (blocks > 0 && !list_linked(&p->behind_link))
        list_push_tail(&s->behind, &p->behind_link);
    if (blocks >= DESTAGE_CHUNK_BYTES || seg->state == SEGMENT_SEALING || (s->cycle && blocks > 0))
        plog_want_destage(p);
}

void seg_set_destaged(struct segment *seg, uint64_t pos)
{
    struct plog *p = seg->plog;
    ASSERT(pos >= seg->destaged_pos);
    ASSERT(pos <= seg->stable_pos);
    p->store->behind_bytes -= pos - seg->destaged_pos;
    seg->destaged_pos = pos;
    segment_unpin(seg);
    seg_mark_clean(seg);
    p->store->memory_freed = true; /* its tail may be shrunk now */
    plog_tail_moved(p);
    if (plog_whole_blocks_behind(p) == 0)
        list_remove(&p->behind_link);
}

/* The active segment takes no more; a new one, without a file yet, follows. NULL: no memory. */
struct segment *plog_roll(struct plog *p)
{
    struct segment *old = plog_active(p);
    struct segment *seg = segment_create(p, p->end_offset);
    if (seg == NULL || old == NULL || old->state != SEGMENT_OPEN)
        return seg;
    uint64_t age = env_now_ns(p->store->env) - old->opened_ns;
    if (age < SEGMENT_FILLED_FAST_NS && p->segment_class + 1 < SEGMENT_CLASSES)
        p->segment_class++;
    else if (age > SEGMENT_FILLED_SLOW_NS && p->segment_class > 0)
        p->segment_class--;
    old->state = SEGMENT_SEALING;
    plog_want_destage(p);
    return seg;
}

/* ---- leader epochs ---- */

int plog_epoch_note(struct plog *p, int32_t epoch, int64_t start_offset)
{
    if (p->epochs_n > 0 && p->epochs[p->epochs_n - 1].epoch >= epoch)
        return 0;
    if (p->epochs_n == p->epochs_cap) {
        uint32_t cap = MAX(p->epochs_cap * 2, 2u);
        struct epoch_entry *more = realloc(p->epochs, cap * sizeof(*more));
        if (more == NULL)
            return -EAGAIN;
        p->epochs = more;
        p->epochs_cap = cap;
    }
    p->epochs[p->epochs_n++] = (struct epoch_entry){epoch, start_offset};
    return 0;
}

void plog_epoch_end(const struct plog *p, int32_t epoch, int32_t *ret_epoch, int64_t *ret_end)
{
    *ret_epoch = -1;
    *ret_end = -1;
    if (epoch > p->leader_epoch)
        return;
    for (uint32_t i = p->epochs_n; i-- > 0;)
        if (p->epochs[i].epoch <= epoch) {
            *ret_epoch = p->epochs[i].epoch;
            *ret_end = i + 1 < p->epochs_n ? p->epochs[i + 1].start_offset : plog_high_watermark(p);
            *ret_end = MAX(*ret_end, p->log_start);
            return;
        }
    if (epoch == p->leader_epoch) { /* nothing written yet under any epoch */
        *ret_epoch = epoch;
        *ret_end = plog_high_watermark(p);
    }
}

int32_t plog_epoch_at(const struct plog *p, int64_t offset)
{
    for (uint32_t i = p->epochs_n; i-- > 0;)
        if (p->epochs[i].start_offset <= offset)
            return p->epochs[i].epoch;
    return p->leader_epoch;
}

/* ---- offsets ---- */

int64_t plog_start_offset(const struct plog *p)
{
    return p->log_start;
}

int64_t plog_high_watermark(const struct plog *p)
{
    return p->config.write_caching ? p->end_offset : p->stable_offset;
}

int64_t plog_end_offset(const struct plog *p)
{
    return p->end_offset;
}

int32_t plog_leader_epoch(const struct plog *p)
{
    return p->leader_epoch;
}

uint64_t plog_size_bytes(const struct plog *p)
{
    uint64_t bytes = 0;
    list_for_each(it, &p->segments)
        bytes += container_of(it, struct segment, link)->end_pos;
    return bytes;
}

/* ---- waiting ---- */

void plog_notify(struct plog *p)
{
    if (!list_linked(&p->notify_link))
        list_push_tail(&p->store->notify, &p->notify_link);
}

void plog_fence(struct plog *p, int rc, const char *what)
{
    if (p->fenced == 0) {
        log_error("%s: %s failed (%s), the partition takes no more records", p->name, what,
                  strerror(-rc));
        counter_add(&p->store->counters.partitions_fenced, 1);
    }
    p->fenced = rc;
    p->store->memory_freed = true; /* who waits for memory is to be told as well */
    plog_notify(p);
    dir_failed(p->store, p->dir, rc, what);
}

/* Why it is not here: deleted, or to be looked for elsewhere. */
int plog_absence(const struct plog *p)
{
    return p->departure != NULL ? -EXDEV : -ENOENT;
}

static int plog_failure(const struct plog *p)
{
    if (p->removed)
        return plog_absence(p);
    return p->store->failed != 0 || p->fenced != 0 ? -EIO : 0;
}

static void run_waiting(struct plog *p)
{
    int failure = plog_failure(p);
    for (struct list_node *it; (it = list_head(&p->waiting)) != NULL;) {
        struct log_append *a = container_of(it, struct log_append, link);
        bool stable = a->end_offset <= p->stable_offset;
        if (!stable && failure == 0)
            return;
        list_remove(&a->link);
        a->on_done(a, stable ? 0 : failure);
    }
}

/* Callbacks may append, read, watch or ask for removal again. */
void store_run_notifications(struct log_store *s)
{
    for (struct list_node *it; (it = list_pop_head(&s->notify)) != NULL;) {
        struct plog *p = container_of(it, struct plog, notify_link);
        plog_hold(p);
        run_waiting(p);
        start_waiters_run(p, plog_failure(p));
        struct list_node due;
        list_init(&due);
        list_splice_tail(&due, &p->watches);
        while ((it = list_pop_head(&due)) != NULL) {
            struct plog_watch *w = container_of(it, struct plog_watch, link);
            w->run(w);
        }
        plog_unhold(p);
    }
}

void plog_watch_set(struct plog *p, struct plog_watch *w)
{
    ASSERT(!list_linked(&w->link));
    list_push_tail(&p->watches, &w->link);
    plog_hurry(p);
}

void plog_watch_clear(struct plog_watch *w)
{
    list_remove(&w->link);
}

static void wait_for(struct plog *p, struct log_append *a, int64_t end_offset,
                     log_append_fn on_done)
{
    a->on_done = on_done;
    a->end_offset = end_offset;
    struct list_node *after = p->waiting.prev; /* a duplicate waits for an earlier offset */
    while (after != &p->waiting &&
           container_of(after, struct log_append, link)->end_offset > end_offset)
        after = after->prev;
    list_insert_between(&a->link, after, after->next);
}

/* ---- append ---- */

/* What every batch that enters the log leaves behind, at append and at replay. */
void plog_note_batch(struct plog *p, struct segment *seg, uint64_t pos,
                     const struct batch_header *h)
{
    seg_index_add(&seg->index, seg, pos, h);
    if (seg->first_timestamp < 0)
        seg->first_timestamp = h->max_timestamp;
    seg->end_offset = h->base_offset + h->last_offset_delta + 1;
    p->end_offset = seg->end_offset;
}

/* Compaction takes sealed segments only. */
static int64_t roll_ms(const struct topic_config *c)
{
    bool compacted = (c->cleanup_policy & TOPIC_CLEANUP_COMPACT) != 0;
    return compacted ? MIN(c->segment_ms, c->max_compaction_lag_ms) : c->segment_ms;
}

static bool must_roll(const struct plog *p, const struct segment *seg, const struct batch_header *h)
{
    if (seg->state != SEGMENT_OPEN)
        return true;
    if (seg->end_pos == 0)
        return false;
    uint64_t limit = seg->capacity_bytes != 0
                         ? MIN(seg->capacity_bytes, (uint64_t)p->config.segment_bytes)
                         : (uint64_t)p->config.segment_bytes;
    if (seg->end_pos + h->len_bytes > limit)
        return true;
    if (p->end_offset + h->last_offset_delta - seg->base_offset > INT32_MAX)
        return true;
    if (seg->first_timestamp >= 0 && h->max_timestamp >= 0)
        return h->max_timestamp - seg->first_timestamp > roll_ms(&p->config);
    uint64_t age_ns = env_now_ns(p->store->env) - seg->opened_ns;
    return age_ns / NS_PER_MS > (uint64_t)roll_ms(&p->config);
}

/* Checkpoints fail, so that the journal will be full. */
static bool store_has_no_room(const struct log_store *s)
{
    return s->unsettled ||
           (s->checkpoint.rc < 0 && journal_used_bytes(s) > s->journal.ring_bytes / 4 * 3);
}

/* 0, or why it takes no records at all. */
int plog_refuses(const struct plog *p)
{
    int rc = p->departure != NULL ? -EXDEV : plog_failure(p);
    return rc == 0 && (p->failed_space || store_has_no_room(p->store)) ? -ENOSPC : rc;
}

static int append_checks(struct plog *p, const struct batch_header *h)
{
    int rc = plog_refuses(p);
    if (rc != 0)
        return rc;
    return h->len_bytes > (uint64_t)p->config.segment_bytes ? -EDOM : 0;
}

static int append_duplicate(struct plog *p, const struct producer_batch *original, bool wait_stable,
                            struct log_append *a, log_append_fn on_done)
{
    counter_add(&p->store->counters.duplicates, 1);
    a->duplicate = true;
    a->base_offset = original->base_offset;
    a->append_time_ms = original->append_time_ms;
    if (!wait_stable || original->last_offset < p->stable_offset)
        return 1;
    wait_for(p, a, original->last_offset + 1, on_done);
    plog_mark_dirty(p); /* somebody waits now for what may have had time */
    return 0;
}

int plog_append(struct plog *p, uint8_t *batch, const struct batch_header *header, bool wait_stable,
                struct log_append *a, log_append_fn on_done)
{
    struct log_store *s = p->store;
    struct batch_header h = *header;
    struct producer_batch original;
    int rc = append_checks(p, &h);
    if (rc != 0)
        return rc;
    if (p->config.write_caching)
        wait_stable = false;
    a->duplicate = false;
    a->log_start_offset = p->log_start;
    rc = producer_check(p, &h, &original);
    if (rc == 1)
        return append_duplicate(p, &original, wait_stable, a, on_done);
    if (rc != 0)
        return rc;
    int64_t now_ms = env_wall_ms(s->env);
    bool append_time = p->config.timestamp_type == TOPIC_LOG_APPEND_TIME;
    a->append_time_ms = append_time ? now_ms : -1;
    if (append_time)
        h.max_timestamp = now_ms;
    struct segment *seg = plog_active(p);
    if (seg == NULL || must_roll(p, seg, &h))
        seg = plog_roll(p);
    bool adopt = seg != NULL && seg_can_adopt(seg, batch, h.len_bytes, a->place);
    if (seg == NULL || (!adopt && seg_reserve(seg, h.len_bytes) != 0) ||
        plog_epoch_note(p, p->leader_epoch, p->end_offset) != 0) {
        counter_add(&s->counters.memory_waits, 1);
        return -EAGAIN;
    }
    h.base_offset = p->end_offset;
    h.leader_epoch = p->leader_epoch;
    if (append_time)
        batch_stamp_append_time(batch, now_ms);
    if (producer_update(p, &h, h.base_offset, a->append_time_ms, now_ms) != 0)
        return -EAGAIN;
    batch_stamp(batch, h.base_offset, h.leader_epoch);
    uint64_t pos = seg->end_pos;
    if (adopt)
        seg_adopt(seg, batch, h.len_bytes, a->place);
    else
        seg_write_bytes(seg, batch, h.len_bytes, wait_stable || plog_is_awaited(p));
    plog_note_batch(p, seg, pos, &h);
    s->fresh_bytes += h.len_bytes;
    counter_add(&s->counters.appends, 1);
    counter_add(&s->counters.append_records, (uint32_t)h.record_count);
    counter_add(&s->counters.append_bytes, h.len_bytes);
    a->base_offset = h.base_offset;
    if (p->config.write_caching)
        plog_notify(p);
    if (wait_stable)
        wait_for(p, a, p->end_offset, on_done);
    plog_mark_dirty(p);
    return wait_stable ? 0 : 1;
}

/* ---- identity ---- */

void plog_configure(struct plog *p, const struct meta_topic *topic)
{
    p->config = topic->config;
    p->topic_id = topic->id;
}
