/* recovery.c: from the newest checkpoint through the journal's chain to the state before the crash.
 *
 * The chain goes on as long as each write's header (either copy) follows its predecessor's; it ends
 * at the first write that is missing, of an older incarnation or not chained. Whether a write is
 * whole is not asked here: its records are (apply.c), one by one.
 * If a later write says that one which cannot be found had been durable, that is damage, not the
 * end: the loss is named and replay goes on behind it.
 * A write is proven durable by a later one or by the checkpoint. One that is not and does not
 * verify was torn, or has been damaged since: nobody can tell. Of it counts, for each partition,
 * what comes before the first byte that does not verify. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"
#include "core/log/replay.h"

#define WINDOW_BYTES (4u * 1024u * 1024u)
#define RESYNC_BYTES (2u * JOURNAL_WRITE_BYTES_MAX)

/* ---- reading the chain ---- */

static int window_read(struct replay *r, uint64_t place)
{
    struct journal *j = &r->s->journal;
    uint64_t len = MIN((uint64_t)WINDOW_BYTES, j->ring_bytes - place);
    int rc = around_read_wait(r->s->env, j->file, r->window, len, JOURNAL_RING_START + place);
    if (rc < 0)
        return rc;
    r->window_at = place;
    r->window_len = (uint64_t)rc;
    return 0;
}

/* What the ring holds from place on, at least len bytes of it unless it ends before. */
static uint8_t *window_at(struct replay *r, uint64_t place, uint64_t len, uint64_t *ret_avail)
{
    len = MIN(len, r->s->journal.ring_bytes - place);
    if (place < r->window_at || place + len > r->window_at + r->window_len)
        if (window_read(r, place) != 0)
            return NULL;
    if (place + len > r->window_at + r->window_len)
        return NULL;
    *ret_avail = r->window_at + r->window_len - place;
    return r->window + (place - r->window_at);
}

/* The write that begins at virtual_pos, or NULL. */
static uint8_t *write_at(struct replay *r, uint64_t virtual_pos, struct journal_expect *expect,
                         struct journal_header *ret)
{
    const struct journal *j = &r->s->journal;
    uint64_t avail, place = virtual_pos % j->ring_bytes;
    uint8_t *p = window_at(r, place, JOURNAL_WRITE_BYTES_MAX, &avail);
    expect->journal_id = j->identity;
    expect->virtual_pos = virtual_pos;
    expect->incarnation_max = j->incarnation;
    return p != NULL && journal_write_open(p, avail, expect, ret) == 0 ? p : NULL;
}

/* Does the write at virtual_pos, or one chained behind it, claim that seq had been durable? */
static bool claims_durable(struct replay *r, uint64_t virtual_pos, uint64_t seq)
{
    struct journal_header h;
    struct journal_expect expect = {0};
    for (unsigned i = 0; i <= GROUPS; i++) {
        if (write_at(r, virtual_pos, &expect, &h) == NULL)
            return false;
        if (h.durable_seq >= seq)
            return true;
        expect = (struct journal_expect){
            .chained = true, .seq = h.seq + 1, .prev_crc = h.crc, .incarnation_min = h.incarnation};
        virtual_pos = journal_ring_place(r->s->journal.ring_bytes, virtual_pos + h.len_bytes);
    }
    return false;
}

/* The write expected at virtual_pos is not there. Returns where the next one begins if it must have
 * been there once; 0: this is the end of the chain. */
static uint64_t resync(struct replay *r, uint64_t virtual_pos, uint64_t expected_seq,
                       uint64_t durable_pos)
{
    const struct journal *j = &r->s->journal;
    uint64_t limit = virtual_pos + (virtual_pos < durable_pos ? j->ring_bytes : RESYNC_BYTES);
    for (uint64_t v = virtual_pos + BLOCK_BYTES; v < limit; v += BLOCK_BYTES) {
        uint64_t place = journal_ring_place(j->ring_bytes, v);
        struct journal_header h;
        struct journal_expect expect = {0};
        if (write_at(r, place, &expect, &h) != NULL && h.seq > expected_seq &&
            claims_durable(r, place, expected_seq))
            return place;
        v = MAX(v, place - (place > v ? BLOCK_BYTES : 0));
    }
    return 0;
}

static int apply_oldest(struct replay *r)
{
    int rc = replay_apply(r, &r->held[0]);
    free(r->held[0].bytes);
    memmove(r->held, r->held + 1, (--r->held_n) * sizeof(r->held[0]));
    return rc;
}

static int hold_write(struct replay *r, const uint8_t *bytes, const struct journal_header *h)
{
    int rc = r->held_n == AHEAD ? apply_oldest(r) : 0;
    uint8_t *copy = malloc(h->len_bytes);
    if (copy == NULL || rc != 0) {
        free(copy);
        return rc != 0 ? rc : -ENOMEM;
    }
    memcpy(copy, bytes, h->len_bytes);
    r->held[r->held_n++] = (struct held_write){copy, *h};
    r->durable_seq = MAX(r->durable_seq, h->durable_seq);
    r->writes++;
    return 0;
}

static int hold_rest(struct replay *r)
{
    int rc = 0;
    while (rc == 0 && r->held_n > 0)
        rc = apply_oldest(r);
    while (r->held_n > 0)
        free(r->held[--r->held_n].bytes);
    return rc;
}

/* What was read before the gap comes before it; partitions may go on behind it. */
static int name_loss(struct replay *r, uint64_t from_seq, uint64_t to_seq)
{
    r->losses++;
    log_error("journal %u: writes %llu to %llu are damaged, what they held is lost",
              r->s->journal.id, (unsigned long long)from_seq, (unsigned long long)to_seq - 1);
    int rc = hold_rest(r);
    r->gaps = true;
    return rc;
}

/* Walks the chain from start; leaves the journal's head, sequence and checksum at its end. */
static int replay_chain(struct replay *r, const struct journal_start *start)
{
    struct journal *j = &r->s->journal;
    uint64_t v = journal_ring_place(j->ring_bytes, start->tail_pos);
    uint64_t durable_pos = journal_ring_place(j->ring_bytes, start->durable_pos);
    struct journal_expect expect = {.chained = v >= durable_pos}; /* is its predecessor known? */
    if (expect.chained) {
        expect.seq = start->durable_next_seq;
        expect.prev_crc = start->durable_crc;
    }
    for (;;) {
        struct journal_header h;
        if (v >= durable_pos) /* older ones were never taken */
            expect.incarnation_min = MAX(expect.incarnation_min, start->incarnation);
        const uint8_t *bytes = write_at(r, v, &expect, &h);
        if (bytes == NULL) {
            uint64_t next = resync(r, v, expect.seq, durable_pos);
            struct journal_expect any = {0};
            if (next == 0)
                break;
            int rc = write_at(r, next, &any, &h) == NULL ? -EIO : name_loss(r, expect.seq, h.seq);
            bytes = rc == 0 ? write_at(r, next, &any, &h) : NULL;
            if (bytes == NULL)
                return rc != 0 ? rc : -EIO;
            v = next;
        }
        int rc = hold_write(r, bytes, &h);
        if (rc != 0)
            return rc;
        expect = (struct journal_expect){
            .chained = true, .seq = h.seq + 1, .prev_crc = h.crc, .incarnation_min = h.incarnation};
        v = journal_ring_place(j->ring_bytes, v + h.len_bytes);
    }
    if (v < durable_pos) {
        log_error("journal %u: its last durable writes are damaged, what they held is lost", j->id);
        r->losses++;
        v = durable_pos;
        expect.seq = start->durable_next_seq;
        expect.prev_crc = start->durable_crc;
    }
    j->head_pos = v;
    j->next_seq = expect.seq;
    j->last_crc = expect.prev_crc;
    j->durable_seq = j->claimed_seq = j->records_seq = expect.seq - 1;
    j->claims_end = UINT64_MAX;
    return hold_rest(r);
}

/* ---- the whole ---- */

static int replay_run(struct replay *r, const struct journal_start *start)
{
    r->durable_seq = start->durable_next_seq - 1;
    r->checkpoint_seq = start->durable_next_seq;
    uint64_t window_bytes = MIN(r->s->journal.ring_bytes, (uint64_t)WINDOW_BYTES);
    if (posix_memalign((void **)&r->window, BLOCK_BYTES, window_bytes) != 0)
        return -ENOMEM;
    int rc = replay_chain(r, start);
    while (r->held_n > 0)
        free(r->held[--r->held_n].bytes);
    free(r->window);
    return rc;
}

/* Blocking. On return the journal holds nothing that counts: all is in segments or checkpoint. */
int recovery_replay(struct log_store *s, char *reason, size_t reason_size)
{
    struct journal_start start;
    struct replay r = {.s = s};
    s->recovering = true;
    bool taken_over = false, parcels = false;
    int rc = checkpoint_load(s, &start, reason, reason_size);
    if (rc == 0)
        rc = checkpoint_take_over(s, &taken_over, reason, reason_size);
    if (rc == 0)
        rc = parcels_open(s, start.durable_next_seq, &parcels, reason, reason_size);
    if (rc != 0)
        return rc;
    uint64_t began_ns = env_now_ns(s->env);
    s->journal.tail_pos = start.tail_pos;
    rc = replay_run(&r, &start);
    r.losses += parks_losses(s);
    bool clean = start.clean && !taken_over && !parcels && !s->foreign && r.writes == 0 &&
                 r.losses == 0 && !parks_changed(s);
    if (rc == 0)
        rc = adopt_segments(&r, clean);
    if (rc == 0 && (rc = parks_write(s, reason, reason_size)) != 0)
        return rc;
    if (rc == 0)
        rc = journal_raise_incarnation(s);
    if (rc == 0 && (!clean || r.losses > 0))
        rc = checkpoint_write_full(s);
    if (rc == 0)
        rc = journal_note_checkpoint(s);
    if (rc == -ENOSPC || rc == -EDQUOT) { /* reads are served; see checkpoint_pump */
        s->unsettled = true;
        rc = 0;
    }
    if (rc != 0) {
        snprintf(reason, reason_size, "replaying journal %u: %s", s->journal.id, strerror(-rc));
        return rc;
    }
    if (taken_over && !s->unsettled)
        checkpoint_remove_taken(s);
    s->parks_left |= s->unsettled && parks_changed(s);
    if (!s->unsettled)
        parks_remove_taken(s, s->journal.id);
    parks_fini(s);
    if (r.writes > 0)
        log_info("journal %u: replayed %llu writes, %llu records, in %.3f s", s->journal.id,
                 (unsigned long long)r.writes, (unsigned long long)r.records,
                 (double)(env_now_ns(s->env) - began_ns) / 1e9);
    journal_fill_begin(&s->journal);
    s->recovering = false;
    return 0;
}
