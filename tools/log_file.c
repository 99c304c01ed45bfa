#include "tools/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"

/* Bytes read before the first that cannot be; 0 at the end of the file. */
static int64_t read_some(int fd, uint8_t *buf, uint64_t len_bytes, uint64_t pos)
{
    uint64_t done = 0;
    while (done < len_bytes) {
        ssize_t n = pread(fd, buf + done, len_bytes - done, (off_t)(pos + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && done == 0)
            return -errno;
        if (n <= 0)
            break;
        done += (uint64_t)n;
    }
    return (int64_t)done;
}

/* Fills buf with [pos, pos + len) of the file, which is that long unless somebody cuts it now. */
static void read_range(struct log_file *f, uint8_t *buf, uint64_t len_bytes, uint64_t pos)
{
    for (uint64_t done = 0; done < len_bytes;) {
        int64_t n = read_some(f->fd, buf + done, len_bytes - done, pos + done);
        if (n > 0) {
            done += (uint64_t)n;
            continue;
        }
        uint64_t block =
            MIN(block_floor(pos + done) + BLOCK_BYTES - (pos + done), len_bytes - done);
        memset(buf + done, INSPECT_UNREADABLE, block);
        if (f->unreadable_n++ == 0) {
            f->unreadable_pos = pos + done;
            f->unreadable_rc = n < 0 ? (int)n : -ENODATA;
        }
        done += block;
    }
}

static bool window_move(struct log_file *f, uint64_t pos, uint64_t len_bytes)
{
    uint64_t want = MIN(MAX(len_bytes, f->window_bytes), f->bytes.size_bytes - pos);
    if (want > f->window_cap) {
        uint8_t *bigger = realloc(f->window, want);
        if (bigger == NULL)
            return false;
        f->window = bigger;
        f->window_cap = want;
    }
    f->window_len = 0;
    read_range(f, f->window, want, pos);
    f->window_pos = pos;
    f->window_len = want;
    return true;
}

static const uint8_t *file_at(struct inspect_bytes *bytes, uint64_t pos, uint64_t len_bytes)
{
    struct log_file *f = (struct log_file *)bytes;
    if (pos > bytes->size_bytes || len_bytes > bytes->size_bytes - pos)
        return NULL;
    bool there = pos >= f->window_pos && pos - f->window_pos <= f->window_len &&
                 len_bytes <= f->window_len - (pos - f->window_pos);
    if (!there && !window_move(f, pos, len_bytes))
        return NULL;
    return f->window + (pos - f->window_pos);
}

int log_file_open(struct log_file *f, const char *path, uint64_t window_bytes)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        int rc = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
        close(fd);
        return rc;
    }
    *f = (struct log_file){
        .bytes = {file_at, (uint64_t)st.st_size}, .fd = fd, .window_bytes = window_bytes};
    return 0;
}

void log_file_close(struct log_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->window);
    *f = (struct log_file){.fd = -1};
}

int log_file_get(const char *path, uint64_t bytes_max, uint8_t **ret, size_t *ret_len)
{
    struct log_file f;
    int rc = log_file_open(&f, path, 0);
    if (rc != 0)
        return rc;
    uint64_t len = f.bytes.size_bytes;
    const uint8_t *data = NULL;
    if (len > bytes_max)
        rc = -EFBIG;
    else if (len > 0 && (data = f.bytes.at(&f.bytes, 0, len)) == NULL)
        rc = -ENOMEM;
    else if (f.unreadable_n > 0 && f.unreadable_rc != -ENODATA)
        rc = f.unreadable_rc;
    uint8_t *copy = rc == 0 ? malloc(len + 1) : NULL;
    if (rc == 0 && copy == NULL)
        rc = -ENOMEM;
    if (rc == 0) {
        memcpy(copy, len == 0 ? (const uint8_t *)"" : data, len);
        *ret = copy;
        *ret_len = len;
    }
    log_file_close(&f);
    return rc;
}
