/* serve_dirs.h: the directories that a broker owns while it runs, and the meta.properties in each,
 *   which is kept twice, with a checksum: either of them suffices.
 *
 * Happy path: dirs_open() makes what is missing, locks every directory and reads its properties;
 *   once the cluster's id is known, dirs_check() holds them against it and dirs_write() writes
 *   those that are missing.
 * Failure: -errno, with one line in reason that names the directory.
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
/* Do they belong to this cluster? is_new: it was made just now, so none may belong to any. */
int dirs_check(const struct serve_dirs *d, const struct meta_uuid *cluster_id, bool is_new,
               char *reason, size_t reason_size);
/* Properties for the directories that have none, durable. */
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
