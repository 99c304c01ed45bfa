import java.util.SplittableRandom;

/**
 * The sum (see Digest) of the values that ProducerPerformance sends: it fills each record with
 * random capitals from a generator that it always seeds with 0.
 * Arguments: RECORDS RECORD_SIZE. Prints "sum S".
 */
public final class PerfPayloads {
    public static void main(String[] args) {
        long records = Long.parseLong(args[0]);
        byte[] payload = new byte[Integer.parseInt(args[1])];
        SplittableRandom random = new SplittableRandom(0);
        Digest digest = new Digest();
        for (long i = 0; i < records; i++) {
            for (int j = 0; j < payload.length; j++) {
                payload[j] = (byte) (random.nextInt(26) + 65);
            }
            digest.add(payload);
        }
        System.out.println("sum " + digest.sum());
    }
}
