/* cmd_config.h: `penstock config`: the configs of topics and brokers, over the wire: get, set,
 * delete. Exit codes as in cli.h. Threads: one. */
#ifndef TOOLS_CMD_CONFIG_H
#define TOOLS_CMD_CONFIG_H

int cmd_config(int argc, char **argv);

#endif
