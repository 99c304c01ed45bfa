/* pool.c: segment files that are free again, one folder a data directory and journal, by size.
 * Taking one costs a rename; its extents are written already. What is in it counts for nothing:
 * validity always comes from journal and checkpoint. The share of the device is bounded. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define POOL_FILES_MAX 1024u
#define RESERVED_PART 2u /* of the free space: what all partitions together may reserve ahead */

struct pool_file {
    uint64_t bytes, number;
};
struct pool {
    char *path;
    struct pool_file *files;
    unsigned files_n;
    uint64_t next_number, bytes, bytes_max;
    uint64_t free_bytes; /* of the file system, when a file was last made */
};

static void file_name(const struct pool *pool, const struct pool_file *f, char *buf, size_t size)
{
    snprintf(buf, size, "%.3900s/%llu-%llu", pool->path, (unsigned long long)f->bytes,
             (unsigned long long)f->number);
}

static void pool_adopt(struct pool *pool, const char *name)
{
    unsigned long long bytes, number;
    char extra;
    if (sscanf(name, "%llu-%llu%c", &bytes, &number, &extra) != 2 ||
        pool->files_n == POOL_FILES_MAX)
        return;
    pool->files[pool->files_n++] = (struct pool_file){bytes, number};
    pool->bytes += bytes;
    pool->next_number = MAX(pool->next_number, number + 1);
}

static int pool_open(struct log_store *s, unsigned dir, struct pool *pool)
{
    if (asprintf(&pool->path, "%s/.pool.%u", s->config.data_dirs[dir], s->journal.id) < 0)
        pool->path = NULL;
    pool->files = calloc(POOL_FILES_MAX, sizeof(*pool->files));
    if (pool->path == NULL || pool->files == NULL)
        return -ENOMEM;
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_MKDIR, .path = s->config.data_dirs[dir]},
        {.kind = ENV_STEP_MKDIR, .path = pool->path},
        {.kind = ENV_STEP_LIST, .path = pool->path},
        {.kind = ENV_STEP_STAT, .path = pool->path},
    };
    int rc = env_names_wait(s->env, steps, ARRAY_LEN(steps));
    const char *name = steps[2].ret_data;
    for (size_t i = 0; i < steps[2].ret_count; i++, name += strlen(name) + 1)
        pool_adopt(pool, name);
    free(steps[2].ret_data);
    pool->bytes_max = steps[3].ret_total_bytes / 100 * s->config.pool_max_percent;
    pool->free_bytes = steps[3].ret_free_bytes;
    return rc;
}

int pools_open(struct log_store *s)
{
    s->pools = calloc(s->config.data_dirs_n, sizeof(*s->pools));
    int rc = s->pools == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; rc == 0 && i < s->config.data_dirs_n; i++) {
        rc = dir_is_offline(s, i) ? 0 : pool_open(s, i, &s->pools[i]);
        rc = rc != 0 && dir_failed(s, i, rc, "opening it") ? 0 : rc;
    }
    return rc;
}

void pools_fini(struct log_store *s)
{
    for (unsigned i = 0; s->pools != NULL && i < s->config.data_dirs_n; i++) {
        free(s->pools[i].path);
        free(s->pools[i].files);
    }
    free(s->pools);
}

const char *pool_path(const struct log_store *s, unsigned dir)
{
    return s->pools[dir].path;
}

void pool_note_space(struct log_store *s, unsigned dir, uint64_t free_bytes)
{
    s->pools[dir].free_bytes = free_bytes;
}

/* How large a file may be made for what is still to come: a power of two, so that those that were
 * made at about the same time fit each other's segments. */
uint64_t pool_reserve_max(const struct log_store *s, unsigned dir)
{
    uint64_t sharers = (uint64_t)MAX(s->plogs.count, 1u) * MAX(s->config.shards_n, 1u);
    uint64_t share = s->pools[dir].free_bytes / RESERVED_PART / sharers, bytes = BLOCK_BYTES;
    while (bytes <= share / 2)
        bytes *= 2;
    return bytes;
}

/* The path of the smallest free file of such a size, which is the caller's now; 0: there is none.
 */
uint64_t pool_take(struct log_store *s, unsigned dir, uint64_t least_bytes, uint64_t most_bytes,
                   char *buf, size_t size)
{
    struct pool *pool = &s->pools[dir];
    struct pool_file *best = NULL;
    for (struct pool_file *f = pool->files; f < pool->files + pool->files_n; f++)
        if (f->bytes >= least_bytes && f->bytes <= most_bytes &&
            (best == NULL || f->bytes < best->bytes))
            best = f;
    if (best == NULL)
        return 0;
    uint64_t bytes = best->bytes;
    file_name(pool, best, buf, size);
    *best = pool->files[--pool->files_n];
    pool->bytes -= bytes;
    return bytes;
}

/* A name in the pool under which a file of this size may come in; false: no room. */
bool pool_offer(struct log_store *s, unsigned dir, uint64_t bytes, char *buf, size_t size)
{
    struct pool *pool = &s->pools[dir];
    if (pool->files_n == POOL_FILES_MAX || pool->bytes + bytes > pool->bytes_max)
        return false;
    struct pool_file f = {bytes, pool->next_number++};
    file_name(pool, &f, buf, size);
    return true;
}

/* The file of pool_offer is there, durably, and nobody uses it any more. */
void pool_added(struct log_store *s, unsigned dir, const char *path)
{
    const char *name = strrchr(path, '/');
    ASSERT(name != NULL);
    pool_adopt(&s->pools[dir], name + 1);
}
