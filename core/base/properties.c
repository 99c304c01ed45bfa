#include "core/base/properties.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    const char *at, *end;
    unsigned line; /* of `at` */
    char *buf;     /* one logical line, joined, still escaped */
    size_t len;
    const char *reason;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f';
}

static bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->end && is_blank(*p->at))
        p->at++;
}

/* \n, \r or \r\n, if there is one. */
static void skip_line_end(struct parser *p)
{
    if (p->at == p->end)
        return;
    char c = *p->at++;
    if (c == '\r' && p->at < p->end && *p->at == '\n')
        p->at++;
    p->line++;
}

static void skip_rest_of_line(struct parser *p)
{
    while (p->at < p->end && !is_line_end(*p->at))
        p->at++;
    skip_line_end(p);
}

/* Copies up to the end of the natural line; true: an odd number of backslashes says it goes on. */
static bool copy_natural_line(struct parser *p)
{
    bool escaped = false;
    while (p->at < p->end && !is_line_end(*p->at)) {
        char c = *p->at++;
        escaped = c == '\\' && !escaped;
        p->buf[p->len++] = c;
    }
    if (escaped)
        p->len--;
    bool more = escaped && p->at < p->end;
    skip_line_end(p);
    return more;
}

/* The next line with something in it into buf. False: the end. */
static bool next_logical_line(struct parser *p, unsigned *ret_line)
{
    for (;;) {
        skip_blanks(p);
        if (p->at == p->end)
            return false;
        if (*p->at == '#' || *p->at == '!' || is_line_end(*p->at)) {
            skip_rest_of_line(p);
            continue;
        }
        *ret_line = p->line;
        p->len = 0;
        while (copy_natural_line(p))
            skip_blanks(p);
        if (p->len > 0)
            return true;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* XXXX of \uXXXX, or -1. */
static int32_t hex4(const char *at, const char *end)
{
    int32_t v = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        v = v << 4 | digit;
    }
    return v;
}

static char *utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 63));
        *out++ = (char)(0x80 | (c & 63));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 63));
        *out++ = (char)(0x80 | (c >> 6 & 63));
        *out++ = (char)(0x80 | (c & 63));
    }
    return out;
}

/* At the XXXX behind \u; takes a surrogate pair as one character. NULL: malformed. */
static const char *unescape_unicode(const char *at, const char *end, char **out)
{
    int32_t c = hex4(at, end);
    if (c <= 0 || (c >= 0xdc00 && c < 0xe000))
        return NULL;
    at += 4;
    if (c >= 0xd800 && c < 0xdc00) {
        int32_t low = end - at >= 6 && at[0] == '\\' && at[1] == 'u' ? hex4(at + 2, end) : -1;
        if (low < 0xdc00 || low >= 0xe000)
            return NULL;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        at += 6;
    }
    *out = utf8_put(*out, (uint32_t)c); /* at most 3 bytes for 6, 4 for 12: it always fits */
    return at;
}

/* In place; the result ends in NUL. False: a malformed \u. */
static bool unescape(char *text, size_t len)
{
    const char *at = text, *end = text + len;
    char *out = text;
    while (at < end) {
        char c = *at++;
        if (c != '\\' || at == end) {
            *out++ = c;
            continue;
        }
        c = *at++;
        if (c == 'u') {
            at = unescape_unicode(at, end, &out);
            if (at == NULL)
                return false;
            continue;
        }
        *out++ = c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 'f' ? '\f' : c;
    }
    *out = '\0';
    return true;
}

/* Where the key ends and where the value begins; equal only when there is neither. */
static void pair_split(const struct parser *p, size_t *ret_key_len, size_t *ret_value)
{
    size_t at = 0;
    for (bool escaped = false; at < p->len; at++) {
        char c = p->buf[at];
        if (!escaped && (c == '=' || c == ':' || is_blank(c)))
            break;
        escaped = c == '\\' && !escaped;
    }
    *ret_key_len = at;
    while (at < p->len && is_blank(p->buf[at]))
        at++;
    if (at < p->len && (p->buf[at] == '=' || p->buf[at] == ':'))
        at++;
    while (at < p->len && is_blank(p->buf[at]))
        at++;
    *ret_value = at;
}

static int pair_emit(struct parser *p, unsigned line, properties_fn on_pair, void *arg)
{
    size_t key_len, value;
    pair_split(p, &key_len, &value);
    /* The value first: its NUL goes behind the line, the key's onto the separator. */
    if (!unescape(p->buf + value, p->len - value) || !unescape(p->buf, key_len)) {
        p->reason = "malformed \\uXXXX";
        return -EINVAL;
    }
    return on_pair(arg, line, p->buf, value == key_len ? "" : p->buf + value);
}

int properties_parse(const char *text, size_t len, properties_fn on_pair, void *arg,
                     unsigned *ret_line, const char **ret_reason)
{
    struct parser p = {.at = text, .end = text + len, .line = 1};
    unsigned line = 1;
    int rc = 0;
    p.buf = malloc(len + 1);
    if (p.buf == NULL)
        return -ENOMEM;
    if (memchr(text, '\0', len) != NULL) {
        p.reason = "the file holds NUL bytes: it is not text";
        rc = -EINVAL;
    }
    while (rc == 0 && next_logical_line(&p, &line))
        rc = pair_emit(&p, line, on_pair, arg);
    if (p.reason != NULL) {
        *ret_line = line;
        *ret_reason = p.reason;
    }
    free(p.buf);
    return rc;
}
