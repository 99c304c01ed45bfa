/* How much of a disk background reads take: alone, beside small writes, beside large ones. */
#include "test_uring_fixture.h"

#include "core/base/bytes.h"
#include "io/uring_pace.h"

enum { MIB = 1 << 20, PIECE = URING_PACE_PIECE_BYTES };

#define NOW_NS (5 * URING_PACE_QUIET_NS)

static struct env_op read_of(uint64_t len_bytes)
{
    return (struct env_op){.kind = ENV_OP_READ, .background = true, .len_bytes = len_bytes};
}

static struct env_op write_of(uint64_t len_bytes)
{
    return (struct env_op){.kind = ENV_OP_WRITE, .len_bytes = len_bytes};
}

static void wait_in(struct uring_pace *p, struct env_op *op)
{
    list_push_tail(&p->waiting, &op->link);
}

/* Submits what may go: so many bytes of op; 0: nothing may. */
static uint64_t began(struct uring_pace *p, const struct env_op *op, uint64_t now_ns)
{
    struct env_op *next = uring_pace_next(p, now_ns);
    if (next == NULL)
        return 0;
    cr_assert_eq(next, op);
    list_remove(&next->link);
    uring_pace_read_began(p, next, now_ns);
    return uring_pace_piece_bytes(next);
}

static void ended_at(struct uring_pace *p, struct env_op *op, uint64_t now_ns)
{
    uring_pace_read_ended(p, op, now_ns);
    op->done_bytes += uring_pace_piece_bytes(op);
    if (op->done_bytes < op->len_bytes)
        wait_in(p, op);
}

static void ended(struct uring_pace *p, struct env_op *op)
{
    ended_at(p, op, NOW_NS);
}

Test(uring_pace, who_reads_alone_is_not_bounded)
{
    struct uring_pace p;
    struct env_op a = read_of(4 * MIB), b = read_of(4 * MIB), write = write_of(4096);
    uring_pace_init(&p);
    wait_in(&p, &a);
    wait_in(&p, &b);
    cr_assert_eq(began(&p, &a, NOW_NS), 4 * MIB);
    cr_assert_eq(began(&p, &b, NOW_NS), 4 * MIB);
    cr_assert_null(uring_pace_next(&p, NOW_NS));
    ended(&p, &a);
    ended(&p, &b);
    uring_pace_write_began(&p, &write, NOW_NS);
    uring_pace_write_ended(&p, &write, NOW_NS);
    a = read_of(4 * MIB);
    wait_in(&p, &a);
    cr_assert_eq(began(&p, &a, NOW_NS + URING_PACE_QUIET_NS), 4 * MIB);
}

Test(uring_pace, beside_small_writes_one_piece_at_a_time_in_turn)
{
    struct uring_pace p;
    struct env_op a = read_of(2 * PIECE), b = read_of(PIECE + 4096), write = write_of(4096);
    uring_pace_init(&p);
    wait_in(&p, &a);
    wait_in(&p, &b);
    uring_pace_write_began(&p, &write, NOW_NS);
    uring_pace_write_ended(&p, &write, NOW_NS);
    cr_assert_eq(began(&p, &a, NOW_NS), PIECE);
    cr_assert_eq(began(&p, &b, NOW_NS), 0);
    ended(&p, &a);
    cr_assert_eq(began(&p, &b, NOW_NS), PIECE);
    cr_assert_eq(began(&p, &a, NOW_NS), 0);
    ended(&p, &b);
    cr_assert_eq(began(&p, &a, NOW_NS), PIECE);
    ended(&p, &a);
    cr_assert_eq(began(&p, &b, NOW_NS), 4096);
    ended(&p, &b);
    cr_assert(list_empty(&p.waiting));
    cr_assert_eq(p.reading_bytes, 0);
}

Test(uring_pace, a_small_write_that_somebody_waits_for_is_let_by)
{
    enum { TOOK_NS = 1000 };
    struct uring_pace p;
    struct env_op a = read_of(8 * PIECE), small = write_of(4096), large = write_of(PIECE);
    small.flags = ENV_DSYNC | ENV_AWAITED;
    uring_pace_init(&p);
    wait_in(&p, &a);
    uring_pace_write_began(&p, &small, NOW_NS);
    cr_assert_eq(began(&p, &a, NOW_NS), PIECE); /* nothing is known of the disk yet */
    uint64_t now_ns = NOW_NS + TOOK_NS;
    ended_at(&p, &a, now_ns);
    cr_assert_eq(began(&p, &a, now_ns), 0);
    cr_assert_eq(began(&p, &a, now_ns + 2 * TOOK_NS - 1), 0);
    uring_pace_write_began(&p, &large, now_ns); /* then reads keep their share */
    cr_assert_eq(began(&p, &a, now_ns), PIECE + 4096);
    ended_at(&p, &a, now_ns + TOOK_NS);
    uring_pace_write_ended(&p, &large, now_ns + TOOK_NS);
    cr_assert_eq(began(&p, &a, now_ns + TOOK_NS), 0);
    cr_assert_eq(began(&p, &a, now_ns + 3 * TOOK_NS), PIECE); /* long enough */
    ended_at(&p, &a, now_ns + 4 * TOOK_NS);
    uring_pace_write_ended(&p, &small, now_ns + 4 * TOOK_NS);
    cr_assert_eq(began(&p, &a, now_ns + 4 * TOOK_NS), PIECE); /* and when it is done */
}

Test(uring_pace, reads_that_overlapped_for_long_are_not_held_for_long)
{
    struct uring_pace p;
    struct env_op a = read_of(PIECE), b = read_of(PIECE), c = read_of(PIECE);
    struct env_op small = write_of(4096);
    small.flags = ENV_DSYNC | ENV_AWAITED;
    uring_pace_init(&p);
    wait_in(&p, &a);
    cr_assert_eq(began(&p, &a, NOW_NS), PIECE);
    wait_in(&p, &b);
    cr_assert_eq(began(&p, &b, 2 * NOW_NS), PIECE);
    ended_at(&p, &a, 2 * NOW_NS);
    ended_at(&p, &b, 2 * NOW_NS + 1000);
    uring_pace_write_began(&p, &small, 2 * NOW_NS + 1000);
    wait_in(&p, &c);
    cr_assert_eq(began(&p, &c, 2 * NOW_NS + 1000), 0);
    cr_assert_eq(began(&p, &c, 2 * NOW_NS + 3000), PIECE);
}

Test(uring_pace, a_small_write_that_nobody_waits_for_is_not)
{
    struct uring_pace p;
    struct env_op a = read_of(2 * PIECE), small = write_of(4096);
    uring_pace_init(&p);
    wait_in(&p, &a);
    uring_pace_write_began(&p, &small, NOW_NS);
    cr_assert_eq(began(&p, &a, NOW_NS), PIECE);
    ended_at(&p, &a, NOW_NS + 1000);
    cr_assert_eq(began(&p, &a, NOW_NS + 1000), PIECE);
}

Test(uring_pace, beside_large_writes_as_much_as_they_write)
{
    struct uring_pace p;
    struct env_op a = read_of(4 * MIB), b = read_of(4 * MIB);
    struct env_op writes[] = {write_of(2 * MIB), write_of(3 * MIB + 512)};
    uring_pace_init(&p);
    wait_in(&p, &a);
    wait_in(&p, &b);
    for (unsigned i = 0; i < ARRAY_LEN(writes); i++)
        uring_pace_write_began(&p, &writes[i], NOW_NS);
    cr_assert_eq(began(&p, &a, NOW_NS), 4 * MIB);
    cr_assert_eq(began(&p, &b, NOW_NS), MIB);
    cr_assert_eq(began(&p, &b, NOW_NS), 0);
    ended(&p, &a);
    ended(&p, &b);
    for (unsigned i = 0; i < ARRAY_LEN(writes); i++)
        uring_pace_write_ended(&p, &writes[i], NOW_NS);
    cr_assert_eq(began(&p, &b, NOW_NS), PIECE);
}

Test(uring_pace, reads_that_somebody_waits_for_are_not_held)
{
    struct env_op op = read_of(MIB);
    cr_assert(uring_pace_takes(&op));
    op.background = false;
    cr_assert_not(uring_pace_takes(&op));
    op = write_of(MIB);
    op.background = true;
    cr_assert_not(uring_pace_takes(&op));
}

/* ---- on the ring ---- */

enum { READS = 3, FILE_BYTES = READS * 4 * MIB + 8192 };

Test(uring_pace, what_was_read_in_pieces_is_whole)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    struct env_file *file = file_make(env, dir_name(&dir, "a.log"), FILE_BYTES);
    struct env_file *other = file_make(env, dir_name(&dir, "b.log"), MIB);
    unsigned char *out = blocks_make(4 * MIB, 1), *in[READS + 1];
    struct waited reads[READS + 1] = {0}, write = {0};
    for (unsigned i = 0; i < READS; i++) {
        pattern_fill(out, 4 * MIB, i + 1);
        cr_assert_eq(env_write_wait(env, file, out, 4 * MIB, i * 4u * MIB, 0), 4 * MIB);
    }
    uint64_t read_before = env->counters.read_bytes, asked = env->counters.submissions;
    for (unsigned i = 0; i <= READS; i++) { /* the last one goes beyond the end */
        in[i] = blocks_make(4 * MIB, 99);
        reads[i].op.background = true;
        env_read(env, &reads[i].op, file, in[i], 4 * MIB, i * 4u * MIB, on_waited);
    }
    env_write(env, &write.op, other, out, 4096, 0, ENV_DSYNC, on_waited);
    cr_assert_eq(wait_for(env, &write, 1), 4096);
    for (unsigned i = 0; i < READS; i++)
        cr_assert_eq(wait_for(env, &reads[i], 1), 4 * MIB);
    cr_assert_eq(wait_for(env, &reads[READS], 1), 8192);
    for (unsigned i = 0; i < READS; i++)
        cr_assert(pattern_is(in[i], 4 * MIB, i + 1));
    cr_assert_eq(env->counters.read_bytes - read_before, FILE_BYTES);
    cr_assert_geq(env->counters.submissions - asked, READS * 4 * MIB / PIECE);
    env_file_close(env, file);
    env_file_close(env, other);
    env_destroy(env);
    for (unsigned i = 0; i <= READS; i++)
        free(in[i]);
    free(out);
    dir_remove(&dir);
}
