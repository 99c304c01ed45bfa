/* hist.h: a histogram of 3 significant decimal digits that agrees, value for value, with
 * HdrHistogram (Gil Tene, https://github.com/HdrHistogram/HdrHistogram, public domain).
 * Happy path: hist_init takes all memory there will be; hist_record is an index, two additions
 *   and three branches that are all but never taken; what is read off is computed when asked for.
 * Failure: only hist_init fails. A value above `highest` is counted as `highest`, and `saturated`
 *   says how many were, so nothing is lost in silence. Counts are 64 bits wide and do not wrap in
 *   practice: 2^53, up to which ranks are exact, are 28 years of ten million records a second.
 * Ownership: a histogram owns its counts from hist_init to hist_fini.
 * Threads: none; one owner, or the callers' own lock.
 *
 * Bucket b holds values in steps of 2^b; bucket 0 has all 2048 steps, each other one the upper
 * 1024, as the lower half is what the bucket before it covers. So a step is at most 1/1024 of its
 * values:
 *
 *   bucket        values   step   index = b * 1024 + (value >> b)
 *        0        0-2047      1           0-2047
 *        1     2048-4095      2        2048-3071
 *        2     4096-8191      4        3072-4095
 *
 * Values of one step are equivalent. As in the Java class (2.2.2), and so in every other reader:
 * the minimum is the lowest equivalent of the least value recorded, the maximum and a percentile
 * are highest equivalents, mean and deviation take each value as the middle of its step. All of
 * them are 0 for an empty histogram. */
#ifndef CORE_BASE_HIST_H
#define CORE_BASE_HIST_H

#include <stdbool.h>
#include <stdint.h>

#define HIST_HOUR_NS 3600000000000u /* the usual highest value: 33,792 counts, 270 KB */

/* What HdrHistogram derives from 3 digits: 2 * 10^3 values in steps of 1, rounded up to 2^11. */
#define HIST_DIGITS 3
#define HIST_LOWEST_DISCERNIBLE 1
#define HIST_SUB_BUCKET_BITS 11
#define HIST_SUB_BUCKETS (1u << HIST_SUB_BUCKET_BITS)
#define HIST_HIGHEST_MAX ((uint64_t)INT64_MAX) /* Java's long */

struct hist { /* fields are private to hist.{h,c} and codecs, but for highest and saturated */
    uint64_t *counts;
    uint64_t highest;   /* greatest value told apart from greater ones */
    uint64_t total;     /* sum of all counts */
    uint64_t saturated; /* of them, those whose value was above highest */
    uint32_t index_min; /* range of counts that are not zero; empty: UINT32_MAX, 0 */
    uint32_t index_max;
    uint32_t counts_n;
};

/* highest: from 2 to HIST_HIGHEST_MAX, else -EINVAL. -ENOMEM. */
int hist_init(struct hist *h, uint64_t highest);
void hist_fini(struct hist *h);

/* The cost of reset, add and copy is that of the range of values in use, not of all counts. */
void hist_reset(struct hist *h);

/* Adds src's counts and `saturated`; values above dst's highest saturate as when recorded. */
void hist_add(struct hist *dst, const struct hist *src);

/* dst becomes the same as src; both were made with the same highest. */
void hist_copy(struct hist *dst, const struct hist *src);

static inline uint32_t hist_index(uint64_t value)
{
    unsigned leading = (unsigned)__builtin_clzll(value | (HIST_SUB_BUCKETS - 1));
    unsigned bucket = 64 - HIST_SUB_BUCKET_BITS - leading;
    return (bucket << (HIST_SUB_BUCKET_BITS - 1)) + (uint32_t)(value >> bucket);
}

static inline void hist_record_n(struct hist *h, uint64_t value, uint64_t n)
{
    if (n == 0)
        return;
    if (__builtin_expect(value > h->highest, 0)) {
        value = h->highest;
        h->saturated += n;
    }
    uint32_t index = hist_index(value);
    h->counts[index] += n;
    h->total += n;
    if (__builtin_expect(index < h->index_min, 0))
        h->index_min = index;
    if (__builtin_expect(index > h->index_max, 0))
        h->index_max = index;
}

static inline void hist_record(struct hist *h, uint64_t value)
{
    hist_record_n(h, value, 1);
}

static inline uint64_t hist_count(const struct hist *h)
{
    return h->total;
}

uint64_t hist_min(const struct hist *h);
uint64_t hist_max(const struct hist *h);
double hist_mean(const struct hist *h);
double hist_stddev(const struct hist *h); /* of the population, not of a sample */

/* Java's getValueAtPercentile: the highest equivalent of the value with rank
 * max(1, ceil(p * count / 100)), p being the double next below `percentile`, held to 0..100: so
 * that a product rounded up does not take the next rank. Percentile 0 gives hist_min. */
uint64_t hist_value_at_percentile(const struct hist *h, double percentile);

/* The values recorded, in ascending order:
 *     for (struct hist_iter it = hist_iter(h); hist_iter_next(&it);)
 * borrows h, in which nothing is recorded meanwhile. */
struct hist_iter {
    const struct hist *h;
    uint64_t lowest, highest; /* of the values equivalent */
    uint64_t count;           /* recorded of them */
    uint64_t count_to_here;   /* recorded of them and of all less */
    uint32_t index_next;
};
struct hist_iter hist_iter(const struct hist *h);
bool hist_iter_next(struct hist_iter *it);

/* The middle of the step, by which mean and deviation take it. */
static inline uint64_t hist_iter_median(const struct hist_iter *it)
{
    return it->lowest + ((it->highest - it->lowest + 1) >> 1);
}

#endif
