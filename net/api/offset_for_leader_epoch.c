/* OffsetForLeaderEpoch, key 23: where the records of a leader epoch end, by which a client that
 * has read under an older epoch finds out whether its position still exists.
 * replica_id is not looked at: -1 and -2 are clients, and there are no followers to be served. */
#include "core/base/bytes.h"
#include "net/api/fanout.h"

typedef struct offset_for_leader_epoch_request_offset_for_leader_topic asked_topic;
typedef struct offset_for_leader_epoch_request_offset_for_leader_partition asked_partition;
typedef struct offset_for_leader_epoch_response_offset_for_leader_topic_result told_topic;
typedef struct offset_for_leader_epoch_response_epoch_end_offset told_partition;

struct epoch_item {
    struct fanout_item fan;
    const asked_partition *asked;
    told_partition *told;
};

struct epoch_call {
    struct fanout fan;
    struct offset_for_leader_epoch_response response;
    struct epoch_item *items;
    uint32_t items_n;
};

static void item_run(struct epoch_item *item, struct shard *owner)
{
    const struct plog *p = log_store_find(owner->logs, item->fan.target.number);
    if (p == NULL) {
        item->fan.error = KAFKA_NOT_LEADER_OR_FOLLOWER;
        return;
    }
    item->fan.error = fanout_check_epoch(item->asked->current_leader_epoch, plog_leader_epoch(p));
    if (item->fan.error == KAFKA_NONE)
        plog_epoch_end(p, item->asked->leader_epoch, &item->told->leader_epoch,
                       &item->told->end_offset);
}

static void group_run(struct fanout_group *g)
{
    for (struct fanout_item *it = g->first; it != NULL; it = it->next)
        if (it->error == KAFKA_NONE)
            item_run(container_of(it, struct epoch_item, fan), g->owner);
    fanout_group_done(g);
}

static void call_done(struct fanout *f)
{
    struct epoch_call *c = container_of(f, struct epoch_call, fan);
    for (uint32_t i = 0; i < c->items_n; i++)
        c->items[i].told->error_code = c->items[i].fan.error;
    request_reply(f->r, &c->response);
}

static int item_prepare(struct epoch_call *c, const struct meta_topic *topic,
                        const asked_partition *asked, told_partition *told)
{
    struct epoch_item *item = &c->items[c->items_n++];
    item->asked = asked;
    item->told = told;
    told->partition = asked->partition;
    item->fan.error = fanout_resolve(c->fan.r->shard, topic, asked->partition, &item->fan.target);
    if (item->fan.error != KAFKA_NONE)
        return 0;
    return fanout_add(&c->fan, &item->fan, KAFKA_INVALID_REQUEST);
}

static int topic_prepare(struct epoch_call *c, const asked_topic *asked, told_topic *told)
{
    struct request *r = c->fan.r;
    const struct meta_topic *topic = net_topic(r->shard, asked->topic, NULL);
    told->topic = asked->topic;
    told->partitions_n = MAX(asked->partitions_n, 0);
    told->partitions = wire_new_array(&offset_for_leader_epoch_response_epoch_end_offset_schema,
                                      &r->arena, told->partitions_n);
    int rc = told->partitions == NULL ? -1 : 0;
    for (int32_t i = 0; rc == 0 && i < told->partitions_n; i++)
        rc = item_prepare(c, topic, &asked->partitions[i], &told->partitions[i]);
    return rc;
}

static bool call_prepare(struct epoch_call *c, struct request *r,
                         const struct offset_for_leader_epoch_request *asked)
{
    uint32_t items_n = 0;
    for (int32_t t = 0; t < asked->topics_n; t++)
        items_n += (uint32_t)MAX(asked->topics[t].partitions_n, 0);
    c->items = arena_array(&r->arena, items_n, sizeof(*c->items));
    wire_set_defaults(&offset_for_leader_epoch_response_schema, &c->response);
    c->response.topics_n = MAX(asked->topics_n, 0);
    c->response.topics =
        wire_new_array(&offset_for_leader_epoch_response_offset_for_leader_topic_result_schema,
                       &r->arena, c->response.topics_n);
    if (c->items == NULL || c->response.topics == NULL || fanout_init(&c->fan, r, items_n) < 0)
        return false;
    for (int32_t t = 0; t < c->response.topics_n; t++)
        if (topic_prepare(c, &asked->topics[t], &c->response.topics[t]) < 0)
            return false;
    return true;
}

void offset_for_leader_epoch_handle(struct request *r, void *body)
{
    struct epoch_call *c = request_alloc(r, sizeof(*c));
    bool is_ready = c != NULL && call_prepare(c, r, body);
    fanout_handle(r, c == NULL ? NULL : &c->fan, is_ready, group_run, call_done);
}
