import java.io.File;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramIterationValue;
import org.HdrHistogram.HistogramLogReader;

/** Reads a log with HdrHistogram's own reader: LOG PERCENTILE... Answers as hist_write.c does. */
final class HdrReadback {
    private static String[] percentiles;

    private static long digest(Histogram h) {
        long sum = 0;
        for (HistogramIterationValue v : h.recordedValues()) {
            sum = (sum * 31 + v.getValueIteratedTo()) * 31 + v.getCountAtValueIteratedTo();
        }
        return sum;
    }

    private static void say(String tag, String field, Object value) {
        System.out.println(tag + " " + field + " " + value);
    }

    private static void sayAll(String tag, Histogram h) {
        say(tag, "count", h.getTotalCount());
        say(tag, "min", h.getMinValue());
        say(tag, "max", h.getMaxValue());
        say(tag, "mean", h.getMean());
        say(tag, "stddev", h.getStdDeviation());
        say(tag, "digest", Long.toUnsignedString(digest(h)));
        say(tag, "start_ms", h.getStartTimeStamp());
        for (String p : percentiles) {
            say(tag, "p" + p, h.getValueAtPercentile(Double.parseDouble(p)));
        }
    }

    public static void main(String[] arguments) throws Exception {
        percentiles = java.util.Arrays.copyOfRange(arguments, 1, arguments.length);
        try (HistogramLogReader reader = new HistogramLogReader(new File(arguments[0]))) {
            while (reader.hasNext()) {
                Histogram h = (Histogram) reader.nextIntervalHistogram();
                if (h != null) {
                    sayAll(h.getTag(), h);
                }
            }
        }
    }
}
