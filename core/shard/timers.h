/* timers.h: due timers of a shard, private to core/shard.
 * Happy path: shard_turn sleeps until timers_deadline_ns and then calls timers_run_due, which runs
 *   what was due when it began, earliest first. A timer that sets itself again in run() waits for
 *   the next turn, also with a deadline that has passed already.
 * Threads: the shard's. */
#ifndef CORE_SHARD_TIMERS_H
#define CORE_SHARD_TIMERS_H

#include "core/shard/shard.h"

uint64_t timers_deadline_ns(const struct shard *); /* UINT64_MAX: none is set */
void timers_run_due(struct shard *, uint64_t now_ns);
void timers_fini(struct shard *);

#endif
