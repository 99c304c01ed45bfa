/* device.h: what is known of the file system and the block device under a path.
 * Happy path: device_describe() for each data and journal directory at start and in `doctor`.
 * Failure: -errno if the path cannot be looked at; what the system does not tell stays zero or
 *   empty, as the fields say.
 * Threads: any; blocks. Makes and removes an unnamed file where the file system can. */
#ifndef IO_DEVICE_H
#define IO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct device {
    char fs_type[32]; /* "ext4"; "?" if unknown */
    char source[128]; /* as mounted: "/dev/nvme0n1p2" */
    char name[64];    /* of the whole block device: "nvme0n1"; empty: none (tmpfs, network) */
    bool direct;      /* O_DIRECT can be had */
    uint32_t dio_memory_align_bytes, dio_offset_align_bytes; /* 0: not told */
    bool copy_on_write;    /* overwriting in place moves data: durable space cannot be made ahead */
    bool reflink;          /* can share blocks between files (XFS): as above for such files */
    bool rotational_known; /* what the kernel reports; virtual disks say what they like */
    bool rotational;
    bool write_cache; /* volatile: a flush is needed */
    bool fua;         /* one synced write needs no flush of all */
    bool read_only;
    uint64_t total_bytes, free_bytes; /* free for us, not for root alone */
};

/* The whole device of what st_dev names: of a partition its disk's number, else st_dev itself. */
uint64_t device_disk(dev_t st_dev);

/* path: an existing directory or file. */
int device_describe(const char *path, struct device *ret);

#endif
