/* Runs a program with the real user and group of the given numbers and the
   effective user root, as a child of iRODS's setuid checker has:

     setuid UID GID PROGRAM [ARGUMENT...] */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
	if (argc < 4) return 98;
	if (setresgid(atoi(argv[2]), 0, 0) || setresuid(atoi(argv[1]), 0, 0)) {
		perror("setresuid");
		return 99;
	}
	execv(argv[3], argv + 3);
	perror(argv[3]);
	return 97;
}
