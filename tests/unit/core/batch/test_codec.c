/* Compressed forms that other clients make and the builder does not; malformed ones; bombs. */
#include <criterion/criterion.h>
#include <errno.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zlib.h>
#include <zstd.h>

#include "core/base/bytes.h"
#include "core/batch/record.h"
#include "tests/unit/core/batch/batch_fixture.h"

#define RECORDS 3000 /* some 40 KB: more than one window, more than one xerial block */

struct packed {
    uint8_t data[1 << 18];
    size_t len;
};

static size_t pack_gzip(uint8_t *dst, size_t cap, const uint8_t *src, size_t len)
{
    z_stream z = {
        .next_in = (Bytef *)src, .avail_in = (uInt)len, .next_out = dst, .avail_out = (uInt)cap};
    cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return (size_t)(z.next_out - dst);
}

static size_t pack_zstd_stream(uint8_t *dst, size_t cap, const uint8_t *src, size_t len)
{
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    ZSTD_outBuffer out = {dst, cap, 0};
    ZSTD_inBuffer in = {src, len / 2, 0};
    cr_assert_not(ZSTD_isError(ZSTD_compressStream2(ctx, &out, &in, ZSTD_e_flush)));
    in.size = len; /* the size was not known at the start, so the frame does not say it */
    cr_assert_eq(ZSTD_compressStream2(ctx, &out, &in, ZSTD_e_end), 0);
    ZSTD_freeCCtx(ctx);
    cr_assert_eq(ZSTD_getFrameContentSize(dst, out.pos), ZSTD_CONTENTSIZE_UNKNOWN);
    return out.pos;
}

static size_t pack_lz4(uint8_t *dst, size_t cap, const uint8_t *src, size_t len, bool linked,
                       bool sized, bool checked)
{
    LZ4F_preferences_t p = {.frameInfo = {
                                .blockSizeID = LZ4F_max64KB,
                                .blockMode = linked ? LZ4F_blockLinked : LZ4F_blockIndependent,
                                .contentSize = sized ? len : 0,
                                .contentChecksumFlag = checked,
                                .blockChecksumFlag = checked,
                            }};
    size_t n = LZ4F_compressFrame(dst, cap, src, len, &p);
    cr_assert_not(LZ4F_isError(n));
    return n;
}

static size_t put_xerial_header(uint8_t *dst)
{
    memcpy(dst, "\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16);
    return 16;
}

static size_t put_xerial_block(uint8_t *dst, const uint8_t *src, size_t len)
{
    size_t n = snappy_max_compressed_length(len);
    cr_assert_eq(snappy_compress((const char *)src, len, (char *)dst + 4, &n), SNAPPY_OK);
    be_store32(dst, (uint32_t)n);
    return n + 4;
}

/* rc of deep validation and, for a good one, that the iterator sees every record. */
static int try_packed(enum batch_codec codec, const struct packed *p)
{
    struct batch_limits limits = open_limits();
    struct bytes like = simple_batch(BATCH_NONE, RECORDS);
    struct bytes b = batch_around(&like, codec, p->data, p->len);
    int rc = validate(&b, &limits);
    cr_assert_eq(count_records(&b), rc == 0 ? RECORDS : -EBADMSG);
    bytes_free(&like);
    bytes_free(&b);
    return rc;
}

Test(batch_codec, gzip_members)
{
    static struct packed p;
    struct bytes plain = simple_records(RECORDS);
    p.len = pack_gzip(p.data, sizeof(p.data), plain.data, 1000);
    p.len += pack_gzip(p.data + p.len, sizeof(p.data) - p.len, plain.data, 0);
    cr_assert_eq(try_packed(BATCH_GZIP, &p), -EINVAL, "records are missing");
    p.len += pack_gzip(p.data + p.len, sizeof(p.data) - p.len, plain.data + 1000, plain.len - 1000);
    cr_assert_eq(try_packed(BATCH_GZIP, &p), 0);
    p.data[p.len++] = 0;
    cr_assert_eq(try_packed(BATCH_GZIP, &p), -EINVAL, "something behind the last member");
    p.len = 0;
    cr_assert_eq(try_packed(BATCH_GZIP, &p), -EINVAL, "nothing at all");
    bytes_free(&plain);
}

Test(batch_codec, zstd_frames)
{
    static struct packed p;
    struct bytes plain = simple_records(RECORDS);
    p.len = pack_zstd_stream(p.data, sizeof(p.data), plain.data, plain.len);
    cr_assert_eq(try_packed(BATCH_ZSTD, &p), 0, "no content size");
    p.len--;
    cr_assert_eq(try_packed(BATCH_ZSTD, &p), -EINVAL);
    p.len = ZSTD_compress(p.data, sizeof(p.data), plain.data, 777, 3);
    p.len += ZSTD_compress(p.data + p.len, sizeof(p.data) - p.len, plain.data + 777,
                           plain.len - 777, 19);
    cr_assert_eq(try_packed(BATCH_ZSTD, &p), 0, "two frames");
    p.data[p.len++] = 0;
    cr_assert_eq(try_packed(BATCH_ZSTD, &p), -EINVAL, "something behind the last frame");
    p.len = 0;
    cr_assert_eq(try_packed(BATCH_ZSTD, &p), -EINVAL);
    bytes_free(&plain);
}

Test(batch_codec, zstd_window_above_the_limit)
{
    /* Magic; no single segment, no size; window descriptor of 2^28; then whatever. */
    static struct packed p = {.data = {0x28, 0xb5, 0x2f, 0xfd, 0x00, (28 - 10) << 3}, .len = 64};
    cr_assert_eq(try_packed(BATCH_ZSTD, &p), -EINVAL);
}

Test(batch_codec, lz4_frames)
{
    static struct packed p;
    struct bytes plain = simple_records(RECORDS);
    for (int kind = 0; kind < 8; kind++) {
        p.len =
            pack_lz4(p.data, sizeof(p.data), plain.data, plain.len, kind & 1, kind & 2, kind & 4);
        cr_assert_eq(try_packed(BATCH_LZ4, &p), 0, "kind %d", kind);
        p.len--;
        cr_assert_eq(try_packed(BATCH_LZ4, &p), -EINVAL, "kind %d", kind);
    }
    p.len = pack_lz4(p.data, sizeof(p.data), plain.data, plain.len, false, false, false);
    p.data[p.len++] = 0;
    cr_assert_eq(try_packed(BATCH_LZ4, &p), -EINVAL, "something behind the frame");
    p.len = pack_lz4(p.data, sizeof(p.data), plain.data, 777, false, false, false);
    p.len += pack_lz4(p.data + p.len, sizeof(p.data) - p.len, plain.data + 777, plain.len - 777,
                      false, false, false);
    cr_assert_eq(try_packed(BATCH_LZ4, &p), -EINVAL, "a second frame, which Java does not read");
    p.len = 0;
    cr_assert_eq(try_packed(BATCH_LZ4, &p), -EINVAL);
    bytes_free(&plain);
}

Test(batch_codec, snappy_raw)
{
    static struct packed p;
    struct bytes plain = simple_records(RECORDS);
    p.len = sizeof(p.data);
    cr_assert_eq(snappy_compress((char *)plain.data, plain.len, (char *)p.data, &p.len), SNAPPY_OK);
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), 0);
    p.len--;
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), -EINVAL);
    p.data[p.len] = 0;
    p.len += 2;
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), -EINVAL);
    p.len = 0;
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), -EINVAL);
    memcpy(p.data, "\xff\xff\xff\xff\x0f\0a", 7); /* says 4 GiB, has one byte */
    p.len = 7;
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), -EINVAL);
    p.data[0] = 0; /* unpacks to nothing */
    p.len = 1;
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), -EINVAL);
    bytes_free(&plain);
}

Test(batch_codec, snappy_xerial)
{
    static struct packed p;
    struct bytes plain = simple_records(RECORDS);
    size_t cut[] = {1, 5000, 5001, 30000};
    size_t at = 0;
    p.len = put_xerial_header(p.data);
    for (size_t i = 0; i < ARRAY_LEN(cut); at = cut[i++])
        p.len += put_xerial_block(p.data + p.len, plain.data + at, cut[i] - at);
    p.len += put_xerial_block(p.data + p.len, plain.data, 0);
    p.len += put_xerial_header(p.data + p.len); /* a second stream behind the first */
    p.len += put_xerial_block(p.data + p.len, plain.data + at, plain.len - at);
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), 0);
    for (size_t cut_bytes = 1; cut_bytes < 100; cut_bytes++) {
        struct packed *shorter = malloc(sizeof(*shorter));
        *shorter = p;
        shorter->len -= cut_bytes;
        cr_assert_eq(try_packed(BATCH_SNAPPY, shorter), -EINVAL);
        free(shorter);
    }
    memset(p.data + p.len, 0, 4); /* a block of length 0 */
    p.len += 4;
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), -EINVAL);
    be_store32(p.data + 16, UINT32_MAX); /* and one that is longer than there is */
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), -EINVAL);
    p.len = put_xerial_header(p.data);
    cr_assert_eq(try_packed(BATCH_SNAPPY, &p), -EINVAL, "a header alone");
    bytes_free(&plain);
}

/* A gzip batch of one record with a value of zeros, made without holding them. */
static struct bytes zeros_batch(int32_t value_len)
{
    static uint8_t zeros[1 << 16], packed[1 << 20];
    uint8_t head[32], *p = head + VARINT32_BYTES_MAX;
    memcpy(p, "\0\0\0\1", 4); /* attributes, deltas, null key */
    p += 4;
    p += varint_encode(p, zigzag_encode(value_len));
    uint64_t body_len = (uint64_t)(p - head - VARINT32_BYTES_MAX) + (uint64_t)value_len + 1;
    uint8_t length[VARINT32_BYTES_MAX];
    unsigned length_len = varint_encode(length, zigzag_encode((int64_t)body_len));
    uint8_t *start = head + VARINT32_BYTES_MAX - length_len;
    memcpy(start, length, length_len);
    z_stream z = {.next_out = packed, .avail_out = sizeof(packed)};
    cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = start;
    z.avail_in = (uInt)(p - start);
    cr_assert_eq(deflate(&z, Z_NO_FLUSH), Z_OK);
    for (int64_t left = value_len + 1; left > 0; left -= (int64_t)sizeof(zeros)) {
        z.next_in = zeros; /* the last byte is the header count, 0 as well */
        z.avail_in = (uInt)MIN(left, (int64_t)sizeof(zeros));
        cr_assert_eq(deflate(&z, Z_NO_FLUSH), Z_OK);
    }
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    struct bytes like = simple_batch(BATCH_NONE, 1);
    struct bytes b = batch_around(&like, BATCH_GZIP, packed, (size_t)(z.next_out - packed));
    bytes_free(&like);
    return b;
}

static long rss_max_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

Test(batch_codec, validation_takes_constant_memory)
{
    struct batch_limits limits = open_limits();
    struct bytes small = zeros_batch(100000), large = zeros_batch(60 << 20);
    cr_assert_eq(validate(&small, &limits), 0);
    long before = rss_max_kib();
    cr_assert_eq(validate(&large, &limits), 0);
    cr_assert_lt(rss_max_kib() - before, 4096, "KiB more for a value of 60 MiB");
    bytes_free(&small);
    bytes_free(&large);
}

Test(batch_codec, iterator_grows_to_the_record)
{
    struct bytes b = zeros_batch(60 << 20);
    struct batch_iter *iter;
    struct batch_record r;
    cr_assert_eq(batch_iter_open(&iter, b.data, b.len), 0);
    cr_assert_eq(batch_iter_next(iter, &r), 1);
    cr_assert_eq(r.value_len, 60 << 20);
    cr_assert(r.value[0] == 0 && r.value[r.value_len - 1] == 0);
    cr_assert_eq(batch_iter_next(iter, &r), 0);
    batch_iter_close(iter);
    bytes_free(&b);
}

/* 65 MiB in 65 KB: more than a batch of that size may unpack to. */
Test(batch_codec, bomb_of_gzip)
{
    struct batch_limits limits = open_limits();
    struct bytes b = zeros_batch(65 << 20);
    cr_assert_lt(b.len, 100000);
    cr_assert_eq(validate(&b, &limits), -EMSGSIZE);
    cr_assert_eq(count_records(&b), -EBADMSG);
    bytes_free(&b);
}

static void expect_bomb(enum batch_codec codec)
{
    struct batch_limits limits = open_limits();
    struct batch_builder builder;
    uint8_t *data, *zeros = calloc(1, 65 << 20);
    size_t len;
    batch_builder_init(&builder, codec);
    cr_assert_eq(batch_builder_add(&builder, 1, NULL, -1, zeros, 65 << 20, NULL, 0), 0);
    cr_assert_eq(batch_builder_finish(&builder, &data, &len), 0);
    struct bytes b = bytes_copy(data, len);
    cr_assert_eq(validate(&b, &limits), -EMSGSIZE);
    cr_assert_eq(count_records(&b), -EBADMSG);
    batch_builder_fini(&builder);
    bytes_free(&b);
    free(zeros);
}

Test(batch_codec, bomb_of_zstd)
{
    expect_bomb(BATCH_ZSTD);
}

Test(batch_codec, bomb_of_lz4)
{
    expect_bomb(BATCH_LZ4);
}

/* A record that lies about its length makes nobody allocate it. */
Test(batch_codec, lying_length_costs_no_memory)
{
    uint8_t plain[16] = {0xfe, 0xff, 0xff, 0xff, 0x0f}; /* 2^31-1 bytes */
    static struct packed p;
    p.len = pack_gzip(p.data, sizeof(p.data), plain, sizeof(plain));
    cr_assert_eq(try_packed(BATCH_GZIP, &p), -EINVAL);
    long before = rss_max_kib();
    for (int i = 0; i < 10; i++)
        cr_assert_eq(try_packed(BATCH_GZIP, &p), -EINVAL);
    cr_assert_lt(rss_max_kib() - before, 32768, "also with what a sanitizer keeps of freed memory");
}

Test(batch_codec, varints)
{
    const uint64_t values[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, 1ull << 32, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        uint8_t bytes[VARINT64_BYTES_MAX];
        uint64_t v = 0;
        int n = (int)varint_encode(bytes, values[i]);
        cr_assert_eq(varint_decode(bytes, (size_t)n, 64, &v), n);
        cr_assert_eq(v, values[i]);
        cr_assert_eq(varint_decode(bytes, (size_t)n - 1, 64, &v), 0);
        cr_assert_eq(varint_decode(bytes, (size_t)n, 32, &v), values[i] <= UINT32_MAX ? n : -1);
        cr_assert_eq(zigzag_decode(zigzag_encode((int64_t)values[i])), (int64_t)values[i]);
    }
}
