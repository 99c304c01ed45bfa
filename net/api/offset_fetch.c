/* OffsetFetch, key 9: what groups have committed. Up to version 7 one group, later many; in the
 * table below both forms are one. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/group_shard.h"

#define VERSION_GROUP_ERROR 2
#define VERSION_MANY 8
#define VERSION_TOPIC_ID 10

typedef struct offset_fetch_request_offset_fetch_request_topic asked_old;
typedef struct offset_fetch_request_offset_fetch_request_topics asked_topic;
typedef struct offset_fetch_response_offset_fetch_response_group told_group;
typedef struct offset_fetch_response_offset_fetch_response_topics told_topic;
typedef struct offset_fetch_response_offset_fetch_response_partitions told_partition;
typedef struct offset_fetch_response_offset_fetch_response_topic told_old;
typedef struct offset_fetch_response_offset_fetch_response_partition told_old_partition;

struct fetch_item {
    struct group_item item;
    struct group_fetch fetch;
    const asked_topic *asked; /* NULL: all that there is */
    int32_t asked_n;
    struct group_str *names; /* of asked; null: an id that is not known */
    told_group told;
};

struct fetch_call {
    struct group_call call;
    struct fetch_item *items;
    int32_t items_n;
};

/* ---- on the coordinator's shard ---- */

static void partition_tell(struct fetch_item *f, told_partition *p, int32_t index,
                           const struct group_offset *v)
{
    p->partition_index = index;
    p->committed_offset = v == NULL ? -1 : v->offset;
    p->committed_leader_epoch = v == NULL ? -1 : v->leader_epoch;
    p->metadata = v == NULL ? wire_str_of("") : group_told(&f->item, v->metadata);
}

static void asked_tell(struct fetch_item *f, const struct group *g)
{
    for (int32_t t = 0; t < f->asked_n; t++) {
        told_topic *told = &f->told.topics[t];
        for (int32_t i = 0; i < told->partitions_n; i++) {
            int32_t index = f->asked[t].partition_indexes[i];
            struct group_offset v;
            bool found =
                g != NULL && f->names[t].len >= 0 && group_offset_find(g, f->names[t], index, &v);
            partition_tell(f, &told->partitions[i], index, found ? &v : NULL);
        }
    }
}

struct found {
    struct group_str topic;
    int32_t partition;
    struct group_offset v;
};

static int found_compare(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int32_t len = MIN(x->topic.len, y->topic.len);
    int c = len > 0 ? memcmp(x->topic.p, y->topic.p, (size_t)len) : 0;
    if (c == 0)
        c = (x->topic.len > y->topic.len) - (x->topic.len < y->topic.len);
    return c != 0 ? c : (x->partition > y->partition) - (x->partition < y->partition);
}

static bool same_topic(const struct found *a, const struct found *b)
{
    return a->topic.len == b->topic.len &&
           memcmp(a->topic.p, b->topic.p, (size_t)a->topic.len) == 0;
}

/* By topic and partition; *ret_topics: how many topics. NULL: no memory. */
static struct found *all_sorted(struct fetch_item *f, const struct group *g, int32_t *ret_n,
                                int32_t *ret_topics)
{
    size_t it = 0;
    struct found *list = arena_array(&f->item.arena, group_offsets_count(g), sizeof(*list));
    *ret_n = *ret_topics = 0;
    if (list == NULL)
        return NULL;
    for (struct found *at = list; group_offset_next(g, &it, &at->topic, &at->partition, &at->v);
         at++)
        ++*ret_n;
    qsort(list, (size_t)*ret_n, sizeof(*list), found_compare);
    for (int32_t i = 0; i < *ret_n; i++)
        *ret_topics += i == 0 || !same_topic(&list[i - 1], &list[i]);
    return list;
}

static void topic_name_tell(struct fetch_item *f, told_topic *told, struct group_str name)
{
    const struct shard *s = f->item.at->owner;
    const struct meta_topic *topic = meta_topic_by_name(s->meta, name.p, (size_t)name.len);
    told->name = group_told(&f->item, name);
    if (topic != NULL)
        memcpy(told->topic_id.b, topic->id.b, sizeof(told->topic_id.b));
}

static void all_tell(struct fetch_item *f, const struct group *g)
{
    struct arena *arena = &f->item.arena;
    int32_t n, topics_n;
    if (group_offsets_count(g) == 0)
        return;
    struct found *list = all_sorted(f, g, &n, &topics_n);
    told_partition *p = wire_new_array(
        &offset_fetch_response_offset_fetch_response_partitions_schema, arena, MAX(n, 1));
    f->told.topics = wire_new_array(&offset_fetch_response_offset_fetch_response_topics_schema,
                                    arena, MAX(topics_n, 1));
    if (list == NULL || p == NULL || f->told.topics == NULL) {
        f->item.failed = true;
        return;
    }
    for (int32_t i = 0; i < n; i++, p++) {
        if (i == 0 || !same_topic(&list[i - 1], &list[i])) {
            told_topic *told = &f->told.topics[f->told.topics_n++];
            topic_name_tell(f, told, list[i].topic);
            told->partitions = p;
        }
        f->told.topics[f->told.topics_n - 1].partitions_n++;
        partition_tell(f, p, list[i].partition, &list[i].v);
    }
}

static void on_fetched(struct group_fetch *fetch)
{
    struct fetch_item *f = container_of(fetch, struct fetch_item, fetch);
    f->item.fan.error = group_error_code(fetch->error);
    if (fetch->error == GROUP_OK && f->asked != NULL)
        asked_tell(f, fetch->found);
    else if (fetch->found != NULL)
        all_tell(f, fetch->found);
    group_item_done(&f->item);
}

static void fetch_run(struct group_item *item, struct group_coord *c)
{
    group_fetch(c, &container_of(item, struct fetch_item, item)->fetch);
}

/* ---- the answer ---- */

/* Version 1 has no place for a group's error but its partitions. */
static void old_topics_tell(struct request *r, const told_group *g,
                            struct offset_fetch_response *res)
{
    bool in_partitions = r->version < VERSION_GROUP_ERROR;
    int32_t topics_n = g->error_code == KAFKA_NONE || in_partitions ? g->topics_n : 0;
    res->error_code = g->error_code;
    res->topics = wire_new_array(&offset_fetch_response_offset_fetch_response_topic_schema,
                                 &r->arena, topics_n);
    for (int32_t t = 0; res->topics != NULL && t < topics_n; t++) {
        told_old *told = &res->topics[res->topics_n++];
        told->name = g->topics[t].name;
        told->partitions =
            wire_new_array(&offset_fetch_response_offset_fetch_response_partition_schema, &r->arena,
                           g->topics[t].partitions_n);
        for (int32_t i = 0; told->partitions != NULL && i < g->topics[t].partitions_n; i++) {
            const told_partition *p = &g->topics[t].partitions[i];
            told->partitions[told->partitions_n++] =
                (told_old_partition){.partition_index = p->partition_index,
                                     .committed_offset = p->committed_offset,
                                     .committed_leader_epoch = p->committed_leader_epoch,
                                     .metadata = p->metadata,
                                     .error_code = in_partitions ? g->error_code : p->error_code};
        }
    }
}

/* Topics whose id is not known, and groups that cannot be served. */
static void errors_tell(struct request *r, struct fetch_item *f)
{
    f->told.error_code = f->item.fan.error;
    if (f->item.fan.error != KAFKA_NONE && r->version >= VERSION_MANY)
        f->told.topics_n = 0;
    for (int32_t t = 0; f->asked != NULL && t < f->told.topics_n; t++)
        for (int32_t i = 0; i < f->told.topics[t].partitions_n; i++) {
            told_partition *p = &f->told.topics[t].partitions[i];
            p->partition_index = f->asked[t].partition_indexes[i];
            if (f->item.fan.error != KAFKA_NONE || f->names[t].len < 0) {
                p->committed_offset = p->committed_leader_epoch = -1;
                p->metadata = wire_str_of("");
            }
            if (f->names[t].len < 0)
                p->error_code = KAFKA_UNKNOWN_TOPIC_ID;
        }
}

static void fetch_reply(struct group_call *call)
{
    struct fetch_call *c = container_of(call, struct fetch_call, call);
    struct request *r = call->fan.r;
    struct offset_fetch_response res;
    wire_set_defaults(&offset_fetch_response_schema, &res);
    for (int32_t i = 0; i < c->items_n; i++)
        errors_tell(r, &c->items[i]);
    if (r->version < VERSION_MANY) {
        old_topics_tell(r, &c->items[0].told, &res);
        request_reply(r, &res);
        return;
    }
    res.groups = wire_new_array(&offset_fetch_response_offset_fetch_response_group_schema,
                                &r->arena, c->items_n);
    if (res.groups == NULL) {
        request_fail(r, "no memory");
        return;
    }
    for (int32_t i = 0; i < c->items_n; i++)
        res.groups[res.groups_n++] = c->items[i].told;
    request_reply(r, &res);
}

/* ---- the request ---- */

static struct group_str name_of(struct request *r, const asked_topic *asked)
{
    if (r->version < VERSION_TOPIC_ID)
        return group_str_of(asked->name);
    const struct meta_topic *topic =
        net_topic(r->shard, (struct wire_str){NULL, -1}, &asked->topic_id);
    return group_str_of(wire_str_of(topic == NULL ? NULL : arena_strdup(&r->arena, topic->name)));
}

static bool item_prepare(struct fetch_call *c, struct request *r, struct fetch_item *f,
                         struct wire_str group)
{
    int32_t n = MAX(f->asked_n, 0);
    wire_set_defaults(&offset_fetch_response_offset_fetch_response_group_schema, &f->told);
    f->told.group_id = group;
    f->fetch.group = group_str_of(group);
    f->fetch.on_done = on_fetched;
    f->names = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*f->names));
    f->told.topics_n = n;
    f->told.topics = wire_new_array(&offset_fetch_response_offset_fetch_response_topics_schema,
                                    &r->arena, MAX(n, 1));
    if (f->names == NULL || f->told.topics == NULL)
        return false;
    for (int32_t t = 0; t < n; t++) {
        told_topic *told = &f->told.topics[t];
        f->names[t] = name_of(r, &f->asked[t]);
        told->name = f->asked[t].name;
        told->topic_id = f->asked[t].topic_id;
        told->partitions_n = MAX(f->asked[t].partition_indexes_n, 0);
        told->partitions =
            wire_new_array(&offset_fetch_response_offset_fetch_response_partitions_schema,
                           &r->arena, told->partitions_n);
        if (told->partitions == NULL)
            return false;
    }
    return group_call_add(&c->call, &f->item, group) == 0;
}

/* The old form as the new one; NULL: no memory. */
static asked_topic *old_as_new(struct request *r, const struct offset_fetch_request *req)
{
    asked_topic *list = arena_array(&r->arena, (size_t)MAX(req->topics_n, 1), sizeof(*list));
    for (int32_t t = 0; list != NULL && t < req->topics_n; t++)
        list[t] = (asked_topic){.name = req->topics[t].name,
                                .partition_indexes = req->topics[t].partition_indexes,
                                .partition_indexes_n = req->topics[t].partition_indexes_n};
    return list;
}

static bool one_prepare(struct fetch_call *c, struct request *r,
                        const struct offset_fetch_request *req)
{
    asked_topic *topics = old_as_new(r, req);
    c->items[0].asked = req->topics_n < 0 ? NULL : topics;
    c->items[0].asked_n = req->topics_n;
    return topics != NULL && item_prepare(c, r, &c->items[0], req->group_id);
}

static bool many_prepare(struct fetch_call *c, struct request *r,
                         const struct offset_fetch_request *req)
{
    static const asked_topic none;
    for (int32_t i = 0; i < c->items_n; i++) {
        const struct offset_fetch_request_offset_fetch_request_group *g = &req->groups[i];
        c->items[i].asked = g->topics_n < 0 ? NULL : g->topics_n == 0 ? &none : g->topics;
        c->items[i].asked_n = g->topics_n;
        if (!item_prepare(c, r, &c->items[i], g->group_id))
            return false;
    }
    return true;
}

void offset_fetch_handle(struct request *r, void *body)
{
    const struct offset_fetch_request *req = body;
    struct fetch_call *c = request_alloc(r, sizeof(*c));
    int32_t n = r->version < VERSION_MANY ? 1 : MAX(req->groups_n, 0);
    struct fetch_item *items = arena_array(&r->arena, (size_t)MAX(n, 1), sizeof(*items));
    if (c == NULL || items == NULL || group_call_init(&c->call, r, (uint32_t)n) < 0) {
        request_fail(r, "no memory");
        return;
    }
    c->call.run = fetch_run;
    c->call.reply = fetch_reply;
    c->items = items;
    c->items_n = n;
    if (r->version < VERSION_MANY ? one_prepare(c, r, req) : many_prepare(c, r, req))
        group_call_start(&c->call);
    else
        group_call_abort(&c->call);
}
