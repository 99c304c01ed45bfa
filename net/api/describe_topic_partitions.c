/* DescribeTopicPartitions, key 75: topics by name, so many partitions at a time; where the next
 * request is to go on stands in the cursor. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"

#define PARTITIONS_MAX 2000 /* of one answer, as in Kafka */

typedef struct describe_topic_partitions_response_describe_topic_partitions_response_topic
    told_topic;
typedef struct describe_topic_partitions_response_describe_topic_partitions_response_partition
    told_partition;
typedef struct describe_topic_partitions_response_cursor told_cursor;

struct partitions_call {
    struct request *r;
    const struct describe_topic_partitions_request *req;
    struct describe_topic_partitions_response res;
    struct wire_str *names; /* sorted, each once, none before the cursor */
    int32_t names_n, left;  /* partitions that the answer has room for */
};

static int name_compare(const void *a, const void *b)
{
    const struct wire_str *x = a, *y = b;
    int32_t xlen = MAX(x->len, 0), ylen = MAX(y->len, 0);
    int c = MIN(xlen, ylen) > 0 ? memcmp(x->p, y->p, (size_t)MIN(xlen, ylen)) : 0;
    return c != 0 ? c : (xlen > ylen) - (xlen < ylen);
}

static void name_add(struct partitions_call *c, struct wire_str name)
{
    if (c->req->cursor == NULL || name_compare(&name, &c->req->cursor->topic_name) >= 0)
        c->names[c->names_n++] = name;
}

/* None asked for is all of them. */
static int names_collect(struct partitions_call *c)
{
    const struct meta_image *meta = c->r->shard->meta;
    bool all = c->req->topics_n <= 0;
    size_t room = all ? meta->topics_n : (size_t)c->req->topics_n;
    c->names = arena_array(&c->r->arena, MAX(room, (size_t)1), sizeof(*c->names));
    if (c->names == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < room; i++)
        name_add(c, all ? wire_str_of(meta->topics[i]->name) : c->req->topics[i].name);
    if (all)
        return 0;
    int32_t kept = 0;
    qsort(c->names, (size_t)c->names_n, sizeof(*c->names), name_compare);
    for (int32_t i = 0; i < c->names_n; i++)
        if (kept == 0 || name_compare(&c->names[kept - 1], &c->names[i]) != 0)
            c->names[kept++] = c->names[i];
    c->names_n = kept;
    return 0;
}

static int cursor_tell(struct partitions_call *c, struct wire_str topic, int32_t partition)
{
    told_cursor *cursor = wire_new(&describe_topic_partitions_response_cursor_schema, &c->r->arena);
    if (cursor == NULL)
        return -ENOMEM;
    cursor->topic_name = topic;
    cursor->partition_index = partition;
    c->res.next_cursor = cursor;
    return 0;
}

static void partition_tell(struct partitions_call *c, const struct meta_topic *topic, int32_t index,
                           told_partition *t)
{
    const struct meta_partition *p = &topic->partitions[index];
    const struct broker_node *node = net_node_of_shard(c->r->shard, p->shard);
    t->partition_index = index;
    t->leader_id = node->node_id;
    t->leader_epoch = p->leader_epoch;
    t->replica_nodes = t->isr_nodes = (int32_t *)(uintptr_t)&node->node_id;
    t->replica_nodes_n = t->isr_nodes_n = 1;
    if (shard_partition_offline(c->r->shard, p)) {
        t->error_code = KAFKA_LEADER_NOT_AVAILABLE;
        t->leader_id = -1;
        t->offline_replicas = t->replica_nodes;
        t->offline_replicas_n = 1;
    }
    t->eligible_leader_replicas_n = t->last_known_elr_n = 0; /* none, which is not unknown */
}

static void topic_refuse(told_topic *t, struct wire_str name)
{
    bool legal = name.len > 0 && meta_topic_name_check(name.p, (size_t)name.len) == 0;
    t->error_code = legal ? KAFKA_UNKNOWN_TOPIC_OR_PARTITION : KAFKA_INVALID_TOPIC_EXCEPTION;
}

static int topic_tell(struct partitions_call *c, struct wire_str name)
{
    const struct meta_topic *topic = net_topic(c->r->shard, name, NULL);
    told_topic *t = &c->res.topics[c->res.topics_n++];
    t->name = name;
    t->is_internal = admin_topic_is_internal(name);
    if (topic == NULL) {
        topic_refuse(t, name);
        return 0;
    }
    bool resumes = c->req->cursor != NULL && name_compare(&name, &c->req->cursor->topic_name) == 0;
    int32_t first = MIN(resumes ? c->req->cursor->partition_index : 0, topic->partitions_n);
    int32_t n = MIN(topic->partitions_n - first, c->left);
    memcpy(t->topic_id.b, topic->id.b, sizeof(t->topic_id.b));
    t->topic_authorized_operations = ADMIN_TOPIC_OPERATIONS;
    t->partitions = wire_new_array(
        &describe_topic_partitions_response_describe_topic_partitions_response_partition_schema,
        &c->r->arena, n);
    if (t->partitions == NULL)
        return -ENOMEM;
    t->partitions_n = n;
    for (int32_t i = 0; i < n; i++)
        partition_tell(c, topic, first + i, &t->partitions[i]);
    c->left -= n;
    return first + n < topic->partitions_n ? cursor_tell(c, name, first + n) : 0;
}

static int topics_tell(struct partitions_call *c)
{
    int rc = names_collect(c);
    if (rc < 0)
        return rc;
    c->res.topics = wire_new_array(
        &describe_topic_partitions_response_describe_topic_partitions_response_topic_schema,
        &c->r->arena, MAX(c->names_n, 1));
    if (c->res.topics == NULL)
        return -ENOMEM;
    for (int32_t i = 0; rc == 0 && i < c->names_n && c->res.next_cursor == NULL; i++)
        rc = c->left > 0 ? topic_tell(c, c->names[i]) : cursor_tell(c, c->names[i], 0);
    return rc;
}

/* As Kafka does: the error stands at each topic that was asked for. */
static int cursor_refuse(struct partitions_call *c)
{
    int32_t n = MAX(c->req->topics_n, 0);
    c->res.topics = wire_new_array(
        &describe_topic_partitions_response_describe_topic_partitions_response_topic_schema,
        &c->r->arena, n);
    if (c->res.topics == NULL)
        return -ENOMEM;
    c->res.topics_n = n;
    for (int32_t i = 0; i < n; i++) {
        c->res.topics[i].name = c->req->topics[i].name;
        c->res.topics[i].error_code = KAFKA_INVALID_REQUEST;
    }
    return 0;
}

void describe_topic_partitions_handle(struct request *r, void *body)
{
    struct partitions_call c = {.r = r, .req = body};
    c.left = MAX(MIN(c.req->response_partition_limit, PARTITIONS_MAX), 1);
    wire_set_defaults(&describe_topic_partitions_response_schema, &c.res);
    bool bad_cursor = c.req->cursor != NULL && c.req->cursor->partition_index < 0;
    if ((bad_cursor ? cursor_refuse(&c) : topics_tell(&c)) < 0)
        request_fail(r, "no memory");
    else
        request_reply(r, &c.res);
}
