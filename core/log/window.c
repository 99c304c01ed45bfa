/* window.c: pieces of segments in the memory of disk reads, shared by all who read there.
 *
 * Happy path: a reader finds the window that holds its position, or opens one, which reads the
 *   device, and waits for it. It references the window as long as its bytes are on their way. What
 *   is verified once is not verified again for the next reader. Who reads on where a read has ended
 *   gets larger windows, and the next one read ahead; its neighbours on the same way find them.
 * Bounded: by the memory of disk reads. A window in which a reader is to go on is wanted, also
 *   between its reads, for a second. Others that nobody references are a small cache, the one used
 *   longest ago goes first. Read ahead is only while half of the memory is free or such a cache.
 * Failure: a window that cannot be read is forgotten, and all who wait for it are told.
 * Ownership: a window belongs to the store's list, its references and the read in flight; forgotten
 *   by the list it is freed with the last of these.
 * Threads: the shard's. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#define WINDOW_BYTES_MAX (4u * 1024u * 1024u) /* ahead of a reader */
#define WINDOW_BYTES_MIN (64u * 1024u)
#define WINDOW_MEMORY_SHARE 16u /* ... and no more than this part of the memory */
/* Kept for those who come behind. More costs all others: memory that has just been used is still in
 * the processor's cache when it is read into again. */
#define CACHE_BYTES_MAX (12u * 1024u * 1024u)
#define WANTED_NS 1000000000ull /* a reader that has not come back by then may never do so */
#define MEMORY_WAIT_NS 50000000ull

static uint64_t window_bytes_max(const struct log_store *s)
{
    uint64_t share = s->config.read_memory->size_bytes / WINDOW_MEMORY_SHARE;
    return MAX(MIN(block_floor(share), (uint64_t)WINDOW_BYTES_MAX), (uint64_t)WINDOW_BYTES_MIN);
}

static bool window_is_idle(const struct read_window *w)
{
    return w->refs == 0 && !w->busy;
}

static bool window_is_cache(const struct read_window *w)
{
    return window_is_idle(w) && !w->wanted && list_linked(&w->link);
}

static uint64_t window_memory_bytes(const struct read_window *w)
{
    return w->fetch.buf == NULL ? 0 : buddy_round(block_ceil(w->end_pos) - w->fetch.from_pos);
}

static void window_free(struct read_window *w)
{
    ASSERT(window_is_idle(w));
    list_remove(&w->link);
    seg_fetch_free(&w->fetch);
    free(w);
}

void window_forget(struct read_window *w)
{
    if (window_is_cache(w))
        w->store->windows_cache_bytes -= window_memory_bytes(w);
    list_remove(&w->link);
    if (window_is_idle(w))
        window_free(w);
}

/* Gives one up that nobody uses: of the cache or, if need be, one that is wanted. */
static bool evict_one(struct log_store *s)
{
    struct read_window *wanted = NULL;
    for (struct list_node *it = s->windows.prev; it != &s->windows; it = it->prev) {
        struct read_window *w = container_of(it, struct read_window, link);
        if (window_is_cache(w)) {
            window_forget(w);
            return true;
        }
        if (wanted == NULL && window_is_idle(w))
            wanted = w;
    }
    if (wanted != NULL)
        window_forget(wanted);
    return wanted != NULL;
}

static void window_cache(struct read_window *w)
{
    struct log_store *s = w->store;
    w->wanted = false;
    s->windows_cache_bytes += window_memory_bytes(w);
    while (s->windows_cache_bytes > CACHE_BYTES_MAX)
        evict_one(s);
}

/* Nobody has read on there for long. What that evicts from the cache is never nearer to the head.
 */
static void expire_wanted(struct log_store *s)
{
    uint64_t now_ns = env_now_ns(s->env);
    for (struct list_node *it = s->windows.prev, *prev; it != &s->windows; it = prev) {
        struct read_window *w = container_of(it, struct read_window, link);
        prev = it->prev;
        if (now_ns - w->used_ns < WANTED_NS)
            return;
        if (window_is_idle(w) && w->wanted)
            window_cache(w);
    }
}

/* What somebody else could have. */
uint64_t windows_free_bytes(struct log_store *s)
{
    expire_wanted(s);
    return s->config.read_memory->free_bytes + s->windows_cache_bytes;
}

static bool memory_is_ample(struct log_store *s)
{
    return list_empty(&s->disk_waiters) &&
           windows_free_bytes(s) >= s->config.read_memory->size_bytes / 2;
}

/* Nothing was taken of it yet, or somebody's last read ended in it. */
static bool window_is_wanted(const struct read_window *w)
{
    const struct plog *p = w->fetch.seg->plog;
    if (w->good_to == 0)
        return true;
    for (unsigned i = 0; i < PLOG_READ_ENDS; i++) {
        const struct read_end *end = &p->read_ends[i];
        if (end->offset > 0 && end->segment == w->fetch.seg->base_offset &&
            end->pos >= w->from_pos && end->pos < w->end_pos)
            return true;
    }
    return false;
}

void window_ref(struct read_window *w)
{
    if (window_is_cache(w))
        w->store->windows_cache_bytes -= window_memory_bytes(w);
    w->refs++;
}

void window_unref(struct read_window *w)
{
    ASSERT(w->refs > 0);
    w->refs--;
    if (!window_is_idle(w))
        return;
    w->wanted = list_linked(&w->link) && window_is_wanted(w);
    if (!list_linked(&w->link))
        window_free(w);
    else if (!w->wanted)
        window_cache(w);
}

void windows_forget(struct segment *seg)
{
    list_for_each_safe(it, next, &seg->plog->store->windows) {
        struct read_window *w = container_of(it, struct read_window, link);
        if (w->fetch.seg == seg)
            window_forget(w);
    }
}

void windows_fini(struct log_store *s)
{
    for (struct list_node *it; (it = list_head(&s->windows)) != NULL;)
        window_forget(container_of(it, struct read_window, link));
}

void *read_memory_alloc(struct log_store *s, uint64_t bytes)
{
    void *p;
    while ((p = buddy_alloc(s->config.read_memory, bytes)) == NULL)
        if (!evict_one(s))
            return NULL;
    return p;
}

struct read_window *window_find(const struct segment *seg, uint64_t pos)
{
    struct log_store *s = seg->plog->store;
    list_for_each(it, &s->windows) {
        struct read_window *w = container_of(it, struct read_window, link);
        if (w->fetch.seg != seg || pos < w->from_pos || pos >= w->end_pos)
            continue;
        list_remove(&w->link);
        list_push_head(&s->windows, &w->link);
        w->used_ns = env_now_ns(s->env);
        return w;
    }
    return NULL;
}

const uint8_t *window_data(const struct read_window *w, uint64_t pos)
{
    ASSERT(!w->busy);
    ASSERT(pos >= w->from_pos && pos <= w->end_pos);
    return w->fetch.buf + (pos - w->fetch.from_pos);
}

/* ---- reading ---- */

static void on_window_read(struct seg_fetch *f)
{
    struct read_window *w = container_of(f, struct read_window, fetch);
    struct log_store *s = w->store;
    struct list_node due;
    list_init(&due);
    list_splice_tail(&due, &w->waiters);
    w->busy = false;
    w->refs++; /* this function */
    s->windows_busy_n--;
    if (f->rc != 0)
        window_forget(w);
    else
        w->end_pos = f->end_pos;
    for (struct list_node *it; (it = list_pop_head(&due)) != NULL;) {
        struct window_waiter *waiter = container_of(it, struct window_waiter, link);
        waiter->run(waiter, f->rc);
    }
    window_unref(w);
}

/* The end of a window that begins at pos: the last boundary of batches that is known within so many
 * bytes; at least the first one behind pos. */
static uint64_t window_end(const struct segment *seg, uint64_t pos, uint64_t bytes)
{
    uint64_t visible = seg_visible_pos(seg), limit = block_floor(pos) + bytes;
    if (limit >= visible)
        return visible;
    uint64_t end = seg_index_find_pos(seg, limit);
    return end > pos ? end : MIN(seg_index_next_pos(seg, pos), visible);
}

static struct read_window *window_create(struct segment *seg, uint64_t pos, uint64_t end_pos)
{
    struct log_store *s = seg->plog->store;
    struct read_window *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return NULL;
    w->store = s;
    w->from_pos = pos;
    w->end_pos = end_pos;
    w->used_ns = env_now_ns(s->env);
    w->busy = true;
    w->fetch.seg = seg;
    list_init(&w->waiters);
    list_push_head(&s->windows, &w->link);
    s->windows_busy_n++;
    return w;
}

struct read_window *window_open(struct segment *seg, uint64_t pos, const struct window_want *want)
{
    struct log_store *s = seg->plog->store;
    uint64_t round = MAX(want->bytes, (uint64_t)WINDOW_BYTES_MIN);
    if (want->sequential && memory_is_ample(s))
        round = MAX(round, window_bytes_max(s));
    uint64_t least = MIN(pos + want->least_bytes, seg_visible_pos(seg));
    uint64_t end = MAX(window_end(seg, pos, round), least);
    struct read_window *w = window_create(seg, pos, end);
    if (w == NULL)
        return NULL;
    w->fetch.give_up_ns = env_now_ns(s->env) + MEMORY_WAIT_NS;
    seg_fetch_start(&w->fetch, seg, pos, end - pos, on_window_read);
    return w;
}

void window_wait(struct read_window *w, struct window_waiter *waiter)
{
    ASSERT(w->busy);
    list_push_tail(&w->waiters, &waiter->link);
}

void window_ahead(struct segment *seg, uint64_t pos)
{
    struct log_store *s = seg->plog->store;
    struct segment *next = pos < seg_visible_pos(seg) ? seg : segment_next(seg);
    if (next != seg)
        pos = 0;
    if (next == NULL || !seg_loaded(next) || pos >= seg_visible_pos(next) || !memory_is_ample(s) ||
        seg_chunk_at(next, pos) != NULL || window_find(next, pos) != NULL)
        return;
    window_open(next, pos, &(struct window_want){.sequential = true});
}

int window_verify(struct read_window *w, const struct seg_cursor *c, struct batch_header *ret)
{
    const uint8_t *data = window_data(w, c->pos);
    uint64_t avail = w->end_pos - c->pos;
    int rc = seg_cursor_peek(c, data, avail, ret);
    if (rc != 0)
        return rc;
    if (c->pos >= w->good_from && c->pos + ret->len_bytes <= w->good_to)
        return 0;
    rc = seg_cursor_verify(c, data, avail, ret);
    if (rc != 0)
        return rc;
    if (c->pos != w->good_to)
        w->good_from = c->pos;
    w->good_to = c->pos + ret->len_bytes;
    seg_note_good(c->seg, c->pos, w->good_to);
    return 0;
}
