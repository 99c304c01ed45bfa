#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"
#include "net/api/config_view.h"

#define CONFIGS_MAX 1000

typedef struct create_topics_request_creatable_topic asked_topic;
typedef struct create_topics_response_creatable_topic_result told_topic;

struct create_job {
    struct request *r;
    struct create_topics_request *req;
    struct create_topics_response res;
    int32_t *asked_of;  /* told -> asked: a name that occurs twice is told once */
    int32_t next, told; /* told: the topic that is being created */
    struct meta_change change;
};

/* One topic after its checks. */
struct plan {
    const char *name;
    int32_t partitions_n;
    const int32_t *leaders;
    struct meta_config_entry *configs;
    unsigned configs_n;
    struct topic_config effective;
};

static void refuse(told_topic *t, int16_t code, struct wire_str message)
{
    t->error_code = code;
    t->error_message = message;
}

/* ---- checks: 0, or -1 with the error in *t ---- */

static int name_check(struct create_job *job, const asked_topic *a, told_topic *t, struct plan *ret)
{
    const struct meta_image *meta = job->r->shard->meta;
    char *name = admin_name(job->r, a->name);
    int rc = 0;
    if (name == NULL || meta_topic_name_check(name, strlen(name)) < 0)
        rc = -EINVAL;
    else if (meta_topic_by_name(meta, name, strlen(name)) != NULL)
        rc = -EEXIST;
    else if (meta_topic_name_collides(meta, name))
        rc = -ENOTUNIQ;
    if (rc == 0) {
        ret->name = name;
        return 0;
    }
    struct wire_str text = admin_topic_name_text(job->r, a->name);
    if (rc == -EEXIST)
        text = admin_text(job->r, "Topic '%s' already exists.", name);
    if (rc == -ENOTUNIQ)
        text = admin_text(job->r, "Topic '%s' collides with an existing topic.", name);
    refuse(t, admin_error_of(rc), text);
    return -1;
}

static int config_check(struct create_job *job, told_topic *t, struct plan *ret, const char *name,
                        const char *value)
{
    struct topic_config_fault fault;
    if (name == NULL || value == NULL) {
        refuse(t, KAFKA_INVALID_CONFIG,
               wire_str_of("Null is neither a config's name nor a value."));
        return -1;
    }
    int rc = topic_config_set(&ret->effective, name, value, &fault);
    if (rc < 0) {
        refuse(t, KAFKA_INVALID_CONFIG, config_fault_text(job->r, name, rc, &fault));
        return -1;
    }
    unsigned at = 0; /* the same key again: the later one counts */
    while (at < ret->configs_n && strcmp(ret->configs[at].name, name) != 0)
        at++;
    ret->configs[at] = (struct meta_config_entry){name, value};
    ret->configs_n = MAX(ret->configs_n, at + 1);
    return 0;
}

static int configs_check(struct create_job *job, const asked_topic *a, told_topic *t,
                         struct plan *ret)
{
    struct request *r = job->r;
    struct topic_config_fault fault;
    ret->effective = r->shard->meta->defaults;
    if (a->configs_n > CONFIGS_MAX) {
        refuse(t, KAFKA_INVALID_CONFIG, wire_str_of("Too many configs."));
        return -1;
    }
    ret->configs = arena_array(&r->arena, (size_t)MAX(a->configs_n, 1), sizeof(*ret->configs));
    if (ret->configs == NULL) {
        refuse(t, KAFKA_UNKNOWN_SERVER_ERROR, wire_str_of("No memory."));
        return -1;
    }
    for (int32_t i = 0; i < a->configs_n; i++)
        if (config_check(job, t, ret, admin_name(r, a->configs[i].name),
                         admin_name(r, a->configs[i].value)) < 0)
            return -1;
    if (topic_config_check(&ret->effective, &fault) == 0)
        return 0;
    refuse(t, KAFKA_INVALID_CONFIG, admin_text(r, "%s", fault.says));
    return -1;
}

static int counts_check(struct create_job *job, const asked_topic *a, told_topic *t,
                        struct plan *ret)
{
    const struct broker *b = job->r->shard->broker;
    bool defaults = job->r->version >= 4; /* -1 means the broker's default from here on */
    int32_t n = a->num_partitions, copies = a->replication_factor;
    if (n == -1 && defaults)
        n = b->default_partitions;
    if (copies == -1 && defaults)
        copies = 1;
    if (n <= 0 || n > META_PARTITIONS_MAX) {
        refuse(t, KAFKA_INVALID_PARTITIONS,
               n > 0
                   ? admin_text(job->r, "Number of partitions was set to an invalid value: %d.", n)
                   : wire_str_of("Number of partitions was set to an invalid non-positive "
                                 "value."));
        return -1;
    }
    if (copies <= 0) {
        refuse(t, KAFKA_INVALID_REPLICATION_FACTOR,
               wire_str_of("Replication factor must be larger than 0, or -1 to use the default "
                           "value."));
        return -1;
    }
    if ((uint32_t)copies > b->nodes_n || (b->refuse_replication && copies > 1)) {
        refuse(t, KAFKA_INVALID_REPLICATION_FACTOR,
               admin_text(job->r,
                          "Unable to replicate the partition %d time(s): The target replication "
                          "factor of %d cannot be reached because only %u broker(s) are "
                          "registered%s.",
                          copies, copies, b->nodes_n,
                          b->refuse_replication ? ", and more than 1 is configured to be refused"
                                                : ""));
        return -1;
    }
    ret->partitions_n = n;
    return 0;
}

/* The assignments in the order of their partitions, into leaders; NULL or what is wrong. */
static const char *assignments_read(struct create_job *job, const asked_topic *a, int32_t *leaders)
{
    for (int32_t i = 0; i < a->assignments_n; i++)
        leaders[i] = -1;
    for (int32_t i = 0; i < a->assignments_n; i++) {
        const struct create_topics_request_creatable_replica_assignment *as = &a->assignments[i];
        const char *wrong =
            admin_replicas_check(job->r->shard->broker, as->broker_ids, as->broker_ids_n);
        if (wrong != NULL)
            return wrong;
        if (as->broker_ids_n != a->assignments[0].broker_ids_n)
            return "different numbers of replicas";
        if (as->partition_index < 0 || as->partition_index >= a->assignments_n)
            return "partitions that are not consecutive from 0";
        if (leaders[as->partition_index] >= 0)
            return "a partition twice";
        leaders[as->partition_index] = as->broker_ids[0];
    }
    return NULL;
}

static int assignments_check(struct create_job *job, const asked_topic *a, told_topic *t,
                             struct plan *ret)
{
    struct request *r = job->r;
    if (a->assignments_n == 0)
        return counts_check(job, a, t, ret);
    if (a->num_partitions != -1 || a->replication_factor != -1) {
        refuse(t, KAFKA_INVALID_REQUEST,
               wire_str_of("A manual partition assignment was specified, but the number of "
                           "partitions or the replication factor was not set to -1."));
        return -1;
    }
    int32_t *leaders = arena_array(&r->arena, (size_t)a->assignments_n, sizeof(*leaders));
    const char *wrong = leaders == NULL ? "more than fits"
                        : a->assignments_n > META_PARTITIONS_MAX
                            ? "too many partitions"
                            : assignments_read(job, a, leaders);
    if (wrong != NULL) {
        refuse(t, KAFKA_INVALID_REPLICA_ASSIGNMENT,
               admin_text(r, "The manual partition assignment has %s.", wrong));
        return -1;
    }
    ret->partitions_n = a->assignments_n;
    ret->leaders = leaders;
    return 0;
}

/* ---- the answer ---- */

static void config_tell(struct create_job *job, const struct plan *plan, unsigned key_index,
                        struct create_topics_response_creatable_topic_configs *ret)
{
    const struct topic_config_key *key = &topic_config_keys[key_index];
    struct config_view view;
    config_view_topic(job->r->shard, key, plan->configs, plan->configs_n, &view);
    ret->name = wire_str_of(key->name);
    ret->value = wire_str_of(view.value);
    ret->config_source = view.source;
}

static void created_tell(struct create_job *job, const struct plan *plan, told_topic *t)
{
    t->num_partitions = plan->partitions_n;
    t->replication_factor = 1; /* the truth, whatever was asked for */
    if (job->r->version < 5)
        return;
    t->configs = wire_new_array(&create_topics_response_creatable_topic_configs_schema,
                                &job->r->arena, (int32_t)topic_config_keys_count);
    if (t->configs == NULL)
        return;
    t->configs_n = (int32_t)topic_config_keys_count;
    for (unsigned i = 0; i < topic_config_keys_count; i++)
        config_tell(job, plan, i, &t->configs[i]);
}

/* ---- one topic after the other ---- */

static void job_step(struct create_job *job);

static void on_created(struct meta_change *change)
{
    struct create_job *job = container_of(change, struct create_job, change);
    told_topic *t = &job->res.topics[job->told];
    if (change->rc < 0) { /* what was told for success is taken back */
        struct wire_str name = t->name;
        wire_set_defaults(&create_topics_response_creatable_topic_result_schema, t);
        t->name = name;
        t->error_code = admin_error_of(change->rc);
        t->error_message = wire_str_of(admin_error_text(t->error_code));
    } else {
        memcpy(t->topic_id.b, change->id.b, sizeof(t->topic_id.b));
    }
    job_step(job);
}

/* True: the change is under way. */
static bool topic_create(struct create_job *job, int32_t told)
{
    const asked_topic *a = &job->req->topics[job->asked_of[told]];
    told_topic *t = &job->res.topics[told];
    struct plan plan = {0};
    if (t->error_code != KAFKA_NONE || name_check(job, a, t, &plan) < 0 ||
        configs_check(job, a, t, &plan) < 0 || assignments_check(job, a, t, &plan) < 0)
        return false;
    created_tell(job, &plan, t);
    if (job->req->validate_only)
        return false;
    job->told = told;
    job->change = (struct meta_change){.kind = CHANGE_TOPIC_CREATE,
                                       .name = plan.name,
                                       .partitions_n = plan.partitions_n,
                                       .leaders = plan.leaders,
                                       .configs = plan.configs,
                                       .configs_n = plan.configs_n};
    shard_meta_change(job->r->shard, &job->change, on_created);
    return true;
}

static void job_step(struct create_job *job)
{
    while (job->next < job->res.topics_n)
        if (topic_create(job, job->next++))
            return;
    request_reply(job->r, &job->res);
}

/* ---- the request ---- */

static int results_prepare(struct create_job *job)
{
    struct request *r = job->r;
    int32_t n = job->req->topics_n;
    size_t room = (size_t)MAX(n, 1);
    struct wire_str *names = arena_array(&r->arena, room, sizeof(*names));
    uint8_t *marks = arena_alloc(&r->arena, room);
    job->asked_of = arena_array(&r->arena, room, sizeof(*job->asked_of));
    job->res.topics = wire_new_array(&create_topics_response_creatable_topic_result_schema,
                                     &r->arena, (int32_t)room);
    if (names == NULL || marks == NULL || job->asked_of == NULL || job->res.topics == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++)
        names[i] = job->req->topics[i].name;
    if (admin_mark_duplicates(r, names, n, marks) < 0)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        if (marks[i] == 2)
            continue;
        told_topic *t = &job->res.topics[job->res.topics_n];
        job->asked_of[job->res.topics_n++] = i;
        t->name = names[i];
        t->error_message = wire_str_of(NULL);
        if (marks[i] == 1)
            refuse(t, KAFKA_INVALID_REQUEST, wire_str_of("Duplicate topic name."));
    }
    return 0;
}

void create_topics_handle(struct request *r, void *body)
{
    struct create_job *job = request_alloc(r, sizeof(*job));
    if (job != NULL) {
        job->r = r;
        job->req = body;
        wire_set_defaults(&create_topics_response_schema, &job->res);
    }
    if (job == NULL || results_prepare(job) < 0) {
        request_fail(r, "no memory");
        return;
    }
    job_step(job);
}
