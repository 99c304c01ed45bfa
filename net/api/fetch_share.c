#include "net/api/fetch_share.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

struct fetch_share *fetch_share_create(struct shard *front, unsigned owner_index,
                                       uint32_t parts_cap)
{
    struct fetch_share *share =
        calloc(1, sizeof(*share) + (size_t)parts_cap * sizeof(struct fetch_part));
    if (share == NULL)
        return NULL;
    share->front = front;
    share->owner_index = owner_index;
    share->parts_cap = parts_cap;
    return share;
}

struct fetch_part *fetch_share_add(struct fetch_share *share, uint64_t number,
                                   const struct fetch_want *want)
{
    ASSERT(share->parts_n < share->parts_cap);
    struct fetch_part *part = &share->parts[share->parts_n++];
    part->number = number;
    part->want = *want;
    part->high_watermark = part->log_start = part->diverging_end = -1;
    part->diverging_epoch = part->leader_epoch = -1;
    part->share = share;
    return part;
}

static bool share_is_local(const struct fetch_share *share)
{
    return share->owner_index == share->front->index;
}

/* ---- answer ---- */

static void on_answer_msg(void *shard, struct env_msg *msg)
{
    struct fetch_share *share = container_of(msg, struct fetch_share, msg);
    ASSERT(shard == share->front);
    share->answered = true;
    share->on_answer(share);
}

static void share_answer(struct fetch_share *share)
{
    share->state = FETCH_ANSWERED;
    if (share_is_local(share)) {
        on_answer_msg(share->front, &share->msg);
        return;
    }
    share->msg.run = on_answer_msg;
    env_post(share->owner->env, share->front->index, &share->msg);
}

/* ---- checking a part ---- */

static void part_check_diverging(struct fetch_part *part, const struct plog *p)
{
    int32_t epoch;
    int64_t end;
    if (part->want.last_fetched_epoch < 0)
        return;
    plog_epoch_end(p, part->want.last_fetched_epoch, &epoch, &end);
    if (epoch < 0) {
        part->error = KAFKA_OFFSET_OUT_OF_RANGE;
    } else if (epoch < part->want.last_fetched_epoch || end < part->want.offset) {
        part->diverging_epoch = epoch;
        part->diverging_end = end;
    }
}

/* What can be told without reading; NULL: the part has an error, or a diverging epoch. */
static struct plog *part_check(struct fetch_part *part)
{
    struct plog *p = log_store_find(part->share->owner->logs, part->number);
    if (p == NULL) {
        part->error = KAFKA_NOT_LEADER_OR_FOLLOWER;
        return NULL;
    }
    if (plog_is_offline(p)) {
        part->error = KAFKA_KAFKA_STORAGE_ERROR;
        return NULL;
    }
    part->leader_epoch = plog_leader_epoch(p);
    part->high_watermark = plog_high_watermark(p);
    part->log_start = plog_start_offset(p);
    part->error = fanout_check_epoch(part->want.current_leader_epoch, part->leader_epoch);
    if (part->error != KAFKA_NONE)
        return NULL;
    part_check_diverging(part, p);
    if (part->error != KAFKA_NONE || part->diverging_epoch >= 0)
        return NULL;
    if (part->want.offset < part->log_start || part->want.offset > plog_end_offset(p)) {
        part->error = KAFKA_OFFSET_OUT_OF_RANGE;
        return NULL;
    }
    return p;
}

/* What a part adds to min_bytes; some at least when there is a record. */
static uint64_t part_available(const struct fetch_part *part, const struct plog *p)
{
    if (part->want.offset >= plog_high_watermark(p))
        return 0;
    uint64_t bytes =
        MIN(plog_available_bytes(p, part->want.offset), (uint64_t)MAX(part->want.max_bytes, 0));
    return MAX(bytes, 1);
}

/* ---- reading ---- */

/* A client that asks in a version from before zstd must not be sent any. */
static bool read_has_zstd(const struct plog_read *read)
{
    uint8_t bytes[BATCH_HEADER_BYTES];
    unsigned at = 0, have = 0;
    size_t skip = 0; /* of the rest of the batch before */
    for (size_t pos = 0; at < read->iov_n;) {
        size_t left = read->iov[at].iov_len - pos;
        size_t take = MIN(left, skip > 0 ? skip : sizeof(bytes) - have);
        if (skip > 0) {
            skip -= take;
        } else {
            memcpy(bytes + have, (const uint8_t *)read->iov[at].iov_base + pos, take);
            have += (unsigned)take;
        }
        pos += take;
        if (pos == read->iov[at].iov_len) {
            at++;
            pos = 0;
        }
        if (have < sizeof(bytes))
            continue;
        struct batch_header h;
        if (batch_peek(bytes, sizeof(bytes), &h) < 0)
            return false; /* the log has checked them; the client will see */
        if (batch_codec_of(h.attributes) == BATCH_ZSTD)
            return true;
        skip = h.len_bytes - sizeof(bytes);
        have = 0;
    }
    return false;
}

/* Clients take a time-out in a Fetch answer for a bug of the broker. */
static int16_t error_of_read(int rc)
{
    int16_t error = kafka_error_of(rc);
    return error == KAFKA_REQUEST_TIMED_OUT ? KAFKA_UNKNOWN_SERVER_ERROR : error;
}

static void read_take(struct fetch_read *read)
{
    struct fetch_part *part = read->part;
    if (read->read.rc != 0)
        part->error = error_of_read(read->read.rc);
    else if (!part->share->zstd_known && read_has_zstd(&read->read))
        part->error = KAFKA_UNSUPPORTED_COMPRESSION_TYPE;
    else if (read->read.len_bytes > 0)
        part->records = read;
    struct plog *p = log_store_peek(part->share->owner->logs, part->number);
    if (p != NULL && part->records != NULL) /* it may have gone on while the disk was read */
        part->high_watermark = plog_high_watermark(p);
}

static void read_done(struct fetch_share *share)
{
    if (--share->reads_pending == 0)
        share_answer(share);
}

static void on_read(struct plog_read *r)
{
    struct fetch_read *read = container_of(r, struct fetch_read, read);
    read_take(read);
    read_done(read->part->share);
}

/* Bytes of the budget that it takes: those of a read that is still under way are not known yet, so
 * as many as it may give. */
static uint32_t part_read(struct fetch_part *part, struct plog *p, uint32_t max_bytes, bool first)
{
    struct fetch_share *share = part->share;
    struct fetch_read *read = calloc(1, sizeof(*read));
    if (read == NULL) {
        part->error = KAFKA_UNKNOWN_SERVER_ERROR;
        return 0;
    }
    read->part = part;
    read->next = share->reads;
    share->reads = read;
    read->read.offset = part->want.offset;
    read->read.max_bytes = max_bytes;
    read->read.at_least_one = first;
    read->read.splice_min_bytes = share->splice_min_bytes;
    share->reads_pending++;
    if (plog_read(p, &read->read, on_read) == 0)
        return max_bytes;
    share->reads_pending--; /* this is not the last: share_read() holds one */
    read_take(read);
    return part->records == NULL ? 0 : read->read.len_bytes;
}

static void share_read(struct fetch_share *share)
{
    share->state = FETCH_READING;
    share->reads_pending = 1; /* this function */
    uint32_t left = share->max_bytes;
    bool first = true;
    for (uint32_t i = 0; i < share->parts_n && !share->dropped; i++) {
        struct fetch_part *part = &share->parts[i];
        plog_watch_clear(&part->watch);
        struct plog *p = part_check(part);
        uint32_t max_bytes = MIN(left, (uint32_t)MAX(part->want.max_bytes, 0));
        if (p != NULL && part->want.offset >= part->high_watermark)
            plog_hurry(p);
        if (p == NULL || part->want.offset >= part->high_watermark || (max_bytes == 0 && !first))
            continue;
        uint32_t used = part_read(part, p, max_bytes, first);
        left -= MIN(left, used);
        first = first && part->error != KAFKA_NONE;
    }
    read_done(share);
}

/* ---- waiting ---- */

static void on_watch(struct plog_watch *w)
{
    struct fetch_part *part = container_of(w, struct fetch_part, watch);
    struct fetch_share *share = part->share;
    struct plog *p = log_store_find(share->owner->logs, part->number);
    uint64_t before = part->available_bytes;
    part->available_bytes = p == NULL ? 0 : part_available(part, p);
    share->available_bytes += part->available_bytes - before;
    /* No more than before: it was not called for new records but because the partition goes. */
    if (part->available_bytes <= before || share->available_bytes >= share->min_bytes)
        share_read(share);
    else
        plog_watch_set(p, w);
}

static void watches_clear(struct fetch_share *share)
{
    for (uint32_t i = 0; i < share->parts_n; i++)
        plog_watch_clear(&share->parts[i].watch);
}

/* False: there is something to tell already. */
static bool share_check(struct fetch_share *share)
{
    for (uint32_t i = 0; i < share->parts_n; i++) {
        struct fetch_part *part = &share->parts[i];
        struct plog *p = part_check(part);
        if (p == NULL)
            return false;
        part->available_bytes = part_available(part, p);
        share->available_bytes += part->available_bytes;
        if (share->available_bytes >= share->min_bytes)
            return false;
        part->watch.run = on_watch;
        plog_watch_set(p, &part->watch);
    }
    return true;
}

static void share_run(struct fetch_share *share)
{
    share->state = FETCH_WAITING;
    if (share->min_bytes == 0 || !share_check(share))
        share_read(share);
}

static void on_start_msg(void *shard, struct env_msg *msg)
{
    struct fetch_share *share = container_of(msg, struct fetch_share, msg);
    share->owner = shard;
    share_run(share);
}

void fetch_share_start(struct fetch_share *share, void (*on_answer)(struct fetch_share *share),
                       void *arg)
{
    share->on_answer = on_answer;
    share->arg = arg;
    share->started = true;
    if (share_is_local(share)) {
        on_start_msg(share->front, &share->msg);
        return;
    }
    share->msg.run = on_start_msg;
    env_post(share->front->env, share->owner_index, &share->msg);
}

static void on_hurry_msg(void *shard, struct env_msg *msg)
{
    struct fetch_share *share = container_of(msg, struct fetch_share, hurry_msg);
    ASSERT(shard == share->owner);
    if (share->state != FETCH_WAITING)
        return;
    share->dropped = share->drop;
    if (share->dropped)
        watches_clear(share);
    share_read(share);
}

void fetch_share_hurry(struct fetch_share *share, bool drop)
{
    if (share->answered || share->hurried)
        return;
    share->hurried = true;
    share->drop = drop;
    if (share_is_local(share)) {
        on_hurry_msg(share->front, &share->hurry_msg);
        return;
    }
    share->hurry_msg.run = on_hurry_msg;
    env_post(share->front->env, share->owner_index, &share->hurry_msg);
}

/* ---- release ---- */

static void share_free(struct fetch_share *share)
{
    for (struct fetch_read *read; (read = share->reads) != NULL;) {
        share->reads = read->next;
        plog_read_release(&read->read);
        free(read);
    }
    free(share);
}

static void on_release_msg(void *shard, struct env_msg *msg)
{
    struct fetch_share *share = container_of(msg, struct fetch_share, msg);
    ASSERT(shard == share->owner);
    share_free(share);
}

void fetch_share_release(struct fetch_share *share)
{
    ASSERT(!share->started || share->answered);
    if (!share->started || share_is_local(share)) {
        share_free(share);
        return;
    }
    share->msg.run = on_release_msg;
    env_post(share->front->env, share->owner_index, &share->msg);
}
