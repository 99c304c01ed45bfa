/* env.h: the one seam between a shard and the world: clock, randomness, block files, names,
 * messages between shards, sockets. In production it is io_uring (env_uring.h), in tests and the
 * simulator a modelled device on virtual time (env_mem.h). Core code never calls the system itself.
 *
 * Happy path: the caller embeds a struct env_op in the object that owns the work, submits it, and
 *   env_turn() later runs op->on_done(op) once, on the same thread, with op->res set.
 * Failure: submitting never fails; op->res is a byte count, 0, or -errno. A read or write that ends
 *   short for any reason but end of file is finished by the environment or reported as -EIO, so
 *   res is either everything that was asked for, less at end of file (reads), or an error.
 * Rules: on_done never runs before the submitting call returns, and never while completions are
 *   being reaped: it may submit again, also with the same op. Buffers, iovec arrays, step arrays
 * and path strings are lent from submission until on_done (sends: until on_released). Threads: an
 * environment belongs to one shard; every call and callback runs on that thread. env_post is how
 * shards reach each other. */
#ifndef IO_ENV_H
#define IO_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/base/counter.h"
#include "core/base/list.h"

struct env;
struct env_op;
struct env_file; /* an open block file (O_DIRECT); made by the name steps CREATE and OPEN */
struct env_msg;
struct sock_addr; /* io/sock.h */

typedef void (*env_done_fn)(struct env_op *op);

enum env_op_kind {
    ENV_OP_READ,
    ENV_OP_WRITE,
    ENV_OP_FLUSH,
    ENV_OP_NAMES,
    ENV_OP_ACCEPT,
    ENV_OP_RECV,
    ENV_OP_RECV_ANY,
    ENV_OP_SEND,
    ENV_OP_CONNECT,
    ENV_OP_SPLICE,
    ENV_OP_KINDS,
};

/* A piece of a file that is sent as it is there. The file is one of ENV_STEP_OPEN_CACHED, perhaps
 * of another shard's environment. */
struct env_extent {
    struct env_file *file;
    uint64_t offset_bytes, len_bytes;
};

#define ENV_DSYNC 1u /* write: durable when done (RWF_DSYNC) */
/* Synced write that somebody waits for: the shard may stay awake, background reads let it by. */
#define ENV_AWAITED 16u

/* One operation in flight. Zero it once; the fields below link are set by the env_* calls. */
struct env_op {
    env_done_fn on_done;
    env_done_fn on_released; /* sends only: the kernel no longer reads the buffers; after on_done */
    int res;                 /* out */
    bool more;               /* out, accept: further completions will follow this one */
    bool busy;               /* submitted and on_done not yet run */
    enum env_op_kind kind;
    unsigned flags;
    bool copied;     /* out, zero-copy sends, when released: the kernel has copied after all */
    bool background; /* in, reads: the device may serve all others first */
    struct list_node link; /* private: queue inside the environment */
    struct env_file *file;
    const struct iovec *iov; /* lent; never changed */
    unsigned iov_n;
    uint64_t offset_bytes;
    uint64_t len_bytes;  /* sum over iov */
    uint64_t done_bytes; /* private: progress of a short transfer */
    struct env_name_step *steps;
    unsigned steps_n;
    unsigned failed_step; /* out, names: index of the step that failed */
    int sock;             /* connect: set at submission, for env_sock_shutdown to give up on it */
    const struct sock_addr *addr;    /* connect: lent */
    const struct env_extent *extent; /* splice: lent until on_released */
    void *buf;                       /* recv: where to; recv_any, out: the lent receive buffer */
    uint32_t buf_id;                 /* private: provided-buffer id */
    struct iovec one;                /* room for the single-buffer calls */
    bool waited;                     /* private to the *_wait forms */
    uint64_t failed_known, writes_covered; /* private to losses.h */
    void *private_[4];                     /* private to the environment */
};

/* Blocking operations, on names but for RUN, run in order by a helper thread; the first failure
 * ends the list. Lists in flight at the same time mix. Durable only where it says so: a rename or a
 * created name needs ENV_STEP_SYNC_DIR. */
enum env_step_kind {
    ENV_STEP_MKDIR,    /* path; an existing directory is fine */
    ENV_STEP_RMDIR,    /* path; a missing one is fine */
    ENV_STEP_UNLINK,   /* path; a missing one is fine */
    ENV_STEP_RENAME,   /* path -> path2, replacing */
    ENV_STEP_SYNC_DIR, /* path: fsync of the directory */
    ENV_STEP_SYNC_FS,  /* path: syncfs, all names and completed writes of its file system */
    ENV_STEP_CREATE,   /* path, size_bytes: new file (-EEXIST), space reserved (fallocate); ret_file
                        */
    ENV_STEP_PREWRITE, /* path, size_bytes: as CREATE, but zeros really written and fsynced;
                          ret_file */
    ENV_STEP_OPEN,   /* path: existing file for direct reads and writes; ret_file, ret_size_bytes */
    ENV_STEP_RESIZE, /* path, size_bytes: truncate or extend (reserving space), then fsync */
    ENV_STEP_PUT,    /* path, data, data_len: small file replaced atomically and durably
                      * (temporary name, fsync, rename, directory fsync) */
    ENV_STEP_GET,    /* path: whole small file into ret_data (malloc, caller frees), ret_data_len */
    ENV_STEP_LIST,   /* path: ret_data = NUL-separated entry names (malloc), ret_count of them */
    ENV_STEP_OPEN_CACHED, /* path: existing file, for env_splice only; ret_file. -EOPNOTSUPP where
                           * the file system has no direct writes: they alone leave alone what
                           * has been spliced */
    ENV_STEP_STAT, /* path: ret_size_bytes, ret_free_bytes (of its file system), ret_total_bytes;
                    * ret_flushes_failed of its device, on all shards since the process began */
    ENV_STEP_RUN,  /* run(arg): what takes the processor for longer than a turn may. 0 or -errno.
                    * Alone in its list; path is NULL. What arg leads to is its own until on_done */
    ENV_STEP_KINDS,
};
struct env_name_step {
    enum env_step_kind kind;
    const char *path, *path2;
    int (*run)(void *arg);
    void *arg;
    uint64_t size_bytes;
    const void *data;
    size_t data_len;
    bool sync_later; /* PUT, RESIZE: durable only behind a SYNC_FS */
    struct env_file *ret_file;
    uint64_t ret_size_bytes, ret_free_bytes, ret_total_bytes, ret_flushes_failed;
    uint64_t device;  /* private to the environment */
    bool sync_failed; /* private: and so did a flush of the device */
    char *ret_data;
    size_t ret_data_len, ret_count;
};

/* A message is lent from env_post until run() has been called on the receiving shard. */
typedef void (*env_msg_fn)(void *shard, struct env_msg *msg);
struct env_msg {
    env_msg_fn run;
    struct list_node link; /* private */
    unsigned from;         /* out: sending shard */
};

struct env_ops {
    uint64_t (*now_ns)(struct env *);
    int64_t (*wall_ms)(struct env *);
    uint64_t (*random)(struct env *);
    void (*submit)(struct env *, struct env_op *);
    void (*file_close)(struct env *, struct env_file *);
    int (*file_synced)(struct env *, struct env_file *);
    void (*recv_return)(struct env *, struct env_op *);
    void (*sock_shutdown)(struct env *, int sock);
    void (*sock_close)(struct env *, int sock);
    void (*sock_abort)(struct env *, int sock);                     /* NULL: as sock_close */
    uint64_t (*sock_moved_bytes)(struct env *, int sock);           /* NULL: cannot say */
    bool (*populate)(struct env *, void *memory, size_t len_bytes); /* NULL: needs no such thing */
    void (*post)(struct env *, unsigned to, struct env_msg *);
    void (*turn)(struct env *, uint64_t deadline_ns);
    void (*destroy)(struct env *);
};

enum env_egress { ENV_EGRESS_SEND, ENV_EGRESS_SEND_ZC, ENV_EGRESS_SPLICE, ENV_EGRESS_PATHS };

/* Since creation; others may counter_read() them. */
struct env_counters {
    uint64_t turns, syscalls;
    struct counter_hist turn_us; /* how long they took, from waking up to the next submission */
    uint64_t submissions, completions; /* entries of the rings' queues */
    uint64_t polled; /* reads whose completion was fetched from the device, without an interrupt */
    uint64_t read_bytes, write_bytes, flushes, received_bytes, messages;
    uint64_t egress_bytes[ENV_EGRESS_PATHS]; /* that sockets took, by the way they went */
    uint64_t zc_copied, zc_not_copied;       /* what the usage reports of SEND_ZC say; each one */
};

struct env {
    const struct env_ops *ops;
    unsigned index, count; /* this shard, and how many there are */
    void *shard;           /* handed to message handlers */
    struct env_counters counters;
};

static inline bool env_op_is_synced(const struct env_op *op)
{
    return op->kind == ENV_OP_WRITE && (op->flags & ENV_DSYNC) != 0;
}

static inline bool env_op_is_awaited(const struct env_op *op)
{
    return env_op_is_synced(op) && (op->flags & ENV_AWAITED) != 0;
}

/* Monotonic, nanoseconds, read once a turn. */
static inline uint64_t env_now_ns(struct env *env)
{
    return env->ops->now_ns(env);
}
/* Milliseconds since 1970, as record timestamps. */
static inline int64_t env_wall_ms(struct env *env)
{
    return env->ops->wall_ms(env);
}
static inline uint64_t env_random(struct env *env)
{
    return env->ops->random(env);
}
static inline void env_post(struct env *env, unsigned to, struct env_msg *msg)
{
    env->ops->post(env, to, msg);
}
/* Submit what is queued, wait for at least one completion or message or until deadline_ns
 * (UINT64_MAX: as long as it takes; 0: do not wait), then run every callback that is due. */
static inline void env_turn(struct env *env, uint64_t deadline_ns)
{
    env->ops->turn(env, deadline_ns);
}
/* Nothing may be in flight on the file. */
static inline void env_file_close(struct env *env, struct env_file *file)
{
    env->ops->file_close(env, file);
}
/* Pages of memory that will be written soon are made present beside the shard, which then does not
 * wait for them when it first touches them. Only a hint, one at a time: false while another is
 * under way. The memory stays mapped until env_destroy. */
static inline bool env_populate(struct env *env, void *memory, size_t len_bytes)
{
    return env->ops->populate == NULL || env->ops->populate(env, memory, len_bytes);
}
/* As the end of a flush, where a SYNC_FS stood for one: it began when no write to the file was in
 * flight, it has succeeded, and none is in flight now. 0, or -EIO (see env_flush). */
static inline int env_file_synced(struct env *env, struct env_file *file)
{
    return env->ops->file_synced(env, file);
}
static inline void env_destroy(struct env *env)
{
    if (env != NULL)
        env->ops->destroy(env);
}

/* Offsets, lengths and addresses are multiples of BLOCK_BYTES. */
void env_readv(struct env *, struct env_op *, struct env_file *, const struct iovec *iov,
               unsigned iov_n, uint64_t offset_bytes, env_done_fn on_done);
void env_read(struct env *, struct env_op *, struct env_file *, void *buf, uint64_t len_bytes,
              uint64_t offset_bytes, env_done_fn on_done);
void env_writev(struct env *, struct env_op *, struct env_file *, const struct iovec *iov,
                unsigned iov_n, uint64_t offset_bytes, unsigned flags, env_done_fn on_done);
void env_write(struct env *, struct env_op *, struct env_file *, const void *buf,
               uint64_t len_bytes, uint64_t offset_bytes, unsigned flags, env_done_fn on_done);
/* fdatasync: all writes to this file that were complete before are durable, with the metadata
 * needed to read them. A failed flush means that the data may be gone (Linux fsync semantics), and
 * not this file's alone: the device's cache is. So when one has failed, on whichever shard (or a
 * synced write, or the sync in a name step), the next flush of each file on that device fails too,
 * once, if writes to it had begun before that no flush has covered; and so do synced writes in
 * flight. SYNC_FS does not say so: who relies on it asks env_file_synced of each file, or compares
 * STAT's ret_flushes_failed with what it was before the writes. */
void env_flush(struct env *, struct env_op *, struct env_file *, env_done_fn on_done);
void env_names(struct env *, struct env_op *, struct env_name_step *steps, unsigned steps_n,
               env_done_fn on_done);

/* Multishot: on_done once for each connection (res = its fd); when !op->more it has ended. */
void env_accept(struct env *, struct env_op *, int listen_sock, env_done_fn on_done);
/* A new TCP connection: res is its socket, or -errno. */
void env_connect(struct env *, struct env_op *, const struct sock_addr *addr, env_done_fn on_done);
/* What is in flight on the socket ends soon, with what it had or an error; then close it. */
void env_sock_shutdown(struct env *, int sock);
void env_sock_close(struct env *, int sock);
/* Closes, and what the peer has not taken yet is dropped: sends that wait for it are released. */
void env_sock_abort(struct env *, int sock);
/* Bytes that the peer has sent and acknowledged so far: grows as long as it takes part. An
 * environment that cannot say lets it grow with time. */
uint64_t env_sock_moved_bytes(struct env *, int sock);
/* Receive 1..len bytes into buf; res 0: the peer closed. ENV_RECV_ALL: until len or close. */
#define ENV_RECV_ALL 2u
void env_recv(struct env *, struct env_op *, int sock, void *buf, uint32_t len_bytes,
              unsigned flags, env_done_fn on_done);
/* Receive into a buffer of the environment: idle sockets hold no memory. op->buf and res say what
 * came; while res > 0 give it back with env_recv_return before the op is used again. -ENOBUFS: all
 * lent out, retry later. */
void env_recv_any(struct env *, struct env_op *, int sock, env_done_fn on_done);
void env_recv_return(struct env *, struct env_op *);
/* on_done: res bytes were taken by the kernel (all of them, or -errno), a next send may be
 * submitted. on_released: the buffers may change; always once, after on_done. */
void env_sendv(struct env *, struct env_op *, int sock, const struct iovec *iov, unsigned iov_n,
               env_done_fn on_done, env_done_fn on_released);
/* The same; but large pieces are read from where they are when they leave, which may be long after
 * on_done: when the peer has acknowledged them. An environment that cannot do that copies. */
#define ENV_SEND_ZC 4u
void env_sendv_zc(struct env *, struct env_op *, int sock, const struct iovec *iov, unsigned iov_n,
                  env_done_fn on_done, env_done_fn on_released);
/* The same as env_sendv, and more is sent as soon as this is done: packets wait to be filled. */
#define ENV_SEND_MORE 8u
void env_sendv_more(struct env *, struct env_op *, int sock, const struct iovec *iov,
                    unsigned iov_n, env_done_fn on_done, env_done_fn on_released);
/* Sends a piece of a file; flags: 0 or ENV_SEND_MORE. res: all of it, or -errno, when part of it
 * may have left; -EIO when the file is too short. What was sent may stay shared with the file until
 * the peer has taken it, long after on_released: nothing but direct writes may change those bytes.
 */
void env_splice(struct env *, struct env_op *, int sock, const struct env_extent *extent,
                unsigned flags, env_done_fn on_done, env_done_fn on_released);

/* Blocking forms for start, recovery and stop: they turn the environment until the op is done.
 * Return op.res. */
int env_read_wait(struct env *, struct env_file *, void *buf, uint64_t len_bytes,
                  uint64_t offset_bytes);
int env_write_wait(struct env *, struct env_file *, const void *buf, uint64_t len_bytes,
                   uint64_t offset_bytes, unsigned flags);
int env_flush_wait(struct env *, struct env_file *);
int env_names_wait(struct env *, struct env_name_step *steps, unsigned steps_n);

#endif
