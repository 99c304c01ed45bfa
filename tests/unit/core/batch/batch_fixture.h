/* batch_fixture.h: batches for the tests of core/batch: made by a real Java client (golden/), by
 * the builder, or bent by hand and sealed again with a right length and CRC. */
#ifndef TESTS_UNIT_CORE_BATCH_FIXTURE_H
#define TESTS_UNIT_CORE_BATCH_FIXTURE_H

#include "core/batch/batch.h"
#include "core/batch/builder.h"

#define FIXTURE_NOW_MS 1700000000000 /* golden timestamps begin here */

struct bytes {
    uint8_t *data; /* heap, exactly len, so that a sanitizer sees every byte read beyond */
    size_t len;
};

struct bytes bytes_copy(const void *data, size_t len);
void bytes_free(struct bytes *b);

/* tests/unit/core/batch/golden/NAME.bin: fails the test when it is not there. */
struct bytes golden_load(const char *name);

/* Record i as the generator of the golden files made it; value_bytes: size of record 3's value. */
#define GOLDEN_RECORDS 20
struct golden_record {
    int64_t timestamp;
    char key[16];
    int32_t key_len;
    uint8_t *value;
    int32_t value_len;
    int32_t header_count;
    uint8_t header_byte;
};
struct golden_record golden_record_make(int i, int32_t big_bytes);
void golden_record_add(struct batch_builder *b, const struct golden_record *r);

/* A batch of count records "k<i>" -> "v<i>", timestamps FIXTURE_NOW_MS + i. */
struct bytes simple_batch(enum batch_codec codec, int count);
/* The same header around other, already compressed bytes. */
struct bytes batch_around(const struct bytes *like, enum batch_codec codec, const void *packed,
                          size_t packed_len);
/* The plain records of simple_batch(), without a header. */
struct bytes simple_records(int count);

void batch_seal(struct bytes *b); /* make length field and CRC right again */

/* No limit is hit, compressed batches are looked into. */
struct batch_limits open_limits(void);
int validate(struct bytes *b, const struct batch_limits *limits);
int validate_error(struct bytes *b, const struct batch_limits *limits, struct batch_error *ret);
/* Records seen until the end; or the iterator's failure. */
int count_records(const struct bytes *b);

extern const char *const codec_names[BATCH_CODEC_COUNT];

#endif
