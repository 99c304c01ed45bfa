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
enum { PF_EXITING = 0x4 }; /* include/linux/sched.h; shown in /proc/PID/stat, proc(5) */

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

/* ---- who owns it ---- */

struct owner {
    int pid;
    unsigned long long started; /* field 22 of /proc/PID/stat: tells a reused pid apart */
};

/* False: there is no such process, or it is a zombie or on its way out (then its last writes may
 * still hold the lock, and waiting is right). */
static bool process_lives(int pid, unsigned long long *ret_started)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    size_t len = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[len] = '\0';
    char *at = strrchr(text, ')'); /* the name may hold anything */
    char state;
    unsigned flags;
    if (at == NULL || sscanf(at, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2 ||
        sscanf(at,
               ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               ret_started) != 1)
        return false;
    return state != 'Z' && state != 'X' && (flags & PF_EXITING) == 0;
}

static void owner_write(int fd)
{
    char text[64];
    unsigned long long started;
    if (!process_lives(getpid(), &started))
        return;
    int len = snprintf(text, sizeof(text), "%d %llu\n", (int)getpid(), started);
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len)
        log_debug("the lock file could not be written: %s", strerror(errno));
}

static bool owner_lives(int fd, int *ret_pid)
{
    char text[64];
    struct owner owner;
    unsigned long long started;
    ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
    if (len <= 0)
        return false;
    text[len] = '\0';
    if (sscanf(text, "%d %llu", &owner.pid, &owner.started) != 2 ||
        !process_lives(owner.pid, &started) || started != owner.started)
        return false;
    *ret_pid = owner.pid;
    return true;
}

static int lock_wait(int fd, int operation, const char *dir, unsigned timeout_ms)
{
    int pid;
    int64_t start_ms = clock_ms();
    bool said = false;
    for (;;) {
        if (flock(fd, operation | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        int64_t waited_ms = clock_ms() - start_ms;
        if (waited_ms >= timeout_ms)
            return -EBUSY;
        bool look = operation == LOCK_SH || waited_ms >= SAY_AFTER_MS;
        if (look && owner_lives(fd, &pid)) {
            log_info("%s is in use by process %d", dir, pid);
            return -EBUSY;
        }
        if (!said && waited_ms >= SAY_AFTER_MS) {
            log_info("waiting for the lock of %s: the last writes of its owner are not done", dir);
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
    rc = lock_wait(fd, LOCK_EX, dir, timeout_ms);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    owner_write(fd);
    *ret_fd = fd;
    return 0;
}

int dirlock_share(const char *dir, unsigned timeout_ms, int *ret_fd)
{
    char *path;
    if (asprintf(&path, "%s/.lock", dir) < 0)
        return -ENOMEM;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : 0;
    free(path);
    if (rc == 0)
        rc = lock_wait(fd, LOCK_SH, dir, timeout_ms);
    if (rc == 0)
        *ret_fd = fd;
    else if (fd >= 0)
        close(fd);
    return rc;
}
