/* Requests by client, API and version: who gets a row, what it is called, and both forms of it. */
#include <criterion/criterion.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/metrics.h"

static struct client_stats stats;

static struct client_row *row_of(const char *name)
{
    return client_stats_find(&stats, wire_str_of(name));
}

Test(client_stats, a_name_has_one_row_and_no_character_to_escape)
{
    struct client_row *row = row_of("librdkafka");
    cr_assert_eq(row_of("librdkafka"), row);
    cr_assert_neq(row_of("librdkafk"), row);
    cr_assert_str_eq(row_of("me@host \"x\"\n\\")->name, "me_host__x___");
    cr_assert_str_eq(row_of("")->name, "unnamed");
    cr_assert_str_eq(client_stats_find(&stats, (struct wire_str){NULL, -1})->name, "unnamed");
    struct wire_str zero = {"a\0b", 3};
    cr_assert_str_eq(client_stats_find(&stats, zero)->name, "a_b");
    client_stats_fini(&stats);
}

Test(client_stats, a_long_name_is_cut)
{
    char name[3 * CLIENT_STATS_NAME_BYTES];
    memset(name, 'n', sizeof(name));
    struct client_row *row = client_stats_find(&stats, (struct wire_str){name, sizeof(name)});
    cr_assert_eq(strlen(row->name), CLIENT_STATS_NAME_BYTES - 1);
    cr_assert_eq(client_stats_find(&stats, (struct wire_str){name, sizeof(name) - 1}), row);
    client_stats_fini(&stats);
}

Test(client_stats, those_that_come_too_late_are_one)
{
    char name[16];
    for (unsigned i = 0; i < CLIENT_STATS_MAX; i++) {
        snprintf(name, sizeof(name), "c%u", i);
        cr_assert_neq(row_of(name), &stats.other);
    }
    cr_assert_eq(row_of("late"), &stats.other);
    cr_assert_eq(row_of("later"), &stats.other);
    cr_assert_str_eq(row_of("c0")->name, "c0");
    unsigned n = 0;
    while (client_stats_row(&stats, n) != NULL)
        n++;
    cr_assert_eq(n, CLIENT_STATS_MAX + 1);
    cr_assert_eq(client_stats_row(&stats, n - 1), &stats.other);
    client_stats_fini(&stats);
}

static char *written(void (*write)(FILE *, const struct metrics_process *,
                                   const struct metrics_shard *, unsigned))
{
    static struct metrics_shard shard;
    static const struct metrics_process process = {"1", 0, 0, 0, 0};
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    shard.clients = &stats;
    write(out, &process, &shard, 1);
    cr_assert_eq(fclose(out), 0);
    return text;
}

Test(client_stats, both_forms_say_what_was_counted)
{
    const struct net_api *fetch = net_api_find(1);
    counter_add(&row_of("a-client")->requests[fetch - net_apis][11], 7);
    counter_add(&row_of("b")->requests[net_apis_count - 1][0], 2);
    char *text = written(metrics_write_text);
    cr_assert_not_null(strstr(text,
                              "\npenstock_client_requests_total{shard=\"0\",client=\"a-client\","
                              "api=\"Fetch\",version=\"11\"} 7\n"),
                       "%s", text);
    free(text);
    text = written(metrics_write_json);
    struct json_object *root = json_tokener_parse(text);
    cr_assert_not_null(root, "%s", text);
    struct json_object *shard =
        json_object_array_get_idx(json_object_object_get(root, "shards"), 0);
    struct json_object *list = json_object_object_get(shard, METRIC_CLIENTS);
    cr_assert_eq(json_object_array_length(list), 2);
    struct json_object *first = json_object_array_get_idx(list, 0);
    cr_assert_str_eq(json_object_to_json_string_ext(first, JSON_C_TO_STRING_PLAIN),
                     "[\"a-client\",\"Fetch\",11,7]");
    json_object_put(root);
    free(text);
    client_stats_fini(&stats);
}
