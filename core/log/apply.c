/* apply.c: records of the journal into the partitions.
 *
 * What was written is appended as it is. A body that is not what was written is taken apart:
 * batches that verify count; of a write that is proven durable the damaged bytes keep their place
 * in the segment (what comes behind does not move) and the offsets in them are named as lost; of
 * one that is not, the partition ends before the first of them. A run is trusted when it is proven;
 * else its batches are compared, header and checksum, with what the segment holds. A damaged record
 * of a proven run loses nothing but the image of the last block: the batches are in the segment. A
 * partition whose records do not continue where it ended has a hole, and the rest is void; but
 * behind durable writes that could not be read it goes on, and what is missing is named. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"
#include "core/log/replay.h"

/* ---- where a record belongs ---- */

/* The partition ends here: what the journal holds of it up to end_offset does not count. */
static void plog_hole(struct plog *p, int64_t end_offset)
{
    p->hole = true;
    p->hole_end = MAX(p->hole_end, end_offset);
}

static struct segment *open_segment(const struct plog *p, int64_t base_offset)
{
    for (struct segment *seg = plog_first_open(p); seg != NULL;) {
        if (seg->base_offset == base_offset)
            return seg;
        seg = segment_next(seg);
    }
    return NULL;
}

/* A segment that begins behind what is lost. */
static struct segment *roll_behind_loss(struct plog *p, const struct journal_record *rec)
{
    plog_name_loss(p, p->end_offset, rec->segment_base, "journal writes that cannot be read");
    p->end_offset = rec->segment_base;
    return plog_roll(p);
}

/* 0 and the segment that the record continues; NULL: nothing new in it, or a hole. */
static int record_segment(struct replay *r, struct plog *p, const struct journal_record *rec,
                          struct segment **ret)
{
    struct segment *seg = open_segment(p, rec->segment_base);
    *ret = NULL;
    if (p->hole ||
        (seg == NULL && rec->segment_base < p->end_offset && rec->end_offset > p->end_offset)) {
        plog_hole(p, rec->end_offset);
        return 0;
    }
    if (seg == NULL) {
        if (rec->end_offset <= p->end_offset)
            return 0;
        if (rec->segment_base == p->end_offset)
            seg = plog_roll(p);
        else if (r->gaps)
            seg = roll_behind_loss(p, rec);
        else {
            plog_hole(p, rec->end_offset);
            return 0;
        }
        if (seg == NULL)
            return -ENOMEM;
    }
    if (rec->pos + rec->data_bytes <= seg->end_pos)
        return 0;
    if (rec->pos > seg->end_pos) {
        if (!r->gaps) {
            plog_hole(p, rec->end_offset);
            return 0;
        }
        int rc = segment_fill_lost(seg, rec->pos, rec->base_offset,
                                   "journal writes that cannot be read");
        if (rc != 0)
            return rc;
    }
    *ret = seg;
    return 0;
}

/* Journals may hold more than memory: what is replayed may go to its segment at once. */
static int make_room(struct log_store *s)
{
    store_want_cycle(s);
    while (s->cycle || s->destages_n > 0 || s->jobs_n > 0) {
        destage_pump(s);
        if (!s->cycle && s->destages_n == 0 && s->jobs_n == 0)
            break;
        env_turn(s->env, env_now_ns(s->env) + 100000000ull);
    }
    s->checkpoint.wanted = false;
    s->cycle_after_ns = 0;
    return 0;
}

int recovery_reserve(struct segment *seg, uint64_t len_bytes)
{
    struct log_store *s = seg->plog->store;
    int rc = seg_reserve(seg, len_bytes);
    for (unsigned i = 0; rc == -EAGAIN && s->recovering && i < 2; i++) {
        make_room(s);
        rc = seg_reserve(seg, len_bytes);
    }
    return rc == -EAGAIN && s->recovering ? -ENOMEM : rc;
}

static void note_recovered(struct plog *p, struct segment *seg, uint64_t pos,
                           const struct batch_header *h)
{
    if (h->base_offset < p->recovered_offset)
        return; /* the checkpoint has counted it */
    int64_t append_ms = batch_is_log_append_time(h->attributes) ? h->max_timestamp : -1;
    plog_note_batch(p, seg, pos, h);
    plog_epoch_note(p, h->leader_epoch, h->base_offset);
    producer_update(p, h, h->base_offset, append_ms, env_wall_ms(p->store->env));
}

/* make_room may have given the segment a file before all of it was known. */
static void file_outgrown(struct segment *seg)
{
    if (seg->file_state != SEGMENT_FILE_OPEN || block_ceil(seg->end_pos) <= seg->capacity_bytes)
        return;
    ASSERT(seg->file_refs == 0);
    seg->file_state = SEGMENT_FILE_NONE;
    seg->capacity_bytes = 0;
    seg->resize_file = true;
}

static void segment_advanced(struct segment *seg)
{
    struct plog *p = seg->plog;
    file_outgrown(seg);
    seg->queued_pos = seg->end_pos;
    seg_set_stable(seg, seg->end_pos);
    if (seg->end_pos >= seg->recovered_pos)
        p->stable_offset = p->end_offset;
}

static void segment_ends_at(struct segment *seg, int64_t end_offset)
{
    struct plog *p = seg->plog;
    seg->replayed_offset = end_offset;
    seg->end_offset = MAX(seg->end_offset, end_offset);
    p->end_offset = MAX(p->end_offset, end_offset);
    segment_advanced(seg);
}

/* data: from end_pos up to to_pos. */
static int append_bytes(struct segment *seg, const uint8_t *data, uint64_t to_pos)
{
    while (seg->end_pos < to_pos) {
        uint64_t piece = MIN(to_pos - seg->end_pos, (uint64_t)CHUNK_BYTES_MAX);
        int rc = recovery_reserve(seg, piece);
        if (rc != 0)
            return rc;
        seg_write_bytes(seg, data, piece, true);
        data += piece;
    }
    return 0;
}

/* Bytes and offsets that are lost keep their place: zeros, which are no batch. */
int segment_fill_lost(struct segment *seg, uint64_t to_pos, int64_t to_offset, const char *where)
{
    /* from at the least: the bytes may begin inside a batch */
    struct damage d = {seg->end_pos, to_pos, MAX(seg->replayed_offset, seg->base_offset),
                       to_offset};
    uint8_t *zeros = calloc(1, CHUNK_BYTES_MAX);
    int rc = zeros == NULL ? -ENOMEM : 0;
    while (rc == 0 && seg->end_pos < to_pos)
        rc = append_bytes(seg, zeros, MIN(to_pos, seg->end_pos + CHUNK_BYTES_MAX));
    free(zeros);
    if (rc == 0)
        rc = seg_damage_add(seg, &d, where);
    if (rc != 0)
        return rc;
    segment_ends_at(seg, to_offset);
    return 0;
}

/* Appends whole batches [data, data + rec->data_bytes) of which the first bytes may be there. */
static int append_recovered(struct segment *seg, const struct journal_record *rec,
                            const uint8_t *data)
{
    struct plog *p = seg->plog;
    struct batch_header h;
    int rc = append_bytes(seg, data + (seg->end_pos - rec->pos), rec->pos + rec->data_bytes);
    if (rc != 0)
        return rc;
    for (uint64_t at = 0; at < rec->data_bytes; at += h.len_bytes) {
        if (batch_peek(data + at, rec->data_bytes - at, &h) != 0 ||
            h.len_bytes > rec->data_bytes - at)
            return -EBADMSG;
        note_recovered(p, seg, rec->pos + at, &h);
    }
    segment_ends_at(seg, rec->end_offset);
    return 0;
}

static int open_for_recovery(const struct segment *seg, struct env_file **ret,
                             uint64_t *ret_size_bytes)
{
    char path[PATH_MAX];
    struct env_name_step step = {.kind = ENV_STEP_OPEN,
                                 .path = segment_path(seg, ".log", path, sizeof(path))};
    int rc = env_names_wait(seg->plog->store->env, &step, 1);
    if (rc != 0)
        return rc;
    *ret = step.ret_file;
    *ret_size_bytes = step.ret_size_bytes;
    return 0;
}

/* ---- bodies that are not what was written ---- */

/* Copies [pos, pos + len) of the segment's file to data, as far as there is a file. */
static void file_bytes(const struct segment *seg, uint64_t pos, uint64_t len, uint8_t *data)
{
    struct env *env = seg->plog->store->env;
    uint64_t from = block_floor(pos);
    struct env_file *file;
    uint8_t *buf;
    uint64_t size_bytes;
    if (len == 0 || open_for_recovery(seg, &file, &size_bytes) != 0)
        return;
    if (posix_memalign((void **)&buf, BLOCK_BYTES, block_ceil(pos + len) - from) == 0) {
        int rc = around_read_wait(env, file, buf, block_ceil(pos + len) - from, from);
        if (rc > (int)(pos - from))
            memcpy(data, buf + (pos - from), MIN(len, (uint64_t)rc - (pos - from)));
        free(buf);
    }
    env_file_close(env, file);
}

/* Over data, a record's body, what the segment has of the same bytes already. */
static void known_bytes(struct segment *seg, uint64_t pos, uint64_t known, uint8_t *data)
{
    uint64_t in_file = MIN(MAX(seg->destaged_pos, pos) - pos, known);
    file_bytes(seg, pos, in_file, data);
    if (known > in_file)
        seg_peek(seg, pos + in_file, data + in_file, (uint32_t)(known - in_file));
}

static struct verify_walk record_walk(const struct journal_record *rec, const uint8_t *data,
                                      const struct epoch_entry *epoch)
{
    return (struct verify_walk){
        .place = {rec->base_offset, rec->base_offset, rec->end_offset, epoch, 1},
        .data = data,
        .len_bytes = rec->data_bytes,
        .last = true};
}

/* A later run may have brought damaged bytes to the segment before: what verifies there is them. */
static void damaged_from_file(const struct segment *seg, const struct journal_record *rec,
                              uint8_t *data)
{
    struct epoch_entry epoch = {rec->leader_epoch, 0};
    struct verify_walk walk = record_walk(rec, data, &epoch);
    struct verify_piece piece;
    while (verify_walk_next(&walk, &piece) == 1)
        if (!piece.good)
            file_bytes(seg, rec->pos + piece.from, piece.to - piece.from, data + piece.from);
}

/* Cuts the record off before its first damaged batch. */
static void cut_unproven(struct plog *p, struct journal_record *rec, const uint8_t *data)
{
    struct epoch_entry epoch = {rec->leader_epoch, 0};
    struct verify_walk walk = record_walk(rec, data, &epoch);
    struct verify_piece piece = {.good = true};
    while (verify_walk_next(&walk, &piece) == 1 && piece.good)
        ;
    if (piece.good)
        return;
    plog_hole(p, rec->end_offset);
    rec->data_bytes = piece.from;
    rec->end_offset = piece.from_offset;
}

static int note_pieces(struct segment *seg, const struct journal_record *rec, const uint8_t *data,
                       uint64_t known, uint64_t seq)
{
    struct plog *p = seg->plog;
    struct epoch_entry epoch = {rec->leader_epoch, 0};
    struct verify_walk walk = record_walk(rec, data, &epoch);
    struct verify_piece piece;
    char where[128];
    int rc = 0;
    snprintf(where, sizeof(where), "damaged bytes in write %llu of journal %u",
             (unsigned long long)seq, p->store->journal.id);
    plog_epoch_note(p, rec->leader_epoch, MAX(rec->base_offset, p->end_offset));
    while (rc == 0 && verify_walk_next(&walk, &piece) == 1) {
        if (piece.good)
            note_recovered(p, seg, rec->pos + piece.from, &piece.header);
        else if (piece.to > known)
            rc = seg_damage_add(seg,
                                &(struct damage){rec->pos + piece.from, rec->pos + piece.to,
                                                 piece.from_offset, piece.to_offset},
                                where);
    }
    return rc;
}

/* [data, data + rec->data_bytes) should be whole batches; some of it is not what was written. */
static int append_doubtful(struct segment *seg, const struct journal_record *record, uint8_t *data,
                           uint64_t seq, bool proven)
{
    struct plog *p = seg->plog;
    struct journal_record rec = *record;
    uint64_t known = seg->end_pos - rec.pos;
    known_bytes(seg, rec.pos, known, data);
    damaged_from_file(seg, &rec, data);
    if (!proven)
        cut_unproven(p, &rec, data);
    if (rec.data_bytes <= known)
        return 0;
    int rc = append_bytes(seg, data + known, rec.pos + rec.data_bytes);
    if (rc == 0)
        rc = note_pieces(seg, &rec, data, known, seq);
    if (rc != 0)
        return rc;
    segment_ends_at(seg, rec.end_offset);
    return 0;
}

/* ---- runs ---- */

/* How much of the run is, batch by batch, what the record says. */
static void run_matches(struct journal_record *rec, const uint8_t *headers, const uint8_t *data)
{
    uint64_t at = 0;
    int64_t end_offset = rec->base_offset;
    struct batch_header h;
    for (uint32_t i = 0; i < rec->headers_n; i++, at += h.len_bytes) {
        if (rec->data_bytes - at < BATCH_HEADER_BYTES ||
            memcmp(data + at, headers + (size_t)i * BATCH_HEADER_BYTES, BATCH_HEADER_BYTES) != 0)
            break;
        if (batch_peek(data + at, rec->data_bytes - at, &h) != 0 ||
            h.len_bytes > rec->data_bytes - at || !batch_crc_ok(data + at, &h))
            break;
        end_offset = batch_last_offset(&h) + 1;
    }
    rec->data_bytes = at;
    rec->end_offset = end_offset;
}

/* The run's bytes as the segment holds them now, its last part-filled block from the journal. */
static int run_read(struct segment *seg, const struct journal_record *rec, const uint8_t *image,
                    uint8_t **ret_buf, uint8_t **ret_data)
{
    uint64_t from = block_floor(rec->pos), to = rec->pos + rec->data_bytes;
    uint64_t image_at = block_floor(to);
    uint8_t *buf;
    struct env *env = seg->plog->store->env;
    struct env_file *file;
    uint64_t size_bytes;
    int rc = open_for_recovery(seg, &file, &size_bytes);
    if (rc != 0)
        return rc;
    if (image_at > size_bytes) {
        env_file_close(env, file);
        return -EIO;
    }
    if (posix_memalign((void **)&buf, BLOCK_BYTES, block_ceil(to) - from + BLOCK_BYTES) != 0) {
        env_file_close(env, file);
        return -ENOMEM;
    }
    rc = image_at == from ? 0 : around_read_wait(env, file, buf, image_at - from, from);
    env_file_close(env, file);
    if (rc < 0 || (uint64_t)rc != image_at - from) {
        free(buf);
        return rc < 0 ? rc : -EIO;
    }
    memcpy(buf + (image_at - from), image, to - image_at);
    *ret_buf = buf;
    *ret_data = buf + (rec->pos - from);
    return 0;
}

static int apply_unproven_run(struct segment *seg, const struct journal_record *record,
                              const uint8_t *headers, const uint8_t *image)
{
    uint8_t *buf, *data;
    struct journal_record rec = *record;
    int rc = run_read(seg, record, image, &buf, &data);
    if (rc == -ENOMEM)
        return rc;
    if (rc == 0)
        run_matches(&rec, headers, data);
    if (rc != 0 || rec.data_bytes < record->data_bytes)
        plog_hole(seg->plog, record->end_offset);
    if (rc != 0)
        return 0;
    if (rec.data_bytes > 0) {
        seg->on_disk = seg->plog->dir_ready = true;
        rc = append_recovered(seg, &rec, data);
    }
    free(buf);
    return rc;
}

/* Of the record nothing but its place is sure: the batches are those in the segment. */
static int apply_damaged_run(struct segment *seg, const struct journal_record *rec,
                             const uint8_t *image, uint64_t seq)
{
    uint8_t *buf, *data;
    int rc = run_read(seg, rec, image, &buf, &data);
    if (rc == -ENOMEM)
        return rc;
    if (rc != 0)
        return segment_fill_lost(seg, rec->pos + rec->data_bytes, rec->end_offset,
                                 "a run whose record is damaged and whose file cannot be read");
    seg->on_disk = seg->plog->dir_ready = true;
    rc = append_doubtful(seg, rec, data, seq, true);
    free(buf);
    return rc;
}

static int apply_proven_run(struct segment *seg, const struct journal_record *rec,
                            const uint8_t *headers, const uint8_t *image)
{
    struct plog *p = seg->plog;
    uint64_t to = rec->pos + rec->data_bytes, image_at = block_floor(to);
    p->store->behind_bytes -= seg->stable_pos - seg->destaged_pos;
    seg_drop_chunks(seg);
    seg->end_pos = seg->queued_pos = seg->stable_pos = seg->destaged_pos = image_at;
    seg->on_disk = p->dir_ready = true;
    int rc = recovery_reserve(seg, to - image_at);
    if (rc != 0)
        return rc;
    seg_write_bytes(seg, image, to - image_at, true);
    uint64_t pos = rec->pos;
    for (uint32_t i = 0; i < rec->headers_n; i++) {
        struct batch_header h;
        if (batch_peek(headers + (size_t)i * BATCH_HEADER_BYTES, BATCH_HEADER_BYTES, &h) != 0)
            return -EBADMSG;
        note_recovered(p, seg, pos, &h);
        pos += h.len_bytes;
    }
    segment_ends_at(seg, rec->end_offset);
    return pos == to ? 0 : -EBADMSG;
}

static int apply_run(struct segment *seg, const struct journal_record *rec, const uint8_t *body,
                     bool intact, uint64_t seq, bool proven)
{
    const uint8_t *image = body + (size_t)rec->headers_n * BATCH_HEADER_BYTES;
    if (rec->pos != seg->end_pos || (!intact && !proven)) {
        plog_hole(seg->plog, rec->end_offset);
        return 0;
    }
    if (!intact)
        return apply_damaged_run(seg, rec, image, seq);
    return proven ? apply_proven_run(seg, rec, body, image)
                  : apply_unproven_run(seg, rec, body, image);
}

/* ---- a write ---- */

static int apply_record(struct replay *r, struct held_write *w, const struct journal_record *rec)
{
    struct plog *p = map_get(&r->s->plogs, rec->number);
    struct segment *seg;
    if (p == NULL || w->h.seq < p->void_seq) /* deleted since; or of a run that failed */
        return 0;
    if (r->unparks ? !p->unparking : p->offline) /* park.c */
        return 0;
    p->unparked = r->unparks;
    if (rec->kind == RECORD_START) {
        r->records++;
        plog_start_replayed(p, rec->base_offset);
        return 0;
    }
    if (rec->kind == RECORD_COMPACTED) {
        r->records++;
        p->swapped = true;
        return w->h.seq < r->checkpoint_seq ? 0 : compact_replayed(p, rec);
    }
    int rc = record_segment(r, p, rec, &seg);
    if (rc != 0 || seg == NULL)
        return rc;
    r->records++;
    bool intact = journal_record_intact(w->bytes, rec), proven = w->h.seq <= r->durable_seq;
    uint8_t *body = w->bytes + rec->at_bytes + sizeof(*rec);
    r->losses += !intact && proven;
    if (rec->kind == RECORD_RUN)
        return apply_run(seg, rec, body, intact, w->h.seq, proven);
    return intact ? append_recovered(seg, rec, body)
                  : append_doubtful(seg, rec, body, w->h.seq, proven);
}

int replay_apply(struct replay *r, struct held_write *w)
{
    int rc = r->unparks ? 0 : park_write(r, w);
    struct journal_record rec;
    struct journal_record_iter it;
    journal_records_begin(&it, w->bytes, &w->h);
    while (rc == 0 && journal_record_next(&it, &rec))
        rc = apply_record(r, w, &rec);
    if (rc != 0 || it.damaged_n == 0)
        return rc;
    bool proven = w->h.seq <= r->durable_seq;
    log_error("journal %u: %u of the %u records of write %llu cannot be read: %s", r->s->journal.id,
              it.damaged_n, w->h.records_n, (unsigned long long)w->h.seq,
              proven ? "what they held is lost"
                     : "the crash tore it, or it was damaged since: what they held does not count");
    r->losses += proven;
    r->gaps = r->gaps || proven;
    return 0;
}
