#include "test_uring_fixture.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/device.h"

/* Whatever the machine: what the probe says must hold when it is used. */
Test(probe, finds_what_is_there)
{
    struct io_features f;
    const char *reason = NULL;
    cr_assert_eq(io_probe(&f, &reason), 0, "%s", reason);
    cr_assert(f.io_uring && f.ext_arg && f.nodrop);
    cr_assert_geq(f.kernel_major, 6);
    /* All in 6.1, which is the least that passes. */
    cr_assert(f.single_issuer && f.defer_taskrun && f.coop_taskrun && f.sparse_files);
    cr_assert(f.accept_multishot && f.recv_multishot && f.buf_ring && f.msg_ring && f.splice);
    cr_assert(f.send_zc);
    if (f.kernel_major > 6 || f.kernel_minor >= 2)
        cr_assert(f.send_zc_report && f.send_zc_copied, "loopback copies, and says so");
    if (f.kernel_major > 6 || f.kernel_minor >= 5)
        cr_assert(f.cachestat);
    cr_assert_gt(f.nofile, 0);
    cr_assert_geq(f.nofile_max, f.nofile);
}

Test(probe, leaves_nothing_open)
{
    struct io_features f;
    const char *reason;
    int before = dup(0);
    close(before);
    io_probe(&f, &reason);
    int after = dup(0);
    cr_assert_eq(before, after);
}

static void seccomp_refuse(unsigned call, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

Test(probe, says_why_a_sandbox_cannot_serve)
{
    struct io_features f;
    const char *reason = "";
    seccomp_refuse(SYS_io_uring_setup, EPERM);
    cr_assert_eq(io_probe(&f, &reason), -ENOSYS);
    cr_assert(!f.io_uring);
    cr_assert_not_null(strstr(reason, "seccomp"), "%s", reason);
    cr_assert_null(strchr(reason, '\n'));
    struct env *env = NULL;
    cr_assert_eq(env_uring_create(&(struct env_uring_config){0}, &env), -ENOSYS);
    cr_assert_null(env);
}

Test(probe, says_that_a_kernel_has_no_rings)
{
    struct io_features f;
    const char *reason = "";
    seccomp_refuse(SYS_io_uring_setup, ENOSYS);
    cr_assert_eq(io_probe(&f, &reason), -ENOSYS);
    cr_assert_not_null(strstr(reason, "no io_uring"), "%s", reason);
}

/* Registrations refused: no files, no memory, no buffer ring; the environment still works. */
Test(probe, refused_registrations_fall_back)
{
    struct test_dir dir;
    struct io_features f;
    const char *reason = "";
    dir_make(&dir);
    seccomp_refuse(SYS_io_uring_register, EPERM);
    cr_assert_eq(io_probe(&f, &reason), -ENOSYS); /* serve wants the ring to hold its locks */
    cr_assert_not_null(strstr(reason, "registering files"), "%s", reason);
    cr_assert(!f.sparse_files && !f.fixed_buffers && !f.buf_ring);
    struct env *env = env_make(&f, 0);
    struct env_file *file = file_make(env, dir_name(&dir, "a"), 65536);
    unsigned char *out = blocks_make(65536, 1), *in = blocks_make(65536, 2);
    cr_assert_eq(env_write_wait(env, file, out, 65536, 0, ENV_DSYNC), 65536);
    cr_assert_eq(env_read_wait(env, file, in, 65536, 0), 65536);
    cr_assert(pattern_is(in, 65536, 1));
    env_file_close(env, file);
    env_destroy(env);
    /* But a lock that no ring holds is refused. */
    int fd = 0;
    struct env_uring_config config = {.features = &f, .lock_fds = &fd, .lock_fds_n = 1};
    cr_assert_lt(env_uring_create(&config, &env), 0);
    free(in);
    free(out);
    dir_remove(&dir);
}

Test(device, describes_the_disk_under_a_directory)
{
    struct test_dir dir;
    struct device d;
    struct statvfs fs;
    dir_make(&dir);
    cr_assert_eq(device_describe(dir.path, &d), 0);
    cr_assert_eq(statvfs(dir.path, &fs), 0);
    cr_assert_str_neq(d.fs_type, "?");
    cr_assert_eq(d.total_bytes, (uint64_t)fs.f_blocks * fs.f_frsize);
    cr_assert_gt(d.free_bytes, 0);
    cr_assert(!d.read_only);
    cr_assert_eq(device_describe(dir_name(&dir, "no"), &d), -ENOENT);
    cr_assert_eq(device_describe("/proc", &d), 0);
    cr_assert_str_eq(d.fs_type, "proc");
    cr_assert_str_eq(d.name, "");
    cr_assert(!d.direct);
    dir_remove(&dir);
}
