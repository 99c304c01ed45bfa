#include "net/api/produce_keys.h"

#include <stdio.h>

#include "core/base/bytes.h"
#include "core/batch/batch.h"

#define SHOWN 3
#define ENTRY_BYTES 512 /* a topic's name has 249 at most */

typedef struct produce_response_batch_index_and_error_message told_record;

/* Those without a key, how many there are; the first of them at index[]. */
static int32_t keyless_find(const struct wire_records *records, int32_t *index)
{
    struct batch_iter *iter;
    struct batch_record record;
    int32_t n = 0;
    if (batch_iter_open(&iter, records->data, (size_t)records->len) < 0)
        return 0;
    while (batch_iter_next(iter, &record) > 0)
        if (record.key_len < 0) {
            if (n < PRODUCE_KEYS_LISTED)
                index[n] = record.index;
            n++;
        }
    batch_iter_close(iter);
    return n;
}

static const char *message_make(struct request *r, const char *each, const int32_t *index,
                                int32_t n)
{
    char list[SHOWN * ENTRY_BYTES] = "";
    size_t at = 0;
    for (int32_t i = 0; i < MIN(n, SHOWN); i++)
        at += (size_t)snprintf(list + at, sizeof(list) - at,
                               "%sRecordError(batchIndex=%d, message='%s')", i > 0 ? ", " : "",
                               (int)index[i], each);
    return arena_printf(&r->arena,
                        "One or more records have been rejected due to %d record errors in total, "
                        "and only showing the first three errors at most: [%s]",
                        (int)n, list);
}

bool produce_keys_tell(struct request *r, const char *topic, const struct wire_records *records,
                       struct produce_response_partition_produce_response *told)
{
    int32_t *index = arena_array(&r->arena, PRODUCE_KEYS_LISTED, sizeof(*index));
    const char *each = arena_printf(
        &r->arena, "Compacted topic cannot accept message without key in topic partition %s-%d",
        topic, (int)told->index);
    if (index == NULL || each == NULL)
        return false;
    int32_t n = keyless_find(records, index);
    int32_t listed = MIN(n, PRODUCE_KEYS_LISTED);
    told->error_message = wire_str_of(message_make(r, each, index, n));
    told->record_errors =
        wire_new_array(&produce_response_batch_index_and_error_message_schema, &r->arena, listed);
    if (told->error_message.p == NULL || told->record_errors == NULL)
        return false;
    for (told_record *t = told->record_errors; told->record_errors_n < listed; t++) {
        t->batch_index = index[told->record_errors_n++];
        t->batch_index_error_message = wire_str_of(each);
    }
    return true;
}
