#include "numa/topo_render.h"

#include <errno.h>
#include <inttypes.h>

#include "numa/topo_fmt.h"

static void print_devices(const struct topo *topo, struct topo_locality at, const char *indent,
                          FILE *out)
{
    char what[FMT_BYTES];
    for (size_t i = 0; i < topo->n_nics; i++) {
        const struct topo_nic *nic = &topo->nics[i];
        if (nic->near.node != at.node || (at.node < 0 && nic->near.package != at.package))
            continue;
        fmt_nic(what, nic);
        fprintf(out, "%s%-5s %-12s %s\n", indent, "NIC", nic->name, what);
    }
    for (size_t i = 0; i < topo->n_blocks; i++) {
        const struct topo_block *block = &topo->blocks[i];
        if (block->near.node != at.node || (at.node < 0 && block->near.package != at.package))
            continue;
        fmt_block(what, block);
        fprintf(out, "%s%-5s %-12s %s\n", indent, fmt_block_kind(block), block->name, what);
    }
}

static void print_node(const struct topo *topo, const struct placement *placement, int node,
                       const char *indent, const char *note, FILE *out)
{
    char size[FMT_BYTES] = "", use[FMT_BYTES];
    uint64_t used_bytes;
    if (topo->nodes[node].memory_bytes > 0)
        fmt_size(size, topo->nodes[node].memory_bytes);
    fmt_node_use(use, topo, placement, node, &used_bytes);
    fprintf(out, "%sNUMA node %u%s: %s%s%s\n", indent, topo->nodes[node].os_index, note, size,
            size[0] != '\0' ? ", " : "", use);
}

/* "0 [2] (3)": the pinned PU, and those that may not be used. */
static int print_pus(const struct topo_core *core, const struct placement_shard *shard, FILE *out)
{
    int width = 0;
    for (size_t i = 0; i < core->n_pus; i++) {
        const struct topo_pu *pu = &core->pus[i];
        bool pinned = shard != NULL && shard->pu_os_index == pu->os_index;
        const char *form = pinned ? " [%u]" : pu->allowed ? " %u" : " (%u)";
        width += fprintf(out, form, pu->os_index);
    }
    return width;
}

static void print_core(const struct topo *topo, const struct placement *placement, size_t index,
                       FILE *out)
{
    const struct topo_core *core = &topo->cores[index];
    struct fmt_shards shards = fmt_core_shards(placement, (int)index);
    const struct placement_shard *first =
        shards.count > 0 ? &placement->shards[shards.first] : NULL;
    char use[FMT_BYTES], size[FMT_BYTES];
    fmt_core_use(use, core, shards);
    fprintf(out, "      core %-3zu PU", index);
    int width = print_pus(core, first, out);
    fprintf(out, "%*s  %s", width < 12 ? 12 - width : 0, "", use);
    if (first != NULL) {
        fmt_size(size, first->memory_bytes);
        fprintf(out, ": %s%s on node %u%s", size, shards.count > 1 ? " each" : "",
                first->node_os_index, first->huge_pages ? ", huge pages" : "");
    }
    fputc('\n', out);
}

static void print_l3(const struct topo *topo, int l3, FILE *out)
{
    char size[FMT_BYTES];
    if (l3 < 0)
        return;
    fmt_size(size, topo->l3s[l3].size_bytes);
    fprintf(out, "    L3 %d: %s\n", l3, size);
}

static bool node_has_core(const struct topo *topo, int node, size_t before)
{
    for (size_t i = 0; i < before; i++)
        if (topo->cores[i].node == node)
            return true;
    return false;
}

/* Cores are sorted by package, node and L3: print a heading whenever one of these changes. */
static void print_cores(const struct topo *topo, const struct placement *placement, FILE *out)
{
    for (size_t i = 0; i < topo->n_cores; i++) {
        const struct topo_core *core = &topo->cores[i], *last = i > 0 ? core - 1 : NULL;
        const struct topo_core *next = i + 1 < topo->n_cores ? core + 1 : NULL;
        bool new_package = last == NULL || last->package != core->package;
        bool new_node = new_package || last->node != core->node;
        bool seen = node_has_core(topo, core->node, i);
        if (new_package && core->package >= 0)
            fprintf(out, "package %d\n", core->package);
        if (new_node)
            print_node(topo, placement, core->node, "  ", seen ? " (as above)" : "", out);
        if (new_node || last->l3 != core->l3)
            print_l3(topo, core->l3, out);
        print_core(topo, placement, i, out);
        bool end_package = next == NULL || next->package != core->package;
        bool end_node = end_package || next->node != core->node;
        /* A node may span packages: its devices stand where its first cores do. */
        if (end_node && topo->nodes[core->node].package == core->package)
            print_devices(topo, (struct topo_locality){core->node, -1}, "    ", out);
        if (end_package && core->package >= 0)
            print_devices(topo, (struct topo_locality){-1, core->package}, "  ", out);
    }
}

int topo_text(const struct topo *topo, const struct placement *placement, FILE *out)
{
    char line[FMT_BYTES];
    fmt_machine(line, topo);
    fprintf(out, "machine:   %s\n", line);
    fmt_caches(line, topo);
    fprintf(out, "caches:    %s\n", line);
    fmt_placement(line, placement);
    fprintf(out, "placement: %s\n\n", line);
    print_cores(topo, placement, out);
    for (size_t i = 0; i < topo->n_nodes; i++) {
        bool has_core = node_has_core(topo, (int)i, topo->n_cores);
        if (!has_core)
            print_node(topo, placement, (int)i, "", " (no cores)", out);
        if (!has_core || topo->nodes[i].package < 0)
            print_devices(topo, (struct topo_locality){(int)i, -1}, "  ", out);
    }
    print_devices(topo, (struct topo_locality){-1, -1}, "", out);
    fputs("\n[0] a shard is pinned here   (0) not allowed\n", out);
    return ferror(out) ? -EIO : 0;
}
