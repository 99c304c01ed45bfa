#include "io/uring_names.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

const struct uring_names_kind uring_names_kind_names = {"penstock-names", URING_NAMES_THREADS_MAX,
                                                        false};
const struct uring_names_kind uring_names_kind_work = {"penstock-work", URING_WORK_THREADS_MAX,
                                                       true};

/* Those on which the process may run: of its first thread, which is not pinned. */
static bool process_cpus(cpu_set_t *ret)
{
    return sched_getaffinity(getpid(), sizeof(*ret), ret) == 0;
}

/* More than there are processors for would only divide them. */
static unsigned threads_max(const struct uring_names_kind *kind)
{
    cpu_set_t all;
    if (!kind->computes || !process_cpus(&all))
        return kind->threads_max;
    return MIN(kind->threads_max, (unsigned)CPU_COUNT(&all));
}

void uring_names_init(struct uring_names *n, const struct uring_names_kind *kind, int bell_fd)
{
    n->kind = kind;
    n->threads_max = threads_max(kind);
    pthread_mutex_init(&n->lock, NULL);
    sem_init(&n->work, 0, 0);
    list_init(&n->queued);
    atomic_init(&n->submitted, NULL);
    atomic_init(&n->finished, NULL);
    atomic_init(&n->unfinished_n, 0);
    atomic_init(&n->stop, false);
    n->bell_fd = bell_fd;
}

/* ---- stacks, linked by `next` ---- */

static void stack_push(_Atomic(struct list_node *) *stack, struct list_node *node)
{
    struct list_node *top = atomic_load_explicit(stack, memory_order_relaxed);
    do
        node->next = top;
    while (!atomic_compare_exchange_weak_explicit(stack, &top, node, memory_order_release,
                                                  memory_order_relaxed));
}

/* All of it to the end of ret, in the order in which it was pushed. */
static void stack_take(_Atomic(struct list_node *) *stack, struct list_node *ret)
{
    struct list_node taken, *node;
    if (atomic_load_explicit(stack, memory_order_relaxed) == NULL)
        return;
    list_init(&taken);
    node = atomic_exchange_explicit(stack, NULL, memory_order_acquire);
    while (node != NULL) {
        struct list_node *next = node->next;
        node->next = NULL;
        list_push_head(&taken, node);
        node = next;
    }
    list_splice_tail(ret, &taken);
}

/* ---- on the threads ---- */

static void op_run(struct env_op *op)
{
    op->res = 0;
    for (unsigned i = 0; i < op->steps_n && op->res == 0; i++) {
        op->res = uring_step_run(&op->steps[i]);
        op->failed_step = i;
    }
}

/* Only worth trying.
 * SCHED_IDLE, since a waking shard takes the core from it at once; from a thread that is only nice,
 * when the next tick comes, up to 4 ms later. */
static void step_aside(void)
{
    cpu_set_t all;
    struct sched_param none = {0};
    if (process_cpus(&all))
        sched_setaffinity(0, sizeof(all), &all);
    sched_setscheduler(0, SCHED_IDLE, &none);
}

/* The threads' lock: the shard never waits for them. */
static struct env_op *op_next(struct uring_names *n)
{
    pthread_mutex_lock(&n->lock);
    if (list_empty(&n->queued))
        stack_take(&n->submitted, &n->queued);
    struct list_node *node = list_pop_head(&n->queued);
    pthread_mutex_unlock(&n->lock);
    return container_of(node, struct env_op, link);
}

static void work_wait(struct uring_names *n)
{
    while (sem_wait(&n->work) != 0)
        ASSERT(errno == EINTR);
}

static void *names_main(void *arg)
{
    struct uring_names *n = arg;
    if (n->kind->computes)
        step_aside();
    for (work_wait(n); !atomic_load(&n->stop); work_wait(n)) {
        struct env_op *op = op_next(n);
        op_run(op);
        atomic_fetch_sub(&n->unfinished_n, 1);
        stack_push(&n->finished, &op->link); /* from here on it is the shard's */
        eventfd_write(n->bell_fd, 1);
    }
    return NULL;
}

/* ---- on the shard ---- */

/* Signals are for the threads that expect them. */
static int thread_start(struct uring_names *n)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&n->threads[n->threads_n], NULL, names_main, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return -rc;
    pthread_setname_np(n->threads[n->threads_n++], n->kind->thread_name);
    return 0;
}

int uring_names_submit(struct uring_names *n, struct env_op *op)
{
    bool one_more = atomic_load(&n->unfinished_n) >= n->threads_n && n->threads_n < n->threads_max;
    int rc = one_more ? thread_start(n) : 0;
    if (n->threads_n == 0)
        return rc;
    atomic_fetch_add(&n->unfinished_n, 1);
    stack_push(&n->submitted, &op->link);
    n->owed_n++;
    return 0;
}

void uring_names_wake(struct uring_names *n)
{
    for (; n->owed_n > 0; n->owed_n--)
        sem_post(&n->work);
}

bool uring_names_busy(struct uring_names *n)
{
    return atomic_load_explicit(&n->unfinished_n, memory_order_relaxed) > 0;
}

void uring_names_take(struct uring_names *n, struct list_node *ret)
{
    stack_take(&n->finished, ret);
}

static void op_discard(struct env_op *op)
{
    unsigned ran = op->res == 0 ? op->steps_n : op->failed_step;
    for (unsigned i = 0; i < ran; i++)
        uring_step_discard(&op->steps[i]);
}

void uring_names_fini(struct uring_names *n)
{
    struct list_node finished, *node;
    list_init(&finished);
    atomic_store(&n->stop, true);
    for (unsigned i = 0; i < n->threads_n; i++)
        sem_post(&n->work);
    for (unsigned i = 0; i < n->threads_n; i++)
        pthread_join(n->threads[i], NULL);
    stack_take(&n->finished, &finished);
    while ((node = list_pop_head(&finished)) != NULL)
        op_discard(container_of(node, struct env_op, link));
    stack_take(&n->submitted, &n->queued);
    while (list_pop_head(&n->queued) != NULL)
        ;
    sem_destroy(&n->work);
    pthread_mutex_destroy(&n->lock);
}
