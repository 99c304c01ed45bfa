#include "tools/cli_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/cli.h"

enum { CELL_BYTES = 4096, COLUMNS_MAX = 24 };

const char *cli_span(double s, char buf[32])
{
    static const struct {
        double least_s, unit_s, rest_s;
        const char *unit, *rest;
    } forms[] = {
        {86400, 86400, 3600, "d", "h"},
        {3600, 3600, 60, "h", "min"},
        {60, 60, 1, "min", "s"},
    };
    const char *sign = s < 0 ? "-" : "";
    s = s < 0 ? -s : s;
    for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
        if (s < forms[i].least_s)
            continue;
        double whole = (double)(uint64_t)(s / forms[i].unit_s);
        snprintf(buf, 32, "%s%.0f %s %.0f %s", sign, whole, forms[i].unit,
                 (double)(uint64_t)((s - whole * forms[i].unit_s) / forms[i].rest_s),
                 forms[i].rest);
        return buf;
    }
    if (s < 1)
        snprintf(buf, 32, "%s%.0f ms", sign, s * 1e3);
    else
        snprintf(buf, 32, "%s%.1f s", sign, s);
    return buf;
}

/* ---- values ---- */

void row_str(struct json_object *row, const char *key, struct wire_str v)
{
    row_bytes(row, key, (const uint8_t *)v.p, v.len);
}

void row_uuid(struct json_object *row, const char *key, const struct wire_uuid *v)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    static const struct wire_uuid none;
    char text[23];
    if (memcmp(v, &none, sizeof(none)) == 0) {
        row_add(row, key, NULL);
        return;
    }
    for (unsigned i = 0; i < 22; i++) {
        unsigned bit = i * 6, byte = bit / 8;
        unsigned pair = (unsigned)v->b[byte] << 8 | (byte + 1 < 16 ? v->b[byte + 1] : 0);
        text[i] = digits[pair >> (10 - bit % 8) & 63];
    }
    text[22] = '\0';
    row_text(row, key, text);
}

void row_ints(struct json_object *row, const char *key, const int32_t *v, int32_t n)
{
    struct json_object *array = json_object_new_array();
    for (int32_t i = 0; i < n; i++)
        json_object_array_add(array, json_object_new_int(v[i]));
    row_add(row, key, array);
}

void row_offset(struct json_object *row, const char *key, int64_t v)
{
    if (v < 0)
        row_add(row, key, NULL);
    else
        row_int(row, key, v);
}

/* ---- the table ---- */

static void array_cell(struct json_object *v, char cell[CELL_BYTES])
{
    size_t n = 0;
    for (size_t i = 0; i < json_object_array_length(v) && n + 8 < CELL_BYTES; i++) {
        if (i > 0)
            cell[n++] = ',';
        n += cli_escape(cell + n, CELL_BYTES - n,
                        json_object_get_string(json_object_array_get_idx(v, i)));
    }
    if (n == 0)
        cell[n++] = '-';
    cell[n] = '\0';
}

static void cell_fill(struct json_object *row, const struct cli_column *column,
                      char cell[CELL_BYTES])
{
    struct json_object *v = NULL;
    char buf[64];
    json_object_object_get_ex(row, column->key, &v);
    if (v == NULL || (json_object_is_type(v, json_type_string) && column->form != CLI_FORM_TEXT))
        snprintf(cell, CELL_BYTES, "%s", v == NULL ? "-" : json_object_get_string(v));
    else if (json_object_is_type(v, json_type_array))
        array_cell(v, cell);
    else if (json_object_is_type(v, json_type_boolean))
        snprintf(cell, CELL_BYTES, "%s", json_object_get_boolean(v) ? "yes" : "no");
    else if (column->form == CLI_FORM_SIZE)
        snprintf(cell, CELL_BYTES, "%s", out_size(json_object_get_uint64(v), buf));
    else if (column->form == CLI_FORM_SPAN)
        snprintf(cell, CELL_BYTES, "%s", cli_span(json_object_get_double(v), buf));
    else if (column->form == CLI_FORM_TIME)
        snprintf(cell, CELL_BYTES, "%s", out_time(json_object_get_int64(v), buf));
    else
        cli_escape(cell, CELL_BYTES, json_object_get_string(v));
}

/* Columns on a terminal: of UTF-8, what is no continuation byte. */
static int width_of(const char *cell)
{
    int n = 0;
    for (; *cell != '\0'; cell++)
        n += (*cell & 0xc0) != 0x80;
    return n;
}

static void cell_print(const struct cli_column *column, const char *cell, int width, bool is_last)
{
    bool is_left = column->form == CLI_FORM_TEXT;
    int pad = width - width_of(cell);
    printf("%*s%s%*s", is_left ? 0 : pad, "", cell, is_left && !is_last ? pad : 0, "");
    fputs(is_last ? "\n" : "  ", stdout);
}

void cli_table(struct json_object *rows, const struct cli_column *columns, unsigned columns_n)
{
    static char cell[CELL_BYTES];
    int widths[COLUMNS_MAX];
    size_t rows_n = json_object_array_length(rows);
    columns_n = MIN(columns_n, (unsigned)COLUMNS_MAX);
    if (rows_n == 0)
        return;
    for (unsigned i = 0; i < columns_n; i++) {
        widths[i] = width_of(columns[i].heading);
        for (size_t r = 0; r < rows_n; r++) {
            cell_fill(json_object_array_get_idx(rows, r), &columns[i], cell);
            widths[i] = MAX(widths[i], width_of(cell));
        }
    }
    for (unsigned i = 0; i < columns_n; i++)
        cell_print(&columns[i], columns[i].heading, widths[i], i + 1 == columns_n);
    for (size_t r = 0; r < rows_n; r++)
        for (unsigned i = 0; i < columns_n; i++) {
            cell_fill(json_object_array_get_idx(rows, r), &columns[i], cell);
            cell_print(&columns[i], cell, widths[i], i + 1 == columns_n);
        }
}

void cli_rows(bool json, const char *key, struct json_object *rows,
              const struct cli_column *columns, unsigned columns_n)
{
    if (!json) {
        cli_table(rows, columns, columns_n);
        json_object_put(rows);
        return;
    }
    struct json_object *document = row_new(NULL);
    row_add(document, key, rows);
    out_document(document);
    json_object_put(document);
}
