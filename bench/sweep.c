/* Every combination of the settings given with --sweep, one run each; the last one named changes
 * fastest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command_private.h"
#include "core/base/bytes.h"

enum { VALUES_MAX = 64, TEXT_MAX = 1024 };

struct axis {
    char text[TEXT_MAX]; /* KEY=V1,V2, cut into pieces */
    const char *key, *values[VALUES_MAX];
    unsigned values_n, at;
};

static int axis_parse(struct bench *b, const char *text, struct axis *ret)
{
    struct workload scratch;
    if (strlen(text) >= TEXT_MAX) {
        snprintf(b->reason, sizeof(b->reason), "--sweep is too long");
        return -EINVAL;
    }
    strcpy(ret->text, text);
    char *values = strchr(ret->text, '='), *value;
    *values++ = '\0';
    ret->key = ret->text;
    ret->values_n = ret->at = 0;
    workload_init(&scratch);
    while ((value = strsep(&values, ",")) != NULL) {
        if (ret->values_n == VALUES_MAX)
            return -EINVAL;
        int rc = workload_set(&scratch, ret->key, value, b->reason, sizeof(b->reason));
        if (rc < 0)
            return rc;
        ret->values[ret->values_n++] = value;
    }
    return 0;
}

/* The next combination; false: that was the last. */
static bool axes_advance(struct axis *axes, unsigned n)
{
    for (unsigned i = n; i-- > 0;) {
        if (++axes[i].at < axes[i].values_n)
            return true;
        axes[i].at = 0;
    }
    return false;
}

static int point_run(struct bench *b, unsigned file, enum run_kind kind, const struct axis *axes,
                     unsigned n)
{
    struct run_config config;
    struct run_result result;
    int rc = bench_config(b, file, kind, &config);
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        rc = workload_set(&config.workload, axes[i].key, axes[i].values[axes[i].at], b->reason,
                          sizeof(b->reason));
        if (rc == 0)
            fprintf(stderr, "%s%s=%s", i > 0 ? " " : "sweep: ", axes[i].key,
                    axes[i].values[axes[i].at]);
    }
    fputc('\n', stderr);
    if (rc == 0)
        rc = workload_check(&config.workload, b->reason, sizeof(b->reason));
    if (rc == 0)
        rc = bench_run(b, &config, &result);
    if (rc == 0)
        run_result_fini(&result);
    return rc;
}

int sweep_command(struct bench *b)
{
    enum run_kind kind;
    unsigned n = b->options.sweeps_n, files = MAX(1u, b->options.workloads_n);
    struct axis *axes = calloc(MAX(n, 1u), sizeof(*axes));
    if (axes == NULL)
        return -ENOMEM;
    int rc = bench_kind(b, &kind);
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = axis_parse(b, b->options.sweeps[i], &axes[i]);
    for (unsigned f = 0; rc == 0 && f < files; f++) {
        do {
            rc = point_run(b, f, kind, axes, n);
            bench_settle(b);
        } while (rc == 0 && axes_advance(axes, n));
    }
    free(axes);
    return rc;
}
