/* groups_audit.c: after a start: what the coordinators have loaded is what the groups were told. */
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/sim/clients.h"

#define RETRIES_MAX 2000
#define RETRY_NS (UINT64_C(20) * SIM_NS_PER_MS)
#define ASSIGNMENT_BYTES 8

struct look {
    struct sim *sim;
    struct sim_group *group;
    int16_t version, error;
    bool any_offset; /* so that the group has been kept */
    int node;
};

static bool error_passes(int16_t error)
{
    return error == ERROR_COORDINATOR_LOADING || error == ERROR_COORDINATOR_NOT_AVAILABLE ||
           error == ERROR_NOT_COORDINATOR;
}

static void on_found(const void *response, void *arg)
{
    struct look *l = arg;
    l->error = find_coordinator_answer(response, l->version, &l->node);
}

static void on_offset(void *arg, int32_t partition, int64_t offset)
{
    struct look *l = arg;
    if (partition < 0 || partition >= l->group->partitions_n)
        return;
    struct group_part *p = &l->group->parts[partition];
    group_offset_seen(l->sim, l->group, partition, p, l->group->active_ns, offset);
    l->any_offset = l->any_offset || offset >= 0;
    p->acked = p->seen = offset; /* nothing that was under way is any more */
}

static void on_fetched(const void *response, void *arg)
{
    struct look *l = arg;
    l->error = offset_fetch_answer(response, l->version, on_offset, l);
}

static void group_check(struct look *l, const struct describe_groups_response_described_group *told)
{
    uint32_t all = 0, generation = 0;
    for (int32_t i = 0; i < told->members_n; i++) {
        const struct wire_bytes *bytes = &told->members[i].member_assignment;
        if (bytes->len != ASSIGNMENT_BYTES)
            continue; /* of nobody's making; or it has none */
        uint32_t of = be_load32(bytes->p), owned = be_load32(bytes->p + 4);
        if ((all & owned) != 0)
            model_violation(&l->sim->model, "group %s: loaded with two owners of a partition",
                            l->group->name);
        if (all != 0 && of != generation)
            model_violation(&l->sim->model, "group %s: loaded with two generations",
                            l->group->name);
        all |= owned;
        generation = of;
    }
    if (all != 0 && (int32_t)generation < l->group->generation && l->any_offset)
        model_violation(&l->sim->model, "group %s: loaded with generation %u, was told of %d",
                        l->group->name, generation, (int)l->group->generation);
}

static void on_described(const void *response, void *arg)
{
    struct look *l = arg;
    const struct describe_groups_response *r = response;
    l->error = r->groups_n == 1 ? r->groups->error_code : INT16_MIN;
    if (l->error == ERROR_NONE && !l->sim->model.tolerant)
        group_check(l, r->groups);
}

static bool wait_a_little(struct sim *sim)
{
    uint64_t until_ns = sim_now_ns_of(sim) + RETRY_NS;
    while (sim_now_ns_of(sim) < until_ns)
        if (!sim_step(sim, until_ns))
            return false;
    return true;
}

static bool find(struct look *l, struct rpc_conn *auditor)
{
    struct find_coordinator_request request;
    struct wire_str key;
    find_coordinator_ask(&request, l->group, &key);
    l->version = some_version(l->sim, 0, 6);
    return rpc_call_wait(auditor, API_FIND_COORDINATOR, l->version, &request, CALL_WAIT_NS,
                         on_found, l);
}

static bool describe(struct look *l, struct rpc_conn *auditor)
{
    struct wire_str name = wire_str_of(l->group->name);
    struct describe_groups_request request;
    wire_set_defaults(&describe_groups_request_schema, &request);
    request.groups = &name;
    request.groups_n = 1;
    return rpc_call_wait(auditor, API_DESCRIBE_GROUPS, some_version(l->sim, 0, 5), &request,
                         CALL_WAIT_NS, on_described, l);
}

static bool fetch(struct look *l, struct rpc_conn *auditor)
{
    struct offset_fetch_ask ask;
    offset_fetch_ask_make(&ask, l->sim, l->group);
    l->version = some_version(l->sim, 2, 9);
    return rpc_call_wait(auditor, API_OFFSET_FETCH, l->version, &ask.request, CALL_WAIT_NS,
                         on_fetched, l);
}

/* One attempt; false: no answer. */
static bool group_look(struct look *l, struct rpc_conn *auditor)
{
    rpc_close(auditor);
    rpc_open(auditor, (unsigned)sim_below(l->sim, l->sim->broker.broker.nodes_n));
    if (!find(l, auditor))
        return false;
    if (l->error != ERROR_NONE)
        return true;
    rpc_close(auditor);
    rpc_open(auditor, (unsigned)l->node);
    return fetch(l, auditor) && (l->error != ERROR_NONE || describe(l, auditor));
}

static bool group_audit(struct sim *sim, struct sim_group *g, struct rpc_conn *auditor)
{
    struct look l = {.sim = sim, .group = g};
    for (unsigned i = 0; i < RETRIES_MAX; i++) {
        if (!group_look(&l, auditor)) {
            if (!mem_world_crashed(sim->world))
                model_violation(&sim->model, "group %s: no answer", g->name);
            return false;
        }
        if (!error_passes(l.error) || (sim->model.tolerant && i > 100))
            break;
        if (!wait_a_little(sim))
            return false;
    }
    if (l.error != ERROR_NONE && !sim->model.tolerant)
        model_violation(&sim->model, "group %s: error %d after a start", g->name, l.error);
    return !model_failed(&sim->model);
}

bool groups_audit(struct sim_groups *g, struct rpc_conn *auditor)
{
    for (unsigned i = 0; i < g->groups_n; i++)
        if (!group_audit(g->sim, &g->groups[i], auditor))
            return false;
    rpc_close(auditor);
    return true;
}
