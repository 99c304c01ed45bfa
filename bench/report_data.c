#include "bench/report_data.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"

/* NULL and, in *ret_why, what is wrong with it, when the text is not one JSON value. */
static struct json_object *parse(const char *text, size_t len, const char **ret_why)
{
    struct json_tokener *tokener = json_tokener_new();
    *ret_why = "out of memory";
    if (tokener == NULL)
        return NULL;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *root = json_tokener_parse_ex(tokener, text, (int)len);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    /* A bare null or number could go on, so that it counts as cut off too. */
    *ret_why =
        error == json_tokener_continue ? "it ends too early" : json_tokener_error_desc(error);
    if (root != NULL && json_tokener_get_parse_end(tokener) < len) {
        *ret_why = "more than one value";
        json_object_put(root);
        root = NULL;
    }
    json_tokener_free(tokener);
    return root;
}

int report_file_parse(const char *name, const char *text, size_t len, struct report_file *ret,
                      char *reason, size_t reason_size)
{
    const char *why;
    /* Strict parsing takes nothing after the value, not even the line's end. */
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
        len--;
    if (len > REPORT_FILE_BYTES_MAX) {
        snprintf(reason, reason_size, "%s: larger than %u MiB", name, REPORT_FILE_BYTES_MAX >> 20);
        return -EFBIG;
    }
    struct report_file file = {.name = name, .root = parse(text, len, &why)};
    if (file.root == NULL) {
        snprintf(reason, reason_size, "%s: not JSON: %s", name, why);
        return -EINVAL;
    }
    struct report_node root = report_node_root(&file, 0);
    struct report_node format = report_node_member(&root, "format");
    const char *is = report_node_text(&format);
    if (is == NULL || strcmp(is, REPORT_FORMAT) != 0) {
        snprintf(reason, reason_size, "%s: not a result of penstock bench (format %.40s, not %s)",
                 name, is != NULL ? is : "not stated", REPORT_FORMAT);
        report_file_close(&file);
        return -EINVAL;
    }
    *ret = file;
    return 0;
}

/* The whole of an open file on the heap. */
static int read_all(int fd, char **ret_text, size_t *ret_len)
{
    size_t len = 0, size = 0;
    char *text = NULL;
    for (;;) {
        if (len == size) {
            char *grown = realloc(text, size = MAX(size * 2, 65536u));
            if (grown == NULL)
                break;
            text = grown;
        }
        ssize_t got = read(fd, text + len, size - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            break;
        len += (size_t)got;
        if (got == 0) {
            *ret_text = text;
            *ret_len = len;
            return 0;
        }
        errno = EFBIG;
        if (len > REPORT_FILE_BYTES_MAX)
            break;
    }
    int rc = -errno;
    free(text);
    return rc;
}

int report_file_load(const char *name, struct report_file *ret, char *reason, size_t reason_size)
{
    char *text = NULL;
    size_t len = 0;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : read_all(fd, &text, &len);
    if (fd >= 0)
        close(fd);
    if (rc < 0) {
        snprintf(reason, reason_size, "%s: %s", name, strerror(-rc));
        return rc;
    }
    rc = report_file_parse(name, text, len, ret, reason, reason_size);
    free(text);
    return rc;
}

void report_file_close(struct report_file *file)
{
    json_object_put(file->root);
    file->root = NULL;
}

struct report_node report_node_root(const struct report_file *file, unsigned index)
{
    return (struct report_node){.json = file->root, .file = index};
}

static bool is_identifier(const char *name)
{
    static const char allowed[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    return name[0] > '9' && name[strspn(name, allowed)] == '\0';
}

/* Write the path of a member; false when it does not fit. */
static bool member_path(const struct report_node *at, const char *name, char *path)
{
    int len;
    if (is_identifier(name)) {
        len = snprintf(path, REPORT_PATH_MAX, "%s%s%s", at->path, at->path[0] ? "." : "", name);
        return len < REPORT_PATH_MAX;
    }
    struct json_object *quoted = json_object_new_string(name);
    if (quoted == NULL)
        return false;
    len = snprintf(path, REPORT_PATH_MAX, "%s[%s]", at->path,
                   json_object_to_json_string_ext(quoted, JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(quoted);
    return len < REPORT_PATH_MAX;
}

struct report_node report_node_member(const struct report_node *at, const char *name)
{
    struct report_node node = {.file = at->file};
    struct json_object *json;
    if (json_object_is_type(at->json, json_type_object) &&
        json_object_object_get_ex(at->json, name, &json) && member_path(at, name, node.path))
        node.json = json;
    return node;
}

struct report_node report_node_item(const struct report_node *at, size_t index)
{
    struct report_node node = {.file = at->file};
    if (index < report_node_count(at) &&
        snprintf(node.path, sizeof(node.path), "%s[%zu]", at->path, index) < REPORT_PATH_MAX)
        node.json = json_object_array_get_idx(at->json, index);
    return node;
}

struct report_node report_node_find(const struct report_node *at, const char *names)
{
    struct report_node node = *at;
    while (*names != '\0') {
        char name[64];
        size_t len = strcspn(names, "/");
        snprintf(name, sizeof(name), "%.*s", (int)len, names);
        node = report_node_member(&node, name);
        names += len + (names[len] == '/');
    }
    return node;
}

size_t report_node_count(const struct report_node *at)
{
    return json_object_is_type(at->json, json_type_array) ? json_object_array_length(at->json) : 0;
}

const char *report_node_text(const struct report_node *at)
{
    return json_object_is_type(at->json, json_type_string) ? json_object_get_string(at->json)
                                                           : NULL;
}

/* An integer beyond 64 bits is read as the nearest one there is: that is not what was measured. */
static bool is_clamped(struct json_object *json)
{
    return json_object_is_type(json, json_type_int) &&
           (json_object_get_uint64(json) == UINT64_MAX || json_object_get_int64(json) == INT64_MIN);
}

bool report_node_number(const struct report_node *at, double *ret_value)
{
    enum json_type type = json_object_get_type(at->json);
    if (type != json_type_int && type != json_type_double)
        return false;
    double value = json_object_get_double(at->json);
    if (!isfinite(value) || is_clamped(at->json))
        return false;
    *ret_value = value;
    return true;
}

const char *report_node_raw(const struct report_node *at)
{
    double value;
    /* json-c keeps the text of a parsed double and writes it again. */
    return report_node_number(at, &value)
               ? json_object_to_json_string_ext(at->json, JSON_C_TO_STRING_PLAIN)
               : NULL;
}

bool report_node_bool(const struct report_node *at, bool *ret_value)
{
    if (!json_object_is_type(at->json, json_type_boolean))
        return false;
    *ret_value = json_object_get_boolean(at->json);
    return true;
}

size_t report_node_each(const struct report_node *at, size_t max, void *arg,
                        report_member_fn on_member)
{
    size_t n = 0;
    if (!json_object_is_type(at->json, json_type_object))
        return 0;
    struct json_object_iterator it = json_object_iter_begin(at->json);
    struct json_object_iterator end = json_object_iter_end(at->json);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        const char *name = json_object_iter_peek_name(&it);
        struct report_node member = report_node_member(at, name);
        if (n++ < max)
            on_member(arg, &member, name);
    }
    return n;
}
