#include "numa/topo_fmt.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/base/bytes.h"

const char *fmt_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

struct fmt_shards fmt_core_shards(const struct placement *placement, int core)
{
    struct fmt_shards found = {0};
    for (size_t i = 0; i < placement->n_shards; i++) {
        if (placement->shards[i].core != core)
            continue;
        if (found.count++ == 0)
            found.first = (unsigned)i;
    }
    return found;
}

void fmt_size(char ret[FMT_BYTES], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double v = (double)bytes;
    while (v >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        v /= 1024;
        unit++;
    }
    /* One decimal where it says something: 1.5 GiB, but 32 MiB and 250 GiB. */
    bool whole = v >= 100 || v - (double)(uint64_t)v < 0.05;
    snprintf(ret, FMT_BYTES, "%.*f %s", whole ? 0 : 1, v, units[unit]);
}

void fmt_machine(char ret[FMT_BYTES], const struct topo *topo)
{
    char size[FMT_BYTES];
    uint64_t bytes = 0;
    for (size_t i = 0; i < topo->n_nodes; i++)
        bytes += topo->nodes[i].memory_bytes;
    fmt_size(size, bytes);
    size_t allowed = topo_allowed_cores(topo);
    int n = 0;
    if (topo->n_packages > 0) /* some virtual machines show none */
        n = snprintf(ret, FMT_BYTES, "%zu package%s, ", topo->n_packages,
                     fmt_plural(topo->n_packages));
    n += snprintf(ret + n, FMT_BYTES - (size_t)n, "%zu NUMA node%s, %zu core%s", topo->n_nodes,
                  fmt_plural(topo->n_nodes), topo->n_cores, fmt_plural(topo->n_cores));
    if (allowed < topo->n_cores)
        n += snprintf(ret + n, FMT_BYTES - (size_t)n, " (%zu allowed)", allowed);
    n += snprintf(ret + n, FMT_BYTES - (size_t)n, ", %zu PU%s", topo->n_pus,
                  fmt_plural(topo->n_pus));
    if (bytes > 0)
        n += snprintf(ret + n, FMT_BYTES - (size_t)n, ", %.20s", size);
    if (topo->memory_limit_bytes > 0) {
        fmt_size(size, topo->memory_limit_bytes);
        snprintf(ret + n, FMT_BYTES - (size_t)n, " (limit %.20s)", size);
    }
}

void fmt_caches(char ret[FMT_BYTES], const struct topo *topo)
{
    int n = snprintf(ret, FMT_BYTES, "%s", topo->n_caches == 0 ? "none shown" : "");
    for (size_t i = 0; i < topo->n_caches && n < FMT_BYTES; i++) {
        const struct topo_cache *c = &topo->caches[i];
        char size[FMT_BYTES], type[2] = {c->type == 'u' ? '\0' : c->type, '\0'};
        fmt_size(size, c->size_bytes);
        n += snprintf(ret + n, FMT_BYTES - (size_t)n, "%sL%u%s %.20s x%zu", i == 0 ? "" : ", ",
                      c->level, type, size, c->count);
    }
}

void fmt_placement(char ret[FMT_BYTES], const struct placement *placement)
{
    char size[FMT_BYTES];
    size_t n_cores = 0;
    for (size_t i = 0; i < placement->n_shards; i++)
        n_cores += i == 0 || placement->shards[i].core != placement->shards[i - 1].core;
    fmt_size(size, placement->memory_bytes);
    snprintf(ret, FMT_BYTES, "%zu shard%s on %zu core%s, %zu NUMA node%s, %.20s",
             placement->n_shards, fmt_plural(placement->n_shards), n_cores, fmt_plural(n_cores),
             placement->n_groups, fmt_plural(placement->n_groups), size);
}

void fmt_node_use(char ret[FMT_BYTES], const struct topo *topo, const struct placement *placement,
                  int node, uint64_t *ret_used_bytes)
{
    char size[FMT_BYTES];
    uint64_t bytes = 0, n = 0;
    for (size_t i = 0; i < placement->n_shards; i++)
        if (placement->shards[i].node == node) {
            bytes += placement->shards[i].memory_bytes;
            n++;
        }
    *ret_used_bytes = bytes;
    fmt_size(size, bytes);
    int nearest = topo_nearest_memory(topo, node);
    if (nearest != node)
        snprintf(ret, FMT_BYTES, "%s: uses node %u",
                 topo->nodes[node].memory_bytes == 0 ? "no memory" : "memory not allowed",
                 topo->nodes[nearest].os_index);
    else if (n == 0)
        snprintf(ret, FMT_BYTES, "no shard's memory");
    else
        snprintf(ret, FMT_BYTES, "%" PRIu64 " shard%s use%s %.20s", n, fmt_plural(n),
                 n == 1 ? "s" : "", size);
}

void fmt_core_use(char ret[FMT_BYTES], const struct topo_core *core, struct fmt_shards shards)
{
    if (!core->allowed)
        snprintf(ret, FMT_BYTES, "not allowed");
    else if (shards.count == 0)
        snprintf(ret, FMT_BYTES, "idle");
    else if (shards.count == 1)
        snprintf(ret, FMT_BYTES, "shard %u", shards.first);
    else
        snprintf(ret, FMT_BYTES, "shards %u-%u", shards.first, shards.first + shards.count - 1);
}

void fmt_nic(char ret[FMT_BYTES], const struct topo_nic *nic)
{
    char speed[32] = "";
    if (nic->speed_mbit >= 1000)
        snprintf(speed, sizeof(speed), "%g Gb/s", (double)nic->speed_mbit / 1000);
    else if (nic->speed_mbit > 0)
        snprintf(speed, sizeof(speed), "%" PRIu64 " Mb/s", nic->speed_mbit);
    bool both = speed[0] != '\0' && nic->pci[0] != '\0';
    snprintf(ret, FMT_BYTES, "%s%s%s", speed, both ? ", " : "", nic->pci);
}

void fmt_block(char ret[FMT_BYTES], const struct topo_block *block)
{
    char size[FMT_BYTES] = "";
    if (block->size_bytes > 0)
        fmt_size(size, block->size_bytes);
    const char *rotational = block->rotational > 0 ? "rotational" : "";
    bool both = size[0] != '\0' && rotational[0] != '\0';
    snprintf(ret, FMT_BYTES, "%.20s%s%s", size, both ? ", " : "", rotational);
}

const char *fmt_block_kind(const struct topo_block *block)
{
    return block->nvme ? "NVMe" : "disk";
}
