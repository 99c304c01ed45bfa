import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicPartitionInfo;

/**
 * Describe topics and the cluster by the admin client.
 * Arguments: BOOTSTRAP TOPIC...
 * Prints "nodes ID:PORT ...", "controller ID", then a line a partition:
 * "TOPIC P leader ID replicas ID,... isr ID,...".
 */
public final class Topics {
    private static String ids(List<org.apache.kafka.common.Node> nodes) {
        return String.join(",", nodes.stream().map(n -> Integer.toString(n.id())).toList());
    }

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        List<String> topics = List.of(args).subList(1, args.length);
        try (Admin admin = Admin.create(settings)) {
            System.out.println("nodes " + String.join(" ", admin.describeCluster().nodes().get()
                .stream().map(n -> n.id() + ":" + n.port()).sorted().toList()));
            System.out.println("controller " + admin.describeCluster().controller().get().id());
            for (TopicDescription topic :
                 admin.describeTopics(topics).allTopicNames().get().values()) {
                for (TopicPartitionInfo p : topic.partitions()) {
                    System.out.println(topic.name() + " " + p.partition() + " leader "
                        + p.leader().id() + " replicas " + ids(p.replicas()) + " isr "
                        + ids(p.isr()));
                }
            }
        }
    }
}
