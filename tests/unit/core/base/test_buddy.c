#include "core/base/buddy.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"

/* Address space that nobody may touch: a buddy hands it out all the same. */
static char *region_map(size_t bytes)
{
    char *base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(base, MAP_FAILED);
    return base;
}

/* Everything can be had again in one piece, as far as the size allows. */
static void expect_whole(struct buddy *b)
{
    size_t left = b->size_bytes;
    cr_assert_eq(b->free_bytes, left);
    while (left > 0) {
        size_t largest = (size_t)1 << (63 - __builtin_clzl(left));
        cr_assert_not_null(buddy_alloc(b, largest), "%zu of %zu", largest, left);
        left -= largest;
    }
    cr_assert_eq(b->free_bytes, 0u);
    cr_assert_null(buddy_alloc(b, 1));
}

struct held {
    size_t at, len;
};

/* Random blocks, freed in random order: aligned, inside, apart from each other. */
static void run(size_t size_bytes, uint64_t seed)
{
    enum { HELD_MAX = 200, STEPS = 20000 };
    struct held held[HELD_MAX];
    unsigned held_n = 0, refused = 0;
    struct buddy b;
    struct rng r;
    char *base = region_map(size_bytes);
    uint8_t *taken = calloc(size_bytes / BLOCK_BYTES, 1);
    rng_seed(&r, seed);
    cr_assert_eq(buddy_init(&b, base, size_bytes), 0);
    for (unsigned i = 0; i < STEPS; i++) {
        if (held_n == HELD_MAX || (held_n > 0 && rng_next(&r) % 5 < 2)) {
            unsigned which = (unsigned)(rng_next(&r) % held_n);
            buddy_free(&b, base + held[which].at);
            memset(taken + held[which].at / BLOCK_BYTES, 0, held[which].len / BLOCK_BYTES);
            held[which] = held[--held_n];
            continue;
        }
        size_t want = (size_t)1 + rng_next(&r) % ((size_t)1 << (rng_next(&r) % 24));
        char *p = buddy_alloc(&b, want);
        if (p == NULL) {
            refused++;
            continue;
        }
        struct held *h = &held[held_n++];
        *h = (struct held){(size_t)(p - base), buddy_round(want)};
        cr_assert_geq(h->len, want);
        cr_assert_eq(h->at % h->len, 0u);
        cr_assert_leq(h->at + h->len, size_bytes);
        cr_assert_null(memchr(taken + h->at / BLOCK_BYTES, 1, h->len / BLOCK_BYTES));
        memset(taken + h->at / BLOCK_BYTES, 1, h->len / BLOCK_BYTES);
    }
    cr_assert_gt(refused, 0u);
    while (held_n > 0)
        buddy_free(&b, base + held[--held_n].at);
    expect_whole(&b);
    buddy_fini(&b);
    free(taken);
    munmap(base, size_bytes);
}

Test(buddy, blocks_are_apart_and_come_together_again)
{
    run(16u << 20, 1);
    run((16u << 20) - BLOCK_BYTES, 2);
    run(3u << 20, 3);
}

/* What is needed at once is what is touched, however large the region is. */
Test(buddy, memory_that_is_not_needed_is_not_handed_out)
{
    enum { SIZE = 256u << 20, BLOCKS = 64, ROUNDS = 100 };
    struct buddy b;
    char *base = region_map(SIZE), *held[BLOCKS], *highest = base;
    cr_assert_eq(buddy_init(&b, base, SIZE), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < BLOCKS; i++) {
            held[i] = buddy_alloc(&b, 65536);
            highest = MAX(highest, held[i]);
        }
        for (unsigned i = 0; i < BLOCKS; i++)
            buddy_free(&b, held[(i + round) % BLOCKS]);
    }
    cr_assert_lt(highest - base, BLOCKS * 65536);
    cr_assert_eq(b.used_end_bytes, (size_t)(highest - base) + 65536);
    expect_whole(&b);
    buddy_fini(&b);
    munmap(base, SIZE);
}

Test(buddy, nothing_to_hand_out)
{
    struct buddy b;
    cr_assert_eq(buddy_init(&b, NULL, 0), 0);
    cr_assert_null(buddy_alloc(&b, 1));
    buddy_fini(&b);
}
