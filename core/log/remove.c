/* remove.c: deletion of a partition. Its name is free again when the directory has been renamed,
 * durably; the files then go to the pool or away. Waits until nothing is in flight on it. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"

struct pooled { /* a segment file that the pool would take */
    char name[32];
    uint64_t bytes;
    const char *pool_path; /* once offered */
};
struct removal { /* the directory after its rename; outlives the plog */
    struct log_store *store;
    struct env_op op;
    unsigned dir;
    char path[PATH_MAX];
    struct env_name_step *steps;
    char (*paths)[PATH_MAX];
    unsigned steps_n, paths_n;
    struct pooled *pooled;
    unsigned pooled_n;
};

static void removal_free(struct removal *r)
{
    r->store->jobs_n--;
    free(r->steps);
    free(r->paths);
    free(r->pooled);
    free(r);
}

static void on_directory_gone(struct env_op *op)
{
    struct removal *r = container_of(op, struct removal, op);
    if (op->res != 0)
        log_warn("%s: not all of a deleted partition could be removed (%s)", r->path,
                 strerror(-op->res));
    for (unsigned i = 0; op->res == 0 && i < r->pooled_n; i++)
        if (r->pooled[i].pool_path != NULL)
            pool_added(r->store, r->dir, r->pooled[i].pool_path);
    removal_free(r);
}

static struct env_name_step *removal_step(struct removal *r, enum env_step_kind kind,
                                          const char *path)
{
    struct env_name_step *step = &r->steps[r->steps_n++];
    *step = (struct env_name_step){.kind = kind, .path = path};
    return step;
}

static struct pooled *pooled_find(struct removal *r, const char *name)
{
    for (unsigned i = 0; i < r->pooled_n; i++)
        if (strcmp(r->pooled[i].name, name) == 0)
            return &r->pooled[i];
    return NULL;
}

static void removal_entry(struct removal *r, const char *name)
{
    char *from = r->paths[r->paths_n++], *to = r->paths[r->paths_n];
    struct pooled *pooled = pooled_find(r, name);
    snprintf(from, PATH_MAX, "%.3800s/%.200s", r->path, name);
    if (pooled == NULL || !pool_offer(r->store, r->dir, pooled->bytes, to, PATH_MAX)) {
        removal_step(r, ENV_STEP_UNLINK, from);
        return;
    }
    r->paths_n++;
    pooled->pool_path = to;
    removal_step(r, ENV_STEP_RENAME, from)->path2 = to;
    removal_step(r, ENV_STEP_RESIZE, to)->size_bytes = pooled->bytes;
}

static void on_directory_listed(struct env_op *op)
{
    struct removal *r = container_of(op, struct removal, op);
    struct env_name_step *list = &r->steps[r->steps_n - 1];
    size_t n = op->res == 0 ? list->ret_count : 0;
    char *names = list->ret_data;
    free(r->steps);
    r->steps_n = 0;
    r->steps = calloc(2 * n + 2, sizeof(*r->steps));
    r->paths = calloc(2 * n + 1, sizeof(*r->paths));
    if (r->steps == NULL || r->paths == NULL || op->res != 0) {
        free(names);
        removal_free(r); /* what is left is removed at the next start */
        return;
    }
    const char *name = names;
    for (size_t i = 0; i < n; i++, name += strlen(name) + 1)
        removal_entry(r, name);
    free(names);
    removal_step(r, ENV_STEP_RMDIR, r->path);
    removal_step(r, ENV_STEP_SYNC_DIR, pool_path(r->store, r->dir));
    env_names(r->store->env, &r->op, r->steps, r->steps_n, on_directory_gone);
}

/* Which files of the partition the pool would take, and at what size. */
static void removal_pooled(struct removal *r, const struct plog *p)
{
    unsigned n = 0;
    list_for_each(it, &p->segments)
        n++;
    r->pooled = calloc(n + 1, sizeof(*r->pooled));
    if (r->pooled == NULL)
        return;
    list_for_each(it, &p->segments) {
        const struct segment *seg = container_of(it, struct segment, link);
        uint64_t bytes = segment_pool_bytes(seg);
        if (bytes == 0)
            continue;
        struct pooled *pooled = &r->pooled[r->pooled_n++];
        pooled->bytes = bytes;
        snprintf(pooled->name, sizeof(pooled->name), "%020lld.log", (long long)seg->base_offset);
    }
}

static void directory_remove(struct plog *p, const char *path)
{
    struct log_store *s = p->store;
    struct removal *r = calloc(1, sizeof(*r));
    struct env_name_step *steps = calloc(1, sizeof(*steps));
    if (r == NULL || steps == NULL) {
        free(r);
        free(steps);
        return; /* removed at the next start */
    }
    r->store = s;
    r->dir = p->dir;
    removal_pooled(r, p);
    snprintf(r->path, sizeof(r->path), "%s", path);
    r->steps = steps;
    r->steps_n = 1;
    steps[0] = (struct env_name_step){.kind = ENV_STEP_LIST, .path = r->path};
    s->jobs_n++;
    env_names(s->env, &r->op, steps, 1, on_directory_listed);
}

static void plog_gone(struct plog *p, int rc, const char *renamed)
{
    plog_removed_fn on_removed = p->on_removed;
    void *arg = p->on_removed_arg;
    if (renamed != NULL)
        directory_remove(p, renamed);
    plog_destroy(p);
    on_removed(arg, rc);
}

static void on_renamed(struct env_op *op)
{
    struct names_job *job = container_of(op, struct names_job, op);
    struct plog *p = job->plog;
    bool existed = op->res != -ENOENT && !p->offline; /* else there never was a directory */
    int rc = existed ? op->res : 0;
    char renamed[PATH_MAX];
    snprintf(renamed, sizeof(renamed), "%s", job->paths[0]);
    if (rc != 0)
        log_error("%s: renaming the directory of a deleted partition failed (%s)", p->name,
                  strerror(-rc));
    names_job_end(job);
    plog_gone(p, rc, existed && rc == 0 ? renamed : NULL);
}

/* Advances a removal when nothing is in flight any more; called whenever something ends. */
void remove_pump(struct plog *p)
{
    ASSERT(p->removed);
    if (p->holds > 0 || p->job != NULL || p->on_removed == NULL || list_linked(&p->notify_link))
        return;
    struct names_job *job = names_job_begin(p, NULL);
    if (job == NULL)
        return;
    char id[23];
    meta_uuid_text(&p->topic_id, id);
    snprintf(job->paths[0], PATH_MAX, "%.3900s.%s-delete", p->path, id);
    if (p->offline) { /* a start that finds it again puts it aside */
        names_job_step(job, ENV_STEP_STAT, p->store->config.journal_dir);
    } else {
        names_job_step(job, ENV_STEP_RENAME, p->path)->path2 = job->paths[0];
        names_job_step(job, ENV_STEP_SYNC_DIR, p->store->config.data_dirs[p->dir]);
    }
    char *parcel = p->parcel_stale ? parcel_path(p->store, p->number) : NULL;
    job->data[0] = (uint8_t *)parcel; /* what is not unlinked here the next start sees to */
    if (parcel != NULL)
        names_job_step(job, ENV_STEP_UNLINK, parcel);
    env_names(p->store->env, &job->op, job->steps, job->steps_n, on_renamed);
}

void log_store_remove(struct log_store *s, struct plog *p, plog_removed_fn on_done, void *arg)
{
    ASSERT(p->on_removed == NULL);
    ASSERT(p->store == s);
    departure_orphan(p);
    plog_leave_cycle(p);
    p->removed = true;
    plog_leave_ahead(p);
    p->on_removed = on_done;
    p->on_removed_arg = arg;
    plog_unmark(p);
    list_remove(&p->destage_link);
    list_remove(&p->behind_link);
    list_remove(&p->trim_link);
    list_remove(&p->parcel_link);
    plog_notify(p); /* pending appends fail, watchers look again; then remove_pump runs */
}
