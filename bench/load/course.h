/* course.h: how a load runs, whatever client library carries it: the stages that the host names,
 * the intervals and windows of what is counted, and which producer is to make a record when.
 * Happy path: course_init(); course_producers_init(), then course_producer_add() for each;
 *   course_stage_enter() when the host's stage is another one; course_interval_run() and
 *   course_producers_run() in each turn, course_publish() at its end; course_failed_produced();
 *   course_producers_fini() and course_fini().
 * A record that there is no room for leaves its intended time in its producer's backlog; whoever
 *   makes room calls course_backlog_run().
 * Failure: -ENOMEM. Without memory for an intended time, the record counts as failed.
 * Ownership: embedded by value in a driver's struct, as a course_producer is in its producers,
 *   which the course borrows until course_producers_fini(). Drivers read and count up its fields.
 * Threads: the load thread; others see what driver.h says. */
#ifndef BENCH_LOAD_COURSE_H
#define BENCH_LOAD_COURSE_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/load/driver.h"
#include "bench/load/picker.h"
#include "bench/load/record.h"
#include "bench/load/time_queue.h"
#include "bench/stat/schedule.h"
#include "core/base/clock.h"
#include "core/base/rng.h"

#define COURSE_LOOK_NS UINT64_C(20000000) /* how late a stage may be seen, when nothing else is */
#define COURSE_CONNECT_NS (30 * CLOCK_SECOND_NS)
#define COURSE_EVENTS_PER_TURN 8192u    /* then what has come in is looked at */
#define COURSE_RECORD_OVERHEAD_BYTES 24 /* generous: lengths and deltas of a record in a batch */

struct course;

struct course_producer {
    uint32_t id;
    bool full; /* there was no room for the last record */
    struct picker picker;
    struct time_queue backlog; /* intended times that wait for room */
};

struct course_ops {
    /* Make the record that was intended for that time, and that its producer has had since made_ns.
     * -EAGAIN: there is no room for it; another failure: it will never be made. */
    int (*record_make)(struct course_producer *p, uint64_t intended_ns, uint64_t made_ns);
    /* NULL, or: so many records can be made before a batch is full, whoever gets them. */
    unsigned (*room_least)(struct course *c);
    uint64_t (*cpu_ns)(struct course *c);  /* that the load has cost up to now */
    void (*counts_take)(struct course *c); /* NULL, or: add what was counted elsewhere */
    /* NULL, or: a closed loop ends; forget records that were made and not sent yet. */
    void (*unsent_drop)(struct course *c);
};

struct course {
    const struct course_ops *ops;
    struct loader_config config;
    const struct workload *w;
    struct load_outcome out;
    struct rng rng;
    uint32_t clock_id;
    int stage;                    /* as last seen */
    uint64_t acked, consumed_new; /* up to the interval under way */
    uint64_t start_ns, interval_end_ns, cpu_was_ns;

    /* Producing. */
    struct schedule schedule;
    bool scheduling, schedule_random; /* random: each event picks its producer by chance */
    unsigned schedule_parts;
    uint64_t schedule_end_ns; /* records intended from then on are not made */
    uint64_t look_ns;         /* when the schedule was to be looked at again */
    uint64_t outstanding;     /* records intended, and neither acknowledged nor failed */
    uint64_t records_left;    /* of config.records_max */
    uint64_t backlog_n;       /* in all backlogs */
    struct course_producer **producers;
    unsigned producers_n, producer_next;
    struct body_set bodies;
    struct sequence_ranges *failed; /* by partition: records that were not acknowledged */
    int32_t failed_partitions_n;
    uint64_t full_since_ns;
    bool all_full;

    /* Consuming: partitions whose end was not reached yet. intake.c */
    unsigned consumers_unfinished, late_unfinished;
};

int course_init(struct course *c, const struct loader_config *config, const struct course_ops *ops);
void course_fini(struct course *c);

/* ---- stages ---- */

/* What is counted from here on belongs to that stage. True: late consumers start now. A stage that
 * is over before it is seen starts them as well. */
bool course_stage_enter(struct course *c, int stage, uint64_t now_ns);
/* True: an interval was over, and has been handed out. */
bool course_interval_run(struct course *c, uint64_t now_ns);
/* What the host watches without waiting for an interval's end. */
void course_publish(struct course *c);

/* ---- producing ---- */

/* How many producers are this part's. */
unsigned course_producers_count(const struct course *c);
/* Room for them, and what their records are filled with. */
int course_producers_init(struct course *c);
/* The next one, zeroed; gives it its id. Its picker is left to whoever knows the partitions. */
void course_producer_add(struct course *c, struct course_producer *p);
int course_failed_init(struct course *c, int32_t partitions_n);
void course_producers_fini(struct course *c);

/* Make what is due; when something is due next. */
uint64_t course_producers_run(struct course *c, uint64_t now_ns);
/* Make up to n_max of the records that wait; how many were. */
unsigned course_backlog_run(struct course *c, struct course_producer *p, unsigned n_max,
                            uint64_t now_ns);
/* Remember records that were not acknowledged and may be missing. */
void course_failed_add(struct course *c, int32_t partition, const struct sequence_range *range);
int course_failed_produced(const struct course *c, struct produced *to);

static inline struct load_counts *course_counts(struct course *c)
{
    return &c->out.recorder.interval.n;
}

/* The first Kafka error that was answered is the one to tell of. */
static inline void course_error(struct course *c, int16_t error)
{
    if (c->out.error_code == 0)
        c->out.error_code = error;
}

static inline void course_record_fill(const struct course *c, const struct course_producer *p,
                                      uint64_t sequence, uint64_t intended_ns, uint8_t *value)
{
    struct record_head head = {.run = c->config.run,
                               .producer = p->id,
                               .clock = c->clock_id,
                               .sequence = sequence,
                               .stamp_ns = intended_ns};
    record_fill(value, &c->bodies, &head);
}

#endif
