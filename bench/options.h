/* options.h: the command line of `penstock bench`: a table of options, beside which every setting
 * of a workload is one (--record-size 1KiB is -o record.size=1KiB). Failure: -EINVAL with one line
 * in reason. Threads: none. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "bench/load/workload.h"

enum {
    OPTIONS_WORKLOADS_MAX = 64,
    OPTIONS_OPERANDS_MAX = 64,
    OPTIONS_SETTINGS_MAX = 64,
    OPTIONS_SWEEPS_MAX = 8
};

struct bench_options {
    const char *command; /* "produce" ... */
    bool help, quiet;
    const char *bootstrap, *label, *json, *hlog, *report, *limits, *agents, *listen;
    const char *kind; /* of the runs of saturate, sweep and compare */
    double limits_seconds, settle_s;
    pid_t broker_pid;
    const char *workloads[OPTIONS_WORKLOADS_MAX]; /* files */
    unsigned workloads_n;
    const char *settings[OPTIONS_SETTINGS_MAX]; /* KEY, VALUE, KEY, VALUE ... over the files' */
    unsigned settings_n;
    const char *sweeps[OPTIONS_SWEEPS_MAX]; /* KEY=V1,V2,... */
    unsigned sweeps_n;
    const char *operands[OPTIONS_OPERANDS_MAX];
    unsigned operands_n;
    /* saturate */
    double percentile, bound_ms, rate_min, rate_max, rate_start, confidence, tolerance, reliability;
    unsigned trials;
    /* compare */
    unsigned pairs;
    char *own[2 * OPTIONS_SETTINGS_MAX]; /* what settings and sweeps point to */
    unsigned own_n;
};

int options_parse(int argc, char **argv, struct bench_options *ret, char *reason,
                  size_t reason_size);
void options_fini(struct bench_options *o);
void options_help(FILE *out);

/* The index-th workload file (none: the defaults) with the settings over it; to be checked, unless
 * a sweep sets more. */
int options_workload(const struct bench_options *o, unsigned index, struct workload *ret,
                     char *reason, size_t reason_size);

#endif
