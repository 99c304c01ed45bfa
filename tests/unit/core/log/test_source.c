/* Sealed segments that are sent as they lie in their files: which are, that what arrives is what
 * was appended, and that it stays so when the partition goes. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

enum { BATCHES = 300, BATCH_BYTES = 50000, FETCH_BYTES = 400000 };

static struct log_fixture f;

/* Both partitions on disk, in sealed segments of 5 MB, and nothing of them in memory. */
static void setup(enum log_verify verify)
{
    logger_level = LOG_OFF;
    fixture_init(&f, 22, 2, 16u << 20, 1u << 20);
    f.topic.config.segment_bytes = 5000000;
    f.config.splice_verify = verify;
    cr_assert_eq(fixture_open_cold(&f, 1, BATCHES, BATCH_BYTES), 0, "%s", f.why);
}

static void setup_never(void)
{
    setup(LOG_VERIFY_NEVER);
}

static void setup_once(void)
{
    setup(LOG_VERIFY_ONCE);
}

static void setup_always(void)
{
    setup(LOG_VERIFY_ALWAYS);
}

static void teardown(void)
{
    fixture_fini(&f);
}

static uint64_t spliced(void)
{
    return f.env->counters.egress_bytes[ENV_EGRESS_SPLICE];
}

/* Reads all of partition 0 and compares; how much of it was spliced, in percent. */
static unsigned pass(void)
{
    uint64_t before = spliced(), size = plog_size_bytes(fixture_plog(&f, 0));
    cr_assert(fixture_verify(&f, 0), "%s", f.why);
    return (unsigned)((spliced() - before) * 100 / size);
}

Test(source, all_that_is_sealed_without_verification, .init = setup_never, .fini = teardown)
{
    unsigned first = pass(), second = pass();
    cr_assert_geq(first, 50, "%u %%", first);
    cr_assert_geq(second, 60, "%u %%", second);
}

Test(source, what_was_verified_once, .init = setup_once, .fini = teardown)
{
    unsigned first = pass(), second = pass();
    cr_assert_leq(first, 5, "%u %%", first);
    cr_assert_geq(second, 60, "%u %%", second);
}

Test(source, nothing_if_all_is_to_be_verified, .init = setup_always, .fini = teardown)
{
    cr_assert_eq(pass(), 0);
    cr_assert_eq(pass(), 0);
}

Test(source, what_the_scrub_has_verified, .timeout = 60, .fini = teardown)
{
    f = (struct log_fixture){0};
    setup(LOG_VERIFY_ONCE);
    cr_assert_eq(fixture_close(&f), 0);
    f.config.scrub_bytes_per_second = 1u << 30;
    f.config.scrub_interval_ms = 1000;
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    while (log_store_counters(f.store)->scrub_passes == 0)
        fixture_turn(&f);
    pass(); /* opens the files */
    cr_assert_geq(pass(), 60);
}

static void on_read(struct plog_read *r)
{
    r->plog = NULL;
}

static void read_at(struct plog_read *r, int64_t offset, uint32_t splice_min_bytes)
{
    *r = (struct plog_read){.offset = offset,
                            .max_bytes = FETCH_BYTES,
                            .splice_min_bytes = splice_min_bytes,
                            .at_least_one = true};
    if (plog_read(fixture_plog(&f, 0), r, on_read) == 1)
        return;
    while (r->plog != NULL)
        fixture_turn(&f);
    cr_assert_eq(r->rc, 0);
}

/* The first stretch of partition 0, once its file is open. */
static void stretch_get(struct plog_read *r)
{
    for (int i = 0; i < 100; i++) {
        read_at(r, 0, 4096);
        if (r->extent.file != NULL)
            return;
        plog_read_release(r);
        fixture_turn(&f);
    }
    cr_assert_fail("nothing is spliced");
}

/* Whole batches, those that were appended first. */
static bool is_begin(const uint8_t *data, size_t len)
{
    const struct model_batch *b = f.model[0].batches;
    size_t pos = 0;
    for (; pos < len; pos += b->len_bytes, b++)
        if (pos + b->len_bytes > len || crc32c(data + pos, b->len_bytes) != b->crc)
            return false;
    return pos == len;
}

static void on_removed(void *arg, int rc)
{
    *(bool *)arg = rc == 0;
}

Test(source, a_stretch_outlives_its_partition, .init = setup_never, .fini = teardown)
{
    struct plog_read r;
    bool removed = false;
    static uint8_t data[FETCH_BYTES];
    stretch_get(&r);
    cr_assert_leq(r.len_bytes, FETCH_BYTES);
    log_store_remove(f.store, fixture_plog(&f, 0), on_removed, &removed);
    while (!removed)
        fixture_turn(&f);
    for (int i = 0; i < BATCHES; i++) { /* takes what the pool has */
        while (fixture_append(&f, 1, BATCH_BYTES, 1) != 0)
            fixture_turn(&f);
        fixture_turn(&f);
    }
    fixture_settle(&f);
    cr_assert(fixture_splice(&f, &r.extent, data));
    cr_assert(is_begin(data, r.len_bytes));
    plog_read_release(&r);
}

Test(source, small_reads_and_those_that_must_be_looked_at_are_not_spliced, .init = setup_never,
     .fini = teardown)
{
    struct plog_read r;
    stretch_get(&r);
    plog_read_release(&r);
    read_at(&r, 0, 0);
    cr_assert_null(r.extent.file);
    plog_read_release(&r);
    read_at(&r, 0, FETCH_BYTES + 1);
    cr_assert_null(r.extent.file);
    plog_read_release(&r);
}

/* In the middle of what lies between two entries of the index nothing is known to begin. */
Test(source, any_offset_is_found, .init = setup_never, .fini = teardown)
{
    struct plog_read r;
    stretch_get(&r);
    plog_read_release(&r);
    for (int64_t at = 0; at < BATCHES; at += 7) {
        static uint8_t data[FETCH_BYTES];
        struct batch_header h;
        read_at(&r, at, 4096);
        const uint8_t *from = r.iov_n > 0 ? r.iov[0].iov_base : data;
        if (r.extent.file != NULL)
            cr_assert(fixture_splice(&f, &r.extent, data));
        cr_assert_eq(batch_peek(from, BATCH_HEADER_BYTES, &h), 0);
        cr_assert(h.base_offset <= at && batch_last_offset(&h) >= at);
        plog_read_release(&r);
    }
}
