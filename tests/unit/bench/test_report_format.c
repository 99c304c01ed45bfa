#include "bench/report_format.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

Test(report_format, rounds_to_three_digits_with_a_unit)
{
    static const struct {
        enum report_unit unit;
        double value;
        const char *shown;
    } cases[] = {
        {REPORT_NS, 850, "850 ns"},
        {REPORT_NS, 12345, "12.3 \xc2\xb5s"},
        {REPORT_NS, 1230000, "1.23 ms"},
        {REPORT_NS, 999600, "1.00 ms"}, /* never "1000 µs" */
        {REPORT_NS, 2012345678, "2.01 s"},
        {REPORT_NS, 3.6e12, "3600 s"},
        {REPORT_NS, 0, "0"},
        {REPORT_SECONDS, 30, "30 s"},
        {REPORT_SECONDS, 0.0123, "12.3 ms"},
        {REPORT_COUNT, 1234567, "1,234,567"},
        {REPORT_COUNT, 999, "999"},
        {REPORT_COUNT, -1000, "-1,000"},
        {REPORT_COUNT, 0, "0"},
        {REPORT_RATE, 19998.2, "20.0 k"},
        {REPORT_RATE, 20000, "20 k"},
        {REPORT_RATE, 1234567, "1.23 M"},
        {REPORT_RATE, 0.5, "0.500"},
        {REPORT_BYTES, 1024, "1 KiB"},
        {REPORT_BYTES, 1610612736, "1.50 GiB"},
        {REPORT_BYTES, 100, "100 B"},
        {REPORT_SHARE, 0.0503, "5.03 %"},
        {REPORT_RATIO, 1.04, "1.04\xc3\x97"},
        {REPORT_PLAIN, 19.53125, "19.5"},
        {REPORT_PLAIN, 0.00012345, "0.000123"},
        {REPORT_PLAIN, 9.999, "10.0"},
        {REPORT_EXACT, 0.25, "0.25"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char shown[REPORT_SHOWN_MAX];
        report_format(cases[i].unit, cases[i].value, shown);
        cr_expect_str_eq(shown, cases[i].shown, "%g is \"%s\", not \"%s\"", cases[i].value, shown,
                         cases[i].shown);
    }
}

Test(report_format, any_number_fits)
{
    static const double values[] = {1e308, -1e308, 5e-324, -5e-324, 9007199254740993.0, -0.0};
    for (enum report_unit unit = REPORT_NS; unit <= REPORT_EXACT; unit++)
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
            char shown[REPORT_SHOWN_MAX];
            memset(shown, 'x', sizeof(shown));
            report_format(unit, values[i], shown);
            cr_expect(memchr(shown, '\0', sizeof(shown)) != NULL, "unit %d, %g", (int)unit,
                      values[i]);
        }
}

Test(report_format, units_by_name)
{
    cr_expect_eq(report_format_unit("ns"), REPORT_NS);
    cr_expect_eq(report_format_unit("rec/s"), REPORT_RATE);
    cr_expect_eq(report_format_unit("furlongs"), REPORT_PLAIN);
    cr_expect_eq(report_format_unit(NULL), REPORT_PLAIN);
}

static char *html(const char *text)
{
    char *shown;
    size_t size;
    FILE *out = open_memstream(&shown, &size);
    report_format_html(out, text);
    fclose(out);
    return shown;
}

static char *quoted(const char *text, size_t chars_max, bool is_format)
{
    char *shown;
    size_t size;
    FILE *out = open_memstream(&shown, &size);
    report_format_gnuplot(out, text, chars_max, is_format);
    fclose(out);
    return shown;
}

#define EXPECT_TEXT(made, expected)                                                                \
    do {                                                                                           \
        char *made_ = (made);                                                                      \
        cr_expect_str_eq(made_, expected);                                                         \
        free(made_);                                                                               \
    } while (0)

#define BAD "\xef\xbf\xbd"

Test(report_format, html_is_escaped)
{
    EXPECT_TEXT(html("<script>alert(\"a\" & 'b')</script>"),
                "&lt;script&gt;alert(&quot;a&quot; &amp; &#39;b&#39;)&lt;/script&gt;");
    EXPECT_TEXT(html("gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\x98"), "gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\x98");
    EXPECT_TEXT(html("a\x01\x7f\r"), "a" BAD BAD BAD);
    EXPECT_TEXT(html("\xc0\xbc"), BAD BAD);         /* an overlong < */
    EXPECT_TEXT(html("\xe2\x82"), BAD BAD);         /* cut off */
    EXPECT_TEXT(html("\xed\xa0\x80"), BAD BAD BAD); /* a surrogate */
    EXPECT_TEXT(html("\xef\xbf\xbf"), BAD BAD BAD); /* no XML character */
    EXPECT_TEXT(html("\xf5"), BAD);
}

Test(report_format, gnuplot_strings_are_closed)
{
    EXPECT_TEXT(quoted("it's `date` \\ \"x\"\nquit", 99, false),
                "'it\xe2\x80\x99s  date  \\ \"x\" quit'");
    EXPECT_TEXT(quoted("99 %", 99, true), "'99 %%'");
    EXPECT_TEXT(quoted("99 %", 99, false), "'99 %'");
    EXPECT_TEXT(quoted("abcdef", 4, false), "'abc\xe2\x80\xa6'");
    EXPECT_TEXT(quoted("abcd", 4, false), "'abcd'");
    EXPECT_TEXT(quoted("\xff\xc3\xa9", 9, false), "' \xc3\xa9'");
}
