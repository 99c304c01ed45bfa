/* moves.h: partitions on their way from one node to another; the controller's, private to
 * core/shard. What others may ask for is in shard.h.
 *
 * Happy path: asked for -> waits for its turn -> the new shard says that it can have it -> the old
 *   one lets go of it (log_departure_begin) -> metadata names the new shard, with the next leader
 *   epoch -> both apply that: one forgets the partition, the other one loads its parcel.
 * Failure: before metadata changes the old shard goes on, the move is over, a log line says why.
 *   Where nobody knows whether the metadata log has the change (it has failed), the partition is
 *   served by nobody until the next start, which knows.
 * Not durable: what a crash or a stop finds under way has either happened or not.
 * Threads: shard 0; each step of a move runs on the shard that it is at. */
#ifndef CORE_SHARD_MOVES_H
#define CORE_SHARD_MOVES_H

#include "core/shard/shard.h"

struct moves { /* of the controller */
    struct shard *shard;
    struct list_node list; /* struct move, in the order in which they were asked for */
    unsigned active_n;
    bool stopping;
};

void moves_init(struct moves *m, struct shard *s);
void moves_fini(struct moves *m); /* all shards have stopped */
void moves_stop_all(struct moves *m);
bool moves_settled(const struct moves *m);

/* The parcel that a change which moves a partition brings along. */
struct move_parcel {
    uint64_t number;
    const uint8_t *bytes;
    uint64_t len_bytes;
};

#endif
