/* OffsetDelete, key 47: a group forgets how far it has read topics that it does not read. */
#include "core/base/bytes.h"
#include "net/api/group_shard.h"

typedef struct offset_delete_request_offset_delete_request_topic asked_topic;
typedef struct offset_delete_response_offset_delete_response_topic told_topic;

struct offset_delete_call {
    struct group_call call;
    struct group_item item;
    struct group_offset_delete del;
    struct offset_delete_response response;
};

static void on_deleted(struct group_offset_delete *del)
{
    struct offset_delete_call *d = container_of(del, struct offset_delete_call, del);
    d->item.fan.error = group_error_code(del->error);
    group_item_done(&d->item);
}

static void delete_run(struct group_item *item, struct group_coord *c)
{
    group_offset_delete(c, &container_of(item, struct offset_delete_call, item)->del);
}

static void delete_reply(struct group_call *call)
{
    struct offset_delete_call *d = container_of(call, struct offset_delete_call, call);
    const struct group_offset_delete_item *item = d->del.items;
    d->response.error_code = d->item.fan.error;
    if (d->item.fan.error != KAFKA_NONE)
        d->response.topics_n = 0;
    for (int32_t t = 0; t < d->response.topics_n; t++)
        for (int32_t i = 0; i < d->response.topics[t].partitions_n; i++, item++)
            d->response.topics[t].partitions[i].error_code = group_error_code(item->error);
    request_reply(call->fan.r, &d->response);
}

static bool topic_prepare(struct offset_delete_call *d, struct request *r, const asked_topic *asked,
                          told_topic *told)
{
    const struct meta_topic *topic = net_topic(r->shard, asked->name, NULL);
    told->name = asked->name;
    told->partitions_n = MAX(asked->partitions_n, 0);
    told->partitions =
        wire_new_array(&offset_delete_response_offset_delete_response_partition_schema, &r->arena,
                       told->partitions_n);
    if (told->partitions == NULL)
        return false;
    for (int32_t i = 0; i < told->partitions_n; i++) {
        int32_t index = asked->partitions[i].partition_index;
        bool is_there = topic != NULL && index >= 0 && index < topic->partitions_n;
        told->partitions[i].partition_index = index;
        d->del.items[d->del.items_n++] = (struct group_offset_delete_item){
            group_str_of(asked->name), index, is_there ? GROUP_OK : GROUP_UNKNOWN_TOPIC};
    }
    return true;
}

static bool call_prepare(struct offset_delete_call *d, struct request *r,
                         const struct offset_delete_request *req)
{
    size_t items_n = 0;
    for (int32_t t = 0; t < req->topics_n; t++)
        items_n += (size_t)MAX(req->topics[t].partitions_n, 0);
    wire_set_defaults(&offset_delete_response_schema, &d->response);
    d->response.topics_n = MAX(req->topics_n, 0);
    d->response.topics = wire_new_array(&offset_delete_response_offset_delete_response_topic_schema,
                                        &r->arena, d->response.topics_n);
    d->del.items = arena_array(&r->arena, MAX(items_n, (size_t)1), sizeof(*d->del.items));
    if (d->response.topics == NULL || d->del.items == NULL)
        return false;
    for (int32_t t = 0; t < d->response.topics_n; t++)
        if (!topic_prepare(d, r, &req->topics[t], &d->response.topics[t]))
            return false;
    return true;
}

void offset_delete_handle(struct request *r, void *body)
{
    const struct offset_delete_request *req = body;
    struct offset_delete_call *d = request_alloc(r, sizeof(*d));
    if (d == NULL || !call_prepare(d, r, req)) {
        request_fail(r, "no memory");
        return;
    }
    d->call.run = delete_run;
    d->call.reply = delete_reply;
    d->del.group = group_str_of(req->group_id);
    d->del.on_done = on_deleted;
    group_call_one(&d->call, r, &d->item, req->group_id);
}
