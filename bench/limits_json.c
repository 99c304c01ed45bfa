#include <json-c/json.h>

#include "bench/json_doc.h"
#include "bench/limits_private.h"
#include "core/base/bytes.h"

static void traits_put(struct json_doc *doc, struct json_object *o, const struct limits_figure *f)
{
    const struct limits_traits *t = &limits_traits[f->kind];
    json_doc_put_uint(doc, o, "block_bytes", f->block_bytes);
    json_doc_put_uint(doc, o, "depth", t->depth);
    if (t->flush_name != NULL)
        json_doc_put_text(doc, o, "flush", t->flush_name);
}

static struct json_object *figures_array(struct json_doc *doc, const struct limits *l, bool write)
{
    struct json_object *array = json_doc_array(doc);
    for (unsigned i = 0; i < l->figures_n; i++) {
        const struct limits_figure *f = &l->figures[i];
        if (limits_traits[f->kind].write != write)
            continue;
        struct json_object *o = json_doc_object(doc);
        traits_put(doc, o, f);
        json_doc_put_double(doc, o, "mib_s", f->mib_s);
        if (f->p50_us > 0)
            json_doc_put_double(doc, o, "p50_us", f->p50_us);
        json_doc_push(doc, array, o);
    }
    return array;
}

static struct json_object *device_object(struct json_doc *doc, const struct limits *l)
{
    const struct device *d = &l->device;
    struct json_object *o = json_doc_object(doc);
    json_doc_put_text(doc, o, "path", l->dir);
    if (d->fs_type[0] != '?')
        json_doc_put_text(doc, o, "fs", d->fs_type);
    json_doc_put_bool(doc, o, "direct", l->direct);
    json_doc_put_bool(doc, o, "copy_on_write", d->copy_on_write);
    if (d->name[0] != '\0') { /* else there is no block device to have these */
        json_doc_put_text(doc, o, "name", d->name);
        json_doc_put_bool(doc, o, "write_cache", d->write_cache);
        json_doc_put_bool(doc, o, "fua", d->fua);
    }
    json_doc_put_uint(doc, o, "file_bytes", l->file_bytes);
    json_doc_put_text(doc, o, "extents", "overwritten");
    json_doc_put(doc, o, "write", figures_array(doc, l, true));
    json_doc_put(doc, o, "read", figures_array(doc, l, false));
    return o;
}

static struct json_object *tcp_array(struct json_doc *doc, const struct limits *l)
{
    struct json_object *array = json_doc_array(doc);
    for (unsigned i = 0; i < l->tcp_n; i++) {
        struct json_object *o = json_doc_object(doc);
        json_doc_put_uint(doc, o, "message_bytes", l->tcp[i].message_bytes);
        json_doc_put_double(doc, o, "mib_s", l->tcp[i].mib_s);
        json_doc_put_double(doc, o, "cpu_s_per_gib", l->tcp[i].cpu_s_per_gib);
        json_doc_push(doc, array, o);
    }
    return array;
}

struct json_object *limits_json(const struct limits *limits)
{
    struct json_doc doc = {0};
    struct json_object *o = json_doc_object(&doc);
    if (limits->device_measured)
        json_doc_put(&doc, o, "device", device_object(&doc, limits));
    if (limits->tcp_n > 0)
        json_doc_put(&doc, o, "tcp", tcp_array(&doc, limits));
    return json_doc_finish(&doc, o);
}

static const struct limits_figure *figure_best(const struct limits *l, unsigned kinds)
{
    const struct limits_figure *best = NULL;
    for (unsigned i = 0; i < l->figures_n; i++) {
        const struct limits_figure *f = &l->figures[i];
        if ((kinds & 1u << f->kind) != 0 && (best == NULL || f->mib_s > best->mib_s))
            best = f;
    }
    return best;
}

static const struct limits_tcp *tcp_best(const struct limits *l)
{
    const struct limits_tcp *best = NULL;
    for (unsigned i = 0; i < l->tcp_n; i++)
        if (best == NULL || l->tcp[i].mib_s > best->mib_s)
            best = &l->tcp[i];
    return best;
}

static struct json_object *share_object(struct json_doc *doc, const char *name, double mib_s,
                                        double limit_mib_s)
{
    struct json_object *o = json_doc_object(doc);
    json_doc_put_text(doc, o, "name", name);
    json_doc_put_double(doc, o, "mib_s", mib_s);
    json_doc_put_double(doc, o, "limit_mib_s", limit_mib_s);
    json_doc_put_double(doc, o, "share", mib_s / limit_mib_s);
    return o;
}

static void device_share_push(struct json_doc *doc, struct json_object *array,
                              const struct limits *l, const char *name, double mib_s,
                              unsigned kinds)
{
    const struct limits_figure *best = figure_best(l, kinds);
    if (best == NULL || mib_s <= 0)
        return;
    struct json_object *o = share_object(doc, name, mib_s, best->mib_s);
    traits_put(doc, o, best);
    json_doc_push(doc, array, o);
}

static void tcp_share_push(struct json_doc *doc, struct json_object *array, const struct limits *l,
                           const char *name, double mib_s)
{
    const struct limits_tcp *best = tcp_best(l);
    if (best == NULL || mib_s <= 0)
        return;
    struct json_object *o = share_object(doc, name, mib_s, best->mib_s);
    json_doc_put_uint(doc, o, "message_bytes", best->message_bytes);
    json_doc_push(doc, array, o);
}

struct json_object *limits_share_json(const struct limits *limits, const struct limits_run *run)
{
    enum {
        SYNCED = 1 << LIMITS_WRITE_GROUP | 1 << LIMITS_WRITE_FLUSH | 1 << LIMITS_WRITE_DSYNC,
        WRITTEN = 1 << LIMITS_WRITE_16MIB,
        READ = 1 << LIMITS_READ,
    };
    struct json_doc doc = {0};
    struct json_object *array = json_doc_array(&doc);
    if (run->durable)
        device_share_push(&doc, array, limits, "acknowledged bytes against synced device writes",
                          run->acked_mib_s, SYNCED);
    device_share_push(&doc, array, limits, "acknowledged bytes against device writes",
                      run->acked_mib_s, WRITTEN);
    device_share_push(&doc, array, limits, "consumed bytes against device reads",
                      run->consumed_mib_s, READ);
    tcp_share_push(&doc, array, limits, "acknowledged bytes against loopback TCP",
                   run->acked_mib_s);
    tcp_share_push(&doc, array, limits, "consumed bytes against loopback TCP", run->consumed_mib_s);
    return json_doc_finish(&doc, array);
}
