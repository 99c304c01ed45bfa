#include "bench/load/course.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

enum {
    BURST_BYTES = 1 << 20,       /* of a closed loop's producer, in a turn */
    BACKLOG_MAX = 64 << 20,      /* intended times that wait, of all producers */
    LOOK_AHEAD_MAX = 1024,       /* records between two looks at the schedule */
    QUANTUM_NS_MAX = 100 * 1000, /* between looks, where nothing is known of the batches' room */
    QUANTA_PER_LINGER = 20,      /* so that linger.ms is not stretched by more than a part */
};

int course_init(struct course *c, const struct loader_config *config, const struct course_ops *ops)
{
    *c = (struct course){.ops = ops, .config = *config, .w = config->workload};
    rng_seed(&c->rng, c->w->seed * 0x9e3779b9u + config->part);
    c->clock_id = record_clock_id();
    c->schedule_parts = (unsigned)MIN((uint64_t)config->parts, c->w->producers);
    c->records_left = config->records_max;
    atomic_store(&c->out.consumers_done, true); /* as long as there is none */
    atomic_store(&c->out.late_done, true);
    return load_recorder_init(&c->out.recorder);
}

void course_fini(struct course *c)
{
    load_recorder_fini(&c->out.recorder);
}

static bool schedule_run(struct course *c, uint64_t until_ns, uint64_t now_ns);

/* ---- stages ---- */

static void interval_end(struct course *c, uint64_t now_ns)
{
    struct load_counts *n = course_counts(c);
    uint64_t cpu_ns = c->ops->cpu_ns(c);
    n->cpu_ns = cpu_ns - c->cpu_was_ns;
    c->cpu_was_ns = cpu_ns;
    if (c->ops->counts_take != NULL)
        c->ops->counts_take(c);
    load_recorder_tick(&c->out.recorder, now_ns);
    c->acked += n->acked;
    c->consumed_new += n->consumed_new;
    c->config.on_interval(c->config.arg, &c->out.recorder.interval);
    load_stats_reset(&c->out.recorder.interval, now_ns);
}

bool course_interval_run(struct course *c, uint64_t now_ns)
{
    if (now_ns < c->interval_end_ns)
        return false;
    interval_end(c, now_ns);
    /* Lateness does not add up, or threads and agents would drift out of the host's seconds. */
    c->interval_end_ns = MAX(c->interval_end_ns + CLOCK_SECOND_NS, now_ns + CLOCK_SECOND_NS / 2);
    return true;
}

static void load_begin(struct course *c, uint64_t now_ns)
{
    struct schedule_shape shape;
    const char *reason;
    c->start_ns = now_ns;
    c->schedule_end_ns = UINT64_MAX;
    c->cpu_was_ns = c->ops->cpu_ns(c);
    load_stats_reset(&c->out.recorder.interval, now_ns);
    c->scheduling = c->producers_n > 0;
    if (!c->scheduling || workload_closed_loop(c->w))
        return;
    int rc = schedule_parse(c->w->schedule, &shape, &reason);
    ASSERT(rc == 0); /* workload_check() has parsed it */
    c->schedule_random = shape.kind == SCHEDULE_POISSON;
    schedule_init(&c->schedule, &shape, c->w->rate, c->w->seed, c->config.part, c->schedule_parts);
}

/* What was intended before and has not been looked at yet still is. */
static void load_end(struct course *c, uint64_t now_ns)
{
    c->schedule_end_ns = MIN(c->schedule_end_ns, now_ns);
    c->scheduling = c->scheduling && c->stage == LOADER_DRAIN && !workload_closed_loop(c->w);
    if (workload_closed_loop(c->w) && c->ops->unsent_drop != NULL)
        c->ops->unsent_drop(c);
    load_recorder_window_end(&c->out.recorder, now_ns);
}

/* What was intended before now is counted where it belongs, before a window ends. */
static void catch_up(struct course *c, uint64_t now_ns)
{
    if (c->scheduling && !workload_closed_loop(c->w))
        schedule_run(c, now_ns - 1, now_ns);
}

bool course_stage_enter(struct course *c, int stage, uint64_t now_ns)
{
    bool first = c->stage == LOADER_CONNECT;
    bool late =
        c->stage < c->config.late_stage && stage >= c->config.late_stage && stage < LOADER_DRAIN;
    c->stage = stage;
    if (first) {
        load_begin(c, now_ns);
    } else { /* so that each interval is of one window */
        catch_up(c, now_ns);
        interval_end(c, now_ns);
    }
    c->interval_end_ns = now_ns + CLOCK_SECOND_NS;
    if (stage >= LOADER_DRAIN)
        load_end(c, now_ns);
    else /* a stage that was over before it was seen has a window too, an empty one */
        while (c->out.recorder.windows_n < (unsigned)stage)
            load_recorder_window(&c->out.recorder, now_ns);
    return late;
}

void course_publish(struct course *c)
{
    const struct load_counts *n = course_counts(c);
    bool limited = c->config.records_max > 0 && c->records_left > 0;
    bool more = c->scheduling && (c->stage >= LOADER_DRAIN || limited);
    atomic_store_explicit(&c->out.acked, c->acked + n->acked, memory_order_relaxed);
    atomic_store_explicit(&c->out.consumed_new, c->consumed_new + n->consumed_new,
                          memory_order_relaxed);
    atomic_store_explicit(&c->out.unfinished, c->outstanding + more, memory_order_release);
}

/* ---- producers ---- */

unsigned course_producers_count(const struct course *c)
{
    uint64_t all = c->w->producers, part = c->config.part, parts = c->schedule_parts;
    return !c->config.produce || part >= parts ? 0 : (unsigned)((all - part + parts - 1) / parts);
}

int course_producers_init(struct course *c)
{
    c->producers = calloc(course_producers_count(c), sizeof(struct course_producer *));
    if (c->producers == NULL)
        return -ENOMEM;
    return body_set_init(&c->bodies, c->w->record_bytes, c->w->entropy, c->w->seed);
}

void course_producer_add(struct course *c, struct course_producer *p)
{
    p->id = c->config.part + c->producers_n * c->schedule_parts;
    c->producers[c->producers_n++] = p;
}

int course_failed_init(struct course *c, int32_t partitions_n)
{
    c->failed = calloc((size_t)partitions_n, sizeof(*c->failed));
    c->failed_partitions_n = c->failed != NULL ? partitions_n : 0;
    return c->failed != NULL ? 0 : -ENOMEM;
}

void course_producers_fini(struct course *c)
{
    for (unsigned i = 0; i < c->producers_n; i++)
        time_queue_fini(&c->producers[i]->backlog);
    for (int32_t i = 0; i < c->failed_partitions_n; i++)
        sequence_ranges_fini(&c->failed[i]);
    free(c->failed);
    free(c->producers);
    body_set_fini(&c->bodies);
    c->producers_n = 0;
}

/* Neighbours that failed together are one range. */
void course_failed_add(struct course *c, int32_t partition, const struct sequence_range *range)
{
    struct sequence_ranges *failed = &c->failed[partition];
    struct sequence_range *last = failed->n > 0 ? &failed->at[failed->n - 1] : NULL;
    if (last != NULL && last->producer == range->producer &&
        last->first + last->count == range->first)
        last->count += range->count;
    else
        /* Without memory for it the records will be called lost: not silent, only unfair. */
        sequence_ranges_add(failed, range);
}

int course_failed_produced(const struct course *c, struct produced *to)
{
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < c->failed_partitions_n; i++)
        for (size_t f = 0; rc == 0 && f < c->failed[i].n; f++)
            rc = produced_add_failed(to, i, &c->failed[i].at[f]);
    return rc;
}

/* ---- records ---- */

static void record_refused(struct course *c)
{
    course_counts(c)->failed++;
    c->outstanding--;
}

static struct course_producer *producer_pick(struct course *c)
{
    if (c->schedule_random)
        return c->producers[rng_below(&c->rng, c->producers_n)];
    c->producer_next = (c->producer_next + 1) % c->producers_n;
    return c->producers[c->producer_next];
}

/* Late is what is looked at after it was intended, and after it was to be looked at. */
static void event_run(struct course *c, uint64_t intended_ns, uint64_t now_ns)
{
    struct course_producer *p = producer_pick(c);
    uint64_t due_ns = MAX(intended_ns, c->look_ns);
    load_record(&c->out.recorder, LATENCY_LATE, intended_ns, now_ns > due_ns ? now_ns - due_ns : 0,
                1);
    course_counts(c)->intended++;
    c->outstanding++;
    int rc = p->backlog.n == 0 ? c->ops->record_make(p, intended_ns, intended_ns) : -EAGAIN;
    if (rc == 0)
        return;
    if (rc == -EAGAIN && time_queue_push(&p->backlog, intended_ns))
        c->backlog_n++;
    else
        record_refused(c);
}

/* What was intended by until_ns. True: there is more of it. */
static bool schedule_run(struct course *c, uint64_t until_ns, uint64_t now_ns)
{
    for (unsigned n = 0; n < COURSE_EVENTS_PER_TURN && c->backlog_n < BACKLOG_MAX; n++) {
        uint64_t t = schedule_peek(&c->schedule);
        if (t == SCHEDULE_NEVER || c->start_ns + t >= c->schedule_end_ns)
            c->scheduling = false;
        if (!c->scheduling || c->start_ns + t > until_ns)
            return false;
        schedule_next(&c->schedule);
        event_run(c, c->start_ns + t, now_ns);
    }
    return c->backlog_n < BACKLOG_MAX;
}

/* A closed loop: records are made while there is room. */
static bool fill(struct course *c, struct course_producer *p, uint64_t now_ns)
{
    uint64_t burst = MAX((uint64_t)1, BURST_BYTES / c->w->record_bytes);
    bool limited = c->config.records_max > 0;
    for (uint64_t i = 0; i < burst; i++) {
        int rc = limited && c->records_left == 0 ? -EAGAIN : c->ops->record_make(p, now_ns, now_ns);
        if (rc == -EAGAIN)
            return false;
        c->records_left -= limited;
        course_counts(c)->intended++;
        c->outstanding++;
        if (rc < 0)
            record_refused(c);
    }
    return true;
}

static bool closed_loop_run(struct course *c, uint64_t now_ns)
{
    bool more = false;
    for (unsigned i = 0; i < c->producers_n; i++)
        more |= fill(c, c->producers[i], now_ns);
    return more;
}

unsigned course_backlog_run(struct course *c, struct course_producer *p, unsigned n_max,
                            uint64_t now_ns)
{
    unsigned n = 0;
    for (; p->backlog.n > 0 && n < n_max; n++) {
        int rc = c->ops->record_make(p, time_queue_head(&p->backlog), now_ns);
        if (rc == -EAGAIN)
            break;
        time_queue_pop(&p->backlog);
        c->backlog_n--;
        if (rc < 0)
            record_refused(c);
    }
    return n;
}

static void fullness_count(struct course *c, uint64_t now_ns)
{
    unsigned full = 0;
    for (unsigned i = 0; i < c->producers_n; i++)
        full += c->producers[i]->full;
    if (c->all_full && now_ns > c->full_since_ns)
        course_counts(c)->buffers_full_ns += now_ns - c->full_since_ns;
    c->all_full = full == c->producers_n;
    c->full_since_ns = now_ns;
}

/* When the schedule must be looked at again. Until a batch can be full, or one that the next record
 * opens has lingered, nothing depends on it: records are made then, as of their intended times, and
 * their batches go out when they would have. */
static uint64_t schedule_due(const struct course *c, uint64_t now_ns, unsigned room)
{
    uint64_t t = schedule_peek(&c->schedule), linger_ns = (uint64_t)(c->w->linger_ms * 1e6);
    struct schedule ahead = c->schedule;
    if (t == SCHEDULE_NEVER)
        return UINT64_MAX;
    if (c->ops->room_least == NULL)
        return MAX(c->start_ns + t,
                   now_ns + MIN(linger_ns / QUANTA_PER_LINGER, (uint64_t)QUANTUM_NS_MAX));
    for (unsigned i = 0; i < room && schedule_peek(&ahead) < t + linger_ns; i++)
        schedule_next(&ahead);
    return c->start_ns + MIN(schedule_peek(&ahead), t + linger_ns);
}

uint64_t course_producers_run(struct course *c, uint64_t now_ns)
{
    bool closed = workload_closed_loop(c->w), more = false;
    if (c->scheduling)
        more = closed ? closed_loop_run(c, now_ns) : schedule_run(c, now_ns, now_ns);
    fullness_count(c, now_ns);
    if (more)
        return now_ns;
    if (!c->scheduling || closed)
        return UINT64_MAX;
    unsigned room = c->ops->room_least != NULL ? c->ops->room_least(c) : 0;
    c->look_ns = schedule_due(c, now_ns, MIN(room, (unsigned)LOOK_AHEAD_MAX));
    return c->look_ns;
}
