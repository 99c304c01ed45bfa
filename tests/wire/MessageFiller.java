import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.record.internal.BaseRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;

/** Fills Kafka's generated message classes by reflection, with what a version's schema has. */
final class MessageFiller {
    enum Mode {
        DEFAULT, // as made
        FULL, // every field set and not null, every array with elements
        RANDOM // every field default, null, empty, extreme or anything
    }

    private static final int TAG_MAX = Integer.MAX_VALUE;
    private static final String[] WORDS = {
        "a", "topic-1", "__consumer_offsets", "\u00e4\u00f6\u00fc", "\u4e3b\u984c", "\ud83d\ude80",
        "with space and \u0000 zero", "x".repeat(126), "y".repeat(127), "z".repeat(300),
    };

    private final Random random;
    private final Map<Class<?>, Map<String, Method>> setters = new HashMap<>();
    long fieldsSet;

    MessageFiller(Random random) {
        this.random = random;
    }

    void fill(Message message, Schema schema, Mode mode) throws Exception {
        if (mode == Mode.DEFAULT) {
            return;
        }
        for (Field field : fieldsOf(schema)) {
            setField(message, field, mode);
        }
    }

    /** Plain and tagged fields of one version. */
    private static List<Field> fieldsOf(Schema schema) {
        List<Field> fields = new ArrayList<>();
        for (BoundField bound : schema.fields()) {
            if (bound.def.type instanceof TaggedFields) {
                fields.addAll(((TaggedFields) bound.def.type).fields().values());
            } else {
                fields.add(bound.def);
            }
        }
        return fields;
    }

    private void setField(Message message, Field field, Mode mode) throws Exception {
        if (mode == Mode.RANDOM && random.nextInt(8) == 0) {
            return;
        }
        Method setter = setter(message.getClass(), field.name);
        boolean makeNull = mode == Mode.RANDOM && isNullable(field) && random.nextInt(4) == 0;
        Object value = makeNull ? null
            : value(setter.getParameterTypes()[0], setter.getGenericParameterTypes()[0], field.type,
                mode);
        setter.invoke(message, value);
        fieldsSet++;
    }

    private static boolean isNullable(Field field) {
        return field.type.isNullable();
    }

    /** The setter whose name is the field's when case and underscores are ignored. */
    private Method setter(Class<?> owner, String field) {
        Map<String, Method> all = setters.computeIfAbsent(owner, c -> {
            Map<String, Method> byName = new HashMap<>();
            for (Method m : c.getMethods()) {
                if (m.getName().startsWith("set") && m.getParameterCount() == 1) {
                    byName.put(m.getName().substring(3).toLowerCase(Locale.ROOT), m);
                }
            }
            return byName;
        });
        Method setter = all.get(field.replace("_", "").toLowerCase(Locale.ROOT));
        WireCheck.require(setter != null, owner + " has no setter for " + field);
        return setter;
    }

    private Object value(Class<?> type, Type generic,
                         org.apache.kafka.common.protocol.types.Type wire, Mode mode)
            throws Exception {
        if (wire.isArray()) {
            return array(type, generic, wire.arrayElementType().get(), mode);
        }
        if (Message.class.isAssignableFrom(type)) {
            Message nested = (Message) type.getDeclaredConstructor().newInstance();
            fill(nested, (Schema) wire, mode);
            return nested;
        }
        if (BaseRecords.class.isAssignableFrom(type)) {
            return MemoryRecords.readableRecords(ByteBuffer.wrap(someBytes(mode)));
        }
        if (type == byte[].class) {
            return someBytes(mode);
        }
        if (type == ByteBuffer.class) {
            return ByteBuffer.wrap(someBytes(mode));
        }
        if (type == String.class) {
            return mode == Mode.RANDOM && random.nextInt(5) == 0 ? "" : someString();
        }
        if (type == Uuid.class) {
            return new Uuid(random.nextLong(), random.nextLong());
        }
        return primitive(type, wire.toString());
    }

    private Object primitive(Class<?> type, String wire) {
        long any = switch (random.nextInt(6)) {
            case 0 -> Long.MIN_VALUE;
            case 1 -> Long.MAX_VALUE;
            case 2 -> 1 + random.nextInt(100);
            default -> random.nextLong();
        };
        boolean highest = any == Long.MAX_VALUE;
        boolean lowest = any == Long.MIN_VALUE;
        if (type == boolean.class) {
            return random.nextInt(4) != 0;
        } else if (type == byte.class) {
            return lowest ? Byte.MIN_VALUE : highest ? Byte.MAX_VALUE : (byte) (any | 2);
        } else if (type == short.class) {
            return lowest ? Short.MIN_VALUE : highest ? Short.MAX_VALUE : (short) (any | 2);
        } else if (type == int.class) {
            return wire.equals("UINT16") ? (int) (any & 0xffff)
                : lowest ? Integer.MIN_VALUE : highest ? Integer.MAX_VALUE : (int) (any | 2);
        } else if (type == long.class) {
            return wire.equals("UINT32") ? any & 0xffffffffL : any;
        } else if (type == double.class) {
            return random.nextGaussian();
        }
        throw new AssertionError("no way to fill " + type);
    }

    private Object array(Class<?> type, Type generic,
                         org.apache.kafka.common.protocol.types.Type element, Mode mode)
            throws Exception {
        boolean nested = element instanceof Schema;
        int n = mode == Mode.FULL ? 1 + random.nextInt(3) : random.nextInt(4);
        if (mode == Mode.RANDOM && !nested && random.nextInt(20) == 0) {
            n = 126 + random.nextInt(4); // around the second byte of a compact length
        }
        Class<?> elementClass = elementClass(type, generic);
        @SuppressWarnings("unchecked")
        Collection<Object> all = type == List.class ? new ArrayList<>()
            : (Collection<Object>) type.getDeclaredConstructor().newInstance();
        for (int i = 0; i < n; i++) {
            Class<?> unboxed = UNBOXED.getOrDefault(elementClass, elementClass);
            WireCheck.require(all.add(value(unboxed, unboxed, element, mode)), "cannot add");
        }
        return all;
    }

    private static final Map<Class<?>, Class<?>> UNBOXED =
        Map.of(Byte.class, byte.class, Short.class, short.class, Integer.class, int.class,
            Long.class, long.class, Double.class, double.class, Boolean.class, boolean.class);

    /** The T of a List of T, or of a generated collection class that extends one. */
    private static Class<?> elementClass(Class<?> type, Type generic) {
        ParameterizedType list = (ParameterizedType)
            (type == List.class ? generic : type.getGenericSuperclass());
        return (Class<?>) list.getActualTypeArguments()[0];
    }

    private byte[] someBytes(Mode mode) {
        int n = mode == Mode.FULL ? 1 + random.nextInt(40) : switch (random.nextInt(8)) {
            case 0 -> 0;
            case 1 -> 126 + random.nextInt(4);
            case 2 -> random.nextInt(30000);
            default -> random.nextInt(100);
        };
        byte[] content = new byte[n];
        random.nextBytes(content);
        return content;
    }

    private String someString() {
        return random.nextInt(200) == 0 ? "l".repeat(Short.MAX_VALUE)
            : WORDS[random.nextInt(WORDS.length)];
    }

    // ---- unknown tagged fields ----

    /** To the message and all in it, wherever the version has a tag section. */
    void addUnknownTags(Message message, Schema schema) throws Exception {
        for (Field field : fieldsOf(schema)) {
            Object value = getter(message, field.name);
            org.apache.kafka.common.protocol.types.Type wire =
                field.type.isArray() ? field.type.arrayElementType().get() : field.type;
            if (wire instanceof Schema) {
                for (Object nested : value instanceof Collection<?> all ? all : asList(value)) {
                    addUnknownTags((Message) nested, (Schema) wire);
                }
            }
        }
        for (BoundField bound : schema.fields()) {
            if (bound.def.type instanceof TaggedFields && random.nextInt(3) != 0) {
                addTags(message.unknownTaggedFields(), ((TaggedFields) bound.def.type).numFields());
            }
        }
    }

    /** From the first number that the version does not know. */
    private void addTags(List<RawTaggedField> tags, int first) {
        long tag = first;
        for (int n = 1 + random.nextInt(3); n > 0 && tag < TAG_MAX; n--) {
            byte[] content = new byte[random.nextInt(6) == 0 ? 200 : random.nextInt(10)];
            random.nextBytes(content);
            tags.add(new RawTaggedField((int) tag, content));
            tag += random.nextInt(3) == 0 ? 1L + random.nextInt(TAG_MAX) : 1;
        }
    }

    private static List<Object> asList(Object value) {
        return value == null ? List.of() : List.of(value);
    }

    private static Object getter(Message message, String field) throws Exception {
        String wanted = field.replace("_", "").toLowerCase(Locale.ROOT);
        for (Method m : message.getClass().getMethods()) {
            if (m.getParameterCount() == 0 && m.getName().toLowerCase(Locale.ROOT).equals(wanted)) {
                return m.invoke(message);
            }
        }
        throw new AssertionError(message.getClass() + " has no getter for " + field);
    }

    static void dropUnknownTags(Object value) throws Exception {
        if (value instanceof Collection<?> all) {
            for (Object element : all) {
                dropUnknownTags(element);
            }
        }
        if (!(value instanceof Message)) {
            return;
        }
        ((Message) value).unknownTaggedFields().clear();
        for (Method m : value.getClass().getMethods()) {
            boolean getter = m.getParameterCount() == 0 && !m.getName().equals("duplicate")
                && (Message.class.isAssignableFrom(m.getReturnType())
                    || Collection.class.isAssignableFrom(m.getReturnType()));
            if (getter && !m.getName().equals("unknownTaggedFields")) {
                dropUnknownTags(m.invoke(value));
            }
        }
    }
}
