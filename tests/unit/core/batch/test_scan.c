/* Batches found behind damage. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/batch/scan.h"
#include "tests/unit/core/batch/batch_fixture.h"

enum { BATCHES = 8 };

struct log {
    uint8_t data[16384];
    size_t len, at[BATCHES + 1];
    int64_t offset[BATCHES + 1];
};

static void log_fill(struct log *log)
{
    log->len = 0;
    int64_t offset = 100;
    for (int i = 0; i < BATCHES; i++) {
        struct bytes b = simple_batch(i % BATCH_CODEC_COUNT, 1 + i * 3);
        batch_stamp(b.data, offset, 7);
        log->at[i] = log->len;
        log->offset[i] = offset;
        memcpy(log->data + log->len, b.data, b.len);
        log->len += b.len;
        offset += 1 + i * 3;
        bytes_free(&b);
    }
    log->at[BATCHES] = log->len;
    log->offset[BATCHES] = offset;
}

static int scan_from(const struct log *log, size_t len, size_t from, int64_t first, size_t *pos)
{
    struct batch_scan scan = {.first_offset = first, .end_offset = log->offset[BATCHES]};
    struct batch_header h;
    uint8_t *exact = malloc(len + 1); /* a sanitizer sees what is read beyond */
    memcpy(exact, log->data, len);
    int rc = batch_scan_next(&scan, exact, len, from, pos, &h);
    free(exact);
    return rc;
}

Test(batch_scan, from_every_byte_the_next_batch)
{
    static struct log log;
    log_fill(&log);
    for (size_t from = 0; from <= log.at[BATCHES - 1]; from++) {
        size_t pos, next = 0;
        while (log.at[next] < from)
            next++;
        cr_assert_eq(scan_from(&log, log.len, from, 0, &pos), 0);
        cr_assert_eq(pos, log.at[next], "from %zu", from);
    }
}

Test(batch_scan, damaged_batches_are_passed_over)
{
    static struct log log;
    struct rng rng;
    rng_seed(&rng, 3);
    for (int turn = 0; turn < 2000; turn++) {
        log_fill(&log);
        int hit = (int)rng_below(&rng, BATCHES - 1);
        size_t in = rng_below(&rng, log.at[hit + 1] - log.at[hit]), pos;
        if (in < 8 || (in >= 12 && in < 16)) /* outside the CRC: offset and epoch */
            continue;
        log.data[log.at[hit] + in] ^= (uint8_t)(1u << rng_below(&rng, 8));
        int rc = scan_from(&log, log.len, log.at[hit], log.offset[hit], &pos);
        if (rc == -EAGAIN) { /* a length beyond the end: only more bytes could tell */
            cr_assert_eq(pos, log.at[hit]);
            rc = scan_from(&log, log.len, log.at[hit] + 1, log.offset[hit], &pos);
        }
        cr_assert_eq(rc, 0);
        cr_assert_eq(pos, log.at[hit + 1]);
    }
}

Test(batch_scan, offsets_out_of_bounds_are_no_batches)
{
    static struct log log;
    size_t pos;
    log_fill(&log);
    cr_assert_eq(scan_from(&log, log.len, 0, log.offset[2] + 1, &pos), 0);
    cr_assert_eq(pos, log.at[3]);
    cr_assert_eq(scan_from(&log, log.len, 0, log.offset[BATCHES], &pos), -ENOENT);
}

Test(batch_scan, cut_anywhere_it_asks_for_more)
{
    static struct log log;
    log_fill(&log);
    for (size_t len = 0; len < log.at[2]; len++) {
        size_t pos, from = len > 0;
        int rc = scan_from(&log, len, from, 0, &pos);
        cr_assert(rc == -EAGAIN || rc == -ENOENT);
        cr_assert(pos >= from && pos <= log.at[1] && pos <= len);
        if (rc == -EAGAIN)
            cr_assert_eq(pos, log.at[1]);
    }
}

Test(batch_scan, noise_holds_none)
{
    static struct log log;
    struct rng rng;
    rng_seed(&rng, 4);
    log_fill(&log);
    for (int turn = 0; turn < 200; turn++) {
        for (size_t i = 0; i < log.len; i++)
            log.data[i] = (uint8_t)rng_below(&rng, 3);
        size_t pos;
        cr_assert_neq(scan_from(&log, log.len, 0, 0, &pos), 0);
    }
}
