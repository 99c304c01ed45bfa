#include "tools/log_tree.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/dirlock.h"

#define LOCK_WAIT_MS 10000 /* for the last writes of a broker that was killed just now */

/* ---- names ---- */

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

int names_list(const char *path, char ***ret, unsigned *ret_n)
{
    struct dirent **entries;
    int n = scandir(path, &entries, not_dots, alphasort);
    if (n < 0)
        return -errno;
    char **names = calloc((size_t)n + 1, sizeof(*names));
    for (int i = 0; i < n; i++) {
        if (names != NULL)
            names[i] = strdup(entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    if (names == NULL)
        return -ENOMEM;
    *ret = names;
    *ret_n = (unsigned)n;
    return 0;
}

void names_free(char **names, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

bool name_ends(const char *name, const char *suffix)
{
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

bool partition_name_parse(const char *name, char ret_topic[META_TOPIC_NAME_MAX + 1],
                          int32_t *ret_index)
{
    const char *dash = strrchr(name, '-');
    char *end;
    if (dash == NULL || dash == name || dash[1] < '0' || dash[1] > '9')
        return false;
    errno = 0;
    long index = strtol(dash + 1, &end, 10);
    size_t len = (size_t)(dash - name);
    if (errno != 0 || *end != '\0' || index > META_PARTITIONS_MAX ||
        meta_topic_name_check(name, len) != 0)
        return false;
    memcpy(ret_topic, name, len);
    ret_topic[len] = '\0';
    *ret_index = (int32_t)index;
    return true;
}

bool segment_name_parse(const char *name, int64_t *ret_base, const char **ret_suffix)
{
    if (strlen(name) < 20 || strspn(name, "0123456789") != 20)
        return false;
    errno = 0;
    long long base = strtoll(name, NULL, 10);
    if (errno != 0)
        return false;
    *ret_base = base;
    *ret_suffix = name + 20;
    return true;
}

/* An array that grows by one zeroed element; NULL: out of memory. */
static void *array_add(void **array, unsigned *n, size_t size)
{
    void *bigger = realloc(*array, (*n + 1) * size);
    if (bigger == NULL)
        return NULL;
    *array = bigger;
    return memset((char *)bigger + (*n)++ * size, 0, size);
}

static int stray_add(struct log_tree *t, const char *dir, const char *name, const char *why,
                     bool removable)
{
    struct log_stray *stray = array_add((void **)&t->strays, &t->strays_n, sizeof(*stray));
    if (stray == NULL)
        return -ENOMEM;
    *stray = (struct log_stray){NULL, why, removable};
    return asprintf(&stray->path, "%s/%s", dir, name) < 0 ? -ENOMEM : 0;
}

/* A directory with nothing in it but what a partition's may hold: anything else is not ours to
 * touch. */
static bool holds_a_partition(const char *dir, const char *name)
{
    static const char *const suffixes[] = {".log", ".index", ".timeindex", ".tmp"};
    char path[PATH_MAX], **names;
    unsigned n;
    bool all = true;
    snprintf(path, sizeof(path), "%.3800s/%.255s", dir, name);
    if (names_list(path, &names, &n) != 0)
        return false;
    for (unsigned i = 0; i < n; i++) {
        bool ours = names[i] != NULL && strcmp(names[i], "partition.metadata") == 0;
        for (unsigned k = 0; names[i] != NULL && k < ARRAY_LEN(suffixes); k++)
            ours |= name_ends(names[i], suffixes[k]);
        all &= ours;
    }
    names_free(names, n);
    return all;
}

/* ---- partitions ---- */

static struct log_segment_file *file_of(struct log_partition *p, int64_t base_offset)
{
    /* Names come sorted, so the segment of this one is the last or a new one. */
    if (p->files_n > 0 && p->files[p->files_n - 1].base_offset == base_offset)
        return &p->files[p->files_n - 1];
    struct log_segment_file *f = array_add((void **)&p->files, &p->files_n, sizeof(*f));
    if (f != NULL)
        f->base_offset = base_offset;
    return f;
}

static int file_note(struct log_partition *p, const char *name)
{
    int64_t base;
    const char *suffix;
    struct stat st;
    char path[PATH_MAX];
    if (!segment_name_parse(name, &base, &suffix))
        return 0;
    bool log = strcmp(suffix, ".log") == 0, index = strcmp(suffix, ".index") == 0;
    if (!log && !index && strcmp(suffix, ".timeindex") != 0)
        return 0;
    struct log_segment_file *f = file_of(p, base);
    if (f == NULL)
        return -ENOMEM;
    f->has_log |= log;
    f->has_index |= index;
    f->has_timeindex |= !log && !index;
    snprintf(path, sizeof(path), "%.3900s/%.100s", p->path, name);
    if (log && stat(path, &st) == 0) {
        f->file_bytes = (uint64_t)st.st_size;
        f->disk_bytes = (uint64_t)st.st_blocks * 512;
    }
    return 0;
}

int partition_files(struct log_partition *p)
{
    char **names;
    unsigned n;
    int rc = names_list(p->path, &names, &n);
    if (rc != 0)
        return rc;
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = names[i] == NULL ? -ENOMEM : file_note(p, names[i]);
    names_free(names, n);
    return rc;
}

static struct log_partition *partition_add(struct log_tree *t, const char *topic, int32_t index,
                                           const char *dir)
{
    struct log_partition *p = array_add((void **)&t->partitions, &t->partitions_n, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->index = index;
    p->topic = strdup(topic);
    if (dir != NULL && asprintf(&p->path, "%s/%s-%d", dir, topic, index) < 0)
        p->path = NULL;
    return p->topic == NULL || (dir != NULL && p->path == NULL) ? NULL : p;
}

/* Index in the metadata of a data directory; -1: it is none of the cluster's. */
static int dir_index(const struct log_tree *t, const struct serve_dir *dir)
{
    const struct meta_image *image = t->meta.replay.image;
    for (unsigned i = 0; i < image->dirs_n; i++)
        if (dir->has_properties && memcmp(&image->dirs[i], &dir->id, sizeof(dir->id)) == 0)
            return (int)i;
    return -1;
}

/* Files that a start has put aside in it. */
static int partition_strays(struct log_tree *t, const char *path)
{
    char **names;
    unsigned n;
    int rc = names_list(path, &names, &n);
    if (rc != 0)
        return rc;
    for (unsigned i = 0; rc == 0 && i < n; i++)
        if (names[i] != NULL && name_ends(names[i], "-stray"))
            rc = stray_add(t, path, names[i], "put aside by an earlier start", false);
    names_free(names, n);
    return rc;
}

static int partition_sort(struct log_tree *t, const struct serve_dir *dir, const char *name,
                          const char *topic_name, int32_t index)
{
    const struct meta_image *image = t->meta.replay.image;
    struct log_partition *p;
    if (image == NULL) {
        p = partition_add(t, topic_name, index, dir->path);
        return p == NULL ? -ENOMEM : partition_files(p);
    }
    const struct meta_topic *topic = meta_topic_by_name(image, topic_name, strlen(topic_name));
    if (topic == NULL || index >= topic->partitions_n)
        return stray_add(t, dir->path, name, "a partition that metadata does not know",
                         holds_a_partition(dir->path, name));
    if (topic->partitions[index].dir != dir_index(t, dir))
        return stray_add(t, dir->path, name, "metadata has this partition in another directory",
                         false);
    p = partition_add(t, topic_name, index, dir->path);
    if (p == NULL)
        return -ENOMEM;
    p->known = topic;
    int rc = partition_files(p);
    return rc != 0 ? rc : partition_strays(t, p->path);
}

static int partition_compare(const void *a, const void *b)
{
    const struct log_partition *x = a, *y = b;
    int by_topic = strcmp(x->topic, y->topic);
    return by_topic != 0 ? by_topic : (x->index > y->index) - (x->index < y->index);
}

static void partitions_sort(struct log_tree *t)
{
    if (t->partitions_n > 0)
        qsort(t->partitions, t->partitions_n, sizeof(*t->partitions), partition_compare);
}

/* Those that metadata knows and that have no directory yet. */
static int partitions_complete(struct log_tree *t)
{
    const struct meta_image *image = t->meta.replay.image;
    partitions_sort(t);
    unsigned there_n = t->partitions_n;
    for (unsigned i = 0; image != NULL && i < image->topics_n; i++) {
        const struct meta_topic *topic = image->topics[i];
        for (int32_t k = 0; k < topic->partitions_n; k++) {
            struct log_partition wanted = {.topic = (char *)(uintptr_t)topic->name, .index = k};
            if (there_n > 0 &&
                bsearch(&wanted, t->partitions, there_n, sizeof(wanted), partition_compare) != NULL)
                continue;
            struct log_partition *p = partition_add(t, topic->name, k, NULL);
            if (p == NULL)
                return -ENOMEM;
            p->known = topic;
        }
    }
    partitions_sort(t);
    return 0;
}

/* ---- the rest of a data directory ---- */

static int pool_note(struct log_tree *t, const char *dir, const char *name)
{
    char **names, path[PATH_MAX];
    unsigned n;
    struct stat st;
    struct log_pool *pool = array_add((void **)&t->pools, &t->pools_n, sizeof(*pool));
    if (pool == NULL || asprintf(&pool->path, "%s/%s", dir, name) < 0)
        return -ENOMEM;
    int rc = names_list(pool->path, &names, &n);
    if (rc != 0)
        return rc;
    for (unsigned i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%.3800s/%.255s", pool->path, names[i]);
        if (names[i] == NULL || stat(path, &st) != 0)
            continue;
        pool->files_n++;
        pool->bytes += (uint64_t)st.st_size;
        pool->disk_bytes += (uint64_t)st.st_blocks * 512;
    }
    names_free(names, n);
    return 0;
}

static int journal_note(struct log_tree *t, unsigned id)
{
    unsigned *at = array_add((void **)&t->journals, &t->journals_n, sizeof(*at));
    if (at == NULL)
        return -ENOMEM;
    for (; at > t->journals && at[-1] > id; at--)
        *at = at[-1];
    *at = id;
    return 0;
}

/* journal.N, its checkpoints, side files and parcels, the metadata log; true: one of these. */
static bool is_journal_file(struct log_tree *t, const char *dir, const char *name, int *ret_rc)
{
    unsigned id, which;
    uint64_t generation;
    unsigned long long number;
    int end = 0;
    if (strcmp(dir, t->journal_dir) != 0)
        return false;
    if (sscanf(name, "partition.%llu.moved%n", &number, &end) == 1 && end > 0 && name[end] == '\0')
        return true;
    end = 0;
    if (sscanf(name, "journal.%u.checkpoint.%u%n", &id, &which, &end) == 2 && name[end] == '\0')
        return true;
    if (sscanf(name, "journal.%u.parked.%u%n", &id, &which, &end) == 2 && name[end] == '\0')
        return true;
    if (sscanf(name, "journal.%u%n", &id, &end) == 1 && name[end] == '\0') {
        *ret_rc = journal_note(t, id);
        return true;
    }
    return meta_name_parse(name, &generation, &which) && generation == t->meta.generation;
}

static bool is_own_file(const char *name)
{
    static const char *const names[] = {".lock", "meta.properties", "meta.properties.copy"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, ".repair-", 8) == 0;
}

static bool is_unfinished(const char *name)
{
    static const char *const prefixes[] = {"journal.", "partition.", META_LOG_PREFIX,
                                           "meta.properties"};
    bool ours = false;
    for (unsigned i = 0; i < ARRAY_LEN(prefixes); i++)
        ours |= strncmp(name, prefixes[i], strlen(prefixes[i])) == 0;
    return ours && (name_ends(name, ".new") || name_ends(name, ".tmp"));
}

static int entry_sort(struct log_tree *t, const struct serve_dir *dir, const char *name)
{
    char topic[META_TOPIC_NAME_MAX + 1];
    int32_t index;
    uint64_t generation;
    unsigned copy;
    int rc = 0;
    if (is_own_file(name) || is_journal_file(t, dir->path, name, &rc))
        return rc;
    if (strncmp(name, ".pool.", 6) == 0)
        return pool_note(t, dir->path, name);
    if (partition_name_parse(name, topic, &index))
        return partition_sort(t, dir, name, topic, index);
    if (name_ends(name, "-delete"))
        return stray_add(t, dir->path, name, "left of a deleted partition",
                         holds_a_partition(dir->path, name));
    if (name_ends(name, "-stray"))
        return stray_add(t, dir->path, name, "put aside by an earlier start", false);
    if (meta_name_parse(name, &generation, &copy))
        return stray_add(t, dir->path, name, "an older generation of the metadata log", true);
    if (is_unfinished(name))
        return stray_add(t, dir->path, name, "a file that was never finished", true);
    return stray_add(t, dir->path, name, "nothing that a broker makes", false);
}

static int dir_sort(struct log_tree *t, const struct serve_dir *dir)
{
    char **names;
    unsigned n;
    int rc = names_list(dir->path, &names, &n);
    if (rc != 0)
        return rc;
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = names[i] == NULL ? -ENOMEM : entry_sort(t, dir, names[i]);
    names_free(names, n);
    return rc;
}

/* ---- opening ---- */

static int complain(const char *path, const char *what)
{
    fprintf(stderr, "penstock log: %s: %s\n", path, what);
    return LOG_EXIT_USAGE;
}

static int dir_open(struct serve_dir *dir, const char *path, enum tree_access access)
{
    struct stat st;
    dir->lock_fd = -1;
    if (realpath(path, dir->path) == NULL || stat(dir->path, &st) != 0)
        return complain(path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return complain(path, "not a directory");
    int rc = access == TREE_WRITE ? dirlock_acquire(dir->path, LOCK_WAIT_MS, &dir->lock_fd)
                                  : dirlock_share(dir->path, LOCK_WAIT_MS, &dir->lock_fd);
    if (rc == -EBUSY && access == TREE_FORCE_READ) {
        fprintf(stderr,
                "penstock log: %s is in use: read all the same; what is just being written "
                "looks like damage\n",
                path);
    } else if (rc == -EBUSY) {
        return complain(path, access == TREE_WRITE
                                  ? "in use by a broker or another penstock log"
                                  : "in use by a broker; --force-read reads all the same");
    } else if (rc != 0 && (rc != -ENOENT || access == TREE_WRITE)) {
        return complain(path, strerror(-rc));
    }
    return 0;
}

/* The data directory with this true path, or NULL. */
static const struct serve_dir *dir_known(const struct log_tree *t, const char *true_path)
{
    for (unsigned i = 0; i < t->dirs.data_n; i++)
        if (strcmp(t->dirs.data[i].path, true_path) == 0)
            return &t->dirs.data[i];
    return NULL;
}

static int dirs_lock(const struct log_options *o, enum tree_access access, struct log_tree *t)
{
    char true_path[PATH_MAX];
    t->dirs.journal.lock_fd = -1;
    for (unsigned i = 0; i < o->paths_n; i++) {
        if (realpath(o->paths[i], true_path) == NULL)
            return complain(o->paths[i], strerror(errno));
        if (i == META_DIRS_MAX || dir_known(t, true_path) != NULL)
            return complain(o->paths[i], "named twice, or too many directories");
        int code = dir_open(&t->dirs.data[i], o->paths[i], access);
        if (code != 0)
            return code;
        t->dirs.data_n++;
    }
    t->journal_dir = t->dirs.data[0].path;
    if (o->journal_dir == NULL)
        return 0;
    if (realpath(o->journal_dir, true_path) == NULL)
        return complain(o->journal_dir, strerror(errno));
    const struct serve_dir *same = dir_known(t, true_path);
    t->journal_dir = same != NULL ? same->path : t->dirs.journal.path;
    return same != NULL ? 0 : dir_open(&t->dirs.journal, o->journal_dir, access);
}

int tree_open(const struct log_options *o, enum tree_access access, struct log_tree **ret)
{
    struct log_tree *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return complain(o->paths[0], strerror(ENOMEM));
    int code = dirs_lock(o, access, t), rc = 0;
    if (code != 0) {
        tree_close(t);
        return code;
    }
    metadata_read(&t->meta, t->journal_dir);
    for (unsigned i = 0; i < t->dirs.data_n; i++)
        t->properties[i].rc =
            dir_properties_look(&t->dirs.data[i], &t->properties[i].good, &t->properties[i].twice);
    for (unsigned i = 0; rc == 0 && i < t->dirs.data_n; i++)
        rc = dir_sort(t, &t->dirs.data[i]);
    if (rc == 0 && t->journal_dir == t->dirs.journal.path)
        rc = dir_sort(t, &t->dirs.journal);
    if (rc == 0)
        rc = partitions_complete(t);
    if (rc != 0) {
        code = complain(o->paths[0], strerror(-rc));
        tree_close(t);
        return code;
    }
    *ret = t;
    return 0;
}

void tree_close(struct log_tree *t)
{
    for (unsigned i = 0; i < t->partitions_n; i++) {
        free(t->partitions[i].topic);
        free(t->partitions[i].path);
        free(t->partitions[i].files);
    }
    for (unsigned i = 0; i < t->strays_n; i++)
        free(t->strays[i].path);
    for (unsigned i = 0; i < t->pools_n; i++)
        free(t->pools[i].path);
    free(t->partitions);
    free(t->strays);
    free(t->pools);
    free(t->journals);
    metadata_free(&t->meta);
    dirs_close(&t->dirs);
    free(t);
}
