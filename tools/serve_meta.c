#include "tools/serve_meta.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "numa/mem.h"

#define DRAIN_MEMORY_BYTES (512ull << 20) /* touched only as far as it is needed */

/* Applies the record to the image and makes it durable. */
static int record_write(struct serve_meta *m, const struct meta_record *record)
{
    struct meta_image *next;
    int rc = meta_image_apply(m->image, record, &next);
    if (rc < 0)
        return rc;
    rc = meta_log_append_wait(m->log, record, next);
    if (rc < 0) {
        meta_image_destroy(next);
        return rc;
    }
    meta_image_destroy(m->image);
    m->image = next;
    return 0;
}

static int record_write_kind(struct serve_meta *m, enum meta_record_kind kind, uint64_t value,
                             const struct meta_uuid *id)
{
    struct meta_record record = {.kind = kind, .value = value};
    if (id != NULL)
        record.id = *id;
    return record_write(m, &record);
}

static int cluster_settle(struct env *env, struct serve_meta *m, const struct serve_dirs *dirs,
                          char *reason, size_t reason_size)
{
    m->is_new = meta_uuid_is_zero(&m->image->cluster_id);
    int rc = dirs_check(dirs, &m->image->cluster_id, m->is_new, reason, reason_size);
    if (rc < 0 || !m->is_new)
        return rc;
    struct meta_uuid id;
    meta_uuid_make(env_random(env), env_random(env), &id);
    return record_write_kind(m, META_CLUSTER, 0, &id);
}

/* Index in the image of a directory's id, or -1. */
static int dir_index(const struct meta_image *image, const struct meta_uuid *id)
{
    for (unsigned i = 0; i < image->dirs_n; i++)
        if (memcmp(&image->dirs[i], id, sizeof(*id)) == 0)
            return (int)i;
    return -1;
}

static bool dir_is_known(const struct serve_meta *m, const struct serve_dir *dir)
{
    return dir->rc == 0 && dir_index(m->image, &dir->id) >= 0;
}

static uint64_t dirs_there(const struct serve_meta *m, const struct serve_dirs *dirs)
{
    uint64_t there = 0;
    for (unsigned i = 0; i < dirs->data_n; i++)
        if (dir_is_known(m, &dirs->data[i]))
            there |= UINT64_C(1) << dir_index(m->image, &dirs->data[i].id);
    return there;
}

static bool dir_has_partitions(const struct meta_image *image, unsigned dir)
{
    for (unsigned t = 0; t < image->topics_n; t++)
        for (int32_t p = 0; p < image->topics[t]->partitions_n; p++)
            if (image->topics[t]->partitions[p].dir == dir)
                return true;
    return false;
}

/* Of those that can be one that is missing, the next best: one that is broken rather than one that
 * is not there, that rather than one without properties, as an unmounted device leaves it. */
static struct serve_dir *dir_stand_in(const struct serve_meta *m, struct serve_dirs *dirs,
                                      const bool taken[META_DIRS_MAX])
{
    struct serve_dir *best = NULL;
    int best_rank = 0;
    for (unsigned i = 0; i < dirs->data_n; i++) {
        struct serve_dir *dir = &dirs->data[i];
        int rank = dir->rc == 0 ? 1 : dir->rc == -ENOENT ? 2 : 3;
        bool may = !taken[i] && !dir_is_known(m, dir) && (dir->rc < 0 || !dir->has_properties);
        if (may && rank > best_rank) {
            best = dir;
            best_rank = rank;
        }
    }
    return best;
}

/* A directory that the metadata log names and that is not there takes its partitions offline. Which
 * path it had nobody has written down: most likely that of one that cannot be used. That one is
 * left alone, also if it is only empty: it may be where a device is to be mounted. */
static void dir_goes_without(struct serve_meta *m, struct serve_dirs *dirs, unsigned index,
                             bool taken[META_DIRS_MAX])
{
    char id[23];
    struct serve_dir *dir = dir_stand_in(m, dirs, taken);
    meta_uuid_text(&m->image->dirs[index], id);
    m->data_dirs[index] = dir == NULL ? NULL : dir->path;
    if (dir == NULL) {
        log_error(
            "log.dirs: the data directory with directory.id=%s is missing: its partitions are "
            "offline",
            id);
        return;
    }
    log_error("data directory %s, directory.id=%s: %s; its partitions are offline", dir->path, id,
              dir->rc < 0 ? dir_trouble(dir) : "empty: is its device mounted?");
    taken[dir - dirs->data] = true;
    if (dir->rc == 0)
        dir->rc = -ENODEV; /* nothing is written there */
}

/* The journals are in a data directory that does not know itself any more: it is the missing one.
 */
static bool journal_dir_is_bare(const struct serve_meta *m, const struct serve_dirs *dirs,
                                uint64_t offline)
{
    for (unsigned i = 0; offline != 0 && i < dirs->data_n; i++)
        if (strcmp(dirs->data[i].path, dirs->journal.path) == 0)
            return !dir_is_known(m, &dirs->data[i]);
    return false;
}

/* Asked before anything is written, so that a mistyped list leaves no trace. */
static int dirs_find_missing(struct serve_meta *m, struct serve_dirs *dirs, char *reason,
                             size_t reason_size)
{
    bool taken[META_DIRS_MAX] = {false};
    uint64_t there = dirs_there(m, dirs), offline = 0;
    for (unsigned i = 0; i < m->image->dirs_n; i++)
        if ((there >> i & 1) == 0)
            offline |= UINT64_C(1) << i;
    if (m->image->dirs_n > 0 && (there == 0 || journal_dir_is_bare(m, dirs, offline))) {
        char id[23];
        unsigned first = (unsigned)__builtin_ctzll(offline);
        meta_uuid_text(&m->image->dirs[first], id);
        snprintf(reason, reason_size,
                 "log.dirs: the data directory with directory.id=%s is missing%s", id,
                 there == 0 ? ", and so are all others" : "");
        return -ENOENT;
    }
    for (unsigned i = 0; i < m->image->dirs_n; i++) /* an empty one is not missed */
        if ((offline >> i & 1) != 0 && dir_has_partitions(m->image, i))
            dir_goes_without(m, dirs, i, taken);
    m->dirs_offline = offline;
    return 0;
}

/* The same directory, or a copy of it, twice: nobody can say which of them is meant. */
static int dirs_find_twins(const struct serve_dirs *dirs, char *reason, size_t reason_size)
{
    for (unsigned i = 0; i < dirs->data_n; i++)
        for (unsigned k = 0; k < i; k++) {
            const struct serve_dir *a = &dirs->data[k], *b = &dirs->data[i];
            if (!a->has_properties || !b->has_properties ||
                memcmp(&a->id, &b->id, sizeof(a->id)) != 0)
                continue;
            snprintf(reason, reason_size, "data directories %s and %s have the same directory.id",
                     a->path, b->path);
            return -EINVAL;
        }
    return 0;
}

/* Those that are new and not there. A new one that cannot be used is no reason not to start, unless
 * it is the very first time. */
static int dirs_make(struct serve_meta *m, struct serve_dirs *dirs, char *reason,
                     size_t reason_size)
{
    for (unsigned i = 0; i < dirs->data_n; i++) {
        struct serve_dir *dir = &dirs->data[i];
        bool missed = false;
        for (unsigned k = 0; k < m->image->dirs_n; k++)
            missed |= m->data_dirs[k] == dir->path;
        if (dir->rc == 0 || missed)
            continue;
        if (dir->rc == -ENOENT && dir_make(dir, reason, reason_size) == 0)
            continue;
        if (m->image->dirs_n == 0) {
            snprintf(reason, reason_size, "data directory %s: %s", dir->path, dir_trouble(dir));
            return dir->rc;
        }
        log_error("data directory %s: %s; it is not used", dir->path, dir_trouble(dir));
    }
    return 0;
}

static int dirs_add(struct serve_meta *m, const struct serve_dirs *dirs)
{
    for (unsigned i = 0; i < dirs->data_n; i++) {
        const struct serve_dir *dir = &dirs->data[i];
        if (dir->rc < 0)
            continue;
        if (dir_index(m->image, &dir->id) < 0) {
            int rc = record_write_kind(m, META_DIR_ADD, 0, &dir->id);
            if (rc < 0)
                return rc;
        }
        m->data_dirs[dir_index(m->image, &dir->id)] = dir->path;
    }
    return 0;
}

/* A new directory knows its id before the metadata log does: a directory that the log names and
 * that does not know itself would never be found again. */
static int dirs_settle(struct serve_meta *m, struct serve_dirs *dirs, int32_t node_id, char *reason,
                       size_t reason_size)
{
    memset(m->data_dirs, 0, sizeof(m->data_dirs));
    int rc = dirs_find_twins(dirs, reason, reason_size);
    if (rc == 0)
        rc = dirs_find_missing(m, dirs, reason, reason_size);
    if (rc == 0)
        rc = dirs_make(m, dirs, reason, reason_size);
    if (rc == 0)
        rc = dirs_write(dirs, &m->image->cluster_id, node_id, reason, reason_size);
    if (rc == 0)
        rc = dirs_add(m, dirs);
    return rc;
}

/* Opens and closes one journal of an earlier shard: all it holds is in segments and its checkpoint
 * then, from where the partitions' new owner takes it over. */
static int drain_journal(struct env *env, const struct serve_meta *m, unsigned journal_id,
                         struct log_config *log, char *reason, size_t reason_size)
{
    struct mem_region region;
    struct buddy memory;
    struct log_store *store;
    int rc = mem_map(DRAIN_MEMORY_BYTES, MEM_NODE_ANY, &region);
    if (rc < 0)
        return rc;
    rc = buddy_init(&memory, region.base, region.len_bytes);
    if (rc == 0) {
        log->memory = log->read_memory = &memory;
        rc = log_store_open(env, journal_id, log, m->image, &store, reason, reason_size);
        if (rc == 0)
            rc = log_store_close(store);
        buddy_fini(&memory);
    }
    mem_unmap(&region);
    return rc;
}

/* Journals of shards that were no more at the last start already: it was cut short before their
 * checkpoints were taken over. */
static int leftovers_look(struct env *env, const struct serve_meta *m, const char *journal_dir,
                          bool *ret_any)
{
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = journal_dir};
    int rc = env_names_wait(env, &list, 1);
    if (rc != 0)
        return rc;
    const char *name = list.ret_data;
    *ret_any = false;
    for (size_t i = 0; i < list.ret_count; i++, name += strlen(name) + 1) {
        unsigned id;
        char extra;
        if (sscanf(name, "journal.%u%c", &id, &extra) == 1 && id >= m->image->shards)
            *ret_any = true;
    }
    free(list.ret_data);
    return 0;
}

/* A run with more shards left journals behind; what they hold must be settled before their
 * partitions move. */
static int drain_old_journals(struct env *env, struct serve_meta *m,
                              const struct log_config *config, const struct serve_dirs *dirs,
                              char *reason, size_t reason_size)
{
    struct log_config log = *config;
    log.shards_n = m->image->shards;
    log.journal_dir = dirs->journal.path;
    log.data_dirs = m->data_dirs;
    log.data_dirs_n = m->image->dirs_n;
    log.dirs_offline = &m->dirs_offline;
    bool unfinished = false;
    if (config->shards_n == m->image->shards || m->image->shards == 0)
        return 0;
    int rc = leftovers_look(env, m, dirs->journal.path, &unfinished);
    if (rc < 0)
        return rc;
    /* Who takes over depends on the number of shards: before it changes, all is taken over. */
    for (unsigned id = 0; unfinished && id < MIN(config->shards_n, m->image->shards); id++) {
        rc = drain_journal(env, m, id, &log, reason, reason_size);
        if (rc < 0)
            return rc;
    }
    for (unsigned id = config->shards_n; id < m->image->shards; id++) {
        rc = drain_journal(env, m, id, &log, reason, reason_size);
        if (rc < 0)
            return rc;
        log_info("shard %u of %u is no more: its partitions move to shard %u", id, m->image->shards,
                 id % config->shards_n);
    }
    return 0;
}

static int records_settle(struct env *env, struct serve_meta *m, struct serve_dirs *dirs,
                          const struct log_config *log, int32_t node_id, char *reason,
                          size_t reason_size)
{
    unsigned shards_n = log->shards_n;
    int rc = cluster_settle(env, m, dirs, reason, reason_size);
    if (rc == 0)
        rc = dirs_settle(m, dirs, node_id, reason, reason_size);
    if (rc == 0)
        rc = drain_old_journals(env, m, log, dirs, reason, reason_size);
    if (rc == 0 && !m->is_new && !m->was_clean)
        rc = record_write_kind(m, META_EPOCHS_RAISE, 0, NULL);
    if (rc == 0 && m->image->shards != shards_n)
        rc = record_write_kind(m, META_SHARDS, shards_n, NULL);
    if (rc == 0)
        rc = record_write_kind(m, META_START, 0, NULL);
    return rc;
}

int serve_meta_open(struct env *env, struct serve_dirs *dirs, const struct topic_config *defaults,
                    const struct log_config *log, int32_t node_id, struct serve_meta *ret,
                    char *reason, size_t reason_size)
{
    *ret = (struct serve_meta){0};
    int rc = meta_log_open(env, dirs->journal.path, defaults, &ret->log, &ret->image, reason,
                           reason_size);
    if (rc < 0)
        return rc;
    ret->was_clean = ret->image->clean;
    reason[0] = '\0';
    rc = records_settle(env, ret, dirs, log, node_id, reason, reason_size);
    if (rc == 0)
        return 0;
    if (reason[0] == '\0')
        snprintf(reason, reason_size, "metadata log in %s: %s", dirs->journal.path, strerror(-rc));
    serve_meta_close(ret);
    return rc;
}

int serve_meta_stop(struct serve_meta *m)
{
    return record_write_kind(m, META_STOP, 0, NULL);
}

void serve_meta_close(struct serve_meta *m)
{
    /* After a stop that could not wait any longer a change may still be under way to the disk: what
     * it uses has to outlive the ring, and is left to the end of the process. */
    if (m->log != NULL && meta_log_idle(m->log))
        meta_log_close(m->log);
    meta_image_destroy(m->image);
    *m = (struct serve_meta){0};
}
