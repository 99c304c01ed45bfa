#include "bench/load/time_queue.h"

#include <criterion/criterion.h>

/* Pushes outrun pops, so that the ring wraps and grows while it is wrapped. */
Test(time_queue, keeps_its_order_while_it_grows)
{
    struct time_queue q = {0};
    uint64_t pushed = 0, popped = 0;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 7; i++)
            cr_assert(time_queue_push(&q, pushed++));
        for (unsigned i = 0; i < 5; i++) {
            cr_assert_eq(time_queue_head(&q), popped++);
            time_queue_pop(&q);
        }
        cr_assert_eq(q.n, pushed - popped);
    }
    while (q.n > 0) {
        cr_assert_eq(time_queue_head(&q), popped++);
        time_queue_pop(&q);
    }
    cr_expect_eq(popped, pushed);
    time_queue_fini(&q);
}
