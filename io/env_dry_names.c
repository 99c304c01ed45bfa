#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "core/base/assert.h"
#include "io/env_dry_private.h"

static int file_open(struct dry_node *n, struct env_name_step *s)
{
    struct env_file *file = malloc(sizeof(*file));
    if (file == NULL)
        return -ENOMEM;
    file->node = n;
    n->opens++;
    s->ret_file = file;
    s->ret_size_bytes = n->size_bytes;
    return 0;
}

static int step_mkdir(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    (void)s;
    if (n->exists)
        return n->is_dir ? 0 : -ENOTDIR;
    d->changes++;
    n->exists = n->is_dir = true;
    return 0;
}

static int step_remove(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    (void)s;
    ASSERT(n->opens == 0);
    d->changes += n->exists;
    dry_node_empty(d, n);
    return 0;
}

static int step_rename(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    struct dry_node *to = dry_node_get(d, s->path2);
    if (to == NULL)
        return -ENOMEM;
    if (!n->exists)
        return -ENOENT;
    ASSERT(to->opens == 0);
    d->changes++;
    dry_node_empty(d, to);
    struct dry_node moved = *n;
    moved.next = to->next;
    moved.path = to->path;
    moved.is_real = false;
    *to = moved;
    *n = (struct dry_node){.next = n->next, .path = n->path, .base_fd = -1, .opens = 0};
    map_init(&n->blocks);
    return 0;
}

static int step_nothing(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    (void)d;
    (void)s;
    return n->exists ? 0 : -ENOENT;
}

static int step_create(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    if (n->exists)
        return -EEXIST;
    d->changes++;
    n->exists = true;
    n->size_bytes = s->size_bytes;
    return file_open(n, s);
}

static int step_open(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    (void)d;
    if (!n->exists)
        return -ENOENT;
    return n->is_dir ? -EISDIR : file_open(n, s);
}

static int step_resize(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    if (!n->exists)
        return -ENOENT;
    d->changes++;
    dry_resize(d, n, s->size_bytes);
    return 0;
}

static int step_put(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    d->changes++;
    dry_node_empty(d, n);
    n->exists = true;
    return dry_write(d, n, s->data, s->data_len, 0);
}

static int step_get(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    (void)d;
    if (!n->exists || n->is_dir)
        return n->exists ? -EISDIR : -ENOENT;
    s->ret_data = malloc(n->size_bytes + 1);
    if (s->ret_data == NULL)
        return -ENOMEM;
    int rc = dry_read(n, (uint8_t *)s->ret_data, n->size_bytes, 0);
    if (rc != 0) {
        free(s->ret_data);
        s->ret_data = NULL;
        return rc;
    }
    s->ret_data_len = n->size_bytes;
    return 0;
}

struct listing {
    char *data;
    size_t len, count;
};

static int listing_add(struct listing *l, const char *name)
{
    size_t len = strlen(name) + 1;
    char *data = realloc(l->data, l->len + len);
    if (data == NULL)
        return -ENOMEM;
    memcpy(data + l->len, name, len);
    l->data = data;
    l->len += len;
    l->count++;
    return 0;
}

/* The real entries that are still there. */
static int list_real(struct dry *d, const char *path, struct listing *l)
{
    char entry_path[PATH_MAX];
    struct dirent *entry;
    int rc = 0;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -errno;
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(entry_path, sizeof(entry_path), "%.3800s/%s", path, entry->d_name);
        const struct dry_node *n = dry_node_known(d, entry_path);
        if (n == NULL || n->exists)
            rc = listing_add(l, entry->d_name);
    }
    closedir(dir);
    return rc;
}

/* Those that have come since. */
static int list_new(struct dry *d, const char *path, bool is_real, struct listing *l)
{
    struct dry_node *n;
    struct stat st;
    size_t len = strlen(path);
    int rc = 0;
    for (size_t it = 0; rc == 0 && (n = map_next(&d->nodes, &it)) != NULL;)
        for (; rc == 0 && n != NULL; n = n->next)
            if (n->exists && strncmp(n->path, path, len) == 0 && n->path[len] == '/' &&
                strchr(n->path + len + 1, '/') == NULL && !(is_real && stat(n->path, &st) == 0))
                rc = listing_add(l, n->path + len + 1);
    return rc;
}

static int step_list(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    struct listing l = {0};
    if (!n->exists)
        return -ENOENT;
    int rc = n->is_real ? list_real(d, s->path, &l) : 0;
    if (rc == 0)
        rc = list_new(d, s->path, n->is_real, &l);
    if (rc != 0) {
        free(l.data);
        return rc;
    }
    s->ret_data = l.data;
    s->ret_count = l.count;
    return 0;
}

/* The space is that of the nearest real directory above. */
static int step_stat(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    (void)d;
    struct statvfs vfs;
    char path[PATH_MAX];
    if (!n->exists)
        return -ENOENT;
    snprintf(path, sizeof(path), "%s", s->path);
    while (statvfs(path, &vfs) != 0) {
        char *slash = strrchr(path, '/');
        if (errno != ENOENT || slash == NULL || slash == path)
            return -errno;
        *slash = '\0';
    }
    s->ret_size_bytes = n->size_bytes;
    s->ret_free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    s->ret_total_bytes = (uint64_t)vfs.f_blocks * vfs.f_frsize;
    return 0;
}

static int step_unsupported(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    (void)d;
    (void)n;
    (void)s;
    return -EOPNOTSUPP; /* nothing is sent from here */
}

static int step_run(struct dry *d, struct dry_node *n, struct env_name_step *s)
{
    (void)d;
    (void)n;
    return s->run(s->arg);
}

static int (*const steps[ENV_STEP_KINDS])(struct dry *d, struct dry_node *n,
                                          struct env_name_step *s) = {
    [ENV_STEP_MKDIR] = step_mkdir,
    [ENV_STEP_RMDIR] = step_remove,
    [ENV_STEP_UNLINK] = step_remove,
    [ENV_STEP_RENAME] = step_rename,
    [ENV_STEP_SYNC_DIR] = step_nothing,
    [ENV_STEP_SYNC_FS] = step_nothing,
    [ENV_STEP_CREATE] = step_create,
    [ENV_STEP_PREWRITE] = step_create,
    [ENV_STEP_OPEN] = step_open,
    [ENV_STEP_RESIZE] = step_resize,
    [ENV_STEP_PUT] = step_put,
    [ENV_STEP_GET] = step_get,
    [ENV_STEP_LIST] = step_list,
    [ENV_STEP_STAT] = step_stat,
    [ENV_STEP_OPEN_CACHED] = step_unsupported,
    [ENV_STEP_RUN] = step_run,
};

int dry_names(struct dry *d, struct env_op *op)
{
    for (unsigned i = 0; i < op->steps_n; i++) {
        struct dry_node *n = dry_node_get(d, op->steps[i].path);
        int rc = n == NULL ? -ENOMEM : steps[op->steps[i].kind](d, n, &op->steps[i]);
        if (rc != 0) {
            op->failed_step = i;
            return rc;
        }
    }
    return 0;
}
