/* AlterConfigs, key 33: all that is set of a resource at once; IncrementalAlterConfigs, key 44:
 * some of it. One resource after the other; each is changed whole or not at all. */
#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"
#include "net/api/config_alter.h"

struct alter_job {
    struct request *r;
    struct config_alter *alters;
    int32_t alters_n, next;
    void (*reply)(struct alter_job *job);
};

static void job_step(struct alter_job *job);

static void on_altered(struct config_alter *a)
{
    job_step(a->caller);
}

static void job_step(struct alter_job *job)
{
    while (job->next < job->alters_n) {
        struct config_alter *a = &job->alters[job->next++];
        if (a->error_code == KAFKA_NONE && config_alter_start(a, on_altered))
            return;
    }
    job->reply(job);
}

/* The type and the name, as one key. */
static struct wire_str resource_key(struct request *r, const struct config_alter *a)
{
    size_t len = (size_t)MAX(a->name.len, 0);
    char *key = arena_alloc(&r->arena, len + 1);
    if (key == NULL)
        return wire_str_of(NULL);
    key[0] = (char)a->type;
    if (len > 0)
        memcpy(key + 1, a->name.p, len);
    return (struct wire_str){key, (int32_t)len + 1};
}

static int duplicates_refuse(struct alter_job *job)
{
    struct request *r = job->r;
    size_t room = (size_t)MAX(job->alters_n, 1);
    struct wire_str *keys = arena_array(&r->arena, room, sizeof(*keys));
    uint8_t *marks = arena_alloc(&r->arena, room);
    if (keys == NULL || marks == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < job->alters_n; i++) {
        keys[i] = resource_key(r, &job->alters[i]);
        if (keys[i].len < 0)
            return -ENOMEM;
    }
    if (admin_mark_duplicates(r, keys, job->alters_n, marks) < 0)
        return -ENOMEM;
    for (int32_t i = 0; i < job->alters_n; i++) {
        if (marks[i] == 0)
            continue;
        job->alters[i].error_code = KAFKA_INVALID_REQUEST;
        job->alters[i].message = wire_str_of("Each resource must appear at most once.");
    }
    return 0;
}

/* NULL: no memory. */
static struct alter_job *job_make(struct request *r, int32_t n, void (*reply)(struct alter_job *))
{
    struct alter_job *job = request_alloc(r, sizeof(*job));
    if (job == NULL)
        return NULL;
    *job = (struct alter_job){.r = r, .alters_n = MAX(n, 0), .reply = reply};
    job->alters = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*job->alters));
    return job->alters == NULL ? NULL : job;
}

static struct config_alter alter_of(struct alter_job *job, int8_t type, struct wire_str name,
                                    int32_t ops_n, bool validate_only)
{
    return (struct config_alter){
        .r = job->r,
        .caller = job,
        .type = type,
        .name = name,
        .ops = arena_array(&job->r->arena, (size_t)MAX(ops_n, 1), sizeof(struct config_op)),
        .ops_n = MAX(ops_n, 0),
        .validate_only = validate_only,
    };
}

/* job: NULL when there was no memory for it. */
static void job_start(struct request *r, struct alter_job *job)
{
    bool no_memory = job == NULL;
    for (int32_t i = 0; !no_memory && i < job->alters_n; i++)
        no_memory = job->alters[i].ops == NULL;
    if (no_memory || duplicates_refuse(job) < 0) {
        request_fail(r, "no memory");
        return;
    }
    job_step(job);
}

/* ---- key 44 ---- */

static void incremental_reply(struct alter_job *job)
{
    struct incremental_alter_configs_response res;
    wire_set_defaults(&incremental_alter_configs_response_schema, &res);
    res.responses =
        wire_new_array(&incremental_alter_configs_response_alter_configs_resource_response_schema,
                       &job->r->arena, job->alters_n);
    if (res.responses == NULL) {
        request_fail(job->r, "no memory");
        return;
    }
    res.responses_n = job->alters_n;
    for (int32_t i = 0; i < job->alters_n; i++) {
        const struct config_alter *a = &job->alters[i];
        res.responses[i].error_code = a->error_code;
        res.responses[i].error_message = a->message;
        res.responses[i].resource_type = a->type;
        res.responses[i].resource_name = a->name;
    }
    request_reply(job->r, &res);
}

void incremental_alter_configs_handle(struct request *r, void *body)
{
    const struct incremental_alter_configs_request *req = body;
    struct alter_job *job = job_make(r, req->resources_n, incremental_reply);
    for (int32_t i = 0; job != NULL && i < job->alters_n; i++) {
        const struct incremental_alter_configs_request_alter_configs_resource *asked =
            &req->resources[i];
        struct config_alter *a = &job->alters[i];
        *a = alter_of(job, asked->resource_type, asked->resource_name, asked->configs_n,
                      req->validate_only);
        for (int32_t k = 0; a->ops != NULL && k < a->ops_n; k++)
            a->ops[k] = (struct config_op){.name = asked->configs[k].name,
                                           .value = asked->configs[k].value,
                                           .kind = asked->configs[k].config_operation};
    }
    job_start(r, job);
}

/* ---- key 33 ---- */

static void full_reply(struct alter_job *job)
{
    struct alter_configs_response res;
    wire_set_defaults(&alter_configs_response_schema, &res);
    res.responses = wire_new_array(&alter_configs_response_alter_configs_resource_response_schema,
                                   &job->r->arena, job->alters_n);
    if (res.responses == NULL) {
        request_fail(job->r, "no memory");
        return;
    }
    res.responses_n = job->alters_n;
    for (int32_t i = 0; i < job->alters_n; i++) {
        const struct config_alter *a = &job->alters[i];
        res.responses[i].error_code = a->error_code;
        res.responses[i].error_message = a->message;
        res.responses[i].resource_type = a->type;
        res.responses[i].resource_name = a->name;
    }
    request_reply(job->r, &res);
}

void alter_configs_handle(struct request *r, void *body)
{
    const struct alter_configs_request *req = body;
    struct alter_job *job = job_make(r, req->resources_n, full_reply);
    for (int32_t i = 0; job != NULL && i < job->alters_n; i++) {
        const struct alter_configs_request_alter_configs_resource *asked = &req->resources[i];
        struct config_alter *a = &job->alters[i];
        *a = alter_of(job, asked->resource_type, asked->resource_name, asked->configs_n,
                      req->validate_only);
        a->replace = true;
        for (int32_t k = 0; a->ops != NULL && k < a->ops_n; k++)
            a->ops[k] = (struct config_op){.name = asked->configs[k].name,
                                           .value = asked->configs[k].value,
                                           .kind = CONFIG_SET};
    }
    job_start(r, job);
}
