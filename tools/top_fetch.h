/* top_fetch.h: /metrics.json of a broker, by one HTTP request.
 * Failure: -errno, and reason says what; -EPROTO: it answers, but not that.
 * Ownership: the body, NUL-terminated, is the caller's to free().
 * Threads: any; blocks for seconds at most. */
#ifndef TOOLS_TOP_FETCH_H
#define TOOLS_TOP_FETCH_H

#include <stddef.h>

/* HOST:PORT, or a PORT of this machine. */
int top_fetch(const char *address, char **ret_body, char *reason, size_t reason_size);

#endif
