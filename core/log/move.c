/* move.c: a partition leaves this store for that of another shard, or comes from there. What has no
 * file of its own (where segments end, the last part-filled block, epochs, producers) goes as a
 * parcel: a checkpoint of one partition, handed over in memory and kept in the file
 * partition.NUMBER.moved of the journal's directory.
 *
 * Whatever a crash leaves: the newest checkpoint of the journal whose shard metadata names has the
 * partition, and then that counts (with the journal behind it), and a parcel's file is stale; or it
 * has not, and then the parcel counts (with what the journal has of it behind that checkpoint).
 * So a parcel is durable before a checkpoint without the partition is, that before metadata names
 * another shard, and no store has the partition in its newest checkpoint but its owner's.
 *
 * Happy path, leaving:
 *   DRAIN   nothing new is taken; what there is becomes stable, whole blocks go to their segments
 *   QUIET   nothing begins on it; reads and jobs end
 *   PARK    the parcel's file is written
 *   FORGET  a checkpoint without it
 *   READY   on_done(0); metadata changes; log_departure_end(gone): it leaves memory
 * Arriving: the parcel is loaded, and its file removed behind the first checkpoint that has it.
 * Failure: until READY everything ends in staying: taken up again as if it had arrived. One that is
 *   deleted meanwhile is orphaned: the departure ends with -ENOENT, the file goes with the rest.
 * Threads: the shard's. The parcel's bytes are read by the other one, once they do not change. */
#include "core/log/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/logger.h"

#define LEAVE_NS 30000000000ull  /* who takes longer stays */
#define PARCELS_NS 1000000000ull /* so that many of them share a checkpoint */
#define RETRY_NS 1000000ull      /* memory for an arrival is given back by others: look again */

enum depart_state { DEPART_DRAIN, DEPART_QUIET, DEPART_PARK, DEPART_FORGET, DEPART_READY };

char *parcel_path(const struct log_store *s, uint64_t number)
{
    char *path = NULL;
    return asprintf(&path, "%s/partition.%llu.moved", s->config.journal_dir,
                    (unsigned long long)number) < 0
               ? NULL
               : path;
}

/* ---- files that do not count any more ---- */

struct parcel_removal {
    struct env_op op;
    struct plog *plog;
    struct env_name_step step;
    char *path;
};

static void on_parcel_gone(struct env_op *op)
{
    struct parcel_removal *r = container_of(op, struct parcel_removal, op);
    struct plog *p = r->plog;
    if (op->res < 0) /* the next start, or move, sees to it */
        log_warn("%s: cannot be removed: %s", r->path, strerror(-op->res));
    p->store->jobs_n--;
    free(r->path);
    free(r);
    plog_unhold(p);
}

/* The partition is in a durable checkpoint. */
static void parcel_remove(struct plog *p)
{
    struct log_store *s = p->store;
    struct parcel_removal *r = calloc(1, sizeof(*r));
    char *path = r == NULL ? NULL : parcel_path(s, p->number);
    p->parcel_captured = false;
    if (path == NULL) { /* behind the next one */
        free(r);
        return;
    }
    p->parcel_stale = false;
    list_remove(&p->parcel_link);
    *r = (struct parcel_removal){
        .plog = p, .path = path, .step = {.kind = ENV_STEP_UNLINK, .path = path}};
    s->jobs_n++;
    plog_hold(p);
    env_names(s->env, &r->op, &r->step, 1, on_parcel_gone);
}

static void parcel_is_stale_later(struct plog *p)
{
    p->parcel_stale = true;
    p->parcel_captured = false;
    if (list_empty(&p->store->parcels))
        p->store->parcels_ns = env_now_ns(p->store->env) + PARCELS_NS;
    if (!list_linked(&p->parcel_link))
        list_push_tail(&p->store->parcels, &p->parcel_link);
}

static void parcel_forget(struct plog *p)
{
    p->parcel_stale = p->parcel_captured = false;
    list_remove(&p->parcel_link);
}

/* ---- staying ---- */

static void departure_over(struct log_departure *d, int rc)
{
    list_remove(&d->link);
    free(d->path);
    d->path = NULL;
    d->on_done(d, rc);
}

/* As if it had come here: a file may be there, and perhaps no checkpoint has it. */
static void plog_stays(struct plog *p, bool parked)
{
    p->departure = NULL;
    p->removed = p->excluded = false;
    if (parked)
        parcel_is_stale_later(p);
    if (dir_is_offline(p->store, p->dir) && !p->offline) /* meanwhile, unseen by dirs_pump */
        plog_take_offline(p);
    plog_notify(p);
    plog_trim(p);
}

static void departure_fail(struct log_departure *d)
{
    struct plog *p = d->plog;
    if (p != NULL && p->departure == d)
        plog_stays(p, d->state >= DEPART_PARK);
    d->plog = NULL;
    departure_over(d, d->rc);
}

/* The partition is being deleted. */
void departure_orphan(struct plog *p)
{
    struct log_departure *d = p->departure;
    if (d == NULL)
        return;
    p->departure = NULL;
    p->parcel_stale |= d->state >= DEPART_PARK;
    d->rc = -ENOENT;
    if (d->state != DEPART_PARK) /* else its end is waited for */
        d->plog = NULL;
}

/* ---- leaving, step by step ---- */

static bool segment_is_drained(const struct segment *seg)
{
    if (seg->swap_pending || seg->state == SEGMENT_SEALING)
        return false;
    return seg->state == SEGMENT_SEALED ||
           (seg->stable_pos == seg->end_pos && block_floor(seg->stable_pos) <= seg->destaged_pos);
}

static bool plog_is_drained(const struct plog *p)
{
    if (p->ahead || p->swap != NULL || p->stable_offset != p->end_offset ||
        p->start_wanted > p->log_start)
        return false;
    list_for_each(it, &p->segments)
        if (!segment_is_drained(container_of(it, struct segment, link)))
            return false;
    return true;
}

static void plog_drain(struct plog *p)
{
    if (p->stable_offset != p->end_offset)
        plog_mark_dirty(p);
    plog_want_destage(p);
}

/* Whoever waits looks again, and is told to look elsewhere. */
static void plog_freeze(struct plog *p)
{
    p->removed = true;
    plog_leave_cycle(p);
    plog_leave_ahead(p);
    plog_unmark(p);
    list_remove(&p->destage_link);
    list_remove(&p->behind_link);
    list_remove(&p->trim_link);
    plog_notify(p);
}

static bool plog_is_quiet(const struct plog *p)
{
    return p->holds == 0 && p->job == NULL && !p->trimming && !list_linked(&p->notify_link);
}

static void on_parked(struct env_op *op)
{
    struct log_departure *d = container_of(op, struct log_departure, op);
    struct plog *p = d->plog;
    p->store->jobs_n--;
    if (d->rc == 0)
        d->rc = op->res;
    if (p->departure == d && d->rc == 0) {
        p->excluded = true;
        d->state = DEPART_FORGET;
    }
    if (p->departure != d)
        d->plog = NULL;
    plog_unhold(p);
}

static void departure_park(struct log_departure *d)
{
    struct plog *p = d->plog;
    d->path = parcel_path(p->store, p->number);
    d->parcel = d->path == NULL ? NULL : parcel_encode(p, &d->parcel_bytes);
    if (d->parcel == NULL) {
        d->rc = -ENOMEM;
        return;
    }
    parcel_forget(p); /* an older one is replaced */
    d->state = DEPART_PARK;
    d->step = (struct env_name_step){
        .kind = ENV_STEP_PUT, .path = d->path, .data = d->parcel, .data_len = d->parcel_bytes};
    p->store->jobs_n++;
    plog_hold(p);
    env_names(p->store->env, &d->op, &d->step, 1, on_parked);
}

static int departure_failure(const struct log_departure *d)
{
    const struct plog *p = d->plog;
    const struct log_store *s = p->store;
    if (p->fenced != 0 || s->failed != 0 || dir_is_offline(s, p->dir))
        return -EIO;
    if (p->failed_space || s->unsettled)
        return -ENOSPC;
    if (s->parks_left) /* without a checkpoint that has it, that would count again */
        return -EBUSY;
    if (s->stopping)
        return -ECANCELED;
    return env_now_ns(s->env) >= d->give_up_ns ? -ETIMEDOUT : 0;
}

/* It waits for a checkpoint without it. */
static void want_checkpoint(struct log_store *s)
{
    struct checkpointer *c = &s->checkpoint;
    if (!c->busy && env_now_ns(s->env) >= s->cycle_after_ns)
        c->wanted = true;
}

static void departure_pump(struct log_store *s, struct log_departure *d)
{
    bool parking = d->state == DEPART_PARK && d->plog != NULL && d->op.busy;
    if (parking || d->state == DEPART_READY)
        return;
    if (d->rc == 0)
        d->rc = departure_failure(d);
    if (d->rc == 0 && d->state == DEPART_DRAIN) {
        if (plog_is_drained(d->plog)) {
            plog_freeze(d->plog);
            d->state = DEPART_QUIET;
        } else {
            plog_drain(d->plog);
        }
    }
    if (d->rc == 0 && d->state == DEPART_QUIET && plog_is_quiet(d->plog))
        departure_park(d);
    if (d->rc == 0 && d->state == DEPART_FORGET && !d->captured)
        want_checkpoint(s);
    if (d->rc < 0)
        departure_fail(d);
}

void log_departure_begin(struct plog *p, struct log_departure *d, log_departure_fn on_done)
{
    struct log_store *s = p->store;
    ASSERT(p->departure == NULL && !p->removed);
    *d = (struct log_departure){
        .on_done = on_done, .plog = p, .give_up_ns = env_now_ns(s->env) + LEAVE_NS};
    p->departure = d;
    list_push_tail(&s->departing, &d->link);
    plog_hurry(p);
    plog_notify(p);
}

void log_departure_end(struct log_departure *d, bool gone)
{
    struct plog *p = d->plog;
    ASSERT(d->state == DEPART_READY);
    list_remove(&d->link);
    free(d->path);
    d->path = NULL;
    d->plog = NULL;
    if (p == NULL) /* deleted */
        return;
    if (!gone) {
        plog_stays(p, true);
        return;
    }
    counter_add(&p->store->counters.moved_away, 1);
    plog_destroy(p);
}

bool log_store_is_leaving(struct log_store *s, uint64_t number)
{
    const struct plog *p = log_store_peek(s, number);
    return p != NULL && p->departure != NULL;
}

struct log_departure *log_store_departed(struct log_store *s, uint64_t number)
{
    const struct plog *p = log_store_peek(s, number);
    bool told = p != NULL && p->departure != NULL && p->departure->state == DEPART_READY;
    return told ? p->departure : NULL;
}

/* ---- checkpoints ---- */

/* What the one that has just been made says. */
void moves_captured(struct log_store *s)
{
    list_for_each(it, &s->departing) {
        struct log_departure *d = container_of(it, struct log_departure, link);
        d->captured = d->state == DEPART_FORGET;
    }
    list_for_each(it, &s->parcels)
        container_of(it, struct plog, parcel_link)->parcel_captured = true;
}

/* ... is durable, or perhaps not. */
void moves_checkpointed(struct log_store *s, int rc)
{
    list_for_each_safe(it, next, &s->departing) {
        struct log_departure *d = container_of(it, struct log_departure, link);
        if (!d->captured || d->state != DEPART_FORGET || d->rc != 0)
            continue;
        d->captured = false;
        d->rc = rc == 0 ? 0 : -ENOSPC;
        if (rc != 0)
            continue;
        d->state = DEPART_READY;
        d->on_done(d, 0);
    }
    list_for_each_safe(it, next, &s->parcels) {
        struct plog *p = container_of(it, struct plog, parcel_link);
        bool captured = p->parcel_captured;
        p->parcel_captured = false;
        if (captured && rc == 0 && !s->closing)
            parcel_remove(p);
    }
}

/* ---- arriving ---- */

static int arrive(struct log_store *s, struct log_arrival *a)
{
    uint64_t number = a->topic->partitions[a->index].number;
    if (map_get(&s->plogs, number) != NULL)
        return -EEXIST;
    struct plog *p = plog_create(s, a->topic, a->index);
    if (p == NULL)
        return -ENOMEM;
    int rc = parcel_load(s, p, a->parcel, a->parcel_bytes);
    if (rc != 0) {
        plog_destroy(p);
        return rc;
    }
    parcel_is_stale_later(p);
    plog_trim(p);
    counter_add(&s->counters.moved_here, 1);
    return 0;
}

static void arrivals_pump(struct log_store *s)
{
    list_for_each_safe(it, next, &s->arriving) {
        struct log_arrival *a = container_of(it, struct log_arrival, link);
        int rc = arrive(s, a);
        if (rc == -EAGAIN || rc == -ENOMEM)
            return;
        list_remove(&a->link);
        a->on_done(a, rc);
    }
}

void log_store_arrive(struct log_store *s, struct log_arrival *a, log_arrival_fn on_done)
{
    a->on_done = on_done;
    list_push_tail(&s->arriving, &a->link);
    arrivals_pump(s);
}

bool log_store_accepts(const struct log_store *s)
{
    return s->failed == 0 && !s->unsettled && !s->stopping;
}

/* ---- the turn ---- */

static bool parcels_are_due(const struct log_store *s)
{
    return !list_empty(&s->parcels) && !s->stopping && env_now_ns(s->env) >= s->parcels_ns;
}

void move_pump(struct log_store *s)
{
    arrivals_pump(s);
    list_for_each_safe(it, next, &s->departing)
        departure_pump(s, container_of(it, struct log_departure, link));
    if (parcels_are_due(s))
        want_checkpoint(s);
}

uint64_t move_deadline_ns(const struct log_store *s)
{
    uint64_t deadline = UINT64_MAX;
    bool checkpoint = parcels_are_due(s);
    if (!list_empty(&s->parcels) && !s->stopping && !checkpoint)
        deadline = s->parcels_ns;
    list_for_each(it, &s->departing) {
        const struct log_departure *d = container_of(it, struct log_departure, link);
        if (d->rc < 0 && !(d->state == DEPART_PARK && d->op.busy) && d->state != DEPART_READY)
            return 0;
        checkpoint |= d->state == DEPART_FORGET && !d->captured;
        if (d->state != DEPART_READY)
            deadline = MIN(deadline, MAX(d->give_up_ns, env_now_ns(s->env) + RETRY_NS));
    }
    if (checkpoint && !s->checkpoint.busy && !s->checkpoint.wanted)
        deadline = MIN(deadline, s->cycle_after_ns);
    if (!list_empty(&s->arriving))
        deadline = MIN(deadline, env_now_ns(s->env) + RETRY_NS);
    return deadline;
}

/* Those that have been told may be another's by now: for whoever it is, the parcel counts. */
bool move_idle(const struct log_store *s)
{
    list_for_each(it, &s->departing)
        if (container_of(it, struct log_departure, link)->state != DEPART_READY)
            return false;
    return true;
}

/* The store closes; nobody is told any more. What has not been told stays, as nothing else can have
 * become of it. */
static void on_nobody(struct log_departure *d, int rc)
{
    (void)rc;
    free(d->parcel);
    d->parcel = NULL;
}

void moves_stop(struct log_store *s)
{
    while (list_pop_head(&s->arriving) != NULL)
        ;
    list_for_each(it, &s->departing) {
        struct log_departure *d = container_of(it, struct log_departure, link);
        if (d->state == DEPART_READY)
            continue;
        d->on_done = on_nobody;
        d->rc = d->rc == 0 ? -ECANCELED : d->rc;
    }
}

/* ---- at a start ---- */

static bool parcel_number(const char *name, uint64_t *ret)
{
    unsigned long long number;
    char text[64];
    if (sscanf(name, "partition.%llu.", &number) != 1)
        return false;
    snprintf(text, sizeof(text), "partition.%llu.moved", number);
    *ret = number;
    return strcmp(name, text) == 0;
}

static int parcel_open(struct log_store *s, struct plog *p, uint64_t durable_next_seq,
                       bool *ret_any, char *reason, size_t reason_size)
{
    char *path = parcel_path(s, p->number);
    int rc = path == NULL ? -ENOMEM : 0;
    if (rc == 0 && !p->loaded) {
        *ret_any = true;
        rc = parcel_load_file(s, p, path, durable_next_seq);
    }
    if (rc != 0)
        snprintf(reason, reason_size, "%s, which says what there is of %s: %s",
                 path == NULL ? "a parcel" : path, p->name, strerror(-rc));
    else
        parcel_is_stale_later(p);
    free(path);
    return rc;
}

/* Blocking, behind the checkpoint and before the replay: the parcels of this store's partitions.
 * Without the file a partition that is in no checkpoint is new. */
int parcels_open(struct log_store *s, uint64_t durable_next_seq, bool *ret_any, char *reason,
                 size_t reason_size)
{
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = s->config.journal_dir};
    int rc = env_names_wait(s->env, &list, 1);
    if (rc != 0) {
        snprintf(reason, reason_size, "listing %s: %s", s->config.journal_dir, strerror(-rc));
        return rc;
    }
    const char *name = list.ret_data;
    for (size_t i = 0; rc == 0 && i < list.ret_count; i++, name += strlen(name) + 1) {
        uint64_t number;
        struct plog *p = parcel_number(name, &number) ? map_get(&s->plogs, number) : NULL;
        if (p != NULL)
            rc = parcel_open(s, p, durable_next_seq, ret_any, reason, reason_size);
    }
    free(list.ret_data);
    return rc;
}

static bool partition_exists(const struct meta_image *meta, uint64_t number)
{
    for (unsigned i = 0; i < meta->topics_n; i++)
        for (int32_t k = 0; k < meta->topics[i]->partitions_n; k++)
            if (meta->topics[i]->partitions[k].number == number)
                return true;
    return false;
}

/* One that was being written, under the name that ENV_STEP_PUT gives it. */
static bool is_unfinished(const char *name)
{
    unsigned long long number;
    int end = 0;
    return sscanf(name, "partition.%llu.moved.tmp%n", &number, &end) == 1 && end > 0 &&
           name[end] == '\0';
}

static void leftover_remove(struct log_store *s, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%.3800s/%.255s", s->config.journal_dir, name);
    struct env_name_step unlink = {.kind = ENV_STEP_UNLINK, .path = path};
    int rc = env_names_wait(s->env, &unlink, 1);
    if (rc != 0)
        log_warn("%s: counts no more, cannot be removed: %s", path, strerror(-rc));
}

/* Blocking; by one store of a broker only: what is left of partitions that were deleted. */
void parcels_settle(struct log_store *s, const struct meta_image *meta)
{
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = s->config.journal_dir};
    if (env_names_wait(s->env, &list, 1) != 0)
        return;
    const char *name = list.ret_data;
    for (size_t i = 0; i < list.ret_count; i++, name += strlen(name) + 1) {
        uint64_t number;
        bool deleted = parcel_number(name, &number) && !partition_exists(meta, number);
        if (deleted || is_unfinished(name))
            leftover_remove(s, name);
    }
    free(list.ret_data);
}
