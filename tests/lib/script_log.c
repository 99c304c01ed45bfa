#include "tests/lib/script_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/batch/batch.h"
#include "core/batch/builder.h"

enum {
    BATCHES_MIN = 64,
    DUPLICATE_REACH = 64, /* batches looked back: clients have at most 5 in flight */
};

static void *alloc_zeroed(size_t bytes)
{
    void *p = calloc(1, bytes);
    ASSERT(p != NULL);
    return p;
}

void script_log_init(struct script_log *log, const struct script_config *config,
                     struct script_counters *counters)
{
    *log = (struct script_log){.config = config, .counters = counters};
    list_init(&log->topics);
    list_init(&log->ages);
}

void script_log_fini(struct script_log *log)
{
    struct list_node *node;
    while ((node = list_head(&log->topics)) != NULL)
        script_topic_remove(log, container_of(node, struct script_topic, link));
}

/* ---- topics ---- */

struct script_topic *script_topic_add(struct script_log *log, struct wire_str name,
                                      int32_t partitions)
{
    struct script_topic *t = alloc_zeroed(sizeof(*t));
    t->name = strndup(name.p, (size_t)name.len);
    ASSERT(t->name != NULL);
    be_store64(t->id.b, 0x5c12197ed0000000u); /* any number that is not zero */
    be_store64(t->id.b + 8, ++log->topics_made);
    t->partitions_n = partitions < 1 ? log->config->partitions : partitions;
    t->partitions = alloc_zeroed((size_t)t->partitions_n * sizeof(t->partitions[0]));
    for (int32_t i = 0; i < t->partitions_n; i++)
        list_init(&t->partitions[i].producers);
    list_push_tail(&log->topics, &t->link);
    return t;
}

static void batch_free(struct script_log *log, struct script_batch *b)
{
    list_remove(&b->age);
    log->kept_records -= (uint64_t)(b->end_offset - b->base_offset);
    free(b->data);
    free(b);
}

void script_topic_remove(struct script_log *log, struct script_topic *t)
{
    for (int32_t i = 0; i < t->partitions_n; i++) {
        struct script_partition *p = &t->partitions[i];
        struct list_node *node;
        for (size_t k = p->first; k < p->n; k++)
            batch_free(log, p->batches[k]);
        while ((node = list_pop_head(&p->producers)) != NULL)
            free(container_of(node, struct script_producer, link));
        free(p->batches);
    }
    list_remove(&t->link);
    free(t->partitions);
    free(t->name);
    free(t);
}

struct script_topic *script_topic_find(const struct script_log *log, struct wire_str name)
{
    list_for_each(node, &log->topics) {
        struct script_topic *t = container_of(node, struct script_topic, link);
        if (wire_str_eq(name, t->name))
            return t;
    }
    return NULL;
}

struct script_topic *script_topic_by_id(const struct script_log *log, const struct wire_uuid *id)
{
    list_for_each(node, &log->topics) {
        struct script_topic *t = container_of(node, struct script_topic, link);
        if (memcmp(t->id.b, id->b, sizeof(id->b)) == 0)
            return t;
    }
    return NULL;
}

struct script_partition *script_partition_find(const struct script_log *log, struct wire_str name,
                                               int32_t index)
{
    struct script_topic *t = script_topic_find(log, name);
    return t == NULL || index < 0 || index >= t->partitions_n ? NULL : &t->partitions[index];
}

/* ---- storing ---- */

static void partition_push(struct script_partition *p, struct script_batch *b)
{
    if (p->n == p->cap && p->first > p->n / 2) {
        memmove(p->batches, p->batches + p->first, (p->n - p->first) * sizeof(p->batches[0]));
        p->n -= p->first;
        p->first = 0;
    } else if (p->n == p->cap) {
        p->cap = MAX(p->cap * 2, (size_t)BATCHES_MIN);
        p->batches = reallocarray(p->batches, p->cap, sizeof(p->batches[0]));
        ASSERT(p->batches != NULL);
    }
    p->batches[p->n++] = b;
}

/* The newest batch stays, however many records it has. */
static void log_trim(struct script_log *log)
{
    while (log->config->max_records > 0 && log->kept_records > log->config->max_records &&
           log->ages.next->next != &log->ages) {
        struct script_batch *oldest = container_of(log->ages.next, struct script_batch, age);
        struct script_partition *p = oldest->partition;
        ASSERT(p->batches[p->first] == oldest);
        p->start_offset = oldest->end_offset;
        p->first++;
        batch_free(log, oldest);
    }
}

static void log_store(struct script_log *log, struct script_partition *p, const uint8_t *data,
                      size_t len_bytes, const struct batch_header *came, int32_t records)
{
    struct script_batch *b = alloc_zeroed(sizeof(*b));
    b->data = malloc(len_bytes);
    ASSERT(b->data != NULL);
    memcpy(b->data, data, len_bytes);
    batch_stamp(b->data, p->end_offset, 0);
    b->len_bytes = (uint32_t)len_bytes;
    b->base_offset = p->end_offset;
    b->end_offset = p->end_offset + records;
    b->start_bytes = p->end_bytes;
    b->producer_id = came->producer_id;
    b->producer_epoch = came->producer_epoch;
    b->base_sequence = came->base_sequence;
    b->partition = p;
    p->end_offset = b->end_offset;
    p->end_bytes += len_bytes;
    partition_push(p, b);
    list_push_tail(&log->ages, &b->age);
    log->kept_records += (uint64_t)records;
    log->counters->stored_records += (uint64_t)records;
    log_trim(log);
}

/* ---- damage ---- */

struct damaged { /* the records of a batch that is made anew */
    struct arena arena;
    struct batch_record *records;
    int32_t n;
    uint64_t first; /* number of the first one */
};

/* Whether a fault that is wanted from record `number` on concerns one of the records up to end. */
static bool fault_waits(uint64_t number, uint64_t done, uint64_t end)
{
    return number > 0 && done == 0 && number < end;
}

static bool batch_is_hit(const struct script_log *log, uint64_t end)
{
    const struct script_config *want = log->config;
    const struct script_counters *done = log->counters;
    return fault_waits(want->lose_record, done->lost_records, end) ||
           fault_waits(want->repeat_record, done->repeated_records, end) ||
           fault_waits(want->corrupt_record, done->corrupted_records, end) ||
           fault_waits(want->swap_record, done->swapped_records, end);
}

static const uint8_t *keep(struct arena *a, const uint8_t *data, size_t len)
{
    const uint8_t *copy = arena_dup(a, data, len);
    ASSERT(copy != NULL || len == 0);
    return copy;
}

/* -EBADMSG: the batch does not hold what it says. */
static int damaged_read(struct damaged *d, const uint8_t *data, size_t len_bytes)
{
    struct batch_iter *iter;
    struct batch_record r;
    int rc = batch_iter_open(&iter, data, len_bytes);
    if (rc < 0)
        return rc;
    for (int32_t i = 0; rc == 0 && i < d->n; i++) {
        if (batch_iter_next(iter, &r) != 1) {
            rc = -EBADMSG;
            break;
        }
        d->records[i] = r;
        if (r.key_len >= 0)
            d->records[i].key = keep(&d->arena, r.key, (size_t)r.key_len);
        if (r.value_len >= 0)
            d->records[i].value = keep(&d->arena, r.value, (size_t)r.value_len);
        d->records[i].headers = keep(&d->arena, r.headers, r.headers_len);
    }
    batch_iter_close(iter);
    return rc;
}

static void damage_swap(struct damaged *d, const struct script_config *want,
                        struct script_counters *done)
{
    uint64_t end = d->first + (uint64_t)d->n;
    uint64_t at = MAX(want->swap_record, d->first);
    if (!fault_waits(want->swap_record, done->swapped_records, end) || at + 1 >= end)
        return;
    struct batch_record *r = &d->records[at - d->first], was = r[0];
    r[0] = r[1];
    r[1] = was;
    done->swapped_records = 1;
}

static void damage_corrupt(struct damaged *d, const struct script_config *want,
                           struct script_counters *done)
{
    uint64_t end = d->first + (uint64_t)d->n;
    if (!fault_waits(want->corrupt_record, done->corrupted_records, end))
        return;
    for (uint64_t at = MAX(want->corrupt_record, d->first); at < end; at++) {
        const struct batch_record *r = &d->records[at - d->first];
        if (r->value_len <= 0)
            continue;
        /* Our own copy. */
        uint8_t *last = (uint8_t *)(uintptr_t)&r->value[r->value_len - 1];
        *last = (uint8_t) ~*last;
        done->corrupted_records = 1;
        return;
    }
}

static void record_add(struct batch_builder *b, struct arena *a, const struct batch_record *r)
{
    size_t pos = 0;
    struct batch_record_header *headers =
        arena_array(a, (size_t)MAX(r->header_count, 1), sizeof(*headers));
    ASSERT(headers != NULL);
    for (int32_t i = 0; i < r->header_count; i++) {
        int found = batch_record_header_next(r, &pos, &headers[i]);
        ASSERT(found == 1);
    }
    int rc = batch_builder_add(b, r->timestamp, r->key, r->key_len, r->value, r->value_len, headers,
                               r->header_count);
    ASSERT(rc == 0);
}

/* All but the lost one, the repeated one twice. */
static void damaged_build(struct damaged *d, struct batch_builder *b,
                          const struct script_config *want, struct script_counters *done)
{
    for (int32_t i = 0; i < d->n; i++) {
        uint64_t number = d->first + (uint64_t)i;
        if (number == want->lose_record) {
            done->lost_records = 1;
            continue;
        }
        record_add(b, &d->arena, &d->records[i]);
        if (number == want->repeat_record) {
            record_add(b, &d->arena, &d->records[i]);
            done->repeated_records = 1;
        }
    }
}

static void builder_init_as(struct batch_builder *b, const struct batch_header *came)
{
    batch_builder_init(b, (enum batch_codec)batch_codec_of(came->attributes));
    b->attributes = came->attributes;
    b->base_sequence = came->base_sequence;
    b->producer_id = came->producer_id;
    b->producer_epoch = came->producer_epoch;
    b->append_time = came->max_timestamp;
}

static int store_damaged(struct script_log *log, struct script_partition *p, const uint8_t *data,
                         size_t len_bytes, const struct batch_header *came, uint64_t first)
{
    struct damaged d = {.n = came->record_count, .first = first};
    struct batch_builder b;
    uint8_t *built;
    size_t built_bytes;
    arena_init(&d.arena, SIZE_MAX);
    d.records = arena_array(&d.arena, (size_t)d.n, sizeof(d.records[0]));
    ASSERT(d.records != NULL);
    int rc = damaged_read(&d, data, len_bytes);
    if (rc < 0) {
        arena_fini(&d.arena);
        return rc;
    }
    damage_swap(&d, log->config, log->counters);
    damage_corrupt(&d, log->config, log->counters);
    builder_init_as(&b, came);
    damaged_build(&d, &b, log->config, log->counters);
    if (b.next_offset_delta > 0) {
        rc = batch_builder_finish(&b, &built, &built_bytes);
        ASSERT(rc == 0);
        log_store(log, p, built, built_bytes, came, b.next_offset_delta);
    }
    batch_builder_fini(&b);
    arena_fini(&d.arena);
    return 0;
}

/* The batch of an idempotent producer that is here already, or NULL. */
static const struct script_batch *duplicate_of(const struct script_partition *p,
                                               const struct batch_header *h)
{
    size_t reach = MIN(p->n - p->first, (size_t)DUPLICATE_REACH);
    for (size_t i = p->n; i > p->n - reach && h->producer_id >= 0; i--) {
        const struct script_batch *b = p->batches[i - 1];
        if (b->producer_id == h->producer_id && b->producer_epoch == h->producer_epoch &&
            b->base_sequence == h->base_sequence)
            return b;
    }
    return NULL;
}

/* Notes what comes next. False: another one has to come first, that of a request that went wrong. A
 * producer, or an epoch, that is new may begin anywhere. */
static bool sequence_take(struct script_partition *p, const struct batch_header *h)
{
    struct script_producer *known = NULL;
    int32_t next = (int32_t)(((uint32_t)h->base_sequence + (uint32_t)h->record_count) & INT32_MAX);
    list_for_each(node, &p->producers) {
        struct script_producer *each = container_of(node, struct script_producer, link);
        known = each->id == h->producer_id ? each : known;
    }
    if (known == NULL) {
        known = alloc_zeroed(sizeof(*known));
        *known = (struct script_producer){.id = h->producer_id, .epoch = -1};
        list_push_tail(&p->producers, &known->link);
    }
    if (known->epoch == h->producer_epoch && known->next_sequence != h->base_sequence)
        return false;
    known->epoch = h->producer_epoch;
    known->next_sequence = next;
    return true;
}

int script_partition_append(struct script_log *log, struct script_partition *p, const uint8_t *data,
                            size_t len_bytes, int64_t *ret_base_offset)
{
    struct batch_header h;
    if (batch_peek(data, len_bytes, &h) < 0 || h.len_bytes != len_bytes || h.record_count < 1 ||
        h.last_offset_delta != h.record_count - 1 || !batch_crc_ok(data, &h))
        return -EBADMSG;
    const struct script_batch *duplicate = duplicate_of(p, &h);
    if (duplicate != NULL) {
        log->counters->duplicate_batches++;
        *ret_base_offset = duplicate->base_offset;
        return 0;
    }
    if (h.producer_id >= 0 && !sequence_take(p, &h))
        return -EILSEQ;
    uint64_t first = log->records_seen + 1, end = first + (uint64_t)h.record_count;
    int64_t base_offset = p->end_offset;
    if (!batch_is_hit(log, end))
        log_store(log, p, data, len_bytes, &h, h.record_count);
    else if (store_damaged(log, p, data, len_bytes, &h, first) < 0)
        return -EBADMSG;
    log->records_seen = end - 1;
    *ret_base_offset = base_offset;
    return 0;
}

/* ---- reading ---- */

size_t script_partition_seek(const struct script_partition *p, int64_t offset)
{
    size_t lo = p->first, hi = p->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->batches[mid]->end_offset <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint64_t script_partition_bytes_from(const struct script_partition *p, size_t index)
{
    return index >= p->n ? 0 : p->end_bytes - p->batches[index]->start_bytes;
}

bool script_partition_find_time(const struct script_partition *p, int64_t time_ms,
                                int64_t *ret_offset, int64_t *ret_time_ms)
{
    for (size_t i = p->first; i < p->n; i++) {
        const struct script_batch *b = p->batches[i];
        if (batch_find_time(b->data, b->len_bytes, 0, time_ms, ret_offset, ret_time_ms) == 1)
            return true;
    }
    return false;
}

bool script_partition_find_max_time(const struct script_partition *p, int64_t *ret_offset,
                                    int64_t *ret_time_ms)
{
    bool found = false;
    for (size_t i = p->first; i < p->n; i++) {
        int64_t offset, time_ms;
        const struct script_batch *b = p->batches[i];
        if (batch_find_max_time(b->data, b->len_bytes, 0, &offset, &time_ms) != 1 ||
            (found && time_ms <= *ret_time_ms))
            continue;
        *ret_offset = offset;
        *ret_time_ms = time_ms;
        found = true;
    }
    return found;
}
