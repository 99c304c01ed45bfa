#include "io/dirlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/logger.h"

enum { RETRY_MS = 20, SAY_AFTER_MS = 1000, DIR_MODE = 0755, LOCK_MODE = 0644 };

static int64_t clock_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* mkdir -p. That the new names are durable is for the owner of the data to see to. */
static int dirs_make(const char *dir)
{
    char *path = strdup(dir);
    if (path == NULL)
        return -ENOMEM;
    int rc = 0;
    for (char *at = path + 1; rc == 0; at++) {
        char was = *at;
        if (was != '/' && was != '\0')
            continue;
        *at = '\0';
        if (mkdir(path, DIR_MODE) < 0 && errno != EEXIST)
            rc = -errno;
        *at = was;
        if (was == '\0')
            break;
    }
    free(path);
    return rc;
}

static int lock_wait(int fd, const char *dir, unsigned timeout_ms)
{
    int64_t start_ms = clock_ms();
    bool said = false;
    for (;;) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        int64_t waited_ms = clock_ms() - start_ms;
        if (waited_ms >= timeout_ms)
            return -EBUSY;
        if (!said && waited_ms >= SAY_AFTER_MS) {
            log_info("waiting for the lock of %s: another process owns it, or its last writes "
                     "are not done",
                     dir);
            said = true;
        }
        nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
    }
}

int dirlock_acquire(const char *dir, unsigned timeout_ms, int *ret_fd)
{
    char *path;
    if (*dir == '\0')
        return -ENOENT;
    int rc = dirs_make(dir);
    if (rc < 0)
        return rc;
    if (asprintf(&path, "%s/.lock", dir) < 0)
        return -ENOMEM;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, LOCK_MODE);
    rc = fd < 0 ? -errno : 0;
    free(path);
    if (rc < 0)
        return rc;
    rc = lock_wait(fd, dir, timeout_ms);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}
