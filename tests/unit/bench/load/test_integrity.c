/* What the load harness says about a server that loses, repeats, swaps or damages a record, loses
 * an answer, refuses a request or closes a connection. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "core/base/bytes.h"
#include "tests/unit/bench/load/load_rig.h"

#define SPREAD "rate=1000 partitions=4 partitioner=roundrobin linger.ms=20 "
#define ONE "rate=1000 linger.ms=5 "

static void run(const char *settings, struct script_config script)
{
    rig_start(&(struct rig_config){.settings = settings,
                                   .script = script,
                                   .net = {.latency_ns = 10000},
                                   .consume = CONSUME_TAIL});
    rig_begin();
    rig_run(SECOND);
    rig_drain(5 * SECOND);
    rig_end();
}

static void assert_totals(uint64_t lost, uint64_t repeated, uint64_t reordered, uint64_t corrupt)
{
    const struct verify_log *log = &rig.loader.course.out.verify;
    cr_assert_eq(log->totals[INCIDENT_LOST], lost, "%zu lost", (size_t)log->totals[INCIDENT_LOST]);
    cr_assert_eq(log->totals[INCIDENT_REPEATED], repeated, "%zu repeated",
                 (size_t)log->totals[INCIDENT_REPEATED]);
    cr_assert_eq(log->totals[INCIDENT_REORDERED], reordered, "%zu reordered",
                 (size_t)log->totals[INCIDENT_REORDERED]);
    cr_assert_eq(log->totals[INCIDENT_CORRUPT], corrupt, "%zu corrupt",
                 (size_t)log->totals[INCIDENT_CORRUPT]);
    cr_assert_eq(log->foreign, 0);
    cr_assert_eq(log->incidents_n > 0, lost + repeated + reordered + corrupt > 0);
}

static void assert_incident(enum incident_kind kind, int32_t partition, int64_t offset,
                            uint32_t producer, uint64_t sequence, uint64_t count)
{
    const struct incident *i = &rig.loader.course.out.verify.incidents[0];
    cr_assert_eq(rig.loader.course.out.verify.incidents_n, 1);
    cr_assert_eq(i->kind, kind);
    cr_assert_eq(i->partition, partition, "partition %d", i->partition);
    cr_assert_eq(i->offset, offset, "offset %d", (int)i->offset);
    cr_assert(i->known);
    cr_assert_eq(i->producer, producer);
    cr_assert_eq(i->sequence, sequence, "sequence %d", (int)i->sequence);
    cr_assert_eq(i->count, count);
}

static void assert_all_came(void)
{
    uint64_t sent = rig.intervals.n.intended;
    cr_assert_geq(sent, 1000);
    cr_assert_eq(rig.intervals.n.acked, sent);
    cr_assert_eq(rig.intervals.n.failed, 0);
    cr_assert_eq(rig.intervals.n.consumed_new, sent);
    cr_assert_eq(atomic_load(&rig.loader.course.out.unfinished), 0);
}

/* ---- nothing is wrong ---- */

Test(integrity, a_clean_run_has_nothing_to_report)
{
    run(SPREAD "producers=3 consumers=2 fan.out=3", (struct script_config){.service_ns = 100000});
    assert_totals(0, 0, 0, 0);
    uint64_t sent = rig.intervals.n.intended;
    cr_assert_eq(rig.intervals.n.acked, sent);
    cr_assert_eq(rig.intervals.n.consumed, 3 * sent);
    cr_assert_eq(rig.intervals.n.consumed_new, 3 * sent);
    cr_assert_eq(hist_count(&rig.intervals.latency[LATENCY_E2E]), 3 * sent);
    cr_assert_eq(script_counters(rig.broker)->stored_records, sent);
    rig_stop();
}

/* ---- a record is wrong ---- */

/* The server sees partition by partition in a request, 20 ms in one: with records 1, 2, 3, .. of
 * the first request, of 21 records, 5 or 6 belong to each partition. */
Test(integrity, a_lost_record_is_named_by_the_one_behind_it)
{
    run(ONE, (struct script_config){.lose_record = 57});
    assert_totals(1, 0, 0, 0);
    assert_incident(INCIDENT_LOST, 0, 56, 0, 56, 1);
    rig_stop();
}

/* Of two producers that take turns, each has every second sequence. */
Test(integrity, a_lost_record_is_its_producers)
{
    run("rate=1000 linger.ms=0 batch.size=1 producers=2",
        (struct script_config){.lose_record = 58});
    assert_totals(1, 0, 0, 0);
    /* Producer 1 begins: record 58 is the 29th of producer 0, and the next of it is two further. */
    assert_incident(INCIDENT_LOST, 0, 58, 0, 28, 1);
    rig_stop();
}

Test(integrity, a_lost_record_is_in_its_partition)
{
    run("rate=1000 linger.ms=0 partitions=4 partitioner=roundrobin",
        (struct script_config){.lose_record = 57});
    assert_totals(1, 0, 0, 0);
    /* Round robin begins with partition 1: record 57 is the 15th there. */
    assert_incident(INCIDENT_LOST, 1, 14, 0, 14, 1);
    rig_stop();
}

/* Nothing comes behind it: only what the producers say tells. */
Test(integrity, a_last_record_that_is_lost_is_missed_too)
{
    rig_start(&(struct rig_config){.settings = "rate=100 linger.ms=0",
                                   .script = {.lose_record = 101},
                                   .consume = CONSUME_TAIL});
    rig_begin();
    rig_run(SECOND);
    rig_drain(SECOND);
    rig_end();
    cr_assert_eq(rig.intervals.n.acked, 101);
    assert_totals(1, 0, 0, 0);
    assert_incident(INCIDENT_LOST, 0, -1, 0, 100, 1);
    rig_stop();
}

Test(integrity, a_repeated_record_is_named_by_its_second_place)
{
    run(ONE, (struct script_config){.repeat_record = 57});
    assert_totals(0, 1, 0, 0);
    assert_incident(INCIDENT_REPEATED, 0, 57, 0, 56, 1);
    assert_all_came();
    cr_assert_eq(rig.intervals.n.consumed, rig.intervals.n.consumed_new + 1);
    rig_stop();
}

/* The later one comes first: nothing is lost, the earlier one is late. */
Test(integrity, swapped_records_are_out_of_order)
{
    run(ONE, (struct script_config){.swap_record = 57});
    assert_totals(0, 0, 1, 0);
    assert_incident(INCIDENT_REORDERED, 0, 57, 0, 56, 1);
    assert_all_came();
    rig_stop();
}

/* Damaged, but there: it is not counted as lost besides. */
Test(integrity, a_damaged_record_is_corrupt_and_not_lost)
{
    run(ONE, (struct script_config){.corrupt_record = 57});
    assert_totals(0, 0, 0, 1);
    assert_incident(INCIDENT_CORRUPT, 0, 56, 0, 56, 1);
    assert_all_came();
    rig_stop();
}

Test(integrity, without_verification_of_content_damage_is_not_looked_for)
{
    run(ONE "verify=sequence", (struct script_config){.corrupt_record = 57, .lose_record = 300});
    assert_totals(1, 0, 0, 0);
    assert_incident(INCIDENT_LOST, 0, 299, 0, 299, 1);
    rig_stop();
}

Test(integrity, all_kinds_at_once)
{
    run(SPREAD "producers=3",
        (struct script_config){
            .lose_record = 100, .repeat_record = 200, .swap_record = 301, .corrupt_record = 401});
    const uint64_t *totals = rig.loader.course.out.verify.totals;
    cr_assert_eq(totals[INCIDENT_LOST], 1);
    cr_assert_eq(totals[INCIDENT_REPEATED], 1);
    cr_assert_leq(totals[INCIDENT_REORDERED], 1); /* neighbours may be of two producers */
    cr_assert_eq(totals[INCIDENT_CORRUPT], 1);
    rig_stop();
}

Test(integrity, damage_is_found_in_each_codec)
{
    static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    for (unsigned i = 0; i < ARRAY_LEN(codecs); i++) {
        char settings[100];
        snprintf(settings, sizeof(settings), ONE "value.entropy=0.25 compression.type=%s",
                 codecs[i]);
        run(settings, (struct script_config){.corrupt_record = 57});
        assert_totals(0, 0, 0, 1);
        assert_incident(INCIDENT_CORRUPT, 0, 56, 0, 56, 1);
        assert_all_came();
        uint64_t bytes = script_counters(rig.broker)->record_bytes;
        cr_assert_eq(bytes > rig.intervals.n.acked_bytes, i == 0);
        rig_stop();
    }
}

/* ---- a request goes wrong ---- */

#define TIMEOUT "request.timeout.ms=1000 "

/* The answer never comes: after request.timeout.ms the batch goes out again, and the server knows
 * it. */
Test(integrity, a_lost_answer_is_asked_for_again)
{
    run(ONE TIMEOUT, (struct script_config){.lose_ack = 30});
    assert_totals(0, 0, 0, 0);
    assert_all_came();
    cr_assert_geq(rig.intervals.n.retries, 1);
    cr_assert_geq(rig.intervals.n.reconnects, 1);
    cr_assert_geq(script_counters(rig.broker)->duplicate_batches, 1);
    cr_assert_eq(script_counters(rig.broker)->stored_records, rig.intervals.n.acked);
    rig_stop();
}

/* Without a producer id the server takes it for new: what the retry repeats is seen. */
Test(integrity, without_idempotence_a_retry_repeats)
{
    run(ONE TIMEOUT "enable.idempotence=false max.in.flight.requests.per.connection=1",
        (struct script_config){.lose_ack = 30});
    uint64_t stored = script_counters(rig.broker)->stored_records;
    uint64_t repeated = stored - rig.intervals.n.acked;
    cr_assert_gt(repeated, 0);
    assert_totals(0, repeated, 0, 0);
    assert_all_came();
    const struct incident *first = &rig.loader.course.out.verify.incidents[0];
    cr_assert_eq(first->kind, INCIDENT_REPEATED);
    size_t n;
    const struct script_arrival *arrivals = script_arrivals(rig.broker, &n);
    uint64_t before = 0;
    for (int i = 0; i < 29; i++)
        before += arrivals[i].records;
    cr_assert_eq(first->sequence, before);
    cr_assert_eq(first->offset, (int64_t)(before + arrivals[29].records));
    rig_stop();
}

Test(integrity, a_refused_request_is_sent_again)
{
    run(ONE, (struct script_config){.error_request = 30, .service_ns = 100000});
    assert_totals(0, 0, 0, 0);
    assert_all_came();
    cr_assert_geq(rig.intervals.n.retries, 1);
    cr_assert_eq(rig.intervals.n.reconnects, 0);
    cr_assert_eq(rig.loader.course.out.error_code, 6);
    rig_stop();
}

/* Several are on their way, all of them come again, in order. */
Test(integrity, a_closed_connection_is_opened_again)
{
    run("rate=2000 linger.ms=0 batch.size=1",
        (struct script_config){.close_request = 300, .service_ns = 490000});
    assert_totals(0, 0, 0, 0);
    uint64_t sent = rig.intervals.n.intended;
    cr_assert_eq(rig.intervals.n.acked, sent);
    cr_assert_eq(rig.intervals.n.consumed_new, sent);
    cr_assert_geq(rig.intervals.n.retries, 1);
    cr_assert_eq(rig.intervals.n.reconnects, 1);
    cr_assert_neq(rig.loader.course.out.connection_rc, 0);
    cr_assert_eq(script_counters(rig.broker)->closed_requests, 1);
    rig_stop();
}

/* With acks=0 nobody is told: what was on its way is called failed, not lost. */
Test(integrity, acks_0)
{
    run(ONE "acks=0", (struct script_config){.service_ns = 100000});
    assert_totals(0, 0, 0, 0);
    assert_all_came();
    cr_assert_eq(hist_count(&rig.intervals.latency[LATENCY_ACK]), 0);
    cr_assert_eq(hist_count(&rig.intervals.latency[LATENCY_ACK_SEND]), 0);
    cr_assert_eq(hist_count(&rig.intervals.latency[LATENCY_E2E]), rig.intervals.n.acked);
    rig_stop();
}

/* The server is too slow for delivery.timeout.ms: given up, said so, and not lost besides. */
Test(integrity, what_is_given_up_is_failed_and_not_lost)
{
    rig_start(&(struct rig_config){.settings =
                                       "rate=1000 linger.ms=0 batch.size=1 delivery.timeout.ms=500",
                                   .script = {.rate_per_s = 300},
                                   .consume = CONSUME_TAIL});
    rig_begin();
    rig_run(5 * SECOND);
    rig_drain(20 * SECOND);
    rig_end();
    cr_assert_gt(rig.intervals.n.failed, 1000);
    cr_assert_eq(rig.intervals.n.failed + rig.intervals.n.acked, rig.intervals.n.intended);
    cr_assert_eq(rig.intervals.n.consumed_new, rig.intervals.n.acked);
    assert_totals(0, 0, 0, 0);
    rig_stop();
}

/* The end comes before the answers: nobody knows of these records, so they are not called lost. */
Test(integrity, what_is_unfinished_is_not_lost)
{
    rig_start(&(struct rig_config){.settings = "rate=1000 linger.ms=0 batch.size=3000 "
                                               "buffer.memory=65536 partitions=3 producers=2",
                                   .script = {.rate_per_s = 300},
                                   .consume = CONSUME_TAIL});
    rig_begin();
    rig_run(2 * SECOND);
    rig_drain(100 * MS);
    rig_end();
    uint64_t unfinished = atomic_load(&rig.loader.course.out.unfinished);
    cr_assert_gt(unfinished, 1000);
    cr_assert_eq(unfinished + rig.intervals.n.acked, rig.intervals.n.intended);
    assert_totals(0, 0, 0, 0);
    rig_stop();
}

/* The answer is here, the record is not read yet: nothing more is sent, so that it can be. */
Test(integrity, what_is_cut_short_is_read_all_the_same)
{
    for (unsigned extra = 0; extra < 20; extra++) {
        rig_start(&(struct rig_config){.settings = "rate=1000 linger.ms=0 partitions=2",
                                       .script = {.rate_per_s = 300},
                                       .net = {.latency_ns = 3 * MS},
                                       .consume = CONSUME_TAIL});
        rig_begin();
        rig_run(SECOND);
        rig_drain(100 * MS + extra * MS);
        rig_stage(LOADER_CUT);
        rig_run(SECOND);
        rig_end();
        cr_assert_gt(atomic_load(&rig.loader.course.out.unfinished), 500);
        cr_assert_eq(rig.intervals.n.consumed_new, rig.intervals.n.acked);
        assert_totals(0, 0, 0, 0);
        cr_assert_eq(rig.loader.course.out.verify.unread, 0);
        rig_stop();
    }
}

/* More than so many; of the rest one is lost. */
static void assert_unread(uint64_t least)
{
    uint64_t unread = rig.loader.course.out.verify.unread;
    cr_assert_gt(unread, least);
    cr_assert_eq(rig.intervals.n.consumed_new + unread + 1, rig.intervals.n.acked);
    assert_totals(1, 0, 0, 0);
}

/* Consumers that are behind have not lost what they have not come to. */
Test(integrity, what_was_not_read_is_unread_and_not_lost)
{
    rig_start(&(struct rig_config){
        .settings = "rate=2000 linger.ms=0 batch.size=1 max.partition.fetch.bytes=1",
        .net = {.latency_ns = MS},
        .script = {.lose_record = 100},
        .consume = CONSUME_TAIL});
    rig_begin();
    rig_run(SECOND);
    rig_drain(SECOND);
    rig_end();
    assert_unread(500);
    assert_incident(INCIDENT_LOST, 0, 99, 0, 99, 1);
    rig_stop();
}

/* Nor are the last ones that were acknowledged, when the server is gone before they are fetched. */
Test(integrity, what_cannot_be_read_any_more_is_unread_and_not_lost)
{
    rig_start(&(struct rig_config){
        .settings = "rate=2000 linger.ms=0 batch.size=1 request.timeout.ms=300",
        .net = {.latency_ns = 5 * MS},
        .script = {.lose_record = 100, .freeze_first_ns = 507 * MS, .freeze_ns = 100 * SECOND},
        .consume = CONSUME_TAIL});
    rig_begin();
    rig_run(600 * MS);
    net_sim_refuse(rig.env, true);
    rig_run(400 * MS);
    rig_drain(SECOND);
    rig_end();
    assert_unread(0);
    rig_stop();
}

/* But what was acknowledged and is not there is, also then. */
Test(integrity, a_loss_among_unfinished_records_is_seen)
{
    rig_start(&(struct rig_config){.settings = "rate=1000 linger.ms=0 batch.size=3000",
                                   .script = {.rate_per_s = 300, .lose_record = 200},
                                   .consume = CONSUME_TAIL});
    rig_begin();
    rig_run(2 * SECOND);
    rig_drain(100 * MS);
    rig_end();
    cr_assert_gt(atomic_load(&rig.loader.course.out.unfinished), 1000);
    assert_totals(1, 0, 0, 0);
    assert_incident(INCIDENT_LOST, 0, 199, 0, 199, 1);
    rig_stop();
}

/* ---- others that read ---- */

/* What lies in the topic, read from its start by a run that has not made it. */
Test(integrity, reading_from_the_start_finds_the_same)
{
    static const char settings[] = "rate=1000 linger.ms=5 partitions=3 partitioner=roundrobin "
                                   "topic.reuse=true producers=2 consumers=2";
    rig_start(&(struct rig_config){.settings = settings, .script = {.lose_record = 500}});
    rig_all(SECOND);
    uint64_t made = rig.intervals.n.acked;
    rig_restart(&(struct rig_config){
        .settings = settings, .consume = CONSUME_FROM_START, .only_consume = true});
    rig_begin();
    for (int i = 0; i < 1000 && !atomic_load(&rig.loader.course.out.consumers_done); i++)
        rig_run(MS);
    rig_drain(SECOND);
    rig_end();
    cr_assert(atomic_load(&rig.loader.course.out.consumers_done));
    cr_assert_eq(rig.intervals.n.consumed, made - 1);
    assert_totals(1, 0, 0, 0);
    rig_stop();
}

/* A warm-up of no length may be over before a load thread looks. */
Test(integrity, late_consumers_start_though_their_stage_was_not_seen)
{
    rig_start(&(struct rig_config){.settings = "rate=1000 linger.ms=5",
                                   .net = {.latency_ns = MS},
                                   .consume = CONSUME_TAIL,
                                   .late_loop = true,
                                   .late_stage = LOADER_LOAD});
    rig_stage(LOADER_LOAD + 1);
    rig_run(SECOND);
    rig_drain(SECOND);
    rig_end();
    cr_assert_gt(rig.intervals.n.late_consumed, 900);
    rig_stop();
}

/* A late consumer replays while others tail; it has an account of its own. */
Test(integrity, a_late_consumer_reads_all_of_it)
{
    rig_start(&(struct rig_config){.settings = "rate=1000 linger.ms=5 late.consumers=2",
                                   .script = {.repeat_record = 500},
                                   .consume = CONSUME_TAIL,
                                   .late_stage = LOADER_LOAD + 1});
    rig_begin();
    rig_run(2 * SECOND);
    cr_assert_eq(rig.intervals.n.late_consumed, 0);
    rig_stage(LOADER_LOAD + 1);
    rig_run(SECOND);
    cr_assert(atomic_load(&rig.loader.course.out.late_done));
    rig_drain(SECOND);
    rig_end();
    cr_assert_geq(rig.intervals.n.late_consumed, 2 * 1990);
    assert_totals(0, 1, 0, 0);
    cr_assert_eq(rig.loader.course.out.late_verify.totals[INCIDENT_REPEATED], 2);
    cr_assert_eq(rig.loader.course.out.late_verify.totals[INCIDENT_LOST], 0);
    rig_stop();
}
