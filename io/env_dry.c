#include "io/env_dry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/map.h"

/* A name that was looked at or changed. Its bytes: a changed block, else those of the real file
 * below base_bytes, else zeros. */
struct node {
    struct node *next; /* of those with the same hash */
    char *path;
    bool exists, is_dir;
    bool is_real; /* a directory whose real entries count */
    uint64_t size_bytes;
    char *base_path; /* the real file; NULL: none */
    uint64_t base_bytes;
    int base_fd; /* -1: not open */
    unsigned opens;
    struct map blocks; /* by number: malloc, BLOCK_BYTES */
};
struct env_file {
    struct node *node;
};
struct dry {
    struct env env;
    struct map nodes; /* by hash of the path */
    struct list_node pending;
    uint64_t now_ns, memory_bytes, used_bytes, changes;
};

static struct dry *dry_of(struct env *env)
{
    return container_of(env, struct dry, env);
}

/* ---- nodes ---- */

static uint64_t path_hash(const char *path)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *path != '\0'; path++)
        h = (h ^ (uint8_t)*path) * 1099511628211u;
    return h;
}

static void node_empty(struct dry *d, struct node *n)
{
    void *block;
    for (size_t it = 0; (block = map_next(&n->blocks, &it)) != NULL;) {
        free(block);
        d->used_bytes -= BLOCK_BYTES;
    }
    map_fini(&n->blocks);
    map_init(&n->blocks);
    if (n->base_fd >= 0)
        close(n->base_fd);
    free(n->base_path);
    n->base_path = NULL;
    n->base_fd = -1;
    n->base_bytes = n->size_bytes = 0;
    n->exists = n->is_dir = n->is_real = false;
}

static struct node *node_create(struct dry *d, const char *path)
{
    struct stat st;
    struct node *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return NULL;
    n->base_fd = -1;
    map_init(&n->blocks);
    n->path = strdup(path);
    n->exists = stat(path, &st) == 0;
    n->is_dir = n->is_real = n->exists && S_ISDIR(st.st_mode);
    if (n->exists && !n->is_dir) {
        n->base_path = strdup(path);
        n->size_bytes = n->base_bytes = (uint64_t)st.st_size;
    }
    uint64_t hash = path_hash(path);
    n->next = map_get(&d->nodes, hash);
    bool whole = n->path != NULL && (n->base_path != NULL || !n->exists || n->is_dir);
    if (whole && map_put(&d->nodes, hash, n) == 0)
        return n;
    free(n->path);
    free(n->base_path);
    free(n);
    return NULL;
}

/* What is under this name now; NULL: out of memory. */
static struct node *node_get(struct dry *d, const char *path)
{
    struct node *n = map_get(&d->nodes, path_hash(path));
    while (n != NULL && strcmp(n->path, path) != 0)
        n = n->next;
    return n != NULL ? n : node_create(d, path);
}

/* ---- bytes ---- */

static int base_read(struct node *n, uint8_t *buf, uint64_t len_bytes, uint64_t pos)
{
    if (n->base_fd < 0)
        n->base_fd = open(n->base_path, O_RDONLY | O_CLOEXEC);
    if (n->base_fd < 0)
        return -errno;
    for (uint64_t done = 0; done < len_bytes;) {
        ssize_t got = pread(n->base_fd, buf + done, len_bytes - done, (off_t)(pos + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO; /* it was longer before */
        done += (uint64_t)got;
    }
    return 0;
}

/* One block as it is now; what lies behind the end as zeros. */
static int block_read(struct node *n, uint64_t number, uint8_t buf[BLOCK_BYTES])
{
    const uint8_t *changed = map_get(&n->blocks, number);
    uint64_t pos = number * BLOCK_BYTES;
    if (changed != NULL) {
        memcpy(buf, changed, BLOCK_BYTES);
        return 0;
    }
    uint64_t there = pos < n->base_bytes ? MIN(n->base_bytes - pos, (uint64_t)BLOCK_BYTES) : 0;
    memset(buf + there, 0, BLOCK_BYTES - there);
    return there == 0 ? 0 : base_read(n, buf, there, pos);
}

static int range_read(struct node *n, uint8_t *buf, uint64_t len_bytes, uint64_t pos)
{
    uint8_t block[BLOCK_BYTES];
    if (n->blocks.count == 0 && pos <= n->base_bytes && len_bytes <= n->base_bytes - pos)
        return len_bytes == 0 ? 0 : base_read(n, buf, len_bytes, pos);
    for (uint64_t done = 0; done < len_bytes;) {
        uint64_t in = (pos + done) % BLOCK_BYTES, len = MIN(BLOCK_BYTES - in, len_bytes - done);
        int rc = block_read(n, (pos + done) / BLOCK_BYTES, block);
        if (rc != 0)
            return rc;
        memcpy(buf + done, block + in, len);
        done += len;
    }
    return 0;
}

/* The block to change, with its present bytes. */
static uint8_t *block_own(struct dry *d, struct node *n, uint64_t number)
{
    uint8_t *block = map_get(&n->blocks, number);
    if (block != NULL)
        return block;
    block = d->used_bytes + BLOCK_BYTES > d->memory_bytes ? NULL : malloc(BLOCK_BYTES);
    if (block == NULL)
        return NULL;
    if (block_read(n, number, block) != 0)
        memset(block, 0, BLOCK_BYTES); /* unreadable: all of it is about to be replaced */
    if (map_put(&n->blocks, number, block) != 0) {
        free(block);
        return NULL;
    }
    d->used_bytes += BLOCK_BYTES;
    return block;
}

static int range_write(struct dry *d, struct node *n, const uint8_t *data, uint64_t len_bytes,
                       uint64_t pos)
{
    for (uint64_t done = 0; done < len_bytes;) {
        uint64_t in = (pos + done) % BLOCK_BYTES, len = MIN(BLOCK_BYTES - in, len_bytes - done);
        uint8_t *block = block_own(d, n, (pos + done) / BLOCK_BYTES);
        if (block == NULL)
            return -ENOSPC;
        memcpy(block + in, data + done, len);
        done += len;
    }
    n->size_bytes = MAX(n->size_bytes, pos + len_bytes);
    return 0;
}

static void node_resize(struct dry *d, struct node *n, uint64_t size_bytes)
{
    uint64_t from = size_bytes / BLOCK_BYTES, old = n->size_bytes;
    n->size_bytes = size_bytes;
    n->base_bytes = MIN(n->base_bytes, size_bytes);
    if (size_bytes >= old || n->blocks.count == 0)
        return;
    uint8_t *cut = map_get(&n->blocks, from);
    if (cut != NULL)
        memset(cut + size_bytes % BLOCK_BYTES, 0, BLOCK_BYTES - size_bytes % BLOCK_BYTES);
    for (uint64_t number = from + 1; number <= old / BLOCK_BYTES; number++) {
        void *block = map_remove(&n->blocks, number);
        d->used_bytes -= block == NULL ? 0 : BLOCK_BYTES;
        free(block);
    }
}

/* ---- transfers ---- */

static int op_read(struct env_op *op)
{
    struct node *n = op->file->node;
    uint64_t pos = op->offset_bytes, done = 0;
    for (unsigned i = 0; i < op->iov_n && pos + done < n->size_bytes; i++) {
        uint64_t len = MIN(op->iov[i].iov_len, n->size_bytes - pos - done);
        int rc = range_read(n, op->iov[i].iov_base, len, pos + done);
        if (rc != 0)
            return rc;
        done += len;
    }
    return (int)done;
}

static int op_write(struct dry *d, struct env_op *op)
{
    uint64_t done = 0;
    d->changes++;
    for (unsigned i = 0; i < op->iov_n; i++) {
        int rc = range_write(d, op->file->node, op->iov[i].iov_base, op->iov[i].iov_len,
                             op->offset_bytes + done);
        if (rc != 0)
            return rc;
        done += op->iov[i].iov_len;
    }
    return (int)done;
}

/* ---- names ---- */

static int file_open(struct node *n, struct env_name_step *s)
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

static int step_mkdir(struct dry *d, struct node *n, struct env_name_step *s)
{
    (void)s;
    if (n->exists)
        return n->is_dir ? 0 : -ENOTDIR;
    d->changes++;
    n->exists = n->is_dir = true;
    return 0;
}

static int step_remove(struct dry *d, struct node *n, struct env_name_step *s)
{
    (void)s;
    ASSERT(n->opens == 0);
    d->changes += n->exists;
    node_empty(d, n);
    return 0;
}

static int step_rename(struct dry *d, struct node *n, struct env_name_step *s)
{
    struct node *to = node_get(d, s->path2);
    if (to == NULL)
        return -ENOMEM;
    if (!n->exists)
        return -ENOENT;
    ASSERT(to->opens == 0);
    d->changes++;
    node_empty(d, to);
    struct node moved = *n;
    moved.next = to->next;
    moved.path = to->path;
    moved.is_real = false;
    *to = moved;
    *n = (struct node){.next = n->next, .path = n->path, .base_fd = -1, .opens = 0};
    map_init(&n->blocks);
    return 0;
}

static int step_nothing(struct dry *d, struct node *n, struct env_name_step *s)
{
    (void)d;
    (void)s;
    return n->exists ? 0 : -ENOENT;
}

static int step_create(struct dry *d, struct node *n, struct env_name_step *s)
{
    if (n->exists)
        return -EEXIST;
    d->changes++;
    n->exists = true;
    n->size_bytes = s->size_bytes;
    return file_open(n, s);
}

static int step_open(struct dry *d, struct node *n, struct env_name_step *s)
{
    (void)d;
    if (!n->exists)
        return -ENOENT;
    return n->is_dir ? -EISDIR : file_open(n, s);
}

static int step_resize(struct dry *d, struct node *n, struct env_name_step *s)
{
    if (!n->exists)
        return -ENOENT;
    d->changes++;
    node_resize(d, n, s->size_bytes);
    return 0;
}

static int step_put(struct dry *d, struct node *n, struct env_name_step *s)
{
    d->changes++;
    node_empty(d, n);
    n->exists = true;
    return range_write(d, n, s->data, s->data_len, 0);
}

static int step_get(struct dry *d, struct node *n, struct env_name_step *s)
{
    (void)d;
    if (!n->exists || n->is_dir)
        return n->exists ? -EISDIR : -ENOENT;
    s->ret_data = malloc(n->size_bytes + 1);
    if (s->ret_data == NULL)
        return -ENOMEM;
    int rc = range_read(n, (uint8_t *)s->ret_data, n->size_bytes, 0);
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
        const struct node *n = map_get(&d->nodes, path_hash(entry_path));
        while (n != NULL && strcmp(n->path, entry_path) != 0)
            n = n->next;
        if (n == NULL || n->exists)
            rc = listing_add(l, entry->d_name);
    }
    closedir(dir);
    return rc;
}

/* Those that have come since. */
static int list_new(struct dry *d, const char *path, bool is_real, struct listing *l)
{
    struct node *n;
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

static int step_list(struct dry *d, struct node *n, struct env_name_step *s)
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
static int step_stat(struct dry *d, struct node *n, struct env_name_step *s)
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

static int (*const steps[ENV_STEP_KINDS])(struct dry *d, struct node *n,
                                          struct env_name_step *s) = {
    [ENV_STEP_MKDIR] = step_mkdir,      [ENV_STEP_RMDIR] = step_remove,
    [ENV_STEP_UNLINK] = step_remove,    [ENV_STEP_RENAME] = step_rename,
    [ENV_STEP_SYNC_DIR] = step_nothing, [ENV_STEP_SYNC_FS] = step_nothing,
    [ENV_STEP_CREATE] = step_create,    [ENV_STEP_PREWRITE] = step_create,
    [ENV_STEP_OPEN] = step_open,        [ENV_STEP_RESIZE] = step_resize,
    [ENV_STEP_PUT] = step_put,          [ENV_STEP_GET] = step_get,
    [ENV_STEP_LIST] = step_list,        [ENV_STEP_STAT] = step_stat,
};

static int op_names(struct dry *d, struct env_op *op)
{
    for (unsigned i = 0; i < op->steps_n; i++) {
        struct node *n = node_get(d, op->steps[i].path);
        int rc = n == NULL ? -ENOMEM : steps[op->steps[i].kind](d, n, &op->steps[i]);
        if (rc != 0) {
            op->failed_step = i;
            return rc;
        }
    }
    return 0;
}

/* ---- the environment ---- */

static int op_run(struct dry *d, struct env_op *op)
{
    switch (op->kind) {
    case ENV_OP_READ:
        return op_read(op);
    case ENV_OP_WRITE:
        return op_write(d, op);
    case ENV_OP_FLUSH:
        return 0;
    case ENV_OP_NAMES:
        return op_names(d, op);
    default:
        return -EOPNOTSUPP;
    }
}

static void clock_read(struct dry *d)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    d->now_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t dry_now_ns(struct env *env)
{
    return dry_of(env)->now_ns;
}

static int64_t dry_wall_ms(struct env *env)
{
    struct timespec ts;
    (void)env;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint64_t dry_random(struct env *env)
{
    uint64_t v = dry_of(env)->now_ns; /* if there is no better */
    if (getrandom(&v, sizeof(v), 0) != sizeof(v))
        v *= 0x9e3779b97f4a7c15u;
    return v;
}

static void dry_submit(struct env *env, struct env_op *op)
{
    list_push_tail(&dry_of(env)->pending, &op->link);
}

static void dry_file_close(struct env *env, struct env_file *file)
{
    struct node *n = file->node;
    (void)env;
    if (--n->opens == 0 && n->base_fd >= 0) {
        close(n->base_fd);
        n->base_fd = -1;
    }
    free(file);
}

static void dry_turn(struct env *env, uint64_t deadline_ns)
{
    struct dry *d = dry_of(env);
    struct list_node due;
    clock_read(d);
    ASSERT(!list_empty(&d->pending) || deadline_ns != UINT64_MAX);
    list_init(&due);
    list_splice_tail(&due, &d->pending);
    if (list_empty(&due) && deadline_ns > d->now_ns) {
        struct timespec left = {.tv_sec = (time_t)((deadline_ns - d->now_ns) / 1000000000u),
                                .tv_nsec = (long)((deadline_ns - d->now_ns) % 1000000000u)};
        nanosleep(&left, NULL);
        clock_read(d);
    }
    for (struct list_node *it; (it = list_pop_head(&due)) != NULL;) {
        struct env_op *op = container_of(it, struct env_op, link);
        op->res = op_run(d, op);
        op->busy = false;
        op->on_done(op);
    }
}

static void dry_destroy(struct env *env)
{
    struct dry *d = dry_of(env);
    struct node *n, *next;
    for (size_t it = 0; (n = map_next(&d->nodes, &it)) != NULL;)
        for (; n != NULL; n = next) {
            next = n->next;
            ASSERT(n->opens == 0);
            node_empty(d, n);
            map_fini(&n->blocks);
            free(n->path);
            free(n);
        }
    map_fini(&d->nodes);
    free(d);
}

static const struct env_ops dry_ops = {
    .now_ns = dry_now_ns,
    .wall_ms = dry_wall_ms,
    .random = dry_random,
    .submit = dry_submit,
    .file_close = dry_file_close,
    .turn = dry_turn,
    .destroy = dry_destroy,
};

int env_dry_create(uint64_t memory_bytes, struct env **ret)
{
    struct dry *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    d->env = (struct env){.ops = &dry_ops, .count = 1};
    d->memory_bytes = memory_bytes;
    list_init(&d->pending);
    map_init(&d->nodes);
    clock_read(d);
    *ret = &d->env;
    return 0;
}

uint64_t env_dry_changes(const struct env *env)
{
    return container_of(env, struct dry, env)->changes;
}
