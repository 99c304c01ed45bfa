#include "core/base/buddy.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define FREE_BIT 0x80u

static size_t page_of(const struct buddy *b, const void *block)
{
    return (size_t)((const char *)block - b->base) >> BUDDY_MIN_SHIFT;
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

static void block_release(struct buddy *b, size_t page, unsigned order)
{
    struct list_node *node = (void *)(b->base + (page << BUDDY_MIN_SHIFT));
    b->order[page] = (uint8_t)((order + 1) | FREE_BIT);
    list_push_head(&b->free_lists[order], node);
}

int buddy_init(struct buddy *b, void *base, size_t size_bytes)
{
    ASSERT((uintptr_t)base % BLOCK_BYTES == 0);
    ASSERT(size_bytes % BLOCK_BYTES == 0);
    size_t pages = size_bytes >> BUDDY_MIN_SHIFT;
    *b = (struct buddy){.base = base, .size_bytes = size_bytes, .free_bytes = size_bytes};
    b->order = calloc(MAX(pages, (size_t)1), 1);
    if (b->order == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < BUDDY_ORDERS; i++)
        list_init(&b->free_lists[i]);
    for (size_t page = 0; page < pages;) { /* largest aligned blocks that fit */
        unsigned order = page == 0 ? BUDDY_ORDERS - 1 : (unsigned)__builtin_ctzl(page);
        while (page + ((size_t)1 << order) > pages)
            order--;
        block_release(b, page, order);
        page += (size_t)1 << order;
    }
    return 0;
}

void buddy_fini(struct buddy *b)
{
    free(b->order);
    b->order = NULL;
}

void *buddy_alloc(struct buddy *b, size_t len_bytes)
{
    unsigned want = order_for(len_bytes), order = want;
    while (order < BUDDY_ORDERS && list_empty(&b->free_lists[order]))
        order++;
    if (order >= BUDDY_ORDERS)
        return NULL;
    struct list_node *node = list_pop_head(&b->free_lists[order]);
    size_t page = page_of(b, node);
    while (order > want) {
        order--;
        block_release(b, page + ((size_t)1 << order), order);
    }
    b->order[page] = (uint8_t)(want + 1);
    b->free_bytes -= (size_t)BLOCK_BYTES << want;
    return node;
}

void buddy_free(struct buddy *b, void *block)
{
    size_t pages = b->size_bytes >> BUDDY_MIN_SHIFT, page = page_of(b, block);
    ASSERT(page < pages);
    ASSERT(b->order[page] != 0 && (b->order[page] & FREE_BIT) == 0);
    unsigned order = b->order[page] - 1u;
    b->free_bytes += (size_t)BLOCK_BYTES << order;
    for (; order + 1 < BUDDY_ORDERS; order++) {
        size_t mate = page ^ ((size_t)1 << order);
        if (mate >= pages || b->order[mate] != (uint8_t)((order + 1) | FREE_BIT))
            break;
        list_remove((struct list_node *)(void *)(b->base + (mate << BUDDY_MIN_SHIFT)));
        b->order[mate] = b->order[page] = 0;
        page = MIN(page, mate);
    }
    block_release(b, page, order);
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
