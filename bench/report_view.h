/* report_view.h: what the sections of a report share: its files, their runs and the groups of runs
 * whose workloads are alike, the page that is written, and the plots' way into it.
 * Happy path: report_view_init() finds runs and groups; each section writes to `out`; a plot is a
 *   report_lines that is filled and handed to report_view_plot().
 * Failure: the first failed plot or allocation is kept in `rc` and `reason`, and later plots are
 *   skipped, so that sections need not look; whoever writes the page out does.
 * Ownership: borrows files and reason until report_view_fini(). Threads: one. */
#ifndef BENCH_REPORT_VIEW_H
#define BENCH_REPORT_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "bench/report_data.h"
#include "bench/report_plot.h"

#define REPORT_RUNS_MAX 2000   /* in one report; how many there are is said */
#define REPORT_LABELS_MAX 64   /* told apart by colour */
#define REPORT_RUNS_OPEN_MAX 6 /* of more, each is folded away */
#define REPORT_RUNS_PLOTTED_MAX 60
#define REPORT_LINES_MAX 64 /* of one plot */
#define REPORT_LABEL_BYTES 64

struct report_run {
    struct report_node node;
    struct report_node workload;
    char label[REPORT_LABEL_BYTES];
    unsigned color; /* the same for a label all over the report */
    size_t group;
    bool invalid;
};

/* Runs of one workload, whatever their rate. */
struct report_group {
    char *key; /* what makes runs alike */
    size_t first_run, n_runs, n_labels;
};

struct report_view {
    FILE *out;
    const struct report_file *files;
    size_t n_files;
    struct report_run *runs;
    size_t n_runs, n_runs_all;
    struct report_group *groups;
    size_t n_groups;
    char labels[REPORT_LABELS_MAX][REPORT_LABEL_BYTES];
    size_t n_labels;
    int rc;
    char *reason;
    size_t reason_size;
};

int report_view_init(struct report_view *view, const struct report_file *files, size_t n_files,
                     FILE *out, char *reason, size_t reason_size);
void report_view_fini(struct report_view *view);
/* The colour of a label, by which it is known all over the report. */
unsigned report_view_color(struct report_view *view, const char *label);
/* A group's workload in a few words: its name, and the sizes that matter most. */
void report_view_group_title(const struct report_view *view, const struct report_group *group);

struct report_lines {
    struct report_line items[REPORT_LINES_MAX];
    size_t n;
    bool failed; /* memory was out */
};

/* A line with room for `room` points and none yet; NULL when there are too many lines or memory is
 * out. `label` may be longer than is kept. */
struct report_line *report_lines_add(struct report_lines *lines, enum report_style style,
                                     const char *label, size_t room);
void report_line_point(struct report_line *line, double x, double y);
void report_lines_fini(struct report_lines *lines);
/* Draws a plot of `lines` and puts it in the page; nothing when there is nothing to show. Its size
 * may be left 0. Ends with report_lines_fini(). */
void report_view_plot(struct report_view *view, struct report_plot *plot,
                      struct report_lines *lines);
/* A histogram's percentile curve, or its few percentiles when it has no curve; NULL when it has
 * neither. */
struct report_line *report_view_curve(struct report_lines *lines, const struct report_node *hist,
                                      const char *label);
/* Of a plot of such curves. */
extern const struct report_axis report_tail_axis, report_latency_axis;

#endif
