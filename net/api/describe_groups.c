/* DescribeGroups, key 15: states and members of groups. */
#include "core/base/bytes.h"
#include "net/api/group_shard.h"

#define VERSION_NOT_FOUND 6
/* read, delete, describe, describe and alter configs: everybody may do everything */
#define GROUP_OPERATIONS (1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11)

typedef struct describe_groups_response_described_group told_group;
typedef struct describe_groups_response_described_group_member told_member;

struct describe_item {
    struct group_item item;
    struct group_str group;
    told_group *told;
};

struct describe_call {
    struct group_call call;
    struct describe_groups_response response;
    struct describe_item *items;
    bool wants_operations;
};

/* What members say is shown when all agree on it. */
static void members_tell(struct describe_item *d, const struct group *g,
                         const struct group_info *info)
{
    const struct group_member *it = NULL;
    struct group_member_info m;
    told_group *told = d->told;
    told->members = wire_new_array(&describe_groups_response_described_group_member_schema,
                                   &d->item.arena, info->members_n);
    d->item.failed = d->item.failed || told->members == NULL;
    while (told->members != NULL && group_member_next(g, &it, &m)) {
        if (info->state != GROUP_STABLE)
            m.metadata.len = 0;
        told->members[told->members_n++] =
            (told_member){.member_id = group_told(&d->item, m.id),
                          .group_instance_id = group_told(&d->item, m.instance),
                          .client_id = group_told(&d->item, m.client_id),
                          .client_host = group_told(&d->item, m.client_host),
                          .member_metadata = group_told_bytes(&d->item, m.metadata),
                          .member_assignment = group_told_bytes(&d->item, m.assignment)};
    }
}

static void describe_run(struct group_item *item, struct group_coord *c)
{
    struct describe_item *d = container_of(item, struct describe_item, item);
    const struct group *g = NULL;
    enum group_error error = group_find(c, d->group, &g);
    item->fan.error = group_error_code(error);
    if (error == GROUP_OK) {
        struct group_info info;
        group_describe(g, &info);
        d->told->group_state = wire_str_of(group_state_name(info.state));
        d->told->protocol_type = group_told(item, info.protocol_type);
        if (info.state == GROUP_STABLE)
            d->told->protocol_data = group_told(item, info.protocol);
        members_tell(d, g, &info);
    }
    group_item_done(item);
}

/* A group that is not there was no error before. */
static void not_found_tell(struct request *r, struct describe_item *d)
{
    d->told->group_state = wire_str_of("Dead");
    d->told->error_code = r->version >= VERSION_NOT_FOUND ? KAFKA_GROUP_ID_NOT_FOUND : KAFKA_NONE;
    if (r->version >= VERSION_NOT_FOUND)
        d->told->error_message = wire_str_of(
            arena_printf(&r->arena, "Group %.*s not found.", (int)d->group.len, d->group.p));
}

static void describe_reply(struct group_call *call)
{
    struct describe_call *c = container_of(call, struct describe_call, call);
    struct request *r = call->fan.r;
    for (int32_t i = 0; i < c->response.groups_n; i++) {
        struct describe_item *d = &c->items[i];
        d->told->error_code = d->item.fan.error;
        if (d->item.fan.error == KAFKA_GROUP_ID_NOT_FOUND)
            not_found_tell(r, d);
        if (c->wants_operations && d->told->error_code == KAFKA_NONE)
            d->told->authorized_operations = GROUP_OPERATIONS;
    }
    request_reply(r, &c->response);
}

static bool items_add(struct describe_call *c, const struct describe_groups_request *req)
{
    for (int32_t i = 0; i < req->groups_n; i++) {
        struct describe_item *d = &c->items[i];
        d->group = group_str_of(req->groups[i]);
        d->told = &c->response.groups[c->response.groups_n++];
        d->told->group_id = req->groups[i];
        if (group_call_add(&c->call, &d->item, req->groups[i]) < 0)
            return false;
    }
    return true;
}

void describe_groups_handle(struct request *r, void *body)
{
    const struct describe_groups_request *req = body;
    struct describe_call *c = request_alloc(r, sizeof(*c));
    int32_t n = MAX(req->groups_n, 0);
    struct describe_item *items = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*items));
    told_group *told =
        wire_new_array(&describe_groups_response_described_group_schema, &r->arena, n);
    if (c == NULL || items == NULL || told == NULL ||
        group_call_init(&c->call, r, (uint32_t)n) < 0) {
        request_fail(r, "no memory");
        return;
    }
    wire_set_defaults(&describe_groups_response_schema, &c->response);
    c->call.run = describe_run;
    c->call.reply = describe_reply;
    c->response.groups = told;
    c->items = items;
    c->wants_operations = req->include_authorized_operations;
    if (items_add(c, req))
        group_call_start(&c->call);
    else
        group_call_abort(&c->call);
}
