/* Direct runs of one partition, several under way: the device writes while it flushes, each
 * acknowledgement comes behind those before it, whatever is finished first; and what a power cut
 * or a failure leaves of them is a prefix. */
#include <criterion/criterion.h>
#include <errno.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

#define US UINT64_C(1000)
enum { DIRECT_MIN = 64 << 10, BATCH_BYTES = 70 << 10, PARTITIONS = 40, OUTSTANDING = 6 };

static struct log_fixture f;

static const struct log_counters *counters(void)
{
    return log_store_counters(f.store);
}

static void reopen(void)
{
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "%s", f.why);
}

static unsigned appended_n(void)
{
    return f.model[0].batches_n;
}

/* Of those of partition 0; that they are a prefix is checked. */
static unsigned acked_n(void)
{
    unsigned n = 0;
    const struct model_partition *m = &f.model[0];
    while (n < m->batches_n && m->batches[n].acked)
        n++;
    for (unsigned i = n; i < m->batches_n; i++)
        cr_assert_not(m->batches[i].acked, "batch %u was acknowledged before batch %u", i, n);
    return n;
}

static unsigned finished_n(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < appended_n(); i++)
        n += f.model[0].batches[i].finished;
    return n;
}

/* As a client with so many requests on their way, which come one by one. */
static void load(unsigned batches)
{
    unsigned end = appended_n() + batches;
    while (!mem_world_crashed(f.world)) {
        int rc = 0;
        if (appended_n() < end && appended_n() - finished_n() < OUTSTANDING)
            rc = fixture_append(&f, 0, BATCH_BYTES, 1);
        if ((rc < 0 && rc != -EAGAIN) || (appended_n() == end && finished_n() == end))
            return;
        fixture_turn(&f);
        acked_n();
    }
}

/* With a file for partition 0, and a device that takes its time. */
static void start(uint64_t seed)
{
    logger_level = LOG_OFF;
    fixture_init(&f, seed, PARTITIONS, 32u << 20, DIRECT_MIN);
    reopen();
    for (unsigned i = 0; i < 40; i++) /* the new journal's space is written: see journal_fill.c */
        fixture_turn(&f);
    load(160);
    cr_assert_gt(counters()->runs, 0u);
    mem_world_set_latency(f.world, 1000 * US, 1000 * US, 100 * US);
}

/* One more of partition 0, and what can be submitted is. */
static void append_one(void)
{
    cr_assert_eq(fixture_append(&f, 0, BATCH_BYTES, 1), 0);
    fixture_turn(&f);
}

static void check_all(void)
{
    cr_assert(fixture_verify_all(&f), "%s", f.why);
}

Test(run, the_next_are_written_while_one_is_flushed)
{
    start(1);
    mem_world_set_latency(f.world, 100 * US, 100000 * US, 100 * US);
    unsigned acked = acked_n();
    uint64_t runs = counters()->runs, flushes = f.env->counters.flushes;
    for (uint64_t under_way = 1; under_way <= 3; under_way++) {
        append_one();
        cr_assert_eq(counters()->runs - runs, under_way);
        cr_assert_eq(acked_n(), acked, "none of them is stable");
    }
    append_one();
    cr_assert_eq(counters()->runs - runs, 3u, "no more at a time");
    fixture_settle(&f);
    cr_assert_eq(acked_n(), acked + 4);
    cr_assert_eq(counters()->runs - runs, 4u);
    cr_assert_lt(f.env->counters.flushes - flushes, 4u, "two that wait share a flush");
    check_all();
    cr_assert_eq(fixture_close(&f), 0);
    reopen();
    check_all();
    fixture_fini(&f);
}

/* At any moment: what is behind a run that was not whole does not count, now or later. */
Test(run, a_power_cut_leaves_a_prefix, .timeout = 100)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        start(seed);
        mem_world_set_stalls(f.world, seed % 2 == 0 ? 6 : 0); /* the next ones are done before it */
        mem_world_crash_at_io(f.world, 2 * seed);
        load(100);
        mem_world_set_stalls(f.world, 0);
        fixture_crash(&f);
        reopen();
        check_all();
        mem_world_crash_at_io(f.world, 10 + seed % 7); /* over what never counted */
        load(20);
        fixture_crash(&f);
        reopen();
        check_all();
        load(5);
        check_all();
        fixture_fini(&f);
    }
}

/* The journal says by later writes which ones are durable. */
static void append_elsewhere(void)
{
    for (unsigned i = 0; i < 3; i++) {
        fixture_append(&f, 1, 1000, 1); /* refused, if it was the journal that failed */
        fixture_settle(&f);
    }
}

static void fail_each(enum mem_fault fault, uint64_t seeds, uint64_t stalls_one_in)
{
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        start(seed);
        mem_world_set_stalls(f.world, stalls_one_in); /* the next ones are written before it */
        mem_world_fail_at(f.world, fault, 1 + seed % 6);
        load(100);
        mem_world_set_stalls(f.world, 0);
        append_elsewhere();
        cr_assert_eq(mem_world_fault_hits(f.world, fault), 1u);
        unsigned acked = acked_n();
        cr_assert_lt(acked, appended_n(), "what failed is not acknowledged, nor what is behind it");
        mem_world_power_off(f.world);
        fixture_crash(&f);
        reopen();
        check_all();
        load(5);
        check_all();
        fixture_fini(&f);
    }
}

Test(run, behind_a_failed_write_nothing_counts)
{
    fail_each(MEM_FAULT_WRITE_EIO, 6, 0);
}

/* Nor before it what it has taken along. */
Test(run, behind_a_failed_flush_nothing_counts, .timeout = 60)
{
    fail_each(MEM_FAULT_FLUSH_EIO, 20, 0);
    fail_each(MEM_FAULT_FLUSH_EIO, 40, 3);
}

static void append_small(int32_t partition, unsigned batches)
{
    for (unsigned i = 0; i < batches; i++) {
        while (fixture_append(&f, partition, 40000, 1) == -EAGAIN)
            fixture_turn(&f);
        fixture_turn(&f);
    }
}

/* The cycle that gives back the journal's space waits for a run, and no longer when that has
 * failed: whenever the cycle has begun. */
Test(run, a_failed_one_keeps_no_space_of_the_journal, .timeout = 100)
{
    unsigned fenced = 0;
    for (unsigned used = 0; used < 40; used += 2) {
        start(used);
        append_small(1, used);
        append_small(0, 1);
        fixture_settle(&f);
        mem_world_fail_at(f.world, MEM_FAULT_WRITE_EIO, 1); /* that of the run, or of its record */
        for (int32_t i = 0; i < PARTITIONS; i++)
            cr_assert_eq(fixture_append(&f, i, i == 0 ? BATCH_BYTES : 40000, 1), 0);
        append_small(1, 200); /* twice what the journal holds */
        fixture_settle(&f);
        bool alone = counters()->failed == 0 && acked_n() < appended_n();
        for (unsigned i = 0; alone && i < f.model[1].batches_n; i++)
            cr_assert(f.model[1].batches[i].acked);
        fenced += alone;
        check_all();
        fixture_fini(&f);
    }
    cr_assert_gt(fenced, 2u);
}
