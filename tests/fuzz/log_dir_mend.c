/* log_dir_mend.c: where a data directory has checksums, and how they are made right again. */
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/log/checkpoint_format.h"
#include "core/log/internal.h"
#include "core/log/journal_format.h"
#include "core/log/park_format.h"
#include "tests/fuzz/log_dir.h"

static bool is_journal(const struct disk_file *f)
{
    return !f->is_dir && strcmp(f->path, "/data/journal.0") == 0;
}

static bool is_parcel(const struct disk_file *f)
{
    return !f->is_dir && strncmp(f->path, "/data/partition.", 16) == 0;
}

static bool is_checkpoint(const struct disk_file *f)
{
    return is_parcel(f) || (!f->is_dir && strncmp(f->path, "/data/journal.0.checkpoint.", 27) == 0);
}

static bool is_side_file(const struct disk_file *f)
{
    return !f->is_dir && strncmp(f->path, "/data/journal.0.parked.", 23) == 0;
}

static bool is_batch(const struct disk_file *f, uint32_t at)
{
    struct batch_header h;
    return batch_peek(f->bytes + at, f->used_bytes - at, &h) == 0 &&
           h.len_bytes <= f->used_bytes - at && batch_crc_ok(f->bytes + at, &h);
}

static struct journal_header header_of(const struct disk_file *f, uint32_t at)
{
    struct journal_header h;
    memcpy(&h, f->bytes + at, sizeof(h));
    return h;
}

/* A later round of the ring may have overwritten its end. */
static bool is_write(const struct disk_file *f, uint32_t at)
{
    struct journal_header h = header_of(f, at);
    return h.magic == JOURNAL_MAGIC && h.len_bytes <= f->used_bytes - at &&
           journal_write_intact(f->bytes + at, &h);
}

/* Where the real code has put what has checksums: found once for each disk made. */
struct places {
    const struct disk *made;
    unsigned batches_n, writes_n;
    struct {
        unsigned file;
        uint32_t at;
    } batch[512];
    uint32_t write[64]; /* in the journal, in the order of the chain */
};

static void write_add(struct places *p, const struct disk_file *journal, uint32_t at)
{
    uint64_t seq = header_of(journal, at).seq;
    ASSERT(p->writes_n < ARRAY_LEN(p->write));
    unsigned i = p->writes_n++;
    for (; i > 0 && header_of(journal, p->write[i - 1]).seq > seq; i--)
        p->write[i] = p->write[i - 1];
    p->write[i] = at;
}

static void places_find(struct places *p, const struct disk *made)
{
    *p = (struct places){.made = made};
    for (unsigned i = 0; i < made->files_n; i++) {
        const struct disk_file *f = &made->files[i];
        for (uint32_t at = 0; at + BATCH_HEADER_BYTES <= f->used_bytes; at++) {
            if (!is_batch(f, at))
                continue;
            ASSERT(p->batches_n < ARRAY_LEN(p->batch));
            p->batch[p->batches_n].file = i;
            p->batch[p->batches_n++].at = at;
        }
        if (!is_journal(f))
            continue;
        for (uint32_t at = JOURNAL_RING_START; at + BLOCK_BYTES <= f->used_bytes; at += BLOCK_BYTES)
            if (is_write(f, at))
                write_add(p, f, at);
    }
    ASSERT(p->batches_n > 0 && p->writes_n > 0);
}

static const struct places *places_of(const struct disk *made)
{
    static struct places known[LOG_DIR_STATES];
    for (unsigned i = 0; i < LOG_DIR_STATES; i++) {
        if (known[i].made == NULL)
            places_find(&known[i], made);
        if (known[i].made == made)
            return &known[i];
    }
    ASSERT(!"more disks than states");
    return NULL;
}

/* Wherever a batch was, its bytes as they are now get their checksum, over the length that they
 * claim. */
static void batches_mend(struct disk *d, const struct places *p)
{
    struct batch_header h;
    for (unsigned i = 0; i < p->batches_n; i++) {
        struct disk_file *f = &d->files[p->batch[i].file];
        uint32_t at = p->batch[i].at, have = at < f->used_bytes ? f->used_bytes - at : 0;
        if (batch_peek(f->bytes + at, have, &h) == 0 && h.len_bytes <= have)
            be_store32(f->bytes + at + 17, crc32c(f->bytes + at + 21, h.len_bytes - 21));
    }
}

/* What is there twice says the same again: what the copy that was changed says. */
static void copies_join(struct disk_file *f, const struct disk_file *made, uint64_t a, uint64_t b,
                        uint64_t len)
{
    uint64_t end = MAX(a, b) + len;
    if (end > f->used_bytes || end > made->used_bytes)
        return;
    if (memcmp(f->bytes + a, made->bytes + a, len) != 0)
        memcpy(f->bytes + b, f->bytes + a, len);
    else if (memcmp(f->bytes + b, made->bytes + b, len) != 0)
        memcpy(f->bytes + a, f->bytes + b, len);
}

static void superblocks_mend(struct disk_file *f, const struct disk_file *made)
{
    copies_join(f, made, 0, BLOCK_BYTES, sizeof(struct journal_super));
    for (uint32_t at = 0; at < JOURNAL_RING_START && at + BLOCK_BYTES <= f->used_bytes;
         at += BLOCK_BYTES) {
        struct journal_super super;
        memcpy(&super, f->bytes + at, sizeof(super));
        journal_super_encode(&super, f->bytes + at);
    }
}

/* A write's checksum changes what the one behind it, and checkpoints, say of it. */
struct renamed_crc {
    uint32_t before, now;
};
struct renamed {
    struct renamed_crc crc[128];
    unsigned n;
};

static uint32_t renamed_crc(const struct renamed *r, uint32_t before)
{
    for (unsigned i = 0; i < r->n; i++)
        if (r->crc[i].before == before)
            return r->crc[i].now;
    return before;
}

static void record_mend(uint8_t *write, uint32_t len, const struct journal_header *h, uint64_t at)
{
    struct journal_record rec;
    if (at + sizeof(rec) > len)
        return;
    memcpy(&rec, write + at, sizeof(rec));
    if (rec.len_bytes >= sizeof(rec) && (uint64_t)rec.at_bytes + rec.len_bytes <= len)
        rec.data_crc = crc32c(journal_record_body(write, &rec), rec.len_bytes - sizeof(rec));
    rec.crc = journal_record_crc(h, rec);
    memcpy(write + at, &rec, sizeof(rec));
}

/* The records where the write was made to have them, and where its header now says they are. */
static void records_mend(struct disk_file *f, const struct disk_file *made, uint32_t at,
                         const struct journal_header *h)
{
    struct journal_header was = header_of(made, at);
    struct journal_record_iter it;
    struct journal_record rec;
    journal_records_begin(&it, made->bytes + at, &was);
    while (journal_record_next(&it, &rec)) {
        uint32_t again = was.table_at + (it.index - 1) * (uint32_t)sizeof(rec);
        copies_join(f, made, at + rec.at_bytes, at + again, sizeof(rec));
        record_mend(f->bytes + at, was.len_bytes, h, rec.at_bytes);
    }
    for (uint64_t i = 0; i < MIN(h->records_n, was.len_bytes / sizeof(rec)); i++)
        record_mend(f->bytes + at, was.len_bytes, h, h->table_at + i * sizeof(rec));
}

static void write_mend(struct disk_file *f, const struct disk_file *made, uint32_t at,
                       struct renamed *renamed)
{
    struct journal_header was = header_of(made, at);
    if (was.len_bytes > f->used_bytes - MIN(at, f->used_bytes))
        return;
    uint32_t again = at + was.len_bytes - (uint32_t)sizeof(was);
    copies_join(f, made, at, again, sizeof(was));
    struct journal_header h = header_of(f, at);
    h.prev_crc = renamed_crc(renamed, h.prev_crc);
    h.crc = journal_header_crc(h);
    memcpy(f->bytes + at, &h, sizeof(h));
    memcpy(f->bytes + again, &h, sizeof(h));
    records_mend(f, made, at, &h);
    ASSERT(renamed->n < ARRAY_LEN(renamed->crc));
    renamed->crc[renamed->n++] = (struct renamed_crc){was.crc, h.crc};
}

static void checkpoint_copy_mend(struct disk_file *f, uint64_t at, const struct renamed *renamed)
{
    struct checkpoint_header h;
    if (at + sizeof(h) > f->used_bytes)
        return;
    memcpy(&h, f->bytes + at, sizeof(h));
    h.durable_crc = renamed_crc(renamed, h.durable_crc);
    if (h.body_bytes <= f->used_bytes - at - sizeof(h))
        h.crc = checkpoint_crc(f->bytes + at, &h);
    memcpy(f->bytes + at, &h, sizeof(h));
}

static void checkpoint_mend(struct disk_file *f, const struct disk_file *made,
                            const struct renamed *renamed)
{
    struct checkpoint_header was;
    uint64_t at = checkpoint_copy_at(made->size_bytes);
    ASSERT(checkpoint_copy_open(made->bytes, at, &was));
    if (f->size_bytes == made->size_bytes)
        copies_join(f, made, 0, at, sizeof(was) + was.body_bytes);
    checkpoint_copy_mend(f, 0, renamed);
    checkpoint_copy_mend(f, checkpoint_copy_at(f->size_bytes), renamed);
}

/* ---- side files ---- */

/* A side file as it was made, structure by structure: its parts in the order of the file. */
enum side_part { SIDE_HEADER, SIDE_SECTION, SIDE_ENTRIES, SIDE_WRITE, SIDE_JOURNAL_WRITE };
struct side_walk {
    void (*visit)(struct side_walk *w, enum side_part part, uint64_t at, uint64_t len_bytes);
    struct disk *disk;
    unsigned file;
    const struct disk_file *made;
    struct renamed renamed;
};

static uint64_t side_writes_walk(struct side_walk *w, uint64_t at, uint32_t writes_n)
{
    struct park_write head;
    for (uint32_t i = 0; i < writes_n; i++) {
        memcpy(&head, w->made->bytes + at, sizeof(head));
        w->visit(w, SIDE_WRITE, at, sizeof(head));
        w->visit(w, SIDE_JOURNAL_WRITE, at + sizeof(head), head.len_bytes);
        at += sizeof(head) + head.len_bytes;
    }
    return at;
}

static void side_copy_walk(struct side_walk *w, uint64_t at)
{
    struct park_header h;
    struct park_section section;
    memcpy(&h, w->made->bytes + at, sizeof(h));
    ASSERT(h.magic == PARK_MAGIC);
    w->visit(w, SIDE_HEADER, at, sizeof(h));
    at += sizeof(h);
    for (uint64_t end = at + h.body_bytes; at < end;) {
        memcpy(&section, w->made->bytes + at, sizeof(section));
        w->visit(w, SIDE_SECTION, at, sizeof(section));
        at += sizeof(section);
        w->visit(w, SIDE_ENTRIES, at, section.plogs_bytes);
        at = side_writes_walk(w, at + section.plogs_bytes, section.writes_n);
    }
}

static void side_write_mend(struct side_walk *w, enum side_part part, uint64_t at,
                            uint64_t len_bytes)
{
    (void)len_bytes;
    if (part == SIDE_JOURNAL_WRITE)
        write_mend(&w->disk->files[w->file], w->made, (uint32_t)at, &w->renamed);
}

/* The checksums of what one copy now says that it holds. */
static void side_copy_mend(struct disk_file *f, uint64_t at)
{
    struct park_header h;
    uint64_t room = f->used_bytes - MIN((uint64_t)f->used_bytes, at + sizeof(h));
    if (room == 0)
        return;
    memcpy(&h, f->bytes + at, sizeof(h));
    uint32_t crc = park_header_crc(&h);
    uint8_t *p = f->bytes + at + sizeof(h), *end = p + MIN(room, h.body_bytes);
    struct park_section section;
    while ((size_t)(end - p) >= sizeof(section)) {
        memcpy(&section, p, sizeof(section));
        uint64_t left = (uint64_t)(end - p) - sizeof(section);
        if (section.plogs_bytes > left || section.writes_bytes > left - section.plogs_bytes)
            break;
        uint64_t len = section.plogs_bytes + section.writes_bytes;
        section.crc = crc32c(p + sizeof(section), len);
        memcpy(p, &section, sizeof(section));
        crc = crc32c_extend(crc, &section, sizeof(section));
        p += sizeof(section) + len;
    }
    h.crc = crc;
    memcpy(f->bytes + at, &h, sizeof(h));
}

static void side_file_mend(struct disk *d, unsigned file, const struct disk_file *made)
{
    struct disk_file *f = &d->files[file];
    struct side_walk w = {
        .visit = side_write_mend, .disk = d, .file = file, .made = made, .renamed = {.n = 0}};
    uint64_t half = checkpoint_copy_at(made->size_bytes);
    if (f->size_bytes == made->size_bytes) {
        copies_join(f, made, 0, half, MIN(half, made->used_bytes - half));
        side_copy_walk(&w, 0);
        side_copy_walk(&w, half);
    }
    side_copy_mend(f, 0);
    side_copy_mend(f, checkpoint_copy_at(f->size_bytes));
}

/* ---- the whole ---- */

void log_dir_mend(struct disk *d, const struct disk *made)
{
    const struct places *p = places_of(made);
    struct renamed renamed = {0};
    batches_mend(d, p);
    for (unsigned i = 0; i < made->files_n; i++) {
        struct disk_file *f = &d->files[i];
        if (!is_journal(f))
            continue;
        superblocks_mend(f, &made->files[i]);
        for (unsigned k = 0; k < p->writes_n; k++)
            write_mend(f, &made->files[i], p->write[k], &renamed);
    }
    for (unsigned i = 0; i < made->files_n; i++)
        if (is_checkpoint(&d->files[i]))
            checkpoint_mend(&d->files[i], &made->files[i], &renamed);
    for (unsigned i = 0; i < made->files_n; i++)
        if (is_side_file(&d->files[i]))
            side_file_mend(d, i, &made->files[i]);
}

/* ---- damage ---- */

static bool is_same(const struct disk_file *f, const struct disk_file *made, uint64_t from,
                    uint64_t to)
{
    to = MIN(to, made->used_bytes);
    return from >= to || memcmp(f->bytes + from, made->bytes + from, to - from) == 0;
}

/* Of files that had those bytes and that size. */
static bool has_whole_copy(const struct disk_file *f, const struct disk_file *made)
{
    uint64_t half = checkpoint_copy_at(made->size_bytes);
    return is_same(f, made, 0, half) || is_same(f, made, half, UINT64_MAX);
}

void log_dir_look(const struct disk *d, const struct disk *made, bool mends,
                  struct log_dir_damage *ret)
{
    *ret = (struct log_dir_damage){d->files_n == made->files_n, true};
    for (unsigned i = 0; i < made->files_n; i++) {
        const struct disk_file *f = &d->files[i], *was = &made->files[i];
        bool sized = f->size_bytes == was->size_bytes && f->used_bytes == was->used_bytes;
        if (!f->removed && sized && (f->is_dir || is_same(f, was, 0, UINT64_MAX)))
            continue;
        ret->none_lost &= !f->removed && !mends && (is_parcel(f) || is_side_file(f));
        ret->must_open &= sized && has_whole_copy(f, was);
    }
    ret->must_open &= ret->none_lost;
}

/* ---- places for the mutator ---- */

static uint64_t segments_hot(struct disk *made, unsigned file, uint64_t at, uint32_t segments_n)
{
    struct segment_entry e;
    for (uint32_t i = 0; i < segments_n; i++) {
        memcpy(&e, made->files[file].bytes + at, sizeof(e));
        disk_hot_add(made, file, (uint32_t)at, sizeof(e));
        at += sizeof(e) + e.image_bytes;
    }
    return at;
}

/* Entries of partitions, without their images. */
static void entries_hot(struct disk *made, unsigned file, uint64_t at, uint64_t len_bytes)
{
    struct plog_entry e;
    for (uint64_t end = at + len_bytes; at < end;) {
        memcpy(&e, made->files[file].bytes + at, sizeof(e));
        uint64_t len = sizeof(e) + e.epochs_n * 2 * sizeof(int64_t) +
                       e.producers_n * sizeof(struct producer_entry);
        disk_hot_add(made, file, (uint32_t)at, len);
        at = segments_hot(made, file, at + len, e.segments_n);
    }
}

static void parcel_hot(struct disk *made, unsigned file)
{
    struct checkpoint_header h;
    memcpy(&h, made->files[file].bytes, sizeof(h));
    disk_hot_add(made, file, 0, sizeof(h));
    entries_hot(made, file, sizeof(h), h.body_bytes);
}

static void side_part_hot(struct side_walk *w, enum side_part part, uint64_t at, uint64_t len_bytes)
{
    struct journal_header h;
    if (part == SIDE_ENTRIES) {
        entries_hot(w->disk, w->file, at, len_bytes);
        return;
    }
    if (part == SIDE_JOURNAL_WRITE) {
        h = header_of(w->made, (uint32_t)at);
        struct journal_record rec;
        struct journal_record_iter it;
        journal_records_begin(&it, w->made->bytes + at, &h);
        while (journal_record_next(&it, &rec))
            disk_hot_add(w->disk, w->file, (uint32_t)at + rec.at_bytes, sizeof(rec));
        len_bytes = sizeof(h);
    }
    disk_hot_add(w->disk, w->file, (uint32_t)at, len_bytes);
}

void log_dir_hot(struct disk *made)
{
    for (unsigned i = 0; i < made->files_n; i++) {
        struct side_walk w = {
            .visit = side_part_hot, .disk = made, .file = i, .made = &made->files[i]};
        if (is_parcel(&made->files[i]))
            parcel_hot(made, i);
        if (is_side_file(&made->files[i]))
            side_copy_walk(&w, 0);
    }
}
