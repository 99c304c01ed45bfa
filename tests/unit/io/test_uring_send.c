/* Sends without a copy, over loopback, where the kernel copies them on the way and says so. */
#include "test_uring_fixture.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/sock.h"

#define REGION_BYTES (4u << 20)

static struct env *env;
static struct io_features features;
static unsigned char *region; /* registered */

static void setup(void)
{
    features_get(&features);
    region = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(region, MAP_FAILED);
    struct iovec fixed = {region, REGION_BYTES};
    struct env_uring_config config = {.features = &features, .fixed = &fixed, .fixed_n = 1};
    cr_assert_eq(env_uring_create(&config, &env), 0);
}

static void teardown(void)
{
    env_destroy(env);
    munmap(region, REGION_BYTES);
}

static void wait_released(struct waited *w)
{
    uint64_t limit_ns = now_ns() + UINT64_C(10000000000);
    while (w->released_n == 0 && now_ns() < limit_ns)
        env_turn(env, limit_ns);
    cr_assert_eq(w->done_n, 1);
    cr_assert_eq(w->released_n, 1);
}

/* Small and large pieces, of registered memory and of other, several sends; all in order. */
static void send_all(void)
{
    enum { SENDS = 8, PIECES = 4, BYTES = 1500000 };
    int client, server;
    static const size_t ends[PIECES] = {100, 1000100, 1000350, BYTES};
    struct waited w[SENDS] = {0};
    struct iovec iov[SENDS][PIECES];
    unsigned char *other = blocks_make(block_ceil(BYTES), 5);
    pattern_fill(region, BYTES, 5);
    narrow_pair_make(1 << 20, &client, &server);
    struct slow_reader reader = {.fd = client,
                                 .expect = (size_t)SENDS * BYTES,
                                 .piece_bytes = 100000,
                                 .pause_us = 500,
                                 .got = malloc((size_t)SENDS * BYTES)};
    pthread_t thread;
    pthread_create(&thread, NULL, slow_reader_main, &reader);
    for (unsigned i = 0; i < SENDS; i++) {
        for (unsigned k = 0; k < PIECES; k++) {
            size_t from = k == 0 ? 0 : ends[k - 1];
            iov[i][k] = (struct iovec){(k % 2 == 0 ? other : region) + from, ends[k] - from};
        }
        env_sendv_zc(env, &w[i].op, server, iov[i], PIECES, on_waited, on_waited_released);
        cr_assert_eq(wait_for(env, &w[i], 1), BYTES); /* done, not released: the next may go */
    }
    for (unsigned i = 0; i < SENDS; i++)
        wait_released(&w[i]);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < SENDS; i++)
        cr_assert(pattern_is(reader.got + (size_t)i * BYTES, BYTES, 5), "send %u", i);
    const struct env_counters *n = &env->counters;
    cr_assert_eq(n->egress_bytes[ENV_EGRESS_SEND] + n->egress_bytes[ENV_EGRESS_SEND_ZC],
                 (uint64_t)SENDS * BYTES);
    cr_assert_eq(w[0].op.copied, features.send_zc_report);
    close(client);
    close(server);
    free(reader.got);
    free(other);
}

Test(uring_send, zero_copy_arrives_whole, .init = setup, .fini = teardown, .timeout = 30)
{
    if (!features.send_zc)
        cr_skip_test("no zero-copy send here");
    send_all();
    cr_assert_gt(env->counters.egress_bytes[ENV_EGRESS_SEND_ZC], 8u * 1400000u);
    cr_assert_eq(env->counters.zc_copied > 0, features.send_zc_report);
}

Test(uring_send, without_the_feature_it_copies, .timeout = 30)
{
    features_get(&features);
    setup();
    env_destroy(env);
    features.send_zc = features.send_zc_report = false;
    struct env_uring_config config = {.features = &features};
    cr_assert_eq(env_uring_create(&config, &env), 0);
    send_all();
    cr_assert_eq(env->counters.egress_bytes[ENV_EGRESS_SEND_ZC], 0);
    teardown();
}

/* The peer does not read: done, but not released, until the connection is given up. */
Test(uring_send, abort_releases_what_nobody_takes, .init = setup, .fini = teardown, .timeout = 30)
{
    enum { BYTES = 256 << 10 };
    int client, server, room = 4 * BYTES;
    struct waited w = {0};
    struct iovec iov = {region, BYTES};
    if (!features.send_zc)
        cr_skip_test("no zero-copy send here");
    narrow_pair_make(4096, &client, &server);
    if (setsockopt(server, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
        cr_skip_test("only root may have so large a send buffer");
    env_sendv_zc(env, &w.op, server, &iov, 1, on_waited, on_waited_released);
    cr_assert_eq(wait_for(env, &w, 1), BYTES);
    uint64_t until_ns = now_ns() + 100000000u;
    while (now_ns() < until_ns)
        env_turn(env, until_ns);
    cr_assert_eq(w.released_n, 0, "the peer has not taken them");
    env_sock_shutdown(env, server);
    env_sock_abort(env, server);
    wait_released(&w);
    close(client);
}
