/* load_rig.h: one load thread (bench/load/loader.h) on the network of net_sim.h, with the test as
 * its host, and exact arithmetic to hold its histograms against.
 * Happy path: rig_start(), rig_begin(), rig_run() ..., rig_stage() for further windows,
 * rig_drain(), rig_end(), which verifies; look at rig.loader.course.out and the server; rig_stop().
 * Failure: a failed criterion assertion. Threads: one. */
#ifndef TESTS_UNIT_BENCH_LOAD_LOAD_RIG_H
#define TESTS_UNIT_BENCH_LOAD_LOAD_RIG_H

#include "bench/load/loader.h"
#include "tests/lib/net_sim.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
enum { RIG_RUN = 7, RIG_PORT = 9092 };

struct rig {
    struct script_broker *broker;
    struct env *env;
    struct workload workload;
    struct loader loader;
    atomic_int stage;
    struct load_stats intervals; /* all that ended, summed */
    unsigned intervals_n;
    struct produced produced;
};
extern struct rig rig;

struct rig_config {
    const char *settings; /* "rate=1000 linger.ms=0 ...": of the workload */
    struct script_config script;
    struct net_sim_config net;
    enum loader_consumption consume;
    bool only_consume;
    int late_stage;
    bool late_loop;
    uint64_t records_max;
};
/* Makes the server, the topic and the loader. */
void rig_start(const struct rig_config *config);
/* Another loader on the same server and topic. */
void rig_restart(const struct rig_config *config);
void rig_stop(void);

void rig_begin(void);            /* to the first window */
void rig_settle(void);           /* all that happens at this instant */
void rig_stage(int stage);       /* to that stage */
void rig_run(uint64_t ns);       /* a little longer when the last turn is long */
void rig_drain(uint64_t max_ns); /* until nothing is unfinished and all is consumed */
void rig_end(void);
/* All of the above: one window of so long, drained. */
void rig_all(uint64_t ns);

/* The window's latencies are exactly these, each as the highest value that its bucket holds: the
 * count of each value, the percentiles by rank, least and greatest. Sorts them. */
void rig_assert_latencies(const struct hist *h, uint64_t *exact, size_t n);
/* The value of that rank among sorted ones, as HdrHistogram defines it. */
uint64_t rig_percentile(const uint64_t *sorted, size_t n, double percentile);
/* The highest value that 3 significant digits do not tell from this one. */
uint64_t rig_highest_equivalent(uint64_t value);

/* An exact server: one request after another, standing still in freezes. By its own rules, not
 * script_broker's code. */
struct queue {
    uint64_t service_ns, first_ns; /* first_ns: arrival of the first request */
    uint64_t freeze_first_ns, freeze_every_ns, freeze_ns;
    uint64_t free_ns;
};
uint64_t queue_serve(struct queue *q, uint64_t arrival_ns);

#endif
