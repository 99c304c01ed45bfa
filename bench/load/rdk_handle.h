/* rdk_handle.h: one client of librdkafka (an rd_kafka_t), its queue, and what it costs.
 * A host belongs to a load thread: the thread sleeps in it until a queue of its handles has
 * something, and it adds up the CPU time of all threads that the library runs for its handles.
 * Happy path: rdk_host_init(); per client rdk_conf_init(), rdk_conf_set()..., rdk_handle_open(),
 *   rdk_handle_connect(); rdk_host_wait() and rdk_handle_ready(); rdk_handle_close(); fini.
 * Failure: settings that librdkafka refuses, or makes something else of, are -EINVAL and named.
 * Ownership: a handle is borrowed by the library's threads from open to close.
 * Threads: the load thread, but for what librdkafka's own threads call back: those only count, and
 *   wake the load thread. */
#ifndef BENCH_LOAD_RDK_HANDLE_H
#define BENCH_LOAD_RDK_HANDLE_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "bench/load/stats.h"

struct rdk_host {
    int event_fd;
    atomic_bool woken; /* event_fd was written since it was read */
    pthread_mutex_t lock;
    clockid_t *clocks; /* of the library's living threads; under lock, as the two below */
    unsigned clocks_n, clocks_cap;
    uint64_t ended_ns; /* CPU of those that have ended */
};
int rdk_host_init(struct rdk_host *host);
void rdk_host_fini(struct rdk_host *host);
/* Sleep until then, or until a queue is no longer empty. */
void rdk_host_wait(struct rdk_host *host, uint64_t until_ns);
/* CPU time of the calling thread and of all the library's threads of this host. */
uint64_t rdk_host_cpu_ns(struct rdk_host *host);

#define RDK_BROKER_SLOTS 64u /* brokers told apart, by id modulo this */
#define RDK_SETTINGS_MAX 24
#define RDK_VALUE_BYTES 1024
struct rdk_conf {
    rd_kafka_conf_t *conf;
    int rc; /* the first failure; then nothing is set any more */
    char *reason;
    size_t reason_size;
    unsigned n;
    struct {
        const char *ours, *name;
        char value[RDK_VALUE_BYTES];
    } asked[RDK_SETTINGS_MAX];
};
void rdk_conf_init(struct rdk_conf *c, char *reason, size_t reason_size);
/* ours: the workload's name of it, for a complaint; static strings. */
__attribute__((format(printf, 4, 5))) void rdk_conf_set(struct rdk_conf *c, const char *ours,
                                                        const char *name, const char *format, ...);

struct rdk_handle { /* the atomics are written by the library's threads */
    struct rdk_host *host;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    atomic_bool signalled; /* the queue was empty and no longer is */
    /* Since they were last taken; lost: produce requests whose answer will never come. */
    atomic_uint_fast64_t requests, request_bytes, fetches, lost;
    atomic_uint_fast32_t unanswered[RDK_BROKER_SLOTS]; /* produce requests */
    bool unacknowledged;                               /* acks=0: there are no answers */
    /* What the load thread was told while it served the queue. */
    uint64_t disconnects; /* since they were last taken */
    bool all_down, fatal; /* fatal: it will produce nothing any more */
    int16_t error_code;   /* the first of Kafka's among the errors */
};

/* Takes c->conf, also on failure. Delivery reports of a producer are events of the queue, a
 * consumer's queue is to be consumed from. */
int rdk_handle_open(struct rdk_handle *h, struct rdk_host *host, rd_kafka_type_t type,
                    struct rdk_conf *c);
/* Wait until a broker has told of the topic; the number of partitions. */
int rdk_handle_connect(struct rdk_handle *h, const char *topic, uint64_t limit_ns, char *reason,
                       size_t reason_size);
void rdk_handle_close(struct rdk_handle *h);
/* Whether there was a signal since this was last asked. */
bool rdk_handle_ready(struct rdk_handle *h);
/* Add what the handle has counted since this was last called. */
void rdk_handle_take(struct rdk_handle *h, struct load_counts *to);

#endif
