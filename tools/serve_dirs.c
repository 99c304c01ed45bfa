#include "tools/serve_dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "io/dirlock.h"

#define PROPERTIES_NAME "meta.properties"
#define COPY_NAME "meta.properties.copy"
#define PROPERTIES_BYTES 4096
#define CHECKSUM_PREFIX "# crc32c="
#define CHECKSUM_FORMAT CHECKSUM_PREFIX "%08x\n"

/* ---- making and locking ---- */

static int id_make(struct meta_uuid *ret)
{
    uint64_t random[2];
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return -EIO;
    meta_uuid_make(random[0], random[1], ret);
    return 0;
}

/* ---- properties ---- */

static int line_parse(struct serve_dir *dir, char *line)
{
    char *value = strchr(line, '=');
    if (line[0] == '#' || value == NULL)
        return 0;
    *value++ = '\0';
    if (strcmp(line, "cluster.id") == 0)
        return meta_uuid_parse(value, &dir->cluster_id);
    if (strcmp(line, "directory.id") == 0)
        return meta_uuid_parse(value, &dir->id);
    if (strcmp(line, "version") == 0)
        return strcmp(value, "1") == 0 ? 0 : -EINVAL;
    return 0;
}

static int text_parse(struct serve_dir *dir, char *text)
{
    int rc = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); rc == 0 && line != NULL;
         line = strtok_r(NULL, "\n", &save))
        rc = line_parse(dir, line);
    if (rc == 0 && (meta_uuid_is_zero(&dir->id) || meta_uuid_is_zero(&dir->cluster_id)))
        rc = -EINVAL;
    return rc;
}

/* The last line is the checksum of those before, as a comment, for Kafka's tools read it too. */
static bool text_intact(const char *text)
{
    char line[32];
    const char *last = strstr(text, CHECKSUM_PREFIX);
    if (last == NULL)
        return false;
    snprintf(line, sizeof(line), CHECKSUM_FORMAT, crc32c(text, (size_t)(last - text)));
    return strcmp(last, line) == 0;
}

static const char *const copy_names[2] = {PROPERTIES_NAME, COPY_NAME};

enum copy_state { COPY_MISSING, COPY_DAMAGED, COPY_INTACT };

static enum copy_state copy_read(const struct serve_dir *dir, const char *name,
                                 char text[PROPERTIES_BYTES])
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    memset(text, 0, PROPERTIES_BYTES);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? COPY_MISSING : COPY_DAMAGED;
    ssize_t len = read(fd, text, PROPERTIES_BYTES - 1);
    close(fd);
    return len > 0 && text_intact(text) ? COPY_INTACT : COPY_DAMAGED;
}

static int file_write_durably(const char *dir, const char *path, const char *text)
{
    char temporary[PATH_MAX + 40];
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    size_t len = strlen(text);
    int rc = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0 ? 0 : -EIO;
    close(fd);
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    int dir_fd = rc == 0 ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (rc == 0 && (dir_fd < 0 || fsync(dir_fd) < 0))
        rc = -errno;
    if (dir_fd >= 0)
        close(dir_fd);
    return rc;
}

static int copy_write(const struct serve_dir *dir, const char *name, const char *text)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    return file_write_durably(dir->path, path, text);
}

/* Both files and which of them counts. -ENOENT: neither is there; -EBADMSG: neither is whole. */
static int copies_read(const struct serve_dir *dir, char text[2][PROPERTIES_BYTES],
                       enum copy_state state[2], unsigned *ret_good)
{
    for (unsigned i = 0; i < 2; i++)
        state[i] = copy_read(dir, copy_names[i], text[i]);
    if (state[0] == COPY_MISSING && state[1] == COPY_MISSING)
        return -ENOENT;
    if (state[0] != COPY_INTACT && state[1] != COPY_INTACT)
        return -EBADMSG;
    *ret_good = state[0] != COPY_INTACT;
    return 0;
}

int dir_properties_look(struct serve_dir *dir, unsigned *ret_good, bool *ret_twice)
{
    char text[2][PROPERTIES_BYTES];
    enum copy_state state[2];
    int rc = copies_read(dir, text, state, ret_good);
    if (rc != 0)
        return rc;
    *ret_twice = state[!*ret_good] == COPY_INTACT && strcmp(text[0], text[1]) == 0;
    rc = text_parse(dir, text[*ret_good]);
    dir->has_properties = rc == 0;
    return rc;
}

/* The file is there twice; what one of them has lost is made again from the other. */
static int properties_read(struct serve_dir *dir)
{
    char text[2][PROPERTIES_BYTES];
    enum copy_state state[2];
    unsigned good;
    int rc = copies_read(dir, text, state, &good);
    if (rc != 0)
        return rc == -ENOENT ? id_make(&dir->id) : rc;
    unsigned other = !good;
    if (state[other] != COPY_INTACT || strcmp(text[0], text[1]) != 0) {
        log_warn("%s/%s was %s and is made again from %s", dir->path, copy_names[other],
                 state[other] == COPY_MISSING ? "missing" : "damaged", copy_names[good]);
        rc = copy_write(dir, copy_names[other], text[good]);
        if (rc < 0)
            return rc;
    }
    rc = text_parse(dir, text[good]);
    dir->has_properties = rc == 0;
    return rc;
}

int dirs_write(struct serve_dirs *d, const struct meta_uuid *cluster_id, int32_t node_id,
               char *reason, size_t reason_size)
{
    char text[PROPERTIES_BYTES], cluster[23], id[23];
    meta_uuid_text(cluster_id, cluster);
    for (unsigned i = 0; i < d->data_n; i++) {
        struct serve_dir *dir = &d->data[i];
        if (dir->has_properties || dir->rc < 0)
            continue;
        meta_uuid_text(&dir->id, id);
        int len =
            snprintf(text, sizeof(text), "cluster.id=%s\ndirectory.id=%s\nnode.id=%d\nversion=1\n",
                     cluster, id, node_id);
        snprintf(text + len, sizeof(text) - (size_t)len, CHECKSUM_FORMAT,
                 crc32c(text, (size_t)len));
        int rc = copy_write(dir, PROPERTIES_NAME, text);
        if (rc == 0)
            rc = copy_write(dir, COPY_NAME, text);
        if (rc < 0) {
            snprintf(reason, reason_size, "%s/%s: %s", dir->path, PROPERTIES_NAME, strerror(-rc));
            return rc;
        }
        dir->has_properties = true;
        dir->cluster_id = *cluster_id;
    }
    return 0;
}

int dirs_check(const struct serve_dirs *d, const struct meta_uuid *cluster_id, bool is_new,
               char *reason, size_t reason_size)
{
    char cluster[23];
    for (unsigned i = 0; i < d->data_n; i++) {
        const struct serve_dir *dir = &d->data[i];
        if (!dir->has_properties)
            continue;
        meta_uuid_text(&dir->cluster_id, cluster);
        if (is_new) {
            snprintf(reason, reason_size,
                     "data directory %s belongs to cluster %s, but %s has no metadata log",
                     dir->path, cluster, d->journal.path);
            return -EINVAL;
        }
        if (memcmp(&dir->cluster_id, cluster_id, sizeof(*cluster_id)) != 0) {
            snprintf(reason, reason_size,
                     "data directory %s belongs to another cluster than the metadata log in %s: %s",
                     dir->path, d->journal.path, cluster);
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- all of them ---- */

/* Locks the directory, makes it if missing, and learns its true path. */
static int dir_lock(struct serve_dir *dir, const char *path, unsigned wait_ms, char *reason,
                    size_t reason_size)
{
    dir->lock_fd = -1;
    int rc = dirlock_acquire(path, wait_ms, &dir->lock_fd);
    if (rc == 0 && realpath(path, dir->path) == NULL) {
        rc = -errno;
        close(dir->lock_fd);
    }
    if (rc == 0)
        return 0;
    dir->lock_fd = -1;
    snprintf(reason, reason_size, "directory %s: %s", path,
             rc == -EBUSY ? "in use by another process" : strerror(-rc));
    return rc;
}

/* A second lock of the same directory would wait for ourselves. */
static const struct serve_dir *dir_find(const struct serve_dirs *d, const char *path)
{
    char true_path[PATH_MAX];
    if (realpath(path, true_path) == NULL)
        return NULL;
    for (unsigned i = 0; i < d->data_n; i++)
        if (strcmp(d->data[i].path, true_path) == 0)
            return &d->data[i];
    return NULL;
}

const char *dir_trouble(const struct serve_dir *dir)
{
    return dir->rc == -EBADMSG  ? PROPERTIES_NAME " is damaged, and so is its copy"
           : dir->rc == -EINVAL ? PROPERTIES_NAME " is not understood"
                                : strerror(-dir->rc);
}

int dir_make(struct serve_dir *dir, char *reason, size_t reason_size)
{
    char path[PATH_MAX];
    memcpy(path, dir->path, sizeof(path));
    dir->rc = dir_lock(dir, path, 0, reason, reason_size);
    return dir->rc == 0 ? id_make(&dir->id) : dir->rc;
}

static bool is_absent(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 && errno == ENOENT;
}

/* needed: journals and metadata are in it, so that nothing goes without. Of the others only one
 * that somebody else owns is refused here. */
static int data_dir_add(struct serve_dirs *d, const char *path, bool needed, unsigned wait_ms,
                        char *reason, size_t reason_size)
{
    struct serve_dir *dir = &d->data[d->data_n];
    *dir = (struct serve_dir){.lock_fd = -1};
    snprintf(dir->path, sizeof(dir->path), "%s", path);
    if (dir_find(d, path) != NULL) {
        snprintf(reason, reason_size, "data directory %s is named twice", path);
        return -EINVAL;
    }
    d->data_n++;
    if (!needed && is_absent(path)) {
        dir->rc = -ENOENT;
        return 0;
    }
    dir->rc = dir_lock(dir, path, wait_ms, reason, reason_size);
    if (dir->rc < 0)
        return needed || dir->rc == -EBUSY ? dir->rc : 0;
    dir->rc = properties_read(dir);
    if (dir->rc < 0)
        snprintf(reason, reason_size, "%s: %s", dir->path, dir_trouble(dir));
    return needed ? dir->rc : 0;
}

/* The journal's directory is one of the data directories, or the first one when none is named. */
static bool holds_journal(const char *data, unsigned index, const char *journal)
{
    char path[2][PATH_MAX];
    if (journal == NULL)
        return index == 0;
    return strcmp(data, journal) == 0 ||
           (realpath(data, path[0]) != NULL && realpath(journal, path[1]) != NULL &&
            strcmp(path[0], path[1]) == 0);
}

static int journal_open(struct serve_dirs *d, const char *path, unsigned wait_ms, char *reason,
                        size_t reason_size)
{
    const struct serve_dir *same = path == NULL ? &d->data[0] : dir_find(d, path);
    if (same == NULL)
        return dir_lock(&d->journal, path, wait_ms, reason, reason_size);
    memcpy(d->journal.path, same->path, sizeof(same->path));
    return 0;
}

int dirs_open(struct serve_dirs *d, const char *const *data, unsigned data_n, const char *journal,
              unsigned lock_wait_ms, char *reason, size_t reason_size)
{
    d->data_n = 0;
    d->journal = (struct serve_dir){.lock_fd = -1};
    if (data_n == 0 || data_n > META_DIRS_MAX) {
        snprintf(reason, reason_size, "log.dirs: 1 to %d directories are possible", META_DIRS_MAX);
        return -EINVAL;
    }
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < data_n; i++)
        rc = data_dir_add(d, data[i], holds_journal(data[i], i, journal), lock_wait_ms, reason,
                          reason_size);
    if (rc == 0)
        rc = journal_open(d, journal, lock_wait_ms, reason, reason_size);
    if (rc < 0)
        dirs_close(d);
    return rc;
}

unsigned dirs_lock_fds(const struct serve_dirs *d, int *ret)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->data_n; i++)
        if (d->data[i].lock_fd >= 0)
            ret[n++] = d->data[i].lock_fd;
    if (d->journal.lock_fd >= 0)
        ret[n++] = d->journal.lock_fd;
    return n;
}

void dirs_close(struct serve_dirs *d)
{
    int fds[META_DIRS_MAX + 1];
    unsigned n = dirs_lock_fds(d, fds);
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
    d->data_n = 0;
    d->journal.lock_fd = -1;
}
