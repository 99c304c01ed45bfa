/* DeleteGroups, key 42: groups without members, and all that they committed. */
#include "core/base/bytes.h"
#include "net/api/group_shard.h"

typedef struct delete_groups_response_deletable_group_result told_group;

struct delete_item {
    struct group_item item;
    struct group_delete del;
    told_group *told;
};

struct delete_call {
    struct group_call call;
    struct delete_groups_response response;
    struct delete_item *items;
};

static void on_deleted(struct group_delete *del)
{
    struct delete_item *d = container_of(del, struct delete_item, del);
    d->item.fan.error = group_error_code(del->error);
    group_item_done(&d->item);
}

static void delete_run(struct group_item *item, struct group_coord *c)
{
    group_delete(c, &container_of(item, struct delete_item, item)->del);
}

static void delete_reply(struct group_call *call)
{
    struct delete_call *c = container_of(call, struct delete_call, call);
    for (int32_t i = 0; i < c->response.results_n; i++)
        c->items[i].told->error_code = c->items[i].item.fan.error;
    request_reply(call->fan.r, &c->response);
}

static bool items_add(struct delete_call *c, const struct delete_groups_request *req)
{
    for (int32_t i = 0; i < req->groups_names_n; i++) {
        struct delete_item *d = &c->items[i];
        d->del.group = group_str_of(req->groups_names[i]);
        d->del.on_done = on_deleted;
        d->told = &c->response.results[c->response.results_n++];
        d->told->group_id = req->groups_names[i];
        if (group_call_add(&c->call, &d->item, req->groups_names[i]) < 0)
            return false;
    }
    return true;
}

void delete_groups_handle(struct request *r, void *body)
{
    const struct delete_groups_request *req = body;
    struct delete_call *c = request_alloc(r, sizeof(*c));
    int32_t n = MAX(req->groups_names_n, 0);
    struct delete_item *items = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*items));
    told_group *told =
        wire_new_array(&delete_groups_response_deletable_group_result_schema, &r->arena, n);
    if (c == NULL || items == NULL || told == NULL ||
        group_call_init(&c->call, r, (uint32_t)n) < 0) {
        request_fail(r, "no memory");
        return;
    }
    wire_set_defaults(&delete_groups_response_schema, &c->response);
    c->call.run = delete_run;
    c->call.reply = delete_reply;
    c->response.results = told;
    c->items = items;
    if (items_add(c, req))
        group_call_start(&c->call);
    else
        group_call_abort(&c->call);
}
