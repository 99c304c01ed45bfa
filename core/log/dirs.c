/* dirs.c: data directories that fail, and what becomes of their partitions.
 *
 * Happy path: none does.
 * Failure: a write, a flush or a name operation says that the device or the file system is gone or
 *   takes no more (plog_fence) -> the directory's bit is set, for all shards -> each store, in its
 *   next turn, takes the partitions of that directory offline: appends, reads and whoever waits
 *   get -EIO. What is stable of them goes to a side file (park_run.c), at a start without the
 *   directory also what the journal has (park.c): so nothing is lost, and journal and memory are
 *   free for the others.
 *   They come back with a start that finds the directory; nothing brings them back before.
 * Not the directory of the journals: a store that cannot write there has failed itself.
 * Threads: the shard's; the common bits on any. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdatomic.h>

#include "core/base/logger.h"

/* Of one file these say nothing: they are of the device, the file system or the directory. */
static const int errors_of_dirs[] = {EIO,   EROFS,    ENODEV,    ENXIO,     EUCLEAN, ESTALE,
                                     EPERM, ENOTCONN, ESHUTDOWN, EREMOTEIO, EACCES};

static bool is_of_dir(int rc)
{
    for (unsigned i = 0; i < ARRAY_LEN(errors_of_dirs); i++)
        if (rc == -errors_of_dirs[i])
            return true;
    return false;
}

static bool dir_may_fail(const struct log_store *s, unsigned dir)
{
    const char *path = s->config.data_dirs[dir];
    return s->config.dirs_offline != NULL && path != NULL &&
           strcmp(path, s->config.journal_dir) != 0;
}

bool dir_is_offline(const struct log_store *s, unsigned dir)
{
    return (s->dirs_offline >> dir & 1) != 0;
}

uint64_t log_store_dirs_offline(const struct log_store *s)
{
    return s->dirs_offline;
}

bool plog_is_offline(const struct plog *p)
{
    return p->offline;
}

/* False: it is no failure of the whole directory. Its partitions here follow in the next pump. */
bool dir_failed(struct log_store *s, unsigned dir, int rc, const char *what)
{
    uint64_t bit = UINT64_C(1) << dir;
    if (!dir_may_fail(s, dir) || !is_of_dir(rc) || s->abandoned)
        return false;
    if ((atomic_fetch_or(s->config.dirs_offline, bit) & bit) != 0)
        return true; /* another partition, or shard, has found out before */
    log_error("data directory %s has failed: %s: %s; its partitions are offline until a start that "
              "finds it whole",
              s->config.data_dirs[dir], what, strerror(-rc));
    if (s->config.on_dir_failed != NULL)
        s->config.on_dir_failed(s->config.on_dir_failed_arg);
    return true;
}

void plog_take_offline(struct plog *p)
{
    struct log_store *s = p->store;
    if (p->fenced == 0)
        counter_add(&s->counters.partitions_fenced, 1);
    p->fenced = -EIO;
    p->offline = true;
    counter_add(&s->counters.partitions_offline, 1);
    plog_leave_cycle(p);
    plog_leave_ahead(p);
    plog_unmark(p);
    list_remove(&p->trim_link);
    s->memory_freed = true; /* who waits for memory is to be told as well */
    plog_notify(p);
}

bool dirs_changed(const struct log_store *s)
{
    return s->config.dirs_offline != NULL &&
           atomic_load_explicit(s->config.dirs_offline, memory_order_acquire) != s->dirs_offline;
}

static void dirs_count(struct log_store *s)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < s->config.data_dirs_n; i++)
        n += dir_is_offline(s, i) && s->config.data_dirs[i] != NULL;
    if (s->journal.id == 0)
        counter_set(&s->counters.dirs_offline, n);
}

/* The partitions of what has failed since go offline. */
void dirs_pump(struct log_store *s)
{
    if (!dirs_changed(s))
        return;
    uint64_t before = s->dirs_offline;
    s->dirs_offline = atomic_load(s->config.dirs_offline);
    dirs_count(s);
    park_run_want(s, s->dirs_offline & ~before);
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        if (!p->offline && !p->removed && dir_is_offline(s, p->dir))
            plog_take_offline(p);
}

/* Those that are there get their pools; one that turns out to have failed is not there. */
int store_dirs_open(struct log_store *s)
{
    dirs_pump(s);
    int rc = pools_open(s);
    dirs_pump(s);
    return rc == 0 ? parks_open(s) : rc;
}
