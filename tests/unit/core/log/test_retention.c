/* The start of the log: asked for, or moved by time and size. It is durable before anybody sees it,
 * never goes back, and files below it come back to the pool. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

enum { SEGMENT_BYTES = 400000 };

static struct log_fixture f;

static void configure(uint64_t seed, int32_t partitions)
{
    logger_level = LOG_OFF;
    fixture_init(&f, seed, partitions, 16u << 20, 64u << 10);
    f.topic.config.segment_bytes = SEGMENT_BYTES;
    f.topic.config.retention_ms = -1;
    f.config.retention_check_ms = 50;
}

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

static void append(int32_t partition, unsigned batches, uint32_t bytes)
{
    for (unsigned i = 0; i < batches; i++) {
        int rc;
        while ((rc = fixture_append(&f, partition, bytes, 2)) == -EAGAIN)
            fixture_turn(&f);
        cr_assert_eq(rc, 0);
        fixture_turn(&f);
    }
    fixture_settle(&f);
}

static void turns(unsigned ms)
{
    for (unsigned i = 0; i < ms; i++)
        fixture_turn(&f);
}

static unsigned logs_of(int32_t partition)
{
    char path[64];
    snprintf(path, sizeof(path), "/data/t-%d", partition);
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = path};
    cr_assert_eq(env_names_wait(f.env, &list, 1), 0);
    unsigned n = 0;
    const char *name = list.ret_data;
    for (size_t i = 0; i < list.ret_count; i++, name += strlen(name) + 1)
        n += strstr(name, ".log") != NULL;
    free(list.ret_data);
    return n;
}

static int read_at(int64_t offset)
{
    struct plog_read r = {.offset = offset, .max_bytes = 1, .at_least_one = true};
    int rc = plog_read(fixture_plog(&f, 0), &r, NULL);
    cr_assert_eq(rc, 1);
    plog_read_release(&r);
    return r.rc;
}

static void on_found(struct plog_lookup *l)
{
    l->plog = NULL;
}

static int64_t offset_at(int64_t timestamp_ms)
{
    struct plog_lookup l = {.timestamp_ms = timestamp_ms};
    if (plog_lookup_time(fixture_plog(&f, 0), &l, on_found) == 0)
        while (l.plog != NULL)
            fixture_turn(&f);
    cr_assert_eq(l.rc, 0);
    return l.offset;
}

Test(retention, records_are_deleted_for_good)
{
    configure(1, 1);
    open_or_fail();
    append(0, 40, 20000); /* 80 records, about four segments */
    struct plog *p = fixture_plog(&f, 0);
    cr_assert_eq(fixture_delete_records(&f, 0, 81), -ERANGE, "above the high watermark");
    cr_assert_eq(fixture_delete_records(&f, 0, -1), -ERANGE);
    cr_assert_eq(fixture_delete_records(&f, 0, 0), 1, "nothing to delete");
    cr_assert_eq(fixture_delete_records(&f, 0, 31), 0);
    cr_assert_eq(plog_start_offset(p), 31);
    cr_assert_eq(fixture_delete_records(&f, 0, 20), 1, "it never goes back");
    cr_assert_eq(plog_start_offset(p), 31);
    cr_assert_eq(read_at(30), -ERANGE);
    cr_assert_eq(read_at(31), 0);
    cr_assert_eq(offset_at(0), 31);
    turns(20);
    verify_or_fail("live", 0);
    cr_assert_not(mem_world_exists(f.world, "/data/t-0/00000000000000000000.log"));
    cr_assert_not(mem_world_exists(f.world, "/data/t-0/00000000000000000000.index"));
    fixture_crash(&f);
    open_or_fail();
    cr_assert_eq(plog_start_offset(fixture_plog(&f, 0)), 31, "after a power cut");
    verify_or_fail("after a power cut", 0);
    cr_assert_eq(fixture_delete_records(&f, 0, 55), 0);
    cr_assert_eq(fixture_close(&f), 0);
    open_or_fail();
    cr_assert_eq(plog_start_offset(fixture_plog(&f, 0)), 55, "after a clean stop");
    verify_or_fail("after a clean stop", 0);
    fixture_fini(&f);
}

Test(retention, all_records_are_deleted_and_offsets_go_on)
{
    configure(2, 1);
    open_or_fail();
    append(0, 30, 20000);
    cr_assert_eq(fixture_delete_records(&f, 0, 60), 0);
    cr_assert_eq(offset_at(PLOG_TIME_MAX), -1);
    turns(20);
    cr_assert_leq(logs_of(0), 1, "only the active segment stays");
    for (unsigned round = 0; round < 2; round++) {
        fixture_crash(&f);
        open_or_fail();
        struct plog *p = fixture_plog(&f, 0);
        cr_assert_eq(plog_start_offset(p), 60);
        cr_assert_eq(plog_end_offset(p), 60);
    }
    append(0, 3, 500);
    cr_assert_eq(plog_end_offset(fixture_plog(&f, 0)), 66);
    verify_or_fail("behind what was deleted", 0);
    cr_assert_eq(fixture_close(&f), 0);
    open_or_fail();
    verify_or_fail("after a clean stop", 0);
    fixture_fini(&f);
}

/* Whoever looks for the record with the largest timestamp finds it among those that are left. */
Test(retention, the_largest_timestamp_is_of_a_record_that_is_left)
{
    configure(3, 1);
    open_or_fail();
    append(0, 1, 100);
    turns(10);
    append(0, 3, 100);
    cr_assert_gt(offset_at(PLOG_TIME_MAX), 1);
    cr_assert_eq(fixture_delete_records(&f, 0, 7), 0);
    cr_assert_eq(offset_at(PLOG_TIME_MAX), 7);
    cr_assert_eq(fixture_delete_records(&f, 0, 8), 0);
    cr_assert_eq(offset_at(PLOG_TIME_MAX), -1);
    fixture_fini(&f);
}

Test(retention, by_size_in_balance)
{
    enum { KEPT = 3 * SEGMENT_BYTES };
    configure(4, 2);
    f.topic.config.retention_bytes = KEPT;
    open_or_fail();
    uint64_t most = 0;
    for (unsigned i = 0; i < 40; i++) {
        append(0, 25, 19000); /* about two segments each time: 26 times what is kept */
        turns(120);
        struct plog *p = fixture_plog(&f, 0);
        most = MAX(most, plog_size_bytes(p));
        cr_assert_lt(plog_size_bytes(p), KEPT + 3 * SEGMENT_BYTES);
        cr_assert_gt(plog_size_bytes(p), i < 3 ? 0 : KEPT, "no more goes than has to");
        cr_assert_leq(logs_of(0), 8);
    }
    const struct log_counters *c = log_store_counters(f.store);
    cr_assert_gt(plog_start_offset(fixture_plog(&f, 0)), 1000);
    cr_assert_gt(c->segments_trimmed, 60);
    cr_assert_gt(c->pool_taken, 50, "files come back: %llu", (unsigned long long)c->pool_taken);
    verify_or_fail("live", most);
    fixture_crash(&f);
    open_or_fail();
    verify_or_fail("after a cut", 0);
    cr_assert_eq(fixture_close(&f), 0);
    open_or_fail();
    verify_or_fail("after a clean stop", 0);
    turns(200);
    cr_assert_lt(plog_size_bytes(fixture_plog(&f, 0)), KEPT + 2 * SEGMENT_BYTES);
    fixture_fini(&f);
}

Test(retention, by_time_to_the_last_segment)
{
    configure(5, 1);
    f.topic.config.retention_ms = 2000;
    open_or_fail();
    append(0, 40, 20000);
    turns(100);
    cr_assert_eq(plog_start_offset(fixture_plog(&f, 0)), 0, "young enough");
    turns(1000);
    append(0, 5, 20000);
    turns(1500);
    int64_t start = plog_start_offset(fixture_plog(&f, 0));
    cr_assert_gt(start, 0);
    cr_assert_lt(start, 81, "what came later stays, with all of its segment");
    verify_or_fail("some is too old", 0);
    fixture_crash(&f);
    open_or_fail();
    verify_or_fail("after a cut", 0);
    turns(3000);
    cr_assert_eq(plog_start_offset(fixture_plog(&f, 0)), 90, "all is too old");
    cr_assert_eq(plog_size_bytes(fixture_plog(&f, 0)), 0);
    cr_assert_eq(logs_of(0), 0);
    append(0, 2, 100);
    cr_assert_eq(plog_end_offset(fixture_plog(&f, 0)), 94);
    verify_or_fail("it goes on", 0);
    fixture_crash(&f);
    open_or_fail();
    verify_or_fail("after another cut", 0);
    cr_assert_eq(fixture_close(&f), 0);
    open_or_fail();
    turns(3000);
    cr_assert_eq(plog_start_offset(fixture_plog(&f, 0)), 94, "known again after a clean stop");
    fixture_fini(&f);
}

/* Neither retention nor its forgetting touches what only compaction may. */
Test(retention, compacted_topics_and_those_without_policy_keep_all)
{
    configure(6, 1);
    f.topic.config.retention_ms = 10;
    f.topic.config.retention_bytes = 1;
    f.topic.config.cleanup_policy = TOPIC_CLEANUP_COMPACT;
    open_or_fail();
    append(0, 40, 20000);
    turns(500);
    cr_assert_eq(plog_start_offset(fixture_plog(&f, 0)), 0);
    f.topic.config.cleanup_policy = 0;
    plog_configure(fixture_plog(&f, 0), &f.topic);
    turns(500);
    cr_assert_eq(plog_start_offset(fixture_plog(&f, 0)), 0);
    f.topic.config.cleanup_policy = TOPIC_CLEANUP_COMPACT | TOPIC_CLEANUP_DELETE;
    plog_configure(fixture_plog(&f, 0), &f.topic);
    turns(500);
    cr_assert_eq(plog_start_offset(fixture_plog(&f, 0)), 80);
    fixture_fini(&f);
}

static void on_read(struct plog_read *r)
{
    r->plog = NULL;
}

static void read_all(struct plog_read *r)
{
    if (plog_read(fixture_plog(&f, 0), r, on_read) == 0)
        while (r->plog != NULL)
            fixture_turn(&f);
    cr_assert_eq(r->rc, 0);
    cr_assert_gt(r->len_bytes, 0);
}

/* What was read before its segment went stays what it was; a read under way ends well; and a file
 * that was spliced never comes to the pool. */
Test(retention, what_is_read_is_not_reused)
{
    configure(7, 1);
    f.config.splice_verify = LOG_VERIFY_NEVER;
    f.config.retention_check_ms = 0;
    cr_assert_eq(fixture_open_cold(&f, 1, 60, 38000), 0);
    struct plog_read spliced = {.max_bytes = 100000, .splice_min_bytes = 4096}, lent, late;
    while (spliced.extent.file == NULL) { /* the file is opened so in the background */
        plog_read_release(&spliced);
        read_all(&spliced);
        fixture_turn(&f);
    }
    lent = late = (struct plog_read){.offset = 12, .max_bytes = 100000};
    read_all(&lent);
    static uint8_t before[200000], after[200000];
    memcpy(before, lent.iov[0].iov_base, lent.iov[0].iov_len);
    cr_assert(fixture_splice(&f, &spliced.extent, before + 100000));
    late.offset = 25;
    cr_assert_eq(plog_read(fixture_plog(&f, 0), &late, on_read), 0);
    cr_assert_eq(fixture_delete_records(&f, 0, 60), 0);
    append(0, 60, 38000);
    while (late.plog != NULL)
        fixture_turn(&f);
    cr_assert(late.rc == 0 && late.len_bytes > 0, "the read had begun before");
    turns(20);
    const struct log_counters *c = log_store_counters(f.store);
    cr_assert_geq(c->segments_trimmed, 5);
    cr_assert_geq(c->pool_taken, 3);
    memcpy(after, lent.iov[0].iov_base, lent.iov[0].iov_len);
    cr_assert(fixture_splice(&f, &spliced.extent, after + 100000));
    cr_assert_arr_eq(before, after, sizeof(before));
    plog_read_release(&spliced);
    plog_read_release(&lent);
    plog_read_release(&late);
    verify_or_fail("behind", 0);
    fixture_fini(&f);
}

/* Deletes now and then, while retention works; a fixed mix of everything else. */
static void scenario(void)
{
    for (int i = 0; i < 250 && !mem_world_crashed(f.world); i++) {
        int32_t partition = (int32_t)rng_below(&f.rng, 2);
        uint64_t kind = rng_below(&f.rng, 10);
        uint32_t size = kind < 5   ? (uint32_t)rng_below(&f.rng, 700)
                        : kind < 9 ? (uint32_t)rng_below(&f.rng, 30000)
                                   : (uint32_t)rng_below(&f.rng, 200000);
        fixture_append(&f, partition, size, 1 + (int32_t)rng_below(&f.rng, 3));
        if (rng_below(&f.rng, 2) == 0)
            fixture_turn(&f);
        if (rng_below(&f.rng, 50) == 0 && !mem_world_crashed(f.world)) {
            int64_t start = plog_start_offset(fixture_plog(&f, partition)),
                    end = plog_high_watermark(fixture_plog(&f, partition));
            fixture_delete_records(&f, partition,
                                   start + (int64_t)rng_below(&f.rng, (uint64_t)(end - start) + 1));
        }
    }
    fixture_settle(&f);
}

static void power_cuts(uint64_t seed, uint64_t step)
{
    uint64_t n, recovered = 0, trimmed = 0;
    for (n = 1;; n += step) {
        configure(seed + n, 2);
        f.topic.config.segment_bytes = 300000;
        f.topic.config.retention_bytes = n % 2 == 0 ? 500000 : -1;
        f.config.retention_check_ms = 5;
        open_or_fail();
        mem_world_crash_at_io(f.world, n);
        scenario();
        bool crashed = mem_world_crashed(f.world);
        recovered += f.acked;
        trimmed += log_store_counters(f.store)->segments_trimmed;
        fixture_crash(&f);
        open_or_fail();
        verify_or_fail("after the cut at I/O", n);
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
    cr_assert_gt(trimmed, n / 2 / step, "too little was trimmed");
}

Test(retention, power_cut_at_every_io, .timeout = 300)
{
    power_cuts(3000, 1);
}
