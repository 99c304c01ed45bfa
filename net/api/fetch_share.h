/* fetch_share.h: the part of one fetch that one shard owns: its partitions, watched while there is
 * nothing to answer, then read.
 *
 * Happy path: the front fills the parts and starts the share, which goes to the owner. That checks
 *   the partitions; with nothing to tell yet and leave to wait it watches them. Once there is
 *   enough, or the front hurries it, it reads what the limits allow and comes back: on_answer()
 *   runs on the front. The records stay lent until fetch_share_release().
 * Failure: every part has its own error; nothing fails as a whole.
 * Ownership: the share is a block of its own, for it outlives the request: a hurry may still be
 *   under way when the answer has been sent. The front has it until the start and from the answer
 *   to the release, the owner else; the owner frees it. Messages between two shards keep their
 *   order, so the release is the last thing that the owner hears of a share.
 * Threads: as said; a share of the front's own shard takes the same path without messages. */
#ifndef NET_API_FETCH_SHARE_H
#define NET_API_FETCH_SHARE_H

#include "core/shard/shard.h"
#include "net/api/fanout.h"
#include "net/api/fetch_session.h"

struct fetch_share;

struct fetch_read { /* the records of one part */
    struct plog_read read;
    struct fetch_part *part;
    struct fetch_read *next;
};

struct fetch_part {
    /* in */
    uint64_t number;
    struct fetch_want want;
    /* out */
    int16_t error;
    int32_t leader_epoch;
    int64_t high_watermark, log_start; /* -1: unknown */
    int32_t diverging_epoch;           /* -1: none */
    int64_t diverging_end;
    struct fetch_read *records; /* NULL: none */
    /* the owner's */
    struct fetch_share *share;
    struct plog_watch watch;
    uint64_t available_bytes;
};

struct fetch_share {
    struct env_msg msg; /* start, answer, release: never two at a time */
    struct env_msg hurry_msg;
    struct shard *front;
    unsigned owner_index;
    void *arg;
    void (*on_answer)(struct fetch_share *share);
    /* in */
    uint64_t min_bytes; /* of this share; 0: does not wait */
    uint32_t max_bytes;
    uint32_t splice_min_bytes; /* of a part; 0: never */
    bool zstd_known;           /* the client's version can be sent zstd */
    /* the front's */
    bool started, answered, hurried;
    bool drop; /* goes with the hurry: nobody wants the records any more */
    /* the owner's */
    bool dropped;
    struct shard *owner;
    enum { FETCH_CHECKING, FETCH_WAITING, FETCH_READING, FETCH_ANSWERED } state;
    uint64_t available_bytes; /* over all parts */
    unsigned reads_pending;
    struct fetch_read *reads; /* all, to be released */
    uint32_t parts_n, parts_cap;
    struct fetch_part parts[];
};

struct fetch_share *fetch_share_create(struct shard *front, unsigned owner_index,
                                       uint32_t parts_cap); /* NULL: no memory */
/* Before the start: the share is filled in request order. */
struct fetch_part *fetch_share_add(struct fetch_share *share, uint64_t number,
                                   const struct fetch_want *want);
void fetch_share_start(struct fetch_share *share, void (*on_answer)(struct fetch_share *share),
                       void *arg);
/* Ends the waiting; after the answer, or a second time, it does nothing. */
void fetch_share_hurry(struct fetch_share *share, bool drop);
/* Records given back, share gone. Started and answered, or never started. */
void fetch_share_release(struct fetch_share *share);

#endif
