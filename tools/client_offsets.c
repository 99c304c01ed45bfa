#include "tools/client_offsets.h"

#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/batch/batch.h"

enum {
    LIST_OFFSETS_MOST = 9,
    FETCH_MOST = 12, /* the last one that names topics */
    RECORD_WAIT_MS = 0,
    FETCH_BYTES_MAX = 64 << 20, /* a batch that is larger comes all the same */
};

static bool is_pending(const struct client_spot *s)
{
    return s->rc == -EAGAIN;
}

/* ---- ListOffsets ---- */

static int request_fill(struct client_spot *spots, unsigned n, int32_t leader, struct arena *arena,
                        struct list_offsets_request *request)
{
    struct list_offsets_request_list_offsets_topic *topic = NULL;
    request->topics =
        wire_new_array(&list_offsets_request_list_offsets_topic_schema, arena, (int32_t)n);
    struct list_offsets_request_list_offsets_partition *p =
        wire_new_array(&list_offsets_request_list_offsets_partition_schema, arena, (int32_t)n);
    if (request->topics == NULL || p == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        if (!is_pending(&spots[i]) || spots[i].leader != leader)
            continue;
        if (topic == NULL || !wire_str_eq(topic->name, spots[i].topic)) {
            topic = &request->topics[request->topics_n++];
            topic->name = wire_str_of(spots[i].topic);
            topic->partitions = p;
        }
        p->partition_index = spots[i].partition;
        p->timestamp = spots[i].timestamp;
        topic->partitions_n++;
        p++;
    }
    return 0;
}

static void answer_take(struct client_spot *spots, unsigned n, struct wire_str topic,
                        const struct list_offsets_response_list_offsets_partition_response *p)
{
    for (unsigned i = 0; i < n; i++) {
        struct client_spot *s = &spots[i];
        if (s->partition != p->partition_index || !is_pending(s) || !wire_str_eq(topic, s->topic))
            continue;
        s->rc = client_rc(p->error_code);
        s->offset = p->offset;
        s->found_timestamp = p->timestamp;
        s->leader_epoch = p->leader_epoch;
        return;
    }
}

static int leader_ask(struct client *c, struct client_spot *spots, unsigned n, int32_t leader,
                      enum client_isolation isolation, struct arena *arena)
{
    struct list_offsets_request request;
    struct list_offsets_response response;
    int16_t version;
    int rc = client_version(c, leader, API_LIST_OFFSETS, LIST_OFFSETS_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&list_offsets_request_schema, &request);
    request.replica_id = -1;
    request.isolation_level = (int8_t)isolation;
    rc = request_fill(spots, n, leader, arena, &request);
    if (rc < 0)
        return client_fail(c, rc, CLIENT_NO_MESSAGE, "offsets");
    rc = client_call(c, leader, API_LIST_OFFSETS, version, &request, arena, &response);
    for (int32_t t = 0; rc == 0 && t < response.topics_n; t++)
        for (int32_t p = 0; p < response.topics[t].partitions_n; p++)
            answer_take(spots, n, response.topics[t].name, &response.topics[t].partitions[p]);
    return rc;
}

/* Ask the leaders of all that is pending. What was not answered has an error after that. */
static void round_ask(struct client *c, struct client_spot *spots, unsigned n,
                      enum client_isolation isolation, struct arena *arena)
{
    for (unsigned i = 0; i < n; i++) {
        if (!is_pending(&spots[i]))
            continue;
        int32_t leader = spots[i].leader;
        arena_reset(arena);
        int rc = leader < 0 ? client_rc(CLIENT_LEADER_NOT_AVAILABLE)
                            : leader_ask(c, spots, n, leader, isolation, arena);
        for (unsigned k = i; k < n; k++)
            if (is_pending(&spots[k]) && spots[k].leader == leader)
                spots[k].rc = rc < 0 ? rc : -EPROTO;
    }
}

static int32_t leader_in(const struct metadata_response *m, const struct client_spot *s)
{
    for (int32_t t = 0; t < m->topics_n; t++)
        for (int32_t p = 0; p < m->topics[t].partitions_n; p++)
            if (m->topics[t].partitions[p].partition_index == s->partition &&
                wire_str_eq(m->topics[t].name, s->topic))
                return m->topics[t].partitions[p].leader_id;
    return -1;
}

/* Make pending again what is worth asking again, with the leaders of now. */
static int leaders_refresh(struct client *c, struct client_spot *spots, unsigned n,
                           struct arena *arena)
{
    struct metadata_response m;
    arena_reset(arena);
    const char **topics = arena_array(arena, n, sizeof(*topics));
    unsigned topics_n = 0;
    if (topics == NULL)
        return client_fail(c, -ENOMEM, CLIENT_NO_MESSAGE, "offsets");
    for (unsigned i = 0; i < n; i++)
        if (client_rc_is_retriable(spots[i].rc) &&
            (topics_n == 0 || strcmp(topics[topics_n - 1], spots[i].topic) != 0))
            topics[topics_n++] = spots[i].topic;
    int rc = client_metadata(c, topics, topics_n, false, arena, &m);
    for (unsigned i = 0; rc == 0 && i < n; i++)
        if (client_rc_is_retriable(spots[i].rc)) {
            spots[i].leader = leader_in(&m, &spots[i]);
            spots[i].rc = -EAGAIN;
        }
    return rc;
}

static int retriable_rc(const struct client_spot *spots, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (client_rc_is_retriable(spots[i].rc))
            return spots[i].rc;
    return 0;
}

int client_list_offsets(struct client *c, struct client_spot *spots, unsigned n,
                        enum client_isolation isolation)
{
    struct client_retry retry = {0};
    struct arena arena;
    int rc = 0;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    for (unsigned i = 0; i < n; i++) {
        spots[i].rc = spots[i].leader < 0 ? client_rc(CLIENT_LEADER_NOT_AVAILABLE) : -EAGAIN;
        spots[i].offset = spots[i].found_timestamp = spots[i].leader_epoch = -1;
    }
    if (retriable_rc(spots, n) != 0)
        rc = leaders_refresh(c, spots, n, &arena);
    if (rc == 0)
        round_ask(c, spots, n, isolation, &arena);
    while (rc == 0 && client_retry(c, &retry, retriable_rc(spots, n))) {
        rc = leaders_refresh(c, spots, n, &arena);
        if (rc == 0)
            round_ask(c, spots, n, isolation, &arena);
    }
    arena_fini(&arena);
    return rc;
}

struct client_spot *client_spots(const struct metadata_response *m, struct arena *arena,
                                 unsigned *ret_n)
{
    unsigned n = 0;
    size_t all = 0;
    for (int32_t t = 0; t < m->topics_n; t++)
        all += m->topics[t].partitions_n > 0 ? (size_t)m->topics[t].partitions_n : 0;
    struct client_spot *spots = arena_array(arena, all, sizeof(*spots));
    for (int32_t t = 0; spots != NULL && t < m->topics_n; t++) {
        const char *name = arena_printf(arena, "%.*s", MAX(m->topics[t].name.len, 0),
                                        m->topics[t].name.len > 0 ? m->topics[t].name.p : "");
        if (name == NULL)
            return NULL;
        for (int32_t p = 0; p < m->topics[t].partitions_n; p++)
            spots[n++] = (struct client_spot){
                .topic = name,
                .partition = m->topics[t].partitions[p].partition_index,
                .leader = m->topics[t].partitions[p].leader_id,
                .timestamp = OFFSETS_LATEST,
            };
    }
    *ret_n = n;
    return spots;
}

/* ---- the record at an offset ---- */

/* First record at or after the offset in whole, intact batches. 0, -ENOENT, -EBADMSG, -ENOMEM */
static int record_find(const struct wire_records *records, int64_t offset, int64_t *ret_timestamp,
                       int64_t *ret_offset)
{
    const uint8_t *at = records->data;
    size_t left = records->len > 0 ? (size_t)records->len : 0;
    struct batch_header h;
    int rc = 0;
    for (; left > 0 && (rc = batch_peek(at, left, &h)) == 0 && h.len_bytes <= left;
         at += h.len_bytes, left -= h.len_bytes) {
        struct batch_iter *iter;
        struct batch_record r;
        bool found = false;
        if (!batch_crc_ok(at, &h))
            return -EBADMSG;
        if (batch_is_control(h.attributes) || batch_last_offset(&h) < offset)
            continue;
        rc = batch_iter_open(&iter, at, h.len_bytes);
        while (rc >= 0 && !found && (rc = batch_iter_next(iter, &r)) > 0)
            found = r.offset >= offset;
        if (found) {
            *ret_timestamp = r.timestamp;
            *ret_offset = r.offset;
        }
        if (rc >= 0)
            batch_iter_close(iter);
        if (found || rc < 0)
            return found ? 0 : rc;
    }
    return rc == -EBADMSG ? rc : -ENOENT;
}

static int record_fetch(struct client *c, const struct client_spot *s, int64_t offset,
                        struct arena *arena, struct fetch_response *ret)
{
    struct fetch_request request;
    struct fetch_request_fetch_topic topic;
    struct fetch_request_fetch_partition partition;
    int16_t version;
    int rc = client_version(c, s->leader, API_FETCH, FETCH_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&fetch_request_schema, &request);
    wire_set_defaults(&fetch_request_fetch_topic_schema, &topic);
    wire_set_defaults(&fetch_request_fetch_partition_schema, &partition);
    partition.partition = s->partition;
    partition.fetch_offset = offset;
    partition.partition_max_bytes = 1; /* one batch, whatever its size */
    topic.topic = wire_str_of(s->topic);
    topic.partitions = &partition;
    topic.partitions_n = 1;
    request.max_wait_ms = RECORD_WAIT_MS;
    request.max_bytes = FETCH_BYTES_MAX;
    request.topics = &topic;
    request.topics_n = 1;
    return client_call(c, s->leader, API_FETCH, version, &request, arena, ret);
}

int client_record_time(struct client *c, const struct client_spot *spot, int64_t offset,
                       int64_t *ret_timestamp, int64_t *ret_offset)
{
    struct fetch_response response;
    struct arena arena;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    int rc = record_fetch(c, spot, offset, &arena, &response);
    if (rc == 0)
        rc = client_rc(response.error_code);
    if (rc == 0 && (response.responses_n != 1 || response.responses[0].partitions_n != 1))
        rc = -EPROTO;
    if (rc == 0)
        rc = client_rc(response.responses[0].partitions[0].error_code);
    if (rc == 0)
        rc = record_find(&response.responses[0].partitions[0].records, offset, ret_timestamp,
                         ret_offset);
    arena_fini(&arena);
    return rc;
}
