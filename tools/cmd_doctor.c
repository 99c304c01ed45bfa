#include "tools/cmd_doctor.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "numa/placement.h"
#include "numa/topo.h"
#include "tools/doctor.h"
#include "tools/doctor_tune.h"
#include "tools/options.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "usage: penstock doctor [--data DIR[,DIR]...] [--journal DIR] [--json] [MACHINE]\n"
    "       penstock doctor --apply [--yes] [--data DIR...] [--state FILE] [MACHINE]\n"
    "       penstock doctor --undo [--yes] [--state FILE]\n"
    "       penstock doctor --pid PID [--json]\n"
    "Check the kernel, the limits, the disks and the settings that `penstock serve` would meet.\n"
    "  --data DIR     a data directory, or several, that need not exist yet (default: ./data)\n"
    "  --journal DIR  the journal's directory, if it is another one\n"
    "  --json         as one JSON object\n"
    "  --apply        make the settings that can be made from here: says what it would write;\n"
    "                 with --yes it does so, and keeps the old values\n"
    "  --undo         put the old values back, in the same way\n"
    "  --state FILE   where the old values are kept (default: /run/penstock-doctor.state)\n"
    "  --pid PID      a broker that runs: are its threads, memory, stacks and rings on their "
    "nodes?\n"
    "  --root DIR     read and write below DIR instead of /proc, /sys and /run (for tests)\n"
    "  --help         this text\n"
    "MACHINE, as serve would be told: --shards N, --memory SIZE, --cpus LIST\n"
    "Exit code: 0 if serve can run here, all was done, all is in its place; 1 if not; 2 for a\n"
    "wrong option.\n";

enum job { JOB_LOOK, JOB_APPLY, JOB_UNDO, JOB_WHERE };

struct options {
    enum job job;
    bool json, help, yes, data;
    const char *root, *state, *cpus;
    unsigned pid;
    struct placement_settings placement;
};

/* ---- options ---- */

static int bad_value(const char *option, const char *value)
{
    fprintf(stderr, "penstock doctor: bad value for --%s: %s\n", option, value);
    return EXIT_USAGE;
}

/* 0, or -EINVAL for a bad value. */
static int option_take(int c, struct options *o, struct doctor_report *r)
{
    switch (c) {
    case 'd':
        o->data = true;
        return doctor_dirs_add(r, "data", optarg);
    case 'j':
        return doctor_dirs_add(r, "journal", optarg);
    case 's':
        return option_count(optarg, PLACEMENT_SHARDS_MAX, &o->placement.shards);
    case 'm':
        return option_size(optarg, &o->placement.memory_bytes);
    case 'p':
        o->job = JOB_WHERE;
        return option_count(optarg, INT_MAX, &o->pid);
    case 'c':
        o->cpus = optarg;
        return 0;
    case 'S':
        o->state = optarg;
        return 0;
    case 'R':
        o->root = optarg;
        return 0;
    default:
        return 0;
    }
}

static void flag_take(int c, struct options *o)
{
    o->help |= c == 'h';
    o->json |= c == 'J';
    o->yes |= c == 'y';
    if (c == 'a')
        o->job = JOB_APPLY;
    if (c == 'u')
        o->job = JOB_UNDO;
}

static int options_parse(int argc, char **argv, struct options *o, struct doctor_report *r)
{
    static const struct option known[] = {
        {"data", required_argument, NULL, 'd'},   {"journal", required_argument, NULL, 'j'},
        {"json", no_argument, NULL, 'J'},         {"apply", no_argument, NULL, 'a'},
        {"undo", no_argument, NULL, 'u'},         {"yes", no_argument, NULL, 'y'},
        {"state", required_argument, NULL, 'S'},  {"pid", required_argument, NULL, 'p'},
        {"root", required_argument, NULL, 'R'},   {"shards", required_argument, NULL, 's'},
        {"memory", required_argument, NULL, 'm'}, {"cpus", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    int c, index = 0;
    optind = 0; /* start over: the command's own options were parsed before */
    while ((c = getopt_long(argc, argv, "+", known, &index)) != -1) {
        if (c == '?')
            return EXIT_USAGE; /* getopt has said what */
        flag_take(c, o);
        if (option_take(c, o, r) < 0)
            return bad_value(known[index].name, optarg);
    }
    if (optind < argc) {
        fprintf(stderr, "penstock doctor: unexpected argument: %s\n", argv[optind]);
        return EXIT_USAGE;
    }
    return o->data || doctor_dirs_add(r, "data", "data") == 0 ? 0 : EXIT_USAGE;
}

/* ---- the machine, and where serve would put its shards ---- */

struct machine {
    struct topo *topo;
    struct placement placement;
    char disks[DOCTOR_DIRS_MAX][64];
    size_t disks_n;
};

static int machine_open(const struct options *o, struct machine *m)
{
    int rc = topo_discover(&m->topo);
    if (rc < 0)
        return rc;
    rc = o->cpus == NULL ? 0 : topo_restrict(m->topo, o->cpus);
    if (rc == 0)
        rc = placement_compute(m->topo, &o->placement, &m->placement);
    if (rc < 0) {
        topo_destroy(m->topo);
        m->topo = NULL;
    }
    return rc;
}

static void machine_close(struct machine *m)
{
    if (m->topo == NULL)
        return;
    placement_fini(&m->placement);
    topo_destroy(m->topo);
}

static void disks_find(const struct doctor_report *r, struct machine *m)
{
    for (unsigned i = 0; i < r->dirs_n; i++) {
        const char *name = r->dirs[i].device.name;
        bool known = name[0] == '\0';
        for (size_t k = 0; k < m->disks_n && !known; k++)
            known = strcmp(m->disks[k], name) == 0;
        if (!known)
            snprintf(m->disks[m->disks_n++], sizeof(m->disks[0]), "%s", name);
    }
}

static int tune_find(const struct options *o, const struct doctor_report *r, struct machine *m,
                     struct tune *ret)
{
    int rc = machine_open(o, m);
    if (rc < 0)
        return rc;
    disks_find(r, m);
    struct tune_machine machine = {.root = o->root,
                                   .topo = m->topo,
                                   .placement = &m->placement,
                                   .disks = m->disks,
                                   .disks_n = m->disks_n};
    return tune_look(&machine, ret);
}

/* ---- the jobs ---- */

static int look_and_maybe_apply(const struct options *o, struct doctor_report *r)
{
    struct machine m = {0};
    struct tune tune = {0};
    doctor_look(r);
    int rc = tune_find(o, r, &m, &tune), code = 0;
    if (rc == 0)
        r->tune = &tune;
    if (o->job == JOB_APPLY && rc == 0) {
        code = tune_apply(&tune, o->root, o->state, !o->yes, stdout);
    } else if (o->job == JOB_APPLY) {
        fprintf(stderr, "penstock doctor: %s\n",
                m.placement.reason[0] != '\0' ? m.placement.reason : strerror(-rc));
        code = EXIT_FAILURE;
    } else {
        (o->json ? doctor_json : doctor_text)(r);
        code = r->errors.n == 0 ? 0 : EXIT_FAILURE;
    }
    tune_fini(&tune);
    machine_close(&m);
    return code;
}

int cmd_doctor(int argc, char **argv)
{
    static struct doctor_report r; /* big; one call a process, but for tests */
    char state[PATH_MAX];
    struct options o = {.root = ""};
    r = (struct doctor_report){0};
    int code = options_parse(argc, argv, &o, &r);
    if (code != 0)
        return code;
    if (o.help) {
        fputs(usage, stdout);
        return 0;
    }
    snprintf(state, sizeof(state), "%s/run/penstock-doctor.state", o.root);
    if (o.state == NULL)
        o.state = state;
    if (o.job == JOB_WHERE)
        return doctor_where(o.root, (int)o.pid, o.json);
    if (o.job == JOB_UNDO)
        return tune_undo(o.root, o.state, !o.yes, stdout);
    return look_and_maybe_apply(&o, &r);
}
