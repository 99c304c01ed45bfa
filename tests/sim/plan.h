/* plan.h: what one seed draws: sizes, tunings, clients, and which faults there are ("swarm": every
 * seed has its own mix, so that rare ones are not drowned by common ones). Pure. */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/rng.h"
#include "tests/sim/sim_broker.h"

#define PLAN_TOPICS_MAX 4u
#define PLAN_PRODUCERS_MAX 8u
#define PLAN_CONSUMERS_MAX 6u
#define PLAN_GROUPS_MAX 2u

struct plan_topic {
    int32_t partitions_n;
    int64_t segment_ms, flush_ms, index_interval_bytes;
    int64_t retention_ms, retention_bytes; /* -1: no bound */
    bool write_caching, log_append_time;
};

struct sim_plan {
    unsigned rounds; /* lives of the broker */
    uint64_t round_ns;
    struct sim_broker_config broker;
    bool shards_change; /* another number of shards at some starts */
    uint64_t write_ns, flush_ns, read_ns;
    uint64_t stall_one_in;
    struct sim_net_config net;
    unsigned topics_n;
    struct plan_topic topics[PLAN_TOPICS_MAX];
    unsigned producers_n, consumers_n;
    unsigned groups_n; /* of consumers */
    uint64_t group_think_ns, group_session_ms;
    bool table; /* a compacted topic */
    int64_t tombstones_ms;
    bool churn;        /* topics come and go */
    bool deletes;      /* records are deleted */
    bool hostile;      /* somebody sends what no client would */
    bool moves;        /* partitions move between shards */
    uint64_t think_ns; /* mean pause of a producer */
    uint32_t small_bytes, big_bytes;
    unsigned big_one_in; /* 0: none */
    /* What may end a round, and what may go wrong in it. */
    bool cuts_in_runs;     /* some power cuts wait for a large write to be in flight */
    bool cuts_in_rewrites; /* those wait for one into a file that was used before */
    bool power_cuts, kills, clean_stops, cuts_in_start;
    bool faults[MEM_FAULT_KINDS];
    bool full_disk, wall_steps;
    bool dir_fails; /* the device of the second data directory, now and then; it comes back later */
    bool rot;       /* once, some bits of one file turn between two lives */
    unsigned damage_round; /* in which that, or a misdirected write, comes */
};

void sim_plan_draw(struct sim_plan *plan, uint64_t seed);

#endif
