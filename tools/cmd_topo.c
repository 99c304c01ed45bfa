#include "tools/cmd_topo.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/bytes.h"
#include "numa/mem.h"
#include "numa/placement.h"
#include "numa/topo.h"
#include "numa/topo_render.h"
#include "tools/options.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "usage: penstock topo [--json | --svg] [--shards N] [--memory SIZE] [--cpus LIST]\n"
    "                     [--synthetic DESC | --xml FILE]\n"
    "Show the machine and where penstock would put its shards.\n"
    "  --json            as one JSON object\n"
    "  --svg             as a picture\n"
    "  --shards N        N shards instead of one per allowed core\n"
    "  --memory SIZE     memory of all shards together: 512m, 8g (default: a quarter of what may\n"
    "                    be used, at most 256 MiB a shard)\n"
    "  --cpus LIST       use only these CPUs: 0-3,8\n"
    "  --synthetic DESC  another machine, in hwloc's words: \"pack:2 numa:1 l3:1 core:16 pu:2\"\n"
    "  --xml FILE        another machine, recorded there with `lstopo FILE.xml`\n"
    "  --help            this text\n";

struct topo_options {
    int (*render)(const struct topo *topo, const struct placement *placement, FILE *out);
    struct placement_settings settings;
    const char *cpus, *synthetic, *xml;
    bool help;
};

static int bad_value(const char *option, const char *value)
{
    fprintf(stderr, "penstock topo: bad value for --%s: %s\n", option, value);
    return EXIT_USAGE;
}

static int parse_options(int argc, char **argv, struct topo_options *ret)
{
    static const struct option known[] = {
        {"json", no_argument, NULL, 'j'},
        {"svg", no_argument, NULL, 'v'},
        {"shards", required_argument, NULL, 's'},
        {"memory", required_argument, NULL, 'm'},
        {"cpus", required_argument, NULL, 'c'},
        {"synthetic", required_argument, NULL, 'y'},
        {"xml", required_argument, NULL, 'x'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    optind = 0; /* start over: the command's own options were parsed before */
    while ((c = getopt_long(argc, argv, "+", known, NULL)) != -1) {
        if (c == 'j')
            ret->render = topo_json;
        else if (c == 'v')
            ret->render = topo_svg;
        else if (c == 's' && option_count(optarg, PLACEMENT_SHARDS_MAX, &ret->settings.shards) < 0)
            return bad_value("shards", optarg);
        else if (c == 'm' && option_size(optarg, &ret->settings.memory_bytes) < 0)
            return bad_value("memory", optarg);
        else if (c == 'c')
            ret->cpus = optarg;
        else if (c == 'y')
            ret->synthetic = optarg;
        else if (c == 'x')
            ret->xml = optarg;
        else if (c == 'h')
            ret->help = true;
        else if (c == '?')
            return EXIT_USAGE; /* getopt has said what */
    }
    if (optind < argc) {
        fprintf(stderr, "penstock topo: unexpected argument: %s\n", argv[optind]);
        return EXIT_USAGE;
    }
    if (ret->synthetic != NULL && ret->xml != NULL) {
        fputs("penstock topo: --synthetic and --xml exclude each other\n", stderr);
        return EXIT_USAGE;
    }
    return 0;
}

static int load_topo(const struct topo_options *options, struct topo **ret)
{
    int rc;
    if (options->synthetic != NULL)
        rc = topo_from_synthetic(options->synthetic, ret);
    else if (options->xml != NULL)
        rc = topo_from_xml(options->xml, ret);
    else
        rc = topo_discover(ret);
    if (rc == 0)
        return 0;
    const char *what = options->synthetic != NULL ? options->synthetic
                       : options->xml != NULL     ? options->xml
                                                  : "this machine";
    fprintf(stderr, "penstock topo: cannot read the topology of %s: %s\n", what, strerror(-rc));
    return EXIT_FAILURE;
}

static int restrict_topo(const char *cpus, struct topo *topo)
{
    int rc = cpus == NULL ? 0 : topo_restrict(topo, cpus);
    if (rc == 0)
        return 0;
    if (rc == -EINVAL)
        return bad_value("cpus", cpus);
    fprintf(stderr, "penstock topo: --cpus %s: %s\n", cpus,
            rc == -ENOENT  ? "names a CPU that the machine lacks"
            : rc == -EPERM ? "none of these CPUs may be used"
                           : strerror(-rc));
    return EXIT_FAILURE;
}

/* Only this machine has huge pages to look for. */
static uint64_t *find_huge_pages(const struct topo *topo)
{
    uint64_t *free_bytes = calloc(topo->n_nodes, sizeof(*free_bytes));
    for (size_t i = 0; free_bytes != NULL && topo->this_machine && i < topo->n_nodes; i++)
        free_bytes[i] = mem_huge_free_bytes((int)topo->nodes[i].os_index);
    return free_bytes;
}

static int show(struct topo_options *options, const struct topo *topo)
{
    struct placement placement;
    uint64_t *huge_free_bytes = find_huge_pages(topo);
    options->settings.huge_free_bytes = huge_free_bytes;
    int rc = placement_compute(topo, &options->settings, &placement);
    free(huge_free_bytes);
    if (rc < 0) {
        fprintf(stderr, "penstock topo: %s\n", placement.reason);
        return EXIT_FAILURE;
    }
    rc = options->render(topo, &placement, stdout);
    if (rc == 0 && fflush(stdout) != 0)
        rc = -errno;
    placement_fini(&placement);
    if (rc < 0)
        fprintf(stderr, "penstock topo: cannot write: %s\n", strerror(-rc));
    return rc < 0 ? EXIT_FAILURE : 0;
}

int cmd_topo(int argc, char **argv)
{
    struct topo_options options = {.render = topo_text};
    struct topo *topo;
    int code = parse_options(argc, argv, &options);
    if (code != 0)
        return code;
    if (options.help) {
        fputs(usage, stdout);
        return 0;
    }
    code = load_topo(&options, &topo);
    if (code != 0)
        return code;
    code = restrict_topo(options.cpus, topo);
    if (code == 0)
        code = show(&options, topo);
    topo_destroy(topo);
    return code;
}
