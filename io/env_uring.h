/* env_uring.h: the environment (env.h) on the real machine: one io_uring per shard, one helper
 * thread per shard for names, one mailbox per pair of shards.
 *
 * Happy path: the main thread creates one group for all shards; each shard's thread creates its
 *   env, turns it for ever, and destroys it; then the main thread destroys the group.
 * Failure: creation returns -errno and leaves *ret alone: -ENOSYS below the minimum (io_probe says
 *   why), -ENOMEM, -EMFILE. What is only an optimisation falls back (README.md has the list).
 * Ownership: fixed regions, receive memory, lock descriptors and the group are borrowed until
 *   env_destroy(). Receive buffers and env_files belong to the environment.
 * Destroying: cancels what waits for a peer, waits for what is on its way to a device, and calls
 *   nothing back. Ops, buffers and step arrays in flight must stay valid until env_destroy()
 *   returns. Files still open are closed. No other shard may post to this one any more.
 * Sockets are blocking ones (no O_NONBLOCK): the ring does the waiting.
 * Threads: an env is created, used and destroyed on its shard's thread (SINGLE_ISSUER). */
#ifndef IO_ENV_URING_H
#define IO_ENV_URING_H

#include <stdbool.h>

#include "io/env.h"

struct io_features;
struct env_uring_group; /* shared by the shards of a process: mailboxes, ring and bell descriptors
                         */

int env_uring_group_create(unsigned count, struct env_uring_group **ret);
void env_uring_group_destroy(struct env_uring_group *group);

/* Run msg on shard `to` from a thread that is no shard (a stop request, say); msg->from is then the
 * number of shards. May come before that shard's env exists: it is run when it does.
 * Returns 0 or -EINVAL (no such shard). Threads: any. */
int env_uring_group_wake(struct env_uring_group *group, unsigned to, struct env_msg *msg);

struct env_uring_config {
    unsigned index;                /* this shard */
    struct env_uring_group *group; /* NULL: this shard is the only one */
    unsigned entries;              /* of the submission queue; 0: 1024 */
    const struct iovec *fixed;     /* memory to register where it is used, at most 4 regions;
                                    * refused: does without */
    unsigned fixed_n;
    /* Locks of directories. Registered in the ring, so that the kernel holds them until the last
     * write of a killed process has landed; refusing that is an error. */
    const int *lock_fds;
    unsigned lock_fds_n;
    unsigned busy_poll_us;  /* look for work so long before each sleep; 0: sleep at once */
    unsigned flush_poll_us; /* stay awake for synced writes that usually take no longer; 0: sleep */
    unsigned recv_buffers, recv_buffer_bytes; /* for env_recv_any; 0: none, it says -ENOBUFS */
    void *recv_memory;                        /* for those; NULL: mapped by the environment */
    void *shard;                              /* handed to message handlers */
    const struct io_features *features;       /* NULL: probes for itself */
};
int env_uring_create(const struct env_uring_config *config, struct env **ret);

/* The file system refused O_DIRECT: this file goes through the page cache. Worth a warning. */
bool env_uring_file_buffered(const struct env_file *file);
/* Whether any of the fixed regions is registered by now. */
bool env_uring_has_fixed(const struct env *env);

#endif
