/* load.c: the clients of a crash test: one producer of each kind (record.h) and a consumer of all
 * partitions, on librdkafka, that go on while the broker is killed and started again, and append
 * what they are told to a file of events.
 * Usage: crash-load BOOTSTRAP TOPIC PARTITIONS EVENTS, then commands on stdin, one answer each:
 *   wait N    once N more records are acknowledged and the consumer has seen something new:
 *             "ok ACKNOWLEDGED BYTES SEEN", or "late ..." after 60 s
 *   sync      the same line at once; all events up to now are in the file
 *   life      the broker is dead and will be started again: the same line, once nothing more of its
 *             last answers comes; events from then on are of its next life
 *   stop      no more records; what is queued is sent; then the same line, and the end
 * Failure: what must not happen whatever the broker does (a record of wrong bytes, an idempotent
 *   producer that gives up) is one line "problem: ..." instead of the next answer, and exit 1.
 * Threads: one a producer, one for the consumer, main for the commands. */
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tests/crash/record.h"

#define WAIT_MS 60000
#define QUIET_MS 100
#define LAG_RECORDS_MAX 200 /* a producer that could not send does not catch up at once */

struct producer {
    const struct producer_kind *kind;
    uint32_t index;
    rd_kafka_t *client;
    rd_kafka_topic_t *topic;
    pthread_t thread;
    uint64_t made_n; /* records made so far; the last one is in value, perhaps not sent yet */
    uint8_t value[RECORD_BYTES_MAX];
};

static const char *bootstrap, *topic_name;
static int partitions;
static FILE *events;
static struct producer *producers;
static atomic_bool stopping;
static atomic_uint life;
static atomic_ullong acknowledged, acknowledged_bytes, seen;

static void problem(const char *format, ...)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&once); /* never given back: the first one is it */
    va_list args;
    va_start(args, format);
    printf("problem: ");
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(NULL);
    _exit(1);
}

static void event_write(const struct event *e)
{
    if (fwrite(e, sizeof(*e), 1, events) != 1)
        problem("the file of events cannot be written: %s", strerror(errno));
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char error[256];
    if (rd_kafka_conf_set(conf, key, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
        problem("%s=%s: %s", key, value, error);
}

static rd_kafka_conf_t *conf_new(void)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", bootstrap);
    set(conf, "reconnect.backoff.ms", "20");
    set(conf, "reconnect.backoff.max.ms", "200");
    set(conf, "log_level", "0");
    return conf;
}

static rd_kafka_t *client_new(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    char error[256];
    rd_kafka_t *client = rd_kafka_new(type, conf, error, sizeof(error));
    if (client == NULL)
        problem("no client: %s", error);
    return client;
}

/* ---- producers ---- */

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *m, void *opaque)
{
    (void)client;
    const struct producer *p = opaque;
    if (m->err != 0) {
        if (kind_is_idempotent(p->kind))
            problem("producer '%s' gave up a record: %s", p->kind->name, rd_kafka_err2str(m->err));
        return;
    }
    struct event e = {.kind = EVENT_ACKNOWLEDGED,
                      .producer = p->index,
                      .partition = (uint32_t)m->partition,
                      .life = atomic_load(&life),
                      .number = (uintptr_t)m->_private,
                      .offset = m->offset,
                      .at_ms = now_ms()};
    event_write(&e);
    atomic_fetch_add(&acknowledged, 1);
    atomic_fetch_add(&acknowledged_bytes, m->len);
}

static void producer_open(struct producer *p)
{
    rd_kafka_conf_t *conf = conf_new();
    set(conf, "enable.idempotence", p->kind->idempotence);
    set(conf, "acks", p->kind->acks);
    set(conf, "retries", p->kind->retries);
    set(conf, "retry.backoff.ms", "20");
    set(conf, "compression.codec", p->kind->codec);
    set(conf, "linger.ms", p->kind->linger_ms);
    set(conf, "queue.buffering.max.messages", "5000");
    set(conf, "queue.buffering.max.kbytes", "16384");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_opaque(conf, p);
    p->client = client_new(RD_KAFKA_PRODUCER, conf);
    p->topic = rd_kafka_topic_new(p->client, topic_name, NULL);
    if (p->topic == NULL)
        problem("no topic: %s", rd_kafka_err2str(rd_kafka_last_error()));
}

/* False: the queue is full. */
static bool producer_send(struct producer *p, uint64_t number)
{
    if (p->made_n == number) {
        record_make(p->index, number, p->value);
        p->made_n++;
    }
    if (rd_kafka_produce(p->topic, (int32_t)(number % (uint64_t)partitions), RD_KAFKA_MSG_F_COPY,
                         p->value, record_size(p->index, number), NULL, 0,
                         (void *)(uintptr_t)number) == 0)
        return true;
    if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        problem("producer '%s': %s", p->kind->name, rd_kafka_err2str(rd_kafka_last_error()));
    return false;
}

static void *producer_main(void *arg)
{
    struct producer *p = arg;
    int64_t began = now_ms();
    uint64_t sent = 0, from = 0;
    while (!atomic_load(&stopping)) {
        uint64_t due = from + (uint64_t)(now_ms() - began) * p->kind->a_second / 1000;
        while (sent < due && producer_send(p, sent))
            sent++;
        if (due - sent > LAG_RECORDS_MAX) {
            began = now_ms();
            from = sent;
        }
        rd_kafka_poll(p->client, 3);
        if (rd_kafka_fatal_error(p->client, NULL, 0) != 0)
            problem("producer '%s' had a fatal error", p->kind->name);
    }
    rd_kafka_flush(p->client, WAIT_MS);
    if (rd_kafka_outq_len(p->client) != 0)
        problem("producer '%s' has %d records left", p->kind->name, rd_kafka_outq_len(p->client));
    rd_kafka_topic_destroy(p->topic);
    rd_kafka_destroy(p->client);
    return NULL;
}

/* ---- the consumer ---- */

static void message_note(const rd_kafka_message_t *m, int64_t next[PARTITIONS_MAX])
{
    struct event e = {.kind = EVENT_SEEN,
                      .partition = (uint32_t)m->partition,
                      .life = atomic_load(&life),
                      .offset = m->offset,
                      .at_ms = now_ms()};
    const char *wrong = record_check(m->payload, m->len, &e.producer, &e.number);
    if (wrong != NULL)
        problem("partition %d: the consumer got a record %s at offset %lld", m->partition, wrong,
                (long long)m->offset);
    if (m->offset != next[m->partition])
        problem("partition %d: the consumer got offset %lld after %lld", m->partition,
                (long long)m->offset, (long long)next[m->partition] - 1);
    next[m->partition]++;
    event_write(&e);
    atomic_fetch_add(&seen, 1);
}

static bool error_passes(rd_kafka_resp_err_t error)
{
    return error != RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET && error != RD_KAFKA_RESP_ERR__BAD_MSG &&
           error != RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE;
}

static void *consumer_main(void *arg)
{
    (void)arg;
    int64_t next[PARTITIONS_MAX] = {0};
    rd_kafka_conf_t *conf = conf_new();
    set(conf, "group.id", "unused");
    set(conf, "enable.auto.commit", "false");
    set(conf, "auto.offset.reset", "error");
    set(conf, "check.crcs", "true");
    rd_kafka_t *client = client_new(RD_KAFKA_CONSUMER, conf);
    rd_kafka_poll_set_consumer(client);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(all, topic_name, i)->offset = 0;
    rd_kafka_assign(client, all);
    rd_kafka_topic_partition_list_destroy(all);
    while (!atomic_load(&stopping)) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(client, 50);
        if (m == NULL)
            continue;
        if (m->err == 0)
            message_note(m, next);
        else if (!error_passes(m->err))
            problem("partition %d: the consumer got %s", m->partition, rd_kafka_message_errstr(m));
        rd_kafka_message_destroy(m);
    }
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
    return NULL;
}

/* ---- commands ---- */

static void answer(const char *word)
{
    if (fflush(events) != 0)
        problem("the file of events cannot be written: %s", strerror(errno));
    printf("%s %llu %llu %llu\n", word, (unsigned long long)atomic_load(&acknowledged),
           (unsigned long long)atomic_load(&acknowledged_bytes),
           (unsigned long long)atomic_load(&seen));
    fflush(stdout);
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

static unsigned long long events_n(void)
{
    return atomic_load(&acknowledged) + atomic_load(&seen);
}

static void next_life(void)
{
    unsigned long long last = events_n();
    for (int64_t since = now_ms(); now_ms() - since < QUIET_MS; pause_ms(5)) {
        if (events_n() != last)
            since = now_ms();
        last = events_n();
    }
    if (atomic_fetch_add(&life, 1) + 1 >= LIVES_MAX)
        problem("more than %d lives", LIVES_MAX);
    answer("ok");
}

static void wait_for(unsigned long long more)
{
    unsigned long long wanted = atomic_load(&acknowledged) + more, seen_before = atomic_load(&seen);
    int64_t end = now_ms() + WAIT_MS;
    while (atomic_load(&acknowledged) < wanted || atomic_load(&seen) == seen_before) {
        if (now_ms() > end) {
            answer("late");
            return;
        }
        pause_ms(1);
    }
    answer("ok");
}

static void commands_run(void)
{
    char line[64];
    while (fgets(line, sizeof(line), stdin) != NULL && strcmp(line, "stop\n") != 0) {
        if (strncmp(line, "wait ", 5) == 0)
            wait_for(strtoull(line + 5, NULL, 10));
        else if (strcmp(line, "life\n") == 0)
            next_life();
        else if (strcmp(line, "sync\n") == 0)
            answer("ok");
        else
            problem("not a command: %s", line);
    }
}

int main(int argc, char **argv)
{
    pthread_t consumer;
    partitions = argc == 5 ? atoi(argv[3]) : 0;
    if (partitions < 1 || partitions > PARTITIONS_MAX) {
        fprintf(stderr, "usage: crash-load BOOTSTRAP TOPIC PARTITIONS EVENTS\n");
        return 2;
    }
    bootstrap = argv[1];
    topic_name = argv[2];
    events = fopen(argv[4], "ab");
    producers = calloc(producer_kinds_n, sizeof(*producers));
    if (events == NULL || producers == NULL)
        problem("%s: %s", argv[4], strerror(errno));
    for (uint32_t i = 0; i < producer_kinds_n; i++) {
        producers[i].kind = &producer_kinds[i];
        producers[i].index = i;
        producer_open(&producers[i]);
    }
    for (uint32_t i = 0; i < producer_kinds_n; i++)
        if (pthread_create(&producers[i].thread, NULL, producer_main, &producers[i]) != 0)
            problem("no thread");
    if (pthread_create(&consumer, NULL, consumer_main, NULL) != 0)
        problem("no thread");
    commands_run();
    atomic_store(&stopping, true);
    for (uint32_t i = 0; i < producer_kinds_n; i++)
        pthread_join(producers[i].thread, NULL);
    pthread_join(consumer, NULL);
    answer("ok");
    free(producers);
    return fclose(events) == 0 ? 0 : 1;
}
