/* Many small files: their writes and names become durable by syncs of the file system that they
 * share, and what a failed one says of each. */
#include <criterion/criterion.h>
#include <errno.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

enum { PARTITIONS = 32, BATCH_BYTES = 5000 };

static struct log_fixture f;

static void start(uint64_t seed, unsigned shared_sync_min)
{
    logger_level = LOG_OFF;
    fixture_init(&f, seed, PARTITIONS, 32u << 20, 1u << 20);
    f.config.shared_sync_min = shared_sync_min;
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "%s", f.why);
}

static const struct log_counters *counters(void)
{
    return log_store_counters(f.store);
}

static bool is_over(void)
{
    return counters()->checkpoints >= 3 || /* one is written at the start */
           counters()->partitions_fenced > 0 || counters()->failed != 0 ||
           mem_world_crashed(f.world); /* nothing may be left to fail: the journal is full */
}

/* Batch by batch to all partitions in turn: two cycles, if nothing fails before. */
static void load(void)
{
    for (unsigned i = 0; !is_over(); i++) {
        cr_assert_lt(i, 20000u, "the load has no end");
        int rc = fixture_append(&f, (int32_t)(i % PARTITIONS), BATCH_BYTES, 1);
        cr_assert(rc >= 0 || rc == -EIO);
        fixture_turn(&f);
    }
    fixture_settle(&f);
}

static uint64_t files_flushed(void)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(counters()->flush_us.counts); i++)
        n += counters()->flush_us.counts[i];
    return n;
}

static void check_all(void)
{
    cr_assert(fixture_verify_all(&f), "%s", f.why);
    fixture_fini(&f);
}

Test(sync, many_files_share_one)
{
    start(1, 8);
    load();
    cr_assert_geq(files_flushed(), 2u * PARTITIONS);
    cr_assert_gt(counters()->shared_syncs, 0u);
    cr_assert_lt(f.env->counters.flushes, files_flushed() / 2, "most files had one of their own");
    check_all();
}

Test(sync, none_is_shared_where_that_is_off)
{
    start(2, 0);
    load();
    cr_assert_eq(counters()->shared_syncs, 0u);
    cr_assert_geq(f.env->counters.flushes, files_flushed());
    check_all();
}

/* Files and names that were about to become durable together, when the power goes. */
Test(sync, what_was_acknowledged_survives, .timeout = 60)
{
    for (uint64_t seed = 10; seed < 30; seed++) {
        start(seed, 1);
        mem_world_crash_at_io(f.world, 200 + seed * 37);
        load();
        fixture_crash(&f);
        int rc = fixture_open(&f);
        cr_assert_eq(rc, 0, "seed %lu: %s", (unsigned long)seed, f.why);
        check_all();
    }
}

/* Returns how many partitions have noticed. */
static uint64_t fail_flush(uint64_t seed, uint64_t nth)
{
    start(seed, 4);
    mem_world_fail_at(f.world, MEM_FAULT_FLUSH_EIO, nth);
    load();
    uint64_t fenced = counters()->partitions_fenced;
    mem_world_power_off(f.world);
    fixture_crash(&f);
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "seed %lu, flush %lu: %s", (unsigned long)seed, (unsigned long)nth, f.why);
    check_all();
    return fenced;
}

/* The cache is lost: no partition whose bytes were in it may count them. */
Test(sync, a_failed_flush_is_told_to_all, .timeout = 60)
{
    uint64_t fenced = 0;
    for (uint64_t nth = 1; nth < 12; nth++)
        fenced += fail_flush(300 + nth, nth);
    cr_assert_gt(fenced, 4u);
}

/* Nor the one whose file was flushed for all who shared the sync: another flush of the file does
 * not say it again. */
Test(sync, it_is_told_to_whose_file_was_flushed, .timeout = 60)
{
    static const uint64_t seeds[] = {298, 408, 507, 540, 594, 661, 694, 781, 837, 969, 1090, 1167};
    for (unsigned i = 0; i < ARRAY_LEN(seeds); i++)
        for (uint64_t nth = 1; nth <= 2; nth++)
            cr_assert_gt(fail_flush(seeds[i], nth), 0u);
}
