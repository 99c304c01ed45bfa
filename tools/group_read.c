/* group_read.c: what a group's coordinator knows: state, members, assignments, committed
 * offsets. Formats: ConsumerGroupDescribe (groups of KIP-848), DescribeGroups (classic ones),
 * OffsetFetch; an assignment of the classic protocol is Kafka's ConsumerProtocolAssignment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/wire/cursor.h"
#include "tools/cmd_group.h"

enum {
    CONSUMER_DESCRIBE_MOST = 0,
    DESCRIBE_GROUPS_MOST = 5,
    OFFSET_FETCH_MOST = 9, /* the last one that names topics */
    OFFSET_FETCH_ALL = 2,  /* the first that can be asked for all of a group */
    OFFSET_FETCH_GROUPS = 8,
};

/* ---- building a group ---- */

/* Null is "". */
static const char *group_view_text(struct group_view *g, struct wire_str s)
{
    const char *text = arena_printf(&g->arena, "%.*s", MAX(s.len, 0), s.len > 0 ? s.p : "");
    return text == NULL ? "" : text;
}

/* Arrays in the arena that double: what they were stays behind until the arena goes. */
static void *array_grow(struct group_view *g, void *items, unsigned n, size_t size)
{
    if (n > 0 && (n & (n - 1)) != 0)
        return items;
    void *more = arena_array(&g->arena, (size_t)MAX(n * 2, 1u), size);
    return more == NULL || n == 0 ? more : memcpy(more, items, n * size);
}

struct group_partition *group_view_partition_at(struct group_view *g, struct wire_str topic,
                                                int32_t partition)
{
    const char *name = NULL;
    for (unsigned i = 0; i < g->partitions_n; i++) {
        if (!wire_str_eq(topic, g->partitions[i].topic))
            continue;
        name = g->partitions[i].topic;
        if (g->partitions[i].partition == partition)
            return &g->partitions[i];
    }
    struct group_partition *grown =
        array_grow(g, g->partitions, g->partitions_n, sizeof(*g->partitions));
    if (grown == NULL)
        return NULL;
    g->partitions = grown;
    grown[g->partitions_n] =
        (struct group_partition){.topic = name != NULL ? name : group_view_text(g, topic),
                                 .partition = partition,
                                 .committed = -1,
                                 .lag = -1,
                                 .unread_ms = -1,
                                 .lag_s = -1,
                                 .left = LEFT_UNKNOWN};
    return &grown[g->partitions_n++];
}

static int by_place(const void *a, const void *b)
{
    const struct group_partition *x = a, *y = b;
    int order = strcmp(x->topic, y->topic);
    return order != 0 ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

void group_view_sort(struct group_view *g)
{
    if (g->partitions_n > 0)
        qsort(g->partitions, g->partitions_n, sizeof(*g->partitions), by_place);
}

static int members_reserve(struct group_view *g, int32_t n)
{
    g->members = arena_array(&g->arena, (size_t)MAX(n, 1), sizeof(*g->members));
    return g->members == NULL ? -ENOMEM : 0;
}

/* There is room: members_reserve() has been told how many come. */
static struct group_member *group_view_member_add(struct group_view *g, struct wire_str id,
                                                  struct wire_str instance, struct wire_str client,
                                                  struct wire_str host)
{
    struct group_member *m = &g->members[g->members_n++];
    *m = (struct group_member){.id = group_view_text(g, id),
                               .instance = instance.len < 0 ? NULL : group_view_text(g, instance),
                               .client = group_view_text(g, client),
                               .host = group_view_text(g, host)};
    return m;
}

static int group_view_assign(struct group_view *g, struct group_member *m, struct wire_str topic,
                             int32_t partition)
{
    struct group_partition *p = group_view_partition_at(g, topic, partition);
    if (p == NULL)
        return -ENOMEM;
    p->member = m;
    m->partitions_n++;
    return 0;
}

/* ---- assignments of the classic protocol ---- */

static int take_int(struct cursor *c, unsigned bytes, int32_t *ret)
{
    const uint8_t *p = cursor_take(c, bytes);
    if (p == NULL)
        return -EPROTO;
    *ret = bytes == 2 ? (int16_t)be_load16(p) : (int32_t)be_load32(p);
    return 0;
}

int group_view_assignment(struct group_view *g, struct group_member *m,
                          struct wire_bytes assignment)
{
    struct cursor c = {assignment.p, assignment.p + MAX(assignment.len, 0)};
    int32_t version, topics, len, partitions, partition;
    if (assignment.len <= 0) /* between two assignments a member has none */
        return 0;
    if (take_int(&c, 2, &version) < 0 || take_int(&c, 4, &topics) < 0)
        return -EPROTO;
    for (; topics > 0; topics--) {
        const uint8_t *name;
        if (take_int(&c, 2, &len) < 0 || len < 0 ||
            (name = cursor_take(&c, (uint32_t)len)) == NULL || take_int(&c, 4, &partitions) < 0)
            return -EPROTO;
        for (; partitions > 0; partitions--) {
            if (take_int(&c, 4, &partition) < 0)
                return -EPROTO;
            int rc = group_view_assign(g, m, (struct wire_str){(const char *)name, len}, partition);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* ---- describing ---- */

static int consumer_take(struct client *c, struct group_view *g,
                         const struct consumer_group_describe_response_described_group *from)
{
    int rc = members_reserve(g, from->members_n);
    g->state = group_view_text(g, from->group_state);
    g->type = "consumer";
    g->protocol = group_view_text(g, from->assignor_name);
    for (int32_t i = 0; rc == 0 && i < from->members_n; i++) {
        const struct consumer_group_describe_response_member *m = &from->members[i];
        struct group_member *to =
            group_view_member_add(g, m->member_id, m->instance_id, m->client_id, m->client_host);
        for (int32_t t = 0; rc == 0 && t < m->assignment.topic_partitions_n; t++) {
            const struct consumer_group_describe_response_topic_partitions *topic =
                &m->assignment.topic_partitions[t];
            for (int32_t p = 0; rc == 0 && p < topic->partitions_n; p++)
                rc = group_view_assign(g, to, topic->topic_name, topic->partitions[p]);
        }
    }
    return rc < 0 ? client_fail(c, rc, CLIENT_NO_MESSAGE, "group %s", g->name) : 0;
}

/* Groups of KIP-848. GROUP_ID_NOT_FOUND, UNSUPPORTED_VERSION: it may be a classic one. */
static int consumer_describe(struct client *c, struct group_view *g)
{
    struct consumer_group_describe_request request;
    struct consumer_group_describe_response response;
    struct wire_str name = wire_str_of(g->name);
    int16_t version;
    int rc = client_version(c, g->coordinator, API_CONSUMER_GROUP_DESCRIBE, CONSUMER_DESCRIBE_MOST,
                            &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&consumer_group_describe_request_schema, &request);
    request.group_ids = &name;
    request.group_ids_n = 1;
    rc = client_call(c, g->coordinator, API_CONSUMER_GROUP_DESCRIBE, version, &request, &g->arena,
                     &response);
    if (rc < 0)
        return rc;
    if (response.groups_n != 1)
        return client_fail(c, -EPROTO, CLIENT_NO_MESSAGE, "group %s", g->name);
    rc = client_rc(response.groups[0].error_code);
    if (rc < 0)
        return client_fail(c, rc, response.groups[0].error_message, "group %s", g->name);
    return consumer_take(c, g, &response.groups[0]);
}

static int classic_take(struct client *c, struct group_view *g,
                        const struct describe_groups_response_described_group *from)
{
    bool is_consumer = wire_str_eq(from->protocol_type, "consumer");
    int rc = members_reserve(g, from->members_n);
    g->state = group_view_text(g, from->group_state);
    g->type = "classic";
    g->protocol = group_view_text(g, from->protocol_data);
    for (int32_t i = 0; rc == 0 && i < from->members_n; i++) {
        const struct describe_groups_response_described_group_member *m = &from->members[i];
        struct group_member *to = group_view_member_add(g, m->member_id, m->group_instance_id,
                                                        m->client_id, m->client_host);
        if (is_consumer) /* others have assignments that only they understand */
            rc = group_view_assignment(g, to, m->member_assignment);
    }
    return rc < 0 ? client_fail(c, rc, CLIENT_NO_MESSAGE, "members of group %s", g->name) : 0;
}

static int classic_describe(struct client *c, struct group_view *g)
{
    struct describe_groups_request request;
    struct describe_groups_response response;
    struct wire_str name = wire_str_of(g->name);
    int16_t version;
    int rc = client_version(c, g->coordinator, API_DESCRIBE_GROUPS, DESCRIBE_GROUPS_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&describe_groups_request_schema, &request);
    request.groups = &name;
    request.groups_n = 1;
    rc = client_call(c, g->coordinator, API_DESCRIBE_GROUPS, version, &request, &g->arena,
                     &response);
    if (rc < 0)
        return rc;
    if (response.groups_n != 1)
        return client_fail(c, -EPROTO, CLIENT_NO_MESSAGE, "group %s", g->name);
    rc = client_rc(response.groups[0].error_code);
    if (rc == 0 && wire_str_eq(response.groups[0].group_state, "Dead"))
        rc = client_rc(CLIENT_GROUP_ID_NOT_FOUND);
    if (rc < 0)
        return client_fail(c, rc, CLIENT_NO_MESSAGE, "group %s", g->name);
    return classic_take(c, g, &response.groups[0]);
}

/* ---- committed offsets ---- */

static int committed_add(struct client *c, struct group_view *g, struct wire_str topic,
                         int32_t partition, int64_t offset, int16_t error)
{
    struct group_partition *p = group_view_partition_at(g, topic, partition);
    if (p == NULL)
        return client_fail(c, -ENOMEM, CLIENT_NO_MESSAGE, "group %s", g->name);
    p->committed = error == 0 ? offset : -1;
    p->rc = client_rc(error);
    return 0;
}

static int committed_take_old(struct client *c, struct group_view *g,
                              const struct offset_fetch_response *r)
{
    int rc = 0;
    for (int32_t t = 0; rc == 0 && t < r->topics_n; t++)
        for (int32_t i = 0; rc == 0 && i < r->topics[t].partitions_n; i++) {
            const struct offset_fetch_response_offset_fetch_response_partition *p =
                &r->topics[t].partitions[i];
            rc = committed_add(c, g, r->topics[t].name, p->partition_index, p->committed_offset,
                               p->error_code);
        }
    return rc;
}

static int committed_take(struct client *c, struct group_view *g,
                          const struct offset_fetch_response_offset_fetch_response_group *r)
{
    int rc = 0;
    for (int32_t t = 0; rc == 0 && t < r->topics_n; t++)
        for (int32_t i = 0; rc == 0 && i < r->topics[t].partitions_n; i++) {
            const struct offset_fetch_response_offset_fetch_response_partitions *p =
                &r->topics[t].partitions[i];
            rc = committed_add(c, g, r->topics[t].name, p->partition_index, p->committed_offset,
                               p->error_code);
        }
    return rc;
}

static int committed_read(struct client *c, struct group_view *g)
{
    struct offset_fetch_request request;
    struct offset_fetch_request_offset_fetch_request_group group;
    struct offset_fetch_response r;
    int16_t version;
    int rc = client_version(c, g->coordinator, API_OFFSET_FETCH, OFFSET_FETCH_MOST, &version);
    if (rc < 0)
        return rc;
    if (version < OFFSET_FETCH_ALL)
        return client_fail(c, client_rc(CLIENT_UNSUPPORTED_VERSION), CLIENT_NO_MESSAGE,
                           "all offsets of group %s", g->name);
    wire_set_defaults(&offset_fetch_request_schema, &request);
    wire_set_defaults(&offset_fetch_request_offset_fetch_request_group_schema, &group);
    request.group_id = group.group_id = wire_str_of(g->name);
    request.topics_n = group.topics_n = -1; /* all */
    request.groups = &group;
    request.groups_n = 1;
    rc = client_call(c, g->coordinator, API_OFFSET_FETCH, version, &request, &g->arena, &r);
    if (rc < 0)
        return rc;
    if (version >= OFFSET_FETCH_GROUPS && r.groups_n != 1)
        return client_fail(c, -EPROTO, CLIENT_NO_MESSAGE, "offsets of group %s", g->name);
    rc = client_rc(version >= OFFSET_FETCH_GROUPS ? r.groups[0].error_code : r.error_code);
    if (rc < 0)
        return client_fail(c, rc, CLIENT_NO_MESSAGE, "offsets of group %s", g->name);
    return version >= OFFSET_FETCH_GROUPS ? committed_take(c, g, &r.groups[0])
                                          : committed_take_old(c, g, &r);
}

/* ---- all of it ---- */

static int read_once(struct client *c, struct group_view *g)
{
    arena_reset(&g->arena);
    g->members = NULL;
    g->partitions = NULL;
    g->members_n = g->partitions_n = 0;
    int rc = client_coordinator(c, g->name, &g->coordinator);
    if (rc < 0)
        return rc;
    rc = consumer_describe(c, g);
    if (rc == client_rc(CLIENT_GROUP_ID_NOT_FOUND) || rc == client_rc(CLIENT_UNSUPPORTED_VERSION))
        rc = classic_describe(c, g);
    return rc < 0 ? rc : committed_read(c, g);
}

int group_view_read(struct client *c, const char *name, struct group_view *ret)
{
    struct client_retry retry = {0};
    int rc;
    *ret = (struct group_view){.name = name};
    arena_init(&ret->arena, CLIENT_ARENA_BYTES);
    do
        rc = read_once(c, ret);
    while (rc < 0 && client_retry(c, &retry, rc));
    if (rc == 0)
        group_view_sort(ret);
    return rc;
}

void group_view_close(struct group_view *g)
{
    arena_fini(&g->arena);
}
