#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"
#include "net/api/group_shard.h"

typedef struct metadata_request_metadata_request_topic asked_topic;
typedef struct metadata_response_metadata_response_topic told_topic;
typedef struct metadata_response_metadata_response_partition told_partition;

/* Topics are created one after the other, and only then is the answer made, in one go: nothing of
 * an image is kept while others may change it. */
struct metadata_job {
    struct request *r;
    struct metadata_request *req;
    bool by_id, all;
    int32_t next; /* topic to look at for creation */
    struct meta_change change;
};

/* ---- the answer ---- */

static bool uuid_is_zero(const struct wire_uuid *id)
{
    struct meta_uuid uuid;
    memcpy(uuid.b, id->b, sizeof(uuid.b));
    return meta_uuid_is_zero(&uuid);
}

/* The node ids live in the broker's table, which nothing changes while shards run. Offline it stays
 * in the ISR, as the last that was. */
static void replicas_tell(told_partition *p, const struct broker_node *node, bool offline)
{
    p->leader_id = offline ? -1 : node->node_id;
    p->replica_nodes = p->isr_nodes = (int32_t *)(uintptr_t)&node->node_id;
    p->replica_nodes_n = p->isr_nodes_n = 1;
    if (offline) {
        p->error_code = KAFKA_LEADER_NOT_AVAILABLE;
        p->offline_replicas = p->replica_nodes;
        p->offline_replicas_n = 1;
    }
}

static int topic_tell(struct metadata_job *job, const struct meta_topic *topic, told_topic *ret)
{
    struct request *r = job->r;
    memcpy(ret->topic_id.b, topic->id.b, sizeof(ret->topic_id.b));
    /* Images come and go, but not within a turn, and the reply is encoded in this one. */
    ret->name = wire_str_of(topic->name);
    ret->is_internal = admin_topic_is_internal(ret->name);
    if (job->req->include_topic_authorized_operations)
        ret->topic_authorized_operations = ADMIN_TOPIC_OPERATIONS;
    ret->partitions = wire_new_array(&metadata_response_metadata_response_partition_schema,
                                     &r->arena, topic->partitions_n);
    if (ret->partitions == NULL)
        return -ENOMEM;
    ret->partitions_n = topic->partitions_n;
    for (int32_t i = 0; i < topic->partitions_n; i++) {
        told_partition *p = &ret->partitions[i];
        p->partition_index = i;
        p->leader_epoch = topic->partitions[i].leader_epoch;
        replicas_tell(p, net_node_of_shard(r->shard, topic->partitions[i].shard),
                      shard_partition_offline(r->shard, &topic->partitions[i]));
    }
    return 0;
}

static bool creates(const struct metadata_job *job)
{
    const struct shard *s = job->r->shard;
    return s->broker->auto_create_topics && !job->all && !job->by_id && !s->stopping &&
           (job->r->version < 4 || job->req->allow_auto_topic_creation);
}

/* Also a name that could not be created because of an existing one is told to be invalid: unknown
 * would make the client ask again for ever. */
static bool name_is_invalid(const struct metadata_job *job, struct wire_str name)
{
    char *text = admin_name(job->r, name);
    return text == NULL || meta_topic_name_check(text, strlen(text)) < 0 ||
           (creates(job) && meta_topic_name_collides(job->r->shard->meta, text));
}

static void topic_refuse(struct metadata_job *job, const asked_topic *asked, told_topic *ret)
{
    ret->topic_id = asked->topic_id;
    ret->name = asked->name;
    if (job->by_id) {
        ret->name = wire_str_of(NULL);
        ret->error_code = KAFKA_UNKNOWN_TOPIC_ID;
        return;
    }
    ret->is_internal = admin_topic_is_internal(asked->name);
    ret->error_code = name_is_invalid(job, asked->name) ? KAFKA_INVALID_TOPIC_EXCEPTION
                                                        : KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
}

static int named_tell(struct metadata_job *job, struct metadata_response *res)
{
    const struct metadata_request *req = job->req;
    res->topics = wire_new_array(&metadata_response_metadata_response_topic_schema, &job->r->arena,
                                 MAX(req->topics_n, 1));
    if (res->topics == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < req->topics_n; i++) {
        const asked_topic *asked = &req->topics[i];
        if (job->by_id && uuid_is_zero(&asked->topic_id))
            continue; /* ids and names mixed: the ids win */
        told_topic *told = &res->topics[res->topics_n++];
        const struct meta_topic *topic =
            net_topic(job->r->shard, asked->name, job->by_id ? &asked->topic_id : NULL);
        if (topic == NULL)
            topic_refuse(job, asked, told);
        else if (topic_tell(job, topic, told) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int all_tell(struct metadata_job *job, struct metadata_response *res)
{
    const struct meta_image *meta = job->r->shard->meta;
    res->topics = wire_new_array(&metadata_response_metadata_response_topic_schema, &job->r->arena,
                                 MAX((int32_t)meta->topics_n, 1));
    if (res->topics == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < meta->topics_n; i++)
        if (topic_tell(job, meta->topics[i], &res->topics[res->topics_n++]) < 0)
            return -ENOMEM;
    return 0;
}

static int brokers_tell(struct request *r, struct metadata_response *res)
{
    const struct broker *b = r->shard->broker;
    res->brokers = wire_new_array(&metadata_response_metadata_response_broker_schema, &r->arena,
                                  (int32_t)b->nodes_n);
    res->cluster_id = admin_cluster_id(r);
    if (res->brokers == NULL || res->cluster_id.len < 0)
        return -ENOMEM;
    res->brokers_n = (int32_t)b->nodes_n;
    for (unsigned i = 0; i < b->nodes_n; i++) {
        res->brokers[i].node_id = b->nodes[i].node_id;
        res->brokers[i].host = wire_str_of(b->nodes[i].host);
        res->brokers[i].port = b->nodes[i].port;
        res->brokers[i].rack = wire_str_of(b->rack);
    }
    res->controller_id = admin_controller_id(r->shard);
    return 0;
}

static void job_answer(struct metadata_job *job)
{
    struct request *r = job->r;
    struct metadata_response res;
    wire_set_defaults(&metadata_response_schema, &res);
    int rc = brokers_tell(r, &res);
    if (rc == 0)
        rc = job->all ? all_tell(job, &res) : named_tell(job, &res);
    if (rc < 0) {
        request_fail(r, "the answer needs more memory than a request may have");
        return;
    }
    if (job->req->include_cluster_authorized_operations)
        res.cluster_authorized_operations = ADMIN_CLUSTER_OPERATIONS;
    request_reply(r, &res);
}

/* ---- creation of what is asked for ---- */

static void job_step(struct metadata_job *job);

static void on_created(struct meta_change *change)
{
    /* Whatever became of it, the answer tells: also somebody else may have created it meanwhile. */
    job_step(container_of(change, struct metadata_job, change));
}

static bool wants_creation(struct metadata_job *job, const asked_topic *asked)
{
    const struct shard *s = job->r->shard;
    return asked->name.len > 0 && net_topic(s, asked->name, NULL) == NULL &&
           meta_topic_name_check(asked->name.p, (size_t)asked->name.len) == 0;
}

static void job_step(struct metadata_job *job)
{
    const struct metadata_request *req = job->req;
    const struct broker *b = job->r->shard->broker;
    while (creates(job) && job->next < req->topics_n) {
        const asked_topic *asked = &req->topics[job->next++];
        if (!wants_creation(job, asked))
            continue;
        job->change = (struct meta_change){.kind = CHANGE_TOPIC_CREATE,
                                           .name = admin_name(job->r, asked->name),
                                           .partitions_n = b->default_partitions};
        if (job->change.name == NULL)
            continue;
        if (strcmp(job->change.name, GROUP_TOPIC_NAME) == 0)
            group_topic_change(job->r, &job->change);
        shard_meta_change(job->r->shard, &job->change, on_created);
        return;
    }
    job_answer(job);
}

/* ---- the request ---- */

/* v10 and v11 have the fields for ids, but asking by id came with v12. */
static bool is_premature(const struct request *r, const struct metadata_request *req)
{
    if (r->version != 10 && r->version != 11)
        return false;
    for (int32_t i = 0; i < req->topics_n; i++)
        if (req->topics[i].name.len < 0 || !uuid_is_zero(&req->topics[i].topic_id))
            return true;
    return false;
}

static void refuse_all(struct metadata_job *job)
{
    struct request *r = job->r;
    struct metadata_response res;
    wire_set_defaults(&metadata_response_schema, &res);
    res.topics = wire_new_array(&metadata_response_metadata_response_topic_schema, &r->arena,
                                job->req->topics_n);
    if (res.topics == NULL || brokers_tell(r, &res) < 0) {
        request_fail(r, "no memory");
        return;
    }
    res.topics_n = job->req->topics_n;
    for (int32_t i = 0; i < res.topics_n; i++) {
        const asked_topic *asked = &job->req->topics[i];
        res.topics[i].error_code = KAFKA_INVALID_REQUEST;
        res.topics[i].topic_id = asked->topic_id;
        res.topics[i].name = asked->name.len < 0 ? wire_str_of("") : asked->name;
    }
    request_reply(r, &res);
}

void metadata_handle(struct request *r, void *body)
{
    struct metadata_request *req = body;
    struct metadata_job *job = request_alloc(r, sizeof(*job));
    if (job == NULL) {
        request_fail(r, "no memory");
        return;
    }
    job->r = r;
    job->req = req;
    job->all = req->topics_n < 0 || (r->version == 0 && req->topics_n == 0);
    for (int32_t i = 0; i < req->topics_n; i++)
        job->by_id = job->by_id || !uuid_is_zero(&req->topics[i].topic_id);
    if (is_premature(r, req))
        refuse_all(job);
    else
        job_step(job);
}
