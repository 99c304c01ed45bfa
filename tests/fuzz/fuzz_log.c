/* fuzz_log.c: whatever a data directory may hold: journal, checkpoints, segments, indexes, names.
 * Input: one byte of enum fuzz_flag, then patches (disk.h) of a small directory made by the real
 *   code. The real store opens it on a modelled machine, whose own assertions count as well, is
 * read, looked up, appended to and closed. Holds: nothing but whole batches is read, of right
 * checksum, in the order of their offsets and inside the log; appends finish; all memory is given
 * back. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/fuzz/log_dir.h"

enum fuzz_flag {
    FUZZ_MEND = 0x01, /* make checksums right after patching, to get behind them */
    FUZZ_CLEAN = 0x02,
    FUZZ_REOPEN = 0x04,
    FUZZ_ABANDON = 0x08, /* instead of a clean stop */
    FUZZ_TIGHT = 0x10,   /* memory for less than the journal holds */
};

#define TIGHT_BYTES (304u << 10)

#define READS_MAX 64u
#define TURNS_MAX 20000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len_bytes, size_t max_bytes, unsigned seed);

static struct log_fixture f;
static struct buddy tight; /* a part of f.memory's region */
static struct disk made[LOG_DIR_STATES];
static uint8_t flags;

static void turn_until(bool (*done)(void *arg), void *arg)
{
    for (unsigned i = 0; !done(arg); i++) {
        ASSERT(i < TURNS_MAX); /* else it hangs */
        fixture_turn(&f);
    }
}

/* ---- reading ---- */

static bool read_done(void *arg)
{
    return ((struct plog_read *)arg)->finished;
}

static void on_read(struct plog_read *r)
{
    ASSERT(r->finished);
}

/* Batches of the journal go to memory as they are when checksums of the journal say that they are
 * what was written: with those mended, they may be what only a bug of ours could have written. */
static bool is_verified(const struct plog_read *r)
{
    return r->job != NULL || !(flags & FUZZ_MEND);
}

/* One answer to a read at `asked`: whole batches in order, from the one that holds it or the first
 * behind what is lost. Returns the offset behind them. */
static int64_t batches_check(const struct plog *p, const struct plog_read *r, int64_t asked)
{
    static uint8_t joined[1 << 20];
    size_t len = 0;
    int64_t next = asked;
    struct batch_header h;
    for (unsigned i = 0; i < r->iov_n; i++) {
        ASSERT(r->iov[i].iov_len <= sizeof(joined) - len);
        memcpy(joined + len, r->iov[i].iov_base, r->iov[i].iov_len);
        len += r->iov[i].iov_len;
    }
    ASSERT(len == r->len_bytes);
    for (size_t at = 0; at < len; at += h.len_bytes) {
        ASSERT(batch_peek(joined + at, len - at, &h) == 0);
        ASSERT(h.len_bytes <= len - at);
        if (!is_verified(r))
            continue;
        ASSERT(batch_crc_ok(joined + at, &h));
        ASSERT(at == 0 || h.base_offset >= next);
        ASSERT(batch_last_offset(&h) >= next);
        next = batch_last_offset(&h) + 1;
        ASSERT(next <= plog_high_watermark(p));
    }
    return next;
}

static void read_all(struct plog *p)
{
    int64_t offset = plog_start_offset(p);
    for (unsigned i = 0; i < READS_MAX && offset < plog_high_watermark(p); i++) {
        struct plog_read r = {.offset = offset, .max_bytes = 4000 << i % 4, .at_least_one = i % 3};
        if (plog_read(p, &r, on_read) == 0)
            turn_until(read_done, &r);
        ASSERT(r.rc == 0 || r.rc == -EIO || r.rc == -ERANGE);
        int64_t next = r.rc == 0 ? batches_check(p, &r, offset) : offset;
        plog_read_release(&r);
        plog_available_bytes(p, offset);
        plog_epoch_at(p, offset);
        offset = MAX(next, offset + 1);
    }
}

/* ---- looking up ---- */

static bool lookup_done(void *arg)
{
    return ((struct plog_lookup *)arg)->job == NULL;
}

static void on_looked_up(struct plog_lookup *l)
{
    ASSERT(l->job == NULL);
}

static void look_up(struct plog *p)
{
    int64_t now_ms = env_wall_ms(f.env);
    const int64_t times[] = {0, now_ms - 10000, now_ms, INT64_MAX, PLOG_TIME_MAX};
    for (unsigned i = 0; i < ARRAY_LEN(times); i++) {
        struct plog_lookup l = {.timestamp_ms = times[i]};
        if (plog_lookup_time(p, &l, on_looked_up) == 0)
            turn_until(lookup_done, &l);
        ASSERT(l.rc == 0 || l.rc == -EIO);
        ASSERT(l.offset == -1 ||
               (l.offset >= plog_start_offset(p) && l.offset < plog_high_watermark(p)));
    }
    for (int32_t epoch = -1; epoch < 3; epoch++) {
        int32_t known;
        int64_t end;
        plog_epoch_end(p, epoch, &known, &end);
        ASSERT(known <= epoch);
    }
}

/* ---- appending ---- */

/* What waits in a store or a partition that fails meanwhile (a file that the checkpoint counts on
 * is not there) never becomes stable. */
static bool all_stable(void *arg)
{
    struct plog *p = arg;
    const struct log_counters *counters = log_store_counters(f.store);
    return plog_high_watermark(p) == plog_end_offset(p) || counters->failed != 0 ||
           counters->partitions_fenced > 0;
}

static void append(int32_t partition)
{
    struct plog *p = fixture_plog(&f, partition);
    int accepted = 0;
    for (int32_t i = 0; i < 3; i++) {
        int rc = log_dir_append(&f, partition, i == 1 ? 7000 : 100, i == 2 ? 12 : -1);
        ASSERT(rc == 1 || rc == -EIO || rc == -EILSEQ || rc == -ESTALE || rc == -EAGAIN ||
               rc == -ENOSPC);
        accepted += rc == 1;
    }
    if (accepted > 0)
        turn_until(all_stable, p);
}

/* ---- the whole ---- */

static void use(void)
{
    for (int32_t i = 0; i < LOG_DIR_PARTITIONS; i++) {
        read_all(fixture_plog(&f, i));
        look_up(fixture_plog(&f, i));
    }
    for (int32_t i = 0; i < LOG_DIR_PARTITIONS; i++)
        append(i);
    for (int32_t i = 0; i < LOG_DIR_PARTITIONS; i++)
        read_all(fixture_plog(&f, i));
}

static void stop(void)
{
    if (flags & FUZZ_ABANDON)
        fixture_crash(&f);
    else
        fixture_close(&f);
}

static const struct disk *disk_of(uint8_t with_flags)
{
    return &made[with_flags & FUZZ_CLEAN ? LOG_DIR_CLEAN : LOG_DIR_DIRTY];
}

static void world_make(const uint8_t *patches, size_t len_bytes)
{
    const struct disk *from = disk_of(flags);
    static struct disk patched;
    disk_copy(&patched, from);
    disk_patch(&patched, patches, len_bytes);
    if (flags & FUZZ_MEND)
        log_dir_mend(&patched, from);
    f.world = mem_world_create(1);
    struct env *env = env_mem_create(f.world, 0, 1, NULL);
    disk_put(&patched, env);
    env_destroy(env);
    disk_fini(&patched);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    if (f.config.memory == NULL) {
        logger_level = LOG_OFF;
        log_dir_make(&f, made);
        buddy_fini(&f.memory); /* made anew for each input */
        tight.size_bytes = TIGHT_BYTES;
    }
    if (len_bytes == 0)
        return 0;
    flags = data[0];
    struct buddy *memory = flags & FUZZ_TIGHT ? &tight : &f.memory;
    ASSERT(buddy_init(memory, f.memory_base, memory->size_bytes) == 0);
    f.config.memory = memory;
    world_make(data + 1, len_bytes - 1);
    if (fixture_open(&f) == 0) {
        use();
        stop();
        if ((flags & FUZZ_REOPEN) && fixture_open(&f) == 0) {
            use();
            fixture_close(&f);
        }
    }
    mem_world_destroy(f.world);
    f.world = NULL;
    ASSERT(memory->free_bytes == memory->size_bytes);
    buddy_fini(memory);
    ASSERT(f.read_memory.free_bytes == f.read_memory.size_bytes);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len_bytes, size_t max_bytes, unsigned seed)
{
    return disk_mutate(disk_of(len_bytes > 0 ? data[0] : 0), data, len_bytes, max_bytes, seed);
}
