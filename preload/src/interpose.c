/* The functions that a preloaded program calls in the place of libc's. */
#include "preload.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

struct libc libc_;

/* A knock comes from this address, or from ::1, and from a port that only a
 * privileged process can have, and says this. */
enum { KNOCK_ADDRESS = 0x7f534854 /* 127.83.72.84 */, PRIVILEGED = 1024 };
static const char magic[8] = "shunt\0k1";

/* resolve may run before this library's constructor, in that of another one. */
void resolve(void)
{
	if (libc_.accept != NULL)
		return;
	libc_.accept4 = (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
	libc_.listen = (int (*)(int, int))dlsym(RTLD_NEXT, "listen");
	libc_.execve = (int (*)(const char *, char *const *, char *const *))dlsym(RTLD_NEXT, "execve");
	libc_.accept = (int (*)(int, struct sockaddr *, socklen_t *))dlsym(RTLD_NEXT, "accept");
}

EXPORT int listen(int fd, int backlog)
{
	union address local;

	resolve();
	int error = errno;
	struct queue *q = queue_count > 0 ? queue_of(fd, &local) : NULL;
	errno = error;
	if (q == NULL)
		return libc_.listen(fd, backlog);
	/* Knocks and the program's own connections share this backlog. */
	if (libc_.listen(fd, backlog < TCP_BACKLOG ? TCP_BACKLOG : backlog) != 0)
		return -1;
	open_queues(q, fd, &local);
	errno = error;
	return 0;
}

/* knock_family tells whether a peer's address is a knock's, and of which
 * family; FAMILIES if it is not. */
static enum family knock_family(const union address *peer)
{
	const struct in6_addr *a = &peer->in6.sin6_addr;
	uint32_t v4;

	switch (peer->any.sa_family) {
	case AF_INET:
		v4 = peer->in.sin_addr.s_addr;
		break;
	case AF_INET6:
		if (IN6_IS_ADDR_LOOPBACK(a))
			return ntohs(peer->in6.sin6_port) < PRIVILEGED ? IPV6 : FAMILIES;
		if (!IN6_IS_ADDR_V4MAPPED(a))
			return FAMILIES;
		v4 = a->s6_addr32[3];
		break;
	default:
		return FAMILIES;
	}
	/* Both kinds of address have the port at the same place. */
	return v4 == htonl(KNOCK_ADDRESS) && ntohs(peer->in.sin_port) < PRIVILEGED ? IPV4 : FAMILIES;
}

enum said { KNOCK, WITHDRAWN, OTHER };

/* hear waits for what the peer says first. The agent says it when the session
 * is in the queue. */
static enum said hear(int c, const struct timespec *deadline)
{
	struct pollfd p = {.fd = c, .events = POLLIN};
	char heard[sizeof magic];

	while (poll(&p, 1, remaining_ms(deadline)) < 0 && errno == EINTR)
		;
	ssize_t n = recv(c, heard, sizeof heard, MSG_PEEK | MSG_DONTWAIT);
	if (n <= 0)
		return WITHDRAWN;
	return n == sizeof heard && memcmp(heard, magic, sizeof heard) == 0 ? KNOCK : OTHER;
}

/* refuse closes a knock, if it is still open, with a RST: no session was taken
 * on it. */
static void refuse(int knock)
{
	struct linger at_once = {.l_onoff = 1};

	if (knock < 0)
		return;
	(void)setsockopt(knock, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	(void)close(knock);
}

/* as_mapped gives an IPv4 client's address the form in which an IPv6 socket
 * reports it. */
static void as_mapped(union address *a)
{
	struct sockaddr_in v4 = a->in;

	memset(&a->in6, 0, sizeof a->in6);
	a->in6.sin6_family = AF_INET6;
	a->in6.sin6_port = v4.sin_port;
	a->in6.sin6_addr.s6_addr[10] = a->in6.sin6_addr.s6_addr[11] = 0xff;
	memcpy(&a->in6.sin6_addr.s6_addr[12], &v4.sin_addr, 4);
}

enum answer { SESSION, ORDINARY, NONE, ERROR };

/* answer finds out about a connection that may be a knock. With SESSION it has
 * put the session in its place, and the client's address in the peer's. */
static enum answer answer(int *fd, union address *peer, enum family f, int flags)
{
	union address local, client;
	struct inherited options;
	struct timespec deadline;
	int session = -1;
	struct queue *q = queue_of(*fd, &local);

	if (q == NULL)
		return ORDINARY;
	(void)clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += PATIENCE_MS / 1000;
	switch (hear(*fd, &deadline)) {
	case OTHER:
		return ORDINARY;
	case WITHDRAWN:
		refuse(*fd);
		return NONE;
	case KNOCK:
		break;
	}
	int queue = atomic_load(&q->fd[f]);
	if (queue < 0) { /* another process's listener has the queue */
		refuse(*fd);
		return NONE;
	}
	remember(*fd, &options);
	switch (take(queue, fd, flags, &deadline, &session, &client)) {
	case FAILED:
		refuse(*fd);
		return ERROR;
	case NOTHING:
		refuse(*fd);
		return NONE;
	case TAKEN:
		break;
	}
	inherit(session, &options);
	int status = fcntl(session, F_GETFL), want = flags & SOCK_NONBLOCK ? status | O_NONBLOCK : status & ~O_NONBLOCK;
	if (want != status)
		(void)fcntl(session, F_SETFL, want);
	if (peer->any.sa_family == AF_INET6 && client.any.sa_family == AF_INET)
		as_mapped(&client);
	*fd = session;
	*peer = client;
	return SESSION;
}

/* uninterrupted is answer, and no place where a thread can be cancelled: the
 * session would be lost. */
static enum answer uninterrupted(int *fd, union address *peer, enum family f, int flags)
{
	int cancel = PTHREAD_CANCEL_ENABLE, error = errno;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	enum answer a = answer(fd, peer, f, flags);
	if (a != ERROR)
		errno = error;
	error = errno;
	(void)pthread_setcancelstate(cancel, &cancel);
	errno = error;
	return a;
}

/* tell gives the caller an address as the kernel does: cut to the room, with
 * the length that it has. */
static void tell(struct sockaddr *to, socklen_t *room, const union address *from)
{
	socklen_t length = from->any.sa_family == AF_INET ? sizeof from->in : sizeof from->in6;

	if (to == NULL)
		return;
	memcpy(to, from, *room < length ? *room : length);
	*room = length;
}

static int accept_next(int fd, struct sockaddr *to, socklen_t *room, int flags, bool four)
{
	for (;;) {
		union address peer;
		socklen_t length = sizeof peer;

		peer.any.sa_family = AF_UNSPEC;
		int c = four ? libc_.accept4(fd, &peer.any, &length, flags) : libc_.accept(fd, &peer.any, &length);
		if (c < 0)
			return -1;
		enum family f = knock_family(&peer);
		enum answer a = f == FAMILIES ? ORDINARY : uninterrupted(&c, &peer, f, flags);
		switch (a) {
		case SESSION:
			tell(to, room, &peer);
			return c;
		case ORDINARY:
			if (to != NULL) {
				memcpy(to, &peer, *room < length ? *room : length);
				*room = length;
			}
			return c;
		case ERROR:
			return -1;
		case NONE:
			break; /* there was no connection: the next one */
		}
	}
}

/* passes tells whether a call is none of ours, or wrong: the kernel says how. */
static bool passes(const struct sockaddr *to, const socklen_t *room)
{
	resolve();
	return queue_count == 0 || (to != NULL && (room == NULL || (int)*room < 0));
}

EXPORT int accept(int fd, struct sockaddr *restrict to, socklen_t *restrict room)
{
	if (passes(to, room))
		return libc_.accept(fd, to, room);
	return accept_next(fd, to, room, 0, false);
}

EXPORT int accept4(int fd, struct sockaddr *restrict to, socklen_t *restrict room, int flags)
{
	if (passes(to, room))
		return libc_.accept4(fd, to, room, flags);
	return accept_next(fd, to, room, flags, true);
}
