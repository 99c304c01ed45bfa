#include "tests/unit/core/log/damage_rig.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/batch/builder.h"
#include "core/log/journal_format.h"

enum { SMALL, IDEMPOTENT, ROLLING, RUNS }; /* what the partitions are for */
#define PRODUCER_ID 77
#define DIRECT_MIN_BYTES (16u << 10)

static char why[1024];

__attribute__((format(printf, 1, 2))) static bool fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    return false;
}

/* ---- appending ---- */

struct waiting {
    struct log_append append;
    bool done;
    int rc;
};

static void on_appended(struct log_append *a, int rc)
{
    struct waiting *w = container_of(a, struct waiting, append);
    w->rc = rc;
    w->done = true;
}

static int append_start(struct rig *r, int32_t partition, uint8_t *data, size_t len,
                        struct waiting *w)
{
    struct batch_header h;
    ASSERT(batch_peek(data, len, &h) == 0);
    *w = (struct waiting){0};
    int rc = plog_append(fixture_plog(&r->f, partition), data, &h, true, &w->append, on_appended);
    w->done = rc != 0;
    w->rc = rc;
    return rc;
}

/* plog_append's result or, once it is stable, 0. */
static int append_wait(struct rig *r, struct waiting *w)
{
    while (!w->done)
        fixture_turn(&r->f);
    return w->rc;
}

static uint8_t *batch_make(struct rig *r, uint32_t value_bytes, int32_t records, int32_t sequence,
                           size_t *ret_len)
{
    static uint8_t value[1u << 20];
    struct batch_builder b;
    uint8_t *data;
    batch_builder_init(&b, BATCH_NONE);
    if (sequence >= 0) {
        b.producer_id = PRODUCER_ID;
        b.producer_epoch = 0;
        b.base_sequence = sequence;
    }
    for (int32_t i = 0; i < records; i++) {
        for (uint32_t k = 0; k + 8 <= value_bytes; k += 8)
            le_store64(value + k, rng_next(&r->f.rng));
        ASSERT(batch_builder_add(&b, env_wall_ms(r->f.env), NULL, -1, value, (int32_t)value_bytes,
                                 NULL, 0) == 0);
    }
    uint8_t *built;
    ASSERT(batch_builder_finish(&b, &built, ret_len) == 0);
    data = malloc(*ret_len);
    memcpy(data, built, *ret_len);
    batch_builder_fini(&b);
    return data;
}

static void batch_note(struct rig *r, int32_t partition, uint8_t *data, size_t len)
{
    struct batch_header h;
    ASSERT(batch_peek(data, len, &h) == 0); /* stamped in place */
    r->batches[r->batches_n++] = (struct rig_batch){.partition = partition,
                                                    .base_offset = h.base_offset,
                                                    .end_offset = batch_last_offset(&h) + 1,
                                                    .max_timestamp = h.max_timestamp,
                                                    .bytes = data,
                                                    .len_bytes = (uint32_t)len};
    ASSERT(r->batches_n < ARRAY_LEN(r->batches));
}

/* So many batches at once; all are acknowledged when this returns. */
static void append_several(struct rig *r, int32_t partition, unsigned n, uint32_t value_bytes,
                           int32_t records, int32_t sequence)
{
    struct waiting w[8];
    ASSERT(n <= ARRAY_LEN(w));
    for (unsigned i = 0; i < n; i++) {
        size_t len;
        uint8_t *data = batch_make(r, value_bytes, records, sequence, &len);
        int rc = append_start(r, partition, data, len, &w[i]);
        ASSERT(rc == 0);
        batch_note(r, partition, data, len);
    }
    for (unsigned i = 0; i < n; i++) {
        int rc = append_wait(r, &w[i]);
        ASSERT(rc == 0);
    }
}

static void append(struct rig *r, int32_t partition, uint32_t value_bytes, int32_t records,
                   int32_t sequence)
{
    append_several(r, partition, 1, value_bytes, records, sequence);
}

/* ---- the directory ---- */

static void tree_keep(struct rig *r, struct env *env, const char *dir)
{
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = dir};
    if (env_names_wait(env, &list, 1) != 0)
        return;
    const char *name = list.ret_data;
    for (size_t i = 0; i < list.ret_count; i++, name += strlen(name) + 1) {
        struct rig_file *file = &r->files[r->files_n];
        snprintf(file->path, sizeof(file->path), "%s/%s", dir, name);
        int64_t size = mem_world_file_size(r->f.world, file->path);
        if (size < 0) {
            char sub[160];
            snprintf(sub, sizeof(sub), "%s", file->path);
            tree_keep(r, env, sub);
            continue;
        }
        ASSERT(r->files_n + 1 < ARRAY_LEN(r->files));
        file->len_bytes = (size_t)size;
        file->bytes = calloc(1, file->len_bytes + 1);
        ASSERT(mem_world_read_file(r->f.world, file->path, file->bytes, file->len_bytes, 0) ==
               size);
        r->files_n++;
    }
    free(list.ret_data);
}

static void files_free(struct rig_file *files, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        free(files[i].bytes);
        free(files[i].old);
    }
}

static void directory_keep(struct rig *r)
{
    struct rig_file before[ARRAY_LEN(r->files)];
    unsigned before_n = r->files_n;
    memcpy(before, r->files, sizeof(before));
    memset(r->files, 0, sizeof(r->files));
    r->files_n = 0;
    struct env *env = env_mem_create(r->f.world, 0, 1, NULL);
    tree_keep(r, env, "/data");
    env_destroy(env);
    for (unsigned i = 0; i < r->files_n; i++) {
        struct rig_file *file = &r->files[i];
        file->old = calloc(1, file->len_bytes + 1);
        for (unsigned k = 0; k < before_n; k++)
            if (strcmp(before[k].path, file->path) == 0)
                memcpy(file->old, before[k].bytes, MIN(before[k].len_bytes, file->len_bytes));
    }
    files_free(before, before_n);
}

static void directory_put(struct rig *r)
{
    struct env *env = env_mem_create(r->f.world, 0, 1, NULL);
    struct env_name_step root[] = {{.kind = ENV_STEP_MKDIR, .path = "/data"},
                                   {.kind = ENV_STEP_SYNC_DIR, .path = "/"}};
    ASSERT(env_names_wait(env, root, 2) == 0);
    for (unsigned i = 0; i < r->files_n; i++) {
        char dir[160];
        snprintf(dir, sizeof(dir), "%s", r->files[i].path);
        *strrchr(dir, '/') = '\0';
        struct env_name_step steps[] = {{.kind = ENV_STEP_MKDIR, .path = dir},
                                        {.kind = ENV_STEP_SYNC_DIR, .path = "/data"},
                                        {.kind = ENV_STEP_PUT,
                                         .path = r->files[i].path,
                                         .data = r->files[i].bytes,
                                         .data_len = r->files[i].len_bytes}};
        ASSERT(env_names_wait(env, steps, 3) == 0);
    }
    env_destroy(env);
}

/* ---- where each batch's bytes lie ---- */

static struct rig_batch *batch_find(struct rig *r, int32_t partition, int64_t base_offset)
{
    for (unsigned i = r->batches_n; i-- > 0;) /* what does not count is given away again */
        if (r->batches[i].partition == partition && r->batches[i].base_offset == base_offset)
            return &r->batches[i];
    return NULL;
}

static void span_add(struct rig *r, unsigned file, int32_t partition, int64_t base_offset,
                     uint64_t from, uint64_t to)
{
    struct rig_batch *b = batch_find(r, partition, base_offset);
    ASSERT(b != NULL);
    r->spans = realloc(r->spans, (r->spans_n + 1) * sizeof(*r->spans));
    r->spans[r->spans_n++] = (struct rig_span){file, (unsigned)(b - r->batches), from, to};
}

static void spans_of_segment(struct rig *r, unsigned file)
{
    const struct rig_file *f = &r->files[file];
    int32_t partition = f->path[strlen("/data/t-")] - '0';
    struct batch_header h;
    for (size_t at = 0; batch_peek(f->bytes + at, f->len_bytes - at, &h) == 0; at += h.len_bytes)
        if (batch_find(r, partition, h.base_offset) !=
            NULL) /* may be cut off: its tail is elsewhere */
            span_add(r, file, partition, h.base_offset, at, MIN(at + h.len_bytes, f->len_bytes));
}

static void spans_of_record(struct rig *r, unsigned file, const uint8_t *write,
                            const struct journal_record *rec)
{
    const uint8_t *body = journal_record_body(write, rec);
    uint64_t at = (uint64_t)(body - r->files[file].bytes);
    int32_t partition = (int32_t)(rec->number - r->f.partitions[0].number);
    uint64_t image_pos = block_floor(rec->pos + rec->data_bytes), pos = rec->pos;
    struct batch_header h;
    if (rec->kind == RECORD_BATCHES) {
        for (uint64_t i = 0; i < rec->data_bytes; i += h.len_bytes) {
            ASSERT(batch_peek(body + i, rec->data_bytes - i, &h) == 0);
            span_add(r, file, partition, h.base_offset, at + i, at + i + h.len_bytes);
        }
        return;
    }
    uint64_t headers = (uint64_t)rec->headers_n * BATCH_HEADER_BYTES;
    r->runs_n++;
    for (uint32_t i = 0; i < rec->headers_n; i++, pos += h.len_bytes) { /* the image only */
        ASSERT(batch_peek(body + (size_t)i * BATCH_HEADER_BYTES, BATCH_HEADER_BYTES, &h) == 0);
        if (pos + h.len_bytes > image_pos)
            span_add(r, file, partition, h.base_offset,
                     at + headers + (MAX(pos, image_pos) - image_pos),
                     at + headers + (pos + h.len_bytes - image_pos));
    }
}

static void spans_of_journal(struct rig *r, unsigned file)
{
    const struct rig_file *f = &r->files[file];
    struct journal_super super;
    ASSERT(journal_super_decode(f->bytes, &super));
    struct journal_expect expect = {.journal_id = super.journal_id, /* since the last checkpoint */
                                    .incarnation_min = super.incarnation,
                                    .incarnation_max = super.incarnation};
    for (uint64_t v = 0; v < super.ring_bytes; v += BLOCK_BYTES) {
        struct journal_header h;
        struct journal_record_iter it;
        struct journal_record rec;
        const uint8_t *write = f->bytes + JOURNAL_RING_START + v;
        memcpy(&h, write, sizeof(h));
        expect.virtual_pos = h.virtual_pos;
        if (h.virtual_pos % super.ring_bytes != v ||
            journal_write_open(write, super.ring_bytes - v, &expect, &h) != 0)
            continue;
        r->laps = MAX(r->laps, (unsigned)(h.virtual_pos / super.ring_bytes));
        journal_records_begin(&it, write, &h);
        while (journal_record_next(&it, &rec))
            spans_of_record(r, file, write, &rec);
    }
}

static void spans_find(struct rig *r)
{
    for (unsigned i = 0; i < r->files_n; i++) {
        const char *path = r->files[i].path;
        size_t len = strlen(path);
        if (strcmp(path, "/data/journal.0") == 0)
            spans_of_journal(r, i);
        else if (strcmp(path + len - 4, ".log") == 0)
            spans_of_segment(r, i);
        r->indexes_n += strcmp(path + len - 6, ".index") == 0;
    }
}

/* ---- the scenario ---- */

static void work(struct rig *r, int rounds, int32_t *sequence)
{
    for (int i = 0; i < rounds; i++) {
        append(r, SMALL, 40 + (uint32_t)rng_below(&r->f.rng, 200), 1 + i % 3, -1);
        append(r, IDEMPOTENT, 100, 2, *sequence);
        *sequence += 2;
        if (i % 2 == 0)
            append(r, ROLLING, 2000 + (uint32_t)rng_below(&r->f.rng, 9000), 1, -1);
        if (i % 4 == 3) /* one run, unless there is no file yet */
            append_several(r, RUNS, 4, 700 + (uint32_t)rng_below(&r->f.rng, 3000), 3, -1);
        mem_world_advance(r->f.world, 3000000);
    }
}

/* Quiet for long enough that the journal says of its last write that it is durable. */
static void rest(struct rig *r)
{
    for (int i = 0; i < 200; i++)
        fixture_turn(&r->f);
}

void rig_make(struct rig *r, enum rig_end end)
{
    int32_t sequence = 0;
    memset(r, 0, sizeof(*r));
    fixture_init(&r->f, 29, RIG_PARTITIONS, 16u << 20, DIRECT_MIN_BYTES);
    r->f.config.journal_bytes = 3u << 20;
    r->f.topic.config.segment_bytes = 100000;
    r->f.topic.config.index_interval_bytes = 16000;
    r->log_fd = memfd_create("log", 0);
    ASSERT(r->log_fd >= 0);
    ASSERT(dup2(r->log_fd, STDERR_FILENO) >= 0);
    ASSERT(fixture_open(&r->f) == 0);
    for (int i = 0; i < 640; i++) /* once round the ring: what an older checkpoint needs is gone */
        append(r, SMALL, 16, 1, -1);
    work(r, 40, &sequence);
    ASSERT(fixture_close(&r->f) == 0);
    directory_keep(r); /* what is old later */
    ASSERT(fixture_open(&r->f) == 0);
    work(r, 24, &sequence);
    if (end != RIG_CUT_AT_WORK)
        rest(r);
    r->unsure = end == RIG_CUT_AT_WORK;
    if (end == RIG_CLEAN_STOP)
        ASSERT(fixture_close(&r->f) == 0);
    else
        fixture_crash(&r->f);
    directory_keep(r);
    spans_find(r);
}

void rig_free(struct rig *r)
{
    files_free(r->files, r->files_n);
    for (unsigned i = 0; i < r->batches_n; i++)
        free(r->batches[i].bytes);
    free(r->spans);
    fixture_fini(&r->f);
    close(r->log_fd);
}

/* ---- what comes back ---- */

static void on_read(struct plog_read *read)
{
    read->plog = NULL;
}

static bool batches_match(struct rig *r, int32_t partition, const struct plog_read *read,
                          int64_t *offset)
{
    static uint8_t data[4u << 20];
    size_t len = 0;
    struct batch_header h;
    for (unsigned i = 0; i < read->iov_n; i++) {
        memcpy(data + len, read->iov[i].iov_base, read->iov[i].iov_len);
        len += read->iov[i].iov_len;
    }
    for (size_t at = 0; at < len; at += h.len_bytes) {
        if (batch_peek(data + at, len - at, &h) != 0 || h.len_bytes > len - at)
            return fail("t-%d: no batch behind offset %lld", partition, (long long)*offset);
        struct rig_batch *b = batch_find(r, partition, h.base_offset);
        if (b == NULL || b->len_bytes != h.len_bytes ||
            memcmp(b->bytes, data + at, h.len_bytes) != 0)
            return fail("t-%d: wrong bytes at offset %lld", partition, (long long)h.base_offset);
        if (b->end_offset <= *offset)
            return fail("t-%d: offset %lld again", partition, (long long)h.base_offset);
        b->lost = false;
        *offset = b->end_offset;
    }
    return true;
}

static bool partition_read(struct rig *r, int32_t partition)
{
    struct plog *p = fixture_plog(&r->f, partition);
    int64_t offset = plog_start_offset(p);
    while (offset < plog_high_watermark(p)) {
        struct plog_read read = {.offset = offset, .max_bytes = 50000, .at_least_one = true};
        if (plog_read(p, &read, on_read) == 0)
            while (read.plog != NULL)
                fixture_turn(&r->f);
        bool ok = read.rc == 0 ? batches_match(r, partition, &read, &offset)
                               : fail("t-%d: read at %lld: %s", partition, (long long)offset,
                                      strerror(-read.rc));
        bool end = read.len_bytes == 0;
        plog_read_release(&read);
        if (!ok)
            return false;
        if (end)
            break;
    }
    return true;
}

static bool all_read(struct rig *r)
{
    for (unsigned i = 0; i < r->batches_n; i++)
        r->batches[i].lost = true;
    for (int32_t p = 0; p < RIG_PARTITIONS; p++)
        if (!partition_read(r, p))
            return false;
    return true;
}

static bool in_place(const struct rig *r, unsigned batch, unsigned file, uint64_t from,
                     uint64_t len)
{
    for (unsigned i = 0; i < r->spans_n; i++) {
        const struct rig_span *s = &r->spans[i];
        if (s->batch == batch && s->file == file && s->from < from + len && s->to > from)
            return true;
    }
    return false;
}

static bool is_named(const struct rig_batch *b, const char *log)
{
    char prefix[32];
    snprintf(prefix, sizeof(prefix), " t-%d: offsets ", b->partition);
    for (const char *at = log; (at = strstr(at, prefix)) != NULL; at++) {
        long long from, to;
        if (sscanf(at + strlen(prefix), "%lld to %lld are lost", &from, &to) == 2 &&
            from <= b->base_offset && to >= b->end_offset - 1)
            return true;
    }
    return false;
}

/* The log ends before it: whether its write was ever acknowledged cannot be known. */
static bool is_unsure(const struct rig_batch *b, const char *log)
{
    char prefix[64];
    long long end, to;
    snprintf(prefix, sizeof(prefix), " t-%d: the log ends at offset ", b->partition);
    const char *at = strstr(log, prefix);
    return at != NULL && sscanf(at + strlen(prefix), "%lld: offsets up to %lld", &end, &to) == 2 &&
           b->base_offset >= end && b->end_offset - 1 <= to;
}

static char *log_text(const struct rig *r)
{
    off_t size = lseek(r->log_fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)size + 1);
    ASSERT(pread(r->log_fd, text, (size_t)size, 0) == size);
    return text;
}

static bool losses_allowed(struct rig *r, unsigned file, uint64_t from, uint64_t len,
                           unsigned *ret_lost)
{
    char *log = log_text(r);
    bool ok = true;
    *ret_lost = 0;
    for (unsigned i = 0; ok && i < r->batches_n; i++) {
        const struct rig_batch *b = &r->batches[i];
        if (!b->lost)
            continue;
        (*ret_lost)++;
        if (r->unsure && is_unsure(b, log))
            continue;
        if (!in_place(r, i, file, from, len))
            ok = fail("t-%d: offset %lld is lost without a byte in the sector; the log: %.600s",
                      b->partition, (long long)b->base_offset, log);
        else if (!is_named(b, log))
            ok = fail("t-%d: offset %lld is lost and not named; the log: %.600s", b->partition,
                      (long long)b->base_offset, log);
    }
    if (ok && *ret_lost == 0 && strstr(log, "are lost") != NULL)
        ok = fail("nothing is lost, but the log says so: %.600s", log);
    free(log);
    return ok;
}

static void on_found(struct plog_lookup *l)
{
    l->plog = NULL;
}

/* The first batch that is left with a record at or after a time has it. */
static bool lookup_right(struct rig *r, int32_t partition, int64_t timestamp_ms)
{
    struct plog_lookup l = {.timestamp_ms = timestamp_ms};
    if (plog_lookup_time(fixture_plog(&r->f, partition), &l, on_found) == 0)
        while (l.plog != NULL)
            fixture_turn(&r->f);
    const struct rig_batch *first = NULL, *best = NULL;
    for (unsigned i = 0; i < r->batches_n; i++) {
        const struct rig_batch *b = &r->batches[i];
        if (b->partition != partition || b->lost)
            continue;
        if (best == NULL || b->max_timestamp > best->max_timestamp)
            best = b;
        if (first == NULL && b->max_timestamp >= timestamp_ms)
            first = b;
    }
    if (timestamp_ms == PLOG_TIME_MAX)
        first = best;
    if (l.rc != 0)
        return fail("t-%d: look-up of %lld: %s", partition, (long long)timestamp_ms,
                    strerror(-l.rc));
    if (first == NULL ? l.offset != -1
                      : l.offset < first->base_offset || l.offset >= first->end_offset)
        return fail("t-%d: look-up of %lld: offset %lld instead of %lld", partition,
                    (long long)timestamp_ms, (long long)l.offset,
                    first == NULL ? -1ll : (long long)first->base_offset);
    return true;
}

static bool lookups_right(struct rig *r, uint64_t sector)
{
    if (!lookup_right(r, ROLLING, PLOG_TIME_MAX) || !lookup_right(r, SMALL, PLOG_TIME_MAX))
        return false;
    for (unsigned i = sector % 11; i < r->batches_n; i += 11)
        if (!lookup_right(r, r->batches[i].partition, r->batches[i].max_timestamp))
            return false;
    return true;
}

/* A producer that repeats its last batch is told so, if that is still there. */
static bool duplicate_known(struct rig *r)
{
    const struct rig_batch *last = NULL;
    for (unsigned i = 0; i < r->batches_n; i++)
        if (r->batches[i].partition == IDEMPOTENT)
            last = &r->batches[i];
    struct waiting w = {.done = true};
    uint8_t *copy = malloc(last->len_bytes);
    memcpy(copy, last->bytes, last->len_bytes);
    int rc = last->lost ? 1 : append_start(r, IDEMPOTENT, copy, last->len_bytes, &w);
    if (!w.done)
        append_wait(r, &w);
    free(copy);
    if (!last->lost && (rc < 0 || !w.append.duplicate || w.append.base_offset != last->base_offset))
        return fail("the producer's last batch is taken again (%d)", rc);
    return true;
}

/* Appends go on, and a second start finds the same. */
static bool goes_on(struct rig *r, unsigned before_n)
{
    static bool lost[ARRAY_LEN(r->batches)];
    for (unsigned i = 0; i < before_n; i++)
        lost[i] = r->batches[i].lost;
    for (int32_t p = 0; p < RIG_PARTITIONS; p++)
        append(r, p, 3000, 1, -1);
    int rc = fixture_close(&r->f);
    if (rc != 0)
        return fail("close: %s", strerror(-rc));
    if ((rc = fixture_open(&r->f)) != 0)
        return fail("second start: %s", r->f.why);
    if (!all_read(r))
        return false;
    for (unsigned i = 0; i < r->batches_n; i++)
        if (r->batches[i].lost != (i < before_n && lost[i]))
            return fail("t-%d: after a second start offset %lld is %s", r->batches[i].partition,
                        (long long)r->batches[i].base_offset,
                        r->batches[i].lost ? "lost as well" : "back");
    return true;
}

static bool opened_right(struct rig *r, unsigned file, uint64_t from, uint64_t len,
                         unsigned *ret_lost)
{
    unsigned before_n = r->batches_n;
    bool ok = all_read(r) && losses_allowed(r, file, from, len, ret_lost) &&
              lookups_right(r, from / RIG_SECTOR_BYTES) && duplicate_known(r) &&
              goes_on(r, before_n);
    while (r->batches_n > before_n)
        free(r->batches[--r->batches_n].bytes);
    return ok;
}

static void sector_damage(struct rig *r, const struct rig_file *f, uint64_t from, uint64_t len,
                          enum damage_kind kind)
{
    if (kind == DAMAGE_BIT)
        f->bytes[from + rng_below(&r->f.rng, len)] ^= (uint8_t)(1u << rng_below(&r->f.rng, 8));
    for (uint64_t i = from; i < from + len && kind != DAMAGE_BIT; i++) {
        if (kind == DAMAGE_FLIP)
            f->bytes[i] ^= (uint8_t)(1u << rng_below(&r->f.rng, 8));
        else if (kind == DAMAGE_ZEROS)
            f->bytes[i] = 0;
        else if (kind != DAMAGE_UNREADABLE)
            f->bytes[i] = kind == DAMAGE_OLD ? f->old[i] : (uint8_t)rng_below(&r->f.rng, 256);
    }
}

/* A world of its own with the directory in it, damaged. */
static void world_put(struct rig *r, const struct rig_file *f, uint64_t from, enum damage_kind kind)
{
    mem_world_destroy(r->f.world);
    r->f.world = mem_world_create(7);
    directory_put(r);
    if (kind == DAMAGE_UNREADABLE)
        ASSERT(mem_world_unreadable(r->f.world, f->path, from) == 0);
    ASSERT(ftruncate(r->log_fd, 0) == 0);
    lseek(r->log_fd, 0, SEEK_SET);
}

static void store_end(struct rig *r)
{
    if (r->f.store != NULL)
        log_store_abandon(r->f.store);
    r->f.store = NULL;
    if (r->f.env != NULL)
        env_destroy(r->f.env);
    r->f.env = NULL;
}

bool rig_try(struct rig *r, unsigned file, uint64_t sector, enum damage_kind kind,
             const char **ret_why)
{
    const struct rig_file *f = &r->files[file];
    uint64_t from = sector * RIG_SECTOR_BYTES;
    uint64_t len =
        MIN(f->len_bytes - from, kind == DAMAGE_UNREADABLE ? BLOCK_BYTES : RIG_SECTOR_BYTES);
    uint8_t whole[BLOCK_BYTES];
    unsigned lost = 0;
    memcpy(whole, f->bytes + from, len);
    sector_damage(r, f, from, len, kind);
    world_put(r, f, from, kind);
    int rc = fixture_open(&r->f);
    bool ok = rc == 0 ? opened_right(r, file, from, len, &lost) : fail("start: %s", r->f.why);
    store_end(r);
    memcpy(f->bytes + from, whole, len);
    r->positions++;
    r->exact += ok && lost == 0;
    r->with_loss += ok && lost > 0;
    r->lost_batches += lost;
    *ret_why = why;
    return ok;
}

bool rig_log_has(const struct rig *r, const char *text)
{
    char *log = log_text(r);
    bool has = strstr(log, text) != NULL;
    free(log);
    return has;
}
