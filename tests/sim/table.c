#include "tests/sim/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "tests/sim/clients.h"

#define NUMBER_BYTES 8
#define HOT_KEYS 3           /* what is written of the others stays the newest for long */
#define FETCH_VERSION_MAX 12 /* by name */
#define PRODUCE_VERSION_MAX 12

static void writer_work(struct sim_timer *timer);
static void reader_work(struct sim_timer *timer);

static void wrong(struct sim_table *t, int64_t offset, const char *what)
{
    model_violation(&t->sim->model, TABLE_TOPIC ", offset %lld: %s", (long long)offset, what);
}

static void key_text(int32_t key, char ret[16])
{
    snprintf(ret, 16, "key-%d", (int)key);
}

int table_node(const struct sim *sim)
{
    const struct meta_topic *t =
        sim->broker.up
            ? meta_topic_by_name(sim->broker.shards[0].meta, TABLE_TOPIC, strlen(TABLE_TOPIC))
            : NULL;
    return t == NULL ? -1 : (int)sim->broker.broker.node_of_shard[t->partitions[0].shard];
}

/* ---- what is where ---- */

static void record_placed(struct sim_table *t, uint64_t number, int64_t offset)
{
    struct table_record *r = &t->records[number];
    if (offset >= t->at_n) {
        int64_t n = MAX(2 * t->at_n, offset + 1000);
        t->at = realloc(t->at, (size_t)n * sizeof(*t->at));
        ASSERT(t->at != NULL);
        memset(t->at + t->at_n, 0, (size_t)(n - t->at_n) * sizeof(*t->at));
        t->at_n = n;
    }
    if (t->at[offset] != 0 && t->at[offset] != number + 1 && !t->sim->model.tolerant)
        wrong(t, offset, "is another record than it was");
    if (r->offset >= 0 && r->offset != offset)
        wrong(t, offset, "a record is there twice");
    t->at[offset] = number + 1;
    r->offset = offset;
    if (r->since_ns == 0)
        r->since_ns = MAX(sim_now_ns_of(t->sim), UINT64_C(1));
}

static const struct table_record *record_at(const struct sim_table *t, int64_t offset)
{
    return offset < t->at_n && t->at[offset] != 0 ? &t->records[t->at[offset] - 1] : NULL;
}

/* ---- reading ---- */

void table_read_begin(struct sim_table *t, struct table_reader *r)
{
    *r = (struct table_reader){.sim = t->sim};
    for (int32_t k = 0; k < TABLE_KEYS; k++)
        r->least[k] = r->seen[k] = -1;
    for (int64_t o = 0; o < t->at_n; o++) {
        const struct table_record *record = record_at(t, o);
        if (record == NULL)
            continue;
        r->least[record->key] = o;
        r->end = o + 1;
    }
}

static bool number_read(const struct batch_record *r, uint64_t *ret)
{
    struct batch_record_header h;
    size_t pos = 0;
    if (r->header_count != 1 || batch_record_header_next(r, &pos, &h) != 1 ||
        h.value_len != NUMBER_BYTES)
        return false;
    *ret = be_load64(h.value);
    return true;
}

static void record_seen(struct sim_table *t, struct table_reader *reader,
                        const struct batch_record *r)
{
    uint64_t number;
    char key[16];
    if (!number_read(r, &number) || number >= t->records_n) {
        wrong(t, r->offset, "a record that nobody has sent");
        return;
    }
    struct table_record *sent = &t->records[number];
    key_text(sent->key, key);
    bool same = r->key_len == (int32_t)strlen(key) && memcmp(r->key, key, strlen(key)) == 0 &&
                r->value_len == sent->value_len;
    for (int32_t i = 0; same && i < r->value_len; i++)
        same = r->value[i] == (uint8_t)(number + (uint64_t)i / 7);
    if (!same)
        wrong(t, r->offset, "not what was sent");
    if (sent->gone && !t->sim->model.tolerant)
        wrong(t, r->offset, "is there again, it was gone");
    record_placed(t, number, r->offset);
    reader->seen[sent->key] = r->offset;
}

/* Records that were there, from `from` on, before `to`. */
static void gone_until(struct sim_table *t, int64_t from, int64_t to)
{
    for (int64_t o = from; o < MIN(to, t->at_n); o++) {
        if (t->at[o] == 0)
            continue;
        struct table_record *r = &t->records[t->at[o] - 1];
        t->gone += !r->gone;
        r->gone = true;
    }
}

static void batch_seen(struct sim_table *t, struct table_reader *reader, const uint8_t *data,
                       const struct batch_header *h)
{
    struct batch_iter *iter;
    struct batch_record r;
    int64_t from = MAX(reader->offset, h->base_offset);
    int rc = batch_iter_open(&iter, data, h->len_bytes);
    if (rc < 0) {
        wrong(t, h->base_offset, "cannot be read");
        return;
    }
    while ((rc = batch_iter_next(iter, &r)) > 0 && !model_failed(&t->sim->model)) {
        if (r.offset < from)
            continue;
        gone_until(t, from, r.offset);
        record_seen(t, reader, &r);
        from = r.offset + 1;
    }
    batch_iter_close(iter);
    if (rc < 0)
        wrong(t, h->base_offset, "has records that make no sense");
    gone_until(t, from, batch_last_offset(h) + 1);
    reader->offset = batch_last_offset(h) + 1;
}

void table_read_fetched(struct sim_table *t, struct table_reader *reader, const uint8_t *data,
                        uint32_t len)
{
    struct batch_header h;
    for (uint32_t at = 0; at < len && !model_failed(&t->sim->model); at += h.len_bytes) {
        if (batch_peek(data + at, len - at, &h) != 0 || h.len_bytes > len - at ||
            !batch_crc_ok(data + at, &h)) {
            wrong(t, reader->offset, "a fetch brings what is no whole batch");
            return;
        }
        bool follows = at == 0 ? h.base_offset <= reader->offset : h.base_offset == reader->offset;
        if (batch_last_offset(&h) < reader->offset || (!follows && !t->sim->model.tolerant)) {
            wrong(t, reader->offset, "a fetch brings another place");
            return;
        }
        batch_seen(t, reader, data + at, &h);
    }
}

/* A tombstone that has waited for long enough. */
static bool may_be_gone(const struct sim_table *t, int64_t offset)
{
    const struct table_record *r = record_at(t, offset);
    return r->value_len < 0 &&
           sim_now_ns_of(t->sim) >= r->since_ns + (uint64_t)t->tombstones_ms * SIM_NS_PER_MS;
}

/* By one that was written while this was read; its acknowledgement may be lost. */
static bool may_be_replaced(const struct sim_table *t, const struct table_reader *r, int32_t key)
{
    for (uint64_t i = t->settled; i < t->records_n && !r->alone; i++)
        if (t->records[i].key == key &&
            (t->records[i].offset < 0 || t->records[i].offset >= r->end))
            return true;
    return false;
}

void table_read_end(struct sim_table *t, struct table_reader *r)
{
    t->passes++;
    if (r->alone)
        t->settled = t->records_n;
    for (int32_t k = 0; k < TABLE_KEYS && !t->sim->model.tolerant; k++)
        if (r->seen[k] < r->least[k] && !may_be_gone(t, r->least[k]) && !may_be_replaced(t, r, k))
            wrong(t, r->least[k], "the newest record of its key is lost");
}

void table_fetch_make(struct fetch_ask *ask, int64_t offset)
{
    struct model_topic topic = {.name = TABLE_TOPIC};
    struct model_partition partition = {.topic = &topic};
    fetch_ask_make(ask, &partition, offset);
    ask->topic.topic = wire_str_of(TABLE_TOPIC);
}

static void reader_soon(struct sim_table *t)
{
    sim_timer_set(t->sim, &t->reader_timer, sim_some_ns(t->sim, t->sim->plan.think_ns),
                  reader_work);
}

static bool error_passes(int16_t error)
{
    return error == ERROR_STORAGE || error == ERROR_NOT_LEADER;
}

static void on_fetched(struct rpc *call, const void *response)
{
    struct sim_table *t = container_of(call, struct sim_table, reader_call);
    const struct fetch_response *r = response;
    if (r == NULL)
        return;
    reader_soon(t);
    if (r->error_code == ERROR_UNSUPPORTED_COMPRESSION)
        return;
    if (r->error_code != ERROR_NONE || r->responses_n != 1 || r->responses->partitions_n != 1) {
        wrong(t, t->reader.offset, "a fetch answer of another form");
        return;
    }
    const struct fetch_response_partition_data *told = r->responses->partitions;
    if (told->error_code == ERROR_UNSUPPORTED_COMPRESSION || error_passes(told->error_code)) {
        if (error_passes(told->error_code))
            rpc_close(&t->reader_conn);
    } else if (told->error_code != ERROR_NONE) {
        wrong(t, t->reader.offset, "a fetch is refused");
    } else if (told->records.len > 0) {
        table_read_fetched(t, &t->reader, told->records.data, (uint32_t)told->records.len);
    }
}

static void on_reader_closed(struct rpc_conn *c)
{
    reader_soon(c->arg);
}

static void reader_work(struct sim_timer *timer)
{
    struct sim_table *t = container_of(timer, struct sim_table, reader_timer);
    int node = table_node(t->sim);
    if (node < 0) {
        reader_soon(t);
        return;
    }
    if (!rpc_is_open(&t->reader_conn))
        rpc_open(&t->reader_conn, (unsigned)node);
    if (t->reader.offset >= t->reader.end) {
        table_read_end(t, &t->reader);
        table_read_begin(t, &t->reader);
    }
    struct fetch_ask ask;
    table_fetch_make(&ask, t->reader.offset);
    ask.part.partition_max_bytes = (int32_t)(1 + sim_below(t->sim, 100000));
    ask.request.max_wait_ms = 10;
    rpc_call(&t->reader_conn, &t->reader_call, API_FETCH,
             some_version(t->sim, FETCH_VERSION_ZSTD, FETCH_VERSION_MAX), &ask.request, on_fetched);
}

/* ---- writing ---- */

static void writer_soon(struct sim_table *t)
{
    sim_timer_set(t->sim, &t->writer_timer, sim_some_ns(t->sim, t->sim->plan.think_ns / 2),
                  writer_work);
}

static uint64_t record_new(struct sim_table *t)
{
    if (t->records_n == t->records_cap) {
        t->records_cap = MAX(2 * t->records_cap, UINT64_C(256));
        t->records = realloc(t->records, t->records_cap * sizeof(*t->records));
        ASSERT(t->records != NULL);
    }
    bool tombstone = sim_one_in(t->sim, 8);
    t->records[t->records_n] = (struct table_record){
        .key = (int32_t)sim_below(t->sim, sim_one_in(t->sim, 4) ? TABLE_KEYS : HOT_KEYS),
        .value_len = tombstone ? -1 : (int32_t)(8 + sim_below(t->sim, 4000)),
        .offset = -1};
    return t->records_n++;
}

static void record_add(struct sim_table *t, struct batch_builder *b, uint64_t number)
{
    const struct table_record *r = &t->records[number];
    uint8_t number_bytes[NUMBER_BYTES], value[4100];
    char key[16];
    key_text(r->key, key);
    be_store64(number_bytes, number);
    for (int32_t i = 0; i < r->value_len; i++)
        value[i] = (uint8_t)(number + (uint64_t)i / 7);
    struct batch_record_header header = {.key = (const uint8_t *)"n",
                                         .key_len = 1,
                                         .value = number_bytes,
                                         .value_len = NUMBER_BYTES};
    int rc =
        batch_builder_add(b, MODEL_FIRST_TIMESTAMP_MS + (int64_t)number, key, (int32_t)strlen(key),
                          r->value_len < 0 ? NULL : value, r->value_len, &header, 1);
    ASSERT(rc == 0);
}

static void on_produced(struct rpc *call, const void *response)
{
    struct sim_table *t = container_of(call, struct sim_table, writer_call);
    const struct produce_response *r = response;
    if (r == NULL)
        return;
    writer_soon(t);
    if (r->responses_n != 1 || r->responses->partition_responses_n != 1) {
        wrong(t, -1, "a Produce answer of another form");
        return;
    }
    const struct produce_response_partition_produce_response *told =
        r->responses->partition_responses;
    if (told->error_code != ERROR_NONE) {
        if (!error_passes(told->error_code))
            wrong(t, told->error_code, "a batch is refused (that error)");
        rpc_close(&t->writer_conn);
        return;
    }
    for (unsigned i = 0; i < t->sent_n; i++)
        record_placed(t, t->first_sent + i, told->base_offset + i);
    t->acked += t->sent_n;
}

static void on_writer_closed(struct rpc_conn *c)
{
    writer_soon(c->arg);
}

/* Sent once: of what is lost on its way nobody knows what became of it. */
static void writer_work(struct sim_timer *timer)
{
    struct sim_table *t = container_of(timer, struct sim_table, writer_timer);
    struct sim *sim = t->sim;
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    int node = table_node(sim);
    if (node < 0) {
        writer_soon(t);
        return;
    }
    if (!rpc_is_open(&t->writer_conn))
        rpc_open(&t->writer_conn, (unsigned)node);
    batch_builder_init(
        &b, sim_one_in(sim, 2) ? BATCH_NONE : (enum batch_codec)sim_below(sim, BATCH_CODEC_COUNT));
    t->first_sent = t->records_n;
    t->sent_n = 1 + (unsigned)sim_below(sim, TABLE_RECORDS_MAX);
    for (unsigned i = 0; i < t->sent_n; i++)
        record_add(t, &b, record_new(t));
    int rc = batch_builder_finish(&b, &data, &len);
    ASSERT(rc == 0);
    struct produce_request_partition_produce_data part = {
        .records = {.data = data, .len = (int32_t)len}};
    struct produce_request_topic_produce_data topic = {
        .name = wire_str_of(TABLE_TOPIC), .partition_data = &part, .partition_data_n = 1};
    struct produce_request request;
    wire_set_defaults(&produce_request_schema, &request);
    request.acks = -1;
    request.timeout_ms = 30000;
    request.topic_data = &topic;
    request.topic_data_n = 1;
    rpc_call(&t->writer_conn, &t->writer_call, API_PRODUCE,
             some_version(sim, 7, PRODUCE_VERSION_MAX), &request, on_produced);
    batch_builder_fini(&b);
}

/* ---- life ---- */

static void config_add(struct arena *arena, struct create_topics_request_creatable_topic *topic,
                       const char *name, const char *value)
{
    topic->configs[topic->configs_n++] = (struct create_topics_request_creatable_topic_config){
        .name = wire_str_of(name), .value = wire_str_of(arena_strdup(arena, value))};
}

void table_configs(const struct sim_table *t, struct arena *arena,
                   struct create_topics_request_creatable_topic *ret)
{
    ret->name = wire_str_of(TABLE_TOPIC);
    ret->num_partitions = ret->replication_factor = 1;
    ret->configs = wire_new_array(&create_topics_request_creatable_topic_config_schema, arena, 3);
    ret->configs_n = 0;
    config_add(arena, ret, "cleanup.policy", "compact");
    config_add(arena, ret, "min.cleanable.dirty.ratio", "0.01");
    config_add(arena, ret, "delete.retention.ms",
               arena_printf(arena, "%lld", (long long)t->tombstones_ms));
}

void table_init(struct sim_table *t, struct sim *sim)
{
    *t = (struct sim_table){
        .sim = sim, .used = sim->plan.table, .tombstones_ms = sim->plan.tombstones_ms};
    rpc_conn_init(&t->writer_conn, sim, on_writer_closed, t);
    rpc_conn_init(&t->reader_conn, sim, on_reader_closed, t);
}

void table_start(struct sim_table *t)
{
    if (!t->used)
        return;
    table_read_begin(t, &t->reader);
    writer_soon(t);
    reader_soon(t);
}

void table_stop(struct sim_table *t)
{
    rpc_close(&t->writer_conn);
    rpc_close(&t->reader_conn);
    sim_timer_clear(&t->writer_timer);
    sim_timer_clear(&t->reader_timer);
}

void table_fini(struct sim_table *t)
{
    rpc_conn_fini(&t->writer_conn);
    rpc_conn_fini(&t->reader_conn);
    free(t->records);
    free(t->at);
}
