/* cmd_produce.h: `penstock produce`: lines of files or of stdin become records of a topic.
 * Happy path: produce_input.c cuts the input into records; produce_send.c chooses the partition,
 *   gathers batches and has each acknowledged before the next one of its partition goes out.
 * Failure: the first batch that is refused ends it with exit code 1; stderr says how many records
 *   were acknowledged. Exit code 0 says that all were.
 * Memory: RECORD_BYTES_MAX for the input, SEND_BYTES_MAX for batches. Threads: one. */
#ifndef TOOLS_CMD_PRODUCE_H
#define TOOLS_CMD_PRODUCE_H

#include "core/batch/builder.h"
#include "tools/cli.h"

#define RECORD_BYTES_MAX (100u << 20)

struct produce_options {
    struct cli_common common;
    const char *key, *key_separator, *delimiter, *acks, *compression;
    int64_t partition;       /* -1: by key, or by turns */
    struct cli_list headers; /* NAME=VALUE */
    bool nulls, whole;
};

/* ---- input ---- */

struct produce_input {
    const char *delimiter;
    size_t delimiter_len;
    bool is_whole; /* a file is one record */
    int fd;
    bool is_ended;
    uint8_t *data; /* [from, len) is read and not yet handed out */
    size_t from, len, cap;
    size_t searched; /* up to here there is no delimiter */
};

void produce_input_init(struct produce_input *in, const struct produce_options *o);
void produce_input_fini(struct produce_input *in);
void produce_input_file(struct produce_input *in, int fd); /* the next one; the caller closes it */
/* 1: a record, lent until the next call; 0: the end; -EAGAIN: nothing came for a moment; -EFBIG: a
 * record above RECORD_BYTES_MAX; -errno. */
int produce_input_next(struct produce_input *in, const uint8_t **ret, size_t *ret_len);

/* ---- sending ---- */

struct produce_partition {
    struct batch_builder batch;
    int32_t leader, sequence;
    size_t unsent_bytes;
    int64_t acked;                     /* records */
    int64_t first_offset, last_offset; /* of them; -1: none, or not told */
};

struct produce_sender {
    struct client *c;
    const char *topic;
    int16_t acks;
    int64_t timeout_ms;
    enum batch_codec codec;
    int64_t producer_id; /* -1: not idempotent */
    int16_t producer_epoch;
    struct produce_partition *partitions;
    int32_t partitions_n;
    int32_t turn; /* the partition of records without keys, until its batch is sent */
    size_t unsent_bytes;
    uint64_t read, acked; /* records */
    struct arena arena;
};

/* Finds the topic, which the broker may create by that. Close it also when that failed. */
int produce_sender_open(struct produce_sender *s, struct client *c,
                        const struct produce_options *o);
void produce_sender_close(struct produce_sender *s);
/* partition -1: by key, or by turns. Lengths -1: null. */
int produce_sender_add(struct produce_sender *s, int32_t partition, const uint8_t *key,
                       int32_t key_len, const uint8_t *value, int32_t value_len,
                       const struct batch_record_header *headers, int32_t headers_n);
int produce_sender_flush(struct produce_sender *s);

int cmd_produce(int argc, char **argv);

#endif
