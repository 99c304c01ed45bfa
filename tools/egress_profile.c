#include "tools/egress_profile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/properties.h"

enum { FILE_BYTES_MAX = 65536 };

static const struct {
    const char *key;
    enum egress_link link;
    size_t at;
    uint32_t never;
} keys[] = {
    {"local.send_zc.min.bytes", EGRESS_LOCAL, offsetof(struct egress_limits, zc_bytes),
     EGRESS_NEVER},
    {"local.splice.min.bytes", EGRESS_LOCAL, offsetof(struct egress_limits, splice_bytes), 0},
    {"remote.send_zc.min.bytes", EGRESS_REMOTE, offsetof(struct egress_limits, zc_bytes),
     EGRESS_NEVER},
    {"remote.splice.min.bytes", EGRESS_REMOTE, offsetof(struct egress_limits, splice_bytes), 0},
};

static int on_pair(void *arg, unsigned line, const char *key, const char *value)
{
    struct egress_limits *limits = arg;
    (void)line;
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        if (strcmp(keys[i].key, key) != 0)
            continue;
        char *end;
        errno = 0;
        unsigned long n = strcmp(value, "never") == 0 ? keys[i].never : strtoul(value, &end, 10);
        bool number = strcmp(value, "never") == 0 ||
                      (*value >= '1' && *value <= '9' && *end == '\0' && errno == 0);
        if (!number || n > UINT32_MAX)
            return -EINVAL;
        memcpy((char *)&limits[keys[i].link] + keys[i].at, &(uint32_t){(uint32_t)n},
               sizeof(uint32_t));
        return 0;
    }
    return -EINVAL;
}

int egress_profile_read(const char *path, struct egress_limits limits[EGRESS_LINKS], char *reason,
                        size_t reason_size)
{
    static char text[FILE_BYTES_MAX];
    unsigned line = 0;
    const char *why = "neither a known key with a number of bytes nor \"never\"";
    struct egress_limits found[EGRESS_LINKS];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        int rc = -errno;
        snprintf(reason, reason_size, "%.3000s: %s", path, strerror(-rc));
        return rc;
    }
    size_t len = fread(text, 1, sizeof(text), file);
    bool whole = feof(file) != 0 && ferror(file) == 0;
    fclose(file);
    memcpy(found, limits, sizeof(found));
    int rc = whole ? properties_parse(text, len, on_pair, found, &line, &why) : -EFBIG;
    if (rc == 0)
        memcpy(limits, found, sizeof(found));
    else
        snprintf(reason, reason_size, "%.3000s: %s", path, whole ? why : "cannot be read");
    return rc;
}

static void limits_print(FILE *out, const struct egress_limits *limits)
{
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        uint32_t n;
        memcpy(&n, (const char *)&limits[keys[i].link] + keys[i].at, sizeof(n));
        if (n == keys[i].never)
            fprintf(out, "%s=never\n", keys[i].key);
        else if (n > 0)
            fprintf(out, "%s=%u\n", keys[i].key, n);
    }
}

int egress_profile_write(const char *path, const struct egress_limits limits[EGRESS_LINKS],
                         char *reason, size_t reason_size)
{
    char temp[4096];
    int rc = 0;
    snprintf(temp, sizeof(temp), "%.4000s.tmp", path);
    FILE *file = fopen(temp, "we");
    if (file != NULL) {
        fprintf(file, "# from how many bytes on which way out pays: penstock bench egress\n");
        limits_print(file, limits);
        rc = ferror(file) != 0 ? -EIO : 0;
        if (fclose(file) != 0 && rc == 0)
            rc = -errno;
    }
    if (file == NULL || (rc == 0 && rename(temp, path) < 0))
        rc = -errno;
    if (rc < 0)
        snprintf(reason, reason_size, "%.3000s: %s", path, strerror(-rc));
    return rc;
}
