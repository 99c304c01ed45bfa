/* report_html.h: the page's parts: head, styles and end, figures, cells and tables.
 * Every number that a result file has is shown with its origin: data-path is its place in the file
 * (data-file: which, from 0), data-value its digits as they are there. What is absent in the file
 * is shown as a dash, never as zero.
 * All texts are escaped here; `out` keeps errors until the page is closed. Threads: one. */
#ifndef BENCH_REPORT_HTML_H
#define BENCH_REPORT_HTML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "bench/report_data.h"
#include "bench/report_format.h"
#include "bench/report_plot.h"

#define REPORT_ROWS_MAX 200 /* of one table of items; how many more there are is said */

void report_html_begin(FILE *out, const char *title);
void report_html_end(FILE *out);

/* A number with its origin, a text, yes or no, or a dash. */
void report_html_value(FILE *out, const struct report_node *node, enum report_unit unit);
void report_html_cell(FILE *out, const struct report_node *node, enum report_unit unit);
/* A value with words before and after it; nothing at all when it is absent. */
void report_html_phrase(FILE *out, const char *before, const struct report_node *node,
                        enum report_unit unit, const char *after);

struct report_column {
    const char *head;
    const char *names; /* for report_node_find() on the row's node */
    enum report_unit unit;
    const char *group; /* a heading above several columns, or NULL */
};

/* A table with a row for each item of an array; columns that no item has are left out. Nothing at
 * all when the array has no items. */
void report_html_items(FILE *out, const struct report_node *items, const char *caption,
                       const struct report_column *columns, size_t n_columns);
/* A table with a row for each of `columns` that the node has; nothing when it has none. */
void report_html_facts(FILE *out, const struct report_node *node, const char *caption,
                       const struct report_column *columns, size_t n_columns);
/* A plot's drawing with its title and the legend of its lines. */
void report_html_figure(FILE *out, const struct report_plot *plot, const char *svg);

#endif
