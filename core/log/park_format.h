/* park_format.h: the bytes of a side file, journal.J.parked.D: what journal J held of the
 * partitions in data directory D when D was not there. A file holds it twice, from byte 0 and from
 * the block at half its size: header, then sections, the newest first. Little endian.
 *
 * A section is what one start, or one failure, put aside: entries of partitions as in a checkpoint
 * (checkpoint_format.h), then whole journal writes, of which the records of such partitions count.
 */
#ifndef CORE_LOG_PARK_FORMAT_H
#define CORE_LOG_PARK_FORMAT_H

#include <stdint.h>

struct park_header;
uint32_t park_header_crc(const struct park_header *header); /* the beginning of its crc */

#define PARK_MAGIC 0x31504b5241504e50u
#define PARK_VERSION 1u
#define PARK_BYTES_MAX (64ull << 30)

struct park_header {
    uint64_t magic;
    uint32_t version, crc; /* of this struct (this field 0) and each section's, in order */
    uint64_t body_bytes;
};
struct park_section {
    uint64_t identity; /* of the journal that it is from, and ... */
    uint64_t
        generation; /* ... of its newest checkpoint then: a newer one leaves out what is here */
    uint64_t checkpoint_seq; /* the first journal write that this checkpoint does not cover */
    uint32_t plogs_n, writes_n;
    uint64_t plogs_bytes, writes_bytes;
    uint32_t crc, pad; /* of these bytes */
};
struct park_write {
    uint64_t len_bytes;   /* of the journal write that follows, as it was in the ring, ... */
    uint64_t virtual_pos; /* ... and where */
    uint8_t proven, gaps; /* something says that it was durable; durable ones before it are lost */
    uint8_t pad[6];
};
_Static_assert(sizeof(struct park_header) == 24, "on disk");
_Static_assert(sizeof(struct park_section) == 56, "on disk");
_Static_assert(sizeof(struct park_write) == 24, "on disk");

#endif
