/* What the load client sends: when, in which batches, to which partitions, as real clients would.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/unit/bench/load/load_rig.h"
#include "tests/unit/bench/load/sim_client.h"

#define ALONE "batch.size=1 linger.ms=0 enable.idempotence=false "

static void run(const char *settings, struct script_config script, uint64_t ns)
{
    rig_start(&(struct rig_config){.settings = settings, .script = script});
    rig_all(ns);
    cr_assert_eq(rig.intervals.n.acked, rig.intervals.n.intended);
}

static const struct script_arrival *arrivals(size_t *ret_n)
{
    return script_arrivals(rig.broker, ret_n);
}

static uint64_t since_start(const struct script_arrival *a)
{
    return a->arrival_ns - rig.loader.course.start_ns;
}

/* ---- when ---- */

Test(traffic, a_constant_rate_reaches_the_wire)
{
    size_t n;
    run(ALONE "rate=3000", (struct script_config){0}, SECOND);
    const struct script_arrival *a = arrivals(&n);
    cr_assert_eq(n, rig.intervals.n.intended);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(since_start(&a[i]), (i * 2000000 + 3) / 6, "%zu", i); /* thirds, rounded */
    rig_stop();
}

Test(traffic, bursts_reach_the_wire)
{
    size_t n;
    run(ALONE "rate=1000 schedule=burst:25 max.in.flight.requests.per.connection=100",
        (struct script_config){0}, SECOND);
    const struct script_arrival *a = arrivals(&n);
    cr_assert_eq(n, rig.intervals.n.intended);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(since_start(&a[i]), i / 25 * 25 * MS);
    rig_stop();
}

/* From no rate to 2,000/s in 4 s: event k where 250 t^2 = k. */
Test(traffic, a_ramp_reaches_the_wire)
{
    size_t n;
    run(ALONE "rate=1000 schedule=ramp:0-2:4", (struct script_config){0}, 4 * SECOND);
    const struct script_arrival *a = arrivals(&n);
    cr_assert_geq(n, 4000);
    for (size_t i = 0; i < 4000; i++) {
        double t = sqrt((double)i / 250) * 1e9;
        cr_assert_float_eq((double)since_start(&a[i]), t, 1, "%zu", i);
    }
    rig_stop();
}

/* Exponential gaps: their deviation is their mean. */
Test(traffic, a_poisson_process_reaches_the_wire)
{
    size_t n;
    double sum = 0, squares = 0;
    run(ALONE "rate=2000 schedule=poisson max.in.flight.requests.per.connection=100",
        (struct script_config){0}, 20 * SECOND);
    const struct script_arrival *a = arrivals(&n);
    cr_assert_float_eq((double)n, 40000, 5 * sqrt(40000));
    for (size_t i = 1; i < n; i++) {
        double gap = (double)(a[i].arrival_ns - a[i - 1].arrival_ns) / 1e6;
        sum += gap;
        squares += gap * gap;
    }
    double mean = sum / (double)(n - 1), variance = squares / (double)(n - 1) - mean * mean;
    cr_assert_float_eq(mean, 0.5, 0.015);
    cr_assert_float_eq(sqrt(variance), 0.5, 0.02);
    rig_stop();
}

/* ---- in which batches ---- */

/* A batch waits 5 ms from its first record: it takes those of 0 to 5 ms, six of them. */
Test(traffic, linger_fills_batches)
{
    size_t n;
    run("rate=1000 linger.ms=5", (struct script_config){0}, SECOND);
    const struct script_arrival *a = arrivals(&n);
    cr_assert_eq(n, (rig.intervals.n.intended + 5) / 6);
    for (size_t i = 0; i + 1 < n; i++) {
        cr_assert_eq(a[i].records, 6);
        cr_assert_eq(since_start(&a[i]), (6 * i + 5) * MS);
    }
    rig_stop();
}

/* The intended time counts, not that at which the batch was full or sent: 5, 4, .. 0 ms. */
Test(traffic, linger_is_part_of_the_latency)
{
    static uint64_t exact[5000];
    run("rate=1000 linger.ms=5", (struct script_config){.service_ns = 300000}, 6 * 100 * MS);
    size_t n = rig.intervals.n.intended;
    for (size_t i = 0; i < n; i++)
        exact[i] = (5 - i % 6) * MS + 300000;
    rig_assert_latencies(&rig.loader.course.out.recorder.windows[0].latency[LATENCY_ACK], exact, n);
    for (size_t i = 0; i < n; i++)
        exact[i] = 300000;
    rig_assert_latencies(&rig.loader.course.out.recorder.windows[0].latency[LATENCY_ACK_SEND],
                         exact, n);
    rig_stop();
}

/* Full at 16 KiB, long before the 500 ms are over. */
Test(traffic, batches_are_sent_when_they_are_full)
{
    size_t n;
    run("rate=20000 linger.ms=500 record.size=1000", (struct script_config){0}, SECOND);
    const struct script_arrival *a = arrivals(&n);
    for (size_t i = 0; i + 1 < n; i++)
        cr_assert(a[i].record_bytes <= 16384 && a[i].record_bytes > 16384 - 2 * 1024, "%zu",
                  (size_t)a[i].record_bytes);
    cr_assert_geq(n, 20000 / 16);
    rig_stop();
}

/* While two requests are on their way the next batch goes on filling. */
Test(traffic, in_flight_requests_are_limited)
{
    size_t n;
    run("rate=1000 linger.ms=0 max.in.flight.requests.per.connection=2",
        (struct script_config){.service_ns = 20 * MS}, SECOND);
    const struct script_arrival *a = arrivals(&n);
    cr_assert_eq(script_counters(rig.broker)->backlog_max, 2);
    cr_assert_eq(a[0].records, 1);
    cr_assert_eq(a[1].records, 1);
    for (size_t i = 2; i + 1 < n; i++) {
        cr_assert_eq(a[i].arrival_ns, a[i - 2].due_ns);
        cr_assert(a[i].record_bytes > 14000 || a[i].records >= 15, "%zu", (size_t)a[i].records);
    }
    rig_stop();
}

Test(traffic, requests_take_a_batch_of_each_partition_and_no_more_than_max_request_size)
{
    size_t n, full = 0;
    run("rate=20000 linger.ms=2 partitions=50 partitioner=roundrobin max.request.size=20000 "
        "record.size=500 batch.size=2000 max.in.flight.requests.per.connection=1",
        (struct script_config){.service_ns = 3 * MS}, SECOND);
    const struct script_arrival *a = arrivals(&n);
    for (size_t i = 0; i < n; i++) {
        cr_assert_leq(a[i].record_bytes, 20000);
        full += a[i].record_bytes > 15000;
    }
    cr_assert_gt(full, n / 2);
    cr_assert_gt(rig.intervals.n.batches, 2 * rig.intervals.n.requests);
    cr_assert_eq(rig.intervals.n.requests, n);
    cr_assert_gt(rig.intervals.n.request_bytes, script_counters(rig.broker)->record_bytes);
    rig_stop();
}

/* ---- to which partitions ---- */

/* Reads partition 0 of the topic as another client would. */
struct seen {
    size_t n;
    struct {
        char key[20];
        int len;
    } records[40000];
};

static void partition_0_read(struct seen *seen)
{
    static struct client client;
    int64_t offset = 0, end = 1;
    seen->n = 0;
    client_open(&client, rig.env);
    while (offset < end) {
        const struct fetch_response *res =
            client_await(&client, client_fetch(&client, offset, 0, 0));
        const struct fetch_response_partition_data *part = &res->responses[0].partitions[0];
        const uint8_t *at = part->records.data, *stop = at + part->records.len;
        struct batch_header h;
        cr_assert_eq(part->error_code, 0);
        end = part->high_watermark;
        for (; at < stop; at += h.len_bytes) {
            struct batch_iter *iter;
            struct batch_record r;
            cr_assert_eq(batch_peek(at, (size_t)(stop - at), &h), 0);
            cr_assert_eq(batch_iter_open(&iter, at, h.len_bytes), 0);
            while (batch_iter_next(iter, &r) > 0) {
                cr_assert_lt(seen->n, ARRAY_LEN(seen->records));
                seen->records[seen->n].len = r.key_len;
                if (r.key_len > 0)
                    memcpy(seen->records[seen->n].key, r.key, (size_t)MIN(r.key_len, 20));
                seen->n++;
            }
            batch_iter_close(iter);
            offset = batch_last_offset(&h) + 1;
        }
    }
    client_close(&client);
}

/* As org.apache.kafka.common.utils.Utils.murmur2 does it, byte by byte. */
static int32_t java_murmur2(const char *data, uint32_t len)
{
    const uint32_t m = 0x5bd1e995u;
    uint32_t h = 0x9747b28cu ^ len, i = 0;
    const uint8_t *p = (const uint8_t *)data;
    for (; len - i >= 4; i += 4) {
        uint32_t k = p[i] + ((uint32_t)p[i + 1] << 8) + ((uint32_t)p[i + 2] << 16) +
                     ((uint32_t)p[i + 3] << 24);
        k *= m;
        k ^= k >> 24;
        k *= m;
        h *= m;
        h ^= k;
    }
    if (len - i >= 3)
        h ^= (uint32_t)p[i + 2] << 16;
    if (len - i >= 2)
        h ^= (uint32_t)p[i + 1] << 8;
    if (len - i >= 1) {
        h ^= p[i];
        h *= m;
    }
    h ^= h >> 13;
    h *= m;
    h ^= h >> 15;
    return (int32_t)h;
}

static int32_t java_partition(const char *key, uint32_t len, int32_t partitions)
{
    return (java_murmur2(key, len) & 0x7fffffff) % partitions;
}

/* The cases of Kafka's own UtilsTest.testMurmur2. */
Test(traffic, the_hash_that_keys_are_held_against_is_kafkas)
{
    static const struct {
        const char *key;
        int32_t hash;
    } cases[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
        cr_assert_eq(java_murmur2(cases[i].key, (uint32_t)strlen(cases[i].key)), cases[i].hash,
                     "%s", cases[i].key);
}

/* Every key of partition 0 belongs there, and every key that does is there. The lengths leave 0 to
 * 3 bytes behind the last whole word. */
Test(traffic, keys_go_where_kafkas_partitioner_puts_them)
{
    static struct seen seen;
    for (uint32_t len = 8; len < 12; len++) {
        char settings[200], key[16];
        bool there[300] = {false};
        snprintf(settings, sizeof(settings),
                 "rate=5000 topic=t partitions=7 partitioner=keyed keys=300 key.size=%u", len);
        run(settings, (struct script_config){0}, SECOND);
        partition_0_read(&seen);
        for (size_t i = 0; i < seen.n; i++) {
            cr_assert_eq(seen.records[i].len, (int)len);
            seen.records[i].key[len] = '\0';
            cr_assert_eq(java_partition(seen.records[i].key, len, 7), 0);
            there[strtoul(seen.records[i].key, NULL, 10)] = true;
        }
        for (unsigned k = 0; k < 300; k++) { /* 5,000 draws leave one out with chance 2e-5 */
            snprintf(key, sizeof(key), "%0*u", (int)len, k);
            cr_assert_eq(there[k], java_partition(key, len, 7) == 0, "%s", key);
        }
        rig_stop();
    }
}

Test(traffic, round_robin_gives_each_partition_the_same)
{
    static struct seen seen;
    run("rate=5000 topic=t partitions=5 partitioner=roundrobin", (struct script_config){0}, SECOND);
    partition_0_read(&seen);
    cr_assert_eq(seen.n, rig.intervals.n.intended / 5);
    cr_assert_eq(seen.records[0].len, -1, "no keys");
    rig_stop();
}

/* A batch's worth to one partition, then to another by chance: full batches at a linger that would
 * give each of the partitions half of one; about a fifth of all to each. */
Test(traffic, sticky_fills_a_batch_before_it_moves_on)
{
    static struct seen seen;
    size_t n;
    run("rate=15000 topic=t partitions=5 record.size=1000 linger.ms=3", (struct script_config){0},
        5 * SECOND);
    arrivals(&n);
    cr_assert_gt(rig.intervals.n.acked / rig.intervals.n.batches, 10);
    partition_0_read(&seen);
    double share = (double)seen.n / (double)rig.intervals.n.acked;
    cr_assert_float_eq(share, 0.2, 0.04, "%g", share);
    rig_stop();
}

/* ---- many ---- */

Test(traffic, a_thousand_producers_and_a_hundred_consumers)
{
    rig_start(&(struct rig_config){.settings = "rate=20000 producers=1000 consumers=100 "
                                               "partitions=100 record.size=100 linger.ms=5",
                                   .net = {.latency_ns = 100000},
                                   .consume = CONSUME_TAIL});
    cr_assert_geq(script_counters(rig.broker)->connections, 1100);
    rig_all(2 * SECOND);
    const struct verify_log *log = &rig.loader.course.out.verify;
    cr_assert_geq(rig.intervals.n.acked, 40000);
    cr_assert_eq(rig.intervals.n.consumed_new, rig.intervals.n.acked);
    cr_assert_eq(log->incidents_n, 0);
    cr_assert_eq(log->foreign, 0);
    rig_stop();
}

/* The producers and consumers of a run, dealt to three threads: each is there once. */
Test(traffic, parts_share_the_load)
{
    rig_start(&(struct rig_config){.settings = "rate=300 producers=7 topic=t partitions=2"});
    unsigned producers = 0, consumers = 0;
    bool there[7] = {false};
    for (unsigned part = 0; part < 3; part++) {
        static struct loader l;
        struct loader_config c = rig.loader.course.config;
        char reason[700];
        c.part = part;
        c.parts = 3;
        c.consume = CONSUME_TAIL;
        rig.workload.consumers = 4;
        rig.workload.fan_out = 2;
        cr_assert_eq(loader_create(&l, rig.env, &c, reason, sizeof(reason)), 0, "%s", reason);
        producers += l.course.producers_n;
        consumers += l.consumers_n;
        struct produced made = {0};
        cr_assert_eq(loader_produced(&l, &made), 0);
        for (size_t i = 0; i < made.ends_n; i++) {
            cr_assert_eq(made.ends[i].producer % 3, part);
            there[made.ends[i].producer] = true;
        }
        produced_fini(&made);
        loader_destroy(&l);
    }
    cr_assert_eq(producers, 7);
    cr_assert_eq(consumers, 8);
    for (unsigned i = 0; i < 7; i++)
        cr_assert(there[i]);
    rig_stop();
}

/* A closed loop that is told how many records to make makes so many. */
Test(traffic, a_limited_closed_loop_makes_so_many_records)
{
    rig_start(
        &(struct rig_config){.settings = "rate=max producers=3 partitions=2", .records_max = 5000});
    rig_begin();
    rig_run(MS);
    rig_drain(10 * SECOND);
    rig_end();
    cr_assert_eq(rig.intervals.n.acked, 5000);
    cr_assert_eq(script_counters(rig.broker)->stored_records, 5000);
    rig_stop();
}
