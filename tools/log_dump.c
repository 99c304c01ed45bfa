/* log_dump.c: `penstock log dump`: a broker's data directories, or single things by themselves. */
#include "tools/log_dump.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tools/cmd_log.h"
#include "tools/log_out.h"
#include "tools/log_view.h"

/* ---- what a data directory can be asked for ---- */

static int dump_view_segment(const struct log_options *o, const struct log_view *v, unsigned i)
{
    struct log_segment s;
    if (v->segments[i].end_offset <= o->from_offset || v->segments[i].base_offset >= o->to_offset)
        return LOG_EXIT_FINE;
    int rc = segment_open_view(v, i, LOG_FILE_WINDOW_BYTES, &s);
    if (rc != 0)
        return log_worse(dump_complain(v->p->path == NULL ? v->p->topic : v->p->path, rc),
                         LOG_EXIT_DAMAGE);
    int code = dump_segment(o, &s);
    segment_close(&s);
    return code;
}

static int dump_view(void *arg, struct log_view *v)
{
    const struct log_options *o = arg;
    int code = LOG_EXIT_FINE;
    for (unsigned i = 0; i < v->segments_n; i++)
        code = log_worse(code, dump_view_segment(o, v, i));
    return code;
}

static int dump_shard(void *arg, const struct log_shard *shard)
{
    (void)arg;
    if (shard->rc == 0)
        return LOG_EXIT_FINE;
    fprintf(stderr,
            "penstock log: journal %u cannot be recovered: %s; of its partitions only what is in "
            "files is shown\n",
            shard->id, shard->reason);
    return LOG_EXIT_DAMAGE;
}

static int dump_segments(const struct log_options *o, struct log_tree *t)
{
    struct log_view_calls calls = {dump_shard, dump_view, (void *)(uintptr_t)o};
    return views_run(o, t, &calls);
}

static int dump_indexes(const struct log_options *o, struct log_tree *t)
{
    int code = LOG_EXIT_FINE;
    for (unsigned i = 0; i < t->partitions_n; i++) {
        const struct log_partition *p = &t->partitions[i];
        if (p->path != NULL && p->files_n > 0 && log_options_want(o, p->topic, p->index))
            code = log_worse(code, dump_path(o, p->path));
    }
    return code;
}

static int dump_journals(const struct log_options *o, struct log_tree *t)
{
    int code = LOG_EXIT_FINE;
    for (unsigned i = 0; i < t->journals_n; i++) {
        struct log_journal j;
        journal_open_id(t, t->journals[i], &j);
        code = log_worse(code, dump_journal(o, t, &j));
        journal_close_files(&j);
    }
    return code;
}

static int dump_checkpoints(const struct log_options *o, struct log_tree *t)
{
    int code = LOG_EXIT_FINE;
    for (unsigned i = 0; i < t->journals_n; i++) {
        struct log_journal j;
        journal_open_id(t, t->journals[i], &j);
        for (unsigned k = 0; k < 2; k++)
            if (j.checkpoints[k].rc != -ENOENT)
                code = log_worse(code, dump_checkpoint(o, t, &j.checkpoints[k]));
        journal_close_files(&j);
    }
    return code;
}

static int dump_tree(const struct log_options *o, struct log_tree *t)
{
    if (o->metadata)
        return dump_metadata(o, &t->meta);
    if (o->journal)
        return dump_journals(o, t);
    if (o->checkpoints)
        return dump_checkpoints(o, t);
    return o->indexes ? dump_indexes(o, t) : dump_segments(o, t);
}

/* ---- what the paths are ---- */

/* A directory with a journal, a metadata log, or the properties of one of a broker's. */
static bool is_data_dir(const char *path)
{
    char **names;
    unsigned n;
    bool found = false;
    if (names_list(path, &names, &n) != 0)
        return false;
    for (unsigned i = 0; i < n; i++)
        found |= names[i] != NULL && (strcmp(names[i], "meta.properties") == 0 ||
                                      strncmp(names[i], "journal.", 8) == 0 ||
                                      strncmp(names[i], META_LOG_PREFIX, 18) == 0);
    names_free(names, n);
    return found;
}

int log_dump(const struct log_options *o)
{
    int code = LOG_EXIT_FINE;
    struct log_tree *t;
    if (is_data_dir(o->paths[0])) {
        code = tree_open(o, o->force_read ? TREE_FORCE_READ : TREE_READ, &t);
        if (code != 0)
            return code;
        code = dump_tree(o, t);
        tree_close(t);
    } else {
        for (unsigned i = 0; i < o->paths_n; i++)
            code = log_worse(code, dump_path(o, o->paths[i]));
    }
    return out_close() != 0 ? LOG_EXIT_USAGE : code;
}
