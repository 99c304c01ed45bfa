#include "bench/run.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "bench/run_private.h"
#include "bench/stat/hist_log.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "io/env_uring.h"

enum {
    COLLECT_LATE_NS = 60 * 1000 * 1000, /* intervals have come in by then */
    DRAIN_LOOK_NS = 10 * 1000 * 1000,
    CUT_QUIET_NS = 500 * 1000 * 1000,
    BROKER_TIMEOUT_S = 30,
    CONSUMERS_STUCK_S = 3,     /* nothing new for so long: what is missing will not come */
    REPLAY_DURATIONS_MAX = 20, /* a replay may take so many times duration.s */
    PRELOAD_MAX_S = 3600,
    STANDING_S = 5, /* log ends that have not moved for so long will not */
};

/* ---- what a run of each kind does ---- */

enum phase_end {
    END_STEADY,    /* the steady-state test, or warmup.max.s */
    END_DURATION,  /* duration.s */
    END_CONSUMED,  /* all consumers at the end, or duration.s */
    END_CAUGHT_UP, /* late consumers at the end, or a multiple of duration.s */
};

struct phase_plan {
    const char *name;
    enum phase_end end;
    bool measured;
};

struct kind_plan {
    const char *name;
    bool produce, preload;
    enum loader_consumption consume;
    const char *late_phase; /* in which late consumers start */
    bool late_loop;
    enum load_latency judged;
    struct phase_plan phases[4];
};

static const struct kind_plan kinds[] = {
    [RUN_PRODUCE] = {.name = "produce",
                     .produce = true,
                     .judged = LATENCY_ACK,
                     .phases = {{"warmup", END_STEADY, false}, {"measure", END_DURATION, true}}},
    [RUN_CONSUME] = {.name = "consume",
                     .consume = CONSUME_FROM_START,
                     .judged = LATENCY_E2E,
                     .phases = {{"measure", END_CONSUMED, true}}},
    [RUN_E2E] = {.name = "e2e",
                 .produce = true,
                 .consume = CONSUME_TAIL,
                 .judged = LATENCY_E2E,
                 .phases = {{"warmup", END_STEADY, false}, {"measure", END_DURATION, true}}},
    [RUN_MIXED] = {.name = "mixed",
                   .produce = true,
                   .preload = true,
                   .consume = CONSUME_TAIL,
                   .late_phase = "warmup",
                   .late_loop = true,
                   .judged = LATENCY_E2E,
                   .phases = {{"warmup", END_STEADY, false}, {"measure", END_DURATION, true}}},
    [RUN_REPLAY] = {.name = "replay",
                    .produce = true,
                    .preload = true,
                    .consume = CONSUME_TAIL,
                    .late_phase = "replay",
                    .judged = LATENCY_E2E,
                    .phases = {{"warmup", END_STEADY, false},
                               {"baseline", END_DURATION, true},
                               {"replay", END_CAUGHT_UP, true},
                               {"recovery", END_DURATION, true}}},
};

const char *run_kind_name(enum run_kind kind)
{
    return kinds[kind].name;
}

enum load_latency run_kind_latency(enum run_kind kind)
{
    return kinds[kind].judged;
}

/* ---- time ---- */

static void sleep_until(uint64_t t)
{
    struct timespec ts = {(time_t)(t / CLOCK_SECOND_NS), (long)(t % CLOCK_SECOND_NS)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

static double since_start_s(const struct run *run, uint64_t t)
{
    return (double)(t - run->start_ns) / CLOCK_SECOND_NS;
}

/* ---- a second of the series ---- */

static void progress_print(const struct run *run, const struct run_second *s)
{
    FILE *out = run->config->progress;
    const struct load_counts *n = &s->n;
    char ack[80] = "", e2e[80] = "", broker[32] = "";
    if (out == NULL || s->seconds <= 0)
        return;
    enum load_latency kind = workload_closed_loop(run->w) ? LATENCY_ACK_SEND : LATENCY_ACK;
    if (s->latency[kind].count > 0)
        snprintf(ack, sizeof(ack), "  %s p50 %.2f p99 %.2f max %.1f ms",
                 kind == LATENCY_ACK ? "ack" : "send-ack", s->latency[kind].p50 / 1e6,
                 s->latency[kind].p99 / 1e6, s->latency[kind].max / 1e6);
    if (s->latency[LATENCY_E2E].count > 0)
        snprintf(e2e, sizeof(e2e), "  e2e p50 %.2f p99 %.2f ms", s->latency[LATENCY_E2E].p50 / 1e6,
                 s->latency[LATENCY_E2E].p99 / 1e6);
    if (s->broker_cpu_ns != BILL_UNKNOWN)
        snprintf(broker, sizeof(broker), "  broker %.0f %%",
                 (double)s->broker_cpu_ns / s->seconds / 1e7);
    fprintf(out, "%6.1f s %-8s", s->end_s, s->phase);
    if (n->intended + n->acked > 0)
        fprintf(out, " intended %.0f/s acked %.0f/s %.1f MiB/s", (double)n->intended / s->seconds,
                (double)n->acked / s->seconds, (double)n->acked_bytes / s->seconds / (1 << 20));
    uint64_t consumed = n->consumed + n->late_consumed;
    if (consumed > 0)
        fprintf(out, "  consumed %.0f/s", (double)consumed / s->seconds);
    fprintf(out, "%s%s  client %.0f %%%s\n", ack, e2e, (double)n->cpu_ns / s->seconds / 1e7,
            broker);
    fflush(out);
}

static void hist_log_second(const struct run *run, const struct load_stats *stats,
                            const struct run_second *s)
{
    if (run->config->hist_log == NULL)
        return;
    for (unsigned i = 0; i < LATENCIES; i++) {
        char tag[64];
        snprintf(tag, sizeof(tag), "%s.%s", load_latency_names[i], s->phase);
        if (hist_count(&stats->latency[i]) > 0)
            hist_log_line(run->config->hist_log, tag, s->end_s - s->seconds, s->seconds,
                          &stats->latency[i]);
    }
}

static struct run_second *second_add(struct run *run)
{
    if (run->seconds_n == run->seconds_cap) {
        size_t cap = MAX((size_t)64, run->seconds_cap * 2);
        struct run_second *seconds = reallocarray(run->seconds, cap, sizeof(*seconds));
        if (seconds == NULL)
            return NULL;
        run->seconds = seconds;
        run->seconds_cap = cap;
    }
    return &run->seconds[run->seconds_n++];
}

static void second_bill(struct run *run, struct run_second *s)
{
    struct bill_sample now;
    s->broker_cpu_ns = s->broker_rss_bytes = BILL_UNKNOWN;
    if (!run->billed || bill_sample(&run->bill, &now) < 0)
        return;
    if (run->bill_last.at_ns > 0 && now.at_ns > run->bill_last.at_ns) /* scaled to this second */
        s->broker_cpu_ns = (uint64_t)((double)(now.cpu_ns - run->bill_last.cpu_ns) * s->seconds *
                                      CLOCK_SECOND_NS / (double)(now.at_ns - run->bill_last.at_ns));
    s->broker_rss_bytes = now.rss_bytes;
    run->bill_last = now;
}

/* The phase in the middle of an interval: the last of a phase comes in when the next has begun. */
static const char *phase_at(const struct run *run, double t)
{
    unsigned i = run->phases_n - 1;
    while (i > 0 && t < run->phases[i].start_s)
        i--;
    return run->phases[i].name;
}

/* Take what has ended into the series. False: nothing had. */
static bool second_take(struct run *run, struct load_stats *scratch)
{
    load_stats_reset(scratch, 0);
    if (!crew_take(&run->crew, scratch) || scratch->to_ns <= scratch->from_ns)
        return false;
    struct run_second *s = second_add(run);
    if (s == NULL)
        return false;
    double end_s = since_start_s(run, MAX(scratch->to_ns, run->start_ns));
    if (run->seconds_n > 1) /* an agent's interval that came late may have ended before */
        end_s = MAX(end_s, run->seconds[run->seconds_n - 2].end_s);
    double seconds = (double)(scratch->to_ns - scratch->from_ns) / CLOCK_SECOND_NS;
    *s = (struct run_second){.end_s = end_s,
                             .seconds = seconds,
                             .phase = phase_at(run, end_s - seconds / 2),
                             .n = scratch->n};
    for (unsigned i = 0; i < LATENCIES; i++) {
        const struct hist *h = &scratch->latency[i];
        s->latency[i].count = hist_count(h);
        s->latency[i].p50 = hist_value_at_percentile(h, 50);
        s->latency[i].p99 = hist_value_at_percentile(h, 99);
        s->latency[i].p999 = hist_value_at_percentile(h, 99.9);
        s->latency[i].max = hist_max(h);
    }
    second_bill(run, s);
    hist_log_second(run, scratch, s);
    progress_print(run, s);
    return true;
}

/* ---- phases ---- */

static struct run_phase *phase_begin(struct run *run, const char *name, int window)
{
    ASSERT(run->phases_n < RUN_PHASES_MAX);
    struct run_phase *p = &run->phases[run->phases_n++];
    *p = (struct run_phase){
        .name = name, .start_s = since_start_s(run, clock_now_ns()), .window = window};
    return p;
}

static void phase_end(const struct run *run, struct run_phase *p)
{
    p->seconds = since_start_s(run, clock_now_ns()) - p->start_s;
}

static bool steady_look(struct run *run)
{
    const struct run_second *s = &run->seconds[run->seconds_n - 1];
    enum load_latency kind = workload_closed_loop(run->w) ? LATENCY_ACK_SEND : LATENCY_ACK;
    if (run->w->acks == 0)
        kind = LATENCY_E2E; /* if there are consumers; else the rate alone decides */
    if (!steady_add(&run->steady, (double)s->n.acked / s->seconds, (double)s->latency[kind].p50))
        return false;
    run->steady_reached = true;
    run->steady_at_s = s->end_s;
    return true;
}

static double phase_seconds_max(const struct run *run, enum phase_end end)
{
    switch (end) {
    case END_STEADY:
        return run->w->warmup_max_s;
    case END_CAUGHT_UP:
        return run->w->duration_s * REPLAY_DURATIONS_MAX;
    default:
        return run->w->duration_s;
    }
}

static bool phase_over(struct run *run, enum phase_end end, bool second_ended)
{
    struct crew_state state;
    if (end == END_STEADY)
        return second_ended && steady_look(run);
    if (end == END_DURATION)
        return false;
    crew_state(&run->crew, &state);
    return end == END_CONSUMED ? state.consumers_done : state.late_done;
}

static void phase_run(struct run *run, const struct phase_plan *plan, int window,
                      struct load_stats *scratch)
{
    struct run_phase *phase = phase_begin(run, plan->name, window);
    uint64_t begin_ns = clock_now_ns();
    uint64_t next_ns = begin_ns + COLLECT_LATE_NS; /* the last interval of the phase before */
    uint64_t end_ns = begin_ns + (uint64_t)(phase_seconds_max(run, plan->end) * CLOCK_SECOND_NS);
    crew_stage(&run->crew, LOADER_LOAD + window);
    if (plan->measured && run->billed && run->bill_first.at_ns == 0)
        bill_sample(&run->bill, &run->bill_first);
    for (;;) {
        bool look = plan->end == END_CONSUMED || plan->end == END_CAUGHT_UP;
        uint64_t wake_ns = MIN(next_ns, end_ns);
        if (look)
            wake_ns = MIN(wake_ns, clock_now_ns() + DRAIN_LOOK_NS);
        sleep_until(wake_ns);
        bool ended = clock_now_ns() >= next_ns && second_take(run, scratch);
        if (clock_now_ns() >= next_ns)
            next_ns += CLOCK_SECOND_NS;
        if (clock_now_ns() >= end_ns || crew_check(&run->crew) < 0 ||
            phase_over(run, plan->end, ended))
            break;
    }
    if (plan->measured && run->billed)
        bill_sample(&run->bill, &run->bill_end);
    phase_end(run, phase);
}

static bool drained(const struct run *run, const struct crew_state *s)
{
    const struct kind_plan *kind = &kinds[run->config->kind];
    bool consumed = kind->consume != CONSUME_TAIL || run->w->verify == VERIFY_OFF ||
                    s->consumed_new >= run->w->fan_out * s->acked;
    return s->unfinished == 0 && consumed;
}

/* The time is over and records still come: nothing more is sent, and what was acknowledged is read,
 * so that it is not called lost. */
static void cut(struct run *run)
{
    uint64_t t = clock_now_ns(), quiet_ns = t,
             end_ns = t + (uint64_t)(run->w->drain_max_s * CLOCK_SECOND_NS);
    uint64_t enough_ns = CUT_QUIET_NS + (uint64_t)(run->w->fetch_wait_ms * 1e6);
    struct crew_state was = {0}, s;
    crew_stage(&run->crew, LOADER_CUT);
    for (; t - quiet_ns < enough_ns && t < end_ns; t = clock_now_ns()) {
        crew_state(&run->crew, &s);
        if (s.acked != was.acked || s.consumed_new != was.consumed_new)
            quiet_ns = t;
        was = s;
        sleep_until(t + DRAIN_LOOK_NS);
    }
}

/* What is on its way gets drain.max.s to arrive; consumers no longer than something new comes. */
static void drain(struct run *run, struct load_stats *scratch)
{
    struct run_phase *phase = phase_begin(run, "drain", -1);
    uint64_t begin_ns = clock_now_ns(), progress_ns = begin_ns;
    uint64_t next_ns = begin_ns + CLOCK_SECOND_NS + COLLECT_LATE_NS;
    uint64_t end_ns = begin_ns + (uint64_t)(run->w->drain_max_s * CLOCK_SECOND_NS);
    uint64_t consumed_was = 0;
    struct crew_state s;
    crew_stage(&run->crew, LOADER_DRAIN);
    sleep_until(begin_ns + COLLECT_LATE_NS);
    second_take(run, scratch); /* the last interval of the phase before */
    for (crew_state(&run->crew, &s); !drained(run, &s); crew_state(&run->crew, &s)) {
        uint64_t t = clock_now_ns();
        if (s.consumed_new != consumed_was || s.unfinished > 0)
            progress_ns = t;
        consumed_was = s.consumed_new;
        if (crew_check(&run->crew) < 0 || t >= end_ns ||
            t - progress_ns > (uint64_t)CONSUMERS_STUCK_S * CLOCK_SECOND_NS)
            break;
        if (t >= next_ns) {
            second_take(run, scratch);
            next_ns += CLOCK_SECOND_NS;
        }
        sleep_until(t + DRAIN_LOOK_NS);
    }
    if (!drained(run, &s) && clock_now_ns() >= end_ns &&
        kinds[run->config->kind].consume == CONSUME_TAIL)
        cut(run);
    crew_stage(&run->crew, LOADER_END);
    phase_end(run, phase);
}

/* ---- crews ---- */

static struct crew_config crew_config_of(const struct run *run, const struct workload *w)
{
    const struct kind_plan *kind = &kinds[run->config->kind];
    struct crew_config c = {.agents = run->config->agents,
                            .load = {.workload = w,
                                     .bootstrap = run->config->bootstrap,
                                     .run = run->id,
                                     .produce = kind->produce,
                                     .consume = kind->consume,
                                     .late_loop = kind->late_loop}};
    for (int i = 0; kind->late_phase != NULL && i < (int)ARRAY_LEN(kind->phases); i++)
        if (kind->phases[i].name != NULL && strcmp(kind->phases[i].name, kind->late_phase) == 0)
            c.load.late_stage = LOADER_LOAD + i;
    return c;
}

/* Fill the topic as fast as it goes, with records of a run of their own. */
static int preload(struct run *run, char *reason, size_t reason_size)
{
    struct workload w = *run->w;
    struct crew crew;
    struct crew_outcome outcome;
    struct crew_state state = {.unfinished = 1};
    w.rate = RATE_MAX;
    struct crew_config c = crew_config_of(run, &w);
    uint64_t records = run->w->preload_bytes / run->w->record_bytes;
    c.load.run = run->id ^ 1;
    c.load.consume = CONSUME_NOTHING;
    c.load.late_stage = 0;
    c.load.records_max = records / MIN(crew_parts(&c), w.producers);
    if (c.load.records_max == 0)
        return 0;
    if (run->config->progress != NULL)
        fprintf(run->config->progress, "preloading %" PRIu64 " records\n", records);
    int rc = crew_start(&crew, &c, reason, reason_size);
    if (rc < 0)
        return rc;
    uint64_t limit_ns = clock_now_ns() + (uint64_t)PRELOAD_MAX_S * CLOCK_SECOND_NS;
    crew_stage(&crew, LOADER_LOAD);
    do {
        sleep_until(clock_now_ns() + DRAIN_LOOK_NS);
        crew_state(&crew, &state);
    } while (state.unfinished > 0 && crew_check(&crew) == 0 && clock_now_ns() < limit_ns);
    crew_stage(&crew, LOADER_END);
    rc = crew_finish(&crew, &outcome);
    if (rc < 0)
        snprintf(reason, reason_size, "%s", crew.reason);
    crew_fini(&crew);
    if (rc < 0)
        return rc;
    crew_outcome_fini(&outcome);
    if (state.unfinished > 0)
        snprintf(reason, reason_size, "preloading did not end within an hour");
    return state.unfinished > 0 ? -ETIMEDOUT : 0;
}

/* ---- a run ---- */

static int offsets_read(struct run *run, int64_t **ret, char *reason, size_t reason_size)
{
    *ret = calloc((size_t)run->cluster.partitions_n, sizeof(**ret));
    int rc = *ret == NULL ? -ENOMEM : cluster_offsets(&run->cluster, true, *ret);
    if (rc < 0)
        snprintf(reason, reason_size, "%s", rc == -ENOMEM ? "no memory" : run->cluster.reason);
    return rc;
}

/* The ends as consumers see them: what was acknowledged with acks=1 may become visible later, by as
 * much as the broker has gathered in memory. So it is waited for as long as the ends move. */
static int offsets_await(struct run *run, char *reason, size_t reason_size)
{
    uint64_t moved_ns = clock_now_ns();
    int64_t grown_was = 0;
    int rc;
    for (;;) {
        int64_t grown = 0;
        free(run->end_offsets_after);
        rc = offsets_read(run, &run->end_offsets_after, reason, reason_size);
        for (int32_t i = 0; rc == 0 && i < run->cluster.partitions_n; i++)
            grown += run->end_offsets_after[i] - run->end_offsets_before[i];
        uint64_t t = clock_now_ns();
        if (grown > grown_was)
            moved_ns = t;
        grown_was = grown;
        if (rc < 0 || grown >= (int64_t)run->outcome.total.acked ||
            t - moved_ns >= (uint64_t)STANDING_S * CLOCK_SECOND_NS)
            return rc;
        sleep_until(t + DRAIN_LOOK_NS);
    }
}

static int topic_prepare(struct run *run)
{
    const struct kind_plan *kind = &kinds[run->config->kind];
    if (!kind->produce)
        return cluster_topic_find(&run->cluster, run->w->topic);
    return cluster_topic_make(&run->cluster, run->w);
}

static int prepare(struct run *run, char *reason, size_t reason_size)
{
    struct env_uring_config ring = {.entries = 64};
    int rc = env_uring_create(&ring, &run->env);
    if (rc < 0) {
        snprintf(reason, reason_size, "io_uring: %s", strerror(-rc));
        return rc;
    }
    run->cluster_open = true;
    rc = cluster_open(&run->cluster, run->env, run->config->bootstrap,
                      (uint64_t)BROKER_TIMEOUT_S * CLOCK_SECOND_NS);
    if (rc == 0)
        rc = topic_prepare(run);
    if (rc < 0) {
        snprintf(reason, reason_size, "%s", run->cluster.reason);
        return rc;
    }
    if (kinds[run->config->kind].preload && run->w->preload_bytes > 0)
        rc = preload(run, reason, reason_size);
    if (rc == 0)
        rc = offsets_read(run, &run->end_offsets_before, reason, reason_size);
    if (rc == 0 && run->config->broker_pid > 0) {
        rc = bill_open(&run->bill, run->config->broker_pid);
        run->billed = rc == 0;
        if (rc < 0)
            snprintf(reason, reason_size, "--broker-pid %d: %s", (int)run->config->broker_pid,
                     strerror(-rc));
    }
    return rc;
}

static void conduct(struct run *run, struct load_stats *scratch)
{
    const struct kind_plan *kind = &kinds[run->config->kind];
    run->start_ns = clock_now_ns();
    for (int i = 0; i < (int)ARRAY_LEN(kind->phases) && kind->phases[i].name != NULL; i++)
        if (crew_check(&run->crew) == 0)
            phase_run(run, &kind->phases[i], i, scratch);
    drain(run, scratch);
}

static void measured_windows_find(struct run *run)
{
    const struct kind_plan *kind = &kinds[run->config->kind];
    unsigned i = 0;
    while (!kind->phases[i].measured)
        i++;
    run->measured_first = i;
    while (i + 1 < ARRAY_LEN(kind->phases) && kind->phases[i + 1].name != NULL)
        i++;
    run->measured_last = i;
}

static int load(struct run *run, char *reason, size_t reason_size)
{
    struct crew_config c = crew_config_of(run, run->w);
    struct load_stats scratch;
    uint64_t begin_ns = clock_now_ns();
    int rc = load_stats_init(&scratch);
    if (rc == 0)
        rc = crew_start(&run->crew, &c, reason, reason_size);
    if (rc == 0) {
        run->connect_s = (double)(clock_now_ns() - begin_ns) / CLOCK_SECOND_NS;
        conduct(run, &scratch);
        rc = crew_finish(&run->crew, &run->outcome);
        second_take(run, &scratch);
        if (rc < 0)
            snprintf(reason, reason_size, "%s", run->crew.reason);
        crew_fini(&run->crew);
    }
    load_stats_fini(&scratch);
    return rc;
}

static void run_fini(struct run *run)
{
    crew_outcome_fini(&run->outcome);
    if (run->billed)
        bill_close(&run->bill);
    free(run->seconds);
    free(run->end_offsets_before);
    free(run->end_offsets_after);
    if (run->cluster_open)
        cluster_close(&run->cluster);
    env_destroy(run->env);
    free(run);
}

static void steady_prepare(struct run *run)
{
    struct steady_config c = steady_config_default;
    c.rounds_min = (unsigned)(run->w->warmup_min_s + 0.999);
    steady_init(&run->steady, &c);
}

int run_execute(const struct run_config *config, struct run_result *ret, char *reason,
                size_t reason_size)
{
    struct run *run = calloc(1, sizeof(*run));
    struct run_result result = {0};
    snprintf(reason, reason_size, "no memory");
    if (run == NULL)
        return -ENOMEM;
    run->config = config;
    run->w = &config->workload;
    if (getrandom(&run->id, sizeof(run->id), 0) != sizeof(run->id))
        run->id = (uint32_t)clock_now_ns();
    steady_prepare(run);
    measured_windows_find(run);
    int rc = load_stats_init(&result.measured);
    if (rc == 0)
        rc = prepare(run, reason, reason_size);
    if (rc == 0)
        rc = load(run, reason, reason_size);
    if (rc == 0 && kinds[config->kind].produce && offsets_await(run, reason, reason_size) < 0) {
        free(run->end_offsets_after); /* the broker has gone: that does not take the result along */
        run->end_offsets_after = NULL;
    }
    if (rc == 0) {
        run_judge(run, &result);
        result.json = run_json(run, &result);
        rc = result.json == NULL ? -ENOMEM : 0;
    }
    run_fini(run);
    if (rc < 0)
        load_stats_fini(&result.measured);
    else
        *ret = result;
    return rc;
}

void run_result_fini(struct run_result *r)
{
    json_object_put(r->json);
    load_stats_fini(&r->measured);
    *r = (struct run_result){0};
}
