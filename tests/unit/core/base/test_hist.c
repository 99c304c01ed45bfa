#include "core/base/hist.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"

#define VALUES_N 100003u
#define SECOND_NS UINT64_C(1000000000)

static struct hist make(uint64_t highest)
{
    struct hist h;
    cr_assert_eq(hist_init(&h, highest), 0);
    return h;
}

/* The same values with the same counts, and all that is kept of them. */
static void expect_same(const struct hist *a, const struct hist *b)
{
    struct hist_iter i = hist_iter(a), j = hist_iter(b);
    while (hist_iter_next(&i)) {
        cr_assert(hist_iter_next(&j));
        cr_assert_eq(i.highest, j.highest);
        cr_assert_eq(i.count, j.count, "%lu: %lu, %lu", i.highest, i.count, j.count);
    }
    cr_assert_not(hist_iter_next(&j));
    cr_assert_eq(hist_count(a), hist_count(b));
    cr_assert_eq(a->saturated, b->saturated);
    cr_assert_eq(hist_min(a), hist_min(b));
    cr_assert_eq(hist_max(a), hist_max(b));
}

static void expect_empty(const struct hist *h)
{
    struct hist_iter it = hist_iter(h);
    cr_assert_not(hist_iter_next(&it));
    cr_assert_eq(hist_count(h), 0u);
    cr_assert_eq(hist_min(h), 0u);
    cr_assert_eq(hist_max(h), 0u);
    cr_assert_eq(hist_mean(h), 0.0);
    cr_assert_eq(hist_stddev(h), 0.0);
    cr_assert_eq(hist_value_at_percentile(h, 0), 0u);
    cr_assert_eq(hist_value_at_percentile(h, 99.9), 0u);
    cr_assert_eq(h->saturated, 0u);
    for (uint32_t i = 0; i < h->counts_n; i++)
        cr_assert_eq(h->counts[i], 0u);
}

/* -- exact values of several distributions */

static double unit(struct rng *r) /* (0, 1] */
{
    return ldexp((double)(rng_next(r) >> 11) + 1, -53);
}

static uint64_t uniform(struct rng *r)
{
    return rng_below(r, SECOND_NS);
}

static uint64_t small(struct rng *r)
{
    return rng_below(r, 5000);
}

static uint64_t exponential(struct rng *r)
{
    return (uint64_t)(-log(unit(r)) * 2e6);
}

static uint64_t all_magnitudes(struct rng *r)
{
    return (uint64_t)exp(unit(r) * log((double)HIST_HOUR_NS));
}

static uint64_t two_hills(struct rng *r)
{
    return rng_below(r, 100) ? 90000 + rng_below(r, 20000) : 2 * SECOND_NS + uniform(r);
}

static uint64_t heavy_tail(struct rng *r)
{
    double v = 1e5 * pow(unit(r), -1.2);
    return v < (double)HIST_HOUR_NS ? (uint64_t)v : HIST_HOUR_NS;
}

static uint64_t constant(struct rng *r)
{
    (void)r;
    return 1234567;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Never less than the exact value, and by no more than a thousandth above it. */
static void expect_near(uint64_t read, uint64_t exact, const char *what)
{
    cr_assert_geq(read, exact, "%s: %lu for %lu", what, read, exact);
    cr_assert_leq((read - exact) * 1000, exact, "%s: %lu for %lu", what, read, exact);
}

static void expect_precise(uint64_t (*draw)(struct rng *), const char *what)
{
    static const uint32_t ppm[] = {1,      10000,  250000, 333333, 500000,
                                   900000, 990000, 999000, 999900, 999990};
    static uint64_t values[VALUES_N];
    struct hist h = make(HIST_HOUR_NS);
    struct rng r;
    double sum = 0, squares = 0;
    rng_seed(&r, 17);
    for (unsigned i = 0; i < VALUES_N; i++) {
        values[i] = draw(&r);
        hist_record(&h, values[i]);
        sum += (double)values[i];
    }
    qsort(values, VALUES_N, sizeof(*values), by_value);
    double mean = sum / VALUES_N;
    for (unsigned i = 0; i < VALUES_N; i++)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    for (unsigned i = 0; i < ARRAY_LEN(ppm); i++) {
        uint64_t rank = ((uint64_t)ppm[i] * VALUES_N + 999999) / 1000000;
        expect_near(hist_value_at_percentile(&h, ppm[i] / 1e4), values[rank - 1], what);
    }
    cr_assert_eq(hist_count(&h), VALUES_N);
    cr_assert_eq(h.saturated, 0u);
    expect_near(hist_max(&h), values[VALUES_N - 1], what);
    expect_near(values[0], hist_min(&h), what);
    cr_assert_leq(fabs(hist_mean(&h) - mean), mean * 1e-3, "%s", what);
    double stddev = sqrt(squares / VALUES_N);
    cr_assert_leq(fabs(hist_stddev(&h) - stddev), (mean + stddev) * 1e-3, "%s", what);
    hist_fini(&h);
}

Test(hist, precise_to_a_thousandth)
{
    expect_precise(uniform, "uniform");
    expect_precise(small, "small");
    expect_precise(exponential, "exponential");
    expect_precise(all_magnitudes, "all magnitudes");
    expect_precise(two_hills, "two hills");
    expect_precise(heavy_tail, "heavy tail");
    expect_precise(constant, "constant");
}

/* -- one value each */

Test(hist, edges_of_buckets)
{
    /* What the Java class says of them: the lowest and the highest equivalent value. */
    static const uint64_t rows[][3] = {
        {0, 0, 0},
        {1, 1, 1},
        {2047, 2047, 2047},
        {2048, 2048, 2049},
        {2049, 2048, 2049},
        {4095, 4094, 4095},
        {4096, 4096, 4099},
        {4099, 4096, 4099},
        {123456789012, 123413200896, 123480309759},
        {HIST_HOUR_NS, 3599182594048, 3601330077695},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct hist h = make(HIST_HOUR_NS);
        hist_record(&h, rows[i][0]);
        cr_assert_eq(hist_min(&h), rows[i][1], "%lu", rows[i][0]);
        cr_assert_eq(hist_max(&h), rows[i][2], "%lu", rows[i][0]);
        cr_assert_eq(hist_value_at_percentile(&h, 0), rows[i][1], "%lu", rows[i][0]);
        cr_assert_eq(hist_value_at_percentile(&h, 50), rows[i][2], "%lu", rows[i][0]);
        cr_assert_eq(hist_mean(&h), (double)((rows[i][1] + rows[i][2] + 1) / 2));
        cr_assert_eq(hist_stddev(&h), 0.0);
        hist_fini(&h);
    }
}

Test(hist, each_step_follows_the_one_before)
{
    struct hist h = make(HIST_HIGHEST_MAX);
    uint64_t next = 0;
    for (uint32_t i = 0; i < h.counts_n; i++)
        h.counts[i] = i + 1;
    h.total = 1;
    h.index_min = 0;
    h.index_max = h.counts_n - 1;
    for (struct hist_iter it = hist_iter(&h); hist_iter_next(&it); next = it.highest + 1) {
        cr_assert_eq(it.lowest, next);
        cr_assert_eq(hist_index(it.lowest) + 1, it.count);
        cr_assert_eq(hist_index(it.highest) + 1, it.count);
        cr_assert_leq((it.highest - it.lowest) * 1000, it.lowest);
    }
    cr_assert_eq(next, UINT64_C(1) << 63);
    hist_fini(&h);
}

Test(hist, limits)
{
    struct hist h;
    cr_assert_eq(hist_init(&h, 0), -EINVAL);
    cr_assert_eq(hist_init(&h, 1), -EINVAL);
    cr_assert_eq(hist_init(&h, HIST_HIGHEST_MAX + 1), -EINVAL);
    static const uint64_t rows[][2] = {
        {2, 2048},    {2047, 2048},          {2048, 3072},        {4095, 3072},
        {4096, 4096}, {HIST_HOUR_NS, 33792}, {INT64_MAX, 55296u}, {INT64_MAX / 2, 54272}};
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        h = make(rows[i][0]);
        cr_assert_eq(h.counts_n, rows[i][1], "%lu: %u", rows[i][0], h.counts_n);
        hist_record(&h, rows[i][0]);
        cr_assert_geq(hist_max(&h), rows[i][0]);
        hist_fini(&h);
    }
}

Test(hist, too_great_is_counted_as_the_highest)
{
    struct hist h = make(HIST_HOUR_NS);
    hist_record(&h, HIST_HOUR_NS);
    cr_assert_eq(h.saturated, 0u);
    hist_record(&h, HIST_HOUR_NS + 1);
    hist_record_n(&h, UINT64_MAX, 3);
    cr_assert_eq(h.saturated, 4u);
    cr_assert_eq(hist_count(&h), 5u);
    cr_assert_eq(hist_min(&h), 3599182594048u);
    cr_assert_eq(hist_max(&h), 3601330077695u);
    hist_fini(&h);
}

Test(hist, many_at_once)
{
    struct hist one = make(HIST_HOUR_NS), many = make(HIST_HOUR_NS);
    for (unsigned i = 0; i < 1000; i++)
        hist_record(&one, 77777);
    hist_record_n(&many, 77777, 1000);
    hist_record_n(&many, 5, 0); /* nothing: not even a minimum */
    hist_record_n(&many, UINT64_MAX, 0);
    expect_same(&one, &many);
    hist_fini(&one);
    hist_fini(&many);
}

/* -- ranks */

Test(hist, every_rank_of_a_thousand)
{
    struct hist h = make(HIST_HOUR_NS);
    for (uint64_t v = 1; v <= 1000; v++)
        hist_record(&h, v);
    for (unsigned k = 1; k <= 1000; k++)
        cr_assert_eq(hist_value_at_percentile(&h, k / 10.0), k, "%u", k);
    cr_assert_eq(hist_value_at_percentile(&h, 0), 1u);
    cr_assert_eq(hist_value_at_percentile(&h, 50.01), 501u); /* up, not to the nearest */
    cr_assert_eq(hist_value_at_percentile(&h, -1), 1u);
    cr_assert_eq(hist_value_at_percentile(&h, 200), 1000u);
    cr_assert_eq(hist_value_at_percentile(&h, NAN), 1u);
    hist_fini(&h);
}

Test(hist, iterates_over_what_was_recorded)
{
    static const uint64_t values[] = {0, 7, 7, 2048, 2049, 1000000};
    static const uint64_t expected[][4] = {/* lowest, highest, count, count to here */
                                           {0, 0, 1, 1},
                                           {7, 7, 2, 3},
                                           {2048, 2049, 2, 5},
                                           {999936, 1000447, 1, 6}};
    struct hist h = make(HIST_HOUR_NS);
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(values); i++)
        hist_record(&h, values[i]);
    for (struct hist_iter it = hist_iter(&h); hist_iter_next(&it); n++) {
        uint64_t row[4] = {it.lowest, it.highest, it.count, it.count_to_here};
        cr_assert_lt(n, ARRAY_LEN(expected));
        cr_assert_arr_eq(row, expected[n], sizeof(row), "row %u", n);
    }
    cr_assert_eq(n, ARRAY_LEN(expected));
    hist_fini(&h);
}

/* -- whole histograms */

static void record_random(struct hist *h, struct hist *also, uint64_t seed, unsigned n)
{
    struct rng r;
    rng_seed(&r, seed);
    for (unsigned i = 0; i < n; i++) {
        uint64_t v = rng_next(&r) >> rng_below(&r, 64);
        hist_record(h, v);
        hist_record(also, v);
    }
}

Test(hist, merged_is_as_recorded_in_one)
{
    struct hist a = make(HIST_HOUR_NS), b = make(HIST_HOUR_NS), all = make(HIST_HOUR_NS);
    struct hist empty = make(HIST_HOUR_NS);
    record_random(&a, &all, 1, 10000);
    record_random(&b, &all, 2, 3000);
    hist_add(&a, &empty);
    hist_add(&a, &b);
    expect_same(&a, &all);
    hist_add(&empty, &a);
    expect_same(&empty, &all);
    cr_assert_gt(all.saturated, 1000u);
    hist_fini(&a);
    hist_fini(&b);
    hist_fini(&all);
    hist_fini(&empty);
}

/* Into one that does not tell so great values apart: as if recorded there. */
static void merge_into_smaller(uint64_t least)
{
    struct hist dst = make(SECOND_NS), src = make(HIST_HOUR_NS), all = make(SECOND_NS);
    for (uint64_t v = least; v < 10 * SECOND_NS; v = v * 3 / 2 + 1) {
        hist_record_n(&src, v, v % 5);
        hist_record_n(&all, v, v % 5);
    }
    hist_add(&dst, &src);
    expect_same(&dst, &all);
    cr_assert_gt(dst.saturated, 0u);
    hist_fini(&dst);
    hist_fini(&src);
    hist_fini(&all);
}

Test(hist, merged_into_a_smaller_one)
{
    merge_into_smaller(1);
    merge_into_smaller(2 * SECOND_NS);
}

Test(hist, merged_into_a_greater_one)
{
    struct hist dst = make(HIST_HOUR_NS), src = make(SECOND_NS), all = make(HIST_HOUR_NS);
    for (uint64_t v = 3; v < SECOND_NS; v = v * 3 / 2) {
        hist_record(&src, v);
        hist_record(&all, v);
    }
    hist_add(&dst, &src);
    expect_same(&dst, &all);
    hist_fini(&dst);
    hist_fini(&src);
    hist_fini(&all);
}

Test(hist, reset_leaves_nothing)
{
    struct hist h = make(HIST_HOUR_NS), fresh = make(HIST_HOUR_NS);
    expect_empty(&h);
    hist_reset(&h);
    expect_empty(&h);
    for (uint64_t seed = 1; seed < 4; seed++) {
        record_random(&h, &fresh, seed, 2000);
        hist_reset(&h);
        expect_empty(&h);
    }
    hist_reset(&fresh);
    record_random(&h, &fresh, 9, 2000);
    expect_same(&h, &fresh);
    hist_fini(&h);
    hist_fini(&fresh);
}

Test(hist, copy_takes_the_place_of_what_was_there)
{
    struct hist a = make(HIST_HOUR_NS), b = make(HIST_HOUR_NS), other = make(HIST_HOUR_NS);
    struct hist empty = make(HIST_HOUR_NS);
    record_random(&a, &other, 3, 5000);
    hist_record_n(&b, 12345, 9);
    hist_record_n(&b, UINT64_MAX, 2);
    hist_copy(&a, &b);
    expect_same(&a, &b);
    hist_copy(&a, &empty);
    expect_empty(&a);
    hist_fini(&a);
    hist_fini(&b);
    hist_fini(&other);
    hist_fini(&empty);
}
