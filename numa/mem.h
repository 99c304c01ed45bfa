/* mem.h: big memory on a NUMA node, and threads pinned to a PU.
 * Happy path: mem_map() climbs down a ladder until a rung holds: hugetlb pages when enough 2 MiB
 *   pages are free on the node, else 2 MiB aligned memory with transparent huge pages, else plain
 *   pages. The kernel is told to prefer the node; pages come when they are first touched, so idle
 *   memory costs no RSS.
 * Failure: -errno, *ret untouched: -EINVAL (no bytes, or a node that the machine lacks), -ENOMEM.
 *   Where a sandbox forbids binding, or the kernel has no NUMA, the memory is given unbound and
 *   says so in `bound`.
 * Ownership: the caller owns the region until mem_unmap().
 * Threads: any. */
#ifndef NUMA_MEM_H
#define NUMA_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_NODE_ANY (-1)

enum mem_rung { MEM_PLAIN, MEM_THP, MEM_HUGETLB };

struct mem_region {
    void *base;       /* zeros; aligned to 2 MiB, but for MEM_PLAIN to a page at least */
    size_t len_bytes; /* what was asked for, rounded up to the rung's page size */
    enum mem_rung rung;
    int node;   /* as asked for: an os index or MEM_NODE_ANY */
    bool bound; /* the kernel took the node; false for MEM_NODE_ANY */
};

int mem_map(size_t bytes, int node, struct mem_region *ret);
/* Small pages only, for what is big but mostly never touched: a stack. */
int mem_map_plain(size_t bytes, int node, struct mem_region *ret);

/* Does nothing for a zeroed region; zeroes it. */
void mem_unmap(struct mem_region *region);

/* "plain", "thp", "hugetlb" */
const char *mem_rung_name(enum mem_rung rung);

/* Free 2 MiB huge pages of a node (or all, MEM_NODE_ANY) that nobody has reserved, in bytes. */
uint64_t mem_huge_free_bytes(int node);

/* Pin the calling thread to one PU; 0 or -errno (-EINVAL: there is no such PU, or it may not be
 * used). */
int mem_pin_thread(int pu_os_index);

#endif
