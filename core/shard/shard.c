#include "core/shard/shard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/shard/controller.h"
#include "core/shard/producer_ids.h"
#include "core/shard/timers.h"

enum {
    READY_BYTES = 4 << 20,
    STEP_BYTES = 2 << 20, /* a huge page: memory of a shard is aligned to them */
};

/* ---- applying a new image ---- */

static void publish_step_done(struct publish *p, int rc)
{
    if (p->rc == 0)
        p->rc = rc;
    if (--p->pending > 0)
        return;
    p->msg.run = controller_on_ack;
    env_post(p->shard->env, 0, &p->msg);
}

static void on_removed(void *arg, int rc)
{
    struct publish *p = arg;
    /* A file that could not be removed costs space, not correctness: the topic is gone. */
    if (rc < 0)
        log_warn("shard %u: files of a deleted partition stay behind: %s", p->shard->index,
                 strerror(-rc));
    publish_step_done(p, 0);
}

static void topic_remove(struct shard *s, struct publish *p, const struct meta_topic *topic)
{
    for (int32_t i = 0; i < topic->partitions_n; i++) {
        if (topic->partitions[i].shard != s->index)
            continue;
        struct plog *plog = log_store_peek(s->logs, topic->partitions[i].number);
        if (plog == NULL)
            continue;
        p->pending++;
        log_store_remove(s->logs, plog, on_removed, p);
    }
}

static void on_arrived(struct log_arrival *a, int rc)
{
    struct publish *p = container_of(a, struct publish, arrival);
    struct shard *s = p->shard;
    if (rc < 0)
        log_error("shard %u / %s-%d / arrive: %s", s->index, a->topic->name, a->index,
                  strerror(-rc));
    else if (s->on_meta != NULL && s->meta == p->image) /* else it is about to be told */
        s->on_meta(s, NULL);
    publish_step_done(p, rc);
}

static void partition_arrive(struct shard *s, struct publish *p, const struct meta_topic *topic,
                             int32_t i)
{
    p->pending++;
    p->arrival = (struct log_arrival){.topic = topic,
                                      .index = i,
                                      .parcel = p->parcel->bytes,
                                      .parcel_bytes = p->parcel->len_bytes};
    log_store_arrive(s->logs, &p->arrival, on_arrived);
}

static void partition_leave(struct shard *s, const struct meta_partition *partition)
{
    struct log_departure *left = log_store_departed(s->logs, partition->number);
    if (left != NULL)
        log_departure_end(left, true);
}

/* Numbers rise: what was there before and is not here came to grief, and is not new. */
static bool is_new(const struct shard *s, const struct meta_partition *partition)
{
    return partition->number >= s->meta->next_number;
}

/* Attaches what is new of this topic and tells the rest about its configuration. */
static int topic_adopt(struct shard *s, struct publish *p, const struct meta_topic *topic)
{
    int first_error = 0;
    for (int32_t i = 0; i < topic->partitions_n; i++) {
        const struct meta_partition *partition = &topic->partitions[i];
        if (partition->shard != s->index) {
            partition_leave(s, partition);
            continue;
        }
        struct plog *plog = log_store_peek(s->logs, partition->number);
        if (plog != NULL) {
            plog_configure(plog, topic);
            continue;
        }
        if (p->parcel != NULL && p->parcel->number == partition->number) {
            partition_arrive(s, p, topic, i);
            continue;
        }
        if (!is_new(s, partition))
            continue;
        int rc = log_store_attach(s->logs, topic, i, &plog);
        if (rc < 0 && first_error == 0) {
            log_error("shard %u / %s-%d / attach: %s", s->index, topic->name, i, strerror(-rc));
            first_error = rc;
        }
    }
    return first_error;
}

void shard_apply(void *shard, struct env_msg *msg)
{
    struct shard *s = shard;
    struct publish *p = container_of(msg, struct publish, msg);
    p->shard = s;
    p->pending = 1;
    int rc = 0;
    const struct meta_topic *gone = NULL;
    if (!meta_uuid_is_zero(&p->topic_id)) {
        const struct meta_topic *before = meta_topic_by_id(s->meta, &p->topic_id);
        const struct meta_topic *after = meta_topic_by_id(p->image, &p->topic_id);
        if (after != NULL)
            rc = topic_adopt(s, p, after);
        else if (before != NULL)
            topic_remove(s, p, before);
        gone = after == NULL ? before : NULL;
    }
    for (unsigned i = 0; p->all_topics && i < p->image->topics_n; i++)
        topic_adopt(s, p, p->image->topics[i]);
    s->meta = p->image;
    if (s->on_meta != NULL)
        s->on_meta(s, gone);
    publish_step_done(p, rc);
}

void shard_meta_change(struct shard *s, struct meta_change *c, meta_change_fn on_done)
{
    c->on_done = on_done;
    c->asker = s->index;
    c->msg.run = controller_on_request;
    c->record = (struct meta_record){0};
    env_post(s->env, 0, &c->msg);
}

const struct broker_node *broker_node_by_id(const struct broker *b, int32_t node_id)
{
    for (unsigned i = 0; i < b->nodes_n; i++)
        if (b->nodes[i].node_id == node_id)
            return &b->nodes[i];
    return NULL;
}

/* ---- a data directory has failed ---- */

static void on_dir_wake(void *shard, struct env_msg *msg)
{
    (void)shard;
    container_of(msg, struct shard_dir_wake, msg)->posted = false;
}

/* A message that is still under way does for this one, too: the bit was set before. */
static void on_dir_failed(void *arg)
{
    struct shard *s = arg;
    for (unsigned i = 0; i < s->broker->shards_n; i++) {
        struct shard_dir_wake *w = &s->dir_wakes[i];
        if (i == s->index || w->posted)
            continue;
        w->posted = true;
        w->msg.run = on_dir_wake;
        env_post(s->env, i, &w->msg);
    }
}

/* ---- life ---- */

/* Half for partition buffers, half for requests and disk reads. */
static int memory_init(struct shard *s, void *memory, size_t memory_bytes)
{
    size_t quarter = block_floor(memory_bytes / 4);
    char *base = memory;
    int rc = buddy_init(&s->log_memory, base, 2 * quarter);
    if (rc < 0)
        return rc;
    rc = buddy_init(&s->net_memory, base + 2 * quarter, quarter);
    if (rc == 0) {
        rc = buddy_init(&s->read_memory, base + 3 * quarter, quarter);
        if (rc == 0)
            return 0;
        buddy_fini(&s->net_memory);
    }
    buddy_fini(&s->log_memory);
    return rc;
}

static void memory_fini(struct shard *s)
{
    buddy_fini(&s->read_memory);
    buddy_fini(&s->net_memory);
    buddy_fini(&s->log_memory);
}

int shard_init(struct shard *s, struct env *env, const struct broker *broker, void *memory,
               size_t memory_bytes, const struct meta_image *meta, char *reason, size_t reason_size)
{
    *s = (struct shard){.env = env, .index = env->index, .broker = broker, .meta = meta};
    snprintf(reason, reason_size, "no memory");
    int rc = memory_init(s, memory, memory_bytes);
    if (rc < 0)
        return rc;
    rc = producer_ids_init(s);
    if (rc < 0)
        goto err_memory;
    s->log_config = broker->log;
    s->log_config.shards_n = broker->shards_n;
    s->log_config.memory = &s->log_memory;
    s->log_config.read_memory = &s->read_memory;
    s->log_config.on_dir_failed = on_dir_failed;
    s->log_config.on_dir_failed_arg = s;
    rc = log_store_open(env, s->index, &s->log_config, meta, &s->logs, reason, reason_size);
    if (rc < 0)
        goto err_producer_ids;
    s->log_opened_bytes = s->log_memory.used_end_bytes;
    env->shard = s;
    return 0;
err_producer_ids:
    producer_ids_fini(s);
err_memory:
    ASSERT(rc < 0);
    memory_fini(s);
    return rc;
}

/* The first touch of a page stalls whoever does it: a huge one for 0.3 ms, in a virtual machine
 * that must ask its host for it for up to 10 ms. Partition buffers come to new pages all the time,
 * until all were used once; so from the first record on a few of them are always ready. Requests
 * and reads use the same few again and again. */
static void pages_ready(struct shard *s)
{
    const struct buddy *b = &s->log_memory;
    size_t at = s->log_present_bytes;
    if (b->used_end_bytes == s->log_opened_bytes ||
        at >= MIN(b->used_end_bytes + READY_BYTES, b->size_bytes))
        return;
    size_t step = MIN((size_t)STEP_BYTES, b->size_bytes - at);
    if (env_populate(s->env, b->base + at, step))
        s->log_present_bytes = at + step;
}

void shard_turn(struct shard *s)
{
    pages_ready(s);
    env_turn(s->env, MIN(timers_deadline_ns(s), log_store_deadline_ns(s->logs)));
    timers_run_due(s, env_now_ns(s->env));
    log_store_pump(s->logs);
    if (s->on_turn != NULL)
        s->on_turn(s);
}

static void shard_free(struct shard *s)
{
    timers_fini(s);
    producer_ids_fini(s);
    memory_fini(s);
    s->logs = NULL;
}

int shard_fini(struct shard *s)
{
    int rc = log_store_close(s->logs);
    shard_free(s);
    return rc;
}

void shard_abandon(struct shard *s)
{
    log_store_abandon(s->logs);
    shard_free(s);
}
