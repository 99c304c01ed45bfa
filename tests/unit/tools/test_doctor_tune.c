/* Settings on a made-up /sys and /proc of plain files: two nodes, a card with two pairs of queues
 * near the second one, an SSD. */
#include "tools/doctor_tune.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"

static const char *const files[][2] = {
    {"/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "0"},
    {"/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "4"},
    {"/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]"},
    {"/proc/sys/kernel/numa_balancing", "1"},
    {"/sys/class/net/eth0/device/msi_irqs/33", "msix"},
    {"/sys/class/net/eth0/device/msi_irqs/34", "msix"},
    {"/sys/class/net/eth0/device/msi_irqs/35", "msix"},
    {"/sys/kernel/irq/33/actions", "eth0-config"},
    {"/sys/kernel/irq/34/actions", "eth0-TxRx-0"},
    {"/sys/kernel/irq/35/actions", "eth0-TxRx-1"},
    {"/proc/irq/33/smp_affinity_list", "0-3"},
    {"/proc/irq/34/smp_affinity_list", "0,2"},
    {"/proc/irq/35/smp_affinity_list", "3"},
    {"/sys/class/net/eth0/queues/tx-0/xps_cpus", "00000000,00000005"},
    {"/sys/class/net/eth0/queues/tx-1/xps_cpus", "2"},
    {"/sys/class/net/eth0/queues/rx-0/rps_flow_cnt", "16384"},
    {"/sys/class/net/eth0/queues/rx-1/rps_flow_cnt", "0"},
    {"/proc/sys/net/core/rps_sock_flow_entries", "0"},
    {"/sys/block/nvme0n1/queue/rotational", "0"},
    {"/sys/block/nvme0n1/queue/scheduler", "[mq-deadline] kyber none"},
    {"/sys/block/nvme0n1/queue/rq_affinity", "1"},
    {"/sys/block/nvme0n1/queue/io_poll", "0"},
    {"/sys/devices/system/cpu/cpuidle/current_governor", "haltpoll"},
    {"/sys/module/haltpoll/parameters/guest_halt_poll_ns", "0"},
};

struct rig {
    char root[64], state[96];
    struct topo *topo;
    struct topo_nic nic;
    struct placement placement;
    char disks[1][64];
    struct tune_machine machine;
    char *said;
    size_t said_len;
};

static void full_path(const struct rig *r, const char *path, char ret[PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%s%s", r->root, path);
}

static void file_write(const struct rig *r, const char *path, const char *value)
{
    char full[PATH_MAX];
    full_path(r, path, full);
    for (char *slash = full + strlen(r->root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    cr_assert_not_null(f, "%s", full);
    fprintf(f, "%s\n", value);
    fclose(f);
}

static void file_is(const struct rig *r, const char *path, const char *value)
{
    char full[PATH_MAX], line[256] = "";
    full_path(r, path, full);
    FILE *f = fopen(full, "r");
    cr_assert_not_null(f, "%s", full);
    cr_assert_not_null(fgets(line, sizeof(line), f));
    fclose(f);
    line[strcspn(line, "\n")] = '\0';
    cr_assert_str_eq(line, value, "%s is %s, not %s", path, line, value);
}

static void rig_open(struct rig *r)
{
    *r = (struct rig){.root = "/tmp/penstock-doctor-XXXXXX", .disks = {"nvme0n1"}};
    cr_assert_not_null(mkdtemp(r->root));
    snprintf(r->state, sizeof(r->state), "%s/state", r->root);
    for (unsigned i = 0; i < ARRAY_LEN(files); i++)
        file_write(r, files[i][0], files[i][1]);
    cr_assert_eq(topo_from_synthetic("pack:2 [numa(memory=1GiB)] core:2 pu:1", &r->topo), 0);
    r->nic = (struct topo_nic){.name = "eth0", .near = {.node = 1, .package = 1}};
    r->topo->nics = &r->nic;
    r->topo->n_nics = 1;
    struct placement_settings settings = {.memory_bytes = UINT64_C(64) << 20};
    cr_assert_eq(placement_compute(r->topo, &settings, &r->placement), 0);
    r->machine = (struct tune_machine){.root = r->root,
                                       .topo = r->topo,
                                       .placement = &r->placement,
                                       .disks = r->disks,
                                       .disks_n = 1};
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void rig_close(struct rig *r)
{
    nftw(r->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    placement_fini(&r->placement);
    r->topo->nics = NULL;
    r->topo->n_nics = 0;
    topo_destroy(r->topo);
    free(r->said);
}

static int apply(struct rig *r, bool dry)
{
    struct tune tune;
    free(r->said);
    FILE *out = open_memstream(&r->said, &r->said_len);
    cr_assert_eq(tune_look(&r->machine, &tune), 0);
    int rc = tune_apply(&tune, r->root, r->state, dry, out);
    tune_fini(&tune);
    fclose(out);
    return rc;
}

static int undo(struct rig *r, bool dry)
{
    free(r->said);
    FILE *out = open_memstream(&r->said, &r->said_len);
    int rc = tune_undo(r->root, r->state, dry, out);
    fclose(out);
    return rc;
}

static const struct tune_rung *rung_of(const struct tune *tune, const char *part)
{
    for (size_t i = 0; i < tune->rungs_n; i++)
        if (strstr(tune->rungs[i].name, part) != NULL)
            return &tune->rungs[i];
    cr_assert_fail("no rung %s", part);
    return NULL;
}

static void all_are_as_before(const struct rig *r)
{
    for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
        const char *value = files[i][1];
        /* Only the kernel writes its choices with brackets. */
        if (strstr(files[i][0], "transparent") != NULL)
            value = "never";
        if (strstr(files[i][0], "scheduler") != NULL)
            value = "mq-deadline";
        file_is(r, files[i][0], value);
    }
}

Test(doctor_tune, rungs_say_what_is_on_and_off_and_not_here)
{
    struct rig r;
    struct tune tune;
    rig_open(&r);
    cr_assert_eq(tune_look(&r.machine, &tune), 0);
    cr_assert_eq(rung_of(&tune, "huge pages reserved")->settings_n, 2);
    cr_assert_str_eq(rung_of(&tune, "huge pages reserved")->settings[0].want, "16");
    cr_assert_eq(rung_of(&tune, "transparent")->state, TUNE_OFF);
    cr_assert_eq(rung_of(&tune, "interrupts")->settings_n, 1); /* of three: one has no queue */
    cr_assert_eq(rung_of(&tune, "poll queues")->state, TUNE_OFF);
    cr_assert_eq(rung_of(&tune, "poll queues")->settings_n, 0);
    cr_assert_not_null(strstr(rung_of(&tune, "poll queues")->how, "nvme.poll_queues=4"));
    cr_assert_eq(rung_of(&tune, "clock")->state, TUNE_ABSENT);
    cr_assert_eq(rung_of(&tune, "halts")->state, TUNE_OFF);
    tune_fini(&tune);
    rig_close(&r);
}

Test(doctor_tune, halting_is_a_matter_of_virtual_machines_and_longer_polls_are_left_alone)
{
    struct rig r;
    struct tune tune;
    rig_open(&r);
    file_write(&r, "/sys/module/haltpoll/parameters/guest_halt_poll_ns", "400000");
    cr_assert_eq(tune_look(&r.machine, &tune), 0);
    cr_assert_eq(rung_of(&tune, "halts")->state, TUNE_ON);
    tune_fini(&tune);
    file_write(&r, "/sys/devices/system/cpu/cpuidle/current_governor", "menu");
    cr_assert_eq(tune_look(&r.machine, &tune), 0);
    cr_assert_eq(rung_of(&tune, "halts")->state, TUNE_ABSENT);
    tune_fini(&tune);
    rig_close(&r);
}

Test(doctor_tune, dry_runs_write_nothing)
{
    struct rig r;
    rig_open(&r);
    cr_assert_eq(apply(&r, true), 0);
    cr_assert_not_null(strstr(r.said, "echo 0 > /proc/sys/kernel/numa_balancing    # now: 1\n"));
    cr_assert_neq(access(r.state, F_OK), 0);
    file_is(&r, "/proc/sys/kernel/numa_balancing", "1");
    cr_assert_eq(apply(&r, false), 0);
    cr_assert_eq(undo(&r, true), 0);
    file_is(&r, "/proc/sys/kernel/numa_balancing", "0");
    rig_close(&r);
}

Test(doctor_tune, what_is_applied_is_undone)
{
    struct rig r;
    rig_open(&r);
    cr_assert_eq(apply(&r, false), 0, "%s", r.said);
    file_is(&r, "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "16");
    file_is(&r, "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "16");
    file_is(&r, "/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
    file_is(&r, "/proc/irq/33/smp_affinity_list", "0-3");
    file_is(&r, "/proc/irq/34/smp_affinity_list", "2"); /* the card is near node 1 */
    file_is(&r, "/proc/irq/35/smp_affinity_list", "3");
    file_is(&r, "/sys/class/net/eth0/queues/tx-0/xps_cpus", "00000000,00000005"); /* as wanted */
    file_is(&r, "/sys/class/net/eth0/queues/tx-1/xps_cpus", "a");
    file_is(&r, "/sys/class/net/eth0/queues/rx-1/rps_flow_cnt", "16384");
    file_is(&r, "/sys/block/nvme0n1/queue/scheduler", "none");
    file_is(&r, "/sys/module/haltpoll/parameters/guest_halt_poll_ns", "200000");
    cr_assert_eq(apply(&r, false), 0);
    cr_assert_str_eq(r.said, "nothing to do: what can be set from here is set\n");
    cr_assert_eq(undo(&r, false), 0, "%s", r.said);
    all_are_as_before(&r);
    cr_assert_neq(access(r.state, F_OK), 0);
    cr_assert_eq(undo(&r, false), 0);
    rig_close(&r);
}

Test(doctor_tune, a_second_apply_keeps_the_first_ones_old_values)
{
    struct rig r;
    rig_open(&r);
    cr_assert_eq(apply(&r, false), 0);
    file_write(&r, "/proc/irq/34/smp_affinity_list", "0-1"); /* irqbalance, say */
    cr_assert_eq(apply(&r, false), 0);
    file_is(&r, "/proc/irq/34/smp_affinity_list", "2");
    cr_assert_eq(undo(&r, false), 0);
    all_are_as_before(&r);
    rig_close(&r);
}

Test(doctor_tune, what_others_have_changed_is_left_alone_and_named)
{
    struct rig r;
    rig_open(&r);
    cr_assert_eq(apply(&r, false), 0);
    file_write(&r, "/sys/block/nvme0n1/queue/scheduler", "mq-deadline [kyber] none");
    cr_assert_eq(undo(&r, false), 1);
    cr_assert_not_null(strstr(r.said, "/sys/block/nvme0n1/queue/scheduler is kyber now"));
    file_is(&r, "/sys/block/nvme0n1/queue/scheduler", "mq-deadline [kyber] none");
    file_is(&r, "/proc/sys/kernel/numa_balancing", "1");
    file_write(&r, "/sys/block/nvme0n1/queue/scheduler", "[none] kyber");
    cr_assert_eq(undo(&r, false), 0); /* it was kept in the state */
    all_are_as_before(&r);
    rig_close(&r);
}

Test(doctor_tune, a_setting_that_cannot_be_made_is_named_and_the_others_are_made)
{
    struct rig r;
    char full[PATH_MAX];
    rig_open(&r);
    struct tune tune;
    cr_assert_eq(tune_look(&r.machine, &tune), 0);
    full_path(&r, "/proc/irq/34/smp_affinity_list", full);
    cr_assert_eq(remove(full), 0);
    cr_assert_eq(mkdir(full, 0755), 0);
    FILE *out = open_memstream(&r.said, &r.said_len);
    cr_assert_eq(tune_apply(&tune, r.root, r.state, false, out), 1);
    fclose(out);
    tune_fini(&tune);
    cr_assert_not_null(strstr(r.said, "cannot write 2 to /proc/irq/34/smp_affinity_list"));
    file_is(&r, "/proc/irq/35/smp_affinity_list", "3");
    file_is(&r, "/proc/sys/kernel/numa_balancing", "0");
    rig_close(&r);
}

Test(doctor_tune, a_state_of_somebody_else_writes_nothing)
{
    static const char *const states[] = {
        "penstock doctor 1\n/etc/passwd\told\tnew\n",
        "penstock doctor 1\n/sys/../etc/passwd\told\tnew\n",
        "penstock doctor 1\n/proc/sys/kernel/numa_balancing\n",
        "/proc/sys/kernel/numa_balancing\t7\t1\n",
        "",
    };
    struct rig r;
    rig_open(&r);
    for (unsigned i = 0; i < ARRAY_LEN(states); i++) {
        FILE *f = fopen(r.state, "w");
        cr_assert_not_null(f);
        fputs(states[i], f);
        fclose(f);
        cr_assert_eq(undo(&r, false), 1);
        cr_assert_not_null(strstr(r.said, "not a state of doctor"), "%s", r.said);
    }
    file_is(&r, "/proc/sys/kernel/numa_balancing", "1");
    rig_close(&r);
}
