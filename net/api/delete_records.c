/* DeleteRecords, key 21: moves the start of a partition's log. Answered when that is durable, and
 * seen by Fetch and ListOffsets. What is not durable after timeout_ms is answered with error 7; it
 * is not undone, as in Kafka. */
#include <errno.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"
#include "net/api/fanout.h"

#define TO_HIGH_WATERMARK (-1)

typedef struct delete_records_request_delete_records_topic asked_topic;
typedef struct delete_records_request_delete_records_partition asked_partition;
typedef struct delete_records_response_delete_records_topic_result told_topic;
typedef struct delete_records_response_delete_records_partition_result told_partition;

struct delete_item {
    struct fanout_item fan;
    int64_t offset;
    told_partition *told;
    struct fanout_group *group;
    struct plog_start_waiter waiter;
    struct shard_timer timer; /* the one of a group's first item is the group's */
};

struct delete_call {
    struct fanout fan;
    uint64_t timeout_ns;
    struct delete_records_response response;
    struct delete_item *items;
    uint32_t items_n;
};

/* ---- on the owner ---- */

static struct delete_item *first_of(const struct fanout_group *g)
{
    return container_of(g->first, struct delete_item, fan);
}

static void one_done(struct fanout_group *g)
{
    if (--g->pending > 0)
        return;
    shard_timer_clear(g->owner, &first_of(g)->timer);
    fanout_group_done(g);
}

static void item_done(struct delete_item *item, int rc)
{
    const struct plog *p = log_store_peek(item->group->owner->logs, item->fan.target.number);
    item->fan.error = kafka_error_of(rc);
    if (rc == 0 && p != NULL)
        item->told->low_watermark = plog_start_offset(p);
    one_done(item->group);
}

/* The time is over: who waits for the log is not told any more. */
static void on_late(struct shard_timer *t)
{
    struct fanout_group *g = container_of(t, struct delete_item, timer)->group;
    g->pending++; /* this function */
    for (struct fanout_item *it = g->first; it != NULL; it = it->next) {
        struct delete_item *item = container_of(it, struct delete_item, fan);
        if (!plog_start_waiter_clear(&item->waiter))
            continue;
        item->fan.error = KAFKA_REQUEST_TIMED_OUT;
        one_done(g);
    }
    one_done(g);
}

static void on_start(struct plog_start_waiter *w, int rc)
{
    item_done(container_of(w, struct delete_item, waiter), rc);
}

static void item_run(struct delete_item *item)
{
    struct plog *p = log_store_find(item->group->owner->logs, item->fan.target.number);
    if (p == NULL) {
        item_done(item, -EXDEV);
        return;
    }
    int64_t offset = item->offset == TO_HIGH_WATERMARK ? plog_high_watermark(p) : item->offset;
    int rc = plog_delete_records(p, offset, &item->waiter, on_start);
    if (rc != 0)
        item_done(item, rc < 0 ? rc : 0);
}

static void group_run(struct fanout_group *g)
{
    const struct delete_call *c = container_of(g->fanout, struct delete_call, fan);
    g->pending = 1; /* this function */
    for (struct fanout_item *it = g->first; it != NULL; it = it->next) {
        struct delete_item *item = container_of(it, struct delete_item, fan);
        item->group = g;
        if (it->error != KAFKA_NONE)
            continue;
        g->pending++;
        item_run(item);
    }
    if (g->pending > 1)
        shard_timer_set(g->owner, &first_of(g)->timer, env_now_ns(g->owner->env) + c->timeout_ns,
                        on_late);
    one_done(g);
}

/* ---- on the front ---- */

static void call_done(struct fanout *f)
{
    struct delete_call *c = container_of(f, struct delete_call, fan);
    for (uint32_t i = 0; i < c->items_n; i++)
        c->items[i].told->error_code = c->items[i].fan.error;
    request_reply(f->r, &c->response);
}

/* 0, or why nobody deletes records of this topic. */
static int16_t topic_refuses(const struct meta_topic *topic, struct wire_str name)
{
    if (topic == NULL)
        return KAFKA_NONE; /* fanout_resolve says so */
    if (admin_topic_is_internal(name))
        return KAFKA_INVALID_TOPIC_EXCEPTION;
    bool compacted_only = topic->config.cleanup_policy == TOPIC_CLEANUP_COMPACT;
    return compacted_only ? KAFKA_POLICY_VIOLATION : KAFKA_NONE;
}

static int item_prepare(struct delete_call *c, const struct meta_topic *topic, int16_t refused,
                        const asked_partition *asked, told_partition *told)
{
    struct delete_item *item = &c->items[c->items_n++];
    item->offset = asked->offset;
    item->told = told;
    *told = (told_partition){.partition_index = asked->partition_index, .low_watermark = -1};
    item->fan.error =
        fanout_resolve(c->fan.r->shard, topic, asked->partition_index, &item->fan.target);
    if (item->fan.error == KAFKA_NONE)
        item->fan.error = refused;
    if (item->fan.error == KAFKA_NONE && asked->offset < TO_HIGH_WATERMARK)
        item->fan.error = KAFKA_OFFSET_OUT_OF_RANGE;
    if (item->fan.error != KAFKA_NONE)
        return 0;
    return fanout_add(&c->fan, &item->fan, KAFKA_INVALID_REQUEST);
}

static int topic_prepare(struct delete_call *c, const asked_topic *asked, told_topic *told)
{
    struct request *r = c->fan.r;
    const struct meta_topic *topic = net_topic(r->shard, asked->name, NULL);
    int16_t refused = topic_refuses(topic, asked->name);
    told->name = asked->name;
    told->partitions_n = MAX(asked->partitions_n, 0);
    told->partitions =
        wire_new_array(&delete_records_response_delete_records_partition_result_schema, &r->arena,
                       told->partitions_n);
    int rc = told->partitions == NULL ? -1 : 0;
    for (int32_t i = 0; rc == 0 && i < told->partitions_n; i++)
        rc = item_prepare(c, topic, refused, &asked->partitions[i], &told->partitions[i]);
    return rc;
}

static bool call_prepare(struct delete_call *c, struct request *r,
                         const struct delete_records_request *asked)
{
    uint32_t items_n = 0;
    for (int32_t t = 0; t < asked->topics_n; t++)
        items_n += (uint32_t)MAX(asked->topics[t].partitions_n, 0);
    c->timeout_ns = (uint64_t)MAX(asked->timeout_ms, 0) * 1000000u;
    c->items = arena_array(&r->arena, items_n, sizeof(*c->items));
    wire_set_defaults(&delete_records_response_schema, &c->response);
    c->response.topics_n = MAX(asked->topics_n, 0);
    c->response.topics = wire_new_array(&delete_records_response_delete_records_topic_result_schema,
                                        &r->arena, c->response.topics_n);
    if (c->items == NULL || c->response.topics == NULL || fanout_init(&c->fan, r, items_n) < 0)
        return false;
    for (int32_t t = 0; t < c->response.topics_n; t++)
        if (topic_prepare(c, &asked->topics[t], &c->response.topics[t]) < 0)
            return false;
    return true;
}

void delete_records_handle(struct request *r, void *body)
{
    struct delete_call *c = request_alloc(r, sizeof(*c));
    bool is_ready = c != NULL && call_prepare(c, r, body);
    fanout_handle(r, c == NULL ? NULL : &c->fan, is_ready, group_run, call_done);
}
