#include "bench/report_format.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/base/bytes.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define APOSTROPHE "\xe2\x80\x99"
#define ELLIPSIS "\xe2\x80\xa6"

struct scale {
    double from; /* the first value, after rounding to three digits, that is shown in this unit */
    const char *suffix;
};

static const struct scale seconds_scales[] = {
    {1, " s"}, {1e-3, " ms"}, {1e-6, " \xc2\xb5s"}, {1e-9, " ns"}};
static const struct scale count_scales[] = {{1e9, " G"}, {1e6, " M"}, {1e3, " k"}, {1, ""}};
static const struct scale bytes_scales[] = {
    {0x1p40, " TiB"}, {0x1p30, " GiB"}, {0x1p20, " MiB"}, {0x1p10, " KiB"}, {1, " B"}};

/* Three significant digits, but never fewer than the integer part has; 0 stays "0". */
static void three_digits(double value, char *shown)
{
    double size = fabs(value);
    int decimals = size >= 99.95 || size == 0 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3;
    if (size > 0 && size < 0.0995)
        snprintf(shown, REPORT_SHOWN_MAX, "%.3g", value);
    else if (size >= 1e15)
        snprintf(shown, REPORT_SHOWN_MAX, "%.3e", value);
    else
        snprintf(shown, REPORT_SHOWN_MAX, "%.*f", decimals, value);
}

/* The largest unit of which there is at least one (0.9995 shows as 1.00), else the last. */
static void scaled(const struct scale *scales, size_t n, double value, char *shown)
{
    size_t i = 0;
    while (i + 1 < n && fabs(value) < scales[i].from * 0.9995)
        i++;
    char number[REPORT_SHOWN_MAX];
    three_digits(value / scales[i].from, number);
    /* What is exact, as 512 B or 30 s, has no decimals to show. */
    double units = value / scales[i].from;
    if (fabs(units) < 1e6 && units == floor(units))
        snprintf(number, sizeof(number), "%.0f", units);
    snprintf(shown, REPORT_SHOWN_MAX, "%.36s%s", number, value == 0 ? "" : scales[i].suffix);
}

/* 1,234,567; a fraction has three digits like any other number. */
static void grouped(double value, char *shown)
{
    char digits[32];
    if (value != floor(value) || fabs(value) >= 1e15) {
        three_digits(value, shown);
        return;
    }
    int len = snprintf(digits, sizeof(digits), "%.0f", fabs(value)), to = 0;
    if (value < 0)
        shown[to++] = '-';
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            shown[to++] = ',';
        shown[to++] = digits[i];
    }
    shown[to] = '\0';
}

static void with_suffix(double value, const char *suffix, char *shown)
{
    char number[REPORT_SHOWN_MAX];
    three_digits(value, number);
    snprintf(shown, REPORT_SHOWN_MAX, "%.40s%s", number, suffix);
}

void report_format(enum report_unit unit, double value, char *shown)
{
    if (unit == REPORT_NS)
        scaled(seconds_scales, ARRAY_LEN(seconds_scales), value / 1e9, shown);
    else if (unit == REPORT_SECONDS)
        scaled(seconds_scales, ARRAY_LEN(seconds_scales), value, shown);
    else if (unit == REPORT_COUNT)
        grouped(value, shown);
    else if (unit == REPORT_RATE)
        scaled(count_scales, ARRAY_LEN(count_scales), value, shown);
    else if (unit == REPORT_BYTES)
        scaled(bytes_scales, ARRAY_LEN(bytes_scales), value, shown);
    else if (unit == REPORT_SHARE)
        with_suffix(value * 100, " %", shown);
    else if (unit == REPORT_RATIO)
        with_suffix(value, "\xc3\x97", shown);
    else if (unit == REPORT_PLAIN)
        three_digits(value, shown);
    else
        snprintf(shown, REPORT_SHOWN_MAX, "%.15g", value);
}

enum report_unit report_format_unit(const char *name)
{
    static const struct {
        const char *name;
        enum report_unit unit;
    } units[] = {
        {"ns", REPORT_NS},       {"s", REPORT_SECONDS},   {"rec/s", REPORT_RATE},
        {"bytes", REPORT_BYTES}, {"count", REPORT_COUNT}, {"records", REPORT_COUNT},
        {"share", REPORT_SHARE},
    };
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(units); i++)
        if (strcmp(units[i].name, name) == 0)
            return units[i].unit;
    return REPORT_PLAIN;
}

/* Bytes of the UTF-8 character at text, which is not at its end; 0 when it is none (RFC 3629). */
static size_t utf8_length(const unsigned char *text)
{
    size_t len = text[0] < 0x80   ? 1
                 : text[0] < 0xc2 ? 0
                 : text[0] < 0xe0 ? 2
                 : text[0] < 0xf0 ? 3
                                  : 4;
    if (text[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, what lies above U+10FFFF; XML has no U+FFFE and U+FFFF. */
    if ((text[0] == 0xef && text[1] == 0xbf && text[2] >= 0xbe) ||
        (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    return len;
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

static const char *html_entity(char c)
{
    return c == '&'    ? "&amp;"
           : c == '<'  ? "&lt;"
           : c == '>'  ? "&gt;"
           : c == '"'  ? "&quot;"
           : c == '\'' ? "&#39;"
           : c == '\n' ? "\n"
                       : NULL;
}

void report_format_html(FILE *out, const char *text)
{
    while (*text != '\0') {
        size_t len = utf8_length((const unsigned char *)text);
        const char *entity = html_entity(*text);
        if (entity != NULL)
            fputs(entity, out);
        else if (len == 0 || is_control((unsigned char)*text))
            fputs(REPLACEMENT, out);
        else
            fwrite(text, 1, len, out);
        text += MAX(len, 1u);
    }
}

void report_format_gnuplot(FILE *out, const char *text, size_t chars_max, bool is_format)
{
    fputc('\'', out);
    for (size_t chars = 1; *text != '\0'; chars++) {
        size_t len = utf8_length((const unsigned char *)text);
        if (chars == chars_max && text[MAX(len, 1u)] != '\0') {
            fputs(ELLIPSIS, out);
            break;
        }
        if (*text == '\'')
            fputs(APOSTROPHE, out);
        else if (*text == '%' && is_format)
            fputs("%%", out);
        else if (len == 0 || is_control((unsigned char)*text) || *text == '`')
            fputc(' ', out);
        else
            fwrite(text, 1, len, out);
        text += MAX(len, 1u);
    }
    fputc('\'', out);
}
