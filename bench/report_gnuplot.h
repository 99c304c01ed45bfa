/* report_gnuplot.h: gnuplot run as a child process on a script, its output read back.
 * Happy path: the script is its standard input, a memfd, and so are its output and its complaints:
 *   no shell, no files to remove, and no pipe that one side could wait on. ~/.gnuplot is not read.
 * Failure: -ENOENT without gnuplot, -ETIME when it took longer than REPORT_GNUPLOT_SECONDS_MAX (it
 * is killed), -EIO when it failed; `reason` says it in words, with gnuplot's own. Ownership: the
 * caller frees *ret_svg. Threads: any. */
#ifndef BENCH_REPORT_GNUPLOT_H
#define BENCH_REPORT_GNUPLOT_H

#include <stddef.h>

#define REPORT_GNUPLOT_SECONDS_MAX 60

int report_gnuplot_run(const char *script, size_t len, char **ret_svg, char *reason,
                       size_t reason_size);

#endif
