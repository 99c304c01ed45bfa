#include "numa/mem.h"

#include <errno.h>
#include <limits.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "numa/topo_linux.h"

#define HUGE_BYTES ((size_t)2 << 20)
#define HUGE_BYTES_LOG2 21
#define PUS_MAX (1 << 16)   /* the kernel's own limit is 8192 */
#define NODES_MAX (1 << 12) /* and here 1024 */
#define GLOBAL_HUGE_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB/"

const char *mem_rung_name(enum mem_rung rung)
{
    static const char *const names[] = {
        [MEM_PLAIN] = "plain", [MEM_THP] = "thp", [MEM_HUGETLB] = "hugetlb"};
    ASSERT(rung >= 0 && rung < ARRAY_LEN(names));
    return names[rung];
}

/* Reservations are counted for the whole machine only: a node offers the lesser of what is free on
 * it and what nobody has reserved. */
uint64_t mem_huge_free_bytes(int node)
{
    int64_t free_pages, reserved, on_node;
    if (linux_read_number(GLOBAL_HUGE_DIR "free_hugepages", &free_pages) < 0 ||
        linux_read_number(GLOBAL_HUGE_DIR "resv_hugepages", &reserved) < 0)
        return 0;
    int64_t pages = free_pages - reserved;
    if (node >= 0) {
        char path[128];
        snprintf(path, sizeof(path),
                 "/sys/devices/system/node/node%d/hugepages/hugepages-2048kB/free_hugepages", node);
        if (linux_read_number(path, &on_node) < 0)
            return 0;
        pages = MIN(pages, on_node);
    }
    return pages > 0 ? (uint64_t)pages * HUGE_BYTES : 0;
}

static void *map_anonymous(size_t bytes, int flags)
{
    void *base =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

/* Without MAP_NORESERVE the pages are reserved now, so a later touch cannot fail for want of one.
 */
static void *map_hugetlb(size_t bytes, int node)
{
    if (mem_huge_free_bytes(node) < bytes)
        return NULL;
    return map_anonymous(bytes, MAP_HUGETLB | (HUGE_BYTES_LOG2 << MAP_HUGE_SHIFT));
}

/* Map more than needed and give back what lies around the aligned middle. */
static void *map_aligned(size_t bytes)
{
    if (bytes > SIZE_MAX - HUGE_BYTES)
        return NULL;
    char *wide = map_anonymous(bytes + HUGE_BYTES, 0);
    if (wide == NULL)
        return NULL;
    size_t head = round_up_u64((uintptr_t)wide, HUGE_BYTES) - (uintptr_t)wide;
    size_t tail = HUGE_BYTES - head;
    if (head > 0)
        munmap(wide, head);
    if (tail > 0)
        munmap(wide + head + bytes, tail);
    return wide + head;
}

/* madvise succeeds even where the administrator has switched huge pages off. */
static bool thp_is_on(void)
{
    char line[128];
    return linux_read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line)) ==
               0 &&
           strstr(line, "[never]") == NULL;
}

static int map_plain(size_t bytes, int node, struct mem_region *region)
{
    if (bytes > SIZE_MAX / 2)
        return -ENOMEM;
    *region = (struct mem_region){.len_bytes = round_up_u64(bytes, (size_t)sysconf(_SC_PAGESIZE)),
                                  .node = node,
                                  .rung = MEM_PLAIN};
    region->base = map_anonymous(region->len_bytes, 0);
    return region->base == NULL ? -ENOMEM : 0;
}

static int map_ladder(size_t bytes, int node, struct mem_region *region)
{
    if (bytes > SIZE_MAX / 2)
        return -ENOMEM;
    size_t huge_len_bytes = round_up_u64(bytes, HUGE_BYTES);
    *region = (struct mem_region){.len_bytes = huge_len_bytes, .node = node, .rung = MEM_HUGETLB};
    region->base = map_hugetlb(huge_len_bytes, node);
    if (region->base != NULL)
        return 0;
    region->base = thp_is_on() ? map_aligned(huge_len_bytes) : NULL;
    region->rung = MEM_THP;
    if (region->base != NULL && madvise(region->base, huge_len_bytes, MADV_HUGEPAGE) == 0)
        return 0;
    if (region->base != NULL)
        munmap(region->base, huge_len_bytes);
    return map_plain(bytes, node, region);
}

/* Preferred, not strict: a node that is full costs speed, not the broker. */
static int bind_to_node(struct mem_region *region)
{
    struct bitmask *nodes = numa_bitmask_alloc((unsigned)region->node + 1);
    if (nodes == NULL)
        return -ENOMEM;
    numa_bitmask_setbit(nodes, (unsigned)region->node);
    /* The kernel reads one bit less than it is told. */
    long rc =
        mbind(region->base, region->len_bytes, MPOL_PREFERRED, nodes->maskp, nodes->size + 1, 0);
    int err = rc < 0 ? errno : 0;
    numa_bitmask_free(nodes);
    region->bound = err == 0;
    return err == EPERM || err == ENOSYS ? 0 : -err;
}

static int map_on_node(int (*map)(size_t, int, struct mem_region *), size_t bytes, int node,
                       struct mem_region *ret)
{
    struct mem_region region;
    if (bytes == 0 || node < MEM_NODE_ANY || node >= NODES_MAX)
        return -EINVAL;
    int rc = map(bytes, node, &region);
    if (rc < 0)
        return rc;
    rc = node == MEM_NODE_ANY ? 0 : bind_to_node(&region);
    if (rc < 0) {
        mem_unmap(&region);
        return rc;
    }
    *ret = region;
    return 0;
}

int mem_map(size_t bytes, int node, struct mem_region *ret)
{
    return map_on_node(map_ladder, bytes, node, ret);
}

int mem_map_plain(size_t bytes, int node, struct mem_region *ret)
{
    int rc = map_on_node(map_plain, bytes, node, ret);
    if (rc == 0)
        madvise(ret->base, ret->len_bytes, MADV_NOHUGEPAGE); /* refused where there are none */
    return rc;
}

void mem_unmap(struct mem_region *region)
{
    if (region->base != NULL)
        munmap(region->base, region->len_bytes);
    *region = (struct mem_region){0};
}

int mem_pin_thread(int pu_os_index)
{
    if (pu_os_index < 0 || pu_os_index >= PUS_MAX)
        return -EINVAL;
    cpu_set_t *set = CPU_ALLOC((size_t)pu_os_index + 1);
    size_t set_bytes = CPU_ALLOC_SIZE((size_t)pu_os_index + 1);
    if (set == NULL)
        return -ENOMEM;
    CPU_ZERO_S(set_bytes, set);
    CPU_SET_S((size_t)pu_os_index, set_bytes, set);
    int rc = sched_setaffinity(0, set_bytes, set) < 0 ? -errno : 0;
    CPU_FREE(set);
    return rc;
}
