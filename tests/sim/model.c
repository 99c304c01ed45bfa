#include "tests/sim/model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define NS_PER_MS UINT64_C(1000000)

void model_violation(struct model *m, const char *fmt, ...)
{
    va_list args;
    if (model_failed(m))
        return;
    va_start(args, fmt);
    vsnprintf(m->violation, sizeof(m->violation), fmt, args);
    va_end(args);
}

static void wrong(struct model *m, const struct model_partition *p, int64_t offset,
                  const char *what, const struct model_batch *b)
{
    char of_batch[64] = "";
    if (b != NULL)
        snprintf(of_batch, sizeof(of_batch), " (batch %" PRIu64 ", %d records)", b->number,
                 (int)b->records);
    model_violation(m, "%s-%d, offset %" PRId64 ": %s%s", p->topic->name, (int)p->index, offset,
                    what, of_batch);
}

static void *grown(void *array, uint64_t n, size_t size)
{
    void *more = realloc(array, n * size);
    ASSERT(more != NULL);
    return more;
}

/* ---- topics and batches ---- */

void model_init(struct model *m)
{
    *m = (struct model){0};
}

static void topic_free(struct model_topic *t)
{
    for (int32_t i = 0; i < t->partitions_n; i++) {
        free(t->partitions[i]->slots);
        free(t->partitions[i]);
    }
    free(t->partitions);
    free(t);
}

void model_fini(struct model *m)
{
    for (struct model_topic *t; (t = m->topics) != NULL;) {
        m->topics = t->next;
        topic_free(t);
    }
    for (uint64_t i = 0; i < m->batches_n; i++)
        free(m->batches[i]);
    free(m->batches);
}

#define TOMBSTONES_MS 86400000 /* the default of delete.retention.ms */

void model_topic_grow(struct model_topic *t, int32_t partitions_n)
{
    t->partitions = grown(t->partitions, (uint64_t)MAX(partitions_n, t->partitions_n),
                          sizeof(struct model_partition *));
    for (; t->partitions_n < partitions_n; t->partitions_n++) {
        struct model_partition *p = calloc(1, sizeof(*p));
        ASSERT(p != NULL);
        *p = (struct model_partition){.topic = t, .index = t->partitions_n};
        t->partitions[t->partitions_n] = p;
    }
    t->partitions_asked = MAX(t->partitions_asked, t->partitions_n);
}

struct model_topic *model_topic_add(struct model *m, const char *name, const struct meta_uuid *id,
                                    int32_t partitions_n)
{
    struct model_topic *t = calloc(1, sizeof(*t));
    ASSERT(t != NULL);
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->id = *id;
    t->tombstones = (struct model_config){TOMBSTONES_MS, TOMBSTONES_MS};
    t->next = m->topics;
    m->topics = t;
    model_topic_grow(t, partitions_n);
    return t;
}

struct model_topic *model_topic_by_id(const struct model *m, const struct meta_uuid *id)
{
    for (struct model_topic *t = m->topics; t != NULL; t = t->next)
        if (memcmp(&t->id, id, sizeof(*id)) == 0)
            return t;
    return NULL;
}

struct model_topic *model_topic_by_name(const struct model *m, const char *name)
{
    for (struct model_topic *t = m->topics; t != NULL; t = t->next)
        if (t->state != MODEL_DELETED && strcmp(t->name, name) == 0)
            return t;
    return NULL;
}

struct model_batch *model_batch_add(struct model *m, struct model_partition *p)
{
    if (m->batches_n == m->batches_cap) {
        m->batches_cap = MAX(m->batches_cap * 2, UINT64_C(256));
        m->batches = grown(m->batches, m->batches_cap, sizeof(struct model_batch *));
    }
    struct model_batch *b = calloc(1, sizeof(*b));
    ASSERT(b != NULL);
    *b = (struct model_batch){.number = m->batches_n, .partition = p};
    m->batches[m->batches_n++] = b;
    return b;
}

int64_t model_timestamp(const struct model_batch *b)
{
    return MODEL_FIRST_TIMESTAMP_MS + (int64_t)b->number * MODEL_TIMESTAMP_STEP_MS;
}

/* ---- slots ---- */

/* Index of the first slot that ends behind offset. */
static uint32_t slot_search(const struct model_partition *p, int64_t offset)
{
    uint32_t low = 0, high = p->slots_n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        const struct model_slot *s = &p->slots[mid];
        if (s->base_offset + s->records > offset)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

const struct model_slot *model_slot_at(const struct model_partition *p, int64_t offset)
{
    uint32_t i = slot_search(p, offset);
    return i < p->slots_n && p->slots[i].base_offset <= offset ? &p->slots[i] : NULL;
}

static void slot_remove(struct model *m, struct model_partition *p, uint32_t i)
{
    m->batches[p->slots[i].number]->places--;
    memmove(&p->slots[i], &p->slots[i + 1], (p->slots_n - i - 1) * sizeof(p->slots[0]));
    p->slots_n--;
}

/* The slot for a batch at an offset, which may be there already; NULL: a violation. */
static struct model_slot *slot_take(struct model *m, struct model_partition *p,
                                    struct model_batch *b, int64_t base_offset, uint64_t now_ns)
{
    uint32_t i = slot_search(p, base_offset);
    while (i < p->slots_n && p->slots[i].base_offset < base_offset + b->records) {
        struct model_slot *s = &p->slots[i];
        if (s->base_offset == base_offset && s->number == b->number)
            return s;
        if (s->pinned || !s->doubtful) {
            wrong(m, p, s->base_offset, "given to another record, was", m->batches[s->number]);
            return NULL;
        }
        slot_remove(m, p, i);
    }
    bool back = m->tolerant && b->dropped;
    if (!b->hostile && !back && b->places >= (b->idempotent ? 1 : b->sends)) {
        wrong(m, p, base_offset, "is there once more", b);
        return NULL;
    }
    if (p->slots_n == p->slots_cap) {
        p->slots_cap = MAX(p->slots_cap * 2, 64u);
        p->slots = grown(p->slots, p->slots_cap, sizeof(p->slots[0]));
    }
    memmove(&p->slots[i + 1], &p->slots[i], (p->slots_n - i) * sizeof(p->slots[0]));
    p->slots_n++;
    p->slots[i] = (struct model_slot){
        .base_offset = base_offset, .records = b->records, .number = b->number, .since_ns = now_ns};
    b->places++;
    return &p->slots[i];
}

void model_ack(struct model *m, struct model_batch *b, int64_t base_offset, uint64_t now_ns)
{
    struct model_partition *p = b->partition;
    if (!b->acked) {
        m->acked_batches++;
        m->kept_batches += !p->topic->retained;
        m->acked_records += (uint64_t)b->records;
        m->acked_bytes += b->len_bytes;
    }
    b->acked = true;
    if (base_offset + b->records <= p->start_min)
        return; /* and deleted since */
    struct model_slot *s = slot_take(m, p, b, base_offset, now_ns);
    if (s == NULL)
        return;
    s->doubtful = false;
    s->pinned = s->pinned || (b->acks == -1 && !p->topic->write_caching);
}

/* ---- reading ---- */

/* The batch that these bytes are, whole and as it was sent; NULL: a violation. */
static struct model_batch *recognise(struct model *m, struct model_partition *p,
                                     const uint8_t *data, const struct batch_header *h)
{
    int64_t since = h->base_timestamp - MODEL_FIRST_TIMESTAMP_MS;
    uint64_t number = (uint64_t)since / MODEL_TIMESTAMP_STEP_MS;
    if (since < 0 || since % MODEL_TIMESTAMP_STEP_MS != 0 || number >= m->batches_n) {
        wrong(m, p, h->base_offset, "a batch that was never sent", NULL);
        return NULL;
    }
    struct model_batch *b = m->batches[number];
    bool stamped = batch_is_log_append_time(h->attributes);
    if (b->partition != p && !b->hostile)
        wrong(m, p, h->base_offset, "a batch of another partition", b);
    else if (h->len_bytes != b->len_bytes || h->last_offset_delta + 1 != b->records ||
             (!stamped && h->crc != b->crc) || stamped != p->topic->log_append_time)
        wrong(m, p, h->base_offset, "not the bytes that were sent", b);
    else if (!batch_crc_ok(data, h))
        wrong(m, p, h->base_offset, "damaged bytes", b);
    return model_failed(m) ? NULL : b;
}

/* The batch at data[at]; NULL: a violation. */
static struct model_batch *batch_next(struct model *m, struct model_partition *p,
                                      const uint8_t *data, uint32_t len, uint32_t at,
                                      struct batch_header *ret)
{
    if (batch_peek(data + at, len - at, ret) != 0 || ret->len_bytes > len - at) {
        wrong(m, p, -1, "a fetch brings what is no whole batch", NULL);
        return NULL;
    }
    return recognise(m, p, data + at, ret);
}

int64_t model_fetched(struct model *m, struct model_partition *p, int64_t offset,
                      const uint8_t *data, uint32_t len, uint64_t now_ns)
{
    struct batch_header h;
    for (uint32_t at = 0; at < len; at += h.len_bytes) {
        struct model_batch *b = batch_next(m, p, data, len, at, &h);
        if (b == NULL)
            return offset;
        bool follows = at == 0 ? h.base_offset <= offset && batch_last_offset(&h) >= offset
                               : h.base_offset == offset;
        follows = follows || (m->tolerant && h.base_offset > offset);
        if (!follows)
            wrong(m, p, offset, "a fetch brings another place", b);
        if (model_failed(m))
            return offset;
        offset = batch_last_offset(&h) + 1;
        if (offset <= p->start_min)
            continue; /* deleted while the answer was on its way */
        struct model_slot *s = slot_take(m, p, b, h.base_offset, now_ns);
        if (s == NULL)
            return offset;
        s->pinned = s->pinned || !p->topic->write_caching;
        s->doubtful = false;
        m->seen_batches++;
    }
    return offset;
}

/* What is below stays counted: it must not come again. */
void model_started(struct model *m, struct model_partition *p, int64_t start)
{
    if (start > p->start_max && !p->topic->retained && !m->tolerant)
        wrong(m, p, start, "is the log's start, nobody asked for that", NULL);
    if (m->tolerant && start < p->start_min)
        p->start_min = start;
    if (start <= p->start_min)
        return;
    p->start_min = start;
    uint32_t gone = slot_search(p, start);
    for (uint32_t i = 0; i < gone; i++)
        m->batches[p->slots[i].number]->dropped = true;
    if (gone == 0)
        return; /* there may be no slots at all */
    p->slots_n -= gone;
    memmove(&p->slots[0], &p->slots[gone], p->slots_n * sizeof(p->slots[0]));
}

/* ---- ends of the broker, and what is there after the next start ---- */

static void partition_ended(struct model *m, struct model_partition *p, bool clean, bool healthy,
                            uint64_t before_ns)
{
    for (uint32_t i = 0; i < p->slots_n; i++) {
        struct model_slot *s = &p->slots[i];
        if (s->pinned)
            continue;
        bool old = healthy && s->since_ns < before_ns;
        m->must_survive += old;
        s->pinned = clean || old;
        s->doubtful = !s->pinned;
    }
}

void model_ended(struct model *m, bool clean, bool healthy, uint64_t now_ns, uint64_t slack_ns)
{
    for (struct model_topic *t = m->topics; t != NULL; t = t->next) {
        uint64_t age_ns = (uint64_t)t->flush_ms * NS_PER_MS + slack_ns;
        for (int32_t i = 0; i < t->partitions_n; i++)
            partition_ended(m, t->partitions[i], clean, healthy,
                            now_ns > age_ns ? now_ns - age_ns : 0);
    }
}

void model_audit_begin(struct model *m, struct model_partition *p, int64_t log_start)
{
    if (log_start < p->start_min && !m->tolerant)
        wrong(m, p, log_start, "is the log's start, which went back", NULL);
    model_started(m, p, log_start);
    p->start_max = log_start; /* what was asked for and not answered is settled */
    for (uint32_t i = 0; i < p->slots_n; i++)
        p->slots[i].found = false;
    p->audit_offset = log_start;
    p->audit_epoch = 0;
}

/* By retention, which does not wait for audits. */
void model_audit_start_moved(struct model *m, struct model_partition *p, int64_t log_start)
{
    model_started(m, p, log_start);
    p->start_max = p->audit_offset = log_start;
}

int64_t model_audit_fetched(struct model *m, struct model_partition *p, const uint8_t *data,
                            uint32_t len)
{
    struct batch_header h;
    for (uint32_t at = 0; at < len; at += h.len_bytes) {
        struct model_batch *b = batch_next(m, p, data, len, at, &h);
        if (b == NULL)
            return p->audit_offset;
        bool first = p->audit_offset == p->start_min && h.base_offset <= p->audit_offset &&
                     batch_last_offset(&h) >= p->audit_offset;
        if (!first &&
            (m->tolerant ? h.base_offset < p->audit_offset : h.base_offset != p->audit_offset))
            wrong(m, p, p->audit_offset, "is missing, what follows is", b);
        if (h.leader_epoch < p->audit_epoch)
            wrong(m, p, h.base_offset, "has a lower leader epoch than what is before it", b);
        struct model_slot *s = model_failed(m) ? NULL : slot_take(m, p, b, h.base_offset, 0);
        if (s == NULL)
            return p->audit_offset;
        s->pinned = s->found = true;
        s->doubtful = false;
        m->audited_batches++;
        p->audit_epoch = h.leader_epoch;
        p->audit_offset = batch_last_offset(&h) + 1;
    }
    return p->audit_offset;
}

void model_audit_end(struct model *m, struct model_partition *p, int64_t end_offset)
{
    if (p->audit_offset != end_offset && !m->tolerant)
        wrong(m, p, p->audit_offset, "is where reading ends, below the log's end", NULL);
    for (uint32_t i = 0; i < p->slots_n && !model_failed(m);) {
        struct model_slot *s = &p->slots[i];
        if (s->found) {
            i++;
            continue;
        }
        if (s->pinned && !m->tolerant)
            wrong(m, p, s->base_offset, "is lost", m->batches[s->number]);
        m->lost_batches += s->pinned;
        if (s->pinned && s->base_offset < end_offset)
            i++; /* nobody else gets its offsets */
        else
            slot_remove(m, p, i);
    }
}
