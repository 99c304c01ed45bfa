#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"

typedef struct create_partitions_request_create_partitions_topic asked_topic;
typedef struct create_partitions_response_create_partitions_topic_result told_topic;

struct grow_job {
    struct request *r;
    struct create_partitions_request *req;
    struct create_partitions_response res;
    int32_t *asked_of;  /* told -> asked: a name that occurs twice is told once */
    int32_t next, told; /* told: the topic that is being changed */
    struct meta_change change;
};

static void refuse(told_topic *t, int16_t code, struct wire_str message)
{
    t->error_code = code;
    t->error_message = message;
}

static void job_step(struct grow_job *job);

static void on_grown(struct meta_change *change)
{
    struct grow_job *job = container_of(change, struct grow_job, change);
    int16_t code = admin_error_of(change->rc);
    if (code != KAFKA_NONE)
        refuse(&job->res.results[job->told], code, wire_str_of(admin_error_text(code)));
    job_step(job);
}

/* 0, or -1 with the error in *t; ret_leaders: of the new partitions, NULL when not given. */
static int assignments_check(struct grow_job *job, const asked_topic *a, int32_t added,
                             told_topic *t, int32_t **ret_leaders)
{
    struct request *r = job->r;
    if (a->assignments_n < 0)
        return 0;
    if (a->assignments_n != added) {
        refuse(t, KAFKA_INVALID_REPLICA_ASSIGNMENT,
               admin_text(r,
                          "Attempted to add %d additional partition(s), but only %d "
                          "assignment(s) were specified.",
                          added, a->assignments_n));
        return -1;
    }
    int32_t *leaders = arena_array(&r->arena, (size_t)added, sizeof(*leaders));
    for (int32_t i = 0; leaders != NULL && i < added; i++) {
        const struct create_partitions_request_create_partitions_assignment *as =
            &a->assignments[i];
        const char *wrong =
            admin_replicas_check(r->shard->broker, as->broker_ids, as->broker_ids_n);
        if (wrong != NULL) {
            refuse(t, KAFKA_INVALID_REPLICA_ASSIGNMENT,
                   admin_text(r, "The assignment has %s.", wrong));
            return -1;
        }
        leaders[i] = as->broker_ids[0];
    }
    if (leaders == NULL) {
        refuse(t, KAFKA_UNKNOWN_SERVER_ERROR, wire_str_of("No memory."));
        return -1;
    }
    *ret_leaders = leaders;
    return 0;
}

/* True: the change is under way. */
static bool topic_grow(struct grow_job *job, int32_t told)
{
    const asked_topic *a = &job->req->topics[job->asked_of[told]];
    told_topic *t = &job->res.results[told];
    struct request *r = job->r;
    if (t->error_code != KAFKA_NONE)
        return false;
    const struct meta_topic *topic = net_topic(r->shard, a->name, NULL);
    if (topic == NULL) {
        refuse(t, KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
               wire_str_of(admin_error_text(KAFKA_UNKNOWN_TOPIC_OR_PARTITION)));
        return false;
    }
    if (a->count <= topic->partitions_n || a->count > META_PARTITIONS_MAX) {
        refuse(t, KAFKA_INVALID_PARTITIONS,
               a->count == topic->partitions_n
                   ? admin_text(r, "Topic already has %d partition(s).", a->count)
                   : admin_text(r,
                                "The topic %.*s currently has %d partition(s); %d would not be %s.",
                                a->name.len, a->name.p, topic->partitions_n, a->count,
                                a->count < topic->partitions_n ? "an increase" : "possible"));
        return false;
    }
    int32_t *leaders = NULL;
    if (assignments_check(job, a, a->count - topic->partitions_n, t, &leaders) < 0)
        return false;
    if (job->req->validate_only)
        return false;
    job->told = told;
    job->change = (struct meta_change){.kind = CHANGE_PARTITIONS_ADD,
                                       .name = admin_name(r, a->name),
                                       .partitions_n = a->count,
                                       .leaders = leaders};
    if (job->change.name == NULL) {
        refuse(t, KAFKA_UNKNOWN_SERVER_ERROR, wire_str_of("No memory."));
        return false;
    }
    shard_meta_change(r->shard, &job->change, on_grown);
    return true;
}

static void job_step(struct grow_job *job)
{
    while (job->next < job->res.results_n)
        if (topic_grow(job, job->next++))
            return;
    request_reply(job->r, &job->res);
}

static int results_prepare(struct grow_job *job)
{
    struct request *r = job->r;
    int32_t n = job->req->topics_n;
    size_t room = (size_t)MAX(n, 1);
    struct wire_str *names = arena_array(&r->arena, room, sizeof(*names));
    uint8_t *marks = arena_alloc(&r->arena, room);
    job->asked_of = arena_array(&r->arena, room, sizeof(*job->asked_of));
    job->res.results =
        wire_new_array(&create_partitions_response_create_partitions_topic_result_schema, &r->arena,
                       (int32_t)room);
    if (names == NULL || marks == NULL || job->asked_of == NULL || job->res.results == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++)
        names[i] = job->req->topics[i].name;
    if (admin_mark_duplicates(r, names, n, marks) < 0)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        if (marks[i] == 2)
            continue;
        told_topic *t = &job->res.results[job->res.results_n];
        job->asked_of[job->res.results_n++] = i;
        t->name = names[i];
        if (marks[i] == 1)
            refuse(t, KAFKA_INVALID_REQUEST, wire_str_of("Duplicate topic name."));
    }
    return 0;
}

void create_partitions_handle(struct request *r, void *body)
{
    struct grow_job *job = request_alloc(r, sizeof(*job));
    if (job != NULL) {
        job->r = r;
        job->req = body;
        wire_set_defaults(&create_partitions_response_schema, &job->res);
    }
    if (job == NULL || results_prepare(job) < 0) {
        request_fail(r, "no memory");
        return;
    }
    job_step(job);
}
