/* cmd_top.h: `penstock top`: what a running broker does, each second.
 * Happy path: two samples of /metrics.json, an interval apart -> rates of each shard and of all ->
 *   a table drawn over the last one (on a terminal), lines, or one JSON object an interval.
 * Failure: one line on stderr and exit code 1 when the broker cannot be asked or answers something
 *   else; 2 for wrong usage.
 * Threads: one. */
#ifndef TOOLS_CMD_TOP_H
#define TOOLS_CMD_TOP_H

int cmd_top(int argc, char **argv);

#endif
