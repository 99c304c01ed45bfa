#include "core/base/hist.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define HALF_BUCKET (HIST_SUB_BUCKETS / 2)
#define CACHE_LINE_BYTES 64u

static unsigned index_bucket(uint32_t index)
{
    return index < HIST_SUB_BUCKETS ? 0 : index / HALF_BUCKET - 1;
}

static uint64_t index_lowest(uint32_t index)
{
    unsigned bucket = index_bucket(index);
    return (uint64_t)(index - bucket * HALF_BUCKET) << bucket;
}

static uint64_t index_highest(uint32_t index)
{
    return index_lowest(index) + (UINT64_C(1) << index_bucket(index)) - 1;
}

static void set_empty(struct hist *h)
{
    h->total = h->saturated = 0;
    h->index_min = UINT32_MAX;
    h->index_max = 0;
}

int hist_init(struct hist *h, uint64_t highest)
{
    if (highest < 2 * HIST_LOWEST_DISCERNIBLE || highest > HIST_HIGHEST_MAX)
        return -EINVAL;
    /* Whole buckets, as in Java: the last one covers values somewhat above highest. */
    uint32_t counts_n = (index_bucket(hist_index(highest)) + 2) * HALF_BUCKET;
    size_t size_bytes = round_up_u64(counts_n * sizeof(*h->counts), CACHE_LINE_BYTES);
    uint64_t *counts = aligned_alloc(CACHE_LINE_BYTES, size_bytes);
    if (!counts)
        return -ENOMEM;
    memset(counts, 0, size_bytes); /* touches each page, so that recording takes no fault */
    *h = (struct hist){.counts = counts, .highest = highest, .counts_n = counts_n};
    set_empty(h);
    return 0;
}

void hist_fini(struct hist *h)
{
    free(h->counts);
    h->counts = NULL;
}

static size_t range_bytes(const struct hist *h)
{
    return h->total ? (h->index_max - h->index_min + 1) * sizeof(*h->counts) : 0;
}

void hist_reset(struct hist *h)
{
    if (h->total)
        memset(h->counts + h->index_min, 0, range_bytes(h));
    set_empty(h);
}

void hist_add(struct hist *dst, const struct hist *src)
{
    if (src->total == 0)
        return;
    uint32_t top = hist_index(dst->highest);
    uint32_t last = MIN(src->index_max, top);
    uint64_t above = 0;
    for (uint32_t i = src->index_min; i <= last; i++)
        dst->counts[i] += src->counts[i];
    for (uint32_t i = MAX(src->index_min, top + 1); i <= src->index_max; i++)
        above += src->counts[i];
    dst->counts[top] += above;
    dst->total += src->total;
    dst->saturated += src->saturated + above;
    dst->index_min = MIN(dst->index_min, MIN(src->index_min, top));
    dst->index_max = MAX(dst->index_max, last);
}

void hist_copy(struct hist *dst, const struct hist *src)
{
    ASSERT(dst->highest == src->highest);
    hist_reset(dst);
    if (src->total)
        memcpy(dst->counts + src->index_min, src->counts + src->index_min, range_bytes(src));
    dst->total = src->total;
    dst->saturated = src->saturated;
    dst->index_min = src->index_min;
    dst->index_max = src->index_max;
}

uint64_t hist_min(const struct hist *h)
{
    return h->total ? index_lowest(h->index_min) : 0;
}

uint64_t hist_max(const struct hist *h)
{
    return h->total ? index_highest(h->index_max) : 0;
}

struct hist_iter hist_iter(const struct hist *h)
{
    return (struct hist_iter){.h = h, .index_next = h->index_min};
}

bool hist_iter_next(struct hist_iter *it)
{
    const struct hist *h = it->h;
    while (it->index_next <= h->index_max && h->counts[it->index_next] == 0)
        it->index_next++;
    if (it->index_next > h->index_max)
        return false;
    uint32_t index = it->index_next++;
    it->lowest = index_lowest(index);
    it->highest = index_highest(index);
    it->count = h->counts[index];
    it->count_to_here += it->count;
    return true;
}

/* Sums in the order in which Java does, so that even the rounding is the same. */
double hist_mean(const struct hist *h)
{
    double sum = 0;
    if (h->total == 0)
        return 0;
    for (struct hist_iter it = hist_iter(h); hist_iter_next(&it);)
        sum += (double)hist_iter_median(&it) * (double)it.count;
    return sum / (double)h->total;
}

double hist_stddev(const struct hist *h)
{
    double mean = hist_mean(h), sum = 0;
    if (h->total == 0)
        return 0;
    for (struct hist_iter it = hist_iter(h); hist_iter_next(&it);) {
        double deviation = (double)hist_iter_median(&it) - mean;
        sum += deviation * deviation * (double)it.count;
    }
    return sqrt(sum / (double)h->total);
}

uint64_t hist_value_at_percentile(const struct hist *h, double percentile)
{
    double p = fmin(fmax(nextafter(percentile, -INFINITY), 0), 100);
    double rank = fmax(ceil(p * (double)h->total / 100), 1);
    uint64_t to_here = 0;
    if (percentile == 0)
        return hist_min(h);
    if (rank >= (double)h->total)
        return hist_max(h);
    uint32_t index = h->index_min;
    while ((to_here += h->counts[index]) < (uint64_t)rank)
        index++;
    return index_highest(index);
}
