/* sim.h: one run of the simulator: a broker on a modelled machine, its clients, a plan of what goes
 * wrong, and a checker, all from one seed.
 *
 * Happy path: sim_run() draws a plan from the seed and lives through its rounds; the report says
 *   what happened. Same seed, same trace.
 * Failure: the first violation ends the run; sim_trace_print() shows what led to it.
 * Threads: one. */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "core/base/rng.h"
#include "tests/sim/model.h"
#include "tests/sim/plan.h"
#include "tests/sim/sim_broker.h"
#include "tests/sim/sim_net.h"

#define SIM_NS_PER_MS UINT64_C(1000000)
#define SIM_TRACE_LINES 80u
#define SIM_TRACE_LINE_BYTES 160u

struct sim_timer { /* of a client */
    struct list_node node;
    uint64_t due_ns;
    void (*run)(struct sim_timer *t);
};

struct sim_report {
    uint64_t virtual_ns, starts, power_cuts, cuts_in_start, kills, clean_stops, failed_stops;
    uint64_t faults[MEM_FAULT_KINDS], full_disks, stalls, connection_resets, replayed_writes;
    uint64_t acked_batches, acked_records, acked_bytes, seen_batches, audited_batches;
    uint64_t topics_made, topics_deleted, deletions, must_survive, start_reads_max, unclean_ends;
    uint64_t group_commits, group_fetches, group_assignments, group_expired, group_stale;
    uint64_t table_acked, table_gone, table_passes, compacted_segments;
    uint64_t rotten_files, lost_batches, refused_starts, placed_bytes, moves;
    uint64_t failed_dirs,
        offline_partitions; /* offline: each at each start without its directory */
    uint64_t trace_hash;
};

struct sim {
    uint64_t seed;
    struct rng rng;
    struct sim_plan plan;
    struct mem_world *world;
    struct sim_net *net;
    struct sim_broker broker;
    struct sim_broker_config broker_config;
    struct model model;
    struct list_node timers;
    struct clients *clients;
    struct sim_report report;
    uint64_t trace_hash, trace_n;
    char trace[SIM_TRACE_LINES][SIM_TRACE_LINE_BYTES];
    unsigned round;
    bool unclean;     /* it ended so since the last audit: leader epochs must rise */
    bool misdirected; /* a write has gone astray: anything may be gone */
    bool verbose;     /* the trace goes to stderr as it comes */
};

/* The whole run. True: nothing was wrong. */
bool sim_run(struct sim *sim, uint64_t seed, bool verbose);
void sim_trace_print(const struct sim *sim);
void sim_report_add(struct sim_report *sum, const struct sim_report *r);

/* ---- for its parts ---- */

__attribute__((format(printf, 2, 3))) void sim_trace(struct sim *sim, const char *fmt, ...);
static inline uint64_t sim_now_ns_of(const struct sim *sim)
{
    return mem_world_now_ns(sim->world);
}
static inline uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return rng_below(&sim->rng, bound);
}
static inline bool sim_one_in(struct sim *sim, uint64_t n)
{
    return n > 0 && rng_below(&sim->rng, n) == 0;
}
/* Half to one and a half of the mean; seldom ten times that. */
uint64_t sim_some_ns(struct sim *sim, uint64_t mean_ns);

void sim_timer_set(struct sim *sim, struct sim_timer *t, uint64_t delay_ns,
                   void (*run)(struct sim_timer *t));
void sim_timer_clear(struct sim_timer *t);

/* Lets something happen, at the latest until_ns. False: the machine has crashed, or a violation. */
bool sim_step(struct sim *sim, uint64_t until_ns);

#endif
