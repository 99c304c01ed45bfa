#include "bench/report.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "\"format\":\"penstock-bench/1\""

static char reason[1024];

static void put_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    cr_assert_not_null(out);
    fputs(text, out);
    fclose(out);
}

static char *take_file(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *in = fopen(path, "r");
    cr_assert_not_null(in, "%s", path);
    cr_assert_geq(getdelim(&text, &size, '\0', in), 0);
    fclose(in);
    unlink(path);
    return text;
}

/* The page made of one result, in a directory of the test's own. */
static char *page_of(const char *json)
{
    char dir[] = "/tmp/report-XXXXXX", in[64], out[64];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(in, sizeof(in), "%s/in.json", dir);
    snprintf(out, sizeof(out), "%s/out.html", dir);
    put_file(in, json);
    const char *paths[] = {in};
    int rc = report_write(paths, 1, out, "A <title>", reason, sizeof(reason));
    unlink(in);
    cr_assert_eq(rc, 0, "%s", reason);
    char *page = take_file(out);
    cr_expect_eq(rmdir(dir), 0, "nothing else is left behind");
    return page;
}

#define EXPECT_IN(page, part) cr_expect(strstr(page, part) != NULL, "no %s", part)
#define EXPECT_NOT_IN(page, part) cr_expect(strstr(page, part) == NULL, "%s", part)

Test(report, an_empty_result_is_a_page)
{
    char *page = page_of("{" FORMAT "}");
    EXPECT_IN(page, "<h1>A &lt;title&gt;</h1>");
    EXPECT_IN(page, "What each number means");
    EXPECT_NOT_IN(page, "data-value=\"");
    free(page);
}

Test(report, what_was_not_measured_is_absent)
{
    char *page = page_of(
        "{" FORMAT ",\"runs\":[{\"label\":\"a\",\"valid\":true,\"windows\":{\"measure\":"
        "{\"ack_rate\":10.5}}},{\"label\":\"b\",\"windows\":{\"measure\":{\"errors\":0}}}]}");
    EXPECT_IN(page, "data-path=\"runs[0].windows.measure.ack_rate\" data-value=\"10.5\">10.5<");
    EXPECT_IN(page, "<td class=\"absent\" title=\"not measured\">\xe2\x80\x93</td>");
    EXPECT_IN(page, "data-path=\"runs[1].windows.measure.errors\" data-value=\"0\">0<");
    EXPECT_IN(page, "not stated");
    EXPECT_NOT_IN(page, "broker's bill");
    EXPECT_NOT_IN(page, "p99.9</th>");
    free(page);
}

Test(report, invalid_runs_are_loud)
{
    char *page = page_of("{" FORMAT ",\"runs\":[{\"valid\":false,\"invalid\":[{\"code\":\"late\","
                         "\"text\":\"41 ms <late>\"}]},{\"valid\":false}]}");
    EXPECT_IN(page, "INVALID: 2 of 2 runs.");
    EXPECT_IN(page, "<b>late</b> 41 ms &lt;late&gt;");
    EXPECT_IN(page, "no reason stated");
    free(page);
}

Test(report, texts_cannot_break_out)
{
    char *page = page_of(
        "{" FORMAT ",\"command\":\"<script>x\",\"machine\":{\"<b>k\":\"\\\"><img src=x>\"},"
        "\"runs\":[{\"label\":\"'`touch x`' <img>\",\"workload\":{\"name\":\"</style><b>\","
        "\"a\\\"]<i>\":1},\"notes\":[\"<u>\\u0000\"],\"windows\":{\"measure\":{\"histograms\":"
        "{\"ack\":{\"percentiles\":{\"50\":1000,\"99\":2000}}}}}}],"
        "\"comparison\":{\"a\":\"<p>\",\"b\":\"%d%s'\",\"metrics\":[{\"name\":\"'; quit; <em> %\","
        "\"ratios\":[1.5],\"median_ratio\":1.5,\"min_ratio\":1.4,\"max_ratio\":1.6}]}}");
    static const char *const never[] = {"<script>x", "<img", "<b>k", "</style><b>",
                                        "<i>",       "<u>",  "<em>", "src="};
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        if (strcmp(never[i], "src=") != 0)
            EXPECT_NOT_IN(page, never[i]);
    EXPECT_IN(page, "data-path=\"runs[0].workload[&quot;a\\&quot;]&lt;i&gt;&quot;]\"");
    EXPECT_IN(page, "; quit; &lt;em> %</text>");
    free(page);
}

Test(report, wrong_types_everywhere)
{
    static const char *const values[] = {
        "1", "\"x\"", "true", "null", "[]", "{}", "[[1],{}]", "[NaN,1e999,\"NaN\"]", "-1"};
    static const char *const members[] = {
        "\"runs\":%s",
        "\"machine\":%s",
        "\"comparison\":%s",
        "\"search\":%s",
        "\"penstock\":%s",
        "\"comparison\":[%s]",
        "\"comparison\":{\"metrics\":%s}",
        "\"comparison\":{\"metrics\":[{\"a\":%s,\"ratios\":%1$s,\"median_ratio\":1}]}",
        "\"search\":{\"trials\":%s,\"estimate\":%1$s,\"bound_ns\":%1$s}",
        "\"search\":{\"trials\":[{\"rate\":%s,\"pass\":true,\"low\":%1$s}]}",
        "\"runs\":[%s]",
        "\"runs\":[{\"label\":%s,\"workload\":%1$s,\"windows\":%1$s,"
        "\"series\":%1$s,\"phases\":%1$s,\"steady\":%1$s,\"verification\":%1$s,\"bill\":%1$s,"
        "\"limits\":%1$s,\"invalid\":%1$s,\"notes\":%1$s,\"generator\":%1$s,\"valid\":%1$s}]",
        "\"runs\":[{\"series\":[{\"t\":1,\"seconds\":%s,\"phase\":%1$s,\"acked\":%1$s,"
        "\"ack\":%1$s}],\"windows\":{\"measure\":{\"histograms\":{\"ack\":{\"curve\":%1$s,"
        "\"percentiles\":%1$s,\"count\":%1$s}}}},\"limits\":{\"device\":{\"write\":%1$s},"
        "\"shares\":%1$s,\"tcp\":%1$s}}]",
    };
    for (size_t m = 0; m < sizeof(members) / sizeof(members[0]); m++)
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            char body[2048], json[4096], *at = body;
            const char *from = members[m];
            /* Every %s and %1$s is the value. */
            while (*from != '\0') {
                size_t skip = strncmp(from, "%s", 2) == 0     ? 2
                              : strncmp(from, "%1$s", 4) == 0 ? 4
                                                              : 0;
                if (skip > 0)
                    at = stpcpy(at, values[v]);
                else
                    *at++ = *from;
                from += skip > 0 ? skip : 1;
            }
            *at = '\0';
            snprintf(json, sizeof(json), "{" FORMAT ",%s}", body);
            char *page = page_of(json);
            EXPECT_NOT_IN(page, "nan");
            EXPECT_NOT_IN(page, "inf<");
            free(page);
        }
}

Test(report, long_lists_are_cut_and_say_so)
{
    char *json;
    size_t size;
    FILE *out = open_memstream(&json, &size);
    fputs("{" FORMAT ",\"runs\":[{\"series\":[", out);
    for (int i = 0; i < 50000; i++)
        fprintf(out, "%s{\"t\":%d,\"seconds\":1,\"acked\":%d}", i > 0 ? "," : "", i + 1, i);
    fputs("],\"verification\":{\"lost\":1,\"incidents\":[", out);
    for (int i = 0; i < 5000; i++)
        fprintf(out, "%s{\"kind\":\"lost\",\"partition\":1,\"offset\":%d}", i > 0 ? "," : "", i);
    fputs("]}}", out);
    for (int i = 0; i < 3000; i++)
        fputs(",{}", out);
    fputs("]}", out);
    fclose(out);
    char *page = page_of(json);
    EXPECT_IN(page, "The first 200 of 5000.");
    EXPECT_IN(page, "The first 2000 of 3001 runs.");
    cr_expect_lt(strlen(page), 8u << 20);
    free(page);
    free(json);
}

Test(report, a_failure_leaves_the_page_that_was)
{
    char dir[] = "/tmp/report-XXXXXX", in[64], out[64];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(in, sizeof(in), "%s/in.json", dir);
    snprintf(out, sizeof(out), "%s/out.html", dir);
    put_file(out, "before");
    put_file(in, "{}");
    const char *paths[] = {in};
    cr_expect_eq(report_write(paths, 1, out, NULL, reason, sizeof(reason)), -EINVAL);
    put_file(in, "{" FORMAT ",\"runs\":[{\"series\":[{\"t\":1,\"broker_cpu\":1}]}]}");
    setenv("PATH", "/nonexistent", 1);
    cr_expect_eq(report_write(paths, 1, out, NULL, reason, sizeof(reason)), -ENOENT);
    char *page = take_file(out);
    cr_expect_str_eq(page, "before");
    free(page);
    unlink(in);
    cr_expect_eq(rmdir(dir), 0);
}
