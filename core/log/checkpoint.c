/* checkpoint.c: what replay needs to know about each partition so that journal space can be reused.
 * Two files written in turn, numbered by generation, each holding it twice with a checksum: one
 * damaged place never costs a generation. Space is freed only behind a complete, flushed one.
 *
 * For every partition: log start, stable end, leader epochs, producers, and its segments. Of those
 * that are not sealed: how far the file is valid, and the image of the bytes behind that which the
 * journal need not hold any more (at least the last part-filled block, so idle partitions pin
 * nothing and no torn rewrite of a block can lose bytes). Of sealed ones: the length, and the
 * checksums of the index files, which in Kafka's format have none. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/log/internal.h"

#define RETRY_NS 1000000000ull
#define WRITE_BYTES_MAX (8ull << 20)

struct out { /* counts only while buf == NULL */
    uint8_t *buf;
    uint64_t len;
    bool parcel; /* of one partition that leaves: all that is not in its files */
};

static void put(struct out *o, const void *data, uint64_t len)
{
    if (o->buf != NULL)
        memcpy(o->buf + o->len, data, len);
    o->len += len;
}

static void put_producers(struct out *o, const struct plog *p)
{
    struct producer *known;
    for (size_t it = 0; (known = map_next(&p->producers, &it)) != NULL;) {
        struct producer_entry e = {
            .id = known->id, .last_ms = known->last_ms, .epoch = known->epoch};
        for (unsigned i = 0; i < known->batches_n; i++) /* what is not stable may vanish */
            if (known->batches[i].last_offset < p->stable_offset)
                e.batches[e.batches_n++] = known->batches[i];
        put(o, &e, sizeof(e));
    }
}

/* Its bytes have no way into a segment file for now. They are in the checkpoint instead, so that
 * they do not keep the journal from the others. */
static bool plog_is_parked(const struct plog *p)
{
    return p->fenced != 0 || p->failed_space;
}

static uint64_t image_end(const struct segment *seg, bool full)
{
    return full || plog_is_parked(seg->plog) ? seg->stable_pos : segment_image_end(seg);
}

static uint64_t image_bytes(const struct segment *seg, bool full)
{
    return image_end(seg, full) - MIN(seg->destaged_pos, image_end(seg, full));
}

/* A sealed one that was never opened since it was found is found again. */
static bool segment_listed(const struct out *o, const struct segment *seg)
{
    if (o->parcel && seg->state == SEGMENT_SEALED) /* nobody looks for it then */
        return true;
    return seg->stable_pos > 0 && (seg->state != SEGMENT_SEALED || seg->size_known);
}

static enum segment_entry_state entry_state(const struct segment *seg, bool whole)
{
    if (seg->state == SEGMENT_SEALED)
        return SEGMENT_ENTRY_SEALED;
    return whole && seg->state == SEGMENT_SEALING ? SEGMENT_ENTRY_SEALING : SEGMENT_ENTRY_OPEN;
}

static void put_segment(struct out *o, struct segment *seg, bool full)
{
    bool whole = seg->stable_pos == seg->end_pos;
    int64_t last = -1;
    if (seg->state == SEGMENT_SEALED && !segment_last_timestamp(seg, &last))
        last = -1;
    struct segment_entry e = {
        .base_offset = seg->base_offset,
        .end_offset = whole ? seg->end_offset : seg->plog->stable_offset,
        .first_timestamp = seg->first_timestamp,
        .last_timestamp = last,
        .stable_pos = seg->stable_pos,
        .destaged_pos = seg->destaged_pos,
        .image_bytes = seg->state == SEGMENT_SEALED ? 0 : image_bytes(seg, full),
        .on_disk = (uint8_t)(seg->on_disk + SEGMENT_ENTRY_SENT * (o->parcel && seg->was_source)),
        .index_crc = {seg->index_crc[0], seg->index_crc[1]},
        .state = entry_state(seg, whole),
        .index_known = seg->index_crc_known,
        .swap = seg->swap_pending,
        .generation = seg->generation,
    };
    put(o, &e, sizeof(e));
    if (!o->parcel)
        seg->captured_pos = image_end(seg, full);
    if (o->buf != NULL && e.image_bytes > 0) {
        for (uint64_t done = 0; done < e.image_bytes;) { /* seg_peek takes 32-bit lengths */
            uint32_t piece = (uint32_t)MIN(e.image_bytes - done, (uint64_t)CHUNK_BYTES_MAX);
            bool copied = seg_peek(seg, seg->destaged_pos + done, o->buf + o->len + done, piece);
            ASSERT(copied);
            done += piece;
        }
    }
    o->len += e.image_bytes;
}

static uint32_t put_plog(struct out *o, const struct plog *p, bool full)
{
    struct plog_entry e = {
        .number = p->number,
        .log_start = p->log_start,
        .clean_offset = p->clean_offset,
        .stable_offset = p->stable_offset,
        .epochs_n = p->epochs_n,
        .producers_n = (uint32_t)p->producers.count,
        .dir_ready = p->dir_ready,
        .segment_class = (uint8_t)p->segment_class,
        .fenced = p->fenced != 0,
    };
    list_for_each(it, &p->segments)
        e.segments_n += segment_listed(o, container_of(it, struct segment, link));
    put(o, &e, sizeof(e));
    for (uint32_t i = 0; i < p->epochs_n; i++) {
        int64_t pair[2] = {p->epochs[i].epoch, p->epochs[i].start_offset};
        put(o, pair, sizeof(pair));
    }
    put_producers(o, p);
    list_for_each(it, &p->segments) {
        struct segment *seg = container_of(it, struct segment, link);
        if (!o->parcel)
            seg->captured_sealed = seg->state == SEGMENT_SEALED;
        if (segment_listed(o, seg))
            put_segment(o, seg, full);
    }
    return 1;
}

/* One that leaves is still here until its parcel is durable. */
static bool plog_counts(const struct plog *p)
{
    return p->on_removed == NULL && !p->excluded;
}

/* A partition's entry that needs nothing of the journal; its length. buf NULL: only that. */
uint64_t checkpoint_entry(const struct plog *p, uint8_t *buf)
{
    struct out o = {.buf = buf};
    put_plog(&o, p, true);
    return o.len;
}

static uint32_t put_plogs(struct out *o, struct log_store *s, bool full)
{
    uint32_t n = 0;
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        if (plog_counts(p) && !p->parked)
            n += put_plog(o, p, full);
    return n;
}

/* From where replay must read, if this checkpoint counts. */
static uint64_t needed_tail(struct log_store *s, uint64_t durable_pos)
{
    uint64_t tail = durable_pos;
    struct plog *p; /* a pin may be older than needed: see segment_pin */
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;) {
        if (!plog_counts(p) || plog_is_parked(p))
            continue;
        for (struct segment *seg = plog_first_open(p); seg != NULL;) {
            tail = MIN(tail, segment_pin_of(seg));
            seg = segment_next(seg);
        }
    }
    return MAX(tail, s->journal.tail_pos);
}

/* Serialises the present state into c->buf. full: images reach to the stable end, so that nothing
 * of the journal is needed. */
static int checkpoint_capture(struct log_store *s, bool full)
{
    struct checkpointer *c = &s->checkpoint;
    struct journal *j = &s->journal;
    struct checkpoint_header h = {
        .magic = CHECKPOINT_MAGIC,
        .version = CHECKPOINT_VERSION,
        .generation = c->generation + 1,
        .identity = j->identity,
        .incarnation = j->incarnation,
        .durable_pos = j->head_pos,
        .durable_next_seq = j->next_seq,
        .durable_crc = j->last_crc,
        .closed = s->closing,
    };
    if (j->groups_n > 0) {
        const struct group *oldest = &j->groups[j->first_group];
        h.durable_pos = oldest->virtual_pos;
        h.durable_next_seq = oldest->seq;
        h.durable_crc = oldest->prev_crc;
    }
    c->full = full;
    h.tail_pos = full ? h.durable_pos : needed_tail(s, h.durable_pos);
    struct out count = {0};
    put_plogs(&count, s, full);
    c->buf_bytes = block_ceil(sizeof(h) + count.len);
    if (posix_memalign((void **)&c->buf, BLOCK_BYTES, c->buf_bytes) != 0)
        return -ENOMEM;
    memset(c->buf + c->buf_bytes - BLOCK_BYTES, 0, BLOCK_BYTES);
    struct out body = {c->buf, sizeof(h)};
    h.plogs_n = put_plogs(&body, s, full);
    h.body_bytes = count.len;
    ASSERT(body.len == sizeof(h) + count.len);
    memcpy(c->buf, &h, sizeof(h));
    h.crc = checkpoint_crc(c->buf, &h);
    memcpy(c->buf, &h, sizeof(h));
    c->tail_pos = h.tail_pos;
    c->durable_next_seq = h.durable_next_seq;
    moves_captured(s);
    return 0;
}

/* The state of one partition by itself, as a file with two copies of a checkpoint that has only
 * that. NULL: no memory. */
uint8_t *parcel_encode(struct plog *p, uint64_t *ret_bytes)
{
    struct checkpoint_header h = {.magic = CHECKPOINT_MAGIC,
                                  .version = CHECKPOINT_VERSION,
                                  .generation = 1,
                                  .identity = p->number,
                                  .plogs_n = 1};
    struct out body = {.parcel = true};
    put_plog(&body, p, true);
    h.body_bytes = body.len;
    uint64_t half = block_ceil(sizeof(h) + body.len);
    uint8_t *buf = calloc(2, half);
    if (buf == NULL)
        return NULL;
    body.buf = buf;
    body.len = sizeof(h);
    put_plog(&body, p, true);
    ASSERT(body.len == sizeof(h) + h.body_bytes);
    memcpy(buf, &h, sizeof(h));
    h.crc = checkpoint_crc(buf, &h);
    memcpy(buf, &h, sizeof(h));
    memcpy(buf + half, buf, half);
    *ret_bytes = 2 * half;
    return buf;
}

/* Each segment's bytes up to here are in the checkpoint that has just become durable. */
static void images_done(struct log_store *s)
{
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        for (struct list_node *at = p->segments.prev; at != &p->segments; at = at->prev) {
            struct segment *seg = container_of(at, struct segment, link);
            seg->checkpointed |= seg->captured_sealed;
            seg->image_pos = MAX(seg->image_pos, seg->captured_pos);
        }
}

static void checkpoint_end(struct log_store *s, int rc)
{
    struct checkpointer *c = &s->checkpoint;
    free(c->buf);
    c->buf = NULL;
    if (c->file != NULL)
        env_file_close(s->env, c->file);
    c->file = NULL;
    c->busy = false;
    if (rc < 0) {
        unsigned which = (c->generation + 1) % 2;
        if (c->rc == 0)
            log_warn("%s: writing a checkpoint failed (%s), the journal's space is not freed yet",
                     c->paths[which], strerror(-rc));
        c->rc = rc;
        c->sizes[which] = 0; /* what it is now is not known: it is made anew */
        s->cycle_after_ns = env_now_ns(s->env) + RETRY_NS;
        moves_checkpointed(s, rc);
        return;
    }
    if (c->rc < 0)
        log_info("%s: written again", c->paths[(c->generation + 1) % 2]);
    c->rc = 0;
    images_done(s);
    if (c->full)
        s->unsettled = false;
    c->generation++;
    counter_add(&s->counters.checkpoints, 1);
    ASSERT(c->tail_pos >= s->journal.tail_pos);
    s->journal.tail_pos = c->tail_pos;
    if (c->durable_next_seq > s->journal.failed_run_seq)
        s->journal.claims_end = UINT64_MAX;
    moves_checkpointed(s, 0);
}

static void on_checkpoint_written(struct env_op *op)
{
    struct checkpointer *c = container_of(op, struct checkpointer, op);
    struct log_store *s = container_of(c, struct log_store, checkpoint);
    checkpoint_end(s, op->res);
}

static void on_checkpoint_data(struct env_op *op);

/* Both copies, in pieces; then, as the file may have grown (fallocated, not yet written), a flush
 * of its own. Until then the other file's generation counts. */
static void checkpoint_write_next(struct log_store *s)
{
    struct checkpointer *c = &s->checkpoint;
    if (c->written_bytes == c->buf_bytes && c->copy == 0) {
        c->copy = 1;
        c->written_bytes = 0;
    }
    uint64_t at = c->written_bytes, len = MIN(c->buf_bytes - at, WRITE_BYTES_MAX);
    uint64_t file_at = at + (c->copy == 0 ? 0 : checkpoint_copy_at(c->file_bytes));
    c->written_bytes += len;
    if (len > 0)
        env_write(s->env, &c->op, c->file, c->buf + at, len, file_at, 0, on_checkpoint_data);
    else
        env_flush(s->env, &c->op, c->file, on_checkpoint_written);
}

static void on_checkpoint_data(struct env_op *op)
{
    struct checkpointer *c = container_of(op, struct checkpointer, op);
    struct log_store *s = container_of(c, struct log_store, checkpoint);
    if (op->res < 0)
        checkpoint_end(s, op->res);
    else
        checkpoint_write_next(s);
}

static void on_checkpoint_opened(struct env_op *op)
{
    struct checkpointer *c = container_of(op, struct checkpointer, op);
    struct log_store *s = container_of(c, struct log_store, checkpoint);
    unsigned which = (c->generation + 1) % 2;
    for (unsigned i = 0; i < op->steps_n; i++)
        if (c->steps[i].ret_file != NULL)
            c->file = c->steps[i].ret_file;
    if (op->res < 0) {
        checkpoint_end(s, op->res);
        return;
    }
    c->file_bytes = c->sizes[which] = MAX(c->sizes[which], 2 * c->buf_bytes);
    c->written_bytes = 0;
    c->copy = 0;
    checkpoint_write_next(s);
}

static void checkpoint_submit(struct log_store *s)
{
    struct checkpointer *c = &s->checkpoint;
    unsigned which = (c->generation + 1) % 2, n = 0;
    memset(c->steps, 0, sizeof(c->steps));
    if (c->sizes[which] == 0) { /* never made: a name of its own, durable before it counts */
        c->steps[n++] = (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = c->paths[which]};
        c->steps[n++] = (struct env_name_step){
            .kind = ENV_STEP_CREATE, .path = c->paths[which], .size_bytes = 2 * c->buf_bytes};
        c->steps[n++] =
            (struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir};
    } else {
        if (c->sizes[which] < 2 * c->buf_bytes)
            c->steps[n++] = (struct env_name_step){
                .kind = ENV_STEP_RESIZE, .path = c->paths[which], .size_bytes = 2 * c->buf_bytes};
        c->steps[n++] = (struct env_name_step){.kind = ENV_STEP_OPEN, .path = c->paths[which]};
    }
    env_names(s->env, &c->op, c->steps, n, on_checkpoint_opened);
}

static void expire_producers(struct log_store *s)
{
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        if (!p->offline) /* of those nothing changes: see park_run.c */
            producers_expire(p, env_wall_ms(s->env));
}

void checkpoint_pump(struct log_store *s)
{
    struct checkpointer *c = &s->checkpoint;
    bool due = c->wanted || (s->unsettled && env_now_ns(s->env) >= s->cycle_after_ns);
    if (!due || c->busy || s->failed != 0 || s->closing)
        return;
    c->wanted = false;
    expire_producers(s);
    int rc = checkpoint_capture(s, s->unsettled);
    if (rc != 0) { /* as one that could not be written: who waits for it asks again at once */
        checkpoint_end(s, rc);
        return;
    }
    c->busy = true;
    checkpoint_submit(s);
}

/* Blocking, with nothing else in flight: a checkpoint that needs nothing of the journal. */
int checkpoint_write_full(struct log_store *s)
{
    struct checkpointer *c = &s->checkpoint;
    ASSERT(!c->busy);
    ASSERT(journal_idle(s));
    expire_producers(s);
    int rc = checkpoint_capture(s, true);
    if (rc != 0)
        return rc;
    c->busy = true;
    checkpoint_submit(s);
    while (c->busy)
        env_turn(s->env, UINT64_MAX);
    return c->rc;
}
