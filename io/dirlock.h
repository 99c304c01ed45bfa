/* dirlock.h: one process owns a data or journal directory.
 * Happy path: acquire before anything in the directory is read; hand the descriptor to every ring
 *   (env_uring_config.lock_fds); close it at the very end.
 * Why the rings: a killed process's writes may still land after its death. flock() belongs to the
 *   open file, and a ring keeps its registered files until its last operation is done; so the lock
 *   is granted only when nothing of the old process can change the directory any more.
 * Failure: -errno; -EBUSY: somebody held it all the time.
 * Threads: any; blocks. Says on the log when it waits for more than a second. */
#ifndef IO_DIRLOCK_H
#define IO_DIRLOCK_H

/* Makes the directory (and those above it) if missing, and in it the file .lock, Kafka's name. */
int dirlock_acquire(const char *dir, unsigned timeout_ms, int *ret_fd);
/* To read only, writing nothing: several may share it, and it keeps an owner out. An owner that
 * lives is told at once. -ENOENT: the directory has no lock file, so nobody ever owned it. */
int dirlock_share(const char *dir, unsigned timeout_ms, int *ret_fd);

#endif
