/* cmd_log.h: `penstock log`: look at and mend the data of a broker that does not run. */
#ifndef TOOLS_CMD_LOG_H
#define TOOLS_CMD_LOG_H

#include "tools/log_options.h"

int cmd_log(int argc, char **argv);

/* The commands, each in its own file; return enum log_exit. */
int log_ls(const struct log_options *o);
int log_dump(const struct log_options *o);
int log_verify(const struct log_options *o);
int log_repair(const struct log_options *o);

#endif
