#include "test_uring_fixture.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/bytes.h"

enum { MIB = 1 << 20 };

Test(uring_files, write_then_read_back)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    struct env_file *file = file_make(env, dir_name(&dir, "a.log"), 4 * MIB);
    cr_assert(!env_uring_file_buffered(file));
    unsigned char *out = blocks_make(MIB, 1), *in = blocks_make(MIB, 2);
    cr_assert_eq(env_write_wait(env, file, out, MIB, MIB, ENV_DSYNC), MIB);
    cr_assert_eq(env_flush_wait(env, file), 0);
    cr_assert_eq(env_read_wait(env, file, in, MIB, MIB), MIB);
    cr_assert(pattern_is(in, MIB, 1));
    cr_assert_eq(env_read_wait(env, file, in, 8192, 0), 8192);
    for (unsigned i = 0; i < 8192; i++)
        cr_assert_eq(in[i], 0);
    cr_assert_eq(env->counters.flushes, 1);
    cr_assert_eq(env->counters.write_bytes, MIB);
    cr_assert_eq(env->counters.read_bytes, MIB + 8192);
    env_file_close(env, file);
    env_destroy(env);
    free(in);
    free(out);
    dir_remove(&dir);
}

Test(uring_files, end_of_file_reads_less)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    /* Ends inside a block, at a sector, at a block. */
    static const unsigned sizes[] = {10000, 8192 + 512, 8192, 100, 0};
    unsigned char *in = blocks_make(65536, 2), *bytes = blocks_make(65536, 1);
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct env_name_step steps[] = {
            {.kind = ENV_STEP_PUT,
             .path = dir_name(&dir, "tail"),
             .data = bytes,
             .data_len = sizes[i]},
            {.kind = ENV_STEP_OPEN, .path = dir_name(&dir, "tail")},
        };
        cr_assert_eq(env_names_wait(env, steps, 2), 0);
        cr_assert_eq(steps[1].ret_size_bytes, sizes[i]);
        struct env_file *file = steps[1].ret_file;
        cr_assert_eq(env_read_wait(env, file, in, 65536, 0), (int)sizes[i]);
        cr_assert(pattern_is(in, sizes[i], 1));
        if (sizes[i] > 4096)
            cr_assert_eq(env_read_wait(env, file, in, 4096, 4096),
                         (int)MIN(sizes[i] - 4096, 4096u));
        cr_assert_eq(env_read_wait(env, file, in, 4096, 1 << 20), 0);
        env_file_close(env, file);
    }
    env_destroy(env);
    free(in);
    free(bytes);
    dir_remove(&dir);
}

/* More iovecs than one system call takes, so that the rest is asked for in a second one. */
Test(uring_files, vectors_longer_than_the_kernel_takes)
{
    enum { IOVECS = 2500 };
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    size_t bytes = (size_t)IOVECS * 4096;
    struct env_file *file = file_make(env, dir_name(&dir, "v.log"), bytes);
    unsigned char *out = blocks_make(bytes, 3), *in = blocks_make(bytes, 4);
    static struct iovec to[IOVECS], from[IOVECS];
    for (unsigned i = 0; i < IOVECS; i++) {
        to[i] = (struct iovec){in + (size_t)i * 4096, 4096};
        from[i] = (struct iovec){out + (size_t)i * 4096, 4096};
    }
    struct waited w = {0};
    env_writev(env, &w.op, file, from, IOVECS, 0, ENV_DSYNC, on_waited);
    cr_assert(w.op.busy);
    cr_assert_eq(wait_for(env, &w, 1), (int)bytes);
    cr_assert(!w.op.busy);
    env_readv(env, &w.op, file, to, IOVECS, 0, on_waited);
    cr_assert_eq(wait_for(env, &w, 2), (int)bytes);
    cr_assert(pattern_is(in, bytes, 3));
    env_file_close(env, file);
    env_destroy(env);
    free(in);
    free(out);
    dir_remove(&dir);
}

Test(uring_files, fixed_buffers_are_used_and_not_needed)
{
    struct test_dir dir;
    dir_make(&dir);
    unsigned char *arena = blocks_make(MIB, 5), *outside = blocks_make(65536, 6);
    struct iovec region = {arena, MIB};
    struct io_features features;
    features_get(&features);
    cr_assert(features.fixed_buffers);
    for (int fixed = 0; fixed < 2; fixed++) {
        struct env_uring_config config = {.features = &features, .fixed = &region, .fixed_n = 1};
        struct env *env;
        features.fixed_buffers = fixed == 1;
        cr_assert_eq(env_uring_create(&config, &env), 0);
        cr_assert_not(env_uring_has_fixed(env)); /* not before it is used */
        struct env_file *file = file_make(env, dir_name(&dir, fixed ? "f" : "g"), MIB);
        pattern_fill(arena, MIB, 5);
        cr_assert_eq(env_write_wait(env, file, arena + 4096, 65536, 0, ENV_DSYNC), 65536);
        cr_assert_eq(env_read_wait(env, file, outside, 65536, 0), 65536);
        cr_assert_eq(memcmp(outside, arena + 4096, 65536), 0);
        cr_assert_eq(env_uring_has_fixed(env), fixed == 1);
        /* To the very end of the region. */
        cr_assert_eq(env_read_wait(env, file, arena + MIB - 65536, 65536, 0), 65536);
        cr_assert_eq(memcmp(outside, arena + MIB - 65536, 65536), 0);
        env_file_close(env, file);
        env_destroy(env);
    }
    free(outside);
    free(arena);
    dir_remove(&dir);
}

static size_t resident_bytes(unsigned char *base, size_t bytes)
{
    unsigned char pages[16 * MIB / 4096];
    size_t n = 0;
    cr_assert_leq(bytes / 4096, sizeof(pages));
    cr_assert_eq(mincore(base, bytes, pages), 0);
    for (size_t i = 0; i < bytes / 4096; i++)
        n += pages[i] & 1;
    return n * 4096;
}

/* Slab by slab, where it is used; buffers across two slabs, in either, and in none are all right.
 */
Test(uring_files, memory_is_registered_as_it_is_used)
{
    enum { ALL = 16 * MIB, SLAB = 2 * MIB };
    struct test_dir dir;
    dir_make(&dir);
    unsigned char *arena =
        mmap(NULL, ALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *copy = blocks_make(MIB, 7);
    struct iovec regions[2] = {{arena, ALL - MIB}, {arena + ALL - MIB, MIB}};
    struct env_uring_config config = {.fixed = regions, .fixed_n = 2};
    struct env *env;
    cr_assert_neq(arena, MAP_FAILED);
    cr_assert_eq(env_uring_create(&config, &env), 0);
    struct env_file *file = file_make(env, dir_name(&dir, "f"), MIB);
    cr_assert_eq(resident_bytes(arena, ALL), 0u);
    cr_assert_eq(env_write_wait(env, file, arena, 4096, 0, 0), 4096);
    cr_assert(env_uring_has_fixed(env));
    cr_assert_geq(resident_bytes(arena, SLAB), SLAB);
    cr_assert_eq(resident_bytes(arena + SLAB, ALL - SLAB), 0u);
    size_t places[] = {0, SLAB - MIB, SLAB - MIB / 2, SLAB, ALL - 2 * MIB, ALL - MIB};
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 6; i++) {
            pattern_fill(arena + places[i], MIB, round * 6 + i);
            cr_assert_eq(env_write_wait(env, file, arena + places[i], MIB, 0, 0), MIB);
            memset(arena + places[i], 0, MIB);
            cr_assert_eq(env_read_wait(env, file, arena + places[i], MIB, 0), MIB);
            cr_assert(pattern_is(arena + places[i], MIB, round * 6 + i));
            cr_assert_eq(env_read_wait(env, file, copy, MIB, 0), MIB);
            cr_assert(pattern_is(copy, MIB, round * 6 + i));
        }
    }
    env_file_close(env, file);
    env_destroy(env);
    munmap(arena, ALL);
    free(copy);
    dir_remove(&dir);
}

/* Root's limit of pinned memory binds nobody who has root's capabilities. */
static void limit_pinned_memory(size_t bytes)
{
    struct rlimit limit = {bytes, bytes};
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    cr_assert_eq(syscall(SYS_capset, &head, none), 0);
}

/* More than may be pinned: the rest is read and written as it is. */
Test(uring_files, memory_that_may_not_be_registered)
{
    enum { ALL = 16 * MIB };
    struct test_dir dir;
    dir_make(&dir);
    unsigned char *arena = blocks_make(ALL, 8);
    struct iovec region = {arena, ALL};
    struct env_uring_config config = {.fixed = &region, .fixed_n = 1};
    struct env *env;
    limit_pinned_memory(MIB);
    cr_assert_eq(env_uring_create(&config, &env), 0);
    struct env_file *file = file_make(env, dir_name(&dir, "f"), MIB);
    for (unsigned at = 0; at < ALL; at += MIB) {
        pattern_fill(arena + at, MIB, at);
        cr_assert_eq(env_write_wait(env, file, arena + at, MIB, 0, 0), MIB);
        memset(arena + at, 0, MIB);
        cr_assert_eq(env_read_wait(env, file, arena + at, MIB, 0), MIB);
        cr_assert(pattern_is(arena + at, MIB, at));
    }
    cr_assert_not(env_uring_has_fixed(env));
    env_file_close(env, file);
    env_destroy(env);
    free(arena);
    dir_remove(&dir);
}

/* 10,000 ops at once through a ring of 64 entries: each called back once, none before its time. */
struct many {
    struct env_op op;
    unsigned calls;
    bool submitted;
};

static void on_many(struct env_op *op)
{
    struct many *m = container_of(op, struct many, op);
    cr_assert(m->submitted);
    cr_assert_eq(op->res, 4096);
    m->calls++;
}

static void overflow_run(const struct io_features *features)
{
    enum { OPS = 10000, BLOCKS = 256 };
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(features, 64);
    struct env_file *file = file_make(env, dir_name(&dir, "o.log"), BLOCKS * 4096);
    unsigned char *out = blocks_make(4096, 7);
    struct many *ops = calloc(OPS, sizeof(*ops));
    for (unsigned i = 0; i < OPS; i++) {
        env_write(env, &ops[i].op, file, out, 4096, (uint64_t)(i % BLOCKS) * 4096, 0, on_many);
        cr_assert_eq(ops[i].calls, 0);
        ops[i].submitted = true;
    }
    unsigned called = 0;
    uint64_t limit_ns = now_ns() + UINT64_C(60000000000);
    while (called < OPS && now_ns() < limit_ns) {
        env_turn(env, limit_ns);
        called = 0;
        for (unsigned i = 0; i < OPS; i++)
            called += ops[i].calls;
    }
    for (unsigned i = 0; i < OPS; i++)
        cr_assert_eq(ops[i].calls, 1);
    env_file_close(env, file);
    env_destroy(env);
    free(ops);
    free(out);
    dir_remove(&dir);
}

Test(uring_files, more_ops_than_the_ring_has_entries, .timeout = 90)
{
    overflow_run(NULL);
}

Test(uring_files, the_same_without_deferred_task_work, .timeout = 90)
{
    struct io_features features;
    features_get(&features);
    features.defer_taskrun = false;
    overflow_run(&features);
    features.coop_taskrun = features.single_issuer = features.sparse_files = false;
    overflow_run(&features);
}

static struct env_file *chain_file;
static struct env *chain_env;
static unsigned char *chain_buf;
static int chain_left;

static void on_chain(struct env_op *op)
{
    cr_assert_eq(op->res, 4096);
    cr_assert(!op->busy);
    if (--chain_left > 0)
        env_write(chain_env, op, chain_file, chain_buf, 4096, 0, 0, on_chain);
}

Test(uring_files, a_callback_submits_the_same_op_again)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env_op op = {0};
    chain_env = env_make(NULL, 8);
    chain_file = file_make(chain_env, dir_name(&dir, "c.log"), 4096);
    chain_buf = blocks_make(4096, 1);
    chain_left = 100;
    env_write(chain_env, &op, chain_file, chain_buf, 4096, 0, 0, on_chain);
    while (chain_left > 0)
        env_turn(chain_env, now_ns() + 1000000000u);
    env_destroy(chain_env); /* closes the file */
    free(chain_buf);
    dir_remove(&dir);
}

Test(uring_files, errors_of_the_device_reach_the_caller)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    struct env_file *file = file_make(env, dir_name(&dir, "e.log"), 65536);
    unsigned char *out = blocks_make(65536, 1);
    /* A file size limit is a device that takes the first part and then refuses. */
    struct rlimit limit = {65536 + 8192, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int rc = env_write_wait(env, file, out, 65536, 65536, 0);
    cr_assert_lt(rc, 0, "a write past the limit says %d", rc);
    cr_assert_eq(env_write_wait(env, file, out, 65536, 0, 0), 65536);
    env_file_close(env, file);
    env_destroy(env);
    free(out);
    dir_remove(&dir);
}

/* More files than the table has room for: the rest work by plain descriptor. */
Test(uring_files, a_full_table_falls_back_to_descriptors)
{
    enum { FILES = 40 };
    struct test_dir dir;
    dir_make(&dir);
    struct io_features features;
    features_get(&features);
    struct rlimit before, limit;
    getrlimit(RLIMIT_NOFILE, &before);
    limit = (struct rlimit){24, before.rlim_max}; /* the table's size follows from it */
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct env *env = env_make(&features, 0);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    struct env_file *files[FILES];
    unsigned char *out = blocks_make(4096, 9), *in = blocks_make(4096, 0);
    char name[16];
    for (int round = 0; round < 2; round++) { /* slots come back */
        for (unsigned i = 0; i < FILES; i++) {
            snprintf(name, sizeof(name), "%d-%u", round, i);
            files[i] = file_make(env, dir_name(&dir, name), 4096);
            pattern_fill(out, 4096, i);
            cr_assert_eq(env_write_wait(env, files[i], out, 4096, 0, ENV_DSYNC), 4096);
        }
        for (unsigned i = 0; i < FILES; i++) {
            cr_assert_eq(env_read_wait(env, files[i], in, 4096, 0), 4096);
            cr_assert(pattern_is(in, 4096, i));
            cr_assert_eq(env_flush_wait(env, files[i]), 0);
            env_file_close(env, files[i]);
        }
    }
    env_destroy(env);
    free(in);
    free(out);
    dir_remove(&dir);
}

/* Writes go around the page cache. */
Test(uring_files, nothing_stays_in_the_page_cache)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    const char *path = dir_name(&dir, "d.log");
    struct env_file *file = file_make(env, path, MIB);
    unsigned char *out = blocks_make(MIB, 1), resident[MIB / 4096];
    cr_assert_eq(env_write_wait(env, file, out, MIB, 0, ENV_DSYNC), MIB);
    int fd = open(path, O_RDONLY);
    void *map = mmap(NULL, MIB, PROT_READ, MAP_SHARED, fd, 0);
    cr_assert_neq(map, MAP_FAILED);
    cr_assert_eq(mincore(map, MIB, resident), 0);
    for (unsigned i = 0; i < ARRAY_LEN(resident); i++)
        cr_assert_eq(resident[i] & 1, 0);
    munmap(map, MIB);
    close(fd);
    env_file_close(env, file);
    env_destroy(env);
    free(out);
    dir_remove(&dir);
}

/* Destroyed with writes, a read and name steps in flight: all ends, nothing is called back. */
static void on_never(struct env_op *op)
{
    (void)op;
    cr_assert_fail("called back during or after env_destroy");
}

static void on_early(struct env_op *op)
{
    (void)op;
}

Test(uring_files, destroy_with_everything_in_flight)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env *env = env_make(NULL, 0);
    struct env_file *file = file_make(env, dir_name(&dir, "x.log"), 8 * MIB);
    unsigned char *out = blocks_make(MIB, 1);
    struct env_op *ops = calloc(64, sizeof(*ops));
    struct env_op names = {0};
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_OPEN, .path = dir_name(&dir, "x.log")},
        {.kind = ENV_STEP_LIST, .path = dir.path},
        {.kind = ENV_STEP_PREWRITE, .path = dir_name(&dir, "y.log"), .size_bytes = 16 * MIB},
    };
    for (unsigned i = 0; i < 32; i++)
        env_write(env, &ops[i], file, out, MIB, (uint64_t)(i % 8) * MIB, ENV_DSYNC, on_never);
    /* One turn submits them; what completes in it at once may be called back. */
    for (unsigned i = 0; i < 32; i++)
        ops[i].on_done = on_early;
    env_turn(env, 0);
    for (unsigned i = 0; i < 32; i++)
        ops[i].on_done = on_never;
    env_names(env, &names, steps, 3, on_never);
    for (unsigned i = 32; i < 64; i++)
        env_read(env, &ops[i], file, out, MIB, 0, on_never); /* never submitted */
    env_destroy(env);
    free(ops);
    free(out);
    dir_remove(&dir);
}
