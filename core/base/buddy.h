/* buddy.h: power-of-two allocator over one region (Knowlton 1965): 4 KiB .. region size.
 * Every block is aligned to its size, so all are fit for direct I/O. O(log n), no system calls.
 * It keeps its notes (9 bytes a page) outside the region, and splits a larger block only when no
 * smaller one is free, from its start: memory that was never needed is never touched.
 * buddy_alloc returns NULL when nothing large enough is free: back-pressure, not an error.
 * The region is borrowed until buddy_fini. Threads: one owner. */
#ifndef CORE_BASE_BUDDY_H
#define CORE_BASE_BUDDY_H

#include <stddef.h>
#include <stdint.h>

#define BUDDY_MIN_SHIFT 12u
#define BUDDY_ORDERS 28u /* up to 4 KiB << 27 = 512 GiB */

struct buddy_link;

struct buddy {
    char *base;
    size_t size_bytes, used_end_bytes; /* nothing behind used_end_bytes was ever taken */
    uint64_t free_bytes;               /* others may counter_read() it */
    uint8_t *order; /* per 4 KiB page that starts a block: order + 1, high bit when free; else 0 */
    struct buddy_link *links;          /* per page that starts a free block: its neighbours */
    uint32_t free_heads[BUDDY_ORDERS]; /* of the lists of free blocks: first pages */
};

/* base aligned to 4 KiB, size a multiple of it; any size, not only powers of two. 0 or -ENOMEM. */
int buddy_init(struct buddy *b, void *base, size_t size_bytes);
void buddy_fini(struct buddy *b);
void *buddy_alloc(struct buddy *b, size_t len_bytes);
void buddy_free(struct buddy *b, void *block);
/* Gives back what lies behind the first keep_bytes, rounded up to 4 KiB, of a run: a block of
 * run_bytes, or what an earlier trim has left of one. What stays is freed by buddy_free_run. */
void buddy_trim(struct buddy *b, void *run, size_t run_bytes, size_t keep_bytes);
void buddy_free_run(struct buddy *b, void *run, size_t run_bytes);
/* What buddy_alloc(len_bytes) really takes. */
size_t buddy_round(size_t len_bytes);

#endif
