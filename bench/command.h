/* command.h: `penstock bench ...`: from the command line to runs, result files and reports.
 * Exit codes: 0: measured, and valid; 1: could not be measured, or is invalid; 2: wrong usage.
 * Threads: the main one. */
#ifndef BENCH_COMMAND_H
#define BENCH_COMMAND_H

/* argv[0] is "penstock bench"; the texts stand in result files. */
int bench_command(int argc, char **argv, const char *version, const char *commit);

#endif
