/* One damaged sector anywhere in a small data directory: what comes back is exactly what was
 * written, or named as lost and had bytes in that sector. Every step-th sector of each file, all of
 * them with PENSTOCK_DAMAGE=all. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "tests/unit/core/log/damage_rig.h"

static struct rig rig;

/* Most of a journal's ring was never written: nothing to see in each of its sectors. */
static bool is_blank(const struct rig_file *f, uint64_t sector)
{
    uint64_t from = sector * RIG_SECTOR_BYTES, to = MIN(from + RIG_SECTOR_BYTES, f->len_bytes);
    for (uint64_t i = from; i < to; i++)
        if (f->bytes[i] != 0)
            return false;
    return true;
}

static void sweep(bool clean, unsigned step)
{
    const char *wish = getenv("PENSTOCK_DAMAGE"), *why;
    bool all = wish != NULL && wish[0] == 'a';
    unsigned turn = 0, failures = 0, blank = 0;
    rig_make(&rig, clean);
    cr_assert_gt(rig.runs_n, 2);
    cr_assert_gt(rig.indexes_n, 2);
    for (unsigned file = 0; file < rig.files_n; file++) {
        const struct rig_file *f = &rig.files[file];
        uint64_t sectors = (f->len_bytes + RIG_SECTOR_BYTES - 1) / RIG_SECTOR_BYTES;
        for (uint64_t sector = 0; sector < sectors && failures < 20; sector++) {
            if (is_blank(f, sector) && blank++ % 64 != 0)
                continue;
            for (unsigned kind = 0; kind < DAMAGE_KINDS; kind++) {
                if (!all && turn++ % step != 0)
                    continue;
                bool ok = rig_try(&rig, file, sector, kind, &why);
                failures += !ok;
                cr_expect(ok, "%s sector %llu kind %u: %s", f->path, (unsigned long long)sector,
                          kind, why);
            }
        }
    }
    cr_log_info("positions %llu: exact %llu, losses named %llu (%llu batches)",
                (unsigned long long)rig.positions, (unsigned long long)rig.exact,
                (unsigned long long)rig.with_loss, (unsigned long long)rig.lost_batches);
    cr_assert_gt(rig.exact, 0);
    cr_assert_gt(rig.with_loss, 0);
    rig_free(&rig);
}

Test(damage, one_sector_after_a_power_cut, .timeout = 3000)
{
    sweep(false, 41);
}

Test(damage, one_sector_after_a_clean_stop, .timeout = 3000)
{
    sweep(true, 41);
}
