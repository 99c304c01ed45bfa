#include "tests/unit/bench/load/sim_client.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/batch/builder.h"
#include "io/sock.h"

static void on_received(struct env_op *op);

static void recv_start(struct client *c)
{
    env_recv(c->env, &c->recv_op, c->sock, c->buf, sizeof(c->buf), 0, on_received);
}

static void answer_take(struct client *c, const uint8_t *frame, uint32_t len)
{
    int32_t correlation_id;
    uint32_t at;
    if (c->answered_n == c->lost)
        c->answered_n++;
    while (c->answered_n < c->sent_n && c->requests[c->answered_n].api == NULL)
        c->answered_n++; /* one that asked for no answer */
    cr_assert_lt(c->answered_n, c->sent_n, "an answer to nothing");
    struct client_request *r = &c->requests[c->answered_n];
    r->frame = malloc(len);
    memcpy(r->frame, frame, len);
    r->frame_len = len;
    r->answered_ns = env_now_ns(c->env);
    cr_assert_eq(
        wire_decode_response_header(r->frame, len, r->api, r->version, &correlation_id, &at), 0);
    cr_assert_eq(correlation_id, c->answered_n, "answers are out of order");
    r->body = wire_new(r->api->response, &c->arena);
    cr_assert_eq(wire_decode(r->api->response, r->version,
                             wire_response_flexible(r->api, r->version), r->frame + at, len - at,
                             &c->arena, r->body),
                 0, "%s v%d", r->api->name, r->version);
    c->answered_n++;
}

static void on_received(struct env_op *op)
{
    struct client *c = container_of(op, struct client, recv_op);
    size_t at = 0;
    if (op->res <= 0) {
        c->closed = true;
        return;
    }
    c->in = realloc(c->in, c->in_len + (size_t)op->res);
    memcpy(c->in + c->in_len, c->buf, (size_t)op->res);
    c->in_len += (size_t)op->res;
    while (c->in_len - at >= 4 && c->in_len - at - 4 >= be_load32(c->in + at)) {
        uint32_t len = be_load32(c->in + at);
        answer_take(c, c->in + at + 4, len);
        at += 4 + len;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    recv_start(c);
}

static void on_connected(struct env_op *op)
{
    struct client *c = container_of(op, struct client, connect_op);
    cr_assert_geq(op->res, 0);
    c->sock = op->res;
    recv_start(c);
}

void client_open(struct client *c, struct env *env)
{
    struct sock_addr addr;
    memset(c, 0, sizeof(*c));
    c->env = env;
    c->sock = c->lost = -1;
    arena_init(&c->arena, 64 << 20);
    cr_assert_eq(sock_resolve("127.0.0.1", CLIENT_PORT, &addr), 0);
    env_connect(env, &c->connect_op, &addr, on_connected);
    while (c->sock < 0)
        env_turn(env, UINT64_MAX);
    struct metadata_request_metadata_request_topic topic = {.name = wire_str_of(TOPIC)};
    struct metadata_request q = {
        .topics = &topic, .topics_n = 1, .allow_auto_topic_creation = true};
    const struct metadata_response *res = client_await(c, client_send(c, METADATA, 5, &q, true));
    cr_assert_eq(res->topics_n, 1);
    cr_assert_eq(res->topics[0].error_code, 0);
    cr_assert_eq(res->brokers[0].port, CLIENT_PORT);
}

void client_close(struct client *c)
{
    env_sock_shutdown(c->env, c->sock);
    while (c->recv_op.busy || c->sends_lent > 0)
        env_turn(c->env, 0);
    env_sock_close(c->env, c->sock);
    for (int i = 0; i < c->sent_n; i++)
        free(c->requests[i].frame);
    free(c->in);
    arena_fini(&c->arena);
}

struct sending {
    struct env_op op;
    struct client *c;
    struct wire_writer w;
    struct iovec iov;
};

static void on_sent(struct env_op *op)
{
    const struct sending *s = container_of(op, struct sending, op);
    cr_assert(op->res == (int)s->iov.iov_len || op->res < 0);
}

static void on_released(struct env_op *op)
{
    struct sending *s = container_of(op, struct sending, op);
    s->c->sends_lent--;
    wire_writer_fini(&s->w);
    free(s);
}

int client_send(struct client *c, int16_t key, int version, const void *msg, bool answered)
{
    const struct wire_api *api = wire_api_find(key);
    struct sending *s = calloc(1, sizeof(*s));
    struct wire_request_header h = {.api_key = key,
                                    .api_version = (int16_t)version,
                                    .correlation_id = c->sent_n,
                                    .client_id = wire_str_of("sim")};
    cr_assert_lt(c->sent_n, CLIENT_REQUESTS_MAX);
    wire_frame_begin(&s->w);
    wire_encode_request_header(&s->w, api, &h);
    wire_encode(api->request, version, wire_request_flexible(api, version), msg, &s->w);
    wire_frame_end(&s->w);
    cr_assert(!s->w.failed);
    s->c = c;
    s->iov = (struct iovec){s->w.buf, s->w.len};
    c->sends_lent++;
    c->requests[c->sent_n] = (struct client_request){
        .api = answered ? api : NULL, .version = version, .sent_ns = env_now_ns(c->env)};
    env_sendv(c->env, &s->op, c->sock, &s->iov, 1, on_sent, on_released);
    return c->sent_n++;
}

int client_produce(struct client *c, const char *const *values, int n, enum batch_codec codec,
                   int16_t acks)
{
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    batch_builder_init(&b, codec);
    for (int i = 0; i < n; i++) {
        struct batch_record_header header = {(const uint8_t *)"h", 1, (const uint8_t *)"v", 1};
        cr_assert_eq(batch_builder_add(&b, 1000 + i, "k", 1, values[i], (int32_t)strlen(values[i]),
                                       &header, 1),
                     0);
    }
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    struct produce_request_partition_produce_data part = {
        .records = {.data = data, .len = (int32_t)len}};
    struct produce_request_topic_produce_data topic = {
        .name = wire_str_of(TOPIC), .partition_data = &part, .partition_data_n = 1};
    struct produce_request q = {.transactional_id = wire_str_of(NULL),
                                .acks = acks,
                                .timeout_ms = 1000,
                                .topic_data = &topic,
                                .topic_data_n = 1};
    int index = client_send(c, PRODUCE, 7, &q, acks != 0);
    batch_builder_fini(&b);
    return index;
}

int client_produce_numbers(struct client *c, int first, int n)
{
    char text[CLIENT_VALUES_MAX][16];
    const char *values[CLIENT_VALUES_MAX];
    cr_assert_leq(n, CLIENT_VALUES_MAX);
    for (int i = 0; i < n; i++) {
        snprintf(text[i], sizeof(text[i]), "%d", first + i);
        values[i] = text[i];
    }
    return client_produce(c, values, n, BATCH_NONE, -1);
}

int client_fetch(struct client *c, int64_t offset, int32_t max_wait_ms, int32_t min_bytes)
{
    struct fetch_request_fetch_partition part = {
        .fetch_offset = offset, .partition_max_bytes = 1 << 20, .current_leader_epoch = -1};
    struct fetch_request_fetch_topic topic = {
        .topic = wire_str_of(TOPIC), .partitions = &part, .partitions_n = 1};
    struct fetch_request q = {.replica_id = -1,
                              .max_wait_ms = max_wait_ms,
                              .min_bytes = min_bytes,
                              .max_bytes = 1 << 20,
                              .session_epoch = -1,
                              .topics = &topic,
                              .topics_n = 1};
    return client_send(c, FETCH, 11, &q, true);
}

void *client_await(struct client *c, int index)
{
    while (c->requests[index].answered_ns == 0 && !c->closed)
        env_turn(c->env, UINT64_MAX);
    cr_assert_neq(c->requests[index].answered_ns, 0, "closed instead of answered");
    return c->requests[index].body;
}

void client_run(struct client *c, uint64_t until_ns)
{
    while (env_now_ns(c->env) < until_ns)
        env_turn(c->env, until_ns);
}

static void records_add(const uint8_t *data, size_t len, struct client_records *ret)
{
    struct batch_iter *iter;
    struct batch_record r;
    cr_assert_eq(batch_iter_open(&iter, data, len), 0);
    while (batch_iter_next(iter, &r) == 1) {
        cr_assert_lt(ret->n, CLIENT_VALUES_MAX);
        cr_assert_eq(r.key_len, 1);
        cr_assert_eq(r.header_count, 1);
        ret->offsets[ret->n] = r.offset;
        snprintf(ret->values[ret->n++], sizeof(ret->values[0]), "%.*s", r.value_len, r.value);
    }
    batch_iter_close(iter);
}

void client_records(const struct fetch_response *res, struct client_records *ret)
{
    ret->n = 0;
    cr_assert_eq(res->responses_n, 1);
    cr_assert_eq(res->responses[0].partitions_n, 1);
    const struct fetch_response_partition_data *part = &res->responses[0].partitions[0];
    cr_assert_eq(part->error_code, 0, "error %d", part->error_code);
    for (int32_t at = 0; at < part->records.len;) {
        const uint8_t *data = part->records.data + at;
        struct batch_header h;
        cr_assert_eq(batch_peek(data, (size_t)(part->records.len - at), &h), 0);
        cr_assert_leq(h.len_bytes, (uint32_t)(part->records.len - at));
        cr_assert(batch_crc_ok(data, &h));
        records_add(data, h.len_bytes, ret);
        at += (int32_t)h.len_bytes;
    }
}
