/* murmur2.h: MurmurHash2 (Austin Appleby, public domain) with the seed of Kafka's Utils.murmur2:
 * what chooses the partition of a key. Threads: any. */
#ifndef CORE_BASE_MURMUR2_H
#define CORE_BASE_MURMUR2_H

#include "core/base/bytes.h"

static inline uint32_t murmur2(const uint8_t *data, uint32_t len)
{
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28c ^ len, whole = len & ~3u;
    for (uint32_t i = 0; i < whole; i += 4) {
        uint32_t k = le_load32(data + i) * m;
        h = (h * m) ^ ((k ^ (k >> 24)) * m);
    }
    for (uint32_t i = len; i-- > whole;)
        h ^= (uint32_t)data[i] << (8 * (i - whole));
    if (len > whole)
        h *= m;
    h = (h ^ (h >> 13)) * m;
    return h ^ (h >> 15);
}

/* The partition that Java's default partitioner gives a key. */
static inline int32_t murmur2_partition(const uint8_t *key, uint32_t len, uint32_t partitions_n)
{
    return (int32_t)((murmur2(key, len) & INT32_MAX) % partitions_n);
}

#endif
