#include "numa/resident.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "numa/topo_linux.h"

enum { LINE_BYTES = 8192 };

static FILE *process_open(const char *root, int pid, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/%d/%s", root, pid, name);
    return fopen(path, "re");
}

/* Room for one more in an array that doubles. */
static int grow(void **array, size_t n, size_t size_bytes)
{
    if (n != 0 && (n & (n - 1)) != 0)
        return 0;
    void *more = realloc(*array, MAX(2 * n, 16u) * size_bytes);
    if (more == NULL)
        return -ENOMEM;
    *array = more;
    return 0;
}

/* ---- maps ---- */

/* "prefer:1", "bind:0", "prefer (many):0-1", "default" ... */
static int policy_node(const char *policy)
{
    const char *colon = strchr(policy, ':');
    char *end;
    if (colon == NULL)
        return -1;
    long node = strtol(colon + 1, &end, 10);
    return end != colon + 1 && *end == '\0' && node >= 0 && node < RESIDENT_NODES_MAX ? (int)node
                                                                                      : -1;
}

/* "N1=512" counts pages of the size that the line's last word tells. */
static void word_take(struct resident_map *m, char *word, uint64_t *page_kib)
{
    unsigned node;
    uint64_t n;
    if (sscanf(word, "N%u=%" SCNu64, &node, &n) == 2 && node < RESIDENT_NODES_MAX)
        m->kib[node] = n;
    else if (sscanf(word, "kernelpagesize_kB=%" SCNu64, &n) == 1)
        *page_kib = n;
    else if (strncmp(word, "file=anon_inode:[io_uring]", 26) == 0)
        m->kind = RESIDENT_RING;
    else if (strncmp(word, "file=/anon_hugepage", 19) != 0 && strncmp(word, "file=", 5) == 0)
        m->file = true;
}

static int map_parse(char *line, struct resident_map *ret)
{
    char *rest = NULL, *address = strtok_r(line, " \n", &rest),
         *policy = address == NULL ? NULL : strtok_r(NULL, " \n", &rest);
    uint64_t page_kib = 4;
    if (policy == NULL)
        return -EINVAL;
    *ret = (struct resident_map){.start = strtoull(address, NULL, 16), .node = policy_node(policy)};
    for (char *word; (word = strtok_r(NULL, " \n", &rest)) != NULL;)
        word_take(ret, word, &page_kib);
    for (unsigned i = 0; i < RESIDENT_NODES_MAX; i++)
        ret->kib[i] *= page_kib;
    return 0;
}

static int maps_parse(FILE *f, struct resident *r)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof(line), f) != NULL) {
        int rc = grow((void **)&r->maps, r->maps_n, sizeof(*r->maps));
        if (rc < 0)
            return rc;
        if (map_parse(line, &r->maps[r->maps_n]) == 0)
            r->maps_n++;
    }
    return 0;
}

/* Both files are ordered by address; a map that came or went in between has no end. */
static void ends_parse(FILE *f, struct resident *r)
{
    char line[LINE_BYTES];
    size_t at = 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        uint64_t start, end;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
            continue;
        while (at < r->maps_n && r->maps[at].start < start)
            at++;
        if (at < r->maps_n && r->maps[at].start == start)
            r->maps[at].end = end;
    }
}

static int maps_read(const char *root, int pid, struct resident *r)
{
    FILE *f = process_open(root, pid, "numa_maps");
    if (f == NULL)
        return errno == ENOENT ? 0 : -errno;
    r->numa = true;
    int rc = maps_parse(f, r);
    fclose(f);
    f = rc < 0 ? NULL : process_open(root, pid, "maps");
    if (f == NULL)
        return rc;
    ends_parse(f, r);
    fclose(f);
    return 0;
}

/* ---- threads ---- */

static int cpu_node(const char *root, int cpu)
{
    for (unsigned node = 0; node < RESIDENT_NODES_MAX; node++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/sys/devices/system/cpu/cpu%d/node%u", root, cpu, node);
        if (access(path, F_OK) == 0)
            return (int)node;
    }
    return -1;
}

static void cpus_read(const char *root, int pid, struct resident_thread *t)
{
    char name[64], line[LINE_BYTES], *end;
    snprintf(name, sizeof(name), "task/%d/status", t->tid);
    FILE *f = process_open(root, pid, name);
    if (f == NULL)
        return;
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "Cpus_allowed_list: %63s", t->cpus) == 1)
            break;
    fclose(f);
    long cpu = strtol(t->cpus, &end, 10);
    if (t->cpus[0] == '\0' || *end != '\0')
        return;
    t->cpu = (int)cpu;
    t->node = cpu_node(root, t->cpu);
}

/* number, six arguments, stack pointer, program counter; or "running" */
static void stack_read(const char *root, int pid, struct resident_thread *t)
{
    char name[64], line[LINE_BYTES];
    snprintf(name, sizeof(name), "task/%d/syscall", t->tid);
    FILE *f = process_open(root, pid, name);
    if (f == NULL)
        return;
    if (fgets(line, sizeof(line), f) == NULL ||
        sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %" SCNx64, &t->stack) != 1)
        t->stack = 0;
    fclose(f);
}

static void thread_read(const char *root, int pid, int tid, struct resident_thread *ret)
{
    char path[PATH_MAX];
    *ret = (struct resident_thread){.tid = tid, .cpu = -1, .node = -1};
    snprintf(path, sizeof(path), "%s/proc/%d/task/%d/comm", root, pid, tid);
    linux_read_line(path, ret->name, sizeof(ret->name));
    cpus_read(root, pid, ret);
    stack_read(root, pid, ret);
}

static int by_tid(const void *a, const void *b)
{
    return ((const struct resident_thread *)a)->tid - ((const struct resident_thread *)b)->tid;
}

static int threads_read(const char *root, int pid, struct resident *r)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/%d/task", root, pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT ? -ESRCH : -errno;
    int rc = 0;
    for (const struct dirent *entry; rc == 0 && (entry = readdir(dir)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        rc = grow((void **)&r->threads, r->threads_n, sizeof(*r->threads));
        if (rc == 0)
            thread_read(root, pid, atoi(entry->d_name), &r->threads[r->threads_n++]);
    }
    closedir(dir);
    if (r->threads_n > 1)
        qsort(r->threads, r->threads_n, sizeof(*r->threads), by_tid);
    return rc;
}

int resident_read(const char *root, int pid, struct resident *ret)
{
    struct resident r = {0};
    int rc = threads_read(root, pid, &r);
    if (rc == 0)
        rc = maps_read(root, pid, &r);
    if (rc < 0)
        resident_fini(&r);
    else
        *ret = r;
    return rc;
}

void resident_fini(struct resident *r)
{
    free(r->maps);
    free(r->threads);
    *r = (struct resident){0};
}

const struct resident_map *resident_map_at(const struct resident *r, uint64_t address)
{
    for (size_t i = 0; i < r->maps_n; i++)
        if (r->maps[i].start <= address && address < r->maps[i].end)
            return &r->maps[i];
    return NULL;
}

uint64_t resident_map_kib(const struct resident_map *m)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < RESIDENT_NODES_MAX; i++)
        sum += m->kib[i];
    return sum;
}
