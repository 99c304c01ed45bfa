/* One damaged sector anywhere in a small data directory: what comes back is exactly what was
 * written, or named as lost and had bytes in that sector. A sample of the sectors, each in one of
 * five ways; PENSTOCK_DAMAGE=1: every one in every way, =N: each Nth of these. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/log/journal_format.h"
#include "tests/unit/core/log/damage_rig.h"

static struct rig rig;
static unsigned failures;

/* Most of a journal's ring was never written: nothing to see in each of its sectors. */
static bool is_blank(const struct rig_file *f, uint64_t sector)
{
    uint64_t from = sector * RIG_SECTOR_BYTES, to = MIN(from + RIG_SECTOR_BYTES, f->len_bytes);
    for (uint64_t i = from; i < to; i++)
        if (f->bytes[i] != 0)
            return false;
    return true;
}

static void try_one(unsigned file, uint64_t sector, enum damage_kind kind)
{
    const char *why;
    bool ok = rig_try(&rig, file, sector, kind, &why);
    failures += !ok;
    cr_expect(ok, "%s sector %llu kind %u: %s", rig.files[file].path, (unsigned long long)sector,
              kind, why);
}

static unsigned wished(unsigned step)
{
    const char *wish = getenv("PENSTOCK_DAMAGE");
    return wish == NULL ? step : (unsigned)MAX(atoi(wish), 1);
}

static uint64_t sectors_of(unsigned file)
{
    return (rig.files[file].len_bytes + RIG_SECTOR_BYTES - 1) / RIG_SECTOR_BYTES;
}

/* Of the small files, which a sample would hardly meet, more. */
static unsigned step_in(unsigned file, unsigned step)
{
    const char *path = rig.files[file].path;
    bool large = strcmp(path, "/data/journal.0") == 0 || strcmp(strrchr(path, '.'), ".log") == 0;
    return MAX(wished(step) / (large ? 1 : 53), 1u);
}

static void sum_up(void)
{
    cr_log_info("positions %llu: exact %llu, losses named %llu (%llu batches)",
                (unsigned long long)rig.positions, (unsigned long long)rig.exact,
                (unsigned long long)rig.with_loss, (unsigned long long)rig.lost_batches);
    cr_assert_gt(rig.exact, 0);
    cr_assert_gt(rig.with_loss, 0);
    rig_free(&rig);
}

static void sweep(enum rig_end end, unsigned step)
{
    unsigned turn = 0, blank = 0;
    rig_make(&rig, end);
    cr_assert_gt(rig.runs_n, 2);
    cr_assert_gt(rig.indexes_n, 2);
    cr_assert_gt(rig.laps, 0);
    for (unsigned file = 0; file < rig.files_n; file++)
        for (uint64_t sector = 0; sector < sectors_of(file) && failures < 20; sector++) {
            if (is_blank(&rig.files[file], sector) && blank++ % 64 != 0)
                continue;
            for (unsigned kind = 0; kind < DAMAGE_SECTOR_KINDS; kind++)
                if (turn++ % step_in(file, step) == 0)
                    try_one(file, sector, kind);
        }
    sum_up();
}

Test(damage, one_sector_after_a_clean_stop, .timeout = 3000)
{
    sweep(RIG_CLEAN_STOP, 211);
}

Test(damage, one_sector_after_a_power_cut, .timeout = 3000)
{
    sweep(RIG_CUT_AT_REST, 211);
}

Test(damage, one_sector_after_a_power_cut_at_work, .timeout = 3000)
{
    sweep(RIG_CUT_AT_WORK, 211);
}

/* Index files are in Kafka's format, which has no checksum. */
Test(damage, single_bits_of_index_files, .timeout = 3000)
{
    rig_make(&rig, RIG_CLEAN_STOP);
    for (unsigned file = 0; file < rig.files_n && failures < 20; file++)
        for (unsigned i = 0; i < 1600 / wished(200); i++) {
            if (strstr(rig.files[file].path, "index") == NULL || rig.files[file].len_bytes == 0)
                continue;
            try_one(file, 0, DAMAGE_BIT);
            cr_expect(rig_log_has(&rig, "index files"), "%s: not noticed", rig.files[file].path);
        }
    cr_assert_eq(rig.with_loss, 0);
    cr_assert_gt(rig.exact, 0);
    rig_free(&rig);
}

/* A journal write of one block that cannot be read has lost both copies of what it says of itself:
 * its ring is left out. */
Test(damage, one_unreadable_block, .timeout = 3000)
{
    unsigned turn = 0, blocks = BLOCK_BYTES / RIG_SECTOR_BYTES;
    rig_make(&rig, RIG_CUT_AT_REST);
    for (unsigned file = 0; file < rig.files_n; file++) {
        uint64_t sectors = sectors_of(file);
        if (strcmp(rig.files[file].path, "/data/journal.0") == 0)
            sectors = JOURNAL_RING_START / RIG_SECTOR_BYTES;
        for (uint64_t sector = 0; sector < sectors && failures < 20; sector += blocks)
            if (turn++ % MIN(wished(3), 3u) == 0)
                try_one(file, sector, DAMAGE_UNREADABLE);
    }
    sum_up();
}
