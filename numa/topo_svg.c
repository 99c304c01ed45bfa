/* The picture is a tree of boxes, laid out in two walks: place() gives each box its size from its
 * children's, draw() paints top down. What differs between kinds of boxes stands in the table. */
#include "numa/topo_render.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "numa/topo_fmt.h"

enum box_kind {
    BOX_MACHINE,
    BOX_PACKAGE,
    BOX_ROW, /* a node and, beside it, its devices; not drawn */
    BOX_NODE,
    BOX_L3,
    BOX_CORE,
    BOX_DEVICES, /* not drawn */
    BOX_NIC,
    BOX_BLOCK,
    BOX_KINDS
};

#define CORE_W 84.0
#define CORE_H 62.0
#define DEVICE_W 176.0
#define DEVICE_H 44.0
#define MARGIN 24.0
#define HEADER_H 66.0
#define LEGEND_H 40.0
#define TEXT_12_W 6.7 /* mean width of a character at 12 px, generously */

struct box_style {
    double pad, title_h, gap;
    double w, h;      /* of a box without children, and the least of one with */
    double wrap_w;    /* children flow in rows up to this width; 0: below each other */
    const char *look; /* class; NULL: not drawn */
};

static const struct box_style styles[BOX_KINDS] = {
    [BOX_MACHINE] = {.pad = 0, .gap = 18, .w = 560},
    [BOX_PACKAGE] = {.pad = 14, .title_h = 24, .gap = 14, .look = "pkg"},
    [BOX_ROW] = {.gap = 14, .wrap_w = 1e9},
    [BOX_NODE] = {.pad = 12, .title_h = 42, .gap = 10, .wrap_w = 800, .look = "node"},
    [BOX_L3] = {.pad = 10, .title_h = 18, .gap = 8, .look = "l3"},
    [BOX_CORE] = {.w = CORE_W, .h = CORE_H},
    [BOX_DEVICES] = {.gap = 8},
    [BOX_NIC] = {.w = DEVICE_W, .h = DEVICE_H, .look = "dev"},
    [BOX_BLOCK] = {.w = DEVICE_W, .h = DEVICE_H, .look = "dev"},
};

/* One colour per node group, all dark enough for white text. */
static const char *const group_colors[] = {"#1f6fb2", "#b0521b", "#137a68", "#8a3f83",
                                           "#a12c40", "#5c6b1e", "#4250a6", "#76573a"};

struct box {
    enum box_kind kind;
    int index;             /* of the package, node, core ... it shows; -1: of none */
    int first, last, next; /* children and sibling, -1: none */
    double x, y, w, h;
};

struct picture {
    const struct topo *topo;
    const struct placement *placement;
    FILE *out;
    struct box *boxes;
    int n_boxes, boxes_max;
};

static int add_box(struct picture *p, int parent, enum box_kind kind, int index)
{
    ASSERT(p->n_boxes < p->boxes_max);
    int id = p->n_boxes++;
    p->boxes[id] = (struct box){.kind = kind, .index = index, .first = -1, .last = -1, .next = -1};
    if (parent < 0)
        return id;
    struct box *up = &p->boxes[parent];
    if (up->last >= 0)
        p->boxes[up->last].next = id;
    else
        up->first = id;
    up->last = id;
    return id;
}

static void add_devices(struct picture *p, int parent, struct topo_locality at)
{
    int column = -1;
    const struct topo *t = p->topo;
    for (size_t i = 0; i < t->n_nics + t->n_blocks; i++) {
        bool nic = i < t->n_nics;
        size_t index = nic ? i : i - t->n_nics;
        const struct topo_locality *near = nic ? &t->nics[index].near : &t->blocks[index].near;
        if (near->node != at.node || (at.node < 0 && near->package != at.package))
            continue;
        if (column < 0)
            column = add_box(p, parent, BOX_DEVICES, -1);
        add_box(p, column, nic ? BOX_NIC : BOX_BLOCK, (int)index);
    }
}

static bool node_drawn(const struct picture *p, int node)
{
    for (int i = 0; i < p->n_boxes; i++)
        if (p->boxes[i].kind == BOX_NODE && p->boxes[i].index == node)
            return true;
    return false;
}

/* A node that spans packages is drawn in each of them, its devices in the first. */
static int add_node(struct picture *p, int parent, int node)
{
    bool first = !node_drawn(p, node);
    int row = add_box(p, parent, BOX_ROW, -1);
    int box = add_box(p, row, BOX_NODE, node);
    if (first)
        add_devices(p, row, (struct topo_locality){node, -1});
    return box;
}

static void build(struct picture *p)
{
    const struct topo *t = p->topo;
    int machine = add_box(p, -1, BOX_MACHINE, -1), package = machine, node = -1, l3 = -1;
    for (size_t i = 0; i < t->n_cores; i++) {
        const struct topo_core *core = &t->cores[i], *last = i > 0 ? core - 1 : NULL;
        bool new_package = last == NULL || last->package != core->package;
        bool new_node = new_package || last->node != core->node;
        if (new_package)
            package = add_box(p, machine, BOX_PACKAGE, core->package);
        if (new_node)
            node = add_node(p, package, core->node);
        if (new_node || last->l3 != core->l3)
            l3 = add_box(p, node, BOX_L3, core->l3);
        add_box(p, l3, BOX_CORE, (int)i);
        bool end = i + 1 == t->n_cores || core[1].package != core->package;
        if (end && core->package >= 0)
            add_devices(p, package, (struct topo_locality){-1, core->package});
    }
    for (size_t i = 0; i < t->n_nodes; i++)
        if (!node_drawn(p, (int)i))
            add_node(p, machine, (int)i);
    add_devices(p, machine, (struct topo_locality){-1, -1});
}

static int count_children(const struct picture *p, const struct box *box)
{
    int n = 0;
    for (int c = box->first; c >= 0; c = p->boxes[c].next)
        n++;
    return n;
}

/* A package or an L3 that the machine does not show only keeps its children together. */
static bool is_drawn(const struct box *box)
{
    return styles[box->kind].look != NULL && box->index >= 0;
}

/* Cores of one L3 stand four, or from nine on eight, abreast; what is near all shards, which may
 * be many devices, in rows as well. */
static double wrap_width(const struct picture *p, const struct box *box)
{
    const struct box_style *style = &styles[box->kind];
    if (box->kind == BOX_DEVICES && p->boxes[0].last == (int)(box - p->boxes))
        return 3 * (DEVICE_W + style->gap);
    if (box->kind == BOX_NODE && count_children(p, box) > 6)
        return 2 * style->wrap_w;
    if (box->kind != BOX_L3)
        return style->wrap_w;
    int columns = count_children(p, box) <= 8 ? 4 : 8;
    return columns * (CORE_W + style->gap);
}

static void node_caption(const struct picture *p, int node, char name[FMT_BYTES],
                         char use[FMT_BYTES], uint64_t *ret_used_bytes)
{
    char phrase[FMT_BYTES], size[FMT_BYTES];
    snprintf(name, FMT_BYTES, "NUMA node %u", p->topo->nodes[node].os_index);
    fmt_node_use(phrase, p->topo, p->placement, node, ret_used_bytes);
    fmt_size(size, p->topo->nodes[node].memory_bytes);
    if (*ret_used_bytes > 0)
        snprintf(use, FMT_BYTES, "%.60s of %.20s", phrase, size);
    else if (p->topo->nodes[node].memory_bytes > 0)
        snprintf(use, FMT_BYTES, "%.20s, %.60s", size, phrase);
    else
        snprintf(use, FMT_BYTES, "%.60s", phrase);
}

/* The least width that the title needs. */
static double title_width(const struct picture *p, const struct box *box)
{
    char name[FMT_BYTES], use[FMT_BYTES];
    uint64_t used_bytes;
    if (box->kind != BOX_NODE)
        return 0;
    node_caption(p, box->index, name, use, &used_bytes);
    return (double)(strlen(name) + strlen(use) + 4) * TEXT_12_W;
}

/* Sizes from the leaves up, positions relative to the parent. A box that has its size keeps it. */
static void place(struct picture *p, int id)
{
    struct box *box = &p->boxes[id];
    if (box->w > 0)
        return;
    const struct box_style *style = &styles[box->kind];
    double pad = is_drawn(box) ? style->pad : 0, title_h = is_drawn(box) ? style->title_h : 0;
    double wrap = wrap_width(p, box), x = 0, y = 0, row_h = 0, wide = 0;
    for (int c = box->first; c >= 0; c = p->boxes[c].next) {
        struct box *child = &p->boxes[c];
        place(p, c);
        if (x > 0 && x + child->w > wrap) {
            x = 0;
            y += row_h + style->gap;
            row_h = 0;
        }
        child->x = pad + x;
        child->y = pad + title_h + y;
        x += child->w + style->gap;
        row_h = MAX(row_h, child->h);
        wide = MAX(wide, x - style->gap);
    }
    wide = MAX(wide, title_width(p, box));
    box->w = MAX(style->w, wide + 2 * pad);
    box->h = MAX(style->h, y + row_h + 2 * pad + title_h);
}

/* All boxes of a kind as wide as the widest: edges line up, and what stands beside nodes forms one
 * column. */
static void place_alike(struct picture *p, enum box_kind kind)
{
    double wide = 0;
    for (int i = 0; i < p->n_boxes; i++)
        if (p->boxes[i].kind == kind) {
            place(p, i);
            wide = MAX(wide, p->boxes[i].w);
        }
    for (int i = 0; i < p->n_boxes; i++)
        if (p->boxes[i].kind == kind)
            p->boxes[i].w = wide;
}

/* Names come from outside: nothing of them may become markup. topo keeps them printable ASCII. */
static void put_escaped(FILE *out, const char *text)
{
    static const char *const entities[128] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;", ['\''] = "&#39;"};
    for (; *text != '\0'; text++) {
        const char *entity = *text > 0 ? entities[(int)*text] : "?";
        if (entity != NULL)
            fputs(entity, out);
        else
            fputc(*text, out);
    }
}

static void put_text(FILE *out, double x, double y, const char *look, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, look);
    put_escaped(out, text);
    fputs("</text>\n", out);
}

static void put_rect(FILE *out, double x, double y, double w, double h, double radius,
                     const char *look)
{
    fprintf(out,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%g\" class=\"%s\"/>\n",
            x, y, w, h, radius, look);
}

static void draw_node_title(const struct picture *p, const struct box *box, double x, double y)
{
    char name[FMT_BYTES], use[FMT_BYTES];
    uint64_t used_bytes, memory_bytes = p->topo->nodes[box->index].memory_bytes;
    double pad = styles[BOX_NODE].pad, bar_w = box->w - 2 * pad;
    node_caption(p, box->index, name, use, &used_bytes);
    put_text(p->out, x + pad, y + 23, "h2", name);
    put_text(p->out, x + box->w - pad, y + 23, "t end", use);
    put_rect(p->out, x + pad, y + 34, bar_w, 8, 4, "bar");
    if (used_bytes == 0 || memory_bytes == 0)
        return;
    unsigned group = 0;
    for (size_t i = 0; i < p->placement->n_shards; i++)
        if (p->placement->shards[i].node == box->index)
            group = p->placement->shards[i].group;
    double part = MIN((double)used_bytes / (double)memory_bytes, 1.0);
    fprintf(p->out,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"8\" rx=\"4\" fill=\"%s\"/>\n",
            x + pad, y + 34, MAX(part * bar_w, 8.0), group_colors[group % ARRAY_LEN(group_colors)]);
}

static void draw_title(const struct picture *p, const struct box *box, double x, double y)
{
    char line[FMT_BYTES], size[FMT_BYTES];
    if (box->kind == BOX_NODE) {
        draw_node_title(p, box, x, y);
    } else if (box->kind == BOX_PACKAGE && box->index >= 0) {
        snprintf(line, sizeof(line), "Package %d", box->index);
        put_text(p->out, x + styles[BOX_PACKAGE].pad, y + 24, "h2", line);
    } else if (box->kind == BOX_L3 && box->index >= 0) {
        fmt_size(size, p->topo->l3s[box->index].size_bytes);
        snprintf(line, sizeof(line), "L3  %.20s", size);
        put_text(p->out, x + styles[BOX_L3].pad, y + 19, "t", line);
    }
}

/* What a pointer that rests on the core is told. */
static void draw_core_hint(const struct picture *p, int index, struct fmt_shards shards)
{
    const struct topo_core *core = &p->topo->cores[index];
    char use[FMT_BYTES], size[FMT_BYTES];
    fmt_core_use(use, core, shards);
    fprintf(p->out, "<title>core %d, PU", index);
    for (size_t i = 0; i < core->n_pus; i++)
        fprintf(p->out, " %u", core->pus[i].os_index);
    fprintf(p->out, ": %s", use);
    if (shards.count > 0) {
        const struct placement_shard *s = &p->placement->shards[shards.first];
        fmt_size(size, s->memory_bytes);
        fprintf(p->out, ", %s on node %u%s, pinned to PU %u", size, s->node_os_index,
                s->huge_pages ? " in huge pages" : "", s->pu_os_index);
    }
    fputs("</title>\n", p->out);
}

static void draw_pus(const struct picture *p, const struct topo_core *core,
                     const struct placement_shard *shard, double x, double y)
{
    double gap = 4, w = (CORE_W - 14 - gap * (double)(core->n_pus - 1)) / (double)core->n_pus;
    for (size_t i = 0; i < core->n_pus; i++) {
        const struct topo_pu *pu = &core->pus[i];
        bool pinned = shard != NULL && shard->pu_os_index == pu->os_index;
        double at = x + 7 + (double)i * (w + gap);
        char number[16];
        put_rect(p->out, at, y, w, 15, 3,
                 !pu->allowed    ? "pu off"
                 : pinned        ? "pu pin"
                 : shard != NULL ? "pu free"
                                 : "pu");
        snprintf(number, sizeof(number), "%u", pu->os_index);
        if (w >= 7.0 * (double)strlen(number)) /* eight threads a core leave no room for numbers */
            put_text(p->out, at + w / 2, y + 11,
                     pinned || shard == NULL || !pu->allowed ? "n mid" : "n mid inv", number);
    }
}

static void draw_core(const struct picture *p, int index, double x, double y)
{
    const struct topo_core *core = &p->topo->cores[index];
    struct fmt_shards shards = fmt_core_shards(p->placement, index);
    const struct placement_shard *shard =
        shards.count > 0 ? &p->placement->shards[shards.first] : NULL;
    char name[32], use[FMT_BYTES];
    snprintf(name, sizeof(name), "core %d", index);
    fmt_core_use(use, core, shards);
    if (shards.count > 1 && strlen(use) > 10) /* "shards 10-12" is too wide, "10-12" is not */
        memmove(use, strchr(use, ' ') + 1, strlen(strchr(use, ' ')));
    fputs("<g>\n", p->out);
    draw_core_hint(p, index, shards);
    if (shard != NULL)
        fprintf(p->out,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%g\" height=\"%g\" rx=\"6\" fill=\"%s\"/>\n",
                x, y, CORE_W, CORE_H, group_colors[shard->group % ARRAY_LEN(group_colors)]);
    else
        put_rect(p->out, x, y, CORE_W, CORE_H, 6, core->allowed ? "core" : "core off");
    put_text(p->out, x + 8, y + 15, shard != NULL ? "n inv" : "n", name);
    put_text(p->out, x + 8, y + 33, shard != NULL ? "s inv" : "idle", use);
    draw_pus(p, core, shard, x, y + CORE_H - 21);
    fputs("</g>\n", p->out);
}

static void draw_device(const struct picture *p, const struct box *box, double x, double y)
{
    bool nic = box->kind == BOX_NIC;
    char what[FMT_BYTES], name[TOPO_NAME_BYTES];
    const char *kind = nic ? "NIC" : fmt_block_kind(&p->topo->blocks[box->index]);
    memcpy(name, nic ? p->topo->nics[box->index].name : p->topo->blocks[box->index].name,
           sizeof(name));
    if (nic)
        fmt_nic(what, &p->topo->nics[box->index]);
    else
        fmt_block(what, &p->topo->blocks[box->index]);
    fprintf(p->out, "<g>\n<title>%s ", kind);
    put_escaped(p->out, name);
    fputs("</title>\n", p->out);
    if (strlen(name) > 15)
        strcpy(name + 13, "..");
    put_rect(p->out, x, y, box->w, box->h, 6, "dev");
    put_rect(p->out, x, y, 5, box->h, 2.5, nic ? "nic" : "blk");
    put_text(p->out, x + 14, y + 18, "h3", name);
    put_text(p->out, x + box->w - 8, y + 18, "t end", kind);
    put_text(p->out, x + 14, y + 35, "n", what);
    fputs("</g>\n", p->out);
}

static void draw(const struct picture *p, int id, double x, double y)
{
    const struct box *box = &p->boxes[id];
    if (box->kind == BOX_CORE) {
        draw_core(p, box->index, x, y);
    } else if (box->kind == BOX_NIC || box->kind == BOX_BLOCK) {
        draw_device(p, box, x, y);
    } else if (is_drawn(box)) {
        put_rect(p->out, x, y, box->w, box->h, 10, styles[box->kind].look);
        draw_title(p, box, x, y);
    }
    for (int c = box->first; c >= 0; c = p->boxes[c].next)
        draw(p, c, x + p->boxes[c].x, y + p->boxes[c].y);
}

static const char css[] =
    "<style>\n"
    "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#1c2733}\n"
    ".h1{font-size:18px;font-weight:600}.h2{font-size:13px;font-weight:600}\n"
    ".h3{font-size:12px;font-weight:600}.t{font-size:12px;fill:#44525f}\n"
    ".s{font-size:12px;font-weight:700}.n{font-size:10px;fill:#44525f}\n"
    ".idle{font-size:11px;fill:#6a7885}.inv{fill:#ffffff}\n"
    ".end{text-anchor:end}.mid{text-anchor:middle}\n"
    ".bg{fill:#f4f6f8;stroke:#c8d0d8}.pkg{fill:#ffffff;stroke:#b7c2cc}\n"
    ".node{fill:#edf2f7;stroke:#a9bacb}.l3{fill:#fbfcfd;stroke:#cbd5de}\n"
    ".core{fill:#ffffff;stroke:#b7c2cc}.off{fill:#e3e7eb;stroke:#b7c2cc;stroke-dasharray:3 2}\n"
    ".pu{fill:#eef1f4;stroke:#c3ccd5}.pin{fill:#ffffff;stroke:#ffffff}\n"
    ".free{fill:#ffffff;fill-opacity:.14;stroke:#ffffff;stroke-opacity:.65}\n"
    ".pu.off{fill:#d3d9df;stroke:#aab4be}.bar{fill:#d3dde6}\n"
    ".dev{fill:#ffffff;stroke:#b7c2cc}.nic{fill:#c77d0a}.blk{fill:#4b5c6b}\n"
    "</style>\n";

/* A swatch, with a PU in it if pu names its look, and its words; returns where the next begins. */
static double draw_key(FILE *out, double x, double y, const char *fill, const char *pu,
                       const char *text)
{
    fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"18\" height=\"14\" rx=\"3\" fill=\"%s\"/>\n",
            x, y, fill);
    if (pu != NULL)
        put_rect(out, x + 4, y + 3.5, 10, 7, 2, pu);
    put_text(out, x + 24, y + 11, "n", text);
    return x + 24 + (double)strlen(text) * 5.7 + 14;
}

static double draw_key_outline(FILE *out, double x, double y, const char *look, const char *text)
{
    put_rect(out, x + 0.5, y + 0.5, 17, 13, 3, look);
    put_text(out, x + 24, y + 11, "n", text);
    return x + 24 + (double)strlen(text) * 5.7 + 14;
}

static void draw_legend(const struct picture *p, double x, double y)
{
    size_t n = MIN(p->placement->n_groups, ARRAY_LEN(group_colors));
    for (size_t i = 0; i + 1 < n; i++, x += 20)
        draw_key(p->out, x, y, group_colors[i], NULL, "");
    x = draw_key(p->out, x, y, group_colors[n - 1], NULL,
                 n > 1 ? "shard's core, by memory node" : "shard's core");
    x = draw_key(p->out, x, y, group_colors[0], "pin", "PU it is pinned to");
    x = draw_key(p->out, x, y, group_colors[0], "free", "PU left free");
    x = draw_key_outline(p->out, x, y, "core", "idle");
    draw_key_outline(p->out, x, y, "core off", "not allowed");
}

static void draw_picture(struct picture *p)
{
    char machine[FMT_BYTES], placement[FMT_BYTES], title[FMT_BYTES + 16], caches[FMT_BYTES];
    fmt_machine(machine, p->topo);
    fmt_placement(placement, p->placement);
    fmt_caches(caches, p->topo);
    snprintf(title, sizeof(title), "penstock: %s", placement);
    /* Width of the content, of the legend, and of each line above. */
    double w = MAX(p->boxes[0].w,
                   580 + 20.0 * (double)MIN(p->placement->n_groups, ARRAY_LEN(group_colors)));
    w = MAX(w, (double)strlen(title) * TEXT_12_W * 1.65);
    w = MAX(w, (double)strlen(machine) * TEXT_12_W);
    w = MAX(w, (double)strlen(caches) * TEXT_12_W) + 2 * MARGIN;
    double h = MARGIN + HEADER_H + p->boxes[0].h + LEGEND_H + MARGIN / 2;
    fprintf(p->out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
            "height=\"%.0f\" role=\"img\">\n<title>",
            w, h, w, h);
    put_escaped(p->out, title);
    fputs("</title>\n", p->out);
    fputs(css, p->out);
    put_rect(p->out, 0.5, 0.5, w - 1, h - 1, 14, "bg");
    put_text(p->out, MARGIN, MARGIN + 14, "h1", title);
    put_text(p->out, MARGIN, MARGIN + 34, "t", machine);
    if (p->topo->n_caches > 0)
        put_text(p->out, MARGIN, MARGIN + 51, "n", caches);
    draw(p, 0, MARGIN, MARGIN + HEADER_H);
    draw_legend(p, MARGIN, MARGIN + HEADER_H + p->boxes[0].h + 20);
    fputs("</svg>\n", p->out);
}

int topo_svg(const struct topo *topo, const struct placement *placement, FILE *out)
{
    /* A core brings at most itself, an L3, a node with row and two device columns, a package. */
    size_t boxes_max = 8 * (topo->n_cores + topo->n_nodes) + topo->n_nics + topo->n_blocks + 8;
    struct picture p = {.topo = topo, .placement = placement, .out = out};
    p.boxes = calloc(boxes_max, sizeof(*p.boxes));
    if (p.boxes == NULL)
        return -ENOMEM;
    p.boxes_max = (int)boxes_max;
    build(&p);
    place_alike(&p, BOX_NODE);
    place_alike(&p, BOX_PACKAGE);
    place(&p, 0);
    draw_picture(&p);
    free(p.boxes);
    return ferror(out) ? -EIO : 0;
}
