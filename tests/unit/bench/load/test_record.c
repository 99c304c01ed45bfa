#include "bench/load/record.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"

static const struct record_head head = {.run = 0x01020304,
                                        .producer = 0x11121314,
                                        .clock = 0x21222324,
                                        .sequence = 0x3132333435363738,
                                        .stamp_ns = 0x4142434445464748};

static uint8_t value[4096];

static void fill(size_t len, double entropy, const struct record_head *h)
{
    struct body_set set;
    cr_assert_eq(body_set_init(&set, len, entropy, 1), 0);
    record_fill(value, &set, h);
    body_set_fini(&set);
}

Test(record, the_head_lies_where_the_header_says)
{
    static const uint8_t fields[] = {
        'P',  'S',  'B',  '1',  0x04, 0x03, 0x02, 0x01, 0x14, 0x13, 0x12,
        0x11, 0x24, 0x23, 0x22, 0x21, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33,
        0x32, 0x31, 0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,
    };
    fill(100, 1, &head);
    cr_assert_arr_eq(value, fields, sizeof(fields));
    cr_assert_eq(le_load32(value + 32), crc32c(value, 32) ^ crc32c(value + 36, 64));
}

Test(record, what_was_filled_is_read)
{
    static const size_t sizes[] = {RECORD_BYTES_LEAST, 41, 100, 1000, sizeof(value)};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++)
        for (uint64_t sequence = 0; sequence < 2 * BODY_KINDS; sequence++) {
            struct record_head h = head, back;
            h.sequence = sequence;
            fill(sizes[i], 0.5, &h);
            cr_assert_eq(record_read(value, (int64_t)sizes[i], 1, &back), 0);
            cr_assert(back.run == h.run && back.producer == h.producer && back.clock == h.clock &&
                      back.sequence == h.sequence && back.stamp_ns == h.stamp_ns);
        }
}

/* Each bit of a record counts, the checksum's own too. In the magic it makes it no record at all.
 */
Test(record, every_flipped_bit_is_seen)
{
    struct record_head back;
    fill(200, 0.5, &head);
    for (unsigned bit = 0; bit < 200 * 8; bit++) {
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_eq(record_read(value, 200, 1, &back), bit < 32 ? -ENOENT : -EBADMSG, "bit %u",
                     bit);
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    value[150] ^= 1;
    cr_assert_eq(record_read(value, 200, 0, &back), 0, "content is not looked at");
}

Test(record, a_cut_record_is_damaged)
{
    struct record_head back;
    fill(200, 1, &head);
    for (int64_t len = -1; len < 200; len++)
        cr_assert_eq(record_read(value, len, 1, &back),
                     len < RECORD_BYTES_LEAST ? -ENOENT : -EBADMSG);
}

Test(record, a_damaged_record_still_says_who_it_was)
{
    struct record_head back;
    fill(100, 1, &head);
    value[99] ^= 0xff;
    cr_assert_eq(record_read(value, 100, 1, &back), -EBADMSG);
    cr_assert_eq(back.producer, head.producer);
    cr_assert_eq(back.sequence, head.sequence);
}

/* Of each 64 bytes the share is random. */
Test(record, entropy_is_the_share_of_random_bytes)
{
    static const double shares[] = {0, 0.25, 0.5, 1};
    for (unsigned i = 0; i < ARRAY_LEN(shares); i++) {
        struct body_set a, b;
        size_t same = 0, n = sizeof(value) - RECORD_HEAD_BYTES;
        cr_assert_eq(body_set_init(&a, sizeof(value), shares[i], 1), 0);
        cr_assert_eq(body_set_init(&b, sizeof(value), shares[i], 2), 0);
        for (size_t k = 0; k < n; k++)
            same += a.bytes[k] == b.bytes[k];
        cr_assert_float_eq((double)same / (double)n, 1 - shares[i] * 255 / 256, 0.02);
        body_set_fini(&a);
        body_set_fini(&b);
    }
}

Test(record, bodies_differ_from_record_to_record_and_not_from_run_to_run)
{
    struct body_set a, b;
    cr_assert_eq(body_set_init(&a, 1000, 1, 7), 0);
    cr_assert_eq(body_set_init(&b, 1000, 1, 7), 0);
    for (unsigned i = 0; i < BODY_KINDS; i++) {
        cr_assert_eq(a.crc[i], b.crc[i]);
        for (unsigned k = 0; k < i; k++)
            cr_assert_neq(a.crc[i], a.crc[k]);
    }
    body_set_fini(&a);
    body_set_fini(&b);
}

Test(record, the_clock_is_this_machines)
{
    cr_assert_neq(record_clock_id(), 0);
    cr_assert_eq(record_clock_id(), record_clock_id());
}
