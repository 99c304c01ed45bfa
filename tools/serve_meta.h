/* serve_meta.h: brings the metadata log up to date at start: cluster, directories, shard count,
 * leader epochs, and that the broker runs.
 * Failure: -errno with one line in reason; nothing is left open.
 * Threads: shard 0's, before the other shards open their stores. */
#ifndef TOOLS_SERVE_META_H
#define TOOLS_SERVE_META_H

#include "core/log/log.h"
#include "core/meta/meta_log.h"
#include "io/env.h"
#include "tools/serve_dirs.h"

struct serve_meta {
    struct meta_log *log;
    struct meta_image *image;
    bool was_clean, is_new;
    const char *data_dirs[META_DIRS_MAX]; /* indexed as meta_partition.dir; borrowed from dirs;
                                           * NULL: nobody can tell where that one was */
    _Atomic uint64_t dirs_offline;        /* log_config.dirs_offline */
};

/* log: how stores are to be opened, with the new shard count; directories and memory are not set
 * yet. A start with fewer shards drains the journals of the others here. */
int serve_meta_open(struct env *env, struct serve_dirs *dirs, const struct topic_config *defaults,
                    const struct log_config *log, int32_t node_id, struct serve_meta *ret,
                    char *reason, size_t reason_size);
/* The last record of a clean stop. */
int serve_meta_stop(struct serve_meta *m);
void serve_meta_close(struct serve_meta *m);

#endif
