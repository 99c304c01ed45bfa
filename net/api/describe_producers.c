/* DescribeProducers, key 61: the idempotent producers that a partition remembers. */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"
#include "net/api/fanout.h"

typedef struct describe_producers_request_topic_request asked_topic;
typedef struct describe_producers_response_topic_response told_topic;
typedef struct describe_producers_response_partition_response told_partition;
typedef struct describe_producers_response_producer_state told_producer;

struct producers_item {
    struct fanout_item fan;
    told_partition *told;
    struct plog_producer *producers; /* made by the owner, freed with the answer */
    uint32_t producers_n;
};

struct producers_call {
    struct fanout fan;
    struct describe_producers_response response;
    struct producers_item *items;
    uint32_t items_n;
};

static void item_run(struct producers_item *item, struct shard *owner)
{
    const struct plog *p = log_store_find(owner->logs, item->fan.target.number);
    if (p == NULL) {
        item->fan.error = KAFKA_NOT_LEADER_OR_FOLLOWER;
        return;
    }
    uint32_t n = plog_producers(p, NULL, 0);
    item->producers = calloc(MAX(n, 1u), sizeof(*item->producers));
    if (item->producers == NULL)
        item->fan.error = KAFKA_UNKNOWN_SERVER_ERROR;
    else
        item->producers_n = plog_producers(p, item->producers, n);
}

static void group_run(struct fanout_group *g)
{
    for (struct fanout_item *it = g->first; it != NULL; it = it->next)
        if (it->error == KAFKA_NONE)
            item_run(container_of(it, struct producers_item, fan), g->owner);
    fanout_group_done(g);
}

static bool item_tell(struct producers_call *c, const struct producers_item *item)
{
    told_partition *t = item->told;
    t->error_code = item->fan.error;
    t->error_message = wire_str_of(NULL);
    t->active_producers = wire_new_array(&describe_producers_response_producer_state_schema,
                                         &c->fan.r->arena, (int32_t)item->producers_n);
    if (t->active_producers == NULL)
        return false;
    t->active_producers_n = (int32_t)item->producers_n;
    for (uint32_t i = 0; i < item->producers_n; i++) {
        told_producer *p = &t->active_producers[i];
        p->producer_id = item->producers[i].id;
        p->producer_epoch = item->producers[i].epoch;
        p->last_sequence = item->producers[i].last_sequence;
        p->last_timestamp = item->producers[i].last_ms;
        p->coordinator_epoch = -1; /* no transaction of it was ever ended */
    }
    return true;
}

static void call_done(struct fanout *f)
{
    struct producers_call *c = container_of(f, struct producers_call, fan);
    bool fits = true;
    for (uint32_t i = 0; i < c->items_n; i++) {
        fits = fits && item_tell(c, &c->items[i]);
        free(c->items[i].producers);
    }
    if (fits)
        request_reply(f->r, &c->response);
    else
        request_fail(f->r, "no memory");
}

static int item_prepare(struct producers_call *c, const struct meta_topic *topic, int32_t index,
                        told_partition *told)
{
    struct producers_item *item = &c->items[c->items_n++];
    *item = (struct producers_item){.told = told};
    told->partition_index = index;
    item->fan.error = fanout_resolve(c->fan.r->shard, topic, index, &item->fan.target);
    if (item->fan.error != KAFKA_NONE)
        return 0;
    return fanout_add(&c->fan, &item->fan, KAFKA_INVALID_REQUEST);
}

static int topic_prepare(struct producers_call *c, const asked_topic *asked, told_topic *told)
{
    struct request *r = c->fan.r;
    const struct meta_topic *topic = net_topic(r->shard, asked->name, NULL);
    told->name = asked->name;
    told->partitions_n = MAX(asked->partition_indexes_n, 0);
    told->partitions = wire_new_array(&describe_producers_response_partition_response_schema,
                                      &r->arena, told->partitions_n);
    int rc = told->partitions == NULL ? -1 : 0;
    for (int32_t i = 0; rc == 0 && i < told->partitions_n; i++)
        rc = item_prepare(c, topic, asked->partition_indexes[i], &told->partitions[i]);
    return rc;
}

static bool call_prepare(struct producers_call *c, struct request *r,
                         const struct describe_producers_request *asked)
{
    uint32_t items_n = 0;
    for (int32_t t = 0; t < asked->topics_n; t++)
        items_n += (uint32_t)MAX(asked->topics[t].partition_indexes_n, 0);
    c->items = arena_array(&r->arena, items_n, sizeof(*c->items));
    wire_set_defaults(&describe_producers_response_schema, &c->response);
    c->response.topics_n = MAX(asked->topics_n, 0);
    c->response.topics = wire_new_array(&describe_producers_response_topic_response_schema,
                                        &r->arena, c->response.topics_n);
    if (c->items == NULL || c->response.topics == NULL || fanout_init(&c->fan, r, items_n) < 0)
        return false;
    for (int32_t t = 0; t < c->response.topics_n; t++)
        if (topic_prepare(c, &asked->topics[t], &c->response.topics[t]) < 0)
            return false;
    return true;
}

void describe_producers_handle(struct request *r, void *body)
{
    struct producers_call *c = request_alloc(r, sizeof(*c));
    bool is_ready = c != NULL && call_prepare(c, r, body);
    fanout_handle(r, c == NULL ? NULL : &c->fan, is_ready, group_run, call_done);
}
