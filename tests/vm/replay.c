/* replay.c: `vm-replay`: from a write log (writelog.h) to devices as a power cut leaves them.
 *
 *   vm-replay list LOG
 *       a line an entry
 *   vm-replay plan LOG POINTS SEED
 *       a line a power cut: ID KIND ENTRY SEED ACKED, ascending by entry. ACKED is that of the last
 *       mark "acked=N" up to there. KIND is
 *         flush   right behind a flush or FUA write
 *         write   right behind another write, everything in the order of the log
 *         lossy   the same, but of what came behind the last flush each write is kept, dropped or
 *                 torn (each block of 4 KiB kept or dropped): a device may do all of these
 *         mark    right behind a mark, and nothing of what came behind the last flush is there:
 * what was acknowledged this moment has to be stable vm-replay cut LOG STABLE FROM WORK KIND ENTRY
 * SEED make WORK the device after that power cut. STABLE has the entries before FROM, and gets all
 * that are stable at the cut; prints the number that the next FROM has to be. A discard leaves the
 * old bytes, as a device may do.
 *
 *   vm-replay copy FROM TO
 *       make TO, of the same size, what FROM is; only what differs is written
 *
 * Failure: a message and exit 1. Threads: one. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/rng.h"
#include "tests/vm/writelog.h"

enum { COPY_BYTES = 1 << 20, KEEP_PERCENT = 45, DROP_PERCENT = 45 };
static uint8_t left[COPY_BYTES], right[COPY_BYTES];

enum kind { KIND_FLUSH, KIND_WRITE, KIND_LOSSY, KIND_MARK, KINDS };
static const char *const kind_names[KINDS] = {"flush", "write", "lossy", "mark"};

struct point {
    size_t entry;
    enum kind kind;
    uint64_t seed;
};

/* ---- devices ---- */

static int open_device(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        err(1, "%s", path);
    return fd;
}

static void read_all(int fd, void *buf, size_t len, uint64_t at)
{
    if (pread(fd, buf, len, (off_t)at) != (ssize_t)len)
        err(1, "read of %zu bytes at %" PRIu64, len, at);
}

static void write_all(int fd, const void *buf, size_t len, uint64_t at)
{
    if (pwrite(fd, buf, len, (off_t)at) != (ssize_t)len)
        err(1, "write of %zu bytes at %" PRIu64, len, at);
}

/* Where the next bytes that are not a hole begin. A device that has no holes begins at once. */
static uint64_t next_data(int fd, uint64_t at, uint64_t end)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? end : at;
    return (uint64_t)data;
}

/* Only what differs is written: most of it is as the last power cut left it. */
static void copy_device(int from, int to)
{
    off_t end = lseek(from, 0, SEEK_END);
    if (end < 0 || lseek(to, 0, SEEK_END) != end)
        errx(1, "the devices are not of one size");
    for (uint64_t at = 0; at < (uint64_t)end; at += COPY_BYTES) {
        uint64_t data = MIN(next_data(from, at, (uint64_t)end), next_data(to, at, (uint64_t)end));
        at = MAX(at, round_down_u64(data, COPY_BYTES));
        size_t len = MIN((uint64_t)COPY_BYTES, (uint64_t)end - at);
        if (!len)
            return;
        read_all(from, left, len, at);
        read_all(to, right, len, at);
        for (size_t i = 0; i < len; i += BLOCK_BYTES) {
            size_t block = MIN((size_t)BLOCK_BYTES, len - i);
            if (memcmp(left + i, right + i, block))
                write_all(to, left + i, block, at + i);
        }
    }
}

/* torn: NULL, or whose stream says for each block whether it is kept. */
static void apply(const struct writelog *log, size_t index, int to, struct rng *torn)
{
    const struct entry *e = &log->entries[index];
    size_t piece = torn ? BLOCK_BYTES : COPY_BYTES;
    for (uint64_t done = 0; entry_is_write(e) && done < e->len_bytes; done += piece) {
        if (torn && rng_below(torn, 2))
            continue;
        size_t len = MIN(piece, e->len_bytes - done);
        read_all(log->fd, left, len, e->data_at + done);
        write_all(to, left, len, e->to_bytes + done);
    }
}

/* An entry behind the last flush: what the power cut leaves of it. A FUA write is stable. */
static void apply_volatile(const struct writelog *log, size_t index, int to, enum kind kind,
                           struct rng *rng)
{
    uint64_t draw = rng_below(rng, 100);
    if (log->entries[index].flags & ENTRY_FUA || kind == KIND_FLUSH || kind == KIND_WRITE)
        apply(log, index, to, NULL);
    else if (kind == KIND_LOSSY && draw < KEEP_PERCENT)
        apply(log, index, to, NULL);
    else if (kind == KIND_LOSSY && draw >= KEEP_PERCENT + DROP_PERCENT)
        apply(log, index, to, rng);
}

static enum kind kind_of(const char *name)
{
    for (int kind = 0; kind < KINDS; kind++)
        if (!strcmp(name, kind_names[kind]))
            return (enum kind)kind;
    errx(2, "%s is no kind of power cut", name);
}

static void cut(const struct writelog *log, char **args)
{
    int stable = open_device(args[0]), work = open_device(args[2]);
    size_t from = strtoull(args[1], NULL, 10), last = strtoull(args[4], NULL, 10);
    enum kind kind = kind_of(args[3]);
    struct rng rng;
    rng_seed(&rng, strtoull(args[5], NULL, 10));
    if (last >= log->count)
        errx(1, "the log has no entry %zu", last);
    size_t stable_end = writelog_stable_end(log, last);
    if (from > stable_end)
        errx(1, "%s is ahead of entry %zu", args[0], last);
    for (size_t i = from; i < stable_end; i++)
        apply(log, i, stable, NULL);
    copy_device(stable, work);
    for (size_t i = stable_end; i <= last; i++)
        apply_volatile(log, i, work, kind, &rng);
    if (close(stable) || close(work))
        err(1, "close");
    printf("%zu\n", stable_end);
}

/* ---- the choice of power cuts ---- */

static bool acked_of(const struct entry *e, uint64_t *ret_acked)
{
    return e->flags & ENTRY_MARK && sscanf(e->mark, "acked=%" SCNu64, ret_acked) == 1;
}

static bool suits(const struct entry *e, enum kind kind)
{
    uint64_t acked;
    if (kind == KIND_FLUSH)
        return entry_is_flush(e);
    if (kind == KIND_MARK)
        return acked_of(e, &acked);
    return entry_is_write(e) && !entry_is_flush(e);
}

static size_t count_suiting(const struct writelog *log, enum kind kind, size_t from, size_t to)
{
    size_t count = 0;
    for (size_t i = from; i < to; i++)
        count += suits(&log->entries[i], kind);
    return count;
}

/* So many of [from, to), one at random in each of as many equal parts. Returns how many. */
static size_t choose(const struct writelog *log, enum kind kind, size_t from, size_t to,
                     size_t wanted, struct rng *rng, struct point *points)
{
    size_t there = count_suiting(log, kind, from, to), chosen = 0, seen = 0;
    wanted = MIN(wanted, there);
    size_t next = wanted ? rng_below(rng, there / wanted) : 0;
    for (size_t i = from; i < to && chosen < wanted; i++) {
        if (!suits(&log->entries[i], kind) || seen++ != next)
            continue;
        points[chosen++] = (struct point){i, kind, rng_next(rng)};
        size_t begin = chosen * there / wanted, end = (chosen + 1) * there / wanted;
        next = begin + (end > begin ? rng_below(rng, end - begin) : 0);
    }
    return chosen;
}

static int by_entry(const void *a, const void *b)
{
    const struct point *l = a, *r = b;
    if (l->entry != r->entry)
        return l->entry < r->entry ? -1 : 1;
    return (int)l->kind - (int)r->kind;
}

static size_t first_acked(const struct writelog *log)
{
    uint64_t acked;
    for (size_t i = 0; i < log->count; i++)
        if (acked_of(&log->entries[i], &acked))
            return i;
    return log->count;
}

static void print_points(const struct writelog *log, const struct point *points, size_t count)
{
    uint64_t acked = 0;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        for (; at <= points[i].entry; at++)
            acked_of(&log->entries[at], &acked);
        printf("%zu %s %zu %" PRIu64 " %" PRIu64 "\n", i, kind_names[points[i].kind],
               points[i].entry, points[i].seed, acked);
    }
}

/* A tenth of the cuts before anything was acknowledged, while the broker makes its files. */
static void plan(const struct writelog *log, char **args)
{
    size_t wanted = strtoull(args[0], NULL, 10), count = 0;
    struct rng rng;
    rng_seed(&rng, strtoull(args[1], NULL, 10));
    struct point *points = calloc(wanted + 1, sizeof(*points));
    ASSERT(points);
    size_t middle = first_acked(log), early = wanted / 10;
    for (int kind = 0; kind < KINDS; kind++) {
        count += choose(log, kind, 0, middle, early / KINDS, &rng, points + count);
        count +=
            choose(log, kind, middle, log->count, (wanted - early) / KINDS, &rng, points + count);
    }
    qsort(points, count, sizeof(*points), by_entry);
    print_points(log, points, count);
    free(points);
}

static void list(const struct writelog *log)
{
    for (size_t i = 0; i < log->count; i++) {
        const struct entry *e = &log->entries[i];
        printf("%zu at %" PRIu64 " bytes %" PRIu64 "%s%s%s %s\n", i, e->to_bytes, e->len_bytes,
               e->flags & ENTRY_FLUSH ? " flush" : "", e->flags & ENTRY_FUA ? " fua" : "",
               e->flags & ENTRY_DISCARD ? " discard" : "", e->mark);
    }
}

static int usage(void)
{
    fputs("usage: vm-replay list|plan|cut|copy ... (see tests/vm/replay.c)\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct writelog log;
    if (argc == 4 && !strcmp(argv[1], "copy")) {
        copy_device(open_device(argv[2]), open_device(argv[3]));
        return 0;
    }
    if (argc < 3)
        return usage();
    writelog_open(&log, argv[2]);
    if (argc == 3 && !strcmp(argv[1], "list"))
        list(&log);
    else if (argc == 5 && !strcmp(argv[1], "plan"))
        plan(&log, argv + 3);
    else if (argc == 9 && !strcmp(argv[1], "cut"))
        cut(&log, argv + 3);
    else
        return usage();
    writelog_close(&log);
    return 0;
}
