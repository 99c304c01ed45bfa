#include "numa/placement.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/unit/numa/machine.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* What a test says of each shard, in order. */
struct expected {
    int core;
    unsigned pu;
    int node;
    unsigned group;
    bool shared;
};

static struct topo *synthetic(const char *desc)
{
    struct topo *t = NULL;
    cr_assert_eq(topo_from_synthetic(desc, &t), 0);
    return t;
}

static struct placement compute(const struct topo *t, unsigned shards, uint64_t memory_bytes)
{
    struct placement p;
    struct placement_settings settings = {.shards = shards, .memory_bytes = memory_bytes};
    memset(&p, 0xee, sizeof(p));
    int rc = placement_compute(t, &settings, &p);
    cr_assert_eq(rc, 0, "%s", p.reason);
    return p;
}

static int compute_rc(const struct topo *t, unsigned shards, uint64_t memory_bytes,
                      const char *reason_part)
{
    struct placement p = {0};
    struct placement_settings settings = {.shards = shards, .memory_bytes = memory_bytes};
    int rc = placement_compute(t, &settings, &p);
    cr_assert_lt(rc, 0);
    cr_assert_not_null(strstr(p.reason, reason_part), "\"%s\" lacks \"%s\"", p.reason, reason_part);
    cr_assert_null(p.shards);
    cr_assert_eq(p.n_shards, 0);
    return rc;
}

static void check(const struct placement *p, const struct expected *want, size_t n)
{
    uint64_t sum = 0;
    cr_assert_eq(p->n_shards, n);
    for (size_t i = 0; i < n; i++) {
        const struct placement_shard *s = &p->shards[i];
        cr_assert_eq(s->index, i);
        cr_assert_eq(s->core, want[i].core, "shard %zu on core %d", i, s->core);
        cr_assert_eq(s->pu_os_index, want[i].pu, "shard %zu on PU %u", i, s->pu_os_index);
        cr_assert_eq(s->node, want[i].node, "shard %zu on node %d", i, s->node);
        cr_assert_eq(s->group, want[i].group, "shard %zu in group %u", i, s->group);
        cr_assert_eq(s->shared, want[i].shared, "shard %zu", i);
        cr_assert_gt(s->memory_bytes, 0);
        cr_assert_eq(s->memory_bytes % (2 * MIB), 0);
        sum += s->memory_bytes;
    }
    cr_assert_eq(p->memory_bytes, sum);
    cr_assert_eq(p->n_groups, want[n - 1].group + 1);
}
#define CHECK(p, ...)                                                                              \
    check(p, (const struct expected[])__VA_ARGS__,                                                 \
          ARRAY_LEN(((const struct expected[])__VA_ARGS__)))

Test(placement, one_core)
{
    struct topo *t = synthetic("[numa(memory=2GiB)] core:1 pu:1");
    struct placement p = compute(t, 0, 0);
    CHECK(&p, {{0, 0, 0, 0, false}});
    cr_assert_eq(p.memory_bytes, 256 * MIB);
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, smt_siblings_stay_free)
{
    struct topo *t = synthetic("[numa(memory=16GiB)] core:8 pu:2");
    struct placement p = compute(t, 0, 0);
    CHECK(&p, {{0, 0}, {1, 2}, {2, 4}, {3, 6}, {4, 8}, {5, 10}, {6, 12}, {7, 14}});
    cr_assert_eq(p.memory_bytes, 8 * 256 * MIB);
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, two_sockets_of_16)
{
    struct topo *t = synthetic("pack:2 [numa(memory=64GiB)] l3:1 core:16 pu:2");
    struct placement p = compute(t, 0, 0);
    struct expected want[32];
    for (int i = 0; i < 32; i++)
        want[i] = (struct expected){i, 2 * (unsigned)i, i / 16, (unsigned)i / 16, false};
    check(&p, want, 32);
    placement_fini(&p);

    p = compute(t, 4, 0);
    CHECK(&p, {{0, 0, 0, 0}, {1, 2, 0, 0}, {16, 32, 1, 1}, {17, 34, 1, 1}});
    placement_fini(&p);

    p = compute(t, 3, 0);
    CHECK(&p, {{0, 0, 0, 0}, {1, 2, 0, 0}, {16, 32, 1, 1}});
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, few_shards_spread_over_caches)
{
    struct topo *t = synthetic("pack:1 [numa(memory=64GiB)] l3:3 core:4 pu:1");
    struct placement p = compute(t, 4, 0);
    CHECK(&p, {{0, 0}, {1, 1}, {4, 4}, {8, 8}});
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, uneven_nodes)
{
    struct topo *t = machine_topo(&machine_uneven);
    struct placement p = compute(t, 0, 0);
    struct expected want[16];
    const int node_of[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3};
    for (int i = 0; i < 16; i++)
        want[i] = (struct expected){i, (unsigned)i, node_of[i], (unsigned)node_of[i], false};
    check(&p, want, 16);
    placement_fini(&p);

    /* Dealt in turn; nodes 2 and 3 are full after two rounds. */
    p = compute(t, 6, 0);
    CHECK(&p,
          {{0, 0, 0, 0}, {1, 1, 0, 0}, {8, 8, 1, 1}, {9, 9, 1, 1}, {12, 12, 2, 2}, {14, 14, 3, 3}});
    placement_fini(&p);
    p = compute(t, 11, 0);
    CHECK(&p, {{0, 0, 0, 0},
               {1, 1, 0, 0},
               {2, 2, 0, 0},
               {3, 3, 0, 0},
               {8, 8, 1, 1},
               {9, 9, 1, 1},
               {10, 10, 1, 1},
               {12, 12, 2, 2},
               {13, 13, 2, 2},
               {14, 14, 3, 3},
               {15, 15, 3, 3}});
    placement_fini(&p);
    topo_destroy(t);
}

static void check_near(const struct placement_shard *s, unsigned nics, unsigned blocks)
{
    unsigned got_nics = 0, got_blocks = 0;
    for (size_t i = 0; i < s->n_near_nics; i++)
        got_nics |= 1u << s->near_nics[i];
    for (size_t i = 0; i < s->n_near_blocks; i++)
        got_blocks |= 1u << s->near_blocks[i];
    cr_assert_eq(got_nics, nics, "shard %u: NICs %x", s->index, got_nics);
    cr_assert_eq(got_blocks, blocks, "shard %u: disks %x", s->index, got_blocks);
}

Test(placement, near_devices)
{
    enum { ETH0 = 1, ETH1 = 2, NVME0 = 1, NVME1 = 2, SDA = 4 };
    struct topo *t = machine_topo(&machine_uneven);
    struct placement p = compute(t, 0, 0);
    check_near(&p.shards[0], ETH0 | ETH1, NVME0 | SDA); /* node 0, package 0 */
    check_near(&p.shards[8], ETH1, SDA);                /* node 1, package 0 */
    check_near(&p.shards[12], 0, NVME1 | SDA);          /* node 2, package 1 */
    check_near(&p.shards[15], 0, SDA);                  /* node 3, package 1 */
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, restricted_cpuset)
{
    /* Core 0 keeps only its second thread, cores 1 and 2 are gone, node 1 keeps one core. */
    struct topo *t = synthetic("pack:2 [numa(memory=8GiB)] core:4 pu:2");
    cr_assert_eq(topo_restrict(t, "1,6-7,12"), 0);
    struct placement p = compute(t, 0, 0);
    CHECK(&p, {{0, 1, 0, 0}, {3, 6, 0, 0}, {6, 12, 1, 1}});
    placement_fini(&p);
    topo_destroy(t);
}

/* With node 0 out of reach the group numbers are still dense. */
Test(placement, groups_are_dense)
{
    struct topo *t = machine_topo(&machine_uneven);
    cr_assert_eq(topo_restrict(t, "8,12-13"), 0);
    struct placement p = compute(t, 0, 0);
    CHECK(&p, {{8, 8, 1, 0}, {12, 12, 2, 1}, {13, 13, 2, 1}});
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, memoryless_node)
{
    static const struct machine_node nodes[] = {
        {.package = 0, .cores = 2, .memory_gib = 32},
        {.package = 1, .cores = 2, .memory_gib = 0, .nvme = "nvme0n1"},
        {.package = 1, .cores = 2, .memory_gib = 64},
    };
    struct topo *t = machine_topo(&(struct machine){.smt = 1, .nodes = nodes, .n_nodes = 3});
    struct placement p = compute(t, 0, 0);
    CHECK(&p, {{0, 0, 0, 0}, {1, 1, 0, 0}, {2, 2, 2, 1}, {3, 3, 2, 1}, {4, 4, 2, 1}, {5, 5, 2, 1}});
    cr_assert_eq(p.shards[2].node_os_index, 2);
    /* Memory comes from elsewhere, but the disk is near the cores of its own node. */
    cr_assert_eq(p.shards[2].n_near_blocks, 1);
    cr_assert_eq(p.shards[4].n_near_blocks, 0);
    placement_fini(&p);

    p = compute(t, 2, 0);
    CHECK(&p, {{0, 0, 0, 0}, {2, 2, 2, 1}});
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, more_shards_than_cores)
{
    struct topo *t = synthetic("pack:2 [numa(memory=8GiB)] core:2 pu:2");
    struct placement p = compute(t, 6, 0);
    CHECK(&p, {{0, 0, 0, 0, true},
               {0, 0, 0, 0, true},
               {1, 2, 0, 0, false},
               {2, 4, 1, 1, true},
               {2, 4, 1, 1, true},
               {3, 6, 1, 1, false}});
    placement_fini(&p);
    topo_destroy(t);

    t = synthetic("[numa(memory=8GiB)] core:1 pu:1");
    p = compute(t, 5, 64 * MIB);
    CHECK(&p, {{0, 0, 0, 0, true},
               {0, 0, 0, 0, true},
               {0, 0, 0, 0, true},
               {0, 0, 0, 0, true},
               {0, 0, 0, 0, true}});
    cr_assert_eq(p.shards[4].memory_bytes, 12 * MIB);
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, memory_auto)
{
    struct topo *t = synthetic("[numa(memory=1GiB)] core:4 pu:1");
    struct placement p = compute(t, 0, 0);
    cr_assert_eq(p.memory_bytes, 256 * MIB, "a quarter");
    cr_assert_eq(p.shards[3].memory_bytes, 64 * MIB);
    placement_fini(&p);

    t->memory_limit_bytes = 512 * MIB; /* as a container would have it */
    p = compute(t, 0, 0);
    cr_assert_eq(p.memory_bytes, 128 * MIB, "a quarter of the limit");
    placement_fini(&p);
    topo_destroy(t);

    /* A small node gives a quarter of itself, the big one is not held to that. */
    static const struct machine_node nodes[] = {{.package = 0, .cores = 2, .memory_gib = 62},
                                                {.package = 1, .cores = 4, .memory_gib = 2}};
    t = machine_topo(&(struct machine){.smt = 1, .nodes = nodes, .n_nodes = 2});
    p = compute(t, 0, 0);
    cr_assert_eq(p.shards[0].memory_bytes, 256 * MIB);
    cr_assert_eq(p.shards[2].memory_bytes, 128 * MIB);
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, memory_told)
{
    struct topo *t = synthetic("pack:2 [numa(memory=4GiB)] core:2 pu:1");
    struct placement p = compute(t, 0, 6 * GIB);
    cr_assert_eq(p.shards[0].memory_bytes, 3 * GIB / 2);
    placement_fini(&p);
    p = compute(t, 3, 64 * MIB);
    cr_assert_eq(p.shards[0].memory_bytes, 20 * MIB, "rounded down to whole 2 MiB pages");
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, huge_pages_go_to_the_first_shards_of_each_node)
{
    struct topo *t = synthetic("pack:2 [numa(memory=4GiB)] core:3 pu:1");
    const uint64_t huge_free_bytes[] = {150 * MIB, 64 * MIB};
    struct placement_settings settings = {.memory_bytes = 6 * 64 * MIB,
                                          .huge_free_bytes = huge_free_bytes};
    struct placement p;
    cr_assert_eq(placement_compute(t, &settings, &p), 0);
    const bool want[] = {true, true, false, true, false, false};
    for (size_t i = 0; i < 6; i++)
        cr_assert_eq(p.shards[i].huge_pages, want[i], "shard %zu", i);
    placement_fini(&p);
    topo_destroy(t);
}

Test(placement, refusals_say_why)
{
    struct topo *t = synthetic("pack:2 [numa(memory=1GiB)] core:2 pu:1");
    cr_assert_eq(compute_rc(t, PLACEMENT_SHARDS_MAX + 1, 0, "1025 shards"), -EINVAL);
    cr_assert_eq(compute_rc(t, 0, 3 * GIB, "3072 MiB is more than the 2048 MiB"), -ENOMEM);
    cr_assert_eq(compute_rc(t, 0, 7 * MIB, "less than 2 MiB for each of 4 shards"), -ENOMEM);
    cr_assert_eq(compute_rc(t, 0, 1, "less than 2 MiB"), -ENOMEM);
    /* Together there is enough, but three shards share one node. */
    cr_assert_eq(topo_restrict(t, "0-2"), 0);
    cr_assert_eq(compute_rc(t, 0, 2 * GIB, "node 0 has 1024 MiB: too little for 2 shards"),
                 -ENOMEM);
    for (size_t i = 0; i < t->n_cores; i++)
        t->cores[i].allowed = false;
    cr_assert_eq(compute_rc(t, 0, 0, "no core"), -ENODEV);
    topo_destroy(t);
}

Test(placement, the_most_shards)
{
    struct topo *t = synthetic("pack:2 [numa(memory=512GiB)] core:64 pu:2");
    struct placement p = compute(t, PLACEMENT_SHARDS_MAX, 0);
    for (size_t i = 0; i < p.n_shards; i++) {
        cr_assert_eq(p.shards[i].core, (int)i / 8);
        cr_assert(p.shards[i].shared);
    }
    placement_fini(&p);
    topo_destroy(t);
}

/* On any machine: every allowed core once, none that is not, nodes evenly used. */
Test(placement, every_number_of_shards_is_spread_evenly)
{
    struct topo *t = synthetic("pack:2 [numa(memory=64GiB)] l3:2 core:3 pu:2");
    for (unsigned n = 1; n <= 30; n++) {
        struct placement p = compute(t, n, 0);
        unsigned on_core[12] = {0}, on_node[2] = {0}, on_l3[4] = {0};
        for (size_t i = 0; i < n; i++) {
            on_core[p.shards[i].core]++;
            on_node[p.shards[i].node]++;
            on_l3[t->cores[p.shards[i].core].l3]++;
        }
        for (size_t i = 0; i < 12; i++)
            cr_assert(on_core[i] == n / 12 || on_core[i] == n / 12 + 1, "%u shards", n);
        cr_assert_leq(on_node[0] - on_node[1], 1u, "%u shards", n);
        for (size_t i = 0; i < 4; i++)
            cr_assert(on_l3[i] == n / 4 || on_l3[i] == n / 4 + 1, "%u shards", n);
        placement_fini(&p);
    }
    topo_destroy(t);
}
