/* writelog.h: a log that the kernel's dm-log-writes target has written, as an index in memory.
 * Format (kernel document admin-guide/device-mapper/log-writes, and the structures that the
 * target writes; all little endian, in sectors of the size in the first one):
 *   sector 0: magic 8, version 8, entries 8, sector bytes 4
 *   then for each entry one sector: sector 8, sectors 8, flags 8, length of the text 8, a mark's
 *   text; behind it the data, but for a discard.
 * Order: a write is in the log once a later flush was issued, in front of that flush; a FUA write
 * as soon as it is complete. So what stands behind the last flush may be lost in a power cut.
 * Failure: what is not such a log, or is cut short, ends the program with a message.
 * Ownership: writelog_open fills, writelog_close frees. Threads: one. */
#ifndef TESTS_VM_WRITELOG_H
#define TESTS_VM_WRITELOG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENTRY_FLUSH = 1, ENTRY_FUA = 2, ENTRY_DISCARD = 4, ENTRY_MARK = 8 };
enum { MARK_MAX = 48 };

struct entry {
    uint64_t to_bytes, len_bytes; /* place on the device */
    uint64_t data_at;             /* place of the data in the log */
    uint32_t flags;
    char mark[MARK_MAX];
};

struct writelog {
    int fd;
    uint32_t sector_bytes;
    struct entry *entries;
    size_t count;
};

void writelog_open(struct writelog *log, const char *path);
void writelog_close(struct writelog *log);

/* Changes bytes of the device. */
static inline bool entry_is_write(const struct entry *e)
{
    return e->len_bytes && !(e->flags & (ENTRY_DISCARD | ENTRY_MARK));
}

/* Complete means stable, or makes everything before it stable. */
static inline bool entry_is_flush(const struct entry *e)
{
    return e->flags & (ENTRY_FLUSH | ENTRY_FUA);
}

/* The first entry that a power cut right behind entry `last` may take back: everything before it
 * is stable. Where it is a FUA write, that one is stable too. */
size_t writelog_stable_end(const struct writelog *log, size_t last);

#endif
