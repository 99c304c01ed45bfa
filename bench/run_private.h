/* run_private.h: a run under way, shared by what conducts it (run.c), the threads that carry it
 * (crew.c), and what judges and writes it (verdict.c, result.c). */
#ifndef BENCH_RUN_PRIVATE_H
#define BENCH_RUN_PRIVATE_H

#include "bench/bill.h"
#include "bench/crew.h"
#include "bench/load/cluster.h"
#include "bench/run.h"
#include "bench/stat/steady.h"

#define RUN_PHASES_MAX 8
#define RUN_VERDICTS_MAX 16

struct run_phase { /* seconds since the load began; connect lies before that */
    const char *name;
    double start_s, seconds;
    int window; /* index of its window; -1: has none */
};

struct run_second { /* one line of the time series */
    double end_s, seconds;
    const char *phase;
    struct load_counts n;
    struct {
        uint64_t count, p50, p99, p999, max;
    } latency[LATENCIES];
    uint64_t broker_cpu_ns, broker_rss_bytes; /* BILL_UNKNOWN */
};

struct run_verdict {
    const char *code;
    char text[256];
};

struct run {
    const struct run_config *config;
    const struct workload *w;
    uint32_t id; /* marks its records */
    struct crew crew;
    struct env *env; /* for the run's own questions to the broker */
    struct cluster cluster;
    bool cluster_open;

    struct run_phase phases[RUN_PHASES_MAX];
    unsigned phases_n;
    struct run_second *seconds;
    size_t seconds_n, seconds_cap;
    double connect_s;
    uint64_t start_ns; /* when the load began; CLOCK_MONOTONIC */
    struct steady steady;
    bool steady_reached;
    double steady_at_s;

    int64_t *end_offsets_before, *end_offsets_after; /* by partition; NULL: not asked */
    struct bill bill;
    bool billed;
    struct bill_sample bill_last, bill_first, bill_end; /* of the measured phases */

    struct crew_outcome outcome;
    unsigned measured_first, measured_last; /* windows that count */
    struct run_verdict verdicts[RUN_VERDICTS_MAX], notes[RUN_VERDICTS_MAX];
    unsigned verdicts_n, notes_n;
    const char *limit; /* "schedule", "broker", "client"; NULL: nothing was produced */
    char limit_text[256];
};

/* verdict.c */
void run_judge(struct run *run, struct run_result *ret);
/* result.c */
struct json_object *run_json(struct run *run, const struct run_result *result);

#endif
