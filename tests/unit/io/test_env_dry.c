/* What the dry environment shows is what a real one would have made of the files, and the files
 * stay as they are. */
#include "test_uring_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"
#include "io/env_dry.h"

static struct test_dir dir;
static struct env *dry;

static void setup(void)
{
    dir_make(&dir);
    cr_assert_eq(env_dry_create(64u << 20, &dry), 0);
}

static void teardown(void)
{
    env_destroy(dry);
    dir_remove(&dir);
}

static void dir_setup_only(void)
{
    dir_make(&dir);
}

static void put_real(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    cr_assert(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    close(fd);
}

static int step_run(struct env_name_step step)
{
    int rc = env_names_wait(dry, &step, 1);
    if (step.ret_file != NULL)
        env_file_close(dry, step.ret_file);
    return rc;
}

static struct env_file *file_open(const char *path, uint64_t *ret_size)
{
    struct env_name_step step = {.kind = ENV_STEP_OPEN, .path = path};
    cr_assert_eq(env_names_wait(dry, &step, 1), 0);
    *ret_size = step.ret_size_bytes;
    return step.ret_file;
}

/* Names of a directory, sorted, with a space behind each; lent until the next call. */
static const char *names_of(const char *path)
{
    static char text[1024];
    struct env_name_step step = {.kind = ENV_STEP_LIST, .path = path};
    cr_assert_eq(env_names_wait(dry, &step, 1), 0);
    const char *names[16], *name = step.ret_data;
    cr_assert(step.ret_count <= 16);
    for (size_t i = 0; i < step.ret_count; i++, name += strlen(name) + 1) {
        size_t at = i;
        for (; at > 0 && strcmp(names[at - 1], name) > 0; at--)
            names[at] = names[at - 1];
        names[at] = name;
    }
    text[0] = '\0';
    for (size_t i = 0; i < step.ret_count; i++)
        strcat(strcat(text, names[i]), " ");
    free(step.ret_data);
    return text;
}

Test(env_dry, names_change_and_the_directory_does_not, .init = setup, .fini = teardown)
{
    const char *a = dir_name(&dir, "a"), *b = dir_name(&dir, "b"), *c = dir_name(&dir, "c"),
               *sub = dir_name(&dir, "sub");
    put_real(a, "aaa", 3);
    put_real(b, "bbb", 3);
    cr_assert_str_eq(names_of(dir.path), "a b ");
    cr_assert_eq(step_run((struct env_name_step){.kind = ENV_STEP_UNLINK, .path = a}), 0);
    cr_assert_str_eq(names_of(dir.path), "b ");
    cr_assert_eq(step_run((struct env_name_step){.kind = ENV_STEP_OPEN, .path = a}), -ENOENT);
    cr_assert_eq(step_run((struct env_name_step){.kind = ENV_STEP_RENAME, .path = b, .path2 = c}),
                 0);
    cr_assert_str_eq(names_of(dir.path), "c ");
    cr_assert_eq(step_run((struct env_name_step){.kind = ENV_STEP_MKDIR, .path = sub}), 0);
    cr_assert_eq(step_run((struct env_name_step){.kind = ENV_STEP_MKDIR, .path = c}), -ENOTDIR);
    cr_assert_str_eq(names_of(dir.path), "c sub ");
    cr_assert_str_eq(names_of(sub), "");
    cr_assert_eq(step_run((struct env_name_step){
                     .kind = ENV_STEP_CREATE, .path = c, .size_bytes = BLOCK_BYTES}),
                 -EEXIST);
    cr_assert_eq(step_run((struct env_name_step){
                     .kind = ENV_STEP_CREATE, .path = a, .size_bytes = BLOCK_BYTES}),
                 0);
    struct env_name_step get = {.kind = ENV_STEP_GET, .path = c};
    cr_assert_eq(env_names_wait(dry, &get, 1), 0);
    cr_assert(get.ret_data_len == 3 && memcmp(get.ret_data, "bbb", 3) == 0);
    free(get.ret_data);
    struct env_name_step stat_step = {.kind = ENV_STEP_STAT, .path = sub};
    cr_assert_eq(env_names_wait(dry, &stat_step, 1), 0);
    cr_assert(stat_step.ret_total_bytes > 0);
    struct stat st;
    cr_assert(stat(a, &st) == 0 && stat(b, &st) == 0 && stat(c, &st) != 0 && stat(sub, &st) != 0);
}

/* The first failure ends a list of steps, and is told. */
Test(env_dry, steps_end_with_the_first_failure, .init = setup, .fini = teardown)
{
    struct waited w = {0};
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_MKDIR, .path = dir_name(&dir, "one")},
        {.kind = ENV_STEP_OPEN, .path = dir_name(&dir, "missing")},
        {.kind = ENV_STEP_MKDIR, .path = dir_name(&dir, "two")},
    };
    env_names(dry, &w.op, steps, 3, on_waited);
    cr_assert_eq(w.done_n, 0, "called back from the submitting call");
    env_turn(dry, UINT64_MAX);
    cr_assert(w.done_n == 1 && w.op.res == -ENOENT && w.op.failed_step == 1);
    cr_assert_str_eq(names_of(dir.path), "one ");
}

/* Writes, cuts and growth of a file as a model has them. */
Test(env_dry, bytes_are_what_was_written, .init = setup, .fini = teardown)
{
    enum { BLOCKS = 24, LAST = 1000 };
    static uint8_t model[2 * BLOCKS * BLOCK_BYTES], real[BLOCKS * BLOCK_BYTES + LAST],
        back[2 * BLOCKS * BLOCK_BYTES];
    const char *path = dir_name(&dir, "file");
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < sizeof(real); i++)
        real[i] = (uint8_t)rng_next(&rng);
    put_real(path, real, sizeof(real));
    memcpy(model, real, sizeof(real));
    uint64_t size, model_size = sizeof(real);
    for (unsigned turn = 0; turn < 300; turn++) {
        struct env_file *file = file_open(path, &size);
        cr_assert_eq(size, model_size, "turn %u", turn);
        uint64_t at = rng_next(&rng) % BLOCKS * BLOCK_BYTES,
                 len = (1 + rng_next(&rng) % 4) * BLOCK_BYTES;
        for (uint64_t i = 0; i < len; i++)
            back[i] = (uint8_t)rng_next(&rng);
        if (rng_next(&rng) % 2 == 0) {
            cr_assert_eq(env_write_wait(dry, file, back, len, at, 0), (int)len);
            memcpy(model + at, back, len);
            model_size = MAX(model_size, at + len);
        }
        cr_assert_eq(env_read_wait(dry, file, back, sizeof(back), 0), (int)model_size);
        cr_assert_eq(memcmp(back, model, model_size), 0, "turn %u", turn);
        env_file_close(dry, file);
        if (rng_next(&rng) % 4 > 0)
            continue;
        uint64_t resized = rng_next(&rng) % (BLOCKS * BLOCK_BYTES);
        cr_assert_eq(step_run((struct env_name_step){
                         .kind = ENV_STEP_RESIZE, .path = path, .size_bytes = resized}),
                     0);
        memset(model + resized, 0, sizeof(model) - resized);
        model_size = resized;
    }
    int fd = open(path, O_RDONLY);
    cr_assert_eq(read(fd, back, sizeof(back)), (ssize_t)sizeof(real));
    cr_assert_eq(memcmp(back, real, sizeof(real)), 0, "the real file has changed");
    close(fd);
    cr_assert(env_dry_changes(dry) > 100);
}

Test(env_dry, memory_is_bounded, .init = dir_setup_only, .fini = teardown)
{
    const char *path = dir_name(&dir, "file");
    static uint8_t block[BLOCK_BYTES];
    uint64_t size;
    cr_assert_eq(env_dry_create(2 * BLOCK_BYTES, &dry), 0);
    cr_assert_eq(step_run((struct env_name_step){
                     .kind = ENV_STEP_CREATE, .path = path, .size_bytes = 8 * BLOCK_BYTES}),
                 0);
    struct env_file *file = file_open(path, &size);
    cr_assert_eq(env_write_wait(dry, file, block, BLOCK_BYTES, 0, 0), BLOCK_BYTES);
    cr_assert_eq(env_write_wait(dry, file, block, BLOCK_BYTES, 2 * BLOCK_BYTES, 0), BLOCK_BYTES);
    cr_assert_eq(env_write_wait(dry, file, block, BLOCK_BYTES, 0, 0), BLOCK_BYTES);
    cr_assert_eq(env_write_wait(dry, file, block, BLOCK_BYTES, 4 * BLOCK_BYTES, 0), -ENOSPC);
    env_file_close(dry, file);
    cr_assert_eq(step_run((struct env_name_step){.kind = ENV_STEP_UNLINK, .path = path}), 0);
}
