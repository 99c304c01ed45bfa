#include "net/api/fanout.h"

#include <errno.h>

#include "core/base/assert.h"

int16_t fanout_resolve(const struct shard *s, const struct meta_topic *topic, int32_t index,
                       struct fanout_target *ret)
{
    if (topic == NULL || index < 0 || index >= topic->partitions_n)
        return KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    const struct meta_partition *p = &topic->partitions[index];
    *ret = (struct fanout_target){p->number, p->shard, p->leader_epoch};
    if (!shard_same_node(s, p->shard))
        return KAFKA_NOT_LEADER_OR_FOLLOWER;
    return shard_partition_offline(s, p) ? KAFKA_KAFKA_STORAGE_ERROR : KAFKA_NONE;
}

int16_t fanout_check_epoch(int32_t asked, int32_t current)
{
    if (asked < 0 || asked == current)
        return KAFKA_NONE;
    return asked < current ? KAFKA_FENCED_LEADER_EPOCH : KAFKA_UNKNOWN_LEADER_EPOCH;
}

int fanout_init(struct fanout *f, struct request *r, uint32_t items_n)
{
    const struct broker_node *node = net_node_of_shard(r->shard, r->shard->index);
    *f = (struct fanout){.r = r,
                         .first_shard = node->first_shard,
                         .groups_n = node->shards_n,
                         .find_twice = items_n > 1};
    f->groups = arena_array(&r->arena, f->groups_n, sizeof(struct fanout_group *));
    map_init(&f->seen);
    return f->groups == NULL ? -ENOMEM : 0;
}

static struct fanout_group *group_for(struct fanout *f, unsigned shard)
{
    ASSERT(shard >= f->first_shard && shard - f->first_shard < f->groups_n);
    struct fanout_group **slot = &f->groups[shard - f->first_shard];
    if (*slot != NULL)
        return *slot;
    struct fanout_group *g = request_alloc(f->r, sizeof(*g));
    if (g == NULL)
        return NULL;
    g->fanout = f;
    g->shard_index = shard;
    g->tail = &g->first;
    *slot = g;
    return g;
}

int fanout_add(struct fanout *f, struct fanout_item *item, int16_t twice)
{
    struct fanout_group *g = group_for(f, item->target.shard);
    if (g == NULL)
        return -ENOMEM;
    if (f->find_twice) {
        struct fanout_item *other = map_get(&f->seen, item->target.number);
        if (other != NULL)
            item->error = other->error = twice;
        else if (map_put(&f->seen, item->target.number, item) != 0)
            return -ENOMEM;
    }
    *g->tail = item;
    g->tail = &item->next;
    return 0;
}

void fanout_abort(struct fanout *f)
{
    map_fini(&f->seen);
}

static void one_done(struct fanout *f)
{
    ASSERT(f->pending > 0);
    if (--f->pending == 0)
        f->done(f);
}

static void on_done_msg(void *shard, struct env_msg *msg)
{
    struct fanout *f = container_of(msg, struct fanout_group, msg)->fanout;
    ASSERT(shard == f->r->shard);
    one_done(f);
}

void fanout_group_done(struct fanout_group *g)
{
    struct shard *front = g->fanout->r->shard;
    if (g->owner == front) {
        one_done(g->fanout);
        return;
    }
    g->msg.run = on_done_msg;
    env_post(g->owner->env, front->index, &g->msg);
}

static void on_run_msg(void *shard, struct env_msg *msg)
{
    struct fanout_group *g = container_of(msg, struct fanout_group, msg);
    g->owner = shard;
    g->fanout->run(g);
}

void fanout_start(struct fanout *f, void (*run)(struct fanout_group *g),
                  void (*done)(struct fanout *f))
{
    struct shard *front = f->r->shard;
    struct fanout_group *own = f->groups[front->index - f->first_shard];
    map_fini(&f->seen);
    f->run = run;
    f->done = done;
    f->pending = 1; /* this function: done() must not come before all have started */
    for (unsigned i = 0; i < f->groups_n; i++) {
        struct fanout_group *g = f->groups[i];
        if (g == NULL || g == own)
            continue;
        f->pending++;
        g->msg.run = on_run_msg;
        env_post(front->env, g->shard_index, &g->msg);
    }
    if (own != NULL) { /* last: the others are at work by now */
        f->pending++;
        own->owner = front;
        run(own);
    }
    one_done(f);
}

void fanout_handle(struct request *r, struct fanout *f, bool is_ready,
                   void (*run)(struct fanout_group *g), void (*done)(struct fanout *f))
{
    if (is_ready) {
        fanout_start(f, run, done);
        return;
    }
    if (f != NULL)
        fanout_abort(f);
    request_fail(r, "no memory");
}

int32_t fanout_nodes_add(struct fanout_nodes *nodes, const struct shard *s, unsigned shard)
{
    unsigned node = s->broker->node_of_shard[shard];
    if (!nodes->named[node]) {
        nodes->named[node] = true;
        nodes->n++;
    }
    return s->broker->nodes[node].node_id;
}
