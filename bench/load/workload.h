/* workload.h: what a run does, as a table of named settings: the same in a workload file, on the
 * command line (-o KEY=VALUE, or --key-name VALUE) and in the result.
 * Names are those of Kafka's own producer and consumer settings where Kafka has the thing.
 * Happy path: workload_init() for the defaults, workload_load() a file, workload_set() what the
 *   command line says, workload_check() once for what depends on several settings.
 * Failure: -EINVAL and one line in reason; -errno when a file cannot be read.
 * Threads: none; read-only once checked. */
#ifndef BENCH_LOAD_WORKLOAD_H
#define BENCH_LOAD_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/batch/batch.h"

#define WORKLOAD_TEXT_BYTES 250
#define RATE_MAX (-1.0) /* "max": as fast as the memory for records allows, a closed loop */

enum partitioner { PARTITIONER_STICKY, PARTITIONER_ROUND_ROBIN, PARTITIONER_KEYED };
enum load_verify { VERIFY_FULL, VERIFY_SEQUENCE, VERIFY_OFF };
enum load_driver { DRIVER_PENSTOCK, DRIVER_LIBRDKAFKA };

struct workload {
    char name[WORKLOAD_TEXT_BYTES];
    char topic[WORKLOAD_TEXT_BYTES];
    uint64_t partitions, replication_factor;
    bool topic_reuse; /* false: the topic is deleted and made anew */

    uint64_t producers;
    double rate; /* records a second, of all producers together; RATE_MAX */
    char schedule[WORKLOAD_TEXT_BYTES];
    uint64_t record_bytes; /* of a record's value */
    uint64_t keys;         /* different keys; 0: records have none */
    uint64_t key_bytes;
    double entropy; /* share of a value's bytes that are random: how well it compresses */
    uint64_t partitioner;
    int64_t acks; /* 0, 1; -1: all */
    uint64_t codec;
    uint64_t batch_bytes;
    double linger_ms;
    uint64_t in_flight_max, request_bytes_max, buffer_bytes;
    int64_t idempotence; /* 0, 1; -1: as Kafka's clients do, on with acks=all */
    double request_timeout_ms, delivery_timeout_ms;

    uint64_t consumers, fan_out, late_consumers;
    uint64_t fetch_min_bytes, fetch_bytes_max, fetch_partition_bytes_max;
    double fetch_wait_ms;
    uint64_t verify;

    uint64_t driver, threads, seed;
    double warmup_min_s, warmup_max_s, duration_s, drain_max_s;
    uint64_t preload_bytes; /* replay, mixed: what lies in the topic before the run */
};

void workload_init(struct workload *w);
int workload_set(struct workload *w, const char *key, const char *value, char *reason,
                 size_t reason_size);
int workload_load(struct workload *w, const char *path, char *reason, size_t reason_size);
int workload_check(struct workload *w, char *reason, size_t reason_size);

/* Whether there is a setting of that name. */
bool workload_has(const char *key);
/* The index-th setting as text; false: no more. The value is lent until the next call. */
bool workload_get(const struct workload *w, unsigned index, const char **ret_key,
                  const char **ret_value, bool *ret_number);
/* The settings for --help, one line each. */
void workload_help(void (*line)(void *arg, const char *text), void *arg);

static inline bool workload_closed_loop(const struct workload *w)
{
    return w->rate == RATE_MAX;
}

static inline bool workload_idempotent(const struct workload *w)
{
    return w->idempotence < 0 ? w->acks == -1 : w->idempotence == 1;
}

#endif
