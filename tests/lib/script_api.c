/* script_api.c: what the scripted server answers to each API but Fetch (script_fetch.c). */
#include <errno.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/batch/batch.h"
#include "tests/lib/script_private.h"

enum {
    ERROR_CORRUPT_MESSAGE = 2,
    ERROR_UNKNOWN_TOPIC_OR_PARTITION = 3,
    ERROR_NOT_LEADER_OR_FOLLOWER = 6,
    ERROR_COORDINATOR_NOT_AVAILABLE = 15,
    ERROR_INVALID_TOPIC = 17,
    ERROR_INVALID_REQUIRED_ACKS = 21,
    ERROR_UNSUPPORTED_VERSION = 35,
    ERROR_TOPIC_ALREADY_EXISTS = 36,
    ERROR_OUT_OF_ORDER_SEQUENCE_NUMBER = 45,
    ERROR_UNKNOWN_TOPIC_ID = 100,
    TOPIC_NAME_BYTES_MAX = 249,
};
#define TIME_LATEST (-1)
#define TIME_EARLIEST (-2)
#define TIME_MAX (-3)

static bool name_valid(struct wire_str name)
{
    return name.len >= 1 && name.len <= TOPIC_NAME_BYTES_MAX &&
           memchr(name.p, 0, (size_t)name.len) == NULL;
}

static void api_versions_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    (void)now_ns;
    struct api_versions_response *res = script_new(r, &api_versions_response_schema, 1);
    res->api_keys_n = (int32_t)script_apis_n;
    res->api_keys = script_new(r, &api_versions_response_api_version_schema, res->api_keys_n);
    for (unsigned i = 0; i < script_apis_n; i++)
        res->api_keys[i] =
            (struct api_versions_response_api_version){.api_key = script_apis[i].key,
                                                       .min_version = script_apis[i].shown_min,
                                                       .max_version = script_apis[i].max};
    /* A version that is not spoken has no body: KIP-511 wants an answer that anyone can read. */
    if (r->body == NULL)
        res->error_code = ERROR_UNSUPPORTED_VERSION;
    script_reply(s, r, r->body == NULL ? 0 : r->header.api_version, res);
}

/* ---- topics ---- */

static void metadata_partitions(struct script_broker *s, struct script_request *r,
                                const struct script_topic *t,
                                struct metadata_response_metadata_response_topic *to)
{
    int32_t *node = script_alloc(r, 1, sizeof(*node));
    *node = s->config.node_id;
    to->partitions_n = t->partitions_n;
    to->partitions =
        script_new(r, &metadata_response_metadata_response_partition_schema, t->partitions_n);
    for (int32_t i = 0; i < t->partitions_n; i++) {
        struct metadata_response_metadata_response_partition *p = &to->partitions[i];
        p->partition_index = i;
        p->leader_id = *node;
        p->leader_epoch = 0;
        p->replica_nodes = p->isr_nodes = node;
        p->replica_nodes_n = p->isr_nodes_n = 1;
    }
}

static void metadata_topic(struct script_broker *s, struct script_request *r,
                           const struct metadata_request_metadata_request_topic *from,
                           struct metadata_response_metadata_response_topic *to)
{
    const struct metadata_request *q = r->body;
    struct script_topic *t = from->name.len >= 0 ? script_topic_find(&s->log, from->name)
                                                 : script_topic_by_id(&s->log, &from->topic_id);
    to->name = from->name;
    if (t == NULL && from->name.len < 0) {
        to->topic_id = from->topic_id;
        to->error_code = ERROR_UNKNOWN_TOPIC_ID;
        return;
    }
    if (t == NULL && !name_valid(from->name)) {
        to->error_code = ERROR_INVALID_TOPIC;
        return;
    }
    if (t == NULL && !q->allow_auto_topic_creation) {
        to->error_code = ERROR_UNKNOWN_TOPIC_OR_PARTITION;
        return;
    }
    if (t == NULL)
        t = script_topic_add(&s->log, from->name, 0);
    to->name = wire_str_of(t->name);
    to->topic_id = t->id;
    metadata_partitions(s, r, t, to);
}

/* The request's topics, or one for each that there is when it has null. */
static const struct metadata_request_metadata_request_topic *
metadata_wanted(const struct script_broker *s, struct script_request *r, int32_t *ret_n)
{
    const struct metadata_request *q = r->body;
    int32_t n = 0;
    *ret_n = q->topics_n;
    if (q->topics_n >= 0)
        return q->topics;
    list_for_each(node, &s->log.topics)
        n++;
    struct metadata_request_metadata_request_topic *all =
        script_new(r, &metadata_request_metadata_request_topic_schema, n);
    *ret_n = n;
    n = 0;
    list_for_each(node, &s->log.topics)
        all[n++].name = wire_str_of(container_of(node, struct script_topic, link)->name);
    return all;
}

static void metadata_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    (void)now_ns;
    int32_t n;
    const struct metadata_request_metadata_request_topic *wanted = metadata_wanted(s, r, &n);
    struct metadata_response *res = script_new(r, &metadata_response_schema, 1);
    res->cluster_id = wire_str_of("scripted");
    res->controller_id = s->config.node_id;
    res->brokers = script_new(r, &metadata_response_metadata_response_broker_schema, 1);
    res->brokers_n = 1;
    res->brokers[0].node_id = s->config.node_id;
    res->brokers[0].host = wire_str_of(s->config.host);
    res->brokers[0].port = s->config.port;
    res->topics_n = n;
    res->topics = script_new(r, &metadata_response_metadata_response_topic_schema, n);
    for (int32_t i = 0; i < n; i++)
        metadata_topic(s, r, &wanted[i], &res->topics[i]);
    script_reply(s, r, r->header.api_version, res);
}

static int16_t create_topic(struct script_broker *s,
                            const struct create_topics_request_creatable_topic *want, bool dry,
                            struct create_topics_response_creatable_topic_result *to)
{
    if (!name_valid(want->name))
        return ERROR_INVALID_TOPIC;
    if (script_topic_find(&s->log, want->name) != NULL)
        return ERROR_TOPIC_ALREADY_EXISTS;
    to->num_partitions = want->num_partitions < 1 ? s->config.partitions : want->num_partitions;
    to->replication_factor = 1;
    if (!dry)
        to->topic_id = script_topic_add(&s->log, want->name, want->num_partitions)->id;
    return 0;
}

static void create_topics_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    (void)now_ns;
    const struct create_topics_request *q = r->body;
    struct create_topics_response *res = script_new(r, &create_topics_response_schema, 1);
    res->topics_n = q->topics_n;
    res->topics = script_new(r, &create_topics_response_creatable_topic_result_schema, q->topics_n);
    for (int32_t i = 0; i < q->topics_n; i++) {
        res->topics[i].name = q->topics[i].name;
        res->topics[i].error_message = wire_str_of(NULL);
        res->topics[i].error_code =
            create_topic(s, &q->topics[i], q->validate_only, &res->topics[i]);
    }
    script_reply(s, r, r->header.api_version, res);
}

static void delete_topic(struct script_broker *s, struct wire_str name, const struct wire_uuid *id,
                         struct delete_topics_response_deletable_topic_result *to)
{
    struct script_topic *t =
        name.len >= 0 ? script_topic_find(&s->log, name) : script_topic_by_id(&s->log, id);
    to->name = name;
    to->topic_id = *id;
    if (t == NULL) {
        to->error_code = name.len >= 0 ? ERROR_UNKNOWN_TOPIC_OR_PARTITION : ERROR_UNKNOWN_TOPIC_ID;
        return;
    }
    to->topic_id = t->id;
    script_topic_remove(&s->log, t);
}

static void delete_topics_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    (void)now_ns;
    static const struct wire_uuid no_id;
    const struct delete_topics_request *q = r->body;
    bool by_name = r->header.api_version < 6;
    struct delete_topics_response *res = script_new(r, &delete_topics_response_schema, 1);
    res->responses_n = by_name ? q->topic_names_n : q->topics_n;
    res->responses =
        script_new(r, &delete_topics_response_deletable_topic_result_schema, res->responses_n);
    for (int32_t i = 0; i < res->responses_n; i++)
        delete_topic(s, by_name ? q->topic_names[i] : q->topics[i].name,
                     by_name ? &no_id : &q->topics[i].topic_id, &res->responses[i]);
    script_reply(s, r, r->header.api_version, res);
    script_fetch_wake(s);
}

/* ---- Produce ---- */

static enum script_fate produce_fate(const struct script_config *config, uint64_t number)
{
    if (number == config->lose_ack)
        return SCRIPT_ACK_LOST;
    if (number == config->error_request)
        return SCRIPT_ERROR;
    return number == config->close_request ? SCRIPT_CLOSED : SCRIPT_SERVED;
}

static void produce_count(const struct produce_request *q, struct script_arrival *a)
{
    for (int32_t t = 0; t < q->topic_data_n; t++) {
        for (int32_t i = 0; i < q->topic_data[t].partition_data_n; i++) {
            const struct wire_records *records = &q->topic_data[t].partition_data[i].records;
            struct batch_header h;
            if (records->len < 0 || batch_peek(records->data, (size_t)records->len, &h) < 0)
                continue;
            a->records += (uint64_t)MAX(h.record_count, 0);
            a->record_bytes += (uint64_t)records->len;
        }
    }
}

static uint64_t produce_arrive(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    struct script_arrival a = {.arrival_ns = now_ns, .conn = r->conn->number};
    if (s->counters.produce_requests++ == 0)
        s->counters.first_produce_ns = now_ns;
    r->fate = produce_fate(&s->config, s->counters.produce_requests);
    if (r->fate == SCRIPT_CLOSED)
        r->conn->deaf = true;
    produce_count(r->body, &a);
    s->counters.records += a.records;
    s->counters.record_bytes += a.record_bytes;
    s->backlog++;
    s->counters.backlog_max = MAX(s->counters.backlog_max, s->backlog);
    a.due_ns = script_serve(s, now_ns, a.records);
    script_note_arrival(s, &a);
    return a.due_ns;
}

static int16_t produce_partition(struct script_broker *s, const struct script_request *r,
                                 struct wire_str topic,
                                 const struct produce_request_partition_produce_data *from,
                                 struct produce_response_partition_produce_response *to)
{
    const struct produce_request *q = r->body;
    struct script_partition *p = script_partition_find(&s->log, topic, from->index);
    to->base_offset = -1;
    if (r->fate == SCRIPT_ERROR)
        return ERROR_NOT_LEADER_OR_FOLLOWER;
    if (q->acks < -1 || q->acks > 1)
        return ERROR_INVALID_REQUIRED_ACKS;
    if (p == NULL)
        return ERROR_UNKNOWN_TOPIC_OR_PARTITION;
    int rc = script_partition_append(&s->log, p, from->records.data,
                                     (size_t)MAX(from->records.len, 0), &to->base_offset);
    if (rc < 0)
        return rc == -EILSEQ ? ERROR_OUT_OF_ORDER_SEQUENCE_NUMBER : ERROR_CORRUPT_MESSAGE;
    to->log_start_offset = p->start_offset;
    return 0;
}

/* Store all; true: every partition went well. */
static bool produce_store(struct script_broker *s, struct script_request *r,
                          struct produce_response *res)
{
    const struct produce_request *q = r->body;
    uint64_t refused_before = s->counters.refused_batches;
    res->responses_n = q->topic_data_n;
    res->responses =
        script_new(r, &produce_response_topic_produce_response_schema, res->responses_n);
    for (int32_t t = 0; t < q->topic_data_n; t++) {
        const struct produce_request_topic_produce_data *from = &q->topic_data[t];
        struct produce_response_topic_produce_response *to = &res->responses[t];
        to->name = from->name;
        to->partition_responses_n = from->partition_data_n;
        to->partition_responses = script_new(r, &produce_response_partition_produce_response_schema,
                                             from->partition_data_n);
        for (int32_t i = 0; i < from->partition_data_n; i++) {
            struct produce_response_partition_produce_response *part = &to->partition_responses[i];
            part->index = from->partition_data[i].index;
            part->error_code = produce_partition(s, r, from->name, &from->partition_data[i], part);
            s->counters.refused_batches += part->error_code != 0;
        }
    }
    return s->counters.refused_batches == refused_before;
}

static void produce_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    (void)now_ns;
    const struct produce_request *q = r->body;
    struct produce_response *res = script_new(r, &produce_response_schema, 1);
    enum script_fate fate = r->fate;
    s->backlog--;
    s->counters.lost_acks += fate == SCRIPT_ACK_LOST;
    s->counters.errored_requests += fate == SCRIPT_ERROR;
    s->counters.closed_requests += fate == SCRIPT_CLOSED;
    if (fate == SCRIPT_CLOSED) {
        script_reply_close(s, r);
        return;
    }
    bool well = produce_store(s, r, res);
    if (q->acks == 0 && !well)
        script_reply_close(s, r); /* the only sign that acks=0 leaves */
    else if (q->acks == 0 || fate == SCRIPT_ACK_LOST)
        script_reply_nothing(s, r);
    else
        script_reply(s, r, r->header.api_version, res);
    script_fetch_wake(s);
}

/* ---- the rest ---- */

static int64_t shown_end(const struct script_broker *s, const struct script_partition *p,
                         uint64_t now_ns)
{
    uint64_t since_ns = now_ns - MIN(now_ns, s->counters.last_due_ns);
    uint64_t shown = s->config.show_ns == 0 ? s->config.hide_records : since_ns / s->config.show_ns;
    uint64_t hidden = s->config.hide_records - MIN(s->config.hide_records, shown);
    return MAX(p->start_offset, p->end_offset - (int64_t)hidden);
}

static void list_offset(const struct script_broker *s, const struct script_partition *p,
                        int64_t time_ms, uint64_t now_ns,
                        struct list_offsets_response_list_offsets_partition_response *to)
{
    if (p == NULL) {
        to->error_code = ERROR_UNKNOWN_TOPIC_OR_PARTITION;
        return;
    }
    to->leader_epoch = 0;
    if (time_ms == TIME_LATEST)
        to->offset = shown_end(s, p, now_ns);
    else if (time_ms == TIME_EARLIEST)
        to->offset = p->start_offset;
    else if (time_ms == TIME_MAX)
        script_partition_find_max_time(p, &to->offset, &to->timestamp);
    else
        script_partition_find_time(p, time_ms, &to->offset, &to->timestamp);
}

static void list_offsets_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    const struct list_offsets_request *q = r->body;
    struct list_offsets_response *res = script_new(r, &list_offsets_response_schema, 1);
    res->topics_n = q->topics_n;
    res->topics =
        script_new(r, &list_offsets_response_list_offsets_topic_response_schema, res->topics_n);
    for (int32_t t = 0; t < q->topics_n; t++) {
        const struct list_offsets_request_list_offsets_topic *from = &q->topics[t];
        struct list_offsets_response_list_offsets_topic_response *to = &res->topics[t];
        to->name = from->name;
        to->partitions_n = from->partitions_n;
        to->partitions = script_new(
            r, &list_offsets_response_list_offsets_partition_response_schema, from->partitions_n);
        for (int32_t i = 0; i < from->partitions_n; i++) {
            int32_t index = from->partitions[i].partition_index;
            to->partitions[i].partition_index = index;
            list_offset(s, script_partition_find(&s->log, from->name, index),
                        from->partitions[i].timestamp, now_ns, &to->partitions[i]);
        }
    }
    script_reply(s, r, r->header.api_version, res);
}

static void init_producer_id_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    (void)now_ns;
    struct init_producer_id_response *res = script_new(r, &init_producer_id_response_schema, 1);
    res->producer_id = s->next_producer_id++;
    script_reply(s, r, r->header.api_version, res);
}

/* There are no groups; but only where it sees this API does librdkafka compress with LZ4. */
static void find_coordinator_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    (void)now_ns;
    struct find_coordinator_response *res = script_new(r, &find_coordinator_response_schema, 1);
    res->error_code = ERROR_COORDINATOR_NOT_AVAILABLE;
    res->node_id = -1;
    script_reply(s, r, r->header.api_version, res);
}

/* Produce is shown from 0 on, as Kafka does: librdkafka compresses only when it sees old versions.
 */
const struct script_api script_apis[] = {
    {PRODUCE_KEY, 3, 9, 0, produce_arrive, produce_run},
    {1, 4, 12, 4, script_fetch_arrive, script_fetch_run},
    {2, 1, 7, 1, NULL, list_offsets_run},
    {3, 1, 12, 1, NULL, metadata_run},
    {10, 0, 3, 0, NULL, find_coordinator_run},
    {API_VERSIONS_KEY, 0, 3, 0, NULL, api_versions_run},
    {19, 2, 7, 2, NULL, create_topics_run},
    {20, 1, 6, 1, NULL, delete_topics_run},
    {22, 0, 4, 0, NULL, init_producer_id_run},
};
const unsigned script_apis_n = ARRAY_LEN(script_apis);
