/* store.c: all partition logs of a shard together: opening, the turn, closing. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define DISK_WAIT_NS 1000000ull /* memory of reads is given back by others: look again */
#define CLOSE_CYCLES_MAX 8u

static struct log_store *store_create(struct env *env, unsigned journal_id,
                                      const struct log_config *config)
{
    struct log_store *s = counter_calloc(sizeof(*s));
    if (s == NULL)
        return NULL;
    s->env = env;
    s->config = *config;
    s->config.direct_min_bytes = MIN(config->direct_min_bytes, (uint64_t)DIRECT_MIN_BYTES_MAX);
    s->journal.id = journal_id;
    s->retry_ns = UINT64_MAX;
    map_init(&s->plogs);
    struct list_node *lists[] = {
        &s->dirty,          &s->destage_ready, &s->behind,       &s->notify,    &s->clean,
        &s->memory_waiters, &s->disk_waiters,  &s->load_waiting, &s->big_tails, &s->lazy,
        &s->windows,        &s->sources,       &s->trimming,     &s->departing, &s->arriving,
        &s->parcels,        &s->runs_free};
    for (unsigned i = 0; i < ARRAY_LEN(lists); i++)
        list_init(lists[i]);
    return s;
}

static void store_free(struct log_store *s)
{
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL; it = 0)
        plog_destroy(p);
    ASSERT(s->unfilled_bytes == 0 || s->abandoned); /* readers may have chunks still */
    windows_fini(s);
    scrub_fini(s);
    retention_fini(s);
    compact_fini(s);
    runs_fini(s);
    journal_close(s);
    checkpoint_fini(s);
    pools_fini(s);
    syncs_fini(s);
    parks_fini(s);
    park_run_fini(s);
    map_fini(&s->plogs);
    free(s);
}

static int attach_all(struct log_store *s, const struct meta_image *meta)
{
    for (unsigned i = 0; i < meta->topics_n; i++) {
        const struct meta_topic *topic = meta->topics[i];
        for (int32_t k = 0; k < topic->partitions_n; k++)
            if (topic->partitions[k].shard == s->journal.id && plog_create(s, topic, k) == NULL)
                return -ENOMEM;
    }
    return 0;
}

static bool name_exists(struct log_store *s, const char *path)
{
    struct env_name_step step = {.kind = ENV_STEP_STAT, .path = path};
    return env_names_wait(s->env, &step, 1) != -ENOENT;
}

static bool has_directories(struct log_store *s, const struct meta_image *meta)
{
    char path[PATH_MAX];
    for (unsigned i = 0; i < meta->topics_n; i++) {
        const struct meta_topic *topic = meta->topics[i];
        for (int32_t k = 0; k < topic->partitions_n; k++) {
            const struct meta_partition *partition = &topic->partitions[k];
            unsigned dir = MIN(partition->dir, s->config.data_dirs_n - 1);
            if (s->config.data_dirs[dir] == NULL)
                continue;
            snprintf(path, sizeof(path), "%.3800s/%s-%d", s->config.data_dirs[dir], topic->name, k);
            if (partition->shard == s->journal.id && name_exists(s, path))
                return true;
        }
    }
    return false;
}

/* Without its journal a shard would take all its partitions for empty. Only one that never was is
 * made; one that something else speaks of is lost, or elsewhere. */
static int check_journal_is_there(struct log_store *s, const struct meta_image *meta, char *reason,
                                  size_t reason_size)
{
    static const char *const suffix[3] = {"", ".checkpoint.0", ".checkpoint.1"};
    char path[3][PATH_MAX];
    bool there[3];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path[i], PATH_MAX, "%.4000s/journal.%u%s", s->config.journal_dir, s->journal.id,
                 suffix[i]);
        there[i] = name_exists(s, path[i]);
    }
    if (there[0] || (!there[1] && !there[2] && !has_directories(s, meta)))
        return 0;
    snprintf(reason, reason_size,
             "%.300s is missing, but there are partitions whose records it holds", path[0]);
    return -ENOENT;
}

int log_store_open(struct env *env, unsigned journal_id, const struct log_config *config,
                   const struct meta_image *meta, struct log_store **ret, char *reason,
                   size_t reason_size)
{
    struct log_store *s = store_create(env, journal_id, config);
    int rc = s == NULL ? -ENOMEM : checkpoint_finish_taken(s);
    if (rc == 0)
        rc = check_journal_is_there(s, meta, reason, reason_size);
    else
        snprintf(reason, reason_size, "journal %u: %s", journal_id, strerror(-rc));
    if (rc == 0)
        rc = journal_open(s, reason, reason_size);
    if (rc == 0 && (rc = store_dirs_open(s)) != 0)
        snprintf(reason, reason_size, "opening the data directories: %s", strerror(-rc));
    if (rc == 0 && (rc = syncs_open(s)) != 0)
        snprintf(reason, reason_size, "not enough memory for the data directories");
    if (rc == 0 && journal_id == 0) /* the first shard, for all */
        stray_directories_settle(s, meta);
    if (rc == 0 && journal_id == 0)
        parcels_settle(s, meta);
    if (rc == 0 && (rc = attach_all(s, meta)) != 0)
        snprintf(reason, reason_size, "not enough memory for the partitions");
    if (rc == 0)
        rc = recovery_replay(s, reason, reason_size);
    if (rc == 0 && (rc = park_run_open(s)) != 0)
        snprintf(reason, reason_size, "not enough memory for side files");
    if (rc == 0 && (rc = scrub_open(s)) != 0)
        snprintf(reason, reason_size, "not enough memory for the scrub");
    if (rc == 0 && (rc = retention_open(s)) != 0)
        snprintf(reason, reason_size, "not enough memory for the retention");
    if (rc == 0 && (rc = compact_open(s)) != 0)
        snprintf(reason, reason_size, "not enough memory for compaction");
    if (rc != 0) {
        if (s != NULL)
            log_store_abandon(s);
        return rc;
    }
    *ret = s;
    return 0;
}

int log_store_attach(struct log_store *s, const struct meta_topic *topic, int32_t index,
                     struct plog **ret)
{
    if (map_get(&s->plogs, topic->partitions[index].number) != NULL)
        return -EEXIST;
    struct plog *p = plog_create(s, topic, index);
    if (p == NULL)
        return -ENOMEM;
    *ret = p;
    return 0;
}

struct plog *log_store_find(struct log_store *s, uint64_t number)
{
    struct plog *p = map_get(&s->plogs, number);
    return p == NULL || p->removed || p->departure != NULL ? NULL : p;
}

void log_store_prefetch(struct log_store *s, uint64_t number, unsigned step)
{
    const struct plog *p = map_get(&s->plogs, number);
    if (p != NULL)
        plog_prefetch(p, step);
}

struct plog *log_store_peek(struct log_store *s, uint64_t number)
{
    struct plog *p = map_get(&s->plogs, number);
    return p == NULL || p->on_removed != NULL ? NULL : p;
}

const struct log_counters *log_store_counters(const struct log_store *s)
{
    return &s->counters;
}

void log_store_producer_expiry_set(struct log_store *s, uint64_t expiry_ms)
{
    s->config.producer_expiry_ms = expiry_ms;
}

/* ---- the turn ---- */

void log_store_wait_memory(struct log_store *s, struct log_waiter *w)
{
    list_push_tail(&s->memory_waiters, &w->link);
}

bool log_store_memory_short(const struct log_store *s)
{
    return !list_empty(&s->memory_waiters) || !list_empty(&s->disk_waiters);
}

static void run_memory_waiters(struct log_store *s)
{
    if (!s->memory_freed || list_empty(&s->memory_waiters))
        return;
    s->memory_freed = false;
    struct list_node due;
    list_init(&due);
    list_splice_tail(&due, &s->memory_waiters);
    for (struct list_node *it; (it = list_pop_head(&due)) != NULL;) {
        struct log_waiter *w = container_of(it, struct log_waiter, link);
        w->run(w);
    }
}

void log_store_pump(struct log_store *s)
{
    dirs_pump(s);
    store_run_notifications(s);
    run_memory_waiters(s);
    move_pump(s);
    destage_pump(s);
    checkpoint_pump(s);
    retention_pump(s); /* these two before the journal, which their records go to: */
    compact_pump(s);   /* nothing else need happen for a long time */
    due_pump(s);
    journal_pump(s);
    journal_fill_pump(s);
    load_pump(s);
    fetch_pump(s);
    scrub_pump(s);
    trim_pump(s);
    park_run_pump(s);
}

uint64_t log_store_deadline_ns(const struct log_store *s)
{
    bool destage = !list_empty(&s->destage_ready) && destage_has_room(s);
    bool cycle_over = s->cycle && s->cycle_missing == 0;
    if (!list_empty(&s->notify) || destage || cycle_over ||
        dirs_changed(s)) /* left by the last pump */
        return 0;
    uint64_t deadline = MIN(s->retry_ns, MIN(journal_deadline_ns(s), scrub_deadline_ns(s)));
    deadline = MIN(deadline, MIN(due_deadline_ns(s), retention_deadline_ns(s)));
    deadline = MIN(deadline, MIN(compact_deadline_ns(s), move_deadline_ns(s)));
    deadline = MIN(deadline, MIN(park_run_deadline_ns(s), journal_fill_deadline_ns(s)));
    if (!list_empty(&s->disk_waiters))
        deadline = MIN(deadline, env_now_ns(s->env) + DISK_WAIT_NS);
    bool waits = !list_empty(&s->memory_waiters) || !list_empty(&s->dirty) || s->unsettled;
    if (waits && s->cycle_after_ns > env_now_ns(s->env))
        deadline = MIN(deadline, s->cycle_after_ns);
    return deadline;
}

/* ---- closing ---- */

static bool store_quiet(const struct log_store *s)
{
    return journal_idle(s) && !journal_fill_busy(s) && s->destages_n == 0 && s->jobs_n == 0 &&
           !s->checkpoint.busy && list_empty(&s->destage_ready) && list_empty(&s->notify) &&
           !scrub_busy(s) && s->windows_busy_n == 0 && trim_idle(s) && !retention_busy(s) &&
           !compact_busy(s) && move_idle(s) && !park_run_busy(s);
}

static void settle(struct log_store *s)
{
    do {
        log_store_pump(s);
        if (store_quiet(s))
            return;
        env_turn(s->env, log_store_deadline_ns(s));
    } while (true);
}

/* The last part-filled block goes to the file with a terminator behind it, so that Kafka's tools
 * see a clean end: 17 bytes of which the length field says 0x7fffffff. It is not counted as
 * destaged; the checkpoint holds the block's image. */
static int write_terminated_tail(struct segment *seg)
{
    struct env *env = seg->plog->store->env;
    uint64_t from = seg->destaged_pos, end = seg->end_pos;
    uint8_t *block;
    if (posix_memalign((void **)&block, BLOCK_BYTES, 2 * BLOCK_BYTES) != 0)
        return -ENOMEM;
    memset(block, 0, 2 * BLOCK_BYTES);
    bool copied = seg_peek(seg, from, block, (uint32_t)(end - from));
    ASSERT(copied);
    be_store32(block + (end - from) + 8, 0x7fffffff);
    uint64_t len = MIN(block_ceil(end + TERMINATOR_BYTES), seg->capacity_bytes) - from;
    int rc = len == 0 ? 0 : env_write_wait(env, seg->file, block, len, from, 0);
    free(block);
    return rc;
}

static bool has_tail(const struct plog *p)
{
    const struct segment *seg = plog_active(p);
    return seg != NULL && seg->end_pos > 0 && seg->state == SEGMENT_OPEN && p->fenced == 0 &&
           !p->removed;
}

/* Files for partitions that never had a whole block: asked for together, made one by one. */
static void want_tail_files(struct log_store *s)
{
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        if (has_tail(p) && !seg_file_ready(plog_active(p)))
            seg_file_want(plog_active(p));
    settle(s);
}

static int plog_close_active(struct plog *p)
{
    struct segment *seg = plog_active(p);
    if (!has_tail(p))
        return p->offline ? 0 : p->fenced;
    if (!seg_file_ready(seg)) /* found too short at first */
        want_tail_files(p->store);
    if (!seg_file_ready(seg) || seg->stable_pos != seg->end_pos ||
        seg->end_pos - seg->destaged_pos >= BLOCK_BYTES)
        return p->fenced != 0 ? p->fenced : -EIO;
    return write_terminated_tail(seg);
}

/* How many flushes of their devices have failed so far, all directories together. One that is found
 * to have failed as a whole goes offline. */
static int flushes_failed(struct log_store *s, uint64_t *ret)
{
    *ret = 0;
    for (unsigned i = 0; i < s->config.data_dirs_n; i++) {
        struct env_name_step step = {.kind = ENV_STEP_STAT, .path = s->config.data_dirs[i]};
        int rc = dir_is_offline(s, i) ? 0 : env_names_wait(s->env, &step, 1);
        if (rc != 0 && dir_failed(s, i, rc, "looking at it"))
            continue;
        if (rc != 0)
            return rc;
        *ret += step.ret_flushes_failed;
    }
    return 0;
}

/* What was written since `failed_before` was counted is durable, or it is not known to be: nothing
 * is of a directory that has gone offline since, as `offline_before` says. */
static int sync_data_dirs(struct log_store *s, uint64_t failed_before, uint64_t offline_before)
{
    uint64_t failed_now;
    if (s->dirs_offline != offline_before || dirs_changed(s))
        return -EIO;
    for (unsigned i = 0; i < s->config.data_dirs_n; i++) {
        struct env_name_step step = {.kind = ENV_STEP_SYNC_FS, .path = s->config.data_dirs[i]};
        int rc = dir_is_offline(s, i) ? 0 : env_names_wait(s->env, &step, 1);
        if (rc != 0)
            return rc;
    }
    int rc = flushes_failed(s, &failed_now);
    return rc == 0 && failed_now != failed_before ? -EIO : rc;
}

static int close_all_active(struct log_store *s)
{
    int first_error = 0;
    struct plog *p;
    want_tail_files(s);
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;) {
        int rc = plog_close_active(p);
        if (rc < 0 && first_error == 0)
            first_error = rc;
    }
    return first_error;
}

/* All bytes into the journal or their segments, though it takes several checkpoints to make room:
 * one under way may be too old to free any. What a failure holds back stays. */
static void settle_dirty(struct log_store *s)
{
    due_all(s);
    settle(s);
    for (unsigned tries = 0; tries < CLOSE_CYCLES_MAX && !list_empty(&s->dirty); tries++) {
        s->cycle_after_ns = 0;
        store_want_cycle(s);
        settle(s);
    }
}

int log_store_close(struct log_store *s)
{
    scrub_stop(s);
    retention_stop(s);
    compact_stop(s);
    moves_stop(s);
    s->stopping = true;
    settle_dirty(s);
    uint64_t failed_before;
    int count_rc = flushes_failed(s, &failed_before);
    dirs_pump(s);
    uint64_t offline_before = s->dirs_offline;
    s->closing = true;
    s->cycle_after_ns = 0;
    store_want_cycle(s);
    settle(s);
    int rc = s->failed;
    if (rc == 0)
        rc = close_all_active(s);
    settle(s);
    int sync_rc = s->failed != 0 ? s->failed : count_rc;
    if (sync_rc == 0)
        sync_rc = sync_data_dirs(s, failed_before, offline_before);
    if (sync_rc == 0)
        sync_rc = checkpoint_write_full(s);
    store_free(s);
    return rc != 0 ? rc : sync_rc;
}

static bool io_in_flight(const struct log_store *s)
{
    if (!journal_idle(s) || journal_fill_busy(s) || s->destages_n > 0 || s->jobs_n > 0 ||
        s->checkpoint.busy || park_run_busy(s))
        return true;
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        if (p->holds > 0)
            return true;
    return false;
}

void log_store_abandon(struct log_store *s)
{
    s->abandoned = true;
    scrub_stop(s);
    retention_stop(s);
    compact_stop(s);
    s->failed = s->failed != 0 ? s->failed : -EIO;
    while (io_in_flight(s)) {
        compact_abandon(s);
        fetch_fail_all(s);
        load_pump(s);
        env_turn(s->env, UINT64_MAX);
    }
    store_free(s);
}
