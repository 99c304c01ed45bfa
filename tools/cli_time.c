#include "tools/cli_time.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"

static int milliseconds(const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0')
        return -EINVAL;
    *ret = v;
    return 0;
}

/* ".123" and the like, to milliseconds; where it ends. */
static const char *fraction(const char *at, int64_t *ret_ms)
{
    *ret_ms = 0;
    if (*at != '.')
        return at;
    int64_t unit = 100;
    for (at++; *at >= '0' && *at <= '9'; at++, unit /= 10)
        *ret_ms += (*at - '0') * unit;
    return at;
}

int cli_time(const char *text, int64_t *ret_ms)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"};
    if (milliseconds(text, ret_ms) == 0)
        return 0;
    for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
        struct tm tm = {0};
        int64_t ms;
        const char *end = strptime(text, forms[i], &tm);
        if (end == NULL)
            continue;
        end = fraction(end, &ms);
        if (*end == 'Z')
            end++;
        if (*end != '\0')
            continue;
        *ret_ms = (int64_t)timegm(&tm) * 1000 + ms;
        return 0;
    }
    return -EINVAL;
}
