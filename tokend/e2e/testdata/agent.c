/* Runs a checker as an iRODS agent does: signals ignored, descriptors left open,
   an environment that the client filled, the password on a pipe without a
   newline, and only the wait status counts.

     agent PASSWORD-FILE CHECKER ARGV0 [USER] [-- NAME=VALUE...]

   What the checker prints goes through; on descriptor 3 come its process ID and,
   when it has ended, its raw wait status. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) {
	perror(what);
	exit(99);
}

int main(int argc, char **argv) {
	int i, n, status, pair[2], to[2], fd, ignored[] = {SIGPIPE, SIGHUP, SIGINT, SIGTERM};
	char *child[3] = {0}, **env = calloc(argc + 1, sizeof *env), *password, buffer[4096];
	size_t size = 0;
	ssize_t got, done;
	pid_t pid;

	if (argc < 4) return 98;
	child[0] = argv[3];
	i = 4;
	if (i < argc && strcmp(argv[i], "--")) child[1] = argv[i++];
	for (n = 0, i++; i < argc; i++) env[n++] = argv[i];

	if ((fd = open(argv[1], O_RDONLY | O_CLOEXEC)) < 0) fail(argv[1]);
	password = malloc(1);
	while ((got = read(fd, buffer, sizeof buffer)) > 0) {
		password = realloc(password, size + got);
		memcpy(password + size, buffer, got);
		size += got;
	}
	for (i = 0; i < (int)(sizeof ignored / sizeof *ignored); i++) signal(ignored[i], SIG_IGN);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || pipe(to)) fail("pipe");
	if (dup2(pair[0], 77) < 0) fail("dup2");

	if ((pid = fork()) < 0) fail("fork");
	if (pid == 0) {
		dup2(to[0], 0);
		close(to[0]);
		close(to[1]);
		execve(argv[2], child, env);
		_exit(127);
	}
	close(to[0]);
	dprintf(3, "%d\n", pid);
	for (done = 0; done < (ssize_t)size; done += got)
		if ((got = write(to[1], password + done, size - done)) < 0) {
			dprintf(3, "write: %s\n", strerror(errno));
			break;
		}
	close(to[1]);
	if (waitpid(pid, &status, 0) != pid) fail("waitpid");
	dprintf(3, "%d\n", status);
	return 0;
}
