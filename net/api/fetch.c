/* Fetch, key 1: records out of partitions.
 *
 * Happy path: the session, or the request, says which partitions; the front finds their owners and
 *   gives each one share (fetch_share.h). Every owner answers when it has something to tell; the
 *   first answer, or the end of max_wait_ms, hurries the others, and when all have answered the
 *   reply is built. Records are sent from the log's own memory, given back when they have left.
 * min_bytes: with several owners each waits for its share of them. When all together have enough at
 *   least one has its share, so nobody waits too long; an answer may come with less than asked.
 * max_bytes: every owner may use all of it; what is too much together is dropped from the end, in
 *   the order of the request, and comes first in a session's next answer.
 * Failure: an error in any partition answers at once. A client that is gone takes its shares with
 *   it: they are hurried and read nothing.
 * Followers (replica_id >= 0) do not exist: they are told so as Kafka tells a broker that is not
 *   a replica, with error 6. */
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "net/api/data_shard.h"
#include "net/api/fetch_share.h"

typedef struct fetch_response_fetchable_topic_response told_topic;
typedef struct fetch_response_partition_data told_partition;
typedef struct fetch_response_node_endpoint told_node;

#define VERSION_STORAGE_ERROR 6
#define VERSION_ZSTD 10
#define VERSION_TOPIC_ID 13
#define VERSION_REPLICA_STATE 15
#define NS_PER_MS UINT64_C(1000000)

struct fetch_item {
    struct fetch_topic *topic;
    struct fetch_session_part *remembered; /* NULL without a session */
    struct fetch_part *part;               /* NULL: the front itself has refused it */
    struct fanout_target target;
    struct fetch_want want;
    int32_t index;
    int16_t error;
    bool tell, drop_records;
};

struct fetch {
    struct request *r;
    const struct fetch_request *asked;
    struct data_shard *data;
    struct fetch_context context;
    struct fetch_item *items; /* in the order of service */
    uint32_t items_n, tell_n;
    struct fetch_share **shares; /* by shard of this node; NULL: nothing for it */
    unsigned first_shard, shares_n, pending;
    bool waits; /* the shares may take their time */
    struct shard_timer timer;
    struct fetch_response response;
};

static struct fetch *fetch_of(const struct request *r)
{
    return map_get(&data_shard_of(r->shard)->fetches, (uintptr_t)r);
}

/* ---- which partitions ---- */

static uint32_t count_asked(const struct fetch_request *q)
{
    uint32_t n = 0;
    for (int32_t t = 0; t < q->topics_n; t++)
        n += (uint32_t)MAX(q->topics[t].partitions_n, 0);
    return n;
}

static struct fetch_item *item_add(struct fetch *f, struct fetch_topic *topic, int32_t index)
{
    struct fetch_item *item = &f->items[f->items_n++];
    item->topic = topic;
    item->index = index;
    return item;
}

static bool items_of_request(struct fetch *f)
{
    const struct fetch_request *q = f->asked;
    f->items = arena_array(&f->r->arena, count_asked(q), sizeof(*f->items));
    struct fetch_topic *topics =
        arena_array(&f->r->arena, (size_t)MAX(q->topics_n, 0), sizeof(*topics));
    if (f->items == NULL || topics == NULL)
        return false;
    for (int32_t t = 0; t < q->topics_n; t++) {
        topics[t].name = q->topics[t].topic;
        topics[t].id = q->topics[t].topic_id;
        topics[t].resolved_version = UINT64_MAX;
        for (int32_t i = 0; i < q->topics[t].partitions_n; i++) {
            const struct fetch_request_fetch_partition *asked = &q->topics[t].partitions[i];
            item_add(f, &topics[t], asked->partition)->want =
                (struct fetch_want){.offset = asked->fetch_offset,
                                    .max_bytes = asked->partition_max_bytes,
                                    .current_leader_epoch = asked->current_leader_epoch,
                                    .last_fetched_epoch = asked->last_fetched_epoch};
        }
    }
    return true;
}

static bool items_of_session(struct fetch *f)
{
    struct fetch_session *s = f->context.session;
    f->items = arena_array(&f->r->arena, s->parts_n, sizeof(*f->items));
    if (f->items == NULL)
        return false;
    list_for_each(node, &s->parts) {
        struct fetch_session_part *part = container_of(node, struct fetch_session_part, link);
        struct fetch_item *item = item_add(f, &part->topic->topic, part->index);
        item->remembered = part;
        item->want = part->want;
    }
    return true;
}

/* ---- where they are ---- */

static const struct meta_topic *topic_resolve(const struct shard *s, struct fetch_topic *t)
{
    if (t->resolved_version != s->meta->version) {
        t->resolved = net_topic(s, t->name, &t->id);
        t->resolved_version = s->meta->version;
    }
    return t->resolved;
}

static bool is_follower(const struct fetch *f)
{
    return (f->r->version < VERSION_REPLICA_STATE ? f->asked->replica_id
                                                  : f->asked->replica_state.replica_id) >= 0;
}

/* An id that a session knew, and that now names nothing: is its topic there again under another? */
static bool topic_was_recreated(const struct shard *s, const struct fetch_item *item)
{
    const char *name = item->remembered != NULL ? item->remembered->topic->resolved_name : NULL;
    return name != NULL && meta_topic_by_name(s->meta, name, strlen(name)) != NULL;
}

static void topic_note_name(const struct fetch_item *item, const struct meta_topic *topic)
{
    if (item->remembered != NULL && item->remembered->topic->resolved_name == NULL)
        item->remembered->topic->resolved_name = strdup(topic->name);
}

static void item_resolve(struct fetch *f, struct fetch_item *item)
{
    const struct meta_topic *topic = topic_resolve(f->r->shard, item->topic);
    bool by_id = f->r->version >= VERSION_TOPIC_ID;
    if (by_id && topic != NULL)
        topic_note_name(item, topic);
    if (by_id && topic == NULL)
        item->error = topic_was_recreated(f->r->shard, item) ? KAFKA_INCONSISTENT_TOPIC_ID
                                                             : KAFKA_UNKNOWN_TOPIC_ID;
    else
        item->error = fanout_resolve(f->r->shard, topic, item->index, &item->target);
    if (item->error == KAFKA_NONE && is_follower(f))
        item->error = KAFKA_NOT_LEADER_OR_FOLLOWER;
}

static bool shares_make(struct fetch *f, const uint32_t *counts)
{
    for (unsigned i = 0; i < f->shares_n; i++) {
        if (counts[i] == 0)
            continue;
        f->shares[i] = fetch_share_create(f->r->shard, f->first_shard + i, counts[i]);
        if (f->shares[i] == NULL)
            return false;
    }
    return true;
}

/* Resolves all and fills the shares. *ret_owners: how many there are. */
static bool items_place(struct fetch *f, unsigned *ret_owners, bool *ret_errors)
{
    uint32_t *counts = arena_array(&f->r->arena, f->shares_n, sizeof(*counts));
    f->shares = arena_array(&f->r->arena, f->shares_n, sizeof(struct fetch_share *));
    if (counts == NULL || f->shares == NULL)
        return false;
    for (uint32_t i = 0; i < f->items_n; i++) {
        item_resolve(f, &f->items[i]);
        if (f->items[i].error == KAFKA_NONE)
            counts[f->items[i].target.shard - f->first_shard]++;
        else
            *ret_errors = true;
    }
    if (!shares_make(f, counts))
        return false;
    for (unsigned i = 0; i < f->shares_n; i++)
        *ret_owners += counts[i] > 0;
    for (uint32_t i = 0; i < f->items_n; i++) {
        struct fetch_item *item = &f->items[i];
        if (item->error == KAFKA_NONE)
            item->part = fetch_share_add(f->shares[item->target.shard - f->first_shard],
                                         item->target.number, &item->want);
    }
    return true;
}

/* ---- the answer ---- */

static int16_t error_for_version(int16_t error, int16_t version)
{
    if (error == KAFKA_KAFKA_STORAGE_ERROR && version < VERSION_STORAGE_ERROR)
        return KAFKA_NOT_LEADER_OR_FOLLOWER;
    return error;
}

static bool item_has_records(const struct fetch_item *item)
{
    return item->part != NULL && item->part->records != NULL && !item->drop_records;
}

/* Each owner's first batch may be above the limits, and together they may have read more than one
 * answer takes. */
static void limits_apply(struct fetch *f, uint64_t max_bytes)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < f->items_n; i++) {
        struct fetch_item *item = &f->items[i];
        if (!item_has_records(item))
            continue;
        uint64_t len = item->part->records->read.len_bytes;
        uint64_t len_max =
            MIN(max_bytes - MIN(bytes, max_bytes), (uint64_t)MAX(item->want.max_bytes, 0));
        if (bytes > 0 && len > len_max)
            item->drop_records = true;
        else
            bytes += len;
    }
}

/* A partition that its owner does not have: most likely its topic was deleted meanwhile. */
static void item_take_error(struct fetch *f, struct fetch_item *item)
{
    int16_t error = item->part->error;
    item->error = error;
    if (error == KAFKA_NOT_LEADER_OR_FOLLOWER || error == KAFKA_UNKNOWN_TOPIC_OR_PARTITION)
        item_resolve(f, item);
    if (item->error == KAFKA_NONE)
        item->error = error;
}

/* Which partitions are told, and what the session remembers of it. */
static void items_settle(struct fetch *f)
{
    for (uint32_t i = 0; i < f->items_n; i++) {
        struct fetch_item *item = &f->items[i];
        if (item->part != NULL)
            item_take_error(f, item);
        bool has_records = item_has_records(item);
        bool changed = true;
        if (item->remembered != NULL)
            changed = fetch_session_told(item->remembered, item->error,
                                         item->part != NULL ? item->part->high_watermark : -1,
                                         item->part != NULL ? item->part->log_start : -1);
        item->tell = f->context.full || changed || has_records ||
                     (item->part != NULL && item->part->diverging_epoch >= 0);
        f->tell_n += item->tell;
        if (has_records && item->remembered != NULL)
            fetch_session_served(f->context.session, item->remembered);
    }
}

static void item_tell(const struct fetch *f, const struct fetch_item *item, told_partition *told,
                      struct fanout_nodes *nodes)
{
    const struct fetch_part *part = item->part;
    told->partition_index = item->index;
    told->error_code = error_for_version(item->error, f->r->version);
    told->high_watermark = -1;
    told->aborted_transactions_n = f->asked->isolation_level == 1 ? 0 : -1;
    told->records = (struct wire_records){.len = 0};
    if (part != NULL) {
        told->high_watermark = part->high_watermark;
        told->last_stable_offset = item->error == KAFKA_NONE ? part->high_watermark : -1;
        told->log_start_offset = part->log_start;
        told->diverging_epoch.epoch = part->diverging_epoch;
        told->diverging_epoch.end_offset = part->diverging_end;
    }
    if (item_has_records(item) && part->records->read.extent.file != NULL)
        told->records = (struct wire_records){.extent = &part->records->read.extent,
                                              .len = (int32_t)part->records->read.len_bytes};
    else if (item_has_records(item))
        told->records = (struct wire_records){.iov = part->records->read.iov,
                                              .iov_n = (int32_t)part->records->read.iov_n,
                                              .len = (int32_t)part->records->read.len_bytes};
    bool leaves = shard_same_node(f->r->shard, item->target.shard); /* nobody knows yet where to */
    if ((item->error == KAFKA_NOT_LEADER_OR_FOLLOWER && !is_follower(f) && !leaves) ||
        item->error == KAFKA_FENCED_LEADER_EPOCH) {
        told->current_leader.leader_id = fanout_nodes_add(nodes, f->r->shard, item->target.shard);
        told->current_leader.leader_epoch = item->target.leader_epoch;
    }
}

/* Partitions in order of service, neighbours of one topic together; Kafka does the same. */
static bool topics_tell(struct fetch *f, struct fanout_nodes *nodes)
{
    struct arena *arena = &f->r->arena;
    told_partition *told =
        wire_new_array(&fetch_response_partition_data_schema, arena, (int32_t)f->tell_n);
    int32_t topics_n = 0;
    const struct fetch_topic *last = NULL;
    for (uint32_t i = 0; i < f->items_n; i++)
        if (f->items[i].tell && f->items[i].topic != last) {
            last = f->items[i].topic;
            topics_n++;
        }
    f->response.responses =
        wire_new_array(&fetch_response_fetchable_topic_response_schema, arena, topics_n);
    if (told == NULL || f->response.responses == NULL)
        return false;
    told_topic *topic = NULL;
    last = NULL;
    for (uint32_t i = 0; i < f->items_n; i++) {
        const struct fetch_item *item = &f->items[i];
        if (!item->tell)
            continue;
        if (item->topic != last) {
            last = item->topic;
            topic = &f->response.responses[f->response.responses_n++];
            topic->topic = last->name;
            topic->topic_id = last->id;
            topic->partitions = told;
        }
        item_tell(f, item, told++, nodes);
        topic->partitions_n++;
    }
    return true;
}

static bool nodes_tell(struct fetch *f, const struct fanout_nodes *nodes)
{
    const struct broker *b = f->r->shard->broker;
    if (nodes->n == 0)
        return true;
    f->response.node_endpoints =
        wire_new_array(&fetch_response_node_endpoint_schema, &f->r->arena, (int32_t)nodes->n);
    if (f->response.node_endpoints == NULL)
        return false;
    for (unsigned i = 0; i < b->nodes_n; i++) {
        if (!nodes->named[i])
            continue;
        told_node *node = &f->response.node_endpoints[f->response.node_endpoints_n++];
        node->node_id = b->nodes[i].node_id;
        node->host = wire_str_of(b->nodes[i].host);
        node->port = b->nodes[i].port;
    }
    return true;
}

static uint32_t fetch_max_bytes(const struct fetch *f)
{
    return MIN((uint32_t)MAX(f->asked->max_bytes, 0), f->r->shard->broker->fetch_bytes_max);
}

static void fetch_finish(struct fetch *f)
{
    struct request *r = f->r;
    struct fetch_session *s = f->context.session;
    struct fanout_nodes nodes = {.n = 0};
    bool ok = true;
    shard_timer_clear(r->shard, &f->timer);
    if (r->conn != NULL) { /* else nothing has been told to anybody */
        limits_apply(f, fetch_max_bytes(f));
        items_settle(f);
        ok = topics_tell(f, &nodes) && nodes_tell(f, &nodes);
    }
    f->response.session_id = s != NULL && !s->gone ? s->id : 0;
    if (ok)
        request_reply(r, &f->response);
    else
        request_fail(r, "no memory");
    if (s != NULL)
        fetch_sessions_end(f->data->sessions, s, !f->context.opened || r->conn != NULL);
}

/* ---- waiting ---- */

static void fetch_hurry(struct fetch *f)
{
    bool drop = f->r->conn == NULL;
    f->waits = false;
    for (unsigned i = 0; i < f->shares_n; i++)
        if (f->shares[i] != NULL)
            fetch_share_hurry(f->shares[i], drop);
}

static void fetch_one_done(struct fetch *f)
{
    ASSERT(f->pending > 0);
    if (--f->pending == 0)
        fetch_finish(f);
    else if (f->waits)
        fetch_hurry(f);
}

static void on_answer(struct fetch_share *share)
{
    fetch_one_done(share->arg);
}

static void on_timer(struct shard_timer *t)
{
    fetch_hurry(container_of(t, struct fetch, timer));
}

static void on_cancel(struct request *r)
{
    fetch_hurry(fetch_of(r));
}

static void on_released(struct request *r)
{
    struct fetch *f = map_remove(&data_shard_of(r->shard)->fetches, (uintptr_t)r);
    for (unsigned i = 0; f->shares != NULL && i < f->shares_n; i++)
        if (f->shares[i] != NULL)
            fetch_share_release(f->shares[i]);
}

static void share_start(struct fetch *f, struct fetch_share *share, uint64_t min_bytes)
{
    share->min_bytes = min_bytes;
    share->max_bytes = fetch_max_bytes(f);
    share->zstd_known = f->r->version >= VERSION_ZSTD;
    if (share->zstd_known && f->r->conn != NULL) /* else the records have to be looked at */
        share->splice_min_bytes = egress_splice_bytes(f->r->conn);
    f->pending++;
    fetch_share_start(share, on_answer, f);
}

static void fetch_start(struct fetch *f, unsigned owners, bool may_wait)
{
    struct request *r = f->r;
    unsigned own = r->shard->index - f->first_shard;
    uint64_t min_bytes = may_wait ? ((uint64_t)f->asked->min_bytes + owners - 1) / owners : 0;
    f->pending = 1; /* this function */
    for (unsigned i = 0; i < f->shares_n; i++)
        if (i != own && f->shares[i] != NULL)
            share_start(f, f->shares[i], min_bytes);
    if (f->shares[own] != NULL) /* last: the others are at work by now */
        share_start(f, f->shares[own], min_bytes);
    if (--f->pending == 0) {
        fetch_finish(f);
    } else if (may_wait && f->pending < owners) {
        fetch_hurry(f);
    } else if (may_wait) {
        f->waits = true;
        r->on_cancel = on_cancel;
        shard_timer_set(r->shard, &f->timer,
                        env_now_ns(r->shard->env) + (uint64_t)f->asked->max_wait_ms * NS_PER_MS,
                        on_timer);
    }
}

/* ---- the request ---- */

static bool fetch_prepare(struct fetch *f)
{
    const struct broker_node *node = net_node_of_shard(f->r->shard, f->r->shard->index);
    f->first_shard = node->first_shard;
    f->shares_n = node->shards_n;
    if (map_put(&f->data->fetches, (uintptr_t)f->r, f) != 0)
        return false;
    f->r->on_released = on_released;
    return f->context.session != NULL ? items_of_session(f) : items_of_request(f);
}

static void fetch_run(struct fetch *f)
{
    const struct fetch_request *q = f->asked;
    unsigned owners = 0;
    bool errors = false;
    if (!fetch_prepare(f) || !items_place(f, &owners, &errors)) {
        if (f->context.session != NULL)
            fetch_sessions_end(f->data->sessions, f->context.session, !f->context.opened);
        request_fail(f->r, "no memory");
        return;
    }
    bool may_wait = q->max_wait_ms > 0 && q->min_bytes > 0 && f->items_n > 0 && !errors &&
                    !f->r->shard->stopping;
    fetch_start(f, owners, may_wait);
}

void fetch_handle(struct request *r, void *body)
{
    struct env *env = r->shard->env;
    struct fetch *f = request_alloc(r, sizeof(*f));
    struct data_shard *data = data_shard_of(r->shard);
    if (f == NULL || data == NULL) {
        request_fail(r, "no memory");
        return;
    }
    f->r = r;
    f->asked = body;
    f->data = data;
    wire_set_defaults(&fetch_response_schema, &f->response);
    f->response.error_code =
        fetch_sessions_begin(data->sessions, f->asked, r->version >= VERSION_TOPIC_ID,
                             env_now_ns(env), env_random(env), &f->context);
    if (f->response.error_code == KAFKA_NONE)
        fetch_run(f);
    else
        request_reply(r, &f->response);
}
