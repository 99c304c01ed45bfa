#include "io/uring_post.h"

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "io/losses.h"

enum { CACHE_LINE = 64, PAIR_SLOTS = 128 /* power of two */ };

/* Grouped by writer, one cache line each. */
struct pair {
    alignas(CACHE_LINE) _Atomic uint32_t tail; /* sender's */
    uint32_t head_seen;                        /* sender's: an old value of head */
    alignas(CACHE_LINE) _Atomic uint32_t head; /* receiver's */
    alignas(CACHE_LINE) _Atomic bool spilled;  /* written under lock */
    pthread_mutex_t lock;
    struct list_node spill; /* under lock */
    alignas(CACHE_LINE) struct env_msg *slots[PAIR_SLOTS];
};

struct mailbox {
    alignas(CACHE_LINE) _Atomic bool asleep;
    _Atomic int ring_fd;
    int bell_fd;
    alignas(CACHE_LINE) _Atomic bool outside; /* written under lock */
    pthread_mutex_t lock;
    struct list_node outsiders; /* under lock: messages from threads that are no shards */
    alignas(CACHE_LINE) _Atomic uint64_t senders[]; /* a bit each */
};

struct env_uring_group {
    unsigned count, words;
    struct mailbox **boxes; /* [to] */
    struct pair *pairs;     /* [to * count + from] */
    struct device_table devices;
};

static struct mailbox *box_create(unsigned words)
{
    size_t bytes = sizeof(struct mailbox) + words * sizeof(uint64_t);
    bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    struct mailbox *box = aligned_alloc(CACHE_LINE, bytes);
    if (box == NULL)
        return NULL;
    memset(box, 0, bytes);
    atomic_init(&box->ring_fd, -1);
    list_init(&box->outsiders);
    pthread_mutex_init(&box->lock, NULL);
    /* Blocking: the ring can then wait for it; see uring_group_ring_bell for the writers. */
    box->bell_fd = eventfd(0, EFD_CLOEXEC);
    if (box->bell_fd < 0) {
        pthread_mutex_destroy(&box->lock);
        free(box);
        return NULL;
    }
    return box;
}

static struct pair *pairs_create(unsigned n)
{
    struct pair *pairs = aligned_alloc(CACHE_LINE, (size_t)n * sizeof(*pairs));
    if (pairs == NULL)
        return NULL;
    for (unsigned i = 0; i < n; i++) {
        struct pair *p = &pairs[i];
        atomic_init(&p->tail, 0);
        atomic_init(&p->head, 0);
        atomic_init(&p->spilled, false);
        p->head_seen = 0;
        list_init(&p->spill);
        pthread_mutex_init(&p->lock, NULL);
    }
    return pairs;
}

int env_uring_group_create(unsigned count, struct env_uring_group **ret)
{
    if (count == 0 || count > UINT16_MAX)
        return -EINVAL;
    struct env_uring_group *group = calloc(1, sizeof(*group));
    if (group == NULL)
        return -ENOMEM;
    pthread_mutex_init(&group->devices.lock, NULL);
    group->words = (count + 63) / 64;
    group->boxes = calloc(count, sizeof(*group->boxes));
    group->pairs = pairs_create(count * count);
    group->count = count;
    int rc = group->boxes == NULL || group->pairs == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        group->boxes[i] = box_create(group->words);
        if (group->boxes[i] == NULL)
            rc = errno > 0 ? -errno : -ENOMEM;
    }
    if (rc < 0) {
        env_uring_group_destroy(group);
        return rc;
    }
    *ret = group;
    return 0;
}

void env_uring_group_destroy(struct env_uring_group *group)
{
    if (group == NULL)
        return;
    for (unsigned i = 0; group->boxes != NULL && i < group->count; i++) {
        struct mailbox *box = group->boxes[i];
        if (box == NULL)
            continue;
        ASSERT(atomic_load(&box->ring_fd) == -1); /* its env was destroyed */
        close(box->bell_fd);
        pthread_mutex_destroy(&box->lock);
        free(box);
    }
    for (unsigned i = 0; group->pairs != NULL && i < group->count * group->count; i++)
        pthread_mutex_destroy(&group->pairs[i].lock);
    pthread_mutex_destroy(&group->devices.lock);
    free(group->pairs);
    free(group->boxes);
    free(group);
}

unsigned uring_group_count(const struct env_uring_group *group)
{
    return group->count;
}

struct device_losses *uring_group_device(struct env_uring_group *group, uint64_t device)
{
    return device_table_find(&group->devices, device);
}

int uring_group_bell_fd(const struct env_uring_group *group, unsigned index)
{
    return group->boxes[index]->bell_fd;
}

void uring_group_set_ring(struct env_uring_group *group, unsigned index, int ring_fd)
{
    atomic_store(&group->boxes[index]->ring_fd, ring_fd);
}

int uring_group_ring_fd(const struct env_uring_group *group, unsigned index)
{
    return atomic_load(&group->boxes[index]->ring_fd);
}

void uring_group_ring_bell(const struct env_uring_group *group, unsigned index)
{
    /* Could block only at 2^64 - 2 unread rings. */
    eventfd_write(group->boxes[index]->bell_fd, 1);
}

int env_uring_group_wake(struct env_uring_group *group, unsigned to, struct env_msg *msg)
{
    if (to >= group->count)
        return -EINVAL;
    struct mailbox *box = group->boxes[to];
    msg->from = group->count;
    pthread_mutex_lock(&box->lock);
    list_push_tail(&box->outsiders, &msg->link);
    atomic_store(&box->outside, true);
    pthread_mutex_unlock(&box->lock);
    /* Unconditional, so nothing to lose: an eventfd remembers. */
    uring_group_ring_bell(group, to);
    return 0;
}

static bool pair_push(struct pair *p, struct env_msg *msg)
{
    uint32_t tail = atomic_load_explicit(&p->tail, memory_order_relaxed);
    if (tail - p->head_seen == PAIR_SLOTS)
        p->head_seen = atomic_load_explicit(&p->head, memory_order_acquire);
    if (tail - p->head_seen == PAIR_SLOTS)
        return false;
    p->slots[tail % PAIR_SLOTS] = msg;
    atomic_store_explicit(&p->tail, tail + 1, memory_order_release);
    return true;
}

static void pair_drain(struct pair *p, struct list_node *ret)
{
    uint32_t head = atomic_load_explicit(&p->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&p->tail, memory_order_acquire);
    while (head != tail)
        list_push_tail(ret, &p->slots[head++ % PAIR_SLOTS]->link);
    atomic_store_explicit(&p->head, head, memory_order_release);
}

static void pair_collect(struct pair *p, struct list_node *ret)
{
    pair_drain(p, ret);
    if (!atomic_load_explicit(&p->spilled, memory_order_acquire))
        return;
    pthread_mutex_lock(&p->lock);
    /* Again: the ring may have filled up between the first look and the spill. It cannot now, as
     * the sender spills, and to spill needs the lock. */
    pair_drain(p, ret);
    list_splice_tail(ret, &p->spill);
    atomic_store_explicit(&p->spilled, false, memory_order_release);
    pthread_mutex_unlock(&p->lock);
}

void uring_post(struct env_uring_group *group, unsigned from, unsigned to, struct env_msg *msg)
{
    struct pair *p = &group->pairs[(size_t)to * group->count + from];
    struct mailbox *box = group->boxes[to];
    msg->from = from;
    /* Only this thread sets `spilled`, so an old `true` is the only thing it can misread, and then
     * the lock decides: it spills once more, behind a ring that is older. */
    if (atomic_load_explicit(&p->spilled, memory_order_relaxed) || !pair_push(p, msg)) {
        pthread_mutex_lock(&p->lock);
        list_push_tail(&p->spill, &msg->link);
        atomic_store_explicit(&p->spilled, true, memory_order_release);
        pthread_mutex_unlock(&p->lock);
    }
    uint64_t bit = UINT64_C(1) << (from % 64);
    _Atomic uint64_t *word = &box->senders[from / 64];
    atomic_thread_fence(memory_order_seq_cst); /* pushed, then look at the bit */
    if ((atomic_load_explicit(word, memory_order_relaxed) & bit) == 0)
        atomic_fetch_or_explicit(word, bit, memory_order_seq_cst);
}

bool uring_post_settle(struct env_uring_group *group, unsigned to)
{
    struct mailbox *box = group->boxes[to];
    atomic_thread_fence(memory_order_seq_cst); /* bit set, then look at asleep */
    if (!atomic_load_explicit(&box->asleep, memory_order_relaxed))
        return false;
    return atomic_exchange(&box->asleep, false);
}

void uring_post_collect(struct env_uring_group *group, unsigned index, struct list_node *ret)
{
    struct mailbox *box = group->boxes[index];
    for (unsigned w = 0; w < group->words; w++) {
        if (atomic_load_explicit(&box->senders[w], memory_order_relaxed) == 0)
            continue;
        uint64_t bits = atomic_exchange(&box->senders[w], 0);
        atomic_thread_fence(memory_order_seq_cst); /* bits cleared, then look at the rings */
        for (; bits != 0; bits &= bits - 1) {
            unsigned from = w * 64 + (unsigned)__builtin_ctzll(bits);
            pair_collect(&group->pairs[(size_t)index * group->count + from], ret);
        }
    }
    if (atomic_load_explicit(&box->outside, memory_order_acquire)) {
        pthread_mutex_lock(&box->lock);
        list_splice_tail(ret, &box->outsiders);
        atomic_store(&box->outside, false);
        pthread_mutex_unlock(&box->lock);
    }
}

static bool box_any(const struct env_uring_group *group, const struct mailbox *box)
{
    for (unsigned w = 0; w < group->words; w++)
        if (atomic_load_explicit(&box->senders[w], memory_order_relaxed) != 0)
            return true;
    return atomic_load_explicit(&box->outside, memory_order_relaxed);
}

bool uring_post_any(const struct env_uring_group *group, unsigned index)
{
    return box_any(group, group->boxes[index]);
}

bool uring_post_sleep(struct env_uring_group *group, unsigned index)
{
    struct mailbox *box = group->boxes[index];
    atomic_store_explicit(&box->asleep, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* asleep set, then look at the bits */
    if (!box_any(group, box))
        return true;
    atomic_store(&box->asleep, false);
    return false;
}

void uring_post_awake(struct env_uring_group *group, unsigned index)
{
    struct mailbox *box = group->boxes[index];
    if (atomic_load_explicit(&box->asleep, memory_order_relaxed))
        atomic_store(&box->asleep, false);
}
