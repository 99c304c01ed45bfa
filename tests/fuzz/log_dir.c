#include "tests/fuzz/log_dir.h"

#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/builder.h"
#include "core/log/checkpoint_format.h"
#include "core/log/internal.h"
#include "core/log/journal_format.h"

#define LARGE 3000u

/* ---- making ---- */

int log_dir_append(struct log_fixture *f, int32_t partition, uint32_t value_bytes, int32_t sequence)
{
    static struct log_append unused; /* nobody waits */
    struct batch_builder b;
    uint8_t *data, *value;
    size_t len;
    struct batch_header h;
    batch_builder_init(&b, BATCH_NONE);
    if (sequence >= 0) {
        b.producer_id = LOG_DIR_PRODUCER + partition;
        b.producer_epoch = 0;
        b.base_sequence = sequence;
    }
    ASSERT(batch_builder_add_room(&b, env_wall_ms(f->env), "key", 3, (int32_t)value_bytes,
                                  &value) == 0);
    for (uint32_t i = 0; i < value_bytes; i++)
        value[i] = (uint8_t)('a' + i % 26);
    ASSERT(batch_builder_finish(&b, &data, &len) == 0);
    ASSERT(batch_peek(data, len, &h) == 0);
    int rc = plog_append(fixture_plog(f, partition), data, &h, false, &unused, NULL);
    batch_builder_fini(&b);
    return rc;
}

static void turns(struct log_fixture *f, unsigned n)
{
    while (n-- > 0)
        fixture_turn(f);
}

/* The first large batch of a segment goes through the journal and asks for a file, the next one
 * goes straight there; the third makes it roll. The other partition only ever has a little. */
static void history(struct log_fixture *f, const uint32_t *sizes, unsigned n, int32_t sequence)
{
    for (unsigned i = 0; i < n; i++) {
        mem_world_advance(f->world, 1000000000);
        ASSERT(log_dir_append(f, 0, sizes[i], sequence + (int32_t)i) == 1);
        ASSERT(log_dir_append(f, 1, 200, -1) == 1);
        turns(f, 20);
    }
    turns(f, 200); /* until all is stable, sealed and written down */
}

/* A write and its mark for each, so that the history behind it reaches the end of the ring. */
static void journal_fill(struct log_fixture *f)
{
    for (unsigned i = 0; i < 7; i++) {
        ASSERT(log_dir_append(f, 1, 100, -1) == 1);
        turns(f, 200);
    }
}

void log_dir_make(struct log_fixture *f, struct disk made[static LOG_DIR_STATES])
{
    static const uint32_t before[] = {100, LARGE, LARGE, LARGE, 300, LARGE, LARGE, 300},
                          after[] = {LARGE, LARGE, 100, LARGE};
    fixture_init(f, 1, LOG_DIR_PARTITIONS, 8u << 20, LARGE);
    f->config.journal_bytes = 3 * JOURNAL_WRITE_BYTES_MAX;
    f->topic.config.segment_bytes = 13000;
    f->topic.config.index_interval_bytes = 500;
    ASSERT(fixture_open(f) == 0);
    journal_fill(f);
    history(f, before, ARRAY_LEN(before), 0);
    ASSERT(fixture_close(f) == 0);
    struct env *env = env_mem_create(f->world, 0, 1, NULL);
    disk_take(&made[LOG_DIR_CLEAN], f->world, env, "/data");
    env_destroy(env);
    ASSERT(fixture_open(f) == 0);
    history(f, after, ARRAY_LEN(after), ARRAY_LEN(before));
    disk_take(&made[LOG_DIR_DIRTY], f->world, f->env, "/data");
    fixture_crash(f);
    mem_world_destroy(f->world);
    f->world = NULL;
}

/* ---- mending ---- */

static bool is_journal(const struct disk_file *f)
{
    return !f->is_dir && strcmp(f->path, "/data/journal.0") == 0;
}

static bool is_checkpoint(const struct disk_file *f)
{
    return !f->is_dir && strncmp(f->path, "/data/journal.0.checkpoint.", 27) == 0;
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
    } batch[256];
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
    struct renamed_crc crc[64];
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
}
