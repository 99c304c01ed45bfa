import java.io.PrintStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.Stores;

/**
 * Count words, at least once, for tests/clients/streams.py.
 * Arguments: BOOTSTRAP APPLICATION DIRECTORY [dump]
 * A record of topic "lines" is "NUMBER WORD WORD ...". Of each word it keeps a tally, "OCCURRENCES SET": how
 * often it was counted, a line that came twice twice, and the numbers of the lines that it is in, as the bits
 * of a hexadecimal number: in there a line that came twice is there once. Tallies go to topic "tallies" by word
 * (kept on disk, in store "words"), and to topic "hourly" by "WORD@HOUR" of the line's timestamp
 * (kept in memory, in store "hours"). "state STATE" tells each change of state; SIGTERM ends it.
 * dump: once its stores are there, "word WORD TALLY" and "hour WORD@HOUR TALLY" of all that is in them; end.
 */
public final class WordCount {
    private static final Duration HOUR = Duration.ofHours(1);
    private static final Duration DAY = Duration.ofDays(1);
    private static final Serde<String> TEXT = Serdes.String();

    private static List<KeyValue<String, String>> words(String line) {
        String[] parts = line.split(" ");
        List<KeyValue<String, String>> words = new ArrayList<>();
        for (int i = 1; i < parts.length; i++) {
            words.add(KeyValue.pair(parts[i], parts[0]));
        }
        return words;
    }

    private static String add(String line, String tally) {
        int at = tally.indexOf(' ');
        long occurrences = Long.parseLong(tally.substring(0, at));
        BigInteger lines = new BigInteger(tally.substring(at + 1), 16);
        return (occurrences + 1) + " " + lines.setBit(Integer.parseInt(line)).toString(16);
    }

    private static String hourly(Windowed<String> word) {
        return word.key() + "@" + word.window().start() / HOUR.toMillis();
    }

    private static StreamsBuilder topology() {
        StreamsBuilder builder = new StreamsBuilder();
        KGroupedStream<String, String> words = builder.stream("lines", Consumed.with(TEXT, TEXT))
            .flatMap((key, line) -> words(line))
            .groupByKey(Grouped.with("words", TEXT, TEXT));
        words.aggregate(() -> "0 0", (word, line, tally) -> add(line, tally),
                Materialized.<String, String>as(Stores.persistentKeyValueStore("words"))
                    .withKeySerde(TEXT).withValueSerde(TEXT))
            .toStream().to("tallies", Produced.with(TEXT, TEXT));
        words.windowedBy(TimeWindows.ofSizeAndGrace(HOUR, DAY))
            .aggregate(() -> "0 0", (word, line, tally) -> add(line, tally),
                Materialized.<String, String>as(Stores.inMemoryWindowStore("hours", DAY.plus(HOUR),
                    HOUR, false)).withKeySerde(TEXT).withValueSerde(TEXT))
            .toStream((word, tally) -> hourly(word)).to("hourly", Produced.with(TEXT, TEXT));
        return builder;
    }

    private static Properties settings(String[] args) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[2]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 300);
        settings.put(StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.ACCEPTABLE_RECOVERY_LAG_CONFIG, Long.MAX_VALUE);
        settings.put(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, 3000);
        settings.put(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, 300);
        return settings;
    }

    private static void dump(KafkaStreams streams) {
        var words = streams.store(StoreQueryParameters.fromNameAndType("words",
            QueryableStoreTypes.<String, String>keyValueStore()));
        try (var all = words.all()) {
            all.forEachRemaining(e -> System.out.println("word " + e.key + " " + e.value));
        }
        var hours = streams.store(StoreQueryParameters.fromNameAndType("hours",
            QueryableStoreTypes.<String, String>windowStore()));
        try (var all = hours.all()) {
            all.forEachRemaining(e -> System.out.println("hour " + hourly(e.key) + " " + e.value));
        }
    }

    public static void main(String[] args) throws InterruptedException {
        System.setOut(new PrintStream(System.out, true, StandardCharsets.UTF_8));
        KafkaStreams streams = new KafkaStreams(topology().build(), settings(args));
        Thread main = Thread.currentThread();
        streams.setStateListener((state, before) -> {
            System.out.println("state " + state);
            synchronized (main) {
                main.notifyAll();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            boolean isClosed = streams.close(Duration.ofSeconds(20));
            Runtime.getRuntime().halt(isClosed ? 0 : 1); // not 143, for SIGTERM
        }));
        streams.start();
        synchronized (main) {
            while (streams.state() != KafkaStreams.State.RUNNING || args.length < 4) {
                if (streams.state() == KafkaStreams.State.ERROR) {
                    Runtime.getRuntime().halt(1);
                }
                main.wait();
            }
        }
        dump(streams);
        System.exit(0);
    }
}
