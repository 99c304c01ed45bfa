#include "io/uring_names.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/assert.h"

#define COMPUTES_NICE 19

const struct uring_names_kind uring_names_kind_names = {"penstock-names", URING_NAMES_THREADS_MAX,
                                                        false};
const struct uring_names_kind uring_names_kind_work = {"penstock-work", URING_WORK_THREADS_MAX,
                                                       true};

void uring_names_init(struct uring_names *n, const struct uring_names_kind *kind, int bell_fd)
{
    n->kind = kind;
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->work, NULL);
    list_init(&n->queued);
    list_init(&n->finished);
    atomic_init(&n->any_finished, false);
    n->bell_fd = bell_fd;
}

static void op_run(struct env_op *op)
{
    op->res = 0;
    for (unsigned i = 0; i < op->steps_n && op->res == 0; i++) {
        op->res = uring_step_run(&op->steps[i]);
        op->failed_step = i;
    }
}

/* The first thread of the process has what it was started with. Only worth trying. */
static void step_aside(void)
{
    cpu_set_t all;
    if (sched_getaffinity(getpid(), sizeof(all), &all) == 0)
        sched_setaffinity(0, sizeof(all), &all);
    setpriority(PRIO_PROCESS, (id_t)gettid(), COMPUTES_NICE);
}

static void *names_main(void *arg)
{
    struct uring_names *n = arg;
    if (n->kind->computes)
        step_aside();
    pthread_mutex_lock(&n->lock);
    while (!n->stop) {
        struct list_node *node = list_pop_head(&n->queued);
        if (node == NULL) {
            n->waiting_n++;
            pthread_cond_wait(&n->work, &n->lock);
            n->waiting_n--;
            continue;
        }
        n->queued_n--;
        pthread_mutex_unlock(&n->lock);
        op_run(container_of(node, struct env_op, link));
        pthread_mutex_lock(&n->lock);
        list_push_tail(&n->finished, node);
        atomic_store(&n->any_finished, true);
        eventfd_write(n->bell_fd, 1);
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

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
    pthread_mutex_lock(&n->lock);
    bool one_more = n->queued_n >= n->waiting_n && n->threads_n < n->kind->threads_max;
    pthread_mutex_unlock(&n->lock);
    int rc = one_more ? thread_start(n) : 0;
    if (n->threads_n == 0)
        return rc;
    pthread_mutex_lock(&n->lock);
    list_push_tail(&n->queued, &op->link);
    n->queued_n++;
    pthread_cond_signal(&n->work);
    pthread_mutex_unlock(&n->lock);
    return 0;
}

void uring_names_take(struct uring_names *n, struct list_node *ret)
{
    if (!atomic_load_explicit(&n->any_finished, memory_order_acquire))
        return;
    pthread_mutex_lock(&n->lock);
    list_splice_tail(ret, &n->finished);
    atomic_store(&n->any_finished, false);
    pthread_mutex_unlock(&n->lock);
}

static void op_discard(struct env_op *op)
{
    unsigned ran = op->res == 0 ? op->steps_n : op->failed_step;
    for (unsigned i = 0; i < ran; i++)
        uring_step_discard(&op->steps[i]);
}

void uring_names_fini(struct uring_names *n)
{
    pthread_mutex_lock(&n->lock);
    n->stop = true;
    pthread_cond_broadcast(&n->work);
    pthread_mutex_unlock(&n->lock);
    for (unsigned i = 0; i < n->threads_n; i++)
        pthread_join(n->threads[i], NULL);
    struct list_node *node;
    while ((node = list_pop_head(&n->finished)) != NULL)
        op_discard(container_of(node, struct env_op, link));
    while (list_pop_head(&n->queued) != NULL)
        ;
    pthread_cond_destroy(&n->work);
    pthread_mutex_destroy(&n->lock);
}
