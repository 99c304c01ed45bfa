/* damage.c: what is known to be lost: for each segment the stretches of bytes that hold no batch
 * any more, and the offsets that were in them. Found by recovery (in the journal) and by the walk
 * of load.c (in the file); named in the log once, then passed over by reads and look-ups. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"

void plog_name_loss(const struct plog *p, int64_t from_offset, int64_t to_offset, const char *where)
{
    counter_add(&p->store->counters.damaged_stretches, 1);
    counter_add(&p->store->counters.lost_offsets, (uint64_t)(to_offset - from_offset));
    log_error("%s: offsets %lld to %lld are lost: %s", p->name, (long long)from_offset,
              (long long)to_offset - 1, where);
}

/* The stretch that pos lies in; NULL: none that is known. */
const struct damage *seg_damage_at(const struct segment *seg, uint64_t pos)
{
    for (uint32_t i = 0; i < seg->damages_n; i++)
        if (pos >= seg->damages[i].from_pos && pos < seg->damages[i].to_pos)
            return &seg->damages[i];
    return NULL;
}

static int damage_insert(struct segment *seg, const struct damage *d)
{
    struct damage *more = realloc(seg->damages, (seg->damages_n + 1) * sizeof(*more));
    if (more == NULL)
        return -ENOMEM;
    seg->damages = more;
    uint32_t at = seg->damages_n++;
    for (; at > 0 && more[at - 1].from_pos > d->from_pos; at--)
        more[at] = more[at - 1];
    more[at] = *d;
    return 0;
}

static bool damage_known(const struct segment *seg, const struct damage *d)
{
    for (uint32_t i = 0; i < seg->damages_n; i++)
        if (seg->damages[i].from_pos == d->from_pos && seg->damages[i].to_pos == d->to_pos)
            return true;
    return false;
}

/* Notes a stretch, in any order, and names it unless it is known. */
int seg_damage_add(struct segment *seg, const struct damage *d, const char *where)
{
    if (damage_known(seg, d))
        return 0;
    int rc = damage_insert(seg, d);
    if (rc == 0)
        plog_name_loss(seg->plog, d->from_offset, d->to_offset, where);
    return rc;
}

static void name_found(const struct segment *seg, const struct damage *d)
{
    char path[PATH_MAX], where[PATH_MAX + 128];
    snprintf(where, sizeof(where), "damaged bytes %llu to %llu of %s",
             (unsigned long long)d->from_pos, (unsigned long long)d->to_pos - 1,
             segment_path(seg, ".log", path, sizeof(path)));
    plog_name_loss(seg->plog, d->from_offset, d->to_offset, where);
}

/* All that there is below walked_pos; takes found. What was not known before is named. */
void seg_damage_replace(struct segment *seg, struct damage *found, uint32_t found_n,
                        uint64_t walked_pos)
{
    for (uint32_t i = 0; i < found_n; i++)
        if (!damage_known(seg, &found[i]))
            name_found(seg, &found[i]);
    struct damage *old = seg->damages;
    uint32_t old_n = seg->damages_n;
    seg->damages = found;
    seg->damages_n = found_n;
    for (uint32_t i = 0; i < old_n; i++)
        if (old[i].from_pos >= walked_pos)
            damage_insert(seg, &old[i]);
    free(old);
}
