/* group_lag.c: how far a group is behind: in records, in seconds, and as the time that is left
 * until retention takes what it has not read.
 *
 * Seconds: now less the timestamp of the first unread record.
 * Time left: when that record is as old as retention.ms; or, where retention.bytes limits the
 * partition, when as many bytes lie behind it, at the rate of the last RATE_WINDOW_MS and with
 * records of the partition's mean size. The sooner of the two counts. Brokers let go of whole
 * segments, and only now and then: it is the earliest time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "tools/client_configs.h"
#include "tools/client_sizes.h"
#include "tools/cmd_group.h"

#define RATE_WINDOW_MS (10 * 60 * 1000)
#define MS_NS 1000000u

struct lag {
    struct client *c;
    struct group_view *g;
    struct arena arena;
    struct client_spot *ends, *starts, *recent; /* a place for each partition */
    int64_t *sizes;
    int64_t now_ms;
};

struct retention { /* of a topic */
    bool is_known, deletes;
    int64_t ms, bytes; /* -1: no limit */
};

/* ---- leaders and offsets ---- */

static void leader_take(struct group_partition *p, const struct metadata_response *m)
{
    p->leader = -1;
    for (int32_t t = 0; t < m->topics_n; t++) {
        if (!wire_str_eq(m->topics[t].name, p->topic))
            continue;
        if (p->rc == 0)
            p->rc = client_rc(m->topics[t].error_code);
        for (int32_t i = 0; i < m->topics[t].partitions_n; i++)
            if (m->topics[t].partitions[i].partition_index == p->partition)
                p->leader = m->topics[t].partitions[i].leader_id;
    }
    if (p->rc == 0 && p->leader < 0)
        p->rc = client_rc(CLIENT_LEADER_NOT_AVAILABLE);
}

static int leaders_read(struct lag *l)
{
    struct metadata_response m;
    unsigned n = 0;
    const char **topics = arena_array(&l->arena, l->g->partitions_n, sizeof(*topics));
    if (topics == NULL)
        return client_fail(l->c, -ENOMEM, CLIENT_NO_MESSAGE, "lag");
    for (unsigned i = 0; i < l->g->partitions_n; i++)
        if (n == 0 || strcmp(topics[n - 1], l->g->partitions[i].topic) != 0)
            topics[n++] = l->g->partitions[i].topic;
    int rc = client_metadata(l->c, topics, n, false, &l->arena, &m);
    for (unsigned i = 0; rc == 0 && i < l->g->partitions_n; i++)
        leader_take(&l->g->partitions[i], &m);
    return rc;
}

/* Spots of the partitions that can be asked about; ret_at: which partition each is. */
static struct client_spot *spots_make(struct lag *l, int64_t timestamp, unsigned **ret_at,
                                      unsigned *ret_n)
{
    struct client_spot *spots = arena_array(&l->arena, l->g->partitions_n, sizeof(*spots));
    *ret_at = arena_array(&l->arena, l->g->partitions_n, sizeof(**ret_at));
    *ret_n = 0;
    for (unsigned i = 0; spots != NULL && *ret_at != NULL && i < l->g->partitions_n; i++) {
        const struct group_partition *p = &l->g->partitions[i];
        if (p->rc != 0)
            continue;
        (*ret_at)[*ret_n] = i;
        spots[(*ret_n)++] = (struct client_spot){.topic = p->topic,
                                                 .partition = p->partition,
                                                 .leader = p->leader,
                                                 .timestamp = timestamp};
    }
    return *ret_at == NULL ? NULL : spots;
}

/* Offsets of all partitions at a time, spread over ret by partition. */
static int offsets_read(struct lag *l, int64_t timestamp, struct client_spot **ret)
{
    unsigned *at, n;
    struct client_spot *spots = spots_make(l, timestamp, &at, &n);
    *ret = arena_array(&l->arena, l->g->partitions_n, sizeof(**ret));
    if (spots == NULL || *ret == NULL)
        return client_fail(l->c, -ENOMEM, CLIENT_NO_MESSAGE, "lag");
    int rc = client_list_offsets(l->c, spots, n, READ_UNCOMMITTED);
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        (*ret)[at[i]] = spots[i];
        l->g->partitions[at[i]].rc = spots[i].rc;
    }
    return rc;
}

static int sizes_read(struct lag *l)
{
    unsigned *at, n;
    struct client_spot *spots = spots_make(l, OFFSETS_LATEST, &at, &n);
    int64_t *sizes = arena_array(&l->arena, l->g->partitions_n, sizeof(*sizes));
    l->sizes = arena_array(&l->arena, l->g->partitions_n, sizeof(*l->sizes));
    if (spots == NULL || sizes == NULL || l->sizes == NULL)
        return client_fail(l->c, -ENOMEM, CLIENT_NO_MESSAGE, "lag");
    int rc = client_sizes(l->c, spots, n, sizes);
    for (unsigned i = 0; rc == 0 && i < n; i++)
        l->sizes[at[i]] = sizes[i];
    return rc;
}

/* ---- lag ---- */

static int64_t first_unread(const struct group_partition *p)
{
    return MAX(p->committed, p->start);
}

static void lag_of(struct lag *l, unsigned i)
{
    struct group_partition *p = &l->g->partitions[i];
    int64_t found;
    if (p->rc != 0)
        return;
    p->start = l->starts[i].offset;
    p->end = l->ends[i].offset;
    if (p->committed < 0)
        return;
    p->lag = MAX(p->end - p->committed, 0);
    p->lost = MAX(p->start - p->committed, 0);
    int rc = first_unread(p) >= p->end
                 ? -ENOENT
                 : client_record_time(l->c, &l->ends[i], first_unread(p), &p->unread_ms, &found);
    if (rc == -ENOENT) { /* or just markers of transactions */
        p->left = LEFT_NOTHING_UNREAD;
        p->lag_s = 0;
    } else if (rc < 0) {
        p->rc = rc;
    } else if (p->unread_ms >= 0) {
        p->lag_s = MAX((double)(l->now_ms - p->unread_ms) / 1e3, 0);
    }
}

/* ---- the time left ---- */

static int64_t limit_of(struct wire_str value)
{
    char text[32];
    int64_t v;
    if (value.len <= 0 || value.len >= (int32_t)sizeof(text))
        return -1;
    memcpy(text, value.p, (size_t)value.len);
    text[value.len] = '\0';
    return cli_number(text, 0, INT64_MAX, &v) == 0 ? v : -1;
}

static int retention_read(struct lag *l, const char *topic, struct retention *ret)
{
    struct describe_configs_response r;
    struct arena arena;
    unsigned seen = 0;
    *ret = (struct retention){.ms = -1, .bytes = -1};
    arena_init(&arena, CLIENT_ARENA_BYTES);
    int rc = client_configs(l->c, CONFIG_TOPIC, topic, false, &arena, &r);
    for (int32_t i = 0; rc == 0 && i < r.results[0].configs_n; i++) {
        struct wire_str name = r.results[0].configs[i].name, value = r.results[0].configs[i].value;
        if (wire_str_eq(name, "retention.ms"))
            ret->ms = limit_of(value), seen++;
        if (wire_str_eq(name, "retention.bytes"))
            ret->bytes = limit_of(value), seen++;
        if (wire_str_eq(name, "cleanup.policy") && value.len > 0)
            ret->deletes = memmem(value.p, (size_t)value.len, "delete", 6) != NULL, seen++;
    }
    ret->is_known = seen == 3;
    arena_fini(&arena);
    return rc == client_rc(CLIENT_UNSUPPORTED_VERSION) ? 0 : rc;
}

static void left_take(struct group_partition *p, enum group_left kind, double left_s)
{
    if (p->left == LEFT_BY_TIME && p->left_s <= left_s)
        return;
    p->left = kind;
    p->left_s = left_s;
}

/* By the bytes behind the first unread record, and how fast they become more. */
static void left_by_size(struct lag *l, unsigned i, int64_t limit_bytes)
{
    struct group_partition *p = &l->g->partitions[i];
    const struct client_spot *recent = &l->recent[i];
    if (l->sizes[i] < 0) {
        if (p->left != LEFT_BY_TIME) /* what time says then is no longer sure to be the sooner */
            p->left = LEFT_UNKNOWN;
        return;
    }
    if (recent->offset < 0 || p->end <= recent->offset || p->end <= p->start)
        return; /* nothing comes, so nothing goes */
    double record_bytes = (double)l->sizes[i] / (double)(p->end - p->start);
    double window_s = MAX((double)(l->now_ms - recent->found_timestamp) / 1e3, 1);
    double rate = (double)(p->end - recent->offset) * record_bytes / window_s;
    double behind = (double)(p->end - first_unread(p)) * record_bytes;
    if (rate > 0)
        left_take(p, LEFT_BY_SIZE, ((double)limit_bytes - behind) / rate);
}

static void left_of(struct lag *l, unsigned i, const struct retention *r)
{
    struct group_partition *p = &l->g->partitions[i];
    if (p->rc != 0 || p->left == LEFT_NOTHING_UNREAD || p->committed < 0 || !r->is_known)
        return;
    p->left = LEFT_UNBOUNDED;
    if (!r->deletes)
        return;
    if (r->ms >= 0 && p->unread_ms < 0)
        p->left = LEFT_UNKNOWN;
    else if (r->ms >= 0)
        left_take(p, LEFT_BY_TIME, (double)(p->unread_ms - l->now_ms) / 1e3 + (double)r->ms / 1e3);
    if (r->bytes >= 0)
        left_by_size(l, i, r->bytes);
}

static int left_read(struct lag *l)
{
    struct retention r = {0};
    const char *topic = NULL;
    int rc = 0;
    for (unsigned i = 0; i < l->g->partitions_n; i++) {
        const struct group_partition *p = &l->g->partitions[i];
        if (p->rc != 0)
            continue;
        if (topic == NULL || strcmp(topic, p->topic) != 0) {
            topic = p->topic;
            if ((rc = retention_read(l, topic, &r)) < 0)
                return rc;
        }
        left_of(l, i, &r);
    }
    return rc;
}

int group_view_lag(struct client *c, struct group_view *g)
{
    struct lag l = {.c = c, .g = g};
    if (g->partitions_n == 0)
        return 0;
    arena_init(&l.arena, CLIENT_ARENA_BYTES);
    int rc = leaders_read(&l);
    if (rc == 0)
        rc = offsets_read(&l, OFFSETS_LATEST, &l.ends);
    if (rc == 0)
        rc = offsets_read(&l, OFFSETS_EARLIEST, &l.starts);
    l.now_ms = (int64_t)(clock_read_ns(CLOCK_REALTIME) / MS_NS);
    if (rc == 0)
        rc = offsets_read(&l, l.now_ms - RATE_WINDOW_MS, &l.recent);
    if (rc == 0)
        rc = sizes_read(&l);
    for (unsigned i = 0; rc == 0 && i < g->partitions_n; i++)
        lag_of(&l, i);
    if (rc == 0)
        rc = left_read(&l);
    arena_fini(&l.arena);
    return rc;
}
