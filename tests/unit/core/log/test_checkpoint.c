/* A checkpoint for which there is no memory: whoever waits for it does not keep the shard busy. */
#include <criterion/criterion.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/lib/core_log_fixture.h"

#define NS_PER_S UINT64_C(1000000000)

static bool refusing;
static unsigned refused_n;
static struct log_fixture f;

/* In the place of libc's, for this program. */
int posix_memalign(void **ret, size_t alignment, size_t size)
{
    refused_n += refusing;
    void *p = refusing ? NULL : memalign(alignment, size);
    if (p == NULL)
        return ENOMEM;
    *ret = p;
    return 0;
}

/* As a shard: asleep until there is something to do. False: far too many turns. */
static bool turn_for(uint64_t ns, unsigned turns_max)
{
    uint64_t until_ns = env_now_ns(f.env) + ns;
    for (; env_now_ns(f.env) < until_ns && turns_max > 0; turns_max--) {
        env_turn(f.env, MIN(log_store_deadline_ns(f.store), until_ns));
        log_store_pump(f.store);
    }
    return turns_max > 0;
}

static int left_rc;
static void on_left(struct log_departure *d, int rc)
{
    (void)d;
    left_rc = rc;
}

Test(checkpoint, without_memory_is_tried_again_a_while_later)
{
    struct log_departure departure;
    logger_level = LOG_OFF;
    fixture_init(&f, 1, 2, 16u << 20, 64u << 10);
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why);
    cr_assert_eq(fixture_append(&f, 0, 10000, 1), 0);
    fixture_settle(&f);
    refusing = true;
    left_rc = 1;
    log_departure_begin(fixture_plog(&f, 0), &departure, on_left);
    cr_assert(turn_for(3 * NS_PER_S, 20000), "%u tries", refused_n);
    cr_assert(refused_n >= 1 && refused_n <= 4, "%u tries", refused_n);
    cr_assert_eq(left_rc, 1, "it waits");
    refusing = false;
    cr_assert(turn_for(3 * NS_PER_S, 20000));
    cr_assert_eq(left_rc, 0, "it has left: %d", left_rc);
    log_departure_end(&departure, false);
    free(departure.parcel);
    cr_assert(fixture_verify_all(&f), "%s", f.why);
    cr_assert_eq(fixture_close(&f), 0);
    fixture_fini(&f);
}
