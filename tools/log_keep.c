#include "tools/log_keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"

#define COPY_BYTES (1u << 20)

static const char *dir_at(const struct log_keep *k, unsigned i)
{
    return i < k->tree->dirs.data_n ? k->tree->dirs.data[i].path : k->tree->journal_dir;
}

void keep_init(struct log_keep *k, const struct log_tree *t)
{
    time_t now = time(NULL);
    struct tm tm;
    *k = (struct log_keep){.tree = t};
    strftime(k->stamp, sizeof(k->stamp) - 8, ".repair-%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
    /* Two within a second get folders of their own. */
    char path[PATH_MAX];
    size_t len = strlen(k->stamp);
    for (unsigned n = 1; n < 1000; n++) {
        bool taken = false;
        for (unsigned i = 0; i <= t->dirs.data_n; i++) {
            snprintf(path, sizeof(path), "%.3900s/%s", dir_at(k, i), k->stamp);
            taken |= access(path, F_OK) == 0;
        }
        if (!taken)
            return;
        snprintf(k->stamp + len, sizeof(k->stamp) - len, ".%u", n);
    }
}

const char *keep_folder(const struct log_keep *k, unsigned i, char buf[PATH_MAX])
{
    if (!k->made[i])
        return NULL;
    snprintf(buf, PATH_MAX, "%.3900s/%s", dir_at(k, i), k->stamp);
    return buf;
}

/* ---- durable pieces ---- */

static int dir_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

/* The directory that holds this name. */
static void parent_of(const char *path, char ret[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    snprintf(ret, PATH_MAX, "%.*s", slash == NULL ? 0 : (int)(slash - path), path);
}

static int parent_sync(const char *path)
{
    char parent[PATH_MAX];
    parent_of(path, parent);
    return dir_sync(parent);
}

static int folder_make(const char *path)
{
    if (mkdir(path, 0755) == 0)
        return parent_sync(path);
    return errno == EEXIST ? 0 : -errno;
}

/* Where what is at path (or, with a suffix, a part of it) is kept; its folders are made. */
static int keep_target(struct log_keep *k, const char *path, const char *suffix, char ret[PATH_MAX])
{
    for (unsigned i = 0; i <= k->tree->dirs.data_n; i++) {
        size_t len = strlen(dir_at(k, i));
        if (strncmp(path, dir_at(k, i), len) != 0 || path[len] != '/')
            continue;
        char folder[PATH_MAX];
        snprintf(folder, sizeof(folder), "%.3900s/%s", dir_at(k, i), k->stamp);
        int rc = folder_make(folder);
        k->made[i] |= rc == 0;
        if (snprintf(ret, PATH_MAX, "%.3000s%.1000s%s", folder, path + len, suffix) >= PATH_MAX)
            return -ENAMETOOLONG;
        for (char *slash = ret + strlen(folder) + 1; rc == 0 && (slash = strchr(slash, '/'));
             slash++) {
            *slash = '\0';
            rc = folder_make(ret);
            *slash = '/';
        }
        return rc;
    }
    return -EINVAL;
}

static int write_all(int fd, const uint8_t *data, uint64_t len_bytes, uint64_t pos)
{
    for (uint64_t done = 0; done < len_bytes;) {
        ssize_t n = pwrite(fd, data + done, len_bytes - done, (off_t)(pos + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (uint64_t)n;
    }
    return 0;
}

static int file_write_new(const char *path, const uint8_t *data, uint64_t len_bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int rc = write_all(fd, data, len_bytes, 0);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    return rc;
}

/* Bytes that cannot be read are kept as zeros: nobody has them any more. */
static int range_copy(int from, uint64_t pos, uint64_t len_bytes, int to)
{
    uint8_t *buf = malloc(COPY_BYTES);
    int rc = buf == NULL ? -ENOMEM : 0;
    for (uint64_t done = 0; rc == 0 && done < len_bytes;) {
        ssize_t n =
            pread(from, buf, MIN(len_bytes - done, (uint64_t)COPY_BYTES), (off_t)(pos + done));
        if (n == 0)
            break;
        if (n < 0) {
            n = (ssize_t)MIN(len_bytes - done, (uint64_t)BLOCK_BYTES);
            memset(buf, 0, (size_t)n);
        }
        rc = write_all(to, buf, (uint64_t)n, done);
        done += (uint64_t)n;
    }
    free(buf);
    return rc;
}

/* The bytes [pos, pos + len) of path into a file in the folder, named after both. */
static int keep_bytes(struct log_keep *k, const char *path, uint64_t pos, uint64_t len_bytes)
{
    char target[PATH_MAX], suffix[32];
    snprintf(suffix, sizeof(suffix), ".at-%llu", (unsigned long long)pos);
    int rc = keep_target(k, path, suffix, target);
    if (rc != 0)
        return rc;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    rc = from < 0 || to < 0 ? -errno : range_copy(from, pos, len_bytes, to);
    if (rc == 0 && fsync(to) < 0)
        rc = -errno;
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc == 0 ? parent_sync(target) : rc;
}

/* ---- changes ---- */

int keep_move(struct log_keep *k, const char *path)
{
    char target[PATH_MAX];
    struct stat st;
    if (lstat(path, &st) < 0)
        return -errno;
    int rc = keep_target(k, path, "", target);
    if (rc == 0 && rename(path, target) < 0)
        rc = -errno;
    if (rc == 0)
        rc = parent_sync(target);
    return rc == 0 ? parent_sync(path) : rc;
}

int keep_overwrite(struct log_keep *k, const char *path, uint64_t pos, const uint8_t *data,
                   uint64_t len_bytes)
{
    int rc = keep_bytes(k, path, pos, len_bytes);
    if (rc != 0)
        return rc;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = write_all(fd, data, len_bytes, pos);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

int keep_replace(struct log_keep *k, const char *path, const uint8_t *data, uint64_t len_bytes)
{
    char temporary[PATH_MAX];
    snprintf(temporary, sizeof(temporary), "%.4000s.tmp", path);
    int rc = file_write_new(temporary, data, len_bytes);
    if (rc == 0)
        rc = keep_move(k, path);
    if (rc == -ENOENT)
        rc = 0;
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    if (rc != 0)
        unlink(temporary);
    return rc == 0 ? parent_sync(path) : rc;
}

int keep_cut(struct log_keep *k, const char *path, uint64_t size_bytes)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    if ((uint64_t)st.st_size <= size_bytes)
        return 0;
    int rc = keep_bytes(k, path, size_bytes, (uint64_t)st.st_size - size_bytes);
    if (rc != 0)
        return rc;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = ftruncate(fd, (off_t)size_bytes) < 0 || fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}
