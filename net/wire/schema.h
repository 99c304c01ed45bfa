/* schema.h: the table behind a message struct: one wire_field a member, in wire order.
 * The tables are made by tables.c from the api_*.def files; decode.c and encode.c walk them.
 * Threads: constant data. */
#ifndef NET_WIRE_SCHEMA_H
#define NET_WIRE_SCHEMA_H

#include "net/wire/wire.h"

enum wire_type {
    WIRE_BOOL,
    WIRE_INT8,
    WIRE_INT16,
    WIRE_UINT16,
    WIRE_INT32,
    WIRE_UINT32,
    WIRE_INT64,
    WIRE_FLOAT64,
    WIRE_UUID,
    WIRE_STRING,
    WIRE_BYTES,
    WIRE_RECORDS,
    WIRE_STRUCT,     /* by value */
    WIRE_STRUCT_PTR, /* nullable, with a presence byte on the wire */
};

#define WIRE_TAGS_MAX 16 /* tagged fields of one struct */

struct wire_field {
    const char *name;
    const struct wire_schema *sub; /* of a struct, or of a struct array's elements */
    int64_t value;                 /* default of a bool or number */
    uint16_t offset;               /* of the member */
    uint16_t count_offset;         /* of an array's count member */
    int16_t since, until;          /* versions that have the field */
    int16_t null_since, null_until;
    int16_t tagged_since;
    uint8_t type; /* of an array: the elements' */
    uint8_t tag;
    bool array, nullable, tagged, null_default;
};

struct wire_schema {
    const char *name; /* of the C struct */
    const struct wire_field *fields;
    uint16_t fields_n;
    uint16_t size_bytes; /* of the C struct */
};

static inline bool wire_field_present(const struct wire_field *f, int version)
{
    return version >= f->since && version <= f->until;
}

static inline bool wire_field_nullable_at(const struct wire_field *f, int version)
{
    return f->nullable && version >= f->null_since && version <= f->null_until;
}

static inline bool wire_field_tagged_at(const struct wire_field *f, int version)
{
    return f->tagged && version >= f->tagged_since;
}

struct wire_type_info {
    uint8_t wire_bytes; /* 0: has a length of its own */
    uint8_t mem_bytes;  /* of one element; 0: the sub-schema says */
};
extern const struct wire_type_info wire_types[];

static inline uint32_t wire_field_mem_bytes(const struct wire_field *f)
{
    return f->type == WIRE_STRUCT ? f->sub->size_bytes : wire_types[f->type].mem_bytes;
}

#endif
