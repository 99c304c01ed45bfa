import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;

/** Prints Kafka's error codes, a line each: code, name, whether clients try again. */
public final class ErrorNames {
    private ErrorNames() {
    }

    public static void main(String[] arguments) {
        for (Errors error : Errors.values()) {
            System.out.println(error.code() + " " + error.name() + " "
                    + (error.exception() instanceof RetriableException));
        }
    }
}
