/* The highest rate whose percentile stays under a bound, by the search of bench/stat/search.h. */
#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/command_private.h"
#include "bench/json_doc.h"
#include "bench/stat/search.h"

struct saturate {
    struct bench *b;
    enum run_kind kind;
    struct search search;
    struct json_object *trials;
    unsigned client_failures; /* in a row: trials that the client could not carry */
    bool client_limited;      /* that was often enough to be its limit */
};

enum { CLIENT_FAILURES_MAX = 3 }; /* fewer may be the machine's noise: the trial is made again */

/* outcome: "passed", "failed", or "client": the client could not carry it, which says nothing. */
static void trial_note(struct saturate *s, double rate, const char *outcome, uint64_t value_ns)
{
    struct json_doc doc = {0};
    struct json_object *o = json_doc_object(&doc);
    int run = (int)json_object_array_length(s->b->document.runs) - 1;
    json_doc_put_double(&doc, o, "rate", rate);
    json_doc_put_bool(&doc, o, "pass", strcmp(outcome, "passed") == 0);
    json_doc_put_text(&doc, o, "outcome", outcome);
    if (value_ns > 0)
        json_doc_put_uint(&doc, o, "value_ns", value_ns);
    json_doc_put(&doc, o, "run", json_object_new_int(run));
    json_doc_put_double(&doc, o, "low", search_low(&s->search));
    if (isfinite(search_high(&s->search)))
        json_doc_put_double(&doc, o, "high", search_high(&s->search));
    json_object_array_add(s->trials, json_doc_finish(&doc, o));
    fprintf(stderr, "trial %u: %.0f/s %s (p%g %.2f ms); limit in %.0f .. %.0f/s\n",
            search_trials(&s->search), rate, outcome, s->b->options.percentile,
            (double)value_ns / 1e6, search_low(&s->search), search_high(&s->search));
}

static int trial_run(struct saturate *s)
{
    const struct bench_options *o = &s->b->options;
    struct run_config config;
    struct run_result r;
    double rate = search_next(&s->search);
    int rc = bench_config(s->b, 0, s->kind, &config);
    if (rc < 0)
        return rc;
    config.workload.rate = rate;
    bool was_invalid = s->b->invalid;
    rc = bench_run(s->b, &config, &r);
    if (rc < 0)
        return rc;
    s->b->invalid = was_invalid; /* a trial that fails to keep up is an answer */
    uint64_t value_ns =
        hist_value_at_percentile(&r.measured.latency[run_kind_latency(s->kind)], o->percentile);
    uint64_t late_ns = hist_value_at_percentile(&r.measured.latency[LATENCY_LATE], o->percentile);
    double bound_ns = o->bound_ms * 1e6;
    bool pass = r.kept_up && value_ns > 0 && (double)value_ns <= bound_ns;
    /* A failure that the generator's own lateness may have made. */
    bool client = !pass && r.client_limited && (double)value_ns - (double)late_ns <= bound_ns;
    s->client_failures = client ? s->client_failures + 1 : 0;
    if (!client) {
        search_answer(&s->search, pass);
    } else if (s->client_failures == CLIENT_FAILURES_MAX) {
        s->client_failures = 0;
        s->client_limited = true;
        search_max_seen_limit(&s->search, (double)r.measured.n.acked / r.seconds);
    }
    trial_note(s, rate, client ? "client" : pass ? "passed" : "failed", value_ns);
    run_result_fini(&r);
    return 0;
}

static struct json_object *search_json(struct saturate *s)
{
    const struct bench_options *o = &s->b->options;
    struct json_doc doc = {0};
    struct json_object *j = json_doc_object(&doc);
    bool above = search_reason(&s->search) == SEARCH_ABOVE;
    json_doc_put_text(&doc, j, "method", search_method_text);
    json_doc_put_double(&doc, j, "percentile", o->percentile);
    json_doc_put_text(&doc, j, "latency", load_latency_names[run_kind_latency(s->kind)]);
    json_doc_put_uint(&doc, j, "bound_ns", (uint64_t)(o->bound_ms * 1e6));
    json_doc_put_double(&doc, j, "confidence", s->search.config.confidence);
    json_doc_put_double(&doc, j, "reliability", s->search.config.reliability);
    json_doc_put_double(&doc, j, "tolerance", s->search.config.tolerance);
    json_doc_put_double(&doc, j, "estimate", search_estimate(&s->search));
    if (search_low(&s->search) > 0)
        json_doc_put_double(&doc, j, "low", search_low(&s->search));
    if (isfinite(search_high(&s->search)))
        json_doc_put_double(&doc, j, "high", search_high(&s->search));
    json_doc_put_text(&doc, j, "stopped", search_reason_text(search_reason(&s->search)));
    json_doc_put_text(&doc, j, "limited_by", above && s->client_limited ? "client" : "broker");
    json_doc_put(&doc, j, "trials", json_object_get(s->trials));
    return json_doc_finish(&doc, j);
}

static void result_print(const struct saturate *s)
{
    const struct bench_options *o = &s->b->options;
    printf("highest rate with %s p%g <= %g ms: %.0f records/s (%.0f .. %.0f with %g %% "
           "confidence; %s after %u trials)\n",
           load_latency_names[run_kind_latency(s->kind)], o->percentile, o->bound_ms,
           search_estimate(&s->search), search_low(&s->search), search_high(&s->search),
           s->search.config.confidence * 100, search_reason_text(search_reason(&s->search)),
           search_trials(&s->search));
}

static int search_prepare(struct saturate *s)
{
    const struct bench_options *o = &s->b->options;
    struct search_config c = search_config_default;
    const char *reason;
    c.rate_min = o->rate_min;
    c.rate_max = o->rate_max;
    c.rate_start = o->rate_start;
    c.confidence = o->confidence;
    c.tolerance = o->tolerance;
    c.reliability = o->reliability;
    c.trials_max = o->trials;
    int rc = search_init(&s->search, &c, &reason);
    if (rc < 0)
        snprintf(s->b->reason, sizeof(s->b->reason), "%s", reason);
    return rc;
}

int saturate_command(struct bench *b)
{
    struct saturate *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->b = b;
    s->trials = json_object_new_array();
    int rc = bench_kind(b, &s->kind);
    if (rc == 0)
        rc = search_prepare(s);
    bool ready = rc == 0;
    while (rc == 0 && !search_done(&s->search)) {
        rc = trial_run(s);
        bench_settle(b);
    }
    if (ready && search_trials(&s->search) > 0)
        document_put(&b->document, "search", search_json(s));
    if (rc == 0)
        result_print(s);
    json_object_put(s->trials);
    free(s);
    return rc;
}
