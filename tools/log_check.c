/* log_check.c: partitions: every batch of every segment, its indexes, and what is missing between.
 */
#include "tools/log_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/log/verify.h"
#include "tools/log_rows.h"

bool finding_is_damage(const struct log_finding *f)
{
    return f->kind != FINDING_STALE && f->kind != FINDING_STRAY;
}

struct log_finding *finding_add(struct log_check *c, enum finding_kind kind, const char *path,
                                const char *what)
{
    static struct log_finding lost; /* written to when there is no memory */
    struct log_finding *more = realloc(c->findings, (c->findings_n + 1) * sizeof(*more));
    if (more == NULL) {
        c->no_memory = true;
        return &lost;
    }
    c->findings = more;
    struct log_finding *f = &more[c->findings_n++];
    *f = (struct log_finding){
        .kind = kind, .path = path == NULL ? NULL : strdup(path), .what = strdup(what)};
    c->no_memory |= f->what == NULL || (path != NULL && f->path == NULL);
    return f;
}

static struct log_finding *partition_finding(struct log_check *c, enum finding_kind kind,
                                             const struct log_view *v, const char *path,
                                             const char *what)
{
    struct log_finding *f = finding_add(c, kind, path, what);
    if (asprintf(&f->partition, "%s-%d", v->p->topic, v->p->index) < 0) {
        f->partition = NULL;
        c->no_memory = true;
    }
    return f;
}

/* ---- a segment ---- */

struct partition_sums {
    uint64_t batches, records, lost_offsets;
    int64_t next_offset; /* the next segment begins with it; -1: not known */
};

static void lost(struct log_check *c, const struct log_view *v, struct partition_sums *sums,
                 const char *path, const struct inspect_piece *piece)
{
    struct log_finding *f = partition_finding(c, FINDING_LOST, v, path, piece->what);
    f->first_offset = piece->first_offset;
    f->end_offset = piece->end_offset;
    f->pos = piece->pos;
    f->len_bytes = piece->len_bytes;
    sums->lost_offsets += (uint64_t)(piece->end_offset - piece->first_offset);
}

static void lost_between(struct log_check *c, const struct log_view *v, struct partition_sums *sums,
                         int64_t first, int64_t end, const char *what)
{
    struct inspect_piece piece = {.first_offset = first, .end_offset = end, .what = what};
    if (first >= 0 && first < end)
        lost(c, v, sums, NULL, &piece);
}

static void take_batch(struct log_check *c, const struct log_view *v, struct partition_sums *sums,
                       struct log_segment *s, const struct inspect_piece *piece)
{
    struct inspect_piece bad = *piece;
    bad.what = "records that cannot be read, under a right checksum";
    sums->batches++;
    sums->records += (uint64_t)piece->h.record_count;
    inspect_index_batch(&s->index, piece->pos, &piece->h);
    if (c->options->deep_iteration && records_check(piece->data, &piece->h) != 0)
        lost(c, v, sums, s->log_path, &bad);
}

/* Damage at the end of a sealed file that takes no offset is what somebody left there. */
static void take_damage(struct log_check *c, const struct log_view *v, struct partition_sums *sums,
                        struct log_segment *s, const struct inspect_piece *piece)
{
    inspect_index_damage(&s->index, piece);
    bool at_end = v->plog != NULL && s->in_file_pos == s->walk.end_pos &&
                  piece->pos + piece->len_bytes == s->walk.end_pos;
    if (piece->first_offset < piece->end_offset || !at_end) {
        lost(c, v, sums, piece->pos >= s->in_file_pos ? NULL : s->log_path, piece);
        return;
    }
    struct log_finding *f = partition_finding(c, FINDING_TAIL, v, s->log_path,
                                              "bytes behind the last batch of a sealed segment");
    f->pos = piece->pos;
    f->len_bytes = piece->len_bytes;
    f->base_offset = s->base_offset;
}

static void take_index(struct log_check *c, const struct log_view *v, struct log_segment *s)
{
    const struct inspect_index *ix = &s->index;
    char what[256];
    if (ix->offsets_what == NULL && ix->times_what == NULL)
        return;
    bool offsets = ix->offsets_what != NULL;
    snprintf(what, sizeof(what), "%s index, entry %u: %s", offsets ? "offset" : "time",
             offsets ? ix->offsets_bad : ix->times_bad,
             offsets ? ix->offsets_what : ix->times_what);
    struct log_finding *f =
        partition_finding(c, FINDING_INDEX, v, offsets ? s->index_path : s->timeindex_path, what);
    f->base_offset = s->base_offset;
    if (c->on_segment != NULL)
        c->on_segment(c->on_segment_arg, f, s);
}

static void take_file_end(struct log_check *c, const struct log_view *v,
                          const struct inspect_segment *seg, const struct log_segment *s)
{
    const struct log_segment_file *file = view_file(v, seg->base_offset);
    if (!seg->sealed || v->plog == NULL || file == NULL || file->file_bytes <= seg->end_pos)
        return;
    struct log_finding *f = partition_finding(c, FINDING_TAIL, v, s->log_path,
                                              "bytes behind the end of a sealed segment");
    f->pos = seg->end_pos;
    f->len_bytes = file->file_bytes - seg->end_pos;
    f->base_offset = seg->base_offset;
}

static void check_walk(struct log_check *c, const struct log_view *v, struct partition_sums *sums,
                       struct log_segment *s)
{
    struct inspect_piece piece;
    for (inspect_walk_next(&s->walk, &piece); piece.kind != INSPECT_END;
         inspect_walk_next(&s->walk, &piece))
        if (piece.kind == INSPECT_BATCH)
            take_batch(c, v, sums, s, &piece);
        else
            take_damage(c, v, sums, s, &piece);
    inspect_index_end(&s->index);
    sums->next_offset = s->walk.next_offset;
}

static void check_segment(struct log_check *c, const struct log_view *v, unsigned i,
                          struct partition_sums *sums)
{
    const struct inspect_segment *seg = &v->segments[i];
    struct log_segment s;
    lost_between(c, v, sums, sums->next_offset, seg->base_offset, "no segment has them");
    int rc = segment_open_view(v, i, LOG_FILE_WINDOW_BYTES, &s);
    if (rc != 0) {
        char what[256];
        snprintf(what, sizeof(what), "the file of segment %lld cannot be opened: %s",
                 (long long)seg->base_offset, strerror(-rc));
        lost_between(c, v, sums, seg->base_offset, seg->end_offset, what);
        sums->next_offset = seg->end_offset;
        return;
    }
    check_walk(c, v, sums, &s);
    const struct log_segment_file *file = view_file(v, seg->base_offset);
    bool as_found = file != NULL && file->file_bytes == seg->file_bytes;
    if (seg->sealed && as_found) { /* else recovery has just sealed it */
        take_file_end(c, v, seg, &s);
        take_index(c, v, &s);
    }
    segment_close(&s);
}

/* ---- a partition ---- */

/* Where anything is lost, what explained a file may be lost with it: then it stays. */
static bool all_whole(const struct log_check *c)
{
    bool whole = true;
    for (unsigned i = 0; i < c->findings_n; i++)
        whole &= c->findings[i].kind != FINDING_LOST && c->findings[i].kind != FINDING_BROKEN &&
                 c->findings[i].kind != FINDING_COPY_LEFT;
    return whole;
}

static void check_stale(struct log_check *c, const struct log_view *v)
{
    char path[PATH_MAX];
    bool whole = all_whole(c);
    for (unsigned i = 0; v->plog != NULL && i < v->p->files_n; i++) {
        bool known = false;
        for (unsigned k = 0; k < v->segments_n; k++)
            known |= v->segments[k].base_offset == v->p->files[i].base_offset;
        if (known)
            continue;
        snprintf(path, sizeof(path), "%.3900s/%020lld.log", v->p->path,
                 (long long)v->p->files[i].base_offset);
        struct log_finding *f = partition_finding(
            c, FINDING_STALE, v, path,
            whole ? "files of a segment that never counted"
                  : "nothing that can be read says what this segment holds; a start puts it aside");
        f->base_offset = v->p->files[i].base_offset;
        f->movable = whole;
    }
}

/* What recovery has to say of the partition as a whole. */
static void check_log(struct log_check *c, const struct log_view *v, struct partition_sums *sums)
{
    const struct inspect_log *log = &v->log;
    char what[256];
    if (v->plog == NULL)
        return;
    lost_between(c, v, sums, sums->next_offset, log->end_offset, "no segment has them");
    if (log->doubtful_end > log->end_offset) {
        snprintf(
            what, sizeof(what),
            "journal writes that the crash tore, or that were damaged since: not known whether "
            "they were acknowledged");
        lost_between(c, v, sums, log->end_offset, log->doubtful_end, what);
    }
    if (log->fenced != 0) {
        snprintf(what, sizeof(what), "takes no records any more: %s", strerror(-log->fenced));
        partition_finding(c, FINDING_BROKEN, v, v->p->path, what);
    }
    if (log->epochs_n > 0 && log->epochs[log->epochs_n - 1].epoch > log->leader_epoch) {
        snprintf(what, sizeof(what), "leader epoch %d in the log is above the %d of the metadata",
                 log->epochs[log->epochs_n - 1].epoch, log->leader_epoch);
        partition_finding(c, FINDING_BROKEN, v, v->p->path, what);
    }
}

static int check_view(void *arg, struct log_view *v)
{
    struct log_check *c = arg;
    struct partition_sums sums = {.next_offset = v->plog == NULL ? -1 : v->log.log_start};
    for (unsigned i = 0; i < v->segments_n; i++)
        check_segment(c, v, i, &sums);
    check_log(c, v, &sums);
    check_stale(c, v);
    struct json_object *row = row_new(NULL);
    row_text(row, "topic", v->p->topic);
    row_int(row, "partition", v->p->index);
    if (v->plog != NULL) {
        row_int(row, "logStartOffset", v->log.log_start);
        row_int(row, "endOffset", v->log.end_offset);
        row_int(row, "leaderEpoch", v->log.leader_epoch);
    }
    row_int(row, "segments", v->segments_n);
    row_uint(row, "batches", sums.batches);
    row_uint(row, "records", sums.records);
    row_uint(row, "lostOffsets", sums.lost_offsets);
    json_object_array_add(c->partitions, row);
    c->batches += sums.batches;
    c->records += sums.records;
    c->lost_offsets += sums.lost_offsets;
    return LOG_EXIT_FINE;
}

static int check_shard(void *arg, const struct log_shard *shard)
{
    struct log_check *c = arg;
    char what[640];
    if (shard->rc == 0)
        return LOG_EXIT_FINE;
    snprintf(what, sizeof(what), "journal %u cannot be recovered: %s", shard->id, shard->reason);
    finding_add(c, FINDING_BROKEN, NULL, what)->which = shard->id;
    return LOG_EXIT_FINE;
}

/* ---- the whole ---- */

int check_run(struct log_check *c, const struct log_options *o, struct log_tree *t)
{
    struct log_view_calls calls = {check_shard, check_view, c};
    c->options = o;
    c->tree = t;
    c->partitions = json_object_new_array();
    c->journals = json_object_new_array();
    check_properties(c);
    check_metadata(c);
    check_journals(c);
    int code = views_run(o, t, &calls);
    check_strays(c);
    if (c->no_memory) {
        fputs("penstock log: out of memory\n", stderr);
        return LOG_EXIT_USAGE;
    }
    return code;
}

void check_free(struct log_check *c)
{
    for (unsigned i = 0; i < c->findings_n; i++) {
        free(c->findings[i].path);
        free(c->findings[i].partition);
        free(c->findings[i].what);
    }
    free(c->findings);
    json_object_put(c->partitions);
    json_object_put(c->journals);
}
