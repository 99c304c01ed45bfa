#include "core/shard/moves.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/logger.h"
#include "core/shard/controller.h"

#define ACTIVE_MAX 16u /* partitions that nobody serves at a time */
#define NOWHERE -1

enum move_state {
    MOVE_WAITING,
    MOVE_LEAVING,   /* at the new shard, or the old one */
    MOVE_CHANGING,  /* in the controller's queue */
    MOVE_RETURNING, /* at the old shard, which goes on */
    MOVE_LOST,      /* until the next start: the metadata log has failed */
};

struct move {
    struct list_node link;
    struct env_msg msg;
    struct moves *moves;
    enum move_state state;
    struct meta_uuid topic;
    int32_t index;
    uint64_t number;
    unsigned from, to; /* shards */
    int32_t next_node; /* where it is to go when this is over; NOWHERE */
    bool cancelled;
    int rc;
    struct shard *source; /* set by it */
    struct log_departure departure;
    struct move_parcel parcel;
    struct meta_change change;
};

static void moves_pump(struct moves *m);

static int32_t node_id_of(const struct broker *b, unsigned shard)
{
    return b->nodes[b->node_of_shard[shard]].node_id;
}

/* Which of the node's shards. */
static unsigned shard_for_node(const struct broker *b, int32_t node_id, uint64_t number)
{
    const struct broker_node *node = broker_node_by_id(b, node_id);
    ASSERT(node != NULL);
    return node->first_shard + (unsigned)(number % node->shards_n);
}

static void at_shard(struct move *v, struct env *env, unsigned shard, env_msg_fn run)
{
    v->msg.run = run;
    env_post(env, shard, &v->msg);
}

static const struct meta_partition *partition_of(const struct moves *m,
                                                 const struct meta_uuid *topic, int32_t index,
                                                 const struct meta_topic **ret)
{
    const struct meta_topic *t = meta_topic_by_id(m->shard->meta, topic);
    if (t == NULL || index < 0 || index >= t->partitions_n)
        return NULL;
    *ret = t;
    return &t->partitions[index];
}

/* ---- the steps, in the order in which they run ---- */

static void move_free(struct move *v)
{
    list_remove(&v->link);
    free(v->departure.parcel);
    free(v);
}

static void on_target(void *shard, struct env_msg *msg);
static void on_source(void *shard, struct env_msg *msg);
static void on_left(void *shard, struct env_msg *msg);
static void on_return(void *shard, struct env_msg *msg);

/* False: there is nothing to move. */
static bool move_start(struct move *v)
{
    struct moves *m = v->moves;
    const unsigned *node_of = m->shard->broker->node_of_shard;
    const struct meta_topic *topic;
    const struct meta_partition *p = partition_of(m, &v->topic, v->index, &topic);
    if (p == NULL || node_of[p->shard] == node_of[v->to])
        return false;
    v->number = p->number;
    v->from = p->shard;
    v->state = MOVE_LEAVING;
    m->active_n++;
    at_shard(v, m->shard->env, v->to, on_target);
    return true;
}

static void on_target(void *shard, struct env_msg *msg)
{
    struct shard *s = shard;
    struct move *v = container_of(msg, struct move, msg);
    v->rc = log_store_accepts(s->logs) ? 0 : -ENOSPC;
    at_shard(v, s->env, v->rc == 0 ? v->from : 0, v->rc == 0 ? on_source : on_left);
}

static void tell_net(struct shard *s)
{
    if (s->on_meta != NULL)
        s->on_meta(s, NULL);
}

static void on_departed(struct log_departure *d, int rc)
{
    struct move *v = container_of(d, struct move, departure);
    struct shard *s = v->source;
    v->rc = rc;
    if (rc < 0)
        tell_net(s);
    at_shard(v, s->env, 0, on_left);
}

static void on_source(void *shard, struct env_msg *msg)
{
    struct shard *s = shard;
    struct move *v = container_of(msg, struct move, msg);
    struct plog *p = log_store_find(s->logs, v->number);
    v->source = s;
    if (p == NULL) {
        v->rc = -ENOENT;
        at_shard(v, s->env, 0, on_left);
        return;
    }
    log_departure_begin(p, &v->departure, on_departed);
    tell_net(s); /* groups go along */
}

/* Shard 0 from here on. */
static void move_over(struct move *v, int rc)
{
    struct moves *m = v->moves;
    struct move *next = v->next_node == NOWHERE || m->stopping ? NULL : v;
    m->active_n--;
    if (rc < 0 && rc != -ECANCELED && rc != -ENOENT)
        log_warn("shard %u / partition %d of a topic: stays, it cannot move to shard %u: %s",
                 v->from, v->index, v->to, strerror(-rc));
    if (next != NULL) {
        next->to = shard_for_node(m->shard->broker, v->next_node, v->number);
        next->next_node = NOWHERE;
        next->cancelled = false;
        next->state = MOVE_WAITING;
        free(next->departure.parcel);
        next->departure.parcel = NULL;
    } else {
        move_free(v);
    }
    moves_pump(m);
}

static void on_returned(void *shard, struct env_msg *msg)
{
    struct move *v = container_of(msg, struct move, msg);
    (void)shard;
    move_over(v, v->rc);
}

static void on_return(void *shard, struct env_msg *msg)
{
    struct shard *s = shard;
    struct move *v = container_of(msg, struct move, msg);
    log_departure_end(&v->departure, false);
    tell_net(s);
    at_shard(v, s->env, 0, on_returned);
}

static void move_return(struct move *v, int rc)
{
    v->rc = rc;
    v->state = MOVE_RETURNING;
    at_shard(v, v->moves->shard->env, v->from, on_return);
}

static void on_changed(struct meta_change *change)
{
    struct move *v = container_of(change, struct move, change);
    if (change->rc == 0) {
        move_over(v, 0);
    } else if (change->rc == -EIO) {
        log_error("shard %u / partition %d of a topic: the metadata log has failed, nobody serves "
                  "the partition until the next start",
                  v->from, v->index);
        v->state = MOVE_LOST;
        v->moves->active_n--;
        moves_pump(v->moves);
    } else {
        move_return(v, change->rc);
    }
}

static void on_left(void *shard, struct env_msg *msg)
{
    struct shard *s = shard;
    struct move *v = container_of(msg, struct move, msg);
    if (v->rc < 0) {
        move_over(v, v->rc);
        return;
    }
    if (v->cancelled || v->moves->stopping) {
        move_return(v, -ECANCELED);
        return;
    }
    v->state = MOVE_CHANGING;
    v->parcel = (struct move_parcel){v->number, v->departure.parcel, v->departure.parcel_bytes};
    v->change = (struct meta_change){.kind = CHANGE_PARTITION_MOVE,
                                     .id = v->topic,
                                     .partitions_n = v->index,
                                     .value = v->to,
                                     .parcel = &v->parcel};
    shard_meta_change(s, &v->change, on_changed);
}

static void moves_pump(struct moves *m)
{
    list_for_each_safe(it, next, &m->list) {
        struct move *v = container_of(it, struct move, link);
        if (m->active_n >= ACTIVE_MAX)
            return;
        if (v->state == MOVE_WAITING && (m->stopping || !move_start(v)))
            move_free(v);
    }
}

/* ---- what is asked for ---- */

static struct move *move_find(const struct moves *m, const struct meta_uuid *topic, int32_t index)
{
    list_for_each(it, &m->list) {
        struct move *v = container_of(it, struct move, link);
        if (v->index == index && memcmp(&v->topic, topic, sizeof(*topic)) == 0)
            return v;
    }
    return NULL;
}

/* Where it will be when all is over that has been asked for so far. */
static bool is_under_way(const struct moves *m, const struct move *v)
{
    unsigned node = m->shard->broker->node_of_shard[v->from];
    return !v->cancelled ||
           (v->next_node != NOWHERE && v->next_node != m->shard->broker->nodes[node].node_id);
}

static int move_cancel(const struct moves *m, struct move *v)
{
    if (v == NULL || v->state == MOVE_CHANGING || !is_under_way(m, v))
        return -ENODATA;
    v->cancelled = true;
    v->next_node = NOWHERE;
    if (v->state == MOVE_WAITING)
        move_free(v);
    return 0;
}

static int move_add(struct moves *m, const struct shard_move *asked, const struct meta_partition *p,
                    unsigned to)
{
    struct move *v = calloc(1, sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    v->moves = m;
    v->topic = asked->topic;
    v->index = asked->index;
    v->number = p->number;
    v->from = p->shard;
    v->to = to;
    v->next_node = NOWHERE;
    list_push_tail(&m->list, &v->link);
    return 0;
}

static int move_ask(struct moves *m, const struct shard_move *asked)
{
    const struct broker *b = m->shard->broker;
    const struct meta_topic *topic;
    const struct meta_partition *p = partition_of(m, &asked->topic, asked->index, &topic);
    struct move *v = move_find(m, &asked->topic, asked->index);
    if (p == NULL)
        return -ENOENT;
    if (m->stopping)
        return -EAGAIN;
    if (asked->node < 0)
        return move_cancel(m, v);
    const struct broker_node *node = broker_node_by_id(b, asked->node);
    if (node == NULL)
        return -ENXIO;
    if (v != NULL && !v->cancelled && v->next_node == NOWHERE &&
        node_id_of(b, v->to) == asked->node)
        return 0;
    if (v != NULL) { /* another one instead */
        v->cancelled = v->state == MOVE_LEAVING || v->state == MOVE_WAITING;
        v->next_node = asked->node;
        if (v->state != MOVE_WAITING)
            return 0;
        move_free(v);
    }
    if (&b->nodes[b->node_of_shard[p->shard]] == node)
        return 0;
    return move_add(m, asked, p, shard_for_node(b, asked->node, p->number));
}

static void on_answer(void *shard, struct env_msg *msg)
{
    (void)shard;
    struct shard_moves *call = container_of(msg, struct shard_moves, msg);
    call->on_done(call);
}

static void answer(struct shard *s, struct shard_moves *call)
{
    call->msg.run = on_answer;
    env_post(s->env, call->asker, &call->msg);
}

static void on_ask(void *shard, struct env_msg *msg)
{
    struct shard *s = shard;
    struct shard_moves *call = container_of(msg, struct shard_moves, msg);
    struct moves *m = controller_moves(s);
    for (uint32_t i = 0; i < call->moves_n; i++)
        call->moves[i].rc = move_ask(m, &call->moves[i]);
    moves_pump(m);
    answer(s, call);
}

/* To shard 0, which moves partitions. */
static void ask(struct shard *s, struct shard_moves *call, env_msg_fn run, shard_moves_fn on_done)
{
    call->on_done = on_done;
    call->asker = s->index;
    call->msg.run = run;
    env_post(s->env, 0, &call->msg);
}

void shard_moves_ask(struct shard *s, struct shard_moves *call, shard_moves_fn on_done)
{
    ask(s, call, on_ask, on_done);
}

static void on_list(void *shard, struct env_msg *msg)
{
    struct shard *s = shard;
    struct shard_moves *call = container_of(msg, struct shard_moves, msg);
    struct moves *m = controller_moves(s);
    uint32_t n = 0;
    list_for_each(it, &m->list)
        n++;
    call->moves = calloc(n + 1, sizeof(*call->moves));
    call->moves_n = 0;
    if (call->moves == NULL)
        n = 0;
    list_for_each(it, &m->list) {
        const struct move *v = container_of(it, struct move, link);
        if (n == 0 || v->state == MOVE_LOST || !is_under_way(m, v))
            continue;
        int32_t to = v->next_node != NOWHERE ? v->next_node : node_id_of(s->broker, v->to);
        call->moves[call->moves_n++] = (struct shard_move){.topic = v->topic,
                                                           .index = v->index,
                                                           .node = to,
                                                           .from = node_id_of(s->broker, v->from)};
    }
    answer(s, call);
}

void shard_moves_list(struct shard *s, struct shard_moves *call, shard_moves_fn on_done)
{
    ask(s, call, on_list, on_done);
}

/* ---- life ---- */

void moves_init(struct moves *m, struct shard *s)
{
    *m = (struct moves){.shard = s};
    list_init(&m->list);
}

void moves_stop_all(struct moves *m)
{
    m->stopping = true;
    moves_pump(m);
}

bool moves_settled(const struct moves *m)
{
    return m->active_n == 0;
}

void moves_fini(struct moves *m)
{
    for (struct list_node *it; (it = list_head(&m->list)) != NULL;)
        move_free(container_of(it, struct move, link));
}
