#include "bench/stat/steady.h"
#include "core/base/bytes.h"
#include "core/base/rng.h"

#include <criterion/criterion.h>
#include <math.h>

#define MS 1e6 /* ns */

static struct steady begin(void)
{
    struct steady s;
    steady_init(&s, &steady_config_default);
    return s;
}

/* Adds n rounds of the same values; whether the last one was steady. */
static bool add_same(struct steady *s, unsigned n, double throughput, double latency_ns)
{
    bool steady = false;
    while (n-- > 0)
        steady = steady_add(s, throughput, latency_ns);
    return steady;
}

static const double even[5] = {1, 1, 1, 1, 1};

/* The answer to the fifth of five rounds, given as multiples of 1000 records/s and a latency. */
static bool window_steady(const double throughput[5], const double latency[5], double latency_ns)
{
    struct steady s = begin();
    bool steady = false;
    for (unsigned i = 0; i < 5; i++) {
        cr_assert_not(steady, "before the window is full");
        steady = steady_add(&s, 1000 * throughput[i], latency_ns * latency[i]);
    }
    return steady;
}

Test(steady, constant_input_is_steady_after_five_rounds)
{
    struct steady s = begin();
    cr_assert_not(add_same(&s, 4, 1000, MS));
    cr_assert(steady_add(&s, 1000, MS));
    cr_assert_eq(steady_rounds(&s), 5);
}

Test(steady, not_before_the_minimum_of_rounds)
{
    struct steady_config config = steady_config_default;
    struct steady s;
    config.rounds_min = 12;
    steady_init(&s, &config);
    for (unsigned round = 1; round < 12; round++)
        cr_assert_not(steady_add(&s, 1000, MS), "round %u", round);
    cr_assert(steady_add(&s, 1000, MS));
}

Test(steady, other_windows)
{
    struct steady_config config = steady_config_default;
    struct steady s;
    config.window_rounds = STEADY_WINDOW_MAX;
    steady_init(&s, &config);
    add_same(&s, 3, 500, MS);
    for (unsigned round = 1; round < STEADY_WINDOW_MAX; round++)
        cr_assert_not(steady_add(&s, 1000, MS), "round %u", round);
    cr_assert(steady_add(&s, 1000, MS));
}

Test(steady, a_step_is_steady_when_it_has_left_the_window)
{
    struct steady s = begin();
    cr_assert(add_same(&s, 20, 1000, MS));
    for (unsigned i = 0; i < 4; i++)
        cr_assert_not(steady_add(&s, 1500, MS), "%u rounds after the step", i);
    cr_assert(steady_add(&s, 1500, MS));
    for (unsigned i = 0; i < 4; i++)
        cr_assert_not(steady_add(&s, 1500, 3 * MS), "%u rounds after the step", i);
    cr_assert(steady_add(&s, 1500, 3 * MS));
}

/* Spikes in the middle of the window have no slope: only the range can refuse them. */
Test(steady, range_limits)
{
    static const double up_19[5] = {1, 1, 1.19, 1, 1}, up_22[5] = {1, 1, 1.22, 1, 1},
                        down_22[5] = {1, 1, 0.78, 1, 1}, up_50[5] = {1, 1, 1.5, 1, 1},
                        up_60[5] = {1, 1, 1.6, 1, 1};
    cr_assert(window_steady(up_19, even, MS));
    cr_assert_not(window_steady(up_22, even, MS));
    cr_assert_not(window_steady(down_22, even, MS));
    cr_assert(window_steady(even, up_50, MS));
    cr_assert_not(window_steady(even, up_60, MS));
}

/* 4 % a round rise by 16 % in all: a range within the limit, a slope that is not. */
Test(steady, slow_drift_is_refused)
{
    static const double up_16[5] = {0.92, 0.96, 1, 1.04, 1.08},
                        down_16[5] = {1.08, 1.04, 1, 0.96, 0.92},
                        up_9[5] = {0.955, 0.98, 1, 1.02, 1.045},
                        up_24[5] = {0.88, 0.94, 1, 1.06, 1.12};
    cr_assert_not(window_steady(up_16, even, MS));
    cr_assert_not(window_steady(down_16, even, MS));
    cr_assert(window_steady(up_9, even, MS));
    cr_assert(window_steady(even, up_16, 10 * MS));
    cr_assert_not(window_steady(even, up_24, 10 * MS));
}

/* Latencies that fall as 10 ms + 40 ms * exp(-round / 10), as when caches fill. The line over
 * rounds r - 4 to r falls by about 4 * 4 ms * exp(-(r - 2) / 10), which must be a fifth of the
 * average. */
Test(steady, a_decaying_transient_is_accepted_when_it_has_flattened)
{
    struct steady s = begin();
    unsigned round = 0;
    for (bool steady = false; !steady; round++) {
        cr_assert_lt(round, 200, "never steady");
        steady = steady_add(&s, 1000, 10 * MS + 40 * MS * exp(-(double)round / 10));
    }
    struct steady_figures latency;
    cr_assert(steady_latency(&s, &latency));
    cr_assert(latency.slope < 0 && latency.slope >= -0.2, "%f", latency.slope);
    /* 16 e^-x <= 0.2 (10 + 40 e^-x): e^-x <= 1/4, x = 1.39: the window's middle is round 14. */
    cr_assert(round >= 16 && round <= 19, "steady after %u rounds", round);
}

Test(steady, noise_within_the_bounds_is_steady)
{
    struct rng rng;
    struct steady s = begin();
    rng_seed(&rng, 1);
    for (unsigned round = 1; round <= 10000; round++) {
        double noise = (double)rng_below(&rng, 1001) / 1000 - 0.5; /* -0.5 to 0.5 */
        bool steady = steady_add(&s, 1000 * (1 + 0.07 * noise), 10 * MS * (1 + 0.15 * noise));
        cr_assert_eq(steady, round >= 5, "round %u", round);
    }
}

Test(steady, latency_below_the_floor_is_no_transient)
{
    static const double doubling[5] = {1, 1.2, 1.5, 1.8, 2};
    cr_assert(window_steady(even, doubling, 100e3), "from 100 to 200 us");
    cr_assert_not(window_steady(even, doubling, 300e3), "from 300 to 600 us");
    cr_assert(window_steady(even, even, 0));
}

Test(steady, rounds_without_an_acknowledged_record_are_not_steady)
{
    struct steady_config config = steady_config_default;
    struct steady s;
    config.throughput = (struct steady_limits){100, 100};
    steady_init(&s, &config);
    cr_assert_not(add_same(&s, 10, 0, MS));
    cr_assert_not(add_same(&s, 4, 1000, MS));
    cr_assert(add_same(&s, 1, 1000, MS));
    cr_assert_not(add_same(&s, 1, 0, MS));
    cr_assert_not(add_same(&s, 4, 1000, NAN));
    cr_assert_not(add_same(&s, 1, 1000, NAN), "a latency that is not known");
}

Test(steady, figures_are_of_the_last_window)
{
    static const double values[] = {7, 9000, 90, 95, 105, 100, 110};
    struct steady s = begin();
    struct steady_figures throughput = {.average = -1}, latency;
    add_same(&s, 4, 1, 1);
    cr_assert_not(steady_throughput(&s, &throughput));
    cr_assert_eq(throughput.average, -1, "the output was written");
    for (unsigned i = 0; i < ARRAY_LEN(values); i++)
        steady_add(&s, values[i], 3 * values[i]);
    cr_assert(steady_throughput(&s, &throughput));
    cr_assert(steady_latency(&s, &latency));
    /* The line: sum((x - 2)(y - 100)) / 10 = (20 + 5 + 0 + 0 + 20) / 10 = 4.5 a round. */
    cr_assert_float_eq(throughput.average, 100, 1e-9);
    cr_assert_float_eq(throughput.range, 0.2, 1e-9);
    cr_assert_float_eq(throughput.slope, 0.18, 1e-9);
    cr_assert_float_eq(latency.average, 300, 1e-9);
    cr_assert_float_eq(latency.range, 0.2, 1e-9);
    cr_assert_float_eq(latency.slope, 0.18, 1e-9);
}
