#include "core/base/properties.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct seen {
    char text[1024]; /* "line:key=value;" */
    unsigned stop_at, count;
};

static int on_pair(void *arg, unsigned line, const char *key, const char *value)
{
    struct seen *s = arg;
    size_t len = strlen(s->text);
    snprintf(s->text + len, sizeof(s->text) - len, "%u:[%s]=[%s];", line, key, value);
    return ++s->count == s->stop_at ? 77 : 0;
}

static void expect(const char *text, const char *expected)
{
    struct seen s = {{0}};
    unsigned line = 0;
    const char *reason = NULL;
    cr_assert_eq(properties_parse(text, strlen(text), on_pair, &s, &line, &reason), 0, "%s", text);
    cr_assert_str_eq(s.text, expected, "%s", text);
}

Test(properties, separators)
{
    expect("a=1\nb:2\nc 3\nd\t4\n", "1:[a]=[1];2:[b]=[2];3:[c]=[3];4:[d]=[4];");
    expect("a = 1\nb : 2\nc\t=\t3\n", "1:[a]=[1];2:[b]=[2];3:[c]=[3];");
    expect("a==1\nb=:2\nc  :  =3", "1:[a]=[=1];2:[b]=[:2];3:[c]=[=3];");
    expect("a\nb=\nc:", "1:[a]=[];2:[b]=[];3:[c]=[];");
    expect("=v\n", "1:[]=[v];");
    expect("k=a b=c:d", "1:[k]=[a b=c:d];");
}

Test(properties, blanks_before_the_value_go_and_behind_it_stay)
{
    expect("  \t a =   x y  \n", "1:[a]=[x y  ];");
}

Test(properties, comments_and_empty_lines)
{
    expect("# one\n! two\n   # three\n\n \t\n#a=b \\\nc=d\n", "7:[c]=[d];");
    expect("a=1 # no comment\n", "1:[a]=[1 # no comment];");
    expect("", "");
    expect("#", "");
    expect("\n\n", "");
}

Test(properties, line_ends)
{
    expect("a=1\rb=2\r\nc=3\n\rd=4", "1:[a]=[1];2:[b]=[2];3:[c]=[3];5:[d]=[4];");
}

Test(properties, continuation)
{
    expect("a=1,\\\n   2,\\\r\n\t3\nb=4", "1:[a]=[1,2,3];4:[b]=[4];");
    expect("a=x\\\\\nb=y", "1:[a]=[x\\];2:[b]=[y];");
    expect("a=x\\\\\\\ny", "1:[a]=[x\\y];");
    expect("a=x\\", "1:[a]=[x];");
    expect("a=x\\\n\nb=1", "1:[a]=[x];3:[b]=[1];");
    expect("a=1\\\n# not a comment\n", "1:[a]=[1# not a comment];");
    expect("ke\\\n  y=1", "1:[key]=[1];");
    expect("\\\n", "");
}

Test(properties, escapes)
{
    expect("a=\\t\\n\\r\\f\\\\\\q", "1:[a]=[\t\n\r\f\\q];");
    expect("a\\ b\\:c\\=d=1", "1:[a b:c=d]=[1];");
    expect("\\#a=1\n\\!b=2", "1:[#a]=[1];2:[!b]=[2];");
    expect("a=\\u0041\\u00e4\\u20aC", "1:[a]=[A\xc3\xa4\xe2\x82\xac];");
    expect("a=\\ud83d\\ude00!", "1:[a]=[\xf0\x9f\x98\x80!];");
    expect("\\u0061=1", "1:[a]=[1];");
    expect("a=\xc3\xa4", "1:[a]=[\xc3\xa4];");
}

Test(properties, malformed_unicode_names_its_line)
{
    static const char *const bad[] = {"x=1\na=\\u12",   "x=1\na=\\u12g4",        "x=1\na=\\u0000",
                                      "x=1\na=\\ud83d", "x=1\na=\\ud83d\\u0041", "x=1\na=\\ude00",
                                      "x=1\n\\u1=2"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct seen s = {{0}};
        unsigned line = 0;
        const char *reason = NULL;
        cr_assert_eq(properties_parse(bad[i], strlen(bad[i]), on_pair, &s, &line, &reason), -EINVAL,
                     "%s", bad[i]);
        cr_assert_eq(line, 2u);
        cr_assert_not_null(reason);
        cr_assert_str_eq(s.text, "1:[x]=[1];");
    }
}

Test(properties, nul_bytes_are_refused)
{
    struct seen s = {{0}};
    unsigned line = 0;
    const char *reason = NULL;
    cr_assert_eq(properties_parse("a=\0b", 4, on_pair, &s, &line, &reason), -EINVAL);
    cr_assert_eq(s.count, 0u);
}

Test(properties, the_callback_can_stop)
{
    struct seen s = {.stop_at = 2};
    unsigned line = 0;
    const char *reason = NULL;
    cr_assert_eq(properties_parse("a=1\nb=2\nc=3", 11, on_pair, &s, &line, &reason), 77);
    cr_assert_str_eq(s.text, "1:[a]=[1];2:[b]=[2];");
}
