#include "numa/topo.h"

#include <errno.h>
#include <hwloc.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "numa/topo_linux.h"

#define CPULIST_PUS_MAX 65536u /* a list may name no PU beyond this, so that it stays small */

/* Device names come from the kernel or from a recorded file and go into JSON and XML. */
static void copy_name(char ret[TOPO_NAME_BYTES], const char *name)
{
    size_t i = 0;
    for (; name != NULL && name[i] != '\0' && i < TOPO_NAME_BYTES - 1; i++)
        ret[i] = name[i] >= 0x20 && name[i] < 0x7f ? name[i] : '?';
    ret[i] = '\0';
}

/* calloc that gives an address for zero elements too, so that NULL always means no memory. */
static void *table_new(size_t n, size_t size_bytes)
{
    return calloc(MAX(n, 1u), size_bytes);
}

static size_t count_type(hwloc_topology_t hw, hwloc_obj_type_t type)
{
    int n = hwloc_get_nbobjs_by_type(hw, type);
    return n > 0 ? (size_t)n : 0; /* < 0: of that type at several depths, which these never are */
}

static int ancestor_index(hwloc_topology_t hw, hwloc_obj_t obj, hwloc_obj_type_t type)
{
    hwloc_obj_t up = hwloc_get_ancestor_obj_by_type(hw, type, obj);
    return up == NULL ? -1 : (int)up->logical_index;
}

/* The smallest package that holds all of a CPU set, -1 when none does. */
static int package_around(hwloc_topology_t hw, hwloc_const_cpuset_t set)
{
    for (hwloc_obj_t p = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_PACKAGE, NULL); p != NULL;
         p = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_PACKAGE, p))
        if (!hwloc_bitmap_iszero(set) && hwloc_bitmap_isincluded(set, p->cpuset))
            return (int)p->logical_index;
    return -1;
}

/* The node around a CPU set: the one with the fewest CPUs; of several alike (DRAM and HBM of one
 * package) the first with memory. -1 when the set spans nodes. */
static int node_around(hwloc_topology_t hw, hwloc_const_cpuset_t set)
{
    hwloc_obj_t best = NULL;
    for (hwloc_obj_t n = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_NUMANODE, NULL); n != NULL;
         n = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_NUMANODE, n)) {
        if (hwloc_bitmap_iszero(set) || !hwloc_bitmap_isincluded(set, n->cpuset))
            continue;
        int more =
            best == NULL ? -1 : hwloc_bitmap_weight(n->cpuset) - hwloc_bitmap_weight(best->cpuset);
        if (more < 0 || (more == 0 && best->attr->numanode.local_memory == 0 &&
                         n->attr->numanode.local_memory > 0))
            best = n;
    }
    return best == NULL ? -1 : (int)best->logical_index;
}

static int copy_nodes(hwloc_topology_t hw, struct topo *t)
{
    t->n_packages = count_type(hw, HWLOC_OBJ_PACKAGE);
    t->n_nodes = count_type(hw, HWLOC_OBJ_NUMANODE);
    t->packages = table_new(t->n_packages, sizeof(*t->packages));
    t->nodes = table_new(t->n_nodes, sizeof(*t->nodes));
    if (t->packages == NULL || t->nodes == NULL)
        return -ENOMEM;
    if (t->n_nodes == 0)
        return -EINVAL;
    for (size_t i = 0; i < t->n_packages; i++)
        t->packages[i].os_index = hwloc_get_obj_by_type(hw, HWLOC_OBJ_PACKAGE, i)->os_index;

    hwloc_const_nodeset_t allowed = hwloc_topology_get_allowed_nodeset(hw);
    for (size_t i = 0; i < t->n_nodes; i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_type(hw, HWLOC_OBJ_NUMANODE, i);
        t->nodes[i] = (struct topo_node){
            .os_index = obj->os_index,
            .memory_bytes = obj->attr->numanode.local_memory,
            .package = package_around(hw, obj->cpuset),
            .allowed = hwloc_bitmap_isset(allowed, obj->os_index),
        };
    }
    return 0;
}

static int copy_distances(hwloc_topology_t hw, struct topo *t)
{
    struct hwloc_distances_s *d;
    unsigned n = 1;
    if (hwloc_distances_get_by_type(hw, HWLOC_OBJ_NUMANODE, &n, &d,
                                    HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) < 0 ||
        n == 0)
        return 0;
    t->distances = table_new(t->n_nodes * t->n_nodes, sizeof(*t->distances));
    /* A node that the matrix leaves out stays far from all but itself. */
    for (size_t i = 0; t->distances != NULL && i < t->n_nodes * t->n_nodes; i++)
        t->distances[i] = i % (t->n_nodes + 1) == 0 ? 0 : UINT64_MAX;
    for (unsigned from = 0; t->distances != NULL && from < d->nbobjs; from++)
        for (unsigned to = 0; to < d->nbobjs; to++)
            if (d->objs[from] != NULL && d->objs[to] != NULL)
                t->distances[d->objs[from]->logical_index * t->n_nodes +
                             d->objs[to]->logical_index] = d->values[from * d->nbobjs + to];
    hwloc_distances_release(hw, d);
    return t->distances == NULL ? -ENOMEM : 0;
}

/* Count a cache into the line of its kind. */
static void add_cache(struct topo *t, const struct hwloc_cache_attr_s *attr)
{
    static const char types[] = {[HWLOC_OBJ_CACHE_UNIFIED] = 'u',
                                 [HWLOC_OBJ_CACHE_DATA] = 'd',
                                 [HWLOC_OBJ_CACHE_INSTRUCTION] = 'i'};
    for (size_t i = 0; i < t->n_caches; i++) {
        struct topo_cache *c = &t->caches[i];
        if (c->level == attr->depth && c->type == types[attr->type] &&
            c->size_bytes == attr->size) {
            c->count++;
            return;
        }
    }
    t->caches[t->n_caches++] = (struct topo_cache){
        .level = attr->depth, .type = types[attr->type], .size_bytes = attr->size, .count = 1};
}

static int copy_caches(hwloc_topology_t hw, struct topo *t)
{
    static const hwloc_obj_type_t kinds[] = {
        HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L1ICACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L2ICACHE,
        HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L3ICACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L5CACHE,
    };
    size_t n = 0;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        n += count_type(hw, kinds[k]);
    t->n_l3s = count_type(hw, HWLOC_OBJ_L3CACHE);
    t->l3s = table_new(t->n_l3s, sizeof(*t->l3s));
    t->caches = table_new(n, sizeof(*t->caches));
    if (t->l3s == NULL || t->caches == NULL)
        return -ENOMEM;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        for (size_t i = 0; i < count_type(hw, kinds[k]); i++) {
            hwloc_obj_t obj = hwloc_get_obj_by_type(hw, kinds[k], i);
            add_cache(t, &obj->attr->cache);
            if (kinds[k] == HWLOC_OBJ_L3CACHE)
                t->l3s[i].size_bytes = obj->attr->cache.size;
        }
    return 0;
}

static int compare_cores(const void *a, const void *b)
{
    const struct topo_core *x = a, *y = b;
    const int keys[][2] = {{x->package, y->package}, {x->node, y->node}, {x->l3, y->l3}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (keys[i][0] != keys[i][1])
            return keys[i][0] < keys[i][1] ? -1 : 1;
    return x->pus < y->pus ? -1 : x->pus > y->pus; /* hwloc's own order */
}

/* PUs of one core are neighbours in hwloc's order; a PU without a core (some virtual machines show
 * none) is a core of its own. */
static int copy_cores(hwloc_topology_t hw, hwloc_const_cpuset_t allowed, struct topo *t)
{
    t->n_pus = count_type(hw, HWLOC_OBJ_PU);
    t->pus = table_new(t->n_pus, sizeof(*t->pus));
    t->cores = table_new(t->n_pus, sizeof(*t->cores));
    if (t->pus == NULL || t->cores == NULL)
        return -ENOMEM;
    hwloc_obj_t last = NULL;
    for (size_t i = 0; i < t->n_pus; i++) {
        hwloc_obj_t pu = hwloc_get_obj_by_type(hw, HWLOC_OBJ_PU, i);
        hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(hw, HWLOC_OBJ_CORE, pu);
        if (core == NULL || core != last) {
            int node = node_around(hw, core == NULL ? pu->cpuset : core->cpuset);
            t->cores[t->n_cores++] = (struct topo_core){
                .package = ancestor_index(hw, pu, HWLOC_OBJ_PACKAGE),
                .node = MAX(node, 0),
                .l3 = ancestor_index(hw, pu, HWLOC_OBJ_L3CACHE),
                .pus = &t->pus[i],
            };
        }
        last = core;
        struct topo_core *mine = &t->cores[t->n_cores - 1];
        t->pus[i] = (struct topo_pu){.os_index = pu->os_index,
                                     .allowed = hwloc_bitmap_isset(allowed, pu->os_index)};
        mine->n_pus++;
        mine->allowed |= t->pus[i].allowed;
    }
    if (t->n_cores == 0)
        return -EINVAL;
    qsort(t->cores, t->n_cores, sizeof(*t->cores), compare_cores);
    for (size_t i = 0; i < t->n_cores; i++)
        t->cores[i].memory_node = topo_nearest_memory(t, t->cores[i].node);
    return 0;
}

static int compare_devices(const void *a, const void *b)
{
    /* Both kinds begin with the name. */
    return strverscmp(a, b);
}
_Static_assert(offsetof(struct topo_nic, name) == 0 && offsetof(struct topo_block, name) == 0,
               "compare_devices reads the name at the front");

/* A recorded machine may say in an info what on the real one is read from /sys. */
static int64_t info_number(hwloc_obj_t obj, const char *key, int64_t unknown)
{
    const char *text = hwloc_obj_get_info_by_name(obj, key);
    char *end;
    if (text == NULL)
        return unknown;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    return errno != 0 || end == text || *end != '\0' || v < 0 ? unknown : v;
}

static void copy_nic(hwloc_topology_t hw, hwloc_obj_t obj, struct topo_locality near,
                     struct topo *t)
{
    struct topo_nic *nic = &t->nics[t->n_nics++];
    hwloc_obj_t pci = hwloc_get_ancestor_obj_by_type(hw, HWLOC_OBJ_PCI_DEVICE, obj);
    copy_name(nic->name, obj->name);
    nic->near = near;
    nic->speed_mbit = t->this_machine ? linux_nic_speed_mbit(nic->name)
                                      : (uint64_t)info_number(obj, "LinkSpeedMbit", 0);
    if (pci != NULL) {
        const struct hwloc_pcidev_attr_s *a = &pci->attr->pcidev;
        snprintf(nic->pci, sizeof(nic->pci), "%04x:%02x:%02x.%01x", a->domain, a->bus, a->dev,
                 a->func);
    }
}

static void copy_block(hwloc_obj_t obj, struct topo_locality near, struct topo *t)
{
    struct topo_block *block = &t->blocks[t->n_blocks++];
    int64_t size_kib = info_number(obj, "Size", 0);
    copy_name(block->name, obj->name);
    block->near = near;
    block->size_bytes = size_kib <= INT64_MAX / 1024 ? (uint64_t)size_kib * 1024 : 0;
    block->rotational = t->this_machine ? linux_block_rotational(block->name)
                                        : (int)info_number(obj, "Rotational", -1);
    block->nvme = strncmp(block->name, "nvme", 4) == 0;
}

static int copy_devices(hwloc_topology_t hw, struct topo *t)
{
    size_t n = count_type(hw, HWLOC_OBJ_OS_DEVICE);
    t->nics = table_new(n, sizeof(*t->nics));
    t->blocks = table_new(n, sizeof(*t->blocks));
    if (t->nics == NULL || t->blocks == NULL)
        return -ENOMEM;
    for (hwloc_obj_t obj = hwloc_get_next_osdev(hw, NULL); obj != NULL;
         obj = hwloc_get_next_osdev(hw, obj)) {
        hwloc_obj_t at = hwloc_get_non_io_ancestor_obj(hw, obj);
        struct topo_locality near = {.node = node_around(hw, at->cpuset),
                                     .package = package_around(hw, at->cpuset)};
        if (obj->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK)
            copy_nic(hw, obj, near, t);
        else if (obj->attr->osdev.type == HWLOC_OBJ_OSDEV_BLOCK)
            copy_block(obj, near, t);
    }
    qsort(t->nics, t->n_nics, sizeof(*t->nics), compare_devices);
    qsort(t->blocks, t->n_blocks, sizeof(*t->blocks), compare_devices);
    return 0;
}

/* Some sandboxes hide the nodes' memory; with a single node the system's total is its own. */
static void fill_unknown_memory(struct topo *t)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    if (t->n_nodes == 1 && t->nodes[0].memory_bytes == 0 && pages > 0 && page_bytes > 0)
        t->nodes[0].memory_bytes = (uint64_t)pages * (uint64_t)page_bytes;
}

static int copy_all(hwloc_topology_t hw, hwloc_const_cpuset_t allowed, struct topo *t)
{
    int rc = copy_nodes(hw, t);
    if (rc == 0 && t->this_machine) {
        t->memory_limit_bytes = linux_memory_limit_bytes();
        fill_unknown_memory(t);
    }
    if (rc == 0)
        rc = copy_distances(hw, t);
    if (rc == 0)
        rc = copy_caches(hw, t);
    if (rc == 0)
        rc = copy_cores(hw, allowed, t);
    if (rc == 0)
        rc = copy_devices(hw, t);
    return rc;
}

static int copy_topology(hwloc_topology_t hw, struct topo **ret)
{
    hwloc_cpuset_t allowed = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(hw));
    hwloc_cpuset_t affinity = hwloc_bitmap_alloc();
    struct topo *t = calloc(1, sizeof(*t));
    int rc = -ENOMEM;
    if (allowed == NULL || affinity == NULL || t == NULL)
        goto out;
    t->this_machine = hwloc_topology_is_thissystem(hw);
    if (t->this_machine && hwloc_get_cpubind(hw, affinity, HWLOC_CPUBIND_THREAD) == 0)
        hwloc_bitmap_and(allowed, allowed, affinity);
    rc = copy_all(hw, allowed, t);
    if (rc < 0)
        goto out;
    *ret = t;
    t = NULL;
out:
    hwloc_bitmap_free(allowed);
    hwloc_bitmap_free(affinity);
    topo_destroy(t);
    return rc;
}

typedef int (*topo_source_fn)(hwloc_topology_t hw, const char *arg);

static int load(topo_source_fn set_source, const char *arg, struct topo **ret)
{
    hwloc_topology_t hw;
    if (hwloc_topology_init(&hw) < 0)
        return -ENOMEM;
    /* Look at what we may not use as well: the picture shows it. GPUs are of no use here, and
     * their plugins start drivers. */
    static const char *const unwanted[] = {"opencl", "cuda", "nvml", "rsmi", "levelzero", "gl"};
    for (size_t i = 0; i < ARRAY_LEN(unwanted); i++)
        hwloc_topology_set_components(hw, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, unwanted[i]);
    int rc = 0;
    if (hwloc_topology_set_flags(hw, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED) < 0 ||
        hwloc_topology_set_io_types_filter(hw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT) < 0 ||
        (set_source != NULL && set_source(hw, arg) < 0) || hwloc_topology_load(hw) < 0)
        rc = errno > 0 ? -errno : -EINVAL;
    if (rc == 0)
        rc = copy_topology(hw, ret);
    hwloc_topology_destroy(hw);
    return rc;
}

int topo_discover(struct topo **ret)
{
    return load(NULL, NULL, ret);
}

int topo_from_synthetic(const char *desc, struct topo **ret)
{
    return load(hwloc_topology_set_synthetic, desc, ret);
}

int topo_from_xml(const char *path, struct topo **ret)
{
    return load(hwloc_topology_set_xml, path, ret);
}

/* One "7" or "0-3"; advances *p behind it. */
static int parse_range(const char **p, unsigned *ret_first, unsigned *ret_last)
{
    char *end;
    if (**p < '0' || **p > '9')
        return -EINVAL;
    unsigned long first = strtoul(*p, &end, 10), last = first;
    if (*end == '-') {
        if (end[1] < '0' || end[1] > '9')
            return -EINVAL;
        last = strtoul(end + 1, &end, 10);
    }
    if (last < first)
        return -EINVAL;
    if (last >= CPULIST_PUS_MAX)
        return -ENOENT;
    *p = end;
    *ret_first = (unsigned)first;
    *ret_last = (unsigned)last;
    return 0;
}

static bool has_pu(const struct topo *t, unsigned os_index)
{
    for (size_t i = 0; i < t->n_pus; i++)
        if (t->pus[i].os_index == os_index)
            return true;
    return false;
}

/* Mark the PUs of a list in wanted[CPULIST_PUS_MAX]. */
static int parse_cpulist(const struct topo *t, const char *list, bool *wanted)
{
    for (const char *p = list;; p++) { /* p++ steps over the comma */
        unsigned first, last;
        int rc = parse_range(&p, &first, &last);
        if (rc < 0)
            return rc;
        for (unsigned pu = first; pu <= last; pu++) {
            if (!has_pu(t, pu))
                return -ENOENT;
            wanted[pu] = true;
        }
        if (*p == '\0')
            return 0;
        if (*p != ',')
            return -EINVAL;
    }
}

static bool is_wanted(const struct topo_pu *pu, const bool *wanted)
{
    return pu->allowed && pu->os_index < CPULIST_PUS_MAX && wanted[pu->os_index];
}

int topo_restrict(struct topo *topo, const char *cpulist)
{
    bool *wanted = calloc(CPULIST_PUS_MAX, sizeof(*wanted)), any = false;
    if (wanted == NULL)
        return -ENOMEM;
    int rc = parse_cpulist(topo, cpulist, wanted);
    for (size_t i = 0; rc == 0 && i < topo->n_pus; i++)
        any |= is_wanted(&topo->pus[i], wanted);
    if (rc == 0 && !any)
        rc = -EPERM;
    for (size_t i = 0; rc == 0 && i < topo->n_cores; i++) {
        struct topo_core *core = &topo->cores[i];
        core->allowed = false;
        for (size_t j = 0; j < core->n_pus; j++) {
            core->pus[j].allowed = is_wanted(&core->pus[j], wanted);
            core->allowed |= core->pus[j].allowed;
        }
    }
    free(wanted);
    return rc;
}

/* Lower is nearer: distance where the machine gives one, else same package before other. */
static uint64_t memory_rank(const struct topo *t, size_t from, size_t to)
{
    if (t->distances != NULL)
        return t->distances[from * t->n_nodes + to];
    return t->nodes[from].package < 0 || t->nodes[from].package != t->nodes[to].package;
}

int topo_nearest_memory(const struct topo *topo, int node)
{
    ASSERT(node >= 0 && (size_t)node < topo->n_nodes);
    if (topo->nodes[node].allowed && topo->nodes[node].memory_bytes > 0)
        return node;
    int best = -1;
    for (size_t i = 0; i < topo->n_nodes; i++) {
        if (!topo->nodes[i].allowed || topo->nodes[i].memory_bytes == 0)
            continue;
        if (best < 0 ||
            memory_rank(topo, (size_t)node, i) < memory_rank(topo, (size_t)node, (size_t)best))
            best = (int)i;
    }
    return best < 0 ? node : best;
}

uint64_t topo_allowed_memory(const struct topo *topo)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < topo->n_nodes; i++)
        sum += topo->nodes[i].allowed ? topo->nodes[i].memory_bytes : 0;
    return topo->memory_limit_bytes > 0 && sum > 0 ? MIN(sum, topo->memory_limit_bytes) : sum;
}

size_t topo_allowed_cores(const struct topo *topo)
{
    size_t n = 0;
    for (size_t i = 0; i < topo->n_cores; i++)
        n += topo->cores[i].allowed;
    return n;
}

void topo_destroy(struct topo *topo)
{
    if (topo == NULL)
        return;
    free(topo->packages);
    free(topo->nodes);
    free(topo->l3s);
    free(topo->caches);
    free(topo->cores);
    free(topo->nics);
    free(topo->blocks);
    free(topo->pus);
    free(topo->distances);
    free(topo);
}
