/* FindCoordinator, key 10: the node that leads the partition of __consumer_offsets that a group is
 * in; the topic is created when somebody asks first. There are no transactions and no share groups
 * yet. */
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"
#include "net/api/group_shard.h"

#define VERSION_MANY 4

enum { KEY_GROUP, KEY_TRANSACTION };

typedef struct find_coordinator_response_coordinator told_coordinator;

struct find_job {
    struct request *r;
    const struct find_coordinator_request *req;
    struct find_coordinator_response res;
    struct meta_change change;
};

/* As InitProducerId answers: both Java and librdkafka take it as final. */
static int16_t key_check(const struct find_job *job)
{
    if (job->req->key_type == KEY_GROUP)
        return KAFKA_NONE;
    return job->req->key_type == KEY_TRANSACTION ? KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                                                 : KAFKA_INVALID_REQUEST;
}

static const struct meta_topic *topic_of(const struct shard *s)
{
    return meta_topic_by_name(s->meta, GROUP_TOPIC_NAME, strlen(GROUP_TOPIC_NAME));
}

static void coordinator_tell(const struct find_job *job, struct wire_str key, told_coordinator *ret)
{
    const struct shard *s = job->r->shard;
    const struct meta_topic *topic = topic_of(s);
    ret->key = key;
    ret->node_id = ret->port = -1;
    ret->host = wire_str_of("");
    ret->error_code = key_check(job);
    int32_t at = topic == NULL ? 0 : group_partition_of(group_str_of(key), topic->partitions_n);
    bool available = topic != NULL && !shard_partition_offline(s, &topic->partitions[at]);
    if (ret->error_code == KAFKA_NONE && !available)
        ret->error_code = KAFKA_COORDINATOR_NOT_AVAILABLE;
    ret->error_message = wire_str_of(NULL);
    if (ret->error_code != KAFKA_NONE) {
        ret->error_message = wire_str_of(ret->error_code == KAFKA_COORDINATOR_NOT_AVAILABLE
                                             ? "The coordinator is not available."
                                             : "There are no coordinators of this type.");
        return;
    }
    const struct broker_node *node = net_node_of_shard(s, topic->partitions[at].shard);
    ret->node_id = node->node_id;
    ret->host = wire_str_of(node->host);
    ret->port = node->port;
}

static void one_answer(struct find_job *job)
{
    told_coordinator one;
    coordinator_tell(job, job->req->key, &one);
    job->res.error_code = one.error_code;
    job->res.error_message = one.error_message;
    job->res.node_id = one.node_id;
    job->res.host = one.host;
    job->res.port = one.port;
    request_reply(job->r, &job->res);
}

static void job_answer(struct find_job *job)
{
    struct request *r = job->r;
    int32_t n = MAX(job->req->coordinator_keys_n, 0);
    if (r->version < VERSION_MANY) {
        one_answer(job);
        return;
    }
    job->res.coordinators =
        wire_new_array(&find_coordinator_response_coordinator_schema, &r->arena, n);
    if (job->res.coordinators == NULL) {
        request_fail(r, "no memory");
        return;
    }
    job->res.coordinators_n = n;
    for (int32_t i = 0; i < n; i++)
        coordinator_tell(job, job->req->coordinator_keys[i], &job->res.coordinators[i]);
    request_reply(r, &job->res);
}

/* Whatever became of it, the answer tells: also somebody else may have created it meanwhile. */
static void on_created(struct meta_change *change)
{
    job_answer(container_of(change, struct find_job, change));
}

void find_coordinator_handle(struct request *r, void *body)
{
    struct find_job *job = request_alloc(r, sizeof(*job));
    if (job == NULL) {
        request_fail(r, "no memory");
        return;
    }
    job->r = r;
    job->req = body;
    wire_set_defaults(&find_coordinator_response_schema, &job->res);
    if (key_check(job) != KAFKA_NONE || topic_of(r->shard) != NULL || r->shard->stopping) {
        job_answer(job);
        return;
    }
    group_topic_change(r, &job->change);
    shard_meta_change(r->shard, &job->change, on_created);
}
