/* JoinGroup, key 11: a member comes, or comes again; the answer waits for the others. */
#include "core/base/bytes.h"
#include "net/api/group_shard.h"

#define VERSION_REBALANCE_TIMEOUT 1
#define VERSION_ID_REQUIRED 4
#define VERSION_NULL_PROTOCOL 7
#define VERSION_SKIP_ASSIGNMENT 9

typedef struct join_group_response_join_group_response_member told_member;

struct join_call {
    struct group_call call;
    struct group_item item;
    struct group_join join;
    struct join_group_response response;
};

static void members_tell(struct join_call *j, const struct group *g)
{
    struct group_info info;
    const struct group_member *it = NULL;
    struct group_member_info m;
    group_describe(g, &info);
    told_member *told = wire_new_array(&join_group_response_join_group_response_member_schema,
                                       &j->item.arena, info.members_n);
    j->item.failed = j->item.failed || told == NULL;
    j->response.members = told;
    while (told != NULL && group_member_next(g, &it, &m)) {
        told[j->response.members_n++] =
            (told_member){.member_id = group_told(&j->item, m.id),
                          .group_instance_id = group_told(&j->item, m.instance),
                          .metadata = group_told_bytes(&j->item, m.metadata)};
    }
}

static void on_joined(struct group_join *join)
{
    struct join_call *j = container_of(join, struct join_call, join);
    struct join_group_response *res = &j->response;
    res->error_code = group_error_code(join->error);
    res->generation_id = join->generation;
    res->protocol_type = group_told(&j->item, join->chosen_type);
    res->protocol_name = group_told(&j->item, join->chosen);
    res->leader = group_told(&j->item, join->leader);
    res->member_id = group_told(&j->item, join->own_id);
    res->skip_assignment = join->skip_assignment;
    if (join->members_of != NULL)
        members_tell(j, join->members_of);
    group_item_done(&j->item);
}

static void join_run(struct group_item *item, struct group_coord *c)
{
    group_join(c, &container_of(item, struct join_call, item)->join);
}

static void join_cancel(struct group_item *item)
{
    group_join_cancel(&container_of(item, struct join_call, item)->join);
}

static void join_reply(struct group_call *call)
{
    struct join_call *j = container_of(call, struct join_call, call);
    if (j->item.fan.error != KAFKA_NONE) {
        j->response.error_code = j->item.fan.error;
        j->response.member_id = (struct wire_str){j->join.member.p, j->join.member.len};
    }
    if (call->fan.r->version < VERSION_NULL_PROTOCOL && j->response.protocol_name.len < 0)
        j->response.protocol_name = wire_str_of("");
    request_reply(call->fan.r, &j->response);
}

static struct group_protocol *protocols_of(struct request *r, const struct join_group_request *req)
{
    int32_t n = MAX(req->protocols_n, 0);
    struct group_protocol *list = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*list));
    for (int32_t i = 0; list != NULL && i < n; i++)
        list[i] = (struct group_protocol){group_str_of(req->protocols[i].name),
                                          group_blob_of(req->protocols[i].metadata)};
    return list;
}

void join_group_handle(struct request *r, void *body)
{
    const struct join_group_request *req = body;
    struct join_call *j = request_alloc(r, sizeof(*j));
    struct group_protocol *protocols = protocols_of(r, req);
    if (j == NULL || protocols == NULL) {
        request_fail(r, "no memory");
        return;
    }
    wire_set_defaults(&join_group_response_schema, &j->response);
    j->call.run = join_run;
    j->call.cancel = join_cancel;
    j->call.reply = join_reply;
    j->join = (struct group_join){
        .group = group_str_of(req->group_id),
        .member = group_str_of(req->member_id),
        .instance = group_str_of(req->group_instance_id),
        .client_id = group_str_of(r->client_id),
        .client_host = group_client_host(r),
        .protocol_type = group_str_of(req->protocol_type),
        .session_timeout_ms = req->session_timeout_ms,
        .rebalance_timeout_ms = r->version >= VERSION_REBALANCE_TIMEOUT ? req->rebalance_timeout_ms
                                                                        : req->session_timeout_ms,
        .protocols = protocols,
        .protocols_n = MAX(req->protocols_n, 0),
        .id_required = r->version >= VERSION_ID_REQUIRED,
        .may_skip_assignment = r->version >= VERSION_SKIP_ASSIGNMENT,
        .on_done = on_joined,
    };
    group_call_one(&j->call, r, &j->item, req->group_id);
}
