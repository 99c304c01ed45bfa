/* fetch.c: a contiguous copy of a piece of a segment: what is in the file by direct read, what is
 * only in memory by copy. For reads that are not hot, and for look-ups by time. */
#include "core/log/internal.h"

#include <errno.h>
#include <string.h>

#include "core/base/logger.h"

/* Up to where readers may look. */
uint64_t seg_visible_pos(const struct segment *seg)
{
    return seg->plog->config.write_caching ? seg->end_pos : seg->stable_pos;
}

void seg_fetch_free(struct seg_fetch *f)
{
    if (f->buf != NULL)
        buddy_free(f->memory, f->buf);
    f->buf = NULL;
}

static void fetch_end(struct seg_fetch *f, int rc)
{
    struct segment *seg = f->seg;
    struct plog *p = seg->plog;
    f->rc = rc;
    if (rc < 0)
        seg_fetch_free(f);
    f->on_done(f);         /* may read on from the same file */
    seg_file_release(seg); /* so not before */
    plog_unhold(p);
}

static bool fetch_try(struct seg_fetch *f);

/* Memory always holds what is not destaged; if some was destaged and evicted since the read began,
 * it is in the file now. */
static void fetch_memory_part(struct seg_fetch *f)
{
    uint64_t pos = f->disk_end_pos;
    while (pos < f->end_pos) {
        uint32_t piece = (uint32_t)MIN(f->end_pos - pos, (uint64_t)BLOCK_BYTES);
        if (!seg_peek(f->seg, pos, f->buf + (pos - f->from_pos), piece))
            break;
        pos += piece;
    }
    if (pos == f->end_pos) {
        fetch_end(f, 0);
        return;
    }
    seg_fetch_free(f);
    if (!fetch_try(f))
        list_push_tail(&f->seg->plog->store->disk_waiters, &f->link);
}

/* Said once: whoever reads asks again and again. */
void seg_read_failed(struct segment *seg, uint64_t pos, const char *why)
{
    if (!seg->unreadable)
        log_error("%s: reading %020lld.log at position %llu failed (%s)", seg->plog->name,
                  (long long)seg->base_offset, (unsigned long long)pos, why);
    seg->unreadable = true;
}

/* What the device cannot read, and what a file that was cut no longer has, comes as zeros: whoever
 * verifies will know. */
static void on_fetch_read(struct around *a)
{
    struct seg_fetch *f = container_of(a, struct seg_fetch, around);
    uint64_t want = f->disk_end_pos - f->from_pos;
    if (a->rc < 0) {
        seg_read_failed(f->seg, f->from_pos, strerror(-a->rc));
        fetch_end(f, a->rc);
        return;
    }
    if ((uint64_t)a->rc < want)
        memset(f->buf + a->rc, 0, want - (uint64_t)a->rc);
    f->seg->unreadable = false;
    fetch_memory_part(f);
}

static void on_fetch_nothing(struct env_op *op)
{
    fetch_memory_part(container_of(op, struct seg_fetch, op));
}

static bool fetch_try(struct seg_fetch *f)
{
    struct segment *seg = f->seg;
    struct log_store *s = seg->plog->store;
    uint64_t end = MIN(f->want_pos + f->want_bytes, seg_visible_pos(seg));
    if (end <= f->want_pos) { /* an index knows more than is visible, and perhaps ever will be */
        f->from_pos = f->disk_end_pos = f->end_pos = f->want_pos;
        env_names(s->env, &f->op, NULL, 0, on_fetch_nothing);
        return true;
    }
    f->from_pos = block_floor(f->want_pos);
    f->end_pos = end;
    f->memory = s->config.read_memory;
    f->buf = read_memory_alloc(s, block_ceil(end) - f->from_pos);
    if (f->buf == NULL)
        return false;
    uint64_t in_file = seg->state == SEGMENT_SEALED ? seg->end_pos : seg->destaged_pos;
    f->disk_end_pos = MAX(MIN(end, in_file), f->from_pos);
    f->op = (struct env_op){0};
    if (f->disk_end_pos > f->from_pos) {
        counter_add(&s->counters.reads_disk, 1);
        counter_add(&s->counters.disk_read_bytes, f->disk_end_pos - f->from_pos);
        around_read(s->env, &f->around, seg->file, f->buf,
                    block_ceil(f->disk_end_pos) - f->from_pos, f->from_pos, on_fetch_read);
    } else {
        /* All in memory; still answer from the loop, so that callers see one order of events. */
        env_names(s->env, &f->op, NULL, 0, on_fetch_nothing);
    }
    return true;
}

/* f->on_done later, with f->rc and, on success, [from_pos, end_pos) in buf: at least as much as was
 * wanted or as is visible. Waits for memory. The segment must be loaded. */
void seg_fetch_start(struct seg_fetch *f, struct segment *seg, uint64_t pos, uint64_t want_bytes,
                     void (*on_done)(struct seg_fetch *f))
{
    struct log_store *s = seg->plog->store;
    f->seg = seg;
    f->want_pos = pos;
    f->want_bytes = want_bytes;
    f->on_done = on_done;
    plog_hold(seg->plog);
    seg_file_hold(seg);
    if (!list_empty(&s->disk_waiters) || !fetch_try(f))
        list_push_tail(&s->disk_waiters, &f->link);
}

/* Nothing will give these memory any more. */
void fetch_fail_all(struct log_store *s)
{
    for (struct list_node *it; (it = list_pop_head(&s->disk_waiters)) != NULL;)
        fetch_end(container_of(it, struct seg_fetch, link), -EIO);
}

/* Whoever waits may hold memory of other reads (a fetch of many partitions): a bounded wait for all
 * but those who hold none. */
static void fetch_give_up(struct log_store *s)
{
    uint64_t now = env_now_ns(s->env);
    struct list_node due;
    list_init(&due);
    list_for_each_safe(it, next, &s->disk_waiters) {
        struct seg_fetch *f = container_of(it, struct seg_fetch, link);
        if (f->give_up_ns == 0 || f->give_up_ns > now)
            continue;
        list_remove(&f->link);
        list_push_tail(&due, &f->link);
    }
    for (struct list_node *it; (it = list_pop_head(&due)) != NULL;)
        fetch_end(container_of(it, struct seg_fetch, link), -EAGAIN);
}

void fetch_pump(struct log_store *s)
{
    for (struct list_node *it; (it = list_head(&s->disk_waiters)) != NULL;) {
        struct seg_fetch *f = container_of(it, struct seg_fetch, link);
        list_remove(&f->link);
        if (block_ceil(f->want_bytes) + BLOCK_BYTES > s->config.read_memory->size_bytes) {
            fetch_end(f, -EIO); /* written with more memory than there is now */
            continue;
        }
        if (!fetch_try(f)) {
            list_push_head(&s->disk_waiters, &f->link);
            fetch_give_up(s);
            return;
        }
    }
}
