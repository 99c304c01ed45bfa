/* net_sim.h: the environment (io/env.h) on virtual time, whose network is one scripted Kafka
 * server (script_broker.h): what runs on it sees exact times, and the same run for the same seed.
 *
 * Happy path: script_create(), net_sim_create(), run the code under test by env_turn(),
 *   env_destroy(), look at the server's counters and arrivals, script_destroy().
 * Time: starts at one second (so that nothing takes 0 for a time), stands still while callbacks
 *   run, and moves in env_turn() only: to what is next on the network or to the deadline.
 * Network: bytes need latency_ns each way, connecting both ways, and nothing else delays them:
 *   a Produce request that is sent at t is answered at t + latency + service + latency. Links hold
 *   any number of bytes. A connect to any other port than the server's is -ECONNREFUSED.
 * Failure: files, names and accepting are -ENOSYS. Waiting for ever for nothing, changing bytes
 *   that are being sent and closing a socket with something in flight are ASSERTs.
 * Ownership: borrows the server until env_destroy(), which forgets what is in flight.
 * Threads: one. */
#ifndef TESTS_LIB_NET_SIM_H
#define TESTS_LIB_NET_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "io/env.h"
#include "tests/lib/script_broker.h"

struct net_sim_config {
    uint64_t seed; /* of env_random() and of the splits */
    uint64_t latency_ns;
    bool split;  /* receives end at random places, sends are released at random turns */
    void *shard; /* handed to message handlers */
};

struct env *net_sim_create(const struct net_sim_config *config, struct script_broker *broker,
                           uint16_t port);
/* Let the clock run, as if the code under test had been stopped: nothing is called back. */
void net_sim_advance(struct env *env, uint64_t ns);
/* New connections are refused from now on, or no longer. */
void net_sim_refuse(struct env *env, bool refuse);

#endif
