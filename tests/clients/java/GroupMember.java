import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A member of a consumer group that says what it does, for tests/clients/groups.py.
 * Arguments: BOOTSTRAP TOPIC GROUP [INSTANCE [ASSIGNOR]], with "" for none
 * "MICROS got PARTITION OFFSET" of each record, then "MICROS committed PARTITION NEXT" when the broker
 * has taken the commit, or "MICROS refused PARTITION NEXT" as from one who is no member any more; "revoked N" when it had to give so many partitions back. On SIGTERM it leaves its
 * group (a static member only goes).
 */
public final class GroupMember {
    private static volatile boolean stops;

    /** From one clock: milliseconds of one with microseconds of another go back within each millisecond. */
    private static void say(String what) {
        System.out.println(ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now()) + " " + what);
    }

    private static void take(ConsumerRecords<byte[], byte[]> records,
            Map<TopicPartition, OffsetAndMetadata> next) {
        for (ConsumerRecord<byte[], byte[]> record : records) {
            say("got " + record.partition() + " " + record.offset());
            next.put(new TopicPartition(record.topic(), record.partition()),
                new OffsetAndMetadata(record.offset() + 1));
        }
    }

    private static void commit(KafkaConsumer<byte[], byte[]> consumer,
            Map<TopicPartition, OffsetAndMetadata> next) {
        try {
            consumer.commitSync(next);
        } catch (CommitFailedException fenced) {
            sayOfEach("refused", next);
            return;
        } catch (RetriableException late) {
            return; // again, with what comes next
        }
        sayOfEach("committed", next);
        next.clear();
    }

    private static void sayOfEach(String what, Map<TopicPartition, OffsetAndMetadata> next) {
        next.forEach((p, o) -> say(what + " " + p.partition() + " " + o.offset()));
    }

    private static Properties settings(String[] args) {
        Properties settings = new Properties();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, args[2]);
        boolean isStatic = args.length > 3 && !args[3].isEmpty();
        if (isStatic) {
            settings.put(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG, args[3]);
        }
        if (args.length > 4) {
            settings.put(ConsumerConfig.PARTITION_ASSIGNMENT_STRATEGY_CONFIG, args[4]);
        }
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        // A static one comes back within it; where it counts what is taken away, a pause is no death.
        settings.put(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG,
            isStatic ? 30_000 : args.length > 4 ? 12_000 : 3000);
        settings.put(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, 300);
        settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 50);
        settings.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        settings.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        return settings;
    }

    private static void run(KafkaConsumer<byte[], byte[]> consumer,
            Map<TopicPartition, OffsetAndMetadata> next) {
        while (!stops) {
            try {
                take(consumer.poll(Duration.ofMillis(200)), next);
                if (!next.isEmpty()) {
                    commit(consumer, next);
                }
            } catch (WakeupException woken) {
                return;
            }
        }
    }

    public static void main(String[] args) throws InterruptedException {
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings(args));
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stops = true;
            try {
                main.join(TimeUnit.SECONDS.toMillis(10));
                Runtime.getRuntime().halt(main.isAlive() ? 1 : 0); // not 143, for SIGTERM
            } catch (InterruptedException cut) {
                Thread.currentThread().interrupt();
            }
        }));
        Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
        consumer.subscribe(List.of(args[1]), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                next.keySet().removeAll(partitions); // what comes back may have gone on elsewhere
                if (!partitions.isEmpty()) {
                    System.out.println("revoked " + partitions.size());
                }
            }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            }
        });
        try {
            run(consumer, next);
        } catch (KafkaException problem) {
            problem.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        consumer.close();
    }
}
