/* ledger.h: what the broker has acknowledged, a line each, in the order in which it was heard.
 *
 *     C TOPIC PARTITIONS                      the topic was created
 *     D TOPIC                                 its deletion is about to be asked for
 *     G TOPIC                                 its deletion was acknowledged
 *     R TOPIC PARTITION OFFSET NUMBER CRC     a record was acknowledged (CRC-32C of its value)
 *
 * A mark "acked=N" in the write log stands behind the first N lines: they were written before the
 * mark was put, so at every later point of the write log they hold.
 * Happy path: ledger_load() reads it whole; the checker asks for topics and their records.
 * Failure: a file that is not of this form ends the program with a message.
 * Ownership: ledger_load fills, ledger_fini frees. Threads: one. */
#ifndef TESTS_VM_LEDGER_H
#define TESTS_VM_LEDGER_H
#include <stddef.h>
#include <stdint.h>

enum { LEDGER_TOPICS_MAX = 256, LEDGER_PARTITIONS_MAX = 64, LEDGER_NAME_MAX = 64 };
#define LEDGER_NEVER SIZE_MAX

struct ledger_record {
    int64_t offset;
    uint64_t number;
    uint32_t crc;
    size_t line; /* counted from 0, as all lines here */
};

struct ledger_partition {
    struct ledger_record *records; /* by offset, ascending, each once */
    size_t count, room;
};

struct ledger_topic {
    char name[LEDGER_NAME_MAX];
    int32_t partition_count;
    size_t created, delete_asked, gone; /* lines, or LEDGER_NEVER */
    struct ledger_partition partitions[LEDGER_PARTITIONS_MAX];
};

struct ledger {
    struct ledger_topic *topics;
    size_t topic_count, line_count;
};

void ledger_load(struct ledger *ledger, const char *path);
void ledger_fini(struct ledger *ledger);

struct ledger_topic *ledger_find(struct ledger *ledger, const char *topic);

/* The record acknowledged with this offset, or NULL. */
const struct ledger_record *ledger_at(const struct ledger_partition *partition, int64_t offset);

#endif
