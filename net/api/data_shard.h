/* data_shard.h: what Produce and Fetch keep on every shard beyond single requests: appends that
 * wait for memory, or to be told where their partition goes, calls whose batches are packed again,
 * and fetch sessions.
 * Made at first use; data_shard_fini() when no request is left. Threads: the shard's own. */
#ifndef NET_API_DATA_SHARD_H
#define NET_API_DATA_SHARD_H

#include "core/base/map.h"
#include "core/shard/shard.h"

struct fetch_sessions;

struct data_shard {
    struct list_node appends_waiting; /* of produce.c, in order of arrival */
    struct log_waiter memory_waiter;  /* set while that list is not empty */
    struct list_node appends_leaving; /* of produce.c, whose partitions are leaving this shard */
    struct shard_timer leaving_timer; /* set while that list is not empty */
    struct list_node packing; /* of produce.c: calls, in order of arrival, and those behind them */
    struct shard *shard;
    struct fetch_sessions *sessions;
    struct map fetches; /* address of a request -> fetch.c's state, until it is released */
};

/* NULL: no memory. */
struct data_shard *data_shard_of(struct shard *s);
void data_shard_fini(struct shard *s);
/* produce.c: a partition has left, or stayed after all; or nobody waits any more. */
void produce_leaving_run(struct shard *s);
void produce_leaving_end(struct shard *s);

#endif
