/* cmd_bench.h: `penstock bench`: all of it is in bench/; this hands it the version. Returns the
 * exit code. */
#ifndef TOOLS_CMD_BENCH_H
#define TOOLS_CMD_BENCH_H

int cmd_bench(int argc, char **argv);

#endif
