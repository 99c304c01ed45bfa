/* serve_dirs.h: the directories that a broker owns while it runs, and the meta.properties in each,
 *   which is kept twice, with a checksum: either of them suffices.
 *
 * Happy path: dirs_open() locks every directory and reads its properties; once the cluster's id is
 *   known, dirs_check() holds them against it, dir_make() makes those that are new and not there,
 *   and dirs_write() writes the properties that are missing.
 * Failure: -errno, with one line in reason that names the directory. Only a data directory that is
 *   not that of the journals may be missing, unreadable or damaged: its rc says so, and who knows
 *   the metadata decides.
 * Ownership: locks are held until dirs_close().
 * Threads: the main thread, then shard 0's at start. */
#ifndef TOOLS_SERVE_DIRS_H
#define TOOLS_SERVE_DIRS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/meta/meta.h"

struct serve_dir {
    char path[PATH_MAX];
    int lock_fd;
    int rc; /* 0, or why it cannot be used: -ENOENT when it is not there, and not made yet; -EBADMSG
             * or -EINVAL for its properties */
    bool has_properties;
    struct meta_uuid id, cluster_id; /* id: random when there are no properties yet */
};

struct serve_dirs {
    struct serve_dir data[META_DIRS_MAX];
    unsigned data_n;
    struct serve_dir journal; /* lock_fd -1 when it is one of the data directories */
};

/* journal NULL: the first data directory. */
int dirs_open(struct serve_dirs *d, const char *const *data, unsigned data_n, const char *journal,
              unsigned lock_wait_ms, char *reason, size_t reason_size);
/* Makes and locks one that was not there. */
int dir_make(struct serve_dir *dir, char *reason, size_t reason_size);
/* What dir->rc says. */
const char *dir_trouble(const struct serve_dir *dir);
/* Do they belong to this cluster? is_new: it was made just now, so none may belong to any. */
int dirs_check(const struct serve_dirs *d, const struct meta_uuid *cluster_id, bool is_new,
               char *reason, size_t reason_size);
/* Properties for the directories that can be used and have none, durable. */
int dirs_write(struct serve_dirs *d, const struct meta_uuid *cluster_id, int32_t node_id,
               char *reason, size_t reason_size);
/* Reads them without mending anything. Of meta.properties and meta.properties.copy, number
 * *ret_good counts, and *ret_twice says that the other one is the same. -ENOENT: there is neither;
 * -EBADMSG: neither is whole; -EINVAL: not understood. */
int dir_properties_look(struct serve_dir *dir, unsigned *ret_good, bool *ret_twice);
/* All locks into ret (room for META_DIRS_MAX + 1); how many. */
unsigned dirs_lock_fds(const struct serve_dirs *d, int *ret);
void dirs_close(struct serve_dirs *d);

#endif
