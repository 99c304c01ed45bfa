/* Who may come in, when answers come, and what moves a group: each rule of the classic protocol. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/unit/core/group/group_rig.h"

TestSuite(rebalance, .init = rig_start);

static void end(void)
{
    rig_stop();
    rig_end();
}

Test(rebalance, the_first_join_waits_and_longer_while_members_come)
{
    struct seat a = SEAT(), b = SEAT();
    seat_enter(&a);
    rig_run_ms(2000);
    seat_enter(&b);
    rig_run_ms(3900); /* 5.9 s */
    cr_assert(!a.joined && !b.joined);
    rig_run_ms(200);
    cr_assert(a.joined && b.joined);
    cr_assert_eq(a.generation, 1);
    cr_assert(a.is_leader && !b.is_leader && a.members_n == 2 && b.members_n == 0);
    end();
}

Test(rebalance, the_first_join_takes_no_longer_than_the_rebalance_timeout)
{
    struct seat seats[8];
    seats[0] = SEAT(.rebalance_ms = 7000);
    seat_enter(&seats[0]);
    for (int i = 1; i < 8; i++) {
        rig_run_ms(900);
        seats[i] = SEAT(.rebalance_ms = 7000);
        seat_enter(&seats[i]);
    }
    rig_run_ms(600); /* 6.9 s */
    cr_assert_not(seats[0].joined);
    rig_run_ms(200);
    for (int i = 0; i < 8; i++)
        cr_assert(seats[i].joined && seats[i].join_error == GROUP_OK);
    end();
}

Test(rebalance, a_dynamic_member_has_to_come_again_with_its_id)
{
    struct seat a = SEAT();
    seat_join(&a);
    cr_assert(a.joined && a.join_error == GROUP_MEMBER_ID_REQUIRED);
    cr_assert_eq(strlen(a.id), 1 + 1 + 36, "%s", a.id);
    cr_assert_eq(strncmp(a.id, "c-", 2), 0);
    cr_assert_eq(rig_state("g"), GROUP_EMPTY, "not added yet");
    struct seat other = SEAT(.id = "nobody");
    seat_join(&other);
    cr_assert_eq(other.join_error, GROUP_UNKNOWN_MEMBER);
    seat_join(&a);
    rig_run_ms(3100);
    cr_assert(a.joined && a.join_error == GROUP_OK);
    end();
}

Test(rebalance, an_id_that_nobody_comes_with_expires_and_holds_up_nobody_longer)
{
    struct seat a = SEAT(), late = SEAT(.session_ms = 6000);
    seats_settle(&a, 1);
    seat_join(&late);
    cr_assert_eq(late.join_error, GROUP_MEMBER_ID_REQUIRED);
    seat_join(&a); /* the leader: a rebalance, which waits for the one that was told to come */
    rig_run_ms(5800);
    cr_assert_not(a.joined);
    rig_run_ms(300);
    cr_assert(a.joined && a.join_error == GROUP_OK && a.generation == 2);
    seat_join(&late);
    cr_assert_eq(late.join_error, GROUP_UNKNOWN_MEMBER);
    end();
}

Test(rebalance, old_versions_and_static_members_come_in_at_once)
{
    struct seat old = SEAT(.old = true), fixed = SEAT(.instance = "i1");
    seat_join(&old);
    seat_join(&fixed);
    cr_assert(!old.joined && !fixed.joined);
    rig_run_ms(6100);
    cr_assert(old.joined && fixed.joined && old.join_error == GROUP_OK);
    cr_assert_eq(strncmp(fixed.id, "i1-", 3), 0, "%s", fixed.id);
    end();
}

Test(rebalance, most_votes_choose_among_what_all_support)
{
    struct seat seats[] = {SEAT(.protocols = {"x", "a", "b"}), SEAT(.protocols = {"b", "a"}),
                           SEAT(.protocols = {"b", "a", "y"})};
    seats_settle(seats, 3);
    for (int i = 0; i < 3; i++)
        cr_assert_str_eq(seats[i].protocol, "b");
    end();
}

/* Common to two of them each is not enough. */
Test(rebalance, a_protocol_must_be_common_to_all)
{
    struct seat seats[] = {SEAT(.protocols = {"a", "b"}), SEAT(.protocols = {"b", "a"})};
    seats_settle(seats, 2);
    struct seat third = SEAT(.protocols = {"a"}), fourth = SEAT(.protocols = {"b"});
    seat_enter(&third);
    cr_assert_not(third.joined);
    seat_enter(&fourth);
    cr_assert_eq(fourth.join_error, GROUP_INCONSISTENT_PROTOCOL);
    struct seat other = SEAT(.type = "connect", .protocols = {"a"});
    seat_enter(&other);
    cr_assert_eq(other.join_error, GROUP_INCONSISTENT_PROTOCOL);
    struct seat none = SEAT(.group = "h", .no_protocols = true);
    seat_enter(&none);
    cr_assert_eq(none.join_error, GROUP_INCONSISTENT_PROTOCOL);
    cr_assert_not(rig_has("h"), "a refused join leaves nothing behind");
    end();
}

Test(rebalance, bad_ids_and_timeouts_are_refused)
{
    struct seat s[] = {SEAT(.group = ""), SEAT(.session_ms = 5999), SEAT(.session_ms = 1800001)};
    for (int i = 0; i < 3; i++)
        seat_join(&s[i]);
    cr_assert_eq(s[0].join_error, GROUP_INVALID_ID);
    cr_assert_eq(s[1].join_error, GROUP_INVALID_SESSION_TIMEOUT);
    cr_assert_eq(s[2].join_error, GROUP_INVALID_SESSION_TIMEOUT);
    end();
}

Test(rebalance, a_full_group_takes_nobody)
{
    rig.broker.groups.size_max = 2;
    struct seat seats[] = {SEAT(), SEAT(.client = "d")}, third = SEAT();
    seats_settle(seats, 2);
    seat_enter(&third);
    cr_assert_eq(third.join_error, GROUP_MAX_SIZE_REACHED);
    cr_assert_eq(seat_beat(&seats[0]), GROUP_OK, "and the others do not notice");
    end();
}

Test(rebalance, followers_wait_for_the_leader_and_the_left_out_get_no_bytes)
{
    struct seat s[] = {SEAT(), SEAT(), SEAT()};
    for (int i = 0; i < 3; i++)
        seat_enter(&s[i]);
    rig_run_ms(6100);
    seat_sync(&s[1], NULL);
    seat_sync(&s[2], NULL);
    rig_run_ms(500);
    cr_assert(!s[1].synced && !s[2].synced);
    s[0].members_n = 2; /* forgets the third */
    seat_assign(&s[0]);
    cr_assert_not(s[1].synced, "not before it is stable");
    rig_run_ms(100);
    cr_assert(s[0].synced && s[1].synced && s[2].synced);
    cr_assert_str_eq(s[0].assignment, "a0");
    cr_assert_str_eq(s[1].assignment, "a1");
    cr_assert(s[2].sync_error == GROUP_OK && s[2].assignment_len == 0);
    cr_assert_eq(rig_state("g"), GROUP_STABLE);
    seat_sync(&s[1], NULL); /* has lost the answer */
    cr_assert(s[1].synced);
    cr_assert_str_eq(s[1].assignment, "a1");
    end();
}

Test(rebalance, sync_says_what_is_wrong)
{
    struct seat a = SEAT(), b = SEAT();
    seats_settle(&a, 1);
    struct seat stale = a, stranger = a;
    stale.generation--;
    seat_sync(&stale, NULL);
    cr_assert_eq(stale.sync_error, GROUP_ILLEGAL_GENERATION);
    strcpy(stranger.id, "x");
    seat_sync(&stranger, NULL);
    cr_assert_eq(stranger.sync_error, GROUP_UNKNOWN_MEMBER);
    struct seat other = a;
    seat_sync(&other, "roundrobin");
    cr_assert_eq(other.sync_error, GROUP_INCONSISTENT_PROTOCOL);
    seat_enter(&b); /* a rebalance */
    seat_sync(&a, NULL);
    cr_assert_eq(a.sync_error, GROUP_REBALANCE_IN_PROGRESS);
    end();
}

Test(rebalance, who_joins_again_without_news_is_answered_at_once_but_the_leader)
{
    struct seat s[] = {SEAT(), SEAT()};
    seats_settle(s, 2);
    seat_join(&s[1]);
    cr_assert(s[1].joined && s[1].join_error == GROUP_OK && s[1].generation == 1);
    cr_assert_eq(rig_state("g"), GROUP_STABLE);
    seat_join(&s[0]);
    cr_assert_not(s[0].joined);
    cr_assert_eq(rig_state("g"), GROUP_PREPARING);
    seat_join(&s[1]);
    cr_assert(s[0].joined && s[1].joined && s[0].generation == 2);
    seat_join(&s[1]); /* has lost the answer */
    cr_assert(s[1].joined && s[1].generation == 2);
    cr_assert_eq(rig_state("g"), GROUP_COMPLETING);
    end();
}

Test(rebalance, changed_metadata_begin_a_rebalance)
{
    struct seat s[] = {SEAT(), SEAT()};
    seats_settle(s, 2);
    s[1].metadata = "other topics";
    seat_join(&s[1]);
    cr_assert_not(s[1].joined);
    cr_assert_eq(seat_beat(&s[0]), GROUP_REBALANCE_IN_PROGRESS);
    seat_join(&s[0]);
    cr_assert(s[0].joined && s[1].joined && s[0].is_leader);
    end();
}

/* Members that support two protocols leave the one together: no generation mixes them. */
Test(rebalance, the_assignor_changes_without_a_stop)
{
    struct seat s[] = {SEAT(.protocols = {"range"}), SEAT(.protocols = {"range"})};
    seats_settle(s, 2);
    for (int i = 0; i < 2; i++) {
        s[i].protocols[0] = "cooperative-sticky";
        s[i].protocols[1] = "range";
        seat_join(&s[i]);
        seat_join(&s[1 - i]);
        cr_assert(s[0].joined && s[1].joined);
        cr_assert_str_eq(s[0].protocol, i == 0 ? "range" : "cooperative-sticky");
        seat_sync(&s[1], NULL);
        seat_assign(&s[0]);
        rig_run_ms(100);
        cr_assert_eq(rig_state("g"), GROUP_STABLE);
    }
    end();
}

Test(rebalance, heartbeats_by_state)
{
    struct seat s[] = {SEAT(), SEAT()}, unknown = SEAT(.group = "none", .id = "x");
    cr_assert_eq(seat_beat(&unknown), GROUP_UNKNOWN_MEMBER);
    seats_settle(s, 2);
    cr_assert_eq(seat_beat(&s[0]), GROUP_OK);
    struct seat stale = s[0];
    stale.generation = 7;
    cr_assert_eq(seat_beat(&stale), GROUP_ILLEGAL_GENERATION);
    seat_join(&s[0]);
    cr_assert_eq(seat_beat(&s[1]), GROUP_REBALANCE_IN_PROGRESS);
    seat_join(&s[1]);
    cr_assert_eq(rig_state("g"), GROUP_COMPLETING);
    cr_assert_eq(seat_beat(&s[1]), GROUP_OK);
    cr_assert_eq(seat_leave(&s[0]), GROUP_OK);
    cr_assert_eq(seat_leave(&s[1]), GROUP_OK);
    cr_assert_eq(rig_state("g"), GROUP_EMPTY);
    cr_assert_eq(seat_beat(&s[1]), GROUP_UNKNOWN_MEMBER);
    end();
}

Test(rebalance, who_is_not_heard_of_is_out_and_heartbeats_also_in_a_rebalance_count)
{
    struct seat s[] = {SEAT(), SEAT(.session_ms = 6000)};
    seats_settle(s, 2);
    for (int i = 0; i < 4; i++) { /* 20 s */
        rig_run_ms(5000);
        cr_assert_eq(seat_beat(&s[0]), GROUP_OK, "%d", i);
        cr_assert_eq(seat_beat(&s[1]), GROUP_OK, "%d", i);
    }
    rig_run_ms(5900);
    cr_assert_eq(seat_beat(&s[0]), GROUP_OK);
    rig_run_ms(200);
    cr_assert_eq(seat_beat(&s[0]), GROUP_REBALANCE_IN_PROGRESS);
    cr_assert_eq(seat_beat(&s[1]), GROUP_UNKNOWN_MEMBER);
    rig_run_ms(9000);
    cr_assert_eq(seat_beat(&s[0]), GROUP_REBALANCE_IN_PROGRESS);
    rig_run_ms(9000);
    seat_join(&s[0]);
    cr_assert(s[0].joined && s[0].join_error == GROUP_OK && s[0].members_n == 1);
    end();
}

/* It waits for the others, longer than its session: it is there all the same. */
Test(rebalance, a_parked_member_does_not_time_out)
{
    struct seat s[] = {SEAT(.session_ms = 6000), SEAT(.session_ms = 60000)};
    seats_settle(s, 2);
    seat_join(&s[0]);
    for (int i = 0; i < 10; i++) {
        rig_run_ms(5000);
        cr_assert_eq(seat_beat(&s[1]), GROUP_REBALANCE_IN_PROGRESS);
    }
    cr_assert_not(s[0].joined);
    seat_join(&s[1]);
    cr_assert(s[0].joined && s[0].join_error == GROUP_OK);
    rig_run_ms(6100); /* and from here on its session counts again */
    cr_assert_eq(seat_beat(&s[0]), GROUP_UNKNOWN_MEMBER);
    end();
}

Test(rebalance, who_does_not_join_within_the_rebalance_timeout_is_out)
{
    struct seat s[] = {SEAT(.rebalance_ms = 20000), SEAT(.rebalance_ms = 30000)};
    seats_settle(s, 2);
    seat_join(&s[0]);
    for (int ms = 0; ms < 29000; ms += 1000) {
        rig_run_ms(1000);
        cr_assert_eq(seat_beat(&s[1]), GROUP_REBALANCE_IN_PROGRESS);
        cr_assert_not(s[0].joined);
    }
    rig_run_ms(1100);
    cr_assert(s[0].joined && s[0].join_error == GROUP_OK && s[0].members_n == 1);
    seat_join(&s[1]);
    cr_assert_eq(s[1].join_error, GROUP_UNKNOWN_MEMBER);
    end();
}

Test(rebalance, who_does_not_sync_within_the_rebalance_timeout_is_out)
{
    struct seat s[] = {SEAT(.rebalance_ms = 15000), SEAT(.rebalance_ms = 15000)};
    for (int i = 0; i < 2; i++)
        seat_enter(&s[i]);
    rig_run_ms(6100);
    seat_assign(&s[0]);
    rig_run_ms(100);
    cr_assert(s[0].synced && s[0].sync_error == GROUP_OK);
    for (int ms = 0; ms < 14000; ms += 1000) {
        rig_run_ms(1000);
        cr_assert_eq(seat_beat(&s[0]), GROUP_OK);
        cr_assert_eq(seat_beat(&s[1]), GROUP_OK, "alive, but does not ask for its part");
    }
    rig_run_ms(1000);
    cr_assert_eq(seat_beat(&s[0]), GROUP_REBALANCE_IN_PROGRESS);
    cr_assert_eq(seat_beat(&s[1]), GROUP_UNKNOWN_MEMBER);
    end();
}

Test(rebalance, the_leader_who_does_not_sync_is_out_and_another_one_leads)
{
    struct seat s[] = {SEAT(.rebalance_ms = 15000), SEAT(.rebalance_ms = 15000)};
    for (int i = 0; i < 2; i++)
        seat_enter(&s[i]);
    rig_run_ms(6100);
    seat_sync(&s[1], NULL);
    for (int ms = 0; ms < 15000; ms += 3000) {
        seat_beat(&s[0]);
        rig_run_ms(3000);
    }
    cr_assert(s[1].synced && s[1].sync_error == GROUP_REBALANCE_IN_PROGRESS);
    seat_join(&s[1]);
    cr_assert(s[1].joined && s[1].is_leader && s[1].members_n == 1);
    end();
}

Test(rebalance, members_leave_many_at_a_time)
{
    struct seat s[] = {SEAT(), SEAT(), SEAT(.instance = "i"), SEAT()};
    seats_settle(s, 4);
    struct group_leaver l[] = {{str_of(s[0].id), str_of(NULL), GROUP_OK},
                               {str_of("x"), str_of(NULL), GROUP_OK},
                               {str_of(""), str_of("i"), GROUP_OK}, /* by an operator */
                               {str_of(""), str_of("none"), GROUP_OK}};
    cr_assert_eq(group_leave(rig.coord, str_of("g"), l, 4), GROUP_OK);
    cr_assert_eq(l[0].error, GROUP_OK);
    cr_assert_eq(l[1].error, GROUP_UNKNOWN_MEMBER);
    cr_assert_eq(l[2].error, GROUP_OK);
    cr_assert_eq(l[3].error, GROUP_UNKNOWN_MEMBER);
    cr_assert_eq(group_leave(rig.coord, str_of("none"), l, 1), GROUP_OK);
    cr_assert_eq(l[0].error, GROUP_UNKNOWN_MEMBER, "no such group is each member's error");
    seat_join(&s[1]);
    seat_join(&s[3]);
    cr_assert(s[1].joined && s[3].joined && s[1].is_leader && s[1].members_n == 2);
    cr_assert_eq(seat_leave(&s[1]), GROUP_OK);
    cr_assert_eq(seat_leave(&s[3]), GROUP_OK);
    cr_assert_eq(rig_state("g"), GROUP_EMPTY);
    end();
}

/* Its connection is gone, but it has joined: it counts, and then its session does. */
Test(rebalance, a_client_that_goes_away_while_it_waits_is_still_a_member)
{
    struct seat s[] = {SEAT(), SEAT(.session_ms = 6000)};
    seats_settle(s, 2);
    s[1].metadata = "n";
    seat_join(&s[1]);
    group_join_cancel(&s[1].join);
    cr_assert(s[1].joined && s[1].join_error == GROUP_NOT_AVAILABLE);
    seat_join(&s[0]);
    cr_assert(s[0].joined && s[0].members_n == 2);
    seat_assign(&s[0]);
    group_sync_cancel(&s[0].sync);
    rig_run_ms(100);
    cr_assert_eq(rig_state("g"), GROUP_STABLE);
    rig_run_ms(6100);
    cr_assert_eq(rig_state("g"), GROUP_PREPARING);
    end();
}

Test(rebalance, who_asks_again_takes_the_place_of_his_first_question)
{
    struct seat a = SEAT(), again;
    seat_enter(&a);
    again = a;
    seat_join(&again);
    cr_assert(a.joined && a.join_error == GROUP_REBALANCE_IN_PROGRESS && !again.joined);
    rig_run_ms(6100);
    cr_assert(again.joined && again.join_error == GROUP_OK && again.members_n == 1);
    end();
}

/* ---- static members ---- */

Test(rebalance, a_static_member_comes_back_without_a_rebalance)
{
    struct seat s[] = {SEAT(.instance = "a"), SEAT(.instance = "b")};
    seats_settle(s, 2);
    struct seat old = s[1];
    s[1].id[0] = '\0';
    seat_join(&s[1]);
    cr_assert_not(s[1].joined, "not before its new id is stable");
    rig_run_ms(100);
    cr_assert(s[1].joined && s[1].join_error == GROUP_OK && s[1].generation == 1);
    cr_assert_str_neq(s[1].id, old.id);
    cr_assert_eq(seat_beat(&s[0]), GROUP_OK);
    seat_sync(&s[1], NULL);
    cr_assert(s[1].synced);
    cr_assert_str_eq(s[1].assignment, "a1");
    cr_assert_eq(seat_beat(&old), GROUP_FENCED_INSTANCE);
    cr_assert_eq(rig_commit("g", &old, 0, 1, ""), GROUP_FENCED_INSTANCE);
    seat_sync(&old, NULL);
    cr_assert_eq(old.sync_error, GROUP_FENCED_INSTANCE);
    cr_assert_eq(seat_leave(&old), GROUP_FENCED_INSTANCE);
    seat_join(&old);
    cr_assert_eq(old.join_error, GROUP_FENCED_INSTANCE);
    end();
}

Test(rebalance, a_static_leader_comes_back_and_need_not_assign)
{
    struct seat s[] = {SEAT(.instance = "a"), SEAT(.instance = "b")};
    seats_settle(s, 2);
    struct seat old = s[0];
    s[0].id[0] = '\0';
    seat_join(&s[0]);
    rig_run_ms(100);
    cr_assert(s[0].joined && s[0].skips && s[0].is_leader && s[0].members_n == 2);
    struct seat older = s[0]; /* a client that cannot skip is told of the one before */
    older.old = true;
    older.id[0] = '\0';
    seat_join(&older);
    rig_run_ms(100);
    cr_assert(older.joined && older.join_error == GROUP_OK && !older.skips);
    cr_assert(!older.is_leader && older.members_n == 0);
    cr_assert_str_eq(older.leader, s[0].id);
    cr_assert_str_neq(s[0].id, old.id);
    end();
}

Test(rebalance, a_static_member_with_another_protocol_is_a_rebalance)
{
    struct seat s[] = {SEAT(.instance = "a", .protocols = {"x", "y"}),
                       SEAT(.instance = "b", .protocols = {"x", "y"})};
    seats_settle(s, 2);
    cr_assert_str_eq(s[0].protocol, "x");
    s[1].id[0] = '\0';
    s[1].protocols[0] = "y";
    s[1].protocols[1] = NULL;
    seat_join(&s[1]);
    rig_run_ms(100);
    cr_assert_not(s[1].joined);
    cr_assert_eq(seat_beat(&s[0]), GROUP_REBALANCE_IN_PROGRESS);
    seat_join(&s[0]);
    cr_assert(s[0].joined && s[1].joined);
    cr_assert_str_eq(s[0].protocol, "y");
    end();
}

Test(rebalance, static_members_are_kept_when_they_do_not_join_in_time)
{
    struct seat s[] = {SEAT(.instance = "a", .session_ms = 100000),
                       SEAT(.instance = "b", .session_ms = 100000), SEAT(.session_ms = 100000)};
    seats_settle(s, 3);
    s[1].metadata = "n";
    seat_join(&s[1]);
    rig_run_ms(60100);
    cr_assert(s[1].joined && s[1].is_leader && s[1].members_n == 2, "%d", s[1].members_n);
    cr_assert_eq(seat_beat(&s[2]), GROUP_UNKNOWN_MEMBER, "dynamic ones are not");
    end();
}

Test(rebalance, a_twin_fences_the_one_who_waits)
{
    struct seat first = SEAT(.instance = "a"), twin = SEAT(.instance = "a");
    seat_join(&first);
    seat_join(&twin);
    cr_assert(first.joined && first.join_error == GROUP_FENCED_INSTANCE);
    rig_run_ms(6100);
    cr_assert(twin.joined && twin.join_error == GROUP_OK && twin.members_n == 1);
    end();
}

/* ---- limits ---- */

Test(rebalance, memory_is_bounded_and_given_back)
{
    static char big[1 << 20];
    memset(big, 'x', sizeof(big) - 1);
    const struct group_counters *k = group_counters(rig.coord);
    enum group_error error = GROUP_OK;
    static struct seat s[64];
    int n = 0;
    for (; n < 64 && error == GROUP_OK; n++) {
        s[n] = SEAT(.metadata = big, .old = true);
        seat_join(&s[n]);
        if (s[n].joined)
            error = s[n].join_error;
    }
    cr_assert_eq(error, GROUP_NOT_AVAILABLE);
    cr_assert(n > 8 && k->bytes <= 17u << 20, "%d %llu", n, (unsigned long long)k->bytes);
    cr_assert_eq(rig_commit("other", NULL, 0, 1, ""), GROUP_OK, "a little is left");
    end(); /* asserts that nothing is */
}
