/* assert.h: ASSERT is always on and is for our own bugs; operating errors are returned instead. */
#ifndef CORE_BASE_ASSERT_H
#define CORE_BASE_ASSERT_H

_Noreturn void assert_failed(const char *expr, const char *file, int line, const char *func);

#define ASSERT(expr)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!(expr), 0))                                                          \
            assert_failed(#expr, __FILE__, __LINE__, __func__);                                    \
    } while (0)

#endif
