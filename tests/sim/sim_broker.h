/* sim_broker.h: the broker under test: real shards with their controller, network layer and request
 * handlers, as `penstock serve` puts them together, on the modelled machine.
 *
 * Happy path: sim_broker_start(); sim_broker_turn() again and again; sim_broker_stop().
 * Crash: mem_world_power_off(), mem_world_kill(), or a cut that was asked for; then
 *   sim_broker_crash() ends the process, and the next start finds what survived.
 * Failure: start and stop return what the broker itself would have ended with.
 * Threads: one. */
#ifndef TESTS_SIM_BROKER_H
#define TESTS_SIM_BROKER_H

#include "core/base/rng.h"
#include "core/shard/shard.h"
#include "tests/sim/sim_net.h"
#include "tools/serve_meta.h"

#define SIM_SHARDS_MAX 4u

struct sim_broker_config {
    unsigned shards_n, data_dirs_n;
    enum advertise_mode advertise;
    size_t memory_bytes; /* of each shard */
    uint64_t journal_bytes, direct_min_bytes;
    uint32_t request_bytes_max, requests_in_flight_max;
    uint64_t producer_expiry_ms, retention_check_ms;
    int64_t offsets_retention_ms, offsets_check_ms; /* 0: Kafka's, as below */
    int64_t group_delay_ms;
    uint64_t compact_backoff_ms, compact_memory_bytes; /* 0: nothing is compacted */
    enum egress_mode egress;
    enum log_verify splice_verify;
    int64_t segment_bytes; /* the default of topics: smaller than one may ask for */
};

#define SIM_SECOND_DEVICE 2 /* of /dev2/data */
#define SIM_BROKER_CONFIG "log.roll.jitter.ms"

struct sim_broker {
    struct mem_world *world;
    struct sim_net *net;
    struct rng rng;
    struct broker broker;
    struct broker_config_key config_key; /* the one that can be set */
    struct serve_dirs dirs;
    struct serve_meta meta;
    struct env *envs[SIM_SHARDS_MAX];
    struct shard shards[SIM_SHARDS_MAX];
    void *memory[SIM_SHARDS_MAX];
    size_t memory_bytes;
    bool opened[SIM_SHARDS_MAX], listening[SIM_SHARDS_MAX], settled[SIM_SHARDS_MAX];
    bool up;
    char reason[512];      /* why a start or stop failed */
    uint64_t start_reads;  /* bytes read by the last start */
    bool stores_closed;    /* since the start: all is in segments, and the metadata may say so */
    uint64_t unclean_ends; /* crashes that left requests behind: their memory is lost to the test */
    uint64_t moves;        /* partitions that came to another shard */
    uint64_t placed_bytes; /* of batches that were received where the log keeps them */
    uint64_t compacted_segments;
};

void sim_broker_init(struct sim_broker *b, struct mem_world *world, struct sim_net *net,
                     uint64_t seed);
/* Whose partitions are offline: the second data directory was not there at start. */
static inline bool sim_broker_lacks_dir(const struct sim_broker *b)
{
    return b->dirs.data_n > 1 && b->dirs.data[1].rc < 0;
}
/* 0 or -errno; then nothing runs, and b->reason says why. */
int sim_broker_start(struct sim_broker *b, const struct sim_broker_config *config);
/* 0: a clean stop. */
int sim_broker_stop(struct sim_broker *b);
/* The world has crashed, or is cut now. Then it has power again. */
void sim_broker_crash(struct sim_broker *b);
/* One turn of one shard that has something to do; false: none has. */
bool sim_broker_turn(struct sim_broker *b);
/* When a shard wants to be turned without anything happening; UINT64_MAX: never. */
uint64_t sim_broker_wake_ns(const struct sim_broker *b);

#endif
