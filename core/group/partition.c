/* partition.c: one partition of __consumer_offsets: records into its log, in order, and who waits
 * for them.
 *
 * writes_end() queues batches; the pump, a timer that is due at once, hands them to the log behind
 * whatever is being done to groups, so that no failure of the log comes in the middle of that. */
#include "core/group/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define BATCH_BYTES_SPLIT (256u << 10)
#define SPACE_RETRY_MS 1000

static struct plog *plog_of(const struct partition *p)
{
    return log_store_find(p->coord->shard->logs, p->number);
}

/* ---- making batches ---- */

void writes_begin(struct partition *p)
{
    struct group_coord *c = p->coord;
    ASSERT(list_empty(&c->made));
    c->writing = p;
    c->made_rc = 0;
    batch_builder_reset(&c->builder);
}

static size_t batch_bytes_max(const struct group_coord *c)
{
    const struct meta_topic *topic =
        meta_topic_by_name(c->shard->meta, GROUP_TOPIC_NAME, strlen(GROUP_TOPIC_NAME));
    if (topic == NULL)
        return 0;
    return (size_t)MIN(topic->config.max_message_bytes, topic->config.segment_bytes);
}

static void batch_make(struct group_coord *c)
{
    uint8_t *data;
    size_t len_bytes;
    int rc = batch_builder_finish(&c->builder, &data, &len_bytes);
    if (rc == 0 && len_bytes > batch_bytes_max(c))
        rc = -EMSGSIZE;
    struct write *w = rc < 0 ? NULL : mem_take(c, sizeof(*w));
    uint8_t *copy = w == NULL ? NULL : mem_take(c, len_bytes);
    if (copy == NULL) {
        mem_give(c, w);
        c->made_rc = rc < 0 ? rc : -ENOMEM;
        return;
    }
    memcpy(copy, data, len_bytes);
    *w = (struct write){.partition = c->writing, .batch = copy, .len_bytes = len_bytes};
    list_push_tail(&c->made, &w->link);
    batch_builder_reset(&c->builder);
}

void writes_add(struct group_coord *c, const struct record_out *key, const struct record_out *value)
{
    if (c->made_rc < 0)
        return;
    bool is_null = value == NULL;
    if (key->failed || (!is_null && value->failed) || (!is_null && value->len > INT32_MAX)) {
        c->made_rc = -EMSGSIZE;
        return;
    }
    size_t more = key->len + (is_null ? 0 : value->len);
    if (c->builder.record_count > 0 &&
        batch_builder_plain_bytes(&c->builder) + more > BATCH_BYTES_SPLIT)
        batch_make(c);
    if (c->made_rc == 0)
        c->made_rc = batch_builder_add(&c->builder, env_wall_ms(c->shard->env), key->p,
                                       (int32_t)key->len, is_null ? NULL : value->p,
                                       is_null ? -1 : (int32_t)value->len, NULL, 0);
}

static void write_free(struct write *w)
{
    struct group_coord *c = w->partition->coord;
    list_remove(&w->link);
    mem_give(c, w->batch);
    mem_give(c, w);
}

static void on_pump_timer(struct shard_timer *t);

static void pump_soon(struct group_coord *c)
{
    if (c->pump_timer.heap_at == 0)
        timer_set_ms(c, &c->pump_timer, 0, on_pump_timer);
}

int writes_end(struct group_coord *c)
{
    struct partition *p = c->writing;
    if (c->made_rc == 0 && c->builder.record_count > 0)
        batch_make(c);
    if (c->made_rc < 0) {
        for (struct list_node *it; (it = list_head(&c->made)) != NULL;)
            write_free(container_of(it, struct write, link));
        return c->made_rc;
    }
    list_for_each(it, &c->made)
        container_of(it, struct write, link)->seq = ++p->written_seq;
    list_splice_tail(&p->writes, &c->made);
    pump_soon(c);
    return 0;
}

/* ---- waiting ---- */

void partition_wait(struct partition *p, struct group_wait *w,
                    void (*run)(struct group_wait *, int))
{
    w->seq = p->written_seq;
    w->run = run;
    if (w->seq == p->stable_seq)
        run(w, 0);
    else
        list_push_tail(&p->waits, &w->link);
}

static void waits_run(struct partition *p, int rc)
{
    for (struct list_node *it; (it = list_head(&p->waits)) != NULL;) {
        struct group_wait *w = container_of(it, struct group_wait, link);
        if (rc == 0 && w->seq > p->stable_seq)
            return;
        list_remove(it);
        w->run(w, rc);
    }
}

/* ---- into the log ---- */

static void groups_drop(struct partition *p, enum group_error error)
{
    for (struct list_node *it; (it = list_head(&p->groups)) != NULL;)
        group_destroy(container_of(it, struct group, link), error);
}

static void writes_drop(struct partition *p)
{
    for (struct list_node *it; (it = list_head(&p->writes)) != NULL;)
        write_free(container_of(it, struct write, link));
    list_remove(&p->memory_waiter.link);
    shard_timer_clear(p->coord->shard, &p->retry);
}

static void partition_fail(struct partition *p, int rc)
{
    if (p->state == PARTITION_FAILED)
        return;
    if (!p->orphan)
        log_error("shard %u / %s-%d: groups are not served any more: %s", p->coord->shard->index,
                  GROUP_TOPIC_NAME, p->index, strerror(-rc));
    p->state = PARTITION_FAILED;
    waits_run(p, rc);
    groups_drop(p, p->orphan ? GROUP_NOT_COORDINATOR : GROUP_NOT_AVAILABLE);
    writes_drop(p);
}

static void orphan_free_idle(struct partition *p)
{
    if (!p->orphan || partition_busy(p))
        return;
    list_remove(&p->link);
    free(p);
}

/* In order: the log finishes appends as they came. */
static void write_finish(struct write *w, int rc)
{
    struct partition *p = w->partition;
    uint64_t seq = w->seq;
    write_free(w);
    if (rc < 0) {
        partition_fail(p, rc);
    } else if (p->state != PARTITION_FAILED) {
        p->stable_seq = seq;
        waits_run(p, 0);
    }
    orphan_free_idle(p);
}

static void on_append(struct log_append *a, int rc)
{
    write_finish(container_of(a, struct write, append), rc);
}

static void writes_pump(struct partition *p);

static void on_memory(struct log_waiter *w)
{
    writes_pump(container_of(w, struct partition, memory_waiter));
}

static void on_retry(struct shard_timer *t)
{
    writes_pump(container_of(t, struct partition, retry));
}

/* 1: it is stable already; 0: on its way; else it was not taken. */
static int write_append(struct write *w)
{
    struct plog *plog = plog_of(w->partition);
    struct batch_header h;
    if (plog == NULL)
        return -ENOENT;
    int rc = batch_peek(w->batch, w->len_bytes, &h);
    ASSERT(rc == 0);
    return plog_append(plog, w->batch, &h, true, &w->append, on_append);
}

static void writes_pump(struct partition *p)
{
    struct group_coord *c = p->coord;
    for (struct list_node *it; (it = list_head(&p->writes)) != NULL;) {
        struct write *w = container_of(it, struct write, link);
        int rc = write_append(w);
        if (rc == -EAGAIN) {
            p->memory_waiter.run = on_memory;
            if (!list_linked(&p->memory_waiter.link))
                log_store_wait_memory(c->shard->logs, &p->memory_waiter);
            return;
        }
        if (rc == -ENOSPC) {
            timer_set_ms(c, &p->retry, SPACE_RETRY_MS, on_retry);
            return;
        }
        if (rc < 0) {
            partition_fail(p, rc);
            return;
        }
        mem_give(c, w->batch);
        w->batch = NULL;
        list_remove(&w->link);
        list_push_tail(&p->appended, &w->link);
        if (rc == 1)
            write_finish(w, 0);
    }
}

static void on_pump_timer(struct shard_timer *t)
{
    struct group_coord *c = container_of(t, struct group_coord, pump_timer);
    for (int32_t i = 0; i < c->partitions_n; i++) {
        struct partition *p = c->partitions[i];
        bool waits = p != NULL && (list_linked(&p->memory_waiter.link) || p->retry.heap_at != 0);
        if (p != NULL && !waits)
            writes_pump(p);
    }
}

/* ---- life ---- */

struct partition *partition_create(struct group_coord *c, int32_t index, uint64_t number)
{
    struct partition *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->coord = c;
    p->index = index;
    p->number = number;
    list_init(&p->groups);
    list_init(&p->writes);
    list_init(&p->appended);
    list_init(&p->waits);
    struct plog *plog = plog_of(p);
    p->load_offset = plog == NULL ? 0 : plog_start_offset(plog);
    p->load_end = plog == NULL ? 0 : plog_high_watermark(plog);
    bool empty = plog != NULL && p->load_offset == p->load_end;
    p->state = empty ? PARTITION_READY : PARTITION_LOADING;
    if (plog != NULL && plog_is_offline(plog)) /* nobody is sent here, see FindCoordinator */
        p->state = PARTITION_FAILED;
    return p;
}

bool partition_busy(const struct partition *p)
{
    return !list_empty(&p->writes) || !list_empty(&p->appended) || p->coord->reading == p;
}

void partition_let_go(struct partition *p)
{
    p->orphan = true;
    list_push_tail(&p->coord->orphans, &p->link);
    partition_fail(p, -ENOENT);
    orphan_free_idle(p);
}

/* Who waits for other members is told to look elsewhere; what is on its way to the disk goes on,
 * but not what the disk has no space for. */
void partition_stop(struct partition *p)
{
    struct shard *s = p->coord->shard;
    if (p->retry.heap_at != 0)
        partition_fail(p, -ENOSPC);
    list_for_each(it, &p->groups) {
        struct group *g = container_of(it, struct group, link);
        shard_timer_clear(s, &g->phase);
        list_for_each(node, &g->members) {
            struct group_member *m = container_of(node, struct group_member, link);
            shard_timer_clear(s, &m->session);
            member_answer_sync(m, GROUP_NOT_AVAILABLE);
            if (m->join != NULL)
                join_answer_error(m->join, GROUP_NOT_AVAILABLE);
        }
        list_for_each(node, &g->pending)
            shard_timer_clear(s, &container_of(node, struct pending, link)->session);
    }
}
