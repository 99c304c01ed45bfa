/* cmd_consume.h: `penstock consume`: records of a topic on stdout, over the wire.
 * Happy path: cmd_consume.c finds where to begin and asks all leaders at once, again and again;
 *   consume_take.c walks the batches of an answer, and leaves out what was aborted;
 *   consume_print.c prints a record.
 * Failure: a batch whose checksum is wrong ends it with exit code 1; offsets that are gone are
 *   named on stderr and passed over. Leaders that move or restart are waited for until the timeout.
 * Memory: one answer of each leader, FETCH_BYTES_MAX or a single batch that is larger.
 * Threads: one. */
#ifndef TOOLS_CMD_CONSUME_H
#define TOOLS_CMD_CONSUME_H

#include "core/batch/batch.h"
#include "tools/cli.h"

enum consume_output { OUTPUT_TEXT, OUTPUT_HEX, OUTPUT_JSON, OUTPUT_FORMAT };

struct consume_options {
    struct cli_common common;
    const char *offset;     /* where to begin */
    const char *partitions; /* "0,2,5-7"; NULL: all */
    const char *output, *format, *key_separator;
    int64_t max_messages; /* 0: no limit */
    bool exit_at_end, headers, read_uncommitted, nulls;
};

struct consume_partition {
    int32_t id, leader;
    int64_t next, end; /* end: where to stop; INT64_MAX: never */
    bool is_lost;      /* its leader is to be looked up anew */
};

struct consume {
    struct client *c;
    const struct consume_options *o;
    const char *topic;
    enum consume_output output;
    struct consume_partition *partitions;
    unsigned partitions_n;
    uint64_t printed;
};

/* Print a record of a partition. */
void consume_print(const struct consume *s, int32_t partition, const struct batch_record *r);
/* Whether the format string can be understood: NULL, or what is wrong. */
const char *consume_format_check(const char *format);

/* Print what an answer holds for a partition from p->next on, and move p->next. 0; -EBADMSG with
 * the client's reason set. */
int consume_take(struct consume *s, struct consume_partition *p,
                 const struct fetch_response_partition_data *data, struct arena *arena);
bool consume_is_full(const struct consume *s); /* all were printed that were asked for */

int cmd_consume(int argc, char **argv);

#endif
