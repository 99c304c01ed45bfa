/* meta_log_private.h: the state shared by meta_log.c (appending) and meta_log_open.c (finding
 * and repair). Nobody else includes it. */
#ifndef CORE_META_META_LOG_PRIVATE_H
#define CORE_META_META_LOG_PRIVATE_H

#include <limits.h>

#include "core/meta/meta_log.h"
#include "core/meta/meta_replay.h"

enum meta_log_state {
    META_LOG_IDLE,
    META_LOG_WRITE_A, /* the records in `taken` to copy a, */
    META_LOG_WRITE_B, /* and once that is durable to copy b */
    META_LOG_MAKE,    /* files of the next generation */
    META_LOG_FILL_A,  /* the snapshot into them */
    META_LOG_FILL_B,
    META_LOG_TAKE_OVER, /* give them their names, then remove the old generation */
    META_LOG_DROP,      /* remove the files of a generation that could not be made */
    META_LOG_REFUSE,    /* one harmless operation, so that no callback runs inside append */
    META_LOG_STATES,
};

/* One generation: a pair of files with the same bytes. */
struct meta_generation {
    uint64_t number, size_bytes;
    struct env_file *file[META_LOG_COPIES];
    uint64_t end_bytes; /* of the last frame */
    uint64_t sequence;  /* of the last frame */
    uint32_t crc;       /* of the last frame */
};

struct meta_log {
    struct env *env;
    uint64_t size_min_bytes;
    enum meta_log_state state;
    int rc;        /* sticky */
    int refuse_rc; /* what REFUSE tells everything that is queued */
    struct meta_generation now, next;
    uint64_t written_end_bytes, written_sequence; /* of the write in flight */
    uint32_t written_crc;
    struct list_node waiting, taken; /* struct meta_append */
    uint8_t *buf;                    /* starts with the part-filled last block of `now` */
    size_t buf_cap, write_len;
    uint8_t *snapshot; /* header block and frames for `next` */
    size_t snapshot_len;
    struct env_op op; /* the only one */
    struct env_name_step steps[6];
    char dir[PATH_MAX];
    char name[META_LOG_COPIES][PATH_MAX];      /* of `now` */
    char next_name[META_LOG_COPIES][PATH_MAX]; /* of `next` */
    char new_name[META_LOG_COPIES][PATH_MAX];  /* next_name.new: not yet complete */
};

/* Path of a copy: suffix "" or ".new". 0 or -ENAMETOOLONG. */
int meta_log_path(const struct meta_log *, uint64_t generation, unsigned copy, const char *suffix,
                  char ret[PATH_MAX]);
/* Make the next generation from image and wait for it. The log is idle. */
int meta_log_switch_wait(struct meta_log *, const struct meta_image *image);
/* Room in buf for len bytes. 0 or -ENOMEM. */
int meta_log_buf_reserve(struct meta_log *, size_t len);
void meta_log_free(struct meta_log *);

#endif
