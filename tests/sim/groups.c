#include "tests/sim/groups.h"

#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/sim/clients.h"

#define STALE_VALUE (INT64_C(1) << 50)
#define ASSIGNMENT_BYTES 8 /* generation, partitions */

static void member_work(struct sim_timer *t);

static void work_soon(struct group_client *m)
{
    sim_timer_set(m->sim, &m->timer, sim_some_ns(m->sim, m->sim->plan.group_think_ns), member_work);
}

static void forget(struct group_client *m)
{
    m->id[0] = '\0';
    m->generation = -1;
    m->owned = 0;
}

static void wrong(struct group_client *m, const char *what, int64_t told)
{
    model_violation(&m->sim->model, "group %s, generation %d, member \"%s\": %s (%lld)",
                    m->group->name, (int)m->generation, m->id, what, (long long)told);
}

/* ---- what the group has committed ---- */

/* Not before the offsets of a group that nobody is in have waited for so long. */
static bool may_have_expired(const struct sim *sim, const struct group_part *asked,
                             uint64_t active_ns)
{
    uint64_t since_ns = MAX(asked->acked_ns, active_ns);
    uint64_t keep_ns = (uint64_t)sim->plan.broker.offsets_retention_ms * SIM_NS_PER_MS;
    return sim_now_ns_of(sim) >= since_ns + keep_ns;
}

/* Somebody's offsets keep the group from being forgotten, with its generation. */
static bool is_kept(const struct group_client *m)
{
    for (int32_t i = 0; i < m->group->partitions_n; i++)
        if (m->asked[i].acked >= 0 && !may_have_expired(m->sim, &m->asked[i], m->asked_active_ns))
            return !m->sim->model.tolerant;
    return false;
}

void group_offset_seen(struct sim *sim, struct sim_group *g, int32_t partition,
                       const struct group_part *asked, uint64_t active_ns, int64_t value)
{
    struct group_part *p = &g->parts[partition];
    int64_t least = MAX(asked->acked, asked->seen);
    sim->clients->groups.fetches++;
    if (value < least && value == -1 && may_have_expired(sim, asked, active_ns)) {
        p->acked = p->seen = -1;
        sim->clients->groups.expired++;
        return;
    }
    if (value < least && !sim->model.tolerant)
        model_violation(&sim->model, "group %s, partition %d: %lld is committed, %lld was", g->name,
                        (int)partition, (long long)value, (long long)least);
    if (value > p->sent)
        model_violation(&sim->model, "group %s, partition %d: %lld is committed, which nobody may",
                        g->name, (int)partition, (long long)value);
    p->seen = sim->model.tolerant ? value : MAX(p->seen, value);
}

/* ---- answers ---- */

/* True: the error has been dealt with. */
static bool refused(struct group_client *m, int16_t error)
{
    if (error == ERROR_NONE)
        return false;
    sim_trace(m->sim, "group %s: %s: error %d", m->group->name, m->call.api->name, error);
    switch (error) {
    case ERROR_COORDINATOR_LOADING:
    case ERROR_COORDINATOR_NOT_AVAILABLE:
        return true;
    case ERROR_NOT_COORDINATOR:
        m->coordinator = -1;
        rpc_close(&m->conn);
        return true;
    case ERROR_ILLEGAL_GENERATION:
    case ERROR_UNKNOWN_MEMBER:
    case ERROR_FENCED_INSTANCE:
        if (!m->stale)
            forget(m);
        m->state = m->stale ? m->state : MEMBER_JOINS;
        return true;
    case ERROR_REBALANCE_IN_PROGRESS:
        m->state = MEMBER_JOINS;
        return true;
    case ERROR_GROUP_ID_NOT_FOUND:
        if (is_kept(m))
            wrong(m, "its group is forgotten", m->generation);
        forget(m);
        m->state = MEMBER_JOINS;
        return true;
    default:
        wrong(m, "is refused", error);
        return true;
    }
}

/* The call has its answer; false: the connection was lost instead. */
static bool answered(struct group_client *m, const void *response)
{
    if (response != NULL)
        work_soon(m);
    return response != NULL;
}

static void on_closed(struct rpc_conn *c)
{
    struct group_client *m = c->arg;
    /* What became of a commit nobody knows, and it may still be under way: it must not come behind
     * what this member says next. */
    if (m->committing)
        forget(m);
    m->committing = false;
    m->coordinator = -1;
    if (m->state == MEMBER_SYNCS || m->id[0] == '\0')
        m->state = MEMBER_JOINS;
    work_soon(m);
}

static void on_found(struct rpc *call, const void *response)
{
    struct group_client *m = container_of(call, struct group_client, call);
    if (!answered(m, response))
        return;
    int node = -1;
    int16_t error = find_coordinator_answer(response, call->version, &node);
    if (error == ERROR_COORDINATOR_NOT_AVAILABLE)
        return; /* its topic could not be made just now */
    if (error != ERROR_NONE)
        wrong(m, "no coordinator", error);
    m->coordinator = node;
    rpc_close(&m->conn);
}

static void id_take(struct group_client *m, struct wire_str id)
{
    snprintf(m->id, sizeof(m->id), "%.*s", (int)MAX(id.len, 0), id.p);
}

static void members_take(struct group_client *m, const struct join_group_response *r)
{
    m->ids_n = 0;
    for (int32_t i = 0; i < r->members_n && m->ids_n < ARRAY_LEN(m->ids); i++)
        snprintf(m->ids[m->ids_n++], MEMBER_ID_BYTES, "%.*s", (int)r->members[i].member_id.len,
                 r->members[i].member_id.p);
    if (r->members_n > (int32_t)ARRAY_LEN(m->ids))
        wrong(m, "has more members than there can be", r->members_n);
}

/* It may have been forgotten, with its generation, and begun anew. */
static void may_be_reborn(struct sim_group *g)
{
    for (int32_t i = 0; i < g->partitions_n; i++) {
        g->parts[i].acked = g->parts[i].seen = -1;
        g->parts[i].owned_in = -1;
    }
    g->generation = -1;
}

static void on_joined(struct rpc *call, const void *response)
{
    struct group_client *m = container_of(call, struct group_client, call);
    const struct join_group_response *r = response;
    if (!answered(m, response))
        return;
    if (r->error_code == ERROR_MEMBER_ID_REQUIRED && m->id[0] == '\0') {
        id_take(m, r->member_id);
        return;
    }
    if (refused(m, r->error_code))
        return;
    if (!is_kept(m))
        may_be_reborn(m->group);
    else if (r->generation_id < m->asked_generation)
        wrong(m, "its generation went back", r->generation_id);
    id_take(m, r->member_id);
    members_take(m, r);
    m->generation = r->generation_id;
    m->state = MEMBER_SYNCS; /* a crash takes this back: active_ns is as of assignments */
    sim_trace(m->sim, "group %s: %s joined generation %d of %d", m->group->name, m->id,
              (int)r->generation_id, (int)r->members_n);
}

static void owner_check(struct group_client *m, int32_t partition)
{
    struct group_part *p = &m->group->parts[partition];
    if (p->owned_in == m->generation && p->owner != m && is_kept(m))
        wrong(m, "a partition has two owners", partition);
    if (p->owned_in > m->generation && is_kept(m))
        return; /* the answer was long on its way */
    p->owned_in = m->generation;
    p->owner = m;
}

static void on_synced(struct rpc *call, const void *response)
{
    struct group_client *m = container_of(call, struct group_client, call);
    const struct sync_group_response *r = response;
    if (!answered(m, response) || refused(m, r->error_code))
        return;
    m->owned = 0;
    m->state = MEMBER_WORKS;
    m->sim->clients->groups.assignments++;
    if (r->assignment.len == ASSIGNMENT_BYTES) {
        if ((int32_t)be_load32(r->assignment.p) != m->generation)
            wrong(m, "has another generation's assignment", be_load32(r->assignment.p));
        m->owned = be_load32(r->assignment.p + 4);
    } else if (r->assignment.len > 0) {
        wrong(m, "an assignment that nobody made", r->assignment.len);
    }
    for (int32_t i = 0; i < m->group->partitions_n; i++)
        if (m->owned >> i & 1)
            owner_check(m, i);
    if (m->generation > m->group->generation || !is_kept(m))
        m->group->generation = m->generation;
    m->group->active_ns = MAX(m->group->active_ns, m->asked_ns);
    sim_trace(m->sim, "group %s: %s owns %x in generation %d", m->group->name, m->id, m->owned,
              (int)m->generation);
}

static void on_beaten(struct rpc *call, const void *response)
{
    struct group_client *m = container_of(call, struct group_client, call);
    const struct heartbeat_response *r = response;
    if (answered(m, response) && !refused(m, r->error_code))
        m->group->active_ns = MAX(m->group->active_ns, m->asked_ns);
}

static void on_left(struct rpc *call, const void *response)
{
    struct group_client *m = container_of(call, struct group_client, call);
    const struct leave_group_response *r = response;
    if (!answered(m, response))
        return;
    refused(m, r->error_code);
    forget(m);
    m->state = MEMBER_JOINS;
    sim_timer_set(m->sim, &m->timer, sim_some_ns(m->sim, 20 * m->sim->plan.group_think_ns),
                  member_work);
}

static void committed(struct group_client *m, int32_t i)
{
    struct group_part *p = &m->group->parts[i];
    if (m->values[i] <= p->acked)
        return; /* an answer that was long on its way */
    p->acked = m->values[i];
    p->acked_ns = m->asked_ns;
}

static void on_committed(struct rpc *call, const void *response)
{
    struct group_client *m = container_of(call, struct group_client, call);
    const struct offset_commit_response *r = response;
    if (!answered(m, response))
        return;
    bool stale = m->stale || m->generation < m->asked_generation;
    m->committing = false;
    if (r->topics_n != 1) {
        wrong(m, "an OffsetCommit answer of another form", r->topics_n);
        return;
    }
    for (int32_t i = 0; i < r->topics[0].partitions_n; i++) {
        int16_t error = r->topics[0].partitions[i].error_code;
        int32_t at = r->topics[0].partitions[i].partition_index;
        if (error == ERROR_NONE && stale && is_kept(m))
            wrong(m, "a stale generation has committed", at);
        if (error == ERROR_NONE && at >= 0 && at < m->group->partitions_n && m->values[at] >= 0)
            committed(m, at);
        m->sim->clients->groups.commits += error == ERROR_NONE;
        m->sim->clients->groups.refused_stale += error == ERROR_ILLEGAL_GENERATION;
        if (refused(m, error))
            break;
    }
    m->stale = false;
}

static void on_offset(void *arg, int32_t partition, int64_t offset)
{
    struct group_client *m = arg;
    if (partition >= 0 && partition < m->group->partitions_n)
        group_offset_seen(m->sim, m->group, partition, &m->asked[partition], m->asked_active_ns,
                          offset);
}

static void on_fetched(struct rpc *call, const void *response)
{
    struct group_client *m = container_of(call, struct group_client, call);
    if (answered(m, response))
        refused(m, offset_fetch_answer(response, call->version, on_offset, m));
}

/* ---- asking ---- */

static void call(struct group_client *m, int16_t api, int16_t version, const void *request,
                 rpc_fn on_answer)
{
    m->asked_ns = sim_now_ns_of(m->sim);
    m->asked_generation = m->group->generation;
    m->asked_active_ns = m->group->active_ns;
    memcpy(m->asked, m->group->parts, sizeof(m->asked));
    rpc_call(&m->conn, &m->call, api, version, request, on_answer);
}

static struct wire_str instance_of(const struct group_client *m)
{
    return wire_str_of(m->instance[0] == '\0' ? NULL : m->instance);
}

static int16_t version_of(struct group_client *m, int16_t min, int16_t min_static, int16_t max)
{
    return some_version(m->sim, m->instance[0] == '\0' ? min : min_static, max);
}

static void find(struct group_client *m)
{
    struct find_coordinator_request request;
    struct wire_str key;
    find_coordinator_ask(&request, m->group, &key);
    call(m, API_FIND_COORDINATOR, some_version(m->sim, 0, 6), &request, on_found);
}

static void join(struct group_client *m)
{
    /* Version, topics, user data: Kafka's subscription. */
    static const uint8_t subscription[] = {0, 0, 0, 0, 0, 1, 0, 2, 't', '0', 255, 255, 255, 255};
    struct join_group_request_join_group_request_protocol protocol = {
        .name = wire_str_of("range"), .metadata = {subscription, sizeof(subscription)}};
    struct join_group_request request;
    wire_set_defaults(&join_group_request_schema, &request);
    request.group_id = wire_str_of(m->group->name);
    request.session_timeout_ms = (int32_t)m->sim->plan.group_session_ms;
    request.rebalance_timeout_ms = 2 * request.session_timeout_ms;
    request.member_id = wire_str_of(m->id);
    request.group_instance_id = instance_of(m);
    request.protocol_type = wire_str_of("consumer");
    request.protocols = &protocol;
    request.protocols_n = 1;
    call(m, API_JOIN_GROUP, version_of(m, 0, 5, 9), &request, on_joined);
}

static uint32_t share_of(const struct group_client *m, unsigned member)
{
    uint32_t share = 0;
    for (int32_t i = 0; i < m->group->partitions_n; i++)
        if ((unsigned)i % m->ids_n == member)
            share |= UINT32_C(1) << i;
    return share;
}

static void sync_(struct group_client *m)
{
    struct sync_group_request_sync_group_request_assignment assignments[ARRAY_LEN(m->ids)];
    uint8_t bytes[ARRAY_LEN(m->ids)][ASSIGNMENT_BYTES];
    struct sync_group_request request;
    for (unsigned i = 0; i < m->ids_n; i++) {
        be_store32(bytes[i], (uint32_t)m->generation);
        be_store32(bytes[i] + 4, share_of(m, i));
        assignments[i] = (struct sync_group_request_sync_group_request_assignment){
            .member_id = wire_str_of(m->ids[i]), .assignment = {bytes[i], ASSIGNMENT_BYTES}};
    }
    wire_set_defaults(&sync_group_request_schema, &request);
    request.group_id = wire_str_of(m->group->name);
    request.generation_id = m->generation;
    request.member_id = wire_str_of(m->id);
    request.group_instance_id = instance_of(m);
    request.protocol_type = wire_str_of("consumer");
    request.protocol_name = wire_str_of("range");
    request.assignments = assignments;
    request.assignments_n = (int32_t)m->ids_n;
    call(m, API_SYNC_GROUP, version_of(m, 0, 3, 5), &request, on_synced);
}

static void beat(struct group_client *m)
{
    struct heartbeat_request request;
    wire_set_defaults(&heartbeat_request_schema, &request);
    request.group_id = wire_str_of(m->group->name);
    request.generation_id = m->generation;
    request.member_id = wire_str_of(m->id);
    request.group_instance_id = instance_of(m);
    call(m, API_HEARTBEAT, version_of(m, 0, 3, 4), &request, on_beaten);
}

/* stale: as one of the generation before, who does not know better. */
static void commit(struct group_client *m, bool stale)
{
    struct offset_commit_request_offset_commit_request_partition parts[SIM_GROUP_PARTITIONS_MAX];
    struct offset_commit_request_offset_commit_request_topic topic = {
        .name = group_topic_name_of(m->sim), .partitions = parts};
    struct offset_commit_request request;
    char note[1000]; /* so that segments fill */
    memset(note, 'n', sizeof(note));
    for (int32_t i = 0; i < m->group->partitions_n; i++) {
        m->values[i] = -1;
        if (!stale && !(m->owned >> i & 1))
            continue;
        m->values[i] = stale ? STALE_VALUE : ++m->group->parts[i].sent;
        parts[topic.partitions_n++] =
            (struct offset_commit_request_offset_commit_request_partition){
                .partition_index = i,
                .committed_offset = m->values[i],
                .committed_leader_epoch = -1,
                .committed_metadata = {note, (int32_t)sizeof(note)}};
    }
    wire_set_defaults(&offset_commit_request_schema, &request);
    request.group_id = wire_str_of(m->group->name);
    request.generation_id_or_member_epoch = stale ? m->generation - 1 : m->generation;
    request.member_id = wire_str_of(m->id);
    request.group_instance_id = instance_of(m);
    request.topics = &topic;
    request.topics_n = 1;
    m->committing = true;
    m->stale = stale;
    call(m, API_OFFSET_COMMIT, version_of(m, 2, 7, 9), &request, on_committed);
}

static void fetch(struct group_client *m)
{
    struct offset_fetch_ask ask;
    offset_fetch_ask_make(&ask, m->sim, m->group);
    call(m, API_OFFSET_FETCH, some_version(m->sim, 2, 9), &ask.request, on_fetched);
}

static void leave(struct group_client *m)
{
    struct leave_group_request_member_identity identity = {.member_id = wire_str_of(m->id),
                                                           .group_instance_id = instance_of(m),
                                                           .reason = wire_str_of(NULL)};
    struct leave_group_request request;
    wire_set_defaults(&leave_group_request_schema, &request);
    request.group_id = wire_str_of(m->group->name);
    request.member_id = wire_str_of(m->id);
    request.members = &identity;
    request.members_n = 1;
    call(m, API_LEAVE_GROUP, version_of(m, 0, 3, 5), &request, on_left);
}

/* Nobody is told. Who is static comes back as the same instance. */
static void die(struct group_client *m)
{
    sim_trace(m->sim, "group %s: %s dies", m->group->name, m->id);
    rpc_close(&m->conn);
    forget(m);
    m->state = MEMBER_JOINS;
    sim_timer_set(m->sim, &m->timer, sim_some_ns(m->sim, 20 * m->sim->plan.group_think_ns),
                  member_work);
}

static void do_something(struct group_client *m)
{
    if (sim_one_in(m->sim, 60))
        die(m);
    else if (sim_one_in(m->sim, 60))
        leave(m);
    else if (m->generation > 1 && sim_one_in(m->sim, 15))
        commit(m, true);
    else if (sim_one_in(m->sim, 5))
        fetch(m);
    else if (m->owned != 0 && sim_one_in(m->sim, 2))
        commit(m, false);
    else
        beat(m);
}

static void member_work(struct sim_timer *t)
{
    struct group_client *m = container_of(t, struct group_client, timer);
    struct sim *sim = m->sim;
    if (!sim->broker.up) {
        work_soon(m);
        return;
    }
    if (!rpc_is_open(&m->conn)) {
        uint64_t any = sim_below(sim, sim->broker.broker.nodes_n);
        rpc_open(&m->conn, m->coordinator < 0 ? (unsigned)any : (unsigned)m->coordinator);
    }
    if (m->coordinator < 0)
        find(m);
    else if (m->state == MEMBER_JOINS)
        join(m);
    else if (m->state == MEMBER_SYNCS)
        sync_(m);
    else
        do_something(m);
}

/* ---- requests that the audit makes, too ---- */

struct wire_str group_topic_name_of(const struct sim *sim)
{
    (void)sim;
    return wire_str_of("t0");
}

void find_coordinator_ask(struct find_coordinator_request *ret, const struct sim_group *g,
                          struct wire_str *ret_key)
{
    *ret_key = wire_str_of(g->name);
    wire_set_defaults(&find_coordinator_request_schema, ret);
    ret->key = *ret_key;
    ret->coordinator_keys = ret_key;
    ret->coordinator_keys_n = 1;
}

#define FIRST_NODE_ID 1
#define VERSION_KEYS 4

int16_t find_coordinator_answer(const struct find_coordinator_response *r, int16_t version,
                                int *ret_node)
{
    bool many = version >= VERSION_KEYS;
    if (many && r->coordinators_n != 1)
        return INT16_MIN;
    *ret_node = (many ? r->coordinators->node_id : r->node_id) - FIRST_NODE_ID;
    return many ? r->coordinators->error_code : r->error_code;
}

#define VERSION_GROUPS 8

void offset_fetch_ask_make(struct offset_fetch_ask *ask, const struct sim *sim,
                           const struct sim_group *g)
{
    for (int32_t i = 0; i < g->partitions_n; i++)
        ask->indexes[i] = i;
    ask->topic = (struct offset_fetch_request_offset_fetch_request_topic){
        .name = group_topic_name_of(sim),
        .partition_indexes = ask->indexes,
        .partition_indexes_n = g->partitions_n};
    ask->topics = (struct offset_fetch_request_offset_fetch_request_topics){
        .name = group_topic_name_of(sim),
        .partition_indexes = ask->indexes,
        .partition_indexes_n = g->partitions_n};
    wire_set_defaults(&offset_fetch_request_offset_fetch_request_group_schema, &ask->group);
    ask->group.group_id = wire_str_of(g->name);
    ask->group.topics = &ask->topics;
    ask->group.topics_n = 1;
    wire_set_defaults(&offset_fetch_request_schema, &ask->request);
    ask->request.group_id = wire_str_of(g->name);
    ask->request.topics = &ask->topic;
    ask->request.topics_n = 1;
    ask->request.groups = &ask->group;
    ask->request.groups_n = 1;
    ask->request.require_stable = true;
}

static int16_t groups_answer(const struct offset_fetch_response *r,
                             void (*see)(void *arg, int32_t partition, int64_t offset), void *arg)
{
    if (r->groups_n != 1)
        return INT16_MIN;
    if (r->groups->error_code != ERROR_NONE || r->groups->topics_n != 1)
        return r->groups->error_code;
    for (int32_t i = 0; i < r->groups->topics->partitions_n; i++)
        see(arg, r->groups->topics->partitions[i].partition_index,
            r->groups->topics->partitions[i].committed_offset);
    return ERROR_NONE;
}

int16_t offset_fetch_answer(const struct offset_fetch_response *r, int16_t version,
                            void (*see)(void *arg, int32_t partition, int64_t offset), void *arg)
{
    if (version >= VERSION_GROUPS)
        return groups_answer(r, see, arg);
    if (r->error_code != ERROR_NONE || r->topics_n != 1)
        return r->error_code;
    for (int32_t i = 0; i < r->topics->partitions_n; i++)
        see(arg, r->topics->partitions[i].partition_index,
            r->topics->partitions[i].committed_offset);
    return ERROR_NONE;
}

/* ---- life ---- */

static void member_init(struct group_client *m, struct sim *sim, struct sim_group *g, unsigned n)
{
    *m = (struct group_client){
        .sim = sim, .group = g, .generation = -1, .coordinator = -1, .state = MEMBER_JOINS};
    if (sim_one_in(sim, 3))
        snprintf(m->instance, sizeof(m->instance), "i%u", n);
    rpc_conn_init(&m->conn, sim, on_closed, m);
}

void groups_init(struct sim_groups *g, struct sim *sim)
{
    *g = (struct sim_groups){.sim = sim, .groups_n = sim->plan.groups_n};
    for (unsigned i = 0; i < g->groups_n; i++) {
        struct sim_group *group = &g->groups[i];
        snprintf(group->name, sizeof(group->name), "group-%u", i);
        group->partitions_n = MIN(sim->plan.topics[0].partitions_n, SIM_GROUP_PARTITIONS_MAX);
        for (int32_t k = 0; k < group->partitions_n; k++)
            group->parts[k] = (struct group_part){.acked = -1, .seen = -1, .owned_in = -1};
        for (uint64_t n = 1 + sim_below(sim, SIM_MEMBERS_MAX); n > 0; n--, g->members_n++)
            member_init(&g->members[g->members_n], sim, group, g->members_n);
    }
}

void groups_start(struct sim_groups *g)
{
    for (unsigned i = 0; i < g->members_n; i++) {
        struct group_client *m = &g->members[i];
        m->coordinator = -1;
        m->committing = m->stale = false; /* the audit has settled what was under way */
        if (m->state == MEMBER_SYNCS)
            m->state = MEMBER_JOINS;
        work_soon(m);
    }
}

void groups_stop(struct sim_groups *g)
{
    for (unsigned i = 0; i < g->members_n; i++) {
        rpc_close(&g->members[i].conn);
        sim_timer_clear(&g->members[i].timer);
    }
}

void groups_fini(struct sim_groups *g)
{
    for (unsigned i = 0; i < g->members_n; i++)
        rpc_conn_fini(&g->members[i].conn);
}
