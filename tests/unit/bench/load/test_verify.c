#include "bench/load/verify.h"

#include <criterion/criterion.h>

#include "core/base/bytes.h"

enum { RUN = 5 };

static struct verify_log found;
static struct verify_part part;

static void start(bool adopt)
{
    found = (struct verify_log){0};
    verify_part_init(&part, 3, RUN, adopt, &found);
}

static bool see(uint32_t producer, uint64_t sequence, int64_t offset)
{
    struct record_head head = {.run = RUN, .producer = producer, .sequence = sequence};
    return verify_record(&part, &head, offset);
}

static void assert_totals(uint64_t lost, uint64_t repeated, uint64_t reordered, uint64_t corrupt)
{
    cr_assert_eq(found.totals[INCIDENT_LOST], lost);
    cr_assert_eq(found.totals[INCIDENT_REPEATED], repeated);
    cr_assert_eq(found.totals[INCIDENT_REORDERED], reordered);
    cr_assert_eq(found.totals[INCIDENT_CORRUPT], corrupt);
}

static void assert_incident(unsigned index, enum incident_kind kind, int64_t offset,
                            uint32_t producer, uint64_t sequence, uint64_t count)
{
    const struct incident *i = &found.incidents[index];
    cr_assert_lt(index, found.incidents_n);
    cr_assert(i->kind == kind && i->partition == 3 && i->offset == offset && i->known &&
                  i->producer == producer && i->sequence == sequence && i->count == count,
              "%s, offset %d, producer %u, sequence %d, count %d", incident_names[i->kind],
              (int)i->offset, i->producer, (int)i->sequence, (int)i->count);
}

static void finish(const struct produced *all)
{
    verify_part_finish(&part, all);
    verify_part_fini(&part);
}

Test(verify, in_order_nothing_is_found)
{
    start(false);
    for (uint64_t i = 0; i < 1000; i++)
        for (uint32_t producer = 0; producer < 20; producer += 7)
            cr_assert(see(producer, i, (int64_t)(3 * i)));
    finish(NULL);
    assert_totals(0, 0, 0, 0);
    cr_assert_eq(found.incidents_n, 0);
}

Test(verify, what_never_comes_is_lost)
{
    start(false);
    cr_assert(see(2, 0, 10));
    cr_assert(see(2, 4, 11));
    assert_totals(0, 0, 0, 0); /* it may still come */
    finish(NULL);
    assert_totals(3, 0, 0, 0);
    assert_incident(0, INCIDENT_LOST, 11, 2, 1, 3);
}

Test(verify, what_comes_late_is_reordered_and_cuts_the_gap)
{
    start(false);
    see(2, 0, 10);
    see(2, 6, 11);
    cr_assert(see(2, 3, 12), "not seen before");
    cr_assert(see(2, 1, 13));
    cr_assert_not(see(2, 3, 14), "a second time");
    finish(NULL);
    assert_totals(3, 1, 2, 0);
    assert_incident(0, INCIDENT_REORDERED, 12, 2, 3, 1);
    assert_incident(1, INCIDENT_REORDERED, 13, 2, 1, 1);
    assert_incident(2, INCIDENT_REPEATED, 14, 2, 3, 1);
    cr_assert_eq(found.incidents_n, 5); /* 2, and 4 to 5, are still missing */
    assert_incident(3, INCIDENT_LOST, 11, 2, 4, 2);
    assert_incident(4, INCIDENT_LOST, 11, 2, 2, 1);
}

Test(verify, what_comes_twice_is_repeated)
{
    start(false);
    for (uint64_t i = 0; i < 5; i++)
        see(0, i, (int64_t)i);
    cr_assert_not(see(0, 4, 5));
    cr_assert_not(see(0, 0, 6));
    finish(NULL);
    assert_totals(0, 2, 0, 0);
    assert_incident(0, INCIDENT_REPEATED, 5, 0, 4, 1);
    assert_incident(1, INCIDENT_REPEATED, 6, 0, 0, 1);
}

/* Any order of 6 records in which each comes once: nothing is lost or repeated, and what comes
 * behind a greater one is reordered. */
static void permute(uint64_t *order, unsigned n, unsigned at)
{
    if (at == n) {
        uint64_t most = 0, late = 0;
        start(false);
        for (unsigned i = 0; i < n; i++) {
            cr_assert(see(1, order[i], i));
            late += i > 0 && order[i] < most;
            most = MAX(most, order[i]);
        }
        finish(NULL);
        assert_totals(0, 0, late, 0);
        return;
    }
    for (unsigned i = at; i < n; i++) {
        uint64_t was = order[at];
        order[at] = order[i];
        order[i] = was;
        permute(order, n, at + 1);
        was = order[at];
        order[at] = order[i];
        order[i] = was;
    }
}

Test(verify, every_order_of_six_records)
{
    uint64_t order[] = {0, 1, 2, 3, 4, 5};
    permute(order, 6, 0);
}

Test(verify, a_damaged_record_that_was_due_is_not_missing)
{
    start(false);
    see(1, 0, 0);
    struct record_head head = {.run = RUN, .producer = 1, .sequence = 1};
    cr_assert(verify_corrupt(&part, &head, 1));
    cr_assert(see(1, 2, 2));
    finish(NULL);
    assert_totals(0, 0, 0, 1);
    assert_incident(0, INCIDENT_CORRUPT, 1, 1, 1, 1);
}

/* Its head may be what is damaged. */
Test(verify, a_damaged_record_is_not_believed_what_cannot_be)
{
    static const struct record_head heads[] = {
        {.run = RUN, .producer = 1, .sequence = 7},
        {.run = RUN, .producer = 1, .sequence = 0},
        {.run = RUN, .producer = UINT32_MAX, .sequence = 1},
        {.run = RUN + 1, .producer = 1, .sequence = 1},
    };
    for (unsigned i = 0; i <= ARRAY_LEN(heads); i++) {
        start(false);
        see(1, 0, 0);
        cr_assert_not(verify_corrupt(&part, i < ARRAY_LEN(heads) ? &heads[i] : NULL, 1));
        cr_assert_not(found.incidents[0].known);
        see(1, 2, 2);
        finish(NULL);
        assert_totals(1, 0, 0, 1);
        assert_incident(1, INCIDENT_LOST, 2, 1, 1, 1);
    }
}

Test(verify, records_of_another_run_are_foreign)
{
    start(false);
    struct record_head head = {.run = RUN + 1, .producer = 0, .sequence = 0};
    cr_assert_not(verify_record(&part, &head, 0));
    cr_assert(see(0, 0, 1));
    cr_assert_not(see(UINT32_MAX, 0, 2), "no such producer can be");
    finish(NULL);
    assert_totals(0, 0, 0, 0);
    cr_assert_eq(found.foreign, 2);
}

/* One that reads what others made: it begins anywhere, and with each run anew. */
Test(verify, an_adopted_run_is_checked_from_where_it_begins)
{
    start(true);
    cr_assert(see(0, 100, 0));
    cr_assert(see(0, 103, 1));
    struct record_head head = {.run = RUN + 9, .producer = 0, .sequence = 50};
    cr_assert(verify_record(&part, &head, 2));
    assert_totals(2, 0, 0, 0);
    head.sequence = 51;
    cr_assert(verify_record(&part, &head, 3));
    finish(NULL);
    assert_totals(2, 0, 0, 0);
    assert_incident(0, INCIDENT_LOST, 1, 0, 101, 2);
    cr_assert_eq(found.foreign, 0);
}

/* ---- against what was produced ---- */

static void made(struct produced *all)
{
    *all = (struct produced){0};
    cr_assert_eq(produced_add(all, 1, 4, 1000), 0); /* of another partition */
    cr_assert_eq(produced_add(all, 1, 3, 10), 0);
    cr_assert_eq(produced_add(all, 0, 3, 5), 0);
    cr_assert_eq(produced_add(all, 2, 3, 0), 0);
    cr_assert_eq(produced_add(all, 0, 2, 1000), 0);
}

Test(verify, a_missing_end_is_lost_at_the_end_of_the_log)
{
    struct produced all;
    made(&all);
    produced_sort(&all);
    start(false);
    for (uint64_t i = 0; i < 7; i++)
        see(1, i, (int64_t)i);
    verify_part_expect(&part, &all);
    finish(&all);
    assert_totals(8, 0, 0, 0);
    assert_incident(0, INCIDENT_LOST, -1, 0, 0, 5); /* of which nothing came */
    assert_incident(1, INCIDENT_LOST, -1, 1, 7, 3);
    produced_fini(&all);
}

Test(verify, what_failed_may_be_missing_or_there)
{
    struct produced all;
    made(&all);
    produced_add_failed(&all, 3, &(struct sequence_range){1, 8, 100, -1});
    produced_add_failed(&all, 3, &(struct sequence_range){0, 0, 2, -1});
    produced_add_failed(&all, 4, &(struct sequence_range){1, 0, 100, -1}); /* elsewhere */
    produced_add_failed(&all, 3, &(struct sequence_range){2, 0, 100, -1}); /* another's */
    produced_add_failed(&all, 3, &(struct sequence_range){1, 3, 1, -1});
    produced_sort(&all);
    start(false);
    see(0, 1, 0); /* 1 is there, 0 is not: it failed */
    for (uint64_t i = 2; i < 5; i++)
        see(0, i, (int64_t)i);
    see(1, 0, 5);
    see(1, 5, 6); /* 1 to 4 are missing, of which 3 failed */
    verify_part_expect(&part, &all);
    finish(&all);
    /* Of producer 1 also 6 to 9, of which 8 and 9 failed. */
    assert_totals(3 + 2, 0, 0, 0);
    assert_incident(0, INCIDENT_LOST, 6, 1, 1, 3);
    assert_incident(1, INCIDENT_LOST, -1, 1, 6, 2);
    produced_fini(&all);
}

/* ---- the log of what was found ---- */

Test(verify, places_are_kept_up_to_a_limit_and_all_are_counted)
{
    static struct verify_log a, b;
    for (unsigned i = 0; i < INCIDENTS_MAX + 10; i++)
        verify_log_add(&a, &(struct incident){INCIDENT_LOST, .offset = i, .count = 2});
    cr_assert_eq(a.incidents_n, INCIDENTS_MAX);
    cr_assert_eq(a.totals[INCIDENT_LOST], 2 * (INCIDENTS_MAX + 10));
    verify_log_add(&b, &(struct incident){INCIDENT_CORRUPT, .offset = 7, .count = 1});
    b.foreign = 4;
    verify_log_merge(&b, &a);
    cr_assert_eq(b.incidents_n, INCIDENTS_MAX);
    cr_assert_eq(b.incidents[0].kind, INCIDENT_CORRUPT);
    cr_assert_eq(b.incidents[1].offset, 0);
    cr_assert_eq(b.totals[INCIDENT_LOST], 2 * (INCIDENTS_MAX + 10));
    cr_assert_eq(b.totals[INCIDENT_CORRUPT], 1);
    cr_assert_eq(b.foreign, 4);
}
