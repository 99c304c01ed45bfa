#include "core/base/buddy.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/counter.h"

#define FREE_BIT 0x80u
#define NO_PAGE UINT32_MAX

struct buddy_link { /* of a free block, by its first page */
    uint32_t prev, next;
};

static size_t pages_of(const struct buddy *b)
{
    return b->size_bytes >> BUDDY_MIN_SHIFT;
}

static uint32_t page_of(const struct buddy *b, const void *block)
{
    return (uint32_t)((size_t)((const char *)block - b->base) >> BUDDY_MIN_SHIFT);
}

static unsigned order_for(size_t len_bytes)
{
    size_t pages = (MAX(len_bytes, (size_t)1) + BLOCK_BYTES - 1) >> BUDDY_MIN_SHIFT;
    return pages <= 1 ? 0 : 64u - (unsigned)__builtin_clzl(pages - 1);
}

size_t buddy_round(size_t len_bytes)
{
    return (size_t)BLOCK_BYTES << order_for(len_bytes);
}

/* ---- lists of free blocks ---- */

static void free_push(struct buddy *b, uint32_t page, unsigned order)
{
    uint32_t next = b->free_heads[order];
    b->order[page] = (uint8_t)((order + 1) | FREE_BIT);
    b->links[page] = (struct buddy_link){NO_PAGE, next};
    if (next != NO_PAGE)
        b->links[next].prev = page;
    b->free_heads[order] = page;
}

static void free_remove(struct buddy *b, uint32_t page, unsigned order)
{
    struct buddy_link link = b->links[page];
    if (link.prev != NO_PAGE)
        b->links[link.prev].next = link.next;
    else
        b->free_heads[order] = link.next;
    if (link.next != NO_PAGE)
        b->links[link.next].prev = link.prev;
    b->order[page] = 0;
}

/* ---- life ---- */

int buddy_init(struct buddy *b, void *base, size_t size_bytes)
{
    ASSERT((uintptr_t)base % BLOCK_BYTES == 0);
    ASSERT(size_bytes % BLOCK_BYTES == 0);
    ASSERT(size_bytes >> BUDDY_MIN_SHIFT < NO_PAGE);
    *b = (struct buddy){.base = base, .size_bytes = size_bytes, .free_bytes = size_bytes};
    size_t pages = pages_of(b);
    b->order = calloc(MAX(pages, (size_t)1), sizeof(*b->order));
    b->links = calloc(MAX(pages, (size_t)1), sizeof(*b->links));
    if (b->order == NULL || b->links == NULL) {
        buddy_fini(b);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < BUDDY_ORDERS; i++)
        b->free_heads[i] = NO_PAGE;
    for (size_t page = 0; page < pages;) { /* largest aligned blocks that fit */
        unsigned order = page == 0 ? BUDDY_ORDERS - 1 : (unsigned)__builtin_ctzl(page);
        while (page + ((size_t)1 << order) > pages)
            order--;
        free_push(b, (uint32_t)page, order);
        page += (size_t)1 << order;
    }
    return 0;
}

void buddy_fini(struct buddy *b)
{
    free(b->order);
    free(b->links);
    b->order = NULL;
    b->links = NULL;
}

/* ---- blocks ---- */

void *buddy_alloc(struct buddy *b, size_t len_bytes)
{
    unsigned want = order_for(len_bytes), order = want;
    while (order < BUDDY_ORDERS && b->free_heads[order] == NO_PAGE)
        order++;
    if (order >= BUDDY_ORDERS)
        return NULL;
    uint32_t page = b->free_heads[order];
    free_remove(b, page, order);
    while (order > want) {
        order--;
        free_push(b, page + (UINT32_C(1) << order), order);
    }
    b->order[page] = (uint8_t)(want + 1);
    counter_set(&b->free_bytes, b->free_bytes - ((size_t)BLOCK_BYTES << want));
    size_t at = (size_t)page << BUDDY_MIN_SHIFT;
    b->used_end_bytes = MAX(b->used_end_bytes, at + ((size_t)BLOCK_BYTES << want));
    return b->base + at;
}

void buddy_free(struct buddy *b, void *block)
{
    size_t pages = pages_of(b);
    uint32_t page = page_of(b, block);
    ASSERT(page < pages);
    ASSERT(b->order[page] != 0 && (b->order[page] & FREE_BIT) == 0);
    unsigned order = b->order[page] - 1u;
    counter_add(&b->free_bytes, (size_t)BLOCK_BYTES << order);
    b->order[page] = 0;
    for (; order + 1 < BUDDY_ORDERS; order++) {
        uint32_t mate = page ^ (UINT32_C(1) << order);
        if (mate >= pages || b->order[mate] != (uint8_t)((order + 1) | FREE_BIT))
            break;
        free_remove(b, mate, order);
        page = MIN(page, mate);
    }
    free_push(b, page, order);
}

void buddy_trim(struct buddy *b, void *run, size_t run_bytes, size_t keep_bytes)
{
    size_t page = page_of(b, run);
    size_t end = page + (run_bytes >> BUDDY_MIN_SHIFT);
    size_t keep = page + ((keep_bytes + BLOCK_BYTES - 1) >> BUDDY_MIN_SHIFT);
    while (page < end) {
        ASSERT(b->order[page] != 0 && (b->order[page] & FREE_BIT) == 0);
        unsigned order = b->order[page] - 1u;
        size_t next = page + ((size_t)1 << order);
        ASSERT(next <= end);
        if (page < keep && next > keep) { /* two halves, then look again */
            b->order[page] = (uint8_t)order;
            b->order[page + ((size_t)1 << (order - 1))] = (uint8_t)order;
            continue;
        }
        if (page >= keep)
            buddy_free(b, b->base + (page << BUDDY_MIN_SHIFT));
        page = next;
    }
}

void buddy_free_run(struct buddy *b, void *run, size_t run_bytes)
{
    buddy_trim(b, run, run_bytes, 0);
}
