/* env_dry.h: an environment (env.h) that reads the real files and keeps every change to itself:
 * what the core would do with a data directory, without touching it. For tools.
 *
 * Happy path: create, run the code (recovery, say) by env_turn(), look at what it made of the
 *   files, destroy. Writes, new names, renames and removals are kept in memory, block by block, and
 *   are what later reads and listings see.
 * Failure: -ENOSPC when the changes take more than memory_bytes; what a device cannot read is -EIO.
 * Differences from a real one: a directory that is renamed or removed takes its entries away
 *   unseen (it is found empty); durability means nothing; there are no sockets and no other shards.
 * Threads: one. */
#ifndef IO_ENV_DRY_H
#define IO_ENV_DRY_H

#include "io/env.h"

int env_dry_create(uint64_t memory_bytes, struct env **ret);
/* Changes made so far: writes and name steps that a real environment would have done. */
uint64_t env_dry_changes(const struct env *env);

#endif
