#include "tools/config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/meta/topic_config.h"
#include "tools/config_private.h"

#define ARGS_MAX 24

/* One run of the parser; err and out as text. */
struct run {
    struct serve_config c;
    int rc;
    char *err, *out;
};

static struct run run_argv(int argc, char **argv)
{
    struct run r = {.rc = 99};
    size_t err_len, out_len;
    FILE *err = open_memstream(&r.err, &err_len), *out = open_memstream(&r.out, &out_len);
    r.rc = serve_config_parse(argc, argv, &r.c, err, out);
    fclose(err);
    fclose(out);
    return r;
}

static void run_end(struct run *r)
{
    if (r->rc == 0)
        serve_config_fini(&r->c);
    free(r->err);
    free(r->out);
}

#define RUN(...)                                                                                   \
    ({                                                                                             \
        char *argv_[] = {"serve", ##__VA_ARGS__};                                                  \
        run_argv((int)ARRAY_LEN(argv_), argv_);                                                    \
    })

static char file_name[64];

static char *file_with(const char *text)
{
    strcpy(file_name, "/tmp/penstock-config-XXXXXX");
    int fd = mkstemp(file_name);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return file_name;
}

static void file_remove(void)
{
    if (file_name[0] != '\0')
        unlink(file_name);
}

TestSuite(config, .fini = file_remove);

static const char *topic_value(const struct serve_config *c, const char *name)
{
    return c->topic_values[topic_config_find(name) - topic_config_keys];
}

static bool warned(const struct serve_config *c, const char *what)
{
    for (unsigned i = 0; i < c->warnings_n; i++)
        if (strstr(c->warnings[i], what) != NULL)
            return true;
    return false;
}

Test(config, defaults)
{
    struct run r = RUN();
    cr_assert_eq(r.rc, 0, "%s", r.err);
    cr_assert_str_eq(r.err, "");
    cr_assert_eq(r.c.data_dirs_n, 1u);
    cr_assert_str_eq(r.c.data_dirs[0], "./data");
    cr_assert_null(r.c.journal_dir);
    cr_assert_eq(r.c.journal_bytes, 256 << 20);
    cr_assert_eq(r.c.direct_min_bytes, 256 << 10);
    cr_assert_str_eq(r.c.listen_host, "127.0.0.1");
    cr_assert_eq(r.c.listen_port, 9092);
    cr_assert_str_eq(r.c.advertised_host, "127.0.0.1");
    cr_assert_eq(r.c.advertised_port, 9092);
    cr_assert_eq(r.c.advertise, ADVERTISE_SHARD);
    cr_assert_eq(r.c.node_id, 0);
    cr_assert_null(r.c.rack);
    cr_assert_eq(r.c.shards, 0);
    cr_assert_eq(r.c.memory_bytes, 0);
    cr_assert_null(r.c.cpus);
    cr_assert_eq(r.c.log_level, LOG_INFO);
    cr_assert_eq(r.c.num_partitions, 1);
    cr_assert(r.c.auto_create_topics);
    cr_assert(r.c.delete_topics);
    cr_assert_eq(r.c.replication_policy, CONFIG_REPLICATION_ACCEPT);
    cr_assert_eq(r.c.socket_request_max_bytes, 104857600);
    cr_assert_eq(r.c.fetch_max_bytes, 57671680);
    cr_assert_eq(r.c.connections_max_idle_ms, 600000);
    cr_assert_eq(r.c.fetch_sessions_max, 1000);
    cr_assert_eq(r.c.topic_defaults.retention_ms, 604800000);
    cr_assert_null(topic_value(&r.c, "retention.ms"));
    cr_assert_eq(r.c.warnings_n, 0u);
    run_end(&r);
}

Test(config, data_directories_add_up_within_flags_only)
{
    struct run r = RUN("-o", "log.dirs=/x", "--data", "/a,/b", "--data=/c");
    cr_assert_eq(r.rc, 0, "%s", r.err);
    cr_assert_eq(r.c.data_dirs_n, 3u);
    cr_assert_str_eq(r.c.data_dirs[0], "/a");
    cr_assert_str_eq(r.c.data_dirs[2], "/c");
    run_end(&r);
    r = RUN("--data", "/a", "--data", "/a");
    cr_assert_eq(r.rc, 1);
    cr_assert(strstr(r.err, "twice") != NULL, "%s", r.err);
    run_end(&r);
}

Test(config, every_flag_in_both_forms)
{
    struct run r = RUN("--data", "/a,/b", "--journal=/j", "--listen", "10.0.0.1:1234",
                       "--advertise", "host", "--advertised-host=example.org", "--shards", "3",
                       "--memory", "2g", "--log-level", "debug");
    cr_assert_eq(r.rc, 0, "%s", r.err);
    cr_assert_eq(r.c.data_dirs_n, 2u);
    cr_assert_str_eq(r.c.data_dirs[0], "/a");
    cr_assert_str_eq(r.c.data_dirs[1], "/b");
    cr_assert_str_eq(r.c.journal_dir, "/j");
    cr_assert_str_eq(r.c.listen_host, "10.0.0.1");
    cr_assert_eq(r.c.listen_port, 1234);
    cr_assert_str_eq(r.c.advertised_host, "example.org");
    cr_assert_eq(r.c.advertised_port, 1234);
    cr_assert_eq(r.c.advertise, ADVERTISE_HOST);
    cr_assert_eq(r.c.shards, 3);
    cr_assert_eq(r.c.memory_bytes, INT64_C(2) << 30);
    cr_assert_eq(r.c.log_level, LOG_DEBUG);
    run_end(&r);
}

Test(config, later_sources_win_wherever_they_stand)
{
    char *file = file_with("shards=1\nnum.partitions=1\nfetch.max.bytes=1024\n"
                           "num.partitions=2\n");
    struct run r = RUN("--shards", "3", "-o", "shards=2", "-onum.partitions=5", "-o",
                       "num.partitions=6", "--config", file);
    cr_assert_eq(r.rc, 0, "%s", r.err);
    cr_assert_eq(r.c.shards, 3);
    cr_assert_eq(r.c.num_partitions, 6);
    cr_assert_eq(r.c.fetch_max_bytes, 1024);
    run_end(&r);
    r = RUN("--config", file);
    cr_assert_eq(r.c.num_partitions, 2);
    cr_assert_eq(r.c.shards, 1);
    run_end(&r);
}

Test(config, sizes)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"memory.bytes=5", 5},          {"memory.bytes=1k", 1024},
                {"memory.bytes=3K", 3072},      {"memory.bytes=2KiB", 2048},
                {"memory.bytes=2kb", 2048},     {"memory.bytes= 4m ", 4 << 20},
                {"memory.bytes=1GiB", 1 << 30}, {"memory.bytes=1t", INT64_C(1) << 40},
                {"memory.bytes=7b", 7}};
    static const char *const bad[] = {"memory.bytes=",    "memory.bytes=k",
                                      "memory.bytes=1x",  "memory.bytes=1kk",
                                      "memory.bytes=-1",  "memory.bytes=1.5g",
                                      "memory.bytes=ib",  "memory.bytes=1 k",
                                      "memory.bytes=1ib", "memory.bytes=9223372036854775807g",
                                      "journal.bytes=15m"};
    for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
        struct run r = RUN("-o", (char *)good[i].text);
        cr_assert_eq(r.rc, 0, "%s", r.err);
        cr_assert_eq(r.c.memory_bytes, good[i].bytes, "%s", good[i].text);
        run_end(&r);
    }
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct run r = RUN("-o", (char *)bad[i]);
        cr_assert_eq(r.rc, 1, "%s", bad[i]);
        cr_assert_not_null(strstr(r.err, bad[i]), "%s", r.err);
        run_end(&r);
    }
}

/* rc 1, exactly one line, and each of the words in it. */
static void expect_error(struct run r, const char *a, const char *b, const char *c)
{
    cr_assert_eq(r.rc, 1, "rc %d: %s", r.rc, r.err);
    cr_assert_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1, "not one line: %s", r.err);
    cr_assert_not_null(strstr(r.err, a), "no '%s' in: %s", a, r.err);
    cr_assert_not_null(strstr(r.err, b), "no '%s' in: %s", b, r.err);
    cr_assert_not_null(strstr(r.err, c), "no '%s' in: %s", c, r.err);
    run_end(&r);
}

Test(config, errors_name_the_place_the_key_and_the_value)
{
    char *file = file_with("# a comment\nnum.partitions = many\n");
    expect_error(RUN("--config", file), file, ":2: num.partitions=many", "whole number from 1 to");
    expect_error(RUN("-o", "num.partitions=0"), "-o: ", "num.partitions=0", "from 1 to");
    expect_error(RUN("--shards", "257"), "--shards: ", "shards=257", "0 to 256");
    expect_error(RUN("--advertise", "city"), "--advertise: ", "advertise=city", "shard|numa|host");
    expect_error(RUN("-o", "egress=sendfile"), "-o: ", "egress=sendfile", "auto|send");
    expect_error(RUN("--log-level", "loud"), "--log-level", "loud", "error|warn|info|debug");
    expect_error(RUN("-o", "auto.create.topics.enable=yes"), "-o", "=yes", "true or false");
    expect_error(RUN("-o", "log.segment.bytes=1k"), "-o", "log.segment.bytes=1k", "1048576");
    expect_error(RUN("-o", "cpus=0-"), "-o", "cpus=0-", "0-3,8");
    expect_error(RUN("-o", "cpus=3-1"), "-o", "cpus=3-1", "0-3,8");
    expect_error(RUN("--data", "/a,,/b"), "--data", "log.dirs=/a,,/b", "empty");
    expect_error(RUN("--data", "/a,"), "--data", "log.dirs=/a,", "empty");
    expect_error(RUN("--data", "/a, /a"), "--data", "/a, /a", "twice");
    expect_error(RUN("--config", "/nonexistent/x"), "cannot read", "/nonexistent/x",
                 "No such file");
    expect_error(RUN("--config", "/tmp"), "cannot read", "/tmp", "directory");
    expect_error(RUN("-o", "node.id=2147483647"), "-o", "node.id", "no ids");
    expect_error(RUN("-o", "authorizer.class.name=org.apache.kafka.Standard"), "-o",
                 "authorizer.class.name=", "not possible");
}

Test(config, unknown_keys_are_named_with_the_nearest_known_one)
{
    char *file = file_with("a.b=1\n");
    expect_error(RUN("-o", "num.partition=3"), "-o", "unknown key num.partition;",
                 "did you mean num.partitions?");
    expect_error(RUN("-o", "log.segement.bytes=3"), "-o", "unknown key", "log.segment.bytes?");
    expect_error(RUN("-o", "segment.bytes=3"), "-o", "unknown key segment.bytes",
                 "log.segment.bytes?");
    expect_error(RUN("-o", "jurnal.dir=/x"), "-o", "unknown key", "journal.dir?");
    expect_error(RUN("--config", file), file, ":1: unknown key a.b", "a.b\n");
    expect_error(RUN("-o", "qqqqqqqqqqqqqqqqqqqq=1"), "-o", "unknown key", "qqqqqqqq\n");
}

Test(config, usage_errors)
{
    static char *bad[][3] = {{"--what", NULL},   {"stray", NULL},         {"--data", NULL},
                             {"-o", NULL},       {"-o", "novalue", NULL}, {"-o", "=x", NULL},
                             {"--config", NULL}, {"--datadir=x", NULL},   {"-x", NULL}};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        char *argv[4] = {"serve"};
        int argc = 1;
        for (; argc < 4 && bad[i][argc - 1] != NULL; argc++)
            argv[argc] = bad[i][argc - 1];
        struct run r = run_argv(argc, argv);
        cr_assert_eq(r.rc, 2, "%s: %d %s", bad[i][0], r.rc, r.err);
        cr_assert_not_null(strstr(r.err, "penstock serve --help"));
        run_end(&r);
    }
}

Test(config, help_names_every_key_and_flag)
{
    static const char *const words[] = {"--config FILE",
                                        "--data DIR[,DIR]",
                                        "--journal DIR",
                                        "--listen HOST:PORT",
                                        "--advertise shard|numa|host",
                                        "--advertised-host NAME",
                                        "--shards N",
                                        "--memory SIZE",
                                        "--log-level",
                                        "-o KEY=VALUE",
                                        "journal.bytes=256m",
                                        "listeners=",
                                        "log.segment.bytes=1073741824",
                                        "message.max.bytes=1048588",
                                        "write.caching=false",
                                        "num.partitions=1"};
    struct run r = RUN("--shards", "not a number", "--help");
    cr_assert_eq(r.rc, -1);
    cr_assert_str_eq(r.err, "");
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        cr_assert_not_null(strstr(r.out, words[i]), "%s", words[i]);
    run_end(&r);
}

Test(config, topic_defaults)
{
    struct run r =
        RUN("-o", "log.retention.ms=5", "-o", "log.retention.hours=3", "-o", "log.roll.hours=2",
            "-o", "message.max.bytes=2m", "-o", "log.cleanup.policy=compact", "-o",
            "write.caching=true", "-o", "log.cleaner.delete.retention.ms=9");
    cr_assert_eq(r.rc, 0, "%s", r.err);
    cr_assert_eq(r.c.topic_defaults.retention_ms, 5);
    cr_assert_eq(r.c.topic_defaults.segment_ms, 7200000);
    cr_assert_eq(r.c.topic_defaults.max_message_bytes, 2 << 20);
    cr_assert_eq(r.c.topic_defaults.cleanup_policy, TOPIC_CLEANUP_COMPACT);
    cr_assert(r.c.topic_defaults.write_caching);
    cr_assert_str_eq(topic_value(&r.c, "retention.ms"), "5");
    cr_assert_str_eq(topic_value(&r.c, "segment.ms"), "7200000");
    cr_assert_str_eq(topic_value(&r.c, "max.message.bytes"), "2097152");
    cr_assert_str_eq(topic_value(&r.c, "delete.retention.ms"), "9");
    cr_assert_null(topic_value(&r.c, "segment.bytes"));
    run_end(&r);
    r = RUN("-o", "log.retention.hours=3", "-o", "log.retention.minutes=7");
    cr_assert_eq(r.c.topic_defaults.retention_ms, 420000);
    run_end(&r);
    r = RUN("-o", "log.retention.hours=-1");
    cr_assert_eq(r.c.topic_defaults.retention_ms, -1);
    run_end(&r);
}

Test(config, listeners)
{
    static const struct {
        const char *set, *host;
        uint16_t port;
    } good[] = {{"listeners=PLAINTEXT://10.1.2.3:80", "10.1.2.3", 80},
                {"listeners=plaintext://[::1]:65535", "::1", 65535},
                {"listeners=PLAINTEXT://:9092", "0.0.0.0", 9092},
                {"listeners= PLAINTEXT://a-b.c:1 ", "a-b.c", 1}};
    static const char *const bad[] = {"listeners=",
                                      "listeners=9092",
                                      "listeners=localhost:9092",
                                      "listeners=PLAINTEXT://x",
                                      "listeners=PLAINTEXT://x:0",
                                      "listeners=PLAINTEXT://x:65536",
                                      "listeners=PLAINTEXT://x:y",
                                      "listeners=PLAINTEXT://::1:9092",
                                      "listeners=SSL://x:1",
                                      "listeners=SASL_SSL://x:1",
                                      "listeners=INTERNAL://x:1",
                                      "listeners=PLAINTEXT://x:1,PLAINTEXT://y:2",
                                      "listeners=PLAINTEXT://x:1,SASL_PLAINTEXT://y:2",
                                      "listeners=PLAINTEXT://x y:1",
                                      "advertised.listeners=PLAINTEXT://0.0.0.0:1",
                                      "advertised.listeners=PLAINTEXT://:1",
                                      "advertised.host=::",
                                      "advertised.host=a b",
                                      "listeners=://x:1"};
    for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
        struct run r = RUN("-o", (char *)good[i].set);
        cr_assert_eq(r.rc, 0, "%s", r.err);
        cr_assert_str_eq(r.c.listen_host, good[i].host);
        cr_assert_eq(r.c.listen_port, good[i].port);
        run_end(&r);
    }
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        expect_error(RUN("-o", (char *)bad[i]), "-o: ", "penstock serve", "");
}

Test(config, metrics_listen)
{
    static const struct {
        const char *set, *host;
        uint16_t port;
    } good[] = {
        {"metrics.listen=9192", "127.0.0.1", 9192},         {"metrics.listen=:1", "127.0.0.1", 1},
        {"metrics.listen=0.0.0.0:65535", "0.0.0.0", 65535}, {"metrics.listen=[::1]:80", "::1", 80},
        {"metrics.listen=a-b.c:80", "a-b.c", 80},           {"metrics.listen=", NULL, 0}};
    static const char *const bad[] = {"metrics.listen=x",
                                      "metrics.listen=0",
                                      "metrics.listen=65536",
                                      "metrics.listen=x:0",
                                      "metrics.listen=x:-1",
                                      "metrics.listen=::1:80",
                                      "metrics.listen=http://x:80",
                                      "metrics.listen=x y:80",
                                      "metrics.listen=99999999999999999999"};
    for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
        struct run r = RUN("-o", (char *)good[i].set);
        cr_assert_eq(r.rc, 0, "%s", r.err);
        cr_assert_eq(r.c.metrics_host == NULL, good[i].host == NULL, "%s", good[i].set);
        if (good[i].host != NULL)
            cr_assert_str_eq(r.c.metrics_host, good[i].host);
        cr_assert_eq(r.c.metrics_port, good[i].port);
        run_end(&r);
    }
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        expect_error(RUN("-o", (char *)bad[i]), "-o: ", "metrics.listen", "");
}

Test(config, advertised_address)
{
    struct run r = RUN("--listen", "0.0.0.0:9000", "-o",
                       "advertised.listeners=PLAINTEXT://broker.example:19000");
    cr_assert_eq(r.rc, 0, "%s", r.err);
    cr_assert_str_eq(r.c.listen_host, "0.0.0.0");
    cr_assert_str_eq(r.c.advertised_host, "broker.example");
    cr_assert_eq(r.c.advertised_port, 19000);
    run_end(&r);
    r = RUN("--listen", "0.0.0.0:9000", "--advertised-host", "other", "-o",
            "advertised.listeners=PLAINTEXT://broker.example:19000");
    cr_assert_str_eq(r.c.advertised_host, "other");
    cr_assert_eq(r.c.advertised_port, 19000);
    run_end(&r);
    char name[256] = "";
    gethostname(name, sizeof(name) - 1);
    r = RUN("--listen", ":9000");
    cr_assert_str_eq(r.c.advertised_host, name);
    run_end(&r);
    expect_error(RUN("--listen", "127.0.0.1:65534", "--shards", "3"), "--shards", "shards=3",
                 "port");
    r = RUN("--listen", "127.0.0.1:65534", "--shards", "3", "--advertise", "host");
    cr_assert_eq(r.rc, 0, "%s", r.err);
    run_end(&r);
}

Test(config, listeners_by_name)
{
    struct run r = RUN("-o", "listeners=CLIENTS://h:1,CTL://h:2", "-o",
                       "listener.security.protocol.map=CTL:SSL, CLIENTS:PLAINTEXT", "-o",
                       "controller.listener.names=CTL");
    cr_assert_eq(r.rc, 0, "%s", r.err);
    cr_assert_eq(r.c.listen_port, 1);
    cr_assert(warned(&r.c, "CTL://h:2"));
    run_end(&r);
    expect_error(RUN("-o", "listeners=CLIENTS://h:1", "-o",
                     "listener.security.protocol.map=CLIENTS:SASL_SSL"),
                 "-o", "CLIENTS", "only PLAINTEXT");
}

Test(config, node_ids)
{
    struct run r = RUN("-o", "broker.id=7");
    cr_assert_eq(r.c.node_id, 7);
    run_end(&r);
    r = RUN("-o", "broker.id=7", "-o", "node.id=3");
    cr_assert_eq(r.c.node_id, 3);
    run_end(&r);
    r = RUN("-o", "broker.id=-1");
    cr_assert_eq(r.c.node_id, 0);
    run_end(&r);
}

/* What Apache Kafka 4 ships as config/server.properties, key for key. */
static const char stock[] =
    "############################# Server Basics #############################\n"
    "# The role of this server. Setting this puts us in KRaft mode\n"
    "process.roles=broker,controller\n"
    "node.id=1\n"
    "controller.quorum.bootstrap.servers=localhost:9093\n"
    "############################# Socket Server Settings #############################\n"
    "#   FORMAT:\n#     listeners = listener_name://host_name:port\n"
    "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n"
    "inter.broker.listener.name=PLAINTEXT\n"
    "advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n"
    "controller.listener.names=CONTROLLER\n"
    "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,"
    "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n"
    "num.network.threads=3\n"
    "num.io.threads=8\n"
    "socket.send.buffer.bytes=102400\n"
    "socket.receive.buffer.bytes=102400\n"
    "socket.request.max.bytes=104857600\n"
    "############################# Log Basics #############################\n"
    "log.dirs=/tmp/kraft-combined-logs\n"
    "num.partitions=1\n"
    "num.recovery.threads.per.data.dir=1\n"
    "############################# Internal Topic Settings  #############################\n"
    "offsets.topic.replication.factor=1\n"
    "share.coordinator.state.topic.replication.factor=1\n"
    "share.coordinator.state.topic.min.isr=1\n"
    "transaction.state.log.replication.factor=1\n"
    "transaction.state.log.min.isr=1\n"
    "############################# Log Flush Policy #############################\n"
    "#log.flush.interval.messages=10000\n"
    "#log.flush.interval.ms=1000\n"
    "############################# Log Retention Policy #############################\n"
    "log.retention.hours=168\n"
    "#log.retention.bytes=1073741824\n"
    "log.segment.bytes=1073741824\n"
    "log.retention.check.interval.ms=300000\n";

Test(config, kafkas_own_server_properties_start)
{
    static const char *const ignored[] = {"process.roles",
                                          "controller.quorum.bootstrap.servers",
                                          "inter.broker.listener.name",
                                          "num.network.threads",
                                          "num.io.threads",
                                          "socket.send.buffer.bytes",
                                          "num.recovery.threads.per.data.dir",
                                          "share.coordinator.state.topic.min.isr",
                                          "transaction.state.log.min.isr"};
    struct run r = RUN("--config", file_with(stock));
    cr_assert_eq(r.rc, 0, "%s", r.err);
    cr_assert_str_eq(r.c.listen_host, "0.0.0.0");
    cr_assert_eq(r.c.listen_port, 9092);
    cr_assert_str_eq(r.c.advertised_host, "localhost");
    cr_assert_eq(r.c.node_id, 1);
    cr_assert_str_eq(r.c.data_dirs[0], "/tmp/kraft-combined-logs");
    cr_assert_eq(r.c.topic_defaults.retention_ms, 604800000);
    cr_assert_str_eq(topic_value(&r.c, "retention.ms"), "604800000");
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
        cr_assert(warned(&r.c, ignored[i]), "%s", ignored[i]);
    cr_assert(warned(&r.c, "CONTROLLER://:9093"));
    cr_assert_not(warned(&r.c, "log.segment.bytes"));
    cr_assert_not(warned(&r.c, "offsets.topic.replication.factor"));
    cr_assert_not(warned(&r.c, "socket.request.max.bytes"));
    run_end(&r);
}

Test(config, continuation_lines_count_from_their_first)
{
    char *file = file_with("log.dirs=/a,\\\n  /b\n\nnum.partitions=\\\n  zero\n");
    expect_error(RUN("--config", file), ":4: ", "num.partitions=zero", "whole number");
    struct run r = RUN("--config", file, "-o", "num.partitions=1");
    cr_assert_eq(r.c.data_dirs_n, 2u);
    cr_assert_str_eq(r.c.data_dirs[1], "/b");
    run_end(&r);
}

/* ---- what clients are shown ---- */

static const struct broker_config_key *shown(const struct serve_config *c, const char *name)
{
    for (unsigned i = 0; i < c->shown_n; i++)
        if (strcmp(c->shown[i].name, name) == 0)
            return &c->shown[i];
    cr_assert_fail("%s is not shown", name);
    return NULL;
}

Test(config, every_key_is_shown_once_and_sorted)
{
    struct run r = RUN();
    cr_assert_gt(r.c.shown_n, config_keys_count);
    for (unsigned i = 1; i < r.c.shown_n; i++)
        cr_assert_lt(strcmp(r.c.shown[i - 1].name, r.c.shown[i].name), 0, "%s", r.c.shown[i].name);
    for (unsigned i = 0; i < config_keys_count; i++)
        cr_assert_str_eq(shown(&r.c, config_keys[i].name)->doc, config_keys[i].doc);
    for (unsigned i = 0; i < topic_config_keys_count; i++)
        if (topic_config_keys[i].server_name != NULL)
            cr_assert_eq(shown(&r.c, topic_config_keys[i].server_name)->topic,
                         &topic_config_keys[i]);
    run_end(&r);
}

Test(config, shown_keys_say_what_is_set_what_it_is_else_and_if_it_may_change)
{
    struct run r =
        RUN("-o", "max.connections=7", "-o", "journal.bytes=64m", "-o", "log.retention.hours=3");
    const struct broker_config_key *k = shown(&r.c, "max.connections");
    cr_assert(k->dynamic && k->type == TOPIC_CONFIG_INT && k->topic == NULL);
    cr_assert_str_eq(k->static_value, "7");
    cr_assert_str_eq(k->default_value, "2147483647");
    k = shown(&r.c, "journal.bytes"); /* sizes in bytes */
    cr_assert(!k->dynamic && k->type == TOPIC_CONFIG_LONG);
    cr_assert_str_eq(k->static_value, "67108864");
    cr_assert_str_eq(k->default_value, "268435456");
    k = shown(&r.c, "log.retention.ms"); /* of a topic; a coarser key sets it */
    cr_assert(k->dynamic && k->type == TOPIC_CONFIG_LONG && k->topic != NULL);
    cr_assert_str_eq(k->static_value, "10800000");
    cr_assert_null(k->default_value);
    k = shown(&r.c, "broker.rack");
    cr_assert_null(k->static_value);
    cr_assert_null(k->default_value);
    run_end(&r);
}
