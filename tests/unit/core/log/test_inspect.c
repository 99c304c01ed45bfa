/* What is read of a segment and its indexes without a broker: every byte of a small segment damaged
 * in turn, ends of all kinds, batches inside records. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/batch/builder.h"
#include "core/log/inspect.h"

#define BATCHES 24u
#define BASE 1000

static uint8_t *log_bytes;
static uint64_t log_len, starts[BATCHES + 1];
static int64_t firsts[BATCHES + 1];

static void append(const void *data, size_t len)
{
    log_bytes = realloc(log_bytes, log_len + len);
    cr_assert(log_bytes != NULL);
    memcpy(log_bytes + log_len, data, len);
    log_len += len;
}

static void append_batch(int64_t base_offset, int32_t records, const void *value, size_t len)
{
    struct batch_builder b;
    uint8_t *data;
    size_t data_len;
    batch_builder_init(&b, BATCH_NONE);
    b.base_offset = base_offset;
    b.leader_epoch = 3;
    for (int32_t i = 0; i < records; i++)
        cr_assert_eq(
            batch_builder_add(&b, 5000 + base_offset + i, NULL, -1, value, (int32_t)len, NULL, 0),
            0);
    cr_assert_eq(batch_builder_finish(&b, &data, &data_len), 0);
    append(data, data_len);
    batch_builder_fini(&b);
}

/* Batches of 1 to 3 records; every fourth holds two whole batches with offsets of this segment as
 * a value. */
static void make_segment(void)
{
    static const char text[] = "some bytes that are as good as any others, and then some more";
    int64_t offset = BASE;
    uint8_t *inner = NULL;
    size_t inner_len = 0;
    for (unsigned i = 0; i < BATCHES; i++) {
        starts[i] = log_len;
        firsts[i] = offset;
        if (i % 4 == 3)
            append_batch(offset, 1, inner, inner_len);
        else
            append_batch(offset, 1 + (int32_t)(i % 3), text, sizeof(text) - 7 * (i % 4));
        if (i % 4 == 1) {
            free(inner);
            inner_len = log_len - starts[i - 1];
            inner = malloc(inner_len);
            cr_assert(inner != NULL);
            memcpy(inner, log_bytes + starts[i - 1], inner_len);
            be_store64(inner, (uint64_t)offset + 20); /* can come later in this segment */
            be_store64(inner + (starts[i] - starts[i - 1]), (uint64_t)offset + 21);
        }
        offset += i % 4 == 3 ? 1 : 1 + (int64_t)(i % 3);
    }
    starts[BATCHES] = log_len;
    firsts[BATCHES] = offset;
    free(inner);
}

static void fini(void)
{
    free(log_bytes);
}

static void walk_begin(struct inspect_walk *w, struct inspect_memory *m, bool end_known)
{
    inspect_memory_init(m, log_bytes, log_len);
    inspect_walk_init(w, &m->bytes, BASE, end_known ? firsts[BATCHES] : INT64_MAX);
    if (end_known)
        inspect_walk_end(w, log_len);
}

static unsigned batch_of(uint64_t pos)
{
    unsigned i = 0;
    while (starts[i + 1] <= pos)
        i++;
    return i;
}

/* All batches but `bad` come as they are; it comes as damage, or not at all when BATCHES. */
static void expect_all_but(struct inspect_walk *w, unsigned bad, uint64_t at)
{
    struct inspect_piece piece;
    for (unsigned i = 0; i < BATCHES; i++) {
        inspect_walk_next(w, &piece);
        cr_assert_eq(piece.kind, i == bad ? INSPECT_DAMAGE : INSPECT_BATCH, "byte %llu, batch %u",
                     (unsigned long long)at, i);
        cr_assert_eq(piece.pos, starts[i], "byte %llu, batch %u", (unsigned long long)at, i);
        cr_assert_eq(piece.len_bytes, starts[i + 1] - starts[i]);
        cr_assert_eq(piece.first_offset, firsts[i]);
        cr_assert_eq(piece.end_offset, firsts[i + 1], "byte %llu: batch %u ends with %lld",
                     (unsigned long long)at, i, (long long)piece.end_offset);
    }
    inspect_walk_next(w, &piece);
    cr_assert_eq(piece.kind, INSPECT_END);
}

Test(inspect, a_whole_segment, .init = make_segment, .fini = fini)
{
    struct inspect_memory m;
    struct inspect_walk w;
    walk_begin(&w, &m, true);
    expect_all_but(&w, BATCHES, 0);
    walk_begin(&w, &m, false);
    expect_all_but(&w, BATCHES, 0);
}

/* The 4 bytes of the leader epoch are outside the CRC, and for the caller to hold against what it
 * knows. */
static void damage_each_byte(const uint8_t *index, size_t index_len)
{
    struct inspect_memory m;
    struct inspect_walk w;
    for (uint64_t at = 0; at < log_len; at++) {
        unsigned bad = batch_of(at);
        if (at - starts[bad] >= 12 && at - starts[bad] < 16)
            continue;
        log_bytes[at] ^= 0xff;
        walk_begin(&w, &m, true);
        w.index = index;
        w.index_len = index_len;
        expect_all_but(&w, bad, at);
        log_bytes[at] ^= 0xff;
    }
}

Test(inspect, each_byte_damaged_is_one_batch, .init = make_segment, .fini = fini)
{
    damage_each_byte(NULL, 0);
}

Test(inspect, each_byte_damaged_with_an_index, .init = make_segment, .fini = fini)
{
    struct inspect_memory m;
    struct inspect_walk w;
    uint8_t *offsets, *times;
    size_t offsets_len, times_len;
    walk_begin(&w, &m, true);
    cr_assert_eq(inspect_index_build(&w, 400, &offsets, &offsets_len, &times, &times_len), 0);
    cr_assert(offsets_len >= 4 * INSPECT_OFFSET_ENTRY_BYTES);
    damage_each_byte(offsets, offsets_len);
    free(offsets);
    free(times);
}

Test(inspect, two_batches_damaged, .init = make_segment, .fini = fini)
{
    struct inspect_memory m;
    struct inspect_walk w;
    struct inspect_piece piece;
    memset(log_bytes + starts[5], 0, starts[7] - starts[5]);
    walk_begin(&w, &m, true);
    for (unsigned i = 0; i < 5; i++)
        inspect_walk_next(&w, &piece);
    inspect_walk_next(&w, &piece);
    cr_assert_eq(piece.kind, INSPECT_DAMAGE);
    cr_assert_eq(piece.first_offset, firsts[5]);
    cr_assert_eq(piece.end_offset, firsts[7]);
    cr_assert_eq(piece.len_bytes, starts[7] - starts[5]);
    inspect_walk_next(&w, &piece);
    cr_assert_eq(piece.kind, INSPECT_BATCH);
    cr_assert_eq(piece.first_offset, firsts[7]);
}

Test(inspect, a_batch_is_missing, .init = make_segment, .fini = fini)
{
    struct inspect_memory m;
    struct inspect_walk w;
    struct inspect_piece piece;
    uint64_t cut = starts[6] - starts[5];
    memmove(log_bytes + starts[5], log_bytes + starts[6], log_len - starts[6]);
    log_len -= cut;
    walk_begin(&w, &m, true);
    for (unsigned i = 0; i < 6; i++)
        inspect_walk_next(&w, &piece);
    cr_assert_eq(piece.kind, INSPECT_DAMAGE);
    cr_assert_eq(piece.len_bytes, 0);
    cr_assert_eq(piece.first_offset, firsts[5]);
    cr_assert_eq(piece.end_offset, firsts[6]);
}

Test(inspect, cut_off_anywhere, .init = make_segment, .fini = fini)
{
    struct inspect_walk w;
    struct inspect_piece piece;
    for (uint64_t len = 0; len < log_len; len++) {
        struct inspect_memory m;
        unsigned whole = 0;
        inspect_memory_init(&m, log_bytes, len);
        inspect_walk_init(&w, &m.bytes, BASE, firsts[BATCHES]);
        inspect_walk_end(&w, len);
        for (inspect_walk_next(&w, &piece); piece.kind == INSPECT_BATCH;
             inspect_walk_next(&w, &piece))
            whole++;
        cr_assert_eq(whole, batch_of(len), "cut at %llu", (unsigned long long)len);
        cr_assert_eq(piece.kind, INSPECT_DAMAGE);
        cr_assert_eq(piece.first_offset, firsts[whole]);
        cr_assert_eq(piece.end_offset, firsts[BATCHES]);
        inspect_walk_next(&w, &piece);
        cr_assert_eq(piece.kind, INSPECT_END);
    }
}

/* Behind the last batch of a stopped log: the terminator, then whatever the file held before. */
Test(inspect, ends_that_are_not_known, .init = make_segment, .fini = fini)
{
    struct inspect_memory m;
    struct inspect_walk w;
    struct inspect_piece piece;
    uint8_t terminator[17] = {[8] = 0x7f, 0xff, 0xff, 0xff};
    uint64_t end = log_len, first = starts[1];
    uint8_t stale[4096]; /* offsets of the past */
    cr_assert_leq(first, sizeof(stale));
    memcpy(stale, log_bytes, first);
    for (unsigned with = 0; with < 2; with++) {
        log_len = end;
        if (with)
            append(terminator, sizeof(terminator));
        append(stale, first);
        append_batch(9000, 1, "x", 1);
        walk_begin(&w, &m, false);
        do
            inspect_walk_next(&w, &piece);
        while (piece.kind == INSPECT_BATCH);
        cr_assert_eq(piece.kind, INSPECT_END);
        cr_assert_eq(piece.pos, end);
        cr_assert_str_eq(piece.what, with ? "terminator" : "no batch that follows");
    }
}

static void check_index(const uint8_t *offsets, size_t offsets_len, const uint8_t *times,
                        size_t times_len, struct inspect_index *ix)
{
    struct inspect_memory m;
    struct inspect_walk w;
    struct inspect_piece piece;
    walk_begin(&w, &m, true);
    inspect_index_init(ix, BASE, offsets, offsets_len, times, times_len);
    for (inspect_walk_next(&w, &piece); piece.kind != INSPECT_END; inspect_walk_next(&w, &piece))
        if (piece.kind == INSPECT_BATCH)
            inspect_index_batch(ix, piece.pos, &piece.h);
        else
            inspect_index_damage(ix, &piece);
    inspect_index_end(ix);
}

Test(inspect, index_entries, .init = make_segment, .fini = fini)
{
    struct inspect_memory m;
    struct inspect_walk w;
    struct inspect_index ix;
    uint8_t *offsets, *times;
    size_t offsets_len, times_len;
    walk_begin(&w, &m, true);
    cr_assert_eq(inspect_index_build(&w, 400, &offsets, &offsets_len, &times, &times_len), 0);
    check_index(offsets, offsets_len, times, times_len, &ix);
    cr_assert(ix.offsets_what == NULL && ix.times_what == NULL);
    struct inspect_offset_entry e = inspect_offset_entry(offsets, BASE);
    cr_assert_eq(e.offset, firsts[batch_of(e.pos) + 1] - 1);
    for (size_t at = 0; at < offsets_len; at++) {
        offsets[at] ^= 0x40;
        check_index(offsets, offsets_len, times, times_len, &ix);
        cr_assert(ix.offsets_what != NULL && ix.times_what == NULL);
        cr_assert_eq(ix.offsets_bad, at / INSPECT_OFFSET_ENTRY_BYTES);
        offsets[at] ^= 0x40;
    }
    for (size_t at = 0; at < times_len; at++) {
        times[at] ^= 0x40;
        check_index(offsets, offsets_len, times, times_len, &ix);
        cr_assert(ix.offsets_what == NULL && ix.times_what != NULL);
        cr_assert_eq(ix.times_bad, at / INSPECT_TIME_ENTRY_BYTES);
        times[at] ^= 0x40;
    }
    for (unsigned bad = 0; bad < BATCHES; bad++) { /* damage in the log is none in its indexes */
        log_bytes[starts[bad + 1] - 1] ^= 1;
        check_index(offsets, offsets_len, times, times_len, &ix);
        cr_assert(ix.offsets_what == NULL && ix.times_what == NULL, "batch %u", bad);
        log_bytes[starts[bad + 1] - 1] ^= 1;
    }
    check_index(offsets, offsets_len - 1, NULL, 0, &ix);
    cr_assert(ix.offsets_what != NULL && ix.times_what != NULL);
    check_index(offsets, offsets_len, times, times_len - INSPECT_TIME_ENTRY_BYTES, &ix);
    cr_assert_str_eq(ix.times_what, "the largest timestamp has no entry");
    free(offsets);
    free(times);
}
