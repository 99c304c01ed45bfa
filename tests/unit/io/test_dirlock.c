#include "test_uring_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/dirlock.h"

/* A child that locks the directory, says so, and sleeps. */
static pid_t child_holding(const char *dir, int *ret_ready)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int lock;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dirlock_acquire(dir, 0, &lock) != 0)
            _exit(1);
        if (write(fds[1], "x", 1) != 1)
            _exit(2);
        pause();
        _exit(3);
    }
    close(fds[1]);
    *ret_ready = fds[0];
    return pid;
}

static void child_wait_ready(int ready)
{
    char c;
    cr_assert_eq(read(ready, &c, 1), 1);
    close(ready);
}

static void child_kill(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status));
}

Test(dirlock, makes_the_directory_and_excludes_another_process, .timeout = 30)
{
    struct test_dir dir;
    int fd = -1, ready;
    dir_make(&dir);
    const char *data = dir_name(&dir, "a/b/c");
    pid_t pid = child_holding(data, &ready);
    child_wait_ready(ready);
    cr_assert_eq(access(dir_name(&dir, "a/b/c/.lock"), F_OK), 0);
    cr_assert_eq(dirlock_acquire(data, 0, &fd), -EBUSY);
    uint64_t start_ns = now_ns();
    cr_assert_eq(dirlock_acquire(data, 60000, &fd), -EBUSY);
    cr_assert_geq(now_ns() - start_ns, 1000000000u, "a process on its way out gets its time");
    cr_assert_lt(now_ns() - start_ns, 20000000000u, "a live owner is not waited for");
    cr_assert_eq(fd, -1);
    child_kill(pid);
    cr_assert_eq(dirlock_acquire(data, 5000, &fd), 0);
    /* It is the lock of the open file: held once more in this process, too. */
    int again = -1;
    cr_assert_eq(dirlock_acquire(data, 0, &again), -EBUSY);
    close(fd);
    cr_assert_eq(dirlock_acquire(data, 0, &fd), 0);
    close(fd);
    dir_remove(&dir);
}

Test(dirlock, failures_are_told)
{
    struct test_dir dir;
    int fd = -1;
    dir_make(&dir);
    const char *file = dir_name(&dir, "file");
    close(open(file, O_CREAT | O_WRONLY, 0600));
    cr_assert_eq(dirlock_acquire(file, 0, &fd), -ENOTDIR);
    cr_assert_eq(dirlock_acquire(dir_name(&dir, "file/below"), 0, &fd), -ENOTDIR);
    cr_assert_eq(dirlock_acquire("", 0, &fd), -ENOENT);
    cr_assert_eq(fd, -1);
    dir_remove(&dir);
}

/* A ring holds the lock by itself: with every descriptor of it closed it is still held, and it is
 * free when the ring is gone. This is what outlives the process. */
Test(dirlock, a_ring_holds_it, .timeout = 30)
{
    struct test_dir dir;
    int fd, other = -1;
    struct env *env;
    dir_make(&dir);
    cr_assert_eq(dirlock_acquire(dir.path, 0, &fd), 0);
    struct env_uring_config config = {.lock_fds = &fd, .lock_fds_n = 1};
    cr_assert_eq(env_uring_create(&config, &env), 0);
    close(fd);
    cr_assert_eq(dirlock_acquire(dir.path, 100, &other), -EBUSY);
    env_destroy(env);
    cr_assert_eq(dirlock_acquire(dir.path, 5000, &other), 0);
    close(other);
    dir_remove(&dir);
}

/* Killed with direct writes in flight, over and over: once the lock is granted the file does not
 * change any more. The child writes one generation after the other, so a late write shows. */
enum { BLOCK = 1 << 20, BLOCKS = 32 };

static void on_generation(struct env_op *op)
{
    container_of(op, struct waited, op)->done_n++;
}

/* Says when it has handed each generation over. */
static void child_write_for_ever(const char *dir, const char *path, int say)
{
    int fd;
    struct env *env;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dirlock_acquire(dir, 0, &fd) != 0)
        _exit(1);
    struct env_uring_config config = {.lock_fds = &fd, .lock_fds_n = 1};
    if (env_uring_create(&config, &env) != 0)
        _exit(2);
    struct env_name_step step = {.kind = ENV_STEP_OPEN, .path = path};
    if (env_names_wait(env, &step, 1) != 0)
        _exit(3);
    static struct waited writes[BLOCKS];
    unsigned char *data = aligned_alloc(4096, BLOCK);
    for (unsigned generation = 1;; generation++) {
        memset(data, (int)generation, BLOCK);
        for (unsigned i = 0; i < BLOCKS; i++) {
            writes[i].done_n = 0;
            env_write(env, &writes[i].op, step.ret_file, data, BLOCK, (uint64_t)i * BLOCK,
                      ENV_DSYNC, on_generation);
        }
        env_turn(env, 0);
        uint64_t handed_ns = now_ns();
        if (write(say, &handed_ns, sizeof(handed_ns)) != sizeof(handed_ns))
            _exit(4);
        for (unsigned i = 0; i < BLOCKS; i++)
            while (writes[i].done_n == 0)
                env_turn(env, UINT64_MAX);
    }
}

static void prewritten_make(const char *path)
{
    struct env *env = env_make(NULL, 0);
    struct env_name_step step = {
        .kind = ENV_STEP_PREWRITE, .path = path, .size_bytes = (uint64_t)BLOCK * BLOCKS};
    cr_assert_eq(env_names_wait(env, &step, 1), 0);
    env_file_close(env, step.ret_file);
    env_destroy(env);
}

static uint64_t handed_over(int said)
{
    uint64_t at_ns;
    cr_assert_eq(read(said, &at_ns, sizeof(at_ns)), sizeof(at_ns), "the child could not start");
    return at_ns;
}

static void file_read(const char *path, unsigned char *ret)
{
    int fd = open(path, O_RDONLY | O_DIRECT);
    cr_assert_eq(read(fd, ret, (size_t)BLOCK * BLOCKS), (ssize_t)BLOCK * BLOCKS);
    close(fd);
}

Test(dirlock, after_a_kill_it_waits_for_the_writes_in_flight, .timeout = 120)
{
    struct test_dir dir;
    dir_make(&dir);
    const char *path = dir_name(&dir, "w.log");
    prewritten_make(path);
    unsigned char *first = aligned_alloc(4096, (size_t)BLOCK * BLOCKS);
    unsigned char *second = aligned_alloc(4096, (size_t)BLOCK * BLOCKS);
    for (unsigned round = 0; round < 10; round++) {
        int fds[2], lock, status;
        cr_assert_eq(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0)
            child_write_for_ever(dir.path, path, fds[1]);
        close(fds[1]);
        for (unsigned i = 0; i <= round % 3; i++)
            handed_over(fds[0]);
        close(fds[0]);
        kill(pid, SIGKILL); /* with up to 32 MiB of writes handed over */
        cr_assert_eq(dirlock_acquire(dir.path, 60000, &lock), 0);
        file_read(path, first);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        usleep(50000);
        file_read(path, second);
        cr_assert_eq(memcmp(first, second, (size_t)BLOCK * BLOCKS), 0, "a write came too late");
        close(lock);
    }
    free(first);
    free(second);
    dir_remove(&dir);
}

/* The same on a device made slow by a cgroup: the lock is refused at once after the kill, and when
 * it is granted all writes that were handed over have landed. */
static bool text_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* The whole disk under a directory, as "major:minor"; partitions cannot be throttled. */
static bool disk_of(const char *dir, char *ret, size_t len_bytes)
{
    struct stat st;
    char path[64];
    cr_assert_eq(stat(dir, &st), 0);
    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition", major(st.st_dev),
             minor(st.st_dev));
    if (major(st.st_dev) == 0 || access(path, F_OK) == 0)
        return false;
    snprintf(ret, len_bytes, "%u:%u", major(st.st_dev), minor(st.st_dev));
    return true;
}

/* Makes a group whose writes to the disk are limited; false: not allowed, or no such controller. */
static bool slow_group_make(const char *dir, unsigned bytes_per_s, char *ret, size_t len_bytes)
{
    char disk[32], path[192], rule[96];
    if (!disk_of(dir, disk, sizeof(disk)))
        return false;
    bool v1 = access("/sys/fs/cgroup/blkio", F_OK) == 0;
    snprintf(ret, len_bytes, "/sys/fs/cgroup%s/penstock-test-%d", v1 ? "/blkio" : "",
             (int)getpid());
    if (!v1)
        text_write("/sys/fs/cgroup/cgroup.subtree_control", "+io");
    if (mkdir(ret, 0755) < 0)
        return false;
    snprintf(path, sizeof(path), "%s/%s", ret, v1 ? "blkio.throttle.write_bps_device" : "io.max");
    snprintf(rule, sizeof(rule), v1 ? "%s %u" : "%s wbps=%u", disk, bytes_per_s);
    if (text_write(path, rule))
        return true;
    rmdir(ret);
    return false;
}

static void child_join_and_write(const char *group, const char *dir, const char *path, int say)
{
    char procs[192], pid[16];
    snprintf(procs, sizeof(procs), "%s/cgroup.procs", group);
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    if (!text_write(procs, pid))
        _exit(5);
    child_write_for_ever(dir, path, say);
}

static void file_is_of_ones(const char *path)
{
    unsigned char *data = aligned_alloc(4096, (size_t)BLOCK * BLOCKS);
    file_read(path, data);
    for (size_t i = 0; i < (size_t)BLOCK * BLOCKS; i++)
        cr_assert_eq(data[i], 1, "byte %zu was not written when the lock was granted", i);
    free(data);
}

/* Kills a writer and takes its lock. False: it took so long that all may have been written, which
 * takes two seconds. */
static bool slow_kill_is_waited_for(const char *group, const char *dir, const char *path)
{
    int fds[2], lock, status;
    cr_assert_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0)
        child_join_and_write(group, dir, path, fds[1]);
    close(fds[1]);
    uint64_t handed_ns = handed_over(fds[0]); /* 32 MiB */
    close(fds[0]);
    kill(pid, SIGKILL);
    uint64_t killed_ns = now_ns();
    cr_assert_eq(waitpid(pid, &status, 0), pid); /* dead, by all accounts */
    int at_once = dirlock_acquire(dir, 0, &lock);
    bool in_time = now_ns() - handed_ns < 1000000000u;
    int later = at_once == -EBUSY ? dirlock_acquire(dir, 60000, &lock) : at_once;
    cr_assert_eq(later, 0);
    if (in_time) {
        cr_assert_eq(at_once, -EBUSY, "granted with writes in flight");
        cr_assert_gt(now_ns() - killed_ns, 500000000u);
        file_is_of_ones(path);
    }
    close(lock);
    return in_time;
}

Test(dirlock, on_a_slow_device_it_outlives_the_process, .timeout = 120)
{
    enum { TRIES = 10 };
    struct test_dir dir;
    char group[128], name[16];
    dir_make(&dir);
    if (!slow_group_make(dir.path, 16 << 20, group, sizeof(group))) {
        dir_remove(&dir);
        cr_skip_test("no block I/O throttling here: not root, no controller, or a partition");
    }
    bool done = false;
    for (unsigned i = 0; i < TRIES && !done; i++) {
        snprintf(name, sizeof(name), "w%u.log", i);
        const char *path = dir_name(&dir, name);
        prewritten_make(path);
        done = slow_kill_is_waited_for(group, dir.path, path);
    }
    rmdir(group);
    cr_assert(done, "the machine is too busy to kill a process within a second");
    dir_remove(&dir);
}
