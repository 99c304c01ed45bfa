/* bill.h: what a process on this host costs: the broker's side of the bill, and our own.
 *
 * Happy path: bill_open() at start; bill_sample() when the measured window opens, once a second and
 *   when it closes; bill_json() of the first and the last; bill_close().
 * Failure: bill_open, bill_sample: -ESRCH when the process is gone (also when it is a zombie, and
 *   when its number has been given to another process), -ENOMEM, -EMFILE. A figure that cannot be
 *   had (another user's /proc/PID/io, say) is BILL_UNKNOWN and absent from the JSON.
 * Where the figures come from, and why there:
 *   cpu_ns: the process's CPU clock (clock_getcpuclockid), as it has nanoseconds and includes
 *     running threads up to now and threads that exited. /proc/PID/schedstat is of the main thread
 *     only, task/TID/schedstat loses exited threads, /proc/PID/stat counts in ticks of 10 ms.
 *   user_ns, system_ns: /proc/PID/stat, in ticks. The kernel splits cpu_ns by what its timer
 *     interrupts saw (CONFIG_TICK_CPU_ACCOUNTING): the split is sampled, the sum is exact.
 * Interrupt and softirq time (loopback TCP) is in the account of whichever thread was running.
 *   rss_bytes and rss_bytes_peak: VmRSS and VmHWM, plus HugetlbPages, which the kernel keeps apart.
 *     The kernel counts pages in batches per CPU, so that a MiB or so is missing or too much.
 *   device_*: /proc/PID/io. A buffered write (Apache Kafka's) is counted when it dirties the page
 *     cache, a direct write when it is submitted; file-system journals count for nobody.
 *     Written includes what was deleted before it got to the device: that part is `cancelled`.
 *   switches: summed over /proc/PID/task/TID/status. A thread that exits takes along what it did
 *     since the last sample only: the sums never go back.
 * Ownership: a bill holds descriptors of /proc files, opened once; they stay those of this process
 *   even if its number is given to another, and then say -ESRCH.
 * Threads: a bill has one owner. bill_self: any. */
#ifndef BENCH_BILL_H
#define BENCH_BILL_H

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct json_object;

#define BILL_UNKNOWN UINT64_MAX

struct bill_sample {
    uint64_t at_ns; /* CLOCK_MONOTONIC */
    pid_t pid;
    char command[16]; /* as the kernel has it (/proc/PID/comm) */
    /* Since the process started: */
    uint64_t cpu_ns, user_ns, system_ns;
    uint64_t device_read_bytes, device_written_bytes, device_cancelled_bytes;
    uint64_t voluntary_switches, involuntary_switches;
    uint64_t rss_bytes_peak;
    /* Now: */
    uint64_t rss_bytes;
    /* The highest rss_bytes of any sample since bill_open. */
    uint64_t rss_bytes_max;
};

struct bill_thread {
    pid_t tid;
    uint64_t voluntary, involuntary;
};
struct bill_threads {
    struct bill_thread *items;
    size_t n, room;
};

struct bill { /* fields are private to bill.c */
    pid_t pid;
    clockid_t cpu_clock;
    int stat_fd, status_fd, io_fd; /* io_fd: -1 when not permitted */
    DIR *tasks;
    struct bill_threads seen, spare; /* at the last sample; room for the next */
    uint64_t voluntary, involuntary; /* sums that never go back */
    uint64_t rss_bytes_max;
};

int bill_open(struct bill *ret, pid_t pid);
void bill_close(struct bill *b);
int bill_sample(struct bill *b, struct bill_sample *ret);
/* Our own process. Switches and the split of the CPU time are getrusage's: exact to the microsecond
 * and with exited threads. rss_bytes_max is rss_bytes. */
void bill_self(struct bill_sample *ret);

/* The bill for records (payload_bytes of them: keys and values, before compression) that the caller
 * counted between the two samples; 0: not counted, and the ratios to it are absent.
 * {"pid", "command", "seconds": between the samples,
 *  "cpu_s", "cpu_user_s", "cpu_system_s",
 *  "cpu_cores": cpu_s / seconds,
 *  "cpu_s_per_gib": cpu_s / (payload_bytes / 2^30), "cpu_s_per_million_records",
 *  "rss_bytes_max": highest in the window: exact if the process's all-time peak rose in it, else
 *    the highest sample; "rss_bytes_end", "rss_bytes_peak": ever,
 *  "device_read_bytes", "device_written_bytes", "device_cancelled_bytes",
 *  "written_bytes_per_payload_byte": device_written_bytes / payload_bytes,
 *  "voluntary_switches", "involuntary_switches", "switches_per_million_records": of both}
 * NULL when memory is out. */
struct json_object *bill_json(const struct bill_sample *first, const struct bill_sample *last,
                              uint64_t records, uint64_t payload_bytes);

#endif
