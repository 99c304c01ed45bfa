/* source.c: sealed segments as files that are sent as they are, without being read here.
 *
 * Happy path: a reader that may be served so asks for a stretch; the segment's file is opened once
 *   more, through the page cache, in the background, and until it is there the reader is served
 * from windows like all others. A stretch begins where a batch is known to begin and ends where the
 *   index knows another: what a reader is given next is found out meanwhile, from the header there.
 * Certainty: what is sent so is not looked at. So with LOG_VERIFY_ONCE only what a read, the scrub
 * or a walk has found good since the start; in segments with damage that is known, nothing.
 * Ownership: a source belongs to its segment and to the reads that send from it. A partition that
 * is deleted lets go of it; its file is gone by name only, and never comes to the pool, until the
 *   last of them is over.
 * Failure: a file that cannot be opened so is not asked for again; windows serve.
 * Threads: the shard's; others only send from the file between a read's answer and its release. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define SOURCES_MAX 256u
#define AHEAD_BYTES (4u * 1024u * 1024u)

struct seg_source {
    struct list_node link; /* store.sources, the last used one first; not linked: no segment's */
    struct segment *seg;
    struct env *env;
    struct env_file *file;
    unsigned refs; /* of the segment, and of reads */
};

struct opening {
    struct env_op op;
    struct env_name_step step;
    struct segment *seg;
    char path[PATH_MAX];
};

/* ---- what is known to be good ---- */

static bool span_join(struct span *s, uint64_t from, uint64_t to)
{
    if (from > s->to || to < s->from)
        return false;
    s->from = MIN(s->from, from);
    s->to = MAX(s->to, to);
    return true;
}

/* Two stretches are remembered: the longer one, and the one that grows now. */
void seg_note_good(struct segment *seg, uint64_t from, uint64_t to)
{
    struct span *longest = &seg->good[0], *other = &seg->good[1];
    if (seg->state != SEGMENT_SEALED || span_join(longest, from, to))
        return;
    if (!span_join(other, from, to))
        *other = (struct span){from, to};
    if (span_join(longest, other->from, other->to)) {
        *other = (struct span){0};
    } else if (other->to - other->from > longest->to - longest->from) {
        struct span shorter = *longest;
        *longest = *other;
        *other = shorter;
    }
}

static uint64_t good_end(const struct segment *seg, uint64_t pos)
{
    if (seg->plog->store->config.splice_verify == LOG_VERIFY_NEVER)
        return seg->end_pos;
    for (unsigned i = 0; i < ARRAY_LEN(seg->good); i++)
        if (pos >= seg->good[i].from && pos < seg->good[i].to)
            return seg->good[i].to;
    return pos;
}

/* ---- where batches begin ---- */

static bool boundary_known(const struct segment *seg, uint64_t pos)
{
    const struct boundary *b = seg->plog->boundaries;
    for (unsigned i = 0; i < PLOG_BOUNDARIES; i++)
        if (b[i].segment == seg->base_offset && b[i].pos == pos)
            return true;
    return false;
}

void boundary_note(const struct segment *seg, uint64_t pos, int64_t offset)
{
    struct plog *p = seg->plog;
    if (boundary_known(seg, pos))
        return;
    p->boundaries[p->boundaries_at++ % PLOG_BOUNDARIES] =
        (struct boundary){seg->base_offset, offset, pos};
}

/* Whether the batch that begins with offset is known to begin somewhere. */
bool boundary_find(const struct segment *seg, int64_t offset, uint64_t *ret_pos)
{
    const struct plog *p = seg->plog;
    *ret_pos = 0;
    if (offset == seg->base_offset)
        return true;
    for (unsigned i = 0; i < PLOG_BOUNDARIES; i++) {
        const struct boundary *b = &p->boundaries[i];
        if (b->segment == seg->base_offset && b->offset == offset && b->pos > 0) {
            *ret_pos = b->pos;
            return true;
        }
    }
    return false;
}

/* ---- the file ---- */

static void source_unref(struct seg_source *src)
{
    ASSERT(src->refs > 0);
    if (--src->refs > 0)
        return;
    env_file_close(src->env, src->file);
    free(src);
}

void seg_source_drop(struct segment *seg)
{
    struct seg_source *src = seg->source;
    if (src == NULL)
        return;
    seg->source = NULL;
    seg->plog->store->sources_n--;
    list_remove(&src->link);
    source_unref(src);
}

/* The one used longest ago; reads that still send from it have it to themselves. */
static void drop_oldest(struct log_store *s)
{
    seg_source_drop(container_of(s->sources.prev, struct seg_source, link)->seg);
}

static void source_create(struct segment *seg, struct env_file *file)
{
    struct log_store *s = seg->plog->store;
    struct seg_source *src = calloc(1, sizeof(*src));
    if (src == NULL) {
        env_file_close(s->env, file);
        return;
    }
    if (s->sources_n == SOURCES_MAX)
        drop_oldest(s);
    *src = (struct seg_source){.seg = seg, .env = s->env, .file = file, .refs = 1};
    list_push_head(&s->sources, &src->link);
    s->sources_n++;
    seg->source = src;
    seg->was_source = true;
}

static void on_opened(struct env_op *op)
{
    struct opening *o = container_of(op, struct opening, op);
    struct segment *seg = o->seg;
    struct plog *p = seg->plog;
    seg->source_opening = false;
    seg->holds--;
    p->store->jobs_n--;
    if (op->res == 0 && !p->removed)
        source_create(seg, o->step.ret_file);
    else if (op->res == 0)
        env_file_close(p->store->env, o->step.ret_file);
    seg->source_refused = op->res < 0;
    if (op->res < 0)
        log_warn("%s: %020lld.log cannot be spliced (%s): it is read and sent", p->name,
                 (long long)seg->base_offset, strerror(-op->res));
    free(o);
    plog_unhold(p);
}

static void source_open(struct segment *seg)
{
    struct plog *p = seg->plog;
    struct opening *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return;
    o->seg = seg;
    o->step = (struct env_name_step){.kind = ENV_STEP_OPEN_CACHED,
                                     .path = segment_path(seg, ".log", o->path, PATH_MAX)};
    seg->source_opening = true;
    seg->holds++;
    p->store->jobs_n++;
    plog_hold(p);
    env_names(p->store->env, &o->op, &o->step, 1, on_opened);
}

/* Whether it is there; if not it is asked for. */
static bool source_ready(struct segment *seg)
{
    const struct plog *p = seg->plog;
    if (p->store->config.splice_verify == LOG_VERIFY_ALWAYS || seg->state != SEGMENT_SEALED ||
        !seg->on_disk || !seg_loaded(seg) || seg->damages_n > 0 || p->removed)
        return false;
    if (seg->source == NULL && !seg->source_opening && !seg->source_refused)
        source_open(seg);
    return seg->source != NULL;
}

/* ---- stretches ---- */

/* The header at the end of a stretch says with which offset its readers will come back. It is read
 * through the page cache, into which it is going to come anyway. */
struct header_look {
    struct env_op op;
    struct plog *plog;
    struct segment *seg;
    struct seg_source *src;
    struct seg_cursor at;
    uint8_t *blocks; /* the one where it begins, and the next */
};

static void header_look_end(struct header_look *look)
{
    struct plog *p = look->plog;
    look->seg->holds--;
    p->store->jobs_n--;
    source_unref(look->src);
    free(look->blocks);
    free(look);
    plog_unhold(p);
}

static void on_header(struct env_op *op)
{
    struct header_look *look = container_of(op, struct header_look, op);
    uint64_t skip = look->at.pos % BLOCK_BYTES;
    struct batch_header h;
    if (op->res > (int)skip &&
        seg_cursor_peek(&look->at, look->blocks + skip, (uint64_t)op->res - skip, &h) == 0)
        boundary_note(look->seg, look->at.pos, h.base_offset);
    header_look_end(look);
}

static void header_look_start(struct segment *seg, uint64_t pos)
{
    struct header_look *look = calloc(1, sizeof(*look));
    uint8_t *blocks = aligned_alloc(BLOCK_BYTES, 2 * BLOCK_BYTES);
    if (look == NULL || blocks == NULL) {
        free(look);
        free(blocks);
        return;
    }
    look->plog = seg->plog;
    look->seg = seg;
    look->src = seg->source;
    look->at = (struct seg_cursor){seg, pos, VERIFY_ANY_OFFSET, seg_index_last_offset(seg, pos)};
    look->blocks = blocks;
    look->src->refs++;
    seg->holds++;
    seg->plog->store->jobs_n++;
    plog_hold(seg->plog);
    bool two = pos % BLOCK_BYTES + BATCH_HEADER_BYTES > BLOCK_BYTES;
    env_read(seg->plog->store->env, &look->op, look->src->file, blocks,
             two ? 2 * BLOCK_BYTES : BLOCK_BYTES, block_floor(pos), on_header);
}

static void look_ahead(struct segment *seg, uint64_t end)
{
    struct segment *next = segment_next(seg);
    if (end < seg->end_pos && !boundary_known(seg, end))
        header_look_start(seg, end);
    else if (seg->end_pos - end < AHEAD_BYTES && next != NULL && seg_loaded(next))
        source_ready(next);
}

/* At or before pos: none. What is good must cover all that was asked for: a reader at the edge of
 * it is better served from windows than by a batch at a time. */
static uint64_t stretch_end(const struct segment *seg, uint64_t pos, uint64_t max_bytes)
{
    uint64_t limit = MIN(pos + max_bytes, seg->end_pos);
    if (good_end(seg, pos) < limit)
        return pos;
    return limit == seg->end_pos ? limit : seg_index_find_pos(seg, limit);
}

bool source_take(struct segment *seg, struct plog_read *r)
{
    uint64_t pos;
    if (r->splice_min_bytes == 0 || r->max_bytes < r->splice_min_bytes || !source_ready(seg) ||
        !boundary_find(seg, r->offset, &pos))
        return false;
    uint64_t end = stretch_end(seg, pos, r->max_bytes);
    if (end < pos + r->splice_min_bytes)
        return false;
    struct seg_source *src = seg->source;
    src->refs++;
    list_remove(&src->link);
    list_push_head(&seg->plog->store->sources, &src->link);
    r->refs[0] = src;
    r->extent = (struct env_extent){.file = src->file, .offset_bytes = pos, .len_bytes = end - pos};
    r->len_bytes = (uint32_t)(end - pos);
    look_ahead(seg, end);
    return true;
}

void source_release(struct plog_read *r)
{
    source_unref(r->refs[0]);
    r->extent = (struct env_extent){0};
}
