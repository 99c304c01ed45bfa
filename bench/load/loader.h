/* loader.h: the load thread on our own ring and codec: thousands of simulated producers and
 * consumers. See driver.h for its life; loader_driver makes the ring itself, tests bring their own
 * environment. Threads: one. */
#ifndef BENCH_LOAD_LOADER_H
#define BENCH_LOAD_LOADER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/load/cluster.h"
#include "bench/load/driver.h"
#include "bench/load/record.h"
#include "bench/load/stats.h"
#include "bench/load/verify.h"
#include "bench/load/workload.h"
#include "bench/stat/schedule.h"
#include "core/base/rng.h"

struct producer;
struct consumer;
struct load_batch;

struct loader {
    struct env *env;
    struct loader_config config;
    const struct workload *w;
    struct cluster cluster;
    struct load_outcome out;
    struct rng rng;
    uint32_t clock_id;
    int stage;                    /* as last seen */
    uint64_t acked, consumed_new; /* up to the interval under way */
    uint64_t start_ns, interval_end_ns, due_ns, cpu_was_ns;

    /* Producing: producer.c. */
    struct schedule schedule;
    bool scheduling, schedule_random; /* random: each event picks its producer by chance */
    unsigned schedule_parts;
    uint64_t schedule_end_ns; /* records intended from then on are not made */
    uint64_t outstanding;     /* what `unfinished` is told after each turn */
    struct body_set bodies;
    struct producer *producers;
    unsigned producers_n, producer_next;
    struct list_node open;          /* load_batch, by age: they wait for linger.ms */
    struct list_node retries;       /* load_batch, by the time at which they go out again */
    struct list_node dirty;         /* producer_link with something to send */
    struct list_node batch_pool;    /* free load_batch */
    struct list_node calls;         /* produce requests on their way */
    struct list_node call_pool;     /* free produce requests */
    struct list_node down;          /* producer_link to be opened again */
    struct list_node blocked;       /* producer whose memory is full while records wait */
    struct sequence_ranges *failed; /* by partition: records that were not acknowledged */
    struct arena arena;             /* of one answer */
    void *parts_scratch;            /* of one request */
    uint64_t backlog_n, records_left;
    uint64_t routed_generation, full_since_ns;
    bool all_full, closing;
    int64_t wall_ms;
    int32_t correlation;
    int16_t produce_version, fetch_version;

    /* Consuming: consumer.c. */
    struct consumer *consumers;
    unsigned consumers_n, consumers_unfinished, late_unfinished;
};

int loader_create(struct loader *l, struct env *env, const struct loader_config *config,
                  char *reason, size_t reason_size);
/* One turn: waits, handles, generates, sends. False when it is over. */
bool loader_turn(struct loader *l);
void loader_destroy(struct loader *l);

int loader_produced(const struct loader *l, struct produced *to);
void loader_verify(struct loader *l, const struct produced *all);

/* ---- private to bench/load ---- */

/* producer.c */
int load_producers_init(struct loader *l, char *reason, size_t reason_size);
void load_producers_fini(struct loader *l);
bool load_producers_connected(const struct loader *l);
void load_producers_close(struct loader *l);
bool load_producers_closed(const struct loader *l);
/* What was intended before now is counted where it belongs, before a window ends. */
void load_producers_catch_up(struct loader *l, uint64_t now_ns);
/* Do what is due; returns when something is due next. */
uint64_t load_producers_pump(struct loader *l, uint64_t now_ns);
void load_producers_tick(struct loader *l, uint64_t now_ns); /* each second: what takes too long */
int load_producers_produced(const struct loader *l, struct produced *to);

/* consumer.c */
int load_consumers_init(struct loader *l, char *reason, size_t reason_size);
void load_consumers_fini(struct loader *l);
bool load_consumers_connected(const struct loader *l);
void load_consumers_close(struct loader *l);
bool load_consumers_closed(const struct loader *l);
void load_consumers_start_late(struct loader *l);
uint64_t load_consumers_pump(struct loader *l, uint64_t now_ns);
void load_consumers_tick(struct loader *l, uint64_t now_ns);
void load_consumers_verify(struct loader *l, const struct produced *all);

#endif
