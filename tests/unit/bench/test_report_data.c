#include "bench/report_data.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define FORMAT "\"format\":\"penstock-bench/1\""

static char reason[256];

static int parse(const char *text, struct report_file *ret)
{
    return report_file_parse("x.json", text, strlen(text), ret, reason, sizeof(reason));
}

#define PARSED(file, members)                                                                      \
    struct report_file file;                                                                       \
    cr_assert_eq(parse("{" FORMAT "," members "}\n", &file), 0, "%s", reason);                     \
    struct report_node root = report_node_root(&file, 0)

Test(report_data, refuses_what_is_no_result)
{
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"", "ends too early"},
        {"{\"format\":", "ends too early"},
        {"null", "ends too early"},
        {"[1,2]", "not a result"},
        {"{}", "format not stated"},
        {"{\"format\":\"penstock-bench/2\"}", "penstock-bench/2"},
        {"{\"format\":1}", "format not stated"},
        {"{" FORMAT "}{}", "not JSON"},
        {"{" FORMAT ",}", "not JSON"},
        {"{" FORMAT ",\"a\":\"\xff\"}", "not JSON"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct report_file file;
        cr_expect_eq(parse(cases[i].text, &file), -EINVAL, "%s", cases[i].text);
        cr_expect(strstr(reason, cases[i].said) != NULL, "%s: %s", cases[i].text, reason);
        cr_expect_eq(strncmp(reason, "x.json: ", 8), 0);
    }
}

Test(report_data, refuses_deep_nesting)
{
    char text[4096] = "{" FORMAT ",\"a\":";
    memset(text + strlen(text), '[', 2000);
    struct report_file file;
    cr_expect_eq(parse(text, &file), -EINVAL);
    cr_expect(strstr(reason, "nesting") != NULL, "%s", reason);
}

Test(report_data, missing_file_is_named)
{
    struct report_file file;
    cr_expect_eq(report_file_load("/nonexistent.json", &file, reason, sizeof(reason)), -ENOENT);
    cr_expect_str_eq(reason, "/nonexistent.json: No such file or directory");
    cr_expect_eq(report_file_load("/", &file, reason, sizeof(reason)), -EISDIR);
}

Test(report_data, paths_lead_back)
{
    PARSED(file, "\"runs\":[{},{\"workload\":{\"record.size\":1024},"
                 "\"windows\":{\"measure\":{\"p99\":{\"99.9\":7}}}}]");
    struct report_node runs = report_node_member(&root, "runs");
    struct report_node run = report_node_item(&runs, 1);
    struct report_node size = report_node_find(&run, "workload/record.size");
    struct report_node deep = report_node_find(&run, "windows/measure/p99/99.9");
    cr_expect_str_eq(size.path, "runs[1].workload[\"record.size\"]");
    cr_expect_str_eq(deep.path, "runs[1].windows.measure.p99[\"99.9\"]");
    cr_expect_str_eq(report_node_raw(&deep), "7");
    report_file_close(&file);
}

Test(report_data, digits_are_kept)
{
    PARSED(file, "\"a\":[1.50,1e3,0.1,9007199254740993,18446744073709551614,-5]");
    static const char *const digits[] = {
        "1.50", "1e3", "0.1", "9007199254740993", "18446744073709551614", "-5"};
    struct report_node all = report_node_member(&root, "a");
    cr_assert_eq(report_node_count(&all), 6);
    for (size_t i = 0; i < 6; i++) {
        struct report_node item = report_node_item(&all, i);
        cr_expect_str_eq(report_node_raw(&item), digits[i]);
    }
    report_file_close(&file);
}

Test(report_data, no_number_is_made_up)
{
    PARSED(file, "\"a\":[NaN,Infinity,-Infinity,1e999,99999999999999999999999,"
                 "-99999999999999999999999,\"12\",true,null,{},[]]");
    struct report_node all = report_node_member(&root, "a");
    cr_assert_eq(report_node_count(&all), 11);
    for (size_t i = 0; i < 12; i++) { /* the last is beyond the end */
        struct report_node item = report_node_item(&all, i);
        double value = 42;
        cr_expect_not(report_node_number(&item, &value), "item %zu", i);
        cr_expect_eq(value, 42);
        cr_expect_null(report_node_raw(&item));
    }
    report_file_close(&file);
}

Test(report_data, wrong_types_are_absent)
{
    PARSED(file, "\"runs\":{\"0\":1},\"t\":[\"x\"],\"b\":1");
    struct report_node node = report_node_member(&root, "runs");
    bool yes = true;
    cr_expect_eq(report_node_count(&node), 0);
    node = report_node_item(&node, 0);
    cr_expect_null(node.json);
    node = report_node_find(&root, "t/x/y/z");
    cr_expect_null(node.json);
    node = report_node_member(&root, "t");
    cr_expect_null(report_node_text(&node));
    node = report_node_member(&root, "b");
    cr_expect_not(report_node_bool(&node, &yes));
    cr_expect_null(report_node_text(&node));
    report_file_close(&file);
}

static void count(void *arg, const struct report_node *member, const char *name)
{
    cr_expect_str_eq(member->path, name);
    ++*(int *)arg;
}

Test(report_data, each_stops_at_the_maximum)
{
    PARSED(file, "\"o\":{\"a\":1,\"b\":2,\"c\":3}");
    struct report_node node = report_node_member(&root, "format");
    int n = 0;
    cr_expect_eq(report_node_each(&node, 9, &n, count), 0);
    cr_expect_eq(report_node_each(&root, 1, &n, count), 2);
    cr_expect_eq(n, 1);
    report_file_close(&file);
}
