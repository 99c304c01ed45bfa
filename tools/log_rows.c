#include "tools/log_rows.h"

#include <errno.h>

#include "core/base/bytes.h"

static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};

static const char *time_name(const struct batch_header *h)
{
    return batch_is_log_append_time(h->attributes) ? "LogAppendTime" : "CreateTime";
}

static void row_horizon(struct json_object *row, const struct batch_header *h)
{
    char text[48];
    if (!(h->attributes & BATCH_DELETE_HORIZON)) {
        row_add(row, "deleteHorizonMs", NULL);
        return;
    }
    snprintf(text, sizeof(text), "OptionalLong[%lld]", (long long)h->base_timestamp);
    row_text(row, "deleteHorizonMs", text);
}

struct json_object *row_of_batch(const struct batch_header *h, uint64_t pos, bool is_valid)
{
    struct json_object *row = row_new("batch");
    unsigned codec = batch_codec_of(h->attributes);
    row_int(row, "baseOffset", h->base_offset);
    row_int(row, "lastOffset", batch_last_offset(h));
    row_int(row, "count", h->record_count);
    row_int(row, "baseSequence", h->base_sequence);
    row_int(row, "lastSequence", batch_last_sequence(h));
    row_int(row, "producerId", h->producer_id);
    row_int(row, "producerEpoch", h->producer_epoch);
    row_int(row, "partitionLeaderEpoch", h->leader_epoch);
    row_bool(row, "isTransactional", batch_is_transactional(h->attributes));
    row_bool(row, "isControl", batch_is_control(h->attributes));
    row_horizon(row, h);
    row_uint(row, "position", pos);
    row_int(row, time_name(h), h->max_timestamp);
    row_int(row, "size", h->len_bytes);
    row_int(row, "magic", h->magic);
    row_text(row, "compresscodec", codec < ARRAY_LEN(codecs) ? codecs[codec] : "unknown");
    row_uint(row, "crc", h->crc);
    row_bool(row, "isvalid", is_valid);
    return row;
}

struct json_object *row_of_damage(const struct inspect_piece *piece)
{
    struct json_object *row = row_new("damage");
    row_text(row, "damage", piece->what);
    row_int(row, "firstOffset", piece->first_offset);
    row_int(row, "lastOffset", piece->end_offset - 1);
    row_uint(row, "position", piece->pos);
    row_uint(row, "size", piece->len_bytes);
    return row;
}

/* ---- records ---- */

static void row_headers(struct json_object *row, const struct batch_record *r, bool values)
{
    struct json_object *keys = json_object_new_array();
    struct json_object *both = values ? json_object_new_array() : NULL;
    struct batch_record_header h;
    for (size_t pos = 0; batch_record_header_next(r, &pos, &h) > 0;) {
        struct json_object *header = row_new(NULL), *key;
        row_bytes(header, "key", h.key, h.key_len);
        if (json_object_object_get_ex(header, "key", &key))
            json_object_array_add(keys, json_object_get(key));
        row_bytes(header, "value", h.value, h.value_len);
        if (both != NULL)
            json_object_array_add(both, header);
        else
            json_object_put(header);
    }
    row_add(row, "headerKeys", keys);
    if (both != NULL)
        row_add(row, "headers", both);
}

static int32_t record_sequence(const struct batch_header *h, const struct batch_record *r)
{
    if (h->base_sequence < 0)
        return -1;
    uint32_t delta = (uint32_t)(r->offset - h->base_offset);
    return (int32_t)(((uint32_t)h->base_sequence + delta) & INT32_MAX);
}

static void print_record(const struct log_options *o, const struct batch_header *h,
                         const struct batch_record *r)
{
    struct json_object *row = row_new("record");
    row_int(row, "offset", r->offset);
    row_int(row, time_name(h), r->timestamp);
    row_int(row, "keySize", r->key_len);
    row_int(row, "valueSize", r->value_len);
    row_int(row, "sequence", record_sequence(h, r));
    row_headers(row, r, o->json && o->print_data_log);
    if (batch_is_control(h->attributes) && r->key_len >= 4)
        row_text(row, "endTxnMarker", be_load16(r->key + 2) == 0 ? "ABORT" : "COMMIT");
    if (o->print_data_log && (o->json || r->key_len >= 0))
        row_bytes(row, "key", r->key, r->key_len);
    if (o->print_data_log && (o->json || r->value_len >= 0))
        row_bytes(row, "payload", r->value, r->value_len);
    out_row(o->json, "| ", row);
}

int rows_of_records(const struct log_options *o, const uint8_t *batch, const struct batch_header *h)
{
    struct batch_iter *iter;
    struct batch_record r;
    int rc = batch_iter_open(&iter, batch, h->len_bytes);
    if (rc < 0)
        return rc;
    while ((rc = batch_iter_next(iter, &r)) > 0)
        if (r.offset >= o->from_offset && r.offset < o->to_offset)
            print_record(o, h, &r);
    batch_iter_close(iter);
    return rc;
}

int records_check(const uint8_t *batch, const struct batch_header *h)
{
    struct batch_iter *iter;
    struct batch_record r;
    int32_t count = 0;
    int rc = batch_iter_open(&iter, batch, h->len_bytes);
    if (rc < 0)
        return rc;
    while ((rc = batch_iter_next(iter, &r)) > 0)
        count++;
    batch_iter_close(iter);
    return rc == 0 && count != h->record_count ? -EBADMSG : rc;
}
