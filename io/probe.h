/* probe.h: which of the kernel features that penstock can use are there, found by trying each.
 * Happy path: io_probe() once at start; hand the result to every env_uring_create().
 * Failure: -ENOSYS when `serve` cannot run here at all (no io_uring, forbidden, kernel below 6.1,
 *   no registered files); *ret_reason is then one line without a newline, valid until the thread's
 *   next call. *ret is always filled with what was found.
 * Threads: any; makes short-lived rings and loopback sockets, nothing stays behind. */
#ifndef IO_PROBE_H
#define IO_PROBE_H

#include <stdbool.h>
#include <stdint.h>

struct io_features {
    unsigned kernel_major, kernel_minor;
    int disabled_sysctl; /* kernel.io_uring_disabled; -1: no such switch */
    bool io_uring;       /* a ring can be made */
    bool single_issuer;
    bool defer_taskrun;
    bool coop_taskrun;
    bool ext_arg;         /* waiting with a timeout costs no entry of its own */
    bool nodrop;          /* a full completion queue loses nothing */
    bool sparse_files;    /* registered files */
    bool fixed_buffers;   /* registered memory, at least a little */
    bool fixed_unlimited; /* ... and more than RLIMIT_MEMLOCK of it */
    bool accept_multishot;
    bool recv_multishot;
    bool buf_ring; /* provided buffers by ring */
    bool msg_ring;
    bool send_zc;
    bool send_zc_report; /* usage reports: only with them is send_zc chosen by itself */
    bool send_zc_copied; /* seen here: loopback sends are copied anyway */
    bool splice;
    bool cachestat; /* what is in the page cache can be asked */
    bool napi;
    bool iopoll; /* rings that poll; whether a device has queues for them: io/uring_poll.h */
    uint64_t memlock_bytes;                     /* RLIMIT_MEMLOCK; UINT64_MAX: no limit */
    uint64_t nofile;                            /* RLIMIT_NOFILE, soft */
    uint64_t nofile_max;                        /* ... and hard */
    uint64_t huge_free_bytes, huge_total_bytes; /* hugetlb pages of 2 MiB */
};

int io_probe(struct io_features *ret, const char **ret_reason);

#endif
