/* topo_fmt.h: the phrases that text and picture share; private to numa.
 * Threads: any; pure. */
#ifndef NUMA_TOPO_FMT_H
#define NUMA_TOPO_FMT_H

#include <stddef.h>
#include <stdint.h>

#include "numa/placement.h"
#include "numa/topo.h"

#define FMT_BYTES 160 /* enough for every phrase below */

/* The shards in one core: they are neighbours. count 0: none. */
struct fmt_shards {
    unsigned first, count;
};

struct fmt_shards fmt_core_shards(const struct placement *placement, int core);

/* "32 MiB", "1.5 GiB" */
void fmt_size(char ret[FMT_BYTES], uint64_t bytes);

/* "2 packages, 2 NUMA nodes, 32 cores (30 allowed), 64 PUs, 128 GiB" */
void fmt_machine(char ret[FMT_BYTES], const struct topo *topo);

/* "L1d 32 KiB x32, L2 1 MiB x32, L3 32 MiB x2"; "none shown" */
void fmt_caches(char ret[FMT_BYTES], const struct topo *topo);

/* "32 shards on 32 cores, 2 NUMA nodes, 8 GiB" */
void fmt_placement(char ret[FMT_BYTES], const struct placement *placement);

/* "16 shards use 4 GiB", "no shard's memory", "no memory: uses node 0" */
void fmt_node_use(char ret[FMT_BYTES], const struct topo *topo, const struct placement *placement,
                  int node, uint64_t *ret_used_bytes);

/* "shard 3", "shards 3-5"; "not allowed", "idle" */
void fmt_core_use(char ret[FMT_BYTES], const struct topo_core *core, struct fmt_shards shards);

/* "25 Gb/s, 0000:3b:00.0"; "3.5 TiB, rotational" */
void fmt_nic(char ret[FMT_BYTES], const struct topo_nic *nic);
void fmt_block(char ret[FMT_BYTES], const struct topo_block *block);

/* "NVMe", "disk" */
const char *fmt_block_kind(const struct topo_block *block);

/* "" or "s" */
const char *fmt_plural(uint64_t n);

#endif
