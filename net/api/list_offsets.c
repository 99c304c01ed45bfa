/* ListOffsets, key 2: offsets of a partition by timestamp, or of its two ends.
 * There are no transactions yet, so the last stable offset is the high watermark, and no tiers, so
 * what is local is everything. replica_id is not looked at: there are no followers to be served. */
#include "core/base/bytes.h"
#include "net/api/fanout.h"

typedef struct list_offsets_request_list_offsets_topic asked_topic;
typedef struct list_offsets_request_list_offsets_partition asked_partition;
typedef struct list_offsets_response_list_offsets_topic_response told_topic;
typedef struct list_offsets_response_list_offsets_partition_response told_partition;

enum list_offsets_timestamp {
    AT_LATEST = -1,
    AT_EARLIEST = -2,
    AT_MAX_TIMESTAMP = -3,
    AT_EARLIEST_LOCAL = -4,
    AT_LATEST_TIERED = -5,
    AT_EARLIEST_PENDING_UPLOAD = -6,
};
static const int16_t min_version_of[] = {/* by -timestamp */
                                         [1] = 1, [2] = 1, [3] = 7, [4] = 8, [5] = 9, [6] = 11};

struct offsets_item {
    struct fanout_item fan;
    const asked_partition *asked;
    told_partition *told;
    struct fanout_group *group;
    struct plog_lookup lookup;
};

struct offsets_call {
    struct fanout fan;
    struct list_offsets_response response;
    struct offsets_item *items;
    uint32_t items_n;
};

static bool timestamp_served(int64_t timestamp, int16_t version)
{
    if (timestamp >= 0)
        return true;
    return timestamp > -(int64_t)ARRAY_LEN(min_version_of) && version >= min_version_of[-timestamp];
}

/* ---- on the owner ---- */

static void item_done(struct offsets_item *item)
{
    if (--item->group->pending == 0)
        fanout_group_done(item->group);
}

static void lookup_take(struct offsets_item *item)
{
    const struct plog_lookup *l = &item->lookup;
    const struct plog *p = log_store_peek(item->group->owner->logs, item->fan.target.number);
    item->fan.error = kafka_error_of(l->rc);
    if (l->rc == 0 && l->offset >= 0 && p != NULL) {
        item->told->offset = l->offset;
        item->told->timestamp = l->found_ms;
        item->told->leader_epoch = plog_epoch_at(p, l->offset);
    }
    item_done(item);
}

static void on_lookup(struct plog_lookup *l)
{
    lookup_take(container_of(l, struct offsets_item, lookup));
}

static void lookup_start(struct offsets_item *item, struct plog *p)
{
    int64_t at = item->asked->timestamp;
    item->lookup.timestamp_ms = at == AT_MAX_TIMESTAMP ? PLOG_TIME_MAX : at;
    if (plog_lookup_time(p, &item->lookup, on_lookup) == 1)
        lookup_take(item);
}

static void item_run(struct offsets_item *item)
{
    struct plog *p = log_store_find(item->group->owner->logs, item->fan.target.number);
    item->fan.error =
        p == NULL ? KAFKA_NOT_LEADER_OR_FOLLOWER
                  : fanout_check_epoch(item->asked->current_leader_epoch, plog_leader_epoch(p));
    if (item->fan.error != KAFKA_NONE) {
        item_done(item);
        return;
    }
    switch (item->asked->timestamp) {
    case AT_LATEST:
        plog_hurry(p);
        item->told->offset = plog_high_watermark(p);
        item->told->leader_epoch = plog_leader_epoch(p);
        break;
    case AT_EARLIEST:
    case AT_EARLIEST_LOCAL:
        item->told->offset = plog_start_offset(p);
        item->told->leader_epoch = plog_epoch_at(p, item->told->offset);
        break;
    case AT_LATEST_TIERED:
    case AT_EARLIEST_PENDING_UPLOAD:
        break; /* nothing is tiered: -1 */
    default:
        lookup_start(item, p);
        return;
    }
    item_done(item);
}

static void group_run(struct fanout_group *g)
{
    g->pending = 1; /* this function */
    for (struct fanout_item *it = g->first; it != NULL; it = it->next) {
        struct offsets_item *item = container_of(it, struct offsets_item, fan);
        if (it->error != KAFKA_NONE)
            continue;
        item->group = g;
        g->pending++;
        item_run(item);
    }
    if (--g->pending == 0)
        fanout_group_done(g);
}

/* ---- on the front ---- */

static void call_done(struct fanout *f)
{
    struct offsets_call *c = container_of(f, struct offsets_call, fan);
    for (uint32_t i = 0; i < c->items_n; i++)
        c->items[i].told->error_code = c->items[i].fan.error;
    request_reply(f->r, &c->response);
}

static int item_prepare(struct offsets_call *c, const struct meta_topic *topic,
                        const asked_partition *asked, told_partition *told)
{
    struct offsets_item *item = &c->items[c->items_n++];
    item->asked = asked;
    item->told = told;
    told->partition_index = asked->partition_index;
    if (!timestamp_served(asked->timestamp, c->fan.r->version)) {
        item->fan.error = KAFKA_UNSUPPORTED_VERSION;
        return 0;
    }
    item->fan.error =
        fanout_resolve(c->fan.r->shard, topic, asked->partition_index, &item->fan.target);
    if (item->fan.error != KAFKA_NONE)
        return 0;
    return fanout_add(&c->fan, &item->fan, KAFKA_INVALID_REQUEST);
}

static int topic_prepare(struct offsets_call *c, const asked_topic *asked, told_topic *told)
{
    struct request *r = c->fan.r;
    const struct meta_topic *topic = net_topic(r->shard, asked->name, NULL);
    told->name = asked->name;
    told->partitions_n = MAX(asked->partitions_n, 0);
    told->partitions = wire_new_array(&list_offsets_response_list_offsets_partition_response_schema,
                                      &r->arena, told->partitions_n);
    int rc = told->partitions == NULL ? -1 : 0;
    for (int32_t i = 0; rc == 0 && i < told->partitions_n; i++)
        rc = item_prepare(c, topic, &asked->partitions[i], &told->partitions[i]);
    return rc;
}

static bool call_prepare(struct offsets_call *c, struct request *r,
                         const struct list_offsets_request *asked)
{
    uint32_t items_n = 0;
    for (int32_t t = 0; t < asked->topics_n; t++)
        items_n += (uint32_t)MAX(asked->topics[t].partitions_n, 0);
    c->items = arena_array(&r->arena, items_n, sizeof(*c->items));
    wire_set_defaults(&list_offsets_response_schema, &c->response);
    c->response.topics_n = MAX(asked->topics_n, 0);
    c->response.topics = wire_new_array(&list_offsets_response_list_offsets_topic_response_schema,
                                        &r->arena, c->response.topics_n);
    if (c->items == NULL || c->response.topics == NULL || fanout_init(&c->fan, r, items_n) < 0)
        return false;
    for (int32_t t = 0; t < c->response.topics_n; t++)
        if (topic_prepare(c, &asked->topics[t], &c->response.topics[t]) < 0)
            return false;
    return true;
}

void list_offsets_handle(struct request *r, void *body)
{
    struct offsets_call *c = request_alloc(r, sizeof(*c));
    bool is_ready = c != NULL && call_prepare(c, r, body);
    fanout_handle(r, c == NULL ? NULL : &c->fan, is_ready, group_run, call_done);
}
