/* meta_log.h: the durable metadata log: a pair of files, both hold everything (kept twice), named
 *   penstock-metadata.<generation>.a and .b; see README.md for what is in them.
 * Happy path: open replays into an image; append writes the record to both files, flushed, then
 *   on_done. Snapshots bound the length: when records since the last snapshot outweigh it, a new
 *   generation of both files is written beside the old and takes over.
 * Failure: a damaged or torn copy is repaired from the other at open; if both are damaged at the
 *   same record, open fails with -EIO and names the place (ret_reason). A failed append is sticky:
 *   all later ones fail with -EIO, nothing is half applied. Only when there was no room or memory
 *   for the next generation (-ENOSPC, -ENOMEM, -EFBIG) the log goes on: then all that was queued
 *   fails, and the caller starts again from the image before the first of them. A record whose
 *   append failed may still be there after the next open, as with any lost answer.
 * Threads: shard 0 only. */
#ifndef CORE_META_META_LOG_H
#define CORE_META_META_LOG_H

#include "core/meta/meta.h"
#include "io/env.h"

struct meta_log;
struct meta_append;
typedef void (*meta_append_fn)(struct meta_append *a, int rc);
struct meta_append { /* lent from meta_log_append until on_done */
    meta_append_fn on_done;
    struct list_node link;          /* private */
    uint8_t *bytes;                 /* private: the encoded record */
    uint32_t len_bytes;             /* private */
    const struct meta_image *image; /* private: lent as well */
};

/* Blocking (env *_wait forms). dir exists. Makes an empty log when there is none. ret_image: the
 * caller's. reason_size bytes of text in reason on failure. */
int meta_log_open(struct env *env, const char *dir, const struct topic_config *defaults,
                  struct meta_log **ret, struct meta_image **ret_image, char *reason,
                  size_t reason_size);
/* The same with files of a multiple of size_min_bytes, itself a multiple of BLOCK_BYTES;
 * meta_log_open takes META_LOG_SIZE_MIN. */
#define META_LOG_SIZE_MIN (1u << 20)
int meta_log_open_sized(struct env *env, const char *dir, const struct topic_config *defaults,
                        uint64_t size_min_bytes, struct meta_log **ret,
                        struct meta_image **ret_image, char *reason, size_t reason_size);
/* Appends are in order; several may be queued. `image` is the state after this record (borrowed
 * until on_done), needed when a snapshot is due; the record itself is not lent. on_done may append
 * again, but not close. */
void meta_log_append(struct meta_log *, struct meta_append *, const struct meta_record *,
                     const struct meta_image *image, meta_append_fn on_done);
int meta_log_append_wait(struct meta_log *, const struct meta_record *,
                         const struct meta_image *image);
bool meta_log_idle(const struct meta_log *);
void meta_log_close(struct meta_log *); /* nothing may be in flight */

#endif
