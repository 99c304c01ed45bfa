#include "tests/fuzz/log_dir.h"

#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/builder.h"
#include "core/log/internal.h"

#define LARGE 3000u
#define CHECKPOINT_CRC_AT                                                                          \
    12u /* in the header of checkpoint.c, which covers itself and its body                         \
         */
#define CHECKPOINT_DURABLE_CRC_AT 64u
#define CHECKPOINT_BODY_BYTES_AT 72u
#define CHECKPOINT_HEADER_BYTES 88u

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

void log_dir_make(struct log_fixture *f, struct disk made[static LOG_DIR_STATES])
{
    static const uint32_t before[] = {100, LARGE, LARGE, LARGE, 300, LARGE, LARGE, 300},
                          after[] = {LARGE, LARGE, 100, LARGE};
    fixture_init(f, 1, LOG_DIR_PARTITIONS, 8u << 20, LARGE);
    f->config.journal_bytes = 2 * JOURNAL_WRITE_BYTES_MAX;
    f->topic.config.segment_bytes = 13000;
    f->topic.config.index_interval_bytes = 500;
    ASSERT(fixture_open(f) == 0);
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

/* Where the real code has put batches: found once for each disk made. */
struct places {
    const struct disk *made;
    unsigned n;
    struct {
        unsigned file;
        uint32_t at;
    } batch[256];
};

static void places_find(struct places *p, const struct disk *made)
{
    struct batch_header h;
    *p = (struct places){.made = made};
    for (unsigned i = 0; i < made->files_n; i++) {
        const struct disk_file *f = &made->files[i];
        for (uint32_t at = 0; at + BATCH_HEADER_BYTES <= f->used_bytes; at++) {
            if (batch_peek(f->bytes + at, f->used_bytes - at, &h) != 0 ||
                h.len_bytes > f->used_bytes - at || !batch_crc_ok(f->bytes + at, &h))
                continue;
            ASSERT(p->n < ARRAY_LEN(p->batch));
            p->batch[p->n].file = i;
            p->batch[p->n++].at = at;
        }
    }
    ASSERT(p->n > 0);
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
    for (unsigned i = 0; i < p->n; i++) {
        struct disk_file *f = &d->files[p->batch[i].file];
        uint32_t at = p->batch[i].at, have = at < f->used_bytes ? f->used_bytes - at : 0;
        if (batch_peek(f->bytes + at, have, &h) == 0 && h.len_bytes <= have)
            be_store32(f->bytes + at + 17, crc32c(f->bytes + at + 21, h.len_bytes - 21));
    }
}

static void superblock_mend(uint8_t *block)
{
    struct journal_super super;
    memcpy(&super, block, sizeof(super));
    super.crc = 0;
    super.crc = crc32c(&super, sizeof(super));
    memcpy(block, &super, sizeof(super));
}

/* A write's checksum changes what the one behind it, and checkpoints, say of it. */
struct renamed_crc {
    uint32_t before, now;
};

static bool write_mend(struct disk_file *f, uint32_t at, struct renamed_crc *last)
{
    struct journal_header h;
    memcpy(&h, f->bytes + at, sizeof(h));
    if (h.magic != JOURNAL_MAGIC || h.used_bytes < sizeof(h) || h.used_bytes > f->used_bytes - at)
        return false;
    if (h.prev_crc == last->before)
        h.prev_crc = last->now;
    memcpy(f->bytes + at, &h, sizeof(h));
    last->before = h.crc;
    h.crc = journal_write_crc(f->bytes + at, h.used_bytes);
    last->now = h.crc;
    memcpy(f->bytes + at, &h, sizeof(h));
    return true;
}

static void checkpoint_mend(struct disk_file *f, const struct renamed_crc *renamed, unsigned n)
{
    if (f->used_bytes < CHECKPOINT_HEADER_BYTES)
        return;
    uint64_t body_bytes = le_load64(f->bytes + CHECKPOINT_BODY_BYTES_AT);
    for (unsigned i = 0; i < n; i++)
        if (le_load32(f->bytes + CHECKPOINT_DURABLE_CRC_AT) == renamed[i].before) {
            le_store32(f->bytes + CHECKPOINT_DURABLE_CRC_AT, renamed[i].now);
            break;
        }
    if (body_bytes > f->used_bytes - CHECKPOINT_HEADER_BYTES)
        return;
    le_store32(f->bytes + CHECKPOINT_CRC_AT, 0);
    le_store32(f->bytes + CHECKPOINT_CRC_AT,
               crc32c(f->bytes, CHECKPOINT_HEADER_BYTES + body_bytes));
}

void log_dir_mend(struct disk *d, const struct disk *made)
{
    struct renamed_crc renamed[64];
    unsigned n = 0;
    batches_mend(d, places_of(made));
    for (unsigned i = 0; i < made->files_n; i++) {
        struct disk_file *f = &d->files[i];
        if (!is_journal(f))
            continue;
        for (uint32_t at = 0; at + BLOCK_BYTES <= f->used_bytes; at += BLOCK_BYTES) {
            struct renamed_crc last = n == 0 ? (struct renamed_crc){0} : renamed[n - 1];
            if (at < JOURNAL_RING_START)
                superblock_mend(f->bytes + at);
            else if (n < ARRAY_LEN(renamed) && write_mend(f, at, &last))
                renamed[n++] = last;
        }
    }
    for (unsigned i = 0; i < made->files_n; i++)
        if (is_checkpoint(&d->files[i]))
            checkpoint_mend(&d->files[i], renamed, n);
}
