/* group_rig.h: one shard on a modelled machine with a real log, and members of groups as their
 * clients see them. Time is virtual: rig_run_ms() lets it pass. Threads: one. */
#ifndef TESTS_UNIT_CORE_GROUP_RIG_H
#define TESTS_UNIT_CORE_GROUP_RIG_H

#include "core/group/group.h"
#include "io/env_mem.h"

#define RIG_TOPIC "t" /* with so many partitions */
#define RIG_TOPIC_PARTITIONS 12

struct rig {
    struct mem_world *world;
    struct broker broker;
    struct env *env;
    struct shard shard;
    void *memory;
    struct meta_log *log;
    struct group_coord *coord;
};
extern struct rig rig;

void rig_start(void); /* with Kafka's defaults; both topics are there */
void rig_open(void);  /* the same data again */
void rig_crash(void); /* the power is cut, and what was in flight is gone */
void rig_stop(void);  /* cleanly, and with nothing left behind */
void rig_end(void);   /* after either */
void rig_turn(void);
void rig_run_ms(uint64_t ms);
int64_t rig_now_ms(void);
void rig_topic_create(const char *name, int32_t partitions_n);
void rig_topic_delete(const char *name);

/* ---- a member ---- */

struct seat {
    const char *group, *client, *instance; /* instance NULL: dynamic */
    const char *protocols[4], *metadata;   /* names, up to a NULL; what it says with each */
    const char *type;
    int32_t session_ms, rebalance_ms;
    bool no_protocols;
    bool old; /* versions that know no required id, no skipped assignment */
    char id[200];
    int32_t generation;
    /* of its last join and sync */
    struct group_join join;
    struct group_protocol list[4];
    bool joined, is_leader, skips;
    enum group_error join_error;
    char leader[200], protocol[50];
    int members_n;
    char seen[20][200]; /* ids that the leader was shown */
    struct group_sync sync;
    struct group_assignment given[20];
    bool synced;
    enum group_error sync_error;
    char assignment[100];
    int32_t assignment_len;
};
/* What is not said is: group "g", client "c", protocol "range" with "m", type "consumer", 10 s and
 * 60 s. */
#define SEAT(...)                                                                                  \
    (struct seat)                                                                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
struct group_str str_of(const char *text);
void seat_join(struct seat *s); /* asks; joined when there is an answer */
/* Twice, when an id is required: true. */
void seat_enter(struct seat *s);
void seat_sync(struct seat *s, const char *protocol); /* gives nothing */
/* As leader, to each member that it was shown "a0", "a1" ... in their order. */
void seat_assign(struct seat *s);
enum group_error seat_beat(const struct seat *s);
enum group_error seat_leave(const struct seat *s);
/* All enter, and are stable when this returns. */
void seats_settle(struct seat *seats, int n);

/* ---- offsets ---- */

/* One offset of RIG_TOPIC, waits for the answer. generation -1 and member "": nobody. */
enum group_error rig_commit(const char *group, const struct seat *who, int32_t partition,
                            int64_t offset, const char *metadata);
enum group_error rig_commit_to(const char *group, const struct seat *who, const char *topic,
                               int32_t partition, int64_t offset, const char *metadata,
                               int64_t retention_ms, bool *ret_answered);
/* -1: none; -2: an error. */
int64_t rig_fetch(const char *group, const char *topic, int32_t partition, struct group_offset *ret,
                  char metadata[5000]);
enum group_error rig_delete(const char *group);
enum group_state rig_state(const char *group); /* it is there */
bool rig_has(const char *group);

#endif
