/* report_css.h: what every page of the report has and no result changes: its styles, with the
 * colours of both themes and of print, and the definitions of the plots' markers. */
#ifndef BENCH_REPORT_CSS_H
#define BENCH_REPORT_CSS_H

extern const char report_css[];
extern const char report_markers[];

#endif
