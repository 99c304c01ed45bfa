#include "bench/limits.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/bill.h"
#include "test_bill_fixture.h"

#define MIB (UINT64_C(1) << 20)

/* Fails when anything is left in it. */
static void dir_remove(const char *dir)
{
    cr_assert_eq(rmdir(dir), 0, "%s: %s", dir, strerror(errno));
}

struct progress {
    unsigned calls, limit_at; /* from this call on no file may be longer than a block */
};

static void on_progress(void *arg, const char *what)
{
    struct progress *p = arg;
    cr_assert_str_not_empty(what);
    if (++p->calls == p->limit_at)
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, RLIM_INFINITY});
}

static struct limits_config config_make(const char *dir, struct progress *p)
{
    return (struct limits_config){.dir = dir,
                                  .sizes_bytes = {100, 65000, 4096},
                                  .sizes_n = 3,
                                  .seconds_each = 0.05,
                                  .file_bytes_max = 16 * MIB,
                                  .on_progress = on_progress,
                                  .progress_arg = p};
}

static void kinds_check(const struct limits *l)
{
    static const uint32_t blocks[] = {4096, 65536}; /* 100 and 4096 are the same one */
    cr_assert_eq(l->figures_n, 2 * LIMITS_KINDS);
    for (unsigned i = 0; i < l->figures_n; i++) {
        const struct limits_figure *f = &l->figures[i];
        cr_assert_eq(f->kind, i % LIMITS_KINDS);
        cr_assert_eq(f->block_bytes, blocks[i / LIMITS_KINDS]);
        cr_assert_gt(f->mib_s, 0);
        bool grouped = f->kind != LIMITS_READ && f->kind != LIMITS_WRITE_16MIB;
        cr_assert_eq(f->p50_us > 0, grouped);
    }
}

/* One in flight: the rate cannot exceed what the median latency allows by much, nor can the half
 * that is faster hold less than its share of the time. */
static void latencies_check(const struct limits *l)
{
    for (unsigned i = 0; i < l->figures_n; i++) {
        const struct limits_figure *f = &l->figures[i];
        if (f->kind != LIMITS_WRITE_FLUSH && f->kind != LIMITS_WRITE_DSYNC)
            continue;
        double mib_s_max = 2 * (f->block_bytes / 0x1p20) / (f->p50_us / 1e6);
        cr_assert_leq(f->mib_s, 1.1 * mib_s_max, "%f MiB/s, p50 %f us", f->mib_s, f->p50_us);
    }
}

/* Every measurement took its time at least, so the kernel must have counted that many bytes. */
static void bytes_check(const struct limits *l, const struct bill_sample *first,
                        const struct bill_sample *last, double seconds_each)
{
    double bytes[2] = {(double)l->file_bytes, 0};
    if (l->device.name[0] == '\0' || first->device_written_bytes == BILL_UNKNOWN)
        return;
    for (unsigned i = 0; i < l->figures_n; i++)
        bytes[l->figures[i].kind == LIMITS_READ] += l->figures[i].mib_s * 0x1p20 * seconds_each;
    cr_assert_geq((double)(last->device_written_bytes - first->device_written_bytes), bytes[0]);
    cr_assert_geq((double)(last->device_read_bytes - first->device_read_bytes), bytes[1]);
}

Test(limits, of_a_directory_are_measured_and_nothing_is_left, .timeout = 60)
{
    char dir[64], reason[256] = "";
    struct progress p = {0};
    struct limits limits;
    struct bill_sample first, last;
    bill_dir_make(dir);
    struct limits_config config = config_make(dir, &p);
    unsigned fds = bill_fds_open();
    bill_self(&first);
    int rc = limits_measure(&config, &limits, reason, sizeof(reason));
    cr_assert_eq(rc, 0, "%s", reason);
    bill_self(&last);
    cr_assert_eq(bill_fds_open(), fds);
    dir_remove(dir);
    cr_assert(limits.device_measured);
    cr_assert_str_eq(limits.dir, dir);
    cr_assert_gt(limits.file_bytes, 0);
    cr_assert_leq(limits.file_bytes, 16 * MIB);
    cr_assert_eq(limits.tcp_n, 0);
    cr_assert_eq(p.calls, 1 + 2 * LIMITS_KINDS);
    kinds_check(&limits);
    latencies_check(&limits);
    bytes_check(&limits, &first, &last, config.seconds_each);
}

static void tcp_measure(struct limits *ret)
{
    char reason[256] = "";
    unsigned fds = bill_fds_open();
    struct limits_config config = {
        .tcp = true, .sizes_bytes = {100, 1 << 20}, .sizes_n = 2, .seconds_each = 0.1};
    int rc = limits_measure(&config, ret, reason, sizeof(reason));
    cr_assert_eq(rc, 0, "%s", reason);
    cr_assert_eq(bill_fds_open(), fds);
    cr_assert(!ret->device_measured);
    cr_assert_eq(ret->tcp_n, 2);
    for (unsigned i = 0; i < ret->tcp_n; i++) {
        const struct limits_tcp *t = &ret->tcp[i];
        cr_assert_eq(t->message_bytes, config.sizes_bytes[i]);
        cr_assert_gt(t->mib_s, 0);
        /* Two threads are two cores at most. */
        cr_assert_lt(t->mib_s / 1024 * t->cpu_s_per_gib, 2.1);
    }
}

/* A send of 1 MiB carries 10,000 times as much as one of 100 bytes, and both are work. The machine
 * may stand still for most of a measurement, so one of some has to show it. */
static bool tcp_is_plausible(const struct limits *l)
{
    return l->tcp[0].mib_s / 1024 * l->tcp[0].cpu_s_per_gib > 0.01 &&
           l->tcp[1].mib_s / 1024 * l->tcp[1].cpu_s_per_gib > 0.01 &&
           l->tcp[1].mib_s > 2 * l->tcp[0].mib_s;
}

Test(limits, of_tcp_are_measured, .timeout = 60)
{
    struct limits limits;
    bool plausible = false;
    for (unsigned i = 0; i < 5 && !plausible; i++) {
        tcp_measure(&limits);
        plausible = tcp_is_plausible(&limits);
    }
    cr_assert(plausible, "%f MiB/s of 100 bytes, %f of 1 MiB", limits.tcp[0].mib_s,
              limits.tcp[1].mib_s);
}

/* Runs and expects the error, a reason, and *ret as it was. */
static void failure_check(const struct limits_config *config, int want)
{
    char reason[256] = "";
    struct limits limits, before;
    memset(&limits, 0x5a, sizeof(limits));
    memset(&before, 0x5a, sizeof(before));
    unsigned fds = bill_fds_open();
    int rc = limits_measure(config, &limits, reason, sizeof(reason));
    cr_assert_eq(rc, want, "%d: %s", rc, reason);
    cr_assert_not_null(strstr(reason, strerror(-want)), "%s", reason);
    cr_assert_eq(memcmp(&limits, &before, sizeof(limits)), 0);
    cr_assert_eq(bill_fds_open(), fds);
}

Test(limits, a_directory_that_does_not_exist, .timeout = 20)
{
    struct progress p = {0};
    struct limits_config config = config_make("build/tmp/no-such-directory", &p);
    failure_check(&config, -ENOENT);
    cr_assert_eq(p.calls, 0);
}

Test(limits, a_file_that_may_not_be_made_that_long, .timeout = 20)
{
    char dir[64];
    struct progress p = {0};
    bill_dir_make(dir);
    struct limits_config config = config_make(dir, &p);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){64 << 10, RLIM_INFINITY});
    failure_check(&config, -EFBIG);
    dir_remove(dir);
}

/* At the first writes, and in the middle. */
Test(limits, a_write_that_fails_leaves_nothing_either, .timeout = 20)
{
    static const unsigned at[] = {1, 2, 4, 8};
    signal(SIGXFSZ, SIG_IGN);
    for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        char dir[64];
        struct progress p = {.limit_at = at[i]};
        bill_dir_make(dir);
        struct limits_config config = config_make(dir, &p);
        failure_check(&config, -EFBIG);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
        cr_assert_eq(p.calls, at[i]);
        dir_remove(dir);
    }
}

Test(limits, sizes_are_checked)
{
    struct limits_config config = {.tcp = true};
    failure_check(&config, -EINVAL);
    config.sizes_n = LIMITS_SIZES_MAX + 1;
    failure_check(&config, -EINVAL);
    config.sizes_n = 1;
    failure_check(&config, -EINVAL);
    config.sizes_bytes[0] = LIMITS_SIZE_BYTES_MAX + 1;
    failure_check(&config, -EINVAL);
}

static struct limits example_make(void)
{
    return (struct limits){
        .device_measured = true,
        .dir = "data",
        .device = {.fs_type = "?"},
        .direct = true,
        .file_bytes = 1 << 30,
        .figures = {{LIMITS_WRITE_16MIB, 4096, 100, 0},
                    {LIMITS_WRITE_FLUSH, 4096, 10, 390.5},
                    {LIMITS_WRITE_16MIB, 65536, 400, 0},
                    {LIMITS_WRITE_GROUP, 65536, 80, 3000},
                    {LIMITS_WRITE_DSYNC, 65536, 90, 700},
                    {LIMITS_READ, 65536, 800, 0}},
        .figures_n = 6,
        .tcp = {{100, 40, 20}, {65536, 2000, 0.5}},
        .tcp_n = 2,
    };
}

Test(limits, json_has_what_was_measured)
{
    struct limits l = example_make();
    struct json_object *o = limits_json(&l), *v;
    struct json_object *device = json_object_object_get(o, "device");
    struct json_object *writes = json_object_object_get(device, "write");
    struct json_object *reads = json_object_object_get(device, "read");
    cr_assert_eq(json_object_array_length(writes), 5);
    cr_assert_eq(json_object_array_length(reads), 1);
    cr_assert_str_eq(json_object_get_string(json_object_array_get_idx(writes, 1)),
                     "{ \"block_bytes\": 4096, \"depth\": 1, \"flush\": \"each\", \"mib_s\": 10, "
                     "\"p50_us\": 390.5 }");
    cr_assert_str_eq(json_object_get_string(json_object_array_get_idx(reads, 0)),
                     "{ \"block_bytes\": 65536, \"depth\": 4, \"mib_s\": 800 }");
    cr_assert(!json_object_object_get_ex(device, "fs", &v), "not known");
    cr_assert(!json_object_object_get_ex(device, "write_cache", &v), "no block device");
    cr_assert_eq(json_object_array_length(json_object_object_get(o, "tcp")), 2);
    json_object_put(o);
    l = (struct limits){0};
    o = limits_json(&l);
    cr_assert_eq(json_object_object_length(o), 0);
    json_object_put(o);
}

static void share_check(struct json_object *array, size_t i, const char *name, double limit_mib_s,
                        double share)
{
    struct json_object *o = json_object_array_get_idx(array, i);
    cr_assert_str_eq(json_object_get_string(json_object_object_get(o, "name")), name);
    cr_assert_float_eq(json_object_get_double(json_object_object_get(o, "limit_mib_s")),
                       limit_mib_s, 1e-9);
    cr_assert_float_eq(json_object_get_double(json_object_object_get(o, "share")), share, 1e-9);
}

Test(limits, shares_are_of_the_best_of_their_kind)
{
    struct limits l = example_make();
    struct limits_run run = {.acked_mib_s = 45, .consumed_mib_s = 200, .durable = true};
    struct json_object *array = limits_share_json(&l, &run);
    cr_assert_eq(json_object_array_length(array), 5);
    share_check(array, 0, "acknowledged bytes against synced device writes", 90, 0.5);
    share_check(array, 1, "acknowledged bytes against device writes", 400, 0.1125);
    share_check(array, 2, "consumed bytes against device reads", 800, 0.25);
    share_check(array, 3, "acknowledged bytes against loopback TCP", 2000, 0.0225);
    share_check(array, 4, "consumed bytes against loopback TCP", 2000, 0.1);
    cr_assert_str_eq(json_object_get_string(
                         json_object_object_get(json_object_array_get_idx(array, 0), "flush")),
                     "dsync");
    json_object_put(array);
}

Test(limits, shares_of_what_did_not_happen_are_absent)
{
    struct limits l = example_make();
    struct limits_run run = {.acked_mib_s = 45};
    struct json_object *array = limits_share_json(&l, &run);
    cr_assert_eq(json_object_array_length(array), 2);
    share_check(array, 0, "acknowledged bytes against device writes", 400, 0.1125);
    share_check(array, 1, "acknowledged bytes against loopback TCP", 2000, 0.0225);
    json_object_put(array);
    l.tcp_n = 0;
    l.figures_n = 0;
    array = limits_share_json(&l, &run);
    cr_assert_eq(json_object_array_length(array), 0);
    json_object_put(array);
}
