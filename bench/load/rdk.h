/* rdk.h: the load thread on librdkafka, the C client that users run. See driver.h for its life.
 * Each simulated producer and each simulated consumer is an rd_kafka_t of its own, as users would
 * have it, with the settings that the workload names and librdkafka's defaults for all others.
 * Traffic, record layout, schedule and checks are those of the own client (loader.h).
 * What differs:
 *   ack        ends when the delivery report is seen by the load thread
 *   ack_send   begins with the call of rd_kafka_produce(), as that is all that a user sees: it
 *              includes linger.ms and the library's queue
 *   sent       known only with the delivery report: records that were, or may have been, sent
 *   batches    are requests: librdkafka puts one batch in each produce request
 *   retries    produce requests that lost their connection before they were answered; those that
 *              a broker refused, and that are sent again for that, the library does not tell of
 *   reconnects connections lost, as told by the error callback
 *   cpu_ns     of the load thread and of all threads that librdkafka runs for this instance's
 *              handles, each read by its own clock: several instances in a process do not mix
 *   buffer.memory is queue.buffering.max.kbytes, which counts keys and values but not what a batch
 *              reserves
 *   request.timeout.ms is also socket.timeout.ms, by which librdkafka gives up on a request
 * Failure: more than RDK_HANDLES_MAX clients in one instance are refused, for each has three
 *   threads and more.
 * Threads: one, and librdkafka's. */
#ifndef BENCH_LOAD_RDK_H
#define BENCH_LOAD_RDK_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/load/driver.h"
#include "bench/load/rdk_handle.h"
#include "bench/load/record.h"
#include "bench/stat/schedule.h"
#include "core/base/rng.h"

#define RDK_HANDLES_MAX 512u

struct rdk_producer;
struct rdk_consumer;
struct rdk_record;
struct rdk_slab;

struct rdk {
    struct rdk_host host;
    struct loader_config config;
    const struct workload *w;
    struct load_outcome out;
    struct rng rng;
    uint32_t clock_id;
    int32_t partitions_n;         /* 0: not known yet */
    int stage;                    /* as last seen */
    uint64_t acked, consumed_new; /* up to the interval under way */
    uint64_t start_ns, interval_end_ns, turn_ns, due_ns, cpu_was_ns;
    uint64_t connect_limit_ns, look_ns; /* look: when all queues were last served unasked */

    /* Producing: rdk_producer.c. */
    struct schedule schedule;
    bool scheduling, schedule_random; /* random: each event picks its producer by chance */
    unsigned schedule_parts;
    uint64_t outstanding; /* intended, and neither acknowledged nor failed */
    uint64_t in_library;  /* of them, accepted by rd_kafka_produce() */
    struct body_set bodies;
    uint8_t *value; /* the record being made */
    struct rdk_producer *producers;
    unsigned producers_n, producer_next;
    struct rdk_record *free_records;
    struct rdk_slab *slabs;
    struct sequence_ranges *failed; /* by partition: records that were not acknowledged */
    uint64_t backlog_n, records_left, full_since_ns;
    bool all_full, ending;

    /* Consuming: rdk_consumer.c. */
    struct rdk_consumer *consumers;
    unsigned consumers_n, consumers_unfinished, late_unfinished;
};

/* rdk_producer.c */
unsigned rdk_producers_count(const struct rdk *r);
int rdk_producers_init(struct rdk *r, char *reason, size_t reason_size);
void rdk_producers_fini(struct rdk *r);
/* Take delivery reports, of all producers or only of those that were signalled. True: there may be
 * more already. */
bool rdk_producers_serve(struct rdk *r, bool all);
/* Produce what is due; returns when something is due next. */
uint64_t rdk_producers_pump(struct rdk *r, uint64_t now_ns);
void rdk_producers_take_counts(struct rdk *r);
/* Nothing is waited for any more: what was not acknowledged may be missing. */
void rdk_producers_end(struct rdk *r);
int rdk_producers_produced(const struct rdk *r, struct produced *to);

/* rdk_consumer.c */
unsigned rdk_consumers_count(const struct rdk *r);
int rdk_consumers_init(struct rdk *r, char *reason, size_t reason_size);
void rdk_consumers_fini(struct rdk *r);
bool rdk_consumers_serve(struct rdk *r, bool all);
void rdk_consumers_start(struct rdk *r, bool late);
void rdk_consumers_take_counts(struct rdk *r);
void rdk_consumers_verify(struct rdk *r, const struct produced *all);

#endif
