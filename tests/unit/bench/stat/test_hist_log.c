#include "bench/stat/hist_log.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "bench/stat/hist_v2.h"
#include "core/base/bytes.h"
#include "core/base/rng.h"

/* HdrHistogram 2.2.2 (Java) of 0, 1000, 2000 ... 1,000,000, and 2^33 times 2^40. */
static const char java_text[] =
    "HISTFAAAAI942pNpmSzMwMB+hQECmKE0I5DpZrBjAYP9B4gA01l+EJrKwfSUnWkhC9NHZihazsT0nRELWsnIVM1UiQdnM1"
    "kDoS2YJI/WZZJmkgVCBEl/Pj8TLxM3EEMggoVddLjKszOxgiEzlEaFxIuO6h/6+pmZGNAghgAuSLRCWpg5avmo5SPD8t"
    "0HmRqAwAEAER5BVQ==";

/* encodeIntoByteBuffer of the same class: 3, 5 a hundred thousand times, 1000, 1001, 2048, 1000000,
 * 123456789012. */
static const uint8_t java_v2[] = {
    0x1c, 0x84, 0x93, 0x13, 0x00, 0x00, 0x00, 0x15, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x03, 0x46, 0x30, 0xb8, 0xa0, 0x00,
    0x3f, 0xf0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x02, 0x00, 0xc0, 0x9a, 0x0c, 0xc3, 0x0f,
    0x02, 0x02, 0xab, 0x10, 0x02, 0xbf, 0x8e, 0x01, 0x02, 0x99, 0x8e, 0x02, 0x02};

static struct hist make(uint64_t highest)
{
    struct hist h;
    cr_assert_eq(hist_init(&h, highest), 0);
    return h;
}

static void record_random(struct hist *h, uint64_t seed, unsigned n, unsigned count_bits)
{
    struct rng r;
    rng_seed(&r, seed);
    for (unsigned i = 0; i < n; i++) {
        uint64_t v = rng_next(&r) >> (1 + rng_below(&r, 63));
        hist_record_n(h, MIN(v, h->highest), 1 + (rng_next(&r) >> (64 - count_bits)));
    }
}

static void expect_same(const struct hist *a, const struct hist *b)
{
    cr_assert_eq(a->highest, b->highest);
    cr_assert_eq(a->total, b->total);
    cr_assert_eq(a->index_min, b->index_min);
    cr_assert_eq(a->index_max, b->index_max);
    cr_assert_eq(a->counts_n, b->counts_n);
    cr_assert_arr_eq(a->counts, b->counts, a->counts_n * sizeof(*a->counts));
}

static uint8_t *encode_v2(const struct hist *h, size_t *ret_len_bytes)
{
    uint8_t *buf = malloc(hist_v2_bound(h));
    cr_assert_not_null(buf);
    cr_assert_eq(hist_v2_encode(h, buf, ret_len_bytes), 0);
    cr_assert_leq(*ret_len_bytes, hist_v2_bound(h));
    return buf;
}

/* Of a copy of just that size, so that a sanitized run sees each byte read beyond. */
static int decode_v2(const uint8_t *data, size_t len_bytes, struct hist *ret_h)
{
    uint8_t *exact = malloc(MAX(len_bytes, 1u));
    cr_assert_not_null(exact);
    memcpy(exact, data, len_bytes);
    int rc = hist_v2_decode(exact, len_bytes, ret_h);
    free(exact);
    return rc;
}

static int decode_text(const char *text, size_t len_bytes, struct hist *ret_h)
{
    char *exact = malloc(MAX(len_bytes, 1u));
    cr_assert_not_null(exact);
    memcpy(exact, text, len_bytes);
    int rc = hist_log_decode(exact, len_bytes, ret_h);
    free(exact);
    return rc;
}

static void expect_round_trip(const struct hist *h)
{
    struct hist back;
    char *text;
    cr_assert_eq(hist_log_encode(h, &text), 0);
    cr_assert_eq(strncmp(text, "HISTFA", 6), 0, "%.20s", text);
    cr_assert_eq(decode_text(text, strlen(text), &back), 0);
    expect_same(h, &back);
    hist_fini(&back);
    free(text);
}

Test(hist_log, round_trip)
{
    static const uint64_t highest[] = {2, 2047, 2048, 1000000, HIST_HOUR_NS, HIST_HIGHEST_MAX};
    static const unsigned counts[] = {0, 1, 2, 3, 100, 100000};
    for (unsigned i = 0; i < ARRAY_LEN(highest); i++)
        for (unsigned j = 0; j < ARRAY_LEN(counts); j++) {
            struct hist h = make(highest[i]);
            record_random(&h, i * 100 + j, counts[j], 1 + 6 * i);
            expect_round_trip(&h);
            hist_fini(&h);
        }
}

Test(hist_log, the_largest_there_is)
{
    /* Every count in use, each as long as the total lets it be, and hardly compressible. */
    struct hist h = make(HIST_HIGHEST_MAX);
    struct rng r;
    rng_seed(&r, 5);
    for (uint32_t i = 0; i < h.counts_n; i++) {
        h.counts[i] = 1 + rng_below(&r, HIST_V2_TOTAL_MAX / h.counts_n - 1);
        h.total += h.counts[i];
    }
    h.index_min = 0;
    h.index_max = h.counts_n - 1;
    expect_round_trip(&h);
    hist_fini(&h);
}

Test(hist_log, totals_up_to_the_limit)
{
    struct hist h = make(HIST_HOUR_NS), back;
    char *text;
    size_t len_bytes;
    hist_record_n(&h, 5, HIST_V2_TOTAL_MAX - 1);
    hist_record(&h, 6);
    expect_round_trip(&h);
    uint8_t *v2 = encode_v2(&h, &len_bytes);
    v2[len_bytes - 1] = 4; /* two of the last value: one more than may be */
    cr_assert_eq(decode_v2(v2, len_bytes, &back), -EBADMSG);
    hist_record(&h, 6);
    cr_assert_eq(hist_log_encode(&h, &text), -EOVERFLOW);
    free(v2);
    hist_fini(&h);
}

Test(hist_log, reads_what_java_wrote)
{
    struct hist h, same = make(HIST_HOUR_NS);
    cr_assert_eq(hist_log_decode(java_text, strlen(java_text), &h), 0);
    for (uint64_t v = 0; v <= 1000000; v += 1000)
        hist_record(&same, v);
    hist_record_n(&same, UINT64_C(1) << 40, UINT64_C(1) << 33);
    expect_same(&h, &same);
    cr_assert_eq(hist_value_at_percentile(&h, 50), 1100585369599u);
    cr_assert_eq(hist_mean(&h), 1.1000483704975107E12);
    cr_assert_eq(hist_stddev(&h), 3.7552053840865016E8);
    hist_fini(&h);
    hist_fini(&same);
}

Test(hist_log, writes_what_java_writes)
{
    struct hist h = make(HIST_HOUR_NS);
    static const uint64_t values[] = {3, 1000, 1001, 2048, 1000000, 123456789012};
    size_t len_bytes;
    for (unsigned i = 0; i < ARRAY_LEN(values); i++)
        hist_record(&h, values[i]);
    hist_record_n(&h, 5, 100000);
    uint8_t *v2 = encode_v2(&h, &len_bytes);
    cr_assert_eq(len_bytes, sizeof(java_v2));
    cr_assert_arr_eq(v2, java_v2, sizeof(java_v2));
    free(v2);
    hist_fini(&h);
}

/* -- hostile input */

Test(hist_log, truncated_at_each_length)
{
    struct hist h;
    size_t text_bytes = strlen(java_text);
    for (size_t n = 0; n < text_bytes; n++)
        cr_assert_eq(decode_text(java_text, n, &h), -EBADMSG, "%zu", n);
    for (size_t n = 0; n < sizeof(java_v2); n++)
        cr_assert_eq(decode_v2(java_v2, n, &h), -EBADMSG, "%zu", n);
}

/* With the payload's length put right, so that the counts themselves are what is cut. */
Test(hist_log, counts_cut_short)
{
    uint8_t v2[sizeof(java_v2)];
    unsigned refused = 0;
    memcpy(v2, java_v2, sizeof(v2));
    for (size_t n = HIST_V2_HEADER_BYTES; n < sizeof(v2); n++) {
        struct hist h;
        be_store32(v2 + 4, (uint32_t)(n - HIST_V2_HEADER_BYTES));
        int rc = decode_v2(v2, n, &h);
        bool cut = n > HIST_V2_HEADER_BYTES && (v2[n - 1] & 0x80);
        cr_assert_eq(rc, cut ? -EBADMSG : 0, "%zu: %d", n, rc);
        refused += cut;
        if (rc == 0)
            hist_fini(&h);
    }
    cr_assert_eq(refused, 8u);
}

Test(hist_log, headers_that_lie)
{
    static const struct {
        unsigned at, bytes;
        uint64_t value;
        int rc;
    } rows[] = {
        {0, 4, 0x1c849303, -ENOTSUP}, /* cookie without the word size */
        {0, 4, 0x1c849308, -ENOTSUP}, /* V0 */
        {4, 4, 0, -EBADMSG},
        {4, 4, 20, -EBADMSG},
        {4, 4, 22, -EBADMSG},
        {4, 4, UINT32_MAX, -EBADMSG},
        {8, 4, 1, -ENOTSUP},
        {12, 4, 2, -ENOTSUP},
        {12, 4, UINT32_MAX, -ENOTSUP},
        {16, 8, 0, -ENOTSUP},
        {16, 8, 2, -ENOTSUP},
        {24, 8, 0, -EBADMSG},
        {24, 8, 1, -EBADMSG},
        {24, 8, UINT64_MAX, -EBADMSG},
        {24, 8, UINT64_C(1) << 63, -EBADMSG},
        {24, 8, 100000000, -EBADMSG}, /* too few buckets for the counts that follow */
        {32, 8, 0, -ENOTSUP},
        {32, 8, UINT64_C(0x7ff8000000000000), -ENOTSUP}, /* NaN */
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t v2[sizeof(java_v2)];
        struct hist h;
        memcpy(v2, java_v2, sizeof(v2));
        if (rows[i].bytes == 4)
            be_store32(v2 + rows[i].at, (uint32_t)rows[i].value);
        else
            be_store64(v2 + rows[i].at, rows[i].value);
        cr_assert_eq(decode_v2(v2, sizeof(v2), &h), rows[i].rc, "row %u", i);
    }
}

/* Decodes a header with these counts behind it. */
static int decode_counts(const uint8_t *counts, size_t n)
{
    uint8_t v2[HIST_V2_HEADER_BYTES + 64];
    struct hist h;
    memcpy(v2, java_v2, HIST_V2_HEADER_BYTES);
    memcpy(v2 + HIST_V2_HEADER_BYTES, counts, n);
    be_store32(v2 + 4, (uint32_t)n);
    int rc = decode_v2(v2, HIST_V2_HEADER_BYTES + n, &h);
    if (rc == 0)
        hist_fini(&h);
    return rc;
}

Test(hist_log, runs_of_zeros_that_lie)
{
    static const uint8_t all[] = {0xff, 0x8f, 0x04};       /* -33,792: just all counts */
    static const uint8_t more[] = {0x81, 0x90, 0x04};      /* -33,793 */
    static const uint8_t behind[] = {0xff, 0x8f, 0x04, 2}; /* all, and a count */
    static const uint8_t int_min[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t int_max[] = {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    cr_assert_eq(decode_counts(all, sizeof(all)), 0);
    cr_assert_eq(decode_counts(more, sizeof(more)), -EBADMSG);
    cr_assert_eq(decode_counts(behind, sizeof(behind)), -EBADMSG);
    cr_assert_eq(decode_counts(int_min, sizeof(int_min)), -EBADMSG);
    cr_assert_eq(decode_counts(int_max, sizeof(int_max)), -EBADMSG);
}

static char *base64_of(const uint8_t *data, size_t len_bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = calloc(1, len_bytes / 3 * 4 + 1);
    cr_assert(text && len_bytes % 3 == 0);
    for (size_t i = 0; i < len_bytes * 8; i += 6)
        for (unsigned bit = 0; bit < 6; bit++) {
            unsigned value = data[(i + bit) / 8] >> (7 - (i + bit) % 8) & 1;
            text[i / 6] = (char)(text[i / 6] << 1 | value);
        }
    for (size_t i = 0; i < len_bytes / 3 * 4; i++)
        text[i] = digits[(unsigned char)text[i]];
    return text;
}

/* Zlib data behind a header that says `length`; 0: what is so. What decoding it says. */
static int decode_zlib(const uint8_t *data, size_t len_bytes, uint32_t length, unsigned extra)
{
    size_t packed_bytes = 8 + len_bytes + extra;
    packed_bytes += (3 - packed_bytes % 3) % 3;
    uint8_t *packed = calloc(1, packed_bytes);
    struct hist h;
    cr_assert_not_null(packed);
    be_store32(packed, 0x1c849314);
    be_store32(packed + 4, length ? length : (uint32_t)packed_bytes - 8);
    memcpy(packed + 8, data, len_bytes);
    char *text = base64_of(packed, packed_bytes);
    int rc = decode_text(text, strlen(text), &h);
    if (rc == 0)
        hist_fini(&h);
    free(packed);
    free(text);
    return rc;
}

/* So many bytes, compressed to a size such that no padding is wanted behind. */
static uint8_t *deflated(const uint8_t *data, size_t len_bytes, size_t *ret_len_bytes)
{
    uLongf n = compressBound(len_bytes);
    uint8_t *buf = malloc(n);
    cr_assert_not_null(buf);
    for (int level = 0; level <= 9; level++) {
        n = compressBound(len_bytes);
        cr_assert_eq(compress2(buf, &n, data, len_bytes, level), Z_OK);
        if ((n + 8) % 3 == 0)
            break;
    }
    cr_assert_eq((n + 8) % 3, 0u);
    *ret_len_bytes = n;
    return buf;
}

Test(hist_log, lengths_outside_that_lie)
{
    size_t n;
    uint8_t padded[sizeof(java_v2) + 8] = {0}, *zlib = NULL;
    /* Zeros behind are counts of 0: they only make the size fit. */
    memcpy(padded, java_v2, sizeof(java_v2));
    be_store32(padded + 4, sizeof(padded) - HIST_V2_HEADER_BYTES);
    zlib = deflated(padded, sizeof(padded), &n);
    cr_assert_eq(decode_zlib(zlib, n, 0, 0), 0);
    cr_assert_eq(decode_zlib(zlib, n, (uint32_t)n - 1, 0), -EBADMSG);
    cr_assert_eq(decode_zlib(zlib, n, (uint32_t)n + 1, 0), -EBADMSG);
    cr_assert_eq(decode_zlib(zlib, n, UINT32_MAX, 0), -EBADMSG);
    cr_assert_eq(decode_zlib(zlib, n, 0, 3), -EBADMSG); /* more behind the zlib data's end */
    for (size_t i = 0; i < n; i++) {
        zlib[i] ^= 0x10;
        cr_assert_neq(decode_zlib(zlib, n, 0, 0), 0, "byte %zu", i);
        zlib[i] ^= 0x10;
    }
    free(zlib);
}

Test(hist_log, a_bomb_is_not_unpacked)
{
    size_t bomb_bytes = 64u << 20, n;
    uint8_t *zeros = calloc(1, bomb_bytes);
    cr_assert_not_null(zeros);
    memcpy(zeros, java_v2, HIST_V2_HEADER_BYTES);
    be_store32(zeros + 4, (uint32_t)bomb_bytes - HIST_V2_HEADER_BYTES);
    uint8_t *zlib = malloc(compressBound(bomb_bytes));
    uLongf zlib_bytes = compressBound(bomb_bytes);
    cr_assert(zlib && compress(zlib, &zlib_bytes, zeros, bomb_bytes) == Z_OK);
    n = zlib_bytes;
    cr_assert_lt(n, 100000u);
    cr_assert_eq(decode_zlib(zlib, n, 0, 0), -EBADMSG);
    free(zeros);
    free(zlib);
}

Test(hist_log, text_too_long_is_refused)
{
    size_t len_bytes = 64u << 20;
    char *text = malloc(len_bytes);
    struct hist h;
    cr_assert_not_null(text);
    memset(text, 'A', len_bytes);
    cr_assert_eq(hist_log_decode(text, len_bytes, &h), -EBADMSG);
    free(text);
}

Test(hist_log, not_base64)
{
    static const char *const bad[] = {"",
                                      "=",
                                      "====",
                                      "A===",
                                      "AA=A",
                                      "AAAA====",
                                      "AA A",
                                      "AA\nA",
                                      "HISTFAAAAI942pNpmSz-",
                                      "HISTFAAAAI942pNpmSz\xc3"};
    struct hist h;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(decode_text(bad[i], strlen(bad[i]), &h), -EBADMSG, "%s", bad[i]);
    cr_assert_eq(decode_text("HIST\0AAA", 8, &h), -EBADMSG);
    cr_assert_eq(decode_text("HISTEAAAAAAA", 12, &h), -ENOTSUP); /* V1's cookie */
}

Test(hist_log, random_bytes)
{
    struct rng r;
    unsigned decoded = 0;
    rng_seed(&r, 11);
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t v2[sizeof(java_v2) + 32];
        struct hist h;
        size_t n = HIST_V2_HEADER_BYTES + rng_below(&r, sizeof(v2) - HIST_V2_HEADER_BYTES);
        memcpy(v2, java_v2, HIST_V2_HEADER_BYTES);
        be_store32(v2 + 4, (uint32_t)(n - HIST_V2_HEADER_BYTES));
        for (size_t i = HIST_V2_HEADER_BYTES; i < n; i++)
            v2[i] = (uint8_t)(rng_next(&r) >> (56 + rng_below(&r, 8)));
        if (decode_v2(v2, n, &h) == 0) {
            decoded++;
            expect_round_trip(&h);
            hist_fini(&h);
        }
    }
    cr_assert_gt(decoded, 100u);
    cr_assert_lt(decoded, 19900u);
}

/* -- log */

static char *logged(int (*write)(FILE *f, void *arg), void *arg, int expected)
{
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *f = open_memstream(&text, &size_bytes);
    cr_assert_not_null(f);
    cr_assert_eq(write(f, arg), expected);
    fclose(f);
    return text;
}

static int write_header(FILE *f, void *arg)
{
    (void)arg;
    return hist_log_header(f, 1700000000.25);
}

Test(hist_log, header)
{
    char *text = logged(write_header, NULL, 0);
    cr_assert_str_eq(
        text, "#[Histogram log format version 1.3]\n"
              "#[StartTime: 1700000000.250 (seconds since epoch), Tue Nov 14 22:13:20 UTC 2023]\n"
              "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
              "\"Interval_Compressed_Histogram\"\n");
    free(text);
}

static int write_line(FILE *f, void *arg)
{
    const char *tag = arg;
    struct hist h = make(HIST_HOUR_NS);
    hist_record(&h, 1500000);
    int rc = hist_log_line(f, tag, 12.0004, 0.9996, &h);
    hist_fini(&h);
    return rc;
}

static void expect_line(char *tag, const char *before)
{
    char *text = logged(write_line, tag, 0);
    struct hist h;
    size_t len = strlen(text), before_len = strlen(before);
    cr_assert_eq(strncmp(text, before, before_len), 0, "%s", text);
    cr_assert_eq(text[len - 1], '\n');
    cr_assert_eq(hist_log_decode(text + before_len, len - 1 - before_len, &h), 0);
    cr_assert_eq(hist_count(&h), 1u);
    cr_assert_eq(hist_max(&h), 1500159u);
    hist_fini(&h);
    free(text);
}

Test(hist_log, lines)
{
    char *bad[] = {"", "a,b", "a b", "a\nb", "a\r", "\tb"};
    expect_line("e2e", "Tag=e2e,12.000,1.000,1.500,");
    expect_line(NULL, "12.000,1.000,1.500,");
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        char *text = logged(write_line, bad[i], -EINVAL);
        cr_assert_str_empty(text);
        free(text);
    }
}

Test(hist_log, a_full_disk_is_seen)
{
    FILE *f = fopen("/dev/full", "w");
    cr_assert_not_null(f);
    setvbuf(f, NULL, _IONBF, 0);
    cr_assert_eq(hist_log_header(f, 1), -EIO);
    cr_assert_eq(write_line(f, "tag"), -EIO);
    fclose(f);
}
