/* Whether a run says what it seems to say, and which side was its limit. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bench/run_private.h"
#include "core/base/bytes.h"

const struct run_rules run_rules_default = {
    .late_ms = 1,
    .late_share = 0.1,
    .cpu_share = 0.95,
    .behind_share = 0.98,
};

enum { SAMPLES_P999_LEAST = 10000 };

__attribute__((format(printf, 3, 4))) static void invalid(struct run *run, const char *code,
                                                          const char *fmt, ...)
{
    va_list args;
    if (run->verdicts_n == RUN_VERDICTS_MAX)
        return;
    struct run_verdict *v = &run->verdicts[run->verdicts_n++];
    v->code = code;
    va_start(args, fmt);
    vsnprintf(v->text, sizeof(v->text), fmt, args);
    va_end(args);
}

__attribute__((format(printf, 2, 3))) static void note(struct run *run, const char *fmt, ...)
{
    va_list args;
    if (run->notes_n == RUN_VERDICTS_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(run->notes[run->notes_n].text, sizeof(run->notes[0].text), fmt, args);
    va_end(args);
    run->notes_n++;
}

/* ---- the generator ---- */

static double cpu_share(const struct run *run, const struct run_result *r)
{
    return (double)r->measured.n.cpu_ns / 1e9 / r->seconds / (double)crew_parts(&run->crew.config);
}

static void judge_generator(struct run *run, struct run_result *r)
{
    const struct run_rules *rules = &run->config->rules;
    uint64_t late = hist_value_at_percentile(&r->measured.latency[LATENCY_LATE], 99);
    uint64_t ack = hist_value_at_percentile(&r->measured.latency[LATENCY_ACK], 99);
    double late_ms = (double)late / 1e6, share = cpu_share(run, r);
    if (late_ms > rules->late_ms && (double)late > rules->late_share * (double)ack)
        invalid(run, "generator-late",
                "the generator looked at the schedule %.2f ms late (p99): more than %g ms and "
                "than %g %% of the acks' p99",
                late_ms, rules->late_ms, rules->late_share * 100);
    bool busy = share > rules->cpu_share && run->w->driver == DRIVER_PENSTOCK;
    if (busy && !workload_closed_loop(run->w) && run->config->kind != RUN_CONSUME)
        invalid(run, "client-cpu", "a load thread used %.0f %% of its core: more than %.0f %%",
                share * 100, rules->cpu_share * 100);
}

static void limit_say(struct run *run, const char *limit, double full, double share)
{
    run->limit = limit;
    snprintf(run->limit_text, sizeof(run->limit_text),
             "the producers' memory was full %.0f %% of the time, waiting for the broker; a load "
             "thread used %.0f %% of its core",
             full * 100, share * 100);
}

/* In a closed loop one side waits for the other; in an open one the schedule is the limit, or what
 * keeps from following it. */
static void judge_limit(struct run *run, struct run_result *r)
{
    double full = (double)r->measured.n.buffers_full_ns / 1e9 / r->seconds /
                  (double)MIN((uint64_t)crew_parts(&run->crew.config), run->w->producers);
    double share = cpu_share(run, r);
    bool late = false;
    if (r->measured.n.intended == 0)
        return;
    for (unsigned i = 0; i < run->verdicts_n; i++)
        late |= strcmp(run->verdicts[i].code, "generator-late") == 0;
    if (!workload_closed_loop(run->w) && r->kept_up && !late)
        limit_say(run, "schedule", full, share);
    else if (full >= 0.5 || (!late && share < run->config->rules.cpu_share))
        limit_say(run, "broker", full, share);
    else
        limit_say(run, "client", full, share);
    r->client_limited = strcmp(run->limit, "client") == 0;
}

/* ---- the load ---- */

static void judge_load(struct run *run, struct run_result *r)
{
    const struct load_counts *n = &r->measured.n;
    double share = n->intended > 0 ? (double)n->acked / (double)n->intended : 1;
    r->kept_up = workload_closed_loop(run->w) || share >= run->config->rules.behind_share;
    if (!r->kept_up)
        invalid(run, "overload",
                "%.0f records/s were acknowledged of %.0f/s intended: latencies grow as long as "
                "the run goes on",
                (double)n->acked / r->seconds, (double)n->intended / r->seconds);
    if (run->config->kind != RUN_CONSUME && !run->steady_reached)
        invalid(run, "not-steady", "no steady state within warmup.max.s = %g s",
                run->w->warmup_max_s);
    if (run->outcome.unfinished > 0)
        invalid(run, "unfinished",
                "%" PRIu64 " records had no answer when drain.max.s = %g s were over; they are in "
                "no percentile",
                run->outcome.unfinished, run->w->drain_max_s);
    struct load_counts all = run->outcome.total;
    if (all.failed > 0)
        invalid(run, "failed", "%" PRIu64 " records were refused or given up (Kafka error %d)",
                all.failed, run->outcome.error_code);
    if (all.retries > 0)
        note(run, "%" PRIu64 " batches were sent again (first Kafka error %d)", all.retries,
             run->outcome.error_code);
    if (all.reconnects > 0)
        note(run, "%" PRIu64 " connections were lost (%s)", all.reconnects,
             strerror(-run->outcome.connection_rc));
    for (unsigned i = 0; i < LATENCIES; i++)
        if (r->measured.latency[i].saturated > 0)
            invalid(run, "saturated", "%" PRIu64 " %s latencies were above an hour",
                    r->measured.latency[i].saturated, load_latency_names[i]);
    uint64_t samples = hist_count(&r->measured.latency[run_kind_latency(run->config->kind)]);
    if (samples > 0 && samples < SAMPLES_P999_LEAST)
        note(run, "only %" PRIu64 " latencies: p99.9 and above rest on a handful", samples);
    if (workload_closed_loop(run->w))
        note(run, "rate=max is a closed loop: it finds a rate; its latencies are from the actual "
                  "send and leave out the wait before it");
    if (run->w->acks == 0)
        note(run, "acks=0: nothing is acknowledged, so there are no ack latencies; 'acked' counts "
                  "what was sent");
}

/* A stamp is read on the host that made it only: what went from one agent to another has no e2e
 * latency, and the percentiles are those of the rest. */
static void judge_clocks(struct run *run)
{
    const struct load_counts *all = &run->outcome.total;
    if (all->other_clock > 0)
        note(run,
             "e2e latencies leave out %" PRIu64 " of %" PRIu64 " consumed records: their producer "
             "and consumer ran on two hosts, whose clocks are not compared",
             all->other_clock, all->consumed);
}

/* ---- the records ---- */

static void judge_log(struct run *run, const struct verify_log *log, const char *who)
{
    for (unsigned i = 0; i < INCIDENT_KINDS; i++)
        if (log->totals[i] > 0)
            invalid(run, incident_names[i], "%s: %" PRIu64 " records %s", who, log->totals[i],
                    incident_names[i]);
    if (log->unread > 0)
        invalid(run, "unread", "%s: %" PRIu64 " records were not read when the run ended", who,
                log->unread);
    if (log->foreign > 0 && !run->w->topic_reuse && run->config->kind != RUN_CONSUME)
        invalid(run, "corrupt", "%s: %" PRIu64 " records that nobody of this run made", who,
                log->foreign);
}

/* Without consumers, the log's growth tells whether all is there, once. */
static void judge_offsets(struct run *run)
{
    struct load_counts all = run->outcome.total;
    int64_t grown = 0;
    if (run->config->kind != RUN_PRODUCE || run->w->acks == 0)
        return;
    if (run->end_offsets_after == NULL) {
        invalid(run, "unverified", "the log ends could not be read afterwards: %s",
                run->cluster.reason);
        return;
    }
    for (int32_t i = 0; i < run->cluster.partitions_n; i++)
        grown += run->end_offsets_after[i] - run->end_offsets_before[i];
    int64_t acked = (int64_t)all.acked,
            most = (int64_t)(all.acked + all.failed) + (int64_t)run->outcome.unfinished;
    if (grown < acked)
        invalid(run, "lost",
                "the log ends grew by %" PRId64 ", but %" PRId64 " records were acknowledged",
                grown, acked);
    if (grown > most)
        invalid(run, "repeated",
                "the log ends grew by %" PRId64 ", but only %" PRId64 " records were sent", grown,
                most);
}

static double window_seconds(const struct load_stats *w)
{
    return (double)(w->to_ns - w->from_ns) / 1e9;
}

static void measured_merge(const struct run *run, struct run_result *r)
{
    for (unsigned i = run->measured_first; i <= run->measured_last && i < run->outcome.windows_n;
         i++) {
        load_stats_add(&r->measured, &run->outcome.windows[i]);
        r->seconds += window_seconds(&run->outcome.windows[i]);
    }
}

void run_judge(struct run *run, struct run_result *r)
{
    measured_merge(run, r);
    judge_load(run, r);
    judge_generator(run, r);
    judge_limit(run, r);
    judge_clocks(run);
    judge_log(run, &run->outcome.verify, "consumers");
    judge_log(run, &run->outcome.late_verify, "late consumers");
    judge_offsets(run);
    r->valid = run->verdicts_n == 0;
}
