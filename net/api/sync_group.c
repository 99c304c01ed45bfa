/* SyncGroup, key 14: the leader tells what each member gets, and each member asks for it. */
#include "core/base/bytes.h"
#include "net/api/group_shard.h"

#define VERSION_PROTOCOL 5

struct sync_call {
    struct group_call call;
    struct group_item item;
    struct group_sync sync;
    struct sync_group_response response;
};

static void on_synced(struct group_sync *sync)
{
    struct sync_call *s = container_of(sync, struct sync_call, sync);
    s->response.error_code = group_error_code(sync->error);
    s->response.protocol_type = group_told(&s->item, sync->chosen_type);
    s->response.protocol_name = group_told(&s->item, sync->chosen);
    s->response.assignment = group_told_bytes(&s->item, sync->assignment);
    group_item_done(&s->item);
}

static void sync_run(struct group_item *item, struct group_coord *c)
{
    group_sync(c, &container_of(item, struct sync_call, item)->sync);
}

static void sync_cancel(struct group_item *item)
{
    group_sync_cancel(&container_of(item, struct sync_call, item)->sync);
}

static void sync_reply(struct group_call *call)
{
    struct sync_call *s = container_of(call, struct sync_call, call);
    if (s->item.fan.error != KAFKA_NONE)
        s->response.error_code = s->item.fan.error;
    request_reply(call->fan.r, &s->response);
}

static struct group_assignment *assignments_of(struct request *r,
                                               const struct sync_group_request *req)
{
    int32_t n = MAX(req->assignments_n, 0);
    struct group_assignment *list = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*list));
    for (int32_t i = 0; list != NULL && i < n; i++)
        list[i] = (struct group_assignment){group_str_of(req->assignments[i].member_id),
                                            group_blob_of(req->assignments[i].assignment)};
    return list;
}

void sync_group_handle(struct request *r, void *body)
{
    const struct sync_group_request *req = body;
    struct sync_call *s = request_alloc(r, sizeof(*s));
    struct group_assignment *assignments = assignments_of(r, req);
    if (s == NULL || assignments == NULL) {
        request_fail(r, "no memory");
        return;
    }
    wire_set_defaults(&sync_group_response_schema, &s->response);
    if (r->version >= VERSION_PROTOCOL &&
        (req->protocol_type.len < 0 || req->protocol_name.len < 0)) {
        s->response.error_code = KAFKA_INCONSISTENT_GROUP_PROTOCOL;
        request_reply(r, &s->response);
        return;
    }
    s->call.run = sync_run;
    s->call.cancel = sync_cancel;
    s->call.reply = sync_reply;
    s->sync = (struct group_sync){
        .group = group_str_of(req->group_id),
        .member = group_str_of(req->member_id),
        .instance = group_str_of(req->group_instance_id),
        .protocol_type = group_str_of(req->protocol_type),
        .protocol = group_str_of(req->protocol_name),
        .generation = req->generation_id,
        .assignments = assignments,
        .assignments_n = MAX(req->assignments_n, 0),
        .on_done = on_synced,
    };
    group_call_one(&s->call, r, &s->item, req->group_id);
}
