// A member of a consumer group with KafkaJS, for tests/clients/groups.py.
//
// Usage: node member.js BOOTSTRAP TOPIC GROUP
// "MICROS got PARTITION OFFSET" of each record, then "MICROS committed PARTITION NEXT" when the broker has
// taken the commit, or "MICROS refused PARTITION NEXT" as from one who is no member any more. SIGTERM: it leaves
// its group. NODE_PATH says where kafkajs is.
'use strict';
const { Kafka, logLevel } = require('kafkajs');

const [bootstrap, topic, groupId] = process.argv.slice(2);
const kafka = new Kafka({
  clientId: 'kafkajs', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 100, retries: 50, maxRetryTime: 500 },
});
const consumer = kafka.consumer({
  groupId, sessionTimeout: 3000, heartbeatInterval: 300, rebalanceTimeout: 10000, maxWaitTimeInMs: 200,
});

function say(what) {
  process.stdout.write(`${Math.round((performance.timeOrigin + performance.now()) * 1000)} ${what}\n`);
}

async function eachBatch({ batch, isRunning, isStale }) {
  if (!isRunning() || isStale()) return;
  for (const m of batch.messages) say(`got ${batch.partition} ${m.offset}`);
  const next = String(BigInt(batch.lastOffset()) + 1n);
  try {
    await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }]);
  } catch (problem) {
    const { type } = problem.cause || problem; // it may be wrapped in a KafkaJSNonRetriableError
    if (['ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID'].includes(type)) say(`refused ${batch.partition} ${next}`);
    throw problem;
  }
  say(`committed ${batch.partition} ${next}`);
}

process.on('SIGTERM', async () => {
  await consumer.disconnect();
  process.exit(0);
});

async function main() {
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ autoCommit: false, eachBatch });
}
main();
