#include "test_uring_fixture.h"

#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/list.h"
#include "io/sock.h"

void on_waited(struct env_op *op)
{
    container_of(op, struct waited, op)->done_n++;
}

void on_waited_released(struct env_op *op)
{
    struct waited *w = container_of(op, struct waited, op);
    cr_assert_gt(w->done_n, w->released_n, "released before done");
    w->released_n++;
}

int wait_for(struct env *env, struct waited *w, int n)
{
    uint64_t limit_ns = now_ns() + UINT64_C(10000000000);
    while (w->done_n < n && now_ns() < limit_ns)
        env_turn(env, limit_ns);
    cr_assert_eq(w->done_n, n, "%d completions instead of %d", w->done_n, n);
    return w->op.res;
}

void dir_make(struct test_dir *d)
{
    *d = (struct test_dir){0};
    cr_assert(mkdir("build", 0755) == 0 || errno == EEXIST);
    cr_assert(mkdir("build/tmp", 0755) == 0 || errno == EEXIST);
    strcpy(d->path, "build/tmp/io-XXXXXX");
    cr_assert_not_null(mkdtemp(d->path));
}

static int entry_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void dir_remove(struct test_dir *d)
{
    cr_assert_eq(nftw(d->path, entry_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
}

const char *dir_name(struct test_dir *d, const char *name)
{
    char *slot = d->names[d->names_n++ % 16];
    cr_assert_lt(strlen(d->path) + strlen(name) + 2, sizeof(d->names[0]));
    stpcpy(stpcpy(stpcpy(slot, d->path), "/"), name);
    return slot;
}

void features_get(struct io_features *ret)
{
    const char *reason = "";
    cr_assert_eq(io_probe(ret, &reason), 0, "%s", reason);
}

struct env *env_make(const struct io_features *features, unsigned entries)
{
    struct env_uring_config config = {
        .entries = entries, .recv_buffers = 8, .recv_buffer_bytes = 4096, .features = features};
    struct env *env = NULL;
    int rc = env_uring_create(&config, &env);
    cr_assert_eq(rc, 0, "env_uring_create: %s", strerror(-rc));
    return env;
}

static unsigned char pattern_at(size_t i, unsigned seed)
{
    return (unsigned char)((i * 31 + (i >> 8) * 7 + seed * 101) ^ (i >> 16));
}

void pattern_fill(void *buf, size_t len_bytes, unsigned seed)
{
    for (size_t i = 0; i < len_bytes; i++)
        ((unsigned char *)buf)[i] = pattern_at(i, seed);
}

bool pattern_is(const void *buf, size_t len_bytes, unsigned seed)
{
    for (size_t i = 0; i < len_bytes; i++)
        if (((const unsigned char *)buf)[i] != pattern_at(i, seed))
            return false;
    return true;
}

unsigned char *blocks_make(size_t len_bytes, unsigned seed)
{
    unsigned char *p = aligned_alloc(4096, len_bytes);
    cr_assert_not_null(p);
    pattern_fill(p, len_bytes, seed);
    return p;
}

struct env_file *file_make(struct env *env, const char *path, uint64_t size_bytes)
{
    struct env_name_step step = {.kind = ENV_STEP_CREATE, .path = path, .size_bytes = size_bytes};
    int rc = env_names_wait(env, &step, 1);
    cr_assert_eq(rc, 0, "create %s: %s", path, strerror(-rc));
    return step.ret_file;
}

static uint64_t clock_read(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t now_ns(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

uint64_t thread_cpu_ns(void)
{
    return clock_read(CLOCK_THREAD_CPUTIME_ID);
}

void narrow_pair_make(int window, int *ret_client, int *ret_server)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener;
    cr_assert_eq(sock_listen("127.0.0.1", 0, 1, &listener), 0);
    addr.sin_port = htons((uint16_t)sock_local_port(listener));
    *ret_client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(*ret_client, SOL_SOCKET, SO_RCVBUF, &window, sizeof(window));
    cr_assert_eq(connect(*ret_client, (struct sockaddr *)&addr, sizeof(addr)), 0);
    *ret_server = accept(listener, NULL, NULL);
    cr_assert_geq(*ret_server, 0);
    close(listener);
}

void *slow_reader_main(void *arg)
{
    struct slow_reader *r = arg;
    for (size_t at = 0; at < r->expect;) {
        ssize_t n = read(r->fd, r->got + at, MIN(r->expect - at, r->piece_bytes));
        cr_assert_gt(n, 0);
        at += (size_t)n;
        usleep(r->pause_us);
    }
    return NULL;
}
