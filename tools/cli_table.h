/* cli_table.h: rows for people: a table of the same json-c objects that --json prints.
 * A null, or a key that is not there, is "-". Threads: one. */
#ifndef TOOLS_CLI_TABLE_H
#define TOOLS_CLI_TABLE_H

#include "net/wire/wire.h"
#include "tools/log_out.h"

enum cli_form {
    CLI_FORM_TEXT,  /* to the left */
    CLI_FORM_COUNT, /* to the right */
    CLI_FORM_SIZE,  /* bytes: 1.5 MiB */
    CLI_FORM_SPAN,  /* seconds: 2 h 5 min */
    CLI_FORM_TIME,  /* milliseconds since 1970 */
};

struct cli_column {
    const char *key, *heading;
    enum cli_form form;
};

/* rows: an array of objects. Prints nothing when it is empty. */
void cli_table(struct json_object *rows, const struct cli_column *columns, unsigned columns_n);

/* "850 ms", "5.3 s", "2 min 5 s", "3 h 20 min", "6 d 4 h" */
const char *cli_span(double seconds, char buf[32]);

/* A row's text from the wire; null where it is null. */
void row_str(struct json_object *row, const char *key, struct wire_str v);
/* A uuid as Kafka writes it, url-safe base64; null where it is zero. */
void row_uuid(struct json_object *row, const char *key, const struct wire_uuid *v);
void row_ints(struct json_object *row, const char *key, const int32_t *v, int32_t n);
/* -1 and below: null. */
void row_offset(struct json_object *row, const char *key, int64_t v);

/* Print {"KEY": rows} as JSON, or the rows as a table; takes the rows. */
void cli_rows(bool json, const char *key, struct json_object *rows,
              const struct cli_column *columns, unsigned columns_n);

#endif
