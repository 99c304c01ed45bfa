/* offset.c: committed offsets: commit, fetch, delete; and whole groups deleted. */
#include "core/group/internal.h"

#include <errno.h>

/* ---- one offset ---- */

static uint64_t key_of(const struct topic *t, int32_t partition)
{
    return (uint64_t)t->id << 32 | (uint32_t)partition;
}

static struct topic *topic_get(const struct group_coord *c, struct group_str name)
{
    struct name *found = names_find(&c->topics, name);
    return found == NULL ? NULL : container_of(found, struct topic, name);
}

static struct topic *topic_make(struct group_coord *c, struct group_str name)
{
    struct topic *t = mem_take(c, sizeof(*t));
    struct group_str copy = {NULL, -1};
    if (t == NULL)
        return NULL;
    *t = (struct topic){.id = c->topic_id_next++};
    if (str_dup(c, name, &copy) < 0 || names_add(&c->topics, &t->name, copy) < 0) {
        str_free(c, &copy);
        mem_give(c, t);
        return NULL;
    }
    list_init(&t->offsets);
    return t;
}

static void topic_drop_idle(struct group_coord *c, struct topic *t)
{
    if (!list_empty(&t->offsets))
        return;
    if (!t->gone)
        names_remove(&c->topics, &t->name);
    list_remove(&t->gone_link);
    str_free(c, &t->name.text);
    mem_give(c, t);
}

struct offset *offset_get(const struct group *g, struct group_str topic, int32_t partition)
{
    const struct topic *t = topic_get(g->coord, topic);
    return t == NULL ? NULL : map_get(&g->offsets, key_of(t, partition));
}

struct offset *offset_make(struct group *g, struct group_str topic, int32_t partition,
                           const struct group_offset *v)
{
    struct group_coord *c = g->coord;
    struct topic *t = topic_get(c, topic);
    int32_t len = MAX(v->metadata.len, 0);
    if (t == NULL)
        t = topic_make(c, topic);
    if (t == NULL)
        return NULL;
    struct offset *o = mem_take(c, sizeof(*o) + (size_t)len);
    if (o == NULL) {
        topic_drop_idle(c, t);
        return NULL;
    }
    *o = (struct offset){.v = *v, .group = g, .topic = t, .partition = partition};
    if (len > 0)
        memcpy(o->text, v->metadata.p, (size_t)len);
    o->v.metadata = (struct group_str){o->text, len};
    list_push_tail(&t->offsets, &o->of_topic);
    counter_add(&c->counters.offsets, 1);
    return o;
}

static bool offset_is_stable(const struct offset *o)
{
    return o->seq <= o->group->partition->stable_seq;
}

/* What the log still has after a crash. NULL: there is none yet. */
static const struct offset *offset_stable(const struct offset *o)
{
    while (o != NULL && (o->hidden || !offset_is_stable(o)))
        o = o->older;
    return o;
}

/* Nobody will read what is behind the newest one that is stable. */
static void offset_trim(struct offset *o)
{
    while (o != NULL && !offset_is_stable(o))
        o = o->older;
    if (o == NULL || o->older == NULL)
        return;
    offset_free(o->older);
    o->older = NULL;
}

void offset_free(struct offset *o)
{
    if (o->older != NULL)
        offset_free(o->older);
    struct group_coord *c = o->group->coord;
    struct topic *t = o->topic;
    list_remove(&o->of_topic);
    mem_give(c, o);
    counter_add(&c->counters.offsets, (uint64_t)-1);
    topic_drop_idle(c, t);
}

int offset_put(struct offset *o)
{
    struct group *g = o->group;
    uint64_t key = key_of(o->topic, o->partition);
    struct offset *old = map_get(&g->offsets, key);
    if (map_put(&g->offsets, key, o) != 0)
        return -ENOMEM;
    if (old == NULL || old == o)
        return 0;
    list_remove(&old->of_topic);
    o->older = old;
    offset_trim(o);
    return 0;
}

void offset_remove(struct offset *o)
{
    map_remove(&o->group->offsets, key_of(o->topic, o->partition));
    offset_free(o);
}

void offset_write_tombstone(struct offset *o)
{
    struct group_coord *c = o->group->coord;
    record_offset_key(&c->key, o->group->name.text, o->topic->name.text, o->partition);
    writes_add(c, &c->key, NULL);
}

/* ---- commit ---- */

static enum group_error commit_check(const struct group *g, const struct group_identity *who)
{
    bool named = who->generation >= 0 || !str_empty(who->member) || who->instance.len >= 0;
    if (who->generation < 0 && g->state == GROUP_EMPTY)
        return GROUP_OK; /* someone who is no member of anything */
    if (!named)
        return g->state == GROUP_EMPTY ? GROUP_OK : GROUP_UNKNOWN_MEMBER;
    enum group_error error = member_check(g, who->member, who->instance);
    if (error != GROUP_OK)
        return error;
    if (who->generation != g->generation)
        return GROUP_ILLEGAL_GENERATION;
    return g->state == GROUP_COMPLETING ? GROUP_REBALANCE_IN_PROGRESS : GROUP_OK;
}

static enum group_error commit_group(struct group_coord *c, struct group_commit *m,
                                     struct group **ret)
{
    struct partition *p;
    if (m->who.group.len < 0) /* "" is a group here, as it was in old clients */
        return GROUP_INVALID_ID;
    enum group_error error = partition_for(c, m->who.group, &p);
    if (error != GROUP_OK)
        return error;
    struct group *g = group_get(c, m->who.group);
    if (g == NULL && m->who.generation >= 0)
        return m->tells_unknown ? GROUP_ID_NOT_FOUND : GROUP_ILLEGAL_GENERATION;
    if (g == NULL)
        g = group_make(p, m->who.group);
    *ret = g;
    return g == NULL ? GROUP_NOT_AVAILABLE : commit_check(g, &m->who);
}

static enum group_error item_check(const struct group_coord *c, const struct group_commit_item *it)
{
    const struct meta_topic *topic =
        it->topic.len < 0 ? NULL
                          : meta_topic_by_name(c->shard->meta, it->topic.p, (size_t)it->topic.len);
    if (topic == NULL || it->partition < 0 || it->partition >= topic->partitions_n)
        return GROUP_UNKNOWN_TOPIC;
    return it->value.metadata.len > c->config->metadata_bytes_max ? GROUP_METADATA_TOO_LARGE
                                                                  : GROUP_OK;
}

/* Room for the offset, unseen, where nothing can fail any more. */
static int item_make(struct group *g, struct group_commit_item *it)
{
    it->made = offset_make(g, it->topic, it->partition, &it->value);
    if (it->made == NULL)
        return -ENOMEM;
    it->fresh = offset_get(g, it->topic, it->partition) == NULL;
    it->made->hidden = true;
    if (!it->fresh || offset_put(it->made) == 0)
        return 0;
    offset_free(it->made);
    it->made = NULL;
    return -ENOMEM;
}

static void items_unmake(struct group_commit *m)
{
    for (int32_t i = m->items_n - 1; i >= 0; i--) {
        struct group_commit_item *it = &m->items[i];
        if (it->made != NULL && it->fresh)
            offset_remove(it->made);
        else if (it->made != NULL)
            offset_free(it->made);
    }
}

static void items_show(struct group_commit *m)
{
    for (int32_t i = 0; i < m->items_n; i++) {
        struct group_commit_item *it = &m->items[i];
        if (it->made == NULL)
            continue;
        it->made->hidden = false;
        it->made->seq = it->made->group->partition->written_seq;
        if (!it->fresh) {
            int rc = offset_put(it->made); /* replaces: takes no memory */
            ASSERT(rc == 0);
        }
    }
}

static int items_make(struct group *g, struct group_commit *m)
{
    struct group_coord *c = g->coord;
    int64_t now_ms = env_wall_ms(c->shard->env);
    for (int32_t i = 0; i < m->items_n; i++) {
        struct group_commit_item *it = &m->items[i];
        if (it->error != GROUP_OK)
            continue;
        it->value.commit_ms = now_ms;
        it->value.expire_ms = m->retention_ms < 0 ? -1 : now_ms + m->retention_ms;
        int rc = item_make(g, it);
        if (rc < 0)
            return rc;
    }
    writes_begin(g->partition);
    for (int32_t i = 0; i < m->items_n; i++) {
        struct group_commit_item *it = &m->items[i];
        if (it->made == NULL)
            continue;
        record_offset_key(&c->key, g->name.text, it->topic, it->partition);
        record_offset_value(&c->value, &it->made->v);
        writes_add(c, &c->key, &c->value);
    }
    return writes_end(c);
}

static void commit_finish(struct group_commit *m, enum group_error error)
{
    m->error = error;
    m->on_done(m);
}

/* It may have been replaced, or deleted with its group, meanwhile. */
static void items_trim(struct group_commit *m)
{
    struct group *g = group_get(m->coord, m->who.group);
    for (int32_t i = 0; g != NULL && i < m->items_n; i++) {
        const struct group_commit_item *it = &m->items[i];
        if (it->error == GROUP_OK)
            offset_trim(offset_get(g, it->topic, it->partition));
    }
}

static void on_committed(struct group_wait *w, int rc)
{
    struct group_commit *m = container_of(w, struct group_commit, wait);
    if (rc >= 0)
        items_trim(m);
    commit_finish(m, rc < 0 ? GROUP_NOT_AVAILABLE : GROUP_OK);
}

/* A member that commits is alive. */
static void committer_seen(struct group *g, const struct group_identity *who)
{
    struct group_member *m = member_get(g, who->member);
    if (m != NULL && (g->state == GROUP_STABLE || g->state == GROUP_PREPARING))
        session_arm(m, m->session_timeout_ms);
}

static enum group_error error_of_write(int rc)
{
    return rc == -EMSGSIZE ? GROUP_TOO_LARGE : GROUP_NOT_AVAILABLE;
}

void group_commit(struct group_coord *c, struct group_commit *m)
{
    struct group *g = NULL;
    m->coord = c;
    enum group_error error = commit_group(c, m, &g);
    if (error != GROUP_OK) {
        if (g != NULL)
            group_drop_idle(g);
        commit_finish(m, error);
        return;
    }
    committer_seen(g, &m->who);
    for (int32_t i = 0; i < m->items_n; i++) {
        struct group_commit_item *it = &m->items[i];
        it->made = NULL;
        if (it->error == GROUP_OK)
            it->error = item_check(c, it);
    }
    int rc = items_make(g, m);
    if (rc < 0) {
        items_unmake(m);
        group_drop_idle(g);
        commit_finish(m, error_of_write(rc));
        return;
    }
    items_show(m);
    counter_add(&c->counters.commits, 1);
    struct partition *p = g->partition;
    group_drop_idle(g); /* nothing of it was in order */
    partition_wait(p, &m->wait, on_committed);
}

/* ---- fetch ---- */

static void fetch_finish(struct group_fetch *f, enum group_error error)
{
    f->error = error;
    f->found = error == GROUP_OK ? group_get(f->coord, f->group) : NULL;
    f->on_done(f);
}

static void on_readable(struct group_wait *w, int rc)
{
    fetch_finish(container_of(w, struct group_fetch, wait),
                 rc < 0 ? GROUP_NOT_AVAILABLE : GROUP_OK);
}

void group_fetch(struct group_coord *c, struct group_fetch *f)
{
    struct partition *p;
    f->coord = c;
    enum group_error error = f->group.len < 0 ? GROUP_INVALID_ID : partition_for(c, f->group, &p);
    if (error != GROUP_OK)
        fetch_finish(f, error);
    else
        partition_wait(p, &f->wait, on_readable);
}

bool group_offset_find(const struct group *g, struct group_str topic, int32_t partition,
                       struct group_offset *ret)
{
    const struct offset *o = offset_stable(offset_get(g, topic, partition));
    if (o == NULL)
        return false;
    *ret = o->v;
    return true;
}

bool group_offset_next(const struct group *g, size_t *it, struct group_str *ret_topic,
                       int32_t *ret_partition, struct group_offset *ret)
{
    const struct offset *newest, *o = NULL;
    while (o == NULL && (newest = map_next(&g->offsets, it)) != NULL)
        o = newest->topic->gone ? NULL : offset_stable(newest);
    if (o == NULL)
        return false;
    *ret_topic = o->topic->name.text;
    *ret_partition = o->partition;
    *ret = o->v;
    return true;
}

uint32_t group_offsets_count(const struct group *g)
{
    return (uint32_t)g->offsets.count;
}

/* ---- deletion ---- */

static void offset_delete_finish(struct group_offset_delete *d, enum group_error error)
{
    d->error = error;
    d->on_done(d);
}

static void on_offsets_deleted(struct group_wait *w, int rc)
{
    offset_delete_finish(container_of(w, struct group_offset_delete, wait),
                         rc < 0 ? GROUP_NOT_AVAILABLE : GROUP_OK);
}

static enum group_error offset_delete_check(struct group_coord *c, struct group_str group,
                                            struct group **ret)
{
    struct partition *p;
    enum group_error error = str_empty(group) ? GROUP_INVALID_ID : partition_for(c, group, &p);
    if (error != GROUP_OK)
        return error;
    *ret = group_get(c, group);
    if (*ret == NULL)
        return GROUP_ID_NOT_FOUND;
    return (*ret)->state != GROUP_EMPTY && !str_is((*ret)->protocol_type, "consumer")
               ? GROUP_NON_EMPTY
               : GROUP_OK;
}

void group_offset_delete(struct group_coord *c, struct group_offset_delete *d)
{
    struct group *g = NULL;
    enum group_error error = offset_delete_check(c, d->group, &g);
    if (error != GROUP_OK) {
        offset_delete_finish(d, error);
        return;
    }
    writes_begin(g->partition);
    for (int32_t i = 0; i < d->items_n; i++) {
        struct group_offset_delete_item *it = &d->items[i];
        if (it->error == GROUP_OK && group_subscribes(g, it->topic) != 0)
            it->error = GROUP_SUBSCRIBED_TO_TOPIC;
        struct offset *o = it->error == GROUP_OK ? offset_get(g, it->topic, it->partition) : NULL;
        if (o != NULL)
            offset_write_tombstone(o);
    }
    int rc = writes_end(c);
    if (rc < 0) {
        offset_delete_finish(d, error_of_write(rc));
        return;
    }
    for (int32_t i = 0; i < d->items_n; i++) {
        struct group_offset_delete_item *it = &d->items[i];
        struct offset *o = it->error == GROUP_OK ? offset_get(g, it->topic, it->partition) : NULL;
        if (o != NULL)
            offset_remove(o);
    }
    struct partition *p = g->partition;
    group_drop_idle(g);
    partition_wait(p, &d->wait, on_offsets_deleted);
}

static void delete_finish(struct group_delete *d, enum group_error error)
{
    d->error = error;
    d->on_done(d);
}

static void on_deleted(struct group_wait *w, int rc)
{
    delete_finish(container_of(w, struct group_delete, wait),
                  rc < 0 ? GROUP_NOT_AVAILABLE : GROUP_OK);
}

static int group_write_end(struct group *g)
{
    struct group_coord *c = g->coord;
    struct offset *o;
    writes_begin(g->partition);
    for (size_t it = 0; (o = map_next(&g->offsets, &it)) != NULL;)
        offset_write_tombstone(o);
    if (g->stored) {
        record_group_key(&c->key, g->name.text);
        writes_add(c, &c->key, NULL);
    }
    return writes_end(c);
}

void group_delete(struct group_coord *c, struct group_delete *d)
{
    struct partition *p = NULL;
    enum group_error error = d->group.len < 0 ? GROUP_INVALID_ID : partition_for(c, d->group, &p);
    struct group *g = error == GROUP_OK ? group_get(c, d->group) : NULL;
    if (error == GROUP_OK && g == NULL)
        error = GROUP_ID_NOT_FOUND;
    if (error == GROUP_OK && g->state != GROUP_EMPTY)
        error = GROUP_NON_EMPTY;
    int rc = error == GROUP_OK ? group_write_end(g) : 0;
    if (rc < 0)
        error = error_of_write(rc);
    if (error != GROUP_OK) {
        delete_finish(d, error);
        return;
    }
    group_destroy(g, GROUP_UNKNOWN_MEMBER);
    partition_wait(p, &d->wait, on_deleted);
}
