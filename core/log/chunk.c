/* chunk.c: the memory of segments: chunks that cover what is not yet in the file, and a cache of
 * what is, given up oldest first when memory runs short. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/stream_copy.h"

#define CHUNK_FAST_NS 1000000000ull /* filled faster than this: the next one is twice as large */
#define CHUNK_SLOW_NS 10000000000ull
#define STREAM_BYTES_MIN 4096 /* less is not worth waiting for the stores to drain */
#define UNFILLED_PART 8 /* with more of the memory waiting to be filled, chunks become smaller */

void chunk_ref(struct chunk *c)
{
    c->refs++;
}

static void chunk_free(struct chunk *c)
{
    struct log_store *s = c->store;
    ASSERT(c->refs == 0);
    list_remove(&c->link);
    list_remove(&c->clean_link);
    s->unfilled_bytes -= c->cap_bytes - c->fill_bytes;
    buddy_free_run(s->config.memory, c->block, (size_t)(c->data - c->block) + c->cap_bytes);
    s->memory_freed = true;
    free(c);
}

void chunk_unref(struct chunk *c)
{
    ASSERT(c->refs > 0);
    if (--c->refs > 0)
        return;
    c->store->memory_freed = true; /* it may be evicted, or shrunk */
    if (c->seg == NULL)
        chunk_free(c);
    else
        plog_tail_moved(c->seg->plog);
}

/* References of readers: they last for as long as a client likes. */
void chunk_lend(struct chunk *c)
{
    if (c->lent++ == 0)
        c->store->lent_bytes += c->cap_bytes;
    chunk_ref(c);
}

void chunk_return(struct chunk *c)
{
    ASSERT(c->lent > 0);
    if (--c->lent == 0)
        c->store->lent_bytes -= c->cap_bytes;
    chunk_unref(c);
}

/* Half of the memory is always for what is written; with the other half lent, readers get copies.
 */
uint64_t store_lend_room(const struct log_store *s)
{
    uint64_t half = s->config.memory->size_bytes / 2;
    return half - MIN(half, s->lent_bytes);
}

static void chunk_drop(struct chunk *c)
{
    if (c->refs == 0) {
        chunk_free(c);
        return;
    }
    list_remove(&c->link); /* its readers keep it */
    list_remove(&c->clean_link);
    c->seg = NULL;
}

void seg_drop_chunks(struct segment *seg)
{
    list_for_each_safe(it, next, &seg->chunks)
        chunk_drop(container_of(it, struct chunk, link));
}

static void chunk_filled(struct chunk *c, uint32_t fill_bytes)
{
    c->store->unfilled_bytes -= fill_bytes - c->fill_bytes;
    c->fill_bytes = fill_bytes;
}

/* Those before the newest that is marked are marked: they became clean no later. */
static struct list_node *first_unmarked(const struct segment *seg)
{
    struct list_node *it = seg->chunks.prev;
    while (it != &seg->chunks && !list_linked(&container_of(it, struct chunk, link)->clean_link))
        it = it->prev;
    return it->next;
}

void seg_mark_clean(struct segment *seg)
{
    struct log_store *s = seg->plog->store;
    bool all = seg->state == SEGMENT_SEALED && seg->destaged_pos == seg->end_pos;
    for (struct list_node *it = first_unmarked(seg); it != &seg->chunks; it = it->next) {
        struct chunk *c = container_of(it, struct chunk, link);
        if (!all && c->pos + c->cap_bytes > seg->destaged_pos)
            return;
        list_push_tail(&s->clean, &c->clean_link);
        chunk_filled(c, c->cap_bytes); /* nothing will be written behind it */
        s->memory_freed = true;
    }
}

static bool evict_one(struct log_store *s)
{
    list_for_each(it, &s->clean) {
        struct chunk *c = container_of(it, struct chunk, clean_link);
        if (c->refs > 0)
            continue;
        chunk_free(c);
        counter_add(&s->counters.evictions, 1);
        return true;
    }
    return false;
}

static struct chunk *seg_tail_chunk(const struct segment *seg)
{
    return list_empty(&seg->chunks) ? NULL : container_of(seg->chunks.prev, struct chunk, link);
}

void seg_prefetch_tail(const struct segment *seg, bool first)
{
    const struct seg_index *ix = &seg->index;
    const struct chunk *c = seg_tail_chunk(seg);
    if (first) {
        prefetch(ix->offsets + ix->offsets_n, sizeof(*ix->offsets));
        prefetch(ix->times + ix->times_n, sizeof(*ix->times));
        prefetch(c, c == NULL ? 0 : sizeof(*c));
    } else if (c != NULL && seg->end_pos - c->pos < c->cap_bytes) {
        prefetch(c->data + (seg->end_pos - c->pos), 256);
    }
}

/* Something of what keeps its last chunk from being shrunk has ended: worth another look. */
void plog_tail_moved(struct plog *p)
{
    const struct segment *seg = plog_active(p);
    const struct chunk *c = seg == NULL ? NULL : seg_tail_chunk(seg);
    if (c != NULL && c->cap_bytes > BLOCK_BYTES && !list_linked(&p->tail_link))
        list_push_tail(&p->store->big_tails, &p->tail_link);
}

static struct chunk *chunk_make(struct segment *seg, uint64_t pos, void *data, uint32_t cap_bytes)
{
    struct chunk *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    *c = (struct chunk){.seg = seg,
                        .store = seg->plog->store,
                        .block = data,
                        .data = data,
                        .pos = pos,
                        .cap_bytes = cap_bytes};
    list_push_tail(&seg->chunks, &c->link);
    c->store->unfilled_bytes += cap_bytes;
    return c;
}

/* A partition that has come to rest keeps the block that is not in its file yet, not the large
 * chunk around it. */
static bool tail_shrink(struct plog *p)
{
    struct log_store *s = p->store;
    struct segment *seg = plog_active(p);
    struct chunk *c = seg == NULL ? NULL : seg_tail_chunk(seg);
    uint8_t kept[BLOCK_BYTES];
    if (c == NULL || c->cap_bytes <= BLOCK_BYTES || c->refs > 0 || seg->state != SEGMENT_OPEN ||
        seg->stable_pos != seg->end_pos || c->pos > seg->destaged_pos ||
        seg->end_pos - seg->destaged_pos >= BLOCK_BYTES)
        return false;
    uint32_t len = (uint32_t)(seg->end_pos - seg->destaged_pos);
    memcpy(kept, c->data + (seg->destaged_pos - c->pos), len);
    chunk_free(c);
    if (len == 0)
        return true;
    void *data = buddy_alloc(s->config.memory, BLOCK_BYTES); /* was just given back */
    ASSERT(data != NULL);
    c = chunk_make(seg, seg->destaged_pos, data, BLOCK_BYTES);
    ASSERT(c != NULL);
    memcpy(c->data, kept, len);
    chunk_filled(c, len);
    return true;
}

/* Those that cannot be shrunk leave the list until something of them moves: with memory short and
 * thousands of partitions at work, nobody may look at all of them for each chunk. */
static bool shrink_one(struct log_store *s)
{
    list_for_each_safe(it, next, &s->big_tails) {
        struct plog *p = container_of(it, struct plog, tail_link);
        if (p->reserving)
            continue;
        list_remove(&p->tail_link);
        if (tail_shrink(p))
            return true;
    }
    return false;
}

/* Memory for log data, from the cache and from resting partitions if need be; NULL: all is dirty
 * or being read. */
void *store_alloc(struct log_store *s, size_t bytes)
{
    void *p;
    while ((p = buddy_alloc(s->config.memory, bytes)) == NULL)
        if (!evict_one(s) && !shrink_one(s))
            return NULL;
    return p;
}

static uint32_t chunk_size_for(struct plog *p, uint64_t want_bytes)
{
    if (p->store->recovering) /* its rate is not known, and memory has to do for all */
        return (uint32_t)MIN(buddy_round(want_bytes), (uint64_t)CHUNK_BYTES_MAX);
    uint64_t now = env_now_ns(p->store->env), age = now - p->chunk_made_ns;
    bool crowded = p->store->unfilled_bytes > p->store->config.memory->size_bytes / UNFILLED_PART;
    if (p->chunk_made_ns != 0 && age < CHUNK_FAST_NS && !crowded)
        p->chunk_bytes = MIN(p->chunk_bytes * 2, CHUNK_BYTES_MAX);
    else if (age > CHUNK_SLOW_NS || crowded)
        p->chunk_bytes = MAX(p->chunk_bytes / 2, CHUNK_BYTES_MIN);
    p->chunk_made_ns = now;
    uint64_t size = MIN(buddy_round(want_bytes), (uint64_t)CHUNK_BYTES_MAX);
    return (uint32_t)MAX(size, (uint64_t)p->chunk_bytes);
}

static struct chunk *chunk_add(struct segment *seg, uint64_t pos, uint64_t want_bytes)
{
    struct log_store *s = seg->plog->store;
    uint32_t cap = chunk_size_for(seg->plog, want_bytes);
    void *data;
    while ((data = store_alloc(s, cap)) == NULL && cap > CHUNK_BYTES_MIN)
        cap /= 2;
    struct chunk *c = data == NULL ? NULL : chunk_make(seg, pos, data, cap);
    if (c == NULL && data != NULL)
        buddy_free(s->config.memory, data);
    plog_tail_moved(seg->plog);
    return c;
}

/* Room for len_bytes behind end_pos, or -EAGAIN with nothing changed. */
int seg_reserve(struct segment *seg, uint64_t len_bytes)
{
    struct chunk *last = seg_tail_chunk(seg);
    uint64_t need_end = seg->end_pos + len_bytes;
    uint64_t have_end = last == NULL ? block_floor(seg->end_pos) : last->pos + last->cap_bytes;
    unsigned added = 0;
    ASSERT(have_end >= block_floor(seg->end_pos));
    seg->plog->reserving = true; /* its own last chunk must not be shrunk for it */
    while (have_end < need_end) {
        struct chunk *c = chunk_add(seg, have_end, need_end - have_end);
        if (c == NULL)
            break;
        have_end += c->cap_bytes;
        added++;
    }
    seg->plog->reserving = false;
    if (have_end >= need_end)
        return 0;
    while (added-- > 0)
        chunk_free(seg_tail_chunk(seg));
    return -EAGAIN;
}

/* Copies behind end_pos into memory that seg_reserve made sure of, and moves end_pos. read_soon: by
 * the journal or a consumer; else by the device alone, when more has come than caches hold. */
void seg_write_bytes(struct segment *seg, const uint8_t *data, uint64_t len_bytes, bool read_soon)
{
    while (len_bytes > 0) {
        struct chunk *c = seg_chunk_at(seg, seg->end_pos);
        ASSERT(c != NULL);
        uint32_t at = (uint32_t)(seg->end_pos - c->pos);
        uint32_t piece = (uint32_t)MIN(len_bytes, (uint64_t)(c->cap_bytes - at));
        if (read_soon || piece < STREAM_BYTES_MIN)
            memcpy(c->data + at, data, piece);
        else
            stream_copy(c->data + at, data, piece);
        chunk_filled(c, at + piece);
        seg->end_pos += piece;
        data += piece;
        len_bytes -= piece;
    }
}

/* ---- places ---- */

/* Batches on their way hold at most this part of the memory, however slow they are. */
#define PLACES_PART 8u

int log_place_take(struct plog *p, uint32_t before_bytes, uint32_t len_bytes, uint32_t after_bytes,
                   struct log_place *ret, uint8_t **ret_batch)
{
    struct log_store *s = p->store;
    const struct segment *seg = plog_active(p);
    uint32_t min_bytes = s->config.place_min_bytes;
    if (min_bytes == 0 || len_bytes < MAX(min_bytes, 2 * BLOCK_BYTES) || plog_refuses(p) != 0)
        return -ENOENT;
    /* The batch may begin at any byte of a block; what is before it ends there. */
    uint64_t at = block_ceil(before_bytes) + (seg == NULL ? 0 : seg->end_pos % BLOCK_BYTES);
    uint64_t bytes = block_ceil(at + len_bytes + after_bytes);
    if (s->place_bytes + bytes > s->config.memory->size_bytes / PLACES_PART)
        return -ENOENT;
    struct chunk *c = calloc(1, sizeof(*c));
    uint8_t *block = c == NULL ? NULL : store_alloc(s, bytes);
    if (block == NULL) {
        free(c);
        return c == NULL ? -ENOENT : -EAGAIN;
    }
    buddy_trim(s->config.memory, block, buddy_round(bytes), bytes);
    s->place_bytes += bytes;
    *ret =
        (struct log_place){.block = block, .block_bytes = (uint32_t)bytes, .store = s, .chunk = c};
    *ret_batch = block + at;
    return 0;
}

void log_place_release(struct log_place *place)
{
    struct log_store *s = place->store;
    if (place->adopted) {
        chunk_unref(place->chunk);
    } else if (place->block != NULL) {
        buddy_free_run(s->config.memory, place->block, place->block_bytes);
        s->place_bytes -= place->block_bytes;
        s->memory_freed = true;
        free(place->chunk);
    }
    *place = (struct log_place){.block = NULL};
}

/* The batch has the log's alignment, and the block it begins in is in memory. */
bool seg_can_adopt(const struct segment *seg, const uint8_t *data, uint64_t len_bytes,
                   const struct log_place *place)
{
    if (place == NULL || place->block == NULL || place->adopted || len_bytes <= BLOCK_BYTES ||
        place->store != seg->plog->store || data < place->block ||
        data + len_bytes > place->block + place->block_bytes)
        return false;
    uint64_t in_block = seg->end_pos % BLOCK_BYTES;
    return (uintptr_t)data % BLOCK_BYTES == in_block &&
           (in_block == 0 || seg_chunk_at(seg, seg->end_pos) != NULL);
}

/* No memory behind pos, which is the end of a block. */
static void seg_trim_tail(struct segment *seg, uint64_t pos)
{
    struct log_store *s = seg->plog->store;
    struct chunk *c;
    while ((c = seg_tail_chunk(seg)) != NULL && c->pos >= pos)
        chunk_drop(c);
    if (c == NULL || c->pos + c->cap_bytes <= pos)
        return;
    uint32_t cap = (uint32_t)(pos - c->pos), less = c->cap_bytes - cap;
    size_t front = (size_t)(c->data - c->block);
    buddy_trim(s->config.memory, c->block, front + c->cap_bytes, front + cap);
    c->cap_bytes = cap;
    s->unfilled_bytes -= less;
    if (c->lent > 0)
        s->lent_bytes -= less;
    s->memory_freed = true;
}

/* As seg_write_bytes, but only what completes the last block is copied: the rest becomes a chunk
 * where it lies. The place keeps a reference, for what is in front of the batch. */
void seg_adopt(struct segment *seg, const uint8_t *data, uint64_t len_bytes,
               struct log_place *place)
{
    struct log_store *s = seg->plog->store;
    struct chunk *c = place->chunk;
    uint64_t head = block_ceil(seg->end_pos) - seg->end_pos;
    seg_trim_tail(seg, block_ceil(seg->end_pos));
    seg_write_bytes(seg, data, head, true);
    size_t front = (size_t)(data + head - place->block);
    uint32_t fill = (uint32_t)(len_bytes - head), cap = (uint32_t)block_ceil(fill);
    *c = (struct chunk){.seg = seg,
                        .store = s,
                        .block = place->block,
                        .data = place->block + front,
                        .pos = seg->end_pos,
                        .cap_bytes = cap,
                        .fill_bytes = fill};
    buddy_trim(s->config.memory, c->block, place->block_bytes, front + cap);
    list_push_tail(&seg->chunks, &c->link);
    chunk_ref(c);
    seg->end_pos += fill;
    s->unfilled_bytes += cap - fill;
    plog_tail_moved(seg->plog);
    s->place_bytes -= place->block_bytes;
    counter_add(&s->counters.adopted_bytes, fill);
    place->adopted = true;
}

/* ---- looking ---- */

/* The chunk that holds (or will hold) pos; searched from the tail, where most readers are. */
struct chunk *seg_chunk_at(const struct segment *seg, uint64_t pos)
{
    for (struct list_node *it = seg->chunks.prev; it != &seg->chunks; it = it->prev) {
        struct chunk *c = container_of(it, struct chunk, link);
        if (pos >= c->pos)
            return pos < c->pos + c->cap_bytes ? c : NULL;
    }
    return NULL;
}

/* Copies len bytes at pos out of memory; false: not all of them are there. */
bool seg_peek(const struct segment *seg, uint64_t pos, void *buf, uint32_t len_bytes)
{
    uint8_t *out = buf;
    if (pos + len_bytes > seg->end_pos)
        return false;
    while (len_bytes > 0) {
        struct chunk *c = seg_chunk_at(seg, pos);
        if (c == NULL)
            return false;
        uint32_t at = (uint32_t)(pos - c->pos), piece = MIN(len_bytes, c->cap_bytes - at);
        memcpy(out, c->data + at, piece);
        out += piece;
        pos += piece;
        len_bytes -= piece;
    }
    return true;
}

/* Describes [from, to) of memory by at most max pieces; ret_to says how far that reaches (less
 * than `to` when a chunk is missing or max is used up). Chunks are not referenced here. */
unsigned seg_iov(const struct segment *seg, uint64_t from, uint64_t to, struct iovec *iov,
                 struct chunk **chunks, unsigned max, uint64_t *ret_to)
{
    unsigned n = 0;
    struct chunk *c = from < to ? seg_chunk_at(seg, from) : NULL;
    while (c != NULL && from < to && n < max) {
        uint64_t at = from - c->pos, piece = MIN(to - from, c->cap_bytes - at);
        iov[n] = (struct iovec){c->data + at, piece};
        chunks[n++] = c;
        from += piece;
        struct list_node *next = c->link.next;
        c = next == &seg->chunks ? NULL : container_of(next, struct chunk, link);
        if (c != NULL && c->pos != from)
            c = NULL;
    }
    *ret_to = from;
    return n;
}
