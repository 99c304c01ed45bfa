/* limits_private.h: the parts of limits.h. Private to bench/limits*.c.
 * Failure: -errno and a sentence in the reason.
 * Threads: the one of limits_measure(). */
#ifndef BENCH_LIMITS_PRIVATE_H
#define BENCH_LIMITS_PRIVATE_H

#include <time.h>

#include "bench/limits.h"

struct limits_traits {
    const char *flush_name; /* in the JSON; NULL for reads */
    const char *text;       /* for the progress, after the block size */
    unsigned depth;         /* in flight at once */
    unsigned group_bytes;   /* of what becomes durable together; 0: group_blocks says how much */
    unsigned group_blocks;
    bool write, flush, dsync;
};
extern const struct limits_traits limits_traits[LIMITS_KINDS];

struct limits_reason {
    char *text;
    size_t size;
};
/* Notes what failed and why, as "WHAT: strerror"; returns rc. */
int limits_fail(const struct limits_reason *reason, int rc, const char *what);
void limits_progress(const struct limits_config *config, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Both add to *ret. sizes_bytes, seconds_each, file_bytes_max are final. */
int limits_disk_measure(const struct limits_config *config, struct limits *ret,
                        const struct limits_reason *reason);
int limits_tcp_measure(const struct limits_config *config, struct limits *ret,
                       const struct limits_reason *reason);

#endif
