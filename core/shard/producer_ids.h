/* producer_ids.h: a shard's block of producer ids, private to core/shard.
 * Happy path: shard_producer_id hands out the block; when it is used up, the waiters queue here
 *   while one change asks the controller for the next block.
 * Threads: the shard's. */
#ifndef CORE_SHARD_PRODUCER_IDS_H
#define CORE_SHARD_PRODUCER_IDS_H

#include "core/shard/shard.h"

int producer_ids_init(struct shard *); /* 0 or -ENOMEM */
void producer_ids_fini(struct shard *);

#endif
