#include "bench/stat/hist_v2.h"

#include <errno.h>
#include <stdbool.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define COOKIE_V2 0x1c849313u
#define RATIO_ONE UINT64_C(0x3ff0000000000000) /* 1.0 */

enum {
    AT_COOKIE = 0,
    AT_PAYLOAD = 4,
    AT_OFFSET = 8,
    AT_DIGITS = 12,
    AT_LOWEST = 16,
    AT_HIGHEST = 24,
    AT_RATIO = 32,
};

size_t hist_v2_bound(const struct hist *h)
{
    uint32_t range_n = h->total ? h->index_max - h->index_min + 1 : 0;
    uint32_t run_n = h->total == 0 || h->index_min > 0; /* the zeros before the range */
    return HIST_V2_HEADER_BYTES + HIST_V2_COUNT_BYTES_MAX * (size_t)(range_n + run_n);
}

static uint8_t *put_number(uint8_t *p, int64_t number)
{
    uint64_t v = (uint64_t)number << 1 ^ (number < 0 ? UINT64_MAX : 0);
    for (unsigned i = 1; i < HIST_V2_COUNT_BYTES_MAX && v >= 0x80; i++, v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *put_counts(uint8_t *p, const struct hist *h)
{
    uint32_t i = 0;
    while (i <= h->index_max) {
        uint32_t run_n = 0;
        while (i + run_n < h->index_max && h->counts[i + run_n] == 0)
            run_n++;
        if (run_n > 1) {
            p = put_number(p, -(int64_t)run_n);
            i += run_n;
        } else {
            p = put_number(p, (int64_t)h->counts[i++]);
        }
    }
    return p;
}

int hist_v2_encode(const struct hist *h, uint8_t *buf, size_t *ret_len_bytes)
{
    if (h->total > HIST_V2_TOTAL_MAX)
        return -EOVERFLOW;
    uint8_t *payload = buf + HIST_V2_HEADER_BYTES;
    uint8_t *end = put_counts(payload, h);
    be_store32(buf + AT_COOKIE, COOKIE_V2);
    be_store32(buf + AT_PAYLOAD, (uint32_t)(end - payload));
    be_store32(buf + AT_OFFSET, 0);
    be_store32(buf + AT_DIGITS, HIST_DIGITS);
    be_store64(buf + AT_LOWEST, HIST_LOWEST_DISCERNIBLE);
    be_store64(buf + AT_HIGHEST, h->highest);
    be_store64(buf + AT_RATIO, RATIO_ONE);
    *ret_len_bytes = (size_t)(end - buf);
    ASSERT(*ret_len_bytes <= hist_v2_bound(h));
    return 0;
}

struct reader {
    const uint8_t *p, *end;
};

static bool get_number(struct reader *r, int64_t *ret_number)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < HIST_V2_COUNT_BYTES_MAX; i++) {
        if (r->p == r->end)
            return false;
        uint64_t byte = *r->p++;
        bool more = i < HIST_V2_COUNT_BYTES_MAX - 1 && (byte & 0x80);
        v |= (more ? byte & 0x7f : byte) << (7 * i);
        if (!more)
            break;
    }
    *ret_number = (int64_t)(v >> 1 ^ (0 - (v & 1)));
    return true;
}

/* Puts the counts at their indices; h is empty. */
static int get_counts(struct reader *r, struct hist *h)
{
    uint64_t index = 0, total = 0;
    while (r->p < r->end) {
        int64_t number;
        if (!get_number(r, &number))
            return -EBADMSG;
        uint64_t step = number < 0 ? 0 - (uint64_t)number : 1;
        if (step > h->counts_n - index)
            return -EBADMSG;
        if (number > 0) {
            if ((uint64_t)number > HIST_V2_TOTAL_MAX - total)
                return -EBADMSG;
            total += (uint64_t)number;
            h->counts[index] = (uint64_t)number;
            h->index_min = MIN(h->index_min, (uint32_t)index);
            h->index_max = (uint32_t)index;
        }
        index += step;
    }
    h->total = total;
    return 0;
}

int hist_v2_decode(const uint8_t *buf, size_t len_bytes, struct hist *ret_h)
{
    struct hist h;
    struct reader r = {buf + HIST_V2_HEADER_BYTES, buf + len_bytes};
    if (len_bytes < HIST_V2_HEADER_BYTES)
        return -EBADMSG;
    if (be_load32(buf + AT_COOKIE) != COOKIE_V2 || be_load32(buf + AT_OFFSET) != 0 ||
        be_load32(buf + AT_DIGITS) != HIST_DIGITS ||
        be_load64(buf + AT_LOWEST) != HIST_LOWEST_DISCERNIBLE ||
        be_load64(buf + AT_RATIO) != RATIO_ONE)
        return -ENOTSUP;
    if (be_load32(buf + AT_PAYLOAD) != len_bytes - HIST_V2_HEADER_BYTES)
        return -EBADMSG;
    int rc = hist_init(&h, be_load64(buf + AT_HIGHEST));
    if (rc < 0)
        return rc == -EINVAL ? -EBADMSG : rc;
    rc = get_counts(&r, &h);
    if (rc < 0) {
        hist_fini(&h);
        return rc;
    }
    *ret_h = h;
    return 0;
}
