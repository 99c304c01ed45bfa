#include "net/wire/schema.h"

#include <stddef.h>

#include "core/base/bytes.h"
#include "net/wire/messages.h"

#define WIRE_QUOTE_(a) #a
#define WIRE_QUOTE(a) WIRE_QUOTE_(a)

/* Attributes: what each sets in a struct wire_field. */
#define SINCE(v) .since = (v), .until = WIRE_NEWEST
#define VERSIONS(first, last) .since = (first), .until = (last)
#define NULLABLE(v) .nullable = true, .null_since = (v), .null_until = WIRE_NEWEST
#define NULLABLE_VERSIONS(first, last) .nullable = true, .null_since = (first), .null_until = (last)
#define TAGGED(number, v) .tagged = true, .tag = (number), .tagged_since = (v)
#define DEFAULT(v) .value = (v)
#define DEFAULT_NULL .null_default = true

/* clang-format off */
#define MEMBER(name_) .name = #name_, .offset = offsetof(struct SELF, name_)
#define COUNT(name_) .array = true, .count_offset = offsetof(struct SELF, name_##_n)

#define BEGIN() static const struct wire_field WIRE_PASTE(SELF, _fields)[] = {
#define END()                                                                                      \
    };                                                                                             \
    const struct wire_schema WIRE_PASTE(SELF, _schema) = {                                         \
        .name = WIRE_QUOTE(SELF),                                                                  \
        .fields = WIRE_PASTE(SELF, _fields),                                                       \
        .fields_n = ARRAY_LEN(WIRE_PASTE(SELF, _fields)),                                          \
        .size_bytes = sizeof(struct SELF),                                                         \
    };
#define FIELD(type_, name_, ...) {MEMBER(name_), .type = WIRE_##type_, __VA_ARGS__},
#define ARRAY(type_, name_, ...) {MEMBER(name_), COUNT(name_), .type = WIRE_##type_, __VA_ARGS__},
#define STRUCT(struct_, name_, ...)                                                                \
    {MEMBER(name_), .type = WIRE_STRUCT, .sub = &struct_##_schema, __VA_ARGS__},
#define STRUCT_PTR(struct_, name_, ...)                                                            \
    {MEMBER(name_), .type = WIRE_STRUCT_PTR, .sub = &struct_##_schema, __VA_ARGS__},
#define STRUCT_ARRAY(struct_, name_, ...)                                                          \
    {MEMBER(name_), COUNT(name_), .type = WIRE_STRUCT, .sub = &struct_##_schema, __VA_ARGS__},
#define API(...)
#include "net/wire/apis.def"

#define BEGIN()
#define END()
#define FIELD(...)
#define ARRAY(...)
#define STRUCT(...)
#define STRUCT_PTR(...)
#define STRUCT_ARRAY(...)
#define API(key_, prefix_, name_, min_, max_, flexible_, response_flexible_)                       \
    {                                                                                              \
        .key = key_,                                                                               \
        .name = name_,                                                                             \
        .min = min_,                                                                               \
        .max = max_,                                                                               \
        .flexible_min = flexible_,                                                                 \
        .response_flexible_min = response_flexible_,                                               \
        .request = &prefix_##_request_schema,                                                      \
        .response = &prefix_##_response_schema,                                                    \
    },
const struct wire_api wire_apis[] = {
#include "net/wire/apis.def"
};
/* clang-format on */

const unsigned wire_apis_count = ARRAY_LEN(wire_apis);

const struct wire_api *wire_api_find(int16_t key)
{
    unsigned lo = 0, hi = ARRAY_LEN(wire_apis);
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (wire_apis[mid].key == key)
            return &wire_apis[mid];
        if (wire_apis[mid].key < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const struct wire_type_info wire_types[] = {
    [WIRE_BOOL] = {1, sizeof(bool)},
    [WIRE_INT8] = {1, 1},
    [WIRE_INT16] = {2, 2},
    [WIRE_UINT16] = {2, 2},
    [WIRE_INT32] = {4, 4},
    [WIRE_UINT32] = {4, 4},
    [WIRE_INT64] = {8, 8},
    [WIRE_FLOAT64] = {8, sizeof(double)},
    [WIRE_UUID] = {16, sizeof(struct wire_uuid)},
    [WIRE_STRING] = {0, sizeof(struct wire_str)},
    [WIRE_BYTES] = {0, sizeof(struct wire_bytes)},
    [WIRE_RECORDS] = {0, sizeof(struct wire_records)},
    [WIRE_STRUCT] = {0, 0},
    [WIRE_STRUCT_PTR] = {0, sizeof(void *)},
};
