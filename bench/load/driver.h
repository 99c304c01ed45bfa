/* driver.h: what a load thread is to its host, whatever client library does the work.
 * Happy path: create() connects and finds the topic (blocking); turn() until it says false; then,
 *   after all threads have ended, produced() of each, verify() of each with all of that, the
 *   outcome, destroy(). The stage, a number in the host's memory that only rises, steers:
 *   LOADER_LOAD   begins the load and its first window (the warm-up); each further number the next
 *   LOADER_DRAIN  ends the schedule; what is on its way is waited for
 *   LOADER_CUT    when that takes too long: sends nothing more, so that consumers can read all that
 *                 was acknowledged
 *   LOADER_END    ends the thread
 * Time: intended send times are those of the schedule, counted from the moment that the load
 *   begins. Records wait for memory and for the broker, their intended times do not: no omission is
 *   coordinated.
 * Failure: create returns -errno with one line in reason. Afterwards trouble is counted, not fatal:
 *   connections are opened again, batches are sent again until delivery.timeout.ms.
 * Threads: all calls on the load thread; but anyone reads the atomics, and between the end and
 *   destroy() the thread rests and lends the rest. */
#ifndef BENCH_LOAD_DRIVER_H
#define BENCH_LOAD_DRIVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load/stats.h"
#include "bench/load/verify.h"
#include "bench/load/workload.h"

enum {
    LOADER_CONNECT = 0,
    LOADER_LOAD = 1,
    LOADER_DRAIN = 100,
    LOADER_CUT = 101,
    LOADER_END = 102
};

enum loader_consumption {
    CONSUME_NOTHING,
    CONSUME_TAIL,       /* from the log's end as it is at the start */
    CONSUME_FROM_START, /* up to the log's end as it is at the start */
};

struct loader_config {
    const struct workload *workload;
    const char *bootstrap;
    unsigned part, parts; /* which share of producers and consumers, over all threads and agents */
    uint32_t run;         /* marks this run's records */
    bool produce;
    enum loader_consumption consume;
    int late_stage;       /* late consumers start at this stage; 0: there are none */
    bool late_loop;       /* they start over when they have caught up */
    uint64_t records_max; /* of this part's producers, in a closed loop; 0: no limit */
    atomic_int *stage;
    /* An interval has ended; lent until it returns. */
    void (*on_interval)(void *arg, const struct load_stats *interval);
    void *arg;
};

struct load_outcome {
    struct load_recorder recorder;
    struct verify_log verify, late_verify; /* of tailing or ordinary consumers; of late ones */
    int16_t error_code;                    /* the first Kafka error that was answered; 0: none */
    int connection_rc;                     /* why the last connection was lost; 0: none was */
    atomic_uint_fast64_t unfinished; /* records intended and neither acknowledged nor failed */
    atomic_uint_fast64_t acked, consumed_new; /* since the start, as in load_counts */
    atomic_bool consumers_done;               /* CONSUME_FROM_START: all have reached the end */
    atomic_bool late_done;                    /* late consumers have caught up once */
};

struct load_driver_ops {
    const char *name;
    int (*create)(void **ret, const struct loader_config *config, char *reason, size_t reason_size);
    bool (*turn)(void *self);
    struct load_outcome *(*outcome)(void *self);
    int (*produced)(void *self, struct produced *to); /* adds; 0 or -ENOMEM */
    void (*verify)(void *self, const struct produced *all);
    void (*destroy)(void *self);
};
extern const struct load_driver_ops loader_driver;     /* loader.h */
extern const struct load_driver_ops librdkafka_driver; /* rdk.c */

#endif
