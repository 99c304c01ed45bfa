/* script_fetch.c: Fetch of the scripted server: whole batches, and the long poll. */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "tests/lib/script_private.h"

#define NS_PER_MS UINT64_C(1000000)
enum { ERROR_OFFSET_OUT_OF_RANGE = 1, ERROR_UNKNOWN_TOPIC_OR_PARTITION = 3 };

struct asked { /* one partition of a Fetch request */
    const struct fetch_request_fetch_partition *part;
    const struct script_partition *p;
    int16_t error;
    size_t index; /* of the first batch to send */
};

static struct asked ask(const struct script_broker *s, struct wire_str topic,
                        const struct fetch_request_fetch_partition *part)
{
    struct asked a = {.part = part, .p = script_partition_find(&s->log, topic, part->partition)};
    if (a.p == NULL)
        a.error = ERROR_UNKNOWN_TOPIC_OR_PARTITION;
    else if (part->fetch_offset < a.p->start_offset || part->fetch_offset > a.p->end_offset)
        a.error = ERROR_OFFSET_OUT_OF_RANGE;
    else
        a.index = script_partition_seek(a.p, part->fetch_offset);
    return a;
}

/* Whether the answer has not to wait: enough bytes, an error, or nothing to wait for. */
static bool fetch_satisfied(const struct script_broker *s, const struct fetch_request *q)
{
    uint64_t bytes = 0, asked_n = 0;
    for (int32_t t = 0; t < q->topics_n; t++) {
        for (int32_t i = 0; i < q->topics[t].partitions_n; i++) {
            struct asked a = ask(s, q->topics[t].topic, &q->topics[t].partitions[i]);
            if (a.error != 0)
                return true;
            bytes += script_partition_bytes_from(a.p, a.index);
            asked_n++;
        }
    }
    return asked_n == 0 || bytes >= (uint64_t)MAX(q->min_bytes, 0);
}

/* As many batches as both limits allow; the first of the response always. The bytes. */
static int32_t fill_records(struct script_request *r, const struct asked *a, int64_t left_bytes,
                            bool first, struct wire_records *ret)
{
    size_t n = 0, most = a->p->n - a->index;
    int64_t limit = MIN(left_bytes, (int64_t)a->part->partition_max_bytes), len = 0;
    while (n < most) {
        uint32_t next = a->p->batches[a->index + n]->len_bytes;
        if (len + next > limit && !(first && n == 0))
            break;
        len += next;
        n++;
    }
    struct iovec *iov = script_alloc(r, n, sizeof(*iov));
    for (size_t i = 0; i < n; i++)
        iov[i] = (struct iovec){a->p->batches[a->index + i]->data,
                                a->p->batches[a->index + i]->len_bytes};
    *ret = (struct wire_records){.iov = iov, .iov_n = (int32_t)n, .len = (int32_t)len};
    return (int32_t)len;
}

static int32_t fill_partition(struct script_request *r, const struct asked *a, int64_t left_bytes,
                              bool first, struct fetch_response_partition_data *ret)
{
    const struct fetch_request *q = r->body;
    ret->partition_index = a->part->partition;
    ret->error_code = a->error;
    ret->aborted_transactions_n = q->isolation_level == 0 ? -1 : 0;
    ret->high_watermark = ret->last_stable_offset = a->error == 0 ? a->p->end_offset : -1;
    ret->log_start_offset = a->p != NULL ? a->p->start_offset : -1;
    ret->records = (struct wire_records){.data = (uint8_t *)""};
    if (a->error != 0 || a->index >= a->p->n)
        return 0;
    return fill_records(r, a, left_bytes, first, &ret->records);
}

static void fetch_reply(struct script_broker *s, struct script_request *r)
{
    const struct fetch_request *q = r->body;
    struct fetch_response *res = script_new(r, &fetch_response_schema, 1);
    int64_t left_bytes = q->max_bytes;
    res->responses_n = q->topics_n;
    res->responses =
        script_new(r, &fetch_response_fetchable_topic_response_schema, res->responses_n);
    for (int32_t t = 0; t < q->topics_n; t++) {
        const struct fetch_request_fetch_topic *from = &q->topics[t];
        struct fetch_response_fetchable_topic_response *to = &res->responses[t];
        to->topic = from->topic;
        to->partitions_n = from->partitions_n;
        to->partitions =
            script_new(r, &fetch_response_partition_data_schema, MAX(from->partitions_n, 1));
        for (int32_t i = 0; i < from->partitions_n; i++) {
            struct asked a = ask(s, from->topic, &from->partitions[i]);
            left_bytes -=
                fill_partition(r, &a, left_bytes, left_bytes == q->max_bytes, &to->partitions[i]);
        }
    }
    s->counters.fetched_bytes += (uint64_t)(q->max_bytes - left_bytes);
    script_reply(s, r, r->header.api_version, res);
}

uint64_t script_fetch_arrive(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    (void)r;
    s->counters.fetch_requests++;
    return script_thaw_ns(s, now_ns);
}

/* The first look, or the end of the long poll, which counts from the first look. */
void script_fetch_run(struct script_broker *s, struct script_request *r, uint64_t now_ns)
{
    const struct fetch_request *q = r->body;
    bool last = r->deadline_ns != 0 || q->max_wait_ms <= 0;
    list_remove(&r->parked);
    if (last || fetch_satisfied(s, q)) {
        fetch_reply(s, r);
        return;
    }
    r->deadline_ns = script_thaw_ns(s, now_ns + (uint64_t)q->max_wait_ms * NS_PER_MS);
    list_push_tail(&s->parked, &r->parked);
    script_schedule(s, r, r->deadline_ns);
}

void script_fetch_wake(struct script_broker *s)
{
    list_for_each_safe(node, next, &s->parked) {
        struct script_request *r = container_of(node, struct script_request, parked);
        if (!fetch_satisfied(s, r->body))
            continue;
        list_remove(&r->parked);
        list_remove(&r->event);
        fetch_reply(s, r);
    }
}
