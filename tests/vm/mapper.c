/* mapper.c: see mapper.h. */
#include "tests/vm/mapper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { ARGUMENT_MAX = 512, SECTOR_BYTES = 512 };

struct request {
    struct dm_ioctl head;
    union {
        struct {
            struct dm_target_spec spec;
            char words[ARGUMENT_MAX];
        } table;
        struct {
            uint64_t sector; /* struct dm_target_msg has no room for its text */
            char words[ARGUMENT_MAX];
        } message;
    };
};

static int control(unsigned long command, const char *name, struct request *request)
{
    request->head.version[0] = DM_VERSION_MAJOR;
    request->head.data_size = sizeof(*request);
    request->head.data_start = offsetof(struct request, table);
    snprintf(request->head.name, sizeof(request->head.name), "%s", name);
    int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = ioctl(fd, command, request) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int sectors_of(const char *dev, uint64_t *ret_sectors)
{
    int fd = open(dev, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    uint64_t bytes;
    int rc = ioctl(fd, BLKGETSIZE64, &bytes) < 0 ? -errno : 0;
    if (!rc)
        *ret_sectors = bytes / SECTOR_BYTES;
    close(fd);
    return rc;
}

static int load_table(const char *name, const char *dev, const char *log)
{
    struct request load = {.head.target_count = 1};
    uint64_t sectors = 0;
    int rc = sectors_of(dev, &sectors);
    if (rc)
        return rc;
    load.table.spec.length = sectors;
    snprintf(load.table.spec.target_type, sizeof(load.table.spec.target_type), "log-writes");
    snprintf(load.table.words, sizeof(load.table.words), "%s %s", dev, log);
    return control(DM_TABLE_LOAD, name, &load);
}

int mapper_create(const char *name, const char *dev, const char *log)
{
    struct request create = {0}, resume = {0};
    int rc = control(DM_DEV_CREATE, name, &create);
    if (rc)
        return rc;
    rc = load_table(name, dev, log);
    if (!rc)
        rc = control(DM_DEV_SUSPEND, name, &resume); /* without the flag it resumes */
    if (rc)
        mapper_remove(name);
    return rc;
}

int mapper_remove(const char *name)
{
    struct request remove = {0};
    return control(DM_DEV_REMOVE, name, &remove);
}

int mapper_mark(const char *name, const char *text)
{
    struct request mark = {0};
    snprintf(mark.message.words, sizeof(mark.message.words), "mark %s", text);
    return control(DM_TARGET_MSG, name, &mark);
}
