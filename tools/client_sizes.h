/* client_sizes.h: how many bytes partitions have on disk, as their leaders tell. Threads: one. */
#ifndef TOOLS_CLIENT_SIZES_H
#define TOOLS_CLIENT_SIZES_H

#include "tools/client_offsets.h"

/* sizes: a place for each spot; -1 where the broker does not tell (it has no DescribeLogDirs). */
int client_sizes(struct client *c, const struct client_spot *spots, unsigned n, int64_t *sizes);

#endif
