/* steady.h: when a load has left its transient: the test that ends a warm-up.
 * Happy path: init, add one round after another (a round is a second, or what the caller makes
 *   it), and begin to measure when steady_add first says true.
 * Method: steady state as the SNIA Solid State Storage Performance Test Specification, version
 *   2.0.2 (October 2020), defines it: over the measurement window, the last five rounds, a tracked
 *   value is steady when
 *     range: its max - min is at most 20 % of its average over the window, and
 *     slope: the least-squares line through it rises or falls, from the window's first round to
 *            the last, by at most 10 % of that average.
 *   Two values are tracked, and both must be steady: records acknowledged per second, with these
 *   limits, and the round's median latency, with 50 % and 20 %. The second is an addition to the
 *   specification. Its limits are wider, as latencies vary more than rates do, and a range or
 *   slope of less than latency_floor_ns passes, since timer noise is no transient.
 *   A window that holds a round without an acknowledged record is never steady.
 * Failure: none. Pure. Threads: one owner. */
#ifndef BENCH_STAT_STEADY_H
#define BENCH_STAT_STEADY_H

#include <stdbool.h>
#include <stdint.h>

#define STEADY_WINDOW_MAX 60u /* rounds */

struct steady_limits {
    double range_max, slope_max; /* of the window's average: 0.2 is 20 % */
};
struct steady_config {
    unsigned window_rounds; /* 2 to STEADY_WINDOW_MAX */
    unsigned rounds_min;    /* before steady_add may say true; less than the window: the window */
    struct steady_limits throughput, latency;
    double latency_floor_ns;
};
/* 5 rounds, the limits above, a floor of 200 us. */
extern const struct steady_config steady_config_default;

struct steady { /* fields are private to steady.c */
    struct steady_config config;
    uint64_t rounds;
    double throughput[STEADY_WINDOW_MAX], latency_ns[STEADY_WINDOW_MAX]; /* rings, by round */
};

struct steady_figures {
    double average;
    double range; /* max - min, as a part of the average */
    double slope; /* rise of the least-squares line (a fall is negative), as a part of it */
};

extern const char *const steady_method_text; /* one sentence for reports */

void steady_init(struct steady *s, const struct steady_config *config);
/* True: the window that ends with this round is steady. It may be false again later on. */
bool steady_add(struct steady *s, double throughput, double latency_ns);

uint64_t steady_rounds(const struct steady *s);
/* Of the last window; false, and no figures, until one is full. */
bool steady_throughput(const struct steady *s, struct steady_figures *ret);
bool steady_latency(const struct steady *s, struct steady_figures *ret);

#endif
