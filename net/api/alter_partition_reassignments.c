/* AlterPartitionReassignments, key 45: partitions move from one node to another, or stay after all.
 * Answered when all that can move is under way; ListPartitionReassignments says what still is. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"

#define REPLICAS_MAX 1000 /* longer lists name somebody twice in any case */

typedef struct alter_partition_reassignments_request_reassignable_topic asked_topic;
typedef struct alter_partition_reassignments_request_reassignable_partition asked_partition;
typedef struct alter_partition_reassignments_response_reassignable_topic_response told_topic;
typedef struct alter_partition_reassignments_response_reassignable_partition_response
    told_partition;

struct alter_job {
    struct request *r;
    const struct alter_partition_reassignments_request *req;
    struct alter_partition_reassignments_response res;
    struct shard_moves call;
    told_partition **told; /* of each move */
};

static void refuse(told_partition *t, int16_t code, struct wire_str message)
{
    t->error_code = code;
    t->error_message = message;
}

static int compare_i32(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* In Kafka's words, and about the broker that it would name: the smallest. */
static struct wire_str replicas_wrong(struct request *r, const asked_partition *a)
{
    int32_t sorted[REPLICAS_MAX], n = MIN(a->replicas_n, REPLICAS_MAX);
    if (n == 0)
        return wire_str_of("The manual partition assignment includes an empty replica list.");
    for (int32_t i = 0; i < n; i++)
        sorted[i] = a->replicas[i];
    qsort(sorted, (size_t)n, sizeof(*sorted), compare_i32);
    for (int32_t i = 0; i < n; i++) {
        if (broker_node_by_id(r->shard->broker, sorted[i]) == NULL)
            return admin_text(r,
                              "The manual partition assignment includes broker %d, but no such "
                              "broker is registered.",
                              sorted[i]);
        if (i > 0 && sorted[i - 1] == sorted[i])
            return admin_text(
                r, "The manual partition assignment includes the broker %d more than once.",
                sorted[i]);
    }
    return wire_str_of(NULL);
}

/* False: it is told what is wrong. */
static bool partition_check(struct alter_job *job, const struct meta_topic *topic,
                            const asked_topic *of, const asked_partition *a, told_partition *t)
{
    struct request *r = job->r;
    if (topic == NULL) {
        refuse(
            t, KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
            admin_text(r, "Unable to find a topic named %.*s.", MAX(of->name.len, 0), of->name.p));
        return false;
    }
    if (a->partition_index < 0 || a->partition_index >= topic->partitions_n) {
        refuse(t, KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
               admin_text(r, "Unable to find partition %.*s:%d.", MAX(of->name.len, 0), of->name.p,
                          a->partition_index));
        return false;
    }
    if (a->replicas_n < 0) /* it is to stay */
        return true;
    struct wire_str wrong = replicas_wrong(r, a);
    if (wrong.len >= 0) {
        refuse(t, KAFKA_INVALID_REPLICA_ASSIGNMENT, wrong);
        return false;
    }
    if (a->replicas_n > 1 && !job->req->allow_replication_factor_change) {
        refuse(t, KAFKA_INVALID_REPLICATION_FACTOR,
               admin_text(r, "The replication factor is changed from 1 to %d", a->replicas_n));
        return false;
    }
    if (a->replicas_n > 1) {
        refuse(t, KAFKA_INVALID_REPLICA_ASSIGNMENT,
               admin_text(r, "A partition has one replica here, the assignment has %d.",
                          a->replicas_n));
        return false;
    }
    return true;
}

static int topic_check(struct alter_job *job, const asked_topic *a, told_topic *t)
{
    struct request *r = job->r;
    const struct meta_topic *topic = net_topic(r->shard, a->name, NULL);
    int32_t n = MAX(a->partitions_n, 0);
    t->name = a->name;
    t->partitions = wire_new_array(
        &alter_partition_reassignments_response_reassignable_partition_response_schema, &r->arena,
        n);
    if (t->partitions == NULL)
        return -ENOMEM;
    t->partitions_n = n;
    for (int32_t i = 0; i < n; i++) {
        const asked_partition *p = &a->partitions[i];
        told_partition *told = &t->partitions[i];
        told->partition_index = p->partition_index;
        told->error_message = wire_str_of(NULL);
        if (!partition_check(job, topic, a, p, told))
            continue;
        job->told[job->call.moves_n] = told;
        job->call.moves[job->call.moves_n++] =
            (struct shard_move){.topic = topic->id,
                                .index = p->partition_index,
                                .node = p->replicas_n < 0 ? -1 : p->replicas[0]};
    }
    return 0;
}

static int topics_check(struct alter_job *job)
{
    struct request *r = job->r;
    int32_t n = MAX(job->req->topics_n, 0);
    size_t moves_max = 0;
    for (int32_t i = 0; i < n; i++)
        moves_max += (size_t)MAX(job->req->topics[i].partitions_n, 0);
    job->call.moves = arena_array(&r->arena, MAX(moves_max, 1u), sizeof(*job->call.moves));
    job->told = arena_array(&r->arena, MAX(moves_max, 1u), sizeof(told_partition *));
    job->res.responses = wire_new_array(
        &alter_partition_reassignments_response_reassignable_topic_response_schema, &r->arena, n);
    if (job->call.moves == NULL || job->told == NULL || job->res.responses == NULL)
        return -ENOMEM;
    job->res.responses_n = n;
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < n; i++)
        rc = topic_check(job, &job->req->topics[i], &job->res.responses[i]);
    return rc;
}

static int16_t error_of_move(int rc)
{
    if (rc == -ENODATA)
        return KAFKA_NO_REASSIGNMENT_IN_PROGRESS;
    return rc == -EAGAIN ? KAFKA_REQUEST_TIMED_OUT : admin_error_of(rc);
}

static void on_asked(struct shard_moves *call)
{
    struct alter_job *job = container_of(call, struct alter_job, call);
    for (uint32_t i = 0; i < call->moves_n; i++) {
        int16_t code = error_of_move(call->moves[i].rc);
        if (code == KAFKA_NO_REASSIGNMENT_IN_PROGRESS)
            refuse(job->told[i], code, wire_str_of("No partition reassignment is in progress."));
        else if (code != KAFKA_NONE)
            refuse(job->told[i], code, wire_str_of(admin_error_text(code)));
    }
    request_reply(job->r, &job->res);
}

void alter_partition_reassignments_handle(struct request *r, void *body)
{
    struct alter_job *job = request_alloc(r, sizeof(*job));
    if (job == NULL) {
        request_fail(r, "no memory");
        return;
    }
    job->r = r;
    job->req = body;
    wire_set_defaults(&alter_partition_reassignments_response_schema, &job->res);
    job->res.error_message = wire_str_of(NULL);
    job->res.allow_replication_factor_change = job->req->allow_replication_factor_change;
    if (topics_check(job) < 0)
        request_fail(r, "no memory");
    else
        shard_moves_ask(r->shard, &job->call, on_asked);
}
