/* The pure parts: is this the batch that belongs here, and what a damaged journal write still says.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/batch/builder.h"
#include "core/log/journal_format.h"
#include "core/log/verify.h"

/* ---- verify ---- */

#define BATCHES 5

static uint8_t bytes[16384];
static size_t begins[BATCHES + 1];

/* Batches of 2 records each from offset 10 on, epoch 3 and from offset 16 on epoch 4. */
static void log_make(void)
{
    size_t at = 0;
    for (int i = 0; i < BATCHES; i++) {
        struct batch_builder b;
        uint8_t *data;
        size_t len;
        batch_builder_init(&b, BATCH_NONE);
        for (int k = 0; k < 2; k++)
            cr_assert_eq(batch_builder_add(&b, 1000 + i, NULL, -1, "some value", 10, NULL, 0), 0);
        cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
        batch_stamp(data, 10 + 2 * i, i < 3 ? 3 : 4);
        memcpy(bytes + at, data, len);
        begins[i] = at;
        at += len;
        batch_builder_fini(&b);
    }
    begins[BATCHES] = at;
}

static const struct epoch_entry epochs[] = {{3, 0}, {4, 16}};

static struct verify_walk walk_all(void)
{
    return (struct verify_walk){.place = {10, 10, 20, epochs, 2},
                                .data = bytes,
                                .len_bytes = begins[BATCHES],
                                .last = true};
}

/* The walk finds all batches but number `lost` good. */
static void walk_expect(int lost, const char *what)
{
    struct verify_walk w = walk_all();
    struct verify_piece piece;
    for (int i = 0; i < BATCHES; i++) {
        cr_assert_eq(verify_walk_next(&w, &piece), 1, "%s", what);
        cr_assert_eq(piece.good, i != lost, "%s: batch %d", what, i);
        cr_assert_eq(piece.from, begins[i], "%s: batch %d", what, i);
        cr_assert_eq(piece.to, begins[i + 1], "%s: batch %d", what, i);
        cr_assert_eq(piece.from_offset, 10 + 2 * i, "%s", what);
        cr_assert_eq(piece.to_offset, 12 + 2 * i, "%s", what);
    }
    cr_assert_eq(verify_walk_next(&w, &piece), 0, "%s", what);
}

Test(formats, any_flipped_bit_loses_its_batch_and_no_other)
{
    log_make();
    walk_expect(-1, "undamaged");
    for (size_t at = 0; at < begins[BATCHES]; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            int lost = 0;
            while (begins[lost + 1] <= at)
                lost++;
            bytes[at] ^= (uint8_t)(1u << bit);
            walk_expect(lost, "one bit");
            bytes[at] ^= (uint8_t)(1u << bit);
        }
}

Test(formats, a_right_batch_in_a_wrong_place_is_not_believed)
{
    struct batch_header h;
    struct verify_place place = {10, 10, 20, epochs, 2};
    log_make();
    cr_assert_eq(verify_batch(&place, bytes, begins[1], &h), 0);
    cr_assert_eq(verify_batch(&place, bytes, begins[1] - 1, &h), -EAGAIN);
    cr_assert_eq(verify_batch(&place, bytes, BATCH_HEADER_BYTES - 1, &h), -EAGAIN);
    cr_assert_eq(verify_batch(&place, bytes + begins[1], begins[1], &h), -EBADMSG, "the next one");
    batch_stamp(bytes, 10, 4);
    cr_assert_eq(verify_batch(&place, bytes, begins[1], &h), -EBADMSG, "another epoch");
    place.epochs_n = 0;
    cr_assert_eq(verify_batch(&place, bytes, begins[1], &h), 0, "no history to hold it against");
    place.end_offset = 11;
    cr_assert_eq(verify_batch(&place, bytes, begins[1], &h), -EBADMSG, "beyond the end");
}

Test(formats, a_walk_asks_for_more_bytes_and_goes_on)
{
    struct verify_walk w = walk_all();
    struct verify_piece piece;
    log_make();
    memset(bytes + begins[1], 0, begins[2] - begins[1]);
    w.len_bytes = begins[2] + 100; /* where the next one begins can be seen, not that it is whole */
    w.last = false;
    cr_assert_eq(verify_walk_next(&w, &piece), 1);
    cr_assert_eq(verify_walk_next(&w, &piece), -EAGAIN);
    cr_assert_eq(w.pos, begins[1]);
    w.len_bytes = begins[BATCHES];
    w.last = true;
    cr_assert_eq(verify_walk_next(&w, &piece), 1);
    cr_assert(!piece.good);
    cr_assert_eq(piece.to, begins[2]);
    cr_assert_eq(piece.to_offset, 14);
}

/* ---- journal ---- */

static uint8_t write_buf[64 << 10];
static struct journal_header sealed;
static const struct journal_expect expected = {.journal_id = 99,
                                               .virtual_pos = 8192,
                                               .incarnation_max = 7,
                                               .chained = true,
                                               .seq = 5,
                                               .prev_crc = 1234};

static uint32_t record_put(uint32_t at, uint32_t kind, uint64_t number, uint32_t body)
{
    uint32_t len = (uint32_t)round_up_u64(sizeof(struct journal_record) + body, 8);
    struct journal_record rec = {.kind = kind,
                                 .len_bytes = len,
                                 .number = number,
                                 .segment_base = 0,
                                 .base_offset = 10,
                                 .end_offset = 20,
                                 .data_bytes = kind == RECORD_BATCHES ? body : BLOCK_BYTES,
                                 .headers_n = kind == RECORD_BATCHES ? 0 : 2};
    memset(write_buf + at, (int)number, len);
    memcpy(write_buf + at, &rec, sizeof(rec));
    return at + len;
}

static void write_make(bool run)
{
    uint32_t at = sizeof(struct journal_header);
    memset(write_buf, 0xee, sizeof(write_buf));
    at = record_put(at, RECORD_BATCHES, 1, 700);
    at = record_put(at, run ? RECORD_RUN : RECORD_BATCHES, 2, 900);
    at = record_put(at, RECORD_BATCHES, 3, 5000);
    sealed = (struct journal_header){
        .journal_id = 99, .virtual_pos = 8192, .incarnation = 7, .seq = 5, .prev_crc = 1234};
    journal_write_seal(write_buf, at, &sealed);
}

/* All three records are found; returns how many bodies are not what was written. */
static unsigned records_damaged(const char *what)
{
    struct journal_header h;
    struct journal_record_iter it;
    struct journal_record rec;
    unsigned n = 0, damaged = 0;
    cr_assert_eq(journal_write_open(write_buf, sizeof(write_buf), &expected, &h), 0, "%s", what);
    cr_assert_eq(h.len_bytes, sealed.len_bytes);
    journal_records_begin(&it, write_buf, &h);
    while (journal_record_next(&it, &rec)) {
        cr_assert_eq(rec.number, ++n, "%s", what);
        damaged += !journal_record_intact(write_buf, &rec);
    }
    cr_assert_eq(n, 3, "%s", what);
    cr_assert_eq(it.damaged_n, 0, "%s", what);
    cr_assert_eq(journal_write_intact(write_buf, &h), damaged == 0);
    return damaged;
}

static void place_damage(size_t at, size_t len)
{
    for (size_t i = at; i < at + len; i++)
        write_buf[i] ^= 0x55;
}

Test(formats, one_damaged_sector_of_a_write_hides_no_record)
{
    write_make(false);
    cr_assert_eq(records_damaged("undamaged"), 0);
    for (size_t at = 0; at < sealed.len_bytes; at += JOURNAL_SECTOR_BYTES) {
        place_damage(at, JOURNAL_SECTOR_BYTES);
        cr_assert_leq(records_damaged("a sector"), 2, "it touches two bodies at most");
        place_damage(at, JOURNAL_SECTOR_BYTES);
    }
}

Test(formats, one_damaged_block_of_a_write_with_a_run_hides_no_record)
{
    write_make(true);
    for (size_t at = 0; at < sealed.len_bytes; at += BLOCK_BYTES) {
        place_damage(at, BLOCK_BYTES);
        records_damaged("a block");
        place_damage(at, BLOCK_BYTES);
    }
}

Test(formats, writes_of_elsewhere_and_earlier_never_count)
{
    struct journal_header h;
    struct journal_expect e[] = {expected, expected, expected, expected, expected, expected};
    write_make(false);
    e[0].journal_id++;
    e[1].virtual_pos += BLOCK_BYTES;
    e[2].incarnation_max--;
    e[3].incarnation_min = 8;
    e[4].seq++;
    e[5].prev_crc++;
    for (unsigned i = 0; i < ARRAY_LEN(e); i++)
        cr_assert_eq(journal_write_open(write_buf, sizeof(write_buf), &e[i], &h), -ENOENT, "%u", i);
    cr_assert_eq(journal_write_open(write_buf, sealed.len_bytes, &expected, &h), 0);
    cr_assert_eq(journal_write_open(write_buf, sealed.len_bytes - BLOCK_BYTES, &expected, &h),
                 -EAGAIN);
}

Test(formats, a_record_of_another_write_is_not_believed)
{
    struct journal_header h;
    struct journal_record_iter it;
    struct journal_record rec, older;
    write_make(false);
    memcpy(&older, write_buf + sealed.table_at, sizeof(older));
    sealed.seq++; /* the same records, one write later */
    uint32_t used = older.at_bytes + older.len_bytes;
    journal_write_seal(write_buf, used, &sealed);
    memcpy(write_buf + older.at_bytes, &older, sizeof(older));
    memcpy(write_buf + sealed.table_at, &older, sizeof(older));
    struct journal_expect later = expected;
    later.seq++;
    cr_assert_eq(journal_write_open(write_buf, sizeof(write_buf), &later, &h), 0);
    journal_records_begin(&it, write_buf, &h);
    cr_assert(!journal_record_next(&it, &rec));
    cr_assert_eq(it.damaged_n, 1);
}
