/* topo_linux.h: what hwloc does not tell of this Linux machine; private to numa.
 * Each reads a few small files of /sys and /proc, and answers "not known" when one is missing.
 * Threads: any. */
#ifndef NUMA_TOPO_LINUX_H
#define NUMA_TOPO_LINUX_H

#include <stddef.h>
#include <stdint.h>

/* The first line of a file without its newline; 0 or -errno. */
int linux_read_line(const char *path, char *ret, size_t size_bytes);

/* A file that holds one decimal number; 0 or -errno (-EINVAL: something else is in it). */
int linux_read_number(const char *path, int64_t *ret);

/* Link speed of a NIC in Mbit/s, 0 when the driver does not say. */
uint64_t linux_nic_speed_mbit(const char *name);

/* 1, 0, or -1 when not known. */
int linux_block_rotational(const char *name);

/* The smallest memory limit of our cgroup and those above it (v1 and v2), 0 when there is none. */
uint64_t linux_memory_limit_bytes(void);

#endif
