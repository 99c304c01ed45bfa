/* Files to sockets through pipes: whole, in order with what is sent before and behind, partial when
 * the peer dawdles, and ended by every error. */
#include "test_uring_fixture.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/page_cache.h"
#include "io/sock.h"

enum { FILE_BYTES = 5 << 20, HEAD_BYTES = 40, AT = 4096 * 3 + 77 };

static struct env *env;
static struct test_dir dir;
static struct env_file *file; /* FILE_BYTES of pattern 3 */

static void setup_with(const struct io_features *features)
{
    signal(SIGPIPE, SIG_IGN); /* as the broker does */
    dir_make(&dir);
    env = env_make(features, 0);
    unsigned char *blocks = blocks_make(FILE_BYTES, 3);
    struct env_file *direct = file_make(env, dir_name(&dir, "f"), FILE_BYTES);
    cr_assert_eq(env_write_wait(env, direct, blocks, FILE_BYTES, 0, 0), FILE_BYTES);
    env_file_close(env, direct);
    free(blocks);
    struct env_name_step step = {.kind = ENV_STEP_OPEN_CACHED, .path = dir_name(&dir, "f")};
    int rc = env_names_wait(env, &step, 1);
    if (rc == -EOPNOTSUPP)
        cr_skip_test("no direct writes on the disk of the tests");
    cr_assert_eq(rc, 0);
    file = step.ret_file;
}

static void setup(void)
{
    setup_with(NULL);
}

/* What is in memory cannot be known: workers move it all. */
static void setup_unknown(void)
{
    struct io_features features;
    features_get(&features);
    features.cachestat = false;
    setup_with(&features);
}

static void teardown(void)
{
    env_destroy(env);
    dir_remove(&dir);
}

/* The bytes of the file from `at` on. */
static bool is_file(const unsigned char *got, size_t at, size_t len_bytes)
{
    unsigned char *all = blocks_make(FILE_BYTES, 3);
    bool same = memcmp(got, all + at, len_bytes) == 0;
    free(all);
    return same;
}

/* Header, piece of the file, trailer, all of it twice: with ends at no block's boundary. */
static void splice_all(int window, unsigned pause_us)
{
    enum { BYTES = FILE_BYTES - AT - 5, ROUND = HEAD_BYTES + BYTES + HEAD_BYTES };
    int client, server;
    unsigned char head[HEAD_BYTES];
    pattern_fill(head, sizeof(head), 9);
    narrow_pair_make(window, &client, &server);
    struct slow_reader reader = {.fd = client,
                                 .expect = (size_t)2 * ROUND,
                                 .piece_bytes = 60000,
                                 .pause_us = pause_us,
                                 .got = malloc((size_t)2 * ROUND)};
    pthread_t thread;
    pthread_create(&thread, NULL, slow_reader_main, &reader);
    struct iovec iov = {head, sizeof(head)};
    struct env_extent extent = {.file = file, .offset_bytes = AT, .len_bytes = BYTES};
    for (unsigned i = 0; i < 2; i++) {
        struct waited w[3] = {0};
        env_sendv_more(env, &w[0].op, server, &iov, 1, on_waited, on_waited_released);
        cr_assert_eq(wait_for(env, &w[0], 1), HEAD_BYTES);
        env_splice(env, &w[1].op, server, &extent, ENV_SEND_MORE, on_waited, on_waited_released);
        cr_assert_eq(wait_for(env, &w[1], 1), BYTES);
        cr_assert_eq(w[1].released_n, 1);
        env_sendv(env, &w[2].op, server, &iov, 1, on_waited, on_waited_released);
        cr_assert_eq(wait_for(env, &w[2], 1), HEAD_BYTES);
    }
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 2; i++) {
        const unsigned char *got = reader.got + (size_t)i * ROUND;
        cr_assert(pattern_is(got, HEAD_BYTES, 9));
        cr_assert(is_file(got + HEAD_BYTES, AT, BYTES));
        cr_assert(pattern_is(got + HEAD_BYTES + BYTES, HEAD_BYTES, 9));
    }
    cr_assert_eq(env->counters.egress_bytes[ENV_EGRESS_SPLICE], 2u * BYTES);
    cr_assert_eq(fcntl(server, F_GETFL) & O_NONBLOCK, 0);
    close(client);
    close(server);
    free(reader.got);
}

Test(uring_splice, arrives_whole_between_sends, .init = setup, .fini = teardown, .timeout = 30)
{
    splice_all(1 << 20, 0);
}

Test(uring_splice, arrives_whole_by_workers, .init = setup_unknown, .fini = teardown, .timeout = 30)
{
    splice_all(1 << 20, 0);
}

Test(uring_splice, a_slow_reader_gets_it_by_and_by, .init = setup, .fini = teardown, .timeout = 30)
{
    uint64_t cpu_ns = thread_cpu_ns();
    splice_all(16384, 500);
    cr_assert_lt(thread_cpu_ns() - cpu_ns, UINT64_C(1000000000));
}

/* What is in memory: the last of it is with the socket before anything went to the ring. */
Test(uring_splice, what_is_in_memory_needs_no_worker, .init = setup, .fini = teardown,
     .timeout = 30)
{
    enum { BYTES = 64 << 10 };
    int client, server;
    unsigned char *got = malloc(FILE_BYTES);
    int fd = open(dir_name(&dir, "f"), O_RDONLY | O_CLOEXEC);
    cr_assert_eq(read(fd, got, FILE_BYTES), FILE_BYTES);
    if (page_cache_pages(fd, 0, FILE_BYTES) < 0)
        cr_skip_test("this kernel does not say what is in memory");
    narrow_pair_make(1 << 20, &client, &server);
    for (unsigned cached = 0; cached < 2; cached++) {
        if (!cached)
            cr_assert_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        else
            cr_assert_eq(pread(fd, got, FILE_BYTES, 0), FILE_BYTES);
        struct waited w = {0};
        struct env_extent extent = {.file = file, .offset_bytes = AT, .len_bytes = BYTES};
        uint64_t before = env->counters.egress_bytes[ENV_EGRESS_SPLICE];
        env_splice(env, &w.op, server, &extent, 0, on_waited, on_waited_released);
        cr_assert_eq(w.done_n, 0);
        cr_assert_eq(env->counters.egress_bytes[ENV_EGRESS_SPLICE] - before, cached ? BYTES : 0);
        cr_assert_eq(wait_for(env, &w, 1), BYTES);
        cr_assert_eq(recv(client, got, BYTES, MSG_WAITALL), BYTES);
        cr_assert(is_file(got, AT, BYTES));
    }
    free(got);
    close(fd);
    close(client);
    close(server);
}

/* Nobody reads: the shard goes on with other work, and the op ends when the connection does. */
Test(uring_splice, nobody_reads_and_nobody_waits, .init = setup, .fini = teardown, .timeout = 30)
{
    int client, server;
    narrow_pair_make(16384, &client, &server);
    struct waited w = {0}, other = {0};
    struct env_extent extent = {.file = file, .len_bytes = FILE_BYTES};
    env_splice(env, &w.op, server, &extent, 0, on_waited, on_waited_released);
    uint64_t limit_ns = now_ns() + UINT64_C(10000000000);
    while (env->counters.egress_bytes[ENV_EGRESS_SPLICE] == 0 && now_ns() < limit_ns)
        env_turn(env, limit_ns);
    uint64_t end_ns = now_ns() + 100000000;
    while (now_ns() < end_ns)
        env_turn(env, end_ns);
    cr_assert_eq(w.done_n, 0);
    cr_assert_gt(env->counters.egress_bytes[ENV_EGRESS_SPLICE], 0);
    env_names(env, &other.op, NULL, 0, on_waited);
    cr_assert_eq(wait_for(env, &other, 1), 0);
    env_sock_shutdown(env, server);
    cr_assert_eq(wait_for(env, &w, 1), -EPIPE);
    cr_assert_eq(w.released_n, 1);
    close(client);
    close(server);
}

Test(uring_splice, a_file_that_was_cut_is_an_error, .init = setup, .fini = teardown, .timeout = 30)
{
    int client, server;
    narrow_pair_make(1 << 20, &client, &server);
    struct waited w = {0};
    struct env_extent extent = {
        .file = file, .offset_bytes = FILE_BYTES - 1000, .len_bytes = 100000};
    env_splice(env, &w.op, server, &extent, 0, on_waited, on_waited_released);
    cr_assert_eq(wait_for(env, &w, 1), -EIO);
    cr_assert_eq(env->counters.egress_bytes[ENV_EGRESS_SPLICE], 1000);
    close(client);
    close(server);
}

/* What the socket holds is what the file was, though the file is gone and its space written anew.
 */
Test(uring_splice, sent_bytes_outlive_direct_writes, .init = setup, .fini = teardown, .timeout = 30)
{
    enum { BYTES = 64 << 10 };
    int client, server;
    unsigned char got[BYTES];
    narrow_pair_make(1 << 20, &client, &server);
    struct waited w = {0};
    struct env_extent extent = {.file = file, .offset_bytes = AT, .len_bytes = BYTES};
    env_splice(env, &w.op, server, &extent, 0, on_waited, on_waited_released);
    cr_assert_eq(wait_for(env, &w, 1), BYTES);
    struct env_name_step step = {.kind = ENV_STEP_OPEN, .path = dir_name(&dir, "f")};
    cr_assert_eq(env_names_wait(env, &step, 1), 0);
    unsigned char *other = blocks_make(FILE_BYTES, 8);
    cr_assert_eq(env_write_wait(env, step.ret_file, other, FILE_BYTES, 0, 0), FILE_BYTES);
    env_file_close(env, file);
    cr_assert_eq(recv(client, got, BYTES, MSG_WAITALL), BYTES);
    cr_assert(is_file(got, AT, BYTES));
    free(other);
    close(client);
    close(server);
}

/* Destroyed in the middle: nothing hangs, and no descriptor is left. */
Test(uring_splice, destroyed_with_pipes_in_use, .init = setup, .timeout = 30)
{
    enum { OPS = 40 };
    struct waited w[OPS] = {0};
    int client[OPS], server[OPS];
    struct env_extent extent = {.file = file, .len_bytes = FILE_BYTES};
    int before = dup(0);
    close(before);
    for (unsigned i = 0; i < OPS; i++)
        narrow_pair_make(16384, &client[i], &server[i]);
    for (unsigned i = 0; i < OPS; i++)
        env_splice(env, &w[i].op, server[i], &extent, 0, on_waited, on_waited_released);
    uint64_t end_ns = now_ns() + 50000000;
    while (now_ns() < end_ns)
        env_turn(env, end_ns);
    env_destroy(env);
    for (unsigned i = 0; i < OPS; i++) {
        close(client[i]);
        close(server[i]);
    }
    int after = dup(0);
    cr_assert_leq(after, before);
    close(after);
    dir_remove(&dir);
}
