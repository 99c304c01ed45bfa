#include "tools/bench_egress.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/egress_cost.h"
#include "core/base/bytes.h"
#include "tools/egress_profile.h"

enum { USAGE_EXIT = 2 };

struct asked {
    struct egress_cost_config config;
    const char *save; /* NULL: is not saved */
    bool json;
    char host[256];
};

static void usage(FILE *out)
{
    fprintf(
        out,
        "usage: penstock bench egress [--dir DIR] [--seconds S] [--sink HOST:PORT] [--json] "
        "[--save FILE]\n"
        "CPU time of this process for each byte sent, by the way it takes out: copied by the\n"
        "kernel (send), not copied (send_zc), spliced from its file; from memory, from disk and\n"
        "from the page cache. Over loopback, or to a peer that receives and drops what comes.\n"
        "  --dir DIR         where the data of the broker is to be: a file of 64 MiB is made "
        "there (.)\n"
        "  --seconds S       of each of 30 figures (0.3)\n"
        "  --sink HOST:PORT  such a peer, e.g. `nc -lk PORT > /dev/null`\n"
        "  --save FILE       the limits that follow, for `serve`: %s in its first data\n"
        "                    directory, or the file that egress.profile names\n",
        EGRESS_PROFILE_NAME);
}

static bool sink_parse(struct asked *a, const char *text)
{
    const char *colon = strrchr(text, ':');
    char *end;
    unsigned long port = colon == NULL ? 0 : strtoul(colon + 1, &end, 10);
    if (colon == NULL || *end != '\0' || port == 0 || port > UINT16_MAX ||
        (size_t)(colon - text) >= sizeof(a->host))
        return false;
    memcpy(a->host, text, (size_t)(colon - text));
    a->config.sink_host = a->host;
    a->config.sink_port = (uint16_t)port;
    return true;
}

static bool seconds_parse(struct asked *a, const char *text)
{
    char *end;
    a->config.seconds_each = strtod(text, &end);
    return end != text && *end == '\0' && a->config.seconds_each >= 0.01 &&
           a->config.seconds_each <= 60;
}

/* 0, or the exit code. -1: help. */
static int options_read(int argc, char **argv, struct asked *a)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 's'},
        {"sink", required_argument, NULL, 'p'},
        {"json", no_argument, NULL, 'j'},
        {"save", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    *a = (struct asked){.config = {.dir = ".", .seconds_each = 0.3}};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool ok = c != '?';
        if (c == 'h')
            return -1;
        if (c == 'd')
            a->config.dir = optarg;
        if (c == 'o')
            a->save = optarg;
        a->json |= c == 'j';
        if (c == 's')
            ok = seconds_parse(a, optarg);
        if (c == 'p')
            ok = sink_parse(a, optarg);
        if (!ok)
            return USAGE_EXIT;
    }
    return optind == argc ? 0 : USAGE_EXIT;
}

static void table_print(const struct egress_cost *cost)
{
    printf("CPU ns/KiB sent, %s\n%-16s", cost->local ? "both ends here" : "to the peer", "");
    for (unsigned i = 0; i < EGRESS_SIZES; i++)
        printf("%7u KiB", egress_sizes[i] / 1024);
    for (unsigned way = 0; way < EGRESS_WAYS; way++) {
        printf("\n%-16s", egress_way_names[way]);
        for (unsigned i = 0; i < EGRESS_SIZES; i++)
            if (cost->ns_per_byte[way][i] < 0)
                printf("%11s", "-");
            else
                printf("%11.0f", cost->ns_per_byte[way][i] * 1024);
    }
    printf("\n");
}

static void limit_print(const char *way, uint32_t bytes)
{
    if (bytes == 0)
        printf("%s: never\n", way);
    else
        printf("%s: from %u KiB on\n", way, bytes / 1024);
}

static void json_print(const struct egress_cost *cost)
{
    printf("{\"local\": %s, \"copied\": %s, \"send_zc_min_bytes\": %u, \"splice_min_bytes\": %u, "
           "\"ns_per_byte\": {",
           cost->local ? "true" : "false", cost->copied ? "true" : "false",
           egress_cost_zc_bytes(cost), egress_cost_splice_bytes(cost));
    for (unsigned way = 0; way < EGRESS_WAYS; way++) {
        printf("%s\"%s\": {", way == 0 ? "" : ", ", egress_way_names[way]);
        const char *comma = "";
        for (unsigned i = 0; i < EGRESS_SIZES; i++)
            if (cost->ns_per_byte[way][i] >= 0) {
                printf("%s\"%u\": %.4f", comma, egress_sizes[i], cost->ns_per_byte[way][i]);
                comma = ", ";
            }
        printf("}");
    }
    printf("}}\n");
}

static int save(const struct asked *a, const struct egress_cost *cost)
{
    struct egress_limits limits[EGRESS_LINKS] = {0};
    struct egress_limits *mine = &limits[cost->local ? EGRESS_LOCAL : EGRESS_REMOTE];
    char reason[4096];
    int rc = egress_profile_read(a->save, limits, reason, sizeof(reason));
    if (rc == 0 || rc == -ENOENT) {
        uint32_t zc = egress_cost_zc_bytes(cost);
        *mine = (struct egress_limits){.zc_bytes = zc == 0 ? EGRESS_NEVER : zc,
                                       .splice_bytes = egress_cost_splice_bytes(cost)};
        rc = egress_profile_write(a->save, limits, reason, sizeof(reason));
    }
    if (rc < 0)
        fprintf(stderr, "penstock bench egress: %s\n", reason);
    return rc < 0 ? 1 : 0;
}

int bench_egress(int argc, char **argv)
{
    struct asked a;
    struct egress_cost cost;
    char reason[512];
    int rc = options_read(argc, argv, &a);
    if (rc != 0) {
        usage(rc < 0 ? stdout : stderr);
        return MAX(rc, 0);
    }
    if (egress_cost_measure(&a.config, &cost, reason, sizeof(reason)) < 0) {
        fprintf(stderr, "penstock bench egress: %s\n", reason);
        return 1;
    }
    if (a.json) {
        json_print(&cost);
    } else {
        table_print(&cost);
        if (cost.copied)
            printf("the kernel copies what is sent without a copy here\n");
        limit_print("send_zc pays", egress_cost_zc_bytes(&cost));
        limit_print("splice pays", egress_cost_splice_bytes(&cost));
    }
    return a.save == NULL ? 0 : save(&a, &cost);
}
