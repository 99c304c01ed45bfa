/* From every codec to every other: the records, and all of the header but what has to change. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"
#include "core/batch/codec.h"
#include "tests/unit/core/batch/batch_fixture.h"

enum { RECORDS = 100, VALUE_BYTES = 3000 };

static uint8_t values[RECORDS][VALUE_BYTES];

static void values_make(void)
{
    struct rng rng;
    rng_seed(&rng, 7);
    for (int i = 0; i < RECORDS; i++)
        for (int k = 0; k < VALUE_BYTES; k++)
            values[i][k] = (uint8_t)('a' + rng_below(&rng, 4));
}

static struct bytes batch_of(enum batch_codec codec)
{
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    batch_builder_init(&b, codec);
    b.base_offset = 77;
    b.leader_epoch = 3;
    b.producer_id = 9;
    b.producer_epoch = 2;
    b.base_sequence = 40;
    for (int i = 0; i < RECORDS; i++)
        cr_assert_eq(batch_builder_add(&b, 1000 + i, "key", 3, values[i], i * 30, NULL, 0), 0);
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    struct bytes ret = bytes_copy(data, len);
    batch_builder_fini(&b);
    return ret;
}

static void assert_records(const uint8_t *data, size_t len)
{
    struct batch_iter *iter;
    struct batch_record r;
    cr_assert_eq(batch_iter_open(&iter, data, len), 0);
    for (int i = 0; i < RECORDS; i++) {
        cr_assert_eq(batch_iter_next(iter, &r), 1);
        cr_assert(r.offset == 77 + i && r.timestamp == 1000 + i && r.key_len == 3);
        cr_assert(r.value_len == i * 30 && memcmp(r.value, values[i], (size_t)r.value_len) == 0);
    }
    cr_assert_eq(batch_iter_next(iter, &r), 0);
    batch_iter_close(iter);
}

static void assert_header(const struct batch_header *old, const struct batch_header *h)
{
    struct batch_header same = *h;
    same.len_bytes = old->len_bytes;
    same.crc = old->crc;
    cr_assert_eq(h->attributes & ~BATCH_CODEC_MASK, old->attributes & ~BATCH_CODEC_MASK);
    same.attributes = old->attributes;
    cr_assert(
        same.base_offset == old->base_offset && same.leader_epoch == old->leader_epoch &&
        same.producer_id == old->producer_id && same.base_sequence == old->base_sequence &&
        same.producer_epoch == old->producer_epoch && same.record_count == old->record_count &&
        same.last_offset_delta == old->last_offset_delta &&
        same.base_timestamp == old->base_timestamp && same.max_timestamp == old->max_timestamp);
}

Test(batch_recode, from_every_codec_to_every_other)
{
    values_make();
    for (int from = 0; from < BATCH_CODEC_COUNT; from++) {
        struct bytes b = batch_of(from);
        struct batch_header old, h, peeked;
        cr_assert_eq(batch_peek(b.data, b.len, &old), 0);
        for (int to = 0; to < BATCH_CODEC_COUNT; to++) {
            struct batch_limits limits = open_limits();
            uint8_t *made = NULL;
            cr_assert_eq(
                batch_recode(b.data, &old, to, codec_level_default(to), INT32_MAX, &made, &h), 0);
            cr_assert_eq(batch_codec_of(h.attributes), (unsigned)to);
            assert_header(&old, &h);
            cr_assert_eq(batch_peek(made, h.len_bytes, &peeked), 0);
            cr_assert(peeked.len_bytes == h.len_bytes && peeked.crc == h.crc &&
                      peeked.attributes == h.attributes);
            assert_header(&old, &peeked);
            struct bytes whole = {made, h.len_bytes};
            cr_assert_eq(validate(&whole, &limits), 0, "%s to %s", codec_names[from],
                         codec_names[to]);
            assert_records(made, h.len_bytes);
            free(made);
        }
        bytes_free(&b);
    }
}

Test(batch_recode, levels_count)
{
    values_make();
    struct bytes b = batch_of(BATCH_NONE);
    struct batch_header old, fast, slow;
    uint8_t *made;
    static const struct {
        enum batch_codec codec;
        int fast, slow;
    } pairs[] = {{BATCH_GZIP, 1, 9}, {BATCH_LZ4, 1, 12}, {BATCH_ZSTD, -10, 19}};
    cr_assert_eq(batch_peek(b.data, b.len, &old), 0);
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        enum batch_codec codec = pairs[i].codec;
        cr_assert_eq(batch_recode(b.data, &old, codec, pairs[i].fast, INT32_MAX, &made, &fast), 0);
        free(made);
        cr_assert_eq(batch_recode(b.data, &old, codec, pairs[i].slow, INT32_MAX, &made, &slow), 0);
        assert_records(made, slow.len_bytes);
        free(made);
        cr_assert_lt(slow.len_bytes, fast.len_bytes, "%s", codec_names[codec]);
    }
    bytes_free(&b);
}

Test(batch_recode, what_becomes_too_large_is_refused)
{
    values_make();
    struct bytes plain = batch_of(BATCH_NONE), packed = batch_of(BATCH_ZSTD);
    struct batch_header h, untouched = {.len_bytes = 1};
    uint8_t *made = NULL;
    cr_assert_eq(batch_peek(packed.data, packed.len, &h), 0);
    uint32_t exact = (uint32_t)plain.len;
    cr_assert_eq(batch_recode(packed.data, &h, BATCH_NONE, 0, exact - 1, &made, &untouched),
                 -EMSGSIZE);
    cr_assert_eq(batch_recode(packed.data, &h, BATCH_GZIP, 6, 1000, &made, &untouched), -EMSGSIZE);
    cr_assert(made == NULL && untouched.len_bytes == 1);
    cr_assert_eq(batch_recode(packed.data, &h, BATCH_NONE, 0, exact, &made, &untouched), 0);
    cr_assert_eq(untouched.len_bytes, exact);
    free(made);
    bytes_free(&plain);
    bytes_free(&packed);
}
