/* command_private.h: what the commands of `penstock bench` share: options, the result document, the
 * limits measured once, and one way to make a run and show what came out. */
#ifndef BENCH_COMMAND_PRIVATE_H
#define BENCH_COMMAND_PRIVATE_H

#include <stdbool.h>

#include "bench/document.h"
#include "bench/limits.h"
#include "bench/options.h"
#include "bench/run.h"

struct bench {
    struct bench_options options;
    struct document document;
    struct limits limits;
    bool limited; /* limits were measured */
    FILE *hist_log;
    struct agents *agents;
    bool invalid; /* some run was */
    char reason[1024];
};

/* A run's configuration from the options: workload file `index`, kind. */
int bench_config(struct bench *b, unsigned index, enum run_kind kind, struct run_config *ret);
/* --kind */
int bench_kind(struct bench *b, enum run_kind *ret);
/* Runs, prints the summary, adds the run to the document (ret->json is then the document's). */
int bench_run(struct bench *b, const struct run_config *config, struct run_result *ret);
/* Pause until what the run left dirty is on disk, so that the next one does not pay for it. */
void bench_settle(const struct bench *b);

/* summary.c: the run, or the limits, for a reader at a terminal. */
void summary_print(FILE *out, struct json_object *run);
void limits_print(FILE *out, struct json_object *limits);

int sweep_command(struct bench *b);
int saturate_command(struct bench *b);
int compare_command(struct bench *b);

#endif
