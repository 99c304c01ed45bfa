/* loader.h: the load thread on our own ring and codec: thousands of simulated producers and
 * consumers. See driver.h for its life; loader_driver makes the ring itself, tests bring their own
 * environment. Threads: one. */
#ifndef BENCH_LOAD_LOADER_H
#define BENCH_LOAD_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/load/cluster.h"
#include "bench/load/course.h"
#include "bench/load/driver.h"

struct producer;
struct consumer;
struct load_batch;

struct loader {
    struct course course;
    struct env *env;
    struct cluster cluster;
    uint64_t due_ns;
    bool closing;
    int32_t correlation;
    struct arena arena; /* of one answer */

    /* Producing: producer.c. */
    struct producer *producers;
    struct list_node open;       /* load_batch, by age: they wait for linger.ms */
    struct list_node retries;    /* load_batch, by the time at which they go out again */
    struct list_node dirty;      /* producer_link with something to send */
    struct list_node batch_pool; /* free load_batch */
    struct list_node calls;      /* produce requests on their way */
    struct list_node call_pool;  /* free produce requests */
    struct list_node down;       /* producer_link to be opened again */
    struct list_node blocked;    /* producer whose memory is full while records wait */
    void *parts_scratch;         /* of one request */
    uint64_t routed_generation;
    int64_t wall_ms;
    int16_t produce_version;

    /* Consuming: consumer.c. */
    struct consumer *consumers;
    unsigned consumers_n;
    int16_t fetch_version;
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
void load_unsent_drop(struct course *base);
int load_record_make(struct course_producer *base, uint64_t intended_ns, uint64_t made_ns);
unsigned load_room_least(struct course *base);
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
