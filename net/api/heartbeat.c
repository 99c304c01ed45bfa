/* Heartbeat, key 12: a member is alive, and hears whether there is a rebalance. */
#include "net/api/group_shard.h"

struct heartbeat_call {
    struct group_call call;
    struct group_item item;
    struct group_identity who;
};

static void heartbeat_run(struct group_item *item, struct group_coord *c)
{
    const struct heartbeat_call *h = container_of(item, struct heartbeat_call, item);
    item->fan.error = group_error_code(group_heartbeat(c, &h->who));
    group_item_done(item);
}

static void heartbeat_reply(struct group_call *call)
{
    struct heartbeat_response res;
    wire_set_defaults(&heartbeat_response_schema, &res);
    res.error_code = call->first->fan.error;
    request_reply(call->fan.r, &res);
}

void heartbeat_handle(struct request *r, void *body)
{
    const struct heartbeat_request *req = body;
    struct heartbeat_call *h = request_alloc(r, sizeof(*h));
    if (h == NULL) {
        request_fail(r, "no memory");
        return;
    }
    h->call.run = heartbeat_run;
    h->call.reply = heartbeat_reply;
    h->who = (struct group_identity){group_str_of(req->group_id), group_str_of(req->member_id),
                                     group_str_of(req->group_instance_id), req->generation_id};
    group_call_one(&h->call, r, &h->item, req->group_id);
}
