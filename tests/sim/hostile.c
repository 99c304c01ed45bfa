/* hostile.c: a client that means no good: whole, bent, cut and endless requests of every API, many
 * at once, read or not. It has no rights and no name in the model but one batch, which may come to
 * lie anywhere; everybody else must not notice. */
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "tests/sim/clients.h"

#define ARENA_BYTES (1u << 20)
#define BURST_MAX 20

static void hostile_work(struct sim_timer *t);

static void work_soon(struct hostile *h)
{
    sim_timer_set(h->sim, &h->timer, sim_some_ns(h->sim, h->sim->plan.think_ns), hostile_work);
}

static void on_open(struct sim_peer *p)
{
    (void)p;
}

static void on_data(struct sim_peer *p, const uint8_t *data, size_t len)
{
    (void)p; /* whatever it says */
    (void)data;
    (void)len;
}

static void on_closed(struct sim_peer *p)
{
    work_soon(container_of(p, struct hostile, peer));
}

/* ---- requests ---- */

static struct wire_str some_topic(struct hostile *h)
{
    static const char *const names[] = {"hostile", "t0", "t1", "churn.0", "", "a b", "hostile-2"};
    return wire_str_of(names[sim_below(h->sim, ARRAY_LEN(names))]);
}

static void produce_make(struct hostile *h, struct arena *arena, struct produce_request *r)
{
    r->acks = (int16_t)(sim_below(h->sim, 4)) - 2;
    r->topic_data_n = 1;
    r->topic_data = wire_new_array(&produce_request_topic_produce_data_schema, arena, 1);
    r->topic_data->name = some_topic(h);
    r->topic_data->partition_data_n = 1;
    r->topic_data->partition_data =
        wire_new_array(&produce_request_partition_produce_data_schema, arena, 1);
    r->topic_data->partition_data->index = (int32_t)sim_below(h->sim, 4) - 1;
    r->topic_data->partition_data->records =
        (struct wire_records){.data = h->batch, .len = (int32_t)h->batch_len};
}

static void fetch_make(struct hostile *h, struct arena *arena, struct fetch_request *r)
{
    r->max_wait_ms = (int32_t)sim_below(h->sim, 5000);
    r->min_bytes = (int32_t)sim_below(h->sim, 100000);
    r->session_epoch = (int32_t)sim_below(h->sim, 3) - 1;
    r->rack_id = wire_str_of("");
    r->topics_n = 1;
    r->topics = wire_new_array(&fetch_request_fetch_topic_schema, arena, 1);
    r->topics->topic = some_topic(h);
    r->topics->partitions_n = 1;
    r->topics->partitions = wire_new_array(&fetch_request_fetch_partition_schema, arena, 1);
    r->topics->partitions->partition = (int32_t)sim_below(h->sim, 3);
    r->topics->partitions->fetch_offset = (int64_t)sim_below(h->sim, 50) - 5;
    r->topics->partitions->partition_max_bytes = (int32_t)sim_below(h->sim, 4000000);
}

static void create_make(struct hostile *h, struct arena *arena, struct create_topics_request *r)
{
    r->topics_n = 1;
    r->topics = wire_new_array(&create_topics_request_creatable_topic_schema, arena, 1);
    r->topics->name = wire_str_of(sim_one_in(h->sim, 2) ? "hostile" : "hostile-2");
    r->topics->num_partitions = (int32_t)sim_below(h->sim, 4);
    r->topics->replication_factor = 1;
}

static bool encode(struct hostile *h, struct wire_writer *w)
{
    const struct wire_api *api = &wire_apis[sim_below(h->sim, wire_apis_count)];
    int16_t version = some_version(h->sim, api->min, api->max);
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    void *request = wire_new(api->request, &arena);
    ASSERT(request != NULL);
    if (api->key == API_PRODUCE)
        produce_make(h, &arena, request);
    else if (api->key == API_FETCH)
        fetch_make(h, &arena, request);
    else if (api->key == API_CREATE_TOPICS)
        create_make(h, &arena, request);
    struct wire_request_header header = {.api_key = api->key,
                                         .api_version = version,
                                         .correlation_id = (int32_t)sim_below(h->sim, 1000),
                                         .client_id = wire_str_of("hostile")};
    wire_frame_begin(w);
    wire_encode_request_header(w, api, &header);
    wire_encode(api->request, version, wire_request_flexible(api, version), request, w);
    wire_frame_end(w);
    arena_fini(&arena);
    return !w->failed; /* a null where the version knows none */
}

/* ---- bending ---- */

static void bend(struct hostile *h, uint8_t *data, size_t len, bool length_too)
{
    size_t from = length_too ? 0 : 4;
    for (uint64_t n = 1 + sim_below(h->sim, 4); n > 0 && len > from; n--) {
        uint8_t *at = data + from + sim_below(h->sim, len - from);
        *at = (uint8_t)(sim_one_in(h->sim, 2) ? *at ^ (1u << sim_below(h->sim, 8))
                                              : sim_below(h->sim, 256));
    }
}

static void request_send(struct hostile *h)
{
    struct wire_writer w;
    wire_writer_init(&w);
    if (encode(h, &w)) {
        ASSERT(w.refs_n == 0);
        size_t len = w.len;
        if (sim_one_in(h->sim, 2))
            bend(h, w.buf, len, sim_one_in(h->sim, 8));
        if (sim_one_in(h->sim, 8))
            len = sim_below(h->sim, len + 1);
        if (len > 0)
            sim_send(&h->peer, w.buf, len);
    }
    wire_writer_fini(&w);
}

static void noise_send(struct hostile *h)
{
    uint8_t noise[2000];
    size_t len = 1 + sim_below(h->sim, sizeof(noise));
    for (size_t i = 0; i < len; i++)
        noise[i] = (uint8_t)sim_below(h->sim, 256);
    sim_send(&h->peer, noise, len);
}

static void hostile_work(struct sim_timer *t)
{
    struct hostile *h = container_of(t, struct hostile, timer);
    struct sim *sim = h->sim;
    work_soon(h);
    if (!sim->broker.up)
        return;
    if (h->peer.link == NULL)
        sim_connect(sim->net, &h->peer, (unsigned)sim_below(sim, sim->broker.broker.nodes_n));
    if (sim_one_in(sim, 5))
        sim_pause(&h->peer, sim_one_in(sim, 2));
    for (uint64_t n = 1 + sim_below(sim, BURST_MAX); n > 0 && h->peer.link != NULL; n--)
        request_send(h);
    if (h->peer.link != NULL && sim_one_in(sim, 20))
        noise_send(h);
    if (h->peer.link != NULL && sim_one_in(sim, 10))
        sim_finish(&h->peer);
    if (sim_one_in(sim, 6))
        sim_close(&h->peer);
}

/* ---- life ---- */

static void batch_make(struct hostile *h)
{
    struct batch_builder builder;
    struct batch_header header;
    uint8_t *data;
    size_t len;
    struct model_batch *b = model_batch_add(&h->sim->model, NULL);
    batch_builder_init(&builder, BATCH_NONE);
    int rc = batch_builder_add(&builder, model_timestamp(b), NULL, -1, "hostile", 7, NULL, 0);
    ASSERT(rc == 0);
    rc = batch_builder_finish(&builder, &data, &len);
    ASSERT(rc == 0 && len <= sizeof(h->batch));
    rc = batch_peek(data, len, &header);
    ASSERT(rc == 0);
    memcpy(h->batch, data, len);
    h->batch_len = len;
    batch_builder_fini(&builder);
    b->hostile = true;
    b->records = 1;
    b->len_bytes = (uint32_t)len;
    b->crc = header.crc;
}

void hostile_init(struct hostile *h, struct sim *sim)
{
    *h = (struct hostile){.sim = sim,
                          .peer = {.on_open = on_open, .on_data = on_data, .on_closed = on_closed}};
    batch_make(h);
}

void hostile_start(struct hostile *h)
{
    work_soon(h);
}

void hostile_stop(struct hostile *h)
{
    sim_close(&h->peer);
    sim_timer_clear(&h->timer);
}
