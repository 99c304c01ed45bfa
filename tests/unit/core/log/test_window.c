/* What reads from disk cost the device, by the counters of the store: each piece of a segment is
 * read once, however many follow one another there, and before it is asked for. */
#include <criterion/criterion.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/log/internal.h"
#include "tests/lib/core_log_fixture.h"

enum { BATCHES = 300, BATCH_BYTES = 50000, FETCH_BYTES = 200000, MANY = 12 };

static struct log_fixture f;

/* All of partition 0 on disk, in sealed segments of 5 MB, and nothing of it in memory. */
static void setup_cold(void)
{
    logger_level = LOG_OFF;
    fixture_init(&f, 21, 2, 16u << 20, 1u << 20);
    f.topic.config.segment_bytes = 5000000;
    cr_assert_eq(fixture_open_cold(&f, 1, BATCHES, BATCH_BYTES), 0, "%s", f.why);
}

static void teardown(void)
{
    fixture_fini(&f);
}

static const struct log_counters *counters(void)
{
    return log_store_counters(f.store);
}

static void on_read(struct plog_read *r)
{
    r->plog = NULL; /* marks it done */
}

/* Twelve partitions of which so much was to be read ahead that it does not fit. */
static void setup_many(void)
{
    logger_level = LOG_OFF;
    fixture_init(&f, 22, MANY, 16u << 20, 1u << 20);
    f.topic.config.segment_bytes = 5000000;
    cr_assert_eq(fixture_open_cold(&f, MANY, BATCHES / 3, BATCH_BYTES), 0, "%s", f.why);
}

/* Turns until the read is done; how many turns it took. */
static unsigned read_of(struct plog_read *r, int32_t partition, int64_t offset)
{
    unsigned turns = 0;
    *r = (struct plog_read){.offset = offset, .max_bytes = FETCH_BYTES, .at_least_one = true};
    if (plog_read(fixture_plog(&f, partition), r, on_read) == 1)
        return 0;
    for (; r->plog != NULL; turns++)
        fixture_turn(&f);
    cr_assert_eq(r->rc, 0);
    cr_assert_gt(r->len_bytes, 0);
    return turns;
}

static unsigned read_at(struct plog_read *r, int64_t offset)
{
    return read_of(r, 0, offset);
}

static int64_t end_of(const struct plog_read *r)
{
    struct batch_header h = {0};
    int64_t end = r->offset;
    for (unsigned i = 0; i < r->iov_n; i++)
        for (size_t at = 0; at < r->iov[i].iov_len; at += h.len_bytes) {
            cr_assert_eq(batch_peek((uint8_t *)r->iov[i].iov_base + at, r->iov[i].iov_len - at, &h),
                         0);
            cr_assert_eq(h.base_offset, end);
            end = batch_last_offset(&h) + 1;
        }
    return end;
}

Test(window, readers_behind_one_another_share_what_is_read, .init = setup_cold, .fini = teardown)
{
    enum { READERS = 3 };
    int64_t at[READERS] = {0};
    struct plog *p = fixture_plog(&f, 0);
    uint64_t size = plog_size_bytes(p);
    while (at[0] < BATCHES)
        for (unsigned i = 0; i < READERS; i++) {
            struct plog_read r;
            read_at(&r, at[i]);
            at[i] = end_of(&r);
            plog_read_release(&r);
        }
    cr_assert_geq(counters()->disk_read_bytes + (1u << 20), size, "is all of it cold?");
    cr_assert_leq(counters()->disk_read_bytes, size + size / 10, "%llu of %llu bytes",
                  (unsigned long long)counters()->disk_read_bytes, (unsigned long long)size);
}

static uint64_t read_many_in_turn(unsigned partitions)
{
    uint64_t size = 0, before = counters()->disk_read_bytes;
    int64_t at[MANY] = {0};
    for (unsigned i = 0; i < partitions; i++)
        size += plog_size_bytes(fixture_plog(&f, (int32_t)i));
    for (unsigned i = 0; at[partitions - 1] < BATCHES / 3; i = (i + 1) % partitions) {
        struct plog_read r;
        if (at[i] == BATCHES / 3)
            continue;
        read_of(&r, (int32_t)i, at[i]);
        at[i] = end_of(&r);
        plog_read_release(&r);
    }
    return 100 * (counters()->disk_read_bytes - before) / size;
}

/* What is ahead of a reader waits for it while others read. */
Test(window, readers_of_many_partitions_read_each_once, .init = setup_many, .fini = teardown)
{
    for (unsigned partitions = 2; partitions <= MANY; partitions += 2) {
        uint64_t percent = read_many_in_turn(partitions);
        cr_expect_leq(percent, 115u, "%u partitions: %llu %% of their bytes were read", partitions,
                      (unsigned long long)percent);
    }
}

/* A reader that went away keeps nothing. */
Test(window, what_is_ahead_of_nobody_goes_in_time, .init = setup_many, .fini = teardown)
{
    struct plog_read r;
    for (int32_t i = 0; i < MANY; i++)
        for (int64_t at = 0; at < 8; at = end_of(&r), plog_read_release(&r))
            read_of(&r, i, at);
    for (int i = 0; i < 50; i++) /* what is being read ahead comes */
        fixture_turn(&f);
    cr_assert_lt(windows_free_bytes(f.store), f.read_memory.size_bytes * 3 / 4);
    mem_world_advance(f.world, 2000000000ull);
    fixture_turn(&f);
    cr_assert_eq(windows_free_bytes(f.store), f.read_memory.size_bytes);
}

Test(window, who_reads_on_finds_it_read, .init = setup_cold, .fini = teardown)
{
    unsigned waited = 0, reads = 0;
    for (int64_t at = 0; at < BATCHES; reads++) {
        struct plog_read r;
        waited += read_at(&r, at) > 0;
        at = end_of(&r);
        plog_read_release(&r);
        for (int i = 0; i < 20; i++) /* what the client does meanwhile */
            fixture_turn(&f);
    }
    cr_assert_leq(waited, 4u + BATCHES * BATCH_BYTES / 5000000, "%u of %u reads waited", waited,
                  reads);
}

Test(window, a_single_read_does_not_read_ahead, .init = setup_cold, .fini = teardown)
{
    struct plog_read r;
    read_at(&r, 100);
    plog_read_release(&r);
    cr_assert_leq(counters()->disk_read_bytes, FETCH_BYTES + 2u * BATCH_BYTES);
}

/* What slow readers hold is theirs; the cache behind it is small, and the scrub may have it all. */
Test(window, memory_comes_back, .init = setup_cold, .fini = teardown)
{
    static struct plog_read held[8];
    int64_t at = 0;
    for (unsigned i = 0; i < ARRAY_LEN(held); i++) {
        read_at(&held[i], at);
        at = end_of(&held[i]);
    }
    uint64_t in_use = f.read_memory.size_bytes - f.read_memory.free_bytes;
    cr_assert_gt(in_use, 0);
    for (unsigned i = 0; i < ARRAY_LEN(held); i++) {
        cr_assert_eq(
            batch_peek(held[i].iov[0].iov_base, held[i].iov[0].iov_len, &(struct batch_header){0}),
            0);
        plog_read_release(&held[i]);
    }
    cr_assert_leq(f.read_memory.size_bytes - f.read_memory.free_bytes, 13u << 20);
    cr_assert_eq(fixture_close(&f), 0);
    cr_assert_eq(f.read_memory.free_bytes, f.read_memory.size_bytes, "the store kept some");
    cr_assert_eq(fixture_open(&f), 0);
}
