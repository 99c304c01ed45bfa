/* What a failed flush takes with it (io/losses.h), on the modelled machine: files of one shard, of
 * two, on one device and on another, and what is under way at that moment. */
#include "io/losses.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "io/env_mem.h"

enum { SHARDS = 2, SEEDS = 50 };
#define SLOW_NS 50000000u

static struct mem_world *world;
static struct env *env[SHARDS];
static uint8_t block[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));

static void machine_start(uint64_t seed)
{
    world = mem_world_create(seed);
    for (unsigned i = 0; i < SHARDS; i++)
        env[i] = env_mem_create(world, i, SHARDS, NULL);
}

static void machine_stop(void)
{
    mem_world_power_off(world);
    for (unsigned i = 0; i < SHARDS; i++)
        env_destroy(env[i]);
    mem_world_destroy(world);
}

static struct env_file *make(unsigned shard, const char *path)
{
    struct env_name_step s = {.kind = ENV_STEP_PREWRITE, .path = path, .size_bytes = BLOCK_BYTES};
    cr_assert_eq(env_names_wait(env[shard], &s, 1), 0);
    return s.ret_file;
}

static void write_block(unsigned shard, struct env_file *file)
{
    int rc = env_write_wait(env[shard], file, block, BLOCK_BYTES, 0, 0);
    cr_assert_eq(rc, (int)BLOCK_BYTES);
}

static void fail_a_flush(unsigned shard, struct env_file *file)
{
    mem_world_fail_at(world, MEM_FAULT_FLUSH_EIO, 1);
    cr_assert_eq(env_flush_wait(env[shard], file), -EIO);
}

static uint64_t flushes_failed(unsigned shard, const char *path)
{
    struct env_name_step s = {.kind = ENV_STEP_STAT, .path = path};
    cr_assert_eq(env_names_wait(env[shard], &s, 1), 0);
    return s.ret_flushes_failed;
}

static void on_done(struct env_op *op)
{
    cr_assert_not(op->busy);
}

static int wait_for(unsigned shard, struct env_op *op)
{
    while (op->busy)
        env_turn(env[shard], UINT64_MAX);
    return op->res;
}

Test(losses, what_was_written_to_other_files_is_not_called_durable)
{
    machine_start(1);
    struct env_name_step dir = {.kind = ENV_STEP_MKDIR, .path = "/dev2"};
    cr_assert_eq(env_names_wait(env[0], &dir, 1), 0);
    struct env_file *f = make(0, "/f"), *g = make(0, "/g"), *h = make(1, "/h"), *i = make(1, "/i"),
                    *j = make(1, "/dev2/j");
    write_block(0, f);
    write_block(0, g);
    write_block(1, h);
    write_block(1, i);
    write_block(1, j);
    cr_assert_eq(env_flush_wait(env[1], i), 0);
    cr_assert_eq(flushes_failed(1, "/"), 0);
    fail_a_flush(0, f);
    cr_assert_eq(flushes_failed(1, "/"), 1, "all shards know");
    cr_assert_eq(flushes_failed(1, "/dev2"), 0);
    cr_assert_eq(env_flush_wait(env[0], g), -EIO, "another file");
    cr_assert_eq(env_flush_wait(env[1], h), -EIO, "of another shard");
    cr_assert_eq(env_flush_wait(env[1], i), 0, "it was durable before");
    cr_assert_eq(env_flush_wait(env[1], j), 0, "another device");
    write_block(1, h);
    cr_assert_eq(env_flush_wait(env[1], h), 0, "what is written from now on can be");
    machine_stop();
}

/* A sync of the file system stands for the flush of each file. */
Test(losses, a_sync_of_the_file_system_says_of_each_file_what_its_flush_would)
{
    machine_start(8);
    struct env_file *f = make(0, "/f"), *g = make(0, "/g"), *h = make(1, "/h");
    struct env_name_step sync = {.kind = ENV_STEP_SYNC_FS, .path = "/"};
    write_block(0, g);
    cr_assert_eq(env_names_wait(env[0], &sync, 1), 0);
    cr_assert_eq(env_file_synced(env[0], g), 0);
    write_block(0, f);
    write_block(1, h);
    fail_a_flush(0, f);
    cr_assert_eq(env_names_wait(env[1], &sync, 1), 0);
    cr_assert_eq(env_file_synced(env[0], g), 0, "it was durable before");
    cr_assert_eq(env_file_synced(env[1], h), -EIO);
    cr_assert_eq(env_file_synced(env[1], h), 0, "once");
    write_block(1, h);
    cr_assert_eq(env_names_wait(env[1], &sync, 1), 0);
    cr_assert_eq(env_file_synced(env[1], h), 0);
    machine_stop();
}

/* The flush of one file begins before that of another fails, and ends behind it. */
Test(losses, a_flush_under_way_is_not_believed)
{
    machine_start(2);
    struct env_file *f = make(0, "/f"), *g = make(1, "/g");
    struct env_op slow = {0};
    write_block(0, f);
    write_block(1, g);
    mem_world_set_latency(world, 100000, SLOW_NS, 80000);
    env_flush(env[1], &slow, g, on_done);
    mem_world_set_latency(world, 100000, 400000, 80000);
    fail_a_flush(0, f);
    cr_assert(slow.busy);
    cr_assert_eq(wait_for(1, &slow), -EIO);
    machine_stop();
}

/* Without FUA it is a write, and a flush behind it. */
Test(losses, a_synced_write_under_way_is_not_believed)
{
    machine_start(3);
    struct env_file *f = make(0, "/f"), *g = make(1, "/g");
    struct env_op slow = {0};
    write_block(0, f);
    mem_world_set_latency(world, SLOW_NS, 400000, 80000);
    env_write(env[1], &slow, g, block, BLOCK_BYTES, 0, ENV_DSYNC, on_done);
    fail_a_flush(0, f);
    cr_assert(slow.busy);
    cr_assert_eq(wait_for(1, &slow), -EIO);
    mem_world_set_latency(world, 100000, 400000, 80000);
    cr_assert_eq(env_write_wait(env[1], g, block, BLOCK_BYTES, 0, ENV_DSYNC), (int)BLOCK_BYTES);
    machine_stop();
}

Test(losses, a_failed_synced_write_may_have_been_its_flush)
{
    machine_start(4);
    struct env_file *f = make(0, "/f"), *g = make(1, "/g");
    write_block(1, g);
    mem_world_fail_at(world, MEM_FAULT_WRITE_EIO, 1);
    cr_assert_eq(env_write_wait(env[0], f, block, BLOCK_BYTES, 0, ENV_DSYNC), -EIO);
    cr_assert_eq(env_flush_wait(env[1], g), -EIO);
    write_block(1, g);
    mem_world_fail_at(world, MEM_FAULT_WRITE_EIO, 1);
    cr_assert_eq(env_write_wait(env[0], f, block, BLOCK_BYTES, 0, 0), -EIO);
    cr_assert_eq(env_flush_wait(env[1], g), 0, "a plain write has no flush");
    machine_stop();
}

/* A write that began during a flush is not covered by its success. */
Test(losses, a_flush_speaks_of_earlier_writes_only)
{
    machine_start(5);
    struct env_file *f = make(0, "/f"), *g = make(1, "/g");
    struct env_op slow = {0};
    write_block(1, g);
    mem_world_set_latency(world, 100000, SLOW_NS, 80000);
    env_flush(env[1], &slow, g, on_done);
    mem_world_set_latency(world, 100000, 400000, 80000);
    write_block(1, g);
    cr_assert(slow.busy);
    cr_assert_eq(wait_for(1, &slow), 0);
    write_block(0, f);
    fail_a_flush(0, f);
    cr_assert_eq(env_flush_wait(env[1], g), -EIO);
    machine_stop();
}

/* Two shards write and flush as they like while flushes fail: a block of which a flush has
 * succeeded is there after a power cut. */
static unsigned believed_after_a_failure(uint64_t seed)
{
    struct env_op ops[SHARDS] = {0};
    struct env_file *files[SHARDS];
    bool durable[SHARDS];
    unsigned believed = 0;
    machine_start(seed);
    memset(block, 'n', sizeof(block));
    files[0] = make(0, "/0");
    files[1] = make(1, "/1");
    struct env_name_step sync = {.kind = ENV_STEP_SYNC_DIR, .path = "/"};
    cr_assert_eq(env_names_wait(env[0], &sync, 1), 0);
    mem_world_fail_at(world, MEM_FAULT_FLUSH_EIO, 1 + seed % 2);
    for (unsigned i = 0; i < SHARDS; i++) {
        write_block(i, files[i]);
        env_flush(env[i], &ops[i], files[i], on_done);
    }
    for (unsigned i = 0; i < SHARDS; i++)
        durable[i] = wait_for(i, &ops[i]) == 0;
    mem_world_power_off(world);
    for (unsigned i = 0; i < SHARDS; i++)
        env_destroy(env[i]);
    mem_world_crash(world);
    for (unsigned i = 0; i < SHARDS; i++) {
        static uint8_t found[BLOCK_BYTES];
        const char path[] = {'/', (char)('0' + i), '\0'};
        mem_world_read_file(world, path, found, BLOCK_BYTES, 0);
        if (durable[i])
            cr_assert_arr_eq(found, block, BLOCK_BYTES, "seed %lu, file %u", (unsigned long)seed,
                             i);
        believed += durable[i];
    }
    mem_world_destroy(world);
    return believed;
}

Test(losses, what_is_called_durable_is)
{
    unsigned believed = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        believed += believed_after_a_failure(seed);
    cr_assert_gt(believed, 0);
}

Test(losses, devices_beyond_the_table_are_one)
{
    static struct device_table table = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct device_losses *first = device_table_find(&table, 1000);
    for (uint64_t i = 1; i < DEVICES_TOLD_APART; i++)
        cr_assert_neq(device_table_find(&table, 1000 + i), first);
    cr_assert_eq(device_table_find(&table, 1000), first);
    struct device_losses *other = device_table_find(&table, 1);
    cr_assert_eq(device_table_find(&table, 2), other);
    cr_assert_neq(other, first);
}
