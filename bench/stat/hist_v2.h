/* hist_v2.h: the V2 binary form of a histogram, as HdrHistogram 2.1 and later write and read it
 * (AbstractHistogram.encodeIntoByteBuffer). All fields are big-endian:
 *
 *    0  u32  cookie          0x1c849303 | 0x10
 *    4  u32  payload bytes   all that follow the header
 *    8  i32  index offset    0
 *   12  u32  digits          3
 *   16  u64  lowest          1
 *   24  u64  highest         hist.highest
 *   32  f64  ratio           1.0; another one is a histogram of doubles
 *   40       counts          up to the last that is not 0 (one, 0, if empty)
 *
 * A count is a ZigZag number in LEB128-64b9B: seven bits a byte, the least first, bit 7 says that
 * more follow, and a ninth byte has eight bits of its own. A negative number -n is n counts of 0.
 * Happy path: what was encoded decodes to an equal histogram, but for `saturated`: the format has
 *   no place for it, and who sends a histogram sends that number beside it.
 * Failure: what is not a histogram like ours is refused; no length in it is believed.
 * Ownership: a decoded histogram is the caller's to hist_fini.
 * Threads: any; no state. */
#ifndef BENCH_STAT_HIST_V2_H
#define BENCH_STAT_HIST_V2_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/hist.h"

#define HIST_V2_HEADER_BYTES 40u
#define HIST_V2_COUNT_BYTES_MAX 9u
/* As for a histogram up to 2^63 - 1, with 53 buckets, each count at its longest. */
#define HIST_V2_BYTES_MAX                                                                          \
    (HIST_V2_HEADER_BYTES + HIST_V2_COUNT_BYTES_MAX * 54u * (HIST_SUB_BUCKETS / 2))
/* More in one histogram are refused: ranks are no longer exact in a double, and sums of what a
 * thousand senders say do not wrap. */
#define HIST_V2_TOTAL_MAX (UINT64_C(1) << 53)

/* Bytes that hist_v2_encode may need for h; never above HIST_V2_BYTES_MAX. */
size_t hist_v2_bound(const struct hist *h);

/* -EOVERFLOW: more than HIST_V2_TOTAL_MAX, which hist_v2_decode would not take back. */
int hist_v2_encode(const struct hist *h, uint8_t *buf, size_t *ret_len_bytes);

/* ret_h: not yet initialised; is so on success. -EBADMSG: malformed. -ENOTSUP: a histogram, but of
 * other digits, lowest value, ratio or version. -ENOMEM. */
int hist_v2_decode(const uint8_t *buf, size_t len_bytes, struct hist *ret_h);

#endif
