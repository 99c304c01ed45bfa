/* audit.c: after a start, with nobody else at work: topics, configurations and every record are
 * asked of the broker and held against the model. */
#include <stdio.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "tests/sim/clients.h"
#include "tests/sim/run.h"

#define AUDIT_FETCH_BYTES 1000000

struct audit {
    struct sim *sim;
    struct model_partition *partition;
    int64_t start, end;
    int64_t offset;
};

static bool call(struct sim *sim, int16_t api, int16_t version, const void *request,
                 void (*take)(const void *response, void *arg), void *arg)
{
    if (rpc_call_wait(&sim->clients->auditor, api, version, request, CALL_WAIT_NS, take, arg))
        return true;
    if (!mem_world_crashed(sim->world))
        model_violation(&sim->model, "no answer to %s", wire_api_find(api)->name);
    return false;
}

static bool auditor_at(struct sim *sim, int node)
{
    struct rpc_conn *c = &sim->clients->auditor;
    if (node < 0) {
        model_violation(&sim->model, "a topic that must be there is not");
        return false;
    }
    if (rpc_is_open(c) && c->node == (unsigned)node)
        return true;
    rpc_close(c);
    rpc_open(c, (unsigned)node);
    return true;
}

/* ---- topics ---- */

static void partitions_check(struct sim *sim, struct model_topic *t,
                             const struct metadata_response_metadata_response_topic *told)
{
    if (told->partitions_n < t->partitions_n || told->partitions_n > t->partitions_asked) {
        model_violation(&sim->model, "%s has %d partitions, not %d", t->name,
                        (int)told->partitions_n, (int)t->partitions_n);
        return;
    }
    model_topic_grow(t, told->partitions_n);
    t->partitions_asked = t->partitions_n;
    for (int32_t i = 0; i < told->partitions_n; i++) {
        const struct metadata_response_metadata_response_partition *part = &told->partitions[i];
        struct model_partition *p =
            part->partition_index >= 0 && part->partition_index < t->partitions_n
                ? t->partitions[part->partition_index]
                : NULL;
        bool offline = part->error_code == ERROR_LEADER_NOT_AVAILABLE &&
                       sim_broker_lacks_dir(&sim->broker) && part->leader_id == -1 &&
                       part->offline_replicas_n == 1;
        if (p == NULL || (part->error_code != ERROR_NONE && !offline) ||
            part->leader_epoch < p->epoch_seen + sim->unclean) {
            model_violation(&sim->model, "%s-%d: error %d, leader epoch %d", t->name,
                            (int)part->partition_index, part->error_code, (int)part->leader_epoch);
            return;
        }
        p->epoch_seen = part->leader_epoch;
        p->offline = offline;
        sim->report.offline_partitions += offline;
    }
}

/* One that was asked for and whose answer was lost. */
static struct model_topic *topic_adopt(struct sim *sim, const char *name,
                                       const struct meta_uuid *id, int32_t partitions_n)
{
    struct admin *a = &sim->clients->admin;
    for (unsigned i = 0; i < CHURN_NAMES; i++) {
        char churn[32];
        churn_name(i, churn);
        if (a->asked[i] && strcmp(churn, name) == 0) {
            a->asked[i] = false;
            return topic_of_plan(sim, name, id, partitions_n, &a->wanted[i]);
        }
    }
    model_violation(&sim->model, "topic %s is there, nobody made it", name);
    return NULL;
}

static bool is_name_of_ours(const char *name)
{
    return strncmp(name, "churn.", 6) == 0 || (name[0] == 't' && name[1] >= '0' && name[1] <= '9');
}

static void on_metadata(const void *response, void *arg)
{
    struct sim *sim = arg;
    const struct metadata_response *r = response;
    struct model *m = &sim->model;
    for (struct model_topic *t = m->topics; t != NULL; t = t->next)
        t->found = false;
    for (int32_t i = 0; i < r->topics_n; i++) {
        const struct metadata_response_metadata_response_topic *told = &r->topics[i];
        char name[32] = "";
        struct meta_uuid id;
        memcpy(id.b, told->topic_id.b, sizeof(id.b));
        memcpy(name, told->name.p, (size_t)MIN(MAX(told->name.len, 0), 31));
        struct model_topic *t = model_topic_by_id(m, &id);
        if (t == NULL && sim->plan.hostile && !is_name_of_ours(name))
            continue; /* a stranger's, whose requests may be bent in the name */
        if (t == NULL &&
            (strcmp(name, "__consumer_offsets") == 0 || strcmp(name, TABLE_TOPIC) == 0))
            continue; /* looked at by themselves */
        if (t == NULL)
            t = topic_adopt(sim, name, &id, told->partitions_n);
        if (t == NULL)
            return;
        if (t->state == MODEL_DELETED || strcmp(t->name, name) != 0)
            model_violation(m, "topic %s is there again", name);
        t->state = MODEL_THERE;
        t->found = true;
        partitions_check(sim, t, told);
    }
    for (struct model_topic *t = m->topics; t != NULL; t = t->next) {
        if (t->found || t->state == MODEL_DELETED)
            continue;
        if (t->state == MODEL_THERE)
            model_violation(m, "topic %s is lost", t->name);
        t->state = MODEL_DELETED;
        sim->report.topics_deleted++;
    }
    memset(sim->clients->admin.asked, 0, sizeof(sim->clients->admin.asked));
}

static bool audit_topics(struct sim *sim)
{
    struct metadata_request request;
    wire_set_defaults(&metadata_request_schema, &request);
    request.topics_n = -1;
    request.allow_auto_topic_creation = false;
    return auditor_at(sim, (int)sim_below(sim, sim->broker.broker.nodes_n)) &&
           call(sim, API_METADATA, some_version(sim, 10, 13), &request, on_metadata, sim);
}

/* What a crash left of a change is the one or the other, on every shard. */
static void audit_config(struct sim *sim, struct model_config *config, int64_t found,
                         const char *what)
{
    if (found != config->value && found != config->asked)
        model_violation(&sim->model, "%s is %lld, answered was %lld, asked for %lld", what,
                        (long long)found, (long long)config->value, (long long)config->asked);
    config->value = config->asked = found;
}

static void audit_configs(struct sim *sim)
{
    for (unsigned i = 0; i < sim->broker.broker.shards_n; i++)
        audit_config(sim, &sim->clients->admin.jitter,
                     sim->broker.shards[i].meta->defaults.segment_jitter_ms, SIM_BROKER_CONFIG);
    for (struct model_topic *t = sim->model.topics; t != NULL; t = t->next) {
        if (t->state != MODEL_THERE)
            continue;
        for (unsigned i = 0; i < sim->broker.broker.shards_n; i++) {
            const struct meta_topic *topic = meta_topic_by_id(sim->broker.shards[i].meta, &t->id);
            if (topic == NULL || topic->config.flush_ms != t->flush_ms ||
                topic->config.write_caching != t->write_caching)
                model_violation(&sim->model, "topic %s: shard %u knows another configuration",
                                t->name, i);
            else
                audit_config(sim, &t->tombstones, topic->config.delete_retention_ms, t->name);
        }
    }
}

/* ---- records ---- */

static void on_ends(const void *response, void *arg)
{
    struct audit *a = arg;
    const struct list_offsets_response *r = response;
    const struct list_offsets_response_list_offsets_partition_response *told =
        r->topics_n == 1 && r->topics[0].partitions_n == 1 ? r->topics[0].partitions : NULL;
    if (told == NULL || told->error_code != ERROR_NONE)
        model_violation(&a->sim->model, "%s-%d: no offsets (error %d)", a->partition->topic->name,
                        (int)a->partition->index, told == NULL ? 0 : told->error_code);
    else
        a->offset = told->offset;
}

static bool log_end(struct audit *a, int64_t which, int64_t *ret)
{
    struct list_offsets_request_list_offsets_partition part;
    struct list_offsets_request_list_offsets_topic topic = {
        .name = wire_str_of(a->partition->topic->name), .partitions = &part, .partitions_n = 1};
    struct list_offsets_request request;
    wire_set_defaults(&list_offsets_request_list_offsets_partition_schema, &part);
    part.partition_index = a->partition->index;
    part.timestamp = which;
    wire_set_defaults(&list_offsets_request_schema, &request);
    request.replica_id = -1;
    request.topics = &topic;
    request.topics_n = 1;
    bool ok = call(a->sim, API_LIST_OFFSETS, some_version(a->sim, 1, 9), &request, on_ends, a);
    *ret = a->offset;
    return ok && !model_failed(&a->sim->model);
}

static void on_fetched(const void *response, void *arg)
{
    struct audit *a = arg;
    const struct fetch_response *r = response;
    struct model *m = &a->sim->model;
    const struct fetch_response_partition_data *told =
        r->error_code == ERROR_NONE && r->responses_n == 1 && r->responses[0].partitions_n == 1
            ? r->responses[0].partitions
            : NULL;
    if (told != NULL && told->error_code == ERROR_STORAGE && a->sim->misdirected) {
        a->offset = a->end; /* no file is what it was */
        return;
    }
    if (told != NULL && told->error_code == ERROR_OFFSET_OUT_OF_RANGE &&
        a->partition->topic->retained && told->log_start_offset > a->offset) {
        model_audit_start_moved(m, a->partition, told->log_start_offset);
        a->offset = told->log_start_offset;
        return;
    }
    if (told == NULL || told->error_code != ERROR_NONE) {
        model_violation(m, "%s-%d, offset %lld: cannot be fetched (error %d)",
                        a->partition->topic->name, (int)a->partition->index, (long long)a->offset,
                        told == NULL ? r->error_code : told->error_code);
        return;
    }
    if (told->high_watermark < a->end)
        model_violation(m, "%s-%d: the high watermark went back to %lld", a->partition->topic->name,
                        (int)a->partition->index, (long long)told->high_watermark);
    if (told->records.len > 0)
        a->offset =
            model_audit_fetched(m, a->partition, told->records.data, (uint32_t)told->records.len);
}

static bool fetch_next(struct audit *a)
{
    struct fetch_ask ask;
    fetch_ask_make(&ask, a->partition, a->offset);
    ask.part.partition_max_bytes = AUDIT_FETCH_BYTES;
    ask.request.max_wait_ms = 500;
    return call(a->sim, API_FETCH, some_version(a->sim, FETCH_VERSION_ZSTD, 18), &ask.request,
                on_fetched, a);
}

static bool audit_partition(struct sim *sim, struct model_partition *p)
{
    struct audit a = {.sim = sim, .partition = p};
    unsigned empty = 0;
    if (p->offline)
        return true;
    if (!auditor_at(sim, partition_node(sim, p)) || !log_end(&a, -2, &a.start) ||
        !log_end(&a, -1, &a.end))
        return false;
    model_audit_begin(&sim->model, p, a.start);
    a.offset = a.start;
    while (a.offset < a.end && !model_failed(&sim->model)) {
        int64_t before = a.offset;
        if (!fetch_next(&a))
            return false;
        empty = a.offset == before ? empty + 1 : 0;
        if (empty > 3 && sim->model.tolerant)
            break; /* lost up to the end */
        if (empty > 100)
            model_violation(&sim->model, "%s-%d: nothing comes from offset %lld on", p->topic->name,
                            (int)p->index, (long long)before);
    }
    model_audit_end(&sim->model, p, a.end);
    return !model_failed(&sim->model);
}

/* ---- the compacted topic ---- */

struct table_audit {
    struct sim *sim;
    struct table_reader reader;
    unsigned empty;
};

static void on_table_fetched(const void *response, void *arg)
{
    struct table_audit *a = arg;
    const struct fetch_response *r = response;
    const struct fetch_response_partition_data *told =
        r->error_code == ERROR_NONE && r->responses_n == 1 && r->responses[0].partitions_n == 1
            ? r->responses[0].partitions
            : NULL;
    if (told == NULL || (told->error_code != ERROR_NONE && !a->sim->model.tolerant)) {
        model_violation(&a->sim->model, TABLE_TOPIC ": cannot be fetched (error %d)",
                        told == NULL ? r->error_code : told->error_code);
        return;
    }
    a->empty = told->records.len > 0 ? 0 : a->empty + 1;
    a->reader.end = MAX(a->reader.end, told->high_watermark);
    if (told->records.len > 0)
        table_read_fetched(&a->sim->clients->table, &a->reader, told->records.data,
                           (uint32_t)told->records.len);
}

/* Compaction goes on meanwhile. */
static bool audit_table(struct sim *sim)
{
    struct table_audit a = {.sim = sim};
    struct fetch_ask ask;
    if (!auditor_at(sim, table_node(sim)))
        return false;
    table_read_begin(&sim->clients->table, &a.reader);
    a.reader.alone = true;
    while (a.reader.offset < a.reader.end && !model_failed(&sim->model)) {
        table_fetch_make(&ask, a.reader.offset);
        ask.part.partition_max_bytes = AUDIT_FETCH_BYTES / 4;
        ask.request.max_wait_ms = 500;
        if (!call(sim, API_FETCH, FETCH_VERSION_ZSTD, &ask.request, on_table_fetched, &a))
            return false;
        if (a.empty > 3 && sim->model.tolerant)
            break; /* lost up to the end */
        if (a.empty > 100)
            model_violation(&sim->model, TABLE_TOPIC ", offset %lld: nothing comes from there on",
                            (long long)a.reader.offset);
    }
    table_read_end(&sim->clients->table, &a.reader);
    return !model_failed(&sim->model);
}

bool clients_audit(struct sim *sim)
{
    if (!audit_topics(sim))
        return false;
    audit_configs(sim);
    for (struct model_topic *t = sim->model.topics; t != NULL; t = t->next)
        for (int32_t i = 0; i < t->partitions_n && t->state == MODEL_THERE; i++)
            if (model_failed(&sim->model) || !audit_partition(sim, t->partitions[i]))
                return false;
    bool away = sim_dir_failing(sim); /* the table and what groups have written may be there */
    if (!away && ((sim->clients->table.used && !audit_table(sim)) ||
                  !groups_audit(&sim->clients->groups, &sim->clients->auditor)))
        return false;
    rpc_close(&sim->clients->auditor);
    sim->unclean = false;
    return !model_failed(&sim->model);
}

/* ---- the plan's topics ---- */

static void on_created(const void *response, void *arg)
{
    struct sim *sim = arg;
    const struct create_topics_response *r = response;
    for (int32_t i = 0; i < r->topics_n; i++) {
        char name[32];
        struct meta_uuid id;
        if (i == (int32_t)sim->plan.topics_n && r->topics[i].error_code == ERROR_NONE)
            continue; /* the table */
        snprintf(name, sizeof(name), "t%d", (int)i);
        memcpy(id.b, r->topics[i].topic_id.b, sizeof(id.b));
        if (r->topics[i].error_code == ERROR_NONE)
            topic_of_plan(sim, name, &id, sim->plan.topics[i].partitions_n, &sim->plan.topics[i]);
        else
            model_violation(&sim->model, "create %s: error %d", name, r->topics[i].error_code);
    }
}

bool clients_make_topics(struct sim *sim)
{
    struct arena arena;
    struct create_topics_request_creatable_topic topics[PLAN_TOPICS_MAX + 1];
    struct create_topics_request request;
    arena_init(&arena, 1u << 20);
    for (unsigned i = 0; i < sim->plan.topics_n; i++) {
        wire_set_defaults(&create_topics_request_creatable_topic_schema, &topics[i]);
        topic_configs(&sim->plan.topics[i], &arena, &topics[i]);
        topics[i].name = wire_str_of(arena_printf(&arena, "t%u", i));
    }
    wire_set_defaults(&create_topics_request_schema, &request);
    request.topics = topics;
    request.topics_n = (int32_t)(sim->plan.topics_n + sim->plan.table);
    wire_set_defaults(&create_topics_request_creatable_topic_schema, &topics[sim->plan.topics_n]);
    table_configs(&sim->clients->table, &arena, &topics[sim->plan.topics_n]);
    bool ok = auditor_at(sim, 0) && call(sim, API_CREATE_TOPICS, 7, &request, on_created, sim);
    arena_fini(&arena);
    rpc_close(&sim->clients->auditor);
    return ok && !model_failed(&sim->model);
}
