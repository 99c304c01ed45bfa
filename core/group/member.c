/* member.c: members and what they bring along: ids, protocols, their votes; the group's record. */
#include <errno.h>

#include "core/group/internal.h"

#define CONTAINER_OR_NULL(name, type, field)                                                       \
    ((name) == NULL ? NULL : container_of(name, type, field))

struct group_member *member_get(const struct group *g, struct group_str id)
{
    struct name *name = names_find(&g->by_id, id);
    return CONTAINER_OR_NULL(name, struct group_member, id);
}

struct group_member *member_of_instance(const struct group *g, struct group_str instance)
{
    struct name *name = names_find(&g->by_instance, instance);
    return CONTAINER_OR_NULL(name, struct group_member, instance);
}

struct pending *pending_get(const struct group *g, struct group_str id)
{
    struct name *name = names_find(&g->pending_by_id, id);
    return CONTAINER_OR_NULL(name, struct pending, id);
}

void pending_remove(struct pending *w)
{
    struct group *g = w->group;
    shard_timer_clear(g->coord->shard, &w->session);
    names_remove(&g->pending_by_id, &w->id);
    list_remove(&w->link);
    g->pending_n--;
    str_free(g->coord, &w->id.text);
    mem_give(g->coord, w);
}

enum group_error member_check(const struct group *g, struct group_str id, struct group_str instance)
{
    if (instance.len >= 0) {
        const struct group_member *m = member_of_instance(g, instance);
        if (m == NULL)
            return GROUP_UNKNOWN_MEMBER;
        if (!str_eq(m->id.text, id))
            return GROUP_FENCED_INSTANCE;
    }
    return member_get(g, id) == NULL ? GROUP_UNKNOWN_MEMBER : GROUP_OK;
}

/* ---- protocols ---- */

const struct group_protocol *member_protocol(const struct group_member *m, struct group_str name)
{
    for (int32_t i = 0; i < m->protocols_n; i++)
        if (str_eq(m->protocols[i].name, name))
            return &m->protocols[i];
    return NULL;
}

static struct protocol_votes *votes_of(const struct group *g, struct group_str name)
{
    struct name *found = names_find(&g->votes_by_name, name);
    return CONTAINER_OR_NULL(found, struct protocol_votes, name);
}

static bool is_first_of_name(const struct group_member *m, int32_t at)
{
    return member_protocol(m, m->protocols[at].name) == &m->protocols[at];
}

static void support_drop(struct group_member *m, int32_t protocols_n)
{
    struct group_coord *c = m->group->coord;
    for (int32_t i = 0; i < protocols_n; i++) {
        struct protocol_votes *v = votes_of(m->group, m->protocols[i].name);
        if (!is_first_of_name(m, i) || --v->supporters > 0)
            continue;
        list_remove(&v->link);
        names_remove(&m->group->votes_by_name, &v->name);
        str_free(c, &v->name.text);
        mem_give(c, v);
    }
}

static struct protocol_votes *votes_make(struct group *g, struct group_str name)
{
    struct protocol_votes *v = mem_take(g->coord, sizeof(*v));
    if (v == NULL)
        return NULL;
    *v = (struct protocol_votes){0};
    struct group_str copy = {NULL, -1};
    if (str_dup(g->coord, name, &copy) < 0 || names_add(&g->votes_by_name, &v->name, copy) < 0) {
        str_free(g->coord, &copy);
        mem_give(g->coord, v);
        return NULL;
    }
    list_push_tail(&g->votes, &v->link);
    return v;
}

static int support_add(struct group_member *m)
{
    for (int32_t i = 0; i < m->protocols_n; i++) {
        if (!is_first_of_name(m, i))
            continue;
        struct protocol_votes *v = votes_of(m->group, m->protocols[i].name);
        if (v == NULL)
            v = votes_make(m->group, m->protocols[i].name);
        if (v == NULL) {
            support_drop(m, i);
            return -ENOMEM;
        }
        v->supporters++;
    }
    return 0;
}

bool group_supports(const struct group *g, const struct group_join *j)
{
    if (g->state == GROUP_EMPTY)
        return !str_empty(j->protocol_type) && j->protocols_n > 0;
    if (!str_eq(g->protocol_type, j->protocol_type))
        return false;
    for (int32_t i = 0; i < j->protocols_n; i++) {
        const struct protocol_votes *v = votes_of(g, j->protocols[i].name);
        if ((v == NULL ? 0 : v->supporters) == g->members_n)
            return true;
    }
    return false;
}

/* Each member votes for the first of its protocols that all support. */
struct group_str group_choose_protocol(struct group *g)
{
    const struct protocol_votes *best = NULL;
    list_for_each(it, &g->votes)
        container_of(it, struct protocol_votes, link)->votes = 0;
    list_for_each(it, &g->members) {
        const struct group_member *m = container_of(it, struct group_member, link);
        for (int32_t i = 0; i < m->protocols_n; i++) {
            struct protocol_votes *v = votes_of(g, m->protocols[i].name);
            if (v->supporters != g->members_n)
                continue;
            v->votes++;
            if (best == NULL || v->votes > best->votes)
                best = v;
            break;
        }
    }
    return best == NULL ? (struct group_str){NULL, -1} : best->name.text;
}

int group_subscribes(const struct group *g, struct group_str topic)
{
    if (!str_is(g->protocol_type, "consumer"))
        return 0;
    if (g->members_n == 0)
        return 0;
    if (g->protocol.len < 0)
        return -1;
    int found = 0;
    list_for_each(it, &g->members) {
        const struct group_member *m = container_of(it, struct group_member, link);
        const struct group_protocol *protocol = member_protocol(m, g->protocol);
        int rc = protocol == NULL ? -1 : record_subscribes(protocol->metadata, topic);
        if (rc < 0)
            return -1;
        found = found || rc == 1;
    }
    return found;
}

/* ---- members ---- */

/* The list and every byte of it in one block. */
static struct group_protocol *protocols_dup(struct group_coord *c, const struct group_join *j)
{
    size_t bytes = (size_t)j->protocols_n * sizeof(struct group_protocol);
    for (int32_t i = 0; i < j->protocols_n; i++)
        bytes +=
            (size_t)MAX(j->protocols[i].name.len, 0) + (size_t)MAX(j->protocols[i].metadata.len, 0);
    struct group_protocol *list = mem_take(c, MAX(bytes, (size_t)1));
    char *at = list == NULL ? NULL : (char *)(list + j->protocols_n);
    for (int32_t i = 0; list != NULL && i < j->protocols_n; i++) {
        struct group_protocol p = j->protocols[i];
        p.name.len = MAX(p.name.len, 0);
        p.metadata.len = MAX(p.metadata.len, 0);
        if (p.name.len > 0)
            memcpy(at, p.name.p, (size_t)p.name.len);
        p.name.p = at;
        at += p.name.len;
        if (p.metadata.len > 0)
            memcpy(at, p.metadata.p, (size_t)p.metadata.len);
        p.metadata.p = (const uint8_t *)at;
        at += p.metadata.len;
        list[i] = p;
    }
    return list;
}

static void member_free(struct group_member *m)
{
    struct group_coord *c = m->group->coord;
    mem_give(c, m->protocols);
    str_free(c, &m->id.text);
    str_free(c, &m->instance.text);
    str_free(c, &m->client_id);
    str_free(c, &m->client_host);
    blob_free(c, &m->assignment);
    mem_give(c, m);
}

static int member_copy(struct group_member *m, struct group_str id, const struct group_join *j)
{
    struct group_coord *c = m->group->coord;
    m->instance.text.len = -1;
    if (str_dup(c, id, &m->id.text) < 0 || str_dup(c, j->client_id, &m->client_id) < 0 ||
        str_dup(c, j->client_host, &m->client_host) < 0 ||
        str_dup(c, j->instance, &m->instance.text) < 0)
        return -ENOMEM;
    m->protocols = protocols_dup(c, j);
    m->protocols_n = m->protocols == NULL ? 0 : j->protocols_n;
    return m->protocols == NULL ? -ENOMEM : 0;
}

static int member_enlist(struct group_member *m)
{
    struct group *g = m->group;
    if (support_add(m) < 0)
        return -ENOMEM;
    if (names_add(&g->by_id, &m->id, m->id.text) < 0)
        goto err_support;
    if (m->instance.text.len >= 0 && names_add(&g->by_instance, &m->instance, m->instance.text) < 0)
        goto err_id;
    list_push_tail(&g->members, &m->link);
    g->members_n++;
    counter_add(&g->coord->counters.members, 1);
    return 0;
err_id:
    names_remove(&g->by_id, &m->id);
err_support:
    support_drop(m, m->protocols_n);
    return -ENOMEM;
}

struct group_member *member_make(struct group *g, struct group_str id, const struct group_join *j)
{
    struct group_coord *c = g->coord;
    struct group_member *m = mem_take(c, sizeof(*m));
    if (m == NULL)
        return NULL;
    *m = (struct group_member){.group = g,
                               .session_timeout_ms = j->session_timeout_ms,
                               .rebalance_timeout_ms = j->rebalance_timeout_ms};
    bool typed = g->protocol_type.len >= 0 && g->members_n > 0;
    struct group_str type = {NULL, -1};
    if (member_copy(m, id, j) < 0 || (!typed && str_dup(c, j->protocol_type, &type) < 0) ||
        member_enlist(m) < 0) {
        str_free(c, &type);
        member_free(m);
        return NULL;
    }
    if (!typed) {
        str_free(c, &g->protocol_type);
        g->protocol_type = type;
    }
    if (g->leader == NULL)
        g->leader = m;
    return m;
}

bool member_matches(const struct group_member *m, const struct group_join *j)
{
    if (m->protocols_n != j->protocols_n)
        return false;
    for (int32_t i = 0; i < m->protocols_n; i++) {
        struct group_blob a = m->protocols[i].metadata, b = j->protocols[i].metadata;
        if (!str_eq(m->protocols[i].name, j->protocols[i].name) || a.len != MAX(b.len, 0) ||
            (a.len > 0 && memcmp(a.p, b.p, (size_t)a.len) != 0))
            return false;
    }
    return true;
}

int member_update(struct group_member *m, const struct group_join *j)
{
    struct group_coord *c = m->group->coord;
    m->session_timeout_ms = j->session_timeout_ms;
    m->rebalance_timeout_ms = j->rebalance_timeout_ms;
    if (member_matches(m, j))
        return 0;
    struct group_protocol *list = protocols_dup(c, j), *old = m->protocols;
    int32_t old_n = m->protocols_n;
    if (list == NULL)
        return -ENOMEM;
    support_drop(m, old_n);
    m->protocols = list;
    m->protocols_n = j->protocols_n;
    if (support_add(m) == 0) {
        mem_give(c, old);
        return 0;
    }
    mem_give(c, list); /* the old ones were counted a moment ago: their memory is there again */
    m->protocols = old;
    m->protocols_n = old_n;
    int rc = support_add(m);
    ASSERT(rc == 0);
    return -ENOMEM;
}

int member_rename(struct group_member *m, struct group_str id)
{
    struct group *g = m->group;
    struct group_str copy;
    if (str_dup(g->coord, id, &copy) < 0)
        return -ENOMEM;
    names_remove(&g->by_id, &m->id);
    str_free(g->coord, &m->id.text);
    int rc = names_add(&g->by_id, &m->id, copy); /* one was taken out: there is a slot */
    ASSERT(rc == 0);
    return 0;
}

void member_remove(struct group_member *m, enum group_error error)
{
    struct group *g = m->group;
    member_answer_sync(m, error);
    if (m->join != NULL)
        join_answer_error(m->join, error);
    if (m->awaits_join)
        g->awaiting_join_n--;
    shard_timer_clear(g->coord->shard, &m->session);
    support_drop(m, m->protocols_n);
    names_remove(&g->by_id, &m->id);
    if (m->instance.text.len >= 0)
        names_remove(&g->by_instance, &m->instance);
    list_remove(&m->link);
    g->members_n--;
    counter_add(&g->coord->counters.members, (uint64_t)-1);
    if (g->leader == m) {
        struct list_node *first = list_head(&g->members);
        g->leader = CONTAINER_OR_NULL(first, struct group_member, link);
    }
    member_free(m);
}

/* ---- the record ---- */

void group_write(struct group *g)
{
    struct group_coord *c = g->coord;
    struct record_group record = {
        .protocol_type = g->protocol_type.len < 0 ? (struct group_str){"", 0} : g->protocol_type,
        .generation = g->generation,
        .protocol = g->protocol,
        .leader = g->leader == NULL ? (struct group_str){NULL, -1} : g->leader->id.text,
        .state_ms = g->state_ms,
        .members_n = g->members_n};
    record_group_key(&c->key, g->name.text);
    record_group_value(&c->value, &record);
    list_for_each(it, &g->members) {
        const struct group_member *m = container_of(it, struct group_member, link);
        const struct group_protocol *protocol = member_protocol(m, g->protocol);
        struct record_member member = {
            .id = m->id.text,
            .instance = m->instance.text,
            .client_id = m->client_id,
            .client_host = m->client_host,
            .rebalance_timeout_ms = m->rebalance_timeout_ms,
            .session_timeout_ms = m->session_timeout_ms,
            .subscription = protocol == NULL ? (struct group_blob){NULL, 0} : protocol->metadata,
            .assignment = m->assignment};
        record_member(&c->value, &member);
    }
    writes_add(c, &c->key, &c->value);
    g->stored = true;
}
