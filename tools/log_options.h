/* log_options.h: what the commands of `penstock log` are told, from one table of options.
 * Happy path: parse, run, fini. Failure: one line on stderr. Threads: one. */
#ifndef TOOLS_LOG_OPTIONS_H
#define TOOLS_LOG_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum log_exit { LOG_EXIT_FINE, LOG_EXIT_DAMAGE, LOG_EXIT_USAGE };
static inline enum log_exit log_worse(int a, int b)
{
    return a > b ? a : b;
}

enum log_command { LOG_LS = 1, LOG_DUMP = 2, LOG_VERIFY = 4, LOG_REPAIR = 8 }; /* bit set */

struct log_options {
    const char **paths;
    unsigned paths_n;
    const char *journal_dir; /* NULL: the first data directory */
    const char *topic;       /* NULL: all */
    int64_t partition;       /* -1: all */
    int64_t from_offset, to_offset;
    bool json, force_read, dry_run;
    bool deep_iteration, print_data_log;
    bool journal, checkpoints, metadata, indexes; /* dump: these instead of segments */
    char *files;                                  /* private: of --files */
};

/* argv[0] is skipped. 0: go on; -1: help was printed; else the exit code. */
int log_options_parse(enum log_command command, int argc, char **argv, struct log_options *ret);
void log_options_fini(struct log_options *o);
/* The partition is among those asked for. */
bool log_options_want(const struct log_options *o, const char *topic, int32_t partition);
void log_options_help(enum log_command command, FILE *out);

#endif
