/* search.h: find the highest rate that a broker sustains within a bound, from trials that may err.
 * Happy path: init; until search_done, run a trial at search_next's rate and tell search_answer
 *   whether the percentile stayed under the bound; then read low, high and estimate.
 * Method: the probabilistic bisection algorithm (M. Horstein, "Sequential transmission using
 *   noiseless feedback", IEEE Trans. Inf. Theory 9(3), 1963; R. Waeber, P. I. Frazier,
 *   S. G. Henderson, "Bisection search with noisy responses", SIAM J. Control Optim. 51(3), 2013).
 *   The belief about the limit is a distribution over log(rate), at first uniform from rate_min to
 *   rate_max, with a twentieth of the mass for "below" and another for "above". Each trial is run
 *   at the belief's median. Its answer is taken to be right with probability
 *     1/2 + (reliability - 1/2) * tanh(|ln(limit / rate)| / ln(1 + blur))
 *   by which Bayes' rule then weighs each possible limit.
 * Blur: at 0 the above is `reliability` at any distance, the published algorithm, which is right
 *   when every trial errs as often as any other. But a trial within a few percent of the limit
 *   passes as a coin falls, and trusting it like one far away makes the belief surer than it may
 *   be. Simulated with a chance to pass that falls from 90 % to 10 % within 4.4 % of rate either
 *   way (a logistic of scale 0.02), the 95 % interval of blur 0 holds the limit, which is the rate
 *   that half of all trials pass, in 81 % of the searches; the default blur, at the price of three
 *   more trials, in 98 %. Psychometrics finds thresholds with such a curve: A. B. Watson,
 *   D. G. Pelli, "QUEST", Perception & Psychophysics 33(2), 1983.
 * Doubling: from rate_start, if given, until the first failure; these answers count like all.
 * Ends: when the central credible interval of `confidence` is narrower than the tolerance
 *   (high / low <= 1 + tolerance) or lies outside the range, or after trials_max trials. It holds
 *   the limit with that confidence as far as trials are as reliable as assumed.
 * The generator's own limit is no evidence about the broker: search_max_seen_limit bars rates that
 *   cannot be offered, and what remains possible above them stays possible.
 * Failure: init -EINVAL with a static reason. Pure; a struct search is 128 KiB.
 * Threads: one owner. */
#ifndef BENCH_STAT_SEARCH_H
#define BENCH_STAT_SEARCH_H

#include <stdbool.h>

/* The belief's grid: at least this fine, and eight cells to a tolerance. */
#define SEARCH_CELLS_MIN 1024u
#define SEARCH_CELLS_MAX 16384u

struct search_config { /* rates in any one unit */
    double rate_min, rate_max;
    double rate_start;  /* 0: no doubling, begin at the median */
    double reliability; /* above 0.5, below 1 */
    double blur;        /* 0.02: trials within some 2 % of the limit say little; 0: none */
    double confidence;  /* above 0, below 1 */
    double tolerance;   /* 0.05: the ends of the result are at most 5 % apart */
    unsigned trials_max;
};
extern const struct search_config search_config_default; /* all but the rates */

enum search_reason {
    SEARCH_RUNNING,
    SEARCH_CONFIDENT,   /* the interval is narrower than the tolerance */
    SEARCH_TRIALS,      /* trials_max came first: the interval is wider */
    SEARCH_ABOVE,       /* the limit is above the highest rate that may or can be offered */
    SEARCH_BELOW,       /* the limit is below rate_min */
    SEARCH_UNREACHABLE, /* the generator cannot even offer rate_min */
};

struct search { /* fields are private to search.c */
    struct search_config config;
    enum search_reason reason;
    unsigned cells, trials;
    double cell_log;    /* width of a cell in ln(rate) */
    bool doubling;      /* still looking for the first failure */
    unsigned next_edge; /* edge e is rate_min * exp(e * cell_log); 0 to cells */
    unsigned top_edge;  /* the highest that can be offered */
    unsigned low_edge, high_edge, median_edge; /* high_edge cells + 1: no upper end */
    bool low_open;                             /* no lower end */
    double mass[SEARCH_CELLS_MAX + 2]; /* [0]: below rate_min; [e]: up to edge e; last: above */
};

extern const char *const search_method_text; /* one sentence for reports */

int search_init(struct search *s, const struct search_config *config, const char **ret_reason);
double search_next(const struct search *s);
/* ok: the trial at search_next's rate stayed within the bound. Not once the search is done. */
void search_answer(struct search *s, bool ok);
/* Instead of an answer: the generator reached no more than `rate`. Counts as a trial. */
void search_max_seen_limit(struct search *s, double rate);
bool search_done(const struct search *s);

/* At any time: the credible interval so far. 0 and INFINITY are ends that are not known. */
double search_low(const struct search *s);
double search_high(const struct search *s);
/* The belief's median, or the end of the range that can be offered when it lies beyond. */
double search_estimate(const struct search *s);
unsigned search_trials(const struct search *s);
enum search_reason search_reason(const struct search *s);
const char *search_reason_text(enum search_reason reason);

#endif
