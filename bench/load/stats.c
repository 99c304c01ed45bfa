#include "bench/load/stats.h"

#include <errno.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

const char *const load_latency_names[LATENCIES] = {
    [LATENCY_ACK] = "ack",
    [LATENCY_ACK_SEND] = "ack_send",
    [LATENCY_E2E] = "e2e",
    [LATENCY_LATE] = "lateness",
};

void load_counts_add(struct load_counts *dst, const struct load_counts *src)
{
#define LOAD_COUNT_ADD(name) dst->name += src->name;
    LOAD_COUNTS(LOAD_COUNT_ADD)
#undef LOAD_COUNT_ADD
}

int load_stats_init(struct load_stats *s)
{
    *s = (struct load_stats){0};
    for (unsigned i = 0; i < LATENCIES; i++)
        if (hist_init(&s->latency[i], HIST_HOUR_NS) < 0) {
            load_stats_fini(s);
            return -ENOMEM;
        }
    return 0;
}

void load_stats_fini(struct load_stats *s)
{
    for (unsigned i = 0; i < LATENCIES; i++)
        hist_fini(&s->latency[i]);
}

void load_stats_add(struct load_stats *dst, const struct load_stats *src)
{
    dst->from_ns = dst->to_ns == 0 ? src->from_ns : MIN(dst->from_ns, src->from_ns);
    dst->to_ns = MAX(dst->to_ns, src->to_ns);
    load_counts_add(&dst->n, &src->n);
    for (unsigned i = 0; i < LATENCIES; i++)
        hist_add(&dst->latency[i], &src->latency[i]);
}

void load_stats_reset(struct load_stats *s, uint64_t from_ns)
{
    s->from_ns = from_ns;
    s->to_ns = 0;
    s->n = (struct load_counts){0};
    for (unsigned i = 0; i < LATENCIES; i++)
        hist_reset(&s->latency[i]);
}

int load_recorder_init(struct load_recorder *r)
{
    *r = (struct load_recorder){0};
    int rc = load_stats_init(&r->interval);
    for (unsigned i = 0; rc == 0 && i < LOAD_WINDOWS_MAX; i++)
        rc = load_stats_init(&r->windows[i]);
    if (rc < 0)
        load_recorder_fini(r);
    return rc;
}

void load_recorder_fini(struct load_recorder *r)
{
    load_stats_fini(&r->interval);
    for (unsigned i = 0; i < LOAD_WINDOWS_MAX; i++)
        load_stats_fini(&r->windows[i]);
}

void load_recorder_tick(struct load_recorder *r, uint64_t now_ns)
{
    r->interval.to_ns = now_ns;
    load_counts_add(&r->total, &r->interval.n);
    if (r->windows_n > 0 && r->windows[r->windows_n - 1].to_ns == 0)
        load_counts_add(&r->windows[r->windows_n - 1].n, &r->interval.n);
}

void load_recorder_window_end(struct load_recorder *r, uint64_t now_ns)
{
    if (r->windows_n > 0 && r->windows[r->windows_n - 1].to_ns == 0)
        r->windows[r->windows_n - 1].to_ns = now_ns;
}

void load_recorder_window(struct load_recorder *r, uint64_t now_ns)
{
    ASSERT(r->windows_n < LOAD_WINDOWS_MAX);
    load_recorder_window_end(r, now_ns);
    load_stats_reset(&r->windows[r->windows_n++], now_ns);
}
