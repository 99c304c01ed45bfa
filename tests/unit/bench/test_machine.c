#include "bench/machine.h"

#include <criterion/criterion.h>
#include <json-c/json.h>
#include <string.h>
#include <unistd.h>

static const char *text_of(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : "(absent)";
}

Test(machine, is_the_one_that_the_system_tells_of)
{
    struct machine m;
    char hostname[256];
    machine_describe(&m);
    gethostname(hostname, sizeof(hostname));
    cr_assert_str_eq(m.hostname, hostname);
    cr_assert_eq(m.cpus_online, (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
    cr_assert_eq(m.memory_bytes,
                 (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    cr_assert_eq(strlen(m.boot_id), 36, "%s", m.boot_id);
    cr_assert_str_not_empty(m.kernel_release);
    cr_assert_str_not_empty(m.clocksource);
    struct json_object *o = machine_json(&m);
    cr_assert_str_eq(text_of(o, "hostname"), hostname);
    cr_assert_str_eq(text_of(o, "kernel"), m.kernel_release);
    cr_assert_str_eq(text_of(o, "boot_id"), m.boot_id);
    cr_assert_eq((unsigned)json_object_get_int(json_object_object_get(o, "cpus_online")),
                 m.cpus_online);
    json_object_put(o);
}

#ifdef __x86_64__
Test(machine, tells_the_cpu_and_whether_it_is_a_virtual_one)
{
    struct machine m;
    machine_describe(&m);
    cr_assert_str_not_empty(m.cpu_model);
    cr_assert_eq(strpbrk(m.cpu_model, "\n\t"), NULL);
    cr_assert(m.hypervisor_known);
    /* CPUID says the same thing: leaf 1, ECX bit 31. */
    unsigned eax = 1, ebx, ecx, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    cr_assert_eq(m.hypervisor, (ecx >> 31) == 1);
}
#endif

Test(machine, what_is_unknown_is_absent)
{
    struct machine m = {.hostname = "a"};
    struct json_object *o = machine_json(&m);
    cr_assert_eq(json_object_object_length(o), 1);
    cr_assert_str_eq(text_of(o, "hostname"), "a");
    json_object_put(o);
}
