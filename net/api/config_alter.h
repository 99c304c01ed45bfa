/* config_alter.h: changes the configs of one topic, or of the broker; private to net/api.
 *
 * Happy path: the operations are applied to what is set now, the outcome is checked as a whole, and
 *   goes to the controller; when on_done comes every shard works by it.
 * Failure: error_code and message; nothing has changed then. What another change overtook is made
 *   again from what is set then.
 * Ownership: lent from start until on_done; memory is of the request's arena.
 * Threads: the request's shard. */
#ifndef NET_API_CONFIG_ALTER_H
#define NET_API_CONFIG_ALTER_H

#include "net/net.h"

enum config_op_kind { CONFIG_SET, CONFIG_DELETE, CONFIG_APPEND, CONFIG_SUBTRACT }; /* Kafka's */
struct config_op {
    struct wire_str name, value;
    int8_t kind;
};

struct config_alter {
    struct request *r;
    int8_t type; /* enum admin_resource */
    struct wire_str name;
    struct config_op *ops;
    int32_t ops_n;
    bool replace; /* what no operation names returns to its default */
    bool validate_only;
    int16_t error_code; /* out */
    struct wire_str message;
    void *caller; /* his own */
    void (*on_done)(struct config_alter *a);
    struct meta_change change; /* private */
};

/* True: on_done will come. False: it is done. */
bool config_alter_start(struct config_alter *a, void (*on_done)(struct config_alter *a));

#endif
