/* Compaction against a model of what the last record of each key is: offsets stay, order stays, of
 * each key what is newest, under power cuts at every I/O, too. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/batch/builder.h"
#include "tests/lib/core_log_fixture.h"

enum { KEYS = 40, RECORDS_MAX = 60000, SEGMENT_BYTES = 60000 };

struct written { /* by offset */
    int32_t key;
    uint64_t value; /* 0: a tombstone */
    bool acked;
};
static struct written model[RECORDS_MAX];
static int64_t model_n, model_acked;
static struct log_fixture f;

static void configure_partitions(uint64_t seed, int32_t partitions)
{
    logger_level = LOG_OFF;
    fixture_init(&f, seed, partitions, 16u << 20, 64u << 10);
    f.topic.config.segment_bytes = SEGMENT_BYTES;
    f.topic.config.cleanup_policy = TOPIC_CLEANUP_COMPACT;
    f.topic.config.min_cleanable_dirty_ratio = 0;
    f.config.compact_backoff_ms = 3;
    f.config.compact_memory_bytes = 1u << 20;
    model_n = model_acked = 0;
}

static void configure(uint64_t seed)
{
    configure_partitions(seed, 1);
}

static void open_or_fail(void)
{
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "open: %d %s", rc, f.why);
}

static void on_stable(struct log_append *a, int rc)
{
    (void)a;
    (void)rc;
}

/* One batch of some keys, perhaps compressed; with tombstones. False: not now. */
static bool append(enum batch_codec codec, int32_t records, size_t padding)
{
    static struct log_append appends[RECORDS_MAX];
    static char value[4096];
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    struct batch_header h;
    batch_builder_init(&b, codec);
    for (int32_t i = 0; i < records; i++) {
        struct written *w = &model[model_n + i];
        *w = (struct written){.key = (int32_t)rng_below(&f.rng, KEYS),
                              .value = rng_below(&f.rng, 10) == 0 ? 0 : rng_next(&f.rng) | 1};
        char key[16];
        int key_len = snprintf(key, sizeof(key), "key%d", w->key);
        memset(value, 'v', padding + 8);
        le_store64((uint8_t *)value, w->value);
        cr_assert_eq(batch_builder_add(&b, env_wall_ms(f.env), key, key_len, value,
                                       w->value == 0 ? -1 : (int32_t)padding + 8, NULL, 0),
                     0);
    }
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    cr_assert_eq(batch_peek(data, len, &h), 0);
    struct log_append *a = &appends[model_n];
    *a = (struct log_append){0};
    int rc = plog_append(fixture_plog(&f, 0), data, &h, false, a, on_stable);
    batch_builder_fini(&b);
    if (rc != 1)
        return false;
    cr_assert_eq(a->base_offset, model_n);
    model_n += records;
    return true;
}

static void until_stable(void)
{
    struct plog *p = fixture_plog(&f, 0);
    plog_hurry(p);
    while (plog_high_watermark(p) < plog_end_offset(p) && !mem_world_crashed(f.world))
        fixture_turn(&f);
    model_acked = MAX(model_acked, plog_high_watermark(p));
}

static void write_some(int batches)
{
    for (int i = 0; i < batches && !mem_world_crashed(f.world); i++) {
        enum batch_codec codec = rng_below(&f.rng, 4) == 0 ? BATCH_ZSTD : BATCH_NONE;
        append(codec, 1 + (int32_t)rng_below(&f.rng, 8), rng_below(&f.rng, 400));
        fixture_turn(&f);
    }
    until_stable();
}

static void on_read(struct plog_read *r)
{
    r->plog = NULL;
}

struct seen {
    int64_t last[KEYS]; /* offset at which the key was read last */
    int64_t next, records, empty_batches;
};

static void batch_check(const uint8_t *data, const struct batch_header *h, struct seen *s)
{
    struct batch_iter *iter;
    struct batch_record r;
    cr_assert(batch_crc_ok(data, h));
    cr_assert_eq(h->base_offset, s->next, "batches follow each other");
    cr_assert_eq(batch_iter_open(&iter, data, h->len_bytes), 0);
    while (batch_iter_next(iter, &r) == 1) {
        const struct written *w = &model[r.offset];
        char key[16];
        int key_len = snprintf(key, sizeof(key), "key%d", w->key);
        cr_assert(r.offset >= h->base_offset && r.offset <= batch_last_offset(h));
        cr_assert(r.key_len == key_len && memcmp(r.key, key, (size_t)key_len) == 0);
        cr_assert_eq(r.value_len < 0, w->value == 0);
        cr_assert(r.value_len < 0 || le_load64(r.value) == w->value);
        s->last[w->key] = r.offset;
        s->records++;
    }
    batch_iter_close(iter);
    s->empty_batches += h->record_count == 0;
    s->next = batch_last_offset(h) + 1;
}

static struct seen read_log(void)
{
    static uint8_t data[4u << 20];
    struct plog *p = fixture_plog(&f, 0);
    struct seen s = {.next = plog_start_offset(p)};
    memset(s.last, -1, sizeof(s.last));
    while (s.next < plog_high_watermark(p)) {
        struct plog_read r = {.offset = s.next,
                              .max_bytes = 1000 + (uint32_t)rng_below(&f.rng, 90000),
                              .at_least_one = true};
        if (plog_read(p, &r, on_read) == 0)
            while (r.plog != NULL)
                fixture_turn(&f);
        cr_assert_eq(r.rc, 0, "%d at %lld", r.rc, (long long)s.next);
        cr_assert_gt(r.len_bytes, 0);
        size_t len = 0;
        for (unsigned i = 0; i < r.iov_n; len += r.iov[i++].iov_len)
            memcpy(data + len, r.iov[i].iov_base, r.iov[i].iov_len);
        plog_read_release(&r);
        struct batch_header h;
        for (size_t at = 0; at < len; at += h.len_bytes) {
            cr_assert_eq(batch_peek(data + at, len - at, &h), 0);
            batch_check(data + at, &h, &s);
        }
    }
    return s;
}

/* Of each key the newest record is there, unless it is a tombstone whose time is over. */
static struct seen verify(const char *when, uint64_t n)
{
    int64_t newest[KEYS];
    memset(newest, -1, sizeof(newest));
    struct seen s = read_log();
    int64_t end = plog_high_watermark(fixture_plog(&f, 0));
    cr_assert_geq(end, model_acked, "%s %llu: the log ends at %lld, acknowledged was %lld", when,
                  (unsigned long long)n, (long long)end, (long long)model_acked);
    for (int64_t i = 0; i < end; i++)
        newest[model[i].key] = i;
    for (int k = 0; k < KEYS; k++) {
        bool gone = newest[k] >= 0 && model[newest[k]].value == 0 && s.last[k] < newest[k];
        if (gone)
            cr_assert_eq(s.last[k], -1, "%s %llu: key %d is back at %lld, deleted at %lld", when,
                         (unsigned long long)n, k, (long long)s.last[k], (long long)newest[k]);
        else
            cr_assert_eq(s.last[k], newest[k], "%s %llu: key %d is at %lld, not %lld", when,
                         (unsigned long long)n, k, (long long)s.last[k], (long long)newest[k]);
    }
    model_n = end;
    model_acked = end;
    return s;
}

static void turns(unsigned n)
{
    for (unsigned i = 0; i < n && !mem_world_crashed(f.world); i++)
        fixture_turn(&f);
}

Test(compact, of_each_key_the_last_record_stays)
{
    configure(1);
    open_or_fail();
    write_some(1500);
    turns(500);
    const struct log_counters *c = log_store_counters(f.store);
    cr_assert_gt(c->compacted_segments, 5);
    struct seen s = verify("live", 0);
    cr_assert_lt(s.records, model_n / 4, "%lld of %lld records are left", (long long)s.records,
                 (long long)model_n);
    cr_assert_gt(s.empty_batches, 0);
    cr_assert_lt(plog_size_bytes(fixture_plog(&f, 0)), 3 * SEGMENT_BYTES);
    fixture_crash(&f);
    open_or_fail();
    verify("after a cut", 0);
    write_some(300);
    turns(300);
    verify("on", 0);
    cr_assert_eq(fixture_close(&f), 0);
    open_or_fail();
    verify("after a clean stop", 0);
    fixture_fini(&f);
}

/* The shard sleeps until the store or an operation wants it: no step waits for what others do. */
Test(compact, goes_on_where_nothing_else_happens)
{
    configure(5);
    f.config.compact_backoff_ms = 5000;
    open_or_fail();
    write_some(1500);
    const struct log_counters *c = log_store_counters(f.store);
    uint64_t begun = 0, now;
    while (c->compacted_segments < 6) {
        now = env_now_ns(f.env);
        begun = c->compacted_segments == 0 ? now : begun;
        cr_assert_lt(now - begun, UINT64_C(1000000000), "%llu segments",
                     (unsigned long long)c->compacted_segments);
        env_turn(f.env, MIN(log_store_deadline_ns(f.store), now + UINT64_C(10000000000)));
        log_store_pump(f.store);
    }
    fixture_fini(&f);
}

Test(compact, tombstones_go_when_their_time_is_over)
{
    configure(2);
    f.topic.config.delete_retention_ms = 500;
    open_or_fail();
    write_some(1000);
    turns(300);
    verify("with tombstones", 0);
    for (int i = 0; i < 6; i++) {
        turns(600);
        write_some(200);
        turns(200);
    }
    struct seen s = verify("without", 0);
    cr_assert_gt(s.records, 0);
    fixture_fini(&f);
}

/* A map that holds some keys only takes several passes. */
Test(compact, little_memory_takes_several_passes)
{
    configure(3);
    f.config.compact_memory_bytes = 64 * 24; /* 48 keys: KEYS and a batch */
    open_or_fail();
    write_some(800);
    turns(3000);
    struct seen s = verify("live", 0);
    cr_assert_lt(s.records, model_n / 2, "%lld of %lld records are left", (long long)s.records,
                 (long long)model_n);
    fixture_fini(&f);
}

Test(compact, what_is_young_stays)
{
    configure(4);
    f.topic.config.min_compaction_lag_ms = 1000000;
    open_or_fail();
    write_some(600);
    turns(300);
    cr_assert_eq(read_log().records, model_n);
    cr_assert_eq(log_store_counters(f.store)->compacted_segments, 0);
    fixture_fini(&f);
}

/* How often a shard wakes up that does nothing but look at its partitions. */
static unsigned idle_turns(unsigned cleanup_policy, uint64_t duration_ms)
{
    unsigned n = 0;
    configure_partitions(5, FIXTURE_PARTITIONS_MAX);
    f.topic.config.cleanup_policy = cleanup_policy;
    open_or_fail();
    turns(1000); /* what a start leaves to do */
    uint64_t until_ns = env_now_ns(f.env) + duration_ms * 1000000;
    for (; env_now_ns(f.env) < until_ns; n++) {
        env_turn(f.env, MIN(log_store_deadline_ns(f.store), until_ns));
        log_store_pump(f.store);
    }
    fixture_fini(&f);
    return n;
}

Test(compact, a_pass_with_nothing_to_do_takes_few_turns)
{
    unsigned passes = 100;
    cr_assert_leq(idle_turns(TOPIC_CLEANUP_DELETE, 3 * passes), passes + 1);
    cr_assert_leq(idle_turns(TOPIC_CLEANUP_COMPACT, 3 * passes), 3 * passes);
}

static uint64_t power_cuts(uint64_t step)
{
    uint64_t n, compacted = 0;
    for (n = 1;; n += step) {
        configure(5000 + n);
        open_or_fail();
        mem_world_crash_at_io(f.world, n);
        write_some(600);
        turns(100);
        bool crashed = mem_world_crashed(f.world);
        compacted += log_store_counters(f.store)->compacted_segments;
        fixture_crash(&f);
        open_or_fail();
        verify("after the cut at I/O", n);
        write_some(120);
        turns(30);
        fixture_crash(&f);
        open_or_fail();
        verify("after a second cut, first at I/O", n);
        cr_assert_eq(fixture_close(&f), 0);
        open_or_fail();
        verify("after a clean stop, cut at I/O", n);
        fixture_fini(&f);
        if (!crashed)
            break;
    }
    cr_assert_gt(compacted, n, "%llu segments in %llu runs", (unsigned long long)compacted,
                 (unsigned long long)n);
    return n;
}

Test(compact, power_cut_at_every_io, .timeout = 300)
{
    uint64_t ios = power_cuts(1);
    cr_assert_gt(ios, 150, "too few I/Os: %llu", (unsigned long long)ios);
}
