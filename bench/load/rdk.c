#include "bench/load/rdk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "bench/load/intake.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/list.h"

static uint64_t cpu_ns(struct course *c)
{
    return rdk_host_cpu_ns(&container_of(c, struct rdk, course)->host);
}

static void counts_take(struct course *c)
{
    struct rdk *r = container_of(c, struct rdk, course);
    rdk_producers_take_counts(r);
    rdk_consumers_take_counts(r);
}

void rdk_counts_take(struct rdk *r, struct rdk_handle *h)
{
    r->course.out.connection_rc = h->disconnects > 0 ? -ECONNRESET : r->course.out.connection_rc;
    course_error(&r->course, h->error_code);
    rdk_handle_take(h, course_counts(&r->course));
}

static const struct course_ops course_ops = {
    .record_make = rdk_record_make,
    .cpu_ns = cpu_ns,
    .counts_take = counts_take,
};

static void stage_enter(struct rdk *r, int stage, uint64_t now_ns)
{
    bool first = r->course.stage == LOADER_CONNECT;
    bool late = course_stage_enter(&r->course, stage, now_ns);
    if (first && r->course.config.consume == CONSUME_FROM_START)
        rdk_consumers_start(r, false);
    if (late)
        rdk_consumers_start(r, true);
    if (stage >= LOADER_CUT)
        rdk_producers_end(r);
}

/* A signal that was lost, or came while the queue was being emptied, costs COURSE_LOOK_NS at most.
 */
static bool queues_serve(struct rdk *r, uint64_t now_ns)
{
    bool all = now_ns - r->look_ns >= COURSE_LOOK_NS;
    if (all)
        r->look_ns = now_ns;
    bool more = rdk_producers_serve(r, all);
    more |= rdk_consumers_serve(r, all);
    return more;
}

static bool turn(void *self)
{
    struct rdk *r = self;
    int stage = atomic_load_explicit(r->course.config.stage, memory_order_acquire);
    uint64_t due_ns = MAX(r->turn_ns, r->due_ns);
    rdk_host_wait(&r->host, MIN(due_ns, clock_now_ns() + COURSE_LOOK_NS));
    uint64_t now_ns = clock_now_ns();
    r->turn_ns = now_ns;
    if (stage != r->course.stage)
        stage_enter(r, stage, now_ns);
    bool more = queues_serve(r, now_ns);
    if (r->course.stage == LOADER_CONNECT) {
        r->due_ns = more ? now_ns : UINT64_MAX;
        return true;
    }
    now_ns = clock_now_ns(); /* serving takes its time, and the schedule does not wait */
    course_interval_run(&r->course, now_ns);
    r->due_ns = rdk_producers_pump(r, now_ns);
    r->due_ns = more ? now_ns : MIN(r->due_ns, r->course.interval_end_ns);
    course_publish(&r->course);
    return r->course.stage != LOADER_END;
}

/* ---- life ---- */

static void destroy(void *self)
{
    struct rdk *r = self;
    rdk_producers_fini(r);
    rdk_consumers_fini(r);
    rdk_host_fini(&r->host);
    course_fini(&r->course);
    free(r);
}

static int clients_init(struct rdk *r, char *reason, size_t reason_size)
{
    unsigned n = course_producers_count(&r->course) + intake_count(&r->course);
    if (n > RDK_HANDLES_MAX) {
        snprintf(reason, reason_size,
                 "%u producers and consumers in one process are too many for librdkafka, which "
                 "runs several threads for each: %u at most",
                 n, RDK_HANDLES_MAX);
        return -EINVAL;
    }
    int rc = rdk_producers_init(r, reason, reason_size);
    return rc < 0 ? rc : rdk_consumers_init(r, reason, reason_size);
}

static int create(void **ret, const struct loader_config *config, char *reason, size_t reason_size)
{
    struct rdk *r = calloc(1, sizeof(*r));
    snprintf(reason, reason_size, "no memory");
    if (r == NULL)
        return -ENOMEM;
    r->connect_limit_ns = clock_now_ns() + COURSE_CONNECT_NS;
    int rc = rdk_host_init(&r->host);
    if (rc < 0) {
        free(r);
        return rc;
    }
    rc = course_init(&r->course, config, &course_ops);
    if (rc == 0)
        rc = clients_init(r, reason, reason_size);
    if (rc < 0) {
        destroy(r);
        return rc;
    }
    /* The kernel's 50 us would make every send late. Only now, as threads inherit it, and the
     * library's are to be as users have them. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    *ret = r;
    return 0;
}

static struct load_outcome *outcome(void *self)
{
    return &((struct rdk *)self)->course.out;
}

static int produced(void *self, struct produced *to)
{
    return rdk_producers_produced(self, to);
}

static void verify(void *self, const struct produced *all)
{
    rdk_consumers_verify(self, all);
}

const struct load_driver_ops librdkafka_driver = {
    .name = "librdkafka",
    .create = create,
    .turn = turn,
    .outcome = outcome,
    .produced = produced,
    .verify = verify,
    .destroy = destroy,
};
