/* group.h: the coordinator of one shard's consumer groups, Kafka's classic protocol: who is a
 * member, what each was assigned, how far each group has read.
 *
 * Happy path: a call names a group; the shard that leads the group's partition of
 *   __consumer_offsets keeps the group in memory. What must survive is appended to that partition
 *   in Kafka's own record formats, and a call that changed something is answered when its records
 *   are stable. At start the partition is read from its beginning, and calls are told to wait.
 * Failure: each call has an error of its own. A partition whose log fails for good loses its groups
 *   here until the next start: memory never says what the log does not say.
 * Memory: all that is kept counts against one limit; beyond it nothing new is admitted.
 * Ownership: strings and bytes of a call are lent until on_done; what on_done is shown is lent
 *   until it returns. on_done runs once, perhaps before the call returns, and must not call back.
 * Threads: the shard's. Relies on nothing outside of it: time and randomness are its environment's.
 */
#ifndef CORE_GROUP_GROUP_H
#define CORE_GROUP_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/shard/shard.h"

#define GROUP_TOPIC_NAME "__consumer_offsets"

struct group_coord;
struct group;
struct group_member;

struct group_str { /* no NUL at the end */
    const char *p;
    int32_t len; /* -1: null */
};
struct group_blob {
    const uint8_t *p;
    int32_t len;
};

enum group_error {
    GROUP_OK,
    GROUP_NOT_COORDINATOR, /* another shard, or nobody yet */
    GROUP_NOT_AVAILABLE,   /* now; try again */
    GROUP_LOADING,
    GROUP_INVALID_ID,
    GROUP_ID_NOT_FOUND,
    GROUP_UNKNOWN_MEMBER,
    GROUP_MEMBER_ID_REQUIRED,
    GROUP_FENCED_INSTANCE,
    GROUP_ILLEGAL_GENERATION,
    GROUP_REBALANCE_IN_PROGRESS,
    GROUP_INCONSISTENT_PROTOCOL,
    GROUP_INVALID_SESSION_TIMEOUT,
    GROUP_MAX_SIZE_REACHED,
    GROUP_NON_EMPTY,
    GROUP_SUBSCRIBED_TO_TOPIC,
    GROUP_METADATA_TOO_LARGE,
    GROUP_UNKNOWN_TOPIC,
    GROUP_TOO_LARGE, /* its record does not fit into a batch */
    GROUP_INVALID_REQUEST,
    GROUP_ERRORS,
};

enum group_state { GROUP_EMPTY, GROUP_PREPARING, GROUP_COMPLETING, GROUP_STABLE, GROUP_STATES };
const char *group_state_name(enum group_state state); /* as Kafka prints it */

/* Something that is answered when all that was written before it is stable. Private. */
struct group_wait {
    struct list_node link;
    uint64_t seq;
    void (*run)(struct group_wait *w, int rc);
};

/* ---- membership ---- */

#define GROUP_PROTOCOLS_MAX 256

struct group_protocol {
    struct group_str name;
    struct group_blob metadata;
};

struct group_join {
    struct group_str group, member, instance, client_id, client_host, protocol_type;
    int32_t session_timeout_ms, rebalance_timeout_ms;
    const struct group_protocol *protocols;
    int32_t protocols_n;
    bool id_required;         /* a new dynamic member is told its id and has to come again */
    bool may_skip_assignment; /* the client understands that a leader need not assign */
    enum group_error error;   /* out, as all below */
    int32_t generation;
    struct group_str own_id, leader, chosen_type, chosen; /* member's id; protocol */
    bool skip_assignment;
    const struct group *members_of; /* for the leader: walk them; else NULL */
    void (*on_done)(struct group_join *j);
    struct group_member *parked; /* private from here */
    struct group_coord *coord;
    struct group_wait wait; /* for the record of a static member's new id */
    int32_t wait_generation;
    struct group_str old_leader;
};
void group_join(struct group_coord *, struct group_join *j);
/* The client is gone: on_done comes at once if it has not come yet. Its member stays. */
void group_join_cancel(struct group_join *j);

struct group_assignment {
    struct group_str member;
    struct group_blob bytes;
};
struct group_sync {
    struct group_str group, member, instance, protocol_type, protocol; /* null: not said */
    int32_t generation;
    const struct group_assignment *assignments;
    int32_t assignments_n;
    enum group_error error; /* out */
    struct group_str chosen_type, chosen;
    struct group_blob assignment;
    void (*on_done)(struct group_sync *s);
    struct group_member *parked; /* private */
};
void group_sync(struct group_coord *, struct group_sync *s);
void group_sync_cancel(struct group_sync *s);

struct group_identity {
    struct group_str group, member, instance; /* instance null: a dynamic member */
    int32_t generation;
};
enum group_error group_heartbeat(struct group_coord *, const struct group_identity *who);

struct group_leaver {
    struct group_str member, instance;
    enum group_error error; /* out */
};
/* An error that is no single member's, or GROUP_OK. */
enum group_error group_leave(struct group_coord *, struct group_str group,
                             struct group_leaver *leavers, int32_t leavers_n);

/* ---- offsets ---- */

struct group_offset {
    int64_t offset; /* -1: none */
    int32_t leader_epoch;
    int64_t commit_ms;
    int64_t expire_ms; /* -1: by offsets.retention.minutes */
    struct group_str metadata;
};

struct group_commit_item {
    struct group_str topic;
    int32_t partition;
    struct group_offset value; /* commit_ms and expire_ms are set by the coordinator */
    enum group_error error;    /* in: other than GROUP_OK: is left alone; out */
    struct offset *made;       /* private */
    bool fresh;
};
struct group_commit {
    struct group_identity who;
    int64_t retention_ms;   /* -1: the broker's */
    bool tells_unknown;     /* an unknown group is GROUP_ID_NOT_FOUND, not a stale generation */
    enum group_error error; /* out: of all items */
    struct group_commit_item *items;
    int32_t items_n;
    void (*on_done)(struct group_commit *m);
    struct group_coord *coord; /* private */
    struct group_wait wait;
};
void group_commit(struct group_coord *, struct group_commit *m);

/* What is committed, once that is stable. */
struct group_fetch {
    struct group_str group;
    enum group_error error;    /* out */
    const struct group *found; /* out; NULL: no such group, or an error */
    void (*on_done)(struct group_fetch *f);
    struct group_coord *coord; /* private */
    struct group_wait wait;
};
void group_fetch(struct group_coord *, struct group_fetch *f);
/* False: nothing is committed for it. */
bool group_offset_find(const struct group *g, struct group_str topic, int32_t partition,
                       struct group_offset *ret);
/* for (size_t it = 0; group_offset_next(g, &it, &topic, &partition, &value);) in no order. */
bool group_offset_next(const struct group *g, size_t *it, struct group_str *ret_topic,
                       int32_t *ret_partition, struct group_offset *ret);
uint32_t group_offsets_count(const struct group *g);

struct group_offset_delete_item {
    struct group_str topic;
    int32_t partition;
    enum group_error error; /* in: as of a commit; out */
};
struct group_offset_delete {
    struct group_str group;
    enum group_error error; /* out */
    struct group_offset_delete_item *items;
    int32_t items_n;
    void (*on_done)(struct group_offset_delete *d);
    struct group_wait wait; /* private */
};
void group_offset_delete(struct group_coord *, struct group_offset_delete *d);

/* ---- groups ---- */

struct group_delete {
    struct group_str group;
    enum group_error error; /* out */
    void (*on_done)(struct group_delete *d);
    struct group_wait wait; /* private */
};
void group_delete(struct group_coord *, struct group_delete *d);

struct group_info {
    struct group_str id, protocol_type, protocol; /* "" when there is none */
    enum group_state state;
    int32_t members_n;
};
/* GROUP_OK, GROUP_ID_NOT_FOUND or why it cannot be said. */
enum group_error group_find(struct group_coord *, struct group_str group, const struct group **ret);
void group_describe(const struct group *g, struct group_info *ret);
struct group_member_info {
    struct group_str id, instance, client_id, client_host;
    struct group_blob metadata, assignment; /* metadata: of the group's protocol, if it has one */
};
/* for (it = NULL; group_member_next(g, &it, &info);) in order of arrival. */
bool group_member_next(const struct group *g, const struct group_member **it,
                       struct group_member_info *ret);
void group_each(const struct group_coord *, void (*see)(const struct group *g, void *arg),
                void *arg);
bool group_loading(const struct group_coord *); /* there may be more than group_each shows */

/* ---- where a group is ---- */

/* Its partition of n: Java's hash of the name, as Kafka's clients and tools compute it. */
int32_t group_partition_of(struct group_str group, int32_t n);

/* ---- life ---- */

/* The partitions that this shard leads are loaded by and by. NULL: no memory. */
struct group_coord *group_coord_create(struct shard *s);
/* The shard has applied another image; `gone`: a topic that is not in it any more, or NULL. */
void group_coord_meta(struct group_coord *, const struct meta_topic *gone);
/* Takes nothing more, and answers who waits for others. */
void group_coord_stop(struct group_coord *);
bool group_coord_idle(const struct group_coord *); /* nothing is in flight in the log */
void group_coord_destroy(struct group_coord *);    /* stopped and idle */

/* Others may counter_read() them. */
struct group_counters {
    uint64_t groups[GROUP_STATES]; /* now, as all in the next line */
    uint64_t members, offsets, bytes;
    uint64_t rebalances, commits, expired_offsets, loaded_records;
};
const struct group_counters *group_counters(const struct group_coord *);

#endif
