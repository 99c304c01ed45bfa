#include "numa/topo.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tests/unit/numa/machine.h"

static struct topo *synthetic(const char *desc)
{
    struct topo *t = NULL;
    cr_assert_eq(topo_from_synthetic(desc, &t), 0);
    return t;
}

Test(topo, one_core)
{
    struct topo *t = synthetic("core:1 pu:1");
    cr_assert_eq(t->n_cores, 1);
    cr_assert_eq(t->n_nodes, 1);
    cr_assert_eq(t->n_packages, 0);
    cr_assert_eq(t->cores[0].package, -1);
    cr_assert_eq(t->cores[0].node, 0);
    cr_assert_eq(t->cores[0].memory_node, 0);
    cr_assert_eq(t->cores[0].l3, -1);
    cr_assert_eq(t->cores[0].n_pus, 1);
    cr_assert(t->cores[0].allowed);
    cr_assert_not(t->this_machine);
    topo_destroy(t);
}

/* Some virtual machines show no cores at all. */
Test(topo, pus_without_cores)
{
    struct topo *t = synthetic("pack:1 pu:4");
    cr_assert_eq(t->n_cores, 4);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(t->cores[i].n_pus, 1);
        cr_assert_eq(t->cores[i].pus[0].os_index, i);
    }
    topo_destroy(t);
}

Test(topo, two_sockets)
{
    struct topo *t =
        synthetic("pack:2 [numa(memory=64GiB)] l3:2(size=32MiB) l2:8(size=1MiB) core:1 pu:2");
    cr_assert_eq(t->n_packages, 2);
    cr_assert_eq(t->n_nodes, 2);
    cr_assert_eq(t->n_cores, 32);
    cr_assert_eq(t->n_pus, 64);
    cr_assert_eq(t->n_l3s, 4);
    cr_assert_eq(t->nodes[1].memory_bytes, UINT64_C(64) << 30);
    cr_assert_eq(t->nodes[1].package, 1);
    cr_assert_eq(t->n_caches, 2);
    cr_assert_eq(t->caches[0].level, 2);
    cr_assert_eq(t->caches[0].count, 32);
    cr_assert_eq(t->caches[1].size_bytes, UINT64_C(32) << 20);
    for (size_t i = 0; i < 32; i++) {
        const struct topo_core *c = &t->cores[i];
        cr_assert_eq(c->package, (int)i / 16);
        cr_assert_eq(c->node, (int)i / 16);
        cr_assert_eq(c->l3, (int)i / 8);
        cr_assert_eq(c->n_pus, 2);
        cr_assert_eq(c->pus[0].os_index, 2 * i);
        cr_assert_eq(c->pus[1].os_index, 2 * i + 1);
    }
    topo_destroy(t);
}

Test(topo, bad_descriptions_are_refused)
{
    struct topo *untouched = (void *)&untouched, *t = untouched;
    cr_assert_lt(topo_from_synthetic("pack:banana", &t), 0);
    cr_assert_lt(topo_from_synthetic("", &t), 0);
    cr_assert_lt(topo_from_xml("/nonexistent.xml", &t), 0);
    cr_assert_lt(topo_from_xml("/etc/passwd", &t), 0);
    cr_assert_eq(t, untouched);
}

Test(topo, restrict_narrows_and_never_widens)
{
    struct topo *t = synthetic("core:8 pu:2");
    cr_assert_eq(topo_restrict(t, "0-3,5,14-15"), 0);
    const bool allowed[16] = {1, 1, 1, 1, 0, 1, [14] = 1, [15] = 1};
    for (size_t i = 0; i < 16; i++)
        cr_assert_eq(t->pus[i].allowed, allowed[i], "PU %zu", i);
    cr_assert_eq(topo_allowed_cores(t), 4);
    cr_assert_eq(topo_restrict(t, "0-7"), 0);
    cr_assert_not(t->pus[4].allowed);
    cr_assert_not(t->pus[14].allowed);
    cr_assert_eq(topo_allowed_cores(t), 3);
    topo_destroy(t);
}

Test(topo, restrict_refuses_and_changes_nothing)
{
    static const struct {
        const char *list;
        int rc;
    } bad[] = {
        {"", -EINVAL},        {"x", -EINVAL},
        {"1,", -EINVAL},      {",1", -EINVAL},
        {"3-1", -EINVAL},     {"1-", -EINVAL},
        {"-1", -EINVAL},      {"1 2", -EINVAL},
        {"1--2", -EINVAL},    {"0-4", -ENOENT},
        {"4", -ENOENT},       {"0-99999999999", -ENOENT},
        {"0,65536", -ENOENT}, {"0,1x", -EINVAL},
        {"+1", -EINVAL},      {"99999999999999999999999", -ENOENT},
        {"2", -EPERM},
    };
    struct topo *t = synthetic("core:4 pu:1");
    cr_assert_eq(topo_restrict(t, "0-1"), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cr_assert_eq(topo_restrict(t, bad[i].list), bad[i].rc, "\"%s\"", bad[i].list);
        cr_assert_eq(topo_allowed_cores(t), 2);
    }
    topo_destroy(t);
}

Test(topo, uneven_nodes_with_devices)
{
    struct topo *t = machine_topo(&machine_uneven);
    cr_assert_eq(t->n_nodes, 4);
    cr_assert_eq(t->n_cores, 16);
    const int node_of[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3};
    for (size_t i = 0; i < 16; i++) {
        cr_assert_eq(t->cores[i].node, node_of[i]);
        cr_assert_eq(t->cores[i].pus[1].os_index, i + 16);
    }
    cr_assert_eq(t->n_nics, 2);
    cr_assert_str_eq(t->nics[0].name, "eth0");
    cr_assert_eq(t->nics[0].near.node, 0);
    cr_assert_eq(t->nics[0].speed_mbit, 25000);
    cr_assert_eq(strlen(t->nics[0].pci), strlen("0000:00:00.0"));
    cr_assert_eq(t->nics[1].near.node, -1);
    cr_assert_eq(t->nics[1].near.package, 0);
    cr_assert_eq(t->n_blocks, 3);
    cr_assert_str_eq(t->blocks[0].name, "nvme0n1");
    cr_assert(t->blocks[0].nvme);
    cr_assert_eq(t->blocks[0].rotational, 0);
    cr_assert_eq(t->blocks[0].size_bytes, UINT64_C(1875374424) * 1024);
    cr_assert_eq(t->blocks[1].near.node, 2);
    cr_assert_str_eq(t->blocks[2].name, "sda");
    cr_assert_not(t->blocks[2].nvme);
    cr_assert_eq(t->blocks[2].rotational, 1);
    cr_assert_eq(t->blocks[2].near.node, -1);
    cr_assert_eq(t->blocks[2].near.package, -1);
    topo_destroy(t);
}

static const struct machine_node memoryless[] = {
    {.package = 0, .cores = 2, .memory_gib = 32},
    {.package = 1, .cores = 2, .memory_gib = 0},
    {.package = 1, .cores = 2, .memory_gib = 64},
};

Test(topo, memoryless_node_uses_its_package)
{
    struct topo *t = machine_topo(&(struct machine){.smt = 1, .nodes = memoryless, .n_nodes = 3});
    cr_assert_null(t->distances);
    cr_assert_eq(t->cores[0].memory_node, 0);
    cr_assert_eq(t->cores[2].node, 1);
    cr_assert_eq(t->cores[2].memory_node, 2);
    cr_assert_eq(t->cores[4].memory_node, 2);
    topo_destroy(t);
}

/* The machine's own word weighs more than the package. */
Test(topo, memoryless_node_uses_distances)
{
    static const unsigned distances[] = {10, 15, 21, 15, 10, 21, 21, 21, 10};
    struct topo *t = machine_topo(
        &(struct machine){.smt = 1, .nodes = memoryless, .n_nodes = 3, .distances = distances});
    cr_assert_not_null(t->distances);
    cr_assert_eq(t->distances[1 * 3 + 0], 15);
    cr_assert_eq(t->cores[2].memory_node, 0);
    topo_destroy(t);
}

Test(topo, no_memory_anywhere_keeps_the_own_node)
{
    struct topo *t = synthetic("pack:2 [numa(memory=0)] core:2 pu:1");
    cr_assert_eq(t->cores[3].node, 1);
    cr_assert_eq(t->cores[3].memory_node, 1);
    cr_assert_eq(topo_allowed_memory(t), 0);
    topo_destroy(t);
}

/* This machine, whatever it is. */
Test(topo, discover_agrees_with_the_kernel)
{
    struct topo *t = NULL;
    cpu_set_t affinity;
    cr_assert_eq(topo_discover(&t), 0);
    cr_assert(t->this_machine);
    cr_assert_eq(sched_getaffinity(0, sizeof(affinity), &affinity), 0);
    size_t allowed = 0;
    for (size_t i = 0; i < t->n_pus; i++) {
        allowed += t->pus[i].allowed;
        if (t->pus[i].allowed)
            cr_assert(CPU_ISSET(t->pus[i].os_index, &affinity));
    }
    cr_assert_eq(allowed, (size_t)CPU_COUNT(&affinity));
    cr_assert_geq(topo_allowed_cores(t), 1);
    cr_assert_gt(topo_allowed_memory(t), 0);
    for (size_t i = 0; i < t->n_blocks; i++)
        cr_assert_gt(t->blocks[i].size_bytes, 0);
    topo_destroy(t);
}

Test(topo, discover_respects_affinity)
{
    cpu_set_t before, one;
    cr_assert_eq(sched_getaffinity(0, sizeof(before), &before), 0);
    int last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &before))
        last--;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    cr_assert_eq(sched_setaffinity(0, sizeof(one), &one), 0);
    struct topo *t = NULL;
    cr_assert_eq(topo_discover(&t), 0);
    cr_assert_eq(topo_allowed_cores(t), 1);
    cr_assert_eq(t->n_pus, (size_t)sysconf(_SC_NPROCESSORS_ONLN), "the others are still shown");
    for (size_t i = 0; i < t->n_pus; i++)
        cr_assert_eq(t->pus[i].allowed, t->pus[i].os_index == (unsigned)last);
    topo_destroy(t);
}
