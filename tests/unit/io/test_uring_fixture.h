/* test_uring_fixture.h: what the tests of the production environment share: an environment, a
 * directory on a real disk under build/tmp, and ops whose completion can be waited for. */
#ifndef TEST_URING_FIXTURE_H
#define TEST_URING_FIXTURE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/env_uring.h"
#include "io/probe.h"

struct waited {
    struct env_op op;
    int done_n, released_n;
};
void on_waited(struct env_op *op);
void on_waited_released(struct env_op *op);
/* Turn until on_waited was called n times, at most ten seconds. Returns op.res. */
int wait_for(struct env *env, struct waited *w, int n);

/* A fresh directory, removed with all in it by dir_remove. */
struct test_dir {
    char path[128];
    char names[16][192];
    unsigned names_n;
};
void dir_make(struct test_dir *d);
void dir_remove(struct test_dir *d);
/* path/name; valid until sixteen more were asked for. */
const char *dir_name(struct test_dir *d, const char *name);

void features_get(struct io_features *ret);
/* A lone environment: with fixed memory, and the features given or all. */
struct env *env_make(const struct io_features *features, unsigned entries);
/* Block aligned, filled with a pattern that follows from the seed and the position. */
unsigned char *blocks_make(size_t len_bytes, unsigned seed);
void pattern_fill(void *buf, size_t len_bytes, unsigned seed);
bool pattern_is(const void *buf, size_t len_bytes, unsigned seed);

struct env_file *file_make(struct env *env, const char *path, uint64_t size_bytes);
uint64_t now_ns(void);
uint64_t thread_cpu_ns(void);

/* A connection over loopback; its client takes no more than `window` bytes before it reads. */
void narrow_pair_make(int window, int *ret_client, int *ret_server);

/* A thread that reads so many bytes, in pieces, with a pause behind each. */
struct slow_reader {
    int fd;
    size_t expect, piece_bytes;
    unsigned pause_us;
    unsigned char *got;
};
void *slow_reader_main(void *arg);

#endif
