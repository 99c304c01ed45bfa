/* log_ls.c: `penstock log ls`: one document of all that is there, as JSON or by log_ls_text.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/cmd_log.h"
#include "tools/log_journal.h"
#include "tools/log_ls.h"
#include "tools/log_out.h"
#include "tools/log_view.h"

struct listing {
    const struct log_tree *tree;
    struct json_object *partitions, *journals;
    uint64_t segments, batches, records, file_bytes, disk_bytes;
    bool damaged;
};

/* ---- a segment ---- */

struct segment_sums {
    uint64_t batches, records;
    int64_t min_timestamp, max_timestamp; /* -1: no batch */
    bool damaged;
};

static void batch_sum(struct segment_sums *sums, const struct batch_header *h)
{
    int64_t first = batch_is_log_append_time(h->attributes) ? h->max_timestamp : h->base_timestamp;
    sums->batches++;
    sums->records += (uint64_t)h->record_count;
    sums->max_timestamp = MAX(sums->max_timestamp, h->max_timestamp);
    if (sums->min_timestamp < 0 || first < sums->min_timestamp)
        sums->min_timestamp = first;
}

static void segment_walk(struct log_segment *s, struct segment_sums *sums)
{
    struct inspect_piece piece;
    s->walk.headers_only = true;
    for (inspect_walk_next(&s->walk, &piece); piece.kind != INSPECT_END;
         inspect_walk_next(&s->walk, &piece)) {
        if (piece.kind == INSPECT_BATCH) {
            batch_sum(sums, &piece.h);
            inspect_index_batch(&s->index, piece.pos, &piece.h);
        } else {
            sums->damaged = true;
            inspect_index_damage(&s->index, &piece);
        }
    }
    inspect_index_end(&s->index);
}

static const char *index_state(const struct log_segment *s)
{
    if (s->offsets == NULL || s->times == NULL)
        return "missing";
    return s->index.offsets_what == NULL && s->index.times_what == NULL ? "ok" : "damaged";
}

static void segment_state(struct json_object *row, const struct log_view *v,
                          const struct inspect_segment *seg, const struct log_segment *s)
{
    bool known = v->plog != NULL;
    row_text(row, "state", seg->sealed ? "sealed" : known ? "open" : "unknown");
    row_text(row, "index", seg->sealed ? index_state(s) : "none");
}

static struct json_object *segment_row(struct listing *l, const struct log_view *v, unsigned i)
{
    const struct inspect_segment *seg = &v->segments[i];
    const struct log_segment_file *file = view_file(v, seg->base_offset);
    struct json_object *row = row_new(NULL);
    struct segment_sums sums = {.min_timestamp = -1, .max_timestamp = -1};
    struct log_segment s;
    row_int(row, "baseOffset", seg->base_offset);
    int rc = segment_open_view(v, i, LOG_FILE_HEADERS_BYTES, &s);
    if (rc != 0) {
        row_text(row, "error", strerror(-rc));
        l->damaged = true;
        return row;
    }
    segment_walk(&s, &sums);
    row_int(row, "endOffset", s.walk.next_offset);
    row_uint(row, "fileBytes", file == NULL ? 0 : file->file_bytes);
    row_uint(row, "diskBytes", file == NULL ? 0 : file->disk_bytes);
    row_uint(row, "validBytes", s.walk.pos);
    row_uint(row, "journalBytes", seg->end_pos - MIN(seg->in_file_pos, seg->end_pos));
    row_uint(row, "batches", sums.batches);
    row_uint(row, "records", sums.records);
    row_int(row, "minTimestamp", sums.min_timestamp);
    row_int(row, "maxTimestamp", sums.max_timestamp);
    segment_state(row, v, seg, &s);
    row_bool(row, "damaged", sums.damaged);
    l->segments++;
    l->batches += sums.batches;
    l->records += sums.records;
    l->damaged |= sums.damaged || (seg->sealed && strcmp(index_state(&s), "damaged") == 0);
    segment_close(&s);
    return row;
}

/* ---- a partition ---- */

static bool is_segment(const struct log_view *v, int64_t base_offset)
{
    for (unsigned i = 0; i < v->segments_n; i++)
        if (v->segments[i].base_offset == base_offset)
            return true;
    return false;
}

/* Files of segments that do not exist any more, or never counted. */
static struct json_object *stale_row(const struct log_segment_file *file)
{
    struct json_object *row = row_new(NULL);
    row_int(row, "baseOffset", file->base_offset);
    row_uint(row, "fileBytes", file->file_bytes);
    row_uint(row, "diskBytes", file->disk_bytes);
    row_text(row, "state", "stale");
    return row;
}

static int ls_view(void *arg, struct log_view *v)
{
    struct listing *l = arg;
    struct json_object *row = row_new(NULL), *segments = json_object_new_array();
    row_text(row, "topic", v->p->topic);
    row_int(row, "partition", v->p->index);
    row_text(row, "path", v->p->path);
    if (v->meta != NULL) {
        row_uint(row, "number", v->meta->number);
        row_int(row, "shard", v->meta->shard);
        row_int(row, "leaderEpoch", v->meta->leader_epoch);
    }
    if (v->plog != NULL) {
        row_int(row, "logStartOffset", v->log.log_start);
        row_int(row, "endOffset", v->log.end_offset);
        row_int(row, "producers", v->log.producers_n);
    }
    for (unsigned i = 0; i < v->segments_n; i++)
        json_object_array_add(segments, segment_row(l, v, i));
    for (unsigned i = 0; i < v->p->files_n; i++) {
        const struct log_segment_file *file = &v->p->files[i];
        l->file_bytes += file->file_bytes;
        l->disk_bytes += file->disk_bytes;
        if (!is_segment(v, file->base_offset))
            json_object_array_add(segments, stale_row(file));
    }
    row_add(row, "segments", segments);
    json_object_array_add(l->partitions, row);
    return LOG_EXIT_FINE;
}

static int ls_shard(void *arg, const struct log_shard *shard)
{
    struct listing *l = arg;
    struct json_object *row = journal_row(l->tree, shard->id);
    if (shard->rc != 0)
        row_text(row, "error", shard->reason);
    l->damaged |= shard->rc != 0;
    json_object_array_add(l->journals, row);
    return LOG_EXIT_FINE;
}

/* ---- the document ---- */

static struct json_object *metadata_row(const struct log_metadata *m)
{
    struct json_object *row = row_new(NULL);
    const struct meta_image *image = m->replay.image;
    char id[23];
    row_uint(row, "generation", m->generation);
    if (m->rc != 0)
        row_text(row, "error", m->reason);
    if (image == NULL)
        return row;
    meta_uuid_text(&image->cluster_id, id);
    row_text(row, "clusterId", id);
    row_uint(row, "version", image->version);
    row_int(row, "shards", image->shards);
    row_int(row, "topics", image->topics_n);
    row_uint(row, "partitions", image->partitions_total);
    row_int(row, "nextProducerId", image->next_producer_id);
    row_bool(row, "cleanStop", image->clean);
    return row;
}

static struct json_object *dirs_rows(const struct log_tree *t)
{
    struct json_object *rows = json_object_new_array();
    for (unsigned i = 0; i < t->dirs.data_n; i++) {
        const struct serve_dir *dir = &t->dirs.data[i];
        struct json_object *row = row_new(NULL);
        char id[23];
        meta_uuid_text(&dir->id, id);
        row_text(row, "path", dir->path);
        row_text(row, "directoryId", dir->has_properties ? id : NULL);
        json_object_array_add(rows, row);
    }
    return rows;
}

static struct json_object *pools_rows(struct listing *l)
{
    struct json_object *rows = json_object_new_array();
    for (unsigned i = 0; i < l->tree->pools_n; i++) {
        const struct log_pool *pool = &l->tree->pools[i];
        struct json_object *row = row_new(NULL);
        row_text(row, "path", pool->path);
        row_int(row, "files", pool->files_n);
        row_uint(row, "fileBytes", pool->bytes);
        row_uint(row, "diskBytes", pool->disk_bytes);
        json_object_array_add(rows, row);
    }
    return rows;
}

static struct json_object *strays_rows(const struct log_tree *t)
{
    struct json_object *rows = json_object_new_array();
    for (unsigned i = 0; i < t->strays_n; i++) {
        struct json_object *row = row_new(NULL);
        row_text(row, "path", t->strays[i].path);
        row_text(row, "why", t->strays[i].why);
        json_object_array_add(rows, row);
    }
    return rows;
}

static struct json_object *totals_row(const struct listing *l)
{
    struct json_object *row = row_new(NULL);
    row_uint(row, "partitions", json_object_array_length(l->partitions));
    row_uint(row, "segments", l->segments);
    row_uint(row, "batches", l->batches);
    row_uint(row, "records", l->records);
    row_uint(row, "fileBytes", l->file_bytes);
    row_uint(row, "diskBytes", l->disk_bytes);
    return row;
}

static int row_compare(const void *a, const void *b)
{
    struct json_object *const *x = a, *const *y = b;
    int by_topic = strcmp(row_get_text(*x, "topic"), row_get_text(*y, "topic"));
    int64_t i = row_get(*x, "partition"), k = row_get(*y, "partition");
    return by_topic != 0 ? by_topic : (i > k) - (i < k);
}

static struct json_object *document(struct listing *l)
{
    struct json_object *doc = row_new(NULL);
    json_object_array_sort(l->partitions, row_compare);
    row_add(doc, "metadata", metadata_row(&l->tree->meta));
    row_add(doc, "dataDirs", dirs_rows(l->tree));
    row_text(doc, "journalDir", l->tree->journal_dir);
    row_add(doc, "partitions", l->partitions);
    row_add(doc, "journals", l->journals);
    row_add(doc, "pools", pools_rows(l));
    row_add(doc, "strays", strays_rows(l->tree));
    row_add(doc, "totals", totals_row(l));
    return doc;
}

int log_ls(const struct log_options *o)
{
    struct log_tree *t;
    int code = tree_open(o, o->force_read ? TREE_FORCE_READ : TREE_READ, &t);
    if (code != 0)
        return code;
    struct listing l = {
        .tree = t, .partitions = json_object_new_array(), .journals = json_object_new_array()};
    struct log_view_calls calls = {ls_shard, ls_view, &l};
    code = views_run(o, t, &calls);
    struct json_object *doc = document(&l);
    if (o->json)
        out_document(doc);
    else
        ls_text(doc);
    json_object_put(doc);
    if (l.damaged || (t->meta.rc != 0 && t->meta.rc != -ENOENT))
        code = log_worse(code, LOG_EXIT_DAMAGE);
    tree_close(t);
    return out_close() != 0 ? LOG_EXIT_USAGE : code;
}
