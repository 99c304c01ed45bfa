/* report_format.h: numbers as people read them, and texts made safe for HTML and for gnuplot.
 * The number's own digits stay in the page beside what is shown (report_html.h), so rounding to
 * three digits here loses nothing. Pure. Threads: any. */
#ifndef BENCH_REPORT_FORMAT_H
#define BENCH_REPORT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum report_unit {
    REPORT_NS,      /* "12.3 ms" */
    REPORT_SECONDS, /* "30 s", "1.5 ms" */
    REPORT_COUNT,   /* "1,234,567" */
    REPORT_RATE,    /* a second: "20.0 k" */
    REPORT_BYTES,   /* "1.50 GiB" */
    REPORT_SHARE,   /* 0.42: "42 %" */
    REPORT_RATIO,   /* "1.04×" */
    REPORT_PLAIN,   /* three digits, no unit: "19.5" */
    REPORT_EXACT,   /* as it is in the file */
};

#define REPORT_SHOWN_MAX 48

/* Into `shown`, of REPORT_SHOWN_MAX bytes; UTF-8. REPORT_EXACT gives up to 15 digits here. */
void report_format(enum report_unit unit, double value, char *shown);
/* The unit that a metric's name for it means ("ns", "rec/s", "bytes"); else REPORT_PLAIN. */
enum report_unit report_format_unit(const char *name);

/* Text as HTML, safe in an element and in a quoted attribute: & < > " ' escaped, control
 * characters and bytes that are not UTF-8 replaced by U+FFFD. */
void report_format_html(FILE *out, const char *text);
/* Text as a single-quoted gnuplot string, in which only ' has a meaning. It becomes U+2019, as
 * gnuplot 5.4 takes a doubled one at the beginning for the string's end; control characters and
 * backquotes become blanks. At most `chars_max` characters are kept, the last one an ellipsis.
 * is_format: gnuplot takes the text for a format, as it does the names of tics; % is doubled. */
void report_format_gnuplot(FILE *out, const char *text, size_t chars_max, bool is_format);

#endif
