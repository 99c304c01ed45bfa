/* log_dump_journal.c: the writes of a journal and their records, the entries of a checkpoint. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/log/verify.h"
#include "tools/log_dump.h"
#include "tools/log_rows.h"

/* "topic-0", or nothing for a partition that is not known (any more). */
static void row_partition(struct json_object *row, const struct log_tree *names, uint64_t number)
{
    char name[META_TOPIC_NAME_MAX + 16];
    row_uint(row, "number", number);
    for (unsigned i = 0; names != NULL && i < names->partitions_n; i++) {
        const struct log_partition *p = &names->partitions[i];
        if (p->known == NULL || p->known->partitions[p->index].number != number)
            continue;
        snprintf(name, sizeof(name), "%s-%d", p->topic, p->index);
        row_text(row, "partition", name);
    }
}

static bool wanted(const struct log_options *o, const struct log_tree *names, uint64_t number)
{
    for (unsigned i = 0; names != NULL && o->topic != NULL && i < names->partitions_n; i++) {
        const struct log_partition *p = &names->partitions[i];
        if (p->known != NULL && p->known->partitions[p->index].number == number)
            return log_options_want(o, p->topic, p->index);
    }
    return o->topic == NULL;
}

/* ---- journal ---- */

static void dump_body(const struct log_options *o, const struct journal_record *rec,
                      const uint8_t *body)
{
    struct verify_walk w = {
        .place = {.offset = rec->base_offset, .end_offset = rec->end_offset},
        .data = body,
        .len_bytes = rec->data_bytes,
        .last = true,
    };
    struct verify_piece piece;
    while (rec->kind == RECORD_BATCHES && verify_walk_next(&w, &piece) == 1) {
        struct inspect_piece damage = {
            .pos = rec->pos + piece.from,
            .len_bytes = piece.to - piece.from,
            .first_offset = piece.from_offset,
            .end_offset = piece.to_offset,
            .what = "no batch",
        };
        if (!piece.good) {
            out_row(o->json, "", row_of_damage(&damage));
            continue;
        }
        out_row(o->json, "", row_of_batch(&piece.header, rec->pos + piece.from, true));
        rows_of_records(o, body + piece.from, &piece.header);
    }
}

static bool dump_record(const struct log_options *o, const struct log_tree *names,
                        const uint8_t *write, const struct journal_record *rec)
{
    struct json_object *row = row_new("journalRecord");
    bool intact = journal_record_intact(write, rec);
    static const char *const kinds[] = {[RECORD_BATCHES] = "batches",
                                        [RECORD_RUN] = "run",
                                        [RECORD_START] = "log start",
                                        [RECORD_COMPACTED] = "compacted"};
    row_text(row, "kind", kinds[rec->kind]);
    row_partition(row, names, rec->number);
    row_int(row, "segmentBaseOffset", rec->segment_base);
    row_uint(row, "position", rec->pos);
    row_int(row, "baseOffset", rec->base_offset);
    row_int(row, "lastOffset", rec->end_offset - 1);
    row_uint(row, "size", rec->data_bytes);
    row_int(row, "partitionLeaderEpoch", rec->leader_epoch);
    if (rec->kind == RECORD_RUN)
        row_int(row, "batches", rec->headers_n);
    row_bool(row, "isvalid", intact);
    out_row(o->json, "- ", row);
    if (o->deep_iteration || o->print_data_log)
        dump_body(o, rec, journal_record_body(write, rec));
    return intact;
}

static const char *copies_text(bool first, bool last)
{
    return first && last ? "both" : first ? "the first only" : "the last only";
}

static bool dump_write(const struct log_options *o, const struct log_tree *names,
                       const struct log_journal *j, unsigned i)
{
    const struct inspect_write *w = &j->j.writes[i];
    struct json_object *row = row_new("journalWrite");
    bool replayed = i >= j->tail_i && i - j->tail_i < j->chain_n;
    row_uint(row, "sequence", w->h.seq);
    row_uint(row, "incarnation", w->h.incarnation);
    row_uint(row, "position", w->place);
    row_uint(row, "virtualPosition", w->h.virtual_pos);
    row_uint(row, "size", w->h.len_bytes);
    row_int(row, "count", w->h.records_n);
    row_uint(row, "durableSequence", w->h.durable_seq);
    row_text(row, "headers", copies_text(w->first_ok, w->last_ok));
    row_bool(row, "chained", w->chained);
    if (j->newest != NULL)
        row_bool(row, "replayed", replayed);
    out_row(o->json, "", row);
    const uint8_t *bytes = inspect_write_bytes(&j->j, w);
    if (bytes == NULL)
        return false;
    struct journal_record_iter it;
    struct journal_record rec;
    bool whole = w->first_ok && w->last_ok;
    journal_records_begin(&it, bytes, &w->h);
    while (journal_record_next(&it, &rec))
        if (wanted(o, names, rec.number))
            whole &= dump_record(o, names, bytes, &rec);
    if (it.damaged_n > 0) {
        row = row_new("damage");
        row_text(row, "damage", "records of which both copies are damaged");
        row_int(row, "count", it.damaged_n);
        out_row(o->json, "- ", row);
    }
    return whole && it.damaged_n == 0;
}

static void dump_super(const struct log_options *o, const struct log_journal *j)
{
    struct json_object *row = row_new("journal");
    row_hex(row, "identity", j->j.super.journal_id);
    row_uint(row, "incarnation", j->j.super.incarnation);
    row_uint(row, "ringBytes", j->j.super.ring_bytes);
    row_bool(row, "checkpointed", j->j.super.checkpointed == 1);
    row_bool(row, "superblock0", j->j.super_ok[0]);
    row_bool(row, "superblock1", j->j.super_ok[1]);
    if (j->newest != NULL) {
        row_uint(row, "checkpointGeneration", j->newest->c.h.generation);
        row_uint(row, "tail", j->newest->c.h.tail_pos);
        row_uint(row, "head", j->head_pos);
    }
    out_row(o->json, "", row);
}

/* Damage in writes that no start replays any more is none: the ring is used again. */
int dump_journal(const struct log_options *o, const struct log_tree *names,
                 const struct log_journal *j)
{
    if (j->rc != 0 && j->rc != -EBADMSG)
        return dump_complain(j->path, j->rc);
    dump_heading(o, j->path);
    dump_super(o, j);
    int code = j->rc != 0 || !j->j.super_ok[0] || !j->j.super_ok[1];
    for (unsigned i = 0; i < j->j.writes_n; i++) {
        bool counts = j->newest == NULL || (i >= j->tail_i && i - j->tail_i < j->chain_n);
        if (!dump_write(o, names, j, i) && counts)
            code = LOG_EXIT_DAMAGE;
    }
    return code;
}

/* ---- checkpoint ---- */

static struct json_object *row_of_plog(const struct log_tree *names, const struct plog_entry *e)
{
    struct json_object *row = row_new("checkpointPartition");
    row_partition(row, names, e->number);
    row_int(row, "logStartOffset", e->log_start);
    row_int(row, "stableOffset", e->stable_offset);
    row_int(row, "epochs", e->epochs_n);
    row_int(row, "producers", e->producers_n);
    row_int(row, "segments", e->segments_n);
    return row;
}

static struct json_object *row_of_epoch(const struct inspect_entry *e)
{
    struct json_object *row = row_new("checkpointEpoch");
    row_int(row, "epoch", e->epoch);
    row_int(row, "startOffset", e->start_offset);
    return row;
}

static struct json_object *row_of_producer(const struct producer_entry *e)
{
    struct json_object *row = row_new("checkpointProducer");
    const struct producer_batch *last = e->batches_n == 0 ? NULL : &e->batches[e->batches_n - 1];
    row_int(row, "producerId", e->id);
    row_int(row, "producerEpoch", e->epoch);
    row_int(row, "lastTimestamp", e->last_ms);
    row_int(row, "lastSequence", last == NULL ? -1 : last->last_sequence);
    row_int(row, "lastOffset", last == NULL ? -1 : last->last_offset);
    return row;
}

static struct json_object *row_of_segment(const struct segment_entry *e)
{
    static const char *const states[] = {"open", "sealing", "sealed"};
    struct json_object *row = row_new("checkpointSegment");
    row_int(row, "baseOffset", e->base_offset);
    row_int(row, "endOffset", e->end_offset);
    row_uint(row, "stablePosition", e->stable_pos);
    row_uint(row, "inFilePosition", e->destaged_pos);
    row_uint(row, "imageBytes", e->image_bytes);
    row_bool(row, "onDisk", e->on_disk);
    row_text(row, "state", e->state < 3 ? states[e->state] : "unknown");
    return row;
}

static void dump_entry(const struct log_options *o, const struct log_tree *names,
                       const struct inspect_entry *e)
{
    if (e->kind == INSPECT_ENTRY_PLOG)
        out_row(o->json, "", row_of_plog(names, &e->plog));
    else if (e->kind == INSPECT_ENTRY_EPOCH)
        out_row(o->json, "- ", row_of_epoch(e));
    else if (e->kind == INSPECT_ENTRY_PRODUCER)
        out_row(o->json, "- ", row_of_producer(&e->producer));
    else if (e->kind == INSPECT_ENTRY_SEGMENT)
        out_row(o->json, "- ", row_of_segment(&e->segment));
}

int dump_checkpoint(const struct log_options *o, const struct log_tree *names,
                    const struct log_checkpoint *c)
{
    if (c->rc != 0 && c->rc != -EBADMSG)
        return dump_complain(c->path, c->rc);
    struct json_object *row = row_new("checkpoint");
    struct inspect_checkpoint entries = c->c;
    struct inspect_entry e = {.kind = INSPECT_ENTRY_END};
    const struct checkpoint_header *h = &c->c.h;
    bool show = true;
    dump_heading(o, c->path);
    row_bool(row, "copy0", c->c.copy_ok[0]);
    row_bool(row, "copy1", c->c.copy_ok[1]);
    row_uint(row, "generation", h->generation);
    row_hex(row, "identity", h->identity);
    row_uint(row, "incarnation", h->incarnation);
    row_uint(row, "tail", h->tail_pos);
    row_uint(row, "durablePosition", h->durable_pos);
    row_uint(row, "durableNextSequence", h->durable_next_seq);
    row_bool(row, "closed", h->closed == 1);
    row_int(row, "partitions", h->plogs_n);
    out_row(o->json, "", row);
    if (c->rc == 0)
        for (inspect_checkpoint_next(&entries, &e); e.kind < INSPECT_ENTRY_END;
             inspect_checkpoint_next(&entries, &e)) {
            if (e.kind == INSPECT_ENTRY_PLOG)
                show = wanted(o, names, e.plog.number);
            if (show)
                dump_entry(o, names, &e);
        }
    bool whole = c->rc == 0 && c->c.copy_ok[0] && c->c.copy_ok[1] && e.kind == INSPECT_ENTRY_END;
    return whole ? LOG_EXIT_FINE : LOG_EXIT_DAMAGE;
}
