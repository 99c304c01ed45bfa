/* What of a file is in memory: all, none, holes, and the stretch behind that is looked at, too. */
#include "io/page_cache.h"

#include "test_uring_fixture.h"

#include <fcntl.h>
#include <unistd.h>

enum { MIB = 1 << 20, FILE_BYTES = 12 * MIB + 100 };

static struct test_dir dir;
static int fd;
static unsigned char *bytes;

/* Written, durable and out of memory; read by nobody ahead. */
static void setup(void)
{
    dir_make(&dir);
    bytes = blocks_make(13 * MIB, 1);
    fd = open(dir_name(&dir, "f"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(write(fd, bytes, FILE_BYTES), FILE_BYTES);
    cr_assert_eq(fsync(fd), 0);
    cr_assert_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    cr_assert_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
    if (page_cache_pages(fd, 0, FILE_BYTES) < 0)
        cr_skip_test("this kernel does not say what is in memory");
}

static void teardown(void)
{
    close(fd);
    free(bytes);
    dir_remove(&dir);
}

static void load(uint64_t from, uint64_t to)
{
    cr_assert_eq(pread(fd, bytes, to - from, (off_t)from), (ssize_t)(to - from));
}

Test(page_cache, says_what_is_there, .init = setup, .fini = teardown)
{
    cr_assert_eq(page_cache_pages(fd, 0, FILE_BYTES), 0);
    cr_assert_not(page_cache_has(fd, 0, 1));
    load(0, FILE_BYTES);
    cr_assert_eq(page_cache_pages(fd, 0, 2 * MIB), 2 * MIB / sysconf(_SC_PAGESIZE));
    cr_assert(page_cache_has(fd, 0, MIB));
    cr_assert(page_cache_has(fd, 77, 12 * MIB));
}

Test(page_cache, asks_nothing_of_what_lies_behind_the_end, .init = setup, .fini = teardown)
{
    load(11 * MIB, FILE_BYTES);
    cr_assert(page_cache_has(fd, 11 * MIB, MIB));
    cr_assert(page_cache_has(fd, 11 * MIB + 5, 2 * MIB));
    cr_assert(page_cache_has(fd, FILE_BYTES - 1, 1));
    cr_assert_not(page_cache_has(fd, FILE_BYTES, 1));
    cr_assert_not(page_cache_has(fd, FILE_BYTES + MIB, MIB));
    cr_assert_not(page_cache_has(fd, 12 * MIB, 0));
}

Test(page_cache, what_follows_must_be_there, .init = setup, .fini = teardown)
{
    load(0, MIB);
    cr_assert_not(page_cache_has(fd, 0, MIB));
    load(0, 9 * MIB);
    cr_assert(page_cache_has(fd, 0, MIB));
    cr_assert_not(page_cache_has(fd, MIB, MIB));
}

Test(page_cache, sees_holes, .init = setup, .fini = teardown)
{
    load(0, FILE_BYTES);
    cr_assert_eq(posix_fadvise(fd, 5 * MIB, 1 << 16, POSIX_FADV_DONTNEED), 0);
    cr_assert_not(page_cache_has(fd, 4 * MIB, 2 * MIB));
    cr_assert(page_cache_has(fd, 6 * MIB, MIB));
}

Test(page_cache, no_file_is_an_error)
{
    cr_assert_lt(page_cache_pages(-1, 0, 1), 0);
    cr_assert_not(page_cache_has(-1, 0, 1));
}
