/* ListPartitionReassignments, key 46: a partition never has more than its one replica, so none is
 * ever seen on its way. */
#include "net/api/admin.h"

void list_partition_reassignments_handle(struct request *r, void *body)
{
    struct list_partition_reassignments_response res;
    (void)body;
    wire_set_defaults(&list_partition_reassignments_response_schema, &res);
    res.error_message = wire_str_of(NULL);
    request_reply(r, &res);
}
