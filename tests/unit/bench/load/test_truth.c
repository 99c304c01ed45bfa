/* What the load harness says about a server whose behaviour is known, on virtual time: its
 * histograms are those that arithmetic gives, value for value, within their three digits. Each
 * test computes the latency of every record from first principles. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "tests/unit/bench/load/load_rig.h"

/* Each record is a request of its own, sent when it is intended. */
#define ALONE "batch.size=1 linger.ms=0 enable.idempotence=false "
#define UNLIMITED ALONE "max.in.flight.requests.per.connection=1000 "

enum { EXACT_MAX = 200000 };
static uint64_t exact[EXACT_MAX];

static const struct hist *measured(unsigned window, enum load_latency kind)
{
    return &rig.loader.course.out.recorder.windows[window].latency[kind];
}

static uint64_t began(unsigned window)
{
    return rig.loader.course.out.recorder.windows[window].from_ns;
}

static uint64_t ended(unsigned window)
{
    return rig.loader.course.out.recorder.windows[window].to_ns;
}

/* Events of a constant rate in [from, to) of the run's time. */
static size_t events_between(uint64_t from_ns, uint64_t to_ns, uint64_t gap_ns)
{
    return (size_t)((to_ns + gap_ns - 1) / gap_ns - (from_ns + gap_ns - 1) / gap_ns);
}

static size_t intended_in_window(unsigned window, uint64_t gap_ns)
{
    return events_between(began(window) - rig.loader.course.start_ns,
                          ended(window) - rig.loader.course.start_ns, gap_ns);
}

/* ---- a fixed service time ---- */

Test(truth, each_latency_is_the_service_time)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=1000",
                                   .script = {.service_ns = 400000},
                                   .net = {.latency_ns = 50000}});
    rig_all(10 * SECOND);
    size_t n = intended_in_window(0, MS);
    cr_assert_geq(n, 10000);
    for (size_t i = 0; i < n; i++)
        exact[i] = 500000;
    rig_assert_latencies(measured(0, LATENCY_ACK), exact, n);
    rig_assert_latencies(measured(0, LATENCY_ACK_SEND), exact, n);
    for (size_t i = 0; i < n; i++)
        exact[i] = 0;
    rig_assert_latencies(measured(0, LATENCY_LATE), exact, n);
    const struct load_counts *counts = &rig.loader.course.out.recorder.windows[0].n;
    cr_assert_eq(counts->intended, n);
    cr_assert_eq(counts->sent, n);
    cr_assert_eq(script_counters(rig.broker)->records, n);
    cr_assert_eq(rig.intervals.n.acked, n);
    cr_assert_eq(rig.intervals.n.acked_bytes, n * 1024);
    cr_assert_eq(hist_count(&rig.intervals.latency[LATENCY_ACK]), n);
    rig_stop();
}

/* A record is received one link latency after it is in the log. */
Test(truth, end_to_end_is_the_way_there_and_on)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=500",
                                   .script = {.service_ns = 700000},
                                   .net = {.latency_ns = 30000},
                                   .consume = CONSUME_TAIL});
    rig_all(5 * SECOND);
    size_t n = intended_in_window(0, 2 * MS);
    for (size_t i = 0; i < n; i++)
        exact[i] = 760000;
    rig_assert_latencies(measured(0, LATENCY_E2E), exact, n);
    rig_stop();
}

/* Bursts of 40 every 50 ms, each record needs 1 ms: the k-th of a burst waits k ms. */
Test(truth, a_burst_waits_in_line)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=800 schedule=burst:40",
                                   .script = {.service_ns = MS}});
    rig_all(10 * SECOND);
    size_t bursts = intended_in_window(0, 50 * MS), n = bursts * 40;
    for (size_t i = 0; i < n; i++)
        exact[i] = (i % 40 + 1) * MS;
    rig_assert_latencies(measured(0, LATENCY_ACK), exact, n);
    rig_stop();
}

/* ---- a server that stands still for a second in every ten ---- */

/* A client that sends the next record when the last one is answered, for so long: the latencies it
 * would report of the same server. */
static size_t closed_loop(struct queue q, uint64_t seconds)
{
    size_t n = 0;
    uint64_t t = q.first_ns, end_ns = q.first_ns + seconds * SECOND;
    while (t < end_ns) {
        uint64_t done = queue_serve(&q, t);
        exact[n++] = done - t;
        t = done;
    }
    return n;
}

/* 1,000 records/s, 0.5 ms each, frozen from 4 s to 5 s and from 14 s to 15 s of 20 s. A freeze
 * meets 1,000 records; at 2,000/s it takes another second to catch up with them and the 1,000 that
 * come meanwhile. So 4,000 of 20,000 records wait, evenly between 0.5 ms and 1,000.5 ms: above
 * p80 lies what a closed loop does not see. Its sends wait for the server, so that it meets
 * each freeze with one record: 36,000 records, of which 2 are slow, p99.99 = 0.5 ms. */
static const struct queue freezing = {.service_ns = 500000,
                                      .freeze_first_ns = 4 * SECOND,
                                      .freeze_every_ns = 10 * SECOND,
                                      .freeze_ns = SECOND};

static const struct script_config freezing_script = {.service_ns = 500000,
                                                     .freeze_first_ns = 4 * SECOND,
                                                     .freeze_every_ns = 10 * SECOND,
                                                     .freeze_ns = SECOND};

/* The latencies of the window's records from their intended times. */
static size_t freezing_arithmetic(unsigned window, uint64_t gap_ns)
{
    struct queue q = freezing;
    uint64_t start_ns = rig.loader.course.start_ns;
    size_t n = 0;
    q.first_ns = start_ns;
    for (uint64_t t = start_ns; t < ended(window); t += gap_ns) {
        uint64_t done = queue_serve(&q, t);
        if (t >= began(window))
            exact[n++] = done - t;
    }
    return n;
}

static void assert_freezes_are_seen(void)
{
    size_t n = freezing_arithmetic(0, MS);
    rig_assert_latencies(measured(0, LATENCY_ACK), exact, n);
    /* The figures of the comment above, in round numbers. */
    cr_assert_eq(hist_value_at_percentile(measured(0, LATENCY_ACK), 75),
                 rig_highest_equivalent(500000));
    uint64_t p90 = hist_value_at_percentile(measured(0, LATENCY_ACK), 90);
    uint64_t p99 = hist_value_at_percentile(measured(0, LATENCY_ACK), 99);
    cr_assert(p90 > 495 * MS && p90 < 505 * MS, "p90 %g ms", (double)p90 / 1e6);
    cr_assert(p99 > 945 * MS && p99 < 955 * MS, "p99 %g ms", (double)p99 / 1e6);
}

Test(truth, a_freeze_is_seen_by_every_record_that_it_meets)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=1000", .script = freezing_script});
    rig_all(20 * SECOND);
    assert_freezes_are_seen();
    rig_stop();
}

/* The same run with one request in flight, as a closed loop sends: the wait is in the producer, and
 * the time from the actual send leaves it out: p99 is 0.5 ms beside 950 ms, 1,900 times less. */
Test(truth, a_closed_loop_hides_the_freeze_that_we_see)
{
    rig_start(
        &(struct rig_config){.settings = ALONE "rate=1000 max.in.flight.requests.per.connection=1",
                             .script = freezing_script});
    rig_all(20 * SECOND);
    assert_freezes_are_seen();
    const struct hist *send = measured(0, LATENCY_ACK_SEND);
    uint64_t seen = hist_value_at_percentile(measured(0, LATENCY_ACK), 99);
    cr_assert_eq(hist_value_at_percentile(send, 99), rig_highest_equivalent(500000));
    cr_assert_eq(hist_value_at_percentile(send, 99.9), rig_highest_equivalent(500000));
    cr_assert_gt(seen, 1800 * hist_value_at_percentile(send, 99));
    /* One record of each freeze was on its way. */
    uint64_t slow = 0;
    for (struct hist_iter it = hist_iter(send); hist_iter_next(&it);)
        slow += it.lowest > MS ? it.count : 0;
    cr_assert_eq(slow, 2);
    rig_stop();
}

/* rate=max is a closed loop, and says what one says: nothing from intended times. */
Test(truth, rate_max_is_a_closed_loop_and_calls_nothing_an_ack_latency)
{
    rig_start(&(struct rig_config){.settings = ALONE "rate=max buffer.memory=65536 "
                                                     "max.in.flight.requests.per.connection=1",
                                   .script = freezing_script});
    rig_begin();
    rig_run(20 * SECOND);
    rig_drain(SECOND);
    rig_end();
    const struct hist *send = measured(0, LATENCY_ACK_SEND);
    cr_assert_eq(hist_count(measured(0, LATENCY_ACK)), 0);
    cr_assert_eq(hist_value_at_percentile(send, 99.99), rig_highest_equivalent(500000));
    size_t n = closed_loop((struct queue){.service_ns = 500000,
                                          .first_ns = rig.loader.course.start_ns,
                                          .freeze_first_ns = 4 * SECOND,
                                          .freeze_every_ns = 10 * SECOND,
                                          .freeze_ns = SECOND},
                           20);
    cr_assert_eq(n, 36000);
    cr_assert_eq(rig.loader.course.out.recorder.windows[0].n.acked / 50, n / 50);
    uint64_t slow = 0;
    for (struct hist_iter it = hist_iter(send); hist_iter_next(&it);)
        slow += it.lowest > MS ? it.count : 0;
    cr_assert_eq(slow, 2);
    rig_stop();
}

/* 2,000 batches lie in memory when it is told to end, and the server takes ten a second. */
Test(truth, a_closed_loop_forgets_what_it_never_sent)
{
    rig_start(&(struct rig_config){.settings = "rate=max record.size=1000 linger.ms=0",
                                   .script = {.service_ns = 100 * MS},
                                   .consume = CONSUME_TAIL});
    rig_begin();
    rig_run(SECOND);
    rig_drain(2 * SECOND);
    cr_assert_eq(atomic_load(&rig.loader.course.out.unfinished), 0);
    rig_end();
    uint64_t acked = rig.loader.course.out.recorder.total.acked;
    cr_assert_gt(acked, 0);
    cr_assert_eq(script_counters(rig.broker)->records, acked);
    cr_assert_eq(rig.loader.course.out.recorder.total.consumed_new, acked);
    for (unsigned i = 0; i < INCIDENT_KINDS; i++)
        cr_assert_eq(rig.loader.course.out.verify.totals[i], 0, "%s", incident_names[i]);
    rig_stop();
}

/* What a closed loop sends in a window is that window's, though it was made long before. */
Test(truth, a_closed_loop_has_latencies_in_each_window)
{
    rig_start(&(struct rig_config){.settings = ALONE "rate=max buffer.memory=65536 "
                                                     "max.in.flight.requests.per.connection=1",
                                   .script = {.service_ns = 100 * MS}});
    rig_begin();
    rig_run(2 * SECOND);
    rig_stage(LOADER_LOAD + 1);
    rig_run(2 * SECOND);
    rig_drain(60 * SECOND);
    rig_end();
    for (unsigned window = 0; window < 2; window++) {
        size_t n = hist_count(measured(window, LATENCY_ACK_SEND));
        cr_assert(n >= 20 && n <= 21, "%zu", n);
        for (size_t i = 0; i < n; i++)
            exact[i] = 100 * MS;
        rig_assert_latencies(measured(window, LATENCY_ACK_SEND), exact, n);
    }
    rig_stop();
}

/* The producer's memory is 64 KiB: in the freeze intended times wait outside of it, and are not
 * forgotten. */
Test(truth, full_memory_hides_nothing)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=1000 buffer.memory=65536",
                                   .script = freezing_script});
    rig_all(20 * SECOND);
    assert_freezes_are_seen();
    cr_assert_gt(rig.intervals.n.buffers_full_ns, SECOND);
    rig_stop();
}

/* ---- a server with a bounded rate ---- */

/* 2,000/s come, 1,000/s go: record k, intended at k / 2 ms, is done at k + 1 ms. */
Test(truth, an_overload_grows_without_end)
{
    rig_start(
        &(struct rig_config){.settings = UNLIMITED "rate=2000", .script = {.rate_per_s = 1000}});
    rig_begin();
    rig_run(10 * SECOND);
    rig_stage(LOADER_DRAIN);
    uint64_t end_ns = env_now_ns(rig.env);
    rig_end();
    size_t intended = intended_in_window(0, MS / 2);
    size_t done = (size_t)((end_ns - rig.loader.course.start_ns) / MS);
    const struct hist *h = measured(0, LATENCY_ACK);
    size_t n = hist_count(h);
    cr_assert(n >= done - 1 && n <= done + 25, "%zu of %zu", n, done);
    for (size_t k = 0; k < n; k++)
        exact[k] = (k + 1) * MS - k * MS / 2;
    rig_assert_latencies(h, exact, n);
    cr_assert_eq(rig.loader.course.out.recorder.windows[0].n.intended, intended);
    cr_assert_eq(atomic_load(&rig.loader.course.out.unfinished), intended - n);
    rig_stop();
}

/* What drains away afterwards is not the window's rate, but its latencies count. */
Test(truth, draining_does_not_mend_the_rate_of_the_window)
{
    rig_start(
        &(struct rig_config){.settings = UNLIMITED "rate=2000", .script = {.rate_per_s = 1000}});
    rig_all(10 * SECOND);
    size_t n = intended_in_window(0, MS / 2);
    for (size_t k = 0; k < n; k++)
        exact[k] = (k + 1) * MS - k * MS / 2;
    rig_assert_latencies(measured(0, LATENCY_ACK), exact, n);
    uint64_t acked = rig.loader.course.out.recorder.windows[0].n.acked;
    cr_assert(acked >= n / 2 - 30 && acked <= n / 2 + 30, "%zu of %zu", (size_t)acked, n);
    cr_assert_eq(rig.intervals.n.acked, n);
    rig_stop();
}

/* ---- windows ---- */

/* The boundary lies in the freeze: the records that were intended before it belong to the first
 * window, though all of them end in the second. */
Test(truth, a_record_belongs_to_the_window_it_was_intended_in)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=1000", .script = freezing_script});
    rig_begin();
    rig_run(4500 * MS);
    rig_stage(LOADER_LOAD + 1);
    rig_run(4500 * MS);
    rig_stage(LOADER_LOAD + 2);
    rig_run(4 * SECOND);
    rig_drain(SECOND);
    rig_end();
    for (unsigned window = 0; window < 3; window++) {
        size_t n = freezing_arithmetic(window, MS);
        rig_assert_latencies(measured(window, LATENCY_ACK), exact, n);
        cr_assert_eq(rig.loader.course.out.recorder.windows[window].n.intended, n);
        if (window < 2)
            cr_assert_eq(ended(window), began(window + 1));
    }
    cr_assert_gt(hist_max(measured(0, LATENCY_ACK)), 990 * MS);
    cr_assert_gt(hist_max(measured(1, LATENCY_ACK)), 500 * MS);
    cr_assert_eq(hist_max(measured(2, LATENCY_ACK)), rig_highest_equivalent(500000));
    rig_stop();
}

/* ---- the generator's own lateness ---- */

/* The client stands still for 100 ms: what was intended meanwhile is late, and says so. */
Test(truth, a_stall_of_the_generator_is_its_lateness_and_in_the_latencies)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=1000"});
    rig_begin();
    rig_run(SECOND);
    rig_settle();
    uint64_t stall_ns = env_now_ns(rig.env), stall_end_ns = stall_ns + 100 * MS;
    net_sim_advance(rig.env, 100 * MS);
    rig_run(SECOND);
    rig_drain(SECOND);
    rig_end();
    size_t n = intended_in_window(0, MS);
    for (size_t k = 0; k < n; k++) {
        uint64_t t = rig.loader.course.start_ns + k * MS;
        exact[k] = t > stall_ns && t < stall_end_ns ? stall_end_ns - t : 0;
    }
    rig_assert_latencies(measured(0, LATENCY_LATE), exact, n);
    rig_assert_latencies(measured(0, LATENCY_ACK), exact, n);
    rig_stop();
}

/* A warm-up of no length: its stage was over before the thread looked. */
Test(truth, a_stage_that_was_not_seen_keeps_its_window)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=1000"});
    rig_stage(LOADER_LOAD + 1);
    rig_run(SECOND);
    rig_drain(SECOND);
    rig_end();
    cr_assert_eq(rig.loader.course.out.recorder.windows_n, 2);
    cr_assert_eq(hist_count(measured(0, LATENCY_ACK)), 0);
    cr_assert_eq(began(0), ended(0));
    cr_assert_eq(hist_count(measured(1, LATENCY_ACK)), intended_in_window(1, MS));
    rig_stop();
}

/* It stands still when the load ends: the records of that time were intended all the same. */
Test(truth, what_a_stall_at_the_end_hid_is_still_sent)
{
    rig_start(&(struct rig_config){.settings = UNLIMITED "rate=1000"});
    rig_begin();
    rig_run(SECOND);
    net_sim_advance(rig.env, 100 * MS);
    rig_drain(SECOND);
    rig_end();
    size_t n = intended_in_window(0, MS);
    cr_assert_geq(n, 1100);
    cr_assert_eq(rig.intervals.n.intended, n);
    cr_assert_eq(rig.intervals.n.acked, n);
    uint64_t late = hist_max(measured(0, LATENCY_ACK));
    cr_assert(late >= 99 * MS, "%g ms", (double)late / 1e6);
    rig_stop();
}

/* ---- the same again ---- */

static void random_run(const char *settings, uint64_t net_seed, struct load_stats *ret)
{
    rig_start(&(struct rig_config){.settings = settings,
                                   .script = {.service_ns = 100000},
                                   .net = {.seed = net_seed, .latency_ns = 20000, .split = true},
                                   .consume = CONSUME_TAIL});
    rig_all(3 * SECOND);
    cr_assert_eq(load_stats_init(ret), 0);
    load_stats_add(ret, &rig.loader.course.out.recorder.windows[0]);
    rig_stop();
}

static bool same(const struct hist *a, const struct hist *b)
{
    struct hist_iter x = hist_iter(a), y = hist_iter(b);
    bool more = true;
    while (more) {
        more = hist_iter_next(&x);
        if (hist_iter_next(&y) != more || (more && (x.lowest != y.lowest || x.count != y.count)))
            return false;
    }
    return true;
}

Test(truth, the_same_seed_gives_the_same_histograms)
{
    static const char settings[] = "rate=3000 schedule=poisson keys=100 partitioner=keyed "
                                   "partitions=7 producers=5 consumers=2 fan.out=2";
    static const char other[] = "rate=3000 schedule=poisson keys=100 partitioner=keyed "
                                "partitions=7 producers=5 consumers=2 fan.out=2 seed=2";
    static struct load_stats a, b, c;
    random_run(settings, 3, &a);
    random_run(settings, 3, &b);
    random_run(other, 3, &c);
    for (unsigned i = 0; i < LATENCIES; i++)
        cr_assert(same(&a.latency[i], &b.latency[i]), "%s", load_latency_names[i]);
    cr_assert(!same(&a.latency[LATENCY_ACK], &c.latency[LATENCY_ACK]));
    a.n.cpu_ns = b.n.cpu_ns = 0; /* the only real time here */
    cr_assert_arr_eq(&a.n, &b.n, sizeof(a.n));
    load_stats_fini(&a);
    load_stats_fini(&b);
    load_stats_fini(&c);
}
