/* sim_net.h: the network between simulated clients and the shards of a broker, and the environment
 * (io/env.h) of each shard: files, names, messages and time are io/env_mem.h's, sockets are here.
 *
 * Happy path: sim_net_create(); sim_env_create() for each shard; sim_connect() for each client;
 *   whoever turns the shards calls sim_net_run() for what is due, and a shard's turn when
 *   sim_env_ready() or its wake-up time has come. The clock moves by mem_world_advance() only.
 * Network: bytes arrive late, in pieces, in order. A send's bytes are taken when it is released,
 *   not when it is submitted, and may not change in between. A peer that does not read fills its
 *   window; then sends to it do not end.
 * Failure: sim_net_cut() breaks all connections, as a crash does: clients are told, what the broker
 *   has in flight ends with errors. Misuse of the environment is an ASSERT.
 * Ownership: a peer is the client's, lent from sim_connect() until on_closed or its own close.
 * Threads: one. */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/env_mem.h"

struct sim_net;
struct sim_link;

struct sim_net_config {
    uint64_t latency_ns;    /* mean, one way */
    unsigned starve_one_in; /* receives without a buffer: -ENOBUFS; 0: none */
    unsigned reset_one_in;  /* deliveries to the broker that break the connection; 0: none */
    size_t window_bytes;    /* what a peer that does not read takes */
};

struct sim_net *sim_net_create(struct mem_world *world, uint64_t seed);
void sim_net_destroy(struct sim_net *net); /* all envs are gone; NULL-safe */
void sim_net_configure(struct sim_net *net, const struct sim_net_config *config);

/* Not blocking, its turn returns at once and runs what is there; blocking, it lets time pass. */
struct env *sim_env_create(struct sim_net *net, unsigned index, unsigned count, void *shard);
void sim_env_block(struct env *env, bool blocking);
bool sim_env_ready(const struct env *env);       /* callbacks or messages to run */
uint64_t sim_env_wake_ns(const struct env *env); /* deadline of its last turn */
const struct env_counters *sim_env_counters(const struct env *env);

/* The listening socket of a node. */
int sim_net_listener(unsigned node);

void sim_net_run(struct sim_net *net);
uint64_t sim_net_next_ns(const struct sim_net *net);
void sim_net_cut(struct sim_net *net);
void sim_net_mend(struct sim_net *net); /* after a cut: connections can be made again */
uint64_t sim_net_resets(const struct sim_net *net);

struct sim_peer {
    void (*on_open)(struct sim_peer *p);
    void (*on_data)(struct sim_peer *p, const uint8_t *data, size_t len);
    void (*on_closed)(struct sim_peer *p); /* by the broker, or never opened; not after own close */
    struct sim_link *link;                 /* private; NULL: closed */
};
void sim_connect(struct sim_net *net, struct sim_peer *p, unsigned node);
void sim_send(struct sim_peer *p, const void *data, size_t len);
void sim_pause(struct sim_peer *p, bool paused); /* it does not read */
void sim_finish(struct sim_peer *p);             /* it sends no more, but reads on */
void sim_close(struct sim_peer *p);              /* closed: nothing happens */

#endif
