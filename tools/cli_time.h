/* cli_time.h: points in time as a person writes them. Threads: any. */
#ifndef TOOLS_CLI_TIME_H
#define TOOLS_CLI_TIME_H

#include <stdint.h>

/* Milliseconds since 1970, or 2026-01-31[T12:00[:00[.123]]][Z], always UTC. 0 or -EINVAL. */
int cli_time(const char *text, int64_t *ret_ms);

#endif
