#include "tools/client_errors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"

static const struct {
    int16_t code;
    bool is_retriable;
    const char *name;
} errors[] = {
#define X(name, code, retriable) {code, retriable, #name},
    CLIENT_ERRORS(X)
#undef X
};

static const int retriable_errnos[] = {ECONNREFUSED, ECONNRESET,   ECONNABORTED, EPIPE,
                                       ETIMEDOUT,    EHOSTUNREACH, ENETUNREACH};

static int error_index(int rc)
{
    for (unsigned i = 0; i < ARRAY_LEN(errors); i++)
        if (client_rc(errors[i].code) == rc)
            return (int)i;
    return -1;
}

const char *client_rc_name(int rc)
{
    static char unknown[32];
    int i = error_index(rc);
    if (i >= 0)
        return errors[i].name;
    if (!client_rc_is_answer(rc))
        return strerror(-rc);
    snprintf(unknown, sizeof(unknown), "error code %d", CLIENT_RC_BASE - rc);
    return unknown;
}

bool client_rc_is_retriable(int rc)
{
    int i = error_index(rc);
    if (i >= 0)
        return errors[i].is_retriable;
    for (unsigned at = 0; at < ARRAY_LEN(retriable_errnos); at++)
        if (rc == -retriable_errnos[at])
            return true;
    return false;
}
