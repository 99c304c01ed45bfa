#include "net/wire/schema.h"

#include "core/base/assert.h"
#include "net/wire/put.h"

struct encoder {
    struct wire_writer *w;
    int version;
    bool flexible;
};

static void encode_struct(struct encoder *e, const struct wire_schema *s, const uint8_t *base);

static const uint8_t *load_ptr(const uint8_t *at)
{
    const uint8_t *p;
    memcpy(&p, at, sizeof(p));
    return p;
}

static int32_t load_count(const struct wire_field *f, const uint8_t *base)
{
    int32_t n;
    memcpy(&n, base + f->count_offset, sizeof(n));
    return n;
}

/* The members below are read through their own types: what lies at the offset is one. */
static int32_t blob_len(enum wire_type type, const uint8_t *at)
{
    if (type == WIRE_STRING)
        return ((const struct wire_str *)at)->len;
    if (type == WIRE_BYTES)
        return ((const struct wire_bytes *)at)->len;
    return ((const struct wire_records *)at)->len;
}

static bool struct_is_default(const struct wire_schema *s, const uint8_t *base);

static bool number_is_default(const struct wire_field *f, const uint8_t *at)
{
    switch ((enum wire_type)f->type) {
    case WIRE_BOOL:
        return *(const bool *)at == (f->value != 0);
    case WIRE_INT8:
        return *(const int8_t *)at == f->value;
    case WIRE_INT16:
        return *(const int16_t *)at == f->value;
    case WIRE_UINT16:
        return *(const uint16_t *)at == f->value;
    case WIRE_INT32:
        return *(const int32_t *)at == f->value;
    case WIRE_UINT32:
        return *(const uint32_t *)at == f->value;
    case WIRE_INT64:
        return *(const int64_t *)at == f->value;
    default:
        return *(const double *)at == (double)f->value;
    }
}

static bool field_is_default(const struct wire_field *f, const uint8_t *base)
{
    static const struct wire_uuid zero;
    const uint8_t *at = base + f->offset;
    if (f->array)
        return load_count(f, base) == (f->null_default ? -1 : 0);
    switch ((enum wire_type)f->type) {
    case WIRE_STRING:
    case WIRE_BYTES:
        return blob_len(f->type, at) == (f->null_default ? -1 : 0);
    case WIRE_RECORDS:
        return blob_len(f->type, at) == -1;
    case WIRE_UUID:
        return memcmp(at, &zero, sizeof(zero)) == 0;
    case WIRE_STRUCT:
        return struct_is_default(f->sub, at);
    case WIRE_STRUCT_PTR:
        return load_ptr(at) == NULL;
    default:
        return number_is_default(f, at);
    }
}

static bool struct_is_default(const struct wire_schema *s, const uint8_t *base)
{
    for (unsigned i = 0; i < s->fields_n; i++)
        if (!field_is_default(&s->fields[i], base))
            return false;
    return true;
}

/* Length of bytes, records or an array; len -1 is null. */
static void encode_length(struct encoder *e, int32_t len)
{
    if (e->flexible)
        put_uvarint(e->w, (uint32_t)len + 1);
    else
        put_u32(e->w, (uint32_t)len);
}

static void encode_string(struct encoder *e, const struct wire_str *s)
{
    if (!e->flexible) {
        put_classic_string(e->w, *s);
        return;
    }
    if (s->len > INT16_MAX) { /* Kafka's readers refuse it in the compact form, too */
        e->w->failed = true;
        return;
    }
    put_uvarint(e->w, s->len < 0 ? 0 : (uint32_t)s->len + 1);
    if (s->len > 0)
        put_bytes(e->w, s->p, (uint32_t)s->len);
}

static void encode_blob(struct encoder *e, enum wire_type type, bool nullable, const uint8_t *at)
{
    int32_t len = blob_len(type, at);
    if (len < 0 && !nullable) {
        e->w->failed = true;
        return;
    }
    if (type == WIRE_STRING) {
        encode_string(e, (const struct wire_str *)at);
        return;
    }
    encode_length(e, len < 0 ? -1 : len);
    if (len <= 0)
        return;
    const struct wire_records *r = (const struct wire_records *)at;
    if (type == WIRE_BYTES)
        put_bytes(e->w, ((const struct wire_bytes *)at)->p, (uint32_t)len);
    else if (r->iov == NULL && r->extent == NULL)
        put_bytes(e->w, r->data, (uint32_t)len);
    else
        put_ref(e->w, r);
}

static void encode_struct_ptr(struct encoder *e, const struct wire_field *f, bool nullable,
                              const uint8_t *sub)
{
    if (sub == NULL && !nullable) {
        e->w->failed = true;
        return;
    }
    put_u8(e->w, sub == NULL ? 0xff : 1);
    if (sub != NULL)
        encode_struct(e, f->sub, sub);
}

static void encode_value(struct encoder *e, const struct wire_field *f, bool nullable,
                         const uint8_t *at)
{
    uint64_t wide;
    switch ((enum wire_type)f->type) {
    case WIRE_BOOL:
        put_u8(e->w, *(const bool *)at);
        return;
    case WIRE_INT8:
        put_u8(e->w, *at);
        return;
    case WIRE_INT16:
    case WIRE_UINT16:
        put_u16(e->w, *(const uint16_t *)at);
        return;
    case WIRE_INT32:
    case WIRE_UINT32:
        put_u32(e->w, *(const uint32_t *)at);
        return;
    case WIRE_INT64:
    case WIRE_FLOAT64:
        memcpy(&wide, at, sizeof(wide));
        put_u64(e->w, wide);
        return;
    case WIRE_UUID:
        put_bytes(e->w, at, sizeof(struct wire_uuid));
        return;
    case WIRE_STRING:
    case WIRE_BYTES:
    case WIRE_RECORDS:
        encode_blob(e, f->type, nullable, at);
        return;
    case WIRE_STRUCT:
        encode_struct(e, f->sub, at);
        return;
    case WIRE_STRUCT_PTR:
        encode_struct_ptr(e, f, nullable, load_ptr(at));
        return;
    }
}

static void encode_array(struct encoder *e, const struct wire_field *f, bool nullable,
                         const uint8_t *base)
{
    int32_t n = load_count(f, base);
    if (n < 0 && !nullable) {
        e->w->failed = true;
        return;
    }
    encode_length(e, n < 0 ? -1 : n);
    const uint8_t *all = load_ptr(base + f->offset);
    uint32_t size = wire_field_mem_bytes(f);
    for (int32_t i = 0; i < n && !e->w->failed; i++)
        encode_value(e, f, false, all + (size_t)i * size);
}

static void encode_field(struct encoder *e, const struct wire_field *f, const uint8_t *base)
{
    bool nullable = wire_field_nullable_at(f, e->version);
    if (f->array)
        encode_array(e, f, nullable, base);
    else
        encode_value(e, f, nullable, base + f->offset);
}

static void encode_tag(struct encoder *e, const struct wire_field *f, const uint8_t *base)
{
    put_uvarint(e->w, f->tag);
    uint32_t at = e->w->len;
    uint64_t ref_bytes_was = e->w->ref_bytes;
    encode_field(e, f, base);
    uint64_t len = e->w->len - at + (e->w->ref_bytes - ref_bytes_was);
    if (len > INT32_MAX)
        e->w->failed = true;
    else
        put_uvarint_before(e->w, at, (uint32_t)len);
}

/* Tagged fields that say something, kept in the order of their tags. */
struct tag_list {
    const struct wire_field *fields[WIRE_TAGS_MAX];
    unsigned n;
};

static void tag_list_add(struct tag_list *list, const struct wire_field *f)
{
    ASSERT(list->n < WIRE_TAGS_MAX);
    unsigned at = list->n++;
    for (; at > 0 && list->fields[at - 1]->tag > f->tag; at--)
        list->fields[at] = list->fields[at - 1];
    list->fields[at] = f;
}

static void encode_struct(struct encoder *e, const struct wire_schema *s, const uint8_t *base)
{
    struct tag_list tags;
    tags.n = 0; /* the array stays as it is: most structs have no tags */
    for (const struct wire_field *f = s->fields; f < s->fields + s->fields_n; f++) {
        if (!wire_field_present(f, e->version))
            continue;
        if (!wire_field_tagged_at(f, e->version))
            encode_field(e, f, base);
        else if (!field_is_default(f, base))
            tag_list_add(&tags, f);
    }
    if (!e->flexible)
        return;
    put_uvarint(e->w, tags.n);
    for (unsigned i = 0; i < tags.n; i++)
        encode_tag(e, tags.fields[i], base);
}

void wire_encode(const struct wire_schema *schema, int version, bool flexible, const void *msg,
                 struct wire_writer *w)
{
    struct encoder e = {.w = w, .version = version, .flexible = flexible};
    encode_struct(&e, schema, msg);
}
