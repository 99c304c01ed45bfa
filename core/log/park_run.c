/* park_run.c: the side file of a directory that fails while the broker runs: what is stable of its
 * partitions leaves memory and checkpoints, which would carry it along for ever.
 *
 * Happy path: the directory's partitions are offline, so nothing of them changes any more ->
 *   park_run_pump() lays their entries, images and all, into one buffer, about a MiB a turn -> both
 *   copies are written, flushed, and named, durably -> from then on checkpoints leave the
 * partitions out, and their memory is free as soon as nobody reads there. Failure: they stay where
 * they were, in each checkpoint; it is tried again a while later. Threads: the shard's. One
 * directory at a time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/log/internal.h"
#include "core/log/park_format.h"

#define TURN_BYTES (1u << 20)
#define WRITE_BYTES_MAX (8ull << 20)
#define RETRY_NS 10000000000ull

enum side_state { SIDE_IDLE, SIDE_GATHERING, SIDE_WRITING };
struct side_file {
    struct log_store *store;
    enum side_state state;
    uint64_t wanted; /* a bit a directory */
    uint64_t retry_ns;
    unsigned dir;
    uint64_t *numbers; /* of its partitions */
    size_t numbers_n, numbers_at;
    uint8_t *buf;
    uint64_t buf_bytes, fill_bytes, written_bytes;
    struct park_section head;
    uint32_t entries_crc;
    unsigned copy;
    struct env_op op;
    struct env_name_step steps[2];
    struct env_file *file;
    char path[PATH_MAX], temp[PATH_MAX];
};

int park_run_open(struct log_store *s)
{
    s->side = calloc(1, sizeof(*s->side));
    if (s->side == NULL)
        return -ENOMEM;
    s->side->store = s;
    return 0;
}

bool park_run_busy(const struct log_store *s)
{
    return s->side != NULL && s->side->state == SIDE_WRITING;
}

void park_run_fini(struct log_store *s)
{
    if (s->side == NULL)
        return;
    ASSERT(s->side->state != SIDE_WRITING);
    free(s->side->numbers);
    free(s->side->buf);
    free(s->side);
}

void park_run_want(struct log_store *s, uint64_t dirs)
{
    if (s->side != NULL)
        s->side->wanted |= dirs;
}

uint64_t park_run_deadline_ns(const struct log_store *s)
{
    const struct side_file *f = s->side;
    if (f == NULL || s->failed != 0 || s->closing || s->unsettled)
        return UINT64_MAX;
    if (f->state == SIDE_GATHERING)
        return 0;
    return f->state == SIDE_IDLE && f->wanted != 0 ? f->retry_ns : UINT64_MAX;
}

/* ---- what is parked leaves memory ---- */

static bool nobody_is_there(const struct plog *p)
{
    return p->holds == 0 && p->job == NULL && !p->trimming && (p->io == NULL || !p->io->busy);
}

static void segment_release(struct segment *seg)
{
    struct log_store *s = seg->plog->store;
    s->behind_bytes -= seg->stable_pos - seg->destaged_pos;
    s->fresh_bytes -= seg->end_pos - seg->queued_pos;
    seg_drop_chunks(seg);
    seg->destaged_pos = seg->stable_pos = seg->queued_pos = seg->end_pos;
    segment_unpin(seg);
}

/* Nothing is read of it any more, and no checkpoint asks for its bytes. */
static void plog_release(struct plog *p)
{
    list_for_each(it, &p->segments)
        segment_release(container_of(it, struct segment, link));
    list_remove(&p->behind_link);
    list_remove(&p->destage_link);
    list_remove(&p->tail_link);
    p->released = true;
    p->store->memory_freed = true;
}

/* Called whenever something ends there. */
void plog_release_parked(struct plog *p)
{
    if (p->parked && !p->released && !p->removed && nobody_is_there(p))
        plog_release(p);
}

static void side_done(struct side_file *f)
{
    struct log_store *s = f->store;
    if (f->numbers_n == 0)
        return;
    for (size_t i = 0; i < f->numbers_n; i++) {
        struct plog *p = map_get(&s->plogs, f->numbers[i]);
        if (p == NULL || p->removed)
            continue;
        p->parked = true;
        plog_release_parked(p);
    }
    log_info("%s: keeps %llu bytes of %u partitions until their data directory is there again",
             f->path, (unsigned long long)f->fill_bytes, f->head.plogs_n);
}

static void side_end(struct side_file *f, int rc)
{
    if (f->file != NULL)
        env_file_close(f->store->env, f->file);
    f->file = NULL;
    f->state = SIDE_IDLE;
    if (rc == 0) {
        f->wanted &= ~(UINT64_C(1) << f->dir);
        f->retry_ns = 0;
        side_done(f);
    } else {
        f->retry_ns = env_now_ns(f->store->env) + RETRY_NS;
        log_warn("%s: %s; what it is to hold stays in checkpoints", f->path, strerror(-rc));
    }
    free(f->buf);
    free(f->numbers);
    f->buf = NULL;
    f->numbers = NULL;
}

/* ---- writing ---- */

static void on_named(struct env_op *op)
{
    side_end(container_of(op, struct side_file, op), op->res);
}

static void on_flushed(struct env_op *op)
{
    struct side_file *f = container_of(op, struct side_file, op);
    if (op->res < 0) {
        side_end(f, op->res);
        return;
    }
    f->steps[0] =
        (struct env_name_step){.kind = ENV_STEP_RENAME, .path = f->temp, .path2 = f->path};
    f->steps[1] =
        (struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = f->store->config.journal_dir};
    env_names(f->store->env, &f->op, f->steps, 2, on_named);
}

static void on_written(struct env_op *op);

static void side_write_next(struct side_file *f)
{
    struct env *env = f->store->env;
    if (f->written_bytes == f->buf_bytes && f->copy == 0) {
        f->copy = 1;
        f->written_bytes = 0;
    }
    uint64_t at = f->written_bytes, len = MIN(f->buf_bytes - at, WRITE_BYTES_MAX);
    f->written_bytes += len;
    if (len > 0)
        env_write(env, &f->op, f->file, f->buf + at, len, f->copy * f->buf_bytes + at, 0,
                  on_written);
    else
        env_flush(env, &f->op, f->file, on_flushed);
}

static void on_written(struct env_op *op)
{
    struct side_file *f = container_of(op, struct side_file, op);
    if (op->res < 0)
        side_end(f, op->res);
    else
        side_write_next(f);
}

static void on_created(struct env_op *op)
{
    struct side_file *f = container_of(op, struct side_file, op);
    f->file = f->steps[1].ret_file;
    if (op->res < 0)
        side_end(f, op->res);
    else
        side_write_next(f);
}

/* Header and section are known only now. */
static void side_write(struct side_file *f)
{
    struct park_header h = {
        .magic = PARK_MAGIC, .version = PARK_VERSION, .body_bytes = f->fill_bytes - sizeof(h)};
    f->head.plogs_bytes = h.body_bytes - sizeof(f->head);
    f->head.crc = f->entries_crc;
    memcpy(f->buf + sizeof(h), &f->head, sizeof(f->head));
    h.crc = crc32c_extend(park_header_crc(&h), &f->head, sizeof(f->head));
    memcpy(f->buf, &h, sizeof(h));
    memset(f->buf + f->fill_bytes, 0, f->buf_bytes - f->fill_bytes);
    f->state = SIDE_WRITING;
    f->copy = 0;
    f->written_bytes = 0;
    f->steps[0] = (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = f->temp};
    f->steps[1] = (struct env_name_step){
        .kind = ENV_STEP_CREATE, .path = f->temp, .size_bytes = 2 * f->buf_bytes};
    env_names(f->store->env, &f->op, f->steps, 2, on_created);
}

/* ---- gathering ---- */

static bool is_to_be_parked(const struct side_file *f, const struct plog *p)
{
    return p->dir == f->dir && p->offline && !p->parked && !p->removed;
}

static int side_list(struct side_file *f)
{
    struct log_store *s = f->store;
    f->numbers = calloc(s->plogs.count + 1, sizeof(*f->numbers));
    f->numbers_n = f->numbers_at = 0;
    f->buf_bytes = sizeof(struct park_header) + sizeof(f->head);
    if (f->numbers == NULL)
        return -ENOMEM;
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;) {
        if (!is_to_be_parked(f, p))
            continue;
        f->numbers[f->numbers_n++] = p->number;
        f->buf_bytes += checkpoint_entry(p, NULL);
    }
    f->buf_bytes = block_ceil(f->buf_bytes);
    return posix_memalign((void **)&f->buf, BLOCK_BYTES, f->buf_bytes) == 0 ? 0 : -ENOMEM;
}

/* The section counts as made beside the checkpoint that is the newest now: those up to there, and
 * one that is under way, have these partitions themselves. */
static void side_begin(struct side_file *f)
{
    struct log_store *s = f->store;
    f->dir = (unsigned)__builtin_ctzll(f->wanted);
    park_path(s, s->journal.id, f->dir, f->path);
    snprintf(f->temp, sizeof(f->temp), "%.4090s.new", f->path);
    int rc = side_list(f);
    if (rc != 0) {
        side_end(f, rc);
        return;
    }
    if (f->numbers_n == 0) { /* none of this shard's are there */
        side_end(f, 0);
        return;
    }
    f->head = (struct park_section){.identity = s->journal.identity,
                                    .generation = s->checkpoint.generation,
                                    .checkpoint_seq = s->journal.next_seq};
    f->fill_bytes = sizeof(struct park_header) + sizeof(f->head);
    f->entries_crc = crc32c(NULL, 0);
    f->state = SIDE_GATHERING;
}

static void side_gather(struct side_file *f)
{
    uint64_t begin = f->fill_bytes;
    while (f->numbers_at < f->numbers_n && f->fill_bytes - begin < TURN_BYTES) {
        struct plog *p = map_get(&f->store->plogs, f->numbers[f->numbers_at++]);
        if (p == NULL || p->removed)
            continue;
        uint64_t len = checkpoint_entry(p, NULL);
        ASSERT(len <= f->buf_bytes - f->fill_bytes); /* they do not change any more */
        checkpoint_entry(p, f->buf + f->fill_bytes);
        f->entries_crc = crc32c_extend(f->entries_crc, f->buf + f->fill_bytes, len);
        f->fill_bytes += len;
        f->head.plogs_n++;
    }
    if (f->numbers_at == f->numbers_n)
        side_write(f);
}

void park_run_pump(struct log_store *s)
{
    struct side_file *f = s->side;
    if (f == NULL || park_run_deadline_ns(s) > env_now_ns(s->env))
        return;
    if (f->state == SIDE_IDLE)
        side_begin(f);
    else
        side_gather(f);
}
