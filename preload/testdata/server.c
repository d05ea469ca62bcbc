/*
 * A server that knows nothing of Shunt: server MODE ADDRESS PORT [KEY=VALUE...].
 * MODE is how it waits for connections. To each line of a client it answers one
 * line: what accept() and the kernel say of the connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int accepted; /* by this process */
static int listener, flags, use_accept4, port_reused, defer, nodelay, rcvbuf, v6only, no_address;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

struct conn {
	int fd;
	char line[512];
};

static void print_address(char *to, size_t room, const struct sockaddr_storage *a, socklen_t length)
{
	char text[INET6_ADDRSTRLEN] = "?";
	int port = 0;

	if (a->ss_family == AF_INET && length == sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)a;
		inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
		port = ntohs(in->sin_port);
	} else if (a->ss_family == AF_INET6 && length == sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;
		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
		port = ntohs(in6->sin6_port);
	}
	snprintf(to, room, "[%s]:%d", text, port);
}

static void *serve(void *arg)
{
	struct conn *c = arg;
	char b[512];
	struct pollfd p = {.fd = c->fd, .events = POLLIN};

	for (;;) {
		poll(&p, 1, -1);
		ssize_t n = read(c->fd, b, sizeof b);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			break;
		if (memchr(b, '\n', (size_t)n) && write(c->fd, c->line, strlen(c->line)) < 0)
			break;
	}
	close(c->fd);
	free(c);
	return NULL;
}

/* take accepts one connection; 0 when there is none. */
static int take(void)
{
	struct sockaddr_storage a;
	socklen_t length = sizeof a, size = sizeof(int);
	char peer[80] = "-";
	int delay = 0, buffer = 0;
	struct sockaddr *to = no_address ? NULL : (struct sockaddr *)&a;
	pthread_t t;

	int fd = use_accept4 ? accept4(listener, to, no_address ? NULL : &length, flags) : accept(listener, to, no_address ? NULL : &length);
	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return 0;
		if (errno == EMFILE) {
			usleep(1000);
			return 0;
		}
		die("accept");
	}
	if (!no_address)
		print_address(peer, sizeof peer, &a, length);
	getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &delay, &size);
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, &size);
	struct conn *c = malloc(sizeof *c);
	c->fd = fd;
	snprintf(c->line, sizeof c->line, "peer=%s nonblock=%d cloexec=%d nodelay=%d rcvbuf=%d pid=%d fd=%d count=%d\n", peer,
		 !!(fcntl(fd, F_GETFL) & O_NONBLOCK), !!(fcntl(fd, F_GETFD) & FD_CLOEXEC), !!delay, buffer, getpid(), fd, ++accepted);
	if (pthread_create(&t, NULL, serve, c) != 0)
		die("pthread_create");
	pthread_detach(t);
	return 1;
}

static void *block(void *unused)
{
	(void)unused;
	for (;;)
		take();
	return NULL;
}

static void by_select(void)
{
	for (;;) {
		fd_set set;
		FD_ZERO(&set);
		FD_SET(listener, &set);
		if (select(listener + 1, &set, NULL, NULL, NULL) > 0)
			take();
	}
}

static void by_poll(void)
{
	for (;;) {
		struct pollfd p = {.fd = listener, .events = POLLIN};
		if (poll(&p, 1, -1) > 0)
			take();
	}
}

static void by_epoll(uint32_t events, int nested, int drain)
{
	struct epoll_event e = {.events = EPOLLIN | events};
	int inner = epoll_create1(EPOLL_CLOEXEC), outer = inner;

	if (epoll_ctl(inner, EPOLL_CTL_ADD, listener, &e) != 0)
		die("epoll_ctl");
	if (nested) {
		outer = epoll_create1(EPOLL_CLOEXEC);
		e.events = EPOLLIN;
		if (epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e) != 0)
			die("epoll_ctl");
	}
	for (;;) {
		if (epoll_wait(outer, &e, 1, -1) <= 0 || (nested && epoll_wait(inner, &e, 1, 0) <= 0))
			continue;
		while (take() && drain)
			;
	}
}

static void processes(int n, void (*run)(void))
{
	for (int i = 0; i < n; i++)
		if (fork() == 0) {
			run();
			exit(0);
		}
	while (wait(NULL) > 0)
		;
}

static void run_blocking(void) { block(NULL); }
static void run_exclusive(void) { by_epoll(EPOLLEXCLUSIVE, 0, 1); }

static int is(const char *a, const char *b) { return strcmp(a, b) == 0; }

int main(int argc, char **argv)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};
	struct sockaddr_in a4 = {.sin_family = AF_INET};
	struct sockaddr *a;
	socklen_t size;
	int one = 1, inherited = 0;
	const char *mode = argv[1];

	for (int i = 4; i < argc; i++) {
		one = 1;
		port_reused |= is(argv[i], "reuseport");
		defer |= is(argv[i], "defer");
		nodelay |= is(argv[i], "nodelay");
		rcvbuf |= is(argv[i], "rcvbuf");
		v6only |= is(argv[i], "v6only");
		no_address |= is(argv[i], "noaddress");
		inherited |= is(argv[i], "inherited");
		if (is(argv[i], "accept4"))
			use_accept4 = 1;
		if (is(argv[i], "nonblock"))
			use_accept4 = 1, flags |= SOCK_NONBLOCK;
		if (is(argv[i], "cloexec"))
			use_accept4 = 1, flags |= SOCK_CLOEXEC;
	}
	if (inet_pton(AF_INET, argv[2], &a4.sin_addr) == 1) {
		a4.sin_port = htons((uint16_t)atoi(argv[3]));
		a = (struct sockaddr *)&a4, size = sizeof a4;
	} else if (inet_pton(AF_INET6, argv[2], &a6.sin6_addr) == 1) {
		a6.sin6_port = htons((uint16_t)atoi(argv[3]));
		a = (struct sockaddr *)&a6, size = sizeof a6;
	} else {
		return 2;
	}
	if (inherited) {
		listener = 3;
	} else {
		listener = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (port_reused)
			setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
		if (a->sa_family == AF_INET6)
			setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
		if (nodelay)
			setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (defer)
			setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &one, sizeof one);
		if (rcvbuf) {
			int room = 50000;
			setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
		}
		if (bind(listener, a, size) != 0)
			die("bind");
		if (listen(listener, 64) != 0)
			die("listen");
	}
	int waits = !is(mode, "blocking") && !is(mode, "threads") && !is(mode, "prefork");
	if (waits)
		fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
	puts("listening");
	fflush(stdout);
	if (is(mode, "select"))
		by_select();
	else if (is(mode, "poll"))
		by_poll();
	else if (is(mode, "epoll"))
		by_epoll(0, 0, 0);
	else if (is(mode, "epoll-edge"))
		by_epoll(EPOLLET, 0, 1);
	else if (is(mode, "epoll-nested"))
		by_epoll(0, 1, 0);
	else if (is(mode, "epoll-exclusive"))
		processes(3, run_exclusive);
	else if (is(mode, "prefork"))
		processes(3, run_blocking);
	else if (is(mode, "threads")) {
		pthread_t t;
		for (int i = 0; i < 3; i++)
			pthread_create(&t, NULL, block, NULL);
		block(NULL);
	} else if (is(mode, "blocking"))
		block(NULL);
	return 2;
}
