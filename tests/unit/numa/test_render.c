#include "numa/topo_render.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/unit/numa/machine.h"

typedef int (*render_fn)(const struct topo *topo, const struct placement *placement, FILE *out);

static char *render(render_fn fn, const struct topo *t, unsigned shards)
{
    struct placement_settings settings = {.shards = shards};
    struct placement p;
    char *text = NULL;
    size_t len;
    cr_assert_eq(placement_compute(t, &settings, &p), 0);
    FILE *out = open_memstream(&text, &len);
    cr_assert_not_null(out);
    cr_assert_eq(fn(t, &p, out), 0);
    fclose(out);
    cr_assert_eq(strlen(text), len);
    placement_fini(&p);
    return text;
}

/* After "&": one of the five entities, or a character number. */
static const char *skip_entity(const char *p)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strncmp(p, known[i], strlen(known[i])) == 0)
            return p + strlen(known[i]);
    cr_assert_fail("bare & at: %.40s", p);
    return NULL;
}

/* name="value" ..., up to ">" or "/>"; returns at that. */
static const char *skip_attributes(const char *p)
{
    for (;;) {
        p += strspn(p, " \n");
        if (*p == '>' || (*p == '/' && p[1] == '>'))
            return p;
        size_t name = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-");
        cr_assert(name > 0 && p[name] == '=' && p[name + 1] == '"', "attribute: %.40s", p);
        for (p += name + 2; *p != '"';) {
            cr_assert(*p != '\0' && *p != '<', "value: %.40s", p);
            p = *p == '&' ? skip_entity(p) : p + 1;
        }
        p++;
    }
}

/* Well-formed enough: one root, tags balanced, attributes quoted, no bare & or <. */
static void check_xml(const char *p)
{
    char open[32][16];
    size_t depth = 0, n_roots = 0;
    while (*p != '\0') {
        if (*p == '&') {
            p = skip_entity(p);
        } else if (*p != '<') {
            cr_assert(depth > 0 || isspace((unsigned char)*p), "text outside: %.40s", p);
            p++;
        } else if (p[1] == '/') {
            cr_assert_gt(depth, 0);
            size_t len = strlen(open[--depth]);
            cr_assert(strncmp(p + 2, open[depth], len) == 0 && p[2 + len] == '>',
                      "</%s> expected: %.40s", open[depth], p);
            p += 3 + len;
        } else {
            size_t len = strspn(++p, "abcdefghijklmnopqrstuvwxyz");
            cr_assert(len > 0 && len < 16 && depth < 32, "tag: %.40s", p);
            n_roots += depth == 0;
            snprintf(open[depth++], 16, "%.*s", (int)len, p);
            p = skip_attributes(p + len);
            if (*p == '/') {
                depth--;
                p++;
            }
            p++;
        }
    }
    cr_assert_eq(depth, 0);
    cr_assert_eq(n_roots, 1);
}

static size_t count(const char *text, const char *part)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, part)) != NULL; p += strlen(part))
        n++;
    return n;
}

static const char *const descs[] = {
    "core:1 pu:1",
    "pu:3",
    "core:8 pu:2",
    "core:4 pu:8",
    "pack:2 core:4 pu:2", /* one node over both packages */
    "pack:2 [numa(memory=64GiB)] l3:2 l2:8 core:1 pu:2",
    "pack:4 numa:2 l3:2 core:16 pu:2",
    "[numa] pack:2 [numa] core:2 pu:1", /* a node of the machine beside those of the packages */
};

Test(render, svg_is_well_formed)
{
    for (size_t i = 0; i < ARRAY_LEN(descs); i++)
        for (unsigned shards = 0; shards < 20; shards += 7) {
            struct topo *t = NULL;
            cr_assert_eq(topo_from_synthetic(descs[i], &t), 0, "%s", descs[i]);
            char *svg = render(topo_svg, t, shards);
            check_xml(svg);
            for (size_t c = 0; c < t->n_cores; c++) {
                char name[32];
                snprintf(name, sizeof(name), ">core %zu<", c);
                cr_assert_eq(count(svg, name), 1, "%s: %s", descs[i], name);
            }
            free(svg);
            topo_destroy(t);
        }
}

Test(render, svg_shows_the_whole_machine)
{
    struct topo *t = machine_topo(&machine_uneven);
    cr_assert_eq(topo_restrict(t, "0-14,16-30"), 0);
    char *svg = render(topo_svg, t, 0);
    check_xml(svg);
    for (int i = 0; i < 15; i++) {
        char shard[32];
        snprintf(shard, sizeof(shard), ">shard %d<", i);
        cr_assert_eq(count(svg, shard), 1, "%s", shard);
    }
    cr_assert_eq(count(svg, ">shard 15<"), 0);
    const char *const names[] = {">eth0<", ">eth1<",      ">nvme0n1<",   ">nvme1n1<",
                                 ">sda<",  ">Package 0<", ">Package 1<", ">NUMA node 3<"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        cr_assert_eq(count(svg, names[i]), 1, "%s", names[i]);
    cr_assert_eq(count(svg, ">not allowed<"), 2, "the core and the legend");
    free(svg);
    topo_destroy(t);
}

/* Names come from outside. */
Test(render, names_are_escaped)
{
    static const struct machine_node nodes[] = {
        {.cores = 1, .memory_gib = 1, .nic = "&lt;/svg&gt;&amp;&quot;'&lt;script&gt;"}};
    struct topo *t = machine_topo(&(struct machine){.smt = 1, .nodes = nodes, .n_nodes = 1});
    cr_assert_str_eq(t->nics[0].name, "</svg>&\"'<script>");
    char *svg = render(topo_svg, t, 0), *json = render(topo_json, t, 0);
    check_xml(svg);
    cr_assert_eq(count(svg, "<script"), 0);
    cr_assert_eq(count(svg, "</svg>"), 1);
    struct json_object *root = json_tokener_parse(json);
    cr_assert_not_null(root);
    json_object_put(root);
    free(svg);
    free(json);
    topo_destroy(t);
}

static struct json_object *at(struct json_object *from, const char *path)
{
    struct json_object *found = NULL;
    cr_assert_eq(json_pointer_get(from, path, &found), 0, "%s", path);
    return found;
}

static int64_t number_at(struct json_object *from, const char *path)
{
    struct json_object *o = at(from, path);
    cr_assert(json_object_is_type(o, json_type_int), "%s", path);
    return json_object_get_int64(o);
}

Test(render, json_says_the_same)
{
    struct topo *t = machine_topo(&machine_uneven);
    char *json = render(topo_json, t, 6);
    struct json_object *root = json_tokener_parse(json);
    cr_assert_not_null(root);
    cr_assert_eq(json_object_array_length(at(root, "/machine/cores")), 16);
    cr_assert_eq(json_object_array_length(at(root, "/machine/nodes")), 4);
    cr_assert_eq(json_object_array_length(at(root, "/placement/shards")), 6);
    cr_assert_eq(number_at(root, "/machine/nodes/1/memory_bytes"), INT64_C(32) << 30);
    cr_assert_eq(number_at(root, "/machine/cores/9/pus/1/os_index"), 25);
    cr_assert_eq(number_at(root, "/machine/nics/0/speed_mbit"), 25000);
    cr_assert_str_eq(json_object_get_string(at(root, "/machine/blocks/1/name")), "nvme1n1");
    cr_assert_null(at(root, "/machine/blocks/2/node"), "near no node is null");
    cr_assert_eq(number_at(root, "/placement/shards/4/core"), 12);
    cr_assert_eq(number_at(root, "/placement/shards/4/group"), 2);
    cr_assert_eq(number_at(root, "/placement/shards/4/memory_bytes"), INT64_C(256) << 20);
    cr_assert_eq(number_at(root, "/placement/shards/4/near_blocks/0"), 1);
    json_object_put(root);
    free(json);
    topo_destroy(t);
}

Test(render, text_is_exact)
{
    static const struct machine_node nodes[] = {
        {.package = 0, .cores = 2, .memory_gib = 32, .nic = "eth0"},
        {.package = 1, .cores = 2, .memory_gib = 0, .nvme = "nvme0n1"},
    };
    static const char want[] =
        "machine:   2 packages, 2 NUMA nodes, 4 cores (3 allowed), 8 PUs, 32 GiB\n"
        "caches:    L3 32 MiB x2\n"
        "placement: 5 shards on 3 cores, 1 NUMA node, 1.2 GiB\n"
        "\n"
        "package 0\n"
        "  NUMA node 0: 32 GiB, 5 shards use 1.2 GiB\n"
        "    L3 0: 32 MiB\n"
        "      core 0   PU [0] 4        shards 0-1: 256 MiB each on node 0\n"
        "      core 1   PU [1] 5        shard 2: 256 MiB on node 0\n"
        "    NIC   eth0         25 Gb/s, 0000:0a:00.0\n"
        "package 1\n"
        "  NUMA node 1: no memory: uses node 0\n"
        "    L3 1: 32 MiB\n"
        "      core 2   PU [2] 6        shards 3-4: 256 MiB each on node 0\n"
        "      core 3   PU (3) (7)      not allowed\n"
        "    NVMe  nvme0n1      1.7 TiB\n"
        "\n"
        "[0] a shard is pinned here   (0) not allowed\n";
    struct topo *t = machine_topo(&(struct machine){.smt = 2, .nodes = nodes, .n_nodes = 2});
    cr_assert_eq(topo_restrict(t, "0-2,4-6"), 0);
    char *text = render(topo_text, t, 5);
    cr_assert_str_eq(text, want, "%s", text);
    free(text);
    topo_destroy(t);
}

/* Every device, node and core appears once whatever the shape. */
Test(render, text_of_odd_machines)
{
    for (size_t i = 0; i < ARRAY_LEN(descs); i++) {
        struct topo *t = NULL;
        cr_assert_eq(topo_from_synthetic(descs[i], &t), 0);
        char *text = render(topo_text, t, 0);
        cr_assert_eq(count(text, "      core "), t->n_cores, "%s", text);
        for (size_t n = 0; n < t->n_nodes; n++) {
            char name[32];
            snprintf(name, sizeof(name), "NUMA node %u", t->nodes[n].os_index);
            cr_assert_geq(count(text, name), 1, "%s", text);
        }
        free(text);
        topo_destroy(t);
    }
}

Test(render, a_full_device_is_an_error)
{
    static const render_fn renders[] = {topo_text, topo_json, topo_svg};
    struct topo *t = NULL;
    struct placement p;
    cr_assert_eq(topo_from_synthetic("pack:2 core:64 pu:2", &t), 0);
    cr_assert_eq(placement_compute(t, &(struct placement_settings){0}, &p), 0);
    for (size_t i = 0; i < ARRAY_LEN(renders); i++) {
        FILE *full = fopen("/dev/full", "we");
        cr_assert_not_null(full);
        cr_assert_eq(renders[i](t, &p, full), -EIO);
        fclose(full);
    }
    placement_fini(&p);
    topo_destroy(t);
}
