/* The rules of incremental fetch sessions (KIP-227), as pure code. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/fetch_session.h"
#include "net/net.h"

#define SHARD 3u
#define SECOND UINT64_C(1000000000)

static struct fetch_sessions *cache;
static uint64_t now_ns, random_next;

static void setup(void)
{
    cache = fetch_sessions_create(SHARD, 2, 20);
    now_ns = SECOND;
    random_next = 77;
}

static void teardown(void)
{
    fetch_sessions_destroy(cache);
}

TestSuite(fetch_session, .init = setup, .fini = teardown);

/* ---- requests ---- */

struct ask {
    struct fetch_request q;
    struct fetch_request_fetch_topic topics[4];
    struct fetch_request_fetch_partition partitions[4][16];
    struct fetch_request_forgotten_topic forgotten[4];
    int32_t forgotten_partitions[4][16];
};

static struct ask *ask(struct ask *a, int32_t id, int32_t epoch)
{
    memset(a, 0, sizeof(*a));
    a->q.session_id = id;
    a->q.session_epoch = epoch;
    a->q.topics = a->topics;
    a->q.forgotten_topics_data = a->forgotten;
    return a;
}

static struct ask *want(struct ask *a, const char *topic, int32_t partition, int64_t offset)
{
    int32_t t = 0;
    while (t < a->q.topics_n && !wire_str_eq(a->topics[t].topic, topic))
        t++;
    if (t == a->q.topics_n) {
        a->topics[t].topic = wire_str_of(topic);
        a->topics[t].partitions = a->partitions[t];
        a->q.topics_n++;
    }
    struct fetch_request_fetch_partition *p = &a->partitions[t][a->topics[t].partitions_n++];
    *p = (struct fetch_request_fetch_partition){.partition = partition,
                                                .fetch_offset = offset,
                                                .partition_max_bytes = 1000,
                                                .current_leader_epoch = -1,
                                                .last_fetched_epoch = -1};
    return a;
}

static struct ask *forget(struct ask *a, const char *topic, int32_t partition)
{
    int32_t t = a->q.forgotten_topics_data_n++;
    a->forgotten[t].topic = wire_str_of(topic);
    a->forgotten[t].partitions = a->forgotten_partitions[t];
    a->forgotten[t].partitions_n = 1;
    a->forgotten_partitions[t][0] = partition;
    return a;
}

static int16_t begin(struct ask *a, struct fetch_context *ret)
{
    return fetch_sessions_begin(cache, &a->q, false, now_ns, random_next++, ret);
}

static void end(struct fetch_context *c)
{
    if (c->session != NULL)
        fetch_sessions_end(cache, c->session, true);
}

/* The session's partitions in the order of service: "a-0@5 b-1@7". */
static const char *parts_of(const struct fetch_session *s)
{
    static char text[512];
    size_t at = 0;
    text[0] = '\0';
    list_for_each(node, &s->parts) {
        const struct fetch_session_part *p = container_of(node, struct fetch_session_part, link);
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%.*s-%d@%lld", at > 0 ? " " : "",
                               (int)p->topic->topic.name.len, p->topic->topic.name.p, p->index,
                               (long long)p->want.offset);
    }
    return text;
}

/* Opens a session on a-0, a-1 and b-0 and ends that request. */
static int32_t open_abc(void)
{
    struct ask a;
    struct fetch_context c;
    cr_assert_eq(begin(want(want(want(ask(&a, 0, 0), "a", 0, 5), "a", 1, 6), "b", 0, 7), &c), 0);
    cr_assert_not_null(c.session);
    int32_t id = c.session->id;
    end(&c);
    return id;
}

/* ---- tests ---- */

Test(fetch_session, without_a_session)
{
    struct ask a;
    struct fetch_context c;
    cr_assert_eq(begin(want(ask(&a, 0, -1), "a", 0, 5), &c), 0);
    cr_assert_null(c.session);
    cr_assert(c.full);
    cr_assert_eq(fetch_sessions_count(cache), 0);
}

Test(fetch_session, opens_with_an_id_that_names_the_shard)
{
    struct ask a;
    struct fetch_context c;
    cr_assert_eq(begin(want(want(ask(&a, 0, 0), "a", 1, 5), "b", 0, 6), &c), 0);
    cr_assert(c.full);
    cr_assert(c.opened);
    cr_assert_gt(c.session->id, 0);
    cr_assert_eq((unsigned)c.session->id % (1u << FETCH_SESSION_SHARD_BITS), SHARD);
    cr_assert_str_eq(parts_of(c.session), "a-1@5 b-0@6");
    end(&c);
}

Test(fetch_session, ids_differ_for_the_same_random_number)
{
    int32_t first = open_abc();
    random_next = 77;
    cr_assert_neq(first, open_abc());
}

Test(fetch_session, the_same_partition_twice_counts_once)
{
    struct ask a;
    struct fetch_context c;
    cr_assert_eq(begin(want(want(ask(&a, 0, 0), "a", 1, 5), "a", 1, 6), &c), 0);
    cr_assert_str_eq(parts_of(c.session), "a-1@6");
    end(&c);
}

Test(fetch_session, a_fetch_of_nothing_is_declined)
{
    struct ask a;
    struct fetch_context c;
    cr_assert_eq(begin(ask(&a, 0, 0), &c), 0);
    cr_assert_null(c.session);
    cr_assert(c.full);
}

Test(fetch_session, incremental_adds_changes_and_forgets)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    cr_assert_eq(begin(ask(&a, id, 1), &c), 0);
    cr_assert_not(c.full);
    cr_assert_not(c.opened);
    cr_assert_str_eq(parts_of(c.session), "a-0@5 a-1@6 b-0@7");
    end(&c);
    cr_assert_eq(begin(forget(want(want(ask(&a, id, 2), "a", 1, 60), "c", 9, 1), "a", 0), &c), 0);
    cr_assert_str_eq(parts_of(c.session), "a-1@60 b-0@7 c-9@1");
    end(&c);
    cr_assert_eq(begin(forget(ask(&a, id, 3), "nowhere", 0), &c), 0);
    cr_assert_str_eq(parts_of(c.session), "a-1@60 b-0@7 c-9@1");
    end(&c);
}

Test(fetch_session, added_and_forgotten_is_forgotten)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    cr_assert_eq(begin(forget(want(ask(&a, id, 1), "c", 0, 1), "c", 0), &c), 0);
    cr_assert_str_eq(parts_of(c.session), "a-0@5 a-1@6 b-0@7");
    end(&c);
}

Test(fetch_session, unknown_id)
{
    struct ask a;
    struct fetch_context c;
    cr_assert_eq(begin(want(ask(&a, 12345, 1), "a", 0, 5), &c), KAFKA_FETCH_SESSION_ID_NOT_FOUND);
    cr_assert_eq(begin(want(ask(&a, 0, 1), "a", 0, 5), &c), KAFKA_FETCH_SESSION_ID_NOT_FOUND);
    cr_assert_eq(begin(want(ask(&a, -7, 1), "a", 0, 5), &c), KAFKA_FETCH_SESSION_ID_NOT_FOUND);
}

Test(fetch_session, wrong_epoch_changes_nothing)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    cr_assert_eq(begin(want(ask(&a, id, 2), "z", 0, 5), &c), KAFKA_INVALID_FETCH_SESSION_EPOCH);
    cr_assert_eq(begin(want(ask(&a, id, -2), "z", 0, 5), &c), KAFKA_INVALID_FETCH_SESSION_EPOCH);
    cr_assert_eq(begin(ask(&a, id, 1), &c), 0);
    cr_assert_str_eq(parts_of(c.session), "a-0@5 a-1@6 b-0@7");
    end(&c);
    cr_assert_eq(begin(ask(&a, id, 1), &c), KAFKA_INVALID_FETCH_SESSION_EPOCH);
}

Test(fetch_session, epoch_wraps_to_one)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    cr_assert_eq(begin(ask(&a, id, 1), &c), 0);
    c.session->next_epoch = INT32_MAX;
    end(&c);
    cr_assert_eq(begin(ask(&a, id, INT32_MAX), &c), 0);
    cr_assert_eq(c.session->next_epoch, 1);
    end(&c);
}

Test(fetch_session, names_and_ids_do_not_mix)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    ask(&a, id, 1);
    cr_assert_eq(fetch_sessions_begin(cache, &a.q, true, now_ns, 1, &c),
                 KAFKA_FETCH_SESSION_TOPIC_ID_ERROR);
}

Test(fetch_session, topics_by_id)
{
    struct ask a;
    struct fetch_context c;
    want(want(ask(&a, 0, 0), "x", 0, 5), "y", 0, 6);
    a.topics[0].topic = a.topics[1].topic = wire_str_of("");
    a.topics[0].topic_id.b[15] = 1;
    a.topics[1].topic_id.b[15] = 2;
    cr_assert_eq(fetch_sessions_begin(cache, &a.q, true, now_ns, 1, &c), 0);
    cr_assert_eq(c.session->parts_n, 2);
    int32_t id = c.session->id;
    end(&c);
    ask(&a, id, 1);
    forget(&a, "", 0);
    a.forgotten[0].topic_id.b[15] = 1;
    cr_assert_eq(fetch_sessions_begin(cache, &a.q, true, now_ns, 1, &c), 0);
    cr_assert_str_eq(parts_of(c.session), "-0@6");
    end(&c);
}

Test(fetch_session, full_fetch_replaces_the_old_session)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    cr_assert_eq(begin(want(ask(&a, id, 0), "z", 0, 5), &c), 0);
    cr_assert(c.full);
    cr_assert_str_eq(parts_of(c.session), "z-0@5");
    cr_assert_eq(fetch_sessions_count(cache), 1);
    end(&c);
}

Test(fetch_session, final_fetch_closes)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    cr_assert_eq(begin(want(ask(&a, id, -1), "a", 0, 5), &c), 0);
    cr_assert_null(c.session);
    cr_assert(c.full);
    cr_assert_eq(fetch_sessions_count(cache), 0);
    cr_assert_eq(begin(ask(&a, id, 1), &c), KAFKA_FETCH_SESSION_ID_NOT_FOUND);
}

Test(fetch_session, forgetting_everything_closes)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    forget(forget(forget(ask(&a, id, 1), "a", 0), "a", 1), "b", 0);
    cr_assert_eq(begin(&a, &c), 0);
    cr_assert_null(c.session);
    cr_assert(c.full);
    cr_assert_eq(fetch_sessions_count(cache), 0);
}

Test(fetch_session, full_cache_declines_until_one_is_idle)
{
    struct ask a;
    struct fetch_context c;
    int32_t oldest = open_abc();
    now_ns += SECOND;
    int32_t newer = open_abc();
    cr_assert_eq(begin(want(ask(&a, 0, 0), "a", 0, 5), &c), 0);
    cr_assert_null(c.session);
    now_ns += SECOND;
    cr_assert_eq(begin(ask(&a, newer, 1), &c), 0); /* is in use */
    end(&c);
    now_ns += FETCH_SESSION_IDLE_NS_MAX;
    cr_assert_eq(begin(want(ask(&a, 0, 0), "a", 0, 5), &c), 0);
    cr_assert_not_null(c.session);
    end(&c);
    cr_assert_eq(fetch_sessions_count(cache), 2);
    cr_assert_eq(begin(ask(&a, oldest, 1), &c), KAFKA_FETCH_SESSION_ID_NOT_FOUND);
    cr_assert_eq(begin(ask(&a, newer, 2), &c), 0);
    end(&c);
}

Test(fetch_session, a_session_at_work_is_not_evicted)
{
    struct ask a;
    struct fetch_context at_work, c;
    cr_assert_eq(begin(want(ask(&a, 0, 0), "a", 0, 5), &at_work), 0);
    open_abc();
    now_ns += FETCH_SESSION_IDLE_NS_MAX + SECOND;
    cr_assert_eq(begin(want(ask(&a, 0, 0), "b", 0, 5), &c), 0);
    cr_assert_null(c.session);
    end(&at_work);
}

Test(fetch_session, memory_is_bounded)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc(); /* 5 units of 20 */
    ask(&a, 0, 0);
    for (int32_t i = 0; i < 15; i++)
        want(&a, "many", i, 0);
    cr_assert_eq(begin(&a, &c), 0); /* 16 more do not fit: declined */
    cr_assert_null(c.session);
    ask(&a, id, 1);
    for (int32_t i = 0; i < 14; i++)
        want(&a, "many", i, 0);
    cr_assert_eq(begin(&a, &c), 0); /* 15 more just do */
    cr_assert_eq(c.session->parts_n, 17);
    end(&c);
    cr_assert_eq(begin(want(ask(&a, id, 2), "a", 9, 0), &c), KAFKA_FETCH_SESSION_ID_NOT_FOUND);
    cr_assert_eq(fetch_sessions_count(cache), 0);
    cr_assert_neq(open_abc(), 0); /* and all its memory came back */
}

Test(fetch_session, what_is_forgotten_lives_until_its_request_ends)
{
    struct ask a;
    struct fetch_context first, second;
    int32_t id = open_abc();
    cr_assert_eq(begin(ask(&a, id, 1), &first), 0);
    struct fetch_session_part *part =
        container_of(list_head(&first.session->parts), struct fetch_session_part, link);
    cr_assert_eq(begin(forget(ask(&a, id, 2), "a", 0), &second), 0);
    end(&second);
    cr_assert(part->gone);
    cr_assert(wire_str_eq(part->topic->topic.name, "a"));
    fetch_session_served(first.session, part); /* must not bring it back */
    cr_assert_str_eq(parts_of(first.session), "a-1@6 b-0@7");
    end(&first);
    cr_assert_eq(begin(want(ask(&a, id, 3), "a", 0, 9), &first), 0); /* again, as a new one */
    cr_assert_str_eq(parts_of(first.session), "a-1@6 b-0@7 a-0@9");
    end(&first);
}

Test(fetch_session, closed_while_at_work)
{
    struct ask a;
    struct fetch_context first, second;
    int32_t id = open_abc();
    cr_assert_eq(begin(ask(&a, id, 1), &first), 0);
    cr_assert_eq(begin(want(ask(&a, id, -1), "a", 0, 5), &second), 0);
    cr_assert_eq(fetch_sessions_count(cache), 0);
    cr_assert_str_eq(parts_of(first.session), "a-0@5 a-1@6 b-0@7");
    end(&first);
}

Test(fetch_session, an_answer_that_never_arrived_keeps_no_session)
{
    struct ask a;
    struct fetch_context c;
    cr_assert_eq(begin(want(ask(&a, 0, 0), "a", 0, 5), &c), 0);
    fetch_sessions_end(cache, c.session, false);
    cr_assert_eq(fetch_sessions_count(cache), 0);
}

Test(fetch_session, only_changes_are_told)
{
    struct ask a;
    struct fetch_context c;
    cr_assert_eq(begin(want(ask(&a, 0, 0), "a", 0, 5), &c), 0);
    struct fetch_session_part *p =
        container_of(list_head(&c.session->parts), struct fetch_session_part, link);
    cr_assert(fetch_session_told(p, 0, 10, 0));
    cr_assert_not(fetch_session_told(p, 0, 10, 0));
    cr_assert(fetch_session_told(p, 0, 11, 0));
    cr_assert(fetch_session_told(p, 0, 11, 3));
    cr_assert_not(fetch_session_told(p, 0, 11, 3));
    cr_assert(fetch_session_told(p, KAFKA_UNKNOWN_TOPIC_ID, -1, -1)); /* an error always */
    cr_assert(fetch_session_told(p, KAFKA_UNKNOWN_TOPIC_ID, -1, -1));
    cr_assert(fetch_session_told(p, 0, 11, 3)); /* and its end, too */
    cr_assert_not(fetch_session_told(p, 0, 11, 3));
    end(&c);
}

Test(fetch_session, served_partitions_go_to_the_end)
{
    struct ask a;
    struct fetch_context c;
    int32_t id = open_abc();
    cr_assert_eq(begin(ask(&a, id, 1), &c), 0);
    fetch_session_served(
        c.session, container_of(list_head(&c.session->parts), struct fetch_session_part, link));
    cr_assert_str_eq(parts_of(c.session), "a-1@6 b-0@7 a-0@5");
    end(&c);
    cr_assert_eq(begin(want(ask(&a, id, 2), "a", 0, 50), &c), 0); /* an update keeps its place */
    cr_assert_str_eq(parts_of(c.session), "a-1@6 b-0@7 a-0@50");
    end(&c);
}
