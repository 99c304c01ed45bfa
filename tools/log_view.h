/* log_view.h: partitions as a start of the broker would find them. Each shard's journal is
 * recovered by the broker's own code on an environment that changes nothing (io/env_dry.h); one
 * shard at a time, so memory is bounded by one journal. Happy path: views_run() calls on_shard and
 * then on_view for each partition of it that is asked for; segment_open_view() opens one of the
 * view's segments. Failure: a shard that cannot be recovered (shard->rc) has views that are just
 * what the files say, as have all when there is no metadata. Ownership: shard and view are lent to
 * the callbacks. Threads: one. */
#ifndef TOOLS_LOG_VIEW_H
#define TOOLS_LOG_VIEW_H

#include "core/log/log.h"
#include "tools/log_segment.h"

struct log_shard {
    unsigned id;
    int rc; /* of the recovery; -ENOENT: there is no metadata to do it with */
    char reason[512];
    struct log_store *store; /* NULL when rc is not 0 */
};
struct log_view {
    const struct log_partition *p;
    const struct meta_partition *meta; /* NULL: metadata does not know it */
    const struct log_shard *shard;     /* NULL with meta */
    const struct plog *plog;           /* NULL: files only */
    struct inspect_log log;            /* with plog */
    struct inspect_segment *segments;
    unsigned segments_n;
};

struct log_view_calls {
    /* Return LOG_EXIT_*; the worst is returned in the end. Either may be NULL. */
    int (*on_shard)(void *arg, const struct log_shard *shard);
    int (*on_view)(void *arg, struct log_view *view);
    void *arg;
};
int views_run(const struct log_options *o, struct log_tree *t, const struct log_view_calls *calls);

/* The file of the partition that belongs to this segment, or NULL. */
const struct log_segment_file *view_file(const struct log_view *v, int64_t base_offset);
/* 0 or -errno. */
int segment_open_view(const struct log_view *v, unsigned i, uint64_t window_bytes,
                      struct log_segment *ret);

#endif
