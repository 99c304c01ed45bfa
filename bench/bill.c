#include "bench/bill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/bytes.h"

#define NS_PER_S UINT64_C(1000000000)

enum { PROC_FILE_BYTES = 4096 }; /* stat, status and io are well below */

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    if (clock_gettime(id, &ts) < 0)
        return BILL_UNKNOWN;
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The whole file from its start, NUL-terminated; proc files make themselves anew for offset 0. */
static int proc_read(int fd, char ret[PROC_FILE_BYTES])
{
    if (fd < 0)
        return -EBADF;
    ssize_t n = pread(fd, ret, PROC_FILE_BYTES - 1, 0);
    if (n < 0)
        return -errno;
    ret[n] = '\0';
    return 0;
}

/* The number in the line "key: number", key at the start of a line. */
static uint64_t number_find(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) == 0 && line[len] == ':')
            return strtoull(line + len + 1, NULL, 10);
    }
    return BILL_UNKNOWN;
}

static uint64_t kib_find(const char *text, const char *key)
{
    uint64_t kib = number_find(text, key);
    return kib == BILL_UNKNOWN ? BILL_UNKNOWN : kib * 1024;
}

static int thread_add(struct bill_threads *t, struct bill_thread thread)
{
    if (t->n == t->room) {
        size_t room = MAX(2 * t->room, (size_t)32);
        void *items = realloc(t->items, room * sizeof(*t->items));
        if (items == NULL)
            return -ENOMEM;
        t->items = items;
        t->room = room;
    }
    t->items[t->n++] = thread;
    return 0;
}

/* The kernel lists threads in the order of their start, so the one asked for is, but for those
 * that exited, the one after the one asked for before. */
static const struct bill_thread *thread_find(const struct bill_threads *t, pid_t tid, size_t *hint)
{
    for (size_t i = 0; i < t->n; i++) {
        size_t at = (*hint + i) % t->n;
        if (t->items[at].tid == tid) {
            *hint = at + 1;
            return &t->items[at];
        }
    }
    return NULL;
}

/* False: the thread has exited since it was listed. */
static bool thread_read(DIR *tasks, const char *name, struct bill_thread *ret)
{
    char path[32], text[PROC_FILE_BYTES];
    if (snprintf(path, sizeof(path), "%s/status", name) >= (int)sizeof(path))
        return false;
    int fd = openat(dirfd(tasks), path, O_RDONLY | O_CLOEXEC);
    int rc = proc_read(fd, text);
    if (fd >= 0)
        close(fd);
    if (rc < 0)
        return false;
    ret->tid = (pid_t)strtol(name, NULL, 10);
    ret->voluntary = number_find(text, "voluntary_ctxt_switches");
    ret->involuntary = number_find(text, "nonvoluntary_ctxt_switches");
    return ret->voluntary != BILL_UNKNOWN && ret->involuntary != BILL_UNKNOWN;
}

/* Add what each thread did since the last sample; a lower count is a new thread with an old id. */
static int switches_sum(struct bill *b)
{
    uint64_t voluntary = b->voluntary, involuntary = b->involuntary;
    size_t hint = 0;
    struct dirent *entry;
    b->spare.n = 0;
    rewinddir(b->tasks);
    while ((entry = readdir(b->tasks)) != NULL) {
        struct bill_thread now;
        if (entry->d_name[0] == '.' || !thread_read(b->tasks, entry->d_name, &now))
            continue;
        if (thread_add(&b->spare, now) < 0)
            return -ENOMEM;
        const struct bill_thread *was = thread_find(&b->seen, now.tid, &hint);
        bool same =
            was != NULL && was->voluntary <= now.voluntary && was->involuntary <= now.involuntary;
        voluntary += now.voluntary - (same ? was->voluntary : 0);
        involuntary += now.involuntary - (same ? was->involuntary : 0);
    }
    struct bill_threads seen = b->seen;
    b->seen = b->spare;
    b->spare = seen;
    b->voluntary = voluntary;
    b->involuntary = involuntary;
    return 0;
}

/* proc(5): pid (comm) state ppid ... (14) utime (15) stime ... (20) threads. The command may hold
 * anything, so it ends at the last ")". */
static int stat_parse(const char *text, struct bill_sample *ret)
{
    char state;
    unsigned long long user, system;
    long threads;
    const char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (open == NULL || close == NULL ||
        sscanf(close + 1,
               " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %ld", &state,
               &user, &system, &threads) != 4)
        return -EIO;
    /* A zombie has ended, unless only its main thread has. */
    if (state == 'X' || (state == 'Z' && threads <= 1))
        return -ESRCH;
    uint64_t tick_ns = NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
    snprintf(ret->command, sizeof(ret->command), "%.*s", (int)(close - open - 1), open + 1);
    ret->user_ns = user * tick_ns;
    ret->system_ns = system * tick_ns;
    return 0;
}

static void memory_parse(const char *status, struct bill_sample *ret)
{
    uint64_t huge_bytes = kib_find(status, "HugetlbPages");
    uint64_t *figures[] = {&ret->rss_bytes, &ret->rss_bytes_peak};
    ret->rss_bytes = kib_find(status, "VmRSS");
    ret->rss_bytes_peak = kib_find(status, "VmHWM");
    for (unsigned i = 0; i < ARRAY_LEN(figures); i++)
        if (*figures[i] != BILL_UNKNOWN && huge_bytes != BILL_UNKNOWN)
            *figures[i] += huge_bytes;
}

static void io_parse(const char *io, struct bill_sample *ret)
{
    ret->device_read_bytes = number_find(io, "read_bytes");
    ret->device_written_bytes = number_find(io, "write_bytes");
    ret->device_cancelled_bytes = number_find(io, "cancelled_write_bytes");
}

static void memory_io_read(int status_fd, int io_fd, struct bill_sample *ret)
{
    char text[PROC_FILE_BYTES];
    memory_parse(proc_read(status_fd, text) == 0 ? text : "", ret);
    io_parse(proc_read(io_fd, text) == 0 ? text : "", ret);
}

int bill_sample(struct bill *b, struct bill_sample *ret)
{
    char text[PROC_FILE_BYTES];
    /* The clock goes by number, the file by process. If the file still answers afterwards, the
     * number was still this process's when the clock was read. */
    struct bill_sample s = {.at_ns = clock_ns(CLOCK_MONOTONIC), .pid = b->pid};
    s.cpu_ns = clock_ns(b->cpu_clock);
    int rc = proc_read(b->stat_fd, text);
    if (rc == 0)
        rc = stat_parse(text, &s);
    if (rc == 0)
        rc = switches_sum(b);
    if (rc < 0)
        return rc;
    memory_io_read(b->status_fd, b->io_fd, &s);
    s.voluntary_switches = b->seen.n > 0 ? b->voluntary : BILL_UNKNOWN;
    s.involuntary_switches = b->seen.n > 0 ? b->involuntary : BILL_UNKNOWN;
    if (s.rss_bytes != BILL_UNKNOWN)
        b->rss_bytes_max = MAX(b->rss_bytes_max, s.rss_bytes);
    s.rss_bytes_max = b->rss_bytes_max > 0 ? b->rss_bytes_max : BILL_UNKNOWN;
    *ret = s;
    return 0;
}

/* All through one descriptor of the directory, so that all are of the same process. */
static int files_open(struct bill *b, int dir_fd)
{
    enum { FLAGS = O_RDONLY | O_CLOEXEC };
    b->stat_fd = openat(dir_fd, "stat", FLAGS);
    b->status_fd = openat(dir_fd, "status", FLAGS);
    int tasks_fd = openat(dir_fd, "task", FLAGS | O_DIRECTORY);
    if (tasks_fd >= 0 && (b->tasks = fdopendir(tasks_fd)) == NULL)
        close(tasks_fd);
    if (b->stat_fd < 0 || b->status_fd < 0 || b->tasks == NULL)
        return errno == ENOENT ? -ESRCH : -errno;
    b->io_fd = openat(dir_fd, "io", FLAGS);
    return 0;
}

int bill_open(struct bill *ret, pid_t pid)
{
    char path[32];
    struct bill_sample first;
    struct bill b = {.pid = pid, .stat_fd = -1, .status_fd = -1, .io_fd = -1};
    if (pid <= 0 || clock_getcpuclockid(pid, &b.cpu_clock) != 0)
        return -ESRCH;
    snprintf(path, sizeof(path), "/proc/%d", pid);
    int dir_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    int rc = files_open(&b, dir_fd);
    close(dir_fd);
    if (rc == 0)
        rc = bill_sample(&b, &first);
    if (rc < 0) {
        bill_close(&b);
        return rc;
    }
    *ret = b;
    return 0;
}

void bill_close(struct bill *b)
{
    const int fds[] = {b->stat_fd, b->status_fd, b->io_fd};
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (b->tasks != NULL)
        closedir(b->tasks);
    free(b->seen.items);
    free(b->spare.items);
    *b = (struct bill){.stat_fd = -1, .status_fd = -1, .io_fd = -1};
}

static uint64_t timeval_ns(struct timeval tv)
{
    return (uint64_t)tv.tv_sec * NS_PER_S + (uint64_t)tv.tv_usec * 1000;
}

void bill_self(struct bill_sample *ret)
{
    struct rusage usage;
    struct bill_sample s = {.at_ns = clock_ns(CLOCK_MONOTONIC), .pid = getpid()};
    s.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    getrusage(RUSAGE_SELF, &usage); /* cannot fail with these arguments */
    s.user_ns = timeval_ns(usage.ru_utime);
    s.system_ns = timeval_ns(usage.ru_stime);
    s.voluntary_switches = (uint64_t)usage.ru_nvcsw;
    s.involuntary_switches = (uint64_t)usage.ru_nivcsw;
    snprintf(s.command, sizeof(s.command), "%s", program_invocation_short_name);
    int status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    int io_fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
    memory_io_read(status_fd, io_fd, &s);
    s.rss_bytes_max = s.rss_bytes;
    if (status_fd >= 0)
        close(status_fd);
    if (io_fd >= 0)
        close(io_fd);
    *ret = s;
}
