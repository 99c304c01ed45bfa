/* fuzz_workload.c: whatever `penstock bench` is told, by a workload file and on its command line.
 * Input: a file and arguments, as text.h has them.
 * Holds: what is refused is said in one line; what is taken reads the same when it is said again.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/workload.h"
#include "bench/options.h"
#include "bench/stat/schedule.h"
#include "core/base/assert.h"
#include "tests/fuzz/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static char reason[512];

/* Each setting as text, set again, must be the same workload. */
static void turn(const struct workload *w)
{
    static struct workload again;
    const char *key, *value;
    bool is_number;
    workload_init(&again);
    for (unsigned i = 0; workload_get(w, i, &key, &value, &is_number); i++) {
        char was[WORKLOAD_TEXT_BYTES];
        strcpy(was, value);
        ASSERT(workload_has(key));
        if (workload_set(&again, key, was, reason, sizeof(reason)) != 0)
            ASSERT(is_number); /* a limit that 12 digits round over */
        else
            ASSERT(workload_get(&again, i, &key, &value, &is_number) && strcmp(value, was) == 0);
    }
}

static void use_schedule(const struct workload *w)
{
    struct schedule_shape shape;
    struct schedule s;
    const char *why;
    ASSERT(schedule_parse(w->schedule, &shape, &why) == 0);
    double rate = workload_closed_loop(w) ? 1000 : w->rate;
    if (rate < SCHEDULE_RATE_MIN || rate > SCHEDULE_RATE_MAX)
        return;
    schedule_init(&s, &shape, rate, w->seed, 0, 1);
    for (uint64_t i = 0, last = 0; i < 100; i++) {
        uint64_t next = schedule_next(&s);
        ASSERT(next >= last);
        last = next;
    }
    ASSERT(schedule_mean_rate(&shape, rate, 1000000000) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    static struct workload w, with_options;
    struct bench_options options;
    struct text_args a;
    text_args_init(&a, "bench", data, len_bytes);
    workload_init(&w);
    reason[0] = '\0';
    int rc = workload_load(&w, text_file(data, a.file_bytes), reason, sizeof(reason));
    ASSERT(rc == 0 || (rc == -EINVAL && reason[0] != '\0'));
    if (rc == 0 && workload_check(&w, reason, sizeof(reason)) == 0)
        use_schedule(&w);
    turn(&w);
    if (options_parse(a.argc, a.argv, &options, reason, sizeof(reason)) == 0) {
        options.workloads_n = 0; /* files are not looked for */
        if (options_workload(&options, 0, &with_options, reason, sizeof(reason)) == 0)
            turn(&with_options);
        options_fini(&options);
    }
    text_args_fini(&a);
    return 0;
}
