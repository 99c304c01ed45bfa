#include "bench/limits.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bench/limits_private.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

enum { SECONDS_EACH_DEFAULT = 2 };
#define FILE_BYTES_DEFAULT (UINT64_C(1) << 30)

int limits_fail(const struct limits_reason *reason, int rc, const char *what)
{
    ASSERT(rc < 0);
    snprintf(reason->text, reason->size, "%s: %s", what, strerror(-rc));
    return rc;
}

void limits_progress(const struct limits_config *config, const char *fmt, ...)
{
    char what[256];
    va_list args;
    if (config->on_progress == NULL)
        return;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    config->on_progress(config->progress_arg, what);
}

static int config_check(const struct limits_config *config, const struct limits_reason *reason)
{
    if (config->sizes_n == 0 || config->sizes_n > LIMITS_SIZES_MAX)
        return limits_fail(reason, -EINVAL, "number of sizes");
    for (unsigned i = 0; i < config->sizes_n; i++)
        if (config->sizes_bytes[i] == 0 || config->sizes_bytes[i] > LIMITS_SIZE_BYTES_MAX)
            return limits_fail(reason, -EINVAL, "a size");
    if (config->dir != NULL && strlen(config->dir) >= sizeof(((struct limits *)0)->dir))
        return limits_fail(reason, -ENAMETOOLONG, "the directory");
    return 0;
}

int limits_measure(const struct limits_config *config, struct limits *ret, char *reason,
                   size_t reason_size)
{
    struct limits_reason why = {reason, reason_size};
    struct limits limits = {0};
    struct limits_config c = *config;
    if (c.seconds_each <= 0)
        c.seconds_each = SECONDS_EACH_DEFAULT;
    if (c.file_bytes_max == 0)
        c.file_bytes_max = FILE_BYTES_DEFAULT;
    int rc = config_check(&c, &why);
    if (rc == 0 && c.dir != NULL)
        rc = limits_disk_measure(&c, &limits, &why);
    if (rc == 0 && c.tcp)
        rc = limits_tcp_measure(&c, &limits, &why);
    if (rc == 0)
        *ret = limits;
    return rc;
}
