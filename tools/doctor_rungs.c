/* The settings of the system that doctor knows: one look() each, in the table at the end. A look
 * leaves its rung TUNE_ABSENT, with a reason, where the machine has no such thing. */
#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tools/doctor_tune.h"

enum { HUGE_BYTES = 2 << 20, CPUS_MAX = 1024, QUEUES_MAX = 1024, FLOW_ENTRIES = 32768 };

#define HALT_POLL_NS "200000" /* the kernel's own default */

/* ---- what they share ---- */

static void reason_set(struct tune_rung *rung, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void reason_set(struct tune_rung *rung, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(rung->reason, sizeof(rung->reason), format, args);
    va_end(args);
}

/* looked: how many settings there were to look at; none leaves the reason of the first failure. */
static void conclude(struct tune_rung *rung, size_t looked, const char *on_reason)
{
    if (looked == 0)
        return;
    rung->state = rung->settings_n == 0 ? TUNE_ON : TUNE_OFF;
    if (rung->settings_n == 0)
        reason_set(rung, "%s", on_reason);
    else
        reason_set(rung, "%s is %s, %s is better", rung->settings[0].path, rung->settings[0].now,
                   rung->settings[0].want);
}

static bool exists(const struct tune_machine *m, const char *path)
{
    char full[PATH_MAX];
    snprintf(full, sizeof(full), "%s%s", m->root, path);
    return access(full, F_OK) == 0;
}

/* The shards' CPUs, those near the device first. */
static unsigned cpus_by_distance(const struct tune_machine *m, const struct topo_locality *near,
                                 unsigned ret[CPUS_MAX])
{
    unsigned n = 0;
    for (int far = 0; far < 2; far++)
        for (size_t i = 0; i < m->placement->n_shards && n < CPUS_MAX; i++) {
            const struct placement_shard *s = &m->placement->shards[i];
            if (!s->shared && placement_is_near(m->topo, s->core, near) == (far == 0))
                ret[n++] = s->pu_os_index;
        }
    return n;
}

/* ---- memory ---- */

static uint64_t node_bytes(const struct tune_machine *m, unsigned node_os_index)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->placement->n_shards; i++)
        if (m->placement->shards[i].node_os_index == node_os_index)
            bytes += m->placement->shards[i].memory_bytes;
    return bytes;
}

static void huge_look(const struct tune_machine *m, struct tune_rung *rung)
{
    size_t looked = 0;
    for (size_t i = 0; i < m->topo->n_nodes; i++) {
        char path[TUNE_PATH_BYTES], now[TUNE_VALUE_BYTES], want[TUNE_VALUE_BYTES];
        unsigned node = m->topo->nodes[i].os_index;
        uint64_t pages = (node_bytes(m, node) + HUGE_BYTES - 1) / HUGE_BYTES;
        snprintf(path, sizeof(path),
                 "/sys/devices/system/node/node%u/hugepages/hugepages-2048kB/nr_hugepages", node);
        if (pages == 0)
            continue;
        bool enough = tune_value_read(m->root, path, now) == 0 && strtoull(now, NULL, 10) >= pages;
        snprintf(want, sizeof(want), "%llu", (unsigned long long)pages);
        looked += enough || tune_want(m, rung, want, "%s", path) >= 0;
    }
    conclude(rung, looked, "enough are reserved for the shards' memory");
}

static void thp_look(const struct tune_machine *m, struct tune_rung *rung)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
    char now[TUNE_VALUE_BYTES];
    bool read = tune_value_read(m->root, path, now) == 0;
    if (read && strcmp(now, "always") == 0)
        conclude(rung, 1, "always");
    else
        conclude(rung, tune_want(m, rung, "madvise", "%s", path) >= 0, "madvise: where asked for");
}

static void balancing_look(const struct tune_machine *m, struct tune_rung *rung)
{
    if (m->topo->n_nodes < 2)
        reason_set(rung, "there is one NUMA node");
    else
        conclude(rung, tune_want(m, rung, "0", "/proc/sys/kernel/numa_balancing") >= 0,
                 "memory stays where it was put");
}

/* ---- network cards ---- */

/* "virtio1-input.0", "eth0-TxRx-3", "mlx5_comp7@pci:0000:41:00.0": the queue's number; -1: none. */
static int queue_of_action(const char *action, const char *nic)
{
    size_t nic_len = strlen(nic), len = strcspn(action, "@,");
    size_t from = strncmp(action, nic, nic_len) == 0 ? nic_len : 0, digits = len;
    while (digits > from && action[digits - 1] >= '0' && action[digits - 1] <= '9')
        digits--;
    int queue = digits == len ? -1 : atoi(action + digits);
    return queue < QUEUES_MAX ? queue : -1;
}

/* The interrupts are the PCI device's: a virtio device is one below it. */
static DIR *interrupts_open(const struct tune_machine *m, const char *nic)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/sys/class/net/%s/device/msi_irqs", m->root, nic);
    DIR *dir = opendir(path);
    if (dir != NULL)
        return dir;
    snprintf(path, sizeof(path), "%s/sys/class/net/%s/device/../msi_irqs", m->root, nic);
    return opendir(path);
}

/* Queue q interrupts the CPU of the q-th shard, counted from the nearest. */
static size_t nic_interrupts(const struct tune_machine *m, const struct topo_nic *nic,
                             struct tune_rung *rung)
{
    unsigned cpus[CPUS_MAX], cpus_n = cpus_by_distance(m, &nic->near, cpus);
    DIR *dir = cpus_n == 0 ? NULL : interrupts_open(m, nic->name);
    size_t looked = 0;
    if (dir == NULL)
        return 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[TUNE_PATH_BYTES], action[TUNE_VALUE_BYTES], want[TUNE_VALUE_BYTES];
        int irq = atoi(entry->d_name);
        snprintf(path, sizeof(path), "/sys/kernel/irq/%d/actions", irq);
        if (irq <= 0 || tune_value_read(m->root, path, action) < 0)
            continue;
        int queue = queue_of_action(action, nic->name);
        if (queue < 0)
            continue;
        snprintf(want, sizeof(want), "%u", cpus[(unsigned)queue % cpus_n]);
        looked += tune_want(m, rung, want, "/proc/irq/%d/smp_affinity_list", irq) >= 0;
    }
    closedir(dir);
    return looked;
}

static void interrupts_look(const struct tune_machine *m, struct tune_rung *rung)
{
    size_t looked = 0;
    for (size_t i = 0; i < m->topo->n_nics; i++)
        looked += nic_interrupts(m, &m->topo->nics[i], rung);
    if (looked == 0 && rung->reason[0] == '\0')
        reason_set(rung, "no network card here has interrupts for its queues");
    conclude(rung, looked, "each queue's is on a shard's CPU, the nearest first");
    if (rung->state != TUNE_ABSENT && exists(m, "/run/irqbalance"))
        reason_set(rung,
                   "irqbalance runs and moves them about: systemctl disable --now irqbalance");
}

static unsigned queues_count(const struct tune_machine *m, const char *nic, const char *direction)
{
    unsigned n = 0;
    for (; n < QUEUES_MAX; n++) {
        char path[TUNE_PATH_BYTES];
        snprintf(path, sizeof(path), "/sys/class/net/%s/queues/%s-%u", nic, direction, n);
        if (!exists(m, path))
            break;
    }
    return n;
}

/* As the kernel writes masks: words of 32 bits in hexadecimal, the highest first. */
static void mask_text(const uint32_t words[CPUS_MAX / 32], char ret[TUNE_VALUE_BYTES])
{
    int at = CPUS_MAX / 32 - 1;
    while (at > 0 && words[at] == 0)
        at--;
    size_t len = (size_t)snprintf(ret, TUNE_VALUE_BYTES, "%x", words[at]);
    while (at-- > 0 && len + 10 < TUNE_VALUE_BYTES)
        len += (size_t)snprintf(ret + len, TUNE_VALUE_BYTES - len, ",%08x", words[at]);
}

/* The same order as the interrupts': a queue is sent to, and interrupts, the same shard. */
static size_t nic_transmit(const struct tune_machine *m, const struct topo_nic *nic,
                           struct tune_rung *rung)
{
    unsigned cpus[CPUS_MAX], cpus_n = cpus_by_distance(m, &nic->near, cpus);
    unsigned queues = queues_count(m, nic->name, "tx");
    size_t looked = 0;
    for (unsigned q = 0; queues > 1 && q < queues && q < cpus_n; q++) {
        uint32_t words[CPUS_MAX / 32] = {0};
        char want[TUNE_VALUE_BYTES];
        for (unsigned i = q; i < cpus_n; i += queues)
            if (cpus[i] < CPUS_MAX)
                words[cpus[i] / 32] |= UINT32_C(1) << (cpus[i] % 32);
        mask_text(words, want);
        looked +=
            tune_want(m, rung, want, "/sys/class/net/%s/queues/tx-%u/xps_cpus", nic->name, q) >= 0;
    }
    return looked;
}

static void transmit_look(const struct tune_machine *m, struct tune_rung *rung)
{
    size_t looked = 0;
    for (size_t i = 0; i < m->topo->n_nics; i++)
        looked += nic_transmit(m, &m->topo->nics[i], rung);
    if (looked == 0 && rung->reason[0] == '\0')
        reason_set(rung, "no network card here has several transmit queues");
    conclude(rung, looked, "each shard has a queue");
}

static void steering_look(const struct tune_machine *m, struct tune_rung *rung)
{
    size_t looked = 0;
    char want[TUNE_VALUE_BYTES];
    for (size_t i = 0; i < m->topo->n_nics && m->placement->n_shards > 1; i++) {
        const char *nic = m->topo->nics[i].name;
        unsigned queues = queues_count(m, nic, "rx");
        for (unsigned q = 0; q < queues; q++) {
            snprintf(want, sizeof(want), "%u", (unsigned)FLOW_ENTRIES / queues);
            looked += tune_want(m, rung, want, "/sys/class/net/%s/queues/rx-%u/rps_flow_cnt", nic,
                                q) >= 0;
        }
    }
    snprintf(want, sizeof(want), "%u", (unsigned)FLOW_ENTRIES);
    if (looked > 0)
        tune_want(m, rung, want, "/proc/sys/net/core/rps_sock_flow_entries");
    else if (rung->reason[0] == '\0')
        reason_set(rung, "there is no network card, or one shard");
    conclude(rung, looked, "packets go to the CPU of the shard that has the connection");
}

/* ---- disks and processors ---- */

static bool is_rotational(const struct tune_machine *m, const char *disk)
{
    char path[TUNE_PATH_BYTES], value[TUNE_VALUE_BYTES];
    snprintf(path, sizeof(path), "/sys/block/%s/queue/rotational", disk);
    return tune_value_read(m->root, path, value) == 0 && strcmp(value, "1") == 0;
}

static void scheduler_look(const struct tune_machine *m, struct tune_rung *rung)
{
    size_t looked = 0;
    for (size_t i = 0; i < m->disks_n; i++)
        if (!is_rotational(m, m->disks[i]))
            looked += tune_want(m, rung, "none", "/sys/block/%s/queue/scheduler", m->disks[i]) >= 0;
    if (looked == 0 && rung->reason[0] == '\0')
        reason_set(rung, "no disk of ours that is known to have no seeks");
    conclude(rung, looked, "none: requests go straight to the disk");
}

static void completions_look(const struct tune_machine *m, struct tune_rung *rung)
{
    size_t looked = 0;
    for (size_t i = 0; i < m->disks_n; i++)
        looked += tune_want(m, rung, "2", "/sys/block/%s/queue/rq_affinity", m->disks[i]) >= 0;
    if (looked == 0 && rung->reason[0] == '\0')
        reason_set(rung, "no disk of ours is known");
    conclude(rung, looked, "they are handled on the CPU that asked");
}

/* Not to be changed while the driver is in use: named only. */
static void poll_queues_look(const struct tune_machine *m, struct tune_rung *rung)
{
    reason_set(rung, "no disk of ours is an NVMe device");
    for (size_t i = 0; i < m->disks_n; i++) {
        char path[TUNE_PATH_BYTES], value[TUNE_VALUE_BYTES];
        snprintf(path, sizeof(path), "/sys/block/%s/queue/io_poll", m->disks[i]);
        if (strncmp(m->disks[i], "nvme", 4) != 0 || tune_value_read(m->root, path, value) < 0)
            continue;
        rung->state = strcmp(value, "1") == 0 ? TUNE_ON : TUNE_OFF;
        reason_set(rung, rung->state == TUNE_ON ? "%s has them" : "%s has none", m->disks[i]);
        snprintf(rung->how, sizeof(rung->how),
                 "kernel command line: nvme.poll_queues=%zu, or for the module: echo options nvme "
                 "poll_queues=%zu > /etc/modprobe.d/nvme.conf; then restart",
                 m->placement->n_shards, m->placement->n_shards);
        if (rung->state == TUNE_OFF)
            return;
    }
}

static void governor_look(const struct tune_machine *m, struct tune_rung *rung)
{
    size_t looked = 0;
    for (size_t i = 0; i < m->placement->n_shards; i++)
        looked += tune_want(m, rung, "performance",
                            "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor",
                            m->placement->shards[i].pu_os_index) >= 0;
    if (looked == 0)
        reason_set(rung, "the frequency of the shards' CPUs cannot be governed from here");
    conclude(rung, looked, "performance");
}

/* In a virtual machine a halted CPU is woken by the host, which takes some 40 us: twice in a
 * request, and again for each answer of the disk. */
static void halt_poll_look(const struct tune_machine *m, struct tune_rung *rung)
{
    static const char path[] = "/sys/module/haltpoll/parameters/guest_halt_poll_ns";
    char governor[TUNE_VALUE_BYTES], now[TUNE_VALUE_BYTES];
    if (tune_value_read(m->root, "/sys/devices/system/cpu/cpuidle/current_governor", governor) <
            0 ||
        strcmp(governor, "haltpoll") != 0) {
        reason_set(rung,
                   "idle CPUs are not governed by haltpoll, as those of virtual machines are");
        return;
    }
    bool enough = tune_value_read(m->root, path, now) == 0 &&
                  strtoull(now, NULL, 10) >= strtoull(HALT_POLL_NS, NULL, 10);
    conclude(rung, enough || tune_want(m, rung, HALT_POLL_NS, "%s", path) >= 0,
             "it looks for work before it halts");
}

const struct tune_kind tune_kinds[] = {
    {"huge pages reserved on the shards' nodes",
     "a shard's memory is in 2 MiB pages from the start, never split: fewer misses in the TLB",
     huge_look},
    {"transparent huge pages", "the same for what is not reserved, as far as there are some",
     thp_look},
    {"no automatic NUMA balancing",
     "the kernel does not unmap pages again and again to see who uses them", balancing_look},
    {"network interrupts on the shards' CPUs",
     "a packet is handled next to the shard that takes it, and no other CPU is disturbed",
     interrupts_look},
    {"a transmit queue for each shard", "shards do not wait for each other's queue locks",
     transmit_look},
    {"receive flow steering", "a packet is handled on the CPU of the shard that has its connection",
     steering_look},
    {"no I/O scheduler before disks without seeks", "less work, and no lock, for each request",
     scheduler_look},
    {"disk completions on the CPU that asked", "a completion finds the shard's caches warm",
     completions_look},
    {"NVMe poll queues",
     "a shard that polls reads without an interrupt (busy.poll.us, then IOPOLL rings)",
     poll_queues_look},
    {"full clock of the shards' CPUs", "no ramp up after each sleep: lower latency at low load",
     governor_look},
    {"an idle CPU of a virtual machine looks for work before it halts",
     "each wake-up by the host takes some 40 us: less latency, and less CPU of the shard; the "
     "host's "
     "CPU is in use up to 0.2 ms longer each time",
     halt_poll_look},
};
const size_t tune_kinds_n = ARRAY_LEN(tune_kinds);
