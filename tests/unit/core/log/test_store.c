/* The log store on the in-memory environment: append, read, roll, seal, restart, and a power cut
 * at every single I/O of a scenario. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

static struct log_fixture f;

static void open_or_fail(void)
{
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "open: %d %s", rc, f.why);
}

static void verify_or_fail(const char *when, uint64_t n)
{
    bool ok = fixture_verify_all(&f);
    cr_assert(ok, "%s %llu: %s", when, (unsigned long long)n, f.why);
}

Test(store, appends_are_acknowledged_and_read_back)
{
    fixture_init(&f, 1, 3, 32u << 20, 1u << 20);
    open_or_fail();
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(fixture_append(&f, i % 3, 100, 1 + i % 5), 0);
        if (i % 7 == 0)
            fixture_turn(&f);
    }
    fixture_settle(&f);
    cr_assert_eq(f.acked, 300);
    verify_or_fail("live", 0);
    cr_assert_eq(fixture_close(&f), 0);
    open_or_fail();
    verify_or_fail("after a clean stop", 0);
    fixture_fini(&f);
}

Test(store, nothing_unstable_is_visible)
{
    fixture_init(&f, 2, 1, 32u << 20, 1u << 20);
    open_or_fail();
    cr_assert_eq(fixture_append(&f, 0, 1000, 1), 0);
    struct plog *p = fixture_plog(&f, 0);
    cr_assert_eq(plog_end_offset(p), 1);
    cr_assert_eq(plog_high_watermark(p), 0);
    struct plog_read r = {.offset = 0, .max_bytes = 1000000, .at_least_one = true};
    cr_assert_eq(plog_read(p, &r, NULL), 1);
    cr_assert_eq(r.len_bytes, 0);
    plog_read_release(&r);
    fixture_settle(&f);
    cr_assert_eq(plog_high_watermark(p), 1);
    fixture_fini(&f);
}

Test(store, segments_roll_seal_and_are_read_from_disk)
{
    fixture_init(&f, 3, 2, 16u << 20, 1u << 20);
    f.topic.config.segment_bytes = 300000;
    open_or_fail();
    for (int i = 0; i < 400; i++) {
        int rc;
        while ((rc = fixture_append(&f, i % 2, 20000, 1)) == -11)
            fixture_turn(&f);
        cr_assert_eq(rc, 0);
        fixture_turn(&f);
    }
    fixture_settle(&f);
    verify_or_fail("live", 0);
    cr_assert(mem_world_exists(f.world, "/data/t-0/00000000000000000000.index"));
    cr_assert_eq(fixture_close(&f), 0);
    open_or_fail();
    verify_or_fail("restarted", 0);
    cr_assert_gt(log_store_counters(f.store)->reads_disk, 0);
    fixture_fini(&f);
}

Test(store, memory_smaller_than_what_is_written)
{
    fixture_init(&f, 4, 8, 16u << 20, 256u << 10);
    open_or_fail();
    uint64_t waits = 0;
    for (int i = 0; i < 1500; i++) {
        int rc;
        while ((rc = fixture_append(&f, (int32_t)rng_below(&f.rng, 8),
                                    (uint32_t)(64 + rng_below(&f.rng, 60000)), 1)) == -11) {
            waits++;
            fixture_turn(&f);
        }
        cr_assert_eq(rc, 0);
    }
    fixture_settle(&f);
    cr_assert_gt(waits, 0, "the test did not reach back-pressure");
    cr_assert_gt(log_store_counters(f.store)->run_bytes, 0);
    cr_assert_gt(log_store_counters(f.store)->destage_bytes, 0);
    verify_or_fail("live", 0);
    fixture_fini(&f);
}

static uint64_t bytes_of_segment_files(void)
{
    char path[256];
    uint64_t bytes = 0, size;
    for (uint64_t i = 0; mem_world_file_nth(f.world, i, path, sizeof(path), &size); i++)
        if (strstr(path, ".log") != NULL)
            bytes += size;
    return bytes;
}

/* Each of them fills its files so fast that the next is to be of 4 MiB: a disk for all that is
 * written must not be full of what is reserved. */
Test(store, many_partitions_reserve_a_part_of_the_free_space)
{
    const uint64_t capacity = 96u << 20;
    fixture_init(&f, 12, 64, 32u << 20, 256u << 10);
    mem_world_set_capacity(f.world, capacity);
    open_or_fail();
    uint64_t written = 0;
    for (int i = 0; i < 64 * 20; i++) {
        int rc;
        while ((rc = fixture_append(&f, i % 64, 30000, 1)) == -11)
            fixture_turn(&f);
        cr_assert_eq(rc, 0, "append %d: %d", i, rc);
        written += 30000;
    }
    fixture_settle(&f);
    cr_assert_eq(f.failed, 0);
    cr_assert_gt(written, 64 * (512u << 10), "no partition was in its third file");
    cr_assert_lt(bytes_of_segment_files(), written + capacity / 2);
    verify_or_fail("live", 0);
    fixture_fini(&f);
}

/* A fixed mix: small and large batches, several partitions, rolls, a clean restart in the middle.
 */
static void scenario(void)
{
    for (int i = 0; i < 300 && !mem_world_crashed(f.world); i++) {
        int32_t partition = (int32_t)rng_below(&f.rng, 3);
        uint64_t kind = rng_below(&f.rng, 10);
        uint32_t size = kind < 6   ? (uint32_t)rng_below(&f.rng, 700)
                        : kind < 9 ? (uint32_t)rng_below(&f.rng, 30000)
                                   : (uint32_t)rng_below(&f.rng, 200000);
        fixture_append(&f, partition, size, 1 + (int32_t)rng_below(&f.rng, 3));
        if (rng_below(&f.rng, 2) == 0)
            fixture_turn(&f);
    }
    fixture_settle(&f);
}

static uint64_t crash_sweep(uint64_t seed, uint64_t step)
{
    uint64_t n, recovered = 0;
    for (n = 1;; n += step) {
        fixture_init(&f, seed + n, 3, 16u << 20, 64u << 10);
        f.topic.config.segment_bytes = 400000;
        open_or_fail();
        mem_world_crash_at_io(f.world, n);
        scenario();
        bool crashed = mem_world_crashed(f.world);
        uint64_t acked = f.acked;
        fixture_crash(&f);
        open_or_fail();
        verify_or_fail("after the cut at I/O", n);
        recovered += acked;
        scenario();
        fixture_crash(&f);
        open_or_fail();
        verify_or_fail("after a second cut, first at I/O", n);
        cr_assert_eq(fixture_close(&f), 0);
        open_or_fail();
        verify_or_fail("after a clean stop, cut at I/O", n);
        fixture_fini(&f);
        if (!crashed)
            break;
    }
    cr_assert_gt(recovered, 0, "no run acknowledged anything");
    return n;
}

Test(store, power_cut_at_every_io, .timeout = 300)
{
    logger_level = LOG_OFF; /* fenced partitions are expected here */
    uint64_t ios = crash_sweep(1000, 1);
    cr_assert_gt(ios, 150, "the scenario has too few I/Os: %llu", (unsigned long long)ios);
}

Test(store, power_cut_inside_recovery, .timeout = 300)
{
    logger_level = LOG_OFF; /* fenced partitions are expected here */
    for (uint64_t n = 1;; n++) {
        fixture_init(&f, 77, 3, 16u << 20, 64u << 10);
        open_or_fail();
        scenario();
        fixture_crash(&f);
        mem_world_crash_at_io(f.world, n);
        int rc = fixture_open(&f);
        bool crashed = mem_world_crashed(f.world);
        if (rc == 0)
            fixture_crash(&f);
        else
            mem_world_crash(f.world);
        mem_world_crash_at_io(f.world, 0);
        open_or_fail();
        verify_or_fail("after a cut inside recovery at I/O", n);
        fixture_fini(&f);
        if (!crashed)
            break;
        cr_assert_lt(n, 500);
    }
}

/* Many worlds, each with its own mix of sizes, memory, thresholds and latencies, and several power
 * cuts in a row on the same disk. */
static void soak_one(uint64_t seed)
{
    struct rng draw;
    rng_seed(&draw, seed);
    int32_t partitions = 1 + (int32_t)rng_below(&draw, 12);
    uint64_t direct_min = 4096u << rng_below(&draw, 9);
    fixture_init(&f, seed, partitions, (8u << 20) << rng_below(&draw, 2), direct_min);
    f.topic.config.segment_bytes = 100000 << rng_below(&draw, 6);
    f.topic.config.index_interval_bytes = 64 << rng_below(&draw, 8);
    uint64_t size_max = 50u << rng_below(&draw, 11);
    mem_world_set_latency(f.world, 1000 + rng_below(&draw, 300000), 1000 + rng_below(&draw, 500000),
                          1000 + rng_below(&draw, 100000));
    open_or_fail();
    for (unsigned round = 0; round < 5; round++) {
        mem_world_crash_at_io(f.world, 1 + rng_below(&draw, 400));
        unsigned appends = (unsigned)rng_below(&draw, 500);
        for (unsigned i = 0; i < appends && !mem_world_crashed(f.world); i++) {
            int32_t partition = (int32_t)rng_below(&draw, (uint64_t)partitions);
            fixture_append(&f, partition, (uint32_t)rng_below(&draw, size_max),
                           1 + (int32_t)rng_below(&draw, 4));
            if (rng_below(&draw, 3) == 0)
                fixture_turn(&f);
        }
        if (rng_below(&draw, 4) == 0 && !mem_world_crashed(f.world)) {
            fixture_settle(&f);
            if (!mem_world_crashed(f.world) && fixture_close(&f) == 0) {
                mem_world_crash_at_io(f.world, 0);
                open_or_fail();
                verify_or_fail("after a clean stop, seed", seed);
                continue;
            }
            if (f.env == NULL) /* the cut came inside the clean stop */
                mem_world_crash(f.world);
        }
        if (f.env != NULL)
            fixture_crash(&f);
        mem_world_crash_at_io(f.world, 0);
        open_or_fail();
        verify_or_fail("after a cut, seed", seed);
    }
    fixture_fini(&f);
}

Test(store, soak_of_many_seeds, .timeout = 300)
{
    logger_level = LOG_OFF;
    uint64_t acked = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        soak_one(seed * 7919);
        acked += f.acked;
    }
    cr_assert_gt(acked, 1000, "too little was acknowledged: %llu", (unsigned long long)acked);
}
