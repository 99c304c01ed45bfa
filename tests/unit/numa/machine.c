#include "tests/unit/numa/machine.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"

static const struct machine_node uneven_nodes[] = {
    {.package = 0, .cores = 8, .memory_gib = 64, .nic = "eth0", .nvme = "nvme0n1"},
    {.package = 0, .cores = 4, .memory_gib = 32},
    {.package = 1, .cores = 2, .memory_gib = 16, .nvme = "nvme1n1"},
    {.package = 1, .cores = 2, .memory_gib = 16},
};

const struct machine machine_uneven = {.smt = 2,
                                       .nodes = uneven_nodes,
                                       .n_nodes = ARRAY_LEN(uneven_nodes),
                                       .package_nic = "eth1",
                                       .far_disk = "sda"};

struct writer {
    FILE *out;
    const struct machine *machine;
    unsigned n_cores;  /* of the machine */
    unsigned gp_index; /* hwloc wants each object numbered */
};

static uint64_t core_mask(const struct writer *w, unsigned core)
{
    uint64_t mask = 0;
    for (unsigned thread = 0; thread < w->machine->smt; thread++)
        mask |= UINT64_C(1) << (core + thread * w->n_cores);
    return mask;
}

static void put_sets(struct writer *w, uint64_t cpus, uint64_t nodes)
{
    const char *prefixes[] = {"", "complete_"};
    for (int i = 0; i < 2; i++)
        fprintf(w->out,
                " %scpuset=\"0x%08" PRIx32 ",0x%08" PRIx32 "\" %snodeset=\"0x%08" PRIx64 "\"",
                prefixes[i], (uint32_t)(cpus >> 32), (uint32_t)cpus, prefixes[i], nodes);
    fprintf(w->out, " gp_index=\"%u\"", ++w->gp_index);
}

static void put_device(struct writer *w, const char *name, bool nic)
{
    static const char pci[] = "0000:%02x:00.0";
    if (name == NULL)
        return;
    char bus_id[32];
    snprintf(bus_id, sizeof(bus_id), pci, w->gp_index & 0xff);
    fprintf(w->out,
            "<object type=\"Bridge\" gp_index=\"%u\" bridge_type=\"0-1\" depth=\"0\" "
            "bridge_pci=\"0000:[00-ff]\">\n",
            w->gp_index + 1);
    fprintf(w->out,
            "<object type=\"PCIDev\" gp_index=\"%u\" pci_busid=\"%s\" pci_type=\"%s [1af4:1042] "
            "[1af4:1042] 01\" pci_link_speed=\"0.000000\">\n",
            w->gp_index + 2, bus_id, nic ? "0200" : "0108");
    fprintf(w->out, "<object type=\"OSDev\" gp_index=\"%u\" name=\"%s\" osdev_type=\"%d\">\n",
            w->gp_index + 3, name, nic ? 2 : 0);
    if (nic)
        fputs("<info name=\"LinkSpeedMbit\" value=\"25000\"/>\n", w->out);
    else
        fprintf(w->out,
                "<info name=\"Size\" value=\"1875374424\"/>\n"
                "<info name=\"Rotational\" value=\"%d\"/>\n",
                strncmp(name, "nvme", 4) != 0);
    fputs("</object></object></object>\n", w->out);
    w->gp_index += 3;
}

static void put_node(struct writer *w, size_t index, unsigned first_core)
{
    const struct machine_node *node = &w->machine->nodes[index];
    uint64_t cpus = 0, nodeset = UINT64_C(1) << index;
    for (unsigned c = first_core; c < first_core + node->cores; c++)
        cpus |= core_mask(w, c);
    fprintf(w->out, "<object type=\"L3Cache\" os_index=\"%zu\"", index);
    put_sets(w, cpus, nodeset);
    fputs(" cache_size=\"33554432\" depth=\"3\" cache_linesize=\"64\" cache_associativity=\"16\" "
          "cache_type=\"0\">\n",
          w->out);
    fprintf(w->out, "<object type=\"NUMANode\" os_index=\"%zu\"", index);
    put_sets(w, cpus, nodeset);
    fprintf(w->out, " local_memory=\"%" PRIu64 "\"/>\n", (uint64_t)node->memory_gib << 30);
    for (unsigned c = first_core; c < first_core + node->cores; c++) {
        fprintf(w->out, "<object type=\"Core\" os_index=\"%u\"", c);
        put_sets(w, core_mask(w, c), nodeset);
        fputs(">\n", w->out);
        for (unsigned thread = 0; thread < w->machine->smt; thread++) {
            unsigned pu = c + thread * w->n_cores;
            fprintf(w->out, "<object type=\"PU\" os_index=\"%u\"", pu);
            put_sets(w, UINT64_C(1) << pu, nodeset);
            fputs("/>\n", w->out);
        }
        fputs("</object>\n", w->out);
    }
    put_device(w, node->nic, true);
    put_device(w, node->nvme, false);
    fputs("</object>\n", w->out);
}

static void put_packages(struct writer *w)
{
    const struct machine *m = w->machine;
    unsigned core = 0;
    for (size_t first = 0, end; first < m->n_nodes; first = end) {
        uint64_t cpus = 0, nodeset = 0;
        unsigned last_core = core;
        for (end = first; end < m->n_nodes && m->nodes[end].package == m->nodes[first].package;
             end++) {
            nodeset |= UINT64_C(1) << end;
            for (unsigned c = 0; c < m->nodes[end].cores; c++)
                cpus |= core_mask(w, last_core++);
        }
        fprintf(w->out, "<object type=\"Package\" os_index=\"%d\"", m->nodes[first].package);
        put_sets(w, cpus, nodeset);
        fputs(">\n", w->out);
        for (size_t i = first; i < end; i++) {
            put_node(w, i, core);
            core += m->nodes[i].cores;
        }
        put_device(w, first == 0 ? m->package_nic : NULL, true);
        fputs("</object>\n", w->out);
    }
}

/* The element's lengths count the characters of its text. */
static void put_distances(struct writer *w)
{
    size_t n = w->machine->n_nodes;
    char indexes[256] = "", values[1024] = "";
    for (size_t i = 0; i < n; i++)
        sprintf(indexes + strlen(indexes), "%zu ", i);
    for (size_t i = 0; i < n * n; i++)
        sprintf(values + strlen(values), "%u ", w->machine->distances[i]);
    fprintf(w->out,
            "<distances2 type=\"NUMANode\" nbobjs=\"%zu\" kind=\"5\" name=\"NUMALatency\" "
            "indexing=\"os\">\n<indexes length=\"%zu\">%s</indexes>\n"
            "<u64values length=\"%zu\">%s</u64values>\n</distances2>\n",
            n, strlen(indexes), indexes, strlen(values), values);
}

static void put_machine(struct writer *w)
{
    const struct machine *m = w->machine;
    uint64_t cpus = 0;
    for (size_t i = 0; i < m->n_nodes; i++)
        w->n_cores += m->nodes[i].cores;
    for (unsigned c = 0; c < w->n_cores; c++)
        cpus |= core_mask(w, c);
    uint64_t nodeset = (UINT64_C(1) << m->n_nodes) - 1;
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
          "<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<topology version=\"2.0\">\n"
          "<object type=\"Machine\" os_index=\"0\"",
          w->out);
    put_sets(w, cpus, nodeset);
    fprintf(w->out, " allowed_cpuset=\"0x%08" PRIx32 ",0x%08" PRIx32 "\"", (uint32_t)(cpus >> 32),
            (uint32_t)cpus);
    fprintf(w->out, " allowed_nodeset=\"0x%08" PRIx64 "\">\n", nodeset);
    put_packages(w);
    put_device(w, m->far_disk, false);
    fputs("</object>\n", w->out);
    if (m->distances != NULL)
        put_distances(w);
    fputs("</topology>\n", w->out);
}

struct topo *machine_topo(const struct machine *machine)
{
    char path[] = "/tmp/penstock-machine-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    struct writer w = {.out = fdopen(fd, "w"), .machine = machine};
    cr_assert_not_null(w.out);
    put_machine(&w);
    cr_assert_eq(fclose(w.out), 0);
    struct topo *topo = NULL;
    int rc = topo_from_xml(path, &topo);
    unlink(path);
    cr_assert_eq(rc, 0, "topo_from_xml: %s", strerror(-rc));
    return topo;
}
