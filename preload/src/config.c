/* Which ports have which queues: SHUNT_PRELOAD="80=/run/shunt/web.sock,8080=…". */
#include "preload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct queue queues[MAX_QUEUES];
int queue_count;

/* complain says on standard error what does not work. The server runs on. */
void complain(const char *what, const char *which, int error)
{
	if (error != 0)
		dprintf(2, "libshunt: %s %s: %s\n", what, which, strerror(error));
	else
		dprintf(2, "libshunt: %s %s\n", what, which);
}

static bool add(const char *entry, size_t length)
{
	char *end;
	long port = strtol(entry, &end, 10);
	size_t path = length - (size_t)(end - entry) - 1;

	if (end == entry || port < 1 || port > 65535 || *end != '=' || end[1] != '/' || path > MAX_PATH ||
	    queue_count == MAX_QUEUES)
		return false;
	struct queue *q = &queues[queue_count++];
	q->port = (in_port_t)port;
	memcpy(q->path[IPV4], end + 1, path);
	memcpy(q->path[IPV6], end + 1, path);
	q->path[IPV6][path] = '6';
	atomic_init(&q->fd[IPV4], -1);
	atomic_init(&q->fd[IPV6], -1);
	return true;
}

/* configure reads the variable. A wrong entry is left out. */
void configure(const char *text)
{
	for (; *text != '\0'; text += strspn(text, ",")) {
		size_t length = strcspn(text, ",");

		if (length > 0 && !add(text, length))
			complain("SHUNT_PRELOAD: want PORT=/PATH of at most 96 octets, at most 8 with commas between, not", text, 0);
		text += length;
	}
}

/* queue_of returns the queue that belongs to a TCP socket's local port, and
 * that end's address; NULL if there is none. */
struct queue *queue_of(int fd, union address *local)
{
	socklen_t size = sizeof *local;
	int type = 0, protocol = 0;
	socklen_t int_size = sizeof(int);

	if (getsockname(fd, &local->any, &size) != 0 ||
	    (local->any.sa_family != AF_INET && local->any.sa_family != AF_INET6) ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_size) != 0 || type != SOCK_STREAM ||
	    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &int_size) != 0 ||
	    (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP))
		return NULL;
	/* Both families have the port at the same place. */
	in_port_t port = ntohs(local->in.sin_port);
	for (int i = 0; i < queue_count; i++)
		if (queues[i].port == port)
			return &queues[i];
	return NULL;
}
