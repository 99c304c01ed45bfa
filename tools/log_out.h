/* log_out.h: rows and documents on stdout, as text or JSON, from the same json-c objects.
 * A row is a flat object. As text it is "key: value key: value", as kafka-dump-log.sh writes; its
 * "type" is left out and null is what Java calls an empty optional. As JSON it is one line.
 * Failure: out_close says whether all was written. Ownership: rows are taken. Threads: one. */
#ifndef TOOLS_LOG_OUT_H
#define TOOLS_LOG_OUT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_object *row_new(const char *type); /* NULL: no type */
void row_int(struct json_object *row, const char *key, int64_t v);
void row_uint(struct json_object *row, const char *key, uint64_t v);
void row_hex(struct json_object *row, const char *key, uint64_t v); /* identities: 16 digits */
void row_bool(struct json_object *row, const char *key, bool v);
void row_text(struct json_object *row, const char *key, const char *v); /* NULL: null */
/* Bytes of a client: a string where they are UTF-8, else KEYBase64. */
void row_bytes(struct json_object *row, const char *key, const uint8_t *data, int64_t len);
void row_add(struct json_object *row, const char *key, struct json_object *v); /* takes v */
int64_t row_get(const struct json_object *row, const char *key);
const char *row_get_text(const struct json_object *row, const char *key); /* "": not there */
struct json_object *row_get_array(const struct json_object *row, const char *key);

/* prefix: before the text, not in JSON. */
void out_row(bool json, const char *prefix, struct json_object *row);
void out_document(struct json_object *document); /* JSON, indented */
/* Flushes stdout: 0 or -errno. */
int out_close(void);

/* "1.5 MiB" */
const char *out_size(uint64_t bytes, char buf[32]);
/* "2026-01-31T12:00:00.123Z", "-" for -1 */
const char *out_time(int64_t ms, char buf[40]);

#endif
