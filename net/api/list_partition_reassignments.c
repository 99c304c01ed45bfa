/* ListPartitionReassignments, key 46: the partitions that move from one node to another just now.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"

typedef struct list_partition_reassignments_request_list_partition_reassignments_topics asked_topic;
typedef struct list_partition_reassignments_response_ongoing_topic_reassignment told_topic;
typedef struct list_partition_reassignments_response_ongoing_partition_reassignment told_partition;

struct list_job {
    struct request *r;
    const struct list_partition_reassignments_request *req;
    struct list_partition_reassignments_response res;
    struct shard_moves call;
};

static bool is_asked(const struct list_job *job, const struct meta_topic *topic, int32_t index)
{
    for (int32_t t = 0; t < job->req->topics_n; t++) {
        const asked_topic *a = &job->req->topics[t];
        if (net_topic(job->r->shard, a->name, NULL) != topic)
            continue;
        for (int32_t i = 0; i < a->partition_indexes_n; i++)
            if (a->partition_indexes[i] == index)
                return true;
    }
    return job->req->topics_n < 0;
}

static int32_t *nodes_of(struct request *r, int32_t first, int32_t second, int32_t n)
{
    int32_t *nodes = arena_array(&r->arena, 2, sizeof(*nodes));
    if (nodes == NULL)
        return NULL;
    nodes[0] = first;
    nodes[n - 1] = n == 1 ? first : second;
    return nodes;
}

static int partition_tell(struct request *r, const struct shard_move *m, told_partition *t)
{
    t->partition_index = m->index;
    t->replicas = nodes_of(r, m->node, m->from, 2);
    t->adding_replicas = nodes_of(r, m->node, 0, 1);
    t->removing_replicas = nodes_of(r, m->from, 0, 1);
    if (t->replicas == NULL || t->adding_replicas == NULL || t->removing_replicas == NULL)
        return -ENOMEM;
    t->replicas_n = 2;
    t->adding_replicas_n = t->removing_replicas_n = 1;
    return 0;
}

static int compare_moves(const void *a, const void *b)
{
    const struct shard_move *x = a, *y = b;
    int by_topic = memcmp(&x->topic, &y->topic, sizeof(x->topic));
    return by_topic != 0 ? by_topic : (x->index > y->index) - (x->index < y->index);
}

/* The moves from *at on that are of one topic. */
static int topic_tell(struct list_job *job, uint32_t *at)
{
    struct request *r = job->r;
    const struct shard_move *moves = job->call.moves;
    uint32_t from = *at, n = job->call.moves_n;
    const struct meta_topic *topic = meta_topic_by_id(r->shard->meta, &moves[from].topic);
    while (*at < n && memcmp(&moves[*at].topic, &moves[from].topic, sizeof(moves->topic)) == 0)
        ++*at;
    if (topic == NULL)
        return 0;
    told_topic *t = &job->res.topics[job->res.topics_n];
    t->name = wire_str_of(topic->name); /* the answer is encoded before this returns to the loop */
    t->partitions =
        wire_new_array(&list_partition_reassignments_response_ongoing_partition_reassignment_schema,
                       &r->arena, (int32_t)(*at - from));
    if (t->partitions == NULL)
        return -ENOMEM;
    int rc = 0;
    for (uint32_t i = from; rc == 0 && i < *at; i++)
        if (is_asked(job, topic, moves[i].index))
            rc = partition_tell(r, &moves[i], &t->partitions[t->partitions_n++]);
    job->res.topics_n += t->partitions_n > 0;
    return rc;
}

static int moves_tell(struct list_job *job)
{
    uint32_t n = job->call.moves_n;
    if (job->call.moves == NULL)
        return -ENOMEM;
    qsort(job->call.moves, n, sizeof(*job->call.moves), compare_moves);
    job->res.topics =
        wire_new_array(&list_partition_reassignments_response_ongoing_topic_reassignment_schema,
                       &job->r->arena, (int32_t)n);
    int rc = job->res.topics == NULL ? -ENOMEM : 0;
    for (uint32_t at = 0; rc == 0 && at < n;)
        rc = topic_tell(job, &at);
    return rc;
}

static void on_listed(struct shard_moves *call)
{
    struct list_job *job = container_of(call, struct list_job, call);
    int rc = moves_tell(job);
    free(call->moves);
    if (rc < 0)
        request_fail(job->r, "no memory");
    else
        request_reply(job->r, &job->res);
}

void list_partition_reassignments_handle(struct request *r, void *body)
{
    struct list_job *job = request_alloc(r, sizeof(*job));
    if (job == NULL) {
        request_fail(r, "no memory");
        return;
    }
    job->r = r;
    job->req = body;
    wire_set_defaults(&list_partition_reassignments_response_schema, &job->res);
    job->res.error_message = wire_str_of(NULL);
    shard_moves_list(r->shard, &job->call, on_listed);
}
