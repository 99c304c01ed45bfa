/* scan.h: finds the next batch in bytes whose boundaries are not known: what lies behind damage.
 * Happy path: batch_scan_next() from the first doubtful byte on, with the offsets that can still
 *   come; on -EAGAIN again with more bytes, from where it says.
 * Failure: -ENOENT when no batch begins in these bytes.
 * Relies on: the CRC, which leaves out the first 21 bytes of a batch: the caller holds base offset
 *   and leader epoch against what it knows, and follows the chain to a boundary that it trusts. A
 *   batch that somebody sent as the value of a record looks like any other: so a legible header is
 *   skipped by its length, and scanned is only behind one that is not.
 * Threads: any. */
#ifndef CORE_BATCH_SCAN_H
#define CORE_BATCH_SCAN_H

#include "core/batch/batch.h"

struct batch_scan {
    int64_t first_offset, end_offset; /* of all records that can come: [first, end) */
    uint32_t max_bytes;               /* of one batch; 0: as long as a batch can be */
};

/* From data[from] on. 0: a whole batch with a right CRC, inside the bounds, begins at *ret_pos.
 * -EAGAIN: one may begin at *ret_pos, more bytes must come to say so. -ENOENT: none begins before
 * *ret_pos, where to go on with what follows. from <= len_bytes. */
int batch_scan_next(const struct batch_scan *scan, const uint8_t *data, size_t len_bytes,
                    size_t from, size_t *ret_pos, struct batch_header *ret_header);

/* What batch_scan_next asks of a header, its batch whole or not. */
bool batch_header_plausible(const struct batch_scan *scan, const struct batch_header *h);

#endif
