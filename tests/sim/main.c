/* main.c: `penstock-sim`: runs seeds, one process each, and says what they did and found. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "tests/sim/sim.h"
#include "tests/sim/sweep.h"

#define JOBS_MAX 64u
#define SEEDS_SHOW_ALL 20
#define SEED_CPU_SECONDS_MAX 120 /* a run that takes more hangs */

struct options {
    uint64_t first_seed, seeds_n;
    unsigned seconds, jobs, step;
    bool verbose, twice, sweep;
};

struct result { /* what a child sends up its pipe */
    struct sim_report report;
    uint64_t points; /* of a sweep */
};

struct job {
    pid_t pid;
    int from;
    uint64_t number; /* the seed, or the kind of a sweep */
};

static struct sim *running; /* in a child, for the signal handlers */

static const char usage[] =
    "penstock-sim: runs the broker on a modelled machine that fails in every way, from seeds\n"
    "  --seed N       this one, and then more with --seeds (default 1)\n"
    "  --seeds N      so many (default 1)\n"
    "  --seconds N    as many seeds as fit into so many seconds\n"
    "  --jobs N       so many at the same time (default: processors)\n"
    "  --sweep        instead: one scenario with each kind of fault at its 1st, 2nd, ... "
    "operation;\n"
    "                 --step N: only every Nth (from a place that --seed chooses)\n"
    "  --twice        each seed twice: both runs must leave the same trace\n"
    "  --verbose      the whole trace of a run to stderr; --log: the broker's log lines too\n"
    "Exit code 0: nothing was wrong. A violation prints its seed and the end of its trace.\n";

static void on_fatal(int number)
{
    if (running != NULL) {
        fprintf(stderr, "seed %" PRIu64 ": %s\n", running->seed,
                number == SIGPROF ? "it hangs" : strsignal(number));
        sim_trace_print(running);
    }
    signal(number, SIG_DFL);
    raise(number == SIGPROF ? SIGKILL : number);
}

static bool run_once(struct sim *sim, uint64_t seed, const struct options *o)
{
    if (sim_run(sim, seed, o->verbose))
        return true;
    fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, sim->model.violation);
    if (!o->verbose)
        sim_trace_print(sim);
    return false;
}

static bool seed_run(struct sim *sim, uint64_t seed, const struct options *o, struct result *ret)
{
    bool ok = run_once(sim, seed, o);
    ret->report = sim->report;
    if (!ok || !o->twice)
        return ok;
    if (run_once(sim, seed, o) && sim->report.trace_hash == ret->report.trace_hash)
        return true;
    fprintf(stderr, "seed %" PRIu64 ": the second run leaves another trace\n", seed);
    return false;
}

/* In a child. Nothing comes up the pipe when something was wrong. */
static void child_run(uint64_t number, const struct options *o, int to)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    struct result r = {0};
    const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGPROF};
    running = sim;
    for (unsigned i = 0; i < ARRAY_LEN(fatal); i++)
        signal(fatal[i], on_fatal);
    int seconds = o->sweep ? 10 * SEED_CPU_SECONDS_MAX : SEED_CPU_SECONDS_MAX;
    struct itimerval limit = {.it_value.tv_sec = seconds};
    setitimer(ITIMER_PROF, &limit, NULL);
    bool ok = o->sweep ? sim_sweep(sim, (unsigned)number, 1 + (unsigned)(o->first_seed % o->step),
                                   o->step, &r.report, &r.points)
                       : seed_run(sim, number, o, &r);
    ok = ok && write(to, &r, sizeof(r)) == (ssize_t)sizeof(r);
    _exit(ok ? 0 : 1);
}

static void job_start(struct job *j, uint64_t number, const struct options *o)
{
    int ends[2];
    if (pipe(ends) != 0) {
        perror("pipe");
        exit(2);
    }
    j->number = number;
    j->from = ends[0];
    j->pid = fork();
    if (j->pid == 0) {
        close(ends[0]);
        child_run(number, o, ends[1]);
    }
    close(ends[1]);
}

static bool job_end(struct job *j, struct result *sum, const struct options *o)
{
    struct result r;
    int status;
    bool ok = read(j->from, &r, sizeof(r)) == (ssize_t)sizeof(r);
    if (!ok)
        r.points = 0;
    close(j->from);
    waitpid(j->pid, &status, 0);
    j->pid = 0;
    ok = ok && status == 0;
    if (ok) {
        sim_report_add(&sum->report, &r.report);
        sum->points += r.points;
    }
    if (o->sweep)
        printf("%s sweep, %s: %" PRIu64 " points\n", ok ? "ok  " : "FAIL", sweep_names[j->number],
               r.points);
    else if (!ok)
        printf("FAIL seed %" PRIu64 "\n", j->number);
    fflush(stdout);
    return ok;
}

static void report_print(const struct result *sum, uint64_t runs, uint64_t failed, double real_s,
                         const struct options *o)
{
    const struct sim_report *r = &sum->report;
    static const char *const names[MEM_FAULT_KINDS] = {
        "read errors", "write errors", "short writes",      "flush errors",
        "no space",    "name errors",  "misdirected reads", "misdirected writes"};
    double virtual_s = (double)r->virtual_ns / 1e9;
    printf("%" PRIu64 " %s, %.2f virtual hours in %.1f s (%.0f virtual seconds a second)\n",
           o->sweep ? sum->points : runs, o->sweep ? "points" : "seeds", virtual_s / 3600, real_s,
           virtual_s / real_s);
    printf("  starts %" PRIu64 " (the largest reads %" PRIu64 " bytes), power cuts %" PRIu64
           ", in a start %" PRIu64 ", kills %" PRIu64 ", clean stops %" PRIu64 ", failed %" PRIu64
           "\n",
           r->starts, r->start_reads_max, r->power_cuts, r->cuts_in_start, r->kills, r->clean_stops,
           r->failed_stops);
    printf("  ");
    for (int i = 0; i < MEM_FAULT_KINDS; i++)
        printf("%s %" PRIu64 ", ", names[i], r->faults[i]);
    printf("full disks %" PRIu64 ", connection resets %" PRIu64 ", rotten sectors %" PRIu64
           ", failed directories %" PRIu64 " (partitions offline at starts %" PRIu64 ")\n",
           r->full_disks, r->connection_resets, r->rotten_files, r->failed_dirs,
           r->offline_partitions);
    printf("  acknowledged %" PRIu64 " batches, %" PRIu64 " records, %" PRIu64
           " bytes; seen by consumers %" PRIu64 " batches, audited %" PRIu64
           ", acks=1 old enough %" PRIu64 "; topics made %" PRIu64 ", deleted %" PRIu64
           ", records deleted %" PRIu64 " times\n",
           r->acked_batches, r->acked_records, r->acked_bytes, r->seen_batches, r->audited_batches,
           r->must_survive, r->topics_made, r->topics_deleted, r->deletions);
    printf("  groups: commits %" PRIu64 ", fetches %" PRIu64 ", assignments %" PRIu64
           ", expired %" PRIu64 ", stale commits refused %" PRIu64 "\n",
           r->group_commits, r->group_fetches, r->group_assignments, r->group_expired,
           r->group_stale);
    printf("  compaction: segments %" PRIu64 ", keyed records %" PRIu64 ", gone %" PRIu64
           ", read from start to end %" PRIu64 " times\n",
           r->compacted_segments, r->table_acked, r->table_gone, r->table_passes);
    printf("  received in place %" PRIu64 " MiB; partitions moved %" PRIu64 " times\n",
           r->placed_bytes >> 20, r->moves);
    if (r->lost_batches + r->refused_starts > 0)
        printf("  lost to damage: %" PRIu64
               " batches; starts refused after a misdirected write: %" PRIu64 "\n",
               r->lost_batches, r->refused_starts);
    if (r->unclean_ends > 0)
        printf("  %" PRIu64 " crashes left requests behind that no turn could end\n",
               r->unclean_ends);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", runs - failed, failed);
}

/* What a single seed need not have seen, but so many must. */
static bool seeds_show_all(const struct result *sum, uint64_t runs, const struct options *o)
{
    const struct sim_report *r = &sum->report;
    const struct {
        uint64_t seen;
        const char *what;
    } all[] = {
        {r->placed_bytes, "no batch was received in place"},
        {r->moves, "no partition moved"},
        {r->group_commits, "no group has committed anything"},
        {r->group_stale, "no stale generation was refused"},
        {r->compacted_segments, "no segment was compacted"},
        {r->table_gone, "compaction has removed no record"},
    };
    bool ok = true;
    for (size_t i = 0; i < ARRAY_LEN(all) && !o->sweep && runs >= SEEDS_SHOW_ALL; i++) {
        if (all[i].seen == 0)
            printf("FAIL %s\n", all[i].what);
        ok = ok && all[i].seen > 0;
    }
    return ok;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The next seed, or kind of sweep; false: there is no more to begin. */
static bool next_number(const struct options *o, uint64_t begun, double since_s, uint64_t *ret)
{
    static const unsigned kinds[] = {
        SWEEP_POWER_CUT,    MEM_FAULT_WRITE_EIO, MEM_FAULT_WRITE_SHORT, MEM_FAULT_FLUSH_EIO,
        MEM_FAULT_READ_EIO, MEM_FAULT_NAME_EIO,  MEM_FAULT_ENOSPC};
    *ret = o->first_seed + begun;
    if (!o->sweep)
        return o->seconds > 0 ? since_s < o->seconds : begun < o->seeds_n;
    if (begun < ARRAY_LEN(kinds))
        *ret = kinds[begun];
    return begun < ARRAY_LEN(kinds);
}

static int run_all(const struct options *o)
{
    struct job jobs[JOBS_MAX] = {0};
    struct result sum = {0};
    uint64_t begun = 0, failed = 0;
    double start_s = now_s();
    for (;;) {
        unsigned busy = 0;
        for (unsigned i = 0; i < o->jobs; i++) {
            uint64_t number;
            if (jobs[i].pid == 0 && next_number(o, begun, now_s() - start_s, &number)) {
                job_start(&jobs[i], number, o);
                begun++;
            }
            busy += jobs[i].pid != 0;
        }
        if (busy == 0)
            break;
        siginfo_t info;
        waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
        for (unsigned i = 0; i < o->jobs; i++)
            if (jobs[i].pid == info.si_pid)
                failed += !job_end(&jobs[i], &sum, o);
    }
    report_print(&sum, begun, failed, now_s() - start_s, o);
    return failed == 0 && begun > 0 && seeds_show_all(&sum, begun, o) ? 0 : 1;
}

static uint64_t number_of(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0') {
        fprintf(stderr, "penstock-sim: %s is no number\n", text);
        exit(2);
    }
    return n;
}

static void option_set(struct options *o, int option, const char *value)
{
    switch (option) {
    case 's':
        o->first_seed = number_of(value);
        return;
    case 'n':
        o->seeds_n = number_of(value);
        return;
    case 't':
        o->seconds = (unsigned)number_of(value);
        return;
    case 'j':
        o->jobs = (unsigned)number_of(value);
        return;
    case 'p':
        o->step = (unsigned)number_of(value);
        return;
    case 'w':
        o->sweep = true;
        return;
    case '2':
        o->twice = true;
        return;
    case 'v':
        o->verbose = true;
        return;
    case 'l':
        logger_level = LOG_INFO;
        return;
    default:
        fputs(usage, option == 'h' ? stdout : stderr);
        exit(option == 'h' ? 0 : 2);
    }
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 't'},
        {"jobs", required_argument, NULL, 'j'},
        {"sweep", no_argument, NULL, 'w'},
        {"step", required_argument, NULL, 'p'},
        {"twice", no_argument, NULL, '2'},
        {"verbose", no_argument, NULL, 'v'},
        {"log", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct options o = {
        .first_seed = 1, .seeds_n = 1, .step = 1, .jobs = (unsigned)MAX(processors, 1L)};
    logger_level = LOG_OFF;
    for (int option; (option = getopt_long(argc, argv, "", table, NULL)) != -1;)
        option_set(&o, option, optarg);
    o.jobs = MIN(MAX(o.jobs, 1u), JOBS_MAX);
    o.step = MAX(o.step, 1u);
    return run_all(&o);
}
