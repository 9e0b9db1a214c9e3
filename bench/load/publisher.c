/*
 * The publisher: writes events into Redis (or another broker) over one connection, pipelined, and reads the answers
 * only to see whether one is an error.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
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
static void put_event(struct bytes *to, const struct run *run, uint64_t stamp_ns)
{
    struct bytes tail = {0};
    static struct bytes kept;
    tail = kept, tail.length = 0;
    put_text(&tail, "\"},\"ts\":\"2026-01-01T00:00:00.000Z\",\"runId\":\"");
    put_text(&tail, run->id);
    put_text(&tail, "\",\"seq\":");
    put_number(&tail, run->sent);
    put_text(&tail, ",\"attempt\":1}");
    kept = tail;
    size_t start = to->length;
    put_text(to, "{\"type\":\"message_delta\",\"payload\":{\"messageId\":\"m\",\"t\":");
    put_number(to, stamp_ns);
    put_text(to, ",\"delta\":\"");
    size_t used = to->length - start + tail.length;
    put_padding(to, options.event_bytes > used ? options.event_bytes - used : 1);
    put(to, tail.data, tail.length);
}

static void put_escape(struct bytes *to, char letter)
{
    char escaped = letter == 'r' ? '\r' : letter == 'n' ? '\n' : letter;
    put(to, &escaped, 1);
}

void put_template(struct bytes *to, const char *format, const char *run_id, uint64_t number, const struct bytes *text)
{
    for (const char *at = format; *at; at++) {
        if (*at == '\\' && at[1])
            put_escape(to, *++at);
        else if (*at != '%' || !at[1])
            put(to, at, 1);
        else if (*++at == 'r')
            put_text(to, run_id);
        else if (*at == 'c' || *at == 's')
            put_number(to, number);
        else if (*at == 'a') /* seq 1 tells that a run is queued, before any attempt at it */
            put_text(to, number <= 1 ? "0" : "1");
        else if (*at == 'e')
            put(to, text->data, text->length);
        else if (*at == 'l')
            put_number(to, text->length);
        else
            put(to, at, 1);
    }
}

void publish_event(struct run *run, uint64_t stamp_ns)
{
    static struct bytes text, word;
    run->sent++;
    text.length = 0;
    put_event(&text, run, stamp_ns);
    counters.published++;
    if (options.publish_raw) {
        put_template(&out, options.publish_raw, run->id, run->sent, &text);
        return;
    }
    put_text(&out, "*");
    put_number(&out, (uint64_t)options.publish_words);
    for (int i = 0; i < options.publish_words; i++) {
        word.length = 0;
        put_template(&word, options.publish[i], run->id, run->sent, &text);
        put_text(&out, "\r\n$");
        put_number(&out, word.length);
        put_text(&out, "\r\n");
        put(&out, word.data, word.length);
    }
    put_text(&out, "\r\n");
}

/* Never waits for the broker to take it all: its answers have to be read meanwhile, or both would wait for ever. */
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
