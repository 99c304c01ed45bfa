/* client_offsets.h: places in partitions: ends, starts, by time; and when the record at a place was
 * written.
 * Happy path: fill spots, whose topics come one after another; client_list_offsets() asks each
 *   leader once.
 * Failure: a partition's own error is in its spot's rc; what breaks all is returned. Leaders that
 *   have moved are looked up anew, until the timeout. Threads: one. */
#ifndef TOOLS_CLIENT_OFFSETS_H
#define TOOLS_CLIENT_OFFSETS_H

#include "tools/client.h"

#define OFFSETS_LATEST (-1)
#define OFFSETS_EARLIEST (-2)

enum client_isolation { READ_UNCOMMITTED, READ_COMMITTED };

struct client_spot {
    const char *topic; /* borrowed */
    int32_t partition;
    int32_t leader;    /* -1: to be looked up */
    int64_t timestamp; /* asked: one of OFFSETS_*, or milliseconds */
    int rc;            /* out, and all below */
    int64_t offset;    /* -1: no record at or after the time */
    int64_t found_timestamp;
    int32_t leader_epoch;
};

int client_list_offsets(struct client *c, struct client_spot *spots, unsigned n,
                        enum client_isolation isolation);

/* The spots of all partitions of the topics in a metadata answer, in the arena: n of them, with
 * timestamp OFFSETS_LATEST. A partition without leader has rc set. NULL: no memory. */
struct client_spot *client_spots(const struct metadata_response *m, struct arena *arena,
                                 unsigned *ret_n);

/* Timestamp of the first record at or after an offset of a partition, and that record's offset.
 * 0; -ENOENT: there is none; OFFSET_OUT_OF_RANGE and others. */
int client_record_time(struct client *c, const struct client_spot *spot, int64_t offset,
                       int64_t *ret_timestamp, int64_t *ret_offset);

#endif
