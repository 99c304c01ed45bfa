#include "bench/report_html.h"

#include <string.h>

#include "bench/report_css.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

#define DASH "\xe2\x80\x93"
#define COLUMNS_MAX 16
#define TEXT_CELL_CHARS 40 /* longer texts may wrap */

/* Open what is folded before printing, and where a link leads to: the page is complete without. */
static const char script[] =
    "<script>addEventListener('beforeprint',function(){document.querySelectorAll('details')."
    "forEach(function(d){d.open=true})});"
    "addEventListener('hashchange',function(){var "
    "e=document.getElementById(location.hash.slice(1));"
    "if(e&&e.tagName=='DETAILS'){e.open=true;e.scrollIntoView()}})</script>\n";

void report_html_begin(FILE *out, const char *title)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
          out);
    report_format_html(out, title);
    fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n%s", report_css, report_markers);
}

void report_html_end(FILE *out)
{
    fprintf(out, "%s</body>\n</html>\n", script);
}

static void put_origin(FILE *out, const struct report_node *node)
{
    fprintf(out, " data-file=\"%u\" data-path=\"", node->file);
    report_format_html(out, node->path);
    fprintf(out, "\" data-value=\"%s\"", report_node_raw(node));
}

/* What is between the tags; true when it was a number. */
static void put_shown(FILE *out, const struct report_node *node, enum report_unit unit)
{
    char shown[REPORT_SHOWN_MAX];
    double value;
    bool yes;
    const char *text = report_node_text(node);
    if (report_node_number(node, &value) && unit != REPORT_EXACT) {
        report_format(unit, value, shown);
        fputs(shown, out);
    } else if (report_node_number(node, &value)) {
        fputs(report_node_raw(node), out);
    } else if (text != NULL) {
        report_format_html(out, text);
    } else if (report_node_bool(node, &yes)) {
        fputs(yes ? "yes" : "no", out);
    } else {
        fputs(DASH, out);
    }
}

static bool is_number(const struct report_node *node)
{
    double value;
    return report_node_number(node, &value);
}

static bool is_present(const struct report_node *node)
{
    bool yes;
    return is_number(node) || report_node_text(node) != NULL || report_node_bool(node, &yes);
}

void report_html_value(FILE *out, const struct report_node *node, enum report_unit unit)
{
    fputs("<span", out);
    if (is_number(node))
        put_origin(out, node);
    fputc('>', out);
    put_shown(out, node, unit);
    fputs("</span>", out);
}

void report_html_cell(FILE *out, const struct report_node *node, enum report_unit unit)
{
    const char *text = report_node_text(node);
    fputs("<td", out);
    if (is_number(node))
        put_origin(out, node);
    else if (text != NULL)
        fputs(strlen(text) > TEXT_CELL_CHARS ? " class=\"t wrap\"" : " class=\"t\"", out);
    else if (!is_present(node))
        fputs(" class=\"absent\" title=\"not measured\"", out);
    fputc('>', out);
    put_shown(out, node, unit);
    fputs("</td>", out);
}

void report_html_phrase(FILE *out, const char *before, const struct report_node *node,
                        enum report_unit unit, const char *after)
{
    if (!is_present(node))
        return;
    fprintf(out, "<span>%s", before);
    report_html_value(out, node, unit);
    fprintf(out, "%s</span>", after);
}

static bool any_has(const struct report_node *items, size_t n, const char *names)
{
    for (size_t i = 0; i < n; i++) {
        struct report_node item = report_node_item(items, i);
        struct report_node node = report_node_find(&item, names);
        if (is_present(&node))
            return true;
    }
    return false;
}

static bool is_text_column(const struct report_node *items, const char *names)
{
    struct report_node first = report_node_item(items, 0), node = report_node_find(&first, names);
    return report_node_text(&node) != NULL;
}

void report_html_items(FILE *out, const struct report_node *items, const char *caption,
                       const struct report_column *columns, size_t n_columns)
{
    size_t n_all = report_node_count(items), n = MIN(n_all, (size_t)REPORT_ROWS_MAX);
    bool shown[COLUMNS_MAX];
    ASSERT(n_columns <= COLUMNS_MAX);
    if (n == 0)
        return;
    fprintf(out, "<div class=\"scroll\"><table><caption>%s</caption>\n<thead><tr>", caption);
    for (size_t c = 0; c < n_columns; c++) {
        shown[c] = any_has(items, n, columns[c].names);
        if (shown[c])
            fprintf(out, "<th%s>%s</th>",
                    is_text_column(items, columns[c].names) ? " class=\"t\"" : "", columns[c].head);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
    for (size_t i = 0; i < n; i++) {
        struct report_node item = report_node_item(items, i);
        fputs("<tr>", out);
        for (size_t c = 0; c < n_columns; c++) {
            struct report_node node = report_node_find(&item, columns[c].names);
            if (shown[c])
                report_html_cell(out, &node, columns[c].unit);
        }
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
    if (n < n_all)
        fprintf(out, "<p class=\"sub\">The first %zu of %zu.</p>\n", n, n_all);
}

void report_html_facts(FILE *out, const struct report_node *node, const char *caption,
                       const struct report_column *columns, size_t n_columns)
{
    size_t n = 0;
    for (size_t c = 0; c < n_columns; c++) {
        struct report_node fact = report_node_find(node, columns[c].names);
        if (!is_present(&fact))
            continue;
        if (n++ == 0)
            fprintf(out, "<table class=\"facts-table\"><caption>%s</caption><tbody>\n", caption);
        fprintf(out, "<tr><th>%s</th>", columns[c].head);
        report_html_cell(out, &fact, columns[c].unit);
        fputs("</tr>\n", out);
    }
    if (n > 0)
        fputs("</tbody></table>\n", out);
}

static void put_color_name(FILE *out, unsigned color)
{
    static const char *const names[] = {"ink", "muted", "good", "bad"};
    if (color >= REPORT_INK && color < REPORT_INK + ARRAY_LEN(names))
        fprintf(out, "var(--%s)", names[color - REPORT_INK]);
    else
        fprintf(out, "var(--c%u)", color % REPORT_COLORS + 1);
}

static void put_key(FILE *out, const struct report_line *line)
{
    static const char *const markers[] = {[REPORT_LINE_DOTS] = "gpPt6",
                                          [REPORT_DOTS] = "gpPt6",
                                          [REPORT_CIRCLES] = "gpPt5",
                                          [REPORT_CROSSES] = "gpPt1"};
    const char *marker = line->style < ARRAY_LEN(markers) ? markers[line->style] : NULL;
    fputs("<span><svg class=\"key\" viewBox=\"0 0 28 10\" aria-hidden=\"true\" style=\"color:",
          out);
    put_color_name(out, line->color);
    fputs("\">", out);
    if (line->style == REPORT_BARS)
        fputs("<path d=\"M1 1H27V9H1Z\" fill=\"currentColor\" fill-opacity=\"0.45\"/>", out);
    else if (marker == NULL || line->style == REPORT_LINE_DOTS)
        fprintf(out, "<path class=\"d%u\" stroke=\"currentColor\" d=\"M1 5H27\"/>",
                line->dash % REPORT_DASHES);
    if (marker != NULL)
        fprintf(out, "<use href=\"#%s\" transform=\"translate(14,5) scale(3.2)\"/>", marker);
    fputs("</svg>", out);
    report_format_html(out, line->label);
    fputs("</span>", out);
}

void report_html_figure(FILE *out, const struct report_plot *plot, const char *svg)
{
    fputs("<figure><figcaption>", out);
    report_format_html(out, plot->title);
    fputs("<div class=\"legend\">", out);
    for (size_t i = 0; i < plot->n_lines; i++)
        if (plot->lines[i].label[0] != '\0')
            put_key(out, &plot->lines[i]);
    fprintf(out, "</div></figcaption>\n%s</figure>\n", svg);
}
