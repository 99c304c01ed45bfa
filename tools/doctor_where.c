#include "tools/doctor.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "numa/resident.h"

/* One node's share of the process. */
struct share {
    unsigned shards;
    uint64_t placed_kib, ring_kib, other_kib; /* on it: asked for there, shared rings, the rest */
    uint64_t astray_kib;                      /* asked for there, and on another */
};

struct where {
    const struct resident *r;
    struct share nodes[RESIDENT_NODES_MAX];
    struct doctor_lines faults;
};

static void fault(struct where *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fault(struct where *w, const char *format, ...)
{
    va_list args;
    if (w->faults.n == DOCTOR_LINES_MAX)
        return;
    va_start(args, format);
    vsnprintf(w->faults.text[w->faults.n++], DOCTOR_LINE_BYTES, format, args);
    va_end(args);
}

static bool is_shard(const struct resident_thread *t)
{
    return strncmp(t->name, "shard-", 6) == 0 && isdigit((unsigned char)t->name[6]);
}

/* A stack is where it was asked for, on the node of the CPU that its thread is pinned to. */
static void stack_judge(struct where *w, const struct resident_thread *t)
{
    const struct resident_map *stack = resident_map_at(w->r, t->stack);
    if (stack == NULL)
        return; /* it runs: no pointer to be had */
    if (stack->node != t->node && t->node >= 0)
        fault(w, "%s: its stack belongs to node %d, its CPU to node %d", t->name, stack->node,
              t->node);
}

static void thread_judge(struct where *w, const struct resident_thread *t)
{
    if (t->cpu < 0)
        fault(w, "%s may run on CPUs %s: it is not pinned", t->name, t->cpus);
    if (t->node >= 0)
        w->nodes[t->node].shards++;
    if (w->r->numa && t->cpu >= 0)
        stack_judge(w, t);
}

static void placed_judge(struct where *w, const struct resident_map *m)
{
    struct share *own = &w->nodes[m->node];
    uint64_t astray_kib = resident_map_kib(m) - m->kib[m->node];
    own->placed_kib += m->kib[m->node];
    own->astray_kib += astray_kib;
    if (astray_kib > 0)
        fault(w, "%" PRIx64 ": %" PRIu64 " KiB that belong to node %d are on another", m->start,
              astray_kib, m->node);
}

/* Made by its shard's thread: on one node, and that one has a shard. */
static void ring_judge(struct where *w, const struct resident_map *m)
{
    unsigned on = 0;
    for (unsigned node = 0; node < RESIDENT_NODES_MAX; node++) {
        w->nodes[node].ring_kib += m->kib[node];
        on += m->kib[node] > 0;
        if (m->kib[node] > 0 && w->nodes[node].shards == 0)
            fault(w, "%" PRIx64 ": a ring is on node %u, where no shard is", m->start, node);
    }
    if (on > 1)
        fault(w, "%" PRIx64 ": a ring is on %u nodes", m->start, on);
}

static void map_judge(struct where *w, const struct resident_map *m)
{
    if (m->node >= 0)
        placed_judge(w, m);
    else if (m->kind == RESIDENT_RING)
        ring_judge(w, m);
    else
        for (unsigned node = 0; node < RESIDENT_NODES_MAX && !m->file; node++)
            w->nodes[node].other_kib += m->kib[node];
}

static void judge(struct where *w)
{
    unsigned shards = 0;
    for (size_t i = 0; i < w->r->threads_n; i++) {
        if (!is_shard(&w->r->threads[i]))
            continue;
        thread_judge(w, &w->r->threads[i]);
        shards++;
    }
    for (size_t i = 0; i < w->r->maps_n; i++)
        map_judge(w, &w->r->maps[i]);
    if (shards == 0)
        fault(w, "it has no threads named shard-N: not a broker that serves");
}

static unsigned nodes_used(const struct where *w)
{
    unsigned n = 0;
    for (unsigned node = 0; node < RESIDENT_NODES_MAX; node++)
        n += w->nodes[node].shards > 0;
    return n;
}

static void where_text(const struct where *w)
{
    for (size_t i = 0; i < w->r->threads_n; i++) {
        const struct resident_thread *t = &w->r->threads[i];
        if (is_shard(t) && t->node >= 0)
            printf("%s: CPU %s, node %d\n", t->name, t->cpus, t->node);
        else if (is_shard(t))
            printf("%s: CPU %s\n", t->name, t->cpus);
    }
    for (unsigned node = 0; node < RESIDENT_NODES_MAX; node++) {
        const struct share *s = &w->nodes[node];
        if (s->shards > 0 || s->placed_kib > 0 || s->other_kib > 0)
            printf("node %u: %u shards; %" PRIu64 " KiB of their memory and stacks, %" PRIu64
                   " KiB astray; rings %" PRIu64 " KiB; other memory %" PRIu64 " KiB\n",
                   node, s->shards, s->placed_kib, s->astray_kib, s->ring_kib, s->other_kib);
    }
    for (unsigned i = 0; i < w->faults.n; i++)
        printf("ERROR    %s\n", w->faults.text[i]);
    if (w->faults.n == 0)
        printf("all is where it belongs%s\n",
               nodes_used(w) > 1 ? "" : " (shards on one node only: little can be elsewhere)");
}

static void where_json(const struct where *w)
{
    const char *between = "";
    printf("{\n  \"ok\": %s, \"numa\": %s, \"shards\": [", w->faults.n == 0 ? "true" : "false",
           w->r->numa ? "true" : "false");
    for (size_t i = 0; i < w->r->threads_n; i++) {
        const struct resident_thread *t = &w->r->threads[i];
        if (!is_shard(t))
            continue;
        printf("%s\n    {\"name\": \"%s\", \"cpu\": %d, \"node\": %d}", between, t->name, t->cpu,
               t->node);
        between = ",";
    }
    fputs("],\n  \"nodes\": [", stdout);
    between = "";
    for (unsigned node = 0; node < RESIDENT_NODES_MAX; node++) {
        const struct share *s = &w->nodes[node];
        if (s->shards == 0 && s->placed_kib == 0 && s->other_kib == 0)
            continue;
        printf("%s\n    {\"node\": %u, \"shards\": %u, \"placed_kib\": %" PRIu64
               ", \"astray_kib\": %" PRIu64 ", \"ring_kib\": %" PRIu64 ", \"other_kib\": %" PRIu64
               "}",
               between, node, s->shards, s->placed_kib, s->astray_kib, s->ring_kib, s->other_kib);
        between = ",";
    }
    fputs("],\n  \"errors\": [", stdout);
    for (unsigned i = 0; i < w->faults.n; i++) {
        fputs(i > 0 ? ", " : "", stdout);
        doctor_json_string(w->faults.text[i]);
    }
    puts("]\n}");
}

int doctor_where(const char *root, int pid, bool json)
{
    struct resident r;
    int rc = resident_read(root, pid, &r);
    if (rc < 0) {
        fprintf(stderr, "penstock doctor: process %d: %s\n", pid, strerror(-rc));
        return 1;
    }
    struct where w = {.r = &r};
    judge(&w);
    if (json)
        where_json(&w);
    else
        where_text(&w);
    resident_fini(&r);
    return w.faults.n > 0;
}
