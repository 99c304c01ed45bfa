/* scripted_broker.c: the scripted Kafka server (tests/lib/script_broker.h) on real sockets, as a
 * program: what a load harness measures on it can be held against what it was told to do.
 * Happy path: `scripted-broker --listen 127.0.0.1:0 --service-us 500`; it prints the line
 *   `scripted-broker ready HOST:PORT`, serves until SIGTERM or SIGINT, prints what it saw as one
 *   line of JSON, and exits with 0.
 * Failure: exit 2 for bad options, 1 when it cannot listen.
 * Time: arrivals are when their bytes were received, answers are handed to the kernel in the turn
 *   of the ring that wakes for them, tens of microseconds late on an idle machine.
 * Threads: one. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/list.h"
#include "core/base/map.h"
#include "io/env_uring.h"
#include "io/sock.h"
#include "tests/lib/script_broker.h"

#define STOP_CHECK_NS UINT64_C(50000000)
#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
enum { RECV_BYTES = 256 * 1024, BACKLOG = 1024, HOST_BYTES = 256 };

static volatile sig_atomic_t stopped;

struct host {
    struct env *env;
    struct script_broker *script;
    struct map links; /* struct link by socket */
    struct env_op accept_op;
};

struct outgoing {
    struct list_node link;
    struct iovec iov;
};

struct link { /* one connection; its socket is its number in the script */
    struct host *host;
    int sock;
    struct env_op recv_op, send_op;
    struct list_node outgoing; /* the first one is being sent when send_op is lent */
    bool send_lent;
    bool ending; /* to be shut down once all is sent */
    bool ended;  /* nothing comes any more */
    uint8_t buf[RECV_BYTES];
};

/* ---- connections ---- */

static void on_received(struct env_op *op);
static void on_sent(struct env_op *op);
static void on_released(struct env_op *op);

static void outgoing_free(struct outgoing *out)
{
    list_remove(&out->link);
    free(out->iov.iov_base);
    free(out);
}

/* Send the next, or end what has nothing more to send or to receive. */
static void link_pump(struct link *l)
{
    struct list_node *first = list_head(&l->outgoing);
    if (l->send_lent)
        return;
    if (l->ended) {
        while ((first = list_head(&l->outgoing)) != NULL)
            outgoing_free(container_of(first, struct outgoing, link));
        map_remove(&l->host->links, (uint64_t)l->sock);
        env_sock_close(l->host->env, l->sock);
        free(l);
        return;
    }
    if (first == NULL) {
        if (l->ending)
            env_sock_shutdown(l->host->env, l->sock);
        return;
    }
    l->send_lent = true;
    env_sendv(l->host->env, &l->send_op, l->sock, &container_of(first, struct outgoing, link)->iov,
              1, on_sent, on_released);
}

static void on_sent(struct env_op *op)
{
    struct link *l = container_of(op, struct link, send_op);
    if (op->res < 0)
        env_sock_shutdown(l->host->env, l->sock);
}

static void on_released(struct env_op *op)
{
    struct link *l = container_of(op, struct link, send_op);
    l->send_lent = false;
    outgoing_free(container_of(list_head(&l->outgoing), struct outgoing, link));
    link_pump(l);
}

static void on_received(struct env_op *op)
{
    struct link *l = container_of(op, struct link, recv_op);
    uint64_t now_ns = env_now_ns(l->host->env);
    if (op->res <= 0) {
        script_close(l->host->script, l->sock, now_ns);
        l->ended = true;
        link_pump(l);
        return;
    }
    script_input(l->host->script, l->sock, now_ns, l->buf, (size_t)op->res);
    env_recv(l->host->env, &l->recv_op, l->sock, l->buf, sizeof(l->buf), 0, on_received);
}

static void on_accepted(struct env_op *op)
{
    struct host *h = container_of(op, struct host, accept_op);
    if (op->res < 0) {
        fprintf(stderr, "scripted-broker: accept: %s\n", strerror(-op->res));
        stopped = 1;
        return;
    }
    struct link *l = malloc(sizeof(*l));
    ASSERT(l != NULL);
    memset(l, 0, offsetof(struct link, buf));
    l->host = h;
    l->sock = op->res;
    list_init(&l->outgoing);
    int rc = map_put(&h->links, (uint64_t)l->sock, l);
    ASSERT(rc == 0);
    script_open(h->script, l->sock, env_now_ns(h->env));
    env_recv(h->env, &l->recv_op, l->sock, l->buf, sizeof(l->buf), 0, on_received);
}

static void hand_out(struct host *h, const struct script_output *out)
{
    struct link *l = map_get(&h->links, (uint64_t)out->conn);
    ASSERT(l != NULL && !l->ended);
    if (out->close) {
        l->ending = true;
    } else {
        struct outgoing *o = calloc(1, sizeof(*o));
        ASSERT(o != NULL);
        o->iov = (struct iovec){out->data, out->len_bytes};
        list_push_tail(&l->outgoing, &o->link);
    }
    link_pump(l);
}

static void serve(struct host *h)
{
    struct script_output out;
    while (!stopped) {
        uint64_t now_ns = env_now_ns(h->env);
        while (script_take(h->script, now_ns, &out))
            hand_out(h, &out);
        env_turn(h->env, MIN(script_next_due(h->script), now_ns + STOP_CHECK_NS));
    }
}

/* ---- the command line ---- */

static const struct {
    const char *name;
    size_t at; /* of a uint64_t in script_config */
    uint64_t unit;
} numbers[] = {
#define NUMBER(flag, field, unit_)                                                                 \
    {                                                                                              \
        flag, offsetof(struct script_config, field), unit_                                         \
    }
    NUMBER("service-us", service_ns, NS_PER_US),
    NUMBER("rate", rate_per_s, 1),
    NUMBER("freeze-every-ms", freeze_every_ns, NS_PER_MS),
    NUMBER("freeze-ms", freeze_ns, NS_PER_MS),
    NUMBER("freeze-first-ms", freeze_first_ns, NS_PER_MS),
    NUMBER("lose-record", lose_record, 1),
    NUMBER("repeat-record", repeat_record, 1),
    NUMBER("corrupt-record", corrupt_record, 1),
    NUMBER("swap-record", swap_record, 1),
    NUMBER("lose-ack", lose_ack, 1),
    NUMBER("error-request", error_request, 1),
    NUMBER("close-request", close_request, 1),
    NUMBER("hide-records", hide_records, 1),
    NUMBER("show-ms", show_ns, NS_PER_MS),
    NUMBER("max-records", max_records, 1),
#undef NUMBER
};
enum { NUMBERS = ARRAY_LEN(numbers), OPTION_LISTEN = NUMBERS, OPTION_PARTITIONS, OPTIONS };

struct options {
    struct script_config script;
    char host[HOST_BYTES];
    uint64_t port;
};

static bool number_parse(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;
    errno = 0;
    uint64_t v = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || *text == '-' || v > max)
        return false;
    *ret = v;
    return true;
}

static bool listen_parse(const char *text, struct options *o)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof(o->host))
        return false;
    memcpy(o->host, text, (size_t)(colon - text));
    o->host[colon - text] = 0;
    return number_parse(colon + 1, UINT16_MAX, &o->port);
}

static bool option_take(struct options *o, int which, const char *text)
{
    uint64_t v;
    if (which == OPTION_LISTEN)
        return listen_parse(text, o);
    if (which == OPTION_PARTITIONS) {
        if (!number_parse(text, INT32_MAX, &v))
            return false;
        o->script.partitions = (int32_t)v;
        return true;
    }
    if (!number_parse(text, UINT64_MAX / numbers[which].unit, &v))
        return false;
    v *= numbers[which].unit;
    memcpy((char *)&o->script + numbers[which].at, &v, sizeof(v));
    return true;
}

static bool options_parse(int argc, char **argv, struct options *o)
{
    struct option known[OPTIONS + 1] = {
        [OPTION_LISTEN] = {"listen", required_argument, NULL, 0},
        [OPTION_PARTITIONS] = {"partitions", required_argument, NULL, 0}};
    int which = 0;
    for (int i = 0; i < NUMBERS; i++)
        known[i] = (struct option){numbers[i].name, required_argument, NULL, 0};
    for (int c; (c = getopt_long(argc, argv, "", known, &which)) != -1;) {
        if (c != 0)
            return false; /* getopt has said why */
        if (!option_take(o, which, optarg)) {
            fprintf(stderr, "scripted-broker: --%s: bad value %s\n", known[which].name, optarg);
            return false;
        }
    }
    if (optind != argc) {
        fprintf(stderr, "scripted-broker: unexpected argument %s\n", argv[optind]);
        return false;
    }
    if (o->script.freeze_every_ns > 0 && o->script.freeze_ns >= o->script.freeze_every_ns) {
        fprintf(stderr, "scripted-broker: --freeze-ms must be below --freeze-every-ms\n");
        return false;
    }
    return true;
}

/* ---- what it saw ---- */

static const struct {
    const char *name;
    size_t at; /* of a uint64_t in script_counters */
} shown[] = {
#define SHOWN(field)                                                                               \
    {                                                                                              \
#field, offsetof(struct script_counters, field)                                            \
    }
    SHOWN(connections),       SHOWN(requests),         SHOWN(produce_requests),
    SHOWN(fetch_requests),    SHOWN(records),          SHOWN(record_bytes),
    SHOWN(stored_records),    SHOWN(fetched_bytes),    SHOWN(duplicate_batches),
    SHOWN(refused_batches),   SHOWN(lost_records),     SHOWN(repeated_records),
    SHOWN(corrupted_records), SHOWN(swapped_records),  SHOWN(lost_acks),
    SHOWN(errored_requests),  SHOWN(closed_requests),  SHOWN(busy_ns),
    SHOWN(backlog_max),       SHOWN(first_produce_ns), SHOWN(last_due_ns),
#undef SHOWN
};

static void report(const struct script_broker *s)
{
    for (unsigned i = 0; i < ARRAY_LEN(shown); i++) {
        uint64_t v;
        memcpy(&v, (const char *)script_counters(s) + shown[i].at, sizeof(v));
        printf("%s\"%s\": %" PRIu64, i == 0 ? "{" : ", ", shown[i].name, v);
    }
    printf("}\n");
    fflush(stdout);
}

/* ---- life ---- */

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

/* Without SA_RESTART, so that a signal ends the wait of the ring. */
static void signals_set(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1);
}

static void host_fini(struct host *h)
{
    struct link *l;
    env_destroy(h->env);
    for (size_t it = 0; (l = map_next(&h->links, &it)) != NULL;) {
        struct list_node *node;
        while ((node = list_head(&l->outgoing)) != NULL)
            outgoing_free(container_of(node, struct outgoing, link));
        free(l);
    }
    map_fini(&h->links);
    script_destroy(h->script);
}

static int run(struct options *o)
{
    struct host h = {0};
    struct env_uring_config ring = {0};
    int listener = -1;
    int rc = sock_listen(o->host, (uint16_t)o->port, BACKLOG, &listener);
    if (rc == 0)
        rc = env_uring_create(&ring, &h.env);
    if (rc < 0) {
        fprintf(stderr, "scripted-broker: %s:%" PRIu64 ": %s\n", o->host, o->port, strerror(-rc));
        return 1;
    }
    o->script.host = o->host;
    o->script.port = (uint16_t)sock_local_port(listener);
    h.script = script_create(&o->script);
    map_init(&h.links);
    env_accept(h.env, &h.accept_op, listener, on_accepted);
    printf("scripted-broker ready %s:%u\n", o->host, o->script.port);
    fflush(stdout);
    serve(&h);
    report(h.script);
    host_fini(&h);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {.script = {.node_id = 1, .max_records = 4000000}, .host = "127.0.0.1"};
    if (!options_parse(argc, argv, &o))
        return 2;
    signals_set();
    return run(&o);
}
