/* produce_send.c: records into batches, batches to leaders, one of each partition under way. With
 * acks=all a batch that is sent again is known by its producer id and sequence, and counts once. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/murmur2.h"
#include "tools/cmd_produce.h"

enum {
    PRODUCE_MOST = 9, /* the first that says what is wrong with which record */
    INIT_PRODUCER_ID_MOST = 4,
    PRODUCE_ZSTD_LEAST = 7,
    BATCH_BYTES = 768 << 10,   /* below the usual max.message.bytes, 1 MiB */
    SEND_BYTES_MAX = 64 << 20, /* waiting in batches, of all partitions */
    RECORD_EXTRA_BYTES = 64,   /* what a record has besides key, value and headers */
    CREATION_ATTEMPTS = 7,     /* three seconds, for a topic that is being created */
};

#define MS_NS 1000000u

/* ---- opening ---- */

static int topic_read(struct produce_sender *s, struct metadata_response *m)
{
    arena_reset(&s->arena);
    int rc = client_metadata(s->c, &s->topic, 1, true, &s->arena, m);
    if (rc < 0)
        return rc;
    rc = m->topics_n == 1 ? client_rc(m->topics[0].error_code) : -EPROTO;
    if (rc == 0 && m->topics[0].partitions_n <= 0)
        rc = client_rc(CLIENT_LEADER_NOT_AVAILABLE);
    return rc < 0 ? client_fail(s->c, rc, CLIENT_NO_MESSAGE, "%s", s->topic) : 0;
}

static int topic_find(struct produce_sender *s)
{
    struct client_retry retry = {0};
    struct metadata_response m;
    int rc;
    do
        rc = topic_read(s, &m);
    while (rc < 0 && retry.attempts < CREATION_ATTEMPTS && client_retry(s->c, &retry, rc));
    if (rc < 0)
        return rc;
    int32_t n = m.topics[0].partitions_n;
    s->partitions = calloc((size_t)n, sizeof(*s->partitions));
    if (s->partitions == NULL)
        return client_fail(s->c, -ENOMEM, CLIENT_NO_MESSAGE, "%s", s->topic);
    s->partitions_n = n;
    for (int32_t i = 0; i < n; i++) {
        struct produce_partition *p = &s->partitions[i];
        batch_builder_init(&p->batch, s->codec);
        p->leader = m.topics[0].partitions[i].leader_id;
        p->first_offset = p->last_offset = -1;
        if (m.topics[0].partitions[i].partition_index != i)
            return client_fail(s->c, -EPROTO, CLIENT_NO_MESSAGE, "partitions of %s", s->topic);
    }
    return 0;
}

static int leaders_refresh(struct produce_sender *s)
{
    struct metadata_response m;
    int rc = topic_read(s, &m);
    for (int32_t i = 0; rc == 0 && i < MIN(m.topics[0].partitions_n, s->partitions_n); i++)
        s->partitions[i].leader = m.topics[0].partitions[i].leader_id;
    return rc;
}

static int producer_id_ask(struct produce_sender *s)
{
    struct init_producer_id_request request;
    struct init_producer_id_response response;
    int16_t version;
    int rc =
        client_version(s->c, CLIENT_ANY, API_INIT_PRODUCER_ID, INIT_PRODUCER_ID_MOST, &version);
    if (rc == client_rc(CLIENT_UNSUPPORTED_VERSION))
        return 0; /* then a batch that is sent again may be there twice */
    if (rc < 0)
        return rc;
    wire_set_defaults(&init_producer_id_request_schema, &request);
    request.transactional_id = wire_str_of(NULL);
    request.transaction_timeout_ms = INT32_MAX;
    arena_reset(&s->arena);
    rc = client_call(s->c, CLIENT_ANY, API_INIT_PRODUCER_ID, version, &request, &s->arena,
                     &response);
    if (rc == 0 && response.error_code != 0)
        rc = client_fail(s->c, client_rc(response.error_code), CLIENT_NO_MESSAGE, "InitProducerId");
    if (rc == 0) {
        s->producer_id = response.producer_id;
        s->producer_epoch = response.producer_epoch;
    }
    return rc;
}

static int producer_id_find(struct produce_sender *s)
{
    struct client_retry retry = {0};
    int rc;
    do
        rc = producer_id_ask(s);
    while (rc < 0 && client_retry(s->c, &retry, rc));
    return rc;
}

static int16_t acks_of(const char *text)
{
    return strcmp(text, "all") == 0 || strcmp(text, "-1") == 0 ? -1 : (int16_t)(*text - '0');
}

static enum batch_codec codec_of(const char *text)
{
    static const char *const names[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    unsigned i = 0;
    while (i + 1 < ARRAY_LEN(names) && strcmp(names[i], text) != 0)
        i++;
    return (enum batch_codec)i;
}

int produce_sender_open(struct produce_sender *s, struct client *c, const struct produce_options *o)
{
    *s = (struct produce_sender){.c = c,
                                 .topic = o->common.args.items[0],
                                 .acks = acks_of(o->acks),
                                 .timeout_ms = (int64_t)(o->common.timeout_s * 1000),
                                 .codec = codec_of(o->compression),
                                 .producer_id = -1,
                                 .producer_epoch = -1};
    arena_init(&s->arena, CLIENT_ARENA_BYTES);
    int rc = topic_find(s);
    if (rc == 0 && s->acks == -1)
        rc = producer_id_find(s);
    if (rc < 0)
        return rc;
    uint32_t any = 0;
    if (getrandom(&any, sizeof(any), GRND_NONBLOCK) < 0)
        any = (uint32_t)clock_now_ns();
    s->turn = (int32_t)(any % (uint32_t)s->partitions_n);
    if (o->partition >= s->partitions_n)
        rc = client_fail(c, client_rc(CLIENT_UNKNOWN_TOPIC_OR_PARTITION), CLIENT_NO_MESSAGE,
                         "%s-%" PRId64, s->topic, o->partition);
    return rc;
}

void produce_sender_close(struct produce_sender *s)
{
    for (int32_t i = 0; i < s->partitions_n; i++)
        batch_builder_fini(&s->partitions[i].batch);
    free(s->partitions);
    arena_fini(&s->arena);
}

/* ---- sending ---- */

static int answer_check(struct produce_sender *s, int32_t partition,
                        const struct produce_response *r, int64_t *ret_offset)
{
    if (r->responses_n != 1 || r->responses[0].partition_responses_n != 1)
        return client_fail(s->c, -EPROTO, CLIENT_NO_MESSAGE, "%s-%d", s->topic, partition);
    const struct produce_response_partition_produce_response *p =
        &r->responses[0].partition_responses[0];
    struct wire_str message = p->error_message;
    if (message.len <= 0 && p->record_errors_n > 0)
        message = p->record_errors[0].batch_index_error_message;
    *ret_offset = p->base_offset;
    if (p->error_code == 0 || p->error_code == CLIENT_DUPLICATE_SEQUENCE_NUMBER)
        return 0;
    return client_fail(s->c, client_rc(p->error_code), message, "%s-%d", s->topic, partition);
}

static int batch_send(struct produce_sender *s, int32_t partition, uint8_t *data, size_t len,
                      int64_t *ret_offset)
{
    struct produce_request request;
    struct produce_request_topic_produce_data topic;
    struct produce_request_partition_produce_data p;
    struct produce_response response;
    int32_t leader = s->partitions[partition].leader;
    int16_t version;
    if (leader < 0)
        return client_fail(s->c, client_rc(CLIENT_LEADER_NOT_AVAILABLE), CLIENT_NO_MESSAGE, "%s-%d",
                           s->topic, partition);
    int rc = client_version(s->c, leader, API_PRODUCE, PRODUCE_MOST, &version);
    if (rc < 0)
        return rc;
    if (s->codec == BATCH_ZSTD && version < PRODUCE_ZSTD_LEAST)
        return client_fail(s->c, client_rc(CLIENT_UNSUPPORTED_VERSION), CLIENT_NO_MESSAGE, "zstd");
    wire_set_defaults(&produce_request_schema, &request);
    wire_set_defaults(&produce_request_topic_produce_data_schema, &topic);
    wire_set_defaults(&produce_request_partition_produce_data_schema, &p);
    p.index = partition;
    p.records = (struct wire_records){.data = data, .len = (int32_t)len};
    topic.name = wire_str_of(s->topic);
    topic.partition_data = &p;
    topic.partition_data_n = 1;
    request.acks = s->acks;
    request.timeout_ms = (int32_t)MIN(s->timeout_ms, (int64_t)INT32_MAX);
    request.topic_data = &topic;
    request.topic_data_n = 1;
    *ret_offset = -1;
    if (s->acks == 0)
        return client_tell(s->c, leader, API_PRODUCE, version, &request);
    arena_reset(&s->arena);
    rc = client_call(s->c, leader, API_PRODUCE, version, &request, &s->arena, &response);
    return rc < 0 ? rc : answer_check(s, partition, &response, ret_offset);
}

static void batch_acked(struct produce_sender *s, struct produce_partition *p, int64_t offset)
{
    int32_t count = p->batch.record_count;
    s->acked += (uint64_t)count;
    p->acked += count;
    p->sequence = (int32_t)(((uint32_t)p->sequence + (uint32_t)count) & INT32_MAX);
    if (offset < 0)
        return;
    p->first_offset = p->first_offset < 0 ? offset : p->first_offset;
    p->last_offset = offset + count - 1;
}

static int partition_flush(struct produce_sender *s, int32_t partition)
{
    struct produce_partition *p = &s->partitions[partition];
    struct client_retry retry = {0};
    uint8_t *data;
    size_t len;
    int64_t offset = -1;
    if (p->batch.record_count == 0)
        return 0;
    p->batch.producer_id = s->producer_id;
    p->batch.producer_epoch = s->producer_epoch;
    p->batch.base_sequence = s->producer_id < 0 ? -1 : p->sequence;
    int rc = batch_builder_finish(&p->batch, &data, &len);
    if (rc < 0)
        return client_fail(s->c, rc, CLIENT_NO_MESSAGE, "%s-%d", s->topic, partition);
    while ((rc = batch_send(s, partition, data, len, &offset)) < 0) {
        if (!client_retry(s->c, &retry, rc))
            return rc;
        int refreshed = leaders_refresh(s);
        if (refreshed < 0 && !client_rc_is_retriable(refreshed))
            return refreshed;
    }
    batch_acked(s, p, offset);
    batch_builder_reset(&p->batch);
    s->unsent_bytes -= p->unsent_bytes;
    p->unsent_bytes = 0;
    if (partition == s->turn)
        s->turn = (s->turn + 1) % s->partitions_n;
    return 0;
}

int produce_sender_flush(struct produce_sender *s)
{
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < s->partitions_n; i++)
        rc = partition_flush(s, i);
    return rc;
}

int produce_sender_add(struct produce_sender *s, int32_t partition, const uint8_t *key,
                       int32_t key_len, const uint8_t *value, int32_t value_len,
                       const struct batch_record_header *headers, int32_t headers_n)
{
    size_t len = RECORD_EXTRA_BYTES + (size_t)MAX(key_len, 0) + (size_t)MAX(value_len, 0);
    int rc = 0;
    for (int32_t i = 0; i < headers_n; i++)
        len += (size_t)headers[i].key_len + (size_t)MAX(headers[i].value_len, 0);
    if (partition < 0)
        partition = key_len >= 0
                        ? murmur2_partition(key, (uint32_t)key_len, (uint32_t)s->partitions_n)
                        : s->turn;
    struct produce_partition *p = &s->partitions[partition];
    s->read++;
    if (p->unsent_bytes + len > BATCH_BYTES)
        rc = partition_flush(s, partition);
    if (rc == 0 && s->unsent_bytes + len > SEND_BYTES_MAX)
        rc = produce_sender_flush(s);
    if (rc < 0)
        return rc;
    rc = batch_builder_add(&p->batch, (int64_t)(clock_read_ns(CLOCK_REALTIME) / MS_NS), key,
                           key_len, value, value_len, headers, headers_n);
    p->unsent_bytes += len;
    s->unsent_bytes += len;
    return rc < 0 ? client_fail(s->c, rc, CLIENT_NO_MESSAGE, "%s-%d", s->topic, partition) : 0;
}
