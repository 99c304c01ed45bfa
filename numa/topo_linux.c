#include "numa/topo_linux.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"

#define PATH_BYTES 1024
/* cgroup v1 says "no limit" as the largest multiple of a page: nobody has 2^60 bytes. */
#define NO_LIMIT_BYTES (INT64_C(1) << 60)

int linux_read_line(const char *path, char *ret, size_t size_bytes)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    char line[PATH_BYTES];
    char *got = fgets(line, sizeof(line), f);
    fclose(f);
    if (got == NULL)
        return -EIO; /* empty, or (a NIC that is down) not readable now */
    line[strcspn(line, "\n")] = '\0';
    snprintf(ret, size_bytes, "%s", line);
    return 0;
}

int linux_read_number(const char *path, int64_t *ret)
{
    char line[64], *end;
    int rc = linux_read_line(path, line, sizeof(line));
    if (rc < 0)
        return rc;
    errno = 0;
    long long v = strtoll(line, &end, 10);
    if (errno != 0 || end == line || *end != '\0')
        return -EINVAL;
    *ret = v;
    return 0;
}

uint64_t linux_nic_speed_mbit(const char *name)
{
    char path[PATH_BYTES];
    int64_t mbit;
    snprintf(path, sizeof(path), "/sys/class/net/%s/speed", name);
    return linux_read_number(path, &mbit) == 0 && mbit > 0 ? (uint64_t)mbit : 0;
}

int linux_block_rotational(const char *name)
{
    char path[PATH_BYTES];
    int64_t flag;
    snprintf(path, sizeof(path), "/sys/class/block/%s/queue/rotational", name);
    return linux_read_number(path, &flag) == 0 ? flag != 0 : -1;
}

/* The smallest limit in dir/leaf and the directories above it. In a container the path is often
 * that of the host: then only the mount's own top is there, and that is our cgroup. */
static int64_t limit_upwards(const char *mount, const char *leaf, const char *file)
{
    int64_t least = NO_LIMIT_BYTES;
    char dir[PATH_BYTES / 2];
    snprintf(dir, sizeof(dir), "%s", leaf);
    for (;;) {
        char path[PATH_BYTES];
        int64_t v;
        snprintf(path, sizeof(path), "%s%s/%s", mount, dir, file);
        if (linux_read_number(path, &v) == 0 && v > 0)
            least = MIN(least, v);
        char *slash = strrchr(dir, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

static int is_memory_controller(const char *controllers)
{
    for (const char *p = controllers; p != NULL; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, "memory", 6) == 0 && (p[6] == ',' || p[6] == '\0'))
            return 1;
    }
    return 0;
}

uint64_t linux_memory_limit_bytes(void)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL)
        return 0;
    int64_t least = NO_LIMIT_BYTES;
    char line[PATH_BYTES];
    while (fgets(line, sizeof(line), f) != NULL) { /* "id:controllers:path" */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (path == NULL)
            continue;
        *controllers++ = '\0';
        *path++ = '\0';
        if (*controllers == '\0')
            least = MIN(least, limit_upwards("/sys/fs/cgroup", path, "memory.max"));
        else if (is_memory_controller(controllers))
            least =
                MIN(least, limit_upwards("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
    }
    fclose(f);
    return least == NO_LIMIT_BYTES ? 0 : (uint64_t)least;
}
