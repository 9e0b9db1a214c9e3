/*
 * The floor: the least that a WebSocket fan-out can cost on this kernel. One epoll loop, one Redis connection, one
 * shared frame per event and one send() per event and client; with --join one send() per client and chunk read from
 * Redis. No history, no heartbeats, no slow clients: a send that doesn't go through at once ends the program.
 *
 *     floor PORT REDIS_PORT [--join]
 */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUCKETS 65536
#define LISTENER 0
#define REDIS 1
#define FIRST_CLIENT 2
#define MAX_FD 65536

struct channel {
    char *name; /* run:ID */
    size_t length;
    int *clients;
    size_t count, room;
    int is_wanted, is_acknowledged; /* SUBSCRIBE was sent; Redis has answered */
    struct bytes frames; /* what this chunk brought */
    struct channel *next, *next_ready;
};

static struct channel *table[BUCKETS], *ready, *watched_by[MAX_FD];
static int epoll, redis, joins;
static char chunk[CHUNK_BYTES];

/* ── SHA-1, for the handshake alone ─────────────────────────────────────────────────────────────────────────────── */

static uint32_t rotate(uint32_t value, int by)
{
    return value << by | value >> (32 - by);
}

static void hash_block(uint32_t state[5], const unsigned char *block)
{
    static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++)
        w[i] = i < 16 ? (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                            (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3]
                      : rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t mixed = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t next = rotate(a, 5) + mixed + e + constants[i / 20] + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* The key and its fixed suffix are 60 bytes: with the padding two blocks. */
static void sign_key(const char *key, char *accept)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    unsigned char blocks[128] = {0}, hash[21] = {0};
    memcpy(blocks, key, 24);
    memcpy(blocks + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    blocks[60] = 0x80, blocks[126] = 480 >> 8, blocks[127] = 480 & 0xff;
    hash_block(state, blocks);
    hash_block(state, blocks + 64);
    for (int i = 0; i < 20; i++)
        hash[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)hash[3 * i] << 16 | (uint32_t)hash[3 * i + 1] << 8 | hash[3 * i + 2];
        for (int j = 0; j < 4; j++)
            accept[4 * i + j] = digits[three >> (18 - 6 * j) & 63];
    }
    accept[27] = '=', accept[28] = 0;
}

/* ── Clients ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void send_whole(int fd, const char *data, size_t length)
{
    if (send(fd, data, length, MSG_NOSIGNAL) != (ssize_t)length && errno != EPIPE && errno != ECONNRESET)
        die("a client is too slow for the floor");
}

static struct channel *find_channel(const char *name, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    struct channel **at = &table[hash % BUCKETS];
    while (*at && ((*at)->length != length || memcmp((*at)->name, name, length)))
        at = &(*at)->next;
    if (!*at) {
        *at = allocate(sizeof **at);
        (*at)->name = strndup(name, length);
        (*at)->length = length;
    }
    return *at;
}

static void greet(int fd, const struct channel *channel)
{
    static const char format[] =
        "{\"type\":\"run_status\",\"payload\":{\"status\":\"connected\"},\"ts\":\"2026-01-01T00:00:00.000Z\",\"runId\":\"%s\"}";
    char text[512], frame[sizeof text + MAX_HEADER];
    int length = snprintf(text, sizeof text, format, channel->name + 4);
    size_t header = write_header(frame, 1, (size_t)length);
    memcpy(frame + header, text, (size_t)length);
    send_whole(fd, frame, header + (size_t)length);
}

static void join_channel(int fd, struct channel *channel)
{
    if (channel->count == channel->room) {
        channel->room = channel->room ? 2 * channel->room : 1;
        channel->clients = realloc(channel->clients, channel->room * sizeof(int));
    }
    channel->clients[channel->count++] = fd;
    watched_by[fd] = channel;
    if (channel->is_acknowledged)
        greet(fd, channel);
    if (!channel->is_wanted) {
        channel->is_wanted = 1;
        struct bytes command = {0};
        put_text(&command, "*2\r\n$9\r\nSUBSCRIBE\r\n$");
        put_number(&command, channel->length);
        put_text(&command, "\r\n");
        put_text(&command, channel->name);
        put_text(&command, "\r\n");
        if (write(redis, command.data, command.length) != (ssize_t)command.length)
            die("Redis doesn't take a command");
        free(command.data);
    }
}

static void leave(int fd)
{
    struct channel *channel = watched_by[fd];
    for (size_t i = 0; channel && i < channel->count; i++)
        if (channel->clients[i] == fd)
            channel->clients[i] = channel->clients[--channel->count];
    watched_by[fd] = NULL;
    close(fd);
}

/* GET /ws/runs/ID HTTP/1.1 … Sec-WebSocket-Key: … */
static void upgrade(int fd, char *request)
{
    static const char prefix[] = "GET /ws/runs/", field[] = "\r\nSec-WebSocket-Key: ";
    char *key = strcasestr(request, field), accept[29], answer[256], name[128];
    if (strncmp(request, prefix, sizeof prefix - 1) || !key)
        die("what came isn't a handshake");
    char *id = request + sizeof prefix - 1;
    int size = snprintf(name, sizeof name, "run:%.*s", (int)strcspn(id, " ?"), id);
    sign_key(key + sizeof field - 1, accept);
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    send_whole(fd, answer, (size_t)length);
    join_channel(fd, find_channel(name, (size_t)size));
}

static void receive_from_client(int fd)
{
    ssize_t count = recv(fd, chunk, sizeof chunk - 1, 0);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN)
            leave(fd);
        return;
    }
    chunk[count] = 0;
    if (chunk[0] == 'G') /* a frame's first byte never is: what clients say later is of no interest */
        upgrade(fd, chunk);
}

static void accept_clients(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MAX_FD)
            die("too many clients");
        set_no_delay(fd);
        watch_fd(epoll, fd, EPOLLIN, FIRST_CLIENT + (uint64_t)fd);
    }
}

/* ── Redis ──────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void send_to_all(const struct channel *channel, const char *data, size_t length)
{
    for (size_t i = 0; i < channel->count; i++)
        send_whole(channel->clients[i], data, length);
}

static void publish(struct channel *channel, const char *text, size_t length)
{
    char header[MAX_HEADER];
    size_t size = write_header(header, 1, length);
    if (!channel->frames.length && joins) {
        channel->next_ready = ready;
        ready = channel;
    }
    put(&channel->frames, header, size);
    put(&channel->frames, text, length);
    if (!joins) {
        send_to_all(channel, channel->frames.data, channel->frames.length);
        channel->frames.length = 0;
    }
}

static void flush_ready(void)
{
    for (; ready; ready = ready->next_ready) {
        send_to_all(ready, ready->frames.data, ready->frames.length);
        ready->frames.length = 0;
    }
}

static void acknowledge(struct channel *channel)
{
    channel->is_acknowledged = 1;
    for (size_t i = 0; i < channel->count; i++)
        greet(channel->clients[i], channel);
}

/* A number's line: *3, $11, :1. NULL if it isn't whole. */
static char *read_number(char *at, char *end, long *number)
{
    char *line_end = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    if (line_end)
        *number = strtol(at + 1, NULL, 10);
    return line_end ? line_end + 1 : NULL;
}

static char *read_string(char *at, char *end, char **text, size_t *length)
{
    long size;
    at = read_number(at, end, &size);
    if (!at || end - at < size + 2)
        return NULL;
    *text = at, *length = (size_t)size;
    return at + size + 2;
}

/* One push of Pub/Sub: *3, the kind, the channel, and the message or a count. NULL if it isn't whole. */
static char *receive_push(char *at, char *end)
{
    long count;
    char *kind, *name, *text;
    size_t kind_length, name_length, length;
    if (at < end && *at == '-')
        die("Redis: %.*s", (int)(end - at), at);
    if (!(at = read_number(at, end, &count)) || !(at = read_string(at, end, &kind, &kind_length)) ||
        !(at = read_string(at, end, &name, &name_length)))
        return NULL;
    if (kind[0] != 'm') {
        at = read_number(at, end, &count);
        if (at)
            acknowledge(find_channel(name, name_length));
        return at;
    }
    at = read_string(at, end, &text, &length);
    if (at)
        publish(find_channel(name, name_length), text, length);
    return at;
}

static void receive_from_redis(void)
{
    static struct bytes held;
    ssize_t count = recv(redis, chunk, sizeof chunk, 0);
    if (count <= 0)
        die("Redis has gone");
    put(&held, chunk, (size_t)count);
    char *at = held.data, *end = held.data + held.length, *next;
    while ((next = receive_push(at, end)))
        at = next;
    keep_from(&held, at, (size_t)(end - at));
    flush_ready();
}

int main(int count, char **arguments)
{
    struct epoll_event events[1024];
    if (count < 3)
        die("floor PORT REDIS_PORT [--join]");
    joins = count > 3 && !strcmp(arguments[3], "--join");
    epoll = epoll_create1(EPOLL_CLOEXEC);
    redis = connect_tcp(atoi(arguments[2]), 1);
    int listener = listen_tcp(atoi(arguments[1]));
    watch_fd(epoll, listener, EPOLLIN, LISTENER);
    watch_fd(epoll, redis, EPOLLIN, REDIS);
    for (;;) {
        int ready_count = epoll_wait(epoll, events, 1024, -1);
        for (int i = 0; i < ready_count; i++) {
            uint64_t tag = events[i].data.u64;
            if (tag == LISTENER)
                accept_clients(listener);
            else if (tag == REDIS)
                receive_from_redis();
            else
                receive_from_client((int)(tag - FIRST_CLIENT));
        }
    }
}
