#include "tools/log_out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"

#define JSON_LINE (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
#define JSON_PAGE                                                                                  \
    (JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE)

struct json_object *row_new(const char *type)
{
    struct json_object *row = json_object_new_object();
    if (type != NULL)
        row_text(row, "type", type);
    return row;
}

void row_add(struct json_object *row, const char *key, struct json_object *v)
{
    json_object_object_add(row, key, v);
}

void row_int(struct json_object *row, const char *key, int64_t v)
{
    row_add(row, key, json_object_new_int64(v));
}

void row_uint(struct json_object *row, const char *key, uint64_t v)
{
    row_add(row, key, json_object_new_uint64(v));
}

void row_hex(struct json_object *row, const char *key, uint64_t v)
{
    char text[17];
    snprintf(text, sizeof(text), "%016" PRIx64, v);
    row_text(row, key, text);
}

void row_bool(struct json_object *row, const char *key, bool v)
{
    row_add(row, key, json_object_new_boolean(v));
}

/* Length of the UTF-8 sequence at p, or 0: it is none. RFC 3629's table of well-formed ones. */
static size_t utf8_length(const uint8_t *p, size_t left)
{
    size_t n = p[0] < 0x80                    ? 1
               : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
               : (p[0] & 0xf0) == 0xe0        ? 3
               : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static bool is_utf8(const uint8_t *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t n = utf8_length(data + at, len - at);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

static struct json_object *base64(const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(len / 3 * 4 + 5);
    size_t out = 0;
    if (text == NULL)
        return NULL;
    for (size_t at = 0; at < len; at += 3) {
        size_t n = MIN(len - at, (size_t)3);
        uint32_t v = (uint32_t)data[at] << 16 | (n > 1 ? (uint32_t)data[at + 1] << 8 : 0) |
                     (n > 2 ? data[at + 2] : 0);
        text[out++] = digits[v >> 18];
        text[out++] = digits[v >> 12 & 63];
        text[out++] = n > 1 ? digits[v >> 6 & 63] : '=';
        text[out++] = n > 2 ? digits[v & 63] : '=';
    }
    struct json_object *v = json_object_new_string_len(text, (int)out);
    free(text);
    return v;
}

void row_bytes(struct json_object *row, const char *key, const uint8_t *data, int64_t len)
{
    char name[64];
    if (len < 0) {
        row_add(row, key, NULL);
    } else if (is_utf8(data, (size_t)len)) {
        row_add(row, key, json_object_new_string_len((const char *)data, (int)len));
    } else {
        snprintf(name, sizeof(name), "%sBase64", key);
        row_add(row, name, base64(data, (size_t)len));
    }
}

void row_text(struct json_object *row, const char *key, const char *v)
{
    if (v == NULL)
        row_add(row, key, NULL);
    else
        row_bytes(row, key, (const uint8_t *)v, (int64_t)strlen(v));
}

int64_t row_get(const struct json_object *row, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(row, key, &v) ? json_object_get_int64(v) : 0;
}

const char *row_get_text(const struct json_object *row, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(row, key, &v) && v != NULL ? json_object_get_string(v) : "";
}

struct json_object *row_get_array(const struct json_object *row, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(row, key, &v) ? v : NULL;
}

/* What a terminal would act on is shown as \xNN, but for tabs. */
static void print_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
}

static void print_value(struct json_object *v)
{
    if (v == NULL) {
        fputs("OptionalLong.empty", stdout);
    } else if (json_object_is_type(v, json_type_array)) {
        putchar('[');
        for (size_t i = 0; i < json_object_array_length(v); i++) {
            fputs(i > 0 ? "," : "", stdout);
            print_value(json_object_array_get_idx(v, i));
        }
        putchar(']');
    } else {
        print_text(json_object_get_string(v),
                   (size_t)(json_object_is_type(v, json_type_string)
                                ? json_object_get_string_len(v)
                                : (int)strlen(json_object_get_string(v))));
    }
}

void out_row(bool json, const char *prefix, struct json_object *row)
{
    if (json) {
        puts(json_object_to_json_string_ext(row, JSON_LINE));
        json_object_put(row);
        return;
    }
    const char *space = "";
    fputs(prefix, stdout);
    json_object_object_foreach(row, key, v)
    {
        if (strcmp(key, "type") == 0)
            continue;
        printf("%s%s: ", space, key);
        print_value(v);
        space = " ";
    }
    putchar('\n');
    json_object_put(row);
}

void out_document(struct json_object *document)
{
    puts(json_object_to_json_string_ext(document, JSON_PAGE));
}

int out_close(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "penstock log: cannot write: %s\n", strerror(errno));
        return -EIO;
    }
    return 0;
}

const char *out_size(uint64_t bytes, char buf[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    unsigned unit = 0;
    for (; v >= 1024 && unit + 1 < ARRAY_LEN(units); unit++)
        v /= 1024;
    snprintf(buf, 32, unit == 0 ? "%.0f %s" : "%.1f %s", v, units[unit]);
    return buf;
}

const char *out_time(int64_t ms, char buf[40])
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    if (ms < 0 || gmtime_r(&s, &tm) == NULL || tm.tm_year > 8099) {
        snprintf(buf, 40, "-");
        return buf;
    }
    size_t n = strftime(buf, 40, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(buf + n, 40 - n, ".%03dZ", (int)(ms % 1000));
    return buf;
}
