import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.Schema;

/**
 * Holds net/wire against Kafka's own code. Usage: WireCheck WIRE_ECHO [SEED], or
 * WireCheck --corpus DIR to write request frames for the fuzzer.
 *
 * <p>1. The tables that `wire_echo --dump` prints equal the message schemas in the client's jar.
 *
 * <p>2. Of every version of every API in the tables, requests and responses: messages with random
 * content in every field, with and without unknown tagged fields, written by Kafka's serializer,
 * come back from wire_echo as the same bytes (unknown tags left out), and Kafka's parser makes an
 * equal message of them.
 */
public final class WireCheck {
    private static final int RANDOM_MESSAGES = 15;
    private static final int FULL_MESSAGES = 4;

    private final Random random;
    private final MessageFiller filler;
    private long frames;
    private long bytes;
    private long compared;

    private WireCheck(long seed) {
        random = new Random(seed);
        filler = new MessageFiller(random);
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 2 && args[0].equals("--corpus")) {
            new WireCheck(1).writeCorpus(Path.of(args[1]));
            return;
        }
        long seed = args.length > 1 ? Long.parseLong(args[1]) : System.nanoTime();
        System.out.println("seed " + seed);
        JsonNode tables = dump(args[0]);
        System.out.println(new SchemaCheck().compare(tables));
        new WireCheck(seed).compareMessages(args[0], tables);
    }

    private static JsonNode dump(String wireEcho) throws Exception {
        Process process = new ProcessBuilder(wireEcho, "--dump")
            .redirectError(ProcessBuilder.Redirect.INHERIT).start();
        byte[] json = process.getInputStream().readAllBytes();
        require(process.waitFor() == 0, "wire_echo --dump failed");
        return new ObjectMapper().readTree(json);
    }

    static void require(boolean truth, String otherwise) {
        if (!truth) {
            throw new AssertionError(otherwise);
        }
    }

    // ---- messages ----

    private void compareMessages(String wireEcho, JsonNode tables) throws Exception {
        Process process = new ProcessBuilder(wireEcho)
            .redirectError(ProcessBuilder.Redirect.INHERIT).start();
        DataOutputStream to = new DataOutputStream(process.getOutputStream());
        DataInputStream from = new DataInputStream(process.getInputStream());
        Map<Short, Integer> versions = new TreeMap<>();
        for (JsonNode api : tables) {
            ApiMessageType type = ApiMessageType.fromApiKey((short) api.get("key").asInt());
            short newest = type.highestSupportedVersion(true);
            for (short v = type.lowestSupportedVersion(); v <= newest; v++) {
                compareVersion(type, v, false, to, from);
                compareVersion(type, v, true, to, from);
                versions.merge(type.apiKey(), 1, Integer::sum);
            }
        }
        to.close();
        require(process.waitFor() == 0, "wire_echo failed at its end");
        int total = versions.values().stream().mapToInt(Integer::intValue).sum();
        System.out.printf("messages: %d APIs, %d versions, request and response: %d frames,"
            + " %d bytes, %d fields set, %d answers equal in bytes and as objects%n",
            versions.size(), total, frames, bytes, filler.fieldsSet, compared);
        require(total > 0 && compared == frames, "not everything was compared");
    }

    private void compareVersion(ApiMessageType type, short version, boolean response,
                                DataOutputStream to, DataInputStream from) throws Exception {
        for (int i = 0; i < 1 + FULL_MESSAGES + RANDOM_MESSAGES; i++) {
            MessageFiller.Mode mode = i == 0 ? MessageFiller.Mode.DEFAULT
                : i <= FULL_MESSAGES ? MessageFiller.Mode.FULL : MessageFiller.Mode.RANDOM;
            Frame frame = makeFrame(type, version, response, mode);
            byte[] plain = frame.write();
            byte[] answer = exchange(frame, plain, to, from);
            check(frame, plain, plain, answer);
            frame.addUnknownTags(filler);
            byte[] tagged = frame.write();
            frame.dropUnknownTags();
            check(frame, tagged, plain, exchange(frame, tagged, to, from));
        }
    }

    private Frame makeFrame(ApiMessageType type, short version, boolean response,
                            MessageFiller.Mode mode) throws Exception {
        Frame frame = new Frame(type, version, response);
        filler.fill(frame.header, frame.headerSchema(), mode);
        filler.fill(frame.body, frame.bodySchema(), mode);
        if (frame.header instanceof RequestHeaderData) {
            ((RequestHeaderData) frame.header).setRequestApiKey(type.apiKey())
                .setRequestApiVersion(version);
        }
        return frame;
    }

    private byte[] exchange(Frame frame, byte[] content, DataOutputStream to, DataInputStream from)
            throws IOException {
        to.writeInt(content.length + 5);
        to.writeShort(frame.type.apiKey());
        to.writeShort(frame.version);
        to.writeByte(frame.response ? 1 : 0);
        to.write(content);
        to.flush();
        int n = from.readInt();
        frames++;
        bytes += content.length;
        require(n >= 0, frame + ": wire_echo answers " + n + " to " + hex(content));
        byte[] answer = new byte[n];
        from.readFully(answer);
        return answer;
    }

    private void check(Frame frame, byte[] sent, byte[] expected, byte[] answer) throws Exception {
        if (!Arrays.equals(expected, answer)) {
            throw new AssertionError(frame + "\nsent     " + hex(sent) + "\nexpected "
                + hex(expected) + "\nanswer   " + hex(answer) + "\n" + frame.body);
        }
        Frame again = new Frame(frame.type, frame.version, frame.response);
        again.read(answer);
        // What the version does not carry is at its default in both.
        require(again.header.equals(frame.header), frame + ": header " + again.header);
        require(again.body.equals(frame.body), frame + ":\n" + frame.body + "\n" + again.body);
        compared++;
    }

    private static String hex(byte[] content) {
        return content.length > 4096 ? content.length + " bytes"
            : HexFormat.of().formatHex(content);
    }

    /** One header and one body. */
    private static final class Frame {
        final ApiMessageType type;
        final short version;
        final boolean response;
        final short headerVersion;
        final ApiMessage header;
        final ApiMessage body;

        Frame(ApiMessageType type, short version, boolean response) {
            this.type = type;
            this.version = version;
            this.response = response;
            headerVersion = response ? type.responseHeaderVersion(version)
                : type.requestHeaderVersion(version);
            header = response ? new ResponseHeaderData() : new RequestHeaderData();
            body = response ? type.newResponse() : type.newRequest();
        }

        Schema headerSchema() {
            return response ? ResponseHeaderData.SCHEMAS[headerVersion]
                : RequestHeaderData.SCHEMAS[headerVersion];
        }

        Schema bodySchema() {
            return (response ? type.responseSchemas() : type.requestSchemas())[version];
        }

        byte[] write() {
            ObjectSerializationCache headerCache = new ObjectSerializationCache();
            ObjectSerializationCache bodyCache = new ObjectSerializationCache();
            ByteBuffer buffer = ByteBuffer.allocate(
                header.size(headerCache, headerVersion) + body.size(bodyCache, version));
            ByteBufferAccessor writable = new ByteBufferAccessor(buffer);
            header.write(writable, headerCache, headerVersion);
            body.write(writable, bodyCache, version);
            require(!buffer.hasRemaining(), this + ": Kafka's size is not Kafka's length");
            return buffer.array();
        }

        void read(byte[] content) {
            ByteBuffer buffer = ByteBuffer.wrap(content);
            ByteBufferAccessor readable = new ByteBufferAccessor(buffer);
            header.read(readable, headerVersion);
            body.read(readable, version);
            require(!buffer.hasRemaining(), this + ": Kafka's parser leaves bytes over");
        }

        void addUnknownTags(MessageFiller filler) throws Exception {
            filler.addUnknownTags(header, headerSchema());
            filler.addUnknownTags(body, bodySchema());
        }

        void dropUnknownTags() throws Exception {
            MessageFiller.dropUnknownTags(header);
            MessageFiller.dropUnknownTags(body);
        }

        @Override
        public String toString() {
            return type.name + " v" + version + (response ? " response" : " request");
        }
    }

    // ---- corpus ----

    private void writeCorpus(Path folder) throws Exception {
        Files.createDirectories(folder);
        for (ApiMessageType type : ApiMessageType.values()) {
            if (!SPOKEN.contains(type.apiKey())) {
                continue;
            }
            short oldest = type.lowestSupportedVersion();
            short newest = type.highestSupportedVersion(true);
            for (short v : List.of(oldest, (short) ((oldest + newest) / 2), newest)) {
                Frame frame = makeFrame(type, v, false, MessageFiller.Mode.FULL);
                while (frame.write().length > 300) {
                    frame = makeFrame(type, v, false, MessageFiller.Mode.FULL);
                }
                if (v == newest) {
                    frame.addUnknownTags(filler);
                }
                Files.write(folder.resolve(type.name.toLowerCase(Locale.ROOT) + "-v" + v),
                    frame.write());
            }
        }
    }

    private static final List<Short> SPOKEN =
        List.of((short) 0, (short) 1, (short) 2, (short) 3, (short) 10, (short) 18, (short) 19,
            (short) 20, (short) 22, (short) 23, (short) 32, (short) 33, (short) 37, (short) 43,
            (short) 44, (short) 46, (short) 60, (short) 61, (short) 75);

    // ---- schemas ----

    /** Compares the dumped tables with the JSON files of the client's jar. */
    private static final class SchemaCheck {
        private final ObjectMapper mapper = JsonMapper.builder()
            .enable(JsonParser.Feature.ALLOW_COMMENTS).build();
        private int structs;
        private int fields;

        String compare(JsonNode tables) throws IOException {
            require(tables.size() > 0, "no tables");
            int last = -1;
            for (JsonNode api : tables) {
                require(api.get("key").asInt() > last, "keys do not ascend at " + api.get("key"));
                last = api.get("key").asInt();
                compareMessage(api, "Request", "requestFlexible", api.get("request"));
                compareMessage(api, "Response", "responseFlexible", api.get("response"));
            }
            return String.format("schemas: %d APIs, %d structs, %d fields equal those in the jar",
                tables.size(), structs, fields);
        }

        private void compareMessage(JsonNode api, String suffix, String flexible, JsonNode ours)
                throws IOException {
            JsonNode official = load(api.get("name").asText() + suffix);
            String name = official.get("name").asText();
            equal(name + " apiKey", api.get("key").asInt(), official.get("apiKey").asInt());
            equalVersions(name + " validVersions", api.get("validVersions"),
                official.get("validVersions"));
            equalVersions(name + " flexibleVersions", api.get(flexible),
                official.get("flexibleVersions"));
            Map<String, JsonNode> common = new LinkedHashMap<>();
            if (official.has("commonStructs")) {
                official.get("commonStructs").forEach(s -> common.put(s.get("name").asText(), s));
            }
            compareStruct(snake(name), snake(name), ours, official.get("fields"), common);
        }

        private JsonNode load(String name) throws IOException {
            String path = "/common/message/" + name + ".json";
            try (InputStream in = ApiMessage.class.getResourceAsStream(path)) {
                require(in != null, "not in the jar: " + path);
                return mapper.readTree(in);
            }
        }

        private void compareStruct(String message, String name, JsonNode ours, JsonNode official,
                                   Map<String, JsonNode> common) {
            equal("name of struct " + name, ours.get("struct").asText(), name);
            equal("number of fields of " + name, ours.get("fields").size(), official.size());
            structs++;
            for (int i = 0; i < official.size(); i++) {
                compareField(message, name, ours.get("fields").get(i), official.get(i), common);
            }
        }

        private void compareField(String message, String struct, JsonNode ours, JsonNode official,
                                  Map<String, JsonNode> common) {
            String name = snake(official.get("name").asText());
            String where = struct + "." + name + " ";
            equal(where + "name", ours.get("name").asText(), name);
            String type = official.get("type").asText();
            String element = type.startsWith("[]") ? type.substring(2) : type;
            boolean nested = Character.isUpperCase(element.charAt(0));
            equal(where + "type", ours.get("type").asText(),
                nested ? type.replace(element, "struct") : type);
            for (String key : List.of("versions", "nullableVersions", "taggedVersions")) {
                equalVersions(where + key, ours.get(key), official.get(key));
            }
            equal(where + "tag", ours.get("tag").asInt(),
                official.has("tag") ? official.get("tag").asInt() : -1);
            String value = official.has("default") ? official.get("default").asText() : "";
            boolean isNull = value.equals("null");
            equal(where + "null default", ours.get("nullDefault").asBoolean(), isNull);
            equal(where + "default", ours.get("value").asLong(), isNull ? 0 : number(value));
            fields++;
            if (nested) {
                JsonNode sub = official.has("fields") ? official : common.get(element);
                compareStruct(message, message + "_" + snake(element), ours.get("sub"),
                    sub.get("fields"), common);
            }
        }

        private static long number(String value) {
            return switch (value) {
                case "", "false" -> 0;
                case "true" -> 1;
                default -> Long.decode(value);
            };
        }

        /** "3+", "0-12", "4" or "none", which may also be left out. */
        private static void equalVersions(String what, JsonNode ours, JsonNode official) {
            equal(what, range(ours), range(official));
        }

        private static String range(JsonNode versions) {
            String text = versions == null ? "none" : versions.asText();
            return text.equals("none") || text.contains("+") || text.contains("-") ? text
                : text + "-" + text;
        }

        private static String snake(String camel) {
            return camel.replaceAll("(?<=[a-z0-9])([A-Z])", "_$1").toLowerCase(Locale.ROOT);
        }

        private static void equal(String what, Object ours, Object official) {
            require(ours.equals(official), what + ": ours " + ours + ", the schema's " + official);
        }
    }
}
