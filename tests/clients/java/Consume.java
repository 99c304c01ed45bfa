import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Read all partitions by assign() from the beginning and check what comes.
 * Arguments: BOOTSTRAP TOPIC PARTITIONS MODE [RECORDS]
 *   MODE values: to the end offsets seen at the start; offsets contiguous from 0.
 *   MODE made:   the same, and every record is exactly the one that Produce makes.
 *   MODE follow: as made, but stay until RECORDS have come, through whatever happens to the
 *                broker, saying "got N" whenever N records are there and no more came for a while.
 * Prints "partition P count C chain X" for each, then "total N sum S".
 */
public final class Consume {
    private static final long DEADLINE_MS = 600_000;

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final boolean areMade;
    private final long[] next;
    private final Digest[] digests;
    private long total;

    private Consume(KafkaConsumer<byte[], byte[]> consumer, int partitions, boolean areMade) {
        this.consumer = consumer;
        this.areMade = areMade;
        this.next = new long[partitions];
        this.digests = new Digest[partitions];
        Arrays.setAll(digests, p -> new Digest());
    }

    private static IllegalStateException bad(ConsumerRecord<byte[], byte[]> record, String what) {
        return new IllegalStateException(
            what + " in partition " + record.partition() + " at offset " + record.offset());
    }

    private void take(ConsumerRecord<byte[], byte[]> record) {
        int p = record.partition();
        if (record.offset() != next[p]) {
            throw bad(record, "expected offset " + next[p]);
        }
        if (areMade) {
            checkMade(record);
        }
        next[p]++;
        total++;
        digests[p].add(record.value());
    }

    private void checkMade(ConsumerRecord<byte[], byte[]> record) {
        long i = record.offset() * next.length + record.partition();
        if (!Arrays.equals(record.key(), Produce.key(i))
            || !Arrays.equals(record.value(), Produce.value(i))) {
            throw bad(record, "another key or value than of record " + i);
        }
        if (record.timestamp() != Produce.TIME_BASE + i) {
            throw bad(record, "timestamp " + record.timestamp());
        }
        Header[] headers = record.headers().toArray();
        if (headers.length != 2 || !headers[0].key().equals("n")
            || !headers[1].key().equals("empty") || headers[1].value() != null
            || !Arrays.equals(headers[0].value(), Long.toString(i).getBytes())) {
            throw bad(record, "headers " + record.headers());
        }
    }

    private void poll() {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
            take(record);
        }
    }

    private void readTo(Map<TopicPartition, Long> ends) {
        long wanted = ends.values().stream().mapToLong(Long::longValue).sum();
        long deadline = System.currentTimeMillis() + DEADLINE_MS;
        while (total < wanted) {
            poll();
            if (System.currentTimeMillis() > deadline) {
                throw new IllegalStateException("got " + total + " of " + wanted);
            }
        }
    }

    private void follow(long wanted) {
        long said = -1;
        while (total < wanted) {
            long before = total;
            poll();
            if (total == before && total != said) {
                System.out.println("got " + total);
                said = total;
            }
        }
    }

    private void print() {
        long sum = 0;
        for (int p = 0; p < next.length; p++) {
            System.out.println(
                "partition " + p + " count " + next[p] + " chain " + digests[p].chain());
            sum += digests[p].sum();
        }
        System.out.println("total " + total + " sum " + sum);
    }

    public static void main(String[] args) {
        int partitions = Integer.parseInt(args[2]);
        Properties settings = new Properties();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "none");
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        List<TopicPartition> all = new ArrayList<>();
        for (int p = 0; p < partitions; p++) {
            all.add(new TopicPartition(args[1], p));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                 settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(all);
            all.forEach(p -> consumer.seek(p, 0));
            Consume work = new Consume(consumer, partitions, !args[3].equals("values"));
            if (args[3].equals("follow")) {
                work.follow(Long.parseLong(args[4]));
            } else {
                checkBeginnings(consumer, all);
                work.readTo(consumer.endOffsets(all));
            }
            work.print();
        }
    }

    private static void checkBeginnings(
        KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> all) {
        Map<TopicPartition, Long> zeros = new HashMap<>();
        all.forEach(p -> zeros.put(p, 0L));
        Map<TopicPartition, Long> begins = consumer.beginningOffsets(all);
        if (!begins.equals(zeros)) {
            throw new IllegalStateException("beginning offsets " + begins);
        }
    }
}
