/* schedule.h: the intended send times of an open-loop load, in ns since its start.
 * Happy path: parse the shape, init one schedule per generator thread, then send a record whenever
 *   schedule_peek has passed; schedule_next hands out that time and moves on. A late record keeps
 *   its intended time, which is what its latency is counted from.
 * Shapes:
 *   constant              event k at k / rate
 *   poisson               exponential gaps of mean 1 / rate, by inversion: -ln(u) / rate
 *   burst:SIZE            SIZE events at the same instant, bursts at k * SIZE / rate
 *   burst:SIZE@poisson    the same, bursts arriving as a Poisson process of rate / SIZE
 *   ramp:FROM-TO:SECONDS  the rate moves linearly from FROM to TO times `rate` and stays there.
 *                         Event k is where the integral N(t) = b t + a t^2 reaches k, with b the
 *                         rate at the start and 2 a its slope: t = 2 k / (b + sqrt(b^2 + 4 a k))
 * Parts: threads and processes share one schedule without talking. Part i of n takes the events
 *   (of bursts: the bursts) k with k % n == i, timed just as one part alone would time them.
 *   Poisson parts are independent processes of rate / n, which add up to one of `rate`.
 * Precision: times are rounded to the nearest ns and do not drift: even spacing is summed in 64.64
 *   fixed point (off by at most k * 2^-64 ns at event k), a ramp's times are computed from k.
 * Failure: parse -EINVAL with a static reason. As a time, SCHEDULE_NEVER is beyond 584 years.
 * Pure: a schedule is a plain value, and a copy of it runs the same way. Threads: one owner. */
#ifndef BENCH_STAT_SCHEDULE_H
#define BENCH_STAT_SCHEDULE_H

#include "core/base/rng.h"

#include <stdbool.h>
#include <stdint.h>

#define SCHEDULE_RATE_MIN 1e-3 /* per second */
#define SCHEDULE_RATE_MAX 1e9
#define SCHEDULE_BURST_MAX 1000000u
#define SCHEDULE_NEVER UINT64_MAX

enum schedule_kind { SCHEDULE_EVEN, SCHEDULE_POISSON, SCHEDULE_RAMP };

struct schedule_shape {
    enum schedule_kind kind; /* of the bursts' arrivals, when burst_size > 1 */
    uint32_t burst_size;     /* 1: no bursts */
    double ramp_from, ramp_to, ramp_s;
};

struct schedule { /* fields are private to schedule.c, except through schedule_peek */
    uint64_t next_ns;
    uint32_t burst_left, burst_size; /* left: events still to hand out at next_ns */
    enum schedule_kind kind;         /* a ramp turns EVEN when it has reached its end */
    unsigned parts;
    unsigned __int128 at, step; /* EVEN: 64.64 ns, `at` half a ns ahead so that >> 64 rounds */
    struct {
        struct rng rng;
        double gap_ns, fraction_ns; /* mean gap; what next_ns leaves out */
    } poisson;
    struct {
        uint64_t index, end_index; /* of the next event; of the first one past the ramp */
        long double start_per_ns, half_slope; /* b and a above */
        unsigned __int128 end_at, end_gap;    /* 64.64 ns: time of end_index, spacing from there */
    } ramp;
};

int schedule_parse(const char *text, struct schedule_shape *ret, const char **ret_reason);

/* rate_per_s: of all parts together, from SCHEDULE_RATE_MIN to _MAX; part < parts. */
void schedule_init(struct schedule *s, const struct schedule_shape *shape, double rate_per_s,
                   uint64_t seed, unsigned part, unsigned parts);
uint64_t schedule_next(struct schedule *s);

static inline uint64_t schedule_peek(const struct schedule *s)
{
    return s->next_ns;
}

/* The intended rate, of all parts together, at t_ns after the start. */
double schedule_mean_rate(const struct schedule_shape *shape, double rate_per_s, uint64_t t_ns);

#endif
