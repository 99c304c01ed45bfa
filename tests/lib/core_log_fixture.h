/* core_log_fixture.h: a log store on the in-memory environment, with a model of what was appended,
 * acknowledged and must come back. For tests of core/log.
 * Threads: one. */
#ifndef TESTS_LIB_CORE_LOG_FIXTURE_H
#define TESTS_LIB_CORE_LOG_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/rng.h"
#include "core/log/log.h"
#include "io/env_mem.h"

#define FIXTURE_PARTITIONS_MAX 64
#define FIXTURE_BATCHES_MAX 4096

struct model_batch {
    int64_t base_offset;
    int32_t records;
    uint32_t len_bytes;
    uint32_t crc; /* of the whole batch as stored */
    bool acked, finished;
    struct log_append append;
    struct log_fixture *fixture;
};
struct model_partition {
    struct model_batch *batches; /* in offset order; what a crash took away is cut off */
    unsigned batches_n;
    int64_t start; /* of the log, as it was seen: it never goes back */
};
struct log_fixture {
    struct mem_world *world;
    struct env *env;
    struct log_store *store;
    struct log_config config;
    struct buddy memory, read_memory;
    void *memory_base, *read_base;
    struct meta_image image;
    uint32_t by_name[16];
    struct meta_topic topic, *topics[1];
    struct meta_partition partitions[FIXTURE_PARTITIONS_MAX];
    struct model_partition model[FIXTURE_PARTITIONS_MAX];
    struct rng rng;
    bool unawaited; /* appends as with acks=1: nobody waits until they are stable */
    uint64_t acked, failed;
    const char *why; /* of the last failed check */
};

/* partitions of one topic "t"; memory for the logs; direct runs from direct_min on. */
void fixture_init(struct log_fixture *f, uint64_t seed, int32_t partitions, size_t memory_bytes,
                  uint64_t direct_min_bytes);
void fixture_fini(struct log_fixture *f);
/* 0 or what log_store_open said (f->why says why). */
int fixture_open(struct log_fixture *f);
int fixture_close(struct log_fixture *f);
/* Opened with so many batches on disk in each of the first partitions, and nothing of them in
 * memory; 0 or what fixture_open or fixture_close said. */
int fixture_open_cold(struct log_fixture *f, int32_t partitions, int batches, uint32_t batch_bytes);
/* The power has been cut: abandons the store, lets the world decide what survived. */
void fixture_crash(struct log_fixture *f);
/* Appends one batch of about value_bytes to a partition; plog_append's result. */
int fixture_append(struct log_fixture *f, int32_t partition, uint32_t value_bytes, int32_t records);
void fixture_turn(struct log_fixture *f);
/* Turns until every append has finished (or the power is gone). */
void fixture_settle(struct log_fixture *f);
struct plog *fixture_plog(struct log_fixture *f, int32_t partition);
/* Asks for it and waits until the log begins there; plog_delete_records' result. */
int fixture_delete_records(struct log_fixture *f, int32_t partition, int64_t offset);
/* Reads the partition from its start and compares with the model: everything acknowledged is
 * there once, in order, byte for byte; what was not acknowledged may be missing from the end.
 * Forgets what is missing. False: f->why. */
bool fixture_verify(struct log_fixture *f, int32_t partition);
bool fixture_verify_all(struct log_fixture *f);
/* Sends it as a broker would; what has arrived goes to out. False: it could not be sent. */
bool fixture_splice(struct log_fixture *f, const struct env_extent *extent, uint8_t *out);

#endif
