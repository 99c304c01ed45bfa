/* fuzz_inspect.c: whatever a disk gives the offline tools: segments with their indexes, journals,
 * checkpoints, metadata logs.
 * Input: one byte of enum fuzz_kind and flags, then the bytes of the file; with FUZZ_SEAL their
 * checksums are made right, to get beyond them. Two bytes of length part what needs two files.
 * Build and replay: as fuzz_batch.c, with core/log, core/meta and io/env.c. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/log/inspect.h"
#include "core/log/verify.h"
#include "core/meta/meta_replay.h"

enum fuzz_kind {
    FUZZ_SEGMENT,    /* u16 length of the index, index, batches; where it ends is known */
    FUZZ_OPEN,       /* batches; the end is not known */
    FUZZ_JOURNAL,    /* a write at the start of the ring, the rest as many blocks behind */
    FUZZ_CHECKPOINT, /* both copies */
    FUZZ_METADATA,   /* u16 length of copy a, a, b */
    FUZZ_KINDS,
};
#define FUZZ_SEAL 0x80u
#define RING_BYTES (2u * JOURNAL_WRITE_BYTES_MAX)
#define JOURNAL_ID 77u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/* Exactly as long as it is, so that every byte read beyond shows. */
static uint8_t *exact_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(MAX(len, (size_t)1));
    ASSERT(copy != NULL);
    memcpy(copy, data, len);
    return copy;
}

/* How long the first of two parts is; takes the two bytes that say so. */
static size_t part(const uint8_t **data, size_t *len)
{
    if (*len < 2)
        return 0;
    size_t first = MIN((size_t)le_load16(*data), *len - 2);
    *data += 2;
    *len -= 2;
    return first;
}

/* ---- segments ---- */

static void batches_seal(uint8_t *p, size_t len)
{
    struct batch_header h;
    for (size_t at = 0; batch_peek(p + at, len - at, &h) == 0 && h.len_bytes <= len - at;
         at += h.len_bytes)
        be_store32(p + at + 17, crc32c(p + at + 21, h.len_bytes - 21));
}

static void walk_all(struct inspect_walk *w, const uint8_t *index, size_t index_len)
{
    struct inspect_index ix;
    struct inspect_piece piece;
    uint64_t pos = 0;
    int64_t offset = w->base_offset;
    inspect_index_init(&ix, w->base_offset, index, index_len, index, index_len);
    for (;;) {
        inspect_walk_next(w, &piece);
        ASSERT(piece.pos == pos && piece.first_offset == offset);
        if (piece.kind == INSPECT_END)
            break;
        ASSERT(piece.len_bytes > 0 || piece.end_offset > piece.first_offset);
        ASSERT(piece.end_offset >= piece.first_offset && piece.len_bytes <= w->end_pos - pos);
        pos += piece.len_bytes;
        offset = piece.end_offset;
        if (piece.kind == INSPECT_BATCH)
            ASSERT(batch_crc_ok(piece.data, &piece.h) && piece.h.base_offset == piece.first_offset);
        if (piece.kind == INSPECT_BATCH)
            inspect_index_batch(&ix, piece.pos, &piece.h);
        else
            inspect_index_damage(&ix, &piece);
    }
    inspect_index_end(&ix);
    ASSERT(!w->end_known || pos == w->end_pos);
}

static void fuzz_segment(const uint8_t *data, size_t len, bool seal)
{
    size_t index_len = part(&data, &len);
    uint8_t *index = exact_copy(data, index_len),
            *log = exact_copy(data + index_len, len - index_len);
    static const struct epoch_entry epochs[] = {{0, 0}, {3, 50}};
    struct inspect_memory m;
    struct inspect_walk w;
    uint8_t *offsets, *times;
    size_t offsets_len, times_len;
    len -= index_len;
    if (seal)
        batches_seal(log, len);
    for (unsigned turn = 0; turn < 4; turn++) {
        inspect_memory_init(&m, log, len);
        inspect_walk_init(&w, &m.bytes, 0, turn & 1 ? 100 : INT64_MAX);
        inspect_walk_end(&w, len);
        w.index = index;
        w.index_len = index_len;
        w.epochs = epochs;
        w.epochs_n = turn & 2 ? 2 : 0;
        walk_all(&w, index, index_len);
    }
    inspect_walk_init(&w, &m.bytes, 0, 100);
    ASSERT(inspect_index_build(&w, 64, &offsets, &offsets_len, &times, &times_len) == 0);
    free(offsets);
    free(times);
    free(index);
    free(log);
}

static void fuzz_open(const uint8_t *data, size_t len, bool seal)
{
    uint8_t *log = exact_copy(data, len);
    struct inspect_memory m;
    struct inspect_walk w;
    if (seal)
        batches_seal(log, len);
    inspect_memory_init(&m, log, len);
    inspect_walk_init(&w, &m.bytes, 0, INT64_MAX);
    walk_all(&w, NULL, 0);
    free(log);
}

/* ---- journals ---- */

static void journal_seal(uint8_t *ring, size_t len)
{
    struct journal_header h;
    if (len < sizeof(h))
        return;
    memcpy(&h, ring, sizeof(h));
    h.magic = JOURNAL_MAGIC;
    h.journal_id = JOURNAL_ID;
    h.incarnation = 1;
    h.virtual_pos = 0;
    h.crc = 0;
    h.crc = crc32c(&h, sizeof(h));
    memcpy(ring, &h, sizeof(h));
    for (uint64_t i = 0, at = h.table_at;
         i < h.records_n && at + sizeof(struct journal_record) <= len;
         i++, at += sizeof(struct journal_record)) {
        struct journal_record rec;
        memcpy(&rec, ring + at, sizeof(rec));
        rec.crc = 0;
        rec.crc = crc32c_extend(h.crc, &rec, sizeof(rec));
        memcpy(ring + at, &rec, sizeof(rec));
    }
}

static void fuzz_journal(const uint8_t *data, size_t len, bool seal)
{
    struct journal_super super = {
        .journal_id = JOURNAL_ID, .incarnation = 1, .ring_bytes = RING_BYTES};
    uint8_t *file = calloc(1, JOURNAL_RING_START + RING_BYTES);
    ASSERT(file != NULL);
    len = MIN(len, (size_t)RING_BYTES);
    journal_super_encode(&super, file);
    memcpy(file + JOURNAL_RING_START, data, len);
    if (seal)
        journal_seal(file + JOURNAL_RING_START, len);
    struct inspect_memory m;
    struct inspect_journal j;
    inspect_memory_init(&m, file, JOURNAL_RING_START + RING_BYTES);
    ASSERT(inspect_journal_open(&m.bytes, &j) == 0 && j.super_ok[0] && !j.super_ok[1]);
    for (unsigned i = 0; i < j.writes_n; i++) {
        const uint8_t *write = inspect_write_bytes(&j, &j.writes[i]);
        struct journal_record rec;
        struct journal_record_iter it;
        ASSERT(write != NULL);
        journal_records_begin(&it, write, &j.writes[i].h);
        while (journal_record_next(&it, &rec))
            journal_record_intact(write, &rec);
    }
    inspect_journal_close(&j);
    inspect_memory_init(&m, file, len); /* as short as the input */
    inspect_journal_open(&m.bytes, &j);
    free(file);
}

/* ---- checkpoints ---- */

static void checkpoint_seal(uint8_t *copy, size_t len)
{
    struct checkpoint_header h;
    if (len < sizeof(h))
        return;
    memcpy(&h, copy, sizeof(h));
    h.magic = CHECKPOINT_MAGIC;
    h.version = CHECKPOINT_VERSION;
    h.body_bytes = MIN(h.body_bytes, len - sizeof(h));
    h.crc = checkpoint_crc(copy, &h);
    memcpy(copy, &h, sizeof(h));
}

static void fuzz_checkpoint(const uint8_t *data, size_t len, bool seal)
{
    uint8_t *file = exact_copy(data, len);
    uint64_t half = checkpoint_copy_at(block_floor(len));
    struct inspect_memory m;
    struct inspect_checkpoint c;
    struct inspect_entry e;
    uint64_t images = 0;
    if (seal)
        checkpoint_seal(file, half);
    inspect_memory_init(&m, file, len);
    if (inspect_checkpoint_open(&m.bytes, &c) == 0)
        for (inspect_checkpoint_next(&c, &e); e.kind < INSPECT_ENTRY_END;
             inspect_checkpoint_next(&c, &e))
            if (e.kind == INSPECT_ENTRY_SEGMENT && e.segment.image_bytes > 0)
                images += e.image[0] + e.image[e.segment.image_bytes - 1];
    ASSERT(images < UINT64_MAX);
    free(file);
}

/* ---- metadata ---- */

static void metadata_seal(uint8_t *p, size_t len)
{
    if (len < BLOCK_BYTES)
        return;
    memcpy(p, "PSTKMETA", 8);
    le_store32(p + 12, META_FORMAT);
    le_store64(p + 16, 1);
    uint32_t crc = crc32c(p + 12, BLOCK_BYTES - 12);
    le_store32(p + 8, crc);
    uint64_t sequence = 0;
    for (size_t at = BLOCK_BYTES; len - at >= META_FRAME_BYTES;) {
        uint64_t payload_len = le_load32(p + at), frame = meta_frame_size(payload_len);
        unsigned kind = le_load16(p + at + 12);
        if (frame > len - at || kind == 0)
            return;
        crc = meta_frame_seal(p + at, kind, (uint32_t)payload_len, crc, ++sequence);
        at += frame;
    }
}

static void copy_set(struct meta_replay *r, struct meta_header header[META_LOG_COPIES], unsigned i,
                     uint8_t *bytes, size_t len)
{
    struct meta_copy *c = &r->copy[i];
    c->exists = len > 0;
    c->file_bytes = len;
    c->bytes = bytes;
    c->header_ok = len >= BLOCK_BYTES && meta_header_fits(bytes, 1, &header[i]);
}

static void fuzz_metadata(const uint8_t *data, size_t len, bool seal)
{
    struct meta_header header[META_LOG_COPIES];
    struct topic_config defaults;
    char reason[256];
    struct meta_replay r = {.name = "a", .reason = reason, .reason_size = sizeof(reason)};
    size_t first = part(&data, &len), lens[META_LOG_COPIES] = {first, len - first};
    uint8_t *copies[META_LOG_COPIES];
    topic_config_defaults(&defaults);
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        copies[i] = exact_copy(data + (i == 0 ? 0 : first), lens[i]);
        if (seal)
            metadata_seal(copies[i], lens[i]);
        copy_set(&r, header, i, copies[i], lens[i]);
    }
    if (meta_replay_headers(&r, header) == 0 && r.header.size_bytes <= 1u << 20) {
        for (unsigned i = 0; i < META_LOG_COPIES; i++) { /* as long as the header says */
            uint8_t *whole = malloc(r.header.size_bytes);
            ASSERT(whole != NULL);
            memset(whole, 0, r.header.size_bytes);
            memcpy(whole, copies[i], MIN(lens[i], r.header.size_bytes));
            free(copies[i]);
            copies[i] = r.copy[i].bytes = whole;
        }
        r.image = meta_image_create(&defaults);
        ASSERT(r.image != NULL);
        meta_replay_run(&r);
        meta_image_destroy(r.image);
        free(r.merged);
    }
    free(copies[0]);
    free(copies[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    static void (*const kinds[FUZZ_KINDS])(const uint8_t *data, size_t len, bool seal) = {
        [FUZZ_SEGMENT] = fuzz_segment,   [FUZZ_OPEN] = fuzz_open,
        [FUZZ_JOURNAL] = fuzz_journal,   [FUZZ_CHECKPOINT] = fuzz_checkpoint,
        [FUZZ_METADATA] = fuzz_metadata,
    };
    if (len_bytes == 0)
        return 0;
    unsigned kind = (data[0] & ~FUZZ_SEAL) % FUZZ_KINDS;
    kinds[kind](data + 1, len_bytes - 1, data[0] & FUZZ_SEAL);
    return 0;
}
