/* What load and floor share: time, buffers, sockets, WebSocket frames. */
#ifndef COMMON_H
#define COMMON_H

#include <stddef.h>
#include <stdint.h>

#define MAX_HEADER 10
#define CHUNK_BYTES (256 * 1024)

struct bytes {
    char *data;
    size_t length, room;
};

void put(struct bytes *to, const void *data, size_t length);
void put_text(struct bytes *to, const char *text);
void put_number(struct bytes *to, uint64_t number);
void keep_from(struct bytes *held, const char *data, size_t length);

uint64_t now_ns(void);
void *allocate(size_t bytes);

/* Say what is wrong on stderr and exit. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

int connect_tcp(int port, int is_blocking);
int listen_tcp(int port);
void set_no_delay(int fd);
void watch_fd(int epoll, int fd, uint32_t events, uint64_t tag);

/* A frame of WebSocket as the peer sent it. */
struct frame {
    int opcode, is_final, is_masked;
    char *payload;
    size_t length, total; /* of the payload; with the header */
};

/* 1: a whole frame stands at the buffer's start; 0: not yet. */
int read_frame(char *data, size_t length, struct frame *frame);
/* The header of an unmasked frame; returns its length. */
size_t write_header(char *to, int opcode, size_t length);

#endif
