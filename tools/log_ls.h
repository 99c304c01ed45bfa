/* log_ls.h: the document of `penstock log ls` as text. Threads: one. */
#ifndef TOOLS_LOG_LS_H
#define TOOLS_LOG_LS_H

#include <json-c/json.h>

void ls_text(const struct json_object *document);

#endif
