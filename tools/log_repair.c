/* log_repair.c: `penstock log repair`: finds what is wrong (log_check.c), prints what it will do,
 * does it. One row of `actions` for each kind of finding that can be mended. What nothing brings
 * back stays a finding: a start of the broker goes around it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/cmd_log.h"
#include "tools/log_check.h"
#include "tools/log_keep.h"
#include "tools/log_report.h"

struct made_index { /* for a finding, by its number */
    unsigned finding;
    uint8_t *offsets, *times;
    size_t offsets_len, times_len;
    char *offsets_path, *times_path;
};
struct repair {
    struct log_check check;
    struct log_keep keep;
    struct made_index *indexes;
    unsigned indexes_n;
};

/* ---- indexes: made while the segment is open ---- */

static void on_segment(void *arg, const struct log_finding *f, struct log_segment *s)
{
    struct repair *r = arg;
    struct log_check *c = &r->check;
    const struct meta_image *image = c->tree->meta.replay.image;
    struct topic_config config;
    struct made_index made = {.finding = (unsigned)(f - c->findings)};
    struct inspect_walk w = s->walk;
    topic_config_defaults(&config);
    for (unsigned i = 0; image != NULL && i < c->tree->partitions_n; i++) {
        const struct log_partition *p = &c->tree->partitions[i];
        if (p->known != NULL && p->path != NULL &&
            strncmp(p->path, s->log_path, strlen(p->path)) == 0 &&
            s->log_path[strlen(p->path)] == '/')
            config = p->known->config;
    }
    w.pos = 0;
    w.next_offset = w.base_offset;
    struct made_index *more = realloc(r->indexes, (r->indexes_n + 1) * sizeof(*more));
    if (more == NULL || inspect_index_build(&w, config.index_interval_bytes, &made.offsets,
                                            &made.offsets_len, &made.times, &made.times_len) != 0) {
        r->indexes = more != NULL ? more : r->indexes;
        c->no_memory = true;
        return;
    }
    made.offsets_path = strdup(s->index_path);
    made.times_path = strdup(s->timeindex_path);
    c->no_memory |= made.offsets_path == NULL || made.times_path == NULL;
    r->indexes = more;
    r->indexes[r->indexes_n++] = made;
}

/* ---- actions ---- */

static int mend_index(struct repair *r, const struct log_finding *f)
{
    unsigned number = (unsigned)(f - r->check.findings);
    for (unsigned i = 0; i < r->indexes_n; i++) {
        const struct made_index *made = &r->indexes[i];
        if (made->finding != number)
            continue;
        int rc = keep_replace(&r->keep, made->offsets_path, made->offsets, made->offsets_len);
        return rc != 0 ? rc
                       : keep_replace(&r->keep, made->times_path, made->times, made->times_len);
    }
    return -ENOENT;
}

static int mend_tail(struct repair *r, const struct log_finding *f)
{
    return keep_cut(&r->keep, f->path, f->pos);
}

static int mend_metadata(struct repair *r, const struct log_finding *f)
{
    const struct meta_replay *m = &r->check.tree->meta.replay;
    return keep_replace(&r->keep, f->path, m->merged, m->header.size_bytes);
}

static int mend_properties(struct repair *r, const struct log_finding *f)
{
    char other[PATH_MAX];
    uint8_t *text;
    size_t len;
    size_t stem = strlen(f->path) - (f->which == 0 ? 0 : strlen(".copy"));
    snprintf(other, sizeof(other), "%.*s%s", (int)stem, f->path, f->which == 0 ? ".copy" : "");
    int rc = log_file_get(other, 1u << 20, &text, &len);
    if (rc != 0)
        return rc;
    rc = keep_replace(&r->keep, f->path, text, len);
    free(text);
    return rc;
}

/* The bytes at from of the same file, which are whole, over those that are not. */
static int mend_from(struct repair *r, const struct log_finding *f, uint64_t from)
{
    struct log_file file;
    int rc = log_file_open(&file, f->path, 0);
    if (rc != 0)
        return rc;
    const uint8_t *whole = file.bytes.at(&file.bytes, from, f->len_bytes);
    rc = whole == NULL           ? -ENOMEM
         : file.unreadable_n > 0 ? file.unreadable_rc
                                 : keep_overwrite(&r->keep, f->path, f->pos, whole, f->len_bytes);
    log_file_close(&file);
    return rc;
}

static int mend_super(struct repair *r, const struct log_finding *f)
{
    return mend_from(r, f, f->which == 0 ? BLOCK_BYTES : 0);
}

static int mend_checkpoint(struct repair *r, const struct log_finding *f)
{
    return mend_from(r, f, f->which == 0 ? f->len_bytes : 0);
}

static int mend_stale(struct repair *r, const struct log_finding *f)
{
    static const char *const suffixes[] = {".log", ".index", ".timeindex"};
    char path[PATH_MAX];
    int rc = 0;
    for (unsigned i = 0; (rc == 0 || rc == -ENOENT) && i < ARRAY_LEN(suffixes); i++) {
        snprintf(path, sizeof(path), "%.*s%s", (int)(strlen(f->path) - 4), f->path, suffixes[i]);
        rc = keep_move(&r->keep, path);
    }
    return rc == -ENOENT ? 0 : rc;
}

static int mend_stray(struct repair *r, const struct log_finding *f)
{
    return keep_move(&r->keep, f->path);
}

static const struct {
    const char *what;
    int (*run)(struct repair *r, const struct log_finding *f);
} actions[FINDING_KINDS] = {
    [FINDING_INDEX] = {"make the index files anew", mend_index},
    [FINDING_TAIL] = {"cut the file to its last batch", mend_tail},
    [FINDING_META_COPY] = {"restore it from the other copy", mend_metadata},
    [FINDING_PROPERTIES_COPY] = {"restore it from the other copy", mend_properties},
    [FINDING_SUPER_COPY] = {"restore it from the other superblock", mend_super},
    [FINDING_CHECKPOINT_COPY] = {"restore it from the other copy", mend_checkpoint},
    [FINDING_STALE] = {"remove the files", mend_stale},
    [FINDING_STRAY] = {"remove it", mend_stray},
};

static bool has_action(const struct log_finding *f)
{
    bool ours = (f->kind != FINDING_STRAY && f->kind != FINDING_STALE) || f->movable;
    return actions[f->kind].run != NULL && ours;
}

/* ---- plan and report ---- */

static void plan_text(const struct repair *r, bool dry_run)
{
    for (unsigned i = 0; i < r->check.findings_n; i++) {
        const struct log_finding *f = &r->check.findings[i];
        if (has_action(f))
            printf("%s %s: ", dry_run ? "would" : "will", actions[f->kind].what);
        else
            printf("cannot be mended: ");
        finding_text(f);
    }
}

static struct json_object *finding_plan(const struct log_finding *f, bool dry_run, int rc)
{
    struct json_object *row = finding_row(f);
    row_text(row, "action", has_action(f) ? actions[f->kind].what : NULL);
    row_bool(row, "done", has_action(f) && !dry_run && rc == 0);
    if (rc != 0)
        row_text(row, "error", strerror(-rc));
    return row;
}

static void kept_report(const struct repair *r, struct json_object *kept)
{
    char path[PATH_MAX];
    for (unsigned i = 0; i <= r->check.tree->dirs.data_n; i++) {
        if (keep_folder(&r->keep, i, path) == NULL)
            continue;
        if (kept != NULL)
            json_object_array_add(kept, json_object_new_string(path));
        else
            printf("kept in %s\n", path);
    }
}

/* Damage that is still there afterwards. */
static unsigned plan_run(struct repair *r, bool dry_run, struct json_object *plan)
{
    unsigned left = 0;
    for (unsigned i = 0; i < r->check.findings_n; i++) {
        const struct log_finding *f = &r->check.findings[i];
        bool act = has_action(f) && !dry_run;
        int rc = act ? actions[f->kind].run(r, f) : 0;
        left += (!act || rc != 0) && (finding_is_damage(f) || rc != 0);
        if (rc != 0)
            fprintf(stderr, "penstock log: %s: %s: %s\n", actions[f->kind].what,
                    f->path == NULL ? "" : f->path, strerror(-rc));
        if (plan != NULL)
            json_object_array_add(plan, finding_plan(f, dry_run, rc));
    }
    return left;
}

static unsigned repair_text(struct repair *r, bool dry_run)
{
    plan_text(r, dry_run);
    if (r->check.findings_n == 0)
        puts("nothing to mend");
    fflush(stdout); /* the plan is to be seen before anything is done */
    unsigned left = plan_run(r, dry_run, NULL);
    kept_report(r, NULL);
    if (left > 0)
        printf("%u damages are left\n", left);
    return left;
}

static unsigned repair_json(struct repair *r, bool dry_run)
{
    struct json_object *doc = row_new(NULL), *plan = json_object_new_array(),
                       *kept = json_object_new_array();
    unsigned left = plan_run(r, dry_run, plan);
    kept_report(r, kept);
    row_bool(doc, "dryRun", dry_run);
    row_add(doc, "plan", plan);
    row_add(doc, "kept", kept);
    row_int(doc, "damagesLeft", left);
    out_document(doc);
    json_object_put(doc);
    return left;
}

static void indexes_free(struct repair *r)
{
    for (unsigned i = 0; i < r->indexes_n; i++) {
        free(r->indexes[i].offsets);
        free(r->indexes[i].times);
        free(r->indexes[i].offsets_path);
        free(r->indexes[i].times_path);
    }
    free(r->indexes);
}

int log_repair(const struct log_options *o)
{
    struct log_tree *t;
    struct repair r = {.check = {.on_segment = on_segment}};
    r.check.on_segment_arg = &r;
    int code = tree_open(o, o->dry_run ? TREE_READ : TREE_WRITE, &t);
    if (code != 0)
        return code;
    keep_init(&r.keep, t);
    code = check_run(&r.check, o, t);
    if (code == LOG_EXIT_FINE) {
        unsigned left = o->json ? repair_json(&r, o->dry_run) : repair_text(&r, o->dry_run);
        code = left > 0 ? LOG_EXIT_DAMAGE : LOG_EXIT_FINE;
    }
    indexes_free(&r);
    check_free(&r.check);
    tree_close(t);
    return out_close() != 0 ? LOG_EXIT_USAGE : code;
}
