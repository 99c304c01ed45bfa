/* intake.h: what a consumer does with the records that come, whatever client library fetches them:
 * which partitions are its own, where it is in each, whether each record is the one that was due,
 * and how long it was on its way.
 * Happy path: intake_next() names this part's consumers one by one; for each intake_init(), and
 *   intake_part_start() for each of its parts; intake_take() for each record;
 *   intake_part_finish() where the end was reached; intake_verify(); intake_fini().
 * Failure: -ENOMEM.
 * Ownership: embedded by value in a driver's consumers; it borrows the course.
 * Threads: the load thread. */
#ifndef BENCH_LOAD_INTAKE_H
#define BENCH_LOAD_INTAKE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/load/course.h"
#include "bench/load/verify.h"
#include "core/base/bytes.h"
#include "core/batch/batch.h"

enum intake_role { INTAKE_TAILING, INTAKE_FROM_START, INTAKE_LATE };

struct intake_part {
    int64_t offset;         /* of the next record */
    int64_t end_offset;     /* INTAKE_FROM_START: stop here */
    int64_t high_watermark; /* as last seen; 0: the library does not tell */
    int64_t start_offset;
    bool finished;
    bool out_of_touch; /* its broker went away, and has not answered since */
    /* Rewound, and the last round's records are still coming, which begin here: rdk_consumer.c */
    bool rewinding;
    int64_t stale_offset;
    struct verify_part verify; /* knows the partition */
};

struct intake {
    struct course *course;
    enum intake_role role;
    uint64_t member, members; /* parts[k] is partition member + k * members */
    struct intake_part *parts;
    unsigned parts_n;
};

struct intake_cursor { /* zeroed at first */
    unsigned plan;
    uint64_t i;
};
/* The next of this part's consumers, without its parts yet. False: there are no more, and ret is as
 * it was. */
bool intake_next(struct course *c, struct intake_cursor *cursor, struct intake *ret);
unsigned intake_count(struct course *c);

int intake_init(struct intake *in, int32_t partitions_n);
void intake_fini(struct intake *in);
void intake_part_start(struct intake *in, struct intake_part *part, int64_t start_offset,
                       int64_t end_offset);
/* NULL: that partition is another's. */
struct intake_part *intake_part_of(const struct intake *in, int32_t partition);

/* Whether a consumer that stops at the end is there. */
static inline bool intake_part_ended(const struct intake *in, const struct intake_part *part)
{
    return in->role == INTAKE_FROM_START && part->offset >= part->end_offset;
}
/* The end was reached, for the first time or again. */
void intake_part_finish(struct intake *in, struct intake_part *part);
/* Begin again with that offset. */
void intake_part_rewind(struct intake_part *part, int64_t offset);
void intake_verify(struct intake *in, const struct produced *all);

static inline void intake_count_record(struct intake *in, const struct batch_record *record,
                                       bool fresh)
{
    struct load_counts *n = course_counts(in->course);
    uint64_t bytes = (uint64_t)MAX(record->key_len, 0) + (uint64_t)MAX(record->value_len, 0);
    if (in->role == INTAKE_LATE) {
        n->late_consumed++;
        n->late_consumed_bytes += bytes;
        return;
    }
    n->consumed++;
    n->consumed_bytes += bytes;
    n->consumed_new += fresh;
}

/* offset, key_len, value and value_len of the record are looked at. Inline, as it is most of what a
 * consumer does. */
static inline void intake_take(struct intake *in, struct intake_part *part,
                               const struct batch_record *record, uint64_t now_ns)
{
    struct course *c = in->course;
    struct record_head head;
    int rc = record_read(record->value, record->value_len, c->w->verify == VERIFY_FULL, &head);
    bool fresh = false;
    if (rc == -EBADMSG)
        fresh = verify_corrupt(&part->verify, &head, record->offset);
    else if (rc == -ENOENT)
        part->verify.log->foreign++;
    else if (c->w->verify != VERIFY_OFF)
        fresh = verify_record(&part->verify, &head, record->offset);
    else
        fresh = true;
    intake_count_record(in, record, fresh);
    /* A stamp of another machine's clock, or of another run, says nothing. */
    bool stamped = rc == 0 && in->role == INTAKE_TAILING && head.run == c->config.run &&
                   !workload_closed_loop(c->w);
    if (stamped && head.clock != c->clock_id)
        course_counts(c)->other_clock++;
    else if (stamped)
        load_record(&c->out.recorder, LATENCY_E2E, head.stamp_ns,
                    now_ns - MIN(now_ns, head.stamp_ns), 1);
}

#endif
