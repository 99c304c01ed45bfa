#include "bench/stat/hist_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#include "bench/stat/hist_v2.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

#define COOKIE_COMPRESSED_V2 0x1c849314u
#define HEADER_BYTES 8u /* cookie and length */
/* zlib adds to what it cannot compress: deflate.c's bound for default settings, rounded up. */
#define PACKED_BYTES_MAX (HEADER_BYTES + HIST_V2_BYTES_MAX + HIST_V2_BYTES_MAX / 1024 + 64)

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64_encode(const uint8_t *data, size_t len_bytes)
{
    char *text = malloc((len_bytes + 2) / 3 * 4 + 1), *p = text;
    if (!text)
        return NULL;
    for (size_t i = 0; i < len_bytes; i += 3) {
        size_t left = len_bytes - i;
        uint32_t bits = (uint32_t)data[i] << 16;
        bits |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        bits |= left > 2 ? data[i + 2] : 0;
        *p++ = base64_digits[bits >> 18];
        *p++ = base64_digits[bits >> 12 & 63];
        *p++ = left > 1 ? base64_digits[bits >> 6 & 63] : '=';
        *p++ = left > 2 ? base64_digits[bits & 63] : '=';
    }
    *p = 0;
    return text;
}

/* A digit's value, or 64 for what is none. */
static uint32_t base64_value(char c)
{
    const char *at = c ? strchr(base64_digits, c) : NULL;
    return at ? (uint32_t)(at - base64_digits) : 64;
}

/* buf has room for len_bytes / 4 * 3. False: not base64. */
static bool base64_decode(const char *text, size_t len_bytes, uint8_t *buf, size_t *ret_len_bytes)
{
    size_t pad = 0, n = 0;
    if (len_bytes == 0 || len_bytes % 4 != 0)
        return false;
    while (pad < 2 && text[len_bytes - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < len_bytes; i += 4) {
        uint32_t bits = 0;
        for (size_t j = i; j < i + 4; j++) {
            uint32_t value = j < len_bytes - pad ? base64_value(text[j]) : 0;
            if (value > 63)
                return false;
            bits = bits << 6 | value;
        }
        buf[n++] = (uint8_t)(bits >> 16);
        buf[n++] = (uint8_t)(bits >> 8);
        buf[n++] = (uint8_t)bits;
    }
    *ret_len_bytes = n - pad;
    return true;
}

/* Header and zlib data of the V2 form. */
static int pack(const uint8_t *v2, size_t v2_bytes, uint8_t **ret_buf, size_t *ret_len_bytes)
{
    uLongf zlib_bytes = compressBound(v2_bytes);
    uint8_t *buf = malloc(HEADER_BYTES + zlib_bytes);
    if (!buf)
        return -ENOMEM;
    if (compress(buf + HEADER_BYTES, &zlib_bytes, v2, v2_bytes) != Z_OK) {
        free(buf); /* with room enough, only memory can have been wanting */
        return -ENOMEM;
    }
    be_store32(buf, COOKIE_COMPRESSED_V2);
    be_store32(buf + 4, (uint32_t)zlib_bytes);
    *ret_buf = buf;
    *ret_len_bytes = HEADER_BYTES + zlib_bytes;
    return 0;
}

int hist_log_encode(const struct hist *h, char **ret_text)
{
    uint8_t *packed, *v2 = malloc(hist_v2_bound(h));
    size_t v2_bytes, packed_bytes;
    if (!v2)
        return -ENOMEM;
    int rc = hist_v2_encode(h, v2, &v2_bytes);
    if (rc == 0)
        rc = pack(v2, v2_bytes, &packed, &packed_bytes);
    free(v2);
    if (rc != 0)
        return rc;
    ASSERT(packed_bytes <= PACKED_BYTES_MAX);
    char *text = base64_encode(packed, packed_bytes);
    free(packed);
    if (!text)
        return -ENOMEM;
    *ret_text = text;
    return 0;
}

/* Inflates all of data, and decodes. More than the largest V2 form does not fit: refused. */
static int decode_zlib(const uint8_t *data, size_t len_bytes, struct hist *ret_h)
{
    uint8_t *v2 = malloc(HIST_V2_BYTES_MAX);
    uLongf v2_bytes = HIST_V2_BYTES_MAX;
    uLong used_bytes = len_bytes;
    if (!v2)
        return -ENOMEM;
    int zrc = uncompress2(v2, &v2_bytes, data, &used_bytes);
    int rc = zrc == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
    if (zrc == Z_OK && used_bytes == len_bytes)
        rc = hist_v2_decode(v2, v2_bytes, ret_h);
    free(v2);
    return rc;
}

static int decode_packed(const uint8_t *buf, size_t len_bytes, struct hist *ret_h)
{
    if (len_bytes < HEADER_BYTES)
        return -EBADMSG;
    if (be_load32(buf) != COOKIE_COMPRESSED_V2)
        return -ENOTSUP;
    if (be_load32(buf + 4) != len_bytes - HEADER_BYTES)
        return -EBADMSG;
    return decode_zlib(buf + HEADER_BYTES, len_bytes - HEADER_BYTES, ret_h);
}

int hist_log_decode(const char *text, size_t len_bytes, struct hist *ret_h)
{
    size_t packed_bytes;
    int rc = -EBADMSG;
    if (len_bytes / 4 > PACKED_BYTES_MAX / 3 + 1)
        return -EBADMSG;
    uint8_t *packed = malloc(len_bytes / 4 * 3 + 1);
    if (!packed)
        return -ENOMEM;
    if (base64_decode(text, len_bytes, packed, &packed_bytes))
        rc = decode_packed(packed, packed_bytes, ret_h);
    free(packed);
    return rc;
}

int hist_log_header(FILE *f, double start_epoch_s)
{
    time_t seconds = (time_t)start_epoch_s;
    struct tm utc;
    char date[64];
    gmtime_r(&seconds, &utc);
    strftime(date, sizeof(date), "%a %b %d %H:%M:%S UTC %Y", &utc); /* as Java's Date says it */
    fprintf(f,
            "#[Histogram log format version 1.3]\n"
            "#[StartTime: %.3f (seconds since epoch), %s]\n"
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
            "\"Interval_Compressed_Histogram\"\n",
            start_epoch_s, date);
    return ferror(f) ? -EIO : 0;
}

int hist_log_line(FILE *f, const char *tag, double start_s, double len_s, const struct hist *h)
{
    char *text;
    if (tag && (*tag == 0 || tag[strcspn(tag, ", \t\r\n")] != 0))
        return -EINVAL;
    int rc = hist_log_encode(h, &text);
    if (rc != 0)
        return rc;
    if (tag)
        fprintf(f, "Tag=%s,", tag);
    double max_ms = (double)hist_max(h) / HIST_LOG_NS_PER_MAX_UNIT;
    fprintf(f, "%.3f,%.3f,%.3f,%s\n", start_s, len_s, max_ms, text);
    free(text);
    return ferror(f) ? -EIO : 0;
}
