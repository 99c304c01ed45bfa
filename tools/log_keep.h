/* log_keep.h: changing files of a data directory so that nothing is lost: what a change takes away
 * is kept under the same name in DIR/.repair-TIME/, made with the first change.
 * Happy path: keep_init(), any of the changes, keep_fini(). Each change is durable when it returns.
 * Failure: -errno; then the file is as it was, or as it was kept.
 * Threads: one. */
#ifndef TOOLS_LOG_KEEP_H
#define TOOLS_LOG_KEEP_H

#include "tools/log_tree.h"

struct log_keep {
    const struct log_tree *tree;
    char stamp[48];               /* ".repair-20260131T120000Z" */
    bool made[META_DIRS_MAX + 1]; /* the folder in each data directory, and the journals' */
};

void keep_init(struct log_keep *k, const struct log_tree *t);
/* The folder of this data directory (tree order, then the journals'), if there is one; or NULL. */
const char *keep_folder(const struct log_keep *k, unsigned i, char buf[PATH_MAX]);

/* A file or directory goes away. -ENOENT: it is not there. */
int keep_move(struct log_keep *k, const char *path);
/* [pos, pos + len) of the file becomes data. */
int keep_overwrite(struct log_keep *k, const char *path, uint64_t pos, const uint8_t *data,
                   uint64_t len_bytes);
/* The file becomes data, whether it was there or not. */
int keep_replace(struct log_keep *k, const char *path, const uint8_t *data, uint64_t len_bytes);
/* The file ends at size_bytes. */
int keep_cut(struct log_keep *k, const char *path, uint64_t size_bytes);

#endif
