/* Bytes of many partitions that nobody waits for: written once, to their segments, and recorded
 * when they are durable there; what was stable by then survives, and what somebody waits for does
 * not wait for them. */
#include <criterion/criterion.h>
#include <errno.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

#define MS UINT64_C(1000000)
enum { PARTITIONS = 24, BATCH_BYTES = 5000 };

static struct log_fixture f;

static void start(uint64_t seed)
{
    logger_level = LOG_OFF;
    fixture_init(&f, seed, PARTITIONS, 32u << 20, 256u << 10);
    f.config.ahead_min = PARTITIONS / 4;
    f.unawaited = true;
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "%s", f.why);
}

static const struct log_counters *counters(void)
{
    return log_store_counters(f.store);
}

static void turn_for(uint64_t ns)
{
    uint64_t from_ns = env_now_ns(f.env);
    while (env_now_ns(f.env) - from_ns < ns && !mem_world_crashed(f.world))
        fixture_turn(&f);
}

/* So many batches to each, 48 ms apart: far less than one takes to be due. */
static void load(unsigned rounds)
{
    for (unsigned i = 0; i < rounds * PARTITIONS && !mem_world_crashed(f.world); i++) {
        int rc = fixture_append(&f, (int32_t)(i % PARTITIONS), BATCH_BYTES, 1);
        cr_assert(rc >= 0 || rc == -EIO);
        turn_for(2 * MS);
    }
}

/* Files for all: the first bytes of a partition go by the journal. */
static void make_files(void)
{
    load(2);
    turn_for(1000 * MS);
    for (unsigned i = 0; i < 400 && counters()->checkpoints < 2; i++)
        load(1);
    cr_assert_geq(counters()->checkpoints, 2u);
    turn_for(1000 * MS);
}

/* What is stable now has to survive. */
static void expect_stable(void)
{
    for (int32_t i = 0; i < PARTITIONS; i++) {
        int64_t end = plog_high_watermark(fixture_plog(&f, i));
        for (unsigned k = 0; k < f.model[i].batches_n; k++) {
            struct model_batch *b = &f.model[i].batches[k];
            b->acked = b->base_offset + b->records <= end;
        }
    }
}

static void check_all(void)
{
    cr_assert(fixture_verify_all(&f), "%s", f.why);
}

static void reopen(void)
{
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "%s", f.why);
}

Test(ahead, bytes_that_nobody_waits_for_are_written_once)
{
    start(1);
    make_files();
    struct log_counters before = *counters();
    load(40);
    turn_for(1000 * MS);
    uint64_t bytes = counters()->append_bytes - before.append_bytes;
    cr_assert_lt(counters()->journal_bytes - before.journal_bytes, bytes / 4);
    cr_assert_gt(counters()->run_bytes - before.run_bytes, bytes / 4 * 3);
    for (int32_t i = 0; i < PARTITIONS; i++) {
        struct plog *p = fixture_plog(&f, i);
        cr_assert_eq(plog_high_watermark(p), plog_end_offset(p), "all of it is stable in the end");
    }
    check_all();
    expect_stable();
    cr_assert_eq(fixture_close(&f), 0);
    reopen();
    check_all();
    fixture_fini(&f);
}

Test(ahead, what_somebody_waits_for_does_not_wait)
{
    start(2);
    make_files();
    load(6);
    f.unawaited = false;
    mem_world_set_latency(f.world, 100000, 400000, 80000);
    uint64_t from_ns = env_now_ns(f.env);
    cr_assert_eq(fixture_append(&f, 3, BATCH_BYTES, 1), 0);
    fixture_settle(&f);
    cr_assert_lt(env_now_ns(f.env) - from_ns, 20 * MS);
    f.unawaited = true;
    load(6);
    check_all();
    fixture_fini(&f);
}

Test(ahead, what_was_stable_survives_a_power_cut, .timeout = 100)
{
    uint64_t runs = 0;
    for (uint64_t seed = 10; seed < 40; seed++) {
        start(seed);
        make_files();
        runs -= counters()->runs;
        mem_world_crash_at_io(f.world, 1 + (seed - 10) * 23);
        load(100);
        runs += counters()->runs;
        expect_stable();
        fixture_crash(&f);
        reopen();
        check_all();
        load(2); /* over what was written, but never counted */
        turn_for(1000 * MS);
        expect_stable();
        fixture_crash(&f);
        reopen();
        check_all();
        fixture_fini(&f);
    }
    cr_assert_gt(runs, 1000u);
}

Test(ahead, a_failed_write_or_flush_fences_and_loses_nothing_stable, .timeout = 60)
{
    uint64_t fenced = 0;
    for (uint64_t nth = 1; nth <= 16; nth++) {
        start(100 + nth);
        make_files();
        mem_world_fail_at(f.world, nth % 2 ? MEM_FAULT_FLUSH_EIO : MEM_FAULT_WRITE_EIO, nth * 2);
        load(80);
        fenced += counters()->partitions_fenced;
        expect_stable();
        fixture_crash(&f);
        reopen();
        check_all();
        fixture_fini(&f);
    }
    cr_assert_gt(fenced, 0u);
}
