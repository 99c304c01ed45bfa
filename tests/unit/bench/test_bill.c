/* Each test forks a process that does a known amount of something when told to, and reads the bill
 * from outside before and after. */
#include "bench/bill.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_bill_fixture.h"

#define MIB (UINT64_C(1) << 20)
#define MS UINT64_C(1000000)

struct child {
    pid_t pid;
    int go, done;
};

static void child_main(void (*work)(void), int go, int done)
{
    char byte;
    while (read(go, &byte, 1) == 1) {
        work();
        if (write(done, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static struct child child_start(void (*work)(void))
{
    int go[2], done[2];
    cr_assert_eq(pipe2(go, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(done, O_CLOEXEC), 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        close(go[1]);
        close(done[0]);
        child_main(work, go[0], done[1]);
    }
    close(go[0]);
    close(done[1]);
    return (struct child){pid, go[1], done[0]};
}

static void child_work(struct child *c)
{
    char byte = 0;
    cr_assert_eq(write(c->go, &byte, 1), 1);
    cr_assert_eq(read(c->done, &byte, 1), 1);
}

static void child_stop(struct child *c)
{
    close(c->go);
    close(c->done);
    cr_assert_eq(waitpid(c->pid, NULL, 0), c->pid);
}

/* The bill of one piece of work. */
static void work_bill(void (*work)(void), struct bill_sample *first, struct bill_sample *last)
{
    struct child c = child_start(work);
    struct bill bill;
    cr_assert_eq(bill_open(&bill, c.pid), 0);
    cr_assert_eq(bill_sample(&bill, first), 0);
    child_work(&c);
    cr_assert_eq(bill_sample(&bill, last), 0);
    cr_assert_eq(last->pid, c.pid);
    child_stop(&c);
    cr_assert_eq(bill_sample(&bill, last), -ESRCH);
    bill_close(&bill);
}

static void cpu_burn(uint64_t ns)
{
    struct timespec ts;
    uint64_t end_ns = 0;
    for (;;) {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        uint64_t now_ns = (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
        end_ns = end_ns == 0 ? now_ns + ns : end_ns;
        if (now_ns >= end_ns)
            return;
    }
}

static void burn_200_ms(void)
{
    cpu_burn(200 * MS);
}

static void *thread_burn(void *arg)
{
    (void)arg;
    cpu_burn(150 * MS);
    return NULL;
}

static void burn_150_ms_in_a_thread_that_exits(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_burn, NULL) == 0)
        pthread_join(thread, NULL);
}

static void cpu_check(const struct bill_sample *first, const struct bill_sample *last, uint64_t ns)
{
    uint64_t cpu_ns = last->cpu_ns - first->cpu_ns;
    uint64_t split_ns = last->user_ns + last->system_ns - first->user_ns - first->system_ns;
    cr_assert_geq(cpu_ns, ns);
    cr_assert_leq(cpu_ns, ns + 50 * MS);
    cr_assert_leq(cpu_ns, 2 * (last->at_ns - first->at_ns));
    /* Both parts are rounded down to a tick, at both ends. */
    cr_assert_leq(split_ns, cpu_ns + 20 * MS);
    cr_assert_geq(split_ns + 20 * MS, cpu_ns);
}

Test(bill, cpu_is_what_was_burnt, .timeout = 20)
{
    struct bill_sample first, last;
    work_bill(burn_200_ms, &first, &last);
    /* The last call failed and must have left it alone. */
    cpu_check(&first, &last, 200 * MS);
}

Test(bill, cpu_of_threads_that_exited_counts, .timeout = 20)
{
    struct bill_sample first, last;
    work_bill(burn_150_ms_in_a_thread_that_exits, &first, &last);
    cpu_check(&first, &last, 150 * MS);
}

static char write_dir[64];
static void write_8_read_4_mib_direct(void)
{
    enum { CHUNK = 1 << 20 };
    void *buf;
    int fd = open(write_dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0 || posix_memalign(&buf, 4096, CHUNK) != 0)
        _exit(1);
    memset(buf, 1, CHUNK);
    for (int i = 0; i < 8; i++)
        if (pwrite(fd, buf, CHUNK, i * CHUNK) != CHUNK)
            _exit(1);
    for (int i = 0; i < 4; i++)
        if (pread(fd, buf, CHUNK, i * CHUNK) != CHUNK)
            _exit(1);
    free(buf);
    close(fd);
}

Test(bill, device_bytes_are_what_was_written_and_read_directly, .timeout = 20)
{
    struct bill_sample first, last;
    bill_dir_make(write_dir);
    work_bill(write_8_read_4_mib_direct, &first, &last);
    cr_assert_eq(rmdir(write_dir), 0);
    if (last.device_written_bytes == 0)
        cr_skip_test("the file system of build/tmp has no block device that counts");
    uint64_t written = last.device_written_bytes - first.device_written_bytes;
    uint64_t read_ = last.device_read_bytes - first.device_read_bytes;
    cr_assert_geq(written, 8 * MIB);
    cr_assert_leq(written, 8 * MIB + MIB / 2); /* and the file system's own blocks */
    cr_assert_geq(read_, 4 * MIB);
    cr_assert_leq(read_, 4 * MIB + MIB / 2);
}

static void touch_64_keep_16_mib(void)
{
    char *p = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        _exit(1);
    memset(p, 1, 64 * MIB);
    munmap(p + 16 * MIB, 48 * MIB);
}

Test(bill, memory_is_what_is_kept_and_the_peak_what_was_touched, .timeout = 20)
{
    struct bill_sample first, last;
    work_bill(touch_64_keep_16_mib, &first, &last);
    /* The kernel counts pages in batches per CPU. */
    cr_assert_geq(last.rss_bytes + 2 * MIB, first.rss_bytes + 16 * MIB);
    cr_assert_leq(last.rss_bytes, first.rss_bytes + 24 * MIB);
    cr_assert_geq(last.rss_bytes_peak + 2 * MIB, first.rss_bytes + 64 * MIB);
    cr_assert_leq(last.rss_bytes_peak, first.rss_bytes + 72 * MIB);
    cr_assert_eq(last.rss_bytes_max, last.rss_bytes); /* the highest that a sample saw */
    struct json_object *o = bill_json(&first, &last, 0, 0);
    cr_assert_eq((uint64_t)json_object_get_int64(json_object_object_get(o, "rss_bytes_max")),
                 last.rss_bytes_peak);
    json_object_put(o);
}

static void sleep_100_times(void)
{
    for (int i = 0; i < 100; i++)
        usleep(500);
}

Test(bill, voluntary_switches_are_the_sleeps, .timeout = 20)
{
    struct child c = child_start(sleep_100_times);
    struct bill bill;
    struct bill_sample s[4];
    cr_assert_eq(bill_open(&bill, c.pid), 0);
    cr_assert_eq(bill_sample(&bill, &s[0]), 0);
    for (unsigned i = 1; i < 4; i++) {
        child_work(&c);
        cr_assert_eq(bill_sample(&bill, &s[i]), 0);
        uint64_t switches = s[i].voluntary_switches - s[i - 1].voluntary_switches;
        cr_assert_geq(switches, 100);
        cr_assert_leq(switches, 120);
    }
    child_stop(&c);
    bill_close(&bill);
}

/* A second thread's count, and that the sum stays when the thread is gone. */
static pthread_barrier_t barrier;
static void *thread_sleep_and_stay(void *arg)
{
    sleep_100_times();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return arg;
}

static void thread_live_then_join(void)
{
    static pthread_t thread;
    static bool started;
    if (!started) {
        started = true;
        pthread_barrier_init(&barrier, NULL, 2);
        if (pthread_create(&thread, NULL, thread_sleep_and_stay, NULL) != 0)
            _exit(1);
        pthread_barrier_wait(&barrier);
    } else {
        pthread_barrier_wait(&barrier);
        pthread_join(thread, NULL);
    }
}

Test(bill, switches_of_threads_stay_when_they_exit, .timeout = 20)
{
    struct child c = child_start(thread_live_then_join);
    struct bill bill;
    struct bill_sample s[3];
    cr_assert_eq(bill_open(&bill, c.pid), 0);
    cr_assert_eq(bill_sample(&bill, &s[0]), 0);
    child_work(&c);
    cr_assert_eq(bill_sample(&bill, &s[1]), 0);
    child_work(&c);
    cr_assert_eq(bill_sample(&bill, &s[2]), 0);
    cr_assert_geq(s[1].voluntary_switches - s[0].voluntary_switches, 100);
    cr_assert_geq(s[2].voluntary_switches, s[1].voluntary_switches);
    cr_assert_leq(s[2].voluntary_switches - s[1].voluntary_switches, 20);
    child_stop(&c);
    bill_close(&bill);
}

static void nothing(void)
{
}

Test(bill, a_process_that_ends_is_gone_also_before_it_is_reaped, .timeout = 20)
{
    struct child c = child_start(nothing);
    struct bill bill, other;
    struct bill_sample s;
    siginfo_t info;
    unsigned fds = bill_fds_open();
    cr_assert_eq(bill_open(&bill, c.pid), 0);
    kill(c.pid, SIGKILL);
    cr_assert_eq(waitid(P_PID, (id_t)c.pid, &info, WEXITED | WNOWAIT), 0);
    cr_assert_eq(bill_sample(&bill, &s), -ESRCH, "a zombie");
    cr_assert_eq(bill_open(&other, c.pid), -ESRCH, "a zombie");
    child_stop(&c);
    cr_assert_eq(bill_sample(&bill, &s), -ESRCH);
    cr_assert_eq(bill_open(&other, c.pid), -ESRCH);
    bill_close(&bill);
    cr_assert_eq(bill_fds_open() + 2, fds); /* the two ends of the child's pipes went with it */
}

Test(bill, numbers_that_are_no_process)
{
    struct bill bill;
    cr_assert_eq(bill_open(&bill, 0), -ESRCH);
    cr_assert_eq(bill_open(&bill, -1), -ESRCH);
    cr_assert_eq(bill_open(&bill, 0x7ffffff0), -ESRCH);
}

/* The kernel gives a chosen number to those who may restore checkpoints. */
static pid_t fork_as(pid_t pid)
{
    struct clone_args args = {
        .exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&pid, .set_tid_size = 1};
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

Test(bill, a_number_given_to_another_process_is_noticed, .timeout = 20)
{
    struct child c = child_start(nothing);
    struct bill bill;
    struct bill_sample s;
    cr_assert_eq(bill_open(&bill, c.pid), 0);
    child_stop(&c);
    pid_t again = fork_as(c.pid);
    if (again == 0) {
        syscall(SYS_pause);
        syscall(SYS_exit_group, 0);
    }
    if (again < 0 && (errno == EPERM || errno == EEXIST || errno == ENOSYS))
        cr_skip_test("the kernel does not give us the number again");
    cr_assert_eq(again, c.pid);
    cr_assert_eq(bill_sample(&bill, &s), -ESRCH);
    bill_close(&bill);
    cr_assert_eq(bill_open(&bill, again), 0, "the other one has its own bill");
    cr_assert_eq(bill_sample(&bill, &s), 0);
    bill_close(&bill);
    kill(again, SIGKILL);
    cr_assert_eq(waitpid(again, NULL, 0), again);
}

Test(bill, what_is_not_permitted_is_unknown_and_the_rest_is_known, .timeout = 20)
{
    enum { NOBODY = 65534 };
    struct child c = child_start(nothing);
    struct bill bill;
    struct bill_sample s;
    if (geteuid() != 0)
        cr_skip_test("only root can become somebody else");
    cr_assert_eq(seteuid(NOBODY), 0);
    int rc = bill_open(&bill, c.pid);
    cr_assert_eq(rc, 0, "%s", strerror(-rc));
    cr_assert_eq(bill_sample(&bill, &s), 0);
    cr_assert_eq(seteuid(0), 0);
    cr_assert_eq(s.device_read_bytes, BILL_UNKNOWN);
    cr_assert_eq(s.device_written_bytes, BILL_UNKNOWN);
    cr_assert_neq(s.cpu_ns, BILL_UNKNOWN);
    cr_assert_neq(s.rss_bytes, BILL_UNKNOWN);
    cr_assert_neq(s.voluntary_switches, BILL_UNKNOWN);
    struct json_object *o = bill_json(&s, &s, 1, 1), *v;
    cr_assert(!json_object_object_get_ex(o, "device_written_bytes", &v));
    cr_assert(!json_object_object_get_ex(o, "written_bytes_per_payload_byte", &v));
    cr_assert(json_object_object_get_ex(o, "rss_bytes_end", &v));
    json_object_put(o);
    bill_close(&bill);
    child_stop(&c);
}

Test(bill, of_our_own_process, .timeout = 20)
{
    struct bill_sample first, last;
    bill_self(&first);
    cpu_burn(100 * MS);
    sleep_100_times();
    bill_self(&last);
    cr_assert_eq(last.pid, getpid());
    cr_assert_geq(last.cpu_ns - first.cpu_ns, 100 * MS);
    cr_assert_leq(last.cpu_ns - first.cpu_ns, 200 * MS);
    cr_assert_geq(last.voluntary_switches - first.voluntary_switches, 100);
    cr_assert_gt(last.rss_bytes, 0);
    cr_assert_leq(last.rss_bytes, last.rss_bytes_peak + MIB);
}

static double number_of(struct json_object *o, const char *key)
{
    struct json_object *v;
    cr_assert(json_object_object_get_ex(o, key, &v), "%s is absent", key);
    return json_object_get_double(v);
}

Test(bill, json_is_arithmetic)
{
    struct bill_sample first = {.at_ns = 1000 * MS,
                                .cpu_ns = 500 * MS,
                                .user_ns = 300 * MS,
                                .system_ns = 200 * MS,
                                .voluntary_switches = 10,
                                .involuntary_switches = 1,
                                .rss_bytes_peak = 50 * MIB,
                                .device_written_bytes = 5};
    struct bill_sample last = {.at_ns = 5000 * MS,
                               .pid = 7,
                               .command = "kafka",
                               .cpu_ns = 6500 * MS,
                               .user_ns = 4300 * MS,
                               .system_ns = 2200 * MS,
                               .voluntary_switches = 4010,
                               .involuntary_switches = 2001,
                               .rss_bytes = 30 * MIB,
                               .rss_bytes_max = 40 * MIB,
                               .rss_bytes_peak = 50 * MIB,
                               .device_written_bytes = 5 + 12288 * MIB,
                               .device_cancelled_bytes = 4096};
    struct json_object *o = bill_json(&first, &last, 2000000, 4096 * MIB);
    const struct {
        const char *key;
        double value;
    } want[] = {{"pid", 7},
                {"seconds", 4},
                {"cpu_s", 6},
                {"cpu_user_s", 4},
                {"cpu_system_s", 2},
                {"cpu_cores", 1.5},
                {"cpu_s_per_gib", 1.5},
                {"cpu_s_per_million_records", 3},
                {"rss_bytes_max", 41943040},
                {"rss_bytes_end", 31457280},
                {"rss_bytes_peak", 52428800},
                {"device_read_bytes", 0},
                {"device_written_bytes", 12884901888},
                {"device_cancelled_bytes", 4096},
                {"written_bytes_per_payload_byte", 3},
                {"voluntary_switches", 4000},
                {"involuntary_switches", 2000},
                {"switches_per_million_records", 3000}};
    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        cr_assert_float_eq(number_of(o, want[i].key), want[i].value, 1e-9, "%s: %f", want[i].key,
                           number_of(o, want[i].key));
    cr_assert_eq(json_object_object_length(o), (int)(sizeof(want) / sizeof(want[0])) + 1);
    json_object_put(o);
}

Test(bill, json_has_no_ratio_to_what_was_not_counted)
{
    struct bill_sample first = {.at_ns = 1, .cpu_ns = BILL_UNKNOWN};
    struct bill_sample last = {.at_ns = 2 + 1000 * MS, .pid = 7, .cpu_ns = 5};
    static const char *const absent[] = {"cpu_s",
                                         "cpu_cores",
                                         "cpu_s_per_gib",
                                         "cpu_s_per_million_records",
                                         "written_bytes_per_payload_byte",
                                         "switches_per_million_records"};
    struct json_object *o = bill_json(&first, &last, 0, 0), *v;
    for (unsigned i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
        cr_assert(!json_object_object_get_ex(o, absent[i], &v), "%s", absent[i]);
    cr_assert(json_object_object_get_ex(o, "seconds", &v));
    json_object_put(o);
}
