#include <stdio.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "tests/sim/clients.h"

#define PARTITIONS_MAX 8

static void admin_work(struct sim_timer *t);

void churn_name(unsigned i, char ret[32])
{
    snprintf(ret, 32, "churn.%u", i);
}

static void work_soon(struct admin *a)
{
    sim_timer_set(a->sim, &a->timer, sim_some_ns(a->sim, 4 * a->sim->plan.think_ns), admin_work);
}

static void on_closed(struct rpc_conn *c)
{
    struct admin *a = c->arg;
    a->deleting = a->growing = NULL;
    a->configuring = NULL;
    work_soon(a);
}

/* The metadata log may have failed; a crash of the controller's answer is no answer at all. */
static bool error_is_fine(int16_t error)
{
    return error == ERROR_STORAGE || error == ERROR_UNKNOWN_SERVER;
}

static void on_created(struct rpc *call, const void *response)
{
    struct admin *a = container_of(call, struct admin, call);
    const struct create_topics_response *r = response;
    char name[32];
    if (r == NULL)
        return;
    work_soon(a);
    churn_name(a->creating, name);
    int16_t error = r->topics_n == 1 ? r->topics[0].error_code : INT16_MIN;
    sim_trace(a->sim, "create %s: error %d", name, error);
    if (error == ERROR_NONE) {
        struct meta_uuid id;
        memcpy(id.b, r->topics[0].topic_id.b, sizeof(id.b));
        a->asked[a->creating] = false;
        topic_of_plan(a->sim, name, &id, a->wanted[a->creating].partitions_n,
                      &a->wanted[a->creating]);
    } else if (!error_is_fine(error)) {
        model_violation(&a->sim->model, "create %s: error %d", name, error);
    }
}

static void create(struct admin *a)
{
    struct sim *sim = a->sim;
    struct arena arena;
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request request;
    char name[32];
    arena_init(&arena, 1u << 16);
    churn_name(a->creating, name);
    a->wanted[a->creating] = sim->plan.topics[sim_below(sim, sim->plan.topics_n)];
    wire_set_defaults(&create_topics_request_creatable_topic_schema, &topic);
    topic_configs(&a->wanted[a->creating], &arena, &topic);
    topic.name = wire_str_of(name);
    wire_set_defaults(&create_topics_request_schema, &request);
    request.topics = &topic;
    request.topics_n = 1;
    a->asked[a->creating] = true;
    rpc_call(&a->conn, &a->call, API_CREATE_TOPICS, 7, &request, on_created); /* tells the id */
    arena_fini(&arena);
}

static void on_deleted(struct rpc *call, const void *response)
{
    struct admin *a = container_of(call, struct admin, call);
    const struct delete_topics_response *r = response;
    if (r == NULL)
        return;
    work_soon(a);
    int16_t error = r->responses_n == 1 ? r->responses[0].error_code : INT16_MIN;
    sim_trace(a->sim, "delete %s: error %d", a->deleting->name, error);
    if (error == ERROR_NONE) {
        a->deleting->state = MODEL_DELETED;
        a->sim->report.topics_deleted++;
    } else if (!error_is_fine(error)) {
        model_violation(&a->sim->model, "delete %s: error %d", a->deleting->name, error);
    }
}

static void delete (struct admin *a)
{
    struct delete_topics_request_delete_topic_state topic = {
        .name = wire_str_of(NULL), .topic_id = wire_uuid_of(&a->deleting->id)};
    struct delete_topics_request request;
    wire_set_defaults(&delete_topics_request_schema, &request);
    request.topics = &topic;
    request.topics_n = 1;
    request.timeout_ms = 30000;
    a->deleting->state = MODEL_DELETING;
    rpc_call(&a->conn, &a->call, API_DELETE_TOPICS, 6, &request, on_deleted);
}

static void on_grown(struct rpc *call, const void *response)
{
    struct admin *a = container_of(call, struct admin, call);
    const struct create_partitions_response *r = response;
    if (r == NULL)
        return;
    work_soon(a);
    int16_t error = r->results_n == 1 ? r->results[0].error_code : INT16_MIN;
    sim_trace(a->sim, "partitions of %s: error %d", a->growing->name, error);
    if (error == ERROR_NONE)
        model_topic_grow(a->growing, a->growing->partitions_asked);
    else if (!error_is_fine(error))
        model_violation(&a->sim->model, "partitions of %s: error %d", a->growing->name, error);
}

static void grow(struct admin *a)
{
    struct create_partitions_request_create_partitions_topic topic;
    struct create_partitions_request request;
    wire_set_defaults(&create_partitions_request_create_partitions_topic_schema, &topic);
    topic.name = wire_str_of(a->growing->name);
    topic.count = ++a->growing->partitions_asked;
    topic.assignments_n = -1;
    wire_set_defaults(&create_partitions_request_schema, &request);
    request.topics = &topic;
    request.topics_n = 1;
    request.timeout_ms = 30000;
    rpc_call(&a->conn, &a->call, API_CREATE_PARTITIONS, some_version(a->sim, 0, 3), &request,
             on_grown);
}

static void on_configured(struct rpc *call, const void *response)
{
    struct admin *a = container_of(call, struct admin, call);
    const struct incremental_alter_configs_response *r = response;
    if (r == NULL)
        return;
    work_soon(a);
    int16_t error = r->responses_n == 1 ? r->responses[0].error_code : INT16_MIN;
    sim_trace(a->sim, "config: error %d", error);
    if (error == ERROR_NONE)
        a->configuring->value = a->configuring->asked;
    else if (!error_is_fine(error))
        model_violation(&a->sim->model, "config: error %d", error);
}

#define RESOURCE_TOPIC 2
#define RESOURCE_BROKER 4 /* without a name: the cluster */

static void configure(struct admin *a, struct model_config *config, int8_t type, const char *name,
                      const char *key)
{
    struct incremental_alter_configs_request_alterable_config entry;
    struct incremental_alter_configs_request_alter_configs_resource resource;
    struct incremental_alter_configs_request request;
    char value[24];
    a->configuring = config;
    config->asked = (int64_t)sim_below(a->sim, 1000000);
    snprintf(value, sizeof(value), "%lld", (long long)config->asked);
    wire_set_defaults(&incremental_alter_configs_request_alterable_config_schema, &entry);
    entry.name = wire_str_of(key);
    entry.value = wire_str_of(value);
    wire_set_defaults(&incremental_alter_configs_request_alter_configs_resource_schema, &resource);
    resource.resource_type = type;
    resource.resource_name = wire_str_of(name);
    resource.configs = &entry;
    resource.configs_n = 1;
    wire_set_defaults(&incremental_alter_configs_request_schema, &request);
    request.resources = &resource;
    request.resources_n = 1;
    rpc_call(&a->conn, &a->call, API_INCREMENTAL_ALTER_CONFIGS, some_version(a->sim, 0, 1),
             &request, on_configured);
}

static bool config_is_settled(const struct model_config *config)
{
    return config->value == config->asked;
}

static void topic_change(struct admin *a, struct model_topic *topic)
{
    if (sim_one_in(a->sim, 3)) {
        configure(a, &topic->tombstones, RESOURCE_TOPIC, topic->name, "delete.retention.ms");
    } else if (sim_one_in(a->sim, 3) && topic->partitions_n < PARTITIONS_MAX) {
        a->growing = topic;
        grow(a);
    } else {
        a->deleting = topic;
        delete (a);
    }
}

/* A change whose answer was lost is settled by the next audit, and not before. */
static void admin_work(struct sim_timer *t)
{
    struct admin *a = container_of(t, struct admin, timer);
    struct sim *sim = a->sim;
    char name[32];
    if (!rpc_is_open(&a->conn)) {
        if (!sim->broker.up) {
            work_soon(a);
            return;
        }
        rpc_open(&a->conn, (unsigned)sim_below(sim, sim->broker.broker.nodes_n));
    }
    a->creating = (unsigned)sim_below(sim, CHURN_NAMES);
    churn_name(a->creating, name);
    struct model_topic *there = model_topic_by_name(&sim->model, name);
    if (there == NULL && !a->asked[a->creating]) {
        create(a);
        return;
    }
    if (there != NULL && there->state == MODEL_THERE &&
        there->partitions_asked == there->partitions_n && config_is_settled(&there->tombstones)) {
        topic_change(a, there);
        return;
    }
    if (config_is_settled(&a->jitter))
        configure(a, &a->jitter, RESOURCE_BROKER, "", SIM_BROKER_CONFIG);
    else
        work_soon(a);
}

void admin_init(struct admin *a, struct sim *sim)
{
    *a = (struct admin){.sim = sim};
    rpc_conn_init(&a->conn, sim, on_closed, a);
}

void admin_start(struct admin *a)
{
    work_soon(a);
}

void admin_stop(struct admin *a)
{
    rpc_close(&a->conn);
    sim_timer_clear(&a->timer);
}
