#include "net/wire/schema.h"

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "net/wire/cursor.h"

struct decoder {
    struct cursor c;
    struct arena *arena;
    int version;
    bool flexible;
};

static int decode_struct(struct decoder *d, const struct wire_schema *s, uint8_t *out);

/* Members are reached by offset, so pointers go through memcpy to stay clear of aliasing rules. */
static void store_ptr(uint8_t *at, const void *p)
{
    memcpy(at, &p, sizeof(p));
}

static void store_count(const struct wire_field *f, uint8_t *base, int32_t n)
{
    memcpy(base + f->count_offset, &n, sizeof(n));
}

/* An int64 as the member's own type. */
static void store_number(enum wire_type type, int64_t v, uint8_t *at)
{
    double real = (double)v;
    uint8_t narrow = (uint8_t)v;
    uint16_t half = (uint16_t)v;
    uint32_t word = (uint32_t)v;
    switch (type) {
    case WIRE_BOOL: {
        bool truth = v != 0;
        memcpy(at, &truth, sizeof(truth));
        return;
    }
    case WIRE_INT8:
        memcpy(at, &narrow, sizeof(narrow));
        return;
    case WIRE_INT16:
    case WIRE_UINT16:
        memcpy(at, &half, sizeof(half));
        return;
    case WIRE_INT32:
    case WIRE_UINT32:
        memcpy(at, &word, sizeof(word));
        return;
    case WIRE_FLOAT64:
        memcpy(at, &real, sizeof(real));
        return;
    default:
        memcpy(at, &v, sizeof(v));
        return;
    }
}

static void store_default(const struct wire_field *f, uint8_t *base)
{
    uint8_t *at = base + f->offset;
    int32_t len = f->null_default ? -1 : 0;
    if (f->array) {
        store_ptr(at, NULL);
        store_count(f, base, len);
        return;
    }
    switch ((enum wire_type)f->type) {
    case WIRE_STRING:
        memcpy(at, &(struct wire_str){len < 0 ? NULL : "", len}, sizeof(struct wire_str));
        return;
    case WIRE_BYTES:
        memcpy(at, &(struct wire_bytes){len < 0 ? NULL : (const uint8_t *)"", len},
               sizeof(struct wire_bytes));
        return;
    case WIRE_RECORDS:
        memcpy(at, &(struct wire_records){.len = -1}, sizeof(struct wire_records));
        return;
    case WIRE_UUID:
        memset(at, 0, sizeof(struct wire_uuid));
        return;
    case WIRE_STRUCT:
        wire_set_defaults(f->sub, at);
        return;
    case WIRE_STRUCT_PTR:
        store_ptr(at, NULL);
        return;
    default:
        store_number(f->type, f->value, at);
        return;
    }
}

void wire_set_defaults(const struct wire_schema *schema, void *msg)
{
    for (unsigned i = 0; i < schema->fields_n; i++)
        store_default(&schema->fields[i], msg);
}

void *wire_new_array(const struct wire_schema *schema, struct arena *arena, int32_t n)
{
    uint8_t *all = n < 0 ? NULL : arena_array(arena, (size_t)n, schema->size_bytes);
    for (int32_t i = 0; all != NULL && i < n; i++)
        wire_set_defaults(schema, all + (size_t)i * schema->size_bytes);
    return all;
}

void *wire_new(const struct wire_schema *schema, struct arena *arena)
{
    return wire_new_array(schema, arena, 1);
}

/* The least an element can take on the wire, for checking counts before memory is spent. */
static uint32_t value_bytes_min(const struct decoder *d, const struct wire_field *f);

static uint32_t struct_bytes_min(const struct decoder *d, const struct wire_schema *s)
{
    uint32_t sum = d->flexible ? 1 : 0;
    for (unsigned i = 0; i < s->fields_n; i++) {
        const struct wire_field *f = &s->fields[i];
        if (!wire_field_present(f, d->version) || wire_field_tagged_at(f, d->version))
            continue;
        sum += f->array ? (d->flexible ? 1 : 4) : value_bytes_min(d, f);
    }
    return sum;
}

static uint32_t value_bytes_min(const struct decoder *d, const struct wire_field *f)
{
    switch ((enum wire_type)f->type) {
    case WIRE_STRING:
        return d->flexible ? 1 : 2;
    case WIRE_BYTES:
    case WIRE_RECORDS:
        return d->flexible ? 1 : 4;
    case WIRE_STRUCT:
        return struct_bytes_min(d, f->sub);
    case WIRE_STRUCT_PTR:
        return 1;
    default:
        return wire_types[f->type].wire_bytes;
    }
}

/* Length of a string, bytes or array. Any negative length means null, as Kafka reads it. */
static int decode_length(struct decoder *d, uint32_t classic_bytes, int64_t *ret)
{
    if (d->flexible) {
        uint32_t v;
        int rc = cursor_uvarint(&d->c, &v);
        if (rc == 0)
            *ret = (int64_t)v - 1;
        return rc;
    }
    const uint8_t *p = cursor_take(&d->c, classic_bytes);
    if (p == NULL)
        return -EPROTO;
    *ret = classic_bytes == 2 ? (int16_t)be_load16(p) : (int32_t)be_load32(p);
    return 0;
}

static int decode_blob(struct decoder *d, enum wire_type type, bool nullable, uint8_t *at)
{
    int64_t len;
    int rc = decode_length(d, type == WIRE_STRING ? 2 : 4, &len);
    if (rc < 0)
        return rc;
    if (len < 0 ? !nullable : len > cursor_left(&d->c))
        return -EPROTO;
    if (type == WIRE_STRING && len > INT16_MAX)
        return -EPROTO;
    const uint8_t *p = len < 0 ? NULL : cursor_take(&d->c, (uint32_t)len);
    int32_t n = len < 0 ? -1 : (int32_t)len;
    if (type == WIRE_STRING)
        memcpy(at, &(struct wire_str){(const char *)p, n}, sizeof(struct wire_str));
    else if (type == WIRE_BYTES)
        memcpy(at, &(struct wire_bytes){p, n}, sizeof(struct wire_bytes));
    else /* the frame was handed in mutable, for exactly this */
        memcpy(at, &(struct wire_records){.data = (uint8_t *)(uintptr_t)p, .len = n},
               sizeof(struct wire_records));
    return 0;
}

static int decode_struct_ptr(struct decoder *d, const struct wire_schema *s, bool nullable,
                             uint8_t *at)
{
    const uint8_t *marker = cursor_take(&d->c, 1);
    if (marker == NULL)
        return -EPROTO;
    if ((int8_t)*marker < 0) {
        store_ptr(at, NULL);
        return nullable ? 0 : -EPROTO;
    }
    uint8_t *sub = arena_alloc(d->arena, s->size_bytes);
    if (sub == NULL)
        return -ENOMEM;
    store_ptr(at, sub);
    return decode_struct(d, s, sub);
}

static int decode_fixed(struct decoder *d, enum wire_type type, uint8_t *at)
{
    const uint8_t *p = cursor_take(&d->c, wire_types[type].wire_bytes);
    if (p == NULL)
        return -EPROTO;
    uint16_t half;
    uint32_t word;
    uint64_t wide;
    switch (type) {
    case WIRE_BOOL:
        store_number(type, *p, at);
        return 0;
    case WIRE_INT8:
        *at = *p;
        return 0;
    case WIRE_INT16:
    case WIRE_UINT16:
        half = be_load16(p);
        memcpy(at, &half, sizeof(half));
        return 0;
    case WIRE_INT32:
    case WIRE_UINT32:
        word = be_load32(p);
        memcpy(at, &word, sizeof(word));
        return 0;
    case WIRE_UUID:
        memcpy(at, p, sizeof(struct wire_uuid));
        return 0;
    default: /* int64, float64 */
        wide = be_load64(p);
        memcpy(at, &wide, sizeof(wide));
        return 0;
    }
}

static int decode_value(struct decoder *d, const struct wire_field *f, bool nullable, uint8_t *at)
{
    switch ((enum wire_type)f->type) {
    case WIRE_STRING:
    case WIRE_BYTES:
    case WIRE_RECORDS:
        return decode_blob(d, f->type, nullable, at);
    case WIRE_STRUCT:
        return decode_struct(d, f->sub, at);
    case WIRE_STRUCT_PTR:
        return decode_struct_ptr(d, f->sub, nullable, at);
    default:
        return decode_fixed(d, f->type, at);
    }
}

static int decode_array(struct decoder *d, const struct wire_field *f, bool nullable, uint8_t *base)
{
    int64_t n;
    int rc = decode_length(d, 4, &n);
    if (rc < 0)
        return rc;
    if (n < 0 && !nullable)
        return -EPROTO;
    if (n > 0 && n > cursor_left(&d->c) / MAX(value_bytes_min(d, f), 1u))
        return -EPROTO;
    uint32_t size = wire_field_mem_bytes(f);
    uint8_t *all = n > 0 ? arena_array(d->arena, (size_t)n, size) : NULL;
    if (n > 0 && all == NULL)
        return -ENOMEM;
    store_ptr(base + f->offset, all);
    store_count(f, base, n < 0 ? -1 : (int32_t)n);
    for (int64_t i = 0; i < n && rc == 0; i++)
        rc = decode_value(d, f, false, all + (size_t)i * size);
    return rc;
}

static int decode_field(struct decoder *d, const struct wire_field *f, uint8_t *base)
{
    bool nullable = wire_field_nullable_at(f, d->version);
    return f->array ? decode_array(d, f, nullable, base)
                    : decode_value(d, f, nullable, base + f->offset);
}

static const struct wire_field *field_of_tag(const struct wire_schema *s, int version, uint32_t tag)
{
    for (unsigned i = 0; i < s->fields_n; i++) {
        const struct wire_field *f = &s->fields[i];
        if (f->tag == tag && wire_field_tagged_at(f, version) && wire_field_present(f, version))
            return f;
    }
    return NULL;
}

static int decode_tag(struct decoder *d, const struct wire_schema *s, uint8_t *base)
{
    uint32_t tag, len;
    if (cursor_uvarint(&d->c, &tag) < 0 || cursor_uvarint(&d->c, &len) < 0)
        return -EPROTO;
    if (len > cursor_left(&d->c))
        return -EPROTO;
    const struct wire_field *f = field_of_tag(s, d->version, tag);
    if (f == NULL) { /* of a newer minor version of the schema */
        d->c.p += len;
        return 0;
    }
    const uint8_t *end = d->c.end;
    d->c.end = d->c.p + len;
    int rc = decode_field(d, f, base);
    if (rc == 0 && d->c.p != d->c.end)
        rc = -EPROTO;
    d->c.end = end;
    return rc;
}

static int decode_struct(struct decoder *d, const struct wire_schema *s, uint8_t *out)
{
    for (const struct wire_field *f = s->fields; f < s->fields + s->fields_n; f++) {
        int rc = 0;
        if (!wire_field_present(f, d->version) || wire_field_tagged_at(f, d->version))
            store_default(f, out);
        else
            rc = decode_field(d, f, out);
        if (rc < 0)
            return rc;
    }
    if (!d->flexible)
        return 0;
    uint32_t tags;
    int rc = cursor_uvarint(&d->c, &tags);
    for (; rc == 0 && tags > 0; tags--)
        rc = decode_tag(d, s, out);
    return rc;
}

int wire_decode_prefix(const struct wire_schema *schema, int version, bool flexible, uint8_t *body,
                       uint32_t len, struct arena *arena, void *ret, uint32_t *ret_used)
{
    struct decoder d = {
        .c = {body, body + len},
        .arena = arena,
        .version = version,
        .flexible = flexible,
    };
    if (len > INT32_MAX)
        return -EPROTO;
    int rc = decode_struct(&d, schema, ret);
    if (rc < 0)
        return rc;
    *ret_used = (uint32_t)(d.c.p - body);
    return 0;
}

int wire_decode(const struct wire_schema *schema, int version, bool flexible, uint8_t *body,
                uint32_t len, struct arena *arena, void *ret)
{
    uint32_t used;
    int rc = wire_decode_prefix(schema, version, flexible, body, len, arena, ret, &used);
    if (rc < 0)
        return rc;
    return used == len ? 0 : -EPROTO;
}
