#include "bench/json_doc.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>

static struct json_object *keep(struct json_doc *doc, struct json_object *obj)
{
    doc->out_of_memory |= obj == NULL;
    return obj;
}

struct json_object *json_doc_object(struct json_doc *doc)
{
    return keep(doc, json_object_new_object());
}

struct json_object *json_doc_array(struct json_doc *doc)
{
    return keep(doc, json_object_new_array());
}

void json_doc_put(struct json_doc *doc, struct json_object *to, const char *key,
                  struct json_object *value)
{
    if (to == NULL || value == NULL || json_object_object_add(to, key, value) < 0) {
        doc->out_of_memory = true;
        json_object_put(value);
    }
}

void json_doc_push(struct json_doc *doc, struct json_object *to, struct json_object *value)
{
    if (to == NULL || value == NULL || json_object_array_add(to, value) < 0) {
        doc->out_of_memory = true;
        json_object_put(value);
    }
}

void json_doc_put_uint(struct json_doc *doc, struct json_object *to, const char *key, uint64_t v)
{
    json_doc_put(doc, to, key, json_object_new_uint64(v));
}

void json_doc_put_bool(struct json_doc *doc, struct json_object *to, const char *key, bool v)
{
    json_doc_put(doc, to, key, json_object_new_boolean(v));
}

void json_doc_put_text(struct json_doc *doc, struct json_object *to, const char *key, const char *v)
{
    json_doc_put(doc, to, key, json_object_new_string(v));
}

void json_doc_put_double(struct json_doc *doc, struct json_object *to, const char *key, double v)
{
    char text[32];
    if (!isfinite(v))
        return;
    snprintf(text, sizeof(text), "%.9g", v);
    json_doc_put(doc, to, key, json_object_new_double_s(v, text));
}

struct json_object *json_doc_finish(struct json_doc *doc, struct json_object *root)
{
    if (!doc->out_of_memory)
        return root;
    json_object_put(root);
    return NULL;
}
