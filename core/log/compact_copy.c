/* compact_copy.c: reads sealed segments batch by batch for compaction, a bounded piece a turn: for
 * the last offset of each key, and then to write what is left of a group of them into a file.
 * Batches that are large, or packed, are a helper's work (ENV_STEP_RUN), one at a time: it has the
 * map, the input and the output to itself until the operation ends.
 * Batches keep their base and last offsets. A batch of which nothing is left, and that is not the
 * last one of its producer, is a gap; gaps that follow each other become one empty batch, so that
 * the batches of a segment still follow each other without a hole, as every reader asks of them.
 * Failure: what does not verify makes the segment suspect, and the partition is left as it is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"
#include "core/log/compact.h"

#define NS_PER_S UINT64_C(1000000000)
#define READ_BYTES (256u * 1024u)
#define WRITE_BYTES (256u * 1024u)
#define RECORDS_A_STEP 64u
#define LARGE_BYTES (64u * 1024u)

/* ---- input ---- */

static void pace(struct compactor *c, uint64_t bytes)
{
    uint64_t rate = c->s->config.compact_bytes_per_second;
    if (rate > 0)
        c->next_ns = env_now_ns(c->s->env) + bytes * NS_PER_S / rate;
}

static void on_input_read(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    c->in.buf_end = c->in.buf_pos;
    if (op->res > 0)
        c->in.buf_end = MIN(c->in.buf_pos + (uint64_t)op->res, c->reading->end_pos);
    if (op->res < 0 || c->in.buf_end <= c->in.pos)
        compact_end(c, false);
}

/* So that the bytes from pos on are there, as many. */
static int input_read(struct compactor *c, uint64_t want)
{
    struct compact_input *in = &c->in;
    uint64_t from = block_floor(in->pos), bytes = block_ceil(in->pos + want) - from;
    bytes = MIN(MAX(bytes, (uint64_t)READ_BYTES), block_ceil(c->reading->end_pos) - from);
    if (in->pos + want > c->reading->end_pos)
        return -EBADMSG;
    if (bytes > in->buf_bytes) {
        free(in->buf);
        in->buf_bytes = 0;
        if (posix_memalign((void **)&in->buf, BLOCK_BYTES, bytes) != 0) {
            in->buf = NULL;
            return -ENOMEM;
        }
        in->buf_bytes = bytes;
    }
    in->buf_pos = from;
    c->busy = true;
    c->op = (struct env_op){.background = true};
    pace(c, bytes);
    env_read(c->s->env, &c->op, in->file, in->buf, bytes, from, on_input_read);
    return 0;
}

static void on_input_opened(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    c->in.file = c->steps[0].ret_file;
    if (op->res < 0)
        compact_end(c, false);
}

int compact_input_open(struct compactor *c, struct segment *seg)
{
    c->in.pos = c->in.buf_pos = c->in.buf_end = 0;
    c->in.offset = seg->base_offset;
    c->reading = seg;
    seg->holds++;
    c->steps_n = 0;
    compact_step(c, ENV_STEP_OPEN, compact_path(c, seg, ".log"));
    compact_names(c, on_input_opened);
    return 0;
}

void compact_input_close(struct compactor *c)
{
    if (c->in.file != NULL)
        env_file_close(c->s->env, c->in.file);
    c->in.file = NULL;
    if (c->reading != NULL)
        c->reading->holds--;
    c->reading = NULL;
}

/* Too much for a turn, or nobody knows how much it is. */
static bool is_for_helper(const struct batch_header *h)
{
    return !batch_is_control(h->attributes) &&
           (h->len_bytes >= LARGE_BYTES || batch_codec_of(h->attributes) != BATCH_NONE);
}

/* The batch at pos is whole and verified at *ret, its checksum only where no helper is to look at
 * it: 1; 0: it is being read. */
static int input_batch(struct compactor *c, const uint8_t **ret)
{
    struct compact_input *in = &c->in;
    struct verify_place place = seg_place(c->reading);
    struct batch_header h = {0};
    place.offset = in->offset;
    bool known = in->pos >= in->buf_pos && in->pos < in->buf_end;
    uint64_t have = known ? in->buf_end - in->pos : 0;
    const uint8_t *data = known ? in->buf + (in->pos - in->buf_pos) : NULL;
    int rc = have < BATCH_HEADER_BYTES ? -EAGAIN : verify_header(&place, data, have, &h);
    if (rc == -EAGAIN)
        return input_read(c, BATCH_HEADER_BYTES);
    if (rc == 0 && h.len_bytes > have)
        return input_read(c, h.len_bytes);
    if (rc == 0 && !is_for_helper(&h))
        rc = verify_batch(&place, data, have, &h);
    c->batch = h;
    *ret = data;
    return rc == 0 ? 1 : rc;
}

static void helper_run(struct compactor *c, const uint8_t *data, int (*run)(void *arg),
                       env_done_fn on_done)
{
    c->batch_data = data;
    compact_run(c, run, on_done);
}

static void input_pass(struct compactor *c)
{
    c->in.pos += c->batch.len_bytes;
    c->in.offset = batch_last_offset(&c->batch) + 1;
}

static int damaged(struct compactor *c, int rc)
{
    if (rc == -EBADMSG)
        c->reading->suspect = true; /* who reads it next finds out what is lost */
    return rc;
}

/* Bytes with the right checksum that make no sense are as they were sent. */
static int not_damage(int rc)
{
    return rc == -EBADMSG ? -EPROTO : rc;
}

/* ---- keys ---- */

/* On a helper: all keys of the batch. */
static int map_run(void *arg)
{
    struct compactor *c = arg;
    struct batch_record r;
    if (!batch_crc_ok(c->batch_data, &c->batch))
        return -EBADMSG;
    int rc = batch_iter_open(&c->iter, c->batch_data, c->batch.len_bytes);
    while (rc >= 0 && (rc = batch_iter_next(c->iter, &r)) > 0)
        if (r.key_len >= 0)
            key_map_put(&c->map, r.key, (size_t)r.key_len, r.offset);
    batch_iter_close(c->iter);
    c->iter = NULL;
    return not_damage(rc);
}

static void map_batch_end(struct compactor *c)
{
    input_pass(c);
    c->mapped_to = c->in.offset;
}

static void on_map_run(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    if (op->res == 0)
        map_batch_end(c);
    else if (damaged(c, op->res) < 0)
        compact_end(c, false);
}

static int map_batch_begin(struct compactor *c)
{
    const uint8_t *data = NULL;
    if (c->in.pos >= c->reading->end_pos)
        return COMPACT_DONE;
    int rc = input_batch(c, &data);
    if (rc <= 0)
        return rc < 0 ? damaged(c, rc) : 0;
    if (key_map_room(&c->map) < (size_t)c->batch.record_count) {
        c->clean_to = c->batch.base_offset; /* the rest another time */
        return COMPACT_DONE;
    }
    if (batch_is_control(c->batch.attributes)) {
        input_pass(c);
        return 1;
    }
    if (is_for_helper(&c->batch)) {
        helper_run(c, data, map_run, on_map_run);
        return 0;
    }
    rc = batch_iter_open(&c->iter, data, c->batch.len_bytes);
    return rc < 0 ? rc : 1;
}

int compact_map_step(struct compactor *c, uint64_t *budget)
{
    struct batch_record r;
    if (c->iter == NULL) {
        *budget -= MIN(*budget, (uint64_t)BATCH_HEADER_BYTES);
        int rc = map_batch_begin(c);
        if (rc == 1)
            *budget -= MIN(*budget, (uint64_t)c->batch.len_bytes / 4);
        return rc;
    }
    int rc = 1;
    for (unsigned i = 0; i < RECORDS_A_STEP && (rc = batch_iter_next(c->iter, &r)) > 0; i++) {
        if (r.key_len >= 0)
            key_map_put(&c->map, r.key, (size_t)r.key_len, r.offset);
        *budget -=
            MIN(*budget, (uint64_t)MAX(r.key_len, 0) + 64 + (uint64_t)MAX(r.value_len, 0) / 8);
    }
    if (rc > 0)
        return 1;
    batch_iter_close(c->iter);
    c->iter = NULL;
    if (rc < 0)
        return rc;
    map_batch_end(c);
    return 1;
}

/* ---- output ---- */

static void on_output_written(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    struct compact_output *o = &c->out;
    uint64_t done = op->len_bytes;
    c->busy = false;
    if (op->res < 0) {
        compact_end(c, false);
        return;
    }
    o->written_pos += done;
    o->fill -= MIN(done, o->fill);
    memmove(o->buf, o->buf + done, o->fill);
}

/* Whole blocks; at the end the last one, filled up. */
static void output_write(struct compactor *c, bool last)
{
    struct compact_output *o = &c->out;
    uint64_t bytes = last ? block_ceil(o->fill) : block_floor(o->fill);
    if (last)
        memset(o->buf + o->fill, 0, bytes - o->fill);
    c->busy = true;
    c->op = (struct env_op){0};
    pace(c, bytes);
    env_write(c->s->env, &c->op, o->file, o->buf, bytes, o->written_pos, 0, on_output_written);
}

static int output_add(struct compactor *c, const uint8_t *data, size_t len)
{
    struct compact_output *o = &c->out;
    struct batch_header h;
    uint64_t need = block_ceil(o->fill + len) + BLOCK_BYTES;
    if (o->seg->end_pos + len > o->file_bytes)
        return -ENOSPC;
    if (need > o->buf_bytes) {
        uint8_t *more;
        if (posix_memalign((void **)&more, BLOCK_BYTES, need) != 0)
            return -ENOMEM;
        if (o->fill > 0)
            memcpy(more, o->buf, o->fill);
        free(o->buf);
        o->buf = more;
        o->buf_bytes = need;
    }
    memcpy(o->buf + o->fill, data, len);
    if (batch_peek(data, len, &h) != 0)
        return -EBADMSG;
    seg_index_add(&o->seg->index, o->seg, o->seg->end_pos, &h);
    o->fill += len;
    o->seg->end_pos += len;
    return 0;
}

static int gap_flush(struct compactor *c)
{
    uint8_t empty[BATCH_HEADER_BYTES];
    struct batch_header *gap = &c->out.gap;
    if (gap->last_offset_delta < 0)
        return 0;
    int rc = batch_make_empty(gap, empty);
    gap->last_offset_delta = -1;
    return rc != 0 ? rc : output_add(c, empty, sizeof(empty));
}

/* Nothing is left of this batch. */
static int gap_add(struct compactor *c)
{
    struct batch_header *gap = &c->out.gap;
    const struct batch_header *b = &c->batch;
    int64_t delta = batch_last_offset(b) - gap->base_offset;
    if (gap->last_offset_delta >= 0 && gap->leader_epoch == b->leader_epoch && delta < INT32_MAX) {
        gap->last_offset_delta = (int32_t)delta;
        return 0;
    }
    int rc = gap_flush(c);
    *gap = (struct batch_header){.base_offset = b->base_offset,
                                 .leader_epoch = b->leader_epoch,
                                 .last_offset_delta = b->last_offset_delta,
                                 .max_timestamp = -1,
                                 .producer_id = -1,
                                 .producer_epoch = -1,
                                 .base_sequence = -1};
    return rc;
}

/* Its producer goes on behind this batch: it stays, if only as a header. */
static bool is_last_of_producer(const struct compactor *c)
{
    const struct batch_header *b = &c->batch;
    const struct producer *known =
        b->producer_id < 0 ? NULL : map_get(&c->p->producers, (uint64_t)b->producer_id);
    return known != NULL && known->batches_n > 0 &&
           known->batches[known->batches_n - 1].last_offset == batch_last_offset(b);
}

static int output_empty(struct compactor *c)
{
    uint8_t empty[BATCH_HEADER_BYTES];
    c->out.changed |= c->batch.record_count > 0;
    if (!is_last_of_producer(c))
        return gap_add(c);
    int rc = gap_flush(c);
    if (rc == 0)
        rc = batch_make_empty(&c->batch, empty);
    return rc != 0 ? rc : output_add(c, empty, sizeof(empty));
}

/* ---- what stays ---- */

static bool keep_record(void *arg, const struct batch_record *r)
{
    const struct compactor *c = arg;
    if (r->offset >= c->clean_to)
        return true;
    if (r->key_len < 0)
        return false;
    if (key_map_get(&c->map, r->key, (size_t)r->key_len) > r->offset)
        return false;
    bool expires = c->batch.attributes & BATCH_DELETE_HORIZON;
    return r->value_len >= 0 || !expires || c->now_ms < c->batch.base_timestamp;
}

static int filter_begin(struct compactor *c, const uint8_t *data)
{
    c->filtering = true;
    return batch_filter_begin(&c->filter, data, &c->batch, c->horizon_ms);
}

/* What is left of the batch; 1: nothing. */
static int filter_finish(struct compactor *c)
{
    const uint8_t *data;
    size_t len;
    int rc = batch_filter_finish(&c->filter, &data, &len);
    if (rc == 0 && len > 0) {
        c->out.changed |= data != c->filter.batch;
        rc = gap_flush(c);
        if (rc == 0)
            rc = output_add(c, data, len);
    }
    batch_filter_end(&c->filter);
    c->filtering = false;
    return rc == 0 && len == 0 ? 1 : rc;
}

static int batch_end(struct compactor *c, bool empty)
{
    int rc = empty ? output_empty(c) : 0;
    input_pass(c);
    return rc < 0 ? rc : 1;
}

static int batch_done(struct compactor *c, uint64_t *budget)
{
    *budget -= MIN(*budget, (uint64_t)c->batch.len_bytes / 2);
    int rc = filter_finish(c);
    return rc < 0 ? rc : batch_end(c, rc == 1);
}

/* On a helper: the whole batch. */
static int copy_run(void *arg)
{
    struct compactor *c = arg;
    c->left_empty = false;
    if (!batch_crc_ok(c->batch_data, &c->batch))
        return -EBADMSG;
    int rc = filter_begin(c, c->batch_data);
    if (rc == 0)
        rc = 1;
    while (rc > 0)
        rc = batch_filter_step(&c->filter, UINT32_MAX, keep_record, c);
    if (rc == 0)
        rc = filter_finish(c);
    c->left_empty = rc == 1;
    return not_damage(MIN(rc, 0));
}

static void on_copy_run(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    int rc = op->res < 0 ? damaged(c, op->res) : batch_end(c, c->left_empty);
    if (rc < 0)
        compact_end(c, false);
}

static int batch_begin(struct compactor *c, const uint8_t *data)
{
    if (batch_is_control(c->batch.attributes)) {
        int rc = gap_flush(c);
        if (rc == 0)
            rc = output_add(c, data, c->batch.len_bytes);
        input_pass(c);
        return rc < 0 ? rc : 1;
    }
    if (is_for_helper(&c->batch)) {
        helper_run(c, data, copy_run, on_copy_run);
        return 0;
    }
    int rc = filter_begin(c, data);
    return rc < 0 ? rc : 1;
}

/* ---- a group of segments ---- */

static int group_next(struct compactor *c)
{
    compact_input_close(c);
    if (++c->group_at < c->group_n)
        return compact_input_open(c, c->group[c->group_at]);
    return gap_flush(c) < 0 ? -EIO : COMPACT_DONE;
}

int compact_copy_step(struct compactor *c, uint64_t *budget)
{
    const uint8_t *data;
    if (c->out.fill >= WRITE_BYTES) {
        output_write(c, false);
        return 0;
    }
    if (c->filtering) {
        *budget -= MIN(*budget, (uint64_t)RECORDS_A_STEP * 96);
        int rc = batch_filter_step(&c->filter, RECORDS_A_STEP, keep_record, c);
        return rc != 0 ? rc : batch_done(c, budget);
    }
    if (c->reading == NULL) { /* all has been read */
        if (c->out.fill == 0)
            return COMPACT_DONE;
        output_write(c, true);
        return 0;
    }
    if (c->in.pos >= c->reading->end_pos) {
        int rc = group_next(c);
        return rc == COMPACT_DONE ? 1 : rc;
    }
    int rc = input_batch(c, &data);
    if (rc <= 0)
        return rc < 0 ? damaged(c, rc) : 0;
    *budget -= MIN(*budget, (uint64_t)c->batch.len_bytes / 4 + 64);
    return batch_begin(c, data);
}

static void on_output_opened(struct env_op *op)
{
    struct compactor *c = container_of(op, struct compactor, op);
    c->busy = false;
    c->out.file = c->steps[1].ret_file;
    if (op->res < 0)
        compact_end(c, false);
}

/* The file of the group, as long as its segments together: what is left is hardly ever longer. */
int compact_output_open(struct compactor *c)
{
    struct compact_output *o = &c->out;
    const struct segment *first = c->group[0], *last = c->group[c->group_n - 1];
    uint64_t bytes = 0;
    uint32_t generation = 0;
    for (unsigned i = 0; i < c->group_n; i++) {
        bytes += c->group[i]->end_pos;
        generation = MAX(generation, c->group[i]->generation);
    }
    *o = (struct compact_output){.buf = o->buf, /* of the group before */
                                 .buf_bytes = o->buf_bytes,
                                 .gap = {.last_offset_delta = -1},
                                 .changed = c->group_n > 1,
                                 .file_bytes = block_ceil(bytes + BLOCK_BYTES)};
    o->seg = segment_alloc(c->p, first->base_offset);
    if (o->seg == NULL)
        return -ENOMEM;
    o->seg->end_offset = last->end_offset;
    o->seg->generation = generation + 1;
    o->seg->first_timestamp = first->first_timestamp;
    c->steps_n = 0;
    cleaned_path(o->seg, c->paths[0], PATH_MAX);
    compact_step(c, ENV_STEP_UNLINK, c->paths[0]);
    compact_step(c, ENV_STEP_CREATE, c->paths[0])->size_bytes = o->file_bytes;
    compact_names(c, on_output_opened);
    return 0;
}

/* But for its buffer, which the next group can use. */
void compact_output_discard(struct compactor *c)
{
    struct compact_output *o = &c->out;
    if (o->file != NULL)
        env_file_close(c->s->env, o->file);
    if (o->seg != NULL)
        segment_destroy(o->seg);
    *o = (struct compact_output){.buf = o->buf, .buf_bytes = o->buf_bytes};
}
