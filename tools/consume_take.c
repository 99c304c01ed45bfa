/* consume_take.c: from the batches of an answer to the records that count: whole, intact, not
 * below the offset that was asked for, and of no transaction that was aborted. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "tools/cmd_consume.h"

/* Transactions of which the aborted records lie in an answer. One begins at its first offset and
 * ends at its marker: records of its producer in between are not to be seen. */
struct aborted {
    const struct fetch_response_aborted_transaction *list; /* by first offset */
    bool *is_open;
    int32_t n, begun;
};

static int by_first_offset(const void *a, const void *b)
{
    const struct fetch_response_aborted_transaction *x = a, *y = b;
    return (x->first_offset > y->first_offset) - (x->first_offset < y->first_offset);
}

static int aborted_init(struct aborted *a, const struct fetch_response_partition_data *data,
                        struct arena *arena)
{
    int32_t n = MAX(data->aborted_transactions_n, 0);
    *a = (struct aborted){.list = data->aborted_transactions, .n = n};
    a->is_open = arena_array(arena, (size_t)n + 1, sizeof(bool));
    if (a->is_open == NULL)
        return -ENOMEM;
    if (n > 0)
        qsort(data->aborted_transactions, (size_t)n, sizeof(*data->aborted_transactions),
              by_first_offset);
    return 0;
}

static bool aborted_has(struct aborted *a, const struct batch_header *h)
{
    while (a->begun < a->n && a->list[a->begun].first_offset <= batch_last_offset(h))
        a->is_open[a->begun++] = true;
    for (int32_t i = 0; i < a->begun; i++)
        if (a->is_open[i] && a->list[i].producer_id == h->producer_id)
            return batch_is_transactional(h->attributes);
    return false;
}

static void aborted_end(struct aborted *a, int64_t producer_id)
{
    for (int32_t i = 0; i < a->begun; i++)
        if (a->list[i].producer_id == producer_id)
            a->is_open[i] = false;
}

bool consume_is_full(const struct consume *s)
{
    return s->o->max_messages > 0 && s->printed >= (uint64_t)s->o->max_messages;
}

static int records_print(struct consume *s, struct consume_partition *p, const uint8_t *batch,
                         const struct batch_header *h)
{
    struct batch_iter *iter;
    struct batch_record r;
    int rc = batch_iter_open(&iter, batch, h->len_bytes);
    if (rc < 0)
        return rc;
    while (!consume_is_full(s) && (rc = batch_iter_next(iter, &r)) > 0) {
        if (r.offset < p->next || r.offset >= p->end)
            continue;
        consume_print(s, p->id, &r);
        s->printed++;
    }
    batch_iter_close(iter);
    return MIN(rc, 0);
}

static int batch_take(struct consume *s, struct consume_partition *p, const uint8_t *batch,
                      const struct batch_header *h, struct aborted *aborted)
{
    if (!batch_crc_ok(batch, h))
        return client_fail(s->c, -EBADMSG, CLIENT_NO_MESSAGE,
                           "%s-%d: the batch at offset %" PRId64 " has a wrong checksum", s->topic,
                           p->id, h->base_offset);
    bool is_hidden = aborted_has(aborted, h);
    int rc = 0;
    if (batch_is_control(h->attributes))
        aborted_end(aborted, h->producer_id);
    else if (!is_hidden)
        rc = records_print(s, p, batch, h);
    p->next = MAX(p->next, batch_last_offset(h) + 1);
    return rc == 0 ? 0
                   : client_fail(s->c, rc, CLIENT_NO_MESSAGE, "%s-%d: the batch at offset %" PRId64,
                                 s->topic, p->id, h->base_offset);
}

int consume_take(struct consume *s, struct consume_partition *p,
                 const struct fetch_response_partition_data *data, struct arena *arena)
{
    const uint8_t *at = data->records.data;
    size_t left = data->records.len > 0 ? (size_t)data->records.len : 0;
    struct batch_header h;
    struct aborted aborted;
    int rc = aborted_init(&aborted, data, arena);
    while (rc == 0 && left > 0 && !consume_is_full(s) && p->next < p->end) {
        rc = batch_peek(at, left, &h);
        if (rc == -EAGAIN || (rc == 0 && h.len_bytes > left))
            return 0; /* the rest of it comes with the next answer */
        if (rc < 0)
            return client_fail(s->c, rc, CLIENT_NO_MESSAGE,
                               "%s-%d: what follows offset %" PRId64 " is no batch", s->topic,
                               p->id, p->next);
        rc = batch_take(s, p, at, &h, &aborted);
        at += h.len_bytes;
        left -= h.len_bytes;
    }
    return rc;
}
