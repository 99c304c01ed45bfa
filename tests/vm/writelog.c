/* writelog.c: see writelog.h. */
#include "tests/vm/writelog.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define LOG_MAGIC UINT64_C(0x6a736677736872)
enum {
    LOG_VERSION = 1,
    HEAD_BYTES = 512, /* the smallest sector: all fields are in it */
    ENTRY_HEAD = 32,
    SECTORS_MAX = 1 << 20,
    ENTRIES_MAX = 1 << 24,
};

static void read_head(const struct writelog *log, uint8_t *head, uint64_t at)
{
    if (pread(log->fd, head, HEAD_BYTES, (off_t)at) != HEAD_BYTES)
        errx(1, "the write log is cut short at byte %llu", (unsigned long long)at);
}

/* Returns where the next entry begins. */
static uint64_t take_entry(struct writelog *log, const uint8_t *head, uint64_t at)
{
    uint64_t sector = le_load64(head), sectors = le_load64(head + 8);
    uint64_t flags = le_load64(head + 16), text_len = le_load64(head + 24);
    if (sector > UINT64_MAX / 2 / log->sector_bytes || sectors > SECTORS_MAX ||
        (flags & ENTRY_MARK && text_len > HEAD_BYTES - ENTRY_HEAD))
        errx(1, "entry %zu of the write log is out of range", log->count);
    struct entry *e = &log->entries[log->count++];
    *e = (struct entry){.to_bytes = sector * log->sector_bytes,
                        .len_bytes = sectors * log->sector_bytes,
                        .data_at = at + log->sector_bytes,
                        .flags = (uint32_t)flags};
    if (flags & ENTRY_MARK)
        memcpy(e->mark, head + ENTRY_HEAD, MIN(text_len, sizeof(e->mark) - 1));
    return e->data_at + (flags & (ENTRY_DISCARD | ENTRY_MARK) ? 0 : e->len_bytes);
}

void writelog_open(struct writelog *log, const char *path)
{
    uint8_t head[HEAD_BYTES];
    *log = (struct writelog){.fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (log->fd < 0)
        err(1, "%s", path);
    read_head(log, head, 0);
    uint64_t entries = le_load64(head + 16);
    log->sector_bytes = le_load32(head + 24);
    if (le_load64(head) != LOG_MAGIC || le_load64(head + 8) != LOG_VERSION ||
        log->sector_bytes < HEAD_BYTES || log->sector_bytes > 65536 || entries > ENTRIES_MAX)
        errx(1, "%s is not a log of dm-log-writes", path);
    log->entries = calloc(entries + 1, sizeof(*log->entries));
    ASSERT(log->entries);
    for (uint64_t at = log->sector_bytes; log->count < entries;) {
        read_head(log, head, at);
        at = take_entry(log, head, at);
    }
}

void writelog_close(struct writelog *log)
{
    close(log->fd);
    free(log->entries);
}

size_t writelog_stable_end(const struct writelog *log, size_t last)
{
    for (size_t i = last + 1; i-- > 0;)
        if (log->entries[i].flags & ENTRY_FLUSH) /* its own data, if any, comes after the flush */
            return entry_is_write(&log->entries[i]) ? i : i + 1;
    return 0;
}
