/* cli.h: what the commands that talk to a broker have in common: their options as tables, --help,
 * exit codes, and the connection.
 * Happy path: cli_run() finds the command (`penstock topic list`), sets its options, opens the
 *   client and calls run(). Exit codes: 0; 1 it cannot be done, one line on stderr says why;
 *   2 wrong usage.
 * Failure: run() returns what the client returned, which has then set the client's reason; or
 *   CLI_SAID when all has been said by cli_complain(). Threads: one. */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "tools/client.h"

#define CLI_EXIT_FAILED 1
#define CLI_EXIT_USAGE 2
#define CLI_SAID 1

struct cli_list {
    const char **items;
    unsigned n;
};

struct cli_common {   /* what every command's struct of options begins with */
    const char *name; /* "penstock topic list" */
    const char *bootstrap;
    double timeout_s;
    bool json;
    struct cli_list args;
};

enum cli_type {
    CLI_FLAG,    /* bool */
    CLI_TEXT,    /* const char * */
    CLI_NUMBER,  /* int64_t, 0 and above */
    CLI_SECONDS, /* double, above 0 */
    CLI_LIST,    /* struct cli_list: may be given several times */
};

struct cli_option {
    const char *name, *metavar;
    char letter; /* of the short form; 0: none */
    unsigned commands;
    enum cli_type type;
    size_t at; /* offset in the struct of options */
    const char *doc;
};

struct cli_command {
    const char *name; /* NULL: the only one, without a name */
    unsigned bit;     /* in an option's `commands` */
    int (*run)(struct client *c, void *options);
    const char *args; /* for the usage line */
    unsigned args_least, args_most;
    const char *about; /* one line */
};

struct cli {
    const char *name;         /* "topic" */
    const char *about, *more; /* more: NULL, or what --help says last */
    const struct cli_command *commands;
    unsigned commands_n;
    const struct cli_option *options;
    unsigned options_n;
    /* Whether the options make sense together: NULL, or what is wrong. May be NULL. */
    const char *(*check)(const struct cli_command *command, const void *options);
};

/* options begins with struct cli_common; what is not an option's default is zero. */
int cli_run(const struct cli *cli, int argc, char **argv, void *options);

/* "penstock topic list: REASON" */
void cli_complain(const struct cli_common *common, const char *reason);

/* Text for a terminal: what it would act on becomes \xNN; cut when there is no room. The length. */
size_t cli_escape(char *to, size_t room, const char *text);

/* A decimal number from `least` to `most` and nothing else. */
int cli_number(const char *text, int64_t least, int64_t most, int64_t *ret);

#endif
