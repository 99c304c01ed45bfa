/* crc32c.h: CRC-32C (Castagnoli, RFC 3720 appendix B.4) as Kafka's record batches use it. */
#ifndef CORE_BASE_CRC32C_H
#define CORE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t len_bytes);

/* Continue a checksum over data that lies in pieces: crc32c_extend(crc32c(a), b) == crc32c(a|b). */
uint32_t crc32c_extend(uint32_t crc, const void *data, size_t len_bytes);

#endif
