#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"

typedef struct delete_topics_response_deletable_topic_result told_topic;

struct delete_job {
    struct request *r;
    struct delete_topics_response res;
    int32_t next, told; /* told: the topic that is being deleted */
    struct meta_change change;
};

static void refuse(told_topic *t, int16_t code, const char *message)
{
    t->error_code = code;
    t->error_message = wire_str_of(message);
}

static void job_step(struct delete_job *job);

static void on_deleted(struct meta_change *change)
{
    struct delete_job *job = container_of(change, struct delete_job, change);
    told_topic *t = &job->res.responses[job->told];
    int16_t code = admin_error_of(change->rc);
    if (code != KAFKA_NONE)
        refuse(t, code, admin_error_text(code));
    job_step(job);
}

/* True: the change is under way. */
static bool topic_delete(struct delete_job *job, int32_t told)
{
    struct shard *s = job->r->shard;
    told_topic *t = &job->res.responses[told];
    if (t->error_code != KAFKA_NONE)
        return false;
    bool by_id = t->name.len < 0;
    const struct meta_topic *topic = net_topic(s, t->name, by_id ? &t->topic_id : NULL);
    if (topic == NULL) {
        int16_t code = by_id ? KAFKA_UNKNOWN_TOPIC_ID : KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
        refuse(t, code, admin_error_text(code));
        return false;
    }
    if (by_id) /* a copy: the topic's memory goes with it */
        t->name = wire_str_of(arena_strdup(&job->r->arena, topic->name));
    memcpy(t->topic_id.b, topic->id.b, sizeof(t->topic_id.b));
    job->told = told;
    job->change = (struct meta_change){.kind = CHANGE_TOPIC_DELETE, .id = topic->id};
    shard_meta_change(s, &job->change, on_deleted);
    return true;
}

static void job_step(struct delete_job *job)
{
    while (job->next < job->res.responses_n)
        if (topic_delete(job, job->next++))
            return;
    request_reply(job->r, &job->res);
}

/* ---- the request ---- */

/* What tells two entries apart: the topic's id, or, when there is no such topic, what was given. */
static struct wire_str identity(const struct shard *s, const told_topic *t)
{
    bool by_id = t->name.len < 0;
    const struct meta_topic *topic = net_topic(s, t->name, by_id ? &t->topic_id : NULL);
    if (topic != NULL)
        return (struct wire_str){(const char *)topic->id.b, sizeof(topic->id.b)};
    if (by_id)
        return (struct wire_str){(const char *)t->topic_id.b, sizeof(t->topic_id.b)};
    return t->name;
}

static void given_check(told_topic *t)
{
    struct meta_uuid id;
    memcpy(id.b, t->topic_id.b, sizeof(id.b));
    if ((t->name.len < 0) == meta_uuid_is_zero(&id))
        refuse(t, KAFKA_INVALID_REQUEST, "Exactly one of topic name and topic ID must be given.");
}

static void all_refuse_disabled(struct delete_job *job)
{
    int16_t code = job->r->version >= 3 ? KAFKA_TOPIC_DELETION_DISABLED : KAFKA_INVALID_REQUEST;
    for (int32_t i = 0; i < job->res.responses_n; i++)
        refuse(&job->res.responses[i], code, "Topic deletion is disabled.");
}

static int duplicates_refuse(struct delete_job *job)
{
    struct request *r = job->r;
    int32_t n = job->res.responses_n, kept = 0;
    told_topic *told = job->res.responses;
    struct wire_str *keys = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*keys));
    uint8_t *marks = arena_alloc(&r->arena, (size_t)MAX(n, 1));
    if (keys == NULL || marks == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++)
        keys[i] = told[i].error_code == KAFKA_NONE ? identity(r->shard, &told[i])
                                                   : wire_str_of(NULL); /* refused already */
    if (admin_mark_duplicates(r, keys, n, marks) < 0)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        if (marks[i] == 2 && told[i].error_code == KAFKA_NONE)
            continue;
        if (marks[i] == 1 && told[i].error_code == KAFKA_NONE)
            refuse(&told[i], KAFKA_INVALID_REQUEST, "Duplicate topic.");
        told[kept++] = told[i];
    }
    job->res.responses_n = kept;
    return 0;
}

static int results_prepare(struct delete_job *job, const struct delete_topics_request *req)
{
    struct request *r = job->r;
    int32_t n = r->version >= 6 ? req->topics_n : req->topic_names_n;
    job->res.responses =
        wire_new_array(&delete_topics_response_deletable_topic_result_schema, &r->arena, MAX(n, 1));
    if (job->res.responses == NULL)
        return -ENOMEM;
    job->res.responses_n = n;
    for (int32_t i = 0; i < n; i++) {
        told_topic *t = &job->res.responses[i];
        if (r->version >= 6) {
            t->name = req->topics[i].name;
            t->topic_id = req->topics[i].topic_id;
            given_check(t);
        } else {
            t->name = req->topic_names[i];
        }
    }
    if (!r->shard->broker->delete_topics_enabled)
        all_refuse_disabled(job);
    return duplicates_refuse(job);
}

void delete_topics_handle(struct request *r, void *body)
{
    struct delete_job *job = request_alloc(r, sizeof(*job));
    if (job != NULL) {
        job->r = r;
        wire_set_defaults(&delete_topics_response_schema, &job->res);
    }
    if (job == NULL || results_prepare(job, body) < 0) {
        request_fail(r, "no memory");
        return;
    }
    job_step(job);
}
