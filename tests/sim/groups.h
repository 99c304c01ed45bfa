/* groups.h: consumer groups in a run: members that come, commit, leave and die, and what must hold
 * of the groups whatever happens.
 *
 * A value that is committed is larger than all that were before it, for its partition of its group;
 * so what is fetched says by itself whether something was lost or went back. An assignment carries
 * the generation that it was made for.
 * Checked: an acknowledged commit is there and never goes back, but for expiry, which is not before
 *   its time; a stale generation commits nothing; generations never go back; no partition has two
 *   owners in a generation; a start loads exactly what the log has.
 * Threads: one. */
#ifndef TESTS_SIM_GROUPS_H
#define TESTS_SIM_GROUPS_H

#include "tests/sim/rpc.h"

#define SIM_GROUPS_MAX 2u
#define SIM_MEMBERS_MAX 4u
#define SIM_GROUP_PARTITIONS_MAX 6
#define MEMBER_ID_BYTES 80

struct group_client;
struct group_part { /* of the topic: what the group has done with it */
    int64_t sent, acked, seen;
    uint64_t acked_ns; /* when the acknowledged commit was asked for */
    int32_t owned_in;  /* generation */
    const struct group_client *owner;
};
struct sim_group {
    char name[24];
    struct group_part parts[SIM_GROUP_PARTITIONS_MAX];
    int32_t partitions_n;
    int32_t generation; /* the last of which a member was told its assignment: it is durable */
    uint64_t active_ns; /* it had a member then */
};

enum member_state { MEMBER_FINDS, MEMBER_JOINS, MEMBER_SYNCS, MEMBER_WORKS };
struct group_client {
    struct sim *sim;
    struct sim_group *group;
    struct rpc_conn conn;
    struct sim_timer timer;
    struct rpc call;
    enum member_state state;
    char id[MEMBER_ID_BYTES], instance[8]; /* "": none yet; a dynamic member */
    int32_t generation;
    uint32_t owned;  /* partitions, one bit each */
    int coordinator; /* node; -1: to be asked for */
    /* of the call that is under way */
    bool committing, stale;
    uint64_t asked_ns;
    int32_t asked_generation; /* of the group */
    uint64_t asked_active_ns;
    struct group_part asked[SIM_GROUP_PARTITIONS_MAX];
    int64_t values[SIM_GROUP_PARTITIONS_MAX]; /* being committed; -1: not */
    /* of the members, where it leads */
    char ids[SIM_MEMBERS_MAX * 8][MEMBER_ID_BYTES];
    unsigned ids_n;
};

struct sim_groups {
    struct sim *sim;
    struct sim_group groups[SIM_GROUPS_MAX];
    struct group_client members[SIM_GROUPS_MAX * SIM_MEMBERS_MAX];
    unsigned groups_n, members_n;
    uint64_t commits, fetches, assignments, expired, refused_stale;
};

void groups_init(struct sim_groups *g, struct sim *sim);
void groups_start(struct sim_groups *g);
void groups_stop(struct sim_groups *g);
void groups_fini(struct sim_groups *g);

/* groups_audit.c: after a start, with nobody else at work. False: crashed, or a violation. */
bool groups_audit(struct sim_groups *g, struct rpc_conn *auditor);

/* ---- shared ---- */

/* The broker says that this is committed (-1: nothing), asked for when the group was known to be as
 * in `asked`, and to have had a member at active_ns. */
void group_offset_seen(struct sim *sim, struct sim_group *g, int32_t partition,
                       const struct group_part *asked, uint64_t active_ns, int64_t value);
struct wire_str group_topic_name_of(const struct sim *sim);
/* An OffsetFetch of all partitions of a group; version 1 to 9. */
struct offset_fetch_ask {
    struct offset_fetch_request request;
    struct offset_fetch_request_offset_fetch_request_topic topic;
    struct offset_fetch_request_offset_fetch_request_group group;
    struct offset_fetch_request_offset_fetch_request_topics topics;
    int32_t indexes[SIM_GROUP_PARTITIONS_MAX];
};
void offset_fetch_ask_make(struct offset_fetch_ask *ask, const struct sim *sim,
                           const struct sim_group *g);
/* The group's error, or each partition's offset to see(). */
int16_t offset_fetch_answer(const struct offset_fetch_response *r, int16_t version,
                            void (*see)(void *arg, int32_t partition, int64_t offset), void *arg);
int16_t find_coordinator_answer(const struct find_coordinator_response *r, int16_t version,
                                int *ret_node);
void find_coordinator_ask(struct find_coordinator_request *ret, const struct sim_group *g,
                          struct wire_str *ret_key);

enum {
    API_OFFSET_COMMIT = 8,
    API_OFFSET_FETCH = 9,
    API_FIND_COORDINATOR = 10,
    API_JOIN_GROUP = 11,
    API_HEARTBEAT = 12,
    API_LEAVE_GROUP = 13,
    API_SYNC_GROUP = 14,
    API_DESCRIBE_GROUPS = 15,
};
enum {
    ERROR_COORDINATOR_LOADING = 14,
    ERROR_COORDINATOR_NOT_AVAILABLE = 15,
    ERROR_NOT_COORDINATOR = 16,
    ERROR_ILLEGAL_GENERATION = 22,
    ERROR_UNKNOWN_MEMBER = 25,
    ERROR_REBALANCE_IN_PROGRESS = 27,
    ERROR_GROUP_ID_NOT_FOUND = 69,
    ERROR_MEMBER_ID_REQUIRED = 79,
    ERROR_FENCED_INSTANCE = 82,
};

#endif
