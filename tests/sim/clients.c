#include "tests/sim/clients.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

/* ---- shared ---- */

int partition_node(const struct sim *sim, const struct model_partition *p)
{
    if (!sim->broker.up)
        return -1;
    const struct meta_image *image = sim->broker.shards[0].meta;
    const struct meta_topic *t = meta_topic_by_id(image, &p->topic->id);
    if (t == NULL || p->index >= t->partitions_n)
        return -1;
    return (int)sim->broker.broker.node_of_shard[t->partitions[p->index].shard];
}

struct model_topic *some_topic_there(struct sim *sim)
{
    uint64_t there = 0;
    for (struct model_topic *t = sim->model.topics; t != NULL; t = t->next)
        there += t->state == MODEL_THERE;
    uint64_t skip = sim_below(sim, there);
    for (struct model_topic *t = sim->model.topics; t != NULL; t = t->next)
        if (t->state == MODEL_THERE && skip-- == 0)
            return t;
    return NULL;
}

struct wire_uuid wire_uuid_of(const struct meta_uuid *id)
{
    struct wire_uuid ret;
    memcpy(ret.b, id->b, sizeof(ret.b));
    return ret;
}

void fetch_ask_make(struct fetch_ask *ask, const struct model_partition *p, int64_t offset)
{
    const struct model_topic *t = p->topic;
    wire_set_defaults(&fetch_request_fetch_partition_schema, &ask->part);
    ask->part.partition = p->index;
    ask->part.fetch_offset = offset;
    ask->topic = (struct fetch_request_fetch_topic){.topic = wire_str_of(t->name),
                                                    .topic_id = wire_uuid_of(&t->id),
                                                    .partitions = &ask->part,
                                                    .partitions_n = 1};
    wire_set_defaults(&fetch_request_schema, &ask->request);
    ask->request.min_bytes = 1;
    ask->request.rack_id = wire_str_of("");
    ask->request.topics = &ask->topic;
    ask->request.topics_n = 1;
}

int16_t some_version(struct sim *sim, int16_t min, int16_t max)
{
    return (int16_t)(min + (int16_t)sim_below(sim, (uint64_t)(max - min + 1)));
}

static void config_add(struct arena *arena, struct create_topics_request_creatable_topic *topic,
                       const char *name, const char *value)
{
    topic->configs[topic->configs_n++] = (struct create_topics_request_creatable_topic_config){
        .name = wire_str_of(name), .value = wire_str_of(arena_strdup(arena, value))};
}

void topic_configs(const struct plan_topic *t, struct arena *arena,
                   struct create_topics_request_creatable_topic *ret)
{
    ret->num_partitions = t->partitions_n;
    ret->replication_factor = 1;
    ret->configs = wire_new_array(&create_topics_request_creatable_topic_config_schema, arena, 7);
    ret->configs_n = 0;
    config_add(arena, ret, "segment.ms", arena_printf(arena, "%lld", (long long)t->segment_ms));
    config_add(arena, ret, "flush.ms", arena_printf(arena, "%lld", (long long)t->flush_ms));
    config_add(arena, ret, "index.interval.bytes",
               arena_printf(arena, "%lld", (long long)t->index_interval_bytes));
    config_add(arena, ret, "retention.ms", arena_printf(arena, "%lld", (long long)t->retention_ms));
    config_add(arena, ret, "retention.bytes",
               arena_printf(arena, "%lld", (long long)t->retention_bytes));
    config_add(arena, ret, "write.caching", t->write_caching ? "true" : "false");
    config_add(arena, ret, "message.timestamp.type",
               t->log_append_time ? "LogAppendTime" : "CreateTime");
}

struct model_topic *topic_of_plan(struct sim *sim, const char *name, const struct meta_uuid *id,
                                  int32_t partitions_n, const struct plan_topic *plan)
{
    struct model_topic *t = model_topic_add(&sim->model, name, id, partitions_n);
    t->write_caching = plan->write_caching;
    t->log_append_time = plan->log_append_time;
    t->flush_ms = plan->flush_ms;
    t->retained = plan->retention_ms >= 0 || plan->retention_bytes >= 0;
    t->comes_and_goes = name[0] != 't';
    sim->report.topics_made++;
    return t;
}

/* ---- life ---- */

static void on_auditor_closed(struct rpc_conn *c)
{
    (void)c; /* who waits sees it */
}

void clients_create(struct sim *sim)
{
    struct clients *c = calloc(1, sizeof(*c));
    ASSERT(c != NULL);
    sim->clients = c;
    for (unsigned i = 0; i < sim->plan.producers_n; i++)
        producer_init(&c->producers[i], sim, i == 0);
    for (unsigned i = 0; i < sim->plan.consumers_n; i++)
        consumer_init(&c->consumers[i], sim);
    admin_init(&c->admin, sim);
    mover_init(&c->mover, sim);
    hostile_init(&c->hostile, sim);
    groups_init(&c->groups, sim);
    table_init(&c->table, sim);
    rpc_conn_init(&c->auditor, sim, on_auditor_closed, NULL);
}

void clients_start(struct sim *sim)
{
    for (unsigned i = 0; i < sim->plan.producers_n; i++)
        producer_start(&sim->clients->producers[i]);
    for (unsigned i = 0; i < sim->plan.consumers_n; i++)
        consumer_start(&sim->clients->consumers[i]);
    if (sim->plan.churn)
        admin_start(&sim->clients->admin);
    if (sim->plan.moves)
        mover_start(&sim->clients->mover);
    if (sim->plan.hostile)
        hostile_start(&sim->clients->hostile);
    groups_start(&sim->clients->groups);
    table_start(&sim->clients->table);
}

void clients_stop(struct sim *sim)
{
    for (unsigned i = 0; i < sim->plan.producers_n; i++)
        producer_stop(&sim->clients->producers[i]);
    for (unsigned i = 0; i < sim->plan.consumers_n; i++)
        consumer_stop(&sim->clients->consumers[i]);
    admin_stop(&sim->clients->admin);
    mover_stop(&sim->clients->mover);
    hostile_stop(&sim->clients->hostile);
    groups_stop(&sim->clients->groups);
    table_stop(&sim->clients->table);
    rpc_close(&sim->clients->auditor);
}

void clients_destroy(struct sim *sim)
{
    struct clients *c = sim->clients;
    if (c == NULL)
        return;
    clients_stop(sim);
    for (unsigned i = 0; i < sim->plan.producers_n; i++)
        producer_fini(&c->producers[i]);
    for (unsigned i = 0; i < sim->plan.consumers_n; i++)
        rpc_conn_fini(&c->consumers[i].conn);
    groups_fini(&c->groups);
    table_fini(&c->table);
    rpc_conn_fini(&c->admin.conn);
    rpc_conn_fini(&c->mover.conn);
    rpc_conn_fini(&c->auditor);
    free(c);
    sim->clients = NULL;
}

/* ---- progress ---- */

static bool all_acked(const struct sim *sim, const uint64_t before[PLAN_PRODUCERS_MAX])
{
    for (unsigned i = 0; i < sim->plan.producers_n; i++) {
        const struct producer *p = &sim->clients->producers[i];
        if (p->acks == -1 && !p->roams && p->acked == before[i])
            return false;
    }
    return true;
}

bool clients_progress(struct sim *sim)
{
    uint64_t before[PLAN_PRODUCERS_MAX];
    uint64_t until_ns = sim_now_ns_of(sim) + CALL_WAIT_NS + 5000 * sim->plan.think_ns;
    for (unsigned i = 0; i < sim->plan.producers_n; i++)
        before[i] = sim->clients->producers[i].acked;
    while (!all_acked(sim, before) && sim_step(sim, until_ns))
        if (sim_now_ns_of(sim) >= until_ns)
            model_violation(&sim->model, "a producer gets no acknowledgement any more");
    return !model_failed(&sim->model) && !mem_world_crashed(sim->world);
}
