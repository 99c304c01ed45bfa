#include "numa/placement.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

/* An allowed core on its way into the order in which shards are dealt. */
struct seat {
    int core;
    int place;     /* its memory node */
    int cache;     /* its L3; of one place, -1 is one cache too */
    unsigned rank; /* how many seats of its cache, then of its place, come before it */
};

__attribute__((format(printf, 3, 4))) static int fail(struct placement *ret, int rc,
                                                      const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(ret->reason, sizeof(ret->reason), fmt, args);
    va_end(args);
    return rc;
}

static int compare_keys(const int (*keys)[2], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (keys[i][0] != keys[i][1])
            return keys[i][0] < keys[i][1] ? -1 : 1;
    return 0;
}

static int by_place_cache_core(const void *a, const void *b)
{
    const struct seat *x = a, *y = b;
    const int keys[][2] = {{x->place, y->place}, {x->cache, y->cache}, {x->core, y->core}};
    return compare_keys(keys, ARRAY_LEN(keys));
}

static int by_place_rank_cache(const void *a, const void *b)
{
    const struct seat *x = a, *y = b;
    const int keys[][2] = {
        {x->place, y->place}, {(int)x->rank, (int)y->rank}, {x->cache, y->cache}};
    return compare_keys(keys, ARRAY_LEN(keys));
}

static int by_rank_place(const void *a, const void *b)
{
    const struct seat *x = a, *y = b;
    const int keys[][2] = {{(int)x->rank, (int)y->rank}, {x->place, y->place}};
    return compare_keys(keys, ARRAY_LEN(keys));
}

static int by_place_core(const void *a, const void *b)
{
    const struct seat *x = a, *y = b;
    const int keys[][2] = {{x->place, y->place}, {x->core, y->core}};
    return compare_keys(keys, ARRAY_LEN(keys));
}

/* Dealing in turn is two sorts: number the cores within each L3 and take all firsts before all
 * seconds; then number that order within each place and do the same over the places. */
static void seats_deal(struct seat *seats, size_t n)
{
    qsort(seats, n, sizeof(*seats), by_place_cache_core);
    for (size_t i = 0; i < n; i++) {
        bool same =
            i > 0 && seats[i].place == seats[i - 1].place && seats[i].cache == seats[i - 1].cache;
        seats[i].rank = same ? seats[i - 1].rank + 1 : 0;
    }
    qsort(seats, n, sizeof(*seats), by_place_rank_cache);
    for (size_t i = 0; i < n; i++) {
        bool same = i > 0 && seats[i].place == seats[i - 1].place;
        seats[i].rank = same ? seats[i - 1].rank + 1 : 0;
    }
    qsort(seats, n, sizeof(*seats), by_rank_place);
}

static size_t seats_collect(const struct topo *topo, struct seat *seats)
{
    size_t n = 0;
    for (size_t i = 0; i < topo->n_cores; i++) {
        const struct topo_core *core = &topo->cores[i];
        if (core->allowed)
            seats[n++] =
                (struct seat){.core = (int)i, .place = core->memory_node, .cache = core->l3};
    }
    return n;
}

bool placement_is_near(const struct topo *topo, int core, const struct topo_locality *device)
{
    if (device->node >= 0)
        return device->node == topo->cores[core].node;
    return device->package < 0 || device->package == topo->cores[core].package;
}

static unsigned first_allowed_pu(const struct topo_core *core)
{
    size_t i = 0;
    while (i < core->n_pus && !core->pus[i].allowed)
        i++;
    ASSERT(i < core->n_pus);
    return core->pus[i].os_index;
}

/* Fill all but memory, from the seats in the order of the shards. */
static void shards_seat(const struct topo *topo, const struct seat *seats, struct placement *p)
{
    unsigned *near = p->near;
    for (size_t i = 0; i < p->n_shards; i++) {
        struct placement_shard *s = &p->shards[i];
        bool new_group = i > 0 && seats[i].place != seats[i - 1].place;
        s->index = (unsigned)i;
        s->core = seats[i].core;
        s->pu_os_index = first_allowed_pu(&topo->cores[s->core]);
        s->shared = (i > 0 && seats[i - 1].core == s->core) ||
                    (i + 1 < p->n_shards && seats[i + 1].core == s->core);
        s->node = seats[i].place;
        s->node_os_index = topo->nodes[s->node].os_index;
        s->group = i == 0 ? 0 : p->shards[i - 1].group + new_group;
        s->near_nics = near;
        for (size_t d = 0; d < topo->n_nics; d++)
            if (placement_is_near(topo, s->core, &topo->nics[d].near))
                *near++ = (unsigned)d;
        s->n_near_nics = (size_t)(near - s->near_nics);
        s->near_blocks = near;
        for (size_t d = 0; d < topo->n_blocks; d++)
            if (placement_is_near(topo, s->core, &topo->blocks[d].near))
                *near++ = (unsigned)d;
        s->n_near_blocks = (size_t)(near - s->near_blocks);
    }
    p->n_groups = p->shards[p->n_shards - 1].group + 1;
}

static uint64_t shards_on(const struct placement *p, int node)
{
    uint64_t n = 0;
    for (size_t i = 0; i < p->n_shards; i++)
        n += p->shards[i].node == node;
    return n;
}

static uint64_t auto_total(const struct topo *topo, size_t n_shards)
{
    uint64_t wanted = n_shards * PLACEMENT_AUTO_SHARD_BYTES, memory = topo_allowed_memory(topo);
    return memory == 0 ? wanted : MIN(wanted, memory / PLACEMENT_AUTO_DIVISOR);
}

static int shards_give_memory(const struct topo *topo, const struct placement_settings *settings,
                              struct placement *p)
{
    bool is_auto = settings->memory_bytes == 0;
    uint64_t total = is_auto ? auto_total(topo, p->n_shards) : settings->memory_bytes;
    uint64_t allowed = topo_allowed_memory(topo);
    if (allowed > 0 && total > allowed)
        return fail(p, -ENOMEM,
                    "memory of %" PRIu64 " MiB is more than the %" PRIu64 " MiB that may be used",
                    total >> 20, allowed >> 20);
    for (size_t i = 0; i < p->n_shards; i++) {
        struct placement_shard *s = &p->shards[i];
        uint64_t node_bytes = topo->nodes[s->node].memory_bytes;
        uint64_t bytes = total / p->n_shards, on_node = shards_on(p, s->node);
        if (is_auto && node_bytes > 0)
            bytes = MIN(bytes, node_bytes / PLACEMENT_AUTO_DIVISOR / on_node);
        bytes = round_down_u64(bytes, PLACEMENT_PAGE_BYTES);
        if (bytes == 0)
            return fail(p, -ENOMEM,
                        "memory of %" PRIu64 " MiB leaves less than 2 MiB for each of "
                        "%zu shards",
                        total >> 20, p->n_shards);
        if (node_bytes > 0 && bytes > node_bytes / on_node)
            return fail(p, -ENOMEM,
                        "node %u has %" PRIu64 " MiB: too little for %" PRIu64 " shards of %" PRIu64
                        " MiB",
                        s->node_os_index, node_bytes >> 20, on_node, bytes >> 20);
        s->memory_bytes = bytes;
        p->memory_bytes += bytes;
    }
    return 0;
}

/* Shards of a node are neighbours: hand out its free huge pages in their order. */
static void shards_give_huge_pages(const uint64_t *free_bytes, struct placement *p)
{
    uint64_t left = 0;
    for (size_t i = 0; free_bytes != NULL && i < p->n_shards; i++) {
        struct placement_shard *s = &p->shards[i];
        if (i == 0 || s->node != p->shards[i - 1].node)
            left = free_bytes[s->node];
        s->huge_pages = s->memory_bytes <= left;
        left -= s->huge_pages ? s->memory_bytes : left;
    }
}

static int compute(const struct topo *topo, const struct placement_settings *settings,
                   struct seat *seats, size_t n_cores, struct placement *p)
{
    seats_deal(seats, n_cores);
    /* A second round takes the same cores in the same order again. */
    for (size_t i = n_cores; i < p->n_shards; i++)
        seats[i] = seats[i - n_cores];
    qsort(seats, p->n_shards, sizeof(*seats), by_place_core);
    shards_seat(topo, seats, p);
    int rc = shards_give_memory(topo, settings, p);
    if (rc == 0)
        shards_give_huge_pages(settings->huge_free_bytes, p);
    return rc;
}

int placement_compute(const struct topo *topo, const struct placement_settings *settings,
                      struct placement *ret)
{
    size_t n_cores = topo_allowed_cores(topo), n_devices = topo->n_nics + topo->n_blocks;
    if (n_cores == 0)
        return fail(ret, -ENODEV, "no core of this machine may be used");
    if (settings->shards > PLACEMENT_SHARDS_MAX)
        return fail(ret, -EINVAL, "%u shards asked for, %u is the most", settings->shards,
                    PLACEMENT_SHARDS_MAX);
    struct placement p = {.n_shards = settings->shards > 0 ? settings->shards
                                                           : MIN(n_cores, PLACEMENT_SHARDS_MAX)};
    struct seat *seats = calloc(MAX(p.n_shards, n_cores), sizeof(*seats));
    p.shards = calloc(p.n_shards, sizeof(*p.shards));
    p.near = calloc(p.n_shards * n_devices + 1, sizeof(*p.near));
    int rc = fail(&p, -ENOMEM, "no memory for the placement of %zu shards", p.n_shards);
    if (seats != NULL && p.shards != NULL && p.near != NULL) {
        p.reason[0] = '\0';
        seats_collect(topo, seats);
        rc = compute(topo, settings, seats, n_cores, &p);
    }
    free(seats);
    if (rc < 0) {
        memcpy(ret->reason, p.reason, sizeof(ret->reason));
        placement_fini(&p);
        return rc;
    }
    *ret = p;
    return 0;
}

void placement_fini(struct placement *placement)
{
    free(placement->shards);
    free(placement->near);
    placement->shards = NULL;
    placement->near = NULL;
    placement->n_shards = 0;
}
