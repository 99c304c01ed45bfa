/* egress_cost.h: what a byte costs the sender on this machine, by the way it takes out: from memory
 * copied or not, from disk read and verified first, or spliced from its file.
 *
 * Happy path: egress_cost_measure() sends for a while in each way and size over one connection, and
 *   says the CPU time of this process without the receiver's.
 * Failure: -errno, and `reason` is a sentence. A way that is not possible here (a file system
 * without direct writes, a kernel without zero-copy sends) has negative costs. The file: in `dir`,
 * removed when it is open twice: once for direct reads, once for the page cache. Threads: any one;
 * blocks. Makes an environment, and a thread that receives when there is no sink. */
#ifndef BENCH_EGRESS_COST_H
#define BENCH_EGRESS_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum egress_way {
    EGRESS_MEMORY_SEND,
    EGRESS_MEMORY_ZC,
    EGRESS_DISK_SEND, /* direct read, checksum, send */
    EGRESS_DISK_ZC,
    EGRESS_DISK_SPLICE,   /* of pages that are not in memory */
    EGRESS_CACHED_SPLICE, /* of pages that are */
    EGRESS_WAYS,
};
extern const char *const egress_way_names[EGRESS_WAYS];

enum { EGRESS_SIZES = 5 };
extern const uint32_t egress_sizes[EGRESS_SIZES]; /* ascending */

struct egress_cost_config {
    const char *dir;
    const char *sink_host; /* NULL: over loopback, to a thread of this process */
    uint16_t sink_port;
    double seconds_each;
    void (*on_progress)(const char *way, uint32_t bytes); /* may be NULL */
};
struct egress_cost {
    double ns_per_byte[EGRESS_WAYS][EGRESS_SIZES];
    bool copied; /* the kernel copied what was sent "without a copy" */
    bool local;  /* both ends are on this machine */
};
int egress_cost_measure(const struct egress_cost_config *config, struct egress_cost *ret,
                        char *reason, size_t reason_size);

/* From how many bytes on a way pays, by a margin above the noise, at that size and all above; 0:
 * never. Spliced must pay with the pages in memory and without. */
uint32_t egress_cost_zc_bytes(const struct egress_cost *cost);
uint32_t egress_cost_splice_bytes(const struct egress_cost *cost);

#endif
