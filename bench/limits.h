/* limits.h: the physical limits, measured in the same run on the same machine: what the device
 * under a directory writes and reads, and what loopback TCP carries, through the same ring as ours.
 *
 * Happy path: limits_measure() before or after a run (never beside it), limits_json() into the
 *   result, limits_share_json() for what part of the limits the run reached.
 * Failure: -errno, *ret untouched and `reason` a sentence: -ENOENT no such directory, -ENOSPC not
 *   enough free space, -EINVAL sizes, what writing, reading or the ring said else.
 * The file: in `dir`, of file_bytes_max or a quarter of the free space, whichever is less. It is
 *   unlinked as soon as it is open, so that nothing is left behind however the run ends. It is
 *   written once with random bytes before anything is measured, as long as that takes no more than
 *   two measurements; the measurements then overwrite and read what was written, in order, from the
 *   start again at its end. That is what a broker with recycled segments does; first writes to new
 *   extents are slower and are not measured here.
 * Relies on: O_DIRECT. Where the file system refuses it the page cache is measured, and the JSON
 *   says "direct": false. What was just written may be read from a cache of the device or of the
 *   hypervisor: reads are then faster than the medium.
 * Time: (5 for each distinct block size + 1 for each message size) * seconds_each, and the first
 *   write of the file.
 * Threads: any one; blocks. Makes its own environments; for TCP two threads with one each. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/device.h"

struct json_object;

enum { LIMITS_SIZES_MAX = 4 };
#define LIMITS_SIZE_BYTES_MAX (16u << 20)

struct limits_config {
    const char *dir; /* NULL: no device is measured; borrowed */
    bool tcp;        /* measure loopback TCP */
    /* Of batches, as the run sends them. Device blocks are these rounded up to BLOCK_BYTES, the
     * same one once. */
    uint32_t sizes_bytes[LIMITS_SIZES_MAX];
    unsigned sizes_n;                                 /* 1..LIMITS_SIZES_MAX */
    double seconds_each;                              /* of one measurement; 0: 2 s */
    uint64_t file_bytes_max;                          /* 0: 1 GiB */
    void (*on_progress)(void *arg, const char *what); /* before each measurement; may be NULL */
    void *progress_arg;
};

enum limits_kind {
    LIMITS_WRITE_16MIB, /* 4 writes in flight; all drained and flushed each 16 MiB */
    LIMITS_WRITE_GROUP, /* 4 at once, then a flush, then the next 4 */
    LIMITS_WRITE_FLUSH, /* one write, then a flush */
    LIMITS_WRITE_DSYNC, /* one write that is durable when done (RWF_DSYNC) */
    LIMITS_READ,        /* 4 reads in flight */
    LIMITS_KINDS,
};

struct limits_figure {
    enum limits_kind kind;
    uint32_t block_bytes;
    /* Bytes that were durable (read: in memory), over the time from the first submission to the
     * end of the last flush. */
    double mib_s;
    double p50_us; /* of the group: from its first submission until it is durable; 0: not told */
};
struct limits_tcp {
    uint32_t message_bytes;
    double mib_s;         /* received, from the first send to the last byte */
    double cpu_s_per_gib; /* both threads' own CPU clocks; the kernel's softirq work counts where it
                             ran, so mostly here */
};
struct limits {
    bool device_measured;
    char dir[256]; /* as it was given */
    struct device device;
    bool direct;         /* the file was opened with O_DIRECT */
    uint64_t file_bytes; /* that were written first, and so overwritten and read */
    struct limits_figure figures[LIMITS_KINDS * LIMITS_SIZES_MAX];
    unsigned figures_n;
    struct limits_tcp tcp[LIMITS_SIZES_MAX];
    unsigned tcp_n;
};

int limits_measure(const struct limits_config *config, struct limits *ret, char *reason,
                   size_t reason_size);

/* {"device": {"path", "fs", "name", "direct", "write_cache", "copy_on_write", "extents",
 * "file_bytes", "write": [{"block_bytes", "depth", "flush": "16MiB"|"4 blocks"|"each"|"dsync",
 * "mib_s", "p50_us"?}], "read": [{"block_bytes", "depth", "mib_s"}]}, "tcp": [{"message_bytes",
 * "mib_s", "cpu_s_per_gib"}]}, each part only if measured. NULL when memory is out. */
struct json_object *limits_json(const struct limits *limits);

/* What a run reached; bytes are payload: keys and values as the client counts them. */
struct limits_run {
    double acked_mib_s;    /* 0: nothing was produced */
    double consumed_mib_s; /* 0: nothing was consumed */
    bool durable;          /* the broker syncs before it acknowledges */
};
/* [{"name", "mib_s", "limit_mib_s", "share": mib_s / limit_mib_s, and which measurement the limit
 * is: "block_bytes", "depth", "flush" or "message_bytes"}]. Each limit is the best of its kind over
 * all sizes measured, as a broker may gather small batches into large writes. Against synced writes
 * it is the best of those flushed each, each four blocks, or written with dsync; a broker that
 * gathers still more before it syncs can exceed it, as one with compressed batches or reads from
 * memory can exceed the device: then the share says so. NULL when memory is out. */
struct json_object *limits_share_json(const struct limits *limits, const struct limits_run *run);

#endif
