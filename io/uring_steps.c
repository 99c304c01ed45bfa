#include "io/uring_names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/device.h"
#include "io/uring_files.h"

enum { FILE_MODE = 0644, DIR_MODE = 0755, ZEROS_BYTES = 1 << 20 };
#define SMALL_FILE_BYTES_MAX (UINT64_C(1) << 30)

/* 0, or the negative errno that the call before left. */
static int rc_of(int result)
{
    return result < 0 ? -errno : 0;
}

static int step_mkdir(struct env_name_step *s)
{
    struct stat st;
    if (mkdir(s->path, DIR_MODE) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    if (stat(s->path, &st) < 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int step_rmdir(struct env_name_step *s)
{
    return rmdir(s->path) == 0 || errno == ENOENT ? 0 : -errno;
}

static int step_unlink(struct env_name_step *s)
{
    return unlink(s->path) == 0 || errno == ENOENT ? 0 : -errno;
}

static int step_rename(struct env_name_step *s)
{
    return rc_of(rename(s->path, s->path2));
}

static void device_note(struct env_name_step *s, int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0)
        s->device = device_disk(st.st_dev);
}

static int synced(struct env_name_step *s, int fd, int result)
{
    int rc = rc_of(result);
    s->sync_failed = rc < 0;
    if (rc < 0)
        device_note(s, fd);
    return rc;
}

static int dir_sync(struct env_name_step *s, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = synced(s, fd, fsync(fd));
    close(fd);
    return rc;
}

static int step_sync_dir(struct env_name_step *s)
{
    return dir_sync(s, s->path);
}

static int step_sync_fs(struct env_name_step *s)
{
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = synced(s, fd, syncfs(fd));
    close(fd);
    return rc;
}

/* Direct if the file system can, else buffered with the flag set. */
static int direct_open(const char *path, int flags, struct env_file **ret)
{
    struct env_file *file = calloc(1, sizeof(*file));
    if (file == NULL)
        return -ENOMEM;
    file->slot = -1;
    file->fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT | flags, FILE_MODE);
    if (file->fd < 0 && errno == EINVAL) {
        /* The refused open has made the file already where O_CREAT was asked for. */
        file->buffered = true;
        file->fd = open(path, O_RDWR | O_CLOEXEC | (flags & ~O_EXCL), FILE_MODE);
    }
    if (file->fd < 0 && errno == EROFS && (flags & O_CREAT) == 0)
        file->fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT); /* what is there can be read */
    if (file->fd < 0) {
        int rc = -errno;
        free(file);
        return rc;
    }
    *ret = file;
    return 0;
}

static void direct_close(struct env_file *file)
{
    close(file->fd);
    free(file);
}

/* Space for the first size_bytes; where a file system cannot reserve, the size alone. */
static int reserve(int fd, uint64_t size_bytes)
{
    if (size_bytes == 0)
        return 0;
    if (size_bytes > INT64_MAX)
        return -EFBIG;
    int rc;
    do
        rc = rc_of(fallocate(fd, 0, 0, (off_t)size_bytes));
    while (rc == -EINTR);
    return rc == -EOPNOTSUPP ? rc_of(ftruncate(fd, (off_t)size_bytes)) : rc;
}

static int zeros_write(struct env_name_step *s, int fd, uint64_t size_bytes)
{
    void *zeros = mmap(NULL, ZEROS_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (zeros == MAP_FAILED)
        return -ENOMEM;
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < size_bytes;) {
        ssize_t n = pwrite(fd, zeros, MIN((uint64_t)ZEROS_BYTES, size_bytes - at), (off_t)at);
        if (n > 0 && block_floor((uint64_t)n) > 0)
            at += block_floor((uint64_t)n);
        else if (n >= 0)
            rc = -EIO;
        else if (errno != EINTR)
            rc = -errno;
    }
    munmap(zeros, ZEROS_BYTES);
    return rc < 0 ? rc : synced(s, fd, fsync(fd));
}

static int create(struct env_name_step *s, bool prewrite)
{
    struct env_file *file;
    struct stat st;
    if (prewrite && s->size_bytes % BLOCK_BYTES != 0)
        return -EINVAL;
    if (lstat(s->path, &st) == 0) /* before any fallback could open it */
        return -EEXIST;
    int rc = direct_open(s->path, O_CREAT | O_EXCL, &file);
    if (rc < 0)
        return rc;
    rc = reserve(file->fd, s->size_bytes);
    if (rc == 0 && prewrite)
        rc = zeros_write(s, file->fd, s->size_bytes);
    if (rc < 0) {
        unlink(s->path);
        direct_close(file);
        return rc;
    }
    device_note(s, file->fd);
    s->ret_file = file;
    return 0;
}

static int step_create(struct env_name_step *s)
{
    return create(s, false);
}

static int step_prewrite(struct env_name_step *s)
{
    return create(s, true);
}

static int step_open(struct env_name_step *s)
{
    struct env_file *file;
    struct stat st;
    int rc = direct_open(s->path, 0, &file);
    if (rc < 0)
        return rc;
    rc = rc_of(fstat(file->fd, &st));
    if (rc < 0) {
        direct_close(file);
        return rc;
    }
    s->device = device_disk(st.st_dev);
    s->ret_file = file;
    s->ret_size_bytes = (uint64_t)st.st_size;
    return 0;
}

/* Where direct writes are refused, or go through the page cache as all others (tmpfs), they would
 * change what a peer has not taken yet. */
static int cached_open(const char *path, struct env_file *file)
{
    struct statfs fs;
    int direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (direct < 0)
        return errno == EINVAL ? -EOPNOTSUPP : -errno;
    close(direct);
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0)
        return -errno;
    return fstatfs(file->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC ? -EOPNOTSUPP : 0;
}

static int step_open_cached(struct env_name_step *s)
{
    struct env_file *file = calloc(1, sizeof(*file));
    if (file == NULL)
        return -ENOMEM;
    file->fd = file->slot = -1;
    file->buffered = true;
    int rc = cached_open(s->path, file);
    if (rc < 0) {
        if (file->fd >= 0)
            close(file->fd);
        free(file);
        return rc;
    }
    device_note(s, file->fd);
    s->ret_file = file;
    return 0;
}

static int step_resize(struct env_name_step *s)
{
    struct stat st;
    int fd = open(s->path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = rc_of(fstat(fd, &st));
    if (rc == 0 && s->size_bytes < (uint64_t)st.st_size)
        rc = rc_of(ftruncate(fd, (off_t)s->size_bytes));
    else if (rc == 0)
        rc = reserve(fd, s->size_bytes);
    if (rc == 0 && !s->sync_later)
        rc = synced(s, fd, fsync(fd));
    close(fd);
    return rc;
}

static int write_all(int fd, const void *data, size_t len_bytes)
{
    const char *at = data;
    while (len_bytes > 0) {
        ssize_t n = write(fd, at, len_bytes);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -EIO;
        if (n > 0) {
            at += n;
            len_bytes -= (size_t)n;
        }
    }
    return 0;
}

static int parent_sync(struct env_name_step *s)
{
    const char *slash = strrchr(s->path, '/');
    if (slash == NULL)
        return dir_sync(s, ".");
    if (slash == s->path)
        return dir_sync(s, "/");
    char *dir = strndup(s->path, (size_t)(slash - s->path));
    if (dir == NULL)
        return -ENOMEM;
    int rc = dir_sync(s, dir);
    free(dir);
    return rc;
}

static int temp_write(struct env_name_step *s, const char *temp)
{
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0)
        return -errno;
    int rc = write_all(fd, s->data, s->data_len);
    if (rc == 0 && !s->sync_later)
        rc = synced(s, fd, fsync(fd));
    if (rc == 0) /* a hint: small files should not push anything else out of memory */
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return rc;
}

static int step_put(struct env_name_step *s)
{
    char *temp;
    if (asprintf(&temp, "%s.tmp", s->path) < 0)
        return -ENOMEM;
    int rc = temp_write(s, temp);
    if (rc == 0)
        rc = rc_of(rename(temp, s->path));
    if (rc < 0)
        unlink(temp);
    else if (!s->sync_later)
        rc = parent_sync(s);
    free(temp);
    return rc;
}

/* Reads to the end, whatever fstat said. */
static int read_all(int fd, uint64_t size_hint, char **ret, size_t *ret_len)
{
    size_t cap = (size_t)size_hint + 1, len = 0;
    char *data = malloc(cap);
    while (data != NULL) {
        if (len == cap) {
            char *more = cap < SMALL_FILE_BYTES_MAX ? realloc(data, cap * 2) : NULL;
            if (more == NULL)
                break;
            data = more;
            cap *= 2;
        }
        ssize_t n = read(fd, data + len, cap - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int rc = -errno;
            free(data);
            return rc;
        }
        if (n == 0) {
            *ret = data;
            *ret_len = len;
            return 0;
        }
        len += (size_t)n;
    }
    free(data);
    return -ENOMEM;
}

static int step_get(struct env_name_step *s)
{
    struct stat st;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = rc_of(fstat(fd, &st));
    if (rc == 0 && (uint64_t)st.st_size >= SMALL_FILE_BYTES_MAX)
        rc = -EFBIG;
    if (rc == 0)
        rc = read_all(fd, (uint64_t)st.st_size, &s->ret_data, &s->ret_data_len);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return rc;
}

static int list_names(DIR *dir, FILE *out, size_t *ret_count)
{
    size_t count = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL && errno != 0)
            return -errno;
        if (entry == NULL)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fwrite(entry->d_name, strlen(entry->d_name) + 1, 1, out) != 1)
            return -ENOMEM;
        count++;
    }
    *ret_count = count;
    return 0;
}

static int step_list(struct env_name_step *s)
{
    char *names = NULL;
    size_t len = 0, count = 0;
    DIR *dir = opendir(s->path);
    if (dir == NULL)
        return -errno;
    FILE *out = open_memstream(&names, &len);
    int rc = out == NULL ? -ENOMEM : list_names(dir, out, &count);
    closedir(dir);
    if (out != NULL && fclose(out) != 0 && rc == 0)
        rc = -ENOMEM;
    if (rc < 0) {
        free(names);
        return rc;
    }
    s->ret_data = names;
    s->ret_data_len = len;
    s->ret_count = count;
    return 0;
}

static int step_stat(struct env_name_step *s)
{
    struct stat st;
    struct statvfs fs;
    if (stat(s->path, &st) < 0 || statvfs(s->path, &fs) < 0)
        return -errno;
    s->device = device_disk(st.st_dev);
    s->ret_size_bytes = (uint64_t)st.st_size;
    s->ret_free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    s->ret_total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    return 0;
}

static int step_run(struct env_name_step *s)
{
    return s->run(s->arg);
}

static int (*const step_runs[])(struct env_name_step *) = {
    [ENV_STEP_MKDIR] = step_mkdir,
    [ENV_STEP_RMDIR] = step_rmdir,
    [ENV_STEP_UNLINK] = step_unlink,
    [ENV_STEP_RENAME] = step_rename,
    [ENV_STEP_SYNC_DIR] = step_sync_dir,
    [ENV_STEP_SYNC_FS] = step_sync_fs,
    [ENV_STEP_CREATE] = step_create,
    [ENV_STEP_PREWRITE] = step_prewrite,
    [ENV_STEP_OPEN] = step_open,
    [ENV_STEP_RESIZE] = step_resize,
    [ENV_STEP_PUT] = step_put,
    [ENV_STEP_GET] = step_get,
    [ENV_STEP_LIST] = step_list,
    [ENV_STEP_STAT] = step_stat,
    [ENV_STEP_OPEN_CACHED] = step_open_cached,
    [ENV_STEP_RUN] = step_run,
};
_Static_assert(ARRAY_LEN(step_runs) == ENV_STEP_KINDS, "a function for each step");

int uring_step_run(struct env_name_step *step)
{
    step->sync_failed = false;
    return step_runs[step->kind](step);
}

void uring_step_discard(struct env_name_step *step)
{
    bool opens = step->kind == ENV_STEP_CREATE || step->kind == ENV_STEP_PREWRITE ||
                 step->kind == ENV_STEP_OPEN || step->kind == ENV_STEP_OPEN_CACHED;
    bool reads = step->kind == ENV_STEP_GET || step->kind == ENV_STEP_LIST;
    if (opens && step->ret_file != NULL)
        direct_close(step->ret_file);
    if (reads)
        free(step->ret_data);
}
