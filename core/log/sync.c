/* sync.c: one sync of a file system for all who wait for their files and names to be durable. Where
 * hundreds of small files are written, a flush of each is what costs most: each is a commit of the
 * file system's journal and a flush of the device.
 * Happy path: sync_wait() -> ENV_STEP_SYNC_FS, behind which names and extents count -> a flush of
 *   one of the files written, behind which the device's cache is empty also where the first found
 *   nothing to commit -> run() of all that waited when it began. Who comes meanwhile shares the
 *   next one.
 * Failure: run() is told. Who has written to a file flushes that file then: io/losses.h knows
 *   whether it is among those that have lost something. It says so once, so the one whose file was
 *   flushed here has its answer: w->asked. Threads: the shard's. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

struct dir_sync { /* of one data directory */
    struct log_store *store;
    const char *path;
    struct env_op op;
    struct env_name_step step;
    struct list_node waiting, covered; /* sync_waiter: of the next one, of the one under way */
    bool busy;
};

int syncs_open(struct log_store *s)
{
    s->syncs = calloc(s->config.data_dirs_n, sizeof(*s->syncs));
    for (unsigned i = 0; s->syncs != NULL && i < s->config.data_dirs_n; i++) {
        struct dir_sync *d = &s->syncs[i];
        d->store = s;
        d->path = s->config.data_dirs[i];
        list_init(&d->waiting);
        list_init(&d->covered);
    }
    return s->syncs == NULL ? -ENOMEM : 0;
}

void syncs_fini(struct log_store *s)
{
    free(s->syncs);
}

static void on_fs_synced(struct env_op *op);

static void sync_begin(struct dir_sync *d)
{
    list_splice_tail(&d->covered, &d->waiting);
    d->busy = true;
    d->step = (struct env_name_step){.kind = ENV_STEP_SYNC_FS, .path = d->path};
    counter_add(&d->store->counters.shared_syncs, 1);
    env_names(d->store->env, &d->op, &d->step, 1, on_fs_synced);
}

static void sync_end(struct dir_sync *d, int rc)
{
    struct list_node due;
    list_init(&due);
    list_splice_tail(&due, &d->covered);
    d->busy = false;
    if (!list_empty(&d->waiting))
        sync_begin(d);
    for (struct list_node *it; (it = list_pop_head(&due)) != NULL;) {
        struct sync_waiter *w = container_of(it, struct sync_waiter, link);
        w->run(w, rc);
    }
}

static void on_device_flushed(struct env_op *op)
{
    sync_end(container_of(op, struct dir_sync, op), op->res);
}

static struct sync_waiter *waiter_with_file(const struct dir_sync *d)
{
    list_for_each(it, &d->covered) {
        struct sync_waiter *w = container_of(it, struct sync_waiter, link);
        if (w->file != NULL)
            return w;
    }
    return NULL;
}

static void on_fs_synced(struct env_op *op)
{
    struct dir_sync *d = container_of(op, struct dir_sync, op);
    struct sync_waiter *w = waiter_with_file(d);
    if (op->res < 0 || w == NULL) {
        sync_end(d, op->res);
        return;
    }
    w->asked = true;
    env_flush(d->store->env, &d->op, w->file, on_device_flushed);
}

/* It takes longer than a flush of one file, but no longer for many. */
bool sync_is_shared(const struct log_store *s, unsigned at_work_n)
{
    return s->config.shared_sync_min > 0 && at_work_n >= s->config.shared_sync_min;
}

/* All that is complete now will be durable when w runs. file: what it has written to, which stays
 * open and is not written to meanwhile; NULL: names only. */
void sync_wait(struct log_store *s, unsigned dir, struct sync_waiter *w, struct env_file *file,
               sync_fn run)
{
    struct dir_sync *d = &s->syncs[dir];
    w->file = file;
    w->asked = false;
    w->run = run;
    list_push_tail(&d->waiting, &w->link);
    if (!d->busy)
        sync_begin(d);
}
