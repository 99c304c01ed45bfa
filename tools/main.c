/* main.c: the penstock command: finds the subcommand and runs it. */
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/cmd_bench.h"
#include "tools/cmd_config.h"
#include "tools/cmd_consume.h"
#include "tools/cmd_doctor.h"
#include "tools/cmd_group.h"
#include "tools/cmd_log.h"
#include "tools/cmd_produce.h"
#include "tools/cmd_serve.h"
#include "tools/cmd_top.h"
#include "tools/cmd_topic.h"
#include "tools/cmd_topo.h"
#include "tools/cmd_version.h"

#define EXIT_USAGE 2

static const struct {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is "penstock NAME"; returns the exit code */
    const char *summary;
} commands[] = {
    {"serve", cmd_serve, "run the broker"},
    {"bench", cmd_bench, "measure a broker, this one or any other that speaks Kafka's protocol"},
    {"topic", cmd_topic, "topics of a running broker: list, describe, create, delete, alter"},
    {"group", cmd_group,
     "consumer groups: list, describe with lag and time left, delete, reset-offsets"},
    {"config", cmd_config, "configs of topics and brokers: get, set, delete"},
    {"produce", cmd_produce, "make records of the lines of files or of stdin"},
    {"consume", cmd_consume, "print the records of a topic of a running broker"},
    {"log", cmd_log, "look at the data of a broker that does not run, verify and repair it"},
    {"top", cmd_top, "show what a running broker does, live"},
    {"topo", cmd_topo, "show the machine and which core each shard gets"},
    {"doctor", cmd_doctor, "check kernel, limits and disks, and say what is missing"},
    {"version", cmd_version, "print the version"},
};

static void help(FILE *out)
{
    fprintf(out, "usage: penstock COMMAND [OPTION]...\n\n"
                 "A log broker that speaks the Kafka protocol.\n\ncommands:\n");
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n`penstock COMMAND --help` says more.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0)
        return cmd_version(1, argv + 1);
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        char name[64];
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        snprintf(name, sizeof(name), "penstock %s", commands[i].name);
        argv[1] = name; /* what getopt_long begins its line with */
        return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "penstock: unknown command '%s'; see penstock --help\n", argv[1]);
    return EXIT_USAGE;
}
