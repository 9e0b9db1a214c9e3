/*
 * The load: many WebSocket clients and the publisher of their events in one program, driven over its standard input.
 *
 *     closed K WARM SECONDS     K events in flight: the next when every watcher has all of them
 *     open RATE WARM SECONDS    RATE events a second, whatever the watchers have
 *     publish N                 N events of each run, without waiting for anybody
 *     leave                     all clients go, as when a network breaks
 *     return                    they come back, each with its cursor, and are waited for until they have what they missed
 *     quit
 *
 * Each command is answered with one line of JSON; so is the first connect. A lost, repeated or misplaced event ends the
 * program with {"void": …}. `python -m bench` knows the options; they are those of `read_option`.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define PATIENCE_NS (20 * SECOND) /* without a single delivery that is due */
#define MOST_NS (120 * SECOND)     /* for all clients to arrive, however steadily they come */
#define MAX_BATCH 4096            /* events published before the clients are looked at again */

struct options options = {
    .path = "/ws/runs/%r", .watchers = 1, .first_seq = 1, .event_bytes = 200, .connecting = 400};
struct run *runs;
size_t run_count, client_count;
struct counters counters;
uint64_t pending, sampled_from_ns;
int samples_all, epoll;
static size_t next_run;
static int is_away; /* the clients have left */

struct moment {
    uint64_t ns, server_ns, redis_ns, load_ns;
    uint64_t busy_ns; /* of all cores, whoever used them */
    struct counters counters;
};

void fail(const char *format, ...)
{
    char reason[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    for (char *at = reason; *at; at++) /* what a server said may hold anything */
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ')
            *at = '\'';
    printf("{\"void\": \"%s\"}\n", reason);
    fflush(stdout);
    exit(1);
}

/* ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t read_clock(clockid_t clock)
{
    struct timespec spent;
    if (clock_gettime(clock, &spent) < 0)
        fail("a measured process has gone");
    return (uint64_t)spent.tv_sec * SECOND + (uint64_t)spent.tv_nsec;
}

static uint64_t read_cpu(const int *pids, int count)
{
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        clockid_t clock;
        if (clock_getcpuclockid(pids[i], &clock))
            fail("process %d has gone", pids[i]);
        sum += read_clock(clock);
    }
    return sum;
}

/* user + nice + system + irq + softirq + steal, in the kernel's ticks of 10 ms. */
static uint64_t read_busy(void)
{
    unsigned long long user, nice, system, idle, waiting, irq, softirq, steal;
    FILE *file = fopen("/proc/stat", "r");
    if (!file || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &waiting,
                        &irq, &softirq, &steal) != 8)
        fail("/proc/stat isn't what it was");
    fclose(file);
    return (user + nice + system + irq + softirq + steal) * (SECOND / (uint64_t)sysconf(_SC_CLK_TCK));
}

static struct moment read_moment(void)
{
    return (struct moment){
        .ns = now_ns(),
        .server_ns = read_cpu(options.server_pids, options.server_pid_count),
        .redis_ns = read_cpu(options.redis_pids, options.redis_pid_count),
        .load_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID),
        .busy_ns = read_busy(),
        .counters = counters,
    };
}

static double in_seconds(uint64_t ns)
{
    return (double)ns / (double)SECOND;
}

/* Seconds from the first connect until the last client had come that far. */
static double taken(uint64_t at_ns)
{
    return at_ns ? in_seconds(at_ns - arrival.began_ns) : 0;
}

/* ── The loop ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void turn(uint64_t wait_ns)
{
    static struct epoll_event events[1024];
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / SECOND), .tv_nsec = (long)(wait_ns % SECOND)};
    int count = epoll_pwait2(epoll, events, 1024, &wait, NULL);
    if (count < 0 && errno != EINTR)
        fail("epoll: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == TAG_PUBLISHER)
            receive_replies();
        else
            handle_client(events[i].data.u64 - TAG_FIRST_CLIENT, events[i].events);
    }
}

static void wait_until_zero(const uint64_t *left)
{
    uint64_t seen = *left, at = now_ns();
    while (*left) {
        turn(SECOND);
        if (*left != seen)
            seen = *left, at = now_ns();
        else if (now_ns() - at > PATIENCE_NS)
            fail("%llu deliveries never came", (unsigned long long)*left);
    }
}

static void wait_for_all(const size_t *count, const char *what)
{
    size_t seen = *count;
    uint64_t at = now_ns();
    while (*count < client_count) {
        turn(SECOND);
        if (*count != seen)
            seen = *count, at = now_ns();
        if (now_ns() - at > PATIENCE_NS || now_ns() - arrival.began_ns > MOST_NS)
            fail("only %zu of %zu clients are %s after %.0f s", *count, client_count, what, taken(now_ns()));
    }
}

static void publish_next(uint64_t stamp_ns)
{
    publish_event(&runs[next_run], stamp_ns);
    pending += is_away ? 0 : (uint64_t)options.watchers;
    next_run = next_run + 1 == run_count ? 0 : next_run + 1;
}

/* What neither the server nor Redis nor the load has used: a machine that does other work measures that, too. */
static double used_by_others(const struct moment *from, const struct moment *to)
{
    double ours = in_seconds(to->server_ns - from->server_ns) + in_seconds(to->redis_ns - from->redis_ns) +
                  in_seconds(to->load_ns - from->load_ns);
    double others = in_seconds(to->busy_ns - from->busy_ns) - ours;
    return others > 0 ? others : 0;
}

/* ── What is measured ───────────────────────────────────────────────────────────────────────────────────────────── */

static void report(const char *phase, const struct moment *from, const struct moment *to)
{
    double wall = in_seconds(to->ns - from->ns), server = in_seconds(to->server_ns - from->server_ns);
    uint64_t deliveries = to->counters.deliveries - from->counters.deliveries;
    printf("{\"phase\": \"%s\", \"published\": %llu, \"deliveries\": %llu, \"wall_s\": %.6f, \"server_cpu_s\": %.6f, "
           "\"redis_cpu_s\": %.6f, \"load_cpu_s\": %.6f, \"others_cpu_s\": %.6f, \"reads\": %llu, \"bytes\": %llu, \"controls\": %llu, "
           "\"samples\": %llu, \"p50_ms\": %.4f, \"p90_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, "
           "\"publisher_lag_max_ms\": %.4f}\n",
           phase, (unsigned long long)(to->counters.published - from->counters.published),
           (unsigned long long)deliveries, wall, server, in_seconds(to->redis_ns - from->redis_ns),
           in_seconds(to->load_ns - from->load_ns), used_by_others(from, to),
           (unsigned long long)(to->counters.reads - from->counters.reads),
           (unsigned long long)(to->counters.bytes - from->counters.bytes),
           (unsigned long long)(to->counters.controls - from->counters.controls),
           (unsigned long long)count_latencies(), (double)find_percentile(0.5) / 1e6,
           (double)find_percentile(0.9) / 1e6, (double)find_percentile(0.99) / 1e6, (double)find_greatest() / 1e6,
           (double)to->counters.lag_max_ns / 1e6);
    fflush(stdout);
}

static struct moment begin(void)
{
    clear_latencies();
    counters.lag_max_ns = 0;
    sampled_from_ns = now_ns();
    return read_moment();
}

static void finish(const char *phase, const struct moment *from)
{
    wait_until_zero(&pending);
    struct moment to = read_moment();
    require_all_in_step();
    report(phase, from, &to);
}

static void measure_closed(unsigned in_flight, double warm_s, double seconds)
{
    uint64_t from_ns = now_ns() + (uint64_t)(warm_s * 1e9), to_ns = from_ns + (uint64_t)(seconds * 1e9);
    struct moment from = {0};
    samples_all = 0;
    for (uint64_t now = now_ns(); now < to_ns || !from.ns; now = now_ns()) {
        if (now >= from_ns && !from.ns)
            from = begin();
        for (unsigned i = 0; i < in_flight; i++)
            publish_next(now_ns());
        flush_publisher();
        wait_until_zero(&pending);
    }
    finish("closed", &from);
}

static void measure_open(double rate, double warm_s, double seconds)
{
    uint64_t start_ns = now_ns(), from_ns = start_ns + (uint64_t)(warm_s * 1e9);
    uint64_t to_ns = from_ns + (uint64_t)(seconds * 1e9), count = 0;
    double gap_ns = 1e9 / rate;
    struct moment from = {0};
    samples_all = 1;
    for (;;) {
        uint64_t due_ns = start_ns + (uint64_t)((double)count * gap_ns), now = now_ns();
        if (now >= from_ns && !from.ns)
            from = begin();
        if (due_ns >= to_ns)
            break;
        for (int batch = 0; due_ns <= now && batch < MAX_BATCH; batch++) {
            if (now - due_ns > counters.lag_max_ns)
                counters.lag_max_ns = now - due_ns;
            publish_next(now_ns());
            due_ns = start_ns + (uint64_t)((double)++count * gap_ns);
        }
        flush_publisher();
        now = now_ns();
        turn(due_ns > now ? due_ns - now : 0);
    }
    finish("open", &from);
}

static void publish_to_each(uint64_t count)
{
    struct moment from = begin();
    for (uint64_t i = 0; i < count * run_count; i++) {
        publish_next(now_ns());
        if (i % 1000 == 999) {
            flush_publisher();
            turn(0);
        }
    }
    flush_publisher();
    wait_until_zero(&pending);
    struct moment to = read_moment();
    report("publish", &from, &to);
}

static void arrive(const char *phase)
{
    struct moment from = begin();
    open_clients();
    wait_for_all(&arrival.greeted, "greeted");
    wait_for_all(&arrival.whole, "whole");
    struct moment to = read_moment();
    printf("{\"phase\": \"%s\", \"clients\": %zu, \"deliveries\": %llu, \"connected_s\": %.6f, \"upgraded_s\": %.6f, "
           "\"greeted_s\": %.6f, \"whole_s\": %.6f, \"server_cpu_s\": %.6f, \"redis_cpu_s\": %.6f, "
           "\"load_cpu_s\": %.6f, \"others_cpu_s\": %.6f, \"wall_s\": %.6f}\n",
           phase, client_count, (unsigned long long)(to.counters.deliveries - from.counters.deliveries),
           taken(arrival.connected_ns), taken(arrival.upgraded_ns), taken(arrival.greeted_ns), taken(arrival.whole_ns),
           in_seconds(to.server_ns - from.server_ns), in_seconds(to.redis_ns - from.redis_ns),
           in_seconds(to.load_ns - from.load_ns), used_by_others(&from, &to), in_seconds(to.ns - from.ns));
    fflush(stdout);
}

/* From now on nobody is there to get what is published. */
static void leave(void)
{
    drop_clients();
    is_away = 1;
    printf("{\"phase\": \"leave\"}\n");
    fflush(stdout);
}

static void come_back(void)
{
    is_away = 0;
    arrive("return");
}

/* ── From the outside ───────────────────────────────────────────────────────────────────────────────────────────── */

static void read_runs(void)
{
    FILE *file = fopen(options.runs ? options.runs : "", "r");
    char line[RUN_ID_BYTES];
    size_t room = 0;
    if (!file)
        die("--runs names no file");
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (run_count == room) {
            room = room ? 2 * room : 64;
            runs = realloc(runs, room * sizeof *runs);
        }
        strcpy(runs[run_count].id, line);
        runs[run_count++].sent = options.first_seq - 1;
    }
    fclose(file);
    if (!run_count)
        die("there are no runs");
}

static void add_pid(int *pids, int *count, int room, const char *value)
{
    if (*count == room)
        die("too many processes to measure");
    pids[(*count)++] = atoi(value);
}

static void read_option(const char *name, const char *value)
{
    if (!strcmp(name, "--port"))
        options.port = atoi(value);
    else if (!strcmp(name, "--path"))
        options.path = value;
    else if (!strcmp(name, "--protocol"))
        options.protocol = value;
    else if (!strcmp(name, "--runs"))
        options.runs = value;
    else if (!strcmp(name, "--watchers"))
        options.watchers = atoi(value);
    else if (!strcmp(name, "--wire"))
        options.wire = !strcmp(value, "nats") ? WIRE_NATS : !strcmp(value, "socketio") ? WIRE_SOCKETIO :
                       !strcmp(value, "nchan") ? WIRE_NCHAN : WIRE_PLAIN;
    else if (!strcmp(name, "--hello") && options.hellos < MAX_WORDS)
        options.hello[options.hellos++] = value;
    else if (!strcmp(name, "--greeting"))
        options.greeting = value;
    else if (!strcmp(name, "--publish-port"))
        options.publish_port = atoi(value);
    else if (!strcmp(name, "--publish") && options.publish_words < MAX_WORDS)
        options.publish[options.publish_words++] = value;
    else if (!strcmp(name, "--publish-raw"))
        options.publish_raw = value;
    else if (!strcmp(name, "--first-seq"))
        options.first_seq = strtoull(value, NULL, 10);
    else if (!strcmp(name, "--missed"))
        options.missed = strtoull(value, NULL, 10);
    else if (!strcmp(name, "--event-bytes"))
        options.event_bytes = strtoull(value, NULL, 10);
    else if (!strcmp(name, "--connecting"))
        options.connecting = atoi(value);
    else if (!strcmp(name, "--server-pid"))
        add_pid(options.server_pids, &options.server_pid_count, 64, value);
    else if (!strcmp(name, "--redis-pid"))
        add_pid(options.redis_pids, &options.redis_pid_count, 8, value);
    else
        die("unknown option %s", name);
}

static int obey(const char *line)
{
    unsigned in_flight;
    unsigned long long count;
    double rate, warm_s, seconds;
    if (sscanf(line, "closed %u %lf %lf", &in_flight, &warm_s, &seconds) == 3)
        measure_closed(in_flight, warm_s, seconds);
    else if (sscanf(line, "open %lf %lf %lf", &rate, &warm_s, &seconds) == 3)
        measure_open(rate, warm_s, seconds);
    else if (sscanf(line, "publish %llu", &count) == 1)
        publish_to_each(count);
    else if (!strncmp(line, "leave", 5))
        leave();
    else if (!strncmp(line, "return", 6))
        come_back();
    else if (!strncmp(line, "quit", 4))
        return 0;
    else
        die("unknown command %s", line);
    return 1;
}

/* Clients are answered while nothing is asked for: a server's pings and heartbeats go on. */
static int await_command(char *line, size_t room)
{
    static struct bytes input;
    for (;;) {
        char part[256], *end = input.length ? memchr(input.data, '\n', input.length) : NULL;
        if (end) {
            size_t length = (size_t)(end - input.data);
            snprintf(line, room, "%.*s", (int)length, input.data);
            keep_from(&input, end + 1, input.length - length - 1);
            return 1;
        }
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 == TAG_CONTROL) {
                ssize_t size = read(STDIN_FILENO, part, sizeof part);
                if (size <= 0)
                    return 0;
                put(&input, part, (size_t)size);
            } else if (events[i].data.u64 == TAG_PUBLISHER)
                receive_replies();
            else
                handle_client(events[i].data.u64 - TAG_FIRST_CLIENT, events[i].events);
        }
    }
}

int main(int count, char **arguments)
{
    char line[256];
    for (int i = 1; i + 1 < count; i += 2)
        read_option(arguments[i], arguments[i + 1]);
    prctl(PR_SET_TIMERSLACK, 1);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    read_runs();
    create_clients();
    open_publisher();
    arrive("arrive");
    while (watch_fd(epoll, STDIN_FILENO, EPOLLIN, TAG_CONTROL), await_command(line, sizeof line)) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        if (!obey(line))
            break;
    }
    drop_clients();
    return 0;
}
