import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Produce keyed records with headers and check every answer.
 * Arguments: BOOTSTRAP TOPIC PARTITIONS RECORDS FIRST [PROPERTY=VALUE]...
 * Record i (from FIRST on) goes to partition i % PARTITIONS with key "key-i", value "value-i-xxx"
 * of 20 to 219 bytes, headers "n" = i and "empty" = null, timestamp 1700000000000 + i.
 * In every partition the offsets answered must go up by one from record to record.
 * Prints a line a partition: "partition P first F last L"; meanwhile, on stderr, "acknowledged N"
 * every 50,000 records.
 */
public final class Produce {
    static final long TIME_BASE = 1_700_000_000_000L;

    static byte[] key(long i) {
        return ("key-" + i).getBytes(StandardCharsets.UTF_8);
    }

    static byte[] value(long i) {
        String head = "value-" + i + "-";
        return (head + "x".repeat((int) (20 + (i * 7919) % 200) - Math.min(20, head.length())))
            .getBytes(StandardCharsets.UTF_8);
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, int partition, long i) {
        ProducerRecord<byte[], byte[]> record =
            new ProducerRecord<>(topic, partition, TIME_BASE + i, key(i), value(i));
        record.headers().add("n", Long.toString(i).getBytes(StandardCharsets.UTF_8));
        record.headers().add("empty", null);
        return record;
    }

    private static Callback progress() {
        AtomicLong done = new AtomicLong();
        return (at, error) -> {
            if (error == null && done.incrementAndGet() % 50_000 == 0) {
                System.err.println("acknowledged " + done.get());
            }
        };
    }

    private static void check(List<Future<RecordMetadata>> answers, int partitions)
        throws Exception {
        long[] first = new long[partitions];
        long[] next = new long[partitions];
        Arrays.fill(first, -1);
        for (Future<RecordMetadata> answer : answers) {
            RecordMetadata at = answer.get();
            int p = at.partition();
            if (first[p] < 0) {
                first[p] = at.offset();
                next[p] = at.offset();
            }
            if (at.offset() != next[p]) {
                throw new IllegalStateException(
                    at + ": expected offset " + next[p] + " in partition " + p);
            }
            next[p]++;
        }
        for (int p = 0; p < partitions; p++) {
            System.out.println("partition " + p + " first " + first[p] + " last " + (next[p] - 1));
        }
    }

    public static void main(String[] args) throws Exception {
        int partitions = Integer.parseInt(args[2]);
        long records = Long.parseLong(args[3]);
        long start = Long.parseLong(args[4]);
        Properties settings = new Properties();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        for (int i = 5; i < args.length; i++) {
            String[] parts = args[i].split("=", 2);
            settings.put(parts[0], parts[1]);
        }
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        Callback progress = progress();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(
                 settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (long i = start; i < start + records; i++) {
                answers.add(producer.send(
                    record(args[1], (int) (i % partitions), i), progress));
            }
            producer.flush();
            check(answers, partitions);
        }
    }
}
