/* disk.h: the files of a directory as a value: taken from a modelled machine where the real code
 * made them, changed as a fuzz input says, and put on a new machine for the real code to find.
 *
 * Happy path: once: disk_take(); for each input: disk_copy(), disk_patch(), disk_put(), run the
 * real code, mem_world_destroy(). Failure: ASSERT, as all of it is ours.
 *
 * A patch is a byte of enum disk_patch_kind (modulo their number), then
 *   WRITE:  file u8, offset u24, length u8, so many bytes
 *   FLIP:   file u8, offset u24, bit u8
 *   COPY:   file u8, offset u24, length u16, from file u8, from offset u24; an empty file becomes
 * all of the other one SIZE:   file u8, size u16: of so many bytes (modulo twice what it has);
 * zeros when it grows REMOVE: file u8 NAME, DIR: directory u8, length u8, so many bytes: an empty
 * file or directory of that name Little endian; files are counted modulo their number, offsets
 * modulo the used bytes. The last one may be cut short: what is missing is zero. So every input
 * means something. Threads: one. */
#ifndef TESTS_FUZZ_DISK_H
#define TESTS_FUZZ_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/env_mem.h"

#define DISK_FILES_MAX 48u
#define DISK_PATH_BYTES 300u
#define DISK_HOT_MAX 128u

enum disk_patch_kind {
    DISK_WRITE,
    DISK_FLIP,
    DISK_COPY,
    DISK_SIZE,
    DISK_REMOVE,
    DISK_NAME,
    DISK_DIR,
    DISK_PATCH_KINDS,
};

struct disk_file {
    char path[DISK_PATH_BYTES];
    bool is_dir, removed;
    uint64_t size_bytes;
    uint32_t used_bytes; /* behind them all is zero up to size_bytes */
    uint8_t *bytes;      /* used_bytes */
};
struct disk_place {
    uint8_t file;
    uint32_t at, len_bytes;
};
struct disk {
    struct disk_file files[DISK_FILES_MAX]; /* a directory comes before what is in it */
    unsigned files_n;
    struct disk_place hot[DISK_HOT_MAX]; /* structures that few inputs would meet by chance */
    unsigned hot_n;
};

/* Everything in and under dir, as reads would see it now. */
void disk_take(struct disk *d, struct mem_world *world, struct env *env, const char *dir);
/* hot ones beyond DISK_HOT_MAX are an ASSERT. */
void disk_hot_add(struct disk *d, unsigned file, uint32_t at, uint64_t len_bytes);
void disk_copy(struct disk *d, const struct disk *from);
void disk_fini(struct disk *d);
void disk_patch(struct disk *d, const uint8_t *patches, size_t len_bytes);
/* For LLVMFuzzerCustomMutator: data is a byte of flags and patches of `made`; its new length. */
size_t disk_mutate(const struct disk *made, uint8_t *data, size_t len_bytes, size_t max_bytes,
                   unsigned seed);
/* dir itself is made as well. */
void disk_put(const struct disk *d, struct env *env);

#endif
