/* What each number of the report means; bench/README.md says it at length. */
#include "bench/report_sections.h"

#include "core/base/bytes.h"

static const struct {
    const char *term, *meaning;
} terms[] = {
    {"asked, intended", "The schedule decides beforehand when each record is to be sent, and does "
                        "not wait for the broker (an open loop). Asked is its rate."},
    {"ack, from the intended time",
     "From the moment the schedule meant a record to be sent until the broker acknowledged it. A "
     "stall of the broker is counted in full for every record that was due during it."},
    {"ack, from the send",
     "From the moment the record was really sent. It is what a closed loop reports: where it is "
     "far "
     "below the former, records waited to be sent, and a closed loop would have hidden that."},
    {"end to end",
     "From the intended time until a consumer on the same host had the record. Clocks "
     "of two hosts are never compared."},
    {"p50, p99, p99.9, max",
     "Of all values in the window, so many percent were no higher; max is the highest one. "
     "Percentiles are of merged histograms with three significant digits, never averages of "
     "percentiles. In time series, each point is of its own interval only."},
    {"acked, read; MiB/s",
     "Records acknowledged to producers, and read by consumers, divided by the "
     "window's length; MiB are of the records' keys and values."},
    {"warm-up, measured",
     "The measured window begins when the run's steady-state test says so. What was before is not "
     "in the measured numbers, and is shown beside them. In time series it is shaded."},
    {"baseline, replay, recovery",
     "Before, while, and after a late consumer reads the log from its "
     "start."},
    {"INVALID", "The run broke a rule that its numbers depend on (the reason is given): they are "
                "shown, but are not to be relied on."},
    {"lateness", "How much later than intended the generator itself got round to a record. When it "
                 "is not small against the latencies, the generator was the limit."},
    {"lost, duplicated, reordered, corrupt",
     "Every record carries its producer, sequence number, time and checksum; consumers hold them "
     "against what was acknowledged. Incidents name partition and offset."},
    {"broker CPU s/GiB", "CPU seconds, user and system, of the broker's process for each GiB of "
                         "records acknowledged, over the measured window."},
    {"share of the limits",
     "What was reached, divided by what the raw device, or TCP alone, did on "
     "this machine in the same run."},
    {"ratio", "B divided by A, for runs that followed each other. The bar is the median, the "
              "whisker goes from the lowest pair to the highest; when it crosses 1, the pairs "
              "disagree and no difference is claimed."},
    {"highest rate; at least, at most",
     "The rate at which the percentile stays under the bound, and the interval in which it lies "
     "with the stated confidence, by all trials together."},
    {"\xe2\x80\x93", "Not measured. It is not zero."},
};

void report_section_legend(struct report_view *view)
{
    fputs("<section><h2>What each number means</h2>\n<dl>\n", view->out);
    for (size_t i = 0; i < ARRAY_LEN(terms); i++)
        fprintf(view->out, "<dt>%s</dt><dd>%s</dd>\n", terms[i].term, terms[i].meaning);
    fputs("</dl>\n<p class=\"sub\">Numbers are rounded to three digits; each carries its place in "
          "the result file and its exact digits (data-path, data-value).</p></section>\n",
          view->out);
}
