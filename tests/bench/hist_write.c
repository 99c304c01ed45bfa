/* hist_write.c: writes a log of tagged histograms and says what it reads off each itself, for
 * hdr_readback.py to hold against what other implementations read from the log.
 * Usage: hist-write LOG PERCENTILE...; the answer is lines of `TAG FIELD VALUE`. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/stat/hist_log.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/hist.h"
#include "core/base/rng.h"

#define SECOND_NS UINT64_C(1000000000)
#define START_EPOCH_S 1700000000.0

static void fill_nothing(struct hist *h, struct rng *r)
{
    (void)h, (void)r;
}

static void fill_zeros(struct hist *h, struct rng *r)
{
    (void)r;
    hist_record_n(h, 0, 7);
}

static void fill_edges(struct hist *h, struct rng *r)
{
    static const uint64_t edges[] = {0,    1,    2047, 2048,         2049,         2050,
                                     4095, 4096, 4099, HIST_HOUR_NS, SECOND_NS - 1};
    (void)r;
    for (unsigned i = 0; i < ARRAY_LEN(edges); i++)
        hist_record(h, edges[i]);
}

/* Each rank has a value of its own: one too many shows. */
static void fill_thousand(struct hist *h, struct rng *r)
{
    (void)r;
    for (uint64_t v = 1; v <= 1000; v++)
        hist_record(h, v);
}

/* 1,000,000: the rank of most percentiles is a whole number. */
static void fill_uniform(struct hist *h, struct rng *r)
{
    for (unsigned i = 0; i < 1000000; i++)
        hist_record(h, rng_below(r, 10 * SECOND_NS));
}

static double unit(struct rng *r) /* (0, 1] */
{
    return ldexp((double)(rng_next(r) >> 11) + 1, -53);
}

static void fill_exponential(struct hist *h, struct rng *r)
{
    for (unsigned i = 0; i < 1000000; i++)
        hist_record(h, (uint64_t)(-log(unit(r)) * 2e6));
}

static void fill_two_hills(struct hist *h, struct rng *r)
{
    for (unsigned i = 0; i < 123457; i++)
        hist_record(h, rng_below(r, 50) ? 80000 + rng_below(r, 40000)
                                        : 3 * SECOND_NS + rng_below(r, SECOND_NS));
}

/* Each magnitude alike, so that nearly all buckets are in use. */
static void fill_magnitudes(struct hist *h, struct rng *r)
{
    for (unsigned i = 0; i < 76543; i++)
        hist_record(h, (uint64_t)exp(unit(r) * log((double)HIST_HOUR_NS)));
}

/* Counts of one to seven bytes in LEB128. */
static void fill_big_counts(struct hist *h, struct rng *r)
{
    for (unsigned bits = 0; bits <= 46; bits++)
        hist_record_n(h, rng_below(r, SECOND_NS), (UINT64_C(1) << bits) + bits);
}

static void fill_too_big(struct hist *h, struct rng *r)
{
    for (unsigned i = 0; i < 1000; i++)
        hist_record(h, HIST_HOUR_NS / 2 + rng_below(r, HIST_HOUR_NS));
}

static void fill_merged(struct hist *h, struct rng *r)
{
    struct hist part;
    fill_two_hills(h, r);
    ASSERT(hist_init(&part, HIST_HOUR_NS) == 0);
    fill_magnitudes(&part, r);
    hist_add(h, &part);
    hist_fini(&part);
}

static const struct {
    const char *tag;
    uint64_t highest;
    void (*fill)(struct hist *h, struct rng *r);
} kinds[] = {
    {"empty", HIST_HOUR_NS, fill_nothing},
    {"zeros", HIST_HOUR_NS, fill_zeros},
    {"edges", HIST_HOUR_NS, fill_edges},
    {"thousand", HIST_HOUR_NS, fill_thousand},
    {"uniform", HIST_HOUR_NS, fill_uniform},
    {"exponential", HIST_HOUR_NS, fill_exponential},
    {"two-hills", HIST_HOUR_NS, fill_two_hills},
    {"magnitudes", HIST_HOUR_NS, fill_magnitudes},
    {"big-counts", HIST_HOUR_NS, fill_big_counts},
    {"too-big", HIST_HOUR_NS, fill_too_big},
    {"merged", HIST_HOUR_NS, fill_merged},
    {"a-minute", 60 * SECOND_NS, fill_exponential},
    {"all-there-is", HIST_HIGHEST_MAX, fill_two_hills},
};

/* Of each value recorded and its count, wrapping: equal only if all of them are. */
static uint64_t digest(const struct hist *h)
{
    uint64_t sum = 0;
    for (struct hist_iter it = hist_iter(h); hist_iter_next(&it);)
        sum = (sum * 31 + it.highest) * 31 + it.count;
    return sum;
}

static void say(const char *tag, const struct hist *h, double start_s, char **percentiles)
{
    printf("%s count %" PRIu64 "\n", tag, hist_count(h));
    printf("%s min %" PRIu64 "\n", tag, hist_min(h));
    printf("%s max %" PRIu64 "\n", tag, hist_max(h));
    printf("%s mean %.17g\n", tag, hist_mean(h));
    printf("%s stddev %.17g\n", tag, hist_stddev(h));
    printf("%s digest %" PRIu64 "\n", tag, digest(h));
    printf("%s start_ms %.0f\n", tag, (START_EPOCH_S + start_s) * 1000);
    for (char **p = percentiles; *p; p++)
        printf("%s p%s %" PRIu64 "\n", tag, *p, hist_value_at_percentile(h, strtod(*p, NULL)));
}

int main(int argc, char **argv)
{
    struct rng rng;
    FILE *log = argc > 1 ? fopen(argv[1], "w") : NULL;
    if (!log) {
        fprintf(stderr, "usage: hist-write LOG PERCENTILE...\n");
        return 2;
    }
    rng_seed(&rng, 4);
    ASSERT(hist_log_header(log, START_EPOCH_S) == 0);
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        struct hist h;
        ASSERT(hist_init(&h, kinds[i].highest) == 0);
        kinds[i].fill(&h, &rng);
        ASSERT(hist_log_line(log, kinds[i].tag, i, 1, &h) == 0);
        say(kinds[i].tag, &h, i, argv + 2);
        hist_fini(&h);
    }
    return fclose(log) == 0 ? 0 : 1;
}
