#include "tests/lib/script_broker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "tests/lib/script_private.h"

#define NS_PER_S UINT64_C(1000000000)
enum {
    FRAME_BYTES_MAX = 104857600, /* Kafka's socket.request.max.bytes */
    ARENA_BYTES_MAX = 64 << 20,
    ARRIVALS_MIN = 1024,
};

struct ready { /* an output that nobody has taken yet */
    struct list_node link;
    struct script_output out;
};

static void *alloc_zeroed(size_t bytes)
{
    void *p = calloc(1, bytes);
    ASSERT(p != NULL);
    return p;
}

struct script_broker *script_create(const struct script_config *config)
{
    struct script_broker *s = alloc_zeroed(sizeof(*s));
    ASSERT(config->freeze_every_ns == 0 || config->freeze_ns < config->freeze_every_ns);
    s->config = *config;
    if (s->config.host == NULL)
        s->config.host = "127.0.0.1";
    s->config.partitions = MAX(config->partitions, 1);
    script_log_init(&s->log, &s->config, &s->counters);
    map_init(&s->by_number);
    list_init(&s->conns);
    list_init(&s->events);
    list_init(&s->parked);
    list_init(&s->ready);
    wire_writer_init(&s->writer);
    s->next_producer_id = 1;
    return s;
}

/* ---- time ---- */

static bool freezes(const struct script_broker *s)
{
    return s->config.freeze_ns > 0 && s->counters.produce_requests > 0;
}

/* Start of the last freeze that began at t or before; false: none has yet. */
static bool freeze_before(const struct script_broker *s, uint64_t t_ns, uint64_t *ret_ns)
{
    uint64_t first = s->counters.first_produce_ns + s->config.freeze_first_ns;
    uint64_t every = s->config.freeze_every_ns;
    if (t_ns < first)
        return false;
    *ret_ns = every == 0 ? first : first + (t_ns - first) / every * every;
    return true;
}

uint64_t script_thaw_ns(const struct script_broker *s, uint64_t t_ns)
{
    uint64_t begin;
    if (!freezes(s) || !freeze_before(s, t_ns, &begin))
        return t_ns;
    return MAX(t_ns, begin + s->config.freeze_ns);
}

/* Start of the first freeze after t, which is in none. */
static uint64_t freeze_after(const struct script_broker *s, uint64_t t_ns)
{
    uint64_t begin;
    if (!freezes(s))
        return UINT64_MAX;
    if (!freeze_before(s, t_ns, &begin))
        return s->counters.first_produce_ns + s->config.freeze_first_ns;
    return s->config.freeze_every_ns == 0 ? UINT64_MAX : begin + s->config.freeze_every_ns;
}

/* When so much work is done that can begin at t. What is done when a freeze begins, is done. */
static uint64_t work_end(const struct script_broker *s, uint64_t t_ns, uint64_t work_ns)
{
    for (;;) {
        t_ns = script_thaw_ns(s, t_ns);
        uint64_t until = freeze_after(s, t_ns);
        if (work_ns <= until - t_ns)
            return t_ns + work_ns;
        work_ns -= until - t_ns;
        t_ns = until;
    }
}

uint64_t script_serve(struct script_broker *s, uint64_t now_ns, uint64_t records)
{
    uint64_t work_ns = s->config.service_ns;
    if (s->config.rate_per_s > 0) {
        uint64_t share = records * NS_PER_S + s->rate_remainder;
        work_ns += share / s->config.rate_per_s;
        s->rate_remainder = share % s->config.rate_per_s;
    }
    s->counters.busy_ns += work_ns;
    s->free_ns = work_end(s, MAX(now_ns, s->free_ns), work_ns);
    s->counters.last_due_ns = s->free_ns;
    return s->free_ns;
}

void script_schedule(struct script_broker *s, struct script_request *r, uint64_t at_ns)
{
    struct list_node *before = s->events.prev;
    while (before != &s->events &&
           container_of(before, struct script_request, event)->at_ns > at_ns)
        before = before->prev;
    r->at_ns = at_ns;
    list_insert_between(&r->event, before, before->next);
}

/* Do all that is due by now. */
static void advance(struct script_broker *s, uint64_t now_ns)
{
    struct list_node *node;
    ASSERT(now_ns >= s->now_ns);
    while ((node = list_head(&s->events)) != NULL) {
        struct script_request *r = container_of(node, struct script_request, event);
        if (r->at_ns > now_ns)
            break;
        list_remove(node);
        s->now_ns = r->at_ns;
        r->api->run(s, r, s->now_ns);
    }
    s->now_ns = now_ns;
}

/* ---- answers ---- */

static void request_free(struct script_request *r)
{
    list_remove(&r->link);
    list_remove(&r->event);
    list_remove(&r->parked);
    arena_fini(&r->arena);
    free(r->frame);
    free(r->reply);
    free(r);
}

static void conn_free(struct script_conn *c)
{
    list_remove(&c->link);
    free(c->frame);
    free(c);
}

static void output(struct script_broker *s, const struct script_conn *c, struct script_request *r)
{
    struct ready *ready = alloc_zeroed(sizeof(*ready));
    ready->out = (struct script_output){.conn = c->number,
                                        .due_ns = s->now_ns,
                                        .data = r->reply,
                                        .len_bytes = r->reply_len,
                                        .close = r->close};
    r->reply = NULL;
    list_push_tail(&s->ready, &ready->link);
}

/* Hand out what is answered at the head of the order; the last request of a gone connection takes
 * the connection with it. */
static void conn_pump(struct script_broker *s, struct script_conn *c)
{
    struct list_node *node;
    while ((node = list_head(&c->order)) != NULL) {
        struct script_request *r = container_of(node, struct script_request, link);
        if (!r->replied)
            return;
        if (!c->gone && !c->ended && (r->reply != NULL || r->close))
            output(s, c, r);
        c->ended = c->ended || r->close;
        request_free(r);
    }
    if (c->gone)
        conn_free(c);
}

/* The frame in one piece, records included. */
static uint8_t *writer_flatten(const struct wire_writer *w, size_t *ret_len)
{
    uint8_t *data = malloc(w->len + w->ref_bytes), *to = data;
    uint32_t from = 0;
    ASSERT(!w->failed && data != NULL);
    for (uint32_t i = 0; i < w->refs_n; i++) {
        const struct wire_ref *ref = &w->refs[i];
        memcpy(to, w->buf + from, ref->at - from);
        to += ref->at - from;
        from = ref->at;
        for (int32_t k = 0; k < ref->iov_n; k++) {
            memcpy(to, ref->iov[k].iov_base, ref->iov[k].iov_len);
            to += ref->iov[k].iov_len;
        }
    }
    memcpy(to, w->buf + from, w->len - from);
    *ret_len = w->len + w->ref_bytes;
    return data;
}

void script_reply(struct script_broker *s, struct script_request *r, int version, const void *msg)
{
    struct wire_writer *w = &s->writer;
    wire_writer_reset(w);
    wire_frame_begin(w);
    wire_encode_response_header(w, r->wire, version, r->header.correlation_id);
    wire_encode(r->wire->response, version, wire_response_flexible(r->wire, version), msg, w);
    wire_frame_end(w);
    r->reply = writer_flatten(w, &r->reply_len);
    r->replied = true;
    conn_pump(s, r->conn);
}

void script_reply_nothing(struct script_broker *s, struct script_request *r)
{
    r->replied = true;
    conn_pump(s, r->conn);
}

void script_reply_close(struct script_broker *s, struct script_request *r)
{
    r->conn->deaf = true;
    r->replied = r->close = true;
    conn_pump(s, r->conn);
}

void *script_alloc(struct script_request *r, size_t n, size_t size_bytes)
{
    void *p = arena_array(&r->arena, MAX(n, 1), size_bytes);
    ASSERT(p != NULL);
    return p;
}

void *script_new(struct script_request *r, const struct wire_schema *schema, int32_t n)
{
    void *p = wire_new_array(schema, &r->arena, MAX(n, 1));
    ASSERT(p != NULL);
    return p;
}

/* ---- requests ---- */

static const struct script_api *api_find(int16_t key)
{
    for (unsigned i = 0; i < script_apis_n; i++)
        if (script_apis[i].key == key)
            return &script_apis[i];
    return NULL;
}

static bool request_decode(struct script_request *r, uint32_t len)
{
    uint32_t at, used;
    int rc = wire_decode_request_header(r->frame, len, &r->header, &at);
    r->api = rc == 0 || rc == -ENOTSUP ? api_find(r->header.api_key) : NULL;
    if (r->api == NULL)
        return false;
    r->wire = wire_api_find(r->api->key);
    int version = r->header.api_version;
    if (rc == -ENOTSUP || version < r->api->min || version > r->api->max)
        return r->api->key == API_VERSIONS_KEY; /* which is answered from the header alone */
    r->body = wire_new(r->wire->request, &r->arena);
    ASSERT(r->body != NULL);
    /* As brokers do, what is behind a body is ignored: librdkafka's Metadata has something there.
     */
    return wire_decode_prefix(r->wire->request, version, wire_request_flexible(r->wire, version),
                              r->frame + at, len - at, &r->arena, r->body, &used) == 0;
}

static void conn_request(struct script_broker *s, struct script_conn *c)
{
    struct script_request *r = alloc_zeroed(sizeof(*r));
    r->conn = c;
    r->frame = c->frame;
    c->frame = NULL;
    c->size_n = 0;
    arena_init(&r->arena, ARENA_BYTES_MAX);
    list_push_tail(&c->order, &r->link);
    s->counters.requests++;
    if (!request_decode(r, c->frame_len)) {
        script_reply_close(s, r);
        return;
    }
    uint64_t at_ns =
        r->api->arrive != NULL ? r->api->arrive(s, r, s->now_ns) : script_thaw_ns(s, s->now_ns);
    if (at_ns <= s->now_ns)
        r->api->run(s, r, s->now_ns);
    else
        script_schedule(s, r, at_ns);
}

/* Take some of the bytes; the number taken. */
static size_t conn_feed(struct script_broker *s, struct script_conn *c, const uint8_t *data,
                        size_t len)
{
    size_t take;
    if (c->size_n < sizeof(c->size)) {
        take = MIN(len, sizeof(c->size) - c->size_n);
        memcpy(c->size + c->size_n, data, take);
        c->size_n += (unsigned)take;
        if (c->size_n < sizeof(c->size))
            return take;
        c->frame_len = be_load32(c->size);
        c->frame_n = 0;
        c->frame = c->frame_len <= FRAME_BYTES_MAX ? malloc(MAX(c->frame_len, 1)) : NULL;
        ASSERT(c->frame != NULL || c->frame_len > FRAME_BYTES_MAX);
        if (c->frame == NULL)
            c->frame_len = 0; /* an empty request, which closes the connection */
    } else {
        take = MIN(len, c->frame_len - c->frame_n);
        memcpy(c->frame + c->frame_n, data, take);
        c->frame_n += (uint32_t)take;
    }
    if (c->frame_n == c->frame_len)
        conn_request(s, c);
    return take;
}

/* ---- connections ---- */

void script_open(struct script_broker *s, int conn, uint64_t now_ns)
{
    advance(s, now_ns);
    ASSERT(map_get(&s->by_number, (uint64_t)conn) == NULL);
    struct script_conn *c = alloc_zeroed(sizeof(*c));
    c->number = conn;
    list_init(&c->order);
    list_push_tail(&s->conns, &c->link);
    int rc = map_put(&s->by_number, (uint64_t)conn, c);
    ASSERT(rc == 0);
    s->counters.connections++;
}

void script_input(struct script_broker *s, int conn, uint64_t now_ns, const void *data,
                  size_t len_bytes)
{
    const uint8_t *p = data;
    advance(s, now_ns);
    struct script_conn *c = map_get(&s->by_number, (uint64_t)conn);
    while (c != NULL && len_bytes > 0 && !c->deaf) {
        size_t taken = conn_feed(s, c, p, len_bytes);
        p += taken;
        len_bytes -= taken;
    }
}

static void outputs_drop(struct script_broker *s, int conn)
{
    list_for_each_safe(node, next, &s->ready) {
        struct ready *ready = container_of(node, struct ready, link);
        if (ready->out.conn != conn)
            continue;
        list_remove(node);
        free(ready->out.data);
        free(ready);
    }
}

/* Only what changes the log matters any more. */
void script_close(struct script_broker *s, int conn, uint64_t now_ns)
{
    advance(s, now_ns);
    struct script_conn *c = map_remove(&s->by_number, (uint64_t)conn);
    if (c == NULL)
        return;
    c->gone = true;
    outputs_drop(s, conn);
    list_for_each_safe(node, next, &c->order) {
        struct script_request *r = container_of(node, struct script_request, link);
        if (r->replied || r->api->key != PRODUCE_KEY)
            request_free(r);
    }
    conn_pump(s, c);
}

void script_destroy(struct script_broker *s)
{
    struct list_node *node;
    if (s == NULL)
        return;
    while ((node = list_head(&s->conns)) != NULL) {
        struct script_conn *c = container_of(node, struct script_conn, link);
        while ((node = list_head(&c->order)) != NULL)
            request_free(container_of(node, struct script_request, link));
        outputs_drop(s, c->number);
        conn_free(c);
    }
    map_fini(&s->by_number);
    script_log_fini(&s->log);
    wire_writer_fini(&s->writer);
    free(s->arrivals);
    free(s);
}

/* ---- what comes out ---- */

uint64_t script_next_due(const struct script_broker *s)
{
    struct list_node *ready = list_head(&s->ready), *event = list_head(&s->events);
    if (ready != NULL)
        return container_of(ready, struct ready, link)->out.due_ns;
    return event != NULL ? container_of(event, struct script_request, event)->at_ns : UINT64_MAX;
}

bool script_take(struct script_broker *s, uint64_t now_ns, struct script_output *ret)
{
    advance(s, now_ns);
    struct list_node *node = list_pop_head(&s->ready);
    if (node == NULL)
        return false;
    struct ready *ready = container_of(node, struct ready, link);
    *ret = ready->out;
    free(ready);
    return true;
}

const struct script_counters *script_counters(const struct script_broker *s)
{
    return &s->counters;
}

const struct script_arrival *script_arrivals(const struct script_broker *s, size_t *ret_n)
{
    *ret_n = s->arrivals_n;
    return s->arrivals;
}

void script_note_arrival(struct script_broker *s, const struct script_arrival *arrival)
{
    if (!s->config.keep_arrivals)
        return;
    if (s->arrivals_n == s->arrivals_cap) {
        s->arrivals_cap = MAX(s->arrivals_cap * 2, (size_t)ARRIVALS_MIN);
        s->arrivals = reallocarray(s->arrivals, s->arrivals_cap, sizeof(*s->arrivals));
        ASSERT(s->arrivals != NULL);
    }
    s->arrivals[s->arrivals_n++] = *arrival;
}
