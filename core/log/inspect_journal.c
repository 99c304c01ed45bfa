/* inspect_journal.c: all writes that a journal's ring holds, found by either copy of their header:
 * the first begins a block, the last ends one. Older ones, of which a newer one has taken a part,
 * are left out. */
#include <errno.h>
#include <stdlib.h>

#include "core/log/inspect.h"

static void supers_read(struct inspect_journal *j)
{
    struct journal_super super;
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *block = j->bytes->at(j->bytes, (uint64_t)i * BLOCK_BYTES, BLOCK_BYTES);
        j->super_ok[i] = block != NULL && journal_super_decode(block, &super);
        if (j->super_ok[i] &&
            (i == 0 || !j->super_ok[0] || super.incarnation > j->super.incarnation))
            j->super = super;
    }
}

static int write_add(struct inspect_journal *j, unsigned *cap, const struct inspect_write *w)
{
    if (j->writes_n == *cap) {
        unsigned bigger = *cap == 0 ? 256 : *cap * 2;
        struct inspect_write *writes = realloc(j->writes, bigger * sizeof(*writes));
        if (writes == NULL)
            return -ENOMEM;
        j->writes = writes;
        *cap = bigger;
    }
    j->writes[j->writes_n++] = *w;
    return 0;
}

/* A header's copy at p that can be one of a write that begins at this place in the ring. */
static bool header_claims(const struct inspect_journal *j, const uint8_t *p, uint64_t place,
                          struct journal_header *ret)
{
    memcpy(ret, p, sizeof(*ret));
    return ret->magic == JOURNAL_MAGIC && ret->journal_id == j->super.journal_id &&
           ret->virtual_pos % j->super.ring_bytes == place;
}

/* The write at this place of the ring, as the journal's own code sees it. */
static bool write_open(struct inspect_journal *j, uint64_t place, uint64_t virtual_pos,
                       uint64_t len_bytes, struct inspect_write *ret)
{
    struct journal_expect expect = {
        .journal_id = j->super.journal_id,
        .virtual_pos = virtual_pos,
        .incarnation_max = j->super.incarnation,
    };
    uint64_t avail = MIN(len_bytes, j->super.ring_bytes - place);
    const uint8_t *p = j->bytes->at(j->bytes, JOURNAL_RING_START + place, avail);
    if (p == NULL || journal_write_open(p, avail, &expect, &ret->h) != 0)
        return false;
    struct journal_header copy;
    ret->place = JOURNAL_RING_START + place;
    ret->first_ok = memcmp(p, &ret->h, sizeof(ret->h)) == 0;
    memcpy(&copy, p + ret->h.len_bytes - sizeof(copy), sizeof(copy));
    ret->last_ok = memcmp(&copy, &ret->h, sizeof(copy)) == 0;
    return true;
}

/* From either copy of a header in the block at this place. */
static bool block_look(struct inspect_journal *j, uint64_t place, struct inspect_write *ret)
{
    struct journal_header h;
    const uint8_t *p = j->bytes->at(j->bytes, JOURNAL_RING_START + place, BLOCK_BYTES);
    if (p == NULL)
        return false;
    if (header_claims(j, p, place, &h) &&
        write_open(j, place, h.virtual_pos, JOURNAL_WRITE_BYTES_MAX, ret))
        return true;
    p = j->bytes->at(j->bytes, JOURNAL_RING_START + place, BLOCK_BYTES);
    if (p == NULL)
        return false;
    memcpy(&h, p + BLOCK_BYTES - sizeof(h), sizeof(h));
    if (h.magic != JOURNAL_MAGIC || h.len_bytes > place + BLOCK_BYTES || h.len_bytes == 0)
        return false;
    uint64_t begin = place + BLOCK_BYTES - h.len_bytes;
    return begin % BLOCK_BYTES == 0 && header_claims(j, p + BLOCK_BYTES - sizeof(h), begin, &h) &&
           write_open(j, begin, h.virtual_pos, h.len_bytes, ret);
}

static int by_sequence(const void *a, const void *b)
{
    const struct inspect_write *x = a, *y = b;
    return (x->h.seq > y->h.seq) - (x->h.seq < y->h.seq);
}

static void chain_note(struct inspect_journal *j)
{
    if (j->writes_n > 0)
        qsort(j->writes, j->writes_n, sizeof(*j->writes), by_sequence);
    for (unsigned i = 1; i < j->writes_n; i++)
        j->writes[i].chained = j->writes[i].h.seq == j->writes[i - 1].h.seq + 1 &&
                               j->writes[i].h.prev_crc == j->writes[i - 1].h.crc;
}

static int ring_scan(struct inspect_journal *j)
{
    unsigned cap = 0;
    int rc = 0;
    struct inspect_write w = {0};
    for (uint64_t place = 0; rc == 0 && place < j->super.ring_bytes; place += BLOCK_BYTES) {
        if (!block_look(j, place, &w))
            continue;
        bool known = j->writes_n > 0 && j->writes[j->writes_n - 1].h.seq == w.h.seq;
        if (!known)
            rc = write_add(j, &cap, &w);
    }
    if (rc == 0)
        chain_note(j);
    return rc;
}

int inspect_journal_open(struct inspect_bytes *bytes, struct inspect_journal *ret)
{
    *ret = (struct inspect_journal){.bytes = bytes};
    supers_read(ret);
    bool known = ret->super_ok[0] || ret->super_ok[1];
    if (!known || bytes->size_bytes < JOURNAL_RING_START ||
        bytes->size_bytes - JOURNAL_RING_START < ret->super.ring_bytes)
        return -EBADMSG;
    int rc = ring_scan(ret);
    if (rc != 0)
        inspect_journal_close(ret);
    return rc;
}

void inspect_journal_close(struct inspect_journal *j)
{
    free(j->writes);
    j->writes = NULL;
    j->writes_n = 0;
}

const uint8_t *inspect_write_bytes(const struct inspect_journal *j, const struct inspect_write *w)
{
    return j->bytes->at(j->bytes, w->place, w->h.len_bytes);
}
