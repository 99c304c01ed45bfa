#include "bench/stat/steady.h"

#include "core/base/assert.h"
#include "core/base/bytes.h"

#include <math.h>

const struct steady_config steady_config_default = {
    .window_rounds = 5,
    .rounds_min = 5,
    .throughput = {.range_max = 0.2, .slope_max = 0.1},
    .latency = {.range_max = 0.5, .slope_max = 0.2},
    .latency_floor_ns = 200e3,
};

const char *const steady_method_text =
    "Steady state as in the SNIA SSS Performance Test Specification 2.0.2: over a window of rounds "
    "(default 5), max - min and the rise of the least-squares line are at most 20 % and 10 % of "
    "the "
    "average for records acknowledged per second, and (an addition to it) 50 % and 20 % for the "
    "round's median latency, where less than 200 us is never held to be a transient.";

void steady_init(struct steady *s, const struct steady_config *config)
{
    ASSERT(config->window_rounds >= 2 && config->window_rounds <= STEADY_WINDOW_MAX);
    *s = (struct steady){.config = *config};
}

static bool window_full(const struct steady *s)
{
    return s->rounds >= s->config.window_rounds;
}

struct spread {
    double average, min, range, slope;
};

/* Oldest first: the ring holds round r at r % window, and the next round would replace the oldest.
 */
static struct spread spread_of(const struct steady *s, const double *ring)
{
    unsigned n = s->config.window_rounds;
    struct spread w = {.min = ring[0]};
    double max = ring[0], sum_xy = 0, sum_xx = 0;
    for (unsigned i = 0; i < n; i++) {
        w.average += ring[i] / n;
        w.min = fmin(w.min, ring[i]);
        max = fmax(max, ring[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        double x = i - (n - 1) / 2.0;
        sum_xy += x * (ring[(s->rounds + i) % n] - w.average);
        sum_xx += x * x;
    }
    w.range = max - w.min;
    w.slope = sum_xy / sum_xx * (n - 1);
    return w;
}

static bool within(const struct spread *w, const struct steady_limits *limits, double floor)
{
    return w->range <= fmax(limits->range_max * w->average, floor) &&
           fabs(w->slope) <= fmax(limits->slope_max * w->average, floor);
}

bool steady_add(struct steady *s, double throughput, double latency_ns)
{
    unsigned slot = s->rounds++ % s->config.window_rounds;
    s->throughput[slot] = throughput;
    s->latency_ns[slot] = latency_ns;
    if (!window_full(s) || s->rounds < s->config.rounds_min)
        return false;
    struct spread t = spread_of(s, s->throughput), l = spread_of(s, s->latency_ns);
    return t.min > 0 && within(&t, &s->config.throughput, 0) &&
           within(&l, &s->config.latency, s->config.latency_floor_ns);
}

uint64_t steady_rounds(const struct steady *s)
{
    return s->rounds;
}

static bool figures_of(const struct steady *s, const double *ring, struct steady_figures *ret)
{
    if (!window_full(s))
        return false;
    struct spread w = spread_of(s, ring);
    double unit = w.average > 0 ? w.average : 1; /* all zero: no spread either */
    *ret = (struct steady_figures){w.average, w.range / unit, w.slope / unit};
    return true;
}

bool steady_throughput(const struct steady *s, struct steady_figures *ret)
{
    return figures_of(s, s->throughput, ret);
}

bool steady_latency(const struct steady *s, struct steady_figures *ret)
{
    return figures_of(s, s->latency_ns, ret);
}
