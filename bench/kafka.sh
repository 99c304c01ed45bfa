#!/bin/bash
# Run Apache Kafka 4 (KRaft, one node, the heap of its own start script) until it is told to stop:
#   bench/kafka.sh [HOST:PORT [DATA_DIR]]      default 127.0.0.1:9192, build/bench/kafka
# Prints `kafka ready HOST:PORT pid=PID` when it answers. Its jars come from Maven.
# Further server.properties lines may be given in KAFKA_OPTIONS, separated by blanks.
set -eu
cd "$(dirname "$0")/.."
address=${1:-127.0.0.1:9192} data=${2:-build/bench/kafka}
host=${address%:*} port=${address##*:}
tests/install.sh --peer-only
jars=build/clients/java/peer
[ -d $jars ] || { echo "kafka.sh: no Apache Kafka: $(cat build/clients/peer.missing)" >&2; exit 1; }
rm -rf "$data"
mkdir -p "$data"
controller=$((port + 1))
cat > "$data/server.properties" << EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$host:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$host:$port,CONTROLLER://$host:$controller
advertised.listeners=PLAINTEXT://$host:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$data/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
$(printf '%s\n' ${KAFKA_OPTIONS:-})
EOF
cat > "$data/log4j2.properties" << EOF
status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = $data/server.log
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
EOF
# The flags of kafka-server-start.sh and kafka-run-class.sh.
java=(java -Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20
    -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true
    "-Dlog4j2.configurationFile=$data/log4j2.properties" -cp "$jars/*")
id=$("${java[@]}" kafka.tools.StorageTool random-uuid | tail -1)
"${java[@]}" kafka.tools.StorageTool format -t "$id" -c "$data/server.properties" > "$data/format.log"
"${java[@]}" kafka.Kafka "$data/server.properties" > "$data/out.log" 2>&1 &
pid=$!
trap 'kill $pid 2> /dev/null; wait $pid 2> /dev/null || true; exit 0' INT TERM
for _ in $(seq 600); do
    grep -q 'Kafka Server started' "$data/server.log" 2> /dev/null && break
    kill -0 $pid 2> /dev/null || { tail -20 "$data/out.log" "$data/server.log" >&2; exit 1; }
    sleep 0.1
done
echo "kafka ready $address pid=$pid"
wait $pid
