/* When new bytes are written: at once if somebody waits for them, else some milliseconds later. */
#include <criterion/criterion.h>

#include "core/base/logger.h"
#include "core/batch/builder.h"
#include "tests/lib/core_log_fixture.h"

#define MS UINT64_C(1000000)

static struct log_fixture f;

static void start(int32_t partitions)
{
    logger_level = LOG_OFF;
    fixture_init(&f, 5, partitions, 32u << 20, 1u << 20);
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "%s", f.why);
}

static bool finished;

static void on_append(struct log_append *a, int rc)
{
    (void)a;
    finished = rc == 0;
}

/* One batch of a record with value_bytes; idempotent, so that it can come twice. */
static int produce(int32_t partition, uint32_t value_bytes, bool wait_stable)
{
    static uint8_t value[5u << 20];
    static struct log_append a;
    struct batch_builder b;
    struct batch_header h;
    uint8_t *data;
    size_t len;
    batch_builder_init(&b, BATCH_NONE);
    b.producer_id = 1;
    b.producer_epoch = 0;
    b.base_sequence = 0;
    cr_assert_eq(batch_builder_add(&b, 1000, NULL, -1, value, value_bytes, NULL, 0), 0);
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    cr_assert_eq(batch_peek(data, len, &h), 0);
    finished = false;
    int rc = plog_append(fixture_plog(&f, partition), data, &h, wait_stable, &a, on_append);
    batch_builder_fini(&b);
    return rc;
}

static uint64_t groups(void)
{
    return log_store_counters(f.store)->groups;
}

/* How long it takes from now until all of the partition is stable. */
static uint64_t stable_after_ns(int32_t partition)
{
    const struct plog *p = fixture_plog(&f, partition);
    uint64_t from_ns = env_now_ns(f.env);
    while (plog_high_watermark(p) < plog_end_offset(p)) {
        cr_assert_lt(env_now_ns(f.env) - from_ns, 100 * MS, "it is never written");
        fixture_turn(&f);
    }
    return env_now_ns(f.env) - from_ns;
}

Test(due, what_nobody_waits_for_gathers_for_a_while)
{
    start(2);
    uint64_t before = groups();
    cr_assert_eq(produce(0, 100, false), 1);
    uint64_t from_ns = env_now_ns(f.env);
    while (env_now_ns(f.env) - from_ns < 10 * MS)
        fixture_turn(&f);
    cr_assert_eq(produce(1, 100, false), 1);
    cr_assert_eq(groups(), before, "written at once");
    cr_assert_geq(stable_after_ns(0), 5 * MS);
    cr_assert_eq(groups(), before + 1);
    cr_assert_eq(plog_high_watermark(fixture_plog(&f, 1)), 1, "both in one write");
    fixture_fini(&f);
}

Test(due, who_waits_is_served_at_once)
{
    start(3);
    cr_assert_eq(produce(0, 100, true), 0);
    cr_assert_lt(stable_after_ns(0), 5 * MS);
    cr_assert_eq(produce(1, 100, false), 1);
    cr_assert_eq(produce(1, 100, true), 0, "the same again, now to be waited for");
    while (!finished)
        fixture_turn(&f);
    cr_assert_eq(produce(2, 100, false), 1);
    plog_hurry(fixture_plog(&f, 2));
    cr_assert_lt(stable_after_ns(2), 5 * MS);
    fixture_fini(&f);
}

static void on_watch(struct plog_watch *w)
{
    (void)w;
}

Test(due, a_consumer_at_the_end_is_served_at_once_also_when_it_has_just_gone)
{
    struct plog_watch watch = {.run = on_watch};
    start(2);
    plog_watch_set(fixture_plog(&f, 0), &watch);
    cr_assert_eq(produce(0, 100, false), 1);
    cr_assert_lt(stable_after_ns(0), 5 * MS);
    cr_assert_eq(produce(1, 100, false), 1);
    plog_watch_set(fixture_plog(&f, 1), &watch);
    cr_assert_lt(stable_after_ns(1), 5 * MS);
    fixture_fini(&f);
}

Test(due, a_large_run_and_a_short_flush_ms_do_not_wait)
{
    start(3);
    f.topic.config.max_message_bytes = 8 << 20;
    cr_assert_eq(produce(0, 4u << 20, false), 1);
    cr_assert_lt(stable_after_ns(0), 10 * MS);
    cr_assert_eq(produce(2, 1u << 20, false), 1); /* a run, but others may come to it */
    cr_assert_gt(stable_after_ns(2), 15 * MS);
    f.topic.config.flush_ms = 30;
    plog_configure(fixture_plog(&f, 1), &f.topic);
    cr_assert_eq(produce(1, 100, false), 1);
    cr_assert_lt(stable_after_ns(1), 5 * MS);
    fixture_fini(&f);
}

Test(due, a_clean_stop_writes_what_had_time)
{
    start(1);
    cr_assert_eq(produce(0, 100, false), 1);
    cr_assert_eq(fixture_close(&f), 0);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(plog_high_watermark(fixture_plog(&f, 0)), 1);
    fixture_fini(&f);
}
