/* fuzz_log.c: whatever a data directory may hold: journal, checkpoints, segments, indexes, names.
 * Input: one byte of enum fuzz_flag, then patches (disk.h) of a small directory made by the real
 *   code. The real store opens it on a modelled machine, whose own assertions count as well, is
 * read, looked up, appended to and closed. Holds: nothing but whole batches is read, of right
 * checksum, in the order of their offsets and inside the log; appends finish; what a
 * parcel says is what there was; damage of side files and parcels loses nothing that is served; a
 * start that refuses says why; all memory is given back. */
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
    FUZZ_ASIDE = 0x20,   /* a directory with side file and parcels; FUZZ_CLEAN: the other one */
    FUZZ_AWAY = 0x40,    /* without the far directory; FUZZ_CLEAN: it fails on the way; then it is
                            there again with FUZZ_REOPEN */
    FUZZ_MOVE = 0x80,    /* partitions leave and come back */
};

#define TIGHT_BYTES (304u << 10)

#define READS_MAX 64u
#define TURNS_MAX 40000u /* a departure may take 30 s */
#define SIDE_TURNS 100u  /* until a side file is written */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len_bytes, size_t max_bytes, unsigned seed);

static struct log_fixture f;
static struct buddy tight; /* a part of f.memory's region */
static struct disk made[LOG_DIR_STATES];
static uint8_t flags;
static struct log_dir_damage damage;
static int64_t ends[LOG_DIR_PARTITIONS_MAX]; /* of the logs, when they were last there */

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

/* A record that claims to begin a few bytes before the end of what is known continues inside a
 * batch, as one may behind an image; that these bytes are other ones only its checksum tells. So
 * with those mended it can cut a batch: found with side files, known of no other directory. */
static bool is_whole(const struct plog_read *r)
{
    return is_verified(r) || !(flags & FUZZ_ASIDE);
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
        bool whole = batch_peek(joined + at, len - at, &h) == 0 && h.len_bytes <= len - at;
        if (!whole && !is_whole(r))
            break;
        ASSERT(whole);
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
        ASSERT(!damage.none_lost || r.rc == 0 || plog_is_offline(p));
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
           plog_is_offline(p) || counters->partitions_fenced > counters->partitions_offline;
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

/* ---- moving ---- */

struct move {
    struct log_departure departure;
    struct log_arrival arrival;
    bool told, arrived;
    int rc;
};

static void on_departed(struct log_departure *d, int rc)
{
    struct move *m = container_of(d, struct move, departure);
    m->told = true;
    m->rc = rc;
}

static void on_arrived(struct log_arrival *a, int rc)
{
    struct move *m = container_of(a, struct move, arrival);
    m->arrived = true;
    m->rc = rc;
}

static bool is_told(void *arg)
{
    return ((struct move *)arg)->told;
}

static bool has_arrived(void *arg)
{
    return ((struct move *)arg)->arrived;
}

/* It has left, for good or, as every other one, not after all. */
static void come_back(struct move *m)
{
    bool gone = m->arrival.index % 2 == 0;
    log_departure_end(&m->departure, gone);
    if (!gone)
        return;
    m->arrival.parcel = m->departure.parcel;
    m->arrival.parcel_bytes = m->departure.parcel_bytes;
    log_store_arrive(f.store, &m->arrival, on_arrived);
    turn_until(has_arrived, m);
    ASSERT(m->rc == 0);
}

/* What a parcel says is what there was. */
static void move(int32_t partition)
{
    struct plog *p = fixture_plog(&f, partition);
    int64_t start = plog_start_offset(p);
    struct move m = {.arrival = {.topic = &f.topic, .index = partition}};
    log_departure_begin(p, &m.departure, on_departed);
    turn_until(is_told, &m);
    if (m.rc == 0) {
        int64_t end = plog_end_offset(log_store_peek(f.store, f.partitions[partition].number));
        come_back(&m);
        p = fixture_plog(&f, partition);
        ASSERT(plog_start_offset(p) >= start);
        ASSERT(plog_high_watermark(p) == end && plog_end_offset(p) == end);
    }
    free(m.departure.parcel);
}

/* ---- the whole ---- */

static enum log_dir_state state_of(uint8_t with_flags)
{
    bool clean = with_flags & FUZZ_CLEAN;
    if (with_flags & FUZZ_ASIDE)
        return clean ? LOG_DIR_FAILED : LOG_DIR_KEPT;
    return clean ? LOG_DIR_CLEAN : LOG_DIR_DIRTY;
}

static bool open_as(bool away)
{
    log_dir_away(away);
    int rc = fixture_open(&f);
    ASSERT(rc == 0 || f.why[0] != '\0'); /* a start that refuses says why */
    ASSERT(rc == 0 || !damage.must_open);
    return rc == 0;
}

/* What was there is there again. */
static void ends_check(void)
{
    for (int32_t i = 0; i < f.topic.partitions_n; i++) {
        const struct plog *p = fixture_plog(&f, i);
        ASSERT(!damage.none_lost || plog_is_offline(p) || plog_high_watermark(p) >= ends[i]);
    }
}

static void ends_note(void)
{
    for (int32_t i = 0; i < f.topic.partitions_n; i++) {
        const struct plog *p = fixture_plog(&f, i);
        if (!plog_is_offline(p))
            ends[i] = plog_high_watermark(p);
    }
}

static void far_fails(void)
{
    log_dir_away(true);
    for (unsigned i = 0; i < SIDE_TURNS; i++)
        fixture_turn(&f);
}

static void use(bool fails)
{
    ends_check();
    for (int32_t i = 0; i < f.topic.partitions_n; i++) {
        read_all(fixture_plog(&f, i));
        look_up(fixture_plog(&f, i));
    }
    for (int32_t i = 0; i < f.topic.partitions_n; i++)
        append(i);
    for (int32_t i = 0; (flags & FUZZ_MOVE) && i < f.topic.partitions_n; i++)
        move(i);
    ends_note();
    if (fails)
        far_fails();
    for (int32_t i = 0; i < f.topic.partitions_n; i++)
        read_all(fixture_plog(&f, i));
}

static void stop(void)
{
    if (flags & FUZZ_ABANDON)
        fixture_crash(&f);
    else
        fixture_close(&f);
}

static void world_make(const uint8_t *patches, size_t len_bytes)
{
    const struct disk *from = &made[state_of(flags)];
    static struct disk patched;
    disk_copy(&patched, from);
    disk_patch(&patched, patches, len_bytes);
    log_dir_look(&patched, from, flags & FUZZ_MEND, &damage);
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
    log_dir_config(&f, state_of(flags));
    for (int32_t i = 0; i < LOG_DIR_PARTITIONS_MAX; i++)
        ends[i] = log_dir_end(state_of(flags), i);
    struct buddy *memory = flags & FUZZ_TIGHT ? &tight : &f.memory;
    ASSERT(buddy_init(memory, f.memory_base, memory->size_bytes) == 0);
    f.config.memory = memory;
    world_make(data + 1, len_bytes - 1);
    bool clean = flags & FUZZ_CLEAN, away = flags & FUZZ_AWAY;
    if (open_as(away && !clean)) {
        use(away && clean);
        stop();
        if ((flags & FUZZ_REOPEN) && open_as(false)) {
            use(false);
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
    return disk_mutate(&made[state_of(len_bytes > 0 ? data[0] : 0)], data, len_bytes, max_bytes,
                       seed);
}
