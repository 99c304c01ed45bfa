#include "bench/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/json_doc.h"
#include "core/base/bytes.h"

static void line_read(const char *path, char *ret, size_t len_bytes)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    if (fgets(ret, (int)len_bytes, f) == NULL)
        ret[0] = '\0';
    fclose(f);
    ret[strcspn(ret, "\n")] = '\0';
}

/* "key\t: value" lines; the first CPU speaks for all. The flag is one of x86 only. */
static void cpuinfo_read(struct machine *m)
{
    char line[8192];
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (f == NULL)
        return;
    while (!m->hypervisor_known && fgets(line, sizeof(line), f) != NULL) {
        const char *value = strchr(line, ':');
        if (value == NULL)
            continue;
        line[strcspn(line, "\n")] = '\0';
        value += strspn(value, ": ");
        if (strncmp(line, "model name", strlen("model name")) == 0)
            snprintf(m->cpu_model, sizeof(m->cpu_model), "%s", value);
        m->hypervisor_known = strncmp(line, "flags", strlen("flags")) == 0;
        m->hypervisor = m->hypervisor_known && strstr(value, " hypervisor") != NULL;
    }
    fclose(f);
}

void machine_describe(struct machine *ret)
{
    struct machine m = {0};
    struct utsname names;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES);
    if (uname(&names) == 0) {
        snprintf(m.hostname, sizeof(m.hostname), "%s", names.nodename);
        snprintf(m.architecture, sizeof(m.architecture), "%s", names.machine);
        snprintf(m.kernel_release, sizeof(m.kernel_release), "%s", names.release);
    }
    m.cpus_online = cpus > 0 ? (unsigned)cpus : 0;
    m.memory_bytes = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
    cpuinfo_read(&m);
    line_read("/sys/devices/system/clocksource/clocksource0/current_clocksource", m.clocksource,
              sizeof(m.clocksource));
    line_read("/proc/sys/kernel/random/boot_id", m.boot_id, sizeof(m.boot_id));
    *ret = m;
}

struct json_object *machine_json(const struct machine *m)
{
    struct json_doc doc = {0};
    struct json_object *o = json_doc_object(&doc);
    const struct {
        const char *key, *value;
    } texts[] = {{"hostname", m->hostname},       {"architecture", m->architecture},
                 {"kernel", m->kernel_release},   {"cpu_model", m->cpu_model},
                 {"clocksource", m->clocksource}, {"boot_id", m->boot_id}};
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].value[0] != '\0')
            json_doc_put_text(&doc, o, texts[i].key, texts[i].value);
    if (m->cpus_online > 0)
        json_doc_put_uint(&doc, o, "cpus_online", m->cpus_online);
    if (m->memory_bytes > 0)
        json_doc_put_uint(&doc, o, "memory_bytes", m->memory_bytes);
    if (m->hypervisor_known)
        json_doc_put_bool(&doc, o, "hypervisor", m->hypervisor);
    return json_doc_finish(&doc, o);
}
