/* fuzz_hist.c: whatever comes as a histogram from another process or out of a file.
 * What decodes must encode to what decodes to the same histogram, in either form.
 * Input: "HIST...": the text; anything else: the V2 form, which is inside the text's zlib data. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stat/hist_log.h"
#include "bench/stat/hist_v2.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

/* Below it, one bit less than 100 % of a count still rounds up to the count. */
#define EXACT_RANK_MAX (UINT64_C(1) << 50)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/* All that is read off must agree with itself. */
static void check(const struct hist *h)
{
    uint64_t count = 0;
    for (struct hist_iter it = hist_iter(h); hist_iter_next(&it);) {
        ASSERT(it.lowest <= it.highest && it.count > 0);
        ASSERT(hist_min(h) <= it.lowest && it.highest <= hist_max(h));
        count += it.count;
        ASSERT(it.count_to_here == count);
    }
    ASSERT(count == hist_count(h) && count <= HIST_V2_TOTAL_MAX);
    ASSERT(hist_value_at_percentile(h, 0) == hist_min(h));
    ASSERT(hist_value_at_percentile(h, 100) == hist_max(h) || count > EXACT_RANK_MAX);
    ASSERT(hist_mean(h) >= 0 && hist_stddev(h) >= 0);
}

static void expect_same(const struct hist *a, const struct hist *b)
{
    ASSERT(a->highest == b->highest && a->counts_n == b->counts_n && a->total == b->total);
    ASSERT(memcmp(a->counts, b->counts, a->counts_n * sizeof(*a->counts)) == 0);
}

static void turn_v2(const struct hist *h)
{
    uint8_t *buf = malloc(hist_v2_bound(h));
    size_t len_bytes;
    struct hist back;
    ASSERT(buf && hist_v2_encode(h, buf, &len_bytes) == 0);
    ASSERT(hist_v2_decode(buf, len_bytes, &back) == 0);
    expect_same(h, &back);
    hist_fini(&back);
    free(buf);
}

static void turn_text(const struct hist *h)
{
    char *text;
    struct hist back;
    ASSERT(hist_log_encode(h, &text) == 0);
    ASSERT(hist_log_decode(text, strlen(text), &back) == 0);
    expect_same(h, &back);
    hist_fini(&back);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    struct hist h;
    uint8_t *exact = malloc(MAX(len_bytes, 1u)); /* so that every byte read beyond shows */
    ASSERT(exact);
    memcpy(exact, data, len_bytes);
    int rc = len_bytes >= 4 && memcmp(data, "HIST", 4) == 0
                 ? hist_log_decode((const char *)exact, len_bytes, &h)
                 : hist_v2_decode(exact, len_bytes, &h);
    ASSERT(rc == 0 || rc == -EBADMSG || rc == -ENOTSUP);
    if (rc == 0) {
        check(&h);
        turn_v2(&h);
        turn_text(&h);
        hist_fini(&h);
    }
    free(exact);
    return 0;
}
