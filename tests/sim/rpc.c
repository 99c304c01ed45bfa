#include "tests/sim/rpc.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

#define FRAME_BYTES_MAX (256u << 20)
#define ANSWER_ARENA_BYTES (64u << 20)

static void calls_fail(struct rpc_conn *c)
{
    for (struct list_node *it; (it = list_pop_head(&c->calls)) != NULL;) {
        struct rpc *call = container_of(it, struct rpc, node);
        call->on_answer(call, NULL);
    }
}

static void on_open(struct sim_peer *p)
{
    (void)p; /* what was sent before is on its way already */
}

static void on_closed(struct sim_peer *p)
{
    struct rpc_conn *c = container_of(p, struct rpc_conn, peer);
    c->in_len = 0;
    calls_fail(c);
    c->on_closed(c);
}

static void answer_take(struct rpc_conn *c, uint8_t *frame, uint32_t len)
{
    struct list_node *it = list_pop_head(&c->calls);
    if (it == NULL) {
        model_violation(&c->sim->model, "an answer to nothing");
        return;
    }
    struct rpc *call = container_of(it, struct rpc, node);
    struct arena arena;
    int32_t correlation;
    uint32_t at;
    arena_init(&arena, ANSWER_ARENA_BYTES);
    int rc = wire_decode_response_header(frame, len, call->api, call->version, &correlation, &at);
    void *response = wire_new(call->api->response, &arena);
    ASSERT(response != NULL);
    if (rc == 0)
        rc = wire_decode(call->api->response, call->version,
                         wire_response_flexible(call->api, call->version), frame + at, len - at,
                         &arena, response);
    if (rc == 0 && correlation == call->correlation)
        call->on_answer(call, response);
    else
        model_violation(&c->sim->model, "%s v%d: the answer makes no sense", call->api->name,
                        call->version);
    arena_fini(&arena);
}

static void on_data(struct sim_peer *p, const uint8_t *data, size_t len)
{
    struct rpc_conn *c = container_of(p, struct rpc_conn, peer);
    if (c->in_len + len > c->in_cap) {
        c->in_cap = MAX(c->in_cap * 2, c->in_len + len);
        c->in = realloc(c->in, c->in_cap);
        ASSERT(c->in != NULL);
    }
    memcpy(c->in + c->in_len, data, len);
    c->in_len += len;
    while (c->in_len >= 4 && rpc_is_open(c)) {
        uint32_t frame_len = be_load32(c->in);
        if (frame_len > FRAME_BYTES_MAX) {
            model_violation(&c->sim->model, "a frame of %u bytes", frame_len);
            return;
        }
        if (c->in_len - 4 < frame_len)
            return;
        uint8_t *frame = malloc(MAX(frame_len, 1u)); /* its own: the callback may close */
        ASSERT(frame != NULL);
        memcpy(frame, c->in + 4, frame_len);
        c->in_len -= 4 + frame_len;
        memmove(c->in, c->in + 4 + frame_len, c->in_len);
        answer_take(c, frame, frame_len);
        free(frame);
    }
}

void rpc_conn_init(struct rpc_conn *c, struct sim *sim, void (*closed)(struct rpc_conn *c),
                   void *arg)
{
    *c = (struct rpc_conn){.peer = {.on_open = on_open, .on_data = on_data, .on_closed = on_closed},
                           .sim = sim,
                           .on_closed = closed,
                           .arg = arg};
    list_init(&c->calls);
}

void rpc_open(struct rpc_conn *c, unsigned node)
{
    c->node = node;
    c->in_len = 0;
    sim_connect(c->sim->net, &c->peer, node);
}

void rpc_close(struct rpc_conn *c)
{
    sim_close(&c->peer);
    while (list_pop_head(&c->calls) != NULL)
        continue;
    c->in_len = 0;
}

void rpc_conn_fini(struct rpc_conn *c)
{
    rpc_close(c);
    free(c->in);
    c->in = NULL;
    c->in_cap = 0;
}

void rpc_call(struct rpc_conn *c, struct rpc *call, int16_t api, int16_t version,
              const void *request, rpc_fn on_answer)
{
    struct wire_writer w;
    ASSERT(rpc_is_open(c));
    call->api = wire_api_find(api);
    call->version = version;
    call->correlation = c->next_correlation++;
    call->on_answer = on_answer;
    struct wire_request_header h = {.api_key = api,
                                    .api_version = version,
                                    .correlation_id = call->correlation,
                                    .client_id = wire_str_of("sim")};
    wire_writer_init(&w);
    wire_frame_begin(&w);
    wire_encode_request_header(&w, call->api, &h);
    wire_encode(call->api->request, version, wire_request_flexible(call->api, version), request,
                &w);
    wire_frame_end(&w);
    ASSERT(!w.failed && w.refs_n == 0);
    if (on_answer != NULL)
        list_push_tail(&c->calls, &call->node);
    sim_send(&c->peer, w.buf, w.len);
    wire_writer_fini(&w);
}

/* ---- waiting ---- */

struct waiter {
    struct rpc call;
    bool done;
    void (*take)(const void *response, void *arg);
};

static void on_waited(struct rpc *call, const void *response)
{
    struct waiter *w = container_of(call, struct waiter, call);
    w->done = true;
    if (response != NULL)
        w->take(response, call->arg);
}

bool rpc_call_wait(struct rpc_conn *c, int16_t api, int16_t version, const void *request,
                   uint64_t timeout_ns, void (*take)(const void *response, void *arg), void *arg)
{
    struct waiter w = {.take = take, .call.arg = arg};
    uint64_t until_ns = sim_now_ns_of(c->sim) + timeout_ns;
    rpc_call(c, &w.call, api, version, request, on_waited);
    while (!w.done && sim_step(c->sim, until_ns) && sim_now_ns_of(c->sim) < until_ns)
        continue;
    if (!w.done) {
        rpc_close(c);
        return false;
    }
    return rpc_is_open(c);
}
