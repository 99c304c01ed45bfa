/* Journals and checkpoints read without a broker: what a store on the modelled device has written
 * is found again, and with either copy damaged as well. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/log/inspect.h"
#include "tests/lib/core_log_fixture.h"

#define PARTITIONS 3

static struct log_fixture f;
static struct inspect_memory m;
static uint8_t *file;

static void setup(void)
{
    logger_level = LOG_OFF;
    fixture_init(&f, 3, PARTITIONS, 32u << 20, 1u << 20);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    for (int32_t i = 0; i < 12; i++) {
        cr_assert_eq(fixture_append(&f, i % PARTITIONS, 300, 1 + i % 4), 0);
        fixture_settle(&f);
    }
}

static void teardown(void)
{
    free(file);
    fixture_fini(&f);
}

static void file_take(const char *path)
{
    int64_t size = mem_world_file_size(f.world, path);
    cr_assert(size > 0, "%s", path);
    free(file);
    file = malloc((size_t)size);
    cr_assert(file != NULL);
    cr_assert_eq(mem_world_read_file(f.world, path, file, (uint64_t)size, 0), size);
    inspect_memory_init(&m, file, (uint64_t)size);
}

/* All records in the journal, each partition's offsets one after the other. */
static void expect_journal(void)
{
    struct inspect_journal j;
    int64_t next[PARTITIONS] = {0};
    cr_assert_eq(inspect_journal_open(&m.bytes, &j), 0);
    for (unsigned i = 0; i < j.writes_n; i++) {
        const uint8_t *write = inspect_write_bytes(&j, &j.writes[i]);
        struct journal_record_iter it;
        struct journal_record rec;
        cr_assert_eq(j.writes[i].chained, i > 0);
        cr_assert_eq(j.writes[i].h.seq, i + 1);
        journal_records_begin(&it, write, &j.writes[i].h);
        while (journal_record_next(&it, &rec)) {
            cr_assert(rec.number >= 100 && rec.number < 100 + PARTITIONS);
            cr_assert(journal_record_intact(write, &rec));
            cr_assert_eq(rec.base_offset, next[rec.number - 100]);
            next[rec.number - 100] = rec.end_offset;
        }
        cr_assert_eq(it.damaged_n, 0);
    }
    for (int32_t p = 0; p < PARTITIONS; p++)
        cr_assert_eq(next[p], plog_end_offset(fixture_plog(&f, p)));
    inspect_journal_close(&j);
}

Test(inspect_files, a_journal_and_either_copy_of_its_headers, .init = setup, .fini = teardown)
{
    struct inspect_journal j;
    struct inspect_write writes[16];
    file_take("/data/journal.0");
    expect_journal();
    cr_assert_eq(inspect_journal_open(&m.bytes, &j), 0);
    unsigned n = j.writes_n;
    cr_assert(n >= 12 && n <= 16);
    memcpy(writes, j.writes, n * sizeof(*writes));
    inspect_journal_close(&j);
    for (unsigned i = 0; i < n; i++)
        for (unsigned last = 0; last < 2; last++) {
            uint64_t at = writes[i].place + (last ? writes[i].h.len_bytes - 9 : 20);
            file[at] ^= 1;
            expect_journal();
            cr_assert_eq(inspect_journal_open(&m.bytes, &j), 0);
            cr_assert(j.writes[i].first_ok == last && j.writes[i].last_ok == !last);
            inspect_journal_close(&j);
            file[at] ^= 1;
        }
}

Test(inspect_files, superblocks, .init = setup, .fini = teardown)
{
    struct inspect_journal j;
    file_take("/data/journal.0");
    file[8] ^= 1;
    expect_journal();
    file[BLOCK_BYTES + 8] ^= 1;
    cr_assert_eq(inspect_journal_open(&m.bytes, &j), -EBADMSG);
    cr_assert(!j.super_ok[0] && !j.super_ok[1] && j.writes_n == 0);
    file[8] ^= 1;
    m.bytes.size_bytes -= BLOCK_BYTES; /* shorter than the superblock says */
    cr_assert_eq(inspect_journal_open(&m.bytes, &j), -EBADMSG);
    cr_assert(j.super_ok[0] && !j.super_ok[1]);
}

/* The newest of the two files, as a clean stop leaves it. */
static void checkpoint_take(struct inspect_checkpoint *ret)
{
    char path[64];
    uint64_t newest = 0;
    for (unsigned turn = 0; turn < 2; turn++)
        for (unsigned i = 0; i < 2; i++) {
            snprintf(path, sizeof(path), "/data/journal.0.checkpoint.%u", i);
            if (!mem_world_exists(f.world, path))
                continue;
            file_take(path);
            cr_assert_eq(inspect_checkpoint_open(&m.bytes, ret), 0);
            newest = MAX(newest, ret->h.generation);
            if (turn == 1 && ret->h.generation == newest)
                return;
        }
    cr_assert_fail("there is no checkpoint");
}

static void expect_checkpoint(struct inspect_checkpoint *c, const int64_t ends[PARTITIONS])
{
    struct inspect_entry e;
    unsigned plogs = 0, segments = 0;
    uint64_t number = 0;
    for (inspect_checkpoint_next(c, &e); e.kind < INSPECT_ENTRY_END;
         inspect_checkpoint_next(c, &e)) {
        if (e.kind == INSPECT_ENTRY_PLOG) {
            plogs++;
            number = e.plog.number;
            cr_assert_eq(e.plog.stable_offset, ends[number - 100]);
        } else if (e.kind == INSPECT_ENTRY_SEGMENT) {
            segments++;
            cr_assert_eq(e.segment.end_offset, ends[number - 100]);
            cr_assert(e.segment.image_bytes > 0 && e.image != NULL);
        }
    }
    cr_assert_eq(e.kind, INSPECT_ENTRY_END);
    cr_assert(plogs == PARTITIONS && segments == PARTITIONS);
}

Test(inspect_files, a_checkpoint_and_either_copy, .init = setup, .fini = teardown)
{
    struct inspect_checkpoint c;
    int64_t ends[PARTITIONS];
    for (int32_t p = 0; p < PARTITIONS; p++)
        ends[p] = plog_end_offset(fixture_plog(&f, p));
    cr_assert_eq(fixture_close(&f), 0);
    checkpoint_take(&c);
    cr_assert(c.copy_ok[0] && c.copy_ok[1] && c.h.closed == 1);
    expect_checkpoint(&c, ends);
    uint64_t half = checkpoint_copy_at(m.bytes.size_bytes);
    for (unsigned i = 0; i < 2; i++) {
        file[i * half + 100] ^= 1;
        cr_assert_eq(inspect_checkpoint_open(&m.bytes, &c), 0);
        cr_assert(c.copy_ok[i] == false && c.copy_ok[!i] == true);
        expect_checkpoint(&c, ends);
        file[i * half + 100] ^= 1;
    }
    file[100] ^= 1;
    file[half + 100] ^= 1;
    cr_assert_eq(inspect_checkpoint_open(&m.bytes, &c), -EBADMSG);
}
