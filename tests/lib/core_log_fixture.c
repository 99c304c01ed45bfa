#include "tests/lib/core_log_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/builder.h"

enum { SPLICE_SOCK = 77 };

static char reason[512];

void fixture_init(struct log_fixture *f, uint64_t seed, int32_t partitions, size_t memory_bytes,
                  uint64_t direct_min_bytes)
{
    static const char *const dirs[] = {"/data"};
    memset(f, 0, sizeof(*f));
    rng_seed(&f->rng, seed);
    f->world = mem_world_create(seed);
    f->memory_base = aligned_alloc(BLOCK_BYTES, memory_bytes);
    f->read_base = aligned_alloc(BLOCK_BYTES, 16u << 20);
    ASSERT(buddy_init(&f->memory, f->memory_base, memory_bytes) == 0);
    ASSERT(buddy_init(&f->read_memory, f->read_base, 16u << 20) == 0);
    f->config = (struct log_config){
        .journal_dir = "/data",
        .data_dirs = dirs,
        .data_dirs_n = 1,
        .journal_bytes = 4u << 20,
        .shards_n = 1,
        .direct_min_bytes = direct_min_bytes,
        .producer_expiry_ms = 86400000,
        .pool_max_percent = 10,
        .memory = &f->memory,
        .read_memory = &f->read_memory,
        .place_min_bytes = 4096,
        .shared_sync_min = 2,
    };
    topic_config_defaults(&f->topic.config);
    f->topic.name = "t";
    f->topic.id.b[0] = 7;
    f->topic.partitions_n = partitions;
    f->topic.partitions = f->partitions;
    for (int32_t i = 0; i < partitions; i++) {
        f->partitions[i] = (struct meta_partition){.number = (uint64_t)i + 100};
        f->model[i].batches = calloc(FIXTURE_BATCHES_MAX, sizeof(struct model_batch));
    }
    f->topics[0] = &f->topic;
    f->image.topics = f->topics;
    f->image.topics_n = 1;
    f->image.by_name = f->by_name;
    f->image.hash_mask = ARRAY_LEN(f->by_name) - 1;
    for (unsigned i = 0; meta_topic_by_name(&f->image, "t", 1) == NULL; i++) { /* its hash slot */
        memset(f->by_name, 0, sizeof(f->by_name));
        f->by_name[i] = 1;
    }
}

void fixture_fini(struct log_fixture *f)
{
    if (f->store != NULL)
        fixture_close(f);
    mem_world_destroy(f->world);
    buddy_fini(&f->memory);
    buddy_fini(&f->read_memory);
    free(f->memory_base);
    free(f->read_base);
    for (int32_t i = 0; i < f->topic.partitions_n; i++)
        free(f->model[i].batches);
}

int fixture_open(struct log_fixture *f)
{
    f->env = env_mem_create(f->world, 0, 1, NULL);
    struct env_name_step make[] = {{.kind = ENV_STEP_MKDIR, .path = "/data"},
                                   {.kind = ENV_STEP_SYNC_DIR, .path = "/"}};
    int rc = env_names_wait(f->env, make, 2);
    reason[0] = '\0';
    if (rc == 0)
        rc = log_store_open(f->env, 0, &f->config, &f->image, &f->store, reason, sizeof(reason));
    f->why = reason;
    if (rc != 0) {
        env_destroy(f->env);
        f->env = NULL;
    }
    return rc;
}

int fixture_close(struct log_fixture *f)
{
    int rc = log_store_close(f->store);
    f->store = NULL;
    env_destroy(f->env);
    f->env = NULL;
    return rc;
}

void fixture_crash(struct log_fixture *f)
{
    if (!mem_world_crashed(f->world))
        mem_world_power_off(f->world);
    if (f->store != NULL)
        log_store_abandon(f->store);
    f->store = NULL;
    env_destroy(f->env);
    f->env = NULL;
    mem_world_crash(f->world);
    for (int32_t i = 0; i < f->topic.partitions_n; i++)
        f->partitions[i].leader_epoch++; /* as metadata does after an unclean stop */
}

struct plog *fixture_plog(struct log_fixture *f, int32_t partition)
{
    return log_store_find(f->store, f->partitions[partition].number);
}

static void on_appended(struct log_append *a, int rc)
{
    struct model_batch *b = container_of(a, struct model_batch, append);
    ASSERT(!b->finished);
    b->finished = true;
    b->acked = rc == 0;
    b->fixture->acked += rc == 0;
    b->fixture->failed += rc != 0;
}

int fixture_append(struct log_fixture *f, int32_t partition, uint32_t value_bytes, int32_t records)
{
    static uint8_t value[4u << 20];
    struct model_partition *m = &f->model[partition];
    struct model_batch *b = &m->batches[m->batches_n];
    struct batch_builder builder;
    uint8_t *data;
    size_t len;
    ASSERT(m->batches_n < FIXTURE_BATCHES_MAX);
    batch_builder_init(&builder, BATCH_NONE);
    for (int32_t i = 0; i < records; i++) {
        for (uint32_t k = 0; k + 8 <= value_bytes; k += 8)
            le_store64(value + k, rng_next(&f->rng));
        ASSERT(batch_builder_add(&builder, env_wall_ms(f->env), NULL, -1, value,
                                 (int32_t)value_bytes, NULL, 0) == 0);
    }
    ASSERT(batch_builder_finish(&builder, &data, &len) == 0);
    struct batch_header h;
    ASSERT(batch_peek(data, len, &h) == 0);
    *b = (struct model_batch){.records = records, .len_bytes = (uint32_t)len, .fixture = f};
    /* Every other large batch comes in a place, of which the log keeps what fits. */
    struct log_place place = {.block = NULL};
    uint8_t *batch = data;
    if (m->batches_n % 2 != 0 &&
        log_place_take(fixture_plog(f, partition), 100, (uint32_t)len, 3, &place, &batch) == 0)
        memcpy(batch, data, len);
    b->append.place = &place;
    int rc =
        plog_append(fixture_plog(f, partition), batch, &h, !f->unawaited, &b->append, on_appended);
    if (rc >= 0) {
        b->finished = f->unawaited;
        b->base_offset = b->append.base_offset;
        b->crc = crc32c(batch, len);
        m->batches_n++;
    }
    log_place_release(&place);
    batch_builder_fini(&builder);
    return rc;
}

void fixture_turn(struct log_fixture *f)
{
    log_store_pump(f->store);
    env_turn(f->env, env_now_ns(f->env) + 1000000);
    log_store_pump(f->store);
}

static void on_start(struct plog_start_waiter *w, int rc)
{
    w->offset = rc; /* it is the caller's again */
    w->run = NULL;
}

int fixture_delete_records(struct log_fixture *f, int32_t partition, int64_t offset)
{
    struct plog *p = fixture_plog(f, partition);
    struct plog_start_waiter w;
    int rc = plog_delete_records(p, offset, &w, on_start);
    if (rc != 0)
        return rc;
    while (w.run != NULL && !mem_world_crashed(f->world))
        fixture_turn(f);
    if (w.run != NULL) { /* nobody will say */
        list_remove(&w.link);
        return -EIO;
    }
    if (w.offset == 0)
        f->model[partition].start = MAX(f->model[partition].start, offset);
    return (int)w.offset;
}

static bool all_finished(const struct log_fixture *f)
{
    for (int32_t i = 0; i < f->topic.partitions_n; i++)
        for (unsigned k = 0; k < f->model[i].batches_n; k++)
            if (!f->model[i].batches[k].finished)
                return false;
    return true;
}

void fixture_settle(struct log_fixture *f)
{
    while (!all_finished(f) && !mem_world_crashed(f->world))
        fixture_turn(f);
}

int fixture_open_cold(struct log_fixture *f, int32_t partitions, int batches, uint32_t batch_bytes)
{
    int rc = fixture_open(f);
    if (rc != 0)
        return rc;
    for (int i = 0; i < batches * partitions; i++) {
        while (fixture_append(f, i % partitions, batch_bytes, 1) != 0)
            fixture_turn(f);
        fixture_turn(f);
    }
    fixture_settle(f);
    rc = fixture_close(f);
    return rc != 0 ? rc : fixture_open(f);
}

static void on_read(struct plog_read *r)
{
    r->plog = NULL; /* marks it done */
}

static int read_wait(struct log_fixture *f, struct plog *p, struct plog_read *r)
{
    if (plog_read(p, r, on_read) == 1)
        return r->rc;
    while (r->plog != NULL) {
        log_store_pump(f->store);
        if (r->plog != NULL)
            env_turn(f->env, UINT64_MAX);
    }
    return r->rc;
}

/* Of both calls the second one, the release, is noted. */
static void on_spliced(struct env_op *op)
{
    op->private_[0] = op->private_[1];
    op->private_[1] = op;
}

static bool fail(struct log_fixture *f, int32_t partition, const char *what, int64_t offset)
{
    static char text[256];
    snprintf(text, sizeof(text), "partition %d: %s at offset %lld", (int)partition, what,
             (long long)offset);
    f->why = text;
    return false;
}

bool fixture_splice(struct log_fixture *f, const struct env_extent *extent, uint8_t *out)
{
    struct env_op op = {0};
    size_t len;
    env_splice(f->env, &op, SPLICE_SOCK, extent, 0, on_spliced, on_spliced);
    while (op.busy || op.private_[0] == NULL)
        env_turn(f->env, UINT64_MAX);
    const uint8_t *sent = mem_world_sink(f->world, SPLICE_SOCK, &len);
    if (op.res != (int)extent->len_bytes || len < extent->len_bytes)
        return false;
    memcpy(out, sent + len - extent->len_bytes, extent->len_bytes);
    return true;
}

/* What was read, however it came; nothing where a file could not be sent. */
static size_t gather(struct log_fixture *f, const struct plog_read *r, uint8_t *out)
{
    size_t len = 0;
    if (r->extent.file != NULL)
        return fixture_splice(f, &r->extent, out) ? r->len_bytes : 0;
    for (unsigned i = 0; i < r->iov_n; i++) {
        memcpy(out + len, r->iov[i].iov_base, r->iov[i].iov_len);
        len += r->iov[i].iov_len;
    }
    return len;
}

static bool compare(struct log_fixture *f, int32_t partition, const uint8_t *data, size_t len,
                    unsigned *at)
{
    struct model_partition *m = &f->model[partition];
    for (size_t pos = 0; pos < len; (*at)++) {
        struct batch_header h;
        if (batch_peek(data + pos, len - pos, &h) != 0 || h.len_bytes > len - pos)
            return fail(f, partition, "not a whole batch", -1);
        if (*at >= m->batches_n)
            return fail(f, partition, "a batch that was never appended", h.base_offset);
        const struct model_batch *b = &m->batches[*at];
        if (h.base_offset != b->base_offset || h.len_bytes != b->len_bytes ||
            crc32c(data + pos, h.len_bytes) != b->crc)
            return fail(f, partition, "another batch than was appended", h.base_offset);
        pos += h.len_bytes;
    }
    return true;
}

/* The first batch that the log still has to hold. */
static unsigned first_kept(const struct model_partition *m)
{
    unsigned at = 0;
    while (at < m->batches_n && m->batches[at].base_offset + m->batches[at].records <= m->start)
        at++;
    return at;
}

bool fixture_verify(struct log_fixture *f, int32_t partition)
{
    static uint8_t data[24u << 20];
    struct plog *p = fixture_plog(f, partition);
    struct model_partition *m = &f->model[partition];
    int64_t offset = plog_start_offset(p);
    if (offset < m->start)
        return fail(f, partition, "the start of the log went back", offset);
    m->start = offset;
    unsigned at = first_kept(m);
    while (offset < plog_high_watermark(p)) {
        struct plog_read r = {.offset = offset,
                              .max_bytes = (uint32_t)(4096 + rng_below(&f->rng, 300000)),
                              .splice_min_bytes = 4096,
                              .at_least_one = true};
        int rc = read_wait(f, p, &r);
        if (rc != 0 || r.len_bytes == 0) {
            plog_read_release(&r);
            return fail(f, partition, rc != 0 ? strerror(-rc) : "nothing to read", offset);
        }
        bool same = compare(f, partition, data, gather(f, &r, data), &at);
        plog_read_release(&r);
        if (!same)
            return false;
        offset = m->batches[at - 1].base_offset + m->batches[at - 1].records;
    }
    for (unsigned k = at; k < m->batches_n; k++)
        if (m->batches[k].acked)
            return fail(f, partition, "an acknowledged batch is lost", m->batches[k].base_offset);
    for (unsigned k = 0; k < at; k++)
        m->batches[k].acked = m->batches[k].finished = true; /* stable: it stays from now on */
    m->batches_n = at;
    return true;
}

bool fixture_verify_all(struct log_fixture *f)
{
    for (int32_t i = 0; i < f->topic.partitions_n; i++)
        if (!fixture_verify(f, i))
            return false;
    return true;
}
