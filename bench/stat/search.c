#include "bench/stat/search.h"

#include "core/base/assert.h"
#include "core/base/bytes.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>

#define PRIOR_OUTSIDE 0.05 /* mass of "below" and of "above", each */
#define CELLS_PER_TOLERANCE 8

const struct search_config search_config_default = {
    .reliability = 0.8,
    .blur = 0.02,
    .confidence = 0.95,
    .tolerance = 0.05,
    .trials_max = 100,
};

const char *const search_method_text =
    "Probabilistic bisection over log(rate) (Horstein 1963; Waeber, Frazier, Henderson 2013): each "
    "trial runs at the median of the belief about the limit and is taken to be right with a stated "
    "probability, less near the limit; the interval given holds the limit with the stated "
    "confidence.";

/* The reason why a configuration is no good, or NULL. Written so that NaN fails. */
static const char *config_fault(const struct search_config *c)
{
    if (!(c->rate_min > 0) || !isfinite(c->rate_max) || !(c->rate_max > c->rate_min))
        return "the rates must be above 0, and the highest above the lowest";
    if (c->rate_start != 0 && !(c->rate_start >= c->rate_min && c->rate_start <= c->rate_max))
        return "the start rate must lie between the lowest and the highest";
    if (!(c->reliability > 0.5 && c->reliability < 1))
        return "the reliability of a trial must be above 0.5 and below 1";
    if (!(c->blur >= 0 && c->blur <= 1))
        return "the blur must be from 0 to 1";
    if (!(c->confidence > 0 && c->confidence < 1))
        return "the confidence must be above 0 and below 1";
    if (!(c->tolerance > 0 && c->tolerance <= 1))
        return "the tolerance must be above 0 and at most 1";
    if (c->trials_max == 0)
        return "there must be at least one trial";
    if (log(c->rate_max / c->rate_min) / log1p(c->tolerance) * CELLS_PER_TOLERANCE >
        SEARCH_CELLS_MAX)
        return "the range of rates is too wide for so small a tolerance";
    return NULL;
}

static double edge_rate(const struct search *s, unsigned edge)
{
    if (edge == s->cells)
        return s->config.rate_max;
    return s->config.rate_min * exp(edge * s->cell_log);
}

/* The edge nearest to a rate within the range. */
static unsigned edge_near(const struct search *s, double rate)
{
    return MIN((unsigned)lround(log(rate / s->config.rate_min) / s->cell_log), s->cells);
}

/* Ends of the central interval and the median, from one walk over the cumulated mass. */
static void belief_read(struct search *s)
{
    double tail = (1 - s->config.confidence) / 2, sum = 0, median_miss = 1;
    s->low_open = s->mass[0] > tail;
    s->low_edge = 0;
    s->high_edge = s->cells + 1;
    s->median_edge = 0;
    for (unsigned e = 0; e <= s->cells; e++) { /* sum: mass of the limits below edge e */
        sum += s->mass[e];
        if (sum <= tail)
            s->low_edge = e;
        if (sum >= 1 - tail)
            s->high_edge = MIN(s->high_edge, e);
        if (fabs(sum - 0.5) < median_miss) {
            median_miss = fabs(sum - 0.5);
            s->median_edge = e;
        }
    }
}

/* Everything from top_edge up is one outcome, "above", since no trial can tell its parts apart. */
static enum search_reason reason_now(const struct search *s)
{
    if (s->low_edge >= s->top_edge && !s->low_open)
        return SEARCH_ABOVE;
    if (s->high_edge == 0)
        return SEARCH_BELOW;
    if (search_high(s) <= search_low(s) * (1 + s->config.tolerance))
        return SEARCH_CONFIDENT;
    return s->trials >= s->config.trials_max ? SEARCH_TRIALS : SEARCH_RUNNING;
}

/* What the belief says now, and where to look next. */
static void search_pump(struct search *s)
{
    belief_read(s);
    s->reason = reason_now(s);
    if (!s->doubling)
        s->next_edge = s->median_edge;
    s->next_edge = MIN(s->next_edge, s->top_edge);
}

static void prior_set(struct search *s)
{
    s->mass[0] = s->mass[s->cells + 1] = PRIOR_OUTSIDE;
    for (unsigned e = 1; e <= s->cells; e++)
        s->mass[e] = (1 - 2 * PRIOR_OUTSIDE) / s->cells;
}

int search_init(struct search *s, const struct search_config *config, const char **ret_reason)
{
    const char *fault = config_fault(config);
    if (fault != NULL) {
        *ret_reason = fault;
        return -EINVAL;
    }
    double range_log = log(config->rate_max / config->rate_min);
    double cells = ceil(range_log / log1p(config->tolerance) * CELLS_PER_TOLERANCE);
    s->config = *config;
    s->cells = MAX((unsigned)cells, SEARCH_CELLS_MIN);
    s->cell_log = range_log / s->cells;
    s->trials = 0;
    s->top_edge = s->cells;
    s->doubling = config->rate_start != 0;
    s->next_edge = s->doubling ? edge_near(s, config->rate_start) : 0;
    prior_set(s);
    search_pump(s);
    return 0;
}

double search_next(const struct search *s)
{
    return edge_rate(s, s->next_edge);
}

/* How likely an answer is right if the limit is in the cell below edge e. */
static double chance_right(const struct search *s, unsigned e)
{
    double away = fabs(e - 0.5 - s->next_edge) * s->cell_log; /* from the middle of the cell */
    if (s->config.blur == 0 || e == 0 || e > s->cells)
        return s->config.reliability;
    return 0.5 + (s->config.reliability - 0.5) * tanh(away / log1p(s->config.blur));
}

/* Bayes' rule: "ok" is the right answer for all limits above the rate tried. */
static void belief_update(struct search *s, bool ok)
{
    double sum = 0;
    for (unsigned e = 0; e <= s->cells + 1; e++) {
        double right = chance_right(s, e);
        s->mass[e] *= (e > s->next_edge) == ok ? right : 1 - right;
        sum += s->mass[e];
    }
    for (unsigned e = 0; e <= s->cells + 1; e++)
        s->mass[e] /= sum;
}

static void doubling_step(struct search *s, bool ok)
{
    if (!ok || s->next_edge == s->top_edge) {
        s->doubling = false;
        return;
    }
    s->next_edge = edge_near(s, MIN(2 * search_next(s), s->config.rate_max));
}

void search_answer(struct search *s, bool ok)
{
    ASSERT(s->reason == SEARCH_RUNNING);
    s->trials++;
    belief_update(s, ok);
    if (s->doubling)
        doubling_step(s, ok);
    search_pump(s);
}

void search_max_seen_limit(struct search *s, double rate)
{
    ASSERT(s->reason == SEARCH_RUNNING);
    s->trials++;
    s->doubling = false;
    if (rate < s->config.rate_min) {
        s->reason = SEARCH_UNREACHABLE;
        return;
    }
    double edge = floor(log(rate / s->config.rate_min) / s->cell_log);
    s->top_edge = edge < s->top_edge ? (unsigned)edge : s->top_edge;
    search_pump(s);
}

bool search_done(const struct search *s)
{
    return s->reason != SEARCH_RUNNING;
}

double search_low(const struct search *s)
{
    return s->low_open ? 0 : edge_rate(s, MIN(s->low_edge, s->top_edge));
}

double search_high(const struct search *s)
{
    return s->high_edge > s->top_edge ? INFINITY : edge_rate(s, s->high_edge);
}

double search_estimate(const struct search *s)
{
    return edge_rate(s, MIN(s->median_edge, s->top_edge));
}

unsigned search_trials(const struct search *s)
{
    return s->trials;
}

enum search_reason search_reason(const struct search *s)
{
    return s->reason;
}

const char *search_reason_text(enum search_reason reason)
{
    static const char *const texts[] = {
        [SEARCH_RUNNING] = "still running",
        [SEARCH_CONFIDENT] = "as narrow as the tolerance at the stated confidence",
        [SEARCH_TRIALS] = "the allowed number of trials is used up",
        [SEARCH_ABOVE] = "the limit is above the highest rate that could be tried",
        [SEARCH_BELOW] = "the limit is below the lowest rate that might be tried",
        [SEARCH_UNREACHABLE] = "the generator cannot reach the lowest rate",
    };
    ASSERT((unsigned)reason < ARRAY_LEN(texts));
    return texts[reason];
}
