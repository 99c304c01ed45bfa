/* files.c: how a segment gets its file (from the pool or new), and how it is sealed. All of it on
 * names, in the helper thread, off the acknowledgement path: until a file is there, records are
 * acknowledged through the journal. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"

#define SPACE_RETRY_NS 1000000000ull
#define OPEN_SEALED_MAX 512u

struct names_job *names_job_begin(struct plog *p, struct segment *seg)
{
    ASSERT(p->job == NULL);
    struct names_job *job = calloc(1, sizeof(*job));
    if (job == NULL)
        return NULL;
    job->plog = p;
    job->seg = seg;
    p->job = job;
    p->store->jobs_n++;
    job->shares_sync = sync_is_shared(p->store, p->store->jobs_n);
    return job;
}

void names_job_end(struct names_job *job)
{
    job->plog->job = NULL;
    job->plog->store->jobs_n--;
    free(job->data[0]);
    free(job->data[1]);
    free(job);
}

struct env_name_step *names_job_step(struct names_job *job, enum env_step_kind kind,
                                     const char *path)
{
    ASSERT(job->steps_n < NAMES_JOB_STEPS);
    struct env_name_step *step = &job->steps[job->steps_n++];
    *step = (struct env_name_step){.kind = kind, .path = path};
    return step;
}

/* At a clean stop one sync of the file system, before the last checkpoint, makes all durable; with
 * many jobs at work one does so for all that are done. */
static bool sync_later(struct names_job *job)
{
    bool closing = job->plog->store->closing;
    job->owes_sync |= job->shares_sync && !closing;
    return job->shares_sync || closing;
}

static void step_sync_dir(struct names_job *job, const char *path)
{
    if (!sync_later(job))
        names_job_step(job, ENV_STEP_SYNC_DIR, path);
}

static void on_job_synced(struct sync_waiter *w, int rc)
{
    struct names_job *job = container_of(w, struct names_job, sync);
    job->op.res = rc;
    job->on_done(&job->op);
}

static void on_job_done(struct env_op *op)
{
    struct names_job *job = container_of(op, struct names_job, op);
    struct plog *p = job->plog;
    if (op->res == 0 && job->owes_sync)
        sync_wait(p->store, p->dir, &job->sync, NULL, on_job_synced);
    else
        job->on_done(op);
}

void names_job_submit(struct names_job *job, env_done_fn on_done)
{
    job->on_done = on_done;
    env_names(job->plog->store->env, &job->op, job->steps, job->steps_n, on_job_done);
}

/* ---- a file for the active (or sealing) segment ---- */

bool seg_file_ready(struct segment *seg)
{
    return seg->file_state == SEGMENT_FILE_OPEN && seg->plog->io != NULL;
}

/* As large as its rate asks for. */
static uint64_t file_size_wanted(struct segment *seg)
{
    struct plog *p = seg->plog;
    uint64_t need = block_ceil(seg->end_pos);
    if (seg->state == SEGMENT_SEALING || p->failed_space) /* no more than it takes */
        return need;
    while (segment_class_bytes(p, p->segment_class) < 4 * seg->end_pos &&
           p->segment_class + 1 < SEGMENT_CLASSES)
        p->segment_class++;
    return MAX(need, segment_class_bytes(p, p->segment_class));
}

/* What may be reserved of that, and what it takes in any case. */
static uint64_t file_size_for(struct segment *seg)
{
    const struct plog *p = seg->plog;
    uint64_t most = MIN(file_size_wanted(seg), pool_reserve_max(p->store, p->dir));
    return MAX(block_ceil(seg->end_pos), most);
}

static bool is_want_of_space(int rc)
{
    return rc == -ENOSPC || rc == -EDQUOT || rc == -EMFILE || rc == -ENFILE;
}

/* No more records until there is space for what is here already; see retry_space. */
static void space_missing(struct segment *seg, int rc, const char *what)
{
    struct plog *p = seg->plog;
    struct log_store *s = p->store;
    if (!p->failed_space)
        log_warn("%s: %s %020lld.log failed (%s), no records are taken until there is space",
                 p->name, what, (long long)seg->base_offset, strerror(-rc));
    p->failed_space = true;
    s->memory_freed = true; /* appends that wait for memory are refused instead */
    p->retry_ns = env_now_ns(s->env) + SPACE_RETRY_NS;
    s->retry_ns = MIN(s->retry_ns, p->retry_ns);
}

void plog_space_found(struct plog *p)
{
    if (p->failed_space && p->fenced == 0)
        log_info("%s: takes records again", p->name);
    p->failed_space = false;
}

/* A file operation of the segment has failed. */
static void file_failed(struct segment *seg, int rc, const char *what)
{
    char text[64];
    if (is_want_of_space(rc)) {
        space_missing(seg, rc, what);
        return;
    }
    snprintf(text, sizeof(text), "%s %020lld.log", what, (long long)seg->base_offset);
    plog_fence(seg->plog, rc, text);
}

/* The step that opened the file; NULL: none got that far. */
static const struct env_name_step *opening_step(const struct names_job *job)
{
    for (unsigned i = 0; i < job->steps_n; i++)
        if (job->steps[i].ret_file != NULL)
            return &job->steps[i];
    return NULL;
}

static bool file_fits(const struct segment *seg, uint64_t size_bytes)
{
    return size_bytes % BLOCK_BYTES == 0 && size_bytes >= block_ceil(seg->end_pos);
}

/* A file found at start may be too short to be written: it was sealed once already, or records came
 * before it was opened. Until it is longer it can be read. */
static void file_ready(struct segment *seg, const struct names_job *job)
{
    const struct env_name_step *opened = opening_step(job), *last = &job->steps[job->steps_n - 1];
    bool found = opened == NULL || opened->kind == ENV_STEP_OPEN;
    uint64_t size_bytes = opened == NULL ? last->size_bytes : opened->ret_size_bytes;
    if (opened != NULL)
        seg->file = opened->ret_file;
    seg->resize_file = found && !file_fits(seg, size_bytes);
    seg->file_state = seg->resize_file ? SEGMENT_FILE_NONE : SEGMENT_FILE_OPEN;
    if (found && !seg->resize_file)
        seg->capacity_bytes = size_bytes;
    seg->on_disk = seg->plog->dir_ready = true;
}

static void note_space(const struct names_job *job)
{
    for (unsigned i = 0; i < job->steps_n; i++)
        if (job->steps[i].kind == ENV_STEP_STAT)
            pool_note_space(job->plog->store, job->plog->dir, job->steps[i].ret_free_bytes);
}

static void on_file_done(struct env_op *op)
{
    struct names_job *job = container_of(op, struct names_job, op);
    struct plog *p = job->plog;
    struct segment *seg = job->seg;
    const struct env_name_step *opened = opening_step(job);
    int rc = op->res;
    if (rc == 0) {
        file_ready(seg, job);
        note_space(job);
        plog_space_found(p);
    } else if (rc == -ENOENT && p->store->recovering && !seg->known_missing) {
        /* Trimmed, as a later record will say; or lost, as readers will find. Not a second time:
         * then there is no directory to make it in. */
        seg->file_state = SEGMENT_FILE_NONE;
        seg->on_disk = seg->resize_file = false;
        seg->known_missing = true;
    } else {
        if (opened != NULL)
            env_file_close(p->store->env, opened->ret_file);
        seg->file_state = SEGMENT_FILE_NONE;
        if (!seg->on_disk)
            seg->capacity_bytes = 0;
        file_failed(seg, rc, "opening");
    }
    names_job_end(job);
    plog_mark_dirty(p);
    plog_want_destage(p);
    plog_unhold(p);
}

static void steps_for_directory(struct names_job *job)
{
    struct plog *p = job->plog;
    char text[64], id[23];
    meta_uuid_text(&p->topic_id, id);
    int len = snprintf(text, sizeof(text), "version: 0\ntopic_id: %s\n", id);
    snprintf(job->paths[0], PATH_MAX, "%.4000s/partition.metadata", p->path);
    job->data[0] = (uint8_t *)strdup(text);
    names_job_step(job, ENV_STEP_MKDIR, p->path);
    if (!p->store->closing) { /* nothing of ours reads it; Kafka's tools do not need it */
        struct env_name_step *put = names_job_step(job, ENV_STEP_PUT, job->paths[0]);
        put->data = job->data[0];
        put->data_len = job->data[0] == NULL ? 0 : (size_t)len;
        put->sync_later = sync_later(job);
    }
    step_sync_dir(job, p->store->config.data_dirs[p->dir]);
}

static void steps_for_new_file(struct names_job *job)
{
    struct segment *seg = job->seg;
    struct plog *p = job->plog;
    const char *path = job->paths[1];
    ASSERT(seg->destaged_pos == 0 || seg->known_missing);
    seg->capacity_bytes = file_size_for(seg);
    if (!p->dir_ready)
        steps_for_directory(job);
    uint64_t most = MAX(file_size_wanted(seg), segment_class_for(p, seg->end_pos));
    uint64_t taken =
        pool_take(p->store, p->dir, seg->capacity_bytes, most, job->paths[2], PATH_MAX);
    if (taken > 0) {
        seg->capacity_bytes = taken;
        counter_add(&p->store->counters.pool_taken, 1);
        struct env_name_step *rename = names_job_step(job, ENV_STEP_RENAME, job->paths[2]);
        rename->path2 = path;
        step_sync_dir(job, p->path);
        names_job_step(job, ENV_STEP_OPEN, path);
        return;
    }
    /* A leftover of the name holds nothing that counts: nothing was destaged to this segment. */
    names_job_step(job, ENV_STEP_UNLINK, path);
    names_job_step(job, ENV_STEP_CREATE, path)->size_bytes = seg->capacity_bytes;
    names_job_step(job, ENV_STEP_STAT, p->path);
    step_sync_dir(job, p->path);
}

/* Asks for the segment's file, unless that is under way; completion marks the partition. */
void seg_file_want(struct segment *seg)
{
    struct plog *p = seg->plog;
    if (p->io == NULL)
        p->io = calloc(1, sizeof(*p->io));
    if (seg->file_state != SEGMENT_FILE_NONE || p->job != NULL || p->removed || p->io == NULL)
        return;
    if (p->failed_space && env_now_ns(p->store->env) < p->retry_ns)
        return;
    struct names_job *job = names_job_begin(p, seg);
    if (job == NULL)
        return;
    segment_path(seg, ".log", job->paths[1], PATH_MAX);
    /* While replaying, a file that is there may hold a run whose record is still to come. */
    bool look = seg->on_disk || (p->store->recovering && !seg->known_missing);
    if (!look)
        steps_for_new_file(job);
    if (look && seg->resize_file) {
        struct env_name_step *resize = names_job_step(job, ENV_STEP_RESIZE, job->paths[1]);
        resize->size_bytes = file_size_for(seg);
        resize->sync_later = sync_later(job);
    }
    if (look && seg->file == NULL)
        names_job_step(job, ENV_STEP_OPEN, job->paths[1]);
    seg->file_state = SEGMENT_FILE_OPENING;
    plog_hold(p);
    names_job_submit(job, on_file_done);
}

void seg_file_hold(struct segment *seg)
{
    seg->file_refs++;
}

/* The last user of a sealed segment's file closes it when many are open. */
void seg_file_release(struct segment *seg)
{
    struct log_store *s = seg->plog->store;
    ASSERT(seg->file_refs > 0);
    if (--seg->file_refs > 0 || seg->state != SEGMENT_SEALED || seg->file == NULL)
        return;
    if (s->open_sealed_n <= OPEN_SEALED_MAX)
        return;
    seg_source_drop(seg);
    env_file_close(s->env, seg->file);
    seg->file = NULL;
    seg->file_state = SEGMENT_FILE_NONE;
    s->open_sealed_n--;
}

/* ---- sealing ---- */

static void on_sealed(struct env_op *op)
{
    struct names_job *job = container_of(op, struct names_job, op);
    struct plog *p = job->plog;
    struct segment *seg = job->seg;
    if (op->res == 0) {
        segment_sealed(seg);
        seg->capacity_bytes = seg->end_pos;
        p->store->open_sealed_n++;
        seg_mark_clean(seg);
        plog_space_found(p);
    } else {
        file_failed(seg, op->res, "sealing"); /* tried again when its index files found no room */
    }
    names_job_end(job);
    seg_file_hold(seg);
    seg_file_release(seg);
    plog_want_destage(p);
    if (p->expired)
        plog_expire(p);
    plog_trim(p);
    plog_unhold(p);
}

/* Everything is destaged: cut the file to its length and write the index files. */
void seg_seal(struct segment *seg)
{
    struct plog *p = seg->plog;
    if (p->job != NULL || (p->failed_space && env_now_ns(p->store->env) < p->retry_ns))
        return;
    struct names_job *job = names_job_begin(p, seg);
    if (job == NULL)
        return;
    struct env_name_step *cut =
        names_job_step(job, ENV_STEP_RESIZE, segment_path(seg, ".log", job->paths[0], PATH_MAX));
    cut->size_bytes = seg->end_pos;
    cut->sync_later = sync_later(job);
    size_t len[2];
    seg->index_crc_known = seg->index_complete && seg_index_encode(seg, &job->data[0], &len[0],
                                                                   &job->data[1], &len[1]) == 0;
    if (seg->index_crc_known) {
        static const char *const suffix[2] = {".index", ".timeindex"};
        for (unsigned i = 0; i < 2; i++) {
            struct env_name_step *put = names_job_step(
                job, ENV_STEP_PUT, segment_path(seg, suffix[i], job->paths[1 + i], PATH_MAX));
            put->data = job->data[i];
            put->data_len = len[i];
            put->sync_later = sync_later(job);
            seg->index_crc[i] = crc32c(job->data[i], len[i]);
        }
    }
    plog_hold(p);
    names_job_submit(job, on_sealed);
}
