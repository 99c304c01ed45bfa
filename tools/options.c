#include "tools/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int option_size(const char *text, uint64_t *ret_bytes)
{
    static const char suffixes[] = "kmgt";
    char *end;
    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    const char *suffix = *end == '\0' ? NULL : strchr(suffixes, *end | 0x20);
    if (errno != 0 || (*end != '\0' && (suffix == NULL || end[1] != '\0')))
        return -EINVAL;
    unsigned shift = suffix == NULL ? 0 : 10 * (unsigned)(suffix - suffixes + 1);
    if (v == 0 || v > UINT64_MAX >> shift)
        return -EINVAL;
    *ret_bytes = (uint64_t)v << shift;
    return 0;
}

int option_count(const char *text, unsigned most, unsigned *ret)
{
    char *end;
    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || v == 0 || v > most)
        return -EINVAL;
    *ret = (unsigned)v;
    return 0;
}
