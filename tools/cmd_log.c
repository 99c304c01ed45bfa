#include "tools/cmd_log.h"

#include <string.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"

static const struct {
    const char *name;
    enum log_command command;
    int (*run)(const struct log_options *o);
    const char *summary;
} commands[] = {
    {"ls", LOG_LS, log_ls, "topics, partitions, segments, journals: what is there"},
    {"dump", LOG_DUMP, log_dump, "batches, records, index entries, journal writes, metadata"},
    {"verify", LOG_VERIFY, log_verify, "check everything, and name the offsets that are lost"},
    {"repair", LOG_REPAIR, log_repair, "mend what can be mended, keeping what it removes"},
};

static void help(FILE *out)
{
    fputs("usage: penstock log COMMAND [OPTION]... PATH...\n\n"
          "Look at and mend the data of a broker that does not run.\n\ncommands:\n",
          out);
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`penstock log COMMAND --help` says more.\n", out);
}

int cmd_log(int argc, char **argv)
{
    struct log_options o;
    logger_level = LOG_WARN;
    if (argc < 2) {
        help(stderr);
        return LOG_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help(stdout);
        return LOG_EXIT_FINE;
    }
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        char name[64];
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        snprintf(name, sizeof(name), "penstock log %s", commands[i].name);
        argv[1] = name; /* what getopt_long begins its line with */
        int code = log_options_parse(commands[i].command, argc - 1, argv + 1, &o);
        if (code != 0)
            return code < 0 ? LOG_EXIT_FINE : code;
        code = commands[i].run(&o);
        log_options_fini(&o);
        return code;
    }
    fprintf(stderr, "penstock log: unknown command '%s'; see penstock log --help\n", argv[1]);
    return LOG_EXIT_USAGE;
}
