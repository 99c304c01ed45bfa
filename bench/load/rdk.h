/* rdk.h: the load thread on librdkafka, the C client that users run. See driver.h for its life.
 * Each simulated producer and each simulated consumer is an rd_kafka_t of its own, as users would
 * have it, with the settings that the workload names and librdkafka's defaults for all others.
 * Traffic, record layout, schedule and checks are those of the own client (course.h, intake.h).
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

#include "bench/load/course.h"
#include "bench/load/driver.h"
#include "bench/load/rdk_handle.h"

#define RDK_HANDLES_MAX 512u

struct rdk_producer;
struct rdk_consumer;
struct rdk_record;
struct rdk_slab;

struct rdk {
    struct course course;
    struct rdk_host host;
    int32_t partitions_n; /* 0: not known yet */
    uint64_t turn_ns, due_ns;
    uint64_t connect_limit_ns, look_ns; /* look: when all queues were last served unasked */

    /* Producing: rdk_producer.c. */
    uint64_t in_library; /* records accepted by rd_kafka_produce(), whose report has not come */
    uint8_t *value;      /* the record being made */
    struct rdk_producer *producers;
    struct rdk_record *free_records;
    struct rdk_slab *slabs;
    bool ending;

    /* Consuming: rdk_consumer.c. */
    struct rdk_consumer *consumers;
    unsigned consumers_n;
};

/* Add what a handle has counted to the interval under way. */
void rdk_counts_take(struct rdk *r, struct rdk_handle *h);

/* rdk_producer.c */
int rdk_producers_init(struct rdk *r, char *reason, size_t reason_size);
void rdk_producers_fini(struct rdk *r);
/* Take delivery reports, of all producers or only of those that were signalled. True: there may be
 * more already. */
bool rdk_producers_serve(struct rdk *r, bool all);
int rdk_record_make(struct course_producer *base, uint64_t intended_ns, uint64_t made_ns);
/* Produce what is due; returns when something is due next. */
uint64_t rdk_producers_pump(struct rdk *r, uint64_t now_ns);
void rdk_producers_take_counts(struct rdk *r);
/* Nothing is waited for any more: what was not acknowledged may be missing. */
void rdk_producers_end(struct rdk *r);
int rdk_producers_produced(const struct rdk *r, struct produced *to);

/* rdk_consumer.c */
int rdk_consumers_init(struct rdk *r, char *reason, size_t reason_size);
void rdk_consumers_fini(struct rdk *r);
bool rdk_consumers_serve(struct rdk *r, bool all);
void rdk_consumers_start(struct rdk *r, bool late);
void rdk_consumers_take_counts(struct rdk *r);
void rdk_consumers_verify(struct rdk *r, const struct produced *all);

#endif
