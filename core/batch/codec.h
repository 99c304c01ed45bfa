/* codec.h: the compressions of a record batch, unpacked as a stream and packed in one go.
 * Private to core/batch.
 * Happy path: open, read until 0, close. Input is borrowed whole until close.
 * Failure: read returns -EBADMSG when the stream is malformed, cut short or followed by something
 *   else, -EMSGSIZE when it goes on beyond plain_max bytes, -ENOMEM; it is then to be closed.
 * Memory: gzip 88 KiB, lz4 two of the frame's blocks (4 MiB at most each), zstd the frame's window
 *   (128 MiB at most, touched only as far as it is filled), snappy one block, whose declared size
 *   is believed only up to what its compressed bytes can make. */
#ifndef CORE_BATCH_CODEC_H
#define CORE_BATCH_CODEC_H

#include "core/batch/batch.h"

struct codec_reader;

/* codec is not BATCH_NONE. -ENOTSUP: it is none of the others; -EBADMSG: malformed from its first
 * byte; -ENOMEM. */
int codec_reader_open(struct codec_reader **ret, unsigned codec, const uint8_t *packed,
                      size_t packed_len, uint64_t plain_max);
/* Bytes written to dst (1..cap), 0 at the end. */
int64_t codec_reader_read(struct codec_reader *r, uint8_t *dst, size_t cap);
void codec_reader_close(struct codec_reader *r);

/* Limit on what packed_len bytes may unpack to: see BATCH_PLAIN_BYTES_FLOOR. */
uint64_t codec_plain_max(size_t packed_len);

/* Pack src into dst (cap at least codec_pack_bound()): the length, -ENOMEM, -EIO (a codec's own
 * failure). lz4 and snappy are framed as the Java client frames them. */
int codec_level_default(enum batch_codec codec);
size_t codec_pack_bound(enum batch_codec codec, size_t len_bytes);
int64_t codec_pack(enum batch_codec codec, uint8_t *dst, size_t cap, const uint8_t *src,
                   size_t len_bytes, int level);

#endif
