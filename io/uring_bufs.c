#include "io/uring_bufs.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/base/assert.h"
#include "io/uring_compat.h"

static void *map_zeros(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static int ring_init(struct uring_bufs *b)
{
    b->br_entries = 1;
    while (b->br_entries < b->count)
        b->br_entries *= 2;
    b->br_bytes = b->br_entries * sizeof(struct io_uring_buf);
    b->br = map_zeros(b->br_bytes);
    if (b->br == NULL)
        return -ENOMEM;
    io_uring_buf_ring_init(b->br);
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)b->br, .ring_entries = b->br_entries, .bgid = URING_BUFS_GROUP};
    int rc = io_uring_register_buf_ring(b->ring, &reg, 0);
    if (rc < 0) {
        munmap(b->br, b->br_bytes);
        b->br = NULL;
    }
    return rc;
}

int uring_bufs_init(struct uring_bufs *b, struct io_uring *ring, bool use_ring, unsigned count,
                    unsigned bytes_each, void *memory)
{
    if (count > 32768) /* the kernel's limit for a ring of buffers */
        return -EINVAL;
    b->ring = ring;
    b->count = count;
    b->bytes_each = bytes_each;
    b->memory_bytes = (size_t)count * bytes_each;
    if (b->memory_bytes == 0)
        return 0;
    b->memory_is_ours = memory == NULL;
    b->memory = memory != NULL ? memory : map_zeros(b->memory_bytes);
    if (b->memory == NULL)
        return -ENOMEM;
    if (!use_ring || ring_init(b) < 0) {
        b->returned = calloc(count, sizeof(*b->returned));
        if (b->returned == NULL) {
            uring_bufs_fini(b);
            return -ENOMEM;
        }
    }
    for (unsigned id = 0; id < count; id++)
        uring_bufs_give(b, id);
    return 0;
}

void uring_bufs_fini(struct uring_bufs *b)
{
    if (b->br != NULL)
        munmap(b->br, b->br_bytes);
    if (b->memory != NULL && b->memory_is_ours)
        munmap(b->memory, b->memory_bytes);
    free(b->returned);
    *b = (struct uring_bufs){0};
}

void *uring_bufs_at(const struct uring_bufs *b, unsigned id)
{
    ASSERT(id < b->count);
    return b->memory + (size_t)id * b->bytes_each;
}

void uring_bufs_give(struct uring_bufs *b, unsigned id)
{
    if (b->br == NULL) {
        ASSERT(b->returned_n < b->count);
        b->returned[b->returned_n++] = (uint16_t)id;
        return;
    }
    io_uring_buf_ring_add(b->br, uring_bufs_at(b, id), b->bytes_each, (unsigned short)id,
                          io_uring_buf_ring_mask(b->br_entries), 0);
    io_uring_buf_ring_advance(b->br, 1);
}

void uring_bufs_prepare(struct uring_bufs *b, uint64_t user_data)
{
    while (b->returned_n > 0) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(b->ring);
        if (sqe == NULL)
            return;
        unsigned id = b->returned[--b->returned_n];
        io_uring_prep_provide_buffers(sqe, uring_bufs_at(b, id), (int)b->bytes_each, 1,
                                      URING_BUFS_GROUP, (int)id);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        io_uring_sqe_set_data64(sqe, user_data);
    }
}
