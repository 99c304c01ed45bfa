/* Pages that are made present ahead of their first touch, by a worker of the kernel. */
#include "test_uring_fixture.h"

#include <sys/mman.h>

enum { MIB = 1 << 20, PAGE = 4096 };

static unsigned char *memory_map(size_t bytes)
{
    unsigned char *p =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(p, MAP_FAILED);
    madvise(p, bytes, MADV_NOHUGEPAGE); /* else it comes in pieces of 2 MiB */
    return p;
}

static size_t resident_bytes(unsigned char *memory, size_t bytes)
{
    unsigned char pages[16 * MIB / PAGE];
    size_t n = 0;
    cr_assert_leq(bytes / PAGE, sizeof(pages));
    cr_assert_eq(mincore(memory, bytes, pages), 0);
    for (size_t i = 0; i < bytes / PAGE; i++)
        n += (pages[i] & 1) != 0;
    return n * PAGE;
}

static void turn_until_populated(struct env *env, unsigned char *memory, size_t bytes)
{
    uint64_t end_ns = now_ns() + 10000000000u;
    while (resident_bytes(memory, bytes) < bytes && now_ns() < end_ns)
        env_turn(env, now_ns() + 1000000);
}

Test(uring_populate, what_is_asked_for_becomes_resident_and_nothing_else)
{
    struct env *env = env_make(NULL, 0);
    unsigned char *memory = memory_map(8 * MIB);
    env_turn(env, 0);
    cr_assert_eq(resident_bytes(memory, 8 * MIB), 0);
    cr_assert(env_populate(env, memory + 2 * MIB, 4 * MIB));
    cr_assert_not(env_populate(env, memory, PAGE), "another is under way");
    turn_until_populated(env, memory + 2 * MIB, 4 * MIB);
    cr_assert_eq(resident_bytes(memory + 2 * MIB, 4 * MIB), 4 * MIB);
    cr_assert_eq(resident_bytes(memory, 2 * MIB), 0);
    cr_assert_eq(resident_bytes(memory + 6 * MIB, 2 * MIB), 0);
    for (size_t i = 0; i < 4 * MIB; i++)
        cr_assert_eq(memory[2 * MIB + i], 0);
    env_destroy(env);
    munmap(memory, 8 * MIB);
}

Test(uring_populate, the_next_one_is_taken_when_one_is_done_also_if_it_failed)
{
    struct env *env = env_make(NULL, 0);
    unsigned char *memory = memory_map(2 * MIB);
    unsigned char *gone = memory_map(PAGE);
    munmap(gone, PAGE);
    uint64_t end_ns = now_ns() + 10000000000u;
    cr_assert(env_populate(env, gone, PAGE));
    while (!env_populate(env, memory, 2 * MIB) && now_ns() < end_ns)
        env_turn(env, now_ns() + 1000000);
    turn_until_populated(env, memory, 2 * MIB);
    cr_assert_eq(resident_bytes(memory, 2 * MIB), 2 * MIB);
    env_destroy(env);
    munmap(memory, 2 * MIB);
}

Test(uring_populate, an_environment_is_destroyed_while_one_is_under_way)
{
    unsigned char *memory = memory_map(16 * MIB);
    struct env *env = env_make(NULL, 0);
    cr_assert(env_populate(env, memory, 16 * MIB));
    env_turn(env, 0);
    env_destroy(env);
    size_t resident = resident_bytes(memory, 16 * MIB);
    for (unsigned i = 0; i < 20; i++)
        env_destroy(env_make(NULL, 0)); /* some time passes */
    cr_assert_eq(resident_bytes(memory, 16 * MIB), resident, "nobody touches it any more");
    munmap(memory, 16 * MIB);
}
