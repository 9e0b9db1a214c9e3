/*
 * The watchers: connect, shake hands, say hello, and then check that every event comes once and in order. One gap,
 * repetition or step back and what is measured is void.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEQ_WITHIN 80 /* an event's seq stands near its end, whatever it is wrapped in */
#define OPCODE_TEXT 1
#define OPCODE_BINARY 2
#define OPCODE_CLOSE 8
#define OPCODE_PING 9
#define OPCODE_PONG 10

enum state { CLOSED, CONNECTING, UPGRADING, GREETING, LIVE };

struct client {
    int fd;
    uint32_t run;
    enum state state;
    uint64_t next;          /* the seq that has to come now */
    struct bytes held;      /* the start of a frame that isn't whole */
    struct bytes inner;     /* NATS: the start of a message that isn't whole */
    char session[32], offset[32]; /* who it was and what it has seen, in the server's own words, for when it comes back */
};

struct arrival arrival;
static struct client *clients;
static size_t opened;       /* clients that have begun to connect */
static char chunk[CHUNK_BYTES];
static uint64_t read_at_ns;

static void open_more(void);

void create_clients(void)
{
    client_count = run_count * (size_t)options.watchers;
    clients = allocate(client_count * sizeof *clients);
    for (size_t i = 0; i < client_count; i++) {
        clients[i].run = (uint32_t)(i % run_count);
        clients[i].next = options.first_seq - options.missed;
    }
}

void open_clients(void)
{
    memset(&arrival, 0, sizeof arrival);
    arrival.began_ns = now_ns();
    opened = 0;
    open_more();
}

/* Not all at once: a listener's backlog is finite, and what is dropped there comes again a second later. */
static void open_more(void)
{
    while (opened < client_count && opened - arrival.upgraded < (size_t)options.connecting) {
        struct client *client = &clients[opened];
        client->fd = connect_tcp(options.port, 0);
        client->state = CONNECTING;
        watch_fd(epoll, client->fd, EPOLLOUT, TAG_FIRST_CLIENT + opened);
        opened++;
    }
}

static void close_client(struct client *client)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0}; /* a reset: no port is left waiting */
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(client->fd);
    client->state = CLOSED;
    client->held.length = client->inner.length = 0;
}

void drop_clients(void)
{
    for (size_t i = 0; i < client_count; i++)
        close_client(&clients[i]);
}

void require_all_in_step(void)
{
    for (size_t i = 0; i < client_count; i++)
        if (clients[i].next != runs[clients[i].run].sent + 1)
            fail("client %zu of run %s stands at %llu, %llu were published", i, runs[clients[i].run].id,
                 (unsigned long long)clients[i].next - 1, (unsigned long long)runs[clients[i].run].sent);
}

static void note_arrival(size_t *count, uint64_t *at_ns)
{
    if (++*count == client_count)
        *at_ns = now_ns();
}

static void send_frame(struct client *client, int opcode, const char *text, size_t length)
{
    static struct bytes frame;
    char header[MAX_HEADER + 4];
    size_t size = write_header(header, opcode, length);
    header[1] |= (char)0x80;
    memset(header + size, 0, 4); /* masked with zeros: the same bytes */
    frame.length = 0;
    put(&frame, header, size + 4);
    put(&frame, text, length);
    if (send(client->fd, frame.data, frame.length, MSG_NOSIGNAL) != (ssize_t)frame.length)
        fail("a server doesn't take what its client says: %s", strerror(errno));
}

static void send_handshake(struct client *client)
{
    static struct bytes request;
    const char *id = runs[client->run].id;
    request.length = 0;
    put_text(&request, "GET ");
    put_template(&request, options.path, id, client->next - 1, client->offset);
    put_text(&request, " HTTP/1.1\r\nHost: 127.0.0.1:");
    put_number(&request, (uint64_t)options.port);
    put_text(&request, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    if (options.protocol) {
        put_text(&request, "Sec-WebSocket-Protocol: ");
        put_text(&request, options.protocol);
        put_text(&request, "\r\n");
    }
    put_text(&request, "\r\n");
    if (send(client->fd, request.data, request.length, MSG_NOSIGNAL) != (ssize_t)request.length)
        fail("a handshake can't be sent: %s", strerror(errno));
}

static void become_whole_if_so(const struct client *client)
{
    if (client->next == runs[client->run].sent + 1)
        note_arrival(&arrival.whole, &arrival.whole_ns);
}

static void become_live(struct client *client)
{
    client->state = LIVE;
    note_arrival(&arrival.greeted, &arrival.greeted_ns);
    become_whole_if_so(client);
}

static void join_socketio(struct client *client)
{
    char text[256];
    int length = snprintf(text, sizeof text, "40{\"run\":\"%s\"", runs[client->run].id);
    if (client->session[0])
        length += snprintf(text + length, sizeof text - (size_t)length, ",\"pid\":\"%s\",\"offset\":\"%s\"",
                           client->session, client->offset);
    length += snprintf(text + length, sizeof text - (size_t)length, "}");
    send_frame(client, OPCODE_TEXT, text, (size_t)length);
}

static void say_hello(struct client *client)
{
    static struct bytes text;
    client->state = GREETING;
    note_arrival(&arrival.upgraded, &arrival.upgraded_ns);
    if (options.wire == WIRE_SOCKETIO)
        join_socketio(client);
    for (int i = 0; i < options.hellos; i++) {
        text.length = 0;
        put_template(&text, options.hello[i], runs[client->run].id, client->next - 1, client->offset);
        send_frame(client, options.wire == WIRE_NATS ? OPCODE_BINARY : OPCODE_TEXT, text.data, text.length);
    }
    if (!options.greeting)
        become_live(client);
    open_more();
}

static uint64_t read_number_after(const char *text, size_t length, const char *name, size_t name_length)
{
    const char *at = memmem(text, length, name, name_length), *end = text + length;
    uint64_t number = 0;
    if (!at)
        return 0;
    for (at += name_length; at < end && *at >= '0' && *at <= '9'; at++)
        number = number * 10 + (uint64_t)(*at - '0');
    return number;
}

static void sample_latency(const struct client *client, uint64_t seq, const char *text, size_t length)
{
    if (!samples_all && seq != runs[client->run].sent)
        return;
    uint64_t stamp_ns = read_number_after(text, length, "\"t\":", 4);
    if (stamp_ns >= sampled_from_ns && read_at_ns > stamp_ns)
        record_latency(read_at_ns - stamp_ns);
}

/* Fast path: looked for from the end, for an event is 200 bytes and millions of them come in a second. */
static uint64_t find_seq(const char *text, size_t length)
{
    const char *end = text + length, *first = length < SEQ_WITHIN ? text : end - SEQ_WITHIN;
    for (const char *at = end - 7; at >= first; at--)
        if (*at == '"' && !memcmp(at, "\"seq\":", 6))
            return strtoull(at + 6, NULL, 10);
    return 0;
}

static void receive_control(struct client *client, const char *text, size_t length)
{
    counters.controls++;
    if (memmem(text, length, "\"snapshot\"", 10) || memmem(text, length, "\"rewind\"", 8))
        fail("client of run %s was told to jump: %.*s", runs[client->run].id, (int)length, text);
    if (client->state == GREETING && memmem(text, length, options.greeting, strlen(options.greeting)))
        become_live(client);
}

static void receive_text(struct client *client, const char *text, size_t length)
{
    uint64_t seq = find_seq(text, length);
    if (!seq) {
        receive_control(client, text, length);
        return;
    }
    if (seq != client->next)
        fail("client %zu of run %s: expected seq %llu, got %llu", (size_t)(client - clients), runs[client->run].id,
             (unsigned long long)client->next, (unsigned long long)seq);
    client->next++;
    counters.deliveries++;
    if (pending)
        pending--;
    sample_latency(client, seq, text, length);
    if (arrival.whole < client_count && client->state == LIVE)
        become_whole_if_so(client);
}

/* What stands between `from` and the next `stop`, if it fits. */
static void copy_until(char *to, size_t room, char stop, const char *from, const char *end)
{
    const char *found = memchr(from, stop, (size_t)(end - from));
    size_t length = found ? (size_t)(found - from) : room;
    if (length < room) {
        memcpy(to, from, length);
        to[length] = 0;
    }
}

/* Engine.IO's ping, the answer to the join, and events: 42["event",{…}] or, where they are kept, 42["event",{…},"OFFSET"] */
static void receive_socketio(struct client *client, const char *text, size_t length)
{
    static const char name[] = "\"pid\":\"";
    const char *end = text + length, *pid;
    if (length == 1 && text[0] == '2') {
        send_frame(client, OPCODE_TEXT, "3", 1);
        return;
    }
    if (length > 2 && text[1] == '0' && (pid = memmem(text, length, name, sizeof name - 1)))
        copy_until(client->session, sizeof client->session, '"', pid + sizeof name - 1, end);
    if (client->session[0] && length > 8 && end[-2] == '"') {
        const char *quote = memrchr(text, '"', length - 2);
        copy_until(client->offset, sizeof client->offset, '"', quote + 1, end);
    }
    receive_text(client, text, length);
}

/* Nchan: lines of which the first is the message's id, an empty one, the message. */
static void receive_nchan(struct client *client, const char *text, size_t length)
{
    const char *end = text + length, *body = memmem(text, length, "\n\n", 2);
    if (length > 4 && !memcmp(text, "id: ", 4) && body) {
        copy_until(client->offset, sizeof client->offset, '\n', text + 4, end);
        receive_text(client, body + 2, (size_t)(end - body) - 2);
    } else {
        receive_text(client, text, length);
    }
}

/* Lines, and after MSG <subject> <id> [reply] <bytes> a payload; frames cut them anywhere. */
static void receive_nats(struct client *client, const char *data, size_t length)
{
    put(&client->inner, data, length);
    char *at = client->inner.data, *end = at + client->inner.length, *line_end;
    while ((line_end = memchr(at, '\n', (size_t)(end - at)))) {
        size_t size = 0, line = (size_t)(line_end - at) + 1;
        if (!memcmp(at, "MSG ", 4)) {
            char *digits = memrchr(at, ' ', line);
            size = strtoul(digits, NULL, 10);
            if ((size_t)(end - line_end - 1) < size + 2)
                break;
            receive_text(client, line_end + 1, size);
            size += 2;
        } else if (!memcmp(at, "PING", 4)) {
            send_frame(client, OPCODE_BINARY, "PONG\r\n", 6);
        } else {
            if (at[0] == '-')
                fail("NATS says %.*s", (int)line, at);
            receive_control(client, at, line);
        }
        at = line_end + 1 + size;
    }
    keep_from(&client->inner, at, (size_t)(end - at));
}

static void receive_frame(struct client *client, struct frame *frame)
{
    if (frame->opcode == OPCODE_PING) {
        send_frame(client, OPCODE_PONG, frame->payload, frame->length);
    } else if (frame->opcode == OPCODE_CLOSE) {
        int code = frame->length >= 2 ? (unsigned char)frame->payload[0] << 8 | (unsigned char)frame->payload[1] : 0;
        fail("a server closed with %d %.*s", code, frame->length > 2 ? (int)frame->length - 2 : 0, frame->payload + 2);
    } else if (frame->opcode == OPCODE_PONG) {
        return;
    } else if (options.wire == WIRE_NATS) {
        receive_nats(client, frame->payload, frame->length);
    } else if (!frame->is_final) {
        fail("a server sends an event in fragments");
    } else if (options.wire == WIRE_SOCKETIO) {
        receive_socketio(client, frame->payload, frame->length);
    } else if (options.wire == WIRE_NCHAN) {
        receive_nchan(client, frame->payload, frame->length);
    } else {
        receive_text(client, frame->payload, frame->length);
    }
}

/* The bytes of the answer's head. 0 if it isn't whole. */
static size_t read_answer(char *data, size_t length)
{
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (length < 12 || memcmp(data + 8, " 101", 4))
        fail("a handshake is answered with %.*s", (int)strcspn(data, "\r"), data);
    return (size_t)(end - data) + 4;
}

static size_t consume(struct client *client, char *data, size_t length)
{
    struct frame frame;
    size_t used = 0;
    if (client->state == UPGRADING) {
        used = read_answer(data, length);
        if (!used)
            return 0;
        say_hello(client);
    }
    while (read_frame(data + used, length - used, &frame)) {
        receive_frame(client, &frame);
        used += frame.total;
    }
    return used;
}

static void receive(struct client *client)
{
    size_t held = client->held.length;
    if (held)
        memcpy(chunk, client->held.data, held);
    ssize_t count = held < sizeof chunk ? recv(client->fd, chunk + held, sizeof chunk - held, 0) : 0;
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0)
        fail("a server ended a connection: %s", count ? strerror(errno) : "closed");
    read_at_ns = now_ns();
    counters.reads++;
    counters.bytes += (uint64_t)count;
    size_t length = held + (size_t)count, used = consume(client, chunk, length);
    keep_from(&client->held, chunk + used, length - used);
}

void handle_client(size_t index, uint32_t events)
{
    struct client *client = &clients[index];
    if (client->state == CLOSED)
        return;
    if (client->state != CONNECTING) {
        receive(client);
        return;
    }
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error || !(events & EPOLLOUT))
        fail("a server can't be reached: %s", strerror(error));
    note_arrival(&arrival.connected, &arrival.connected_ns);
    client->state = UPGRADING;
    watch_fd(epoll, client->fd, EPOLLIN, TAG_FIRST_CLIENT + index);
    send_handshake(client);
}
