/* topo.h: the machine as plain data: packages, NUMA nodes, cores, caches, NICs and block devices.
 * Happy path: topo_discover() asks hwloc once and copies what placement and pictures need; nothing
 *   of hwloc stays behind. topo_from_synthetic() and topo_from_xml() give other machines, for
 *   planning and tests; topo_restrict() narrows any of them to a CPU list.
 * Failure: -errno, *ret untouched; -EINVAL when hwloc refuses the description or the file.
 * Ownership: the caller owns the topo and gives it to topo_destroy() (NULL is fine).
 * Relies on: nothing about order but this: cores are sorted by package, node and L3, so the cores
 *   of one such group are one contiguous run, and a core's index is its place in that order.
 * Threads: discovery reads the calling thread's affinity; a topo is read-only after that and may
 *   be shared. */
#ifndef NUMA_TOPO_H
#define NUMA_TOPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOPO_NAME_BYTES 64

struct topo_package {
    unsigned os_index;
};

struct topo_node {
    unsigned os_index;
    uint64_t memory_bytes; /* 0: none, or none that the system tells of */
    int package;           /* index; -1 when it spans several */
    bool allowed;          /* the cgroup's cpuset lets us allocate here */
};

struct topo_l3 {
    uint64_t size_bytes;
};

/* One line for all caches of a kind. */
struct topo_cache {
    unsigned level;
    char type; /* 'd', 'i', or 'u' for unified */
    uint64_t size_bytes;
    size_t count;
};

struct topo_pu {
    unsigned os_index;
    bool allowed;
};

struct topo_core {
    int package;     /* index; -1 when the machine shows no packages */
    int node;        /* index of the NUMA node it belongs to */
    int memory_node; /* index of the nearest node with memory that may be used: mostly node */
    int l3;          /* index; -1: no L3 */
    bool allowed;    /* at least one PU is */
    struct topo_pu *pus;
    size_t n_pus;
};

/* Where a device is attached: to a node, else to a package, else (-1, -1) equally far from all. */
struct topo_locality {
    int node;
    int package;
};

struct topo_nic {
    char name[TOPO_NAME_BYTES];
    char pci[TOPO_NAME_BYTES]; /* bus id, "" when there is none */
    struct topo_locality near;
    uint64_t speed_mbit; /* 0: not known */
};

struct topo_block {
    char name[TOPO_NAME_BYTES];
    struct topo_locality near;
    uint64_t size_bytes; /* 0: not known */
    int rotational;      /* as the kernel reports it; -1: not known */
    bool nvme;
};

struct topo {
    struct topo_package *packages;
    struct topo_node *nodes;
    struct topo_l3 *l3s;
    struct topo_cache *caches;
    struct topo_core *cores;
    struct topo_nic *nics;
    struct topo_block *blocks;
    size_t n_packages, n_nodes, n_l3s, n_caches, n_cores, n_nics, n_blocks, n_pus;
    struct topo_pu *pus;         /* what the cores' pus point into */
    uint64_t *distances;         /* n_nodes x n_nodes latencies [from][to], NULL: not known */
    uint64_t memory_limit_bytes; /* of the cgroup; 0: none */
    bool this_machine;           /* false for a synthetic or recorded one */
};

/* The machine we run on. A PU is allowed when both the cpuset cgroup and this thread's affinity
 * allow it. */
int topo_discover(struct topo **ret);

/* hwloc's synthetic syntax, as "pack:2 numa:1 l3:1 core:16 pu:2". All PUs are allowed. */
int topo_from_synthetic(const char *desc, struct topo **ret);

/* A machine recorded with `lstopo FILE.xml`. */
int topo_from_xml(const char *path, struct topo **ret);

/* Keep only the PUs in a list as "0-3,8" allowed. -EINVAL: bad syntax; -ENOENT: it names a PU that
 * the machine lacks; -EPERM: none of the named may be used. On failure nothing has changed. */
int topo_restrict(struct topo *topo, const char *cpulist);

/* The node with usable memory that is nearest to a node: itself if it has some; else by the
 * machine's distances; without those the first in the same package; else the first. A machine
 * whose nodes all tell of no memory gives the node itself. */
int topo_nearest_memory(const struct topo *topo, int node);

/* Memory of the nodes that may be used, within the cgroup's limit; 0: not known. */
uint64_t topo_allowed_memory(const struct topo *topo);

size_t topo_allowed_cores(const struct topo *topo);

void topo_destroy(struct topo *topo);

#endif
