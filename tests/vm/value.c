/* value.c: see value.h. Layout: number (8 bytes), then random bytes of a generator whose seed is a
 * mix of everything the value depends on. */
#include "tests/vm/value.h"

#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/rng.h"

static void value_rng(struct rng *rng, size_t len, const char *topic, int32_t partition,
                      uint64_t number)
{
    uint64_t place = (uint64_t)crc32c(topic, strlen(topic)) << 32 | (uint32_t)partition;
    rng_seed(rng, place ^ number << 20 ^ (uint64_t)len);
}

void value_fill(uint8_t *value, size_t len, const char *topic, int32_t partition, uint64_t number)
{
    ASSERT(len >= VALUE_MIN && len <= VALUE_MAX);
    struct rng rng;
    value_rng(&rng, len, topic, partition, number);
    le_store64(value, number);
    for (size_t at = sizeof(number); at < len; at += sizeof(uint64_t)) {
        uint64_t word = rng_next(&rng);
        memcpy(value + at, &word, MIN(sizeof(word), len - at));
    }
}

bool value_number(const uint8_t *value, size_t len, uint64_t *ret_number)
{
    if (len < VALUE_MIN || len > VALUE_MAX)
        return false;
    *ret_number = le_load64(value);
    return true;
}

bool value_is_whole(const uint8_t *value, size_t len, const char *topic, int32_t partition)
{
    uint64_t number;
    if (!value_number(value, len, &number))
        return false;
    struct rng rng;
    value_rng(&rng, len, topic, partition, number);
    for (size_t at = sizeof(number); at < len; at += sizeof(uint64_t)) {
        uint64_t word = rng_next(&rng);
        if (memcmp(value + at, &word, MIN(sizeof(word), len - at)))
            return false;
    }
    return true;
}
