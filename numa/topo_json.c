#include "numa/topo_render.h"

#include <errno.h>
#include <json-c/json.h>

#include "core/base/bytes.h"
#include "numa/topo_fmt.h"

/* json-c aborts nothing and returns NULL when memory is out; adding NULL means "null". A document
 * that silently says null where memory ran out would lie, so each object goes through here. */
struct doc {
    bool out_of_memory;
};

static struct json_object *keep(struct doc *doc, struct json_object *obj)
{
    doc->out_of_memory |= obj == NULL;
    return obj;
}

static void put(struct doc *doc, struct json_object *to, const char *key, struct json_object *value)
{
    if (to == NULL || json_object_object_add(to, key, value) < 0) {
        doc->out_of_memory = true;
        json_object_put(value);
    }
}

static void push(struct doc *doc, struct json_object *to, struct json_object *value)
{
    if (to == NULL || json_object_array_add(to, value) < 0) {
        doc->out_of_memory = true;
        json_object_put(value);
    }
}

static void put_uint(struct doc *doc, struct json_object *to, const char *key, uint64_t v)
{
    put(doc, to, key, keep(doc, json_object_new_uint64(v)));
}

/* Zero means "not known" for these. */
static void put_known(struct doc *doc, struct json_object *to, const char *key, uint64_t v)
{
    put(doc, to, key, v > 0 ? keep(doc, json_object_new_uint64(v)) : NULL);
}

/* Negative means "none" for these. */
static void put_index(struct doc *doc, struct json_object *to, const char *key, int v)
{
    put(doc, to, key, v >= 0 ? keep(doc, json_object_new_int(v)) : NULL);
}

static void put_bool(struct doc *doc, struct json_object *to, const char *key, bool v)
{
    put(doc, to, key, keep(doc, json_object_new_boolean(v)));
}

static void put_text(struct doc *doc, struct json_object *to, const char *key, const char *v)
{
    put(doc, to, key, v[0] != '\0' ? keep(doc, json_object_new_string(v)) : NULL);
}

static struct json_object *new_object(struct doc *doc)
{
    return keep(doc, json_object_new_object());
}

static struct json_object *put_array(struct doc *doc, struct json_object *to, const char *key)
{
    struct json_object *array = keep(doc, json_object_new_array());
    put(doc, to, key, array);
    return array;
}

static void put_nodes(struct doc *doc, struct json_object *machine, const struct topo *topo)
{
    struct json_object *nodes = put_array(doc, machine, "nodes");
    for (size_t i = 0; i < topo->n_nodes; i++) {
        const struct topo_node *n = &topo->nodes[i];
        struct json_object *o = new_object(doc);
        put_uint(doc, o, "os_index", n->os_index);
        put_index(doc, o, "package", n->package);
        put_uint(doc, o, "memory_bytes", n->memory_bytes);
        put_bool(doc, o, "allowed", n->allowed);
        if (topo->distances != NULL) {
            struct json_object *distances = put_array(doc, o, "distances");
            for (size_t to = 0; to < topo->n_nodes; to++) {
                uint64_t d = topo->distances[i * topo->n_nodes + to];
                push(doc, distances, d == UINT64_MAX ? NULL : keep(doc, json_object_new_uint64(d)));
            }
        }
        push(doc, nodes, o);
    }
}

static void put_caches(struct doc *doc, struct json_object *machine, const struct topo *topo)
{
    struct json_object *caches = put_array(doc, machine, "caches");
    for (size_t i = 0; i < topo->n_caches; i++) {
        const struct topo_cache *c = &topo->caches[i];
        const char *type = c->type == 'd' ? "data" : c->type == 'i' ? "instruction" : "unified";
        struct json_object *o = new_object(doc);
        put_uint(doc, o, "level", c->level);
        put_text(doc, o, "type", type);
        put_known(doc, o, "size_bytes", c->size_bytes);
        put_uint(doc, o, "count", c->count);
        push(doc, caches, o);
    }
}

static void put_cores(struct doc *doc, struct json_object *machine, const struct topo *topo)
{
    struct json_object *cores = put_array(doc, machine, "cores");
    for (size_t i = 0; i < topo->n_cores; i++) {
        const struct topo_core *c = &topo->cores[i];
        struct json_object *o = new_object(doc);
        put_index(doc, o, "package", c->package);
        put_index(doc, o, "node", c->node);
        put_index(doc, o, "memory_node", c->memory_node);
        put_index(doc, o, "l3", c->l3);
        put_bool(doc, o, "allowed", c->allowed);
        struct json_object *pus = put_array(doc, o, "pus");
        for (size_t p = 0; p < c->n_pus; p++) {
            struct json_object *pu = new_object(doc);
            put_uint(doc, pu, "os_index", c->pus[p].os_index);
            put_bool(doc, pu, "allowed", c->pus[p].allowed);
            push(doc, pus, pu);
        }
        push(doc, cores, o);
    }
}

static void put_devices(struct doc *doc, struct json_object *machine, const struct topo *topo)
{
    struct json_object *nics = put_array(doc, machine, "nics");
    for (size_t i = 0; i < topo->n_nics; i++) {
        const struct topo_nic *n = &topo->nics[i];
        struct json_object *o = new_object(doc);
        put_text(doc, o, "name", n->name);
        put_text(doc, o, "pci", n->pci);
        put_known(doc, o, "speed_mbit", n->speed_mbit);
        put_index(doc, o, "node", n->near.node);
        put_index(doc, o, "package", n->near.package);
        push(doc, nics, o);
    }
    struct json_object *blocks = put_array(doc, machine, "blocks");
    for (size_t i = 0; i < topo->n_blocks; i++) {
        const struct topo_block *b = &topo->blocks[i];
        struct json_object *o = new_object(doc);
        put_text(doc, o, "name", b->name);
        put_known(doc, o, "size_bytes", b->size_bytes);
        put(doc, o, "rotational",
            b->rotational < 0 ? NULL : keep(doc, json_object_new_boolean(b->rotational)));
        put_bool(doc, o, "nvme", b->nvme);
        put_index(doc, o, "node", b->near.node);
        put_index(doc, o, "package", b->near.package);
        push(doc, blocks, o);
    }
}

static struct json_object *machine_object(struct doc *doc, const struct topo *topo)
{
    struct json_object *machine = new_object(doc);
    put_bool(doc, machine, "this_machine", topo->this_machine);
    put_known(doc, machine, "memory_limit_bytes", topo->memory_limit_bytes);
    struct json_object *packages = put_array(doc, machine, "packages");
    for (size_t i = 0; i < topo->n_packages; i++) {
        struct json_object *o = new_object(doc);
        put_uint(doc, o, "os_index", topo->packages[i].os_index);
        push(doc, packages, o);
    }
    put_nodes(doc, machine, topo);
    put_caches(doc, machine, topo);
    put_cores(doc, machine, topo);
    put_devices(doc, machine, topo);
    return machine;
}

static void put_near(struct doc *doc, struct json_object *to, const char *key, const unsigned *near,
                     size_t n)
{
    struct json_object *array = put_array(doc, to, key);
    for (size_t i = 0; i < n; i++)
        push(doc, array, keep(doc, json_object_new_uint64(near[i])));
}

static struct json_object *placement_object(struct doc *doc, const struct placement *placement)
{
    struct json_object *o = new_object(doc);
    put_uint(doc, o, "memory_bytes", placement->memory_bytes);
    put_uint(doc, o, "groups", placement->n_groups);
    struct json_object *shards = put_array(doc, o, "shards");
    for (size_t i = 0; i < placement->n_shards; i++) {
        const struct placement_shard *s = &placement->shards[i];
        struct json_object *shard = new_object(doc);
        put_uint(doc, shard, "index", s->index);
        put_index(doc, shard, "core", s->core);
        put_uint(doc, shard, "pu_os_index", s->pu_os_index);
        put_bool(doc, shard, "shared", s->shared);
        put_index(doc, shard, "node", s->node);
        put_uint(doc, shard, "node_os_index", s->node_os_index);
        put_uint(doc, shard, "group", s->group);
        put_uint(doc, shard, "memory_bytes", s->memory_bytes);
        put_bool(doc, shard, "huge_pages", s->huge_pages);
        put_near(doc, shard, "near_nics", s->near_nics, s->n_near_nics);
        put_near(doc, shard, "near_blocks", s->near_blocks, s->n_near_blocks);
        push(doc, shards, shard);
    }
    return o;
}

int topo_json(const struct topo *topo, const struct placement *placement, FILE *out)
{
    struct doc doc = {0};
    struct json_object *root = new_object(&doc);
    put(&doc, root, "machine", machine_object(&doc, topo));
    put(&doc, root, "placement", placement_object(&doc, placement));
    const char *text = NULL;
    if (!doc.out_of_memory)
        text =
            json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                     JSON_C_TO_STRING_NOSLASHESCAPE);
    int rc = text == NULL ? -ENOMEM : 0;
    if (text != NULL)
        fprintf(out, "%s\n", text);
    json_object_put(root);
    return rc < 0 ? rc : ferror(out) ? -EIO : 0;
}
