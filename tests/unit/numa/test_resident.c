#include "numa/resident.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "numa/mem.h"
#include "numa/topo.h"

#define KIB UINT64_C(1024)

/* ---- the real kernel ---- */

static int first_node(void)
{
    struct topo *t = NULL;
    cr_assert_eq(topo_discover(&t), 0);
    int node = (int)t->nodes[t->cores[0].memory_node].os_index;
    topo_destroy(t);
    return node;
}

Test(resident, placed_memory_is_counted_on_its_node)
{
    struct mem_region region;
    struct resident r;
    int node = first_node();
    cr_assert_eq(mem_map_plain(4096 * KIB, node, &region), 0);
    memset(region.base, 1, 1024 * KIB);
    cr_assert_eq(resident_read("", getpid(), &r), 0);
    const struct resident_map *m = resident_map_at(&r, (uintptr_t)region.base + 5);
    if (!r.numa || !region.bound)
        cr_skip_test("this kernel has no NUMA, or does not let us bind memory");
    cr_assert_not_null(m);
    cr_assert_eq(m->node, node);
    cr_assert_eq(m->kib[node], 1024);
    cr_assert_eq(resident_map_kib(m), 1024);
    cr_assert_not(m->file);
    resident_fini(&r);
    mem_unmap(&region);
}

static void *wait_here(void *arg)
{
    char byte;
    cr_assert_eq(mem_pin_thread(0), 0);
    cr_assert_eq(write(((int *)arg)[3], "x", 1), 1);
    cr_assert_eq(read(((int *)arg)[0], &byte, 1), 1);
    return NULL;
}

Test(resident, a_pinned_thread_is_seen_with_its_cpu_and_its_stack)
{
    int pipes[4];
    char byte;
    pthread_t thread;
    struct resident r;
    cr_assert_eq(pipe(pipes), 0);
    cr_assert_eq(pipe(pipes + 2), 0);
    cr_assert_eq(pthread_create(&thread, NULL, wait_here, pipes), 0);
    pthread_setname_np(thread, "pinned");
    cr_assert_eq(read(pipes[2], &byte, 1), 1);
    const struct resident_thread *found = NULL;
    for (unsigned turn = 0; turn < 1000 && found == NULL; turn++) { /* until it waits in read() */
        cr_assert_eq(resident_read("", getpid(), &r), 0);
        for (size_t i = 0; i < r.threads_n; i++)
            if (strcmp(r.threads[i].name, "pinned") == 0 && r.threads[i].stack != 0)
                found = &r.threads[i];
        if (found == NULL)
            resident_fini(&r);
        usleep(1000);
    }
    cr_assert_not_null(found);
    cr_assert_eq(found->cpu, 0);
    cr_assert_str_eq(found->cpus, "0");
    if (r.numa)
        cr_assert_not_null(resident_map_at(&r, found->stack));
    resident_fini(&r);
    cr_assert_eq(write(pipes[1], "x", 1), 1);
    pthread_join(thread, NULL);
}

Test(resident, a_process_that_is_not_there)
{
    struct resident r;
    cr_assert_eq(resident_read("", 0x7ffffff0, &r), -ESRCH);
}

/* ---- made-up files: several nodes, huge pages, a ring ---- */

static void file_write(const char *root, const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    cr_assert_not_null(f);
    fputs(text, f);
    fclose(f);
}

Test(resident, two_nodes)
{
    char root[] = "/tmp/penstock-resident-XXXXXX", command[128];
    struct resident r;
    cr_assert_not_null(mkdtemp(root));
    file_write(root, "/sys/devices/system/cpu/cpu2/node1/x", "");
    file_write(root, "/proc/7/task/7/comm", "penstock\n");
    file_write(root, "/proc/7/task/7/status", "Cpus_allowed_list:\t0-3\n");
    file_write(root, "/proc/7/task/9/comm", "shard-0\n");
    file_write(root, "/proc/7/task/9/status", "Name:\tx\nCpus_allowed_list:\t2\n");
    file_write(root, "/proc/7/task/9/syscall",
               "426 0x0 0x1 0x1 0x19 0x0 0x18 0x7f0000001100 0x1\n");
    file_write(root, "/proc/7/numa_maps",
               "7f0000000000 prefer:1 anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=4\n"
               "7f0000010000 default file=anon_inode:[io_uring] dirty=1 N1=16 kernelpagesize_kB=4\n"
               "7f0000200000 bind:0 file=/anon_hugepage\\040(deleted) huge anon=2 dirty=2 N0=2 "
               "kernelpagesize_kB=2048\n"
               "7f0000600000 prefer (many):0-1 anon=1 N0=1 kernelpagesize_kB=4\n"
               "7f0000700000 default file=/lib/libc.so.6 mapped=9 N0=9 kernelpagesize_kB=4\n");
    file_write(root, "/proc/7/maps",
               "7f0000000000-7f0000010000 rw-p 00000000 00:00 0\n"
               "7f0000010000-7f0000020000 rw-s 00000000 00:10 7 anon_inode:[io_uring]\n"
               "7f0000200000-7f0000600000 rw-p 00000000 00:00 0\n");
    cr_assert_eq(resident_read(root, 7, &r), 0);
    cr_assert_eq(r.threads_n, 2);
    cr_assert_eq(r.threads[0].cpu, -1);
    cr_assert_eq(r.threads[1].cpu, 2);
    cr_assert_eq(r.threads[1].node, 1);
    const struct resident_map *m = resident_map_at(&r, r.threads[1].stack);
    cr_assert_eq(m, &r.maps[0]);
    cr_assert_eq(m->node, 1);
    cr_assert_eq(m->kib[0], 4);
    cr_assert_eq(m->kib[1], 8);
    cr_assert_eq(r.maps_n, 5);
    cr_assert_eq(r.maps[1].kind, RESIDENT_RING);
    cr_assert_eq(r.maps[2].node, 0);
    cr_assert_eq(r.maps[2].kib[0], 4096);
    cr_assert_not(r.maps[2].file);
    cr_assert_eq(r.maps[3].node, -1);
    cr_assert(r.maps[4].file);
    cr_assert_null(resident_map_at(&r, 0x7f0000600000)); /* it has no end */
    resident_fini(&r);
    snprintf(command, sizeof(command), "rm -r %s", root);
    cr_assert_eq(system(command), 0);
}
