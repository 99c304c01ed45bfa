"""What Kafka's command classes print: the same as of Apache Kafka 4.4 (--peer kafka takes the same
expectations), or listed with the reason."""
import os
import re

from lib import transcript
from lib.broker import Broker, is_peer
from lib.clients import SOURCES
from lib.testcase import slow, timeout

NODE = {"node.id": 1, "num.partitions": 1}
API_TOOL = "org.apache.kafka.tools.BrokerApiVersionsCommand"
# What Kafka 4.4 says to the tool of 4.3: name(key) and versions.
KAFKA_APIS = """
Produce(0): 0 to 13 [usable: 13]
Fetch(1): 4 to 18 [usable: 18]
ListOffsets(2): 1 to 11 [usable: 11]
Metadata(3): 0 to 13 [usable: 13]
OffsetCommit(8): 2 to 10 [usable: 10]
OffsetFetch(9): 1 to 10 [usable: 10]
FindCoordinator(10): 0 to 6 [usable: 6]
JoinGroup(11): 0 to 9 [usable: 9]
Heartbeat(12): 0 to 4 [usable: 4]
LeaveGroup(13): 0 to 5 [usable: 5]
SyncGroup(14): 0 to 5 [usable: 5]
DescribeGroups(15): 0 to 6 [usable: 6]
ListGroups(16): 0 to 5 [usable: 5]
SaslHandshake(17): 0 to 1 [usable: 1]
ApiVersions(18): 0 to 5 [usable: 4]
CreateTopics(19): 2 to 7 [usable: 7]
DeleteTopics(20): 1 to 6 [usable: 6]
DeleteRecords(21): 0 to 2 [usable: 2]
InitProducerId(22): 0 to 5 [usable: 5]
OffsetForLeaderEpoch(23): 2 to 4 [usable: 4]
AddPartitionsToTxn(24): 0 to 5 [usable: 5]
AddOffsetsToTxn(25): 0 to 4 [usable: 4]
EndTxn(26): 0 to 5 [usable: 5]
WriteTxnMarkers(27): 1 to 2 [usable: 2]
TxnOffsetCommit(28): 0 to 6 [usable: 5]
DescribeAcls(29): 1 to 3 [usable: 3]
CreateAcls(30): 1 to 3 [usable: 3]
DeleteAcls(31): 1 to 3 [usable: 3]
DescribeConfigs(32): 1 to 4 [usable: 4]
AlterConfigs(33): 0 to 2 [usable: 2]
AlterReplicaLogDirs(34): 1 to 2 [usable: 2]
DescribeLogDirs(35): 1 to 5 [usable: 5]
SaslAuthenticate(36): 0 to 2 [usable: 2]
CreatePartitions(37): 0 to 3 [usable: 3]
CreateDelegationToken(38): 1 to 3 [usable: 3]
RenewDelegationToken(39): 1 to 2 [usable: 2]
ExpireDelegationToken(40): 1 to 2 [usable: 2]
DescribeDelegationToken(41): 1 to 3 [usable: 3]
DeleteGroups(42): 0 to 3 [usable: 2]
ElectLeaders(43): 0 to 2 [usable: 2]
IncrementalAlterConfigs(44): 0 to 1 [usable: 1]
AlterPartitionReassignments(45): 0 to 1 [usable: 1]
ListPartitionReassignments(46): 0 [usable: 0]
OffsetDelete(47): 0 [usable: 0]
DescribeClientQuotas(48): 0 to 1 [usable: 1]
AlterClientQuotas(49): 0 to 1 [usable: 1]
DescribeUserScramCredentials(50): 0 [usable: 0]
AlterUserScramCredentials(51): 0 [usable: 0]
DescribeQuorum(55): 0 to 2 [usable: 2]
UpdateFeatures(57): 0 to 2 [usable: 2]
DescribeCluster(60): 0 to 2 [usable: 2]
DescribeProducers(61): 0 [usable: 0]
UnregisterBroker(64): 0 [usable: 0]
DescribeTransactions(65): 0 [usable: 0]
ListTransactions(66): 0 to 2 [usable: 2]
ConsumerGroupHeartbeat(68): 0 to 1 [usable: 1]
ConsumerGroupDescribe(69): 0 to 1 [usable: 1]
GetTelemetrySubscriptions(71): UNSUPPORTED
PushTelemetry(72): UNSUPPORTED
ListConfigResources(74): 0 to 1 [usable: 1]
DescribeTopicPartitions(75): 0 [usable: 0]
ShareGroupHeartbeat(76): 1 [usable: 1]
ShareGroupDescribe(77): 1 [usable: 1]
ShareFetch(78): 1 to 2 [usable: 2]
ShareAcknowledge(79): 1 to 2 [usable: 2]
AddRaftVoter(80): 0 to 1 [usable: 1]
RemoveRaftVoter(81): 0 [usable: 0]
InitializeShareGroupState(83): 0 [usable: 0]
ReadShareGroupState(84): 0 [usable: 0]
WriteShareGroupState(85): 0 to 1 [usable: 1]
DeleteShareGroupState(86): 0 [usable: 0]
ReadShareGroupStateSummary(87): 0 to 1 [usable: 1]
StreamsGroupHeartbeat(88): 0 to 1 [usable: 0]
StreamsGroupDescribe(89): 0 to 1 [usable: 0]
DescribeShareGroupOffsets(90): 0 to 1 [usable: 1]
AlterShareGroupOffsets(91): 0 [usable: 0]
DeleteShareGroupOffsets(92): 0 [usable: 0]
UNKNOWN(93): 0
UNKNOWN(94): 0
"""
# What may be missing, and why.
ABSENT = {
    "transactions": [24, 25, 26, 27, 28, 65, 66],
    "security: passwords, access lists, tokens, quotas":
        [17, 29, 30, 31, 36, 38, 39, 40, 41, 48, 49, 50, 51],
    "the new group protocol": [68, 69],
    "share groups": [76, 77, 78, 79, 83, 84, 85, 86, 87, 90, 91, 92],
    "groups of Kafka Streams, whose default is the classic protocol": [88, 89, 93, 94],
    "a quorum of controllers, brokers that come and go, feature levels": [55, 57, 64, 80, 81],
    "moves between nodes and between directories": [34, 45],
    "resources of other kinds than topics and brokers": [74],
}


@slow
@timeout(300)
def test_transcript():
    with Broker(advertise="host", options=NODE) as broker:
        transcript.check(broker, os.path.join(SOURCES, "tools.transcript"))


def apis_of(lines):
    """{key: "NAME(KEY): VERSIONS"}"""
    found = {}
    for line in lines:
        match = re.match(r"\s*(\w+\((\d+)\): .*?),?$", line)
        if match:
            found[int(match[2])] = match[1]
    return found


@slow
def test_api_versions():
    """Each API has the versions that it has in Kafka, or is not there at all, for a reason."""
    with Broker(options=NODE) as broker:
        printed, = transcript.run(broker, [["tool", API_TOOL]])
    told, wanted = apis_of(printed), apis_of(KAFKA_APIS.splitlines())
    assert len(told) > 60, printed
    reasons = {key: why for why, keys in ABSENT.items() for key in keys}
    for key in sorted(set(told) | set(wanted)):
        is_absent = key not in told or told[key].endswith("UNSUPPORTED")
        if is_absent and key in reasons and not is_peer():
            continue
        assert told.get(key) == wanted.get(key), (told.get(key), wanted.get(key))
