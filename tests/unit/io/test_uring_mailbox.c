/* The mailboxes of uring_post.h alone, without rings: two threads as close together in time as can
 * be, which finds what a kernel call between any two steps hides. */
#include "test_uring_fixture.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "core/base/list.h"
#include "core/base/rng.h"
#include "io/uring_post.h"

enum { POOL = 4096 /* messages at most on their way */ };

static struct letter {
    struct env_msg msg;
    uint64_t number;
} pool[POOL];

static struct {
    struct env_uring_group *group;
    sem_t wake;
    _Atomic uint64_t received, out_of_order, lost_wakes, wakes;
    uint64_t total;
    unsigned burst_max;
} box;

static void spin(uint64_t n)
{
    for (volatile uint64_t i = 0; i < n; i++)
        ;
}

static void on_letter(void *shard, struct env_msg *msg)
{
    (void)shard;
    uint64_t number = container_of(msg, struct letter, msg)->number;
    if (number != atomic_load(&box.received))
        atomic_fetch_add(&box.out_of_order, 1);
    atomic_store(&box.received, number + 1);
}

/* Sleeps as env_turn does; one of twenty seconds here is a wake-up that never came: a busy machine
 * may keep the sender from its work for some. */
static void box_sleep(void)
{
    struct timespec limit;
    if (!uring_post_sleep(box.group, 1))
        return;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 20;
    while (sem_timedwait(&box.wake, &limit) != 0)
        if (errno == ETIMEDOUT) {
            atomic_fetch_add(&box.lost_wakes, 1);
            break;
        }
    uring_post_awake(box.group, 1);
}

static void *receive_main(void *arg)
{
    struct rng rng;
    (void)arg;
    rng_seed(&rng, 2);
    while (atomic_load(&box.received) < box.total && atomic_load(&box.lost_wakes) == 0) {
        struct list_node got, *node;
        list_init(&got);
        uring_post_collect(box.group, 1, &got);
        bool any = !list_empty(&got);
        while ((node = list_pop_head(&got)) != NULL) {
            struct env_msg *msg = container_of(node, struct env_msg, link);
            msg->run(NULL, msg);
        }
        if (rng_below(&rng, 4) == 0)
            spin(rng_below(&rng, 200));
        if (!any)
            box_sleep();
    }
    return NULL;
}

static void burst_post(uint64_t *sent, uint64_t n)
{
    for (; n > 0 && *sent < box.total; n--) {
        while (*sent - atomic_load(&box.received) >= POOL)
            if (atomic_load(&box.lost_wakes) > 0)
                return;
        struct letter *l = &pool[*sent % POOL];
        l->number = (*sent)++;
        l->msg.run = on_letter;
        uring_post(box.group, 0, 1, &l->msg);
    }
    if (uring_post_settle(box.group, 1)) {
        atomic_fetch_add(&box.wakes, 1);
        sem_post(&box.wake);
    }
}

static void mailbox_run(unsigned burst_max, uint64_t total)
{
    pthread_t receiver;
    struct rng rng;
    uint64_t sent = 0;
    rng_seed(&rng, 1);
    memset(&box, 0, sizeof(box));
    box.burst_max = burst_max;
    box.total = total;
    sem_init(&box.wake, 0, 0);
    cr_assert_eq(env_uring_group_create(2, &box.group), 0);
    pthread_create(&receiver, NULL, receive_main, NULL);
    while (sent < total && atomic_load(&box.lost_wakes) == 0) {
        burst_post(&sent, 1 + rng_below(&rng, burst_max));
        if (burst_max == 1) /* the only message there is: nobody else would wake the receiver */
            while (atomic_load(&box.received) < sent && atomic_load(&box.lost_wakes) == 0)
                ;
        spin(rng_below(&rng, 300));
    }
    pthread_join(receiver, NULL);
    cr_assert_eq(atomic_load(&box.lost_wakes), 0, "a wake-up was lost at %lu", (unsigned long)sent);
    cr_assert_eq(atomic_load(&box.out_of_order), 0);
    cr_assert_eq(atomic_load(&box.received), total);
    cr_assert_gt(atomic_load(&box.wakes), 0, "it never slept: the test has shown nothing");
    env_uring_group_destroy(box.group);
}

Test(uring_mailbox, one_message_at_a_time, .timeout = 60)
{
    mailbox_run(1, 400000);
}

Test(uring_mailbox, bursts_longer_than_the_ring, .timeout = 60)
{
    mailbox_run(500, 4000000);
}

Test(uring_mailbox, bursts_around_the_ring, .timeout = 60)
{
    mailbox_run(130, 2000000);
}
