/* What a program has when it starts: its configuration, and perhaps listeners
 * of which it will not call listen(). */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In this variable nginx tells a new nginx, which takes its place, of its listeners. */
static const char nginx_variable[] = "NGINX";

static void adopt_listener(int fd)
{
	union address local;
	int listening = 0;
	socklen_t size = sizeof listening;

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || !listening)
		return;
	struct queue *q = queue_of(fd, &local);
	if (q != NULL)
		open_queues(q, fd, &local);
}

/* from_nginx takes over an older nginx's listeners, and its queues: the two
 * share the listeners for a while, so that each gets knocks for both. */
static void from_nginx(const char *listeners)
{
	for (int fd = HIGH_FD; fd < HIGH_FD + FAMILIES * MAX_QUEUES; fd++)
		adopt_queue(fd);
	while (*listeners >= '0' && *listeners <= '9') {
		char *end;
		adopt_listener((int)strtol(listeners, &end, 10));
		listeners = end + (*end != '\0');
	}
}

/* from_systemd: sd_listen_fds(3). */
static void from_systemd(const char *pid, const char *count)
{
	if (atol(pid) == (long)getpid())
		for (int i = 0; i < atoi(count); i++)
			adopt_listener(3 + i);
}

__attribute__((constructor)) static void start(void)
{
	const char *text = getenv("SHUNT_PRELOAD"), *nginx = getenv(nginx_variable);
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	int error = errno;

	resolve();
	if (text != NULL)
		configure(text);
	if (queue_count > 0 && nginx != NULL)
		from_nginx(nginx);
	if (queue_count > 0 && pid != NULL && count != NULL)
		from_systemd(pid, count);
	errno = error;
}

/* execve hands the queues on, which are closed otherwise, when nginx starts the
 * new nginx. */
EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	bool upgrade = false;

	resolve();
	for (int i = 0; envp != NULL && envp[i] != NULL; i++)
		upgrade |= strncmp(envp[i], nginx_variable, sizeof nginx_variable - 1) == 0 &&
			   envp[i][sizeof nginx_variable - 1] == '=';
	for (int i = 0; upgrade && i < queue_count; i++)
		for (int f = 0; f < FAMILIES; f++) {
			int fd = atomic_load(&queues[i].fd[f]);
			if (fd >= 0)
				(void)fcntl(fd, F_SETFD, 0);
		}
	return libc_.execve(path, argv, envp);
}
