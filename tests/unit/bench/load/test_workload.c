#include "bench/load/workload.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"

static char reason[400];

static int set(struct workload *w, const char *key, const char *value)
{
    reason[0] = '\0';
    return workload_set(w, key, value, reason, sizeof(reason));
}

static const char *get(const struct workload *w, const char *key)
{
    const char *k, *value;
    bool number;
    for (unsigned i = 0; workload_get(w, i, &k, &value, &number); i++)
        if (strcmp(k, key) == 0)
            return value;
    cr_assert(false, "no setting %s", key);
    return NULL;
}

/* ---- settings ---- */

Test(workload, defaults_are_valid)
{
    struct workload w;
    workload_init(&w);
    cr_assert_eq(workload_check(&w, reason, sizeof(reason)), 0, "%s", reason);
    cr_assert_str_eq(get(&w, "acks"), "all");
    cr_assert(workload_idempotent(&w));
    cr_assert_not(workload_closed_loop(&w));
    cr_assert_eq(w.batch_bytes, 16384); /* as Kafka's producer since 4.0 */
    cr_assert_eq(w.linger_ms, 5);
}

/* What is written in a result can be read as a workload again. */
Test(workload, every_setting_goes_round)
{
    static const struct {
        const char *key, *value;
    } other[] = {
        {"name", "another"},
        {"topic", "another"},
        {"topic.reuse", "true"},
        {"partitions", "77"},
        {"replication.factor", "3"},
        {"producers", "12"},
        {"rate", "1234.5"},
        {"schedule", "burst:5@poisson"},
        {"record.size", "12345"},
        {"keys", "1000"},
        {"key.size", "20"},
        {"value.entropy", "0.25"},
        {"partitioner", "keyed"},
        {"acks", "1"},
        {"compression.type", "zstd"},
        {"batch.size", "1000000"},
        {"linger.ms", "0.5"},
        {"max.in.flight.requests.per.connection", "7"},
        {"max.request.size", "2000000"},
        {"buffer.memory", "100000000"},
        {"enable.idempotence", "false"},
        {"request.timeout.ms", "1000"},
        {"delivery.timeout.ms", "2000"},
        {"consumers", "9"},
        {"fan.out", "3"},
        {"late.consumers", "2"},
        {"fetch.min.bytes", "100"},
        {"fetch.max.wait.ms", "10"},
        {"fetch.max.bytes", "1000000"},
        {"max.partition.fetch.bytes", "100000"},
        {"verify", "sequence"},
        {"driver", "librdkafka"},
        {"threads", "2"},
        {"seed", "99"},
        {"warmup.min.s", "1.5"},
        {"warmup.max.s", "7"},
        {"duration.s", "12"},
        {"drain.max.s", "3"},
        {"preload.bytes", "1000000000000"},
    };
    struct workload w, back;
    const char *key, *value;
    bool number;
    unsigned n = 0;
    workload_init(&w);
    workload_init(&back);
    for (unsigned i = 0; i < ARRAY_LEN(other); i++) {
        cr_assert_str_neq(get(&w, other[i].key), other[i].value, "%s", other[i].key);
        cr_assert_eq(set(&w, other[i].key, other[i].value), 0, "%s", reason);
        cr_assert_str_eq(get(&w, other[i].key), other[i].value, "%s", other[i].key);
    }
    for (; workload_get(&w, n, &key, &value, &number); n++) {
        char *end, text[WORKLOAD_TEXT_BYTES];
        strcpy(text, value);
        cr_assert_eq(set(&back, key, text), 0, "%s", reason);
        strtod(text, &end);
        cr_assert(!number || *end == '\0', "%s=%s", key, text);
    }
    cr_assert_eq(n, ARRAY_LEN(other), "a setting is not in the table above");
    cr_assert_arr_eq(&w, &back, sizeof(w));
    cr_assert_eq(workload_check(&w, reason, sizeof(reason)), 0, "%s", reason);
}

Test(workload, numbers_have_units)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"100", 100},      {"100B", 100},      {"10k", 10000},  {"2M", 2000000},
        {"10Ki", 10240},   {"10KiB", 10240},   {"1.5Ki", 1536}, {"1Mi", 1048576},
        {"1MiB", 1048576}, {"0.5MiB", 524288}, {"1e3", 1000},
    };
    struct workload w;
    workload_init(&w);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        cr_assert_eq(set(&w, "record.size", cases[i].text), 0, "%s", reason);
        cr_assert_eq(w.record_bytes, cases[i].bytes, "%s", cases[i].text);
    }
    cr_assert_eq(set(&w, "preload.bytes", "2GiB"), 0);
    cr_assert_eq(w.preload_bytes, UINT64_C(2) << 30);
    cr_assert_eq(set(&w, "rate", "10k"), 0);
    cr_assert_eq(w.rate, 10000);
    cr_assert_eq(set(&w, "rate", "max"), 0);
    cr_assert(workload_closed_loop(&w));
    cr_assert_str_eq(get(&w, "rate"), "max");
    cr_assert_eq(set(&w, "duration.s", "10s"), 0);
    cr_assert_eq(w.duration_s, 10);
    cr_assert_eq(set(&w, "linger.ms", "3ms"), 0);
    cr_assert_eq(w.linger_ms, 3);
}

/* A unit of another kind is a mistake, not a factor. */
Test(workload, units_of_another_kind_are_refused)
{
    static const struct {
        const char *key, *value;
    } cases[] = {
        {"linger.ms", "5s"},   {"linger.ms", "5KiB"}, {"duration.s", "500ms"},
        {"duration.s", "5Ki"}, {"record.size", "5s"}, {"record.size", "5ms"},
        {"partitions", "5s"},  {"partitions", "5B"},  {"rate", "5ms"},
        {"rate", "5KiB"},
    };
    struct workload w;
    workload_init(&w);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
        cr_assert_eq(set(&w, cases[i].key, cases[i].value), -EINVAL, "%s=%s", cases[i].key,
                     cases[i].value);
}

Test(workload, bad_values_are_refused_and_change_nothing)
{
    static const struct {
        const char *key, *value;
    } cases[] = {
        {"partitions", "0"},
        {"partitions", "-1"},
        {"partitions", "1.5"},
        {"partitions", ""},
        {"partitions", "x"},
        {"partitions", "1e300"},
        {"partitions", "nan"},
        {"rate", "0"},
        {"rate", "-1"},
        {"rate", "inf"},
        {"rate", "Max"},
        {"record.size", "39"},
        {"record.size", "10 K"},
        {"record.size", "65MiB"},
        {"value.entropy", "1.1"},
        {"partitioner", "random"},
        {"acks", "2"},
        {"acks", "1.0"},
        {"compression.type", "gz"},
        {"enable.idempotence", "yes"},
        {"topic.reuse", "1"},
        {"duration.s", "0"},
        {"verify", "0"},
        {"driver", "java"},
    };
    struct workload w, before;
    workload_init(&before);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        w = before;
        cr_assert_eq(set(&w, cases[i].key, cases[i].value), -EINVAL, "%s=%s", cases[i].key,
                     cases[i].value);
        cr_assert_not_null(strstr(reason, cases[i].key), "%s", reason);
        char quoted[40];
        snprintf(quoted, sizeof(quoted), "'%s'", cases[i].value);
        cr_assert_not_null(strstr(reason, quoted), "%s", reason);
        cr_assert_arr_eq(&w, &before, sizeof(w), "%s=%s", cases[i].key, cases[i].value);
    }
    char text[WORKLOAD_TEXT_BYTES + 1];
    memset(text, 'x', sizeof(text));
    text[WORKLOAD_TEXT_BYTES] = '\0';
    cr_assert_eq(set(&w, "topic", text), -EINVAL);
    cr_assert_eq(set(&w, "no.such", "1"), -EINVAL);
    cr_assert_str_eq(reason, "unknown setting 'no.such'");
    cr_assert_not(workload_has("no.such"));
    cr_assert(workload_has("record.size"));
}

Test(workload, acks_has_two_names_for_all)
{
    struct workload w;
    workload_init(&w);
    cr_assert_eq(set(&w, "acks", "0"), 0);
    cr_assert_eq(w.acks, 0);
    cr_assert_not(workload_idempotent(&w));
    cr_assert_eq(set(&w, "acks", "-1"), 0);
    cr_assert_eq(w.acks, -1);
    cr_assert_str_eq(get(&w, "acks"), "all");
}

Test(workload, what_contradicts_itself_is_refused)
{
    static const struct {
        const char *settings[4], *why;
    } cases[] = {
        {{"schedule", "sometimes"}, "shape"},
        {{"partitioner", "keyed"}, "keys"},
        {{"enable.idempotence", "true", "acks", "1"}, "acks=all"},
        {{"max.in.flight.requests.per.connection", "6"}, "in.flight"},
        {{"buffer.memory", "64Ki", "batch.size", "65537"}, "buffer.memory"},
        {{"warmup.max.s", "1"}, "warmup"},
        {{"topic", ""}, "topic"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct workload w;
        workload_init(&w);
        for (unsigned k = 0; k < 4 && cases[i].settings[k] != NULL; k += 2)
            cr_assert_eq(set(&w, cases[i].settings[k], cases[i].settings[k + 1]), 0, "%s", reason);
        cr_assert_eq(workload_check(&w, reason, sizeof(reason)), -EINVAL, "%s", cases[i].why);
        cr_assert_not_null(strstr(reason, cases[i].why), "%s", reason);
    }
}

/* ---- files ---- */

static int load(struct workload *w, const char *text, char *path, size_t path_size)
{
    snprintf(path, path_size, "/tmp/workload-XXXXXX.conf");
    int fd = mkstemps(path, 5);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    workload_init(w);
    int rc = workload_load(w, path, reason, sizeof(reason));
    unlink(path);
    return rc;
}

Test(workload, a_file_is_read)
{
    struct workload w;
    char path[64];
    int rc =
        load(&w, "# what it is for\npartitions = 6\nrate=20k\n\nacks: 1\n", path, sizeof(path));
    cr_assert_eq(rc, 0, "%s", reason);
    cr_assert_eq(w.partitions, 6);
    cr_assert_eq(w.rate, 20000);
    cr_assert_eq(w.acks, 1);
    char name[64];
    snprintf(name, sizeof(name), "%.*s", (int)strlen(path) - 10, path + 5);
    cr_assert_str_eq(w.name, name, "%s", w.name); /* the file's, without folder and ending */
    cr_assert_eq(load(&w, "name=own\n", path, sizeof(path)), 0);
    cr_assert_str_eq(w.name, "own");
}

Test(workload, mistakes_in_files_are_named_by_file_and_line)
{
    static const struct {
        const char *text, *line, *why;
    } cases[] = {
        {"partitions=6\nrate=x\n", ":2: ", "bad value 'x' of rate"},
        {"\n# x\nfoo=1\n", ":3: ", "unknown setting 'foo'"},
        {"rate=\\u12\n", ":1: ", ""},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct workload w;
        char path[64], begin[80];
        cr_assert_eq(load(&w, cases[i].text, path, sizeof(path)), -EINVAL);
        snprintf(begin, sizeof(begin), "%s%s", path, cases[i].line);
        cr_assert_eq(strncmp(reason, begin, strlen(begin)), 0, "%s", reason);
        cr_assert_not_null(strstr(reason, cases[i].why), "%s", reason);
        cr_assert_null(strchr(reason, '\n'));
    }
}

Test(workload, a_file_that_is_not_there_is_named)
{
    struct workload w;
    workload_init(&w);
    cr_assert_eq(workload_load(&w, "/nonexistent/w.conf", reason, sizeof(reason)), -ENOENT);
    cr_assert_str_eq(reason, "/nonexistent/w.conf: No such file or directory");
}

static void on_line(void *arg, const char *text)
{
    unsigned *n = arg;
    cr_assert_lt(strlen(text), 255, "cut short: %s", text);
    ++*n;
}

Test(workload, help_has_a_line_for_each)
{
    struct workload w;
    const char *key, *value;
    bool number;
    unsigned lines = 0, n = 0;
    workload_init(&w);
    workload_help(on_line, &lines);
    while (workload_get(&w, n, &key, &value, &number))
        n++;
    cr_assert_eq(lines, n);
}
