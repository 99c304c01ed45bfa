#include "bench/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stat/search.h"
#include "core/base/bytes.h"

enum option_kind { TEXT, FLAG, NUMBER, PID, COUNT, WORKLOAD, SETTING, SWEEP };

#define AT(field) offsetof(struct bench_options, field)
static const struct {
    const char *name, *value;
    enum option_kind kind;
    size_t at;
    const char *help;
} known[] = {
    {"bootstrap", "HOST:PORT[,...]", TEXT, AT(bootstrap), "the broker (default 127.0.0.1:9092)"},
    {"workload", "FILE", WORKLOAD, 0, "a workload file; compare and sweep take several"},
    {"o", "KEY=VALUE", SETTING, 0, "a setting of the workload, over the file's; or --KEY VALUE"},
    {"json", "FILE", TEXT, AT(json), "the result, with everything in it (-: standard output)"},
    {"report", "FILE", TEXT, AT(report), "an HTML report of the result"},
    {"hlog", "FILE", TEXT, AT(hlog), "each second's histograms as an HdrHistogram log"},
    {"label", "TEXT", TEXT, AT(label), "what reports call the broker"},
    {"broker-pid", "PID", PID, AT(broker_pid), "the broker's process on this host: its bill"},
    {"limits", "DIR", TEXT, AT(limits), "measure device (under DIR) and loopback TCP as well"},
    {"limits-seconds", "S", NUMBER, AT(limits_seconds), "for each measurement of a limit (2)"},
    {"agents", "HOST:PORT[,...]", TEXT, AT(agents), "who carries the load (penstock bench agent)"},
    {"quiet", NULL, FLAG, AT(quiet), "no line a second"},
    {"help", NULL, FLAG, AT(help), "this text"},
    {"kind", "produce|e2e", TEXT, AT(kind), "saturate, sweep, compare: of each run (e2e)"},
    {"sweep", "KEY=V1,V2,...", SWEEP, 0, "sweep: every combination of these settings"},
    {"percentile", "P", NUMBER, AT(percentile), "saturate: which (99)"},
    {"bound-ms", "MS", NUMBER, AT(bound_ms), "saturate: stays under this (10)"},
    {"rate-min", "R", NUMBER, AT(rate_min), "saturate: lowest rate (100)"},
    {"rate-max", "R", NUMBER, AT(rate_max), "saturate: highest rate (10000000)"},
    {"rate-start", "R", NUMBER, AT(rate_start), "saturate: first rate, doubled until it fails"},
    {"confidence", "C", NUMBER, AT(confidence), "saturate: of the interval (0.95)"},
    {"tolerance", "T", NUMBER, AT(tolerance), "saturate: its width, of the rate (0.05)"},
    {"reliability", "P", NUMBER, AT(reliability), "saturate: a trial is right with this chance"},
    {"trials", "N", COUNT, AT(trials), "saturate: at most (60)"},
    {"pairs", "N", COUNT, AT(pairs), "compare: pairs of runs a workload (3)"},
    {"settle", "S", NUMBER, AT(settle_s), "pause after a run, once dirty pages are written (2)"},
    {"listen", "HOST:PORT", TEXT, AT(listen),
     "agent: where it waits; no authentication: trusted networks only"},
};

static const char usage[] =
    "usage: penstock bench COMMAND [OPTION]...\n"
    "Measure a Kafka-protocol broker: open loop, latencies from intended send times.\n\n"
    "commands:\n"
    "  produce    producers alone\n"
    "  consume    consumers read what lies in the topic (topic.reuse is meant)\n"
    "  e2e        producers, and consumers that tail them\n"
    "  mixed      as e2e, beside consumers that read everything from the start, again and again\n"
    "  replay     as e2e; then a late consumer reads from the start: before, during, after\n"
    "  sweep      a run for every combination of settings\n"
    "  saturate   the highest rate whose percentile stays under a bound\n"
    "  compare    NAME=HOST:PORT[@PID] NAME=HOST:PORT[@PID]: runs in turn, A B A B, pair by pair\n"
    "  limits     --limits DIR: what the device and loopback TCP carry, and no broker\n"
    "  report     FILE... [-o OUT.html] [--title TEXT]: result files as one HTML page\n"
    "  agent      --listen HOST:PORT: carry load for whoever connects and names it in --agents\n\n"
    "options:\n";

static void help_line(void *out, const char *text)
{
    fprintf(out, "%s\n", text);
}

void options_help(FILE *out)
{
    fputs(usage, out);
    for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
        char left[64];
        const char *dashes = known[i].name[1] == '\0' ? "-" : "--";
        snprintf(left, sizeof(left), "%s%s %s", dashes, known[i].name,
                 known[i].value != NULL ? known[i].value : "");
        fprintf(out, "  %-30s %s\n", left, known[i].help);
    }
    fprintf(out, "\nsettings of a workload (in files: KEY=VALUE lines), with their defaults:\n");
    workload_help(help_line, out);
    fprintf(out, "\nExit code: 0: measured and valid; 1: not; 2: a wrong option.\n");
}

static char *keep(struct bench_options *o, char *text)
{
    if (text == NULL || o->own_n == ARRAY_LEN(o->own)) {
        free(text);
        return NULL;
    }
    return o->own[o->own_n++] = text;
}

static int setting_add(struct bench_options *o, const char *key, const char *value)
{
    if (key == NULL || o->settings_n + 2 > OPTIONS_SETTINGS_MAX)
        return -EINVAL;
    o->settings[o->settings_n++] = key;
    o->settings[o->settings_n++] = value;
    return 0;
}

static int pair_add(struct bench_options *o, const char *pair)
{
    const char *equals = strchr(pair, '=');
    if (equals == NULL)
        return -EINVAL;
    char *key = keep(o, strndup(pair, (size_t)(equals - pair)));
    return setting_add(o, key, equals + 1);
}

static int number_parse(const char *text, double min, double max, double *ret)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= min && v <= max))
        return -EINVAL;
    *ret = v;
    return 0;
}

static int value_set(struct bench_options *o, unsigned i, const char *value)
{
    void *field = (char *)o + known[i].at;
    double v = 0;
    int rc = 0;
    switch (known[i].kind) {
    case TEXT:
        *(const char **)field = value;
        return 0;
    case FLAG:
        *(bool *)field = true;
        return 0;
    case NUMBER:
        return number_parse(value, 0, 1e12, field);
    case PID:
        rc = number_parse(value, 1, INT32_MAX, &v);
        *(pid_t *)field = (pid_t)v;
        return rc;
    case COUNT:
        rc = number_parse(value, 1, 1e6, &v);
        *(unsigned *)field = (unsigned)v;
        return rc;
    case WORKLOAD:
        if (o->workloads_n == OPTIONS_WORKLOADS_MAX)
            return -EINVAL;
        o->workloads[o->workloads_n++] = value;
        return 0;
    case SETTING:
        return pair_add(o, value);
    case SWEEP:
        if (o->sweeps_n == OPTIONS_SWEEPS_MAX || strchr(value, '=') == NULL)
            return -EINVAL;
        o->sweeps[o->sweeps_n++] = value;
        return 0;
    }
    return -EINVAL;
}

static int find(const char *name, size_t len)
{
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0)
            return (int)i;
    return -1;
}

/* "record-size" for the setting record.size. */
static char *setting_name(struct bench_options *o, const char *name, size_t len)
{
    char *key = keep(o, strndup(name, len));
    for (char *c = key; c != NULL && *c != '\0'; c++)
        if (*c == '-')
            *c = '.';
    return key;
}

/* One option at argv[*at]; *at moves on to its last word. */
static int option_take(int argc, char **argv, int *at, struct bench_options *o, char *reason,
                       size_t reason_size)
{
    const char *word = argv[*at], *name = word + (word[1] == '-' ? 2 : 1);
    const char *equals = word[1] == '-' ? strchr(name, '=') : NULL;
    size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    int i = find(name, len);
    char *key = i < 0 ? setting_name(o, name, len) : NULL;
    bool setting = key != NULL && workload_has(key);
    if (i < 0 && !setting) {
        snprintf(reason, reason_size, "unknown option %s", word);
        return -EINVAL;
    }
    const char *value = equals != NULL ? equals + 1 : NULL;
    bool wants = setting || known[i].kind != FLAG;
    if (wants && value == NULL && *at + 1 < argc)
        value = argv[++*at];
    if (wants && value == NULL) {
        snprintf(reason, reason_size, "%s wants a value", word);
        return -EINVAL;
    }
    int rc = setting ? setting_add(o, key, value) : value_set(o, (unsigned)i, value);
    if (rc < 0)
        snprintf(reason, reason_size, "bad value '%s' of %.*s", value, (int)len, name);
    return rc;
}

int options_parse(int argc, char **argv, struct bench_options *ret, char *reason,
                  size_t reason_size)
{
    struct bench_options o = {.bootstrap = "127.0.0.1:9092",
                              .kind = "e2e",
                              .limits_seconds = 2,
                              .settle_s = 2,
                              .percentile = 99,
                              .bound_ms = 10,
                              .rate_min = 100,
                              .rate_max = 1e7,
                              .confidence = search_config_default.confidence,
                              .tolerance = search_config_default.tolerance,
                              .reliability = search_config_default.reliability,
                              .trials = search_config_default.trials_max,
                              .pairs = 3};
    int rc = 0;
    for (int i = 1; rc == 0 && i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            rc = option_take(argc, argv, &i, &o, reason, reason_size);
        else if (o.command == NULL)
            o.command = argv[i];
        else if (o.operands_n < OPTIONS_OPERANDS_MAX)
            o.operands[o.operands_n++] = argv[i];
        else
            rc = -EINVAL;
    }
    if (rc < 0)
        options_fini(&o);
    else
        *ret = o;
    return rc;
}

void options_fini(struct bench_options *o)
{
    for (unsigned i = 0; i < o->own_n; i++)
        free(o->own[i]);
    o->own_n = 0;
}

int options_workload(const struct bench_options *o, unsigned index, struct workload *ret,
                     char *reason, size_t reason_size)
{
    int rc = 0;
    workload_init(ret);
    if (index < o->workloads_n)
        rc = workload_load(ret, o->workloads[index], reason, reason_size);
    for (unsigned i = 0; rc == 0 && i < o->settings_n; i += 2)
        rc = workload_set(ret, o->settings[i], o->settings[i + 1], reason, reason_size);
    return rc;
}
