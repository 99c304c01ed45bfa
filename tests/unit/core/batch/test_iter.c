/* The iterator and what is built on it: large records, gaps, emptied batches, times. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"
#include "tests/unit/core/batch/batch_fixture.h"

static struct bytes finish(struct batch_builder *b)
{
    uint8_t *data;
    size_t len;
    cr_assert_eq(batch_builder_finish(b, &data, &len), 0);
    struct bytes ret = bytes_copy(data, len);
    batch_builder_fini(b);
    return ret;
}

/* Random bytes, so that nothing compresses and windows are crossed at odd places. */
Test(batch_iter, records_of_any_size_in_every_codec)
{
    enum { RECORDS = 60, VALUE_MAX = 200000 };
    static uint8_t noise[VALUE_MAX];
    struct rng rng;
    rng_seed(&rng, 42);
    for (size_t i = 0; i < VALUE_MAX; i++)
        noise[i] = (uint8_t)rng_next(&rng);
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct batch_limits limits = open_limits();
        struct batch_builder builder;
        struct batch_iter *iter;
        struct batch_record r;
        int32_t sizes[RECORDS];
        batch_builder_init(&builder, codec);
        for (int i = 0; i < RECORDS; i++) {
            sizes[i] = (int32_t)rng_below(&rng, i % 4 == 0 ? VALUE_MAX : 3000);
            cr_assert_eq(
                batch_builder_add(&builder, i, noise, sizes[i] % 100, noise, sizes[i], NULL, 0), 0);
        }
        struct bytes b = finish(&builder);
        cr_assert_eq(validate(&b, &limits), 0, "%s", codec_names[codec]);
        cr_assert_eq(batch_iter_open(&iter, b.data, b.len), 0);
        for (int i = 0; i < RECORDS; i++) {
            cr_assert_eq(batch_iter_next(iter, &r), 1);
            cr_assert(r.offset == i && r.timestamp == i && r.value_len == sizes[i]);
            cr_assert(r.key_len == sizes[i] % 100 && memcmp(r.key, noise, (size_t)r.key_len) == 0);
            cr_assert(memcmp(r.value, noise, (size_t)r.value_len) == 0);
        }
        cr_assert_eq(batch_iter_next(iter, &r), 0);
        batch_iter_close(iter);
        bytes_free(&b);
    }
}

Test(batch_iter, gaps_as_compaction_leaves_them)
{
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct batch_limits limits = open_limits();
        struct batch_builder builder;
        struct batch_iter *iter;
        struct batch_record r;
        const int64_t offsets[] = {1002, 1003, 1010};
        batch_builder_init(&builder, codec);
        builder.base_offset = 1000;
        for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
            builder.next_offset_delta = (int32_t)(offsets[i] - 1000);
            cr_assert_eq(batch_builder_add(&builder, 5, "k", 1, NULL, -1, NULL, 0), 0);
        }
        builder.next_offset_delta = 20; /* and a tail that is gone */
        struct bytes b = finish(&builder);
        cr_assert_eq(validate(&b, &limits), -EINVAL, "not from a client");
        cr_assert_eq(batch_iter_open(&iter, b.data, b.len), 0);
        for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
            cr_assert_eq(batch_iter_next(iter, &r), 1);
            cr_assert_eq(r.offset, offsets[i]);
        }
        cr_assert_eq(batch_iter_next(iter, &r), 0);
        batch_iter_close(iter);
        bytes_free(&b);
    }
}

Test(batch_iter, emptied_batch_keeps_its_header)
{
    for (int codec = 0; codec < BATCH_CODEC_COUNT; codec++) {
        struct batch_builder builder;
        struct batch_header h;
        int64_t offset, timestamp;
        batch_builder_init(&builder, BATCH_NONE);
        builder.base_offset = 50;
        builder.next_offset_delta = 8;
        struct bytes b = finish(&builder);
        be_store16(b.data + 21, (uint16_t)codec); /* the codec stays, the records go */
        batch_seal(&b);
        cr_assert_eq(b.len, BATCH_HEADER_BYTES);
        cr_assert_eq(count_records(&b), 0);
        cr_assert_eq(batch_peek(b.data, b.len, &h), 0);
        cr_assert_eq(batch_last_offset(&h), 57);
        cr_assert_eq(batch_find_max_time(b.data, b.len, 0, &offset, &timestamp), 0);
        cr_assert_eq(batch_find_time(b.data, b.len, 0, -1, &offset, &timestamp), 0);
        bytes_free(&b);
    }
}

Test(batch_iter, failure_is_sticky_and_touches_nothing)
{
    struct bytes b = simple_batch(BATCH_NONE, 3);
    struct batch_iter *iter;
    struct batch_record r;
    b.data[BATCH_HEADER_BYTES] = 0x7f; /* the first record's length: negative */
    cr_assert_eq(batch_iter_open(&iter, b.data, b.len), 0);
    memset(&r, 0x5a, sizeof(r));
    cr_assert_eq(batch_iter_next(iter, &r), -EBADMSG);
    cr_assert_eq(r.index, 0x5a5a5a5a);
    cr_assert_eq(batch_iter_next(iter, &r), -EBADMSG);
    batch_iter_close(iter);
    batch_iter_close(NULL);
    bytes_free(&b);
}

Test(batch_iter, open_refuses)
{
    struct bytes b = simple_batch(BATCH_NONE, 3);
    struct batch_iter *iter = NULL;
    cr_assert_eq(batch_iter_open(&iter, b.data, b.len - 1), -EBADMSG);
    cr_assert_eq(batch_iter_open(&iter, b.data, 60), -EBADMSG);
    be_store16(b.data + 21, 6);
    cr_assert_eq(batch_iter_open(&iter, b.data, b.len), -ENOTSUP);
    cr_assert_null(iter);
    bytes_free(&b);
}

/* Against a plain search over the same list, for timestamps in no order. */
Test(batch_find, agrees_with_a_plain_search)
{
    enum { RECORDS = 40 };
    int64_t times[RECORDS], offset, timestamp;
    struct rng rng;
    rng_seed(&rng, 7);
    for (int round = 0; round < 50; round++) {
        struct batch_builder builder;
        int first_max = 0;
        batch_builder_init(&builder, round % BATCH_CODEC_COUNT);
        builder.base_offset = 500;
        for (int i = 0; i < RECORDS; i++) {
            times[i] = FIXTURE_NOW_MS + (int64_t)rng_below(&rng, 30);
            first_max = times[i] > times[first_max] ? i : first_max;
            cr_assert_eq(batch_builder_add(&builder, times[i], NULL, -1, "v", 1, NULL, 0), 0);
        }
        struct bytes b = finish(&builder);
        cr_assert_eq(batch_find_max_time(b.data, b.len, 0, &offset, &timestamp), 1);
        cr_assert(offset == 500 + first_max && timestamp == times[first_max]);
        for (int64_t target = FIXTURE_NOW_MS - 1; target < FIXTURE_NOW_MS + 32; target++) {
            int want = 0;
            while (want < RECORDS && times[want] < target)
                want++;
            cr_assert_eq(batch_find_time(b.data, b.len, 0, target, &offset, &timestamp),
                         want < RECORDS);
            cr_assert(want == RECORDS || (offset == 500 + want && timestamp == times[want]));
        }
        bytes_free(&b);
    }
}

Test(batch_find, damage_is_an_error_not_a_miss)
{
    for (int codec = 1; codec < BATCH_CODEC_COUNT; codec++) {
        struct bytes b = simple_batch(codec, 50);
        int64_t offset = -9, timestamp = -9;
        memset(b.data + BATCH_HEADER_BYTES, 0xee, b.len - BATCH_HEADER_BYTES);
        cr_assert_eq(batch_find_time(b.data, b.len, 0, 0, &offset, &timestamp), -EBADMSG);
        cr_assert_eq(batch_find_max_time(b.data, b.len, 0, &offset, &timestamp), -EBADMSG);
        cr_assert(offset == -9 && timestamp == -9);
        bytes_free(&b);
    }
}

Test(batch_builder, refuses_what_does_not_fit)
{
    struct batch_builder b;
    struct bytes before, after;
    batch_builder_init(&b, BATCH_NONE);
    cr_assert_eq(batch_builder_add(&b, INT64_MIN, "k", 1, "v", 1, NULL, 0), 0);
    uint8_t *data;
    size_t len;
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    before = bytes_copy(data, len);
    cr_assert_eq(batch_builder_add(&b, 1, "k", 1, "v", 1, NULL, 0), -EOVERFLOW, "the delta");
    cr_assert_eq(batch_builder_add(&b, INT64_MIN, "k", 1, "v", INT32_MAX, NULL, 0), -EOVERFLOW);
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    after = bytes_copy(data, len);
    cr_assert(after.len == before.len && memcmp(after.data, before.data, after.len) == 0);
    batch_builder_reset(&b);
    cr_assert_eq(batch_builder_add(&b, 1, "k", 1, "v", 1, NULL, 0), 0, "one base time a batch");
    batch_builder_fini(&b);
    bytes_free(&before);
    bytes_free(&after);
}
