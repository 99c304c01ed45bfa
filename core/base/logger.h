/* logger.h: one line an event on stderr: "2026-01-31T12:00:00.123Z LEVEL message".
 * Each line is one write(2), so lines of several threads never mix. Never on a hot path.
 * Threads: any. logger_set_level before threads start. */
#ifndef CORE_BASE_LOGGER_H
#define CORE_BASE_LOGGER_H

enum log_level { LOG_OFF = -1, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

extern enum log_level logger_level;

/* "error", "warn", "info", "debug"; returns 0 or -EINVAL. */
int logger_set_level(const char *name);

__attribute__((format(printf, 2, 3))) void logger_write(enum log_level level, const char *fmt, ...);

#define log_at(level, ...)                                                                         \
    do {                                                                                           \
        if ((level) <= logger_level)                                                               \
            logger_write(level, __VA_ARGS__);                                                      \
    } while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
