#include "tests/unit/bench/load/load_rig.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

enum { SETTINGS_BYTES = 1000, TURNS_MAX = 50 * 1000 * 1000 };

struct rig rig;

static void on_interval(void *arg, const struct load_stats *interval)
{
    (void)arg;
    load_stats_add(&rig.intervals, interval);
    rig.intervals_n++;
}

static void settings_take(const char *settings)
{
    char text[SETTINGS_BYTES], *at = text, *pair, reason[300];
    cr_assert_lt(strlen(settings), sizeof(text));
    strcpy(text, settings);
    workload_init(&rig.workload);
    while ((pair = strsep(&at, " ")) != NULL) {
        if (*pair == '\0')
            continue;
        char *equals = strchr(pair, '=');
        cr_assert_not_null(equals, "%s", pair);
        *equals = '\0';
        int rc = workload_set(&rig.workload, pair, equals + 1, reason, sizeof(reason));
        cr_assert_eq(rc, 0, "%s", reason);
    }
    cr_assert_eq(workload_check(&rig.workload, reason, sizeof(reason)), 0, "%s", reason);
}

static void topic_make(void)
{
    static struct cluster c;
    int rc = cluster_open(&c, rig.env, "127.0.0.1:9092", SECOND);
    if (rc == 0)
        rc = cluster_topic_make(&c, &rig.workload);
    cr_assert_eq(rc, 0, "%s", c.reason);
    cluster_close(&c);
}

static void loader_start(const struct rig_config *config)
{
    char reason[700];
    struct loader_config c = {.workload = &rig.workload,
                              .bootstrap = "127.0.0.1:9092",
                              .parts = 1,
                              .run = RIG_RUN,
                              .produce = !config->only_consume,
                              .consume = config->consume,
                              .late_stage = config->late_stage,
                              .late_loop = config->late_loop,
                              .records_max = config->records_max,
                              .stage = &rig.stage,
                              .on_interval = on_interval};
    atomic_store(&rig.stage, LOADER_CONNECT);
    cr_assert_eq(load_stats_init(&rig.intervals), 0);
    rig.intervals_n = 0;
    int rc = loader_create(&rig.loader, rig.env, &c, reason, sizeof(reason));
    cr_assert_eq(rc, 0, "%s", reason);
}

static void loader_stop(void)
{
    loader_destroy(&rig.loader);
    load_stats_fini(&rig.intervals);
    produced_fini(&rig.produced);
}

void rig_start(const struct rig_config *config)
{
    struct script_config script = config->script;
    settings_take(config->settings);
    script.port = RIG_PORT;
    script.keep_arrivals = true;
    rig.broker = script_create(&script);
    rig.env = net_sim_create(&config->net, rig.broker, RIG_PORT);
    topic_make();
    loader_start(config);
}

void rig_restart(const struct rig_config *config)
{
    loader_stop();
    settings_take(config->settings);
    loader_start(config);
}

void rig_stop(void)
{
    loader_stop();
    env_destroy(rig.env);
    script_destroy(rig.broker);
}

void rig_settle(void)
{
    uint64_t was;
    do {
        was = rig.env->counters.completions;
        env_turn(rig.env, env_now_ns(rig.env));
    } while (rig.env->counters.completions != was);
}

void rig_stage(int stage)
{
    rig_settle(); /* an event of the schedule that lies on the boundary comes after it */
    atomic_store(&rig.stage, stage);
    for (int i = 0; rig.loader.course.stage != stage; i++) {
        cr_assert_lt(i, 3, "the stage is not seen");
        loader_turn(&rig.loader);
    }
}

void rig_begin(void)
{
    rig_stage(LOADER_LOAD);
}

void rig_run(uint64_t ns)
{
    uint64_t until_ns = env_now_ns(rig.env) + ns;
    for (unsigned i = 0; env_now_ns(rig.env) < until_ns; i++) {
        cr_assert_lt(i, TURNS_MAX, "no time passes");
        loader_turn(&rig.loader);
    }
}

static bool is_drained(void)
{
    struct load_outcome *out = &rig.loader.course.out;
    bool consumed =
        rig.loader.course.config.consume != CONSUME_TAIL ||
        atomic_load(&out->consumed_new) >= rig.workload.fan_out * atomic_load(&out->acked);
    return atomic_load(&out->unfinished) == 0 && consumed;
}

void rig_drain(uint64_t max_ns)
{
    rig_stage(LOADER_DRAIN);
    uint64_t until_ns = env_now_ns(rig.env) + max_ns;
    while (!is_drained() && env_now_ns(rig.env) < until_ns)
        loader_turn(&rig.loader);
}

void rig_end(void)
{
    atomic_store(&rig.stage, LOADER_END);
    while (loader_turn(&rig.loader))
        ;
    cr_assert_eq(loader_produced(&rig.loader, &rig.produced), 0);
    produced_sort(&rig.produced);
    loader_verify(&rig.loader, &rig.produced);
}

void rig_all(uint64_t ns)
{
    rig_begin();
    rig_run(ns);
    rig_drain(60 * SECOND);
    rig_end();
}

/* ---- exact figures ---- */

uint64_t rig_highest_equivalent(uint64_t value)
{
    uint64_t step = 1;
    while (value / step >= 2048)
        step *= 2;
    return value / step * step + step - 1;
}

static int u64_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* ceil(p n / 100) in whole numbers: p has three decimals here. */
uint64_t rig_percentile(const uint64_t *sorted, size_t n, double percentile)
{
    uint64_t thousandths = (uint64_t)(percentile * 1000 + 0.5);
    uint64_t rank = (thousandths * n + 99999) / 100000;
    return sorted[MAX(rank, 1) - 1];
}

void rig_assert_latencies(const struct hist *h, uint64_t *exact, size_t n)
{
    static const double percentiles[] = {25, 50, 75, 90, 95, 99, 99.9, 99.99, 99.999, 100};
    cr_assert_eq(hist_count(h), n, "%zu latencies, not %zu", (size_t)hist_count(h), n);
    cr_assert_gt(n, 0);
    qsort(exact, n, sizeof(*exact), u64_compare);
    for (unsigned i = 0; i < ARRAY_LEN(percentiles); i++) {
        uint64_t value = rig_percentile(exact, n, percentiles[i]);
        uint64_t got = hist_value_at_percentile(h, percentiles[i]);
        cr_assert_eq(got, rig_highest_equivalent(value), "p%g is %zu, not %zu", percentiles[i],
                     (size_t)got, (size_t)value);
    }
    size_t at = 0;
    for (struct hist_iter it = hist_iter(h); hist_iter_next(&it);)
        for (uint64_t i = 0; i < it.count; i++, at++)
            cr_assert(it.lowest <= exact[at] && exact[at] <= it.highest,
                      "the %zuth latency is %zu, not %zu", at, (size_t)it.highest,
                      (size_t)exact[at]);
    cr_assert_eq(h->saturated, 0);
}

/* The end of the freeze that t lies in, or t. */
static uint64_t thaw(const struct queue *q, uint64_t t)
{
    if (q->freeze_ns == 0 || t < q->first_ns + q->freeze_first_ns)
        return t;
    uint64_t into = (t - q->first_ns - q->freeze_first_ns) % q->freeze_every_ns;
    return into < q->freeze_ns ? t - into + q->freeze_ns : t;
}

static uint64_t next_freeze(const struct queue *q, uint64_t t)
{
    uint64_t begin = q->first_ns + q->freeze_first_ns;
    while (q->freeze_ns > 0 && begin < t)
        begin += q->freeze_every_ns;
    return q->freeze_ns > 0 ? begin : UINT64_MAX;
}

uint64_t queue_serve(struct queue *q, uint64_t arrival_ns)
{
    uint64_t t = MAX(arrival_ns, q->free_ns), left = q->service_ns;
    for (;;) {
        t = thaw(q, t);
        uint64_t freeze = next_freeze(q, t);
        if (t + left <= freeze)
            break;
        left -= freeze - t;
        t = freeze;
    }
    q->free_ns = t + left;
    return q->free_ns;
}
