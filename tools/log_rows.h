/* log_rows.h: batches, records and index entries as rows, with the names that Kafka's
 * DumpLogSegments uses. Threads: one. */
#ifndef TOOLS_LOG_ROWS_H
#define TOOLS_LOG_ROWS_H

#include "core/log/inspect.h"
#include "tools/log_options.h"
#include "tools/log_out.h"

struct json_object *row_of_batch(const struct batch_header *h, uint64_t pos, bool is_valid);
/* The records of a batch: printed one by one. 0; -EBADMSG: they cannot be read. */
int rows_of_records(const struct log_options *o, const uint8_t *batch,
                    const struct batch_header *h);
/* Counts them only. 0; -EBADMSG: unreadable, or not as many as the header says. */
int records_check(const uint8_t *batch, const struct batch_header *h);
/* Damage: which offsets are not there, and why. */
struct json_object *row_of_damage(const struct inspect_piece *piece);

#endif
