#include "core/base/crc32c.h"

#include <isa-l/crc.h>

#include "core/base/bytes.h"

uint32_t crc32c_extend(uint32_t crc, const void *data, size_t len_bytes)
{
    const unsigned char *p = data;
    uint32_t state = ~crc;
    while (len_bytes > 0) { /* ISA-L takes an int length */
        int piece = (int)MIN(len_bytes, (size_t)1 << 30);
        state = crc32_iscsi((unsigned char *)p, piece, state);
        p += piece;
        len_bytes -= (size_t)piece;
    }
    return ~state;
}

uint32_t crc32c(const void *data, size_t len_bytes)
{
    return crc32c_extend(0, data, len_bytes);
}
