/* The scripted server and the virtual network themselves: what they promise is what the truth of
 * the load harness is tested against, so times are compared with ==. */
#include "tests/lib/net_sim.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"
#include "io/sock.h"
#include "tests/unit/bench/load/sim_client.h"

#define MS UINT64_C(1000000)

static struct script_broker *broker;
static struct env *env;
static struct client a, b;

static void start(struct script_config script, struct net_sim_config net)
{
    script.port = CLIENT_PORT;
    script.keep_arrivals = true;
    broker = script_create(&script);
    env = net_sim_create(&net, broker, CLIENT_PORT);
    client_open(&a, env);
}

static void stop(void)
{
    client_close(&a);
    env_destroy(env);
    script_destroy(broker);
}

static uint64_t answered_after(const struct client *c, int index)
{
    cr_assert_neq(c->requests[index].answered_ns, 0);
    return c->requests[index].answered_ns - c->requests[index].sent_ns;
}

static const struct produce_response_partition_produce_response *produced(struct client *c,
                                                                          int index)
{
    const struct produce_response *res = client_await(c, index);
    return &res->responses[0].partition_responses[0];
}

/* ---- pace ---- */

Test(net_sim, requests_are_served_one_after_another_over_all_connections)
{
    start((struct script_config){.service_ns = MS}, (struct net_sim_config){0});
    client_open(&b, env);
    uint64_t begin = env_now_ns(env);
    for (int i = 0; i < 6; i++)
        client_produce_numbers(i % 2 == 0 ? &a : &b, i, 3);
    client_await(&b, b.sent_n - 1);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(answered_after(&a, 1 + i), (uint64_t)(2 * i + 1) * MS);
        cr_assert_eq(answered_after(&b, 1 + i), (uint64_t)(2 * i + 2) * MS);
    }
    size_t n;
    const struct script_arrival *arrivals = script_arrivals(broker, &n);
    cr_assert_eq(n, 6);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(arrivals[i].arrival_ns, begin);
        cr_assert_eq(arrivals[i].due_ns, begin + (i + 1) * MS);
        cr_assert_eq(arrivals[i].records, 3);
    }
    cr_assert_eq(script_counters(broker)->backlog_max, 6);
    cr_assert_eq(script_counters(broker)->records, 18);
    cr_assert_eq(script_counters(broker)->busy_ns, 6 * MS);
    client_close(&b);
    stop();
}

Test(net_sim, an_idle_server_begins_at_the_arrival)
{
    start((struct script_config){.service_ns = MS}, (struct net_sim_config){0});
    client_await(&a, client_produce_numbers(&a, 0, 1));
    client_run(&a, env_now_ns(env) + 12345);
    int index = client_produce_numbers(&a, 0, 1);
    client_await(&a, index);
    cr_assert_eq(answered_after(&a, index), MS);
    stop();
}

Test(net_sim, latency_counts_each_way)
{
    start((struct script_config){.service_ns = MS}, (struct net_sim_config){.latency_ns = 70});
    cr_assert_eq(answered_after(&a, 0), 140); /* Metadata */
    int index = client_produce_numbers(&a, 0, 1);
    client_await(&a, index);
    cr_assert_eq(answered_after(&a, index), MS + 140);
    stop();
}

/* 3 records a second: thirds of a second must add up to whole ones. */
Test(net_sim, the_rate_loses_no_nanosecond)
{
    start((struct script_config){.rate_per_s = 3}, (struct net_sim_config){0});
    for (int i = 0; i < 6; i++)
        client_produce_numbers(&a, 0, 1);
    int last = client_produce_numbers(&a, 0, 30);
    client_await(&a, last);
    cr_assert_eq(answered_after(&a, 1), 333333333);
    cr_assert_eq(answered_after(&a, 2), 666666666);
    cr_assert_eq(answered_after(&a, 3), 1000000000);
    cr_assert_eq(answered_after(&a, 6), 2000000000);
    cr_assert_eq(answered_after(&a, last), 12000000000);
    stop();
}

/* ---- freezes ---- */

/* The same by brute force: a server that works in ticks. */
enum { TICK_NS = 500000, FREEZE_REQUESTS = 200 };
struct slow_model {
    uint64_t first, every, freeze, service; /* ticks */
};

static bool model_frozen(const struct slow_model *m, uint64_t tick)
{
    return tick >= m->first && (tick - m->first) % m->every < m->freeze;
}

/* Works on the request in the ticks that are not frozen; done at the end of the last of them. */
static uint64_t model_done(const struct slow_model *m, uint64_t from)
{
    uint64_t left = m->service;
    while (left > 0)
        left -= !model_frozen(m, from++);
    return from;
}

Test(net_sim, freezes_prolong_what_they_meet)
{
    struct slow_model m = {.first = 31, .every = 200, .freeze = 40, .service = 3};
    start((struct script_config){.service_ns = m.service * TICK_NS,
                                 .freeze_first_ns = m.first * TICK_NS,
                                 .freeze_every_ns = m.every * TICK_NS,
                                 .freeze_ns = m.freeze * TICK_NS},
          (struct net_sim_config){0});
    struct rng rng;
    rng_seed(&rng, 7);
    uint64_t begin = env_now_ns(env), at = 0, busy_until = 0, due[FREEZE_REQUESTS];
    for (int i = 0; i < FREEZE_REQUESTS; i++) {
        busy_until = due[i] = model_done(&m, MAX(at, busy_until));
        client_run(&a, begin + at * TICK_NS);
        client_produce_numbers(&a, i, 1);
        at += rng_below(&rng, 9);
    }
    client_await(&a, FREEZE_REQUESTS);
    size_t n;
    const struct script_arrival *arrivals = script_arrivals(broker, &n);
    cr_assert_eq(n, FREEZE_REQUESTS);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(arrivals[i].due_ns - begin, due[i] * TICK_NS, "request %zu", i);
        cr_assert_eq(a.requests[1 + i].answered_ns, arrivals[i].due_ns, "request %zu", i);
    }
    stop();
}

/* One second in ten: the example that everybody uses. */
Test(net_sim, a_second_of_freeze_every_ten)
{
    start((struct script_config){.service_ns = MS,
                                 .freeze_first_ns = 10000 * MS,
                                 .freeze_every_ns = 10000 * MS,
                                 .freeze_ns = 1000 * MS},
          (struct net_sim_config){0});
    uint64_t begin = env_now_ns(env);
    int first = client_produce_numbers(&a, 0, 1);
    client_run(&a, begin + 10000 * MS - MS / 4);
    int met = client_produce_numbers(&a, 0, 1);
    client_run(&a, begin + 10500 * MS);
    int waits = client_produce_numbers(&a, 0, 1);
    client_run(&a, begin + 20000 * MS);
    int second = client_produce_numbers(&a, 0, 1);
    client_await(&a, second);
    cr_assert_eq(answered_after(&a, first), MS);
    cr_assert_eq(answered_after(&a, met), 1001 * MS);
    cr_assert_eq(answered_after(&a, waits), 501 * MS + MS * 3 / 4);
    cr_assert_eq(answered_after(&a, second), 1001 * MS);
    stop();
}

Test(net_sim, one_freeze_only_and_all_else_freezes_too)
{
    start((struct script_config){.freeze_first_ns = 5 * MS, .freeze_ns = 10 * MS},
          (struct net_sim_config){0});
    client_open(&b, env);
    uint64_t begin = env_now_ns(env);
    client_await(&a, client_produce_numbers(&a, 0, 1));
    cr_assert_eq(env_now_ns(env), begin);
    client_run(&a, begin + 7 * MS);
    int fetch = client_fetch(&a, 0, 100, 1);
    int poll = client_fetch(&b, 1, 100, 1);
    client_await(&a, fetch);
    cr_assert_eq(answered_after(&a, fetch), 8 * MS);
    client_await(&b, poll);
    cr_assert_eq(answered_after(&b, poll), 108 * MS, "waits from the first look on");
    int later = client_fetch(&a, 0, 100, 1);
    client_await(&a, later);
    cr_assert_eq(answered_after(&a, later), 0);
    client_close(&b);
    stop();
}

/* ---- order, long polls ---- */

Test(net_sim, answers_keep_the_order_of_the_requests)
{
    start((struct script_config){.service_ns = MS}, (struct net_sim_config){0});
    int produce = client_produce_numbers(&a, 0, 1);
    int fetch = client_fetch(&a, 0, 50, 0); /* min_bytes 0: knows its answer at once */
    client_await(&a, fetch);
    cr_assert_eq(answered_after(&a, produce), MS);
    cr_assert_eq(answered_after(&a, fetch), MS);
    int poll = client_fetch(&a, 1, 50, 1);
    int behind = client_produce_numbers(&a, 1, 1);
    client_await(&a, behind);
    cr_assert_eq(answered_after(&a, poll), MS, "woken by the request behind it");
    cr_assert_eq(answered_after(&a, behind), MS);
    stop();
}

Test(net_sim, a_long_poll_ends_with_data_or_time)
{
    struct client_records got;
    start((struct script_config){.service_ns = MS}, (struct net_sim_config){0});
    client_open(&b, env);
    int empty = client_fetch(&b, 0, 30, 1);
    client_await(&b, empty);
    cr_assert_eq(answered_after(&b, empty), 30 * MS);
    int woken = client_fetch(&b, 0, 30, 1);
    client_produce_numbers(&a, 5, 2);
    client_records(client_await(&b, woken), &got);
    cr_assert_eq(answered_after(&b, woken), MS, "readable when it is done, not when it arrives");
    cr_assert_eq(got.n, 2);
    cr_assert_str_eq(got.values[1], "6");
    int much = client_fetch(&b, 0, 30, 100000);
    client_records(client_await(&b, much), &got);
    cr_assert_eq(answered_after(&b, much), 30 * MS);
    cr_assert_eq(got.n, 2, "what there is when the time is over");
    int beyond = client_fetch(&b, 3, 30, 1);
    const struct fetch_response *res = client_await(&b, beyond);
    cr_assert_eq(res->responses[0].partitions[0].error_code, 1);
    cr_assert_eq(answered_after(&b, beyond), 0, "errors do not wait");
    client_close(&b);
    stop();
}

/* ---- damage ---- */

static const char *const five[] = {"a1", "a2", "a3", "a4", "a5"};
static const char *const more[] = {"b6", "b7"};

struct damage { /* no pointers: criterion copies it into the test's process */
    char name[16], want[32];
    struct script_config script;
    enum batch_codec codec;
};

/* Two batches of five and two records. */
ParameterizedTestParameters(net_sim, damage_is_seen_by_the_reader)
{
    static struct damage cases[] = {
        {"none", "a1 a2 a3 a4 a5 b6 b7 ", {0}, BATCH_NONE},
        {"lose", "a1 a2 a4 a5 b6 b7 ", {.lose_record = 3}, BATCH_NONE},
        {"lose last", "a1 a2 a3 a4 a5 b6 ", {.lose_record = 7}, BATCH_LZ4},
        {"repeat", "a1 a2 a3 a4 a5 a5 b6 b7 ", {.repeat_record = 5}, BATCH_ZSTD},
        {"corrupt", "a1 a2 a3 a4 a5 b\xc9 b7 ", {.corrupt_record = 6}, BATCH_NONE},
        {"swap", "a1 a3 a2 a4 a5 b6 b7 ", {.swap_record = 2}, BATCH_GZIP},
        {"swap moves on", "a1 a2 a3 a4 a5 b7 b6 ", {.swap_record = 5}, BATCH_NONE},
        {"all",
         "a2 a1 a4 a5 a5 b6 b\xc8 ",
         {.lose_record = 3, .repeat_record = 5, .corrupt_record = 7, .swap_record = 1},
         BATCH_SNAPPY},
    };
    return cr_make_param_array(struct damage, cases, ARRAY_LEN(cases));
}

ParameterizedTest(struct damage *d, net_sim, damage_is_seen_by_the_reader)
{
    struct client_records got;
    char text[CLIENT_VALUES_MAX * 8] = "";
    start(d->script, (struct net_sim_config){0});
    int first = client_produce(&a, five, 5, d->codec, -1);
    int second = client_produce(&a, more, 2, d->codec, 1);
    cr_assert_eq(produced(&a, first)->error_code, 0);
    cr_assert_eq(produced(&a, first)->base_offset, 0);
    cr_assert_eq(produced(&a, second)->error_code, 0, "acknowledged as if nothing were");
    client_records(client_await(&a, client_fetch(&a, 0, 0, 1)), &got);
    for (int i = 0; i < got.n; i++) {
        cr_assert_eq(got.offsets[i], i, "%s: offsets are contiguous", d->name);
        strcat(strcat(text, got.values[i]), " ");
    }
    cr_assert_str_eq(text, d->want, "%s", d->name);
    cr_assert_eq(script_counters(broker)->records, 7);
    cr_assert_eq(script_counters(broker)->stored_records, (uint64_t)got.n);
    stop();
}

Test(net_sim, a_batch_whose_only_record_is_lost_leaves_nothing)
{
    start((struct script_config){.lose_record = 2}, (struct net_sim_config){0});
    client_produce_numbers(&a, 0, 1);
    cr_assert_eq(produced(&a, client_produce_numbers(&a, 1, 1))->base_offset, 1);
    cr_assert_eq(produced(&a, client_produce_numbers(&a, 2, 1))->base_offset, 1);
    cr_assert_eq(script_counters(broker)->lost_records, 1);
    stop();
}

Test(net_sim, one_answer_is_lost)
{
    struct client_records got;
    start((struct script_config){.lose_ack = 2}, (struct net_sim_config){0});
    client_produce_numbers(&a, 0, 1);
    a.lost = client_produce_numbers(&a, 1, 1);
    client_await(&a, client_produce_numbers(&a, 2, 1));
    client_records(client_await(&a, client_fetch(&a, 0, 0, 1)), &got);
    cr_assert_eq(got.n, 3, "stored all the same");
    cr_assert_eq(script_counters(broker)->lost_acks, 1);
    stop();
}

Test(net_sim, one_request_is_refused)
{
    struct client_records got;
    start((struct script_config){.error_request = 2, .lose_record = 3}, (struct net_sim_config){0});
    client_produce_numbers(&a, 0, 2);
    cr_assert_eq(produced(&a, client_produce_numbers(&a, 2, 2))->error_code, 6);
    client_produce_numbers(&a, 4, 2);
    client_records(client_await(&a, client_fetch(&a, 0, 0, 1)), &got);
    cr_assert_eq(got.n, 3);
    cr_assert_str_eq(got.values[2], "5", "what is refused has no number");
    stop();
}

Test(net_sim, one_request_closes_the_connection)
{
    struct client_records got;
    start((struct script_config){.close_request = 2, .service_ns = MS},
          (struct net_sim_config){.latency_ns = 1000});
    client_produce_numbers(&a, 0, 1);
    client_produce_numbers(&a, 1, 1);
    client_produce_numbers(&a, 2, 1);
    uint64_t begin = env_now_ns(env);
    while (!a.closed)
        env_turn(env, UINT64_MAX);
    cr_assert_eq(env_now_ns(env) - begin, 2 * MS + 2000);
    cr_assert_eq(a.answered_n, 2, "what came before is answered");
    client_open(&b, env);
    client_records(client_await(&b, client_fetch(&b, 0, 0, 1)), &got);
    cr_assert_eq(got.n, 1, "what came behind it is not read");
    client_close(&b);
    stop();
}

/* ---- the rest of the server ---- */

Test(net_sim, without_acks_nothing_comes_back)
{
    struct client_records got;
    start((struct script_config){.error_request = 2, .service_ns = MS}, (struct net_sim_config){0});
    client_produce(&a, five, 5, BATCH_NONE, 0);
    client_run(&a, env_now_ns(env) + 2 * MS);
    client_records(client_await(&a, client_fetch(&a, 0, 0, 1)), &got);
    cr_assert_eq(got.n, 5);
    client_produce(&a, five, 5, BATCH_NONE, 0);
    client_run(&a, env_now_ns(env) + 2 * MS);
    cr_assert(a.closed, "the only way to tell of an error");
    stop();
}

Test(net_sim, old_batches_are_dropped)
{
    start((struct script_config){.max_records = 10}, (struct net_sim_config){0});
    for (int i = 0; i < 8; i++)
        client_produce_numbers(&a, i * 4, 4);
    client_await(&a, a.sent_n - 1);
    const struct fetch_response *res = client_await(&a, client_fetch(&a, 0, 0, 1));
    cr_assert_eq(res->responses[0].partitions[0].error_code, 1);
    cr_assert_eq(res->responses[0].partitions[0].log_start_offset, 24);
    struct client_records got;
    client_records(client_await(&a, client_fetch(&a, 24, 0, 1)), &got);
    cr_assert_eq(got.n, 8);
    cr_assert_str_eq(got.values[0], "24");
    cr_assert_eq(script_counters(broker)->stored_records, 32);
    stop();
}

Test(net_sim, a_client_that_leaves_is_stored_all_the_same)
{
    struct client_records got;
    start((struct script_config){.service_ns = MS}, (struct net_sim_config){0});
    client_open(&b, env);
    client_produce_numbers(&b, 0, 3);
    client_fetch(&b, 3, 1000, 1);
    env_turn(env, 0);
    client_close(&b);
    client_run(&a, env_now_ns(env) + 2 * MS);
    client_records(client_await(&a, client_fetch(&a, 0, 0, 1)), &got);
    cr_assert_eq(got.n, 3);
    stop();
}

/* A default request of every API in every version that is offered gets an answer that can be
 * decoded to its last byte (answer_take() in sim_client.c). */
Test(net_sim, every_version_offered_is_spoken)
{
    start((struct script_config){0}, (struct net_sim_config){0});
    struct api_versions_request q = {0};
    const struct api_versions_response *res =
        client_await(&a, client_send(&a, API_VERSIONS, 0, &q, true));
    cr_assert_eq(res->api_keys_n, 9);
    for (int32_t i = 0; i < res->api_keys_n; i++) {
        const struct wire_api *api = wire_api_find(res->api_keys[i].api_key);
        cr_assert_leq(res->api_keys[i].max_version, api->max);
        for (int v = MAX(res->api_keys[i].min_version, api->min); v <= res->api_keys[i].max_version;
             v++) {
            bool answered = api->key != PRODUCE; /* whose acks are 0 by default */
            int index = client_send(&a, api->key, v, wire_new(api->request, &a.arena), answered);
            if (answered)
                client_await(&a, index);
        }
        cr_assert(!a.closed);
    }
    stop();
}

Test(net_sim, unknown_versions)
{
    start((struct script_config){0}, (struct net_sim_config){0});
    struct api_versions_request q = {0};
    int index = client_send(&a, API_VERSIONS, 5, &q, true);
    a.requests[index].version = 0; /* what the answer is to be read as */
    const struct api_versions_response *res = client_await(&a, index);
    cr_assert_eq(res->error_code, 35);
    cr_assert_eq(res->api_keys_n, 9);
    struct metadata_request m = {0};
    client_send(&a, METADATA, 13, &m, true);
    client_run(&a, env_now_ns(env) + 1);
    cr_assert(a.closed);
    stop();
}

/* ---- the environment ---- */

/* Whatever the splits, the server sees the same, and the client the same at the same times. */
Test(net_sim, splits_change_nothing_but_the_pieces)
{
    uint64_t answered_ns[2][100];
    for (int split = 0; split < 2; split++) {
        start((struct script_config){.service_ns = MS / 10, .rate_per_s = 7000},
              (struct net_sim_config){.seed = 11, .split = split == 1, .latency_ns = 3000});
        for (int i = 0; i < 99; i++) {
            client_produce_numbers(&a, i, 1 + i % 50);
            if (i % 3 == 0)
                client_run(&a, env_now_ns(env) + MS);
        }
        client_await(&a, 99);
        for (int i = 0; i < 100; i++)
            answered_ns[split][i] = a.requests[i].answered_ns;
        cr_assert_gt(env->counters.completions, split == 0 ? 200 : 300);
        stop();
    }
    for (int i = 0; i < 100; i++)
        cr_assert_eq(answered_ns[0][i], answered_ns[1][i], "answer %d", i);
}

struct waiter {
    struct env_op op;
    int done;
    bool submitting;
};

static void on_waiter_done(struct env_op *op)
{
    struct waiter *w = container_of(op, struct waiter, op);
    cr_assert(!w->submitting, "called back inside the submission");
    cr_assert(!op->busy);
    w->done++;
}

static void waiter_turn(struct waiter *w)
{
    cr_assert(w->op.busy);
    w->submitting = false;
    for (int done = w->done; w->done == done;)
        env_turn(env, UINT64_MAX);
}

Test(net_sim, connects_are_refused)
{
    struct sock_addr wrong, right;
    struct waiter w = {.submitting = true};
    start((struct script_config){0}, (struct net_sim_config){.latency_ns = 50});
    cr_assert_eq(sock_resolve("127.0.0.1", CLIENT_PORT + 1, &wrong), 0);
    cr_assert_eq(sock_resolve("127.0.0.1", CLIENT_PORT, &right), 0);
    uint64_t begin = env_now_ns(env);
    env_connect(env, &w.op, &wrong, on_waiter_done);
    waiter_turn(&w);
    cr_assert_eq(w.op.res, -ECONNREFUSED);
    cr_assert_eq(env_now_ns(env) - begin, 100);
    net_sim_refuse(env, true);
    env_connect(env, &w.op, &right, on_waiter_done);
    waiter_turn(&w);
    cr_assert_eq(w.op.res, -ECONNREFUSED);
    net_sim_refuse(env, false);
    env_connect(env, &w.op, &right, on_waiter_done);
    env_sock_shutdown(env, w.op.sock); /* gives up on it */
    waiter_turn(&w);
    cr_assert_eq(w.op.res, -ECONNABORTED);
    env_connect(env, &w.op, &right, on_waiter_done);
    env_turn(env, 0);
    env_sock_shutdown(env, w.op.sock); /* when it is on its way */
    waiter_turn(&w);
    cr_assert_eq(w.op.res, -ECONNABORTED);
    stop();
}

Test(net_sim, receives_of_all_and_of_lent_buffers)
{
    static const uint8_t bad[] = {0, 0, 0, 2, 9, 9},
                         ask[] = {0, 0, 0, 11, 0, 18, 0, 0, 0, 0, 0, 77, 0, 1, 'x'};
    struct sock_addr addr;
    struct waiter c = {0}, s = {0}, r = {0};
    uint8_t head[8];
    struct iovec iov[2] = {{(void *)(uintptr_t)ask, 5}, {(void *)(uintptr_t)(ask + 5), 10}};
    start((struct script_config){0}, (struct net_sim_config){.split = true, .seed = 3});
    cr_assert_eq(sock_resolve("127.0.0.1", CLIENT_PORT, &addr), 0);
    env_connect(env, &c.op, &addr, on_waiter_done);
    waiter_turn(&c);
    env_sendv(env, &s.op, c.op.res, iov, 2, on_waiter_done, NULL);
    env_recv(env, &r.op, c.op.res, head, sizeof(head), ENV_RECV_ALL, on_waiter_done);
    waiter_turn(&r);
    cr_assert_eq(s.op.res, 15);
    cr_assert_eq(r.op.res, 8);
    cr_assert_eq(be_load32(head + 4), 77);
    uint32_t rest = be_load32(head) - 4;
    for (uint32_t n = 0; n < rest; n += (uint32_t)r.op.res) {
        env_recv_any(env, &r.op, c.op.res, on_waiter_done);
        waiter_turn(&r);
        cr_assert_gt(r.op.res, 0);
        env_recv_return(env, &r.op);
    }
    iov[0] = (struct iovec){(void *)(uintptr_t)bad, sizeof(bad)};
    env_sendv(env, &s.op, c.op.res, iov, 1, on_waiter_done, NULL);
    env_recv(env, &r.op, c.op.res, head, sizeof(head), ENV_RECV_ALL, on_waiter_done);
    waiter_turn(&r);
    cr_assert_eq(r.op.res, 0, "what is no request closes the connection");
    env_sendv(env, &s.op, c.op.res, iov, 1, on_waiter_done, NULL);
    waiter_turn(&s);
    cr_assert_eq(s.op.res, -EPIPE);
    env_sock_close(env, c.op.res);
    stop();
}

static void on_message(void *shard, struct env_msg *msg)
{
    (void)msg;
    ++*(int *)shard;
}

Test(net_sim, messages_deadlines_and_what_there_is_not)
{
    int messages = 0;
    struct env_msg msg = {.run = on_message};
    struct waiter w = {.submitting = true};
    struct env_name_step step = {.kind = ENV_STEP_STAT, .path = "/"};
    start((struct script_config){0}, (struct net_sim_config){.shard = &messages});
    uint64_t begin = env_now_ns(env);
    int64_t wall = env_wall_ms(env);
    env_post(env, 0, &msg);
    cr_assert_eq(messages, 0);
    env_turn(env, UINT64_MAX);
    cr_assert_eq(messages, 1);
    cr_assert_eq(env_now_ns(env), begin);
    env_turn(env, begin + 1500 * MS);
    cr_assert_eq(env_now_ns(env), begin + 1500 * MS);
    cr_assert_eq(env_wall_ms(env), wall + 1500);
    net_sim_advance(env, 5);
    cr_assert_eq(env_now_ns(env), begin + 1500 * MS + 5);
    env_names(env, &w.op, &step, 1, on_waiter_done);
    waiter_turn(&w);
    cr_assert_eq(w.op.res, -ENOSYS);
    stop();
}

/* A client that stands still: the server and the links go on, the answer waits. */
Test(net_sim, time_passes_a_client_that_stands_still)
{
    start((struct script_config){.service_ns = MS}, (struct net_sim_config){0});
    int index = client_produce_numbers(&a, 0, 1);
    env_turn(env, 0);
    net_sim_advance(env, 10 * MS);
    cr_assert_eq(a.requests[index].answered_ns, 0);
    client_await(&a, index);
    cr_assert_eq(answered_after(&a, index), 10 * MS);
    cr_assert_eq(script_counters(broker)->last_due_ns, a.requests[index].sent_ns + MS);
    stop();
}

Test(net_sim, waiting_for_ever_is_a_bug, .signal = SIGABRT)
{
    start((struct script_config){0}, (struct net_sim_config){0});
    fclose(stderr);
    env_turn(env, UINT64_MAX);
}

static void on_nothing(struct env_op *op)
{
    (void)op;
}

Test(net_sim, changing_lent_bytes_is_a_bug, .signal = SIGABRT)
{
    static char byte = 'x';
    static struct iovec iov = {&byte, 1};
    static struct env_op op;
    start((struct script_config){0}, (struct net_sim_config){.split = true, .seed = 1});
    fclose(stderr);
    env_sendv(env, &op, a.sock, &iov, 1, on_nothing, on_nothing);
    env_turn(env, 0);
    byte = 'y';
    for (int i = 0; i < 100; i++)
        env_turn(env, env_now_ns(env) + 1);
}
