/* Produce, key 0: batches into partitions.
 *
 * Happy path: the front finds the owner of every partition and validates every batch; owners
 *   append, in request order, and finish when the log says that a batch is as durable as acks asks
 *   for; the front answers when all are.
 * Failure: each partition has its own error; with acks=0 any error closes the connection, the only
 *   signal there is. Nothing of a request with a transactional batch is appended (error 53): there
 *   are no transactions yet.
 * Packing: what a topic wants in another compression is packed again on a helper thread, which also
 *   validates what comes packed; later calls of the same connection wait behind it, those of others
 *   do not.
 * Memory: an append that finds no room waits, and everything that comes to that shard after it
 *   waits behind it, so that no batch of a partition overtakes another. timeout_ms is for the
 *   answers of followers, which there are none of; the disk takes the time that it takes.
 * Moves: what comes for a partition that is leaving this shard waits, for a short while, until it
 *   can be told where it has gone: so a client is sent on once, and has not to ask again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "net/api/data_shard.h"
#include "net/api/fanout.h"
#include "net/api/produce_keys.h"
#include "net/conn.h"

typedef struct produce_request_topic_produce_data asked_topic;
typedef struct produce_request_partition_produce_data asked_partition;
typedef struct produce_response_topic_produce_response told_topic;
typedef struct produce_response_partition_produce_response told_partition;
typedef struct produce_response_batch_index_and_error_message told_record;
typedef struct produce_response_node_endpoint told_node;

#define LEAVING_WAIT_NS UINT64_C(1000000000)
#define VERSION_ZSTD 7
#define VERSION_TOPIC_ID 13
#define VERSION_STORAGE_ERROR 4

struct produce_item {
    struct fanout_item fan;
    const asked_topic *topic;
    const asked_partition *asked;
    const char *refused_by; /* the topic's name, where its records were refused, or may be */
    told_partition *told;
    struct fanout_group *group;
    uint8_t *batch; /* as it is appended */
    struct batch_header header;
    struct batch_error why; /* message NULL: the error code says it all */
    struct log_append append;
    struct list_node link; /* data_shard.appends_waiting, or appends_leaving */
    struct batch_limits limits;
    bool unseen; /* not validated yet: a helper does, before it packs */
    bool packs;  /* to this: */
    enum batch_codec codec;
    int level;
};

struct produce_call {
    struct fanout fan;
    const struct produce_request *asked;
    struct produce_response response;
    struct produce_item *items;
    uint32_t items_n;
    struct list_node link;   /* data_shard.packing */
    const struct conn *conn; /* whose order counts; perhaps gone by now */
    bool packs, ready;
    struct env_op op;
    struct env_name_step step;
};

static const struct produce_request *asked_of(const struct produce_item *item)
{
    return container_of(item->group->fanout, struct produce_call, fan)->asked;
}

/* ---- on the owner ---- */

static void item_done(struct produce_item *item, int16_t error)
{
    item->fan.error = error;
    if (--item->group->pending == 0)
        fanout_group_done(item->group);
}

static void on_append(struct log_append *a, int rc)
{
    item_done(container_of(a, struct produce_item, append), kafka_error_of(rc));
}

static void on_leaving_timer(struct shard_timer *t);

/* It is not here: or only just not any more. */
static void item_await_leaving(struct produce_item *item)
{
    struct shard *s = item->group->owner;
    struct data_shard *d = data_shard_of(s);
    if (d == NULL || s->stopping || !log_store_is_leaving(s->logs, item->fan.target.number)) {
        item_done(item, KAFKA_NOT_LEADER_OR_FOLLOWER);
        return;
    }
    if (list_empty(&d->appends_leaving))
        shard_timer_set(s, &d->leaving_timer, env_now_ns(s->env) + LEAVING_WAIT_NS,
                        on_leaving_timer);
    list_push_tail(&d->appends_leaving, &item->link);
}

/* False: there is no memory for it now. */
static bool item_append(struct produce_item *item)
{
    struct plog *p = log_store_find(item->group->owner->logs, item->fan.target.number);
    if (p == NULL) {
        item_await_leaving(item);
        return true;
    }
    bool wait_stable = asked_of(item)->acks == -1;
    item->append.place = &item->group->fanout->r->place;
    int rc = plog_append(p, item->batch, &item->header, wait_stable, &item->append, on_append);
    if (rc == -EAGAIN)
        return false;
    if (rc != 0)
        item_done(item, kafka_error_of(rc < 0 ? rc : 0));
    return true;
}

static void waiting_prefetch(const struct data_shard *d)
{
    const struct list_node *node = d->appends_waiting.next;
    for (unsigned step = LOG_PREFETCH_STEPS; step-- > 0 && node != &d->appends_waiting;
         node = node->next)
        log_store_prefetch(d->shard->logs,
                           container_of(node, struct produce_item, link)->fan.target.number, step);
}

static void waiting_run(struct log_waiter *w)
{
    struct data_shard *d = container_of(w, struct data_shard, memory_waiter);
    for (struct list_node *node; (node = list_pop_head(&d->appends_waiting)) != NULL;) {
        waiting_prefetch(d);
        if (!item_append(container_of(node, struct produce_item, link))) {
            list_push_head(&d->appends_waiting, node);
            log_store_wait_memory(d->shard->logs, w);
            return;
        }
    }
}

static void item_run(struct produce_item *item, struct data_shard *d)
{
    bool first = list_empty(&d->appends_waiting);
    if (first && item_append(item))
        return;
    list_push_tail(&d->appends_waiting, &item->link);
    d->memory_waiter.run = waiting_run;
    if (first)
        log_store_wait_memory(d->shard->logs, &d->memory_waiter);
}

void produce_leaving_run(struct shard *s)
{
    struct data_shard *d = ((struct net *)s->net)->data;
    struct list_node due;
    if (d == NULL || list_empty(&d->appends_leaving))
        return;
    list_init(&due);
    list_splice_tail(&due, &d->appends_leaving);
    shard_timer_clear(s, &d->leaving_timer);
    for (struct list_node *node; (node = list_pop_head(&due)) != NULL;)
        item_run(container_of(node, struct produce_item, link), d);
}

void produce_leaving_end(struct shard *s)
{
    struct data_shard *d = ((struct net *)s->net)->data;
    if (d == NULL)
        return;
    shard_timer_clear(s, &d->leaving_timer);
    for (struct list_node *node; (node = list_pop_head(&d->appends_leaving)) != NULL;)
        item_done(container_of(node, struct produce_item, link), KAFKA_NOT_LEADER_OR_FOLLOWER);
}

/* The move takes longer than anybody should have to wait. */
static void on_leaving_timer(struct shard_timer *t)
{
    produce_leaving_end(container_of(t, struct data_shard, leaving_timer)->shard);
}

static void group_prefetch(const struct fanout_group *g, const struct fanout_item *it)
{
    for (unsigned step = LOG_PREFETCH_STEPS; step-- > 0 && it != NULL; it = it->next)
        log_store_prefetch(g->owner->logs, it->target.number, step);
}

static void group_run(struct fanout_group *g)
{
    struct data_shard *d = data_shard_of(g->owner);
    g->pending = 1; /* this function */
    for (struct fanout_item *it = g->first; it != NULL; it = it->next) {
        if (d != NULL)
            group_prefetch(g, it->next);
        struct produce_item *item = container_of(it, struct produce_item, fan);
        if (it->error != KAFKA_NONE)
            continue;
        item->group = g;
        g->pending++;
        if (d != NULL)
            item_run(item, d);
        else
            item_done(item, kafka_error_of(-ENOMEM));
    }
    if (--g->pending == 0)
        fanout_group_done(g);
}

/* ---- the answer ---- */

static int16_t error_for_version(int16_t error, int16_t version)
{
    if (error == KAFKA_KAFKA_STORAGE_ERROR && version < VERSION_STORAGE_ERROR)
        return KAFKA_NOT_LEADER_OR_FOLLOWER;
    return error;
}

/* The leader that there is by now; false: it is still on its way from here to nobody knows where.
 */
static bool item_find_leader(struct produce_item *item, const struct request *r)
{
    const struct meta_topic *topic = net_topic(r->shard, item->topic->name, &item->topic->topic_id);
    if (fanout_resolve(r->shard, topic, item->asked->index, &item->fan.target) == KAFKA_NONE)
        return false;
    return topic != NULL;
}

static bool item_tell_error(struct produce_item *item, struct request *r,
                            struct fanout_nodes *nodes)
{
    told_partition *told = item->told;
    told->error_code = error_for_version(item->fan.error, r->version);
    told->base_offset = -1;
    told->error_message = wire_str_of(item->why.message);
    if (item->fan.error == KAFKA_NOT_LEADER_OR_FOLLOWER && item_find_leader(item, r)) {
        told->current_leader.leader_id = fanout_nodes_add(nodes, r->shard, item->fan.target.shard);
        told->current_leader.leader_epoch = item->fan.target.leader_epoch;
    }
    if (item->why.message == batch_error_no_key && item->refused_by != NULL)
        return produce_keys_tell(r, item->refused_by, &item->asked->records, told);
    if (item->why.message == NULL || item->why.record_index < 0)
        return true;
    told->record_errors =
        wire_new(&produce_response_batch_index_and_error_message_schema, &r->arena);
    if (told->record_errors == NULL)
        return false;
    told->record_errors_n = 1;
    told->record_errors->batch_index = item->why.record_index;
    told->record_errors->batch_index_error_message = told->error_message;
    return true;
}

static bool nodes_tell(struct produce_call *c, const struct fanout_nodes *nodes)
{
    struct request *r = c->fan.r;
    const struct broker *b = r->shard->broker;
    if (nodes->n == 0)
        return true;
    c->response.node_endpoints =
        wire_new_array(&produce_response_node_endpoint_schema, &r->arena, (int32_t)nodes->n);
    if (c->response.node_endpoints == NULL)
        return false;
    for (unsigned i = 0; i < b->nodes_n; i++) {
        if (!nodes->named[i])
            continue;
        told_node *node = &c->response.node_endpoints[c->response.node_endpoints_n++];
        node->node_id = b->nodes[i].node_id;
        node->host = wire_str_of(b->nodes[i].host);
        node->port = b->nodes[i].port;
    }
    return true;
}

static void call_tell(struct produce_call *c)
{
    struct fanout_nodes nodes = {.n = 0};
    bool ok = true;
    for (uint32_t i = 0; i < c->items_n; i++) {
        struct produce_item *item = &c->items[i];
        if (item->fan.error != KAFKA_NONE) {
            ok = item_tell_error(item, c->fan.r, &nodes) && ok;
            continue;
        }
        item->told->base_offset = item->append.base_offset;
        item->told->log_append_time_ms = item->append.append_time_ms;
        item->told->log_start_offset = item->append.log_start_offset;
    }
    if (ok && nodes_tell(c, &nodes))
        request_reply(c->fan.r, &c->response);
    else
        request_fail(c->fan.r, "no memory");
}

static void call_done(struct fanout *f)
{
    struct produce_call *c = container_of(f, struct produce_call, fan);
    if (c->asked->acks != 0) {
        call_tell(c);
        return;
    }
    for (uint32_t i = 0; i < c->items_n; i++)
        if (c->items[i].fan.error != KAFKA_NONE) {
            request_fail(f->r, "records sent with acks=0 were refused");
            return;
        }
    request_no_reply(f->r);
}

/* ---- on the front ---- */

static void item_refuse(struct produce_item *item, int16_t error, const char *why)
{
    item->fan.error = error;
    item->why = (struct batch_error){.record_index = -1, .message = why};
}

/* -1: as it came. */
static int codec_wanted(const struct topic_config *config, int *ret_level)
{
    static const struct {
        int codec;
        size_t level; /* in struct topic_config; SIZE_MAX: it has none */
    } wanted[] = {
        [TOPIC_UNCOMPRESSED] = {BATCH_NONE, SIZE_MAX},
        [TOPIC_ZSTD] = {BATCH_ZSTD, offsetof(struct topic_config, zstd_level)},
        [TOPIC_LZ4] = {BATCH_LZ4, offsetof(struct topic_config, lz4_level)},
        [TOPIC_SNAPPY] = {BATCH_SNAPPY, SIZE_MAX},
        [TOPIC_GZIP] = {BATCH_GZIP, offsetof(struct topic_config, gzip_level)},
        [TOPIC_AS_PRODUCED] = {-1, SIZE_MAX},
    };
    size_t at = wanted[config->compression].level;
    *ret_level = at == SIZE_MAX ? 0 : (int)*(const int64_t *)((const char *)config + at);
    return wanted[config->compression].codec;
}

/* What has the compression that the topic asks for already stays, whatever its level. */
static void item_pack_later(struct produce_item *item, const struct topic_config *config,
                            uint16_t attributes)
{
    int codec = codec_wanted(config, &item->level);
    item->packs = codec >= 0 && codec != (int)batch_codec_of(attributes);
    item->codec = (enum batch_codec)codec;
}

static int item_pack(struct produce_item *item, struct request *r)
{
    uint8_t *made;
    int rc = batch_recode(item->batch, &item->header, item->codec, item->level,
                          item->limits.max_bytes, &made, &item->header);
    if (rc < 0)
        return rc;
    item->batch = arena_alloc(&r->arena, item->header.len_bytes);
    if (item->batch != NULL)
        memcpy(item->batch, made, item->header.len_bytes);
    free(made);
    return item->batch == NULL ? -ENOMEM : 0;
}

/* What has been seen of the batch while it was received; NULL: nothing, or it is another one. */
static const struct batch_arrival *arrival_of(const struct request *r,
                                              const struct wire_records *records)
{
    const struct produce_arrival *a = &r->arrival;
    bool same = records->data == r->frame + a->at && (uint32_t)records->len == a->len;
    return same ? &a->seen : NULL;
}

static struct batch_limits limits_of(const struct topic_config *config, struct shard *s)
{
    return (struct batch_limits){
        .max_bytes = (uint32_t)MIN(config->max_message_bytes, (int64_t)UINT32_MAX),
        .now_ms = env_wall_ms(s->env),
        .timestamp_before_max_ms = config->timestamp_before_max_ms,
        .timestamp_after_max_ms = config->timestamp_after_max_ms,
        .log_append_time = config->timestamp_type == TOPIC_LOG_APPEND_TIME,
        .compacted = (config->cleanup_policy & TOPIC_CLEANUP_COMPACT) != 0,
        .deep = true,
    };
}

/* On a helper, too. */
static void item_validate(struct produce_item *item, const struct request *r)
{
    const struct wire_records *records = &item->asked->records;
    int rc = batch_validate(records->data, (size_t)records->len, &item->limits,
                            arrival_of(r, records), &item->header, &item->why);
    if (rc == 0 && r->version < VERSION_ZSTD &&
        batch_codec_of(item->header.attributes) == BATCH_ZSTD) {
        item_refuse(item, KAFKA_UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7");
        return;
    }
    item->fan.error = kafka_error_of(rc);
}

/* What is packed takes long to look into; a helper that unpacks it anyway does that, too. */
static void item_begin(struct produce_item *item, const struct meta_topic *topic, struct request *r)
{
    const struct wire_records *records = &item->asked->records;
    struct batch_header h = {0};
    if (records->len <= 0) {
        item_refuse(item, KAFKA_INVALID_RECORD, "there is no batch");
        return;
    }
    item->batch = records->data;
    item->limits = limits_of(&topic->config, r->shard);
    if (batch_peek(records->data, (size_t)records->len, &h) == 0)
        item_pack_later(item, &topic->config, h.attributes);
    item->unseen = item->packs && batch_codec_of(h.attributes) != BATCH_NONE;
    if (!item->unseen)
        item_validate(item, r);
    if (item->unseen || item->fan.error != KAFKA_NONE)
        item->refused_by = arena_strdup(&r->arena, topic->name);
}

static bool topic_is_internal(const struct request *r, const struct meta_topic *topic)
{
    static const char *const names[] = {"__consumer_offsets", "__transaction_state",
                                        "__share_group_state"};
    if (wire_str_eq(r->client_id, "__admin_client"))
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(topic->name, names[i]) == 0)
            return true;
    return false;
}

static int item_prepare(struct produce_call *c, const struct meta_topic *topic,
                        const asked_topic *of, const asked_partition *asked, told_partition *told)
{
    struct request *r = c->fan.r;
    struct produce_item *item = &c->items[c->items_n++];
    item->topic = of;
    item->asked = asked;
    item->told = told;
    told->index = asked->index;
    if (c->asked->acks < -1 || c->asked->acks > 1) {
        item->fan.error = KAFKA_INVALID_REQUIRED_ACKS;
        return 0;
    }
    if (topic == NULL && r->version >= VERSION_TOPIC_ID) {
        item->fan.error = KAFKA_UNKNOWN_TOPIC_ID;
        return 0;
    }
    item->fan.error = fanout_resolve(r->shard, topic, asked->index, &item->fan.target);
    if (item->fan.error != KAFKA_NONE)
        return 0;
    if (topic_is_internal(r, topic)) {
        item->fan.error = KAFKA_INVALID_TOPIC_EXCEPTION;
        return 0;
    }
    item_begin(item, topic, r);
    return fanout_add(&c->fan, &item->fan, KAFKA_INVALID_RECORD);
}

static int topic_prepare(struct produce_call *c, const asked_topic *asked, told_topic *told)
{
    struct request *r = c->fan.r;
    const struct meta_topic *topic = net_topic(r->shard, asked->name, &asked->topic_id);
    told->name = asked->name;
    told->topic_id = asked->topic_id;
    told->partition_responses_n = MAX(asked->partition_data_n, 0);
    told->partition_responses = wire_new_array(&produce_response_partition_produce_response_schema,
                                               &r->arena, told->partition_responses_n);
    int rc = told->partition_responses == NULL ? -ENOMEM : 0;
    for (int32_t i = 0; rc == 0 && i < told->partition_responses_n; i++)
        rc =
            item_prepare(c, topic, asked, &asked->partition_data[i], &told->partition_responses[i]);
    return rc;
}

static bool records_are_transactional(const struct wire_records *records)
{
    struct batch_header h;
    return records->len > 0 && batch_peek(records->data, (size_t)records->len, &h) == 0 &&
           batch_is_transactional(h.attributes);
}

static bool is_transactional(const struct produce_request *asked)
{
    for (int32_t t = 0; t < asked->topic_data_n; t++)
        for (int32_t i = 0; i < asked->topic_data[t].partition_data_n; i++)
            if (records_are_transactional(&asked->topic_data[t].partition_data[i].records))
                return true;
    return false;
}

static bool call_prepare(struct produce_call *c, struct request *r,
                         const struct produce_request *asked)
{
    uint32_t items_n = 0;
    for (int32_t t = 0; t < asked->topic_data_n; t++)
        items_n += (uint32_t)MAX(asked->topic_data[t].partition_data_n, 0);
    c->asked = asked;
    c->items = arena_array(&r->arena, items_n, sizeof(*c->items));
    wire_set_defaults(&produce_response_schema, &c->response);
    c->response.responses_n = MAX(asked->topic_data_n, 0);
    c->response.responses = wire_new_array(&produce_response_topic_produce_response_schema,
                                           &r->arena, c->response.responses_n);
    if (c->items == NULL || c->response.responses == NULL || fanout_init(&c->fan, r, items_n) < 0)
        return false;
    for (int32_t t = 0; t < c->response.responses_n; t++)
        if (topic_prepare(c, &asked->topic_data[t], &c->response.responses[t]) < 0)
            return false;
    if (is_transactional(asked))
        for (uint32_t i = 0; i < c->items_n; i++)
            item_refuse(&c->items[i], KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, NULL);
    return true;
}

/* ---- packing ---- */

/* On a helper thread, which has the call to itself. */
static int call_pack(void *arg)
{
    struct produce_call *c = arg;
    for (uint32_t i = 0; i < c->items_n; i++) {
        struct produce_item *item = &c->items[i];
        if (item->unseen && item->fan.error == KAFKA_NONE)
            item_validate(item, c->fan.r);
        if (item->packs && item->fan.error == KAFKA_NONE)
            item->fan.error = kafka_error_of(item_pack(item, c->fan.r));
    }
    return 0;
}

/* The first call of the connection in line; NULL: there is none. */
static struct produce_call *first_in_line(const struct data_shard *d, const struct conn *conn)
{
    list_for_each(it, &d->packing) {
        struct produce_call *c = container_of(it, struct produce_call, link);
        if (c->conn == conn)
            return c;
    }
    return NULL;
}

static void line_run(struct data_shard *d, const struct conn *conn)
{
    for (struct produce_call *c; (c = first_in_line(d, conn)) != NULL && c->ready;) {
        list_remove(&c->link);
        fanout_start(&c->fan, group_run, call_done);
    }
}

static void on_packed(struct env_op *op)
{
    struct produce_call *c = container_of(op, struct produce_call, op);
    for (uint32_t i = 0; op->res < 0 && i < c->items_n; i++) /* the broker ends */
        if (c->items[i].packs && c->items[i].fan.error == KAFKA_NONE)
            c->items[i].fan.error = kafka_error_of(op->res);
    c->ready = true;
    line_run(data_shard_of(c->fan.r->shard), c->conn);
}

static void call_start(struct produce_call *c, struct data_shard *d)
{
    struct request *r = c->fan.r;
    c->conn = r->conn;
    for (uint32_t i = 0; i < c->items_n; i++)
        c->packs |= c->items[i].packs && c->items[i].fan.error == KAFKA_NONE;
    if (!c->packs && (list_empty(&d->packing) || first_in_line(d, c->conn) == NULL)) {
        fanout_start(&c->fan, group_run, call_done);
        return;
    }
    list_push_tail(&d->packing, &c->link);
    c->ready = !c->packs;
    if (c->ready)
        return;
    c->step = (struct env_name_step){.kind = ENV_STEP_RUN, .run = call_pack, .arg = c};
    env_names(r->shard->env, &c->op, &c->step, 1, on_packed);
}

void produce_handle(struct request *r, void *body)
{
    struct produce_call *c = request_alloc(r, sizeof(*c));
    struct data_shard *d = data_shard_of(r->shard);
    if (c != NULL && d != NULL && call_prepare(c, r, body)) {
        call_start(c, d);
        return;
    }
    if (c != NULL)
        fanout_abort(&c->fan);
    request_fail(r, "no memory");
}
