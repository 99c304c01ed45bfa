/* fetch_session.h: incremental fetch sessions (KIP-227) of one shard: what a client has said it
 * wants and what it was told last, so that later requests name only what changed.
 *
 * Happy path: fetch_sessions_begin() turns a request into a context: a session, brought up to date
 *   with the request, or none; the caller answers; fetch_sessions_end().
 * Failure: Kafka's codes 70, 71 and 106 for the whole request. A session that there is no room for
 *   is declined, which every client understands.
 * Bounds: at most slots_max sessions and units_max topics and partitions in all of them. A full
 *   cache makes room only by ending a session that was not used for two minutes.
 * Lifetime: what is dropped while a request of the session is under way (between begin and end)
 *   stays in memory until no request of it is.
 * Pure: no I/O and no clock. Threads: the shard's own. */
#ifndef NET_API_FETCH_SESSION_H
#define NET_API_FETCH_SESSION_H

#include "core/base/list.h"
#include "core/base/map.h"
#include "net/wire/messages.h"

#define FETCH_SESSION_SHARD_BITS 8 /* of the id: the shard, which makes ids unique */
#define FETCH_SESSION_IDLE_NS_MAX UINT64_C(120000000000)

struct meta_topic;

struct fetch_topic { /* as the client named it: by name, or by id with an empty name */
    struct wire_str name;
    struct wire_uuid id;
    /* Cache of the user: what it resolves to in the image of that version. */
    const struct meta_topic *resolved;
    uint64_t resolved_version;
};

struct fetch_want {
    int64_t offset;
    int32_t max_bytes, current_leader_epoch, last_fetched_epoch;
};

struct fetch_session_topic {
    struct fetch_topic topic;
    struct fetch_session_topic *same_hash;
    uint64_t hash;
    uint32_t number; /* in the session, never used again */
    uint32_t parts_n;
    struct list_node link; /* session.topics_gone */
    char *resolved_name;   /* by the user, malloc: what the id once named */
    char name[];
};

struct fetch_session_part {
    struct list_node link; /* session.parts, the order of service; or parts_gone */
    struct fetch_session_topic *topic;
    int32_t index;
    bool gone;
    struct fetch_want want;
    int64_t sent_high_watermark, sent_log_start; /* -1: nothing sent, or an error */
};

struct fetch_session {
    struct list_node link; /* by last use */
    int32_t id, next_epoch;
    bool by_id, gone;
    unsigned under_way; /* requests between begin and end */
    uint64_t used_ns;
    uint32_t parts_n, units, topics_made;
    struct list_node parts, parts_gone, topics_gone;
    struct map topic_map, part_map;
};

struct fetch_context {
    struct fetch_session *session; /* NULL: the partitions are those of the request */
    bool full;                     /* tell every partition, not only what changed */
    bool opened;                   /* by this request */
};

struct fetch_sessions;
struct fetch_sessions *fetch_sessions_create(unsigned shard, unsigned slots_max,
                                             uint32_t units_max);
void fetch_sessions_destroy(struct fetch_sessions *c); /* NULL is fine */
unsigned fetch_sessions_count(const struct fetch_sessions *c);

/* Kafka error code for the whole request; *ret only with 0. by_id: the version names topics by id.
 */
int16_t fetch_sessions_begin(struct fetch_sessions *c, const struct fetch_request *q, bool by_id,
                             uint64_t now_ns, uint64_t random, struct fetch_context *ret);
/* keep false: the client never got the answer that opened it. */
void fetch_sessions_end(struct fetch_sessions *c, struct fetch_session *s, bool keep);

/* Whether an incremental answer tells this partition although it has no records, and remembers
 * that it did; with an error always, this time and next. */
bool fetch_session_told(struct fetch_session_part *part, int16_t error, int64_t high_watermark,
                        int64_t log_start);
/* It returned records: the others come first next time. */
void fetch_session_served(struct fetch_session *s, struct fetch_session_part *part);

#endif
