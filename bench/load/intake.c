#include "bench/load/intake.h"

#include <errno.h>
#include <stdlib.h>

/* ---- whose is what ---- */

struct plan { /* a kind of consumer, over all parts */
    enum intake_role role;
    uint64_t groups, members;
};

static unsigned plans_make(const struct course *c, struct plan plans[2])
{
    enum intake_role role = c->config.consume == CONSUME_TAIL ? INTAKE_TAILING : INTAKE_FROM_START;
    unsigned n = 0;
    if (c->config.consume != CONSUME_NOTHING)
        plans[n++] = (struct plan){role, c->w->fan_out, c->w->consumers};
    if (c->config.late_stage > 0)
        plans[n++] = (struct plan){INTAKE_LATE, c->w->late_consumers, 1};
    return n;
}

/* Whose the i-th consumer of a plan is: behind the producers, so that with several threads they lie
 * apart. */
static bool is_mine(const struct course *c, uint64_t i)
{
    return (i + c->w->producers) % c->config.parts == c->config.part;
}

bool intake_next(struct course *c, struct intake_cursor *cursor, struct intake *ret)
{
    struct plan plans[2];
    unsigned plans_n = plans_make(c, plans);
    for (; cursor->plan < plans_n; cursor->plan++, cursor->i = 0) {
        const struct plan *plan = &plans[cursor->plan];
        while (cursor->i < plan->groups * plan->members) {
            uint64_t i = cursor->i++;
            if (!is_mine(c, i))
                continue;
            *ret = (struct intake){.course = c,
                                   .role = plan->role,
                                   .member = i % plan->members,
                                   .members = plan->members};
            return true;
        }
    }
    return false;
}

unsigned intake_count(struct course *c)
{
    struct intake_cursor cursor = {0};
    struct intake in;
    unsigned n = 0;
    while (intake_next(c, &cursor, &in))
        n++;
    return n;
}

/* ---- progress ---- */

static void done_publish(struct course *c)
{
    atomic_store(&c->out.consumers_done, c->consumers_unfinished == 0);
    atomic_store(&c->out.late_done, c->late_unfinished == 0);
}

int intake_init(struct intake *in, int32_t partitions_n)
{
    struct course *c = in->course;
    uint64_t partitions = (uint64_t)partitions_n;
    if (in->member >= partitions)
        return 0;
    unsigned n = (unsigned)((partitions - in->member + in->members - 1) / in->members);
    in->parts = calloc(n, sizeof(*in->parts));
    if (in->parts == NULL)
        return -ENOMEM;
    for (; in->parts_n < n; in->parts_n++)
        verify_part_init(&in->parts[in->parts_n].verify,
                         (int32_t)(in->member + in->parts_n * in->members), c->config.run,
                         in->role != INTAKE_TAILING,
                         in->role == INTAKE_LATE ? &c->out.late_verify : &c->out.verify);
    c->consumers_unfinished += in->role == INTAKE_FROM_START ? n : 0;
    c->late_unfinished += in->role == INTAKE_LATE ? n : 0;
    done_publish(c);
    return 0;
}

void intake_fini(struct intake *in)
{
    for (unsigned i = 0; i < in->parts_n; i++)
        verify_part_fini(&in->parts[i].verify);
    free(in->parts);
}

void intake_part_start(struct intake *in, struct intake_part *part, int64_t start_offset,
                       int64_t end_offset)
{
    part->start_offset = start_offset;
    part->end_offset = part->high_watermark = end_offset;
    part->offset = in->role == INTAKE_TAILING ? end_offset : start_offset;
    if (intake_part_ended(in, part))
        intake_part_finish(in, part);
}

struct intake_part *intake_part_of(const struct intake *in, int32_t partition)
{
    uint64_t k = ((uint64_t)partition - in->member) / in->members;
    return k < in->parts_n && in->parts[k].verify.partition == partition ? &in->parts[k] : NULL;
}

void intake_part_finish(struct intake *in, struct intake_part *part)
{
    struct course *c = in->course;
    if (part->finished)
        return;
    part->finished = true;
    c->consumers_unfinished -= in->role == INTAKE_FROM_START;
    c->late_unfinished -= in->role == INTAKE_LATE;
    done_publish(c);
}

void intake_part_rewind(struct intake_part *part, int64_t offset)
{
    struct verify_log *log = part->verify.log;
    int32_t partition = part->verify.partition;
    part->offset = offset;
    verify_part_fini(&part->verify);
    verify_part_init(&part->verify, partition, 0, true, log);
}

/* A tailing consumer should have got all that was produced. What it has not fetched is not lost: of
 * the log's end nothing is known then, nor when its broker has gone, after the last
 * acknowledgements perhaps. */
static void part_verify(const struct intake *in, struct intake_part *part,
                        const struct produced *all)
{
    bool tailing = in->role == INTAKE_TAILING, unread = part->offset < part->high_watermark;
    if (tailing && unread)
        part->verify.log->unread += (uint64_t)(part->high_watermark - part->offset);
    if (tailing && !unread && part->out_of_touch)
        part->verify.log->unread += verify_part_unseen(&part->verify, all);
    else if (tailing && !unread)
        verify_part_expect(&part->verify, all);
    verify_part_finish(&part->verify, all);
}

void intake_verify(struct intake *in, const struct produced *all)
{
    for (unsigned i = 0; i < in->parts_n && in->course->w->verify != VERIFY_OFF; i++)
        part_verify(in, &in->parts[i], all);
}
