/* meta_replay.h: the two copies of a metadata log, as bytes, read as one. Pure: no I/O.
 * Happy path: fill in what is known of both copies and of the header; meta_replay_run(); then image
 *   is the last state and merged what both files should hold.
 * Failure: -EIO and a reason that names the place, when neither copy has what comes next, or when
 *   it is impossible; -ENOMEM.
 * Ownership: the caller's bytes are borrowed; image and merged are the caller's in the end.
 * Threads: one. */
#ifndef CORE_META_META_REPLAY_H
#define CORE_META_META_REPLAY_H

#include "core/meta/meta_codec.h"

#define META_LOG_COPIES 2u
#define META_LOG_SIZE_MAX (1ull << 30) /* a read or write result is an int */
#define META_UNREADABLE                                                                            \
    0xa5 /* stands for bytes that could not be read: never zero, never a frame */

struct meta_copy {
    bool exists, odd_size, header_ok;
    bool whole;         /* out: its own chain, then zeros */
    bool chain_ends;    /* out: its own chain broke before the end of the log, */
    uint64_t break_pos; /* and where */
    uint64_t file_bytes;
    uint8_t *bytes; /* header.size_bytes of them */
};

struct meta_replay {
    struct meta_copy copy[META_LOG_COPIES];
    struct meta_header header;
    const char *name;         /* of copy a, for the reason */
    struct meta_image *image; /* empty before */
    /* Each frame in turn, with its place and its record (NULL: it holds none), or NULL. */
    void (*on_frame)(void *arg, const struct meta_frame *f, uint64_t pos,
                     const struct meta_record *record);
    void *on_frame_arg;
    uint8_t *merged; /* out, aligned_alloc: what both files shall hold */
    uint64_t end_bytes, sequence;
    uint32_t crc;
    struct arena arena; /* private from here: of one record */
    struct meta_snapshot_begin begin;
    unsigned snapshot_left; /* records until its end frame */
    bool snapshot_begun, snapshot_done;
    char *reason;
    size_t reason_size;
};

/* The header that counts of those that are there; -EIO with a reason: none does. */
int meta_replay_headers(struct meta_replay *r, const struct meta_header header[META_LOG_COPIES]);
/* A header as it must be in the first block of a file of this generation. */
bool meta_header_fits(const uint8_t block[static 4096], uint64_t generation,
                      struct meta_header *ret);
int meta_replay_run(struct meta_replay *r);
/* penstock-metadata.<generation>.<a|b>, nothing behind it. */
bool meta_name_parse(const char *name, uint64_t *ret_generation, unsigned *ret_copy);
#define META_LOG_PREFIX "penstock-metadata."

#endif
