#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void *allocate(size_t bytes)
{
    void *room = calloc(1, bytes ? bytes : 1);
    if (!room)
        die("out of memory");
    return room;
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void put(struct bytes *to, const void *data, size_t length)
{
    if (to->length + length > to->room) {
        to->room = (to->length + length) * 2;
        to->data = realloc(to->data, to->room);
        if (!to->data)
            die("out of memory");
    }
    memcpy(to->data + to->length, data, length);
    to->length += length;
}

void put_text(struct bytes *to, const char *text)
{
    put(to, text, strlen(text));
}

void put_number(struct bytes *to, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    put(to, digits + at, sizeof digits - at);
}

/* `data` may lie in `held` itself. */
void keep_from(struct bytes *held, const char *data, size_t length)
{
    if (held->data && data >= held->data && data < held->data + held->room) {
        memmove(held->data, data, length);
        held->length = length;
        return;
    }
    held->length = 0;
    if (length)
        put(held, data, length);
}

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

void set_no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int connect_tcp(int port, int is_blocking)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (is_blocking ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        die("can't connect to port %d: %s", port, strerror(errno));
    set_no_delay(fd);
    return fd;
}

int listen_tcp(int port)
{
    struct sockaddr_in address = loopback(port);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        die("can't listen on port %d: %s", port, strerror(errno));
    return fd;
}

void watch_fd(int epoll, int fd, uint32_t events, uint64_t tag)
{
    struct epoll_event event = {.events = events, .data.u64 = tag};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) < 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll: %s", strerror(errno));
}

static void unmask(char *payload, size_t length, const char *key)
{
    for (size_t i = 0; i < length; i++)
        payload[i] ^= key[i & 3];
}

int read_frame(char *data, size_t length, struct frame *frame)
{
    const unsigned char *head = (const unsigned char *)data;
    if (length < 2)
        return 0;
    size_t header = 2, size = head[1] & 0x7f;
    size_t extra = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (length < header + extra)
        return 0;
    if (extra) {
        size = 0;
        for (size_t i = 0; i < extra; i++)
            size = size << 8 | head[header + i];
        header += extra;
    }
    frame->is_masked = head[1] >> 7;
    header += frame->is_masked ? 4 : 0;
    if (length < header || length - header < size)
        return 0;
    frame->opcode = head[0] & 0x0f;
    frame->is_final = head[0] >> 7;
    frame->payload = data + header;
    frame->length = size;
    frame->total = header + size;
    if (frame->is_masked)
        unmask(frame->payload, size, data + header - 4);
    return 1;
}

size_t write_header(char *to, int opcode, size_t length)
{
    to[0] = (char)(0x80 | opcode);
    if (length < 126) {
        to[1] = (char)length;
        return 2;
    }
    size_t extra = length < 65536 ? 2 : 8;
    to[1] = extra == 2 ? 126 : 127;
    for (size_t i = 0; i < extra; i++)
        to[2 + i] = (char)(length >> 8 * (extra - 1 - i));
    return 2 + extra;
}
