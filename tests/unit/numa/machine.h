/* machine.h: machines that hwloc's synthetic syntax cannot express, written as hwloc XML:
 * uneven nodes, nodes without memory, devices, distances.
 * Each node has one L3 around its cores. PUs are numbered as Linux does: the first thread of every
 * core, then the second of every core. */
#ifndef TESTS_UNIT_NUMA_MACHINE_H
#define TESTS_UNIT_NUMA_MACHINE_H

#include <stddef.h>

#include "numa/topo.h"

struct machine_node {
    int package; /* nodes of a package are neighbours */
    unsigned cores;
    unsigned memory_gib;
    const char *nic;  /* attached to the node, or NULL */
    const char *nvme; /* same */
};

struct machine {
    unsigned smt; /* threads a core */
    const struct machine_node *nodes;
    size_t n_nodes;
    const unsigned *distances; /* n_nodes x n_nodes or NULL */
    const char *package_nic;   /* attached to package 0, near no node in particular */
    const char *far_disk;      /* attached to the machine as a whole */
};

/* Write it to a file and read that with topo_from_xml(); fails the test when either goes wrong. */
struct topo *machine_topo(const struct machine *machine);

/* 4 nodes of 8, 4, 2 and 2 cores in 2 packages, with a NIC or an NVMe at each end. */
extern const struct machine machine_uneven;

#endif
