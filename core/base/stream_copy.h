/* stream_copy.h: a copy that leaves the caches as they are: the lines written to are not read
 * first, and do not push out what is used. For memory that nobody reads before it would have left
 * the caches anyway; who does read it waits for memory. Where the processor has no such stores:
 * memcpy. Source: Intel 64 and IA-32 Optimization Reference Manual, "Cacheability Instructions". */
#ifndef CORE_BASE_STREAM_COPY_H
#define CORE_BASE_STREAM_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

static inline void stream_line(uint8_t *to, const uint8_t *from) /* to: a whole line of the cache */
{
    __m128i part[4];
    memcpy(part, from, sizeof(part));
    for (unsigned i = 0; i < 4; i++)
        _mm_stream_si128((__m128i *)(void *)to + i, part[i]);
}

/* Other threads and devices see it as they would see a memcpy. */
static inline void stream_copy(uint8_t *to, const uint8_t *from, size_t len_bytes)
{
    enum { LINE = 64 };
    size_t head = -(uintptr_t)to % LINE;
    if (len_bytes < head + LINE) {
        memcpy(to, from, len_bytes);
        return;
    }
    size_t end = head + (len_bytes - head) / LINE * LINE;
    memcpy(to, from, head);
    for (size_t at = head; at < end; at += LINE)
        stream_line(to + at, from + at);
    _mm_sfence();
    memcpy(to + end, from + end, len_bytes - end);
}

#else

static inline void stream_copy(uint8_t *to, const uint8_t *from, size_t len_bytes)
{
    memcpy(to, from, len_bytes);
}

#endif

#endif
