#include "numa/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "numa/topo.h"

#define MIB ((size_t)1 << 20)

static size_t rss_bytes(void)
{
    unsigned long total, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    cr_assert_not_null(f);
    cr_assert_eq(fscanf(f, "%lu %lu", &total, &resident), 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static int first_node(void)
{
    struct topo *t = NULL;
    cr_assert_eq(topo_discover(&t), 0);
    int node = (int)t->nodes[t->cores[0].memory_node].os_index;
    topo_destroy(t);
    return node;
}

/* Pages of the region that are in memory now; the sanitizers' shadow does not count here. */
static size_t resident_pages(const struct mem_region *r)
{
    static unsigned char seen[65536];
    size_t pages = r->len_bytes / (size_t)sysconf(_SC_PAGESIZE), n = 0;
    cr_assert_leq(pages, sizeof(seen));
    cr_assert_eq(mincore(r->base, r->len_bytes, seen), 0);
    for (size_t i = 0; i < pages; i++)
        n += seen[i] & 1;
    return n;
}

Test(mem, nothing_is_resident_before_it_is_touched)
{
    struct mem_region r;
    size_t before = rss_bytes();
    cr_assert_eq(mem_map(128 * MIB, first_node(), &r), 0);
    cr_assert_lt(rss_bytes(), before + 16 * MIB);
    cr_assert_eq(resident_pages(&r), 0);
    memset(r.base, 1, 32 * MIB);
    cr_assert_geq(rss_bytes(), before + (r.rung == MEM_HUGETLB ? 0 : 32 * MIB));
    cr_assert_geq(resident_pages(&r), 32 * MIB / 4096);
    mem_unmap(&r);
    cr_assert_lt(rss_bytes(), before + 16 * MIB);
    cr_assert_null(r.base);
    mem_unmap(&r); /* of a zeroed region: nothing */
}

static void check_region(size_t bytes, int node, enum mem_rung rung)
{
    struct mem_region r;
    cr_assert_eq(mem_map(bytes, node, &r), 0);
    size_t page_bytes = r.rung == MEM_PLAIN ? 4096 : 2 * MIB;
    cr_assert_eq(r.rung, rung, "%zu bytes from %s", bytes, mem_rung_name(r.rung));
    cr_assert_geq(r.len_bytes, bytes);
    cr_assert_lt(r.len_bytes, bytes + page_bytes);
    cr_assert_eq((uintptr_t)r.base % page_bytes, 0);
    cr_assert_eq(r.node, node);
    cr_assert(node >= 0 || !r.bound);
    unsigned char *at = r.base;
    cr_assert_eq(at[0] | at[r.len_bytes - 1], 0);
    at[0] = at[r.len_bytes - 1] = 1;
    mem_unmap(&r);
}

static bool thp_is_on(void)
{
    char line[128] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    bool on = f != NULL && fgets(line, sizeof(line), f) != NULL && !strstr(line, "[never]");
    if (f != NULL)
        fclose(f);
    return on;
}

static long huge_pages_of_system(void)
{
    long n = -1;
    FILE *f = fopen("/proc/sys/vm/nr_hugepages", "re");
    if (f != NULL && fscanf(f, "%ld", &n) != 1)
        n = -1;
    if (f != NULL)
        fclose(f);
    return n;
}

static bool set_huge_pages_of_system(long n)
{
    FILE *f = fopen("/proc/sys/vm/nr_hugepages", "we");
    if (f == NULL)
        return false;
    fprintf(f, "%ld\n", n);
    return fclose(f) == 0;
}

static long huge_pages_before;

static void give_back_huge_pages(void)
{
    set_huge_pages_of_system(huge_pages_before);
}

/* One test for all that maps little memory, as the tests of a file run at the same time and this
 * one changes the number of huge pages: it takes four and gives them back. */
Test(mem, ladder, .fini = give_back_huge_pages)
{
    static const size_t sizes[] = {1, 4096, 2 * MIB, 3 * MIB + 1};
    enum mem_rung below = thp_is_on() ? MEM_THP : MEM_PLAIN;
    huge_pages_before = huge_pages_of_system();
    if (mem_huge_free_bytes(MEM_NODE_ANY) == 0)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
            check_region(sizes[i], i % 2 == 0 ? MEM_NODE_ANY : first_node(), below);

    if (huge_pages_before < 0 || !set_huge_pages_of_system(huge_pages_before + 4))
        cr_skip_test("the rung of huge pages was not tried: cannot set vm.nr_hugepages");
    size_t free_bytes = mem_huge_free_bytes(first_node());
    if (free_bytes < 4 * MIB)
        cr_skip_test("the rung of huge pages was not tried: memory is too fragmented for two");
    check_region(1, MEM_NODE_ANY, MEM_HUGETLB);
    check_region(free_bytes, first_node(), MEM_HUGETLB);
    check_region(free_bytes + 1, first_node(), below);

    struct mem_region all;
    cr_assert_eq(mem_map(free_bytes, first_node(), &all), 0);
    cr_assert_eq(mem_huge_free_bytes(first_node()), 0, "untouched, but reserved");
    check_region(1, first_node(), below);
    memset(all.base, 1, all.len_bytes);
    mem_unmap(&all);
    cr_assert_eq(mem_huge_free_bytes(first_node()), free_bytes);
}

Test(mem, refuses_what_cannot_be)
{
    struct mem_region r = {.len_bytes = 42};
    cr_assert_eq(mem_map(0, MEM_NODE_ANY, &r), -EINVAL);
    cr_assert_eq(mem_map(4096, -2, &r), -EINVAL);
    cr_assert_eq(mem_map(SIZE_MAX, MEM_NODE_ANY, &r), -ENOMEM);
    cr_assert_eq(mem_map(SIZE_MAX / 2, MEM_NODE_ANY, &r), -ENOMEM);
    cr_assert_lt(mem_map(4096, 1 << 20, &r), 0);
    cr_assert_eq(r.len_bytes, 42);
}

Test(mem, pin_moves_the_thread)
{
    cpu_set_t allowed, now;
    cr_assert_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    int tried = 0;
    for (int pu = 0; pu < CPU_SETSIZE; pu++) {
        if (!CPU_ISSET(pu, &allowed))
            continue;
        cr_assert_eq(mem_pin_thread(pu), 0);
        cr_assert_eq(sched_getcpu(), pu);
        cr_assert_eq(sched_getaffinity(0, sizeof(now), &now), 0);
        cr_assert_eq(CPU_COUNT(&now), 1);
        tried++;
    }
    cr_assert_geq(tried, 1);
    cr_assert_eq(mem_pin_thread(-1), -EINVAL);
    cr_assert_eq(mem_pin_thread(1 << 15), -EINVAL, "no machine has that PU");
    cr_assert_eq(mem_pin_thread(1 << 30), -EINVAL);
}
