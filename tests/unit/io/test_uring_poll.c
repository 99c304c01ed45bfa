/* Shards that look for work before they sleep. The disk at hand has no poll queues, as a rule: its
 * files are told to be polled for by hand, and the kernel refuses (or does it by interrupts). What
 * a disk with poll queues does is the virtual machine's matter (tests/vm). */
#include "test_uring_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/uring_env.h"

enum { MIB = 1 << 20, BUSY_US = 200 };

static struct env *busy_make(struct env_uring_group *group, unsigned busy_us)
{
    struct env_uring_config config = {
        .group = group, .busy_poll_us = busy_us, .recv_buffers = 8, .recv_buffer_bytes = 4096};
    struct env *env = NULL;
    cr_assert_eq(env_uring_create(&config, &env), 0);
    return env;
}

Test(uring_poll, an_idle_shard_looks_for_its_time_and_then_sleeps)
{
    struct env *env = busy_make(NULL, BUSY_US);
    env_turn(env, 0);
    uint64_t start_ns = now_ns(), cpu_ns = thread_cpu_ns();
    for (unsigned i = 1; i <= 10; i++)
        env_turn(env, now_ns() + 20000000u); /* each has its time, whatever the machine does */
    cpu_ns = thread_cpu_ns() - cpu_ns;
    cr_assert_geq(env_now_ns(env), start_ns + 200000000u);
    cr_assert_gt(cpu_ns, 10 * BUSY_US * 1000u / 20, "%lu ns", (unsigned long)cpu_ns);
    cr_assert_lt(cpu_ns, 10 * BUSY_US * 1000u * 2 + 5000000u, "%lu ns", (unsigned long)cpu_ns);
    env_destroy(env);
}

/* ---- synced writes that are waited for awake ---- */

enum { WRITES = 64 };

static long sleeps_of_thread(void)
{
    struct rusage use;
    cr_assert_eq(getrusage(RUSAGE_THREAD, &use), 0);
    return use.ru_nvcsw;
}

/* How often the shard slept while it waited for so many synced writes, one after the other; then
 * that it sleeps when there are none. */
static long sleeps_of_writes(unsigned flush_poll_us)
{
    struct env_uring_config config = {.flush_poll_us = flush_poll_us};
    struct env *env = NULL;
    struct test_dir dir;
    dir_make(&dir);
    cr_assert_eq(env_uring_create(&config, &env), 0);
    struct env_file *file = file_make(env, dir_name(&dir, "f"), MIB);
    unsigned char *block = blocks_make(BLOCK_BYTES, 1);
    long before = 0;
    for (unsigned i = 0; i < 2 * WRITES; i++) {
        if (i == WRITES) /* all places were written once */
            before = sleeps_of_thread();
        uint64_t at = i % WRITES * (uint64_t)BLOCK_BYTES;
        cr_assert_eq(env_write_wait(env, file, block, BLOCK_BYTES, at, ENV_DSYNC),
                     (int)BLOCK_BYTES);
    }
    long sleeps = sleeps_of_thread() - before;
    uint64_t cpu_ns = thread_cpu_ns();
    env_turn(env, now_ns() + 100000000u);
    cr_assert_lt(thread_cpu_ns() - cpu_ns, 20000000u, "awake with nothing in flight");
    env_file_close(env, file);
    env_destroy(env);
    free(block);
    dir_remove(&dir);
    return sleeps;
}

Test(uring_poll, a_shard_stays_awake_for_synced_writes_that_are_done_soon)
{
    cr_assert_lt(sleeps_of_writes(1000000), WRITES / 2);
}

Test(uring_poll, it_sleeps_for_synced_writes_that_take_longer_or_without_the_setting)
{
    cr_assert_geq(sleeps_of_writes(1), WRITES / 2);
    cr_assert_geq(sleeps_of_writes(0), WRITES / 2);
}

/* ---- a message while it looks needs no wake-up ---- */

enum { LOOK_US = 20000000 }; /* far longer than the machine keeps the sender waiting */
static struct env_uring_group *group;
static struct env_msg note;
static atomic_bool looks;
static bool ran;

static void on_note(void *shard, struct env_msg *msg)
{
    (void)shard, (void)msg;
    ran = true;
}

static void *note_send(void *arg)
{
    (void)arg;
    while (!atomic_load(&looks))
        ;
    usleep(20000);
    note.run = on_note;
    cr_assert_eq(env_uring_group_wake(group, 0, &note), 0);
    return NULL;
}

Test(uring_poll, a_message_is_found_without_sleep)
{
    pthread_t thread;
    cr_assert_eq(env_uring_group_create(1, &group), 0);
    struct env *env = busy_make(group, LOOK_US);
    cr_assert_eq(pthread_create(&thread, NULL, note_send, NULL), 0);
    env_turn(env, 0);
    uint64_t calls = env->counters.syscalls, start_ns = now_ns();
    atomic_store(&looks, true);
    while (!ran)
        env_turn(env, UINT64_MAX);
    cr_assert_lt(now_ns() - start_ns, LOOK_US * UINT64_C(900));
    cr_assert_leq(env->counters.syscalls - calls, 4); /* the bell at most, no sleep */
    pthread_join(thread, NULL);
    env_destroy(env);
    env_uring_group_destroy(group);
}

/* ---- files ---- */

static void file_is_exact(struct env *env, uint32_t poll_bytes_max)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env_file *file = file_make(env, dir_name(&dir, "a.log"), 4 * MIB);
    file->poll_bytes_max = poll_bytes_max;
    unsigned char *out = blocks_make(MIB, 1), *in = blocks_make(MIB, 2);
    struct waited many[64] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        env_write(env, &many[i].op, file, out + i * 16384, 16384, i * 16384,
                  i % 2 == 0 ? ENV_DSYNC : 0, on_waited);
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        cr_assert_eq(wait_for(env, &many[i], 1), 16384);
    cr_assert_eq(env_flush_wait(env, file), 0);
    cr_assert_eq(env_read_wait(env, file, in, MIB, 0), MIB);
    cr_assert(pattern_is(in, MIB, 1));
    cr_assert_eq(env_read_wait(env, file, in, MIB, 4 * MIB - 8192), 8192); /* end of file */
    env_file_close(env, file);
    free(in);
    free(out);
    dir_remove(&dir);
}

Test(uring_poll, files_are_read_and_written_as_ever)
{
    struct env *env = busy_make(NULL, BUSY_US);
    file_is_exact(env, 0);
    cr_assert_eq(env->counters.polled, 0);
    env_destroy(env);
}

Test(uring_poll, what_cannot_be_polled_for_is_done_without)
{
    struct env *env = busy_make(NULL, BUSY_US);
    cr_assert(uring_env_of(env)->poll.on);
    file_is_exact(env, MIB);
    cr_assert_gt(env->counters.polled, 0);
    cr_assert_eq(uring_env_of(env)->poll.in_flight, 0);
    env_destroy(env);
}

Test(uring_poll, without_rings_that_poll)
{
    struct io_features features;
    features_get(&features);
    features.iopoll = features.napi = false;
    struct env_uring_config config = {.busy_poll_us = BUSY_US, .features = &features};
    struct env *env = NULL;
    cr_assert_eq(env_uring_create(&config, &env), 0);
    file_is_exact(env, MIB);
    cr_assert_eq(env->counters.polled, 0);
    env_destroy(env);
}

Test(uring_poll, destroyed_with_everything_in_flight)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = busy_make(NULL, BUSY_US);
    struct env_file *file = file_make(env, dir_name(&dir, "a.log"), 32 * MIB);
    file->poll_bytes_max = MIB;
    static struct waited many[32];
    unsigned char *out = blocks_make(MIB, 1);
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        env_write(env, &many[i].op, file, out, MIB, (uint64_t)i * MIB, 0, on_waited);
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        cr_assert_eq(wait_for(env, &many[i], 1), MIB);
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        env_read(env, &many[i].op, file, out, MIB, (uint64_t)i * MIB, on_waited);
    env_turn(env, 0);
    env_destroy(env);
    free(out);
    dir_remove(&dir);
}
