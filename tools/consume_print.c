/* consume_print.c: one record on stdout, in the form that was asked for. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/cmd_consume.h"
#include "tools/log_out.h"

enum { HEX_ROW_BYTES = 16 };

static void print_bytes(const struct consume *s, const uint8_t *data, int32_t len)
{
    if (len > 0)
        fwrite(data, 1, (size_t)len, stdout);
    if (len < 0 && s->o->nulls)
        fputs("NULL", stdout);
}

/* "a=1,b=2" */
static void print_headers(const struct consume *s, const struct batch_record *r)
{
    struct batch_record_header h;
    const char *comma = "";
    for (size_t pos = 0; batch_record_header_next(r, &pos, &h) > 0; comma = ",") {
        fputs(comma, stdout);
        print_bytes(s, h.key, h.key_len);
        putchar('=');
        print_bytes(s, h.value, h.value_len);
    }
}

static void print_text(const struct consume *s, const struct batch_record *r)
{
    if (s->o->headers) {
        print_headers(s, r);
        putchar('\t');
    }
    if (s->o->key_separator != NULL) {
        print_bytes(s, r->key, r->key_len);
        fputs(s->o->key_separator, stdout);
    }
    print_bytes(s, r->value, r->value_len);
    putchar('\n');
}

/* ---- hex ---- */

static void print_hex_row(const uint8_t *data, int32_t at, int32_t len)
{
    printf("  %06x ", (unsigned)at);
    for (int32_t i = 0; i < HEX_ROW_BYTES; i++)
        if (at + i < len)
            printf(" %02x", data[at + i]);
        else
            fputs("   ", stdout);
    fputs("  ", stdout);
    for (int32_t i = at; i < MIN(at + HEX_ROW_BYTES, len); i++)
        putchar(data[i] >= 0x20 && data[i] < 0x7f ? data[i] : '.');
    putchar('\n');
}

static void print_hex_bytes(const char *what, const uint8_t *data, int32_t len)
{
    if (len < 0)
        printf(" %s: null\n", what);
    else
        printf(" %s: %d bytes\n", what, len);
    for (int32_t at = 0; at < len; at += HEX_ROW_BYTES)
        print_hex_row(data, at, len);
}

static void print_hex(const struct consume *s, int32_t partition, const struct batch_record *r)
{
    struct batch_record_header h;
    char time[40];
    printf("%s-%d offset %" PRId64 ", %s\n", s->topic, partition, r->offset,
           out_time(r->timestamp, time));
    print_hex_bytes("key", r->key, r->key_len);
    for (size_t pos = 0; batch_record_header_next(r, &pos, &h) > 0;) {
        print_hex_bytes("header key", h.key, h.key_len);
        print_hex_bytes("header value", h.value, h.value_len);
    }
    print_hex_bytes("value", r->value, r->value_len);
}

/* ---- JSON ---- */

static void print_json(const struct consume *s, int32_t partition, const struct batch_record *r)
{
    struct json_object *row = row_new(NULL), *headers = json_object_new_array();
    struct batch_record_header h;
    row_text(row, "topic", s->topic);
    row_int(row, "partition", partition);
    row_int(row, "offset", r->offset);
    row_int(row, "timestamp", r->timestamp);
    row_bytes(row, "key", r->key, r->key_len);
    row_bytes(row, "value", r->value, r->value_len);
    for (size_t pos = 0; batch_record_header_next(r, &pos, &h) > 0;) {
        struct json_object *header = row_new(NULL);
        row_bytes(header, "key", h.key, h.key_len);
        row_bytes(header, "value", h.value, h.value_len);
        json_object_array_add(headers, header);
    }
    row_add(row, "headers", headers);
    out_row(true, "", row);
}

/* ---- a format string, with kcat's letters ---- */

static void print_field(const struct consume *s, char letter, int32_t partition,
                        const struct batch_record *r)
{
    switch (letter) {
    case 't':
        fputs(s->topic, stdout);
        break;
    case 'p':
        printf("%d", partition);
        break;
    case 'o':
        printf("%" PRId64, r->offset);
        break;
    case 'k':
        print_bytes(s, r->key, r->key_len);
        break;
    case 's':
        print_bytes(s, r->value, r->value_len);
        break;
    case 'K':
        printf("%d", r->key_len);
        break;
    case 'S':
        printf("%d", r->value_len);
        break;
    case 'T':
        printf("%" PRId64, r->timestamp);
        break;
    case 'h':
        print_headers(s, r);
        break;
    default: /* %% */
        putchar(letter);
    }
}

/* What stands for a character after a backslash, -1: nothing. */
static int escaped(const char *at, const char **ret_next)
{
    static const char from[] = "ntr0\\", to[] = "\n\t\r\0\\";
    const char *found = *at == '\0' ? NULL : strchr(from, *at);
    unsigned value;
    *ret_next = at + 1;
    if (found != NULL)
        return (unsigned char)to[found - from];
    if (*at != 'x' || !isxdigit((unsigned char)at[1]) || !isxdigit((unsigned char)at[2]))
        return -1;
    sscanf(at + 1, "%2x", &value);
    *ret_next = at + 3;
    return (int)value;
}

const char *consume_format_check(const char *format)
{
    for (const char *at = format; *at != '\0';) {
        if (*at == '\\') {
            if (escaped(at + 1, &at) < 0)
                return "--format knows \\n \\t \\r \\0 \\\\ \\xNN";
        } else if (*at != '%') {
            at++;
        } else if (at[1] == '\0' || strchr("tpoksKSTh%", at[1]) == NULL) {
            return "--format knows %s %k %S %K %t %p %o %T %h %%";
        } else {
            at += 2;
        }
    }
    return NULL;
}

static void print_format(const struct consume *s, int32_t partition, const struct batch_record *r)
{
    for (const char *at = s->o->format; *at != '\0';) {
        if (*at == '%') {
            print_field(s, at[1], partition, r);
            at += 2;
        } else if (*at == '\\') {
            putchar(escaped(at + 1, &at));
        } else {
            putchar(*at++);
        }
    }
}

void consume_print(const struct consume *s, int32_t partition, const struct batch_record *r)
{
    if (s->output == OUTPUT_TEXT)
        print_text(s, r);
    else if (s->output == OUTPUT_HEX)
        print_hex(s, partition, r);
    else if (s->output == OUTPUT_JSON)
        print_json(s, partition, r);
    else
        print_format(s, partition, r);
}
