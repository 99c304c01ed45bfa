/* Blocks that are cut to what is needed. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/base/buddy.h"
#include "core/base/rng.h"

#define PAGE 4096u
#define PAGES 256u
#define RUNS 64u

static void *region;
static struct buddy b;

static void setup(void)
{
    region = aligned_alloc(PAGE, PAGES * PAGE);
    cr_assert_eq(buddy_init(&b, region, PAGES * PAGE), 0);
}

static void teardown(void)
{
    cr_assert_eq(b.free_bytes, PAGES * PAGE);
    void *all = buddy_alloc(&b, PAGES * PAGE); /* everything has grown together again */
    cr_assert_eq(all, region);
    buddy_free(&b, all);
    buddy_fini(&b);
    free(region);
}

TestSuite(buddy_trim, .init = setup, .fini = teardown);

Test(buddy_trim, a_block_is_cut_to_what_is_kept)
{
    uint8_t *block = buddy_alloc(&b, 64 * PAGE);
    buddy_trim(&b, block, 64 * PAGE, 33 * PAGE - 1);
    cr_assert_eq(b.free_bytes, (PAGES - 33) * PAGE);
    void *behind = buddy_alloc(&b, 16 * PAGE); /* fits into what was given back */
    cr_assert_eq(behind, block + 48 * PAGE);
    buddy_trim(&b, block, 33 * PAGE, 5 * PAGE); /* once more */
    cr_assert_eq(b.free_bytes, (PAGES - 16 - 5) * PAGE);
    buddy_free(&b, behind);
    buddy_free_run(&b, block, 5 * PAGE);
}

struct run {
    uint8_t *at;
    size_t pages;
};

static void run_make(struct run *r, size_t pages, uint8_t mark)
{
    r->at = buddy_alloc(&b, pages * PAGE);
    if (r->at == NULL)
        return;
    buddy_trim(&b, r->at, buddy_round(pages * PAGE), pages * PAGE);
    r->pages = pages;
    for (size_t page = 0; page < pages; page++)
        r->at[page * PAGE] = mark;
}

static void run_cut(struct run *r, size_t keep, uint8_t mark)
{
    for (size_t page = 0; page < r->pages; page++) /* nobody else wrote there */
        cr_assert_eq(r->at[page * PAGE], mark);
    buddy_trim(&b, r->at, r->pages * PAGE, keep * PAGE);
    r->pages = keep;
    if (keep == 0)
        r->at = NULL;
}

Test(buddy_trim, runs_of_any_length)
{
    struct run runs[RUNS] = {{NULL, 0}};
    struct rng draw;
    rng_seed(&draw, 7);
    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = (unsigned)rng_below(&draw, RUNS);
        struct run *r = &runs[i];
        if (r->at == NULL)
            run_make(r, 1 + rng_below(&draw, 40), (uint8_t)i);
        else
            run_cut(r, rng_below(&draw, 2) == 0 ? 0 : rng_below(&draw, r->pages + 1), (uint8_t)i);
        size_t used = 0;
        for (unsigned k = 0; k < RUNS; k++)
            used += runs[k].at == NULL ? 0 : runs[k].pages;
        cr_assert_eq(b.free_bytes, (PAGES - used) * PAGE);
    }
    for (unsigned i = 0; i < RUNS; i++)
        if (runs[i].at != NULL)
            run_cut(&runs[i], 0, (uint8_t)i);
}
