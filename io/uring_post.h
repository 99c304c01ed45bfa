/* uring_post.h: messages between the shards of a process. Private to io/.
 *
 * One ring of pointers for each ordered pair of shards, written by one and read by the other; what
 * does not fit spills into a list under a lock. Each shard has a mailbox: a bit for each sender
 * that left something, the flag `asleep`, and an eventfd (the bell).
 *
 * No wake-up is lost. A sender makes the message visible, sets its bit, then looks at `asleep`; a
 * receiver sets `asleep`, then looks at the bits, and only then blocks. Both put a sequentially
 * consistent fence between their write and their read, so at least one of them sees the other. The
 * sender that turns `asleep` off owes the wake-up, so there is one for each time the receiver
 * goes to sleep, however many messages follow. The same argument, with "pushed" and "bit", shows
 * that a bit found set already need not be set again: post_collect clears the bits before it looks.
 *
 * Order within a pair: while anything is spilled the sender only spills, and the receiver, holding
 * the lock, empties the ring (older) before the spilled list (newer).
 * Threads: post and settle on the sender's, collect and sleep/awake on the receiver's, the rest on
 * any. */
#ifndef IO_URING_POST_H
#define IO_URING_POST_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "io/env.h"
#include "io/env_uring.h"

unsigned uring_group_count(const struct env_uring_group *group);
/* The count of the device with this number (uring_names.h); all shards have the same. */
struct device_losses *uring_group_device(struct env_uring_group *group, uint64_t device);
int uring_group_bell_fd(const struct env_uring_group *group, unsigned index);
/* The ring that MSG_RING can reach this shard by; -1 when it is gone. */
void uring_group_set_ring(struct env_uring_group *group, unsigned index, int ring_fd);
int uring_group_ring_fd(const struct env_uring_group *group, unsigned index);
/* Ring the bell: wakes the shard whatever it does. */
void uring_group_ring_bell(const struct env_uring_group *group, unsigned index);

void uring_post(struct env_uring_group *group, unsigned from, unsigned to, struct env_msg *msg);
/* After posts: true if the caller owes that shard a wake-up. */
bool uring_post_settle(struct env_uring_group *group, unsigned to);
/* Moves all messages for this shard to the end of ret, each pair's in order. */
void uring_post_collect(struct env_uring_group *group, unsigned index, struct list_node *ret);
/* Whether there are messages for this shard. */
bool uring_post_any(const struct env_uring_group *group, unsigned index);
/* About to block: false if there are messages already, and then do not. */
bool uring_post_sleep(struct env_uring_group *group, unsigned index);
void uring_post_awake(struct env_uring_group *group, unsigned index);

#endif
