/* LeaveGroup, key 13: members go, or an operator sends them away. */
#include "core/base/bytes.h"
#include "net/api/group_shard.h"

#define VERSION_MANY 3

typedef struct leave_group_response_member_response told_member;

struct leave_call {
    struct group_call call;
    struct group_item item;
    struct group_str group;
    struct group_leaver *leavers;
    int32_t leavers_n;
};

static void leave_run(struct group_item *item, struct group_coord *c)
{
    struct leave_call *l = container_of(item, struct leave_call, item);
    item->fan.error = group_error_code(group_leave(c, l->group, l->leavers, l->leavers_n));
    group_item_done(item);
}

static void leave_reply(struct group_call *call)
{
    struct leave_call *l = container_of(call, struct leave_call, call);
    struct request *r = call->fan.r;
    struct leave_group_response res;
    wire_set_defaults(&leave_group_response_schema, &res);
    res.error_code = l->item.fan.error;
    bool many = r->version >= VERSION_MANY && res.error_code == KAFKA_NONE;
    if (many)
        res.members =
            wire_new_array(&leave_group_response_member_response_schema, &r->arena, l->leavers_n);
    else if (res.error_code == KAFKA_NONE)
        res.error_code = group_error_code(l->leavers[0].error);
    if (many && res.members == NULL) {
        request_fail(r, "no memory");
        return;
    }
    for (int32_t i = 0; many && i < l->leavers_n; i++) {
        const struct group_leaver *who = &l->leavers[i];
        told_member *told = &res.members[res.members_n++];
        told->member_id = (struct wire_str){who->member.p, who->member.len};
        told->group_instance_id = (struct wire_str){who->instance.p, who->instance.len};
        told->error_code = group_error_code(who->error);
    }
    request_reply(r, &res);
}

void leave_group_handle(struct request *r, void *body)
{
    const struct leave_group_request *req = body;
    struct leave_call *l = request_alloc(r, sizeof(*l));
    int32_t n = r->version >= VERSION_MANY ? MAX(req->members_n, 0) : 1;
    struct group_leaver *leavers = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*leavers));
    if (l == NULL || leavers == NULL) {
        request_fail(r, "no memory");
        return;
    }
    if (r->version < VERSION_MANY)
        leavers[0] = (struct group_leaver){group_str_of(req->member_id), {NULL, -1}, GROUP_OK};
    for (int32_t i = 0; r->version >= VERSION_MANY && i < n; i++)
        leavers[i] =
            (struct group_leaver){group_str_of(req->members[i].member_id),
                                  group_str_of(req->members[i].group_instance_id), GROUP_OK};
    l->call.run = leave_run;
    l->call.reply = leave_reply;
    l->group = group_str_of(req->group_id);
    l->leavers = leavers;
    l->leavers_n = n;
    group_call_one(&l->call, r, &l->item, req->group_id);
}
