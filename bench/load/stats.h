/* stats.h: what a load thread counts and times, in two ways at once.
 * The interval (about a second, then taken by the host) has what *ended* in it. A window (warm-up,
 * measured, ...) has the latencies of the records whose *intended send time* lies in it, however
 * late they end: the slow ones of a stall are not pushed out of the window by being slow. Its
 * counts are those of its intervals. Threads: the load thread's own; copies are handed out. */
#ifndef BENCH_LOAD_STATS_H
#define BENCH_LOAD_STATS_H

#include <stdint.h>

#include "core/base/hist.h"

enum load_latency {
    LATENCY_ACK,      /* intended send time to acknowledgement */
    LATENCY_ACK_SEND, /* actual send of the request to acknowledgement: what a closed loop sees */
    LATENCY_E2E,      /* intended send time to reception by a (tailing) consumer */
    LATENCY_LATE,     /* the generator's own: intended time to when it was looked at */
    LATENCIES
};
extern const char *const load_latency_names[LATENCIES];

/* Counters, all of records unless named otherwise. One list, for merging and for the result. */
#define LOAD_COUNTS(X)                                                                             \
    X(intended)      /* whose intended time came */                                                \
    X(sent)          /* given to the kernel */                                                     \
    X(acked)         /* acknowledged; with acks=0: sent */                                         \
    X(acked_bytes)   /* keys and values of them */                                                 \
    X(failed)        /* refused, or given up */                                                    \
    X(requests)      /* produce requests sent */                                                   \
    X(request_bytes) /* their size on the wire */                                                  \
    X(batches)       /* in them */                                                                 \
    X(retries)       /* batches sent again */                                                      \
    X(reconnects)    /* connections lost */                                                        \
    X(consumed)      /* by tailing consumers, each fan-out counted */                              \
    X(consumed_bytes)                                                                              \
    X(consumed_new)  /* of them, not seen before by that fan-out */                                \
    X(other_clock)   /* of them, stamped by another host's clock: not timed end to end */          \
    X(fetches)       /* answers to fetch requests */                                               \
    X(late_consumed) /* by late consumers */                                                       \
    X(late_consumed_bytes)                                                                         \
    X(buffers_full_ns) /* time during which every producer's memory was full, ns */                \
    X(cpu_ns)          /* of the load thread, ns */

struct load_counts {
#define LOAD_COUNT_FIELD(name) uint64_t name;
    LOAD_COUNTS(LOAD_COUNT_FIELD)
#undef LOAD_COUNT_FIELD
};
void load_counts_add(struct load_counts *dst, const struct load_counts *src);

struct load_stats {
    uint64_t from_ns, to_ns;
    struct load_counts n;
    struct hist latency[LATENCIES];
};
int load_stats_init(struct load_stats *s);
void load_stats_fini(struct load_stats *s);
void load_stats_add(struct load_stats *dst, const struct load_stats *src); /* times: the widest */
void load_stats_reset(struct load_stats *s, uint64_t from_ns);

#define LOAD_WINDOWS_MAX 6
struct load_recorder {
    struct load_stats interval;
    struct load_stats windows[LOAD_WINDOWS_MAX];
    unsigned windows_n;       /* begun; the last one has ended when its to_ns is set */
    struct load_counts total; /* since the start, the drain included */
};
int load_recorder_init(struct load_recorder *r);
void load_recorder_fini(struct load_recorder *r);
/* The interval ends; it is added to the total and the window under way. The caller takes it, then
 * resets it. */
void load_recorder_tick(struct load_recorder *r, uint64_t now_ns);
/* The window under way ends; the next begins. */
void load_recorder_window_end(struct load_recorder *r, uint64_t now_ns);
void load_recorder_window(struct load_recorder *r, uint64_t now_ns);

/* The window that an intended time lies in. */
static inline struct load_stats *load_window_of(struct load_recorder *r, uint64_t intended_ns)
{
    unsigned i = r->windows_n - 1;
    while (i > 0 && intended_ns < r->windows[i].from_ns)
        i--;
    return &r->windows[i];
}

static inline void load_record(struct load_recorder *r, enum load_latency kind,
                               uint64_t intended_ns, uint64_t latency_ns, uint64_t n)
{
    struct load_stats *window = load_window_of(r, intended_ns);
    hist_record_n(&r->interval.latency[kind], latency_ns, n);
    if (window->to_ns == 0 || intended_ns < window->to_ns) /* draining is in no window */
        hist_record_n(&window->latency[kind], latency_ns, n);
}

#endif
