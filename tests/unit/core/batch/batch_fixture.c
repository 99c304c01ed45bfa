#include "tests/unit/core/batch/batch_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"

const char *const codec_names[BATCH_CODEC_COUNT] = {"none", "gzip", "snappy", "lz4", "zstd"};

struct bytes bytes_copy(const void *data, size_t len)
{
    struct bytes b = {malloc(len ? len : 1), len};
    if (len > 0)
        memcpy(b.data, data, len);
    return b;
}

void bytes_free(struct bytes *b)
{
    free(b->data);
    b->data = NULL;
}

struct bytes golden_load(const char *name)
{
    static uint8_t buf[1 << 20];
    char path[256];
    snprintf(path, sizeof(path), "tests/unit/core/batch/golden/%s.bin", name);
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s: run the tests from the repository's root", path);
    size_t n = fread(buf, 1, sizeof(buf), f);
    fclose(f);
    cr_assert(n > 0 && n < sizeof(buf));
    return bytes_copy(buf, n);
}

struct golden_record golden_record_make(int i, int32_t big_bytes)
{
    struct golden_record r = {.timestamp = FIXTURE_NOW_MS + i * 37 % 50,
                              .header_count = i % 3,
                              .header_byte = (uint8_t)i};
    char word[32];
    r.key_len = i % 5 == 4 ? -1 : snprintf(r.key, sizeof(r.key), "key-%d", i);
    if (i % 7 == 6) {
        r.value_len = -1;
        return r;
    }
    int len = snprintf(word, sizeof(word), "value-%d;", i);
    r.value_len = i == 3 ? big_bytes : len * i;
    r.value = malloc((size_t)r.value_len + 1);
    for (int64_t j = 0; j < r.value_len; j++)
        r.value[j] = (uint8_t)(i == 3 ? 'a' + (j * j / 7 + j) % 26 : word[j % len]);
    return r;
}

void golden_record_add(struct batch_builder *b, const struct golden_record *r)
{
    struct batch_record_header headers[2] = {
        {(const uint8_t *)"h0", 2, &r->header_byte, 1},
        {(const uint8_t *)"h1", 2, NULL, -1},
    };
    cr_assert_eq(batch_builder_add(b, r->timestamp, r->key, r->key_len, r->value, r->value_len,
                                   headers, r->header_count),
                 0);
}

static void add_simple(struct batch_builder *b, int count)
{
    for (int i = 0; i < count; i++) {
        char key[16], value[16];
        int key_len = snprintf(key, sizeof(key), "k%d", i);
        int value_len = snprintf(value, sizeof(value), "v%d", i);
        cr_assert_eq(
            batch_builder_add(b, FIXTURE_NOW_MS + i, key, key_len, value, value_len, NULL, 0), 0);
    }
}

struct bytes simple_batch(enum batch_codec codec, int count)
{
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    batch_builder_init(&b, codec);
    add_simple(&b, count);
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    struct bytes ret = bytes_copy(data, len);
    batch_builder_fini(&b);
    return ret;
}

struct bytes simple_records(int count)
{
    struct bytes batch = simple_batch(BATCH_NONE, count);
    struct bytes ret = bytes_copy(batch.data + BATCH_HEADER_BYTES, batch.len - BATCH_HEADER_BYTES);
    bytes_free(&batch);
    return ret;
}

struct bytes batch_around(const struct bytes *like, enum batch_codec codec, const void *packed,
                          size_t packed_len)
{
    struct bytes b = {malloc(BATCH_HEADER_BYTES + packed_len), BATCH_HEADER_BYTES + packed_len};
    memcpy(b.data, like->data, BATCH_HEADER_BYTES);
    memcpy(b.data + BATCH_HEADER_BYTES, packed, packed_len);
    be_store16(b.data + 21, (uint16_t)((be_load16(b.data + 21) & ~BATCH_CODEC_MASK) | codec));
    batch_seal(&b);
    return b;
}

void batch_seal(struct bytes *b)
{
    be_store32(b->data + 8, (uint32_t)(b->len - 12));
    be_store32(b->data + 17, crc32c(b->data + 21, b->len - 21));
}

struct batch_limits open_limits(void)
{
    return (struct batch_limits){.max_bytes = UINT32_MAX,
                                 .now_ms = FIXTURE_NOW_MS,
                                 .timestamp_before_max_ms = INT64_MAX,
                                 .timestamp_after_max_ms = INT64_MAX,
                                 .deep = true};
}

/* The batch comes in by pieces; what is not there yet is not in memory either. */
static struct batch_arrival arrive_by(const struct bytes *b, size_t piece)
{
    struct batch_arrival a = {.summed_bytes = 0};
    for (size_t have = piece; have < b->len; have += piece) {
        struct bytes part = bytes_copy(b->data, have);
        batch_arrive(&a, part.data, part.len);
        bytes_free(&part);
    }
    return a;
}

/* It makes no difference how a batch has come in. */
static void validate_arrived(const struct bytes *b, const struct batch_limits *limits)
{
    const size_t pieces[] = {7, 61, 1000, 20000};
    struct bytes whole = bytes_copy(b->data, b->len);
    struct batch_header h = {.crc = 0}, h_of_pieces;
    struct batch_error e = {.record_index = -2}, e_of_pieces;
    int rc = batch_validate(whole.data, whole.len, limits, NULL, &h, &e);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        if (b->len / pieces[i] > 40 || (i > 0 && b->len <= pieces[i]))
            continue;
        struct bytes copy = bytes_copy(b->data, b->len);
        struct batch_arrival a = arrive_by(&copy, pieces[i]);
        h_of_pieces = (struct batch_header){.crc = 0};
        e_of_pieces = (struct batch_error){.record_index = -2};
        cr_assert_eq(batch_validate(copy.data, copy.len, limits, &a, &h_of_pieces, &e_of_pieces),
                     rc);
        cr_assert_eq(memcmp(copy.data, whole.data, whole.len), 0);
        cr_assert_eq(h_of_pieces.crc, h.crc);
        cr_assert_eq(h_of_pieces.max_timestamp, h.max_timestamp);
        cr_assert_eq(h_of_pieces.record_count, h.record_count);
        cr_assert_eq(e_of_pieces.record_index, e.record_index);
        cr_assert_eq(e_of_pieces.message, e.message);
        bytes_free(&copy);
    }
    bytes_free(&whole);
}

int validate_error(struct bytes *b, const struct batch_limits *limits, struct batch_error *ret)
{
    struct batch_header h;
    struct batch_error e = {.record_index = -2, .message = NULL};
    validate_arrived(b, limits);
    int rc = batch_validate(b->data, b->len, limits, NULL, &h, &e);
    if (rc < 0) {
        cr_assert(e.message && e.record_index >= -1, "a failure (%d) without its reason", rc);
    } else {
        cr_assert_null(e.message);
        cr_assert_eq(h.len_bytes, b->len);
    }
    if (ret)
        *ret = e;
    return rc;
}

int validate(struct bytes *b, const struct batch_limits *limits)
{
    return validate_error(b, limits, NULL);
}

int count_records(const struct bytes *b)
{
    struct batch_iter *iter;
    struct batch_record r;
    int count = 0, rc = batch_iter_open(&iter, b->data, b->len);
    if (rc < 0)
        return rc;
    while ((rc = batch_iter_next(iter, &r)) > 0)
        count++;
    batch_iter_close(iter);
    return rc < 0 ? rc : count;
}
