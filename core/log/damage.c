/* damage.c: what is known to be lost: for each segment the stretches of bytes that hold no batch
 * any more, and the offsets that were in them. Found by recovery (in the journal) and by the walk
 * of load.c (in the file); named in the log once, then passed over by reads and look-ups. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/logger.h"

void plog_name_loss(const struct plog *p, int64_t from_offset, int64_t to_offset, const char *where)
{
    p->store->counters.damaged_stretches++;
    p->store->counters.lost_offsets += (uint64_t)(to_offset - from_offset);
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
    struct damage *more = realloc(seg->damages, (seg->damages_n + 1) * sizeof(*more));
    if (more == NULL)
        return -ENOMEM;
    seg->damages = more;
    uint32_t at = seg->damages_n++;
    for (; at > 0 && more[at - 1].from_pos > d->from_pos; at--)
        more[at] = more[at - 1];
    more[at] = *d;
    plog_name_loss(seg->plog, d->from_offset, d->to_offset, where);
    return 0;
}
