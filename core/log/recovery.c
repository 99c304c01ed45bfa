/* recovery.c: from the newest checkpoint through the journal's chain to the state before the crash.
 *
 * The chain ends at the first write that is missing, torn, of an older incarnation or not chained
 * to its predecessor. If a later write says that a bad one had been durable, that is damage, not
 * the torn end: the loss is named and replay goes on behind it. A partition whose records do not
 * continue where it ended has a hole: the rest of it is void.
 * A run is trusted when a later write proves that its group had retired; else its batches are
 * compared, header and checksum, with what the segment holds. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define WINDOW_BYTES (4u * 1024u * 1024u)
#define RESYNC_BYTES (2u * GROUP_BYTES)
#define AHEAD (GROUPS + 1) /* writes read ahead: enough to know that the oldest had retired */

struct held_write {
    uint8_t *bytes;
    struct journal_header h;
};
struct replay {
    struct log_store *s;
    uint8_t *window;
    uint64_t window_at, window_len; /* place in the ring */
    struct held_write held[AHEAD];
    unsigned held_n;
    uint64_t durable_seq; /* the highest that any write claims */
    uint64_t writes, records, losses;
};

/* ---- reading the chain ---- */

static int window_read(struct replay *r, uint64_t place)
{
    struct journal *j = &r->s->journal;
    uint64_t len = MIN((uint64_t)WINDOW_BYTES, j->ring_bytes - place);
    int rc = env_read_wait(r->s->env, j->file, r->window, len, JOURNAL_RING_START + place);
    if (rc < 0)
        return rc;
    r->window_at = place;
    r->window_len = (uint64_t)rc;
    return 0;
}

static uint8_t *window_at(struct replay *r, uint64_t place, uint64_t len)
{
    if (place < r->window_at || place + len > r->window_at + r->window_len)
        if (window_read(r, place) != 0)
            return NULL;
    if (place + len > r->window_at + r->window_len)
        return NULL;
    return r->window + (place - r->window_at);
}

/* A whole, self-consistent write of this journal at virtual_pos, or NULL. */
static uint8_t *write_at(struct replay *r, uint64_t virtual_pos, struct journal_header *ret)
{
    const struct journal *j = &r->s->journal;
    uint64_t place = virtual_pos % j->ring_bytes;
    uint8_t *p = window_at(r, place, BLOCK_BYTES);
    if (p == NULL)
        return NULL;
    struct journal_header h;
    memcpy(&h, p, sizeof(h));
    if (h.magic != JOURNAL_MAGIC || h.journal_id != j->identity || h.virtual_pos != virtual_pos)
        return NULL;
    if (h.len_bytes % BLOCK_BYTES != 0 || h.len_bytes > GROUP_BYTES || h.used_bytes > h.len_bytes ||
        h.used_bytes < sizeof(h) || h.incarnation > j->incarnation)
        return NULL;
    p = window_at(r, place, h.len_bytes);
    if (p == NULL || journal_write_crc(p, h.used_bytes) != h.crc)
        return NULL;
    *ret = h;
    return p;
}

/* Does the write at virtual_pos, or one chained behind it, claim that seq had been durable? */
static bool claims_durable(struct replay *r, uint64_t virtual_pos, uint64_t seq)
{
    struct journal_header h, previous = {0};
    for (unsigned i = 0; i <= GROUPS; i++) {
        if (write_at(r, virtual_pos, &h) == NULL || (i > 0 && h.prev_crc != previous.crc))
            return false;
        if (h.durable_seq >= seq)
            return true;
        previous = h;
        virtual_pos = journal_place(&r->s->journal, virtual_pos + h.len_bytes);
    }
    return false;
}

/* The write expected at virtual_pos is bad. Returns where the next one begins if it must have been
 * good once; 0: this is the end of the chain. */
static uint64_t resync(struct replay *r, uint64_t virtual_pos, uint64_t expected_seq,
                       uint64_t durable_pos)
{
    const struct journal *j = &r->s->journal;
    uint64_t limit = virtual_pos + (virtual_pos < durable_pos ? j->ring_bytes : RESYNC_BYTES);
    for (uint64_t v = virtual_pos + BLOCK_BYTES; v < limit; v += BLOCK_BYTES) {
        uint64_t place = journal_place(j, v);
        struct journal_header h;
        if (write_at(r, place, &h) != NULL && h.seq > expected_seq &&
            claims_durable(r, place, expected_seq))
            return place;
        v = MAX(v, place - (place > v ? BLOCK_BYTES : 0));
    }
    return 0;
}

/* ---- applying records ---- */

static void plog_hole(struct plog *p, const struct journal_record *rec)
{
    if (p->hole)
        return;
    p->hole = true;
    log_warn("%s: recovery ends at offset %lld, records from %lld on do not follow", p->name,
             (long long)p->end_offset, (long long)rec->base_offset);
}

static struct segment *open_segment(const struct plog *p, int64_t base_offset)
{
    for (struct segment *seg = plog_first_open(p); seg != NULL;) {
        if (seg->base_offset == base_offset)
            return seg;
        seg = segment_next(seg);
    }
    return NULL;
}

/* The segment that the record continues; NULL: nothing new in it, or a hole. */
static struct segment *record_segment(struct plog *p, const struct journal_record *rec)
{
    if (p->hole)
        return NULL;
    struct segment *seg = open_segment(p, rec->segment_base);
    if (seg == NULL) {
        if (rec->end_offset <= p->end_offset)
            return NULL;
        if (rec->segment_base != p->end_offset || rec->pos != 0) {
            plog_hole(p, rec);
            return NULL;
        }
        return plog_roll(p);
    }
    if (rec->pos + rec->data_bytes <= seg->end_pos)
        return NULL;
    if (rec->pos > seg->end_pos) {
        plog_hole(p, rec);
        return NULL;
    }
    return seg;
}

/* Journals may hold more than memory: what is replayed may go to its segment at once. */
static int make_room(struct log_store *s)
{
    store_want_cycle(s);
    while (s->cycle || s->destages_n > 0 || s->jobs_n > 0) {
        destage_pump(s);
        if (!s->cycle && s->destages_n == 0 && s->jobs_n == 0)
            break;
        env_turn(s->env, env_now_ns(s->env) + 100000000ull);
    }
    s->checkpoint.wanted = false;
    s->cycle_after_ns = 0;
    return 0;
}

int recovery_reserve(struct segment *seg, uint64_t len_bytes)
{
    struct log_store *s = seg->plog->store;
    int rc = seg_reserve(seg, len_bytes);
    for (unsigned i = 0; rc == -EAGAIN && i < 2; i++) {
        make_room(s);
        rc = seg_reserve(seg, len_bytes);
    }
    return rc == -EAGAIN ? -ENOMEM : rc;
}

static void note_recovered(struct plog *p, struct segment *seg, uint64_t pos,
                           const struct batch_header *h)
{
    if (h->base_offset < p->recovered_offset)
        return; /* the checkpoint has counted it */
    int64_t append_ms = batch_is_log_append_time(h->attributes) ? h->max_timestamp : -1;
    plog_note_batch(p, seg, pos, h);
    plog_epoch_note(p, h->leader_epoch, h->base_offset);
    producer_update(p, h, h->base_offset, append_ms, env_wall_ms(p->store->env));
}

/* make_room may have given the segment a file before all of it was known. */
static void file_outgrown(struct segment *seg)
{
    if (seg->file_state != SEGMENT_FILE_OPEN || block_ceil(seg->end_pos) <= seg->capacity_bytes)
        return;
    ASSERT(seg->file_refs == 0);
    seg->file_state = SEGMENT_FILE_NONE;
    seg->capacity_bytes = 0;
    seg->resize_file = true;
}

static void segment_advanced(struct segment *seg)
{
    struct plog *p = seg->plog;
    file_outgrown(seg);
    seg->queued_pos = seg->end_pos;
    seg_set_stable(seg, seg->end_pos);
    if (seg->end_pos >= seg->recovered_pos)
        p->stable_offset = p->end_offset;
}

/* Appends whole batches [data, data + rec->data_bytes) of which the first bytes may be there. */
static int append_recovered(struct segment *seg, const struct journal_record *rec,
                            const uint8_t *data)
{
    struct plog *p = seg->plog;
    uint64_t known = seg->end_pos - rec->pos;
    for (uint64_t at = known; at < rec->data_bytes;) {
        uint64_t piece = MIN(rec->data_bytes - at, (uint64_t)CHUNK_BYTES_MAX);
        int rc = recovery_reserve(seg, piece);
        if (rc != 0)
            return rc;
        seg_write_bytes(seg, data + at, piece);
        at += piece;
    }
    struct batch_header h;
    for (uint64_t at = 0; at < rec->data_bytes; at += h.len_bytes) {
        if (batch_peek(data + at, rec->data_bytes - at, &h) != 0 ||
            h.len_bytes > rec->data_bytes - at)
            return -EBADMSG;
        note_recovered(p, seg, rec->pos + at, &h);
    }
    segment_advanced(seg);
    return 0;
}

static int open_for_recovery(struct segment *seg, struct env_file **ret)
{
    char path[PATH_MAX];
    struct env_name_step step = {.kind = ENV_STEP_OPEN,
                                 .path = segment_path(seg, ".log", path, sizeof(path))};
    int rc = env_names_wait(seg->plog->store->env, &step, 1);
    if (rc != 0)
        return rc;
    *ret = step.ret_file;
    return 0;
}

static bool run_matches(const struct journal_record *rec, const uint8_t *headers,
                        const uint8_t *data)
{
    uint64_t at = 0;
    struct batch_header h;
    for (uint32_t i = 0; i < rec->headers_n; i++, at += h.len_bytes) {
        if (rec->data_bytes - at < BATCH_HEADER_BYTES ||
            memcmp(data + at, headers + (size_t)i * BATCH_HEADER_BYTES, BATCH_HEADER_BYTES) != 0)
            return false;
        if (batch_peek(data + at, rec->data_bytes - at, &h) != 0 ||
            h.len_bytes > rec->data_bytes - at || !batch_crc_ok(data + at, &h))
            return false;
    }
    return at == rec->data_bytes;
}

/* The run's bytes as the segment holds them now, its last part-filled block from the journal. */
static int run_read(struct segment *seg, const struct journal_record *rec, const uint8_t *image,
                    uint8_t **ret_buf, uint8_t **ret_data)
{
    uint64_t from = block_floor(rec->pos), to = rec->pos + rec->data_bytes;
    uint64_t image_at = block_floor(to);
    uint8_t *buf;
    struct env *env = seg->plog->store->env;
    struct env_file *file;
    int rc = open_for_recovery(seg, &file);
    if (rc != 0)
        return rc;
    if (posix_memalign((void **)&buf, BLOCK_BYTES, block_ceil(to) - from + BLOCK_BYTES) != 0) {
        env_file_close(env, file);
        return -ENOMEM;
    }
    rc = image_at == from ? 0 : env_read_wait(env, file, buf, image_at - from, from);
    env_file_close(env, file);
    if (rc < 0 || (uint64_t)rc != image_at - from) {
        free(buf);
        return rc < 0 ? rc : -EIO;
    }
    memcpy(buf + (image_at - from), image, to - image_at);
    *ret_buf = buf;
    *ret_data = buf + (rec->pos - from);
    return 0;
}

static int apply_unproven_run(struct segment *seg, const struct journal_record *rec,
                              const uint8_t *headers, const uint8_t *image)
{
    uint8_t *buf, *data;
    int rc = run_read(seg, rec, image, &buf, &data);
    if (rc == -ENOMEM)
        return rc;
    if (rc != 0 || !run_matches(rec, headers, data)) {
        if (rc == 0)
            free(buf);
        plog_hole(seg->plog, rec); /* never acknowledged */
        return 0;
    }
    seg->on_disk = seg->plog->dir_ready = true;
    rc = append_recovered(seg, rec, data);
    free(buf);
    return rc;
}

static int apply_proven_run(struct segment *seg, const struct journal_record *rec,
                            const uint8_t *headers, const uint8_t *image)
{
    struct plog *p = seg->plog;
    uint64_t to = rec->pos + rec->data_bytes, image_at = block_floor(to);
    p->store->behind_bytes -= seg->stable_pos - seg->destaged_pos;
    seg_drop_chunks(seg);
    seg->end_pos = seg->queued_pos = seg->stable_pos = seg->destaged_pos = image_at;
    seg->on_disk = p->dir_ready = true;
    int rc = recovery_reserve(seg, to - image_at);
    if (rc != 0)
        return rc;
    seg_write_bytes(seg, image, to - image_at);
    uint64_t pos = rec->pos;
    for (uint32_t i = 0; i < rec->headers_n; i++) {
        struct batch_header h;
        if (batch_peek(headers + (size_t)i * BATCH_HEADER_BYTES, BATCH_HEADER_BYTES, &h) != 0)
            return -EBADMSG;
        note_recovered(p, seg, pos, &h);
        pos += h.len_bytes;
    }
    segment_advanced(seg);
    return pos == to ? 0 : -EBADMSG;
}

static int apply_run(struct replay *r, struct segment *seg, const struct journal_record *rec,
                     const uint8_t *body, uint64_t body_bytes, uint64_t seq)
{
    uint64_t headers_bytes = (uint64_t)rec->headers_n * BATCH_HEADER_BYTES;
    uint64_t image_bytes = (rec->pos + rec->data_bytes) % BLOCK_BYTES;
    if (headers_bytes + image_bytes > body_bytes)
        return -EBADMSG;
    if (rec->pos != seg->end_pos) {
        plog_hole(seg->plog, rec);
        return 0;
    }
    const uint8_t *image = body + headers_bytes;
    return r->durable_seq >= seq ? apply_proven_run(seg, rec, body, image)
                                 : apply_unproven_run(seg, rec, body, image);
}

static int apply_record(struct replay *r, const struct journal_record *rec, const uint8_t *body,
                        uint64_t seq)
{
    struct plog *p = map_get(&r->s->plogs, rec->number);
    uint64_t body_bytes = rec->len_bytes - sizeof(*rec);
    if (p == NULL) /* deleted since */
        return 0;
    if (rec->kind == RECORD_BATCHES && rec->data_bytes > body_bytes)
        return -EBADMSG;
    struct segment *seg = record_segment(p, rec);
    if (seg == NULL)
        return 0;
    r->records++;
    if (rec->kind == RECORD_BATCHES)
        return append_recovered(seg, rec, body);
    return apply_run(r, seg, rec, body, body_bytes, seq);
}

static int apply_write(struct replay *r, struct held_write *w)
{
    int rc = 0;
    struct journal_record rec;
    for (uint32_t at = sizeof(w->h); rc == 0 && at < w->h.used_bytes; at += rec.len_bytes) {
        if (w->h.used_bytes - at < sizeof(rec))
            return -EBADMSG;
        memcpy(&rec, w->bytes + at, sizeof(rec));
        if (rec.len_bytes < sizeof(rec) || rec.len_bytes > w->h.used_bytes - at ||
            (rec.kind != RECORD_BATCHES && rec.kind != RECORD_RUN))
            return -EBADMSG;
        rc = apply_record(r, &rec, w->bytes + at + sizeof(rec), w->h.seq);
    }
    free(w->bytes);
    w->bytes = NULL;
    return rc;
}

static int apply_oldest(struct replay *r)
{
    int rc = apply_write(r, &r->held[0]);
    free(r->held[0].bytes);
    memmove(r->held, r->held + 1, (--r->held_n) * sizeof(r->held[0]));
    return rc;
}

static int hold_write(struct replay *r, const uint8_t *bytes, const struct journal_header *h)
{
    int rc = r->held_n == AHEAD ? apply_oldest(r) : 0;
    uint8_t *copy = malloc(h->len_bytes);
    if (copy == NULL || rc != 0) {
        free(copy);
        return rc != 0 ? rc : -ENOMEM;
    }
    memcpy(copy, bytes, h->len_bytes);
    r->held[r->held_n++] = (struct held_write){copy, *h};
    r->durable_seq = MAX(r->durable_seq, h->durable_seq);
    r->writes++;
    return 0;
}

/* ---- the whole ---- */

static void name_loss(struct replay *r, uint64_t from_seq, uint64_t to_seq)
{
    r->losses++;
    log_error("journal %u: writes %llu to %llu are damaged, what they held is lost",
              r->s->journal.id, (unsigned long long)from_seq, (unsigned long long)to_seq - 1);
}

/* Walks the chain from start; leaves the journal's head, sequence and checksum at its end. */
static int replay_chain(struct replay *r, const struct journal_start *start)
{
    struct journal *j = &r->s->journal;
    uint64_t v = journal_place(j, start->tail_pos);
    uint64_t durable_pos = journal_place(j, start->durable_pos);
    bool chained = v >= durable_pos; /* is the predecessor of the write at v known? */
    uint64_t seq = start->durable_next_seq, incarnation = 0;
    uint32_t crc = start->durable_crc;
    if (!chained)
        seq = 0;
    for (;;) {
        struct journal_header h;
        const uint8_t *bytes = write_at(r, v, &h);
        bool good = bytes != NULL && h.incarnation >= incarnation &&
                    (!chained || (h.seq == seq && h.prev_crc == crc));
        if (!good) {
            uint64_t next = resync(r, v, seq, durable_pos);
            bytes = next == 0 ? NULL : write_at(r, next, &h);
            if (bytes == NULL)
                break;
            name_loss(r, seq, h.seq);
            v = next;
        }
        int rc = hold_write(r, bytes, &h);
        if (rc != 0)
            return rc;
        chained = true;
        seq = h.seq + 1;
        crc = h.crc;
        incarnation = h.incarnation;
        v = journal_place(j, v + h.len_bytes);
    }
    if (v < durable_pos) {
        log_error("journal %u: its last durable writes are damaged, what they held is lost", j->id);
        r->losses++;
        v = durable_pos;
        seq = start->durable_next_seq;
        crc = start->durable_crc;
    }
    j->head_pos = v;
    j->next_seq = seq;
    j->last_crc = crc;
    j->durable_seq = seq - 1;
    return 0;
}

static void check_promises(struct plog *p)
{
    for (struct segment *seg = plog_first_open(p); seg != NULL;) {
        if (seg->end_pos < seg->recovered_pos)
            plog_fence(p, -EBADMSG, "recovering records that were durable");
        else if (seg->destaged_pos == 0 && !seg->index_complete)
            seg_index_walk_memory(seg, seg->index_from); /* else it is indexed when it is read */
        seg = segment_next(seg);
    }
}

static int compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool segment_known(const struct plog *p, int64_t base_offset)
{
    list_for_each(it, &p->segments)
        if (container_of(it, struct segment, link)->base_offset == base_offset)
            return true;
    return false;
}

static int add_sealed(struct plog *p, int64_t *bases, size_t n, int64_t end_offset)
{
    qsort(bases, n, sizeof(*bases), compare_i64);
    for (size_t i = 0; i < n; i++) {
        if (segment_known(p, bases[i])) /* sealed while replaying */
            continue;
        struct segment *seg = segment_create(p, bases[i]);
        if (seg == NULL)
            return -ENOMEM;
        seg->state = SEGMENT_SEALED;
        seg->end_offset = i + 1 < n ? bases[i + 1] : end_offset;
        seg->on_disk = true;
        seg->size_known = seg->index_complete = false;
    }
    return 0;
}

static bool segment_base_of(const char *name, int64_t *ret)
{
    char *end;
    if (strlen(name) != 24 || strcmp(name + 20, ".log") != 0)
        return false;
    *ret = strtoll(name, &end, 10);
    return end == name + 20 && *ret >= 0;
}

static void unlink_stale(struct plog *p, int64_t base_offset)
{
    char paths[3][PATH_MAX];
    static const char *const suffix[3] = {".log", ".index", ".timeindex"};
    struct env_name_step steps[4];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(paths[i], PATH_MAX, "%.3900s/%020lld%s", p->path, (long long)base_offset,
                 suffix[i]);
        steps[i] = (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = paths[i]};
    }
    steps[3] = (struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = p->path};
    log_info("%s: removing the file of segment %lld, which never counted", p->name,
             (long long)base_offset);
    env_names_wait(p->store->env, steps, ARRAY_LEN(steps));
}

/* Sealed segments are the files below the first open one. A file above that is no open segment's
 * was made for records that a crash took away: it must go before the log gets there again. */
static int adopt_files(struct plog *p, bool clean)
{
    struct segment *open = plog_first_open(p);
    int64_t end_offset = open != NULL ? open->base_offset : p->end_offset, base;
    if (clean && (!p->dir_ready || p->log_start >= end_offset))
        return 0;
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = p->path};
    int rc = env_names_wait(p->store->env, &list, 1);
    if (rc != 0)
        return rc == -ENOENT && p->log_start >= end_offset ? 0 : rc;
    int64_t *bases = malloc((list.ret_count + 1) * sizeof(*bases));
    size_t n = 0;
    const char *name = list.ret_data;
    for (size_t i = 0; bases != NULL && i < list.ret_count; i++, name += strlen(name) + 1) {
        if (!segment_base_of(name, &base))
            continue;
        if (base < end_offset)
            bases[n++] = base;
        else if (open_segment(p, base) == NULL)
            unlink_stale(p, base);
    }
    rc = bases == NULL ? -ENOMEM : add_sealed(p, bases, n, end_offset);
    free(bases);
    free(list.ret_data);
    return rc;
}

static int finish_plogs(struct log_store *s, bool clean)
{
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;) {
        check_promises(p);
        int rc = adopt_files(p, clean);
        if (rc == -ENOMEM)
            return rc;
        if (rc != 0) /* the others go on */
            plog_fence(p, rc, "looking for its segments");
    }
    return 0;
}

/* Blocking. On return the journal holds nothing that counts: all is in segments or checkpoint. */
int recovery_replay(struct log_store *s, char *reason, size_t reason_size)
{
    struct journal_start start;
    struct replay r = {.s = s};
    s->recovering = true;
    bool taken_over = false;
    int rc = checkpoint_load(s, &start, reason, reason_size);
    if (rc == 0)
        rc = checkpoint_take_over(s, &taken_over, reason, reason_size);
    if (rc != 0)
        return rc;
    uint64_t began_ns = env_now_ns(s->env);
    s->journal.tail_pos = start.tail_pos;
    rc = posix_memalign((void **)&r.window, BLOCK_BYTES, WINDOW_BYTES) == 0 ? 0 : -ENOMEM;
    if (rc == 0)
        rc = replay_chain(&r, &start);
    while (rc == 0 && r.held_n > 0)
        rc = apply_oldest(&r);
    while (r.held_n > 0)
        free(r.held[--r.held_n].bytes);
    free(r.window);
    bool clean = start.clean && !taken_over && r.writes == 0 && r.losses == 0;
    if (rc == 0)
        rc = finish_plogs(s, clean);
    if (rc == 0)
        rc = journal_raise_incarnation(s);
    if (rc == 0 && !clean)
        rc = checkpoint_write_full(s);
    if (rc == -ENOSPC || rc == -EDQUOT) { /* reads are served; see checkpoint_pump */
        s->unsettled = true;
        rc = 0;
    }
    if (rc != 0) {
        snprintf(reason, reason_size, "replaying journal %u: %s", s->journal.id, strerror(-rc));
        return rc;
    }
    if (taken_over && !s->unsettled)
        checkpoint_remove_taken(s);
    if (r.writes > 0)
        log_info("journal %u: replayed %llu writes, %llu records, in %.3f s", s->journal.id,
                 (unsigned long long)r.writes, (unsigned long long)r.records,
                 (double)(env_now_ns(s->env) - began_ns) / 1e9);
    s->recovering = false;
    return 0;
}
