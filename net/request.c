#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/sock.h"
#include "net/conn.h"

#define REQUEST_INLINE_BYTES 2048u /* a frame up to this lies in the arena's first block */
#define REQUEST_ARENA_BYTES_MAX (64u << 20)
#define REQUEST_ARENA_KEEP_BYTES (16u << 10)
#define REQUEST_REPLY_KEEP_BYTES (64u << 10)
#define REQUESTS_FREE_MAX 256u
#define HEADER_BYTES_MIN 8u /* key, version, correlation id: at fixed places in every version */

static struct conn_request *request_of(struct request *r)
{
    return container_of(r, struct conn_request, r);
}

/* ---- memory ---- */

static struct conn_request *request_get(struct net *net)
{
    struct conn_request *x = net->requests_free;
    if (x != NULL) {
        net->requests_free = x->next_free;
        net->requests_free_n--;
        return x;
    }
    x = calloc(1, sizeof(*x));
    if (x == NULL)
        return NULL;
    arena_init(&x->r.arena, REQUEST_ARENA_BYTES_MAX);
    wire_writer_init(&x->r.reply);
    return x;
}

static void request_put(struct net *net, struct conn_request *x)
{
    struct arena arena = x->r.arena;
    struct wire_writer reply = x->r.reply;
    arena_reset(&arena);
    if (arena.total_bytes > REQUEST_ARENA_KEEP_BYTES)
        arena_fini(&arena);
    wire_writer_reset(&reply);
    if (reply.cap > REQUEST_REPLY_KEEP_BYTES) {
        wire_writer_fini(&reply);
        wire_writer_init(&reply);
    }
    if (net->requests_free_n >= REQUESTS_FREE_MAX) {
        arena_fini(&arena);
        wire_writer_fini(&reply);
        free(x);
        return;
    }
    *x = (struct conn_request){.r = {.arena = arena, .reply = reply},
                               .next_free = net->requests_free};
    net->requests_free = x;
    net->requests_free_n++;
}

/* Large frames that do not arrive cannot keep out small ones: some memory is for these alone. */
static bool frame_has_room(const struct net *net, uint32_t frame_len)
{
    return frame_len <= CONN_SMALL_FRAME_BYTES ||
           net->shard->net_memory.free_bytes >= buddy_round(frame_len) + net->small_reserve_bytes;
}

static uint8_t *frame_memory(struct net *net, struct conn_request *x, uint32_t frame_len,
                             const uint8_t *head, uint32_t head_len)
{
    if (frame_len <= REQUEST_INLINE_BYTES)
        return arena_alloc(&x->r.arena, frame_len);
    uint8_t *frame = NULL;
    int rc =
        produce_place(net->shard, head, head_len, frame_len, &x->r.place, &x->r.arrival, &frame);
    if (rc == -EAGAIN)
        net_wait_log_memory(net);
    if (rc == 0 || rc == -EAGAIN)
        return frame;
    if (frame_has_room(net, frame_len))
        x->block = buddy_alloc(&net->shard->net_memory, frame_len);
    return x->block;
}

struct conn_request *conn_request_create(struct net *net, uint32_t frame_len, const uint8_t *head,
                                         uint32_t head_len)
{
    struct conn_request *x = request_get(net);
    if (x == NULL)
        return NULL;
    x->r.frame = frame_memory(net, x, frame_len, head, head_len);
    if (x->r.frame == NULL) {
        request_put(net, x);
        return NULL;
    }
    x->net = net;
    x->r.frame_len = frame_len;
    x->r.shard = net->shard;
    net->requests_n++;
    return x;
}

void conn_request_drop_later(struct conn_request *x)
{
    x->r.conn = NULL;
    list_push_tail(&x->net->dead, &x->r.link);
}

void conn_requests_drop(struct net *net)
{
    for (struct list_node *node; (node = list_pop_head(&net->dead)) != NULL;) {
        struct conn_request *x = container_of(node, struct conn_request, r.link);
        if (x->r.on_released != NULL)
            x->r.on_released(&x->r);
        if (x->block != NULL)
            buddy_free(&net->shard->net_memory, x->block);
        log_place_release(&x->r.place);
        net->requests_n--;
        request_put(net, x);
    }
}

void conn_requests_fini(struct net *net)
{
    for (struct conn_request *x; (x = net->requests_free) != NULL;) {
        net->requests_free = x->next_free;
        arena_fini(&x->r.arena);
        wire_writer_fini(&x->r.reply);
        free(x);
    }
}

/* ---- in ---- */

/* Header and body into r; NULL, or why that cannot be done. */
static const char *request_decode(struct request *r, void **ret_body)
{
    struct wire_request_header h;
    uint32_t body_at;
    if (r->version < r->api->served_min || r->version > r->api->max_version)
        return "version is not served";
    if (wire_decode_request_header(r->frame, r->frame_len, &h, &body_at) < 0)
        return "malformed header";
    r->client_id = h.client_id;
    const struct wire_api *api = wire_api_find(r->api->key);
    void *body = wire_new(api->request, &r->arena);
    if (body == NULL)
        return "no memory";
    uint32_t used; /* what is behind the body is ignored, as Kafka does */
    int rc = wire_decode_prefix(api->request, r->version, wire_request_flexible(api, r->version),
                                r->frame + body_at, r->frame_len - body_at, &r->arena, body, &used);
    if (rc < 0)
        return rc == -ENOMEM ? "decodes to more than a request may hold" : "malformed body";
    *ret_body = body;
    return NULL;
}

/* One row for each kind of client, not for each client: the software's name comes first. */
static struct wire_str client_name(const struct request *r, const void *body)
{
    const struct api_versions_request *hello = body;
    bool is_named = r->api->handle == api_versions_handle && r->version >= 3 &&
                    hello->client_software_name.len > 0;
    return is_named ? hello->client_software_name : r->client_id;
}

static void request_count(struct conn_request *x, const void *body)
{
    struct request *r = &x->r;
    struct conn *c = r->conn;
    if (c->client == NULL || r->api->handle == api_versions_handle)
        c->client = client_stats_find(&x->net->clients, client_name(r, body));
    counter_add(&c->client->requests[r->api - net_apis][r->version], 1);
}

void conn_request_dispatch(struct conn_request *x)
{
    struct request *r = &x->r;
    if (r->frame_len < HEADER_BYTES_MIN) {
        request_fail(r, "too short for a header");
        return;
    }
    int16_t key = (int16_t)be_load16(r->frame);
    r->version = (int16_t)be_load16(r->frame + 2);
    r->correlation_id = (int32_t)be_load32(r->frame + 4);
    r->api = net_api_find(key);
    if (r->api == NULL) {
        char why[64];
        snprintf(why, sizeof(why), "unknown API key %d", key);
        request_fail(r, why);
        return;
    }
    counter_add(&x->net->counters.requests[r->api - net_apis], 1);
    if (r->api->handle == api_versions_handle &&
        (r->version < 0 || r->version > r->api->max_version)) {
        r->version = 0;
        api_versions_reply_unsupported(r);
        return;
    }
    void *body;
    const char *why = request_decode(r, &body);
    if (why != NULL) {
        request_fail(r, why);
        return;
    }
    request_count(x, body);
    r->api->handle(r, body);
}

/* ---- out ---- */

static void request_answered(struct request *r)
{
    ASSERT(!r->replied);
    r->replied = true;
    r->on_cancel = NULL;
    if (r->conn != NULL)
        conn_mark_dirty(r->conn);
    else
        conn_request_drop_later(request_of(r));
}

void request_reply(struct request *r, const void *response)
{
    const struct wire_api *api = wire_api_find(r->api->key);
    struct wire_writer *w = &r->reply;
    if (r->conn == NULL) {
        request_answered(r);
        return;
    }
    wire_frame_begin(w);
    wire_encode_response_header(w, api, r->version, r->correlation_id);
    wire_encode(api->response, r->version, wire_response_flexible(api, r->version), response, w);
    wire_frame_end(w);
    if (w->failed)
        request_fail(r, "the reply cannot be encoded");
    else
        request_answered(r);
}

void request_no_reply(struct request *r)
{
    r->no_reply = true;
    request_answered(r);
}

void request_fail(struct request *r, const char *why)
{
    if (r->conn != NULL) {
        char peer[SOCK_NAME_BYTES];
        sock_peer_name(r->conn->sock, peer);
        const struct wire_api *api = r->api != NULL ? wire_api_find(r->api->key) : NULL;
        net_log(request_of(r)->net, "shard %u: closing %s: %s v%d: %s", r->shard->index, peer,
                api != NULL ? api->name : "request", r->version, why);
        conn_drain(r->conn);
    }
    counter_add(&request_of(r)->net->counters.requests_failed, 1);
    request_of(r)->failed = true;
    request_answered(r);
}

void *request_alloc(struct request *r, size_t len_bytes)
{
    return arena_alloc(&r->arena, len_bytes);
}

void request_cancel(struct request *r)
{
    void (*on_cancel)(struct request *) = r->on_cancel;
    r->on_cancel = NULL;
    if (on_cancel != NULL && !r->replied)
        on_cancel(r);
}

/* Moves past what is used up; false: nothing is left. */
static bool pieces_settle(struct conn_request *x)
{
    const struct wire_writer *w = &x->r.reply;
    while (x->ref_at < w->refs_n && x->buf_at >= w->refs[x->ref_at].at) {
        const struct wire_ref *ref = &w->refs[x->ref_at];
        if (ref->extent != NULL && x->ref_bytes < (uint32_t)ref->len)
            return true;
        while (x->ref_iov < ref->iov_n && ref->iov[x->ref_iov].iov_len == 0)
            x->ref_iov++;
        if (x->ref_iov < ref->iov_n && x->ref_bytes < (uint32_t)ref->len)
            return true;
        x->ref_at++;
        x->ref_iov = 0;
        x->ref_bytes = 0;
    }
    return x->ref_at < w->refs_n || x->buf_at < w->len;
}

unsigned conn_request_pieces(struct conn_request *x, struct iovec *iov, unsigned iov_n,
                             const struct env_extent **ret_extent)
{
    const struct wire_writer *w = &x->r.reply;
    unsigned n = 0;
    while (pieces_settle(x) && n < iov_n) {
        const struct wire_ref *ref = x->ref_at < w->refs_n ? &w->refs[x->ref_at] : NULL;
        uint32_t limit = ref != NULL ? ref->at : w->len;
        if (x->buf_at < limit) {
            iov[n++] = (struct iovec){w->buf + x->buf_at, limit - x->buf_at};
            x->buf_at = limit;
            continue;
        }
        if (ref->extent != NULL) { /* a send of its own */
            if (n > 0)
                break;
            *ret_extent = ref->extent;
            x->ref_bytes = (uint32_t)ref->len;
            break;
        }
        const struct iovec *piece = &ref->iov[x->ref_iov++];
        size_t take = MIN(piece->iov_len, (size_t)((uint32_t)ref->len - x->ref_bytes));
        iov[n++] = (struct iovec){piece->iov_base, take};
        x->ref_bytes += (uint32_t)take;
    }
    x->queued_all = !pieces_settle(x);
    return n;
}
