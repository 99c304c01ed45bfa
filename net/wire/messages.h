/* messages.h: the C struct and the schema of every message and nested struct.
 * A message is named as in the official schema but in snake case (struct produce_request), a
 * nested struct has the message's name in front (struct produce_request_topic_produce_data). An
 * array `foo` has its length in `foo_n`, -1 for null. The schema of struct x is x_schema.
 * The members are listed in the api_*.def files. Threads: constant data. */
#ifndef NET_WIRE_MESSAGES_H
#define NET_WIRE_MESSAGES_H

#include "net/wire/wire.h"

#define WIRE_C_BOOL bool
#define WIRE_C_INT8 int8_t
#define WIRE_C_INT16 int16_t
#define WIRE_C_UINT16 uint16_t
#define WIRE_C_INT32 int32_t
#define WIRE_C_UINT32 uint32_t
#define WIRE_C_INT64 int64_t
#define WIRE_C_FLOAT64 double
#define WIRE_C_UUID struct wire_uuid
#define WIRE_C_STRING struct wire_str
#define WIRE_C_BYTES struct wire_bytes
#define WIRE_C_RECORDS struct wire_records

#define WIRE_PASTE_(a, b) a##b
#define WIRE_PASTE(a, b) WIRE_PASTE_(a, b)

/* clang-format off */
#define BEGIN() struct SELF {
#define END() }; extern const struct wire_schema WIRE_PASTE(SELF, _schema);
#define FIELD(type_, name_, ...) WIRE_C_##type_ name_;
#define ARRAY(type_, name_, ...) WIRE_C_##type_ *name_; int32_t name_##_n;
#define STRUCT(struct_, name_, ...) struct struct_ name_;
#define STRUCT_PTR(struct_, name_, ...) struct struct_ *name_;
#define STRUCT_ARRAY(struct_, name_, ...) struct struct_ *name_; int32_t name_##_n;
#define API(...)
#include "net/wire/apis.def"
/* clang-format on */

#endif
