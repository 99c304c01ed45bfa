/* load.c: makes a segment readable: opens its file, and reads its index files or walks the segment,
 * verifying batch by batch, which rebuilds the index and finds all damage.
 * Happy path: seg_load_wait() -> open and read the index files -> (walk the segment) -> every
 * waiter runs. Failure: every waiter gets -EIO; the next one to ask tries again. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"

#define WALK_BYTES (1024u * 1024u)
#define WALK_BYTES_MAX (64u * 1024u * 1024u) /* a longer batch counts as damaged */
#define EVICTED_MAX 1000u

struct seg_load {
    struct env_op op;
    struct segment *seg;
    struct env_name_step steps[3];
    char paths[3][PATH_MAX];
    struct seg_index index;
    struct around around;
    uint8_t *data[2]; /* index files, being written */
    uint8_t *buf;
    uint64_t buf_bytes, buf_pos, file_end; /* buf_pos: in the segment, of its first byte */
    uint64_t pos, end_pos;                 /* of the walk */
    int64_t offset, end_offset;            /* at pos, at end_pos */
    unsigned evicted_n;
    bool search; /* pos is inside damage that begins at damaged_pos */
    uint64_t damaged_pos;
    struct damage *found;
    uint32_t found_n;
};

bool seg_loaded(const struct segment *seg)
{
    return seg->index_complete && !seg->suspect && !seg->replacing &&
           (seg->file != NULL || !seg->on_disk);
}

static void waiters_run(struct segment *seg, int rc)
{
    struct list_node due;
    list_init(&due);
    list_splice_tail(&due, &seg->loads);
    list_remove(&seg->load_link);
    for (struct list_node *it; (it = list_pop_head(&due)) != NULL;) {
        struct load_waiter *w = container_of(it, struct load_waiter, link);
        w->run(w, rc);
    }
}

static void load_end(struct seg_load *load, int rc)
{
    struct segment *seg = load->seg;
    struct plog *p = seg->plog;
    if (rc != 0) {
        seg_read_failed(seg, load->buf_pos, strerror(-rc));
        rc = -EIO;
    }
    seg->load = NULL;
    seg_index_fini(&load->index);
    free(load->buf);
    free(load->found);
    free(load->data[0]);
    free(load->data[1]);
    free(load);
    waiters_run(seg, rc);
    seg_file_release(seg);
    plog_unhold(p);
}

/* ---- walking the segment ---- */

static void walk_run(struct seg_load *load);

/* Up to where the file, not memory, has the segment's bytes. */
static uint64_t file_end_pos(const struct segment *seg)
{
    return seg->state == SEGMENT_SEALED ? seg->end_pos : seg->destaged_pos;
}

static void on_index_put(struct env_op *op)
{
    struct seg_load *load = container_of(op, struct seg_load, op);
    struct segment *seg = load->seg;
    seg->index_crc_known = op->res == 0; /* else they are made from the segment next time, too */
    for (unsigned i = 0; i < 2; i++)
        seg->index_crc[i] = crc32c(load->steps[i].data, load->steps[i].data_len);
    load_end(load, 0);
}

/* The index files of a sealed segment were missing or not to be believed: they are written again.
 */
static void index_files_put(struct seg_load *load)
{
    struct segment *seg = load->seg;
    static const char *const suffix[2] = {".index", ".timeindex"};
    size_t len[2];
    if (seg->state != SEGMENT_SEALED || seg->plog->removed ||
        seg_index_encode(seg, &load->data[0], &len[0], &load->data[1], &len[1]) != 0) {
        load_end(load, 0);
        return;
    }
    for (unsigned i = 0; i < 2; i++)
        load->steps[i] =
            (struct env_name_step){.kind = ENV_STEP_PUT,
                                   .path = segment_path(seg, suffix[i], load->paths[i], PATH_MAX),
                                   .data = load->data[i],
                                   .data_len = len[i]};
    env_names(seg->plog->store->env, &load->op, load->steps, 2, on_index_put);
}

static void walk_end(struct seg_load *load)
{
    struct segment *seg = load->seg;
    seg_damage_replace(seg, load->found, load->found_n, load->end_pos);
    load->found = NULL;
    seg_index_drop_below(seg, load->end_pos, load->end_offset);
    seg_index_complete(seg, &load->index);
    load->index = (struct seg_index){0};
    seg->suspect = false;
    if (seg->damages_n == 0)
        seg_note_good(seg, 0, load->end_pos);
    index_files_put(load);
}

static int found_add(struct seg_load *load, const struct verify_piece *piece)
{
    struct damage *more = realloc(load->found, (load->found_n + 1) * sizeof(*more));
    if (more == NULL)
        return -ENOMEM;
    load->found = more;
    load->found[load->found_n++] =
        (struct damage){load->search ? load->damaged_pos : load->buf_pos + piece->from,
                        load->buf_pos + piece->to, piece->from_offset, piece->to_offset};
    return 0;
}

/* No batch begins in all of a window: on behind it, the next one is searched for. */
static void window_give_up(struct seg_load *load, uint64_t have_end)
{
    if (!load->search)
        load->damaged_pos = load->pos;
    load->search = true;
    load->pos = MAX(load->pos + 1, have_end - MIN(have_end, BATCH_HEADER_BYTES - 1));
}

/* The window is too small for what begins at pos. */
static int window_grow(struct seg_load *load, uint64_t have_end)
{
    if (have_end - load->buf_pos < load->buf_bytes) /* something was evicted: it is in the file */
        return load->evicted_n++ < EVICTED_MAX ? 0 : -EIO;
    if (block_floor(load->pos) > load->buf_pos)
        return 0; /* it begins later */
    if (load->buf_bytes >= WALK_BYTES_MAX) {
        window_give_up(load, have_end);
        return 0;
    }
    free(load->buf);
    load->buf_bytes *= 2;
    if (posix_memalign((void **)&load->buf, BLOCK_BYTES, load->buf_bytes) != 0)
        load->buf = NULL;
    return load->buf == NULL ? -ENOMEM : 0;
}

/* Indexes the batches that the window holds, [buf_pos, have_end) of the segment. */
static int walk_window(struct seg_load *load, uint64_t have_end)
{
    struct verify_place place = seg_place(load->seg); /* lent: appends may move the epochs */
    place.offset = load->offset;
    place.end_offset = load->end_offset;
    struct verify_walk walk = {.place = place,
                               .data = load->buf,
                               .len_bytes = have_end - load->buf_pos,
                               .pos = load->pos - load->buf_pos,
                               .last = have_end == load->end_pos,
                               .search = load->search};
    struct verify_piece piece;
    int rc;
    while ((rc = verify_walk_next(&walk, &piece)) == 1) {
        if (piece.good)
            seg_index_add(&load->index, load->seg, load->buf_pos + piece.from, &piece.header);
        else if ((rc = found_add(load, &piece)) != 0)
            return rc;
        load->pos = load->buf_pos + piece.to;
        load->offset = piece.to_offset;
        load->search = false;
    }
    return rc == -EAGAIN ? window_grow(load, have_end) : 0;
}

/* Behind what came from the file, what is in memory; returns how far that reaches. */
static uint64_t window_memory(struct seg_load *load, uint64_t have_end)
{
    uint64_t want_end = MIN(load->buf_pos + load->buf_bytes, load->end_pos);
    while (have_end < want_end) {
        uint32_t piece = (uint32_t)MIN(want_end - have_end, (uint64_t)BLOCK_BYTES);
        if (!seg_peek(load->seg, have_end, load->buf + (have_end - load->buf_pos), piece))
            break;
        have_end += piece;
    }
    return have_end;
}

static void on_walk_read(struct around *a)
{
    struct seg_load *load = container_of(a, struct seg_load, around);
    uint64_t want = load->file_end - load->buf_pos;
    if (a->rc < 0) {
        load_end(load, a->rc);
        return;
    }
    if ((uint64_t)a->rc < want) /* the file has been cut */
        memset(load->buf + a->rc, 0, want - (uint64_t)a->rc);
    int rc = walk_window(load, window_memory(load, load->file_end));
    if (rc != 0)
        load_end(load, rc);
    else
        walk_run(load);
}

static void walk_run(struct seg_load *load)
{
    struct segment *seg = load->seg;
    while (load->pos < load->end_pos || load->offset < load->end_offset) {
        load->buf_pos = block_floor(load->pos);
        load->file_end =
            MIN(MIN(file_end_pos(seg), load->end_pos), load->buf_pos + load->buf_bytes);
        if (load->buf_pos < load->file_end) {
            around_read(seg->plog->store->env, &load->around, seg->file, load->buf,
                        block_ceil(load->file_end) - load->buf_pos, load->buf_pos, on_walk_read);
            return;
        }
        int rc = walk_window(load, window_memory(load, load->buf_pos));
        if (rc != 0) {
            load_end(load, rc);
            return;
        }
    }
    walk_end(load);
}

/* The index has to come from the segment itself, or a reader has met damage. Of an open segment
 * only what lies in its file is missing in the index: everything behind was indexed when it came.
 */
static void walk_start(struct seg_load *load)
{
    struct segment *seg = load->seg;
    bool all_stable = seg->stable_pos == seg->end_pos;
    load->index = (struct seg_index){.max_timestamp = -1};
    load->offset = seg->base_offset;
    load->end_pos = seg->stable_pos;
    load->end_offset = all_stable ? seg->end_offset : seg->plog->stable_offset;
    if (seg->state != SEGMENT_SEALED && !seg->suspect) {
        load->end_pos = seg->index_from;
        load->end_offset = seg->index_from_offset;
    }
    load->buf_bytes = WALK_BYTES;
    if (posix_memalign((void **)&load->buf, BLOCK_BYTES, load->buf_bytes) != 0) {
        load->buf = NULL;
        load_end(load, -ENOMEM);
        return;
    }
    walk_run(load);
}

/* ---- opening ---- */

static bool index_files_intact(const struct seg_load *load)
{
    const struct segment *seg = load->seg;
    for (unsigned i = 0; i < 2; i++)
        if (crc32c(load->steps[1 + i].ret_data, load->steps[1 + i].ret_data_len) !=
            seg->index_crc[i])
            return false;
    return true;
}

/* Nothing in the files themselves tells a flipped bit from what was written: without the checksums
 * that the checkpoint keeps they are not believed. */
static void on_index_read(struct seg_load *load)
{
    struct segment *seg = load->seg;
    if (!seg->index_crc_known)
        return;
    int rc = !index_files_intact(load)
                 ? -EBADMSG
                 : seg_index_decode(seg, load->steps[1].ret_data, load->steps[1].ret_data_len,
                                    load->steps[2].ret_data, load->steps[2].ret_data_len);
    if (rc == 0)
        seg->index_complete = true;
    if (rc == -EBADMSG)
        log_warn("%s: the index files of segment %lld are damaged and made again from the segment",
                 seg->plog->name, (long long)seg->base_offset);
}

static void on_opened(struct env_op *op)
{
    struct seg_load *load = container_of(op, struct seg_load, op);
    struct segment *seg = load->seg;
    struct env_name_step *open = &load->steps[0];
    if (open->ret_file == NULL) {
        seg->file_state = SEGMENT_FILE_NONE; /* the next one to ask tries again */
        load_end(load, op->res < 0 ? op->res : -EIO);
        return;
    }
    seg->file = open->ret_file;
    seg->file_state = SEGMENT_FILE_OPEN;
    seg->plog->store->open_sealed_n += seg->state == SEGMENT_SEALED;
    if (!seg->size_known) {
        seg->end_pos = seg->queued_pos = seg->stable_pos = seg->destaged_pos = open->ret_size_bytes;
        seg->size_known = true;
    }
    if (op->res == 0 && op->steps_n == 3)
        on_index_read(load);
    free(load->steps[1].ret_data);
    free(load->steps[2].ret_data);
    if (seg->index_complete && !seg->suspect)
        load_end(load, 0);
    else
        walk_start(load);
}

static void load_open_sealed(struct seg_load *load)
{
    struct segment *seg = load->seg;
    static const struct {
        enum env_step_kind kind;
        const char *suffix;
    } plan[3] = {{ENV_STEP_OPEN, ".log"}, {ENV_STEP_GET, ".index"}, {ENV_STEP_GET, ".timeindex"}};
    unsigned n = seg->index_complete ? 1 : 3;
    for (unsigned i = 0; i < n; i++)
        load->steps[i] = (struct env_name_step){
            .kind = plan[i].kind,
            .path = segment_path(seg, plan[i].suffix, load->paths[i], PATH_MAX)};
    seg->file_state = SEGMENT_FILE_OPENING;
    env_names(seg->plog->store->env, &load->op, load->steps, n, on_opened);
}

/* Begins when it can; a segment that is still written gets its file from the write path. */
static bool load_begin(struct segment *seg)
{
    bool written = seg->state != SEGMENT_SEALED && seg->plog->fenced == 0;
    if (written && seg->on_disk && seg->file == NULL) {
        seg_file_want(seg);
        return false;
    }
    if (seg->file_state == SEGMENT_FILE_OPENING || seg->replacing)
        return false;
    struct seg_load *load = calloc(1, sizeof(*load));
    if (load == NULL)
        return false;
    load->seg = seg;
    seg->load = load;
    plog_hold(seg->plog);
    seg_file_hold(seg);
    /* Also one that was missing at the start, until there is another: that says so. */
    if (seg->file == NULL && (seg->on_disk || seg->destaged_pos > 0))
        load_open_sealed(load);
    else
        walk_start(load);
    return true;
}

/* w runs when file and index are there (or cannot be had); never before this returns, unless they
 * are there already: ask seg_loaded first. */
void seg_load_wait(struct segment *seg, struct load_waiter *w)
{
    ASSERT(!seg_loaded(seg));
    list_push_tail(&seg->loads, &w->link);
    if (seg->load == NULL && !list_linked(&seg->load_link))
        list_push_tail(&seg->plog->store->load_waiting, &seg->load_link);
}

void load_pump(struct log_store *s)
{
    list_for_each_safe(it, next, &s->load_waiting) {
        struct segment *seg = container_of(it, struct segment, load_link);
        bool given_up = s->abandoned && seg->replacing; /* nobody gives the file its name */
        bool never = seg->plog->removed || given_up;
        if (seg_loaded(seg) || never) { /* the write path was faster */
            waiters_run(seg, never ? -EIO : 0);
            return; /* the list may have changed */
        }
        if (load_begin(seg))
            list_remove(&seg->load_link);
    }
}
