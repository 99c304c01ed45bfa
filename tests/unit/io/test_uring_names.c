#include "test_uring_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/clock.h"

enum { MIB = 1 << 20 };

static int run(struct env *env, struct env_name_step *step)
{
    return env_names_wait(env, step, 1);
}

static uint64_t blocks_of(const char *path)
{
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

struct computed {
    int rc, tid, policy;
    cpu_set_t cpus;
};

static int compute(void *arg)
{
    struct computed *c = arg;
    c->tid = gettid();
    c->policy = sched_getscheduler(0);
    sched_getaffinity(0, sizeof(c->cpus), &c->cpus);
    return c->rc;
}

/* The shard's thread is not the first one, so that it can be pinned. */
static void *pinned_main(void *arg)
{
    struct computed *c = arg;
    cpu_set_t mine, one;
    sched_getaffinity(0, sizeof(mine), &mine);
    CPU_ZERO(&one);
    for (unsigned i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &mine))
            CPU_SET(i, &one);
    sched_setaffinity(0, sizeof(one), &one);
    struct env *env = env_make(NULL, 0);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_RUN, .run = compute, .arg = c}),
                 c->rc);
    cr_assert_neq(c->tid, gettid());
    env_destroy(env);
    return NULL;
}

Test(uring_names, what_computes_for_long_runs_beside_the_shard)
{
    cpu_set_t all;
    sched_getaffinity(0, sizeof(all), &all);
    for (int rc = 0; rc >= -EIO; rc -= EIO) {
        struct computed c = {.rc = rc};
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, pinned_main, &c), 0);
        pthread_join(thread, NULL);
        cr_assert(CPU_EQUAL(&c.cpus, &all), "wherever the process may run");
        cr_assert_eq(c.policy, SCHED_IDLE, "what is at work for clients goes first");
    }
}

static int compute_until(void *arg)
{
    while (!atomic_load((_Atomic bool *)arg))
        usleep(1000);
    return 0;
}

static long slept_in(struct env *env, uint64_t ns)
{
    struct rusage before, after;
    uint64_t begun = clock_now_ns();
    getrusage(RUSAGE_THREAD, &before);
    while (clock_now_ns() - begun < ns)
        env_turn(env, 0);
    getrusage(RUSAGE_THREAD, &after);
    return after.ru_nvcsw - before.ru_nvcsw;
}

static void on_computed(struct env_op *op)
{
    (void)op;
}

Test(uring_names, a_shard_that_never_sleeps_makes_gaps_for_what_computes)
{
    struct env *env = env_make(NULL, 0);
    _Atomic bool over = false;
    struct env_name_step step = {.kind = ENV_STEP_RUN, .run = compute_until, .arg = &over};
    struct env_op op = {0};
    slept_in(env, 20 * 1000000);
    cr_assert_eq(slept_in(env, 50 * 1000000), 0, "for nobody");
    env_names(env, &op, &step, 1, on_computed);
    cr_assert_geq(slept_in(env, 100 * 1000000), 2);
    atomic_store(&over, true);
    while (op.busy)
        env_turn(env, UINT64_MAX);
    env_destroy(env);
}

Test(uring_names, directories)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    const char *a = dir_name(&dir, "a"), *in_a = dir_name(&dir, "a/b");
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_MKDIR, .path = a}), 0);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_MKDIR, .path = a}), 0);
    struct env_name_step put = {.kind = ENV_STEP_PUT, .path = in_a, .data = "x", .data_len = 1};
    cr_assert_eq(run(env, &put), 0);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_MKDIR, .path = in_a}), -ENOTDIR);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_RMDIR, .path = a}), -ENOTEMPTY);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_UNLINK, .path = in_a}), 0);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_UNLINK, .path = in_a}), 0);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = a}), 0);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_RMDIR, .path = a}), 0);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_RMDIR, .path = a}), 0);
    cr_assert_eq(run(env, &(struct env_name_step){.kind = ENV_STEP_SYNC_DIR, .path = a}), -ENOENT);
    env_destroy(env);
    dir_remove(&dir);
}

Test(uring_names, create_prewrite_open_resize)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    const char *a = dir_name(&dir, "a.log"), *b = dir_name(&dir, "b.log");
    struct env_name_step create = {.kind = ENV_STEP_CREATE, .path = a, .size_bytes = 3 * MIB};
    cr_assert_eq(run(env, &create), 0);
    cr_assert_geq(blocks_of(a), 3u * MIB, "the space is reserved");
    cr_assert_eq(run(env, &create), -EEXIST);
    struct env_name_step pre = {.kind = ENV_STEP_PREWRITE, .path = b, .size_bytes = 2 * MIB + 4096};
    cr_assert_eq(run(env, &pre), 0);
    cr_assert_eq(run(env, &pre), -EEXIST);
    struct env_name_step odd = {
        .kind = ENV_STEP_PREWRITE, .path = dir_name(&dir, "c"), .size_bytes = 4097};
    cr_assert_eq(run(env, &odd), -EINVAL);
    cr_assert_eq(access(odd.path, F_OK), -1, "a failed step leaves nothing");
    unsigned char *in = blocks_make(MIB, 1);
    cr_assert_eq(env_read_wait(env, pre.ret_file, in, MIB, MIB + 4096), MIB);
    for (unsigned i = 0; i < MIB; i++)
        cr_assert_eq(in[i], 0);
    struct env_name_step shrink = {.kind = ENV_STEP_RESIZE, .path = b, .size_bytes = 5000};
    cr_assert_eq(run(env, &shrink), 0);
    struct env_name_step open_b = {.kind = ENV_STEP_OPEN, .path = b};
    cr_assert_eq(run(env, &open_b), 0);
    cr_assert_eq(open_b.ret_size_bytes, 5000);
    struct env_name_step grow = {.kind = ENV_STEP_RESIZE, .path = b, .size_bytes = MIB};
    cr_assert_eq(run(env, &grow), 0);
    cr_assert_geq(blocks_of(b), (uint64_t)MIB);
    struct env_name_step absent = {.kind = ENV_STEP_OPEN, .path = dir_name(&dir, "no")};
    cr_assert_eq(run(env, &absent), -ENOENT);
    absent.kind = ENV_STEP_RESIZE;
    cr_assert_eq(run(env, &absent), -ENOENT);
    env_file_close(env, create.ret_file);
    env_file_close(env, pre.ret_file);
    env_file_close(env, open_b.ret_file);
    env_destroy(env);
    free(in);
    dir_remove(&dir);
}

Test(uring_names, put_get_rename_stat)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    const char *a = dir_name(&dir, "a"), *b = dir_name(&dir, "b");
    static const size_t sizes[] = {0, 1, 4096, 3 * MIB + 17};
    unsigned char *bytes = blocks_make(4 * MIB, 8);
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct env_name_step steps[] = {
            {.kind = ENV_STEP_PUT,
             .path = a,
             .data = bytes,
             .data_len = sizes[i],
             .sync_later = i % 2 == 1},
            {.kind = ENV_STEP_RENAME, .path = a, .path2 = b},
            {.kind = ENV_STEP_SYNC_DIR, .path = dir.path},
            {.kind = ENV_STEP_GET, .path = b},
            {.kind = ENV_STEP_STAT, .path = b},
        };
        struct statvfs fs;
        cr_assert_eq(env_names_wait(env, steps, ARRAY_LEN(steps)), 0);
        cr_assert_eq(steps[3].ret_data_len, sizes[i]);
        cr_assert(pattern_is(steps[3].ret_data, sizes[i], 8));
        cr_assert_eq(steps[4].ret_size_bytes, sizes[i]);
        cr_assert_eq(statvfs(dir.path, &fs), 0);
        cr_assert_eq(steps[4].ret_total_bytes, (uint64_t)fs.f_blocks * fs.f_frsize);
        cr_assert_gt(steps[4].ret_free_bytes, 0);
        cr_assert_leq(steps[4].ret_free_bytes, steps[4].ret_total_bytes);
        free(steps[3].ret_data);
    }
    cr_assert_eq(access(a, F_OK), -1);
    struct env_name_step put = {
        .kind = ENV_STEP_PUT, .path = dir_name(&dir, "no/x"), .data = "x", .data_len = 1};
    cr_assert_eq(run(env, &put), -ENOENT);
    /* A directory cannot be replaced: the temporary file must not stay behind. */
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_MKDIR, .path = dir_name(&dir, "d")},
        {.kind = ENV_STEP_PUT, .path = dir_name(&dir, "d"), .data = "x", .data_len = 1},
        {.kind = ENV_STEP_LIST, .path = dir.path},
    };
    cr_assert_lt(env_names_wait(env, steps, 2), 0);
    cr_assert_eq(run(env, &steps[2]), 0);
    cr_assert_eq(steps[2].ret_count, 2, "b and d");
    free(steps[2].ret_data);
    env_destroy(env);
    free(bytes);
    dir_remove(&dir);
}

Test(uring_names, list)
{
    enum { FILES = 700 };
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    struct env_name_step list = {.kind = ENV_STEP_LIST, .path = dir.path};
    cr_assert_eq(run(env, &list), 0);
    cr_assert_eq(list.ret_count, 0, "neither . nor ..");
    free(list.ret_data);
    for (unsigned i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof(name), "file-%u", i);
        cr_assert_eq(mkdir(dir_name(&dir, name), 0700), 0);
    }
    cr_assert_eq(run(env, &list), 0);
    cr_assert_eq(list.ret_count, FILES);
    bool seen[FILES] = {0};
    const char *at = list.ret_data, *end = at + list.ret_data_len;
    for (size_t i = 0; i < list.ret_count; i++) {
        unsigned n;
        cr_assert_lt(at, end);
        cr_assert_eq(sscanf(at, "file-%u", &n), 1);
        cr_assert_lt(n, FILES);
        cr_assert(!seen[n]);
        seen[n] = true;
        at += strlen(at) + 1;
    }
    cr_assert_eq(at, end);
    free(list.ret_data);
    list.path = dir_name(&dir, "no");
    cr_assert_eq(run(env, &list), -ENOENT);
    env_destroy(env);
    dir_remove(&dir);
}

/* The first failure ends the list and is named; what came before it stays. */
Test(uring_names, a_failure_ends_the_list)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_CREATE, .path = dir_name(&dir, "a"), .size_bytes = 4096},
        {.kind = ENV_STEP_RENAME, .path = dir_name(&dir, "no"), .path2 = dir_name(&dir, "x")},
        {.kind = ENV_STEP_MKDIR, .path = dir_name(&dir, "never")},
    };
    struct waited w = {0};
    env_names(env, &w.op, steps, 3, on_waited);
    cr_assert_eq(wait_for(env, &w, 1), -ENOENT);
    cr_assert_eq(w.op.failed_step, 1);
    cr_assert_eq(access(steps[2].path, F_OK), -1);
    unsigned char *block = blocks_make(4096, 0);
    cr_assert_eq(env_write_wait(env, steps[0].ret_file, block, 4096, 0, 0), 4096);
    env_file_close(env, steps[0].ret_file);
    env_destroy(env);
    free(block);
    dir_remove(&dir);
}

/* Many jobs at once, on several threads: each is called back once, its steps in their order. */
static unsigned jobs_done;
static void on_job(struct env_op *op)
{
    struct waited *w = container_of(op, struct waited, op);
    cr_assert_eq(op->res, 0);
    cr_assert_eq(w->released_n++, 0);
    jobs_done++;
}

Test(uring_names, steps_keep_their_order_in_many_jobs)
{
    enum { JOBS = 500, STEPS = 4 };
    static char outer[JOBS][256], inner[JOBS][256];
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    struct waited *jobs = calloc(JOBS, sizeof(*jobs));
    struct env_name_step *steps = calloc(JOBS * STEPS, sizeof(*steps));
    for (unsigned i = 0; i < JOBS; i++) {
        struct env_name_step *own = &steps[i * STEPS];
        snprintf(outer[i], sizeof(outer[i]), "%.200s/d%u", dir.path, i);
        snprintf(inner[i], sizeof(inner[i]), "%.200s/d%u/e", dir.path, i);
        own[0] = (struct env_name_step){.kind = ENV_STEP_MKDIR, .path = outer[i]};
        own[1] = (struct env_name_step){.kind = ENV_STEP_MKDIR, .path = inner[i]};
        own[2] = (struct env_name_step){.kind = ENV_STEP_RMDIR, .path = inner[i]};
        own[3] = (struct env_name_step){.kind = ENV_STEP_RMDIR, .path = outer[i]};
        env_names(env, &jobs[i].op, own, STEPS, on_job);
    }
    uint64_t limit_ns = now_ns() + UINT64_C(10000000000);
    while (jobs_done < JOBS && now_ns() < limit_ns)
        env_turn(env, limit_ns);
    cr_assert_eq(jobs_done, JOBS);
    for (unsigned i = 0; i < JOBS; i++)
        cr_assert_eq(access(outer[i], F_OK), -1);
    env_destroy(env);
    free(jobs);
    free(steps);
    dir_remove(&dir);
}
