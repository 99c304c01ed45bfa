#include "tests/sim/sim_net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/map.h"
#include "core/base/rng.h"

enum {
    NODES_MAX = 16,
    LISTENER_SOCK = 1 << 20, /* no descriptors of the process */
    FIRST_SOCK = 1 << 21,
    RECV_ANY_BYTES = 16384,
};

enum parcel_kind { PARCEL_CONNECT, PARCEL_TO_BROKER, PARCEL_FIN, PARCEL_TO_CLIENT, PARCEL_CLOSED };

struct parcel {
    struct list_node node; /* by due_ns */
    uint64_t due_ns;
    enum parcel_kind kind;
    struct sim_link *link;
    size_t len;
    uint8_t data[];
};

struct release { /* a send between on_done and on_released */
    struct list_node node;
    uint64_t due_ns;
    struct sim_link *link;
    struct sim_env *env;
    struct env_op *op;
    const struct iovec *iov;
    unsigned iov_n;
    uint32_t crc;
    const struct env_extent *extent; /* not NULL: a piece of a file */
};

struct sim_link {
    struct list_node node;
    struct sim_net *net;
    struct sim_peer *peer;   /* NULL: the client has gone */
    unsigned listener, refs; /* parcels, releases, callbacks due, and the broker's end */
    int sock;
    bool broker_open, shut, client_ended, broken, paused;
    uint64_t to_broker_ns, to_client_ns, release_ns; /* of the last one: order is kept */
    uint8_t *in;                                     /* at the broker's end, unread */
    size_t in_len, in_cap;
    struct env_op *recv, *send;
    struct sim_env *recv_env, *send_env;
    uint64_t send_due_ns;
    size_t backlog;        /* delivered while the peer is paused */
    struct list_node held; /* parcel: those bytes */
};

enum due_kind { DUE_DONE, DUE_MORE, DUE_RELEASED };
struct due { /* a callback that the next turn runs */
    struct list_node node;
    struct env_op *op;
    struct sim_link *link; /* NULL: of a listener */
    enum due_kind kind;
    int res;
    uint8_t *buf; /* recv_any: what it is lent */
};

struct sim_env {
    struct env env;
    struct sim_net *net;
    struct env *mem;
    bool blocking;
    uint64_t wake_ns;
    struct list_node due;
};

struct sim_net {
    struct mem_world *world;
    struct rng rng;
    struct sim_net_config config;
    bool cut;
    int next_sock;
    uint64_t resets;
    struct list_node parcels, releases, links;
    struct map by_sock;
    struct {
        struct env_op *op;
        struct sim_env *env;
    } listeners[NODES_MAX];
};

/* ---- small parts ---- */

static void *alloc_zeroed(size_t bytes)
{
    void *p = calloc(1, bytes);
    ASSERT(p != NULL);
    return p;
}

static struct sim_env *env_of(struct env *env)
{
    return container_of(env, struct sim_env, env);
}

static uint64_t now_of(const struct sim_net *net)
{
    return mem_world_now_ns(net->world);
}

static uint64_t some_delay(struct sim_net *net)
{
    return net->config.latency_ns / 2 + rng_below(&net->rng, net->config.latency_ns + 1);
}

static bool one_in(struct sim_net *net, unsigned n)
{
    return n > 0 && rng_below(&net->rng, n) == 0;
}

static uint32_t iov_crc(const struct iovec *iov, unsigned iov_n)
{
    uint32_t crc = 0;
    for (unsigned i = 0; i < iov_n; i++)
        crc = crc32c_extend(crc, iov[i].iov_base, iov[i].iov_len);
    return crc;
}

static void link_unref(struct sim_link *l)
{
    if (--l->refs > 0 || l->peer != NULL)
        return;
    list_remove(&l->node);
    free(l->in);
    for (struct list_node *it; (it = list_pop_head(&l->held)) != NULL;)
        free(container_of(it, struct parcel, node));
    free(l);
}

static void parcel_post(struct sim_link *l, enum parcel_kind kind, uint64_t *order_ns,
                        const void *data, size_t len)
{
    struct sim_net *net = l->net;
    struct parcel *p = alloc_zeroed(sizeof(*p) + len);
    uint64_t due_ns = now_of(net) + some_delay(net);
    p->due_ns = *order_ns = MAX(due_ns, *order_ns);
    p->kind = kind;
    p->link = l;
    p->len = len;
    if (len > 0)
        memcpy(p->data, data, len);
    l->refs++;
    struct list_node *after = net->parcels.prev;
    while (after != &net->parcels && container_of(after, struct parcel, node)->due_ns > p->due_ns)
        after = after->prev;
    list_insert_between(&p->node, after, after->next);
}

/* In pieces of any size: what is framed must not rely on more. */
static void parcel_post_split(struct sim_link *l, enum parcel_kind kind, uint64_t *order_ns,
                              const uint8_t *data, size_t len)
{
    while (len > 0) {
        bool small = rng_below(&l->net->rng, 4) == 0;
        size_t n = small ? 1 + rng_below(&l->net->rng, MIN(len, (size_t)100)) : len;
        parcel_post(l, kind, order_ns, data, n);
        data += n;
        len -= n;
    }
}

static void due_push(struct sim_env *e, struct env_op *op, struct sim_link *l, enum due_kind kind,
                     int res, uint8_t *buf)
{
    struct due *d = alloc_zeroed(sizeof(*d));
    *d = (struct due){.op = op, .link = l, .kind = kind, .res = res, .buf = buf};
    if (l != NULL)
        l->refs++;
    list_push_tail(&e->due, &d->node);
}

/* ---- receiving, at the broker's end ---- */

static bool link_ended(const struct sim_link *l)
{
    return l->shut || l->client_ended || l->broken;
}

static void in_consume(struct sim_link *l, void *to, size_t n)
{
    memcpy(to, l->in, n);
    memmove(l->in, l->in + n, l->in_len - n);
    l->in_len -= n;
}

static void recv_end(struct sim_link *l, int res, uint8_t *buf)
{
    struct env_op *op = l->recv;
    l->recv = NULL;
    due_push(l->recv_env, op, l, DUE_DONE, res, buf);
}

static void recv_pump(struct sim_link *l)
{
    struct env_op *op = l->recv;
    if (op == NULL)
        return;
    if (l->broken) {
        recv_end(l, -ECONNRESET, NULL);
        return;
    }
    if (op->kind == ENV_OP_RECV_ANY && l->in_len > 0) {
        if (one_in(l->net, l->net->config.starve_one_in)) {
            recv_end(l, -ENOBUFS, NULL);
            return;
        }
        size_t n = MIN(l->in_len, (size_t)RECV_ANY_BYTES);
        uint8_t *buf = malloc(n);
        ASSERT(buf != NULL);
        in_consume(l, buf, n);
        recv_end(l, (int)n, buf);
        return;
    }
    size_t n = MIN(l->in_len, op->len_bytes - op->done_bytes);
    if (op->kind == ENV_OP_RECV && n > 0) {
        in_consume(l, (uint8_t *)op->buf + op->done_bytes, n);
        op->done_bytes += n;
    }
    bool all = op->kind == ENV_OP_RECV && (op->flags & ENV_RECV_ALL) != 0;
    if (op->kind == ENV_OP_RECV && op->done_bytes > 0 && (!all || op->done_bytes == op->len_bytes))
        recv_end(l, (int)op->done_bytes, NULL);
    else if (link_ended(l))
        recv_end(l, (int)op->done_bytes, NULL);
}

static void in_append(struct sim_link *l, const uint8_t *data, size_t len)
{
    if (l->in_len + len > l->in_cap) {
        l->in_cap = MAX(l->in_cap * 2, l->in_len + len);
        l->in = realloc(l->in, l->in_cap);
        ASSERT(l->in != NULL);
    }
    memcpy(l->in + l->in_len, data, len);
    l->in_len += len;
}

/* ---- sending, at the broker's end ---- */

static void send_end(struct sim_link *l, int res)
{
    struct sim_net *net = l->net;
    struct env_op *op = l->send;
    struct release *rel = alloc_zeroed(sizeof(*rel));
    l->send = NULL;
    due_push(l->send_env, op, l, DUE_DONE, res, NULL);
    rel->link = l;
    rel->env = l->send_env;
    rel->op = op;
    rel->iov = op->iov;
    rel->iov_n = op->kind == ENV_OP_SPLICE ? 0 : op->iov_n;
    rel->extent = op->kind == ENV_OP_SPLICE ? op->extent : NULL;
    rel->crc = iov_crc(rel->iov, rel->iov_n);
    uint64_t due_ns = now_of(net) + rng_below(&net->rng, 2 * net->config.latency_ns + 1);
    l->release_ns = l->broken ? now_of(net) : MAX(due_ns, l->release_ns);
    rel->due_ns = l->release_ns;
    l->refs++;
    struct list_node *after = net->releases.prev;
    while (after != &net->releases &&
           container_of(after, struct release, node)->due_ns > rel->due_ns)
        after = after->prev;
    list_insert_between(&rel->node, after, after->next);
}

static void send_pump(struct sim_link *l)
{
    if (l->send == NULL)
        return;
    if (l->shut || l->broken || l->peer == NULL)
        send_end(l, -EPIPE);
    else if (l->send_due_ns <= now_of(l->net) && l->backlog < l->net->config.window_bytes)
        send_end(l, (int)l->send->len_bytes);
}

/* As late as may be: what becomes of the file meanwhile shows. */
static void extent_post(struct sim_link *l, const struct env_extent *x)
{
    uint8_t *data = malloc(x->len_bytes);
    ASSERT(data != NULL);
    uint64_t n = mem_file_read(x->file, data, x->len_bytes, x->offset_bytes);
    ASSERT(n == x->len_bytes);
    parcel_post_split(l, PARCEL_TO_CLIENT, &l->to_client_ns, data, n);
    free(data);
}

static void release_run(struct release *rel)
{
    struct sim_link *l = rel->link;
    bool unchanged_while_lent = iov_crc(rel->iov, rel->iov_n) == rel->crc;
    ASSERT(unchanged_while_lent);
    for (unsigned i = 0; i < rel->iov_n && l->peer != NULL && !l->broken; i++)
        parcel_post_split(l, PARCEL_TO_CLIENT, &l->to_client_ns, rel->iov[i].iov_base,
                          rel->iov[i].iov_len);
    if (rel->extent != NULL && l->peer != NULL && !l->broken)
        extent_post(l, rel->extent);
    due_push(rel->env, rel->op, l, DUE_RELEASED, 0, NULL);
    list_remove(&rel->node);
    link_unref(l);
    free(rel);
}

/* ---- the network at work ---- */

static void link_break(struct sim_link *l)
{
    l->broken = true;
    recv_pump(l);
    send_pump(l);
    parcel_post(l, PARCEL_CLOSED, &l->to_client_ns, NULL, 0);
}

static void connect_arrive(struct sim_link *l)
{
    struct sim_net *net = l->net;
    if (net->cut || net->listeners[l->listener].op == NULL || l->peer == NULL) {
        parcel_post(l, PARCEL_CLOSED, &l->to_client_ns, NULL, 0);
        return;
    }
    l->sock = net->next_sock++;
    l->broker_open = true;
    l->refs++;
    int rc = map_put(&net->by_sock, (uint64_t)l->sock, l);
    ASSERT(rc == 0);
    due_push(net->listeners[l->listener].env, net->listeners[l->listener].op, NULL, DUE_MORE,
             l->sock, NULL);
    l->peer->on_open(l->peer);
}

static void peer_closed(struct sim_link *l)
{
    struct sim_peer *p = l->peer;
    if (p == NULL)
        return;
    l->peer = NULL;
    p->link = NULL;
    send_pump(l);
    p->on_closed(p);
}

static void client_deliver(struct sim_link *l, struct parcel *p)
{
    if (l->peer == NULL) {
        free(p);
    } else if (l->paused) {
        l->backlog += p->len;
        list_push_tail(&l->held, &p->node);
    } else {
        l->peer->on_data(l->peer, p->data, p->len);
        free(p);
    }
}

static void broker_deliver(struct sim_link *l, const struct parcel *p)
{
    if (!l->broker_open || l->broken)
        return;
    if (one_in(l->net, l->net->config.reset_one_in)) {
        l->net->resets++;
        link_break(l);
        return;
    }
    in_append(l, p->data, p->len);
    recv_pump(l);
}

static void parcel_run(struct parcel *p)
{
    struct sim_link *l = p->link;
    switch (p->kind) {
    case PARCEL_CONNECT:
        connect_arrive(l);
        break;
    case PARCEL_TO_BROKER:
        broker_deliver(l, p);
        break;
    case PARCEL_FIN:
        l->client_ended = true;
        recv_pump(l);
        break;
    case PARCEL_CLOSED:
        peer_closed(l);
        break;
    case PARCEL_TO_CLIENT:
        client_deliver(l, p);
        link_unref(l);
        return;
    }
    free(p);
    link_unref(l);
}

void sim_net_run(struct sim_net *net)
{
    uint64_t now = now_of(net);
    struct list_node *it;
    while ((it = list_head(&net->releases)) != NULL &&
           container_of(it, struct release, node)->due_ns <= now)
        release_run(container_of(it, struct release, node));
    while ((it = list_head(&net->parcels)) != NULL &&
           container_of(it, struct parcel, node)->due_ns <= now)
        parcel_run(container_of(list_pop_head(&net->parcels), struct parcel, node));
    list_for_each_safe(node, next, &net->links)
        send_pump(container_of(node, struct sim_link, node));
}

uint64_t sim_net_next_ns(const struct sim_net *net)
{
    uint64_t next = UINT64_MAX;
    if (!list_empty(&net->parcels))
        next = container_of(net->parcels.next, struct parcel, node)->due_ns;
    if (!list_empty(&net->releases))
        next = MIN(next, container_of(net->releases.next, struct release, node)->due_ns);
    list_for_each(it, &net->links) {
        const struct sim_link *l = container_of(it, struct sim_link, node);
        if (l->send != NULL && l->backlog < net->config.window_bytes)
            next = MIN(next, l->send_due_ns);
    }
    return next;
}

void sim_net_cut(struct sim_net *net)
{
    net->cut = true;
    list_for_each(it, &net->links) {
        struct sim_link *l = container_of(it, struct sim_link, node);
        if (l->broker_open && !l->broken)
            link_break(l);
    }
    list_for_each(it, &net->releases)
        container_of(it, struct release, node)->due_ns = 0;
    for (unsigned i = 0; i < NODES_MAX; i++)
        if (net->listeners[i].op != NULL) {
            due_push(net->listeners[i].env, net->listeners[i].op, NULL, DUE_DONE, -ECONNABORTED,
                     NULL);
            net->listeners[i].op = NULL;
        }
}

void sim_net_mend(struct sim_net *net)
{
    net->cut = false;
}

uint64_t sim_net_resets(const struct sim_net *net)
{
    return net->resets;
}

int sim_net_listener(unsigned node)
{
    ASSERT(node < NODES_MAX);
    return LISTENER_SOCK + (int)node;
}

/* ---- clients ---- */

void sim_connect(struct sim_net *net, struct sim_peer *p, unsigned node)
{
    struct sim_link *l = alloc_zeroed(sizeof(*l));
    ASSERT(p->link == NULL && node < NODES_MAX);
    l->net = net;
    l->peer = p;
    l->listener = node;
    list_init(&l->held);
    list_push_tail(&net->links, &l->node);
    p->link = l;
    parcel_post(l, PARCEL_CONNECT, &l->to_broker_ns, NULL, 0);
}

void sim_send(struct sim_peer *p, const void *data, size_t len)
{
    ASSERT(p->link != NULL);
    parcel_post_split(p->link, PARCEL_TO_BROKER, &p->link->to_broker_ns, data, len);
}

void sim_pause(struct sim_peer *p, bool paused)
{
    struct sim_link *l = p->link;
    l->paused = paused;
    while (!l->paused && l->peer != NULL && !list_empty(&l->held)) {
        struct parcel *held = container_of(list_pop_head(&l->held), struct parcel, node);
        l->backlog -= held->len;
        p->on_data(p, held->data, held->len);
        free(held);
    }
}

void sim_finish(struct sim_peer *p)
{
    parcel_post(p->link, PARCEL_FIN, &p->link->to_broker_ns, NULL, 0);
}

void sim_close(struct sim_peer *p)
{
    struct sim_link *l = p->link;
    if (l == NULL)
        return;
    p->link = NULL;
    l->refs++;
    sim_finish(&(struct sim_peer){.link = l});
    l->peer = NULL;
    link_unref(l);
}

/* ---- the environment ---- */

static uint64_t sim_now_ns(struct env *env)
{
    return env_now_ns(env_of(env)->mem);
}

static int64_t sim_wall_ms(struct env *env)
{
    return env_wall_ms(env_of(env)->mem);
}

static uint64_t sim_random(struct env *env)
{
    return env_random(env_of(env)->mem);
}

static void accept_submit(struct sim_env *e, struct env_op *op)
{
    unsigned node = (unsigned)(op->sock - LISTENER_SOCK);
    ASSERT(node < NODES_MAX && e->net->listeners[node].op == NULL);
    e->net->listeners[node].op = op;
    e->net->listeners[node].env = e;
}

static struct sim_link *link_of(const struct sim_net *net, int sock)
{
    struct sim_link *l = map_get(&net->by_sock, (uint64_t)sock);
    ASSERT(l != NULL);
    return l;
}

static void sim_submit(struct env *env, struct env_op *op)
{
    struct sim_env *e = env_of(env);
    if (op->kind < ENV_OP_ACCEPT) {
        e->mem->ops->submit(e->mem, op);
        return;
    }
    if (op->kind == ENV_OP_ACCEPT) {
        accept_submit(e, op);
        return;
    }
    struct sim_link *l = link_of(e->net, op->sock);
    if (op->kind == ENV_OP_SEND || op->kind == ENV_OP_SPLICE) {
        ASSERT(l->send == NULL);
        l->send = op;
        l->send_env = e;
        l->send_due_ns = now_of(e->net) + some_delay(e->net) / 4;
        return;
    }
    ASSERT(l->recv == NULL);
    ASSERT(op->kind == ENV_OP_RECV || op->kind == ENV_OP_RECV_ANY);
    l->recv = op;
    l->recv_env = e;
    recv_pump(l);
}

static void sim_file_close(struct env *env, struct env_file *file)
{
    env_file_close(env_of(env)->mem, file);
}

static int sim_file_synced(struct env *env, struct env_file *file)
{
    return env_file_synced(env_of(env)->mem, file);
}

static void sim_recv_return(struct env *env, struct env_op *op)
{
    (void)env;
    free(op->buf);
    op->buf = NULL;
}

static void sim_sock_shutdown(struct env *env, int sock)
{
    struct sim_net *net = env_of(env)->net;
    if (sock < FIRST_SOCK) {
        unsigned node = (unsigned)(sock - LISTENER_SOCK);
        if (net->listeners[node].op != NULL)
            due_push(net->listeners[node].env, net->listeners[node].op, NULL, DUE_DONE,
                     -ECONNABORTED, NULL);
        net->listeners[node].op = NULL;
        return;
    }
    struct sim_link *l = link_of(net, sock);
    if (l->shut)
        return;
    l->shut = true;
    recv_pump(l);
    send_pump(l);
    parcel_post(l, PARCEL_CLOSED, &l->to_client_ns, NULL, 0);
}

static void sim_sock_close(struct env *env, int sock)
{
    struct sim_net *net = env_of(env)->net;
    struct sim_link *l = link_of(net, sock);
    sim_sock_shutdown(env, sock);
    ASSERT(l->recv == NULL && l->send == NULL);
    l->broker_open = false;
    map_remove(&net->by_sock, (uint64_t)sock);
    link_unref(l);
}

static void sim_post(struct env *env, unsigned to, struct env_msg *msg)
{
    env_post(env_of(env)->mem, to, msg);
}

static void due_free(struct due *d)
{
    if (d->link != NULL)
        link_unref(d->link);
    free(d);
}

static void due_run(struct due *d)
{
    struct env_op *op = d->op;
    if (d->kind == DUE_RELEASED) {
        op->on_released(op);
    } else {
        op->res = d->res;
        op->more = d->kind == DUE_MORE;
        op->busy = op->more;
        if (op->kind == ENV_OP_RECV_ANY)
            op->buf = d->buf;
        op->on_done(op);
    }
    due_free(d);
}

static void sim_turn(struct env *env, uint64_t deadline_ns)
{
    struct sim_env *e = env_of(env);
    struct list_node batch;
    e->wake_ns = deadline_ns;
    env_turn(e->mem, e->blocking ? deadline_ns : 0);
    list_init(&batch);
    list_splice_tail(&batch, &e->due);
    for (struct list_node *it; (it = list_pop_head(&batch)) != NULL;)
        due_run(container_of(it, struct due, node));
}

static void links_forget_env(struct sim_net *net, const struct sim_env *e)
{
    list_for_each_safe(it, next, &net->links) {
        struct sim_link *l = container_of(it, struct sim_link, node);
        if (l->recv_env == e)
            l->recv = NULL;
        if (l->send_env == e)
            l->send = NULL;
    }
    list_for_each_safe(it, next, &net->releases) {
        struct release *rel = container_of(it, struct release, node);
        if (rel->env != e)
            continue;
        list_remove(&rel->node);
        link_unref(rel->link);
        free(rel);
    }
}

static void sim_destroy(struct env *env)
{
    struct sim_env *e = env_of(env);
    links_forget_env(e->net, e);
    for (struct list_node *it; (it = list_pop_head(&e->due)) != NULL;) {
        struct due *d = container_of(it, struct due, node);
        free(d->buf);
        due_free(d);
    }
    env_destroy(e->mem);
    free(e);
}

static const struct env_ops sim_ops = {
    .now_ns = sim_now_ns,
    .wall_ms = sim_wall_ms,
    .random = sim_random,
    .submit = sim_submit,
    .file_close = sim_file_close,
    .file_synced = sim_file_synced,
    .recv_return = sim_recv_return,
    .sock_shutdown = sim_sock_shutdown,
    .sock_close = sim_sock_close,
    .post = sim_post,
    .turn = sim_turn,
    .destroy = sim_destroy,
};

struct env *sim_env_create(struct sim_net *net, unsigned index, unsigned count, void *shard)
{
    struct sim_env *e = alloc_zeroed(sizeof(*e));
    e->env = (struct env){.ops = &sim_ops, .index = index, .count = count, .shard = shard};
    e->net = net;
    e->mem = env_mem_create(net->world, index, count, shard);
    e->blocking = true;
    list_init(&e->due);
    return &e->env;
}

void sim_env_block(struct env *env, bool blocking)
{
    env_of(env)->blocking = blocking;
}

bool sim_env_ready(const struct env *env)
{
    const struct sim_env *e = container_of(env, struct sim_env, env);
    return !list_empty(&e->due) || env_mem_ready(e->mem);
}

uint64_t sim_env_wake_ns(const struct env *env)
{
    return container_of(env, struct sim_env, env)->wake_ns;
}

const struct env_counters *sim_env_counters(const struct env *env)
{
    return &container_of(env, struct sim_env, env)->mem->counters;
}

/* ---- life ---- */

struct sim_net *sim_net_create(struct mem_world *world, uint64_t seed)
{
    struct sim_net *net = alloc_zeroed(sizeof(*net));
    net->world = world;
    rng_seed(&net->rng, seed ^ 0x6e6574u);
    net->config = (struct sim_net_config){.latency_ns = 50000, .window_bytes = 1u << 18};
    net->next_sock = FIRST_SOCK;
    list_init(&net->parcels);
    list_init(&net->releases);
    list_init(&net->links);
    map_init(&net->by_sock);
    return net;
}

void sim_net_configure(struct sim_net *net, const struct sim_net_config *config)
{
    net->config = *config;
}

void sim_net_destroy(struct sim_net *net)
{
    if (net == NULL)
        return;
    for (struct list_node *it; (it = list_pop_head(&net->parcels)) != NULL;) {
        struct parcel *p = container_of(it, struct parcel, node);
        link_unref(p->link);
        free(p);
    }
    list_for_each_safe(it, next, &net->links) {
        struct sim_link *l = container_of(it, struct sim_link, node);
        if (l->peer != NULL)
            l->peer->link = NULL;
        l->peer = NULL;
        l->refs = 1;
        link_unref(l);
    }
    map_fini(&net->by_sock);
    free(net);
}
