#include "test_uring_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/list.h"

/* A shard of these tests: a thread that turns its environment until told to stop. */
struct peer {
    struct env_uring_group *group;
    const struct io_features *features;
    unsigned index;
    pthread_t thread;
    struct env *env;
    void (*start)(struct peer *p); /* on its thread, before the first turn */
    uint64_t got, expect;
    uint64_t last[4]; /* by sender: the last number, to check the order */
    bool stop;
    struct env_counters counters; /* at the end */
};

struct note {
    struct env_msg msg;
    uint64_t number;
    _Atomic bool out; /* posted and not run yet */
};

static pthread_barrier_t all_made, all_done;

static void *peer_main(void *arg)
{
    struct peer *p = arg;
    struct env_uring_config config = {
        .index = p->index, .group = p->group, .shard = p, .features = p->features};
    cr_assert_eq(env_uring_create(&config, &p->env), 0);
    pthread_barrier_wait(&all_made);
    if (p->start != NULL)
        p->start(p);
    while (!p->stop)
        env_turn(p->env, UINT64_MAX);
    p->counters = p->env->counters;
    env_turn(p->env, 0); /* wake-ups still owed */
    pthread_barrier_wait(&all_done);
    env_destroy(p->env);
    return NULL;
}

static void peers_run(struct peer *peers, unsigned n)
{
    pthread_barrier_init(&all_made, NULL, n);
    pthread_barrier_init(&all_done, NULL, n);
    for (unsigned i = 0; i < n; i++)
        cr_assert_eq(pthread_create(&peers[i].thread, NULL, peer_main, &peers[i]), 0);
    for (unsigned i = 0; i < n; i++)
        pthread_join(peers[i].thread, NULL);
}

/* Ping-pong: one message goes to and fro; a lost wake-up stops it for ever (and the timeout of the
 * test then fails it, as every turn here waits without end). */
static uint64_t pings;

static void on_ping(void *shard, struct env_msg *msg)
{
    struct peer *p = shard;
    struct note *note = container_of(msg, struct note, msg);
    cr_assert_eq(msg->from, 1 - p->index);
    p->got++;
    if (note->number++ >= pings)
        p->stop = true;
    if (note->number <= pings + 1) /* the last one tells the other side to stop, too */
        env_post(p->env, 1 - p->index, msg);
}

static struct note ping;

static void ping_start(struct peer *p)
{
    ping.msg.run = on_ping;
    env_post(p->env, 1, &ping.msg);
}

static void ping_pong(const struct io_features *features, uint64_t count)
{
    struct env_uring_group *group;
    pings = count;
    cr_assert_eq(env_uring_group_create(2, &group), 0);
    struct peer peers[2] = {
        {.group = group, .features = features, .index = 0, .start = ping_start},
        {.group = group, .features = features, .index = 1},
    };
    ping.number = 0;
    peers_run(peers, 2);
    cr_assert_geq(peers[0].got + peers[1].got, count);
    env_uring_group_destroy(group);
}

Test(uring_post, ping_pong, .timeout = 120)
{
    struct io_features features;
    features_get(&features);
    cr_assert(features.msg_ring);
    ping_pong(&features, 1000000);
}

Test(uring_post, ping_pong_by_eventfd, .timeout = 120)
{
    struct io_features features;
    features_get(&features);
    features.msg_ring = false;
    ping_pong(&features, 50000);
}

/* Bursts: each peer sends to all others in bursts that overflow the rings, and sleeps between them
 * when it has nothing to do. A note comes back to its sender before it is used again. */
enum { PEERS = 3, NOTES = 1000, BURSTS = 200 };
static struct note notes[PEERS][PEERS][NOTES];
static uint64_t sent[PEERS][PEERS];

static void burst_send(struct peer *p, unsigned to);

static void on_returned(void *shard, struct env_msg *msg)
{
    struct peer *p = shard;
    struct note *note = container_of(msg, struct note, msg);
    unsigned to = msg->from;
    cr_assert(atomic_load(&note->out));
    atomic_store(&note->out, false);
    if (note->number % NOTES == 0) /* the last of a burst */
        burst_send(p, to);
}

static void on_note(void *shard, struct env_msg *msg)
{
    struct peer *p = shard;
    struct note *note = container_of(msg, struct note, msg);
    unsigned from = msg->from;
    cr_assert_eq(note->number, p->last[from] + 1, "from %u: %lu after %lu", from,
                 (unsigned long)note->number, (unsigned long)p->last[from]);
    p->last[from] = note->number;
    p->got++;
    msg->run = on_returned;
    env_post(p->env, from, msg);
}

static void burst_send(struct peer *p, unsigned to)
{
    if (sent[p->index][to] == (uint64_t)NOTES * BURSTS)
        return;
    for (unsigned i = 0; i < NOTES; i++) {
        struct note *note = &notes[p->index][to][i];
        cr_assert(!atomic_exchange(&note->out, true));
        note->msg.run = on_note;
        note->number = ++sent[p->index][to];
        env_post(p->env, to, &note->msg);
    }
}

static void burst_start(struct peer *p)
{
    p->expect = (uint64_t)(PEERS - 1) * NOTES * BURSTS;
    for (unsigned to = 0; to < PEERS; to++)
        if (to != p->index)
            burst_send(p, to);
    /* Ends when all came and all of ours came back. */
    for (;;) {
        bool idle = p->got == p->expect;
        for (unsigned to = 0; to < PEERS; to++)
            for (unsigned i = 0; idle && i < NOTES; i++)
                idle = !atomic_load(&notes[p->index][to][i].out);
        if (idle)
            break;
        env_turn(p->env, UINT64_MAX);
    }
    p->stop = true;
}

Test(uring_post, bursts_between_three, .timeout = 120)
{
    struct env_uring_group *group;
    struct io_features features;
    features_get(&features);
    cr_assert_eq(env_uring_group_create(PEERS, &group), 0);
    struct peer peers[PEERS];
    for (unsigned i = 0; i < PEERS; i++)
        peers[i] =
            (struct peer){.group = group, .features = &features, .index = i, .start = burst_start};
    peers_run(peers, PEERS);
    for (unsigned i = 0; i < PEERS; i++) {
        cr_assert_eq(peers[i].got, peers[i].expect);
        /* Wake-ups are batched: far fewer system calls than messages. */
        cr_assert_lt(peers[i].counters.syscalls * 4, peers[i].counters.messages);
    }
    env_uring_group_destroy(group);
}

/* To oneself: in the next turn, never within env_post, and in order. */
static unsigned self_ran;
static void on_self(void *shard, struct env_msg *msg)
{
    (void)shard;
    cr_assert_eq(container_of(msg, struct note, msg)->number, self_ran);
    self_ran++;
}

Test(uring_post, to_oneself)
{
    struct env *env = env_make(NULL, 0);
    struct note own[3] = {0};
    for (unsigned i = 0; i < 3; i++) {
        own[i].number = i;
        own[i].msg.run = on_self;
        env_post(env, 0, &own[i].msg);
    }
    cr_assert_eq(self_ran, 0);
    env_turn(env, UINT64_MAX);
    cr_assert_eq(self_ran, 3);
    env_destroy(env);
}

/* From outside: the main thread stops shards that sleep. */
static void on_stop(void *shard, struct env_msg *msg)
{
    struct peer *p = shard;
    cr_assert_eq(msg->from, 2);
    p->stop = true;
}

static struct env_uring_group *outside_group;
static void *outside_main(void *arg)
{
    static struct env_msg stops[2];
    (void)arg;
    pthread_barrier_wait(&all_made);
    usleep(100000);
    for (unsigned i = 0; i < 2; i++) {
        stops[i].run = on_stop;
        cr_assert_eq(env_uring_group_wake(outside_group, i, &stops[i]), 0);
    }
    cr_assert_eq(env_uring_group_wake(outside_group, 2, &stops[0]), -EINVAL);
    return NULL;
}

Test(uring_post, wake_from_outside, .timeout = 20)
{
    pthread_t outside;
    cr_assert_eq(env_uring_group_create(2, &outside_group), 0);
    struct peer peers[2] = {{.group = outside_group, .index = 0},
                            {.group = outside_group, .index = 1}};
    pthread_barrier_init(&all_made, NULL, 3);
    pthread_barrier_init(&all_done, NULL, 2);
    pthread_create(&outside, NULL, outside_main, NULL);
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&peers[i].thread, NULL, peer_main, &peers[i]);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(peers[i].thread, NULL);
    pthread_join(outside, NULL);
    env_uring_group_destroy(outside_group);
}

Test(uring_post, a_message_may_come_before_its_shard, .timeout = 20)
{
    struct env_uring_group *group;
    struct peer p = {.index = 1};
    static struct env_msg stop = {.run = on_stop};
    cr_assert_eq(env_uring_group_create(2, &group), 0);
    cr_assert_eq(env_uring_group_wake(group, 1, &stop), 0);
    struct env_uring_config config = {.index = 1, .group = group, .shard = &p};
    cr_assert_eq(env_uring_create(&config, &p.env), 0);
    while (!p.stop)
        env_turn(p.env, UINT64_MAX);
    env_destroy(p.env);
    env_uring_group_destroy(group);
}

Test(uring_post, idle_turns_use_no_cpu)
{
    struct env *env = env_make(NULL, 0);
    env_turn(env, 0); /* arms the bell */
    uint64_t start_ns = now_ns(), cpu_ns = thread_cpu_ns(), turns = 0;
    while (now_ns() < start_ns + 500000000u) {
        env_turn(env, start_ns + 500000000u);
        turns++;
    }
    cpu_ns = thread_cpu_ns() - cpu_ns;
    cr_assert_leq(turns, 3, "%lu turns", (unsigned long)turns);
    cr_assert_lt(cpu_ns, 5000000u, "%lu ns", (unsigned long)cpu_ns);
    cr_assert_geq(env_now_ns(env), start_ns + 500000000u);
    /* A turn that must not wait does not, and needs no system call when nothing is to do. */
    uint64_t calls = env->counters.syscalls;
    for (unsigned i = 0; i < 100; i++)
        env_turn(env, 0);
    cr_assert_eq(env->counters.syscalls, calls);
    env_destroy(env);
}

static int64_t wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

Test(uring_post, clocks_and_random)
{
    struct env *a = env_make(NULL, 0), *b = env_make(NULL, 0);
    cr_assert_neq(env_random(a), env_random(b));
    cr_assert_neq(env_random(a), env_random(a));
    int64_t before_ms = wall_ms(), env_ms = env_wall_ms(a), after_ms = wall_ms();
    cr_assert_geq(env_ms, before_ms - 2000);
    cr_assert_leq(env_ms, after_ms + 2000);
    uint64_t then = env_now_ns(a);
    env_turn(a, then + 20000000u);
    cr_assert_geq(env_now_ns(a), then + 20000000u);
    env_destroy(a);
    env_destroy(b);
}
