#include "bench/stat/search.h"
#include "core/base/bytes.h"
#include "core/base/rng.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>

#define RATE_MIN 1e3
#define RATE_MAX 1e6

/* A broker with a limit, whose trials may err. */
struct broker {
    double limit;
    double right;   /* chance that a trial's answer is right, at any rate */
    double scale;   /* above 0: the chance to pass falls as a logistic of ln(rate) of this scale */
    double offered; /* above 0: the generator's own limit */
    struct rng rng;
};

static double uniform(struct rng *rng)
{
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

static double chance_to_pass(const struct broker *b, double rate)
{
    double above = log(b->limit / rate);
    if (b->scale > 0)
        return 0.01 + 0.98 / (1 + exp(-above / b->scale));
    return above > 0 ? b->right : 1 - b->right;
}

static struct search_config config_default(void)
{
    struct search_config config = search_config_default;
    config.rate_min = RATE_MIN;
    config.rate_max = RATE_MAX;
    return config;
}

static void run(struct search *s, const struct search_config *config, struct broker *b)
{
    const char *reason = NULL;
    cr_assert_eq(search_init(s, config, &reason), 0, "%s", reason);
    while (!search_done(s)) {
        double rate = search_next(s);
        cr_assert(rate >= config->rate_min && rate <= config->rate_max, "%f", rate);
        cr_assert_lt(search_trials(s), config->trials_max);
        if (b->offered > 0 && rate > b->offered)
            search_max_seen_limit(s, b->offered);
        else
            search_answer(s, uniform(&b->rng) < chance_to_pass(b, rate));
    }
}

static bool holds_limit(const struct search *s, double limit)
{
    return search_low(s) <= limit && limit <= search_high(s);
}

Test(search, refuses_bad_configurations_with_a_reason)
{
    struct search_config bad[] = {
        config_default(), config_default(), config_default(), config_default(), config_default(),
        config_default(), config_default(), config_default(), config_default(), config_default(),
        config_default(), config_default(), config_default(),
    };
    bad[0].rate_min = 0;
    bad[1].rate_max = RATE_MIN;
    bad[2].rate_max = INFINITY;
    bad[3].rate_min = NAN;
    bad[4].rate_start = RATE_MIN / 2;
    bad[5].rate_start = RATE_MAX * 2;
    bad[6].reliability = 0.5;
    bad[7].reliability = 1;
    bad[8].confidence = 1;
    bad[9].tolerance = 0;
    bad[10].trials_max = 0;
    bad[11].tolerance = 1e-4;
    bad[12].blur = -0.1;
    static struct search s;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *reason = NULL;
        cr_assert_eq(search_init(&s, &bad[i], &reason), -EINVAL, "configuration %zu", i);
        cr_assert_not_null(reason, "configuration %zu", i);
    }
}

Test(search, a_sharp_limit_is_found_within_the_tolerance)
{
    static struct search s;
    static const double tolerances[] = {0.5, 0.05, 0.01};
    for (size_t i = 0; i < ARRAY_LEN(tolerances); i++) {
        for (double limit = 1.1 * RATE_MIN; limit < 0.9 * RATE_MAX; limit *= 1.77) {
            struct search_config config = config_default();
            struct broker broker = {.limit = limit, .right = 1};
            config.tolerance = tolerances[i];
            config.blur = tolerances[i] * 0.4;
            run(&s, &config, &broker);
            cr_assert_eq(search_reason(&s), SEARCH_CONFIDENT, "limit %f", limit);
            cr_assert(holds_limit(&s, limit), "limit %f in %f to %f", limit, search_low(&s),
                      search_high(&s));
            cr_assert_leq(search_high(&s), search_low(&s) * (1 + tolerances[i]));
            cr_assert(search_estimate(&s) >= search_low(&s) &&
                      search_estimate(&s) <= search_high(&s));
        }
    }
}

/* A noiseless bisection of three decades to 5 % would take 7 trials; not trusting them costs more.
 */
Test(search, a_sharp_limit_takes_few_trials)
{
    static struct search s;
    struct search_config config = config_default();
    struct broker broker = {.limit = 77777, .right = 1};
    run(&s, &config, &broker);
    cr_assert_leq(search_trials(&s), 30, "%u trials", search_trials(&s));
    config.reliability = 0.99;
    config.blur = 0;
    run(&s, &config, &broker);
    cr_assert_leq(search_trials(&s), 12, "%u trials", search_trials(&s));
}

/* How many of `searches`, with limits drawn uniformly in log(rate), end with the limit inside. */
static void expect_coverage(const struct search_config *config, unsigned searches, double right,
                            double scale, double mean_trials_max)
{
    static struct search s;
    struct broker broker = {.right = right, .scale = scale};
    unsigned held = 0, confident = 0;
    double trials = 0;
    rng_seed(&broker.rng, 2013);
    for (unsigned i = 0; i < searches; i++) {
        broker.limit = RATE_MIN * pow(RATE_MAX / RATE_MIN, uniform(&broker.rng));
        run(&s, config, &broker);
        held += holds_limit(&s, broker.limit);
        confident += search_reason(&s) == SEARCH_CONFIDENT;
        trials += search_trials(&s);
    }
    /* Three deviations of a binomial count below 95 %. */
    double least = searches * 0.95 - 3 * sqrt(searches * 0.95 * 0.05);
    cr_assert_geq(held, least, "%u of %u, with %.1f trials in the mean", held, searches,
                  trials / searches);
    cr_assert_leq(trials / searches, mean_trials_max, "%.1f trials in the mean", trials / searches);
    cr_assert_geq(confident, searches * 0.99, "%u of %u", confident, searches);
}

Test(search, unreliable_trials_published_algorithm)
{
    struct search_config config = config_default();
    config.blur = 0;
    expect_coverage(&config, 3000, 0.8, 0, 38);
    config.rate_start = 5000;
    expect_coverage(&config, 500, 0.8, 0, 40);
}

Test(search, unreliable_trials_default)
{
    struct search_config config = config_default();
    expect_coverage(&config, 2000, 0.8, 0, 44);
    config.rate_start = 5000;
    expect_coverage(&config, 500, 0.8, 0, 46);
}

/* The chance to pass falls smoothly, from 90 % to 10 % within 2.2 * scale of ln(rate) either way.
 */
Test(search, smooth_limits)
{
    struct search_config config = config_default();
    expect_coverage(&config, 500, 0, 0.005, 35);
    expect_coverage(&config, 2000, 0, 0.02, 35);
    config.blur = 0.05;
    config.trials_max = 200;
    expect_coverage(&config, 500, 0, 0.04, 75);
}

Test(search, limits_outside_the_range)
{
    static struct search s;
    for (double start = 0; start <= 5000; start += 5000) {
        struct search_config config = config_default();
        struct broker above = {.limit = 2 * RATE_MAX, .right = 1};
        struct broker below = {.limit = RATE_MIN / 2, .right = 1};
        config.rate_start = start;
        run(&s, &config, &above);
        cr_assert_eq(search_reason(&s), SEARCH_ABOVE);
        cr_assert_eq(search_low(&s), RATE_MAX);
        cr_assert_eq(search_high(&s), INFINITY);
        cr_assert_eq(search_estimate(&s), RATE_MAX);
        run(&s, &config, &below);
        cr_assert_eq(search_reason(&s), SEARCH_BELOW);
        cr_assert_eq(search_low(&s), 0);
        cr_assert_eq(search_high(&s), RATE_MIN);
        cr_assert_eq(search_estimate(&s), RATE_MIN);
    }
}

Test(search, doubles_from_the_start_until_the_first_failure)
{
    static struct search s;
    struct search_config config = config_default();
    const char *reason;
    config.rate_start = 4000;
    cr_assert_eq(search_init(&s, &config, &reason), 0);
    for (double rate = 4000; rate < 100000; rate *= 2) {
        cr_assert_float_eq(search_next(&s) / rate, 1, 0.01, "%f for %f", search_next(&s), rate);
        search_answer(&s, rate < 100000 / 2);
    }
    cr_assert(search_next(&s) > 32000 * 0.9 && search_next(&s) < 64000 * 1.1, "%f",
              search_next(&s));
}

Test(search, doubling_ends_at_the_highest_rate)
{
    static struct search s;
    struct search_config config = config_default();
    const char *reason;
    config.rate_start = 300000;
    cr_assert_eq(search_init(&s, &config, &reason), 0);
    search_answer(&s, true);
    cr_assert_float_eq(search_next(&s) / 600000, 1, 0.01);
    search_answer(&s, true);
    cr_assert_eq(search_next(&s), RATE_MAX);
    search_answer(&s, false);
    cr_assert(search_next(&s) < RATE_MAX && search_next(&s) > 500000, "%f", search_next(&s));
}

Test(search, ends_after_the_allowed_trials_with_what_it_knows)
{
    static struct search s;
    struct search_config config = config_default();
    struct broker broker = {.limit = 77777, .right = 1};
    config.trials_max = 6;
    run(&s, &config, &broker);
    cr_assert_eq(search_reason(&s), SEARCH_TRIALS);
    cr_assert_eq(search_trials(&s), 6);
    cr_assert(holds_limit(&s, 77777));
    cr_assert_gt(search_high(&s), search_low(&s) * 1.05);
}

/* Nothing known yet: both ends are open, and so is the way to either. */
Test(search, knows_nothing_before_the_first_trial)
{
    static struct search s;
    struct search_config config = config_default();
    const char *reason;
    cr_assert_eq(search_init(&s, &config, &reason), 0);
    cr_assert_eq(search_low(&s), 0);
    cr_assert_eq(search_high(&s), INFINITY);
    cr_assert_float_eq(search_next(&s) / sqrt(RATE_MIN * RATE_MAX), 1, 0.01);
}

Test(search, a_generator_limit_below_the_brokers_gives_a_lower_bound_only)
{
    static struct search s;
    for (double start = 0; start <= 5000; start += 5000) {
        struct search_config config = config_default();
        struct broker broker = {.limit = 400000, .right = 1, .offered = 123456};
        config.rate_start = start;
        run(&s, &config, &broker);
        cr_assert_eq(search_reason(&s), SEARCH_ABOVE);
        cr_assert(search_low(&s) <= 123456 && search_low(&s) > 123456 * 0.99, "%f", search_low(&s));
        cr_assert_eq(search_high(&s), INFINITY);
        cr_assert_eq(search_estimate(&s), search_low(&s));
    }
}

Test(search, a_generator_limit_above_the_brokers_changes_nothing)
{
    static struct search s;
    struct search_config config = config_default();
    struct broker broker = {.limit = 100000, .right = 1, .offered = 123456};
    config.rate_start = 5000;
    run(&s, &config, &broker);
    cr_assert_eq(search_reason(&s), SEARCH_CONFIDENT);
    cr_assert(holds_limit(&s, 100000));
}

/* A cap alone moves no belief: the interval stays as wide as it was, only the next rate is lower.
 */
Test(search, a_generator_limit_is_no_evidence)
{
    static struct search s;
    struct search_config config = config_default();
    const char *reason;
    cr_assert_eq(search_init(&s, &config, &reason), 0);
    search_max_seen_limit(&s, 5000);
    cr_assert_eq(search_reason(&s), SEARCH_RUNNING);
    cr_assert_eq(search_trials(&s), 1);
    cr_assert(search_next(&s) <= 5000 && search_next(&s) > 4950, "%f", search_next(&s));
    cr_assert_eq(search_low(&s), 0);
    cr_assert_eq(search_high(&s), INFINITY);
    search_max_seen_limit(&s, 9000);
    cr_assert_leq(search_next(&s), 5000, "a later, higher figure lifts no cap");
}

Test(search, a_generator_that_cannot_reach_the_lowest_rate)
{
    static struct search s;
    struct search_config config = config_default();
    struct broker broker = {.limit = 100000, .right = 1, .offered = RATE_MIN / 2};
    run(&s, &config, &broker);
    cr_assert_eq(search_reason(&s), SEARCH_UNREACHABLE);
    cr_assert_eq(search_trials(&s), 1);
    cr_assert_eq(search_high(&s), INFINITY);
}

Test(search, a_generator_that_claims_more_than_was_asked_for_ends_the_search)
{
    static struct search s;
    struct search_config config = config_default();
    const char *reason;
    cr_assert_eq(search_init(&s, &config, &reason), 0);
    while (!search_done(&s))
        search_max_seen_limit(&s, RATE_MAX);
    cr_assert_eq(search_reason(&s), SEARCH_TRIALS);
}

Test(search, every_reason_has_a_text)
{
    for (int r = SEARCH_RUNNING; r <= SEARCH_UNREACHABLE; r++)
        cr_assert_not_null(search_reason_text((enum search_reason)r));
}
