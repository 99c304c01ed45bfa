#include <criterion/criterion.h>
#include <string.h>

#include "core/base/stream_copy.h"

enum { BYTES = 600, ALIGNMENTS = 67, GUARD = 0xa5 };

Test(stream_copy, copies_all_of_it_and_nothing_beside)
{
    static uint8_t from[BYTES + ALIGNMENTS];
    static uint8_t to[BYTES + 2 * ALIGNMENTS];
    for (size_t i = 0; i < sizeof(from); i++)
        from[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t at = 1; at < ALIGNMENTS; at++)
        for (size_t len = 0; len < BYTES; len++) {
            const uint8_t *source = from + (at * 5 + len) % ALIGNMENTS;
            memset(to, GUARD, sizeof(to));
            stream_copy(to + at, source, len);
            cr_assert_eq(memcmp(to + at, source, len), 0, "%zu bytes to %zu", len, at);
            cr_assert_eq(to[at - 1], GUARD);
            cr_assert_eq(to[at + len], GUARD);
        }
}
