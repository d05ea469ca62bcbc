/* Queues: the Unix-domain sockets at which the agent leaves sessions. */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_open(const struct queue *q, enum family f)
{
	struct stat st;

	return atomic_load(&q->fd[f]) >= 0 && lstat(q->path[f], &st) == 0 && st.st_dev == q->dev[f] && st.st_ino == q->ino[f];
}

/* bind_over listens at a path of which nothing but a socket may be there: that
 * of a server which has ended, or will not get sessions any more. */
static int bind_over(int fd, const char *path, struct stat *st)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	if (lstat(path, st) == 0 && !S_ISSOCK(st->st_mode)) {
		errno = ENOTSOCK;
		return -1;
	}
	(void)snprintf(at.sun_path, sizeof at.sun_path, "%s.%d", path, (int)getpid());
	(void)unlink(at.sun_path);
	/* The mode of the file is the socket's own: it is never wider. */
	if (fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
		return -1;
	if (libc_.listen(fd, QUEUE_BACKLOG) != 0 || lstat(at.sun_path, st) != 0 || rename(at.sun_path, path) != 0) {
		int error = errno;
		(void)unlink(at.sun_path);
		errno = error;
		return -1;
	}
	return 0;
}

static void open_queue(struct queue *q, enum family f)
{
	struct stat st;
	char dir[sizeof q->path[f]];

	if (is_open(q, f))
		return;
	(void)strcpy(dir, q->path[f]);
	*strrchr(dir, '/') = '\0';
	if (dir[0] != '\0')
		(void)mkdir(dir, 0755); /* bind tells if that did not help */
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && bind_over(fd, q->path[f], &st) == 0) {
		int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
		if (high >= 0) {
			(void)close(fd);
			fd = high;
		}
		q->dev[f] = st.st_dev;
		q->ino[f] = st.st_ino;
		atomic_store(&q->fd[f], fd);
		return;
	}
	complain("no sessions will be handed over: cannot listen at", q->path[f], errno);
	if (fd >= 0)
		(void)close(fd);
}

/* adopt_queue takes over a queue that an older program has left open, if the
 * descriptor is one. Its socket still has the name that bind_over gave it. */
void adopt_queue(int fd)
{
	struct sockaddr_un at;
	struct stat st;
	socklen_t size = sizeof at;

	memset(&at, 0, sizeof at);
	if (getsockname(fd, (struct sockaddr *)&at, &size) != 0 || at.sun_family != AF_UNIX)
		return;
	for (int i = 0; i < queue_count; i++)
		for (int f = 0; f < FAMILIES; f++) {
			struct queue *q = &queues[i];
			size_t length = strlen(q->path[f]);

			if (strncmp(at.sun_path, q->path[f], length) != 0 || at.sun_path[length] != '.' || lstat(q->path[f], &st) != 0)
				continue;
			(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
			q->dev[f] = st.st_dev;
			q->ino[f] = st.st_ino;
			atomic_store(&q->fd[f], fd);
			return;
		}
}

/* open_queues opens the queues of the families that a listener can accept. */
void open_queues(struct queue *q, int listener, const union address *local)
{
	int only6 = 0;
	socklen_t size = sizeof only6;
	const struct in6_addr *a = &local->in6.sin6_addr;

	if (local->any.sa_family == AF_INET || IN6_IS_ADDR_V4MAPPED(a)) {
		open_queue(q, IPV4);
		return;
	}
	open_queue(q, IPV6);
	if (IN6_IS_ADDR_UNSPECIFIED(a) && getsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &only6, &size) == 0 && !only6)
		open_queue(q, IPV4);
}

int remaining_ms(const struct timespec *deadline)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	long ms = (deadline->tv_sec - now.tv_sec) * 1000 + (deadline->tv_nsec - now.tv_nsec) / 1000000;
	return ms < 0 ? 0 : (int)ms;
}

/* parse reads the client's end from a session frame: internal/handoffproto. */
static bool parse(const unsigned char *b, size_t n, union address *client)
{
	static const unsigned char header[] = {'s', 'h', 'n', 't', 1, 2};
	size_t at = sizeof header;

	if (n < at || memcmp(b, header, at) != 0)
		return false;
	for (int text = 0; text < 2; text++) { /* the hand-off's id, the service's name */
		if (at >= n)
			return false;
		at += 1 + (size_t)b[at];
	}
	memset(client, 0, sizeof *client);
	if (at + 7 <= n && b[at] == 4) {
		client->in.sin_family = AF_INET;
		memcpy(&client->in.sin_addr, b + at + 1, 4);
		memcpy(&client->in.sin_port, b + at + 5, 2);
		return true;
	}
	if (at + 19 <= n && b[at] == 6) {
		client->in6.sin6_family = AF_INET6;
		memcpy(&client->in6.sin6_addr, b + at + 1, 16);
		memcpy(&client->in6.sin6_port, b + at + 17, 2);
		return true;
	}
	return false;
}

/* receive takes the frame and its descriptor; -1 if it is not as it must be. */
static int receive(int from, int flags, union address *client)
{
	unsigned char frame[MAX_FRAME];
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {frame, sizeof frame};
	/* Without CMSG_SPACE's padding, in which a second descriptor would fit. */
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))};
	int fd = -1;

	ssize_t n = recvmsg(from, &m, MSG_DONTWAIT | ((flags & SOCK_CLOEXEC) ? MSG_CMSG_CLOEXEC : 0));
	if (n <= 0)
		return -1;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
	if (fd >= 0 && (!parse(frame, (size_t)n, client) || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

/* filled waits until the agent has sent its frame, or has withdrawn. */
static bool filled(int u, const struct timespec *deadline)
{
	struct pollfd p = {.fd = u, .events = POLLIN};
	char first;

	while (poll(&p, 1, remaining_ms(deadline)) < 0 && errno == EINTR)
		;
	return recv(u, &first, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/*
 * take returns the next session of a queue. Each session was announced by a
 * knock, and each accepted knock takes one session; whose it is does not
 * matter. The agent connects here before it knocks, so that a knock which finds
 * the queue empty has been served by another one, that was withdrawn. A
 * connection on which nothing comes in time is closed: the agent then keeps its
 * session.
 *
 * The knock is closed before the descriptor arrives, which so gets the number
 * that accept() would have given it, and finds room when the program is at its
 * limit of open files.
 */
enum taken take(int queue, int *knock, int flags, const struct timespec *deadline, int *session, union address *client)
{
	for (;;) {
		int u = libc_.accept4(queue, NULL, NULL, SOCK_CLOEXEC);
		if (u < 0 && errno == EINTR)
			continue;
		if (u < 0)
			return errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS ? FAILED : NOTHING;
		if (filled(u, deadline)) {
			if (*knock >= 0) {
				char said[8];
				/* With nothing unread the end is a FIN, which tells the agent. */
				(void)recv(*knock, said, sizeof said, MSG_DONTWAIT);
				(void)close(*knock);
				*knock = -1;
			}
			*session = receive(u, flags, client);
			if (*session >= 0) {
				(void)close(u);
				return TAKEN;
			}
		}
		(void)close(u);
	}
}
