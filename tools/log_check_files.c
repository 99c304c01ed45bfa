/* log_check_files.c: what is kept twice (metadata, superblocks, checkpoints, headers and records of
 * journal writes), and what belongs to nobody. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/log_check.h"

static const char *const copy_names[] = {"first", "second"};

void check_metadata(struct log_check *c)
{
    struct log_metadata *m = &c->tree->meta;
    char what[256];
    if (m->rc != 0)
        finding_add(c, FINDING_BROKEN, m->names[0], m->reason);
    for (unsigned i = 0; m->rc == 0 && i < META_LOG_COPIES; i++) {
        const struct meta_copy *copy = &m->replay.copy[i];
        if (copy->whole)
            continue;
        snprintf(what, sizeof(what), "this copy of the metadata log %s; the other one is whole",
                 !copy->exists     ? "is missing"
                 : copy->odd_size  ? "has a wrong size"
                 : copy->header_ok ? "is torn or damaged"
                                   : "has a damaged header");
        struct log_finding *f = finding_add(c, FINDING_META_COPY, m->names[i], what);
        f->pos = copy->header_ok ? copy->break_pos : 0;
        f->which = i;
    }
}

/* ---- journals ---- */

struct journal_sums {
    uint64_t writes, records, damaged_records, copies_left;
};

/* Damage to what is whole in the other copy is told by the write, not by the byte. */
static void check_write(struct log_check *c, const struct log_journal *j,
                        const struct inspect_write *w, struct journal_sums *sums)
{
    char what[256];
    struct journal_record rec;
    struct journal_record_iter it;
    unsigned bodies = 0;
    const uint8_t *bytes = inspect_write_bytes(&j->j, w);
    if (bytes == NULL) {
        c->no_memory = true;
        return;
    }
    journal_records_begin(&it, bytes, &w->h);
    while (journal_record_next(&it, &rec)) {
        sums->records++;
        bodies += !journal_record_intact(bytes, &rec);
    }
    sums->writes++;
    sums->damaged_records += bodies + it.damaged_n;
    if (w->first_ok && w->last_ok && bodies == 0 && it.damaged_n == 0)
        return;
    const char *header = w->first_ok && w->last_ok ? ""
                         : w->first_ok             ? ", the last copy of its header"
                                                   : ", the first copy of its header";
    snprintf(
        what, sizeof(what),
        "journal write %llu is damaged: %u bodies, %u records%s; what is lost by it is said of "
        "its partitions",
        (unsigned long long)w->h.seq, bodies, it.damaged_n, header);
    struct log_finding *f = finding_add(c, FINDING_COPY_LEFT, j->path, what);
    f->pos = w->place;
    f->len_bytes = w->h.len_bytes;
}

static void check_chain(struct log_check *c, const struct log_journal *j, struct journal_sums *sums)
{
    char what[256];
    for (unsigned i = j->tail_i; i < j->tail_i + j->chain_n; i++) {
        uint64_t seq = j->j.writes[i].h.seq;
        check_write(c, j, &j->j.writes[i], sums);
        if (i == j->tail_i || seq == j->j.writes[i - 1].h.seq + 1)
            continue;
        snprintf(what, sizeof(what), "journal writes %llu to %llu cannot be found",
                 (unsigned long long)j->j.writes[i - 1].h.seq + 1, (unsigned long long)seq - 1);
        finding_add(c, FINDING_COPY_LEFT, j->path, what)->pos =
            j->j.writes[i - 1].place + j->j.writes[i - 1].h.len_bytes;
    }
}

static void check_supers(struct log_check *c, const struct log_journal *j)
{
    char what[128];
    for (unsigned i = 0; i < 2; i++) {
        if (j->j.super_ok[i] || !j->j.super_ok[!i])
            continue;
        snprintf(what, sizeof(what), "the %s superblock is damaged; the other one is whole",
                 copy_names[i]);
        struct log_finding *f = finding_add(c, FINDING_SUPER_COPY, j->path, what);
        f->pos = i * BLOCK_BYTES;
        f->len_bytes = BLOCK_BYTES;
        f->which = i;
    }
}

static void check_checkpoints(struct log_check *c, const struct log_journal *j)
{
    char what[128];
    for (unsigned k = 0; k < 2; k++) {
        const struct log_checkpoint *cp = &j->checkpoints[k];
        uint64_t half = checkpoint_copy_at(block_floor(cp->file.bytes.size_bytes));
        if (cp->rc != 0 && cp->rc != -ENOENT)
            finding_add(c, FINDING_BROKEN, cp->path,
                        cp->rc == -EBADMSG ? "neither copy in this checkpoint is whole"
                                           : strerror(-cp->rc));
        for (unsigned i = 0; cp->rc == 0 && i < 2; i++) {
            if (cp->c.copy_ok[i])
                continue;
            snprintf(what, sizeof(what), "the %s copy in this checkpoint is damaged or torn%s",
                     copy_names[i], cp == j->newest ? "" : " (of an older generation)");
            struct log_finding *f = finding_add(c, FINDING_CHECKPOINT_COPY, cp->path, what);
            f->pos = i * half;
            f->len_bytes = half;
            f->which = i;
        }
    }
}

static void check_journal(struct log_check *c, unsigned id)
{
    struct log_journal j;
    struct journal_sums sums = {0};
    struct json_object *row = row_new(NULL);
    journal_open_id(c->tree, id, &j);
    if (j.rc == -ENOENT)
        finding_add(c, FINDING_BROKEN, j.path,
                    "this journal is missing: what it held of its partitions is lost");
    else if (j.rc != 0)
        finding_add(c, FINDING_BROKEN, j.path,
                    j.rc == -EBADMSG ? "both superblocks are damaged, or the file is too short"
                                     : strerror(-j.rc));
    check_supers(c, &j);
    check_checkpoints(c, &j);
    check_chain(c, &j, &sums);
    row_int(row, "journal", id);
    row_uint(row, "writes", sums.writes);
    row_uint(row, "records", sums.records);
    row_uint(row, "damagedRecords", sums.damaged_records);
    json_object_array_add(c->journals, row);
    journal_close_files(&j);
}

void check_journals(struct log_check *c)
{
    const struct meta_image *image = c->tree->meta.replay.image;
    unsigned shards = image == NULL ? 0 : image->shards;
    for (unsigned id = 0; id < shards; id++)
        check_journal(c, id);
    for (unsigned i = 0; i < c->tree->journals_n; i++)
        if (c->tree->journals[i] >= shards)
            check_journal(c, c->tree->journals[i]);
}

/* ---- strays ---- */

void check_strays(struct log_check *c)
{
    for (unsigned i = 0; i < c->tree->strays_n; i++) {
        const struct log_stray *s = &c->tree->strays[i];
        finding_add(c, FINDING_STRAY, s->path, s->why)->movable =
            s->removable && c->tree->meta.rc == 0;
    }
}

void check_properties(struct log_check *c)
{
    static const char *const names[] = {"meta.properties", "meta.properties.copy"};
    char path[PATH_MAX + 32];
    for (unsigned i = 0; i < c->tree->dirs.data_n; i++) {
        const struct log_properties *p = &c->tree->properties[i];
        unsigned which = p->rc == 0 ? !p->good : 0;
        snprintf(path, sizeof(path), "%s/%s", c->tree->dirs.data[i].path, names[which]);
        if (p->rc == 0 && !p->twice)
            finding_add(c, FINDING_PROPERTIES_COPY, path,
                        "damaged or missing; the other one is whole")
                ->which = which;
        else if (p->rc != 0 && c->tree->meta.rc == 0)
            finding_add(c, FINDING_BROKEN, path,
                        p->rc == -ENOENT ? "missing, and so is its copy: nobody can tell which "
                                           "cluster's directory this is"
                                         : "damaged, and so is its copy");
    }
}
