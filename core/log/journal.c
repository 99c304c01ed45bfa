/* journal.c: group commit. Whatever came in since the last write of any partition of the shard goes
 * into one checksummed, chained write to the pre-written ring; a large run of one partition goes
 * straight to its segment at the same time and only its headers into the journal.
 * Happy path: journal_pump() forms a group from the dirty partitions -> the journal write and its
 *   runs are submitted together -> group_part_done() for each -> groups retire in order, so the
 *   stable end only ever moves over a contiguous prefix.
 * Failure: a failed journal write fences the store, a failed run its partition (run.c); nothing
 *   behind it is ever acknowledged. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"

#define RUN_BYTES_MAX (8u * 1024u * 1024u)
#define MARK_NS 50000000ull         /* quiet for so long: say that the last writes are durable */
#define MARK_RETRY_NS 1000000000ull /* the journal is full */

uint64_t journal_used_bytes(const struct log_store *s)
{
    return s->journal.head_pos - s->journal.tail_pos;
}

bool journal_idle(const struct log_store *s)
{
    return s->journal.groups_n == 0;
}

void store_fail(struct log_store *s, int rc, const char *what)
{
    if (s->failed != 0)
        return;
    log_error("%s/journal.%u: %s failed (%s), no more records are taken", s->config.journal_dir,
              s->journal.id, what, strerror(-rc));
    s->failed = rc;
    counter_set(&s->counters.failed, 1);
    s->memory_freed = true; /* who waits for memory is to be told as well */
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        plog_notify(p);
}

/* In the file. */
static uint64_t ring_position(const struct journal *j, uint64_t virtual_pos)
{
    return JOURNAL_RING_START + virtual_pos % j->ring_bytes;
}

/* ---- forming a group ---- */

static struct group *group_begin(struct log_store *s)
{
    struct journal *j = &s->journal;
    if (j->groups_n == GROUPS)
        return NULL;
    uint64_t head = journal_ring_place(j->ring_bytes, j->head_pos);
    if (head + JOURNAL_WRITE_BYTES_MAX - j->tail_pos > j->ring_bytes) {
        store_want_cycle(s);
        return NULL;
    }
    if (journal_fill_in_the_way(j, head))
        return NULL;
    struct group *g = &j->groups[(j->first_group + j->groups_n) % GROUPS];
    ASSERT(g->state == GROUP_FREE);
    g->used_bytes = sizeof(struct journal_header);
    g->records_n = 0;
    g->virtual_pos = head;
    g->extents_n = 0;
    g->pending = 0;
    g->rc = 0;
    g->awaited = false;
    return g;
}

/* For one more record; the end of the write, with a run in it, has its place. */
static uint32_t group_room(const struct group *g)
{
    uint32_t table_at;
    uint32_t len = journal_write_bytes(g->used_bytes, g->records_n + 1, true, &table_at);
    return len >= JOURNAL_WRITE_BYTES_MAX ? 0 : JOURNAL_WRITE_BYTES_MAX - len;
}

static struct extent *extent_add(struct group *g)
{
    if (g->extents_n == g->extents_cap) {
        uint32_t cap = MAX(g->extents_cap * 2, 64u);
        struct extent *more = realloc(g->extents, cap * sizeof(*more));
        if (more == NULL)
            return NULL;
        g->extents = more;
        g->extents_cap = cap;
    }
    return &g->extents[g->extents_n++];
}

static bool batch_at(const struct segment *seg, uint64_t pos, uint8_t raw[BATCH_HEADER_BYTES],
                     struct batch_header *ret)
{
    if (!seg_peek(seg, pos, raw, BATCH_HEADER_BYTES))
        return false;
    return batch_peek(raw, BATCH_HEADER_BYTES, ret) == 0;
}

static void record_begin(const struct group *g, struct segment *seg, enum journal_record_kind kind,
                         struct journal_record *rec)
{
    uint8_t raw[BATCH_HEADER_BYTES];
    struct batch_header first;
    bool known = batch_at(seg, seg->queued_pos, raw, &first);
    ASSERT(known);
    ASSERT(group_room(g) > sizeof(*rec));
    *rec = (struct journal_record){
        .kind = kind,
        .number = seg->plog->number,
        .segment_base = seg->base_offset,
        .pos = seg->queued_pos,
        .base_offset = first.base_offset,
        .leader_epoch = first.leader_epoch,
    };
}

static void record_finish(struct group *g, struct journal_record *rec, uint32_t body_bytes)
{
    uint32_t len = (uint32_t)round_up_u64(sizeof(*rec) + body_bytes, 8);
    rec->len_bytes = len;
    memcpy(g->buf + g->used_bytes, rec, sizeof(*rec));
    memset(g->buf + g->used_bytes + sizeof(*rec) + body_bytes, 0, len - sizeof(*rec) - body_bytes);
    g->used_bytes += len;
    g->records_n++;
}

static void extent_fill(struct group *g, struct extent *e, struct segment *seg,
                        const struct journal_record *rec, bool run)
{
    g->awaited |= plog_is_awaited(seg->plog);
    *e = (struct extent){seg->plog, seg, rec->pos + rec->data_bytes, rec->end_offset, run};
    seg->plog->store->fresh_bytes -= e->to_pos - seg->queued_pos;
    seg->queued_pos = e->to_pos;
    plog_hold(seg->plog);
}

/* How far whole batches from queued_pos fit into room bytes; 0 bytes: not even one. */
static void batches_that_fit(const struct segment *seg, uint64_t room, uint64_t *ret_bytes,
                             int64_t *ret_end_offset)
{
    uint64_t all = seg->end_pos - seg->queued_pos;
    *ret_bytes = 0;
    if (all <= room) {
        *ret_bytes = all;
        *ret_end_offset = seg->end_offset;
        return;
    }
    uint8_t raw[BATCH_HEADER_BYTES];
    struct batch_header h;
    while (batch_at(seg, seg->queued_pos + *ret_bytes, raw, &h) &&
           *ret_bytes + h.len_bytes <= room) {
        *ret_bytes += h.len_bytes;
        *ret_end_offset = h.base_offset + h.last_offset_delta + 1;
    }
}

static bool add_batches(struct group *g, struct segment *seg)
{
    struct journal_record rec;
    if (group_room(g) < sizeof(rec) + BATCH_HEADER_BYTES + 8)
        return false;
    record_begin(g, seg, RECORD_BATCHES, &rec);
    batches_that_fit(seg, group_room(g) - sizeof(rec) - 8, &rec.data_bytes, &rec.end_offset);
    struct extent *e = rec.data_bytes == 0 ? NULL : extent_add(g);
    if (e == NULL)
        return false;
    bool copied =
        seg_peek(seg, rec.pos, g->buf + g->used_bytes + sizeof(rec), (uint32_t)rec.data_bytes);
    ASSERT(copied);
    record_finish(g, &rec, (uint32_t)rec.data_bytes);
    segment_pin(seg, rec.pos, g->virtual_pos);
    extent_fill(g, e, seg, &rec, false);
    counter_add(&g->store->counters.journal_bytes, rec.data_bytes);
    return true;
}

/* Headers of the batches of a run, as many as the record and the segment write can take. */
static void run_headers(struct group *g, const struct segment *seg, struct journal_record *rec,
                        uint64_t reach_pos)
{
    uint8_t *out = g->buf + g->used_bytes + sizeof(*rec);
    uint32_t room = group_room(g) - (uint32_t)sizeof(*rec) - BLOCK_BYTES - 8;
    struct batch_header h;
    uint64_t pos = rec->pos;
    while (pos < seg->end_pos && (rec->headers_n + 1) * BATCH_HEADER_BYTES <= room) {
        if (!batch_at(seg, pos, out, &h) || block_floor(pos + h.len_bytes) > reach_pos)
            break;
        pos += h.len_bytes;
        out += BATCH_HEADER_BYTES;
        rec->headers_n++;
        rec->end_offset = h.base_offset + h.last_offset_delta + 1;
    }
    rec->data_bytes = pos - rec->pos;
}

/* Behind the headers, the image of the last block. */
static void run_record_finish(struct group *g, const struct segment *seg,
                              struct journal_record *rec)
{
    uint64_t to_pos = rec->pos + rec->data_bytes, image_at = block_floor(to_pos);
    uint32_t headers_len = rec->headers_n * BATCH_HEADER_BYTES,
             image_len = (uint32_t)(to_pos - image_at);
    bool copied =
        seg_peek(seg, image_at, g->buf + g->used_bytes + sizeof(*rec) + headers_len, image_len);
    ASSERT(copied);
    record_finish(g, rec, headers_len + image_len);
    counter_add(&g->store->counters.runs, 1);
    counter_add(&g->store->counters.run_bytes, rec->data_bytes);
}

/* A large run: one write into the segment of everything behind the one before it, or behind
 * destaged_pos. */
static bool add_run(struct group *g, struct segment *seg)
{
    struct journal_record rec;
    uint64_t from = run_from(seg);
    struct iovec iov[SEG_IO_IOV_MAX];
    struct chunk *chunks[SEG_IO_IOV_MAX];
    if (group_room(g) < sizeof(rec) + BATCH_HEADER_BYTES + BLOCK_BYTES + 8)
        return false;
    uint64_t reach, want = MIN(block_floor(seg->end_pos), from + RUN_BYTES_MAX);
    want = MAX(want, block_floor(seg->queued_pos)); /* at least the first batch, see below */
    seg_iov(seg, from, block_floor(seg->end_pos), iov, chunks, SEG_IO_IOV_MAX, &reach);
    record_begin(g, seg, RECORD_RUN, &rec);
    run_headers(g, seg, &rec, MIN(reach, want));
    if (rec.headers_n == 0) /* one batch longer than RUN_BYTES_MAX */
        run_headers(g, seg, &rec, reach);
    uint64_t to_pos = rec.pos + rec.data_bytes, image_at = block_floor(to_pos);
    if (rec.headers_n == 0 || image_at <= from)
        return false;
    struct extent *e = extent_add(g);
    if (e == NULL)
        return false;
    run_record_finish(g, seg, &rec);
    extent_fill(g, e, seg, &rec, true);
    run_start(seg, g, image_at);
    return true;
}

/* A run that is durable in the segment already. False: there is none, or no room. */
static bool add_settled(struct group *g, struct segment *seg)
{
    struct journal_record rec;
    if (seg->settled_pos <= seg->queued_pos ||
        group_room(g) < sizeof(rec) + BATCH_HEADER_BYTES + BLOCK_BYTES + 8)
        return false;
    record_begin(g, seg, RECORD_RUN, &rec);
    run_headers(g, seg, &rec, seg->settled_pos);
    struct extent *e = rec.headers_n == 0 ? NULL : extent_add(g);
    if (e == NULL)
        return false;
    run_record_finish(g, seg, &rec);
    extent_fill(g, e, seg, &rec, false);
    return true;
}

/* What this segment has to say in this group; false: nothing, or it has to wait. */
static bool add_segment(struct group *g, struct segment *seg)
{
    struct plog *p = seg->plog;
    const struct log_config *config = &p->store->config;
    uint64_t fresh = seg->end_pos - seg->queued_pos;
    if (fresh == 0)
        return false;
    if (fresh >= config->direct_min_bytes) {
        if (!run_may_start(seg))
            return false; /* the next run grows meanwhile */
        if (seg_file_ready(seg) && add_run(g, seg))
            return true;
        if (seg_file_ready(seg)) /* too many pieces before it: they have to go first */
            store_want_cycle(p->store);
        seg_file_want(seg);
    }
    return add_batches(g, seg);
}

static bool plog_has_fresh(const struct plog *p)
{
    for (struct list_node *it = p->segments.prev; it != &p->segments; it = it->prev) {
        struct segment *seg = container_of(it, struct segment, link);
        if (seg->queued_pos < seg->end_pos)
            return true;
        if (seg->state == SEGMENT_SEALED)
            break;
    }
    return false;
}

static void add_plog(struct group *g, struct plog *p)
{
    for (struct segment *seg = plog_first_open(p); seg != NULL;) {
        add_settled(g, seg);
        if (!p->only_settled)
            add_segment(g, seg);
        if (seg->queued_pos < seg->end_pos)
            return; /* later segments must not get ahead */
        seg = segment_next(seg);
    }
}

/* The log begins elsewhere once this group is durable. */
static void add_start(struct group *g, struct plog *p)
{
    struct extent *e = group_room(g) < sizeof(struct journal_record) + 8 ? NULL : extent_add(g);
    if (e == NULL)
        return;
    struct journal_record rec = {
        .kind = RECORD_START,
        .number = p->number,
        .base_offset = p->start_wanted,
        .end_offset = p->start_wanted,
        .leader_epoch = p->leader_epoch,
    };
    record_finish(g, &rec, 0);
    *e = (struct extent){.plog = p, .end_offset = p->start_wanted};
    p->start_queued = p->start_wanted;
    plog_hold(p);
}

/* A segment replaces others once this group is durable. */
static void add_swap(struct group *g, struct plog *p)
{
    const struct segment *seg = p->swap;
    struct extent *e = group_room(g) < sizeof(struct journal_record) + 8 ? NULL : extent_add(g);
    if (e == NULL)
        return;
    struct journal_record rec = {
        .kind = RECORD_COMPACTED,
        .number = p->number,
        .segment_base = seg->base_offset,
        .base_offset = seg->base_offset,
        .end_offset = seg->end_offset,
        .data_bytes = seg->end_pos,
        .leader_epoch = p->leader_epoch,
        .headers_n = seg->generation,
    };
    record_finish(g, &rec, 0);
    *e = (struct extent){.plog = p, .swap = true};
    p->swap_queued = true;
    plog_hold(p);
}

static void group_fill(struct group *g)
{
    struct log_store *s = g->store;
    struct list_node later;
    list_init(&later);
    while (group_room(g) > 2 * BLOCK_BYTES && !list_empty(&s->dirty)) {
        struct plog *p = container_of(list_pop_head(&s->dirty), struct plog, dirty_link);
        plogs_prefetch(&s->dirty, offsetof(struct plog, dirty_link));
        if (p->removed || p->fenced != 0)
            continue;
        if (plog_start_is_due(p))
            add_start(g, p);
        if (p->swap != NULL && !p->swap_queued)
            add_swap(g, p);
        add_plog(g, p);
        bool gathers = p->only_settled;
        p->only_settled = false;
        if (plog_has_note(p)) /* no room */
            list_push_tail(&later, &p->dirty_link);
        else if (plog_has_fresh(p) && gathers)
            plog_mark_dirty(p);
        else if (plog_has_fresh(p))
            list_push_tail(&later, &p->dirty_link);
    }
    list_splice_tail(&s->dirty, &later);
}

/* ---- completion ---- */

static void group_retire(struct group *g)
{
    struct log_store *s = g->store;
    if (g->rc < 0) {
        char what[80];
        snprintf(what, sizeof(what), "writing %u bytes at position %llu", g->used_bytes,
                 (unsigned long long)ring_position(&s->journal, g->virtual_pos));
        store_fail(s, g->rc, what);
    }
    bool ok = s->failed == 0;
    s->memory_freed = true; /* tails that are stable now may be shrunk */
    if (ok)
        s->journal.durable_seq = MIN(g->seq, s->journal.claims_end);
    for (uint32_t i = 0; i < g->extents_n; i++) {
        struct extent *e = &g->extents[i];
        struct plog *p = e->plog;
        if (e->run)
            run_retired(e->seg);
        bool counts = ok && !p->removed && p->fenced == 0;
        if (e->swap)
            p->swap_queued = false;
        if (counts && e->swap) {
            compact_recorded(p);
        } else if (counts && e->seg == NULL) {
            plog_start_durable(p, e->end_offset);
        } else if (counts) {
            seg_set_stable(e->seg, e->to_pos);
            p->stable_offset = e->end_offset;
            if (e->run)
                seg_set_destaged(e->seg, block_floor(e->to_pos));
            if (plog_start_is_due(p))
                plog_mark_start(p);
            plog_notify(p);
        }
        plog_unhold(p);
    }
    g->state = GROUP_FREE;
}

static void journal_retire(struct log_store *s)
{
    struct journal *j = &s->journal;
    while (j->groups_n > 0 && j->groups[j->first_group].state == GROUP_DONE) {
        group_retire(&j->groups[j->first_group]);
        j->first_group = (j->first_group + 1) % GROUPS;
        j->groups_n--;
        j->mark_ns = env_now_ns(s->env) + MARK_NS;
    }
}

void group_part_done(struct group *g, int rc)
{
    ASSERT(g->state == GROUP_WRITING);
    ASSERT(g->pending > 0);
    if (rc < 0 && g->rc == 0)
        g->rc = rc;
    if (--g->pending > 0)
        return;
    g->state = GROUP_DONE;
    journal_retire(g->store);
}

static void on_group_written(struct env_op *op)
{
    struct group *g = container_of(op, struct group, op);
    struct log_store *s = g->store;
    counter_hist_add(&s->counters.group_us, (env_now_ns(s->env) - g->submit_ns) / NS_PER_US);
    group_part_done(g, op->res);
}

static void group_count(struct group *g, uint32_t len_bytes)
{
    struct log_store *s = g->store;
    g->submit_ns = env_now_ns(s->env);
    counter_add(&s->counters.groups, 1);
    counter_hist_add(&s->counters.group_bytes, len_bytes);
    counter_hist_add(&s->counters.group_batches, s->counters.appends - s->journal.appends_seen);
    s->journal.appends_seen = s->counters.appends;
}

static void group_submit(struct group *g)
{
    struct log_store *s = g->store;
    struct journal *j = &s->journal;
    struct journal_header h = {
        .journal_id = j->identity,
        .incarnation = j->incarnation,
        .seq = j->next_seq++,
        .virtual_pos = g->virtual_pos,
        .durable_seq = j->durable_seq,
        .prev_crc = j->last_crc,
    };
    uint32_t len = journal_write_seal(g->buf, g->used_bytes, &h);
    g->seq = h.seq;
    g->prev_crc = h.prev_crc;
    g->state = GROUP_WRITING;
    g->pending++;
    j->last_crc = h.crc;
    j->claimed_seq = h.durable_seq;
    if (h.records_n > 0)
        j->records_seq = h.seq;
    j->head_pos = g->virtual_pos + len;
    j->groups_n++;
    group_count(g, len);
    journal_fill_written(j, g->virtual_pos, len);
    env_write(s->env, &g->op, j->file, g->buf, len, ring_position(j, g->virtual_pos),
              ENV_DSYNC | (g->awaited ? ENV_AWAITED : 0), on_group_written);
}

/* ---- marks ---- */

static bool mark_wanted(const struct log_store *s)
{
    const struct journal *j = &s->journal;
    return list_empty(&s->dirty) && j->groups_n == 0 && j->records_seq > j->claimed_seq &&
           j->durable_seq > j->claimed_seq && !s->recovering && !s->closing && s->failed == 0;
}

/* When the load stops, nothing would tell a last write that was acknowledged and then rotted from
 * one that the power cut tore. So an empty write follows that calls it durable. */
static void mark_write(struct log_store *s)
{
    struct journal *j = &s->journal;
    if (!mark_wanted(s) || env_now_ns(s->env) < j->mark_ns)
        return;
    j->mark_ns = env_now_ns(s->env) + MARK_RETRY_NS;
    struct group *g = group_begin(s);
    if (g != NULL)
        group_submit(g);
}

uint64_t journal_deadline_ns(const struct log_store *s)
{
    return mark_wanted(s) ? s->journal.mark_ns : UINT64_MAX;
}

void journal_pump(struct log_store *s)
{
    if (s->recovering || s->unsettled || s->failed != 0)
        return;
    while (!list_empty(&s->dirty)) {
        struct group *g = group_begin(s);
        if (g == NULL)
            return;
        group_fill(g);
        if (g->extents_n == 0)
            return;
        group_submit(g);
    }
    mark_write(s);
}

/* ---- opening ---- */

static bool super_read(struct log_store *s, uint8_t *block, unsigned which,
                       struct journal_super *ret)
{
    int rc = env_read_wait(s->env, s->journal.file, block, BLOCK_BYTES, which * BLOCK_BYTES);
    return rc == (int)BLOCK_BYTES && journal_super_decode(block, ret);
}

void journal_super_fill(const struct journal *j, uint8_t block[BLOCK_BYTES])
{
    struct journal_super super = {
        .journal_id = j->identity,
        .incarnation = j->incarnation,
        .ring_bytes = j->ring_bytes,
        .checkpointed = j->checkpointed,
        .filled = j->filled ? JOURNAL_FILLED : 0,
    };
    journal_super_encode(&super, block);
}

/* One, durable, then the other: either is enough, and both say the same from then on. */
static int supers_write(struct log_store *s, uint8_t *block)
{
    const struct journal *j = &s->journal;
    journal_super_fill(j, block);
    for (unsigned which = 0; which < 2; which++) {
        int rc =
            env_write_wait(s->env, j->file, block, BLOCK_BYTES, which * BLOCK_BYTES, ENV_DSYNC);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int journal_make(struct log_store *s, const char *path, uint8_t *block)
{
    char temp[PATH_MAX];
    struct journal *j = &s->journal;
    snprintf(temp, sizeof(temp), "%.4000s.new", path);
    j->ring_bytes = block_floor(s->config.journal_bytes);
    struct env_name_step make[] = {
        {.kind = ENV_STEP_UNLINK, .path = temp},
        {.kind = ENV_STEP_CREATE, .path = temp, .size_bytes = j->ring_bytes + JOURNAL_RING_START},
    };
    int rc = env_names_wait(s->env, make, 2);
    if (rc != 0)
        return rc;
    j->file = make[1].ret_file;
    j->identity = env_random(s->env);
    j->incarnation = 0;
    rc = supers_write(s, block);
    struct env_name_step publish[] = {
        {.kind = ENV_STEP_RENAME, .path = temp, .path2 = path},
        {.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir},
    };
    return rc != 0 ? rc : env_names_wait(s->env, publish, 2);
}

static int journal_adopt(struct log_store *s, uint64_t size_bytes, uint8_t *block, char *reason,
                         size_t reason_size)
{
    struct journal *j = &s->journal;
    struct journal_super super[2];
    bool ok[2] = {super_read(s, block, 0, &super[0]), super_read(s, block, 1, &super[1])};
    if (!ok[0] && !ok[1]) {
        snprintf(reason, reason_size, "both superblocks of journal %u are damaged", j->id);
        return -EBADMSG;
    }
    unsigned newest = !ok[0] || (ok[1] && super[1].incarnation > super[0].incarnation);
    j->identity = super[newest].journal_id;
    j->incarnation = super[newest].incarnation;
    j->ring_bytes = super[newest].ring_bytes;
    j->checkpointed = super[newest].checkpointed != 0;
    j->filled = super[newest].filled == JOURNAL_FILLED;
    if (!ok[0] || !ok[1])
        log_warn("journal %u: superblock %d is damaged, the other one is used", j->id, ok[0]);
    if (size_bytes < j->ring_bytes + JOURNAL_RING_START) {
        snprintf(reason, reason_size, "journal %u is shorter than its superblock says", j->id);
        return -EBADMSG;
    }
    return 0;
}

/* Opens or makes the journal file; the incarnation is not raised yet (recovery reads first). */
int journal_open(struct log_store *s, char *reason, size_t reason_size)
{
    struct journal *j = &s->journal;
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%.4000s/journal.%u", s->config.journal_dir, j->id);
    uint8_t *buffers = store_alloc(s, GROUPS * (size_t)JOURNAL_WRITE_BYTES_MAX + BLOCK_BYTES);
    for (unsigned i = 0; i < GROUPS; i++) {
        j->groups[i].store = s;
        if (buffers != NULL)
            j->groups[i].buf = buffers + i * (size_t)JOURNAL_WRITE_BYTES_MAX;
    }
    if (buffers == NULL) {
        snprintf(reason, reason_size, "not enough memory for the journal's buffers");
        return -ENOMEM;
    }
    j->fill.super = buffers + GROUPS * (size_t)JOURNAL_WRITE_BYTES_MAX;
    struct env_name_step open_step = {.kind = ENV_STEP_OPEN, .path = path};
    int rc = env_names_wait(s->env, &open_step, 1);
    if (rc == -ENOENT)
        rc = journal_make(s, path, buffers);
    else if (rc == 0) {
        j->file = open_step.ret_file;
        return journal_adopt(s, open_step.ret_size_bytes, buffers, reason, reason_size);
    }
    if (rc != 0)
        snprintf(reason, reason_size, "%s: %s", path, strerror(-rc));
    return rc;
}

int journal_raise_incarnation(struct log_store *s)
{
    s->journal.incarnation++;
    return supers_write(s, s->journal.groups[0].buf);
}

/* From now on a start without a readable checkpoint is refused, not taken for an empty log. */
int journal_note_checkpoint(struct log_store *s)
{
    if (s->journal.checkpointed)
        return 0;
    s->journal.checkpointed = true;
    return supers_write(s, s->journal.groups[0].buf);
}

void journal_close(struct log_store *s)
{
    struct journal *j = &s->journal;
    if (j->file != NULL)
        env_file_close(s->env, j->file);
    for (unsigned i = 0; i < GROUPS; i++)
        free(j->groups[i].extents);
    if (j->groups[0].buf != NULL)
        buddy_free(s->config.memory, j->groups[0].buf);
}
