#include "core/base/logger.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"

enum log_level logger_level = LOG_INFO;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

int logger_set_level(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(level_names); i++)
        if (strcmp(name, level_names[i]) == 0) {
            logger_level = (enum log_level)i;
            return 0;
        }
    return -EINVAL;
}

void logger_write(enum log_level level, const char *fmt, ...)
{
    char line[1024];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    len += (size_t)snprintf(line + len, sizeof(line) - len, ".%03ldZ %-5s ", now.tv_nsec / 1000000,
                            level_names[level]);
    va_list args;
    va_start(args, fmt);
    int body = vsnprintf(line + len, sizeof(line) - len - 1, fmt, args);
    va_end(args);
    if (body > 0)
        len = MIN(len + (size_t)body, sizeof(line) - 2);
    for (size_t i = 0; i < len; i++) /* names from the network must not forge a second line */
        if ((unsigned char)line[i] < 0x20)
            line[i] = '?';
    line[len++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written; /* a log that cannot be written has nowhere to say so */
}
