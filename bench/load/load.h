/* The parts of the load program: who publishes, who watches, and what is counted. */
#ifndef LOAD_H
#define LOAD_H

#include "common.h"

#define MAX_WORDS 32
#define RUN_ID_BYTES 72

enum wire { WIRE_PLAIN, WIRE_SOCKETIO, WIRE_NATS, WIRE_NCHAN };

struct options {
    int port, publish_port;
    const char *path;                  /* of the handshake; %r is the run, %a-%c the cursor, %o a peer's own */
    const char *protocol;              /* … and its subprotocol, if there is one */
    const char *runs;                  /* a file with one run id a line */
    int watchers;                      /* of each run */
    enum wire wire;
    const char *hello[MAX_WORDS];      /* what a client says first, as frames */
    int hellos;
    const char *greeting;              /* what is in the frame after which a client is sure to hear everything */
    /* The words of the Redis command that publishes, or the bytes that do in another protocol. Besides the above: %e is
     * the event, %l its length, %t the event as a MessagePack string, %m as a MessagePack map; \\r, \\n and \\xHH. */
    const char *publish[MAX_WORDS];
    int publish_words;
    const char *publish_raw;
    uint64_t first_seq;                /* of the next event of each run */
    uint64_t missed;                   /* events before it that clients have yet to get when they connect */
    size_t event_bytes;
    int connecting;                    /* clients on their way in at once */
    int server_pids[64], server_pid_count;
    int redis_pids[8], redis_pid_count;
};

struct run {
    char id[RUN_ID_BYTES];
    uint64_t sent; /* seq of the last event published */
};

/* What is counted while a measurement is going on. */
struct counters {
    uint64_t published, deliveries, controls, reads, bytes;
    uint64_t lag_max_ns; /* the load's own: how late it published */
};

extern struct options options;
extern struct run *runs;
extern size_t run_count, client_count;
extern struct counters counters;
extern uint64_t pending;           /* deliveries that are still to come */
extern int samples_all;            /* every delivery's latency is taken, else only that of a burst's last event */
extern uint64_t sampled_from_ns;   /* events published before this are not sampled */
extern int epoll;

/* Print {"void": …} and exit: what was measured doesn't count. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

/* Latencies */
void record_latency(uint64_t ns);
void clear_latencies(void);
uint64_t find_percentile(double share);
uint64_t find_greatest(void);
uint64_t count_latencies(void);

/* The publisher */
#define TAG_PUBLISHER 0
#define TAG_CONTROL 1
#define TAG_FIRST_CLIENT 2
void open_publisher(void);
void publish_event(struct run *run, uint64_t stamp_ns);
void flush_publisher(void);
void receive_replies(void);
/* Write `format` with the run's id for %r, a seq for %c, its attempt for %a, and a peer's own cursor for %o. */
void put_template(struct bytes *to, const char *format, const char *run_id, uint64_t seq, const char *offset);

/* The clients */
struct arrival {
    size_t connected, upgraded, greeted, whole;
    uint64_t began_ns, connected_ns, upgraded_ns, greeted_ns, whole_ns; /* when the last of them was */
};
extern struct arrival arrival;
void create_clients(void);
void open_clients(void);
void drop_clients(void);
void handle_client(size_t index, uint32_t events);
void require_all_in_step(void);

#endif
