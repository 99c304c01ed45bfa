/* value.h: the records of the power-cut run. A record's bytes follow from its topic, partition,
 * number and length, so whoever reads one back can tell every bit of it; the ledger (ledger.h)
 * says which ones were acknowledged.
 * Threads: any; no state. */
#ifndef TESTS_VM_VALUE_H
#define TESTS_VM_VALUE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VALUE_MIN = 16, VALUE_MAX = 1000 * 1000 };

/* Numbers count from 0 in each partition. len from VALUE_MIN to VALUE_MAX. */
void value_fill(uint8_t *value, size_t len, const char *topic, int32_t partition, uint64_t number);

/* The number that the value claims; false when it is too short to be ours. */
bool value_number(const uint8_t *value, size_t len, uint64_t *ret_number);

/* True when these are exactly the bytes that value_fill gives for what the value claims to be. */
bool value_is_whole(const uint8_t *value, size_t len, const char *topic, int32_t partition);

#endif
