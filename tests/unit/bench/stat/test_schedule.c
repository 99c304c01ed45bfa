#include "bench/stat/schedule.h"
#include "core/base/bytes.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define GAPS 20000
#define WINDOWS 1000

static struct schedule start(const char *text, double rate_per_s, uint64_t seed, unsigned part,
                             unsigned parts)
{
    struct schedule_shape shape;
    struct schedule s;
    const char *reason = NULL;
    cr_assert_eq(schedule_parse(text, &shape, &reason), 0, "%s: %s", text, reason);
    schedule_init(&s, &shape, rate_per_s, seed, part, parts);
    return s;
}

/* k * 1e9 / rate in exact integer arithmetic, to the nearest ns. */
static uint64_t exact_ns(uint64_t k, uint64_t rate_per_s)
{
    return (uint64_t)(((unsigned __int128)k * 2000000000u + rate_per_s) / (2 * rate_per_s));
}

Test(schedule, parses_shapes)
{
    static const struct {
        const char *text;
        struct schedule_shape shape;
    } cases[] = {
        {"constant", {SCHEDULE_EVEN, 1, 0, 0, 0}},
        {"poisson", {SCHEDULE_POISSON, 1, 0, 0, 0}},
        {"burst:1", {SCHEDULE_EVEN, 1, 0, 0, 0}},
        {"burst:1000000", {SCHEDULE_EVEN, 1000000, 0, 0, 0}},
        {"burst:64@poisson", {SCHEDULE_POISSON, 64, 0, 0, 0}},
        {"ramp:0.1-1.0:30", {SCHEDULE_RAMP, 1, 0.1, 1, 30}},
        {"ramp:0-1:.5", {SCHEDULE_RAMP, 1, 0, 1, 0.5}},
        {"ramp:2-0.001:1000000", {SCHEDULE_RAMP, 1, 2, 0.001, 1e6}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct schedule_shape got, want = cases[i].shape;
        const char *reason = NULL;
        cr_assert_eq(schedule_parse(cases[i].text, &got, &reason), 0, "%s", cases[i].text);
        cr_assert_eq(got.kind, want.kind, "%s", cases[i].text);
        cr_assert_eq(got.burst_size, want.burst_size, "%s", cases[i].text);
        cr_assert_eq(got.ramp_from, want.ramp_from, "%s", cases[i].text);
        cr_assert_eq(got.ramp_to, want.ramp_to, "%s", cases[i].text);
        cr_assert_eq(got.ramp_s, want.ramp_s, "%s", cases[i].text);
    }
}

Test(schedule, refuses_everything_else_with_a_reason)
{
    static const char *const texts[] = {
        "",
        "Constant",
        "constant ",
        "constant:1",
        "poisson2",
        "burst",
        "burst:",
        "burst:0",
        "burst:1.5",
        "burst:-3",
        "burst: 3",
        "burst:1000001",
        "burst:1e3",
        "burst:0x10",
        "burst:nan",
        "burst:5@",
        "burst:5@constant",
        "burst:5@poisson ",
        "ramp:1-2",
        "ramp:1:2:3",
        "ramp:-1-2:3",
        "ramp:1--2:3",
        "ramp:1-2:",
        "ramp:1-2:0",
        "ramp:1-2:inf",
        "ramp:1-2:3s",
        "ramp:1-0:3",
        "ramp:1-0.0009:3",
        "ramp:1001-1:3",
        "ramp:1-1001:3",
        "ramp:1-2:1000001",
        "ramp:1.2.3-2:3",
        "ramp:.-2:3",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct schedule_shape shape = {.burst_size = 77};
        const char *reason = NULL;
        cr_assert_eq(schedule_parse(texts[i], &shape, &reason), -EINVAL, "%s", texts[i]);
        cr_assert_not_null(reason, "%s", texts[i]);
        cr_assert_eq(shape.burst_size, 77, "%s: the output was written", texts[i]);
    }
}

Test(schedule, constant_is_exact)
{
    static const uint64_t rates_per_s[] = {1, 3, 7, 1000, 3072, 999983, 1000000, 100000000};
    for (size_t i = 0; i < ARRAY_LEN(rates_per_s); i++) {
        struct schedule s = start("constant", (double)rates_per_s[i], 1, 0, 1);
        for (uint64_t k = 0; k < 50000; k++) {
            uint64_t peeked_ns = schedule_peek(&s), t_ns = schedule_next(&s);
            cr_assert_eq(t_ns, exact_ns(k, rates_per_s[i]), "event %lu of %lu/s", k,
                         rates_per_s[i]);
            cr_assert_eq(peeked_ns, t_ns);
        }
    }
}

/* A part of a thousand million is every thousand-millionth event: 1e12 in a thousand calls. */
Test(schedule, constant_does_not_drift)
{
    static const uint64_t rates_per_s[] = {999983, 1000000, 99999989};
    const unsigned parts = 1000000000;
    for (size_t i = 0; i < ARRAY_LEN(rates_per_s); i++) {
        struct schedule s = start("constant", (double)rates_per_s[i], 1, 7, parts);
        for (uint64_t call = 0; call <= 1000; call++)
            cr_assert_eq(schedule_next(&s), exact_ns(7 + call * parts, rates_per_s[i]),
                         "call %lu of %lu/s", call, rates_per_s[i]);
    }
}

Test(schedule, constant_at_a_tenth_per_second)
{
    struct schedule s = start("constant", 0.1, 1, 0, 1);
    for (uint64_t k = 0; k < 100000; k++)
        cr_assert_eq(schedule_next(&s), k * 10000000000u);
}

Test(schedule, parts_interleave_into_the_whole)
{
    static const struct {
        const char *text;
        double rate_per_s;
        unsigned burst_size;
    } cases[] = {
        {"constant", 999983, 1},    {"constant", 0.7, 1},       {"burst:3", 1234.5, 3},
        {"ramp:0.1-1:2", 70000, 1}, {"ramp:0-3:1", 333.3, 1},   {"ramp:2-0.1:1.5", 54321, 1},
        {"ramp:1-1:1", 77777, 1},   {"ramp:5-1:0.001", 100, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct schedule part[7], whole = start(cases[i].text, cases[i].rate_per_s, 1, 0, 1);
        for (unsigned p = 0; p < ARRAY_LEN(part); p++)
            part[p] = start(cases[i].text, cases[i].rate_per_s, 1, p, ARRAY_LEN(part));
        for (unsigned k = 0; k < 200000; k++) {
            unsigned owner = k / cases[i].burst_size % ARRAY_LEN(part);
            cr_assert_eq(schedule_next(&part[owner]), schedule_next(&whole), "%s, event %u",
                         cases[i].text, k);
        }
    }
}

Test(schedule, bursts_share_an_instant_and_keep_the_rate)
{
    struct schedule s = start("burst:5", 1000, 1, 0, 1);
    for (uint64_t k = 0; k < 5000; k++)
        cr_assert_eq(schedule_next(&s), k / 5 * 5000000, "event %lu", k);
}

Test(schedule, times_past_584_years_are_never)
{
    struct schedule even = start("burst:1000", SCHEDULE_RATE_MIN, 1, 0, 30000);
    struct schedule random = start("burst:1000000@poisson", SCHEDULE_RATE_MIN, 1, 0, 30000);
    for (unsigned k = 0; k < 1000; k++)
        cr_assert_eq(schedule_next(&even), 0);
    for (unsigned k = 0; k < 5000; k++)
        cr_assert_eq(schedule_next(&even), SCHEDULE_NEVER);
    cr_assert_eq(schedule_next(&random), SCHEDULE_NEVER);
}

/* The gaps of `s`, or of its bursts, as parts of their expected mean. */
static void draw_gaps(struct schedule *s, double mean_ns, unsigned burst_size, double *ret)
{
    uint64_t before_ns = 0;
    for (unsigned i = 0; i < GAPS; i++) {
        uint64_t t_ns = schedule_next(s);
        for (unsigned j = 1; j < burst_size; j++)
            cr_assert_eq(schedule_next(s), t_ns);
        cr_assert_geq(t_ns, before_ns);
        ret[i] = (double)(t_ns - before_ns) / mean_ns;
        before_ns = t_ns;
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* sqrt(n) times the Kolmogorov-Smirnov distance from the unit exponential; sorts. */
static double ks_exponential(double *gap)
{
    double distance = 0;
    qsort(gap, GAPS, sizeof(*gap), compare_doubles);
    for (unsigned i = 0; i < GAPS; i++) {
        double expected = -expm1(-gap[i]);
        distance = fmax(distance, fmax(expected - (double)i / GAPS, (i + 1.0) / GAPS - expected));
    }
    return distance * sqrt(GAPS);
}

static void expect_exponential(const char *text, double rate_per_s, double mean_ns,
                               unsigned burst_size, unsigned part, unsigned parts)
{
    static double gap[GAPS];
    unsigned above_5_percent = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct schedule s = start(text, rate_per_s, seed, part, parts);
        double sum = 0, squares = 0;
        draw_gaps(&s, mean_ns, burst_size, gap);
        for (unsigned i = 0; i < GAPS; i++) {
            sum += gap[i];
            squares += (gap[i] - 1) * (gap[i] - 1);
        }
        /* Of n unit exponentials the mean has a deviation of 1 / sqrt(n), the variance (about the
         * known mean) of sqrt(8 / n). */
        cr_assert_float_eq(sum / GAPS, 1, 4 / sqrt(GAPS), "%s, seed %lu", text, seed);
        cr_assert_float_eq(squares / GAPS, 1, 4 * sqrt(8.0 / GAPS), "%s, seed %lu", text, seed);
        double ks = ks_exponential(gap);
        cr_assert_lt(ks, 1.95, "%s, seed %lu: %f is beyond 0.1 %%", text, seed, ks);
        above_5_percent += ks > 1.358;
    }
    cr_assert_leq(above_5_percent, 6, "%u of 40 seeds above the 5 %% point", above_5_percent);
}

Test(schedule, poisson_gaps_are_exponential)
{
    expect_exponential("poisson", 1000, 1e6, 1, 0, 1);
    expect_exponential("poisson", 0.1, 1e10, 1, 0, 1);
    expect_exponential("poisson", 1000, 4e6, 1, 3, 4);
}

Test(schedule, poisson_bursts_arrive_as_a_poisson_process)
{
    expect_exponential("burst:10@poisson", 1000, 1e7, 10, 0, 1);
}

/* At 10 ns a gap, ns that are cut off instead of carried on would show as 5 % too much rate. */
Test(schedule, poisson_keeps_the_fractions_of_ns)
{
    const unsigned count = 4000000;
    struct schedule s = start("poisson", 1e8, 5, 0, 1);
    uint64_t t_ns = 0;
    for (unsigned k = 0; k < count; k++)
        t_ns = schedule_next(&s);
    cr_assert_float_eq((double)t_ns / count, 10, 4 * 10 / sqrt(count));
}

static void count_windows(struct schedule *s, uint64_t window_ns, unsigned counts[WINDOWS])
{
    while (schedule_peek(s) < window_ns * WINDOWS)
        counts[schedule_next(s) / window_ns]++;
}

static double covariance(const unsigned *a, const unsigned *b)
{
    double mean_a = 0, mean_b = 0, sum = 0;
    for (unsigned w = 0; w < WINDOWS; w++) {
        mean_a += (double)a[w] / WINDOWS;
        mean_b += (double)b[w] / WINDOWS;
    }
    for (unsigned w = 0; w < WINDOWS; w++)
        sum += (a[w] - mean_a) * (b[w] - mean_b);
    return sum / (WINDOWS - 1);
}

/* The counts of a Poisson process in equal windows have a variance equal to their mean, 1000; it is
 * known to sqrt(2 / WINDOWS) of itself. Parts that shared draws would add up to more. */
Test(schedule, poisson_parts_are_independent_and_add_up)
{
    static unsigned part_counts[4][WINDOWS], merged[WINDOWS];
    for (unsigned p = 0; p < 4; p++) {
        struct schedule s = start("poisson", 10000, 3, p, 4);
        count_windows(&s, 100000000, part_counts[p]);
        for (unsigned w = 0; w < WINDOWS; w++)
            merged[w] += part_counts[p][w];
    }
    double total = 0;
    for (unsigned w = 0; w < WINDOWS; w++)
        total += merged[w];
    cr_assert_float_eq(total, 1000.0 * WINDOWS, 4 * sqrt(1000.0 * WINDOWS));
    cr_assert_float_eq(covariance(merged, merged) / 1000, 1, 4 * sqrt(2.0 / WINDOWS));
    for (unsigned a = 0; a < 4; a++)
        for (unsigned b = a + 1; b < 4; b++)
            cr_assert_float_eq(covariance(part_counts[a], part_counts[b]) / 250, 0,
                               4 / sqrt(WINDOWS), "parts %u and %u", a, b);
}

Test(schedule, same_seed_same_times_other_seed_other_times)
{
    struct schedule a = start("poisson", 1000, 11, 0, 1), b = start("poisson", 1000, 11, 0, 1),
                    c = start("poisson", 1000, 12, 0, 1);
    bool differs = false;
    for (unsigned k = 0; k < 100; k++) {
        uint64_t t_ns = schedule_next(&a);
        cr_assert_eq(t_ns, schedule_next(&b));
        differs |= t_ns != schedule_next(&c);
    }
    cr_assert(differs);
}

struct ramp {
    const char *text;
    long double from, to, duration_s, rate_per_s;
};

/* The integral of the rate from 0 to t. */
static long double ramp_count(const struct ramp *r, long double t_s)
{
    long double in_ramp_s = fminl(t_s, r->duration_s);
    long double mean = r->from + (r->to - r->from) * in_ramp_s / r->duration_s / 2;
    return r->rate_per_s * (in_ramp_s * mean + (t_s - in_ramp_s) * r->to);
}

Test(schedule, ramp_events_are_where_the_integral_reaches_their_index)
{
    static const struct ramp ramps[] = {
        {"ramp:0.1-1.0:30", 0.1, 1, 30, 10000}, {"ramp:0-1:10", 0, 1, 10, 20000.5},
        {"ramp:2-0.5:5", 2, 0.5, 5, 30000},     {"ramp:1-1:3", 1, 1, 3, 12345},
        {"ramp:0-1:0.01", 0, 1, 0.01, 1e8},     {"ramp:100-0.001:2", 100, 0.001, 2, 1000},
        {"ramp:0.5-1:3600", 0.5, 1, 3600, 0.1},
    };
    for (size_t i = 0; i < ARRAY_LEN(ramps); i++) {
        const struct ramp *r = &ramps[i];
        struct schedule s = start(r->text, (double)r->rate_per_s, 1, 0, 1);
        cr_assert_eq(schedule_next(&s), 0);
        for (unsigned k = 1; k < 300000; k++) {
            long double t_s = schedule_next(&s) / 1e9L;
            /* Within a ns, of which half is rounding and the rest is what a double keeps of 0.1. */
            cr_assert(ramp_count(r, t_s - 1e-9L) < k && k < ramp_count(r, t_s + 1e-9L),
                      "%s, event %u: at %.10Lf s the count is %.9Lf", r->text, k, t_s,
                      ramp_count(r, t_s));
        }
    }
}

Test(schedule, ramp_is_even_from_its_end_on)
{
    /* 5500 events in the 10 s of the ramp, number 5500 is the first at the full rate. */
    struct schedule s = start("ramp:0.1-1:10", 1000, 1, 0, 1);
    unsigned in_ramp = 0;
    for (; schedule_peek(&s) < 10000000000u; in_ramp++)
        schedule_next(&s);
    cr_assert_eq(in_ramp, 5500);
    for (uint64_t k = 0; k < 10000; k++)
        cr_assert_eq(schedule_next(&s), 10000000000u + k * 1000000);
}

Test(schedule, mean_rate_follows_the_shape)
{
    struct schedule_shape shape;
    const char *reason;
    cr_assert_eq(schedule_parse("burst:5@poisson", &shape, &reason), 0);
    cr_assert_eq(schedule_mean_rate(&shape, 1000, 7), 1000);
    cr_assert_eq(schedule_parse("ramp:0.5-1.5:10", &shape, &reason), 0);
    cr_assert_float_eq(schedule_mean_rate(&shape, 1000, 0), 500, 1e-9);
    cr_assert_float_eq(schedule_mean_rate(&shape, 1000, 2500000000), 750, 1e-9);
    cr_assert_float_eq(schedule_mean_rate(&shape, 1000, 10000000000), 1500, 1e-9);
    cr_assert_float_eq(schedule_mean_rate(&shape, 1000, UINT64_MAX), 1500, 1e-9);
}
