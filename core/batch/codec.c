#include "core/batch/codec.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define ZSTD_WINDOW_LOG_MAX 27 /* what every zstd decoder has to take; level 22 makes it */
#define XERIAL_BLOCK_BYTES 32768u
#define XERIAL_HEADER_BYTES 16u
/* The best a snappy stream can do is 64 bytes from a 3-byte copy. */
#define SNAPPY_PLAIN_MAX(packed) ((packed)*22 + 64)

/* snappy-java's framing: this, then blocks of a big-endian length and a raw snappy stream. */
static const uint8_t xerial_magic[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};

struct codec_reader {
    const struct codec_ops *ops;
    const uint8_t *in, *in_end;
    uint64_t plain_bytes, plain_max;
    bool at_end; /* no further byte will come; says nothing about whether it ended well */
    bool in_frame;
    union {
        struct inflate_state *gzip;
        LZ4F_dctx *lz4;
        ZSTD_DCtx *zstd;
        struct {
            uint8_t *block;
            size_t at, len, cap;
            bool xerial;
        } snappy;
    };
};

/* read: bytes put into dst, at least one; 0: the stream ended well; or an error. */
struct codec_ops {
    int (*open)(struct codec_reader *r);
    int64_t (*read)(struct codec_reader *r, uint8_t *dst, size_t cap);
    void (*close)(struct codec_reader *r);
};

static size_t in_left(const struct codec_reader *r)
{
    return (size_t)(r->in_end - r->in);
}

/* gzip: one or more members. With ISA-L a broker spends about a quarter less CPU on produced
 * batches of 1 MiB than with zlib; how much of that is unpacking alone was not measured. */

static void gzip_begin_member(struct codec_reader *r)
{
    isal_inflate_init(r->gzip);
    r->gzip->crc_flag = ISAL_GZIP;
    r->in_frame = true; /* an empty stream is a truncated one */
}

static int gzip_open(struct codec_reader *r)
{
    r->gzip = calloc(1, sizeof(*r->gzip)); /* its tables are looked up as the input says */
    if (r->gzip == NULL)
        return -ENOMEM;
    gzip_begin_member(r);
    return 0;
}

static int64_t gzip_read(struct codec_reader *r, uint8_t *dst, size_t cap)
{
    struct inflate_state *z = r->gzip;
    z->next_out = dst;
    z->avail_out = (uint32_t)MIN(cap, (size_t)UINT32_MAX);
    uint32_t room = z->avail_out;
    while (z->avail_out == room) {
        if (!r->in_frame) {
            if (in_left(r) == 0)
                return 0;
            gzip_begin_member(r);
            z->next_out = dst;
            z->avail_out = room;
        }
        size_t in = MIN(in_left(r), (size_t)UINT32_MAX);
        z->next_in = (uint8_t *)(uintptr_t)r->in;
        z->avail_in = (uint32_t)in;
        if (isal_inflate(z) != ISAL_DECOMP_OK)
            return -EBADMSG;
        r->in = z->next_in;
        r->in_frame = z->block_state != ISAL_BLOCK_FINISH;
        if (r->in_frame && z->avail_out == room && in_left(r) == 0)
            return -EBADMSG; /* cut short */
    }
    return room - z->avail_out;
}

static void gzip_close(struct codec_reader *r)
{
    free(r->gzip);
}

/* lz4: exactly one frame, for the Java client reads no further. */

static int lz4_open(struct codec_reader *r)
{
    r->in_frame = true;
    return LZ4F_isError(LZ4F_createDecompressionContext(&r->lz4, LZ4F_VERSION)) ? -ENOMEM : 0;
}

static int64_t lz4_read(struct codec_reader *r, uint8_t *dst, size_t cap)
{
    while (r->in_frame) {
        size_t out = cap, in = in_left(r);
        size_t rc = LZ4F_decompress(r->lz4, dst, &out, r->in, &in, NULL);
        if (LZ4F_isError(rc)) {
            /* The library keeps the code behind the name to itself in a shared build. */
            bool no_memory = strcmp(LZ4F_getErrorName(rc), "ERROR_allocation_failed") == 0;
            return no_memory ? -ENOMEM : -EBADMSG;
        }
        r->in += in;
        r->in_frame = rc != 0;
        if (out > 0)
            return (int64_t)out;
        if (r->in_frame && in == 0)
            return -EBADMSG; /* cut short */
    }
    return in_left(r) == 0 ? 0 : -EBADMSG;
}

static void lz4_close(struct codec_reader *r)
{
    LZ4F_freeDecompressionContext(r->lz4);
}

/* zstd: one or more frames, with or without content size. */

static int zstd_open(struct codec_reader *r)
{
    r->in_frame = true;
    r->zstd = ZSTD_createDCtx();
    if (!r->zstd)
        return -ENOMEM;
    ZSTD_DCtx_setParameter(r->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    return 0;
}

static int64_t zstd_read(struct codec_reader *r, uint8_t *dst, size_t cap)
{
    while (r->in_frame || in_left(r) > 0) {
        ZSTD_outBuffer out = {dst, cap, 0};
        ZSTD_inBuffer in = {r->in, in_left(r), 0};
        size_t rc = ZSTD_decompressStream(r->zstd, &out, &in);
        if (ZSTD_isError(rc))
            return ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
        r->in += in.pos;
        r->in_frame = rc != 0;
        if (out.pos > 0)
            return (int64_t)out.pos;
        if (r->in_frame && in.pos == 0)
            return -EBADMSG; /* cut short */
    }
    return 0;
}

static void zstd_close(struct codec_reader *r)
{
    ZSTD_freeDCtx(r->zstd);
}

/* snappy: xerial framing (Java and most others), or one raw block (librdkafka). */

static bool xerial_header_at(const struct codec_reader *r)
{
    return in_left(r) >= XERIAL_HEADER_BYTES &&
           memcmp(r->in, xerial_magic, sizeof(xerial_magic)) == 0;
}

static int snappy_open(struct codec_reader *r)
{
    r->snappy.xerial = xerial_header_at(r);
    return in_left(r) > 0 ? 0 : -EBADMSG;
}

/* Unpack the block of packed_len bytes at r->in. */
static int snappy_block(struct codec_reader *r, size_t packed_len)
{
    size_t plain_len;
    if (snappy_uncompressed_length((const char *)r->in, packed_len, &plain_len) != SNAPPY_OK ||
        plain_len > SNAPPY_PLAIN_MAX(packed_len))
        return -EBADMSG;
    if (plain_len > r->plain_max - r->plain_bytes)
        return -EMSGSIZE;
    if (plain_len > r->snappy.cap) {
        free(r->snappy.block);
        r->snappy.block = malloc(plain_len);
        r->snappy.cap = r->snappy.block ? plain_len : 0;
        if (!r->snappy.block)
            return -ENOMEM;
    }
    /* An empty block decodes into no memory at all, which the library must not see as NULL. */
    char none, *dst = plain_len > 0 ? (char *)r->snappy.block : &none;
    if (snappy_uncompress((const char *)r->in, packed_len, dst, &plain_len) != SNAPPY_OK)
        return -EBADMSG;
    r->in += packed_len;
    r->snappy.at = 0;
    r->snappy.len = plain_len;
    return 0;
}

static int snappy_next_block(struct codec_reader *r)
{
    if (!r->snappy.xerial)
        return snappy_block(r, in_left(r));
    while (xerial_header_at(r)) /* again in the middle where streams were concatenated */
        r->in += XERIAL_HEADER_BYTES;
    if (in_left(r) == 0) {
        r->snappy.len = r->snappy.at = 0;
        return 0;
    }
    if (in_left(r) < sizeof(uint32_t))
        return -EBADMSG;
    uint32_t packed_len = be_load32(r->in);
    r->in += sizeof(uint32_t);
    if (packed_len == 0 || packed_len > in_left(r))
        return -EBADMSG;
    return snappy_block(r, packed_len);
}

static int64_t snappy_read(struct codec_reader *r, uint8_t *dst, size_t cap)
{
    while (r->snappy.at == r->snappy.len) {
        if (in_left(r) == 0)
            return 0;
        int rc = snappy_next_block(r);
        if (rc < 0)
            return rc;
    }
    size_t n = MIN(cap, r->snappy.len - r->snappy.at);
    memcpy(dst, r->snappy.block + r->snappy.at, n);
    r->snappy.at += n;
    return (int64_t)n;
}

static void snappy_close(struct codec_reader *r)
{
    free(r->snappy.block);
}

static const struct codec_ops codecs[BATCH_CODEC_COUNT] = {
    [BATCH_GZIP] = {gzip_open, gzip_read, gzip_close},
    [BATCH_SNAPPY] = {snappy_open, snappy_read, snappy_close},
    [BATCH_LZ4] = {lz4_open, lz4_read, lz4_close},
    [BATCH_ZSTD] = {zstd_open, zstd_read, zstd_close},
};

uint64_t codec_plain_max(size_t packed_len)
{
    uint64_t scaled = MIN((uint64_t)packed_len, (uint64_t)INT32_MAX) * BATCH_PLAIN_RATIO;
    return MIN(MAX(scaled, BATCH_PLAIN_BYTES_FLOOR), (uint64_t)INT32_MAX);
}

int codec_reader_open(struct codec_reader **ret, unsigned codec, const uint8_t *packed,
                      size_t packed_len, uint64_t plain_max)
{
    ASSERT(codec != BATCH_NONE);
    if (codec >= BATCH_CODEC_COUNT)
        return -ENOTSUP;
    struct codec_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->ops = &codecs[codec];
    r->in = packed;
    r->in_end = packed + packed_len;
    r->plain_max = plain_max;
    int rc = r->ops->open(r);
    if (rc < 0) {
        free(r);
        return rc;
    }
    *ret = r;
    return 0;
}

int64_t codec_reader_read(struct codec_reader *r, uint8_t *dst, size_t cap)
{
    ASSERT(cap > 0);
    if (r->at_end)
        return 0;
    int64_t n = r->ops->read(r, dst, cap);
    if (n == 0)
        r->at_end = true;
    if (n <= 0)
        return n;
    r->plain_bytes += (uint64_t)n;
    return r->plain_bytes > r->plain_max ? -EMSGSIZE : n;
}

void codec_reader_close(struct codec_reader *r)
{
    if (!r)
        return;
    r->ops->close(r);
    free(r);
}

/* Packing, in one go. */

static const LZ4F_preferences_t lz4_preferences = {
    /* The Java client refuses linked blocks. */
    .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
};

size_t codec_pack_bound(enum batch_codec codec, size_t len_bytes)
{
    size_t blocks = len_bytes / XERIAL_BLOCK_BYTES + 1;
    switch (codec) {
    case BATCH_GZIP: /* deflateBound() wants a stream: stored blocks, wrapper, slack */
        return len_bytes + (len_bytes >> 10) + 64;
    case BATCH_SNAPPY:
        return XERIAL_HEADER_BYTES +
               blocks * (4 + snappy_max_compressed_length(XERIAL_BLOCK_BYTES));
    case BATCH_LZ4:
        return LZ4F_compressFrameBound(len_bytes, &lz4_preferences);
    case BATCH_ZSTD:
        return ZSTD_compressBound(len_bytes);
    default:
        return len_bytes;
    }
}

int codec_level_default(enum batch_codec codec)
{
    switch (codec) {
    case BATCH_GZIP:
        return Z_DEFAULT_COMPRESSION;
    case BATCH_ZSTD:
        return ZSTD_CLEVEL_DEFAULT;
    default:
        return 0;
    }
}

static int64_t gzip_pack(uint8_t *dst, size_t cap, const uint8_t *src, size_t len, int level)
{
    z_stream z = {.next_in = (Bytef *)src,
                  .avail_in = (uInt)len,
                  .next_out = dst,
                  .avail_out = (uInt)MIN(cap, (size_t)UINT32_MAX)};
    if (deflateInit2(&z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    int rc = deflate(&z, Z_FINISH);
    size_t packed_len = (size_t)(z.next_out - dst);
    deflateEnd(&z);
    return rc == Z_STREAM_END ? (int64_t)packed_len : -EIO;
}

static int64_t snappy_pack(uint8_t *dst, size_t cap, const uint8_t *src, size_t len)
{
    size_t at = XERIAL_HEADER_BYTES;
    memcpy(dst, xerial_magic, sizeof(xerial_magic));
    be_store32(dst + 8, 1);  /* version, */
    be_store32(dst + 12, 1); /* and the oldest that can read it */
    while (len > 0) {
        size_t plain_len = MIN(len, XERIAL_BLOCK_BYTES), packed_len = cap - at - 4;
        if (snappy_compress((const char *)src, plain_len, (char *)dst + at + 4, &packed_len) !=
            SNAPPY_OK)
            return -EIO;
        be_store32(dst + at, (uint32_t)packed_len);
        at += 4 + packed_len;
        src += plain_len;
        len -= plain_len;
    }
    return (int64_t)at;
}

static int64_t lz4_pack(uint8_t *dst, size_t cap, const uint8_t *src, size_t len, int level)
{
    LZ4F_preferences_t preferences = lz4_preferences;
    preferences.compressionLevel = level;
    size_t rc = LZ4F_compressFrame(dst, cap, src, len, &preferences);
    return LZ4F_isError(rc) ? -EIO : (int64_t)rc;
}

int64_t codec_pack(enum batch_codec codec, uint8_t *dst, size_t cap, const uint8_t *src, size_t len,
                   int level)
{
    ASSERT(cap >= codec_pack_bound(codec, len) && len <= INT32_MAX);
    size_t rc;
    switch (codec) {
    case BATCH_GZIP:
        return gzip_pack(dst, cap, src, len, level);
    case BATCH_SNAPPY:
        return snappy_pack(dst, cap, src, len);
    case BATCH_LZ4:
        return lz4_pack(dst, cap, src, len, level);
    case BATCH_ZSTD:
        rc = ZSTD_compress(dst, cap, src, len, level);
        return ZSTD_isError(rc) ? -EIO : (int64_t)rc;
    default:
        memcpy(dst, src, len);
        return (int64_t)len;
    }
}
