#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "tests/sim/clients.h"

#define SENT_BYTES_SLOW (64u << 20)
#define PACKED_BYTES_MAX 20000u /* more would only cost time */

static void producer_work(struct sim_timer *t);

/* Who has sent a lot goes slower: what matters is different things, not more of them. */
static void work_soon(struct producer *p, uint64_t mean_ns)
{
    if (p->sim->model.sent_bytes > SENT_BYTES_SLOW)
        mean_ns *= 30;
    sim_timer_set(p->sim, &p->timer, sim_some_ns(p->sim, mean_ns), producer_work);
}

/* ---- making batches ---- */

static uint32_t value_bytes(struct sim *sim, const struct model_topic *t)
{
    const struct sim_plan *plan = &sim->plan;
    uint32_t mean = sim_one_in(sim, plan->big_one_in) ? plan->big_bytes : plan->small_bytes;
    const struct meta_topic *topic = meta_topic_by_id(sim->broker.shards[0].meta, &t->id);
    int64_t limit = topic == NULL ? 0 : topic->config.segment_bytes / 3;
    uint32_t bytes = (uint32_t)sim_below(sim, 2 * (uint64_t)mean);
    return (uint32_t)MIN((int64_t)bytes, MIN(limit, INT64_C(900000)));
}

/* Half noise, half of what packs well. */
static void value_fill(struct sim *sim, uint8_t *value, uint32_t len)
{
    struct rng r;
    rng_seed(&r, rng_next(&sim->rng));
    for (uint32_t i = 0; i < len; i += 8)
        for (uint32_t k = 0, v = (uint32_t)rng_next(&r); k < 8 && i + k < len; k++)
            value[i + k] = k < 4 ? (uint8_t)(v >> (8 * k)) : (uint8_t)k;
}

static void records_add(struct producer *p, struct batch_builder *builder, struct model_batch *b)
{
    struct sim *sim = p->sim;
    uint32_t bytes = value_bytes(sim, p->partition->topic);
    builder->codec = bytes > PACKED_BYTES_MAX ? BATCH_NONE : p->codec;
    int32_t n = bytes > 10000 ? 1 : 1 + (int32_t)sim_below(sim, sim_one_in(sim, 4) ? 30 : 3);
    if ((uint64_t)bytes * (uint64_t)n > 20000)
        n = 1;
    b->records = n;
    for (int32_t i = 0; i < n; i++) {
        uint8_t *value;
        int rc = batch_builder_add_room(builder,
                                        model_timestamp(b) + MIN(i, MODEL_TIMESTAMP_STEP_MS - 1),
                                        NULL, -1, (int32_t)bytes, &value);
        ASSERT(rc == 0);
        value_fill(sim, value, bytes);
    }
}

static struct flight *flight_make(struct producer *p)
{
    struct flight *f = calloc(1, sizeof(*f));
    struct model_batch *b = model_batch_add(&p->sim->model, p->partition);
    struct batch_builder builder;
    struct batch_header h;
    uint8_t *data;
    size_t len;
    ASSERT(f != NULL);
    b->acks = p->acks;
    b->idempotent = p->idempotent;
    batch_builder_init(&builder, p->codec);
    if (p->idempotent) {
        builder.producer_id = p->id;
        builder.producer_epoch = p->epoch;
        builder.base_sequence = p->next_sequence;
    }
    records_add(p, &builder, b);
    p->next_sequence += b->records;
    int rc = batch_builder_finish(&builder, &data, &len);
    ASSERT(rc == 0);
    f->data = malloc(len);
    ASSERT(f->data != NULL);
    memcpy(f->data, data, len);
    rc = batch_peek(data, len, &h);
    ASSERT(rc == 0);
    batch_builder_fini(&builder);
    b->len_bytes = f->len = (uint32_t)len;
    p->sim->model.sent_bytes += len;
    b->crc = h.crc;
    f->producer = p;
    f->batch = b;
    p->flights[p->flights_n++] = f;
    return f;
}

static void flight_drop(struct flight *f)
{
    struct producer *p = f->producer;
    unsigned i = 0;
    while (p->flights[i] != f)
        i++;
    p->flights_n--;
    memmove(&p->flights[i], &p->flights[i + 1], (p->flights_n - i) * sizeof(f));
    free(f->data);
    free(f);
}

/* ---- answers ---- */

/* What is in flight is asked for again, all of it, in order; without idempotence nobody knows what
 * became of it, and it stays so. */
static void connection_over(struct producer *p)
{
    rpc_close(&p->conn);
    p->asking = false;
    for (unsigned i = 0; i < p->flights_n; i++)
        p->flights[i]->sent = false;
    while (!p->idempotent && p->flights_n > 0)
        flight_drop(p->flights[0]);
    work_soon(p, p->sim->plan.think_ns + 20 * SIM_NS_PER_MS);
}

/* Its sequence is lost where acknowledged records may be: it begins anew. */
static void identity_over(struct producer *p)
{
    p->idempotent = false;
    connection_over(p);
    p->idempotent = true;
    p->id = -1;
}

static void refused(struct producer *p, const struct flight *f, int16_t error)
{
    const struct model_topic *t = p->partition->topic;
    bool gone = t->state != MODEL_THERE;
    bool retriable = error == ERROR_STORAGE || error == ERROR_NOT_LEADER ||
                     (gone && (error == ERROR_UNKNOWN_TOPIC || error == ERROR_UNKNOWN_TOPIC_ID));
    sim_trace(p->sim, "batch %llu to %s-%d: error %d", (unsigned long long)f->batch->number,
              t->name, (int)p->partition->index, error);
    if (error == ERROR_OUT_OF_ORDER && (t->write_caching || p->sim->model.tolerant))
        identity_over(p);
    else if (retriable)
        connection_over(p);
    else
        model_violation(&p->sim->model, "batch %llu to %s-%d: error %d",
                        (unsigned long long)f->batch->number, t->name, (int)p->partition->index,
                        error);
}

static void on_produced(struct rpc *call, const void *response)
{
    struct flight *f = container_of(call, struct flight, call);
    struct producer *p = f->producer;
    const struct produce_response *r = response;
    if (r == NULL)
        return; /* the end of the connection is told next */
    if (r->responses_n != 1 || r->responses[0].partition_responses_n != 1) {
        model_violation(&p->sim->model, "a Produce answer of another form");
        return;
    }
    const struct produce_response_partition_produce_response *told =
        r->responses[0].partition_responses;
    if (told->error_code != ERROR_NONE) {
        refused(p, f, told->error_code);
        return;
    }
    sim_trace(p->sim, "batch %llu at %s-%d %lld", (unsigned long long)f->batch->number,
              p->partition->topic->name, (int)p->partition->index, (long long)told->base_offset);
    model_ack(&p->sim->model, f->batch, told->base_offset, sim_now_ns_of(p->sim));
    p->acked++;
    flight_drop(f);
    if (p->flights_n + 1 == p->in_flight_max)
        work_soon(p, p->sim->plan.think_ns);
}

static void on_closed(struct rpc_conn *c)
{
    connection_over(c->arg);
}

static void on_id(struct rpc *call, const void *response)
{
    struct producer *p = container_of(call, struct producer, id_call);
    const struct init_producer_id_response *r = response;
    p->asking = false;
    if (r == NULL)
        return;
    if (r->error_code == ERROR_NONE) {
        p->id = r->producer_id;
        p->epoch = r->producer_epoch;
        p->next_sequence = 0;
        work_soon(p, SIM_NS_PER_MS);
    } else {
        connection_over(p);
    }
}

/* ---- sending ---- */

static void flight_send(struct flight *f)
{
    struct producer *p = f->producer;
    const struct model_topic *t = p->partition->topic;
    struct produce_request_partition_produce_data data = {
        .index = p->partition->index, .records = {.data = f->data, .len = (int32_t)f->len}};
    struct produce_request_topic_produce_data topic = {.name = wire_str_of(t->name),
                                                       .topic_id = wire_uuid_of(&t->id),
                                                       .partition_data = &data,
                                                       .partition_data_n = 1};
    struct produce_request request;
    wire_set_defaults(&produce_request_schema, &request);
    request.acks = p->acks;
    request.timeout_ms = 30000;
    request.topic_data = &topic;
    request.topic_data_n = 1;
    f->sent = true;
    f->batch->sends++;
    rpc_call(&p->conn, &f->call, API_PRODUCE, t->comes_and_goes ? VERSION_TOPIC_ID : p->version,
             &request, p->acks == 0 ? NULL : on_produced);
    if (p->acks == 0)
        flight_drop(f);
}

static void id_ask(struct producer *p)
{
    struct init_producer_id_request request;
    wire_set_defaults(&init_producer_id_request_schema, &request);
    request.transactional_id = wire_str_of(NULL);
    request.transaction_timeout_ms = 60000;
    p->asking = true;
    rpc_call(&p->conn, &p->id_call, API_INIT_PRODUCER_ID, some_version(p->sim, 0, 5), &request,
             on_id);
}

/* Who stays with its partition takes one of a topic that stays. */
static bool may_use(const struct producer *p, const struct model_topic *t)
{
    return t->state == MODEL_THERE && (p->roams || !t->comes_and_goes);
}

static void partition_choose(struct producer *p)
{
    struct sim *sim = p->sim;
    unsigned there = 0;
    for (struct model_topic *t = sim->model.topics; t != NULL; t = t->next)
        there += may_use(p, t);
    uint64_t skip = there == 0 ? 0 : sim_below(sim, there);
    for (struct model_topic *t = sim->model.topics; t != NULL; t = t->next)
        if (may_use(p, t) && skip-- == 0)
            p->partition = t->partitions[sim_below(sim, (uint64_t)t->partitions_n)];
}

static bool connected(struct producer *p)
{
    if (rpc_is_open(&p->conn))
        return true;
    if (p->partition == NULL || (p->roams && p->flights_n == 0))
        partition_choose(p);
    int node = p->partition == NULL ? -1 : partition_node(p->sim, p->partition);
    if (node < 0)
        return false;
    rpc_open(&p->conn, (unsigned)node);
    return true;
}

static void producer_work(struct sim_timer *t)
{
    struct producer *p = container_of(t, struct producer, timer);
    work_soon(p, p->sim->plan.think_ns);
    if (!connected(p) || p->asking)
        return;
    if (p->idempotent && p->id < 0) {
        id_ask(p);
        return;
    }
    for (unsigned i = 0; i < p->flights_n; i++)
        if (!p->flights[i]->sent)
            flight_send(p->flights[i]);
    uint64_t burst = sim_one_in(p->sim, 5) ? p->in_flight_max : 1;
    while (burst-- > 0 && p->flights_n < p->in_flight_max)
        flight_send(flight_make(p));
    if (p->roams && sim_one_in(p->sim, 8) && p->flights_n == 0)
        rpc_close(&p->conn);
}

/* ---- life ---- */

/* The first one always waits for what counts. */
void producer_init(struct producer *p, struct sim *sim, bool first)
{
    *p = (struct producer){.sim = sim, .id = -1};
    rpc_conn_init(&p->conn, sim, on_closed, p);
    p->acks = (int8_t)(!first && sim_one_in(sim, 3) ? (sim_one_in(sim, 4) ? 0 : 1) : -1);
    p->idempotent = p->acks == -1 && sim_one_in(sim, 2);
    p->roams = !p->idempotent && sim_one_in(sim, 2);
    p->codec =
        sim_one_in(sim, 2) ? BATCH_NONE : (enum batch_codec)sim_below(sim, BATCH_CODEC_COUNT);
    p->version = some_version(sim, p->codec == BATCH_ZSTD ? 7 : 3, 13);
    p->in_flight_max = 1 + (unsigned)sim_below(sim, PRODUCER_FLIGHTS_MAX);
}

void producer_start(struct producer *p)
{
    work_soon(p, p->sim->plan.think_ns);
}

void producer_stop(struct producer *p)
{
    sim_timer_clear(&p->timer);
    connection_over(p);
    sim_timer_clear(&p->timer);
}

void producer_fini(struct producer *p)
{
    while (p->flights_n > 0)
        flight_drop(p->flights[0]);
    rpc_conn_fini(&p->conn);
}
