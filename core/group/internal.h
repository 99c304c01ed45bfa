/* internal.h: what the files of core/group share.
 *
 * A change of a group is made in memory and its records are queued for the log in the same step
 * (writes_begin .. writes_end), so that memory always says what the end of the log will say. Who
 * must not be told before it is stable waits (partition_wait). When the log refuses for good,
 * partition_fail() lets go of all groups of the partition.
 * Threads: the shard's. */
#ifndef CORE_GROUP_INTERNAL_H
#define CORE_GROUP_INTERNAL_H

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/map.h"
#include "core/batch/builder.h"
#include "core/group/group.h"
#include "core/group/record.h"

#define NS_PER_MS UINT64_C(1000000)

/* ---- things found by a string: names.c ---- */

struct name {
    struct group_str text; /* in the memory of who has it */
    uint64_t hash;
    struct name *next; /* of the same hash */
};
struct names {
    struct map by_hash;
    uint64_t seed; /* so that nobody outside can choose names that collide */
};
struct name *names_find(const struct names *n, struct group_str text);
int names_add(struct names *n, struct name *name, struct group_str text); /* 0 or -ENOMEM */
void names_remove(struct names *n, struct name *name);
bool str_eq(struct group_str a, struct group_str b);
bool str_is(struct group_str a, const char *text);
bool str_empty(struct group_str s); /* or null */

/* ---- a group ---- */

struct topic { /* whatever offsets were committed for */
    struct name name;
    uint32_t id; /* of this coordinator; never used again */
    bool gone;   /* deleted; not in the table of names any more */
    struct list_node offsets;
    struct list_node gone_link;
};

struct offset {
    struct group_offset v;
    struct group *group;
    struct topic *topic;
    struct list_node of_topic;
    int32_t partition;
    bool hidden;          /* of a commit that is being made */
    uint64_t seq;         /* of the write that it is in: until that is stable, readers get ... */
    struct offset *older; /* ... what was committed before; owned, in no map or list */
    char text[];          /* v.metadata */
};

struct protocol_votes {
    struct name name;
    struct list_node link;
    int32_t supporters;
    int32_t votes; /* while one is chosen */
};

struct group_member {
    struct name id, instance; /* instance: text.len -1 for a dynamic member */
    struct group *group;
    struct list_node link;
    struct group_str client_id, client_host;
    int32_t session_timeout_ms, rebalance_timeout_ms;
    struct group_protocol *protocols; /* and all their bytes, one block */
    int32_t protocols_n;
    struct group_blob assignment;
    bool is_new;       /* has never been told its generation */
    bool awaits_join;  /* has joined the next generation; its client may be gone */
    bool awaits_sync;  /* the same, for its assignment */
    bool pending_sync; /* of this generation, and has not asked for its assignment yet */
    struct group_join *join;
    struct group_sync *sync;
    struct shard_timer session;
};

struct pending { /* was told an id, and is expected with it */
    struct name id;
    struct group *group;
    struct list_node link;
    struct shard_timer session;
};

struct group {
    struct name name;
    struct group_coord *coord;
    struct partition *partition;
    struct list_node link; /* partition->groups */
    enum group_state state, state_before;
    int64_t state_ms; /* wall clock when it came to be in it; -1: before there was such a note */
    int32_t generation;
    struct group_str protocol_type, protocol; /* null: none */
    struct group_member *leader;
    struct list_node members, pending, votes;
    struct names by_id, by_instance, pending_by_id, votes_by_name;
    int32_t members_n, awaiting_join_n, pending_n;
    struct shard_timer phase; /* of a join, or of the syncs behind it */
    int32_t delay_ms, remaining_ms;
    bool member_added;          /* while the first join is delayed */
    bool stored;                /* the log has a record of it */
    struct group_wait assigned; /* the leader's assignment is becoming stable */
    int32_t assigned_generation;
    struct map offsets; /* topic id << 32 | partition -> struct offset */
    uint32_t round;     /* of expiry that it was looked at last */
    size_t expiry_at;   /* where that goes on */
};

/* ---- a partition of the topic: partition.c, load.c ---- */

enum partition_state { PARTITION_LOADING, PARTITION_READY, PARTITION_FAILED };

struct write { /* one batch */
    struct partition *partition;
    struct list_node link;
    uint64_t seq;
    uint8_t *batch; /* until the log has it */
    size_t len_bytes;
    struct log_append append;
};

struct partition {
    struct group_coord *coord;
    struct list_node link; /* coord->orphans, when it is not here any more */
    int32_t index;
    uint64_t number;
    enum partition_state state;
    bool orphan;
    struct list_node groups;
    struct list_node writes;   /* for the log, in order */
    struct list_node appended; /* in the log, not stable */
    struct list_node waits;    /* struct group_wait, by seq */
    uint64_t written_seq, stable_seq;
    struct log_waiter memory_waiter;
    struct shard_timer retry;
    /* while it is loaded */
    int64_t load_offset, load_end;
    struct list_node *finish_at; /* in groups: those before it are ready */
    bool finishing;
};

struct group_coord {
    struct shard *shard;
    const struct broker_groups *config;
    struct names groups, topics;
    uint32_t topic_id_next;
    uint64_t topic_number0;        /* number of the topic's first partition; 0: no topic */
    struct partition **partitions; /* by index; NULL: not here */
    int32_t partitions_n;
    struct list_node orphans; /* partitions that wait for what they have in flight */
    struct list_node gone;    /* struct topic, whose offsets are being dropped */
    struct group_counters counters;
    size_t bytes_max;
    bool stopping;
    struct shard_timer pump_timer, load_timer, expiry_timer, gone_timer;
    uint32_t round;
    int32_t expiry_partition;
    /* what is being loaded */
    struct plog_read read;
    struct partition *reading; /* read is in flight for it */
    bool unlimited;            /* what was there before fits now, too */
    bool loaded;               /* something, since it was compared with metadata */
    /* what is being written */
    struct batch_builder builder;
    struct record_out key, value;
    struct list_node made; /* struct write */
    struct partition *writing;
    int made_rc;
};

/* ---- memory: coord.c ---- */

/* NULL: none, or the limit is reached. Not zeroed. */
void *mem_take(struct group_coord *c, size_t len_bytes);
void mem_give(struct group_coord *c, void *p);
int str_dup(struct group_coord *c, struct group_str s, struct group_str *ret);
void str_free(struct group_coord *c, struct group_str *s);
int blob_dup(struct group_coord *c, struct group_blob b, struct group_blob *ret);
void blob_free(struct group_coord *c, struct group_blob *b);

void timer_set_ms(struct group_coord *c, struct shard_timer *t, int64_t ms,
                  void (*run)(struct shard_timer *t));

/* ---- partitions ---- */

/* The partition of a group that can be worked on, or why there is none. */
enum group_error partition_for(struct group_coord *c, struct group_str group,
                               struct partition **ret);
void writes_begin(struct partition *p);
/* A record for the partition; value NULL: a tombstone. Errors come out at the end. */
void writes_add(struct group_coord *c, const struct record_out *key,
                const struct record_out *value);
/* 0: all are on their way; -ENOMEM, -EMSGSIZE: none is. Nothing of the log is called here. */
int writes_end(struct group_coord *c);
/* w->run once everything written so far is stable (0), or is never going to be. Not before this
 * returns if there is anything to wait for; else at once. */
void partition_wait(struct partition *p, struct group_wait *w,
                    void (*run)(struct group_wait *, int));
struct partition *partition_create(struct group_coord *c, int32_t index, uint64_t number);
void partition_let_go(struct partition *p); /* its groups, and itself when nothing is in flight */
bool partition_busy(const struct partition *p);
void partition_stop(struct partition *p);
void load_start(struct group_coord *c); /* soon */

/* ---- groups: coord.c ---- */

struct group *group_get(const struct group_coord *c, struct group_str name);
struct group *group_make(struct partition *p, struct group_str name);
/* Answers who waits in it; writes nothing. */
void group_destroy(struct group *g, enum group_error error);
/* Nobody would miss it: destroyed. */
void group_drop_idle(struct group *g);
void group_state_set(struct group *g, enum group_state state);
void group_state_loaded(struct group *g, enum group_state state); /* it was in it before */

/* ---- members: member.c ---- */

struct group_member *member_get(const struct group *g, struct group_str id);
struct group_member *member_of_instance(const struct group *g, struct group_str instance);
struct pending *pending_get(const struct group *g, struct group_str id);
void pending_remove(struct pending *w);
enum group_error member_check(const struct group *g, struct group_str id,
                              struct group_str instance);
/* What a join says of itself, with its protocols; NULL: no memory. */
struct group_member *member_make(struct group *g, struct group_str id, const struct group_join *j);
int member_update(struct group_member *m, const struct group_join *j);
bool member_matches(const struct group_member *m, const struct group_join *j);
int member_rename(struct group_member *m, struct group_str id);
void member_remove(struct group_member *m, enum group_error error); /* answers, frees */
const struct group_protocol *member_protocol(const struct group_member *m, struct group_str name);
bool group_supports(const struct group *g, const struct group_join *j);
struct group_str group_choose_protocol(struct group *g);
/* 1, 0, or -1: it cannot be said. */
int group_subscribes(const struct group *g, struct group_str topic);
/* Its record, into the writes begun. */
void group_write(struct group *g);

void member_answer_join(struct group_member *m, enum group_error error, bool skip_assignment);
void member_answer_sync(struct group_member *m, enum group_error error);
void join_answer_error(struct group_join *j, enum group_error error);

/* ---- rebalances: rebalance.c ---- */

void session_arm(struct group_member *m, int32_t ms);
/* Somebody came, changed or left: a rebalance begins, or the one under way may be complete. */
void rebalance_or_complete(struct group *g);
void rebalance_complete_if_all(struct group *g);
void rebalance_sync_seen(struct group_member *m);
/* What the leader says, on its way to the log and then to the members. */
void rebalance_assign(struct group *g, const struct group_sync *s);
/* After its last record was loaded. */
void rebalance_loaded(struct group *g);

/* ---- offsets: offset.c, expiry.c ---- */

struct offset *offset_get(const struct group *g, struct group_str topic, int32_t partition);
struct offset *offset_make(struct group *g, struct group_str topic, int32_t partition,
                           const struct group_offset *v);
int offset_put(struct offset *o); /* replaces; -ENOMEM: o is the caller's still */
void offset_free(struct offset *o);
void offset_remove(struct offset *o); /* from its group, and frees */
void offset_write_tombstone(struct offset *o);
void topics_forget_missing(struct group_coord *c); /* those that metadata does not know */
void topic_gone(struct group_coord *c, struct topic *t);
void expiry_arm(struct group_coord *c);
void gone_fini(struct group_coord *c);

#endif
