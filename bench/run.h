/* run.h: one run: connect, make the topic, warm up until steady, measure, drain, verify; what came
 * out as a JSON object and as the few figures that searches and comparisons need. Happy path:
 * run_execute(); run_result_fini(). Failure: run_execute returns -errno with one line in reason
 * when there is nothing to show: no broker, no topic, bad settings. What a run found out about
 * itself (lost records, an overloaded generator, no steady state) makes it invalid, not failed: it
 * is in the result, with why. Threads: one; it makes and ends the load threads. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "bench/load/stats.h"
#include "bench/load/workload.h"

struct json_object;
struct limits;
struct agents;

enum run_kind { RUN_PRODUCE, RUN_CONSUME, RUN_E2E, RUN_MIXED, RUN_REPLAY };

/* Settings of the judging, not of the load. */
struct run_rules {
    double late_ms;      /* a generator later than this at p99 ... */
    double late_share;   /* ... and than this share of the acks' p99 is too late */
    double cpu_share;    /* of a load thread's core; more: the client was the limit */
    double behind_share; /* acknowledged of intended records, at least */
};
extern const struct run_rules run_rules_default;

struct run_config {
    enum run_kind kind;
    struct workload workload; /* checked */
    const char *label;        /* in reports; NULL: the address */
    const char *bootstrap;
    pid_t broker_pid;            /* 0: not told */
    const struct limits *limits; /* NULL: not measured */
    struct run_rules rules;
    FILE *progress;        /* a line a second; NULL: none */
    FILE *hist_log;        /* each second's histograms, HdrHistogram's log; NULL: none */
    struct agents *agents; /* other processes that carry the load; NULL: this one */
};

struct run_result {
    struct json_object *json;   /* of the run; the caller's */
    struct load_stats measured; /* the window that counts */
    double seconds;             /* its length */
    bool valid, client_limited;
    bool kept_up; /* acknowledged as much as was intended */
};

int run_execute(const struct run_config *config, struct run_result *ret, char *reason,
                size_t reason_size);
void run_result_fini(struct run_result *r);

const char *run_kind_name(enum run_kind kind);
/* The latency that a run of this kind is judged by. */
enum load_latency run_kind_latency(enum run_kind kind);

#endif
