#include "core/log/journal_format.h"

#include <errno.h>

#include "core/base/assert.h"
#include "core/base/crc32c.h"
#include "core/batch/batch.h"

/* ---- superblocks ---- */

static uint32_t super_crc(struct journal_super super)
{
    super.crc = 0;
    return crc32c(&super, sizeof(super));
}

void journal_super_encode(struct journal_super *super, uint8_t block[BLOCK_BYTES])
{
    super->magic = JOURNAL_SUPER_MAGIC;
    super->crc = super_crc(*super);
    memset(block, 0, BLOCK_BYTES);
    memcpy(block, super, sizeof(*super));
}

bool journal_super_decode(const uint8_t block[BLOCK_BYTES], struct journal_super *ret)
{
    struct journal_super super;
    memcpy(&super, block, sizeof(super));
    if (super.magic != JOURNAL_SUPER_MAGIC || super.crc != super_crc(super) ||
        super.ring_bytes < 2 * JOURNAL_WRITE_BYTES_MAX || super.ring_bytes % BLOCK_BYTES != 0)
        return false;
    *ret = super;
    return true;
}

uint64_t journal_ring_place(uint64_t ring_bytes, uint64_t virtual_pos)
{
    if (virtual_pos % ring_bytes + JOURNAL_WRITE_BYTES_MAX > ring_bytes)
        return (virtual_pos / ring_bytes + 1) * ring_bytes;
    return virtual_pos;
}

/* ---- checksums ---- */

uint32_t journal_header_crc(struct journal_header h)
{
    h.crc = 0;
    return crc32c(&h, sizeof(h));
}

uint32_t journal_record_crc(const struct journal_header *h, struct journal_record rec)
{
    rec.crc = 0;
    return crc32c_extend(h->crc, &rec, sizeof(rec));
}

static uint32_t body_bytes(const struct journal_record *rec)
{
    return rec->len_bytes - (uint32_t)sizeof(*rec);
}

/* ---- writing ---- */

uint32_t journal_write_bytes(uint32_t used_bytes, uint32_t records_n, bool has_run,
                             uint32_t *ret_table_at)
{
    uint32_t table_at =
        (uint32_t)round_up_u64(used_bytes, has_run ? BLOCK_BYTES : JOURNAL_SECTOR_BYTES);
    *ret_table_at = table_at;
    return (uint32_t)block_ceil(table_at + records_n * sizeof(struct journal_record) +
                                sizeof(struct journal_header));
}

static bool has_run(const uint8_t *buf, uint32_t used_bytes, uint32_t *ret_records_n)
{
    struct journal_record rec;
    bool run = false;
    *ret_records_n = 0;
    for (uint32_t at = sizeof(struct journal_header); at < used_bytes; at += rec.len_bytes) {
        memcpy(&rec, buf + at, sizeof(rec));
        ASSERT(rec.len_bytes >= sizeof(rec));
        run = run || rec.kind == RECORD_RUN;
        (*ret_records_n)++;
    }
    return run;
}

uint32_t journal_write_seal(uint8_t *buf, uint32_t used_bytes, struct journal_header *header)
{
    bool run = has_run(buf, used_bytes, &header->records_n);
    uint32_t len = journal_write_bytes(used_bytes, header->records_n, run, &header->table_at);
    ASSERT(len <= JOURNAL_WRITE_BYTES_MAX);
    memset(buf + used_bytes, 0, len - used_bytes);
    header->magic = JOURNAL_MAGIC;
    header->len_bytes = len;
    header->crc = journal_header_crc(*header);
    uint32_t table_at = header->table_at;
    struct journal_record rec;
    for (uint32_t at = sizeof(*header); at < used_bytes; at += rec.len_bytes) {
        memcpy(&rec, buf + at, sizeof(rec));
        rec.at_bytes = at;
        rec.data_crc = crc32c(buf + at + sizeof(rec), body_bytes(&rec));
        rec.crc = journal_record_crc(header, rec);
        memcpy(buf + at, &rec, sizeof(rec));
        memcpy(buf + table_at, &rec, sizeof(rec));
        table_at += (uint32_t)sizeof(rec);
    }
    memcpy(buf, header, sizeof(*header));
    memcpy(buf + len - sizeof(*header), header, sizeof(*header));
    return len;
}

/* ---- finding a write ---- */

static bool lengths_sane(const struct journal_header *h)
{
    return h->len_bytes % BLOCK_BYTES == 0 && h->len_bytes > 0 &&
           h->len_bytes <= JOURNAL_WRITE_BYTES_MAX && h->table_at <= h->len_bytes &&
           h->table_at >= sizeof(*h) &&
           h->records_n <= (h->len_bytes - h->table_at) / sizeof(struct journal_record);
}

static bool header_at(const uint8_t *bytes, const struct journal_expect *e,
                      struct journal_header *ret)
{
    struct journal_header h;
    memcpy(&h, bytes, sizeof(h));
    if (h.magic != JOURNAL_MAGIC || h.journal_id != e->journal_id ||
        h.virtual_pos != e->virtual_pos || h.incarnation < e->incarnation_min ||
        h.incarnation > e->incarnation_max || h.crc != journal_header_crc(h) || !lengths_sane(&h))
        return false;
    if (e->chained && (h.seq != e->seq || h.prev_crc != e->prev_crc))
        return false;
    *ret = h;
    return true;
}

int journal_write_open(const uint8_t *bytes, size_t avail_bytes,
                       const struct journal_expect *expect, struct journal_header *ret)
{
    size_t limit = MIN(avail_bytes, (size_t)JOURNAL_WRITE_BYTES_MAX);
    if (avail_bytes >= BLOCK_BYTES && header_at(bytes, expect, ret))
        return ret->len_bytes <= avail_bytes ? 0 : -EAGAIN;
    for (size_t end = BLOCK_BYTES; end <= limit; end += BLOCK_BYTES)
        if (header_at(bytes + end - sizeof(*ret), expect, ret) && ret->len_bytes == end)
            return 0;
    return -ENOENT;
}

/* ---- records ---- */

static bool kind_sane(const struct journal_record *rec)
{
    uint64_t body = body_bytes(rec);
    if (rec->kind == RECORD_START)
        return rec->end_offset == rec->base_offset && rec->data_bytes == 0;
    if (rec->end_offset <= rec->base_offset)
        return false;
    if (rec->kind == RECORD_COMPACTED)
        return rec->pos == 0 && rec->segment_base == rec->base_offset;
    if (rec->kind == RECORD_BATCHES)
        return rec->data_bytes <= body;
    if (rec->kind != RECORD_RUN)
        return false;
    uint64_t headers = (uint64_t)rec->headers_n * BATCH_HEADER_BYTES;
    return rec->data_bytes <= UINT32_MAX &&
           headers + (rec->pos + rec->data_bytes) % BLOCK_BYTES <= body;
}

static bool record_at(const struct journal_record_iter *it, uint64_t at, struct journal_record *ret)
{
    const struct journal_header *h = it->header;
    struct journal_record rec;
    if (at + sizeof(rec) > h->len_bytes)
        return false;
    memcpy(&rec, it->write + at, sizeof(rec));
    if (rec.crc != journal_record_crc(h, rec) || rec.len_bytes < sizeof(rec) ||
        rec.at_bytes < sizeof(*h) || rec.at_bytes > h->table_at ||
        rec.len_bytes > h->table_at - rec.at_bytes || rec.pos > INT32_MAX ||
        rec.data_bytes > INT32_MAX - rec.pos || rec.base_offset < 0 ||
        rec.end_offset > OFFSET_MAX || rec.segment_base < 0 || rec.segment_base > rec.base_offset ||
        !kind_sane(&rec))
        return false;
    *ret = rec;
    return true;
}

void journal_records_begin(struct journal_record_iter *it, const uint8_t *write,
                           const struct journal_header *header)
{
    *it =
        (struct journal_record_iter){.write = write, .header = header, .next_at = sizeof(*header)};
}

bool journal_record_next(struct journal_record_iter *it, struct journal_record *ret)
{
    while (it->index < it->header->records_n) {
        uint64_t again = it->header->table_at + (uint64_t)it->index++ * sizeof(*ret);
        if (record_at(it, again, ret) || (it->next_at != 0 && record_at(it, it->next_at, ret))) {
            it->next_at = ret->at_bytes + ret->len_bytes;
            return true;
        }
        it->next_at = 0;
        it->damaged_n++;
    }
    return false;
}

bool journal_record_intact(const uint8_t *write, const struct journal_record *rec)
{
    return crc32c(journal_record_body(write, rec), body_bytes(rec)) == rec->data_crc;
}

bool journal_write_intact(const uint8_t *write, const struct journal_header *header)
{
    struct journal_record_iter it;
    struct journal_record rec;
    journal_records_begin(&it, write, header);
    while (journal_record_next(&it, &rec))
        if (!journal_record_intact(write, &rec))
            return false;
    return it.damaged_n == 0;
}
