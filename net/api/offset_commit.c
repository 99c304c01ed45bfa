/* OffsetCommit, key 8: how far a group has read; answered when that is on stable storage. */
#include "core/base/bytes.h"
#include "net/api/group_shard.h"

#define VERSION_RETENTION_LAST 4
#define VERSION_GROUP_NOT_FOUND 9
#define VERSION_TOPIC_ID 10

typedef struct offset_commit_request_offset_commit_request_topic asked_topic;
typedef struct offset_commit_response_offset_commit_response_topic told_topic;
typedef struct offset_commit_response_offset_commit_response_partition told_partition;

struct commit_call {
    struct group_call call;
    struct group_item item;
    struct group_commit commit;
    const struct offset_commit_request *asked;
    struct offset_commit_response response;
};

static void on_committed(struct group_commit *m)
{
    struct commit_call *c = container_of(m, struct commit_call, commit);
    c->item.fan.error =
        m->error == GROUP_TOO_LARGE ? KAFKA_INVALID_COMMIT_OFFSET_SIZE : group_error_code(m->error);
    group_item_done(&c->item);
}

static void commit_run(struct group_item *item, struct group_coord *c)
{
    group_commit(c, &container_of(item, struct commit_call, item)->commit);
}

static void commit_reply(struct group_call *call)
{
    struct commit_call *c = container_of(call, struct commit_call, call);
    const struct group_commit_item *item = c->commit.items;
    bool by_id = call->fan.r->version >= VERSION_TOPIC_ID;
    for (int32_t t = 0; t < c->response.topics_n; t++) {
        told_topic *told = &c->response.topics[t];
        for (int32_t i = 0; i < told->partitions_n; i++, item++) {
            int16_t code = c->item.fan.error;
            if (code == KAFKA_NONE)
                code = group_error_code(item->error);
            if (by_id && item->topic.len < 0)
                code = KAFKA_UNKNOWN_TOPIC_ID;
            told->partitions[i].error_code = code;
        }
    }
    request_reply(call->fan.r, &c->response);
}

/* Its name in the request's own memory: images come and go. -1: there is no such id. */
static struct group_str topic_name(struct request *r, const asked_topic *asked)
{
    if (r->version < VERSION_TOPIC_ID)
        return group_str_of(asked->name);
    const struct meta_topic *topic =
        net_topic(r->shard, (struct wire_str){NULL, -1}, &asked->topic_id);
    return group_str_of(wire_str_of(topic == NULL ? NULL : arena_strdup(&r->arena, topic->name)));
}

static bool topic_prepare(struct commit_call *c, struct request *r, const asked_topic *asked,
                          told_topic *told)
{
    struct group_str name = topic_name(r, asked);
    told->name = asked->name;
    told->topic_id = asked->topic_id;
    told->partitions_n = MAX(asked->partitions_n, 0);
    told->partitions =
        wire_new_array(&offset_commit_response_offset_commit_response_partition_schema, &r->arena,
                       told->partitions_n);
    if (told->partitions == NULL)
        return false;
    for (int32_t i = 0; i < told->partitions_n; i++) {
        told->partitions[i].partition_index = asked->partitions[i].partition_index;
        c->commit.items[c->commit.items_n++] = (struct group_commit_item){
            .topic = name,
            .partition = asked->partitions[i].partition_index,
            .value = {.offset = asked->partitions[i].committed_offset,
                      .leader_epoch = asked->partitions[i].committed_leader_epoch,
                      .metadata = group_str_of(asked->partitions[i].committed_metadata)},
        };
    }
    return true;
}

static bool call_prepare(struct commit_call *c, struct request *r,
                         const struct offset_commit_request *req)
{
    size_t items_n = 0;
    for (int32_t t = 0; t < req->topics_n; t++)
        items_n += (size_t)MAX(req->topics[t].partitions_n, 0);
    wire_set_defaults(&offset_commit_response_schema, &c->response);
    c->response.topics_n = MAX(req->topics_n, 0);
    c->response.topics = wire_new_array(&offset_commit_response_offset_commit_response_topic_schema,
                                        &r->arena, c->response.topics_n);
    c->commit.items = arena_array(&r->arena, MAX(items_n, (size_t)1), sizeof(*c->commit.items));
    if (c->response.topics == NULL || c->commit.items == NULL)
        return false;
    for (int32_t t = 0; t < c->response.topics_n; t++)
        if (!topic_prepare(c, r, &req->topics[t], &c->response.topics[t]))
            return false;
    return true;
}

void offset_commit_handle(struct request *r, void *body)
{
    const struct offset_commit_request *req = body;
    struct commit_call *c = request_alloc(r, sizeof(*c));
    if (c == NULL || !call_prepare(c, r, req)) {
        request_fail(r, "no memory");
        return;
    }
    c->call.run = commit_run;
    c->call.reply = commit_reply;
    c->commit.who = (struct group_identity){
        group_str_of(req->group_id), group_str_of(req->member_id),
        group_str_of(req->group_instance_id), req->generation_id_or_member_epoch};
    c->commit.retention_ms = r->version <= VERSION_RETENTION_LAST ? req->retention_time_ms : -1;
    c->commit.tells_unknown = r->version >= VERSION_GROUP_NOT_FOUND;
    c->commit.on_done = on_committed;
    group_call_one(&c->call, r, &c->item, req->group_id);
}
