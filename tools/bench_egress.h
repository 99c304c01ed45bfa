/* bench_egress.h: `penstock bench egress`: which way out pays on this machine; a table, or JSON,
 * and with --save the profile that `serve` reads. Exit codes: 0: measured; 1: could not be; 2:
 * wrong usage. Threads: the main one. */
#ifndef TOOLS_BENCH_EGRESS_H
#define TOOLS_BENCH_EGRESS_H

int bench_egress(int argc, char **argv); /* argv[0] is the command's name */

#endif
