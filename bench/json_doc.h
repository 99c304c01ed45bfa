/* json_doc.h: building a json-c document without checking each step for memory.
 *
 * Happy path: build with json_doc_*; json_doc_finish() hands the root over at the end.
 * Failure: json-c returns NULL when memory is out, and a NULL member reads as "null": a document
 *   that says null where memory ran out would lie. So each step notes the failure, the steps after
 *   it do nothing, and json_doc_finish() then frees the root and returns NULL.
 * Ownership: values put or pushed belong to their new parent, also when that fails.
 * Threads: one owner. */
#ifndef BENCH_JSON_DOC_H
#define BENCH_JSON_DOC_H

#include <stdbool.h>
#include <stdint.h>

struct json_object;

struct json_doc { /* zero is empty */
    bool out_of_memory;
};

struct json_object *json_doc_object(struct json_doc *doc);
struct json_object *json_doc_array(struct json_doc *doc);
void json_doc_put(struct json_doc *doc, struct json_object *to, const char *key,
                  struct json_object *value);
void json_doc_push(struct json_doc *doc, struct json_object *to, struct json_object *value);
void json_doc_put_uint(struct json_doc *doc, struct json_object *to, const char *key, uint64_t v);
void json_doc_put_bool(struct json_doc *doc, struct json_object *to, const char *key, bool v);
void json_doc_put_text(struct json_doc *doc, struct json_object *to, const char *key,
                       const char *v);
/* Nine significant digits: more than any of our figures is worth, and short to read. What is no
 * number (0 / 0) is left out. */
void json_doc_put_double(struct json_doc *doc, struct json_object *to, const char *key, double v);
/* The root, now the caller's; NULL when memory ran out anywhere. */
struct json_object *json_doc_finish(struct json_doc *doc, struct json_object *root);

#endif
