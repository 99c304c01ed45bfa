#include "tools/cmd_produce.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tools/cli_table.h"

struct produce {
    const struct produce_options *o;
    struct produce_sender sender;
    struct produce_input input;
    struct batch_record_header *headers;
};

/* ---- records ---- */

static int32_t len_or_null(const struct produce *s, size_t len)
{
    return len == 0 && s->o->nulls ? -1 : (int32_t)len;
}

/* What was read, as key and value. A line without the separator has no key. */
static int record_add(struct produce *s, const uint8_t *data, size_t len)
{
    const struct produce_options *o = s->o;
    const uint8_t *key = (const uint8_t *)o->key;
    int32_t key_len = o->key == NULL ? -1 : (int32_t)strlen(o->key);
    size_t separator_len = o->key_separator == NULL ? 0 : strlen(o->key_separator);
    const uint8_t *found =
        separator_len > 0 ? memmem(data, len, o->key_separator, separator_len) : NULL;
    if (found != NULL) {
        key = data;
        key_len = len_or_null(s, (size_t)(found - data));
        len -= (size_t)(found - data) + separator_len;
        data = found + separator_len;
    }
    return produce_sender_add(&s->sender, (int32_t)o->partition, key, key_len, data,
                              len_or_null(s, len), s->headers, (int32_t)o->headers.n);
}

static int file_read(struct produce *s, const char *name, int fd)
{
    const uint8_t *data;
    size_t len;
    int rc;
    produce_input_file(&s->input, fd);
    while ((rc = produce_input_next(&s->input, &data, &len)) != 0) {
        if (rc == 1)
            rc = record_add(s, data, len);
        else if (rc == -EAGAIN) /* who waits for more input must not keep records back */
            rc = produce_sender_flush(&s->sender);
        else
            return client_fail(s->sender.c, rc, CLIENT_NO_MESSAGE, "%s, record %" PRIu64, name,
                               s->sender.read + 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int files_read(struct produce *s)
{
    const struct cli_list *args = &s->o->common.args;
    int rc = args->n > 1 ? 0 : file_read(s, "stdin", STDIN_FILENO);
    for (unsigned i = 1; rc == 0 && i < args->n; i++) {
        if (strcmp(args->items[i], "-") == 0) {
            rc = file_read(s, "stdin", STDIN_FILENO);
            continue;
        }
        int fd = open(args->items[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return client_fail(s->sender.c, -errno, CLIENT_NO_MESSAGE, "%s", args->items[i]);
        rc = file_read(s, args->items[i], fd);
        close(fd);
    }
    return rc;
}

/* ---- what was done ---- */

static void summary_print(const struct produce_sender *s)
{
    struct json_object *document = row_new(NULL), *partitions = json_object_new_array();
    row_text(document, "topic", s->topic);
    row_uint(document, "records", s->read);
    row_uint(document, s->acks == 0 ? "sent" : "acknowledged", s->acked);
    for (int32_t i = 0; i < s->partitions_n; i++) {
        const struct produce_partition *p = &s->partitions[i];
        if (p->acked == 0)
            continue;
        struct json_object *row = row_new(NULL);
        row_int(row, "partition", i);
        row_int(row, "records", p->acked);
        row_offset(row, "firstOffset", p->first_offset);
        row_offset(row, "lastOffset", p->last_offset);
        json_object_array_add(partitions, row);
    }
    row_add(document, "partitions", partitions);
    out_document(document);
    json_object_put(document);
}

static int headers_make(struct produce *s)
{
    s->headers = calloc(s->o->headers.n + 1, sizeof(*s->headers));
    if (s->headers == NULL)
        return client_fail(s->sender.c, -ENOMEM, CLIENT_NO_MESSAGE, "headers");
    for (unsigned i = 0; i < s->o->headers.n; i++) {
        const char *key = s->o->headers.items[i], *equals = strchr(key, '=');
        s->headers[i] = (struct batch_record_header){
            .key = (const uint8_t *)key,
            .key_len = (int32_t)(equals - key),
            .value = (const uint8_t *)equals + 1,
            .value_len = (int32_t)strlen(equals + 1),
        };
    }
    return 0;
}

static int produce(struct client *c, void *options)
{
    struct produce s = {.o = options};
    produce_input_init(&s.input, s.o);
    int rc = produce_sender_open(&s.sender, c, s.o);
    if (rc == 0)
        rc = headers_make(&s);
    if (rc == 0)
        rc = files_read(&s);
    int flushed = produce_sender_flush(&s.sender); /* of what was read before the failure, too */
    if (rc == 0)
        rc = flushed;
    if (rc < 0)
        cli_complain(&s.o->common, c->reason);
    if (rc < 0 && s.sender.read > 0) {
        snprintf(c->reason, sizeof(c->reason),
                 "%" PRIu64 " of the %" PRIu64 " records read were %s", s.sender.acked,
                 s.sender.read, s.sender.acks == 0 ? "sent" : "acknowledged");
        cli_complain(&s.o->common, c->reason);
    }
    if (s.o->common.json)
        summary_print(&s.sender);
    free(s.headers);
    produce_input_fini(&s.input);
    produce_sender_close(&s.sender);
    return rc < 0 ? CLI_SAID : 0;
}

/* ---- the command ---- */

static bool is_among(const char *text, const char *const *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(text, list[i]) == 0)
            return true;
    return false;
}

static const char *check(const struct cli_command *command, const void *options)
{
    static const char *const acks[] = {"all", "-1", "0", "1"};
    static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    const struct produce_options *o = options;
    (void)command;
    if (!is_among(o->acks, acks, ARRAY_LEN(acks)))
        return "--acks must be all, 1 or 0";
    if (!is_among(o->compression, codecs, ARRAY_LEN(codecs)))
        return "--compression must be none, gzip, snappy, lz4 or zstd";
    if (o->partition > INT32_MAX)
        return "--partition is too large";
    if (*o->delimiter == '\0' || (o->key_separator != NULL && *o->key_separator == '\0'))
        return "--delimiter and --key-separator must not be empty";
    for (unsigned i = 0; i < o->headers.n; i++)
        if (strchr(o->headers.items[i], '=') == NULL)
            return "--header must be NAME=VALUE";
    return NULL;
}

#define AT(field) offsetof(struct produce_options, field)

int cmd_produce(int argc, char **argv)
{
    static const struct cli_command commands[] = {
        {NULL, 1, produce, "TOPIC [FILE]...", 1, UINT32_MAX,
         "Make records of the lines of files, or of stdin, and have them acknowledged."}};
    static const struct cli_option options[] = {
        {"key-separator", "TEXT", 'K', 1, CLI_TEXT, AT(key_separator),
         "what is before it in a line is the record's key"},
        {"key", "TEXT", 'k', 1, CLI_TEXT, AT(key), "key of records that have none in their line"},
        {"header", "NAME=VALUE", 'H', 1, CLI_LIST, AT(headers),
         "a header of each record; may be given several times"},
        {"partition", "N", 'p', 1, CLI_NUMBER, AT(partition),
         "all to this one (default: by key as Java's client does, without key in turns)"},
        {"acks", "all|1|0", 'a', 1, CLI_TEXT, AT(acks),
         "when a record counts as written (default: all, and then idempotent)"},
        {"compression", "CODEC", 'z', 1, CLI_TEXT, AT(compression),
         "none, gzip, snappy, lz4, zstd (default: none)"},
        {"nulls", NULL, 'Z', 1, CLI_FLAG, AT(nulls), "an empty value or key is null: a tombstone"},
        {"delimiter", "TEXT", 'D', 1, CLI_TEXT, AT(delimiter),
         "what ends a record (default: the end of a line)"},
        {"whole", NULL, 'w', 1, CLI_FLAG, AT(whole), "each file is one record"},
    };
    static const struct cli cli = {
        .name = "produce",
        .more = "Exit code 0 says that every record was acknowledged. --json sums up what was "
                "written where.\n",
        .commands = commands,
        .commands_n = ARRAY_LEN(commands),
        .options = options,
        .options_n = ARRAY_LEN(options),
        .check = check,
    };
    struct produce_options o = {
        .partition = -1, .acks = "all", .compression = "none", .delimiter = "\n"};
    return cli_run(&cli, argc, argv, &o);
}
