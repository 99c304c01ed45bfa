/* disk_mutate.c: patches that a fuzzer would need long to think of: a number in a structure becomes
 * another number that is likely to hurt. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"
#include "tests/fuzz/disk.h"

#define PATCH_BYTES_MAX 16u

/* libFuzzer's own; not there when inputs are replayed, nor called. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t len_bytes, size_t max_bytes);

static uint64_t hurt(struct rng *rng, uint64_t was)
{
    static const uint64_t edges[] = {0,         1,          INT32_MAX, UINT32_MAX,
                                     INT64_MAX, 1ull << 63, UINT64_MAX};
    switch (rng_below(rng, 6)) {
    case 0:
        return edges[rng_below(rng, ARRAY_LEN(edges))];
    case 1:
        return was + (rng_below(rng, 2) ? 1 : UINT64_MAX);
    case 2:
        return was + (rng_below(rng, 2) ? BLOCK_BYTES : 0ull - BLOCK_BYTES);
    case 3:
        return was * 2;
    case 4:
        return was ^ 1ull << rng_below(rng, 64);
    default:
        return rng_below(rng, 300);
    }
}

/* Structures are full of zeros; most of what matters is not. */
static uint32_t place_find(const struct disk_file *f, const struct disk_place *in, struct rng *rng)
{
    uint32_t at = 0;
    for (unsigned tries = 0; tries < 16; tries++) {
        at = (uint32_t)rng_below(rng, in->len_bytes);
        if (f->bytes[in->at + at] != 0)
            break;
    }
    return at;
}

static void offset_put(uint8_t *out, uint32_t at)
{
    le_store16(out, (uint16_t)at);
    out[2] = (uint8_t)(at >> 16);
}

static size_t number_change(const struct disk *made, const struct disk_place *place,
                            struct rng *rng, uint8_t *out)
{
    const struct disk_file *f = &made->files[place->file];
    uint32_t len = 1u << rng_below(rng, 4);
    uint32_t at = place->at + place_find(f, place, rng) / len * len;
    uint64_t was = 0;
    memcpy(&was, f->bytes + at, MIN(len, f->used_bytes - at));
    uint64_t now = hurt(rng, was);
    out[0] = DISK_WRITE;
    out[1] = place->file;
    offset_put(out + 2, at);
    out[5] = (uint8_t)len;
    memcpy(out + 6, &now, len);
    return 6 + len;
}

/* A piece of another file, or of the same one: as of an older write, or one that went astray. */
static size_t piece_copy(const struct disk *made, unsigned file, struct rng *rng, uint8_t *out)
{
    uint32_t unit = rng_below(rng, 2) ? BLOCK_BYTES : 512;
    out[0] = DISK_COPY;
    out[1] = (uint8_t)file;
    offset_put(out + 2, (uint32_t)rng_below(rng, 24) * unit);
    le_store16(out + 5, (uint16_t)unit);
    out[7] = (uint8_t)(rng_below(rng, 2) ? file : rng_below(rng, made->files_n));
    offset_put(out + 8, (uint32_t)rng_below(rng, 24) * unit);
    return 11;
}

/* Any, or by size: most that can go wrong is in the journal, or is small. */
static unsigned file_pick(const struct disk *made, struct rng *rng)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < made->files_n; i++)
        total += made->files[i].used_bytes;
    if (total == 0 || rng_below(rng, 2) == 0)
        return (unsigned)rng_below(rng, made->files_n);
    uint64_t at = rng_below(rng, total);
    unsigned i = 0;
    while (at >= made->files[i].used_bytes)
        at -= made->files[i++].used_bytes;
    return i;
}

static size_t patch_make(const struct disk *made, struct rng *rng, uint8_t out[PATCH_BYTES_MAX])
{
    if (made->hot_n > 0 && rng_below(rng, 2) == 0)
        return number_change(made, &made->hot[rng_below(rng, made->hot_n)], rng, out);
    unsigned file = file_pick(made, rng);
    uint64_t kind = rng_below(rng, 12);
    const struct disk_file *f = &made->files[file];
    if (!f->is_dir && f->used_bytes > 0 && kind < 10) {
        const struct disk_place all = {(uint8_t)file, 0, f->used_bytes};
        return number_change(made, &all, rng, out);
    }
    if (kind < 11)
        return piece_copy(made, file, rng, out);
    out[0] = rng_below(rng, 4) == 0 ? DISK_REMOVE : DISK_SIZE;
    out[1] = (uint8_t)file;
    le_store16(out + 2, (uint16_t)rng_below(rng, UINT16_MAX));
    return out[0] == DISK_REMOVE ? 2 : 4;
}

size_t disk_mutate(const struct disk *made, uint8_t *data, size_t len_bytes, size_t max_bytes,
                   unsigned seed)
{
    uint8_t patch[PATCH_BYTES_MAX];
    struct rng rng;
    rng_seed(&rng, seed);
    if (len_bytes == 0 || rng_below(&rng, 3) == 0)
        return LLVMFuzzerMutate(data, len_bytes, max_bytes);
    if (rng_below(&rng, 4) == 0) /* start over: short ones say more */
        len_bytes = 1;
    size_t n = patch_make(made, &rng, patch);
    if (len_bytes + n > max_bytes)
        return LLVMFuzzerMutate(data, len_bytes, max_bytes);
    memcpy(data + len_bytes, patch, n);
    return len_bytes + n;
}
