#include "core/meta/meta_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/meta/meta_codec.h"
#include "core/meta/meta_log_private.h"

static void log_pump(struct meta_log *log);
static void on_op_done(struct env_op *op);

int meta_log_path(const struct meta_log *log, uint64_t generation, unsigned copy,
                  const char *suffix, char ret[PATH_MAX])
{
    int len = snprintf(ret, PATH_MAX, "%s/" META_LOG_PREFIX "%" PRIu64 ".%c%s", log->dir,
                       generation, 'a' + (int)copy, suffix);
    return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int meta_log_buf_reserve(struct meta_log *log, size_t len)
{
    if (len <= log->buf_cap)
        return 0;
    size_t cap = block_ceil(MAX(len, log->buf_cap * 2));
    uint8_t *buf = aligned_alloc(BLOCK_BYTES, cap);
    if (buf == NULL)
        return -ENOMEM;
    if (log->buf != NULL)
        memcpy(buf, log->buf, log->buf_cap);
    free(log->buf);
    log->buf = buf;
    log->buf_cap = cap;
    return 0;
}

static void generation_close(struct meta_log *log, struct meta_generation *g)
{
    for (unsigned i = 0; i < META_LOG_COPIES; i++)
        if (g->file[i] != NULL)
            env_file_close(log->env, g->file[i]);
    *g = (struct meta_generation){0};
}

void meta_log_free(struct meta_log *log)
{
    generation_close(log, &log->now);
    generation_close(log, &log->next);
    free(log->snapshot);
    free(log->buf);
    free(log);
}

bool meta_log_idle(const struct meta_log *log)
{
    return log->state == META_LOG_IDLE && list_empty(&log->waiting) && list_empty(&log->taken);
}

void meta_log_close(struct meta_log *log)
{
    if (log == NULL)
        return;
    ASSERT(meta_log_idle(log));
    meta_log_free(log);
}

/* ---- finishing ---- */

static void appends_finish(struct list_node *appends, int rc)
{
    struct list_node *node;
    while ((node = list_pop_head(appends)) != NULL) {
        struct meta_append *a = container_of(node, struct meta_append, link);
        free(a->bytes);
        a->bytes = NULL;
        a->on_done(a, rc);
    }
}

static void log_finish(struct meta_log *log)
{
    struct list_node done;
    list_init(&done);
    list_splice_tail(&done, &log->taken);
    log->state = META_LOG_IDLE;
    appends_finish(&done, 0);
    log_pump(log);
}

static void log_steps_submit(struct meta_log *log, enum meta_log_state state, unsigned steps_n)
{
    ASSERT(steps_n <= ARRAY_LEN(log->steps));
    log->state = state;
    env_names(log->env, &log->op, log->steps, steps_n, on_op_done);
}

/* Everything queued fails with rc, from the loop and never from inside an append. */
static void log_refuse(struct meta_log *log, int rc)
{
    ASSERT(rc < 0);
    log->refuse_rc = rc;
    log->steps[0] = (struct env_name_step){.kind = ENV_STEP_STAT, .path = log->dir};
    log_steps_submit(log, META_LOG_REFUSE, 1);
}

static void on_refused(struct meta_log *log, int res)
{
    (void)res; /* it only had to end */
    struct list_node failed;
    list_init(&failed);
    list_splice_tail(&failed, &log->taken);
    list_splice_tail(&failed, &log->waiting);
    log->state = META_LOG_IDLE;
    appends_finish(&failed, log->refuse_rc);
    log_pump(log);
}

static void log_fail(struct meta_log *log)
{
    log->rc = -EIO;
    log_refuse(log, -EIO);
}

/* ---- records: to copy a, and only when that is durable to copy b ---- */

static void log_write(struct meta_log *log, enum meta_log_state state)
{
    unsigned copy = state == META_LOG_WRITE_A ? 0 : 1;
    log->state = state;
    env_write(log->env, &log->op, log->now.file[copy], log->buf, log->write_len,
              block_floor(log->now.end_bytes), ENV_DSYNC, on_op_done);
}

static void records_start(struct meta_log *log, size_t frames_bytes)
{
    size_t at = log->now.end_bytes % BLOCK_BYTES, end = at + frames_bytes;
    if (meta_log_buf_reserve(log, block_ceil(end)) != 0) {
        log_refuse(log, -ENOMEM);
        return;
    }
    uint32_t crc = log->now.crc;
    uint64_t sequence = log->now.sequence;
    list_splice_tail(&log->taken, &log->waiting);
    list_for_each(node, &log->taken) {
        struct meta_append *a = container_of(node, struct meta_append, link);
        crc = meta_frame_seal(a->bytes, META_FRAME_RECORD, a->len_bytes, crc, ++sequence);
        memcpy(log->buf + at, a->bytes, meta_frame_size(a->len_bytes));
        at += meta_frame_size(a->len_bytes);
    }
    ASSERT(at == end);
    log->write_len = block_ceil(end);
    memset(log->buf + end, 0, log->write_len - end);
    log->written_end_bytes = log->now.end_bytes + frames_bytes;
    log->written_sequence = sequence;
    log->written_crc = crc;
    log_write(log, META_LOG_WRITE_A);
}

static void on_written_a(struct meta_log *log, int res)
{
    if (res != (int)log->write_len)
        log_fail(log);
    else
        log_write(log, META_LOG_WRITE_B);
}

static void on_written_b(struct meta_log *log, int res)
{
    if (res != (int)log->write_len) {
        log_fail(log);
        return;
    }
    uint64_t block = block_floor(log->written_end_bytes);
    if (block < log->written_end_bytes) /* else there is no part-filled block */
        memmove(log->buf, log->buf + (block - block_floor(log->now.end_bytes)), BLOCK_BYTES);
    log->now.end_bytes = log->written_end_bytes;
    log->now.sequence = log->written_sequence;
    log->now.crc = log->written_crc;
    log_finish(log);
}

/* ---- the next generation ---- */

/* Header and snapshot in memory, and log->next set up but for its files. */
static int snapshot_prepare(struct meta_log *log, const struct meta_image *image)
{
    uint64_t used = BLOCK_BYTES + meta_snapshot_size(image);
    uint64_t unit = log->size_min_bytes; /* room for as much again: then it is time for the next */
    struct meta_generation next = {.number = log->now.number + 1, .end_bytes = used};
    next.size_bytes = (used * 2 + unit - 1) / unit * unit;
    if (next.size_bytes > META_LOG_SIZE_MAX)
        return -EFBIG;
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        int rc = meta_log_path(log, next.number, i, "", log->next_name[i]);
        if (rc == 0)
            rc = meta_log_path(log, next.number, i, ".new", log->new_name[i]);
        if (rc != 0)
            return rc;
    }
    uint8_t *bytes = aligned_alloc(BLOCK_BYTES, block_ceil(used));
    if (bytes == NULL)
        return -ENOMEM;
    struct meta_header header = {
        .generation = next.number, .size_bytes = next.size_bytes, .id = env_random(log->env)};
    next.crc = meta_header_encode(&header, bytes);
    meta_snapshot_encode(image, bytes + BLOCK_BYTES, &next.sequence, &next.crc);
    log->snapshot_len = block_ceil(used);
    memset(bytes + used, 0, log->snapshot_len - used);
    log->snapshot = bytes;
    log->next = next;
    return 0;
}

static void switch_start(struct meta_log *log, const struct meta_image *image)
{
    list_splice_tail(&log->taken, &log->waiting);
    int rc = snapshot_prepare(log, image);
    if (rc != 0) {
        log_refuse(log, rc);
        return;
    }
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        log->steps[i] = (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = log->new_name[i]};
        log->steps[2 + i] = (struct env_name_step){.kind = ENV_STEP_PREWRITE,
                                                   .path = log->new_name[i],
                                                   .size_bytes = log->next.size_bytes};
    }
    log_steps_submit(log, META_LOG_MAKE, 4);
}

/* Before anything has its name: the present generation is untouched. */
static void switch_abandon(struct meta_log *log, int rc)
{
    free(log->snapshot);
    log->snapshot = NULL;
    generation_close(log, &log->next);
    if (rc != -ENOSPC && rc != -EDQUOT && rc != -ENOMEM) {
        log_fail(log);
        return;
    }
    log->refuse_rc = rc;
    for (unsigned i = 0; i < META_LOG_COPIES; i++)
        log->steps[i] = (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = log->new_name[i]};
    log_steps_submit(log, META_LOG_DROP, META_LOG_COPIES);
}

static void on_dropped(struct meta_log *log, int res)
{
    (void)res; /* what is left over is removed by the next try or the next open */
    on_refused(log, 0);
}

static void log_fill(struct meta_log *log, enum meta_log_state state)
{
    unsigned copy = state == META_LOG_FILL_A ? 0 : 1;
    log->state = state;
    env_write(log->env, &log->op, log->next.file[copy], log->snapshot, log->snapshot_len, 0,
              ENV_DSYNC, on_op_done);
}

static void on_made(struct meta_log *log, int res)
{
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        bool made = res == 0 || log->op.failed_step > 2 + i;
        log->next.file[i] = made ? log->steps[2 + i].ret_file : NULL;
    }
    if (res != 0)
        switch_abandon(log, res);
    else
        log_fill(log, META_LOG_FILL_A);
}

static void on_filled_a(struct meta_log *log, int res)
{
    if (res != (int)log->snapshot_len)
        switch_abandon(log, res < 0 ? res : -EIO);
    else
        log_fill(log, META_LOG_FILL_B);
}

/* A name without ".new" is only ever given to a complete and flushed file; the old generation goes
 * when the new names are durable, and nothing is appended before its removal is. */
static void on_filled_b(struct meta_log *log, int res)
{
    if (res != (int)log->snapshot_len) {
        switch_abandon(log, res < 0 ? res : -EIO);
        return;
    }
    struct env_name_step *step = log->steps;
    for (unsigned i = 0; i < META_LOG_COPIES; i++)
        *step++ = (struct env_name_step){
            .kind = ENV_STEP_RENAME, .path = log->new_name[i], .path2 = log->next_name[i]};
    *step++ = (struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = log->dir};
    if (log->now.number > 0) {
        for (unsigned i = 0; i < META_LOG_COPIES; i++)
            *step++ = (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = log->name[i]};
        *step++ = (struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = log->dir};
    }
    log_steps_submit(log, META_LOG_TAKE_OVER, (unsigned)(step - log->steps));
}

static void on_taken_over(struct meta_log *log, int res)
{
    size_t block = block_floor(log->next.end_bytes);
    if (res == 0)
        res = meta_log_buf_reserve(log, BLOCK_BYTES);
    if (res == 0 && block < log->next.end_bytes)
        memcpy(log->buf, log->snapshot + block, BLOCK_BYTES);
    free(log->snapshot);
    log->snapshot = NULL;
    if (res != 0) {
        log_fail(log);
        return;
    }
    generation_close(log, &log->now);
    log->now = log->next;
    log->next = (struct meta_generation){0};
    memcpy(log->name, log->next_name, sizeof(log->name));
    log_finish(log);
}

int meta_log_switch_wait(struct meta_log *log, const struct meta_image *image)
{
    ASSERT(log->state == META_LOG_IDLE && list_empty(&log->waiting));
    uint64_t before = log->now.number;
    log->refuse_rc = 0;
    switch_start(log, image);
    while (log->state != META_LOG_IDLE)
        env_turn(log->env, UINT64_MAX);
    return log->now.number > before ? 0 : log->refuse_rc;
}

/* ---- the loop ---- */

typedef void (*log_done_fn)(struct meta_log *, int res);
static const log_done_fn on_done_of[] = {
    [META_LOG_WRITE_A] = on_written_a, [META_LOG_WRITE_B] = on_written_b,
    [META_LOG_MAKE] = on_made,         [META_LOG_FILL_A] = on_filled_a,
    [META_LOG_FILL_B] = on_filled_b,   [META_LOG_TAKE_OVER] = on_taken_over,
    [META_LOG_DROP] = on_dropped,      [META_LOG_REFUSE] = on_refused,
};
_Static_assert(ARRAY_LEN(on_done_of) == META_LOG_STATES, "every busy state has its completion");

static void on_op_done(struct env_op *op)
{
    struct meta_log *log = container_of(op, struct meta_log, op);
    ASSERT(log->state != META_LOG_IDLE);
    on_done_of[log->state](log, op->res);
}

/* The only place that starts work for appends. */
static void log_pump(struct meta_log *log)
{
    size_t frames_bytes = 0;
    bool encoded = true;
    const struct meta_image *image = NULL;
    if (log->state != META_LOG_IDLE || list_empty(&log->waiting))
        return;
    if (log->rc != 0) {
        log_refuse(log, log->rc);
        return;
    }
    list_for_each(node, &log->waiting) {
        const struct meta_append *a = container_of(node, struct meta_append, link);
        frames_bytes += meta_frame_size(a->len_bytes);
        encoded &= a->bytes != NULL;
        image = a->image; /* that of the last: the state after all of them */
    }
    if (encoded && frames_bytes <= log->now.size_bytes - log->now.end_bytes)
        records_start(log, frames_bytes);
    else
        switch_start(log, image);
}

void meta_log_append(struct meta_log *log, struct meta_append *a, const struct meta_record *r,
                     const struct meta_image *image, meta_append_fn on_done)
{
    size_t len = meta_record_size(r);
    ASSERT(len <= UINT32_MAX);
    a->on_done = on_done;
    a->image = image;
    a->len_bytes = (uint32_t)len;
    a->bytes = malloc(meta_frame_size(len)); /* NULL: the next snapshot has to hold it */
    if (a->bytes != NULL)
        meta_record_encode(r, a->bytes + META_FRAME_BYTES);
    list_push_tail(&log->waiting, &a->link);
    log_pump(log);
}

struct append_wait {
    struct meta_append append;
    bool done;
    int rc;
};

static void on_append_wait_done(struct meta_append *a, int rc)
{
    struct append_wait *wait = container_of(a, struct append_wait, append);
    wait->done = true;
    wait->rc = rc;
}

int meta_log_append_wait(struct meta_log *log, const struct meta_record *r,
                         const struct meta_image *image)
{
    struct append_wait wait = {.done = false};
    meta_log_append(log, &wait.append, r, image, on_append_wait_done);
    while (!wait.done)
        env_turn(log->env, UINT64_MAX);
    return wait.rc;
}
