/* bytes.h: unaligned loads and stores, rounding. be_* is network order (Kafka's wire and disk
 * formats), le_* is this project's own on-disk order. */
#ifndef CORE_BASE_BYTES_H
#define CORE_BASE_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BLOCK_BYTES 4096u /* unit of every direct write: ../storage contract, "Blocks" */

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define BYTES_DEFINE(bits)                                                                         \
    static inline uint##bits##_t be_load##bits(const void *p)                                      \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof(v));                                                                  \
        return __builtin_bswap##bits(v);                                                           \
    }                                                                                              \
    static inline void be_store##bits(void *p, uint##bits##_t v)                                   \
    {                                                                                              \
        v = __builtin_bswap##bits(v);                                                              \
        memcpy(p, &v, sizeof(v));                                                                  \
    }                                                                                              \
    static inline uint##bits##_t le_load##bits(const void *p)                                      \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof(v));                                                                  \
        return v;                                                                                  \
    }                                                                                              \
    static inline void le_store##bits(void *p, uint##bits##_t v)                                   \
    {                                                                                              \
        memcpy(p, &v, sizeof(v));                                                                  \
    }
BYTES_DEFINE(16)
BYTES_DEFINE(32)
BYTES_DEFINE(64)
#undef BYTES_DEFINE

static inline uint64_t round_up_u64(uint64_t v, uint64_t unit) /* unit: a power of two */
{
    return (v + unit - 1) & ~(unit - 1);
}

static inline uint64_t round_down_u64(uint64_t v, uint64_t unit)
{
    return v & ~(unit - 1);
}

/* It is written soon. */
static inline void prefetch(const void *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)at + i, 1);
}

static inline uint64_t block_floor(uint64_t v)
{
    return round_down_u64(v, BLOCK_BYTES);
}

static inline uint64_t block_ceil(uint64_t v)
{
    return round_up_u64(v, BLOCK_BYTES);
}

#endif
