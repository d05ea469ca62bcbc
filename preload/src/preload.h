/*
 * libshunt.so: an unmodified server's accept() and accept4() return sessions
 * that Shunt's agent hands over, beside the connections of its own listener.
 * docs/preload.md says how, and what the agent's side is: agent/attach/preload.go.
 *
 * No thread, no allocation, no lock: what all functions share is written when
 * the program starts and when it calls listen(), and is read afterwards.
 */
#ifndef SHUNT_PRELOAD_H
#define SHUNT_PRELOAD_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

enum {
	MAX_QUEUES = 8,       /* ports in SHUNT_PRELOAD */
	MAX_PATH = 96,        /* of a socket, octets; its neighbours' names are longer */
	TCP_BACKLOG = 1024,   /* the least for a listener of ours */
	QUEUE_BACKLOG = 4096, /* sessions that wait for an accept() */
	MAX_FRAME = 1024,     /* as in internal/handoffproto */
	HIGH_FD = 200,        /* queues' descriptors are above, low numbers are left to the program */
	PATIENCE_MS = 1000,   /* for an agent that has begun to hand a session over */
};

/* Sessions of IPv4 and of IPv6 wait in queues of their own: a listener must not
 * return what its kind of socket could not have accepted. */
enum family { IPV4, IPV6, FAMILIES };

/* A queue is a listening Unix-domain socket per family. */
struct queue {
	in_port_t port; /* of the TCP listeners whose accept() returns its sessions; host order */
	char path[FAMILIES][MAX_PATH + 8];
	_Atomic int fd[FAMILIES]; /* -1: not open in this process */
	dev_t dev[FAMILIES];
	ino_t ino[FAMILIES];
};

/* The functions that the program would have called without this library. */
struct libc {
	int (*accept)(int, struct sockaddr *, socklen_t *);
	int (*accept4)(int, struct sockaddr *, socklen_t *, int);
	int (*listen)(int, int);
	int (*execve)(const char *, char *const *, char *const *);
};

#define EXPORT __attribute__((visibility("default")))

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage storage;
};

/* interpose.c */
extern struct libc libc_;
void resolve(void);

/* config.c */
extern struct queue queues[MAX_QUEUES];
extern int queue_count;
void configure(const char *text);
struct queue *queue_of(int fd, union address *local);
void complain(const char *what, const char *which, int error);

/* queue.c */
void open_queues(struct queue *q, int listener, const union address *local);
void adopt_queue(int fd);
enum taken { TAKEN, NOTHING, FAILED };
enum taken take(int queue, int *knock, int flags, const struct timespec *deadline, int *session, union address *client);
int remaining_ms(const struct timespec *deadline);

/* inherit.c */
enum { MAX_OPTIONS = 24 };
struct inherited {
	union {
		int number;
		struct linger linger;
		struct timeval time;
		char name[16];
	} value[MAX_OPTIONS];
	socklen_t size[MAX_OPTIONS]; /* 0: the socket has no such option */
};
void remember(int from, struct inherited *options);
void inherit(int to, const struct inherited *options);

#endif
