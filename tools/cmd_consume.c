#include "tools/cmd_consume.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "tools/cli_time.h"
#include "tools/client_offsets.h"

enum {
    FETCH_MOST = 12, /* the last one that names topics */
    FETCH_BYTES_MAX = 16 << 20,
    FETCH_PARTITION_BYTES_MAX = 2 << 20,
    FETCH_WAIT_MS = 500,
    OUT_BYTES = 256 << 10,
    PARTITIONS_MAX = 1 << 20,
};

/* ---- where to begin, and where to end ---- */

enum start_kind { START_FIRST, START_END, START_AT, START_BACK, START_TIME };

static int start_parse(const char *text, enum start_kind *ret_kind, int64_t *ret)
{
    *ret = 0;
    if (strcmp(text, "beginning") == 0 || strcmp(text, "earliest") == 0)
        *ret_kind = START_FIRST;
    else if (strcmp(text, "end") == 0 || strcmp(text, "latest") == 0)
        *ret_kind = START_END;
    else if (*text == '@' || strncmp(text, "s@", 2) == 0)
        return *ret_kind = START_TIME, cli_time(strchr(text, '@') + 1, ret);
    else if (*text == '-')
        return *ret_kind = START_BACK, cli_number(text + 1, 0, INT64_MAX, ret);
    else
        return *ret_kind = START_AT, cli_number(text, 0, INT64_MAX, ret);
    return 0;
}

/* Whether a partition is in a list like "0,2,5-7"; -EINVAL: it is no list. */
static int list_has(const char *list, int32_t partition)
{
    bool found = false;
    for (const char *at = list;; at++) {
        char *end;
        long first = strtol(at, &end, 10), last = first;
        if (end == at || *at < '0' || *at > '9')
            return -EINVAL;
        at = end;
        if (*at == '-' && at[1] >= '0' && at[1] <= '9') {
            last = strtol(at + 1, &end, 10);
            at = end;
        }
        if (last < first || last >= PARTITIONS_MAX)
            return -EINVAL;
        found |= partition >= first && partition <= last;
        if (*at == '\0')
            return found;
        if (*at != ',')
            return -EINVAL;
    }
}

/* Ask for offsets of all spots, and say which partition has none. */
static int spots_ask(struct consume *s, struct client_spot *spots, unsigned n, int64_t timestamp)
{
    for (unsigned i = 0; i < n; i++)
        spots[i].timestamp = timestamp;
    int rc = client_list_offsets(s->c, spots, n,
                                 s->o->read_uncommitted ? READ_UNCOMMITTED : READ_COMMITTED);
    for (unsigned i = 0; rc == 0 && i < n; i++)
        if (spots[i].rc < 0)
            rc = client_fail(s->c, spots[i].rc, CLIENT_NO_MESSAGE, "%s-%d", s->topic,
                             spots[i].partition);
    return rc;
}

static int starts_find(struct consume *s, struct client_spot *spots, unsigned n)
{
    enum start_kind kind;
    int64_t value;
    start_parse(s->o->offset, &kind, &value);
    int rc = spots_ask(s, spots, n, OFFSETS_LATEST);
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        s->partitions[i].end = s->o->exit_at_end ? spots[i].offset : INT64_MAX;
        s->partitions[i].next = kind == START_AT     ? value
                                : kind == START_BACK ? MAX(spots[i].offset - value, 0)
                                                     : spots[i].offset;
    }
    if (rc < 0 || kind == START_END || kind == START_AT)
        return rc;
    rc = spots_ask(s, spots, n, kind == START_TIME ? value : OFFSETS_EARLIEST);
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        int64_t *next = &s->partitions[i].next;
        if (kind == START_BACK)
            *next = MAX(*next, spots[i].offset);
        else if (spots[i].offset >= 0) /* no record as late as that: the end it is */
            *next = spots[i].offset;
    }
    return rc;
}

static int partitions_find(struct consume *s, struct arena *arena)
{
    struct metadata_response m;
    unsigned all, n = 0;
    int rc = client_metadata(s->c, &s->topic, 1, false, arena, &m);
    if (rc < 0)
        return rc;
    if (m.topics_n != 1 || m.topics[0].error_code != 0)
        return client_fail(s->c, m.topics_n != 1 ? -EPROTO : client_rc(m.topics[0].error_code),
                           CLIENT_NO_MESSAGE, "%s", s->topic);
    struct client_spot *spots = client_spots(&m, arena, &all);
    s->partitions = spots == NULL ? NULL : arena_array(arena, all, sizeof(*s->partitions));
    if (s->partitions == NULL)
        return client_fail(s->c, -ENOMEM, CLIENT_NO_MESSAGE, "%s", s->topic);
    for (unsigned i = 0; i < all; i++)
        if (s->o->partitions == NULL || list_has(s->o->partitions, spots[i].partition) > 0)
            spots[n++] = spots[i];
    if (n == 0)
        return client_fail(s->c, client_rc(CLIENT_UNKNOWN_TOPIC_OR_PARTITION), CLIENT_NO_MESSAGE,
                           "%s, partitions %s", s->topic, s->o->partitions);
    s->partitions_n = n;
    rc = starts_find(s, spots, n);
    for (unsigned i = 0; i < n; i++) {
        s->partitions[i].id = spots[i].partition;
        s->partitions[i].leader = spots[i].leader;
    }
    return rc;
}

/* ---- asking ---- */

static bool is_wanted(const struct consume_partition *p)
{
    return p->next < p->end && !p->is_lost;
}

/* Ask a leader for its partitions; each time another one is the first, so that all get a turn. */
static int leader_ask(struct consume *s, int32_t leader, unsigned turn, struct arena *arena)
{
    struct fetch_request request;
    struct fetch_request_fetch_topic topic;
    int16_t version;
    int rc = client_version(s->c, leader, API_FETCH, FETCH_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&fetch_request_schema, &request);
    wire_set_defaults(&fetch_request_fetch_topic_schema, &topic);
    topic.topic = wire_str_of(s->topic);
    topic.partitions =
        wire_new_array(&fetch_request_fetch_partition_schema, arena, (int32_t)s->partitions_n);
    if (topic.partitions == NULL)
        return client_fail(s->c, -ENOMEM, CLIENT_NO_MESSAGE, "%s", s->topic);
    for (unsigned i = 0; i < s->partitions_n; i++) {
        const struct consume_partition *p = &s->partitions[(i + turn) % s->partitions_n];
        if (!is_wanted(p) || p->leader != leader)
            continue;
        struct fetch_request_fetch_partition *to = &topic.partitions[topic.partitions_n++];
        to->partition = p->id;
        to->fetch_offset = p->next;
        to->partition_max_bytes = FETCH_PARTITION_BYTES_MAX;
    }
    request.max_wait_ms = FETCH_WAIT_MS;
    request.min_bytes = 1;
    request.max_bytes = FETCH_BYTES_MAX;
    request.isolation_level = s->o->read_uncommitted ? READ_UNCOMMITTED : READ_COMMITTED;
    request.topics = &topic;
    request.topics_n = 1;
    return client_submit(s->c, leader, API_FETCH, version, &request);
}

static void leader_lose(struct consume *s, int32_t leader)
{
    for (unsigned i = 0; i < s->partitions_n; i++)
        if (s->partitions[i].leader == leader)
            s->partitions[i].is_lost = true;
}

/* Have a request under way to every leader of a partition that is wanted. */
static int leaders_ask(struct consume *s, unsigned turn, struct arena *arena)
{
    for (unsigned i = 0; i < s->partitions_n; i++) {
        const struct consume_partition *p = &s->partitions[i];
        if (!is_wanted(p) || client_is_busy(s->c, p->leader))
            continue;
        arena_reset(arena);
        int rc = leader_ask(s, p->leader, turn, arena);
        if (rc < 0 && !client_rc_is_retriable(rc) && rc != client_rc(CLIENT_BROKER_NOT_AVAILABLE))
            return rc;
        if (rc < 0)
            leader_lose(s, p->leader);
    }
    return 0;
}

/* ---- answers ---- */

/* Records from p->next on have been deleted, or there never were any so far on. */
static int out_of_range(struct consume *s, struct consume_partition *p)
{
    struct client_spot spot = {
        .topic = s->topic, .partition = p->id, .leader = p->leader, .timestamp = OFFSETS_EARLIEST};
    int rc = client_list_offsets(s->c, &spot, 1, READ_UNCOMMITTED);
    if (rc == 0 && (rc = spot.rc) < 0)
        client_fail(s->c, rc, CLIENT_NO_MESSAGE, "%s-%d", s->topic, p->id);
    if (rc < 0)
        return rc;
    if (spot.offset <= p->next)
        return client_fail(s->c, client_rc(CLIENT_OFFSET_OUT_OF_RANGE), CLIENT_NO_MESSAGE,
                           "%s-%d, offset %" PRId64, s->topic, p->id, p->next);
    snprintf(s->c->reason, sizeof(s->c->reason),
             "%s-%d: offsets %" PRId64 " to %" PRId64 " are gone, going on behind them", s->topic,
             p->id, p->next, spot.offset - 1);
    cli_complain(&s->o->common, s->c->reason);
    p->next = spot.offset;
    return 0;
}

static int partition_answer(struct consume *s, const struct fetch_response_partition_data *data,
                            struct arena *arena)
{
    struct consume_partition *p = NULL;
    for (unsigned i = 0; i < s->partitions_n; i++)
        if (s->partitions[i].id == data->partition_index)
            p = &s->partitions[i];
    int rc = client_rc(data->error_code);
    if (p == NULL)
        return client_fail(s->c, -EPROTO, CLIENT_NO_MESSAGE, "%s-%d was not asked for", s->topic,
                           data->partition_index);
    if (rc == client_rc(CLIENT_OFFSET_OUT_OF_RANGE))
        return out_of_range(s, p);
    if (client_rc_is_retriable(rc))
        p->is_lost = true;
    if (rc < 0)
        client_fail(s->c, rc, CLIENT_NO_MESSAGE, "%s-%d", s->topic, p->id);
    if (rc < 0)
        return p->is_lost ? 0 : rc;
    return consume_take(s, p, data, arena);
}

static int answer_take(struct consume *s, int32_t leader, struct arena *arena)
{
    struct fetch_response r;
    arena_reset(arena);
    int rc = client_take(s->c, leader, arena, &r);
    if (rc == 0 && r.error_code != 0)
        rc = client_fail(s->c, client_rc(r.error_code), CLIENT_NO_MESSAGE, "%s", s->topic);
    for (int32_t t = 0; rc == 0 && t < r.responses_n; t++)
        for (int32_t p = 0; rc == 0 && p < r.responses[t].partitions_n; p++)
            rc = partition_answer(s, &r.responses[t].partitions[p], arena);
    fflush(stdout);
    return rc;
}

/* ---- leaders that have moved ---- */

static bool has_lost(const struct consume *s)
{
    for (unsigned i = 0; i < s->partitions_n; i++)
        if (s->partitions[i].is_lost)
            return true;
    return false;
}

static int lost_find(struct consume *s, struct arena *arena)
{
    struct metadata_response m;
    arena_reset(arena);
    int rc = client_metadata(s->c, &s->topic, 1, false, arena, &m);
    if (rc < 0)
        return rc;
    if (m.topics_n == 1 && m.topics[0].error_code != 0)
        return client_fail(s->c, client_rc(m.topics[0].error_code), CLIENT_NO_MESSAGE, "%s",
                           s->topic);
    for (int32_t t = 0; m.topics_n == 1 && t < m.topics[0].partitions_n; t++)
        for (unsigned i = 0; i < s->partitions_n; i++)
            if (s->partitions[i].id == m.topics[0].partitions[t].partition_index &&
                m.topics[0].partitions[t].leader_id >= 0) {
                s->partitions[i].leader = m.topics[0].partitions[t].leader_id;
                s->partitions[i].is_lost = false;
            }
    return 0;
}

static bool is_done(const struct consume *s)
{
    for (unsigned i = 0; i < s->partitions_n; i++)
        if (s->partitions[i].next < s->partitions[i].end)
            return consume_is_full(s);
    return true;
}

static int follow(struct consume *s, struct arena *arena)
{
    struct client_retry retry = {0};
    int rc = 0, lost_rc = client_rc(CLIENT_NOT_LEADER_OR_FOLLOWER);
    for (unsigned turn = 0; rc == 0 && !is_done(s) && !ferror(stdout); turn++) {
        int32_t node;
        if (has_lost(s)) {
            if (!client_retry(s->c, &retry, lost_rc))
                return lost_rc; /* the reason is that of the last attempt */
            rc = lost_find(s, arena);
        }
        if (rc == 0)
            rc = leaders_ask(s, turn, arena);
        int answer_rc = 0;
        while (rc == 0 && client_poll(s->c, has_lost(s) ? 0 : CLOCK_SECOND_NS, &node, &answer_rc)) {
            if (answer_rc < 0) {
                leader_lose(s, node);
                break;
            }
            rc = answer_take(s, node, arena);
            retry = has_lost(s) ? retry : (struct client_retry){0};
            if (rc == 0 && !is_done(s))
                rc = leaders_ask(s, ++turn, arena);
            if (is_done(s) || has_lost(s))
                break;
        }
    }
    return rc;
}

static int consume(struct client *c, void *options)
{
    const struct consume_options *o = options;
    struct consume s = {.c = c, .o = o, .topic = o->common.args.items[0]};
    struct arena kept, answers;
    s.output = o->format != NULL                                  ? OUTPUT_FORMAT
               : o->common.json || strcmp(o->output, "json") == 0 ? OUTPUT_JSON
               : strcmp(o->output, "hex") == 0                    ? OUTPUT_HEX
                                                                  : OUTPUT_TEXT;
    arena_init(&kept, CLIENT_ARENA_BYTES);
    arena_init(&answers, CLIENT_ARENA_BYTES);
    setvbuf(stdout, NULL, _IOFBF, OUT_BYTES);
    int rc = partitions_find(&s, &kept);
    if (rc == 0)
        rc = follow(&s, &answers);
    arena_fini(&answers);
    arena_fini(&kept);
    return rc;
}

/* ---- the command ---- */

static const char *check(const struct cli_command *command, const void *options)
{
    static const char *const outputs[] = {"text", "hex", "json"};
    const struct consume_options *o = options;
    enum start_kind kind;
    int64_t value;
    bool is_output = false;
    (void)command;
    for (unsigned i = 0; i < ARRAY_LEN(outputs); i++)
        is_output |= strcmp(o->output, outputs[i]) == 0;
    if (!is_output)
        return "--output must be text, hex or json";
    if (start_parse(o->offset, &kind, &value) < 0)
        return "--offset must be beginning, end, N, -N or @TIME";
    if (o->partitions != NULL && list_has(o->partitions, 0) < 0)
        return "--partitions must be a list like 0,2,5-7";
    return o->format == NULL ? NULL : consume_format_check(o->format);
}

#define AT(field) offsetof(struct consume_options, field)

int cmd_consume(int argc, char **argv)
{
    static const struct cli_command commands[] = {
        {NULL, 1, consume, "TOPIC", 1, 1,
         "Print the records of a topic of a running broker, and go on as more come."}};
    static const struct cli_option options[] = {
        {"offset", "FROM", 'o', 1, CLI_TEXT, AT(offset),
         "beginning, end, N, -N (so many before the end), @TIME (default: beginning)"},
        {"partitions", "LIST", 'p', 1, CLI_TEXT, AT(partitions), "these only: 0,2,5-7"},
        {"max-messages", "N", 'c', 1, CLI_NUMBER, AT(max_messages), "end after so many records"},
        {"exit-at-end", NULL, 'e', 1, CLI_FLAG, AT(exit_at_end),
         "end where the partitions ended when it began"},
        {"output", "FORM", 'O', 1, CLI_TEXT, AT(output),
         "text, hex or json (default: text: the values, a line each)"},
        {"key-separator", "TEXT", 'K', 1, CLI_TEXT, AT(key_separator),
         "text: print the key and this before the value"},
        {"headers", NULL, 'H', 1, CLI_FLAG, AT(headers),
         "text: print the headers and a tab before that"},
        {"format", "STRING", 'f', 1, CLI_TEXT, AT(format),
         "%s value, %k key, %S and %K their sizes, %t topic, %p partition, %o offset, %T "
         "timestamp, %h headers; \\n \\t \\xNN"},
        {"nulls", NULL, 'Z', 1, CLI_FLAG, AT(nulls), "print NULL for a key or value that is null"},
        {"read-uncommitted", NULL, 0, 1, CLI_FLAG, AT(read_uncommitted),
         "also records of transactions that are open or aborted"},
    };
    static const struct cli cli = {
        .name = "consume",
        .more = "--json is one object a line; bytes that are no UTF-8 are keyBase64, valueBase64.\n"
                "TIME is milliseconds since 1970 or 2026-01-31T12:00:00Z.\n",
        .commands = commands,
        .commands_n = ARRAY_LEN(commands),
        .options = options,
        .options_n = ARRAY_LEN(options),
        .check = check,
    };
    struct consume_options o = {.offset = "beginning", .output = "text"};
    return cli_run(&cli, argc, argv, &o);
}
