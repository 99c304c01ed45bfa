#include "io/device.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/base/bytes.h"

#define DISKS_REMEMBERED 64u
#define COMPAT_STATX_DIOALIGN 0x2000u /* kernel 6.1 */

static bool line_read(const char *path, char *ret, size_t len_bytes)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    bool ok = fgets(ret, (int)len_bytes, f) != NULL;
    fclose(f);
    if (ok)
        ret[strcspn(ret, "\n")] = '\0';
    return ok;
}

/* mountinfo: id parent major:minor root mountpoint options [tags] - type source superoptions */
static void mount_find(unsigned major_n, unsigned minor_n, uint64_t mount_id, struct device *ret)
{
    char line[4096];
    bool exact = false;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (f == NULL)
        return;
    while (!exact && fgets(line, sizeof(line), f) != NULL) {
        unsigned long long id;
        unsigned line_major, line_minor;
        const char *rest = strstr(line, " - ");
        if (rest == NULL || sscanf(line, "%llu %*u %u:%u", &id, &line_major, &line_minor) != 3)
            continue;
        exact = id == mount_id;
        if (!exact && (line_major != major_n || line_minor != minor_n))
            continue;
        if (sscanf(rest, " - %31s %127s", ret->fs_type, ret->source) != 2)
            exact = false;
    }
    fclose(f);
}

/* The directory of the whole device in sysfs: a partition's lies inside its disk's, which has the
 * queue. Returns its length, with room behind it for the names of what is in it; 0: there is none.
 */
static size_t disk_find(unsigned major_n, unsigned minor_n, char real[PATH_MAX])
{
    char path[96];
    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major_n, minor_n);
    if (realpath(path, real) == NULL)
        return 0;
    size_t len = strlen(real);
    if (len + sizeof("/queue/write_cache") > PATH_MAX)
        return 0;
    strcpy(real + len, "/queue");
    bool is_disk = access(real, F_OK) == 0;
    real[len] = '\0';
    if (!is_disk)
        len = (size_t)(strrchr(real, '/') - real);
    real[len] = '\0';
    return len;
}

static uint64_t disk_look_up(dev_t st_dev)
{
    char real[PATH_MAX], value[32];
    unsigned major_n, minor_n;
    size_t len = disk_find(major(st_dev), minor(st_dev), real);
    if (len == 0)
        return st_dev;
    strcpy(real + len, "/dev");
    if (!line_read(real, value, sizeof(value)) || sscanf(value, "%u:%u", &major_n, &minor_n) != 2)
        return st_dev;
    return makedev(major_n, minor_n);
}

/* Asked for every file that is opened or made; looking it up is a dozen system calls. What has been
 * found stays: a number means another disk only once nothing of the first is mounted. */
uint64_t device_disk(dev_t st_dev)
{
    static struct {
        dev_t st_dev;
        uint64_t disk;
    } known[DISKS_REMEMBERED];
    static unsigned known_n;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    unsigned i = 0;
    pthread_mutex_lock(&lock);
    while (i < known_n && known[i].st_dev != st_dev)
        i++;
    uint64_t disk = i < known_n ? known[i].disk : disk_look_up(st_dev);
    if (i == known_n && known_n < DISKS_REMEMBERED) {
        known[i].st_dev = st_dev;
        known[i].disk = disk;
        known_n++;
    }
    pthread_mutex_unlock(&lock);
    return disk;
}

static void block_find(unsigned major_n, unsigned minor_n, struct device *ret)
{
    char real[PATH_MAX], value[32];
    size_t len = disk_find(major_n, minor_n, real);
    if (len == 0)
        return;
    snprintf(ret->name, sizeof(ret->name), "%s", strrchr(real, '/') + 1);
    strcpy(real + len, "/queue/rotational");
    if (line_read(real, value, sizeof(value))) {
        ret->rotational_known = true;
        ret->rotational = strcmp(value, "1") == 0;
    }
    strcpy(real + len, "/queue/write_cache");
    if (line_read(real, value, sizeof(value)))
        ret->write_cache = strcmp(value, "write back") == 0;
    strcpy(real + len, "/queue/fua");
    if (line_read(real, value, sizeof(value)))
        ret->fua = strcmp(value, "1") == 0;
}

/* Alignment is told for files only, so a directory is asked through an unnamed file in it. */
static void direct_find(const char *path, bool is_dir, struct device *ret)
{
    struct statx stx;
    int flags = is_dir ? O_TMPFILE | O_RDWR : O_RDONLY;
    int fd = open(path, flags | O_DIRECT | O_CLOEXEC, 0600);
    ret->direct = fd >= 0;
    if (fd < 0)
        fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (statx(fd, "", AT_EMPTY_PATH, COMPAT_STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & COMPAT_STATX_DIOALIGN) != 0) {
        ret->dio_memory_align_bytes = stx.stx_dio_mem_align;
        ret->dio_offset_align_bytes = stx.stx_dio_offset_align;
    }
    close(fd);
}

int device_describe(const char *path, struct device *ret)
{
    static const char *const cow_types[] = {"btrfs", "zfs", "bcachefs"};
    struct device d = {.fs_type = "?"};
    struct statx stx;
    struct statvfs fs;
    if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_MNT_ID, &stx) < 0 ||
        statvfs(path, &fs) < 0)
        return -errno;
    mount_find(stx.stx_dev_major, stx.stx_dev_minor, stx.stx_mnt_id, &d);
    unsigned major_n = stx.stx_dev_major, minor_n = stx.stx_dev_minor;
    struct stat source;
    /* btrfs and its like give files a device number of their own: ask for what is mounted. */
    if (major_n == 0 && d.source[0] == '/' && stat(d.source, &source) == 0 &&
        S_ISBLK(source.st_mode)) {
        major_n = major(source.st_rdev);
        minor_n = minor(source.st_rdev);
    }
    block_find(major_n, minor_n, &d);
    for (unsigned i = 0; i < ARRAY_LEN(cow_types); i++)
        d.copy_on_write |= strcmp(d.fs_type, cow_types[i]) == 0;
    d.reflink = d.copy_on_write || strcmp(d.fs_type, "xfs") == 0;
    d.read_only = (fs.f_flag & ST_RDONLY) != 0;
    d.total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    d.free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    direct_find(path, S_ISDIR(stx.stx_mode), &d);
    *ret = d;
    return 0;
}
