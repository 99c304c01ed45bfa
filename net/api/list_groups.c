/* ListGroups, key 16: the groups that this node coordinates, by state and type. */
#include <strings.h>

#include "core/base/bytes.h"
#include "net/api/group_shard.h"

#define TYPE_NAME "classic"

typedef struct list_groups_response_listed_group told_group;

struct list_item {
    struct group_item item;
    told_group *groups;
    int32_t groups_n, groups_cap;
};

struct list_call {
    struct group_call call;
    const struct list_groups_request *req;
    struct list_item *items;
    unsigned items_n;
};

/* No filter lets everything through; names in any case. */
static bool passes(const struct wire_str *filter, int32_t n, const char *name)
{
    size_t len = strlen(name);
    for (int32_t i = 0; i < n; i++)
        if (filter[i].len == (int32_t)len && strncasecmp(filter[i].p, name, len) == 0)
            return true;
    return n <= 0;
}

static bool list_grow(struct list_item *l)
{
    int32_t cap = MAX(l->groups_cap * 2, 16);
    told_group *grown =
        wire_new_array(&list_groups_response_listed_group_schema, &l->item.arena, cap);
    if (grown == NULL)
        return false;
    if (l->groups_n > 0)
        memcpy(grown, l->groups, (size_t)l->groups_n * sizeof(*grown));
    l->groups = grown;
    l->groups_cap = cap;
    return true;
}

static void group_see(const struct group *g, void *arg)
{
    struct list_item *l = arg;
    const struct list_groups_request *req = container_of(l->item.call, struct list_call, call)->req;
    struct group_info info;
    group_describe(g, &info);
    if (!passes(req->states_filter, req->states_filter_n, group_state_name(info.state)))
        return;
    if (l->groups_n == l->groups_cap && !list_grow(l)) {
        l->item.failed = true;
        return;
    }
    l->groups[l->groups_n++] =
        (told_group){.group_id = group_told(&l->item, info.id),
                     .protocol_type = group_told(&l->item, info.protocol_type),
                     .group_state = wire_str_of(group_state_name(info.state)),
                     .group_type = wire_str_of(TYPE_NAME)};
}

static void list_run(struct group_item *item, struct group_coord *c)
{
    struct list_item *l = container_of(item, struct list_item, item);
    const struct list_groups_request *req = container_of(item->call, struct list_call, call)->req;
    if (group_loading(c))
        item->fan.error = KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
    else if (passes(req->types_filter, req->types_filter_n, TYPE_NAME))
        group_each(c, group_see, l);
    group_item_done(item);
}

static void list_reply(struct group_call *call)
{
    struct list_call *c = container_of(call, struct list_call, call);
    struct request *r = call->fan.r;
    struct list_groups_response res;
    int32_t n = 0;
    wire_set_defaults(&list_groups_response_schema, &res);
    for (unsigned i = 0; i < c->items_n; i++) {
        n += c->items[i].groups_n;
        if (c->items[i].item.fan.error != KAFKA_NONE)
            res.error_code = c->items[i].item.fan.error;
    }
    res.groups = wire_new_array(&list_groups_response_listed_group_schema, &r->arena, n);
    if (res.groups == NULL) {
        request_fail(r, "no memory");
        return;
    }
    for (unsigned i = 0; res.error_code == KAFKA_NONE && i < c->items_n; i++)
        for (int32_t k = 0; k < c->items[i].groups_n; k++)
            res.groups[res.groups_n++] = c->items[i].groups[k];
    request_reply(r, &res);
}

void list_groups_handle(struct request *r, void *body)
{
    const struct broker_node *node = net_node_of_shard(r->shard, r->shard->index);
    struct list_call *c = request_alloc(r, sizeof(*c));
    struct list_item *items = arena_array(&r->arena, node->shards_n, sizeof(*items));
    if (c == NULL || items == NULL || group_call_init(&c->call, r, node->shards_n) < 0) {
        request_fail(r, "no memory");
        return;
    }
    c->call.run = list_run;
    c->call.reply = list_reply;
    c->req = body;
    c->items = items;
    c->items_n = node->shards_n;
    for (unsigned i = 0; i < node->shards_n; i++)
        if (group_call_add_shard(&c->call, &items[i].item, node->first_shard + i) < 0) {
            group_call_abort(&c->call);
            return;
        }
    group_call_start(&c->call);
}
