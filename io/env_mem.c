/* The device model. Each rule is as harsh as real devices and journaling file systems may be, and
 * no harsher than what env.h promises.
 *
 * Blocks
 *  - A write takes effect at once, at a random time between submission and on_done, in any order
 *    with others. It lands in the volatile cache of its device; reads see it from then on.
 *  - ENV_DSYNC: that write alone is also stable then, with the extent state of its blocks and the
 *    size of its file.
 *  - A flush of file F covers the writes that had taken effect when it was submitted: of every file
 *    on the device those to blocks in written extents; those to blocks that were reserved but
 *    never written only of F itself, as it commits no other file's extent conversion. It makes the
 *    size of F stable.
 *  - A block counts as written from the first flush of its own file, DSYNC write or PREWRITE on.
 *    A renamed file keeps its extents.
 *  - At a crash each write not yet stable, and each one in flight, is kept, dropped or torn at
 *    sectors of 512 bytes, one by one, so also out of order. In extents never written it reads as
 *    zeros, or is whole: a file system commits an extent only after its data (in flight: zeros).
 *  - A failed flush settles all that is unstable on its device the same way at once, of every file;
 *    a later flush that succeeds does not bring it back. Other shards are told (losses.h) in that
 *    moment, whenever its own one is called back. A failed write has any part of itself written.
 *  - A write never extends a file: that is an ASSERT (space is reserved ahead).
 *
 * Names
 *  - Every change of a name is seen at once and is pending until SYNC_DIR of its directory (of a
 *    rename: the destination's). That also makes stable what it builds on: pending changes of the
 *    same entries. Other directories' changes stay pending, and syncing a directory does not
 *    make its own name stable. The size given by CREATE is a pending change by itself, made
 *    stable by a flush of the file: so a created name may be found with size 0.
 *  - PUT and RESIZE are one effect each, stable when done; PREWRITE's size and zeros are, its name
 *    is not. PUT makes nothing else stable; RESIZE also the file's own completed writes. With
 *    sync_later the new size, and the name and the data of a PUT, are pending like any.
 *  - At a crash a random prefix of the pending changes is kept. Files without a name are gone.
 *  - A PUT that the power interrupts leaves the old file, and may leave its temporary one (path
 * with
 *    ".tmp" behind it) with part of the data.
 *  - Each step of a list is an effect of its own, so the power may go between two. Lists in flight
 *    at the same time mix.
 *
 * Sends: on_done comes first; the bytes are read from the buffers when they are released, later and
 * in order for each socket. Partial sends are finished inside. Nothing is ever received.
 *
 * Kill
 *  - mem_world_kill ends the process only: what was in flight takes effect to its end, of a list of
 *    names the step under way; nothing is lost, and what was pending stays pending.
 *
 * Faults on demand (mem_world_fail_at, mem_world_corrupt, mem_world_set_stalls)
 *  - errors, short writes, no space; a read that brings, or a write that goes to, another place of
 *    the same file and reports success; flipped bits; operations that take a thousand times as
 * long.
 *
 *  - a device that fails as a whole: every operation on it, until it is mended; its cache is lost.
 *
 * Not covered: a device that lies about flushes, or reorders across a completed flush; a failed
 * synced write or name step that loses the cache as well; a read that mixes old and new of a write
 * in flight; hard and symbolic links; rights; fragmentation. */
#include "io/env_mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/map.h"
#include "core/base/rng.h"
#include "io/losses.h"

enum {
    ENVS_MAX = 256,
    DEVICES = 9, /* "/", and "/dev2/" to "/dev9/" */
    SECTOR_BYTES = 512,
    NAME_BYTES_MAX = 255,
    STALL_FACTOR = 1000,
    IDLE_TURNS_MAX = 100000, /* turns in a row in which nothing at all happened: a deadlock */
};
#define PUT_SUFFIX ".tmp"
#define CAPACITY_BYTES (1ull << 40)
#define WALL_START_MS 1704067200000ll

struct mem_page { /* contents of a block; immutable while shared; NULL stands for zeros */
    unsigned refs;
    uint8_t bytes[BLOCK_BYTES];
};
struct mem_block {
    struct mem_page *live, *stable;
    bool written;    /* the extent is committed as written */
    bool unreadable; /* until it is written again */
};

struct mem_write { /* has taken effect (or was in flight when the power went) but is not stable */
    struct list_node link; /* in its inode's dirty list, in order of seq */
    uint64_t seq, first_block;
    size_t blocks_n, pending_n;
    bool in_flight;
    struct {
        struct mem_page *page;
        bool pending;
    } blocks[];
};

struct mem_inode {
    struct list_node link; /* world's inodes */
    uint64_t id;
    unsigned refs; /* entries (live, stable), pending changes, open files */
    unsigned live_names, opens, device;
    uint64_t charged_bytes; /* of the device's capacity */
    bool is_dir;
    /* directories */
    struct map entries; /* hash of the name -> mem_entry */
    unsigned live_children;
    /* files */
    uint64_t live_size, stable_size;
    uint64_t prewritten_bytes;   /* blocks below are born written */
    struct map blocks;           /* block number -> mem_block */
    struct list_node dirty;      /* mem_write */
    struct list_node dirty_link; /* device's dirty inodes */
    struct list_node transfers;  /* mem_op: reads and writes from submission to on_done */
};

struct mem_entry {
    struct mem_inode *dir;
    struct mem_inode *live, *stable; /* NULL: no such name */
    bool marked;                     /* only inside names_commit */
    char name[];
};

struct mem_change { /* one pending change of the name space */
    struct list_node link;
    unsigned sets_n; /* entries set by it together; the last one's directory makes it stable */
    struct {
        struct mem_entry *entry;
        struct mem_inode *inode;
    } sets[2];
    struct mem_inode *sized; /* or: the size of this one */
    uint64_t size_bytes;
    bool marked;
};

struct mem_device {
    uint64_t used_bytes;
    uint64_t fail_in; /* operations from now; 0: it does not */
    bool failing;
    struct device_losses losses;
    struct list_node dirty; /* inodes with unstable writes */
};

struct mem_sink {
    uint8_t *data;
    size_t len_bytes, cap_bytes;
    uint64_t release_ns; /* of the last send */
    bool sending;
};

struct mem_env {
    struct env base;
    struct mem_world *world;
    uint64_t now_ns;
    struct list_node done;   /* mem_op: taken effect, callback due */
    struct list_node files;  /* env_file */
    struct list_node *inbox; /* by sender */
};

struct env_file {
    struct list_node link;
    struct mem_env *env;
    struct mem_inode *inode;
    unsigned transfers_n;
    struct file_losses losses;
};

struct mem_op {                /* what the world keeps of an op in flight */
    struct list_node link;     /* world's events, by time; then its env's done */
    struct list_node transfer; /* its inode's transfers */
    struct mem_env *env;
    struct env_op *op;
    struct env_file *file;
    enum env_op_kind kind;
    env_done_fn on_released;
    const struct iovec *iov;
    unsigned iov_n, step;
    uint64_t offset_bytes, len_bytes, due_ns;
    uint64_t seq; /* flush: the last write that it covers */
    uint32_t crc; /* write: of the data when submitted */
    int sock, res;
    bool dsync, releasing;
};

struct mem_world {
    struct rng rng_time, rng_device, rng_core; /* schedule | what survives | env_random */
    uint64_t now_ns, write_seq, inode_id, trace;
    int64_t wall_step_ms;
    uint64_t io_count, crash_at;
    bool crashed, killed; /* killed: crashed, but nothing is lost */
    uint64_t fault_in[MEM_FAULT_KINDS], fault_hits[MEM_FAULT_KINDS];
    uint64_t write_ns, flush_ns, read_ns;
    uint64_t stall_one_in; /* 0: none */
    uint64_t capacity_bytes;
    unsigned idle_turns;
    struct mem_env *envs[ENVS_MAX];
    struct list_node events;  /* mem_op by due_ns */
    struct list_node changes; /* mem_change, oldest first */
    struct list_node inodes;
    struct mem_inode *root;
    struct mem_device devices[DEVICES];
    struct map sinks;
};

/* ---- small parts ---- */

static void *alloc_zeroed(size_t bytes)
{
    void *p = calloc(1, bytes);
    ASSERT(p != NULL);
    return p;
}

static void map_set(struct map *m, uint64_t key, void *value)
{
    int rc = map_put(m, key, value);
    ASSERT(rc == 0);
}

static void trace_mix(struct mem_world *w, uint64_t a, uint64_t b)
{
    uint64_t v = w->trace ^ a * 0x9e3779b97f4a7c15u ^ rng_rotl(b, 32) ^ w->now_ns;
    v = (v ^ (v >> 32)) * 0xd6e8feb86659fd93u;
    w->trace = v ^ (v >> 29);
}

/* Half to one and a half of the mean. */
static uint64_t random_delay(struct mem_world *w, uint64_t mean_ns)
{
    return mean_ns / 2 + rng_below(&w->rng_time, mean_ns + 1);
}

/* Of a transfer or a flush: once in a while the device takes its time. */
static uint64_t device_delay(struct mem_world *w, uint64_t mean_ns)
{
    uint64_t delay_ns = random_delay(w, mean_ns);
    if (w->stall_one_in > 0 && rng_below(&w->rng_time, w->stall_one_in) == 0)
        delay_ns *= STALL_FACTOR;
    return delay_ns;
}

static bool fault_hit(struct mem_world *w, enum mem_fault fault)
{
    bool hit = w->fault_in[fault] > 0 && --w->fault_in[fault] == 0;
    w->fault_hits[fault] += hit;
    return hit;
}

struct iov_cursor {
    const struct iovec *iov;
    size_t used_bytes;
};

/* The next block; lengths are multiples of it. */
static uint8_t *cursor_next(struct iov_cursor *c)
{
    while (c->used_bytes == c->iov->iov_len) {
        c->iov++;
        c->used_bytes = 0;
    }
    uint8_t *p = (uint8_t *)c->iov->iov_base + c->used_bytes;
    c->used_bytes += BLOCK_BYTES;
    return p;
}

static uint32_t iov_crc(const struct iovec *iov, unsigned iov_n)
{
    uint32_t crc = 0;
    for (unsigned i = 0; i < iov_n; i++)
        crc = crc32c_extend(crc, iov[i].iov_base, iov[i].iov_len);
    return crc;
}

/* ---- pages and blocks ---- */

static const uint8_t zeros[BLOCK_BYTES];

static const uint8_t *page_bytes(const struct mem_page *page)
{
    return page == NULL ? zeros : page->bytes;
}

static struct mem_page *page_of(const uint8_t *bytes)
{
    if (memcmp(bytes, zeros, BLOCK_BYTES) == 0)
        return NULL;
    struct mem_page *page = malloc(sizeof(*page));
    ASSERT(page != NULL);
    page->refs = 1;
    memcpy(page->bytes, bytes, BLOCK_BYTES);
    return page;
}

static struct mem_page *page_get(struct mem_page *page)
{
    if (page != NULL)
        page->refs++;
    return page;
}

static void page_put(struct mem_page *page)
{
    if (page != NULL && --page->refs == 0)
        free(page);
}

static void page_set(struct mem_page **slot, struct mem_page *page)
{
    page_get(page);
    page_put(*slot);
    *slot = page;
}

/* Each sector from either; the caller's reference. */
static struct mem_page *page_torn(struct mem_world *w, const struct mem_page *old,
                                  const struct mem_page *new)
{
    uint8_t mixed[BLOCK_BYTES];
    uint64_t choice = rng_next(&w->rng_device);
    for (unsigned at = 0; at < BLOCK_BYTES; at += SECTOR_BYTES, choice >>= 1)
        memcpy(mixed + at, page_bytes(choice & 1 ? new : old) + at, SECTOR_BYTES);
    return page_of(mixed);
}

static struct mem_block *block_at(struct mem_inode *ino, uint64_t number)
{
    struct mem_block *b = map_get(&ino->blocks, number);
    if (b == NULL) {
        b = alloc_zeroed(sizeof(*b));
        b->written = number < ino->prewritten_bytes / BLOCK_BYTES;
        map_set(&ino->blocks, number, b);
    }
    return b;
}

static void block_free(struct mem_block *b)
{
    if (b == NULL)
        return;
    page_put(b->live);
    page_put(b->stable);
    free(b);
}

static const uint8_t *block_bytes(const struct mem_inode *ino, uint64_t number)
{
    const struct mem_block *b = map_get(&ino->blocks, number);
    return b == NULL ? zeros : page_bytes(b->live);
}

/* ---- unstable writes ---- */

static struct mem_device *device_of(struct mem_world *w, const struct mem_inode *ino)
{
    return &w->devices[ino->device];
}

static struct mem_write *write_new(struct mem_world *w, const struct mem_op *m)
{
    size_t n = m->len_bytes / BLOCK_BYTES;
    struct mem_write *wr = alloc_zeroed(sizeof(*wr) + n * sizeof(wr->blocks[0]));
    struct iov_cursor cursor = {.iov = m->iov};
    wr->seq = ++w->write_seq;
    wr->first_block = m->offset_bytes / BLOCK_BYTES;
    wr->blocks_n = wr->pending_n = n;
    for (size_t i = 0; i < n; i++) {
        wr->blocks[i].page = page_of(cursor_next(&cursor));
        wr->blocks[i].pending = true;
    }
    return wr;
}

static void write_free(struct mem_write *wr)
{
    list_remove(&wr->link);
    for (size_t i = 0; i < wr->blocks_n; i++)
        page_put(wr->blocks[i].page);
    free(wr);
}

static void write_clear(struct mem_write *wr, size_t i)
{
    if (wr->blocks[i].pending) {
        wr->blocks[i].pending = false;
        wr->pending_n--;
    }
}

static void write_queue(struct mem_world *w, struct mem_inode *ino, struct mem_write *wr)
{
    list_push_tail(&ino->dirty, &wr->link);
    if (!list_linked(&ino->dirty_link))
        list_push_tail(&device_of(w, ino)->dirty, &ino->dirty_link);
}

/* Older unstable writes of a block must not come back over a newer stable one. */
static void inode_forget_block(struct mem_inode *ino, uint64_t number)
{
    list_for_each(it, &ino->dirty) {
        struct mem_write *wr = container_of(it, struct mem_write, link);
        if (number >= wr->first_block && number - wr->first_block < wr->blocks_n)
            write_clear(wr, number - wr->first_block);
    }
}

static void inode_drop_settled(struct mem_inode *ino)
{
    list_for_each_safe(it, next, &ino->dirty) {
        struct mem_write *wr = container_of(it, struct mem_write, link);
        if (wr->pending_n == 0)
            write_free(wr);
    }
    if (list_empty(&ino->dirty))
        list_remove(&ino->dirty_link);
}

/* Make stable what a flush covers; own: the flush was asked for on this file. */
static void inode_flush(struct mem_inode *ino, uint64_t seq_max, bool own)
{
    list_for_each(it, &ino->dirty) {
        struct mem_write *wr = container_of(it, struct mem_write, link);
        if (wr->seq > seq_max)
            break;
        for (size_t i = 0; i < wr->blocks_n; i++) {
            struct mem_block *b = block_at(ino, wr->first_block + i);
            if (!wr->blocks[i].pending || (!b->written && !own))
                continue;
            page_set(&b->stable, wr->blocks[i].page);
            b->written = true;
            write_clear(wr, i);
        }
    }
    inode_drop_settled(ino);
}

enum fate { FATE_KEPT, FATE_DROPPED, FATE_TORN, FATES };

static void write_settle(struct mem_world *w, struct mem_inode *ino, struct mem_write *wr)
{
    enum fate fate = (enum fate)rng_below(&w->rng_device, FATES);
    bool converted = rng_below(&w->rng_device, 4) == 0 && !wr->in_flight;
    for (size_t i = 0; i < wr->blocks_n; i++) {
        if (!wr->blocks[i].pending)
            continue;
        struct mem_block *b = block_at(ino, wr->first_block + i);
        struct mem_page *page = wr->blocks[i].page;
        if (!b->written) {
            if (converted)
                page_set(&b->stable, page);
            b->written = converted;
        } else if (fate == FATE_KEPT) {
            page_set(&b->stable, page);
        } else if (fate == FATE_TORN) {
            struct mem_page *torn = page_torn(w, b->stable, page);
            page_put(b->stable);
            b->stable = torn;
        }
        write_clear(wr, i);
    }
}

static void inode_settle(struct mem_world *w, struct mem_inode *ino)
{
    list_for_each(it, &ino->dirty)
        write_settle(w, ino, container_of(it, struct mem_write, link));
    list_for_each(it, &ino->dirty) {
        struct mem_write *wr = container_of(it, struct mem_write, link);
        for (size_t i = 0; i < wr->blocks_n; i++) {
            struct mem_block *b = block_at(ino, wr->first_block + i);
            page_set(&b->live, b->stable);
        }
    }
    inode_drop_settled(ino);
}

/* The device's cache is lost. */
static void device_settle(struct mem_world *w, struct mem_device *dev)
{
    list_for_each_safe(it, next, &dev->dirty)
        inode_settle(w, container_of(it, struct mem_inode, dirty_link));
    ASSERT(list_empty(&dev->dirty));
}

/* ---- inodes ---- */

static struct mem_inode *inode_new(struct mem_world *w, unsigned device, bool is_dir)
{
    struct mem_inode *ino = alloc_zeroed(sizeof(*ino));
    ino->id = ++w->inode_id;
    ino->refs = 1; /* the caller's */
    ino->device = device;
    ino->is_dir = is_dir;
    map_init(&ino->entries);
    map_init(&ino->blocks);
    list_init(&ino->dirty);
    list_init(&ino->transfers);
    list_push_tail(&w->inodes, &ino->link);
    return ino;
}

static void inode_charge(struct mem_world *w, struct mem_inode *ino)
{
    bool exists = ino->live_names > 0 || ino->opens > 0;
    uint64_t bytes = exists ? block_ceil(ino->live_size) : 0;
    struct mem_device *dev = device_of(w, ino);
    dev->used_bytes += bytes - ino->charged_bytes;
    ino->charged_bytes = bytes;
}

static void inode_put(struct mem_world *w, struct mem_inode *ino);
static void entry_clear(struct mem_world *w, struct mem_entry *e);

static void inode_free(struct mem_world *w, struct mem_inode *ino)
{
    struct mem_entry *e;
    struct mem_block *b;
    ASSERT(list_empty(&ino->transfers));
    for (size_t it = 0; (e = map_next(&ino->entries, &it)) != NULL; free(e))
        entry_clear(w, e);
    map_fini(&ino->entries);
    list_for_each_safe(it, next, &ino->dirty)
        write_free(container_of(it, struct mem_write, link));
    list_remove(&ino->dirty_link);
    for (size_t it = 0; (b = map_next(&ino->blocks, &it)) != NULL;)
        block_free(b);
    map_fini(&ino->blocks);
    device_of(w, ino)->used_bytes -= ino->charged_bytes;
    list_remove(&ino->link);
    free(ino);
}

static struct mem_inode *inode_get(struct mem_inode *ino)
{
    if (ino != NULL)
        ino->refs++;
    return ino;
}

static void inode_put(struct mem_world *w, struct mem_inode *ino)
{
    if (ino != NULL && --ino->refs == 0)
        inode_free(w, ino);
}

/* Blocks beyond the new end are gone for good, as is the tail of the last one. */
static void inode_cut(struct mem_inode *ino, uint64_t size_bytes)
{
    uint64_t keep_n = block_ceil(size_bytes) / BLOCK_BYTES;
    for (uint64_t i = keep_n; i < block_ceil(ino->live_size) / BLOCK_BYTES; i++)
        block_free(map_remove(&ino->blocks, i));
    ino->prewritten_bytes = MIN(ino->prewritten_bytes, block_ceil(size_bytes));
    uint32_t tail_bytes = size_bytes % BLOCK_BYTES;
    struct mem_block *last = tail_bytes == 0 ? NULL : map_get(&ino->blocks, keep_n - 1);
    if (last == NULL)
        return;
    uint8_t bytes[BLOCK_BYTES] = {0};
    memcpy(bytes, page_bytes(last->stable), tail_bytes);
    struct mem_page *page = page_of(bytes);
    page_set(&last->live, page);
    page_set(&last->stable, page);
    page_put(page);
}

static bool is_unreadable(const struct mem_inode *ino, uint64_t offset_bytes, uint64_t len_bytes)
{
    for (uint64_t at = block_floor(offset_bytes); at < offset_bytes + len_bytes;
         at += BLOCK_BYTES) {
        const struct mem_block *b = map_get(&ino->blocks, at / BLOCK_BYTES);
        if (b != NULL && b->unreadable)
            return true;
    }
    return false;
}

static uint64_t inode_read(const struct mem_inode *ino, uint8_t *buf, uint64_t len_bytes,
                           uint64_t offset_bytes)
{
    if (offset_bytes >= ino->live_size)
        return 0;
    len_bytes = MIN(len_bytes, ino->live_size - offset_bytes);
    for (uint64_t at = 0; at < len_bytes;) {
        uint64_t pos = offset_bytes + at, in_block = pos % BLOCK_BYTES;
        uint64_t n = MIN(len_bytes - at, BLOCK_BYTES - in_block);
        memcpy(buf + at, block_bytes(ino, pos / BLOCK_BYTES) + in_block, n);
        at += n;
    }
    return len_bytes;
}

/* ---- name space ---- */

static uint64_t name_hash(const char *name, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)name[i]) * 0x100000001b3u;
    return h;
}

static struct mem_entry *entry_find(const struct mem_inode *dir, const char *name, size_t len)
{
    struct mem_entry *e = map_get(&dir->entries, name_hash(name, len));
    ASSERT(e == NULL || (strlen(e->name) == len && memcmp(e->name, name, len) == 0));
    return e;
}

static struct mem_entry *entry_make(struct mem_inode *dir, const char *name, size_t len)
{
    struct mem_entry *e = entry_find(dir, name, len);
    if (e != NULL)
        return e;
    e = alloc_zeroed(sizeof(*e) + len + 1);
    memcpy(e->name, name, len);
    e->dir = dir;
    map_set(&dir->entries, name_hash(name, len), e);
    return e;
}

static void entry_set_live(struct mem_world *w, struct mem_entry *e, struct mem_inode *ino)
{
    struct mem_inode *old = e->live;
    if (old == ino)
        return;
    e->live = inode_get(ino);
    if (ino != NULL) {
        ino->live_names++;
        e->dir->live_children++;
        inode_charge(w, ino);
    }
    if (old != NULL) {
        old->live_names--;
        e->dir->live_children--;
        inode_charge(w, old);
        inode_put(w, old);
    }
}

static void entry_set_stable(struct mem_world *w, struct mem_entry *e, struct mem_inode *ino)
{
    struct mem_inode *old = e->stable;
    e->stable = inode_get(ino);
    inode_put(w, old);
}

static void entry_clear(struct mem_world *w, struct mem_entry *e)
{
    entry_set_live(w, e, NULL);
    entry_set_stable(w, e, NULL);
}

static struct mem_change *change_new(struct mem_world *w)
{
    struct mem_change *c = alloc_zeroed(sizeof(*c));
    list_push_tail(&w->changes, &c->link);
    return c;
}

/* Seen from now on; stable when its change is. */
static void change_set(struct mem_world *w, struct mem_change *c, struct mem_entry *e,
                       struct mem_inode *ino)
{
    inode_get(e->dir);
    c->sets[c->sets_n].entry = e;
    c->sets[c->sets_n++].inode = inode_get(ino);
    entry_set_live(w, e, ino);
}

static void change_free(struct mem_world *w, struct mem_change *c)
{
    list_remove(&c->link);
    for (unsigned i = 0; i < c->sets_n; i++) {
        inode_put(w, c->sets[i].inode);
        inode_put(w, c->sets[i].entry->dir);
    }
    inode_put(w, c->sized);
    free(c);
}

static void change_commit(struct mem_world *w, struct mem_change *c)
{
    for (unsigned i = 0; i < c->sets_n; i++)
        entry_set_stable(w, c->sets[i].entry, c->sets[i].inode);
    if (c->sized != NULL)
        c->sized->stable_size = c->size_bytes;
    change_free(w, c);
}

static void change_mark_entries(struct mem_change *c, bool marked)
{
    for (unsigned i = 0; i < c->sets_n; i++)
        c->sets[i].entry->marked = marked;
}

static bool change_builds_under_marked(const struct mem_change *c)
{
    for (unsigned i = 0; i < c->sets_n; i++)
        if (c->sets[i].entry->marked)
            return true;
    return false;
}

/* Commit the marked changes and those before them that they build upon. */
static void names_commit_marked(struct mem_world *w)
{
    for (struct list_node *it = w->changes.prev; it != &w->changes; it = it->prev) {
        struct mem_change *c = container_of(it, struct mem_change, link);
        c->marked |= change_builds_under_marked(c);
        if (c->marked)
            change_mark_entries(c, true);
    }
    list_for_each(it, &w->changes)
        change_mark_entries(container_of(it, struct mem_change, link), false);
    list_for_each_safe(it, next, &w->changes) {
        struct mem_change *c = container_of(it, struct mem_change, link);
        if (c->marked)
            change_commit(w, c);
    }
}

static void names_sync_dir(struct mem_world *w, const struct mem_inode *dir)
{
    list_for_each(it, &w->changes) {
        struct mem_change *c = container_of(it, struct mem_change, link);
        c->marked = c->sets_n > 0 && c->sets[c->sets_n - 1].entry->dir == dir;
    }
    names_commit_marked(w);
}

static void inode_commit_size(struct mem_world *w, struct mem_inode *ino)
{
    if (ino->stable_size == ino->live_size)
        return;
    ino->stable_size = ino->live_size;
    list_for_each_safe(it, next, &w->changes) {
        struct mem_change *c = container_of(it, struct mem_change, link);
        if (c->sized == ino)
            change_free(w, c);
    }
}

struct mem_path {
    struct mem_inode *dir; /* NULL: the path is the root */
    struct mem_entry *entry;
    struct mem_inode *inode; /* NULL: no such name */
    const char *name;
    size_t name_len;
};

/* The directories of other devices are mount points: always there. */
static void mount_point_make(struct mem_world *w, const char *name, size_t len)
{
    if (len != 4 || memcmp(name, "dev", 3) != 0 || name[3] < '2' || name[3] > '9')
        return;
    struct mem_entry *e = entry_make(w->root, name, len);
    if (e->live != NULL)
        return;
    struct mem_inode *dir = inode_new(w, (unsigned)(name[3] - '1'), true);
    entry_set_live(w, e, dir);
    entry_set_stable(w, e, dir);
    inode_put(w, dir);
}

/* 0 even if the last name does not exist, as long as its directory does. */
static int path_find(struct mem_world *w, const char *path, struct mem_path *ret)
{
    struct mem_path p = {.inode = w->root};
    for (path += strspn(path, "/"); *path != '\0'; path += strspn(path, "/")) {
        if (p.inode == NULL)
            return -ENOENT;
        if (!p.inode->is_dir)
            return -ENOTDIR;
        p.dir = p.inode;
        p.name = path;
        p.name_len = strcspn(path, "/");
        if (p.name_len > NAME_BYTES_MAX)
            return -ENAMETOOLONG;
        ASSERT(strncmp(p.name, "..", p.name_len) != 0); /* nothing needs these: keep it simple */
        if (p.dir == w->root)
            mount_point_make(w, p.name, p.name_len);
        p.entry = entry_find(p.dir, p.name, p.name_len);
        p.inode = p.entry == NULL ? NULL : p.entry->live;
        path += p.name_len;
    }
    *ret = p;
    return 0;
}

static int path_find_existing(struct mem_world *w, const char *path, struct mem_path *ret)
{
    struct mem_path p;
    int rc = path_find(w, path, &p);
    if (rc != 0)
        return rc;
    if (p.inode == NULL)
        return -ENOENT;
    *ret = p;
    return 0;
}

static int path_find_file(struct mem_world *w, const char *path, struct mem_path *ret)
{
    struct mem_path p;
    int rc = path_find_existing(w, path, &p);
    if (rc != 0)
        return rc;
    if (p.inode->is_dir)
        return -EISDIR;
    *ret = p;
    return 0;
}

/* Where a new name may be made. */
static int path_find_new(struct mem_world *w, const char *path, struct mem_path *ret)
{
    struct mem_path p;
    int rc = path_find(w, path, &p);
    if (rc != 0)
        return rc;
    if (p.inode != NULL)
        return -EEXIST;
    p.entry = entry_make(p.dir, p.name, p.name_len);
    *ret = p;
    return 0;
}

static void path_set(struct mem_world *w, const struct mem_path *p, struct mem_inode *ino)
{
    change_set(w, change_new(w), p->entry, ino);
}

static int space_check(struct mem_world *w, unsigned device, uint64_t more_bytes)
{
    uint64_t used_bytes = w->devices[device].used_bytes;
    if (fault_hit(w, MEM_FAULT_ENOSPC))
        return -ENOSPC;
    if (used_bytes > w->capacity_bytes)
        return -ENOSPC;
    return more_bytes > w->capacity_bytes - used_bytes ? -ENOSPC : 0;
}

/* ---- name steps ---- */

static struct env_file *file_open(struct mem_env *e, struct mem_inode *ino)
{
    struct env_file *file = alloc_zeroed(sizeof(*file));
    file->env = e;
    file->inode = inode_get(ino);
    file->losses.device = &device_of(e->world, ino)->losses;
    ino->opens++;
    list_push_tail(&e->files, &file->link);
    return file;
}

static void file_free(struct mem_world *w, struct env_file *file)
{
    file->inode->opens--;
    inode_charge(w, file->inode);
    inode_put(w, file->inode);
    list_remove(&file->link);
    free(file);
}

static int step_mkdir(struct mem_env *e, struct env_name_step *s)
{
    struct mem_world *w = e->world;
    struct mem_path p;
    int rc = path_find(w, s->path, &p);
    if (rc != 0)
        return rc;
    if (p.inode != NULL)
        return p.inode->is_dir ? 0 : -ENOTDIR;
    rc = space_check(w, p.dir->device, 0);
    if (rc != 0)
        return rc;
    p.entry = entry_make(p.dir, p.name, p.name_len);
    struct mem_inode *dir = inode_new(w, p.dir->device, true);
    path_set(w, &p, dir);
    inode_put(w, dir);
    return 0;
}

static int step_rmdir(struct mem_env *e, struct env_name_step *s)
{
    struct mem_path p;
    int rc = path_find(e->world, s->path, &p);
    if (rc != 0)
        return rc;
    if (p.inode == NULL)
        return 0;
    if (!p.inode->is_dir)
        return -ENOTDIR;
    if (p.dir == NULL || p.inode->device != p.dir->device)
        return -EBUSY; /* root or mount point */
    if (p.inode->live_children > 0)
        return -ENOTEMPTY;
    path_set(e->world, &p, NULL);
    return 0;
}

static int step_unlink(struct mem_env *e, struct env_name_step *s)
{
    struct mem_path p;
    int rc = path_find(e->world, s->path, &p);
    if (rc != 0)
        return rc;
    if (p.inode == NULL)
        return 0;
    if (p.inode->is_dir)
        return -EISDIR;
    path_set(e->world, &p, NULL);
    return 0;
}

static int rename_check(const struct mem_path *from, const struct mem_path *to,
                        const struct env_name_step *s)
{
    size_t len = strlen(s->path);
    if (from->dir == NULL || to->dir == NULL)
        return -EBUSY;
    if (from->inode->device != to->dir->device)
        return -EXDEV;
    if (from->inode->is_dir && strncmp(s->path, s->path2, len) == 0 && s->path2[len] == '/')
        return -EINVAL; /* into itself */
    if (to->inode == NULL)
        return 0;
    if (to->inode->is_dir != from->inode->is_dir)
        return to->inode->is_dir ? -EISDIR : -ENOTDIR;
    return to->inode->live_children > 0 ? -ENOTEMPTY : 0;
}

static int step_rename(struct mem_env *e, struct env_name_step *s)
{
    struct mem_world *w = e->world;
    struct mem_path from, to;
    int rc = path_find_existing(w, s->path, &from);
    if (rc == 0)
        rc = path_find(w, s->path2, &to);
    if (rc != 0 || from.inode == to.inode)
        return rc;
    rc = rename_check(&from, &to, s);
    if (rc != 0)
        return rc;
    struct mem_change *c = change_new(w);
    struct mem_inode *ino = inode_get(from.inode);
    change_set(w, c, from.entry, NULL);
    change_set(w, c, entry_make(to.dir, to.name, to.name_len), ino);
    inode_put(w, ino);
    return 0;
}

static int step_sync_dir(struct mem_env *e, struct env_name_step *s)
{
    struct mem_path p;
    int rc = path_find_existing(e->world, s->path, &p);
    if (rc != 0)
        return rc;
    if (!p.inode->is_dir)
        return -ENOTDIR;
    names_sync_dir(e->world, p.inode);
    return 0;
}

/* Everything that has taken effect on the device is stable afterwards. */
static int step_sync_fs(struct mem_env *e, struct env_name_step *s)
{
    struct mem_path p;
    struct mem_world *w = e->world;
    int rc = path_find_existing(w, s->path, &p);
    if (rc != 0)
        return rc;
    struct mem_device *dev = device_of(w, p.inode);
    list_for_each_safe(it, next, &dev->dirty)
        inode_flush(container_of(it, struct mem_inode, dirty_link), UINT64_MAX, true);
    list_for_each(it, &w->changes) {
        struct mem_change *c = container_of(it, struct mem_change, link);
        c->marked = c->sized != NULL ? device_of(w, c->sized) == dev
                                     : c->sets_n > 0 && device_of(w, c->sets[0].entry->dir) == dev;
    }
    names_commit_marked(w);
    return 0;
}

static void size_pending(struct mem_world *w, struct mem_inode *ino)
{
    struct mem_change *size = change_new(w);
    size->sized = inode_get(ino);
    size->size_bytes = ino->live_size;
}

/* A new file with its name pending and its size reserved. */
static int file_create(struct mem_env *e, struct env_name_step *s)
{
    struct mem_world *w = e->world;
    struct mem_path p;
    int rc = path_find_new(w, s->path, &p);
    if (rc == 0)
        rc = space_check(w, p.dir->device, block_ceil(s->size_bytes));
    if (rc != 0)
        return rc;
    struct mem_inode *ino = inode_new(w, p.dir->device, false);
    ino->live_size = s->size_bytes;
    path_set(w, &p, ino);
    s->ret_file = file_open(e, ino);
    inode_put(w, ino);
    return 0;
}

static int step_create(struct mem_env *e, struct env_name_step *s)
{
    int rc = file_create(e, s);
    if (rc != 0)
        return rc;
    size_pending(e->world, s->ret_file->inode);
    return 0;
}

static int step_prewrite(struct mem_env *e, struct env_name_step *s)
{
    int rc = s->size_bytes % BLOCK_BYTES != 0 ? -EINVAL : file_create(e, s);
    if (rc != 0)
        return rc;
    struct mem_inode *ino = s->ret_file->inode;
    ino->stable_size = s->size_bytes;
    ino->prewritten_bytes = block_ceil(s->size_bytes);
    return 0;
}

static int step_open(struct mem_env *e, struct env_name_step *s)
{
    struct mem_path p;
    int rc = path_find_file(e->world, s->path, &p);
    if (rc != 0)
        return rc;
    s->ret_file = file_open(e, p.inode);
    s->ret_size_bytes = p.inode->live_size;
    return 0;
}

static int step_resize(struct mem_env *e, struct env_name_step *s)
{
    struct mem_world *w = e->world;
    struct mem_path p;
    int rc = path_find_file(w, s->path, &p);
    if (rc != 0)
        return rc;
    struct mem_inode *ino = p.inode;
    uint64_t old_bytes = block_ceil(ino->live_size), new_bytes = block_ceil(s->size_bytes);
    if (new_bytes > old_bytes)
        rc = space_check(w, ino->device, new_bytes - old_bytes);
    if (rc != 0)
        return rc;
    list_for_each(it, &ino->transfers) {
        bool resized_under_a_write =
            container_of(it, struct mem_op, transfer)->kind == ENV_OP_WRITE;
        ASSERT(!resized_under_a_write);
    }
    inode_flush(ino, UINT64_MAX, true);
    if (s->size_bytes < ino->live_size)
        inode_cut(ino, s->size_bytes);
    ino->live_size = s->size_bytes;
    if (s->sync_later)
        size_pending(w, ino);
    else
        inode_commit_size(w, ino);
    inode_charge(w, ino);
    return 0;
}

/* A file whose contents are stable; the caller's reference. */
static struct mem_inode *file_of_data(struct mem_world *w, unsigned device, const uint8_t *data,
                                      size_t len_bytes)
{
    struct mem_inode *ino = inode_new(w, device, false);
    ino->live_size = ino->stable_size = len_bytes;
    for (uint64_t at = 0; at < len_bytes; at += BLOCK_BYTES) {
        uint8_t bytes[BLOCK_BYTES] = {0};
        memcpy(bytes, data + at, MIN(len_bytes - at, BLOCK_BYTES));
        struct mem_block *b = block_at(ino, at / BLOCK_BYTES);
        b->live = page_of(bytes);
        b->stable = page_get(b->live);
        b->written = true;
    }
    return ino;
}

/* What is in it was only written so far. */
static void file_unsettle(struct mem_world *w, struct mem_inode *ino)
{
    size_t n = block_ceil(ino->live_size) / BLOCK_BYTES;
    struct mem_write *wr = alloc_zeroed(sizeof(*wr) + n * sizeof(wr->blocks[0]));
    wr->seq = ++w->write_seq;
    wr->blocks_n = wr->pending_n = n;
    for (size_t i = 0; i < n; i++) {
        struct mem_block *b = block_at(ino, i);
        wr->blocks[i].page = b->stable;
        wr->blocks[i].pending = true;
        b->stable = NULL;
        b->written = false;
    }
    write_queue(w, ino, wr);
    ino->stable_size = 0;
    size_pending(w, ino);
}

/* Where PUT writes before it renames. */
static struct mem_entry *put_temp_entry(struct mem_path *p)
{
    char name[NAME_BYTES_MAX + sizeof(PUT_SUFFIX)];
    memcpy(name, p->name, p->name_len);
    memcpy(name + p->name_len, PUT_SUFFIX, sizeof(PUT_SUFFIX));
    return entry_make(p->dir, name, strlen(name));
}

static int step_put(struct mem_env *e, struct env_name_step *s)
{
    struct mem_world *w = e->world;
    struct mem_path p;
    int rc = path_find(w, s->path, &p);
    if (rc != 0)
        return rc;
    if (p.dir == NULL || (p.inode != NULL && p.inode->is_dir))
        return -EISDIR;
    rc = space_check(w, p.dir->device, block_ceil(s->data_len));
    if (rc != 0)
        return rc;
    struct mem_inode *ino = file_of_data(w, p.dir->device, s->data, s->data_len);
    struct mem_change *c = change_new(w);
    change_set(w, c, put_temp_entry(&p), NULL); /* one may lie there from an earlier crash */
    change_set(w, c, entry_make(p.dir, p.name, p.name_len), ino);
    if (s->sync_later)
        file_unsettle(w, ino);
    inode_put(w, ino);
    if (s->sync_later)
        return 0;
    list_for_each(it, &w->changes)
        container_of(it, struct mem_change, link)->marked = false;
    c->marked = true;
    names_commit_marked(w);
    return 0;
}

/* The power goes during a PUT: a temporary file may be left behind, with part of the data. */
static void put_cut(struct mem_world *w, const struct env_name_step *s)
{
    struct mem_path p;
    if (path_find(w, s->path, &p) != 0 || p.dir == NULL || rng_below(&w->rng_device, 2) == 0)
        return;
    size_t len_bytes = rng_below(&w->rng_device, s->data_len + 1);
    struct mem_inode *ino = file_of_data(w, p.dir->device, s->data, len_bytes);
    change_set(w, change_new(w), put_temp_entry(&p), ino);
    inode_put(w, ino);
}

static int step_get(struct mem_env *e, struct env_name_step *s)
{
    struct mem_path p;
    int rc = path_find_file(e->world, s->path, &p);
    if (rc != 0)
        return rc;
    if (is_unreadable(p.inode, 0, p.inode->live_size))
        return -EIO;
    s->ret_data = alloc_zeroed(p.inode->live_size + 1);
    s->ret_data_len = inode_read(p.inode, (uint8_t *)s->ret_data, p.inode->live_size, 0);
    return 0;
}

static int step_list(struct mem_env *e, struct env_name_step *s)
{
    struct mem_path p;
    int rc = path_find_existing(e->world, s->path, &p);
    if (rc != 0)
        return rc;
    if (!p.inode->is_dir)
        return -ENOTDIR;
    struct mem_entry *entry;
    size_t len = 0, count = 0;
    for (size_t it = 0; (entry = map_next(&p.inode->entries, &it)) != NULL;)
        len += entry->live == NULL ? 0 : strlen(entry->name) + 1;
    char *data = alloc_zeroed(len + 1);
    len = 0;
    for (size_t it = 0; (entry = map_next(&p.inode->entries, &it)) != NULL;) {
        if (entry->live == NULL)
            continue;
        size_t name_size = strlen(entry->name) + 1;
        memcpy(data + len, entry->name, name_size);
        len += name_size;
        count++;
    }
    s->ret_data = data;
    s->ret_data_len = len;
    s->ret_count = count;
    return 0;
}

static int step_stat(struct mem_env *e, struct env_name_step *s)
{
    struct mem_world *w = e->world;
    struct mem_path p;
    int rc = path_find_existing(w, s->path, &p);
    if (rc != 0)
        return rc;
    uint64_t used_bytes = MIN(device_of(w, p.inode)->used_bytes, w->capacity_bytes);
    s->ret_size_bytes = p.inode->live_size;
    s->ret_free_bytes = w->capacity_bytes - used_bytes;
    s->ret_total_bytes = w->capacity_bytes;
    s->ret_flushes_failed = losses_counted(&device_of(w, p.inode)->losses);
    return 0;
}

static int step_run(struct mem_env *e, struct env_name_step *s)
{
    (void)e;
    return s->run(s->arg);
}

static const struct {
    int (*run)(struct mem_env *, struct env_name_step *);
    bool is_effect; /* can change something, so the power may be cut at it */
} step_table[ENV_STEP_KINDS] = {
    [ENV_STEP_MKDIR] = {step_mkdir, true},       [ENV_STEP_RMDIR] = {step_rmdir, true},
    [ENV_STEP_UNLINK] = {step_unlink, true},     [ENV_STEP_RENAME] = {step_rename, true},
    [ENV_STEP_SYNC_DIR] = {step_sync_dir, true}, [ENV_STEP_SYNC_FS] = {step_sync_fs, true},
    [ENV_STEP_CREATE] = {step_create, true},     [ENV_STEP_PREWRITE] = {step_prewrite, true},
    [ENV_STEP_OPEN] = {step_open, false},        [ENV_STEP_RESIZE] = {step_resize, true},
    [ENV_STEP_PUT] = {step_put, true},           [ENV_STEP_GET] = {step_get, false},
    [ENV_STEP_LIST] = {step_list, false},        [ENV_STEP_STAT] = {step_stat, false},
    [ENV_STEP_OPEN_CACHED] = {step_open, false}, [ENV_STEP_RUN] = {step_run, false},
};

/* ---- power ---- */

/* A buffer changed while the device may read it: the caller's bug, whatever it would have done. */
static void buffers_check(const struct mem_op *m)
{
    bool buffer_unchanged_in_flight = iov_crc(m->iov, m->iov_n) == m->crc;
    ASSERT(buffer_unchanged_in_flight);
}

void mem_world_power_off(struct mem_world *w)
{
    if (w->crashed)
        return;
    w->crashed = true;
    w->crash_at = 0;
    list_for_each(it, &w->events) {
        struct mem_op *m = container_of(it, struct mem_op, link);
        if (m->kind == ENV_OP_NAMES && m->step < m->op->steps_n &&
            m->op->steps[m->step].kind == ENV_STEP_PUT)
            put_cut(w, &m->op->steps[m->step]);
        if (m->kind != ENV_OP_WRITE)
            continue;
        buffers_check(m);
        struct mem_write *wr = write_new(w, m);
        wr->in_flight = true;
        write_queue(w, m->file->inode, wr);
    }
}

static void effect_counted(struct mem_world *w)
{
    w->io_count++;
    if (w->crash_at > 0 && --w->crash_at == 0)
        mem_world_power_off(w);
}

/* ---- effects: what happens on the device, apart from any callback ---- */

static void events_insert(struct mem_world *w, struct mem_op *m)
{
    struct list_node *after = w->events.prev;
    while (after != &w->events && container_of(after, struct mem_op, link)->due_ns > m->due_ns)
        after = after->prev;
    list_insert_between(&m->link, after, after->next);
}

/* Another place in the same file that takes len_bytes, or the same when there is none. */
static uint64_t misdirect(struct mem_world *w, const struct mem_op *m)
{
    uint64_t size = block_floor(m->file->inode->live_size);
    if (size < m->len_bytes + BLOCK_BYTES)
        return m->offset_bytes;
    uint64_t places = (size - m->len_bytes) / BLOCK_BYTES; /* not counting the right one */
    uint64_t offset_bytes = rng_below(&w->rng_device, places) * BLOCK_BYTES;
    return offset_bytes >= m->offset_bytes ? offset_bytes + BLOCK_BYTES : offset_bytes;
}

/* Asked once by each operation on it. */
static bool device_fails(struct mem_world *w, struct mem_device *dev)
{
    if (!dev->failing && dev->fail_in > 0 && --dev->fail_in == 0) {
        dev->failing = true;
        device_settle(w, dev);
    }
    return dev->failing;
}

static bool step_device_fails(struct mem_world *w, const struct env_name_step *s)
{
    struct mem_path p;
    if (path_find(w, s->path, &p) != 0 || (p.inode == NULL && p.dir == NULL))
        return false;
    return device_fails(w, device_of(w, p.inode != NULL ? p.inode : p.dir));
}

static int read_effect(struct mem_world *w, struct mem_op *m)
{
    if (device_fails(w, device_of(w, m->file->inode)) || fault_hit(w, MEM_FAULT_READ_EIO) ||
        is_unreadable(m->file->inode, m->offset_bytes, m->len_bytes))
        return -EIO;
    if (fault_hit(w, MEM_FAULT_READ_MISDIRECTED))
        m->offset_bytes = misdirect(w, m);
    uint64_t at = m->offset_bytes;
    for (unsigned i = 0; i < m->iov_n; i++) {
        uint64_t n = inode_read(m->file->inode, m->iov[i].iov_base, m->iov[i].iov_len, at);
        at += n;
        if (n < m->iov[i].iov_len)
            break;
    }
    m->env->base.counters.read_bytes += at - m->offset_bytes;
    return (int)(at - m->offset_bytes);
}

/* Cut a failed write down to what reached the device: anything, or a prefix. */
static void write_fail(struct mem_world *w, struct mem_inode *ino, struct mem_write *wr,
                       bool is_short)
{
    size_t prefix_n = rng_below(&w->rng_device, wr->blocks_n);
    for (size_t i = 0; i < wr->blocks_n; i++) {
        enum fate fate = i < prefix_n ? FATE_KEPT : FATE_DROPPED;
        if (!is_short)
            fate = (enum fate)rng_below(&w->rng_device, FATES);
        if (fate == FATE_DROPPED)
            write_clear(wr, i);
        if (fate != FATE_TORN)
            continue;
        struct mem_block *b = block_at(ino, wr->first_block + i);
        struct mem_page *torn = page_torn(w, b->live, wr->blocks[i].page);
        page_put(wr->blocks[i].page);
        wr->blocks[i].page = torn;
    }
}

static void write_make_stable(struct mem_world *w, struct mem_inode *ino, struct mem_write *wr)
{
    for (size_t i = 0; i < wr->blocks_n; i++) {
        struct mem_block *b = block_at(ino, wr->first_block + i);
        inode_forget_block(ino, wr->first_block + i);
        page_set(&b->stable, wr->blocks[i].page);
        b->written = true;
    }
    write_free(wr);
    inode_drop_settled(ino);
    inode_commit_size(w, ino);
}

static int write_effect(struct mem_world *w, struct mem_op *m)
{
    struct mem_inode *ino = m->file->inode;
    buffers_check(m);
    if (device_fails(w, device_of(w, ino)))
        return -EIO;
    if (fault_hit(w, MEM_FAULT_WRITE_MISDIRECTED))
        m->offset_bytes = misdirect(w, m);
    struct mem_write *wr = write_new(w, m);
    bool failed = fault_hit(w, MEM_FAULT_WRITE_EIO), is_short = fault_hit(w, MEM_FAULT_WRITE_SHORT);
    if ((failed || is_short) && wr->blocks_n > 0)
        write_fail(w, ino, wr, is_short && !failed);
    for (size_t i = 0; i < wr->blocks_n; i++)
        if (wr->blocks[i].pending) {
            struct mem_block *b = block_at(ino, wr->first_block + i);
            page_set(&b->live, wr->blocks[i].page);
            b->unreadable = false;
        }
    if (m->dsync && !failed && !is_short) {
        write_make_stable(w, ino, wr);
    } else {
        write_queue(w, ino, wr);
        inode_drop_settled(ino);
    }
    trace_mix(w, m->crc, m->offset_bytes);
    effect_counted(w);
    if (failed || is_short)
        return -EIO;
    m->env->base.counters.write_bytes += m->len_bytes;
    return (int)m->len_bytes;
}

static int flush_effect(struct mem_world *w, struct mem_op *m)
{
    struct mem_inode *own = m->file->inode;
    struct mem_device *dev = device_of(w, own);
    int res = 0;
    if (device_fails(w, dev))
        return -EIO;
    if (fault_hit(w, MEM_FAULT_FLUSH_EIO)) {
        device_settle(w, dev);
        res = -EIO;
    } else {
        list_for_each_safe(it, next, &dev->dirty) {
            struct mem_inode *ino = container_of(it, struct mem_inode, dirty_link);
            inode_flush(ino, m->seq, ino == own);
        }
        inode_commit_size(w, own);
        m->env->base.counters.flushes++;
    }
    effect_counted(w);
    return res;
}

static void sink_append(struct mem_sink *sink, const void *data, size_t len_bytes)
{
    if (sink->cap_bytes - sink->len_bytes < len_bytes) {
        sink->cap_bytes = MAX(sink->cap_bytes * 2, sink->len_bytes + len_bytes);
        sink->data = realloc(sink->data, sink->cap_bytes);
        ASSERT(sink->data != NULL);
    }
    memcpy(sink->data + sink->len_bytes, data, len_bytes);
    sink->len_bytes += len_bytes;
}

static struct mem_sink *sink_of(struct mem_world *w, int sock)
{
    struct mem_sink *sink = map_get(&w->sinks, (uint64_t)sock);
    if (sink == NULL) {
        sink = alloc_zeroed(sizeof(*sink));
        map_set(&w->sinks, (uint64_t)sock, sink);
    }
    return sink;
}

static int send_effect(struct mem_world *w, struct mem_op *m)
{
    if (!m->releasing)
        return (int)m->len_bytes;
    for (unsigned i = 0; i < m->iov_n; i++)
        if (m->iov[i].iov_len > 0)
            sink_append(sink_of(w, m->sock), m->iov[i].iov_base, m->iov[i].iov_len);
    m->env->base.counters.egress_bytes[ENV_EGRESS_SEND] += m->len_bytes;
    trace_mix(w, iov_crc(m->iov, m->iov_n), (uint64_t)m->sock);
    return m->res;
}

/* The bytes are those of the file at the end of the op; what comes later to the file does not
 * change them, as it must be written directly. */
static int splice_effect(struct mem_world *w, struct mem_op *m)
{
    if (m->releasing)
        return m->res;
    if (device_fails(w, device_of(w, m->file->inode)) || fault_hit(w, MEM_FAULT_READ_EIO) ||
        is_unreadable(m->file->inode, m->offset_bytes, m->len_bytes))
        return -EIO;
    uint8_t *data = alloc_zeroed(m->len_bytes);
    uint64_t n = inode_read(m->file->inode, data, m->len_bytes, m->offset_bytes);
    sink_append(sink_of(w, m->sock), data, n);
    m->env->base.counters.egress_bytes[ENV_EGRESS_SPLICE] += n;
    trace_mix(w, crc32c(data, n), (uint64_t)m->sock);
    free(data);
    return n == m->len_bytes ? (int)n : -EIO;
}

static uint64_t step_delay(struct mem_world *w, const struct mem_op *m)
{
    const struct env_name_step *s = &m->op->steps[m->step];
    uint64_t mean_ns = s->kind == ENV_STEP_SYNC_DIR ? 800000 : 20000;
    return random_delay(w, mean_ns + (s->kind == ENV_STEP_PREWRITE ? s->size_bytes : 0));
}

/* One step; true: there are more. */
static bool names_effect(struct mem_world *w, struct mem_op *m)
{
    m->res = 0;
    if (m->step == m->op->steps_n)
        return false;
    struct env_name_step *s = &m->op->steps[m->step];
    ASSERT(s->kind < ENV_STEP_KINDS);
    bool is_io = s->kind != ENV_STEP_RUN;
    if (is_io && (step_device_fails(w, s) || fault_hit(w, MEM_FAULT_NAME_EIO)))
        m->res = -EIO;
    else
        m->res = step_table[s->kind].run(m->env, s);
    trace_mix(w, s->kind, s->path == NULL ? 0 : name_hash(s->path, strlen(s->path)));
    if (step_table[s->kind].is_effect)
        effect_counted(w);
    if (m->res != 0)
        return false;
    m->step++;
    return m->step < m->op->steps_n;
}

static int net_effect(struct mem_world *w, struct mem_op *m)
{
    (void)w;
    (void)m;
    return -ENOSYS; /* there is no network to receive from */
}

static int (*const effect_table[ENV_OP_KINDS])(struct mem_world *, struct mem_op *) = {
    [ENV_OP_READ] = read_effect,  [ENV_OP_WRITE] = write_effect, [ENV_OP_FLUSH] = flush_effect,
    [ENV_OP_ACCEPT] = net_effect, [ENV_OP_RECV] = net_effect,    [ENV_OP_RECV_ANY] = net_effect,
    [ENV_OP_SEND] = send_effect,  [ENV_OP_CONNECT] = net_effect, [ENV_OP_SPLICE] = splice_effect,
};

static bool op_has_file(enum env_op_kind kind)
{
    return kind == ENV_OP_READ || kind == ENV_OP_WRITE || kind == ENV_OP_FLUSH;
}

static void event_run(struct mem_world *w)
{
    struct mem_op *m = container_of(list_pop_head(&w->events), struct mem_op, link);
    w->now_ns = MAX(w->now_ns, m->due_ns);
    w->idle_turns = 0;
    if (m->kind == ENV_OP_NAMES) {
        if (names_effect(w, m)) {
            m->due_ns = w->now_ns + step_delay(w, m);
            events_insert(w, m);
            return;
        }
    } else {
        m->res = effect_table[m->kind](w, m);
        if (op_has_file(m->kind))
            losses_note(m->op, &m->file->losses, m->res);
    }
    trace_mix(w, (uint64_t)m->kind << 8 | m->env->base.index, (uint64_t)(int64_t)m->res);
    list_push_tail(&m->env->done, &m->link);
}

void mem_world_kill(struct mem_world *w)
{
    w->crash_at = 0;
    while (!w->crashed && !list_empty(&w->events)) {
        struct mem_op *m = container_of(list_pop_head(&w->events), struct mem_op, link);
        if (m->kind == ENV_OP_NAMES)
            names_effect(w, m);
        else
            m->res = effect_table[m->kind](w, m);
        list_push_tail(&m->env->done, &m->link);
    }
    w->killed = !w->crashed;
    w->crashed = true;
}

static uint64_t events_next_ns(const struct mem_world *w)
{
    return list_empty(&w->events) ? UINT64_MAX
                                  : container_of(w->events.next, struct mem_op, link)->due_ns;
}

static void world_advance_to(struct mem_world *w, uint64_t now_ns)
{
    while (!w->crashed && events_next_ns(w) <= now_ns)
        event_run(w);
    if (!w->crashed)
        w->now_ns = MAX(w->now_ns, now_ns);
}

/* ---- submitting ---- */

static void transfer_check(struct mem_op *m)
{
    struct mem_inode *ino = m->file->inode;
    for (unsigned i = 0; i < m->iov_n; i++) {
        ASSERT((uintptr_t)m->iov[i].iov_base % BLOCK_BYTES == 0);
        ASSERT(m->iov[i].iov_len % BLOCK_BYTES == 0);
    }
    ASSERT(m->len_bytes <= INT32_MAX);
    if (m->kind != ENV_OP_WRITE)
        return;
    ASSERT(m->offset_bytes + m->len_bytes <= ino->live_size); /* no write extends */
    list_for_each(it, &ino->transfers) {
        const struct mem_op *other = container_of(it, struct mem_op, transfer);
        bool writes_overlap = other->kind == ENV_OP_WRITE &&
                              m->offset_bytes < other->offset_bytes + other->len_bytes &&
                              other->offset_bytes < m->offset_bytes + m->len_bytes;
        ASSERT(!writes_overlap);
    }
}

static uint64_t submit_transfer(struct mem_world *w, struct mem_op *m)
{
    transfer_check(m);
    list_push_tail(&m->file->inode->transfers, &m->transfer);
    if (m->kind == ENV_OP_WRITE) {
        m->crc = iov_crc(m->iov, m->iov_n);
        return device_delay(w, w->write_ns);
    }
    for (unsigned i = 0; i < m->iov_n; i++) /* whoever looks before on_done finds rubbish */
        memset(m->iov[i].iov_base, 0xdb, m->iov[i].iov_len);
    return device_delay(w, w->read_ns);
}

static uint64_t submit_flush(struct mem_world *w, struct mem_op *m)
{
    m->seq = w->write_seq;
    return device_delay(w, w->flush_ns);
}

static uint64_t submit_names(struct mem_world *w, struct mem_op *m)
{
    return m->op->steps_n == 0 ? 0 : step_delay(w, m);
}

static uint64_t submit_net(struct mem_world *w, struct mem_op *m)
{
    (void)m;
    return random_delay(w, 1000);
}

static uint64_t submit_send(struct mem_world *w, struct mem_op *m)
{
    struct mem_sink *sink = sink_of(w, m->sock);
    ASSERT(!sink->sending); /* the next one only after on_done */
    sink->sending = true;
    return random_delay(w, 10000);
}

static uint64_t (*const submit_table[ENV_OP_KINDS])(struct mem_world *, struct mem_op *) = {
    [ENV_OP_READ] = submit_transfer, [ENV_OP_WRITE] = submit_transfer,
    [ENV_OP_FLUSH] = submit_flush,   [ENV_OP_NAMES] = submit_names,
    [ENV_OP_ACCEPT] = submit_net,    [ENV_OP_RECV] = submit_net,
    [ENV_OP_RECV_ANY] = submit_net,  [ENV_OP_SEND] = submit_send,
    [ENV_OP_CONNECT] = submit_net,   [ENV_OP_SPLICE] = submit_send,
};

static bool is_send(enum env_op_kind kind)
{
    return kind == ENV_OP_SEND || kind == ENV_OP_SPLICE;
}

static void send_not_reused_check(const struct mem_env *e, const struct env_op *op)
{
    const struct list_node *heads[2] = {&e->world->events, &e->done};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        list_for_each(it, heads[i]) {
            bool op_reused_before_release = container_of(it, struct mem_op, link)->op == op;
            ASSERT(!op_reused_before_release);
        }
}

static void mem_submit(struct env *env, struct env_op *op)
{
    struct mem_env *e = container_of(env, struct mem_env, base);
    struct mem_world *w = e->world;
    ASSERT(op->kind < ENV_OP_KINDS);
    struct mem_op *m = alloc_zeroed(sizeof(*m));
    m->env = e;
    m->op = op;
    m->kind = op->kind;
    m->iov = op->iov;
    m->iov_n = op->iov_n;
    m->offset_bytes = op->offset_bytes;
    m->len_bytes = op->len_bytes;
    m->sock = op->sock;
    m->on_released = op->on_released;
    m->dsync = op->kind == ENV_OP_WRITE && (op->flags & ENV_DSYNC) != 0;
    env->counters.submissions++;
    if (is_send(op->kind))
        send_not_reused_check(e, op);
    if (op->kind == ENV_OP_SPLICE) {
        m->file = op->extent->file;
        m->file->transfers_n++;
        m->offset_bytes = op->extent->offset_bytes;
    }
    if (op_has_file(op->kind)) {
        ASSERT(op->file->env == e);
        m->file = op->file;
        m->file->transfers_n++;
        losses_begin(op, &m->file->losses);
    }
    uint64_t delay_ns = submit_table[op->kind](w, m);
    m->due_ns = w->now_ns + delay_ns;
    if (w->crashed)
        list_push_tail(&e->done, &m->link); /* the next turn fails it */
    else
        events_insert(w, m);
}

/* ---- turning ---- */

static void callback_release(struct mem_op *m)
{
    struct env_op *op = m->op;
    env_done_fn on_released = m->on_released;
    free(m);
    if (on_released != NULL)
        on_released(op);
}

/* The bytes stay lent for a while; sockets release in sending order. */
static void send_schedule_release(struct mem_world *w, struct mem_op *m)
{
    struct mem_sink *sink = sink_of(w, m->sock);
    sink->sending = false;
    m->releasing = true;
    uint64_t lent_ns = rng_below(&w->rng_time, 2000000);
    m->due_ns = MAX(w->now_ns + lent_ns, sink->release_ns + 1);
    sink->release_ns = m->due_ns;
    if (w->crashed)
        list_push_tail(&m->env->done, &m->link);
    else
        events_insert(w, m);
}

static void callback_run(struct mem_op *m)
{
    struct env_op *op = m->op;
    struct mem_env *e = m->env;
    e->world->idle_turns = 0;
    trace_mix(e->world, 0x100 + m->kind, (uint64_t)(int64_t)m->res);
    if (m->releasing) {
        callback_release(m);
        return;
    }
    op->res = m->res;
    op->more = false;
    op->busy = false;
    if (m->kind == ENV_OP_NAMES && m->res != 0)
        op->failed_step = m->step;
    if (m->file != NULL && op_has_file(m->kind))
        op->res = losses_end(op, &m->file->losses, m->res);
    if (m->file != NULL)
        m->file->transfers_n--;
    list_remove(&m->transfer);
    e->base.counters.completions++;
    if (is_send(m->kind))
        send_schedule_release(e->world, m);
    else
        free(m);
    op->on_done(op);
}

static size_t list_count(const struct list_node *head)
{
    size_t n = 0;
    list_for_each(it, head)
        n++;
    return n;
}

/* Move a random number of the finished ops, in random order, to batch. */
static void batch_pick(struct mem_env *e, struct list_node *batch)
{
    size_t count = list_count(&e->done);
    size_t picks = count == 0 ? 0 : 1 + rng_below(&e->world->rng_time, count);
    for (; picks > 0; picks--, count--) {
        struct list_node *it = e->done.next;
        for (uint64_t skip = rng_below(&e->world->rng_time, count); skip > 0; skip--)
            it = it->next;
        list_remove(it);
        list_push_tail(batch, it);
    }
}

static void batch_run(struct mem_env *e)
{
    struct list_node batch;
    list_init(&batch);
    batch_pick(e, &batch);
    while (!list_empty(&batch) && !e->world->crashed)
        callback_run(container_of(list_pop_head(&batch), struct mem_op, link));
    list_splice_tail(&e->done, &batch); /* the power went: they fail in the next turn */
}

static void message_run(struct mem_env *e, struct list_node *node)
{
    struct env_msg *msg = container_of(node, struct env_msg, link);
    e->world->idle_turns = 0;
    e->base.counters.messages++;
    trace_mix(e->world, 0x200 + e->base.index, msg->from);
    msg->run(e->base.shard, msg);
}

/* All that were there, in order for each sender, the senders mixed. */
static void messages_run(struct mem_env *e)
{
    unsigned count = e->base.count, left = 0;
    struct list_node *taken = alloc_zeroed(count * sizeof(*taken));
    for (unsigned i = 0; i < count; i++) {
        list_init(&taken[i]);
        left += (unsigned)list_count(&e->inbox[i]);
        list_splice_tail(&taken[i], &e->inbox[i]);
    }
    while (left > 0) {
        unsigned from = (unsigned)rng_below(&e->world->rng_time, count);
        while (list_empty(&taken[from]))
            from = (from + 1) % count;
        message_run(e, list_pop_head(&taken[from]));
        left--;
    }
    free(taken);
}

static bool env_ready(const struct mem_env *e)
{
    for (unsigned i = 0; i < e->base.count; i++)
        if (!list_empty(&e->inbox[i]))
            return true;
    return !list_empty(&e->done);
}

static bool others_ready(const struct mem_env *e)
{
    for (unsigned i = 0; i < ENVS_MAX; i++)
        if (e->world->envs[i] != NULL && e->world->envs[i] != e && env_ready(e->world->envs[i]))
            return true;
    return false;
}

static uint64_t env_next_ns(const struct mem_env *e)
{
    list_for_each(it, &e->world->events) {
        const struct mem_op *m = container_of(it, struct mem_op, link);
        if (m->env == e)
            return m->due_ns;
    }
    return UINT64_MAX;
}

/* Nothing came of this turn. With one env, or again and again, it never will. */
static void idle_check(struct mem_env *e, bool hopeless)
{
    bool deadlock = hopeless && e->base.count == 1;
    ASSERT(!deadlock);
    bool deadlock_of_all = ++e->world->idle_turns > IDLE_TURNS_MAX;
    ASSERT(!deadlock_of_all);
}

/* Let time pass until this env has something to do. An env that has nothing in flight leaves the
 * clock alone while another is ready, and stops at the next event of any: it may post. */
static void turn_wait(struct mem_env *e, uint64_t deadline_ns)
{
    struct mem_world *w = e->world;
    world_advance_to(w, w->now_ns + 1 + rng_below(&w->rng_time, 500)); /* code takes time */
    if (w->crashed || env_ready(e))
        return;
    uint64_t next_ns = env_next_ns(e);
    if (next_ns == UINT64_MAX) {
        if (others_ready(e)) {
            idle_check(e, false);
            return;
        }
        next_ns = events_next_ns(w);
    }
    uint64_t until_ns = MIN(next_ns, deadline_ns);
    if (until_ns == UINT64_MAX)
        idle_check(e, true);
    else if (until_ns > w->now_ns)
        world_advance_to(w, until_ns);
}

/* After a power cut: fail what there is. */
static void turn_crashed(struct mem_env *e, uint64_t deadline_ns)
{
    struct mem_world *w = e->world;
    list_for_each_safe(it, next, &w->events) {
        if (container_of(it, struct mem_op, link)->env != e)
            continue;
        list_remove(it);
        list_push_tail(&e->done, it);
    }
    struct list_node batch;
    list_init(&batch);
    list_splice_tail(&batch, &e->done);
    if (list_empty(&batch) && deadline_ns != UINT64_MAX)
        w->now_ns = MAX(w->now_ns, deadline_ns); /* loops on time end too */
    e->now_ns = w->now_ns;
    while (!list_empty(&batch)) {
        struct mem_op *m = container_of(list_pop_head(&batch), struct mem_op, link);
        m->res = -EIO;
        callback_run(m);
    }
    messages_run(e);
}

static void mem_turn(struct env *env, uint64_t deadline_ns)
{
    struct mem_env *e = container_of(env, struct mem_env, base);
    env->counters.turns++;
    if (e->world->crashed) {
        turn_crashed(e, deadline_ns);
        return;
    }
    turn_wait(e, deadline_ns);
    e->now_ns = e->world->now_ns;
    if (e->world->crashed)
        return;
    bool messages_first = rng_below(&e->world->rng_time, 2) == 0;
    if (messages_first)
        messages_run(e);
    batch_run(e);
    if (!messages_first && !e->world->crashed)
        messages_run(e);
}

/* ---- the rest of the environment ---- */

static uint64_t mem_now_ns(struct env *env)
{
    return container_of(env, struct mem_env, base)->now_ns;
}

static int64_t mem_wall_ms(struct env *env)
{
    const struct mem_env *e = container_of(env, struct mem_env, base);
    return WALL_START_MS + e->world->wall_step_ms + (int64_t)(e->now_ns / 1000000);
}

static uint64_t mem_random(struct env *env)
{
    return rng_next(&container_of(env, struct mem_env, base)->world->rng_core);
}

static void mem_sock_ignore(struct env *env, int sock)
{
    (void)env;
    (void)sock; /* sinks have no end of their own */
}

static void mem_file_close(struct env *env, struct env_file *file)
{
    struct mem_env *e = container_of(env, struct mem_env, base);
    ASSERT(file->env == e);
    ASSERT(file->transfers_n == 0);
    file_free(e->world, file);
}

static int mem_file_synced(struct env *env, struct env_file *file)
{
    (void)env;
    return losses_synced(&file->losses);
}

static void mem_recv_return(struct env *env, struct env_op *op)
{
    (void)env;
    ASSERT(op->buf == NULL); /* none is ever lent */
}

static void mem_post(struct env *env, unsigned to, struct env_msg *msg)
{
    struct mem_env *e = container_of(env, struct mem_env, base);
    ASSERT(to < env->count);
    struct mem_env *target = e->world->envs[to];
    ASSERT(target != NULL);
    ASSERT(!list_linked(&msg->link));
    msg->from = env->index;
    list_push_tail(&target->inbox[env->index], &msg->link);
}

static void op_drop(struct mem_op *m)
{
    list_remove(&m->link);
    list_remove(&m->transfer);
    free(m);
}

static void mem_destroy(struct env *env)
{
    struct mem_env *e = container_of(env, struct mem_env, base);
    struct mem_world *w = e->world;
    bool in_flight = env_next_ns(e) != UINT64_MAX || !list_empty(&e->done);
    ASSERT(w->crashed || !in_flight);
    ASSERT(w->crashed || list_empty(&e->files));
    list_for_each_safe(it, next, &w->events)
        if (container_of(it, struct mem_op, link)->env == e)
            op_drop(container_of(it, struct mem_op, link));
    list_for_each_safe(it, next, &e->done)
        op_drop(container_of(it, struct mem_op, link));
    for (unsigned i = 0; i < env->count && !w->crashed; i++)
        while (list_pop_head(&e->inbox[i]) != NULL)
            continue; /* undelivered: the sender's again */
    list_for_each_safe(it, next, &e->files)
        file_free(w, container_of(it, struct env_file, link));
    w->envs[env->index] = NULL;
    free(e->inbox);
    free(e);
}

static const struct env_ops mem_ops = {
    .now_ns = mem_now_ns,
    .wall_ms = mem_wall_ms,
    .random = mem_random,
    .submit = mem_submit,
    .file_close = mem_file_close,
    .file_synced = mem_file_synced,
    .recv_return = mem_recv_return,
    .sock_shutdown = mem_sock_ignore,
    .sock_close = mem_sock_ignore,
    .post = mem_post,
    .turn = mem_turn,
    .destroy = mem_destroy,
};

struct env *env_mem_create(struct mem_world *w, unsigned index, unsigned count, void *shard)
{
    ASSERT(index < count && count <= ENVS_MAX);
    ASSERT(w->envs[index] == NULL);
    struct mem_env *e = alloc_zeroed(sizeof(*e));
    e->base = (struct env){.ops = &mem_ops, .index = index, .count = count, .shard = shard};
    e->world = w;
    e->now_ns = w->now_ns;
    list_init(&e->done);
    list_init(&e->files);
    e->inbox = alloc_zeroed(count * sizeof(*e->inbox));
    for (unsigned i = 0; i < count; i++)
        list_init(&e->inbox[i]);
    w->envs[index] = e;
    return &e->base;
}

/* ---- the world ---- */

struct mem_world *mem_world_create(uint64_t seed)
{
    struct mem_world *w = alloc_zeroed(sizeof(*w));
    rng_seed(&w->rng_time, seed);
    rng_seed(&w->rng_device, seed ^ 0x646576696365u);
    rng_seed(&w->rng_core, seed ^ 0x636f7265u);
    w->now_ns = 1000000000;
    w->capacity_bytes = CAPACITY_BYTES;
    mem_world_set_latency(w, 100000, 400000, 80000);
    list_init(&w->events);
    list_init(&w->changes);
    list_init(&w->inodes);
    map_init(&w->sinks);
    for (unsigned i = 0; i < DEVICES; i++)
        list_init(&w->devices[i].dirty);
    w->root = inode_new(w, 0, true);
    return w;
}

static bool world_has_envs(const struct mem_world *w)
{
    for (unsigned i = 0; i < ENVS_MAX; i++)
        if (w->envs[i] != NULL)
            return true;
    return false;
}

/* Live names and sizes become what is stable. */
static void inode_restart(struct mem_world *w, struct mem_inode *ino)
{
    struct mem_entry *e;
    for (size_t it = 0; (e = map_next(&ino->entries, &it)) != NULL;)
        entry_set_live(w, e, e->stable);
    if (ino->live_size > ino->stable_size)
        inode_cut(ino, ino->stable_size);
    ino->live_size = ino->stable_size;
    inode_charge(w, ino);
}

static void names_settle(struct mem_world *w)
{
    uint64_t kept = rng_below(&w->rng_device, list_count(&w->changes) + 1);
    for (; kept > 0; kept--)
        change_commit(w, container_of(w->changes.next, struct mem_change, link));
    while (!list_empty(&w->changes))
        change_free(w, container_of(w->changes.next, struct mem_change, link));
    list_for_each(it, &w->inodes) /* keeps the list whole below */
        inode_get(container_of(it, struct mem_inode, link));
    list_for_each(it, &w->inodes)
        inode_restart(w, container_of(it, struct mem_inode, link));
    list_for_each_safe(it, next, &w->inodes)
        inode_put(w, container_of(it, struct mem_inode, link));
}

void mem_world_crash(struct mem_world *w)
{
    ASSERT(!world_has_envs(w));
    ASSERT(list_empty(&w->events));
    mem_world_power_off(w);
    if (!w->killed) {
        for (unsigned i = 0; i < DEVICES; i++)
            device_settle(w, &w->devices[i]);
        names_settle(w);
    }
    w->killed = false;
    struct mem_sink *sink;
    for (size_t it = 0; (sink = map_next(&w->sinks, &it)) != NULL;)
        sink->sending = false;
    w->crashed = false;
}

static void sink_free(struct mem_sink *sink)
{
    free(sink->data);
    free(sink);
}

void mem_world_destroy(struct mem_world *w)
{
    struct mem_sink *sink;
    if (w == NULL)
        return;
    ASSERT(!world_has_envs(w));
    while (!list_empty(&w->changes))
        change_free(w, container_of(w->changes.next, struct mem_change, link));
    list_for_each(it, &w->inodes)
        inode_get(container_of(it, struct mem_inode, link));
    list_for_each(it, &w->inodes) {
        struct mem_inode *ino = container_of(it, struct mem_inode, link);
        struct mem_entry *e;
        for (size_t at = 0; (e = map_next(&ino->entries, &at)) != NULL;)
            entry_clear(w, e);
    }
    inode_put(w, w->root);
    list_for_each_safe(it, next, &w->inodes)
        inode_put(w, container_of(it, struct mem_inode, link));
    for (size_t at = 0; (sink = map_next(&w->sinks, &at)) != NULL;)
        sink_free(sink);
    map_fini(&w->sinks);
    free(w);
}

void mem_world_crash_at_io(struct mem_world *w, uint64_t nth)
{
    w->crash_at = nth;
}

bool mem_world_crashed(const struct mem_world *w)
{
    return w->crashed;
}

uint64_t mem_world_io_count(const struct mem_world *w)
{
    return w->io_count;
}

void mem_world_fail_at(struct mem_world *w, enum mem_fault fault, uint64_t nth)
{
    ASSERT(fault < MEM_FAULT_KINDS);
    w->fault_in[fault] = nth;
}

uint64_t mem_world_fault_hits(const struct mem_world *w, enum mem_fault fault)
{
    ASSERT(fault < MEM_FAULT_KINDS);
    return w->fault_hits[fault];
}

void mem_world_fail_device(struct mem_world *w, unsigned device, uint64_t nth)
{
    ASSERT(device >= 2 && device <= DEVICES);
    w->devices[device - 1].fail_in = nth;
    w->devices[device - 1].failing = false;
}

bool mem_world_device_failing(const struct mem_world *w, unsigned device)
{
    ASSERT(device >= 2 && device <= DEVICES);
    return w->devices[device - 1].failing;
}

void mem_world_set_stalls(struct mem_world *w, uint64_t one_in)
{
    w->stall_one_in = one_in;
}

void mem_world_set_capacity(struct mem_world *w, uint64_t bytes)
{
    w->capacity_bytes = bytes;
}

static void page_flip(struct mem_world *w, struct mem_page **slot, uint64_t from, uint64_t n)
{
    uint8_t bytes[BLOCK_BYTES];
    memcpy(bytes, page_bytes(*slot), BLOCK_BYTES);
    for (uint64_t i = from; i < from + n; i++)
        bytes[i] ^= (uint8_t)(1u << rng_below(&w->rng_device, 8));
    page_put(*slot);
    *slot = page_of(bytes);
}

int mem_world_corrupt(struct mem_world *w, const char *path, uint64_t offset_bytes,
                      uint64_t len_bytes)
{
    struct mem_path p;
    int rc = path_find_file(w, path, &p);
    if (rc != 0)
        return rc;
    if (offset_bytes > p.inode->live_size || len_bytes > p.inode->live_size - offset_bytes)
        return -EINVAL;
    for (uint64_t at = offset_bytes, end = offset_bytes + len_bytes; at < end;) {
        uint64_t in_block = at % BLOCK_BYTES, n = MIN(end - at, BLOCK_BYTES - in_block);
        struct mem_block *b = block_at(p.inode, at / BLOCK_BYTES);
        bool cached = b->live != b->stable;
        page_flip(w, &b->stable, in_block, n);
        if (!cached)
            page_set(&b->live, b->stable);
        at += n;
    }
    return 0;
}

int mem_world_unreadable(struct mem_world *w, const char *path, uint64_t offset_bytes)
{
    struct mem_path p;
    int rc = path_find_file(w, path, &p);
    if (rc == 0)
        block_at(p.inode, offset_bytes / BLOCK_BYTES)->unreadable = true;
    return rc;
}

/* Depth first below dir, whose path is the first len bytes of path. */
static bool file_nth_below(const struct mem_inode *dir, uint64_t *nth, char *path, size_t len,
                           size_t path_size, uint64_t *ret_size_bytes)
{
    struct mem_entry *e;
    for (size_t it = 0; (e = map_next(&dir->entries, &it)) != NULL;) {
        if (e->live == NULL || len + strlen(e->name) + 2 > path_size)
            continue;
        path[len] = '/';
        strcpy(path + len + 1, e->name);
        if (e->live->is_dir && file_nth_below(e->live, nth, path, len + 1 + strlen(e->name),
                                              path_size, ret_size_bytes))
            return true;
        if (e->live->is_dir || (*nth)-- > 0)
            continue;
        *ret_size_bytes = e->live->live_size;
        return true;
    }
    return false;
}

bool mem_world_file_nth(struct mem_world *w, uint64_t nth, char *ret_path, size_t path_size,
                        uint64_t *ret_size_bytes)
{
    return file_nth_below(w->root, &nth, ret_path, 0, path_size, ret_size_bytes);
}

uint64_t mem_file_read(const struct env_file *file, void *buf, uint64_t len_bytes,
                       uint64_t offset_bytes)
{
    return inode_read(file->inode, buf, len_bytes, offset_bytes);
}

int64_t mem_world_read_file(struct mem_world *w, const char *path, void *buf, uint64_t len_bytes,
                            uint64_t offset_bytes)
{
    struct mem_path p;
    int rc = path_find_file(w, path, &p);
    return rc != 0 ? rc : (int64_t)inode_read(p.inode, buf, len_bytes, offset_bytes);
}

int64_t mem_world_file_size(struct mem_world *w, const char *path)
{
    struct mem_path p;
    int rc = path_find_file(w, path, &p);
    return rc != 0 ? rc : (int64_t)p.inode->live_size;
}

bool mem_world_exists(struct mem_world *w, const char *path)
{
    struct mem_path p;
    return path_find_existing(w, path, &p) == 0;
}

void mem_world_set_latency(struct mem_world *w, uint64_t write_ns, uint64_t flush_ns,
                           uint64_t read_ns)
{
    w->write_ns = write_ns;
    w->flush_ns = flush_ns;
    w->read_ns = read_ns;
}

uint64_t mem_world_now_ns(const struct mem_world *w)
{
    return w->now_ns;
}

uint64_t mem_world_writing_bytes(const struct mem_world *w)
{
    uint64_t bytes = 0;
    list_for_each(it, &w->events) {
        const struct mem_op *m = container_of(it, struct mem_op, link);
        bytes += m->kind == ENV_OP_WRITE ? m->len_bytes : 0;
    }
    return bytes;
}

static bool rewrites(const struct mem_op *m)
{
    const struct mem_block *b = map_get(&m->file->inode->blocks, m->offset_bytes / BLOCK_BYTES);
    return b != NULL && b->written;
}

uint64_t mem_world_rewriting_bytes(const struct mem_world *w)
{
    uint64_t bytes = 0;
    list_for_each(it, &w->events) {
        const struct mem_op *m = container_of(it, struct mem_op, link);
        bytes += m->kind == ENV_OP_WRITE && !m->dsync && rewrites(m) ? m->len_bytes : 0;
    }
    return bytes;
}

uint64_t mem_world_next_ns(const struct mem_world *w)
{
    return events_next_ns(w);
}

bool env_mem_ready(const struct env *env)
{
    return env_ready(container_of(env, struct mem_env, base));
}

void mem_world_advance(struct mem_world *w, uint64_t ns)
{
    world_advance_to(w, w->now_ns + ns);
}

void mem_world_step_wall(struct mem_world *w, int64_t ms)
{
    w->wall_step_ms += ms;
}

const void *mem_world_sink(struct mem_world *w, int sock, size_t *ret_len_bytes)
{
    struct mem_sink *sink = sink_of(w, sock);
    *ret_len_bytes = sink->len_bytes;
    return sink->data;
}

uint64_t mem_world_trace_hash(const struct mem_world *w)
{
    return w->trace;
}
