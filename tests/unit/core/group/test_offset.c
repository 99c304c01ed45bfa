/* Offsets: who may commit, what is told, what survives, what is forgotten and when. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/group/record.h"
#include "tests/unit/core/group/group_rig.h"

TestSuite(offset, .init = rig_start);

#define DAY_MS UINT64_C(86400000)

static void end(void)
{
    rig_stop();
    rig_end();
}

/* Until all groups are there again. */
static void reopen(void)
{
    rig_open();
    while (group_loading(rig.coord))
        rig_turn();
}

static void restart(void)
{
    rig_stop();
    reopen();
}

Test(offset, what_is_committed_comes_back_as_it_was)
{
    char text[4097 + 1], back[5000];
    struct group_offset v;
    memset(text, 'x', 4096);
    text[4096] = '\0';
    cr_assert_eq(rig_commit("g", NULL, 3, 1234, text), GROUP_OK);
    for (int turn = 0; turn < 2; turn++) {
        cr_assert_eq(rig_fetch("g", RIG_TOPIC, 3, &v, back), 1234);
        cr_assert_eq(v.leader_epoch, 34);
        cr_assert_str_eq(back, text);
        cr_assert_eq(rig_fetch("g", RIG_TOPIC, 4, NULL, NULL), -1);
        cr_assert_eq(rig_fetch("nobody", RIG_TOPIC, 3, NULL, NULL), -1);
        restart();
    }
    strcat(text, "x");
    cr_assert_eq(rig_commit("g", NULL, 3, 1, text), GROUP_METADATA_TOO_LARGE);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 3, NULL, NULL), 1234);
    end();
}

Test(offset, partitions_that_are_not_there_are_refused)
{
    cr_assert_eq(rig_commit("g", NULL, RIG_TOPIC_PARTITIONS, 1, ""), GROUP_UNKNOWN_TOPIC);
    cr_assert_eq(rig_commit("g", NULL, -1, 1, ""), GROUP_UNKNOWN_TOPIC);
    cr_assert_eq(rig_commit_to("g", NULL, "none", 0, 1, "", -1, NULL), GROUP_UNKNOWN_TOPIC);
    cr_assert_not(rig_has("g"), "a refused commit leaves nothing behind");
    end();
}

Test(offset, who_may_commit)
{
    struct seat s[] = {SEAT(), SEAT()}, nobody = SEAT(.generation = 3);
    cr_assert_eq(rig_commit("new", &nobody, 0, 1, ""), GROUP_ILLEGAL_GENERATION);
    seats_settle(s, 2);
    cr_assert_eq(rig_commit("g", NULL, 0, 1, ""), GROUP_UNKNOWN_MEMBER, "it has members");
    cr_assert_eq(rig_commit("g", &s[0], 0, 1, ""), GROUP_OK);
    struct seat stale = s[0], stranger = s[0];
    stale.generation++;
    strcpy(stranger.id, "x");
    cr_assert_eq(rig_commit("g", &stale, 0, 2, ""), GROUP_ILLEGAL_GENERATION);
    cr_assert_eq(rig_commit("g", &stranger, 0, 2, ""), GROUP_UNKNOWN_MEMBER);
    seat_join(&s[0]); /* preparing: who gives up partitions may still say how far he is */
    cr_assert_eq(rig_commit("g", &s[1], 0, 3, ""), GROUP_OK);
    seat_join(&s[1]);
    cr_assert_eq(rig_commit("g", &s[1], 0, 4, ""), GROUP_REBALANCE_IN_PROGRESS);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), 3);
    cr_assert_eq(seat_leave(&s[0]), GROUP_OK);
    cr_assert_eq(seat_leave(&s[1]), GROUP_OK);
    cr_assert_eq(rig_commit("g", NULL, 0, 5, ""), GROUP_OK, "it is empty");
    end();
}

Test(offset, a_commit_is_a_sign_of_life)
{
    struct seat s = SEAT(.session_ms = 6000);
    seats_settle(&s, 1);
    for (int i = 0; i < 4; i++) {
        rig_run_ms(5000);
        cr_assert_eq(rig_commit("g", &s, 0, i, ""), GROUP_OK);
    }
    rig_run_ms(6100);
    cr_assert_eq(rig_commit("g", &s, 0, 9, ""), GROUP_UNKNOWN_MEMBER);
    end();
}

static bool twice_done;

static void on_twice(struct group_commit *m)
{
    (void)m;
    twice_done = true;
}

Test(offset, the_same_partition_twice_in_one_commit_keeps_the_last)
{
    struct group_commit_item items[] = {
        {.topic = str_of(RIG_TOPIC), .value = {.offset = 1, .metadata = str_of("")}},
        {.topic = str_of(RIG_TOPIC), .value = {.offset = 2, .metadata = str_of("")}}};
    struct group_commit m = {.who = {str_of("g"), str_of(""), str_of(NULL), -1},
                             .retention_ms = -1,
                             .items = items,
                             .items_n = 2,
                             .on_done = on_twice};
    group_commit(rig.coord, &m);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), 2, "a fetch waits for it");
    cr_assert(twice_done && m.error == GROUP_OK);
    restart();
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), 2);
    end();
}

struct asked {
    struct group_commit_item item;
    struct group_commit commit;
    bool done;
};

static void on_asked(struct group_commit *m)
{
    container_of(m, struct asked, commit)->done = true;
}

static void commit_ask(struct asked *a, int64_t offset)
{
    *a = (struct asked){
        .item = {.topic = str_of(RIG_TOPIC), .value = {.offset = offset, .metadata = str_of("")}}};
    a->commit = (struct group_commit){.who = {str_of("g"), str_of(""), str_of(NULL), -1},
                                      .retention_ms = -1,
                                      .items = &a->item,
                                      .items_n = 1,
                                      .on_done = on_asked};
    group_commit(rig.coord, &a->commit);
}

static struct asked first, second;
static int64_t read_offset;
static bool read_before_second;

static void on_read(struct group_fetch *f)
{
    struct group_offset value;
    cr_assert_eq(f->error, GROUP_OK);
    cr_assert(group_offset_find(f->found, str_of(RIG_TOPIC), 0, &value));
    read_offset = value.offset;
    read_before_second = !second.done;
    size_t it = 0;
    struct group_str topic;
    int32_t partition;
    cr_assert(group_offset_next(f->found, &it, &topic, &partition, &value));
    cr_assert_eq(value.offset, read_offset);
    cr_assert_not(group_offset_next(f->found, &it, &topic, &partition, &value));
}

/* Else what a member was told, and began with, would be another offset after a crash. */
Test(offset, a_commit_is_not_seen_before_it_is_stable)
{
    struct group_fetch fetch = {.group = str_of("g"), .on_done = on_read};
    cr_assert_eq(rig_commit("g", NULL, 0, 10, ""), GROUP_OK);
    commit_ask(&first, 11);
    group_fetch(rig.coord, &fetch);
    rig_turn();
    commit_ask(&second, 12);
    while (!second.done)
        rig_turn();
    cr_assert(first.done);
    cr_assert(read_before_second);
    cr_assert_eq(read_offset, 11);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), 12);
    cr_assert_eq(counter_read(&group_counters(rig.coord)->offsets), 1u, "older ones are gone");
    end();
}

/* ---- crashes ---- */

/* Power cuts after each effect: what was answered is there, and nothing older. */
Test(offset, answered_commits_survive_a_power_cut_anywhere)
{
    rig_stop();
    rig_end();
    bool whole = false;
    for (uint64_t cut = 1; !whole; cut++) {
        int64_t answered[3] = {-1, -1, -1}, asked[3] = {-1, -1, -1};
        rig_start();
        mem_world_crash_at_io(rig.world, cut);
        for (int64_t i = 0; i < 30 && !mem_world_crashed(rig.world); i++) {
            bool done;
            asked[i % 3] = i;
            enum group_error error =
                rig_commit_to("g", NULL, RIG_TOPIC, (int32_t)(i % 3), i, "", -1, &done);
            if (done && error == GROUP_OK && !mem_world_crashed(rig.world))
                answered[i % 3] = i;
        }
        whole = !mem_world_crashed(rig.world);
        rig_crash();
        reopen();
        for (int p = 0; p < 3; p++) {
            int64_t there = rig_fetch("g", RIG_TOPIC, p, NULL, NULL);
            cr_assert(there >= answered[p] && there <= asked[p], "cut %d: %d of %d to %d", (int)cut,
                      (int)there, (int)answered[p], (int)asked[p]);
        }
        end();
    }
    rig_start();
    end();
}

Test(offset, a_stable_group_is_stable_after_a_crash_and_its_members_go_on)
{
    struct seat s[] = {SEAT(.instance = "i", .metadata = "sub"), SEAT()};
    seats_settle(s, 2);
    cr_assert_eq(rig_commit("g", &s[1], 5, 50, "m"), GROUP_OK);
    rig_crash();
    rig_open();
    cr_assert_eq(seat_beat(&s[0]), GROUP_LOADING);
    while (group_loading(rig.coord))
        rig_turn();
    cr_assert_eq(rig_state("g"), GROUP_STABLE);
    cr_assert_eq(seat_beat(&s[0]), GROUP_OK);
    cr_assert_eq(rig_commit("g", &s[1], 5, 51, ""), GROUP_OK);
    seat_sync(&s[1], NULL);
    cr_assert(s[1].synced);
    cr_assert_str_eq(s[1].assignment, "a1");
    seat_join(&s[1]); /* the same as before: nothing is new */
    cr_assert(s[1].joined && s[1].generation == 1);
    s[0].id[0] = '\0';
    seat_join(&s[0]); /* static, and leads: told not to assign */
    rig_run_ms(100);
    cr_assert(s[0].joined && s[0].skips && s[0].members_n == 2 && s[0].generation == 1);
    rig_run_ms(5000);
    cr_assert_eq(seat_beat(&s[0]), GROUP_OK);
    rig_run_ms(5000);
    cr_assert_eq(rig_state("g"), GROUP_PREPARING, "who is not heard of after a start is out");
    end();
}

Test(offset, a_deleted_group_stays_deleted)
{
    struct seat s = SEAT();
    seats_settle(&s, 1);
    cr_assert_eq(rig_commit("g", &s, 0, 1, ""), GROUP_OK);
    cr_assert_eq(rig_commit("simple", NULL, 0, 1, ""), GROUP_OK);
    cr_assert_eq(rig_delete("g"), GROUP_NON_EMPTY);
    cr_assert_eq(rig_delete("none"), GROUP_ID_NOT_FOUND);
    cr_assert_eq(seat_leave(&s), GROUP_OK);
    cr_assert_eq(rig_delete("g"), GROUP_OK);
    cr_assert_eq(rig_delete("simple"), GROUP_OK);
    for (int turn = 0; turn < 2; turn++) {
        cr_assert_not(rig_has("g"));
        cr_assert_not(rig_has("simple"));
        cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), -1);
        rig_crash();
        reopen();
    }
    struct seat again = SEAT();
    seats_settle(&again, 1);
    cr_assert_eq(again.generation, 1);
    end();
}

/* ---- forgetting ---- */

static bool offsets_deleted;

static void on_offsets_deleted(struct group_offset_delete *d)
{
    (void)d;
    offsets_deleted = true;
}

static enum group_error offset_delete(const char *group, const char *topic, int32_t partition)
{
    struct group_offset_delete_item item = {str_of(topic), partition, GROUP_OK};
    struct group_offset_delete d = {
        .group = str_of(group), .items = &item, .items_n = 1, .on_done = on_offsets_deleted};
    offsets_deleted = false;
    group_offset_delete(rig.coord, &d);
    while (!offsets_deleted)
        rig_turn();
    return d.error != GROUP_OK ? d.error : item.error;
}

/* As seats_settle, for a subscription with zero bytes in it. */
static void subscriber_settle(struct seat *s, const uint8_t *bytes, int32_t len)
{
    *s = SEAT(.old = true, .session_ms = 1000000);
    seat_join(s);
    s->list[0].metadata = (struct group_blob){bytes, len};
    rig_run_ms(6100);
    cr_assert(s->joined);
    s->joined = false; /* again, with the real bytes: the coordinator takes the call's list */
    s->join.member = str_of(s->id);
    s->join.protocols = s->list;
    group_join(rig.coord, &s->join);
    cr_assert(s->joined && s->join_error == GROUP_OK);
    seat_assign(s);
    rig_run_ms(100);
    cr_assert_eq(rig_state("g"), GROUP_STABLE);
}

/* ConsumerProtocolSubscription, version 0, of topic "t" alone. */
static const uint8_t reads_t[] = {0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff};

Test(offset, offsets_are_deleted_but_not_of_topics_that_are_read)
{
    struct seat s;
    rig_topic_create("u", 2);
    subscriber_settle(&s, reads_t, sizeof(reads_t));
    cr_assert_eq(rig_commit("g", &s, 0, 1, ""), GROUP_OK);
    cr_assert_eq(rig_commit_to("g", &s, "u", 1, 1, "", -1, NULL), GROUP_OK);
    cr_assert_eq(offset_delete("g", RIG_TOPIC, 0), GROUP_SUBSCRIBED_TO_TOPIC);
    cr_assert_eq(offset_delete("g", "u", 1), GROUP_OK);
    cr_assert_eq(offset_delete("none", "u", 1), GROUP_ID_NOT_FOUND);
    struct seat other = SEAT(.group = "k", .type = "connect");
    seats_settle(&other, 1);
    cr_assert_eq(offset_delete("k", "u", 1), GROUP_NON_EMPTY);
    cr_assert_eq(seat_leave(&s), GROUP_OK);
    cr_assert_eq(offset_delete("g", RIG_TOPIC, 0), GROUP_OK);
    rig_crash();
    reopen();
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), -1);
    cr_assert_eq(rig_fetch("g", "u", 1, NULL, NULL), -1);
    end();
}

Test(offset, a_deleted_topic_takes_its_offsets_along)
{
    for (int crash = 0; crash < 3; crash++) {
        rig_topic_create("u", 2);
        cr_assert_eq(rig_commit_to("g", NULL, "u", 1, 7, "", -1, NULL), GROUP_OK);
        cr_assert_eq(rig_commit("g", NULL, 0, 8, ""), GROUP_OK);
        rig_topic_delete("u");
        if (crash == 1) { /* before the offsets have gone */
            rig_crash();
            reopen();
        }
        if (crash == 2)
            rig_run_ms(100);
        cr_assert_eq(rig_fetch("g", "u", 1, NULL, NULL), -1);
        rig_topic_create("u", 2);
        cr_assert_eq(rig_fetch("g", "u", 1, NULL, NULL), -1, "of the topic before");
        cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), 8);
        rig_run_ms(100);
        restart();
        cr_assert_eq(rig_fetch("g", "u", 1, NULL, NULL), -1);
        rig_topic_delete("u");
    }
    end();
}

Test(offset, offsets_of_empty_and_simple_groups_expire)
{
    struct seat s = SEAT(.session_ms = 1000000);
    rig.broker.groups.retention_check_ms = 6 * 3600000;
    cr_assert_eq(rig_commit("simple", NULL, 0, 1, ""), GROUP_OK);
    seats_settle(&s, 1);
    cr_assert_eq(rig_commit("g", &s, 0, 1, ""), GROUP_OK);
    for (int i = 0; i < 5 * 24 * 4; i++) { /* it is read for five days */
        rig_run_ms(900000);
        cr_assert_eq(seat_beat(&s), GROUP_OK);
    }
    cr_assert_eq(rig_commit("simple", NULL, 1, 1, ""), GROUP_OK);
    cr_assert_eq(seat_leave(&s), GROUP_OK);
    rig_run_ms(5 * DAY_MS / 2); /* seven and a half days after the first commit */
    cr_assert_eq(rig_fetch("simple", RIG_TOPIC, 0, NULL, NULL), -1);
    cr_assert_eq(rig_fetch("simple", RIG_TOPIC, 1, NULL, NULL), 1);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), 1, "empty for less than seven days");
    rig_run_ms(5 * DAY_MS);
    cr_assert_not(rig_has("simple"));
    cr_assert_not(rig_has("g"));
    restart();
    cr_assert_not(rig_has("simple"));
    cr_assert_not(rig_has("g"));
    end();
}

Test(offset, topics_that_are_not_read_any_more_expire_while_the_group_lives)
{
    struct seat s;
    rig_topic_create("u", 2);
    subscriber_settle(&s, reads_t, sizeof(reads_t));
    cr_assert_eq(rig_commit("g", &s, 0, 1, ""), GROUP_OK);
    cr_assert_eq(rig_commit_to("g", &s, "u", 0, 1, "", -1, NULL), GROUP_OK);
    for (int i = 0; i < 8 * 24 * 4; i++) {
        rig_run_ms(900000);
        cr_assert_eq(seat_beat(&s), GROUP_OK);
    }
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), 1);
    cr_assert_eq(rig_fetch("g", "u", 0, NULL, NULL), -1);
    end();
}

Test(offset, a_commit_may_say_how_long_it_counts)
{
    cr_assert_eq(rig_commit_to("g", NULL, RIG_TOPIC, 0, 1, "m", 3600000, NULL), GROUP_OK);
    cr_assert_eq(rig_commit_to("g", NULL, RIG_TOPIC, 1, 1, "m", 10 * 86400000ll, NULL), GROUP_OK);
    restart();
    rig_run_ms(3600000 + 700000);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), -1);
    rig_run_ms(8 * DAY_MS);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 1, NULL, NULL), 1);
    end();
}

/* ---- failures ---- */

Test(offset, a_log_that_fails_ends_the_service_and_nothing_else)
{
    struct seat s[] = {SEAT(), SEAT()};
    cr_assert_eq(rig_commit("g", NULL, 0, 1, ""), GROUP_OK);
    seats_settle(s, 2);
    seat_join(&s[0]); /* parked */
    mem_world_fail_at(rig.world, MEM_FAULT_WRITE_EIO, 1);
    cr_assert_eq(rig_commit("g", &s[1], 0, 2, ""), GROUP_NOT_AVAILABLE);
    cr_assert(s[0].joined && s[0].join_error == GROUP_NOT_AVAILABLE);
    cr_assert_eq(seat_beat(&s[1]), GROUP_NOT_AVAILABLE);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), -2);
    rig_crash();
    reopen();
    int64_t there = rig_fetch("g", RIG_TOPIC, 0, NULL, NULL);
    cr_assert(there == 1 || there == 2, "%d", (int)there);
    end();
}

Test(offset, the_topic_of_offsets_is_deleted_and_made_again)
{
    struct seat s = SEAT();
    seats_settle(&s, 1);
    cr_assert_eq(rig_commit("g", &s, 0, 1, ""), GROUP_OK);
    seat_join(&s); /* the leader: a rebalance */
    s.metadata = "n";
    rig_topic_delete(GROUP_TOPIC_NAME);
    cr_assert_eq(seat_beat(&s), GROUP_NOT_COORDINATOR);
    rig_topic_create(GROUP_TOPIC_NAME, 4);
    cr_assert_eq(rig_fetch("g", RIG_TOPIC, 0, NULL, NULL), -1);
    cr_assert_eq(seat_beat(&s), GROUP_UNKNOWN_MEMBER);
    end();
}

/* ---- where groups are, and bytes ---- */

Test(offset, groups_are_where_javas_hash_puts_them)
{
    static const struct {
        const char *name;
        uint32_t hash; /* String.hashCode() */
    } known[] = {{"", 0},
                 {"a", 97},
                 {"abc", 96354},
                 {"\xc3\xa9", 233},             /* e acute */
                 {"\xf0\x9f\x98\x80", 1772899}, /* a surrogate pair */
                 {"polygenelubricants", 1u << 31} /* INT_MIN: 0 */};
    for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
        int32_t h = (int32_t)known[i].hash;
        int32_t want = h == INT32_MIN ? 0 : abs(h) % 50;
        cr_assert_eq(group_partition_of(str_of(known[i].name), 50), want, "%s", known[i].name);
    }
    end();
}

Test(offset, records_are_refused_at_every_length_but_their_own)
{
    struct record_out o = {0};
    struct record_key key;
    struct group_offset v = {.offset = 5,
                             .leader_epoch = 2,
                             .commit_ms = 77,
                             .expire_ms = -1,
                             .metadata = str_of("text")},
                        back;
    record_offset_key(&o, str_of("group"), str_of("topic"), 9);
    for (size_t len = 0; len < o.len; len++)
        cr_assert_lt(record_read_key(o.p, (int32_t)len, &key), 0);
    cr_assert_eq(record_read_key(o.p, (int32_t)o.len, &key), 0);
    cr_assert(key.partition == 9 && key.topic.len == 5 && key.group.len == 5 && !key.is_group);
    for (int expires = 0; expires < 2; expires++) {
        v.expire_ms = expires ? 99 : -1;
        record_offset_value(&o, &v);
        for (size_t len = 0; len < o.len; len++)
            cr_assert_lt(record_read_offset(o.p, (int32_t)len, &back), 0);
        cr_assert_eq(record_read_offset(o.p, (int32_t)o.len, &back), 0);
        cr_assert(back.offset == 5 && back.commit_ms == 77 && back.expire_ms == v.expire_ms);
        cr_assert_eq(back.leader_epoch, expires ? -1 : 2);
    }
    struct record_group g = {.protocol_type = str_of("consumer"),
                             .protocol = str_of(NULL),
                             .leader = str_of("me"),
                             .generation = 3,
                             .state_ms = 4,
                             .members_n = 1},
                        told;
    struct record_member m = {.id = str_of("me"),
                              .instance = str_of(NULL),
                              .client_id = str_of("c"),
                              .client_host = str_of("/h"),
                              .session_timeout_ms = 1,
                              .rebalance_timeout_ms = 2,
                              .subscription = {(const uint8_t *)"s", 1}},
                         seen;
    record_group_value(&o, &g);
    record_member(&o, &m);
    for (size_t len = 0; len <= o.len; len++) {
        int rc = record_read_group(o.p, (int32_t)len, &told);
        if (rc == 0)
            rc = record_read_member(&told, &seen);
        cr_assert_eq(rc == 0, len == o.len, "%zu", len);
    }
    cr_assert(told.generation == 3 && told.state_ms == 4 && told.protocol.len == -1);
    cr_assert(seen.session_timeout_ms == 1 && seen.rebalance_timeout_ms == 2 &&
              seen.subscription.len == 1 && seen.instance.len == -1);
    record_out_fini(&o);
    end();
}
