#include <string.h>

#include "core/base/bytes.h"
#include "net/net.h"

/* What is advertised is what is served, but for Produce 0 to 2: librdkafka takes a minimum of 3 for
 * a broker that cannot compress (KAFKA-18659). */
/* clang-format off */
const struct net_api net_apis[] = {
    {0, 0, 13, 3, produce_handle},
    {1, 4, 18, 4, fetch_handle},
    {2, 1, 11, 1, list_offsets_handle},
    {3, 0, 13, 0, metadata_handle},
    {8, 2, 10, 2, offset_commit_handle},
    {9, 1, 10, 1, offset_fetch_handle},
    {10, 0, 6, 0, find_coordinator_handle},
    {11, 0, 9, 0, join_group_handle},
    {12, 0, 4, 0, heartbeat_handle},
    {13, 0, 5, 0, leave_group_handle},
    {14, 0, 5, 0, sync_group_handle},
    {15, 0, 6, 0, describe_groups_handle},
    {16, 0, 5, 0, list_groups_handle},
    {18, 0, 5, 0, api_versions_handle},
    {19, 2, 7, 2, create_topics_handle},
    {20, 1, 6, 1, delete_topics_handle},
    {21, 0, 2, 0, delete_records_handle},
    {22, 0, 5, 0, init_producer_id_handle},
    {23, 2, 4, 2, offset_for_leader_epoch_handle},
    {32, 1, 4, 1, describe_configs_handle},
    {33, 0, 2, 0, alter_configs_handle},
    {35, 1, 5, 1, describe_log_dirs_handle},
    {37, 0, 3, 0, create_partitions_handle},
    {42, 0, 3, 0, delete_groups_handle},
    {43, 0, 2, 0, elect_leaders_handle},
    {44, 0, 1, 0, incremental_alter_configs_handle},
    {45, 0, 1, 0, alter_partition_reassignments_handle},
    {46, 0, 0, 0, list_partition_reassignments_handle},
    {47, 0, 0, 0, offset_delete_handle},
    {60, 0, 2, 0, describe_cluster_handle},
    {61, 0, 0, 0, describe_producers_handle},
    {75, 0, 0, 0, describe_topic_partitions_handle},
};
/* clang-format on */
const unsigned net_apis_count = ARRAY_LEN(net_apis);
_Static_assert(ARRAY_LEN(net_apis) <= NET_APIS_MAX, "a counter each");

const struct net_api *net_api_find(int16_t key)
{
    for (unsigned i = 0; i < net_apis_count; i++)
        if (net_apis[i].key == key)
            return &net_apis[i];
    return NULL;
}

const struct broker_node *net_node_of_shard(const struct shard *s, unsigned shard)
{
    return &s->broker->nodes[s->broker->node_of_shard[shard]];
}

const struct meta_topic *net_topic(const struct shard *s, struct wire_str name,
                                   const struct wire_uuid *id)
{
    struct meta_uuid uuid = {{0}};
    if (id != NULL)
        memcpy(uuid.b, id->b, sizeof(uuid.b));
    if (!meta_uuid_is_zero(&uuid))
        return meta_topic_by_id(s->meta, &uuid);
    return name.len < 0 ? NULL : meta_topic_by_name(s->meta, name.p, (size_t)name.len);
}
