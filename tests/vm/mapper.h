/* mapper.h: device-mapper's log-writes target, through ioctl(2) on /dev/mapper/control: the
 * structures are those of <linux/dm-ioctl.h>, the target's words those of the kernel's document
 * admin-guide/device-mapper/log-writes.
 * Failure: -errno. Threads: any, one call at a time a device. */
#ifndef TESTS_VM_MAPPER_H
#define TESTS_VM_MAPPER_H

/* A device NAME (the first one is /dev/dm-0) that passes everything on to dev, and writes down
 * every write and flush to log. */
int mapper_create(const char *name, const char *dev, const char *log);

/* Everything is in the log when this returns. -EBUSY while it is mounted. */
int mapper_remove(const char *name);

/* Put a text into the log: all that was complete before is in front of it. */
int mapper_mark(const char *name, const char *text);

#endif
