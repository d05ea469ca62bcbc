/* What an accepted connection inherits from its listener in the kernel, a
 * session has to get here. A knock was accepted at the same listener: it shows
 * what that is. */
#include "preload.h"

#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

enum { NUMBER = sizeof(int), LINGER = sizeof(struct linger), TIME = sizeof(struct timeval), NAME = 16 };

static const struct {
	int level, name;
	socklen_t size;
} options[] = {
	{SOL_SOCKET, SO_KEEPALIVE, NUMBER},     {SOL_SOCKET, SO_LINGER, LINGER},        {SOL_SOCKET, SO_OOBINLINE, NUMBER},
	{SOL_SOCKET, SO_PRIORITY, NUMBER},      {SOL_SOCKET, SO_RCVLOWAT, NUMBER},      {SOL_SOCKET, SO_RCVTIMEO, TIME},
	{SOL_SOCKET, SO_SNDTIMEO, TIME},        {IPPROTO_TCP, TCP_NODELAY, NUMBER},     {IPPROTO_TCP, TCP_KEEPIDLE, NUMBER},
	{IPPROTO_TCP, TCP_KEEPINTVL, NUMBER},   {IPPROTO_TCP, TCP_KEEPCNT, NUMBER},     {IPPROTO_TCP, TCP_USER_TIMEOUT, NUMBER},
	{IPPROTO_TCP, TCP_LINGER2, NUMBER},     {IPPROTO_TCP, TCP_NOTSENT_LOWAT, NUMBER}, {IPPROTO_TCP, TCP_CONGESTION, NAME},
	{IPPROTO_IP, IP_TOS, NUMBER},           {IPPROTO_IPV6, IPV6_TCLASS, NUMBER},
};
enum { OPTIONS = sizeof options / sizeof options[0] };
_Static_assert((int)OPTIONS + 2 <= (int)MAX_OPTIONS, "room for all options");

/* Buffers count only if the program has set their size: else they grow as
 * needed, and setting them would end that. The kernel reports twice what was set. */
static const struct {
	int name, lock;
} buffers[] = {{SO_SNDBUF, 1}, {SO_RCVBUF, 2}};

void remember(int from, struct inherited *o)
{
	int locked = 0;
	socklen_t size = sizeof locked;

	memset(o, 0, sizeof *o);
	for (int i = 0; i < OPTIONS; i++) {
		o->size[i] = options[i].size;
		if (getsockopt(from, options[i].level, options[i].name, &o->value[i], &o->size[i]) != 0)
			o->size[i] = 0;
	}
	if (getsockopt(from, SOL_SOCKET, SO_BUF_LOCK, &locked, &size) != 0)
		return;
	for (int i = 0; i < 2; i++) {
		socklen_t *length = &o->size[OPTIONS + i];
		int *value = &o->value[OPTIONS + i].number;

		*length = sizeof *value;
		if (!(locked & buffers[i].lock) || getsockopt(from, SOL_SOCKET, buffers[i].name, value, length) != 0)
			*length = 0;
		*value /= 2;
	}
}

void inherit(int to, const struct inherited *o)
{
	struct inherited own;

	memset(&own, 0, sizeof own);
	for (int i = 0; i < OPTIONS; i++) {
		socklen_t size = options[i].size;

		if (o->size[i] == 0 || getsockopt(to, options[i].level, options[i].name, &own.value[i], &size) != 0 ||
		    (size == o->size[i] && memcmp(&own.value[i], &o->value[i], size) == 0))
			continue;
		/* The other family's, or one that this process may not set: it is as good as it gets. */
		(void)setsockopt(to, options[i].level, options[i].name, &o->value[i], o->size[i]);
	}
	for (int i = 0; i < 2; i++)
		if (o->size[OPTIONS + i] != 0)
			(void)setsockopt(to, SOL_SOCKET, buffers[i].name, &o->value[OPTIONS + i].number, sizeof(int));
}
