/* recode.c: the same batch under another compression. The records are not looked at: packed or not,
 * they are the same bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/batch.h"
#include "core/batch/codec.h"
#include "core/batch/format.h"

#define PLAIN_BYTES_FIRST (64u << 10)

struct plain {
    uint8_t *bytes;
    size_t len, cap;
};

static int plain_grow(struct plain *p, size_t packed_len)
{
    if (p->len < p->cap)
        return 0;
    size_t cap = MAX(p->cap * 2, MAX(packed_len * 2, (size_t)PLAIN_BYTES_FIRST));
    uint8_t *bytes = realloc(p->bytes, cap);
    if (bytes == NULL)
        return -ENOMEM;
    p->bytes = bytes;
    p->cap = cap;
    return 0;
}

static int plain_read(struct codec_reader *reader, size_t packed_len, struct plain *p)
{
    for (;;) {
        int rc = plain_grow(p, packed_len);
        if (rc < 0)
            return rc;
        int64_t n = codec_reader_read(reader, p->bytes + p->len, p->cap - p->len);
        if (n <= 0)
            return (int)n;
        p->len += (size_t)n;
    }
}

/* The records as they are without compression, the caller's to free. */
static int records_unpack(const uint8_t *batch, const struct batch_header *h, struct plain *ret)
{
    const uint8_t *packed = batch + BATCH_HEADER_BYTES;
    size_t packed_len = h->len_bytes - BATCH_HEADER_BYTES;
    struct codec_reader *reader;
    int rc = codec_reader_open(&reader, batch_codec_of(h->attributes), packed, packed_len,
                               codec_plain_max(packed_len));
    if (rc < 0)
        return rc;
    rc = plain_read(reader, packed_len, ret);
    codec_reader_close(reader);
    if (rc < 0)
        free(ret->bytes);
    return rc;
}

static void header_put(uint8_t *batch, const uint8_t *from, enum batch_codec codec,
                       struct batch_header *h)
{
    memcpy(batch, from, BATCH_HEADER_BYTES);
    h->attributes = (uint16_t)((h->attributes & ~BATCH_CODEC_MASK) | codec);
    be_store32(batch + AT_LENGTH, h->len_bytes - BATCH_LOG_OVERHEAD);
    be_store16(batch + AT_ATTRIBUTES, h->attributes);
    h->crc = crc32c(batch + AT_ATTRIBUTES, h->len_bytes - AT_ATTRIBUTES);
    be_store32(batch + AT_CRC, h->crc);
}

static int records_pack(const uint8_t *batch, const uint8_t *plain, size_t plain_len,
                        enum batch_codec codec, int level, uint32_t max_bytes, uint8_t **ret,
                        struct batch_header *h)
{
    size_t bound = codec_pack_bound(codec, plain_len);
    if (codec == BATCH_NONE &&
        plain_len + BATCH_HEADER_BYTES > max_bytes) /* no need to copy it to see that */
        return -EMSGSIZE;
    uint8_t *made = malloc(BATCH_HEADER_BYTES + bound);
    if (made == NULL)
        return -ENOMEM;
    int64_t n = codec_pack(codec, made + BATCH_HEADER_BYTES, bound, plain, plain_len, level);
    if (n >= 0 && (uint64_t)n + BATCH_HEADER_BYTES > max_bytes)
        n = -EMSGSIZE;
    if (n < 0) {
        free(made);
        return (int)n;
    }
    h->len_bytes = BATCH_HEADER_BYTES + (uint32_t)n;
    header_put(made, batch, codec, h);
    *ret = made;
    return 0;
}

int batch_recode(const uint8_t *batch, const struct batch_header *header, enum batch_codec codec,
                 int level, uint32_t max_bytes, uint8_t **ret, struct batch_header *ret_header)
{
    struct plain plain = {0};
    struct batch_header h = *header;
    const uint8_t *records = batch + BATCH_HEADER_BYTES;
    size_t records_len = h.len_bytes - BATCH_HEADER_BYTES;
    if (batch_codec_of(h.attributes) != BATCH_NONE) {
        int rc = records_unpack(batch, &h, &plain);
        if (rc < 0)
            return rc;
        records = plain.bytes;
        records_len = plain.len;
    }
    int rc = records_pack(batch, records, records_len, codec, level, max_bytes, ret, &h);
    free(plain.bytes);
    if (rc == 0)
        *ret_header = h;
    return rc;
}
