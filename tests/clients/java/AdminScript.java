import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Exit;

/**
 * Many admin calls, Kafka's own tools and other programs in one JVM. Arguments: BOOTSTRAP SCRIPT.
 * Each line of the script is a command and its words, with tabs between them; what it prints stands
 * below a line "&gt; COMMAND ...", an error as "CLASS: MESSAGE" of the exception.
 */
public final class AdminScript {
    private final Admin admin;
    private final String bootstrap;

    private AdminScript(Admin admin, String bootstrap) {
        this.admin = admin;
        this.bootstrap = bootstrap;
    }

    private static List<TopicPartition> partitions(List<String> words) {
        return words.stream().map(w -> new TopicPartition(w.substring(0, w.lastIndexOf('-')),
            Integer.parseInt(w.substring(w.lastIndexOf('-') + 1)))).toList();
    }

    private static void say(String text) {
        System.out.println(text);
    }

    /** create TOPIC PARTITIONS [KEY=VALUE]... */
    private void create(List<String> w) throws Exception {
        Map<String, String> configs = new TreeMap<>();
        for (String pair : w.subList(2, w.size())) {
            configs.put(pair.substring(0, pair.indexOf('=')), pair.substring(pair.indexOf('=') + 1));
        }
        NewTopic topic = new NewTopic(w.get(0), Optional.of(Integer.parseInt(w.get(1))),
            Optional.empty()).configs(configs);
        admin.createTopics(List.of(topic), new CreateTopicsOptions()).all().get();
        say("ok");
    }

    private static String synonyms(ConfigEntry entry) {
        return entry.synonyms().stream()
            .map(s -> s.name() + "=" + s.value() + ":" + s.source())
            .collect(Collectors.joining(" "));
    }

    /** describe TYPE NAME [KEY]...: with documentation only "documented" is told of it. */
    private void describe(List<String> w) throws Exception {
        ConfigResource resource =
            new ConfigResource(ConfigResource.Type.valueOf(w.get(0)), w.get(1));
        Set<String> keys = Set.copyOf(w.subList(2, w.size()));
        Collection<ConfigEntry> entries = admin.describeConfigs(List.of(resource),
            new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true))
            .all().get().get(resource).entries();
        List<ConfigEntry> sorted =
            entries.stream().sorted(Comparator.comparing(ConfigEntry::name)).toList();
        for (ConfigEntry e : sorted) {
            if (keys.isEmpty() || keys.contains(e.name())) {
                say(e.name() + "=" + e.value() + " " + e.source() + " " + e.type()
                    + (e.isReadOnly() ? " read-only" : "") + (e.isSensitive() ? " sensitive" : "")
                    + (e.documentation() == null || e.documentation().isEmpty() ? ""
                        : " documented") + " [" + synonyms(e) + "]");
            }
        }
    }

    private static AlterConfigOp operation(String word) {
        AlterConfigOp.OpType type = AlterConfigOp.OpType.valueOf(word.substring(0,
            word.indexOf(':')));
        String rest = word.substring(word.indexOf(':') + 1);
        int at = rest.indexOf('=');
        ConfigEntry entry = at < 0 ? new ConfigEntry(rest, null)
            : new ConfigEntry(rest.substring(0, at), rest.substring(at + 1));
        return new AlterConfigOp(entry, type);
    }

    /** alter|validate TYPE NAME OP:KEY[=VALUE]... */
    private void alter(List<String> w, boolean validateOnly) throws Exception {
        ConfigResource resource =
            new ConfigResource(ConfigResource.Type.valueOf(w.get(0)), w.get(1));
        List<AlterConfigOp> operations =
            w.subList(2, w.size()).stream().map(AdminScript::operation).toList();
        admin.incrementalAlterConfigs(Map.of(resource, operations),
            new AlterConfigsOptions().validateOnly(validateOnly)).all().get();
        say("ok");
    }

    /** topics LIMIT TOPIC...: with so many partitions in an answer. */
    private void topics(List<String> w) throws Exception {
        DescribeTopicsOptions options =
            new DescribeTopicsOptions().partitionSizeLimitPerResponse(Integer.parseInt(w.get(0)));
        Map<String, TopicDescription> all = new TreeMap<>(admin.describeTopics(
            w.subList(1, w.size()), options).allTopicNames().get());
        for (TopicDescription t : all.values()) {
            say(t.name() + (t.isInternal() ? " internal" : "") + " " + t.partitions().stream()
                .map(p -> p.partition() + ":" + p.replicas().size() + ":" + p.isr().size() + ":"
                    + (p.leader() == null ? "none" : "led")).collect(Collectors.joining(" ")));
        }
    }

    /** elect PREFERRED|UNCLEAN [PARTITION]...: none for all. */
    private void elect(List<String> w) throws Exception {
        Set<TopicPartition> asked = w.size() == 1 ? null : Set.copyOf(partitions(w.subList(1,
            w.size())));
        Map<String, String> told = new TreeMap<>();
        admin.electLeaders(ElectionType.valueOf(w.get(0)), asked).partitions().get()
            .forEach((p, e) -> told.put(p.toString(), e.map(AdminScript::error).orElse("elected")));
        told.forEach((p, e) -> say(p + " " + e));
    }

    private void reassignments(List<String> w) throws Exception {
        Set<TopicPartition> asked = Set.copyOf(partitions(w));
        say((w.isEmpty() ? admin.listPartitionReassignments()
            : admin.listPartitionReassignments(asked)).reassignments().get().toString());
    }

    /** reassign PARTITION [NODE]...: none for an empty list, "-" to take it back. */
    private void reassign(List<String> w) throws Exception {
        Optional<NewPartitionReassignment> to = w.size() > 1 && w.get(1).equals("-")
            ? Optional.empty()
            : Optional.of(new NewPartitionReassignment(w.subList(1, w.size()).stream()
                .map(Integer::valueOf).toList()));
        admin.alterPartitionReassignments(Map.of(partitions(w.subList(0, 1)).get(0), to)).all()
            .get();
        say("ok");
    }

    /** producers PARTITION...: ids are told as none or some. */
    private void producers(List<String> w) throws Exception {
        var all = admin.describeProducers(partitions(w));
        for (TopicPartition p : partitions(w)) {
            for (ProducerState s : all.partitionResult(p).get().activeProducers()) {
                say(p + " epoch " + s.producerEpoch() + " sequence " + s.lastSequence()
                    + " coordinator " + s.coordinatorEpoch() + " transaction "
                    + s.currentTransactionStartOffset());
            }
        }
        say("ok");
    }

    /** produce PARTITION RECORDS: one after the other, by an idempotent producer. */
    private void produce(List<String> w) throws Exception {
        TopicPartition p = partitions(w.subList(0, 1)).get(0);
        Properties settings = new Properties();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        try (Producer<byte[], byte[]> producer = new KafkaProducer<>(settings,
                new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < Integer.parseInt(w.get(1)); i++) {
                producer.send(new ProducerRecord<>(p.topic(), p.partition(), new byte[1],
                    new byte[1])).get();
            }
        }
        say("ok");
    }

    private void cluster() throws Exception {
        var c = admin.describeCluster();
        say("nodes " + c.nodes().get().size() + " fenced " + c.nodes().get().stream()
            .filter(n -> n.isFenced()).count() + " id " + c.clusterId().get().length());
    }

    private static String argument(String word) throws Exception {
        if (!word.startsWith("file:")) {
            return word;
        }
        Path path = Files.createTempFile("words", null);
        path.toFile().deleteOnExit();
        return Files.writeString(path, word.substring("file:".length())).toString();
    }

    /** tool CLASS WORD...: its main, told the bootstrap server; "file:TEXT" is a file of this text. */
    private void tool(List<String> w) throws Exception {
        List<String> arguments = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        for (String word : w.subList(1, w.size())) {
            arguments.add(argument(word));
        }
        Class.forName(w.get(0)).getMethod("main", String[].class)
            .invoke(null, (Object) arguments.toArray(new String[0]));
    }

    /** main CLASS WORD...: its main, with these words; what it throws ends all. */
    private static void main(List<String> w) throws Exception {
        Class.forName(w.get(0)).getMethod("main", String[].class)
            .invoke(null, (Object) w.subList(1, w.size()).toArray(new String[0]));
    }

    private void run(String command, List<String> w) throws Exception {
        switch (command) {
            case "create" -> create(w);
            case "describe" -> describe(w);
            case "alter" -> alter(w, false);
            case "validate" -> alter(w, true);
            case "topics" -> topics(w);
            case "elect" -> elect(w);
            case "reassignments" -> reassignments(w);
            case "reassign" -> reassign(w);
            case "produce" -> produce(w);
            case "producers" -> producers(w);
            case "cluster" -> cluster();
            case "sleep" -> Thread.sleep(Long.parseLong(w.get(0)));
            case "tool" -> tool(w);
            case "main" -> main(w);
            default -> throw new IllegalArgumentException(command);
        }
    }

    private static String error(Throwable e) {
        return e.getClass().getSimpleName() + ": " + e.getMessage();
    }

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(AdminClientConfig.REQUEST_TIMEOUT_MS_CONFIG, "10000");
        settings.put(AdminClientConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, "10000");
        Exit.setExitProcedure((code, message) -> { }); // it is the last thing that a tool does
        System.setErr(new PrintStream(System.out, true));
        try (Admin admin = Admin.create(settings)) {
            AdminScript script = new AdminScript(admin, args[0]);
            for (String line : Files.readAllLines(Path.of(args[1]))) {
                List<String> words = Arrays.asList(line.split("\t", -1));
                say("> " + String.join(" ", words));
                try {
                    script.run(words.get(0), words.subList(1, words.size()));
                } catch (ExecutionException e) {
                    say(error(e.getCause()));
                } catch (RuntimeException e) {
                    say(error(e));
                }
            }
        }
    }
}
