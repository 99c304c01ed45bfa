/* load.c: groups from the records of their partition, at start or when it has come here. One
 * partition at a time, one read and what it brought a turn, so that the shard's loop goes on. */
#include "core/group/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define LOAD_BYTES (64u << 10)
#define FINISH_GROUPS 64u /* a turn, when all records have been read */

static void on_load_timer(struct shard_timer *t);

void load_start(struct group_coord *c)
{
    if (c->load_timer.heap_at == 0 && !c->stopping)
        timer_set_ms(c, &c->load_timer, 0, on_load_timer);
}

/* ---- one record ---- */

static struct group *group_wanted(struct partition *p, struct group_str name)
{
    struct group *g = group_get(p->coord, name);
    return g != NULL ? g : group_make(p, name);
}

static int offset_load(struct partition *p, const struct record_key *key,
                       const struct batch_record *r)
{
    struct group *g =
        r->value_len < 0 ? group_get(p->coord, key->group) : group_wanted(p, key->group);
    if (r->value_len < 0) {
        struct offset *o = g == NULL ? NULL : offset_get(g, key->topic, key->partition);
        if (o != NULL)
            offset_remove(o);
        return 0;
    }
    struct group_offset v;
    int rc = record_read_offset(r->value, r->value_len, &v);
    if (rc < 0)
        return rc;
    struct offset *o = g == NULL ? NULL : offset_make(g, key->topic, key->partition, &v);
    return o == NULL ? -ENOMEM : offset_put(o);
}

static void members_clear(struct group *g)
{
    for (struct list_node *it; (it = list_head(&g->members)) != NULL;)
        member_remove(container_of(it, struct group_member, link), GROUP_UNKNOWN_MEMBER);
}

static int member_load(struct group *g, const struct record_group *record,
                       const struct record_member *told)
{
    struct group_protocol protocol = {record->protocol, told->subscription};
    struct group_join j = {.client_id = told->client_id,
                           .client_host = told->client_host,
                           .instance = told->instance,
                           .protocol_type = record->protocol_type,
                           .session_timeout_ms = told->session_timeout_ms,
                           .rebalance_timeout_ms = told->rebalance_timeout_ms,
                           .protocols = &protocol,
                           .protocols_n = record->protocol.len >= 0};
    if (member_get(g, told->id) != NULL)
        return -EBADMSG;
    struct group_member *m = member_make(g, told->id, &j);
    if (m == NULL)
        return -ENOMEM;
    if (str_eq(told->id, record->leader))
        g->leader = m;
    return blob_dup(g->coord, told->assignment, &m->assignment);
}

static int group_load(struct partition *p, struct group_str name, const struct batch_record *r)
{
    struct group *g = r->value_len < 0 ? group_get(p->coord, name) : group_wanted(p, name);
    struct group_coord *c = p->coord;
    if (g == NULL)
        return r->value_len < 0 ? 0 : -ENOMEM;
    members_clear(g);
    str_free(c, &g->protocol);
    str_free(c, &g->protocol_type);
    g->stored = r->value_len >= 0;
    group_state_loaded(g, GROUP_EMPTY);
    if (!g->stored)
        return 0;
    struct record_group record;
    int rc = record_read_group(r->value, r->value_len, &record);
    if (rc < 0)
        return rc;
    struct group_str type = record.protocol_type;
    if (str_empty(type))
        type.len = -1;
    rc = str_dup(c, type, &g->protocol_type);
    if (rc == 0)
        rc = str_dup(c, record.protocol, &g->protocol);
    g->generation = record.generation;
    g->state_ms = record.state_ms;
    for (int32_t i = 0; rc == 0 && i < record.members_n; i++) {
        struct record_member member;
        rc = record_read_member(&record, &member);
        if (rc == 0)
            rc = member_load(g, &record, &member);
    }
    group_state_loaded(g, g->members_n > 0 ? GROUP_STABLE : GROUP_EMPTY);
    return rc;
}

static int record_load(struct partition *p, const struct batch_record *r)
{
    struct record_key key;
    int rc = record_read_key(r->key, r->key_len, &key);
    counter_add(&p->coord->counters.loaded_records, 1);
    if (rc == 0)
        rc = key.is_group ? group_load(p, key.group, r) : offset_load(p, &key, r);
    if (rc != -ENOTSUP && rc != -EBADMSG)
        return rc;
    log_warn("%s-%d: offset %lld: %s", GROUP_TOPIC_NAME, p->index, (long long)r->offset,
             rc == -ENOTSUP ? "a kind of record that is not known, left alone"
                            : "a record that makes no sense, left alone");
    return 0;
}

/* ---- reading ---- */

static int batch_load(struct partition *p, const uint8_t *batch, const struct batch_header *h)
{
    struct batch_iter *iter;
    struct batch_record r;
    if (batch_is_control(h->attributes))
        return 0;
    int rc = batch_iter_open(&iter, batch, h->len_bytes);
    if (rc < 0)
        return rc;
    while ((rc = batch_iter_next(iter, &r)) == 1 && (rc = record_load(p, &r)) == 0)
        ;
    batch_iter_close(iter);
    return rc;
}

static int bytes_load(struct partition *p, const uint8_t *data, size_t len_bytes)
{
    struct batch_header h;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < len_bytes; at += h.len_bytes) {
        rc = batch_peek(data + at, len_bytes - at, &h);
        if (rc == 0 && h.len_bytes > len_bytes - at)
            rc = -EBADMSG;
        if (rc == 0)
            rc = batch_load(p, data + at, &h);
        if (rc == 0)
            p->load_offset = MAX(p->load_offset, batch_last_offset(&h) + 1);
    }
    return rc;
}

/* What was read, as one piece. */
static int read_load(struct partition *p, const struct plog_read *r)
{
    uint8_t *data = malloc(MAX(r->len_bytes, 1u));
    size_t at = 0;
    if (data == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < r->iov_n; i++) {
        memcpy(data + at, r->iov[i].iov_base, r->iov[i].iov_len);
        at += r->iov[i].iov_len;
    }
    p->coord->unlimited = true;
    int rc = bytes_load(p, data, at);
    p->coord->unlimited = false;
    free(data);
    return rc;
}

static void partition_broken(struct partition *p, int rc)
{
    log_error("shard %u / %s-%d: its groups cannot be loaded, offset %lld: %s",
              p->coord->shard->index, GROUP_TOPIC_NAME, p->index, (long long)p->load_offset,
              strerror(-rc));
    while (!list_empty(&p->groups))
        group_destroy(container_of(list_head(&p->groups), struct group, link), GROUP_NOT_AVAILABLE);
    p->state = PARTITION_FAILED;
}

static void finish_begin(struct partition *p)
{
    p->finishing = true;
    p->finish_at = p->groups.next;
}

static void read_take(struct group_coord *c)
{
    struct partition *p = c->reading;
    c->reading = NULL;
    int rc = c->read.rc;
    uint32_t len_bytes = c->read.len_bytes;
    if (rc == 0 && !p->orphan && !c->stopping)
        rc = read_load(p, &c->read);
    plog_read_release(&c->read);
    if (p->orphan) {
        list_remove(&p->link);
        free(p);
    } else if (c->stopping) {
        return;
    } else if (rc < 0) {
        partition_broken(p, rc);
    } else if (p->load_offset >= p->load_end || len_bytes == 0) {
        finish_begin(p);
    }
    load_start(c);
}

static void on_read(struct plog_read *r)
{
    read_take(container_of(r, struct group_coord, read));
}

static void read_start(struct partition *p)
{
    struct group_coord *c = p->coord;
    struct plog *plog = log_store_find(c->shard->logs, p->number);
    if (plog == NULL) {
        partition_broken(p, -ENOENT);
        load_start(c);
        return;
    }
    c->reading = p;
    c->read = (struct plog_read){
        .offset = MAX(p->load_offset, plog_start_offset(plog)),
        .max_bytes = LOAD_BYTES,
        .at_least_one = true,
    };
    if (plog_read(plog, &c->read, on_read) == 1)
        read_take(c);
}

/* ---- the end ---- */

static void finish_step(struct partition *p)
{
    for (unsigned n = 0; n < FINISH_GROUPS && p->finish_at != &p->groups; n++) {
        struct group *g = container_of(p->finish_at, struct group, link);
        p->finish_at = p->finish_at->next;
        rebalance_loaded(g);
        group_drop_idle(g);
    }
    if (p->finish_at != &p->groups)
        return;
    p->finishing = false;
    p->state = PARTITION_READY;
    p->coord->loaded = true;
    log_debug("shard %u / %s-%d: groups are loaded", p->coord->shard->index, GROUP_TOPIC_NAME,
              p->index);
}

static void on_load_timer(struct shard_timer *t)
{
    struct group_coord *c = container_of(t, struct group_coord, load_timer);
    if (c->reading != NULL)
        return; /* goes on when that is done */
    for (int32_t i = 0; i < c->partitions_n; i++) {
        struct partition *p = c->partitions[i];
        if (p == NULL || p->state != PARTITION_LOADING)
            continue;
        if (!p->finishing) {
            read_start(p);
            return;
        }
        finish_step(p);
        load_start(c);
        return;
    }
    if (c->loaded)
        topics_forget_missing(c);
    c->loaded = false;
}
