/* journal_fill.c: writes a new journal's ring with zeros while there is nothing else to write.
 * The ring's space is reserved when the file is made, and reads as zeros from then on: what is
 * written here changes nothing but the price. The first write to a place that was only reserved
 * costs the file system a commit of its own, and each place is written again and again.
 * Happy path: journal_fill_pump(), once a turn, has the next piece ahead of the journal's head
 *   written, one at a time, until the end of the ring or of its first lap. A clean stop notes that
 *   in the superblocks; else the next start goes on from the head.
 * Failure: what cannot be written is left to the journal itself to find out.
 * Relies on: nothing that counts lies ahead of the head in the first lap; no journal write begins
 *   where a piece is in flight (journal_fill_in_the_way). */
#include "core/log/internal.h"

#include "core/base/logger.h"

#define FILL_BYTES (512u * 1024u)

static uint8_t zeros[FILL_BYTES] __attribute__((aligned(BLOCK_BYTES)));

bool journal_fill_in_the_way(const struct journal *j, uint64_t virtual_pos)
{
    uint64_t place = virtual_pos % j->ring_bytes;
    const struct journal_fill *f = &j->fill;
    return f->op.busy && place < f->to_pos && f->from_pos < place + JOURNAL_WRITE_BYTES_MAX;
}

bool journal_fill_busy(const struct log_store *s)
{
    return s->journal.fill.op.busy;
}

static void on_filled(struct env_op *op)
{
    struct journal_fill *f = container_of(op, struct journal_fill, op);
    const struct journal *j = container_of(f, struct journal, fill);
    if (op->res >= 0)
        return;
    f->failed = true;
    log_warn("journal %u: writing its unused space failed: %s", j->id, strerror(-op->res));
}

void journal_fill_pump(struct log_store *s)
{
    struct journal *j = &s->journal;
    struct journal_fill *f = &j->fill;
    bool others = j->groups_n > 0 || !list_empty(&s->dirty);
    if (j->filled || f->failed || f->op.busy || others || s->unsettled || s->closing ||
        s->failed != 0)
        return;
    f->from_pos = MAX(f->to_pos, j->head_pos);
    f->to_pos = MIN(f->from_pos + FILL_BYTES, j->ring_bytes);
    if (f->from_pos >= j->ring_bytes)
        j->filled = true;
    else
        env_write(s->env, &f->op, j->file, zeros, f->to_pos - f->from_pos,
                  JOURNAL_RING_START + f->from_pos, 0, on_filled);
}
