/*
 * The publisher: writes events into Redis (or another broker) over one connection, pipelined, and reads the answers
 * only to see whether one is an error.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static int publisher = -1;
static struct bytes out, answers;

void open_publisher(void)
{
    publisher = connect_tcp(options.publish_port, 1);
    watch_fd(epoll, publisher, EPOLLIN, TAG_PUBLISHER);
}

static void put_padding(struct bytes *to, size_t length)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog and goes on until the event is long enough ";
    while (length) {
        size_t part = length < sizeof words - 1 ? length : sizeof words - 1;
        put(to, words, part);
        length -= part;
    }
}

/* An event as a worker writes it; the stamp stands before the text, where a reader finds it soon. */
struct event {
    const struct run *run;
    uint64_t stamp_ns;
    struct bytes text, delta;
};

static const char timestamp[] = "2026-01-01T00:00:00.000Z";

static void put_json(struct event *event)
{
    static struct bytes tail;
    tail.length = 0;
    put_text(&tail, "\"},\"ts\":\"");
    put_text(&tail, timestamp);
    put_text(&tail, "\",\"runId\":\"");
    put_text(&tail, event->run->id);
    put_text(&tail, "\",\"seq\":");
    put_number(&tail, event->run->sent);
    put_text(&tail, ",\"attempt\":1}");
    event->text.length = event->delta.length = 0;
    put_text(&event->text, "{\"type\":\"message_delta\",\"payload\":{\"messageId\":\"m\",\"t\":");
    put_number(&event->text, event->stamp_ns);
    put_text(&event->text, ",\"delta\":\"");
    size_t used = event->text.length + tail.length;
    put_padding(&event->delta, options.event_bytes > used ? options.event_bytes - used : 1);
    put(&event->text, event->delta.data, event->delta.length);
    put(&event->text, tail.data, tail.length);
}

/* MessagePack, for those who wrap events in it: as a string, and as the map that the JSON says. */
static void put_packed_text(struct bytes *to, const char *text, size_t length)
{
    char header[3] = {(char)0xda, (char)(length >> 8), (char)length};
    put(to, header, sizeof header);
    put(to, text, length);
}

static void put_packed_word(struct bytes *to, const char *word)
{
    put_packed_text(to, word, strlen(word));
}

static void put_packed_number(struct bytes *to, uint64_t number)
{
    char packed[9] = {(char)0xcf};
    for (int i = 0; i < 8; i++)
        packed[1 + i] = (char)(number >> 8 * (7 - i));
    put(to, packed, sizeof packed);
}

static void put_packed_map(struct bytes *to, const struct event *event)
{
    put(to, "\x86", 1);
    put_packed_word(to, "type");
    put_packed_word(to, "message_delta");
    put_packed_word(to, "payload");
    put(to, "\x83", 1);
    put_packed_word(to, "messageId");
    put_packed_word(to, "m");
    put_packed_word(to, "t");
    put_packed_number(to, event->stamp_ns);
    put_packed_word(to, "delta");
    put_packed_text(to, event->delta.data, event->delta.length);
    put_packed_word(to, "ts");
    put_packed_word(to, timestamp);
    put_packed_word(to, "runId");
    put_packed_word(to, event->run->id);
    put_packed_word(to, "seq");
    put_packed_number(to, event->run->sent);
    put_packed_word(to, "attempt");
    put(to, "\x01", 1);
}

/* \r, \n and \xHH; returns the escape's last letter. */
static const char *put_escape(struct bytes *to, const char *at)
{
    char byte = *at == 'r' ? '\r' : *at == 'n' ? '\n' : *at;
    if (*at == 'x') {
        char digits[3] = {at[1], at[2], 0};
        byte = (char)strtoul(digits, NULL, 16);
        at += 2;
    }
    put(to, &byte, 1);
    return at;
}

static void put_field(struct bytes *to, char field, const char *run_id, uint64_t seq)
{
    if (field == 'r')
        put_text(to, run_id);
    else if (field == 'c')
        put_number(to, seq);
    else if (field == 'a') /* seq 1 tells that a run is queued, before any attempt at it */
        put_text(to, seq <= 1 ? "0" : "1");
    else
        put(to, &field, 1);
}

static void put_event_field(struct bytes *to, char field, const struct event *event)
{
    if (field == 'e')
        put(to, event->text.data, event->text.length);
    else if (field == 'l')
        put_number(to, event->text.length);
    else if (field == 't')
        put_packed_text(to, event->text.data, event->text.length);
    else if (field == 'm')
        put_packed_map(to, event);
    else
        put_field(to, field, event->run->id, event->run->sent);
}

void put_template(struct bytes *to, const char *format, const char *run_id, uint64_t seq, const char *offset)
{
    for (const char *at = format; *at; at++) {
        if (*at == '%' && at[1] == 'o')
            put_text(to, offset), at++;
        else if (*at == '%' && at[1])
            put_field(to, *++at, run_id, seq);
        else
            put(to, at, 1);
    }
}

static void put_event_template(struct bytes *to, const char *format, const struct event *event)
{
    for (const char *at = format; *at; at++) {
        if (*at == '\\' && at[1])
            at = put_escape(to, at + 1);
        else if (*at == '%' && at[1])
            put_event_field(to, *++at, event);
        else
            put(to, at, 1);
    }
}

void publish_event(struct run *run, uint64_t stamp_ns)
{
    static struct event event;
    static struct bytes word;
    run->sent++;
    event.run = run, event.stamp_ns = stamp_ns;
    put_json(&event);
    counters.published++;
    if (options.publish_raw) {
        put_event_template(&out, options.publish_raw, &event);
        return;
    }
    put_text(&out, "*");
    put_number(&out, (uint64_t)options.publish_words);
    for (int i = 0; i < options.publish_words; i++) {
        word.length = 0;
        put_event_template(&word, options.publish[i], &event);
        put_text(&out, "\r\n$");
        put_number(&out, word.length);
        put_text(&out, "\r\n");
        put(&out, word.data, word.length);
    }
    put_text(&out, "\r\n");
}

void flush_publisher(void)
{
    if (!out.length)
        return;
    ssize_t count = send(publisher, out.data, out.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN)
        fail("the broker has gone: %s", strerror(errno));
    if (count > 0)
        keep_from(&out, out.data + count, out.length - (size_t)count);
    watch_fd(epoll, publisher, out.length ? EPOLLIN | EPOLLOUT : EPOLLIN, TAG_PUBLISHER);
}

static void check_line(const char *line, size_t length)
{
    if (line[0] == '-')
        fail("the broker says %.*s", (int)length, line);
    if (length >= 4 && !memcmp(line, "PING", 4)) { /* NATS asks whether its client lives */
        put_text(&out, "PONG\r\n");
        flush_publisher();
    }
    if (length > 9 && !memcmp(line, "HTTP/1.", 7) && line[9] != '2')
        fail("the broker says %.*s", (int)length, line);
    if (length >= 7 && (!memcmp(line, "missing", 7) || (length >= 6 && !memcmp(line, "fenced", 6))))
        fail("the log doesn't take an event: %.*s", (int)length, line);
}

void receive_replies(void)
{
    static char chunk[65536];
    flush_publisher();
    ssize_t count = recv(publisher, chunk, sizeof chunk, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0)
        fail("the broker has closed the connection");
    put(&answers, chunk, (size_t)count);
    char *at = answers.data, *end = answers.data + answers.length, *line_end;
    while ((line_end = memchr(at, '\n', (size_t)(end - at)))) {
        check_line(at, (size_t)(line_end - at));
        at = line_end + 1;
    }
    keep_from(&answers, at, (size_t)(end - at));
}
