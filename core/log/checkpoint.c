/* checkpoint.c: what replay needs to know about each partition so that journal space can be reused.
 * Two files written in turn, each protected by a checksum and numbered by generation; space is
 * freed only behind a complete, flushed one.
 *
 * For every partition: log start, stable end, leader epochs, producers, and its segments that are
 * not sealed: how far the file is valid, and the image of the bytes behind that which the journal
 * need not hold any more (at least the last part-filled block, so idle partitions pin nothing and
 * no torn rewrite of a block can lose bytes). */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"

#define CHECKPOINT_MAGIC 0x31504b434e455021u
#define CHECKPOINT_VERSION 1u
#define CHECKPOINT_BYTES_MAX (64ull << 30)
#define WRITE_BYTES_MAX (8ull << 20)
#define READ_BYTES_MAX (1ull << 30) /* one operation carries less than 2 GiB */

struct checkpoint_header { /* on disk, little endian; padded to a block */
    uint64_t magic;
    uint32_t version, crc; /* of header (this field 0) and body */
    uint64_t generation, identity, incarnation;
    uint64_t tail_pos, durable_pos, durable_next_seq;
    uint32_t durable_crc, plogs_n;
    uint64_t body_bytes;
    uint64_t closed; /* 1: of a clean stop; counts while the journal's incarnation is the same */
};
struct plog_entry {
    uint64_t number;
    int64_t log_start, stable_offset;
    uint32_t epochs_n, producers_n, segments_n;
    uint8_t dir_ready, segment_class, pad[2];
};
struct segment_entry {
    int64_t base_offset, end_offset, first_timestamp;
    uint64_t stable_pos, destaged_pos, image_bytes;
    uint8_t on_disk, sealing, pad[6];
};
struct producer_entry {
    int64_t id, last_ms;
    int16_t epoch;
    uint8_t batches_n, pad[5];
    struct producer_batch batches[PRODUCER_BATCHES];
};
_Static_assert(sizeof(struct checkpoint_header) == 88, "on disk");
_Static_assert(sizeof(struct plog_entry) == 40, "on disk");
_Static_assert(sizeof(struct segment_entry) == 56, "on disk");
_Static_assert(sizeof(struct producer_entry) == 24 + PRODUCER_BATCHES * 32, "on disk");

/* ---- writing ---- */

struct out { /* counts only while buf == NULL */
    uint8_t *buf;
    uint64_t len;
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

static uint64_t image_end(const struct segment *seg, bool full)
{
    return full ? seg->stable_pos : segment_image_end(seg);
}

static bool segment_listed(const struct segment *seg)
{
    return seg->state != SEGMENT_SEALED && seg->stable_pos > 0;
}

static void put_segment(struct out *o, const struct segment *seg, bool full)
{
    bool whole = seg->stable_pos == seg->end_pos;
    struct segment_entry e = {
        .base_offset = seg->base_offset,
        .end_offset = whole ? seg->end_offset : seg->plog->stable_offset,
        .first_timestamp = seg->first_timestamp,
        .stable_pos = seg->stable_pos,
        .destaged_pos = seg->destaged_pos,
        .image_bytes = image_end(seg, full) - MIN(seg->destaged_pos, image_end(seg, full)),
        .on_disk = seg->on_disk,
        .sealing = whole && seg->state == SEGMENT_SEALING,
    };
    put(o, &e, sizeof(e));
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
        .stable_offset = p->stable_offset,
        .epochs_n = p->epochs_n,
        .producers_n = (uint32_t)p->producers.count,
        .dir_ready = p->dir_ready,
        .segment_class = (uint8_t)p->segment_class,
    };
    struct segment *first = plog_first_open(p);
    for (struct list_node *it = first == NULL ? NULL : &first->link;
         it != NULL && it != &p->segments; it = it->next)
        e.segments_n += segment_listed(container_of(it, struct segment, link));
    put(o, &e, sizeof(e));
    for (uint32_t i = 0; i < p->epochs_n; i++) {
        int64_t pair[2] = {p->epochs[i].epoch, p->epochs[i].start_offset};
        put(o, pair, sizeof(pair));
    }
    put_producers(o, p);
    for (struct list_node *it = first == NULL ? NULL : &first->link;
         it != NULL && it != &p->segments; it = it->next) {
        struct segment *seg = container_of(it, struct segment, link);
        if (segment_listed(seg))
            put_segment(o, seg, full);
    }
    return 1;
}

static uint32_t put_plogs(struct out *o, struct log_store *s, bool full)
{
    uint32_t n = 0;
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        if (!p->removed)
            n += put_plog(o, p, full);
    return n;
}

/* From where replay must read, if this checkpoint counts. */
static uint64_t needed_tail(struct log_store *s, uint64_t durable_pos)
{
    uint64_t tail = durable_pos;
    struct plog *p; /* a pin may be older than needed: see segment_pin */
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;) {
        if (p->removed)
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
    h.crc = crc32c(c->buf, sizeof(h) + h.body_bytes);
    memcpy(c->buf, &h, sizeof(h));
    c->tail_pos = h.tail_pos;
    return 0;
}

/* Each segment's bytes up to here are in the checkpoint that has just become durable. */
static void images_done(struct log_store *s)
{
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        for (struct segment *seg = plog_first_open(p); seg != NULL;) {
            seg->image_pos = seg->stable_pos;
            seg = segment_next(seg);
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
        log_warn("journal %u: checkpoint failed (%s), its space is not freed yet", s->journal.id,
                 strerror(-rc));
        return;
    }
    c->generation++;
    s->counters.checkpoints++;
    ASSERT(c->tail_pos >= s->journal.tail_pos);
    s->journal.tail_pos = c->tail_pos;
}

static void on_checkpoint_written(struct env_op *op)
{
    struct checkpointer *c = container_of(op, struct checkpointer, op);
    struct log_store *s = container_of(c, struct log_store, checkpoint);
    checkpoint_end(s, op->res);
}

static void on_checkpoint_data(struct env_op *op);

/* In pieces; then, as the file may have grown (fallocated, not yet written), a flush of its own. */
static void checkpoint_write_next(struct log_store *s)
{
    struct checkpointer *c = &s->checkpoint;
    uint64_t at = c->written_bytes, len = MIN(c->buf_bytes - at, WRITE_BYTES_MAX);
    c->written_bytes += len;
    if (len > 0)
        env_write(s->env, &c->op, c->file, c->buf + at, len, at, 0, on_checkpoint_data);
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
        c->sizes[which] = 0; /* what it is now is not known */
        checkpoint_end(s, op->res);
        return;
    }
    c->sizes[which] = MAX(c->sizes[which], c->buf_bytes);
    c->written_bytes = 0;
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
            .kind = ENV_STEP_CREATE, .path = c->paths[which], .size_bytes = c->buf_bytes};
        c->steps[n++] =
            (struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir};
    } else {
        if (c->sizes[which] < c->buf_bytes)
            c->steps[n++] = (struct env_name_step){
                .kind = ENV_STEP_RESIZE, .path = c->paths[which], .size_bytes = c->buf_bytes};
        c->steps[n++] = (struct env_name_step){.kind = ENV_STEP_OPEN, .path = c->paths[which]};
    }
    env_names(s->env, &c->op, c->steps, n, on_checkpoint_opened);
}

void checkpoint_pump(struct log_store *s)
{
    struct checkpointer *c = &s->checkpoint;
    if (!c->wanted || c->busy || s->failed != 0 || s->closing)
        return;
    c->wanted = false;
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        producers_expire(p, env_wall_ms(s->env));
    int rc = checkpoint_capture(s, false);
    if (rc != 0) {
        log_warn("journal %u: no memory for a checkpoint", s->journal.id);
        return;
    }
    c->busy = true;
    checkpoint_submit(s);
}

/* Blocking, with nothing else in flight: a checkpoint that needs nothing of the journal. */
int checkpoint_write_full(struct log_store *s)
{
    struct checkpointer *c = &s->checkpoint;
    uint64_t before = c->generation;
    ASSERT(!c->busy);
    ASSERT(journal_idle(s));
    int rc = checkpoint_capture(s, true);
    if (rc != 0)
        return rc;
    c->busy = true;
    checkpoint_submit(s);
    while (c->busy)
        env_turn(s->env, UINT64_MAX);
    if (c->generation == before)
        return -EIO;
    images_done(s);
    return 0;
}

/* ---- reading ---- */

struct in {
    const uint8_t *p, *end;
};

static bool get(struct in *in, void *ret, size_t len)
{
    if ((size_t)(in->end - in->p) < len)
        return false;
    memcpy(ret, in->p, len);
    in->p += len;
    return true;
}

static int load_epochs(struct in *in, struct plog *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        int64_t pair[2];
        if (!get(in, pair, sizeof(pair)))
            return -EBADMSG;
        if (p != NULL && pair[1] < p->stable_offset &&
            plog_epoch_note(p, (int32_t)pair[0], pair[1]) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int load_producers(struct in *in, struct plog *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct producer_entry e;
        if (!get(in, &e, sizeof(e)) || e.batches_n > PRODUCER_BATCHES)
            return -EBADMSG;
        if (p == NULL)
            continue;
        struct producer *known = calloc(1, sizeof(*known));
        if (known == NULL || map_put(&p->producers, (uint64_t)e.id, known) != 0) {
            free(known);
            return -ENOMEM;
        }
        *known = (struct producer){
            .id = e.id, .epoch = e.epoch, .batches_n = e.batches_n, .last_ms = e.last_ms};
        memcpy(known->batches, e.batches, sizeof(e.batches));
    }
    return 0;
}

static int load_image(struct segment *seg, const uint8_t *data, uint64_t len)
{
    while (len > 0) {
        uint64_t piece = MIN(len, (uint64_t)CHUNK_BYTES_MAX);
        int rc = recovery_reserve(seg, piece);
        if (rc != 0)
            return rc;
        seg_write_bytes(seg, data, piece);
        seg->queued_pos = seg->end_pos;
        seg_set_stable(seg, seg->end_pos);
        data += piece;
        len -= piece;
    }
    seg->image_pos = seg->end_pos;
    return 0;
}

static int load_segment(struct in *in, struct plog *p)
{
    struct segment_entry e;
    if (!get(in, &e, sizeof(e)) || (uint64_t)(in->end - in->p) < e.image_bytes ||
        e.destaged_pos > e.stable_pos || e.image_bytes > e.stable_pos - e.destaged_pos)
        return -EBADMSG;
    const uint8_t *image = in->p;
    in->p += e.image_bytes;
    if (p == NULL)
        return 0;
    struct segment *seg = segment_create(p, e.base_offset);
    if (seg == NULL)
        return -ENOMEM;
    seg->end_offset = e.end_offset;
    seg->first_timestamp = e.first_timestamp;
    seg->on_disk = e.on_disk;
    seg->end_pos = seg->queued_pos = seg->stable_pos = seg->destaged_pos = e.destaged_pos;
    seg->recovered_pos = e.stable_pos;
    seg->index_complete = false;
    seg->index_from = seg->index.indexed_pos = e.stable_pos;
    int rc = load_image(seg, image, e.image_bytes);
    if (e.sealing) { /* not before: making room for the image may already destage */
        seg->state = SEGMENT_SEALING;
        plog_want_destage(p);
    }
    return rc;
}

static int load_plog(struct in *in, struct log_store *s)
{
    struct plog_entry e;
    if (!get(in, &e, sizeof(e)))
        return -EBADMSG;
    struct plog *p = map_get(&s->plogs, e.number);
    if (p != NULL && p->loaded) /* taken over before: this shard's own state is newer */
        p = NULL;
    if (p != NULL) { /* else deleted since, or another shard's: the entry is skipped */
        p->loaded = true;
        p->log_start = e.log_start;
        p->stable_offset = p->end_offset = p->recovered_offset = e.stable_offset;
        p->dir_ready = e.dir_ready;
        p->segment_class = MIN(e.segment_class, SEGMENT_CLASSES - 1);
    }
    int rc = load_epochs(in, p, e.epochs_n);
    if (rc == 0)
        rc = load_producers(in, p, e.producers_n);
    for (uint32_t i = 0; rc == 0 && i < e.segments_n; i++)
        rc = load_segment(in, p);
    return rc;
}

struct loaded { /* one checkpoint file */
    struct checkpoint_header h;
    uint8_t *buf; /* NULL: missing, torn or of another journal */
    uint64_t size_bytes;
};

static bool checkpoint_sane(const struct loaded *l, uint64_t identity)
{
    const struct checkpoint_header *h = &l->h;
    if (h->magic != CHECKPOINT_MAGIC || h->version != CHECKPOINT_VERSION ||
        (identity != 0 && h->identity != identity) || h->tail_pos > h->durable_pos ||
        h->body_bytes > l->size_bytes - sizeof(*h))
        return false;
    memset(l->buf + offsetof(struct checkpoint_header, crc), 0, sizeof(h->crc));
    return crc32c(l->buf, sizeof(*h) + h->body_bytes) == h->crc;
}

/* identity 0: of whatever journal. */
static void checkpoint_read(struct log_store *s, const char *path, uint64_t identity,
                            struct loaded *ret)
{
    struct env_name_step step = {.kind = ENV_STEP_OPEN, .path = path};
    *ret = (struct loaded){0};
    if (env_names_wait(s->env, &step, 1) != 0)
        return;
    uint64_t size = block_floor(step.ret_size_bytes);
    ret->size_bytes = size;
    bool ok = size >= BLOCK_BYTES && size <= CHECKPOINT_BYTES_MAX &&
              posix_memalign((void **)&ret->buf, BLOCK_BYTES, size) == 0;
    for (uint64_t at = 0; ok && at < size; at += READ_BYTES_MAX) {
        uint64_t len = MIN(size - at, READ_BYTES_MAX);
        ok = env_read_wait(s->env, step.ret_file, ret->buf + at, len, at) == (int)len;
    }
    env_file_close(s->env, step.ret_file);
    if (ok)
        memcpy(&ret->h, ret->buf, sizeof(ret->h));
    if (ok && checkpoint_sane(ret, identity))
        return;
    free(ret->buf);
    ret->buf = NULL;
}

static char *checkpoint_path(const struct log_store *s, unsigned journal_id, unsigned which)
{
    char *path = NULL;
    return asprintf(&path, "%s/journal.%u.checkpoint.%u", s->config.journal_dir, journal_id,
                    which) < 0
               ? NULL
               : path;
}

/* The newer of a journal's two checkpoints; buf NULL: there is none. The paths are the caller's. */
static void checkpoint_newest(struct log_store *s, unsigned journal_id, uint64_t identity,
                              char *paths[2], uint64_t sizes[2], struct loaded *ret)
{
    struct loaded l[2];
    for (unsigned i = 0; i < 2; i++) {
        paths[i] = checkpoint_path(s, journal_id, i);
        l[i] = (struct loaded){0};
        if (paths[i] != NULL)
            checkpoint_read(s, paths[i], identity, &l[i]);
        sizes[i] = l[i].size_bytes;
    }
    unsigned newest =
        l[0].buf == NULL || (l[1].buf != NULL && l[1].h.generation > l[0].h.generation);
    free(l[!newest].buf);
    *ret = l[newest];
}

static int load_plogs(struct log_store *s, const struct loaded *l)
{
    struct in in = {l->buf + sizeof(l->h), l->buf + sizeof(l->h) + l->h.body_bytes};
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < l->h.plogs_n; i++)
        rc = load_plog(&in, s);
    return rc;
}

/* Loads the newest complete checkpoint; without any, everything is in the journal from its start.
 */
int checkpoint_load(struct log_store *s, struct journal_start *ret, char *reason,
                    size_t reason_size)
{
    struct checkpointer *c = &s->checkpoint;
    struct loaded l;
    checkpoint_newest(s, s->journal.id, s->journal.identity, c->paths, c->sizes, &l);
    *ret = (struct journal_start){.durable_next_seq = 1};
    if (l.buf == NULL)
        return 0;
    c->generation = l.h.generation;
    *ret = (struct journal_start){
        l.h.tail_pos,         l.h.durable_pos,
        l.h.durable_next_seq, l.h.incarnation,
        l.h.durable_crc,      l.h.closed == 1 && l.h.incarnation == s->journal.incarnation};
    int rc = load_plogs(s, &l);
    if (rc != 0)
        snprintf(reason, reason_size, "checkpoint of journal %u: %s", s->journal.id, strerror(-rc));
    free(l.buf);
    return rc;
}

/* ---- journals of shards that are no more ---- */

/* Ids of journals left by a run with more shards that are this shard's to take over. */
static unsigned *taken_journals(struct log_store *s, unsigned *ret_n)
{
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = s->config.journal_dir};
    *ret_n = 0;
    if (env_names_wait(s->env, &list, 1) != 0)
        return NULL;
    unsigned *ids = calloc(list.ret_count + 1, sizeof(*ids));
    const char *name = list.ret_data;
    for (size_t i = 0; ids != NULL && i < list.ret_count; i++, name += strlen(name) + 1) {
        unsigned id;
        char extra;
        if (sscanf(name, "journal.%u%c", &id, &extra) == 1 && id >= s->config.shards_n &&
            id % s->config.shards_n == s->journal.id)
            ids[(*ret_n)++] = id;
    }
    free(list.ret_data);
    return ids;
}

/* Loads what drained journals of earlier shards hold of this shard's partitions. Their journals
 * need no replay: they were opened and closed before the partitions moved. */
int checkpoint_take_over(struct log_store *s, bool *ret_any, char *reason, size_t reason_size)
{
    unsigned n;
    unsigned *ids = taken_journals(s, &n);
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        char *paths[2];
        uint64_t sizes[2];
        struct loaded l;
        checkpoint_newest(s, ids[i], 0, paths, sizes, &l);
        if (l.buf != NULL)
            rc = load_plogs(s, &l);
        if (rc != 0)
            snprintf(reason, reason_size, "checkpoint of journal %u: %s", ids[i], strerror(-rc));
        free(l.buf);
        free(paths[0]);
        free(paths[1]);
        *ret_any = true;
    }
    free(ids);
    return rc;
}

/* The own checkpoint holds it all now: the files go. A failure leaves them for the next start. */
void checkpoint_remove_taken(struct log_store *s)
{
    unsigned n;
    unsigned *ids = taken_journals(s, &n);
    for (unsigned i = 0; i < n; i++) {
        char *paths[3] = {checkpoint_path(s, ids[i], 0), checkpoint_path(s, ids[i], 1), NULL};
        if (asprintf(&paths[2], "%s/journal.%u", s->config.journal_dir, ids[i]) < 0)
            paths[2] = NULL;
        struct env_name_step steps[4] = {
            {.kind = ENV_STEP_UNLINK, .path = paths[2]},
            {.kind = ENV_STEP_UNLINK, .path = paths[0]},
            {.kind = ENV_STEP_UNLINK, .path = paths[1]},
            {.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir}};
        if (paths[0] != NULL && paths[1] != NULL && paths[2] != NULL &&
            env_names_wait(s->env, steps, 4) == 0)
            log_info("journal %u: taken over by shard %u", ids[i], s->journal.id);
        for (unsigned k = 0; k < 3; k++)
            free(paths[k]);
    }
    free(ids);
}

void checkpoint_fini(struct log_store *s)
{
    for (unsigned i = 0; i < 2; i++)
        free(s->checkpoint.paths[i]);
}
