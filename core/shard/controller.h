/* controller.h: shard 0's serial queue of metadata changes; private to core/shard.
 *
 * Happy path: a change arrives by message -> checked against the newest image -> the next image is
 *   made -> the record is durable in the metadata log -> the image goes to every shard, which
 *   applies it (shard_apply) and acknowledges -> the image before it is dropped -> the change
 *   travels back to who asked.
 * Failure: a change that is refused, or whose record cannot be written, changes nothing and is
 *   answered with its error. A failed metadata log fails all later changes.
 * Threads: shard 0; shard_apply runs on each shard. */
#ifndef CORE_SHARD_CONTROLLER_H
#define CORE_SHARD_CONTROLLER_H

#include "core/shard/moves.h"
#include "core/shard/shard.h"

/* One shard's copy of "apply this image"; posted to the shard and, applied, back to shard 0. */
struct publish {
    struct env_msg msg;
    struct controller *controller;
    struct shard *shard; /* the receiver, set by it */
    const struct meta_image *image;
    struct meta_uuid topic_id;        /* what changed; zero: no topic did, */
    bool all_topics;                  /* or all of them */
    const struct move_parcel *parcel; /* of a partition that changes its shard; NULL */
    struct log_arrival arrival;
    unsigned pending; /* removals not finished, plus one while applying */
    int rc;
};

void controller_on_request(void *shard, struct env_msg *msg); /* a struct meta_change */
void controller_on_ack(void *shard, struct env_msg *msg);     /* a struct publish */
void shard_apply(void *shard, struct env_msg *msg);           /* a struct publish */

struct moves *controller_moves(const struct shard *s); /* shard 0 */

#endif
