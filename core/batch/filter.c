#include "core/batch/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

int batch_filter_begin(struct batch_filter *f, const uint8_t *batch,
                       const struct batch_header *header, int64_t horizon_ms)
{
    *f = (struct batch_filter){.batch = batch, .header = *header, .horizon_ms = horizon_ms};
    batch_builder_init(&f->builder, BATCH_NONE);
    return batch_iter_open(&f->iter, batch, header->len_bytes);
}

static bool has_horizon(const struct batch_filter *f)
{
    return f->header.attributes & BATCH_DELETE_HORIZON;
}

static bool is_left_as_it_is(const struct batch_filter *f)
{
    return f->kept == f->header.record_count && (has_horizon(f) || !f->tombstones);
}

static int headers_read(struct batch_filter *f, const struct batch_record *r)
{
    size_t pos = 0;
    if (r->header_count > f->headers_cap) {
        void *more = realloc(f->headers, (size_t)r->header_count * sizeof(*f->headers));
        if (more == NULL)
            return -ENOMEM;
        f->headers = more;
        f->headers_cap = r->header_count;
    }
    for (int32_t i = 0; i < r->header_count; i++)
        if (batch_record_header_next(r, &pos, &f->headers[i]) != 1)
            return -EBADMSG;
    return 0;
}

static int record_take(struct batch_filter *f, const struct batch_record *r)
{
    if (!f->building) {
        f->kept++;
        f->tombstones |= r->value_len < 0;
        return 0;
    }
    int rc = headers_read(f, r);
    if (rc != 0)
        return rc;
    f->builder.next_offset_delta = (int32_t)(r->offset - f->header.base_offset);
    return batch_builder_add(&f->builder, r->timestamp, r->key, r->key_len, r->value, r->value_len,
                             f->headers, r->header_count);
}

static void builder_prepare(struct batch_filter *f)
{
    const struct batch_header *h = &f->header;
    struct batch_builder *b = &f->builder;
    b->codec = (enum batch_codec)batch_codec_of(h->attributes);
    b->attributes = h->attributes;
    b->base_offset = h->base_offset;
    b->leader_epoch = h->leader_epoch;
    b->base_sequence = h->base_sequence;
    b->producer_id = h->producer_id;
    b->producer_epoch = h->producer_epoch;
    b->append_time = h->max_timestamp;
    if (f->tombstones)
        b->attributes |= BATCH_DELETE_HORIZON;
    else
        b->attributes &= (uint16_t)~BATCH_DELETE_HORIZON;
    b->base_timestamp = has_horizon(f) ? h->base_timestamp : f->horizon_ms;
}

/* All records have been seen. 1: once more, to build. */
static int round_end(struct batch_filter *f)
{
    if (f->building || f->kept == 0 || is_left_as_it_is(f))
        return 0;
    f->building = true;
    builder_prepare(f);
    batch_iter_close(f->iter);
    f->iter = NULL;
    int rc = batch_iter_open(&f->iter, f->batch, f->header.len_bytes);
    return rc < 0 ? rc : 1;
}

int batch_filter_step(struct batch_filter *f, uint32_t records_max, batch_keep_fn keep, void *arg)
{
    struct batch_record r;
    for (uint32_t i = 0; i < records_max; i++) {
        int rc = batch_iter_next(f->iter, &r);
        if (rc == 0)
            return round_end(f);
        if (rc > 0 && keep(arg, &r))
            rc = record_take(f, &r);
        if (rc < 0)
            return rc;
    }
    return 1;
}

int batch_filter_finish(struct batch_filter *f, const uint8_t **ret_data, size_t *ret_len_bytes)
{
    uint8_t *data;
    *ret_data = f->batch;
    *ret_len_bytes = f->kept == 0 ? 0 : f->header.len_bytes;
    if (!f->building)
        return 0;
    f->builder.next_offset_delta = f->header.last_offset_delta + 1;
    int rc = batch_builder_finish(&f->builder, &data, ret_len_bytes);
    *ret_data = data;
    return rc;
}

void batch_filter_end(struct batch_filter *f)
{
    batch_iter_close(f->iter);
    batch_builder_fini(&f->builder);
    free(f->headers);
    f->iter = NULL;
    f->headers = NULL;
    f->headers_cap = 0;
}

int batch_make_empty(const struct batch_header *like, uint8_t ret[BATCH_HEADER_BYTES])
{
    struct batch_builder b;
    uint8_t *data;
    size_t len;
    batch_builder_init(&b, BATCH_NONE);
    b.attributes = like->attributes & (BATCH_LOG_APPEND_TIME | BATCH_TRANSACTIONAL | BATCH_CONTROL);
    b.append_time = like->max_timestamp;
    b.base_offset = like->base_offset;
    b.leader_epoch = like->leader_epoch;
    b.base_sequence = like->base_sequence;
    b.producer_id = like->producer_id;
    b.producer_epoch = like->producer_epoch;
    b.next_offset_delta = like->last_offset_delta + 1;
    int rc = batch_builder_finish(&b, &data, &len);
    if (rc == 0)
        memcpy(ret, data, BATCH_HEADER_BYTES);
    batch_builder_fini(&b);
    return rc;
}
