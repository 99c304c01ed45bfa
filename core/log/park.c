/* park.c: what waits in side files for a data directory that is not there, so that it keeps no
 * space in the journal.
 *
 * Happy path: a start without the directory -> what checkpoint (park_entry) and journal
 * (park_write) hold of its partitions goes, as it is, to journal.J.parked.D, durably (parks_write)
 * -> the checkpoint behind the replay leaves these partitions out, the journal's space is free. A
 * start that finds the directory again loads the entries and replays the writes (parks_take),
 * before anything else of these partitions; when its checkpoint has them, the file goes
 *   (parks_remove_taken).
 * A crash in between: a partition that the checkpoint knows is newer than what is in a file. A
 *   section that was made beside the checkpoint that is still the newest does not count: that
 *   checkpoint and the journal hold all of it.
 * Failure: without the side file there is no such start: nothing may be left out then.
 * Writes are kept whole and unread: a run among them can only be held against its segment, which
 * is in the directory. Threads: the shard's, at start, blocking. */
#include "core/log/park_format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/log/replay.h"

#define IO_BYTES_MAX (256ull << 20) /* one operation carries less than 2 GiB */

struct bytes {
    uint8_t *p;
    size_t len, cap;
};
struct park {                 /* of one data directory */
    struct park_section head; /* of the new section */
    struct bytes plogs, writes;
    struct bytes older; /* whole sections, the newest first */
    bool changed;       /* the file is to be written: there is something new */
    bool taken;         /* there are files whose contents are in the partitions again */
    uint64_t losses;    /* in these */
};

/* ---- gathering ---- */

static int bytes_add(struct bytes *b, const void *data, size_t len)
{
    if (b->cap - b->len < len) {
        size_t cap = MAX(b->cap * 2, b->len + len);
        uint8_t *more = realloc(b->p, cap);
        if (more == NULL)
            return -ENOMEM;
        b->p = more;
        b->cap = cap;
    }
    memcpy(b->p + b->len, data, len);
    b->len += len;
    return 0;
}

int parks_open(struct log_store *s)
{
    s->parks = calloc(s->config.data_dirs_n, sizeof(*s->parks));
    return s->parks == NULL ? -ENOMEM : 0;
}

void parks_fini(struct log_store *s)
{
    for (unsigned i = 0; s->parks != NULL && i < s->config.data_dirs_n; i++) {
        free(s->parks[i].plogs.p);
        free(s->parks[i].writes.p);
        free(s->parks[i].older.p);
    }
    free(s->parks);
    s->parks = NULL;
}

/* A checkpoint's entry of a partition whose directory is not there. */
int park_entry(struct log_store *s, struct plog *p, const uint8_t *bytes, size_t len_bytes)
{
    struct park *park = &s->parks[p->dir];
    park->changed = true;
    park->head.plogs_n++;
    return bytes_add(&park->plogs, bytes, len_bytes);
}

static int write_keep(struct park *park, const struct held_write *w, bool proven, bool gaps)
{
    struct park_write head = {.len_bytes = w->h.len_bytes,
                              .virtual_pos = w->h.virtual_pos,
                              .proven = proven,
                              .gaps = gaps};
    int rc = bytes_add(&park->writes, &head, sizeof(head));
    if (rc == 0)
        rc = bytes_add(&park->writes, w->bytes, w->h.len_bytes);
    park->head.writes_n++;
    park->changed = true;
    return rc;
}

/* A write of the journal, for all directories whose partitions have records in it. */
int park_write(struct replay *r, const struct held_write *w)
{
    struct log_store *s = r->s;
    uint64_t dirs = 0;
    struct journal_record rec;
    struct journal_record_iter it;
    int rc = 0;
    if (s->dirs_offline == 0)
        return 0;
    journal_records_begin(&it, w->bytes, &w->h);
    while (journal_record_next(&it, &rec)) {
        const struct plog *p = map_get(&s->plogs, rec.number);
        if (p != NULL && p->offline)
            dirs |= UINT64_C(1) << p->dir;
    }
    for (unsigned i = 0; rc == 0 && i < s->config.data_dirs_n; i++)
        if ((dirs >> i & 1) != 0)
            rc = write_keep(&s->parks[i], w, w->h.seq <= r->durable_seq, r->gaps);
    return rc;
}

/* ---- reading ---- */

char *park_path(const struct log_store *s, unsigned journal_id, unsigned dir, char *buf)
{
    snprintf(buf, PATH_MAX, "%.4000s/journal.%u.parked.%u", s->config.journal_dir, journal_id, dir);
    return buf;
}

/* The section at p, whose parts lie before end; NULL: it makes no sense. */
static const uint8_t *section_at(const uint8_t *p, const uint8_t *end, struct park_section *ret)
{
    if ((size_t)(end - p) < sizeof(*ret))
        return NULL;
    memcpy(ret, p, sizeof(*ret));
    p += sizeof(*ret);
    size_t room = (size_t)(end - p);
    return ret->plogs_bytes <= room && ret->writes_bytes <= room - ret->plogs_bytes ? p : NULL;
}

uint32_t park_header_crc(const struct park_header *header)
{
    struct park_header h = *header;
    h.crc = 0;
    return crc32c(&h, sizeof(h));
}

static bool copy_whole(const uint8_t *bytes, uint64_t len, struct park_header *ret)
{
    memcpy(ret, bytes, sizeof(*ret));
    if (ret->magic != PARK_MAGIC || ret->version != PARK_VERSION ||
        ret->body_bytes > len - sizeof(*ret))
        return false;
    uint32_t crc = park_header_crc(ret);
    const uint8_t *p = bytes + sizeof(*ret), *end = p + ret->body_bytes;
    while (p < end) {
        struct park_section head;
        const uint8_t *parts = section_at(p, end, &head);
        if (parts == NULL || crc32c(parts, head.plogs_bytes + head.writes_bytes) != head.crc)
            return false;
        crc = crc32c_extend(crc, &head, sizeof(head));
        p = parts + head.plogs_bytes + head.writes_bytes;
    }
    return crc == ret->crc;
}

/* One copy of the file into buf, which has room for it. */
static bool copy_read(struct log_store *s, struct env_file *file, uint8_t *buf, uint64_t from,
                      uint64_t len, struct park_header *ret)
{
    for (uint64_t done = 0; done < len; done += IO_BYTES_MAX) {
        uint64_t piece = MIN(len - done, (uint64_t)IO_BYTES_MAX);
        if (around_read_wait(s->env, file, buf + done, piece, from + done) != (int)piece)
            return false;
    }
    return copy_whole(buf, len, ret);
}

/* *ret NULL: there is no such file. -EBADMSG: neither of its copies is whole. */
static int park_read(struct log_store *s, const char *path, uint8_t **ret,
                     struct park_header *ret_h)
{
    struct env_name_step step = {.kind = ENV_STEP_OPEN, .path = path};
    int rc = env_names_wait(s->env, &step, 1);
    *ret = NULL;
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    uint64_t half = checkpoint_copy_at(block_floor(step.ret_size_bytes));
    uint8_t *buf = NULL;
    rc = half < BLOCK_BYTES || half > PARK_BYTES_MAX ? -EBADMSG : 0;
    if (rc == 0 && posix_memalign((void **)&buf, BLOCK_BYTES, half) != 0)
        rc = -ENOMEM;
    if (rc == 0 && !copy_read(s, step.ret_file, buf, 0, half, ret_h) &&
        !copy_read(s, step.ret_file, buf, half, half, ret_h))
        rc = -EBADMSG;
    env_file_close(s->env, step.ret_file);
    if (rc != 0) {
        free(buf);
        return rc;
    }
    *ret = buf;
    return 0;
}

/* ---- back into the partitions ---- */

static int write_back(struct replay *r, uint64_t identity, const uint8_t **p, const uint8_t *end)
{
    struct park_write head;
    struct held_write w;
    if ((size_t)(end - *p) < sizeof(head))
        return -EBADMSG;
    memcpy(&head, *p, sizeof(head));
    *p += sizeof(head);
    if (head.len_bytes < sizeof(w.h) || head.len_bytes > (size_t)(end - *p) ||
        head.len_bytes > JOURNAL_WRITE_BYTES_MAX)
        return -EBADMSG;
    w.bytes = malloc(head.len_bytes); /* replay repairs bodies in place */
    if (w.bytes == NULL)
        return -ENOMEM;
    memcpy(w.bytes, *p, head.len_bytes);
    *p += head.len_bytes;
    struct journal_expect expect = {
        .journal_id = identity, .virtual_pos = head.virtual_pos, .incarnation_max = UINT64_MAX};
    int rc = journal_write_open(w.bytes, head.len_bytes, &expect, &w.h);
    r->durable_seq = head.proven ? UINT64_MAX : 0;
    r->gaps = head.gaps != 0;
    if (rc == 0)
        rc = replay_apply(r, &w);
    free(w.bytes);
    return rc;
}

/* Only what nothing newer has spoken of. Of a partition without an entry here, writes from before
 * that checkpoint are of an earlier stay: what there is of it is elsewhere. */
static int section_back(struct log_store *s, const struct park_section *head, const uint8_t *p,
                        unsigned dir)
{
    struct plog *plog;
    for (size_t it = 0; (plog = map_next(&s->plogs, &it)) != NULL;) {
        plog->unparking = plog->dir == dir && !plog->loaded;
        if (plog->unparking)
            plog->void_seq = head->checkpoint_seq; /* an entry says otherwise */
    }
    struct replay r = {.s = s, .unparks = true, .checkpoint_seq = head->checkpoint_seq};
    int rc = checkpoint_load_entries(s, p, head->plogs_bytes, head->plogs_n, head->checkpoint_seq);
    const uint8_t *at = p + head->plogs_bytes, *end = at + head->writes_bytes;
    for (uint32_t i = 0; rc == 0 && i < head->writes_n; i++)
        rc = write_back(&r, head->identity, &at, end);
    for (size_t it = 0; (plog = map_next(&s->plogs, &it)) != NULL;) {
        plog->loaded |= plog->unparking && plog->unparked;
        if (plog->unparking) /* what the journal still has from before does not count */
            plog->void_seq = head->identity == s->journal.identity ? head->checkpoint_seq : 0;
        plog->unparking = false;
    }
    s->parks[dir].losses += r.losses;
    return rc;
}

static int sections_take(struct log_store *s, unsigned dir, const uint8_t *body, uint64_t len,
                         uint64_t identity, uint64_t generation)
{
    struct park *park = &s->parks[dir];
    struct park_section head;
    const uint8_t *end = body + len, *next;
    int rc = 0;
    for (const uint8_t *p = body; rc == 0 && p < end; p = next) {
        const uint8_t *parts = section_at(p, end, &head);
        if (parts == NULL)
            return -EBADMSG;
        next = parts + head.plogs_bytes + head.writes_bytes;
        if (head.identity == identity && head.generation >= generation)
            continue; /* that checkpoint and the journal have all of it */
        if (dir_is_offline(s, dir)) {
            rc = checkpoint_note_entries(s, parts, head.plogs_bytes, head.plogs_n);
            if (rc == 0)
                rc = bytes_add(&park->older, p, (size_t)(next - p));
        } else {
            rc = section_back(s, &head, parts, dir);
        }
    }
    return rc;
}

static int file_take(struct log_store *s, unsigned journal_id, unsigned dir, uint64_t identity,
                     uint64_t generation)
{
    char path[PATH_MAX];
    uint8_t *bytes;
    struct park_header h;
    int rc = park_read(s, park_path(s, journal_id, dir, path), &bytes, &h);
    if (rc != 0 || bytes == NULL)
        return rc;
    rc = sections_take(s, dir, bytes + sizeof(h), h.body_bytes, identity, generation);
    if (dir_is_offline(s, dir))
        s->parks[dir].changed |= journal_id != s->journal.id; /* into a file of this journal */
    else
        s->parks[dir].taken = true;
    free(bytes);
    return rc;
}

/* What journal_id has in side files, whose newest checkpoint is of that identity and generation: of
 * directories that are there it goes into the partitions, the rest is kept. */
int parks_take(struct log_store *s, unsigned journal_id, uint64_t identity, uint64_t generation,
               char *reason, size_t reason_size)
{
    for (unsigned i = 0; i < s->config.data_dirs_n; i++) {
        int rc = file_take(s, journal_id, i, identity, generation);
        if (rc == 0)
            continue;
        snprintf(reason, reason_size, "%.300s/journal.%u.parked.%u: %s", s->config.journal_dir,
                 journal_id, i, rc == -EBADMSG ? "damaged, and so is its copy" : strerror(-rc));
        return rc;
    }
    return 0;
}

/* ---- writing ---- */

static int copy_write(struct log_store *s, struct env_file *file, const uint8_t *buf, uint64_t len,
                      uint64_t at)
{
    int rc = 0;
    for (uint64_t done = 0; rc >= 0 && done < len; done += IO_BYTES_MAX)
        rc = env_write_wait(s->env, file, buf + done, MIN(len - done, (uint64_t)IO_BYTES_MAX),
                            at + done, 0);
    return MIN(rc, 0);
}

static int file_write(struct log_store *s, const char *path, const uint8_t *buf, uint64_t len)
{
    char temp[PATH_MAX];
    snprintf(temp, sizeof(temp), "%.4090s.new", path);
    struct env_name_step make[] = {
        {.kind = ENV_STEP_UNLINK, .path = temp},
        {.kind = ENV_STEP_CREATE, .path = temp, .size_bytes = 2 * len},
    };
    int rc = env_names_wait(s->env, make, ARRAY_LEN(make));
    if (rc != 0)
        return rc;
    for (unsigned i = 0; rc == 0 && i < 2; i++)
        rc = copy_write(s, make[1].ret_file, buf, len, i * len);
    if (rc == 0)
        rc = env_flush_wait(s->env, make[1].ret_file);
    env_file_close(s->env, make[1].ret_file);
    struct env_name_step publish[] = {
        {.kind = ENV_STEP_RENAME, .path = temp, .path2 = path},
        {.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir},
    };
    return rc != 0 ? rc : env_names_wait(s->env, publish, ARRAY_LEN(publish));
}

static uint32_t sections_crc(uint32_t crc, const uint8_t *body, uint64_t len)
{
    struct park_section head;
    for (const uint8_t *p = body, *end = body + len; p < end;
         p += head.plogs_bytes + head.writes_bytes) {
        p = section_at(p, end, &head);
        ASSERT(p != NULL);
        crc = crc32c_extend(crc, &head, sizeof(head));
    }
    return crc;
}

static int park_write_file(struct log_store *s, struct park *park, const char *path)
{
    uint64_t section = park->head.plogs_n + park->head.writes_n == 0 ? 0 : sizeof(park->head);
    struct park_header h = {.magic = PARK_MAGIC,
                            .version = PARK_VERSION,
                            .body_bytes =
                                section + park->plogs.len + park->writes.len + park->older.len};
    uint64_t len = block_ceil(sizeof(h) + h.body_bytes);
    uint8_t *buf;
    if (posix_memalign((void **)&buf, BLOCK_BYTES, len) != 0)
        return -ENOMEM;
    memset(buf + len - BLOCK_BYTES, 0, BLOCK_BYTES);
    park->head.plogs_bytes = park->plogs.len;
    park->head.writes_bytes = park->writes.len;
    park->head.crc =
        crc32c_extend(crc32c(park->plogs.p, park->plogs.len), park->writes.p, park->writes.len);
    const struct bytes parts[] = {
        {(uint8_t *)&park->head, section, 0}, park->plogs, park->writes, park->older};
    uint8_t *at = buf + sizeof(h);
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i].len > 0)
            memcpy(at, parts[i].p, parts[i].len);
        at += parts[i].len;
    }
    h.crc = sections_crc(park_header_crc(&h), buf + sizeof(h), h.body_bytes);
    memcpy(buf, &h, sizeof(h));
    int rc = file_write(s, path, buf, len);
    free(buf);
    return rc;
}

/* Something is to be kept, or was given back: the checkpoint is to be written. */
bool parks_changed(const struct log_store *s)
{
    for (unsigned i = 0; i < s->config.data_dirs_n; i++)
        if (s->parks[i].changed || s->parks[i].taken)
            return true;
    return false;
}

/* Damaged places in what was given back. */
uint64_t parks_losses(const struct log_store *s)
{
    uint64_t losses = 0;
    for (unsigned i = 0; i < s->config.data_dirs_n; i++)
        losses += s->parks[i].losses;
    return losses;
}

/* All that was kept, durably: the next checkpoint leaves it out. */
int parks_write(struct log_store *s, char *reason, size_t reason_size)
{
    for (unsigned i = 0; i < s->config.data_dirs_n; i++) {
        struct park *park = &s->parks[i];
        char path[PATH_MAX];
        if (!park->changed)
            continue;
        park->head.identity = s->journal.identity;
        park->head.generation = s->checkpoint.generation;
        park->head.checkpoint_seq = s->checkpoint.durable_next_seq;
        int rc = park_write_file(s, park, park_path(s, s->journal.id, i, path));
        if (rc != 0) {
            snprintf(reason, reason_size, "%.300s: %s", path, strerror(-rc));
            return rc;
        }
        log_info("%s: keeps %llu bytes of %u partitions until their data directory is there again",
                 path, (unsigned long long)(park->plogs.len + park->writes.len + park->older.len),
                 park->head.plogs_n);
    }
    struct plog *p;
    for (size_t it = 0; (p = map_next(&s->plogs, &it)) != NULL;)
        p->parked = p->offline;
    return 0;
}

/* The checkpoint has it all: the files go. What a failure leaves is older than the checkpoint,
 * which therefore has to keep these partitions: none leaves (move.c). */
void parks_remove_taken(struct log_store *s, unsigned journal_id)
{
    for (unsigned i = 0; i < s->config.data_dirs_n; i++) {
        char path[PATH_MAX];
        bool moved = s->parks[i].changed && journal_id != s->journal.id;
        if (!s->parks[i].taken && !moved)
            continue;
        struct env_name_step steps[] = {
            {.kind = ENV_STEP_UNLINK, .path = park_path(s, journal_id, i, path)},
            {.kind = ENV_STEP_SYNC_DIR, .path = s->config.journal_dir}};
        int rc = env_names_wait(s->env, steps, ARRAY_LEN(steps));
        if (rc == 0)
            continue;
        log_warn("%s: cannot be removed: %s", path, strerror(-rc));
        s->parks_left = true;
    }
}
