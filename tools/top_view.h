/* top_view.h: two samples of /metrics.json as figures: rates, means, percentiles.
 * Happy path: top_sample_parse() twice, then top_view_text() or top_view_json() of the two. Which
 *   figures there are, and what each is made of, is one table in top_view.c.
 * Failure: only parsing fails. A figure that nothing was measured for is "-", and absent in JSON;
 *   a counter that went back (the broker was started again) counts from zero.
 * Ownership: a sample is the caller's to free with top_sample_free().
 * Threads: any. */
#ifndef TOOLS_TOP_VIEW_H
#define TOOLS_TOP_VIEW_H

#include <stddef.h>
#include <stdio.h>

struct json_object;

struct top_sample {
    struct json_object *root, *shards; /* shards: an array inside root */
    size_t shards_n;
};
int top_sample_parse(const char *text, struct top_sample *ret, char *reason, size_t reason_size);
void top_sample_free(struct top_sample *);

struct top_view {
    const char *address;
    const struct top_sample *before, *now;
};
/* columns: what the terminal is wide; shards that do not fit are left out. 0: all are shown. */
void top_view_text(const struct top_view *v, unsigned columns, FILE *out);
void top_view_json(const struct top_view *v, FILE *out); /* one line */

#endif
