/* log_report.h: a finding in words and as a row. Threads: one. */
#ifndef TOOLS_LOG_REPORT_H
#define TOOLS_LOG_REPORT_H

#include "tools/log_check.h"

struct json_object *finding_row(const struct log_finding *f);
void finding_text(const struct log_finding *f); /* one line on stdout */

#endif
