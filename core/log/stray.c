/* stray.c: directories in the data directories that belong to no partition, looked at once at
 * start. What a deletion had renamed already is removed. A partition's directory that metadata does
 * not know (a crash came between the two steps of its deletion, or metadata was lost) is put aside
 * as NAME.RANDOM-stray, as Kafka does: it must not be taken for a later topic's of the same name,
 * and an operator may want it. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"

static bool ends_with(const char *name, const char *suffix)
{
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

/* Only files that a partition's directory may hold; anything else is not ours to touch. */
static bool is_partition_file(const char *name)
{
    return ends_with(name, ".log") || ends_with(name, ".index") || ends_with(name, ".timeindex") ||
           ends_with(name, ".cleaned") || ends_with(name, ".tmp") || ends_with(name, "-stray") ||
           strcmp(name, "partition.metadata") == 0;
}

static int directory_list(struct log_store *s, const char *path, struct env_name_step *ret)
{
    *ret = (struct env_name_step){.kind = ENV_STEP_LIST, .path = path};
    return env_names_wait(s->env, ret, 1);
}

static bool holds_a_partition(struct log_store *s, const char *path)
{
    struct env_name_step list;
    if (directory_list(s, path, &list) != 0)
        return false;
    bool all_ours = true;
    const char *name = list.ret_data;
    for (size_t i = 0; i < list.ret_count; i++, name += strlen(name) + 1)
        all_ours = all_ours && is_partition_file(name);
    free(list.ret_data);
    return all_ours;
}

static void directory_delete(struct log_store *s, const char *path)
{
    struct env_name_step list;
    char file[PATH_MAX];
    if (directory_list(s, path, &list) != 0)
        return;
    const char *name = list.ret_data;
    for (size_t i = 0; i < list.ret_count; i++, name += strlen(name) + 1) {
        snprintf(file, sizeof(file), "%.3800s/%.255s", path, name);
        struct env_name_step step = {.kind = ENV_STEP_UNLINK, .path = file};
        if (is_partition_file(name))
            env_names_wait(s->env, &step, 1);
    }
    free(list.ret_data);
    struct env_name_step step = {.kind = ENV_STEP_RMDIR, .path = path};
    int rc = env_names_wait(s->env, &step, 1);
    if (rc != 0)
        log_warn("%s: left of a deleted partition, cannot be removed: %s", path, strerror(-rc));
}

/* NAME-INDEX with a legal topic name; ret_known: metadata has that partition, in this directory:
 * one of the same name may have been made in another one while this was not there. */
static bool is_partition_name(const char *name, const struct meta_image *meta, unsigned dir,
                              bool *ret_known)
{
    const char *dash = strrchr(name, '-');
    char *end;
    if (dash == NULL || dash == name || dash[1] < '0' || dash[1] > '9')
        return false;
    long index = strtol(dash + 1, &end, 10);
    size_t len = (size_t)(dash - name);
    if (*end != '\0' || index > META_PARTITIONS_MAX || meta_topic_name_check(name, len) != 0)
        return false;
    const struct meta_topic *topic = meta_topic_by_name(meta, name, len);
    *ret_known =
        topic != NULL && index < topic->partitions_n && topic->partitions[index].dir == dir;
    return true;
}

static void directory_put_aside(struct log_store *s, const char *dir, const char *path)
{
    char aside[PATH_MAX];
    snprintf(aside, sizeof(aside), "%.4000s.%016llx-stray", path,
             (unsigned long long)env_random(s->env));
    struct env_name_step steps[] = {{.kind = ENV_STEP_RENAME, .path = path, .path2 = aside},
                                    {.kind = ENV_STEP_SYNC_DIR, .path = dir}};
    int rc = env_names_wait(s->env, steps, ARRAY_LEN(steps));
    if (rc == 0)
        log_warn("%s belongs to no topic, kept as %s", path, aside);
    else
        log_error("%s belongs to no topic and cannot be renamed: %s", path, strerror(-rc));
}

static void entry_look(struct log_store *s, const struct meta_image *meta, unsigned index,
                       const char *name)
{
    const char *dir = s->config.data_dirs[index];
    char path[PATH_MAX];
    bool known;
    snprintf(path, sizeof(path), "%.3800s/%.255s", dir, name);
    if (ends_with(name, "-delete") && holds_a_partition(s, path))
        directory_delete(s, path);
    else if (is_partition_name(name, meta, index, &known) && !known && holds_a_partition(s, path))
        directory_put_aside(s, dir, path);
}

/* Blocking; by one store of a broker only, before partitions are opened. */
void stray_directories_settle(struct log_store *s, const struct meta_image *meta)
{
    for (unsigned i = 0; i < s->config.data_dirs_n; i++) {
        struct env_name_step list;
        if (dir_is_offline(s, i) || directory_list(s, s->config.data_dirs[i], &list) != 0)
            continue;
        const char *name = list.ret_data;
        for (size_t k = 0; k < list.ret_count; k++, name += strlen(name) + 1)
            entry_look(s, meta, i, name);
        free(list.ret_data);
    }
}
