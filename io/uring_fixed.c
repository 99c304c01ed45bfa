#include "io/uring_fixed.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "io/uring_compat.h"

enum {
    SLAB_SHIFT_MIN = 21, /* one huge page: some 0.3 ms, most of it to fill it with zeros */
    SLAB_SHIFT_MAX = 30, /* the kernel's limit for one registered buffer */
    SLABS_MAX = 16384,   /* ... and for their number */
};

static unsigned slabs_of(const struct iovec *region, unsigned shift)
{
    return (unsigned)((region->iov_len + (UINT64_C(1) << shift) - 1) >> shift);
}

/* Lays the slabs out; how many they are. */
static unsigned slabs_cut(struct uring_fixed *f)
{
    unsigned n = 0;
    for (unsigned i = 0; i < f->regions_n; i++) {
        f->first_slab[i] = n;
        n += slabs_of(&f->regions[i], f->slab_shift);
    }
    return n;
}

int uring_fixed_init(struct uring_fixed *f, struct io_uring *ring, const struct iovec *regions,
                     unsigned n)
{
    if (n > URING_FIXED_REGIONS_MAX)
        return -EINVAL;
    *f = (struct uring_fixed){
        .ring = ring, .regions_n = n, .slab_shift = SLAB_SHIFT_MIN, .wanted = -1};
    for (unsigned i = 0; i < n; i++)
        f->regions[i] = regions[i];
    while ((f->slabs_n = slabs_cut(f)) > SLABS_MAX && f->slab_shift < SLAB_SHIFT_MAX)
        f->slab_shift++;
    f->slabs_n = MIN(f->slabs_n, (unsigned)SLABS_MAX);
    if (f->slabs_n == 0)
        return 0;
    f->registered = calloc(f->slabs_n, sizeof(*f->registered));
    if (f->registered == NULL)
        return -ENOMEM;
    f->refused = io_uring_register_buffers_sparse(ring, f->slabs_n) < 0;
    return 0;
}

void uring_fixed_fini(struct uring_fixed *f)
{
    free(f->registered);
    *f = (struct uring_fixed){.wanted = -1};
}

/* The slab in which all of it lies, or -1. */
static int slab_of(const struct uring_fixed *f, const void *base, size_t len_bytes)
{
    for (unsigned i = 0; i < f->regions_n; i++) {
        uintptr_t start = (uintptr_t)f->regions[i].iov_base, at = (uintptr_t)base - start;
        if ((uintptr_t)base < start || at >= f->regions[i].iov_len)
            continue;
        if (len_bytes == 0 || len_bytes > f->regions[i].iov_len - at)
            return -1;
        uint64_t slab = f->first_slab[i] + (at >> f->slab_shift);
        bool whole = at >> f->slab_shift == (at + len_bytes - 1) >> f->slab_shift;
        return whole && slab < f->slabs_n ? (int)slab : -1;
    }
    return -1;
}

int uring_fixed_find(struct uring_fixed *f, const void *base, size_t len_bytes)
{
    int slab = slab_of(f, base, len_bytes);
    if (slab < 0 || f->registered[slab])
        return slab;
    if (!f->refused)
        f->wanted = slab;
    return -1;
}

static struct iovec slab_memory(const struct uring_fixed *f, unsigned slab)
{
    unsigned i = f->regions_n - 1;
    while (slab < f->first_slab[i])
        i--;
    size_t at = (size_t)(slab - f->first_slab[i]) << f->slab_shift;
    return (struct iovec){(char *)f->regions[i].iov_base + at,
                          MIN((size_t)1 << f->slab_shift, f->regions[i].iov_len - at)};
}

void uring_fixed_pump(struct uring_fixed *f)
{
    if (f->wanted < 0)
        return;
    unsigned slab = (unsigned)f->wanted;
    struct iovec memory = slab_memory(f, slab);
    __u64 no_tag = 0;
    f->wanted = -1;
    f->registered[slab] =
        io_uring_register_buffers_update_tag(f->ring, slab, &memory, &no_tag, 1) == 1;
    f->refused = !f->registered[slab];
    f->registered_n += f->registered[slab];
}
