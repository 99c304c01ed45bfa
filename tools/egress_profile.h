/* egress_profile.h: from how many bytes on which way out pays on this machine, as `penstock bench
 * egress` has found; a small properties file.
 *
 *   local.send_zc.min.bytes=never
 *   local.splice.min.bytes=1048576
 *   remote....
 *
 * Happy path: read fills the limits that the file names and leaves the others alone; write replaces
 *   the file.
 * Failure: -errno, and `reason` is a sentence; -ENOENT: there is no such file.
 * Threads: any; blocks. */
#ifndef TOOLS_EGRESS_PROFILE_H
#define TOOLS_EGRESS_PROFILE_H

#include <stddef.h>

#include "core/shard/shard.h"

#define EGRESS_PROFILE_NAME "egress.properties" /* in the first data directory */

int egress_profile_read(const char *path, struct egress_limits limits[EGRESS_LINKS], char *reason,
                        size_t reason_size);
int egress_profile_write(const char *path, const struct egress_limits limits[EGRESS_LINKS],
                         char *reason, size_t reason_size);

#endif
