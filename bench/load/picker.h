/* picker.h: which key and which partition a producer's next record gets, whatever client library
 * sends it: the same workload is the same traffic.
 * Happy path: picker_init per producer; for each record picker_key if the workload has keys, then
 *   picker_partition; picker_took when the record was accepted, and picker_batch_full when no other
 *   fits its batch, where that is known: no piece of a batch is left then that waits to linger.
 *   (KIP-794: Kafka's partitioner leaves few of them.)
 * Failure: none. Threads: a picker and its rng belong to one load thread. */
#ifndef BENCH_LOAD_PICKER_H
#define BENCH_LOAD_PICKER_H

#include <stdint.h>

#include "bench/load/workload.h"
#include "core/base/rng.h"

#define PICKER_KEY_BYTES_MAX 4096 /* of a key, as workload.c allows */

struct picker {
    const struct workload *w;
    uint32_t partitions_n;
    int32_t partition;     /* sticky: the current one; round robin: the last one */
    uint64_t sticky_bytes; /* that went to it */
};

void picker_init(struct picker *p, const struct workload *w, uint32_t producer,
                 int32_t partitions_n);
/* One of the workload's keys, in decimal digits; key_bytes of it are written. */
void picker_key(const struct picker *p, struct rng *rng, uint8_t *key);
/* key: NULL if records have none. */
int32_t picker_partition(struct picker *p, struct rng *rng, const uint8_t *key);

static inline void picker_took(struct picker *p, uint64_t record_bytes)
{
    p->sticky_bytes += record_bytes;
}

static inline void picker_batch_full(struct picker *p)
{
    p->sticky_bytes = p->w->batch_bytes;
}

#endif
