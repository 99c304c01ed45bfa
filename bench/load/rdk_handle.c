#include "bench/load/rdk_handle.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench/load/kafka.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"

enum {
    SECOND_NS = 1000 * 1000 * 1000,
    TRY_MS = 500, /* between looks at whether all brokers are known to be down */
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts = {0};
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

/* ---- host ---- */

int rdk_host_init(struct rdk_host *host)
{
    *host = (struct rdk_host){.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (host->event_fd < 0)
        return -errno;
    pthread_mutex_init(&host->lock, NULL);
    return 0;
}

void rdk_host_fini(struct rdk_host *host)
{
    close(host->event_fd);
    pthread_mutex_destroy(&host->lock);
    free(host->clocks);
}

void rdk_host_wait(struct rdk_host *host, uint64_t until_ns)
{
    struct pollfd fd = {.fd = host->event_fd, .events = POLLIN};
    uint64_t now_ns = clock_now_ns(), count;
    if (until_ns <= now_ns)
        return;
    uint64_t left_ns = until_ns - now_ns;
    struct timespec timeout = {.tv_sec = (time_t)(left_ns / SECOND_NS),
                               .tv_nsec = (long)(left_ns % SECOND_NS)};
    if (ppoll(&fd, 1, &timeout, NULL) <= 0)
        return;
    /* In this order: who signals after the flag fell writes again, who signalled before is seen. */
    if (read(host->event_fd, &count, sizeof(count)) == sizeof(count))
        atomic_store(&host->woken, false);
}

uint64_t rdk_host_cpu_ns(struct rdk_host *host)
{
    uint64_t sum_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    pthread_mutex_lock(&host->lock);
    sum_ns += host->ended_ns;
    for (unsigned i = 0; i < host->clocks_n; i++)
        sum_ns += clock_ns(host->clocks[i]);
    pthread_mutex_unlock(&host->lock);
    return sum_ns;
}

static bool clocks_reserve(struct rdk_host *host)
{
    if (host->clocks_n < host->clocks_cap)
        return true;
    unsigned cap = MAX(16u, host->clocks_cap * 2);
    clockid_t *clocks = reallocarray(host->clocks, cap, sizeof(*clocks));
    if (clocks == NULL)
        return false;
    host->clocks = clocks;
    host->clocks_cap = cap;
    return true;
}

/* ---- called by the library's threads ---- */

static rd_kafka_resp_err_t on_thread_start(rd_kafka_t *rk, rd_kafka_thread_type_t type,
                                           const char *name, void *arg)
{
    struct rdk_host *host = ((struct rdk_handle *)arg)->host;
    clockid_t clock;
    (void)rk, (void)type, (void)name;
    if (pthread_getcpuclockid(pthread_self(), &clock) != 0)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    pthread_mutex_lock(&host->lock);
    if (clocks_reserve(host)) /* else it is counted when it ends */
        host->clocks[host->clocks_n++] = clock;
    pthread_mutex_unlock(&host->lock);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_thread_exit(rd_kafka_t *rk, rd_kafka_thread_type_t type,
                                          const char *name, void *arg)
{
    struct rdk_host *host = ((struct rdk_handle *)arg)->host;
    clockid_t clock;
    (void)rk, (void)type, (void)name;
    if (pthread_getcpuclockid(pthread_self(), &clock) != 0)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    pthread_mutex_lock(&host->lock);
    host->ended_ns += clock_ns(clock);
    for (unsigned i = 0; i < host->clocks_n; i++)
        if (host->clocks[i] == clock)
            host->clocks[i--] = host->clocks[--host->clocks_n];
    pthread_mutex_unlock(&host->lock);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static atomic_uint_fast32_t *unanswered_of(struct rdk_handle *h, int32_t broker)
{
    return &h->unanswered[(uint32_t)broker % RDK_BROKER_SLOTS];
}

/* A connection begins with ApiVersions: what its forerunner was not answered will not be. */
static rd_kafka_resp_err_t on_request_sent(rd_kafka_t *rk, int fd, const char *name, int32_t broker,
                                           int16_t api_key, int16_t version, int32_t correlation,
                                           size_t size, void *arg)
{
    struct rdk_handle *h = arg;
    (void)rk, (void)fd, (void)name, (void)version, (void)correlation;
    if (api_key == KAFKA_PRODUCE) {
        atomic_fetch_add_explicit(&h->requests, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&h->request_bytes, size, memory_order_relaxed);
        if (!h->unacknowledged)
            atomic_fetch_add_explicit(unanswered_of(h, broker), 1, memory_order_relaxed);
    } else if (api_key == KAFKA_API_VERSIONS && broker >= 0) {
        uint_fast32_t n =
            atomic_exchange_explicit(unanswered_of(h, broker), 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&h->lost, n, memory_order_relaxed);
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_response(rd_kafka_t *rk, int fd, const char *name, int32_t broker,
                                       int16_t api_key, int16_t version, int32_t correlation,
                                       size_t size, int64_t rtt, rd_kafka_resp_err_t err, void *arg)
{
    struct rdk_handle *h = arg;
    (void)rk, (void)fd, (void)name, (void)version, (void)correlation, (void)size, (void)rtt;
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    if (api_key == KAFKA_FETCH)
        atomic_fetch_add_explicit(&h->fetches, 1, memory_order_relaxed);
    else if (api_key == KAFKA_PRODUCE)
        atomic_fetch_sub_explicit(unanswered_of(h, broker), 1, memory_order_relaxed);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *arg,
                                  char *reason, size_t reason_size)
{
    static const char name[] = "penstock-bench";
    (void)conf, (void)reason, (void)reason_size;
    rd_kafka_interceptor_add_on_thread_start(rk, name, on_thread_start, arg);
    rd_kafka_interceptor_add_on_thread_exit(rk, name, on_thread_exit, arg);
    rd_kafka_interceptor_add_on_request_sent(rk, name, on_request_sent, arg);
    rd_kafka_interceptor_add_on_response_received(rk, name, on_response, arg);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Called with the queue's lock held. */
static void on_queue_event(rd_kafka_t *rk, void *arg)
{
    struct rdk_handle *h = arg;
    (void)rk;
    atomic_store(&h->signalled, true);
    if (!atomic_exchange(&h->host->woken, true))
        eventfd_write(h->host->event_fd, 1);
}

/* ---- called while the load thread serves a queue ---- */

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *arg)
{
    struct rdk_handle *h = arg;
    char text[256];
    (void)reason;
    h->disconnects += err == RD_KAFKA_RESP_ERR__TRANSPORT;
    h->all_down |= err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
    if (err == RD_KAFKA_RESP_ERR__FATAL) {
        h->fatal = true;
        err = rd_kafka_fatal_error(rk, text, sizeof(text));
    }
    if (err > 0 && h->error_code == 0)
        h->error_code = (int16_t)err;
}

/* ---- settings ---- */

void rdk_conf_init(struct rdk_conf *c, char *reason, size_t reason_size)
{
    *c = (struct rdk_conf){
        .conf = rd_kafka_conf_new(), .reason = reason, .reason_size = reason_size};
}

void rdk_conf_set(struct rdk_conf *c, const char *ours, const char *name, const char *format, ...)
{
    char why[256];
    va_list args;
    if (c->rc < 0)
        return;
    ASSERT(c->n < RDK_SETTINGS_MAX);
    char *value = c->asked[c->n].value;
    va_start(args, format);
    int len = vsnprintf(value, RDK_VALUE_BYTES, format, args);
    va_end(args);
    c->asked[c->n].ours = ours;
    c->asked[c->n++].name = name;
    snprintf(why, sizeof(why), "too long");
    if (len < RDK_VALUE_BYTES &&
        rd_kafka_conf_set(c->conf, name, value, why, sizeof(why)) == RD_KAFKA_CONF_OK)
        return;
    snprintf(c->reason, c->reason_size, "%s=%s: librdkafka: %s", ours, value, why);
    c->rc = -EINVAL;
}

static bool value_same(const char *a, const char *b)
{
    char *a_end, *b_end;
    double x = strtod(a, &a_end), y = strtod(b, &b_end);
    bool numbers = a_end != a && *a_end == '\0' && b_end != b && *b_end == '\0';
    return numbers ? x == y : strcasecmp(a, b) == 0;
}

/* librdkafka adjusts some settings to others, without failing. */
static int settings_check(const rd_kafka_t *rk, const struct rdk_conf *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        char value[RDK_VALUE_BYTES] = "";
        size_t size = sizeof(value);
        const char *asked = c->asked[i].value;
        rd_kafka_conf_get(rd_kafka_conf((rd_kafka_t *)rk), c->asked[i].name, value, &size);
        if (value_same(asked, value))
            continue;
        snprintf(c->reason, c->reason_size, "%s: librdkafka has made %s=%s of %s", c->asked[i].ours,
                 c->asked[i].name, value, asked);
        return -EINVAL;
    }
    return 0;
}

/* ---- handle ---- */

static rd_kafka_queue_t *queue_of(rd_kafka_t *rk, rd_kafka_type_t type)
{
    if (type == RD_KAFKA_PRODUCER)
        return rd_kafka_queue_get_main(rk);
    rd_kafka_poll_set_consumer(rk); /* errors come by the same queue as records */
    return rd_kafka_queue_get_consumer(rk);
}

int rdk_handle_open(struct rdk_handle *h, struct rdk_host *host, rd_kafka_type_t type,
                    struct rdk_conf *c)
{
    char why[256];
    *h = (struct rdk_handle){.host = host};
    if (c->rc == 0) {
        rd_kafka_conf_set_opaque(c->conf, h);
        rd_kafka_conf_set_log_cb(c->conf, NULL); /* what matters comes as an error or a result */
        rd_kafka_conf_set_error_cb(c->conf, on_error);
        if (type == RD_KAFKA_PRODUCER)
            rd_kafka_conf_set_events(c->conf, RD_KAFKA_EVENT_DR);
        rd_kafka_conf_interceptor_add_on_new(c->conf, "penstock-bench", on_new, h);
        h->rk = rd_kafka_new(type, c->conf, why, sizeof(why));
    }
    if (h->rk == NULL) {
        rd_kafka_conf_destroy(c->conf);
        if (c->rc == 0)
            snprintf(c->reason, c->reason_size, "librdkafka: %s", why);
        return c->rc < 0 ? c->rc : -EINVAL;
    }
    h->queue = queue_of(h->rk, type);
    rd_kafka_queue_cb_event_enable(h->queue, on_queue_event, h);
    int rc = settings_check(h->rk, c);
    if (rc < 0)
        rdk_handle_close(h);
    return rc;
}

/* No load yet: what comes are errors only, which on_error takes. */
static bool all_down(struct rdk_handle *h)
{
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(h->queue, 0)) != NULL)
        rd_kafka_event_destroy(event);
    return h->all_down;
}

static int partitions_read(const struct rd_kafka_metadata *metadata, char *reason,
                           size_t reason_size)
{
    const struct rd_kafka_metadata_topic *topic = metadata->topics;
    if (metadata->topic_cnt == 1 && topic->err == 0 && topic->partition_cnt > 0)
        return topic->partition_cnt;
    snprintf(reason, reason_size, "topic: %s",
             rd_kafka_err2str(metadata->topic_cnt == 1 ? topic->err : RD_KAFKA_RESP_ERR__BAD_MSG));
    return -EPROTO;
}

int rdk_handle_connect(struct rdk_handle *h, const char *topic, uint64_t limit_ns, char *reason,
                       size_t reason_size)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
    h->topic = rd_kafka_topic_new(h->rk, topic, NULL);
    if (h->topic == NULL) {
        snprintf(reason, reason_size, "topic: %s", rd_kafka_err2str(rd_kafka_last_error()));
        return -EINVAL;
    }
    while (clock_now_ns() < limit_ns) {
        err = rd_kafka_metadata(h->rk, 0, h->topic, &metadata, TRY_MS);
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR || all_down(h))
            break;
    }
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        snprintf(reason, reason_size, "connecting to the brokers: librdkafka: %s",
                 rd_kafka_err2str(err));
        return -ECONNREFUSED;
    }
    int rc = partitions_read(metadata, reason, reason_size);
    rd_kafka_metadata_destroy(metadata);
    return rc;
}

void rdk_handle_close(struct rdk_handle *h)
{
    if (h->rk == NULL)
        return;
    rd_kafka_queue_cb_event_enable(h->queue, NULL, NULL);
    rd_kafka_queue_destroy(h->queue);
    if (h->topic != NULL)
        rd_kafka_topic_destroy(h->topic);
    /* No consumer group to take leave of. */
    rd_kafka_destroy_flags(h->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    h->rk = NULL;
}

bool rdk_handle_ready(struct rdk_handle *h)
{
    return atomic_load_explicit(&h->signalled, memory_order_relaxed) &&
           atomic_exchange(&h->signalled, false);
}

static uint64_t taken(atomic_uint_fast64_t *count)
{
    return atomic_exchange_explicit(count, 0, memory_order_relaxed);
}

void rdk_handle_take(struct rdk_handle *h, struct load_counts *to)
{
    uint64_t requests = taken(&h->requests);
    to->requests += requests;
    to->batches += requests; /* librdkafka sends one batch in a request */
    to->request_bytes += taken(&h->request_bytes);
    to->fetches += taken(&h->fetches);
    to->reconnects += h->disconnects;
    to->retries += taken(&h->lost);
    h->disconnects = 0;
}
