/* report.h: `penstock bench report`: one HTML page from result files of penstock bench.
 * The page is complete in itself: plots are inline SVG, nothing is loaded from anywhere, no script
 * is needed to read it, and it follows the reader's light or dark theme.
 * Happy path: all files are read, the page is made in memory, and replaces `out` at once.
 * Failure: -errno and `reason` in words; `out` is then as it was. What a file has not, or not in
 *   the type it should have, is absent in the page (report_data.h).
 * Threads: one. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stddef.h>

/* argv[0] is the command's name; returns the exit code: 0, 1 failed, 2 bad usage. */
int report_command(int argc, char **argv);
/* `out` "-" is standard output; `title` may be NULL. */
int report_write(const char *const *paths, size_t n, const char *out, const char *title,
                 char *reason, size_t reason_size);

#endif
