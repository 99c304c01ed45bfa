/* resident.h: where the memory and the threads of a process are, as the kernel says.
 * Happy path: resident_read() reads /proc/PID/numa_maps and maps, and of each thread its name, the
 *   CPUs it may run on, those CPUs' node, and its stack pointer. Nothing of it is a guess: pages
 * are counted by the kernel, by node. Failure: -errno, *ret untouched: -ESRCH (no such process),
 * -EACCES (not ours to look at), -ENOMEM. Without /proc/PID/numa_maps (a kernel without NUMA)
 * `numa` is false and there are no maps. Ownership: resident_fini() frees what is in it. Source of
 * the format: kernel document filesystems/proc, fs/proc/task_mmu.c (show_numa_map). Threads: any.
 */
#ifndef NUMA_RESIDENT_H
#define NUMA_RESIDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESIDENT_NODES_MAX 64u

enum resident_kind { RESIDENT_OTHER, RESIDENT_RING }; /* RING: shared with an io_uring */

struct resident_map {
    uint64_t start, end;
    enum resident_kind kind;
    int node;                         /* that was asked for; -1: none was, or several */
    uint64_t kib[RESIDENT_NODES_MAX]; /* in memory now, by node */
    bool file;                        /* of a file, but for rings and huge pages */
};

struct resident_thread {
    int tid;
    char name[32];
    char cpus[64];  /* allowed, as the kernel writes them; cut off where longer */
    int cpu;        /* the only one allowed; -1: several are */
    int node;       /* that CPU's; -1: not known */
    uint64_t stack; /* pointer, while it waits in the kernel; 0: it runs */
};

struct resident {
    bool numa;
    struct resident_map *maps; /* by address */
    size_t maps_n;
    struct resident_thread *threads; /* by tid */
    size_t threads_n;
};

/* root: in front of /proc and /sys, "" but in tests. */
int resident_read(const char *root, int pid, struct resident *ret);
void resident_fini(struct resident *r);

/* The map that an address lies in, or NULL. */
const struct resident_map *resident_map_at(const struct resident *r, uint64_t address);
uint64_t resident_map_kib(const struct resident_map *m);

#endif
