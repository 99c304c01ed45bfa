// Produce with KafkaJS: acks -1, one send after another, each answer's offset checked.
//
// Usage: node produce.js BOOTSTRAP TOPIC PARTITION RECORDS BATCH none|gzip [idempotent]
// Record i is the line "kafkajs record i " and some filling; prints "produced N".
// NODE_PATH says where kafkajs is.
'use strict';
const { Kafka, CompressionTypes, logLevel } = require('kafkajs');

const [bootstrap, topic, partition, records, batch, codec, mode] = process.argv.slice(2);
const compression = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }[codec];

function line(i) {
  return `kafkajs record ${i} ` + 'f'.repeat((i * 31) % 100);
}

async function produce(kafka) {
  const producer = kafka.producer({
    allowAutoTopicCreation: true,
    idempotent: mode === 'idempotent',
  });
  await producer.connect();
  let next = 0;
  while (next < Number(records)) {
    const messages = [];
    for (let i = next; i < Math.min(next + Number(batch), Number(records)); i++) {
      messages.push({
        partition: Number(partition),
        key: `key-${i}`,
        value: line(i),
        headers: { n: String(i) },
      });
    }
    const [answer] = await producer.send({ topic, acks: -1, compression, messages });
    if (answer.errorCode !== 0 || answer.partition !== Number(partition) ||
        answer.baseOffset !== String(next)) {
      throw new Error(`expected base offset ${next}, answered ${JSON.stringify(answer)}`);
    }
    next += messages.length;
  }
  await producer.disconnect();
  return next;
}

const kafka = new Kafka({ clientId: 'kafkajs', brokers: [bootstrap], logLevel: logLevel.ERROR });
produce(kafka).then(
  (count) => console.log(`produced ${count}`),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
