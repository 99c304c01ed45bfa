/* cmd_topo.h: `penstock topo`: show this or another machine and where its shards would run.
 * Returns the exit code: 0, 1 (it cannot be done) or 2 (usage); one line on stderr says why.
 * argv[0] is "topo". Threads: the main thread. */
#ifndef TOOLS_CMD_TOPO_H
#define TOOLS_CMD_TOPO_H

int cmd_topo(int argc, char **argv);

#endif
