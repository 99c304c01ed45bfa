/* Batches made by the Java client, org.apache.kafka:kafka-clients 4.4.0 (MemoryRecords), and the
 * damage that can be done to them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/unit/core/batch/batch_fixture.h"

static int32_t big_bytes(const char *name)
{
    return strcmp(name, "none") == 0 ? 300 : 100000;
}

static void expect_headers(const struct batch_record *r, const struct golden_record *want)
{
    struct batch_record_header h;
    size_t pos = 0;
    cr_assert_eq(r->header_count, want->header_count);
    if (want->header_count > 0) {
        cr_assert_eq(batch_record_header_next(r, &pos, &h), 1);
        cr_assert(h.key_len == 2 && memcmp(h.key, "h0", 2) == 0);
        cr_assert(h.value_len == 1 && h.value[0] == want->header_byte);
    }
    if (want->header_count > 1) {
        cr_assert_eq(batch_record_header_next(r, &pos, &h), 1);
        cr_assert(h.key_len == 2 && memcmp(h.key, "h1", 2) == 0);
        cr_assert(h.value_len == -1 && h.value == NULL);
    }
    cr_assert_eq(batch_record_header_next(r, &pos, &h), 0);
}

static void expect_record(const struct batch_record *r, int i, int32_t big)
{
    struct golden_record want = golden_record_make(i, big);
    cr_assert_eq(r->index, i);
    cr_assert_eq(r->offset, i);
    cr_assert_eq(r->timestamp, want.timestamp);
    cr_assert_eq(r->key_len, want.key_len);
    cr_assert_eq(r->value_len, want.value_len);
    cr_assert(want.key_len < 0 ? !r->key : memcmp(r->key, want.key, (size_t)want.key_len) == 0);
    cr_assert(want.value_len < 0 ? !r->value
                                 : memcmp(r->value, want.value, (size_t)want.value_len) == 0);
    expect_headers(r, &want);
    free(want.value);
}

Test(batch_golden, every_codec_validates_and_reads_back)
{
    struct batch_limits limits = open_limits();
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct bytes b = golden_load(codec_names[codec]), before = bytes_copy(b.data, b.len);
        struct batch_iter *iter;
        struct batch_record r;
        cr_assert_eq(validate(&b, &limits), 0, "%s", codec_names[codec]);
        cr_assert(memcmp(b.data, before.data, b.len) == 0, "a right batch is left alone");
        cr_assert_eq(batch_iter_open(&iter, b.data, b.len), 0);
        for (int i = 0; i < GOLDEN_RECORDS; i++) {
            cr_assert_eq(batch_iter_next(iter, &r), 1);
            expect_record(&r, i, big_bytes(codec_names[codec]));
        }
        cr_assert_eq(batch_iter_next(iter, &r), 0);
        cr_assert_eq(batch_iter_next(iter, &r), 0);
        batch_iter_close(iter);
        bytes_free(&b);
        bytes_free(&before);
    }
}

Test(batch_golden, builder_makes_the_same_bytes)
{
    struct bytes want = golden_load("none");
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    batch_builder_init(&b, BATCH_NONE);
    for (int i = 0; i < GOLDEN_RECORDS; i++) {
        struct golden_record r = golden_record_make(i, big_bytes("none"));
        golden_record_add(&b, &r);
        free(r.value);
    }
    cr_assert_eq(batch_builder_plain_bytes(&b), want.len);
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    cr_assert_eq(len, want.len);
    cr_assert(memcmp(data, want.data, len) == 0);
    batch_builder_fini(&b);
    bytes_free(&want);
}

Test(batch_golden, transactional)
{
    struct bytes b = golden_load("txn");
    struct batch_limits limits = open_limits();
    struct batch_header h;
    cr_assert_eq(validate(&b, &limits), 0);
    cr_assert_eq(batch_peek(b.data, b.len, &h), 0);
    cr_assert(batch_is_transactional(h.attributes) && !batch_is_control(h.attributes));
    cr_assert_eq(h.base_offset, 4711);
    cr_assert_eq(h.leader_epoch, 3);
    cr_assert_eq(h.producer_id, 77);
    cr_assert_eq(h.producer_epoch, 5);
    cr_assert_eq(h.base_sequence, INT32_MAX);
    cr_assert_eq(batch_last_offset(&h), 4712);
    cr_assert_eq(batch_last_sequence(&h), 0, "sequences wrap to 0");
    bytes_free(&b);
}

Test(batch_golden, marker_reads_but_is_refused_from_a_client)
{
    struct bytes b = golden_load("marker");
    struct batch_limits limits = open_limits();
    struct batch_iter *iter;
    struct batch_record r;
    cr_assert_eq(validate(&b, &limits), -EINVAL);
    cr_assert_eq(batch_iter_open(&iter, b.data, b.len), 0);
    cr_assert_eq(batch_iter_next(iter, &r), 1);
    cr_assert_eq(r.offset, 4713);
    cr_assert_eq(r.timestamp, 1700000000123);
    cr_assert(r.key_len == 4 && be_load16(r.key) == 0 && be_load16(r.key + 2) == 1);
    cr_assert(r.value_len == 6 && be_load32(r.value + 2) == 9);
    cr_assert_eq(batch_iter_next(iter, &r), 0);
    batch_iter_close(iter);
    bytes_free(&b);
}

Test(batch_golden, append_time_is_every_records_time)
{
    struct bytes b = golden_load("append_time");
    struct batch_limits limits = open_limits();
    int64_t offset = -9, timestamp = -9;
    cr_assert_eq(validate(&b, &limits), -ETIME);
    cr_assert_eq(batch_find_time(b.data, b.len, 0, 1700000000999, &offset, &timestamp), 1);
    cr_assert(offset == 100 && timestamp == 1700000000999);
    cr_assert_eq(batch_find_time(b.data, b.len, 0, 1700000001000, &offset, &timestamp), 0);
    cr_assert_eq(batch_find_max_time(b.data, b.len, 0, &offset, &timestamp), 1);
    cr_assert(offset == 100 && timestamp == 1700000000999);
    bytes_free(&b);
}

/* base_offset and leader epoch are the broker's and outside the CRC; all else must be noticed. */
static bool bit_is_harmless(size_t byte)
{
    return byte < 8 || (byte >= 12 && byte < 16);
}

Test(batch_golden, every_flipped_bit_is_noticed)
{
    struct batch_limits limits = open_limits();
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct bytes b = golden_load(codec_names[codec]);
        for (size_t bit = 0; bit < b.len * 8; bit++) {
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int rc = validate(&b, &limits);
            cr_assert(bit_is_harmless(bit / 8) ? rc == 0 : rc < 0, "%s: bit %zu: %d",
                      codec_names[codec], bit, rc);
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        bytes_free(&b);
    }
}

/* With the CRC made right again a flip may go unnoticed, but must be survived: whatever deep
 * validation lets pass, the iterator reads to the end. */
Test(batch_golden, what_is_validated_can_be_read)
{
    struct batch_limits limits = open_limits();
    int passed = 0, refused = 0;
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct bytes whole = golden_load(codec_names[codec]);
        for (size_t bit = 21 * 8; bit < whole.len * 8; bit += 3) {
            struct bytes b = bytes_copy(whole.data, whole.len);
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            batch_seal(&b);
            if (validate(&b, &limits) == 0) {
                cr_assert_eq(count_records(&b), GOLDEN_RECORDS, "%s: bit %zu", codec_names[codec],
                             bit);
                passed++;
            } else {
                cr_assert(count_records(&b) != GOLDEN_RECORDS || bit < 61 * 8,
                          "%s: bit %zu is refused, and reads", codec_names[codec], bit);
                refused++;
            }
            bytes_free(&b);
        }
        bytes_free(&whole);
    }
    cr_assert(passed > 100 && refused > 100);
}

Test(batch_golden, truncation_at_every_byte)
{
    struct batch_limits limits = open_limits();
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct bytes whole = golden_load(codec_names[codec]);
        for (size_t len = 0; len < whole.len; len++) {
            struct bytes b = bytes_copy(whole.data, len);
            struct batch_header h;
            cr_assert_eq(validate(&b, &limits), len == 0 ? -EINVAL : -EBADMSG);
            cr_assert_eq(batch_peek(b.data, b.len, &h), len < BATCH_HEADER_BYTES ? -EAGAIN : 0);
            cr_assert_eq(count_records(&b), -EBADMSG);
            if (len >= BATCH_HEADER_BYTES) { /* the same, with a header that knows */
                batch_seal(&b);
                cr_assert_eq(validate(&b, &limits), -EINVAL, "%s cut at %zu", codec_names[codec],
                             len);
                cr_assert_eq(count_records(&b), -EBADMSG);
            }
            bytes_free(&b);
        }
        bytes_free(&whole);
    }
}
