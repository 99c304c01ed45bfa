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

#include <stdbool.h>
#include <stdint.h>

#include "bench/load/course.h"
#include "bench/load/verify.h"
#include "core/batch/batch.h"

enum intake_role { INTAKE_TAILING, INTAKE_FROM_START, INTAKE_LATE };

struct intake_part {
    int64_t offset;         /* of the next record */
    int64_t end_offset;     /* INTAKE_FROM_START: stop here */
    int64_t high_watermark; /* as last seen; 0: the library does not tell */
    int64_t start_offset;
    bool finished;
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

/* offset, key_len, value and value_len of the record are looked at. */
void intake_take(struct intake *in, struct intake_part *part, const struct batch_record *record,
                 uint64_t now_ns);
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

#endif
