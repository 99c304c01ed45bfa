/* What `penstock consume` takes out of an answer: whole, intact batches, nothing that was aborted;
 * and what the commands read of assignments and times. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/batch/builder.h"
#include "tools/cli_time.h"
#include "tools/cmd_consume.h"
#include "tools/cmd_group.h"
#include "tools/cmd_produce.h"

enum { LOG_BYTES = 64 << 10 };

static struct client client;
static const struct consume_options options = {.format = "%o ", .max_messages = 0};
static struct consume consume = {
    .c = &client, .o = &options, .topic = "t", .output = OUTPUT_FORMAT};

/* ---- a log in memory ---- */

static uint8_t records[LOG_BYTES];
static size_t records_len;
static int64_t end_offset;

/* count records of a producer; control: a marker, 0 abort, 1 commit, -1 records. */
static void append(int64_t producer_id, int32_t count, int control)
{
    struct batch_builder b;
    uint8_t *data, marker[4] = {0, 0, 0, (uint8_t)control};
    size_t len;
    batch_builder_init(&b, BATCH_NONE);
    b.base_offset = end_offset;
    b.producer_id = producer_id;
    b.producer_epoch = 0;
    b.base_sequence = control >= 0 ? -1 : 0;
    b.attributes = (uint16_t)((producer_id >= 0 ? BATCH_TRANSACTIONAL : 0) |
                              (control >= 0 ? BATCH_CONTROL : 0));
    for (int32_t i = 0; i < count; i++)
        cr_assert_eq(batch_builder_add(&b, 1000, marker, control >= 0 ? 4 : -1, "v", 1, NULL, 0),
                     0);
    cr_assert_eq(batch_builder_finish(&b, &data, &len), 0);
    cr_assert_leq(records_len + len, sizeof(records));
    memcpy(records + records_len, data, len);
    records_len += len;
    end_offset += count;
    batch_builder_fini(&b);
}

static struct fetch_response_aborted_transaction aborted[8];
static int32_t aborted_n = -1;

static int take(struct consume_partition *p, size_t len)
{
    struct arena arena;
    struct fetch_response_partition_data data = {
        .records = {.data = records, .len = (int32_t)len},
        .aborted_transactions = aborted,
        .aborted_transactions_n = aborted_n,
    };
    arena_init(&arena, 1 << 20);
    int rc = consume_take(&consume, p, &data, &arena);
    fflush(stdout);
    arena_fini(&arena);
    return rc;
}

static struct consume_partition from(int64_t next)
{
    return (struct consume_partition){.next = next, .end = INT64_MAX};
}

Test(consume, from_the_middle_of_a_batch, .init = cr_redirect_stdout)
{
    struct consume_partition p = from(2);
    append(-1, 4, -1);
    append(-1, 3, -1);
    cr_assert_eq(take(&p, records_len), 0);
    cr_assert_eq(p.next, 7);
    cr_assert_stdout_eq_str("2 3 4 5 6 ");
}

Test(consume, up_to_the_end_asked_for, .init = cr_redirect_stdout)
{
    struct consume_partition p = {.next = 1, .end = 3};
    append(-1, 4, -1);
    append(-1, 3, -1);
    cr_assert_eq(take(&p, records_len), 0);
    cr_assert_geq(p.next, 3);
    cr_assert_stdout_eq_str("1 2 ");
}

Test(consume, a_cut_batch_waits, .init = cr_redirect_stdout)
{
    append(-1, 2, -1);
    size_t whole = records_len;
    append(-1, 2, -1);
    for (size_t len = whole; len < records_len; len++) {
        struct consume_partition p = from(0);
        cr_assert_eq(take(&p, len), 0);
        cr_assert_eq(p.next, 2, "%zu bytes of %zu", len, records_len);
    }
    struct consume_partition p = from(2);
    cr_assert_eq(take(&p, records_len), 0);
    cr_assert_eq(p.next, 4);
}

/* Every bit behind the checksum counts; what is before it, the length and magic, cannot pass for a
 * batch either, but for the offset and epoch, which the broker owns. */
Test(consume, damage_is_named, .init = cr_redirect_stdout)
{
    enum { AT_CRC = 17 };
    append(-1, 3, -1);
    for (size_t at = AT_CRC; at < records_len; at++) {
        struct consume_partition p = from(0);
        records[at] ^= 0x10;
        cr_assert_eq(take(&p, records_len), -EBADMSG, "byte %zu", at);
        cr_assert_eq(p.next, 0);
        cr_assert(strstr(client.reason, "t-0: the batch at offset 0 has a wrong checksum") != NULL,
                  "%s", client.reason);
        records[at] ^= 0x10;
    }
    cr_assert_stdout_eq_str("");
}

/* Two producers' transactions, one of them aborted, then the same producer commits. */
Test(consume, aborted_transactions_are_hidden, .init = cr_redirect_stdout)
{
    struct consume_partition p = from(0);
    append(7, 2, -1);  /* 0 1: aborted */
    append(8, 2, -1);  /* 2 3: committed */
    append(7, 1, -1);  /* 4: aborted */
    append(-1, 1, -1); /* 5: of no transaction */
    append(7, 1, 0);   /* 6: 7 aborts */
    append(7, 2, -1);  /* 7 8: committed */
    append(8, 1, 1);   /* 9 */
    append(7, 1, 1);   /* 10 */
    append(8, 1, -1);  /* 11: aborted */
    append(8, 1, 0);   /* 12 */
    /* Not in the order of their beginnings. */
    aborted[0] = (struct fetch_response_aborted_transaction){.producer_id = 8, .first_offset = 11};
    aborted[1] = (struct fetch_response_aborted_transaction){.producer_id = 7, .first_offset = 0};
    aborted_n = 2;
    cr_assert_eq(take(&p, records_len), 0);
    cr_assert_eq(p.next, 13);
    cr_assert_stdout_eq_str("2 3 5 7 8 ");
}

Test(consume, format_strings)
{
    static const char *const right[] = {"",  "%s",   "%%", "%t %p %o %k %K %S %T %h\\n\\x00\\\\",
                                        "a", "%s\\n"};
    static const char *const wrong[] = {"%", "%x", "\\", "\\q", "\\x1", "\\xg0", "a%", "%s\\n%q"};
    for (unsigned i = 0; i < ARRAY_LEN(right); i++)
        cr_assert_eq(consume_format_check(right[i]), NULL, "%s", right[i]);
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
        cr_assert_neq(consume_format_check(wrong[i]), NULL, "%s", wrong[i]);
}

/* ---- times ---- */

Test(cli, times)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"0", 0},
        {"1767225600123", 1767225600123},
        {"2026-01-01", 1767225600000},
        {"2026-01-01T00:01", 1767225660000},
        {"2026-01-01T00:00:07Z", 1767225607000},
        {"2026-01-01T00:00:07.25Z", 1767225607250},
        {"1970-01-01T00:00:00.1239", 123},
    };
    static const char *const wrong[] = {"",
                                        "-1",
                                        "1x",
                                        "2026-13-01",
                                        "2026-01-01T",
                                        "now",
                                        "2026-01-01T00:00:07+01:00",
                                        "99999999999999999999"};
    int64_t ms;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        cr_assert_eq(cli_time(cases[i].text, &ms), 0, "%s", cases[i].text);
        cr_assert_eq(ms, cases[i].ms, "%s: %lld", cases[i].text, (long long)ms);
    }
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
        cr_assert_eq(cli_time(wrong[i], &ms), -EINVAL, "%s", wrong[i]);
}

/* ---- assignments ---- */

/* Version 1; topic "t" with partitions 0 and 2, topic "uv" with 1; user data "!". */
static const uint8_t assignment[] = {0, 1, 0, 0, 0, 2, 0, 1, 't', 0, 0,   0,   2,
                                     0, 0, 0, 0, 0, 0, 0, 2, 0,   2, 'u', 'v', 0,
                                     0, 0, 1, 0, 0, 0, 1, 0, 0,   0, 1,   '!'};

static struct group_view group_new(void)
{
    struct group_view g = {.name = "g"};
    arena_init(&g.arena, 1 << 20);
    return g;
}

Test(group, an_assignment)
{
    struct group_view g = group_new();
    struct group_member m = {.id = "m"};
    cr_assert_eq(group_view_assignment(&g, &m, (struct wire_bytes){assignment, sizeof(assignment)}),
                 0);
    group_view_sort(&g);
    cr_assert_eq(g.partitions_n, 3);
    cr_assert_eq(m.partitions_n, 3);
    cr_assert_str_eq(g.partitions[1].topic, "t");
    cr_assert_eq(g.partitions[1].partition, 2);
    cr_assert_str_eq(g.partitions[2].topic, "uv");
    cr_assert_eq(g.partitions[2].member, &m);
    group_view_close(&g);
}

/* Each cut before the user data is refused, and nothing behind the end is read: the bytes are at
 * the end of their own block of memory. */
Test(group, a_cut_assignment)
{
    enum { USER_DATA_BYTES = 5 };
    for (size_t len = 1; len < sizeof(assignment) - USER_DATA_BYTES; len++) {
        struct group_view g = group_new();
        struct group_member m = {.id = "m"};
        uint8_t *copy = malloc(len);
        memcpy(copy, assignment, len);
        cr_assert_eq(group_view_assignment(&g, &m, (struct wire_bytes){copy, (int32_t)len}),
                     -EPROTO, "%zu bytes", len);
        free(copy);
        group_view_close(&g);
    }
}

Test(group, an_assignment_that_lies)
{
    struct group_view g = group_new();
    struct group_member m = {.id = "m"};
    static const uint8_t many[] = {0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, 't', 0x7f, 0xff, 0xff, 0xff};
    cr_assert_eq(group_view_assignment(&g, &m, (struct wire_bytes){many, sizeof(many)}), -EPROTO);
    cr_assert_eq(group_view_assignment(&g, &m, (struct wire_bytes){NULL, -1}), 0);
    group_view_close(&g);
}

/* ---- input ---- */

/* What comes out of bytes that arrive as `first`, then `rest`. */
static void lines_check(const char *delimiter, const char *first, const char *rest,
                        const char *const *lines, unsigned n)
{
    const struct produce_options o = {.delimiter = delimiter};
    struct produce_input in;
    const uint8_t *data;
    size_t len;
    unsigned at = 0;
    int fds[2], rc;
    cr_assert_eq(pipe(fds), 0);
    produce_input_init(&in, &o);
    produce_input_file(&in, fds[0]);
    cr_assert_eq(write(fds[1], first, strlen(first)), (ssize_t)strlen(first));
    while ((rc = produce_input_next(&in, &data, &len)) != 0) {
        if (rc == -EAGAIN) {
            cr_assert_eq(write(fds[1], rest, strlen(rest)), (ssize_t)strlen(rest));
            close(fds[1]);
            continue;
        }
        cr_assert_eq(rc, 1);
        cr_assert_lt(at, n);
        cr_assert(len == strlen(lines[at]) && memcmp(data, lines[at], len) == 0, "%s", lines[at]);
        at++;
    }
    cr_assert_eq(at, n);
    close(fds[0]);
    produce_input_fini(&in);
}

Test(produce, lines)
{
    lines_check("\n", "a\n\nbc", "d\ne", (const char *[]){"a", "", "bcd", "e"}, 4);
    lines_check("\n", "a\n", "", (const char *[]){"a"}, 1);
    lines_check("\r\n", "a\r", "\nb\rc\r\n", (const char *[]){"a", "b\rc"}, 2);
    lines_check("--", "x-", "-y", (const char *[]){"x", "y"}, 2);
    lines_check("\n", "", "", NULL, 0);
}
