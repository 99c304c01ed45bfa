#include "bench/command.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/agent.h"
#include "bench/agents.h"
#include "bench/command_private.h"
#include "bench/report.h"
#include "bench/stat/hist_log.h"
#include "core/base/bytes.h"

enum { EXIT_USAGE = 2, LIMIT_LARGE_BYTES = 1 << 20 };

/* ---- what the commands share ---- */

int bench_config(struct bench *b, unsigned index, enum run_kind kind, struct run_config *ret)
{
    const struct bench_options *o = &b->options;
    *ret = (struct run_config){.kind = kind,
                               .label = o->label,
                               .bootstrap = o->bootstrap,
                               .broker_pid = o->broker_pid,
                               .limits = b->limited ? &b->limits : NULL,
                               .rules = run_rules_default,
                               .progress = o->quiet ? NULL : stderr,
                               .hist_log = b->hist_log,
                               .agents = b->agents};
    int rc = options_workload(o, index, &ret->workload, b->reason, sizeof(b->reason));
    return rc < 0 || o->sweeps_n > 0 ? rc
                                     : workload_check(&ret->workload, b->reason, sizeof(b->reason));
}

int bench_kind(struct bench *b, enum run_kind *ret)
{
    static const enum run_kind kinds[] = {RUN_PRODUCE, RUN_E2E};
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(b->options.kind, run_kind_name(kinds[i])) == 0) {
            *ret = kinds[i];
            return 0;
        }
    snprintf(b->reason, sizeof(b->reason), "bad --kind %s: produce or e2e", b->options.kind);
    return -EINVAL;
}

/* Where text goes: not among the JSON. */
static FILE *text_out(const struct bench *b)
{
    return b->options.json != NULL && strcmp(b->options.json, "-") == 0 ? stderr : stdout;
}

int bench_run(struct bench *b, const struct run_config *config, struct run_result *ret)
{
    int rc = run_execute(config, ret, b->reason, sizeof(b->reason));
    if (rc < 0)
        return rc;
    document_run(&b->document, json_object_get(ret->json));
    b->invalid |= !ret->valid;
    summary_print(text_out(b), ret->json);
    return 0;
}

void bench_settle(const struct bench *b)
{
    struct timespec pause = {
        (time_t)b->options.settle_s,
        (long)((b->options.settle_s - (double)(time_t)b->options.settle_s) * 1e9)};
    sync();
    nanosleep(&pause, NULL);
}

/* ---- limits ---- */

static void on_limit(void *arg, const char *what)
{
    const struct bench *b = arg;
    if (!b->options.quiet)
        fprintf(stderr, "limit: %s\n", what);
}

/* At the sizes of the run: a record's, a batch's, a request's. */
static int limits_run(struct bench *b, const struct workload *w)
{
    const uint64_t sizes[] = {w->record_bytes, w->batch_bytes, LIMIT_LARGE_BYTES};
    struct limits_config c = {.dir = b->options.limits,
                              .tcp = true,
                              .seconds_each = b->options.limits_seconds,
                              .on_progress = on_limit,
                              .progress_arg = b};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++)
        c.sizes_bytes[c.sizes_n++] = (uint32_t)MIN(sizes[i], (uint64_t)LIMITS_SIZE_BYTES_MAX);
    int rc = limits_measure(&c, &b->limits, b->reason, sizeof(b->reason));
    b->limited = rc == 0;
    return rc;
}

/* They are measured before any command; this one shows them, and no broker is asked. */
static int limits_command(struct bench *b)
{
    struct json_object *limits = limits_json(&b->limits);
    if (limits == NULL)
        return -ENOMEM;
    document_put(&b->document, "limits", limits);
    limits_print(text_out(b), limits);
    return 0;
}

/* ---- commands ---- */

static int simple_command(struct bench *b, enum run_kind kind)
{
    struct run_config config;
    struct run_result result;
    int rc = bench_config(b, 0, kind, &config);
    if (rc == 0)
        rc = bench_run(b, &config, &result);
    if (rc == 0)
        run_result_fini(&result);
    return rc;
}

static int produce_command(struct bench *b)
{
    return simple_command(b, RUN_PRODUCE);
}

static int consume_command(struct bench *b)
{
    return simple_command(b, RUN_CONSUME);
}

static int e2e_command(struct bench *b)
{
    return simple_command(b, RUN_E2E);
}

static int mixed_command(struct bench *b)
{
    return simple_command(b, RUN_MIXED);
}

static int replay_command(struct bench *b)
{
    return simple_command(b, RUN_REPLAY);
}

static const struct {
    const char *name;
    int (*run)(struct bench *b);
} commands[] = {
    {"produce", produce_command},   {"consume", consume_command}, {"e2e", e2e_command},
    {"mixed", mixed_command},       {"replay", replay_command},   {"sweep", sweep_command},
    {"saturate", saturate_command}, {"compare", compare_command}, {"limits", limits_command},
};

static int hist_log_open(struct bench *b)
{
    struct timespec now;
    if (b->options.hlog == NULL)
        return 0;
    b->hist_log = fopen(b->options.hlog, "we");
    clock_gettime(CLOCK_REALTIME, &now);
    int rc = b->hist_log == NULL
                 ? -errno
                 : hist_log_header(b->hist_log, (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    if (rc < 0)
        snprintf(b->reason, sizeof(b->reason), "%s: %s", b->options.hlog, strerror(-rc));
    return rc;
}

static int prepare(struct bench *b)
{
    struct workload w;
    int rc = options_workload(&b->options, 0, &w, b->reason, sizeof(b->reason));
    if (rc == 0 && b->options.agents != NULL)
        rc = agents_open(b->options.agents, &b->agents, b->reason, sizeof(b->reason));
    if (rc == 0)
        rc = hist_log_open(b);
    if (rc == 0 && b->options.limits != NULL)
        rc = limits_run(b, &w);
    return rc;
}

static int results_write(struct bench *b)
{
    int rc = 0;
    const char *json = b->options.json;
    char made[] = "/tmp/penstock-bench-XXXXXX";
    int fd = -1;
    if (json != NULL)
        rc = document_write(&b->document, json);
    if (rc < 0)
        snprintf(b->reason, sizeof(b->reason), "%s: %s", json, strerror(-rc));
    if (rc < 0 || b->options.report == NULL)
        return rc;
    if (json == NULL || strcmp(json, "-") == 0) { /* the report reads files */
        fd = mkstemp(made);
        json = made;
        rc = fd < 0 ? -errno : document_write(&b->document, made);
    }
    if (rc == 0)
        rc = report_write(&json, 1, b->options.report, NULL, b->reason, sizeof(b->reason));
    if (fd >= 0) {
        close(fd);
        unlink(made);
    }
    return rc;
}

static void complain(const struct bench *b, int rc)
{
    if (rc < 0)
        fprintf(stderr, "penstock bench %s: %s\n", b->options.command, b->reason);
}

static int command_run(struct bench *b, unsigned index, const char *version, const char *commit)
{
    int rc = document_open(&b->document, commands[index].name, version, commit);
    if (rc == 0)
        rc = prepare(b);
    if (rc == 0)
        rc = commands[index].run(b);
    complain(b, rc);
    /* What was measured before something failed is worth keeping. */
    bool any = json_object_array_length(b->document.runs) > 0 ||
               json_object_object_get_ex(b->document.root, "limits", NULL);
    int written = any ? results_write(b) : 0;
    complain(b, written);
    if (b->hist_log != NULL)
        fclose(b->hist_log);
    document_close(&b->document);
    agents_close(b->agents);
    return rc < 0 || written < 0 || b->invalid;
}

/* Its own kind of command: it has no document, and ends by a signal. */
static int agent_command(struct bench *b)
{
    if (b->options.listen == NULL) {
        fprintf(stderr,
                "penstock bench agent: --listen HOST:PORT is wanted: whoever reaches it can "
                "make this host send load\n");
        return EXIT_USAGE;
    }
    int rc = agent_serve(b->options.listen, b->reason, sizeof(b->reason));
    if (rc < 0)
        fprintf(stderr, "penstock bench agent: %s\n", b->reason);
    return rc < 0;
}

/* What can be seen to be wrong before anything is done: exit code 2. */
static int usage_check(struct bench *b)
{
    const struct bench_options *o = &b->options;
    struct workload w;
    int rc = 0;
    if (o->operands_n > 0 && strcmp(o->command, "compare") != 0) {
        snprintf(b->reason, sizeof(b->reason), "what is '%s'?", o->operands[0]);
        return -EINVAL;
    }
    if (o->sweeps_n > 0 && strcmp(o->command, "sweep") != 0) {
        snprintf(b->reason, sizeof(b->reason), "--sweep is for the command sweep");
        return -EINVAL;
    }
    if (o->limits == NULL && strcmp(o->command, "limits") == 0) {
        snprintf(b->reason, sizeof(b->reason), "--limits DIR is wanted: which device?");
        return -EINVAL;
    }
    for (unsigned i = 0; rc == 0 && i < MAX(1u, o->workloads_n); i++) {
        rc = options_workload(o, i, &w, b->reason, sizeof(b->reason));
        if (rc == 0 && o->sweeps_n == 0)
            rc = workload_check(&w, b->reason, sizeof(b->reason));
    }
    return rc;
}

int bench_command(int argc, char **argv, const char *version, const char *commit)
{
    struct bench *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return 1;
    int code = EXIT_USAGE;
    if (argc > 1 && strcmp(argv[1], "report") == 0) {
        free(b);
        return report_command(argc - 1, argv + 1);
    }
    if (options_parse(argc, argv, &b->options, b->reason, sizeof(b->reason)) < 0) {
        fprintf(stderr, "penstock bench: %s; see penstock bench --help\n", b->reason);
        free(b);
        return EXIT_USAGE;
    }
    if (b->options.help) {
        options_help(stdout);
        code = 0;
    } else if (b->options.command == NULL) {
        options_help(stderr);
    } else if (strcmp(b->options.command, "agent") == 0) {
        code = agent_command(b);
    } else {
        unsigned i = 0;
        while (i < ARRAY_LEN(commands) && strcmp(commands[i].name, b->options.command) != 0)
            i++;
        if (i < ARRAY_LEN(commands) && usage_check(b) < 0)
            fprintf(stderr, "penstock bench %s: %s\n", b->options.command, b->reason);
        else if (i < ARRAY_LEN(commands))
            code = command_run(b, i, version, commit);
        else
            fprintf(stderr, "penstock bench: unknown command '%s'; see penstock bench --help\n",
                    b->options.command);
    }
    options_fini(&b->options);
    free(b);
    return code;
}
