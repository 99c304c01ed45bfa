/* checkpoint_load.c: reading checkpoints at start: the newest one that is whole in either of its
 * copies, of this shard's journal and of those that it takes over from shards that are no more. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/log/internal.h"

#define READ_BYTES_MAX (1ull << 30) /* one operation carries less than 2 GiB */

uint32_t checkpoint_crc(const uint8_t *copy, const struct checkpoint_header *header)
{
    struct checkpoint_header h = *header;
    h.crc = 0;
    return crc32c_extend(crc32c(&h, sizeof(h)), copy + sizeof(h), h.body_bytes);
}

bool checkpoint_copy_open(const uint8_t *bytes, uint64_t len_bytes, struct checkpoint_header *ret)
{
    struct checkpoint_header h;
    if (len_bytes < sizeof(h))
        return false;
    memcpy(&h, bytes, sizeof(h));
    if (h.magic != CHECKPOINT_MAGIC || h.version != CHECKPOINT_VERSION ||
        h.tail_pos > h.durable_pos || h.tail_pos % BLOCK_BYTES != 0 ||
        h.durable_pos % BLOCK_BYTES != 0 || h.body_bytes > len_bytes - sizeof(h) ||
        h.crc != checkpoint_crc(bytes, &h))
        return false;
    *ret = h;
    return true;
}

struct in {
    const uint8_t *p, *end;
    bool names_only; /* which partitions it speaks of, nothing else */
};

static bool get(struct in *in, void *ret, size_t len)
{
    if ((size_t)(in->end - in->p) < len)
        return false;
    memcpy(ret, in->p, len);
    in->p += len;
    return true;
}

static int load_epochs(struct in *in, struct plog *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        int64_t pair[2];
        if (!get(in, pair, sizeof(pair)))
            return -EBADMSG;
        if (p != NULL && pair[1] < p->stable_offset &&
            plog_epoch_note(p, (int32_t)pair[0], pair[1]) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int load_producers(struct in *in, struct plog *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct producer_entry e;
        if (!get(in, &e, sizeof(e)) || e.batches_n > PRODUCER_BATCHES)
            return -EBADMSG;
        if (p == NULL)
            continue;
        struct producer *known = calloc(1, sizeof(*known));
        if (known == NULL || map_put(&p->producers, (uint64_t)e.id, known) != 0) {
            free(known);
            return -ENOMEM;
        }
        *known = (struct producer){
            .id = e.id, .epoch = e.epoch, .batches_n = e.batches_n, .last_ms = e.last_ms};
        memcpy(known->batches, e.batches, sizeof(e.batches));
    }
    return 0;
}

static int load_image(struct segment *seg, const uint8_t *data, uint64_t len)
{
    while (len > 0) {
        uint64_t piece = MIN(len, (uint64_t)CHUNK_BYTES_MAX);
        int rc = recovery_reserve(seg, piece);
        if (rc != 0)
            return rc;
        seg_write_bytes(seg, data, piece, true);
        seg->queued_pos = seg->end_pos;
        seg_set_stable(seg, seg->end_pos);
        data += piece;
        len -= piece;
    }
    seg->image_pos = seg->end_pos;
    return 0;
}

/* Segments come in order and do not overlap, and hold nothing that is not stable. */
static bool segment_sane(const struct segment_entry *e, int64_t *from_offset, int64_t stable_offset)
{
    bool sealed = e->state != SEGMENT_ENTRY_OPEN;
    bool whole_blocks =
        e->destaged_pos % BLOCK_BYTES == 0 || (sealed && e->destaged_pos == e->stable_pos);
    if (e->base_offset < *from_offset || e->end_offset < e->base_offset ||
        e->end_offset > stable_offset || e->stable_pos > INT32_MAX ||
        e->destaged_pos > e->stable_pos || e->image_bytes > e->stable_pos - e->destaged_pos ||
        (e->state == SEGMENT_ENTRY_SEALED && e->destaged_pos != e->stable_pos) ||
        (!e->on_disk && (e->destaged_pos > 0 || e->state == SEGMENT_ENTRY_SEALED)))
        return false;
    *from_offset = e->end_offset;
    return whole_blocks;
}

static int load_segment(struct in *in, struct plog *p, int64_t *from_offset, int64_t stable_offset)
{
    struct segment_entry e;
    if (!get(in, &e, sizeof(e)) || (uint64_t)(in->end - in->p) < e.image_bytes ||
        !segment_sane(&e, from_offset, stable_offset))
        return -EBADMSG;
    const uint8_t *image = in->p;
    in->p += e.image_bytes;
    if (p == NULL)
        return 0;
    struct segment *seg = segment_create(p, e.base_offset);
    if (seg == NULL)
        return -ENOMEM;
    seg->end_offset = e.end_offset;
    seg->first_timestamp = e.first_timestamp;
    seg->last_timestamp = e.last_timestamp;
    seg->on_disk = e.on_disk != 0;
    seg->was_source = (e.on_disk & SEGMENT_ENTRY_SENT) != 0;
    seg->end_pos = seg->queued_pos = seg->stable_pos = seg->destaged_pos = e.destaged_pos;
    seg->recovered_pos = e.stable_pos;
    seg->index_complete = false;
    seg->index_from = seg->index.indexed_pos = e.stable_pos;
    seg->index_from_offset = e.end_offset;
    int rc = load_image(seg, image, e.image_bytes);
    if (seg->end_pos == e.stable_pos) /* else the journal has the rest of what it promises */
        seg->replayed_offset = e.end_offset;
    if (e.state == SEGMENT_ENTRY_SEALED) {
        seg->state = SEGMENT_SEALED;
        seg->checkpointed = true;
        seg->size_known = e.stable_pos > 0;
        seg->generation = e.generation;
        seg->swap_pending = e.swap;
        p->swapped |= e.swap;
        seg->index_crc_known = e.index_known;
        memcpy(seg->index_crc, e.index_crc, sizeof(seg->index_crc));
    }
    if (e.state ==
        SEGMENT_ENTRY_SEALING) { /* not before: making room for the image may already destage */
        seg->state = SEGMENT_SEALING;
        plog_want_destage(p);
    }
    return rc;
}

static int load_plog(struct in *in, struct log_store *s, uint64_t durable_next_seq)
{
    struct plog_entry e;
    const uint8_t *from = in->p;
    if (!get(in, &e, sizeof(e)) || e.log_start < 0 || e.stable_offset < e.log_start ||
        e.stable_offset > OFFSET_MAX)
        return -EBADMSG;
    struct plog *p = map_get(&s->plogs, e.number);
    s->foreign |= p == NULL;
    if (p != NULL && p->loaded) /* taken over before: this shard's own state is newer */
        p = NULL;
    /* Of one that arrives in a running store there is no side file: its next checkpoint has it. */
    struct plog *away = p != NULL && p->offline && s->recovering ? p : NULL;
    if (away != NULL) {
        away->loaded = true;
        p = NULL;
    }
    if (in->names_only)
        p = away = NULL;
    if (p != NULL) { /* else deleted since, or another shard's: the entry is skipped */
        p->loaded = true;
        p->log_start = p->start_wanted = p->start_queued = e.log_start;
        p->clean_offset = e.clean_offset;
        p->stable_offset = p->end_offset = p->recovered_offset = e.stable_offset;
        p->dir_ready = e.dir_ready;
        p->void_seq = e.fenced ? durable_next_seq : 0;
        p->segment_class = MIN(e.segment_class, SEGMENT_CLASSES - 1);
    }
    int rc = load_epochs(in, p, e.epochs_n);
    if (rc == 0)
        rc = load_producers(in, p, e.producers_n);
    int64_t from_offset = 0;
    for (uint32_t i = 0; rc == 0 && i < e.segments_n; i++)
        rc = load_segment(in, p, &from_offset, e.stable_offset);
    if (rc == 0 && away != NULL)
        rc = park_entry(s, away, from, (size_t)(in->p - from));
    return rc;
}

/* Out of a side file: entries as a checkpoint has them. */
int checkpoint_load_entries(struct log_store *s, const uint8_t *bytes, size_t len_bytes,
                            uint32_t plogs_n, uint64_t durable_next_seq)
{
    struct in in = {.p = bytes, .end = bytes + len_bytes};
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < plogs_n; i++)
        rc = load_plog(&in, s, durable_next_seq);
    return rc;
}

/* The entries stay where they are, for partitions that are offline: a parcel's file of one of them
 * is older, and is not to be kept beside them. */
int checkpoint_note_entries(struct log_store *s, const uint8_t *bytes, size_t len_bytes,
                            uint32_t plogs_n)
{
    struct in in = {.p = bytes, .end = bytes + len_bytes, .names_only = true};
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < plogs_n; i++)
        rc = load_plog(&in, s, 0);
    return rc;
}

struct loaded { /* one checkpoint file */
    struct checkpoint_header h;
    uint8_t *buf, *copy; /* copy: in buf, the one that is whole; buf NULL: neither is */
    uint64_t size_bytes;
    bool damaged; /* the other copy is not */
};

/* The half of the file that begins at `at`, or NULL. */
static bool copy_read(struct log_store *s, struct env_file *file, struct loaded *l, uint64_t at,
                      uint64_t identity)
{
    uint64_t half = checkpoint_copy_at(l->size_bytes);
    for (uint64_t done = 0; done < half; done += READ_BYTES_MAX) {
        uint64_t len = MIN(half - done, READ_BYTES_MAX);
        if (around_read_wait(s->env, file, l->buf + at + done, len, at + done) != (int)len)
            return false;
    }
    struct checkpoint_header h;
    if (!checkpoint_copy_open(l->buf + at, half, &h) || (identity != 0 && h.identity != identity))
        return false;
    if (l->copy == NULL || h.generation > l->h.generation) {
        l->h = h;
        l->copy = l->buf + at;
    }
    return true;
}

/* identity 0: of whatever journal. */
static void checkpoint_read(struct log_store *s, const char *path, uint64_t identity,
                            struct loaded *ret)
{
    struct env_name_step step = {.kind = ENV_STEP_OPEN, .path = path};
    *ret = (struct loaded){0};
    if (env_names_wait(s->env, &step, 1) != 0)
        return;
    uint64_t size = block_floor(step.ret_size_bytes);
    ret->size_bytes = size;
    if (size >= 2 * BLOCK_BYTES && size <= CHECKPOINT_BYTES_MAX &&
        posix_memalign((void **)&ret->buf, BLOCK_BYTES, size) == 0) {
        env_flush_wait(s->env, step.ret_file); /* perhaps a killed process never did */
        bool first = copy_read(s, step.ret_file, ret, 0, identity);
        bool second = copy_read(s, step.ret_file, ret, checkpoint_copy_at(size), identity);
        ret->damaged = first != second;
    }
    env_file_close(s->env, step.ret_file);
    if (ret->copy != NULL)
        return;
    free(ret->buf);
    ret->buf = NULL;
}

static char *checkpoint_path(const struct log_store *s, unsigned journal_id, unsigned which)
{
    char *path = NULL;
    return asprintf(&path, "%s/journal.%u.checkpoint.%u", s->config.journal_dir, journal_id,
                    which) < 0
               ? NULL
               : path;
}

/* The newer of a journal's two checkpoints; buf NULL: there is none. The paths are the caller's. */
static void checkpoint_newest(struct log_store *s, unsigned journal_id, uint64_t identity,
                              char *paths[2], uint64_t sizes[2], struct loaded *ret)
{
    struct loaded l[2];
    for (unsigned i = 0; i < 2; i++) {
        paths[i] = checkpoint_path(s, journal_id, i);
        l[i] = (struct loaded){0};
        if (paths[i] != NULL)
            checkpoint_read(s, paths[i], identity, &l[i]);
        sizes[i] = l[i].size_bytes;
    }
    unsigned newest =
        l[0].buf == NULL || (l[1].buf != NULL && l[1].h.generation > l[0].h.generation);
    free(l[!newest].buf);
    *ret = l[newest];
    if (ret->damaged)
        log_warn("%s: one of its two copies is torn or damaged, the other one is used",
                 paths[newest]);
}

/* durable_next_seq: of the journal that will be replayed; 0: none of this checkpoint's is. */
static int load_plogs(struct log_store *s, const struct loaded *l, uint64_t durable_next_seq)
{
    struct in in = {.p = l->copy + sizeof(l->h), .end = l->copy + sizeof(l->h) + l->h.body_bytes};
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < l->h.plogs_n; i++)
        rc = load_plog(&in, s, durable_next_seq);
    return rc;
}

static int parcel_load_copy(struct log_store *s, struct plog *p, const struct loaded *l,
                            uint64_t durable_next_seq)
{
    if (l->h.identity != p->number || l->h.plogs_n != 1)
        return -EBADMSG;
    int rc = load_plogs(s, l, durable_next_seq);
    p->void_seq = durable_next_seq;
    return rc == 0 && !p->loaded ? -EBADMSG : rc;
}

/* Of a running store: what its journal has of the partition comes later. */
int parcel_load(struct log_store *s, struct plog *p, const uint8_t *bytes, uint64_t len_bytes)
{
    struct loaded l = {.copy = (uint8_t *)bytes};
    if (!checkpoint_copy_open(bytes, checkpoint_copy_at(len_bytes), &l.h))
        return -EBADMSG;
    return parcel_load_copy(s, p, &l, 0);
}

/* durable_next_seq: of the newest checkpoint of this journal, which was written behind all that an
 * earlier stay of the partition has left in the journal. */
int parcel_load_file(struct log_store *s, struct plog *p, const char *path,
                     uint64_t durable_next_seq)
{
    struct loaded l;
    checkpoint_read(s, path, p->number, &l);
    int rc = l.buf == NULL ? -EBADMSG : parcel_load_copy(s, p, &l, durable_next_seq);
    free(l.buf);
    return rc;
}

/* Loads the newest complete checkpoint. Before the first one there is nothing in a journal; without
 * one later, nobody can say what counts: that is no empty log. */
int checkpoint_load(struct log_store *s, struct journal_start *ret, char *reason,
                    size_t reason_size)
{
    struct checkpointer *c = &s->checkpoint;
    struct loaded l;
    checkpoint_newest(s, s->journal.id, s->journal.identity, c->paths, c->sizes, &l);
    *ret = (struct journal_start){.durable_next_seq = 1};
    if (l.buf == NULL && s->journal.checkpointed) {
        snprintf(reason, reason_size,
                 "neither %s/journal.%u.checkpoint.0 nor .1 has a whole copy: what journal and "
                 "segments hold cannot be told without",
                 s->config.journal_dir, s->journal.id);
        return -EBADMSG;
    }
    if (l.buf == NULL)
        return parks_take(s, s->journal.id, s->journal.identity, 0, reason, reason_size);
    c->generation = l.h.generation;
    c->durable_next_seq = l.h.durable_next_seq;
    *ret = (struct journal_start){
        l.h.tail_pos,
        l.h.durable_pos,
        l.h.durable_next_seq,
        l.h.incarnation,
        l.h.durable_crc,
        l.h.closed == 1 && l.h.incarnation == s->journal.incarnation && !l.damaged};
    int rc = load_plogs(s, &l, l.h.durable_next_seq);
    if (rc != 0)
        snprintf(reason, reason_size, "checkpoint of journal %u: %s", s->journal.id, strerror(-rc));
    free(l.buf);
    if (rc == 0)
        rc = parks_take(s, s->journal.id, s->journal.identity, c->generation, reason, reason_size);
    return rc;
}

/* ---- journals of shards that are no more ---- */

/* Ids of journals left by a run with more shards that are this shard's to take over. */
static unsigned *taken_journals(struct log_store *s, unsigned *ret_n)
{
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = s->config.journal_dir};
    *ret_n = 0;
    if (env_names_wait(s->env, &list, 1) != 0)
        return NULL;
    unsigned *ids = calloc(list.ret_count + 1, sizeof(*ids));
    const char *name = list.ret_data;
    for (size_t i = 0; ids != NULL && i < list.ret_count; i++, name += strlen(name) + 1) {
        unsigned id;
        char extra;
        if (sscanf(name, "journal.%u%c", &id, &extra) == 1 && id >= s->config.shards_n &&
            id % s->config.shards_n == s->journal.id)
            ids[(*ret_n)++] = id;
    }
    free(list.ret_data);
    return ids;
}

/* Loads what drained journals of earlier shards hold of this shard's partitions. Their journals
 * need no replay: they were opened and closed before the partitions moved. */
int checkpoint_take_over(struct log_store *s, bool *ret_any, char *reason, size_t reason_size)
{
    unsigned n;
    unsigned *ids = taken_journals(s, &n);
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        char *paths[2];
        uint64_t sizes[2];
        struct loaded l;
        checkpoint_newest(s, ids[i], 0, paths, sizes, &l);
        rc = l.buf == NULL ? -EBADMSG : load_plogs(s, &l, 0);
        if (rc != 0)
            snprintf(reason, reason_size, "checkpoint of journal %u: %s", ids[i], strerror(-rc));
        else
            rc = parks_take(s, ids[i], l.h.identity, l.h.generation, reason, reason_size);
        free(l.buf);
        free(paths[0]);
        free(paths[1]);
        *ret_any = true;
    }
    free(ids);
    return rc;
}

/* A journal and its checkpoints go in two steps that a crash may part: first the journal's name,
 * which says that nothing of them counts any more, then the files. */
static int taken_files_remove(struct log_store *s, unsigned journal_id, bool first_step)
{
    char journal[PATH_MAX], taken[PATH_MAX], checkpoint[2][PATH_MAX];
    snprintf(journal, PATH_MAX, "%.4000s/journal.%u", s->config.journal_dir, journal_id);
    snprintf(taken, PATH_MAX, "%.4000s/journal.%u.taken", s->config.journal_dir, journal_id);
    for (unsigned i = 0; i < 2; i++)
        snprintf(checkpoint[i], PATH_MAX, "%.4000s/journal.%u.checkpoint.%u", s->config.journal_dir,
                 journal_id, i);
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_RENAME, .path = journal, .path2 = taken},
        {.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir},
        {.kind = ENV_STEP_UNLINK, .path = checkpoint[0]},
        {.kind = ENV_STEP_UNLINK, .path = checkpoint[1]},
        {.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir},
        {.kind = ENV_STEP_UNLINK, .path = taken},
        {.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir},
    };
    unsigned skip = first_step ? 0 : 1;
    return env_names_wait(s->env, steps + skip, (unsigned)ARRAY_LEN(steps) - skip);
}

/* The own checkpoint holds it all now: the files go. A failure leaves them for the next start. */
void checkpoint_remove_taken(struct log_store *s)
{
    unsigned n;
    unsigned *ids = taken_journals(s, &n);
    for (unsigned i = 0; i < n; i++) {
        parks_remove_taken(s, ids[i]); /* before the journal's name, by which they are found */
        if (taken_files_remove(s, ids[i], true) == 0)
            log_info("journal %u: taken over by shard %u", ids[i], s->journal.id);
    }
    free(ids);
}

/* Before this shard's journal is opened: it may be one that was taken over and not quite removed.
 */
int checkpoint_finish_taken(struct log_store *s)
{
    char taken[PATH_MAX];
    snprintf(taken, PATH_MAX, "%.4000s/journal.%u.taken", s->config.journal_dir, s->journal.id);
    struct env_name_step step = {.kind = ENV_STEP_STAT, .path = taken};
    int rc = env_names_wait(s->env, &step, 1);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    return taken_files_remove(s, s->journal.id, false);
}

void checkpoint_fini(struct log_store *s)
{
    for (unsigned i = 0; i < 2; i++)
        free(s->checkpoint.paths[i]);
}
