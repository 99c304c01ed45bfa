#include "bench/stat/schedule.h"

#include "core/base/assert.h"
#include "core/base/bytes.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 fixed; /* 64.64 ns */

#define FIXED_HALF ((fixed)1 << 63)
#define FIXED_NEVER (~(fixed)0)

#define RAMP_FACTOR_MIN 1e-3 /* of TO: at lower rates a tail would never send */
#define RAMP_FACTOR_MAX 1e3
#define RAMP_SECONDS_MAX 1e6

/* Digits with or without a point, and nothing else that strtod takes. */
static bool take_number(const char **at, double *ret)
{
    size_t len = strspn(*at, "0123456789.");
    char *end;
    double v = strtod(*at, &end);
    if (len == 0 || end != *at + len)
        return false;
    *at = end;
    *ret = v;
    return true;
}

static bool take_text(const char **at, const char *expected)
{
    size_t len = strlen(expected);
    if (strncmp(*at, expected, len) != 0)
        return false;
    *at += len;
    return true;
}

/* The parsers of arguments return the reason of a failure, or NULL. */
static const char *parse_nothing(const char *at, struct schedule_shape *shape)
{
    (void)shape;
    return *at == '\0' ? NULL : "constant and poisson take no arguments";
}

static const char *parse_burst(const char *at, struct schedule_shape *shape)
{
    double size;
    if (!take_number(&at, &size) || size != floor(size) || size < 1 || size > SCHEDULE_BURST_MAX)
        return "burst:SIZE takes a whole number from 1 to 1000000";
    shape->burst_size = (uint32_t)size;
    if (take_text(&at, "@poisson"))
        shape->kind = SCHEDULE_POISSON;
    return *at == '\0' ? NULL : "behind burst:SIZE there may only be @poisson";
}

static const char *parse_ramp(const char *at, struct schedule_shape *shape)
{
    if (!take_number(&at, &shape->ramp_from) || !take_text(&at, "-") ||
        !take_number(&at, &shape->ramp_to) || !take_text(&at, ":") ||
        !take_number(&at, &shape->ramp_s) || *at != '\0')
        return "a ramp is ramp:FROM-TO:SECONDS, three numbers";
    if (shape->ramp_from > RAMP_FACTOR_MAX)
        return "a ramp begins at 0 to 1000 times the rate";
    if (shape->ramp_to < RAMP_FACTOR_MIN || shape->ramp_to > RAMP_FACTOR_MAX)
        return "a ramp ends at 0.001 to 1000 times the rate";
    if (!(shape->ramp_s > 0) || shape->ramp_s > RAMP_SECONDS_MAX)
        return "a ramp lasts more than 0 and at most 1000000 seconds";
    return NULL;
}

int schedule_parse(const char *text, struct schedule_shape *ret, const char **ret_reason)
{
    static const struct {
        const char *name;
        enum schedule_kind kind;
        const char *(*parse)(const char *at, struct schedule_shape *shape);
    } shapes[] = {
        {"constant", SCHEDULE_EVEN, parse_nothing},
        {"poisson", SCHEDULE_POISSON, parse_nothing},
        {"burst:", SCHEDULE_EVEN, parse_burst},
        {"ramp:", SCHEDULE_RAMP, parse_ramp},
    };
    const char *reason = "a shape is constant, poisson, burst:SIZE, burst:SIZE@poisson or "
                         "ramp:FROM-TO:SECONDS";
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        const char *at = text;
        struct schedule_shape shape = {.kind = shapes[i].kind, .burst_size = 1};
        if (!take_text(&at, shapes[i].name))
            continue;
        reason = shapes[i].parse(at, &shape);
        if (reason == NULL) {
            *ret = shape;
            return 0;
        }
    }
    *ret_reason = reason;
    return -EINVAL;
}

static fixed fixed_add(fixed a, fixed b)
{
    fixed sum;
    return __builtin_add_overflow(a, b, &sum) ? FIXED_NEVER : sum;
}

static fixed fixed_mul(fixed a, uint64_t b)
{
    fixed product;
    return __builtin_mul_overflow(a, b, &product) ? FIXED_NEVER : product;
}

/* ns >= 0, below 2^63. */
static fixed fixed_from_ns(long double ns)
{
    uint64_t whole = (uint64_t)ns;
    return (fixed)whole << 64 | (uint64_t)((ns - whole) * 0x1p64L);
}

/* 1e9 / rate by long division, rounded up in the last of 64 fractional bits. A double's 53 bits
 * would drift by up to 1e-16 of the elapsed time: 1 ns after four months. */
static fixed gap_of_rate(double rate_per_s)
{
    int exponent;
    uint64_t divisor = (uint64_t)ldexp(frexp(rate_per_s, &exponent), 53);
    fixed quotient = 0, rest = 1000000000; /* less than the divisor, which has 53 bits */
    /* rate = divisor * 2^(exponent - 53): each bit of the shift is one more bit of quotient. */
    for (int bits = 64 + 53 - exponent; bits > 0; bits--) {
        rest <<= 1;
        quotient = quotient << 1 | (rest >= divisor);
        rest -= rest >= divisor ? divisor : 0;
    }
    return quotient + (rest > 0);
}

static void even_set(struct schedule *s, fixed at)
{
    s->at = at;
    s->next_ns = (uint64_t)(at >> 64);
}

static void even_init(struct schedule *s, double rate_per_s, unsigned part)
{
    fixed gap = fixed_mul(gap_of_rate(rate_per_s), s->burst_size);
    s->step = fixed_mul(gap, s->parts);
    even_set(s, fixed_add(fixed_mul(gap, part), FIXED_HALF));
}

/* u is in (0, 1]; the whole ns and the fraction are kept apart, so long runs lose nothing. */
static void poisson_advance(struct schedule *s)
{
    double u = (double)((rng_next(&s->poisson.rng) >> 11) + 1) * 0x1p-53;
    double ahead_ns = s->poisson.fraction_ns - log(u) * s->poisson.gap_ns;
    if (ahead_ns >= 0x1p63) {
        s->next_ns = SCHEDULE_NEVER;
        return;
    }
    uint64_t whole_ns = (uint64_t)ahead_ns;
    s->poisson.fraction_ns = ahead_ns - (double)whole_ns;
    if (__builtin_add_overflow(s->next_ns, whole_ns, &s->next_ns))
        s->next_ns = SCHEDULE_NEVER;
}

/* Part i is seeded by the i-th draw of a generator seeded by `seed`: neighbouring seeds and parts
 * share no stream. */
static void poisson_init(struct schedule *s, double rate_per_s, uint64_t seed, unsigned part)
{
    struct rng seeds;
    rng_seed(&seeds, seed);
    for (unsigned i = 0; i < part; i++)
        rng_next(&seeds);
    rng_seed(&s->poisson.rng, rng_next(&seeds));
    s->poisson.gap_ns = 1e9 / rate_per_s * s->burst_size * s->parts;
    s->poisson.fraction_ns = 0.5; /* so that cutting the fraction off rounds */
    s->next_ns = 0;
    poisson_advance(s);
}

/* The time of ramp.index; from the end of the ramp on it is an even schedule. */
static void ramp_set(struct schedule *s)
{
    uint64_t k = s->ramp.index;
    if (k >= s->ramp.end_index) {
        s->kind = SCHEDULE_EVEN;
        s->step = fixed_mul(s->ramp.end_gap, s->parts);
        even_set(s, fixed_add(s->ramp.end_at, fixed_mul(s->ramp.end_gap, k - s->ramp.end_index)));
        return;
    }
    long double a = s->ramp.half_slope, b = s->ramp.start_per_ns;
    long double t_ns = k == 0 ? 0 : 2 * (long double)k / (b + sqrtl(b * b + 4 * a * k));
    uint64_t rounded_ns = (uint64_t)(t_ns + 0.5L);
    s->next_ns = MAX(s->next_ns, rounded_ns); /* gaps of a ns and less round either way */
}

static void ramp_init(struct schedule *s, const struct schedule_shape *shape, double rate_per_s,
                      unsigned part)
{
    long double rate = rate_per_s, from = shape->ramp_from, to = shape->ramp_to;
    long double ramp_ns = shape->ramp_s * 1e9L;
    long double count = rate * shape->ramp_s * (from + to) / 2; /* N(end of the ramp) */
    long double end_index = ceill(count);
    s->ramp.index = part;
    s->ramp.end_index = (uint64_t)end_index;
    s->ramp.start_per_ns = from * rate / 1e9L;
    s->ramp.half_slope = (to - from) * rate / 1e9L / (2 * ramp_ns);
    s->ramp.end_gap = gap_of_rate((double)(to * rate));
    s->ramp.end_at = fixed_from_ns(ramp_ns + (end_index - count) * 1e9L / (to * rate) + 0.5L);
    s->next_ns = 0;
    ramp_set(s);
}

void schedule_init(struct schedule *s, const struct schedule_shape *shape, double rate_per_s,
                   uint64_t seed, unsigned part, unsigned parts)
{
    ASSERT(rate_per_s >= SCHEDULE_RATE_MIN && rate_per_s <= SCHEDULE_RATE_MAX);
    ASSERT(part < parts);
    ASSERT(shape->burst_size > 0 && shape->burst_size <= SCHEDULE_BURST_MAX);
    memset(s, 0, sizeof(*s));
    s->kind = shape->kind;
    s->burst_size = s->burst_left = shape->burst_size;
    s->parts = parts;
    if (s->kind == SCHEDULE_EVEN)
        even_init(s, rate_per_s, part);
    else if (s->kind == SCHEDULE_POISSON)
        poisson_init(s, rate_per_s, seed, part);
    else
        ramp_init(s, shape, rate_per_s, part);
}

uint64_t schedule_next(struct schedule *s)
{
    uint64_t t_ns = s->next_ns;
    if (--s->burst_left > 0)
        return t_ns;
    s->burst_left = s->burst_size;
    if (s->kind == SCHEDULE_EVEN) {
        even_set(s, fixed_add(s->at, s->step));
    } else if (s->kind == SCHEDULE_POISSON) {
        poisson_advance(s);
    } else {
        s->ramp.index += s->parts;
        ramp_set(s);
    }
    return t_ns;
}

double schedule_mean_rate(const struct schedule_shape *shape, double rate_per_s, uint64_t t_ns)
{
    if (shape->kind != SCHEDULE_RAMP)
        return rate_per_s;
    double done = MIN((double)t_ns / 1e9 / shape->ramp_s, 1.0);
    return rate_per_s * (shape->ramp_from + (shape->ramp_to - shape->ramp_from) * done);
}
