/* report_sections.h: the sections of a report, each written to the view's page in full or not at
 * all when the results have nothing for it. All take what is untrusted as report_data.h does, and
 * keep failures as report_view.h says. Threads: one. */
#ifndef BENCH_REPORT_SECTIONS_H
#define BENCH_REPORT_SECTIONS_H

#include "bench/report_view.h"

/* Title, what was run where, and, loudly, which runs are invalid. */
void report_section_head(struct report_view *view, const char *title);
/* Ratios pair by pair. */
void report_section_comparisons(struct report_view *view);
/* What `saturate` found, trial by trial. */
void report_section_searches(struct report_view *view);
/* One line a run. */
void report_section_summary(struct report_view *view);
/* Percentile curves and latency against rate, a workload at a time. */
void report_section_groups(struct report_view *view);
/* Each run: time series, windows, bill, limits, verification, workload. */
void report_section_runs(struct report_view *view);
/* Files, versions and machines. */
void report_section_files(struct report_view *view);
/* What each number means. */
void report_section_legend(struct report_view *view);

/* Parts of a run. */
void report_run_series(struct report_view *view, const struct report_run *run);
void report_run_windows(struct report_view *view, const struct report_run *run);
void report_run_tables(struct report_view *view, const struct report_run *run);
/* Why a run is invalid, as items of a list. */
void report_run_reasons(struct report_view *view, const struct report_run *run);

#endif
