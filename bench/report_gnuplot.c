#include "bench/report_gnuplot.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/bytes.h"

enum { SCRIPT, OUTPUT, COMPLAINTS, N_STREAMS }; /* numbered as the child's descriptors */

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t put = write(fd, data, len);
        if (put < 0 && errno != EINTR)
            return -errno;
        data += MAX(put, 0);
        len -= (size_t)MAX(put, 0);
    }
    return lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

/* All that a memfd holds, NUL-terminated, on the heap. */
static int read_memfd(int fd, char **ret_text)
{
    off_t len = lseek(fd, 0, SEEK_END);
    char *text = len < 0 ? NULL : malloc((size_t)len + 1);
    if (text == NULL)
        return -ENOMEM;
    ssize_t got = pread(fd, text, (size_t)len, 0);
    if (got != len) {
        free(text);
        return -EIO;
    }
    text[len] = '\0';
    *ret_text = text;
    return 0;
}

static int spawn(const int fds[N_STREAMS], pid_t *ret_pid)
{
    /* A locale of the user's could change how numbers are written. */
    char path[4096], *env[] = {path, "LC_ALL=C.UTF-8", NULL};
    char *argv[] = {"gnuplot", "-d", "-", NULL};
    const char *search = getenv("PATH");
    posix_spawn_file_actions_t actions;
    snprintf(path, sizeof(path), "PATH=%s", search != NULL ? search : "/usr/bin:/bin");
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return -rc;
    for (int i = 0; i < N_STREAMS && rc == 0; i++)
        rc = posix_spawn_file_actions_adddup2(&actions, fds[i], i);
    if (rc == 0)
        rc = posix_spawnp(ret_pid, "gnuplot", &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

/* Wait for the child, kill it when it takes too long. 0 when it ended with exit code 0. */
static int wait_for(pid_t pid)
{
    int status, rc = 0, pidfd = pidfd_open(pid, 0);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    if (pidfd >= 0 && poll(&ended, 1, REPORT_GNUPLOT_SECONDS_MAX * 1000) == 0) {
        kill(pid, SIGKILL);
        rc = -ETIME;
    }
    if (pidfd >= 0)
        close(pidfd);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return rc < 0 ? rc : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* gnuplot's words go over several lines, with a blank one before. */
static void to_one_line(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++)
        if (!isspace((unsigned char)*from))
            *to++ = *from;
        else if (to > text && to[-1] != ' ')
            *to++ = ' ';
    *to = '\0';
}

static void say(int rc, int complaints, char *reason, size_t reason_size)
{
    char *words = NULL;
    if (rc == -ENOENT)
        snprintf(reason, reason_size, "gnuplot is not installed (Debian: gnuplot-nox)");
    else if (rc == -ETIME)
        snprintf(reason, reason_size, "gnuplot took longer than %d s", REPORT_GNUPLOT_SECONDS_MAX);
    else if (read_memfd(complaints, &words) == 0)
        to_one_line(words);
    if (words != NULL && words[0] != '\0')
        snprintf(reason, reason_size, "gnuplot failed: %s", words);
    else if (rc != -ENOENT && rc != -ETIME)
        snprintf(reason, reason_size, "gnuplot failed: %s", strerror(-rc));
    free(words);
}

int report_gnuplot_run(const char *script, size_t len, char **ret_svg, char *reason,
                       size_t reason_size)
{
    int fds[N_STREAMS], rc = 0;
    pid_t pid = -1;
    for (int i = 0; i < N_STREAMS; i++) {
        fds[i] = memfd_create("gnuplot", MFD_CLOEXEC);
        rc = fds[i] < 0 ? -errno : rc;
    }
    if (rc == 0)
        rc = write_all(fds[SCRIPT], script, len);
    if (rc == 0)
        rc = spawn(fds, &pid);
    if (rc == 0)
        rc = wait_for(pid);
    if (rc == 0)
        rc = read_memfd(fds[OUTPUT], ret_svg);
    if (rc < 0)
        say(rc, fds[COMPLAINTS], reason, reason_size);
    for (int i = 0; i < N_STREAMS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return rc;
}
