/* load.c: makes a segment readable: opens its file, and reads its index files or rebuilds the index
 * by walking the batch headers of the segment.
 * Happy path: seg_load_wait() -> open and read the index files -> (walk the segment) -> every
 * waiter runs. Failure: every waiter gets the error; the next one to ask tries again. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"

#define WALK_BYTES (1024u * 1024u)

struct seg_load {
    struct env_op op;
    struct segment *seg;
    struct env_name_step steps[3];
    char paths[3][PATH_MAX];
    struct seg_index index;
    uint8_t *buf;
    uint64_t buf_pos;      /* in the segment, of its first byte */
    uint64_t pos, end_pos; /* of the walk */
};

bool seg_loaded(const struct segment *seg)
{
    return seg->index_complete && (seg->file != NULL || !seg->on_disk);
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
    seg->load = NULL;
    seg_index_fini(&load->index);
    free(load->buf);
    free(load);
    waiters_run(seg, rc);
    seg_file_release(seg);
    plog_unhold(p);
}

/* ---- walking the segment ---- */

static void walk_next(struct seg_load *load);

/* Up to where the file, not memory, has the segment's bytes. */
static uint64_t file_end_pos(const struct segment *seg)
{
    return seg->state == SEGMENT_SEALED ? seg->end_pos : seg->destaged_pos;
}

/* The header at load->pos, from buf (which holds the file up to have_end) and memory. */
static bool walk_header(struct seg_load *load, uint64_t have_end, uint8_t raw[BATCH_HEADER_BYTES])
{
    const struct segment *seg = load->seg;
    uint64_t pos = load->pos;
    uint32_t in_buf = pos >= have_end ? 0 : (uint32_t)MIN(have_end - pos, BATCH_HEADER_BYTES);
    if (in_buf < BATCH_HEADER_BYTES && have_end < file_end_pos(seg))
        return false;
    if (in_buf > 0)
        memcpy(raw, load->buf + (pos - load->buf_pos), in_buf);
    return in_buf == BATCH_HEADER_BYTES ||
           seg_peek(seg, pos + in_buf, raw + in_buf, BATCH_HEADER_BYTES - in_buf);
}

static void walk_give_up(struct seg_load *load)
{
    log_error("%s: no batch at position %llu of segment %lld", load->seg->plog->name,
              (unsigned long long)load->pos, (long long)load->seg->base_offset);
    load->pos = load->end_pos; /* what lies behind cannot be found by offset */
}

/* Indexes what buf holds, which is the file up to have_end, and memory behind the file's end. */
static void walk_buffer(struct seg_load *load, uint64_t have_end)
{
    uint64_t began = load->pos;
    uint8_t raw[BATCH_HEADER_BYTES];
    struct batch_header h;
    while (load->pos < load->end_pos && walk_header(load, have_end, raw)) {
        if (batch_peek(raw, sizeof(raw), &h) != 0) {
            walk_give_up(load);
            break;
        }
        seg_index_add(&load->index, load->seg, load->pos, &h);
        load->pos += h.len_bytes;
    }
    if (load->pos == began && load->pos < load->end_pos)
        walk_give_up(load);
    walk_next(load);
}

static void on_walk_read(struct env_op *op)
{
    struct seg_load *load = container_of(op, struct seg_load, op);
    if (op->res < 0)
        load_end(load, op->res);
    else
        walk_buffer(load, MIN(load->buf_pos + (uint64_t)op->res, file_end_pos(load->seg)));
}

static void walk_next(struct seg_load *load)
{
    struct segment *seg = load->seg;
    if (load->pos >= load->end_pos) {
        seg_index_complete(seg, &load->index);
        load->index = (struct seg_index){0};
        load_end(load, 0);
        return;
    }
    load->buf_pos = block_floor(load->pos);
    if (load->pos >= file_end_pos(seg))
        walk_buffer(load, load->pos);
    else
        env_read(seg->plog->store->env, &load->op, seg->file, load->buf, WALK_BYTES, load->buf_pos,
                 on_walk_read);
}

/* The index has to come from the segment itself. Of an open segment only what lies in its file is
 * missing in the index: everything behind was indexed when it came. */
static void walk_start(struct seg_load *load)
{
    struct segment *seg = load->seg;
    load->index = (struct seg_index){.max_timestamp = -1};
    load->end_pos = seg->state == SEGMENT_SEALED ? seg->end_pos : seg->index_from;
    if (posix_memalign((void **)&load->buf, BLOCK_BYTES, WALK_BYTES) != 0) {
        load->buf = NULL;
        load_end(load, -ENOMEM);
        return;
    }
    walk_next(load);
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
        load_end(load, op->res < 0 ? op->res : -EIO);
        return;
    }
    seg->file = open->ret_file;
    seg->file_state = SEGMENT_FILE_OPEN;
    seg->plog->store->open_sealed_n++;
    if (!seg->size_known) {
        seg->end_pos = seg->queued_pos = seg->stable_pos = seg->destaged_pos = open->ret_size_bytes;
        seg->size_known = true;
    }
    if (op->res == 0 && op->steps_n == 3)
        on_index_read(load);
    free(load->steps[1].ret_data);
    free(load->steps[2].ret_data);
    if (seg->index_complete)
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

/* Begins when it can; a segment that is not sealed gets its file from the write path. */
static bool load_begin(struct segment *seg)
{
    if (seg->state != SEGMENT_SEALED && seg->on_disk && seg->file == NULL) {
        seg_file_want(seg);
        return false;
    }
    if (seg->file_state == SEGMENT_FILE_OPENING)
        return false;
    struct seg_load *load = calloc(1, sizeof(*load));
    if (load == NULL)
        return false;
    load->seg = seg;
    seg->load = load;
    plog_hold(seg->plog);
    seg_file_hold(seg);
    if (seg->file == NULL && seg->on_disk)
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
        bool hopeless =
            seg->plog->removed || (seg->plog->fenced != 0 && seg->file == NULL && seg->on_disk);
        if (seg_loaded(seg) || hopeless) { /* the write path was faster, or has failed */
            waiters_run(seg, hopeless ? -EIO : 0);
            return; /* the list may have changed */
        }
        if (load_begin(seg))
            list_remove(&seg->load_link);
    }
}
