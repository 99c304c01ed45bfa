/* Rules of the log that the crash tests do not look at one by one: producers, look-ups, deletion,
 * faults of the device, damage. */
#include <criterion/criterion.h>
#include <errno.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/batch/builder.h"
#include "core/log/journal_format.h"
#include "tests/lib/core_log_fixture.h"

static struct log_fixture f;

static void start(int32_t partitions)
{
    logger_level = LOG_OFF;
    fixture_init(&f, 11, partitions, 32u << 20, 1u << 20);
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "%s", f.why);
    for (unsigned i = 0; i < 20; i++) /* the new journal's space is written: see journal_fill.c */
        fixture_turn(&f);
}

static void reopen_after_cut(void)
{
    fixture_crash(&f);
    int rc = fixture_open(&f);
    cr_assert_eq(rc, 0, "%s", f.why);
}

static void on_nobody(struct env_op *op)
{
    (void)op;
}

static void on_nothing(struct log_append *a, int rc)
{
    (void)a;
    (void)rc;
}

/* One batch of `records` from an idempotent producer, not waited for. */
static int produce(int32_t partition, int64_t producer, int16_t epoch, int32_t sequence,
                   int32_t records, struct log_append *a)
{
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    struct batch_header h;
    batch_builder_init(&b, BATCH_NONE);
    b.producer_id = producer;
    b.producer_epoch = epoch;
    b.base_sequence = sequence;
    for (int32_t i = 0; i < records; i++)
        cr_assert_eq(batch_builder_add(&b, 1000 + sequence + i, NULL, -1, "value", 5, NULL, 0), 0);
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    cr_assert_eq(batch_peek(data, len, &h), 0);
    a->place = NULL;
    int rc = plog_append(fixture_plog(&f, partition), data, &h, false, a, on_nothing);
    batch_builder_fini(&b);
    return rc;
}

static void until_stable(int32_t partition)
{
    struct plog *p = fixture_plog(&f, partition);
    while (plog_high_watermark(p) < plog_end_offset(p))
        fixture_turn(&f);
}

Test(rules, idempotent_producers)
{
    struct log_append a = {0};
    start(1);
    cr_assert_eq(produce(0, 7, 0, 0, 3, &a), 1);
    cr_assert_eq(produce(0, 7, 0, 3, 2, &a), 1);
    cr_assert_eq(a.base_offset, 3);
    cr_assert_eq(produce(0, 7, 0, 0, 3, &a), 1);
    cr_assert(a.duplicate);
    cr_assert_eq(a.base_offset, 0);
    cr_assert_eq(plog_end_offset(fixture_plog(&f, 0)), 5);
    cr_assert_eq(produce(0, 7, 0, 6, 1, &a), -EILSEQ, "a gap");
    cr_assert_eq(produce(0, 7, 0, 0, 2, &a), -EILSEQ, "neither next nor a known batch");
    cr_assert_eq(produce(0, 7, 1, 5, 1, &a), -EILSEQ, "a new epoch starts at 0");
    cr_assert_eq(produce(0, 7, 1, 0, 1, &a), 1);
    cr_assert_eq(produce(0, 7, 0, 5, 1, &a), -ESTALE);
    cr_assert_eq(produce(0, 8, 3, 77, 1, &a), 1, "an unknown producer may start anywhere");
    fixture_fini(&f);
}

Test(rules, producers_survive_cuts_and_clean_stops)
{
    struct log_append a = {0};
    start(2);
    for (int32_t i = 0; i < 20; i++)
        cr_assert_eq(produce(0, 7, 0, i, 1, &a), 1);
    until_stable(0);
    reopen_after_cut();
    cr_assert_eq(produce(0, 7, 0, 18, 1, &a), 1);
    cr_assert(a.duplicate);
    cr_assert_eq(a.base_offset, 18);
    cr_assert_eq(produce(0, 7, 0, 21, 1, &a), -EILSEQ);
    cr_assert_eq(produce(0, 7, 0, 20, 1, &a), 1);
    until_stable(0);
    cr_assert_eq(fixture_close(&f), 0);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(produce(0, 7, 0, 20, 1, &a), 1);
    cr_assert(a.duplicate);
    cr_assert_eq(produce(0, 7, 0, 21, 1, &a), 1);
    cr_assert_eq(a.base_offset, 21);
    fixture_fini(&f);
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

Test(rules, offsets_by_time)
{
    struct log_append a = {0};
    start(1);
    f.topic.config.segment_bytes = 5000; /* several segments */
    plog_configure(fixture_plog(&f, 0), &f.topic);
    for (int32_t i = 0; i < 400; i += 4)
        cr_assert_eq(produce(0, 7, 0, i, 4, &a), 1);
    until_stable(0);
    for (int32_t i = 0; i < 400; i += 37)
        cr_assert_eq(offset_at(1000 + i), i);
    cr_assert_eq(offset_at(0), 0);
    cr_assert_eq(offset_at(1400), -1);
    cr_assert_eq(offset_at(PLOG_TIME_MAX), 399);
    cr_assert_eq(fixture_close(&f), 0);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(offset_at(1123), 123, "after a restart, from the index files");
    cr_assert_eq(offset_at(PLOG_TIME_MAX), 399);
    fixture_fini(&f);
}

/* The index knows a record that never became visible: who looks for it waits for nothing, and
 * nobody waits behind it. */
Test(rules, offsets_by_time_of_what_was_never_stable)
{
    struct log_append a = {0};
    start(1);
    f.topic.config.index_interval_bytes = 100;
    plog_configure(fixture_plog(&f, 0), &f.topic);
    for (int32_t i = 0; i < 40; i += 4)
        cr_assert_eq(produce(0, 7, 0, i, 4, &a), 1);
    until_stable(0);
    mem_world_fail_at(f.world, MEM_FAULT_WRITE_EIO, 1);
    for (int32_t i = 40; i < 400; i += 4)
        cr_assert_eq(produce(0, 7, 0, i, 4, &a), 1);
    while (log_store_counters(f.store)->failed == 0)
        fixture_turn(&f);
    cr_assert_eq(plog_high_watermark(fixture_plog(&f, 0)), 40);
    cr_assert_eq(offset_at(1300), -1);
    cr_assert_eq(offset_at(1039), 39);
    reopen_after_cut();
    cr_assert_geq(plog_high_watermark(fixture_plog(&f, 0)), 40); /* what failed may be there */
    fixture_fini(&f);
}

Test(rules, leader_epochs_are_kept)
{
    int32_t epoch;
    int64_t end;
    struct log_append a = {0};
    start(1);
    cr_assert_eq(produce(0, 7, 0, 0, 5, &a), 1);
    until_stable(0);
    reopen_after_cut(); /* epoch 1 */
    cr_assert_eq(produce(0, 7, 0, 5, 5, &a), 1);
    until_stable(0);
    reopen_after_cut(); /* epoch 2 */
    struct plog *p = fixture_plog(&f, 0);
    plog_epoch_end(p, 0, &epoch, &end);
    cr_assert(epoch == 0 && end == 5);
    plog_epoch_end(p, 1, &epoch, &end);
    cr_assert(epoch == 1 && end == 10);
    plog_epoch_end(p, 3, &epoch, &end);
    cr_assert(epoch == -1 && end == -1);
    cr_assert_eq(plog_epoch_at(p, 4), 0);
    cr_assert_eq(plog_epoch_at(p, 5), 1);
    fixture_fini(&f);
}

static void on_epoch_read(struct plog_read *r)
{
    r->plog = NULL; /* marks it done */
}

/* The history of epochs grows, and moves, while a segment is walked for its first reader. */
static void new_epoch_while_walked(int turns)
{
    start(1);
    for (int epoch = 0; epoch < 2; epoch++) { /* two is as many as there is room for at first */
        cr_assert_eq(fixture_append(&f, 0, 200000, 1), 0);
        fixture_settle(&f);
        cr_assert_eq(fixture_close(&f), 0);
        f.partitions[0].leader_epoch++;
        cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    }
    mem_world_set_latency(f.world, 100000, 400000, 5000000);
    struct plog_read r = {.offset = 0, .max_bytes = 1000, .at_least_one = true};
    cr_assert_eq(plog_read(fixture_plog(&f, 0), &r, on_epoch_read), 0, "from the file");
    for (int i = 0; i < turns; i++)
        fixture_turn(&f);
    cr_assert_eq(fixture_append(&f, 0, 100, 1), 0);
    while (r.plog != NULL)
        fixture_turn(&f);
    cr_assert_eq(r.rc, 0);
    cr_assert_gt(r.len_bytes, 200000);
    cr_assert_eq(log_store_counters(f.store)->damaged_stretches, 0);
    plog_read_release(&r);
    fixture_fini(&f);
}

Test(rules, a_new_epoch_while_a_segment_is_walked)
{
    for (int turns = 0; turns < 10; turns++)
        new_epoch_while_walked(turns);
}

static void on_removed(void *arg, int rc)
{
    *(int *)arg = rc;
}

Test(rules, a_deleted_partition_fails_what_waits_and_frees_its_name)
{
    int removed = 1;
    start(2);
    for (int i = 0; i < 40; i++)
        cr_assert_eq(fixture_append(&f, 0, 100000, 1), 0);
    fixture_settle(&f);
    cr_assert_eq(fixture_append(&f, 0, 100, 1), 0);
    log_store_remove(f.store, fixture_plog(&f, 0), on_removed, &removed);
    while (removed == 1)
        fixture_turn(&f);
    cr_assert_eq(removed, 0);
    cr_assert_eq(f.failed, 1, "the append that waited");
    cr_assert_null(fixture_plog(&f, 0));
    cr_assert_not(mem_world_exists(f.world, "/data/t-0"));
    cr_assert(fixture_verify(&f, 1), "%s", f.why);
    struct plog *again;
    f.partitions[0].number = 500;
    f.model[0].batches_n = 0;
    cr_assert_eq(log_store_attach(f.store, &f.topic, 0, &again), 0);
    cr_assert_eq(plog_end_offset(again), 0);
    cr_assert_eq(fixture_append(&f, 0, 100, 1), 0);
    fixture_settle(&f);
    reopen_after_cut();
    cr_assert(fixture_verify(&f, 0), "%s", f.why);
    fixture_fini(&f);
}

Test(rules, a_failed_journal_write_fences_the_store_and_loses_nothing)
{
    start(2);
    for (int i = 0; i < 10; i++)
        fixture_append(&f, i % 2, 100, 1);
    fixture_settle(&f);
    mem_world_fail_at(f.world, MEM_FAULT_WRITE_EIO, 1);
    cr_assert_eq(fixture_append(&f, 0, 100, 1), 0);
    fixture_settle(&f);
    cr_assert_eq(f.failed, 1);
    cr_assert_eq(fixture_append(&f, 1, 100, 1), -EIO);
    struct plog_read r = {.offset = 0, .max_bytes = 1000, .at_least_one = true};
    cr_assert_eq(plog_read(fixture_plog(&f, 1), &r, NULL), 1, "reads go on");
    cr_assert_gt(r.len_bytes, 0);
    plog_read_release(&r);
    reopen_after_cut();
    cr_assert(fixture_verify_all(&f), "%s", f.why);
    fixture_fini(&f);
}

/* Two partitions have runs under way when one of their flushes fails and takes what is in the
 * device's cache; a third has none. */
static void flush_fails_under_two_runs(uint64_t seed, unsigned nth, unsigned *went_on)
{
    logger_level = LOG_OFF;
    fixture_init(&f, seed, 3, 32u << 20, 64u << 10);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    for (int i = 0; i < 6; i++) {
        fixture_append(&f, i % 3, 200000, 1);
        fixture_settle(&f);
    }
    cr_assert_eq(f.acked, 6);
    for (int i = 0; i < 20; i++) /* whatever goes on behind it ends */
        fixture_turn(&f);
    mem_world_fail_at(f.world, MEM_FAULT_FLUSH_EIO, nth);
    uint64_t runs_before = log_store_counters(f.store)->run_bytes;
    fixture_append(&f, 0, 150000, 1);
    fixture_append(&f, 1, 150000, 1);
    fixture_settle(&f);
    cr_assert_gt(log_store_counters(f.store)->run_bytes, runs_before + 300000);
    cr_assert_eq(mem_world_fault_hits(f.world, MEM_FAULT_FLUSH_EIO), 1);
    cr_assert(nth == 1 ? f.failed == 2 : f.failed > 0, "%lu failed", (unsigned long)f.failed);
    *went_on += fixture_append(&f, 2, 150000, 1) == 0;
    fixture_settle(&f);
    cr_assert(fixture_verify(&f, 2), "%s", f.why);
    reopen_after_cut();
    cr_assert(fixture_verify_all(&f), "seed %lu: %s", (unsigned long)seed, f.why);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(fixture_append(&f, i, 150000, 1), 0);
    fixture_settle(&f);
    reopen_after_cut();
    cr_assert(fixture_verify_all(&f), "seed %lu, again: %s", (unsigned long)seed, f.why);
    fixture_fini(&f);
}

Test(rules, a_failed_flush_takes_every_run_under_way_and_nothing_else)
{
    unsigned went_on = 0;
    for (uint64_t seed = 1; seed <= 40; seed++)
        flush_fails_under_two_runs(seed, 1 + seed % 2, &went_on);
    cr_assert_gt(went_on, 0, "a partition with nothing under way");
}

/* Somebody else's flush fails while the store closes and writes its segments without flushing
 * each. */
static int stop_with_a_failed_flush(uint64_t after_ns)
{
    static uint8_t block[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));
    start(4);
    struct env *other = env_mem_create(f.world, 1, 2, NULL);
    struct env_name_step make = {
        .kind = ENV_STEP_CREATE, .path = "/other", .size_bytes = sizeof(block)};
    cr_assert_eq(env_names_wait(other, &make, 1), 0);
    for (int i = 0; i < 20; i++)
        fixture_append(&f, i % 4, 40000, 1);
    fixture_settle(&f);
    cr_assert_eq(f.acked, 20);
    struct env_op flushing = {0};
    mem_world_fail_at(f.world, MEM_FAULT_FLUSH_EIO, 1);
    mem_world_set_latency(f.world, 100000, after_ns, 80000);
    env_flush(other, &flushing, make.ret_file, on_nobody);
    mem_world_set_latency(f.world, 100000, 400000, 80000);
    int rc = fixture_close(&f);
    mem_world_power_off(f.world);
    env_destroy(other);
    reopen_after_cut();
    cr_assert(fixture_verify_all(&f), "after %lu ns: %s", (unsigned long)after_ns, f.why);
    fixture_fini(&f);
    return rc;
}

Test(rules, a_stop_is_not_clean_if_a_flush_of_its_device_failed)
{
    unsigned failed = 0, clean = 0;
    for (uint64_t after_ns = 200000; after_ns <= 20000000; after_ns += 200000)
        *(stop_with_a_failed_flush(after_ns) < 0 ? &failed : &clean) += 1;
    cr_assert_gt(failed, 0);
    cr_assert_gt(clean, 0);
}

Test(rules, a_full_disk_refuses_and_recovers)
{
    start(1);
    mem_world_fail_at(f.world, MEM_FAULT_ENOSPC, 1);
    for (int i = 0; i < 12; i++) /* enough to want a segment file */
        fixture_append(&f, 0, 100000, 1);
    fixture_settle(&f);
    while (fixture_append(&f, 0, 100, 1) == 0)
        fixture_turn(&f);
    cr_assert_eq(fixture_append(&f, 0, 100, 1), -ENOSPC);
    cr_assert(fixture_verify(&f, 0), "reads go on: %s", f.why);
    int rc;
    for (int i = 0; i < 5000 && (rc = fixture_append(&f, 0, 100, 1)) == -ENOSPC; i++)
        fixture_turn(&f);
    cr_assert_eq(rc, 0, "space is back, so it goes on by itself");
    fixture_settle(&f);
    cr_assert(fixture_verify(&f, 0), "%s", f.why);
    fixture_fini(&f);
}

static void on_read(struct plog_read *r)
{
    cr_assert(r->finished);
}

static void read_wait(int32_t partition, int64_t offset, struct plog_read *r)
{
    *r = (struct plog_read){.offset = offset, .max_bytes = 1000, .at_least_one = true};
    bool done = plog_read(fixture_plog(&f, partition), r, on_read) == 1;
    for (int i = 0; i < 1000 && !done && !r->finished; i++)
        fixture_turn(&f);
    cr_assert(done || r->finished, "the read of offset %ld is never answered", (long)offset);
}

static int read_rc(int64_t offset)
{
    struct plog_read r;
    read_wait(0, offset, &r);
    plog_read_release(&r);
    return r.rc;
}

/* The first batch of what a read at offset gives is a good one; returns its base offset. */
static int64_t good_batch_at(int32_t partition, int64_t offset)
{
    struct plog_read r;
    struct batch_header h;
    read_wait(partition, offset, &r);
    cr_assert_eq(r.rc, 0);
    cr_assert_eq(r.iov_n, 1);
    cr_assert_eq(batch_peek(r.iov[0].iov_base, r.len_bytes, &h), 0);
    cr_assert_leq(h.len_bytes, r.len_bytes);
    cr_assert(batch_crc_ok(r.iov[0].iov_base, &h), "damaged bytes were served");
    plog_read_release(&r);
    return h.base_offset;
}

Test(rules, a_missing_segment_file_fails_every_read_of_it_and_no_other)
{
    start(1);
    f.topic.config.segment_bytes = 150000;
    cr_assert_eq(fixture_close(&f), 0);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(fixture_append(&f, 0, 100000, 1), 0);
        fixture_settle(&f);
    }
    cr_assert_eq(fixture_close(&f), 0);
    struct env *env = env_mem_create(f.world, 0, 1, NULL);
    struct env_name_step gone[] = {
        {.kind = ENV_STEP_UNLINK, .path = "/data/t-0/00000000000000000001.log"},
        {.kind = ENV_STEP_SYNC_DIR, .path = "/data/t-0"}};
    cr_assert_eq(env_names_wait(env, gone, 2), 0);
    env_destroy(env);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    cr_assert_eq(read_rc(1), -EIO);
    cr_assert_eq(read_rc(1), -EIO, "and the next one is answered, too");
    cr_assert_eq(read_rc(0), 0);
    cr_assert_eq(read_rc(2), 0);
    cr_assert_eq(fixture_close(&f), 0);
    fixture_fini(&f);
}

/* One durable journal write rots: what it held is lost, by name; everything else is there. */
Test(rules, a_damaged_journal_write_loses_no_other_partition)
{
    start(3);
    for (int i = 0; i < 30; i++) {
        cr_assert_eq(fixture_append(&f, i % 3, 100, 1), 0);
        fixture_settle(&f); /* a journal write each: two blocks behind the superblocks */
    }
    mem_world_power_off(f.world);
    log_store_abandon(f.store);
    f.store = NULL;
    env_destroy(f.env);
    mem_world_crash(f.world);
    uint64_t writes_at = 2 * BLOCK_BYTES; /* each write is one block */
    cr_assert_eq(
        mem_world_corrupt(f.world, "/data/journal.0", writes_at + 13 * BLOCK_BYTES + 250, 8), 0);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why); /* write 13 held a batch of partition 1 */
    cr_assert(fixture_verify(&f, 0), "%s", f.why);
    cr_assert(fixture_verify(&f, 2), "%s", f.why);
    cr_assert_eq(plog_high_watermark(fixture_plog(&f, 1)), 10, "what is lost keeps its place");
    cr_assert_eq(log_store_counters(f.store)->lost_offsets, 1);
    for (int round = 0; round < 3; round++) { /* nothing but the bytes says so after a stop */
        for (int64_t offset = 0; offset < 10; offset++)
            cr_assert_eq(good_batch_at(1, offset), offset == 4 ? 5 : offset);
        cr_assert_eq(fixture_close(&f), 0);
        cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    }
    fixture_fini(&f);
}

/* Of both generations: the older one is no way out. */
static void checkpoints_damage(unsigned copy)
{
    static const char *const paths[] = {"/data/journal.0.checkpoint.0",
                                        "/data/journal.0.checkpoint.1"};
    for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
        uint64_t size = (uint64_t)mem_world_file_size(f.world, paths[i]), half = size / 2;
        cr_assert_eq(mem_world_corrupt(f.world, paths[i], copy * half, half), 0);
    }
}

Test(rules, either_copy_of_a_checkpoint_is_enough_and_none_is_refused)
{
    start(2);
    f.topic.config.segment_bytes = 20000;
    plog_configure(fixture_plog(&f, 0), &f.topic);
    for (unsigned copy = 0; copy < 2; copy++) {
        for (int i = 0; i < 60; i++)
            cr_assert_eq(fixture_append(&f, i % 2, 1000, 1), 0);
        fixture_settle(&f);
        cr_assert_eq(fixture_close(&f), 0);
        checkpoints_damage(copy);
        cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
        cr_assert(fixture_verify_all(&f), "%s", f.why);
    }
    cr_assert_eq(fixture_close(&f), 0);
    checkpoints_damage(0);
    checkpoints_damage(1);
    cr_assert_eq(fixture_open(&f), -EBADMSG);
    cr_assert(strstr(f.why, "journal.0.checkpoint.0") != NULL, "%s", f.why);
    cr_assert(mem_world_exists(f.world, "/data/t-0/00000000000000000000.log"));
    cr_assert(mem_world_exists(f.world, "/data/t-1/00000000000000000000.log"));
    f.store = NULL;
    fixture_fini(&f);
}

Test(rules, write_caching_answers_from_memory_and_shows_it)
{
    struct log_append a = {0};
    start(1);
    f.topic.config.write_caching = true;
    plog_configure(fixture_plog(&f, 0), &f.topic);
    cr_assert_eq(produce(0, 7, 0, 0, 2, &a), 1);
    cr_assert_eq(plog_high_watermark(fixture_plog(&f, 0)), 2);
    fixture_fini(&f);
}

static void partitions_belong_to(uint16_t shard)
{
    for (int32_t i = 0; i < f.topic.partitions_n; i++)
        f.partitions[i].shard = shard;
}

static void name_take_away(const char *path)
{
    f.env = env_mem_create(f.world, 0, 1, NULL);
    struct env_name_step unlink = {.kind = ENV_STEP_UNLINK, .path = path};
    cr_assert_eq(env_names_wait(f.env, &unlink, 1), 0);
    env_destroy(f.env);
    f.env = NULL;
}

/* Rather than to take all partitions for empty, and to overwrite them. */
Test(rules, a_start_wants_its_journal)
{
    start(1);
    for (int i = 0; i < 50; i++)
        fixture_append(&f, 0, 2000, 1);
    fixture_settle(&f);
    cr_assert_eq(fixture_close(&f), 0);
    static const char *const names[] = {"/data/journal.0", "/data/journal.0.checkpoint.0",
                                        "/data/journal.0.checkpoint.1"};
    for (unsigned i = 0; i < 3; i++) {
        name_take_away(names[i]);
        cr_assert_eq(fixture_open(&f), -ENOENT, "without %s", names[i]);
        cr_assert_not_null(strstr(f.why, "/data/journal.0 is missing"), "%s", f.why);
    }
    partitions_belong_to(1);
    cr_assert_eq(fixture_open(&f), 0, "a shard without partitions makes it: %s", f.why);
    fixture_fini(&f);
}

Test(rules, journals_of_a_removed_shard_are_taken_over)
{
    start(2);
    f.config.shards_n = 2;
    for (int i = 0; i < 50; i++)
        fixture_append(&f, i % 2, 2000, 1);
    fixture_settle(&f);
    cr_assert_eq(fixture_close(&f), 0);
    /* The same data as if written by shard 1, which is no more: its journal under that number. */
    f.env = env_mem_create(f.world, 0, 1, NULL);
    static const char *const from[] = {"/data/journal.0", "/data/journal.0.checkpoint.0",
                                       "/data/journal.0.checkpoint.1"};
    static const char *const to[] = {"/data/journal.1", "/data/journal.1.checkpoint.0",
                                     "/data/journal.1.checkpoint.1"};
    for (unsigned i = 0; i < 3; i++) {
        struct env_name_step rename = {.kind = ENV_STEP_RENAME, .path = from[i], .path2 = to[i]};
        int rc = env_names_wait(f.env, &rename, 1);
        cr_assert(rc == 0 || rc == -ENOENT);
    }
    env_destroy(f.env);
    partitions_belong_to(1); /* shard 0 had none, but its journal */
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    cr_assert_eq(fixture_close(&f), 0);
    partitions_belong_to(0);
    f.config.shards_n = 1;
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    cr_assert(fixture_verify_all(&f), "%s", f.why);
    cr_assert_eq(f.model[0].batches_n, 25);
    cr_assert_not(mem_world_exists(f.world, "/data/journal.1"));
    reopen_after_cut();
    cr_assert(fixture_verify_all(&f), "%s", f.why);
    cr_assert_eq(f.model[1].batches_n, 25);
    fixture_fini(&f);
}

Test(rules, directories_of_nobody_are_settled_at_start)
{
    start(1);
    cr_assert_eq(fixture_append(&f, 0, 100, 1), 0);
    fixture_settle(&f);
    cr_assert_eq(fixture_close(&f), 0);
    f.env = env_mem_create(f.world, 0, 1, NULL);
    struct env_name_step make[] = {
        {.kind = ENV_STEP_MKDIR, .path = "/data/t-0.abc-delete"},
        {.kind = ENV_STEP_PUT,
         .path = "/data/t-0.abc-delete/00000000000000000000.log",
         .data = "x",
         .data_len = 1},
        {.kind = ENV_STEP_MKDIR, .path = "/data/gone-3"},
        {.kind = ENV_STEP_PUT,
         .path = "/data/gone-3/00000000000000000007.log",
         .data = "x",
         .data_len = 1},
        {.kind = ENV_STEP_MKDIR, .path = "/data/photos-2"},
        {.kind = ENV_STEP_PUT, .path = "/data/photos-2/cat.png", .data = "x", .data_len = 1},
    };
    cr_assert_eq(env_names_wait(f.env, make, ARRAY_LEN(make)), 0);
    env_destroy(f.env);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    cr_assert_not(mem_world_exists(f.world, "/data/t-0.abc-delete"), "a deletion goes on");
    cr_assert_not(mem_world_exists(f.world, "/data/gone-3"), "must not be taken for a later topic");
    cr_assert(mem_world_exists(f.world, "/data/photos-2/cat.png"), "not ours");
    cr_assert(fixture_verify(&f, 0), "%s", f.why);
    fixture_fini(&f);
}

static void on_copied(struct plog_read *r)
{
    r->plog = NULL;
}

/* Readers that give nothing back of what they are lent get copies in the end. */
Test(rules, readers_cannot_hold_the_memory_of_writers)
{
    enum { BATCHES = 800, BATCH_BYTES = 50000 };
    static struct plog_read reads[BATCHES];
    unsigned held = 0, copied = 0;
    logger_level = LOG_OFF;
    fixture_init(&f, 13, 1, 16u << 20, 1u << 20);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    for (unsigned i = 0; i < BATCHES; i++) {
        unsigned waits = 0;
        for (int rc; (rc = fixture_append(&f, 0, BATCH_BYTES, 1)) != 0; waits++) {
            cr_assert_eq(rc, -EAGAIN);
            cr_assert_lt(waits, 1000, "after %u batches nothing can be written any more", i);
            fixture_turn(&f);
        }
        fixture_settle(&f);
        struct plog_read *r = &reads[held];
        *r = (struct plog_read){.offset = i, .max_bytes = 1000000, .at_least_one = true};
        if (plog_read(fixture_plog(&f, 0), r, on_copied) == 1) {
            cr_assert_gt(r->len_bytes, 0);
            held++;
            continue;
        }
        while (r->plog != NULL)
            fixture_turn(&f);
        cr_assert_eq(r->rc, 0);
        cr_assert_gt(r->len_bytes, 0);
        plog_read_release(r);
        copied++;
    }
    cr_assert_gt(held, 0);
    cr_assert_gt(copied, 0);
    while (held-- > 0)
        plog_read_release(&reads[held]);
    cr_assert(fixture_verify_all(&f), "%s", f.why);
    fixture_fini(&f);
}

/* Both copies of the journal's record that begins with base_offset. */
static void damage_record(int64_t base_offset)
{
    static uint8_t ring[64 * BLOCK_BYTES];
    struct journal_header h;
    struct journal_record rec;
    cr_assert_eq(mem_world_read_file(f.world, "/data/journal.0", ring, sizeof(ring), 0),
                 (int64_t)sizeof(ring));
    for (uint32_t at = JOURNAL_RING_START; at < sizeof(ring); at += BLOCK_BYTES) {
        memcpy(&h, ring + at, sizeof(h));
        memcpy(&rec, ring + at + sizeof(h), sizeof(rec));
        if (h.magic != JOURNAL_MAGIC || h.records_n != 1 || rec.base_offset != base_offset)
            continue;
        cr_assert_eq(mem_world_corrupt(f.world, "/data/journal.0", at + rec.at_bytes, 8), 0);
        cr_assert_eq(mem_world_corrupt(f.world, "/data/journal.0", at + h.table_at, 8), 0);
        return;
    }
    cr_assert(false, "no record begins with offset %ld", (long)base_offset);
}

Test(rules, a_lost_record_names_no_offset_that_the_checkpoint_has)
{
    start(1);
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(fixture_append(&f, 0, 100, 1), 0);
        fixture_settle(&f);
        if (i == 3) {
            cr_assert_eq(fixture_close(&f), 0);
            cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
        }
    }
    mem_world_power_off(f.world);
    log_store_abandon(f.store);
    f.store = NULL;
    env_destroy(f.env);
    mem_world_crash(f.world);
    damage_record(4);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    cr_assert_eq(plog_high_watermark(fixture_plog(&f, 0)), 6);
    cr_assert_eq(log_store_counters(f.store)->lost_offsets, 1);
    fixture_fini(&f);
}
