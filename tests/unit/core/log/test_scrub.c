/* The scrub on the in-memory environment: it names just the offsets whose bytes are damaged, keeps
 * to its rate and interval, and stands back for others. */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

#define SECOND UINT64_C(1000000000)
#define SEGMENTS_MAX 64

struct sealed {
    char path[64];
    unsigned first, end; /* its batches in the model of partition 0 */
    uint64_t bytes;
};
static struct log_fixture f;
static struct sealed sealed[SEGMENTS_MAX];
static unsigned sealed_n;
static uint64_t sealed_bytes;
static int log_fd = -1;

/* ---- the log that it writes ---- */

static void log_catch(void)
{
    logger_level = LOG_ERROR;
    log_fd = memfd_create("log", 0);
    cr_assert_geq(log_fd, 0);
    cr_assert_eq(dup2(log_fd, STDERR_FILENO), STDERR_FILENO);
}

static const char *log_take(void)
{
    static char text[1 << 20];
    ssize_t n = pread(log_fd, text, sizeof(text) - 1, 0);
    cr_assert_geq(n, 0);
    text[n] = 0;
    cr_assert_eq(ftruncate(log_fd, 0), 0);
    cr_assert_eq(lseek(log_fd, 0, SEEK_SET), 0);
    return text;
}

/* ---- a partition with sealed segments ---- */

static void sealed_list(void)
{
    const struct model_partition *m = &f.model[0];
    uint64_t bytes = 0;
    unsigned first = 0;
    sealed_n = 0;
    sealed_bytes = 0;
    for (unsigned i = 0; i < m->batches_n; i++) {
        char next[64];
        bytes += m->batches[i].len_bytes;
        snprintf(next, sizeof(next), "/data/t-0/%020" PRId64 ".index",
                 m->batches[first].base_offset);
        bool more = i + 1 < m->batches_n;
        struct sealed *s = &sealed[sealed_n];
        snprintf(s->path, sizeof(s->path), "/data/t-0/%020" PRId64 ".log",
                 m->batches[first].base_offset);
        if (!more || !mem_world_exists(f.world, next) ||
            mem_world_file_size(f.world, s->path) != (int64_t)bytes)
            continue;
        s->first = first;
        s->end = first = i + 1;
        s->bytes = bytes;
        sealed_bytes += bytes;
        bytes = 0;
        sealed_n++;
        cr_assert_lt(sealed_n, SEGMENTS_MAX);
    }
}

static void start(uint64_t seed, uint64_t bytes_per_second, uint32_t batch_bytes_max)
{
    fixture_init(&f, seed, 2, 32u << 20, 1u << 20);
    f.topic.config.segment_bytes = 60000;
    f.config.scrub_bytes_per_second = bytes_per_second;
    f.config.scrub_interval_ms = 10000;
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    for (uint64_t bytes = 0, n = 0; bytes < 300000 && n < FIXTURE_BATCHES_MAX; n++) {
        uint32_t size = (uint32_t)rng_below(&f.rng, batch_bytes_max);
        cr_assert_eq(fixture_append(&f, 0, size, 1 + (int32_t)rng_below(&f.rng, 4)), 0);
        bytes += f.model[0].batches[n].len_bytes;
        fixture_turn(&f);
    }
    fixture_settle(&f);
    cr_assert_eq(fixture_append(&f, 1, 100, 1), 0); /* a partition without sealed segments */
    for (unsigned i = 0; i < 100; i++)
        fixture_turn(&f);
    sealed_list();
    cr_assert_geq(sealed_n, 2);
    cr_assert_eq(log_store_counters(f.store)->scrub_bytes, 0, "it began too soon");
    log_catch();
}

static const struct log_counters *counters(void)
{
    return log_store_counters(f.store);
}

/* Turns as a shard would, without one of its own between. */
static void sleepy_turn(void)
{
    env_turn(f.env, log_store_deadline_ns(f.store));
    log_store_pump(f.store);
}

static void until_passed(uint64_t passes)
{
    while (counters()->scrub_passes < passes)
        sleepy_turn();
}

Test(scrub, sound_segments_pass_and_the_next_pass_comes_after_the_interval)
{
    start(1, 4 << 20, 3000);
    uint64_t turns = 0;
    until_passed(1);
    uint64_t passed_ns = mem_world_now_ns(f.world);
    cr_assert_geq(counters()->scrub_bytes, sealed_bytes);
    cr_assert_leq(counters()->scrub_bytes, sealed_bytes + sealed_n * 2 * BLOCK_BYTES);
    cr_assert_eq(counters()->scrub_damages, 0);
    for (; counters()->scrub_passes < 2; turns++)
        sleepy_turn();
    cr_assert_geq(mem_world_now_ns(f.world) - passed_ns, 9 * SECOND);
    cr_assert_lt(turns, 100, "it does not sleep between passes: %" PRIu64 " turns", turns);
    cr_assert_str_empty(log_take());
    fixture_fini(&f);
}

Test(scrub, off)
{
    start(1, 0, 3000);
    for (unsigned i = 0; i < 30000; i++)
        fixture_turn(&f);
    cr_assert_eq(counters()->scrub_bytes, 0);
    cr_assert_eq(log_store_deadline_ns(f.store), UINT64_MAX);
    fixture_fini(&f);
}

/* ---- damage ---- */

#define OFFSETS_MAX (4 * FIXTURE_BATCHES_MAX)
static bool damaged[OFFSETS_MAX], told[OFFSETS_MAX];

static void offsets_mark(bool *set, int64_t first, int64_t end)
{
    for (int64_t i = first; i < end; i++) {
        cr_assert_lt(i, OFFSETS_MAX);
        set[i] = true;
    }
}

/* Which batches have bytes in the range; a leader epoch, which nothing covers, does not count. */
static void damage(const struct sealed *s, uint64_t from, uint64_t to)
{
    uint64_t pos = 0;
    int rc = mem_world_corrupt(f.world, s->path, from, to - from);
    cr_assert_eq(rc, 0, "%s %" PRIu64 "..%" PRIu64 ": %s", s->path, from, to, strerror(-rc));
    for (unsigned i = s->first; i < s->end; i++) {
        const struct model_batch *b = &f.model[0].batches[i];
        uint64_t end = pos + b->len_bytes;
        bool before = from < pos + 12 && to > pos, behind = from < end && to > pos + 16;
        if (before || behind)
            offsets_mark(damaged, b->base_offset, b->base_offset + b->records);
        pos = end;
    }
}

static void told_read(const char *log)
{
    for (const char *at = log; (at = strstr(at, ": offsets ")) != NULL; at++) {
        int64_t first, last;
        cr_assert_eq(sscanf(at, ": offsets %" SCNd64 " to %" SCNd64 " are lost", &first, &last), 2);
        offsets_mark(told, first, last + 1);
    }
}

static void assert_told(const char *log)
{
    told_read(log);
    for (int64_t i = 0; i < OFFSETS_MAX; i++)
        cr_assert_eq(damaged[i], told[i], "offset %" PRId64 " is %s, and %s:\n%s", i,
                     damaged[i] ? "damaged" : "sound", told[i] ? "told lost" : "not told", log);
    memset(damaged, 0, sizeof(damaged));
    memset(told, 0, sizeof(told));
}

static uint64_t draw_length(uint64_t most)
{
    static const uint64_t lengths[] = {1, 1, 1, 8, 100, 512, 4096, 20000};
    uint64_t length = lengths[rng_below(&f.rng, ARRAY_LEN(lengths))];
    return MIN(length, most);
}

Test(scrub, names_just_the_batches_with_damaged_bytes, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        start(seed, 64 << 20, 20u << seed % 9);
        for (unsigned i = 0; i < sealed_n; i++) {
            uint64_t from = rng_below(&f.rng, sealed[i].bytes);
            damage(&sealed[i], from, from + draw_length(sealed[i].bytes - from));
        }
        until_passed(1);
        assert_told(log_take());
        fixture_fini(&f);
    }
}

/* One segment each: every byte of a header, of a batch at the beginning, inside and at the end. */
Test(scrub, every_byte_of_a_header, .timeout = 120)
{
    for (unsigned byte = 0; byte < BATCH_HEADER_BYTES; byte++) {
        start(1000 + byte, 64 << 20, 3000);
        for (unsigned i = 0; i < sealed_n; i++) {
            unsigned n = sealed[i].end - sealed[i].first;
            unsigned at = i == 0 ? 0 : i == 1 ? n - 1 : (unsigned)rng_below(&f.rng, n);
            uint64_t pos = 0;
            for (unsigned k = 0; k < at; k++)
                pos += f.model[0].batches[sealed[i].first + k].len_bytes;
            damage(&sealed[i], pos + byte, pos + byte + 1);
        }
        until_passed(1);
        assert_told(log_take());
        fixture_fini(&f);
    }
}

Test(scrub, says_where)
{
    start(3, 4 << 20, 3000);
    const struct model_batch *b = &f.model[0].batches[sealed[1].first + 2];
    uint64_t pos = (uint64_t)b[-1].len_bytes + b[-2].len_bytes;
    char expected[256];
    damage(&sealed[1], pos + 70, pos + 71);
    until_passed(1);
    snprintf(expected, sizeof(expected),
             "t-0: scrub: %s is damaged from byte %" PRIu64 " to %" PRIu64 ": offsets %" PRId64
             " to %" PRId64 " are lost, the next good one is %" PRId64 "\n",
             sealed[1].path, pos, pos + b->len_bytes, b->base_offset, b[1].base_offset - 1,
             b[1].base_offset);
    const char *log = log_take();
    cr_assert_not_null(strstr(log, expected), "%s", log);
    cr_assert_eq(counters()->scrub_damages, 1);
    until_passed(2);
    cr_assert_eq(counters()->scrub_damages, 2, "it is told again in the next pass");
    fixture_fini(&f);
}

Test(scrub, batches_larger_than_a_read)
{
    fixture_init(&f, 8, 2, 32u << 20, 1u << 20);
    f.topic.config.segment_bytes = 4 << 20;
    f.config.scrub_bytes_per_second = 64 << 20;
    f.config.scrub_interval_ms = 10000;
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    for (unsigned i = 0; i < 12; i++) {
        cr_assert_eq(fixture_append(&f, 0, 900000, 1), 0);
        fixture_settle(&f);
    }
    for (unsigned i = 0; i < 100; i++)
        fixture_turn(&f);
    sealed_list();
    log_catch();
    cr_assert_geq(sealed_n, 2);
    damage(&sealed[0], 1700000, 1700001);
    damage(&sealed[1], 900100, 900200); /* the second one's header */
    until_passed(1);
    assert_told(log_take());
    fixture_fini(&f);
}

/* ---- what a device and others do to the files ---- */

static void resize(const char *path, uint64_t bytes)
{
    struct env_name_step step = {.kind = ENV_STEP_RESIZE, .path = path, .size_bytes = bytes};
    cr_assert_eq(env_names_wait(f.env, &step, 1), 0);
}

static void mark_behind(const struct sealed *s, uint64_t end)
{
    uint64_t pos = 0;
    for (unsigned i = s->first; i < s->end; i++) {
        const struct model_batch *b = &f.model[0].batches[i];
        pos += b->len_bytes;
        if (pos > end)
            offsets_mark(damaged, b->base_offset, b->base_offset + b->records);
    }
}

Test(scrub, files_that_were_cut_or_removed)
{
    start(4, 4 << 20, 3000);
    cr_assert_geq(sealed_n, 4);
    uint64_t one = f.model[0].batches[sealed[1].first].len_bytes;
    resize(sealed[0].path, sealed[0].bytes - 1);
    mark_behind(&sealed[0], sealed[0].bytes - 1);
    resize(sealed[1].path, one);
    mark_behind(&sealed[1], one);
    resize(sealed[2].path, 0);
    mark_behind(&sealed[2], 0);
    struct env_name_step gone = {.kind = ENV_STEP_UNLINK, .path = sealed[3].path};
    cr_assert_eq(env_names_wait(f.env, &gone, 1), 0);
    until_passed(1);
    const char *log = log_take();
    cr_assert_not_null(strstr(log, "cannot be opened: No such file or directory"), "%s", log);
    cr_assert_not_null(strstr(log, sealed[3].path));
    assert_told(log);
    cr_assert_eq(counters()->scrub_damages, 4);
    fixture_fini(&f);
}

Test(scrub, a_read_that_fails_once_is_no_damage)
{
    start(5, 4 << 20, 3000);
    mem_world_fail_at(f.world, MEM_FAULT_READ_EIO, 1);
    until_passed(1);
    cr_assert_eq(counters()->scrub_damages, 0);
    cr_assert_geq(counters()->scrub_bytes, sealed_bytes);
    cr_assert_str_empty(log_take());
    fixture_fini(&f);
}

Test(scrub, a_block_that_cannot_be_read, .timeout = 60)
{
    bool reading;
    start(6, 4 << 20, 3000);
    mem_world_fail_at(f.world, MEM_FAULT_READ_EIO, 1);
    do { /* the first read fails, then that of its first block */
        log_store_pump(f.store);
        reading = f.read_memory.free_bytes < f.read_memory.size_bytes;
        env_turn(f.env, log_store_deadline_ns(f.store));
    } while (!reading);
    cr_assert_eq(counters()->scrub_bytes, 0);
    mem_world_fail_at(f.world, MEM_FAULT_READ_EIO, 1);
    until_passed(1);
    uint64_t pos = 0;
    for (unsigned i = sealed[0].first; pos < BLOCK_BYTES; i++) {
        const struct model_batch *b = &f.model[0].batches[i];
        offsets_mark(damaged, b->base_offset, b->base_offset + b->records);
        pos += b->len_bytes;
    }
    assert_told(log_take());
    fixture_fini(&f);
}

/* ---- bounds ---- */

Test(scrub, keeps_to_its_rate)
{
    uint64_t rate = 50000;
    start(7, rate, 3000);
    while (counters()->scrub_bytes == 0)
        sleepy_turn();
    uint64_t began = mem_world_now_ns(f.world);
    while (counters()->scrub_passes == 0) {
        uint64_t may = rate * (mem_world_now_ns(f.world) - began) / SECOND;
        cr_assert_leq(counters()->scrub_bytes, may + 2 * (60000 + BLOCK_BYTES));
        sleepy_turn();
    }
    uint64_t took = mem_world_now_ns(f.world) - began;
    cr_assert_geq(took, (sealed_bytes - 60000) / rate * SECOND);
    cr_assert_leq(took, (sealed_bytes / rate + 5) * SECOND,
                  "it took %" PRIu64 " ns for %" PRIu64 " bytes in %u segments", took, sealed_bytes,
                  sealed_n);
    fixture_fini(&f);
}

Test(scrub, waits_while_read_memory_is_short)
{
    start(9, 4 << 20, 3000);
    void *held = buddy_alloc(&f.read_memory, f.read_memory.size_bytes);
    cr_assert_not_null(held);
    uint64_t began = mem_world_now_ns(f.world), turns = 0;
    for (; mem_world_now_ns(f.world) - began < 30 * SECOND; turns++)
        sleepy_turn();
    cr_assert_eq(counters()->scrub_bytes, 0);
    cr_assert_lt(turns, 1000);
    buddy_free(&f.read_memory, held);
    until_passed(1);
    cr_assert_geq(counters()->scrub_bytes, sealed_bytes);
    cr_assert_eq(f.read_memory.free_bytes, f.read_memory.size_bytes, "memory is kept");
    fixture_fini(&f);
}

/* ---- ends ---- */

static bool removed;

static void on_removed(void *arg, int rc)
{
    (void)arg;
    cr_assert_eq(rc, 0);
    removed = true;
}

/* Slow reads, so that one is in flight most of the time; after so many turns of the pass. */
static void start_and_enter_pass(uint64_t seed, unsigned turns)
{
    start(seed, 4 << 20, 3000);
    mem_world_set_latency(f.world, 20000, 20000, 40000000);
    while (f.env->counters.read_bytes == 0 && mem_world_now_ns(f.world) < 12 * SECOND)
        sleepy_turn();
    for (unsigned i = 0; i < turns; i++)
        sleepy_turn();
}

Test(scrub, partition_deleted_meanwhile)
{
    for (unsigned turns = 0; turns < 12; turns++) {
        start_and_enter_pass(20, turns);
        uint64_t began = mem_world_now_ns(f.world);
        removed = false;
        log_store_remove(f.store, fixture_plog(&f, 0), on_removed, NULL);
        while (!removed)
            sleepy_turn();
        cr_assert_lt(mem_world_now_ns(f.world) - began, SECOND / 5, "deletion waits for the scrub");
        until_passed(1);
        cr_assert_eq(counters()->scrub_damages, 0);
        cr_assert_str_empty(log_take());
        f.model[0].batches_n = 0;
        fixture_fini(&f);
    }
}

Test(scrub, clean_stop_and_crash_meanwhile)
{
    for (unsigned turns = 0; turns < 12; turns++) {
        start_and_enter_pass(21, turns);
        cr_assert_eq(fixture_close(&f), 0);
        cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
        until_passed(1);
        cr_assert_eq(counters()->scrub_damages, 0, "%s", log_take());
        cr_assert(fixture_verify_all(&f), "%s", f.why);
        for (unsigned i = 0; i < turns; i++)
            sleepy_turn();
        fixture_crash(&f);
        cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
        cr_assert(fixture_verify_all(&f), "%s", f.why);
        fixture_fini(&f);
    }
}
