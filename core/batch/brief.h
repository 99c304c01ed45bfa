/* brief.h: the few facts of a record that a validation asks for, more quickly than record_parse().
 * Private to core/batch; inline, for loops over many records.
 * Failure: NULL says nothing but "ask record_parse()". */
#ifndef CORE_BATCH_BRIEF_H
#define CORE_BATCH_BRIEF_H

#include "core/base/bytes.h"
#include "core/batch/record.h"

struct record_brief {
    int32_t timestamp_delta, offset_delta, key_len;
};

#define BRIEF_NUMBER_BYTES 3

/* Behind the number at `at`, of which three bytes may be read; NULL: it is longer. Branches, since
 * records are alike: what follows need not wait for a length to be known. */
static inline const uint8_t *brief_number(const uint8_t *at, uint32_t *ret)
{
    uint32_t v = at[0];
    *ret = v;
    if (v < 0x80)
        return at + 1;
    uint32_t next = at[1];
    v = (v & 0x7f) | next << 7;
    *ret = v;
    if (next < 0x80)
        return at + 2;
    next = at[2];
    *ret = (v & 0x3fff) | next << 14;
    return next < 0x80 ? at + 3 : NULL;
}

static inline int32_t brief_signed(uint32_t v)
{
    return (int32_t)(v >> 1) ^ -(int32_t)(v & 1);
}

/* Behind a length and its bytes, which end before `end`; null has the length -1. */
static inline const uint8_t *brief_bytes(const uint8_t *at, const uint8_t *end, int32_t *ret_len)
{
    uint32_t len;
    at = brief_number(at, &len);
    if (at == NULL)
        return NULL;
    if (len & 1) {
        *ret_len = -1;
        return len == 1 && at < end ? at : NULL;
    }
    *ret_len = (int32_t)(len >> 1);
    return *ret_len < end - at ? at + *ret_len : NULL;
}

/* Behind the record at `at`, if it lies before end (and is not the last there), is well formed, has
 * no headers and no number of more than three bytes; else NULL. */
static inline const uint8_t *record_brief(const uint8_t *at, const uint8_t *end,
                                          struct record_brief *ret)
{
    uint32_t len, timestamp, offset;
    int32_t value_len;
    if (end - at < 2 * BRIEF_NUMBER_BYTES)
        return NULL;
    at = brief_number(at, &len);
    if (at == NULL || (len & 1) || len < 2 * (RECORD_BYTES_MIN - 1) ||
        end - at < (ptrdiff_t)(len >> 1) + BRIEF_NUMBER_BYTES)
        return NULL; /* a number that begins before the record's end may be read */
    const uint8_t *record_end = at + (len >> 1);
    at = brief_number(at + 1, &timestamp); /* behind the attributes */
    if (at == NULL || (at = brief_number(at, &offset)) == NULL || at >= record_end ||
        (at = brief_bytes(at, record_end, &ret->key_len)) == NULL ||
        (at = brief_bytes(at, record_end, &value_len)) == NULL || at + 1 != record_end || *at != 0)
        return NULL;
    ret->timestamp_delta = brief_signed(timestamp);
    ret->offset_delta = brief_signed(offset);
    return record_end;
}

#endif
