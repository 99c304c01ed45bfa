/* cmd_topic.h: `penstock topic`: topics of a running broker, over the wire: list, describe, create,
 * delete, alter. Exit codes as in cli.h. Threads: one. */
#ifndef TOOLS_CMD_TOPIC_H
#define TOOLS_CMD_TOPIC_H

#include "tools/cli.h"

struct topic_options {
    struct cli_common common;
    int64_t partitions, replication_factor; /* -1: the broker's default */
    struct cli_list configs;                /* KEY=VALUE */
    bool if_exists, if_not_exists, dry_run;
};

int cmd_topic(int argc, char **argv);

int topic_describe(struct client *c, void *options); /* topic_describe.c */

#endif
