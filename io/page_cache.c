#include "io/page_cache.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/bytes.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* the same number on all machines */
#endif

/* The largest that systems are set to for fast disks; far more than the default of 128 KiB. */
#define READ_AHEAD_BYTES (8u << 20)

struct stretch { /* struct cachestat_range */
    uint64_t offset_bytes, len_bytes;
};
struct pages { /* struct cachestat */
    uint64_t cached, dirty, writeback, evicted, evicted_recently;
};

int64_t page_cache_pages(int fd, uint64_t offset_bytes, uint64_t len_bytes)
{
    struct stretch stretch = {offset_bytes, len_bytes};
    struct pages pages;
    long rc = syscall(SYS_cachestat, fd, &stretch, &pages, 0);
    return rc < 0 ? -errno : (int64_t)pages.cached;
}

/* Pages come in order, so the last one tells of those before it. */
static bool is_read(int fd, uint64_t offset_bytes)
{
    uint8_t byte;
    struct iovec iov = {&byte, 1};
    return preadv2(fd, &iov, 1, (off_t)offset_bytes, RWF_NOWAIT) == 1;
}

bool page_cache_has(int fd, uint64_t offset_bytes, uint64_t len_bytes)
{
    struct stat st;
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    if (fstat(fd, &st) < 0 || (uint64_t)st.st_size <= offset_bytes || len_bytes == 0)
        return false;
    uint64_t file_end = (uint64_t)st.st_size, end = MIN(offset_bytes + len_bytes, file_end);
    uint64_t asked_end = MIN(end + READ_AHEAD_BYTES, file_end);
    uint64_t pages = (asked_end + page_bytes - 1) / page_bytes - offset_bytes / page_bytes;
    return page_cache_pages(fd, offset_bytes, asked_end - offset_bytes) >= (int64_t)pages &&
           is_read(fd, end - 1);
}
