#include <string.h>

#include "core/base/bytes.h"
#include "tests/sim/clients.h"

static void mover_work(struct sim_timer *t);

static void work_soon(struct mover *m)
{
    sim_timer_set(m->sim, &m->timer, sim_some_ns(m->sim, 2 * m->sim->plan.think_ns), mover_work);
}

static void on_closed(struct rpc_conn *c)
{
    work_soon(c->arg);
}

/* A topic may be deleted meanwhile, and there need be nothing to take back. */
static bool error_is_fine(int16_t error)
{
    return error == ERROR_NONE || error == ERROR_UNKNOWN_TOPIC || error == ERROR_NO_REASSIGNMENT ||
           error == ERROR_TIMED_OUT;
}

static void on_asked(struct rpc *call, const void *response)
{
    struct mover *m = container_of(call, struct mover, call);
    const struct alter_partition_reassignments_response *r = response;
    if (r == NULL)
        return;
    int16_t error = r->responses_n == 1 && r->responses[0].partitions_n == 1
                        ? r->responses[0].partitions[0].error_code
                        : INT16_MIN;
    sim_trace(m->sim, "move: error %d", error);
    if (!error_is_fine(error))
        model_violation(&m->sim->model, "move: error %d", error);
    if (sim_one_in(m->sim, 4))
        rpc_close(&m->conn);
    work_soon(m);
}

static void move(struct mover *m)
{
    struct sim *sim = m->sim;
    const struct model_topic *t = some_topic_there(sim);
    int32_t node = (int32_t)sim_below(sim, sim->broker.broker.nodes_n);
    node = sim->broker.broker.nodes[node].node_id;
    bool back = sim_one_in(sim, 8);
    struct alter_partition_reassignments_request_reassignable_partition partition = {
        .partition_index = (int32_t)sim_below(sim, (uint64_t)t->partitions_n),
        .replicas = &node,
        .replicas_n = back ? -1 : 1};
    struct alter_partition_reassignments_request_reassignable_topic topic = {
        .name = wire_str_of(t->name), .partitions = &partition, .partitions_n = 1};
    struct alter_partition_reassignments_request request;
    wire_set_defaults(&alter_partition_reassignments_request_schema, &request);
    request.topics = &topic;
    request.topics_n = 1;
    sim_trace(sim, "move %s-%d to %d", t->name, (int)partition.partition_index, back ? -1 : node);
    rpc_call(&m->conn, &m->call, API_ALTER_PARTITION_REASSIGNMENTS, some_version(sim, 0, 1),
             &request, on_asked);
}

static void mover_work(struct sim_timer *t)
{
    struct mover *m = container_of(t, struct mover, timer);
    struct sim *sim = m->sim;
    if (!rpc_is_open(&m->conn)) {
        if (!sim->broker.up) {
            work_soon(m);
            return;
        }
        rpc_open(&m->conn, (unsigned)sim_below(sim, sim->broker.broker.nodes_n));
    }
    move(m);
}

void mover_init(struct mover *m, struct sim *sim)
{
    *m = (struct mover){.sim = sim};
    rpc_conn_init(&m->conn, sim, on_closed, m);
}

void mover_start(struct mover *m)
{
    work_soon(m);
}

void mover_stop(struct mover *m)
{
    rpc_close(&m->conn);
    sim_timer_clear(&m->timer);
}
