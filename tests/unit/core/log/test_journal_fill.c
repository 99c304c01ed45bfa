/* A new journal's space is written once, while nothing else is, and never over what counts. */
#include <criterion/criterion.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

enum { DIRECT_MIN = 1 << 20, NOTE_BYTES = 2 * BLOCK_BYTES };

static struct log_fixture f;

static void open_store(void)
{
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "%s", f.why);
}

static void start(uint64_t seed)
{
    logger_level = LOG_OFF;
    fixture_init(&f, seed, 2, 32u << 20, DIRECT_MIN);
    open_store();
}

/* What an environment that only idles has written. */
static uint64_t idle_bytes(void)
{
    uint64_t before = f.env->counters.write_bytes;
    for (unsigned i = 0; i < 100; i++)
        fixture_turn(&f);
    return f.env->counters.write_bytes - before;
}

Test(journal_fill, all_of_a_new_journal_is_written_once)
{
    start(1);
    cr_assert_eq(idle_bytes(), f.config.journal_bytes + NOTE_BYTES);
    cr_assert_eq(idle_bytes(), 0u);
    fixture_crash(&f);
    open_store();
    cr_assert_eq(idle_bytes(), 0u, "the superblocks say so");
    cr_assert_eq(fixture_close(&f), 0);
    open_store();
    cr_assert_eq(idle_bytes(), 0u);
    fixture_fini(&f);
}

Test(journal_fill, after_a_crash_it_begins_again)
{
    start(2);
    for (unsigned i = 0; i < 3; i++)
        fixture_turn(&f);
    cr_assert_eq(fixture_append(&f, 0, 900000, 1), 0);
    fixture_settle(&f);
    fixture_crash(&f);
    open_store();
    cr_assert_eq(idle_bytes(), f.config.journal_bytes + NOTE_BYTES, "also before the head");
    cr_assert(fixture_verify_all(&f), "%s", f.why);
    fixture_fini(&f);
}

/* Several laps, with pieces in flight that take long, and the power cut anywhere. */
Test(journal_fill, records_written_meanwhile_stay)
{
    uint64_t filled = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        start(100 + seed);
        mem_world_set_stalls(f.world, 5);
        unsigned appends = 5 + (unsigned)rng_below(&f.rng, 100);
        for (unsigned i = 0; i < appends; i++) {
            uint32_t bytes = (uint32_t)(100 + rng_below(&f.rng, 300000));
            fixture_append(&f, (int32_t)(i % 2), bytes, 1);
            if (rng_below(&f.rng, 3) == 0)
                fixture_turn(&f);
        }
        filled += f.env->counters.write_bytes;
        fixture_crash(&f);
        open_store();
        cr_assert(fixture_verify_all(&f), "seed %lu: %s", (unsigned long)seed, f.why);
        idle_bytes();
        cr_assert(fixture_verify_all(&f), "seed %lu: %s", (unsigned long)seed, f.why);
        fixture_crash(&f);
        open_store();
        cr_assert(fixture_verify_all(&f), "seed %lu: %s", (unsigned long)seed, f.why);
        fixture_fini(&f);
    }
    cr_assert_gt(filled, 0u);
}

Test(journal_fill, what_cannot_be_written_stops_nothing)
{
    start(3);
    mem_world_fail_at(f.world, MEM_FAULT_WRITE_EIO, 1);
    cr_assert_lt(idle_bytes(), f.config.journal_bytes);
    cr_assert_eq(fixture_append(&f, 0, 1000, 1), 0);
    fixture_settle(&f);
    cr_assert_eq(f.acked, 1u);
    fixture_fini(&f);
}
