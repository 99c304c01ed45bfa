/* scrub.c: reads sealed segments in the background and tells of damage before a consumer meets it.
 *
 * Happy path: a pass takes the partitions one by one and their sealed segments in order; each is
 *   opened with a file of the scrub's own and read from its start, one read in flight, so many
 *   bytes a second; every batch is checked (header, offsets, CRC) piece by piece, so a batch needs
 *   no memory of its size. Then it rests until the interval since its beginning is over.
 * Failure: a damaged stretch is a line in the log, with the offsets lost, and a counter; the
 *   segment is served on, for reads verify what they serve. A legible batch with a wrong CRC is
 *   skipped by its length; where no header can be read, what follows is scanned byte by byte for a
 *   batch with a right CRC and an offset that can still come. Blocks that cannot be read are
 *   narrowed down by reading again block by block.
 * Stands back: no read while others wait for read memory, or while less than half of it is free.
 * Ownership: partition and segment are held while an operation is in flight, and only then: between
 *   two of them the partition may be deleted, which is found out by its number.
 * Threads: the shard's. */
#include "core/log/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/batch/format.h"
#include "core/batch/scan.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define SCRUB_READ_BYTES (256u * 1024u)
#define SCRUB_SCAN_BYTES (64u * 1024u) /* a scan may check many candidates in each */
#define SCRUB_FIRST_PASS_MS 60000u     /* after a start there is other work */
#define SCRUB_RETRY_NS (100 * NS_PER_MS)
#define SCRUB_LINES_MAX 64u /* of one segment */

enum scrub_trust {
    SCRUB_CHAINED,  /* pos is where the batch before ends */
    SCRUB_SKIPPED,  /* pos is where a damaged batch says that it ends */
    SCRUB_SCANNING, /* pos may be anywhere in a batch */
};
struct scrub_walk { /* through the batches of one segment */
    enum scrub_trust trust;
    uint64_t pos;     /* of the batch being checked */
    uint64_t end_pos; /* of the segment */
    bool begun;       /* h is known, and crc up to crc_pos */
    struct batch_header h;
    uint64_t crc_pos;
    uint32_t crc;
    int64_t next_offset; /* behind the last good batch */
    int64_t end_offset;
    int64_t floor_offset; /* the lowest that can come; below next_offset only while in doubt */
    bool lost;            /* damaged from lost_pos on */
    uint64_t lost_pos;
    /* Base offsets are outside the CRC. Where the last batch does not follow the one before it by
     * its base, that may be wrong: the next batch tells. */
    bool doubt, doubt_lost; /* lost: there was damage before it, else only a gap */
    uint64_t doubt_from, doubt_pos;
    int64_t doubt_first, doubt_base; /* the offsets that are missing, if the base is right */
};
struct scrub {
    struct log_store *store;
    struct env_op op;
    struct env_name_step step;
    char path[PATH_MAX];
    bool busy; /* an operation is in flight */
    bool stopped;
    struct segment *seg; /* of that operation; held */
    uint64_t next_ns;    /* nothing is done before */
    uint32_t read_bytes;
    /* the pass */
    bool passing;
    uint64_t began_ns, began_bytes, began_damages;
    uint64_t *numbers; /* the partitions that there were at its beginning */
    size_t numbers_n, numbers_at;
    int64_t base_offset; /* segments of the partition below this one are done */
    /* the segment */
    struct env_file *file; /* NULL: none is open */
    uint64_t file_number;  /* whose it is */
    int64_t file_base;
    unsigned lines;
    struct scrub_walk walk;
    uint64_t by_block_pos; /* read block by block up to here */
    uint8_t *buf;          /* of read_memory, while a read is in flight */
    uint64_t buf_pos, buf_bytes;
};

/* ---- what is found ---- */

/* [from, to) of the segment is damaged: the offsets from first up to next are lost. */
static void damage_found(struct scrub *c, uint64_t from, uint64_t to, int64_t first, int64_t next)
{
    const char *name = c->seg->plog->name;
    counter_add(&c->store->counters.scrub_damages, 1);
    if (c->lines++ >= SCRUB_LINES_MAX)
        return;
    if (first >= next)
        log_error("%s: scrub: %s is damaged from byte %" PRIu64 " to %" PRIu64
                  ", no offset is lost",
                  name, c->path, from, to);
    else if (to < c->walk.end_pos)
        log_error("%s: scrub: %s is damaged from byte %" PRIu64 " to %" PRIu64 ": offsets %" PRId64
                  " to %" PRId64 " are lost, the next good one is %" PRId64,
                  name, c->path, from, to, first, next - 1, next);
    else
        log_error("%s: scrub: %s is damaged from byte %" PRIu64 " to its end at %" PRIu64
                  ": offsets %" PRId64 " to %" PRId64 " are lost",
                  name, c->path, from, to, first, next - 1);
}

/* ---- the walk: decides on one batch after the other ---- */

static void walk_begin(struct scrub_walk *w, const struct segment *seg, uint64_t file_bytes)
{
    *w = (struct scrub_walk){
        .end_pos = seg->size_known ? MIN(seg->end_pos, file_bytes) : file_bytes,
        .next_offset = seg->base_offset,
        .floor_offset = seg->base_offset,
        .end_offset = seg->end_offset,
    };
}

static struct batch_scan walk_bounds(const struct scrub_walk *w)
{
    return (struct batch_scan){
        .first_offset = w->floor_offset,
        .end_offset = w->end_offset,
        .max_bytes = (uint32_t)MIN(w->end_pos - w->pos, (uint64_t)INT32_MAX),
    };
}

static void walk_lose(struct scrub_walk *w)
{
    if (!w->lost)
        w->lost_pos = w->pos;
    w->lost = true;
}

/* There is no header at pos. */
static void walk_illegible(struct scrub_walk *w)
{
    walk_lose(w);
    w->pos = w->lost_pos + 1; /* behind a skip: the length that led here may be what is wrong */
    w->trust = SCRUB_SCANNING;
}

/* The batch at pos has a header, but its bytes are wrong or cannot be read. */
static void walk_bad(struct scrub_walk *w)
{
    walk_lose(w);
    w->begun = false;
    w->pos += w->trust == SCRUB_SCANNING ? 1 : w->h.len_bytes;
    if (w->trust == SCRUB_CHAINED)
        w->trust = SCRUB_SKIPPED;
}

/* The base of the batch in doubt is right. */
static void doubt_settle(struct scrub *c)
{
    struct scrub_walk *w = &c->walk;
    if (w->doubt && w->doubt_lost)
        damage_found(c, w->doubt_from, w->doubt_pos, w->doubt_first, w->doubt_base);
    w->doubt = false;
}

/* Whether this batch shows that the base of the one in doubt is wrong. */
static bool doubt_confirmed(const struct scrub_walk *w, int64_t base)
{
    if (!w->doubt || base == w->next_offset)
        return false;
    return base < w->next_offset || (w->doubt_lost && !w->lost);
}

static void walk_good(struct scrub *c)
{
    struct scrub_walk *w = &c->walk;
    int64_t base = w->h.base_offset, records = (int64_t)w->h.last_offset_delta + 1;
    if (doubt_confirmed(w, base)) {
        damage_found(c, w->doubt_from, w->pos, w->doubt_first, base);
        w->doubt = false;
    } else {
        doubt_settle(c);
        w->doubt = w->lost || base > w->next_offset;
        w->doubt_lost = w->lost;
        w->doubt_from = w->lost ? w->lost_pos : w->pos;
        w->doubt_pos = w->pos;
        w->doubt_first = w->next_offset;
        w->doubt_base = base;
    }
    w->floor_offset = (w->doubt ? w->doubt_first : base) + records;
    w->next_offset = base + records;
    w->pos += w->h.len_bytes;
    w->trust = SCRUB_CHAINED;
    w->lost = w->begun = false;
}

static void walk_begin_crc(struct scrub_walk *w)
{
    w->begun = true;
    w->crc = 0;
    w->crc_pos = w->pos + AT_ATTRIBUTES;
}

/* These three take what have_bytes at data say of pos; false: more bytes must come. */

static bool walk_header(struct scrub_walk *w, const uint8_t *data, uint64_t have_bytes)
{
    bool cut = have_bytes < BATCH_HEADER_BYTES;
    struct batch_scan bounds = walk_bounds(w);
    if (cut && w->pos + have_bytes < w->end_pos)
        return false;
    if (cut || batch_peek(data, have_bytes, &w->h) != 0 || !batch_header_plausible(&bounds, &w->h))
        walk_illegible(w);
    else
        walk_begin_crc(w);
    return true;
}

static bool walk_scan(struct scrub *c, const uint8_t *data, uint64_t have_bytes)
{
    struct scrub_walk *w = &c->walk;
    struct batch_scan bounds = walk_bounds(w);
    size_t at;
    if (have_bytes < BATCH_HEADER_BYTES) {
        if (w->pos + have_bytes < w->end_pos)
            return false;
        w->pos = w->end_pos;
        return true;
    }
    int rc = batch_scan_next(&bounds, data, have_bytes, 0, &at, &w->h);
    w->pos += at;
    if (rc == 0)
        walk_good(c);
    else if (rc == -EAGAIN && w->h.len_bytes > w->end_pos - w->pos)
        w->pos++;
    else if (rc == -EAGAIN)
        walk_begin_crc(w);
    return true;
}

static bool walk_crc(struct scrub *c, const uint8_t *data, uint64_t have_bytes)
{
    struct scrub_walk *w = &c->walk;
    uint64_t rest = w->pos + w->h.len_bytes - w->crc_pos, take = MIN(rest, have_bytes);
    w->crc = crc32c_extend(w->crc, data, take);
    w->crc_pos += take;
    if (take < rest)
        return false;
    if (w->crc == w->h.crc)
        walk_good(c);
    else
        walk_bad(w);
    return true;
}

static uint64_t walk_wants_pos(const struct scrub_walk *w)
{
    return w->begun ? w->crc_pos : w->pos;
}

static bool walk_over(const struct scrub_walk *w)
{
    return w->pos >= w->end_pos;
}

/* data holds [from, to) of the segment. */
static void walk_feed(struct scrub *c, const uint8_t *data, uint64_t from, uint64_t to)
{
    struct scrub_walk *w = &c->walk;
    bool go_on = true;
    while (go_on && !walk_over(w)) {
        uint64_t at = walk_wants_pos(w);
        if (at < from || at >= to)
            return;
        if (w->begun)
            go_on = walk_crc(c, data + (at - from), to - at);
        else if (w->trust == SCRUB_SCANNING)
            go_on = walk_scan(c, data + (at - from), MIN(to - at, (uint64_t)SCRUB_SCAN_BYTES));
        else
            go_on = walk_header(w, data + (at - from), to - at);
    }
}

/* The block at block_pos, or the one behind it in which a header at pos ends, cannot be read. */
static void walk_unreadable(struct scrub_walk *w, uint64_t block_pos)
{
    if (w->begun) {
        walk_bad(w);
        return;
    }
    walk_lose(w);
    w->pos = block_pos + BLOCK_BYTES;
    w->trust = SCRUB_SCANNING;
}

static void walk_end(struct scrub *c)
{
    struct scrub_walk *w = &c->walk;
    doubt_settle(c);
    if (w->lost || w->next_offset < w->end_offset)
        damage_found(c, w->lost ? w->lost_pos : w->end_pos, w->end_pos, w->next_offset,
                     w->end_offset);
    if (c->lines == 0)
        seg_note_good(c->seg, 0, w->end_pos);
    if (c->lines > SCRUB_LINES_MAX)
        log_error("%s: scrub: %s has %u more damaged places", c->seg->plog->name, c->path,
                  c->lines - SCRUB_LINES_MAX);
}

/* ---- the segment ---- */

static void segment_hold(struct scrub *c, struct segment *seg)
{
    c->seg = seg;
    c->busy = true;
    plog_hold(seg->plog);
    seg_file_hold(seg);
}

static void segment_let_go(struct scrub *c)
{
    struct plog *p = c->seg->plog;
    seg_file_release(c->seg);
    c->seg = NULL;
    c->busy = false;
    plog_unhold(p);
}

static void file_close(struct scrub *c)
{
    if (c->file != NULL)
        env_file_close(c->store->env, c->file);
    c->file = NULL;
}

static void segment_done(struct scrub *c)
{
    c->base_offset = c->file_base + 1;
    file_close(c);
}

static void segment_done_if_over(struct scrub *c)
{
    if (!walk_over(&c->walk))
        return;
    walk_end(c);
    segment_done(c);
}

static void open_failed(struct scrub *c, int rc)
{
    if (rc == -EMFILE || rc == -ENFILE) { /* says nothing about the segment */
        c->next_ns = env_now_ns(c->store->env) + SCRUB_RETRY_NS;
        return;
    }
    counter_add(&c->store->counters.scrub_damages, 1);
    log_error("%s: scrub: %s cannot be opened: %s", c->seg->plog->name, c->path, strerror(-rc));
    segment_done(c);
}

static void on_opened(struct env_op *op)
{
    struct scrub *c = container_of(op, struct scrub, op);
    struct segment *seg = c->seg;
    c->file = c->step.ret_file;
    if (seg->plog->removed || c->stopped) {
        file_close(c);
    } else if (op->res < 0) {
        open_failed(c, op->res);
    } else {
        walk_begin(&c->walk, seg, c->step.ret_size_bytes);
        segment_done_if_over(c);
    }
    segment_let_go(c);
}

static void segment_open(struct scrub *c, struct segment *seg)
{
    file_close(c);
    c->file_number = seg->plog->number;
    c->file_base = seg->base_offset;
    c->lines = 0;
    c->by_block_pos = 0;
    c->step = (struct env_name_step){.kind = ENV_STEP_OPEN,
                                     .path = segment_path(seg, ".log", c->path, sizeof(c->path))};
    segment_hold(c, seg);
    env_names(c->store->env, &c->op, &c->step, 1, on_opened);
}

static void read_take(struct scrub *c, int res)
{
    struct scrub_walk *w = &c->walk;
    uint64_t to = MIN(c->buf_pos + c->buf_bytes, w->end_pos);
    if (res < 0 && c->buf_bytes > 2 * BLOCK_BYTES) {
        c->by_block_pos = c->buf_pos + c->buf_bytes;
    } else if (res < 0) {
        walk_unreadable(w, c->buf_pos);
    } else {
        counter_add(&c->store->counters.scrub_bytes, (uint64_t)res);
        if (c->buf_pos + (uint64_t)res < to) /* the file has been cut */
            to = w->end_pos = c->buf_pos + (uint64_t)res;
        walk_feed(c, c->buf, c->buf_pos, to);
    }
    segment_done_if_over(c);
}

static void on_read(struct env_op *op)
{
    struct scrub *c = container_of(op, struct scrub, op);
    if (!c->seg->plog->removed && !c->stopped)
        read_take(c, op->res);
    buddy_free(c->store->config.read_memory, c->buf);
    c->buf = NULL;
    segment_let_go(c);
}

static uint64_t read_length(const struct scrub *c)
{
    const struct scrub_walk *w = &c->walk;
    uint64_t at = walk_wants_pos(w), from = block_floor(at);
    uint64_t most = block_ceil(w->end_pos) - from;
    uint64_t least = block_ceil(at + (w->begun ? 1 : BATCH_HEADER_BYTES)) - from;
    if (at < c->by_block_pos)
        return MIN(least, most);
    uint64_t usual = w->lost ? MIN(c->read_bytes, SCRUB_SCAN_BYTES) : c->read_bytes;
    return MIN(MAX(usual, least), most);
}

static void segment_read(struct scrub *c, struct segment *seg, uint64_t now)
{
    struct log_store *s = c->store;
    c->buf_pos = block_floor(walk_wants_pos(&c->walk));
    c->buf_bytes = read_length(c);
    c->buf = read_memory_alloc(s, c->buf_bytes);
    if (c->buf == NULL) {
        c->next_ns = now + SCRUB_RETRY_NS;
        return;
    }
    c->next_ns = now + c->buf_bytes * NS_PER_S / s->config.scrub_bytes_per_second;
    segment_hold(c, seg);
    env_read(s->env, &c->op, c->file, c->buf, c->buf_bytes, c->buf_pos, on_read);
}

/* ---- the pass ---- */

static void pass_begin(struct scrub *c, uint64_t now)
{
    struct log_store *s = c->store;
    struct plog *p;
    c->numbers_n = c->numbers_at = 0;
    c->numbers = malloc(MAX(s->plogs.count, (size_t)1) * sizeof(*c->numbers));
    if (c->numbers == NULL) {
        c->next_ns = now + SCRUB_RETRY_NS;
        return;
    }
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        c->numbers[c->numbers_n++] = p->number;
    c->passing = true;
    c->base_offset = INT64_MIN;
    c->began_ns = now;
    c->began_bytes = s->counters.scrub_bytes;
    c->began_damages = s->counters.scrub_damages;
}

static void pass_end(struct scrub *c, uint64_t now)
{
    struct log_store *s = c->store;
    uint64_t bytes = s->counters.scrub_bytes - c->began_bytes;
    uint64_t damages = s->counters.scrub_damages - c->began_damages;
    free(c->numbers);
    c->numbers = NULL;
    c->passing = false;
    c->next_ns = MAX(now, c->began_ns) + s->config.scrub_interval_ms * NS_PER_MS;
    counter_add(&s->counters.scrub_passes, 1);
    if (bytes > 0 || damages > 0)
        log_info("shard %u: scrub: %" PRIu64 " bytes of sealed segments read in %" PRIu64
                 " s, %" PRIu64 " damaged places",
                 s->journal.id, bytes, (now - c->began_ns) / NS_PER_S, damages);
}

/* The sealed segment to go on with; NULL: the pass is over. */
static struct segment *pass_segment(struct scrub *c)
{
    for (; c->numbers_at < c->numbers_n; c->numbers_at++, c->base_offset = INT64_MIN) {
        struct plog *p = log_store_find(c->store, c->numbers[c->numbers_at]);
        if (p == NULL || p->offline)
            continue;
        list_for_each(it, &p->segments) {
            struct segment *seg = container_of(it, struct segment, link);
            if (seg->state == SEGMENT_SEALED && seg->base_offset >= c->base_offset)
                return seg;
        }
    }
    return NULL;
}

static bool others_first(struct log_store *s)
{
    return !list_empty(&s->disk_waiters) ||
           windows_free_bytes(s) < s->config.read_memory->size_bytes / 2;
}

static void pass_step(struct scrub *c, uint64_t now)
{
    struct segment *seg = pass_segment(c);
    if (seg == NULL) {
        file_close(c);
        pass_end(c, now);
    } else if (others_first(c->store) || seg->replacing) {
        c->next_ns = now + SCRUB_RETRY_NS;
    } else if (c->file != NULL && c->file_number == seg->plog->number &&
               c->file_base == seg->base_offset) {
        segment_read(c, seg, now);
    } else {
        segment_open(c, seg);
    }
}

void scrub_pump(struct log_store *s)
{
    struct scrub *c = s->scrub;
    if (c == NULL || c->busy || c->stopped)
        return;
    if (c->file != NULL && log_store_find(s, c->file_number) == NULL)
        file_close(c); /* its space is free only then */
    uint64_t now = env_now_ns(s->env);
    if (now < c->next_ns)
        return;
    if (!c->passing)
        pass_begin(c, now);
    if (c->passing)
        pass_step(c, now);
}

uint64_t scrub_deadline_ns(const struct log_store *s)
{
    const struct scrub *c = s->scrub;
    return c == NULL || c->busy || c->stopped ? UINT64_MAX : c->next_ns;
}

bool scrub_busy(const struct log_store *s)
{
    return s->scrub != NULL && s->scrub->busy;
}

/* ---- life ---- */

static uint32_t read_bytes_for(const struct buddy *memory)
{
    uint32_t bytes = SCRUB_READ_BYTES;
    while (bytes > 2 * BLOCK_BYTES && bytes > memory->size_bytes / 16)
        bytes /= 2;
    return bytes;
}

int scrub_open(struct log_store *s)
{
    if (s->config.scrub_bytes_per_second == 0)
        return 0;
    struct scrub *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->store = s;
    c->read_bytes = read_bytes_for(s->config.read_memory);
    c->next_ns = env_now_ns(s->env) +
                 MIN(s->config.scrub_interval_ms, (uint64_t)SCRUB_FIRST_PASS_MS) * NS_PER_MS;
    s->scrub = c;
    return 0;
}

/* The segment goes: its file is not held open, and not read as what another makes of it. */
void scrub_forget(struct log_store *s, const struct segment *seg)
{
    struct scrub *c = s->scrub;
    if (c != NULL && c->file_number == seg->plog->number && c->file_base == seg->base_offset)
        file_close(c);
}

/* Starts nothing more; what is in flight ends by itself. */
void scrub_stop(struct log_store *s)
{
    if (s->scrub != NULL)
        s->scrub->stopped = true;
}

void scrub_fini(struct log_store *s)
{
    struct scrub *c = s->scrub;
    if (c == NULL)
        return;
    ASSERT(!c->busy);
    file_close(c);
    free(c->numbers);
    free(c);
    s->scrub = NULL;
}
