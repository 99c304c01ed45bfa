import java.util.zip.CRC32C;

/** What the tests compare: an order-free sum over values, and an order-bound chain. */
final class Digest {
    private final CRC32C crc = new CRC32C();
    private long sum;
    private long chain;

    void add(byte[] value) {
        crc.reset();
        crc.update(value, 0, value.length);
        long word = crc.getValue() + 1;
        sum += word * word;
        chain = chain * 6364136223846793005L + word;
    }

    long sum() {
        return sum;
    }

    long chain() {
        return chain;
    }
}
