/* filter.h: a batch without some of its records, as a cleaner leaves it: base and last offset stay,
 * and so do the offsets of the records that are left. Compressed batches stay compressed.
 *
 * Happy path: begin; step until it returns 0, some records at a time: each is shown to keep(), in
 *   a first round to see what is left, in a second one, if the batch is not left as it is, to make
 *   the new one; finish hands out the bytes; end.
 * Tombstones (null values) that are left give a batch a delete horizon, the first time: KIP-534.
 * Failure: as the iterator and the builder; nothing is handed out. Threads: one. */
#ifndef CORE_BATCH_FILTER_H
#define CORE_BATCH_FILTER_H

#include "core/batch/builder.h"

/* Must say the same of a record each time. */
typedef bool (*batch_keep_fn)(void *arg, const struct batch_record *record);

struct batch_filter { /* zero it before the first begin */
    const uint8_t *batch;
    struct batch_header header;
    struct batch_iter *iter;
    struct batch_builder builder;
    bool building, tombstones;
    int32_t kept;
    int64_t horizon_ms;
    struct batch_record_header *headers;
    int32_t headers_cap;
};
/* Borrows the batch until end. horizon_ms: for tombstones that have none. */
int batch_filter_begin(struct batch_filter *f, const uint8_t *batch,
                       const struct batch_header *header, int64_t horizon_ms);
/* 1: call again. 0: all has been seen. */
int batch_filter_step(struct batch_filter *f, uint32_t records_max, batch_keep_fn keep, void *arg);
/* Length 0: nothing is left. The bytes are those of the batch itself, or lent until end. */
int batch_filter_finish(struct batch_filter *f, const uint8_t **ret_data, size_t *ret_len_bytes);
void batch_filter_end(struct batch_filter *f);

/* A batch without records that stands for some offsets. */
int batch_make_empty(const struct batch_header *like, uint8_t ret[BATCH_HEADER_BYTES]);

#endif
