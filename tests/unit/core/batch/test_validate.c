/* batch_validate(): one rule after another, on batches whose CRC is right. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/unit/core/batch/batch_fixture.h"

/* One field of a good batch of three records set to another value, and sealed again. */
static const struct field_case {
    const char *what;
    unsigned at, size;
    int64_t value;
    int rc;
} field_cases[] = {
    {"the batch as it is", 0, 8, 0, 0},
    {"any base offset", 0, 8, INT64_MAX, 0},
    {"any leader epoch", 12, 4, 12345, 0},
    {"magic 1", 16, 1, 1, -EINVAL},
    {"magic 3", 16, 1, 3, -EINVAL},
    {"codec 5", 21, 2, 5, -ENOTSUP},
    {"codec 7", 21, 2, 7, -ENOTSUP},
    {"LogAppendTime from a client", 21, 2, BATCH_LOG_APPEND_TIME, -ETIME},
    {"control", 21, 2, BATCH_CONTROL, -EINVAL},
    {"transactional without producer", 21, 2, BATCH_TRANSACTIONAL, -EINVAL},
    {"bits without a meaning", 21, 2, 0x4000, 0},
    {"last offset delta too small", 23, 4, 1, -EINVAL},
    {"last offset delta too large", 23, 4, 3, -EINVAL},
    {"last offset delta negative", 23, 4, -1, -EINVAL},
    {"count 0", 57, 4, 0, -EINVAL},
    {"count negative", 57, 4, -1, -EINVAL},
    {"count too small", 57, 4, 2, -EINVAL},
    {"count too large", 57, 4, 4, -EINVAL},
    {"count enormous", 57, 4, INT32_MAX, -EINVAL},
    {"producer id without sequence", 43, 8, 9, -EINVAL},
    {"sequence without producer id", 53, 4, 9, 0},
    {"producer id below none", 43, 8, INT64_MIN, 0},
    {"a base timestamp that overflows", 27, 8, INT64_MAX, -EINVAL},
    {"a base timestamp of long ago", 27, 8, INT64_MIN, 0},
};

Test(batch_validate, header_fields)
{
    struct batch_limits limits = open_limits();
    for (size_t i = 0; i < ARRAY_LEN(field_cases); i++) {
        const struct field_case *c = &field_cases[i];
        struct bytes b = simple_batch(BATCH_NONE, 3);
        for (unsigned j = 0; j < c->size; j++)
            b.data[c->at + j] = (uint8_t)((uint64_t)c->value >> 8 * (c->size - 1 - j));
        batch_seal(&b);
        cr_expect_eq(validate(&b, &limits), c->rc, "%s", c->what);
        bytes_free(&b);
    }
}

/* Count and last offset delta agree with each other, but not with the records. */
Test(batch_validate, count_against_records)
{
    struct batch_limits limits = open_limits();
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        for (int32_t count = 1; count <= 5; count++) {
            struct bytes b = simple_batch(codec, 3);
            struct batch_error error;
            be_store32(b.data + 57, (uint32_t)count);
            be_store32(b.data + 23, (uint32_t)count - 1);
            batch_seal(&b);
            int rc = validate_error(&b, &limits, &error);
            cr_expect_eq(rc, count == 3 ? 0 : -EINVAL, "%s %d", codec_names[codec], count);
            /* 5 records have no room in the bytes of 3 uncompressed ones: no need to walk. */
            if (rc < 0 && (count < 5 || codec != BATCH_NONE))
                cr_expect_eq(error.record_index, count < 3 ? -1 : 3);
            bytes_free(&b);
        }
    }
}

Test(batch_validate, enormous_count_of_a_compressed_batch_not_looked_into)
{
    struct batch_limits limits = open_limits();
    struct bytes b = simple_batch(BATCH_ZSTD, 3);
    limits.deep = false;
    be_store32(b.data + 57, INT32_MAX);
    be_store32(b.data + 23, INT32_MAX - 1);
    batch_seal(&b);
    cr_assert_eq(validate(&b, &limits), -EINVAL);
    bytes_free(&b);
}

Test(batch_validate, producer_fields)
{
    struct batch_limits limits = open_limits();
    struct bytes b = simple_batch(BATCH_NONE, 3);
    be_store64(b.data + 43, 9);
    be_store32(b.data + 53, INT32_MAX);
    batch_seal(&b);
    cr_assert_eq(validate(&b, &limits), -EINVAL, "no epoch");
    be_store16(b.data + 51, 0);
    be_store16(b.data + 21, BATCH_TRANSACTIONAL);
    batch_seal(&b);
    cr_assert_eq(validate(&b, &limits), 0);
    bytes_free(&b);
}

Test(batch_validate, sequences_wrap)
{
    const struct {
        int32_t base, delta, last;
    } cases[] = {{0, 0, 0},
                 {5, 2, 7},
                 {INT32_MAX - 2, 2, INT32_MAX},
                 {INT32_MAX, 0, INT32_MAX},
                 {INT32_MAX, 1, 0},
                 {INT32_MAX - 1, 4, 2},
                 {-1, 4, -1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct batch_header h = {.base_sequence = cases[i].base,
                                 .last_offset_delta = cases[i].delta};
        cr_expect_eq(batch_last_sequence(&h), cases[i].last);
    }
}

Test(batch_validate, length_field)
{
    const struct {
        uint32_t length;
        int rc;
    } cases[] = {{0, -EBADMSG},          {48, -EBADMSG},         {49, -EINVAL},
                 {0x7fffffff, -EBADMSG}, {0x80000000, -EBADMSG}, {UINT32_MAX, -EBADMSG}};
    struct batch_limits limits = open_limits();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes b = simple_batch(BATCH_NONE, 3);
        be_store32(b.data + 8, cases[i].length);
        cr_expect_eq(validate(&b, &limits), cases[i].rc, "%u", cases[i].length);
        bytes_free(&b);
    }
}

Test(batch_validate, exactly_one_batch)
{
    struct batch_limits limits = open_limits();
    struct bytes one = simple_batch(BATCH_NONE, 3), two = {malloc(one.len * 2), one.len * 2};
    memcpy(two.data, one.data, one.len);
    memcpy(two.data + one.len, one.data, one.len);
    cr_assert_eq(batch_validate(two.data, two.len, &limits, NULL, &(struct batch_header){0},
                                &(struct batch_error){0}),
                 -EINVAL);
    cr_assert_eq(batch_validate(two.data, one.len + 1, &limits, NULL, &(struct batch_header){0},
                                &(struct batch_error){0}),
                 -EINVAL);
    bytes_free(&one);
    bytes_free(&two);
}

Test(batch_validate, size_limit_is_inclusive)
{
    struct bytes b = simple_batch(BATCH_NONE, 3);
    struct batch_limits limits = open_limits();
    limits.max_bytes = (uint32_t)b.len;
    cr_assert_eq(validate(&b, &limits), 0);
    limits.max_bytes--;
    cr_assert_eq(validate(&b, &limits), -EMSGSIZE);
    bytes_free(&b);
}

Test(batch_validate, failure_leaves_the_outputs_alone)
{
    struct bytes b = simple_batch(BATCH_NONE, 3);
    struct batch_limits limits = open_limits();
    struct batch_header h, before;
    struct batch_error error = {7, NULL};
    memset(&h, 0x5a, sizeof(h));
    before = h;
    b.data[30] ^= 1;
    cr_assert_eq(batch_validate(b.data, b.len, &limits, NULL, &h, &error), -EBADMSG);
    cr_assert(memcmp(&h, &before, sizeof(h)) == 0);
    cr_assert_eq(error.record_index, -1);
    bytes_free(&b);
}

/* A record by hand, between two good ones: what breaks it is found, at its index. */
static const struct record_case {
    const char *what;
    const char *bytes;
    unsigned len;
    int rc;
} record_cases[] = {
    /* length, attributes, timestamp delta, offset delta, key, value, headers */
    {"as it should be", "\x10\0\0\2\2k\2v\0", 9, 0},
    {"null key and value", "\x0c\0\0\2\1\1\0", 7, 0},
    {"attributes without a meaning", "\x0c\x7f\0\2\1\1\0", 7, 0},
    {"a header", "\x12\0\0\2\1\1\2\2h\1", 10, 0},
    {"a header with an empty key and value", "\x10\0\0\2\1\1\2\0\0", 9, 0},
    {"a longer encoding than needed", "\x8c\0\0\0\2\1\1\0", 8, 0},
    {"length 0", "\0\0\0\2\1\1\0", 7, -EINVAL},
    {"length too small for any record", "\x0a\0\0\2\1\1\0", 7, -EINVAL},
    {"length negative", "\x0b\0\0\2\1\1\0", 7, -EINVAL},
    {"length one short", "\x0e\0\0\2\2k\2v\0", 9, -EINVAL},
    {"length one long", "\x12\0\0\2\2k\2v\0", 9, -EINVAL},
    {"length beyond the batch", "\xfe\xff\xff\xff\x0f\0\0\2\1\1\0", 11, -EINVAL},
    {"length of 33 bits", "\xfe\xff\xff\xff\x1f\0\0\2\1\1\0", 11, -EINVAL},
    {"length varint without an end", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11, -EINVAL},
    {"offset delta 0 again", "\x0c\0\0\0\1\1\0", 7, -EINVAL},
    {"offset delta with a gap", "\x0c\0\0\4\1\1\0", 7, -EINVAL},
    {"offset delta negative", "\x0c\0\0\1\1\1\0", 7, -EINVAL},
    {"key length -2", "\x0c\0\0\2\3\1\0", 7, -EINVAL},
    {"key beyond the record", "\x0c\0\0\2\x10\1\0", 7, -EINVAL},
    {"key of 2 GiB", "\x14\0\0\2\xfe\xff\xff\xff\x0f\1\0", 11, -EINVAL},
    {"value length -2", "\x0c\0\0\2\1\3\0", 7, -EINVAL},
    {"value beyond the record", "\x0c\0\0\2\1\4\0", 7, -EINVAL},
    {"header count -1", "\x0c\0\0\2\1\1\1", 7, -EINVAL},
    {"one header too many", "\x0c\0\0\2\1\1\2", 7, -EINVAL},
    {"2^31-1 headers", "\x14\0\0\2\1\1\xfe\xff\xff\xff\x0f", 11, -EINVAL},
    {"null header key", "\x10\0\0\2\1\1\2\1\0", 9, -EINVAL},
    {"header value length -2", "\x10\0\0\2\1\1\2\0\3", 9, -EINVAL},
    {"bytes behind the headers", "\x0e\0\0\2\1\1\0\0", 8, -EINVAL},
    {"timestamp delta of 64 bits", "\x1e\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1\2\1\1\0", 16,
     -EINVAL},
    {"timestamp delta of 65 bits", "\x1e\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff\2\2\1\1\0", 16,
     -EINVAL},
};

/* Three records, the one in the middle given. */
static struct bytes around_record(const struct record_case *c)
{
    const char first[] = "\x10\0\0\0\2k\2v\0", last[] = "\x10\0\0\4\2k\2v\0";
    char records[64];
    memcpy(records, first, 9);
    memcpy(records + 9, c->bytes, c->len);
    memcpy(records + 9 + c->len, last, 9);
    struct bytes like = simple_batch(BATCH_NONE, 3);
    struct bytes b = batch_around(&like, BATCH_NONE, records, 18 + c->len);
    bytes_free(&like);
    return b;
}

Test(batch_validate, records)
{
    struct batch_limits limits = open_limits();
    for (size_t i = 0; i < ARRAY_LEN(record_cases); i++) {
        const struct record_case *c = &record_cases[i];
        struct bytes b = around_record(c);
        struct batch_error error;
        int rc = validate_error(&b, &limits, &error);
        cr_expect_eq(rc, c->rc, "%s: %d", c->what, rc);
        /* A wrong length may only show in the record that it makes of the next one. */
        cr_expect(rc == 0 || error.record_index == 1 || error.record_index == 2, "%s", c->what);
        cr_expect(rc == 0 ? count_records(&b) == 3 : true, "%s", c->what);
        bytes_free(&b);
    }
}

Test(batch_validate, keys_of_a_compacted_topic)
{
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct batch_limits limits = open_limits();
        struct bytes b = golden_load(codec_names[codec]);
        struct batch_error error;
        limits.deep = false; /* compacted looks into every batch by itself */
        limits.compacted = true;
        cr_assert_eq(validate_error(&b, &limits, &error), -EINVAL);
        cr_assert_eq(error.record_index, 4, "the golden files' first null key");
        bytes_free(&b);
        b = simple_batch(codec, 3);
        cr_assert_eq(validate(&b, &limits), 0);
        bytes_free(&b);
    }
}

/* One record at now + shift. */
static struct bytes at_time(enum batch_codec codec, int64_t timestamp)
{
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    batch_builder_init(&b, codec);
    cr_assert_eq(batch_builder_add(&b, timestamp, "k", 1, "v", 1, NULL, 0), 0);
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    struct bytes ret = bytes_copy(data, len);
    batch_builder_fini(&b);
    return ret;
}

Test(batch_validate, timestamps_in_range)
{
    const struct {
        int64_t timestamp, before_max_ms, after_max_ms;
        int rc;
    } cases[] = {
        {FIXTURE_NOW_MS, 0, 0, 0},
        {FIXTURE_NOW_MS - 1000, 1000, 0, 0},
        {FIXTURE_NOW_MS - 1001, 1000, 0, -ETIME},
        {FIXTURE_NOW_MS + 1000, 0, 1000, 0},
        {FIXTURE_NOW_MS + 1001, 0, 1000, -ETIME},
        {BATCH_NO_TIMESTAMP, 0, 0, 0},
        {-2, 1000, 1000, -ETIME},
        {0, INT64_MAX, 0, 0},
        {INT64_MIN, INT64_MAX, 0, 0},
        {INT64_MIN, 1000, 0, -ETIME},
        {INT64_MAX, 0, 3600000, -ETIME},
        {INT64_MAX, 0, INT64_MAX, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int deep = 0; deep < 2; deep++) {
            struct batch_limits limits = open_limits();
            limits.deep = deep;
            limits.timestamp_before_max_ms = cases[i].before_max_ms;
            limits.timestamp_after_max_ms = cases[i].after_max_ms;
            for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
                struct bytes b = at_time(codec, cases[i].timestamp);
                cr_expect_eq(validate(&b, &limits), cases[i].rc, "case %zu %s", i,
                             codec_names[codec]);
                bytes_free(&b);
            }
            limits.log_append_time = true; /* then nobody asks */
            struct bytes b = at_time(BATCH_NONE, cases[i].timestamp);
            cr_expect_eq(validate(&b, &limits), 0);
            bytes_free(&b);
        }
    }
}

Test(batch_validate, bad_timestamp_names_its_record)
{
    struct batch_limits limits = open_limits();
    struct batch_error error;
    limits.timestamp_after_max_ms = 1;
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct bytes b = simple_batch(codec, 5); /* now + 0, 1, 2, ... */
        cr_assert_eq(validate_error(&b, &limits, &error), -ETIME);
        cr_assert_eq(error.record_index, 2);
        bytes_free(&b);
    }
}

/* A lying max_timestamp is corrected, CRC included, as Kafka does. */
Test(batch_validate, max_timestamp_is_corrected)
{
    const int64_t lies[] = {FIXTURE_NOW_MS - 1, FIXTURE_NOW_MS + 100, -1, INT64_MAX, INT64_MIN};
    struct batch_limits limits = open_limits();
    for (size_t i = 0; i < ARRAY_LEN(lies) * BATCH_CODEC_COUNT; i++) {
        struct bytes right = simple_batch(i % BATCH_CODEC_COUNT, 5);
        struct bytes b = bytes_copy(right.data, right.len);
        struct batch_header h;
        be_store64(b.data + 35, (uint64_t)lies[i / BATCH_CODEC_COUNT]);
        batch_seal(&b);
        cr_assert_eq(batch_validate(b.data, b.len, &limits, NULL, &h, &(struct batch_error){0}), 0);
        cr_assert_eq(h.max_timestamp, FIXTURE_NOW_MS + 4);
        cr_assert(batch_crc_ok(b.data, &h));
        cr_assert(memcmp(b.data, right.data, b.len) == 0, "the bytes of an honest client");
        bytes_free(&b);
        bytes_free(&right);
    }
}

/* Not looked into, a header is believed unless it contradicts itself. */
Test(batch_validate, shallow_headers)
{
    struct batch_limits limits = open_limits();
    struct bytes b = simple_batch(BATCH_LZ4, 5);
    struct batch_header h;
    limits.deep = false;
    be_store64(b.data + 35, FIXTURE_NOW_MS + 100);
    batch_seal(&b);
    cr_assert_eq(batch_validate(b.data, b.len, &limits, NULL, &h, &(struct batch_error){0}), 0);
    cr_assert_eq(h.max_timestamp, FIXTURE_NOW_MS + 100);
    be_store64(b.data + 35, (uint64_t)-1); /* below the first record's */
    batch_seal(&b);
    cr_assert_eq(batch_validate(b.data, b.len, &limits, NULL, &h, &(struct batch_error){0}), 0);
    cr_assert_eq(h.max_timestamp, FIXTURE_NOW_MS + 4);
    bytes_free(&b);
}

Test(batch_validate, stamps)
{
    struct batch_limits limits = open_limits();
    struct bytes b = simple_batch(BATCH_GZIP, 3);
    struct batch_header h;
    batch_stamp(b.data, 0x123456789abcdef, 42);
    cr_assert_eq(validate(&b, &limits), 0, "the CRC does not cover what the broker stamps");
    limits.log_append_time = true;
    be_store64(b.data + 35, 1); /* of no interest here: neither refused nor corrected */
    batch_seal(&b);
    cr_assert_eq(batch_validate(b.data, b.len, &limits, NULL, &h, &(struct batch_error){0}), 0);
    batch_stamp_append_time(b.data, 777);
    cr_assert_eq(batch_peek(b.data, b.len, &h), 0);
    cr_assert(batch_crc_ok(b.data, &h));
    cr_assert(batch_is_log_append_time(h.attributes));
    cr_assert_eq(batch_codec_of(h.attributes), BATCH_GZIP);
    cr_assert_eq(h.max_timestamp, 777);
    cr_assert_eq(h.base_timestamp, FIXTURE_NOW_MS);
    cr_assert_eq(h.base_offset, 0x123456789abcdef);
    cr_assert_eq(batch_last_offset(&h), 0x123456789abcdef + 2);
    cr_assert_eq(h.leader_epoch, 42);
    cr_assert_eq(count_records(&b), 3);
    bytes_free(&b);
}
