/* journal_fill.c: writes a new journal's ring with zeros, at leisure, behind the start.
 * The ring's space is reserved when the file is made, and reads as zeros from then on: what is
 * written here changes nothing but the price. The first write to a place that was only reserved
 * costs the file system a commit of its own, and each place is written again and again.
 * Happy path: journal_fill_pump(), once a turn, has the next blank piece written when it is time,
 *   more slowly beside other writes -> a flush -> filled -> both superblocks say so, and the
 *   next start does not begin again.
 * Failure: what cannot be written is left to the journal to find out; filled stays false.
 * Relies on: nothing that counts lies in the ring when the store has been opened; no journal
 *   write begins where a piece is in flight (journal_fill_in_the_way); one goes where the one
 *   before it ends or to the start of the ring, so it writes a blank span from its start on. */
#include "core/log/internal.h"

#include "core/base/logger.h"

#define FILL_BYTES (512u * 1024u)
#define FILL_PAUSE_NS 4000000ull       /* from the start of one piece to that of the next ... */
#define FILL_PAUSE_BUSY_NS 20000000ull /* ... and beside other writes */

static uint8_t zeros[FILL_BYTES] __attribute__((aligned(BLOCK_BYTES)));

/* If it is not filled, the whole ring is blank for all we know: from the head to its end, then what
 * is before. */
void journal_fill_begin(struct journal *j)
{
    uint64_t head = j->head_pos % j->ring_bytes;
    j->fill.state = j->filled ? FILL_ENDED : FILL_WRITES;
    j->fill.blank[0] = (struct span){head, j->ring_bytes};
    j->fill.blank[1] = (struct span){0, head};
}

bool journal_fill_in_the_way(const struct journal *j, uint64_t virtual_pos)
{
    uint64_t place = virtual_pos % j->ring_bytes;
    const struct journal_fill *f = &j->fill;
    return f->op.busy && place < f->piece.to && f->piece.from < place + JOURNAL_WRITE_BYTES_MAX;
}

bool journal_fill_busy(const struct log_store *s)
{
    return s->journal.fill.op.busy;
}

/* A place is being written, by the journal or here. */
static void fill_written(struct journal_fill *f, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < ARRAY_LEN(f->blank); i++) {
        struct span *blank = &f->blank[i];
        if (from <= blank->from && to > blank->from)
            blank->from = MIN(to, blank->to);
    }
}

void journal_fill_written(struct journal *j, uint64_t virtual_pos, uint64_t len_bytes)
{
    uint64_t place = virtual_pos % j->ring_bytes;
    fill_written(&j->fill, place, place + len_bytes);
}

static void on_done(struct env_op *op)
{
    struct journal_fill *f = container_of(op, struct journal_fill, op);
    struct journal *j = container_of(f, struct journal, fill);
    if (op->res < 0) {
        f->state = FILL_ENDED;
        log_warn("journal %u: writing its unused space failed: %s", j->id, strerror(-op->res));
        return;
    }
    if (f->state == FILL_FLUSHES)
        j->filled = true;
    if (f->state == FILL_WRITES)
        fill_written(f, f->piece.from, f->piece.to);
    else
        f->state++;
}

static const struct span *blank_span(const struct journal_fill *f)
{
    for (unsigned i = 0; i < ARRAY_LEN(f->blank); i++)
        if (f->blank[i].from < f->blank[i].to)
            return &f->blank[i];
    return NULL;
}

static void piece_write(struct log_store *s, const struct span *blank)
{
    struct journal *j = &s->journal;
    struct journal_fill *f = &j->fill;
    bool others = j->groups_n > 0 || !list_empty(&s->dirty);
    f->next_ns = env_now_ns(s->env) + (others ? FILL_PAUSE_BUSY_NS : FILL_PAUSE_NS);
    f->piece = (struct span){blank->from, MIN(blank->from + FILL_BYTES, blank->to)};
    env_write(s->env, &f->op, j->file, zeros, f->piece.to - f->piece.from,
              JOURNAL_RING_START + f->piece.from, 0, on_done);
}

static void super_write(struct log_store *s)
{
    struct journal *j = &s->journal;
    struct journal_fill *f = &j->fill;
    journal_super_fill(j, f->super);
    env_write(s->env, &f->op, j->file, f->super, BLOCK_BYTES,
              f->state == FILL_NOTES_FIRST ? 0 : BLOCK_BYTES, ENV_DSYNC, on_done);
}

/* Those that have been counted as written. */
static bool writes_ended(const struct journal *j)
{
    return j->groups_n == 0 || j->groups[j->first_group].seq >= j->fill.behind_seq;
}

/* A stop does not wait for what is left. */
static bool may_go_on(const struct log_store *s)
{
    const struct journal_fill *f = &s->journal.fill;
    return f->state != FILL_ENDED && !f->op.busy && !s->unsettled && !s->stopping && !s->closing &&
           s->failed == 0;
}

uint64_t journal_fill_deadline_ns(const struct log_store *s)
{
    const struct journal_fill *f = &s->journal.fill;
    if (!may_go_on(s) || (f->state == FILL_FLUSHES && !writes_ended(&s->journal)))
        return UINT64_MAX;
    return f->state == FILL_WRITES ? f->next_ns : 0;
}

void journal_fill_pump(struct log_store *s)
{
    struct journal *j = &s->journal;
    struct journal_fill *f = &j->fill;
    if (!may_go_on(s))
        return;
    const struct span *blank = blank_span(f);
    if (f->state == FILL_WRITES && blank != NULL) {
        if (env_now_ns(s->env) >= f->next_ns)
            piece_write(s, blank);
        return;
    }
    if (f->state == FILL_WRITES) {
        f->state = FILL_FLUSHES;
        f->behind_seq = j->next_seq;
    }
    if (f->state == FILL_FLUSHES && writes_ended(j))
        env_flush(s->env, &f->op, j->file, on_done);
    else if (f->state > FILL_FLUSHES)
        super_write(s);
}
